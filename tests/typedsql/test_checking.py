"""`check` on a laboratory it has never seen: nothing is found while all is well, and each mistake is found where it was made."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from kalshidb.typedsql import checking, describe, generate, load_statements, plans
from kalshidb.typedsql.checking import Finding
from kalshidb.typedsql.generate import Project
from kalshidb.typedsql.plans import clauses

MIGRATION = """\
-- Probes and what they read.
CREATE SCHEMA lab;

CREATE TABLE lab.probes (
    probe_id    text            NOT NULL,
    place       text            NOT NULL,
    CONSTRAINT probes_pkey PRIMARY KEY (probe_id)
);

-- Serves lab.probes_at: there are many.
CREATE INDEX probes_place_idx ON lab.probes (place);

CREATE TABLE lab.readings (
    probe_id    text            NOT NULL,
    seen_at     timestamptz     NOT NULL,
    degrees     numeric(5, 2)   NOT NULL,
    CONSTRAINT readings_pkey PRIMARY KEY (probe_id, seen_at)
) PARTITION BY RANGE (seen_at);

-- Serves lab.readings_in_window.
CREATE INDEX readings_seen_at_idx ON lab.readings (seen_at);
"""

QUERIES = """\
-- name: put_readings()^
-- @bulk staged_readings like lab.readings
-- @one
-- @before insert_probes_of_readings
WITH written AS (
    INSERT INTO lab.readings (probe_id, seen_at, degrees) SELECT probe_id, seen_at, degrees FROM staged_readings
    ON CONFLICT (probe_id, seen_at) DO NOTHING
    RETURNING 1
)
SELECT count(*) AS written FROM written;

-- name: insert_probes_of_readings()!
-- @internal step of put_readings
INSERT INTO lab.probes (probe_id, place) SELECT DISTINCT probe_id, 'unknown' FROM staged_readings ON CONFLICT (probe_id) DO NOTHING;

-- name: probes_at(place)
SELECT * FROM lab.probes WHERE place = :place ORDER BY probe_id;

-- name: readings_between(probe_id, seen_from, seen_to)
SELECT *
FROM lab.readings
WHERE probe_id = :probe_id AND seen_at >= :seen_from AND seen_at < :seen_to
ORDER BY seen_at;

-- name: readings_in_window(seen_from, seen_to)
SELECT * FROM lab.readings WHERE seen_at >= :seen_from AND seen_at < :seen_to ORDER BY seen_at;

-- name: last_readings(probe_ids)
SELECT probes.place, last.seen_at, last.degrees
FROM lab.probes
JOIN LATERAL (
    SELECT * FROM lab.readings WHERE readings.probe_id = probes.probe_id ORDER BY seen_at DESC LIMIT 1
) AS last ON true
WHERE probes.probe_id = ANY (:probe_ids);

-- name: mean_degrees()$
-- @plan a mean over everything
SELECT avg(degrees) FROM lab.readings;
"""

Edit = tuple[str, str]
Check = Callable[..., list[Finding]]
_fresh: dict[str, str] = {}


def edited(text: str, edits: list[Edit]) -> str:
    for before, after in edits:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(
        migrations=tmp_path / "migrations",
        queries=tmp_path / "queries",
        package="labdb",
        out=tmp_path / "labdb",
        locate='Path("queries")',
        locate_import="from pathlib import Path",
    )
    project.migrations.mkdir()
    (project.queries / "lab").mkdir(parents=True)
    return project


@pytest.fixture
def check(project: Project, empty_database: str) -> Check:
    """Write the laboratory with some mistakes, migrate it, and check it. The Python is of the one without mistakes."""

    def check(*, migration: list[Edit] = [], queries: list[Edit] = [], python: list[Edit] = [], other: str = "") -> list[Finding]:  # noqa: B006
        statements = project.queries / "lab" / "readings.sql"
        made = project.migrations / "0001.lab.sql"
        with psycopg.connect(empty_database, autocommit=True) as conn:
            if not _fresh:
                made.write_text(MIGRATION)
                statements.write_text(QUERIES)
                with conn.transaction(force_rollback=True):
                    conn.execute(MIGRATION.encode())
                    database = describe.describe(conn, load_statements(project.queries))
                for path, text in generate.render(project, database).items():
                    _fresh[path.relative_to(project.out).as_posix()] = text
            generate.write({project.out / name: text for name, text in _fresh.items()})
            if python:
                path = project.out / "models" / "lab.py"
                path.write_text(edited(path.read_text(), python))
            made.write_text(edited(MIGRATION, migration))
            statements.write_text(edited(QUERIES, queries))
            if other:
                statements.with_name("other.sql").write_text(other)
            conn.execute(made.read_bytes())
            return list(checking.check(project, conn).findings)

    return check


def of_sql(findings: list[Finding]) -> list[str]:
    """Leave out that the Python is not that of the SQL: it never is when a test has changed the SQL."""
    return [str(finding) for finding in findings if "run generate" not in finding.advice]


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.split("\n"), start=1) if words in line)


def test_nothing_is_found_while_all_is_well_and_the_database_stays_as_it_was(check: Check, empty_database: str) -> None:
    assert check() == []
    with psycopg.connect(empty_database) as conn:
        row = conn.execute("SELECT pg_relation_size('lab.probes'), (SELECT count(*) FROM pg_inherits)").fetchone()
        assert row == (0, 0)


# -- it prepares, and the Python is its Python -------------------------------------------------------------------------------------


def test_every_statement_that_the_server_refuses_is_found_with_a_mark_below_the_word(check: Check) -> None:
    first, second = of_sql(check(queries=[("WHERE place =", "WHERE plaice ="), ("avg(degrees)", "avg(degree)")]))
    assert first.startswith('queries/lab/readings.sql:17: lab.probes_at: column "plaice" does not exist')
    line = "SELECT * FROM lab.probes WHERE plaice = :place ORDER BY probe_id"
    assert f"\n   17 | {line}\n      | {' ' * line.index('plaice')}^" in first
    assert 'column "degree" does not exist' in second


def test_steps_are_checked_although_their_bulk_statement_is_refused(check: Check) -> None:
    found = of_sql(check(queries=[("RETURNING 1", "RETURNING nothing"), ("'unknown'", "unknown")]))
    assert [line.split(": ")[1] for line in found] == ["lab.put_readings", "lab.insert_probes_of_readings"]


def test_a_renamed_column_is_found_in_each_statement_that_reads_it(check: Check) -> None:
    found = of_sql(check(migration=[("    degrees  ", "    celsius  ")]))
    assert {line.split(": ")[1] for line in found} == {"lab.put_readings", "lab.last_readings", "lab.mean_degrees"}


def test_every_header_that_cannot_be_read_is_found(check: Check) -> None:
    other = "-- name: other()\n-- @often\nSELECT 1 AS one;\n"
    first, second = check(queries=[("-- @plan a mean", "-- @plain a mean")], other=other)
    assert (first.file, first.line) == ("queries/lab/other.sql", 2)
    assert "unknown directive @plain" in second.problem


def test_an_inner_join_that_became_an_outer_one_is_found_at_the_statement(check: Check) -> None:
    found = [finding for finding in check(queries=[("JOIN LATERAL", "LEFT JOIN LATERAL")]) if finding.subject]
    (finding,) = found
    assert (finding.file, finding.line) == ("queries/lab/readings.sql", line_of(QUERIES, "name: last_readings"))
    assert "the file has `seen_at: AwareDatetime`, the server says `seen_at: AwareDatetime | None" in finding.problem


def test_a_loosened_not_null_is_found_at_the_table(check: Check) -> None:
    found = check(migration=[("place       text            NOT NULL", "place       text")])
    finding = next(finding for finding in found if finding.subject)
    assert (finding.file, finding.line) == ("migrations/0001.lab.sql", line_of(MIGRATION, "CREATE TABLE lab.probes"))
    assert "`place: str`, the server says `place: str | None = None`" in finding.problem


def test_generated_python_that_was_edited_is_found(check: Check) -> None:
    found = check(python=[("    probe_id: str\n    place: str\n", "    probe_id: str\n    place: str | None\n")])
    assert [finding.subject for finding in found] == ["lab.probes"]
    assert "the file has `place: str | None`, the server says `place: str`" in found[0].problem


# -- unused ------------------------------------------------------------------------------------------------------------------------


def test_an_internal_statement_that_is_no_step_is_found(check: Check) -> None:
    (found,) = of_sql(check(queries=[("-- @before insert_probes_of_readings\n", "")]))
    assert found.startswith("queries/lab/readings.sql:11: lab.insert_probes_of_readings: an @internal statement that is no step")


def test_a_step_that_is_not_there_is_found(check: Check) -> None:
    (found,) = of_sql(check(queries=[("@before insert_probes_of_readings", "@before insert_nothing")]))
    assert "its step insert_nothing is no statement" in found


UNREAD = "CREATE TABLE lab.notes (note_id bigint NOT NULL, CONSTRAINT notes_pkey PRIMARY KEY (note_id));\n"


def test_a_table_without_any_statement_is_found_unless_a_reason_stands_above_it(check: Check) -> None:
    (found,) = of_sql(check(migration=[("-- Serves lab.probes_at: there are many.\n", f"{UNREAD}-- Serves lab.probes_at.\n")]))
    assert found.startswith("migrations/0001.lab.sql:10: lab.notes: no statement reads or writes this table")


def test_a_reason_for_a_table_without_statements_is_taken(check: Check) -> None:
    excused = f"-- No statement: read by people in psql.\n{UNREAD}"
    assert of_sql(check(migration=[("-- Serves lab.probes_at: there are many.\n", f"{excused}-- Serves lab.probes_at.\n")])) == []


def test_a_model_that_no_function_returns_is_found(check: Check) -> None:
    view = "CREATE VIEW lab.places AS SELECT place, count(*) AS probes FROM lab.probes GROUP BY place;\n"
    (found,) = of_sql(check(migration=[("-- Serves lab.readings_in", f"{view}-- Serves lab.readings_in")]))
    assert found.startswith("labdb/models/lab.py:")
    assert "Place: no function takes or returns this model" in found


# -- plans -------------------------------------------------------------------------------------------------------------------------


def test_a_range_read_without_an_index_is_found(check: Check) -> None:
    found = of_sql(
        check(
            migration=[("-- Serves lab.readings_in_window.\nCREATE INDEX readings_seen_at_idx ON lab.readings (seen_at);\n", "")]
        )
    )
    at = line_of(QUERIES, "name: readings_in_window")
    assert found == [
        f"queries/lab/readings.sql:{at}: lab.readings_in_window: it reads all of lab.readings (one row after the other); "
        "make an index for its conditions and order, or allow it with @plan REASON"
    ]


def test_a_large_table_read_whole_is_found_also_along_an_index(check: Check) -> None:
    (found,) = of_sql(check(queries=[("-- @plan a mean over everything\n", "")]))
    assert "lab.mean_degrees: it reads all of lab.readings" in found


def test_reading_a_table_along_its_key_is_reading_it_whole_but_not_with_a_limit(check: Check) -> None:
    more = "-- name: all_probes()\nSELECT * FROM lab.probes ORDER BY probe_id;\n\n-- name: some_probes(how_many)\nSELECT * FROM lab.probes "
    more += "ORDER BY probe_id LIMIT :how_many;\n\n-- name: mean_"
    (found,) = of_sql(check(queries=[("-- name: mean_", more)]))
    assert "lab.all_probes: it reads all of lab.probes (all along probes_pkey)" in found


@pytest.mark.parametrize(
    ("condition", "is_found"),
    [
        ("date_trunc('day', seen_at) >= :seen_from AND date_trunc('day', seen_at) < :seen_to", True),
        ("seen_at >= :seen_from AND seen_at + interval '1 day' < :seen_to", True),
        (
            "seen_at >= :seen_from::timestamptz + random() * interval '1 s' AND seen_at < :seen_to",
            True,
        ),
        ("seen_at >= date_trunc('month', :seen_from::timestamptz) AND seen_at < :seen_to", False),
        ("seen_at BETWEEN :seen_from AND :seen_to", False),
        ("seen_at >= now() - :seen_from::interval AND seen_at <= now() - :seen_to::interval", False),
    ],
)
def test_a_range_read_that_leaves_no_partition_out_is_found(check: Check, condition: str, is_found: bool) -> None:
    found = of_sql(
        check(
            queries=[
                ("probe_id = :probe_id AND seen_at >= :seen_from AND seen_at < :seen_to", f"probe_id = :probe_id AND {condition}")
            ]
        )
    )
    assert bool(found) == is_found, found
    if is_found:
        (one,) = found
        assert f"readings.sql:{line_of(QUERIES, 'name: readings_between')}: lab.readings_between: it reads " in one
        assert " of 14 monthly partitions of lab.readings for a range within one" in one


def test_bounds_that_come_from_rows_choose_partitions_for_each_row(check: Check) -> None:
    within = (
        "readings.probe_id = probes.probe_id AND readings.seen_at >= probes.since AND readings.seen_at < probes.since + '1 day'"
    )
    edits = [("WHERE readings.probe_id = probes.probe_id", f"WHERE {within}")]
    added = [
        (
            "    place       text            NOT NULL,\n",
            "    place       text            NOT NULL,\n    since       timestamptz,\n",
        )
    ]
    assert of_sql(check(migration=added, queries=edits)) == []


def test_a_statement_none_of_whose_values_we_can_think_of_is_planned_without_values(check: Check) -> None:
    code = "CREATE DOMAIN lab.code AS text CONSTRAINT code_check CHECK (VALUE ~ '^[A-Z]{3}$');\n"
    migration = [("CREATE SCHEMA lab;\n", f"CREATE SCHEMA lab;\n{code}")]
    within = "WHERE probe_id = :probe_id AND seen_at >="
    coded = "WHERE probe_id = (:probe_id::lab.code)::text AND seen_at >="
    assert of_sql(check(migration=migration, queries=[(within, coded)])) == []


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("lab.probes", 200_000),
        ("lab.probes WHERE probe_id = 'x'", 1),
        ("lab.probes WHERE place = 'x'", 200),
        ("lab.probes WHERE is_new", 2_000),  # of which there is a partial index
        ("lab.readings WHERE probe_id = 'x' AND seen_at >= :month AND seen_at < :month + interval '1 month'", 500),
        ("lab.readings WHERE seen_at >= :month + interval '9 days' AND seen_at < :month + interval '10 days'", 3_300_000),
    ],
)
def test_the_planner_expects_the_rows_of_a_large_database(empty_database: str, question: str, rows: int) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute(MIGRATION.encode())
        conn.execute("ALTER TABLE lab.probes ADD is_new boolean NOT NULL; CREATE INDEX ON lab.probes (probe_id) WHERE is_new")
        with plans.pretend_large(conn) as large:
            asked = question.replace(":month", f"timestamptz '{large.month.isoformat()}'")
            row = conn.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM {asked}".encode()).fetchone()  # noqa: S608
            assert row is not None
            assert row[0][0]["Plan"]["Plan Rows"] == pytest.approx(rows, rel=0.1)


def test_an_exception_that_excuses_nothing_is_found(check: Check) -> None:
    (found,) = of_sql(check(queries=[("-- name: probes_at(place)\n", "-- name: probes_at(place)\n-- @plan there are few\n")]))
    assert "lab.probes_at: its @plan excuses nothing" in found


# -- indexes -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            ("Serves lab.probes_at:", "Serves lab.probes_in:"),
            "10: probes_place_idx: it serves lab.probes_in, which is no statement",
        ),
        (("-- Serves lab.probes_at: there are many.\n", ""), "10: probes_place_idx: nothing says what this index is for"),
        (("Serves lab.probes_at: there", "Serves people: there"), "10: probes_place_idx: it is said to serve no statement"),
        (
            ("lab.probes (place);", "lab.probes (place) WHERE place < 'm';"),
            "10: probes_place_idx: the plan of lab.probes_at, which it serves, does not use it",
        ),
        (
            ("Serves lab.readings_in_window.", "Serves lab.readings_in_window, lab.readings_between."),
            "20: readings_seen_at_idx: the plan of lab.readings_between, which it serves, does not use it",
        ),
    ],
)
def test_an_index_that_does_not_serve_what_its_comment_says_is_found(check: Check, edit: Edit, expected: str) -> None:
    found = of_sql(check(migration=[edit]))
    assert any(line.startswith(f"migrations/0001.lab.sql:{expected}") for line in found), found


def test_a_unique_index_serves_its_own_rule(check: Check) -> None:
    rule = "-- Serves the rule of one probe a place.\n"
    rule += "CREATE UNIQUE INDEX probes_place_key ON lab.probes (place) WHERE place <> 'unknown';\n\n"
    assert of_sql(check(migration=[("CREATE TABLE lab.readings", f"{rule}CREATE TABLE lab.readings")])) == []


# -- parts -------------------------------------------------------------------------------------------------------------------------


def test_a_condition_is_cut_where_and_joins_at_its_top() -> None:
    assert clauses("((a = 1) AND ((b = 'x) AND (y'::text) OR (c AND d)))") == [
        "(a = 1)",
        "((b = 'x) AND (y'::text) OR (c AND d))",
    ]
    assert clauses("(a = 1)") == ["(a = 1)"]
    assert clauses("(valid_to IS NULL)") == ["(valid_to IS NULL)"]
    assert clauses("is_stub") == ["is_stub"]
    assert clauses("(a + 1) > (b + 2)") == ["(a + 1) > (b + 2)"]
