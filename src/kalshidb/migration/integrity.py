"""What must not change: `migrations.lock`, a chain of hashes over a folder's migrations, and the names of new ones.

    0007.order-books  <hash of its file>  <hash of its rollback, or ->  <hash of this line and of the chain before it>

The lock is committed beside the migrations. It notices an edited or vanished file, a changed order, a number that was left out or
given twice; two branches that both add a migration conflict in it, as they should. A file's hash is that of its text with `\\n` as line
ending and without white space at ends of lines: an editor or a checkout on Windows changes nothing. Hooks (`post-apply…`) are not in
it: they are meant to change. Not here: the same hashes in a database (kalshidb.migration.bookkeeping).
"""

import hashlib
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kalshidb.migration.folder import Folder, Migration, MigrationError, Sources, number_of, read_folder
from kalshidb.migration.statements import ROLLBACK, Problem

LOCK_FILE = "migrations.lock"
_HEADER = """\
# The chain of migrations: name, SHA-256 of the file, of its rollback, and of the chain up to here. Written by `kalshidb lock`;
# a conflict here means that two branches added a migration: renumber the later one and run `kalshidb lock`.
version 1
"""
_FIRST = "0" * 64
NUMBERED = re.compile(r"^(\d{3,6})([._-])")


class Entry(NamedTuple):
    """A line of the lock."""

    id: str
    sha256: str
    rollback_sha256: str
    """`-` where there is none."""
    chain: str


@dataclass(frozen=True, slots=True)
class Locked:
    """What `lock` has done to one lock file."""

    path: Path
    added: tuple[str, ...]
    rewritten: tuple[str, ...]
    """Lines that say something else now, or are gone."""


def normalised(raw: bytes) -> bytes:
    """Return a file's content without what editors and checkouts change: line endings, white space at ends of lines and of the file."""
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\n".join(line.rstrip(b" \t") for line in lines).rstrip(b"\n") + b"\n"


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's normalised content, in hexadecimal."""
    return hashlib.sha256(normalised(path.read_bytes())).hexdigest()


def entries_of(migrations: Iterable[Migration]) -> list[Entry]:
    """Return what the lock of these migrations says."""
    chain, entries = _FIRST, []
    for one in migrations:
        undo = content_hash(one.rollback_path) if one.rollback_path.exists() else "-"
        entry = _chained(chain, one.id, content_hash(one.path), undo)
        chain = entry.chain
        entries.append(entry)
    return entries


def _chained(before: str, identity: str, sha256: str, rollback_sha256: str) -> Entry:
    chain = hashlib.sha256(f"{before} {identity} {sha256} {rollback_sha256}".encode()).hexdigest()
    return Entry(identity, sha256, rollback_sha256, chain)


def read_lock(text: str, path: Path) -> tuple[list[Entry], list[Problem]]:
    """Return the lines of a lock, and what is wrong with it as such."""
    entries: list[Entry] = []
    version = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.strip().rsplit(None, 3)  # an id may hold spaces
        words[0] = words[0].rstrip()
        if not version:
            if line.split() != ["version", "1"]:
                return [], [
                    Problem(
                        "lock", path, number, "is no lock of this version: `version 1` is expected; run `kalshidb lock --rewrite`"
                    )
                ]
            version = True
        elif re.match(r"[<>=]{7}", line):
            return entries, [
                Problem(
                    "lock", path, number, "holds a merge conflict: keep both sides' migrations, run `kalshidb lock --rewrite`"
                )
            ]
        elif len(words) != len(Entry._fields):
            return entries, [Problem("lock", path, number, "a migration and three hashes belong here")]
        else:
            entry = Entry(*words)
            if entry != _chained(entries[-1].chain if entries else _FIRST, *words[:3]):
                return entries, [
                    Problem(
                        "lock",
                        path,
                        number,
                        f"the chain breaks at {entry.id}: the line was edited by hand, or one above it is missing",
                    )
                ]
            entries.append(entry)
    return entries, []


def verify(folder: Folder, base: str | None = None) -> list[Problem]:
    """Return what has changed that must not, by each source's lock; with `base`, a git commit, also what changed since it.

    A source without a lock is not checked against one. A migration that is not in the lock yet is a problem of code "unlocked": it
    matters before a change lands, not before it is tried.
    """
    problems: list[Problem] = []
    for source in folder.sources:
        here = [one for one in folder if one.source == source]
        lock = source / LOCK_FILE
        if lock.exists():
            entries, broken = read_lock(lock.read_text(encoding="utf-8"), lock)
            problems += broken or _compared(here, entries, lock)
        problems += _numbering(here)
        if base is not None:
            problems += _against_git(here, source, base)
    return problems


def _compared(here: list[Migration], locked: list[Entry], lock: Path) -> list[Problem]:
    problems: list[Problem] = []
    now = {entry.id: entry for entry in entries_of(here)}
    known = {entry.id: entry for entry in locked}
    paths = {one.id: one for one in here}
    for entry in locked:
        current = now.get(entry.id)
        if current is None:
            problems.append(
                Problem(
                    "vanished", lock, 0, f"{entry.id} is locked, and its file is gone; restore it: it may be applied somewhere"
                )
            )
            continue
        one = paths[entry.id]
        if current.sha256 != entry.sha256:
            problems.append(
                Problem(
                    "edited",
                    one.path,
                    0,
                    "differs from what was locked; what may be applied is not edited: write a new migration",
                )
            )
        if current.rollback_sha256 != entry.rollback_sha256:
            what = "is gone" if current.rollback_sha256 == "-" else "differs from what was locked"
            problems.append(
                Problem("rollback-edited", one.rollback_path, 0, f"{what}; `kalshidb lock --rewrite` accepts a mended rollback")
            )
    order = [one.id for one in here]
    expected = [entry.id for entry in locked if entry.id in now]
    if [identity for identity in order if identity in known] != expected:
        problems.append(Problem("reordered", lock, 0, f"the order is not the locked one any more: {', '.join(order)}"))
    else:
        last = max((order.index(identity) for identity in expected), default=-1)
        for position, one in enumerate(here):
            if one.id in known:
                continue
            if position < last:
                problems.append(
                    Problem(
                        "out-of-order",
                        one.path,
                        0,
                        f"comes before {expected[-1]}, which is locked: give it the next number and `depends`",
                    )
                )
            else:
                problems.append(Problem("unlocked", one.path, 0, "is not in the lock yet: run `kalshidb lock`"))
    return problems


def _numbering(here: list[Migration]) -> list[Problem]:
    """Check numbers and `depends` where all ids are numbered from the start, as ours are; timestamps and other schemes may have gaps."""
    numbers = [int(match[1]) for one in here if (match := NUMBERED.match(one.id))]
    if len(numbers) != len(here) or not numbers or min(numbers) > 1:
        return []
    problems = []
    by_number: dict[int, Migration] = {}
    for one in here:
        number = number_of(one.id) or 0
        if number in by_number:
            problems.append(
                Problem("duplicate", one.path, 0, f"has the number of {by_number[number].id}; give it the next free one")
            )
        by_number.setdefault(number, one)
    for number in range(min(numbers), max(numbers)):
        if number not in by_number:
            after = by_number[min(other for other in by_number if other > number)]
            problems.append(Problem("gap", after.path, 0, f"number {number} is missing before it"))
    chained = [one for one in here if one.depends]
    for before, one in pairwise(here) if chained else ():
        if not one.depends:
            problems.append(Problem("depends", one.path, 0, f"has no `-- depends: {before.id}`: yoyo would apply it alone"))
        elif later := [other for other in one.depends if (number_of(other) or 0) >= (number_of(one.id) or 0)]:
            problems.append(Problem("depends", one.path, 0, f"depends on {', '.join(later)}, which has a later number"))
    return problems


# Against git


def _git(folder: Path, *arguments: str) -> bytes | None:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=False, capture_output=True)  # noqa: S603, S607
    return done.stdout if done.returncode == 0 else None


def _against_git(here: list[Migration], source: Path, base: str) -> list[Problem]:
    if _git(source, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") is None:
        raise MigrationError(f"{base!r} is no commit that git knows in {source}")
    listed = _git(source, "ls-tree", "--name-only", base, "./") or b""
    names = [
        name for name in listed.decode().splitlines() if name.endswith((".sql", ".py")) and not name.startswith("post-apply")
    ]
    problems = []
    for name in names:
        path = source / name
        if not path.exists():
            problems.append(
                Problem("vanished", path, 0, f"is in {base} and gone here; what has landed is not deleted: write a new migration")
            )
            continue
        then = _git(source, "show", f"{base}:./{name}")
        if then is not None and normalised(then) != normalised(path.read_bytes()):
            code = "rollback-edited" if name.endswith(ROLLBACK) else "edited"
            problems.append(Problem(code, path, 0, f"differs from {base}; what has landed is not edited: write a new migration"))
    landed = {name.rpartition(".")[0] for name in names}
    last = max((position for position, one in enumerate(here) if one.id in landed), default=-1)
    problems += [
        Problem(
            "out-of-order", one.path, 0, f"is new and comes before {here[last].id}, which is in {base}: give it the next number"
        )
        for one in here[: max(last, 0)]
        if one.id not in landed
    ]
    return problems


# Writing


def lock(sources: Sources = None, *, rewrite: bool = False) -> list[Locked]:
    """Write each source's lock: new migrations are appended. A lock that needs no change is not touched.

    Args:
        sources: the folder, the project's own by default.
        rewrite: also accept changed, vanished, reordered and wrongly numbered files, and say which lines changed.

    Raises:
        MigrationError: history has changed, or a file is unsound.
    """
    folder = read_folder(sources)
    problems = [problem for problem in verify(folder) if problem.code != "unlocked"]
    if problems and not rewrite:
        raise MigrationError(
            "nothing was written, as history must not change in silence:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\n`kalshidb lock --rewrite` accepts the files as they are, where nothing of this is applied anywhere"
        )
    return [_write(source, [one for one in folder if one.source == source]) for source in folder.sources]


def _write(source: Path, here: list[Migration]) -> Locked:
    path = source / LOCK_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    old = {entry.id: entry for entry in (read_lock(before, path)[0] if before else [])}
    entries = entries_of(here)
    width = max((len(entry.id) for entry in entries), default=0)
    text = _HEADER + "".join(f"{entry.id:{width}} {entry.sha256} {entry.rollback_sha256:>1} {entry.chain}\n" for entry in entries)
    if text != before:
        path.write_text(text, encoding="utf-8", newline="\n")
    new = {entry.id: entry for entry in entries}
    rewritten = tuple(name for name, entry in old.items() if new.get(name, entry)[:3] != entry[:3] or name not in new)
    return Locked(path, tuple(name for name in new if name not in old), rewritten)


_TEMPLATE = """\
-- What this does, in one sentence.
--
-- Why: who needs it, and what would be wrong without.
-- Locks: which statement locks what, and who waits. (`kalshidb migrate --plan` says it.)
-- Undo: what the rollback takes back, and what it loses.
{depends}
"""
_UNDO = """\
-- Takes back {name}, newest first, naming each thing (no CASCADE). A migration that cannot be undone has no such file but says
-- `-- irreversible: reason` in its header.
"""


def new(name: str, sources: Sources = None) -> tuple[Path, Path]:
    """Make the next migration and its rollback, with `depends` and the questions that its header answers; return both paths.

    The number follows the folder's own: as wide as the last one's, the same separator; a date where the last one begins with a date.

    Raises:
        MigrationError: the name cannot be one, or there is such a file.
    """
    slug = re.sub(r"[\s_]+", "-", name.strip().lower())
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", slug):
        raise MigrationError(f"{name!r} cannot name a migration: letters, digits and hyphens, such as add-market-index")
    folder: Folder | None
    try:
        folder = read_folder(sources)
    except MigrationError:
        place = Path(str(sources)) if isinstance(sources, Path | str) else None
        if place is None or not place.is_dir() or any(place.glob("*.sql")):
            raise
        folder, source = None, place
    else:
        source = folder.sources[-1]
    heads = _heads(folder) if folder else []
    identity = _next_id(folder.migrations if folder else (), slug)
    path, undo = source / f"{identity}.sql", source / f"{identity}{ROLLBACK}"
    for one in (path, undo):
        if one.exists():
            raise MigrationError(f"{one} is there already")
    path.write_text(_TEMPLATE.format(depends=f"-- depends: {' '.join(heads)}\n" if heads else ""), encoding="utf-8", newline="\n")
    undo.write_text(_UNDO.format(name=identity), encoding="utf-8", newline="\n")
    return path, undo


def _heads(folder: Folder) -> list[str]:
    """Return what nothing else depends on: what a new migration comes after. Without any `depends`, the last one."""
    if not any(one.depends for one in folder):
        return [folder.migrations[-1].id]
    depended = {other for one in folder for other in one.depends}
    return [one.id for one in folder if one.id not in depended]


def _next_id(migrations: Iterable[Migration], slug: str) -> str:
    numbered = [match for one in migrations if (match := re.match(r"(\d+)([._-])", one.id))]
    if not numbered:
        return f"0001.{slug}"
    last = max(numbered, key=lambda match: int(match[1]))
    if re.match(r"(19|20)\d{6}", last[1]):  # a date, perhaps with a time
        now = datetime.now(UTC)
        time = f"{now:%H%M%S}" if len(last[1]) >= 14 else ""
        return f"{now:%Y%m%d}{time}{last[2]}{slug}"
    return f"{int(last[1]) + 1:0{len(last[1])}d}{last[2]}{slug}"
