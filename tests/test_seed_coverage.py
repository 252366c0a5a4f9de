"""The page that says where the seeds went is true: each name in it exists, and the whole database has its row."""

import importlib
import re
from pathlib import Path

import psycopg
import pytest

from kalshidb.queries import STATEMENTS

PAGE = Path(__file__).parents[1] / "docs" / "seed-coverage.md"
ROOMS = "catalog|market_data|research|trading|backtest|ops"
SPAN = re.compile(r"`([^`\n]+)`")
OURS = re.compile(rf"(?:{ROOMS})\.\w+(?:\.\w+)?|kalshidb(?:\.\w+)+")
SETTING = "kalshidb.allow_purge"

OBJECTS = """
    WITH rooms AS (SELECT oid, nspname FROM pg_namespace WHERE nspname ~ %s)
    SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' ELSE 'table' END, nspname || '.' || relname
    FROM pg_class JOIN rooms ON rooms.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'i', 'I') AND NOT relispartition
    UNION ALL
    SELECT CASE relkind WHEN 'v' THEN 'column of a view' ELSE 'column' END, nspname || '.' || relname || '.' || attname
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN rooms ON rooms.oid = relnamespace
    WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    UNION ALL
    SELECT 'constraint', nspname || '.' || conname FROM pg_constraint JOIN rooms ON rooms.oid = connamespace
    UNION ALL
    SELECT 'trigger', nspname || '.' || tgname
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN rooms ON rooms.oid = relnamespace WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', nspname || '.' || proname FROM pg_proc JOIN rooms ON rooms.oid = pronamespace
    UNION ALL
    SELECT 'domain', nspname || '.' || typname FROM pg_type JOIN rooms ON rooms.oid = typnamespace WHERE typtype = 'd'
"""


def in_the_database(pg: psycopg.Connection) -> dict[str, set[str]]:
    """The names of what there is, by its kind."""
    found: dict[str, set[str]] = {}
    for kind, name in pg.execute(OBJECTS, [f"^({ROOMS})$"]).fetchall():
        found.setdefault(kind, set()).add(name)
    return found


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    """Where, and why otherwise, of every row of the page."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| in the seed", "| here")):
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            assert len(cells) in (2, 3), line
            found.append((cells[-2], cells[-1]))
    return found


def names_of(cell: str) -> list[str]:
    """The names in a cell; a plain word behind a table is a column of it: `a.b`: `c` is a.b and a.b.c."""
    names, table = [], ""
    for span in SPAN.findall(cell):
        if OURS.fullmatch(span):
            names.append(span)
            table = span
        elif table and re.fullmatch(r"[a-z_0-9]+", span):
            names.append(f"{table}.{span}")
    return names


def test_every_name_on_the_page_exists(pg: psycopg.Connection, rows: list[tuple[str, str]]) -> None:
    known = set[str]().union(*in_the_database(pg).values()) | {statement.source.full_name for statement in STATEMENTS}
    used = {name for here, why in rows for name in (*names_of(here), *names_of(why))}
    used |= {name for name in SPAN.findall(PAGE.read_text(encoding="utf-8")) if OURS.fullmatch(name)}
    assert len(used) > 400
    python = {name for name in used if name.startswith("kalshidb.")} - {SETTING}
    assert sorted(used - python - known - {SETTING}) == []
    for name in python:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_every_table_view_and_column_has_its_row(pg: psycopg.Connection, rows: list[tuple[str, str]]) -> None:
    database = in_the_database(pg)
    said = {name for here, _ in rows for name in names_of(here)}
    assert sorted((database["table"] | database["view"] | database["column"]) - said) == []


def test_a_row_says_where_or_why(rows: list[tuple[str, str]]) -> None:
    assert len(rows) > 150
    assert [here for here, why in rows if not (names_of(here) or why or "](" in here)] == []


def test_every_statement_says_what_it_does() -> None:
    silent = [s.source.full_name for s in STATEMENTS if not re.match(r"[A-Z0-9].{15,}", s.source.doc, re.DOTALL)]
    assert silent == []


def test_the_names_of_a_cell_are_those_that_are_looked_up() -> None:
    cell = "[`catalog.markets`](schema/catalog.md#markets): `title`, `nowhere`; `catalog.nothing` and 'words' of `UPPER`"
    assert names_of(cell) == ["catalog.markets", "catalog.markets.title", "catalog.markets.nowhere", "catalog.nothing"]
