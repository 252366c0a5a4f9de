"""The order and the batches in which observations arrive never decide what is stored: the newest observation does."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import DAY, HOUR, NOON, book, candle, event, market, quote, rows_of, series

from kalshidb.models.market_data import OrderbookSnapshotInput
from kalshidb.queries import catalog, market_data
from kalshidb.typedsql import BulkResult

Write = Callable[[psycopg.Connection, list[Any]], BulkResult]

# Few values, so that ties, confirmations and returns to an earlier state are the rule.
moments = st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours))
words = st.sampled_from([None, "a", "b"])
titles = st.sampled_from(["a", "b"])
payloads = st.sampled_from([None, {"x": 1}, {"x": 2}])
strikes = st.sampled_from([None, Decimal(1), Decimal(2)])
prices = st.sampled_from([None, Decimal("0.4"), Decimal("0.5")])
some_series = st.builds(
    series, st.sampled_from(["S1", "S2"]),
    title=titles, category=words, tags=st.sampled_from([None, ["x"], ["x", "y"]]), raw_json=payloads, retrieved_at=moments,
)  # fmt: skip
some_events = st.builds(
    event, st.sampled_from(["E1", "E2"]),
    series_ticker=st.sampled_from([None, "S1", "S2"]), title=titles, category=words, raw_json=payloads, retrieved_at=moments,
)  # fmt: skip
some_markets = st.builds(
    market, st.sampled_from(["E1-1", "E1-2", "E2-1"]),
    series_ticker=st.sampled_from([None, "S1", "S3"]), category=words, title=titles, floor_strike=strikes,
    close_time=moments.map(lambda moment: moment + DAY), raw_json=payloads, retrieved_at=moments,
)  # fmt: skip
some_candles = st.builds(
    candle, st.sampled_from(["E1-1", "E9-9"]), st.sampled_from([NOON, NOON + DAY * 31]),
    price_close=prices, volume=prices, retrieved_at=moments,
)  # fmt: skip
some_quotes = st.builds(
    quote, source=st.sampled_from(["poll", "websocket"]), last_price=prices, status=words, retrieved_at=moments
)
some_books = st.builds(
    book,
    no_bid_prices=st.sampled_from([[Decimal("0.5")], [Decimal("0.55")]]),
    sequence=st.sampled_from([None, 1]),
    retrieved_at=moments,
)

CATALOG: dict[str, Write] = {
    "SeriesInput": catalog.upsert_series,
    "EventInput": catalog.upsert_events,
    "MarketInput": catalog.upsert_markets,
}
SERIES_OF_TIME: dict[str, Write] = {
    "Candlestick": market_data.upsert_candlesticks,
    "PriceSnapshotInput": market_data.upsert_price_snapshots,
    "OrderbookSnapshotInput": market_data.upsert_orderbook_snapshots,
}
TABLES = {
    "catalog.series": "series_ticker",
    "catalog.events": "event_ticker",
    "catalog.markets": "market_ticker",
    "market_data.candlesticks": "market_ticker, end_period_ts",
    "market_data.price_snapshots": "market_ticker, snapshot_time, source",
    "market_data.orderbook_snapshots": "market_ticker, snapshot_time",
}
WRITES = CATALOG | SERIES_OF_TIME


class _UndoError(Exception):
    pass


def outcome(pg: psycopg.Connection, batches: list[list[Any]]) -> dict[str, list[dict[str, Any]]]:
    """Write the batches, demand that writing them once more changes nothing, and return all rows; nothing stays."""
    found = {}
    try:
        with pg.transaction():
            for rows in batches:
                write_each_kind(pg, rows)
            found = {table: rows_of(pg, table, key) for table, key in TABLES.items()}
            again = sum(write_each_kind(pg, rows) for rows in batches)
            assert again == 0, "a second pass writes nothing"
            assert found == {table: rows_of(pg, table, key) for table, key in TABLES.items()}
            raise _UndoError
    except _UndoError:
        pass
    for rows in found.values():
        for row in rows:
            if row.get("is_stub"):
                del row["retrieved_at"]  # of the child that came first; a stub says nothing else
    return found


def write_each_kind(pg: psycopg.Connection, rows: list[Any]) -> int:
    kinds = list(dict.fromkeys(type(row).__name__ for row in rows))
    return sum(WRITES[kind](pg, [row for row in rows if type(row).__name__ == kind]).written for kind in kinds)


def batched(rows: list[Any], cuts: list[bool]) -> list[list[Any]]:
    batches: list[list[Any]] = [[]]
    for row, cut in zip(rows, cuts, strict=False):
        if cut and batches[-1]:
            batches.append([])
        batches[-1].append(row)
    return batches


RELAXED = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def at_different_moments(rows: list[Any]) -> list[Any]:
    """Leave out what was seen of one key at the same moment as another: there the order decides, as it must be something."""
    kept: dict[Any, Any] = {}
    for row in rows:
        values = row.model_dump(include={"market_ticker", "end_period_ts", "snapshot_time", "source", "retrieved_at"})
        if isinstance(row, OrderbookSnapshotInput):
            del values["source"]  # no part of a book's key
        kept.setdefault((type(row), *values.values()), row)
    return list(kept.values())


@pytest.mark.parametrize(
    "observations",
    [
        pytest.param(st.lists(st.one_of(some_series, some_events, some_markets), min_size=2, max_size=9), id="catalogue"),
        pytest.param(st.lists(some_candles, min_size=2, max_size=7).map(at_different_moments), id="candlesticks"),
        pytest.param(
            st.lists(st.one_of(some_quotes, some_books), min_size=2, max_size=6).map(at_different_moments), id="quotes and books"
        ),
    ],
)
def test_any_order_in_any_batches_ends_in_the_same_rows(
    pg: psycopg.Connection, observations: st.SearchStrategy[list[Any]]
) -> None:
    pg.autocommit = True

    @RELAXED
    @given(st.data())
    def same(data: st.DataObject) -> None:
        rows = data.draw(observations)
        shuffled = data.draw(st.permutations(rows))
        cuts = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
        assert outcome(pg, batched(shuffled, cuts)) == outcome(pg, [[row] for row in rows])

    same()


def test_the_newest_observation_is_what_is_stored(pg: psycopg.Connection) -> None:
    pg.autocommit = True

    @RELAXED
    @given(st.lists(some_candles, min_size=1, max_size=8), st.lists(some_series, min_size=1, max_size=8), st.booleans())
    def newest(candles: list[Any], all_series: list[Any], whole: bool) -> None:
        for key, rows, table in [
            (("market_ticker", "end_period_ts"), candles, "market_data.candlesticks"),
            (("series_ticker",), all_series, "catalog.series"),
        ]:
            stored = outcome(pg, [rows] if whole else [[row] for row in rows])[table]
            assert {tuple(row[name] for name in key) for row in stored} == {
                tuple(getattr(row, name) for name in key) for row in rows
            }
            for row in stored:
                seen = [each for each in rows if all(getattr(each, name) == row[name] for name in key)]
                last = max(each.retrieved_at for each in seen)
                assert any(each.model_dump().items() <= row.items() for each in seen if each.retrieved_at == last)

    newest()


@pytest.mark.parametrize("known", [True, False])
def test_a_tie_is_decided_by_the_content_also_without_a_payload(pg: psycopg.Connection, known: bool) -> None:
    first, second = market(title="a", raw_json=None), market(title="b", raw_json=None)
    rows = [first, second] if known else [second, first]
    for row in rows:
        catalog.upsert_markets(pg, [row])
    assert catalog.market_by_ticker(pg, market_ticker=first.market_ticker).title == "b"  # type: ignore[union-attr]
    assert catalog.upsert_markets(pg, rows).written == 0


def test_a_known_event_without_a_series_leaves_its_markets_without_one(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market("E1-1", series_ticker="S1")])
    catalog.upsert_events(pg, [event("E1", series_ticker=None, category=None, retrieved_at=NOON + HOUR)])
    assert catalog.market_by_ticker(pg, market_ticker="E1-1").series_ticker is None  # type: ignore[union-attr]
