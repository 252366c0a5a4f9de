"""Pretending that a scratch database is large, and reading from a plan what a statement would do to it. Development time only.

The planner asks three things of a table: how many pages its file has, how many rows a page held when it was last counted, and what
its columns look like. `pretend_large` makes monthly partitions, lengthens the empty files (sparsely: they take no room) and hands the
server statistics of a table that was filled for a year, so that plans are those of a large database although there is not one row.

No file grows beyond one segment (1 GB), so a page of a very large partition is said to hold more rows than it could. A sequential scan
looks cheaper by that than it is, never dearer.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from kalshidb.typedsql.describe import Description, SqlType

ROWS_OF_PARTITION = 100_000_000
ROWS_OF_TABLE = 200_000
PARTITIONS = 14
OLDEST = 18_00_00  # server_version_num: from 18 on a server takes statistics

_PARTIAL = 0.01  # a partial index is made because few rows are in it
_ROWS_OF_PAGE, _ENTRIES_OF_PAGE = 100, 200
_NUMBERS_OF_PARTITION = 1_000_000
_TIMES = {"timestamptz", "timestamp", "date"}
_NUMBERS = {"int2", "int4", "int8", "numeric"}


class PlansError(Exception):
    """Plans cannot be checked on this server."""


class Name(NamedTuple):
    """A relation's schema and name."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(slots=True)
class Large:
    """A database that seems large.

    Attributes:
        root: each table and partition with the table that statements name.
        key: the column by which a table is partitioned by range.
        partitions: how many partitions such a table has.
        indexes: each index, also a partition's, with the index that the migration made.
        partial: those of them that hold only some rows.
        month: the month that typical values lie in.
    """

    month: datetime
    root: dict[Name, Name] = field(default_factory=dict[Name, Name])
    key: dict[Name, str] = field(default_factory=dict[Name, str])
    partitions: dict[Name, int] = field(default_factory=dict[Name, int])
    indexes: dict[Name, Name] = field(default_factory=dict[Name, Name])
    partial: set[Name] = field(default_factory=set[Name])


# -- making it seem large ----------------------------------------------------------------------------------------------------------


@contextmanager
def pretend_large(conn: psycopg.Connection[Any]) -> Iterator[Large]:
    """Let every table seem large until the end of the block; then all is as before.

    Raises:
        PlansError: the server is older than PostgreSQL 18, or its files are not on this machine or not ours.
    """
    if conn.info.server_version < OLDEST:
        raise PlansError("plans are checked on PostgreSQL 18 and later only: an older server takes no statistics")
    months = _months(datetime.now(UTC))
    lengths: dict[Path, int] = {}
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL max_parallel_workers_per_gather = 0")  # the same plans, of fewer kinds
            # A value of ours that a CHECK rules out would make the plan an empty one. Pruning of partitions is another matter.
            conn.execute("SET LOCAL constraint_exclusion = off")
            # In the middle, so that a bound which does not count leaves half of the partitions in the plan.
            large = Large(month=months[PARTITIONS // 2])
            bounds = _make_partitions(conn, months)
            _read_relations(conn, large)
            _lengthen(conn, lengths)
            _describe_rows(conn, large, bounds, months)
            yield large
    finally:
        for path, length in lengths.items():
            with suppress(FileNotFoundError):  # what the transaction made is gone with it
                os.truncate(path, length)


def _months(today: datetime) -> list[datetime]:
    """Return the first moments of months, one more than there are partitions; today lies in the last but one."""
    last = today.year * 12 + today.month
    return [datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC) for at in range(last - PARTITIONS + 1, last + 2)]


_USERS_SCHEMAS = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"


def _make_partitions(conn: psycopg.Connection[Any], months: list[datetime]) -> dict[Name, tuple[str, str]]:
    """Make the partitions of each table that is partitioned by the range of one column; return the bounds of each."""
    made: dict[Name, tuple[str, str]] = {}
    for schema, table, kind in conn.execute(
        f"""
        SELECT n.nspname, c.relname, t.typname
        FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        JOIN pg_type d ON d.oid = a.atttypid
        JOIN pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
        WHERE p.partstrat = 'r' AND p.partnatts = 1 AND NOT c.relispartition AND {_USERS_SCHEMAS}
        """  # noqa: S608  (a constant of ours)
    ).fetchall():
        if kind in _TIMES:
            marks = [month.isoformat() for month in months]
        elif kind in _NUMBERS:
            marks = [str((at - PARTITIONS // 2) * _NUMBERS_OF_PARTITION) for at in range(PARTITIONS + 1)]
        else:
            continue
        for low, high in pairwise(marks):
            partition = Name(schema, f"{table[:40]}_pretended_{len(made)}")
            # What a partition of the migrations covers already stays theirs.
            with suppress(psycopg.errors.InvalidObjectDefinition), conn.transaction():
                conn.execute(
                    sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                        sql.Identifier(*partition), sql.Identifier(schema, table), low, high
                    )
                )
                made[partition] = low, high
    return made


def _read_relations(conn: psycopg.Connection[Any], large: Large) -> None:
    for schema, name, root_schema, root in conn.execute(
        f"""
        SELECT n.nspname, c.relname, rn.nspname, r.relname
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class r ON r.oid = COALESCE(pg_partition_root(c.oid), c.oid)
        JOIN pg_namespace rn ON rn.oid = r.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {_USERS_SCHEMAS}
        """  # noqa: S608
    ):
        large.root[Name(schema, name)] = Name(root_schema, root)
    for schema, name, key, partitions in conn.execute(
        """
        SELECT n.nspname, c.relname, a.attname, (SELECT count(*) FROM pg_partition_tree(c.oid) AS leaves WHERE leaves.isleaf)
        FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        WHERE p.partstrat = 'r' AND p.partnatts = 1 AND NOT c.relispartition
        """
    ):
        large.key[Name(schema, name)] = key
        large.partitions[Name(schema, name)] = partitions
    for schema, name, root_schema, root, is_partial in conn.execute(
        f"""
        SELECT n.nspname, c.relname, rn.nspname, r.relname, i.indpred IS NOT NULL
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class r ON r.oid = COALESCE(pg_partition_root(c.oid), c.oid)
        JOIN pg_namespace rn ON rn.oid = r.relnamespace
        WHERE {_USERS_SCHEMAS}
        """  # noqa: S608
    ):
        large.indexes[Name(schema, name)] = Name(root_schema, root)
        if is_partial:
            large.partial.add(Name(schema, name))


def _lengthen(conn: psycopg.Connection[Any], lengths: dict[Path, int]) -> None:
    """Give every table and index the file of a large one, and say so in its statistics."""
    row = conn.execute(
        "SELECT current_setting('data_directory'), current_setting('block_size')::int8, pg_size_bytes(current_setting('segment_size'))"
    ).fetchone()
    assert row is not None  # noqa: S101  (settings always have a value)
    folder, block, segment = row
    for schema, name, file, rows, is_index in conn.execute(
        f"""
        SELECT n.nspname, c.relname, pg_relation_filepath(c.oid),
            CASE WHEN COALESCE(t.relispartition, c.relispartition) THEN %s ELSE %s END
                * CASE WHEN i.indpred IS NULL THEN 1 ELSE %s END,
            i.indexrelid IS NOT NULL
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_index i ON i.indexrelid = c.oid
        LEFT JOIN pg_class t ON t.oid = i.indrelid
        WHERE c.relkind IN ('r', 'i') AND c.relpersistence <> 't' AND {_USERS_SCHEMAS.replace("%", "%%")}
        """,  # noqa: S608
        [ROWS_OF_PARTITION, ROWS_OF_TABLE, _PARTIAL],
    ).fetchall():
        path = Path(folder, file)
        pages = min(int(rows) // (_ENTRIES_OF_PAGE if is_index else _ROWS_OF_PAGE) + 2, segment // block - 1)
        try:
            length = path.stat().st_size
            lengths.setdefault(path, length)
            os.truncate(path, max(length, pages * block))
        except OSError as error:
            raise PlansError(f"plans are checked on a server of this machine whose files are ours: {error}") from error
        conn.execute(
            "SELECT pg_restore_relation_stats('schemaname', %s::text, 'relname', %s::text, 'relpages', %s::int, 'reltuples', %s::real, "
            "'relallvisible', %s::int)",
            [schema, name, pages, rows, 0 if is_index else pages * 9 // 10],
        )


class _Column(NamedTuple):
    schema: str
    table: str
    name: str
    type: str
    is_not_null: bool
    is_unique: bool
    refers: bool
    inherited: bool


def _describe_rows(
    conn: psycopg.Connection[Any], large: Large, bounds: Mapping[Name, tuple[str, str]], months: list[datetime]
) -> None:
    """Say of each column how many values it has, how often it is null and how it is spread."""
    columns = [
        _Column(*row)
        for row in conn.execute(
            f"""
            WITH keys AS (
                SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indisprimary AND i.indnkeyatts = 1
            )
            SELECT n.nspname, c.relname, a.attname, t.typname, a.attnotnull,
                EXISTS (
                    SELECT FROM pg_index i
                    WHERE i.indrelid = c.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL
                ),
                -- A reference needs no foreign key: the name of another table's key says it too.
                a.attname IN (SELECT attname FROM keys) OR EXISTS (
                    SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
                ),
                c.relkind = 'p'
            FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_type d ON d.oid = a.atttypid
            JOIN pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
            WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {_USERS_SCHEMAS}
            """  # noqa: S608
        ).fetchall()
    ]
    rare = _rare_values(conn)
    for column in columns:
        name = Name(column.schema, column.table)
        root = large.root[name]
        is_key = large.key.get(root) == column.name
        low, high = months[0].isoformat(), months[-1].isoformat()
        if is_key and name in bounds:
            low, high = bounds[name]
        given: dict[str, tuple[object, str]] = {
            "null_frac": (0.0 if column.is_not_null else 0.2, "float4"),
            "n_distinct": (_distinct(column), "float4"),
            "avg_width": (16, "int4"),
            # Rows arrive in the order of time, and in no other.
            "correlation": (0.9 if is_key else 0.0, "float4"),
        }
        if column.type in _TIMES:
            given["histogram_bounds"] = ("{" + ",".join(_spread(low, high)) + "}", "text")
        elif is_key and name in bounds:
            step = (int(high) - int(low)) // 100
            given["histogram_bounds"] = ("{" + ",".join(str(int(low) + at * step) for at in range(101)) + "}", "text")
        given |= rare.get((root, column.name), {})
        if given["null_frac"][0] == 1 - _PARTIAL:
            given.pop("histogram_bounds", None)
        pairs = sql.SQL(", ").join(
            sql.SQL("{}, {}::{}").format(word, str(value), sql.Identifier(type_)) for word, (value, type_) in given.items()
        )
        conn.execute(
            sql.SQL(
                "SELECT pg_restore_attribute_stats('schemaname', {}::text, 'relname', {}::text, 'attname', {}::text, "
                "'inherited', {}::boolean, {})"
            ).format(column.schema, column.table, column.name, column.inherited, pairs)
        )


def _distinct(column: _Column) -> float:
    """Return a column's number of values as the server counts: negative is a share of the rows."""
    if column.is_unique:
        return -1
    if column.refers:
        return ROWS_OF_TABLE
    if column.type == "bool":
        return 2
    return -0.5 if column.type in _TIMES or column.type == "uuid" else 1000


def _spread(low: str, high: str) -> list[str]:
    begin, end = datetime.fromisoformat(low), datetime.fromisoformat(high)
    return [f'"{(begin + (end - begin) * at / 100).isoformat()}"' for at in range(101)]


_NULL_TEST = re.compile(r'\("?(?P<column>\w+)"? IS (?P<negated>NOT )?NULL\)')
_WORD_TEST = re.compile(r'\("?(?P<column>\w+)"? = (?P<word>\'[^\']*\')::[\w. ]+\)')
_TRUE_TEST = re.compile(r'(?P<negated>\(NOT )?"?(?P<column>\w+)"?\)?')


def _rare_values(conn: psycopg.Connection[Any]) -> dict[tuple[Name, str], dict[str, tuple[object, str]]]:
    """Return what is to be said of columns so that the conditions of partial indexes hold for few rows."""
    rare: dict[tuple[Name, str], dict[str, tuple[object, str]]] = {}
    for schema, table, condition in conn.execute(
        "SELECT n.nspname, c.relname, pg_get_expr(i.indpred, i.indrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indpred IS NOT NULL AND NOT c.relispartition"
    ):
        for clause in clauses(condition):
            said: dict[str, tuple[object, str]]
            if test := _NULL_TEST.fullmatch(clause):
                said = {"null_frac": (1 - _PARTIAL if test["negated"] else _PARTIAL, "float4")}
            elif test := _WORD_TEST.fullmatch(clause):
                said = {
                    "most_common_vals": (f"{{{test['word'][1:-1]}}}", "text"),
                    "most_common_freqs": (f"{{{_PARTIAL}}}", "_float4"),
                }
            elif test := _TRUE_TEST.fullmatch(clause):
                values = "{t,f}" if test["negated"] else "{f,t}"
                said = {"most_common_vals": (values, "text"), "most_common_freqs": (f"{{{1 - _PARTIAL},{_PARTIAL}}}", "_float4")}
            else:
                continue
            rare.setdefault((Name(schema, table), test["column"]), {}).update(said)
    return rare


# -- asking for plans --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement's plan; `prunes` says that partitions which only the values rule out are left out of it."""

    root: dict[str, Any]
    prunes: bool


def explain(conn: psycopg.Connection[Any], description: Description, month: datetime) -> list[Plan]:
    """Return the plans of a statement: for typical values, and, if it takes any, for values yet unknown; none of what is not planned.

    Both are asked for as if to be run, so that partitions which are left out only then are left out here as well.
    """
    source = description.statement.source
    values = sql.SQL(", ").join(sql.Literal(value) for value in typical_values(description, month))
    execute = sql.SQL("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE checked {}").format(
        sql.SQL("({})").format(values) if source.parameters else sql.SQL("")
    )
    modes = ("custom", "generic") if source.parameters else ("custom",)
    with psycopg.RawCursor(conn) as cursor:
        try:
            with conn.transaction():
                cursor.execute(f"PREPARE checked AS {source.sql}".encode())
        except psycopg.errors.SyntaxError:
            return []  # CALL, SHOW and their like have no plan
        try:
            with conn.transaction():
                return [Plan(_explained(cursor, execute.as_bytes(conn), mode), prunes=True) for mode in modes]
        except psycopg.Error:
            # None of our values is one (a domain may ask for anything): the plan for unknown ones says most of it.
            query = f"EXPLAIN (GENERIC_PLAN, VERBOSE, FORMAT JSON) {source.sql}".encode()
            return [Plan(_explained(cursor, query, "generic"), prunes=False)]
        finally:
            # psycopg forgets what was prepared, and lets the server forget it, when a transaction is rolled back.
            with suppress(psycopg.errors.InvalidSqlStatementName), conn.transaction():
                cursor.execute(b"DEALLOCATE checked")


def _explained(cursor: "psycopg.RawCursor[Any]", query: bytes, mode: str) -> dict[str, Any]:
    cursor.execute(f"SET LOCAL plan_cache_mode = force_{mode}_plan".encode())
    cursor.execute(query)
    plan: dict[str, Any] = cursor.fetchall()[0][0][0]["Plan"]
    return plan


_UPPER = re.compile(r"(^|_)(to|end|until|till|before|high|max|last|upper)(_|$)")
_VALUES = {
    "bool": "true", "bytea": "\\x00", "interval": "1 day", "json": "{}", "jsonb": "{}", "time": "12:00",
    "uuid": "00000000-0000-4000-8000-000000000001",
}  # fmt: skip


def typical_values(description: Description, month: datetime) -> list[str | None]:
    """Return a value for each parameter, by its type: times lie within one month, the lower bounds before the upper ones."""
    names = [column.name for column in description.parameters]
    order = sorted(range(len(names)), key=lambda at: (bool(_UPPER.search(names[at])), at))
    return [_typical(column.type, month, order.index(at)) for at, column in enumerate(description.parameters)]


def _typical(type_: SqlType, month: datetime, rank: int) -> str | None:
    if type_.base is not None:
        words = [word for check in type_.checks if "ARRAY[" in check for word in re.findall(r"'([^']*)'", check)]
        return words[0] if words else _typical(type_.base, month, rank)
    if type_.element is not None:
        value = _typical(type_.element, month, rank)
        return None if value is None else "{" + ",".join([json.dumps(value)] * 10) + "}"
    if type_.labels:
        return type_.labels[0]
    if type_.name in _TIMES:
        return (month + timedelta(days=9 + rank % 15)).isoformat()
    if type_.name in _NUMBERS or type_.name.startswith("float"):
        return str(10 + rank)
    return _VALUES.get(type_.name, "x" if type_.name in ("text", "varchar", "bpchar", "name") else None)


# -- reading plans -----------------------------------------------------------------------------------------------------------------


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a plan's nodes, each before what it stands on."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def tables(plan: Mapping[str, Any], large: Large) -> set[Name]:
    """Return the tables that a plan reads or writes."""
    named = {Name(node.get("Schema", ""), node["Relation Name"]) for node in nodes(plan) if "Relation Name" in node}
    return {large.root[name] for name in named if name in large.root}


def indexes(plan: Mapping[str, Any], large: Large, schema: str = "") -> set[Name]:
    """Return the indexes that a plan uses, also those that only tell whether a row is there already."""
    schema = plan.get("Schema", schema)  # an index lies where its table does, which stands at this node or above
    words = [plan["Index Name"]] if "Index Name" in plan else plan.get("Conflict Arbiter Indexes", [])
    used = {large.indexes[name] for word in words if (name := Name(schema, word)) in large.indexes}
    return used.union(*(indexes(child, large, schema) for child in plan.get("Plans", ())))


def full_reads(plan: Mapping[str, Any], large: Large) -> dict[Name, str]:
    """Return the tables that a plan reads from end to end, with how it does that."""
    found: dict[Name, str] = {}
    _walk_full(plan, large, found, limited=False)
    return found


_STOPPING = {"Append", "Incremental Sort", "LockRows", "Merge Append", "ProjectSet", "Result", "Subquery Scan", "Unique"}


def _walk_full(node: Mapping[str, Any], large: Large, found: dict[Name, str], *, limited: bool) -> None:
    """Look at a node; `limited` says that whoever asks it for rows stops after a few."""
    kind = node["Node Type"]
    root = large.root.get(Name(node.get("Schema", ""), node.get("Relation Name", "")))
    if root is not None:
        if kind == "Seq Scan":
            found.setdefault(root, "one row after the other")
        elif (
            kind in ("Index Scan", "Index Only Scan")
            and "Index Cond" not in node
            and not limited
            and Name(node["Schema"], node["Index Name"]) not in large.partial
        ):
            found.setdefault(root, f"all along {node['Index Name']}")
    for child in node.get("Plans", ()):
        outer = child.get("Parent Relationship") in ("Outer", "Member", "Subquery")
        stops = limited and (kind in _STOPPING or (kind == "Nested Loop" and outer))
        _walk_full(child, large, found, limited=outer and (kind == "Limit" or stops))


@dataclass(frozen=True, slots=True)
class RangeRead:
    """A read of a partitioned table between two bounds of its partition key, or at one value.

    Attributes:
        partitions: how many are read.
        by_row: the bounds are values of another table's row, so that the partitions are chosen for each row, while it runs.
    """

    table: Name
    conditions: tuple[str, ...]
    partitions: int
    by_row: bool


def range_reads(plan: Plan, large: Large) -> list[RangeRead]:
    """Return where a plan reads a part of a partitioned table, with how many partitions it reads for that."""
    scans: dict[tuple[int, Name], list[Mapping[str, Any]]] = {}
    _collect_scans(plan.root, 0, large, scans)
    found: list[RangeRead] = []
    for (_, table), group in scans.items():
        if key := large.key.get(table):
            conditions = [[part for part in _conditions(node) if _bounds(part, key, node.get("Alias", ""))] for node in group]
            bounds = max(conditions, key=len)
            if len(bounds) > 1 or any(" = " in bound for bound in bounds):
                by_row = all(_compares_with_a_row(bound, key, or_parameter=not plan.prunes) for bound in bounds)
                found.append(RangeRead(table, tuple(bounds), len({node["Relation Name"] for node in group}), by_row))
    return found


def _collect_scans(
    node: Mapping[str, Any], above: int, large: Large, scans: dict[tuple[int, Name], list[Mapping[str, Any]]]
) -> None:
    root = large.root.get(Name(node.get("Schema", ""), node.get("Relation Name", "")))
    if root is not None and node["Node Type"] != "ModifyTable":
        scans.setdefault((above, root), []).append(node)
    for child in node.get("Plans", ()):
        below = child.get("Parent Relationship") == "Member"
        _collect_scans(child, above if below and node["Node Type"] not in ("Append", "Merge Append") else id(node), large, scans)


def _conditions(node: Mapping[str, Any]) -> list[str]:
    texts = [node[word] for word in ("Index Cond", "Recheck Cond", "Filter") if word in node]
    return list(dict.fromkeys(clause for text in texts for clause in clauses(text)))


def _bounds(condition: str, key: str, alias: str) -> bool:
    """Tell whether a condition limits the key. What compares it with another column of its own row chooses no partition."""
    if not (_COMPARES.search(condition) and _mentions(condition, key)):
        return False
    own = re.findall(rf'(?<![\w.])"?{re.escape(alias)}"?\."?(\w+)', _without_strings(condition))
    return set(own) <= {key}


def _mentions(condition: str, column: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", _without_strings(condition)) is not None


_COMPARES = re.compile(r" (<|>|<=|>=|=) ")
_OF_A_ROW = r"InitPlan \d|(?<![\w.])(?:\"\*VALUES\*\"|\"?[a-z_]\w*\"?)\.\"?[a-z_]\w*\"?(?![\w(.])"


def _compares_with_a_row(condition: str, key: str, *, or_parameter: bool) -> bool:
    """Tell whether the key itself is compared with something that is known only row by row."""
    bare = _without_strings(condition)
    column = rf'\(*(?:(?:\w+|"[^"]+")\.)?"?{re.escape(key)}"?(?:\)::[\w ]+)?'
    match = re.fullmatch(rf"{column} (?:<|>|<=|>=|=) (?P<other>.+)", bare) or re.fullmatch(
        rf"\(?(?P<other>.+) (?:<|>|<=|>=|=) {column}\)?", bare
    )
    return bool(match and re.search(rf"\$\d|{_OF_A_ROW}" if or_parameter else _OF_A_ROW, match["other"]))


def _without_strings(condition: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", condition)


def clauses(condition: str) -> list[str]:
    """Return the parts of a condition, as the server prints it, that AND joins at its top: `((a = 1) AND (b = 2))` has two."""
    text = condition
    parts: list[str] = []
    depth, start, quoted = 0, 1, False
    for at, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if not depth and at < len(text) - 1:
                return [text]  # what stands in parentheses ends before the condition does
        elif depth == 1 and text.startswith(" AND ", at):
            parts.append(text[start:at])
            start = at + 5
    return [*parts, text[start:-1]] if parts else [text]
