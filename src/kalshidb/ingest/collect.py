"""Collecting for months: the catalogue with its quotes, order books and the tape, each on a grid of its own.

The grid is that of the clock: every 15 minutes means :00, :15, :30, :45, however long a run took or failed. Of one job never two run
at once; points of the grid that passed meanwhile are not made up for, but counted. Each run is an ingest run of its own and leaves a
row in ops.system_health. While the database is away what arrives goes to the spool; while the exchange is away runs fail, and the
next point of the grid tries again.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

import psycopg
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger

from kalshidb.exchange.client import ClientClosedError, ExchangeClient, ExchangeError
from kalshidb.ingest.arrivals import Arrival, Note
from kalshidb.ingest.backfill import BackfillError, BackfillScope, backfill
from kalshidb.ingest.intake import Report, total_of
from kalshidb.ingest.landing import Landing, load_spool
from kalshidb.ingest.pull import take
from kalshidb.ingest.spool import Held, Spool, SpoolError
from kalshidb.ingest.sync import SyncError, SyncScope, sync_markets
from kalshidb.queries import ops
from kalshidb.typedsql import StatementError

Health = Literal["healthy", "degraded", "down"]

QUOTES, ORDERBOOKS, TRADES, SPOOL = "collect_quotes", "collect_orderbooks", "collect_trades", "collect_spool"
"""Components in ops.system_health."""
SPOOL_INTERVAL = timedelta(minutes=1)
LOOK_AT_CLOCK = 30.0
"""Seconds between two looks at whether the clock was set back."""
PATIENCE = 3.0
"""Seconds that runs have to end by themselves when the collector stops, before their statements are cancelled."""
STOPPED = "the collector was told to stop"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)


class CollectError(ValueError):
    """What to collect makes no sense; says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to collect, and how often.

    Attributes:
        interval: of catalogue and quotes, whole seconds.
        orderbooks: of order books; None for none.
        trades: whether the tape is fetched too, at `interval`.
        scope: of catalogue, quotes and order books. The tape is that of the whole exchange.
    """

    interval: timedelta
    orderbooks: timedelta | None = None
    trades: bool = False
    scope: SyncScope = field(default_factory=SyncScope)

    def __post_init__(self) -> None:
        """Refuse intervals that are none."""
        for interval in (self.interval, self.orderbooks):
            if interval is not None and (interval < timedelta(seconds=1) or interval % timedelta(seconds=1)):
                raise CollectError(f"an interval is a whole number of seconds, at least one, not {interval}")


class Grid(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """The points of time that are a multiple of an interval away from 1970, UTC."""

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval

    # apscheduler's own declares no type: pyright takes what its abstract method returns.
    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the first point after the one before, which need not be on the grid; without one, the first not before now."""
        if previous_fire_time is None:
            point = self.at(now)
            return point if point == now else point + self.interval
        return self.at(previous_fire_time) + self.interval

    def at(self, moment: datetime) -> datetime:
        """Return the last point that is not after a moment."""
        return moment.astimezone(UTC) - (moment - _EPOCH) % self.interval


@dataclass(slots=True)
class Finished:
    """What a run of a job did.

    Attributes:
        component: its name in ops.system_health.
        status: healthy; degraded when something is missing that the next run makes good, or was rejected; down when it failed.
        began: when, UTC.
        seconds: how long it took.
        missed: points of the grid since the run before that had none.
        report: what it stored; None when nothing could be begun.
        spooled: answers that went to the spool.
        unstored: whether something of it waits in the spool, or in memory, at its end.
        spool: what lies in the spool.
        error: why it is not healthy.
    """

    component: str
    status: Health
    began: datetime
    seconds: float
    missed: int = 0
    report: Report | None = None
    spooled: int = 0
    unstored: bool = False
    spool: Held = field(default_factory=lambda: Held(0, 0))
    error: str | None = None

    def details(self) -> dict[str, Any]:
        """Return what ops.system_health keeps of it."""
        total = None if self.report is None else self.report.total
        return {
            "began": self.began.isoformat(),
            "seconds": round(self.seconds, 3),
            "missed": self.missed,
            "run_id": (self.report.run_id or None) if self.report else None,
            **(total.as_dict() if total else {}),
            "spooled": self.spooled,
            "spool_segments": self.spool.segments,
            "spool_bytes": self.spool.size,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class _Job:
    component: str
    interval: timedelta
    run: Callable[[], None]


class Collector:
    """Runs the jobs of a plan. `start` returns at once, `stop` asks for the end, `join` waits for it.

    Args:
        client: the exchange; it is stopped with the collector.
        connect: gives a connection in autocommit mode; OperationalError while there is none to be had.
        spool_folder: for what arrives meanwhile.
        plan: what to collect.
        on_run: called with what each run did, from the run's thread.
        now: the clock.
        scheduler: makes the scheduler, for tests.
    """

    def __init__(
        self,
        client: ExchangeClient,
        connect: Callable[[], psycopg.Connection[Any]],
        spool_folder: Path,
        plan: Plan,
        *,
        on_run: Callable[[Finished], object] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        scheduler: Callable[..., BaseScheduler] = BackgroundScheduler,
    ) -> None:
        self._client = client
        self._connect = connect
        self._folder = spool_folder
        self._plan = plan
        self._on_run = on_run
        self._now = now
        self._began = now()
        self._stopping = threading.Event()
        self._listed = threading.Event()
        self._open: tuple[str, ...] = ()
        self._unsaved: dict[str, tuple[Arrival | Note, ...]] = {}
        self._ran_at: dict[str, datetime] = {}
        self._noted_spool: tuple[datetime, Health] | None = None
        self._health: list[tuple[str, datetime, Health, Mapping[str, Any]]] = []
        self._noting = threading.Lock()
        self._running = 0
        self._idle = threading.Condition()
        self._connections: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._jobs = [_Job(QUOTES, plan.interval, self.collect_quotes)]
        if plan.orderbooks is not None:
            self._jobs.append(_Job(ORDERBOOKS, plan.orderbooks, self.collect_orderbooks))
        if plan.trades:
            self._jobs.append(_Job(TRADES, plan.interval, self.collect_trades))
        self._scheduler = scheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(len(self._jobs) + 1)},
            # Who is late by any time runs; what it missed meanwhile is counted, not made up for.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    # Life

    def start(self, *, once: bool = False, on_done: Callable[[], object] = lambda: None) -> None:
        """Begin: each job now, then on its grid. With once: each job now, one after the other, then `on_done` is called."""
        if not once:
            for job in [*self._jobs, _Job(SPOOL, SPOOL_INTERVAL, self.tend_spool)]:
                self._scheduler.add_job(self._do, Grid(job.interval), [job], id=job.component, next_run_time=self._now())
            self._scheduler.start()
            threading.Thread(target=self._watch_clock, name="watching the clock", daemon=True).start()
            return

        def every() -> None:
            for job in self._jobs:
                self._do(job)
            on_done()

        self._scheduler.add_job(every)
        self._scheduler.start()

    def stop(self) -> None:
        """Begin nothing more, and end what is under way at its next answer. Returns at once; twice is harmless."""
        self._stopping.set()
        self._client.stop()

    def join(self) -> None:
        """After `stop`: wait until what arrived is stored, or spooled."""
        self._stopping.wait()
        self._scheduler.shutdown(wait=False)
        end = time.monotonic() + PATIENCE
        with self._idle:
            idle = self._idle.wait_for(lambda: not self._running, timeout=max(0.0, end - time.monotonic()))
        if not idle:
            # A statement that hangs on a lock or on the network; what it would have written goes to the spool instead.
            for conn in list(self._connections):
                with suppress(psycopg.Error):
                    conn.cancel_safe(timeout=1)
            with self._idle:
                self._idle.wait_for(lambda: not self._running)
        self._end()

    def _end(self) -> None:
        """Save what could not be saved before, if that has become possible."""
        for component, entries in self._unsaved.items():
            landing = Landing(self._to_database, Spool(self._folder), self._source(component), origin="poll", backlog=entries)
            try:
                with landing:
                    pass
            except (psycopg.Error, SpoolError) as error:
                log.error("%d answers of %s are lost: %s", len(landing.unsaved), component, error)
        self._unsaved.clear()

    def mind_clock(self) -> None:
        """Put the jobs back on the grid where the clock was set back: their next points would be further away than the grid is wide."""
        now = self._now()
        for job in self._scheduler.get_jobs():
            if isinstance(job.trigger, Grid) and job.next_run_time - now > job.trigger.interval:
                log.warning("the clock was set back; %s goes on at its next point", job.id)
                with suppress(JobLookupError):
                    self._scheduler.modify_job(job.id, next_run_time=job.trigger.get_next_fire_time(None, now))

    def _watch_clock(self) -> None:
        while not self._stopping.wait(LOOK_AT_CLOCK):
            self.mind_clock()

    # Jobs

    def collect_quotes(self) -> None:
        """Refresh the catalogue: versions, settlements, and the quotes of every market that can still be traded."""
        found: dict[str, None] = {}

        def note(market: Mapping[str, Any]) -> None:
            if market.get("status") == "active":
                found[str(market.get("ticker"))] = None

        def walk(landing: Landing) -> None:
            sync_markets(self._client, landing, self._plan.scope, on_market=note)
            self._open = tuple(found)

        try:
            self._collect(QUOTES, self._plan.interval, walk)
        finally:
            self._listed.set()

    def collect_orderbooks(self) -> None:
        """Ask for the order book of every market that the last list had as active."""

        def walk(landing: Landing) -> None:
            if not self._open:
                raise CollectError("no list of open markets came yet")
            for _ in take(landing, self._client.orderbooks(self._open)):
                pass

        while not self._listed.wait(0.1):  # at the beginning, for the first list
            if self._stopping.is_set():
                return
        if self._stopping.is_set() and not self._open:
            return  # the list ended with the collector: that is no failure of the books
        self._collect(ORDERBOOKS, self._plan.orderbooks or self._plan.interval, walk)

    def collect_trades(self) -> None:
        """Fetch the tape from where it ends; where nothing of it is stored, from an interval before the collector began."""
        with self._run(TRADES, self._plan.interval) as finished:
            with self._to_database() as conn:
                end = ops.tape_end(conn)
            now = self._now()
            start = end or self._began - self._plan.interval
            scope = BackfillScope("trades", min(start, now - timedelta(seconds=1)), now)
            outcome = backfill(self._client, self._to_database, scope, now=self._now)
            finished.report = total_of(outcome.reports)
            if outcome.failed:
                finished.status, finished.error = "down", "; ".join(outcome.failed.values())
            elif outcome.left_to_others:
                finished.status, finished.error = "degraded", "another process fetches the tape"

    def tend_spool(self) -> None:
        """Load what was spooled when the database is back, and note what could not be noted."""
        began, clock = self._now(), time.monotonic()
        before, error, reports = Spool(self._folder).held(), None, list[Report]()
        try:
            if before.segments or self._health:
                with self._to_database() as conn:
                    load_spool(conn, Spool(self._folder), stop=self._stopping.is_set, on_report=reports.append)
        except (psycopg.Error, StatementError, OSError) as failure:
            error = _said(failure)
        except Exception as failure:
            log.exception("the spool cannot be loaded")
            error = _said(failure)
        held = Spool(self._folder).held()
        status: Health = "down" if self._unsaved else "degraded" if held.segments else "healthy"
        due = self._noted_spool is None or began - self._noted_spool[0] >= self._plan.interval or self._noted_spool[1] != status
        if before.segments or due:
            self._noted_spool = began, status
            report = total_of(reports) if reports else None
            self._finish(Finished(SPOOL, status, began, time.monotonic() - clock, report=report, spool=held, error=error))
        else:
            self._write_health()

    # How

    def _do(self, job: _Job) -> None:
        with self._idle:
            self._running += 1
        try:
            if not self._stopping.is_set():
                job.run()
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _to_database(self) -> psycopg.Connection[Any]:
        conn = self._connect()
        self._connections.add(conn)
        return conn

    def _collect(self, component: str, interval: timedelta, walk: Callable[[Landing], None]) -> None:
        landing = Landing(
            self._to_database,
            Spool(self._folder),
            self._source(component),
            origin="poll",
            backlog=self._unsaved.get(component, ()),
            stop=self._stopping.is_set,
        )
        with self._run(component, interval) as finished:
            try:
                with landing:
                    try:
                        walk(landing)
                    except ClientClosedError:
                        if not self._stopping.is_set():
                            raise
                        landing.note_cut(STOPPED)
            finally:
                self._unsaved.pop(component, None)
                if landing.unsaved:
                    self._unsaved[component] = landing.unsaved
                finished.report, finished.spooled = landing.report, landing.spooled
                finished.unstored = bool(landing.unsaved) or landing.unstored
                if landing.was_away is not None:
                    left = "; markets that have left the lists are looked for by the next run with a database"
                    finished.status = "degraded"
                    finished.error = (
                        f"the database was away: {landing.was_away}{left if finished.unstored and component == QUOTES else ''}"
                    )
                elif finished.unstored:
                    finished.status, finished.error = (
                        "degraded",
                        "it waits behind what another run or process loads from the spool",
                    )
            if landing.report.cut is not None:
                finished.status, finished.error = "degraded", landing.report.cut
            elif finished.status == "healthy" and landing.report.total.rejected:
                finished.status, finished.error = "degraded", f"{landing.report.total.rejected:,} objects were rejected"

    @contextmanager
    def _run(self, component: str, interval: timedelta) -> Any:  # noqa: ANN401  (a generator of one Finished)
        """Give the account of a run, to be filled in; what fails in the block becomes its error."""
        began, clock = self._now(), time.monotonic()
        finished = Finished(component, "healthy", began, 0.0, self._missed(component, interval, began))
        try:
            yield finished
        except ClientClosedError as error:
            finished.status, finished.error = "degraded", STOPPED if self._stopping.is_set() else _said(error)
        except psycopg.OperationalError as error:
            finished.status, finished.error, finished.unstored = "degraded", f"the database is away: {_said(error)}", True
        except (ExchangeError, SyncError, CollectError, BackfillError, psycopg.Error, StatementError, OSError) as error:
            finished.status, finished.error = "down", _said(error)
        except Exception as error:  # one run's mistake must not end the months of the others
            log.exception("a run of %s failed", component)
            finished.status, finished.error = "down", f"{type(error).__name__}: {_said(error)}"
        finally:
            finished.seconds = time.monotonic() - clock
            finished.spool = Spool(self._folder).held()
            self._finish(finished)

    def _missed(self, component: str, interval: timedelta, began: datetime) -> int:
        """Return how many points of the grid have passed without a run since the last run, also that of an earlier process."""
        grid = Grid(interval)
        last = self._ran_at.get(component)
        if last is None:
            with suppress(psycopg.Error, StatementError, KeyError, TypeError, ValueError), self._to_database() as conn:
                for seen in ops.current_health(conn):
                    if seen.component == component and seen.details:
                        last = datetime.fromisoformat(seen.details["began"])
        self._ran_at[component] = began
        return 0 if last is None else max(0, (grid.at(began) - grid.at(last)) // interval - 1)

    def _finish(self, finished: Finished) -> None:
        with self._noting:
            self._health.append((finished.component, self._now(), finished.status, finished.details()))
            # While the database is away the last state of each component is enough.
            latest = {note[0]: note for note in self._health}
            self._health = list(latest.values())
        self._write_health()
        self._on_run(finished)

    def _source(self, component: str) -> str:
        return f"collect {component.removeprefix('collect_')}{self._plan.scope.words} {self._client.base_url}"

    def _write_health(self) -> None:
        with self._noting:
            try:
                if self._health:
                    with self._to_database() as conn:
                        while self._health:
                            component, at, status, details = self._health[0]
                            ops.record_health(conn, component=component, last_check=at, status=status, details=details)
                            del self._health[0]
            except psycopg.OperationalError:
                pass  # the last states wait until it is back
            except (psycopg.Error, StatementError) as error:
                log.error("health cannot be noted: %s", error)


def _said(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:2000]
