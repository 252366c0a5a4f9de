"""`kill -9` at any moment, many at once, yoyo among them: afterwards the schema is right, and what is marked is there and nothing else."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from kalshidb.migration import DataLoss, MigrationError, Options, migrate, rollback, status
from kalshidb.migration.folder import Folder, read_folder
from kalshidb.postgres import yoyo_url
from kalshidb.sqlfiles import sql_dir

KILLS = 50

# Ours, and what ours does not have: migrations outside of transactions, in all their forms, and a hook.
MORE = {
    "9001.first-index.sql": "-- transactional: false\n-- depends: {last}\nCREATE INDEX CONCURRENTLY a_idx ON catalog.markets (title);",
    "9002.mixed.sql": "-- transactional: false\n-- depends: 9001.first-index\nCREATE TABLE public.mixed (x integer);\n"
    "INSERT INTO public.mixed SELECT g FROM generate_series(1, 1000) g;\nCREATE INDEX CONCURRENTLY ON public.mixed (x);\n"
    "CREATE UNIQUE INDEX CONCURRENTLY mixed_key ON public.mixed (x);\nDROP INDEX CONCURRENTLY catalog.a_idx;\n"
    "REINDEX TABLE CONCURRENTLY public.mixed;\nVACUUM public.mixed;",
    "9003.after.sql": "-- depends: 9002.mixed\nALTER TABLE public.mixed ADD y integer NOT NULL DEFAULT 3;",
    "9004.detach.sql": "-- transactional: false\n-- depends: 9003.after\n"
    "CREATE TABLE public.parts (at date NOT NULL) PARTITION BY RANGE (at);\n"
    "CREATE TABLE public.part PARTITION OF public.parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');\n"
    "ALTER TABLE public.parts DETACH PARTITION public.part CONCURRENTLY;",
    "post-apply.sql": "COMMENT ON TABLE public.parts IS 'seen';",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The whole history of ours, and more."""
    made = tmp_path_factory.mktemp("history")
    for path in sql_dir("migrations").glob("*.sql"):
        (made / path.name).symlink_to(path)
    last = read_folder(made).migrations[-1].id
    for name, text in MORE.items():
        (made / name).write_text(text.format(last=last))
    whole = read_folder(made)
    for one in whole:  # before any process is forked, which then need not read it
        assert one.problems == ()
    return whole


@pytest.fixture(scope="module")
def expected(folder: Folder, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What a database has that nobody has disturbed."""
    host: str = request.config.option.postgresql_host
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as admin:
        name = f"undisturbed_{time.monotonic_ns()}"
        admin.execute(f"CREATE DATABASE {name}".encode())
        url = f"postgresql://postgres@/{name}?host={host}"
        migrate(url, folder)
        yield content(url)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def content(url: str) -> list[str]:
    """Return everything the schema is, and that no index is invalid."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT c.oid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) || attnotnull FROM pg_class c"
            " JOIN pg_attribute ON attrelid = c.oid WHERE attnum > 0 AND NOT attisdropped AND relnamespace::regnamespace::text !~ '^pg_'"
            " AND relnamespace::regnamespace::text <> 'information_schema' AND relkind IN ('r', 'p', 'v') AND relname !~ 'yoyo'"
            " UNION ALL SELECT pg_get_indexdef(indexrelid) || indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE relnamespace::regnamespace::text !~ '^pg_' AND relname !~ 'yoyo'"
            " UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace::regnamespace::text !~ '^pg_' AND conname !~ 'yoyo'"
            " UNION ALL SELECT proname || pg_get_function_identity_arguments(oid) FROM pg_proc"
            " WHERE pronamespace::regnamespace::text !~ '^pg_' AND pronamespace::regnamespace::text <> 'information_schema'"
            " UNION ALL SELECT typname FROM pg_type WHERE typtype IN ('d', 'e') AND typnamespace::regnamespace::text !~ '^pg_'"
            " AND typnamespace::regnamespace::text <> 'information_schema'"
            " UNION ALL SELECT inhrelid::regclass || ' of ' || inhparent::regclass FROM pg_inherits"
            " UNION ALL SELECT 'mixed ' || count(*) FROM public.mixed"
            " UNION ALL SELECT obj_description('public.parts'::regclass)"
            " ORDER BY 1"
        ).fetchall()
    return [line for (line,) in columns]


def at_rest(url: str, folder: Folder) -> None:
    found = status(url, folder)
    assert {line.state for line in found.lines} <= {"applied", "unmarked"}
    assert (found.hooks_pending, found.lock, found.running, found.record.intents) == (False, None, None, ())


def nobody(url: str) -> None:
    """Wait until the server has noticed that its clients are gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        end = time.monotonic() + 20
        while connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone() != (0,):
            assert time.monotonic() < end
            time.sleep(0.01)


def fork(work: Callable[[], object]) -> int:
    """Do something in another process, without the second that a new Python takes to begin; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        with suppress(SystemExit):
            work()
        status = 0
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def marked_is_there_and_nothing_else(url: str, folder: Folder) -> None:
    """Each ordinary migration makes relations; those of marked ones are there, those of others are not."""
    with psycopg.connect(url) as connection:
        has_yoyo = connection.execute("SELECT to_regclass('_yoyo_migration')").fetchone() != (None,)
        marked = (
            {name for (name,) in connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall()} if has_yoyo else set()
        )
        for one in folder:
            assert one.file is not None
            if one.transactional:
                made = [
                    name
                    for statement in one.file.statements
                    if statement.kind == "create_stmt"
                    for name in statement.effect.creates
                ]
                there = {connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() for name in made}
                assert there <= {(one.id in marked,)}, one.id


def test_killed_at_fifty_random_moments_it_always_goes_on(empty_database: str, folder: Folder, expected: list[str]) -> None:
    chance = random.Random(4711)  # noqa: S311
    kills, rounds = 0, 0
    while kills < KILLS:
        process = fork(lambda: migrate(empty_database, folder))
        # Half of the moments anywhere, half of them where something has just begun to happen.
        time.sleep(chance.uniform(0.0, 0.5 if chance.random() < 0.5 else 0.12))
        os.kill(process, signal.SIGKILL)
        if ended(process) == -signal.SIGKILL:
            kills += 1
        nobody(empty_database)
        marked_is_there_and_nothing_else(empty_database, folder)
        if status(empty_database, folder).verdict == "up to date":
            assert content(empty_database) == expected
            at_rest(empty_database, folder)
            rounds += 1
            start_anew(empty_database)
    migrate(empty_database, folder)
    assert content(empty_database) == expected
    at_rest(empty_database, folder)


def start_anew(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        ).fetchall()
        for (name,) in schemas:
            connection.execute(f"DROP SCHEMA {name} CASCADE".encode())
        connection.execute("CREATE SCHEMA public")


def test_a_rollback_killed_at_random_moments_goes_on_too(empty_database: str, folder: Folder, expected: list[str]) -> None:
    """Only its own transaction can be killed, as the last ones of the history show; what is undone can be applied again."""
    last = folder.migrations[-5].id
    chance = random.Random(42)  # noqa: S311
    text = {
        "9004.detach": "DROP TABLE public.part;\nDROP TABLE public.parts;",
        "9003.after": "ALTER TABLE public.mixed DROP y;",
        "9002.mixed": "CREATE INDEX CONCURRENTLY a_idx ON catalog.markets (title);\nDROP TABLE public.mixed;",
        "9001.first-index": "DROP INDEX CONCURRENTLY catalog.a_idx;",
    }
    for name, undo in text.items():
        (folder.sources[0] / f"{name}.rollback.sql").write_text(undo)
    whole = read_folder(folder.sources[0])
    try:
        migrate(empty_database, whole)
        with pytest.raises(DataLoss, match=r"9003\.after .*\n  drops (public\.)?mixed\.y, which has a value in 1,000 rows"):
            rollback(empty_database, whole, to=last)
        for _ in range(8):
            process = fork(lambda: rollback(empty_database, whole, to=last, allow_data_loss=True))
            time.sleep(chance.uniform(0.0, 0.2))
            os.kill(process, signal.SIGKILL)
            ended(process)
            nobody(empty_database)
        rollback(empty_database, whole, to=last, allow_data_loss=True)
        assert [line.id for line in status(empty_database, whole).having("applied")][-1] == last
        migrate(empty_database, whole)
        assert content(empty_database) == expected
        at_rest(empty_database, whole)
    finally:
        for name in text:
            (folder.sources[0] / f"{name}.rollback.sql").unlink()


def test_eight_processes_migrate_an_empty_database_at_once(
    empty_database: str, folder: Folder, expected: list[str], tmp_path: Path
) -> None:
    def work(number: int) -> None:
        applied = migrate(empty_database, folder)
        (tmp_path / str(number)).write_text(" ".join(applied))

    processes = [fork(partial(work, number)) for number in range(8)]
    assert [ended(process) for process in processes] == [0] * 8
    said = sorted(path.read_text() for path in tmp_path.iterdir())
    assert said == [""] * 7 + [" ".join(one.id for one in folder)], "one applied all, seven waited"
    assert content(empty_database) == expected
    at_rest(empty_database, folder)


def test_several_of_ours_and_several_yoyos_at_once_corrupt_nothing(
    empty_database: str, folder: Folder, expected: list[str]
) -> None:
    def plain() -> None:
        from yoyo.scripts.main import main

        main(["apply", "--batch", "--no-config-file", "-d", yoyo_url(empty_database), str(folder.sources[0])])

    processes = [fork(plain if number % 2 else lambda: migrate(empty_database, folder)) for number in range(6)]
    outcomes = [ended(process) for process in processes]
    assert outcomes[::2] == [0, 0, 0], "ours wait for yoyo as long as it takes"
    migrate(empty_database, folder)
    assert content(empty_database) == expected
    at_rest(empty_database, folder)


def test_a_yoyo_that_was_killed_is_no_obstacle(empty_database: str, folder: Folder, expected: list[str]) -> None:
    def plain() -> None:
        from yoyo.scripts.main import main

        main(["apply", "--batch", "--no-config-file", "-d", yoyo_url(empty_database), str(folder.sources[0])])

    process = fork(plain)
    with psycopg.connect(empty_database, autocommit=True) as looking:
        end = time.monotonic() + 20
        while (
            looking.execute("SELECT to_regclass('yoyo_lock')").fetchone() == (None,)
            or not looking.execute("SELECT FROM yoyo_lock").fetchall()
        ):
            assert time.monotonic() < end
    os.kill(process, signal.SIGKILL)
    ended(process)
    nobody(empty_database)
    with psycopg.connect(empty_database) as looking:
        assert looking.execute("SELECT pid FROM yoyo_lock").fetchall() == [(process,)], "its lock is still there"
    told: list[str] = []
    migrate(empty_database, folder, report=lambda event: told.append(event.kind))
    assert "broke lock" in told
    assert content(empty_database) == expected


# Not by chance: every boundary between two statements, and the middle of those that nobody can take back

SMALL = {
    "1.a.sql": "CREATE TABLE a (x integer);\nINSERT INTO a VALUES (1), (2);",
    "2.index.sql": "-- transactional: false\n-- depends: 1.a\nSET work_mem = '8MB';\nCREATE INDEX CONCURRENTLY a_idx ON a (x);\n"
    "CREATE INDEX CONCURRENTLY ON a (x);\n"
    "CREATE TABLE b AS SELECT * FROM a;\nBEGIN;\nINSERT INTO b VALUES (3);\nINSERT INTO b VALUES (4);\nCOMMIT;\n"
    "DROP INDEX CONCURRENTLY a_idx;\nREINDEX TABLE CONCURRENTLY a;",
    "3.c.sql": "CREATE TABLE c (x integer);\nDROP TABLE c;\nCREATE TABLE c (y integer);",
    "post-apply.sql": "COMMENT ON TABLE a IS 'seen';",
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Folder:
    for name, text in SMALL.items():
        (tmp_path / name).write_text(text)
    return read_folder(tmp_path)


def small_content(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT (SELECT array_agg(x ORDER BY x) FROM b), (SELECT array_agg(indexrelid::regclass::text || indisvalid)"
            " FROM pg_index WHERE indrelid = 'a'::regclass), obj_description('a'::regclass),"
            " (SELECT array_agg(migration_id ORDER BY applied_at_utc) FROM _yoyo_migration),"
            " (SELECT array_agg(operation || ' ' || migration_id ORDER BY created_at_utc) FROM _yoyo_log)"
        ).fetchone()


DONE = (
    [1, 2, 3, 4],
    ["a_x_idxtrue"],
    "seen",
    ["1.a", "2.index", "3.c"],
    ["apply 1.a", "apply post-apply", "apply 2.index", "apply 3.c", "apply post-apply"],
)


def migrate_and_die(url: str, folder: Folder, statements: int) -> None:
    """Migrate, and be killed when that many statements that change something have come back from the server."""
    left = statements
    execute = psycopg.Cursor.execute

    def counting(self: psycopg.Cursor, *arguments: object, **options: object) -> object:
        nonlocal left
        result = execute(self, *arguments, **options)  # type: ignore[arg-type]
        left -= not str(arguments[0]).lstrip(" \nb'").startswith(("SELECT", "SET", "RESET", "DISCARD", "BEGIN", "SAVEPOINT"))
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    psycopg.Cursor.execute = counting  # type: ignore[method-assign, assignment]
    migrate(url, folder)


def test_killed_between_any_two_statements_it_goes_on(empty_database: str, small: Folder) -> None:
    migrate(empty_database, small, to="1")
    with psycopg.connect(empty_database) as begun:
        name = begun.info.dbname
    copy = empty_database.replace(name, f"{name}_copy")
    with psycopg.connect(empty_database.replace(name, "postgres"), autocommit=True) as admin:
        for statements in range(1, 1000):
            admin.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}".encode())
            process = fork(partial(migrate_and_die, copy, small, statements))
            survived = ended(process) == 0
            migrate(copy, small)
            assert small_content(copy) == DONE, f"killed after {statements} statements"
            at_rest(copy, small)
            admin.execute(f"DROP DATABASE {name}_copy WITH (FORCE)".encode())
            if survived:
                break
    assert statements > 25


def wait_for(url: str, condition: str) -> None:
    with psycopg.connect(url, autocommit=True) as looking:
        end = time.monotonic() + 20
        while looking.execute(f"SELECT EXISTS ({condition})".encode()).fetchone() != (True,):
            assert time.monotonic() < end, f"it did not happen: {condition}"
            time.sleep(0.005)


# Waiting for the writer: by then the index is there, and invalid.
BUILDING = "SELECT FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for writers%'"


@pytest.mark.parametrize(("table", "name"), [("a", ""), ("a", "i"), ('"A b"', '"I.x"')])
@pytest.mark.parametrize("dies", ["server process", "both"])
def test_an_index_whose_build_was_broken_off_is_built_again(
    empty_database: str, tmp_path: Path, table: str, name: str, dies: str
) -> None:
    (tmp_path / "1.a.sql").write_text(f"CREATE TABLE {table} (x integer);")
    migrate(empty_database, tmp_path)
    (tmp_path / "2.i.sql").write_text(
        f"-- transactional: false\n-- depends: 1.a\nCREATE INDEX CONCURRENTLY {name} ON {table} (x);"
    )
    with psycopg.connect(empty_database) as writer:
        writer.execute(f"INSERT INTO {table} VALUES (1)".encode())  # noqa: S608
        process = fork(lambda: migrate(empty_database, tmp_path))
        wait_for(empty_database, BUILDING)
        if dies == "both":
            os.kill(process, signal.SIGKILL)
        with psycopg.connect(empty_database, autocommit=True) as killer:
            killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
        assert ended(process) != 0
    nobody(empty_database)
    with psycopg.connect(empty_database) as looking:
        assert looking.execute("SELECT indisvalid FROM pg_index WHERE indrelid = %s::regclass", [table]).fetchall() == [(False,)]
    told: list[str] = []
    migrate(empty_database, tmp_path, report=lambda event: told.append(event.detail))
    index = name or "a_x_idx"
    assert f"drops {index}, which a broken-off build has left invalid" in told
    with psycopg.connect(empty_database) as looking:
        found = looking.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = %s::regclass", [table]
        ).fetchall()
    assert found == [(index, True)]
    at_rest(empty_database, read_folder(tmp_path))


def test_a_killed_one_whose_server_still_builds_is_waited_for(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "1.a.sql").write_text("CREATE TABLE a (x integer);")
    migrate(empty_database, tmp_path)
    (tmp_path / "2.i.sql").write_text("-- transactional: false\n-- depends: 1.a\nCREATE INDEX CONCURRENTLY i ON a (x);")
    with psycopg.connect(empty_database) as writer:
        writer.execute("INSERT INTO a VALUES (1)")
        process = fork(lambda: migrate(empty_database, tmp_path))
        wait_for(empty_database, BUILDING)
        os.kill(process, signal.SIGKILL)
        ended(process)
        second = fork(lambda: migrate(empty_database, tmp_path))
        wait_for(
            empty_database,
            "SELECT FROM pg_stat_activity WHERE application_name = 'kalshidb migrate' AND query LIKE '%try_advisory%'",
        )
        writer.rollback()
    assert ended(second) == 0
    with psycopg.connect(empty_database) as looking:
        assert looking.execute("SELECT indisvalid FROM pg_index WHERE indrelid = 'a'::regclass").fetchall() == [(True,)]
    at_rest(empty_database, read_folder(tmp_path))


def test_a_yoyo_cannot_come_between_while_a_migration_is_under_way(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "1.a.sql").write_text("CREATE TABLE a ();\nSELECT pg_advisory_xact_lock(4711);")
    with psycopg.connect(empty_database, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(4711)")
        process = fork(lambda: migrate(empty_database, tmp_path, options=Options(lock_timeout="0")))
        wait_for(empty_database, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        gate.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            gate.execute("INSERT INTO yoyo_lock VALUES (1, now(), 1)")
        assert gate.execute("SELECT FROM yoyo_lock").fetchall() == []
        gate.execute("SELECT pg_advisory_unlock(4711)")
    assert ended(process) == 0


def test_waiting_for_another_does_not_hold_up_its_index(empty_database: str, tmp_path: Path) -> None:
    """A statement that waits holds a snapshot, and CREATE INDEX CONCURRENTLY would wait for it for ever."""
    (tmp_path / "1.a.sql").write_text("CREATE TABLE a (x integer);")
    migrate(empty_database, tmp_path)
    (tmp_path / "2.i.sql").write_text("-- transactional: false\n-- depends: 1.a\nCREATE INDEX CONCURRENTLY i ON a (x);")
    with psycopg.connect(empty_database) as writer:
        writer.execute("INSERT INTO a VALUES (1)")
        processes = [fork(lambda: migrate(empty_database, tmp_path)) for _ in range(4)]
        wait_for(empty_database, BUILDING)
        wait_for(empty_database, "SELECT FROM pg_stat_activity WHERE query LIKE '%try_advisory%' HAVING count(*) >= 3")
        writer.commit()
    assert [ended(process) for process in processes] == [0] * 4


@pytest.mark.parametrize("header", ["", "-- transactional: false\n"])
def test_a_lost_connection_is_named_and_the_next_one_goes_on(empty_database: str, tmp_path: Path, header: str) -> None:
    (tmp_path / "1.a.sql").write_text(f"{header}CREATE TABLE a ();\nSELECT pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(
        MigrationError, match=r"1\.a: the connection was lost \(terminating connection due to administrator command\)"
    ):
        migrate(empty_database, tmp_path)
    (tmp_path / "1.a.sql").write_text(f"{header}CREATE TABLE a ();\nSELECT 1;")
    assert migrate(empty_database, tmp_path) == ["1.a"]
    at_rest(empty_database, read_folder(tmp_path))


@pytest.mark.parametrize(
    "text", ["CREATE TABLE b ();\nSELECT pg_sleep(60);", "-- transactional: false\nCREATE INDEX CONCURRENTLY i ON a (x);"]
)
def test_an_interrupt_ends_it_at_once_and_leaves_no_lock(empty_database: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "1.a.sql").write_text("CREATE TABLE a (x integer);")
    migrate(empty_database, tmp_path)
    (tmp_path / "2.b.sql").write_text(text)
    with psycopg.connect(empty_database) as writer:
        writer.execute("INSERT INTO a VALUES (1)")
        process = fork(lambda: migrate(empty_database, tmp_path))
        wait_for(
            empty_database,
            f"SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{text[-12:-1]}%' AND pid <> pg_backend_pid()",
        )
        os.kill(process, signal.SIGINT)
        assert ended(process) == 1
    with psycopg.connect(empty_database) as looking:
        assert looking.execute("SELECT FROM yoyo_lock").fetchall() == []
    (tmp_path / "2.b.sql").write_text(text.replace("60", "0"))
    assert migrate(empty_database, tmp_path) == ["2.b"]
    at_rest(empty_database, read_folder(tmp_path))
