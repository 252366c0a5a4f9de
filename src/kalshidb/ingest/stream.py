"""Everything that the exchange's websocket tells, written down as it comes: frames in batches, what was heard whole, what was not.

Frames go through a landing, so they are stored, or spooled while the database is away; a writer that falls behind makes the exchange
wait, and memory stays bounded. Behind the frames, in order, come the notes about them: up to which moment the order books are whole,
which gaps there were, and when they ended. A process that is killed has claimed nothing that it had not received and stored.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar

import psycopg

from kalshidb.exchange.dialogue import (
    BOOKS,
    CHANNELS,
    LIFECYCLES,
    Alive,
    Event,
    Frame,
    Gap,
    Refusal,
    Repaired,
    Whole,
    exchange_time,
)
from kalshidb.exchange.stream import Stream
from kalshidb.ingest.arrivals import Arrival, Note
from kalshidb.ingest.landing import Landing
from kalshidb.ingest.spool import SpoolError
from kalshidb.queries import catalog, ops

T = TypeVar("T")

COMPONENT = "stream"
"""Name in ops.system_health."""
COMBO = "KXMVE"
"""How tickers of combinations begin."""

BATCH_FRAMES = 2_000
BATCH_BYTES = 4 << 20
BATCH_SECONDS = 1.0
"""When a batch of frames is handed to the writer, whichever comes first."""
WAITING_BATCHES = 4
"""Batches that wait for the writer before the exchange is made to wait."""
COVER_SECONDS = 15.0
"""How often it is written down up to when the order books are whole."""
REFRESH_SECONDS = 60.0
"""How often the catalogue is asked which markets there are, and the health is noted."""
MARGIN = timedelta(seconds=1)
"""So far behind the last that was heard a book counts as whole: what happened just before may still be on its way."""
ALIKE = timedelta(seconds=5)
"""Our clock and the exchange's count as one up to this difference."""

Health = Literal["healthy", "degraded", "down"]
log = logging.getLogger(__name__)


class SelectionError(ValueError):
    """What was asked for cannot be listened to; says why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to listen to.

    Attributes:
        markets, series, events: whose order books to record, and unless `everything` whose quotes and trades.
        channels: of CHANNELS; empty for quotes, trades, lives of markets and, where markets are named, order books.
        everything: quotes and trades of all markets, although some are named.
        with_combos: also quotes and lives of combinations of several markets.
    """

    markets: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    everything: bool = False
    with_combos: bool = False

    def __post_init__(self) -> None:
        """Refuse what the exchange does not offer."""
        for channel in self.channels:
            if channel not in CHANNELS:
                raise SelectionError(f"no channel {channel!r}; there are {', '.join(CHANNELS)}")
        if BOOKS in self.channels and not self.names:
            raise SelectionError("order books are had of markets that are named: with --market, --series or --event")

    @property
    def names(self) -> bool:
        """Whether markets are named."""
        return bool(self.markets or self.series or self.events)

    def wanted(self, tickers: Collection[str]) -> dict[str, set[str] | None]:
        """Return the channels, and the markets of each, given the markets that are meant by series and events."""
        usual = ("ticker", "trade", "market_lifecycle_v2", *([BOOKS] if self.names else []))
        channels = self.channels or (*usual, *(["multivariate_market_lifecycle"] if self.with_combos else []))
        all_of_them = self.everything or not self.names
        named = {*self.markets, *tickers}
        return {
            channel: None if channel in LIFECYCLES or (channel != BOOKS and all_of_them) else set(named) for channel in channels
        }

    def means(self, ticker: str) -> bool:
        """Whether a market that has just been made belongs to what is named, as far as its ticker tells."""
        return any(ticker.startswith(f"{name}-") for name in (*self.series, *self.events))


@dataclass(slots=True)
class Tally:
    """What was heard so far."""

    frames: int = 0
    batches: int = 0
    broken: int = 0
    left_out: int = 0
    gaps: int = 0
    repaired: int = 0


class Recorder:
    """Writes down a stream.

    Args:
        landing: where everything goes; entered and left here.
        stream: what is listened to; made with the wishes of `selection.wanted(())`.
        selection: what was chosen.
        on_minute: called with what was heard, and how it goes, as often as the health is noted.
    """

    def __init__(
        self,
        landing: Landing,
        stream: Stream,
        selection: Selection,
        *,
        on_minute: Callable[[Tally, Health, str | None], object] = lambda *_: None,
    ) -> None:
        self.tally = Tally()
        self._landing = landing
        self._stream = stream
        self._selection = selection
        self._on_minute = on_minute
        self._batch: list[Frame] = []
        self._batch_bytes = 0
        self._batch_begun = 0.0
        self._claimed: dict[str, datetime] = {}  # of each book that is whole: up to when that is written down
        self._open_gaps: list[Gap] = []
        self._last_received: datetime | None = None
        self._told: datetime | None = None  # the exchange's time of the last frame about a book
        self._asked: datetime | None = None  # when a proof was asked for that has come
        self._skew: timedelta | None = None  # how far the exchange's clock is ahead of ours; of the connection of this number
        self._skew_of = 0
        self._others: set[str] = set()  # series whose books another process records
        self._queue: asyncio.Queue[Callable[[], object] | None] = asyncio.Queue(WAITING_BATCHES)
        self._order = asyncio.Lock()
        self._has_looked = asyncio.Event()  # which markets there are, and which of them others record
        self._notes: list[Note] = []
        self._writer_is_gone = False
        self._stamp: datetime | None = None  # the exchange's time of the last frame
        self._new = False  # a market that is meant has been made
        self._trouble: str | None = None
        self._refusals: dict[str, str] = {}

    async def run(self) -> None:
        """Listen until the stream is stopped, and write everything down.

        Raises:
            kalshidb.exchange.stream.StreamError: the exchange refuses the key, or there is no websocket.
            psycopg.Error: the database refuses something for another reason than being away; what arrived is spooled.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "stream writer") as thread:
            await loop.run_in_executor(thread, self._landing.__enter__)
            tasks = [asyncio.create_task(self._write(thread)), asyncio.create_task(self._keep_time())]
            for task in tasks:
                task.add_done_callback(lambda _: self._stream.stop())
            failures: list[BaseException] = []
            first_look = asyncio.create_task(self._has_looked.wait())
            try:
                # A book that another process records is not even begun: the changes that the other one hears have the number of its
                # own subscription, so none of them would be counted after our snapshot.
                await asyncio.wait([*tasks, first_look], return_when=asyncio.FIRST_COMPLETED)
                async for event in self._stream.listen():
                    self._take(event)
                    is_full = len(self._batch) >= BATCH_FRAMES or self._batch_bytes >= BATCH_BYTES
                    if is_full or isinstance(event, Gap | Repaired):
                        await self._hand_over()
            except (Exception, asyncio.CancelledError) as error:
                failures.append(error)
            writer, keeper = tasks
            keeper.cancel()
            first_look.cancel()
            await self._hand_over(self._claims(self._claimed))
            await self._put(None)
            ended = await asyncio.gather(keeper, writer, return_exceptions=True)
            failures += [
                error for error in ended if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError)
            ]
            failure = failures[0] if failures else None
            await loop.run_in_executor(thread, self._landing.__exit__, type(failure) if failure else None, failure, None)
        if failure is not None:
            raise failure

    # What is heard.

    def _take(self, event: Event) -> None:
        match event:
            case Frame():
                self._take_frame(event)
            case Whole():
                # Claims go on where they were: a snapshot of a book that is whole anyway ends nothing.
                self._claimed.setdefault(event.ticker, self._stamped(event.at))
            case Alive():
                self._asked = event.at if event.channel == BOOKS else self._asked
            case Gap():
                self._take_gap(event)
            case Repaired():
                self._take_repair(event)
            case Refusal():
                self._refusals[event.channel] = f"the exchange refuses {event.channel} ({event.code}): {event.message}"
                markets = f" for {len(event.tickers):,} markets" if event.tickers else ""
                log.error("%s%s", self._refusals[event.channel], markets)

    def _take_frame(self, frame: Frame) -> None:
        self._last_received = frame.received_at
        document = frame.document
        self._stamp = None
        if document is not None:
            told = exchange_time(document)
            if told is not None:
                self._stamp = told
                if self._skew_of != self._stream.connections:
                    self._skew, self._skew_of = None, self._stream.connections
                # Of the frame that was fastest here: all others were on their way for longer.
                skew = told - frame.received_at
                self._skew = skew if self._skew is None else max(self._skew, skew)
            if told is not None and frame.channel == BOOKS:
                self._told = told if self._told is None else max(self._told, told)
            message = document.get("msg")
            if isinstance(message, dict) and not self._is_meant(frame, message):
                self.tally.left_out += 1
                return
        if frame.is_control:
            return
        self.tally.frames += 1
        self.tally.broken += document is None
        if not self._batch:
            self._batch_begun = time.monotonic()
        self._batch.append(frame)
        self._batch_bytes += len(frame.content)

    def _stamped(self, at: datetime) -> datetime:
        """Return under which time the snapshot that has just come is stored: the exchange's, where it says one."""
        return at if self._stamp is None else self._stamp

    def _is_meant(self, frame: Frame, message: Mapping[str, Any]) -> bool:
        ticker = message.get("market_ticker")
        if not isinstance(ticker, str):
            return True
        if (
            frame.channel in LIFECYCLES
            and message.get("event_type") in ("created", "activated")
            and self._selection.means(ticker)
        ):
            self._new = True
        return frame.channel != "ticker" or self._selection.with_combos or not ticker.startswith(COMBO)

    def _take_gap(self, gap: Gap) -> None:
        self.tally.gaps += 1
        log.warning("gap in %s (%s) after %s", gap.channel, gap.reason, gap.last_sequence)
        if gap.channel == BOOKS:
            self._notes += self._claims(self._claimed)
            self._claimed.clear()
        said = {
            "found_at": gap.found_at.isoformat(),
            "channel": gap.channel,
            "sid": gap.sid,
            "reason": gap.reason,
            "last_received_at": None if self._last_received is None else min(self._last_received, gap.found_at).isoformat(),
            "last_sequence": gap.last_sequence,
            "next_sequence": gap.next_sequence,
        }
        self._notes.append(Note("stream_gap", said))
        self._open_gaps.append(gap)

    def _take_repair(self, repaired: Repaired) -> None:
        for gap in [gap for gap in self._open_gaps if gap.channel == repaired.channel]:
            self._open_gaps.remove(gap)
            self.tally.repaired += 1
            said = {
                "found_at": gap.found_at.isoformat(),
                "channel": gap.channel,
                "sid": gap.sid,
                "repaired_at": max(repaired.at, gap.found_at).isoformat(),
            }
            self._notes.append(Note("stream_gap_repaired", said))

    @property
    def _heard_until(self) -> datetime | None:
        """Up to which moment every change of a book has arrived. Frames of other channels prove nothing of that."""
        heard = self._told
        if self._asked is not None and (self._skew is None or abs(self._skew) <= ALIKE):
            heard = self._asked if heard is None else max(heard, self._asked)
        return None if heard is None else heard - MARGIN

    def _claims(self, tickers: Iterable[str]) -> list[Note]:
        """Return notes of what is whole by now and was not yet written down."""
        until = self._heard_until
        if until is None:
            return []
        by_start: dict[datetime, list[str]] = {}
        for ticker in tickers:
            if self._claimed[ticker] < until:
                by_start.setdefault(self._claimed[ticker], []).append(ticker)
        notes: list[Note] = []
        for start, some in by_start.items():
            span = {"covered_from": start.isoformat(), "covered_until": until.isoformat()}
            notes.append(Note("coverage", {"market_tickers": some, "kind": "orderbook", "period_interval_minutes": 0, **span}))
            self._claimed.update(dict.fromkeys(some, until))
        return notes

    # Handing over.

    async def _hand_over(self, notes: Iterable[Note] = ()) -> None:
        """Give what was heard to the writer, and the notes behind it; waits while the writer is behind."""
        async with self._order:
            work = [*self._notes, *notes]
            self._notes = []
            arrival = self._packed()
            if arrival is not None:
                await self._put_now(partial(self._landing.arrive, arrival))
            for note in work:
                await self._put_now(partial(self._landing.note, note.word, note.payload))

    def _packed(self) -> Arrival | None:
        frames, self._batch, self._batch_bytes = self._batch, [], 0
        if not frames:
            return None
        self.tally.batches += 1
        body = b"[" + b",\n".join(map(_wrapped, frames)) + b"]"
        params = {"connection": str(self._stream.connections), "frames": str(len(frames))}
        return Arrival(self._stream.url, params, None, frames[0].received_at, body, retrieved_until=frames[-1].received_at)

    async def _put(self, work: Callable[[], object] | None) -> None:
        async with self._order:
            await self._put_now(work)

    async def _put_now(self, work: Callable[[], object] | None) -> None:
        while self._queue.full() and not self._writer_is_gone:  # noqa: ASYNC110  (either may end the wait)
            await asyncio.sleep(0.01)
        if not self._writer_is_gone:
            self._queue.put_nowait(work)

    async def _ask(self, question: Callable[[psycopg.Connection[Any]], T]) -> T | None:
        """Return what the database says, in its turn; None while it is away."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T | None] = loop.create_future()

        def answer(found: T | None) -> None:
            if not answered.done():
                answered.set_result(found)

        await self._put(lambda: loop.call_soon_threadsafe(answer, self._landing.ask(question)))
        return await answered

    # Writing.

    async def _write(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    async with asyncio.timeout(BATCH_SECONDS):
                        work = await self._queue.get()
                except TimeoutError:
                    work = self._landing.look  # perhaps the database is back
                if work is None:
                    return
                await loop.run_in_executor(thread, self._do, work, self._queue.empty())
        finally:
            self._writer_is_gone = True

    def _do(self, work: Callable[[], object], is_last: bool) -> None:
        """Write something down; wait where neither database nor disk takes it, and the exchange waits too."""
        while True:
            try:
                work()
                if is_last:
                    self._landing.flush()
            except SpoolError as error:
                self._trouble = str(error)
                log.error("%s", error)
                if self._stream.is_stopped:
                    raise  # whoever runs it has to know, and not to wait
                time.sleep(1)
                work = self._put_held_away  # what it was about is held already
            else:
                self._trouble = None
                return

    def _put_held_away(self) -> None:
        """Store or spool what is held: the database may be back before there is room on the disk."""
        if not self._landing.look():
            self._landing.flush()

    # By the clock.

    async def _keep_time(self) -> None:
        covered = begun = time.monotonic()
        refreshed = begun - REFRESH_SECONDS
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            if self._batch and now - self._batch_begun >= BATCH_SECONDS:
                await self._hand_over()
            if now - covered >= COVER_SECONDS:
                covered = now
                await self._hand_over(self._claims(self._claimed))
            if now - refreshed >= REFRESH_SECONDS or self._new:
                self._new = False
                refreshed = now
                await self._refresh()
                self._has_looked.set()
                await self._note_health()

    async def _refresh(self) -> None:
        """Listen to the markets that there are now."""
        selection = self._selection
        if not selection.names:
            return

        def look(conn: psycopg.Connection[Any]) -> tuple[list[str], list[str]]:
            found = catalog.markets_to_listen_to(
                conn, series_tickers=list(selection.series), event_tickers=list(selection.events)
            )
            tickers = [row.market_ticker for row in found]
            series = sorted({_series_of(ticker) for ticker in (*tickers, *selection.markets)})
            others = ops.hold_order_books(conn, series_tickers=series) if BOOKS in selection.wanted(()) else []
            return tickers, [row.series_ticker for row in others]

        found = await self._ask(look)
        if found is None:
            return
        tickers, others = found
        if set(others) != self._others:
            self._others = set(others)
            if others:
                log.error("another process records the order books of %s; they are left to it", ", ".join(others))
        for channel, wanted in selection.wanted(tickers).items():
            if wanted is None:
                continue
            if channel == BOOKS:
                wanted = {ticker for ticker in wanted if _series_of(ticker) not in self._others}  # noqa: PLW2901
                gone = [ticker for ticker in self._claimed if ticker not in wanted]
                if gone:
                    await self._hand_over(self._claims(gone))
                    for ticker in gone:
                        self._claimed.pop(ticker, None)
            if wanted != self._stream.dialogue.markets(channel):
                await self._stream.want(channel, wanted)

    async def _note_health(self) -> None:
        status, why = self.health
        tally = self.tally
        details = {
            "run_id": self._landing.report.run_id,
            "connections": self._stream.connections,
            "frames": tally.frames,
            "gaps": tally.gaps,
            "open_gaps": len(self._open_gaps),
            "books": len(self._claimed),
            "left_out": tally.left_out,
            "late": self._stream.dialogue.late,
            "spooled": self._landing.spooled,
            "error": why,
        }
        seen = datetime.now(UTC)
        await self._ask(
            lambda conn: ops.record_health(conn, component=COMPONENT, last_check=seen, status=status, details=details)
        )
        self._on_minute(tally, status, why)

    @property
    def health(self) -> tuple[Health, str | None]:
        """How it goes, and why not better."""
        if self._stream.last_failure is not None:
            return "down", f"no connection: {self._stream.last_failure}"
        if self._trouble is not None:
            return "down", self._trouble
        if self._landing.away is not None:
            return "degraded", f"the database is away: {self._landing.away}"
        if self._refusals:
            return "degraded", "; ".join(self._refusals.values())
        if self._others:
            return "degraded", f"another process records the order books of {', '.join(sorted(self._others))}"
        if self._open_gaps:
            return "degraded", f"{len(self._open_gaps)} gaps are not repaired yet"
        return "healthy", None


def _series_of(ticker: str) -> str:
    return ticker.partition("-")[0]


def _wrapped(frame: Frame) -> bytes:
    """Return a frame as recorders keep it: beside the moment at which it was received."""
    moment = frame.received_at.isoformat().encode()
    if frame.document is None:
        text = json.dumps(frame.content.decode("utf-8", "backslashreplace")).encode()
        return b'{"received_at":"%b","broken":%b}' % (moment, text)
    return b'{"received_at":"%b","frame":%b}' % (moment, frame.content)
