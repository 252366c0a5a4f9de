"""The order book of any moment: rebuilt from snapshot and changes where the stream was whole, and honest where it was not."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from kalshidb.models.market_data import OrderbookAtRow, OrderbookDelta, OrderbookSnapshotInput
from kalshidb.queries import market_data, ops

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
TICKER = "KXRAIN-26NOV01-NY"
Levels = Sequence[tuple[str, str]]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def snapshot(
    conn: psycopg.Connection[Any], seconds: float, sequence: int | None, yes: Levels = (), no: Levels = (), sid: int = 1
) -> None:
    row = OrderbookSnapshotInput(
        market_ticker=TICKER,
        snapshot_time=at(seconds),
        source="poll" if sequence is None else "websocket",
        sid=None if sequence is None else sid,
        sequence=sequence,
        yes_bid_prices=[Decimal(price) for price, _ in yes],
        yes_bid_quantities=[Decimal(quantity) for _, quantity in yes],
        no_bid_prices=[Decimal(price) for price, _ in no],
        no_bid_quantities=[Decimal(quantity) for _, quantity in no],
        retrieved_at=at(seconds),
    )
    market_data.upsert_orderbook_snapshots(conn, [row])


def delta(
    conn: psycopg.Connection[Any],
    seconds: float,
    sequence: int,
    price: str,
    change: str,
    *,
    side: str = "yes",
    sid: int = 1,
    arrived: float | None = None,
) -> None:
    row = OrderbookDelta(
        market_ticker=TICKER,
        delta_time=at(seconds),
        sequence=sequence,
        sid=sid,
        side=side,  # type: ignore[arg-type]
        price=Decimal(price),
        delta=Decimal(change),
        retrieved_at=at(seconds + 0.1 if arrived is None else arrived),
    )
    market_data.insert_orderbook_deltas(conn, [row])


def heard(conn: psycopg.Connection[Any], begin: float, end: float) -> None:
    ops.extend_coverage(
        conn,
        market_tickers=[TICKER],
        kind="orderbook",
        period_interval_minutes=0,
        covered_from=at(begin),
        covered_until=at(end),
        run_id=None,
    )


def book(conn: psycopg.Connection[Any], seconds: float) -> OrderbookAtRow:
    return market_data.orderbook_at(conn, market_ticker=TICKER, moment=at(seconds))


def yes(row: OrderbookAtRow) -> list[tuple[str, str]]:
    pairs = zip(row.yes_bid_prices or (), row.yes_bid_quantities or (), strict=True)
    return [(f"{price:.2f}", f"{quantity:.0f}") for price, quantity in pairs]


@pytest.fixture
def streamed(pg: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A snapshot, three changes, and a stream that was heard for a minute."""
    snapshot(pg, 0, 1, yes=[("0.40", "10"), ("0.41", "5")], no=[("0.55", "7")])
    delta(pg, 10, 2, "0.42", "3")
    delta(pg, 20, 3, "0.41", "-5")
    delta(pg, 30, 4, "0.55", "-2", side="no")
    heard(pg, 0, 60)
    return pg


def test_a_book_is_the_snapshot_and_the_changes_until_then(streamed: psycopg.Connection[Any]) -> None:
    assert yes(book(streamed, 5)) == [("0.40", "10"), ("0.41", "5")]
    assert yes(book(streamed, 10)) == [("0.40", "10"), ("0.41", "5"), ("0.42", "3")]
    last = book(streamed, 59)
    assert yes(last) == [("0.40", "10"), ("0.42", "3")]
    assert (last.no_bid_prices, last.no_bid_quantities) == ([Decimal("0.55")], [Decimal(5)])
    assert (last.status, last.as_of, last.source, last.earliest) == ("known", at(59), "websocket", None)


def test_where_the_stream_broke_off_the_book_is_the_last_that_was_seen(streamed: psycopg.Connection[Any]) -> None:
    delta(streamed, 70, 9, "0.43", "1")  # arrived after a gap: what came before it is not known
    found = book(streamed, 80)
    assert (found.status, found.as_of) == ("last_seen", at(60))
    assert yes(found) == [("0.40", "10"), ("0.42", "3")]


def test_the_moment_at_which_the_stream_broke_off_is_not_known_any_more(streamed: psycopg.Connection[Any]) -> None:
    delta(streamed, 60, 5, "0.43", "1")  # of the same moment: heard or not, a span ends before its bound
    found = book(streamed, 60)
    assert (found.status, found.as_of) == ("last_seen", at(60))
    assert yes(found) == [("0.40", "10"), ("0.42", "3")]
    snapshot(streamed, 60, None, yes=[("0.20", "2")])  # unless it was polled just then
    found = book(streamed, 60)
    assert (found.status, found.source, yes(found)) == ("known", "poll", [("0.20", "2")])


def test_before_anything_was_seen_the_answer_says_from_when_on(streamed: psycopg.Connection[Any]) -> None:
    found = book(streamed, -1)
    assert (found.status, found.as_of, found.source, found.yes_bid_prices, found.earliest) == ("none", None, None, None, at(0))


def test_of_a_market_that_was_never_seen_there_is_nothing(pg: psycopg.Connection[Any]) -> None:
    found = book(pg, 0)
    assert (found.status, found.earliest, found.yes_bid_prices, found.no_bid_quantities) == ("none", None, None, None)


def test_an_empty_book_is_known_and_empty(pg: psycopg.Connection[Any]) -> None:
    snapshot(pg, 0, 1, yes=[("0.40", "10")])
    delta(pg, 1, 2, "0.40", "-10")
    heard(pg, 0, 10)
    found = book(pg, 5)
    assert (found.status, found.yes_bid_prices, found.no_bid_prices, found.no_bid_quantities) == ("known", [], [], [])


def test_a_stream_that_is_whole_is_preferred_to_an_older_poll_and_a_newer_poll_to_one_that_broke_off(
    streamed: psycopg.Connection[Any],
) -> None:
    snapshot(streamed, 15, None, yes=[("0.10", "1")])
    assert book(streamed, 40).source == "websocket"
    snapshot(streamed, 70, None, yes=[("0.20", "2")])
    found = book(streamed, 80)
    assert (found.status, found.source, found.as_of, yes(found)) == ("last_seen", "poll", at(70), [("0.20", "2")])
    assert book(streamed, 70).status == "known"  # seen at that very moment
    assert book(streamed, 65).as_of == at(60)


def test_a_polled_book_is_the_last_seen_until_the_next(pg: psycopg.Connection[Any]) -> None:
    snapshot(pg, 0, None, yes=[("0.40", "10")])
    found = book(pg, 500)
    assert (found.status, found.source, found.as_of) == ("last_seen", "poll", at(0))


def test_a_connection_that_counts_anew_with_the_same_numbers_is_not_mixed_in(streamed: psycopg.Connection[Any]) -> None:
    # The second connection has the same subscription number, and numbers that go on where the first one's ended.
    snapshot(streamed, 100, 1, yes=[("0.50", "1")])
    delta(streamed, 110, 5, "0.51", "4")
    heard(streamed, 100, 120)
    assert yes(book(streamed, 59)) == [("0.40", "10"), ("0.42", "3")]
    assert yes(book(streamed, 80)) == [("0.40", "10"), ("0.42", "3")]
    assert yes(book(streamed, 115)) == [("0.50", "1"), ("0.51", "4")]


def test_changes_of_the_connection_before_do_not_count_though_their_numbers_are_larger(pg: psycopg.Connection[Any]) -> None:
    snapshot(pg, 0, 1, yes=[("0.40", "10")])
    delta(pg, 10, 500, "0.41", "5")
    heard(pg, 0, 20)
    # Reconnected at once; the exchange's clock and ours are not quite the same.
    snapshot(pg, 9.9, 1, yes=[("0.40", "10"), ("0.41", "5")], sid=1)
    assert yes(book(pg, 15)) == [("0.40", "10"), ("0.41", "10")]  # numbered after it, it came after it
    pg.execute("UPDATE market_data.orderbook_deltas SET retrieved_at = %s", [at(9.8)])
    assert yes(book(pg, 15)) == [("0.40", "10"), ("0.41", "5")]


def test_numbers_count_and_not_clocks(pg: psycopg.Connection[Any]) -> None:
    # The snapshot took a while to arrive: a change with an earlier time is not in it, and one with a later number comes after it.
    snapshot(pg, 10, 3, yes=[("0.40", "10")])
    delta(pg, 9.5, 4, "0.41", "5", arrived=10.2)
    heard(pg, 10, 20)
    assert yes(book(pg, 12)) == [("0.40", "10"), ("0.41", "5")]


def test_a_snapshot_within_the_same_count_ends_nothing(streamed: psycopg.Connection[Any]) -> None:
    snapshot(streamed, 40, 6, yes=[("0.40", "10"), ("0.42", "3"), ("0.44", "1")], no=[("0.55", "5")])
    delta(streamed, 39.9, 5, "0.44", "1", arrived=39.95)
    delta(streamed, 39.97, 7, "0.45", "1", arrived=40.05)
    assert yes(book(streamed, 39.98))[-2:] == [("0.44", "1"), ("0.45", "1")]
    assert yes(book(streamed, 41))[-2:] == [("0.44", "1"), ("0.45", "1")]


def test_one_side_of_the_exchange_may_be_a_month_before(pg: psycopg.Connection[Any]) -> None:
    snapshot(pg, -20 * 86_400, 1, yes=[("0.40", "10")])
    for day in range(20):
        delta(pg, -day * 86_400, 100 - day, "0.40", "1")
    heard(pg, -20 * 86_400, 60)
    assert yes(book(pg, 1)) == [("0.40", "30")]
