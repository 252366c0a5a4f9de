"""Frames of the websocket in every form in which they are kept, what they become, and what they change."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import simplejson
from loading import NOON, Store, market, trade

from kalshidb.exchange.recognise import Hints, Item, Kind, recognise
from kalshidb.ingest.arrivals import Arrival, from_line, to_line
from kalshidb.ingest.intake import Intake
from kalshidb.queries import catalog, ops

TICKER = "KXRAIN-26NOV01-NY"
QUOTE = {
    "market_ticker": TICKER, "price_dollars": "0.4100", "yes_bid_dollars": "0.4000", "yes_ask_dollars": "0.4200",
    "volume_fp": "10.00", "open_interest_fp": "5.00", "ts": 1793534400, "ts_ms": 1793534400250,
}  # fmt: skip
TRADE = {
    "trade_id": "00000000-0000-4000-8000-000000000001", "market_ticker": TICKER, "yes_price_dollars": "0.4100",
    "no_price_dollars": "0.5900", "count_fp": "1.00", "taker_side": "yes", "ts": 1793527200, "ts_ms": 1793527200123,
}  # fmt: skip
DELTA = {"market_ticker": TICKER, "price_dollars": "0.4000", "delta_fp": "-2.00", "side": "yes", "ts_ms": 1793534400250}
LIFE = {"market_ticker": TICKER, "event_type": "determined", "determination_ts": 1793534400, "result": "yes"}
KINDS = {
    "ticker": (QUOTE, Kind.WS_TICKER, "market_data.price_snapshots"),
    "trade": (TRADE, Kind.WS_TRADE, "market_data.public_trades"),
    "orderbook_delta": (DELTA, Kind.WS_ORDERBOOK_DELTA, "market_data.orderbook_deltas"),
    "market_lifecycle_v2": (LIFE, Kind.WS_LIFECYCLE, "catalog.market_lifecycle"),
}


@pytest.mark.parametrize("word", KINDS)
def test_a_frame_is_known_in_every_form(store: Store, word: str) -> None:
    message, kind, table = KINDS[word]
    forms: list[dict[str, Any]] = [
        {"type": word, "sid": 1, "seq": 7, "msg": message},
        {"type": word, "sid": 1, "seq": 7, **message},
        {"sid": 1, "seq": 7, **message},
        {"received_at": "2026-11-01T12:00:01Z", "frame": {"type": word, "sid": 1, "seq": 7, "msg": message}},
    ]
    for form in forms:
        (item,) = recognise(form, Hints())
        assert isinstance(item, Item), form
        assert item.kind is kind
        assert item.payload == forms[0] | ({} if form is not forms[2] else {"type": word})
        store.give(form)
    assert store.count(table) == 1
    assert store.rejects() == []


@pytest.mark.parametrize("word", ["ticker", "trade", "market_lifecycle_v2"])
def test_a_message_without_its_envelope_is_stored(store: Store, word: str) -> None:
    message, _, table = KINDS[word]
    store.give([message])
    assert store.count(table) == 1
    assert store.rejects() == []


def test_a_change_of_a_book_without_its_number_is_kept_as_a_reject(store: Store) -> None:
    store.give(DELTA)
    (reject,) = store.rejects()
    assert reject.kind == "ws_orderbook_delta"
    assert "seq" in str(reject.errors)


def test_answers_are_not_taken_for_frames(store: Store) -> None:
    store.give({"markets": [market(ts=1793534400, price_dollars="0.4100")], "trades": [trade()]})
    assert store.rejects() == []
    assert store.count("catalog.markets") == 1
    assert store.count("market_data.public_trades") == 1
    assert store.value("SELECT count(*) FROM market_data.price_snapshots WHERE source = 'websocket'") == 0


def life(word: str, seconds: int = 0, **details: object) -> dict[str, Any]:
    seen = NOON + timedelta(seconds=seconds)
    message = {"market_ticker": TICKER, "event_type": word, **details}
    return {"received_at": seen.isoformat(), "frame": {"type": "market_lifecycle_v2", "sid": 1, "seq": 1, "msg": message}}


def test_what_the_stream_says_of_a_market_is_written_to_it(store: Store) -> None:
    store.give(market(), seen=NOON - timedelta(hours=1))
    close = datetime(2026, 11, 1, 18, tzinfo=UTC)
    store.give([life("deactivated", 1), life("close_date_updated", 2, close_ts=int(close.timestamp()))])
    stored = catalog.market_by_ticker(store.conn, market_ticker=TICKER)
    assert stored is not None
    assert (stored.status, stored.close_time, stored.title) == ("inactive", close, "Rain in New York?")
    store.give([life("determined", 5, result="yes", settlement_value="1.0000", determination_ts=1793534400)])
    stored = catalog.market_by_ticker(store.conn, market_ticker=TICKER)
    assert stored is not None
    assert (stored.status, stored.result) == ("determined", "yes")
    lives = catalog.lifecycle_of_market(store.conn, market_ticker=TICKER)
    assert [(one.event_type, one.source) for one in lives] == [
        ("determined", "websocket"),
        ("deactivated", "websocket"),
        ("close_date_updated", "websocket"),
    ]


def test_a_market_that_settled_stays_to_be_asked_for(store: Store) -> None:
    """Its settlement comes with the exchange's answer, which is asked for as long as the market counts as unsettled."""
    store.give(market(), seen=NOON - timedelta(hours=1))
    store.give([life("settled", 1, settled_ts=1793534400)])
    unsettled = catalog.unsettled_markets(
        store.conn, retrieved_before=NOON + timedelta(hours=1), series_tickers=None, with_combos=False
    )
    assert [one.market_ticker for one in unsettled] == [TICKER]


def test_an_older_word_does_not_undo_a_newer_answer(store: Store) -> None:
    store.give(market(status="closed"), seen=NOON + timedelta(hours=1))
    store.give([life("deactivated", 1)])
    stored = catalog.market_by_ticker(store.conn, market_ticker=TICKER)
    assert stored is not None
    assert stored.status == "closed"


def test_a_life_of_an_unknown_market_makes_a_stub(store: Store) -> None:
    report = store.give([life("created", 1, open_ts=1793534400)])
    assert report.counts("market_lifecycle").written == 1
    stored = catalog.market_by_ticker(store.conn, market_ticker=TICKER)
    assert stored is not None
    assert stored.is_stub


def batch(first: datetime, *frames: dict[str, Any]) -> Arrival:
    """Frames as a stream hands them over, a millisecond apart."""
    moments = [first + timedelta(milliseconds=place) for place in range(len(frames))]
    wrapped = [{"received_at": moment.isoformat(), "frame": frame} for moment, frame in zip(moments, frames, strict=True)]
    body = simplejson.dumps(wrapped).encode()
    return Arrival("ws://exchange", {"connection": "1"}, None, first, body, retrieved_until=moments[-1])


def test_a_row_of_a_stream_leads_to_its_batch_and_one_of_a_poll_at_the_same_time_to_its_answer(store: Store) -> None:
    quotes = [{"type": "ticker", "sid": 1, "msg": QUOTE | {"ts_ms": 1793534400250 + place}} for place in range(10)]
    polled_at = NOON + timedelta(milliseconds=4, microseconds=500)
    with Intake(store.conn, "stream", origin="websocket") as stream, Intake(store.conn, "poll", origin="poll") as poll:
        stream.arrive(from_line(to_line(batch(NOON, *quotes), "stream", "websocket")).entry)  # type: ignore[arg-type]
        body = simplejson.dumps({"markets": [market()], "cursor": ""}).encode()
        poll.arrive(Arrival("http://exchange/markets", {}, 200, polled_at, body, Hints(observed_at=polled_at)))
    moments = store.column("SELECT retrieved_at FROM market_data.price_snapshots WHERE source = 'websocket'")
    assert len(set(moments)) == 10
    for moment in moments:
        assert [origin.url for origin in ops.requests_at(store.conn, retrieved_at=moment)] == ["ws://exchange"]
    (polled,) = store.column("SELECT retrieved_at FROM market_data.price_snapshots WHERE source = 'poll'")
    assert [origin.url for origin in ops.requests_at(store.conn, retrieved_at=polled)] == ["http://exchange/markets"]
    assert ops.requests_at(store.conn, retrieved_at=NOON + timedelta(milliseconds=9, microseconds=1)) == []


def test_a_file_that_was_noted_before_it_was_read_gets_the_end_of_its_span(store: Store) -> None:
    quotes = [{"type": "ticker", "sid": 1, "msg": QUOTE | {"ts_ms": 1793534400250 + place}} for place in range(3)]
    store.give(quotes, seen=NOON)
    moments = store.column("SELECT retrieved_at FROM market_data.price_snapshots ORDER BY 1")
    assert moments == [NOON + timedelta(microseconds=place) for place in range(3)]
    spans = store.conn.execute("SELECT retrieved_at, retrieved_until FROM ops.ingest_requests").fetchall()
    assert spans == [(NOON, NOON + timedelta(microseconds=3))]
    assert store.value("SELECT sum(delta) FROM market_data.orderbook_deltas") in (None, Decimal())
