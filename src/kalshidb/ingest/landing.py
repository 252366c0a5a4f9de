"""A door for data that stays open while the database is away: what cannot be stored now is spooled to disk and stored later.

A landing has the face of an intake. It keeps what arrived until it is stored; when the database goes away, that and everything after
it goes to the spool. When the database is back, the spool is loaded in the order of arrival before anything newer is stored. Whatever
is killed when: what arrived is in the database, in the spool, or twice there, and twice is once.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors as pg

from kalshidb.exchange.plain import Page
from kalshidb.exchange.recognise import Hints
from kalshidb.ingest.arrivals import Arrival, LineError, Note, Written, from_line, to_line
from kalshidb.ingest.intake import Intake, Report, total_of
from kalshidb.ingest.spool import Spool, SpoolError
from kalshidb.models.domains import Source
from kalshidb.queries import ops

T = TypeVar("T")
Connect = Callable[[], psycopg.Connection[Any]]
NoteWriter = Callable[[psycopg.Connection[Any], int, Mapping[str, Any]], object]

MOST_BYTES = 16 << 20
"""How much of what arrived is kept in memory before it is written."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between two attempts to reach the database, growing."""

log = logging.getLogger(__name__)


def _extend_coverage(conn: psycopg.Connection[Any], run_id: int, said: Mapping[str, Any]) -> None:
    ops.extend_coverage(
        conn,
        market_tickers=said["market_tickers"],
        kind=said["kind"],
        period_interval_minutes=said["period_interval_minutes"],
        covered_from=datetime.fromisoformat(said["covered_from"]),
        covered_until=datetime.fromisoformat(said["covered_until"]),
        run_id=run_id,
    )


def _record_gap(conn: psycopg.Connection[Any], run_id: int, said: Mapping[str, Any]) -> None:
    last_received_at = said["last_received_at"]
    ops.record_stream_gap(
        conn,
        found_at=datetime.fromisoformat(said["found_at"]),
        channel=said["channel"],
        sid=said["sid"],
        run_id=run_id,
        reason=said["reason"],
        last_received_at=None if last_received_at is None else datetime.fromisoformat(last_received_at),
        last_sequence=said["last_sequence"],
        next_sequence=said["next_sequence"],
    )


def _repair_gap(conn: psycopg.Connection[Any], _: int, said: Mapping[str, Any]) -> None:
    ops.repair_stream_gap(
        conn,
        found_at=datetime.fromisoformat(said["found_at"]),
        channel=said["channel"],
        sid=said["sid"],
        repaired_at=datetime.fromisoformat(said["repaired_at"]),
    )


NOTES: dict[str, NoteWriter] = {"coverage": _extend_coverage, "stream_gap": _record_gap, "stream_gap_repaired": _repair_gap}
"""Who writes which note: given the connection, the run and the note's payload. Writing one twice must do no harm."""


class Landing:
    """A run of loading that survives its database. Use as a context manager, as an Intake.

    Args:
        connect: gives a connection in autocommit mode; OperationalError while there is none to be had.
        spool: where to put what cannot be stored; of this landing alone.
        source: what is loaded, for ops.ingest_runs.
        origin: how the data reaches us.
        backlog: what an earlier landing could neither store nor spool (its `unsaved`).
        on_durable: called with a number: everything up to the arrival or note of that number is stored, or spooled.
        stop: whether loading the spool is to be broken off.
        clock: seconds, for the pauses between attempts.
    """

    def __init__(
        self,
        connect: Connect,
        spool: Spool,
        source: str,
        *,
        origin: Source,
        backlog: Sequence[Arrival | Note] = (),
        on_durable: Callable[[int], object] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._spool = spool
        self._source = source
        self._origin: Source = origin
        self._on_durable = on_durable
        self._stop = stop
        self._clock = clock
        self._conn: psycopg.Connection[Any] | None = None
        self._intake: Intake | None = None
        self._held: deque[Arrival | Note] = deque(backlog)
        self._held_bytes = sum(map(_size, backlog))
        self._given = len(self._held)
        self._next_look, self._wait = 0.0, FIRST_WAIT
        self._lost: dict[int, str] = {}
        self._reports: list[Report] = []
        self._cut: str | None = None
        self.away: str | None = None
        """Why the database cannot be written to now; None when it can."""
        self.was_away: str | None = None
        """Why it could not, some time of this run."""
        self.spooled = 0
        """How many arrivals and notes of this run went to the spool."""
        self.unstored = False
        """Whether, at the run's end, some of them are still there."""

    def __enter__(self) -> Self:
        try:
            if not self._look(wait=False) and self._held:
                self._put_aside()
        except BaseException:
            self._hang_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # Also after a failure, which is not the fault of what arrived before it.
            self.flush()
            if self._intake is None and self._held:
                self._put_aside()
            if self._intake is None and not self._stop() and (error is None or self._lost):
                self._look(wait=False)  # perhaps it is back, so that the run does not stay open
            self.unstored = self._intake is None and self.spooled > 0
            if self._intake is not None:
                self._end(kind, error, trace)
        finally:
            self._spool.seal()
            if self._conn is not None:
                self._conn.close()

    # What an intake has

    @property
    def report(self) -> Report:
        """What was stored; what went to the spool is counted by the run that loads it. Its run is 0 if there was none."""
        reports = self._reports if self._intake is None else [*self._reports, self._intake.report]
        total = total_of(reports)
        if reports:
            total.run_id = reports[-1].run_id
        total.cut = self._cut
        return total

    @property
    def unsaved(self) -> tuple[Arrival | Note, ...]:
        """What is neither stored nor spooled, in order: for the next landing, when this one could do neither."""
        return tuple(self._held)

    def read(self, document: object, hints: Hints, seen_at: datetime | None = None) -> Page | None:
        """Return the rows of an answer that can be read the fast way, as `Intake.read`; from any thread."""
        intake = self._intake
        return None if intake is None else intake.read(document, hints, seen_at)

    def arrive(self, arrival: Arrival, document: object = None, page: Page | None = None) -> int:
        """Take in what arrived and return its number, for `on_durable`.

        Args:
            arrival: what arrived, whole.
            document: the parsed body, or what of it was wanted; None when it was not parsed.
            page: its rows, from `read`.

        Raises:
            SpoolError: the database is away and the spool cannot be written either; what arrived is in `unsaved`.
        """
        return self._give(arrival, document, page)

    def note(self, word: str, payload: Mapping[str, Any]) -> int:
        """Write a note behind everything that arrived before it, and return its number.

        Args:
            word: one of NOTES.
            payload: what its writer needs; JSON.

        Raises:
            SpoolError: as for `arrive`.
        """
        if word not in NOTES:
            raise ValueError(f"nobody writes notes of {word!r}; there are {', '.join(NOTES)}")
        return self._give(Note(word, payload))

    def note_cut(self, reason: str) -> None:
        """Note that a walk was stopped before its end: the run ends as `truncated`, and says why."""
        self._cut = self._cut or reason

    def ask(self, question: Callable[[psycopg.Connection[Any]], T]) -> T | None:
        """Return what the database says; None while it is away, and when it goes away now."""
        if self._intake is None or self._conn is None:
            return None
        try:
            return question(self._conn)
        except psycopg.Error as error:
            self._lose(error)
            return None

    def flush(self) -> None:
        """Write everything that arrived: into the database, or to the spool.

        Raises:
            SpoolError: neither can be written.
        """
        if self._intake is None:
            if self._held:
                self._put_aside()
            return
        try:
            self._intake.flush()
            self._settle(0)
        except Exception as error:
            self._lose(error)

    def look(self) -> bool:
        """Try whether the database is back, unless that was tried just now; load a piece of the spool. True when it can be written to."""
        return self._intake is not None or self._look(wait=True)

    # How

    def _give(self, entry: Arrival | Note, document: object = None, page: Page | None = None) -> int:
        self._given += 1
        self._held.append(entry)
        self._held_bytes += _size(entry)
        if self._intake is None:
            try:
                self._put_aside()
            except SpoolError:
                if not self._look(wait=True):  # the database may be back before there is room on the disk
                    raise
            else:
                self._look(wait=True)
            return self._given
        try:
            if isinstance(entry, Arrival):
                flushes = self._intake.flushes
                self._intake.arrive(entry, document, page)
                if self._intake.flushes > flushes:
                    self._settle(1)  # of the last one a part may be waiting for the next flush
            if self._held_bytes > MOST_BYTES:
                self._intake.flush()
                self._settle(0)
        except Exception as error:
            self._lose(error)
        return self._given

    def _settle(self, kept: int) -> None:
        """Let go of what is stored: all that is held but the last so many; write the notes among it."""
        while len(self._held) > kept:
            entry = self._held[0]
            if isinstance(entry, Note) and self._conn is not None and self._intake is not None:
                NOTES[entry.word](self._conn, self._intake.report.run_id, entry.payload)
            self._held.popleft()
            self._held_bytes -= _size(entry)
        self._on_durable(self._given - kept)

    def _lose(self, error: Exception) -> None:
        """Spool what is not stored; the run ends here. Goes on when it was the connection that failed, else raises the error."""
        intake, self._intake = self._intake, None
        if intake is None:
            raise error
        self._reports.append(intake.report)
        if not _is_away(error):
            self._put_aside()
            with suppress(psycopg.Error):  # the run's end may be refused for the same reason
                intake.__exit__(type(error), error, None)
            raise error
        self.away = self.was_away = _first_line(error)
        self._lost[intake.report.run_id] = self.away
        log.warning("the database is away (%s): what arrives is spooled to %s", self.away, self._spool.folder)
        self._hang_up()
        self._put_aside()

    def _put_aside(self) -> None:
        try:
            self._spool.append(to_line(entry, self._source, self._origin) for entry in self._held)
        except OSError as error:
            raise SpoolError(
                f"the database is away ({self.away}) and the spool {self._spool.folder} cannot be written ({error.strerror or error}); "
                f"{len(self._held)} answers of {self._held_bytes:,} bytes are kept in memory only"
            ) from error
        self.spooled += len(self._held)
        self._held.clear()
        self._held_bytes = 0
        self._on_durable(self._given)

    def _look(self, *, wait: bool) -> bool:
        """Connect, load the spool (with wait: a segment of it), and begin a run; False while that cannot be."""
        if wait and self._clock() < self._next_look:
            return False
        try:
            if self._conn is None:
                self._conn = self._connect()
            self._note_lost(self._conn)
            if not self._load_spool(self._conn, one=wait):
                return False
            self._intake = Intake(self._conn, self._source, origin=self._origin)
        except Exception as error:
            # Also where waiting alone mends nothing: what can be asked for now is worth more than an end, and the spool keeps it.
            self._hang_up()
            if self.away is None:
                log.warning("the database is away (%s): what arrives is spooled to %s", _first_line(error), self._spool.folder)
            self.away = self.was_away = _first_line(error)
            self._next_look = self._clock() + self._wait
            self._wait = min(LONGEST_WAIT, self._wait * 2)
            return False
        if self.away is not None:
            log.warning("the database is back")
        self.away, self._wait = None, FIRST_WAIT
        if self._held:
            self._take_held(self._intake)
        return self._intake is not None

    def _take_held(self, intake: Intake) -> None:
        """Store what could not be spooled either. It stays held until all of it is stored."""
        try:
            for entry in list(self._held):
                if isinstance(entry, Arrival):
                    intake.arrive(entry)
            intake.flush()
            self._settle(0)
        except Exception as error:
            self._lose(error)

    def _load_spool(self, conn: psycopg.Connection[Any], *, one: bool) -> bool:
        """Load what was spooled, with `one` no more than a segment; True when nothing is left that has to come before what arrives."""
        if not self._spool.segments():
            return True
        done = load_spool(conn, self._spool, most=1 if one else None, stop=self._stop)
        if done is None:  # another process loads it; what arrives stays behind what it still has to load
            self._next_look = self._clock() + FIRST_WAIT
        return done is True

    def _note_lost(self, conn: psycopg.Connection[Any]) -> None:
        for run_id, reason in self._lost.items():
            ops.finish_ingest_run(
                conn,
                run_id=run_id,
                status="failed",
                error=f"the database went away ({reason}); what was not stored yet was spooled",
            )
        self._lost.clear()

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        intake, self._intake = self._intake, None
        if intake is None:
            return
        if self._cut is not None:
            intake.note_cut(self._cut)
        try:
            intake.__exit__(kind, error, trace)
        except psycopg.OperationalError as lost:  # everything is stored; only the run's end is not noted
            log.warning("the end of run %d could not be noted: %s", intake.report.run_id, _first_line(lost))
        self._reports.append(intake.report)

    def _hang_up(self) -> None:
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
            self._conn = None


def load_spool(
    conn: psycopg.Connection[Any],
    spool: Spool,
    *,
    most: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_report: Callable[[Report], object] = lambda _: None,
) -> bool | None:
    """Store what was spooled, in the order of arrival, and remove what is stored.

    Args:
        conn: a connection in autocommit mode.
        spool: the folder.
        most: load no more segments than this.
        stop: looked at after each line; what is not loaded then stays.
        on_report: called with what each run of loading did.

    Returns:
        True when nothing is left but what others are writing, False when something is, None when another process loads it.
    """
    with spool.loading() as ours:
        if not ours:
            return None
        loaded = 0
        for path in spool.segments():
            with spool.claimed(path) as file:
                if file is None:
                    continue
                if loaded == most or stop():
                    return False
                if not _load_segment(conn, file, path.name, stop, on_report):
                    return False
                spool.remove(path)
                loaded += 1
    return True


def _load_segment(
    conn: psycopg.Connection[Any],
    lines: Iterable[bytes],
    name: str,
    stop: Callable[[], bool],
    on_report: Callable[[Report], object],
) -> bool:
    """Store the lines of a segment, each in a run that tells whose it was; False when stopped before the end."""
    intake: Intake | None = None
    of: tuple[str, Source] | None = None
    whole = True
    try:
        for number, line in enumerate(lines, start=1):
            if stop():
                whole = False
                break
            written, problem = _understood(line)
            whose = (written.source, written.origin) if written else of or ("unknown", "poll")
            if intake is None or whose != of:
                _finish(intake, on_report)
                of = whose
                intake = Intake(conn, f"spooled: {whose[0]}", origin=whose[1])
            if written is None:
                # The end of a process that was killed while it wrote; it never told anybody that this was safe.
                intake.refuse_bytes(line, f"{name}:{number}", problem)
            elif isinstance(written.entry, Arrival):
                try:
                    intake.arrive(written.entry)
                except psycopg.Error:
                    raise
                except Exception as error:  # a mistake of ours must not hold up everything behind it
                    log.exception("%s:%d cannot be taken in", name, number)
                    intake.refuse_bytes(line, f"{name}:{number}", f"it cannot be taken in: {type(error).__name__}: {error}")
            else:
                intake.flush()
                try:
                    NOTES[written.entry.word](conn, intake.report.run_id, written.entry.payload)
                except (KeyError, TypeError, ValueError, pg.DataError, pg.IntegrityError) as error:
                    intake.refuse_bytes(
                        line, f"{name}:{number}", f"a note that cannot be written: {type(error).__name__}: {error}"
                    )
        _finish(intake, on_report)
    except BaseException as error:
        if intake is not None:
            intake.__exit__(type(error), error, None)
        raise
    return whole


def _finish(intake: Intake | None, on_report: Callable[[Report], object]) -> None:
    if intake is not None:
        intake.__exit__(None, None, None)
        on_report(intake.report)


def _understood(line: bytes) -> tuple[Written | None, str]:
    try:
        return from_line(line), ""
    except LineError as error:
        return None, str(error)


def _size(entry: Arrival | Note) -> int:
    return len(entry.body) if isinstance(entry, Arrival) else 0


def _is_away(error: Exception) -> bool:
    """Whether the database may take later what it does not take now: it is stopped, full, overloaded, or a standby."""
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | pg.ReadOnlySqlTransaction)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
