"""What would be done, statement by statement, with what each locks; nothing is done. The text is SQL: what is not sent is a comment."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from kalshidb.migration.effects import Effect, Lock
from kalshidb.migration.folder import Direction, Migration, Sources, Step, read_folder
from kalshidb.migration.runner import Lost, check_before_migrate, foreseen_losses, targets_of_rollback
from kalshidb.migration.state import Status, compare, read_record
from kalshidb.migration.statements import effects_of_text


@dataclass(frozen=True, slots=True)
class PlannedStatement:
    """One thing that is sent to the server as one."""

    sql: str | None
    """Exactly as it is sent; None for a Python function."""
    function: str | None
    effects: tuple[Effect, ...]
    new: frozenset[str]
    """Relations that the plan itself has made before: nobody waits for those."""

    @property
    def locks(self) -> tuple[Lock, ...]:
        """Its locks on what others use, strongest first."""
        found = [lock for effect in self.effects for lock in effect.locks if lock.relation not in self.new]
        return tuple(sorted(found, key=lambda lock: -lock.level))


@dataclass(frozen=True, slots=True)
class PlannedMigration:
    """One migration up or down."""

    id: str
    path: str
    transactional: bool
    direction: Direction
    is_hook: bool
    statements: tuple[PlannedStatement, ...]
    losses: tuple[Lost, ...] = ()
    """What undoing it would lose, by its text and the rows that there are now."""


def plan_migrate(
    url: str, sources: Sources = None, *, to: str | None = None, allow_out_of_order: bool = False
) -> tuple[PlannedMigration, ...]:
    """Return what `migrate` would do now. Reads only.

    Raises:
        Refused: it would refuse, and why.
    """
    folder = read_folder(sources)
    wanted = folder.migrations if to is None else folder.up_to(to)
    status = compare(folder, read_record(url))
    check_before_migrate(folder, wanted, status, allow_out_of_order=allow_out_of_order)
    lacking = [one for one in wanted if one.id in {line.id for line in status.lines if line.at is None}]
    hooks = folder.hooks if lacking or status.hooks_pending else ()
    new: set[str] = set()
    done = {intent.migration_id: intent.done for intent in status.record.intents if intent.kind == "apply"}
    return tuple(_planned(one, "apply", new, done.get(one.id, 0)) for one in (*lacking, *hooks))


def plan_rollback(url: str, sources: Sources = None, *, to: str | None = None) -> tuple[PlannedMigration, ...]:
    """Return what `rollback` would do now, with what it would lose. Reads only.

    Raises:
        Refused: it would refuse for another reason than stored data, and why.
    """
    folder = read_folder(sources)
    status: Status = compare(folder, read_record(url))
    targets = targets_of_rollback(folder, status, to)
    planned = []
    with psycopg.connect(url) as looking:
        looking.read_only = True
        for one in targets:
            planned.append(_planned(one, "rollback", set(), 0, tuple(foreseen_losses(looking, one))))
    return tuple(planned)


def _planned(one: Migration, direction: Direction, new: set[str], done: int, losses: tuple[Lost, ...] = ()) -> PlannedMigration:
    statements = []
    for step in one.steps(direction)[done:]:
        statement = _statement(step, new)
        new |= {name for effect in statement.effects for name in effect.creates}
        statements.append(statement)
    path = one.rollback_path if direction == "rollback" and one.rollback_path.exists() else one.path
    with suppress(ValueError):
        path = path.resolve().relative_to(Path.cwd())
    return PlannedMigration(one.id, str(path), one.transactional, direction, one.is_hook, tuple(statements), losses)


def _statement(step: Step, new: set[str]) -> PlannedStatement:
    if step.sql is None:
        name = getattr(step.action, "__qualname__", "a function")
        code = getattr(step.action, "__code__", None)
        where = f"{name}, {code.co_filename}:{code.co_firstlineno}" if code is not None else name
        return PlannedStatement(
            None, where, (Effect(opaque=True, notes=("Python: what it does cannot be read from here",)),), frozenset(new)
        )
    return PlannedStatement(step.sql, None, effects_of_text(step.sql), frozenset(new))


# As text


def as_sql(plan: Sequence[PlannedMigration]) -> str:
    """Return a plan as SQL with comments, in the order in which it is sent."""
    return "\n".join(_lines(plan))


def _lines(plan: Sequence[PlannedMigration]) -> Iterable[str]:
    for one in plan:
        how = "one transaction" if one.transactional else "statement by statement, no transaction"
        what = {"apply": "apply", "rollback": "undo"}[one.direction] if not one.is_hook else "then run"
        yield f"-- {what} {one.id}  ({one.path}; {how})"
        for loss in one.losses:
            yield f"-- LOSES DATA: {loss}"
        if one.transactional:
            yield "BEGIN;"
        for statement in one.statements:
            for effect in statement.effects:
                yield f"-- {describe(effect, statement.new)}"
            yield _ended(statement.sql) if statement.sql is not None else f"-- Python: {statement.function}"
        if one.transactional:
            yield "COMMIT;"
        yield ""


def _ended(sql: str) -> str:
    """Return SQL with the semicolon that psql needs: yoyo's step() and the end of a file go without."""
    text = sql.rstrip()
    if text.endswith(";"):
        return sql
    return f"{text}\n;" if "--" in text.rpartition("\n")[2] else f"{text};"


def describe(effect: Effect, new: frozenset[str] = frozenset()) -> str:
    """Say in a line what a statement does to others."""
    locks = [lock for lock in effect.locks if lock.relation not in new]
    parts = []
    for level in sorted({lock.level for lock in locks}, reverse=True):
        relations = ", ".join(lock.relation for lock in locks if lock.level == level)
        parts.append(f"{level.words} on {relations}: {level.who_waits}")
    if not locks:
        parts.append(
            "locks only what is new"
            if effect.locks or effect.creates
            else "what it locks is unknown"
            if effect.opaque
            else "locks no table"
        )
    touches_old = any(lock.named for lock in locks) or not effect.locks
    for word, sure in (("rewrites", effect.rewrites), ("reads", effect.scans)):
        if sure != "no" and touches_old and not (word == "reads" and effect.rewrites == sure):
            parts.append(
                f"{'may ' if sure == 'maybe' else ''}{word.removesuffix('s') if sure == 'maybe' else word} the whole table"
            )
    if effect.transaction == "forbidden":
        parts.append("not in a transaction")
    return "; ".join((*parts, *effect.notes))


def as_json(plan: Sequence[PlannedMigration]) -> list[dict[str, Any]]:
    """Return a plan for machines."""
    return [
        {
            "id": one.id,
            "path": one.path,
            "direction": one.direction,
            "transactional": one.transactional,
            "hook": one.is_hook,
            "losses": [loss._asdict() for loss in one.losses],
            "statements": [
                {
                    "sql": statement.sql,
                    "function": statement.function,
                    "locks": [{"level": lock.level.words, "relation": lock.relation} for lock in statement.locks],
                    "rewrites": _surest(effect.rewrites for effect in statement.effects),
                    "scans": _surest(effect.scans for effect in statement.effects),
                    "notes": [note for effect in statement.effects for note in effect.notes],
                }
                for statement in one.statements
            ],
        }
        for one in plan
    ]


def _surest(words: Iterable[str]) -> str:
    found = set(words)
    return "yes" if "yes" in found else "maybe" if "maybe" in found else "no"
