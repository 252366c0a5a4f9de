"""docs/for-dbas.md is true: everything on the page is executed, in its order, and does what the page says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console

from kalshidb import demo, postgres
from kalshidb.migration import lint
from kalshidb.postgres import yoyo_url
from kalshidb.postgres.embedded import find_programs

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "for-dbas.md"
ROLES = ("collector", "analyst", "kalshidb_writer", "kalshidb_reader")
MAY_END_WITH = {
    "kalshidb status": (4,),  # nothing is applied yet
    "kalshidb check": (0, 1),  # what it finds in the repository is other tests' matter
    "kalshidb check drift --no-grants": (5,),  # the page's own migrations are not in the snapshot
}


class Snippet(NamedTuple):
    """A block of the page."""

    line: int
    language: str
    text: str


def snippets() -> list[Snippet]:
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    text = PAGE.read_text()
    return [Snippet(text.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in found]


def commands(text: str) -> list[str]:
    """Return what is typed behind the prompts, lines that go on joined."""
    typed: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            typed.append(line[2:])
        else:
            assert line.startswith("> "), f"{line!r} is neither typed nor a continuation"
            typed[-1] += "\n" + line[2:]
    return typed


class Reader:
    """A DBA who does what the page says, line by line, in a checkout of its own."""

    def __init__(self, checkout: Path, database: str, empty: str) -> None:
        self.checkout, self.database = checkout, database
        self.addresses = {
            "postgresql+psycopg://owner@host/database": yoyo_url(database),
            "postgresql+psycopg://owner@host/empty": yoyo_url(empty),
            "postgresql://owner@host/empty": empty,
            "postgresql://reader@host/database": database,
        }
        self.said: dict[str, str] = {}
        self.environment = os.environ | {
            "DATABASE_URL": database,
            "PYTHONPATH": str(checkout / "src"),
            "PATH": f"{find_programs()}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def type(self, command: str, folder: Path | None = None) -> None:
        """Type a command, and see that it ends well."""
        plain = re.sub(r"\s+#.*", "", command).strip()
        for address, real in self.addresses.items():
            command = command.replace(address, f"'{real}'")
        if match := re.fullmatch(r"export (\w+)='(.*)'", plain):
            self.environment[match[1]] = match[2]
            return
        program = (
            f'kalshidb() {{ "{sys.executable}" -m kalshidb "$@"; }}\nyoyo() {{ "{sys.executable}" -m yoyo "$@"; }}\n{command}\n'
        )
        environment = self.environment | ({"PYTHONPATH": str(folder / "src")} if folder else {})
        done = subprocess.run(
            ["bash", "-c", program], cwd=folder or self.checkout, env=environment, capture_output=True, text=True, check=False
        )
        allowed = next((codes for begin, codes in reversed(MAY_END_WITH.items()) if plain.startswith(begin)), (0,))
        assert done.returncode in allowed, f"{plain}: {done.returncode}\n{done.stdout}{done.stderr}"
        self.said[plain] = done.stdout

    def run_sql(self, text: str) -> None:
        psql = [find_programs() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.database]
        done = subprocess.run(psql, input=text, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"

    def write(self, text: str) -> None:
        """Write a migration of the page; the one before the first is whatever is the last one here."""
        name, _, body = text.removeprefix("-- migrations/").partition("\n")
        here = sorted(path.stem for path in (self.checkout / "migrations").glob("0[0-9]*.sql") if ".rollback" not in path.name)
        last = next(name for name in reversed(here) if name < "0100")
        (self.checkout / "migrations" / name).write_text(body.replace("0100.previous", last))


@pytest.fixture(scope="module")
def followed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody who has followed the whole page."""
    host: str = request.config.option.postgresql_host
    server = f"postgresql://postgres@/postgres?host={host}"
    checkout = tmp_path_factory.mktemp("checkout")
    for folder in ("src", "migrations", "queries", "docs"):
        shutil.copytree(REPOSITORY / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "yoyo.ini", checkout)
    names = [f"for_dbas_{what}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}" for what in ("live", "empty")]
    with psycopg.connect(server, autocommit=True) as admin:
        for name in names:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        reader = Reader(checkout, *(f"postgresql://postgres@/{name}?host={host}" for name in names))
        try:
            follow(reader)
            yield reader
        finally:
            for name in names:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            for role in ROLES:
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def follow(reader: Reader) -> None:
    checks: list[Future[None]] = []
    with ThreadPoolExecutor(2) as pool:  # the checks of the repository take their time and need nothing of what is done meanwhile
        for snippet in snippets():
            if snippet.language == "console":
                for command in commands(snippet.text):
                    if command.startswith("kalshidb check") and "drift" not in command:
                        checks.append(pool.submit(reader.type, command, REPOSITORY))
                    else:
                        reader.type(command)
            elif snippet.text.startswith("-- migrations/"):
                reader.write(snippet.text)
            else:
                assert snippet.language == "sql", f"docs/for-dbas.md:{snippet.line}: what is {snippet.language}?"
                if "\\gexec" in snippet.text:
                    make_two_months(reader)
                reader.run_sql(snippet.text)
                if "\\gexec" in snippet.text:
                    reader.said["files of the months"] = files_of_months(reader)
    for check in checks:
        check.result()


def make_two_months(reader: Reader) -> None:
    with psycopg.connect(reader.database, autocommit=True) as conn:
        conn.execute(
            "SELECT market_data.create_month_partitions('market_data.public_trades', ARRAY['2026-01-05Z', '2026-02-05Z']::timestamptz[])"
        )
        conn.execute("INSERT INTO catalog.stations VALUES ('K', 'K', 1, 1, 12.5, 'UTC', '{}', now(), now())")


def files_of_months(reader: Reader) -> str:
    with psycopg.connect(reader.database) as conn:
        found = conn.execute(
            "SELECT relname, relfilenode FROM pg_class WHERE relname LIKE 'public_trades_2026%retrieved_at_idx' ORDER BY 1"
        ).fetchall()
    return str(found)


def test_every_block_of_the_page_is_followed(followed: Reader) -> None:
    assert len(snippets()) > 25
    assert re.findall(r"^(\w+(?: \w+)?): ", followed.said["kalshidb check"], re.M)[0] == "migrations"
    typed = [command for snippet in snippets() if snippet.language == "console" for command in commands(snippet.text)]
    assert len(typed) > 15


def test_its_migrations_pass_the_lint_that_it_speaks_of(followed: Reader) -> None:
    found = lint.check(followed.checkout / "migrations", house=True)
    # Its numbers stand for whatever comes next.
    assert [str(finding) for finding in found if finding.rule not in ("gap", "unlocked")] == []


def test_what_psql_applied_is_what_yoyo_applies(followed: Reader) -> None:
    listed = followed.said["yoyo list  --batch -d postgresql+psycopg://owner@host/database"]
    assert len(re.findall(r"^A ", listed, re.MULTILINE)) == len(list((REPOSITORY / "migrations").glob("*.rollback.sql")))


def test_the_indexes_of_the_months_were_taken_over_and_not_built_again(followed: Reader) -> None:
    before = followed.said["files of the months"]
    assert before.count("2026_01") == before.count("2026_02") == 1
    assert files_of_months(followed) == before
    with psycopg.connect(followed.database) as conn:
        attached = conn.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'market_data.public_trades_retrieved_at_idx'::regclass"
        ).fetchone()
        assert attached == (2,)


def test_the_old_column_came_back_with_its_values(followed: Reader) -> None:
    """The last thing that the page does about it is to take 0105 back."""
    with psycopg.connect(followed.database) as conn:
        row = conn.execute("SELECT elevation::text, elevation_m::text FROM catalog.stations WHERE station_id = 'K'").fetchone()
        assert row == ("12.50", "12.50")


def test_drift_is_what_the_page_has_made_and_the_snapshot_has_not(followed: Reader) -> None:
    said = next(said for command, said in followed.said.items() if command.startswith("kalshidb check drift --no-grants"))
    assert {line.split(": ")[1] for line in said.splitlines()[:-1]} == {
        "index catalog.markets_category_close_time_idx", "index market_data.public_trades_retrieved_at_idx",
        "column catalog.stations.elevation_m", "constraint catalog.stations.stations_elevation_m_check",
        "table catalog.stations",  # the old column came back behind the others
    }  # fmt: skip


def test_a_saved_snapshot_with_its_grants_is_what_the_database_is(followed: Reader) -> None:
    (said,) = [said for command, said in followed.said.items() if "--snapshot approved.sql" in command]
    assert said == "no findings against approved.sql\n"


# -- roles -------------------------------------------------------------------------------------------------------------------------


def test_a_collector_can_load_all_that_there_is_to_load(followed: Reader) -> None:
    with postgres.connect(make_conninfo(followed.database, user="collector"), autocommit=True) as conn:
        assert demo.run(conn, Console(quiet=True), seed=7, markets=60)
        written = conn.execute("SELECT rows_written > 1000, rows_rejected FROM ops.ingest_runs").fetchall()
        assert written
        months = conn.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'market_data.candlesticks'::regclass"
        ).fetchone()
        assert months is not None
        assert months[0] > 0


@pytest.mark.parametrize(
    "table", ["catalog.settlements", "catalog.market_lifecycle", "market_data.public_trades", "market_data.orderbook_deltas"]
)
def test_a_collector_can_neither_change_nor_delete_what_is_in_a_ledger(followed: Reader, table: str) -> None:
    with psycopg.connect(followed.database, user="collector", autocommit=True) as conn:
        for statement in ("UPDATE {} SET retrieved_at = now()", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(sql.SQL(statement).format(sql.Identifier(*table.split("."))))


def test_a_collector_deletes_nothing_from_the_catalogue_and_the_market_data(followed: Reader) -> None:
    with psycopg.connect(followed.database, user="collector", autocommit=True) as conn:
        may = conn.execute(
            "SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace IN ('catalog'::regnamespace, 'market_data'::regnamespace)"
            " AND has_table_privilege(oid, 'DELETE, TRUNCATE')"
        ).fetchall()
        assert may == []


def test_an_analyst_reads_everything_and_writes_nothing(followed: Reader) -> None:
    with psycopg.connect(followed.database, user="analyst", autocommit=True) as conn:
        rooms = "relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)')"
        relations = f"SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND NOT relispartition AND {rooms}"  # noqa: S608
        assert len(conn.execute(relations.encode()).fetchall()) > 40
        assert conn.execute(f"{relations} AND NOT has_table_privilege(oid, 'SELECT')".encode()).fetchall() == []
        writing = "has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
        assert conn.execute(f"{relations} AND {writing}".encode()).fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT market_data.create_month_partitions('market_data.candlesticks', ARRAY[%s])", [datetime.now(UTC)])
