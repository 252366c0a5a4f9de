"""Applies, undoes and marks migrations: what `kalshidb migrate`, `rollback` and `baseline` do. How one migration is carried out safely
is in kalshidb.migration.session; what would be done, without doing it, in kalshidb.migration.plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg

from kalshidb.migration import bookkeeping
from kalshidb.migration.folder import Folder, Migration, MigrationError, Sources, Step, read_folder
from kalshidb.migration.session import DEFAULTS, Options, Report, Session, open_session, silent
from kalshidb.migration.state import Status, compare, read_record
from kalshidb.migration.statements import Problem, effects_of_text

# What keeps a file that is to be applied from being applied.
_UNSOUND = frozenset({"encoding", "syntax", "empty", "split", "directive", "transaction"})
# What keeps everything from being applied, because history is not what it was.
_REWRITTEN = frozenset({"lock", "vanished", "edited", "reordered", "out-of-order"})


class Refused(MigrationError):  # noqa: N818  (it is what happened)
    """Nothing was done, and why."""


class Lost(NamedTuple):
    """Stored data that a rollback would destroy."""

    relation: str
    column: str | None
    """None where rows are meant."""
    rows: int
    """How many; COUNTED means that many or more."""
    how: str
    """"drops", "deletes from", "overwrites" …"""

    def __str__(self) -> str:
        many = f"{self.rows:,}{' or more' if self.rows >= COUNTED else ''} row{'s' if self.rows != 1 else ''}"
        if self.column is not None:
            return f"{self.how} {self.relation}.{self.column}, which has a value in {many}"
        return f"{self.how} {self.relation}: {many}"


COUNTED = 1_000_000
"""Rows are counted up to here: to refuse, a billion need not be read."""


class DataLoss(Refused):
    """A rollback would destroy stored data."""

    def __init__(self, migration_id: str, losses: Sequence[Lost]) -> None:
        self.migration_id, self.losses = migration_id, tuple(losses)
        super().__init__(
            f"undoing {migration_id} would lose data, so it was not done:\n"
            + "\n".join(f"  {loss}" for loss in losses)
            + "\n--allow-data-loss undoes it all the same; a backup first is cheap"
        )


def pending(url: str, sources: Sources = None) -> tuple[list[str], list[str]]:
    """Return the ids of the migrations that the database lacks, and of those that it has. Reads only."""
    folder = read_folder(sources)
    has = {one.id for one in read_record(url).applied}
    return [one.id for one in folder if one.id not in has], [one.id for one in folder if one.id in has]


def migrate(
    url: str,
    sources: Sources = None,
    *,
    to: str | None = None,
    options: Options = DEFAULTS,
    allow_out_of_order: bool = False,
    report: Report = silent,
) -> list[str]:
    """Apply every migration that the database lacks, in order, and return the ids of those applied.

    A process that is killed at any moment leaves each migration either applied and marked or neither; a rerun goes on. Several
    processes may do this at once, plain `yoyo apply` among them: one works, the others wait.

    Args:
        url: address of the database, `postgresql://…`; psycopg 3 is used whatever the scheme says.
        sources: where the migrations lie; the project's own by default.
        to: the last one to apply (id, the beginning of one, or its number); all by default.
        options: timeouts and patience.
        allow_out_of_order: also apply what comes before something that is applied.
        report: is told what happens.

    Raises:
        Refused: the files or the database are not what they were, with the names; nothing was done.
        Interrupted: the server refuses a statement; the migrations before it are applied.
        MigrationError: another process is at work and does not end, or the role may not do this.
        kalshidb.postgres.DatabaseUnavailable: the database cannot be reached.
    """
    folder = read_folder(sources)
    wanted = folder.migrations if to is None else folder.up_to(to)
    status = compare(folder, read_record(url))
    check_before_migrate(folder, wanted, status, allow_out_of_order=allow_out_of_order)
    if not _lacking(wanted, status) and not status.hooks_pending:
        return []
    applied: list[str] = []
    with open_session(url, options, report) as session:
        while True:
            # Anew each time: while this one waited, another process, or yoyo, may have gone on.
            status = compare(folder, bookkeeping.read(session.connection))
            check_before_migrate(folder, wanted, status, allow_out_of_order=allow_out_of_order)
            lacking = _lacking(wanted, status)
            if not lacking:
                break
            if session.carry_out(lacking[0], "apply", hooks=bool(folder.hooks)):
                applied.append(lacking[0].id)
        if hooks := status.record.intent("hooks"):
            session.run_hooks(folder.hooks, hooks.done)
    return applied


def _lacking(wanted: Sequence[Migration], status: Status) -> list[Migration]:
    open_ = {line.id for line in status.having("pending", "out of order", "interrupted") if line.at is None}
    return [one for one in wanted if one.id in open_]


def check_before_migrate(
    folder: Folder, wanted: Sequence[Migration], status: Status, *, allow_out_of_order: bool = False
) -> None:
    """Refuse to apply where files or history are not as they must be.

    Raises:
        Refused: names every file.
    """
    lacking = _lacking(wanted, status)
    paths = {one.path: one for one in lacking}
    reasons = [str(problem) for problem in status.problems if _keeps(problem, paths, allow_out_of_order=allow_out_of_order)]
    for line in status.having("edited", "missing"):
        reasons.append(f"{line.id}: {line.detail}")
    for line in status.having("interrupted"):
        if line.at is not None:
            reasons.append(f"{line.id}: {line.detail}")
    if not allow_out_of_order:
        late = [line for line in status.having("out of order") if line.id in {one.id for one in lacking}]
        reasons += [f"{line.id} is not applied, but {line.detail}; --allow-out-of-order applies it all the same" for line in late]
    if reasons:
        raise Refused("nothing was applied:\n" + "\n".join(f"  {reason}" for reason in dict.fromkeys(reasons)))


def _keeps(problem: Problem, lacking: dict[Path, Migration], *, allow_out_of_order: bool) -> bool:
    if problem.code == "out-of-order" and allow_out_of_order:
        return False
    return problem.code in _REWRITTEN or (problem.code in _UNSOUND and problem.path in lacking)


# Undoing


def rollback(
    url: str,
    sources: Sources = None,
    *,
    to: str | None = None,
    allow_data_loss: bool = False,
    options: Options = DEFAULTS,
    report: Report = silent,
) -> list[str]:
    """Undo the last migration, or all after one, newest first, and return the ids of those undone.

    Before a rollback is committed it is compared what was there and what is left: tables and columns that are gone, rows deleted or
    overwritten. Where that was not empty, it is taken back and refused.

    Args:
        url: address of the database.
        sources: where the migrations lie; the project's own by default.
        to: the last one that stays (id, beginning, or number); "0" undoes all. Only the last one is undone by default.
        allow_data_loss: undo also where stored data goes with it.
        options: timeouts and patience.
        report: is told what happens.

    Raises:
        Refused: a migration is irreversible, has no rollback, or its file is gone; nothing was done.
        DataLoss: names tables and rows; this migration and those before it stay.
        Interrupted: the server refuses a statement; those after this migration are undone.
    """
    folder = read_folder(sources)
    undone: list[str] = []
    targets = targets_of_rollback(folder, compare(folder, read_record(url)), to)
    if not targets:
        return []
    if not allow_data_loss:
        with psycopg.connect(url) as looking:  # before anything is locked
            looking.read_only = True
            for one in targets:
                if losses := foreseen_losses(looking, one):
                    raise DataLoss(one.id, losses)
    with open_session(url, options, report) as session:
        for one in targets:
            has = {known.id for known in bookkeeping.read(session.connection).applied}
            if one.id in has and _undo(session, one, allow_data_loss=allow_data_loss):
                undone.append(one.id)
    return undone


def targets_of_rollback(folder: Folder, status: Status, to: str | None) -> list[Migration]:
    """Return what a rollback undoes, newest first.

    Raises:
        Refused: one of them cannot be undone; names all of those.
    """
    has = {line.id for line in status.lines if line.at is not None}
    applied = [one for one in folder if one.id in has]
    if to is None:
        targets = applied[-1:]
    elif to in ("0", "zero"):
        targets = applied
    else:
        stays = folder.migrations.index(folder.find(to))
        targets = [one for one in applied if folder.migrations.index(one) > stays]
    reasons = [f"{line.id}: {line.detail}" for line in status.having("missing")]
    reasons += [f"{line.id}: {line.detail}" for line in status.having("interrupted") if line.at is None]
    for one in targets:
        if one.irreversible is not None:
            reasons.append(f"{one.id} is irreversible: {one.irreversible or 'no reason is given'}")
        elif not one.can_be_undone:
            what = one.rollback_path if one.file is not None else "a rollback in its step()"
            reasons.append(
                f"{one.id} has no rollback: write {what}; `yoyo unmark -r {one.id}` forgets it and leaves what it made"
            )
        elif one.rollback_file is not None:
            unsound = [problem for problem in one.rollback_file.problems if problem.code in _UNSOUND]
            reasons += [str(problem) for problem in unsound]
    reasons += [str(problem) for problem in status.problems if problem.code in ("lock", "rollback-edited")]
    if reasons and targets:
        raise Refused("nothing was undone:\n" + "\n".join(f"  {reason}" for reason in reasons))
    return list(reversed(targets))


def _undo(session: Session, one: Migration, *, allow_data_loss: bool) -> bool:
    if allow_data_loss:
        return session.carry_out(one, "rollback", check=partial(_nothing_stays, session, one))
    if not one.transactional:
        if losses := foreseen_losses(session.connection, one):
            raise DataLoss(one.id, losses)
        if unknown := [what for step in one.steps("rollback") for what in _untold(step)]:
            raise Refused(
                f"{one.id} was not undone: what {', '.join(dict.fromkeys(unknown))} would lose cannot be told from the text, and it is no "
                "transaction that could be looked at and taken back; --allow-data-loss undoes it all the same"
            )
        return session.carry_out(one, "rollback")
    # What its text does not say (CASCADE, DO, Python) shows when it has been done; then it is taken back, and counted.
    empty = {(name, column) for name, column, _ in _foreseen(session.connection, one)}
    while True:
        checking = _Checking(session, one, _Snapshot.of(session.connection), frozenset(empty))
        try:
            return session.carry_out(one, "rollback", prepare=checking.lock_what_is_empty, check=checking.compare)
        except _Gone as gone:
            losses = [
                loss for name, column, how in gone.what if (loss := _count(session.connection, name, column, how)) is not None
            ]
            if losses:
                raise DataLoss(one.id, losses) from None
            empty |= {(name, column) for name, column, _ in gone.what}


def _nothing_stays(session: Session, one: Migration) -> None:
    """Look, before a rollback is committed, for what steps in Python have made that have no way back: yoyo would forget it, and applying
    the migration again would find it there.

    Raises:
        Refused: names it.
    """
    made = [
        name
        for action in one.one_way
        if isinstance(action, str) and "IF NOT EXISTS" not in action.upper()  # which may have been there before
        for effect in effects_of_text(action)
        for name in effect.creates
    ]
    if left := [name for name in dict.fromkeys(made) if bookkeeping.exists(session.connection, name)]:
        raise Refused(
            f"{one.id} was not undone: it would leave {', '.join(left)}, as the step that makes it has no way back; write one, the second "
            f"argument of that step(), in {one.path}"
        )


class _Gone(Exception):  # noqa: N818  (caught here)
    """A rollback, before its commit, has removed what nobody has counted yet."""

    def __init__(self, what: list[tuple[str, str | None, str]]) -> None:
        self.what = what


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Tables with their columns, and their storage."""

    columns: dict[tuple[int, int], tuple[str, str]]
    files: dict[int, tuple[str, int, bool]]

    @classmethod
    def of(cls, connection: bookkeeping.Connection) -> "_Snapshot":
        columns = connection.execute(
            "SELECT c.oid, attnum, c.oid::regclass::text, quote_ident(attname) FROM pg_class c JOIN pg_attribute ON attrelid = c.oid"
            " JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND NOT relispartition"
            " AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND relname !~ '^_?yoyo_'"
        ).fetchall()
        files = connection.execute(
            "SELECT c.oid, c.oid::regclass::text, relfilenode, relispartition FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND relname !~ '^_?yoyo_'"
        ).fetchall()
        return cls(
            {(table, number): (name, column) for table, number, name, column in columns},
            {table: (name, file, is_partition) for table, name, file, is_partition in files},
        )


@dataclass(frozen=True, slots=True)
class _Checking:
    """What a rollback does, looked at inside its transaction."""

    session: Session
    migration: Migration
    before: _Snapshot
    empty: frozenset[tuple[str, str | None]]
    """Tables, and columns of tables, that are known to hold nothing."""

    def lock_what_is_empty(self) -> None:
        """Keep out who would fill it now.

        Raises:
            DataLoss: somebody has.
        """
        connection = self.session.connection
        for table, column in sorted(self.empty, key=str):
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            if loss := _count(connection, table, column, "drops"):
                raise DataLoss(self.migration.id, [loss])

    def compare(self) -> None:
        """Find tables and columns that are gone and rows that were changed.

        Raises:
            _Gone: something is gone that was not known to be empty.
            DataLoss: rows were deleted or overwritten.
            Refused: something is left that would be forgotten.
        """
        _nothing_stays(self.session, self.migration)
        connection = self.session.connection
        changed = connection.execute(
            "SELECT relid::regclass::text, n_tup_del, n_tup_upd FROM pg_stat_xact_user_tables"
            " WHERE n_tup_del + n_tup_upd > 0 AND relname !~ '^_?yoyo_'"
        ).fetchall()
        losses = [
            Lost(name, None, rows, how)
            for name, deleted, updated in changed
            for rows, how in ((deleted, "deletes from"), (updated, "overwrites in"))
            if rows
        ]
        if losses:
            raise DataLoss(self.migration.id, losses)
        unknown = [(name, column, how) for name, column, how in self._gone() if (name, column) not in self.empty]
        if unknown:
            raise _Gone(unknown)

    def _gone(self) -> list[tuple[str, str | None, str]]:
        now = _Snapshot.of(self.session.connection)
        gone: list[tuple[str, str | None, str]] = []
        for table, (name, file, is_partition) in self.before.files.items():
            if table not in now.files:
                if not is_partition or (name, None) in self.empty:
                    gone.append((name, None, "drops"))
            elif now.files[table][1] != file:
                current = now.files[table][0]
                if self.session.connection.execute(f"SELECT EXISTS (SELECT FROM {current})".encode()).fetchone() == (False,):  # noqa: S608
                    gone.append((name, None, "empties"))
        gone += [
            (name, column, "drops")
            for key, (name, column) in self.before.columns.items()
            if key not in now.columns and key[0] in now.files
        ]
        return gone


def foreseen_losses(connection: bookkeeping.Connection, one: Migration) -> list[Lost]:
    """Return what a rollback destroys as far as its text says, with the rows there are now. Reads only."""
    found = [_count(connection, name, column, how) for name, column, how in _foreseen(connection, one)]
    return [loss for loss in found if loss is not None]


def _foreseen(connection: bookkeeping.Connection, one: Migration) -> list[tuple[str, str | None, str]]:
    """Return existing tables and columns that the text of a rollback takes away or changes, and how."""
    words = {"table": "drops", "column": "drops", "rows": "deletes from", "values": "overwrites in"}
    found: dict[tuple[str, str | None], str] = {}
    for step in one.steps("rollback"):
        for effect in effects_of_text(step.sql) if step.sql is not None else ():
            for loss in effect.loses:
                name = bookkeeping.proper_name(connection, loss.relation) if loss.what in words else None
                if name is not None and (loss.column is None or bookkeeping.has_column(connection, name, loss.column)):
                    column = None if loss.column is None else bookkeeping.quoted(connection, loss.column)
                    found.setdefault((name, column), words[loss.what])
    return [(name, column, how) for (name, column), how in found.items()]


def _untold(step: Step) -> list[str]:
    """Return what of a step may lose data without its text saying which."""
    if step.sql is None:
        return [getattr(step.action, "__name__", "a function")]
    effects = effects_of_text(step.sql)
    found = [loss.relation for effect in effects for loss in effect.loses if loss.what == "unknown"]
    return found or [note for effect in effects if effect.opaque for note in effect.notes]


def _count(connection: bookkeeping.Connection, relation: str, column: str | None, how: str) -> Lost | None:
    """Count the rows of a table, or those with a value in a column; None where there are none."""
    where = f" WHERE {column} IS NOT NULL" if column is not None else ""
    row = connection.execute(f"SELECT count(*) FROM (SELECT FROM {relation}{where} LIMIT {COUNTED}) counted".encode()).fetchone()  # noqa: S608
    return Lost(relation, column, row[0], how) if row and row[0] else None


# Marking what is there already


def baseline(
    url: str,
    sources: Sources = None,
    *,
    to: str | None = None,
    options: Options = DEFAULTS,
    report: Report = silent,
) -> list[str]:
    """Mark migrations as applied whose schema the database has already, with the hash of their files, and run nothing.

    Also gives those their hash that plain yoyo has applied. Every relation that the files make, and do not drop again, must be there.

    Returns:
        The ids that are marked now and were not, or had no hash.

    Raises:
        Refused: the database lacks what a migration makes.
        FolderError: a file cannot be loaded; nothing was marked.
    """
    folder = read_folder(sources)
    wanted = folder.migrations if to is None else folder.up_to(to)
    for one in wanted:
        _ = one.yoyo  # before the first is marked: one that cannot be loaded keeps all from it
    marked: list[str] = []
    with open_session(url, options, report) as session:
        absent = [name for name in _made_by(wanted) if not bookkeeping.exists(session.connection, name)]
        if absent:
            shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
            raise Refused(f"nothing was marked: the database lacks {shown}; `--to` says up to which migration it has the schema")
        known = {one.id: one for one in bookkeeping.read(session.connection).applied}
        for one in wanted:
            if one.id in known and known[one.id].sha256 is not None:
                continue
            session.mark(one, is_marked=one.id in known)
            marked.append(one.id)
    return marked


def _made_by(migrations: Sequence[Migration]) -> list[str]:
    """Return the relations that these migrations make and do not drop or rename again, where their SQL says so."""
    made: dict[str, None] = {}
    for one in migrations:
        for statement in one.file.statements if one.file is not None else ():
            if statement.kind in ("drop_stmt", "rename_stmt", "alter_object_schema_stmt"):
                for lock in statement.effect.locks:
                    made.pop(lock.relation, None)
                if statement.effect.strongest is not None and "CASCADE" in statement.text.upper():
                    return []  # who knows what else is gone
            elif statement.kind in ("create_stmt", "view_stmt", "create_table_as_stmt", "create_seq_stmt"):
                made.update(dict.fromkeys(statement.effect.creates))
    return list(made)
