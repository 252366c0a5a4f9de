"""Reads migration files: yoyo's directives, the statements as yoyo splits them and as PostgreSQL's own grammar does, and for each
statement what it does (kalshidb.migration.effects). Needs no database.

    file = read_sql_file(Path("migrations/0007.order-books.sql"))
    file.id, file.transactional, file.depends, file.irreversible      what its header says
    for statement in file.statements:                                 as PostgreSQL's grammar (version 18) splits it
        statement.line, statement.text, statement.kind                line in the file; text without comments before it; "index_stmt"
        statement.node                                                postgast's parse tree, for rules of one's own
        statement.effect.locks, .rewrites, .scans, .transaction       see effects.Effect
        statement.effect.loses, .creates, .opaque, .notes
    file.problems                                                     what is wrong with the file as such, with a line each:
        "encoding", "syntax", "empty", "split" (yoyo cuts or joins statements otherwise than the grammar), "directive" (a typo, a value
        that yoyo refuses, or a place where yoyo does not look), "transaction" (COMMIT inside, or a statement that the server refuses
        in a transaction without `-- transactional: false`)

`parse_text(sql)` gives the statements of any text or raises SqlSyntaxError; `effects_of_text(sql)` those of one of yoyo's steps.
Not here: the order of a folder's files and what depends on what (kalshidb.migration.folder).
"""

import difflib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import postgast
from yoyo.migrations import parse_metadata_from_sql_comments, read_sql_migration

from kalshidb.migration.effects import Effect, Node, effect_of

DIRECTIVES = ("depends", "transactional", "irreversible")
ROLLBACK = ".rollback.sql"
# A word in the header that is alone before a colon, as yoyo's directives are.
_DIRECTIVE = re.compile(r"^\s*--\s*([A-Za-z_-]+)\s*:\s*(.*?)\s*$")


class Problem(NamedTuple):
    """Something wrong with a file or a folder. `line` is 0 where it is about the whole."""

    code: str
    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}{f':{self.line}' if self.line else ''}: {self.message}"


class SqlSyntaxError(ValueError):
    """PostgreSQL's grammar refuses the text. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as PostgreSQL's grammar sees it."""

    text: str
    """From its first word, without the semicolon and without comments before it."""
    line: int
    """Where its first word stands, from 1."""
    kind: str
    """The name of its node in the parse tree: `index_stmt`, `alter_table_stmt` …"""
    effect: Effect
    node: Node = field(repr=False, compare=False)
    """Its parse tree, a message of postgast.pg_query_pb2."""

    @property
    def title(self) -> str:
        """Its first line."""
        return self.text.splitlines()[0].rstrip()


class Header(NamedTuple):
    """What the comments before the first statement say."""

    lines: tuple[str, ...]
    """Without their dashes."""
    depends: tuple[str, ...]
    transactional: bool
    irreversible: str | None
    """Why it cannot be undone, where it is declared so (`-- irreversible: reason`); "" when the reason is missing."""


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A migration or rollback file. Where it cannot be parsed, `statements` is empty and `problems` says why."""

    path: Path
    id: str
    is_rollback: bool
    text: str
    header: tuple[str, ...] = ()
    """The comment lines before the first statement, without their dashes."""
    depends: tuple[str, ...] = ()
    transactional: bool = True
    irreversible: str | None = None
    """Why it cannot be undone, where the header declares so (`-- irreversible: reason`); "" when the reason is missing."""
    statements: tuple[Statement, ...] = ()
    yoyo_statements: tuple[str, ...] = ()
    """As yoyo splits it: each of these is sent to the server as one."""
    problems: tuple[Problem, ...] = ()


def parse_text(sql: str) -> tuple[Statement, ...]:
    """Split a text as PostgreSQL does.

    Raises:
        SqlSyntaxError: it is not SQL that PostgreSQL 18 understands.
    """
    raw = sql.encode()
    try:
        tree = postgast.parse(sql)
        words = [token for token in postgast.scan(sql).tokens if token.token not in _COMMENTS]
    except postgast.PgQueryError as error:
        raise SqlSyntaxError(error.message, _line(raw, max(error.cursorpos - 1, 0))) from None
    starts, ends = [word.start for word in words], [word.end for word in words]
    found = []
    for statement in tree.stmts:
        begin = starts[bisect_left(starts, statement.stmt_location)]
        end = statement.stmt_location + statement.stmt_len if statement.stmt_len else len(raw)
        last = ends[bisect_right(ends, end) - 1]
        text = raw[begin:last].decode().removesuffix(";").rstrip()
        kind = str(statement.stmt.WhichOneof("node"))
        found.append(Statement(text, _line(raw, begin), kind, effect_of(statement.stmt), statement.stmt))
    return tuple(found)


def effects_of_text(sql: str) -> tuple[Effect, ...]:
    """Return what a text does, statement by statement; one opaque effect where it cannot be parsed."""
    try:
        return tuple(statement.effect for statement in parse_text(sql))
    except SqlSyntaxError as error:
        return (Effect(opaque=True, notes=(f"cannot be parsed: {error}",)),)


_COMMENTS = (postgast.pg_query_pb2.SQL_COMMENT, postgast.pg_query_pb2.C_COMMENT)


def _line(raw: bytes, offset: int) -> int:
    return raw.count(b"\n", 0, offset) + 1


def read_header(text: str) -> Header:
    """Read yoyo's directives and ours. Much cheaper than to read the statements."""
    directives, _, _ = parse_metadata_from_sql_comments(text)
    lines = _header(text)
    reasons = [match[2] for line in lines if (match := _DIRECTIVE.match(line)) and match[1] == "irreversible"]
    return Header(
        lines=tuple(re.sub(r"^\s*--\s?", "", line) for line in lines),
        depends=tuple(directives.get("depends", "").split()),
        transactional=directives.get("transactional", "true").strip().lower() != "false",
        irreversible=" ".join(reasons) if reasons else None,
    )


def read_sql_file(path: Path, pieces: Sequence[str] | None = None) -> SqlFile:
    """Read a migration (`NAME.sql`) or a rollback (`NAME.rollback.sql`). What is wrong with it comes back in `problems`.

    `pieces`: the statements as yoyo split them, where that is known; to split a large file takes yoyo a while.
    """
    is_rollback = path.name.endswith(ROLLBACK)
    identity = path.name.removesuffix(ROLLBACK) if is_rollback else path.stem
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
        problem = Problem("encoding", path, 0, f"is not UTF-8: {wrong}; save it as UTF-8")
        return SqlFile(path, identity, is_rollback, "", problems=(problem,))
    problems: list[Problem] = []
    if text.startswith("\ufeff"):
        problems.append(Problem("encoding", path, 1, "begins with a byte order mark, which the server refuses; save it without"))
    header = read_header(text)
    problems += _directive_problems(path, text, len(header.lines))
    yoyo_statements = tuple(read_sql_migration(str(path))[2] if pieces is None else pieces)
    try:
        statements = parse_text(text.removeprefix("\ufeff"))
    except SqlSyntaxError as error:
        statements = ()
        problems.append(Problem("syntax", path, error.line, f"{error}{_copy_hint(text)}"))
    else:
        if not statements and len(header.depends) < 2:  # who depends on several may be there only to join them
            problems.append(
                Problem("empty", path, 0, "holds no statement; write it, or SELECT 1 where nothing is meant to happen")
            )
        problems += _split_problems(path, statements, yoyo_statements)
        problems += _transaction_problems(path, statements, transactional=header.transactional, is_rollback=is_rollback)
    return SqlFile(
        path,
        identity,
        is_rollback,
        text,
        header=header.lines,
        depends=header.depends,
        transactional=header.transactional,
        irreversible=header.irreversible,
        statements=statements,
        yoyo_statements=yoyo_statements,
        problems=tuple(problems),
    )


def _header(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("--"):
            break
        lines.append(line)
    return lines


def _copy_hint(text: str) -> str:
    return (
        "; data after COPY … FROM stdin cannot stand in a migration: write INSERT"
        if re.search(r"(?i)\bfrom\s+stdin\b", text)
        else ""
    )


def _directive_problems(path: Path, text: str, header_length: int) -> list[Problem]:
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.match(line)
        if match is None:
            continue
        word, value = match[1], match[2]
        if number > header_length:
            if word in DIRECTIVES:
                problems.append(
                    Problem("directive", path, number, f"`-- {word}:` after the first statement is not read; move it to the top")
                )
        elif word in DIRECTIVES:
            if word == "transactional" and value.lower() not in ("true", "false"):
                problems.append(Problem("directive", path, number, f"`-- transactional: {value}` must be true or false"))
            if word == "irreversible" and not value:
                problems.append(Problem("directive", path, number, "`-- irreversible:` needs the reason"))
        elif close := difflib.get_close_matches(word.lower(), (*DIRECTIVES, "transaction"), 1, 0.75):
            meant = "transactional" if close[0] == "transaction" else close[0]
            problems.append(
                Problem("directive", path, number, f"`-- {word}:` is no directive and is not read; is `-- {meant}:` meant?")
            )
    return problems


def _split_problems(path: Path, statements: tuple[Statement, ...], pieces: Sequence[str]) -> list[Problem]:
    """Compare yoyo's pieces with the statements: each piece must be one of them, or a comment."""
    counted = 0
    for piece in pieces:
        try:
            inside = len(postgast.parse(piece.removeprefix("\ufeff")).stmts)
        except postgast.PgQueryError:
            inside = -1
        if inside not in (0, 1):
            line = statements[min(counted, len(statements) - 1)].line if statements else 0
            how = "cuts a statement in pieces" if inside < 0 else f"sends {inside} statements as one"
            begins = piece.strip().splitlines()[0][:60]
            return [
                Problem(
                    "split",
                    path,
                    line,
                    f"yoyo {how} here, other than PostgreSQL would (its piece begins {begins!r}); write it simpler",
                )
            ]
        counted += inside
    if counted != len(statements):
        return [
            Problem("split", path, 0, f"yoyo sees {counted} statements where PostgreSQL sees {len(statements)}; write it simpler")
        ]
    return []


def _transaction_problems(
    path: Path, statements: tuple[Statement, ...], *, transactional: bool, is_rollback: bool
) -> list[Problem]:
    if not transactional:
        return []
    problems = []
    # BEGIN first and COMMIT last say what is so anyway.
    inner = statements[1:-1] if is_wrapped(statements) else statements
    for statement in inner:
        if statement.effect.transaction == "ends":
            problems.append(
                Problem(
                    "transaction", path, statement.line, f"{statement.title} would end yoyo's transaction half way; take it out"
                )
            )
        elif statement.effect.transaction == "forbidden" and not is_rollback:
            problems.append(
                Problem(
                    "transaction",
                    path,
                    statement.line,
                    f"{statement.title} cannot run inside a transaction; give it a migration of its own with `-- transactional: false`",
                )
            )
    return problems


def is_wrapped(statements: tuple[Statement, ...]) -> bool:
    """Say whether the first statement begins a transaction and the last one commits it."""
    if len(statements) < 2:
        return False
    first, last = statements[0].node, statements[-1].node
    if statements[0].kind != "transaction_stmt" or statements[-1].kind != "transaction_stmt":
        return False
    pb = postgast.pg_query_pb2
    return (
        first.transaction_stmt.kind in (pb.TRANS_STMT_BEGIN, pb.TRANS_STMT_START)
        and last.transaction_stmt.kind == pb.TRANS_STMT_COMMIT
    )
