# ruff: noqa: E501  (files as they would be)
"""Another project's migrations, as nasty as yoyo allows: Python and SQL, no numbers in common, `depends` against the alphabet, groups,
errors that are ignored, several folders, missing rollbacks, hooks, statements outside of transactions. They can be planned, applied,
read, undone and locked; and yoyo agrees at each step.
"""

import re
from pathlib import Path

import psycopg
import pytest
from yoyo.scripts.main import main as yoyo_main

from kalshidb.migration import DataLoss, MigrationError, Refused, baseline, integrity, lint, migrate, plan, rollback, status
from kalshidb.migration.folder import read_folder
from kalshidb.postgres import yoyo_url

CORE = {
    "zz_people.sql": "-- Everybody.\nCREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL);\n"
    "INSERT INTO people (name) VALUES ('Ada; the \"first\"'), ('100 % Grace'), ($$O'Hara$$);",
    "zz_people.rollback.sql": "DROP TABLE people;",
    "20210304_01_Xk2p9-add-mail.py": '''
"""Mail addresses."""
from yoyo import group, step
__depends__ = {"zz_people"}

def fill(conn):
    cursor = conn.cursor()
    cursor.execute("UPDATE people SET mail = id || '@example.com'")

def empty(conn):
    conn.cursor().execute("UPDATE people SET mail = NULL")

step("ALTER TABLE people ADD mail text", "ALTER TABLE people DROP mail")
step("THIS IS NO SQL", ignore_errors="apply")
group([
    step("CREATE TABLE letters (id integer)", "DROP TABLE letters"),
    step("CREATE TABLE stamps (id integer)", "DROP TABLE stamps"),
])
step(fill, empty)
''',
    "2021-04-01.index.sql": "-- transactional: false\n-- depends: 20210304_01_Xk2p9-add-mail\n\n"
    "CREATE UNIQUE INDEX CONCURRENTLY people_mail_key ON people (mail);\nALTER TABLE people ADD CONSTRAINT people_mail_key UNIQUE USING INDEX "
    "people_mail_key;",
    "2021-04-01.index.rollback.sql": "ALTER TABLE people DROP CONSTRAINT people_mail_key;",
    "aaa last of all.sql": "-- depends: 2021-04-01.index\n-- depends: zz_people\nCREATE FUNCTION greet(text) RETURNS text LANGUAGE plpgsql AS $f$\n"
    "BEGIN\n  RETURN 'Hello; ' || $1; -- it's fine\nEND\n$f$;\nCREATE VIEW greetings AS SELECT greet(name) FROM people;\nSELECT * FROM greetings;",
    "aaa last of all.rollback.sql": "DROP VIEW greetings;\nDROP FUNCTION greet(text);",
    "post-apply.sql": "GRANT SELECT ON people TO public;",
    "post-apply-2.py": "from yoyo import step\nstep(\"COMMENT ON TABLE people IS 'applied'\")\n",
    "README.md": "Not a migration.",
}
PLUGIN = {
    "0001.plugin.sql": "-- depends: zz_people\nBEGIN;\nCREATE TABLE plugin (person integer REFERENCES people);\nCOMMIT;",
    "0002.no-way-back.sql": "-- irreversible: the plugin's partner keeps no copy\n-- depends: 0001.plugin\nALTER TABLE plugin ADD key uuid;",
    "0003.forgotten.sql": "-- depends: 0002.no-way-back\nCREATE INDEX plugin_person_idx ON plugin (person);",
}  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = []
    for name, files in (("core", CORE), ("plug ins", PLUGIN)):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        made.append(folder)
    return made


ORDER = [
    "zz_people",
    "20210304_01_Xk2p9-add-mail",
    "2021-04-01.index",
    "aaa last of all",
    "0001.plugin",
    "0002.no-way-back",
    "0003.forgotten",
]


def of_yoyo(url: str, folders: list[Path], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what `yoyo list` says."""
    capsys.readouterr()
    yoyo_main(
        ["list", "--batch", "--no-config-file", "-d", yoyo_url(url), *[str(folder).replace(" ", "?") for folder in folders]]
    )
    lines = capsys.readouterr().out.splitlines()[2:]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return {row[1]: row[0] for row in rows}


def facts(url: str) -> dict[str, object]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname, obj_description(oid), relacl::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relname !~ 'yoyo'"
        )
        return {name: (comment, rights) for name, comment, rights in rows}


def test_it_is_read_in_the_order_that_its_dependencies_say(folders: list[Path]) -> None:
    folder = read_folder(folders)
    order = [one.id for one in folder]
    assert sorted(order) == sorted(ORDER)
    assert all(order.index(other) < order.index(one.id) for one in folder for other in one.depends)
    assert [hook.id for hook in folder.hooks] == ["post-apply-2", "post-apply"]
    assert [problem for one in folder for problem in one.problems] == []


def test_the_order_is_yoyos(folders: list[Path]) -> None:
    import yoyo
    from yoyo.migrations import topological_sort

    mine = [one.id for one in read_folder(folders)]
    assert mine == [one.id for one in topological_sort(yoyo.read_migrations(*[str(folder) for folder in folders]))]


def test_it_is_planned_applied_and_read_and_yoyo_agrees(
    empty_database: str, folders: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan.plan_migrate(empty_database, folders)
    text = plan.as_sql(planned)
    assert "-- Python: fill, " in text
    assert "THIS IS NO SQL" in text
    assert "-- ACCESS EXCLUSIVE on people" not in text.split("-- apply 20210304")[0], "who makes a table waits for nobody"
    assert "-- then run post-apply" in text
    assert facts(empty_database) == {}
    applied = migrate(empty_database, folders)
    assert applied == [one.id for one in planned if not one.is_hook]
    assert sorted(applied) == sorted(ORDER)
    found = facts(empty_database)
    assert set(found) == {"people", "letters", "stamps", "plugin", "greetings"}
    assert found["people"] == ("applied", "{postgres=arwdDxtm/postgres,=r/postgres}")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT name, mail FROM people ORDER BY id").fetchall() == [
            ('Ada; the "first"', "1@example.com"), ("100 % Grace", "2@example.com"), ("O'Hara", "3@example.com"),
        ]  # fmt: skip
    assert status(empty_database, folders).verdict == "up to date"
    assert of_yoyo(empty_database, folders, capsys) == dict.fromkeys(ORDER, "A")
    assert migrate(empty_database, folders) == []


def test_it_is_undone_as_far_as_it_can_be(empty_database: str, folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    core = folders[:1]
    migrate(empty_database, core)
    assert rollback(empty_database, core) == ["aaa last of all"]
    assert rollback(empty_database, core) == ["2021-04-01.index"]
    assert of_yoyo(empty_database, core, capsys)["2021-04-01.index"] == "U"
    with pytest.raises(DataLoss, match=r"drops people\.mail, which has a value in 3 rows"):
        rollback(empty_database, core)
    assert rollback(empty_database, core, allow_data_loss=True) == ["20210304_01_Xk2p9-add-mail"]
    assert set(facts(empty_database)) == {"people"}
    with pytest.raises(DataLoss, match="drops people: 3 rows"):
        rollback(empty_database, core, to="0")
    assert rollback(empty_database, core, to="0", allow_data_loss=True) == ["zz_people"]
    assert facts(empty_database) == {}
    assert sorted(migrate(empty_database, core)) == sorted(ORDER[:4]), "and up again"


def test_everything_that_keeps_it_from_being_undone_is_named_at_once(empty_database: str, folders: list[Path]) -> None:
    migrate(empty_database, folders)
    with pytest.raises(Refused) as refused:
        rollback(empty_database, folders, to="0")
    said = str(refused.value)
    assert "0003.forgotten has no rollback: write " in said
    assert "0002.no-way-back is irreversible: the plugin's partner keeps no copy" in said
    assert "0001.plugin has no rollback" in said
    assert status(empty_database, folders).verdict == "up to date"


def test_it_can_be_locked_and_marked(empty_database: str, folders: list[Path]) -> None:
    integrity.lock(folders)
    assert integrity.verify(read_folder(folders)) == []
    migrate(empty_database, folders)
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "DROP TABLE _yoyo_kalshidb_content, _yoyo_kalshidb_intent, _yoyo_migration, _yoyo_log, _yoyo_version, yoyo_lock"
        )
    assert baseline(empty_database, folders) == [one.id for one in read_folder(folders)]
    assert status(empty_database, folders).verdict == "up to date"


def test_what_yoyo_began_is_finished(empty_database: str, folders: list[Path]) -> None:
    quoted = [str(folder).replace(" ", "?") for folder in folders]
    yoyo_main(["apply", "--batch", "--no-config-file", "-r", "2021-04", "-d", yoyo_url(empty_database), *quoted])
    assert sorted(migrate(empty_database, folders)) == sorted(ORDER[3:])
    assert status(empty_database, folders).exit_code == 0


# What a migration sets stays its own


def sources(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.sql").write_text(text)
    return tmp_path


def test_a_schema_that_comes_before_yoyos_tables_hides_nothing(empty_database: str, tmp_path: Path) -> None:
    """The search_path begins with the role's own schema, when there is one: yoyo would make its tables anew there and begin again."""
    folder = sources(tmp_path, a="CREATE SCHEMA postgres;", b="-- depends: a\nCREATE TABLE t ();")
    assert migrate(empty_database, folder) == ["a", "b"]
    assert status(empty_database, folder).verdict == "up to date"
    assert migrate(empty_database, folder) == []
    with psycopg.connect(empty_database) as connection:
        found = connection.execute(
            "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname ~ '^_yoyo' AND relkind = 'r'"
        )
        assert set(found.fetchall()) == {("public",)}


@pytest.mark.parametrize("how", ["", "-- transactional: false\n"])
def test_settings_roles_and_temporary_tables_end_with_their_migration(empty_database: str, tmp_path: Path, how: str) -> None:
    noise = (
        "SELECT pg_catalog.set_config('search_path', '', false);\nSET statement_timeout = '1ms';\nSET statement_timeout = 0;\n"
        "SET work_mem = '64kB';\nCREATE TEMP TABLE noise ();\nCREATE ROLE {0};\nGRANT {0} TO postgres;\n"
        "CREATE SCHEMA {0} AUTHORIZATION {0};\nSET ROLE {0};\nCREATE TABLE {0}.t ();\n"
    )
    with psycopg.connect(empty_database) as connection:
        name = connection.info.dbname
    one, two = f"{name}_one", f"{name}_two"
    folder = sources(tmp_path, a=how + noise.format(one), b=f"{how}-- depends: a\n{noise.format(two)}")
    try:
        assert migrate(empty_database, folder) == ["a", "b"]
        assert status(empty_database, folder).verdict == "up to date"
        with psycopg.connect(empty_database) as connection:
            owners = connection.execute(
                "SELECT schemaname, tableowner FROM pg_tables WHERE tablename = 't' ORDER BY 1"
            ).fetchall()
        assert owners == [(one, one), (two, two)]
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            for role in one, two:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_rows_that_a_migration_selects_do_not_mix_with_what_the_command_prints(
    empty_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate(empty_database, sources(tmp_path, a="SELECT 'a row' AS shown;"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "a row" in said.err


HALF_A_WAY_BACK = """
from yoyo import step
steps = [
    step("CREATE TABLE people (id integer)", "DROP TABLE people"),
    step("CREATE TABLE letters (id integer) -- of people"),
    step("CREATE INDEX people_id_idx ON people (id)"),
]
"""


def half_a_way_back(tmp_path: Path) -> Path:
    (tmp_path / "0001.people.py").write_text(HALF_A_WAY_BACK)
    return tmp_path


def test_the_plan_of_steps_without_semicolons_runs_in_psql(empty_database: str, tmp_path: Path) -> None:
    folder = half_a_way_back(tmp_path)
    text = plan.as_sql(plan.plan_migrate(empty_database, folder))
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(text.encode())
        assert connection.execute("SELECT to_regclass('people_id_idx') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize("allow_data_loss", [False, True])
def test_a_rollback_that_would_leave_a_table_behind_is_refused(
    empty_database: str, tmp_path: Path, *, allow_data_loss: bool
) -> None:
    folder = half_a_way_back(tmp_path)
    migrate(empty_database, folder)
    with pytest.raises(Refused, match=r"0001\.people was not undone: it would leave letters") as refused:
        rollback(empty_database, folder, allow_data_loss=allow_data_loss)
    assert "people_id_idx" not in str(refused.value), "goes with its table"
    assert status(empty_database, folder).verdict == "up to date"
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT to_regclass('people') IS NOT NULL").fetchone() == (True,)


def test_marking_a_folder_with_an_unreadable_file_marks_nothing(empty_database: str, tmp_path: Path) -> None:
    folder = sources(tmp_path, **{"0001.people": "CREATE TABLE people (id integer);"})
    (folder / "0002.latin.sql").write_bytes(b"CREATE TABLE latin (name text DEFAULT '\xe9');\n")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (id integer)")
        connection.execute("CREATE TABLE latin (name text)")
    with pytest.raises(MigrationError, match=r"0002\.latin\.sql or its rollback is not UTF-8"):
        baseline(empty_database, folder)
    assert {line.state for line in status(empty_database, folder).lines} == {"pending"}


def test_the_lint_finds_bytes_that_are_not_utf8_beside_everything_else(tmp_path: Path) -> None:
    folder = half_a_way_back(tmp_path)
    (folder / "0002.latin.sql").write_bytes(b"CREATE TABLE latin (name text DEFAULT '\xe9');\n")
    found = {(finding.rule, Path(finding.file).name): finding.problem for finding in lint.check(folder, house=False)}
    assert ("encoding", "0002.latin.sql") in found
    assert found["no-rollback", "0001.people.py"] == "2 of its 3 steps have no way back"
