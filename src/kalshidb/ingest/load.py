"""Loading files of saved answers: one JSON document a file, or one a line."""

import codecs
import io
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from kalshidb.exchange.recognise import Hints
from kalshidb.exchange.scalars import EARLIEST
from kalshidb.ingest.intake import Intake, parse_json

SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
_LINES = frozenset({".jsonl", ".ndjson"})
_WIDE_TEXT = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Found:
    """The files to load, those in the given folders that are passed over because their names promise no JSON, and folders that
    cannot be looked into.
    """

    files: tuple[Path, ...]
    passed_over: tuple[Path, ...]
    closed: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files, as far as the system tells."""
        return sum(size for path in self.files if (size := _size(path)) is not None)


def find_files(paths: Iterable[Path]) -> Found:
    """Return the files that paths name: a file as it is, a folder with all below it, in the order of their names.

    Links to folders are followed, each folder is looked into once.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    files: dict[Path, None] = {}
    passed_over: list[Path] = []
    closed: list[Path] = []
    for path in paths:
        if path.is_dir():
            for below in sorted(_below(path, closed)):
                if below.suffix.lower() in SUFFIXES and not _is_no_file(below):
                    files[below] = None
                else:
                    passed_over.append(below)
        elif path.exists():
            files[path] = None
        else:
            raise FileNotFoundError(f"{shown_path(path)}: no such file or folder")
    return Found(tuple(files), tuple(passed_over), tuple(closed))


def _below(folder: Path, closed: list[Path]) -> Iterable[Path]:
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=lambda error: closed.append(Path(error.filename))):
        place = Path(root).stat()
        if (place.st_dev, place.st_ino) in seen:  # a link led back here
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        yield from (Path(root) / name for name in names)


def _is_no_file(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, which could be waited for without end. A broken link is none of them."""
    return path.exists() and not path.is_file()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def shown_path(path: Path) -> str:
    """Return a path as it may stand in a report: bytes that are no text and control characters are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)


def load_files(intake: Intake, found: Found, hints: Hints, on_bytes: Callable[[int], object] = lambda _: None) -> None:
    """Take in every document of the files.

    An answer that does not say when it was given counts as seen when its file was last written (or as `hints.observed_at`
    says): never earlier than it was known, so that an as-of read stays honest.

    Args:
        intake: where the documents go.
        found: the files, in the order to be read.
        hints: what the requests said and the answers leave out.
        on_bytes: called with the number of bytes done since the last call.
    """
    for folder in found.closed:
        intake.refuse_bytes(b"", shown_path(folder), "the folder cannot be looked into")
    for path in found.files:
        try:
            _load_file(intake, path, hints, on_bytes)
        except OSError as error:
            intake.refuse_bytes(b"", shown_path(path), f"the file cannot be read: {error.strerror or error}")


def _load_file(intake: Intake, path: Path, hints: Hints, on_bytes: Callable[[int], object]) -> None:
    source = shown_path(path)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        seen_at = hints.observed_at or _written_at(status)
        ended = intake.note_request(source, {}, http_status=None, body_bytes=status.st_size, retrieved_at=seen_at)
        hints = replace(hints, observed_at=None)  # one moment for the file; within it the order counts
        promises_lines = path.suffix.lower() in _LINES
        first = file.readline() if promises_lines else b""
        if promises_lines and _is_json(first):  # read line by line: such files may be larger than memory
            ended(_load_lines(intake, source, chain([first], file), hints, seen_at, on_bytes))
            return
        content = first + file.read()
    try:
        document = parse_json(content)
    except ValueError as error:
        lines = io.BytesIO(_as_utf8(content)).readlines()
        # One document a line is JSON too for most who save it, whatever the file is called.
        if promises_lines or (len(lines) > 1 and (_is_json(lines[0]) or _is_json(lines[-1]))):
            ended(_load_lines(intake, source, lines, hints, seen_at, on_bytes))
        else:
            intake.refuse_bytes(content, source, f"no JSON: {error}")
            on_bytes(len(content))
    else:
        ended(intake.take(document, source, hints, seen_at, content))
        on_bytes(len(content))


def _written_at(status: os.stat_result) -> datetime:
    """Return when a file was last written.

    Archives and careless copies leave times of 1970 or of a wrong clock, which would put an answer before anybody could know it, or
    before all later ones for ever: then the time at which the file came here counts, which nobody can set.
    """
    credible = EARLIEST.timestamp() <= status.st_mtime <= time.time()
    return datetime.fromtimestamp(status.st_mtime if credible else status.st_ctime, UTC)


def _load_lines(
    intake: Intake, source: str, lines: Iterable[bytes], hints: Hints, seen_at: datetime, on_bytes: Callable[[int], object]
) -> datetime:
    """Take in a document a line; return the moment after the last object."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                document = parse_json(line)
            except ValueError as error:
                intake.refuse_bytes(line, f"{source}:{number}", f"no JSON: {error}")
            else:
                seen_at = intake.take(document, f"{source}:{number}", hints, seen_at, line)
        on_bytes(len(line))
    return seen_at


def _is_json(line: bytes) -> bool:
    """Whether a line is a document of its own; a lone word or number is not."""
    try:
        return isinstance(parse_json(line), dict | list)
    except ValueError:
        return False


def _as_utf8(content: bytes) -> bytes:
    """Return UTF-16 and UTF-32 with a mark at its beginning as UTF-8, in which a line ends with one byte."""
    if content.startswith(_WIDE_TEXT):
        encoding = "utf-32" if content.startswith(_WIDE_TEXT[:2]) else "utf-16"
        try:
            return content.decode(encoding).encode()
        except ValueError:
            return content
    return content
