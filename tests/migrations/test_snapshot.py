"""docs/schema/schema.sql: every object once, in an order of its own, and executed it makes the same schema again."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from kalshidb.migration import snapshot
from kalshidb.postgres.embedded import find_programs
from kalshidb.postgres.scratch import scratch_database
from kalshidb.sqlfiles import snapshot_file, sql_dir

EVERYTHING = (Path(__file__).parent / "everything.sql").read_text()


def dumped(url: str) -> str:
    """Return the schema as pg_dump writes it: an independent witness."""
    dump = [find_programs() / "pg_dump", "--schema-only", "--exclude-table=*yoyo*", "-d", url]
    text = subprocess.check_output(dump, text=True, timeout=60)
    return re.sub(r"^\\(un)?restrict .*\n", "", text, flags=re.MULTILINE)


def execute(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(text.encode())


def read(url: str) -> snapshot.Schema:
    with psycopg.connect(url) as conn:
        return snapshot.read(conn)


@pytest.fixture
def everything(empty_database: str) -> Iterator[str]:
    """A database with one of every kind of object, some of it granted to a role of this test's."""
    role = "kalshidb_tests_reader"
    execute(empty_database, f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    execute(empty_database, EVERYTHING)
    return empty_database


def assert_executed_it_makes_the_same(url: str) -> None:
    """PostgreSQL writes a view otherwise the second time, so both witnesses speak of a database that was made from a text."""
    with scratch_database(url) as ours, scratch_database(url) as theirs:
        execute(ours, snapshot.text(read(url)))
        execute(theirs, dumped(url))
        assert dumped(ours) == dumped(theirs)
        with scratch_database(url) as again:
            execute(again, snapshot.text(read(ours)))
            assert snapshot.text(read(again)) == snapshot.text(read(ours))


def test_executed_it_makes_every_kind_of_object_again(everything: str) -> None:
    assert_executed_it_makes_the_same(everything)


def test_each_thing_is_there_once_so_that_two_databases_can_be_compared_by_names(everything: str) -> None:
    things = read(everything).things
    assert len({(thing.kind, thing.name) for thing in things}) == len(things)
    grants = {thing.name: thing.definition for thing in things if thing.kind == "grant"}
    assert grants['TABLE lab."Parents" TO PUBLIC'] == 'INSERT, SELECT, UPDATE ("a name"), UPDATE (at)'


def test_executed_it_makes_our_schema_again(database_url: str) -> None:
    assert_executed_it_makes_the_same(database_url)


def test_the_committed_snapshot_is_what_the_migrations_make(database_url: str) -> None:
    assert snapshot_file().read_text() == snapshot.text(read(database_url), sql_dir("migrations")), "run kalshidb generate"
    assert snapshot.stale(sql_dir("migrations"), snapshot_file()) is None


def test_it_does_not_depend_on_the_order_in_which_things_were_made_nor_on_the_session(empty_database: str) -> None:
    made = [
        "CREATE TABLE b (at timestamptz DEFAULT '2026-01-01Z', y bytea DEFAULT '\\x00')",
        "CREATE TABLE a (x interval DEFAULT '1 day')",
    ]
    texts = []
    for statements in (made, made[::-1]):
        with scratch_database(empty_database) as url:
            for statement in statements:
                execute(url, statement)
            habits = "-c DateStyle=German -c TimeZone=Asia/Tokyo -c IntervalStyle=iso_8601 -c bytea_output=escape -c search_path=public"
            with psycopg.connect(url, options=habits) as conn:
                texts.append(snapshot.text(snapshot.read(conn)))
                assert conn.execute("SHOW DateStyle").fetchone() == ("German, DMY",), "the session is as it was"
    assert texts[0] == texts[1]
    assert "'2026-01-01 00:00:00+00'" in texts[0]


def test_what_belongs_to_yoyo_or_to_an_extension_is_no_part_of_it(empty_database: str) -> None:
    execute(empty_database, "CREATE TABLE yoyo_lock (); CREATE TABLE _yoyo_log (); CREATE TABLE _yoyo_migration ()")
    things = read(empty_database).things
    assert things == ()


def test_what_it_cannot_describe_it_names(empty_database: str) -> None:
    execute(empty_database, "CREATE AGGREGATE public.total(integer) (SFUNC = int4pl, STYPE = integer)")
    text = snapshot.text(read(empty_database))
    assert "-- Not described here: aggregate public.total(integer)" in text


MIGRATION = "CREATE TABLE public.t (x integer);\n"


def test_its_freshness_is_known_without_a_database(tmp_path: Path) -> None:
    folder, file = tmp_path / "migrations", tmp_path / "schema.sql"
    folder.mkdir()
    (folder / "0001.t.sql").write_text(MIGRATION)
    assert snapshot.stale(folder, file) == "missing; run generate"
    text = snapshot.text(snapshot.Schema((), {}, 18), folder)
    assert snapshot.write(file, text)
    assert not snapshot.write(file, text), "written only where it differs"
    assert snapshot.stale(folder, file) is None
    file.write_bytes(text.replace("\n", "\r\n").encode())
    assert snapshot.stale(folder, file) is None, "a checkout with other line ends is the same"
    file.write_text(text + "CREATE TABLE public.sneaked_in ();\n")
    assert "edited by hand" in str(snapshot.stale(folder, file))
    file.write_text(text)
    (folder / "0001.t.sql").write_text(MIGRATION.replace("integer", "bigint"))
    assert "stale" in str(snapshot.stale(folder, file))
    file.write_text("CREATE TABLE t ();\n")
    assert "not a generated file" in str(snapshot.stale(folder, file))
