"""Months: made when data needs them, named and bounded in UTC."""

from datetime import UTC, datetime

import psycopg
import pytest
from sample_rows import TICK, book, candle, delta, quote, trade

from kalshidb.queries import market_data

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
PARENTS = {
    "candlesticks": (market_data.upsert_candlesticks, lambda at: candle(end=at)),
    "price_snapshots": (market_data.upsert_price_snapshots, lambda at: quote(at=at)),
    "orderbook_snapshots": (market_data.upsert_orderbook_snapshots, lambda at: book(at=at)),
    "orderbook_deltas": (market_data.insert_orderbook_deltas, lambda at: delta(at=at)),
    "public_trades": (market_data.insert_public_trades, lambda at: trade(int(at.timestamp() * 1e6), at=at)),
}


def partitions(pg: psycopg.Connection, parent: str) -> dict[str, str]:
    pg.execute("SET timezone = 'UTC'")
    found = pg.execute(
        "SELECT relname, pg_get_expr(relpartbound, pg_class.oid) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = %s::regclass ORDER BY 1",
        [f"market_data.{parent}"],
    ).fetchall()
    return dict(found)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("parent", PARENTS)
def test_each_moment_lands_in_its_month_of_utc(pg: psycopg.Connection, parent: str, zone: str) -> None:
    pg.execute("SELECT set_config('timezone', %s, false)", [zone])
    pg.execute("SET datestyle = 'SQL, DMY'")
    write, row = PARENTS[parent]
    moments = [AUGUST - TICK, AUGUST, datetime(2026, 9, 1, tzinfo=UTC) - TICK]
    if parent == "public_trades":
        moments[1] += 2_000_000 * TICK  # within a second it would be the same trade
    assert write(pg, [row(moment) for moment in moments]).written == 3  # type: ignore[arg-type]
    pg.execute("SET datestyle = 'ISO'")
    assert partitions(pg, parent) == {
        f"{parent}_2026_07": "FOR VALUES FROM ('2026-07-01 00:00:00+00') TO ('2026-08-01 00:00:00+00')",
        f"{parent}_2026_08": "FOR VALUES FROM ('2026-08-01 00:00:00+00') TO ('2026-09-01 00:00:00+00')",
    }
    counts = {
        name: pg.execute(f"SELECT count(*) FROM market_data.{name}").fetchone()[0]  # type: ignore[arg-type, index]  # noqa: S608
        for name in partitions(pg, parent)
    }
    assert list(counts.values()) == [1, 2]


def test_a_partition_is_like_its_parent(pg: psycopg.Connection) -> None:
    market_data.upsert_price_snapshots(pg, [quote()])
    described = """
        SELECT
            ARRAY(SELECT (attname, atttypid, atttypmod, attnotnull, attgenerated)::text FROM pg_attribute
                  WHERE attrelid = {0} AND attnum > 0 ORDER BY attname),
            ARRAY(SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = {0} ORDER BY 1),
            ARRAY(SELECT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', '') FROM pg_index WHERE indrelid = {0} ORDER BY 1)
    """
    parent = pg.execute(described.format("'market_data.price_snapshots'::regclass")).fetchone()  # type: ignore[arg-type]
    child = pg.execute(described.format("'market_data.price_snapshots_2026_07'::regclass")).fetchone()  # type: ignore[arg-type]
    assert child == parent
    comment = pg.execute("SELECT obj_description('market_data.price_snapshots_2026_07'::regclass, 'pg_class')").fetchone()
    assert comment == ("price_snapshots of 2026-07, UTC.",)


def test_the_function_says_how_many_months_it_made(pg: psycopg.Connection) -> None:
    call = "SELECT market_data.create_month_partitions('market_data.candlesticks', %s::timestamptz[])"
    moments = [AUGUST, AUGUST + TICK, AUGUST - TICK, None]
    assert [pg.execute(call, [asked]).fetchone() for asked in (moments, moments, [], None)] == [(2,), (0,), (0,), (0,)]


def test_a_row_without_its_month_is_an_error_and_not_hidden_in_a_default(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        pg.execute(
            "INSERT INTO market_data.public_trades VALUES ('M', '2026-08-01Z', gen_random_uuid(), 1, 0.5, 0.5, 'yes', false, now(), NULL)"
        )


def test_an_old_month_leaves_whole(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [candle(end=AUGUST - TICK), candle(end=AUGUST)])
    pg.execute("ALTER TABLE market_data.candlesticks DETACH PARTITION market_data.candlesticks_2026_07")
    assert list(partitions(pg, "candlesticks")) == ["candlesticks_2026_08"]
    asked = {"period_interval_minutes": 60, "start_ts": AUGUST - TICK, "end_ts": AUGUST + TICK}
    assert [row.end_period_ts for row in market_data.candlesticks_in_window(pg, **asked)] == [AUGUST]
