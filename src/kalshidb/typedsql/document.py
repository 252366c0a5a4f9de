"""Writing a project's schema and statements down for people, in Markdown. Development time only.

A page a schema (tables, columns, rules, indexes and what they serve, triggers, views, functions, which statements touch what, a diagram), a
catalogue of the statements, and an index of both. All of it comes from the migrated server, the statements and the comments; nothing is
written by hand, and the same SQL gives the same bytes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from kalshidb.typedsql.checking import Migrations
from kalshidb.typedsql.describe import Column, Database, Description, Relation, SqlType
from kalshidb.typedsql.source import Cardinality

Rows = dict[int, list[tuple[Any, ...]]]
"""What was asked for, by the table that it belongs to."""

INDEX, CATALOGUE = "README.md", "queries.md"


@dataclass(frozen=True, slots=True)
class Facts:
    """What only pages need to know of the database, beyond `Database`."""

    schemas: dict[str, str | None]
    partitions: dict[int, str]
    defaults: dict[tuple[int, str], str]
    constraints: Rows
    keys: Rows
    indexes: Rows
    triggers: Rows
    views: dict[int, str]
    shown_by: Rows
    functions: list[tuple[str, str, str, str | None]]
    domains: list[tuple[str, str, str, list[str], str | None]]


def read_facts(conn: psycopg.Connection[Any]) -> Facts:
    """Ask a migrated scratch database for what pages say of it."""

    def by_table(query: str) -> Rows:
        found: Rows = defaultdict(list)
        for oid, *rest in conn.execute(query.encode()).fetchall():
            found[oid].append(tuple(rest))
        return found

    with conn.transaction():
        # Definitions come with every name's schema.
        conn.execute("SET LOCAL search_path TO pg_catalog")
        return Facts(
            schemas=dict(conn.execute("SELECT nspname::text, obj_description(oid, 'pg_namespace') FROM pg_namespace").fetchall()),
            partitions=dict(
                conn.execute("SELECT partrelid::int8, pg_get_partkeydef(partrelid) FROM pg_partitioned_table").fetchall()
            ),
            defaults={
                (oid, name): text
                for oid, name, text in conn.execute(
                    """
                    SELECT adrelid::int8, attname::text, CASE attgenerated WHEN '' THEN 'default ' ELSE 'computed: ' END
                        || pg_get_expr(adbin, adrelid)
                    FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
                    UNION ALL
                    SELECT attrelid::int8, attname::text, 'numbered by the server' FROM pg_attribute WHERE attidentity <> ''
                    """
                ).fetchall()
            },
            constraints=by_table(
                """
                SELECT conrelid::int8, conname::text, contype::text, pg_get_constraintdef(oid, true), obj_description(oid, 'pg_constraint')
                FROM pg_constraint WHERE conrelid <> 0 AND contype IN ('p', 'u', 'f', 'c', 'x') AND conparentid = 0
                ORDER BY array_position('{p,u,x,f,c}'::"char"[], contype), conname COLLATE "C"
                """
            ),
            keys=by_table(
                """
                SELECT conrelid::int8, contype::text, confrelid::int8,
                    ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
                          JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place)
                FROM pg_constraint WHERE contype IN ('p', 'u', 'f') AND conparentid = 0 ORDER BY conname COLLATE "C"
                """
            ),
            indexes=by_table(
                """
                SELECT indrelid::int8, relname::text, pg_get_indexdef(indexrelid)
                FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
                ORDER BY relname COLLATE "C"
                """
            ),
            triggers=by_table(
                """
                SELECT tgrelid::int8, tgname::text, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger')
                FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 ORDER BY tgname COLLATE "C"
                """
            ),
            views=dict(
                conn.execute(
                    "SELECT oid::int8, pg_get_viewdef(oid, true) FROM pg_class WHERE relkind IN ('v', 'm')"
                    " AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
                ).fetchall()
            ),
            shown_by=by_table(
                """
                SELECT DISTINCT refobjid::int8, ev_class::int8 FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
                WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass AND refobjid <> ev_class
                """
            ),
            functions=conn.execute(
                """
                SELECT nspname::text, p.oid::regprocedure::text, pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc')
                FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
                    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
                ORDER BY nspname COLLATE "C", p.oid::regprocedure::text COLLATE "C"
                """
            ).fetchall(),
            domains=conn.execute(
                """
                SELECT nspname::text, typname::text, format_type(typbasetype, typtypmod),
                    ARRAY(SELECT pg_get_constraintdef(c.oid, true) FROM pg_constraint c
                          WHERE contypid = t.oid AND contype = 'c' ORDER BY conname COLLATE "C"),
                    obj_description(t.oid, 'pg_type')
                FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
                WHERE typtype = 'd' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
                ORDER BY nspname COLLATE "C", typname COLLATE "C"
                """
            ).fetchall(),
        )


def render(database: Database, facts: Facts, migrations: Path, queries_link: str) -> dict[str, str]:
    """Return the text of each page by its file name.

    Args:
        database: tables and statements as described.
        facts: what `read_facts` found there.
        migrations: where comments say what indexes serve.
        queries_link: the folder of statements as a page links to it, such as ../../queries.
    """
    writer = _Writer(database, facts, Migrations(migrations), queries_link)
    return {
        INDEX: writer.index(),
        CATALOGUE: writer.catalogue(),
        **{f"{schema}.md": writer.page(schema) for schema in writer.schemas},
    }


class _Writer:
    def __init__(self, database: Database, facts: Facts, migrations: Migrations, queries_link: str) -> None:
        self.facts = facts
        self.relations = {relation.oid: relation for relation in database.relations}
        self.descriptions = sorted(database.descriptions, key=lambda d: d.statement.source.full_name)
        self.schemas = sorted({relation.schema for relation in database.relations})
        self.domains = {(schema, name) for schema, name, *_ in facts.domains}
        self.statements = {d.statement.source.full_name for d in self.descriptions}
        # One that is dropped and made anew counts as it is now.
        self.serves = {made.name: " ".join(made.comment).partition("Serves ")[2] for made in migrations.indexes}
        self.queries_link = queries_link

    # -- the index ---------------------------------------------------------------------------------------------------------------

    def index(self) -> str:
        lines = ["# The schema", "", "| schema | tables | views | what it is |", "|---|---|---|---|"]
        for schema in self.schemas:
            own = [relation for relation in self.relations.values() if relation.schema == schema]
            lines.append(
                f"| [{schema}]({schema}.md) | {sum(not r.is_view for r in own)} | {sum(r.is_view for r in own)}"
                f" | {_cell(self.facts.schemas.get(schema))} |"
            )
        lines += ["", f"{len(self.statements)} statements read and write them: [the catalogue of statements]({CATALOGUE}).", ""]
        for schema in self.schemas:
            lines += [f"## {schema}", "", "| table or view | meaning |", "|---|---|"]
            lines += [
                f"| [{relation.name}]({schema}.md#{relation.name}){' (view)' * relation.is_view} | {_cell(relation.comment)} |"
                for relation in self._of(schema)
            ]
            lines.append("")
        return "\n".join(lines)

    def _of(self, schema: str) -> list[Relation]:
        return [relation for relation in self.relations.values() if relation.schema == schema]

    # -- a page a schema ---------------------------------------------------------------------------------------------------------

    def page(self, schema: str) -> str:
        tables = [relation for relation in self._of(schema) if not relation.is_view]
        views = [relation for relation in self._of(schema) if relation.is_view]
        lines = [f"# {schema}", ""]
        if comment := self.facts.schemas.get(schema):
            lines += [_text(comment), ""]
        links = [f"[{relation.name}](#{relation.name})" for relation in (*tables, *views)]
        lines += [f"{' · '.join(links)} · [all schemas]({INDEX}) · [statements]({CATALOGUE})", ""]
        if tables:
            lines += [
                "## How they hang together",
                "",
                "Keys only; every column stands below.",
                "",
                *self._diagram(schema, tables),
                "",
            ]
        lines += self._domains(schema)
        for relation in tables:
            lines += self._table(relation)
        for relation in views:
            lines += self._view(relation)
        if functions := [function for function in self.facts.functions if function[0] == schema]:
            lines += ["## Functions", "", "| function | returns | meaning |", "|---|---|---|"]
            lines += [f"| {_code(name)} | {_code(result)} | {_cell(comment)} |" for _, name, result, comment in functions]
            lines.append("")
        return "\n".join(lines)

    def _diagram(self, schema: str, tables: Iterable[Relation]) -> Iterator[str]:
        yield "```mermaid"
        yield "erDiagram"
        foreign: set[int] = set()
        for relation in tables:
            keys = self.facts.keys.get(relation.oid, [])
            marks: dict[str, list[str]] = defaultdict(list)
            for kind, word in (("p", "PK"), ("f", "FK"), ("u", "UK")):
                for column in dict.fromkeys(name for of, _, names in keys if of == kind for name in names):
                    marks[column].append(word)
            yield f"    {self._entity(relation, schema)} {{"
            for column in relation.columns:
                if column.name in marks:
                    yield f"        {_word(_bare_type(column.type))} {_word(column.name)} {', '.join(marks[column.name])}"
            yield "    }"
            for kind, other, names in keys:
                if kind != "f":
                    continue
                nullable = any(column.nullable for column in relation.columns if column.name in names)
                once = any(of in "pu" and set(its) == set(names) for of, _, its in keys)
                parent = self.relations[other]
                if parent.schema != schema:
                    foreign.add(other)
                yield (
                    f"    {self._entity(parent, schema, short=True)} {'|o' if nullable else '||'}--{'o|' if once else 'o{'}"
                    f' {self._entity(relation, schema, short=True)} : "{", ".join(names)}"'
                )
        for other in sorted(foreign, key=lambda oid: (self.relations[oid].schema, self.relations[oid].name)):
            yield f"    {self._entity(self.relations[other], schema)}"
        yield "```"

    def _entity(self, relation: Relation, schema: str, *, short: bool = False) -> str:
        if relation.schema == schema:
            return _word(relation.name)
        name = f"{_word(relation.schema)}_{_word(relation.name)}"
        return name if short else f'{name}["{relation.schema}.{relation.name}"]'

    def _domains(self, schema: str) -> list[str]:
        own = [domain for domain in self.facts.domains if domain[0] == schema]
        if not own:
            return []
        lines = ["## Types", "", "| type | is | rule | meaning |", "|---|---|---|---|"]
        for _, name, base, checks, comment in own:
            rules = " and ".join(_code(_readable(check)) for check in checks)
            lines.append(f'| <a id="type-{name}"></a>`{name}` | `{base}` | {rules} | {_cell(comment)} |')
        return [*lines, ""]

    def _table(self, relation: Relation) -> list[str]:
        lines = [f"## {relation.name}", "", _text(relation.comment), ""]
        if key := self.facts.partitions.get(relation.oid):
            lines += [f"Partitioned by {_code(key)}.", ""]
        lines += self._columns(relation)
        if constraints := self.facts.constraints.get(relation.oid):
            lines += ["| constraint | rule |", "|---|---|"]
            for name, _, definition, comment in constraints:
                rule = _readable(definition) if definition.startswith("CHECK") else definition
                lines.append(f"| `{name}` | {_code(rule)}{f' {_cell(comment)}' if comment else ''} |")
            lines.append("")
        if indexes := self.facts.indexes.get(relation.oid):
            lines += ["| index | on | serves |", "|---|---|---|"]
            for name, definition in indexes:
                on = definition.partition(" USING ")[2]
                unique = "unique, " if definition.startswith("CREATE UNIQUE") else ""
                lines.append(f"| `{name}` | {unique}{_code(on)} | {self._linked(_cell(self.serves.get(name)))} |")
            lines.append("")
        if triggers := self.facts.triggers.get(relation.oid):
            lines += ["| trigger | when | why |", "|---|---|---|"]
            for name, definition, comment in triggers:
                when = re.sub(r"^CREATE TRIGGER \S+ | ON \S+(?= FOR EACH)", "", definition)
                lines.append(f"| `{name}` | {_code(when)} | {_cell(comment)} |")
            lines.append("")
        return [*lines, *self._touching(relation)]

    def _view(self, relation: Relation) -> list[str]:
        lines = [f"## {relation.name}", "", f"View. {_text(relation.comment)}", "", *self._columns(relation)]
        lines += self._touching(relation)
        definition = self.facts.views[relation.oid]
        return [*lines, "<details><summary>its SQL</summary>", "", "```sql", definition.strip(), "```", "", "</details>", ""]

    def _columns(self, relation: Relation) -> list[str]:
        lines = ["| column | type | null | meaning |", "|---|---|---|---|"]
        for column in relation.columns:
            rule = self.facts.defaults.get((relation.oid, column.name))
            meaning = _cell(column.comment) + (f" ({_code(_readable(rule))})" if rule else "")
            null = "null" if column.nullable else ""
            lines.append(f"| `{column.name}` | {self._type(column.type)} | {null} | {meaning} |")
        return [*lines, ""]

    def _touching(self, relation: Relation) -> list[str]:
        lines: list[str] = []
        for word, touches in (("Written by", "writes"), ("Read by", "reads")):
            names = [d.statement.source.full_name for d in self.descriptions if relation.oid in getattr(d, touches)]
            if names:
                lines += [f"{word}: {', '.join(self._link(name) for name in names)}.", ""]
        views = [self.relations[view] for (view,) in self.facts.shown_by.get(relation.oid, []) if view in self.relations]
        if views:
            names = sorted(f"{view.schema}.{view.name}" for view in views)
            lines += [f"Shown by: {', '.join(self._relation(name) for name in names)}.", ""]
        return lines or ["No statement touches it.", ""]

    # -- the catalogue of statements ---------------------------------------------------------------------------------------------

    def catalogue(self) -> str:
        rooms = sorted({d.statement.source.room for d in self.descriptions})
        lines = [
            "# The statements",
            "",
            "Each stands in a file of SQL under its name and is a function of the same name. Parameters go by keyword; the type is the"
            " server's. A step runs within another statement and has no function of its own.",
            "",
            " · ".join(f"[{room}](#{room})" for room in rooms) + f" · [schema]({INDEX})",
            "",
        ]
        for room in rooms:
            lines += [f"## {room}", ""]
            own = [d for d in self.descriptions if d.statement.source.room == room]
            for file in sorted({d.statement.source.place.file for d in own}):
                lines += [f"### [{Path(*file.parts[1:]).as_posix()}]({self.queries_link}/{Path(*file.parts[1:]).as_posix()})", ""]
                lines += ["| statement | parameters | result | meaning |", "|---|---|---|---|"]
                lines += [self._statement(d) for d in own if d.statement.source.place.file == file]
                lines.append("")
        return "\n".join(lines)

    def _statement(self, description: Description) -> str:
        source = description.statement.source
        parameters = "<br>".join(
            f"`{column.name}` {self._type(column.type)}{' or null' if column.nullable else ''}"
            for column in description.parameters
        )
        if source.bulk:
            parameters = f"rows of {self._relation(source.bulk.like)}"
        meaning = source.doc.split("\n\n", maxsplit=1)[0]
        return (
            f'| <a id="{source.full_name}"></a>`{source.name}` | {parameters} | {self._result(description)} | {_cell(meaning)} |'
        )

    def _result(self, description: Description) -> str:
        source = description.statement.source
        if source.internal:
            return "a step"
        if source.bulk:
            return "how many were written"
        if source.cardinality is Cardinality.AFFECTED:
            return "number of rows"
        if source.cardinality is Cardinality.SCALAR:
            column = description.columns[0]
            return self._type(column.type) + (" or null" if column.nullable else "")
        rows = {
            Cardinality.MANY: "rows", Cardinality.STREAM: "stream", Cardinality.ONE: "one row", Cardinality.OPTIONAL: "a row or none",
        }[source.cardinality]  # fmt: skip
        return f"{rows} of {self._shape(description.columns)}"

    def _shape(self, columns: tuple[Column, ...]) -> str:
        names = [(column.name, column.type) for column in columns]
        for oid in {column.origin[0] for column in columns if column.origin}:
            relation = self.relations.get(oid)
            if relation and names == [(column.name, column.type) for column in relation.columns]:
                return self._relation(f"{relation.schema}.{relation.name}")
        return ", ".join(f"`{column.name}`" for column in columns)

    # -- words -------------------------------------------------------------------------------------------------------------------

    def _type(self, type_: SqlType) -> str:
        if type_.element is not None:
            return f"{self._type(type_.element)}[]"
        if (type_.schema, type_.name) in self.domains:
            return f"[`{type_.schema}.{type_.name}`]({type_.schema}.md#type-{type_.name})"
        return f"`{_bare_type(type_)}`"

    def _relation(self, name: str) -> str:
        schema, _, table = name.partition(".")
        return f"[{name}]({schema}.md#{table})"

    def _link(self, statement: str) -> str:
        return f"[{statement}]({CATALOGUE}#{statement})"

    def _linked(self, text: str) -> str:
        """Make links of the statements that a text names."""
        return re.sub(
            r"(?<![\w.])[a-z_]\w*\.[a-z_]\w*", lambda word: self._link(word[0]) if word[0] in self.statements else word[0], text
        )


_SHORT_NAMES = {
    "int2": "smallint", "int4": "integer", "int8": "bigint", "bool": "boolean", "float4": "real", "float8": "double precision",
    "bpchar": "char",
}  # fmt: skip


def _bare_type(type_: SqlType) -> str:
    if type_.element is not None:
        return f"{_bare_type(type_.element)}[]"
    name = _SHORT_NAMES.get(type_.name, type_.name)
    if type_.name == "numeric" and type_.modifier >= 0:
        return f"numeric({(type_.modifier - 4 >> 16) & 0xFFFF},{(((type_.modifier - 4) & 0x7FF) ^ 1024) - 1024})"
    if type_.name in ("varchar", "bpchar") and type_.modifier >= 4:
        return f"{name}({type_.modifier - 4})"
    return name if type_.schema in ("pg_catalog", "public") else f"{type_.schema}.{name}"


def _readable(definition: str) -> str:
    """Return a rule of the server's without what it adds for itself: casts of constants, brackets around single words."""
    definition = re.sub(r"::(?:text|numeric|integer|smallint|bigint)\b(?!\[)", "", " ".join(definition.split()))
    definition = re.sub(r"= ANY \(ARRAY\[([^\]]*)\]\)", r"IN (\1)", definition)
    return re.sub(r"(?<![\w.])\(('[^']*'|-?\w+)\)", r"\1", definition)


def _word(name: str) -> str:
    """Return a name as a diagram can say it."""
    name = re.sub(r"\(.*?\)", "", name).rpartition(".")[2]
    return re.sub(r"[^\w\[\]-]", "_", name)


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str | None) -> str:
    return _text(text).replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    mark = "``" if "`" in text else "`"
    return f"{mark}{' '.join(text.split())}{mark}".replace("|", "\\|")
