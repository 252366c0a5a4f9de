"""Checking every statement against a freshly migrated scratch database. Development time only.

- It prepares, and what was generated from it is what would be generated now.
- Nothing lies about unused: an internal statement that is no step, a model that no function takes or returns, a table that no statement
  reads or writes (unless a comment line above its CREATE TABLE says `No statement: REASON`). A public function is never unused: users of
  the package may call it.
- On a database that seems large (`plans`), its plan reads no table from end to end, and of a table partitioned by range only the
  partitions that the bounds allow. `@plan REASON` in its header allows both; one that is not needed is a finding.
- An index that a migration makes has a comment above it, `Serves schema.statement, schema.statement: remarks`, and the plans of those
  statements use it. It may serve a view instead; then some statement's plan uses it. A unique index may serve its own rule.
"""

import ast
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import psycopg

from kalshidb.typedsql import describe, generate, plans, staging
from kalshidb.typedsql.describe import Database, Description
from kalshidb.typedsql.errors import LoadError, Place, StatementError
from kalshidb.typedsql.generate import NameClashError, Project, UnknownTypeError
from kalshidb.typedsql.loading import Statements, load_statements
from kalshidb.typedsql.plans import Large, Name
from kalshidb.typedsql.runtime import Statement
from kalshidb.typedsql.source import Cardinality, read_statements


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is wrong, where it stands, and what to do about it.

    Attributes:
        subject: the statement, index, table or model.
        excerpt: the line at fault with a mark below it, where the server told.
    """

    file: str
    line: int
    subject: str
    problem: str
    advice: str
    excerpt: str = ""

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        return f"{self.file}:{self.line}: {subject}{self.problem}; {self.advice}" + (f"\n{self.excerpt}" if self.excerpt else "")


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, sorted by place, and how much it looked at."""

    findings: tuple[Finding, ...]
    statements: int
    tables: int
    indexes: int


def check(project: Project, conn: psycopg.Connection[Any]) -> Report:
    """Check every statement of a project on a scratch database that has its migrations; leaves the database as it was.

    Raises:
        PlansError: the server is older than PostgreSQL 18, or its files are not on this machine or not ours.
    """
    if findings := _unreadable(project.queries):
        return Report(tuple(sorted(findings)), 0, 0, 0)
    statements = list(load_statements(project.queries))
    migrations = Migrations(project.migrations)
    database, refused = _described(conn, statements)
    findings += refused
    if not refused:
        findings += _generated(project, database, migrations)
    findings += _steps_of_nothing(statements)
    seen = _Seen()
    with plans.pretend_large(conn) as large:
        _create_staging(conn, statements, database)
        for description in database.descriptions:
            findings += _planned(conn, description, large, seen)
    if not refused:  # else a statement that could not be planned may be the one that uses it
        findings += _idle_tables(migrations, database, seen)
        findings += _indexes_serve(migrations, database, large, seen)
    tables = sum(not relation.is_view for relation in database.relations)
    return Report(tuple(sorted(set(findings))), len(statements), tables, len(migrations.indexes))


def _at(place: Place, subject: str, problem: str, advice: str, excerpt: str = "") -> Finding:
    return Finding(place.file.as_posix(), place.line, subject, problem, advice, excerpt)


# -- it can be read, and prepares --------------------------------------------------------------------------------------------------


def _refusal(error: StatementError) -> Finding:
    problem, _, excerpt = error.problem.partition("\n")
    if isinstance(error, LoadError):
        return _at(error.place, error.statement or "", problem, "nothing else was checked", excerpt)
    return _at(
        error.place, error.statement or "", problem, "mend the statement, or the migration that changed what it reads", excerpt
    )


def _unreadable(queries: Path) -> list[Finding]:
    """Return what is wrong with each file, then with all of them together: loading would stop at the first."""
    found: list[Finding] = []
    for path in sorted(queries.glob("*/*.sql")):
        try:
            read_statements(path, path.parent.name, path.relative_to(queries.parent))
        except LoadError as error:
            found.append(_refusal(error))
    if not found:
        try:
            load_statements(queries)
        except LoadError as error:
            found.append(_refusal(error))
    return found


def _described(conn: psycopg.Connection[Any], statements: Iterable[Statement]) -> tuple[Database, list[Finding]]:
    """Describe all statements that the server accepts; return the refusals of the others."""
    accepted, found = list(statements), list[Finding]()
    while True:
        conn.execute("DEALLOCATE ALL")  # what was prepared outlives the transaction that a refusal ended
        try:
            # Only iterated over, and no file has these statements alone.
            database = describe.describe(conn, cast("Statements", accepted))
        except StatementError as error:
            refused = next(s for s in accepted if s.source.full_name == error.statement)
            found.append(_refusal(error))
            at = accepted.index(refused)
            if refused.source.bulk and refused.source.sql != _NOTHING:
                # Its staging table is still needed: its steps read from it.
                accepted[at] = Statement(
                    replace(refused.source, sql=_NOTHING, cardinality=Cardinality.ONE, column_nulls={}), refused.sql
                )
            else:
                accepted.remove(refused)
            continue
        described = tuple(d for d in database.descriptions if d.statement.source.sql != _NOTHING)
        return Database(database.relations, described), found


_NOTHING = "SELECT 0 AS written"


def _create_staging(conn: psycopg.Connection[Any], statements: Iterable[Statement], database: Database) -> None:
    """Make the temporary tables that bulk statements and their steps read from; the transaction ends them."""
    relations = {f"{relation.schema}.{relation.name}": relation for relation in database.relations}
    bulks = {statement.source.bulk.staging: statement.source.bulk for statement in statements if statement.source.bulk}
    for bulk in bulks.values():
        if relation := relations.get(bulk.like):
            names = [column.name for column in describe.staged_columns(relation, bulk.without)]
            (columns,) = conn.execute(staging.columns((relation.schema, relation.name), names)).fetchall()[0]
            conn.execute(staging.create(bulk.staging, columns))


# -- what was generated is what would be generated now -----------------------------------------------------------------------------


def _generated(project: Project, database: Database, migrations: "Migrations") -> list[Finding]:
    try:
        rendered = generate.render(project, database)
    except (NameClashError, UnknownTypeError) as error:
        return [Finding(f"{project.queries.name}/", 1, "", str(error), "nothing can be generated before")]
    found = _unused_models(project, rendered, database)
    changes: dict[str, Finding] = {}  # the first change of what one statement or table gives: the others follow from it
    here = {path for folder in ("models", "queries") for path in (project.out / folder).glob("*.py")}
    for path in sorted(here | rendered.keys()):
        shown = path.relative_to(project.out.parent).as_posix()
        if path not in rendered:
            found.append(
                Finding(shown, 1, "", "no SQL is there for it any more", "run generate, or move what is written by hand")
            )
            continue
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == rendered[path]:
            continue
        before, now = _parts(old), _parts(rendered[path])
        changed = [name for name in {**before, **now} if before.get(name, _NO_PART)[0] != now.get(name, _NO_PART)[0]]
        for name in changed:  # models come before the functions that return them
            (was, was_at), (lines, at) = before.get(name, _NO_PART), now.get(name, _NO_PART)
            subject, place = _origin(path, name, lines or was, database, migrations)
            problem = f"{shown}: {_difference(was, lines)}"
            advice = "run generate, and see what its callers make of that"
            changes.setdefault(subject, _at(place or Place(Path(shown), at or was_at), subject, problem, advice))
        if not changed:
            found.append(Finding(shown, 1, "", "made from other SQL or by another engine, or edited by hand", "run generate"))
    return [*found, *changes.values()]


def _origin(path: Path, name: str, lines: list[str], database: Database, migrations: "Migrations") -> tuple[str, Place | None]:
    """Return the statement or table that a function or model is made from, and where that stands."""
    sources = {d.statement.source.full_name: d.statement.source for d in database.descriptions}
    said = re.search(r"(?:A row of|a bulk statement into) (\w+\.\w+)", " ".join(lines[:3]))
    full_name = said[1] if said else f"{path.stem}.{name.removeprefix('_')}"
    if full_name in sources:
        return full_name, sources[full_name].place
    for relation in database.relations:
        if full_name == f"{relation.schema}.{relation.name}" or (
            relation.schema == path.stem and generate.class_name(relation.name) == name.removesuffix("Row")
        ):
            return f"{relation.schema}.{relation.name}", migrations.place_of_table(relation.schema, relation.name)
    return name, None


_NO_PART: tuple[list[str], int] = ([], 0)


def _parts(text: str) -> dict[str, tuple[list[str], int]]:
    """Return the lines of each function, class and assignment of a module by its name, and where they begin."""
    try:
        module = ast.parse(text)
    except SyntaxError:
        return {}
    lines, parts = text.splitlines(), dict[str, tuple[list[str], int]]()
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        else:
            continue
        before, at = parts.get(name, ([], node.lineno))
        parts[name] = before + lines[node.lineno - 1 : node.end_lineno], at
    return parts


def _difference(before: list[str], now: list[str]) -> str:
    """Say in one line what changed: the first line that went and the first that came."""
    if not before or not now:
        return "it is missing" if now else "it is there without its SQL"
    lines = [line for line in difflib.unified_diff(before, now, n=0, lineterm="") if not line.startswith(("---", "+++", "@@"))]
    gone = next((line[1:].strip() for line in lines if line.startswith("-")), "nothing")
    come = next((line[1:].strip() for line in lines if line.startswith("+")), "nothing")
    return f"the file has `{gone}`, the server says `{come}`"


def _unused_models(project: Project, rendered: Mapping[Path, str], database: Database) -> list[Finding]:
    """Return the models that no function and no other model uses. Models of tables without statements are found as those tables."""
    used: set[tuple[str, str]] = set()
    models = {path.stem: ast.parse(text) for path, text in rendered.items() if path.parent.name == "models"}
    for module in [ast.parse(text) for path, text in rendered.items() if path.parent.name == "queries"]:
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{project.package}.models."):
                used |= {(node.module.rpartition(".")[2], alias.name) for alias in node.names}
    for room, module in models.items():
        for node in module.body:
            inside = {word.id for word in ast.walk(node) if isinstance(word, ast.Name)}
            used |= {(room, name) for name in inside - {getattr(node, "name", "")}}
    return [
        Finding(
            (project.out / "models" / f"{room}.py").relative_to(project.out.parent).as_posix(), node.lineno, node.name,
            "no function takes or returns this model", "write the statement that does, or drop what it is made from",
        )
        for room, module in models.items()
        if room != "domains"
        for node in module.body
        if isinstance(node, ast.ClassDef) and (room, node.name) not in used and node.name not in _models_of_tables(room, database)
    ]  # fmt: skip


def _models_of_tables(room: str, database: Database) -> set[str]:
    return {generate.class_name(r.name) for r in database.relations if r.schema == room and not r.is_view}


def _steps_of_nothing(statements: list[Statement]) -> Iterator[Finding]:
    steps = {step.source.full_name for statement in statements for step in (*statement.before, *statement.after)}
    for statement in statements:
        source = statement.source
        if source.internal and source.full_name not in steps:
            advice = "name it in a statement's @before or @after, take @internal away, or drop it"
            yield _at(source.place, source.full_name, "an @internal statement that is no step of any", advice)


# -- plans -------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """What the plans of all statements read, write and use."""

    tables: set[Name] = field(default_factory=set[Name])
    indexes: dict[str, set[Name]] = field(default_factory=dict[str, set[Name]])


def _planned(conn: psycopg.Connection[Any], description: Description, large: Large, seen: _Seen) -> Iterator[Finding]:
    source = description.statement.source
    used = seen.indexes.setdefault(source.full_name, set())
    problems: dict[str, str] = {}
    for plan in plans.explain(conn, description, large.month):
        seen.tables |= plans.tables(plan.root, large)
        used |= plans.indexes(plan.root, large)
        for table, way in plans.full_reads(plan.root, large).items():
            problems.setdefault(
                f"it reads all of {table}", f"({way}): make an index for its conditions and order, or allow it with @plan REASON"
            )
        for read in plans.range_reads(plan, large):
            total = large.partitions[read.table]
            # The values lie within a month, so a range with some margin around it touches a few partitions and not a third of them.
            if read.partitions > max(1, total // 3) and not read.by_row:
                problems.setdefault(
                    f"it reads {read.partitions} of {total} monthly partitions of {read.table} for a range within one",
                    f"({' AND '.join(read.conditions)}): compare {large.key[read.table]} itself, unchanged, with two plain values, "
                    "or allow it with @plan REASON",
                )
    if source.plan is None:
        for problem, remedy in problems.items():
            detail, _, advice = remedy.partition(": ")
            yield _at(source.place, source.full_name, f"{problem} {detail}", advice)
    elif not problems:
        yield _at(source.place, source.full_name, "its @plan excuses nothing: no table is read whole", "take it away")


# -- what migrations say of tables and indexes -------------------------------------------------------------------------------------

_CREATE_INDEX = re.compile(
    r'^[ ]*CREATE\s+(?P<unique>UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?"?(?P<name>\w+)"?\s+'
    r'ON\s+(?:ONLY\s+)?(?:"?(?P<schema>\w+)"?\.)?"?(?P<table>\w+)"?',
    re.IGNORECASE | re.MULTILINE,
)
_CREATE_TABLE = re.compile(
    r'^[ ]*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:"?(?P<schema>\w+)"?\.)?"?(?P<table>\w+)"?', re.IGNORECASE | re.MULTILINE
)
_REFERENCE = re.compile(r"(?<![\w.])([a-z_]\w*\.[a-z_]\w*)(?!\.?\w)")


@dataclass(frozen=True, slots=True)
class Made:
    """A table or index that a migration makes, with the comment lines above it."""

    place: Place
    schema: str | None
    table: str
    name: str
    is_unique: bool
    comment: tuple[str, ...]

    def place_of(self, words: str) -> Place:
        """Return the comment line that has these words, else the statement's own."""
        for back, line in enumerate(reversed(self.comment), start=1):
            if words in line:
                return Place(self.place.file, self.place.line - back)
        return self.place


class Migrations:
    """Where migrations make tables and indexes."""

    def __init__(self, folder: Path) -> None:
        self.tables: list[Made] = []
        self.indexes: list[Made] = []
        for path in sorted(folder.glob("*.sql")):
            if path.name.endswith(".rollback.sql"):
                continue
            text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
            shown = path.relative_to(folder.parent)
            self.tables += [_made(text, match, shown) for match in _CREATE_TABLE.finditer(text)]
            self.indexes += [_made(text, match, shown) for match in _CREATE_INDEX.finditer(text)]

    def table(self, schema: str, name: str) -> Made | None:
        """Return where a table is made first."""
        return next((made for made in self.tables if made.table == name and made.schema in (None, schema)), None)

    def place_of_table(self, schema: str, name: str) -> Place | None:
        """Return where a table is made first, or None for a view or one that no line makes."""
        made = self.table(schema, name)
        return made.place if made else None


def _made(text: str, match: re.Match[str], file: Path) -> Made:
    line = text.count("\n", 0, match.start()) + 1
    comment: list[str] = []
    for above in reversed(text.split("\n")[: line - 1]):
        if not above.lstrip().startswith("--"):
            break
        comment.insert(0, above.lstrip()[2:].strip())
    found = match.groupdict()
    name = found.get("name") or found["table"]
    return Made(Place(file, line), found["schema"], found["table"], name, bool(found.get("unique")), tuple(comment))


def _idle_tables(migrations: Migrations, database: Database, seen: _Seen) -> Iterator[Finding]:
    for relation in database.relations:
        name = Name(relation.schema, relation.name)
        if relation.is_view or name in seen.tables:
            continue
        made = migrations.table(*name)
        if made is None or not any(re.match(r"No statement: \S", line) for line in made.comment):
            place = made.place if made else Place(Path("migrations"), 1)
            advice = "write one, drop the table, or say why above it: -- No statement: REASON"
            yield _at(place, str(name), "no statement reads or writes this table", advice)


def _indexes_serve(migrations: Migrations, database: Database, large: Large, seen: _Seen) -> Iterator[Finding]:
    views = {f"{relation.schema}.{relation.name}" for relation in database.relations if relation.is_view}
    used = set[Name]().union(*seen.indexes.values())
    made_last = {index.name: index for index in migrations.indexes}  # one that is dropped and made anew counts as it is now
    count = Counter(name.name for name in set(large.indexes.values()))
    for index in made_last.values():
        name = next((n for n in set(large.indexes.values()) if n.name == index.name and index.schema in (None, n.schema)), None)
        if name is None or (index.schema is None and count[index.name] > 1):
            continue
        said = " ".join(index.comment).partition("Serves ")[2]
        served = _REFERENCE.findall(said.partition(":")[0])
        if not said and not index.is_unique:
            yield _at(
                index.place, index.name, "nothing says what this index is for", "write above it: -- Serves schema.statement"
            )
        elif not served and not index.is_unique:
            advice = "name the statements or the view that use it, or drop the index"
            yield _at(index.place_of("Serves "), index.name, "it is said to serve no statement and no view", advice)
        for one in served:
            place = index.place_of(one)
            if one in seen.indexes:
                if name not in seen.indexes[one]:
                    advice = "change the one or the other, or name what it does serve, or drop the index"
                    yield _at(place, index.name, f"the plan of {one}, which it serves, does not use it", advice)
            elif one not in views:
                yield _at(place, index.name, f"it serves {one}, which is no statement and no view", "name one that is there")
            elif name not in used and not index.is_unique:
                advice = "change the view or the index, or drop the index"
                yield _at(place, index.name, f"no statement's plan uses it, also none that reads the view {one}", advice)
