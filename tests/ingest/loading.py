"""Loading as the command does, what a test asks the database, and documents that a person can picture."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import simplejson

from kalshidb.exchange.client import ExchangeClient
from kalshidb.exchange.recognise import Hints
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.exchange.simulator.wire import Era
from kalshidb.ingest.intake import Intake, Report
from kalshidb.ingest.load import find_files, load_files
from kalshidb.ingest.pull import Scope, pull
from kalshidb.models.ops import RejectedPayload
from kalshidb.queries import ops

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)

DATA = (
    "catalog.series", "catalog.events", "catalog.markets", "catalog.market_versions", "catalog.settlements", "catalog.market_lifecycle",
    "market_data.candlesticks", "market_data.price_snapshots", "market_data.orderbook_snapshots", "market_data.orderbook_deltas",
    "market_data.public_trades",
)  # fmt: skip
OF_THE_LOAD = ("created_at", "updated_at")  # when we wrote it, not what the exchange said
ONCE = (
    "catalog.settlements",
    "catalog.market_lifecycle",
    "market_data.orderbook_deltas",
    "market_data.public_trades",
)  # the first answer to arrive is kept


def all_rows(conn: psycopg.Connection[Any], *, without: tuple[str, ...] = OF_THE_LOAD) -> dict[str, list[str]]:
    """Every row of the data as text, without what may differ between two loads of the same in different order."""
    tables: dict[str, list[str]] = {}
    for table in DATA:
        rows = conn.execute(
            f"""
            SELECT (
                to_jsonb(t) - %s::text[]
                - CASE WHEN %s OR (to_jsonb(t) ->> 'is_stub')::boolean THEN '{{retrieved_at}}' ELSE '{{}}' END::text[]
            )::text
            FROM {table} t
            """,  # noqa: S608
            [list(without), table in ONCE],
        )
        tables[table] = sorted(row for (row,) in rows)
    return tables


def differences(left: dict[str, list[str]], right: dict[str, list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """The rows of each table that only one of two databases has."""
    found = {}
    for table, rows in left.items():
        ours, theirs = set(rows), set(right[table])
        if rows != right[table]:
            found[table] = (sorted(ours - theirs)[:3], sorted(theirs - ours)[:3])
    return found


@dataclass
class Store:
    """A database, and loading into it as the command does."""

    url: str
    conn: psycopg.Connection[Any]
    folder: Path

    def file(self, name: str, content: object, *, seen: datetime = NOON) -> Path:
        """A file with a document, or with text or bytes as they are, last written at a moment."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content if isinstance(content, bytes) else simplejson.dumps(content, use_decimal=True).encode())
        os.utime(path, (seen.timestamp(), seen.timestamp()))
        return path

    def load(self, *paths: Path, keep_raw: bool = False, **hints: object) -> Report:
        """Load files and return the report."""
        with Intake(self.conn, "a test", origin="backfill", keep_raw=keep_raw) as intake:
            load_files(intake, find_files(paths), Hints(**hints))
        total = intake.report.total
        assert total.read == total.written + total.unchanged + total.rejected
        return intake.report

    def give(self, document: object, *, seen: datetime = NOON, keep_raw: bool = False, **hints: object) -> Report:
        """Load one document."""
        return self.load(self.file("document.json", document, seen=seen), keep_raw=keep_raw, **hints)

    def retry(self, source: str | None = None, **hints: object) -> Report:
        """Try refused payloads again and return the report."""
        found = ops.open_rejects(self.conn, kind=None, source_part=source, sha256_prefix=None, how_many=1000)
        with Intake(self.conn, "a retry", origin="backfill") as intake:
            for _ in intake.retry(found, Hints(**hints)):
                pass
        return intake.report

    def rejects(self) -> list[RejectedPayload]:
        """The open rejects."""
        return ops.open_rejects(self.conn, kind=None, source_part=None, sha256_prefix=None, how_many=100_000)

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self.value(f"SELECT count(*) FROM {table}"))  # noqa: S608

    def value(self, query: str, *parameters: object) -> Any:  # noqa: ANN401
        """The first column of the first row."""
        row = self.conn.execute(query, parameters).fetchone()
        return None if row is None else row[0]

    def column(self, query: str, *parameters: object) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.conn.execute(query, parameters)]

    def rows(self, **options: object) -> dict[str, list[str]]:
        """Every row of the data as text."""
        return all_rows(self.conn, **options)


# Documents


def series(ticker: str = "KXRAIN", **fields: object) -> dict[str, Any]:
    return {"ticker": ticker, "title": "Rain", "category": "Climate", "frequency": "daily", "fee_type": "quadratic"} | fields


def event(ticker: str = "KXRAIN-26NOV01", **fields: object) -> dict[str, Any]:
    return {
        "event_ticker": ticker, "series_ticker": "KXRAIN", "title": "Rain on Sunday?", "sub_title": "Nov 1",
        "category": "Climate", "mutually_exclusive": False,
    } | fields  # fmt: skip


def market(ticker: str = "KXRAIN-26NOV01-NY", **fields: object) -> dict[str, Any]:
    return {
        "ticker": ticker, "event_ticker": "KXRAIN-26NOV01", "market_type": "binary", "title": "Rain in New York?",
        "open_time": "2026-10-31T14:00:00Z", "close_time": "2026-11-02T05:00:00Z", "status": "active", "result": "",
        "yes_bid_dollars": "0.4000", "yes_ask_dollars": "0.4200", "no_bid_dollars": "0.5800", "no_ask_dollars": "0.6000",
        "last_price_dollars": "0.4100", "volume_fp": "10.00", "open_interest_fp": "5.00",
    } | fields  # fmt: skip


def candle(end: int = 1_793_534_400, **fields: object) -> dict[str, Any]:
    sides = {
        side: {"open_dollars": "0.40", "high_dollars": "0.45", "low_dollars": "0.35", "close_dollars": price}
        for side, price in {"yes_bid": "0.40", "yes_ask": "0.42"}.items()
    }
    return {"end_period_ts": end, **sides, "volume_fp": "3.00", "open_interest_fp": "9.00"} | fields


def trade(number: int = 1, **fields: object) -> dict[str, Any]:
    return {
        "trade_id": f"00000000-0000-4000-8000-{number:012}", "ticker": "KXRAIN-26NOV01-NY",
        "created_time": "2026-11-01T10:00:00.123456Z", "count_fp": "1.00", "yes_price_dollars": "0.4100",
        "no_price_dollars": "0.5900", "taker_side": "yes",
    } | fields  # fmt: skip


def pull_world(
    conn: psycopg.Connection[Any], *, markets: int = 60, era: Era = "current", period: int = 60
) -> tuple[Report, SimulatedExchange]:
    """Load a simulated exchange over HTTP, as the demo does."""
    with SimulatedExchange(seed=3, markets=markets, era=era) as exchange:
        moment = datetime.fromtimestamp(exchange.world.now / 1_000_000, UTC)
        with (
            ExchangeClient(exchange.base_url, limit=None) as client,
            Intake(conn, "the simulated exchange", origin="poll") as intake,
        ):
            pull(client, intake, Scope(moment - timedelta(days=1000), moment, period), seen_at=lambda _: moment)
    return intake.report, exchange


def exact(text: str) -> Any:  # noqa: ANN401
    """JSON with exact decimals."""
    return json.loads(text, parse_float=Decimal)
