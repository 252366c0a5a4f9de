"""One process at a time changes a database's schema: the connection that does it, its locks, and one migration up or down on it.

Two kinds of migrations, two ways to be safe from `kill -9`:

- An ordinary one is one transaction, together with everything that marks it: yoyo's row, yoyo's log, our hash, and yoyo's lock (whose
  row is never committed, so it dies with the connection and still keeps a plain `yoyo apply` waiting). Each migration is a transaction
  of its own, not all of them one: locks are held no longer than one migration needs, a lock that is not to be had costs one
  migration's work, and what is done is done.
- A `-- transactional: false` one (CREATE INDEX CONCURRENTLY) goes statement by statement. What can be in a transaction is in one
  together with the note that it is done; before any other statement it is noted that it is begun and which indexes were there. A
  rerun knows from that what the dead one left: an invalid index is dropped and built again, a finished one is not built twice.

The lock of `kalshidb migrate` is an advisory lock of the session that works, asked for again and again instead of waited for: whoever
waits inside a statement holds a snapshot, and CREATE INDEX CONCURRENTLY would wait for it for ever. It needs a connection of its own:
a pooler that hands out server connections by transaction (pgbouncer in transaction mode) cannot be migrated through.
"""

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg
from psycopg.pq import TransactionStatus
from yoyo import internalmigrations
from yoyo.backends import get_backend_class
from yoyo.connections import parse_uri
from yoyo.migrations import default_migration_table

from kalshidb.migration import bookkeeping, integrity
from kalshidb.migration.bookkeeping import Intent
from kalshidb.migration.effects import relation_name
from kalshidb.migration.folder import Direction, Migration, MigrationError, Step
from kalshidb.migration.statements import SqlSyntaxError, Statement, parse_text
from kalshidb.postgres import connect, yoyo_url

APPLICATION = "kalshidb migrate"
# Somebody else was faster, or waits for us: trying again may succeed.
PASSING = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
# What a statement says that has been done before: only believed of one that was begun and whose end nobody saw.
DONE_ALREADY = frozenset({"42P07", "42710", "42P04", "42704", "42P01", "3D000"})


@dataclass(frozen=True, slots=True)
class Options:
    """How patient to be. Durations are PostgreSQL's: "5s", "500ms", "2min", "0" for no limit."""

    lock_timeout: str = "5s"
    """How long a statement may wait for a lock while others queue up behind it."""
    statement_timeout: str = "0"
    """How long a statement may run."""
    retries: int = 10
    """How often a migration that could not get a lock is tried again, each time after a longer pause."""
    wait: float = 600
    """Seconds to wait for another `kalshidb migrate` or `yoyo` that is at work."""
    pause: float = 0.5
    """Seconds of the first pause between tries; doubles each time, to at most 30, and varies by chance."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened, for those who watch."""

    kind: Literal["begin", "done", "undone", "hook", "waiting", "retry", "repair", "broke lock", "commits itself"]
    migration_id: str = ""
    seconds: float = 0
    detail: str = ""


Report = Callable[[Event], None]


def silent(_: Event) -> None:
    """Report to nobody."""


def nothing() -> None:
    """Do nothing."""


DEFAULTS = Options()


class Interrupted(MigrationError):  # noqa: N818  (it is what happened)
    """A statement failed; what it means for the rest is in the message."""


class Session:
    """The one connection that changes the schema. Made by `open_session`, which holds the lock."""

    def __init__(self, backend: Any, options: Options, report: Report) -> None:  # noqa: ANN401  (yoyo has no types)
        self.backend = backend
        self.connection: bookkeeping.Connection = backend.connection
        self.options = options
        self.report = report
        self.pid = os.getpid()
        row = self.connection.execute("SELECT current_setting('role'), current_setting('search_path')").fetchone()
        self.role: str
        self.search_path: str
        self.role, self.search_path = row or ("none", "public")

    # Up and down

    def carry_out(
        self,
        migration: Migration,
        direction: Direction,
        *,
        hooks: bool = False,
        prepare: Callable[[], None] = nothing,
        check: Callable[[], None] = nothing,
    ) -> bool:
        """Apply or undo one migration and mark it; False where somebody else has done so meanwhile.

        Args:
            migration: what to do.
            direction: up or down.
            hooks: note in the same transaction that hooks are to run.
            prepare: called first, inside the transaction; not for what is no transaction.
            check: called before the marks, inside the transaction; whatever it raises takes everything back.

        Raises:
            Interrupted: the server refuses a statement.
            MigrationError: a lock was not to be had in time.
        """
        begun = time.monotonic()
        self.report(Event("begin", migration.id))
        for attempt in range(self.options.retries + 1):
            self._wait_for_yoyo()
            try:
                if migration.transactional:
                    is_new = self._whole(migration, direction, begun, hooks, prepare, check)
                else:
                    is_new = self._by_statement(migration, direction, begun, hooks)
                if not is_new:
                    return False
                break
            except _YoyoIsFaster:
                continue
            except PASSING as error:
                if attempt == self.options.retries:
                    raise Interrupted(self._no_lock(migration, error)) from error
                pause = min(self.options.pause * 2**attempt, 30) * random.uniform(0.5, 1)  # noqa: S311  (so that two do not meet again)
                self.report(Event("retry", migration.id, pause, _first_line(error)))
                time.sleep(pause)
            finally:
                self._forget_settings()
        else:
            raise MigrationError(f"{migration.id}: yoyo was faster each time; run this again when it has finished")
        self.report(Event("done" if direction == "apply" else "undone", migration.id, time.monotonic() - begun))
        return True

    def _forget_settings(self) -> None:
        """Give the next migration what yoyo gives it: a session in which nobody has set anything or made a temporary table."""
        if self.connection.closed:
            return
        for text in (b"RESET SESSION AUTHORIZATION", b"RESET ROLE", b"RESET ALL", b"DISCARD TEMP"):
            self.connection.execute(text)
        _prepare(self.connection, self.options)

    def _as_at_first(self) -> None:
        """Until the transaction ends, be who and where the session was at first: yoyo's tables are found by the search_path."""
        self.connection.execute(
            "SELECT set_config('role', %s, true), set_config('search_path', %s, true)", [self.role, self.search_path]
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction of yoyo's backend, whose end does not hide why a connection was lost."""
        self.backend.begin()
        try:
            yield
        except BaseException:
            if not self.connection.closed:
                self.backend.rollback()
            raise
        self.backend.commit()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """A transaction about yoyo's tables and ours, whatever a migration has set meanwhile."""
        with self._transaction():
            self._as_at_first()
            yield

    def _note(self, intent: Intent) -> None:
        with self._noting():
            bookkeeping.put_intent(self.connection, intent)

    def _whole(
        self,
        migration: Migration,
        direction: Direction,
        begun: float,
        hooks: bool,
        prepare: Callable[[], None],
        check: Callable[[], None],
    ) -> bool:
        """Do it as one transaction, marks included."""
        with self._transaction():
            self._hold_yoyo_lock()
            if self._is_done(migration, direction):
                bookkeeping.drop_yoyo_lock(self.connection, self.pid)
                return False
            prepare()
            ours = self._transaction_number()
            for number, step in enumerate(migration.steps(direction), 1):
                self._run(migration, direction, step, number)
            self._still_ours(migration, ours)
            check()
            self._as_at_first()
            self._mark(migration, direction, begun, hooks)
            bookkeeping.drop_yoyo_lock(self.connection, self.pid)
        return True

    def _transaction_number(self) -> int:
        row = self.connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        return int(row[0]) if row else 0

    def _still_ours(self, migration: Migration, number: int) -> None:
        """A Python migration may have committed; then what it did stays, and is marked in a transaction of its own."""
        idle = self.connection.info.transaction_status is TransactionStatus.IDLE
        if not idle and self._transaction_number() == number:
            return
        self.report(Event("commits itself", migration.id, detail="a process killed in its middle leaves it half done"))
        if idle:
            self.connection.execute("BEGIN")  # yoyo's lock was committed with the rest, and goes with the marks

    def _is_done(self, migration: Migration, direction: Direction) -> bool:
        return bookkeeping.is_marked(self.connection, migration.yoyo.hash) == (direction == "apply")

    def _mark(self, migration: Migration, direction: Direction, begun: float, hooks: bool) -> None:
        self.backend.log_migration(migration.yoyo, direction)
        if direction == "apply":
            self.backend.mark_one(migration.yoyo, log=False)
            bookkeeping.note_content(
                self.connection, migration.yoyo.hash, integrity.content_hash(migration.path), round(time.monotonic() - begun, 3)
            )
        else:
            self.backend.unmark_one(migration.yoyo, log=False)
            bookkeeping.forget_content(self.connection, migration.yoyo.hash)
        if hooks:
            bookkeeping.put_intent(self.connection, Intent("hooks", "", "", 0, False, (), None))

    def mark(self, migration: Migration, *, is_marked: bool) -> None:
        """Mark a migration as applied, with the hash of its file, without running it."""
        self._wait_for_yoyo()
        with self._transaction():
            self._hold_yoyo_lock()
            if not is_marked:
                self.backend.mark_one(migration.yoyo)
            bookkeeping.note_content(self.connection, migration.yoyo.hash, integrity.content_hash(migration.path), None)
            bookkeeping.drop_yoyo_lock(self.connection, self.pid)
        self.report(Event("done", migration.id))

    def run_hooks(self, hooks: Sequence[Migration], done: int) -> None:
        """Run the `post-apply` files but for the first `done` ones, and log them, as yoyo does; they are never marked."""
        for position, hook in enumerate(hooks[done:], done + 1):
            begun = time.monotonic()
            steps = enumerate(hook.steps("apply"), 1)
            if not hook.transactional:
                for number, step in steps:
                    self._run(hook, "apply", step, number)
            with self._transaction():
                for number, step in steps:  # those of a hook without transaction are used up
                    self._run(hook, "apply", step, number)
                self._as_at_first()
                self.backend.log_migration(hook.yoyo, "apply")
                bookkeeping.put_intent(self.connection, Intent("hooks", "", "", position, False, (), None))
                if position == len(hooks):
                    bookkeeping.drop_intent(self.connection, "hooks")
            self._forget_settings()
            self.report(Event("hook", hook.id, time.monotonic() - begun))
        bookkeeping.drop_intent(self.connection, "hooks")

    def _run(self, migration: Migration, direction: Direction, step: Step, number: int) -> None:
        """Execute one step by yoyo's own code. Rows that a SELECT brings are shown on stderr: stdout is the command's."""
        try:
            with redirect_stdout(sys.stderr):
                if step.ignores_errors and migration.transactional:
                    try:
                        with self.backend.transaction():
                            step.run(self.backend)
                    except psycopg.DatabaseError:
                        return
                else:
                    step.run(self.backend)
        except PASSING:
            raise
        except psycopg.DatabaseError as error:
            if step.ignores_errors and not self.connection.closed:
                return
            if self.connection.closed:
                raise Interrupted(
                    f"{migration.id}: the connection was lost ({_first_line(error)}); what was not finished the server takes back. "
                    "Run this again"
                ) from error
            raise Interrupted(_refusal(migration, direction, step, number, error)) from error

    # Statement by statement

    def _by_statement(self, migration: Migration, direction: Direction, begun: float, hooks: bool) -> bool:
        """Do it outside of a transaction, so that a rerun can go on wherever it is broken off."""
        units = _units(migration.steps(direction))
        intent = self._resume(migration, direction, units)
        with self._transaction():
            self._hold_yoyo_lock()
            if intent.done == 0 and self._is_done(migration, direction):
                bookkeeping.drop_yoyo_lock(self.connection, self.pid)
                return False
            bookkeeping.put_intent(self.connection, intent)
        # From here the lock is committed: one that is not would have to be held by a transaction, and CONCURRENTLY waits for those.
        try:
            for position, unit in enumerate(units):
                if position < intent.done:
                    if unit.is_setting:
                        self._run_unit(migration, direction, unit, position)
                    continue
                intent = self._advance(migration, direction, unit, replace(intent, done=position), units)
            with self._noting():
                self._mark(migration, direction, begun, hooks)
                bookkeeping.drop_intent(self.connection, direction)
                bookkeeping.drop_yoyo_lock(self.connection, self.pid)
        except BaseException:
            if not self.connection.closed:
                if self.connection.info.transaction_status is not TransactionStatus.IDLE:
                    self.backend.rollback()
                with self._noting():
                    bookkeeping.drop_yoyo_lock(self.connection, self.pid)
            raise
        return True

    def _resume(self, migration: Migration, direction: Direction, units: "list[_Unit]") -> Intent:
        """Return where to begin: at the first statement, or where a dead one stopped.

        Raises:
            MigrationError: something else was broken off, or the statements that are done read differently now.
        """
        record = bookkeeping.read(self.connection)
        for kind in ("apply", "rollback"):
            known = record.intent(kind)
            if known is None:
                continue
            if (known.migration_id, kind) != (migration.id, direction):
                verb = "applying" if kind == "apply" else "undoing"
                command = "migrate" if kind == "apply" else "rollback"
                what = f"{verb} {known.migration_id} was broken off"
                raise MigrationError(f"{what}; `kalshidb {command}` finishes that first")
            if known.content_sha256 != _hash(units[: known.done]):
                raise MigrationError(
                    f"{migration.id}: its first {known.done} statements are done and read differently now; restore them, and change "
                    "only what comes after. (Or undo by hand what they did, and empty the table _yoyo_kalshidb_intent.)"
                )
            return replace(known, lock_pid=self.pid)
        return Intent(direction, migration.id, _hash([]), 0, False, (), self.pid)

    def _advance(self, migration: Migration, direction: Direction, unit: "_Unit", intent: Intent, units: "list[_Unit]") -> Intent:
        """Do one unit, and note so."""
        position = intent.done
        after = replace(
            intent, done=position + 1, attempting=False, indexes_before=(), content_sha256=_hash(units[: position + 1])
        )
        if unit.fits_in_transaction:
            with self._transaction():
                self._run_unit(migration, direction, unit, position)
                self._as_at_first()
                bookkeeping.put_intent(self.connection, after)
            return after
        resumed = intent.attempting
        if resumed:
            self.report(Event("repair", migration.id, detail=f"statement {position + 1} was broken off"))
            if unit.statement is not None and self._finish(unit.statement, intent):
                self._note(after)
                return after
        else:
            if unit.statement is not None and unit.statement.kind == "index_stmt":
                self._drop_broken_namesake(migration, unit.statement)
            before = bookkeeping.indexes_of(self.connection, _table_of(unit.statement))
            intent = replace(intent, attempting=True, indexes_before=tuple(before))
            self._note(intent)
        try:
            self._run_unit(migration, direction, unit, position)
        except (Interrupted, *PASSING) as error:
            done = isinstance(error.__cause__, psycopg.Error) and error.__cause__.sqlstate in DONE_ALREADY
            if not (resumed and done):
                self._drop_new_broken(unit.statement, intent)
                self._note(replace(intent, attempting=False))
                raise
        self._note(after)
        return after

    def _run_unit(self, migration: Migration, direction: Direction, unit: "_Unit", position: int) -> None:
        if unit.blocks_nobody:  # so its own patience may be endless: it waits for transactions that are older than itself
            self.connection.execute("SELECT set_config('lock_timeout', '0', false)")
        try:
            for step in unit.steps:
                self._run(migration, direction, step, position + 1)
        finally:
            if unit.blocks_nobody and not self.connection.closed:
                self.connection.execute("SELECT set_config('lock_timeout', %s, false)", [self.options.lock_timeout])

    def _finish(self, statement: Statement, intent: Intent) -> bool:
        """Look what a broken-off statement has left, put that right, and say whether there is nothing more to do."""
        if statement.kind == "index_stmt":
            self._drop_new_broken(statement, intent)
            return bool(self._new_indexes(statement, intent))
        if statement.kind == "reindex_stmt":
            self._drop_new_broken(statement, intent)
            return False
        if statement.kind == "drop_stmt":
            return not any(bookkeeping.exists(self.connection, lock.relation) for lock in statement.effect.locks if lock.named)
        partition = _detached(statement)
        if partition is None:
            return False
        pending = bookkeeping.detaching(self.connection, partition)
        if pending:
            names = (relation_name(statement.node.alter_table_stmt.relation), partition)
            table, part = (bookkeeping.proper_name(self.connection, name) for name in names)
            self.connection.execute(f"ALTER TABLE {table} DETACH PARTITION {part} FINALIZE".encode())
        return pending is not False

    def _new_indexes(self, statement: Statement, intent: Intent) -> dict[int, tuple[str, bool]]:
        now = bookkeeping.indexes_of(self.connection, _table_of(statement))
        return {number: index for number, index in now.items() if number not in intent.indexes_before}

    def _drop_new_broken(self, statement: Statement | None, intent: Intent) -> None:
        """Drop the invalid indexes that a broken-off CREATE INDEX or REINDEX CONCURRENTLY has left."""
        if statement is None or statement.kind not in ("index_stmt", "reindex_stmt"):
            return
        for name, valid in self._new_indexes(statement, intent).values():
            if not valid:
                self._drop_index(intent.migration_id, name)

    def _drop_broken_namesake(self, migration: Migration, statement: Statement) -> None:
        """Drop an invalid index of the same name: IF NOT EXISTS would take it for a good one, and without that it is in the way."""
        wanted = [bookkeeping.proper_name(self.connection, name) for name in statement.effect.creates]
        for name, valid in bookkeeping.indexes_of(self.connection, _table_of(statement)).values():
            if not valid and name in wanted:
                self._drop_index(migration.id, name)

    def _drop_index(self, migration_id: str, name: str) -> None:
        self.report(Event("repair", migration_id, detail=f"drops {name}, which a broken-off build has left invalid"))
        self.connection.execute("SELECT set_config('lock_timeout', '0', false)")
        self.connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())
        self.connection.execute("SELECT set_config('lock_timeout', %s, false)", [self.options.lock_timeout])

    # yoyo's lock

    def _hold_yoyo_lock(self) -> None:
        try:
            bookkeeping.take_yoyo_lock(self.connection, self.pid)
        except (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable) as error:
            raise _YoyoIsFaster from error
        except psycopg.errors.InsufficientPrivilege as error:
            user = self.connection.info.user
            raise MigrationError(
                f"role {user} may not write yoyo's tables ({_first_line(error)}); migrations are the owner's work: connect as the role "
                "that owns the schema"
            ) from None

    def _wait_for_yoyo(self) -> None:
        """Wait until no yoyo holds its lock; remove the lock of one that is provably gone.

        Raises:
            MigrationError: it does not end; names who may hold it.
        """
        end, told = time.monotonic() + self.options.wait, False
        while True:
            record = bookkeeping.read(self.connection)
            lock = record.lock
            if lock is None:
                return
            ours = any(intent.lock_pid == lock.pid for intent in record.intents)
            holders = [] if ours else bookkeeping.possible_holders(self.connection, lock)
            if not holders:
                bookkeeping.drop_yoyo_lock(self.connection, lock.pid, lock.since)
                self.report(
                    Event(
                        "broke lock",
                        detail=f"process {lock.pid} had taken yoyo's lock at {lock.since:%Y-%m-%d %H:%M:%S} and is gone",
                    )
                )
                return
            who = ", ".join(
                f"server process {one.pid} ({one.user}{f' from {one.address}' if one.address else ''})" for one in holders[:4]
            )
            if time.monotonic() > end:
                raise MigrationError(
                    f"process {lock.pid} took yoyo's lock at {lock.since:%Y-%m-%d %H:%M:%S} UTC and has not let go of it in "
                    f"{self.options.wait:g} s. It may be any of these sessions: {who}. If it is none of them, its process was killed: "
                    "`yoyo break-lock` removes the lock"
                )
            if not told:
                self.report(Event("waiting", detail=f"yoyo is at work: process {lock.pid}, perhaps {who}"))
                told = True
            time.sleep(0.2)

    def _no_lock(self, migration: Migration, error: psycopg.Error) -> str:
        return (
            f"{migration.id}: no luck in {self.options.retries + 1} tries ({_first_line(error)}; --lock-timeout "
            f"{self.options.lock_timeout}). Nothing of it is done. Try when fewer long transactions run, or with more --retries"
        )


class _YoyoIsFaster(Exception):  # noqa: N818  (caught here, and no error)
    """A yoyo has taken its lock in between."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """Steps that are done together: one, or those between a BEGIN and its COMMIT."""

    steps: tuple[Step, ...]
    statement: Statement | None
    """Where it is a single statement."""
    fits_in_transaction: bool
    is_setting: bool
    blocks_nobody: bool


def _units(steps: list[Step]) -> list[_Unit]:
    units: list[_Unit] = []
    block: list[Step] | None = None
    for step in steps:
        statements = _parsed(step)
        control = [one.title.split()[0].rstrip(";").upper() for one in statements or () if one.effect.transaction == "ends"]
        if control and control[0] in ("BEGIN", "START"):
            block = []
        elif control and block is not None and control[0] in ("COMMIT", "END"):
            units.append(_Unit(tuple(block), None, True, False, False))
            block = None
        elif block is not None:
            block.append(step)
        else:
            units.append(_unit(step, statements))
    return units + [_unit(step, _parsed(step)) for step in block or ()]


def _parsed(step: Step) -> tuple[Statement, ...] | None:
    try:
        return None if step.sql is None else parse_text(step.sql)
    except SqlSyntaxError:
        return None


def _unit(step: Step, statements: tuple[Statement, ...] | None) -> _Unit:
    if statements is None:
        return _Unit((step,), None, False, False, False)
    fits = all(one.effect.transaction == "any" and one.kind not in ("do_stmt", "call_stmt") for one in statements)
    single = statements[0] if len(statements) == 1 else None
    mild = (
        single is not None and not fits and all(lock.level <= 4 for lock in single.effect.locks)
    )  # up to SHARE UPDATE EXCLUSIVE
    return _Unit((step,), single, fits, all(one.kind == "variable_set_stmt" for one in statements), mild)


def _hash(units: list[_Unit]) -> str:
    texts = [
        step.sql if step.sql is not None else getattr(step.action, "__name__", "function")
        for unit in units
        for step in unit.steps
    ]
    lines = [" ".join(text.split()) for text in texts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _table_of(statement: Statement | None) -> str:
    """Return the table that a statement is about, or the index where it names only that; "" where neither."""
    if statement is None:
        return ""
    return next((lock.relation for lock in statement.effect.locks if lock.named), "")


def _detached(statement: Statement) -> str | None:
    if statement.kind != "alter_table_stmt":
        return None
    for node in statement.node.alter_table_stmt.cmds:
        definition = getattr(node.alter_table_cmd, "def")
        if definition.HasField("partition_cmd") and definition.partition_cmd.concurrent:
            return relation_name(definition.partition_cmd.name)
    return None


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _refusal(migration: Migration, direction: Direction, step: Step, number: int, error: psycopg.Error) -> str:
    """Say which statement of which file the server refuses, why, and what is left."""
    path = migration.path
    if direction == "rollback" and migration.rollback_file is not None:
        path = migration.rollback_path
    place, shown = f"{path}", ""
    if step.sql is not None:
        title = next((line for line in step.sql.splitlines() if line.strip() and not line.lstrip().startswith("--")), step.sql)
        shown = f"\n  in statement {number}: {title.strip()[:120]}"
        with suppress(OSError, ValueError):
            text = path.read_text(encoding="utf-8")
            place = f"{path}:{text.count(chr(10), 0, text.index(title)) + 1}"
    else:
        shown = f"\n  in {getattr(step.action, '__name__', 'a function')}()"
    detail = "".join(
        f"\n  {word}: {text}" for word, text in (("detail", error.diag.message_detail), ("hint", error.diag.message_hint)) if text
    )
    left = (
        "Nothing of this migration is applied; those before it are."
        if migration.transactional and direction == "apply"
        else "Nothing of this rollback is done."
        if migration.transactional
        else f"It is no transaction: what comes before is done and noted. Mend it and run this again: it goes on with statement {number}."
    )
    if error.sqlstate in ("42P07", "42710", "42P06") and direction == "apply":
        left += (
            " It is there and not marked: a plain `yoyo apply` that was killed leaves that, and so does SQL run by hand. Compare; "
            f"then drop it, or mark it with `kalshidb baseline --to {migration.id}`."
        )
    return f"{place}: {error.diag.message_primary or _first_line(error)}{shown}{detail}\n  {left}"


# Opening


@contextmanager
def open_session(url: str, options: Options = DEFAULTS, report: Report = silent) -> Iterator[Session]:
    """Give the connection that may change the schema: nobody else has one at the same time, yoyo included.

    Raises:
        MigrationError: another one is at work and does not end, or the role may not do this.
        kalshidb.postgres.DatabaseUnavailable: the database cannot be reached.
    """
    connect(url).close()  # says better than yoyo why it cannot be reached
    parsed = parse_uri(yoyo_url(url))
    backend = get_backend_class(parsed.scheme)(parsed, default_migration_table)
    try:
        backend.connection.prepare_threshold = None  # a migration may DISCARD what is prepared
        _prepare(backend.connection, options)
        session = Session(backend, options, report)
        _lock(session)
        _make_tables(session)
        yield session
    finally:
        # yoyo leaves its connection open, and an open one keeps a template database from being cloned.
        backend.connection.close()


def _prepare(connection: bookkeeping.Connection, options: Options) -> None:
    settings = {
        "application_name": APPLICATION,
        "lock_timeout": options.lock_timeout,
        "statement_timeout": options.statement_timeout,
    }
    for name, value in settings.items():
        try:
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        except psycopg.errors.InvalidParameterValue:
            raise MigrationError(
                f"--{name.replace('_', '-')} {value!r} is no duration; write 5s, 500ms, 2min, or 0 for no limit"
            ) from None
    # A laptop that sleeps in the middle must not end it.
    connection.execute("SELECT set_config('idle_in_transaction_session_timeout', '0', false)")


def _lock(session: Session) -> None:
    end, told = time.monotonic() + session.options.wait, False
    while not bookkeeping.try_lock(session.connection):
        if time.monotonic() > end:
            raise MigrationError(
                f"another kalshidb migrate is at work and has not ended in {session.options.wait:g} s; run this again when it has"
            )
        if not told:
            session.report(Event("waiting", detail="another kalshidb migrate is at work"))
            told = True
        time.sleep(random.uniform(0.05, 0.25))  # noqa: S311  (so that the waiting do not come all at once)


def _make_tables(session: Session) -> None:
    """Make yoyo's tables and ours where they are missing, in one transaction that holds yoyo's lock."""
    connection, backend = session.connection, session.backend
    try:
        if not bookkeeping.exists(connection, backend.lock_table):
            backend.create_lock_table()
            connection.execute("SELECT FROM yoyo_lock")
        ours = ("_yoyo_kalshidb_content", "_yoyo_kalshidb_intent")
        while not bookkeeping.has_yoyo_tables(connection) or not all(bookkeeping.exists(connection, table) for table in ours):
            session._wait_for_yoyo()
            try:
                with session._transaction():
                    session._hold_yoyo_lock()
                    if not bookkeeping.has_yoyo_tables(connection):
                        internalmigrations.upgrade(backend)
                    bookkeeping.make_tables(connection)
                    bookkeeping.drop_yoyo_lock(connection, session.pid)
            except _YoyoIsFaster:
                continue
        # yoyo would look for them in the first schema of the search_path alone, which a migration may make.
        backend._internal_schema_updated = True
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        row = connection.execute("SELECT current_user, COALESCE(current_schema(), 'none')").fetchone() or ("?", "?")
        raise MigrationError(
            f"role {row[0]} may not make yoyo's tables in schema {row[1]} ({_first_line(error)}); migrations are the owner's work: "
            f"connect as the role that owns the schema, or GRANT CREATE ON SCHEMA {row[1]} TO {row[0]}"
        ) from None
