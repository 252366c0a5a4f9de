"""A collector keeps its grid through slow and failing runs, and loses nothing while the exchange or the database is away."""

import heapq
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apscheduler.schedulers.base
import psycopg
import pytest
import typer.main
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.base import BaseScheduler
from hypothesis import given
from hypothesis import strategies as st
from loading import OF_THE_LOAD, Store, differences

from kalshidb import postgres
from kalshidb.cli import app
from kalshidb.cli_collect import database
from kalshidb.exchange.client import ExchangeClient, ExchangeError
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.exchange.simulator.world import DEFAULT_NOW
from kalshidb.ingest import collect
from kalshidb.ingest.collect import ORDERBOOKS, QUOTES, SPOOL, TRADES, CollectError, Collector, Finished, Grid, Plan
from kalshidb.ingest.spool import Spool, folder_for
from kalshidb.ingest.sync import SyncScope
from kalshidb.migration import migrate
from kalshidb.postgres import EmbeddedPostgres
from kalshidb.postgres.lifecycle import ServerDirectory
from kalshidb.queries import ops

QUARTER, MINUTE = timedelta(minutes=15), timedelta(minutes=1)
OF_THE_POLL = (*OF_THE_LOAD, "retrieved_at", "valid_from", "snapshot_time", "observed_at", "seen_until")


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=120) as exchange:
        yield exchange


def collected(
    store: Store, exchange: SimulatedExchange, plan: Plan | None = None, *, connect: Callable[[], Any] | None = None
) -> dict[str, Finished]:
    """Run each job once, and return what each did."""
    with ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client:
        return run_once(client, store, plan or Plan(QUARTER), connect or connecting(store.url))


def connecting(url: str) -> Callable[[], psycopg.Connection[Any]]:
    return lambda: postgres.connect(url, autocommit=True)


def run_once(client: ExchangeClient, store: Store, plan: Plan, connect: Callable[[], Any]) -> dict[str, Finished]:
    finished: dict[str, Finished] = {}
    done = threading.Event()

    def note(one: Finished) -> None:
        finished[one.component] = one

    collector = Collector(client, connect, store.folder / "spool", plan, on_run=note)
    collector.start(once=True, on_done=done.set)
    done.wait()
    collector.stop()
    collector.join()
    return finished


def health(store: Store, component: str = QUOTES) -> list[tuple[str, dict[str, Any]]]:
    return store.conn.execute(
        "SELECT status, details FROM ops.system_health WHERE component = %s ORDER BY last_check", [component]
    ).fetchall()


# The grid


@given(
    interval=st.integers(1, 10 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    before=st.datetimes(datetime(1990, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_grid_is_the_clocks_own(interval: timedelta, before: datetime) -> None:
    following = Grid(interval).get_next_fire_time(before, before)
    assert timedelta() < following - before <= interval
    assert not (following - datetime(1970, 1, 1, tzinfo=UTC)) % interval
    assert Grid(interval).get_next_fire_time(None, following) == following


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(CollectError, match="at least one"):
        Plan(timedelta())
    with pytest.raises(CollectError, match="whole number of seconds"):
        Plan(QUARTER, orderbooks=timedelta(seconds=1.5))


class Clock:
    """A simulated day. While a job runs no time passes; it says how long it would have taken."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 23, 50, 1, tzinfo=UTC)
        self.took = timedelta()

    def now(self, zone: object = None) -> datetime:
        return self.time


class SimulatedExecutor(BaseExecutor):
    """Runs a job at once, and has it take as long as it says."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.busy: list[tuple[datetime, str, Any]] = []

    def _do_submit_job(self, job: Any, run_times: Any) -> None:  # noqa: ANN401
        self.clock.took = timedelta()
        events = run_job(job, job._jobstore_alias, run_times, "simulated")
        heapq.heappush(self.busy, (self.clock.time + self.clock.took, job.id, events))

    def release(self) -> None:
        while self.busy and self.busy[0][0] <= self.clock.time:
            _, job_id, events = heapq.heappop(self.busy)
            self._run_job_success(job_id, events)


class SimulatedScheduler(BaseScheduler):
    """Waits by moving the clock, until the day is over."""

    def __init__(self, clock: Clock, until: datetime, **options: Any) -> None:  # noqa: ANN401
        self.clock, self.until = clock, until
        self.executor = SimulatedExecutor(clock)
        super().__init__(**(options | {"executors": {"default": self.executor}}))

    def start(self, *_: object, **__: object) -> None:
        super().start()
        while self.clock.time < self.until:
            self.executor.release()
            wait = self._process_jobs()
            ends = [end for end, *_ in self.executor.busy if end > self.clock.time]
            self.clock.time = min([self.clock.time + timedelta(seconds=wait), *ends])

    def wakeup(self) -> None:
        pass

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)


def test_a_day_with_slow_and_failing_runs_keeps_the_grid_and_counts_what_was_missed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", clock)
    begun: list[datetime] = []

    def walk(*_: object, **__: object) -> None:
        begun.append(clock.time)
        number = len(begun)
        # Most take four minutes and a bit, some longer than the grid is wide, one for hours; each seventh fails after a while.
        clock.took = timedelta(minutes=200) if number == 30 else timedelta(minutes=20 if number % 5 == 0 else 4, seconds=number)
        if number % 7 == 0:
            raise ExchangeError(503, "http_503", "maintenance", "u")

    monkeypatch.setattr(collect, "sync_markets", walk)
    with ExchangeClient(limit=None) as client:
        collector = Collector(
            client,
            connecting(store.url),
            store.folder / "spool",
            Plan(QUARTER),
            now=clock.now,
            scheduler=lambda **options: SimulatedScheduler(clock, midnight + timedelta(days=1), **options),
        )
        collector.start()
        collector.stop()
        collector.join()
    first, *others = begun
    assert first == midnight - timedelta(minutes=9, seconds=59)  # at once, then on the grid
    assert others[0] == midnight
    assert {(moment - midnight) % QUARTER for moment in others} == {timedelta()}
    assert len(set(others)) == len(others)
    noted = health(store)
    assert [datetime.fromisoformat(details["began"]) for _, details in noted] == begun
    assert [status for status, _ in noted] == ["down" if number % 7 == 0 else "healthy" for number in range(1, len(begun) + 1)]
    missed = [details["missed"] for _, details in noted]
    # Each point of the day had its run, or is counted by the run after it.
    points = (others[-1] - midnight) // QUARTER + 1
    assert len(others) + sum(missed) == points
    assert max(missed) == 13
    assert sum(missed) > 13
    assert [status for status, _ in store.conn.execute("SELECT status, run_id FROM ops.ingest_runs ORDER BY run_id")] == [
        "failed" if number % 7 == 0 else "succeeded" for number in range(1, len(begun) + 1)
    ]


def test_a_clock_that_is_set_back_does_not_keep_the_collector_waiting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", clock)
    monkeypatch.setattr(collect, "sync_markets", lambda *_, **__: None)
    right, wrong = clock.time, clock.time + timedelta(days=2)
    clock.time = wrong
    made: list[SimulatedScheduler] = []

    def scheduler(**options: Any) -> SimulatedScheduler:  # noqa: ANN401
        made.append(SimulatedScheduler(clock, wrong + timedelta(seconds=1), **options))
        return made[0]

    def upcoming() -> dict[str, datetime]:
        return {job.id: job.next_run_time for job in made[0].get_jobs()}

    with ExchangeClient(limit=None) as client:
        collector = Collector(
            client, connecting(store.url), store.folder / "spool", Plan(QUARTER), now=clock.now, scheduler=scheduler
        )
        collector.start()  # ends when the first runs, which are at once, are over
        on_the_wrong_day = upcoming()
        collector.mind_clock()
        assert upcoming() == on_the_wrong_day
        assert on_the_wrong_day[QUOTES] > wrong
        clock.time = right
        collector.mind_clock()
        assert upcoming() == {QUOTES: Grid(QUARTER).at(right) + QUARTER, SPOOL: Grid(MINUTE).at(right) + MINUTE}
        collector.stop()
        collector.join()


def test_points_that_passed_while_no_collector_ran_are_counted_by_the_next(store: Store, exchange: SimulatedExchange) -> None:
    collected(store, exchange)
    earlier = datetime.now(UTC) - 5 * QUARTER
    store.conn.execute(
        "UPDATE ops.system_health SET details = details || jsonb_build_object('began', %s::text)", [earlier.isoformat()]
    )
    assert collected(store, exchange)[QUOTES].missed == 4


# What is collected


def test_catalogue_quotes_books_and_tape_are_collected_and_each_says_how_it_went(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.fromtimestamp(exchange.world.now / 1_000_000, UTC)
    client = ExchangeClient(exchange.base_url, limit=None)
    finished: list[Finished] = []
    done = threading.Event()
    with client:
        plan = Plan(timedelta(days=3), orderbooks=QUARTER, trades=True)
        collector = Collector(
            client, connecting(store.url), store.folder / "spool", plan, on_run=finished.append, now=lambda: now
        )
        collector.start(once=True, on_done=done.set)
        done.wait()
        collector.stop()
        collector.join()
    world = exchange.world
    active = {ticker for ticker, market in world.markets.items() if world.status(market) == "active" and not market.is_combo}
    assert {one.component: (one.status, one.error) for one in finished} == {
        QUOTES: ("healthy", None),
        ORDERBOOKS: ("healthy", None),
        TRADES: ("healthy", None),
    }
    assert set(store.column("SELECT DISTINCT market_ticker FROM market_data.orderbook_snapshots")) == active
    assert active <= set(store.column("SELECT market_ticker FROM market_data.price_snapshots"))
    assert store.count("market_data.public_trades") > 0
    end = ops.tape_end(store.conn)
    assert end is not None
    assert now - timedelta(minutes=2) < end <= now


def test_a_second_poll_changes_nothing_but_what_has_changed(store: Store, exchange: SimulatedExchange) -> None:
    collected(store, exchange)
    report = collected(store, exchange)[QUOTES].report
    assert report is not None
    for kind in ("series", "event", "market", "market_version"):
        assert (report.counts(kind).written, report.counts(kind).unchanged > 0) == (0, True), kind


def test_what_settles_between_two_polls_gets_its_settlement(store: Store, exchange: SimulatedExchange) -> None:
    collected(store, exchange)
    then = set(store.column("SELECT market_ticker FROM catalog.markets WHERE result IS NULL"))
    exchange.move_to(DEFAULT_NOW + timedelta(days=90))
    world = exchange.world
    settled = {
        ticker: world.result(world.markets[ticker]) for ticker in then if world.status(world.markets[ticker]) == "finalized"
    }
    assert settled
    assert collected(store, exchange)[QUOTES].status == "healthy"
    found = dict(store.conn.execute("SELECT market_ticker, outcome FROM catalog.final_settlements").fetchall())
    assert {ticker: found.get(ticker) for ticker in settled} == settled


def test_order_books_without_a_list_of_markets_are_an_error_that_says_so(store: Store, exchange: SimulatedExchange) -> None:
    exchange.fail(500)
    found = collected(store, exchange, Plan(QUARTER, orderbooks=QUARTER))
    assert (found[QUOTES].status, found[ORDERBOOKS].status) == ("down", "down")
    assert found[ORDERBOOKS].error == "no list of open markets came yet"


def test_an_exchange_that_is_away_fails_runs_until_it_is_back_and_nothing_grows(
    store: Store, exchange: SimulatedExchange
) -> None:
    url = exchange.base_url
    exchange.close()
    for _ in range(3):
        with ExchangeClient(url, limit=None, max_retries=0) as client:
            finished = run_once(client, store, Plan(QUARTER, trades=True), connecting(store.url))
        assert (finished[QUOTES].status, finished[TRADES].status) == ("down", "down")
        assert "Connect" in (finished[QUOTES].error or "")
        assert finished[QUOTES].spool.segments == 0
    with SimulatedExchange(seed=7, markets=120) as again:
        assert collected(store, again)[QUOTES].status == "healthy"
    assert [status for status, _ in health(store)] == ["down"] * 3 + ["healthy"]
    errors = store.column("SELECT error FROM ops.ingest_runs WHERE status = 'failed' AND source LIKE 'collect quotes%%'")
    assert len(errors) == 3
    assert all("Connect" in error for error in errors)


def test_two_collectors_at_once_store_what_one_would(store: Store, exchange: SimulatedExchange) -> None:
    results: list[dict[str, Finished]] = []
    plan = Plan(timedelta(days=3), trades=True)
    threads = [threading.Thread(target=lambda: results.append(collected(store, exchange, plan))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[QUOTES].status for found in results] == ["healthy"] * 2
    world = exchange.world
    expected = {
        ticker
        for ticker, market in world.markets.items()
        if world.status(market) != "finalized" and not market.is_combo and not world.is_historical(market)
    }
    assert set(store.column("SELECT market_ticker FROM catalog.markets WHERE NOT is_stub")) == expected
    current = store.column("SELECT market_ticker FROM catalog.market_versions WHERE row_current_ind")
    assert len(current) == len(set(current))


def test_a_mistake_of_our_own_in_one_run_ends_neither_the_collector_nor_goes_unnoticed(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(collect, "sync_markets", wrong)
    found = collected(store, exchange)[QUOTES]
    assert (found.status, found.error) == ("down", "ZeroDivisionError: a mistake")


# The database away


def test_while_the_database_is_away_polls_are_spooled_and_its_health_is_noted_when_it_is_back(
    store: Store, exchange: SimulatedExchange
) -> None:
    def refuse() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("stopped")

    found = collected(store, exchange, Plan(QUARTER, trades=True), connect=refuse)
    assert (found[QUOTES].status, found[QUOTES].unstored) == ("degraded", True)
    assert (found[QUOTES].error or "").startswith(
        "the database was away: stopped; markets that have left the lists are looked for"
    )
    assert found[QUOTES].spooled > 5
    assert found[TRADES].status == "degraded"
    assert store.count("catalog.markets") == 0
    finished: list[Finished] = []
    with ExchangeClient(exchange.base_url, limit=None) as client:
        collector = Collector(client, connecting(store.url), store.folder / "spool", Plan(QUARTER), on_run=finished.append)
        collector.tend_spool()
    assert finished[0].component == SPOOL
    assert (finished[0].status, finished[0].spool.segments) == ("healthy", 0)
    assert store.count("catalog.markets") > 50


def test_a_state_that_could_not_be_noted_is_noted_later(store: Store, exchange: SimulatedExchange) -> None:
    there = False

    def connect() -> psycopg.Connection[Any]:
        if not there:
            raise psycopg.OperationalError("stopped")
        return postgres.connect(store.url, autocommit=True)

    with ExchangeClient(exchange.base_url, limit=None) as client:
        collector = Collector(client, connect, store.folder / "spool", Plan(QUARTER))
        collector.collect_quotes()
        collector.tend_spool()
        assert health(store) == []
        there = True
        collector.tend_spool()
    ((status, details),) = health(store)
    assert status == "degraded"
    assert details["error"].startswith("the database was away: stopped")
    assert details["spooled"] > 5
    assert [status for status, _ in health(store, SPOOL)][-1] == "healthy"


def test_a_poll_while_another_process_loads_the_spool_waits_behind_it_and_says_so(
    store: Store, exchange: SimulatedExchange
) -> None:
    with Spool(store.folder / "spool") as earlier:
        earlier.append([b"left by another\n"])
    with Spool(store.folder / "spool").loading():
        found = collected(store, exchange)[QUOTES]
    assert (found.status, found.unstored) == ("degraded", True)
    assert found.error == "it waits behind what another run or process loads from the spool"
    assert store.count("catalog.markets") == 0
    assert collected(store, exchange)[QUOTES].status == "healthy"
    assert store.column("SELECT source FROM ops.ingest_runs ORDER BY run_id")[0].startswith("spooled: ")


def test_a_full_disk_while_the_database_is_away_is_said_loudly_and_what_arrived_is_kept(
    store: Store, exchange: SimulatedExchange
) -> None:
    there = False

    def connect() -> psycopg.Connection[Any]:
        if not there:
            raise psycopg.OperationalError("stopped")
        return postgres.connect(store.url, autocommit=True)

    (store.folder / "spool").write_text("no folder can be made here, as on a disk that is full")
    finished: list[Finished] = []
    with ExchangeClient(exchange.base_url, limit=None) as client:
        collector = Collector(client, connect, store.folder / "spool", Plan(QUARTER), on_run=finished.append)
        asked = []
        for _ in range(3):
            collector.collect_quotes()
            asked.append(len(exchange.requests))
        assert asked[0] > 0
        assert asked == [asked[0]] * 3  # nothing more is asked for while there is nowhere to put it
        assert [one.status for one in finished] == ["down"] * 3
        assert "are kept in memory only" in (finished[-1].error or "")
        collector.tend_spool()
        assert (finished[-1].component, finished[-1].status) == (SPOOL, "down")
        there = True
        collector.collect_quotes()
    assert finished[-1].status == "healthy"
    assert store.count("catalog.series") > 0


def test_a_server_that_is_killed_during_a_poll_and_restarted_holds_what_it_would_have_held(
    store: Store, exchange: SimulatedExchange, scratch: Path
) -> None:
    collected(store, exchange)
    expected = store.rows(without=OF_THE_POLL)
    root = Path(tempfile.mkdtemp(prefix="kalshidb-tests collect-", dir=scratch))
    root.chmod(0o755)
    fast = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
    steps: list[str] = []
    try:
        server = EmbeddedPostgres(root, options=fast).start()
        url = server.ensure_database()
        migrate(url)
        real = collect.sync_markets

        def walk(*arguments: Any, **named: Any) -> None:  # noqa: ANN401
            def step(word: str) -> None:
                steps.append(word)
                pid = ServerDirectory(root).postmaster()
                if word == "markets" and pid is not None:
                    os.kill(pid, signal.SIGKILL)

            real(*arguments, **named, on_step=step)

        with pytest.MonkeyPatch.context() as patch, ExchangeClient(exchange.base_url, limit=None) as client:
            patch.setattr(collect, "sync_markets", walk)
            finished: list[Finished] = []
            collector = Collector(client, connecting(url), store.folder / "spool", Plan(QUARTER), on_run=finished.append)
            collector.collect_quotes()
            assert finished[0].status == "degraded"
            assert finished[0].spooled > 0
            server.close()
            with EmbeddedPostgres(root, options=fast) as server:
                collector.tend_spool()
                assert finished[-1].status == "healthy"
                again = Store(url, postgres.connect(url, autocommit=True), store.folder)
                assert differences(expected, again.rows(without=OF_THE_POLL)) == {}
                again.conn.close()
    finally:
        ServerDirectory(root).stop()
        shutil.rmtree(root, ignore_errors=True)
    assert "markets" in steps


def test_a_statement_that_hangs_when_the_collector_stops_is_cancelled_and_what_it_would_have_written_is_spooled(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "PATIENCE", 0.1)
    finished: list[Finished] = []
    with ExchangeClient(exchange.base_url, limit=None) as client, psycopg.connect(store.url) as other:
        other.execute("LOCK TABLE catalog.markets")
        collector = Collector(client, connecting(store.url), store.folder / "spool", Plan(QUARTER), on_run=finished.append)
        collector.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'catalog.markets'::regclass"
        while not store.value(waiting):
            time.sleep(0.005)
        begun = time.monotonic()
        collector.stop()
        collector.join()
        assert time.monotonic() - begun < 3
    (quotes,) = [one for one in finished if one.component == QUOTES]
    assert quotes.unstored
    assert quotes.spooled > 0
    with ExchangeClient(exchange.base_url, limit=None) as client:
        Collector(client, connecting(store.url), store.folder / "spool", Plan(QUARTER)).tend_spool()
    assert store.count("catalog.markets") > 50


# The command


def environment(store: Store, exchange: SimulatedExchange) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": store.url,
        "KALSHI_API_URL": exchange.base_url,
        "KALSHIDB_HOME": str(store.folder),
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kalshidb", "collect", "--full-speed", "--json", *arguments]


def test_sigterm_during_a_slow_answer_ends_the_collector_soon_with_what_had_arrived_stored(
    store: Store, exchange: SimulatedExchange
) -> None:
    slow = threading.Event()

    def become_slow() -> None:
        exchange.control({"faults": {"latency": [60.0, 60.0]}})
        slow.set()

    exchange.after(2, become_slow)
    process = subprocess.Popen(
        command("--interval", "1h", "--orderbooks", "1h"),
        env=environment(store, exchange),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert slow.wait(20)
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        exchange.control({"faults": {"latency": [0.0, 0.0]}})
    assert time.monotonic() - begun < 5
    assert process.returncode == 0, err
    assert store.count("catalog.series") > 0
    ((status, error),) = store.conn.execute("SELECT status, error FROM ops.ingest_runs").fetchall()
    assert (status, error) == ("truncated", "the collector was told to stop")
    assert health(store, ORDERBOOKS) == []  # the list that they wait for ended with the collector


def test_a_second_signal_ends_the_collector_at_once(store: Store, exchange: SimulatedExchange) -> None:
    with psycopg.connect(store.url) as other:
        other.execute("LOCK TABLE catalog.series")
        process = subprocess.Popen(command(), env=environment(store, exchange), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            while not store.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'catalog.series'::regclass"):
                time.sleep(0.005)
            process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
            begun = time.monotonic()
            process.terminate()
            process.communicate(timeout=20)
            assert time.monotonic() - begun < 1
            assert process.returncode == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_once_ends_with_the_status_of_what_happened(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(store, exchange).items():
        monkeypatch.setenv(name, value)
    assert invoked("collect", "--once", "--full-speed", "--json", "--orderbooks", "1h") == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["component"] for line in lines] == [QUOTES, ORDERBOOKS]
    assert lines[0]["run_id"] is not None
    assert lines[0]["written"] > 0
    assert invoked("health", "--component", QUOTES, "--max-age", "5m") == 0
    assert invoked("health", "--component", "no_such") == 1
    store.conn.execute("UPDATE ops.system_health SET last_check = last_check - interval '1 hour'")
    assert invoked("health", "--max-age", "5m") == 1
    assert invoked("health") == 0
    exchange.close()
    monkeypatch.setattr("kalshidb.exchange.client.FIRST_DELAY", 0.0)
    assert invoked("collect", "--once", "--full-speed") == 1
    assert "quotes down" in capfd.readouterr().err
    assert invoked("health") == 1


def test_a_database_that_is_away_from_the_beginning_is_collected_for_and_loaded_by_hand(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(store, exchange).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@/x?host=/no/such/socket")
    folder = str(store.folder / "mine")
    assert invoked("collect", "--once", "--full-speed", "--spool", folder) == 1
    captured = capfd.readouterr()
    assert "the database is away, collecting to the spool" in captured.err
    assert "quotes degraded" in captured.err
    assert invoked("spool", "list", "--spool", folder, "--json") == 0
    assert len(json.loads(capfd.readouterr().out)["segments"]) == 1
    monkeypatch.setenv("DATABASE_URL", store.url)
    assert invoked("spool", "load", "--spool", folder) == 0
    assert store.count("catalog.markets") > 50
    assert Spool(Path(folder)).held().segments == 0


@pytest.mark.parametrize("interval", ["15", "0m", "-1h", "1w", ""])
def test_an_interval_that_is_none_is_named(interval: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoked("collect", f"--interval={interval}") == 2
    assert "no length of time" in capfd.readouterr().err


def invoked(*arguments: str) -> int:
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        app(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    return 0


def test_two_databases_never_share_a_spool() -> None:
    home = Path("/var/lib/kalshidb")
    addresses = ["postgresql://h/a", "postgresql://h/b", "postgresql://i/a", "postgresql://h:5433/a", "host=/s dbname=a", ""]
    assert len({folder_for(home, address) for address in addresses}) == len(addresses)
    assert folder_for(home, "postgresql://me:secret@h/a") == folder_for(home, "postgresql://h/a")


def test_the_commands_in_the_page_about_collecting_are_ones_that_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "collecting.md").read_text()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [line for line in page.replace("\\\n", " ").splitlines() if re.search(r"kalshidb (collect|health|spool) ?-*", line)]
    used = []
    for line in lines:
        for found in re.finditer(r"kalshidb\s+((?:collect|health)[^`\n|]*)", line):
            name, *words = shlex.split(found[1].strip())
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            known = {option for parameter in commands[name].params for option in parameter.opts}
            assert set(options) <= known, line
            used += options
    assert {"--interval", "--orderbooks", "--trades", "--max-age", "--component"} <= set(used)
    assert SyncScope().with_combos is False


def test_a_database_that_ends_while_it_is_looked_at_at_the_start_is_away_and_no_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", store.url)
    ends = iter([psycopg.errors.AdminShutdown("terminating connection due to administrator command")])

    @contextmanager
    def address() -> Iterator[str]:
        for error in ends:
            raise error
        yield store.url

    with database(address) as (url, connect):
        assert "the database is away, collecting to the spool: terminating connection" in capsys.readouterr().err
        with connect() as conn:
            assert (url, conn.execute("SELECT 1").fetchone()) == (store.url, (1,))
