"""`kalshidb check migrations`: what is dangerous or against the rules in a migration file is found at its line."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from kalshidb import checks
from kalshidb.migration import integrity, lint
from kalshidb.migration.findings import Finding
from kalshidb.migration.folder import FolderError
from kalshidb.sqlfiles import sql_dir

FIRST = """\
-- What may be traded.
--
-- Why: everything else points here, so it comes first.
-- Locks: creates only, nobody waits for it.
-- Undo: loses the whole catalogue.

CREATE SCHEMA market_data;
COMMENT ON SCHEMA market_data IS 'What the market did.';
CREATE TABLE market_data.quotes (
    market_ticker text NOT NULL,
    seen_at timestamptz NOT NULL,
    price numeric(7, 6),
    source text,
    CONSTRAINT quotes_pkey PRIMARY KEY (market_ticker, seen_at),
    CONSTRAINT quotes_price_check CHECK (price >= 0)
);
COMMENT ON TABLE market_data.quotes IS 'A quote.';
COMMENT ON COLUMN market_data.quotes.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.quotes.seen_at IS 'When, UTC.';
COMMENT ON COLUMN market_data.quotes.price IS 'Dollars.';
COMMENT ON COLUMN market_data.quotes.source IS 'Where from.';
CREATE TABLE market_data.trades (
    market_ticker text NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT trades_pkey PRIMARY KEY (market_ticker, seen_at)
) PARTITION BY RANGE (seen_at);
COMMENT ON TABLE market_data.trades IS 'A trade.';
COMMENT ON COLUMN market_data.trades.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.trades.seen_at IS 'When, UTC.';
"""
HEADER = """\
-- A change of something.
--
-- Why: because the first one did not do it.
-- Locks: none that anybody notices.
-- Undo: takes it away, nothing is lost.
-- depends: 0001.first
"""
LINES = len(HEADER.splitlines())

Check = Callable[..., list[Finding]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001.first.sql").write_text(FIRST)
    (folder / "0001.first.rollback.sql").write_text("DROP TABLE market_data.quotes; DROP SCHEMA market_data;")
    (folder / "0002.change.rollback.sql").write_text("SELECT 1;")
    return folder


@pytest.fixture
def check(folder: Path) -> Check:
    """Give the first migration a second one, and look at both."""

    def check(body: str, *, header: str = HEADER, house: bool = True) -> list[Finding]:
        (folder / "0002.change.sql").write_text(f"{header}\n{body}\n")
        return lint.check(folder, house=house)

    return check


def found(findings: list[Finding]) -> list[tuple[str, int]]:
    """Return the rules that are broken, with the lines of the body, from 1."""
    return [(finding.rule, finding.line - LINES - 1) for finding in findings]


ADD = "ALTER TABLE market_data.quotes ADD "
COMMENTED = "COMMENT ON COLUMN market_data.quotes.{0} IS 'x';"

# What a body must say to be found, and what of it: the rule and the line.
DANGEROUS = {
    "an index blocks writers": (
        "CREATE INDEX quotes_source_idx ON market_data.quotes (source);", "require-concurrent-index-creation", 1),
    "an index blocks the writers of every partition": (
        "CREATE INDEX trades_seen_at_idx ON market_data.trades (seen_at);", "partitioned-index", 1),
    "a foreign key reads the table under lock": (
        f"{ADD}CONSTRAINT quotes_market_ticker_source_fkey\n    FOREIGN KEY (market_ticker, source) REFERENCES market_data.quotes;",
        "adding-foreign-key-constraint", 1),
    "a check reads the table under lock": (
        f"{ADD}CONSTRAINT quotes_source_check CHECK (source <> '');", "constraint-missing-not-valid", 1),
    "a unique constraint builds its index under lock": (
        f"{ADD}CONSTRAINT quotes_market_ticker_source_key UNIQUE (market_ticker, source);", "disallowed-unique-constraint", 1),
    "a column is required that no row has": (
        f"{ADD}COLUMN size numeric(9, 2) NOT NULL;\n{COMMENTED.format('size')}", "adding-required-field", 1),
    "NOT NULL reads the table under lock": (
        "ALTER TABLE market_data.quotes ALTER COLUMN source SET NOT NULL;", "adding-not-nullable-field", 1),
    "a type change rewrites the table": (
        "ALTER TABLE market_data.quotes ALTER COLUMN source TYPE integer USING 1;", "changing-column-type", 1),
    "a volatile default rewrites the table": (
        f"{ADD}COLUMN mark uuid DEFAULT gen_random_uuid();\n{COMMENTED.format('mark')}", "adding-field-with-default", 1),
    "a column is renamed under its readers": (
        "ALTER TABLE market_data.quotes RENAME COLUMN source TO origin;", "renaming-column", 1),
    "a column is dropped under its readers": ("ALTER TABLE market_data.quotes DROP COLUMN source;", "ban-drop-column", 1),
    "a table is dropped under its readers": ("DROP TABLE market_data.quotes;", "ban-drop-table", 1),
    "CONCURRENTLY inside a transaction": (
        "CREATE INDEX CONCURRENTLY quotes_source_idx ON market_data.quotes (source);", "transaction", 1),
    "a COMMIT in the middle": ("SELECT 1;\nCOMMIT;\nSELECT 2;", "transaction", 2),
    "a constraint that nobody validates": (
        f"{ADD}CONSTRAINT quotes_source_check CHECK (source <> '') NOT VALID;", "never-validated", 1),
    "a constraint that is validated at once": (
        f"{ADD}CONSTRAINT quotes_source_check CHECK (source <> '') NOT VALID;\n"
        "ALTER TABLE market_data.quotes VALIDATE CONSTRAINT quotes_source_check;", "validate-at-once", 2),
    "what PostgreSQL cannot read": ("SELEC 1;", "syntax", 1),
    "a directive after the first statement": ("SELECT 1;\n-- transactional: false\nSELECT 2;", "directive", 2),
    "a statement that yoyo cuts in two": ("SELECT 1 /* one; /* two; */ three; */ ;\nSELECT 2;", "split", 1),
}  # fmt: skip

AGAINST_THE_RULES = {
    "a table without comments": (
        "CREATE TABLE market_data.t (\n    market_ticker text NOT NULL,\n    CONSTRAINT t_pkey PRIMARY KEY (market_ticker)\n);",
        {("comment", 1), ("comment", 2)}),
    "a column without a comment": (f"{ADD}COLUMN size numeric(9, 2);", {("comment", 1)}),
    "a number without precision": (f"{ADD}COLUMN size numeric;\n{COMMENTED.format('size')}", {("precision", 1)}),
    "an inexact number": (f"{ADD}COLUMN size double precision;\n{COMMENTED.format('size')}", {("precision", 1)}),
    "a domain without precision or named rule": (
        "CREATE DOMAIN market_data.size AS numeric CHECK (VALUE > 0);\nCOMMENT ON DOMAIN market_data.size IS 'x';",
        {("precision", 1), ("name", 1)}),
    "a constraint without a name": (
        f"{ADD}COLUMN size numeric(9, 2) CHECK (size > 0);\n{COMMENTED.format('size')}", {("name", 1)}),
    "a key that is named otherwise": (
        "CREATE TABLE market_data.t (\n    market_ticker text NOT NULL,\n    CONSTRAINT t_pk PRIMARY KEY (market_ticker)\n);\n"
        "COMMENT ON TABLE market_data.t IS 'x';\nCOMMENT ON COLUMN market_data.t.market_ticker IS 'x';", {("name", 3)}),
    "a key without the market": (
        "CREATE TABLE market_data.t (\n    id bigint NOT NULL,\n    CONSTRAINT t_pkey PRIMARY KEY (id)\n);\n"
        "COMMENT ON TABLE market_data.t IS 'x';\nCOMMENT ON COLUMN market_data.t.id IS 'x';", {("market-key", 3)}),
    "an identity that runs out": (
        f"{ADD}COLUMN id integer GENERATED ALWAYS AS IDENTITY;\n{COMMENTED.format('id')}", {("identity", 1)}),
    "a trigger where tables are spread": (
        "CREATE TRIGGER t BEFORE UPDATE ON market_data.quotes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();",
        {("trigger", 1)}),
    "a rule where tables are spread": ("CREATE RULE r AS ON DELETE TO market_data.quotes DO INSTEAD NOTHING;", {("trigger", 1)}),
    "a default partition": ("CREATE TABLE market_data.rest PARTITION OF market_data.trades DEFAULT;", {("levels", 1)}),
    "partitions of partitions": (
        "CREATE TABLE market_data.t_1 PARTITION OF market_data.trades FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z')\n"
        "    PARTITION BY HASH (market_ticker);", {("levels", 1)}),
    "a function whose upsert asks the clock": (
        "CREATE FUNCTION market_data.f() RETURNS void LANGUAGE sql AS $$\n"
        "    INSERT INTO market_data.quotes VALUES ('M', '2026-01-01Z')\n"
        "    ON CONFLICT (market_ticker, seen_at) DO UPDATE SET seen_at = now()\n$$;\n"
        "COMMENT ON FUNCTION market_data.f() IS 'x';", {("clock-in-update", 1)}),
}  # fmt: skip


def test_nothing_is_found_where_nothing_is_wrong(check: Check) -> None:
    assert check(f"{ADD}COLUMN size numeric(9, 2);\n{COMMENTED.format('size')}") == []


@pytest.mark.parametrize("what", DANGEROUS)
def test_what_is_dangerous_is_found(check: Check, what: str) -> None:
    body, rule, line = DANGEROUS[what]
    findings = check(body, house=False)
    assert (rule, line) in found(findings), [str(finding) for finding in findings]


@pytest.mark.parametrize("what", AGAINST_THE_RULES)
def test_what_is_against_the_rules_of_the_house_is_found(check: Check, what: str) -> None:
    body, expected = AGAINST_THE_RULES[what]
    assert expected <= set(found(check(body))), [str(finding) for finding in check(body)]
    assert not {rule for rule, _ in expected} & {finding.rule for finding in check(body, house=False)}, (
        "another house, other rules"
    )


def test_the_safe_forms_of_all_that_are_not_found(check: Check, folder: Path) -> None:
    assert check(f"{ADD}CONSTRAINT quotes_source_check CHECK (source <> '') NOT VALID;", house=False) != []
    (folder / "0003.validate.sql").write_text(
        "-- depends: 0002.change\nALTER TABLE market_data.quotes VALIDATE CONSTRAINT quotes_source_check;"
    )
    (folder / "0003.validate.rollback.sql").write_text("SELECT 1;")
    (folder / "0004.index.sql").write_text(
        "-- transactional: false\n-- depends: 0003.validate\nSET lock_timeout = '2s';\n"
        "CREATE INDEX CONCURRENTLY quotes_source_idx ON market_data.quotes (source);"
    )
    (folder / "0004.index.rollback.sql").write_text(
        "-- transactional: false\nDROP INDEX CONCURRENTLY market_data.quotes_source_idx;"
    )
    (folder / "0005.partitioned.sql").write_text(
        "-- depends: 0004.index\nCREATE INDEX trades_seen_at_idx ON ONLY market_data.trades (seen_at);"
    )
    (folder / "0005.partitioned.rollback.sql").write_text("DROP INDEX market_data.trades_seen_at_idx;")
    assert [str(finding) for finding in lint.check(folder, house=False)] == []


def test_a_table_that_the_same_file_makes_is_new_and_nobody_waits_for_it(check: Check) -> None:
    body = """CREATE TABLE ops_t (x integer NOT NULL);
        CREATE INDEX ops_t_x_idx ON ops_t (x);
        ALTER TABLE ops_t ADD CONSTRAINT ops_t_x_check CHECK (x > 0);"""
    assert check(body, house=False) == []


def test_a_constraint_that_is_changed_is_not_one_that_is_dropped(check: Check) -> None:
    drop = "ALTER TABLE market_data.quotes\n    DROP CONSTRAINT quotes_price_check"
    body = f"{drop},\n    ADD CONSTRAINT quotes_price_check CHECK (price < 1);"
    assert found(check(body)) == [("constraint-missing-not-valid", 3)]
    assert found(check(f"{drop};")) == [("ban-drop-constraint", 2)]


def test_what_is_taken_away_after_the_deployment_is_what_that_migration_is_for(check: Check, folder: Path) -> None:
    drop = "ALTER TABLE market_data.quotes DROP COLUMN source;"
    assert found(check(drop)) == [("ban-drop-column", 1)]
    (folder / "0002.change.sql").rename(folder / "0002.post-change.sql")
    (folder / "0002.change.rollback.sql").rename(folder / "0002.post-change.rollback.sql")
    assert lint.check(folder, house=True) == []


# -- files -------------------------------------------------------------------------------------------------------------------------


def test_a_migration_that_nothing_undoes_is_found(check: Check, folder: Path) -> None:
    (folder / "0002.change.rollback.sql").unlink()
    (finding,) = check("SELECT 1;")
    assert (finding.rule, Path(finding.file).name) == ("no-rollback", "0002.change.sql")
    assert "-- irreversible: REASON" in finding.advice
    assert check("SELECT 1;", header=f"{HEADER}-- irreversible: the payloads are gone\n") == []


def test_an_irreversible_migration_needs_its_reason_and_no_rollback(check: Check, folder: Path) -> None:
    (finding,) = check("SELECT 1;", header=f"{HEADER}-- irreversible: the payloads are gone\n")
    assert "declared irreversible" in finding.problem
    (folder / "0002.change.rollback.sql").unlink()
    (finding,) = check("SELECT 1;", header=f"{HEADER}-- irreversible:\n")
    assert finding.rule == "directive"


def test_a_python_migration_without_a_way_back_is_found(check: Check, folder: Path) -> None:
    (folder / "0003.more.py").write_text(
        "from yoyo import step\n__depends__ = {'0002.change'}\nsteps = [step('SELECT 1', 'SELECT 2'), step('SELECT 3')]\n"
    )
    (finding,) = check("SELECT 1;")
    assert (finding.rule, Path(finding.file).name) == ("no-rollback", "0003.more.py")


def test_a_rollback_of_nothing_is_found(check: Check, folder: Path) -> None:
    (folder / "0002.chnage.rollback.sql").write_text("SELECT 1;")
    (finding,) = check("SELECT 1;")
    assert (finding.rule, Path(finding.file).name) == ("stray", "0002.chnage.rollback.sql")


def test_what_need_not_be_outside_of_a_transaction_is_found(check: Check) -> None:
    outside = f"{HEADER}-- transactional: false\n"
    assert [finding.rule for finding in check("SELECT 1;", header=outside)] == ["outside"]
    both = (
        "CREATE INDEX CONCURRENTLY quotes_source_idx ON market_data.quotes (source);\nUPDATE market_data.quotes SET source = '';"
    )
    (finding,) = check(both, header=outside)
    assert (finding.rule, finding.line) == ("outside", LINES + 4)


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        (HEADER.replace("-- A change of something.\n", ""), "header"),
        (HEADER.replace("-- Why: because the first one did not do it.\n", ""), "header"),
        (HEADER.replace("none that anybody notices.", "no."), "header"),
        (HEADER.replace("-- depends: 0001.first\n", ""), "depends"),
        (HEADER.replace("depends:", "dependson:"), "directive"),
    ],
)
def test_a_header_that_lacks_something_is_found(check: Check, header: str, rule: str) -> None:
    assert rule in {finding.rule for finding in check("SELECT 1;", header=header)}


def test_a_file_that_was_edited_after_it_was_locked_is_found(check: Check, folder: Path) -> None:
    check("SELECT 1;")
    integrity.lock(folder)
    assert check("SELECT 1;") == []
    (finding,) = check("SELECT 2;")
    assert (finding.rule, Path(finding.file).name) == ("edited", "0002.change.sql")


def test_a_folder_that_cannot_be_read_is_said_in_a_sentence(check: Check, folder: Path) -> None:
    with pytest.raises(FolderError, match=r"depends on 0000\.nothing, which is not there"):
        check("SELECT 1;", header=HEADER.replace("0001.first", "0000.nothing"))
    with pytest.raises(SystemExit):
        checks.app(["migrations", "--migrations", str(folder)], standalone_mode=False)


# -- ignores -----------------------------------------------------------------------------------------------------------------------

INDEX = "CREATE INDEX quotes_source_idx ON market_data.quotes (source);"


@pytest.mark.parametrize(
    "body",
    [
        f"-- lint: ignore require-concurrent-index-creation: a hundred rows\n{INDEX}",
        f"-- Serves something.\n-- lint: ignore require-concurrent-index-creation: a hundred rows\n-- More prose.\n{INDEX}",
        f"SELECT 1;\n\n-- lint: ignore renaming-column, require-concurrent-index-creation: a hundred rows\n{INDEX}\n"
        "-- lint: ignore renaming-column: nobody reads it\nALTER TABLE market_data.quotes RENAME COLUMN source TO x;",
    ],
)
def test_a_finding_is_excused_with_a_reason_above_its_statement(check: Check, body: str) -> None:
    findings = check(body)
    assert [finding for finding in findings if finding.rule != "ignore"] == []
    assert len(findings) == body.count("renaming-column, "), "an ignore of what is not there is found"


def test_an_ignore_above_all_is_about_the_whole_file(check: Check) -> None:
    body = f"SELECT 1;\n{INDEX}\n{INDEX}"
    assert check(body, header=f"{HEADER}-- lint: ignore require-concurrent-index-creation: a hundred rows\n") == []


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("-- lint: ignore require-concurrent-index-creation", "no reason"),
        ("-- lint: ignore require-concurrent-index-creation:", "no reason"),
        ("-- lint: ignore: because", "cannot be read"),
        ("-- squawk-ignore require-concurrent-index-creation", "no reason"),
    ],
)
def test_an_ignore_without_a_reason_is_found(check: Check, comment: str, words: str) -> None:
    findings = check(f"{comment}\n{INDEX}")
    assert any(finding.rule == "ignore" and words in finding.problem and finding.line == LINES + 2 for finding in findings)


def test_an_ignore_that_excuses_nothing_is_found(check: Check) -> None:
    (finding,) = check(f"-- lint: ignore renaming-column: nobody reads it\n{ADD}COLUMN x text;\n{COMMENTED.format('x')}")
    assert (finding.rule, finding.line) == ("ignore", LINES + 2)


def test_what_may_not_change_any_more_is_excused_beside_the_files(check: Check, folder: Path) -> None:
    listed = folder / "lint.ignore"
    listed.write_text("# history\n0002.change.sql: require-concurrent-index-creation: it was empty then\n")
    assert check(INDEX) == []
    listed.write_text(
        "0002.change.sql: require-concurrent-index-creation: it was empty then\n0001.first.sql: comment: none\nnonsense\n"
    )
    assert [(finding.rule, Path(finding.file).name, finding.line) for finding in check(INDEX)] == [
        ("ignore", "lint.ignore", 2), ("ignore", "lint.ignore", 3),
    ]  # fmt: skip


# -- our own, another project's, and as a command ----------------------------------------------------------------------------------


def test_our_migrations_are_clean_and_each_excuse_has_its_reason() -> None:
    assert [str(finding) for finding in lint.check(sql_dir("migrations"), house=True)] == []


def test_another_projects_folder_is_not_held_to_our_rules(tmp_path: Path) -> None:
    (tmp_path / "20260101_01_abc.sql").write_text(
        "create schema shop;\ncreate table shop.t (id serial primary key, price float);"
    )
    (tmp_path / "20260101_01_abc.rollback.sql").write_text("drop table shop.t;\ndrop schema shop;")
    (tmp_path / "20260102_01_def.sql").write_text(
        "-- depends: 20260101_01_abc\n-- transactional: false\ncreate index concurrently t_price on shop.t (price);"
    )
    (tmp_path / "20260102_01_def.rollback.sql").write_text("-- transactional: false\ndrop index concurrently shop.t_price;")
    (tmp_path / "20260103_01_ghi.py").write_text("from yoyo import step\nsteps = [step('select 1', 'select 2')]\n")
    (tmp_path / "post-apply.sql").write_text("grant usage on schema shop to public;")
    said = run("--migrations", str(tmp_path))
    # squawk's advice about types is general; the rest is ours alone.
    assert {line.rpartition("[")[2].rstrip("]") for line in said[1].splitlines()[:-1]} <= {"prefer-identity"}, said


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(checks.app, ["migrations", *arguments])
    return ended.exit_code, ended.output


def test_the_command_says_file_and_line_and_speaks_json_and_sarif(check: Check, folder: Path, tmp_path: Path) -> None:
    check(INDEX)
    sarif = tmp_path / "found.sarif"
    status, said = run("--migrations", str(folder), "--sarif", str(sarif))
    assert status == 1
    assert re.search(rf"0002\.change\.sql:{LINES + 2}: .*\[require-concurrent-index-creation\]\n1 finding in 4 files\n$", said), (
        said
    )
    status, said = run("--migrations", str(folder), "--json")
    assert [(one["rule"], one["line"]) for one in json.loads(said)] == [("require-concurrent-index-creation", LINES + 2)]
    log = json.loads(sarif.read_text())
    (result,) = log["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (log["version"], result["ruleId"]) == ("2.1.0", "require-concurrent-index-creation")
    assert (Path(place["artifactLocation"]["uri"]).name, place["region"]) == ("0002.change.sql", {"startLine": LINES + 2})


def test_what_squawk_cannot_read_and_postgresql_can_is_said(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a syntax error squawk looks at nothing else in the file, so silence would look like safety."""
    really = subprocess.run

    def older_squawk(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":  # noqa: ANN401
        done = really(command, **options)
        said = [{"file": command[-1], "line": LINES, "message": "expected FROM", "help": None, "rule_name": "syntax-error"}]
        done.stdout = json.dumps(said)
        return done

    monkeypatch.setattr(lint.subprocess, "run", older_squawk)
    (finding,) = check("SELECT 1;")
    assert (finding.rule, finding.line, "has looked for unsafe DDL nowhere" in finding.problem) == ("unread", LINES + 1, True)


def test_without_squawk_it_says_what_to_install(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint.shutil, "which", lambda *_, **__: None)
    with pytest.raises(lint.SquawkMissingError, match=r"pip install 'kalshidb\[check\]'"):
        check("SELECT 1;")


def test_what_is_dangerous_by_the_lint_is_what_plain_yoyo_does_without_a_word(
    check: Check, folder: Path, empty_database: str
) -> None:
    """The reason for all this: yoyo takes a folder without rollbacks, marks it, and unmarks it again while everything stays."""
    from kalshidb.postgres import yoyo_url

    (folder / "0001.first.rollback.sql").unlink()
    (folder / "0002.change.rollback.sql").unlink()
    assert {finding.rule for finding in check("CREATE TABLE market_data.left_behind (x integer);", house=False)} == {
        "no-rollback"
    }
    for command in (["apply"], ["rollback", "--all"]):
        program = [sys.executable, "-m", "yoyo", *command, "--batch", "-d", yoyo_url(empty_database), "migrations"]
        done = subprocess.run(program, cwd=folder.parent, capture_output=True, check=False)
        assert done.returncode == 0
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regclass('market_data.left_behind') IS NOT NULL").fetchone() == (True,)
