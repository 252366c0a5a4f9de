# ruff: noqa: E501  (a row of the table is a row)
"""Broken and dangerous inputs, one after the other: what plain yoyo does with each, and what ours says.

The outcome of yoyo is written as `exit status or exception | tables and indexes afterwards | migrations marked as applied`; an index that
is invalid has a `!`. It is not there to blame: it is what a DBA who runs `yoyo apply` has to know, and it tells when a new yoyo differs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from yoyo.scripts.main import main as yoyo_main

from kalshidb.migration import MigrationError, Options, baseline, integrity, migrate, rollback, status
from kalshidb.postgres import yoyo_url

Files = dict[str, str | bytes | None]
QUICK = Options(wait=1, retries=2, pause=0.01, lock_timeout="200ms")


def write(folder: Path, files: Files) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def yoyo(*arguments: object, url: str) -> str:
    """Run yoyo's command line and say how it ended."""
    try:
        yoyo_main([*map(str, arguments), "--batch", "--no-config-file", "-d", yoyo_url(url)])
    except SystemExit as end:
        ended = str(end.code or 0)
    except Exception as error:
        ended = type(error).__name__
    else:
        ended = "0"
    return f"{ended} | {left(url)}"


def left(url: str) -> str:
    """Say what is in the database, and what is marked."""
    with psycopg.connect(url) as connection:
        made = connection.execute(
            "SELECT relname || CASE WHEN indisvalid THEN '' WHEN indisvalid IS NULL THEN '' ELSE '!' END FROM pg_class"
            " LEFT JOIN pg_index ON indexrelid = pg_class.oid WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'i', 'p') AND relname !~ '^_?yoyo' ORDER BY 1"
        ).fetchall()
        marked = []
        if connection.execute("SELECT to_regclass('_yoyo_migration')").fetchone() != (None,):
            marked = connection.execute("SELECT migration_id FROM _yoyo_migration ORDER BY applied_at_utc, 1").fetchall()
    return f"{' '.join(name for (name,) in made) or '-'} | {' '.join(name for (name,) in marked) or '-'}"


@dataclass
class Case:
    """An input, and what comes of it."""

    id: str
    files: Files
    yoyo: str
    ours: str
    """What ours says: a part of the message, as a pattern."""
    ours_leaves: str = "- | -"
    first: Files = field(default_factory=dict)
    """Files that are applied before `files` comes over them (None deletes)."""
    rows: str = ""
    """SQL between the two."""
    undo: bool = False
    """Whether it is about rolling back."""
    to: str | None = None


A: Files = {"0001.a.sql": "CREATE TABLE a (x integer);"}
UNDO_A: Files = {"0001.a.rollback.sql": "DROP TABLE a;"}
B = "-- depends: 0001.a\nCREATE TABLE b ();"

CASES = [
    Case("a file edited after it was applied", {"0001.a.sql": "CREATE TABLE a (y text);"}, "0 | a | 0001.a",
         r"0001\.a: .*0001\.a\.sql is not what was applied", "a | 0001.a", first=A),
    Case("a file deleted after it was applied", {"0001.a.sql": None, "0002.b.sql": "CREATE TABLE b ();"}, "0 | a b | 0001.a 0002.b",
         r"0001\.a: applied, and .* has no file for it", "a | 0001.a", first=A),
    Case("a number that comes too late", {"0001.late.sql": "CREATE TABLE late ();"}, "0 | a late | 0002.a 0001.late",
         r"0001\.late is not applied, but 0002\.a, which comes later, is applied; --allow-out-of-order", "a | 0002.a",
         first={"0002.a.sql": "CREATE TABLE a ();"}),
    Case("a rollback that is missing", {}, "0 | a | -", r"0001\.a has no rollback: write .*0001\.a\.rollback\.sql; `yoyo unmark",
         "a | 0001.a", first=A, undo=True),
    Case("a rollback that is only a comment", {}, "0 | a | -", r"0001\.a has no rollback", "a | 0001.a",
         first=A | {"0001.a.rollback.sql": "-- to be written"}, undo=True),
    Case("a migration that is declared irreversible", {}, "0 | a | -", r"0001\.a is irreversible: the old values are gone", "a | 0001.a",
         first={"0001.a.sql": "-- irreversible: the old values are gone\nCREATE TABLE a ();"}, undo=True),
    Case("a rollback that loses rows", {}, "0 | - | -", r"would lose data, so it was not done:\n  drops a: 3 rows\n", "a | 0001.a",
         first=A | UNDO_A, rows="INSERT INTO a VALUES (1), (2), (3)", undo=True),
    Case("a rollback that loses a column", {}, "0 | a | 0001.a", r"drops a\.y, which has a value in 1 row\n", "a | 0001.a 0002.y",
         first=A | {"0002.y.sql": "ALTER TABLE a ADD y integer;", "0002.y.rollback.sql": "ALTER TABLE a DROP y;"},
         rows="INSERT INTO a VALUES (1, NULL), (2, 7)", undo=True),
    Case("a rollback that loses a table with a difficult name", {}, "0 | - | -", r'drops "Our ""first""": 2 rows\n', 'Our "first" | 0001.a',
         first={"0001.a.sql": 'CREATE TABLE "Our ""first""" ("Y z" integer);', "0001.a.rollback.sql": 'DROP TABLE "Our ""first""";'},
         rows='INSERT INTO "Our ""first""" VALUES (1), (2)', undo=True),
    Case("a rollback that loses a column with a difficult name", {}, "0 | order | 0001.a", r'drops "order"\."Y z", which has a value in 1 row\n',
         "order | 0001.a 0002.y", first={"0001.a.sql": 'CREATE TABLE "order" (x integer);', "0002.y.sql": 'ALTER TABLE "order" ADD "Y z" integer;',
                                         "0002.y.rollback.sql": 'ALTER TABLE "order" DROP "Y z";'},
         rows='INSERT INTO "order" VALUES (1, 2)', undo=True),
    Case("a rollback that hides what it deletes", {}, "0 | a | -", r"deletes from a: 2 rows\n", "a | 0001.a",
         first=A | {"0001.a.rollback.sql": "DO $$ BEGIN DELETE FROM a; END $$;"}, rows="INSERT INTO a VALUES (1), (2)", undo=True),
    Case("a rollback that drops what depends on it", {}, "0 | - | -", r"drops s\.t: 2 rows\n", "- | 0001.s",
         first={"0001.s.sql": "CREATE SCHEMA s; CREATE TABLE s.t (x integer);", "0001.s.rollback.sql": "DROP SCHEMA s CASCADE;"},
         rows="INSERT INTO s.t VALUES (1), (2)", undo=True),
    Case("a rollback that empties a table", {}, "0 | a | -", r"deletes from a: 1 row\n", "a | 0001.a",
         first=A | {"0001.a.rollback.sql": "TRUNCATE a;"}, rows="INSERT INTO a VALUES (1)", undo=True),
    Case("a rollback that overwrites", {}, "0 | a | -", r"overwrites in a: 2 rows\n", "a | 0001.a",
         first=A | {"0001.a.rollback.sql": "UPDATE a SET x = 0;"}, rows="INSERT INTO a VALUES (1), (2)", undo=True),
    Case("a folder that holds only folders", {"one/0001.a.sql": "CREATE TABLE a ();"}, "0 | - | -", r"no migrations in .*name them: .*/one"),
    Case("a directive with a typo", A | {"0002.b.sql": "-- dependson: 0001.a\nCREATE TABLE b ();"}, "0 | a b | 0001.a 0002.b",
         r"0002\.b\.sql:1: `-- dependson:` is no directive .*is `-- depends:` meant\?"),
    Case("a directive too far down", A | {"0002.b.sql": "CREATE TABLE b ();\n-- depends: 0001.a\nCREATE TABLE c ();"},
         "0 | a b c | 0001.a 0002.b", r"0002\.b\.sql:2: `-- depends:` after the first statement is not read"),
    Case("a directive with a wrong value", {"0001.a.sql": "-- transactional: no\nCREATE TABLE a ();"}, "KeyError | - | -",
         r"0001\.a\.sql:1: `-- transactional: no` must be true or false"),
    Case("a dependency that is not there", A | {"0002.b.sql": "-- depends: 0001.aa\nCREATE TABLE b ();"}, "BadMigration | - | -",
         r"0002\.b\.sql: depends on 0001\.aa, which is not there"),
    Case("dependencies in a circle", {"0001.a.sql": "-- depends: 0002.b\nCREATE TABLE a ();", "0002.b.sql": B}, "CycleError | - | -",
         r"0001\.a, 0002\.b depend on each other in a circle"),
    Case("two files with one id", A | {"0001.a.py": "from yoyo import step\nstep('SELECT 1')\n"}, "MigrationConflict | - | -",
         r"two files are migration 0001\.a: .*0001\.a\.py, .*0001\.a\.sql"),
    Case("Python that does not load", {"0001.a.py": "from yoyo import stepp\n"}, "BadMigration | - | -", r"0001\.a\.py: cannot be loaded: .*stepp"),
    Case("a migration that is not written yet", {"0001.a.sql": "-- What this does, in one sentence.\n"}, "0 | - | 0001.a",
         r"0001\.a\.sql: holds no statement; write it"),
    Case("a file that is not UTF-8", {"0001.a.sql": b"CREATE TABLE a (); -- caf\xe9"}, "UnicodeDecodeError | - | -",
         r"0001\.a\.sql: is not UTF-8: byte 26 is 0xe9"),
    Case("a byte order mark", {"0001.a.sql": b"\xef\xbb\xbfCREATE TABLE a ();"}, "SyntaxError | - | -", r"0001\.a\.sql:1: begins with a byte order mark"),
    Case("a syntax error in the last file", A | {"0002.b.sql": "-- depends: 0001.a\n\nCREATE TABEL b ();"}, "SyntaxError | a | 0001.a",
         r"0002\.b\.sql:3: syntax error at or near \"TABEL\""),
    Case("nested comments", {"0001.a.sql": "CREATE TABLE a ();\n/* no /* more; */ of; */\nCREATE TABLE b ();"}, "SyntaxError | - | -",
         r"0001\.a\.sql:\d: yoyo cuts a statement in pieces here"),
    Case("data after COPY", {"0001.a.sql": "CREATE TABLE a (x integer);\nCOPY a FROM stdin;\n1\n2\n\\.\n"}, "OperationalError | - | -",
         r"0001\.a\.sql:3: syntax error at or near \"1\"; data after COPY … FROM stdin cannot stand in a migration: write INSERT"),
    Case("COMMIT in the middle", {"0001.a.sql": "CREATE TABLE a ();\nCOMMIT;\nCREATE TABLE b ();"}, "NoActiveSqlTransaction | a | -",
         r"0001\.a\.sql:2: COMMIT would end yoyo's transaction half way"),
    Case("CONCURRENTLY inside a transaction", A | {"0002.i.sql": "CREATE INDEX CONCURRENTLY i ON a (x);"}, "ActiveSqlTransaction | a | 0001.a",
         r"0002\.i\.sql:1: CREATE INDEX CONCURRENTLY i ON a \(x\) cannot run inside a transaction; .*`-- transactional: false`"),
    Case("one number of many", {f"000{n}.{letter}.sql": f"CREATE TABLE {letter} ();" for n, letter in enumerate("abc", 1)},
         "0 | c | 0003.c", "", "a b c | 0001.a 0002.b 0003.c", to="0003"),
    Case("a number that two have", {"0001.a.sql": "CREATE TABLE a ();", "0001.b.sql": "CREATE TABLE b ();"}, "2 | - | -",
         r"'0001' may be any of 0001\.a, 0001\.b; write more of it", to="0001"),
    Case("a table that is there already", A, "DuplicateTable | a | -", r"0001\.a\.sql:1: relation \"a\" already exists\n.*\n.*"
         r"not marked: a plain `yoyo apply` that was killed leaves that.*`kalshidb baseline --to 0001\.a`", "a | -", rows="CREATE TABLE a ()"),
    Case("a unique index CONCURRENTLY over duplicates",
         {"0002.i.sql": "-- transactional: false\n-- depends: 0001.a\nCREATE UNIQUE INDEX CONCURRENTLY i ON a (x);"},
         "UniqueViolation | a i! | 0001.a", r"0002\.i\.sql:3: could not create unique index \"i\"\n.*\n  detail: Key \(x\)=\(1\) is duplicated",
         "a | 0001.a", first=A, rows="INSERT INTO a VALUES (1), (1)"),
    Case("a wrong undo after a failure without transaction",
         {"0002.bc.sql": "-- transactional: false\nCREATE TABLE b ();\nCREATE TABLE c ();\nSELECT 1 / 0;",
          "0002.bc.rollback.sql": "DROP TABLE c;\nDROP TABLE b;\nDROP TABLE a;"},
         # yoyo pairs the statements of both files by position, from the end: it undoes b with the statement that drops a.
         "DivisionByZero | c | 0001.a", r"0002\.bc\.sql:4: division by zero\n.*\n.*it goes on with statement 3", "a b c | 0001.a", first=A),
]  # fmt: skip


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 25
    assert len({case.id for case in CASES}) == len(CASES)


def execute(url: str, text: str) -> None:
    if text:
        with psycopg.connect(url) as connection:
            connection.execute(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_plain_yoyo_does(case: Case, empty_database: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write(folder, case.first)
    if case.first:
        assert yoyo("apply", folder, url=empty_database).startswith("0 |")
    execute(empty_database, case.rows)
    write(folder, case.files)
    revision = ("-r", case.to) if case.to else ()
    assert yoyo("rollback" if case.undo else "apply", *revision, folder, url=empty_database) == case.yoyo


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_ours_says(case: Case, empty_database: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write(folder, case.first)
    if case.first:
        migrate(empty_database, folder)
    execute(empty_database, case.rows)
    write(folder, case.files)
    act: Callable[..., list[str]] = rollback if case.undo else migrate
    if case.ours:
        with pytest.raises(MigrationError) as refused:
            act(empty_database, folder, to=case.to, options=QUICK)
        assert re.search(case.ours, str(refused.value)), str(refused.value)
    else:
        act(empty_database, folder, to=case.to, options=QUICK)
    assert left(empty_database) == case.ours_leaves


# What takes more than one step to show


def test_a_folder_that_is_not_there(empty_database: str, tmp_path: Path) -> None:
    assert yoyo("apply", tmp_path / "nowhere", url=empty_database) == "0 | - | -"
    with pytest.raises(MigrationError, match="nowhere does not exist; name the folder that holds the migrations"):
        migrate(empty_database, tmp_path / "nowhere")


def test_a_folder_that_is_empty(empty_database: str, tmp_path: Path) -> None:
    assert yoyo("apply", tmp_path, url=empty_database) == "0 | - | -"
    with pytest.raises(MigrationError, match=r"no migrations in .*: no \*\.sql and no \*\.py lies there"):
        migrate(empty_database, tmp_path)


def test_an_invalid_index_that_if_not_exists_takes_for_a_good_one(empty_database: str, tmp_path: Path) -> None:
    files: Files = {
        "0002.i.sql": "-- transactional: false\n-- depends: 0001.a\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON a (x);"
    }
    write(tmp_path, A)
    migrate(empty_database, tmp_path)
    execute(empty_database, "INSERT INTO a VALUES (1), (1)")
    write(tmp_path, files)
    assert yoyo("apply", tmp_path, url=empty_database) == "UniqueViolation | a i! | 0001.a"
    execute(empty_database, "DELETE FROM a")
    assert migrate(empty_database, tmp_path) == ["0002.i"]
    assert left(empty_database) == "a i | 0001.a 0002.i"


def test_yoyo_takes_the_invalid_index_for_a_good_one(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, A | {"0002.i.sql": "-- transactional: false\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON a (x);"})
    yoyo("apply", "-r", "0001", tmp_path, url=empty_database)
    execute(empty_database, "INSERT INTO a VALUES (1), (1)")
    yoyo("apply", tmp_path, url=empty_database)
    assert yoyo("apply", tmp_path, url=empty_database) == "0 | a i! | 0001.a 0002.i"


def test_what_is_there_and_not_marked_can_be_marked(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, A | {"0002.b.sql": B})
    execute(empty_database, "CREATE TABLE a (x integer)")
    with pytest.raises(MigrationError, match="nothing was marked: the database lacks b; `--to` says"):
        baseline(empty_database, tmp_path)
    assert baseline(empty_database, tmp_path, to="1") == ["0001.a"]
    assert migrate(empty_database, tmp_path) == ["0002.b"]
    assert left(empty_database) == "a b | 0001.a 0002.b"


def test_a_statement_that_failed_without_transaction_is_mended_and_goes_on(empty_database: str, tmp_path: Path) -> None:
    text = "-- transactional: false\nCREATE TABLE b ();\nCREATE TABLE c ();\n{}"
    write(tmp_path, {"0001.bc.sql": text.format("SELECT 1 / 0;")})
    with pytest.raises(MigrationError, match="division by zero"):
        migrate(empty_database, tmp_path)
    line = status(empty_database, tmp_path).lines[0]
    assert (line.state, line.detail) == (
        "interrupted", "applying it was broken off after 2 of its statements; `kalshidb migrate` goes on from there"
    )  # fmt: skip
    write(tmp_path, {"0001.bc.sql": text.replace("TABLE b", "TABLE bb").format("SELECT 1;")})
    with pytest.raises(MigrationError, match="its first 2 statements are done and read differently now; restore them"):
        migrate(empty_database, tmp_path)
    write(tmp_path, {"0001.bc.sql": text.format("SELECT 1;")})
    assert migrate(empty_database, tmp_path) == ["0001.bc"]
    assert left(empty_database) == "b c | 0001.bc"


def test_python_that_commits_by_itself_is_told(empty_database: str, tmp_path: Path) -> None:
    code = (
        "from yoyo import step\ndef make(conn):\n    conn.execute('CREATE TABLE a ()')\n    conn.execute('COMMIT')\nstep(make)\n"
    )
    write(tmp_path, {"0001.a.py": code})
    told = []
    assert migrate(empty_database, tmp_path, report=lambda event: told.append(event.kind)) == ["0001.a"]
    assert "commits itself" in told
    assert left(empty_database) == "a | 0001.a"


def test_a_hook_that_failed_runs_the_next_time(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, A | {"post-apply.sql": "INSERT INTO seen VALUES (1);"})
    other = tmp_path / "other"
    assert yoyo("apply", tmp_path, url=empty_database) == "UndefinedTable | a | 0001.a"
    assert yoyo("apply", tmp_path, url=empty_database) == "0 | a | 0001.a", "yoyo never runs it again"
    write(other, A | {"0002.b.sql": B, "post-apply.sql": "INSERT INTO seen VALUES (1);"})
    with pytest.raises(MigrationError, match=r"post-apply\.sql:1: relation \"seen\" does not exist"):
        migrate(empty_database, other)
    assert status(empty_database, other).hooks_pending
    assert status(empty_database, other).exit_code == 4
    execute(empty_database, "CREATE TABLE seen (x integer)")
    assert migrate(empty_database, other) == []
    assert migrate(empty_database, other) == []
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM seen").fetchone() == (1,)


def test_a_lock_that_is_not_to_be_had_is_tried_again_and_then_named(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, A)
    migrate(empty_database, tmp_path)
    write(tmp_path, {"0002.y.sql": "-- depends: 0001.a\nALTER TABLE a ADD y integer;"})
    told = []
    with psycopg.connect(empty_database) as reader:
        reader.execute("SELECT * FROM a")

        def watch(event: object) -> None:
            told.append(getattr(event, "kind", ""))
            if told.count("retry") == 2 and len(told) > 8:
                reader.rollback()

        with pytest.raises(
            MigrationError, match=r"0002\.y: no luck in 2 tries \(canceling statement due to lock timeout; --lock-timeout 50ms\)"
        ):
            migrate(empty_database, tmp_path, options=Options(lock_timeout="50ms", retries=1, pause=0.01), report=watch)
        assert told.count("retry") == 1
        assert left(empty_database) == "a | 0001.a"

        def let_go(event: object) -> None:
            if getattr(event, "kind", "") == "retry":
                reader.rollback()

        assert migrate(empty_database, tmp_path, options=Options(lock_timeout="50ms", pause=0.01), report=let_go) == ["0002.y"]


def test_a_timeout_that_is_no_duration_is_named(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, A)
    with pytest.raises(MigrationError, match=r"--lock-timeout 'soon' is no duration; write 5s, 500ms"):
        migrate(empty_database, tmp_path, options=Options(lock_timeout="soon"))


def test_a_statement_that_runs_too_long_is_ended(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, {"0001.a.sql": "CREATE TABLE a ();\nSELECT pg_sleep(60);"})
    with pytest.raises(MigrationError, match=r"0001\.a\.sql:2: canceling statement due to statement timeout"):
        migrate(empty_database, tmp_path, options=Options(statement_timeout="100ms"))
    assert left(empty_database) == "- | -"


def test_a_checkout_on_another_system_edits_nothing(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, {"0001.a.sql": "-- A.\nCREATE TABLE a ();\n"})
    migrate(empty_database, tmp_path)
    write(tmp_path, {"0001.a.sql": "-- A.  \r\nCREATE TABLE a ();\r\n\r\n"})
    assert status(empty_database, tmp_path).verdict == "up to date"
    assert integrity.normalised(b"a \r\nb\rc\n\n") == b"a\nb\nc\n"


def test_begin_and_commit_around_a_file_stay_one_transaction_with_the_mark(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, {"0001.a.sql": "-- A.\nBEGIN;\nCREATE TABLE a ();\nCREATE TABLE b ();\nCOMMIT;\n"})
    assert migrate(empty_database, tmp_path) == ["0001.a"]
    assert left(empty_database) == "a b | 0001.a"


def test_a_folder_with_a_space_and_brackets(empty_database: str, tmp_path: Path) -> None:
    folder = tmp_path / "our [old] migrations"
    write(folder, A)
    assert yoyo("apply", folder, url=empty_database) == "0 | - | -", "yoyo takes the brackets for a pattern and finds nothing"
    assert migrate(empty_database, folder) == ["0001.a"]


def test_what_comes_too_late_can_be_applied_when_that_is_meant(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, {"0002.a.sql": "CREATE TABLE a ();"})
    migrate(empty_database, tmp_path)
    write(tmp_path, {"0001.late.sql": "CREATE TABLE late ();"})
    assert migrate(empty_database, tmp_path, allow_out_of_order=True) == ["0001.late"]
    assert status(empty_database, tmp_path).verdict == "up to date"


def test_what_is_half_applied_is_finished_before_anything_is_undone(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, A | UNDO_A | {"0002.b.sql": "-- transactional: false\nCREATE TABLE b ();\nSELECT 1 / 0;"})
    with pytest.raises(MigrationError, match="division by zero"):
        migrate(empty_database, tmp_path)
    with pytest.raises(
        MigrationError, match=r"nothing was undone:\n  0002\.b: applying it was broken off after 1 of its statements"
    ):
        rollback(empty_database, tmp_path)


def test_a_rollback_outside_of_transactions_that_hides_what_it_loses_is_refused(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, {"0001.s.sql": "-- transactional: false\nCREATE SCHEMA s;", "0001.s.rollback.sql": "DROP SCHEMA s CASCADE;"})
    migrate(empty_database, tmp_path)
    with pytest.raises(MigrationError, match=r"0001\.s was not undone: what s would lose cannot be told from the text"):
        rollback(empty_database, tmp_path)
    assert rollback(empty_database, tmp_path, allow_data_loss=True) == ["0001.s"]


def test_rows_that_come_while_a_rollback_is_considered_are_not_lost(empty_database: str, tmp_path: Path) -> None:
    """The table was empty when it was looked at; the rollback locks it and looks again."""
    write(tmp_path, A | UNDO_A)
    migrate(empty_database, tmp_path)
    with psycopg.connect(empty_database) as writer:
        writer.execute("INSERT INTO a VALUES (1)")

        def commit(event: object) -> None:
            if getattr(event, "kind", "") == "retry":
                writer.commit()

        with pytest.raises(MigrationError, match="drops a: 1 row"):
            rollback(empty_database, tmp_path, options=QUICK, report=commit)
    assert left(empty_database) == "a | 0001.a"
