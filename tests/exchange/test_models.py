"""One object, every era: what the exchange sent in January, in March and since must read the same, and nonsense must be refused."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kalshidb.exchange.models import (
    Candlestick,
    Event,
    Market,
    OrderBook,
    OrderBookDeltaFrame,
    OrderBookSnapshotFrame,
    Series,
    Settlement,
    TickerFrame,
    Trade,
    TradeFrame,
    WireModel,
    errors_of,
)

D = Decimal

# Payloads a person can picture


def market(**changes: object) -> dict[str, Any]:
    return {
        "ticker": "KXRAIN-26AUG09-NYC",
        "event_ticker": "KXRAIN-26AUG09",
        "market_type": "binary",
        "title": "Will it rain in New York?",
        "status": "active",
        "result": "",
        "open_time": "2026-08-08T14:00:00Z",
        "close_time": "2026-08-10T04:59:00Z",
        "yes_bid_dollars": "0.1050",
        "yes_ask_dollars": "0.1100",
        "volume_fp": "12.34",
        **changes,
    }


def candle(**changes: object) -> dict[str, Any]:
    return {
        "end_period_ts": 1786137900,
        "price": {
            "open_dollars": "0.4000",
            "high_dollars": "0.4500",
            "low_dollars": "0.3900",
            "close_dollars": "0.4100",
        },
        "yes_bid": {
            "open_dollars": "0.4000",
            "high_dollars": "0.4500",
            "low_dollars": "0.3900",
            "close_dollars": "0.4100",
        },
        "yes_ask": {
            "open_dollars": "0.4000",
            "high_dollars": "0.4500",
            "low_dollars": "0.3900",
            "close_dollars": "0.4100",
        },
        "volume_fp": "5.00",
        "open_interest_fp": "9.25",
        **changes,
    }


def trade(**changes: object) -> dict[str, Any]:
    return {
        "trade_id": "0720e50a-f7e9-a523-af2a-ec835e59ade2",
        "ticker": "KXRAIN-26AUG09-NYC",
        "count_fp": "0.01",
        "yes_price_dollars": "0.5100",
        "no_price_dollars": "0.4900",
        "taker_side": "no",
        "created_time": "2026-08-24T15:15:38.595587Z",
        **changes,
    }


def delta(**changes: object) -> dict[str, Any]:
    message = {"market_ticker": "KXRAIN-26AUG09-NYC", "price_dollars": "0.6800", "delta_fp": "-25.00", "side": "yes"}
    return {"type": "orderbook_delta", "sid": 1, "seq": 7, "msg": message | changes}


def refused(model: type[WireModel], payload: object) -> list[dict[str, Any]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(payload)
    entries = errors_of(caught.value)
    json.dumps(entries).encode()  # can be stored
    return entries


def fields_refused(model: type[WireModel], payload: object) -> list[str]:
    return [entry["field"] for entry in refused(model, payload)]


# Eras


cents = st.integers(0, 100)
dollar_prices = st.integers(0, 10_000).map(lambda ticks: D(ticks).scaleb(-4))
whole_counts = st.integers(0, 10**9).map(D)
counts = st.integers(0, 10**15).map(lambda hundredths: D(hundredths).scaleb(-2))


def as_dollars(value: D | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def as_cents(value: D | None) -> int | None:
    return None if value is None else int(value * 100)


@st.composite
def ohlc(draw: st.DrawFn, prices: st.SearchStrategy[D], *, traded: bool) -> dict[str, D | None]:
    low, a, b, high = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
    part = {"open": a, "high": high, "low": low, "close": b}
    if draw(st.booleans()):
        part |= {"open": b, "close": a}
    return part | ({"mean": a, "previous": draw(prices | st.none())} if traded else {})


def render_ohlc(part: dict[str, D | None], era: str) -> dict[str, Any]:
    match era:
        case "cents":
            plain = {name: as_cents(value) for name, value in part.items()}
            return plain | {f"{name}_dollars": as_dollars(value) for name, value in part.items() if value is not None}
        case "cents only":
            return {name: as_cents(value) for name, value in part.items()}
        case "historical":
            return {name: as_dollars(value) for name, value in part.items()}
        case _:
            return {f"{name}_dollars": as_dollars(value) for name, value in part.items() if value is not None}


def render_count(name: str, value: D, era: str) -> dict[str, Any]:
    match era:
        case "cents":
            return {name: int(value), f"{name}_fp": f"{value:.2f}"}
        case "cents only":
            return {name: int(value)}
        case "historical":
            return {name: f"{value:.2f}"}
        case _:
            return {f"{name}_fp": f"{value:.2f}"}


@st.composite
def candles(draw: st.DrawFn, prices: st.SearchStrategy[D], numbers: st.SearchStrategy[D]) -> dict[str, Any]:
    traded = draw(st.booleans())
    nothing = dict.fromkeys(("open", "high", "low", "close", "mean", "previous"))
    return {
        "end": draw(st.integers(1_625_000_000, 1_800_000_000)),
        "price": draw(ohlc(prices, traded=True)) if traded else nothing,
        "yes_bid": draw(ohlc(prices, traded=False)),
        "yes_ask": draw(ohlc(prices, traded=False)),
        "volume": draw(numbers),
        "open_interest": draw(numbers),
    }


def render_candle(truth: dict[str, Any], era: str) -> dict[str, Any]:
    payload: dict[str, Any] = {"end_period_ts": truth["end"]}
    for part in ("price", "yes_bid", "yes_ask"):
        payload[part] = render_ohlc(truth[part], era)
    return payload | render_count("volume", truth["volume"], era) | render_count("open_interest", truth["open_interest"], era)


def without_payload(model: WireModel) -> dict[str, Any]:
    return model.model_dump(exclude={"raw_json"})


@given(truth=candles(cents.map(lambda c: D(c).scaleb(-2)), whole_counts))
def test_a_candle_of_whole_cents_reads_the_same_from_every_era(truth: dict[str, Any]) -> None:
    read = {era: Candlestick.model_validate(render_candle(truth, era)) for era in ("cents", "cents only", "historical", "now")}
    assert all(without_payload(model) == without_payload(read["now"]) for model in read.values())
    assert read["now"].yes_bid_high == truth["yes_bid"]["high"]
    assert read["now"].price_close == truth["price"]["close"]
    assert read["now"].volume == truth["volume"]
    assert read["now"].end_period_ts == datetime.fromtimestamp(truth["end"], UTC)


@given(truth=candles(dollar_prices, counts))
def test_a_candle_of_finer_ticks_keeps_every_digit_wherever_dollars_are_given(truth: dict[str, Any]) -> None:
    read = {era: Candlestick.model_validate(render_candle(truth, era)) for era in ("cents", "historical", "now")}
    assert all(without_payload(model) == without_payload(read["now"]) for model in read.values())
    assert read["cents"].price_previous == truth["price"]["previous"]
    assert read["cents"].open_interest == truth["open_interest"]


@given(yes=dollar_prices, quantity=counts.filter(bool))
def test_a_trade_reads_the_same_from_cents_and_dollars_side_by_side_and_from_dollars_alone(yes: D, quantity: D) -> None:
    no = 1 - yes
    now = trade(yes_price_dollars=as_dollars(yes), no_price_dollars=as_dollars(no), count_fp=f"{quantity:.2f}")
    then = now | {"yes_price": as_cents(yes), "no_price": 100 - int(yes * 100), "count": int(quantity), "price": yes}
    live, past = Trade.model_validate(now), Trade.model_validate(then)
    assert without_payload(live) == without_payload(past)
    assert (live.yes_price, live.no_price, live.count) == (yes, no, quantity)


@given(price=dollar_prices, number=counts)
def test_a_market_reads_the_same_before_and_after_the_integers_were_removed(price: D, number: D) -> None:
    quotes = (
        "yes_bid",
        "yes_ask",
        "no_bid",
        "no_ask",
        "last_price",
        "previous_price",
        "previous_yes_bid",
        "previous_yes_ask",
    )
    numbers = ("volume", "volume_24h", "open_interest", "yes_bid_size", "yes_ask_size")
    now = market(
        **{f"{name}_dollars": as_dollars(price) for name in quotes},
        **{f"{name}_fp": f"{number:.2f}" for name in numbers},
    )
    then = now | {name: as_cents(price) for name in quotes} | {name: int(number) for name in numbers}
    live, past = Market.model_validate(now), Market.model_validate(then)
    assert without_payload(live) == without_payload(past)
    assert {getattr(live, name) for name in quotes} == {price}
    assert {getattr(live, name) for name in numbers} == {number}


@given(levels=st.dictionaries(cents, st.integers(1, 10**6), max_size=20), order=st.randoms())
def test_a_book_reads_the_same_from_cents_dollars_and_fixed_point_in_any_order(levels: dict[int, int], order: Random) -> None:
    rows = list(levels.items())
    order.shuffle(rows)
    plain = [[price, number] for price, number in rows]
    dollars = [[f"0.{price:02}00" if price < 100 else "1.0000", number] for price, number in rows]
    fixed = [[price, f"{number}.00"] for price, number in dollars]
    forms = (
        {"orderbook": {"yes": plain, "no": None}},
        {"orderbook": {"yes": plain, "yes_dollars": dollars, "no": [], "no_dollars": []}},
        {"orderbook": {"yes": plain, "yes_dollars": dollars}, "orderbook_fp": {"yes_dollars": fixed, "no_dollars": []}},
        {"orderbook_fp": {"yes_dollars": fixed, "no_dollars": None}},
        {"yes_dollars": fixed, "no_dollars": []},
    )
    expected = tuple((D(price).scaleb(-2), D(number)) for price, number in sorted(levels.items()))
    for form in forms:
        book = OrderBook.model_validate(form)
        assert (book.yes, book.no) == (expected, ())
    for form in ("yes", "yes_dollars", "yes_dollars_fp"):
        ladder = {"yes": plain, "yes_dollars": dollars, "yes_dollars_fp": fixed}[form]
        frame = {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {"market_ticker": "KXA-B", form: ladder}}
        assert OrderBookSnapshotFrame.model_validate(frame).yes == expected


def test_a_period_without_a_trade_has_no_prices_however_that_is_said() -> None:
    nothings: tuple[Any, ...] = ({}, None, {"close": None, "open": None}, {"close_dollars": None})
    read = [Candlestick.model_validate(candle(price=nothing)) for nothing in nothings]
    read.append(Candlestick.model_validate({name: part for name, part in candle().items() if name != "price"}))
    assert {(one.price_open, one.price_close, one.price_mean) for one in read} == {(None, None, None)}
    assert all(one.yes_bid_close == D("0.41") for one in read)


def test_the_extremes_of_a_candle_are_read_from_min_and_max() -> None:
    read = Candlestick.model_validate(candle(price={"min": 5, "max_dollars": "0.0720"}))
    assert (read.price_min, read.price_max) == (D("0.05"), D("0.072"))


def test_a_plain_name_is_cents_as_an_integer_and_dollars_otherwise() -> None:
    for value, expected in (
        (47, "0.47"),
        ("0.4700", "0.47"),
        (D("0.47"), "0.47"),
        (0.47, "0.47"),
        (1, "0.01"),
        ("1", "1"),
        (100, "1"),
    ):
        assert Candlestick.model_validate(candle(yes_bid={"close": value})).yes_bid_close == D(expected)


def test_a_float_never_passes_through_binary() -> None:
    assert str(Market.model_validate(market(floor_strike=0.1 + 0.2)).floor_strike) == "0.30000000000000004"
    assert str(Trade.model_validate({k: v for k, v in trade(price=0.06).items() if "_price" not in k}).yes_price) == "0.06"


def test_digits_survive_as_they_were_sent() -> None:
    assert str(Market.model_validate(market(yes_bid_dollars="0.1050")).yes_bid) == "0.1050"


def test_zero_and_one_are_prices() -> None:
    read = Market.model_validate(market(yes_bid_dollars="0.0000", yes_ask_dollars="1.0000", last_price_dollars="0.0000"))
    assert (read.yes_bid, read.yes_ask, read.last_price) == (0, 1, 0)


def test_a_frame_of_the_cents_era_and_of_today_agree() -> None:
    now = delta(ts="2026-08-07T06:46:44.823256Z", ts_ms=1786085204823)
    then = {**now, "msg": now["msg"] | {"price": 68, "delta": -25}}
    live, past = OrderBookDeltaFrame.model_validate(now), OrderBookDeltaFrame.model_validate(then)
    assert without_payload(live) == without_payload(past)
    assert (live.price, live.delta, live.side, live.sequence) == (D("0.68"), D(-25), "yes", 7)
    assert live.delta_time == datetime(2026, 8, 7, 6, 46, 44, 823256, UTC)


def test_a_ticker_frame_counts_dollars_and_not_cents_in_its_dollar_volume() -> None:
    message = {"market_ticker": "KXA-B", "price": 14, "yes_bid": 4, "volume": 7, "dollar_volume": 3, "ts": 1770897976}
    read = TickerFrame.model_validate({"type": "ticker", "sid": 1, "msg": message})
    assert (read.last_price, read.yes_bid, read.dollar_volume, read.sequence) == (D("0.14"), D("0.04"), 3, None)
    assert read.snapshot_time == datetime.fromtimestamp(1770897976, UTC)


def test_a_trade_frame_knows_its_time_in_seconds_or_milliseconds() -> None:
    message = {name: value for name, value in trade().items() if name != "created_time"} | {"ts": 1770897976}
    coarse = TradeFrame.model_validate({"type": "trade", "sid": 1, "msg": message})
    fine = TradeFrame.model_validate({"type": "trade", "sid": 1, "msg": message | {"ts_ms": 1770897976123}})
    assert fine.created_time - coarse.created_time == timedelta(milliseconds=123)


def test_a_settlement_has_its_money_in_dollars_in_both_eras() -> None:
    base = {
        "ticker": "KXA-B",
        "market_result": "yes",
        "settled_time": "2026-08-17T14:00:00Z",
        "revenue": 1500,
        "value": 100,
    }
    now = Settlement.model_validate(
        base | {"yes_total_cost_dollars": "0.400000", "fee_cost": "0.026900", "yes_count_fp": "15.00"}
    )
    then = Settlement.model_validate(base | {"yes_total_cost": 40, "fee_cost": "0.026900", "yes_count": 15})
    assert without_payload(now) == without_payload(then)
    assert (now.revenue, now.value, now.yes_total_cost, now.fee_cost) == (15, 1, D("0.4"), D("0.0269"))


# Meaning


def test_what_nobody_said_is_none_whether_absent_null_or_empty() -> None:
    read = Market.model_validate(
        market(result="", subtitle="", strike_type=None, settlement_ts="", created_time="0001-01-01T00:00:00Z")
    )
    assert (read.result, read.subtitle, read.strike_type, read.settlement_ts, read.created_time, read.floor_strike) == (None,) * 6


def test_an_empty_title_is_kept_because_combos_have_one() -> None:
    assert Market.model_validate(market(title="")).title == ""


def test_words_the_exchange_invents_tomorrow_pass() -> None:
    words = {
        "status": "quarantined",
        "result": "maybe",
        "strike_type": "spiral",
        "market_type": "ternary",
        "price_level_structure": "x",
    }
    read = Market.model_validate(market(**words))
    assert {name: getattr(read, name) for name in words} == words


def test_unknown_fields_are_kept_in_the_payload_unchanged() -> None:
    payload = market(invented={"deep": [1, None]})
    before = json.dumps(payload)
    read = Market.model_validate(payload)
    assert json.dumps(read.raw_json) == before == json.dumps(payload)


def test_a_model_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Market.model_validate(market()).title = "other"  # type: ignore[misc]


def test_reading_the_kept_payload_again_gives_the_same_market() -> None:
    read = Market.model_validate(market())
    assert Market.model_validate(read.raw_json) == read


def test_the_request_says_what_a_candle_leaves_out_and_the_candle_wins() -> None:
    told = Candlestick.from_wire(candle(), market_ticker="KXA-B", period_interval_minutes=60)
    assert (told.market_ticker, told.period_interval_minutes) == ("KXA-B", 60)
    assert Candlestick.from_wire(candle(ticker="KXA-C"), market_ticker="KXA-B").market_ticker == "KXA-C"


def test_a_market_takes_series_and_category_from_its_event() -> None:
    read = Market.from_wire(market(), series_ticker="KXRAIN", category="Climate")
    assert (read.series_ticker, read.category) == ("KXRAIN", "Climate")


def test_an_event_keeps_its_nested_markets_unread() -> None:
    payload = {
        "event_ticker": "KXA-B",
        "series_ticker": "KXA",
        "title": "t",
        "strike_period": "",
        "markets": [market(), {"bad": 1}],
    }
    read = Event.model_validate(payload)
    assert len(read.markets) == 2
    assert read.strike_period is None


def test_a_series_with_null_lists_is_a_series_without_tags() -> None:
    payload = {"ticker": "KXA", "title": "t", "tags": None, "additional_prohibitions": None, "fee_multiplier": D("0.5")}
    read = Series.model_validate(payload)
    assert (read.tags, read.fee_multiplier, read.settlement_sources) == ((), D("0.5"), None)


def test_a_strike_may_be_large_or_negative() -> None:
    read = Market.model_validate(market(floor_strike=-40, cap_strike=D("1.0E+12")))
    assert (read.floor_strike, read.cap_strike) == (-40, 10**12)


def test_liquidity_may_be_negative() -> None:
    assert Market.model_validate(market(liquidity=-1234, liquidity_dollars="-12.3400")).liquidity == D("-12.34")


@pytest.mark.parametrize(
    ("names", "side"),
    [
        ({"taker_outcome_side": "yes", "taker_book_side": "bid", "taker_side": "yes"}, "yes"),
        ({"taker_side": "no"}, "no"),
        ({"taker_side": None, "taker_book_side": "ask"}, "no"),
        ({"taker_side": ""}, None),
    ],
)
def test_the_takers_side_comes_from_any_of_its_names(names: dict[str, Any], side: str | None) -> None:
    assert Trade.model_validate(trade(taker_side=None) | names).taker_side == side


def test_one_price_of_a_trade_is_enough() -> None:
    only_no = {name: value for name, value in trade().items() if name != "yes_price_dollars"}
    assert Trade.model_validate(only_no).yes_price == D("0.51")


def test_a_rounded_no_price_beside_an_exact_yes_price_follows_it() -> None:
    payload = {
        name: value for name, value in trade(yes_price_dollars="0.1050", no_price=89).items() if name != "no_price_dollars"
    }
    assert Trade.model_validate(payload).no_price == D("0.8950")


# Times


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_every_written_form_of_a_moment_is_the_same_moment(naive: datetime, offset: int) -> None:
    moment = naive.replace(tzinfo=UTC)
    sign, minutes = ("-" if offset < 0 else "+"), abs(offset)
    local = (naive + timedelta(minutes=offset)).isoformat() + f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    shortest = naive.isoformat().rstrip("0").rstrip(".") if naive.microsecond else naive.isoformat()
    for text in (naive.isoformat() + "Z", shortest + "Z", local, naive.isoformat(timespec="microseconds") + "789Z"):
        read = Market.model_validate(market(close_time=text)).close_time
        assert read == moment
        assert read is not None
        assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "2026-08-08T14:00:00",
        "2026-08-08",
        "yesterday",
        "2026-13-01T00:00:00Z",
        True,
        5,
        1786137900000,
        {},
        "9999-12-31T23:59:59-05:00",
    ],
)
def test_what_is_no_moment_is_refused(value: object) -> None:
    assert fields_refused(Market, market(close_time=value)) == ["close_time"]


@pytest.mark.parametrize(
    "value", [True, 5, -1, 1786137900000, 10**30, "2026-08-08T14:00:00", "0202-08-08T14:00:00Z", None, "", float("nan")]
)
def test_a_candle_does_not_end_in_the_year_50000(value: object) -> None:
    assert "end_period_ts" in fields_refused(Candlestick, candle(end_period_ts=value))


def test_milliseconds_in_place_of_seconds_are_recognised_in_the_hint() -> None:
    (entry,) = refused(Candlestick, candle(end_period_ts=1786137900000))
    assert "milliseconds" in entry["hint"]


def test_a_time_without_an_offset_is_told_what_it_lacks() -> None:
    (entry,) = refused(Market, market(close_time="2026-08-08T14:00:00"))
    assert "offset" in entry["error"]
    assert "Z" in entry["hint"]


# Refusals

NO_PRICES = (
    "1.5",
    "-0.0100",
    "0.1234567",
    "NaN",
    "Infinity",
    "1e400",
    "1e-2",
    "abc",
    "",
    " 0.5",
    "0,5",
    "47",
    True,
    [],
    {},
    D("NaN"),
    D("1E+400"),
    1.5,
    -1,
    101,
    10**5000,
)


@pytest.mark.parametrize(
    "value", NO_PRICES, ids=lambda value: str(type(value).__name__) + (value if isinstance(value, str) else "")
)
def test_what_is_no_price_is_refused_naming_the_field(value: object) -> None:
    assert set(fields_refused(Market, market(yes_bid_dollars=value))) == {"yes_bid_dollars"}
    assert set(fields_refused(Market, {k: v for k, v in market(yes_bid=value).items() if k != "yes_bid_dollars"})) == {"yes_bid"}
    assert set(fields_refused(Candlestick, candle(price={"close_dollars": value}))) == {"price.close_dollars"}
    assert set(fields_refused(OrderBookDeltaFrame, delta(price_dollars=value))) == {"msg.price_dollars"}
    assert set(fields_refused(Trade, trade(yes_price_dollars=value))) == {"yes_price_dollars"}


@pytest.mark.parametrize(
    "value", ["-1.00", "1.001", "abc", "NaN", D("Infinity"), True, [], "1e3", 10**16, "10000000000000000.00"]
)
def test_what_is_no_count_is_refused_naming_the_field(value: object) -> None:
    assert set(fields_refused(Market, market(volume_fp=value))) == {"volume_fp"}
    assert set(fields_refused(Trade, trade(count_fp=value))) == {"count_fp"}
    assert set(fields_refused(Candlestick, candle(open_interest=value, open_interest_fp=None))) == {"open_interest"}


def test_a_negative_count_is_called_negative() -> None:
    (entry,) = refused(Market, market(volume_fp="-1.00"))
    assert "negative" in entry["error"]


@pytest.mark.parametrize("value", [None, "", " ", "KX A", "KX\tA", "K" * 201, 5, ["KXA"], "KX\u2028A"])
def test_what_is_no_ticker_is_refused_naming_the_field(value: object) -> None:
    assert fields_refused(Market, market(ticker=value)) == ["ticker"]
    assert fields_refused(Market, market(event_ticker=value)) == ["event_ticker"]
    assert fields_refused(Trade, trade(trade_id=value)) == ["trade_id"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("title", 5), ("title", None), ("status", None), ("status", ""), ("subtitle", []), ("can_close_early", "yes"), ("can_close_early", 1),
     ("price_ranges", {}), ("price_ranges", [1]), ("custom_strike", "x"), ("floor_strike", "abc"), ("floor_strike", 10**20),
     ("settlement_timer_seconds", 1.5), ("exchange_index", -1), ("settlement_value_dollars", "1.5000"), ("liquidity_dollars", "1e9"),
     ("notional_value", 10**15), ("mve_selected_legs", "x"), ("mve_collection_ticker", "a b")],
)  # fmt: skip
def test_a_market_with_one_wrong_field_is_refused_naming_it(field: str, value: object) -> None:
    assert fields_refused(Market, market(**{field: value})) == [field]


@pytest.mark.parametrize("field", ["ticker", "event_ticker", "title", "status"])
def test_a_market_without_what_makes_it_one_is_refused(field: str) -> None:
    (entry,) = refused(Market, {name: value for name, value in market().items() if name != field})
    assert (entry["field"], entry["value"], entry["error"]) == (field, None, "is missing")


@pytest.mark.parametrize("field", ["trade_id", "ticker", "count_fp", "created_time"])
def test_a_trade_without_what_makes_it_one_is_refused(field: str) -> None:
    assert fields_refused(Trade, {name: value for name, value in trade().items() if name != field}) == [field]


def test_a_trade_without_any_price_is_refused() -> None:
    assert fields_refused(Trade, {name: value for name, value in trade().items() if "price" not in name}) == ["yes_price_dollars"]


def test_a_trade_whose_prices_do_not_sum_to_one_is_refused() -> None:
    assert fields_refused(Trade, trade(no_price_dollars="0.4800")) == ["yes_price_dollars"]
    assert fields_refused(Trade, {k: v for k, v in trade(yes_price=51, no_price=48).items() if "dollars" not in k}) == [
        "yes_price"
    ]


def test_a_trade_of_nothing_is_refused() -> None:
    assert fields_refused(Trade, trade(count_fp="0.00")) == ["count_fp"]


def test_two_sides_for_one_taker_are_refused() -> None:
    assert fields_refused(Trade, trade(taker_side="no", taker_book_side="bid")) == ["taker_book_side"]
    assert fields_refused(Trade, trade(taker_side="maker")) == ["taker_side"]


def test_two_tickers_for_one_trade_are_refused() -> None:
    assert fields_refused(Trade, trade(market_ticker="KXOTHER-1")) == ["market_ticker"]


def test_forms_of_one_price_that_differ_by_more_than_rounding_are_refused() -> None:
    (entry,) = refused(Market, market(yes_bid=47))
    assert entry["field"] == "yes_bid_dollars"
    assert "47" in entry["error"]
    for rounded in (10, 11):
        assert Market.model_validate(market(yes_bid=rounded)).yes_bid == D("0.1050")


def test_forms_of_one_count_that_differ_by_more_than_a_contract_are_refused() -> None:
    assert fields_refused(Market, market(volume=14)) == ["volume_fp"]
    assert Market.model_validate(market(volume=12)).volume == D("12.34")


def test_a_candle_whose_low_is_above_its_high_is_refused() -> None:
    quote = {"low_dollars": "0.5000", "high_dollars": "0.4000"}
    assert fields_refused(Candlestick, candle(yes_ask=quote)) == ["yes_ask.low_dollars"]
    assert fields_refused(Candlestick, candle(price={"low": 50, "high": 40})) == ["price.low"]


def test_a_candle_with_a_wrong_part_is_refused_naming_it() -> None:
    assert fields_refused(Candlestick, candle(price=5)) == ["price"]
    assert fields_refused(Candlestick, candle(price=[])) == ["price"]


def test_every_wrong_field_is_named_and_not_only_the_first() -> None:
    wrong = market(title=5, yes_bid_dollars="1.5", volume_fp="abc", close_time="soon")
    assert set(fields_refused(Market, wrong)) == {"title", "yes_bid_dollars", "volume_fp", "close_time"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"orderbook_fp": {"yes_dollars": [["0.0100", "1.00"], ["0.0200"]]}}, "orderbook_fp.yes_dollars[1]"),
        ({"orderbook_fp": {"yes_dollars": [["1.5000", "1.00"]]}}, "orderbook_fp.yes_dollars[0][0]"),
        ({"orderbook_fp": {"no_dollars": [["0.5000", "-1.00"]]}}, "orderbook_fp.no_dollars[0][1]"),
        ({"orderbook_fp": {"no_dollars": [["0.5000", "1.00"], ["0.5", "2.00"]]}}, "orderbook_fp.no_dollars[1][0]"),
        ({"orderbook_fp": {"no_dollars": {}}}, "orderbook_fp.no_dollars"),
        ({"orderbook": []}, "orderbook"),
        ({"ticker": "KXA-B"}, "orderbook_fp"),
        ({"orderbook": {"yes": [[10, 5]], "yes_dollars": [["0.4700", 5]]}}, "orderbook.yes"),
        ({"orderbook": {"yes": [[47, 5]], "yes_dollars": []}}, "orderbook.yes"),
        ({"orderbook": {"yes": [[47, 9]]}, "orderbook_fp": {"yes_dollars": [["0.4700", "5.00"]]}}, "orderbook.yes"),
    ],
)
def test_a_wrong_book_is_refused_naming_the_level(payload: dict[str, Any], field: str) -> None:
    assert fields_refused(OrderBook, payload) == [field]


def test_cents_that_two_finer_levels_were_rounded_to_do_not_contradict_them() -> None:
    exact = [["0.1010", "5.00"], ["0.1040", "6.00"]]
    book = OrderBook.model_validate({"orderbook": {"yes": [[10, 5], [10, 6]]}, "orderbook_fp": {"yes_dollars": exact}})
    assert len(book.yes) == 2


@pytest.mark.parametrize("field", ["market_ticker", "price_dollars", "delta_fp", "side"])
def test_a_delta_without_what_makes_it_one_is_refused(field: str) -> None:
    frame = delta()
    del frame["msg"][field]
    assert fields_refused(OrderBookDeltaFrame, frame) == [f"msg.{field}"]


def test_a_frame_without_its_message_is_refused() -> None:
    assert fields_refused(OrderBookDeltaFrame, {"type": "orderbook_delta", "sid": 1}) == ["msg"]
    assert fields_refused(OrderBookDeltaFrame, {"type": "orderbook_delta", "sid": 1, "msg": "x"}) == ["msg"]


BAD_TEXTS = ("a\x00b", "\ud800", "x\udfff")


@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_text_that_postgresql_cannot_hold_is_refused_wherever_it_is(bad: str) -> None:
    assert fields_refused(Market, market(title=bad)) == ["title"]
    assert fields_refused(Market, market(invented={"list": ["fine", {"deep": bad}]})) == ["invented.list[1].deep"]
    assert fields_refused(Market, market(custom_strike={bad: 1}))[0].startswith("custom_strike.")
    assert fields_refused(Market, market(**{bad: 1}))[0] != ""
    assert fields_refused(Market, market(ticker=bad)) == ["ticker"]


def test_numbers_that_jsonb_cannot_hold_are_refused_wherever_they_are() -> None:
    for bad in (float("nan"), float("inf"), D("1E+5000"), D("NaN"), 10**400):
        assert fields_refused(Market, market(invented=[bad])) == ["invented[0]"]


def test_a_payload_without_bottom_is_refused_and_does_not_crash() -> None:
    bomb: dict[str, Any] = {}
    inner = bomb
    for _ in range(5000):
        inner["a"] = {}
        inner = inner["a"]
    (entry,) = refused(Market, market(bomb=bomb))
    assert entry["field"].startswith("bomb.a.a")


@pytest.mark.parametrize("model", [Series, Event, Market, Candlestick, Trade, OrderBook, Settlement, TickerFrame, TradeFrame])
@pytest.mark.parametrize("payload", [None, [], "x", 5, {}])
def test_what_is_no_object_is_refused(model: type[WireModel], payload: object) -> None:
    assert refused(model, payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(data=st.data())
def test_any_json_in_any_field_is_read_or_refused_with_errors_that_can_be_stored(data: st.DataObject) -> None:
    model, base = data.draw(
        st.sampled_from(
            [
                (Market, market()),
                (Candlestick, candle()),
                (Trade, trade()),
                (OrderBookDeltaFrame, delta()),
                (Candlestick, candle()["price"]),
            ]
        )
    )
    payload = base | {data.draw(st.sampled_from(sorted(base))): data.draw(json_values)}
    try:
        model.model_validate(payload)
    except ValidationError as error:
        entries = errors_of(error)
        assert entries
        text = json.dumps(entries, ensure_ascii=False)
        text.encode()
        assert "\\u0000" not in text


def test_errors_are_short_even_when_the_value_is_not() -> None:
    (entry,) = refused(Market, market(yes_bid_dollars="9" * 100_000))
    assert len(entry["value"]) < 250
    assert len(entry["error"]) < 250


def test_candles_are_read_fast_enough_for_a_years_backfill() -> None:
    payloads = [candle(end_period_ts=1786137900 + 60 * minute) for minute in range(2000)]
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        for payload in payloads:
            Candlestick.model_validate(payload)
        best = max(best, len(payloads) / (time.perf_counter() - start))
    assert best > 10_000  # about 45,000 where it was written; the slack is for busy machines
