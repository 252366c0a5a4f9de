"""What is in a saved document: every shape in which people keep the exchange's answers, and everything that is none."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kalshidb.exchange.models import Market, errors_of
from kalshidb.exchange.recognise import MODELS, Hints, Item, Kind, NotStored, Unrecognised, parse, recognise

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "kalshi-samples"
HOUR = 1784386800  # on the hour, 11:00 in New York
MIDNIGHT = 1784347200  # midnight in New York

BOOK = {"yes_dollars": [["0.1000", "5.00"]], "no_dollars": []}
SERIES = {"ticker": "KXRAIN", "title": "Rain", "frequency": "daily", "fee_type": "quadratic", "tags": None}


def market(place: str = "NYC", **changes: object) -> dict[str, Any]:
    ticker = f"KXRAIN-26AUG09-{place}"
    base = {"ticker": ticker, "event_ticker": "KXRAIN-26AUG09", "title": "Rain?", "status": "active", "market_type": "binary"}
    return base | {"yes_bid_dollars": "0.1000", "yes_ask_dollars": "0.1100"} | changes


def event(**changes: object) -> dict[str, Any]:
    base = {"event_ticker": "KXRAIN-26AUG09", "series_ticker": "KXRAIN", "title": "Rain", "sub_title": "On Aug 9"}
    return base | {"mutually_exclusive": False, "category": "Climate"} | changes


def trade(number: int = 1, **changes: object) -> dict[str, Any]:
    base = {"trade_id": f"trade-{number}", "ticker": "KXRAIN-26AUG09-NYC", "count_fp": "1.00", "taker_side": "yes"}
    return base | {"yes_price_dollars": "0.4000", "no_price_dollars": "0.6000", "created_time": "2026-08-09T00:00:00Z"} | changes


def candle(end: int = HOUR, **changes: object) -> dict[str, Any]:
    return {"end_period_ts": end, "yes_bid": {"close_dollars": "0.1000"}, "price": {}, "volume_fp": "1.00"} | changes


def candles(*ends: int) -> list[dict[str, Any]]:
    return [candle(end) for end in ends]


def found(document: object, **hints: Any) -> list[Item | NotStored | Unrecognised]:  # noqa: ANN401
    return list(recognise(document, Hints(**hints)))


def items(document: object, **hints: Any) -> list[Item]:  # noqa: ANN401
    """All that was found, which must all be items."""
    everything = found(document, **hints)
    assert [part for part in everything if not isinstance(part, Item)] == []
    return [part for part in everything if isinstance(part, Item)]


def places(document: object, **hints: Any) -> list[tuple[str, str]]:  # noqa: ANN401
    return [(str(item.kind), item.path) for item in items(document, **hints)]


# Envelopes of the exchange


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"markets": [market(), market("LA")], "cursor": "x"}, [("market", "$.markets[0]"), ("market", "$.markets[1]")]),
        ({"market": market()}, [("market", "$.market")]),
        ({"events": [event()], "cursor": "", "milestones": []}, [("event", "$.events[0]")]),
        ({"event": event()}, [("event", "$.event")]),
        ({"series": SERIES}, [("series", "$.series")]),
        ({"series": [SERIES]}, [("series", "$.series[0]")]),
        ({"trades": [trade()], "cursor": ""}, [("trade", "$.trades[0]")]),
        ({"ticker": "KXA-B", "candlesticks": candles(HOUR)}, [("candlestick", "$.candlesticks[0]")]),
        ({"orderbook": {"yes": None, "no": None}}, [("orderbook", "$")]),
        ({"orderbook_fp": BOOK}, [("orderbook", "$")]),
        ({"orderbooks": [{"ticker": "KXA-B", "orderbook_fp": BOOK}]}, [("orderbook", "$.orderbooks[0]")]),
        ({"settlements": [{"ticker": "KXA-B"}]}, [("settlement", "$.settlements[0]")]),
        ({"type": "ticker", "sid": 1, "msg": {}}, [("ws_ticker", "$")]),
        ({"type": "trade", "sid": 1, "msg": {}}, [("ws_trade", "$")]),
        ({"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": {}}, [("ws_orderbook_snapshot", "$")]),
        ({"type": "orderbook_delta", "sid": 1, "seq": 2, "msg": {}}, [("ws_orderbook_delta", "$")]),
    ],
)
def test_an_answer_as_the_exchange_sent_it_is_recognised(document: object, expected: list[tuple[str, str]]) -> None:
    assert places(document) == expected


def test_batch_candles_belong_to_the_market_they_stand_under() -> None:
    batch = {"markets": [{"market_ticker": f"KXA-{n}", "candlesticks": candles(HOUR)} for n in range(2)]}
    assert [item.market_ticker for item in items(batch)] == ["KXA-0", "KXA-1"]
    assert found({"markets": [{"market_ticker": "KXA-0", "candlesticks": None}]}) == []


def test_the_event_endpoints_parallel_lists_are_joined() -> None:
    answer = {"market_tickers": ["KXA-1", "KXA-2"], "market_candlesticks": [candles(HOUR), candles(HOUR)], "adjusted_end_ts": 1}
    assert [(item.market_ticker, item.path) for item in items(answer)] == [
        ("KXA-1", "$.market_candlesticks[0][0]"),
        ("KXA-2", "$.market_candlesticks[1][0]"),
    ]


def test_parallel_lists_of_different_length_say_which_part_has_no_partner() -> None:
    more_candles = found({"market_tickers": ["KXA-1"], "market_candlesticks": [candles(HOUR), candles(HOUR)]})
    more_tickers = found({"market_tickers": ["KXA-1", "KXA-2"], "market_candlesticks": [candles(HOUR)]})
    assert [type(part) for part in more_candles] == [type(part) for part in more_tickers] == [Item, Unrecognised]
    assert (more_candles[1].path, more_tickers[1].path) == ("$.market_candlesticks[1]", "$.market_tickers[1]")


def test_nested_markets_are_items_of_their_own_and_inherit_from_their_event() -> None:
    first, second = items({"events": [event(markets=[market()])]})
    assert first.kind is Kind.EVENT
    assert "markets" not in first.payload
    assert (second.path, second.series_ticker, second.category) == ("$.events[0].markets[0]", "KXRAIN", "Climate")
    read = parse(second)
    assert isinstance(read, Market)
    assert (read.series_ticker, read.category) == ("KXRAIN", "Climate")


def test_markets_beside_their_event_inherit_and_strangers_do_not() -> None:
    _, own, stranger = items({"event": event(), "markets": [market(), market(event_ticker="OTHER-1")]})
    assert (own.series_ticker, own.category) == ("KXRAIN", "Climate")
    assert (stranger.series_ticker, stranger.category) == (None, None)


def test_an_empty_page_is_fine() -> None:
    for page in ({"markets": [], "cursor": ""}, {"trades": None, "cursor": ""}, {"response": {"events": []}}, [{"markets": []}]):
        assert found(page) == []


# How people save them


@pytest.mark.parametrize(
    "wrap",
    [
        lambda answer: {"_metadata": {"recorded_at": "2026-01-12T22:08:10Z"}, "response": answer},
        lambda answer: {"note": "x", "endpoint": "/markets", "payload": answer},
        lambda answer: {"captured_at": "2026-01-12T22:08:10Z", **answer},
        lambda answer: {"data": answer, "status": 200, "headers": {"date": "x"}, "elapsed": 0.1},
        lambda answer: {"request": {"params": {"limit": 5}, "url": "https://host/trade-api/v2/x"}, "response": {"body": answer}},
        lambda answer: {"summary": {"rows": 1}, "everything": answer},
        lambda answer: [answer],
        lambda answer: [[answer]],
        lambda answer: {"pages": [answer]},
        lambda answer: {"https://host/trade-api/v2/x?limit=5": answer},
        lambda answer: {"a": {"b": {"c": {"d": [{"e": answer}]}}}},
        lambda answer: {"log": {"entries": [{"request": {"url": "/x"}, "response": {"content": {"text": json.dumps(answer)}}}]}},
        lambda answer: {"interactions": [{"request": {"uri": "/x"}, "response": {"body": {"string": json.dumps(answer)}}}]},
        lambda answer: {"queries": [{"series": "KXA", "error": "HTTP 400"}, {"returned": 2}], **answer},
    ],
)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"markets": [market()], "cursor": ""}, "market"),
        ({"trades": [trade()]}, "trade"),
        ({"candlesticks": candles(HOUR), "ticker": "KXA-B"}, "candlestick"),
        ({"orderbook_fp": BOOK}, "orderbook"),
        ({"series": [SERIES]}, "series"),
    ],
)
def test_an_answer_is_found_in_any_wrapper(wrap: Any, answer: dict[str, Any], kind: str) -> None:  # noqa: ANN401
    found = list(recognise(wrap(answer)))
    assert [str(part.kind) for part in found if isinstance(part, Item)] == [kind]
    assert not [part for part in found if isinstance(part, Unrecognised)]


def test_what_stands_beside_an_envelope_is_never_passed_over_in_silence() -> None:
    beside = {"orderbook_v2": {"levels": [{"a": 1}]}, "status_counts": {"active": 1}}
    found = list(recognise({"trades": [trade()], **beside}))
    assert [part.kind for part in found if isinstance(part, Item)] == [Kind.TRADE]
    assert [part.what for part in found if isinstance(part, NotStored)] == ["recorder's note 'orderbook_v2'"]


def test_objects_are_found_where_the_request_is_described_too() -> None:
    assert [str(item.kind) for item in items({"query": {"trades": [trade()]}, "events": [event()]})] == ["event", "trade"]


def test_series_keyed_by_ticker_are_found() -> None:
    keyed = {"series": {"KXZS": SERIES | {"ticker": "KXZS"}, "KXZT": SERIES | {"ticker": "KXZT"}}}
    assert [str(item.kind) for item in items(keyed)] == ["series", "series"]


def test_an_error_beside_an_empty_page_is_no_page() -> None:
    (found,) = recognise({"markets": None, "error": "too many requests"})
    assert found == NotStored("error answer", "$")


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (SERIES, "series"),
        (event(), "event"),
        (market(), "market"),
        (candle(), "candlestick"),
        (trade(), "trade"),
        (BOOK, "orderbook"),
    ],
)
def test_objects_are_recognised_without_their_envelope(thing: dict[str, Any], kind: str) -> None:
    assert places(thing) == [(kind, "$")]
    assert places([thing, thing]) == [(kind, "$[0]"), (kind, "$[1]")]


def test_a_mapping_keyed_by_ticker_says_whose_its_candles_are() -> None:
    for document in (
        {"KXA-1": candles(HOUR), "KXA-2": candles(HOUR)},
        {"KXA-1": {"candlesticks": candles(HOUR)}, "KXA-2": {"candles": candles(HOUR)}},
        {
            "captured_ms": 1786144770430,
            "markets": {"KXA-1": {"candlesticks": candles(HOUR)}, "KXA-2": {"candlesticks": candles(HOUR)}},
        },
    ):
        assert [item.market_ticker for item in items(document)] == ["KXA-1", "KXA-2"]
    assert [item.market_ticker for item in items({"KXA-1": BOOK, "KXA-2": {"orderbook_fp": BOOK}})] == ["KXA-1", "KXA-2"]


def test_a_mapping_of_markets_keyed_by_ticker_is_a_list_of_markets() -> None:
    assert places({"markets": {"KXRAIN-26AUG09-NYC": market()}}) == [("market", '$.markets["KXRAIN-26AUG09-NYC"]')]
    assert places({"KXRAIN-26AUG09-NYC": market()}) == [("market", '$["KXRAIN-26AUG09-NYC"]')]


def test_a_market_saved_with_its_book_and_candles_gives_all_of_them() -> None:
    beside = items({"market": market(), "orderbook": BOOK})
    inside = items({"markets": [market(candlesticks=candles(HOUR))]})
    assert [(str(item.kind), item.market_ticker) for item in beside] == [
        ("orderbook", "KXRAIN-26AUG09-NYC"),
        ("market", "KXRAIN-26AUG09-NYC"),
    ]
    assert [(str(item.kind), item.market_ticker) for item in inside] == [
        ("market", "KXRAIN-26AUG09-NYC"),
        ("candlestick", "KXRAIN-26AUG09-NYC"),
    ]
    assert "candlesticks" not in inside[0].payload
    assert items({"market": market(), "candlesticks": candles(HOUR)})[-1].market_ticker == "KXRAIN-26AUG09-NYC"


def test_candles_of_markets_saved_inside_their_event_are_found() -> None:
    inside = event(markets=[{"market_ticker": "KXRAIN-26AUG09-NYC", "candlesticks": candles(HOUR)}])
    assert [(str(item.kind), item.market_ticker) for item in items(inside)] == [
        ("event", None),
        ("candlestick", "KXRAIN-26AUG09-NYC"),
    ]
    assert [kind for kind, _ in places(event(markets={"KXRAIN-26AUG09-NYC": market()}))] == ["event", "market"]


# Context


def test_what_the_request_said_comes_from_its_address() -> None:
    address = "https://host/trade-api/v2/series/KXA/markets/KXA-B/candlesticks?start_ts=1&period_interval=60"
    for document in (
        {"request": {"url": address}, "response": {"candlesticks": candles(HOUR)}},
        {"url": address, "body": {"candlesticks": candles(HOUR)}},
        {address: {"candlesticks": candles(HOUR)}},
    ):
        (item,) = items(document)
        assert (item.market_ticker, item.series_ticker, item.period_interval_minutes) == ("KXA-B", "KXA", 60)


def test_what_the_recorder_noted_applies_to_everything_below_it() -> None:
    notes = {"recorded_at": "2026-01-12T22:08:10+00:00", "ticker": "KXA-B", "series_ticker": "KXA", "period_interval": 1440}
    (item,) = items({"_metadata": notes, "response": {"candlesticks": candles(HOUR)}})
    assert (item.market_ticker, item.series_ticker, item.period_interval_minutes) == ("KXA-B", "KXA", 1440)
    assert item.observed_at == datetime(2026, 1, 12, 22, 8, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "clock",
    [{"received_ms": 1786085188416}, {"captured_at": "2026-08-07T06:46:28.416Z"}, {"recorded_at": "2026-08-07T02:46:28.416-04:00"},
     {"fetched_at": Decimal("1786085188.416")}, {"received_ns": 1786085188416000000}, {"ts": 1786085188416}],
)  # fmt: skip
def test_the_recorders_clock_is_read_in_every_unit(clock: dict[str, Any]) -> None:
    (item,) = items({**clock, "frame": {"type": "ticker", "sid": 1, "msg": {"market_ticker": "KXA-B"}}})
    assert item.observed_at == datetime(2026, 8, 7, 6, 46, 28, 416000, UTC)


def test_a_clock_without_an_offset_says_nothing() -> None:
    (item,) = items({"captured_at": "2026-08-07T06:46:28", "markets": [market()]})
    assert item.observed_at is None


def test_the_nearer_word_wins() -> None:
    (item,) = items({"ticker": "KXFAR-1", "response": {"ticker": "KXNEAR-1", "candlesticks": [candle(HOUR, ticker="KXOWN-1")]}})
    assert item.market_ticker == "KXOWN-1"
    (item,) = items({"ticker": "KXFAR-1", "response": {"ticker": "KXNEAR-1", "candlesticks": candles(HOUR)}})
    assert item.market_ticker == "KXNEAR-1"


def test_hints_fill_what_the_document_leaves_out() -> None:
    seen = datetime(2026, 11, 20, tzinfo=UTC)
    (item,) = items(
        {"candlesticks": candles(HOUR)}, market_ticker="KXA-B", series_ticker="KXA", period_interval_minutes=60, observed_at=seen
    )
    assert (item.market_ticker, item.series_ticker, item.period_interval_minutes, item.observed_at) == ("KXA-B", "KXA", 60, seen)
    read = parse(item)
    assert read.model_dump(include={"market_ticker", "period_interval_minutes"}) == {
        "market_ticker": "KXA-B",
        "period_interval_minutes": 60,
    }


def test_nothing_is_made_up_when_nobody_says_it() -> None:
    (item,) = items({"orderbook_fp": BOOK})
    assert (item.market_ticker, item.series_ticker, item.period_interval_minutes, item.observed_at) == (None,) * 4


@pytest.mark.parametrize(
    ("document", "hint", "words"),
    [
        ({"markets": [market()]}, {"market_ticker": "KXOTHER-1"}, "KXOTHER-1"),
        ({"events": [event()]}, {"series_ticker": "KXOTHER"}, "KXOTHER"),
        ({"period_interval": 1440, "candlesticks": candles(HOUR)}, {"period_interval_minutes": 60}, "1440"),
        ({"candlesticks": candles(HOUR, HOUR + 60)}, {"period_interval_minutes": 60}, "within the hour"),
        ({"markets": [market()]}, {"kind": Kind.TRADE}, "trade"),
    ],
)
def test_a_hint_that_the_document_contradicts_is_reported_and_nothing_is_taken(
    document: object, hint: dict[str, Any], words: str
) -> None:
    everything = found(document, **hint)
    assert everything
    for part in everything:
        assert isinstance(part, Unrecognised)
        assert words in part.reason


def test_the_documents_clock_wins_over_the_hint() -> None:
    (item,) = items(
        {"captured_at": "2026-08-07T06:46:28Z", "markets": [market()]}, observed_at=datetime(2026, 11, 20, tzinfo=UTC)
    )
    assert item.observed_at == datetime(2026, 8, 7, 6, 46, 28, tzinfo=UTC)


# Periods


DAY = 86400


@pytest.mark.parametrize(
    ("ends", "minutes"),
    [
        ([HOUR + 60], 1),
        ([HOUR, HOUR + 3600, HOUR + 7200, HOUR + 10800, HOUR + 10860], 1),
        ([HOUR + 3600 * n for n in range(4)], 60),
        ([HOUR + 3600 * n for n in range(3)], None),
        ([MIDNIGHT + DAY * n for n in range(4)], 1440),
        ([MIDNIGHT + DAY * n for n in range(3)], None),
        ([MIDNIGHT], None),
        ([MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY, MIDNIGHT + 3 * DAY + 3600], 60),
        ([1730347200, 1730433600, 1730520000, 1730606400, 1730696400], 1440),  # the clocks went back: one day of 25 hours
        ([HOUR, HOUR, HOUR, HOUR], None),
    ],
)
def test_a_period_is_inferred_only_where_the_ends_leave_no_doubt(ends: list[int], minutes: int | None) -> None:
    for document in ({"candlesticks": candles(*ends)}, candles(*ends), {"KXA-B": candles(*ends)}):
        assert {item.period_interval_minutes for item in items(document)} == {minutes}


def test_each_market_of_a_mixed_list_is_judged_by_its_own_candles() -> None:
    mixed = [candle(HOUR + 3600 * n, ticker="KXA-1") for n in range(4)] + [candle(HOUR + 60, ticker="KXA-2")]
    assert [item.period_interval_minutes for item in items(mixed)] == [60, 60, 60, 60, 1]


# Known and not stored


@pytest.mark.parametrize(
    ("document", "what", "count"),
    [
        ({"fills": [{"fill_id": "x"}, {"fill_id": "y"}], "cursor": ""}, "portfolio fills", 2),
        ({"orders": [{"order_id": "x"}]}, "portfolio orders", 1),
        ({"market_positions": [{}, {}, {}], "event_positions": []}, "portfolio positions", 3),
        ({"balance": 5, "portfolio_value": 6, "updated_ts": 1}, "portfolio balance", 1),
        ({"exchange_active": True, "trading_active": True}, "exchange status", 1),
        ({"schedule": {"standard_hours": []}}, "exchange schedule", 1),
        ({"market_settled_ts": "x", "trades_created_ts": "y", "orders_updated_ts": "z"}, "historical cutoff", 1),
        ({"milestones": [{"id": "x"}], "cursor": ""}, "milestones", 1),
        ({"multivariate_contract": {"collection_ticker": "x"}}, "multivariate event collections", 1),
        ({"error": {"code": "not_found", "message": "not found"}}, "error answer", 1),
        ({"error": "too many requests"}, "error answer", 1),
        ({"type": "subscribed", "id": 1, "msg": {"channel": "ticker", "sid": 1}}, "websocket control frame", 1),
        ({"type": "ok", "id": 2, "sid": 1, "seq": 3}, "websocket control frame", 1),
        ({"type": "error", "id": 2, "msg": {"code": 6, "msg": "x"}}, "websocket control frame", 1),
        ({"type": "event_lifecycle", "sid": 1, "seq": 2, "msg": {"event_ticker": "x"}}, "websocket event_lifecycle", 1),
    ],
)
def test_what_has_no_table_is_named_and_counted(document: object, what: str, count: int) -> None:
    for wrapped in (document, {"_metadata": {}, "response": document}, {"received_ms": 1786085188416, "frame": document}):
        (part,) = found(wrapped)
        assert isinstance(part, NotStored)
        assert (part.what, part.count) == (what, count)


def test_milestones_beside_events_do_not_hide_them() -> None:
    first, second = found({"events": [event()], "milestones": [{"id": "x"}]})
    assert isinstance(first, Item)
    assert second == NotStored("milestones", "$.milestones", 1)


# Everything else


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        5,
        "text",
        True,
        {"foo": 1},
        {"foo": {"bar": [1, 2]}},
        [1, 2],
        [{"foo": 1}, {"bar": 2}],
        '{"foo": 1}',
        {"series": "KXA"},
    ],
)
def test_a_document_in_which_nothing_is_recognised_is_one_unrecognised(document: object) -> None:
    (part,) = found(document)
    assert isinstance(part, Unrecognised)
    assert (part.path, part.payload) == ("$", document)


def test_what_is_no_object_in_an_envelope_is_unrecognised_at_its_place() -> None:
    everything = found({"markets": [None, market(), "x", 5]})
    assert [(type(part), part.path) for part in everything] == [
        (Unrecognised, "$.markets[0]"),
        (Item, "$.markets[1]"),
        (Unrecognised, "$.markets[2]"),
        (Unrecognised, "$.markets[3]"),
    ]


def test_strangers_in_a_bare_list_are_unrecognised_one_by_one() -> None:
    everything = found([{"foo": 1}, trade(), None, trade(2), {"bar": 2}])
    assert sorted((part.path, type(part).__name__) for part in everything) == [
        ("$[0]", "Unrecognised"),
        ("$[1]", "Item"),
        ("$[2]", "Unrecognised"),
        ("$[3]", "Item"),
        ("$[4]", "Unrecognised"),
    ]


def test_one_strange_page_among_pages_is_not_dropped() -> None:
    everything = found({"page1": {"markets": [market()]}, "page2": {"trades": [trade()]}, "page3": {"weird": 1}})
    assert [type(part) for part in everything] == [Item, Item, Unrecognised]
    (_, stranger) = found({"KXA-1": candles(HOUR), "KXA-2": "gone"})
    assert stranger == Unrecognised('$["KXA-2"]', "gone", stranger.reason)  # type: ignore[union-attr]


def test_what_a_recorder_put_beside_the_usual_wrapper_is_its_own_business() -> None:
    assert len(items({"timing": {"steps": [{"name": "connect"}]}, "response": {"markets": [market()]}})) == 1
    (_, stranger) = found({"timing": {"steps": [{"name": "connect"}]}, "anything": {"markets": [market()]}})[::-1]
    assert isinstance(stranger, Item)


@pytest.mark.parametrize("name", ["event_ticker", "ticker", "title", "status"])
def test_a_broken_market_in_its_envelope_is_an_item_whose_model_names_the_field(name: str) -> None:
    broken = {key: value for key, value in market().items() if key != name}
    for document in ({"markets": [broken]}, {"market": broken}, {"events": [event(markets=[broken])]}):
        item = items(document)[-1]
        assert item.kind is Kind.MARKET
        with pytest.raises(ValidationError) as caught:
            parse(item)
        assert [entry["field"] for entry in errors_of(caught.value)] == [name]


@pytest.mark.parametrize(
    ("envelope", "kind"),
    [
        ("markets", "market"),
        ("events", "event"),
        ("series", "series"),
        ("trades", "trade"),
        ("candlesticks", "candlestick"),
        ("orderbooks", "orderbook"),
    ],
)
def test_whatever_object_stands_in_an_envelope_is_of_its_kind(envelope: str, kind: str) -> None:
    assert places({envelope: [{}, {"foo": 1}]}) == [(kind, f"$.{envelope}[0]"), (kind, f"$.{envelope}[1]")]


def test_a_bad_market_does_not_take_its_event_down() -> None:
    everything = found({"events": [event(markets=[None, market(), {"foo": 1}])]})
    assert [type(part).__name__ for part in everything] == ["Item", "Unrecognised", "Item", "Item"]
    assert parse(everything[0])  # type: ignore[arg-type]


# By force


def test_a_forced_kind_makes_items_of_what_shape_alone_does_not_tell() -> None:
    assert places({"foo": 1}, kind=Kind.MARKET) == [("market", "$")]
    assert places({"data": {"foo": 1}}, kind=Kind.MARKET) == [("market", "$.data")]
    assert places([{"foo": 1}, {"bar": 2}], kind=Kind.TRADE) == [("trade", "$[0]"), ("trade", "$[1]")]
    assert places([trade(), {"bar": 2}], kind=Kind.TRADE) == [("trade", "$[0]"), ("trade", "$[1]")]
    assert found([], kind=Kind.TRADE) == []


def test_a_forced_event_keeps_its_nested_markets() -> None:
    assert [kind for kind, _ in places({"event": event(), "markets": [market()]}, kind=Kind.EVENT)] == ["event", "market"]
    assert [kind for kind, _ in places([event(markets=[market()])], kind=Kind.EVENT)] == ["event", "market"]


# Robustness


def nested(depth: int, core: object, *, lists: bool = False) -> object:
    for _ in range(depth):
        core = [core] if lists else {"a": core}
    return core


@pytest.mark.parametrize("lists", [True, False])
def test_a_document_without_bottom_is_one_unrecognised(lists: bool) -> None:
    for depth in (60, 500, 100_000):
        (part,) = found(nested(depth, {"markets": [market()]}, lists=lists))
        assert isinstance(part, Unrecognised)
        assert "deep" in part.reason
    assert len(items(nested(20, {"markets": [market()]}, lists=lists))) == 1


def test_text_in_text_in_text_has_a_bottom_too() -> None:
    document: Any = {"markets": [market()]}
    for _ in range(8):
        document = {"body": json.dumps(document)}
    assert len(items(document)) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            [
                "markets", "market", "event", "events", "series", "trades", "candlesticks", "orderbook", "orderbook_fp",
                "type", "msg", "sid", "error", "response", "ticker", "title", "event_ticker", "yes_bid", "end_period_ts",
                "price", "trade_id", "KXA-B", "market_tickers", "market_candlesticks", "fills", "status", "recorded_at",
                "period_interval", "body", "x",
            ]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=300)
@given(document=json_values, kind=st.none() | st.sampled_from(Kind))
def test_no_document_raises_and_every_item_is_read_or_refused(document: object, kind: Kind | None) -> None:
    for part in recognise(document, Hints(kind=kind)):
        part.path.encode()
        if isinstance(part, Item):
            errors: list[Any] = []
            try:
                errors = [] if isinstance(parse(part), MODELS[part.kind]) else ["another model"]
            except ValidationError as error:
                errors = [] if errors_of(error) else ["no error said"]
            assert errors == []


def test_a_long_list_is_a_stream() -> None:
    stream = recognise({"trades": [trade(n) for n in range(1000)]})
    first = next(stream)
    assert isinstance(first, Item)
    assert first.path == "$.trades[0]"


def test_every_kind_has_its_model() -> None:
    assert set(MODELS) == set(Kind)


# Recorded answers of the real exchange

recorded = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the recorded answers are not here")

CONTENTS: dict[str, Counter[str]] = {
    "account_endpoint_costs_and_limits_2026-07-06.json": Counter({"not stored": 2}),
    "candlesticks_batch_daily_90d__cents-era_2026-01-12.json": Counter(candlestick=90),
    "candlesticks_daily_90d_dst-change__cents-era_2026-01-12.json": Counter(candlestick=90),
    "candlesticks_hourly_2026-07-18.json": Counter(candlestick=4),
    "candlesticks_minute_3markets_2026-08-07.json": Counter(candlestick=48),
    "error_400_batch_candles_cap_2026-08.json": Counter({"not stored": 1}),
    "error_404_2026-08-24.json": Counter({"not stored": 1}),
    "event_metadata_2026-01-15.json": Counter({"not stored": 1}),
    "event_single_with_markets__cents-era_2026-01-12.json": Counter(event=1, market=1),
    "events_list_page__cents-era_2026-01-12.json": Counter(event=5),
    "events_nested_markets_sports_2026-08.json": Counter(event=32, market=245),
    "events_settled_nested_weather_2026-07-18.json": Counter(event=1, market=2),
    "exchange_schedule_2026-01-15.json": Counter({"not stored": 1}),
    "exchange_status_2026-01-12.json": Counter({"not stored": 1}),
    "historical_candlesticks_daily_2024-02__recorded_2026-07.json": Counter(candlestick=4),
    "historical_cutoff_2026-08-24.json": Counter({"not stored": 1}),
    "historical_trades_page_head_2026-06-26.json": Counter(trade=23),
    "market_single_weather_2026-07-18.json": Counter(market=1),
    "markets_list_mve_deci-cent_2026-06-21.json": Counter(market=5),
    "markets_list_page_mve__cents-era_2026-01-12.json": Counter(market=5),
    "markets_list_settled_2026-08-08.json": Counter({"market": 44, "not stored": 1}),
    "milestones_list_page_2026-01-15.json": Counter({"not stored": 5}),
    "mve_collection_single_2026-01.json": Counter({"not stored": 1}),
    "orderbook_empty_null__cents-era_2026-01-12.json": Counter(orderbook=1),
    "orderbook_transition_cents+dollars+fp_2026-03-11.json": Counter(orderbook=1),
    "orderbook_trimmed_2026-07-18.json": Counter(orderbook=1),
    "orderbooks_combo_deci-cent_2026-08-09.json": Counter(orderbook=20),
    "portfolio_fills_sanitized__cents-era_2026-01-12.json": Counter({"not stored": 5}),
    "portfolio_positions_sanitized__cents-era_2026-01-12.json": Counter({"not stored": 23}),
    "portfolio_settlements_redacted_2026-08.json": Counter(settlement=22),
    "price_ranges_census_2026-08-08.json": Counter({"not stored": 1}),
    "series_list__cents-era_2026-01-12.json": Counter(series=241),
    "series_single_2026-07-25.json": Counter(series=1),
    "trades_page__cents-era_2026-01-12.json": Counter(trade=5),
    "trades_page_live_2026-08-24.json": Counter(trade=5),
    "ws_orderbook_stream_snapshots_and_deltas_2026-08-07.jsonl": Counter(
        {"ws_orderbook_snapshot": 12, "ws_orderbook_delta": 146, "not stored": 12}
    ),
    "ws_ticker__cents-era_2026-02-12.jsonl": Counter(ws_ticker=10),
}
#: Recordings that say neither their market nor anything else about the request.
WITHOUT_MARKET = {"orderbook_trimmed_2026-07-18.json"}


def documents(name: str) -> list[Any]:
    text = (SAMPLES / name).read_text()
    return [json.loads(line, parse_float=Decimal) for line in (text.splitlines() if name.endswith(".jsonl") else [text])]


@recorded
def test_every_recording_is_known_here() -> None:
    assert {path.name for path in SAMPLES.glob("*.json*")} == set(CONTENTS)


@recorded
@pytest.mark.parametrize("name", CONTENTS)
def test_every_recorded_object_is_recognised_and_read_without_an_error(name: str) -> None:
    contents: Counter[str] = Counter()
    for document in documents(name):
        for part in recognise(document):
            match part:
                case Item():
                    read = parse(part)
                    assert read.raw_json is part.payload
                    contents[str(part.kind)] += 1
                    if part.kind in (Kind.CANDLESTICK, Kind.ORDERBOOK):
                        assert (part.market_ticker is None) == (name in WITHOUT_MARKET)
                        assert (part.period_interval_minutes is not None) == (part.kind is Kind.CANDLESTICK)
                case NotStored():
                    contents["not stored"] += part.count
                case Unrecognised():
                    pytest.fail(f"{part.path}: {part.reason}")
    assert contents == CONTENTS[name]


@recorded
def test_the_recorded_trades_sum_to_one_and_candles_are_in_order() -> None:
    for name in CONTENTS:
        for document in documents(name):
            for part in recognise(document):
                if isinstance(part, Item) and part.kind is Kind.TRADE:
                    read = parse(part).model_dump()
                    assert read["yes_price"] + read["no_price"] == 1
                elif isinstance(part, Item) and part.kind is Kind.CANDLESTICK:
                    read = parse(part).model_dump()
                    for side in ("yes_bid", "yes_ask", "price"):
                        low, high, close = (read[f"{side}_{part}"] for part in ("low", "high", "close"))
                        assert low is None or low <= close <= high


@recorded
def test_the_recorded_book_of_three_forms_reads_as_one() -> None:
    (item,) = items(documents("orderbook_transition_cents+dollars+fp_2026-03-11.json")[0])
    whole = parse(item).model_dump(include={"yes", "no"})
    for form in ("orderbook", "orderbook_fp"):
        alone = parse(Item(Kind.ORDERBOOK, {form: item.payload[form]}, "$"))
        assert alone.model_dump(include={"yes", "no"}) == whole


@recorded
def test_the_recorded_stream_replays_without_a_gap_or_a_negative_level() -> None:
    books: dict[str, dict[tuple[str, Decimal], Decimal]] = {}
    for document in documents("ws_orderbook_stream_snapshots_and_deltas_2026-08-07.jsonl"):
        for part in recognise(document):
            if not isinstance(part, Item):
                continue
            read: Any = parse(part)
            if part.kind is Kind.WS_ORDERBOOK_SNAPSHOT:
                sides = (("yes", read.yes), ("no", read.no))
                books[read.market_ticker] = {(side, price): number for side, ladder in sides for price, number in ladder}
            else:
                book = books[read.market_ticker]
                book[read.side, read.price] = book.get((read.side, read.price), Decimal(0)) + read.delta
                assert book[read.side, read.price] >= 0
    assert len(books) == 12
