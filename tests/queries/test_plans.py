"""Reads of time series touch few rows: an index in each partition, and only the partitions of the range."""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import RawCursor, sql
from sample_rows import DAY, HOUR, MINUTE, TICK, book, candle, delta, market, quote, trade

from kalshidb.queries import STATEMENTS, catalog, market_data

MONTHS = [datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7, 8)]
JULY = MONTHS[2]
TICKERS = [f"KX-{number}" for number in range(40)]
ROWS = 60  # of each market in each month


@pytest.fixture(scope="module")
def filled(postgresql_noproc: Any) -> Iterator[psycopg.Connection]:  # noqa: ANN401
    """A database with four months of a few thousand rows each, of which statistics are known."""
    from pytest_postgresql.janitor import DatabaseJanitor

    server = postgresql_noproc
    janitor = DatabaseJanitor(
        user=server.user,
        host=server.host,
        port=server.port,
        dbname=f"{server.dbname}_plans",
        template_dbname=server.template_dbname,
    )
    with janitor, psycopg.connect(host=server.host, user=server.user, dbname=janitor.dbname, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        moments = [month + number * 11 * HOUR for month in MONTHS for number in range(ROWS)]
        every = [(ticker, at) for ticker in TICKERS for at in moments]
        random.Random(5).shuffle(every)  # noqa: S311  (as they arrive: the physical order says nothing)
        market_data.upsert_candlesticks(connection, [candle(ticker, at) for ticker, at in every])
        market_data.upsert_price_snapshots(connection, [quote("KX-0", at) for at in MONTHS])
        market_data.upsert_orderbook_snapshots(connection, [book("KX-0", at) for at in MONTHS])
        market_data.insert_orderbook_deltas(connection, [delta("KX-0", at) for at in MONTHS])
        market_data.insert_public_trades(connection, [trade(n, "KX-0", at + TICK) for n, at in enumerate(MONTHS)])
        connection.execute(
            """
            INSERT INTO market_data.price_snapshots (market_ticker, snapshot_time, source, yes_bid, yes_ask, retrieved_at)
            SELECT market_ticker, end_period_ts, 'websocket', 0.4, 0.44, retrieved_at FROM market_data.candlesticks;
            INSERT INTO market_data.orderbook_snapshots (market_ticker, snapshot_time, source, yes_bid_prices, yes_bid_quantities,
                no_bid_prices, no_bid_quantities, yes_depth, no_depth, retrieved_at)
            SELECT market_ticker, end_period_ts + interval '1 s', 'poll', '{0.4}', '{1}', '{0.5}', '{1}', 1, 1, retrieved_at
            FROM market_data.candlesticks;
            INSERT INTO market_data.orderbook_deltas
            SELECT market_ticker, end_period_ts, 2, 1, 'yes', 0.4, 1, retrieved_at FROM market_data.candlesticks;
            INSERT INTO market_data.public_trades
            SELECT market_ticker, end_period_ts, gen_random_uuid(), 1, 0.4, 0.6, 'yes', false, retrieved_at, NULL
            FROM market_data.candlesticks;
            """
        )
        catalog.upsert_markets(connection, [market(f"KXE{n % 300}-{n}", close_time=JULY + n * MINUTE) for n in range(3000)])
        connection.execute("ANALYZE")
        yield connection


def plan(pg: psycopg.Connection, name: str, *params: Any, options: str = "COSTS OFF", generic: bool = False) -> str:  # noqa: ANN401
    """Explain a statement, planned for these values or, if generic, before any value is known."""
    with pg.transaction(), RawCursor(pg) as cursor:
        cursor.execute(f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan".encode())
        cursor.execute(f"PREPARE asked AS {STATEMENTS[name].sql}".encode())
        values = sql.SQL(", ").join(map(sql.Literal, params))
        execute = sql.SQL("EXPLAIN ({}) EXECUTE asked ({})") if params else sql.SQL("EXPLAIN ({}) EXECUTE asked")
        cursor.execute(execute.format(sql.SQL(options), values))  # type: ignore[arg-type]
        text = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute(b"DEALLOCATE asked")
        return text


def scanned(text: str) -> set[str]:
    """Return the months whose partitions a plan scans."""
    return set(
        re.findall(r"(?:Scan|Only)[^\n]* on \w+_(2026_\d\d) ", re.sub(r"[^\n]*\n?[^\n]*never executed[^\n]*", "", text + " "))
    )


ANALYZED = "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF"
WINDOW = (JULY + DAY, JULY + 2 * DAY)
RANGES = {
    "market_data.candlesticks_between": ("KX-1", 60, *WINDOW),
    "market_data.snapshots_between": ("KX-1", *WINDOW),
    "market_data.trades_between": ("KX-1", *WINDOW),
    "market_data.orderbooks_between": ("KX-1", *WINDOW),
    "market_data.orderbook_deltas_between": ("KX-1", *WINDOW),
    "market_data.candlesticks_in_window": (60, *WINDOW),
    "market_data.snapshots_in_window": WINDOW,
    "market_data.trades_in_window": WINDOW,
}
LAST = {
    "market_data.candlestick_as_of": ("KX-1", 60, JULY + DAY),
    "market_data.orderbook_as_of": ("KX-1", JULY + DAY),
    "market_data.last_trade_as_of": ("KX-1", JULY + DAY),
    "market_data.latest_snapshot": ("KX-1",),
    "market_data.latest_snapshots": (["KX-1", "KX-2"],),
}


@pytest.mark.parametrize("name", RANGES)
def test_a_range_is_read_by_index_from_its_month_alone(filled: psycopg.Connection, name: str) -> None:
    text = plan(filled, name, *RANGES[name])
    assert "Seq Scan" not in text, text
    assert "Index" in text
    assert scanned(text) == {"2026_07"}, text


@pytest.mark.parametrize("name", RANGES)
def test_a_range_of_unknown_bounds_skips_the_other_months_when_it_runs(filled: psycopg.Connection, name: str) -> None:
    text = plan(filled, name, *RANGES[name], options=ANALYZED, generic=True)
    assert "Seq Scan" not in text, text
    assert "Subplans Removed" in text, text


@pytest.mark.parametrize("name", LAST)
def test_the_last_row_before_a_moment_is_read_by_index(filled: psycopg.Connection, name: str) -> None:
    text = plan(filled, name, *LAST[name])
    assert "Seq Scan" not in text, text
    assert "Index" in text


@pytest.mark.parametrize("name", ["market_data.candlestick_as_of", "market_data.orderbook_as_of", "market_data.last_trade_as_of"])
def test_later_months_are_not_looked_at(filled: psycopg.Connection, name: str) -> None:
    assert "2026_08" not in plan(filled, name, *LAST[name])


@pytest.mark.parametrize("name", LAST)
def test_the_last_row_is_found_without_looking_into_older_months(filled: psycopg.Connection, name: str) -> None:
    """The newest month that has one answers; a market of years is not sorted for one row."""
    text = plan(filled, name, *LAST[name], options=ANALYZED)
    read = [float(rows) * float(loops) for rows, loops in re.findall(r"Index[^\n]*actual rows=([\d.]+) loops=(\d+)", text)]
    assert sum(read) <= 12, text


@pytest.mark.parametrize("generic", [False, True])
def test_quotes_as_of_looks_up_each_pair_by_index(filled: psycopg.Connection, generic: bool) -> None:
    chance = random.Random(3)  # noqa: S311
    pairs = [(chance.choice(TICKERS), JULY + chance.randrange(1, 25) * DAY) for _ in range(500)]
    asked = ([ticker for ticker, _ in pairs], [moment for _, moment in pairs], timedelta(days=1))
    text = plan(filled, "market_data.quotes_as_of", *asked, options=ANALYZED, generic=generic)
    assert "Seq Scan" not in text, text
    executed = set(re.findall(r"on price_snapshots_(2026_\d\d) [^\n]*\(actual", text))
    assert executed <= {"2026_06", "2026_07"}, text


def test_a_page_of_markets_is_read_by_index(filled: psycopg.Connection) -> None:
    text = plan(filled, "catalog.markets_by_status", "active", JULY, "KX", 50)
    assert "markets_status_close_time_idx" in text, text
    assert "Sort" not in text, text


def test_markets_of_an_event_are_read_by_index(filled: psycopg.Connection) -> None:
    text = plan(filled, "catalog.markets_of_event", "KXE7")
    assert "Seq Scan" not in text, text


WRITES: dict[str, tuple[str, Any]] = {
    "public_trades": ("market_data.insert_public_trades", market_data.insert_public_trades),
    "candlesticks": ("market_data.settle_candlesticks", market_data.upsert_candlesticks),
    "price_snapshots": ("market_data.settle_price_snapshots", market_data.upsert_price_snapshots),
    "orderbook_snapshots": ("market_data.settle_orderbook_snapshots", market_data.upsert_orderbook_snapshots),
}


@pytest.mark.parametrize("table", WRITES)
def test_a_write_looks_up_its_rows_and_reads_no_whole_month(filled: psycopg.Connection, table: str) -> None:
    """A write into a store of years costs what it writes."""
    name, write = WRITES[table]
    write(filled, [])  # the staging table is there from now on
    text = plan(filled, name)
    assert re.findall(rf"Seq Scan on {table}_2026", text) == [], text
    assert re.findall(rf"Index[^\n]* on {table}_2026", text), text


def test_prices_are_read_exactly(filled: psycopg.Connection) -> None:
    rows = market_data.trades_between(filled, market_ticker="KX-1", start_time=WINDOW[0], end_time=WINDOW[1])
    assert {row.yes_price for row in rows} == {Decimal("0.4")}
