"""Children that arrive before their parents: stubs stand in, a later load completes them, and both ways give the same."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest
from loading import Store, candle, event, market, series, trade

from kalshidb.queries import catalog

NY, LA = "KXRAIN-26NOV01-NY", "KXRAIN-26NOV01-LA"


def stubs(store: Store) -> set[tuple[str, str]]:
    return {(stub.kind, stub.ticker) for stub in catalog.stubs(store.conn)}


def test_a_candlestick_of_an_unknown_market_leaves_a_stub_that_the_market_completes(store: Store) -> None:
    report = store.give({"ticker": NY, "period_interval": 60, "candlesticks": [candle()]})
    assert report.counts("candlestick").written == 1
    assert stubs(store) == {("market", NY)}
    store.give(market())
    assert stubs(store) == {("event", "KXRAIN-26NOV01")}
    store.give(event())
    assert stubs(store) == {("series", "KXRAIN")}
    assert store.give(series()).counts("series").written == 1
    assert stubs(store) == set()


@pytest.mark.parametrize(
    "document",
    [
        {"market_ticker": NY, "orderbook_fp": {"yes_dollars": [["0.40", "5.00"]], "no_dollars": []}},
        {"type": "ticker", "sid": 1, "msg": {"market_ticker": NY, "yes_bid_dollars": "0.40", "yes_ask_dollars": "0.42",
                                             "ts": 1_793_534_400}},
        {"type": "orderbook_delta", "sid": 1, "seq": 2, "msg": {"market_ticker": NY, "price_dollars": "0.40", "delta_fp": "-1.00",
                                                                "side": "yes", "ts": "2026-11-01T10:00:00Z"}},
        {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": NY, "yes_dollars_fp": [["0.40", "5.00"]]}},
    ],
    ids=["book", "ticker", "delta", "snapshot"],
)  # fmt: skip
def test_whatever_names_an_unknown_market_leaves_a_stub(store: Store, document: object) -> None:
    report = store.give(document)
    assert (report.total.written, report.total.rejected) == (1, 0)
    assert stubs(store) == {("market", NY)}


def test_a_trade_needs_no_market(store: Store) -> None:
    """Combos trade before the catalogue knows them."""
    assert store.give(trade()).counts("trade").written == 1
    assert stubs(store) == set()
    assert store.column("SELECT market_ticker FROM market_data.orphan_trades") == [NY]


def test_a_child_that_comes_again_makes_no_stub_of_what_is_known(store: Store) -> None:
    store.give([series(), event(), market()])
    store.give({"ticker": NY, "period_interval": 60, "candlesticks": [candle()]})
    store.give(market(LA))
    assert stubs(store) == set()
    assert store.value("SELECT title FROM catalog.markets WHERE market_ticker = %s", NY) == "Rain in New York?"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_series_and_category_reach_the_markets_in_every_order(store: Store, order: tuple[int, ...]) -> None:
    documents = [series(), event(), {"markets": [market(), market(LA, close_time="2026-11-03T05:00:00Z")]}]
    for place in order:
        assert store.give(documents[place]).total.rejected == 0
    rows = store.conn.execute("SELECT market_ticker, series_ticker, category FROM catalog.markets ORDER BY 1 DESC").fetchall()
    assert rows == [(NY, "KXRAIN", "Climate"), (LA, "KXRAIN", "Climate")]
    assert stubs(store) == set()


@pytest.mark.parametrize("event_first", [True, False])
def test_an_event_is_open_from_its_first_market_to_its_last(store: Store, event_first: bool) -> None:
    markets = {"markets": [market(), market(LA, open_time="2026-10-30T14:00:00Z", close_time="2026-11-03T05:00:00Z")]}
    for document in (event(), markets) if event_first else (markets, event()):
        store.give(document)
    found = store.conn.execute("SELECT open_time, close_time FROM catalog.events").fetchone()
    assert found == (datetime(2026, 10, 30, 14, tzinfo=UTC), datetime(2026, 11, 3, 5, tzinfo=UTC))


def test_markets_nested_in_an_event_are_its_children(store: Store) -> None:
    report = store.give({"event": event(markets=[market(event_ticker="KXRAIN-26NOV01")])})
    assert {kind: counts.written for kind, counts in report.kinds.items()} == {
        "event": 1, "market": 1, "market_version": 1, "price_snapshot": 1,
    }  # fmt: skip
    assert store.value("SELECT series_ticker FROM catalog.markets") == "KXRAIN"


@pytest.mark.parametrize(
    ("result", "value", "payouts"),
    [("yes", "1.0000", "1 1 0"), ("no", "0.0000", "1 0 1"), ("yes", None, "1 1 0"), ("scalar", "0.2500", "0.25 0.25 0.75")],
)
def test_a_settled_market_leaves_its_outcome(store: Store, result: str, value: str | None, payouts: str) -> None:
    settled = market(
        status="finalized", result=result, settlement_ts="2026-11-02T06:00:00Z", settlement_value_dollars=value,
        yes_bid_dollars="0.0000", yes_ask_dollars="1.0000", no_bid_dollars="0.0000", no_ask_dollars="1.0000",
    )  # fmt: skip
    assert store.give(settled).counts("settlement").written == 1
    row = store.conn.execute("SELECT outcome, payout, yes_payout, no_payout, final_yes_price FROM catalog.settlements").fetchone()
    assert row == (result, *map(Decimal, payouts.split()), Decimal("0.41"))
    assert store.give(settled).counts("settlement").unchanged == 1


def test_a_market_that_never_traded_has_no_last_price_in_its_settlement(store: Store) -> None:
    never = market(result="no", settlement_ts="2026-11-02T06:00:00Z", volume_fp="0.00", last_price_dollars="0.0000")
    store.give(never)
    assert store.value("SELECT final_yes_price FROM catalog.settlements") is None
