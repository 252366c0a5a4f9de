"""What a database consists of, as one SQL text that people compare and that makes the same schema again.

The text is made from the catalogs, not by pg_dump: it needs no program of the server's version, its order does not depend on the order
in which things were made, and each object stands in it once. Not in it: rows, owners, and what an extension or a partition brings along.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from kalshidb.models.migration import SchemaObjectsRow as Thing
from kalshidb.queries import migration as catalogs
from kalshidb.sqlfiles import sql_dir

FILE = "schema.sql"
"""The snapshot's name, in docs/schema of a project."""

_ONLY_NAMED = "-- Not described here: "
_LATE = 10000  # from this place on, a table's things come after every table: foreign keys, and what is said about them
_INSIDE = ("column", "constraint")
_CREATED = ("schema", "extension", "type", "domain", "sequence", "function", "procedure", "table", "partition", "view", "other")
_STAMP = re.compile(r"-- inputs (?P<inputs>[0-9a-f]{64})\n-- body   (?P<body>[0-9a-f]{64})\n")
_HEADER = """\
-- The schema that the migrations make, up to {last}. Made by `kalshidb generate`; do not edit.
-- inputs {inputs}
-- body   {body}
"""
_OPENING = """\
--
-- For comparing: each object stands here once, in an order of its own, as PostgreSQL {major} writes it. Executed on an empty database,
-- by psql or any other client, it makes the same schema. Rows, owners and the monthly partitions that loaders make are no part of it.

SET search_path = pg_catalog;
SET check_function_bodies = off;
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """Everything that a database consists of.

    Attributes:
        things: its objects, with what belongs to each.
        needs: which other objects an object needs to be there first.
        major: the version of the server that wrote the definitions, such as 18: others may write the same thing otherwise.
    """

    things: tuple[Thing, ...]
    needs: dict[str, tuple[str, ...]]
    major: int


def read(conn: psycopg.Connection[Any]) -> Schema:
    """Read what a database consists of; only reads, and needs no rights beyond connecting."""
    with conn.transaction():
        catalogs.plain_session(conn)
        things = tuple(catalogs.schema_objects(conn))
        needs: dict[str, tuple[str, ...]] = {}
        for row in catalogs.schema_dependencies(conn):
            needs[row.name] = (*needs.get(row.name, ()), row.needs)
    return Schema(things, needs, conn.info.server_version // 10000)


# -- as a file ---------------------------------------------------------------------------------------------------------------------


def text(schema: Schema, migrations: Path | None = None) -> str:
    """Return the snapshot of a database that has just these migrations, or of any database as it is."""
    body = _OPENING.format(major=schema.major) + render(schema)
    if migrations is None:
        return f"-- What a database consists of. Made by `kalshidb check drift --save`.\n{body}"
    last = max((path.stem for path in migrations.glob("*.sql") if not path.stem.endswith(".rollback")), default="none")
    return _HEADER.format(last=last, inputs=fingerprint(migrations), body=_hash(body)) + body


def write(file: Path, new: str) -> bool:
    """Write the text of a snapshot and return whether it differs from what was there."""
    if file.exists() and file.read_text(encoding="utf-8") == new:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(new, encoding="utf-8")
    return True


def fingerprint(migrations: Path) -> str:
    """Return the SHA-256 of all that the snapshot depends on: the migrations, and how it is made."""
    digest = hashlib.sha256()
    files = [path for path in migrations.glob("*") if path.suffix in (".sql", ".py")]
    for path in (*sorted(files), sql_dir("queries") / "migration" / "schema.sql", Path(__file__)):
        content = path.read_bytes().replace(b"\r\n", b"\n")  # line ends are a matter of the checkout
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def stale(migrations: Path, file: Path) -> str | None:
    """Say what is wrong with a snapshot that was written earlier, or nothing. Needs no database."""
    if not file.exists():
        return "missing; run generate"
    there = file.read_text(encoding="utf-8").replace("\r\n", "\n")
    stamp = _STAMP.search(there)
    if stamp is None:
        return "not a generated file; run generate"
    if stamp["body"] != _hash(there[stamp.end() :]):
        return "edited by hand; change the migrations and run generate"
    if stamp["inputs"] != fingerprint(migrations):
        return "stale, the migrations or how it is made changed since; run generate"
    return None


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


# -- as SQL ------------------------------------------------------------------------------------------------------------------------


def render(schema: Schema) -> str:
    """Return the SQL that makes a schema, each object after those that it needs."""
    inside: dict[str, list[Thing]] = {}
    for thing in schema.things:
        if thing.kind not in _CREATED and thing.kind != "default privileges":
            inside.setdefault(thing.part_of, []).append(thing)
    blocks: list[str] = []
    late: list[str] = []
    for thing in _in_order(schema):
        parts = sorted(inside.get(thing.name, ()), key=_place)
        blocks += _created(thing, parts)
        late += (sentence for part in parts if (sentence := _later(thing, part)))
    if late:
        blocks.append("\n".join(late))
    blocks += [_default_privileges(thing) for thing in schema.things if thing.kind == "default privileges"]
    return "".join(f"\n{block}\n" for block in blocks)


def only_named(text: str) -> list[Thing]:
    """Return the objects that the SQL of a schema names and does not make."""
    names = [line.removeprefix(_ONLY_NAMED) for line in text.splitlines() if line.startswith(_ONLY_NAMED)]
    return [Thing(kind="other", name=name, part_of="", place=0, definition="") for name in names]


def _place(thing: Thing) -> tuple[bool, bool, int, str]:
    return thing.kind in ("grant", "revoke"), thing.kind == "comment", thing.place, thing.name


def _in_order(schema: Schema) -> Iterator[Thing]:
    """Go through the objects by schema, kind and name, but give first what each one needs."""

    def rank(thing: Thing) -> tuple[bool, bool, str, int, str]:
        room = thing.name.partition(".")[0]
        kind = "view" if thing.kind == "materialized view" else thing.kind
        return thing.kind != "schema", thing.kind != "extension", room, _CREATED.index(kind), thing.name

    objects = sorted((t for t in schema.things if t.kind in _CREATED or t.kind == "materialized view"), key=rank)
    by_name = {thing.name: thing for thing in objects}
    given: set[str] = set()

    def give(thing: Thing) -> Iterator[Thing]:
        if thing.name in given:
            return
        given.add(thing.name)
        for need in sorted((by_name[name] for name in schema.needs.get(thing.name, ()) if name in by_name), key=rank):
            yield from give(need)
        yield thing

    for thing in objects:
        yield from give(thing)


def _created(thing: Thing, parts: list[Thing]) -> Iterator[str]:
    """Return the statement that makes an object, then what belongs to it, in groups."""
    if thing.kind == "other":
        yield f"{_ONLY_NAMED}{thing.name}"
        return
    clauses = [part for part in parts if part.kind in _INSIDE and not part.definition.endswith(" NOT VALID")]
    if thing.kind == "table":
        yield _table(thing, clauses)
    elif thing.kind == "partition":
        yield f"CREATE TABLE {thing.name} {' '.join(thing.definition.splitlines())};"
    elif thing.kind == "domain":
        yield "\n    ".join([thing.definition, *(part.definition for part in clauses)]) + ";"
    else:
        yield f"{thing.definition};"
    for part in parts:
        if thing.kind == "partition" and part.kind == "constraint":
            yield f"ALTER TABLE {thing.name} ADD {part.definition};"
        elif part.kind not in (*_INSIDE, "comment", "grant", "revoke") and not _is_late(part):
            yield f"{part.definition};"
    for kinds in ("comment",), ("grant", "revoke"):
        lines = [_said(part) for part in parts if part.kind in kinds and not _is_late(part)]
        if lines:
            yield "\n".join(lines)


def _table(thing: Thing, clauses: Iterable[Thing]) -> str:
    lines = [
        part.definition if part.kind == "constraint" else f"{part.name.removeprefix(f'{thing.name}.')} {part.definition}"
        for part in clauses
    ]
    options = thing.definition.splitlines()
    unlogged = "UNLOGGED " if options[:1] == ["UNLOGGED"] else ""
    columns = "(\n" + ",\n".join(f"    {line}" for line in lines) + "\n)" if lines else "()"
    return f"CREATE {unlogged}TABLE {thing.name} {' '.join([columns, *options[bool(unlogged) :]])};"


def _is_late(part: Thing) -> bool:
    is_about_key = part.kind in ("foreign key", "comment") and part.place >= _LATE
    return is_about_key or (part.kind == "setting" and part.name.startswith("owner of sequence "))


def _later(thing: Thing, part: Thing) -> str | None:
    """Return what can only be said when every table is there, and what rows from before may not keep to."""
    if part.kind == "foreign key" or (part.kind == "constraint" and part.definition.endswith(" NOT VALID")):
        word = "DOMAIN" if thing.kind == "domain" else "TABLE"
        return f"ALTER {word} {thing.name} ADD {part.definition};"
    return (_said(part) if part.kind == "comment" else f"{part.definition};") if _is_late(part) else None


def _said(part: Thing) -> str:
    if part.kind == "comment":
        return f"COMMENT ON {part.name} IS {part.definition};"
    return f"{part.kind.upper()} {part.definition} ON {part.name};"


def _default_privileges(thing: Thing) -> str:
    what = re.sub(r"\b(GRANT|REVOKE) ON", lambda word: f"{word[1]} {thing.definition} ON", thing.name, count=1)
    return f"ALTER DEFAULT PRIVILEGES {what};"
