"""What a statement does to those who use the database: which locks it takes on which relations, whether it rewrites or reads a
table as a whole, whether it may run inside a transaction, and what stored data it destroys. Read from the statement's parse tree
alone, without a database; `tests/migrations/test_effects.py` proves each answer on the server (pg_locks, relfilenode, scans).

Not here: reading files and splitting them (kalshidb.migration.statements).

What the text cannot say is said as "maybe", with the reason in `notes`: whether a changed type rewrites depends on the old type,
what a DO block or a called function does depends on its body. Locks on catalogues and on relations that the statement itself
makes are left out: nobody waits for them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from postgast import pg_query_pb2 as pg

Sure: TypeAlias = Literal["no", "maybe", "yes"]

Node: TypeAlias = Any
"""A node of the parse tree; its shape depends on its kind."""


class LockLevel(IntEnum):
    """PostgreSQL's table lock modes, weakest first."""

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    @property
    def words(self) -> str:
        """The name as PostgreSQL's documentation writes it, "ACCESS EXCLUSIVE"."""
        return self.name.replace("_", " ")

    @property
    def who_waits(self) -> str:
        """Who has to wait while it is held, and for whom it waits itself."""
        if self is LockLevel.ACCESS_EXCLUSIVE:
            return "readers and writers wait"
        if self >= LockLevel.SHARE:
            return "writers wait"
        return "readers and writers go on"


class Lock(NamedTuple):
    """A lock on a relation that exists before the statement."""

    level: LockLevel
    relation: str
    """As the statement writes it, `schema.table`, in quotes where it needs them; where `named` is false a description: "the table of
    schema.index"."""
    named: bool = True


class Loss(NamedTuple):
    """Stored data that a statement destroys."""

    what: Literal["table", "column", "rows", "values", "unknown"]
    """`rows`: deleted or truncated; `values`: overwritten; `unknown`: the text does not say, see the effect's notes."""
    relation: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What one statement does. `rewrites` and `scans` are about whole existing tables, not about rows that a WHERE finds."""

    locks: tuple[Lock, ...] = ()
    rewrites: Sure = "no"
    scans: Sure = "no"
    transaction: Literal["any", "forbidden", "ends"] = "any"
    """`forbidden`: the server refuses it inside a transaction; `ends`: it begins, commits or rolls back one."""
    creates: tuple[str, ...] = ()
    """Relations (tables, indexes, views, sequences) that it makes, as written; an index stands in its table's schema."""
    loses: tuple[Loss, ...] = ()
    opaque: bool = False
    """What it does depends on code that is elsewhere: a DO block, a called procedure or function."""
    notes: tuple[str, ...] = ()

    @property
    def strongest(self) -> Lock | None:
        """The strongest lock; the first of them when several are equally strong."""
        return max(self.locks, key=lambda lock: lock.level, default=None)


AE, SUE, SRE = LockLevel.ACCESS_EXCLUSIVE, LockLevel.SHARE_UPDATE_EXCLUSIVE, LockLevel.SHARE_ROW_EXCLUSIVE


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Built-in functions whose value differs from row to row: a default that calls one is computed for each stored row.
VOLATILE = _words(
    "random random_normal gen_random_uuid uuidv4 uuidv7 uuid_generate_v1 uuid_generate_v4 clock_timestamp timeofday nextval setval"
)
STABLE = _words(
    "now transaction_timestamp statement_timestamp current_setting to_timestamp to_date date_trunc timezone make_interval lower upper "
    "coalesce jsonb_build_object jsonb_build_array json_build_object json_build_array to_jsonb md5 length"
)
BUILT_IN_TYPES = _words(
    "bool int2 int4 int8 float4 float8 numeric text varchar bpchar char name bytea date time timetz timestamp timestamptz interval uuid "
    "json jsonb inet cidr macaddr macaddr8 bit varbit money oid regclass tsvector tsquery xml point line lseg box path polygon circle "
    "int4range int8range numrange tsrange tstzrange daterange citext"
)
SERIAL = _words("serial serial2 serial4 serial8 smallserial bigserial")


def effect_of(node: Node) -> Effect:
    """Return what a statement does, from its parse tree (`postgast.parse(text).stmts[i].stmt`)."""
    kind = node.WhichOneof("node")
    reader = _READERS.get(kind)
    if reader is None:
        return Effect(opaque=True, notes=("what it locks is not known here",)) if kind in _UNKNOWN else Effect()
    return reader(getattr(node, kind))


# Names


def quoted(name: str) -> str:
    """Return a name as SQL writes it: in quotes where it would be read as another without. (Words of SQL are left as they are.)"""
    return name if re.fullmatch(r"[a-z_][a-z0-9_$]*", name) else '"' + name.replace('"', '""') + '"'


def relation_name(relation: Node) -> str:
    """Return a RangeVar as it is written, `schema.table`."""
    return ".".join(quoted(part) for part in (relation.catalogname, relation.schemaname, relation.relname) if part)


def dotted(node: Node) -> str:
    """Return the name that a List of Strings, a TypeName or a String is, `schema.object`."""
    kind = node.WhichOneof("node") if node.DESCRIPTOR.name == "Node" else None
    if kind is not None:
        node = getattr(node, kind)
    if node.DESCRIPTOR.name == "String":
        return quoted(str(node.sval))
    items = node.names if node.DESCRIPTOR.name == "TypeName" else node.items if node.DESCRIPTOR.name == "List" else node.objname
    return ".".join(quoted(item.string.sval) for item in items)


def walk(message: Node) -> Iterable[Node]:
    """Yield a parse tree's messages, the given one first."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if field.is_repeated else (value,):
                yield from walk(child)


def _function_calls(message: Node) -> set[str]:
    return {call.funcname[-1].string.sval.lower() for call in walk(message) if call.DESCRIPTOR.name == "FuncCall"}


# Tables


def _create_table(stmt: Node) -> Effect:
    locks: list[Lock] = []
    for element in stmt.table_elts:
        if element.HasField("table_like_clause"):
            locks.append(Lock(LockLevel.ACCESS_SHARE, relation_name(element.table_like_clause.relation)))
    locks += _foreign_keys(stmt)
    parent = AE if stmt.HasField("partbound") else SUE
    locks += [Lock(parent, relation_name(node.range_var)) for node in stmt.inh_relations]
    name = relation_name(stmt.relation)
    notes = ("a partition made apart and attached locks its parent less",) if stmt.HasField("partbound") else ()
    return Effect(locks=_merged(lock for lock in locks if lock.relation != name), creates=(name,), notes=notes)


def _foreign_keys(message: Node) -> list[Lock]:
    return [
        Lock(SRE, relation_name(constraint.pktable))
        for constraint in walk(message)
        if constraint.DESCRIPTOR.name == "Constraint" and constraint.contype == pg.CONSTR_FOREIGN
    ]


_LEVELS = {
    "AT_SetStatistics": SUE,
    "AT_SetOptions": SUE,
    "AT_ResetOptions": SUE,
    "AT_ClusterOn": SUE,
    "AT_DropCluster": SUE,
    "AT_ValidateConstraint": SUE,
    "AT_AttachPartition": SUE,
    "AT_DetachPartitionFinalize": SUE,
    **{
        f"AT_{verb}Trig{which}": SRE
        for verb in ("Enable", "EnableAlways", "EnableReplica", "Disable")
        for which in ("", "All", "User")
    },
}
# Storage parameters that may be changed while the table is read and written.
_MILD_PARAMETERS = ("autovacuum_", "toast.", "fillfactor", "toast_tuple_target", "parallel_workers", "vacuum_", "log_autovacuum",
                    "deduplicate_items", "pages_per_range", "autosummarize", "n_distinct")  # fmt: skip


@dataclass(slots=True)
class _Altering:
    """What the commands of one ALTER TABLE add up to."""

    level: LockLevel
    others: list[Lock]
    notes: list[str]
    loses: list[Loss]
    creates: list[str]
    rewrites: Sure = "no"
    scans: Sure = "no"
    transaction: Literal["any", "forbidden"] = "any"


def _alter_table(stmt: Node) -> Effect:
    name = relation_name(stmt.relation)
    if stmt.objtype == pg.OBJECT_TYPE:
        return Effect(notes=("tables that have a column of this composite type are checked",))
    is_index = stmt.objtype == pg.OBJECT_INDEX
    sum_ = _Altering(LockLevel.ACCESS_SHARE, [], [], [], [])
    for node in stmt.cmds:
        command = node.alter_table_cmd
        _command(sum_, command, name, is_index=is_index)
    locks = _merged([Lock(sum_.level, name), *sum_.others])
    return Effect(
        locks,
        sum_.rewrites,
        sum_.scans,
        sum_.transaction,
        creates=tuple(sum_.creates),
        loses=tuple(sum_.loses),
        notes=tuple(dict.fromkeys(sum_.notes)),
    )


def _command(sum_: _Altering, command: Node, table: str, *, is_index: bool) -> None:
    subtype = pg.AlterTableType.Name(command.subtype)
    level = _LEVELS.get(subtype, AE)
    match subtype:
        case "AT_AddColumn":
            _add_column(sum_, _definition(command).column_def)
        case "AT_AddConstraint":
            level = _add_constraint(sum_, _definition(command).constraint)
        case "AT_AlterColumnType":
            _more(sum_, rewrites="maybe", scans="maybe")
            if _definition(command).column_def.HasField("raw_default"):
                _more(sum_, rewrites="yes", scans="yes")
            else:
                sum_.notes.append(
                    "rewrites the table and its indexes unless the old type is the same in storage (a longer varchar, varchar to text, "
                    "numeric with more digits before the point)"
                )
            sum_.loses.append(Loss("values", table, command.name))
        case "AT_SetNotNull":
            _more(sum_, scans="yes")
            sum_.notes.append("reads the whole table unless a valid CHECK (… IS NOT NULL) proves it already")
        case "AT_DropColumn":
            sum_.loses.append(Loss("column", table, command.name))
            if command.behavior == pg.DROP_CASCADE:
                sum_.notes.append("CASCADE: also what depends on the column")
        case "AT_DropConstraint" | "AT_ValidateConstraint":
            validates = subtype == "AT_ValidateConstraint"
            if validates:
                _more(sum_, scans="yes")
            other = f"the table that {command.name} references, if it is a foreign key"
            sum_.others.append(Lock(LockLevel.ROW_SHARE if validates else AE, other, named=False))
        case "AT_SetLogged" | "AT_SetUnLogged" | "AT_SetAccessMethod" | "AT_SetTableSpace":
            _more(sum_, rewrites="yes", scans="yes")
        case "AT_SetExpression":
            _more(sum_, rewrites="maybe", scans="maybe")
            sum_.notes.append("a stored generated column is computed anew for every row")
        case "AT_SetRelOptions" | "AT_ResetRelOptions":
            names = [option.def_elem.defname for option in _definition(command).list.items]
            if all(name.startswith(_MILD_PARAMETERS) for name in names):
                level = SUE
        case "AT_AttachPartition" | "AT_DetachPartition":
            level = _partition(
                sum_, _definition(command).partition_cmd, attaches=subtype == "AT_AttachPartition", is_index=is_index
            )
        case "AT_AddInherit" | "AT_DropInherit":
            sum_.others.append(Lock(SUE, relation_name(_definition(command).range_var)))
    sum_.level = max(sum_.level, level)


def _definition(command: Node) -> Node:
    return getattr(command, "def")


def _partition(sum_: _Altering, partition: Node, *, attaches: bool, is_index: bool) -> LockLevel:
    name = relation_name(partition.name)
    if attaches:
        sum_.others.append(Lock(AE, name))
        if is_index:
            sum_.others.append(Lock(LockLevel.ACCESS_SHARE, "the tables of both indexes", named=False))
        else:
            _more(sum_, scans="maybe")
            sum_.others.append(Lock(SRE, "tables that foreign keys of the partitioned table reference", named=False))
            sum_.notes.append("reads the attached table unless a CHECK proves its bounds; also a default partition")
        return SUE
    level = SUE if partition.concurrent else AE
    if partition.concurrent:
        sum_.transaction = "forbidden"
    sum_.others += [Lock(level, name), Lock(SRE, "tables that foreign keys of the partition reference", named=False)]
    return level


def _more(sum_: _Altering, *, rewrites: Sure = "no", scans: Sure = "no") -> None:
    sum_.rewrites, sum_.scans = _surer(sum_.rewrites, rewrites), _surer(sum_.scans, scans)


def _surer(one: Sure, other: Sure) -> Sure:
    return "yes" if "yes" in (one, other) else "maybe" if "maybe" in (one, other) else "no"


def _add_column(sum_: _Altering, column: Node) -> None:
    sum_.others += _foreign_keys(column)
    type_name = column.type_name.names[-1].string.sval
    if type_name in SERIAL:
        _more(sum_, rewrites="yes", scans="yes")
        sum_.notes.append("a serial column is numbered row by row")
    elif type_name not in BUILT_IN_TYPES:
        _more(sum_, rewrites="maybe", scans="maybe")
        sum_.notes.append(f"rewrites the table if {dotted(column.type_name)} is a domain with a constraint")
    for node in column.constraints:
        constraint = node.constraint
        match constraint.contype:
            case pg.CONSTR_DEFAULT:
                calls = _function_calls(constraint)
                if calls & VOLATILE:
                    _more(sum_, rewrites="yes", scans="yes")
                    sum_.notes.append(f"the default calls {', '.join(sorted(calls & VOLATILE))} for each row")
                elif calls - STABLE:
                    _more(sum_, rewrites="maybe", scans="maybe")
                    sum_.notes.append(f"rewrites the table if {', '.join(sorted(calls - STABLE))} is volatile")
            case pg.CONSTR_IDENTITY:
                _more(sum_, rewrites="yes", scans="yes")
                sum_.notes.append("an identity column is numbered row by row")
            case pg.CONSTR_GENERATED:
                if constraint.generated_kind in ("s", ""):
                    _more(sum_, rewrites="yes", scans="yes")
                    sum_.notes.append("a stored generated column is computed for every row")
            case pg.CONSTR_PRIMARY | pg.CONSTR_UNIQUE | pg.CONSTR_CHECK:
                _more(sum_, scans="yes")
            case pg.CONSTR_NOTNULL:
                # Without a default the server refuses at the first row; it reads no further when there is none.
                _more(sum_, scans="maybe")


def _add_constraint(sum_: _Altering, constraint: Node) -> LockLevel:
    match constraint.contype:
        case pg.CONSTR_FOREIGN:
            sum_.others.append(Lock(SRE, relation_name(constraint.pktable)))
            if not constraint.skip_validation:
                _more(sum_, scans="yes")
            return SRE
        case pg.CONSTR_PRIMARY | pg.CONSTR_UNIQUE | pg.CONSTR_EXCLUSION:
            if constraint.indexname:
                if constraint.contype == pg.CONSTR_PRIMARY:
                    _more(sum_, scans="maybe")
                    sum_.notes.append("reads the whole table unless the columns are NOT NULL already")
                sum_.others.append(Lock(AE, constraint.indexname, named=False))
            else:
                _more(sum_, scans="yes")
                sum_.notes.append("builds its index under this lock; an index made CONCURRENTLY and then USING INDEX does not")
                if constraint.conname:
                    sum_.creates.append(constraint.conname)
        case _:
            if not constraint.skip_validation:
                _more(sum_, scans="yes")
    return AE


# Indexes


def _create_index(stmt: Node) -> Effect:
    table = relation_name(stmt.relation)
    level = SUE if stmt.concurrent else LockLevel.SHARE
    schema = f"{quoted(stmt.relation.schemaname)}." if stmt.relation.schemaname else ""
    return Effect(
        (Lock(level, table),),
        scans="yes",
        transaction="forbidden" if stmt.concurrent else "any",
        creates=(schema + quoted(stmt.idxname),) if stmt.idxname else (),
        notes=("waits for every transaction that is older than itself",) if stmt.concurrent else (),
    )


def _reindex(stmt: Node) -> Effect:
    concurrent = any(option.def_elem.defname == "concurrently" for option in stmt.params)
    whole = stmt.kind in (pg.REINDEX_OBJECT_SCHEMA, pg.REINDEX_OBJECT_SYSTEM, pg.REINDEX_OBJECT_DATABASE)
    level = SUE if concurrent else LockLevel.SHARE
    if whole:
        locks: tuple[Lock, ...] = (Lock(level, f"every table of {stmt.name or 'the database'}", named=False),)
    elif stmt.kind == pg.REINDEX_OBJECT_INDEX:
        name = relation_name(stmt.relation)
        locks = (Lock(SUE if concurrent else AE, name), Lock(level, f"the table of {name}", named=False))
    else:
        locks = (Lock(level, relation_name(stmt.relation)),)
        if not concurrent:
            locks += (Lock(AE, f"the indexes of {relation_name(stmt.relation)}: readers who would use one wait", named=False),)
    return Effect(locks, scans="yes", transaction="forbidden" if concurrent or whole else "any")


# Dropping, renaming, comments: by what it is about

_RELATIONS = {
    pg.OBJECT_TABLE, pg.OBJECT_FOREIGN_TABLE, pg.OBJECT_VIEW, pg.OBJECT_MATVIEW, pg.OBJECT_SEQUENCE, pg.OBJECT_INDEX,
}  # fmt: skip
_ON_A_TABLE = {pg.OBJECT_TRIGGER, pg.OBJECT_POLICY, pg.OBJECT_RULE, pg.OBJECT_TABCONSTRAINT}


def _drop(stmt: Node) -> Effect:
    names = [dotted(node) for node in stmt.objects]
    notes: list[str] = []
    loses: list[Loss] = []
    locks: list[Lock] = []
    level = SUE if stmt.concurrent else AE
    if stmt.behavior == pg.DROP_CASCADE:
        notes.append("CASCADE: also what depends on it, whatever that is")
        loses.append(Loss("unknown", ", ".join(names)))
    if stmt.remove_type in _RELATIONS:
        locks += [Lock(level, name) for name in names]
        if stmt.remove_type == pg.OBJECT_INDEX:
            locks += [Lock(level, f"the table of {name}", named=False) for name in names]
        if stmt.remove_type == pg.OBJECT_TABLE:
            locks += [Lock(AE, f"tables that foreign keys of {name} reference", named=False) for name in names]
            loses += [Loss("table", name) for name in names]
    elif stmt.remove_type in _ON_A_TABLE:
        locks += [Lock(AE, name.rpartition(".")[0]) for name in names]
    elif stmt.remove_type == pg.OBJECT_STATISTIC_EXT:
        locks += [Lock(SUE, f"the table of {name}", named=False) for name in names]
    elif stmt.remove_type == pg.OBJECT_EXTENSION:
        notes.append("drops what the extension made")
    return Effect(_merged(locks), transaction="forbidden" if stmt.concurrent else "any", loses=tuple(loses), notes=tuple(notes))


def _rename(stmt: Node) -> Effect:
    if not stmt.HasField("relation"):
        return Effect()
    name = relation_name(stmt.relation)
    if stmt.rename_type == pg.OBJECT_INDEX:
        return Effect((Lock(SUE, name),))
    return Effect((Lock(AE, name),), notes=("statements that use the old name fail from then on",))


def _on_relation(level: LockLevel) -> Callable[[Node], Effect]:
    def read(stmt: Node) -> Effect:
        return Effect((Lock(level, relation_name(stmt.relation)),)) if stmt.HasField("relation") else Effect()

    return read


def _comment(stmt: Node) -> Effect:
    name = dotted(stmt.object) if stmt.object.WhichOneof("node") in ("list", "string") else ""
    if stmt.objtype in _RELATIONS:
        return Effect((Lock(SUE, name),))
    if stmt.objtype == pg.OBJECT_COLUMN:
        return Effect((Lock(SUE, name.rpartition(".")[0]),))
    if stmt.objtype in _ON_A_TABLE:
        return Effect((Lock(LockLevel.ACCESS_SHARE, name.rpartition(".")[0]),))
    return Effect()


# What stands on tables


def _trigger(stmt: Node) -> Effect:
    locks = [Lock(SRE, relation_name(stmt.relation))]
    if stmt.HasField("constrrel"):
        locks.append(Lock(SRE, relation_name(stmt.constrrel)))
    return Effect(_merged(locks))


def _policy(stmt: Node) -> Effect:
    return Effect((Lock(AE, relation_name(stmt.table)),))


def _statistics(stmt: Node) -> Effect:
    return Effect(tuple(Lock(SUE, relation_name(node.range_var)) for node in stmt.relations if node.HasField("range_var")))


def _view(stmt: Node) -> Effect:
    name = relation_name(stmt.view)
    locks = _read(stmt.query)
    if stmt.replace:
        locks += [Lock(AE, name)]
    return Effect(_merged(locks), creates=() if stmt.replace else (name,))


def _create_table_as(stmt: Node) -> Effect:
    return Effect(_merged(_read(stmt.query)), scans="maybe", creates=(relation_name(stmt.into.rel),))


def _refresh(stmt: Node) -> Effect:
    level = LockLevel.EXCLUSIVE if stmt.concurrent else AE
    return Effect((Lock(level, relation_name(stmt.relation)),), rewrites="no" if stmt.concurrent else "yes", scans="yes")


def _sequence(stmt: Node) -> Effect:
    return Effect((Lock(SRE, relation_name(stmt.sequence)),))


def _domain(stmt: Node) -> Effect:
    name = dotted_list(stmt.type_name)
    adds = stmt.subtype == "C" and not getattr(stmt, "def").constraint.skip_validation
    if adds or stmt.subtype in ("O", "V"):
        level = SUE if stmt.subtype == "V" else LockLevel.SHARE
        return Effect((Lock(level, f"every table with a column of {name}", named=False),), scans="yes")
    return Effect()


def dotted_list(nodes: Iterable[Node]) -> str:
    """Return the name that consecutive String nodes are."""
    return ".".join(quoted(node.string.sval) for node in nodes)


# Rows


def _read(message: Node) -> list[Lock]:
    """Return the locks of reading every relation below a node, but for names that a WITH of it defines."""
    named = {cte.ctename for cte in walk(message) if cte.DESCRIPTOR.name == "CommonTableExpr"}
    found = [relation for relation in walk(message) if relation.DESCRIPTOR.name == "RangeVar"]
    strength = LockLevel.ROW_SHARE if any(m.DESCRIPTOR.name == "LockingClause" for m in walk(message)) else LockLevel.ACCESS_SHARE
    return [Lock(strength, relation_name(one)) for one in found if one.schemaname or one.relname not in named]


def _written(message: Node) -> tuple[list[Lock], list[Loss], list[str]]:
    """Return locks, losses and created relations of a statement about rows, with what its WITH and EXPLAIN hide."""
    locks, loses, creates = _read(message), [], []
    for node in walk(message):
        name = node.DESCRIPTOR.name
        if name in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
            target = relation_name(node.relation)
            locks.append(Lock(LockLevel.ROW_EXCLUSIVE, target))
            if name in ("DeleteStmt", "MergeStmt"):
                loses.append(Loss("rows", target))
            if name in ("UpdateStmt", "MergeStmt") or (
                name == "InsertStmt" and node.on_conflict_clause.action == pg.ONCONFLICT_UPDATE
            ):
                loses.append(Loss("values", target))
        elif name == "IntoClause" and node.HasField("rel"):
            creates.append(relation_name(node.rel))
    return locks, loses, creates


def _rows(stmt: Node) -> Effect:
    locks, loses, creates = _written(stmt)
    calls = _function_calls(stmt) - STABLE - VOLATILE - _AGGREGATES
    changes = stmt.DESCRIPTOR.name in ("UpdateStmt", "DeleteStmt") and not stmt.HasField("where_clause")
    opaque = stmt.DESCRIPTOR.name == "SelectStmt" and bool(calls)
    return Effect(
        _merged(lock for lock in locks if lock.relation not in creates),
        scans="yes" if changes else "no",
        creates=tuple(creates),
        loses=tuple(dict.fromkeys(loses)),
        opaque=opaque,
        notes=(f"what {', '.join(sorted(calls))} does depends on its body",) if opaque else (),
    )


_AGGREGATES = _words(
    "count sum min max avg array_agg string_agg jsonb_agg json_agg bool_or bool_and unnest generate_series format"
)


def _copy(stmt: Node) -> Effect:
    if not stmt.is_from:
        return Effect(_merged(_read(stmt)))
    return Effect((Lock(LockLevel.ROW_EXCLUSIVE, relation_name(stmt.relation)),))


def _truncate(stmt: Node) -> Effect:
    names = [relation_name(node.range_var) for node in stmt.relations]
    cascade = stmt.behavior == pg.DROP_CASCADE
    return Effect(
        tuple(Lock(AE, name) for name in names),
        loses=(*(Loss("rows", name) for name in names), *((Loss("unknown", ", ".join(names)),) if cascade else ())),
        notes=("CASCADE: also every table with a foreign key to it",) if cascade else (),
    )


def _lock_table(stmt: Node) -> Effect:
    return Effect(tuple(Lock(LockLevel(stmt.mode), relation_name(node.range_var)) for node in stmt.relations))


def _opaque(what: str) -> Callable[[Node], Effect]:
    return lambda _: Effect(
        opaque=True, loses=(Loss("unknown", what),), notes=(f"what {what} does cannot be read from its text",)
    )


# Outside of transactions


def _transaction(stmt: Node) -> Effect:
    inside = (pg.TRANS_STMT_SAVEPOINT, pg.TRANS_STMT_RELEASE, pg.TRANS_STMT_ROLLBACK_TO)
    return Effect() if stmt.kind in inside else Effect(transaction="ends")


def _forbidden(_: Node) -> Effect:
    return Effect(transaction="forbidden")


def _drop_database(stmt: Node) -> Effect:
    return Effect(transaction="forbidden", loses=(Loss("unknown", f"database {stmt.dbname}"),))


def _vacuum(stmt: Node) -> Effect:
    options = {option.def_elem.defname for option in stmt.options}
    names = [relation_name(node.vacuum_relation.relation) for node in stmt.rels]
    full = stmt.is_vacuumcmd and "full" in options
    level = AE if full else SUE
    return Effect(
        tuple(Lock(level, name) for name in names)
        or (Lock(level, "every table of the database, one after the other", named=False),),
        rewrites="yes" if full else "no",
        scans="yes" if full else "maybe",
        transaction="forbidden" if stmt.is_vacuumcmd else "any",
    )


def _cluster(stmt: Node) -> Effect:
    if not stmt.HasField("relation"):
        return Effect(transaction="forbidden", rewrites="yes", scans="yes")
    return Effect((Lock(AE, relation_name(stmt.relation)),), rewrites="yes", scans="yes")


def _subscription(stmt: Node) -> Effect:
    options = {option.def_elem.defname: option.def_elem.arg for option in stmt.options}
    connects = not any(name in options and dotted_word(options[name]) == "false" for name in ("connect", "create_slot"))
    return Effect(transaction="forbidden" if connects else "any")


def dotted_word(node: Node) -> str:
    """Return an option's value, "true" when it has none."""
    kind = node.WhichOneof("node")
    if kind == "boolean":
        return str(node.boolean.boolval).lower()
    return str(node.string.sval).lower() if kind == "string" else "true"


def _schema(stmt: Node) -> Effect:
    parts = [effect_of(element) for element in stmt.schema_elts]
    return Effect(
        _merged(lock for part in parts for lock in part.locks),
        creates=tuple(f"{stmt.schemaname}.{name}" if "." not in name else name for part in parts for name in part.creates),
    )


def _create_sequence(stmt: Node) -> Effect:
    return Effect(creates=(relation_name(stmt.sequence),))


def _add_enum_value(stmt: Node) -> Effect:
    return Effect(
        notes=() if not stmt.new_val or stmt.old_val else ("the new value cannot be used before this transaction ends",)
    )


def _merged(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Keep the strongest lock of each relation."""
    strongest: dict[str, Lock] = {}
    for lock in locks:
        known = strongest.get(lock.relation)
        if known is None or known.level < lock.level:
            strongest[lock.relation] = lock
    return tuple(strongest.values())


_READERS: dict[str | None, Callable[[Node], Effect]] = {
    "create_stmt": _create_table,
    "create_foreign_table_stmt": lambda stmt: _create_table(stmt.base_stmt),
    "alter_table_stmt": _alter_table,
    "index_stmt": _create_index,
    "reindex_stmt": _reindex,
    "drop_stmt": _drop,
    "rename_stmt": _rename,
    "alter_object_schema_stmt": _on_relation(AE),
    "alter_owner_stmt": _on_relation(AE),
    "comment_stmt": _comment,
    "sec_label_stmt": _comment,
    "create_trig_stmt": _trigger,
    "create_policy_stmt": _policy,
    "alter_policy_stmt": _policy,
    "rule_stmt": _on_relation(AE),
    "create_stats_stmt": _statistics,
    "view_stmt": _view,
    "create_table_as_stmt": _create_table_as,
    "refresh_mat_view_stmt": _refresh,
    "create_seq_stmt": _create_sequence,
    "alter_seq_stmt": _sequence,
    "alter_domain_stmt": _domain,
    "select_stmt": _rows,
    "insert_stmt": _rows,
    "update_stmt": _rows,
    "delete_stmt": _rows,
    "merge_stmt": _rows,
    "explain_stmt": lambda stmt: _rows(stmt.query),
    "copy_stmt": _copy,
    "truncate_stmt": _truncate,
    "lock_stmt": _lock_table,
    "do_stmt": _opaque("a DO block"),
    "call_stmt": _opaque("a procedure"),
    "execute_stmt": _opaque("a prepared statement"),
    "drop_owned_stmt": _opaque("DROP OWNED"),
    "create_extension_stmt": lambda _: Effect(opaque=True, notes=("runs the extension's script",)),
    "alter_extension_stmt": lambda _: Effect(opaque=True, notes=("runs the extension's script",)),
    "transaction_stmt": _transaction,
    "createdb_stmt": _forbidden,
    "dropdb_stmt": _drop_database,
    "create_table_space_stmt": _forbidden,
    "drop_table_space_stmt": _forbidden,
    "alter_system_stmt": _forbidden,
    "create_subscription_stmt": _subscription,
    "drop_subscription_stmt": _forbidden,
    "vacuum_stmt": _vacuum,
    "cluster_stmt": _cluster,
    "create_schema_stmt": _schema,
    "alter_enum_stmt": _add_enum_value,
}
# The rest changes catalogues only: functions, types, roles, rights, settings.
_UNKNOWN = _words("alter_table_move_all_stmt import_foreign_schema_stmt alter_extension_contents_stmt alter_subscription_stmt")
