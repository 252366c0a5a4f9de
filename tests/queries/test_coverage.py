"""What is covered is written down as spans, and what is missing is what a market was open for and no span covers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.multirange import TimestamptzMultirange
from psycopg.types.range import TimestamptzRange
from sample_rows import event, market

from kalshidb.models.ops import CoverageRow
from kalshidb.queries import catalog, ops

DAY0 = datetime(2026, 11, 1, tzinfo=UTC)


SECOND = 1 / 3600


def at(hours: float) -> datetime:
    return DAY0 + timedelta(hours=hours)


def spans(*hours: tuple[float, float]) -> TimestamptzMultirange:
    return TimestamptzMultirange([TimestamptzRange(at(begin), at(end)) for begin, end in hours])


def covered(conn: psycopg.Connection[Any], begin: float, end: float, ticker: str = "KXA-1", minutes: int = 60) -> int:
    return ops.extend_coverage(
        conn,
        market_tickers=[ticker],
        kind="candlesticks" if minutes else "trades",
        period_interval_minutes=minutes,
        covered_from=at(begin),
        covered_until=at(end),
        run_id=None,
    )


def asked(conn: psycopg.Connection[Any], begin: float, end: float, minutes: int = 60, **only: str) -> list[CoverageRow]:
    return ops.coverage(
        conn,
        kind="candlesticks" if minutes else "trades",
        period_interval_minutes=minutes,
        start_ts=at(begin),
        end_ts=at(end),
        series_ticker=only.get("series"),
        event_ticker=only.get("event"),
        market_ticker=only.get("market"),
    )


@pytest.fixture
def open_from_2_to_20(pg: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    catalog.upsert_events(pg, [event("KXA", series_ticker="KX")])
    catalog.upsert_markets(pg, [market(ticker, open_time=at(2), close_time=at(20)) for ticker in ("KXA-1", "KXA-2")])
    return pg


def test_nothing_fetched_is_all_missing_and_ends_a_period_after_the_close(open_from_2_to_20: psycopg.Connection[Any]) -> None:
    first, second = asked(open_from_2_to_20, 0, 48)
    assert (first.market_ticker, second.market_ticker) == ("KXA-1", "KXA-2")
    assert first.wanted == TimestamptzRange(at(2), at(21 + SECOND))
    assert first.covered == spans()
    assert first.missing == spans((2, 21 + SECOND))


def test_spans_grow_together_and_leave_holes(open_from_2_to_20: psycopg.Connection[Any]) -> None:
    conn = open_from_2_to_20
    assert covered(conn, 0, 5) == 1
    assert covered(conn, 8, 10) == 1
    (row,) = asked(conn, 0, 48, market="KXA-1")
    assert row.covered == spans((2, 5), (8, 10))
    assert row.missing == spans((5, 8), (10, 21 + SECOND))
    assert covered(conn, 5, 8) == 1
    (row,) = asked(conn, 0, 48, market="KXA-1")
    assert row.covered == spans((2, 10))


def test_what_is_covered_already_changes_nothing(open_from_2_to_20: psycopg.Connection[Any]) -> None:
    conn = open_from_2_to_20
    covered(conn, 0, 5)
    before = conn.execute("SELECT xmin, * FROM ops.coverage").fetchall()
    assert covered(conn, 1, 4) == 0
    assert conn.execute("SELECT xmin, * FROM ops.coverage").fetchall() == before


def test_intervals_and_kinds_are_apart(open_from_2_to_20: psycopg.Connection[Any]) -> None:
    conn = open_from_2_to_20
    covered(conn, 0, 48, minutes=60)
    (row,) = asked(conn, 0, 48, minutes=1, market="KXA-1")
    assert row.missing == spans((2, 20 + 61 * SECOND))
    (row,) = asked(conn, 0, 48, minutes=0, market="KXA-1")
    assert row.missing == spans((2, 20 + SECOND))


def test_the_whole_tape_counts_for_each_market(open_from_2_to_20: psycopg.Connection[Any]) -> None:
    conn = open_from_2_to_20
    covered(conn, 0, 10, ticker="", minutes=0)
    covered(conn, 12, 13, ticker="KXA-2", minutes=0)
    first, second = asked(conn, 0, 48, minutes=0)
    assert first.missing == spans((10, 20 + SECOND))
    assert second.missing == spans((10, 12), (13, 20 + SECOND))


@pytest.mark.parametrize(("begin", "end"), [(0, 2), (21 + SECOND, 30), (-10, -5)])
def test_a_market_that_was_not_open_then_is_left_out(
    open_from_2_to_20: psycopg.Connection[Any], begin: float, end: float
) -> None:
    assert asked(open_from_2_to_20, begin, end) == []


def test_filters_choose_by_series_event_and_market(open_from_2_to_20: psycopg.Connection[Any]) -> None:
    conn = open_from_2_to_20
    assert len(asked(conn, 0, 48, series="KX")) == 2
    assert len(asked(conn, 0, 48, event="KXA")) == 2
    assert len(asked(conn, 0, 48, market="KXA-2")) == 1
    assert asked(conn, 0, 48, series="KY") == asked(conn, 0, 48, event="KXB") == asked(conn, 0, 48, market="KXB-1") == []


def test_an_empty_or_unknown_coverage_is_refused(pg: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="coverage_covered_check"), pg.transaction():
        covered(pg, 5, 5)
    with pytest.raises(psycopg.errors.CheckViolation, match="coverage_period_interval_minutes_check"):
        covered(pg, 5, 6, minutes=15)
