"""What is said over the websocket, without a socket: frames in, commands and events out."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kalshidb.exchange.dialogue import (
    PORTION,
    PROOF,
    QUIET,
    RENEWAL,
    SILENCE,
    Alive,
    Dialogue,
    Event,
    Frame,
    Gap,
    Refusal,
    Repaired,
    Step,
    Whole,
    exchange_time,
)
from kalshidb.ingest.intake import parse_json
from kalshidb.ingest.stream import _wrapped

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def samples() -> Path:
    """The recorded answers of the real exchange, where they are."""
    for parent in Path(__file__).resolve().parents:
        folder = parent / "shared" / "kalshi-samples"
        if folder.is_dir():
            return folder
    pytest.skip("the recorded payloads are not here")


class Talk:
    """A dialogue, and what it has said and told so far."""

    def __init__(self, **wanted: list[str] | None) -> None:
        self.dialogue = Dialogue(wanted)
        self.said: list[dict[str, Any]] = []
        self.told: list[Event] = []
        self.now = 0.0
        self.add(self.dialogue.opened(0.0))

    def add(self, step: Step) -> Step:
        self.said += [json.loads(command) for command in step.commands]
        self.told += [event for event in step.events if not isinstance(event, Frame)]
        return step

    def hear(self, *frames: dict[str, Any] | bytes) -> None:
        for frame in frames:
            self.now += 0.001
            content = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
            self.add(self.dialogue.receive(content, NOON + timedelta(seconds=self.now), self.now))

    def wait(self, seconds: float) -> Step:
        self.now += seconds
        return self.add(self.dialogue.tick(NOON + timedelta(seconds=self.now), self.now))

    def last(self) -> dict[str, Any]:
        return self.said[-1]

    def events(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


def subscribed(number: int, sid: int = 1, channel: str = "orderbook_delta") -> dict[str, Any]:
    return {"type": "subscribed", "id": number, "msg": {"channel": channel, "sid": sid}}


def snapshot(seq: int, ticker: str, sid: int = 1) -> dict[str, Any]:
    return {"type": "orderbook_snapshot", "sid": sid, "seq": seq, "msg": {"market_ticker": ticker}}


def delta(seq: int, ticker: str = "KXA-1", sid: int = 1) -> dict[str, Any]:
    return {"type": "orderbook_delta", "sid": sid, "seq": seq, "msg": {"market_ticker": ticker, "ts_ms": 1_793_534_400_123}}


def refusal(code: int, number: int | None = None, sid: int | None = None, seq: int | None = None) -> dict[str, Any]:
    frame: dict[str, Any] = {"type": "error", "msg": {"code": code, "msg": "because"}}
    return frame | {name: value for name, value in (("id", number), ("sid", sid), ("seq", seq)) if value is not None}


def test_books_are_subscribed_and_known_from_their_snapshots_on() -> None:
    talk = Talk(orderbook_delta=["KXA-2", "KXA-1"])
    assert talk.said == [
        {
            "id": 1,
            "cmd": "subscribe",
            "params": {"channels": ["orderbook_delta"], "use_yes_price": False, "market_tickers": ["KXA-1", "KXA-2"]},
        }
    ]
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), snapshot(2, "KXA-2"), delta(3))
    assert [event.ticker for event in talk.events(Whole)] == ["KXA-1", "KXA-2"]
    assert not talk.events(Gap)
    assert len(talk.said) == 1


def test_many_markets_are_added_in_portions_each_after_the_one_before() -> None:
    tickers = [f"KXA-{number:04}" for number in range(PORTION + 3)]
    talk = Talk(orderbook_delta=tickers)
    assert talk.last()["params"]["market_tickers"] == tickers[:PORTION]
    talk.hear(subscribed(1))
    assert talk.last() == {
        "id": 2,
        "cmd": "update_subscription",
        "params": {"sids": [1], "action": "add_markets", "market_tickers": tickers[PORTION:]},
    }
    talk.hear({"type": "ok", "id": 2, "sid": 1, "seq": 1, "msg": {}})
    assert len(talk.said) == 2


def test_a_number_that_is_missing_is_a_gap_until_every_book_has_a_fresh_snapshot() -> None:
    talk = Talk(orderbook_delta=["KXA-1", "KXA-2"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), snapshot(2, "KXA-2"), delta(5))
    (gap,) = talk.events(Gap)
    assert (gap.channel, gap.sid, gap.last_sequence, gap.next_sequence, gap.reason) == ("orderbook_delta", 1, 2, 5, "sequence")
    assert talk.last()["params"] == {"sids": [1], "action": "get_snapshot", "market_tickers": ["KXA-1", "KXA-2"]}
    talk.hear(snapshot(6, "KXA-1"), delta(7))
    assert not talk.events(Repaired)
    talk.hear(snapshot(8, "KXA-2"))
    assert [event.channel for event in talk.events(Repaired)] == ["orderbook_delta"]
    talk.hear(delta(9))
    assert len(talk.events(Gap)) == 1


def test_control_frames_take_numbers_too() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"))
    talk.add(talk.dialogue.want("orderbook_delta", ["KXA-1", "KXA-2"], talk.now))
    talk.hear({"type": "ok", "id": 2, "sid": 1, "seq": 2, "msg": {}}, snapshot(3, "KXA-2"), delta(4))
    assert not talk.events(Gap)
    talk.add(talk.dialogue.want("orderbook_delta", ["KXA-2"], talk.now))
    assert talk.last()["params"] == {"sids": [1], "action": "delete_markets", "market_tickers": ["KXA-1"]}


def test_a_first_snapshot_that_is_lost_is_noticed() -> None:
    talk = Talk(orderbook_delta=["KXA-1", "KXA-2"])
    talk.hear(subscribed(1), snapshot(2, "KXA-2"))
    (gap,) = talk.events(Gap)
    assert (gap.last_sequence, gap.next_sequence) == (0, 2)
    assert talk.last()["params"]["market_tickers"] == ["KXA-1"]


def test_books_are_asked_for_whole_again_from_time_to_time() -> None:
    talk = Talk(orderbook_delta=["KXA-1", "KXA-2"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), snapshot(2, "KXA-2"))
    seq = 2
    while not talk.last()["params"].get("action"):
        talk.wait(PROOF - 1)
        talk.hear(delta(seq := seq + 1))
    assert RENEWAL < talk.now < RENEWAL + 2 * QUIET
    assert talk.last()["params"] == {"sids": [1], "action": "get_snapshot", "market_tickers": ["KXA-1", "KXA-2"]}
    said = len(talk.said)
    talk.hear(snapshot(seq + 1, "KXA-1"), snapshot(seq + 2, "KXA-2"), delta(seq + 3))
    assert len(talk.said) == said
    assert not talk.events(Gap)


def test_what_comes_twice_or_late_is_no_gap() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), delta(2), delta(2), delta(1), delta(3))
    assert not talk.events(Gap)
    assert talk.dialogue.late == 2


def test_a_snapshot_that_was_overtaken_does_not_make_a_book_known() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1), delta(2), snapshot(1, "KXA-1"))
    assert not talk.events(Whole)


def test_numbers_of_one_subscription_say_nothing_about_another() -> None:
    talk = Talk(trade=None, orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1, 1, "trade"), subscribed(2, 2), snapshot(1, "KXA-1", sid=2))
    talk.hear(
        {"type": "trade", "sid": 1, "seq": 40, "msg": {}}, {"type": "trade", "sid": 1, "seq": 41, "msg": {}}, delta(2, sid=2)
    )
    assert not talk.events(Gap)  # where the trades' numbers begin is not promised
    talk.hear({"type": "trade", "sid": 1, "seq": 44, "msg": {}})
    assert [(gap.channel, gap.last_sequence, gap.next_sequence) for gap in talk.events(Gap)] == [("trade", 41, 44)]


@pytest.mark.parametrize(("code", "reason"), [(10, "channel_error"), (25, "overflow")])
def test_a_subscription_that_the_exchange_ends_is_made_anew_and_slower_each_time(code: int, reason: str) -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), refusal(code, sid=1, seq=2))
    (gap,) = talk.events(Gap)
    assert (gap.reason, gap.last_sequence) == (reason, 2)
    assert [command["cmd"] for command in talk.said] == ["subscribe", "subscribe"]
    talk.hear(refusal(1, number=2))  # and no time for it now
    assert len(talk.said) == 2
    talk.wait(2)
    assert len(talk.said) == 3
    talk.hear(subscribed(3, 2), snapshot(1, "KXA-1", sid=2))
    assert len(talk.events(Repaired)) == 1


def test_an_end_that_shows_that_frames_were_lost_before_it_is_one_gap() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), refusal(25, sid=1, seq=9))
    assert [(gap.reason, gap.last_sequence, gap.next_sequence) for gap in talk.events(Gap)] == [("overflow", 1, None)]


def test_a_connection_that_ends_leaves_a_gap_in_each_subscription_and_begins_again() -> None:
    talk = Talk(ticker=["KXA-1"], orderbook_delta=["KXA-1"])
    talk.hear(subscribed(1, 1, "ticker"), subscribed(2, 2), snapshot(1, "KXA-1", sid=2))
    gaps = talk.dialogue.closed(NOON, "disconnect")
    assert [(gap.channel, gap.sid, gap.last_sequence, gap.reason) for gap in gaps] == [
        ("ticker", 1, None, "disconnect"),
        ("orderbook_delta", 2, 1, "disconnect"),
    ]
    talk.add(talk.dialogue.opened(talk.now))
    assert [command["cmd"] for command in talk.said] == ["subscribe"] * 4
    assert talk.said[2]["params"]["send_initial_snapshot"] is True
    talk.hear(subscribed(3, 1, "ticker"), subscribed(4, 2), snapshot(1, "KXA-1", sid=2))
    assert [event.channel for event in talk.events(Repaired)] == ["ticker", "orderbook_delta"]


def test_an_ok_to_subscribe_means_that_the_subscription_was_there_and_counts_on() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear({"type": "ok", "id": 1, "sid": 4, "seq": 17, "msg": {"market_tickers": ["KXA-1"]}}, snapshot(18, "KXA-1", sid=4))
    assert not talk.events(Gap)
    assert [event.ticker for event in talk.events(Whole)] == ["KXA-1"]


def test_an_ok_with_a_number_that_is_none_ends_nothing() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.hear({"type": "ok", "id": 1, "sid": 4, "seq": "17", "msg": {}}, snapshot(18, "KXA-1", sid=4), delta(19, sid=4))
    assert [event.ticker for event in talk.events(Whole)] == ["KXA-1"]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"type":"ticker"}',
        '{"type":"ticker"}'.encode("utf-16"),
        b'{"type":"ticker","msg":{"price":1e99999999999999999999}}',
    ],
)
def test_a_frame_that_would_make_its_batch_unreadable_counts_as_none(content: bytes) -> None:
    """A batch is one JSON document: what is no JSON within it is kept apart."""
    talk = Talk(ticker=None)
    (frame,) = talk.dialogue.receive(content, NOON, 0.0).events
    assert frame.document is None
    assert len(parse_json(b"[" + _wrapped(frame) + b"]")) == 1


def test_too_many_markets_are_halved_until_it_is_full() -> None:
    talk = Talk(orderbook_delta=["KXA-1", "KXA-2", "KXA-3"])
    talk.hear(refusal(26, number=1))
    assert talk.last()["params"]["market_tickers"] == ["KXA-1"]
    talk.hear(subscribed(2), snapshot(1, "KXA-1"))
    talk.hear(refusal(26, number=3, sid=1, seq=2))
    (refused,) = talk.events(Refusal)
    assert (refused.code, refused.tickers) == (26, ("KXA-2", "KXA-3"))
    assert len(talk.said) == 3


def test_a_command_that_cannot_be_is_not_repeated() -> None:
    talk = Talk(ticker=None, orderbook_delta=["KXA-1"])
    talk.hear(refusal(8, number=1))
    (refused,) = talk.events(Refusal)
    assert (refused.channel, refused.code, refused.message) == ("ticker", 8, "because")
    talk.wait(5)
    assert len(talk.said) == 2


def test_silence_is_asked_about_and_then_the_connection_is_dead() -> None:
    talk = Talk(trade=None)
    talk.hear(subscribed(1, 1, "trade"))
    assert not talk.wait(QUIET - 1).commands
    assert [command["cmd"] for command in map(json.loads, talk.wait(2).commands)] == ["list_subscriptions"]
    talk.hear({"type": "ok", "id": 2, "msg": []})
    assert not talk.wait(QUIET + 1).is_dead
    assert talk.wait(SILENCE).is_dead


def test_quiet_books_are_proven_by_asking_for_one_of_them() -> None:
    talk = Talk(orderbook_delta=["KXA-1", "KXA-2"])
    talk.hear(subscribed(1), snapshot(1, "KXA-1"), snapshot(2, "KXA-2"))
    asked_at = NOON + timedelta(seconds=talk.now + PROOF + 0.1)
    talk.wait(PROOF + 0.1)
    assert talk.last()["params"] == {"sids": [1], "action": "get_snapshot", "market_tickers": ["KXA-1"]}
    assert not talk.events(Alive)
    talk.hear(snapshot(3, "KXA-1"))
    assert talk.events(Alive) == [Alive("orderbook_delta", asked_at)]
    talk.wait(PROOF + 0.1)
    assert talk.last()["params"]["market_tickers"] == ["KXA-2"]
    talk.hear(snapshot(5, "KXA-2"))  # and something was lost indeed
    assert [type(event) for event in talk.told[-3:]] == [Gap, Whole, Alive]


def test_a_command_without_an_answer_makes_the_connection_dead_though_frames_come() -> None:
    talk = Talk(ticker=None, trade=None)
    talk.hear(subscribed(1, 1, "ticker"))
    steps: list[Step] = []
    for _ in range(20):
        talk.hear({"type": "ticker", "sid": 1, "msg": {}})
        steps.append(talk.wait(1))
    assert [step.is_dead for step in steps[:10]] == [False] * 10
    assert steps[-1].is_dead


def test_the_time_in_which_nobody_listened_is_no_silence() -> None:
    talk = Talk(orderbook_delta=["KXA-1"])
    talk.now += SILENCE + 5
    talk.dialogue.overslept(SILENCE + 5)
    assert not talk.wait(0.1).is_dead
    talk.hear(subscribed(1), snapshot(1, "KXA-1"))
    assert talk.events(Whole)


@pytest.mark.parametrize("content", [b'{"type":"orderbook_de', b"<html>", b"[1, 2]", b'"text"', b"\xff", b"[" * 100_000])
def test_what_is_no_frame_is_handed_on_whole(content: bytes) -> None:
    talk = Talk(trade=None)
    (frame,) = talk.dialogue.receive(content, NOON, 0.0).events
    assert frame == Frame(content, NOON, None, None, is_control=False)


def test_frames_of_the_real_exchange_have_no_gap(samples: Path) -> None:
    recorded = [json.loads(line) for line in (samples / "ws_orderbook_stream_snapshots_and_deltas_2026-08-07.jsonl").open()]
    tickers = {frame["frame"]["msg"]["market_ticker"] for frame in recorded if frame["frame"]["type"] == "orderbook_snapshot"}
    talk = Talk(orderbook_delta=sorted(tickers))
    talk.hear({**recorded[0]["frame"], "id": 1}, *(frame["frame"] for frame in recorded[1:]))
    assert not talk.events(Gap)
    assert {event.ticker for event in talk.events(Whole)} == tickers


def test_books_of_all_markets_do_not_exist() -> None:
    with pytest.raises(ValueError, match="wants its markets named"):
        Dialogue({"orderbook_delta": None})
    with pytest.raises(ValueError, match="no channel 'fills'"):
        Dialogue({"fills": None})


def test_the_time_of_a_frame_is_the_exchanges() -> None:
    assert exchange_time(delta(1)) == datetime(2026, 11, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    assert exchange_time({"type": "ok"}) is None
    assert exchange_time({"msg": {"ts_ms": 1e99}}) is None
