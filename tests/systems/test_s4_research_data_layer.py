"""The research data layer, whole (seed S4): sync, quotes in quantity, books, trades, settlements, calibration, export; UTC everywhere."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow
import pyarrow.parquet
import pytest
from generated_rows import rounded
from loading import pull_world
from sample_rows import DAY, HOUR, MINUTE, NOON, book, delta, market, quote

from kalshidb.exchange.simulator.world import World, micros
from kalshidb.models.catalog import SettlementInput
from kalshidb.postgres import connect
from kalshidb.queries import catalog, market_data, ops
from kalshidb.typedsql.arrow import as_arrow

EVER = {"start_time": datetime(2000, 1, 1, tzinfo=UTC), "end_time": datetime(2100, 1, 1, tzinfo=UTC)}


@pytest.fixture(scope="module")
def synced(postgresql_noproc: Any) -> Iterator[tuple[psycopg.Connection[Any], World]]:  # noqa: ANN401
    """A database that was synchronised with a simulated exchange over HTTP."""
    from pytest_postgresql.janitor import DatabaseJanitor

    server = postgresql_noproc
    name = f"{server.dbname}_s4"
    janitor = DatabaseJanitor(
        user=server.user, host=server.host, port=server.port, dbname=name, template_dbname=server.template_dbname
    )
    with janitor, connect(f"postgresql://{server.user}@/{name}?host={server.host}&port={server.port}", autocommit=True) as conn:
        report, exchange = pull_world(conn)
        assert report.total.rejected == 0
        yield conn, exchange.world


def moment(world: World) -> datetime:
    return datetime.fromtimestamp(world.now / 1_000_000, UTC)


# -- markets ----------------------------------------------------------------------------------------------------------------------


def test_every_market_of_the_exchange_is_there_by_status(synced: tuple[psycopg.Connection[Any], World]) -> None:
    conn, world = synced
    listed = [market for market in world.markets.values() if not market.is_combo]
    statuses = Counter(world.status(market) for market in listed)
    stored = {row.market_ticker: row for row in catalog.all_markets(conn) if not row.is_stub}
    assert {market.ticker for market in listed} <= set(stored)
    assert Counter(stored[market.ticker].status for market in listed) == statuses
    page = catalog.markets_by_status(
        conn, status="active", after_close_time=EVER["start_time"], after_market_ticker="", page_size=1000
    )
    assert {row.market_ticker for row in page} >= {market.ticker for market in listed if world.status(market) == "active"}
    (one, *_) = listed
    found = catalog.market_by_ticker(conn, market_ticker=one.ticker)
    assert found is not None
    assert (found.event_ticker, found.series_ticker) == (one.event_ticker, one.series_ticker)


def test_markets_that_close_soon_and_those_that_wait_for_their_outcome_are_found(
    synced: tuple[psycopg.Connection[Any], World],
) -> None:
    conn, world = synced
    now = moment(world)
    soon = catalog.open_markets_closing_between(conn, closing_from=now, closing_to=now + 2 * DAY)
    assert soon
    assert [row.close_time for row in soon] == sorted(row.close_time for row in soon if row.close_time)
    assert all(row.status == "active" and row.close_time and now <= row.close_time < now + 2 * DAY for row in soon)
    waiting = catalog.markets_awaiting_settlement(conn, statuses=["closed", "determined"], closed_before=now)
    of_world = {m.ticker for m in world.markets.values() if world.status(m) in ("closed", "determined") and not m.is_combo}
    assert {row.market_ticker for row in waiting} >= of_world
    assert of_world


# -- settlements, scalar and void -------------------------------------------------------------------------------------------------------


def test_every_settlement_is_there_also_the_scalar_ones(synced: tuple[psycopg.Connection[Any], World]) -> None:
    conn, world = synced
    settled = {m.ticker: m for m in world.markets.values() if world.status(m) == "finalized" and not m.is_combo}
    found = {row.market_ticker: row for row in catalog.settlements_of_markets(conn, market_tickers=list(settled))}
    assert set(found) == set(settled)
    for ticker, row in found.items():
        assert row.yes_payout == Decimal(settled[ticker].payout) / 10_000
        assert row.outcome == world.result(settled[ticker])
    assert {"yes", "no", "scalar"} <= {row.outcome for row in found.values()}


def test_a_void_market_pays_nobody_and_an_amended_one_pays_the_last_word(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market("KX-VOID"), market("KX-AMENDED")])
    said = [("KX-VOID", NOON, "void", None), ("KX-AMENDED", NOON, "yes", 1), ("KX-AMENDED", NOON + DAY, "no", 0)]
    catalog.insert_settlements(
        pg,
        [
            SettlementInput(
                market_ticker=ticker, settled_at=at, platform_id="kalshi", outcome=outcome, retrieved_at=at,
                yes_payout=None if yes is None else Decimal(yes), no_payout=None if yes is None else Decimal(1 - yes),
            )
            for ticker, at, outcome, yes in said
        ],
    )  # fmt: skip
    void, amended = catalog.settlements_of_markets(pg, market_tickers=["KX-AMENDED", "KX-VOID"])[::-1]
    assert (void.outcome, void.yes_payout, void.payout) == ("void", None, None)
    assert (amended.outcome, amended.yes_payout) == ("no", 0)
    assert len(catalog.settlements_of_market(pg, market_ticker="KX-AMENDED")) == 2
    final = list(catalog.final_settlements_between(pg, settled_from=NOON, settled_to=NOON + HOUR))
    assert [row.market_ticker for row in final] == ["KX-VOID"]


# -- quotes -----------------------------------------------------------------------------------------------------------------------


def hundred_thousand() -> pyarrow.Table:
    """Quotes of 250 markets, 400 each, each with a price other than the one before, a quarter of an hour apart, over two months."""
    chance = random.Random(4)  # noqa: S311
    at = [datetime(2026, 6, 28, tzinfo=UTC) + number // 250 * 15 * MINUTE for number in range(100_000)]
    bids = [Decimal(chance.randrange(0, 98, 2) + 1 + number // 250 % 2) / 100 for number in range(100_000)]
    price, moment = pyarrow.decimal128(7, 6), pyarrow.timestamp("us", "UTC")
    return pyarrow.table(
        {
            "market_ticker": [f"KX-{number % 250}" for number in range(100_000)],
            "snapshot_time": pyarrow.array(at, moment),
            "source": ["poll"] * 100_000,
            "yes_bid": pyarrow.array(bids, price),
            "yes_ask": pyarrow.array([bid + Decimal("0.01") for bid in bids], price),
            "retrieved_at": pyarrow.array(at, moment),
        }
    )


def test_a_hundred_thousand_quotes_are_no_trouble(pg: psycopg.Connection) -> None:
    quotes = hundred_thousand()
    begun = time.monotonic()
    first = market_data.upsert_price_snapshots(pg, quotes)
    again = market_data.upsert_price_snapshots(pg, quotes)
    assert (first.received, first.written, first.unchanged) == (100_000, 100_000, 0)
    assert (again.written, again.unchanged) == (0, 100_000)
    assert time.monotonic() - begun < 60, "minutes would be trouble"
    day = {"start_time": datetime(2026, 6, 30, 12, tzinfo=UTC), "end_time": datetime(2026, 7, 1, 12, tzinfo=UTC)}
    rows = market_data.snapshots_between(pg, market_ticker="KX-17", **day)
    assert [row.snapshot_time for row in rows] == [day["start_time"] + number * 15 * MINUTE for number in range(96)]
    assert rows[0].spread == Decimal("0.01")
    assert rows[0].implied_probability == rows[0].midpoint
    assert sum(1 for _ in market_data.snapshots_in_window(pg, **day)) == 96 * 250
    latest = market_data.latest_snapshots(pg, market_tickers=[f"KX-{number}" for number in range(250)])
    assert {row.snapshot_time for row in latest} == {datetime(2026, 6, 28, tzinfo=UTC) + 399 * 15 * MINUTE}
    assert [row.partition_name for row in ops.partitions_of(pg, table_name="market_data.price_snapshots")] == [
        "market_data.price_snapshots_2026_06", "market_data.price_snapshots_2026_07",
    ]  # fmt: skip


def test_the_price_before_the_close_of_every_settled_market_is_one_question(
    synced: tuple[psycopg.Connection[Any], World],
) -> None:
    conn, world = synced
    settled = [m for m in world.markets.values() if world.status(m) == "finalized" and not m.is_combo]
    found = market_data.prices_before_close(
        conn, market_tickers=[m.ticker for m in settled], before_close=HOUR, max_age=365 * DAY
    )
    traded = 0
    for row, of in zip(found, settled, strict=True):
        # What the exchange's own history says, in its units.
        before = [trade for trade in world.history(of.ticker).trades if trade.time <= of.close - 3_600_000_000]
        assert (
            row.traded_price in {Decimal(trade.yes_price) / 10_000 for trade in before if trade.time == before[-1].time}
            if before
            else row.traded_price is None
        )
        traded += bool(before)
    assert traded > 10


# -- books ------------------------------------------------------------------------------------------------------------------------


def test_books_are_read_by_market_by_time_and_as_they_are_now(pg: psycopg.Connection) -> None:
    rows = [book(ticker, NOON + number * HOUR) for ticker in ("KX-A", "KX-B") for number in range(30)]
    market_data.upsert_orderbook_snapshots(pg, rows)
    market_data.insert_orderbook_deltas(pg, [delta("KX-B", NOON, 2), delta("KX-A", NOON + HOUR, 4), delta("KX-A", NOON, 3)])
    latest = market_data.latest_orderbook(pg, market_ticker="KX-A")
    assert latest is not None
    assert latest.snapshot_time == NOON + 29 * HOUR
    both = market_data.latest_orderbooks(pg, market_tickers=["KX-B", "KX-A", "KX-C"])
    assert [(row.market_ticker, row.snapshot_time) for row in both] == [
        ("KX-A", NOON + 29 * HOUR), ("KX-B", NOON + 29 * HOUR),
    ]  # fmt: skip
    window = {"start_time": NOON + HOUR, "end_time": NOON + 3 * HOUR}
    assert [row.snapshot_time for row in market_data.orderbooks_between(pg, market_ticker="KX-A", **window)] == [
        NOON + HOUR,
        NOON + 2 * HOUR,
    ]
    assert [row.market_ticker for row in market_data.orderbooks_in_window(pg, **window)] == ["KX-A", "KX-B"] * 2
    assert [row.sequence for row in market_data.orderbook_deltas_in_window(pg, **EVER)] == [3, 4, 2]
    assert market_data.latest_orderbook(pg, market_ticker="KX-C") is None


# -- calibration ------------------------------------------------------------------------------------------------------------------


def test_calibration_is_that_of_the_exchanges_own_history(synced: tuple[psycopg.Connection[Any], World]) -> None:
    conn, world = synced
    settled = {m.ticker: m for m in world.markets.values() if world.status(m) == "finalized" and not m.is_combo}
    bins: dict[int, list[tuple[int, int]]] = {}
    for ticker, of in settled.items():
        for trade in world.history(ticker).trades:
            bins.setdefault(min(trade.yes_price // 1000, 9), []).append((trade.yes_price, of.payout))
    expected = [
        (
            Decimal(number) / 10,
            len(members),
            *(rounded(Fraction(sum(values), 10_000 * len(members))) for values in zip(*members, strict=True)),
        )
        for number, members in sorted(bins.items())
    ]
    found = market_data.calibration(conn, bin_width=Decimal("0.1"), start_time=None, end_time=None)
    assert [(row.price_from, row.trades, row.mean_price, row.yes_share) for row in found] == expected


# -- UTC everywhere ---------------------------------------------------------------------------------------------------------------


def test_every_moment_is_utc_and_aware_and_none_can_be_naive(
    synced: tuple[psycopg.Connection[Any], World], pg: psycopg.Connection
) -> None:
    conn, _ = synced
    for row in (*list(catalog.all_markets(conn))[:50], *list(market_data.trades_in_window(conn, **EVER))[:50]):
        moments = [value for value in row.model_dump().values() if isinstance(value, datetime)]
        assert moments
        assert all(value.utcoffset() == timedelta(0) for value in moments)
    kinds = pg.execute(
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE data_type LIKE 'timestamp%%' AND table_schema IN "
        "('catalog', 'market_data', 'research', 'trading', 'backtest', 'ops')"
    ).fetchall()
    assert kinds == [("timestamp with time zone",)]
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="timezone"):
        quote(at=naive)
    with pytest.raises(Exception, match="time zone"):
        market_data.snapshots_between(pg, market_ticker="KX", start_time=naive, end_time=NOON)


# -- export -----------------------------------------------------------------------------------------------------------------------


def test_quotes_go_to_parquet_by_month_and_duckdb_reads_them(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of the documentation does it; its code is what runs here."""
    page = Path(__file__).parents[2].joinpath("docs", "arrow.md").read_text(encoding="utf-8")
    write, read = re.findall(r"```python\n(.*?)```", page.partition("## A file a month")[2], re.DOTALL)[:2]
    before = (
        "import pyarrow.parquet\nfrom kalshidb.queries import market_data\nfrom kalshidb.typedsql.arrow import arrow_batches\n"
    )
    monkeypatch.chdir(tmp_path)
    with connect(database_url, autocommit=True) as conn:
        rows = [
            quote(f"KX-{number % 7}", NOON + number * 6 * HOUR, yes_bid=Decimal(number) / 1000, yes_ask=Decimal("0.999999"))
            for number in range(400)
        ]
        market_data.upsert_price_snapshots(conn, rows)
        names: dict[str, Any] = {"connect": lambda: connect(database_url)}
        exec(before + write + read, names)  # noqa: S102
        whole = as_arrow(market_data.snapshots_in_window, conn, **EVER)
    files = sorted(tmp_path.glob("quotes/*/*.parquet"))
    assert [path.parent.name for path in files] == ["month=2026-07", "month=2026-08", "month=2026-09", "month=2026-10"]
    quotes = names["quotes"]
    found = duckdb.sql("SELECT month, count(*), sum(yes_bid), epoch_us(max(snapshot_time)) FROM quotes GROUP BY month")
    by_month = {month: tuple(rest) for month, *rest in found.fetchall()}
    assert quotes.columns[-1] == "month"
    for month in ("2026-07", "2026-08", "2026-09", "2026-10"):
        of = [row for row in rows if f"{row.snapshot_time:%Y-%m}" == month]
        assert by_month[month] == (len(of), sum(row.yes_bid or 0 for row in of), micros(max(row.snapshot_time for row in of)))
    read_back = pyarrow.concat_tables(pyarrow.parquet.ParquetFile(path).read() for path in files)
    assert read_back.schema.field("yes_bid").type == pyarrow.decimal128(7, 6)
    assert read_back.schema.field("snapshot_time").type == pyarrow.timestamp("us", "UTC")
    assert read_back.select(["market_ticker", "yes_bid"]).to_pylist() == whole.select(["market_ticker", "yes_bid"]).to_pylist()


def test_duckdb_computes_from_an_export_what_the_database_does(synced: tuple[psycopg.Connection[Any], World]) -> None:
    conn, _ = synced
    trades = as_arrow(market_data.trades_in_window, conn, **EVER)
    markets = as_arrow(catalog.all_markets, conn)
    by_duck = duckdb.sql(
        "SELECT CAST(created_time AT TIME ZONE 'UTC' AS DATE) AS day, category, count(*), sum(count) "
        "FROM trades LEFT JOIN (SELECT market_ticker, category FROM markets) USING (market_ticker) GROUP BY ALL ORDER BY 1, 2 NULLS LAST"
    ).fetchall()
    ours = market_data.volume_by_category_and_day(conn, **EVER)
    assert [(row.day, row.category, row.trades, row.contracts) for row in ours] == by_duck
    assert trades.num_rows == sum(row.trades for row in ours) > 1000
    assert markets.num_rows > 50


def test_the_same_sync_again_changes_nothing(synced: tuple[psycopg.Connection[Any], World]) -> None:
    conn, _ = synced
    before = {row.part: row.rows for row in ops.store_counts(conn)}
    report, _ = pull_world(conn)
    assert (report.total.written, report.total.rejected) == (0, 0)
    assert {row.part: row.rows for row in ops.store_counts(conn)} == before
