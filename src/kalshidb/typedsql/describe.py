"""Asking a migrated server what tables, domains and statements really are. Development time only: nothing here runs in production.

The server prepares each statement and tells the types of parameters and columns and which table column each one comes from; the generic
plan tells where an outer join can make a column null. What cannot be proven not null is nullable.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import pq, sql

from kalshidb.typedsql.errors import DescribeError, Place
from kalshidb.typedsql.loading import Statements
from kalshidb.typedsql.runtime import Statement
from kalshidb.typedsql.source import Bulk, Cardinality


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type as the server knows it. `base` is what a domain stands on, `element` what an array holds."""

    oid: int
    schema: str
    name: str
    kind: str
    modifier: int = -1
    comment: str | None = None
    base: "SqlType | None" = None
    element: "SqlType | None" = None
    checks: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, a view or a result."""

    name: str
    type: SqlType
    nullable: bool
    generated: bool = False
    comment: str | None = None
    origin: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view."""

    oid: int
    schema: str
    name: str
    is_view: bool
    comment: str | None
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A statement with the types that the server gave it."""

    statement: Statement
    parameters: tuple[Column, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """Everything the generator needs to know."""

    relations: tuple[Relation, ...]
    descriptions: tuple[Description, ...]


# Relations that migration tools keep for themselves.
_TOOL_TABLES = ("_yoyo_log", "_yoyo_migration", "_yoyo_version", "yoyo_lock")


def describe(conn: psycopg.Connection[Any], statements: Statements) -> Database:
    """Describe every table, view and statement on a scratch database that has the migrations. Leaves nothing behind: it rolls back.

    Raises:
        DescribeError: the server refuses a statement, or a header claims what the server contradicts.
    """
    with conn.transaction(force_rollback=True):
        server = _Server(conn)
        # A partitioned table without partitions plans as an empty result, which would hide where its columns come from.
        server.give_every_table_a_partition()
        relations = server.relations()
        for statement in statements:
            server.create_staging(statement, relations)
        return Database(relations, tuple(server.describe(statement) for statement in statements))


def staged_columns(relation: Relation, without: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns that a bulk statement takes: those of the table that it does not leave out or compute."""
    return tuple(column for column in relation.columns if column.name not in without and not column.generated)


class _Server:
    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self._types: dict[tuple[int, int], SqlType] = {}
        self._relations: dict[int, Relation] = {}
        self._prepared = 0
        self._staged: dict[str, tuple[Bulk, Statement]] = {}

    # -- tables ------------------------------------------------------------------------------------------------------------------

    def give_every_table_a_partition(self) -> None:
        for schema, name in self.conn.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind = 'p' AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)"
        ).fetchall():
            self.conn.execute(
                sql.SQL("CREATE TABLE {} PARTITION OF {} DEFAULT").format(
                    sql.Identifier(schema, f"{name}_described"), sql.Identifier(schema, name)
                )
            )

    def relations(self) -> tuple[Relation, ...]:
        found = self.conn.execute(
            """
            SELECT c.oid::int8, n.nspname, c.relname, c.relkind IN ('v', 'm'), obj_description(c.oid, 'pg_class')
            FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'
                AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND c.relname <> ALL (%s)
            -- A view is older than the views on it, so what it stands on is described before it.
            ORDER BY c.relkind IN ('v', 'm'), c.oid
            """,
            [list(_TOOL_TABLES)],
        ).fetchall()
        for oid, schema, name, is_view, comment in found:
            columns = self._columns(oid)
            self._relations[oid] = Relation(oid, schema, name, is_view, comment, columns)
            if is_view:
                proven = self._view_columns(oid, schema, name)
                self._relations[oid] = Relation(
                    oid, schema, name, is_view, comment,
                    tuple(replace(c, nullable=p.nullable, origin=p.origin) for c, p in zip(columns, proven, strict=True)),
                )  # fmt: skip
        return tuple(sorted(self._relations.values(), key=lambda r: (r.schema, r.is_view, r.name)))

    def _columns(self, relation: int) -> tuple[Column, ...]:
        return tuple(
            Column(name, self.type(type_oid, modifier), not not_null, generated != "", comment, (relation, number))
            for name, type_oid, modifier, not_null, generated, comment, number in self.conn.execute(
                """
                -- A domain's own NOT NULL proves nothing: a subquery without rows stores a null past it. Nor does a constraint that
                -- was added NOT VALID.
                SELECT a.attname, a.atttypid::int8, a.atttypmod,
                    a.attnotnull AND NOT EXISTS (
                        SELECT FROM pg_constraint k
                        WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated
                    ),
                    CASE WHEN a.attidentity <> '' THEN a.attidentity ELSE a.attgenerated END,
                    col_description(a.attrelid, a.attnum), a.attnum
                FROM pg_attribute a
                WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
                ORDER BY a.attnum
                """,
                [relation],
            )
        )

    def _view_columns(self, oid: int, schema: str, name: str) -> tuple[Column, ...]:
        row = self.conn.execute("SELECT pg_get_viewdef(%s::oid)", [oid]).fetchone()
        assert row is not None  # noqa: S101  (a view has a definition)
        query = row[0].rstrip().rstrip(";")
        return self._result_columns(query, self._prepare(query, f"view {schema}.{name}", None)[1], None)

    def create_staging(self, statement: Statement, relations: Iterable[Relation]) -> None:
        bulk = statement.source.bulk
        if bulk is None:
            return
        if bulk.staging in self._staged:
            first, other = self._staged[bulk.staging]
            if bulk == first:
                return
            problem = f"{other.source.full_name} stages other rows in {bulk.staging}; choose another name"
            raise DescribeError(statement.source.place, statement.source.full_name, problem)
        self._staged[bulk.staging] = bulk, statement
        relation = next((r for r in relations if f"{r.schema}.{r.name}" == bulk.like), None)
        if relation is None:
            raise DescribeError(
                statement.source.place, statement.source.full_name, f"there is no table {bulk.like} to stage rows for"
            )
        if unknown := bulk.without - {column.name for column in relation.columns}:
            raise DescribeError(
                statement.source.place,
                statement.source.full_name,
                f"{bulk.like} has no column {', '.join(sorted(unknown))}",
            )
        self.conn.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {}, NULL::bigint AS staged_position FROM {} WITH NO DATA").format(
                sql.Identifier(bulk.staging),
                sql.SQL(", ").join(sql.Identifier(column.name) for column in staged_columns(relation, bulk.without)),
                sql.Identifier(relation.schema, relation.name),
            )
        )

    # -- types -------------------------------------------------------------------------------------------------------------------

    def type(self, oid: int, modifier: int = -1) -> SqlType:
        if (oid, modifier) not in self._types:
            self._types[oid, modifier] = self._read_type(oid, modifier)
        return self._types[oid, modifier]

    def _read_type(self, oid: int, modifier: int) -> SqlType:
        row = self.conn.execute(
            """
            SELECT n.nspname, t.typname, t.typtype::text, t.typbasetype::int8, t.typtypmod, t.typelem::int8, t.typcategory::text,
                obj_description(t.oid, 'pg_type'),
                ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.contypid = t.oid ORDER BY k.conname),
                ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
            FROM pg_type t
            JOIN pg_namespace n ON n.oid = t.typnamespace
            WHERE t.oid = %s
            """,
            [oid],
        ).fetchone()
        assert row is not None  # noqa: S101  (the server itself named the type)
        schema, name, kind, base, base_modifier, element, category, comment, checks, labels = row
        return SqlType(
            oid,
            schema,
            name,
            kind,
            modifier,
            comment,
            self.type(base, base_modifier) if kind == "d" else None,
            self.type(element, modifier) if category == "A" and element else None,
            tuple(checks),
            tuple(labels),
        )

    # -- statements --------------------------------------------------------------------------------------------------------------

    def describe(self, statement: Statement) -> Description:
        source = statement.source
        parameter_types, result = self._prepare(source.sql, source.full_name, statement)
        parameters = tuple(
            Column(name, self.type(oid), name in source.nullable_parameters)
            for name, oid in zip(source.parameters, parameter_types, strict=True)
        )
        columns = self._result_columns(source.sql, result, statement)
        returns_rows = source.cardinality is not Cardinality.AFFECTED
        if returns_rows and not columns:
            raise DescribeError(source.place, source.full_name, "it returns no columns; end its name with ! if that is meant")
        names = [column.name for column in columns]
        if returns_rows and len(set(names)) != len(names):
            raise DescribeError(source.place, source.full_name, f"two columns have one name: {', '.join(names)}")
        if returns_rows and "?column?" in names and source.cardinality is not Cardinality.SCALAR:
            problem = f"column {names.index('?column?') + 1} has no name; give it one with AS"
            raise DescribeError(source.place, source.full_name, problem)
        if source.cardinality is Cardinality.SCALAR and len(columns) != 1:
            raise DescribeError(source.place, source.full_name, f"one column is promised ($), there are {len(columns)}")
        if unknown := set(source.column_nulls) - set(names):
            raise DescribeError(
                source.place, source.full_name, f"@column names {', '.join(sorted(unknown))}, which it does not return"
            )
        columns = tuple(replace(c, nullable=source.column_nulls.get(c.name, c.nullable)) for c in columns)
        return Description(statement, parameters, columns)

    def _prepare(self, query: str, name: str, statement: Statement | None) -> tuple[list[int], "pq.abc.PGresult"]:
        self._prepared += 1
        handle = f"described_{self._prepared}".encode()
        encoded = query.encode()
        result = self.conn.pgconn.prepare(handle, encoded)
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise self._refused(query, name, statement, result)
        result = self.conn.pgconn.describe_prepared(handle)
        return [result.param_type(at) for at in range(result.nparams)], result

    def _refused(self, query: str, name: str, statement: Statement | None, result: "pq.abc.PGresult") -> DescribeError:
        def field(which: pq.DiagnosticField) -> str:
            return (result.error_field(which) or b"").decode()

        problem = field(pq.DiagnosticField.MESSAGE_PRIMARY)
        if hint := field(pq.DiagnosticField.MESSAGE_HINT):
            problem += f" ({hint})"
        if statement is None:
            raise RuntimeError(f"{name}: {problem}")
        place = statement.source.place
        if position := field(pq.DiagnosticField.STATEMENT_POSITION):
            offset = int(position) - 1
            row = query.count("\n", 0, offset)
            line = query.split("\n")[row]
            column = offset - (query.rfind("\n", 0, offset) + 1)
            place = Place(place.file, statement.source.sql_line + row)
            margin = f"{place.line:>5} | "
            problem += f"\n{margin}{line}\n{' ' * (len(margin) - 2)}| {' ' * column}^"
        return DescribeError(place, name, problem)

    def _result_columns(self, query: str, result: "pq.abc.PGresult", statement: Statement | None) -> tuple[Column, ...]:
        if not result.nfields:
            return ()
        plan = _Plan(self._explain(query, statement))
        columns: list[Column] = []
        for at in range(result.nfields):
            name = (result.fname(at) or b"").decode()
            type_, nullable, origin = self.type(result.ftype(at), result.fmod(at)), True, None
            if table := result.ftable(at):
                source = self._column_of(table, result.ftablecol(at))
                # The row description names a domain's base type; the catalogue knows the domain.
                type_, origin = source.type, source.origin
                nullable = source.nullable or not self._survives(plan, source)
            elif plan.is_count(at):
                nullable = False
            columns.append(Column(name, type_, nullable, origin=origin))
        return tuple(columns)

    def _column_of(self, table: int, number: int) -> Column:
        relation = self._relations.get(table)
        columns = relation.columns if relation else self._columns(table)
        # Numbers have gaps where columns were dropped.
        found = next((c for c in self._columns(table) if c.origin == (table, number)), None)
        if found is None:
            raise LookupError(f"relation {table} has no column {number}")
        return next(c for c in columns if c.name == found.name)

    def _survives(self, plan: "_Plan", column: Column) -> bool:
        """Tell whether a column that is not null in its table stays so: its table is in the plan, and only where no join adds nulls."""
        if plan.nulls_everything:
            return False
        if column.origin is None:
            return not plan.extends  # a view's proven expression: safe when no outer join is near
        names = self._names(column.origin[0])
        return bool(names & plan.plain) and not names & plan.null_extended

    def _names(self, relation: int) -> set[tuple[str, str]]:
        """Return the names under which a plan may show a relation: its own and its partitions'."""
        return set(
            self.conn.execute(
                """
                WITH RECURSIVE family (oid) AS (
                    SELECT %s::oid
                    UNION ALL
                    SELECT i.inhrelid FROM pg_inherits i JOIN family f ON f.oid = i.inhparent
                )
                SELECT n.nspname::text, c.relname::text
                FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
                """,
                [relation],
            ).fetchall()
        )

    def _explain(self, query: str, statement: Statement | None) -> dict[str, Any]:
        result = self.conn.pgconn.exec_(f"EXPLAIN (GENERIC_PLAN, VERBOSE, FORMAT JSON) {query}".encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise self._wrong(statement, query, f"the server cannot plan it: {result.error_message.decode().strip()}")
        plan: dict[str, Any] = json.loads((result.get_value(0, 0) or b"").decode())[0]["Plan"]
        return plan

    def _wrong(self, statement: Statement | None, query: str, problem: str) -> Exception:
        if statement is None:
            return RuntimeError(f"{problem}\n{query}")
        return DescribeError(statement.source.place, statement.source.full_name, problem)


# Nodes that hand on rows as they are.
_PASSING = ("Gather", "Gather Merge", "Incremental Sort", "Limit", "Sort", "Unique")


class _Plan:
    """Which relations of a plan can come out as nulls, because an outer join found no partner for the other side."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.plain: set[tuple[str, str]] = set()
        self.null_extended: set[tuple[str, str]] = set()
        self.extends = False
        self._root = root
        self._nulled_ctes: set[str] = set()
        self._output: list[str] = root.get("Output", [])
        nodes = list(_nodes(root))
        # Rollups put nulls into grouped columns, RETURNING old.* is null for an inserted row and new.* for a deleted one: neither
        # shows in any join.
        self.nulls_everything = any("Grouping Sets" in node or _returns_other_rows(node) for node in nodes)
        self._walk(root, nulled=False)
        # A CTE that is read on the null side of a join: everything in it can come out as null. Its body stands elsewhere in the plan.
        done: set[str] = set()
        while pending := self._nulled_ctes - done:
            for node in nodes:
                if node.get("Subplan Name", "").removeprefix("CTE ") in pending:
                    self._walk(node, nulled=True)
            done |= pending

    def _walk(self, node: dict[str, Any], *, nulled: bool) -> None:
        if "Relation Name" in node:
            (self.null_extended if nulled else self.plain).add((node["Schema"], node["Relation Name"]))
        if nulled and "CTE Name" in node:
            self._nulled_ctes.add(node["CTE Name"])
        null_sides = _null_sides(node)
        self.extends |= bool(null_sides)
        for child in node.get("Plans", ()):
            self._walk(child, nulled=nulled or child.get("Parent Relationship") in null_sides)

    def is_count(self, at: int) -> bool:
        """Tell whether a column of the result is a plain count, which is never null unless an outer join makes it so."""
        if at >= len(self._output) or not _is_count(self._output[at]):
            return False
        node = self._root
        while node["Node Type"] in _PASSING:
            node = node["Plans"][0]
        counted = self._output[at][1:-1] if self._output[at].startswith("(") else self._output[at]
        return not self.extends or (node["Node Type"] == "Aggregate" and counted in node["Output"])


def _null_sides(node: dict[str, Any]) -> tuple[str, ...]:
    """Return which children of a join can come out as nulls."""
    kind = node.get("Join Type", "")
    sides = {
        "Left": ("Inner",),
        "Right": ("Outer",),
        "Full": ("Inner", "Outer"),
        "Anti": ("Inner",),
        "Right Anti": ("Outer",),
    }.get(kind, ())
    if "Anti" in kind:
        # NOT EXISTS shows nothing of its other side. LEFT JOIN ... WHERE other.id IS NULL does, and all of it is null.
        hidden = (child for child in node["Plans"] if child.get("Parent Relationship") in sides)
        aliases = {inner["Alias"] for child in hidden for inner in _nodes(child) if "Alias" in inner}
        if not any(
            re.search(rf"(?<!\w){re.escape(alias)}\"?\.", output) for alias in aliases for output in node.get("Output", ())
        ):
            return ()
    return sides


def _returns_other_rows(node: dict[str, Any]) -> bool:
    """Tell whether a writing node returns more than the rows it wrote: the state before, or other tables' columns by other names."""
    if node["Node Type"] != "ModifyTable":
        return False
    inside = {inner.get("Alias") for inner in _nodes(node)}
    columns = (re.fullmatch(r'("[^"]+"|\w+)\.("[^"]+"|\w+)', output) for output in node.get("Output", ()))
    names = {column[1].strip('"') for column in columns if column}
    return not names <= inside


def _is_count(output: str) -> bool:
    """Tell whether an expression, as the plan shows it, is count(...) [FILTER (...)] and nothing more."""
    bare = re.sub(r"'(?:[^']|'')*'", "", output)
    bare = bare[1:-1] if bare.startswith("(count(") else bare
    while (inner := re.sub(r"\([^()]*\)", "", bare)) != bare:
        bare = inner
    return output.lstrip("(").startswith("count(") and bare in ("count", "count FILTER ")


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
