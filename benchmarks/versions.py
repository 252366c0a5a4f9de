"""`python -m benchmarks.versions [--quick] [--json FILE]`: what histories cost, against tables that keep none, and what a race leaves.

Markets are polled, and of each poll 16 % have changed. Recorded as versions, the same polls also go by the same machinery into a table
that only knows the last state, and by `upsert_price_snapshots` into one that keeps each with every moment at which it was seen. Polls are
made ready beforehand; each is later than the one before it. Then one change a round trip and commit, and the races of benchmarks/race.py.
"""

# ruff: noqa: S608  (the statements are made of the names above them)

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.measure import Alternative, DisagreementError, Section, Spread, measure
from benchmarks.race import SHAPES, a_market, a_position, race
from benchmarks.server import migrated_server, open_connection, surroundings
from kalshidb.models.catalog import MarketInput, MarketVersionInput
from kalshidb.models.market_data import PriceSnapshotInput
from kalshidb.queries import catalog, market_data
from kalshidb.typedsql import BulkResult
from kalshidb.typedsql.bulk import BulkRows
from kalshidb.typedsql.loading import load_statements

UNCHANGED = 0.84
"""Share of a poll that is as before, as measured on the exchange."""

VERSIONS = "record_market_versions, 84 % unchanged"
AGAIN = "record_market_versions, the same poll again"
ALL_CHANGED = "record_market_versions, all changed"
LAST_STATE = "upsert of the last state, 84 % unchanged"
SNAPSHOTS = "upsert_price_snapshots of the same quotes"
CHANGE = "change_market_version"
INSERT = "INSERT of one row"
MOST_COST = 1.5  # of the upsert of the last state
LEAST_CHANGES = {CHANGE: 2_000, ALL_CHANGED: 20_000}  # a second

_BEGIN = datetime(2026, 7, 19, tzinfo=UTC)
_STATE = (
    "status", "yes_price", "no_price", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "volume", "open_interest",
    "settlement_value",
)  # fmt: skip
_LIST = ", ".join(_STATE)

_LAST_STATE_TABLE = f"""
    CREATE SCHEMA bench;
    CREATE TABLE bench.last_states AS SELECT market_ticker, valid_from, {_LIST} FROM catalog.market_versions WITH NO DATA;
    ALTER TABLE bench.last_states
        ADD CONSTRAINT last_states_pkey PRIMARY KEY (market_ticker),
        ADD CONSTRAINT last_states_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker)
"""
_LAST_STATE_UPSERT = f"""
-- name: upsert_last_states()^
-- Writes the last state of each market where it has changed.
-- @bulk staged_last_states like bench.last_states
-- @one
WITH written AS (
    INSERT INTO bench.last_states AS stored (market_ticker, valid_from, {_LIST})
    SELECT DISTINCT ON (market_ticker) market_ticker, valid_from, {_LIST}
    FROM staged_last_states
    ORDER BY market_ticker, staged_position DESC
    ON CONFLICT (market_ticker) DO UPDATE SET
        valid_from = EXCLUDED.valid_from, {", ".join(f"{name} = EXCLUDED.{name}" for name in _STATE)}
    WHERE ({", ".join(f"stored.{name}" for name in _STATE)}) IS DISTINCT FROM ({", ".join(f"EXCLUDED.{name}" for name in _STATE)})
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;
"""


class Polls:
    """Polls of the same markets, one after the other."""

    def __init__(self, tickers: list[str], unchanged: float) -> None:
        self._tickers, self._unchanged = tickers, unchanged
        self._chance = random.Random(7)  # noqa: S311
        self._cents = [50] * len(tickers)
        self._moment = _BEGIN
        self.changed = len(tickers)

    def quotes(self) -> Iterator[tuple[str, datetime, dict[str, Any]]]:
        """Yield the next poll: each market with the moment and its quotes."""
        self._moment += timedelta(minutes=1)
        before = list(self._cents)
        for number, cents in enumerate(before):
            if self._chance.random() >= self._unchanged:
                self._cents[number] = cents % 98 + 1
        self.changed = sum(one != other for one, other in zip(before, self._cents, strict=True))
        for ticker, cents in zip(self._tickers, self._cents, strict=True):
            bid, ask = Decimal(cents) / 100, Decimal(cents + 1) / 100
            yield ticker, self._moment, {
                "yes_bid": bid, "yes_ask": ask, "no_bid": 1 - ask, "no_ask": 1 - bid, "last_price": bid, "volume": Decimal(cents),
                "open_interest": Decimal(5),
            }  # fmt: skip

    def versions(self) -> list[MarketVersionInput]:
        """Return the next poll as states of markets."""
        return [
            MarketVersionInput(market_ticker=ticker, valid_from=moment, status="active", **quotes)
            for ticker, moment, quotes in self.quotes()
        ]

    def snapshots(self) -> list[PriceSnapshotInput]:
        """Return the next poll as observed quotes."""
        return [
            PriceSnapshotInput(
                market_ticker=ticker, snapshot_time=moment, source="poll", status="active", retrieved_at=moment, **quotes
            )
            for ticker, moment, quotes in self.quotes()
        ]  # fmt: skip


def bulk(conn: psycopg.Connection[Any], markets: int) -> tuple[Section, list[Alternative]]:
    """Prepare writing polls of so many markets.

    Args:
        conn: a connection in autocommit mode to a database with nothing but the schema.
        markets: rows of a poll.
    """
    conn.execute(_LAST_STATE_TABLE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench" / "last_states.sql"
        file.parent.mkdir()
        file.write_text(_LAST_STATE_UPSERT, encoding="utf-8")
        last_states = BulkRows(load_statements(Path(folder))["bench.upsert_last_states"], MarketVersionInput)
    steady = [f"KXHIGHNY-26JUL19-B{number}" for number in range(markets)]
    moving = [f"KXHIGHCHI-26JUL19-B{number}" for number in range(markets)]
    for tickers in (steady, moving):
        catalog.upsert_markets(conn, [_market(ticker) for ticker in tickers])
    made: list[Alternative] = []

    def add(
        name: str, tickers: list[str], unchanged: float, write: Callable[[list[Any]], BulkResult], *, quotes: bool = False
    ) -> None:
        polls = Polls(tickers, unchanged)
        next_poll: Callable[[], list[Any]] = polls.snapshots if quotes else polls.versions
        write(next_poll())
        ready: list[Any] = []

        def before() -> None:
            ready[:] = next_poll()
            if name == AGAIN:
                write(ready)
            conn.execute(
                "VACUUM (ANALYZE) catalog.markets, catalog.market_versions, market_data.price_snapshots, bench.last_states"
            )
            conn.execute("CHECKPOINT")

        def check(result: BulkResult) -> None:
            expected = 0 if name == AGAIN else polls.changed
            if (result.received, result.written) != (markets, expected):
                raise DisagreementError(f"{name} says {result}, not {expected} written")

        made.append(Alternative(name, lambda: write(ready), markets, before, check))

    add(LAST_STATE, steady, UNCHANGED, lambda rows: last_states.write(conn, rows))
    add(SNAPSHOTS, steady, UNCHANGED, lambda rows: market_data.upsert_price_snapshots(conn, rows), quotes=True)
    add(VERSIONS, steady, UNCHANGED, lambda rows: catalog.record_market_versions(conn, rows))
    again = [f"KXHIGHMIA-26JUL19-B{number}" for number in range(markets)]
    catalog.upsert_markets(conn, [_market(ticker) for ticker in again])
    add(AGAIN, again, UNCHANGED, lambda rows: catalog.record_market_versions(conn, rows))
    add(ALL_CHANGED, moving, 0, lambda rows: catalog.record_market_versions(conn, rows))
    return Section(f"Recording {markets:,} markets", "rows", VERSIONS), made


def _market(ticker: str) -> MarketInput:
    return MarketInput(
        market_ticker=ticker, platform_id="kalshi", event_ticker=ticker.rpartition("-")[0], external_id=ticker, title="High?",
        status="active", retrieved_at=_BEGIN,
    )  # fmt: skip


def one_at_a_time(conn: psycopg.Connection[Any], calls: int) -> tuple[Section, list[Alternative]]:
    """Prepare changing markets with a round trip and a commit each, against inserting a row so."""
    tickers = [f"KXCALL-26JUL19-B{number}" for number in range(100)]
    nothing = dict.fromkeys(_STATE)
    catalog.record_market_versions(
        conn, [MarketVersionInput(market_ticker=each, valid_from=_BEGIN, status="active") for each in tickers]
    )
    conn.execute("CREATE TABLE bench.rows (number bigint PRIMARY KEY, written_at timestamptz NOT NULL)")
    count = iter(range(1, 10**9))

    def change() -> None:
        for number in range(calls):
            outcome = catalog.change_market_version(
                conn, market_ticker=tickers[number % len(tickers)], **nothing | {"volume": Decimal(next(count))}
            )
            if outcome != "written":
                raise DisagreementError(f"a change was {outcome}")

    def insert() -> None:
        for _ in range(calls):
            conn.execute("INSERT INTO bench.rows VALUES (%s, clock_timestamp())", (next(count),))

    def before() -> None:
        conn.execute("VACUUM (ANALYZE) catalog.market_versions")
        conn.execute("CHECKPOINT")

    return Section("One change a commit", "changes", CHANGE), [
        Alternative(CHANGE, change, calls, before),
        Alternative(INSERT, insert, calls, before),
    ]


def races(url: str, conn: psycopg.Connection[Any], shapes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Run every race, and return what each left behind."""
    found: list[dict[str, Any]] = []
    for subject_of in (a_market, a_position):
        for writers, each in shapes:
            outcome = race(url, subject_of(conn, f"RACE-{subject_of.__name__}-{writers}"), writers, each)
            found.append(
                asdict(outcome)
                | {
                    "subject": subject_of.__name__.removeprefix("a_"),
                    "shape": f"{writers} x {each}",
                    "raised": [str(error) for error in outcome.raised],
                    "final": [str(value) for value in outcome.final],
                    "expected": each,
                    "changes_per_second": outcome.changes / outcome.seconds,
                }
            )
    return found


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="versions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; good for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every timing and the machine to FILE")
    parser.add_argument("--markets", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    markets = options.markets or (10_000 if options.quick else 100_000)
    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120)
    with migrated_server() as url, open_connection(url) as conn, console.status("") as status:
        around = surroundings(conn)
        report.show_surroundings(console, around)
        written = measure(*bulk(conn, markets), options.rounds, status.update)
        report.show_section(console, written)
        calls = measure(*one_at_a_time(conn, markets // 50), options.rounds, status.update)
        report.show_section(console, calls)
        raced = races(url, conn, SHAPES if markets >= 10_000 else [(2, 20)])
    console.print(_race_table(raced))
    cost = written.ratio(LAST_STATE, VERSIONS), written.ratio(SNAPSHOTS, VERSIONS)
    found: dict[str, Any] = {
        "cost of versions, as a multiple of the last state alone": asdict(cost[0]) if cost[0] else None,
        "cost of versions, as a multiple of price snapshots": asdict(cost[1]) if cost[1] else None,
        "most that is allowed": MOST_COST,
        "least changes a second": LEAST_CHANGES,
    }
    for name, value in list(found.items())[:2]:
        console.print(f"{name}: {value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f}), at most {MOST_COST}")
    if options.json:
        sections = {
            section.title: {
                name: {"seconds": section.seconds[name], f"{section.unit}_per_second": asdict(Spread.of(section.rates(name)))}
                for name in section.seconds
            }
            for section in (written, calls)
        }
        results = {**around, "markets": markets, "sections": sections, "races": raced, "found": found}
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _race_table(raced: list[dict[str, Any]]) -> Table:
    table = Table(title="Races", title_justify="left", box=None, header_style="dim", pad_edge=False)
    for heading in ("", "changes/s", "raised", "broken", "went back", "lost", "final", "turns", "waits seen"):
        table.add_column(heading, justify="right")
    for one in raced:
        table.add_row(
            f"{one['subject']}, {one['shape']}", f"{one['changes_per_second']:,.0f}", str(len(one["raised"])), str(one["broken"]),
            str(one["regressions"]), str(one["lost"]), ", ".join(one["final"]), str(one["turns"]), str(one["waits"]),
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
