"""What was known at a moment: never what came later, never what is too old, and ranges without their end."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND, TICK, book, candle, delta, market, quote, trade

from kalshidb.queries import catalog, market_data

T80, T90 = "KXHIGHNY-26JUL19-T80", "KXHIGHNY-26JUL19-T90"


def known(pg: psycopg.Connection, *pairs: tuple[str, datetime], max_age: timedelta = HOUR) -> list[Any]:
    return market_data.quotes_as_of(
        pg, market_tickers=[ticker for ticker, _ in pairs], decision_times=[moment for _, moment in pairs], max_age=max_age
    )


def bids(rows: list[Any]) -> list[Decimal | None]:
    return [row.yes_bid for row in rows]


def test_a_quote_is_known_from_its_own_moment_on_and_not_before(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(
        pg, [quote(at=NOON, yes_bid=Decimal("0.1")), quote(at=NOON + MINUTE, yes_bid=Decimal("0.2"))]
    )
    rows = known(pg, (T80, NOON - TICK), (T80, NOON), (T80, NOON + MINUTE - TICK), (T80, NOON + MINUTE), (T80, NOON + HOUR))
    assert bids(rows) == [None, Decimal("0.1"), Decimal("0.1"), Decimal("0.2"), Decimal("0.2")]


def test_a_quote_is_forgotten_when_it_is_older_than_max_age(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [quote()])
    at_the_limit, beyond = known(pg, (T80, NOON + HOUR), (T80, NOON + HOUR + TICK))
    assert (at_the_limit.yes_bid, at_the_limit.snapshot_time) == (Decimal("0.4"), NOON)
    assert (beyond.market_ticker, beyond.decision_time, beyond.snapshot_time) == (T80, NOON + HOUR + TICK, None)
    assert (beyond.yes_bid, beyond.yes_ask, beyond.last_price, beyond.implied_probability) == (None, None, None, None)


def test_answers_come_in_the_order_asked_also_for_pairs_asked_twice(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [quote(T80, yes_bid=Decimal("0.1")), quote(T90, yes_bid=Decimal("0.2"))])
    pairs = [(T90, NOON), (T80, NOON), ("KXNEVER", NOON), (T90, NOON), (T80, NOON - DAY), (T80, NOON)]
    rows = known(pg, *pairs)
    assert [(row.market_ticker, row.decision_time) for row in rows] == pairs
    assert [row.position for row in rows] == [1, 2, 3, 4, 5, 6]
    assert bids(rows) == [Decimal("0.2"), Decimal("0.1"), None, Decimal("0.2"), None, Decimal("0.1")]


def test_nothing_asked_is_nothing_answered(pg: psycopg.Connection) -> None:
    assert known(pg) == []


def test_thousands_of_pairs_in_one_call_agree_with_plain_python(pg: psycopg.Connection) -> None:
    chance = random.Random(19)  # noqa: S311
    tickers = [f"KX-{number}" for number in range(20)]
    quotes = {
        (ticker, NOON + chance.randrange(60 * 24 * 60) * MINUTE): Decimal(chance.randrange(45)) / 100
        for ticker in tickers
        for _ in range(60)
    }
    market_data.upsert_price_snapshots(pg, [quote(ticker, at, yes_bid=bid) for (ticker, at), bid in quotes.items()])
    pairs = [(chance.choice(tickers), NOON + chance.randrange(60 * 24 * 60) * MINUTE) for _ in range(5_000)]
    expected = []
    for ticker, moment in pairs:
        seen = [(at, bid) for (of, at), bid in quotes.items() if of == ticker and moment - DAY <= at <= moment]
        expected.append(max(seen)[1] if seen else None)
    assert bids(known(pg, *pairs, max_age=DAY)) == expected


def test_of_two_sources_at_one_moment_one_is_chosen_always_the_same(pg: psycopg.Connection) -> None:
    rows = [quote(source=source) for source in ("websocket", "poll", "backfill")]
    market_data.upsert_price_snapshots(pg, rows)
    assert known(pg, (T80, NOON))[0].source == "backfill"
    assert market_data.latest_snapshot(pg, market_ticker=T80).source == "backfill"  # type: ignore[union-attr]


def test_an_unobserved_price_is_null_and_not_zero(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [quote(yes_bid=None, yes_ask=None, last_price=Decimal(0))])
    (row,) = known(pg, (T80, NOON))
    assert (row.yes_bid, row.last_price, row.snapshot_time) == (None, 0, NOON)


def test_a_decision_time_without_a_zone_is_refused_before_anything_is_sent(pg: psycopg.Connection) -> None:
    from kalshidb.typedsql.errors import ParameterError

    with pytest.raises(ParameterError, match="decision_times has no time zone"):
        known(pg, (T80, NOON.replace(tzinfo=None)))


def test_the_latest_quote_of_each_market_leaves_out_those_without_one(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [quote(T80), quote(T80, NOON + 40 * DAY), quote(T90, NOON - 40 * DAY)])
    rows = market_data.latest_snapshots(pg, market_tickers=[T90, "KXNEVER", T80])
    assert [(row.market_ticker, row.snapshot_time) for row in rows] == [(T80, NOON + 40 * DAY), (T90, NOON - 40 * DAY)]
    assert market_data.latest_snapshot(pg, market_ticker="KXNEVER") is None


def test_freshest_quotes_are_of_open_markets_by_volume(pg: psycopg.Connection) -> None:
    volumes = {"KX-A": Decimal(5), "KX-B": Decimal(50), "KX-C": None}
    catalog.upsert_markets(pg, [market(ticker, volume=volume) for ticker, volume in volumes.items()])
    catalog.upsert_markets(pg, [market("KX-D", status="closed", volume=Decimal(500)), market("KX-E", volume=Decimal(5000))])
    market_data.upsert_price_snapshots(pg, [quote(f"KX-{letter}") for letter in "ABCD"])
    assert [row.market_ticker for row in market_data.freshest_quotes(pg, how_many=10)] == ["KX-B", "KX-A", "KX-C"]
    assert [row.market_ticker for row in market_data.freshest_quotes(pg, how_many=1)] == ["KX-B"]


def test_a_candle_is_known_when_its_period_has_ended(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [candle(end=NOON), candle(end=NOON + HOUR), candle(end=NOON + MINUTE, minutes=1)])

    def ended(moment: datetime) -> datetime | None:
        row = market_data.candlestick_as_of(pg, market_ticker=T80, period_interval_minutes=60, moment=moment)
        return row and row.end_period_ts

    assert [ended(moment) for moment in (NOON - TICK, NOON, NOON + HOUR - TICK, NOON + HOUR, NOON + 90 * DAY)] == [
        None, NOON, NOON, NOON + HOUR, NOON + HOUR,
    ]  # fmt: skip


def test_a_book_is_known_from_its_moment_on(pg: psycopg.Connection) -> None:
    market_data.upsert_orderbook_snapshots(pg, [book(at=NOON), book(at=NOON + SECOND)])

    def seen(moment: datetime) -> datetime | None:
        row = market_data.orderbook_as_of(pg, market_ticker=T80, moment=moment)
        return row and row.snapshot_time

    assert [seen(NOON - TICK), seen(NOON), seen(NOON + SECOND - TICK), seen(NOON + DAY)] == [None, NOON, NOON, NOON + SECOND]


def test_the_last_trade_is_the_last_at_or_before_the_moment(pg: psycopg.Connection) -> None:
    market_data.insert_public_trades(pg, [trade(1), trade(2), trade(3, at=NOON + MINUTE)])

    def last(moment: datetime) -> int | None:
        row = market_data.last_trade_as_of(pg, market_ticker=T80, moment=moment)
        return row and row.trade_id.int

    assert [last(NOON - TICK), last(NOON), last(NOON + MINUTE - TICK), last(NOON + MINUTE)] == [None, 2, 2, 3]


def test_a_version_is_valid_from_its_start_to_before_its_end(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    pg.execute(
        """
        INSERT INTO catalog.market_versions (market_ticker, valid_from, valid_to, status, yes_bid, yes_ask, created_at)
        VALUES (%(t)s, %(a)s, %(b)s, 'initialized', NULL, NULL, now()), (%(t)s, %(b)s, NULL, 'active', 0.4, 0.45, now())
        """,
        {"t": T80, "a": NOON, "b": NOON + HOUR},
    )

    def status(moment: datetime) -> str | None:
        row = catalog.market_version_as_of(pg, market_ticker=T80, moment=moment)
        return row and row.status

    moments = NOON - TICK, NOON, NOON + HOUR - TICK, NOON + HOUR, NOON + 90 * DAY
    assert [status(moment) for moment in moments] == [None, "initialized", "initialized", "active", "active"]
    versions = catalog.versions_of_market(pg, market_ticker=T80)
    assert [(row.row_current_ind, row.spread) for row in versions] == [(False, None), (True, Decimal("0.05"))]
    assert catalog.current_market(pg, market_ticker=T80).yes_bid == Decimal("0.4")  # type: ignore[union-attr]
    with pytest.raises(psycopg.errors.UniqueViolation, match="market_versions_market_ticker_current_key"):
        pg.execute(
            "INSERT INTO catalog.market_versions (market_ticker, valid_from, status, created_at) VALUES (%s, %s, 'closed', now())",
            [T80, NOON + DAY],
        )


def test_a_version_ends_after_it_begins(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    with pytest.raises(psycopg.errors.CheckViolation, match="market_versions_valid_to_check"):
        pg.execute(
            "INSERT INTO catalog.market_versions (market_ticker, valid_from, valid_to, status, created_at)"
            " VALUES (%s, %s, %s, 'active', now())",
            [T80, NOON, NOON],
        )


def test_a_market_without_a_version_is_current_as_last_seen(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    row = catalog.current_market(pg, market_ticker=T80)
    assert row is not None
    assert (row.status, row.last_price, row.yes_bid, row.valid_from) == ("active", Decimal("0.4"), None, None)


START = datetime(2026, 7, 31, tzinfo=UTC)
END = datetime(2026, 8, 2, tzinfo=UTC)
INSIDE = [START, START + TICK, datetime(2026, 8, 1, tzinfo=UTC) - TICK, datetime(2026, 8, 1, tzinfo=UTC), END - TICK]
MOMENTS = [START - TICK, *INSIDE, END]


def test_each_range_has_its_start_and_lacks_its_end(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [candle(end=at) for at in MOMENTS])
    market_data.upsert_price_snapshots(pg, [quote(at=at, volume=Decimal(number)) for number, at in enumerate(MOMENTS)])
    market_data.upsert_orderbook_snapshots(pg, [book(at=at) for at in MOMENTS])
    market_data.insert_orderbook_deltas(pg, [delta(at=at, sequence=number) for number, at in enumerate(MOMENTS)])
    market_data.insert_public_trades(pg, [trade(number, at=at) for number, at in enumerate(MOMENTS)])
    catalog.upsert_markets(pg, [market()])
    span = {"start_ts": START, "end_ts": END, "period_interval_minutes": 60}
    window = {"start_time": START, "end_time": END}
    candles = [
        market_data.candlesticks_between(pg, market_ticker=T80, **span),
        market_data.candlesticks_of_event(pg, event_ticker="KXHIGHNY-26JUL19", **span),
        list(market_data.candlesticks_in_window(pg, **span)),
    ]
    assert [[row.end_period_ts for row in rows] for rows in candles] == [INSIDE] * 3
    for quotes in market_data.snapshots_between(pg, market_ticker=T80, **window), market_data.snapshots_in_window(pg, **window):
        assert [row.snapshot_time for row in quotes] == INSIDE
    for trades in market_data.trades_between(pg, market_ticker=T80, **window), market_data.trades_in_window(pg, **window):
        assert [row.created_time for row in trades] == INSIDE
    assert [row.snapshot_time for row in market_data.orderbooks_between(pg, market_ticker=T80, **window)] == INSIDE
    assert [row.delta_time for row in market_data.orderbook_deltas_between(pg, market_ticker=T80, **window)] == INSIDE


def test_candles_of_other_lengths_and_markets_stay_out(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [candle(T80), candle(T80, minutes=1), candle(T80, minutes=1440), candle(T90)])
    for minutes in (1, 60, 1440):
        rows = market_data.candlesticks_between(
            pg, market_ticker=T80, period_interval_minutes=minutes, start_ts=NOON, end_ts=NOON + TICK
        )
        assert [(row.market_ticker, row.period_interval_minutes) for row in rows] == [(T80, minutes)]


def test_pages_of_markets_show_each_market_once(pg: psycopg.Connection) -> None:
    chance = random.Random(7)  # noqa: S311
    rows = [market(f"KX-{number}", close_time=NOON + chance.randrange(8) * HOUR) for number in range(100)]
    others = [market("KX-X", status="closed"), market("KX-Y", close_time=None)]
    catalog.upsert_markets(pg, [*rows, *others])
    seen: list[tuple[Any, str]] = []
    after: tuple[Any, str] = (datetime.min.replace(tzinfo=UTC), "")
    while page := catalog.markets_by_status(
        pg, status="active", after_close_time=after[0], after_market_ticker=after[1], page_size=7
    ):
        seen += [(row.close_time, row.market_ticker) for row in page]
        after = seen[-1]
    assert seen == sorted((row.close_time, row.market_ticker) for row in rows)


def test_events_of_a_series_by_the_time_they_close(pg: psycopg.Connection) -> None:
    closes = [NOON - TICK, NOON, NOON + HOUR - TICK, NOON + HOUR]
    catalog.upsert_markets(pg, [market(f"E{n}-1", series_ticker="S", close_time=close) for n, close in enumerate(closes)])
    rows = catalog.events_of_series(pg, series_ticker="S", closing_from=NOON, closing_to=NOON + HOUR)
    assert [row.event_ticker for row in rows] == ["E1", "E2"]


def test_a_ladder_of_strikes_comes_out_in_order(pg: psycopg.Connection) -> None:
    strikes = [("less", None, 70), ("between", 70, 71), ("between", 72, 73), ("greater", 74, None)]
    rows = [
        market(f"E1-{number}", strike_type=kind, floor_strike=low and Decimal(low), cap_strike=high and Decimal(high))
        for number, (kind, low, high) in enumerate(strikes)
    ]
    catalog.upsert_markets(pg, rows[::-1])
    assert [row.market_ticker for row in catalog.markets_of_event(pg, event_ticker="E1")] == ["E1-1", "E1-2", "E1-3", "E1-0"]
