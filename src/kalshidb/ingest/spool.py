"""A folder on disk for what arrived while the database was away.

A segment is a file of lines (`kalshidb.ingest.arrivals`), in the order of arrival. An append is on disk when it returns. A writer
holds a lock on the segment that it appends to, so what nobody holds was written to its end, or belongs to a process that died. Who
loads segments holds the folder's lock: they are loaded in order, each by one process, and removed when everything in them is stored.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from psycopg.conninfo import conninfo_to_dict

SEGMENT_BYTES = 16 << 20
"""Size at which the next segment is begun; also about how much is loaded between two looks at anything else."""
SUFFIX = ".jsonl"
_LOCK = "lock"


class SpoolError(OSError):
    """Nothing can be written to the spool; says why, and what is at stake."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a spool holds: how many segments of how many bytes."""

    segments: int
    size: int


def folder_for(home: Path, url: str) -> Path:
    """Return where what a database misses is spooled: a folder of its own, so that two never mix.

    Args:
        home: the folder of all data.
        url: the database's address; user and password do not count.
    """
    parts = conninfo_to_dict(url)
    named = {name: str(parts[name]) for name in ("host", "hostaddr", "port", "dbname") if parts.get(name)}
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in named.get("dbname", "default"))
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return home / "spool" / f"{name}-{digest[:12]}"


class Spool:
    """A folder of segments. Each writer has an object of its own, in whatever process or thread.

    Args:
        folder: where; made when it is first written to.
        segment_bytes: size at which the next segment is begun.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._open: int | None = None
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seal()

    def held(self) -> Held:
        """Return what lies in the folder, whoever wrote it."""
        sizes = []
        for path in self.segments():
            with suppress(FileNotFoundError):  # loaded just now
                sizes.append(path.stat().st_size)
        return Held(len(sizes), sum(sizes))

    def segments(self) -> list[Path]:
        """Return the segments in the order in which they were begun; none of a folder that cannot be read (`require_readable`)."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def require_readable(self) -> None:
        """Raise OSError where there is something that cannot be read: what lies in it is not known, and not nothing."""
        with suppress(FileNotFoundError), os.scandir(self.folder):
            pass

    def check(self) -> None:
        """Make the folder, and make sure that it can be written and read, before anything depends on it.

        Raises:
            SpoolError: it cannot. A disk that is full is no reason: it may have room when it matters.
        """
        try:
            _make(self.folder)
            self.require_readable()
            probe, name = tempfile.mkstemp(prefix="probe-", dir=self.folder)
            os.close(probe)
            Path(name).unlink()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise SpoolError(
                    f"the spool {self.folder} cannot be used ({error.strerror or error}): what arrives while the database is away "
                    "would be lost; --spool names another folder"
                ) from error

    # Writing

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines, each with its end; they are on disk when this returns, all or none.

        Raises:
            OSError: they cannot be written.
        """
        content = b"".join(lines)
        if self._open is None:
            self._open, self._length = self._begin(), 0
        try:
            written = 0
            while written < len(content):
                written += os.write(self._open, content[written:])
            os.fsync(self._open)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._open, self._length)
            self.seal()  # after a failed fsync nobody knows what of this file is on disk
            raise
        self._length += len(content)
        if self._length >= self._segment_bytes:
            self.seal()

    def seal(self) -> None:
        """End the segment that is being written, so that it can be loaded."""
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def _begin(self) -> int:
        _make(self.folder)
        while True:
            # Names sort by time; two clocks that disagree only put two writers' segments into another order.
            path = self.folder / f"{time.time_ns():020}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX)
                if os.fstat(opened).st_nlink:  # else somebody took the empty file for a dead process's
                    _sync(self.folder)
                    return opened
            except OSError:
                os.close(opened)
                raise
            os.close(opened)

    # Loading

    @contextmanager
    def loading(self) -> Iterator[bool]:
        """Be the one who loads segments; False when another process or thread is. Ends the segment that this object writes."""
        self.seal()
        _make(self.folder)
        with (self.folder / _LOCK).open("wb") as lock:
            yield _locked(lock)

    @contextmanager
    def claimed(self, path: Path) -> Iterator[BinaryIO | None]:
        """Open a segment for loading; None while its writer lives."""
        with path.open("rb") as file:
            yield file if _locked(file) else None

    def remove(self, path: Path) -> None:
        """Remove a segment of which everything is stored."""
        path.unlink()
        _sync(self.folder)


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
