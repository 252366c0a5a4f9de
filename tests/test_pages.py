"""The pages of the repository: links lead somewhere, diagrams parse, and the generated ones show all of the database."""

from pathlib import Path

import psycopg
import pytest

from kalshidb.queries import STATEMENTS
from pages import broken_links, diagrams, entities

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "docs" / "schema"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_the_pages_of_the_schema_show_every_relation_and_every_statement(pg: psycopg.Connection) -> None:
    shown = {page.stem: page.read_text(encoding="utf-8") for page in SCHEMA.glob("*.md")}
    relations = pg.execute(
        """
        SELECT nspname, relname, relkind IN ('r', 'p') FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition AND nspname !~ '^pg_|^information_schema$|^public$'
        """
    ).fetchall()
    assert len(relations) > 50
    missing = [f"{schema}.{name}" for schema, name, _ in relations if f"\n## {name}\n" not in shown.get(schema, "")]
    missing += [s.source.full_name for s in STATEMENTS if f'<a id="{s.source.full_name}">' not in shown["queries"]]
    assert missing == [], "run kalshidb generate"
    drawn = {schema: set[str]().union(*map(entities, diagrams(text))) for schema, text in shown.items()}
    assert [f"{schema}.{name}" for schema, name, is_table in relations if is_table and name not in drawn[schema]] == []
