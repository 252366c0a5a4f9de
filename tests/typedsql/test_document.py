"""The pages about a schema: they say all of it, their links lead somewhere, their diagrams parse, and staleness is seen."""

import shutil
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from kalshidb.typedsql import describe, document, generate, load_statements
from kalshidb.typedsql.generate import Project
from pages import broken_links, diagrams, entities

SHOP = Path(__file__).with_name("shop")

MORE = """
COMMENT ON SCHEMA shop IS 'A | in a cell, a <tag>.';
CREATE TABLE shop.lines (
    order_id    integer         NOT NULL REFERENCES shop.orders,
    line        integer         NOT NULL DEFAULT 1 CHECK (line IN (1, 2)),
    double      integer         GENERATED ALWAYS AS (line * 2) STORED,
    after_line  integer,
    PRIMARY KEY (order_id, line),
    CONSTRAINT lines_chain_fkey FOREIGN KEY (order_id, after_line) REFERENCES shop.lines (order_id, line)
);
COMMENT ON CONSTRAINT lines_chain_fkey ON shop.lines IS 'One after the other.';
CREATE TABLE audit.copies (order_id integer PRIMARY KEY REFERENCES shop.orders);
CREATE INDEX lines_double_idx ON shop.lines (double) WHERE double > 2;
CREATE FUNCTION shop.stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
COMMENT ON FUNCTION shop.stop() IS 'Stops.';
CREATE TRIGGER lines_stop BEFORE DELETE ON shop.lines FOR EACH ROW EXECUTE FUNCTION shop.stop();
COMMENT ON TRIGGER lines_stop ON shop.lines IS 'Lines stay.';
CREATE VIEW shop.doubles AS SELECT order_id, double FROM shop.lines;
"""
STATEMENTS = """
-- name: doubles_of(order_id)
-- The doubles of an order | and no other.
SELECT * FROM shop.doubles WHERE order_id = :order_id;
-- name: move_line(order_id, line)!
-- Takes a line to another order that exists.
UPDATE shop.lines SET order_id = :order_id WHERE line = :line AND EXISTS (SELECT FROM shop.orders WHERE order_id = :order_id);
"""


@pytest.fixture
def project(tmp_path: Path, shop: psycopg.Connection) -> Project:
    """The shop with more in it, and its pages."""
    shutil.copytree(SHOP / "migrations", tmp_path / "migrations")
    shutil.copytree(SHOP / "queries", tmp_path / "queries")
    (tmp_path / "migrations" / "0009.more.sql").write_text(
        MORE.replace("CREATE INDEX lines", "-- Serves shop.doubles_of: quickly.\nCREATE INDEX lines")
    )
    (tmp_path / "queries" / "shop" / "more.sql").write_text(STATEMENTS)
    shop.execute(MORE)
    project = Project.of_folders(tmp_path / "migrations", tmp_path / "queries", "shopdb", tmp_path / "shopdb")
    project = replace(project, docs=tmp_path / "docs")
    generate.write(written(project, shop))
    return project


def written(project: Project, conn: psycopg.Connection) -> dict[Path, str]:
    database = describe.describe(conn, load_statements(project.queries))
    pages = document.render(database, document.read_facts(conn), project.migrations, "../queries")
    return generate.pages(project, pages) | generate.render(project, database)


def section(project: Project, page: str, heading: str) -> str:
    assert project.docs
    text = (project.docs / page).read_text()
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_a_page_says_everything_of_a_table(project: Project) -> None:
    said = section(project, "shop.md", "lines").splitlines()
    for line in [
        "| `line` | `integer` |  |  (`default 1`) |",
        "| `double` | `integer` | null |  (`computed: (line * 2)`) |",
        "| `lines_pkey` | `PRIMARY KEY (order_id, line)` |",
        "| `lines_line_check` | `CHECK (line IN (1, 2))` |",
        "| `lines_chain_fkey` | `FOREIGN KEY (order_id, after_line) REFERENCES shop.lines(order_id, line)` One after the other. |",
        "| `lines_double_idx` | `btree (double) WHERE (double > 2)` | [shop.doubles_of](queries.md#shop.doubles_of): quickly. |",
        "| `lines_stop` | `BEFORE DELETE FOR EACH ROW EXECUTE FUNCTION shop.stop()` | Lines stay. |",
        "Written by: [shop.move_line](queries.md#shop.move_line).",
        "Shown by: [shop.doubles](shop.md#doubles).",
    ]:
        assert line in said
    assert "[shop.move_line]" in section(project, "shop.md", "orders").partition("Read by:")[2]
    assert "Read by: [shop.doubles_of](queries.md#shop.doubles_of)." in section(project, "shop.md", "doubles")
    assert "| `shop.stop()` | `trigger` | Stops. |" in section(project, "shop.md", "Functions")
    assert "`CHECK (VALUE IN ('buy', 'sell', 'don''t'))`" in section(project, "shop.md", "Types")


def test_the_catalogue_has_every_statement_with_its_types(project: Project) -> None:
    said = section(project, "queries.md", "shop").splitlines()
    assert (
        '| <a id="shop.doubles_of"></a>`doubles_of` | `order_id` `integer` | rows of [shop.doubles](shop.md#doubles)'
        " | The doubles of an order \\| and no other. |"
    ) in said
    assert (
        '| <a id="shop.move_line"></a>`move_line` | `order_id` `integer`<br>`line` `integer` | number of rows'
        " | Takes a line to another order that exists. |"
    ) in said
    text = (project.out.parent / "docs" / "queries.md").read_text()
    assert [s.source.full_name for s in load_statements(project.queries) if f'<a id="{s.source.full_name}">' not in text] == []


def test_the_index_has_every_table_and_what_is_written_is_text(project: Project) -> None:
    text = (project.out.parent / "docs" / "README.md").read_text()
    assert "| A \\| in a cell, a &lt;tag>. |" in text
    assert "[lines](shop.md#lines) |" in text
    assert "[doubles](shop.md#doubles) (view) |" in text


def test_the_diagram_shows_keys_and_where_they_lead(project: Project) -> None:
    diagram, other = (diagrams((project.out.parent / "docs" / page).read_text())[0] for page in ("shop.md", "audit.md"))
    assert {"lines", "orders"} <= entities(diagram)
    lines = [line.strip() for line in diagram.splitlines()]
    assert 'orders ||--o{ lines : "order_id"' in lines
    assert 'lines |o--o{ lines : "order_id, after_line"' in lines
    assert "integer order_id PK, FK" in lines
    assert "shop_orders" in entities(other)
    assert 'shop_orders ||--o| copies : "order_id"' in [line.strip() for line in other.splitlines()]


def test_every_link_leads_somewhere(project: Project) -> None:
    assert project.docs
    pages = sorted(project.docs.glob("*.md"))
    assert len(pages) > 3
    assert {page.name: broken_links(page) for page in pages} == {page.name: [] for page in pages}


def test_pages_go_stale_with_the_sql_and_are_missed(project: Project, shop: psycopg.Connection) -> None:
    assert project.docs
    assert generate.check(project) == []
    assert generate.write(written(project, shop)) == [], "the same SQL gives the same bytes"
    page = project.docs / "shop.md"
    page.write_text(page.read_text() + "More.\n")
    assert generate.check(project) == [f"{page}: edited by hand; change the SQL and run generate"]
    page.unlink()
    assert generate.check(project) == [f"{page}: missing; run generate"]
    (project.queries / "shop" / "more.sql").write_text(STATEMENTS.replace("The doubles", "Doubles"))
    assert f"{project.docs / 'README.md'}: stale, the SQL or the engine changed since; run generate" in generate.check(project)
    by_hand = project.docs / "notes.md"
    by_hand.write_text("# Notes\n")
    assert f"{by_hand}:1: not a generated file; what is written by hand belongs elsewhere" in generate.check(project)
    (project.docs / "audit.md").rename(project.docs / "old.md")
    generate.write(written(project, shop))
    assert sorted(path.name for path in project.docs.iterdir()) == ["README.md", "audit.md", "notes.md", "queries.md", "shop.md"]


@pytest.mark.parametrize(
    "diagram",
    [
        "flowchart\n",
        "erDiagram\n    a {\n        numeric(7,6) price\n    }\n",
        "erDiagram\n    a {\n        text name PK FK\n    }\n",
        "erDiagram\n    a {\n",
        'erDiagram\n    a {\n    }\n    b ||--o{ a : "x"\n',
        "erDiagram\n    a {\n    }\n    a ||--o{ a : x\n",
        "erDiagram\n    shop.a {\n    }\n",
    ],
)
def test_a_diagram_beyond_the_plain_grammar_is_found(diagram: str) -> None:
    with pytest.raises(ValueError, match=r"not understood|no erDiagram|unfinished"):
        entities(diagram)
