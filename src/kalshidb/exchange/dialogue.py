"""What is said over the exchange's websocket: commands out, frames in, and what has to be done about them. No input or output here.

One subscription a channel. Markets are added in portions, each after the one before was confirmed. Numbers (`seq`) count over all
frames of a subscription, control frames included: where they jump something was lost, and what is known of its order books ends
there, until a fresh snapshot of each has come. The exchange ends a subscription whose reader is too slow; it is made anew.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, DecimalException
from itertools import islice
from typing import Any, Literal

from kalshidb.exchange import scalars

BOOKS = "orderbook_delta"
CHANNELS = ("ticker", "trade", "market_lifecycle_v2", "multivariate_market_lifecycle", BOOKS)
LIFECYCLES = ("market_lifecycle_v2", "multivariate_market_lifecycle")

PORTION = 500
"""Markets a command names."""
QUIET = 10.0
"""Seconds without a frame after which the exchange is asked whether it is still there."""
PROOF = 5.0
"""Seconds without a change of any book after which the exchange is asked for one of them, to prove that nothing was lost."""
RENEWAL = 3600.0
"""Seconds after which books are asked for whole again, so that rebuilding one never has to go back further."""
SILENCE = 30.0
"""Seconds without a frame after which the connection counts as dead."""
PATIENCE = 15.0
"""Seconds within which a command is answered."""
ENDED: Mapping[int, "Reason"] = {10: "channel_error", 25: "overflow"}
"""Codes of errors that end a subscription."""
_AGAIN_LATER = frozenset((1, 18, 27))
_UNKNOWN_SID, _TOO_MANY_MARKETS = 7, 26
_LONGEST_PAUSE = 60.0

Reason = Literal["sequence", "disconnect", "silence", "overflow", "channel_error"]
Wanted = Mapping[str, Collection[str] | None]
"""Channels, and the markets of each; None for all markets."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Something that arrived, as it came.

    Attributes:
        content: its bytes.
        received_at: when, UTC; later than of every frame before.
        document: what was in it; None when it is no JSON object.
        channel: of its subscription; None where it belongs to none.
        is_control: whether it is about the conversation (subscribed, ok, error …) and not about a market.
    """

    content: bytes
    received_at: datetime
    document: dict[str, Any] | None
    channel: str | None
    is_control: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Something was lost, or may have been.

    Attributes:
        channel, sid: the subscription.
        found_at: when that was noticed, UTC.
        last_sequence, next_sequence: the numbers around it; None where there are none.
        reason: sequence (a number is missing), disconnect, silence, overflow or channel_error (the exchange ended the subscription).
    """

    channel: str
    sid: int
    found_at: datetime
    last_sequence: int | None
    next_sequence: int | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Repaired:
    """A subscription is whole again: every order book of it has a fresh snapshot, or it has begun anew."""

    channel: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Whole:
    """The book of a market is known from here on."""

    ticker: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Alive:
    """A numbered answer has come in a quiet subscription: what happened in it before that was asked for, at this moment, has arrived.

    Without it silence could not be told from loss: that a frame is missing only shows when the next one comes.
    """

    channel: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """The exchange did not do what it was asked; that is not asked again on this connection."""

    channel: str
    code: int | None
    message: str
    tickers: tuple[str, ...]


Event = Frame | Gap | Repaired | Whole | Alive | Refusal


@dataclass(slots=True)
class Step:
    """What follows from something: commands to send, events to tell, and whether the connection is dead."""

    commands: list[str] = field(default_factory=list[str])
    events: list[Event] = field(default_factory=list[Event])
    is_dead: bool = False


@dataclass(slots=True)
class _Asked:
    """A command that is not answered yet."""

    number: int
    action: Literal["subscribe", "add_markets", "delete_markets", "get_snapshot"]
    tickers: list[str]
    since: float
    missing: set[str]
    """Markets whose snapshot has not come yet, where snapshots were asked for."""
    at: datetime | None = None
    """When it was asked, where the answer is to prove something."""


@dataclass(slots=True)
class _Channel:
    name: str
    wanted: set[str] | None
    sid: int | None = None
    last: int | None = None
    there: set[str] = field(default_factory=set[str])
    """Markets of the subscription, as confirmed."""
    whole: set[str] = field(default_factory=set[str])
    """Markets whose book is known: a snapshot came, and nothing was lost since."""
    old: set[str] = field(default_factory=set[str])
    """Markets whose last snapshot is so old that another is due."""
    renewed: float = 0.0
    heard: float = 0.0
    proven: str = ""
    """The market whose book was last asked for as a proof."""
    asked: _Asked | None = None
    portion: int = PORTION
    pause: float = 0.0
    not_before: float = 0.0
    is_refused: bool = False
    is_full: bool = False
    has_gap: bool = False


class Dialogue:
    """A conversation with the exchange, over one connection after another.

    Args:
        wanted: channels and their markets. Books want theirs named; lifecycles are always of all markets.

    Raises:
        ValueError: an unknown channel, or books of all markets.
    """

    def __init__(self, wanted: Wanted) -> None:
        for channel, tickers in wanted.items():
            if channel not in CHANNELS:
                raise ValueError(f"no channel {channel!r}; there are {', '.join(CHANNELS)}")
            if channel == BOOKS and tickers is None:
                raise ValueError(f"{BOOKS} wants its markets named: the exchange has no books of all markets together")
        self._channels = {name: _Channel(name, None if tickers is None else set(tickers)) for name, tickers in wanted.items()}
        self._is_open = False
        self._number = 0
        self._heard = 0.0
        self._probe: int | None = None
        self.late = 0
        """Frames whose number was seen before: sent twice, or overtaken."""

    # What the caller does.

    def opened(self, now: float) -> Step:
        """Begin anew: a connection is there. `now` is of a clock that only runs forwards, in seconds."""
        self._is_open, self._heard, self._probe = True, now, None
        for channel in self._channels.values():
            channel.is_refused = channel.is_full = False
            channel.portion = PORTION
            channel.renewed = now
            self._forget(channel)
        return Step(commands=list(self._commands(now)))

    def closed(self, at: datetime, reason: Reason) -> list[Gap]:
        """The connection is gone: everything that was subscribed has a gap."""
        self._is_open = False
        gaps = [self._gap(channel, at, None, reason) for channel in self._channels.values() if channel.sid is not None]
        for channel in self._channels.values():
            self._forget(channel)
        return gaps

    def want(self, channel: str, tickers: Collection[str], now: float) -> Step:
        """Change the markets of a channel, which was made with its markets named."""
        there = self._channels[channel]
        there.wanted = set(tickers)
        there.is_full = there.is_full and bool(there.wanted - there.there)
        return Step(commands=list(self._commands(now))) if self._is_open else Step()

    def markets(self, channel: str) -> frozenset[str]:
        """Return the markets that are wanted of a channel."""
        there = self._channels.get(channel)
        return frozenset() if there is None or there.wanted is None else frozenset(there.wanted)

    def overslept(self, seconds: float) -> None:
        """Nobody listened for so long: what the exchange said meanwhile is still to be heard, so that time does not count as silence."""
        self._heard += seconds
        for channel in self._channels.values():
            channel.heard += seconds
            if channel.asked is not None:
                channel.asked.since += seconds

    def tick(self, at: datetime, now: float) -> Step:
        """Time has passed: ask whether the exchange is still there, and again what it had no time for."""
        step = Step()
        if now - self._heard > SILENCE or any(
            one.asked is not None and one.asked.action != "get_snapshot" and now - one.asked.since > PATIENCE
            for one in self._channels.values()
        ):
            step.is_dead = True
            return step
        for channel in self._channels.values():
            if channel.name == BOOKS and channel.sid is not None and now - channel.renewed > RENEWAL:
                channel.old, channel.renewed = set(channel.there), now
            if channel.asked is not None and now - channel.asked.since > PATIENCE:
                channel.asked = None  # snapshots that did not come are asked for again
                self._wait(channel, now)
        if now - self._heard > QUIET and self._probe is None:
            self._probe = self._next_number()
            step.commands.append(json.dumps({"id": self._probe, "cmd": "list_subscriptions"}))
        step.commands += self._commands(now)
        step.commands += self._proofs(at, now)
        return step

    def receive(self, content: bytes, at: datetime, now: float) -> Step:
        """Take a frame."""
        self._heard = now
        try:
            # As strict as who reads the batch in which it is kept: one frame must not make all of them unreadable.
            document = json.loads(content.decode(), parse_float=Decimal)
        except (ValueError, RecursionError, DecimalException):
            document = None
        if not isinstance(document, dict):
            return Step(events=[Frame(content, at, None, None, is_control=False)])
        step = Step()
        channel = self._channel_of(document)
        self._count(channel, document, at, step.events)
        is_control = self._answer(document, channel, at, now, step.events)
        name = None if channel is None else channel.name
        step.events.append(Frame(content, at, document, name, is_control=is_control))
        if document.get("type") == "orderbook_snapshot" and channel is not None and channel.name == BOOKS:
            self._has_come(channel, document, at, step.events)
        step.commands += self._commands(now)
        return step

    # Frames.

    def _channel_of(self, document: Mapping[str, Any]) -> _Channel | None:
        sid = document.get("sid")
        return next((one for one in self._channels.values() if sid is not None and one.sid == sid), None)

    def _count(self, channel: _Channel | None, document: Mapping[str, Any], at: datetime, events: list[Event]) -> None:
        seq = document.get("seq")
        if channel is None or type(seq) is not int:
            return
        if channel.last is not None and seq > channel.last + 1:
            events.append(self._gap(channel, at, seq, "sequence"))
            channel.whole.clear()
        if channel.last is not None and seq <= channel.last:
            self.late += 1
        else:
            channel.last = seq
            channel.heard = self._heard

    def _answer(
        self, document: Mapping[str, Any], channel: _Channel | None, at: datetime, now: float, events: list[Event]
    ) -> bool:
        """Take the answer to a command, or the end of a subscription; return whether the frame is either."""
        number, word = document.get("id"), document.get("type")
        asked = next((one for one in self._channels.values() if one.asked is not None and one.asked.number == number), None)
        message = document.get("msg")
        match word:
            case "subscribed":
                if asked is not None and isinstance(message, dict) and type(message.get("sid")) is int:
                    # Books count from 1, so a first snapshot that is lost is noticed; of the others that is not known.
                    self._begin(asked, message["sid"], 0 if asked.name == BOOKS else None, at, events)
            case "ok":
                if self._probe is not None and number == self._probe:
                    self._probe = None
                elif asked is not None and asked.asked is not None:
                    if asked.sid is None and type(document.get("sid")) is int:
                        # The subscription was there already, and counts on.
                        seq = document.get("seq")
                        self._begin(asked, document["sid"], seq if type(seq) is int else None, at, events)
                    else:
                        self._confirm(asked, at, events)
            case "error":
                code = message.get("code") if isinstance(message, dict) else None
                if channel is not None and isinstance(code, int) and code in ENDED:
                    gap = self._gap(channel, at, None, ENDED[code])
                    jump = next((event for event in events if isinstance(event, Gap)), None)
                    if jump is not None:  # the frame that ends the subscription shows that others before it were lost: one gap
                        events.remove(jump)
                        gap = replace(gap, last_sequence=jump.last_sequence)
                    events.append(gap)
                    self._forget(channel)
                    self._wait(channel, now)
                elif asked is not None:
                    self._refuse(asked, code, message, now, events)
            case "unsubscribed":
                if channel is not None:
                    self._forget(channel)
            case _:
                return False
        return True

    def _begin(self, channel: _Channel, sid: int, last: int | None, at: datetime, events: list[Event]) -> None:
        channel.sid, channel.last = sid, last
        self._confirm(channel, at, events)

    def _confirm(self, channel: _Channel, at: datetime, events: list[Event]) -> None:
        asked = channel.asked
        assert asked is not None  # noqa: S101  (looked up by it)
        channel.asked = None
        channel.pause = 0.0
        if asked.action == "delete_markets":
            channel.there -= set(asked.tickers)
            channel.whole -= set(asked.tickers)
        else:
            channel.there |= set(asked.tickers)
        self._settle(channel, at, events)

    def _has_come(self, channel: _Channel, document: Mapping[str, Any], at: datetime, events: list[Event]) -> None:
        """A snapshot: the book is known again, if it is the newest of its subscription."""
        message = document.get("msg")
        ticker = message.get("market_ticker") if isinstance(message, dict) else None
        if not isinstance(ticker, str) or document.get("seq") != channel.last:
            return
        channel.whole.add(ticker)
        channel.old.discard(ticker)
        events.append(Whole(ticker, at))
        if channel.asked is not None and channel.asked.action == "get_snapshot":
            channel.asked.missing.discard(ticker)
            if not channel.asked.missing:
                if channel.asked.at is not None:
                    events.append(Alive(channel.name, channel.asked.at))
                channel.asked, channel.pause = None, 0.0
        self._settle(channel, at, events)

    def _settle(self, channel: _Channel, at: datetime, events: list[Event]) -> None:
        is_back = channel.sid is not None and (channel.wanted is None or channel.wanted <= channel.there)
        if channel.has_gap and is_back and (channel.name != BOOKS or channel.there <= channel.whole):
            channel.has_gap = False
            events.append(Repaired(channel.name, at))

    def _refuse(self, channel: _Channel, code: object, message: object, now: float, events: list[Event]) -> None:
        asked = channel.asked
        assert asked is not None  # noqa: S101  (looked up by it)
        channel.asked = None
        if code in _AGAIN_LATER:
            self._wait(channel, now)
            return
        if code == _UNKNOWN_SID and channel.sid is not None:
            self._forget(channel)
            return
        if code == _TOO_MANY_MARKETS and len(asked.tickers) > 1:
            channel.portion = max(1, len(asked.tickers) // 2)
            return
        text = message.get("msg") if isinstance(message, dict) else None
        number = code if isinstance(code, int) else None
        if code == _TOO_MANY_MARKETS:
            channel.is_full = True
            left = tuple(sorted((channel.wanted or set()) - channel.there))
            events.append(Refusal(channel.name, number, str(text), left))
            return
        channel.is_refused = True
        events.append(Refusal(channel.name, number, str(text), tuple(asked.tickers)))

    # Subscriptions.

    def _gap(self, channel: _Channel, at: datetime, next_sequence: int | None, reason: Reason) -> Gap:
        channel.has_gap = True
        assert channel.sid is not None  # noqa: S101  (only a subscription can have one)
        return Gap(channel.name, channel.sid, at, channel.last, next_sequence, reason)

    @staticmethod
    def _forget(channel: _Channel) -> None:
        channel.sid = channel.last = channel.asked = None
        channel.there.clear()
        channel.whole.clear()
        channel.old.clear()

    @staticmethod
    def _wait(channel: _Channel, now: float) -> None:
        """Let some time pass before the next command, and more each time: what goes wrong at once would go wrong for ever."""
        channel.not_before = now + channel.pause
        channel.pause = min(_LONGEST_PAUSE, max(1.0, channel.pause * 2))

    def _commands(self, now: float) -> Iterator[str]:
        for channel in self._channels.values():
            if channel.asked is None and not channel.is_refused and now >= channel.not_before:
                command = self._next_command(channel, now)
                if command is not None:
                    yield command

    def _proofs(self, at: datetime, now: float) -> Iterator[str]:
        """Ask for a book, another each time, where none has changed for a while."""
        for channel in self._channels.values():
            is_quiet = channel.asked is None and channel.sid is not None and now - channel.heard > PROOF
            if channel.name == BOOKS and is_quiet and channel.whole:
                channel.proven = min((one for one in channel.whole if one > channel.proven), default=min(channel.whole))
                yield self._ask(channel, "get_snapshot", [channel.proven], now)
                assert channel.asked is not None  # noqa: S101  (just now)
                channel.asked.at = at

    def _next_command(self, channel: _Channel, now: float) -> str | None:
        if channel.sid is None:
            if channel.wanted is None:
                return self._ask(channel, "subscribe", [], now)
            tickers = _portion(channel.wanted, channel.portion)
            return self._ask(channel, "subscribe", tickers, now) if tickers else None
        if channel.wanted is None:
            return None
        if gone := channel.there - channel.wanted:
            return self._ask(channel, "delete_markets", _portion(gone, PORTION), now)
        if channel.name == BOOKS and channel.has_gap and (unknown := channel.there - channel.whole):
            return self._ask(channel, "get_snapshot", _portion(unknown, PORTION), now)
        if channel.name == BOOKS and (old := channel.old & channel.there):
            return self._ask(channel, "get_snapshot", _portion(old, PORTION), now)
        if (new := channel.wanted - channel.there) and not channel.is_full:
            return self._ask(channel, "add_markets", _portion(new, channel.portion), now)
        return None

    def _ask(
        self,
        channel: _Channel,
        action: Literal["subscribe", "add_markets", "delete_markets", "get_snapshot"],
        tickers: list[str],
        now: float,
    ) -> str:
        channel.asked = _Asked(self._next_number(), action, tickers, now, set(tickers))
        params: dict[str, Any]
        if action == "subscribe":
            params = {"channels": [channel.name]}
            if channel.name == BOOKS:
                params["use_yes_price"] = False  # said, because what goes without saying is going to change
        else:
            params = {"sids": [channel.sid], "action": action}
        if tickers:
            params["market_tickers"] = tickers
            if channel.name == "ticker" and action != "delete_markets":
                params["send_initial_snapshot"] = True
        command = "subscribe" if action == "subscribe" else "update_subscription"
        return json.dumps({"id": channel.asked.number, "cmd": command, "params": params})

    def _next_number(self) -> int:
        self._number += 1
        return self._number


def _portion(tickers: Iterable[str], most: int) -> list[str]:
    return list(islice(sorted(tickers), most))


def exchange_time(document: Mapping[str, Any]) -> datetime | None:
    """Return the exchange's time of a frame, as fine as it says it, or None where it says none."""
    message = document.get("msg")
    if not isinstance(message, dict):
        return None
    for name in ("ts", "time"):
        if isinstance(message.get(name), str):
            try:
                return scalars.moment(message[name])
            except scalars.WireValueError:
                return None
    stamp = message.get("ts_ms")
    if type(stamp) is not int or not 0 < stamp < 4_102_444_800_000:
        return None
    return _EPOCH + timedelta(milliseconds=stamp)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
