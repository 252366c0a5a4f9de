"""`python -m benchmarks.ingestion [--quick] [--json FILE]`: from the bytes of answers to durable rows, the way that `sync-markets`,
`backfill` and `collect` go.

Answers are made beforehand, in the exchange's form of today (a market is 2.1 KB, a page has 1,000). They go through
`kalshidb.ingest.pull.take` (parse, recognise, validate, map) into an `Intake` that writes batches, until all is committed. Beside it the
same bytes are only parsed and validated, which is the most that any storing can reach. `sync-markets` asks an HTTP server of another
process, which does nothing but send what is ready, so that what is measured is us.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.measure import DisagreementError
from benchmarks.server import migrated_server, open_connection, surroundings
from kalshidb.exchange import plain
from kalshidb.exchange.client import Answer, ExchangeClient
from kalshidb.exchange.recognise import Hints
from kalshidb.ingest.intake import Intake, Report
from kalshidb.ingest.pull import take
from kalshidb.ingest.sync import SyncScope, sync_markets

PAGE = 1_000
MARKETS_OF_AN_EVENT = 8
CANDLES_OF_AN_ANSWER, MARKETS_OF_AN_ANSWER = 10_000, 100
UNCHANGED = 0.84
"""Share of a poll that is as before, as measured on the exchange."""
BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
PERIOD = timedelta(minutes=1)
ASKED = {
    "candlesticks a second, bytes to rows": 30_000,
    "candlesticks, bytes to rows against parsing and validating alone": 0.55,
    "trades a second, bytes to rows": 50_000,
}  # at least
ASKED_SECONDS = {"a poll of 100,000 markets, 84 % unchanged": 15, "sync-markets of 100,000 markets": 60}  # at most
MEMORY_LIMIT_MB = 150
MB = 1_000_000
EMPTY: Mapping[str, Any] = {"/series": {"series": []}, "/events": {"events": [], "cursor": ""}}


# Answers


def event_ticker(series: str, market: int) -> str:
    """Return the event of a market by its number."""
    return f"{series}-26AUG08{market // MARKETS_OF_AN_EVENT:07d}"


def market(series: str, number: int, cents: int) -> dict[str, Any]:
    """Return a market as the exchange sends it, quoted at so many cents."""
    event = event_ticker(series, number)
    bid, ask = cents / 100, (cents + 1) / 100
    return {
        "can_close_early": True, "close_time": "2026-12-08T22:54:42Z", "created_time": "2026-08-05T20:15:44.818547Z",
        "custom_strike": {"baseball_team": str(UUID(int=number))},
        "early_close_condition": "This market will close and expire after a winner is declared.", "event_ticker": event,
        "exchange_index": 0, "expected_expiration_time": "2026-12-08T23:10:00Z", "expiration_time": "2026-12-11T20:10:00Z",
        "expiration_value": "", "last_price_dollars": f"{bid:.4f}", "latest_expiration_time": "2026-12-11T20:10:00Z",
        "liquidity_dollars": "0.0000", "market_type": "binary", "no_ask_dollars": f"{1 - bid:.4f}", "no_bid_dollars": f"{1 - ask:.4f}",
        "no_sub_title": f"Team {number}", "notional_value_dollars": "1.0000", "occurrence_datetime": "2026-12-08T23:10:00Z",
        "open_interest_fp": f"{number % 9_000}.94", "open_time": "2026-08-05T20:25:00Z", "previous_price_dollars": "0.6000",
        "previous_yes_ask_dollars": "0.6000", "previous_yes_bid_dollars": "0.5900", "price_level_structure": "linear_cent",
        "price_ranges": [{"end": "1.0000", "start": "0.0000", "step": "0.0100"}], "result": "",
        "rules_primary": f"If Team {number} wins the Los Angeles A vs Miami professional baseball game originally scheduled for Aug 8, "
        "2026 at 4:10 PM EDT, then the market resolves to Yes.",
        "rules_secondary": "The following market refers to the Los Angeles A vs Miami professional baseball game originally scheduled "
        "for Aug 8, 2026 at 4:10 PM EDT. If this game is postponed or delayed, the market will remain open and close after the "
        "rescheduled game has finished (within two days). If the game is cancelled or rescheduled to over two days away, the market "
        "will resolve to a fair price in accordance with the rules.\n\nKalshi is not affiliated, associated, authorized, endorsed by, "
        "or in any way officially connected with the Governing League. All trademarks, logos, and brand names are the property of "
        "their respective owners.",
        "settlement_timer_seconds": 120, "status": "active", "strike_type": "structured", "ticker": f"{event}-T{number}",
        "title": "Los Angeles A vs Miami Winner?", "updated_time": "2026-08-08T22:57:46.560075Z",
        "volume_24h_fp": f"{cents}.02", "volume_fp": f"{number % 70_000 + cents}.16", "yes_ask_dollars": f"{ask:.4f}",
        "yes_ask_size_fp": "12.00", "yes_bid_dollars": f"{bid:.4f}", "yes_bid_size_fp": "3.50", "yes_sub_title": f"Team {number}",
    }  # fmt: skip


class Polls:
    """Polls of so many markets, one after the other, as pages; 16 % of the markets are quoted otherwise than in the one before."""

    def __init__(self, markets: int, series: str) -> None:
        """Begin with every market at 50 cents."""
        self._series = series
        self._chance = random.Random(7)  # noqa: S311
        self._cents = [50] * markets
        self.changed = markets

    def pages(self) -> list[bytes]:
        """Return the next poll."""
        self.changed = 0
        for number, cents in enumerate(self._cents):
            if self._chance.random() >= UNCHANGED:
                self._cents[number] = cents % 98 + 1
                self.changed += 1
        last = (len(self._cents) - 1) // PAGE
        return [
            json.dumps(
                {
                    "cursor": "" if page == last else str(page + 1),
                    "markets": [
                        market(self._series, n, self._cents[n])
                        for n in range(page * PAGE, min(len(self._cents), (page + 1) * PAGE))
                    ],
                }
            ).encode()
            for page in range(last + 1)
        ]


def candle_answers(candles: int, begin: datetime = BEGIN) -> Iterator[bytes]:
    """Yield answers of the batch endpoint: minutes of 100 markets each, a third of them without a trade."""
    periods = CANDLES_OF_AN_ANSWER // MARKETS_OF_AN_ANSWER
    for answer in range(-(-candles // CANDLES_OF_AN_ANSWER)):
        chance = random.Random(answer)  # noqa: S311
        start = int((begin + (answer // 10) * periods * PERIOD).timestamp())
        markets = []
        for place in range(MARKETS_OF_AN_ANSWER):
            made = []
            for period in range(1, periods + 1):
                low = chance.randrange(1, 90)
                quote = {
                    "open_dollars": f"{(low + 1) / 100:.4f}", "low_dollars": f"{low / 100:.4f}",
                    "high_dollars": f"{(low + 3) / 100:.4f}", "close_dollars": f"{(low + 2) / 100:.4f}",
                }  # fmt: skip
                traded = chance.random() < 0.67
                price = {**quote, "mean_dollars": quote["close_dollars"]} if traded else {}
                made.append(
                    {
                        "end_period_ts": start + 60 * period,
                        "yes_bid": quote,
                        "yes_ask": quote,
                        "price": {**price, "previous_dollars": quote["open_dollars"]},
                        "volume_fp": f"{chance.randrange(9_000)}.{chance.randrange(10, 99)}" if traded else "0.00",
                        "open_interest_fp": f"{chance.randrange(90_000)}.00",
                    }
                )
            markets.append({"market_ticker": f"KXBENCH-26JUL-{answer % 10 * MARKETS_OF_AN_ANSWER + place}", "candlesticks": made})
        yield json.dumps({"markets": markets}).encode()


def trade_answers(trades: int) -> Iterator[bytes]:
    """Yield pages of the tape, newest first."""
    chance = random.Random(11)  # noqa: S311
    for page in range(-(-trades // PAGE)):
        made = []
        for place in range(PAGE):
            number = page * PAGE + place
            cents, yes = chance.randrange(1, 100), chance.random() < 0.5
            moment = BEGIN + timedelta(days=20) - timedelta(microseconds=28_000 * number + chance.randrange(20_000))
            made.append(
                {
                    "trade_id": str(UUID(int=chance.getrandbits(128))), "ticker": f"KXBENCH-26JUL-{chance.randrange(1_000)}",
                    "count_fp": f"{chance.randrange(1, 500)}.00", "yes_price_dollars": f"{cents / 100:.4f}",
                    "no_price_dollars": f"{1 - cents / 100:.4f}", "taker_outcome_side": "yes" if yes else "no",
                    "taker_book_side": "bid" if yes else "ask", "taker_side": "yes" if yes else "no",
                    "created_time": moment.isoformat().replace("+00:00", "Z"), "is_block_trade": False,
                }
            )  # fmt: skip
        yield json.dumps({"cursor": str(page + 1), "trades": made}).encode()


def answers(bodies: Iterable[bytes], url: str) -> Iterator[Answer]:
    """Yield bodies as answers that have just arrived."""
    for body in bodies:
        yield Answer(url, {}, 200, body, datetime.now(UTC))


# Ways


def stored(conn: psycopg.Connection[Any], bodies: Iterable[bytes], hints: Hints, url: str) -> Report:
    """Take in answers the way everything does, and return what became of them once it is committed."""
    with Intake(conn, f"benchmark {url}", origin="poll") as intake:
        for _ in take(intake, answers(bodies, url), hints):
            pass
    return intake.report


def stored_by_workers(conns: Sequence[psycopg.Connection[Any]], bodies: Sequence[bytes], hints: Hints, url: str) -> int:
    """Take in answers as `backfill --workers` does: threads of this process, each with a connection; return how many rows are new."""
    with ThreadPoolExecutor(len(conns)) as pool:
        shares = [bodies[place :: len(conns)] for place in range(len(conns))]
        done = pool.map(lambda conn, share: stored(conn, share, hints, url).total.written, conns, shares)
        return sum(done)


def only_read(bodies: Iterable[bytes], hints: Hints) -> int:
    """Parse and validate answers, and return how many rows they hold."""
    rows = 0
    for answer in answers(bodies, ""):
        page = plain.read(answer.document, hints, answer.retrieved_at, timedelta(0))
        if page is None:
            raise DisagreementError("an answer in the form of today is not read the fast way")
        rows += len(page.rows)
    return rows


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages: Mapping[str, list[bytes]] = {}

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = parse_qs(asked.query)
        path = asked.path.removeprefix("/trade-api/v2")
        body = json.dumps(EMPTY.get(path, {"markets": [], "cursor": ""})).encode()
        if path == "/markets" and query.get("status") == ["open"]:
            body = self.pages["markets"][int(query.get("cursor", ["0"])[0])]
        elif path == "/events" and query.get("status") == ["open"]:
            body = self.pages["events"][int(query.get("cursor", ["0"])[0])]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _serve(pages: Mapping[str, list[bytes]], ready: Connection) -> None:
    _Handler.pages = pages
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    ready.send(server.server_port)
    server.serve_forever()


@contextmanager
def exchange(markets: int) -> Iterator[str]:
    """Run a process that sends so many open markets, and their events, as fast as it is asked; yield its address."""
    series = "KXNFLGAME"  # others than those that are polled, and so not stored yet
    events = [
        {
            "event_ticker": event_ticker(series, number * MARKETS_OF_AN_EVENT), "series_ticker": series, "title": "Los Angeles A vs Miami",
            "sub_title": "", "collateral_return_type": "MECNET", "mutually_exclusive": True, "category": "Sports",
        }
        for number in range(-(-markets // MARKETS_OF_AN_EVENT))
    ]  # fmt: skip
    parts = [events[at : at + 200] for at in range(0, len(events), 200)]
    pages = {
        "markets": Polls(markets, series).pages(),
        "events": [
            json.dumps({"events": part, "cursor": str(at + 1) if at + 1 < len(parts) else ""}).encode()
            for at, part in enumerate(parts)
        ],
    }
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(pages, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/trade-api/v2"
    finally:
        process.kill()
        process.join()


@dataclass(frozen=True)
class Measured:
    """One measurement: wall-clock seconds, processor seconds of this process and of the server's for it, and how many objects."""

    seconds: float
    client_seconds: float
    server_seconds: float
    size: int

    @property
    def rate(self) -> float:
        """Return objects a second."""
        return self.size / self.seconds


def timed(run: Callable[[], int], *conns: psycopg.Connection[Any]) -> Measured:
    """Time what answers how many objects it handled; with the connections that it uses, also what the server took."""
    gc.collect()
    begun, begun_client, begun_server = time.perf_counter(), time.process_time(), sum(map(_server_seconds, conns))
    size = run()
    seconds, client_seconds = time.perf_counter() - begun, time.process_time() - begun_client
    return Measured(seconds, client_seconds, sum(map(_server_seconds, conns)) - begun_server, size)


def _server_seconds(conn: psycopg.Connection[Any]) -> float:
    """Return the processor time that the server's process for a connection has taken; 0 where the system does not tell."""
    status = Path(f"/proc/{conn.info.backend_pid}/stat")
    if not status.exists():
        return 0.0
    fields = status.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def polls(conn: psycopg.Connection[Any], markets: int, rounds: int) -> dict[str, list[Measured]]:
    """Write a first poll and some more, of which 84 % are unchanged.

    Raises:
        DisagreementError: something else was written than had changed.
    """
    made = Polls(markets, "KXMLBGAME")
    found: dict[str, list[Measured]] = {"first poll": [], "poll, 84 % unchanged": []}
    for number in range(rounds + 1):
        pages = made.pages()
        changed = markets if number == 0 else made.changed
        report_of: list[Report] = []

        def write(pages: list[bytes] = pages, report_of: list[Report] = report_of) -> int:
            report_of.append(stored(conn, pages, Hints(), "/markets"))
            return markets

        conn.execute("CHECKPOINT")
        found["first poll" if number == 0 else "poll, 84 % unchanged"].append(timed(write, conn))
        kinds = report_of[0].kinds
        written = {kind: kinds[kind].written for kind in ("market", "market_version", "price_snapshot")}
        if written != dict.fromkeys(written, changed) or report_of[0].total.rejected:
            raise DisagreementError(f"{changed} markets had changed, written were {written}")
    return found


def synced(conn: psycopg.Connection[Any], markets: int) -> Measured:
    """Synchronise a catalogue of so many markets over HTTP.

    Raises:
        DisagreementError: not all of them are stored.
    """
    with exchange(markets) as address, ExchangeClient(address, limit=None) as client:

        def sync() -> int:
            with Intake(conn, "benchmark sync-markets", origin="poll") as intake:
                sync_markets(client, intake, SyncScope())
            return intake.report.kinds["market"].written

        found = timed(sync, conn)
    if found.size != markets:
        raise DisagreementError(f"{found.size} of {markets} markets are stored")
    return found


def bulk(
    conn: psycopg.Connection[Any], second: psycopg.Connection[Any], kind: str, rows: int, rounds: int
) -> dict[str, list[Measured]]:
    """Write candlesticks or trades with one worker and with two, and read the same bytes without writing, in turn."""
    bodies = list(candle_answers(rows) if kind == "candlesticks" else trade_answers(rows))
    hints = Hints(period_interval_minutes=1) if kind == "candlesticks" else Hints()
    table = "candlesticks" if kind == "candlesticks" else "public_trades"
    ways: dict[str, Callable[[], Measured]] = {
        f"{kind}, bytes to rows": lambda: timed(lambda: stored(conn, bodies, hints, f"/{kind}").total.written, conn),
        f"{kind}, two workers": lambda: timed(lambda: stored_by_workers((conn, second), bodies, hints, f"/{kind}"), conn, second),
        f"{kind}, parsed and validated": lambda: timed(lambda: only_read(bodies, hints)),
    }
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    size = 0
    for number in range(rounds + 1):
        for way, run in ways.items():
            conn.execute(f"TRUNCATE market_data.{table}")
            conn.execute("CHECKPOINT")
            one = run()
            size = size or one.size
            if one.size != size:
                raise DisagreementError(f"{way}: {one.size} of {size} {kind}")
            if number:  # the first makes markets, months and everything warm
                found[way].append(one)
    return found


def memory(conn: psycopg.Connection[Any], candles: int) -> dict[str, Any]:
    """Backfill so many candlesticks and return this process's memory in MB: at the start, after a tenth, at the end and its peak.

    The answers are made while they are asked for, so that they take no memory either.
    """
    samples: list[tuple[float, float]] = []
    done = threading.Event()
    begun = time.perf_counter()

    def sample() -> None:
        while not done.wait(0.2):
            samples.append((time.perf_counter() - begun, _resident() / MB))

    watcher = threading.Thread(target=sample, daemon=True)
    conn.execute("TRUNCATE market_data.candlesticks")
    gc.collect()
    start = _resident() / MB
    watcher.start()
    written = stored(conn, candle_answers(candles), Hints(period_interval_minutes=1), "/candlesticks").total.written
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    if written != candles:
        raise DisagreementError(f"{written} of {candles} candlesticks are stored")
    tenth = max(mb for at, mb in samples if at <= max(seconds / 10, samples[0][0]))
    return {
        "rows": candles, "seconds": seconds, "start_mb": start, "peak_of_first_tenth_mb": tenth,
        "peak_mb": max(mb for _, mb in samples), "above_start_mb": max(mb for _, mb in samples) - start,
    }  # fmt: skip


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def main() -> None:
    """Measure what the command line asks for."""
    options = _options()
    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120)
    found: dict[str, list[Measured]] = {}
    used: dict[str, Any] = {}
    parts: dict[str, Callable[[psycopg.Connection[Any]], None]] = {
        "polls": lambda conn: found.update(polls(conn, options.markets, options.rounds)),
        "candlesticks": lambda conn: found.update(bulk(conn, second, "candlesticks", options.rows, options.rounds)),
        "trades": lambda conn: found.update(bulk(conn, second, "trades", options.rows, options.rounds)),
        "memory": lambda conn: used.update(memory(conn, options.memory_rows)),
        "sync": lambda conn: found.update({"sync-markets": [synced(conn, options.markets)]}),
    }
    with migrated_server() as url, open_connection(url) as conn, open_connection(url) as second:
        around = surroundings(conn)
        report.show_surroundings(console, around)
        for name in options.only or parts:
            parts[name](conn)
    results = {
        **around,
        "options": {"markets": options.markets, "rows": options.rows, "rounds": options.rounds},
        "measured": {
            name: [
                {
                    "seconds": one.seconds,
                    "client_seconds": one.client_seconds,
                    "server_seconds": one.server_seconds,
                    "objects": one.size,
                }
                for one in ones
            ]
            for name, ones in found.items()
        },
        "memory": used,
        "asked": judged(found, used, options.markets),
    }
    show(console, found, results["asked"])
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def judged(found: Mapping[str, list[Measured]], used: Mapping[str, Any], markets: int) -> list[dict[str, Any]]:
    """Return what is asked for with what was measured; seconds for 100,000 markets are computed from what was."""
    rows: list[dict[str, Any]] = []

    def add(what: str, value: float, asked: float, *, most: bool = False) -> None:
        rows.append({"what": what, "measured": value, "asked": asked, "most": most, "reached": (value <= asked) is most})

    for kind in ("candlesticks", "trades"):
        name = f"{kind}, bytes to rows"
        if name not in found:
            continue
        asked = ASKED[f"{kind} a second, bytes to rows"]
        add(f"{kind} a second, bytes to rows", median(one.rate for one in found[name]), asked)
        add(f"{kind} a second, two workers of one process", median(one.rate for one in found[f"{kind}, two workers"]), asked)
        what = f"{name} against parsing and validating alone"
        if what in ASKED:
            reads = found[f"{kind}, parsed and validated"]
            add(what, median(w.rate / r.rate for w, r in zip(found[name], reads, strict=True)), ASKED[what])
    for name, what in (
        ("poll, 84 % unchanged", "a poll of 100,000 markets, 84 % unchanged"),
        ("sync-markets", "sync-markets of 100,000 markets"),
    ):
        if name in found:
            seconds = median(one.seconds for one in found[name]) * 100_000 / markets
            add(f"{what}, seconds", seconds, ASKED_SECONDS[what], most=True)
    if used:
        add(f"memory of a backfill of {used['rows']:,} rows, MB above start", used["above_start_mb"], MEMORY_LIMIT_MB, most=True)
    return rows


def show(console: Console, found: Mapping[str, list[Measured]], asked: list[dict[str, Any]]) -> None:
    """Print what was measured and what was asked for."""
    table = Table(title="Answers to rows", title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("a second", "lowest to highest", "seconds", "client µs", "server µs"):
        table.add_column(heading, justify="right")
    for name, ones in found.items():
        if ones:
            rates = [one.rate for one in ones]
            table.add_row(
                name, f"{median(rates):,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}", f"{median(one.seconds for one in ones):.2f}",
                f"{median(one.client_seconds / one.size for one in ones) * 1e6:.1f}",
                f"{median(one.server_seconds / one.size for one in ones) * 1e6:.1f}",
            )  # fmt: skip
    console.print(table)
    table = Table(title="What was asked for", title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("measured", "asked", "reached"):
        table.add_column(heading, justify="right")
    for row in asked:
        value = f"{row['measured']:,.0f}" if row["measured"] > 100 else f"{row['measured']:.2f}"
        table.add_row(
            row["what"], value, f"{'≤' if row['most'] else '≥'} {row['asked']:,g}", "yes" if row["reached"] else "no",
            style=None if row["reached"] else "red",
        )  # fmt: skip
    console.print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.ingestion", description="Measure the way from answers to rows.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; good for a first look")
    parser.add_argument(
        "--only", action="append", choices=["polls", "candlesticks", "trades", "memory", "sync"], help="only this"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every timing, the machine and the versions to FILE")
    for name in ("--markets", "--rows", "--rounds", "--memory-rows"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"markets": 100_000, "rows": 500_000, "rounds": 3, "memory_rows": 10_000_000}
    if options.quick:
        sizes = {"markets": 10_000, "rows": 50_000, "rounds": 3, "memory_rows": 1_000_000}
    for name, size in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, size)
    return options


if __name__ == "__main__":
    main()
