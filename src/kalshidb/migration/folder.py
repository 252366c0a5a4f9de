"""A folder of migrations as yoyo reads it: which there are, in which order they are applied, what undoes them, what runs after them.

Works on any folder: SQL and Python migrations, any naming, `depends` in any order, hooks, several folders or globs as yoyo's
`sources` has them. Not here: what a file says (kalshidb.migration.statements) and what a database has (kalshidb.migration.state).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yoyo
import yoyo.exceptions
import yoyo.migrations
from yoyo.migrations import StepGroup
from yoyo.topologicalsort import CycleError, topological_sort

from kalshidb.migration.statements import ROLLBACK, Problem, SqlFile, read_header, read_sql_file
from kalshidb.sqlfiles import sql_dir

Direction: TypeAlias = Literal["apply", "rollback"]
Sources: TypeAlias = "Path | str | Sequence[Path | str] | Folder | None"
"""A folder, a glob of folders, several, or one that has been read; None is the project's own folder."""


class MigrationError(Exception):
    """Something about the migrations keeps them from being applied, undone or read. The message names it and says what to do."""


class FolderError(MigrationError):
    """The folder cannot be read as migrations."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is sent to the server as one, or one Python function."""

    action: str | Callable[[Any], Any]
    """SQL as yoyo sends it, or a function that is given the connection."""
    run: Callable[[Any], None]
    """Does it, by yoyo's own code; takes yoyo's backend."""
    ignores_errors: bool = False

    @property
    def sql(self) -> str | None:
        """The SQL, None where it is a Python function."""
        return self.action if isinstance(self.action, str) else None


@dataclass(frozen=True)
class Migration:
    """One migration with its rollback. Its statements are read when they are asked for: most are applied long ago."""

    id: str
    path: Path
    source: Path
    depends: tuple[str, ...]
    transactional: bool
    irreversible: str | None
    is_hook: bool
    raw: Any = field(repr=False)
    """yoyo's own object, perhaps not loaded."""

    @cached_property
    def yoyo(self) -> Any:  # noqa: ANN401  (yoyo has no types)
        """yoyo's own object, loaded.

        Raises:
            FolderError: the file cannot be loaded.
        """
        _load(self.raw)
        return self.raw

    @cached_property
    def file(self) -> SqlFile | None:
        """What the file says; None for a Python migration."""
        if self.path.suffix != ".sql":
            return None
        with suppress(FolderError):
            return read_sql_file(self.path, [step.sql or "" for step in self._all_steps("apply")])
        return read_sql_file(self.path)

    @cached_property
    def rollback_file(self) -> SqlFile | None:
        """What undoes it; None where there is no such file, and for a Python migration."""
        if self.path.suffix != ".sql" or not self.rollback_path.exists():
            return None
        with suppress(FolderError):
            return read_sql_file(self.rollback_path, [step.sql or "" for step in self._all_steps("rollback")])
        return read_sql_file(self.rollback_path)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with its files as such."""
        return tuple(problem for file in (self.file, self.rollback_file) if file is not None for problem in file.problems)

    def steps(self, direction: Direction) -> list[Step]:
        """Return what is executed, in order, but for steps that do nothing in that direction.

        Raises:
            FolderError: the file cannot be loaded.
        """
        leaves = self._all_steps(direction)
        if self.transactional and len(leaves) > 1 and _is_begin(leaves[0].sql) and _is_commit(leaves[-1].sql):
            return leaves[1:-1]  # BEGIN and COMMIT around the file say what is so anyway
        return leaves

    def _all_steps(self, direction: Direction) -> list[Step]:
        wrapped = self.yoyo.steps if direction == "apply" else list(reversed(self.yoyo.steps))
        return [leaf for wrapper in wrapped for leaf in _leaves(wrapper, direction)]

    @property
    def can_be_undone(self) -> bool:
        """Whether there is anything that undoes it."""
        return bool(self.steps("rollback"))

    @property
    def one_way(self) -> list[str | Callable[[Any], Any]]:
        """What its steps in Python do that have no way back of their own; of SQL, the rollback is a file for all of it.

        Raises:
            FolderError: the file cannot be loaded.
        """
        if self.path.suffix == ".sql":
            return []
        return [action for wrapper in self.yoyo.steps for action in _one_way(wrapper)]

    @property
    def rollback_path(self) -> Path:
        """Where the SQL that undoes it stands, or would stand."""
        return self.path.with_name(self.path.stem + ROLLBACK)


@dataclass(frozen=True, slots=True)
class Folder:
    """Migrations in the order in which they are applied."""

    sources: tuple[Path, ...]
    migrations: tuple[Migration, ...]
    hooks: tuple[Migration, ...]
    """`post-apply…` files: run after each time that something was applied, never marked."""
    strays: tuple[Problem, ...]
    """What yoyo passes over in silence."""

    def __iter__(self) -> Iterator[Migration]:
        return iter(self.migrations)

    def find(self, name: str) -> Migration:
        """Return the migration with that id, or the only one whose id begins with it; `7` also means 0007.

        Raises:
            MigrationError: there is none, or more than one.
        """
        wanted = name.removesuffix(".sql").removesuffix(".py")
        exact = [one for one in self if one.id == wanted]
        found = exact or [one for one in self if one.id.startswith(wanted)]
        if wanted.isdecimal() and (numbered := [one for one in self if number_of(one.id) == int(wanted)]):
            found = exact or numbered
        if len(found) == 1:
            return found[0]
        known = ", ".join(one.id for one in (found or self.migrations)[-6:])
        if found:
            raise MigrationError(f"{name!r} may be any of {known}; write more of it")
        raise MigrationError(f"{name!r} is no migration of {self.place}; the last ones are {known}")

    def up_to(self, name: str) -> tuple[Migration, ...]:
        """Return the migrations up to and with one."""
        return self.migrations[: self.migrations.index(self.find(name)) + 1]

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return ", ".join(map(str, self.sources))


def number_of(identity: str) -> int | None:
    """Return the number that an id begins with, None where it begins otherwise."""
    match = re.match(r"\d+", identity)
    return int(match[0]) if match else None


def _leaves(wrapper: Any, direction: Direction) -> Iterator[Step]:  # noqa: ANN401
    """Flatten yoyo's steps. A group's errors are ignored as a whole or not at all; so are those of its steps."""
    inner, ignored = wrapper.step, wrapper.ignore_errors in (direction, "all")
    if isinstance(inner, StepGroup):
        for one in inner.steps if direction == "apply" else reversed(inner.steps):
            for leaf in _leaves(one, direction):
                yield Step(leaf.action, leaf.run, leaf.ignores_errors or ignored)
        return
    action = inner._apply if direction == "apply" else inner._rollback  # yoyo has no other way to look
    if action:
        yield Step(action, inner.apply if direction == "apply" else inner.rollback, ignored)


def _one_way(wrapper: Any) -> Iterator[str | Callable[[Any], Any]]:  # noqa: ANN401
    inner = wrapper.step
    if isinstance(inner, StepGroup):
        for one in inner.steps:
            yield from _one_way(one)
    elif inner._apply and not inner._rollback:
        yield inner._apply


_WORDLESS = r"(?is)(\s*--[^\n]*\n)*\s*{}(\s+WORK|\s+TRANSACTION)?\s*;?\s*"


def _is_begin(sql: str | None) -> bool:
    return re.fullmatch(_WORDLESS.format(r"(BEGIN|START)"), sql or "") is not None


def _is_commit(sql: str | None) -> bool:
    return re.fullmatch(_WORDLESS.format(r"(COMMIT|END)"), sql or "") is not None


def read_folder(sources: Sources = None) -> Folder:
    """Read which migrations there are below the sources. Python migrations are imported, as yoyo does for every command.

    Raises:
        FolderError: a folder is missing or holds none, two have one id, a dependency is missing or circular, Python fails to load.
    """
    if isinstance(sources, Folder):
        return sources
    folders = _folders(sources)
    # yoyo resolves `depends` among all migrations that this process has ever read; only those of this folder count.
    vars(yoyo.migrations.Migration)["_Migration__all_migrations"].clear()
    try:
        listed = yoyo.read_migrations(*(escape(str(folder)) for folder in folders))
    except yoyo.exceptions.MigrationConflict as error:
        identity = str(error.args[0])
        twice = sorted(str(path) for folder in folders for path in folder.iterdir() if path.stem == identity)
        raise FolderError(f"two files are migration {identity}: {', '.join(twice)}; rename one") from None
    if not listed:
        raise FolderError(_nothing_in(folders))
    found = {one.id: _migration(one) for one in listed}
    for one in found.values():
        if lacking := [other for other in one.depends if other not in found]:
            raise FolderError(f"{one.path}: depends on {', '.join(lacking)}, which is not there; mend the name or add the file")
    try:
        order = list(topological_sort(list(found), {one.id: one.depends for one in found.values()}))
    except CycleError as error:
        raise FolderError(f"{', '.join(error.args[1])} depend on each other in a circle; take one `depends` out") from None
    migrations = tuple(found[identity] for identity in order)
    hooks = tuple(_migration(one, is_hook=True) for one in listed.post_apply)
    return Folder(tuple(folders), migrations, hooks, tuple(_strays(folders, {one.rollback_path.name for one in migrations})))


def _folders(sources: Path | str | Sequence[Path | str] | None) -> list[Path]:
    if sources is None:
        return [sql_dir("migrations")]
    named = [sources] if isinstance(sources, Path | str) else list(sources)
    folders: list[Path] = []
    for name in map(str, named):
        if Path(name).is_dir():
            folders.append(Path(name))
        elif has_magic(name) and (found := sorted(path for path in map(Path, glob(name)) if path.is_dir())):  # noqa: PTH207  (a pattern, not a folder)
            folders += found
        else:
            what = "is a file" if Path(name).exists() else "does not exist"
            raise FolderError(f"{name} {what}; name the folder that holds the migrations")
    return folders


def _nothing_in(folders: list[Path]) -> str:
    place = ", ".join(map(str, folders))
    below = sorted({path.parent for folder in folders for path in folder.glob("*/*.sql")})
    if below:
        return f"no migrations in {place}, but below: yoyo does not look into subfolders; name them: {' '.join(map(str, below))}"
    return f"no migrations in {place}: no *.sql and no *.py lies there"


def _load(migration: Any) -> None:  # noqa: ANN401
    path = Path(migration.path)
    yoyo.migrations.logger.disabled = True  # it would print a traceback of what is said here in a sentence
    try:
        migration.load()
    except yoyo.exceptions.BadMigration as error:
        reason = [*error.args][-1]
        raise FolderError(f"{path}: cannot be loaded: {reason}") from None
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} or its rollback is not UTF-8: byte {error.start + 1}; save it as UTF-8") from None
    except KeyError as error:
        raise FolderError(f"{path}: `-- transactional: {error.args[0]}` must be true or false") from None
    finally:
        yoyo.migrations.logger.disabled = False


def _migration(one: Any, *, is_hook: bool = False) -> Migration:  # noqa: ANN401
    path = Path(one.path)
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".sql":
        header = read_header(text)
        depends, transactional, irreversible = header.depends, header.transactional, header.irreversible
    else:
        depends, transactional = _of_python(one)
        reason = re.search(r"(?m)^#\s*irreversible:[ \t]*(.*)$", text)
        irreversible = reason[1].strip() if reason else None
    return Migration(one.id, path, Path(one.source_dir), tuple(dict.fromkeys(depends)), transactional, irreversible, is_hook, one)


def _of_python(one: Any) -> tuple[tuple[str, ...], bool]:  # noqa: ANN401
    """Import a Python migration to learn what it depends on. A dependency that is not there is the caller's to report."""
    try:
        _load(one)
    except FolderError:
        # yoyo has imported it before it looks for what it depends on.
        if not hasattr(one.module, "__depends__"):
            raise
    declared = getattr(one.module, "__depends__", ())
    names = (declared,) if isinstance(declared, str) else tuple(sorted(declared))
    return names, bool(getattr(one.module, "__transactional__", True))


def _strays(folders: list[Path], rollbacks: set[str]) -> Iterator[Problem]:
    """Find what yoyo passes over in silence."""
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name.endswith(ROLLBACK) and path.name not in rollbacks:
                yield Problem("stray", path, 0, "undoes a migration that is not there; yoyo passes it over")
            elif path.is_dir() and path not in folders and any(path.glob("*.sql")):
                yield Problem("stray", path, 0, "holds *.sql that yoyo does not read: it does not look into subfolders")
