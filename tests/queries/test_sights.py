"""Quotes that polls find unchanged: one row, with every moment at which the quote was seen; in any order, batches and company.

The model is a plain dictionary of what was seen when. What the database says is known at a moment, and since when, must equal it.
"""

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND, TICK, market, quote

from kalshidb.migration import migrate, rollback
from kalshidb.models.backtest import TradeInput
from kalshidb.models.market_data import PriceSnapshotInput
from kalshidb.queries import backtest, catalog, market_data, ops, research

T80, T90 = "KXHIGHNY-26JUL19-T80", "KXHIGHNY-26JUL19-T90"
SOURCES = ("backfill", "poll", "websocket")  # in the order in which they are believed at one moment
CENTS = [Decimal("0.10"), Decimal("0.20")]


@dataclass(frozen=True, slots=True)
class Known:
    """What was known at a moment: the bid, from where, and when it was last seen."""

    bid: Decimal | None
    source: str | None
    seen_at: datetime | None


NOTHING = Known(None, None, None)


def model(seen: Iterable[PriceSnapshotInput], ticker: str, moment: datetime, max_age: timedelta) -> Known:
    """What a list of everything that was ever seen says of a moment."""
    known = [row for row in seen if row.market_ticker == ticker and moment - max_age <= row.snapshot_time <= moment]
    if not known:
        return NOTHING
    last = min(known, key=lambda row: (-row.snapshot_time.timestamp(), SOURCES.index(row.source)))
    return Known(last.yes_bid, last.source, last.snapshot_time)


def in_the_database(pg: psycopg.Connection, asked: list[tuple[str, datetime]], max_age: timedelta) -> list[Known]:
    rows = market_data.quotes_as_of(
        pg, market_tickers=[ticker for ticker, _ in asked], decision_times=[moment for _, moment in asked], max_age=max_age
    )
    return [Known(row.yes_bid, row.source, row.seen_at) for row in rows]


def count(pg: psycopg.Connection) -> int:
    return pg.execute("SELECT count(*) FROM market_data.price_snapshots").fetchone()[0]  # type: ignore[index]


def sights(pg: psycopg.Connection) -> list[tuple[Any, ...]]:
    return pg.execute(
        "SELECT yes_bid, snapshot_time, seen_again, retrieved_at FROM market_data.price_snapshots ORDER BY market_ticker, snapshot_time"
    ).fetchall()


def poll(minutes: float, cents: int = 10, ticker: str = T80, **changes: Any) -> PriceSnapshotInput:  # noqa: ANN401
    return quote(ticker, NOON + minutes * MINUTE, yes_bid=Decimal(cents) / 100, **changes)


def at(minutes: float) -> datetime:
    return NOON + minutes * MINUTE


class _UndoError(Exception):
    pass


def undone(pg: psycopg.Connection, check: Callable[[], None]) -> None:
    """Run a check and take back what it wrote."""
    try:
        with pg.transaction():
            check()
            raise _UndoError
    except _UndoError:
        pass


# Few moments and two prices, so that repetitions, returns and polls between two others are the rule; some are hours apart.
minutes = st.integers(0, 8).map(lambda n: n * 7) | st.sampled_from([300, 359, 360, 361, 500])
observations = st.builds(
    lambda ticker, when, bid, source: quote(ticker, at(when), yes_bid=bid, source=source),
    st.sampled_from([T80, T80, T90]), minutes, st.sampled_from(CENTS), st.sampled_from(["poll", "poll", "poll", "websocket"]),
)  # fmt: skip


def one_a_moment(rows: list[PriceSnapshotInput]) -> list[PriceSnapshotInput]:
    return list({(row.market_ticker, row.snapshot_time, row.source): row for row in rows}.values())


def test_any_order_in_any_batches_says_what_was_known_at_every_moment(pg: psycopg.Connection) -> None:
    pg.autocommit = True

    @settings(
        max_examples=60, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip
    @given(st.lists(observations, min_size=1, max_size=14).map(one_a_moment), st.data())
    def same(rows: list[PriceSnapshotInput], data: st.DataObject) -> None:
        cuts = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))

        def check() -> None:
            batches: list[list[PriceSnapshotInput]] = [[]]
            for row, cut in zip(rows, cuts, strict=True):
                batches[-1].append(row)
                if cut:
                    batches.append([])
            counted = sum(market_data.upsert_price_snapshots(pg, batch).written for batch in batches)
            assert counted <= len(rows)
            moments = {
                moment for row in rows for moment in (row.snapshot_time - TICK, row.snapshot_time, row.snapshot_time + TICK)
            }
            asked = [(ticker, moment) for ticker in (T80, T90) for moment in sorted(moments | {at(900)})]
            for max_age in (timedelta(0), 10 * MINUTE, DAY):
                assert in_the_database(pg, asked, max_age) == [model(rows, *pair, max_age) for pair in asked]
            stored = sights(pg)
            assert sum(1 + len(again or []) for _, _, again, _ in stored) == len(rows), "each sight once"
            assert sum(market_data.upsert_price_snapshots(pg, batch).written for batch in batches) == 0, "twice is once"
            assert sights(pg) == stored
            for ticker in {row.market_ticker for row in rows}:
                (latest,) = market_data.latest_snapshots(pg, market_tickers=[ticker])
                assert latest == market_data.latest_snapshot(pg, market_ticker=ticker)
                last = model(rows, ticker, at(900), DAY)
                seen_at = latest.seen_again[-1] if latest.seen_again else latest.snapshot_time
                assert Known(latest.yes_bid, latest.source, seen_at) == last

        undone(pg, check)

    same()


@pytest.mark.parametrize("seed", range(5))
def test_what_was_retrieved_last_of_a_moment_counts_also_with_payloads_and_over_the_end_of_a_month(
    pg: psycopg.Connection, seed: int
) -> None:
    pg.autocommit = True
    chance = random.Random(seed)  # noqa: S311
    evening = datetime(2026, 10, 31, 22, tzinfo=UTC)
    seen: dict[tuple[datetime, str], list[PriceSnapshotInput]] = {}
    for _ in range(20):
        batch = []
        for _ in range(chance.randint(1, 4)):
            moment = evening + chance.choice([0, 7, 14, 21, 60, 119, 120, 121, 300, 359, 360, 361, 367]) * MINUTE
            payload = {"raw_json": {"a": 1}} if chance.random() < 0.15 else {}
            source, later = chance.choice(["poll"] * 4 + ["websocket"]), chance.choice([0, 0, 0, 5, 9]) * SECOND
            batch.append(quote(T80, moment, yes_bid=chance.choice(CENTS), source=source, retrieved_at=moment + later, **payload))
            seen.setdefault((moment, source), []).append(batch[-1])
        market_data.upsert_price_snapshots(pg, batch)
    asked = [(T80, moment + offset) for moment, _ in sorted(seen) for offset in (-TICK, timedelta(0), TICK)]
    for max_age in (timedelta(0), 10 * MINUTE, DAY):
        for (_, moment), found in zip(asked, in_the_database(pg, asked, max_age), strict=True):
            known = [key for key in seen if moment - max_age <= key[0] <= moment]
            if not known:
                assert found == NOTHING
                continue
            last = min(known, key=lambda key: (-key[0].timestamp(), SOURCES.index(key[1])))
            newest = max(row.retrieved_at for row in seen[last])
            assert (found.seen_at, found.source) == last
            # Of two that were retrieved at once either may stand.
            assert found.bid in {row.yes_bid for row in seen[last] if row.retrieved_at == newest}


def test_polls_in_their_order_need_one_row_for_each_change(pg: psycopg.Connection) -> None:
    results = [market_data.upsert_price_snapshots(pg, [poll(15 * n, cents)]) for n, cents in enumerate([10, 10, 10, 20, 20, 10])]
    assert [(result.written, result.unchanged) for result in results] == [(1, 0), (0, 1), (0, 1), (1, 0), (0, 1), (1, 0)]
    assert sights(pg) == [
        (CENTS[0], at(0), [at(15), at(30)], at(0)), (CENTS[1], at(45), [at(60)], at(45)), (CENTS[0], at(75), None, at(75)),
    ]  # fmt: skip


def test_a_poll_without_changes_writes_no_index_entry_where_there_is_room(pg: psycopg.Connection) -> None:
    """What makes it cheap: no column of an index changes, and pages have room, so the new state of a row stays on its page."""
    pg.autocommit = True
    tickers = [f"KX-{number}" for number in range(300)]
    for number in range(4):
        seen = at(15 * number)
        catalog.upsert_markets(pg, [market(ticker, retrieved_at=seen) for ticker in tickers])
        market_data.upsert_price_snapshots(pg, [quote(ticker, seen) for ticker in tickers])
    pg.execute("SELECT pg_stat_force_next_flush()")
    for table, least in (("markets", 0.7), ("price_snapshots_2026_07", 0.4)):
        updated, in_place = pg.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s", [table]
        ).fetchone()  # type: ignore[misc]
        assert updated == 900
        assert in_place / updated > least, table


def test_a_different_quote_that_comes_late_parts_the_row_and_each_sight_stays_where_it_was(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [poll(minute) for minute in (0, 15, 30, 45)])
    result = market_data.upsert_price_snapshots(pg, [poll(20, 20)])
    assert (result.received, result.written, result.unchanged) == (1, 1, 0)
    assert sights(pg) == [
        (CENTS[0], at(0), [at(15)], at(0)), (CENTS[1], at(20), None, at(20)), (CENTS[0], at(30), [at(45)], at(30)),
    ]  # fmt: skip


def test_a_row_holds_no_sight_of_more_than_six_hours_later_and_no_more_than_48(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [poll(0)])
    market_data.upsert_price_snapshots(pg, [poll(359), poll(360)])
    assert [(first, again) for _, first, again, _ in sights(pg)] == [(at(0), [at(359)]), (at(360), None)]
    for number in range(60):
        market_data.upsert_price_snapshots(pg, [poll(number / 10, ticker=T90)])
    assert [len(again) for _, _, again, _ in sights(pg)[-2:]] == [48, 10]


def test_a_sight_lies_in_its_own_month(pg: psycopg.Connection) -> None:
    midnight = datetime(2026, 8, 1, tzinfo=UTC)
    market_data.upsert_price_snapshots(pg, [quote(T80, midnight + n * MINUTE) for n in (-2, -1, 0, 1)])
    assert [(first, again) for _, first, again, _ in sights(pg)] == [
        (midnight - 2 * MINUTE, [midnight - MINUTE]), (midnight, [midnight + MINUTE]),
    ]  # fmt: skip


def test_a_night_without_polls_is_a_gap_and_no_sight(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [poll(0), poll(300)])
    asked = [(T80, at(10)), (T80, at(200)), (T80, at(299)), (T80, at(300))]
    assert in_the_database(pg, asked, HOUR) == [
        Known(CENTS[0], "poll", at(0)), NOTHING, NOTHING, Known(CENTS[0], "poll", at(300)),
    ]  # fmt: skip


def test_a_poll_with_a_payload_or_retrieved_later_has_a_row_of_its_own(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [poll(0), poll(15), poll(30)])
    market_data.upsert_price_snapshots(pg, [poll(45, raw_json={"ticker": T80}), poll(60, retrieved_at=at(70))])
    assert [first for _, first, _, _ in sights(pg)] == [at(0), at(45), at(60)]
    # Also for a moment that was only a sight: the payload is kept, the later retrieval counts.
    assert market_data.upsert_price_snapshots(pg, [poll(15, raw_json={"ticker": T80})]).written == 1
    assert market_data.upsert_price_snapshots(pg, [poll(30, 20, retrieved_at=at(80))]).written == 1
    assert [(first, again) for _, first, again, _ in sights(pg)][:3] == [(at(0), None), (at(15), None), (at(30), None)]
    assert market_data.upsert_price_snapshots(pg, [poll(30, 10), poll(15, 20)]).written == 0, "what was retrieved first stays"


def test_the_content_of_a_row_that_is_replaced_stays_with_its_sights(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [poll(0), poll(15), poll(30)])
    assert market_data.upsert_price_snapshots(pg, [poll(0, 20, retrieved_at=at(50))]).written == 1
    assert sights(pg) == [(CENTS[1], at(0), None, at(50)), (CENTS[0], at(15), [at(30)], at(15))]


@pytest.mark.parametrize("again", [["2026-07-19 12:00Z"], ["2026-07-19 18:00:01Z"], [None]])
def test_the_table_refuses_sights_that_reads_would_not_find(pg: psycopg.Connection, again: list[str | None]) -> None:
    market_data.upsert_price_snapshots(pg, [poll(0)])
    with pytest.raises(psycopg.errors.CheckViolation):
        pg.execute("UPDATE market_data.price_snapshots SET seen_again = %s::timestamptz[]", [again])


def test_four_writers_of_the_same_markets_lose_no_sight(database_url: str) -> None:
    """Each poll is written by two of four writers, in an order of their own; what is known afterwards is what was seen."""
    chance = random.Random(8)  # noqa: S311
    tickers = [f"KX-{number}" for number in range(12)]
    rows = [poll(5 * n, chance.choice([10, 10, 10, 20]), ticker) for ticker in tickers for n in range(24)]
    polls = [[row for row in rows if row.snapshot_time == at(5 * n)] for n in range(24)]
    errors: list[BaseException] = []

    def work(writer: int) -> None:
        mine = [part for number, part in enumerate(polls) if writer in (number % 4, (number + 1) % 4)]
        random.Random(writer).shuffle(mine)  # noqa: S311
        try:
            with psycopg.connect(database_url, autocommit=True) as conn:
                conn.execute("SET deadlock_timeout = '50ms'")
                for part in mine:
                    market_data.upsert_price_snapshots(conn, random.Random(writer).sample(part, len(part)))  # noqa: S311
        except BaseException as error:
            errors.append(error)

    with psycopg.connect(database_url, autocommit=True) as conn:
        catalog.upsert_markets(conn, [market(ticker) for ticker in tickers])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert errors == []
        asked = [(ticker, at(5 * n + 1)) for ticker in tickers for n in range(25)]
        for max_age in (2 * MINUTE, DAY):
            assert in_the_database(conn, asked, max_age) == [model(rows, *pair, max_age) for pair in asked]
        assert sum(1 + len(again or []) for _, _, again, _ in sights(conn)) == len(rows)


def test_what_reads_prices_counts_the_sights(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market(T80, close_time=at(60))])
    market_data.upsert_price_snapshots(
        pg, [poll(0), poll(15), poll(30), quote(T80, at(20), source="websocket", yes_bid=CENTS[1])]
    )
    (before,) = market_data.prices_before_close(pg, market_tickers=[T80], before_close=20 * MINUTE, max_age=15 * MINUTE)
    assert (before.yes_bid, before.snapshot_time, before.seen_at) == (CENTS[0], at(0), at(30))
    (now,) = market_data.prices_of_open_markets(pg, seen_since=at(25))
    assert (now.yes_bid, now.seen_at) == (CENTS[0], at(30))
    (fresh,) = market_data.freshest_quotes(pg, how_many=1)
    assert (fresh.yes_bid, fresh.snapshot_time, fresh.seen_at) == (CENTS[0], at(0), at(30))
    (latest,) = market_data.latest_snapshots(pg, market_tickers=[T80])
    assert latest.seen_again == [at(15), at(30)]
    assert latest == market_data.latest_snapshot(pg, market_ticker=T80)
    spread = market_data.spread_over_time(pg, market_ticker=T80, width=10 * MINUTE, start_time=at(10), end_time=at(40))
    assert [(row.interval_start, row.observations) for row in spread] == [(at(10), 1), (at(20), 1), (at(30), 1)]
    moved = market_data.biggest_movers(pg, from_time=at(22), to_time=at(31), max_age=5 * MINUTE, how_many=1)
    assert [(row.probability_before, row.probability_after) for row in moved] == [(Decimal("0.32"), Decimal("0.27"))]
    freshness = {row.table_name: row.latest_at for row in ops.data_freshness(pg)}
    assert freshness["market_data.price_snapshots"] == at(30)
    counts = {row.part: row.latest for row in ops.store_counts(pg)}
    assert counts["price snapshots"] == at(30)


def test_policies_count_the_sights_too_and_the_audit_agrees(pg: psycopg.Connection) -> None:
    policy = {
        "name": "Polls", "description": "What the collector had.", "period_interval_minutes": 1, "quote_lag": MINUTE,
        "max_age": 10 * MINUTE, "retrieved_within": SECOND, "forecast_lag": timedelta(0), "rules": {},
    }  # fmt: skip
    research.insert_asof_policy(pg, asof_policy_id="polls", **policy)  # type: ignore[arg-type]
    catalog.upsert_markets(pg, [market(T80)])
    market_data.upsert_price_snapshots(pg, [poll(0, retrieved_at=at(5)), poll(15), poll(30)])
    early, later = market_data.snapshots_known_at(
        pg, market_tickers=[T80] * 2, decision_times=[at(9), at(31)], asof_policy_id="polls"
    )
    assert (early.seen_at, later.snapshot_time, later.seen_at) == (None, at(0), at(30)), "its first sight reached us too late"
    run = backtest.begin_run(
        pg, run_id=None, strategy_name="fade", strategy_version="1.0", strategy_id=None, git_sha="f5cd139", random_seed=7,
        config_yaml="", date_start_local=NOON.date(), date_end_local=NOON.date(), series_tickers=[], asof_policy_id="polls",
        trade_window_policy="always", metadata={},
    )  # fmt: skip
    trades = [
        TradeInput.model_validate(
            {
                "trade_id": UUID(int=number), "run_id": run.run_id, "market_ticker": T80, "event_ticker": "KXHIGHNY-26JUL19",
                "series_ticker": "KXHIGHNY", "decision_ts": decision, "side": "buy_yes", "qty": 1, "entry_price": "0.44",
                "entry_fee": "0", "entry_time": decision, "entry_snapshot_time": at(0), "entry_snapshot_source": "poll",
                "signal_metadata": {},
            }
        )
        for number, decision in enumerate([at(9), at(31), at(41)], 1)
    ]  # fmt: skip
    backtest.insert_trades(pg, trades)
    assert [(row.trade_id.int, row.problem) for row in backtest.leakage(pg, run_id=run.run_id)] == [
        (1, "the quote reached us too late: retrieved_within"), (3, "the quote was too old: max_age"),
    ]  # fmt: skip
    market_data.upsert_price_snapshots(pg, [poll(1, 20)])
    decisions = [at(1), at(9), at(16), at(25), at(25) + TICK, at(31), at(40), at(40) + TICK]
    rows = market_data.snapshots_known_at(
        pg, market_tickers=[T80] * len(decisions), decision_times=decisions, asof_policy_id="polls"
    )
    first, again = at(15), at(30)
    assert [(row.snapshot_time, row.seen_at) for row in rows] == [
        (None, None), (at(1), at(1)), (first, first), (first, first), (None, None), (first, again), (first, again), (None, None),
    ]  # fmt: skip


def test_taking_the_migration_back_makes_each_sight_a_row(database_url: str) -> None:
    """And forward again: what was filed under one row is found in rows of its own, as before there were sights."""
    rows = [poll(minute, cents, ticker) for ticker in (T80, T90) for minute, cents in ((0, 10), (15, 10), (30, 20), (45, 20))]
    asked = [(ticker, at(minute)) for ticker in (T80, T90) for minute in range(0, 50, 5)]
    with psycopg.connect(database_url, autocommit=True) as conn:
        market_data.upsert_price_snapshots(conn, rows)
        assert count(conn) == 4
        rollback(database_url, to="0025.gaps-are-what-never-came", allow_data_loss=True)
        assert count(conn) == 8
        migrate(database_url)
        assert in_the_database(conn, asked, HOUR) == [model(rows, *pair, HOUR) for pair in asked]
