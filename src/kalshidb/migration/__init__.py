"""Everything around yoyo. Plain SQL in migrations/ stays the format and `yoyo apply` the entry; what is here calls
yoyo's own library and keeps yoyo's own tables, so that `yoyo list` agrees afterwards.

Not here: what the migrations say (migrations/*.sql) and where a database comes from (kalshidb.postgres).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yoyo
from yoyo.backends import DatabaseBackend
from yoyo.migrations import MigrationList

from kalshidb.postgres import yoyo_url
from kalshidb.sqlfiles import sql_dir

# Two processes that begin to migrate at once: the second waits for the first, and a killed one leaves nothing locked.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('kalshidb migrate', 0))"


def migrate(url: str, folder: Path | None = None) -> list[str]:
    """Apply every migration that the database lacks, in order, and return the ids of those applied.

    All of them and yoyo's record of them are one transaction: a process that is killed half way leaves the database as it
    was. (A migration marked `-- transactional: false` cannot be part of one and is applied as yoyo does.)

    Args:
        url: address of the database, `postgresql://…`; psycopg 3 is used whatever the scheme says.
        folder: where the migrations lie; the project's own by default.

    Raises:
        yoyo.exceptions.LockTimeout: `yoyo apply` is at work, or was killed and left its lock: `yoyo break-lock` removes it.
    """
    with _backend(url) as backend:
        backend.execute(_LOCK)
        backend.ensure_internal_schema_updated()
        pending = _pending(backend, folder)
        if not all(migration.use_transactions for migration in pending):
            with backend.lock():
                backend.apply_migrations(_pending(backend, folder))
            return [migration.id for migration in pending]
        # Inside the transaction yoyo's lock row is never committed, so it dies with the process too.
        with backend.transaction(), backend.lock():
            pending = _pending(backend, folder)
            for migration in pending:
                migration.process_steps(backend, "apply")
                backend.log_migration(migration, "apply")
                backend.mark_one(migration, log=False)
        return [migration.id for migration in pending]


def pending(url: str, folder: Path | None = None) -> tuple[list[str], list[str]]:
    """Return the ids of the migrations that the database lacks, and of those that it has.

    Writes yoyo's own tables where they are missing.
    """
    with _backend(url) as backend:
        migrations = yoyo.read_migrations(str(folder or sql_dir("migrations")))
        lacking = [migration.id for migration in backend.to_apply(migrations)]
        return lacking, [migration.id for migration in migrations if migration.id not in lacking]


def _pending(backend: DatabaseBackend, folder: Path | None) -> MigrationList:
    return backend.to_apply(yoyo.read_migrations(str(folder or sql_dir("migrations"))))


@contextmanager
def _backend(url: str) -> Iterator[DatabaseBackend]:
    backend = yoyo.get_backend(yoyo_url(url))
    try:
        yield backend
    finally:
        # yoyo leaves its connection open, and an open one keeps a template database from being cloned.
        backend.connection.close()
