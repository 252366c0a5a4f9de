"""Who uses an embedded server, and how it ends: locks, signals and the watchdog.

Nothing here knows SQL, settings or where programs lie. Only the standard library is imported and nothing of kalshidb,
because this file is also a program: ``python -I -S lifecycle.py <root> <fd>`` is the watchdog, and it should cost next
to nothing while it sleeps.

A server's directory holds, beside its ``data``:

``start.lock``
    The mutex. Whoever starts or stops the server, or comes or goes as a user, holds it meanwhile.
``users.lock``
    Each process that uses the server holds a shared lock: its lease. The kernel drops it when the process ends, however
    it ends. Only under the mutex does anybody try for the exclusive lock, so that its failure always means: somebody
    uses the server.
``bell.lock``
    Held by users in the same way. The watchdog sleeps in a blocking exclusive lock on it and so wakes when the last
    user is gone.
``watchdog.lock``
    Held by the watchdog for as long as it lives. There is at most one.
``kept``
    Exists while the server shall stay without users (``kalshidb up``).
``starting``
    Exists while a postmaster has been sent off but has not answered yet.

The watchdog decides under the mutex and gives up its own lock before it gives up the mutex. So a process that starts
meanwhile either is seen by the watchdog, or sees that there is no watchdog and starts one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

if sys.platform != "win32":
    import fcntl

NOBODYS_PID = 2**31 - 1
"""A process id that no system gives out."""


class Lease:
    """A process's share in the server: while it is open, the server is not stopped."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        """Take over open descriptors that hold the locks."""
        self._descriptors = list(descriptors)

    def release(self) -> None:
        """Give the share back. A forked child that inherited it keeps its own part of it."""
        while self._descriptors:
            os.close(self._descriptors.pop())


class ServerDirectory:
    """The directory of one embedded server, and the processes around it."""

    def __init__(self, root: Path, *, create: bool = True) -> None:
        """Name the directory's files. Nothing is opened; without `create`, a missing one will not be made."""
        self._create = os.O_CREAT if create else 0
        self.root = root
        self.data = root / "data"
        self.kept = root / "kept"
        self.starting = root / "starting"

    # Locks

    def _open(self, name: str) -> int:
        # Read-only is enough for flock, and lets root and the owner of the directory share the files.
        return os.open(self.root / name, os.O_RDONLY | self._create | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Keep other processes from starting, stopping, coming or going."""
        descriptor = self._open("start.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def lease(self) -> Lease:
        """Become a user of the server. Hold the mutex."""
        users, bell = self._open("users.lock"), self._open("bell.lock")
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(bell, fcntl.LOCK_SH)
        return Lease([bell, users])

    def in_use(self) -> bool:
        """Say whether any process has a lease. Hold the mutex."""
        users = self._open("users.lock")
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(users)
        return False

    def users(self) -> int | None:
        """Count the leases, or return None where the system does not tell (it does on Linux)."""
        try:
            inode = (self.root / "users.lock").stat().st_ino
            locks = Path("/proc/locks").read_text().splitlines()
        except OSError:
            return None
        # "7: FLOCK  ADVISORY  READ  4711 fe:00:131073 0 EOF"; a waiting lock has "->" after the number.
        held = (line.split() for line in locks if "->" not in line)
        return sum(1 for f in held if f[1] == "FLOCK" and f[3] == "READ" and f[5].endswith(f":{inode}")) or None

    # The postmaster

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def postmaster(self) -> int | None:
        """Return the process id of this directory's living postmaster; None when there is none, or only its zombie."""
        lines = self._pid_file()
        try:
            pid = int(lines[0])
        except (IndexError, ValueError):
            return None
        return pid if is_server_process(pid, self.data) else None

    def ready(self) -> bool:
        """Say whether the postmaster accepts connections (recovery is over, no shutdown has begun)."""
        return self.postmaster() is not None and "".join(self._pid_file()[7:8]).strip() == "ready"

    def forget_dead_postmaster(self) -> None:
        """Make way after a postmaster that was killed: end its orphans, and let its files not pass for a living one's.

        PostgreSQL itself refuses to start when the process id in its lock file exists, which a zombie does, or a
        stranger that got the number after a reboot. The file is not deleted: it also names the shared memory by which
        PostgreSQL makes sure that no orphan still writes to the data. Hold the mutex.
        """
        lines = self._pid_file()
        if not lines or self.postmaster() is not None:
            return
        end_processes_in(self.data)
        pid_file = self.data / "postmaster.pid"
        pid_file.write_text("\n".join([str(NOBODYS_PID), *lines[1:]]) + "\n")
        if len(lines) > 4 and lines[4]:
            (Path(lines[4]) / f".s.PGSQL.{lines[3]}.lock").unlink(missing_ok=True)

    def stop(self, patience: float = 120) -> bool:
        """Stop the server and return True; False when none was running. Hold the mutex.

        Open transactions are rolled back. A server that has not ended after `patience` seconds is made to end at once;
        what was committed is then recovered at the next start.
        """
        if self.starting.exists():
            self._await_postmaster()
        pid = self.postmaster()
        if pid is None:
            end_processes_in(self.data)
            return False
        for number, seconds in ((signal.SIGINT, patience), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            end = time.monotonic() + seconds
            while is_server_process(pid, self.data) and time.monotonic() < end:
                time.sleep(0.01)
            if not is_server_process(pid, self.data):
                break
        end_processes_in(self.data)
        self._remove_socket_directory()
        return True

    def _await_postmaster(self, seconds: float = 5) -> None:
        """Give a postmaster whose starter was killed the time to write its lock file.

        Before that it cannot be found.
        """
        end = time.monotonic() + seconds
        while self.postmaster() is None and time.monotonic() < end:
            time.sleep(0.01)
        self.starting.unlink(missing_ok=True)

    def stop_unless_kept(self) -> None:
        """Stop the server when nobody uses it and nobody asked to keep it. Hold the mutex."""
        if not self.kept.exists() and not self.in_use():
            self.stop()

    @property
    def short_socket_directory(self) -> Path:
        """A directory for the socket whose path is short, whatever the root's: /tmp, the same for every process."""
        return Path("/tmp") / f"kalshidb-{fingerprint(str(self.root))}"  # noqa: S108  (0700 and its owner is checked)

    def _remove_socket_directory(self) -> None:
        with contextlib.suppress(OSError):
            self.short_socket_directory.rmdir()

    # The watchdog

    def ensure_watchdog(self) -> None:
        """Start the process that stops the server after its last user, unless it is already there. Hold the mutex."""
        if not sys.executable:  # Python inside another program: there is nothing to start it with
            return
        lock = self._open("watchdog.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(self.root), str(lock)]
            spawn_detached(command, env={}, pass_fds=[lock])
        except BlockingIOError:
            pass
        finally:
            os.close(lock)  # the child's copy holds the lock on

    def watch(self, lock: int) -> None:
        """Sleep until the server has no user, then stop it, unless it is kept. The body of the watchdog."""
        while True:
            bell = self._open("bell.lock")
            fcntl.flock(bell, fcntl.LOCK_EX)
            os.close(bell)
            with self.mutex():
                if not self.in_use():
                    self.stop_unless_kept()
                    os.close(lock)
                    return


def fingerprint(text: str) -> str:
    """Return twelve characters that stand for the text in a file name."""
    import hashlib  # noqa: PLC0415  (the sleeping watchdog does without OpenSSL)

    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_server_process(pid: int, data: Path, *, unsure: bool = True) -> bool:
    """Say whether `pid` is a living PostgreSQL process of this data directory: no zombie, no stranger with the same
    number.

    A PostgreSQL process of which the system does not tell the directory (root in a container without CAP_SYS_PTRACE)
    counts as `unsure` says: true for a number from our own lock file, false for one found by searching.
    """
    if not alive(pid, named=("postgres", "postmaster")):
        return False
    if sys.platform != "linux":
        return True
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return unsure


def alive(pid: int, named: tuple[str, ...] = ("",)) -> bool:
    """Say whether a process lives (a zombie does not) whose program's name begins with one of `named`."""
    if sys.platform == "linux":
        try:
            # As in: 4711 (postgres) S 1 …
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return rest.split()[0] not in "ZX" and name.startswith(named)
    listed = subprocess.run(["ps", "-o", "stat=,comm=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    state, _, command = listed.stdout.strip().partition(" ")
    return state != "" and not state.startswith("Z") and Path(command.strip()).name.startswith(named)


def end_processes_in(data: Path, seconds: float = 10) -> None:
    """End what a dead postmaster left behind in its data directory.

    Most notice by themselves that their postmaster is gone; one that computes does not, and would stand in the way of
    the next start. Where processes cannot be listed (macOS), PostgreSQL itself refuses to start until they are gone.
    """
    if sys.platform != "linux":
        return
    end = time.monotonic() + seconds
    while orphans := [pid for pid in _all_pids() if is_server_process(pid, data, unsure=False)]:
        late = time.monotonic() > end
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGQUIT)
        if time.monotonic() > end + seconds:
            return
        time.sleep(0.02)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  (no pathlib objects for each process)


def spawn_detached(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    account: tuple[int, int] | None = None,
) -> int:
    """Start a program that belongs to nobody here, and return its process id.

    It has its own session, no terminal, no pipe and none of our files; its output goes to `log`. Its parent is the
    system's, so that it never becomes a zombie which only this process could clear. `account` is the user and group to
    run as, for root.
    """
    user, group = account or (None, None)
    shell = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],  # the arguments are passed on, never parsed
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd="/",
        env=dict(env),
        pass_fds=pass_fds,
        start_new_session=True,
        check=True,
        user=user,
        group=group,
        extra_groups=[] if account else None,
    )
    return int(shell.stdout)


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the whole directory was removed: its server notices that by itself
        ServerDirectory(Path(sys.argv[1]), create=False).watch(int(sys.argv[2]))
