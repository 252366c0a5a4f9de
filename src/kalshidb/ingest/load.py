"""Loading files of saved answers: one JSON document a file, or one a line."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from kalshidb.exchange.recognise import Hints
from kalshidb.ingest.intake import Intake

SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
_LINES = frozenset({".jsonl", ".ndjson"})


@dataclass(frozen=True, slots=True)
class Found:
    """The files to load, and those in the given folders that are passed over because their names promise no JSON."""

    files: tuple[Path, ...]
    passed_over: tuple[Path, ...]


def find_files(paths: Iterable[Path]) -> Found:
    """Return the files that paths name: a file as it is, a folder with all below it, in the order of their names.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    files: dict[Path, None] = {}
    passed_over: list[Path] = []
    for path in paths:
        if path.is_dir():
            for below in sorted(Path(root) / name for root, _, names in os.walk(path) for name in names):
                if below.suffix.lower() in SUFFIXES:
                    files[below] = None
                else:
                    passed_over.append(below)
        elif path.exists():
            files[path] = None
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return Found(tuple(files), tuple(passed_over))


def load_files(intake: Intake, files: Sequence[Path], hints: Hints, on_bytes: Callable[[int], object] = lambda _: None) -> None:
    """Take in every document of the files.

    An answer that does not say when it was given counts as seen when its file was last written (or as `hints.observed_at`
    says): never earlier than it was known, so that an as-of read stays honest.

    Args:
        intake: where the documents go.
        files: the files, in the order to be read.
        hints: what the requests said and the answers leave out.
        on_bytes: called with the number of bytes done since the last call.
    """
    for path in files:
        seen_at = hints.observed_at or datetime.fromtimestamp(path.stat().st_mtime, UTC)
        try:
            if path.suffix.lower() in _LINES:
                _load_lines(intake, path, hints, seen_at, on_bytes)
            else:
                _load_document(intake, path, hints, seen_at, on_bytes)
        except OSError as error:
            intake.refuse_bytes(b"", str(path), f"the file cannot be read: {error.strerror or error}")


def _load_document(intake: Intake, path: Path, hints: Hints, seen_at: datetime, on_bytes: Callable[[int], object]) -> None:
    content = path.read_bytes()
    try:
        document = parse_json(content)
    except ValueError as error:
        # One document a line is JSON too for most who save it, whatever the file is called.
        if len(lines := content.splitlines()) > 1 and _is_json(lines[0]) and _is_json(lines[-1]):
            _load_lines(intake, path, hints, seen_at, on_bytes)
            return
        intake.refuse_bytes(content, str(path), f"no JSON: {error}")
    else:
        intake.take(document, str(path), hints, seen_at, content)
    on_bytes(len(content))


def _load_lines(intake: Intake, path: Path, hints: Hints, seen_at: datetime, on_bytes: Callable[[int], object]) -> None:
    for number, line in _lines(path):
        if line.strip():
            try:
                document = parse_json(line)
            except ValueError as error:
                intake.refuse_bytes(line, f"{path}:{number}", f"no JSON: {error}")
            else:
                intake.take(document, f"{path}:{number}", hints, seen_at, line)
        on_bytes(len(line))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        yield from enumerate(file, start=1)


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line)
    except ValueError:
        return False
    return True


def parse_json(content: bytes) -> object:
    """Parse JSON with exact decimals.

    Raises:
        ValueError: it is no JSON, no text, or nested too deeply; says where.
    """
    try:
        return json.loads(content, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None
