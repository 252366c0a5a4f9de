"""Runs the simulated exchange by itself, as a process.

`python -m kalshidb.exchange.simulator --port 0 --seed 7` prints its URL and serves until it is told to stop.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

from kalshidb.exchange.simulator.server import SimulatedExchange
from kalshidb.exchange.simulator.wire import Era
from kalshidb.exchange.simulator.world import DEFAULT_NOW


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line of standard output is the base URL."""
    parser = argparse.ArgumentParser(prog="python -m kalshidb.exchange.simulator", description="Serve a simulated exchange.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--seed", type=int, default=7, help="which world")
    parser.add_argument("--markets", type=int, default=300, help="how many markets")
    parser.add_argument("--era", choices=get_args(Era), default="current", help="wire format")
    parser.add_argument("--now", type=_moment, default=DEFAULT_NOW, help="the world's present, RFC 3339")
    parser.add_argument("--rate-limit", type=float, default=None, help="requests a second before 429s")
    asked = parser.parse_args(arguments)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    try:
        exchange = SimulatedExchange(
            seed=asked.seed,
            markets=asked.markets,
            era=asked.era,
            now=asked.now,
            rate_limit=asked.rate_limit,
            port=asked.port,
        )
    except ValueError as error:
        parser.error(str(error))
    with exchange:
        sys.stdout.write(f"{exchange.base_url}\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
