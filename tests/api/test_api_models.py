"""Models at the edge: every spelling of a market, what a price implies, and requests that are refused with a reason."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from kalshidb.api.backtests import BacktestRequest
from kalshidb.api.markets import KalshiMarket, MarketResponse
from kalshidb.models.catalog import CurrentMarket
from kalshidb.models.market_data import PriceSnapshot

NOON = datetime(2026, 7, 19, 12, tzinfo=UTC)
MARKET: dict[str, Any] = {
    "ticker": "KX-1", "title": "Rain?", "category": "Weather", "volume": 12, "open_interest": 3, "status": "active",
    "close_time": "2026-07-19T12:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize(
    "prices",
    [
        pytest.param({"yes_bid": 42, "no_bid": 55}, id="cents, until March 2026"),
        pytest.param({"yes_bid": "0.42", "no_bid": "0.5500"}, id="dollars under plain names"),
        pytest.param({"yes_bid_dollars": "0.4200", "no_bid_dollars": "0.5500"}, id="today"),
        pytest.param({"yes_price": Decimal("0.42"), "no_price": Decimal("0.55")}, id="our names"),
        pytest.param({"yes_price": 0.42, "no_bid": 55}, id="mixed"),
        pytest.param({"yes_bid_dollars": "0.4200", "yes_bid": 42, "no_bid_dollars": "0.55", "no_bid": None}, id="both forms"),
    ],
)
def test_a_market_is_read_in_every_spelling(prices: dict[str, Any]) -> None:
    market = KalshiMarket.model_validate(MARKET | prices | {"a_field_of_next_year": 1})
    assert (market.yes_price, market.no_price) == (Decimal("0.42"), Decimal("0.55"))
    assert (market.volume, market.open_interest, market.close_time) == (12, 3, NOON)


def test_todays_counts_are_not_whole() -> None:
    payload = MARKET | {"volume": None, "volume_fp": "132.93", "open_interest_fp": "3.00", "yes_price": 0, "no_price": "1"}
    assert KalshiMarket.model_validate(payload).volume == Decimal("132.93")


def test_a_dollar_is_a_dollar_where_the_name_says_so_and_a_cent_where_it_does_not() -> None:
    at_the_edge = KalshiMarket.model_validate(MARKET | {"yes_bid_dollars": 1, "no_bid": 1})
    assert (at_the_edge.yes_price, at_the_edge.no_price) == (1, Decimal("0.01"))


@pytest.mark.parametrize("status", ["active", "closed", "settled", "finalized", "a word of next year"])
def test_a_new_status_stops_nobody(status: str) -> None:
    assert KalshiMarket.model_validate(MARKET | {"yes_bid": 42, "no_bid": 55, "status": status}).status == status


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"yes_bid": "1.01"}, "yes_bid\n.*1.01 is not a price between 0 and 1 dollar"),
        ({"yes_bid": "42"}, "looks like cents|is not a price"),
        ({"yes_bid": 101}, "not a price between 0 and 100 cents"),
        ({"yes_bid_dollars": "-0.1"}, "yes_bid_dollars\n.*-0.1 is not a price"),
        ({"yes_price": "0.60"}, "yes_bid says 0.42 and yes_price says 0.60"),
        ({"volume": -1}, "volume\n.*negative"),
        ({"volume_fp": "17.00"}, "volume_fp says 17.00 and volume says 12"),
        ({"close_time": "2026-07-19T12:00:00"}, "close_time\n.*no offset"),
        ({"close_time": datetime(2026, 7, 19)}, "close_time\n.*timezone"),  # noqa: DTZ001
        ({"close_time": "0001-01-01T00:00:00Z"}, "close_time\n"),
        ({"ticker": "two words"}, "ticker\n"),
        ({"status": ""}, "status\n"),
    ],
)
def test_what_cannot_be_is_refused_with_field_and_value(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KalshiMarket.model_validate(MARKET | {"yes_bid": 42, "no_bid": 55} | wrong)


def test_no_market_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="KalshiMarket"):
        KalshiMarket.model_validate("KX-1")


RESPONSE: dict[str, Any] = {
    "ticker": "KX-1", "title": "Rain?", "yes_price": "0.42", "no_price": "0.55", "volume": 12, "status": "active", "last_updated": NOON,
}  # fmt: skip


def test_the_price_of_yes_implies_its_probability_unless_something_better_is_known() -> None:
    assert MarketResponse.model_validate(RESPONSE).implied_probability == Decimal("0.42")
    assert MarketResponse.model_validate(RESPONSE | {"implied_probability": "0.435"}).implied_probability == Decimal("0.435")
    for wrong in ({"implied_probability": "1.01"}, {"yes_price": "-0.1"}, {"last_updated": datetime(2026, 7, 19)}):  # noqa: DTZ001
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            MarketResponse.model_validate(RESPONSE | wrong)


def snapshot(**changes: Any) -> PriceSnapshot:  # noqa: ANN401
    row = {
        "market_ticker": "KX-1", "snapshot_time": NOON, "source": "poll", "yes_bid": "0.4", "no_bid": "0.5", "volume": 12,
        "status": "active", "title": "Rain?", "implied_probability": "0.45", "retrieved_at": NOON,
    }  # fmt: skip
    return PriceSnapshot.model_validate(row | changes)


def test_an_answer_is_made_from_a_stored_quote() -> None:
    made = MarketResponse.from_snapshot(snapshot())
    assert made.model_dump(mode="json") == {
        "ticker": "KX-1", "title": "Rain?", "yes_price": "0.4", "no_price": "0.5", "implied_probability": "0.45", "volume": "12",
        "status": "active", "last_updated": "2026-07-19T12:00:00Z",
    }  # fmt: skip
    assert MarketResponse.from_snapshot(snapshot(title=None), title="Snow?").title == "Snow?"
    assert MarketResponse.from_snapshot(snapshot(implied_probability=None)).implied_probability == Decimal("0.4")
    with pytest.raises(ValueError, match=r"^KX-1: title, no_bid not known"):
        MarketResponse.from_snapshot(snapshot(no_bid=None, title=None))


@pytest.mark.parametrize(
    ("bid", "ask", "last", "implied"),
    [
        ("0.40", "0.51", "0.3", "0.455"),
        ("0", "0.51", "0.3", "0.3"),  # nobody bids: the middle would say nothing
        ("0.40", "1", "0.3", "0.3"),
        ("0.40", None, None, "0.40"),
        ("0.400001", "0.400002", None, "0.4000015"),
    ],
)
def test_an_answer_is_made_from_a_current_market(bid: str, ask: str | None, last: str | None, implied: str) -> None:
    row = {
        "market_ticker": "KX-1", "platform_id": "kalshi", "title": "", "status": "active", "valid_from": NOON, "volume": 1,
        "yes_bid": bid, "yes_ask": ask, "no_bid": "0.4", "last_price": last,
    }  # fmt: skip
    assert MarketResponse.from_market(CurrentMarket.model_validate(row)).implied_probability == Decimal(implied)


def test_a_request_becomes_the_columns_of_a_run() -> None:
    asked = BacktestRequest.model_validate_json(
        '{"strategy": "fade the open", "market_filter": "weather", "start_date": "2026-07-01", "end_date": "2026-07-02"}'
    )
    assert asked.as_run() == {
        "strategy_name": "fade the open",
        "date_start_local": date(2026, 7, 1),
        "date_end_local": date(2026, 7, 2),
        "metadata": {"market_filter": "weather"},
    }
    assert BacktestRequest(strategy="x" * 100, start_date=date(2026, 7, 1), end_date=date(2026, 7, 2)).as_run()["metadata"] == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"end_date": "2026-07-01"}, "end_date must be after start_date: 2026-07-01 is not after 2026-07-01"),
        ({"end_date": "2026-06-30"}, "end_date must be after start_date"),
        ({"strategy": ""}, "strategy\n.*at least 1"),
        ({"strategy": "x" * 101}, "strategy\n.*at most 100"),
        ({"strategy": " fade"}, "strategy\n.*pattern"),
        ({"marketfilter": "x"}, "marketfilter\n.*not permitted"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BacktestRequest.model_validate({"strategy": "fade", "start_date": "2026-07-01", "end_date": "2026-07-02"} | wrong)
