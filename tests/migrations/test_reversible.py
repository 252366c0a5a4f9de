"""`kalshidb check schema`: each migration goes up, down and up again on a scratch server; the snapshot is what they make."""

import json
import os
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from kalshidb import checks
from kalshidb.migration import reversible

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
STRANGER = f"kalshidb_tests_stranger_{WORKER}"  # roles are the whole server's, which the workers share


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody else's migrations: other schemas, one outside of transactions, one in Python, a grant to an unknown role."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    files = {
        "0001.shop.sql": "CREATE SCHEMA shop;\nCREATE TABLE shop.orders (id integer, price numeric);\n"
        f"GRANT SELECT ON shop.orders TO {STRANGER};",
        "0001.shop.rollback.sql": "DROP TABLE shop.orders;\nDROP SCHEMA shop;",
        "0002.index.sql": "-- transactional: false\n-- depends: 0001.shop\nCREATE INDEX CONCURRENTLY orders_id_idx ON shop.orders (id);",
        "0002.index.rollback.sql": "-- transactional: false\nDROP INDEX CONCURRENTLY shop.orders_id_idx;",
        "0003.view.py": "from yoyo import step\n__depends__ = {'0002.index'}\n"
        "steps = [step('CREATE VIEW shop.cheap AS SELECT id FROM shop.orders WHERE price < 1', 'DROP VIEW shop.cheap')]\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_another_projects_migrations_are_proved_as_well(folder: Path, empty_database: str) -> None:
    proof = reversible.prove(folder, empty_database)
    assert proof.findings == []
    assert proof.proved == ["0001.shop", "0002.index", "0003.view"]
    assert proof.schema is not None
    assert {"shop.cheap", "shop.orders_id_idx", f"TABLE shop.orders TO {STRANGER}"} <= {t.name for t in proof.schema.things}


def steps(*both_ways: tuple[str, str]) -> str:
    """Return a migration in Python."""
    return "from yoyo import step\nsteps = [" + ", ".join(f"step({up!r}, {down!r})" for up, down in both_ways) + "]\n"


BROKEN = {
    # What it does: the file that does it, its text; the file that is found, the object, the words.
    "leaves something behind": (
        "0002.index.rollback.sql", "SELECT 1;",
        "0002.index.rollback.sql", "index shop.orders_id_idx", "leaves it behind",
    ),
    "takes too much": (
        "0003.view.py", steps(("CREATE VIEW shop.cheap AS SELECT 1", "DROP VIEW shop.cheap; DROP INDEX shop.orders_id_idx")),
        "0003.view.py", "index shop.orders_id_idx", "takes too much",
    ),
    "makes it otherwise than it was": (
        "0003.view.py", steps(("ALTER TABLE shop.orders ALTER id TYPE bigint", "ALTER TABLE shop.orders ALTER id TYPE smallint")),
        "0003.view.py", "column shop.orders.id", "it is `smallint`, before it was `integer`",
    ),
    "fails": ("0001.shop.rollback.sql", "DROP SCHEMA shop;", "0001.shop.rollback.sql", "", "it fails: "),
    "cannot be applied": (
        "0002.index.sql", "-- depends: 0001.shop\nCREATE INDEX ON shop.nothing (id);",
        "0002.index.sql", "", "cannot be applied: ",
    ),
    "forgets a comment": (
        "0003.view.py", steps(("COMMENT ON SCHEMA shop IS 'x'", "SELECT 1")),
        "0003.view.py", "comment SCHEMA shop", "leaves it behind",
    ),
    "forgets a grant": (
        "0003.view.py", steps(("GRANT USAGE ON SCHEMA shop TO PUBLIC", "SELECT 1")),
        "0003.view.py", "grant SCHEMA shop TO PUBLIC", "leaves it behind",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_way_back_that_is_none_is_found(folder: Path, empty_database: str, what: str) -> None:
    name, text, file, subject, words = BROKEN[what]
    (folder / name).write_text(text)
    proof = reversible.prove(folder, empty_database)
    (found,) = proof.findings
    assert (Path(found.file).name, found.subject) == (file, subject)
    assert found.problem.startswith(words)


def test_what_makes_another_schema_the_second_time_is_found(folder: Path, empty_database: str) -> None:
    (folder / "0001.shop.sql").write_text(
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id integer); CREATE SEQUENCE shop.turns;"
    )
    (folder / "0001.shop.rollback.sql").write_text("DROP SEQUENCE shop.turns; DROP TABLE shop.orders; DROP SCHEMA shop;")
    second_time = "DO $$ BEGIN IF nextval('shop.turns') > 1 THEN CREATE VIEW shop.twice AS SELECT 1 AS one; END IF; END $$"
    (folder / "0003.view.py").write_text(steps((second_time, "DROP VIEW IF EXISTS shop.twice")))
    (found,) = reversible.prove(folder, empty_database).findings
    assert (found.rule, found.subject, found.problem) == ("reapply", "view shop.twice", "has besides")


def test_all_that_is_wrong_is_found_in_one_run(folder: Path, empty_database: str) -> None:
    (folder / "0002.index.rollback.sql").write_text("SELECT 1;")
    (folder / "0001.shop.rollback.sql").write_text("DROP SCHEMA shop;")
    proof = reversible.prove(folder, empty_database)
    assert [Path(found.file).name for found in proof.findings] == ["0001.shop.rollback.sql", "0002.index.rollback.sql"]
    assert proof.proved == ["0003.view"]


def test_a_migration_without_a_way_back_is_not_tried_and_said(folder: Path, empty_database: str) -> None:
    (folder / "0001.shop.rollback.sql").unlink()
    proof = reversible.prove(folder, empty_database)
    assert (proof.unproved, proof.findings) == (["0001.shop"], [])


def test_no_scratch_database_and_no_role_stays(folder: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshidb.postgres.scratch.secrets.token_hex", lambda _: f"of_{WORKER}")
    (folder / "0001.shop.rollback.sql").write_text("DROP SCHEMA shop;")
    reversible.prove(folder, empty_database)
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT FROM pg_database WHERE datname = %s", [f"kalshidb_scratch_of_{WORKER}"]).fetchall() == []
        assert conn.execute("SELECT to_regrole(%s)", [STRANGER]).fetchone() == (None,)


# -- as a command, with the snapshot -----------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(checks.app, list(arguments))
    return ended.exit_code, ended.output


def test_the_snapshot_of_any_folder_is_written_and_compared(folder: Path, empty_database: str) -> None:
    options = ["schema", "--migrations", str(folder), "--server", empty_database]
    place = folder.parent / "docs" / "schema" / "schema.sql"
    assert run(*options) == (0, "no findings in 3 migrations, down and up again\n"), "a folder without a snapshot lacks none"
    status, said = run(*options, "--write")
    assert (status, place.exists()) == (0, True), said
    assert run(*options)[0] == 0

    place.write_text(place.read_text().replace("    price numeric", "    price numeric(9, 2)"))
    status, said = run(*options, "--json")
    (found,) = json.loads(said)
    assert (status, found["rule"], found["subject"]) == (1, "snapshot", "column shop.orders.price")
    assert found["problem"] == "the migrations make `numeric`, the snapshot has `numeric(9,2)`"
    assert place.read_text().splitlines()[found["line"] - 1].startswith("    price ")

    place.write_text(place.read_text().replace("CREATE TABLE", "CREATE NONSENSE"))
    assert "it is no SQL that makes a schema" in run(*options)[1]


def test_a_migration_that_the_snapshot_does_not_have_yet_is_found(folder: Path, empty_database: str) -> None:
    options = ["schema", "--migrations", str(folder), "--server", empty_database]
    run(*options, "--write")
    (folder / "0004.more.sql").write_text("-- depends: 0003.view\nCREATE TABLE shop.more (x integer);")
    (folder / "0004.more.rollback.sql").write_text("DROP TABLE shop.more;")
    status, said = run(*options)
    assert status == 1
    assert "table shop.more: the snapshot does not have it" in said


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    status, said = run("schema", "--migrations", str(tmp_path / "nothing"))
    assert status == 2
    assert "there is no folder" in said
