"""A PostgreSQL server of the test run's own, and a fresh database with the migrated schema for each test that asks for
one.

The server is started here and ends with the run (after ``kill -9`` its watchdog ends it). No other server is ever
touched: whatever the environment says about databases is taken out of it. Works as root and as an ordinary user, with
and without xdist, without any installed PostgreSQL.

Migrations are applied once for each xdist worker, to a template; a test gets a clone of it. `pg`, `apg` and
`database_url` of one test are the same clone.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from kalshidb.postgres import EmbeddedPostgres
from kalshidb.postgres.lifecycle import ServerDirectory

PREFIX = "kalshidb-tests-"

# Nothing of a test run is worth a disk's patience.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
}


def scratch_directory() -> Path:
    """Return where servers of tests live: in memory where there is room, as a clone is mostly the creation of files."""
    memory = Path("/dev/shm")  # noqa: S108
    with suppress(OSError):
        room = os.statvfs(memory)
        if os.access(memory, os.W_OK) and room.f_bavail * room.f_frsize > 1 << 30:
            return memory
    return Path(tempfile.gettempdir())


def sweep() -> None:
    """Remove what runs left that were killed. Their servers have ended; a directory that is in use is left alone."""
    for root in scratch_directory().glob(f"{PREFIX}*"):
        with suppress(OSError):
            directory = ServerDirectory(root)
            if (root / "users.lock").exists():  # else it is just being made
                with directory.mutex():
                    if directory.in_use() or directory.kept.exists():
                        continue
                    directory.stop()
                    shutil.rmtree(root)


def isolate() -> None:
    """Take every database out of the environment. Set but empty: a developer's .env must not count either."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    os.environ["DATABASE_URL"] = ""
    os.environ["KALSHIDB_HOME"] = str(scratch_directory() / f"{PREFIX}home-{os.getpid()}")


def point_plugin_at(config: pytest.Config, host: str) -> None:
    """Tell pytest-postgresql where the server is.

    Options set in the controller do not reach xdist's workers by themselves.
    """
    for name, value in {"host": host, "port": "5432", "user": "postgres", "password": None}.items():
        setattr(config.option, f"postgresql_{name}", value)


SOAK = Path(__file__).parent / "soak"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the soak test be asked for, which takes minutes."""
    group = parser.getgroup("kalshidb")
    group.addoption("--soak", action="store_true", help="run the soak test, and nothing else")
    group.addoption("--soak-seconds", type=float, default=60.0, help="how long everything is disturbed")
    group.addoption("--soak-seed", type=int, default=1, help="what happens when")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the soak test to those who ask for it."""
    if collection_path.is_dir() and SOAK.is_relative_to(collection_path):
        return None
    return (collection_path == SOAK or SOAK in collection_path.parents) != config.getoption("--soak") or None


server_key = pytest.StashKey[EmbeddedPostgres]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the server, or in an xdist worker use the controller's."""
    isolate()
    if hasattr(config, "workerinput"):
        point_plugin_at(config, config.workerinput["server_host"])
        return
    if config.option.collectonly:
        return
    sweep()
    server = EmbeddedPostgres(tempfile.mkdtemp(prefix=PREFIX, dir=scratch_directory()), options=FAST).start()
    config.stash[server_key] = server
    point_plugin_at(config, str(server.socket_directory))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401  (xdist has no types)
    """Hand the server to an xdist worker."""
    node.workerinput["server_host"] = str(node.config.stash[server_key].socket_directory)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server."""
    if server := config.stash.get(server_key, None):
        server.close()
        shutil.rmtree(server.root, ignore_errors=True)
    shutil.rmtree(os.environ["KALSHIDB_HOME"], ignore_errors=True)


def load_schema(*, host: str, port: int | str, user: str, dbname: str, **_: object) -> None:
    """Bring the template to the latest schema, by the way everybody does."""
    from kalshidb.migration import migrate

    migrate(_url(host, dbname, user=user, port=port))


def _url(host: str, dbname: str, *, user: str = "postgres", port: int | str = 5432) -> str:
    return f"postgresql://{user}@/{dbname}?host={quote(host, safe='')}&port={port}"


postgresql_noproc = factories.postgresql_noproc(load=[load_schema])
_numbers = count()


@pytest.fixture
def database_url(postgresql_noproc: NoopExecutor) -> Iterator[str]:
    """The address of this test's own database with the migrated schema, also for programs that a test starts."""
    with _clone(postgresql_noproc) as url:
        yield url


@pytest.fixture
def another_database_url(postgresql_noproc: NoopExecutor) -> Iterator[str]:
    """A second one, to compare with."""
    with _clone(postgresql_noproc) as url:
        yield url


@contextmanager
def _clone(server: NoopExecutor) -> Iterator[str]:
    name = f"{server.dbname}_{next(_numbers)}"
    admin = _url(server.host, "postgres")
    # Copying the files takes half as long as writing them again through the log, which is the default.
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(made.format(sql.Identifier(name), sql.Identifier(server.template_dbname)))
    try:
        yield _url(server.host, name)
    finally:
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def pg(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to this test's own database with the migrated schema."""
    connection = psycopg.connect(database_url, options="-c timezone=UTC")
    yield connection
    connection.close()


@pytest.fixture
async def apg(database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """An asynchronous connection to this test's own database with the migrated schema."""
    connection = await psycopg.AsyncConnection.connect(database_url, options="-c timezone=UTC")
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def scratch() -> Path:
    """Where a test may put a server of its own: unlike pytest's tmp_path, root's server can be reached there."""
    return scratch_directory()


@pytest.fixture
def empty_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database of this test's own."""
    host: str = request.config.option.postgresql_host
    name = f"empty_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{next(_numbers)}"
    with psycopg.connect(_url(host, "postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield _url(host, name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
