"""What AI cost, how long data stays, how large and how fresh the store is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql
from sample_rows import DAY, HOUR, NOON, SECOND, TICK, candle, market, quote, trade

from kalshidb.postgres import connect
from kalshidb.queries import catalog, market_data, ops

JULY19 = NOON.date()
MIDNIGHT = datetime(2026, 7, 20, tzinfo=UTC)


def call(pg: psycopg.Connection, call_id: str, cost: str = "0.05", provider: str = "xai", at: datetime = NOON) -> int:
    return ops.add_ai_call(pg, provider=provider, call_id=call_id, called_at=at, cost=Decimal(cost))


def analyse(pg: psycopg.Connection, cost: str, provider: str = "xai", at: datetime = NOON) -> None:
    catalog.upsert_markets(pg, [market()])
    pg.execute(
        "INSERT INTO research.market_analyses (market_ticker, analyzed_at, ai_provider, cost) VALUES (%s, %s, %s, %s)",
        ["KXHIGHNY-26JUL19-T80", at, provider, Decimal(cost)],
    )


def test_calls_add_up_by_their_utc_day_and_a_retry_counts_once(pg: psycopg.Connection) -> None:
    pg.execute("SET timezone = 'America/New_York'")
    added = [
        call(pg, "a"),
        call(pg, "b", "0.000001"),
        call(pg, "a"),
        call(pg, "a", provider="openai"),
        call(pg, "c", at=MIDNIGHT),
    ]
    assert added == [1, 1, 0, 1, 1]
    days = [
        (row.date_, row.provider, row.total_cost, row.num_calls)
        for row in ops.ai_cost_by_day(pg, from_date=JULY19, to_date=date(2026, 7, 21))
    ]
    assert days == [
        (JULY19, "openai", Decimal("0.05"), 1),
        (JULY19, "xai", Decimal("0.050001"), 2),
        (date(2026, 7, 20), "xai", Decimal("0.05"), 1),
    ]
    assert len(ops.ai_calls_between(pg, start_time=NOON, end_time=MIDNIGHT)) == 3
    assert ops.forget_ai_calls(pg, called_before=MIDNIGHT) == 3
    assert ops.ai_cost_of_day(pg, day=JULY19).total_cost == Decimal("0.100001")


def test_callers_at_once_all_count_and_their_retries_do_not(database_url: str) -> None:
    def work(worker: int) -> int:
        with connect(database_url, autocommit=True) as conn:
            return sum(call(conn, f"{worker // 2}-{number}", "0.01") for number in range(50))

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(work, range(4)))  # two and two make the same calls
    with connect(database_url) as conn:
        spent = ops.ai_cost_of_day(conn, day=JULY19)
    assert sum(added) == 100
    assert (spent.num_calls, spent.total_cost) == (100, Decimal(1))


def test_cost_by_call_and_by_analysis_stand_side_by_side(pg: psycopg.Connection) -> None:
    call(pg, "a", "0.05")
    call(pg, "b", "0.02", "openai")
    analyse(pg, "0.05")
    analyse(pg, "0.03", at=NOON + SECOND)
    analyse(pg, "0.40", "anthropic", at=MIDNIGHT - TICK)
    analyse(pg, "9", "anthropic", at=MIDNIGHT)
    by_provider = {
        row.provider: (row.total_cost, row.num_calls, row.analysis_cost, row.num_analyses)
        for row in ops.ai_cost_by_provider(pg, from_date=JULY19, to_date=JULY19 + timedelta(days=1))
    }
    assert by_provider == {
        "xai": (Decimal("0.05"), 1, Decimal("0.08"), 2),
        "openai": (Decimal("0.02"), 1, 0, 0),
        "anthropic": (0, 0, Decimal("0.40"), 1),
    }
    today = ops.ai_cost_of_day(pg, day=JULY19)
    assert (today.total_cost, today.num_calls, today.analysis_cost, today.num_analyses) == (
        Decimal("0.07"),
        2,
        Decimal("0.48"),
        3,
    )


def test_a_day_without_calls_cost_nothing(pg: psycopg.Connection) -> None:
    nothing = ops.ai_cost_of_day(pg, day=JULY19)
    assert (nothing.total_cost, nothing.num_calls, nothing.analysis_cost, nothing.num_analyses) == (0, 0, 0, 0)
    budget = ops.ai_budget(pg, day=JULY19, daily_budget=Decimal(5))
    assert (budget.spent, budget.remaining, budget.exhausted) == (0, 5, False)


def test_a_budget_counts_the_greater_of_calls_and_analyses(pg: psycopg.Connection) -> None:
    call(pg, "a", "3")
    analyse(pg, "1")
    analyse(pg, "1.5", "openai")
    budget = ops.ai_budget(pg, day=JULY19, daily_budget=Decimal(5))
    assert (budget.spent, budget.remaining, budget.exhausted) == (Decimal("4.5"), Decimal("0.5"), False)
    call(pg, "b", "0.5")
    assert ops.ai_budget(pg, day=JULY19, daily_budget=Decimal(5)).exhausted
    call(pg, "c", "0.25")
    assert ops.ai_budget(pg, day=JULY19, daily_budget=Decimal(5)).remaining == Decimal("-0.25")


def test_a_negative_cost_is_refused(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ai_calls_cost_check"):
        call(pg, "a", "-0.01")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_months_leave_when_their_last_moment_is_past_the_limit(pg: psycopg.Connection, zone: str) -> None:
    pg.execute(sql.SQL("SET timezone = {}").format(zone))
    months = [datetime(2022, 1, 15, tzinfo=UTC), datetime(2025, 1, 15, tzinfo=UTC), NOON]
    market_data.upsert_candlesticks(pg, [candle(end=at) for at in months])
    market_data.upsert_price_snapshots(pg, [quote(at=at) for at in [datetime(2016, 7, 31, tzinfo=UTC), *months]])

    def stages(moment: datetime) -> dict[str, str | None]:
        return {row.partition_name.removeprefix("market_data."): row.stage for row in ops.partitions_by_age(pg, moment=moment)}

    assert stages(NOON) == {
        "candlesticks_2022_01": "cold", "candlesticks_2025_01": "hot", "candlesticks_2026_07": "hot",
        "price_snapshots_2016_07": "cold", "price_snapshots_2022_01": "cold", "price_snapshots_2025_01": "warm",
        "price_snapshots_2026_07": "hot",
    }  # fmt: skip
    # January 2025 ends 18 months before 1 August 2026; July 2016 ends ten years before it.
    august = datetime(2026, 8, 1, tzinfo=UTC)
    assert stages(august)["candlesticks_2025_01"] == "warm"
    assert stages(august - TICK)["candlesticks_2025_01"] == "hot"
    assert stages(august)["price_snapshots_2016_07"] == "expired"
    assert stages(august - TICK)["price_snapshots_2016_07"] == "cold"
    (first, *_) = ops.partitions_of(pg, table_name="market_data.candlesticks")
    assert (first.range_from, first.range_to) == (datetime(2022, 1, 1, tzinfo=UTC), datetime(2022, 2, 1, tzinfo=UTC))
    assert first.total_bytes is not None
    assert first.total_bytes > 0


def test_a_policy_of_ninety_days_makes_old_quotes_expire(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [quote(at=NOON - 120 * DAY), quote()])
    policy = {"hot_for": timedelta(days=30), "warm_for": None, "keep_for": timedelta(days=90), "archive_target": "none"}
    ops.set_retention_policy(pg, table_name="market_data.price_snapshots", **policy, reason="disk")  # type: ignore[arg-type]
    rows = [(row.partition_name, row.stage) for row in ops.partitions_by_age(pg, moment=NOON)]
    assert rows == [("market_data.price_snapshots_2026_03", "expired"), ("market_data.price_snapshots_2026_07", "hot")]
    (window,) = [row for row in ops.retention_windows(pg, moment=NOON) if row.table_name == "market_data.price_snapshots"]
    assert (window.hot_since, window.warm_since, window.kept_since) == (NOON - 30 * DAY, NOON - 30 * DAY, NOON - 90 * DAY)
    with pytest.raises(psycopg.errors.CheckViolation, match="retention_policies_order_check"):
        ops.set_retention_policy(
            pg, table_name="market_data.price_snapshots", hot_for=timedelta(days=90), warm_for=None, keep_for=timedelta(days=30),
            archive_target="none", reason="the wrong way round",
        )  # fmt: skip


def test_the_seeds_policies_are_there(pg: psycopg.Connection) -> None:
    policies = {row.table_name: row for row in ops.retention_policies(pg)}
    assert (
        policies["market_data.price_snapshots"].hot_for == timedelta(days=360) or policies["market_data.price_snapshots"].hot_for
    )
    assert policies["market_data.orderbook_snapshots"].keep_for == timedelta(days=30)
    for for_ever in ("catalog.markets", "catalog.settlements", "market_data.public_trades", "market_data.candlesticks"):
        assert policies[for_ever].keep_for is None
    tables = {row.table_name for row in ops.table_sizes(pg)}
    assert set(policies) <= tables


@pytest.fixture
def reader(pg: psycopg.Connection, database_url: str) -> Iterator[psycopg.Connection]:
    """A connection of a role that may only read the schema ops."""
    name = sql.Identifier(f"reader_{pg.info.dbname}")
    pg.autocommit = True
    pg.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    pg.execute(sql.SQL("GRANT USAGE ON SCHEMA ops TO {}").format(name))
    pg.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA ops TO {}").format(name))
    with psycopg.connect(database_url, user=f"reader_{pg.info.dbname}", options="-c timezone=UTC") as conn:
        yield conn
    pg.execute(sql.SQL("DROP OWNED BY {}").format(name))
    pg.execute(sql.SQL("DROP ROLE {}").format(name))


def test_sizes_and_freshness_are_there_for_who_may_only_read(pg: psycopg.Connection, reader: psycopg.Connection) -> None:
    market_data.insert_public_trades(pg, [trade(number, at=NOON + number * HOUR) for number in range(300)])
    catalog.upsert_markets(pg, [market()])
    assert {row.table_name: row.estimated_rows for row in ops.table_sizes(reader)}["market_data.public_trades"] is None
    pg.execute("ANALYZE market_data.public_trades")
    sizes = {row.table_name: row for row in ops.table_sizes(reader)}
    assert len(sizes) > 30
    trades = sizes["market_data.public_trades"]
    assert (trades.partitions, trades.estimated_rows) == (1, 300)
    assert trades.table_bytes is not None
    assert trades.index_bytes is not None
    assert trades.total_bytes is not None
    assert trades.total_bytes >= trades.table_bytes + trades.index_bytes > 0
    assert ops.database_size(reader) > trades.total_bytes
    fresh = {row.table_name: row.latest_at for row in ops.data_freshness(reader)}
    assert fresh["market_data.public_trades"] == NOON + 299 * HOUR
    assert fresh["market_data.candlesticks"] is None
    stale = {row.table_name for row in ops.stale_data(reader, reached_before=NOON + DAY)}
    assert "market_data.public_trades" not in stale
    assert "market_data.candlesticks" in stale
    assert ops.partitions_by_age(reader, moment=NOON)[0].stage == "hot"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT FROM market_data.public_trades")
