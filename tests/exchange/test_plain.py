"""The fast way of reading answers: it accepts nothing that the general way refuses, and stores what that would store."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from kalshidb.exchange import plain, rows
from kalshidb.exchange.client import Answer, ExchangeClient
from kalshidb.exchange.recognise import Hints, Item, Kind, parse, recognise
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.models.catalog import MarketInput, MarketVersionInput, SettlementInput
from kalshidb.models.market_data import Candlestick, PriceSnapshotInput, PublicTrade

NOON = datetime(2026, 7, 18, 12, tzinfo=UTC)
MINUTES = Hints(period_interval_minutes=1, observed_at=NOON)
NOT_APART = timedelta(0)


def read_fast(document: object, hints: Hints) -> plain.Page | None:
    return plain.read(document, hints, NOON, NOT_APART)


def rows_of_the_general_way(document: object, hints: Hints) -> list[Candlestick | PublicTrade]:
    made = []
    for found in recognise(document, hints):
        assert isinstance(found, Item), found
        (row,) = rows.rows_of(parse(found), found.observed_at or NOON, "poll")
        assert isinstance(row, Candlestick | PublicTrade)
        made.append(row)
    return made


def same_rows(page: plain.Page, general: list[Candlestick | PublicTrade]) -> bool:
    model = Candlestick if page.kind is Kind.CANDLESTICK else PublicTrade
    names = plain.CANDLESTICK_FIELDS if page.kind is Kind.CANDLESTICK else plain.TRADE_FIELDS
    return [model.model_validate(dict(zip(names, row, strict=True))) for row in page.rows] == general


PARTS: dict[type[BaseModel], tuple[str, ...]] = {
    MarketInput: plain.MARKET_FIELDS, MarketVersionInput: plain.VERSION_FIELDS, PriceSnapshotInput: plain.QUOTE_FIELDS,
    SettlementInput: plain.SETTLEMENT_FIELDS,
}  # fmt: skip


def same_markets(page: plain.Page, document: object, hints: Hints) -> None:
    """Assert that the rows of markets, and the objects behind them, are those of the general way."""
    items = list(recognise(document, hints))
    behind: dict[type[BaseModel], list[Item]] = {model: [] for model in PARTS}
    general: dict[type[BaseModel], list[BaseModel]] = {model: [] for model in PARTS}
    for found in items:
        assert isinstance(found, Item), found
        for row in rows.rows_of(parse(found), found.observed_at or NOON, "poll"):
            general[type(row)].append(row)
            behind[type(row)].append(found)
    pages = dict(zip(PARTS, (page, page.versions, page.quotes, page.settlements), strict=True))
    for model, part in pages.items():
        assert part is not None
        fast = [model.model_validate(dict(zip(PARTS[model], row, strict=True))) for row in part.rows]
        assert fast == general[model]
        assert [part.item(place) for place in range(len(part.rows))] == behind[model]
    assert page.size == sum(map(len, general.values()))


def test_the_values_stand_in_the_order_of_the_tables() -> None:
    for model, fields in PARTS.items():
        assert tuple(model.model_fields) == fields
    assert tuple(Candlestick.model_fields) == plain.CANDLESTICK_FIELDS
    assert tuple(PublicTrade.model_fields) == plain.TRADE_FIELDS


@pytest.fixture(scope="module")
def client() -> Iterator[ExchangeClient]:
    with (
        SimulatedExchange(seed=7, markets=300) as exchange,
        ExchangeClient(exchange.base_url, limit=None) as client,
    ):
        yield client


def test_answers_of_every_endpoint_are_read_the_fast_way_and_alike(client: ExchangeClient) -> None:
    markets = [
        market | {"series": event["series_ticker"]}
        for answer in client.events(with_nested_markets=True)
        for event in answer.document["events"]
        for market in event.get("markets", ())
    ]
    old = [market for answer in client.historical_markets() for market in answer.document["markets"]]
    some = min(markets, key=lambda market: market["open_time"])
    begin = datetime.fromisoformat(some["open_time"])
    end = begin + timedelta(days=5)

    def asked(answers: Iterator[Answer], ticker: str | None = None) -> None:
        seen = 0
        for answer in answers:
            hints = Hints(market_ticker=ticker, period_interval_minutes=60, observed_at=answer.retrieved_at)
            page = read_fast(answer.document, hints)
            assert page is not None, answer.body[:300]
            assert same_rows(page, rows_of_the_general_way(answer.document, hints))
            seen += len(page.rows)
        assert seen

    asked(client.candlesticks_batch([market["ticker"] for market in markets[:20]], begin, end, 60))
    asked(client.candlesticks(some["series"], some["ticker"], begin, end, 60), some["ticker"])
    asked(client.event_candlesticks(some["series"], some["event_ticker"], begin, end, 60))
    opened = datetime.fromisoformat(old[0]["open_time"])
    asked(client.historical_candlesticks(old[0]["ticker"], opened, opened + timedelta(days=5), 60), old[0]["ticker"])
    asked(client.trades())
    asked(client.historical_trades())


def test_pages_of_markets_are_read_the_fast_way_and_alike(client: ExchangeClient) -> None:
    kinds: set[str] = set()
    for answer in (*client.markets(), *client.historical_markets()):
        hints = Hints(observed_at=answer.retrieved_at)
        page = read_fast(answer.document, hints)
        assert page is not None, answer.body[:300]
        same_markets(page, answer.document, hints)
        kinds |= {market["status"] for market in answer.document["markets"]}
        assert page.rows
    assert {"active", "finalized"} <= kinds


def market(**changed: object) -> dict[str, Any]:
    usual: dict[str, object] = {
        "ticker": "KXA-26JUL18-T80", "event_ticker": "KXA-26JUL18", "title": "80° or above?", "status": "active", "result": "",
        "market_type": "binary", "yes_sub_title": "80° or above", "open_time": "2026-07-17T14:00:00Z",
        "close_time": "2026-07-19T03:59:59.5Z", "expiration_time": "2026-07-26T03:59:59Z", "strike_type": "greater",
        "floor_strike": Decimal("79.5"), "yes_bid_dollars": "0.4000", "yes_ask_dollars": "0.4400", "no_bid_dollars": "0.5600",
        "no_ask_dollars": "0.6000", "last_price_dollars": "0.4100", "volume_fp": "12.50", "volume_24h_fp": "1.00",
        "open_interest_fp": "3.00", "liquidity_dollars": "0.0000", "settlement_timer_seconds": 3600, "can_close_early": True,
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
    }  # fmt: skip
    return usual | changed


QUOTES = ("yes_bid_dollars", "yes_ask_dollars", "no_bid_dollars", "no_ask_dollars")


def test_markets_without_quotes_or_offers_are_read_alike() -> None:
    nobody = market(ticker="KXA-26JUL18-T81", **dict.fromkeys(QUOTES))
    no_offer = market(ticker="KXA-26JUL18-T82", yes_ask_dollars="0.0000", no_bid_dollars="1.0000", no_ask_dollars="0")
    settled = market(result="no", settlement_ts="2026-07-19T12:00:00Z", settlement_value_dollars="0.0000", status="finalized")
    untraded = settled | {"ticker": "KXA-26JUL18-T83", "volume_fp": "0.00", "settlement_value_dollars": None, "result": "yes"}
    document = page_of(nobody, no_offer, settled, untraded)
    page = read_fast(document, MINUTES)
    assert page is not None
    assert page.quotes is not None
    assert len(page.quotes.rows) == 3
    same_markets(page, document, MINUTES)


def page_of(*markets: object, **beside: object) -> dict[str, Any]:
    return {"cursor": "", "markets": list(markets)} | beside


def candle(**changed: object) -> dict[str, Any]:
    quote = {"open_dollars": "0.4100", "low_dollars": "0.4000", "high_dollars": "0.4300", "close_dollars": "0.4200"}
    usual: dict[str, object] = {
        "end_period_ts": 1784371200,
        "yes_bid": dict(quote),
        "yes_ask": dict(quote),
        "price": quote | {"mean_dollars": "0.4150", "previous_dollars": "0.4000"},
        "volume_fp": "12.50",
        "open_interest_fp": "100.00",
    }
    return usual | changed


def trade(**changed: object) -> dict[str, Any]:
    usual: dict[str, object] = {
        "trade_id": "00000000-0000-4000-8000-000000000001",
        "ticker": "KXA-26JUL18-T80",
        "count_fp": "1.50",
        "yes_price_dollars": "0.4200",
        "no_price_dollars": "0.5800",
        "taker_outcome_side": "yes",
        "taker_book_side": "bid",
        "taker_side": "yes",
        "created_time": "2026-07-18T11:59:59.123456Z",
        "is_block_trade": False,
    }
    return usual | changed


def of_one_market(*candles: object) -> dict[str, Any]:
    return {"ticker": "KXA-26JUL18-T80", "candlesticks": list(candles)}


NOT_AS_USUAL = [
    of_one_market(candle(volume=3)),
    of_one_market(candle(volume_fp=3)),
    of_one_market(candle(volume_fp="-1.00")),
    of_one_market(candle(volume_fp="NaN")),
    of_one_market(candle(end_period_ts="1784371200")),
    of_one_market(candle(end_period_ts=1784371200.0)),
    of_one_market(candle(end_period_ts=True)),
    of_one_market(candle(end_period_ts=17)),
    of_one_market(candle(yes_bid={"open_dollars": "1.0100"})),
    of_one_market(candle(yes_bid={"open_dollars": 42})),
    of_one_market(candle(yes_bid={"open_dollars": 0.42})),
    of_one_market(candle(yes_bid={"open_dollars": "42"})),
    of_one_market(candle(yes_bid={"open_dollars": "0.4200", "open": 41})),
    of_one_market(candle(yes_bid={"low_dollars": "0.5000", "high_dollars": "0.4000"})),
    of_one_market(candle(yes_bid={"low_dollars": "0.45", "high_dollars": "0.4400"})),
    of_one_market(candle(yes_bid=["0.4200"])),
    of_one_market(candle(price={"min_dollars": "0.5000", "max_dollars": "0.4000"})),
    of_one_market(candle(market_ticker="KXB-26JUL18-T80")),
    of_one_market(candle(period_interval=60)),
    of_one_market("candle"),
    of_one_market({}),
    {"ticker": "two words", "candlesticks": [candle()]},
    {"ticker": "KXA-26JUL18-T80", "candlesticks": {}},
    {"candlesticks": [candle()]},
    {"ticker": "KXA-26JUL18-T80", "candlesticks": [candle()], "error": {"code": "x"}},
    {"markets": [{"market_ticker": "KXA-26JUL18-T80", "candlesticks": [candle()], "title": "x"}]},
    {"market_tickers": ["KXA-26JUL18-T80"], "market_candlesticks": [[candle()], [candle()]]},
    {"trades": [trade(count_fp="0.00")]},
    {"trades": [trade(count=1)]},
    {"trades": [trade(yes_price_dollars="0.4300")]},
    {"trades": [trade(yes_price_dollars=42, no_price_dollars=58)]},
    {"trades": [trade(taker_side="no")]},
    {"trades": [trade(taker_side="YES")]},
    {"trades": [trade(created_time="2026-13-18T11:59:59Z")]},
    {"trades": [trade(created_time="2026-07-18T11:59:59")]},
    {"trades": [trade(created_time="1999-07-18T11:59:59Z")]},
    {"trades": [trade(trade_id="1")]},
    {"trades": [trade(is_block_trade="no")]},
    {"trades": [trade(fill_id="x")]},
    {"trades": [trade()], "fills": []},
    page_of(market(yes_bid=40)),
    page_of(market(yes_bid_dollars=40)),
    page_of(market(yes_bid_dollars="1.5")),
    page_of(market(yes_bid_dollars="")),
    page_of(market(volume_fp=12)),
    page_of(market(volume=12)),
    page_of(market(title=None)),
    page_of(market(title="\0")),
    page_of(market(title="\ud800")),
    page_of(market(status="")),
    page_of(market(status=None)),
    page_of(market(ticker="two words")),
    page_of(market(event_ticker=None)),
    page_of(market(open_time=1784371200)),
    page_of(market(close_time="2026-13-19T03:59:59Z")),
    page_of(market(created_time="yesterday")),
    page_of(market(can_close_early=1)),
    page_of(market(can_close_early=Decimal(1))),
    page_of(market(floor_strike="high")),
    page_of(market(floor_strike=True)),
    page_of(market(custom_strike=["x"])),
    page_of(market(custom_strike={"x": Decimal("NaN")})),
    page_of(market(price_ranges={"start": "0"})),
    page_of(market(price_ranges=["0"])),
    page_of(market(exchange_index=-1)),
    page_of(market(settlement_timer_seconds=True)),
    page_of(market(mve_collection_ticker="two words")),
    page_of(market(series_ticker="KXA")),
    page_of(market(orderbook={"yes": []})),
    page_of(market(captured_at="2026-07-18T12:00:00Z")),
    page_of(market(a_new_name="x")),
    page_of("market"),
    page_of(market(), cursor='{"trades": []}'),
    page_of(market(), trades=[]),
    page_of(market(), events=[{"event_ticker": "KXA-26JUL18", "series_ticker": "KXA"}]),
    {"markets": [market()]},
]


@pytest.mark.parametrize("document", NOT_AS_USUAL, ids=lambda document: json.dumps(document, default=str)[:150])
def test_what_is_not_as_usual_is_left_to_the_general_way(document: object) -> None:
    assert read_fast(document, MINUTES) is None


def test_a_hint_that_the_answer_contradicts_is_left_to_the_general_way() -> None:
    other = Hints(market_ticker="KXB-26JUL18-T80", period_interval_minutes=1)
    assert read_fast(of_one_market(candle()), other) is None
    assert read_fast({"trades": [trade()]}, other) is None
    assert read_fast(of_one_market(candle()), Hints(kind=Kind.TRADE, period_interval_minutes=1)) is None
    assert read_fast({"trades": [trade()]}, Hints(kind=Kind.CANDLESTICK)) is None
    assert read_fast(of_one_market(candle()), Hints()) is None
    within_the_hour = of_one_market(candle(end_period_ts=1784371260))
    assert read_fast(within_the_hour, Hints(period_interval_minutes=60)) is None
    assert read_fast(within_the_hour, MINUTES) is not None


PRICES = st.one_of(
    st.none(), st.integers(0, 100).map(lambda cents: f"{cents / 100:.4f}"), st.sampled_from(["0.5", "0.123456", "1.0000", "-0.0000"]),
    st.sampled_from([42, 0.42, "1.5", "", "1e-2", True, Decimal("0.42"), ["0.1"]]),
)  # fmt: skip
COUNTS = st.one_of(
    st.none(), st.sampled_from(["0.00", "12.50", "99999999999999.99"]), st.sampled_from(["1", 3, "1.234", "x", -1])
)


def parts(names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just({}), st.none(), st.fixed_dictionaries({}, optional=dict.fromkeys(names, PRICES)))


QUOTE = ("open_dollars", "low_dollars", "high_dollars", "close_dollars")
CANDLES = st.fixed_dictionaries(
    {"end_period_ts": st.sampled_from([1784371200, 1784371260, 1784374800, 5])},
    optional={
        "yes_bid": parts(QUOTE), "yes_ask": parts(QUOTE), "price": parts((*QUOTE, "mean_dollars", "previous_dollars", "open")),
        "volume_fp": COUNTS, "open_interest_fp": COUNTS,
    },
)  # fmt: skip
TRADES = st.fixed_dictionaries(
    {},
    optional={
        "trade_id": st.sampled_from([str(UUID(int=5)), str(UUID(int=5)).upper(), "x"]),
        "ticker": st.sampled_from(["KXA-B", "a b", "", 5]),
        "count_fp": COUNTS,
        "yes_price_dollars": st.sampled_from(["0.4200", "0.42", "0.5800"]),
        "no_price_dollars": st.sampled_from(["0.5800", "0.58", None]),
        "taker_outcome_side": st.sampled_from(["yes", "no", "", None]),
        "taker_book_side": st.sampled_from(["bid", "ask", None]),
        "taker_side": st.sampled_from(["yes", "no", None]),
        "created_time": st.sampled_from(["2026-07-18T11:59:59.1Z", "2026-07-18T11:59:59.1234567Z", "2026-02-30T11:59:59Z", ""]),
        "is_block_trade": st.sampled_from([True, False, None, "x"]),
    },
).map(lambda some: {name: value for name, value in (trade() | some).items() if value != ""})
WORDS = st.sampled_from([None, "", "yes", "no", "scalar", "80°", 5])
TIMES = st.sampled_from(
    [None, "", "2026-07-18T11:59:59Z", "2026-07-18t11:59:59.123456789-04:00", "0001-01-01T00:00:00Z", "2026-02-30T11:59:59Z", 5]
)
MARKETS = st.fixed_dictionaries(
    {},
    optional={
        "ticker": st.sampled_from(["KXA-B", "a b", None]), "title": WORDS, "status": st.sampled_from(["active", "finalized", "", None]),
        "result": WORDS, "settlement_ts": TIMES, "settlement_value_dollars": PRICES, "close_time": TIMES,
        "latest_expiration_time": TIMES, "yes_bid_dollars": PRICES, "yes_ask_dollars": PRICES, "no_bid_dollars": PRICES,
        "no_ask_dollars": PRICES, "last_price_dollars": PRICES, "volume_fp": COUNTS, "volume_24h_fp": COUNTS,
        "floor_strike": st.sampled_from([None, 80, "79.5", Decimal("79.5"), Decimal("1e400"), True]),
        "custom_strike": st.sampled_from([None, {}, {"a": {"b": [1, None]}}, []]), "functional_strike": WORDS,
        "price_ranges": st.sampled_from([None, [], [{"start": "0"}], [1]]), "liquidity_dollars": st.sampled_from([None, "-3.5", "x", 3]),
        "can_close_early": st.sampled_from([None, True, 0]), "exchange_index": st.sampled_from([None, 1, -1, "1"]),
        "mve_collection_ticker": st.sampled_from([None, "", "KXMVE-R", "a b"]),
    },
).map(lambda some: market() | some)  # fmt: skip
DOCUMENTS = st.one_of(
    st.lists(CANDLES, max_size=3).map(lambda candles: of_one_market(*candles)),
    st.lists(TRADES, max_size=2).map(lambda some: {"trades": some}),
    st.lists(MARKETS, max_size=2).map(lambda some: page_of(*some)),
)


def check_against_the_general_way(document: object) -> None:
    page = read_fast(document, MINUTES)
    if page is not None and page.kind is Kind.MARKET:
        same_markets(page, document, MINUTES)
    elif page is not None:
        assert same_rows(page, rows_of_the_general_way(document, MINUTES))


@given(DOCUMENTS)
@settings(max_examples=600)
def test_whatever_the_fast_way_accepts_the_general_way_reads_alike(document: object) -> None:
    try:
        check_against_the_general_way(document)
    except ValidationError as error:  # the general way refuses it
        raise AssertionError(f"accepted {document}") from error


@pytest.mark.parametrize(
    ("document", "place", "ticker", "path"),
    [
        (of_one_market(candle(), candle(end_period_ts=1784371260)), 1, "KXA-26JUL18-T80", "$.candlesticks[1]"),
        ({"trades": [trade(), trade(ticker="KXB-26JUL18-T80")]}, 1, "KXB-26JUL18-T80", "$.trades[1]"),
        (
            {
                "markets": [
                    {"market_ticker": "KXA-1", "candlesticks": [candle()]},
                    {"market_ticker": "KXA-2", "candlesticks": []},
                    {"market_ticker": "KXA-3", "candlesticks": [candle(), candle(end_period_ts=1784371260)]},
                ]
            },
            2,
            "KXA-3",
            "$.markets[2].candlesticks[1]",
        ),
    ],
)
def test_the_object_behind_a_row_is_the_one_that_the_general_way_finds(
    document: object, place: int, ticker: str, path: str
) -> None:
    page = read_fast(document, MINUTES)
    assert page is not None
    behind: Callable[[Hints], list[Any]] = lambda hints: list(recognise(document, hints))  # noqa: E731
    general = behind(MINUTES)[place]
    assert page.item(place) == general
    assert (general.market_ticker, general.path) == (ticker, path)


def test_objects_that_do_not_say_when_they_were_seen_stand_apart() -> None:
    page = plain.read({"trades": [trade(), trade()]}, Hints(), NOON, timedelta(microseconds=1))
    assert page is not None
    assert [row[8] for row in page.rows] == [NOON, NOON + timedelta(microseconds=1)]
