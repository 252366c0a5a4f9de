"""Where a database comes from: DATABASE_URL, else a server of our own; connections and pools to it.

What is in the database does not belong here.
"""

from kalshidb.postgres.connections import (
    CONNECTION,
    SESSION,
    Database,
    connect,
    connect_async,
    database,
    describe,
    down,
    pool,
    pool_async,
    up,
    url,
    yoyo_url,
)
from kalshidb.postgres.embedded import DATABASE, DatabaseUnavailable, EmbeddedPostgres
from kalshidb.settings import Settings, SettingsError, libpq_url

__all__ = [
    "CONNECTION",
    "DATABASE",
    "SESSION",
    "Database",
    "DatabaseUnavailable",
    "EmbeddedPostgres",
    "Settings",
    "SettingsError",
    "connect",
    "connect_async",
    "database",
    "describe",
    "down",
    "libpq_url",
    "pool",
    "pool_async",
    "up",
    "url",
    "yoyo_url",
]
