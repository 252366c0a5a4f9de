"""Everything around yoyo. Plain SQL in migrations/ stays the format and `yoyo apply` the entry; what is here calls yoyo's own library.

Not here: what the migrations say (migrations/*.sql) and where a database comes from (kalshidb.postgres).
"""

from pathlib import Path

import yoyo

from kalshidb.sqlfiles import sql_dir


def migrate(url: str, folder: Path | None = None) -> list[str]:
    """Apply every migration that the database lacks, in order, and return the ids of those applied.

    Args:
        url: address of the database, `postgresql://…`; psycopg 3 is used whatever the scheme says.
        folder: where the migrations lie; the project's own by default.
    """
    from kalshidb.postgres import yoyo_url  # noqa: PLC0415

    backend = yoyo.get_backend(yoyo_url(url))
    try:
        with backend.lock():
            pending = backend.to_apply(yoyo.read_migrations(str(folder or sql_dir("migrations"))))
            backend.apply_migrations(pending)
            return [migration.id for migration in pending]
    finally:
        # yoyo leaves its connection open, and an open one keeps a template database from being cloned.
        backend.connection.close()
