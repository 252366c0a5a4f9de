"""Where a database stands, for anybody who may read: states, who and when, exit statuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from yoyo.scripts.main import main as yoyo_main

from kalshidb.migration import MigrationError, migrate, pending, status
from kalshidb.postgres import DatabaseUnavailable, yoyo_url
from test_cli import Command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "m"
    made.mkdir()
    for number, name in enumerate("abc", 1):
        (made / f"000{number}.{name}.sql").write_text(f"CREATE TABLE {name} (x integer);")
        (made / f"000{number}.{name}.rollback.sql").write_text(f"DROP TABLE {name};")
    return made


def states(url: str, folder: Path) -> dict[str, str]:
    return {line.id: line.state for line in status(url, folder).lines}


@pytest.fixture
def reader(empty_database: str) -> Iterator[str]:
    """The address for a role that may read the tables that are there, and nothing else."""
    with psycopg.connect(empty_database, autocommit=True) as owner:
        name = f"reader_{owner.info.dbname}"
        owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        owner.execute("REVOKE ALL ON SCHEMA public FROM public")
        owner.execute(f"GRANT USAGE ON SCHEMA public TO {name}".encode())
        owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {name}".encode())
        yield empty_database.replace("postgres@", f"{name}@")
        owner.execute(f"DROP OWNED BY {name}".encode())
        owner.execute(f"DROP ROLE {name}".encode())


def test_a_database_that_yoyo_never_saw_is_read_and_stays_untouched(reader: str, empty_database: str, folder: Path) -> None:
    assert set(states(reader, folder).values()) == {"pending"}
    assert status(reader, folder).exit_code == 4
    assert pending(reader, folder) == (["0001.a", "0002.b", "0003.c"], [])
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall() == []


def test_who_may_only_read_sees_everything_and_can_change_nothing(reader: str, empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder, to="2")
    found = status(reader, folder)
    assert [(line.id, line.state) for line in found.lines] == [
        ("0001.a", "applied"),
        ("0002.b", "applied"),
        ("0003.c", "pending"),
    ]
    first = found.lines[0]
    assert first.at is not None
    assert "@" in (first.by or "")
    with pytest.raises(
        MigrationError, match=r"role reader_\w+ may not write yoyo's tables \(permission denied for table yoyo_lock\)"
    ):
        migrate(reader, folder)
    assert states(empty_database, folder)["0003.c"] == "pending"


def test_who_may_only_read_gets_a_yes_from_migrate_when_nothing_is_pending(
    reader: str, empty_database: str, folder: Path
) -> None:
    migrate(empty_database, folder)
    assert migrate(reader, folder) == []


def test_who_may_not_even_read_is_told_what_to_grant(empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder)
    with psycopg.connect(empty_database, autocommit=True) as owner:
        name = f"nobody_{owner.info.dbname}"
        owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        try:
            with pytest.raises(
                MigrationError, match="this role may not read _yoyo_migration; its owner lets it: GRANT SELECT ON"
            ):
                status(empty_database.replace("postgres@", f"{name}@"), folder)
        finally:
            owner.execute(f"DROP ROLE {name}".encode())


def test_who_may_not_make_tables_is_told_so(empty_database: str, folder: Path) -> None:
    with psycopg.connect(empty_database, autocommit=True) as owner:
        name = f"guest_{owner.info.dbname}"
        owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        try:
            with pytest.raises(
                MigrationError, match=rf"role {name} may not make yoyo's tables in schema public .*GRANT CREATE ON SCHEMA"
            ):
                migrate(empty_database.replace("postgres@", f"{name}@"), folder)
        finally:
            owner.execute(f"DROP ROLE {name}".encode())


def test_what_plain_yoyo_applied_is_unmarked_until_its_content_is_noted(empty_database: str, folder: Path) -> None:
    from kalshidb.migration import baseline

    yoyo_main(["apply", "--batch", "--no-config-file", "-d", yoyo_url(empty_database), str(folder)])
    assert set(states(empty_database, folder).values()) == {"unmarked"}
    assert status(empty_database, folder).exit_code == 0
    assert baseline(empty_database, folder) == ["0001.a", "0002.b", "0003.c"]
    assert set(states(empty_database, folder).values()) == {"applied"}
    assert baseline(empty_database, folder) == []


def test_what_plain_yoyo_made_again_is_unmarked_again(empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder)
    for command in "rollback", "apply":
        yoyo_main([command, "--batch", "--no-config-file", "-d", yoyo_url(empty_database), str(folder)])
    assert states(empty_database, folder) == {"0001.a": "applied", "0002.b": "applied", "0003.c": "unmarked"}


def test_each_way_to_drift_has_its_name(empty_database: str, folder: Path) -> None:
    migrate(empty_database, folder)
    (folder / "0001.a.sql").write_text("CREATE TABLE a (y text);")
    (folder / "0002.b.sql").rename(folder / "0002.bb.sql")
    assert states(empty_database, folder) == {
        "0001.a": "edited",
        "0002.bb": "out of order",
        "0003.c": "applied",
        "0002.b": "missing",
    }
    assert status(empty_database, folder).exit_code == 5


# The command


@pytest.fixture
def kalshidb(empty_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def test_the_command_says_it_in_its_exit_status(kalshidb: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = kalshidb("status", "--migrations", folder)
    assert (said.status, said.out.splitlines()[-1]) == (4, "pending")
    assert kalshidb("migrate", "--migrations", folder).status == 0
    said = kalshidb("status", "--migrations", folder, "--json")
    assert (said.status, said.json["verdict"]) == (0, "up to date")
    assert [one["state"] for one in said.json["migrations"]] == ["applied"] * 3
    assert said.json["migrations"][0]["applied_at"].endswith("Z")
    (folder / "0002.b.sql").write_text("CREATE TABLE b (y text);")
    said = kalshidb("status", "--migrations", folder)
    assert said.status == 5
    assert "is not what was applied" in said.out
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost:1/nowhere")
    said = kalshidb("status", "--migrations", folder)
    assert said.status == 6
    assert said.err.startswith("kalshidb: ")


def test_a_server_that_cannot_be_reached_is_said_before_anything(folder: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        migrate("postgresql://localhost:1/nowhere", folder)


def test_the_command_migrates_and_undoes(kalshidb: Command, folder: Path) -> None:
    said = kalshidb("migrate", "--migrations", folder, "--to", "2")
    assert [line.split()[:2] for line in said.out.splitlines()] == [["applied", "0001.a"], ["applied", "0002.b"]]
    assert kalshidb("migrate", "--migrations", folder, "--json").json == {"applied": ["0003.c"]}
    assert kalshidb("migrate", "--migrations", folder).out == "nothing to apply: the database is up to date\n"
    said = kalshidb("rollback", "--migrations", folder, "--to", "1")
    assert [line.split()[:2] for line in said.out.splitlines()] == [["undone", "0003.c"], ["undone", "0002.b"]]
    assert kalshidb("rollback", "--migrations", folder, "--to", "0", "--json").json == {"undone": ["0001.a"]}
    assert kalshidb("rollback", "--migrations", folder).out == "nothing to undo\n"


def test_a_plan_is_sql_that_a_person_can_send_and_touches_nothing(kalshidb: Command, folder: Path, empty_database: str) -> None:
    (folder / "0004.d.sql").write_text(
        "-- depends: 0001.a\nALTER TABLE a ADD COLUMN y integer NOT NULL DEFAULT 1;\nCREATE INDEX b_idx ON b (x);\nCREATE TABLE d ();\n"
        "ALTER TABLE d ADD z integer;"
    )
    (folder / "0005.e.sql").write_text("-- depends: 0004.d\n-- transactional: false\nCREATE INDEX CONCURRENTLY a_idx ON a (x);")
    kalshidb("migrate", "--migrations", folder, "--to", "3")
    said = kalshidb("migrate", "--migrations", folder, "--plan")
    assert said.out.splitlines() == [
        "-- apply 0004.d  (m/0004.d.sql; one transaction)",
        "BEGIN;",
        "-- ACCESS EXCLUSIVE on a: readers and writers wait; may read the whole table",
        "ALTER TABLE a ADD COLUMN y integer NOT NULL DEFAULT 1;",
        "-- SHARE on b: writers wait; reads the whole table",
        "CREATE INDEX b_idx ON b (x);",
        "-- locks only what is new",
        "CREATE TABLE d ();",
        "-- locks only what is new",
        "ALTER TABLE d ADD z integer;",
        "COMMIT;",
        "",
        "-- apply 0005.e  (m/0005.e.sql; statement by statement, no transaction)",
        "-- SHARE UPDATE EXCLUSIVE on a: readers and writers go on; reads the whole table; not in a transaction; "
        "waits for every transaction that is older than itself",
        "CREATE INDEX CONCURRENTLY a_idx ON a (x);",
        "",
    ]
    assert kalshidb("status", "--migrations", folder).status == 4
    as_json = json.loads(kalshidb("migrate", "--migrations", folder, "--plan", "--json").out)
    assert as_json[0]["statements"][0]["locks"] == [{"level": "ACCESS EXCLUSIVE", "relation": "a"}]
    with psycopg.connect(empty_database) as connection:
        connection.execute(said.out.replace("BEGIN;", "").replace("COMMIT;", "").split("-- apply 0005")[0].encode())
        connection.rollback()


def test_a_plan_of_a_rollback_says_what_is_lost(kalshidb: Command, folder: Path, empty_database: str) -> None:
    kalshidb("migrate", "--migrations", folder)
    with psycopg.connect(empty_database) as connection:
        connection.execute("INSERT INTO c VALUES (1), (2)")
    said = kalshidb("rollback", "--migrations", folder, "--plan")
    assert said.out.splitlines() == [
        "-- undo 0003.c  (m/0003.c.rollback.sql; one transaction)",
        "-- LOSES DATA: drops c: 2 rows",
        "BEGIN;",
        "-- ACCESS EXCLUSIVE on c, tables that foreign keys of c reference: readers and writers wait",
        "DROP TABLE c;",
        "COMMIT;",
        "",
    ]
    refused = kalshidb("rollback", "--migrations", folder)
    assert refused.status == 1
    assert "drops c: 2 rows" in refused.err
    assert kalshidb("rollback", "--migrations", folder, "--allow-data-loss").status == 0


def test_the_command_locks_and_names(kalshidb: Command, folder: Path) -> None:
    assert "3 added" in kalshidb("lock", "--migrations", folder).out
    assert "nothing new" in kalshidb("lock", "--migrations", folder).out
    assert kalshidb("lock", "--migrations", folder, "--check").status == 0
    assert kalshidb("new", "more of it", "--migrations", folder).out.splitlines()[0].endswith("0004.more-of-it.sql")
    said = kalshidb("lock", "--migrations", folder, "--check")
    assert (said.status, "is not in the lock yet: run `kalshidb lock`" in said.out) == (1, True)
    (folder / "0001.a.sql").write_text("CREATE TABLE a (z integer);")
    refused = kalshidb("lock", "--migrations", folder)
    assert refused.status == 1
    assert "0001.a.sql: differs from what was locked" in refused.err
    refused = kalshidb("migrate", "--migrations", folder)
    assert refused.status == 1
    assert "nothing was applied:" in refused.err


def test_the_command_marks_what_is_there(kalshidb: Command, folder: Path, empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE a (); CREATE TABLE b ()")
    assert kalshidb("baseline", "--migrations", folder).status == 1
    assert kalshidb("baseline", "--migrations", folder, "--to", "0002").out.splitlines() == ["marked 0001.a", "marked 0002.b"]
    assert kalshidb("migrate", "--migrations", folder).status == 0


def test_having_all_up_to_a_migration_is_not_said_to_be_up_to_date(kalshidb: Command, folder: Path) -> None:
    assert kalshidb("migrate", "--migrations", folder, "--to", "1").status == 0
    assert kalshidb("migrate", "--migrations", folder, "--to", "1").out == "nothing to apply: the database has all up to 1\n"
    assert (
        kalshidb("migrate", "--migrations", folder, "--to", "1", "--plan").out
        == "-- nothing to apply: the database has all up to 1\n"
    )
