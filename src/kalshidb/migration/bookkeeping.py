"""What the database knows about its migrations: yoyo's own tables, and two of ours beside them. All SQL about them stands here.

yoyo's say which migrations are applied, when and by whom (`_yoyo_migration`, `_yoyo_log`), and hold its lock (`yoyo_lock`). They have
no hash of what was applied and no memory of what was begun; so `kalshidb migrate` keeps, in the schema where yoyo keeps its own:

    _yoyo_kalshidb_content   a row for each migration applied here: SHA-256 of the file, and the time that yoyo's row had, so that a row
                             which plain yoyo has since removed and made again does not count
    _yoyo_kalshidb_intent    what is under way and could not be one transaction: how many statements of a `-- transactional: false`
                             migration are done, and whether hooks (`post-apply…`) are still to run. Empty at rest.

Both are ordinary local tables. Who drops them loses the knowledge of edits, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import psycopg

from kalshidb.migration.folder import Direction, MigrationError

Connection = psycopg.Connection[Any]

TABLES = """
    CREATE TABLE IF NOT EXISTS _yoyo_kalshidb_content (
        migration_hash  varchar(64)     NOT NULL,
        migration_id    varchar(255)    NOT NULL,
        content_sha256  text            NOT NULL,
        applied_at_utc  timestamp       NOT NULL,
        seconds         numeric(12, 3),
        applied_by      text            NOT NULL DEFAULT session_user,
        CONSTRAINT _yoyo_kalshidb_content_pkey PRIMARY KEY (migration_hash)
    );
    COMMENT ON TABLE _yoyo_kalshidb_content IS
        'What the files said that kalshidb migrate applied; beside yoyo''s own tables, which do not know. Not needed by yoyo.';
    CREATE TABLE IF NOT EXISTS _yoyo_kalshidb_intent (
        kind            text            NOT NULL,
        migration_id    varchar(255)    NOT NULL,
        content_sha256  text            NOT NULL,
        done            integer         NOT NULL,
        attempting      boolean         NOT NULL,
        indexes_before  oid[]           NOT NULL,
        lock_pid        integer,
        begun_at        timestamptz     NOT NULL DEFAULT now(),
        CONSTRAINT _yoyo_kalshidb_intent_pkey PRIMARY KEY (kind),
        CONSTRAINT _yoyo_kalshidb_intent_kind_check CHECK (kind IN ('apply', 'rollback', 'hooks'))
    );
    COMMENT ON TABLE _yoyo_kalshidb_intent IS
        'What kalshidb migrate has begun outside of a transaction and has not finished; empty at rest. A rerun goes on from here.';
"""


class Applied(NamedTuple):
    """A migration that yoyo marks as applied."""

    id: str
    at: datetime
    """UTC."""
    by: str | None
    """user@host of the last time it was applied or marked, as yoyo logged it."""
    sha256: str | None
    """Of what was applied; None where it was applied by other hands than `kalshidb migrate`."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Something that was begun and could not be one transaction."""

    kind: Literal["apply", "rollback", "hooks"]
    migration_id: str
    content_sha256: str
    """Hash of the statements that are done."""
    done: int
    """How many statements are done."""
    attempting: bool
    """Whether the next one was begun."""
    indexes_before: tuple[int, ...]
    """Indexes that its table had before."""
    lock_pid: int | None


class YoyoLock(NamedTuple):
    """yoyo's lock, as a committed row."""

    pid: int
    since: datetime
    """By the clock of the machine that took it, UTC."""


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that is known, read at one moment."""

    applied: tuple[Applied, ...]
    intents: tuple[Intent, ...]
    lock: YoyoLock | None
    running: int | None
    """Server process of a `kalshidb migrate` that is at work."""

    def intent(self, kind: Literal["apply", "rollback", "hooks"]) -> Intent | None:
        """Return the unfinished thing of that kind."""
        return next((one for one in self.intents if one.kind == kind), None)


_APPLIED = """
    SELECT m.migration_id, m.applied_at_utc, l.username || '@' || l.hostname, {content}
    FROM _yoyo_migration m
    {joined}
    LEFT JOIN LATERAL (
        SELECT username, hostname FROM _yoyo_log
        WHERE _yoyo_log.migration_hash = m.migration_hash AND operation IN ('apply', 'mark') ORDER BY created_at_utc DESC LIMIT 1
    ) l ON true
    ORDER BY m.applied_at_utc, m.migration_id
"""
_JOINED = """
    LEFT JOIN _yoyo_kalshidb_content c
        ON c.migration_hash = m.migration_hash AND c.applied_at_utc = m.applied_at_utc
"""
# The upper half of the key is `classid`, the lower `objid`.
_RUNNING = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = hashtextextended('kalshidb migrate', 0)
"""


def read(connection: Connection) -> Record:
    """Read what the database knows. Writes nothing, needs no more than SELECT, and finds nothing where no table is.

    Raises:
        MigrationError: the role may not read yoyo's tables.
    """
    try:
        tables = connection.execute(
            "SELECT to_regclass('_yoyo_migration') IS NOT NULL AND to_regclass('_yoyo_log') IS NOT NULL,"
            " to_regclass('_yoyo_kalshidb_content') IS NOT NULL, to_regclass('_yoyo_kalshidb_intent') IS NOT NULL,"
            " to_regclass('yoyo_lock') IS NOT NULL"
        ).fetchone()
        has_yoyo, has_content, has_intent, has_lock = tables or (False,) * 4
        applied: Sequence[tuple[Any, ...]] = ()
        if has_yoyo:
            joined, content = (_JOINED, "c.content_sha256") if has_content else ("", "NULL")
            applied = connection.execute(_APPLIED.format(joined=joined, content=content)).fetchall()
        intents: Sequence[tuple[Any, ...]] = ()
        if has_intent:
            intents = connection.execute(
                "SELECT kind, migration_id, content_sha256, done, attempting, indexes_before, lock_pid FROM _yoyo_kalshidb_intent"
            ).fetchall()
        lock = connection.execute("SELECT pid, ctime FROM yoyo_lock").fetchone() if has_lock else None
        running = connection.execute(_RUNNING).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        table = str(error.diag.message_primary).rpartition(" ")[2]
        raise MigrationError(
            f"this role may not read {table}; its owner lets it: GRANT SELECT ON _yoyo_migration, _yoyo_log, yoyo_lock, "
            "_yoyo_kalshidb_content, _yoyo_kalshidb_intent TO it"
        ) from None
    return Record(
        tuple(Applied(*row) for row in applied),
        tuple(
            Intent(kind, name, sha256, done, attempting, tuple(indexes), pid)
            for kind, name, sha256, done, attempting, indexes, pid in intents
        ),
        YoyoLock(*lock) if lock else None,
        running[0] if running else None,
    )


# Writing, inside the caller's transaction or each by itself in autocommit


def has_yoyo_tables(connection: Connection) -> bool:
    """Say whether yoyo's tables are there, anywhere on the search_path, in the form that yoyo 9 has them."""
    if not exists(connection, "_yoyo_migration") or not exists(connection, "_yoyo_version"):
        return False
    return connection.execute("SELECT max(version) >= 2 FROM _yoyo_version").fetchone() == (True,)


def make_tables(connection: Connection) -> None:
    """Make our tables where they are missing."""
    connection.execute(TABLES)


def note_content(connection: Connection, migration_hash: str, sha256: str, seconds: float | None) -> None:
    """Note what was applied, for a migration that yoyo has just marked."""
    connection.execute(
        "INSERT INTO _yoyo_kalshidb_content (migration_hash, migration_id, content_sha256, applied_at_utc, seconds)"
        " SELECT migration_hash, migration_id, %s, applied_at_utc, %s FROM _yoyo_migration WHERE migration_hash = %s"
        " ON CONFLICT (migration_hash) DO UPDATE SET content_sha256 = EXCLUDED.content_sha256,"
        " applied_at_utc = EXCLUDED.applied_at_utc, seconds = EXCLUDED.seconds, applied_by = EXCLUDED.applied_by",
        [sha256, seconds, migration_hash],
    )


def forget_content(connection: Connection, migration_hash: str) -> None:
    """Forget what was applied, for a migration that is undone."""
    connection.execute("DELETE FROM _yoyo_kalshidb_content WHERE migration_hash = %s", [migration_hash])


def is_marked(connection: Connection, migration_hash: str) -> bool:
    """Say whether yoyo marks a migration as applied."""
    return connection.execute("SELECT FROM _yoyo_migration WHERE migration_hash = %s", [migration_hash]).fetchone() is not None


def put_intent(connection: Connection, intent: Intent) -> None:
    """Note what is under way."""
    connection.execute(
        "INSERT INTO _yoyo_kalshidb_intent (kind, migration_id, content_sha256, done, attempting, indexes_before, lock_pid)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (kind) DO UPDATE SET migration_id = EXCLUDED.migration_id,"
        " content_sha256 = EXCLUDED.content_sha256, done = EXCLUDED.done, attempting = EXCLUDED.attempting,"
        " indexes_before = EXCLUDED.indexes_before, lock_pid = EXCLUDED.lock_pid",
        [
            intent.kind,
            intent.migration_id,
            intent.content_sha256,
            intent.done,
            intent.attempting,
            list(intent.indexes_before),
            intent.lock_pid,
        ],
    )


def drop_intent(connection: Connection, kind: Direction | Literal["hooks"]) -> None:
    """Forget what was under way: it is finished."""
    connection.execute("DELETE FROM _yoyo_kalshidb_intent WHERE kind = %s", [kind])


# Locks


def try_lock(connection: Connection) -> bool:
    """Take the lock of `kalshidb migrate` if it is free. It ends with the connection, also when the process is killed."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended('kalshidb migrate', 0))").fetchone()
    return bool(row and row[0])


def take_yoyo_lock(connection: Connection, pid: int) -> None:
    """Write yoyo's lock. Uncommitted, it keeps yoyo out as well as committed, and dies with the connection.

    Raises:
        psycopg.errors.UniqueViolation: a yoyo holds it.
    """
    connection.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC', %s)", [pid])


def drop_yoyo_lock(connection: Connection, pid: int, since: datetime | None = None) -> None:
    """Remove yoyo's lock that this process, or a dead one, wrote."""
    connection.execute("DELETE FROM yoyo_lock WHERE pid = %s AND (%s::timestamp IS NULL OR ctime = %s)", [pid, since, since])


class Session(NamedTuple):
    """A connection of somebody else's to this database."""

    pid: int
    user: str
    address: str | None
    since: datetime | None
    """None where this role may not know."""


def possible_holders(connection: Connection, lock: YoyoLock) -> list[Session]:
    """Return the sessions that may be the yoyo which holds the lock: as old as the lock, with five minutes for clocks that differ.

    yoyo keeps its connection as long as its lock; so where there is no such session, its process is gone.
    """
    rows = connection.execute(
        "SELECT pid, usename, host(client_addr), backend_start FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND COALESCE(backend_type, 'client backend') = 'client backend'"
        " AND application_name NOT LIKE 'kalshidb%%'"
        " AND (backend_start IS NULL OR backend_start AT TIME ZONE 'UTC' <= %s + interval '5 minutes')",
        [lock.since],
    )
    return [Session(*row) for row in rows]


# Indexes, for CONCURRENTLY


def indexes_of(connection: Connection, relation: str) -> dict[int, tuple[str, bool]]:
    """Return number, name and validity of the indexes of a table and its partitions, or of the table that an index belongs to."""
    rows = connection.execute(
        "WITH named AS (SELECT to_regclass(%s) AS oid), tables AS ("
        "  SELECT COALESCE((SELECT indrelid FROM pg_index WHERE indexrelid = named.oid), named.oid) AS oid FROM named)"
        " SELECT indexrelid, indexrelid::regclass::text, indisvalid FROM pg_index JOIN tables ON indrelid = tables.oid",
        [relation],
    )
    return {number: (name, valid) for number, name, valid in rows}


def exists(connection: Connection, relation: str) -> bool:
    """Say whether a relation of that name is there."""
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [relation]).fetchone()
    return bool(row and row[0])


def proper_name(connection: Connection, relation: str) -> str | None:
    """Return a relation's name as this session would have to write it; None where there is none."""
    row = connection.execute("SELECT to_regclass(%s)::text", [relation]).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def has_column(connection: Connection, relation: str, column: str) -> bool:
    """Say whether a relation has a column of that name, which is not quoted."""
    found = connection.execute(
        "SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND attnum > 0 AND NOT attisdropped",
        [relation, column],
    )
    return found.fetchone() is not None


def quoted(connection: Connection, name: str) -> str:
    """Return a name as SQL writes it, in quotes where it needs them."""
    row = connection.execute("SELECT quote_ident(%s)", [name]).fetchone()
    return str(row[0]) if row else name


def detaching(connection: Connection, partition: str) -> bool | None:
    """Say whether a partition's DETACH CONCURRENTLY was broken off half way; None where it is no partition any more."""
    row = connection.execute("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s)", [partition]).fetchone()
    return bool(row[0]) if row else None
