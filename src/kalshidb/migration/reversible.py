"""Proves that migrations can be taken back: on a scratch server, each one goes up, down and up again, and then all of them go down.

Schemas are compared, not rows: what a rollback loses is for people to read in its file.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import yoyo
from yoyo.backends import DatabaseBackend
from yoyo.migrations import Migration, MigrationList

from kalshidb.migration import drift, snapshot
from kalshidb.migration.drift import Difference
from kalshidb.migration.findings import Finding, shown
from kalshidb.migration.folder import read_folder
from kalshidb.migration.snapshot import Schema
from kalshidb.postgres import yoyo_url
from kalshidb.postgres.scratch import scratch_database

Conn: TypeAlias = psycopg.Connection[Any]


@dataclass(slots=True)
class Proof:
    """What applying and taking back showed.

    Attributes:
        schema: what all migrations together make; None when one of them cannot be applied.
        proved: ids of those that went down and up again.
        unproved: ids of those without a rollback, which were not tried.
    """

    schema: Schema | None = None
    proved: list[str] = field(default_factory=list[str])
    unproved: list[str] = field(default_factory=list[str])
    findings: list[Finding] = field(default_factory=list[Finding])


class _AgainError(Exception):
    """The scratch database is spoilt; what was found is kept, the rest is tried in a new one."""


def prove(folder: Path, server: str) -> Proof:
    """Apply the migrations of a folder one by one, take each back and apply it again, then take back all.

    Args:
        folder: the migrations, ours or anybody's.
        server: address of a server on which scratch databases are made and dropped, and roles that migrations name.
    """
    findings: list[Finding] = []
    broken: set[str] = set()
    with drift.borrowed_roles(server) as create_role:
        while True:
            proof = Proof(findings=findings)
            try:
                with (
                    scratch_database(server) as url,
                    psycopg.connect(url, autocommit=True) as conn,
                    _backend(url) as backend,
                ):
                    _prove(backend, read_in_order(folder), conn, proof, broken)
            except _AgainError:
                continue
            except psycopg.Error as error:
                if (role := drift.missing_role(error)) is None:
                    raise
                create_role(role)
                continue
            return proof


def _prove(backend: DatabaseBackend, migrations: MigrationList, conn: Conn, proof: Proof, broken: set[str]) -> None:
    schemas = [snapshot.read(conn)]
    for migration in migrations:
        if not _apply(backend, migration, "apply", proof):
            return
        schemas.append(snapshot.read(conn))
        if not can_go_down(migration):
            proof.unproved.append(migration.id)
        elif migration.id not in broken:
            # Until it has shown that it goes down and up. If it does not, the database is none to go on with.
            broken.add(migration.id)
            if not _roll_back(backend, migration, schemas[-2], conn, proof) or not _apply(backend, migration, "reapply", proof):
                raise _AgainError
            if again := drift.compare(schemas[-1], snapshot.read(conn)):
                proof.findings += _said(again, Path(migration.path), "reapply", ("lacks", "has besides"))
                raise _AgainError
            broken.remove(migration.id)
            proof.proved.append(migration.id)
    proof.schema = schemas[-1]
    if not broken:
        for migration, below in zip(reversed(list(migrations)), reversed(schemas[:-1]), strict=True):
            if not can_go_down(migration) or not _roll_back(backend, migration, below, conn, proof):
                break
    if migrations.post_apply:  # what yoyo runs after each time that it applied something
        backend.apply_migrations_only(backend.to_apply(migrations))
        backend.run_post_apply(migrations)
        proof.schema = snapshot.read(conn)


def read_in_order(folder: Path) -> MigrationList:
    """Return the migrations of a folder in the order in which yoyo applies them, with the hooks that it runs afterwards.

    Raises:
        FolderError: they cannot be read.
    """
    found = read_folder(folder)
    return MigrationList([one.yoyo for one in found], [one.yoyo for one in found.hooks])


def can_go_down(migration: Migration) -> bool:
    """Say whether a migration has a rollback: a file beside it, or a way back for each of its steps in Python."""
    if Path(migration.path).suffix == ".sql":
        return _rollback_file(migration).exists()
    migration.load()
    return all(step._rollback for step in _steps(migration.steps or ()))


def _steps(steps: Iterable[Any]) -> Iterator[Any]:
    """Go through the single steps of a migration, which yoyo wraps and groups."""
    for step in steps:
        if hasattr(step, "steps"):
            yield from _steps(step.steps)
        else:
            yield from _steps([step.step]) if hasattr(step, "step") else [step]


def _rollback_file(migration: Migration) -> Path:
    path = Path(migration.path)
    return path.with_name(f"{path.stem}.rollback.sql") if path.suffix == ".sql" else path


def _apply(backend: DatabaseBackend, migration: Migration, rule: str, proof: Proof) -> bool:
    """Apply a migration as yoyo does, and say whether that went well."""
    try:
        backend.apply_one(migration)
    except psycopg.Error as error:
        if drift.missing_role(error):
            raise
        how = "cannot be applied" if rule == "apply" else "cannot be applied again after its rollback"
        advice = "mend it; nothing after it was tried" if rule == "apply" else "let its rollback take back all that it made"
        proof.findings.append(Finding(shown(Path(migration.path)), 1, rule, "", f"{how}: {_one_line(error)}", advice))
        return False
    return True


def _roll_back(backend: DatabaseBackend, migration: Migration, below: Schema, conn: Conn, proof: Proof) -> bool:
    """Take a migration back, and say whether the schema is what it was below it."""
    file = _rollback_file(migration)
    try:
        backend.rollback_one(migration)
    except psycopg.Error as error:
        proof.findings.append(Finding(shown(file), 1, "rollback", "", f"it fails: {_one_line(error)}", "mend it"))
        return False
    different = drift.compare(below, snapshot.read(conn))
    proof.findings += _said(different, file, "rollback", ("takes too much", "leaves it behind"))
    return not different


def _said(differences: Iterable[Difference], file: Path, rule: str, words: tuple[str, str]) -> Iterator[Finding]:
    advice = "take back what the migration made, all of it and nothing else"
    if rule == "reapply":
        advice = "let the migration make the same, whatever was there before"
    for difference in differences:
        if difference.wanted is None or difference.found is None:
            problem = words[difference.wanted is None]
        else:
            now, before = drift.first_difference(difference.found.definition, difference.wanted.definition)
            problem = f"it is `{now}`, before it was `{before}`"
        yield Finding(shown(file), 1, rule, difference.name, problem, advice)


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


@contextmanager
def _backend(url: str) -> Iterator[DatabaseBackend]:
    backend = yoyo.get_backend(yoyo_url(url))
    try:
        yield backend
    finally:
        backend.connection.close()
