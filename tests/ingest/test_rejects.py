"""What was refused: kept apart where it differs, counted where it does not, stored when what was missing is known."""

import json
from datetime import timedelta

import pytest
from loading import NOON, Store, candle, event, market, trade

from kalshidb.exchange.recognise import Kind
from kalshidb.ingest import intake

CANDLES = {"candlesticks": [candle(period_interval=60)]}


def test_a_refused_candlestick_is_stored_once_its_market_is_told(store: Store) -> None:
    store.give(CANDLES)
    report = store.retry(market_ticker="KXRAIN-26NOV01-NY")
    assert (report.resolved, report.counts("candlestick").written) == (1, 1)
    assert store.rejects() == []
    assert store.value("SELECT resolved_at IS NOT NULL FROM ops.rejected_payloads")
    assert store.value("SELECT retrieved_at FROM market_data.candlesticks") == NOON


def test_a_refused_candlestick_is_stored_once_its_period_is_told(store: Store) -> None:
    store.give({"ticker": "KXRAIN-26NOV01-NY", "candlesticks": [candle()]})
    assert store.retry().resolved == 0
    assert store.retry(period_interval_minutes=1440).resolved == 1
    assert store.value("SELECT period_interval_minutes FROM market_data.candlesticks") == 1440


def test_a_retry_that_fails_keeps_the_same_reject_open_and_counts(store: Store) -> None:
    store.give(CANDLES)
    (before,) = store.rejects()
    for _ in range(2):
        assert store.retry(period_interval_minutes=60).total.rejected == 1
    (after,) = store.rejects()
    assert (after.payload_sha256, after.payload, after.context, after.source) == (
        before.payload_sha256, before.payload, before.context, before.source,
    )  # fmt: skip
    assert (before.seen_count, after.seen_count) == (1, 3)
    assert after.last_seen_at > before.last_seen_at
    assert after.first_seen_at == before.first_seen_at


def test_what_is_refused_again_by_another_load_counts_and_what_was_resolved_opens_again(store: Store) -> None:
    path = store.file("candles.json", CANDLES)
    store.load(path)
    store.load(path)
    assert [reject.seen_count for reject in store.rejects()] == [2]
    store.retry(market_ticker="KXRAIN-26NOV01-NY")
    assert store.rejects() == []
    store.load(path)
    assert [reject.seen_count for reject in store.rejects()] == [3]


def test_equal_candlesticks_of_two_unknown_markets_are_both_kept_and_resolved_apart(store: Store) -> None:
    store.load(store.file("new york.json", CANDLES), store.file("los angeles.json", CANDLES))
    assert len(store.rejects()) == 2
    assert store.retry(source="new york", market_ticker="KXRAIN-26NOV01-NY").resolved == 1
    assert store.retry(source="los angeles", market_ticker="KXRAIN-26NOV01-LA").resolved == 1
    assert store.column("SELECT market_ticker FROM market_data.candlesticks ORDER BY 1") == [
        "KXRAIN-26NOV01-LA",
        "KXRAIN-26NOV01-NY",
    ]


def test_equal_candlesticks_of_unknown_length_are_both_kept(store: Store) -> None:
    bare = {"ticker": "KXRAIN-26NOV01-NY", "candlesticks": [candle()]}
    store.load(store.file("hour.json", bare), store.file("day.json", bare))
    store.retry(source="hour", period_interval_minutes=60)
    store.retry(source="day", period_interval_minutes=1440)
    assert store.column("SELECT period_interval_minutes FROM market_data.candlesticks ORDER BY 1") == [60, 1440]


def test_a_wrong_object_that_is_polled_again_is_one_reject_wherever_it_stands_in_the_page(store: Store) -> None:
    wrong = event(title=5)
    store.give({"events": [wrong]})
    store.give({"events": [event("KXRAIN-26NOV02"), wrong]}, seen=NOON + timedelta(hours=1))
    assert [reject.seen_count for reject in store.rejects()] == [2]


def test_broken_and_unreadable_files_are_each_kept_and_left_alone_by_a_retry(store: Store) -> None:
    folder = store.file("folder/empty.json", "").parent
    store.file("folder/void.json", "")
    (folder / "gone.json").symlink_to(folder / "nowhere")
    store.load(folder)
    assert sorted(reject.source.rpartition("/")[2] for reject in store.rejects()) == ["empty.json", "gone.json", "void.json"]
    assert store.retry().total.read == 0
    assert len(store.rejects()) == 3


def test_an_unrecognised_document_is_kept_whole_and_stored_once_it_is_told_what_it_is(store: Store) -> None:
    text = ' [ { "end_period_ts" : 1793534400, "stamp": 1.50 } ] '
    store.give(text)
    (before,) = store.rejects()
    assert (before.kind, before.payload) == ("unrecognised", text.encode())
    assert store.retry().total.rejected == 1
    (after,) = store.rejects()
    assert (after.payload_sha256, after.seen_count, after.source) == (before.payload_sha256, 2, before.source)
    told = {"kind": Kind.CANDLESTICK, "market_ticker": "KXRAIN-26NOV01-NY", "period_interval_minutes": 60}
    assert (store.retry(**told).resolved, store.rejects()) == (1, [])
    assert store.value("SELECT retrieved_at FROM market_data.candlesticks") == NOON


def test_told_wrongly_what_it_is_a_document_stays_one_open_reject_with_the_reasons(store: Store) -> None:
    store.give({"mystery": [{"end_period_ts": 1_793_534_400, "close": 1}, {"end_period_ts": 1_793_538_000, "close": 2}]})
    (before,) = store.rejects()
    assert store.retry(kind=Kind.TRADE).resolved == 0
    (after,) = store.rejects()
    assert (after.kind, after.payload_sha256, after.seen_count) == ("unrecognised", before.payload_sha256, 2)
    assert "created_time" in {error["field"] for error in after.errors}


def test_a_stray_part_of_a_list_is_kept_with_its_place(store: Store) -> None:
    part = {"market_ticker": "KXRAIN-26NOV01-NY", "created_time": "2026-11-01T10:00:00Z", "trade_id": trade()["trade_id"],
            "yes": "0.41"}  # fmt: skip
    store.give([trade(2), part])
    (reject,) = store.rejects()
    assert reject.source.endswith("document.json $[1]")
    assert json.loads(reject.payload) == part


def test_equal_parts_of_two_documents_whose_surroundings_differ_are_both_kept(store: Store) -> None:
    """The hint contradicts the document, so the market that the document names stands around the part only."""
    for name in ("KXA-1", "KXA-2"):
        store.load(store.file(f"{name}.json", {"ticker": name, **CANDLES}), market_ticker="KXB-1")
    assert {reject.kind for reject in store.rejects()} == {"unrecognised"}
    assert len(store.rejects()) == 2


def test_a_document_in_utf_16_can_be_tried_again(store: Store) -> None:
    store.give(json.dumps({"nothing": "known"}).encode("utf-16"))
    assert store.retry().counts("unrecognised").rejected == 1
    assert [reject.seen_count for reject in store.rejects()] == [2]


def test_a_market_whose_quote_is_impossible_is_stored_and_its_reject_stays_open(store: Store) -> None:
    report = store.give(market(yes_bid_dollars="0.5000"))
    assert (report.counts("market").written, report.counts("price_snapshot").rejected) == (1, 1)
    report = store.retry()
    assert (report.counts("market").unchanged, report.counts("price_snapshot").rejected, report.resolved) == (1, 1, 0)
    assert [reject.seen_count for reject in store.rejects()] == [2]


def test_a_document_of_which_a_part_is_refused_stays_open_even_if_a_later_part_is_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.give([{"end_period_ts": "late"}, {"end_period_ts": 1_793_534_400}, {"end_period_ts": 1_793_538_000}])
    monkeypatch.setattr(intake, "BATCH_ROWS", 1)
    report = store.retry(kind=Kind.CANDLESTICK, market_ticker="KXA-1", period_interval_minutes=60)
    assert (report.counts("candlestick").written, report.counts("candlestick").rejected, report.resolved) == (2, 1, 0)
    assert [reject.seen_count for reject in store.rejects()] == [2]
