"""Everything at once, for minutes: collect, backfill and stream as processes of their own, an exchange that fails in every way while its
clock runs, workers that are killed and a database that is killed and stopped at random moments. In the end the database holds what the
exchange's world held, row for row.

Not in the suite: `python3 run.py test --soak`. `--soak-seconds` is how long it is disturbed, `--soak-seed` what happens when. Logs of all
processes are kept in the folder that a failure names.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from loading import Store, all_rows, differences
from test_faults import unkept_promises
from test_stream_recorder import assert_claims_are_true, busy

from kalshidb import postgres
from kalshidb.exchange.client import ExchangeClient
from kalshidb.exchange.simulator import SimulatedExchange, World
from kalshidb.exchange.simulator.world import DOLLAR, micros, moment_of
from kalshidb.ingest.backfill import STILL_FORMING, BackfillScope, backfill
from kalshidb.ingest.intake import Intake
from kalshidb.ingest.sync import STATUSES, SyncScope, sync_markets
from kalshidb.migration import migrate
from kalshidb.postgres import EmbeddedPostgres
from kalshidb.postgres.lifecycle import ServerDirectory
from kalshidb.queries import ops

WORLD, MARKETS, SPEED = 7, 200, 60
RATES = {
    "429": 0.02, "500": 0.02, "502": 0.01, "503": 0.01, "storm": 0.002, "drop": 0.02, "truncate": 0.02, "slow": 0.01, "dribble": 0.01,
    "broken_json": 0.02, "html": 0.01, "other_shape": 0.02, "same_page": 0.02, "overlap": 0.02, "swapped_pages": 0.02, "shuffled": 0.02,
    "ignored_filter": 0.005,
}  # fmt: skip
FEED_RATE = 0.02
SLACK = timedelta(seconds=3)
"""How long an answer may have been under way when its quotes were taken from the world."""
SAME = (
    "catalog.series", "catalog.events", "catalog.markets", "catalog.settlements", "market_data.candlesticks", "market_data.public_trades",
)  # fmt: skip
WHEN = ("created_at", "updated_at", "retrieved_at")
BROKEN = {"unrecognised", "file"}
"""Kinds of what may be refused: frames and lines that were cut off or are none. No object of the exchange is among them."""


@dataclass
class Worker:
    """A command that is begun again whenever it ends."""

    name: str
    commands: list[list[str]]
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    begun: int = 0
    ends: list[int] = field(default_factory=list[int])

    def tend(self) -> None:
        """Begin it if it does not run."""
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return
            self.ends.append(status)
        command = self.commands[self.begun % len(self.commands)]
        self.begun += 1
        with self.log.open("ab") as log:
            log.write(f"--- {datetime.now(UTC).isoformat()} {' '.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen([sys.executable, "-m", "kalshidb", *command], env=self.env, stdout=log, stderr=log)

    def end(self, how: signal.Signals, timeout: float = 60) -> int:
        """End it, and return its status."""
        assert self.process is not None
        self.process.send_signal(how)
        status = self.process.wait(timeout)
        self.process = None
        return status


@dataclass
class Clock:
    """Which moment of the world was when, by our clock: sampled from outside while it runs."""

    control: str
    seen: list[tuple[datetime, datetime, datetime]] = field(default_factory=list[tuple[datetime, datetime, datetime]])
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as http:
            while not self.stopped.wait(0.1):
                before = datetime.now(UTC)
                now = datetime.fromisoformat(http.get(self.control).json()["now"])
                self.seen.append((before, now, datetime.now(UTC)))

    def between(self, first: datetime, last: datetime) -> tuple[datetime, datetime]:
        """Moments of the world that enclose two of ours."""
        early = max((now for _, now, after in self.seen if after <= first), default=self.seen[0][1])
        late = min((now for before, now, _ in self.seen if before >= last), default=self.seen[-1][1])
        return early, late


@dataclass
class Ground:
    """What the workers stand on: a simulated exchange in a process of its own, and a server that can be killed."""

    folder: Path
    root: Path
    server: EmbeddedPostgres
    url: str
    exchange: str
    websocket: str
    begun: datetime

    @property
    def control(self) -> str:
        return self.exchange.replace("/trade-api/v2", "/simulator")

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": self.url,
            "KALSHI_API_URL": self.exchange,
            "KALSHI_WEBSOCKET_URL": self.websocket,
            "KALSHIDB_HOME": str(self.folder / "home"),
        }

    def put(self, **what: object) -> dict[str, Any]:
        return dict(httpx.put(self.control, json=what, trust_env=False, timeout=30).raise_for_status().json())

    def run(self, *command: str, allowed: Sequence[int] = (0,)) -> str:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "kalshidb", *command], env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode in allowed, (command, done.returncode, done.stderr[-2000:], done.stdout[-2000:])
        return done.stdout

    def strike_database(self, how: signal.Signals, away: float) -> None:
        """End the server: at once (SIGKILL), without a checkpoint (SIGQUIT) or in order (SIGINT); and begin it again after a while."""
        pid = ServerDirectory(self.root).postmaster()
        assert pid is not None
        os.kill(pid, how)
        time.sleep(away)
        self.server.start()


@contextmanager
def ground(scratch: Path, folder: Path, seed: int, seconds: float) -> Iterator[Ground]:
    # The world's clock stays behind ours: what is polled is noted by ours, and must not lie among what the stream notes by its own.
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds * SPEED) - timedelta(hours=3)
    root = Path(tempfile.mkdtemp(prefix="kalshidb-tests soak-", dir=scratch))
    root.chmod(0o755)
    log = (folder / "simulator.log").open("wb")
    command = [
        sys.executable, "-m", "kalshidb", "simulator", "--seed", str(WORLD), "--markets", str(MARKETS), "--now", begun.isoformat(),
        "--websocket", "--speed", str(SPEED), "--fault-seed", str(seed),
    ]  # fmt: skip
    simulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert simulator.stdout is not None
        exchange, websocket = (simulator.stdout.readline().strip() for _ in range(2))
        server = EmbeddedPostgres(root, options={"fsync": "off", "shared_buffers": "64MB", "max_connections": "60"}).start()
        url = server.ensure_database()
        migrate(url)
        yield Ground(folder, root, server, url, exchange, websocket, begun)
        server.close()
    finally:
        simulator.kill()
        simulator.wait()
        log.close()
        ServerDirectory(root).stop()
        shutil.rmtree(root, ignore_errors=True)


def test_everything_at_once_ends_with_the_exchanges_truth(
    scratch: Path, tmp_path: Path, pytestconfig: pytest.Config, empty_database: str
) -> None:
    seed, seconds = int(pytestconfig.option.soak_seed), float(pytestconfig.option.soak_seconds)
    chance = Random(seed)  # noqa: S311
    with ground(scratch, tmp_path, seed, seconds) as here:
        clock = Clock(here.control)
        watching = threading.Thread(target=clock.watch)
        watching.start()
        workers: list[Worker] = []
        try:
            workers, struck = disturbed(here, chance, seconds)
            final = settled(here, workers)
        finally:
            clock.stopped.set()
            watching.join()
            for worker in workers:
                if worker.process is not None and worker.process.poll() is None:
                    worker.end(signal.SIGKILL)
        print(json.dumps({"struck": struck, "ends": {worker.name: Counter(worker.ends) for worker in workers}}))  # noqa: T201
        with SimulatedExchange(seed=WORLD, markets=MARKETS, now=here.begun) as exchange:
            exchange.move_to(final)
            with postgres.connect(here.url, autocommit=True) as conn:
                store = Store(here.url, conn, tmp_path)
                told = compared(store, exchange, here, clock, empty_database)
        print(json.dumps(told))  # noqa: T201


def start_of(here: Ground) -> datetime:
    """From where candlesticks and trades are fetched."""
    return here.begun - timedelta(days=12)


def fills(here: Ground, *pace: str) -> list[list[str]]:
    start = f"{start_of(here):%Y-%m-%dT%H:%M:%S}"
    return [
        ["backfill", "candles", "--from", start, "--interval", "1", "--workers", "2", *pace],
        ["backfill", "trades", "--from", start, *pace],
        ["backfill", "candles", "--from", start, "--interval", "60", *pace],
    ]


FULL_SPEED = "--full-speed"
EVERYTHING = ["sync-markets", "--historical", "--with-combos", "--full-speed", *(f"--status={word}" for word in STATUSES)]


def disturbed(here: Ground, chance: Random, seconds: float) -> tuple[list[Worker], Counter[str]]:
    """Let everything run and strike it, for so many seconds."""
    here.run(*EVERYTHING)
    here.run(*fills(here, FULL_SPEED)[1])  # from where this ends the collector goes on
    series, markets = listened_to(here)
    spool = {name: str(here.folder / f"spool of {name}") for name in ("collect", "stream")}
    collect = ["collect", "--interval", "2s", "--orderbooks", "3s", "--trades", "--with-combos", "--full-speed", "--json"]
    stream = ["stream", "--all-open", f"--series={series}", *(f"--market={one}" for one in markets), "--json"]
    workers = [
        Worker("collect", [[*collect, "--spool", spool["collect"]]], here.folder / "collect.log", here.env),
        Worker("stream", [[*stream, "--spool", spool["stream"]]], here.folder / "stream.log", here.env),
        # At the pace of the real exchange, so that they are at work whenever a blow falls.
        *(Worker("backfill", fills(here), here.folder / f"backfill {number}.log", here.env) for number in (1, 2)),
    ]
    here.put(faults={"seed": chance.randrange(1000), "rates": RATES, "latency": [0, 0.02]}, feed={"rate": FEED_RATE, "seed": 1})
    struck: Counter[str] = Counter()
    end, next_blow = time.monotonic() + seconds, time.monotonic() + 8
    while time.monotonic() < end:
        for worker in workers:
            worker.tend()
        time.sleep(0.05)
        if time.monotonic() < next_blow:
            continue
        next_blow = time.monotonic() + chance.uniform(0.5, 5.0)
        target = chance.choice(["collect", "collect", "stream", "backfill", "backfill", "backfill", "kill", "immediate", "stop"])
        struck[target] += 1
        if target in ("kill", "immediate", "stop"):
            how = {"kill": signal.SIGKILL, "immediate": signal.SIGQUIT, "stop": signal.SIGINT}[target]
            here.strike_database(how, chance.uniform(0.0, 4.0))
        else:
            worker = chance.choice([worker for worker in workers if worker.name == target])
            if worker.process is not None and worker.process.poll() is None:
                worker.end(signal.SIGKILL)
    return workers, struck


def listened_to(here: Ground) -> tuple[str, list[str]]:
    """A series, and the markets in which most will happen. Those of a series are known to who can ask the database at its start."""
    world = World(seed=WORLD, markets=MARKETS, now=here.begun)
    markets = busy(world, minutes=120)
    return world.markets[markets[0]].series_ticker, markets[:20]


def settled(here: Ground, workers: list[Worker]) -> datetime:
    """End faults, clock and workers, run everything to its end once more, and return the world's last moment."""
    here.put(faults={}, feed={"rate": 0})
    for worker in workers:
        worker.tend()
    time.sleep(8)
    final = datetime.fromisoformat(here.put(speed=0)["now"])
    collect, stream, *both = workers
    assert collect.end(signal.SIGTERM) == 0
    assert stream.end(signal.SIGTERM) in (0, 3)  # 3: frames that were none were kept as rejects
    for fill in both:
        fill.end(signal.SIGKILL)
    assert (collect.ends, stream.ends) == ([], [])  # they outlive everything but SIGKILL
    for name in ("collect", "stream"):
        here.run("spool", "load", "--spool", str(here.folder / f"spool of {name}"), allowed=(0, 3))
    here.run(*EVERYTHING)
    for command in fills(here, FULL_SPEED):
        here.run(*command)
    return final


def compared(store: Store, exchange: SimulatedExchange, here: Ground, clock: Clock, empty_database: str) -> dict[str, Any]:
    """Compare what is stored with the world; return how much of it there was."""
    world, final = exchange.world, exchange.present
    assert {reject.kind for reject in store.rejects()} <= BROKEN
    assert unkept_promises(store, exchange) == []
    migrate(empty_database)
    with postgres.connect(empty_database, autocommit=True) as conn:
        truth = Store(empty_database, conn, store.folder)
        undisturbed(truth, exchange, here)
        expected, found = (all_rows(one.conn, without=WHEN) for one in (truth, store))
    for tables in (expected, found):
        tables["market_data.public_trades"] = comparable(tables["market_data.public_trades"], final - STILL_FORMING)
    for table in SAME:
        (differing,) = differences({table: found[table]}, expected).values() or [None]
        assert differing is None, f"{table}: only stored, only in the world: {json.dumps(differing, indent=1)}"
    of_the_world = {trade.trade_id for trade in world.all_trades}
    assert set(store.column("SELECT trade_id::text FROM market_data.public_trades")) - of_the_world == set()
    claimed = assert_claims_are_true(store.conn, world, samples=5)
    assert claimed > timedelta(minutes=5)
    streamed, polled = wrong_quotes(store, exchange, clock)
    runs = Counter(run.status for run in ops.recent_ingest_runs(store.conn, how_many=100_000))
    assert runs["running"] == 0
    return {
        "simulated hours": round((final - here.begun) / timedelta(hours=1), 2),
        "candlesticks": len(found["market_data.candlesticks"]),
        "trades": len(found["market_data.public_trades"]),
        "markets": len(found["catalog.markets"]),
        "settlements": len(found["catalog.settlements"]),
        "quotes streamed": streamed,
        "quotes polled": polled,
        "books known, hours": round(claimed / timedelta(hours=1), 2),
        "rejects": Counter(reject.kind for reject in store.rejects()),
        "runs": runs,
    }


def comparable(trades: list[str], end: datetime) -> list[str]:
    """Trades before the last minute, of which the stream has told some that no backfill fetches yet, to the millisecond: frames say no
    more, and of one trade the first answer to arrive is kept.
    """
    rows = [json.loads(trade) for trade in trades]
    for row in rows:
        moment = datetime.fromisoformat(row["created_time"])
        row["created_time"] = moment.replace(microsecond=moment.microsecond // 1000 * 1000).isoformat()
    return sorted(json.dumps(row) for row in rows if datetime.fromisoformat(row["created_time"]) < end)


def undisturbed(truth: Store, exchange: SimulatedExchange, here: Ground) -> None:
    start, end = start_of(here), exchange.present
    with ExchangeClient(exchange.base_url, limit=None) as client:
        with Intake(truth.conn, "truth", origin="poll") as intake:
            sync_markets(client, intake, SyncScope(statuses=STATUSES, historical=True, with_combos=True))
        for scope in (
            BackfillScope("trades", start, end),
            BackfillScope("candlesticks", start, end, 60),
            BackfillScope("candlesticks", start, end, 1),
        ):
            outcome = backfill(client, lambda: postgres.connect(truth.url, autocommit=True), scope, now=lambda: end)
            assert (outcome.failed, outcome.unknown) == ({}, set())


def wrong_quotes(store: Store, exchange: SimulatedExchange, clock: Clock) -> tuple[int, int]:
    """Assert that every stored quote is what the world said then; return how many there were of the stream and of the polls."""
    world = exchange.world
    streamed = polled = 0
    rows = store.conn.execute(
        "SELECT market_ticker, snapshot_time, source::text, status, yes_bid, yes_ask FROM market_data.price_snapshots"
    ).fetchall()
    for ticker, at, source, status, bid, ask in rows:
        quote = (int(bid * DOLLAR), int(ask * DOLLAR))
        if source == "websocket":
            streamed += 1
            first = last = micros(at)
        else:
            polled += 1
            first, last = (micros(moment) for moment in clock.between(at - SLACK, at))
            if status not in ("active", "inactive"):
                assert quote == (0, DOLLAR), (ticker, at)
                continue
        quotes = world.history(ticker).quotes
        begin = max(0, bisect_left(quotes, first, key=lambda one: one[0]) - 1)
        said = {(0, DOLLAR)} if not quotes or quotes[0][0] > first else set()
        said |= {one[1:] for one in quotes[begin:] if one[0] <= last}
        assert quote in said, (ticker, at, source, quote, [moment_of(first), moment_of(last)])
    return streamed, polled
