"""Rows that a person can picture: New York's daily high, its markets, their candles, quotes, books and trades."""

# ruff: noqa: ANN401  (a change may be of any column)

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from kalshidb.models.catalog import EventInput, MarketInput, SeriesInput
from kalshidb.models.market_data import Candlestick, OrderbookDelta, OrderbookSnapshotInput, PriceSnapshotInput, PublicTrade

NOON = datetime(2026, 7, 19, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TICK = timedelta(microseconds=1)


def series(ticker: str = "KXHIGHNY", **changes: Any) -> SeriesInput:
    row = {
        "platform_id": "kalshi",
        "external_id": ticker,
        "title": "High in New York",
        "category": "Climate",
        "retrieved_at": NOON,
    }
    return SeriesInput(series_ticker=ticker, **(row | changes))


def event(ticker: str = "KXHIGHNY-26JUL19", **changes: Any) -> EventInput:
    row = {
        "platform_id": "kalshi", "series_ticker": "KXHIGHNY", "external_id": ticker, "title": "High on 19 July",
        "category": "Climate", "raw_json": {"event_ticker": ticker}, "retrieved_at": NOON,
    }  # fmt: skip
    return EventInput(event_ticker=ticker, **(row | changes))


def market(ticker: str = "KXHIGHNY-26JUL19-T80", **changes: Any) -> MarketInput:
    row = {
        "platform_id": "kalshi", "event_ticker": ticker.rpartition("-")[0], "external_id": ticker, "title": "80 or above?",
        "status": "active", "open_time": NOON - DAY, "close_time": NOON + DAY, "last_price": Decimal("0.4"),
        "volume": Decimal(10), "raw_json": {"ticker": ticker}, "retrieved_at": NOON,
    }  # fmt: skip
    return MarketInput(market_ticker=ticker, **(row | changes))


def candle(ticker: str = "KXHIGHNY-26JUL19-T80", end: datetime = NOON, minutes: int = 60, **changes: Any) -> Candlestick:
    row = {"price_close": Decimal("0.4"), "volume": Decimal(3), "retrieved_at": NOON}
    return Candlestick(market_ticker=ticker, end_period_ts=end, period_interval_minutes=minutes, **(row | changes))


def quote(ticker: str = "KXHIGHNY-26JUL19-T80", at: datetime = NOON, **changes: Any) -> PriceSnapshotInput:
    row = {"source": "poll", "yes_bid": Decimal("0.4"), "yes_ask": Decimal("0.44"), "retrieved_at": at}
    return PriceSnapshotInput(market_ticker=ticker, snapshot_time=at, **(row | changes))


def book(ticker: str = "KXHIGHNY-26JUL19-T80", at: datetime = NOON, **changes: Any) -> OrderbookSnapshotInput:
    row = {
        "source": "poll", "yes_bid_prices": [Decimal("0.39"), Decimal("0.40")], "yes_bid_quantities": [Decimal(5), Decimal("2.5")],
        "no_bid_prices": [Decimal("0.55")], "no_bid_quantities": [Decimal(7)], "retrieved_at": at,
    }  # fmt: skip
    return OrderbookSnapshotInput(market_ticker=ticker, snapshot_time=at, **(row | changes))


def delta(ticker: str = "KXHIGHNY-26JUL19-T80", at: datetime = NOON, sequence: int = 1, **changes: Any) -> OrderbookDelta:
    row = {"sid": 1, "side": "yes", "price": Decimal("0.4"), "delta": Decimal(-2), "retrieved_at": at}
    return OrderbookDelta(market_ticker=ticker, delta_time=at, sequence=sequence, **(row | changes))


def trade(number: int = 1, ticker: str = "KXHIGHNY-26JUL19-T80", at: datetime = NOON, **changes: Any) -> PublicTrade:
    price = changes.pop("yes_price", Decimal("0.4"))
    row = {
        "count": Decimal(1), "yes_price": price, "no_price": 1 - price, "taker_side": "yes", "is_block_trade": False,
        "retrieved_at": NOON,
    }  # fmt: skip
    return PublicTrade(market_ticker=ticker, created_time=at, trade_id=UUID(int=number), **(row | changes))


def rows_of(pg: psycopg.Connection, table: str, order: str) -> list[dict[str, Any]]:
    """Return a table's rows without the moments of our own clock, which differ from run to run."""
    with pg.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()  # type: ignore[arg-type]  # noqa: S608
    return [{name: value for name, value in row.items() if name not in ("created_at", "updated_at")} for row in found]
