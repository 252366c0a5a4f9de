"""Writing what arrives: inserted once, changed when newer, left alone when equal or older."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sample_rows import (
    DAY,
    HOUR,
    NOON,
    SECOND,
    TICK,
    book,
    candle,
    delta,
    event,
    market,
    quote,
    rows_of,
    series,
    trade,
)

from kalshidb.models.catalog import MarketLifecycleInput, SettlementInput, StationInput
from kalshidb.queries import catalog, market_data
from kalshidb.typedsql import BulkResult

T80 = "KXHIGHNY-26JUL19-T80"


def settlement(outcome: str = "yes", at: datetime = NOON, ticker: str = T80) -> SettlementInput:
    pays = {"yes": Decimal(1), "no": Decimal(0)}.get(outcome, Decimal("0.5"))
    return SettlementInput(
        market_ticker=ticker,
        settled_at=at,
        platform_id="kalshi",
        outcome=outcome,
        yes_payout=pays,
        no_payout=1 - pays,
        retrieved_at=at,
    )


def happening(word: str = "activated", at: datetime = NOON) -> MarketLifecycleInput:
    return MarketLifecycleInput(market_ticker=T80, event_type=word, occurred_at=at, source="poll", retrieved_at=at)


def station(name: str = "Central Park") -> StationInput:
    return StationInput(
        station_id="KNYC", name=name, latitude=Decimal("40.779"), longitude=Decimal("-73.969"), elevation=Decimal(47),
        timezone="America/New_York", series_tickers=["KXHIGHNY"],
    )  # fmt: skip


@dataclass(frozen=True)
class Writer:
    """How one table is written: a row, the same row changed later, and the table."""

    write: Callable[[Any, list[Any]], BulkResult]
    table: str
    row: Callable[[], BaseModel]
    changed: Callable[[], BaseModel] | None  # None: what is stored stays


LATER = {"retrieved_at": NOON + HOUR}
WRITERS = {
    "series": Writer(catalog.upsert_series, "catalog.series", series, lambda: series(title="High, NYC", **LATER)),
    "events": Writer(catalog.upsert_events, "catalog.events", event, lambda: event(title="High, 19 July", **LATER)),
    "markets": Writer(catalog.upsert_markets, "catalog.markets", market, lambda: market(status="closed", **LATER)),
    "stations": Writer(catalog.upsert_stations, "catalog.stations", station, lambda: station("Belvedere Castle")),
    "settlements": Writer(catalog.insert_settlements, "catalog.settlements", settlement, None),
    "lifecycle": Writer(catalog.insert_market_lifecycle, "catalog.market_lifecycle", happening, None),
    "candlesticks": Writer(
        market_data.upsert_candlesticks, "market_data.candlesticks", candle, lambda: candle(volume=Decimal(4), **LATER)
    ),
    "quotes": Writer(
        market_data.upsert_price_snapshots, "market_data.price_snapshots", quote, lambda: quote(yes_ask=Decimal("0.5"), **LATER)
    ),
    "books": Writer(
        market_data.upsert_orderbook_snapshots, "market_data.orderbook_snapshots", book,
        lambda: book(yes_bid_prices=[], yes_bid_quantities=[], **LATER),
    ),
    "deltas": Writer(market_data.insert_orderbook_deltas, "market_data.orderbook_deltas", delta, None),
    "trades": Writer(market_data.insert_public_trades, "market_data.public_trades", trade, None),
}  # fmt: skip
NEEDS_MARKET = {"settlements", "lifecycle"}


CHANGING = [name for name, writer in WRITERS.items() if writer.changed]
TIMED = [name for name in CHANGING if name != "stations"]


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest, pg: psycopg.Connection) -> Writer:
    if request.param in NEEDS_MARKET:
        catalog.upsert_markets(pg, [market()])
    return WRITERS[request.param]


def stored(pg: psycopg.Connection, table: str, ticker_column: str = "1") -> list[dict[str, Any]]:
    return rows_of(pg, table, ticker_column)


def test_a_new_row_is_inserted_and_comes_back_as_it_went_in(pg: psycopg.Connection, writer: Writer) -> None:
    row = writer.row()
    result = writer.write(pg, [row])
    assert (result.received, result.written, result.unchanged) == (1, 1, 0)
    (found,) = stored(pg, writer.table)
    assert row.model_dump().items() <= found.items()


def test_the_same_row_again_writes_nothing(pg: psycopg.Connection, writer: Writer) -> None:
    writer.write(pg, [writer.row()])
    before = pg.execute(f"SELECT xmin::text, ctid::text FROM {writer.table}").fetchall()  # type: ignore[arg-type]  # noqa: S608
    pg.commit()
    result = writer.write(pg, [writer.row()])
    assert (result.written, result.unchanged) == (0, 1)
    after = pg.execute(f"SELECT xmin::text, ctid::text FROM {writer.table}").fetchall()  # type: ignore[arg-type]  # noqa: S608
    assert after == before, "a row that did not change is not written anew"


def test_a_row_that_occurs_twice_counts_once(pg: psycopg.Connection, writer: Writer) -> None:
    result = writer.write(pg, [writer.row(), writer.row()])
    assert (result.received, result.written, result.unchanged) == (2, 1, 1)


@pytest.mark.parametrize("name", CHANGING)
def test_a_changed_row_takes_the_place_of_the_stored_one(pg: psycopg.Connection, name: str) -> None:
    writer = WRITERS[name]
    writer.write(pg, [writer.row()])
    result = writer.write(pg, [changed := writer.changed()])  # type: ignore[misc]
    assert (result.written, result.unchanged) == (1, 0)
    if result.inserted is not None:
        assert (result.inserted, result.updated) == (0, 1)
    (found,) = stored(pg, writer.table)
    assert changed.model_dump().items() <= found.items()


@pytest.mark.parametrize("name", TIMED)
def test_an_older_state_is_left_out(pg: psycopg.Connection, name: str) -> None:
    writer = WRITERS[name]
    writer.write(pg, [changed := writer.changed()])
    assert writer.write(pg, [writer.row()]).written == 0
    assert writer.write(pg, [writer.row(), writer.changed(), writer.row()]).written == 0
    (found,) = stored(pg, writer.table)
    assert changed.model_dump().items() <= found.items()


def test_no_rows_are_no_work(pg: psycopg.Connection, writer: Writer) -> None:
    assert writer.write(pg, []).written == 0


@pytest.mark.parametrize("name", ["markets", "candlesticks", "quotes", "books", "deltas", "trades"])
def test_one_wrong_row_keeps_the_others_out(pg: psycopg.Connection, name: str) -> None:
    writer = WRITERS[name]
    row = writer.row()
    wrong = row.model_copy(update={"market_ticker": "no ticker"})
    with pytest.raises(psycopg.errors.CheckViolation):
        writer.write(pg, [row, wrong])
    assert stored(pg, writer.table) == []


@pytest.mark.parametrize("name", ["candlesticks", "quotes", "books"])
def test_a_confirmed_state_of_a_time_series_moves_retrieved_at_and_counts_as_unchanged(pg: psycopg.Connection, name: str) -> None:
    writer = WRITERS[name]
    writer.write(pg, [writer.row()])
    later = writer.row().model_copy(update=LATER)
    assert writer.write(pg, [later]).written == 0
    (found,) = stored(pg, writer.table)
    assert found["retrieved_at"] == NOON + HOUR
    # What was seen in between comes late: it is older than the confirmation and must not win.
    between = writer.changed().model_copy(update={"retrieved_at": NOON + SECOND})  # type: ignore[misc]
    assert writer.write(pg, [between]).written == 0
    assert stored(pg, writer.table) == [found]


@pytest.mark.parametrize("name", ["candlesticks", "quotes", "books"])
def test_a_payload_that_was_kept_once_stays_until_a_newer_one_is_kept(pg: psycopg.Connection, name: str) -> None:
    writer = WRITERS[name]
    writer.write(pg, [writer.row()])
    for raw, at, kept in [({"a": 1}, NOON, {"a": 1}), (None, NOON + HOUR, {"a": 1}), ({"a": 2}, NOON + 2 * HOUR, {"a": 2})]:
        writer.write(pg, [writer.row().model_copy(update={"raw_json": raw, "retrieved_at": at})])
        (found,) = stored(pg, writer.table)
        assert found["raw_json"] == kept


def times(pg: psycopg.Connection, table: str, key: str) -> tuple[datetime, datetime, datetime]:
    statement = f"SELECT created_at, updated_at, retrieved_at FROM catalog.{table} WHERE {key}"  # noqa: S608
    return pg.execute(statement).fetchone()  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", ["series", "events", "markets"])
def test_updated_at_moves_with_the_content_and_retrieved_at_with_each_sight(pg: psycopg.Connection, name: str) -> None:
    writer = WRITERS[name]
    writer.write(pg, [writer.row()])
    pg.commit()
    created, updated, retrieved = times(pg, name, "true")
    assert (created, retrieved) == (updated, NOON)
    for _ in range(2):
        assert writer.write(pg, [writer.row().model_copy(update={"retrieved_at": NOON + SECOND})]).written == 0
        pg.commit()
    assert times(pg, name, "true") == (created, updated, NOON + SECOND)
    assert writer.write(pg, [writer.changed()]).written == 1  # type: ignore[misc]
    pg.commit()
    now = times(pg, name, "true")
    assert (now[0], now[2]) == (created, NOON + HOUR)
    assert now[1] > updated


def test_a_market_makes_stubs_of_its_event_and_series_which_they_complete(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market(series_ticker="KXHIGHNY")])
    stubs = [(stub.kind, stub.ticker) for stub in catalog.stubs(pg)]
    assert stubs == [("event", "KXHIGHNY-26JUL19"), ("series", "KXHIGHNY")]
    stub = catalog.event_by_ticker(pg, event_ticker="KXHIGHNY-26JUL19")
    assert stub is not None
    assert (stub.title, stub.series_ticker, stub.is_stub) == (None, "KXHIGHNY", True)
    # Even what was seen before completes a stub.
    early = {"retrieved_at": NOON - DAY}
    assert catalog.upsert_events(pg, [event(**early)]).updated == 1
    assert catalog.upsert_series(pg, [series(**early)]).updated == 1
    assert catalog.stubs(pg) == []
    found = catalog.event_by_ticker(pg, event_ticker="KXHIGHNY-26JUL19")
    assert found is not None
    assert (found.title, found.retrieved_at, found.created_at) == ("High on 19 July", NOON - DAY, stub.created_at)


def test_a_candle_makes_a_stub_of_its_market_which_the_market_completes(pg: psycopg.Connection) -> None:
    market_data.upsert_candlesticks(pg, [candle(), candle(end=NOON + HOUR)])
    assert [(stub.kind, stub.ticker) for stub in catalog.stubs(pg)] == [("market", T80)]
    assert catalog.upsert_markets(pg, [market(retrieved_at=NOON - DAY)]).updated == 1
    found = catalog.market_by_ticker(pg, market_ticker=T80)
    assert found is not None
    assert (found.title, found.is_stub) == ("80 or above?", False)


@pytest.mark.parametrize("name", ["candlesticks", "quotes", "books", "deltas"])
def test_each_time_series_makes_stubs_of_its_unknown_markets(pg: psycopg.Connection, name: str) -> None:
    WRITERS[name].write(pg, [WRITERS[name].row()])
    assert [stub.ticker for stub in catalog.stubs(pg)] == [T80]


def test_a_stub_never_takes_the_place_of_what_is_known(pg: psycopg.Connection) -> None:
    catalog.upsert_series(pg, [series()])
    catalog.upsert_events(pg, [event()])
    catalog.upsert_markets(pg, [market()])
    before = [rows_of(pg, f"catalog.{table}", "1") for table in ("series", "events", "markets")]
    later = {"retrieved_at": NOON + DAY}
    market_data.upsert_candlesticks(pg, [candle(**later)])
    catalog.upsert_markets(pg, [market("KXHIGHNY-26JUL19-T90", series_ticker="KXHIGHNY", **later)])
    catalog.upsert_events(pg, [event("KXHIGHNY-26JUL20", **later)])
    after = [rows_of(pg, f"catalog.{table}", "1") for table in ("series", "events", "markets")]
    assert [rows[0] for rows in after] == [rows[0] for rows in before]
    assert catalog.stubs(pg) == []


@pytest.mark.parametrize("event_first", [True, False])
def test_a_market_has_series_and_category_of_its_event_whichever_comes_first(pg: psycopg.Connection, event_first: bool) -> None:
    writes = [lambda: catalog.upsert_events(pg, [event()]), lambda: catalog.upsert_markets(pg, [market()])]
    for write in writes if event_first else reversed(writes):
        write()
    found = catalog.market_by_ticker(pg, market_ticker=T80)
    assert found is not None
    assert (found.series_ticker, found.category) == ("KXHIGHNY", "Climate")
    catalog.upsert_events(pg, [event(category="Weather", retrieved_at=NOON + HOUR)])
    moved = catalog.market_by_ticker(pg, market_ticker=T80)
    assert moved is not None
    assert moved.category == "Weather"
    # A poll of the market, which says nothing about its category, changes nothing.
    assert catalog.upsert_markets(pg, [market(retrieved_at=NOON + DAY)]).written == 0


def test_an_event_is_open_as_long_as_any_of_its_markets(pg: psycopg.Connection) -> None:
    catalog.upsert_events(pg, [event()])
    catalog.upsert_markets(pg, [market(), market("KXHIGHNY-26JUL19-T90", open_time=NOON - 2 * DAY, close_time=NOON)])
    found = catalog.event_by_ticker(pg, event_ticker="KXHIGHNY-26JUL19")
    assert found is not None
    assert (found.open_time, found.close_time) == (NOON - 2 * DAY, NOON + DAY)
    catalog.upsert_events(pg, [event(title="Renamed", retrieved_at=NOON + HOUR)])
    catalog.upsert_markets(pg, [market(close_time=NOON + HOUR, retrieved_at=NOON + HOUR)])
    found = catalog.event_by_ticker(pg, event_ticker="KXHIGHNY-26JUL19")
    assert found is not None
    assert (found.title, found.open_time, found.close_time) == ("Renamed", NOON - 2 * DAY, NOON + HOUR)


def test_an_amended_settlement_is_a_new_row_and_the_last_one_counts(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    assert catalog.insert_settlements(pg, [settlement("yes"), settlement("no", NOON + HOUR)]).written == 2
    assert catalog.insert_settlements(pg, [settlement("void")]).written == 0
    final = catalog.final_settlement(pg, market_ticker=T80)
    assert final is not None
    assert (final.outcome, final.yes_payout) == ("no", 0)
    between = catalog.settlements_between(pg, settled_from=NOON, settled_to=NOON + HOUR)
    assert [row.outcome for row in between] == ["yes"], "the end is not part of a range"
    assert catalog.final_settlement(pg, market_ticker="KXNEVER") is None


def test_a_settlement_of_an_unknown_market_is_refused_by_name(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="settlements_market_ticker_fkey"):
        catalog.insert_settlements(pg, [settlement()])


def test_what_happened_to_a_market_comes_out_in_order(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market()])
    assert catalog.insert_market_lifecycle(pg, [happening("settled", NOON + HOUR), happening()]).written == 2
    assert [row.event_type for row in catalog.lifecycle_of_market(pg, market_ticker=T80)] == ["activated", "settled"]


def test_equal_trades_with_different_ids_are_all_stored(pg: psycopg.Connection) -> None:
    rows = [trade(number) for number in range(50)]
    assert market_data.insert_public_trades(pg, rows).written == 50
    assert market_data.insert_public_trades(pg, rows).written == 0
    stored_trades = market_data.trades_between(pg, market_ticker=T80, start_time=NOON, end_time=NOON + TICK)
    assert [row.trade_id.int for row in stored_trades] == list(range(50))


@pytest.mark.parametrize("fine_first", [True, False])
def test_the_same_trade_with_a_coarse_time_is_one_trade(pg: psycopg.Connection, fine_first: bool) -> None:
    fine, coarse = trade(1, at=NOON + 345_678 * TICK), trade(1, at=NOON)
    for row in (fine, coarse) if fine_first else (coarse, fine):
        market_data.insert_public_trades(pg, [row])
    assert len(rows_of(pg, "market_data.public_trades", "1")) == 1


def test_of_two_times_of_one_trade_in_a_batch_the_finer_is_stored(pg: psycopg.Connection) -> None:
    fine, coarse = trade(1, at=NOON + 345_678 * TICK), trade(1, at=NOON, retrieved_at=NOON + HOUR)
    assert market_data.insert_public_trades(pg, [fine, coarse]).written == 1
    assert [row["created_time"] for row in rows_of(pg, "market_data.public_trades", "1")] == [NOON + 345_678 * TICK]


def test_one_trade_across_the_end_of_a_month_is_one_trade(pg: psycopg.Connection) -> None:
    august = datetime.fromisoformat("2026-08-01T00:00:00Z")
    assert market_data.insert_public_trades(pg, [trade(1, at=august - TICK)]).written == 1
    assert market_data.insert_public_trades(pg, [trade(1, at=august)]).written == 0


def test_the_same_id_in_another_market_or_another_hour_is_another_trade(pg: psycopg.Connection) -> None:
    rows = [trade(1), trade(1, ticker="KXOTHER"), trade(1, at=NOON + HOUR)]
    assert sum(market_data.insert_public_trades(pg, [row]).written for row in rows) == 3


def test_a_book_gets_its_best_prices_and_depths(pg: psycopg.Connection) -> None:
    empty = book(at=NOON + SECOND, yes_bid_prices=[], yes_bid_quantities=[], no_bid_prices=[], no_bid_quantities=[])
    market_data.upsert_orderbook_snapshots(pg, [book(), empty])
    first, second = market_data.orderbooks_between(pg, market_ticker=T80, start_time=NOON, end_time=NOON + HOUR)
    best = (first.best_yes_bid, first.best_no_bid, first.best_yes_ask, first.best_no_ask)
    assert best == (Decimal("0.40"), Decimal("0.55"), Decimal("0.45"), Decimal("0.60"))
    assert (first.yes_depth, first.no_depth) == (Decimal("7.5"), 7)
    assert (second.best_yes_bid, second.best_yes_ask, second.yes_depth, second.no_depth) == (None, None, 0, 0)


@pytest.mark.parametrize("wrong", [{"yes_bid_quantities": [Decimal(5)]}, {"no_bid_prices": []}])
def test_a_book_with_prices_but_no_quantities_is_refused(pg: psycopg.Connection, wrong: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="bid_levels_check"):
        market_data.upsert_orderbook_snapshots(pg, [book(**wrong)])


def test_a_quote_gets_its_midpoint_spread_and_probability(pg: psycopg.Connection) -> None:
    rows = [
        quote(),
        quote(at=NOON + 1 * SECOND, yes_bid=Decimal(0), yes_ask=Decimal("0.01"), last_price=Decimal("0.02")),
        quote(at=NOON + 2 * SECOND, yes_bid=Decimal("0.98"), yes_ask=Decimal(1), last_price=Decimal("0.97")),
        quote(at=NOON + 3 * SECOND, yes_bid=None, yes_ask=None, last_price=None),
        quote(at=NOON + 4 * SECOND, yes_bid=Decimal("0.000001"), yes_ask=Decimal("0.000002")),
    ]
    market_data.upsert_price_snapshots(pg, rows)
    found = market_data.snapshots_between(pg, market_ticker=T80, start_time=NOON, end_time=NOON + HOUR)
    assert [row.implied_probability for row in found] == [
        Decimal("0.42"), Decimal("0.02"), Decimal("0.97"), None, Decimal("0.0000015"),
    ]  # fmt: skip
    assert (found[0].midpoint, found[0].spread, found[3].spread) == (Decimal("0.42"), Decimal("0.04"), None)


async def test_an_asynchronous_connection_writes_and_reads_the_same(apg: psycopg.AsyncConnection, pg: psycopg.Connection) -> None:
    assert (await catalog.upsert_events(apg, [event()])).inserted == 1
    assert (await catalog.upsert_markets(apg, [market(), market()])).unchanged == 1
    assert (await market_data.upsert_candlesticks(apg, [candle()])).written == 1
    assert (await market_data.insert_public_trades(apg, [trade(1), trade(2)])).written == 2
    assert (await market_data.upsert_price_snapshots(apg, [quote()])).written == 1
    await apg.commit()
    asked = {"market_ticker": T80, "start_time": NOON, "end_time": NOON + SECOND}
    assert await market_data.trades_between(apg, **asked) == market_data.trades_between(pg, **asked)
    assert [row async for row in market_data.trades_in_window(apg, start_time=NOON, end_time=NOON + SECOND)] == list(
        market_data.trades_in_window(pg, start_time=NOON, end_time=NOON + SECOND)
    )
    pairs = {"market_tickers": [T80, "KXNEVER"], "decision_times": [NOON, NOON], "max_age": HOUR}
    assert await market_data.quotes_as_of(apg, **pairs) == market_data.quotes_as_of(pg, **pairs)
    assert await catalog.market_by_ticker(apg, market_ticker=T80) == catalog.market_by_ticker(pg, market_ticker=T80)
    assert await catalog.market_by_ticker(apg, market_ticker="KXNEVER") is None


def test_a_market_that_closes_before_it_opens_is_the_venues_error_and_stored(pg: psycopg.Connection) -> None:
    assert catalog.upsert_markets(pg, [market(close_time=NOON - 2 * DAY)]).inserted == 1
