"""`kalshidb check drift` and `check schema`: each kind of change in a live database is found and named; months are none."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from kalshidb import checks
from kalshidb.migration import drift, snapshot
from kalshidb.migration.findings import Finding
from kalshidb.sqlfiles import snapshot_file

SCHEMA = """
CREATE SCHEMA shop;
COMMENT ON SCHEMA shop IS 'A shop.';
CREATE DOMAIN shop.price AS numeric(7, 2) CONSTRAINT price_range_check CHECK (VALUE > 0);
CREATE TYPE shop.state AS ENUM ('open', 'paid');
CREATE FUNCTION shop.tax(price numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT price * 0.19';
CREATE TABLE shop.customers (
    customer_id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    city text,
    CONSTRAINT customers_pkey PRIMARY KEY (customer_id),
    CONSTRAINT customers_name_key UNIQUE (name)
);
COMMENT ON TABLE shop.customers IS 'Who buys.';
COMMENT ON COLUMN shop.customers.city IS 'Where.';
CREATE INDEX customers_city_idx ON shop.customers (city);
CREATE TABLE shop.orders (
    customer_id bigint NOT NULL,
    ordered_at timestamptz NOT NULL,
    price shop.price,
    CONSTRAINT orders_pkey PRIMARY KEY (customer_id, ordered_at),
    CONSTRAINT orders_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES shop.customers,
    CONSTRAINT orders_price_check CHECK (price < 1000)
) PARTITION BY RANGE (ordered_at);
CREATE INDEX orders_ordered_at_idx ON shop.orders (ordered_at);
CREATE VIEW shop.cities AS SELECT city, count(*) AS customers FROM shop.customers GROUP BY city;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER touch BEFORE UPDATE ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.touch();
GRANT SELECT ON shop.customers TO PUBLIC;
REVOKE EXECUTE ON FUNCTION shop.tax(numeric) FROM PUBLIC;
CREATE SCHEMA empty;
"""

Check = Callable[..., list[Finding]]
_rebuilt: dict[str, snapshot.Schema] = {}


@pytest.fixture
def check(empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Make the shop and its snapshot, do something to the shop by hand, and compare."""
    file = tmp_path / "schema.sql"
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(SCHEMA.encode())
        snapshot.write(file, snapshot.text(snapshot.read(conn)))

    def once(text: str, server: str, really: Callable[..., snapshot.Schema] = drift.rebuilt) -> snapshot.Schema:
        if text not in _rebuilt:  # the snapshot is the same for most tests
            _rebuilt[text] = really(text, server)
        return _rebuilt[text]

    monkeypatch.setattr(drift, "rebuilt", once)

    def check(by_hand: str = "", *, ignored: tuple[str, ...] = (), grants: bool = True) -> list[Finding]:
        with psycopg.connect(empty_database, autocommit=True) as conn:
            for statement in by_hand.split(";;"):
                if statement.strip():
                    conn.execute(statement.encode())
        with psycopg.connect(empty_database) as conn:
            conn.read_only = True
            return drift.check(conn, file, empty_database, ignored=ignored, grants=grants)

    return check


def names(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in findings]


CHANGES = {
    "DROP INDEX shop.customers_city_idx": ("missing", "index shop.customers_city_idx", "CREATE INDEX customers_city_idx ON"),
    "CREATE INDEX by_hand ON shop.orders (price)": ("extra", "index shop.by_hand", "CREATE INDEX by_hand ON shop.orders"),
    "ALTER TABLE shop.customers ALTER name DROP NOT NULL": ("changed", "column shop.customers.name", "here `text`"),
    "ALTER TABLE shop.orders ALTER price TYPE numeric(9, 2)": ("changed", "column shop.orders.price", "here `numeric(9,2)`"),
    "ALTER TABLE shop.customers ADD age integer": ("extra", "column shop.customers.age", "`integer`"),
    "ALTER TABLE shop.customers ALTER city SET DEFAULT 'Berlin'": ("changed", "column shop.customers.city", "DEFAULT 'Berlin'"),
    "ALTER TABLE shop.customers DROP CONSTRAINT customers_name_key": ("missing", "constraint shop.customers.customers_name_key", "UNIQUE"),
    "ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_id_fkey": (
        "missing", "foreign key shop.orders.orders_customer_id_fkey", "FOREIGN KEY"),
    "ALTER TABLE shop.orders DROP CONSTRAINT orders_price_check, ADD CONSTRAINT orders_price_check CHECK (price < 2000)": (
        "changed", "constraint shop.orders.orders_price_check", "2000"),
    "ALTER DOMAIN shop.price DROP CONSTRAINT price_range_check": ("missing", "constraint shop.price.price_range_check", "VALUE > 0"),
    "ALTER TYPE shop.state ADD VALUE 'sent'": ("changed", "type shop.state", "'sent'"),
    "CREATE OR REPLACE VIEW shop.cities AS SELECT city, count(*) AS customers FROM shop.customers WHERE true GROUP BY city": (
        "changed", "view shop.cities", "WHERE true"),
    "DROP VIEW shop.cities": ("missing", "view shop.cities", ""),
    "CREATE OR REPLACE FUNCTION shop.tax(price numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT price * 0.16'": (
        "changed", "function shop.tax(numeric)", "0.16"),
    "DROP TRIGGER touch ON shop.customers": ("missing", "trigger shop.customers.touch", "BEFORE UPDATE"),
    "ALTER TABLE shop.customers DISABLE TRIGGER touch": ("extra", "setting when trigger touch of shop.customers fires", ""),
    "COMMENT ON COLUMN shop.customers.city IS 'When.'": ("changed", "comment COLUMN shop.customers.city", "'When.'"),
    "COMMENT ON TABLE shop.customers IS NULL": ("missing", "comment TABLE shop.customers", "'Who buys.'"),
    "REVOKE SELECT ON shop.customers FROM PUBLIC": ("missing", "grant TABLE shop.customers TO PUBLIC", "SELECT"),
    "GRANT DELETE ON shop.customers TO PUBLIC": ("changed", "grant TABLE shop.customers TO PUBLIC", "DELETE, SELECT"),
    "GRANT EXECUTE ON FUNCTION shop.tax(numeric) TO PUBLIC": ("missing", "revoke FUNCTION shop.tax(numeric) FROM PUBLIC", "EXECUTE"),
    "CREATE TABLE shop.by_hand (x integer)": ("extra", "table shop.by_hand", ""),
    "CREATE TABLE public.by_hand (x integer)": ("extra", "table public.by_hand", ""),
    "DROP SCHEMA empty": ("missing", "schema empty", ""),
    "CREATE SCHEMA theirs;; CREATE TABLE theirs.t (x integer)": ("extra", "schema theirs", ""),
    "ALTER TABLE shop.customers SET (fillfactor = 50)": ("changed", "table shop.customers", "fillfactor=50"),
    "ALTER TABLE shop.customers ALTER city SET STATISTICS 900": ("extra", "setting statistics of column shop.customers.city", ""),
    "ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY": ("extra", "setting enable row level security of shop.customers", ""),
    "CREATE AGGREGATE shop.total(integer) (SFUNC = int4pl, STYPE = integer)": ("extra", "other aggregate shop.total(integer)", ""),
    "DROP TABLE shop.orders;; CREATE VIEW shop.orders AS SELECT 1 AS one": ("extra", "view shop.orders", ""),
}  # fmt: skip


def test_nothing_is_found_in_a_database_that_is_as_the_snapshot_says(check: Check) -> None:
    assert check() == []


@pytest.mark.parametrize("by_hand", CHANGES)
def test_what_was_changed_by_hand_is_found_and_named(check: Check, by_hand: str) -> None:
    rule, subject, words = CHANGES[by_hand]
    found = check(by_hand)
    assert (rule, subject) in names(found)
    said = next(finding for finding in found if finding.subject == subject)
    assert re.search(words, said.problem) or words in said.problem, str(said)
    assert len(found) <= 2, [str(finding) for finding in found]


def test_a_renamed_column_is_one_that_is_gone_and_one_that_came(check: Check) -> None:
    found = check("ALTER TABLE shop.customers RENAME city TO town")
    assert ("missing", "column shop.customers.city") in names(found)
    assert ("extra", "column shop.customers.town") in names(found)


def test_a_dropped_table_is_one_finding_and_not_one_for_each_of_its_columns(check: Check) -> None:
    assert names(check("DROP TABLE shop.orders")) == [("missing", "table shop.orders")]


def test_a_finding_says_where_the_snapshot_has_the_object(check: Check, tmp_path: Path) -> None:
    lines = (tmp_path / "schema.sql").read_text().splitlines()
    for by_hand, words in {
        "DROP INDEX shop.customers_city_idx": "CREATE INDEX customers_city_idx ON",
        "ALTER TABLE shop.customers ALTER name DROP NOT NULL": "    name text NOT NULL",
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_price_check": "    CONSTRAINT orders_price_check",
        "COMMENT ON COLUMN shop.customers.city IS 'When.'": "COMMENT ON COLUMN shop.customers.city",
    }.items():
        found = check(by_hand)
        assert any(lines[finding.line - 1].startswith(words) for finding in found), (words, found)


def test_columns_in_another_order_are_found_at_the_first_that_moved(check: Check) -> None:
    by_hand = """ALTER TABLE shop.customers DROP name CASCADE;;
        ALTER TABLE shop.customers ADD name text NOT NULL, ADD CONSTRAINT customers_name_key UNIQUE (name)"""
    (found,) = check(by_hand)
    assert (found.rule, found.subject) == ("column-order", "table shop.customers")
    assert "city where the snapshot has name" in found.problem


# -- what does not do its work -----------------------------------------------------------------------------------------------------


def test_an_invalid_index_is_found(check: Check) -> None:
    by_hand = """INSERT INTO shop.customers (name, city) VALUES ('a', 'x'), ('b', 'x');; DROP INDEX shop.customers_city_idx"""
    check(by_hand)
    with pytest.raises(psycopg.errors.UniqueViolation):
        check("CREATE UNIQUE INDEX CONCURRENTLY customers_city_idx ON shop.customers (city)")
    found = [finding for finding in check() if finding.rule == "fault"]
    assert [finding.subject for finding in found] == ["index shop.customers_city_idx"]
    assert "CONCURRENTLY failed" in found[0].problem


def test_an_index_that_some_partitions_lack_is_found(check: Check) -> None:
    months = "CREATE TABLE shop.orders_2026_01 PARTITION OF shop.orders FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z')"
    assert check(months) == []
    found = check("DROP INDEX shop.orders_ordered_at_idx;; CREATE INDEX orders_ordered_at_idx ON ONLY shop.orders (ordered_at)")
    assert names(found) == [("fault", "index shop.orders_ordered_at_idx")]
    assert "not every partition" in found[0].problem


def test_a_constraint_that_old_rows_may_break_is_found(check: Check) -> None:
    by_hand = """ALTER TABLE shop.orders DROP CONSTRAINT orders_price_check;;
        ALTER TABLE shop.orders ADD CONSTRAINT orders_price_check CHECK (price < 1000) NOT VALID"""
    found = check(by_hand)
    assert ("fault", "constraint shop.orders.orders_price_check") in names(found)
    assert "VALIDATE CONSTRAINT" in next(finding.advice for finding in found if finding.rule == "fault")


# -- partitions --------------------------------------------------------------------------------------------------------------------

MONTH = "CREATE TABLE shop.{0} PARTITION OF shop.orders FOR VALUES FROM ('{1}') TO ('{2}')"


def test_months_that_loaders_make_are_no_drift(check: Check) -> None:
    months = [("2025-12-01Z", "2026-01-01Z"), ("2026-01-01Z", "2026-02-01Z")]
    made = ";;".join(MONTH.format(f"orders_{number}", *bounds) for number, bounds in enumerate(months))
    assert check(f"{made};; COMMENT ON TABLE shop.orders_0 IS 'A month.';; GRANT SELECT ON shop.orders_0 TO PUBLIC") == []


def test_months_of_our_own_tables_are_no_drift(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        parents = conn.execute("SELECT partrelid::regclass::text FROM pg_partitioned_table").fetchall()
        assert len(parents) > 4
        for (parent,) in parents:
            conn.execute(
                "SELECT market_data.create_month_partitions(%s, ARRAY['2026-01-05Z', '2026-12-05Z']::timestamptz[])", [parent]
            )
    with psycopg.connect(database_url) as conn:
        assert drift.check(conn, snapshot_file(), database_url) == []


@pytest.mark.parametrize(
    ("made", "rule", "words"),
    [
        ("CREATE TABLE shop.rest PARTITION OF shop.orders DEFAULT", "default-partition", "default partition of shop.orders"),
        (MONTH.format("year", "2026-01-01Z", "2027-01-01Z"), "partition", "2027-01-01"),
        (MONTH.format("half", "2026-01-15Z", "2026-02-15Z"), "partition", "2026-01-15"),
    ],
)
def test_other_partitions_are_found(check: Check, made: str, rule: str, words: str) -> None:
    (found,) = check(made)
    assert found.rule == rule
    assert words in found.problem


def test_what_one_month_alone_has_is_found(check: Check) -> None:
    month = MONTH.format("january", "2026-01-01Z", "2026-02-01Z")
    (found,) = check(f"{month};; CREATE INDEX by_hand ON shop.january (price)")
    assert (found.rule, found.subject) == ("extra", "index shop.by_hand")
    assert "on the partition shop.january alone" in found.problem


# -- what is somebody else's -------------------------------------------------------------------------------------------------------


def test_somebody_elses_schema_can_be_left_out(check: Check) -> None:
    theirs = "CREATE SCHEMA theirs;; CREATE TABLE theirs.t (x integer);; CREATE TABLE public.t (x integer)"
    assert check(theirs, ignored=("theirs", "public")) == []


def test_grants_can_be_left_out(check: Check) -> None:
    by_hand = (
        "GRANT DELETE ON shop.customers TO PUBLIC;; ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO PUBLIC"
    )
    assert len(check(by_hand)) == 2
    assert check(grants=False) == []


def test_a_grant_to_a_role_that_the_scratch_server_does_not_know_is_no_obstacle(empty_database: str) -> None:
    role = "kalshidb_tests_unheard_of"
    text = f"CREATE TABLE public.t (); GRANT SELECT ON public.t TO {role}; ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO {role};"
    names = {thing.name for thing in drift.rebuilt(text, empty_database).things}
    assert {f"TABLE public.t TO {role}", f"GRANT ON TABLES TO {role}"} <= names
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regrole(%s)", [role]).fetchone() == (None,), "that server is left as it was"


def test_a_reader_with_no_rights_on_any_table_can_look(check: Check, empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("DO $$ BEGIN CREATE ROLE kalshidb_tests_nobody LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    with psycopg.connect(empty_database, user="kalshidb_tests_nobody") as conn:
        conn.read_only = True
        assert len(snapshot.read(conn).things) > 25
    assert check() == []


def test_what_the_scratch_server_cannot_make_is_said_and_the_rest_is_found_all_the_same(check: Check) -> None:
    by_hand = """CREATE OPERATOR shop.### (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat);;
        CREATE VIEW shop.odd AS SELECT name OPERATOR(shop.###) name AS twice FROM shop.customers;; DROP INDEX shop.customers_city_idx"""
    found = names(check(by_hand))
    assert ("scratch", "") in found
    assert {("extra", "view shop.odd"), ("missing", "index shop.customers_city_idx")} <= set(found)
    assert ("extra", "other operator shop.###(pg_catalog.text,pg_catalog.text)") in found


# -- as a command ------------------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(checks.app, list(arguments))
    return ended.exit_code, ended.output


def test_the_command_ends_with_5_where_something_differs(check: Check, empty_database: str, tmp_path: Path) -> None:
    file, sarif = tmp_path / "schema.sql", tmp_path / "found.sarif"
    options = ["drift", "--database", empty_database, "--server", empty_database, "--snapshot", str(file)]
    status, said = run(*options)
    assert (status, said.startswith("no findings against ")) == (0, True), said
    check("DROP INDEX shop.customers_city_idx")
    status, said = run(*options, "--sarif", str(sarif))
    assert status == 5, said
    assert "schema.sql:" in said
    assert "index shop.customers_city_idx: is missing" in said
    assert '"ruleId": "missing"' in sarif.read_text()


def test_a_database_can_be_saved_as_the_snapshot_that_it_is_compared_with_later(empty_database: str, tmp_path: Path) -> None:
    file = tmp_path / "production.sql"
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(SCHEMA.encode())
        assert run("drift", "--database", empty_database, "--save", str(file))[0] == 0
        options = ["drift", "--database", empty_database, "--server", empty_database, "--snapshot", str(file)]
        assert run(*options)[0] == 0
        conn.execute("ALTER TABLE shop.customers ADD x integer")
        assert run(*options)[0] == 5


def test_a_snapshot_that_is_not_there_is_said(empty_database: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        checks.app(["drift", "--database", empty_database, "--snapshot", str(tmp_path / "none.sql")], standalone_mode=False)
