"""The embedded server's life: who shares it, what ends it, and what survives."""

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import psycopg
import pytest

from kalshidb.postgres import DatabaseUnavailable, EmbeddedPostgres, embedded, lifecycle
from kalshidb.postgres.lifecycle import ServerDirectory

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """A directory that the server's account can enter (pytest's tmp_path is closed to it when root runs the tests)."""
    path = Path(tempfile.mkdtemp(prefix="kalshidb-tests embedded-", dir=scratch))
    path.chmod(0o755)
    yield path
    for data in path.rglob("data"):
        with suppress(OSError):
            ServerDirectory(data.parent).stop()
    shutil.rmtree(path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory from which programs can be run (memory may forbid it); the cache of programs lies in it."""
    path = Path(tempfile.mkdtemp(prefix="kalshidb-tests-disk-"))
    path.chmod(0o755)
    monkeypatch.setattr(embedded, "ROOTS_CACHE", path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path / "cache"))
    yield path
    shutil.rmtree(path)


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)


def installed_below(folder: Path) -> Path:
    """Install the wheel with PostgreSQL's programs into another environment, and return where they are in it."""
    package = embedded.find_programs().parents[1]
    site_packages = folder / "site-packages"
    site_packages.mkdir(parents=True)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, site_packages / part.name, symlinks=True, copy_function=link_or_copy)
    return site_packages / package.name / embedded.find_programs().relative_to(package)


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def postmaster(home: Path) -> int:
    return int((home / "data/postmaster.pid").read_text().split()[0])


class User:
    """Another process that uses the server, until it is told to end or is killed."""

    PROGRAM = (
        "import sys; from kalshidb.postgres import EmbeddedPostgres; "
        "server = EmbeddedPostgres(sys.argv[1]).start(); print('ready', flush=True); sys.stdin.read()"
    )

    def __init__(self, home: Path, **options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def ready(self) -> Self:
        out: IO[str] = self.process.stdout  # type: ignore[assignment]
        assert out.readline() == "ready\n"
        return self

    def end(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def test_two_processes_share_one_server_and_the_last_one_stops_it(place: Path) -> None:
    first, second = User(place / "home").ready(), User(place / "home").ready()
    server = postmaster(place / "home")

    first.end()
    here = EmbeddedPostgres(place / "home")
    assert here.running()
    assert postmaster(place / "home") == server

    second.end()
    assert not here.running()


def test_five_first_starts_at_once_make_one_server(place: Path) -> None:
    users = [User(place / "home") for _ in range(5)]
    for user in users:
        user.ready()
    assert EmbeddedPostgres(place / "home").users() in {5, None}
    for user in users:
        user.end()
    assert not EmbeddedPostgres(place / "home").running()


def test_the_server_ends_when_its_only_user_is_killed(place: Path) -> None:
    user = User(place / "home").ready()
    server = ServerDirectory(place / "home")
    user.kill()
    wait_until(lambda: server.postmaster() is None)
    wait_until(lambda: not processes_of(place))


def test_the_server_ends_when_a_user_is_killed_after_the_other_has_left(place: Path) -> None:
    stays, leaves = User(place / "home").ready(), User(place / "home").ready()
    leaves.end()
    assert EmbeddedPostgres(place / "home").running()
    stays.kill()
    wait_until(lambda: not processes_of(place))


def test_the_server_ends_when_its_only_user_is_killed_while_it_starts(place: Path) -> None:
    with EmbeddedPostgres(place / "home"):
        pass  # the data directory is there: the next start is short
    for delay in (0.12, 0.16, 0.2, 0.24, 0.28):
        user = User(place / "home")
        time.sleep(delay)  # wherever this hits it
        user.kill()
    wait_until(lambda: not processes_of(place))


def processes_of(place: Path) -> list[str]:
    """Every process that names this place on its command line or works in it: server, watchdog, orphans."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            directory = str((process / "cwd").readlink())
            if str(place) in command or directory.startswith(str(place)):
                found.append(command)
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="lists processes")
def test_nothing_is_left_running_after_a_clean_end(place: Path) -> None:
    with EmbeddedPostgres(place / "home") as server:
        assert len(processes_of(place)) >= 2
        pid = postmaster(place / "home")
    assert not server.running()
    wait_until(lambda: not processes_of(place))
    assert not lifecycle.alive(pid)


def test_what_was_committed_survives_a_killed_server(place: Path) -> None:
    with EmbeddedPostgres(place / "home") as server:
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        busy = psycopg.connect(server.url(), autocommit=True)
        busy.execute("SELECT 1")
        killed = postmaster(place / "home")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not server.running())

        server.start()

        assert postmaster(place / "home") != killed
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        busy.close()


@pytest.mark.skipif(sys.platform != "linux", reason="adopts orphans")
def test_a_killed_server_that_nobody_buries_is_not_taken_for_a_living_one(place: Path) -> None:
    """In a container, process 1 may never clear zombies away; their numbers stay taken."""
    adopt_orphans = ctypes.CDLL(None).prctl
    adopt_orphans(36, 1, 0, 0, 0)
    try:
        with EmbeddedPostgres(place / "home") as server:
            killed = postmaster(place / "home")
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: not server.running())
            wait_until(lambda: Path(f"/proc/{killed}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
            server.start()
            assert server.running()
    finally:
        adopt_orphans(36, 0, 0, 0, 0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def test_a_directory_that_cannot_be_used_is_named_with_the_way_out(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(DatabaseUnavailable, match=r"cannot use .*file/home.*KALSHIDB_HOME.*DATABASE_URL"):
        EmbeddedPostgres(place / "file/home").start()


def test_a_backend_that_computes_does_not_outlive_its_killed_server(place: Path) -> None:
    with EmbeddedPostgres(place / "home") as server:
        connection = psycopg.connect(server.url(), autocommit=True)
        backend = connection.info.backend_pid
        connection.pgconn.send_query(b"DO $$ BEGIN LOOP END LOOP; END $$")
        with psycopg.connect(server.url(), autocommit=True) as other:
            busy = "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
            wait_until(lambda: other.execute(busy, [backend]).rowcount)
        os.kill(postmaster(place / "home"), signal.SIGKILL)
        wait_until(lambda: not server.running())
        assert lifecycle.alive(backend, named=("postgres",))
        server.start()
        connection.close()
        assert server.running()
        assert not lifecycle.alive(backend, named=("postgres",))


def test_a_stranger_with_the_dead_servers_number_is_not_taken_for_it(place: Path) -> None:
    with EmbeddedPostgres(place / "home") as server:
        pid_file = (place / "home/data/postmaster.pid").read_text().splitlines()
        owner = (place / "home/data").stat()
    stranger = subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        left_over = place / "home/data/postmaster.pid"
        left_over.write_text("\n".join([str(stranger.pid), *pid_file[1:]]) + "\n")
        os.chown(left_over, owner.st_uid, owner.st_gid)
        assert not server.running()
        with server:
            assert server.running()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_kept_server_outlives_its_starter_and_recovers_when_killed_until_down(place: Path) -> None:
    server = EmbeddedPostgres(place / "home").start(keep=True)
    server.close()
    assert server.running()
    User(place / "home").ready().kill()
    assert server.running()

    os.kill(postmaster(place / "home"), signal.SIGKILL)
    wait_until(lambda: not server.running())
    with server:
        assert server.running()
    assert server.running()

    assert server.down() == "stopped"
    assert not server.running()
    assert server.down() == "not running"


def test_down_leaves_a_server_in_use_to_its_users(place: Path) -> None:
    EmbeddedPostgres(place / "home").start(keep=True).close()
    user = User(place / "home").ready()
    server = EmbeddedPostgres(place / "home")

    assert server.down() == "in use"
    assert server.running()

    user.kill()
    wait_until(lambda: not server.running())


def test_down_by_force_stops_a_server_in_use(place: Path) -> None:
    user = User(place / "home").ready()
    server = EmbeddedPostgres(place / "home")
    assert server.down(force=True) == "stopped"
    assert not server.running()
    user.end()


def test_down_creates_nothing(place: Path) -> None:
    assert EmbeddedPostgres(place / "home").down() == "not running"
    assert not (place / "home").exists()


def test_a_forked_child_keeps_the_server_but_does_not_stop_it(place: Path) -> None:
    program = (
        "import os, sys; from kalshidb.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(sys.argv[1]).start()\n"
        "if os.fork() == 0:\n"
        "    server.close(); print('ready', flush=True); sys.stdin.read(); os._exit(0)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(place / "home")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.wait(30)
    server = EmbeddedPostgres(place / "home")
    assert server.running()
    parent.communicate(timeout=30)
    wait_until(lambda: not server.running())


@pytest.mark.parametrize("name", ["with space", 'quo\'te "double" $HOME `x` \\', "comma,ed", "übergrößenträger", "x" * 150])
def test_any_path_will_do(place: Path, name: str) -> None:
    with EmbeddedPostgres(place / name) as server:
        url = server.ensure_database("kalshi db")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("kalshi db",)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert not server.running()
    assert not (server.socket_directory.parent != server.root and server.socket_directory.exists())


@pytest.mark.parametrize("name", ["with space", 'quo\'te "double" $HOME `x`'])
def test_programs_may_lie_anywhere(place: Path, disk: Path, name: str) -> None:
    """A checkout, and with it the virtual environment, may lie below any path."""
    with EmbeddedPostgres(place / "home", bin_dir=installed_below(disk / name)) as server:
        assert server.running()


def test_an_interrupted_initdb_is_not_in_the_way(place: Path) -> None:
    (place / "home/data.new").mkdir(parents=True)
    (place / "home/data.new/PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(place / "home") as server:
        assert server.running()
    assert not (place / "home/data.new").exists()


def test_data_of_another_major_version_is_refused_with_the_way_out(place: Path) -> None:
    with EmbeddedPostgres(place / "home"):
        pass
    version = place / "home/data/PG_VERSION"
    version.write_text("14\n")
    with pytest.raises(DatabaseUnavailable, match=r"made by PostgreSQL 14.*KALSHIDB_PG_BIN"):
        EmbeddedPostgres(place / "home").start()


def test_why_a_server_did_not_start_is_in_the_error(place: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match='unrecognized configuration parameter "no_such_setting"'):
        EmbeddedPostgres(place / "home", options={"no_such_setting": "on"}).start()
    wait_until(lambda: not processes_of(place))


def test_the_data_and_the_socket_are_private(place: Path) -> None:
    with EmbeddedPostgres(place / "home") as server:
        for private in (server.root, server.root / "data", server.socket_directory):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SHOW timezone").fetchone() == ("UTC",)


@ROOT_ONLY
def test_no_ancestor_is_opened_for_the_servers_account(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    before = closed.stat()
    with pytest.raises(DatabaseUnavailable, match=r"cannot enter .*closed \(mode 0700\).*KALSHIDB_HOME.*/var/lib/kalshidb"):
        EmbeddedPostgres(closed / "home").start()
    after = closed.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert list(closed.iterdir()) == []


@ROOT_ONLY
def test_programs_below_a_closed_directory_are_copied_and_the_directory_stays_closed(place: Path, disk: Path) -> None:
    closed = disk / "closed"
    programs = installed_below(closed)
    closed.chmod(0o700)
    with EmbeddedPostgres(place / "home", bin_dir=programs) as server:
        assert server.running()
        assert str(closed) not in Path(f"/proc/{postmaster(place / 'home')}/cmdline").read_text()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@ROOT_ONLY
def test_an_ordinary_user_runs_a_server_as_himself(place: Path) -> None:
    import pwd

    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    # As root, Python itself may lie where nobody may go: fork, then give up root.
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            sys.executable = ""  # which cannot be run by nobody, maybe: there is no watchdog then
            with EmbeddedPostgres(place / "home") as server:
                code = 0 if server.running() and (place / "home/data").stat().st_uid == nobody.pw_uid else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@ROOT_ONLY
def test_root_joins_the_server_of_the_directorys_owner(place: Path) -> None:
    import pwd

    nobody = pwd.getpwnam("nobody")
    (place / "home").mkdir(mode=0o700)
    with EmbeddedPostgres(place / "home"):
        pass
    for path in [place / "home", *(place / "home").rglob("*")]:
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    with EmbeddedPostgres(place / "home"):
        assert Path(f"/proc/{postmaster(place / 'home')}").stat().st_uid == nobody.pw_uid
