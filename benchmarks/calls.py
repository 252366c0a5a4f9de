"""Calling: one row by its key through a typed function, against the same through psycopg alone."""

from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.data import BEGIN, COLUMNS, END, PERIOD_MINUTES, market_ticker
from benchmarks.measure import Alternative, DisagreementError, Section
from kalshidb.models.catalog import Market
from kalshidb.queries import catalog, market_data

TYPED = "typed call"
PLAIN = "conn.execute().fetchone()"

_CANDLE = """
    SELECT * FROM market_data.candlesticks
    WHERE market_ticker = %s AND period_interval_minutes = %s AND end_period_ts <= %s
    ORDER BY end_period_ts DESC
    LIMIT 1
"""
_MARKET = "SELECT * FROM catalog.markets WHERE market_ticker = %s"


def candlestick_as_of(conn: psycopg.Connection[Any], calls: int) -> tuple[Section, list[Alternative]]:
    """Prepare asking for one candlestick; markets and candlesticks are stored."""
    ticker, moment = market_ticker(0), BEGIN + (END - BEGIN) / 2
    return _section(
        "candlestick_as_of",
        lambda: market_data.candlestick_as_of(conn, market_ticker=ticker, period_interval_minutes=PERIOD_MINUTES, moment=moment),
        lambda: conn.execute(_CANDLE, (ticker, PERIOD_MINUTES, moment)).fetchone(),
        COLUMNS,
        calls,
    )


def market_by_ticker(conn: psycopg.Connection[Any], calls: int) -> tuple[Section, list[Alternative]]:
    """Prepare asking for one market; markets are stored."""
    ticker = market_ticker(0)
    return _section(
        "market_by_ticker",
        lambda: catalog.market_by_ticker(conn, market_ticker=ticker),
        lambda: conn.execute(_MARKET, (ticker,)).fetchone(),
        tuple(Market.model_fields),
        calls,
    )


def _section(
    name: str, typed: Callable[[], object], plain: Callable[[], object], columns: tuple[str, ...], calls: int
) -> tuple[Section, list[Alternative]]:
    def check(model: object) -> None:
        if model is None or tuple(getattr(model, column) for column in columns) != plain():
            raise DisagreementError(f"{name} has returned another row than {PLAIN}")

    return Section(f"Calling {name}", "calls", TYPED), [
        Alternative(TYPED, _repeated(typed, calls), calls, check=check),
        Alternative(PLAIN, _repeated(plain, calls), calls),
    ]


def _repeated(call: Callable[[], object], calls: int) -> Callable[[], object]:
    def run() -> object:
        for _ in range(calls):
            result = call()
        return result

    return run
