"""What differs between two schemas, and whether a live database still is what its snapshot says.

PostgreSQL writes the same view or default differently from one version to the next, and even the second time. So both sides go through
the same hands before they are compared: the SQL of each is executed in a database of its own on one scratch server, and what that server
says of the two is compared. The live database is only read, in a transaction that cannot write.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql

from kalshidb.migration import snapshot
from kalshidb.migration.findings import Finding, shown
from kalshidb.migration.snapshot import Schema
from kalshidb.models.migration import SchemaObjectsRow as Thing
from kalshidb.postgres.scratch import scratch_database
from kalshidb.queries import migration as catalogs

What = Literal["missing", "extra", "changed", "column-order"]

_WHOLE = ("schema", "table", "partition", "view", "materialized view", "domain", "type", "sequence", "function", "procedure")
_MONTHLY = re.compile(
    r"FOR VALUES FROM \('(\d{4})-(\d\d)-01(?: 00:00:00(?:\+00)?)?'\) TO \('(\d{4})-(\d\d)-01(?: 00:00:00(?:\+00)?)?'\)"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that two schemas do not agree on. `wanted` is None where it is extra, `found` where it is missing."""

    what: What
    wanted: Thing | None
    found: Thing | None

    @property
    def thing(self) -> Thing:
        """The object as the first schema has it, else as the second does."""
        thing = self.wanted or self.found
        assert thing is not None  # noqa: S101  (one of them is there)
        return thing

    @property
    def name(self) -> str:
        """Kind and name of the object."""
        return f"{self.thing.kind} {self.thing.name}"


def compare(wanted: Schema, found: Schema) -> list[Difference]:
    """Return what differs, in the order of names; of an object that is missing or extra as a whole only itself."""
    here, there = _by_name(wanted.things), _by_name(found.things)
    gone = {name for (kind, name) in here.keys() - there.keys() if kind in _WHOLE}
    come = {name for (kind, name) in there.keys() - here.keys() if kind in _WHOLE}
    both = gone & come  # a table that became a view: its columns and comments differ because of that
    gone |= {f"COLUMN {name}" for (kind, name) in here.keys() - there.keys() if kind == "column"}
    come |= {f"COLUMN {name}" for (kind, name) in there.keys() - here.keys() if kind == "column"}
    differences: list[Difference] = []
    for key in sorted(here.keys() | there.keys(), key=lambda key: (_table_of(here, there, key), key)):
        one, other = here.get(key), there.get(key)
        if one is None and other is not None:
            if not _follows(other, come | both):
                differences.append(Difference("extra", None, other))
        elif one is not None and other is None:
            if not _follows(one, gone | both):
                differences.append(Difference("missing", one, None))
        elif one is not None and other is not None and (one.part_of, one.definition) != (other.part_of, other.definition):
            differences.append(Difference("changed", one, other))
    return differences + _reordered(wanted, found)


def _by_name(things: Iterable[Thing]) -> dict[tuple[str, str], Thing]:
    return {(thing.kind, thing.name): thing for thing in things}


def _table_of(here: dict[tuple[str, str], Thing], there: dict[tuple[str, str], Thing], key: tuple[str, str]) -> str:
    thing = here.get(key) or there[key]
    return thing.part_of or thing.name


def _follows(thing: Thing, wholes: set[str]) -> bool:
    """Say whether an object comes or goes with a larger one."""
    room = (thing.part_of or thing.name).partition(".")[0]
    return (
        thing.part_of in wholes
        or (thing.kind == "comment" and thing.name in wholes)
        or (thing.kind in _WHOLE and thing.kind != "schema" and room in wholes)
        or (thing.part_of != "" and room in wholes)
    )


def _reordered(wanted: Schema, found: Schema) -> list[Difference]:
    orders: list[dict[str, list[str]]] = []
    for schema in (wanted, found):
        order: dict[str, list[str]] = {}
        for thing in sorted(schema.things, key=lambda thing: thing.place):
            if thing.kind == "column":
                order.setdefault(thing.part_of, []).append(thing.name.removeprefix(f"{thing.part_of}."))
        orders.append(order)
    tables = {thing.name: thing for thing in wanted.things if thing.kind == "table"}
    differences: list[Difference] = []
    for table in sorted(orders[0].keys() & orders[1].keys() & tables.keys()):
        common = set(orders[0][table]) & set(orders[1][table])
        before, now = ([column for column in order[table] if column in common] for order in orders)
        if before != now:
            differences.append(
                Difference(
                    "column-order",
                    tables[table].model_copy(update={"definition": ", ".join(before)}),
                    tables[table].model_copy(update={"definition": ", ".join(now)}),
                )
            )
    return differences


# -- roles that a scratch server lacks -----------------------------------------------------------------------------------------------

_NO_ROLE = re.compile(r'role "(.+)" does not exist')


def missing_role(error: psycopg.Error) -> str | None:
    """Return the role whose absence is why a server refuses a statement, if that is why."""
    match = _NO_ROLE.search(str(error)) if error.sqlstate == psycopg.errors.UndefinedObject.sqlstate else None
    return match[1] if match else None


@contextmanager
def borrowed_roles(server: str) -> Iterator[Callable[[str], None]]:
    """Give a function that makes a role which grants name and a scratch server does not have; afterwards they are gone again."""
    made: list[sql.Identifier] = []
    with psycopg.connect(server, autocommit=True) as admin:

        def create(name: str) -> None:
            admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            made.append(sql.Identifier(name))

        try:
            yield create
        finally:
            for role in made:
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))


def rebuilt(text: str, server: str) -> Schema:
    """Execute the SQL of a schema in a scratch database and read it back. Roles that it names are there meanwhile.

    Raises:
        psycopg.Error: the server refuses the SQL.
    """
    with borrowed_roles(server) as create_role, scratch_database(server) as url, psycopg.connect(url) as conn:
        while True:
            try:
                with conn.transaction():
                    conn.execute(text.encode())
                break
            except psycopg.Error as error:
                if (role := missing_role(error)) is None:
                    raise
                create_role(role)
        schema = snapshot.read(conn)
    return replace(schema, things=(*schema.things, *snapshot.only_named(text)))


# -- a live database ---------------------------------------------------------------------------------------------------------------


def stale(schema: Schema, file: Path, migrations: Path, server: str) -> list[Finding]:
    """Compare what the migrations make with their snapshot."""
    if not file.exists():
        return [Finding(shown(file), 1, "snapshot", "", "there is no snapshot", "write it: kalshidb check schema --write")]
    text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
    if text == snapshot.text(schema, migrations):
        return []
    advice = "write it anew (kalshidb check schema --write), and review what changed"
    try:
        differences = compare(rebuilt(text, server), rebuilt(snapshot.text(schema), server))
    except psycopg.Error as error:
        return [
            Finding(shown(file), 1, "snapshot", "", f"it is no SQL that makes a schema: {' '.join(str(error).split())}", advice)
        ]
    if not differences:
        return [Finding(shown(file), 1, "snapshot", "", "its text is not what would be written now", advice)]
    found: list[Finding] = []
    for difference in differences:
        thing = difference.thing
        problem = {"missing": "no migration makes it", "extra": "the snapshot does not have it"}.get(difference.what)
        if problem is None and difference.wanted is not None and difference.found is not None:
            now, before = first_difference(difference.found.definition, difference.wanted.definition)
            problem = f"the migrations make `{now}`, the snapshot has `{before}`"
        line = _line(text, thing.kind, thing.name, thing.part_of)
        found.append(Finding(shown(file), line, "snapshot", difference.name, problem or "", advice))
    return found


def check(
    conn: psycopg.Connection[Any], file: Path, server: str, *, ignored: Iterable[str] = (), grants: bool = True
) -> list[Finding]:
    """Compare a live database with its snapshot.

    Args:
        conn: the live database, which is only read.
        file: the snapshot.
        server: address of a server on which scratch databases are made: an embedded one, never the live one.
        ignored: schemas of the live database that are somebody else's.
        grants: whether to compare who may do what; not where grants are made by other means than migrations.

    Raises:
        psycopg.Error: the scratch server cannot make what the snapshot says, as an extension is not installed there.
    """
    with conn.transaction():
        catalogs.plain_session(conn)
        live = snapshot.read(conn)
        faults = catalogs.schema_faults(conn)
    text = file.read_text(encoding="utf-8")
    reference = rebuilt(text, server)
    live = _without(live, set(ignored), {thing.name for thing in reference.things if thing.kind == "schema"})
    live, findings = _without_months(live, reference, file)
    try:
        rewritten = rebuilt(snapshot.text(live), server)
    except psycopg.Error as error:
        rewritten = live
        problem = f"the scratch server cannot make what this database has: {' '.join(str(error).split())}"
        advice = "views may be written otherwise below and be the same; --server names a server that can"
        findings.append(Finding(shown(file), 1, "scratch", "", problem, advice))
    if not grants:
        reference, rewritten = _without_grants(reference), _without_grants(rewritten)
    if live.major < 17:  # where MAINTAIN is no privilege yet
        reference, rewritten = _without_maintain(reference), _without_maintain(rewritten)
    findings += [_finding(difference, file, text, live.major) for difference in compare(reference, rewritten)]
    findings += [
        Finding(
            shown(file), _line(text, fault.kind, fault.name, ""), "fault", f"{fault.kind} {fault.name}", fault.problem,
            _REPAIRS[fault.kind],
        )
        for fault in faults
        if fault.name.partition(".")[0] not in set(ignored)
    ]  # fmt: skip
    return sorted(set(findings))


_REPAIRS = {
    "index": "REINDEX INDEX CONCURRENTLY makes it good, DROP INDEX CONCURRENTLY takes it away",
    "constraint": "mend the rows that break it, then ALTER … VALIDATE CONSTRAINT, which blocks nobody",
    "foreign key": "mend the rows that break it, then ALTER TABLE … VALIDATE CONSTRAINT, which blocks no writer",
}


def _without(live: Schema, ignored: set[str], known: set[str]) -> Schema:
    """Leave out schemas that are somebody else's; of a schema that the snapshot does not know keep only that it is there."""

    def stays(thing: Thing) -> bool:
        room = (thing.part_of or thing.name).partition(".")[0]
        if thing.kind == "schema":
            return thing.name not in ignored
        return room not in ignored and (
            room in known or room == "public" or thing.kind in ("extension", "other", "default privileges")
        )

    return replace(live, things=tuple(thing for thing in live.things if stays(thing)))


def _without_months(live: Schema, reference: Schema, file: Path) -> tuple[Schema, list[Finding]]:
    """Leave out monthly partitions, which loaders make when data needs them; find other partitions that the snapshot has not."""
    known = {thing.name for thing in reference.things}
    parents = {thing.name for thing in reference.things if thing.kind in ("table", "partition")}
    left_out: set[str] = set()
    findings: list[Finding] = []
    for thing in live.things:
        if thing.kind != "partition" or thing.name in known:
            continue
        left_out.add(thing.name)
        first = thing.definition.partition("\n")[0].removeprefix("PARTITION OF ")
        parent = next((name for name in parents if first.startswith(f"{name} ")), None)
        bound = first.removeprefix(f"{parent} ")
        if parent is None:
            left_out.discard(thing.name)  # a table that the snapshot does not know at all is found as such
        elif bound == "DEFAULT":
            advice = "move its rows into months, then detach it: rows that land there are found by nobody"
            findings.append(Finding(shown(file), 1, "default-partition", thing.name, f"a default partition of {parent}", advice))
        elif not _is_month(bound):
            advice = "detach it, or bring it in by a migration; loaders make months"
            findings.append(Finding(shown(file), 1, "partition", thing.name, f"a partition of {parent} {bound.lower()}", advice))
    # What somebody made on one month alone stays: the other months do not have it.
    by_hand = ("index", "constraint", "foreign key", "trigger", "rule", "policy", "statistics")
    things = tuple(
        thing for thing in live.things if thing.name not in left_out and (thing.part_of not in left_out or thing.kind in by_hand)
    )
    findings += [
        Finding(shown(file), 1, "extra", f"{thing.kind} {thing.name}", f"it is on the partition {thing.part_of} alone",
                "drop it, or make it on the partitioned table by a migration")
        for thing in things
        if thing.part_of in left_out
    ]  # fmt: skip
    return replace(live, things=tuple(thing for thing in things if thing.part_of not in left_out)), findings


def _is_month(bound: str) -> bool:
    match = _MONTHLY.fullmatch(bound)
    if match is None:
        return False
    year, month, next_year, next_month = map(int, match.groups())
    return next_year * 12 + next_month == year * 12 + month + 1


def _without_grants(schema: Schema) -> Schema:
    kinds = ("grant", "revoke", "default privileges")
    return replace(schema, things=tuple(thing for thing in schema.things if thing.kind not in kinds))


def _without_maintain(schema: Schema) -> Schema:
    def plain(thing: Thing) -> Thing:
        if thing.kind not in ("grant", "revoke", "default privileges"):
            return thing
        words = [word for word in thing.definition.split(", ") if word != "MAINTAIN"]
        return thing.model_copy(update={"definition": ", ".join(words)})

    return replace(
        schema, things=tuple(thing for thing in map(plain, schema.things) if thing.definition or thing.kind == "other")
    )


# -- as findings -------------------------------------------------------------------------------------------------------------------


def _finding(difference: Difference, file: Path, text: str, major: int) -> Finding:
    thing = difference.thing
    line = _line(text, thing.kind, thing.name, thing.part_of)
    problem, advice = explained(difference)
    return Finding(shown(file), line, difference.what, difference.name, problem, advice)


def explained(difference: Difference) -> tuple[str, str]:
    """Say what differs in a live database, and what to do."""
    wanted, found, thing = difference.wanted, difference.found, difference.thing
    if difference.what == "missing":
        said = f", the snapshot has `{_one_line(thing)}`" if thing.kind not in ("table", "schema") else ""
        return f"is missing{said}", "apply the migration that makes it, or make it again"
    if difference.what == "extra":
        said = (
            f": `{_one_line(thing)}`" if thing.kind in ("column", "constraint", "foreign key", "index", "grant", "revoke") else ""
        )
        return f"is not in the snapshot{said}", "take it away, or bring it in by a migration"
    if wanted is None or found is None:
        raise ValueError(difference.what)
    if difference.what == "column-order":
        now, before = next(
            pair for pair in zip(found.definition.split(", "), wanted.definition.split(", "), strict=True) if pair[0] != pair[1]
        )
        advice = "name the columns in every COPY and INSERT, or make the table anew"
        return f"its columns stand in another order: {now} where the snapshot has {before}", advice
    if wanted.part_of != found.part_of:
        return f"belongs to {found.part_of}, in the snapshot to {wanted.part_of}", "make the one like the other by a migration"
    now, before = first_difference(found.definition, wanted.definition)
    return f"here `{now}`, the snapshot has `{before}`", "undo what was done by hand, or bring it in by a migration"


def _one_line(thing: Thing) -> str:
    text = " ".join(thing.definition.split())
    return text if len(text) <= 160 else f"{text[:157]}..."


def first_difference(here: str, there: str) -> tuple[str, str]:
    """Return the first line that only the one text has, and the first that only the other has; `nothing` where there is none."""
    lines, others = ([line.strip().rstrip(",") for line in text.splitlines()] for text in (here, there))
    own = next((line for line in lines if line not in others), "nothing")
    other = next((line for line in others if line not in lines), "nothing")
    return own, other


def _line(text: str, kind: str, name: str, part_of: str) -> int:
    """Return where the snapshot has an object, else where it has what the object belongs to, else 1."""
    lines = text.splitlines()

    def first(pattern: str, start: int = 0) -> int | None:
        return next((number for number, line in enumerate(lines[start:], start + 1) if re.match(pattern, line)), None)

    owner = first(rf"CREATE (?:UNLOGGED )?\w+(?: VIEW)? {re.escape(part_of)}[ ;]") if part_of else None
    own = name.removeprefix(f"{part_of}.") if part_of else name
    bare = name.rpartition(".")[2]
    found = None
    if kind == "comment":
        found = first(rf"COMMENT ON {re.escape(name)} IS")
    elif kind in ("grant", "revoke"):
        found = first(rf"{kind.upper()} .* ON {re.escape(name)};")
    elif kind == "column" and owner:
        found = first(rf"    {re.escape(own)} ", owner)
    elif kind in ("constraint", "foreign key"):
        found = first(rf"(?:    |ALTER .*ADD )CONSTRAINT {re.escape(bare)} ", (owner or 1) - 1)
    elif kind == "index":
        found = first(rf"CREATE (?:UNIQUE )?INDEX {re.escape(bare)} ON ")
    elif kind in ("trigger", "rule", "policy"):
        found = first(rf"CREATE (?:CONSTRAINT )?{kind.upper()} {re.escape(own)} ")
    elif kind in ("function", "procedure"):
        found = first(rf"CREATE OR REPLACE {kind.upper()} {re.escape(name.partition('(')[0])}\(")
    else:
        found = first(rf"CREATE (?:UNLOGGED )?\w+(?: VIEW)? {re.escape(name)}[ ;]")
    return found or owner or 1
