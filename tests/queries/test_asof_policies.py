"""The read path of a backtest: what a policy lets be known at each of many moments, never more, by one look into an index each."""

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import RawCursor
from sample_rows import DAY, HOUR, MINUTE, NOON, TICK, candle, quote

from kalshidb.models.market_data import Candlestick
from kalshidb.queries import STATEMENTS, market_data, research
from kalshidb.typedsql import ParameterError

T80, T90 = "KXHIGHNY-26JUL19-T80", "KXHIGHNY-26JUL19-T90"


def minute(end: datetime, bid: str = "0.4", **changes: Any) -> Candlestick:  # noqa: ANN401
    row = {"minutes": 1, "yes_bid_close": Decimal(bid), "yes_ask_close": Decimal("0.9"), "retrieved_at": end + DAY}
    return candle(changes.pop("ticker", T80), end, **(row | changes))


def bids(pg: psycopg.Connection, *moments: datetime, policy: str = "candle_close_1m") -> list[Decimal | None]:
    rows = market_data.quotes_known_at(pg, market_tickers=[T80] * len(moments), decision_times=moments, asof_policy_id=policy)
    assert [row.position for row in rows] == list(range(1, len(moments) + 1))
    return [row.yes_bid for row in rows]


def test_the_last_close_at_or_before_the_decision_is_known_and_nothing_later(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [minute(NOON, "0.4"), minute(NOON + MINUTE, "0.5")])
    asked = [NOON - TICK, NOON, NOON + MINUTE - TICK, NOON + MINUTE, NOON + HOUR]
    assert bids(pg, *asked) == [None, Decimal("0.4"), Decimal("0.4"), Decimal("0.5"), Decimal("0.5")]


def test_a_quote_is_known_after_its_lag_and_until_its_age(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [minute(NOON)])
    asked = [NOON + MINUTE - TICK, NOON + MINUTE, NOON + HOUR, NOON + HOUR + TICK]
    assert bids(pg, *asked, policy="candle_close_1m_lag_1m") == [None, Decimal("0.4"), Decimal("0.4"), None]


def test_only_candlesticks_of_the_policys_length_count(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(
        pg, [minute(NOON, "0.4", minutes=60), minute(NOON, "0.3", minutes=1440), minute(NOON - HOUR, "0.2")]
    )
    assert bids(pg, NOON, policy="candle_close_60m") == [Decimal("0.4")]
    assert bids(pg, NOON) == [Decimal("0.2")]


def test_a_candlestick_fetched_before_its_end_has_no_close(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [minute(NOON - MINUTE, "0.3"), minute(NOON, "0.4", retrieved_at=NOON - TICK)])
    assert bids(pg, NOON) == [Decimal("0.3")]


def test_a_policy_may_leave_out_what_reached_us_later(pg: psycopg.Connection) -> None:
    research.insert_asof_policy(
        pg, asof_policy_id="live", name="Live", description="What the collector had.", period_interval_minutes=1, quote_lag=timedelta(0),
        max_age=HOUR, retrieved_within=MINUTE, forecast_lag=timedelta(0), rules={},
    )  # fmt: skip
    live, late = minute(NOON - MINUTE, "0.3", retrieved_at=NOON), minute(NOON, "0.4", retrieved_at=NOON + MINUTE + TICK)
    market_data.upsert_candlesticks(pg, [live, late])
    assert bids(pg, NOON, policy="live") == [Decimal("0.3")]
    assert bids(pg, NOON) == [Decimal("0.4")]


def test_an_unknown_policy_is_an_error_that_names_those_that_there_are(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.NoDataFound, match="there is no as-of policy 'clairvoyance'") as refused:
        bids(pg, NOON, policy="clairvoyance")
    assert "candle_close_1m, candle_close_1m_lag_1m, candle_close_60m" in (refused.value.diag.message_hint or "")


@pytest.mark.parametrize("read", ["quotes_known_at", "snapshots_known_at", "quotes_as_of"])
def test_lists_of_unequal_length_are_refused_and_it_is_said_why(pg: psycopg.Connection, read: str) -> None:
    limit: dict[str, Any] = {"max_age": HOUR} if read == "quotes_as_of" else {"asof_policy_id": "candle_close_1m"}
    with pytest.raises(ParameterError, match=r"market_tickers \(2\) and decision_times \(1\) have unequal lengths"):
        getattr(market_data, read)(pg, market_tickers=[T80, T90], decision_times=[NOON], **limit)
    assert getattr(market_data, read)(pg, market_tickers=[], decision_times=[], **limit) == []


def test_observed_quotes_are_known_by_the_same_rules(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(
        pg,
        [
            quote(at=NOON, yes_bid=Decimal("0.3")),
            quote(at=NOON, source="websocket"),
            quote(at=NOON + MINUTE, yes_bid=Decimal("0.2")),
        ],
    )
    asked = [NOON, NOON + MINUTE, NOON + 2 * MINUTE, NOON + 2 * HOUR]
    rows = market_data.snapshots_known_at(
        pg, market_tickers=[T80] * 4, decision_times=asked, asof_policy_id="candle_close_1m_lag_1m"
    )
    found = [(row.snapshot_time, row.source, row.yes_bid) for row in rows]
    assert found == [
        (None, None, None),
        (NOON, "poll", Decimal("0.3")),
        (NOON + MINUTE, "poll", Decimal("0.2")),
        (None, None, None),
    ]


def test_a_day_of_a_policy_has_24_hours_whatever_the_sessions_zone(pg: psycopg.Connection) -> None:
    """In New York the 2nd of November 2025 follows a day of 25 hours."""
    pg.execute("SET timezone = 'America/New_York'")
    end = datetime(2025, 11, 1, 16, tzinfo=UTC)
    market_data.upsert_candlesticks(pg, [minute(end, minutes=60)])
    assert bids(pg, end + DAY, end + DAY + TICK, policy="candle_close_60m") == [Decimal("0.4"), None]


def test_what_is_known_is_what_plain_python_finds(pg: psycopg.Connection) -> None:
    chance = random.Random(23)  # noqa: S311
    stored: dict[tuple[str, datetime], Candlestick] = {}
    for _ in range(600):
        end = datetime(2026, 6, 28, tzinfo=UTC) + chance.randrange(5 * 1440) * MINUTE  # over the end of a month
        early = chance.random() < 0.1
        row = minute(end, str(Decimal(chance.randrange(100)) / 100), ticker=chance.choice([T80, T90]),
                     retrieved_at=end + (-SMALL if early else SMALL))  # fmt: skip
        stored[row.market_ticker, end] = row
    market_data.upsert_candlesticks(pg, stored.values())
    pairs = [
        (chance.choice([T80, T90, "KX-NONE"]), datetime(2026, 6, 28, tzinfo=UTC) + chance.random() * 6 * DAY) for _ in range(800)
    ]
    rows = market_data.quotes_known_at(
        pg, market_tickers=[t for t, _ in pairs], decision_times=[at for _, at in pairs], asof_policy_id="candle_close_1m_lag_1m"
    )
    for (ticker, at), found in zip(pairs, rows, strict=True):
        known = [
            row for (name, end), row in stored.items()
            if name == ticker and end + MINUTE <= at and at - end <= HOUR and row.retrieved_at >= end
        ]  # fmt: skip
        last = max(known, key=lambda row: row.end_period_ts, default=None)
        assert (found.market_ticker, found.decision_time) == (ticker, at)
        assert (found.end_period_ts, found.yes_bid) == ((last.end_period_ts, last.yes_bid_close) if last else (None, None))
    assert {row.yes_bid is None for row in rows} == {True, False}


SMALL = timedelta(seconds=5)


@pytest.mark.parametrize("generic", [False, True])
def test_each_pair_is_one_look_into_the_index_of_its_month(pg: psycopg.Connection, generic: bool) -> None:
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 9)]
    market_data.upsert_candlesticks(
        pg, [minute(month + n * HOUR, minutes=60, ticker=f"KX-{m}") for month in months for n in range(1, 60) for m in range(10)]
    )
    pg.execute("ANALYZE")
    july = months[6]
    tickers, moments = [f"KX-{n % 10}" for n in range(200)], [july + (1 + n % 50) * HOUR for n in range(200)]
    with RawCursor(pg) as cursor:
        cursor.execute(f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan".encode())
        cursor.execute(
            b"PREPARE asked (text[], timestamptz[], text) AS " + STATEMENTS["market_data.quotes_known_at"].sql.encode()
        )
        given = f"'{{{','.join(tickers)}}}', '{{{','.join(at.isoformat() for at in moments)}}}', 'candle_close_60m'"
        cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) EXECUTE asked ({given})".encode())
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert not re.search(r"Seq Scan on candlesticks", plan), plan
    touched = {
        month: (float(rows), int(loops))
        for month, rows, loops in re.findall(
            r"Index[^\n]* on candlesticks_(2026_\d\d) [^\n]*\(actual rows=([\d.]+) loops=(\d+)", plan
        )
    }
    # A day back from the first hours of July lies in June, which is asked only where July has nothing.
    assert set(touched) <= {"2026_06", "2026_07"}, plan
    rows, loops = touched["2026_07"]
    assert (rows, loops) == (1, 200), plan
    assert touched.get("2026_06", (0, 0))[1] == 0, plan
