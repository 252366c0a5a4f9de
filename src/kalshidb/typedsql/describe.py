"""Asking a migrated server what tables, domains and statements really are. Development time only: nothing here runs in production.

The server prepares each statement and tells the types of parameters and columns and which table column each one comes from; `nulls`
reads from the server's own tree of the statement which columns are never null. What cannot be proven not null is nullable.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import pq

from kalshidb.typedsql import staging
from kalshidb.typedsql.errors import DescribeError, Place
from kalshidb.typedsql.loading import Statements
from kalshidb.typedsql.nulls import Null, Nulls, tables_of
from kalshidb.typedsql.runtime import Statement
from kalshidb.typedsql.source import Bulk, Cardinality, StatementSource


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type as the server knows it.

    Attributes:
        kind: b base, c composite, d domain, e enum, m multirange, r range, as pg_type has it.
        base: what a domain stands on.
        element: what an array holds.
        fields: what a composite consists of.
        full: no element of the array is ever null.
        json: the Python type of what a jsonb column holds, `module:Type`.
    """

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
    fields: tuple[tuple[str, "SqlType"], ...] = ()
    full: bool = False
    json: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, a view or a result.

    Attributes:
        comment: what it means; of a parameter too.
        origin: the relation, and the column's number there, that it is read from.
        checks: what its table's CHECKs demand of this column alone, which they call VALUE as a domain's do.
    """

    name: str
    type: SqlType
    nullable: bool
    generated: bool = False
    comment: str | None = None
    origin: tuple[int, int] | None = None
    checks: tuple[str, ...] = ()


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
    """A statement with the types that the server gave it.

    Attributes:
        reads, writes: the tables and views that it names, by oid; what it writes is not among what it reads.
    """

    statement: Statement
    parameters: tuple[Column, ...]
    columns: tuple[Column, ...]
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Database:
    """Everything the generator needs to know."""

    relations: tuple[Relation, ...]
    descriptions: tuple[Description, ...]


# Relations that migration tools keep for themselves.
_TOOL_TABLES = (
    "_yoyo_log", "_yoyo_migration", "_yoyo_version", "yoyo_lock", "_yoyo_kalshidb_content", "_yoyo_kalshidb_intent",
)  # fmt: skip


def describe(conn: psycopg.Connection[Any], statements: Statements) -> Database:
    """Describe every table, view and statement on a scratch database that has the migrations. Leaves nothing behind: it rolls back.

    Raises:
        DescribeError: the server refuses a statement, or a header claims what the server contradicts.
    """
    with conn.transaction(force_rollback=True):
        server = _Server(conn)
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
        self._columns: dict[int, dict[int, Column]] = {}
        self._nulls = Nulls(conn)
        self._prepared = 0
        self._staged: dict[str, tuple[Bulk, Statement]] = {}

    # -- tables ------------------------------------------------------------------------------------------------------------------

    def relations(self) -> tuple[Relation, ...]:
        found = self.conn.execute(
            """
            SELECT c.oid::int8, n.nspname, c.relname, c.relkind IN ('v', 'm'), obj_description(c.oid, 'pg_class')
            FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
                AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND c.relname <> ALL (%s)
                -- What an extension brought is its own.
                AND NOT EXISTS (
                    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                )
            ORDER BY c.oid
            """,
            [list(_TOOL_TABLES)],
        ).fetchall()
        for oid, schema, name, is_view, comment in found:
            columns = tuple(self._column_of(oid, number) for number in self._columns_of(oid))
            self._relations[oid] = Relation(oid, schema, name, is_view, comment, columns)
        return tuple(sorted(self._relations.values(), key=lambda r: (r.schema, r.is_view, r.name)))

    def _columns_of(self, relation: int) -> dict[int, Column]:
        """Return the columns of a table or view by their numbers, which have gaps where columns were dropped."""
        if relation not in self._columns:
            self._columns[relation] = self._read_columns(relation)
        return self._columns[relation]

    def _column_of(self, relation: int, number: int) -> Column:
        return self._columns_of(relation)[number]

    def _read_columns(self, relation: int) -> dict[int, Column]:
        rows = self.conn.execute(
            """
            SELECT a.attnum, a.attname, a.atttypid::int8, a.atttypmod,
                CASE WHEN a.attidentity <> '' THEN a.attidentity ELSE a.attgenerated END,
                col_description(a.attrelid, a.attnum), c.relkind IN ('v', 'm'),
                ARRAY(
                    SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                    WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.convalidated AND a.attnum = ANY (k.conkey)
                ),
                ARRAY(
                    SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                    WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.convalidated AND k.conkey = ARRAY[a.attnum]
                    ORDER BY k.conname
                ),
                quote_ident(a.attname)
            FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid
            WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum
            """,
            [relation],
        ).fetchall()
        nulls = self._nulls.of_relation(relation)
        shown = self._nulls.origins(relation) if rows and rows[0][6] else {}
        columns: dict[int, Column] = {}
        for number, name, type_oid, modifier, generated, own_comment, _, checks, own_checks, quoted in rows:
            type_, comment = self.type(type_oid, modifier), own_comment
            alone = tuple(_of_value(check, quoted) for check in own_checks)
            if number in shown:
                # A view shows a table's column: what is said about that one holds here too.
                beneath = self._columns_of(shown[number][0]).get(shown[number][1])
                if beneath is not None and beneath.type.oid == type_oid:
                    comment, type_, alone = comment or beneath.comment, beneath.type, beneath.checks
            if type_.element is not None and any(_forbids_null_elements(check, name) for check in checks):
                type_ = replace(type_, full=True)
            if comment and (told := _JSON.search(comment)):
                comment = _JSON.sub("", comment).strip()
                type_ = replace(type_, json=told["type"])
            nullable = nulls.get(number, Null.MAYBE) is not Null.NEVER
            columns[number] = Column(name, type_, nullable, generated != "", comment or None, (relation, number), alone)
        return columns

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
        names = [column.name for column in staged_columns(relation, bulk.without)]
        (columns,) = self.conn.execute(staging.columns((relation.schema, relation.name), names)).fetchall()[0]
        self.conn.execute(staging.create(bulk.staging, columns))

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
                ARRAY(
                    SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                    WHERE k.contypid = t.oid AND k.contype = 'c' AND k.convalidated ORDER BY k.conname
                ),
                ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
                ARRAY(
                    SELECT ARRAY[a.attname::text, a.atttypid::text, a.atttypmod::text] FROM pg_attribute a
                    WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
                )
            FROM pg_type t
            JOIN pg_namespace n ON n.oid = t.typnamespace
            WHERE t.oid = %s
            """,
            [oid],
        ).fetchone()
        assert row is not None  # noqa: S101  (the server itself named the type)
        schema, name, kind, base, base_modifier, element, category, comment, checks, labels, fields = row
        full = any(_forbids_null_elements(check, "VALUE") for check in checks)
        return SqlType(
            oid,
            schema,
            name,
            kind,
            modifier,
            comment,
            replace(self.type(base, base_modifier), full=full) if kind == "d" else None,
            self.type(element, modifier) if category == "A" and element else None,
            tuple(checks),
            tuple(labels),
            tuple((field, self.type(int(of), int(its_modifier))) for field, of, its_modifier in fields),
        )

    # -- statements --------------------------------------------------------------------------------------------------------------

    def describe(self, statement: Statement) -> Description:
        source = statement.source
        parameter_types, result = self._prepare(source.sql, source.full_name, statement)
        parameters = tuple(
            Column(name, self._parameter_type(statement, name, oid), name in source.nullable_parameters)
            for name, oid in zip(source.parameters, parameter_types, strict=True)
        )
        tree = self._nulls.tree_of(source.sql, [self._sql_name(oid) for oid in parameter_types])
        columns, nulls = self._result_columns(statement, tree, result)
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
        columns = tuple(self._as_the_header_says(statement, c, null) for c, null in zip(columns, nulls, strict=True))
        for name, place in source.column_nulls.items():
            if name not in names:
                raise DescribeError(place, source.full_name, f"@column names {name}, which it does not return")
        for name in source.json_types:
            if name not in {*names, *source.parameters}:
                raise DescribeError(source.place, source.full_name, f"@json names {name}, which it neither takes nor returns")
        reads, writes = tables_of(tree)
        meant = self._nulls.columns_of_parameters(tree)
        parameters = tuple(
            replace(parameter, comment=self._meaning(source, parameter.name, meant.get(at, ()), reads, writes))
            for at, parameter in enumerate(parameters, start=1)
        )
        return Description(statement, parameters, columns, reads, writes)

    @staticmethod
    def _bottom(type_: SqlType) -> SqlType:
        while type_.base is not None:
            type_ = type_.base
        return type_

    def _meaning(
        self,
        source: StatementSource,
        name: str,
        columns: Iterable[tuple[int, int, str]],
        reads: Iterable[int],
        writes: Iterable[int],
    ) -> str | None:
        """Return what a parameter means: what the header says, else the comment of the column that it is compared with or written to,
        with its side of it, else of the column of its name, if all tables that the statement touches mean the same by it."""
        if name in source.parameter_meanings:
            return source.parameter_meanings[name]
        known = [(self._columns_of(table).get(number), how) for table, number, how in columns]
        if found := [(column, how) for column, how in known if column is not None and column.comment]:
            # Best the column that it has its name from, then one that it equals.
            column, how = min(found, key=lambda each: (each[0].name != name, each[1] != "="))
            if how == "=":
                return column.comment
            if how in _BOUNDS and self._bottom(column.type).name in _MEASURED:
                return _BOUNDS[how].format(column.name, _begun(column.comment or ""))
            return None
        for tables in (writes, reads):
            alike = {column.comment for table in tables for column in self._columns_of(table).values() if column.name == name}
            if len(alike) == 1:
                return alike.pop()
        return None

    def _parameter_type(self, statement: Statement, name: str, oid: int) -> SqlType:
        return self._json_type(statement, name, self.type(oid))

    def _json_type(self, statement: Statement, name: str, type_: SqlType) -> SqlType:
        source = statement.source
        if name not in source.json_types:
            return type_
        if type_.name not in ("json", "jsonb"):
            raise DescribeError(source.place, source.full_name, f"@json names {name}, which is {type_.name} and no json")
        return replace(type_, json=source.json_types[name])

    def _as_the_header_says(self, statement: Statement, column: Column, null: Null) -> Column:
        """Return the column with what the header says about it; what the server knows better is an error."""
        source = statement.source
        column = replace(column, type=self._json_type(statement, column.name, column.type))
        place = source.column_nulls.get(column.name)
        if place is None:
            return column
        if null is Null.NEVER:
            raise DescribeError(place, source.full_name, f"@column {column.name} is needless: the server proves it not null")
        if null is Null.EXTENDED:
            problem = (
                f"@column {column.name} not null is wrong: an outer join without a partner makes it null; write JOIN or COALESCE"
            )
            raise DescribeError(place, source.full_name, problem)
        return replace(column, nullable=False)

    def _prepare(self, query: str, name: str, statement: Statement) -> tuple[list[int], "pq.abc.PGresult"]:
        self._prepared += 1
        handle = f"described_{self._prepared}".encode()
        encoded = query.encode()
        result = self.conn.pgconn.prepare(handle, encoded)
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise self._refused(query, name, statement, result)
        result = self.conn.pgconn.describe_prepared(handle)
        return [result.param_type(at) for at in range(result.nparams)], result

    def _refused(self, query: str, name: str, statement: Statement, result: "pq.abc.PGresult") -> DescribeError:
        def field(which: pq.DiagnosticField) -> str:
            return (result.error_field(which) or b"").decode()

        problem, hint = field(pq.DiagnosticField.MESSAGE_PRIMARY), field(pq.DiagnosticField.MESSAGE_HINT)
        meant = re.findall(r'"([^"]+)"', hint) if hint.startswith("Perhaps you meant to reference") else self._meant(problem)
        if hint and not meant:
            problem += f" ({hint})"
        place = statement.source.place
        if position := field(pq.DiagnosticField.STATEMENT_POSITION):
            offset = int(position) - 1
            row = query.count("\n", 0, offset)
            line = query.split("\n")[row]
            column = offset - (query.rfind("\n", 0, offset) + 1)
            # Shown as the file has it: by the names of parameters, which were sent as numbers.
            before, after = (_named(part, statement.source.parameters) for part in (line[:column], line[column:]))
            line, column = before + after, len(before)
            word = re.match(r':?(?:[\w$]+|"[^"]*")(?:\.(?:[\w$]+|"[^"]*"))*', after)
            place = Place(place.file, statement.source.sql_line + row)
            margin = f"{place.line:>5} | "
            problem += f"\n{margin}{line}\n{' ' * (len(margin) - 2)}| {' ' * column}{'^' * (len(word[0]) if word else 1)}"
            problem += f" did you mean {' or '.join(meant)}?" if meant else ""
        elif meant:
            problem += f"; did you mean {' or '.join(meant)}?"
        return DescribeError(place, name, problem)

    def _meant(self, problem: str) -> list[str]:
        """Return the tables with names close to the one that the server does not know; it has hints for columns only."""
        unknown = re.fullmatch(r'relation "(.+)" does not exist', problem)
        names = sorted(f"{r.schema}.{r.name}" for r in self._relations.values())
        return difflib.get_close_matches(unknown[1], names, n=2, cutoff=0.75) if unknown else []

    def _result_columns(
        self,
        statement: Statement,
        tree: Any,  # noqa: ANN401  (a node, or a list of them)
        result: "pq.abc.PGresult",
    ) -> tuple[tuple[Column, ...], list[Null]]:
        if not result.nfields:
            return (), []
        source = statement.source
        nullable = [at for at, name in enumerate(source.parameters, start=1) if name in source.nullable_parameters]
        nulls = self._nulls.of_statement(tree, nullable) if tree is not None else [Null.MAYBE] * result.nfields
        columns: list[Column] = []
        for at in range(result.nfields):
            name = (result.fname(at) or b"").decode()
            type_, comment, origin = self.type(result.ftype(at), result.fmod(at)), None, None
            checks: tuple[str, ...] = ()
            if (table := result.ftable(at)) and result.ftablecol(at) > 0:
                # The row description names a domain's base type; the catalogue knows the domain.
                column = self._column_of(table, result.ftablecol(at))
                type_, comment, origin, checks = column.type, column.comment, column.origin, column.checks
            columns.append(Column(name, type_, nulls[at] is not Null.NEVER, comment=comment, origin=origin, checks=checks))
        return tuple(columns), nulls

    def _sql_name(self, oid: int) -> str:
        row = self.conn.execute("SELECT format_type(%s::oid, NULL)", [oid]).fetchone()
        assert row is not None  # noqa: S101  (a SELECT without FROM)
        return str(row[0])


_JSON = re.compile(r"\s*\[json: *(?P<type>[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)\]")


# What a parameter is to a column that stands so to it: a side of a window [from, to).
# As-of reads compare the other way, and say it in words.
_BOUNDS = {">=": "Lower bound of {}, inclusive: {}", "<": "Upper bound of {}, exclusive: {}"}
_MEASURED = frozenset({"date", "timestamp", "timestamptz", "numeric", "int2", "int4", "int8", "float4", "float8", "interval"})


def _begun(sentence: str) -> str:
    """Return a sentence as it goes on after a colon."""
    return sentence[0].lower() + sentence[1:] if sentence[1:2].islower() or sentence.startswith("A ") else sentence


def _of_value(check: str, column: str) -> str:
    """Return a CHECK with VALUE in place of the one column that it is about."""
    words = rf"'(?:[^']|'')*'|(?<![\w.\"]){re.escape(column)}(?![\w.\"(])"
    return re.sub(words, lambda word: word[0] if word[0].startswith("'") else "VALUE", check)


def _named(sql: str, parameters: Sequence[str]) -> str:
    return re.sub(
        r"\$(\d+)", lambda match: f":{parameters[int(match[1]) - 1]}" if int(match[1]) <= len(parameters) else match[0], sql
    )


def _forbids_null_elements(check: str, name: str) -> bool:
    """Tell whether a CHECK says, alone or together with more, that an array has no null in it."""
    said = rf'\(array_position\("?{re.escape(name)}"?, NULL::[^()]+(?:\([\d,]+\))?\) IS NULL\)'
    return not re.search(r"\b(?:OR|CASE|NOT \()", check) and bool(re.search(rf"(?:^CHECK \(|\(| AND ){said}(?: AND |\))", check))
