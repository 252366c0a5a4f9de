"""Where a database stands: what of a folder is applied, pending, edited, missing, out of order. Reads only.

Exit statuses of `kalshidb status`, also as `Status.exit_code`: 0 up to date · 4 migrations are pending · 5 drifted (edited, missing,
out of order, interrupted, or files that break their lock) · 6 the database cannot be reached.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import psycopg

from kalshidb.migration import bookkeeping, integrity
from kalshidb.migration.bookkeeping import Record, YoyoLock
from kalshidb.migration.folder import Folder, Sources, read_folder
from kalshidb.migration.statements import Problem
from kalshidb.postgres import connect

UP_TO_DATE, PENDING, DRIFTED, UNREACHABLE = 0, 4, 5, 6

State = Literal["applied", "unmarked", "pending", "edited", "missing", "out of order", "interrupted"]
"""applied: with the content that the file has · unmarked: applied by plain yoyo, so nobody knows with which content · edited: the file
is not what was applied · missing: applied, and no file says how · out of order: pending, and something after it is applied ·
interrupted: begun outside of a transaction and not finished."""
_DRIFT: tuple[State, ...] = ("edited", "missing", "out of order", "interrupted")


@dataclass(frozen=True, slots=True)
class Line:
    """One migration."""

    id: str
    state: State
    at: datetime | None = None
    """When it was applied, UTC."""
    by: str | None = None
    """user@host."""
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A folder and a database, side by side."""

    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    """What is wrong with the folder, and with the files that are not applied yet."""
    hooks_pending: bool
    lock: YoyoLock | None
    running: int | None
    record: Record = field(repr=False)

    def having(self, *states: State) -> tuple[Line, ...]:
        """Return the migrations in any of these states."""
        return tuple(line for line in self.lines if line.state in states)

    @property
    def verdict(self) -> Literal["up to date", "pending", "drifted"]:
        """The whole in a word."""
        if self.having(*_DRIFT) or any(problem.code not in _HARMLESS for problem in self.problems):
            return "drifted"
        return "pending" if self.having("pending") or self.hooks_pending else "up to date"

    @property
    def exit_code(self) -> int:
        """The verdict as an exit status."""
        return {"up to date": UP_TO_DATE, "pending": PENDING, "drifted": DRIFTED}[self.verdict]


# Matters before a change lands, and says nothing about what is applied.
_HARMLESS = frozenset(
    {"unlocked", "stray", "directive", "gap", "duplicate", "depends", "split", "transaction", "syntax", "empty", "encoding"}
)


def status(url: str, sources: Sources = None) -> Status:
    """Compare a folder with a database. Needs no right but to read, and no table to be there.

    Raises:
        FolderError: the folder cannot be read.
        MigrationError: the role may not read yoyo's tables.
        kalshidb.postgres.DatabaseUnavailable: the database cannot be reached.
    """
    folder = read_folder(sources)
    return compare(folder, read_record(url))


def read_record(url: str) -> Record:
    """Read what a database knows, in one read-only transaction."""
    with connect(url, fallback_application_name="kalshidb status") as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return bookkeeping.read(connection)


def compare(folder: Folder, record: Record) -> Status:
    """Put a folder and what a database knows side by side."""
    applied = {one.id: one for one in record.applied}
    begun = {intent.migration_id: intent for intent in record.intents if intent.kind != "hooks"}
    positions = [position for position, one in enumerate(folder) if one.id in applied]
    last = max(positions, default=-1)
    lines: list[Line] = []
    for position, one in enumerate(folder):
        known, intent = applied.get(one.id), begun.get(one.id)
        if intent is not None:
            verb = "applying" if intent.kind == "apply" else "undoing"
            again = "kalshidb migrate" if intent.kind == "apply" else "kalshidb rollback"
            detail = f"{verb} it was broken off after {intent.done} of its statements; `{again}` goes on from there"
            lines.append(Line(one.id, "interrupted", known and known.at, known and known.by, detail))
        elif known is None:
            after = folder.migrations[last].id
            late = position < last
            lines.append(
                Line(one.id, "out of order", detail=f"{after}, which comes later, is applied")
                if late
                else Line(one.id, "pending")
            )
        elif known.sha256 is None:
            lines.append(
                Line(one.id, "unmarked", known.at, known.by, "applied by yoyo itself, which does not note what the file said")
            )
        elif known.sha256 != integrity.content_hash(one.path):
            lines.append(Line(one.id, "edited", known.at, known.by, f"{one.path} is not what was applied"))
        else:
            lines.append(Line(one.id, "applied", known.at, known.by))
    known_ids = {one.id for one in folder}
    lines += [
        Line(
            one.id,
            "missing",
            one.at,
            one.by,
            f"applied, and {folder.place} has no file for it: an older checkout, or a deleted file",
        )
        for one in record.applied
        if one.id not in known_ids
    ]
    # Files that are applied have proved themselves; to read them all takes yoyo seconds.
    lacking = {line.id for line in lines if line.at is None}
    problems = (
        *folder.strays,
        *(problem for one in folder if one.id in lacking for problem in one.problems),
        *integrity.verify(folder),
    )
    return Status(tuple(lines), problems, record.intent("hooks") is not None, record.lock, record.running, record)


def as_json(status: Status) -> dict[str, Any]:
    """Return a status for machines."""
    return {
        "verdict": status.verdict,
        "migrations": [
            {
                "id": line.id,
                "state": line.state,
                "applied_at": line.at and f"{line.at:%Y-%m-%dT%H:%M:%S.%fZ}",
                "by": line.by,
                "detail": line.detail,
            }
            for line in status.lines
        ],
        "problems": [
            {"code": problem.code, "path": str(problem.path), "line": problem.line, "message": problem.message}
            for problem in status.problems
        ],
        "hooks_pending": status.hooks_pending,
        "yoyo_lock": status.lock and {"pid": status.lock.pid, "since": f"{status.lock.since:%Y-%m-%dT%H:%M:%SZ}"},
        "running": status.running,
    }
