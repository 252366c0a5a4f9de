"""Servers and databases for a moment: made, used, and gone again whatever happens."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from kalshidb.postgres.connections import connect
from kalshidb.postgres.embedded import EmbeddedPostgres


@contextmanager
def scratch_server(given: str | None) -> Iterator[str]:
    """Give the address of a server for scratch databases: the given one, else one of its own that ends with this."""
    if given is not None:
        connect(given).close()  # says better than anything later why it cannot be reached
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="kalshidb-scratch-") as folder, EmbeddedPostgres(Path(folder)) as server:
        yield server.ensure_database()


@contextmanager
def scratch_database(server: str) -> Iterator[str]:
    """Give the address of an empty database on a server; it is dropped afterwards."""
    name = f"kalshidb_scratch_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as admin:
        # template0: what somebody put into template1 is no part of any project.
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
