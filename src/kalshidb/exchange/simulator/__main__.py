"""Runs the simulated exchange by itself, as a process.

`python -m kalshidb.exchange.simulator --port 0 --seed 7` prints its URL and serves until it is told to stop. With `--websocket` a
second line is the address of that (needs the extra `stream`). With `--speed 60` a simulated minute passes every second; snapshots of
books then say the simulated time, which the real ones do not: the clock of whoever listens is another.
"""

import argparse
import math
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

from kalshidb.exchange.simulator.faults import NAMES, STATUSES, Fault, Settings, fault_of
from kalshidb.exchange.simulator.server import SimulatedExchange
from kalshidb.exchange.simulator.wire import Era
from kalshidb.exchange.simulator.world import DEFAULT_NOW


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line of standard output is the base URL, the second the websocket's."""
    parser = argparse.ArgumentParser(
        prog="kalshidb simulator",
        description="Serve a simulated exchange until interrupted; prints its address.",
        epilog=f"Faults are {', '.join(NAMES)}, and the statuses {', '.join(map(str, sorted(STATUSES)))}."
        " GET and PUT of /simulator show and change the present, the wire format and the faults while it runs.",
    )
    parser.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--seed", type=int, default=7, help="which world")
    parser.add_argument("--markets", type=int, default=300, help="how many markets")
    parser.add_argument("--era", choices=get_args(Era), default="current", help="wire format")
    parser.add_argument("--now", type=_moment, default=DEFAULT_NOW, help="the world's present, RFC 3339")
    parser.add_argument("--speed", type=_speed, default=0, help="simulated seconds a second; 0: the world's clock stands still")
    parser.add_argument("--websocket", action="store_true", help="serve the websocket too; prints its address as a second line")
    parser.add_argument("--websocket-port", type=_port, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--websocket-faults", type=_share, default=0, metavar="RATE", help="let a share of the websocket's frames go wrong"
    )
    parser.add_argument("--rate-limit", type=float, default=None, help="requests a second before 429s")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME=RATE", type=_rate,
        help="let a share of the answers go wrong, such as drop=0.05 or 503=0.01; again for several",
    )  # fmt: skip
    parser.add_argument("--fault-seed", type=int, default=0, help="which answers go wrong")
    parser.add_argument(
        "--latency",
        type=_seconds,
        default=(0.0, 0.0),
        metavar="SECONDS",
        help="how long answers take: 0.2, or 0.05-0.5 by chance",
    )
    parser.add_argument("--skew", type=float, default=0.0, metavar="SECONDS", help="how far the server's clock is ahead")
    asked = parser.parse_args(arguments)
    try:
        exchange = SimulatedExchange(
            seed=asked.seed,
            markets=asked.markets,
            era=asked.era,
            now=asked.now,
            rate_limit=asked.rate_limit,
            port=asked.port,
            faults=Settings(asked.fault_seed, dict(asked.fault), asked.latency, timedelta(seconds=asked.skew)),
            feed={"port": asked.websocket_port, "stamped": asked.speed not in (0, 1)} if asked.websocket else False,
        )
    except (ValueError, OverflowError) as error:
        parser.error(str(error))
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with exchange:
        sys.stdout.write(f"{exchange.base_url}\n")
        if asked.websocket:
            exchange.feed.fail_at_random(asked.websocket_faults, asked.fault_seed)
            sys.stdout.write(f"{exchange.websocket_url}\n")
        sys.stdout.flush()
        if asked.speed:
            exchange.let_time_pass(asked.speed)
        stop.wait()
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"{text}: a port is a number from 0 to 65535")
    return int(text)


def _speed(text: str) -> float:
    return _between(text, 0.0, 1e6, "time passes forwards: write simulated seconds a second, such as 60")


def _share(text: str) -> float:
    return _between(text, 0.0, 1.0, "write a share from 0 to 1, such as 0.01")


def _between(text: str, least: float, most: float, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text}: {expected}")
    return number


def _rate(text: str) -> tuple[Fault, float]:
    name, _, rate = text.partition("=")
    try:
        return fault_of(name), float(rate)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write NAME=RATE, such as drop=0.05") from None


def _seconds(text: str) -> tuple[float, float]:
    least, _, most = text.partition("-")
    try:
        return float(least), float(most or least)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write seconds, such as 0.2 or 0.05-0.5") from None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
