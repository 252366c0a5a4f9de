"""The server that everything is measured on, and what is around it."""

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from kalshidb.migration import migrate
from kalshidb.postgres import EmbeddedPostgres, connect

SETTINGS = {
    # As in production: a commit is on the disk when it returns, and a torn page can be repaired.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Room for the batch, its indexes and its WAL, so that what is measured is not the eviction of pages.
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    # What comes at its own time would hit one alternative and spare the next. Checkpoints and statistics are made between measurements.
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
"""The server's settings where they are not PostgreSQL's defaults."""

PACKAGES = (
    "psycopg", "pydantic", "pydantic-core", "SQLAlchemy", "asyncpg", "adbc-driver-postgresql", "pyarrow",
)  # fmt: skip


@contextmanager
def migrated_server() -> Iterator[str]:
    """Run a server of our own in a temporary directory; yield the address of a database with the newest schema."""
    with (
        tempfile.TemporaryDirectory(prefix="kalshidb-bench-", ignore_cleanup_errors=True) as root,
        EmbeddedPostgres(root, options=SETTINGS) as server,
    ):
        url = server.ensure_database()
        migrate(url)
        yield url


def open_connection(url: str) -> psycopg.Connection[Any]:
    """Connect as the project does, in autocommit mode."""
    return connect(url, autocommit=True)


def surroundings(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return the machine, the versions, the server's settings and the date; nothing that names this machine or its folders."""
    versions = {"python": platform.python_version(), "postgresql": conn.info.parameter_status("server_version")}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package.lower()] = importlib.metadata.version(package)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        },
        "versions": versions,
        "settings": SETTINGS,
    }


def _cpu_model() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None
