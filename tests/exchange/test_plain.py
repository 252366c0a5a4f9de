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
from pydantic import ValidationError

from kalshidb.exchange import plain, rows
from kalshidb.exchange.client import Answer, ExchangeClient
from kalshidb.exchange.recognise import Hints, Item, Kind, parse, recognise
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.models.market_data import Candlestick, PublicTrade

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


def test_the_values_stand_in_the_order_of_the_tables() -> None:
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
]


@pytest.mark.parametrize("document", NOT_AS_USUAL, ids=json.dumps)
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
DOCUMENTS = st.one_of(
    st.lists(CANDLES, max_size=3).map(lambda candles: of_one_market(*candles)),
    st.lists(TRADES, max_size=2).map(lambda some: {"trades": some}),
)


def check_against_the_general_way(document: object) -> None:
    page = read_fast(document, MINUTES)
    if page is not None:
        assert same_rows(page, rows_of_the_general_way(document, MINUTES))


@given(DOCUMENTS)
@settings(max_examples=400)
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
