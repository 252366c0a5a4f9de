"""What is said about a statement's locks, rewrites and scans, against what the server does: pg_locks, relfilenode, scan counters."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from kalshidb.migration.effects import Effect, LockLevel, Loss
from kalshidb.migration.statements import parse_text

SCHEMA = """
    CREATE SCHEMA s;
    CREATE DOMAIN s.free AS integer;
    CREATE DOMAIN s.positive AS integer CHECK (VALUE > 0);
    CREATE TYPE s.mood AS ENUM ('sad');
    CREATE TABLE s.parent (id integer PRIMARY KEY);
    CREATE TABLE s.big (
        id integer NOT NULL, parent_id integer, name varchar(10), amount numeric(8, 2), filled integer, size s.positive,
        double integer GENERATED ALWAYS AS (filled * 2) STORED
    );
    CREATE INDEX big_id_idx ON s.big (id);
    CREATE UNIQUE INDEX big_id_key ON s.big (id);
    CREATE STATISTICS s.big_stats ON id, filled FROM s.big;
    CREATE TABLE s.child (id integer, parent_id integer CONSTRAINT child_parent_id_fkey REFERENCES s.parent);
    CREATE TABLE s.measured (at date NOT NULL, id integer) PARTITION BY RANGE (at);
    CREATE TABLE s.measured_2026 PARTITION OF s.measured FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE s.measured_2027 (LIKE s.measured);
    CREATE TABLE s.inherited (LIKE s.big INCLUDING GENERATED);
    ALTER TABLE s.inherited ADD CONSTRAINT big_filled_check CHECK (filled > 0);
    CREATE VIEW s.looking AS SELECT id FROM s.big;
    CREATE MATERIALIZED VIEW s.stored AS SELECT id FROM s.big;
    CREATE UNIQUE INDEX stored_id_key ON s.stored (id);
    CREATE SEQUENCE s.numbers;
    CREATE FUNCTION s.act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER big_trigger BEFORE INSERT ON s.big FOR EACH ROW EXECUTE FUNCTION s.act();
    CREATE POLICY big_policy ON s.big;
    CREATE RULE big_rule AS ON DELETE TO s.child DO ALSO NOTHING;
    INSERT INTO s.parent SELECT g FROM generate_series(1, 50) g;
    INSERT INTO s.big SELECT g, g, 'x', 1, g, g FROM generate_series(1, 50) g;
    ALTER TABLE s.big ADD CONSTRAINT big_filled_check CHECK (filled > 0) NOT VALID,
        ADD CONSTRAINT big_other_fkey FOREIGN KEY (filled) REFERENCES s.parent NOT VALID;
"""

# The statement, and what it is said to do to whole tables: "rewrites", "scans", both or neither.
CASES = [
    ("CREATE TABLE s.fresh (id integer PRIMARY KEY)", ""),
    ("CREATE TABLE s.fresh (parent_id integer REFERENCES s.parent)", ""),
    ("CREATE TABLE s.fresh (LIKE s.big INCLUDING ALL)", ""),
    ("CREATE TABLE s.fresh () INHERITS (s.big)", ""),
    ("CREATE TABLE s.measured_2028 PARTITION OF s.measured FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')", ""),
    ("CREATE TABLE s.fresh AS SELECT * FROM s.big", "scans?"),
    ("SELECT * INTO s.fresh FROM s.big", ""),
    ("ALTER TABLE s.big ADD COLUMN c integer", ""),
    ("ALTER TABLE s.big ADD COLUMN c integer NOT NULL DEFAULT 7", "scans?"),
    ("ALTER TABLE s.big ADD COLUMN c timestamptz DEFAULT now()", ""),
    ("ALTER TABLE s.big ADD COLUMN c double precision DEFAULT random()", "rewrites scans"),
    ("ALTER TABLE s.big ADD COLUMN c uuid DEFAULT gen_random_uuid()", "rewrites scans"),
    ("ALTER TABLE s.big ADD COLUMN c bigserial", "rewrites scans"),
    ("ALTER TABLE s.big ADD COLUMN c integer GENERATED ALWAYS AS IDENTITY", "rewrites scans"),
    ("ALTER TABLE s.big ADD COLUMN c integer GENERATED ALWAYS AS (id + 1) STORED", "rewrites scans"),
    ("ALTER TABLE s.big ADD COLUMN c integer GENERATED ALWAYS AS (id + 1) VIRTUAL", ""),
    ("ALTER TABLE s.big ADD COLUMN c s.free", "rewrites? scans?"),
    ("ALTER TABLE s.big ADD COLUMN c s.positive DEFAULT 1", "rewrites? scans?"),
    ("ALTER TABLE s.big ADD COLUMN c integer REFERENCES s.parent", ""),
    ("ALTER TABLE s.big ADD COLUMN c integer CHECK (c > 0)", "scans"),
    ("ALTER TABLE s.big ADD COLUMN c integer UNIQUE", "scans"),
    ("ALTER TABLE s.big DROP COLUMN amount", ""),
    ("ALTER TABLE s.big ALTER COLUMN name TYPE varchar(20)", "rewrites? scans?"),
    ("ALTER TABLE s.big ALTER COLUMN name TYPE text", "rewrites? scans?"),
    ("ALTER TABLE s.big ALTER COLUMN parent_id TYPE bigint", "rewrites? scans?"),
    ("ALTER TABLE s.big ALTER COLUMN parent_id TYPE bigint USING parent_id * 2", "rewrites scans"),
    ("ALTER TABLE s.big ALTER COLUMN filled DROP EXPRESSION IF EXISTS", ""),
    ("ALTER TABLE s.big ALTER COLUMN double SET EXPRESSION AS (filled * 3)", "rewrites? scans?"),
    ("ALTER TABLE s.big ALTER COLUMN filled SET NOT NULL", "scans"),
    ("ALTER TABLE s.big ALTER COLUMN id DROP NOT NULL", ""),
    ("ALTER TABLE s.big ALTER COLUMN id SET DEFAULT 3", ""),
    ("ALTER TABLE s.big ALTER COLUMN id SET STATISTICS 500", ""),
    ("ALTER TABLE s.big ALTER COLUMN id SET (n_distinct = 5)", ""),
    ("ALTER TABLE s.big ALTER COLUMN name SET STORAGE EXTERNAL", ""),
    ("ALTER TABLE s.big ALTER COLUMN name SET COMPRESSION pglz", ""),
    ("ALTER TABLE s.big ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY", ""),
    ("ALTER TABLE s.big ADD CONSTRAINT c CHECK (id > 0)", "scans"),
    ("ALTER TABLE s.big ADD CONSTRAINT c CHECK (id > 0) NOT VALID", ""),
    ("ALTER TABLE s.big ADD CONSTRAINT c NOT NULL filled NOT VALID", ""),
    ("ALTER TABLE s.big ADD CONSTRAINT c PRIMARY KEY (id)", "scans"),
    ("ALTER TABLE s.big ADD CONSTRAINT c UNIQUE (id)", "scans"),
    ("ALTER TABLE s.big ADD CONSTRAINT c UNIQUE USING INDEX big_id_key", ""),
    ("ALTER TABLE s.big ADD CONSTRAINT c PRIMARY KEY USING INDEX big_id_key", "scans?"),
    ("ALTER TABLE s.big ADD CONSTRAINT c EXCLUDE (id WITH =)", "scans"),
    ("ALTER TABLE s.big ADD CONSTRAINT c FOREIGN KEY (parent_id) REFERENCES s.parent", "scans"),
    ("ALTER TABLE s.big ADD CONSTRAINT c FOREIGN KEY (parent_id) REFERENCES s.parent NOT VALID", ""),
    ("ALTER TABLE s.big VALIDATE CONSTRAINT big_filled_check", "scans"),
    ("ALTER TABLE s.big VALIDATE CONSTRAINT big_other_fkey", "scans"),
    ("ALTER TABLE s.big DROP CONSTRAINT big_filled_check", ""),
    ("ALTER TABLE s.child DROP CONSTRAINT child_parent_id_fkey", ""),
    ("ALTER TABLE s.child ALTER CONSTRAINT child_parent_id_fkey DEFERRABLE", ""),
    ("ALTER TABLE s.big SET (fillfactor = 80)", ""),
    ("ALTER TABLE s.big SET (autovacuum_enabled = false, toast.autovacuum_enabled = false)", ""),
    ("ALTER TABLE s.big SET (user_catalog_table = true)", ""),
    ("ALTER TABLE s.big RESET (fillfactor)", ""),
    ("ALTER TABLE s.child SET UNLOGGED", "rewrites scans"),
    ("ALTER TABLE s.big CLUSTER ON big_id_idx", ""),
    ("ALTER TABLE s.big SET WITHOUT CLUSTER", ""),
    ("ALTER TABLE s.big REPLICA IDENTITY FULL", ""),
    ("ALTER TABLE s.big ENABLE ROW LEVEL SECURITY", ""),
    ("ALTER TABLE s.big DISABLE TRIGGER big_trigger", ""),
    ("ALTER TABLE s.big ENABLE ALWAYS TRIGGER big_trigger", ""),
    ("ALTER TABLE s.big DISABLE TRIGGER USER", ""),
    ("ALTER TABLE s.child DISABLE RULE big_rule", ""),
    ("ALTER TABLE s.inherited INHERIT s.big", ""),
    ("ALTER TABLE s.big OWNER TO postgres", ""),
    ("ALTER TABLE s.big RENAME TO bigger", ""),
    ("ALTER TABLE s.big RENAME COLUMN id TO number", ""),
    ("ALTER TABLE s.big RENAME CONSTRAINT big_filled_check TO c", ""),
    ("ALTER TABLE s.big SET SCHEMA public", ""),
    ("ALTER TABLE s.measured ATTACH PARTITION s.measured_2027 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')", "scans?"),
    ("ALTER TABLE s.measured DETACH PARTITION s.measured_2026", ""),
    ("ALTER TABLE s.big ADD COLUMN c integer, ADD CONSTRAINT d CHECK (id > 0) NOT VALID, ALTER COLUMN id SET STATISTICS 10", ""),
    ("ALTER INDEX s.big_id_idx RENAME TO i", ""),
    ("ALTER INDEX s.big_id_idx SET (fillfactor = 70)", ""),
    ("ALTER VIEW s.looking RENAME TO seen", ""),
    ("ALTER VIEW s.looking SET (security_barrier = true)", ""),
    ("ALTER SEQUENCE s.numbers INCREMENT 5", ""),
    ("ALTER DOMAIN s.positive ADD CONSTRAINT c CHECK (VALUE < 1000)", "scans"),
    ("ALTER DOMAIN s.positive ADD CONSTRAINT c CHECK (VALUE < 1000) NOT VALID", ""),
    ("ALTER DOMAIN s.positive SET NOT NULL", "scans"),
    ("ALTER DOMAIN s.positive DROP CONSTRAINT positive_check", ""),
    ("ALTER TYPE s.mood ADD VALUE 'glad'", ""),
    ("CREATE INDEX i ON s.big (id)", "scans"),
    ("CREATE UNIQUE INDEX i ON s.big (id)", "scans"),
    ("CREATE INDEX i ON s.measured (id)", "scans"),
    ("REINDEX TABLE s.big", "scans"),
    ("REINDEX INDEX s.big_id_idx", "scans"),
    ("CREATE STATISTICS s.more ON id, parent_id FROM s.big", ""),
    ("CREATE TRIGGER t AFTER INSERT ON s.big FOR EACH ROW EXECUTE FUNCTION s.act()", ""),
    ("CREATE POLICY p ON s.big", ""),
    ("ALTER POLICY big_policy ON s.big USING (true)", ""),
    ("CREATE RULE r AS ON DELETE TO s.big DO INSTEAD NOTHING", ""),
    ("CREATE VIEW s.v AS WITH named AS (SELECT * FROM s.big) SELECT named.id FROM named JOIN s.parent USING (id)", ""),
    ("CREATE OR REPLACE VIEW s.looking AS SELECT id FROM s.big WHERE id > 1", ""),
    ("CREATE MATERIALIZED VIEW s.m AS SELECT id FROM s.big", "scans?"),
    ("CREATE FUNCTION s.f() RETURNS integer LANGUAGE sql AS 'SELECT count(*)::integer FROM s.big'", ""),
    ("CREATE SCHEMA t CREATE TABLE a (id integer REFERENCES s.parent)", ""),
    ("COMMENT ON TABLE s.big IS 'x'", ""),
    ("COMMENT ON COLUMN s.big.id IS 'x'", ""),
    ("COMMENT ON CONSTRAINT big_filled_check ON s.big IS 'x'", ""),
    ("COMMENT ON TRIGGER big_trigger ON s.big IS 'x'", ""),
    ("COMMENT ON INDEX s.big_id_idx IS 'x'", ""),
    ("COMMENT ON VIEW s.looking IS 'x'", ""),
    ("COMMENT ON SCHEMA s IS 'x'", ""),
    ("COMMENT ON FUNCTION s.act() IS 'x'", ""),
    ("COMMENT ON DOMAIN s.positive IS 'x'", ""),
    ("GRANT SELECT ON s.big TO public", ""),
    ("REVOKE ALL ON SCHEMA s FROM public", ""),
    ("SET LOCAL lock_timeout = '3s'", ""),
    ("DROP TABLE s.child", ""),
    ("DROP INDEX s.big_id_idx", ""),
    ("DROP VIEW s.looking", ""),
    ("DROP MATERIALIZED VIEW s.stored", ""),
    ("DROP SEQUENCE s.numbers", ""),
    ("DROP TRIGGER big_trigger ON s.big", ""),
    ("DROP POLICY big_policy ON s.big", ""),
    ("DROP RULE big_rule ON s.child", ""),
    ("DROP STATISTICS s.big_stats", ""),
    ("DROP FUNCTION IF EXISTS s.none()", ""),
    ("DROP DOMAIN s.free", ""),
    ("TRUNCATE s.big", ""),
    ("REFRESH MATERIALIZED VIEW s.stored", "rewrites scans"),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY s.stored", "scans"),
    ("LOCK TABLE s.big IN SHARE ROW EXCLUSIVE MODE", ""),
    ("INSERT INTO s.measured_2027 SELECT '2027-01-01', id FROM s.parent", ""),
    ("INSERT INTO s.parent VALUES (1) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id", ""),
    ("UPDATE s.big SET name = 'y'", "scans"),
    ("UPDATE s.big SET name = 'y' WHERE id = 1", ""),
    ("DELETE FROM s.child", "scans"),
    ("WITH gone AS (DELETE FROM s.child WHERE id = 1 RETURNING id) SELECT count(*) FROM gone", ""),
    ("MERGE INTO s.inherited USING s.parent ON inherited.id = parent.id WHEN MATCHED THEN DELETE", ""),
    ("SELECT * FROM s.big FOR UPDATE", ""),
    ("ANALYZE s.big", "scans?"),
    ("CLUSTER s.big USING big_id_idx", "rewrites scans"),
]  # fmt: skip

FORBIDDEN = [
    "CREATE INDEX CONCURRENTLY i ON s.big (id)",
    "DROP INDEX CONCURRENTLY s.big_id_idx",
    "REINDEX TABLE CONCURRENTLY s.big",
    "REINDEX (CONCURRENTLY) INDEX s.big_id_idx",
    "REINDEX SCHEMA s",
    "ALTER TABLE s.measured DETACH PARTITION s.measured_2026 CONCURRENTLY",
    "VACUUM s.big",
    "VACUUM (FULL) s.big",
    "CLUSTER",
    "CREATE DATABASE other",
    "DROP DATABASE other",
    "ALTER SYSTEM SET work_mem = '5MB'",
    "CREATE TABLESPACE t LOCATION '/nowhere'",
    "DROP TABLESPACE t",
    "CREATE SUBSCRIPTION u CONNECTION '' PUBLICATION p",
]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """One database for all cases; each is taken back."""
    host: str = request.config.option.postgresql_host
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as admin:
        name = sql.Identifier(f"effects_{threading.get_native_id()}_{time.monotonic_ns()}")
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        with psycopg.connect(host=host, user="postgres", dbname=name.as_string().strip('"')) as connection:
            connection.execute(SCHEMA)
            connection.commit()
            yield connection
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def relations(server: psycopg.Connection) -> dict[int, tuple[str, str, int]]:
    """Name, kind and file of each relation of ours, by its number."""
    rows = server.execute(
        "SELECT c.oid, relnamespace::regnamespace || '.' || relname, relkind::text, relfilenode FROM pg_class c"
        " WHERE relnamespace = 's'::regnamespace OR relnamespace = 'public'::regnamespace"
    )
    return {number: (name, kind, file) for number, name, kind, file in rows}


def scanned(server: psycopg.Connection) -> dict[int, int]:
    return dict(
        server.execute("SELECT oid, pg_stat_get_xact_tuples_returned(oid) FROM pg_class WHERE relkind IN ('r', 'm')").fetchall()
    )


def effect(text: str) -> Effect:
    (statement,) = parse_text(text)
    return statement.effect


def allows(said: str, happened: bool) -> bool:
    return said == "maybe" or (said == "yes") == happened


@pytest.mark.parametrize(("text", "whole"), CASES, ids=lambda value: str(value)[:70])
def test_what_is_said_of_a_statement_is_what_the_server_does(server: psycopg.Connection, text: str, whole: str) -> None:
    said = effect(text)
    assert said.transaction == "any"
    assert (
        " ".join(
            f"{word}{'?' if value == 'maybe' else ''}"
            for word, value in (("rewrites", said.rewrites), ("scans", said.scans))
            if value != "no"
        )
        == whole
    )
    with server.transaction(force_rollback=True):
        before, read_before = relations(server), scanned(server)
        server.execute("SAVEPOINT looked")  # what looking has locked is let go
        server.execute("ROLLBACK TO looked")
        server.execute(text)
        locks: dict[str, LockLevel] = {}
        for number, mode in server.execute(
            "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted"
        ).fetchall():
            if number in before:
                level = LockLevel[snake(mode)]
                locks[before[number][0]] = max(level, locks.get(before[number][0], level))
        after, read_after = relations(server), scanned(server)
    named = {lock.relation: lock.level for lock in said.locks if lock.named}
    unnamed = {lock.level for lock in said.locks if not lock.named}
    assert {name: locks.get(name) for name in named} == named, "what is named is locked just so"
    tables = {name: level for name, kind, _ in before.values() if kind in "rpvmS" and (level := locks.get(name)) is not None}
    extra = {name: level for name, level in tables.items() if name not in named and level > LockLevel.ACCESS_SHARE}
    # Partitions go with their table.
    extra = {name: level for name, level in extra.items() if named.get(name.rpartition("_")[0]) != level}
    assert set(extra.values()) <= unnamed, f"nothing else is locked: {extra}"
    tables_before = {number: file for number, (_, kind, file) in before.items() if kind in "rm"}
    changed = {number for number, file in tables_before.items() if number in after and after[number][2] != file}
    if not text.startswith("TRUNCATE"):  # which makes an empty file
        assert allows(said.rewrites, bool(changed))
    read = {number for number in tables_before if read_after.get(number, 0) - read_before.get(number, 0) >= 50}
    empty = {"s.child", "s.measured_2026", "s.measured_2027", "s.inherited"}
    if said.scans == "no" and not text.startswith(("SELECT", "INSERT", "MERGE", "UPDATE", "WITH", "DELETE")):
        assert not read, "a scan that was not announced"
    if (
        said.scans == "yes"
        and said.rewrites != "yes"
        and {name for name in named if name not in empty and "stored" not in name and "measured" not in name}
    ):
        assert read, "an announced scan that did not happen"


def snake(mode: str) -> str:
    """Turn AccessExclusiveLock into ACCESS_EXCLUSIVE."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in mode.removesuffix("Lock")).strip("_")


@pytest.mark.parametrize("text", FORBIDDEN)
def test_what_is_said_to_be_forbidden_in_a_transaction_is(server: psycopg.Connection, text: str) -> None:
    assert effect(text).transaction == "forbidden"
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), server.transaction(force_rollback=True):
        server.execute(text)


@pytest.mark.parametrize("text", FORBIDDEN[:4])
def test_concurrent_statements_let_writers_go_on(server: psycopg.Connection, text: str) -> None:
    """Seen from outside, while it waits for a transaction that has written the table."""
    (said, *_) = [lock.level for lock in effect(text).locks if lock.relation in ("s.big", "the table of s.big_id_idx")]
    assert said is LockLevel.SHARE_UPDATE_EXCLUSIVE
    with psycopg.connect(server.info.dsn) as writer, psycopg.connect(server.info.dsn, autocommit=True) as worker:
        writer.execute("UPDATE s.big SET name = 'z' WHERE id = 3")
        thread = threading.Thread(target=worker.execute, args=(text,))
        thread.start()
        try:
            look = "SELECT array_agg(mode) FROM pg_locks WHERE pid = %s AND relation = 's.big'::regclass AND granted"
            waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
            pid = worker.info.backend_pid
            end = time.monotonic() + 20
            while writer.execute(waits, [pid]).fetchone() == (0,):
                assert time.monotonic() < end, "it does not wait for the writer"
            (held,) = writer.execute(look, [pid]).fetchone()  # type: ignore[misc]
            assert set(held or ["ShareUpdateExclusiveLock"]) == {"ShareUpdateExclusiveLock"}
            writer.execute("UPDATE s.big SET name = 'z' WHERE id = 4")
        finally:
            writer.rollback()
            thread.join(20)
        assert not thread.is_alive()
    server.execute("DROP INDEX IF EXISTS s.i; CREATE INDEX IF NOT EXISTS big_id_idx ON s.big (id)")
    server.commit()


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        ("DROP TABLE a.b, c", [Loss("table", "a.b"), Loss("table", "c")]),
        ("DROP SCHEMA a CASCADE", [Loss("unknown", "a")]),
        ("ALTER TABLE a.b DROP COLUMN c, ADD COLUMN d integer", [Loss("column", "a.b", "c")]),
        ("ALTER TABLE a.b ALTER COLUMN c TYPE integer", [Loss("values", "a.b", "c")]),
        ("TRUNCATE a.b", [Loss("rows", "a.b")]),
        ("DELETE FROM a.b", [Loss("rows", "a.b")]),
        ("UPDATE a.b SET c = 1", [Loss("values", "a.b")]),
        ("INSERT INTO a.b VALUES (1)", []),
        ("WITH gone AS (DELETE FROM a.b RETURNING *) INSERT INTO a.c SELECT * FROM gone", [Loss("rows", "a.b")]),
        ("DO $$ BEGIN DROP TABLE a; END $$", [Loss("unknown", "a DO block")]),
        ("DROP INDEX a.i", []),
        ("DROP VIEW a.v", []),
    ],
)
def test_what_a_statement_destroys_is_named(text: str, losses: list[Loss]) -> None:
    assert list(effect(text).loses) == losses


@pytest.mark.parametrize("text", ["BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION", "END", "PREPARE TRANSACTION 'x'"])
def test_statements_that_begin_or_end_transactions_are_known(text: str) -> None:
    assert effect(text).transaction == "ends"


def test_a_called_function_makes_a_statement_opaque() -> None:
    assert effect("SELECT market_data.create_month_partitions('t', ARRAY[now()])").opaque
    assert not effect("SELECT count(*), now() FROM t").opaque
    assert effect("CALL p()").opaque


def test_names_that_need_quotes_keep_them() -> None:
    assert [lock.relation for lock in effect('CREATE INDEX i ON "Our Schema".t (x)').locks] == ['"Our Schema".t']
    assert effect('DROP TABLE "a.b"').loses == (Loss("table", '"a.b"'),)
    assert effect('CREATE UNIQUE INDEX "I" ON s.t (x)').creates == ('s."I"',)
