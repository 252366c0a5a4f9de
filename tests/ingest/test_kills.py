"""Processes that are killed or collide: after the next run the database is as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from loading import DATA, all_rows, differences
from psycopg import sql
from pytest_postgresql.executors import NoopExecutor

from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.postgres.lifecycle import ServerDirectory

WHILE_MIGRATING = (0.1, 0.5, 0.9)
"""When `load` is killed, as parts of the time that it takes undisturbed before its run begins."""

WHILE_LOADING = (0.01, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""When `load` is killed, as parts of the time that its run takes undisturbed."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved answers of a simulated exchange: a few thousand objects of every kind, a broken one among them."""
    folder = tmp_path_factory.mktemp("world")
    with SimulatedExchange(seed=4, markets=130) as exchange:

        def save(name: str, path: str) -> str:
            with urlopen(exchange.base_url + path) as answer:  # noqa: S310  (our own server)
                (folder / f"{name}.json").write_bytes(answer.read())
            return json.loads((folder / f"{name}.json").read_text()).get("cursor", "")

        save("series", "/series")
        save("events", "/events?with_nested_markets=true")
        for name in ("markets/trades", "historical/trades", "historical/markets"):
            cursor, page = "", 0
            while (cursor or not page) and page < 12:
                cursor = save(f"{name.replace('/', '-')}-{page}", f"/{name}?limit=1000&cursor={cursor}")
                page += 1
        active = [market.ticker for market in exchange.world.markets.values() if exchange.world.status(market) == "active"][:60]
        save("books", "/markets/orderbooks?" + "&".join(f"tickers={ticker}" for ticker in active))
        end = exchange.world.now // 1_000_000
        for number in range(0, len(active), 10):
            tickers = ",".join(active[number : number + 10])
            save(
                f"candles-{number}",
                f"/markets/candlesticks?market_tickers={tickers}&start_ts={end - 86_400 * 30}&end_ts={end}&period_interval=60",
            )
    (folder / "wrong.json").write_text(json.dumps({"trades": [{"trade_id": "seven", "ticker": "KXA-1"}]}))
    return folder


FORKER = """
import os, sys
from kalshidb import cli
for line in sys.stdin:
    word, *rest = line.rstrip("\\n").split("\\t")
    if word == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(int(rest[0]), 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.environ["DATABASE_URL"], sys.argv = word, ["kalshidb", *rest[1:]]
    os.dup2(os.open(rest[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    try:
        cli.main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)
"""
"""Starts `kalshidb` in processes of their own, without the half second that Python's imports take each time."""


@dataclass
class Command:
    """A running `kalshidb load`."""

    forker: subprocess.Popen[str]
    pid: int
    output: Path

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> int:
        """Wait for its end and return how it exited."""
        return int(tell(self.forker, f"wait\t{self.pid}"))

    def report(self) -> dict[str, int]:
        """Wait for its end, which must be a good one: all but one wrong trade is stored."""
        assert self.ended() == 3, self.output.read_text()
        return json.loads(self.output.read_text())


def tell(forker: subprocess.Popen[str], line: str) -> str:
    assert forker.stdin is not None
    assert forker.stdout is not None
    forker.stdin.write(line + "\n")
    forker.stdin.flush()
    return forker.stdout.readline()


@dataclass
class Databases:
    """Empty databases on the test run's server, and `kalshidb load` into them."""

    host: str
    template: str
    world: Path
    forker: subprocess.Popen[str]
    made: int = 0

    def admin(self, statement: sql.Composed) -> None:
        with psycopg.connect(host=self.host, user="postgres", dbname="postgres", autocommit=True) as conn:
            conn.execute(statement)

    def empty(self) -> str:
        return self.copy_of("template0")

    def migrated(self) -> str:
        return self.copy_of(self.template)

    def copy_of(self, template: str) -> str:
        self.made += 1
        name = sql.Identifier(f"kills_{os.getpid()}_{self.made}")
        self.admin(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        return f"postgresql://postgres@/kills_{os.getpid()}_{self.made}?host={self.host}"

    def wait_until_left(self, url: str) -> None:
        """Wait until the server has noticed that a client died: until then its session works on, and its run is not dead."""
        with psycopg.connect(url, autocommit=True) as conn:
            others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            while conn.execute(others).fetchall():
                time.sleep(0.005)

    def forget(self) -> None:
        for number in range(1, self.made + 1):
            self.admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(f"kills_{os.getpid()}_{number}")))

    def load(self, url: str, number: int = 0) -> Command:
        output = self.world.parent / f"out-{number}"
        pid = tell(self.forker, f"{url}\t{output}\tload\t{self.world}\t--json")
        return Command(self.forker, int(pid), output)

    def contents(self, url: str) -> dict[str, list[str]]:
        with psycopg.connect(url, options="-c timezone=UTC") as conn:
            found = all_rows(conn)
            found["rejected"] = [
                row for (row,) in conn.execute("SELECT payload_sha256 || kind || errors FROM ops.rejected_payloads ORDER BY 1")
            ]
            found["migrations"] = [row for (row,) in conn.execute("SELECT migration_id FROM _yoyo_migration ORDER BY 1")]
        return found

    def runs(self, url: str) -> list[str] | None:
        """The status of each run, or None when there is no table for it yet."""
        with psycopg.connect(url) as conn:
            row = conn.execute("SELECT to_regclass('ops.ingest_runs')").fetchone()
            if row is None or row[0] is None:
                return None
            return [status for (status,) in conn.execute("SELECT status FROM ops.ingest_runs ORDER BY run_id")]


@pytest.fixture(scope="module")
def databases(postgresql_noproc: NoopExecutor, world: Path) -> Iterator[Databases]:
    server = postgresql_noproc
    with subprocess.Popen([sys.executable, "-c", FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        found = Databases(server.host, server.template_dbname, world, forker)
        yield found
        found.forget()
        assert forker.stdin is not None
        forker.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(databases: Databases) -> tuple[dict[str, list[str]], float, float]:
    """What a load that nobody disturbs stores, and how long it takes before and in its run."""
    databases.load(databases.migrated()).report()  # the first one also warms caches
    url = databases.empty()
    begun = time.monotonic()
    report = databases.load(url).report()
    took = time.monotonic() - begun
    assert report["written"] > 6_000  # more than a batch
    assert databases.runs(url) == ["rejected_some"]
    with psycopg.connect(url) as conn:
        ((ran,),) = conn.execute("SELECT extract(epoch FROM duration)::float FROM ops.ingest_runs").fetchall()
    return databases.contents(url), took - ran, ran


def test_a_load_that_is_killed_at_any_moment_is_made_good_by_the_next(
    databases: Databases, undisturbed: tuple[dict[str, list[str]], float, float]
) -> None:
    expected, before, ran = undisturbed
    seen: list[str] = []
    moments = [(before * part, False) for part in WHILE_MIGRATING] + [(ran * part, True) for part in WHILE_LOADING]
    for moment, in_run in moments:
        seconds = moment
        while True:
            url = databases.migrated() if in_run else databases.empty()
            killed = databases.load(url)
            while in_run and not databases.runs(url):
                time.sleep(0.002)
            time.sleep(seconds)
            killed.kill()
            if killed.ended() == -signal.SIGKILL:
                break
            seconds *= 0.7  # it was done already: the machine has become faster
        databases.wait_until_left(url)
        runs = databases.runs(url)
        seen.append("migrating" if runs is None else runs[-1] if runs else "before the run")
        databases.load(url).report()
        assert differences(expected, databases.contents(url)) == {}, f"killed after {seconds:.2f} s: {seen[-1]}"
        if seen[-1] == "running":
            assert databases.runs(url) == ["abandoned", "rejected_some"]
    assert seen[0] == "migrating", seen
    assert seen.count("running") >= 5, seen


def test_four_loads_of_the_same_at_the_same_time_store_what_one_would(
    databases: Databases, undisturbed: tuple[dict[str, list[str]], float, float]
) -> None:
    """On an empty database, so that they also want to migrate it at the same time."""
    expected, _, _ = undisturbed
    url = databases.empty()
    commands = [databases.load(url, number) for number in range(4)]
    reports = [command.report() for command in commands]
    assert differences(expected, databases.contents(url)) == {}
    assert databases.runs(url) == ["rejected_some"] * 4
    assert len({report["run_id"] for report in reports}) == 4
    with psycopg.connect(url) as conn:
        stored = sum(
            conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*t.split(".")))).fetchone()[0] for t in DATA
        )  # type: ignore[index]
    assert sum(report["written"] for report in reports) >= stored - 100  # stubs and versions are nobody's rows
    assert [sum(report["rejected"] for report in reports)] == [4]


def test_a_server_that_is_killed_during_a_load_is_a_clear_error_and_the_next_load_succeeds(
    databases: Databases, world: Path, scratch: Path
) -> None:
    home = Path(tempfile.mkdtemp(prefix="kalshidb-tests killed-", dir=scratch))
    home.chmod(0o755)
    environment = os.environ | {"DATABASE_URL": "", "KALSHIDB_HOME": str(home)}
    command = [sys.executable, "-m", "kalshidb", "load", str(world), "--json"]
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        directory = ServerDirectory(home)
        server = None
        while server is None or not begun(home):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
            with suppress(OSError):
                server = directory.postmaster()
        os.kill(server, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "")
        assert err.startswith("kalshidb: the connection to the database was lost"), err
        assert len(err.splitlines()) == 1, err
        again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert again.returncode == 3, again.stderr
        assert json.loads(again.stdout)["rejected"] == 1
        runs = subprocess.run([*command[:3], "runs", "--json"], env=environment, capture_output=True, text=True, check=True)
        assert [run["status"] for run in json.loads(runs.stdout)] == ["rejected_some", "abandoned"]
    finally:
        ServerDirectory(home).stop()
        shutil.rmtree(home, ignore_errors=True)


def begun(home: Path) -> bool:
    """Whether a load is at work in the embedded server."""
    from kalshidb.postgres import EmbeddedPostgres

    try:
        with psycopg.connect(EmbeddedPostgres(home).url("kalshidb"), connect_timeout=2) as conn:
            row = conn.execute("SELECT count(*) FROM ops.ingest_runs").fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])
