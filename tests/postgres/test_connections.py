"""Which database is used, what a session looks like, and what an error says."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from yoyo.connections import parse_uri

from kalshidb import postgres
from kalshidb.postgres import DatabaseUnavailable, EmbeddedPostgres, Settings, SettingsError


@pytest.fixture
def home(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of an embedded server, given to kalshidb as a user would."""
    path = Path(tempfile.mkdtemp(prefix="kalshidb-tests-home ", dir=scratch))
    monkeypatch.setenv("KALSHIDB_HOME", str(path))
    yield path
    EmbeddedPostgres(path).down(force=True)
    shutil.rmtree(path)


def session(connection: psycopg.Connection, name: str) -> str:
    return connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0]  # type: ignore[index]


def test_a_set_address_is_used_and_nothing_is_started(empty_database: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    with postgres.database() as database:
        assert (database.url, database.embedded) == (empty_database, False)
        with postgres.connect() as connection:
            assert connection.info.dbname.startswith("empty_")
    assert postgres.up() == postgres.url() == empty_database
    assert "not kalshidb's to stop" in postgres.down()
    assert list(home.iterdir()) == []


def test_without_an_address_the_embedded_server_runs_for_the_block(home: Path) -> None:
    with postgres.database() as database:
        assert database.embedded
        with postgres.connect(database.url) as connection:
            assert connection.info.dbname == "kalshidb"
    assert not EmbeddedPostgres(home).running()
    assert "not running" in postgres.describe()


def test_up_outlives_its_process_and_down_ends_it(home: Path) -> None:
    program = "from kalshidb import postgres; print(postgres.{})"
    url = subprocess.check_output([sys.executable, "-c", program.format("up()")], text=True).strip()
    with psycopg.connect(url) as connection:
        assert connection.info.dbname == "kalshidb"
    assert "kept" in postgres.describe()
    said = subprocess.check_output([sys.executable, "-c", program.format("down()")], text=True)
    assert "has stopped" in said
    assert not EmbeddedPostgres(home).running()


def test_down_says_who_still_uses_the_server(home: Path) -> None:
    postgres.up()
    with EmbeddedPostgres(home):
        assert "still use" in (said := postgres.down())
        assert "when the last of them ends" in said
    assert not EmbeddedPostgres(home).running()


def test_a_connection_without_an_address_leases_the_server_until_the_process_ends(home: Path) -> None:
    program = (
        "from kalshidb import postgres\n"
        "for _ in range(2):\n"
        "    with postgres.connect() as c: print(c.execute('SELECT current_database()').fetchone()[0])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == ["kalshidb"] * 2
    assert not EmbeddedPostgres(home).running()


def test_the_session_is_utc_bounded_and_named(empty_database: str) -> None:
    with postgres.connect(empty_database) as connection:
        assert session(connection, "timezone") == "UTC"
        assert session(connection, "lock_timeout") == "5min"
        assert session(connection, "idle_in_transaction_session_timeout") == "1h"
        assert session(connection, "statement_timeout") == "0"
        assert session(connection, "application_name") == "kalshidb"


def test_the_addresss_own_settings_win(empty_database: str) -> None:
    url = f"{empty_database}&application_name=report&options=-c%20lock_timeout%3D7s&connect_timeout=3"
    with postgres.connect(url, autocommit=True) as connection:
        assert session(connection, "application_name") == "report"
        assert session(connection, "lock_timeout") == "7s"
        assert session(connection, "timezone") == "UTC"
        assert connection.info.get_parameters()["connect_timeout"] == "3"
        assert connection.autocommit


def test_the_environments_libpq_settings_win(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=9s")
    monkeypatch.setenv("PGAPPNAME", "cron")
    with postgres.connect(empty_database) as connection:
        assert session(connection, "statement_timeout") == "9s"
        assert session(connection, "application_name") == "cron"


async def test_an_asynchronous_connection_has_the_same_session(empty_database: str) -> None:
    async with await postgres.connect_async(empty_database) as connection:
        found = await (await connection.execute("SHOW lock_timeout")).fetchone()
    assert found == ("5min",)


def test_a_pool_hands_out_such_connections(empty_database: str) -> None:
    with postgres.pool(empty_database, max_size=2) as pool, pool.connection() as connection:
        assert session(connection, "lock_timeout") == "5min"


def test_a_pool_replaces_a_connection_that_has_died(empty_database: str) -> None:
    with postgres.pool(empty_database, max_size=1, autocommit=True) as pool:
        with pool.connection() as connection:
            killed = connection.info.backend_pid
        with psycopg.connect(empty_database) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [killed])
        with pool.connection() as connection:
            assert connection.info.backend_pid != killed


async def test_an_asynchronous_pool_hands_out_such_connections(empty_database: str) -> None:
    async with postgres.pool_async(empty_database, max_size=2) as pool, pool.connection() as connection:
        found = await (await connection.execute("SHOW timezone")).fetchone()
    assert found == ("UTC",)


def test_a_driver_in_the_scheme_is_accepted(empty_database: str) -> None:
    with postgres.connect(empty_database.replace("postgresql://", "postgresql+psycopg://")) as connection:
        assert connection.info.user == "postgres"


def test_an_unreachable_server_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:hush%21@127.0.0.1:1/markets")
    with pytest.raises(psycopg.OperationalError) as caught:
        postgres.connect()
    said = str(caught.value)
    assert isinstance(caught.value, DatabaseUnavailable)
    assert "ann@127.0.0.1:1/markets" in said
    assert "Check that the server runs" in said
    assert "without it, kalshidb runs a server of its own" in said
    assert "hush" not in said


async def test_a_missing_database_is_told_apart_from_a_missing_server(empty_database: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=r'"nowhere" does not exist(.|\n)*createdb'):
        await postgres.connect_async(empty_database, dbname="nowhere")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:p%40ss%2Fw%C3%B6rd@db.example.org:6432/markets?sslmode=require",
        "postgres://db.example.org/markets",
        "postgresql+psycopg://ann@db.example.org/markets",
        "postgresql://postgres@/kalshidb?host=%2Fvar%2Flib%2Fkalshi%20db%2Fs",
        "postgresql://postgres@/kalshi%20db%3F?host=%2Fs&port=5433",
        "postgresql://ann:pw@[::1]:5433/markets",
        "postgresql://ann:pw@one:5432,two:5433/markets?target_session_attrs=read-write",
        "postgresql://ann@h/d?options=-c%20lock_timeout%3D7s%20-c%20search_path%3Da,b",
        "host=/var/run/postgresql dbname=markets user=ann password='it''s \\' 100% + &=?'".replace("''", ""),
        "dbname=markets",
        "service=production",
    ],
)
def test_yoyo_connects_to_what_psycopg_connects_to(url: str) -> None:
    parsed = parse_uri(postgres.yoyo_url(url))
    # As yoyo's backend does it.
    as_yoyo = {"dbname": parsed.database or None, **parsed.args}
    given = {"user": parsed.username, "password": parsed.password, "port": parsed.port, "host": parsed.hostname}
    as_yoyo |= {name: str(value) for name, value in given.items() if value is not None}
    assert parsed.scheme == "postgresql+psycopg"
    assert {k: v for k, v in as_yoyo.items() if v is not None} == conninfo_to_dict(postgres.libpq_url(url))


def test_yoyo_really_connects(empty_database: str) -> None:
    from yoyo import get_backend

    backend = get_backend(postgres.yoyo_url(empty_database))
    assert backend.execute("SELECT current_database()").fetchone()[0].startswith("empty_")
    backend.connection.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://ann:hush@h/d", "its scheme is mysql://"),
        ("ann:hush@h/d", "well-formed"),
        ("postgresql://ann:hush@h:port/d", "port"),
        ("postgresql://ann:hush@h:99999/d", "port"),
        ("postgresql://ann:hu@sh@h/d", "more than one @"),
        ("postgresql://ann:hush%zz@h/d", "well-formed"),
        ("postgresql://h/d?hush=1", "well-formed"),
    ],
)
def test_a_malformed_address_is_explained_and_not_repeated(url: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    said = str(caught.value)
    assert said.startswith("DATABASE_URL is not a ")
    assert says in said
    assert "Expected postgresql://" in said
    assert "hu" not in said.replace("such", "")


def test_settings_come_from_the_environment_then_from_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://ann:hush@file/d\nOTHER=1\nKALSHIDB_HOME=~/data\n")
    monkeypatch.delenv("KALSHIDB_HOME")
    monkeypatch.delenv("DATABASE_URL")
    assert Settings.load().database_url == "postgresql://ann:hush@file/d"
    assert Settings.load().home == Path.home() / "data"
    assert "hush" not in repr(Settings.load())
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/d")
    assert Settings.load().database_url == "postgresql://environment/d"
    monkeypatch.setenv("DATABASE_URL", "")
    assert Settings.load().database_url is None


def test_the_default_home_is_where_the_servers_account_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KALSHIDB_HOME", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Settings.load().home == Path("/var/lib/kalshidb")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/.data")
    assert Settings.load().home.name == "kalshidb"
    assert Settings.load().home != Path("/var/lib/kalshidb")


def test_numbers_in_json_are_read_exactly(database_url: str) -> None:
    with postgres.connect(database_url) as conn:
        row = conn.execute("""SELECT '{"price": 0.10500000000000000001}'::jsonb""").fetchone()
    assert row == ({"price": Decimal("0.10500000000000000001")},)
