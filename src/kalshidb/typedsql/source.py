"""Reading statements out of SQL files: names, parameters, header directives. Knows SQL's lexical rules, and nothing of a server.

A statement begins with `-- name: NAME(parameters)OPERATOR` at the start of a line. Comment lines that follow it are its documentation,
but for lines that begin with `@`, which are directives:

    @one                                    exactly one row (with the operator ^; alone it means at most one)
    @stream                                 rows come through a server-side cursor (with no operator)
    @bulk STAGING like TABLE [without a, b] rows are copied into the temporary table STAGING, columns as in TABLE, before it runs
    @before NAME, @after NAME               statement of the same folder that runs before or after it, in the same transaction
    @internal REASON                        a step of another statement: gets no function of its own
    @param NAME nullable: REASON            the parameter may be None
    @param NAME: MEANING                    what the parameter means, with its unit, where no column's comment says it
    @pairs NAME, NAME                       these parameters are lists of equal length, whose elements go together
    @column NAME not null: REASON           the column is never null although the server cannot tell
    @json NAME MODULE:TYPE                  the jsonb column or parameter is of that Python type
    @plan REASON                            it may read large tables whole, which `checking` refuses otherwise
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, NoReturn

from kalshidb.typedsql.errors import LoadError, Place


class Cardinality(StrEnum):
    """How many rows a statement promises, and so what its function returns."""

    MANY = "many"
    STREAM = "stream"
    ONE = "one"
    OPTIONAL = "optional"
    SCALAR = "scalar"
    AFFECTED = "affected"


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement that works on rows copied into a temporary table first."""

    staging: str
    like: str
    without: frozenset[str]


@dataclass(frozen=True, slots=True)
class StatementSource:
    """One statement as its file has it. `sql` has `$1`, `$2` … where the file names parameters.

    `column_nulls` has the columns that the header calls not null, with the lines that say so; `nullable_parameters` the parameters that
    may be None, with the reasons; `parameter_meanings` what the header says that parameters mean.
    """

    room: str
    name: str
    cardinality: Cardinality
    parameters: tuple[str, ...]
    sql: str
    doc: str
    place: Place
    sql_line: int
    bulk: Bulk | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    internal: bool = False
    nullable_parameters: dict[str, str] = field(default_factory=dict[str, str])
    parameter_meanings: dict[str, str] = field(default_factory=dict[str, str])
    paired_parameters: tuple[tuple[str, ...], ...] = ()
    column_nulls: dict[str, Place] = field(default_factory=dict[str, Place])
    json_types: dict[str, str] = field(default_factory=dict[str, str])
    plan: str | None = None

    @property
    def full_name(self) -> str:
        """Folder and name, as the server sees it in the comment that tags the statement."""
        return f"{self.room}.{self.name}"


# Names that a generated function needs for itself: a statement or parameter of that name would hide them.
_TAKEN_BY_FUNCTIONS = {"conn", "as_jsonb", "as_jsonb_array"}
_TAKEN_BY_MODULES = _TAKEN_BY_FUNCTIONS | {
    "bool", "bytes", "date", "datetime", "float", "int", "list", "object", "overload", "str", "time", "timedelta", "tuple",
}  # fmt: skip
_HEADER = re.compile(r"^--\s*name\s*:\s*(?P<rest>.*)$")
_NAME = re.compile(r"^(?P<name>[a-z][a-z0-9_]*)\s*\((?P<parameters>[^)]*)\)\s*(?P<operator>\^|\$|!|)$")
_WORD = re.compile(r"[A-Za-z_]\w*")
_DOLLAR_TAG = re.compile(r"\$(?:[A-Za-z_]\w*)?\$")
_OPERATORS = {"": Cardinality.MANY, "^": Cardinality.OPTIONAL, "$": Cardinality.SCALAR, "!": Cardinality.AFFECTED}
_MISPLACED = re.compile(r"--\s*@(one|stream|bulk|before|after|internal|param|pairs|column|json|plan)\b")
_DIRECTIVES = {
    "one": re.compile(r"^$"),
    "stream": re.compile(r"^$"),
    "bulk": re.compile(
        r"^(?P<staging>[a-z]\w*) like (?P<like>[a-z]\w*\.[a-z]\w*)(?: without (?P<without>[a-z]\w*(?:, *[a-z]\w*)*))?$"
    ),
    "before": re.compile(r"^(?P<step>[a-z]\w*)$"),
    "after": re.compile(r"^(?P<step>[a-z]\w*)$"),
    "internal": re.compile(r"^(?P<reason>.+)$"),
    "param": re.compile(r"^(?P<subject>[a-z]\w*)(?P<nulls> nullable)?: (?P<text>.+)$"),
    "pairs": re.compile(r"^(?P<names>[a-z]\w*(?:, *[a-z]\w*)+)$"),
    "column": re.compile(r"^(?P<subject>[^\s:]+) (?P<nulls>not null|nullable): (?P<reason>.+)$"),
    "json": re.compile(r"^(?P<subject>[^\s:]+) (?P<type>[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)$"),
    "plan": re.compile(r"^(?P<reason>.+)$"),
}


class Piece(NamedTuple):
    """A stretch of SQL text: a parameter, something opaque (string, comment, quoted name; unclosed without its end), or code."""

    kind: str
    text: str
    offset: int


def pieces(sql: str) -> Iterator[Piece]:
    """Cut SQL the way PostgreSQL's lexer does, far enough to know where a `:name` is a parameter.

    Strings of all kinds ('', E'', $$), quoted identifiers, nested comments, casts (`::`), `:=` and `:name` are told apart.
    """
    start = here = 0
    end = len(sql)
    while here < end:
        length, kind = _opaque_length(sql, here)
        if not length and sql[here] == ":":
            if sql.startswith(("::", ":="), here):
                here += 2
                continue
            word = _WORD.match(sql, here + 1)
            # In `low:high` of an array slice a letter or digit stands before the colon: left alone, the server decides.
            if word and not (here and (sql[here - 1].isalnum() or sql[here - 1] in "_)]")):
                length, kind = word.end() - here, "parameter"
        if length:
            if start < here:
                yield Piece("code", sql[start:here], start)
            yield Piece(kind, sql[here : here + length], here)
            here += length
            start = here
        else:
            here += 1
    if start < end:
        yield Piece("code", sql[start:end], start)


def _opaque_length(sql: str, here: int) -> tuple[int, str]:
    """Length and kind of the comment, string or quoted name that begins here, 0 if none does; unclosed ones run to the end."""
    char = sql[here]
    if sql.startswith("--", here):
        newline = sql.find("\n", here)
        return (len(sql) if newline < 0 else newline) - here, "comment"
    end, kind = -1, "opaque"
    if sql.startswith("/*", here):
        end, kind = _block_comment_end(sql, here), "comment"
    elif char == '"':
        end = _quoted_end(sql, here, '"', escapes=False)
    elif char == "'":
        prefixed = here > 0 and sql[here - 1] in "eE" and not (here > 1 and (sql[here - 2].isalnum() or sql[here - 2] == "_"))
        end = _quoted_end(sql, here, "'", escapes=prefixed)
    elif (
        char == "$"
        and not (here and (sql[here - 1].isalnum() or sql[here - 1] in "_$"))
        and (tag := _DOLLAR_TAG.match(sql, here))
    ):
        close = sql.find(tag.group(), tag.end())
        end = close + len(tag.group()) if close >= 0 else -1
    else:
        return 0, ""
    return (end - here, kind) if end >= 0 else (len(sql) - here, "unclosed")


def _block_comment_end(sql: str, here: int) -> int:
    depth, at = 0, here
    while at < len(sql):
        if sql.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif sql.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if not depth:
                return at
        else:
            at += 1
    return -1


def _quoted_end(sql: str, here: int, quote: str, *, escapes: bool) -> int:
    at = here + 1
    while at < len(sql):
        if (escapes and sql[at] == "\\") or sql.startswith(quote * 2, at):
            at += 2
        elif sql[at] == quote:
            return at + 1
        else:
            at += 1
    return -1


def read_statements(path: Path, room: str, shown_as: Path | None = None) -> list[StatementSource]:
    """Read the statements of one file.

    Args:
        path: the SQL file, UTF-8.
        room: the folder's name; the schema, by this project's custom.
        shown_as: how errors and docs name the file; its path by default.

    Raises:
        LoadError: a header, directive or parameter is wrong; says where and what to do.
    """
    return parse_statements(path.read_text(encoding="utf-8"), room, shown_as or path)


def parse_statements(text: str, room: str, file: Path) -> list[StatementSource]:
    """Read the statements of a text; see `read_statements`."""
    found: list[StatementSource] = []
    # Windows editors put a byte order mark first and end lines their way; psql reads such files too. Other characters that Python takes
    # for line ends are text to SQL.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = text.split("\n")
    headers = [(number, match) for number, line in enumerate(lines) if (match := _HEADER.match(line))]
    _refuse_code("\n".join(lines[: headers[0][0]] if headers else lines), file)
    names: dict[str, Place] = {}
    ends = [number for number, _ in headers[1:]] + [len(lines)]
    for (number, match), following in zip(headers, ends, strict=False):
        place = Place(file, number + 1)
        source = _statement(match["rest"], lines[number + 1 : following], room, place)
        if source.name in names:
            raise LoadError(place, source.name, f"a statement of this name stands at {names[source.name]} already; rename one")
        names[source.name] = place
        found.append(source)
    return found


def _refuse_code(preamble: str, file: Path) -> None:
    for piece in pieces(preamble):
        if piece.kind != "comment" and piece.text.strip():
            skipped = len(piece.text) - len(piece.text.lstrip())
            line = preamble.count("\n", 0, piece.offset + skipped) + 1
            raise LoadError(Place(file, line), None, "SQL without a '-- name:' line before it belongs to no statement")


def _statement(rest: str, lines: list[str], room: str, place: Place) -> StatementSource:
    match = _NAME.match(rest.strip())
    if not match:
        raise LoadError(
            place,
            None,
            f"cannot read '-- name: {rest}'; write -- name: statement_name(parameter, parameter) and one of nothing, ^, $, !",
        )
    name = match["name"]
    if keyword.iskeyword(name) or name in _TAKEN_BY_MODULES:
        raise LoadError(place, name, "this name means something else in Python; choose another")
    declared = tuple(word.strip() for word in match["parameters"].split(",") if word.strip())
    for word in declared:
        if not re.fullmatch(r"[a-z_]\w*", word):
            raise LoadError(place, name, f"'{word}' is no name of a parameter; types come from the server, not from the header")
        if keyword.iskeyword(word) or word in _TAKEN_BY_FUNCTIONS or word == f"_{name}":
            raise LoadError(place, name, f"parameter {word} means something else in Python; choose another name")
    if len(set(declared)) != len(declared):
        raise LoadError(place, name, "a parameter is declared twice")
    doc, directives, body_at = _head(lines, place, name)
    begin = Place(place.file, place.line + 1 + body_at)
    sql = _with_positions("\n".join(lines[body_at:]), declared, begin, name)
    return _with_directives(
        StatementSource(room, name, _OPERATORS[match["operator"]], declared, sql, doc, place, begin.line), directives
    )


def _head(lines: list[str], place: Place, name: str) -> tuple[str, list[tuple[str, re.Match[str], Place]], int]:
    doc: list[str] = []
    directives: list[tuple[str, re.Match[str], Place]] = []
    for at, line in enumerate(lines):
        if line.strip() and not line.startswith("--"):
            return "\n".join(doc).strip(), directives, at
        text = line[2:].strip()
        if not text.startswith("@"):
            doc.append(text)
            continue
        where = Place(place.file, place.line + 1 + at)
        word, _, argument = text[1:].partition(" ")
        if word not in _DIRECTIVES:
            raise LoadError(where, name, f"unknown directive @{word}; there are {', '.join('@' + w for w in _DIRECTIVES)}")
        match = _DIRECTIVES[word].match(argument.strip())
        if not match:
            raise LoadError(where, name, f"cannot read '@{word} {argument}'; see kalshidb.typedsql.source for its form")
        directives.append((word, match, where))
    raise LoadError(place, name, "there is no SQL")


def _with_positions(body: str, declared: tuple[str, ...], begin: Place, name: str) -> str:
    """Replace `:parameter` by its position, blank out comments, drop the final semicolon; every line stays where it is."""
    out: list[str] = []
    used: set[str] = set()

    def fail(offset: int, problem: str) -> NoReturn:
        raise LoadError(Place(begin.file, begin.line + body.count("\n", 0, offset)), name, problem)

    for piece in pieces(body):
        if piece.kind == "unclosed":
            fail(piece.offset, f"the string, name or comment that begins with {piece.text[:20].strip()} here has no end")
        if piece.kind == "parameter":
            word = piece.text[1:]
            if word not in declared:
                fail(
                    piece.offset,
                    f"parameter :{word} is not declared; add it to the list after the name, or quote it if it is text",
                )
            used.add(word)
            out.append(f"${declared.index(word) + 1}")
        elif piece.kind == "comment":
            if _MISPLACED.match(piece.text):
                fail(piece.offset, "directives stand between the name and the SQL")
            out.append("\n" * piece.text.count("\n") or " ")
        elif piece.kind == "code" and (bare := re.search(r"\$\d", piece.text)):
            fail(piece.offset + bare.start(), "parameters are named (:market_ticker), not numbered")
        elif piece.kind == "code" and ";" in (body_code := piece.text):
            at = piece.offset + body_code.index(";")
            if any(later.kind != "comment" and later.text.strip() for later in pieces(body[at + 1 :])):
                fail(at, "a second statement begins after the semicolon; give each its own '-- name:' line")
            out.append(body_code[: body_code.index(";")])
            break
        else:
            out.append(piece.text)
    sql = "".join(out).rstrip()
    if not sql.strip():
        fail(0, "there is no SQL")
    if unused := [word for word in declared if word not in used]:
        fail(0, f"declared but not used: {', '.join(unused)}")
    return sql


def _with_directives(  # noqa: PLR0912  (a branch a directive)
    source: StatementSource, directives: list[tuple[str, re.Match[str], Place]]
) -> StatementSource:
    cardinality, bulk, internal, plan = source.cardinality, None, False, None
    paired: list[tuple[str, ...]] = []
    steps: dict[str, list[str]] = {"before": [], "after": []}
    nullable: dict[str, str] = {}
    meanings: dict[str, str] = {}
    not_null: dict[str, Place] = {}
    json_types: dict[str, str] = {}
    for word, match, where in directives:
        if word == "one":
            if source.cardinality is not Cardinality.OPTIONAL:
                raise LoadError(where, source.name, "@one goes with the operator ^")
            cardinality = Cardinality.ONE
        elif word == "stream":
            if source.cardinality is not Cardinality.MANY:
                raise LoadError(where, source.name, "@stream goes with no operator")
            cardinality = Cardinality.STREAM
        elif word == "bulk":
            without = frozenset(column.strip() for column in (match["without"] or "").split(",") if column.strip())
            bulk = Bulk(match["staging"], match["like"], without)
        elif word in steps:
            steps[word].append(match["step"])
        elif word == "internal":
            internal = True
        elif word == "plan":
            plan = match["reason"]
        elif word == "param":
            if match["subject"] not in source.parameters:
                raise LoadError(where, source.name, f"there is no parameter {match['subject']}")
            said = nullable if match["nulls"] else meanings
            if match["subject"] in said:
                raise LoadError(where, source.name, f"a line above says this of {match['subject']} already; keep one")
            said[match["subject"]] = match["text"]
        elif word == "pairs":
            paired.append(tuple(name.strip() for name in match["names"].split(",")))
            if unknown := set(paired[-1]) - set(source.parameters):
                raise LoadError(where, source.name, f"there is no parameter {min(unknown)}")
        elif word == "json":
            json_types[match["subject"]] = match["type"]
        elif match["nulls"] == "nullable":
            problem = (
                f"column {match['subject']} needs no such line: it is nullable unless the server proves that it never is null"
            )
            raise LoadError(where, source.name, problem)
        else:
            not_null[match["subject"]] = where
    if bulk and (source.parameters or cardinality is not Cardinality.ONE):
        raise LoadError(source.place, source.name, "a @bulk statement takes no parameters and has the operator ^ and @one")
    if (steps["before"] or steps["after"]) and not bulk:
        raise LoadError(source.place, source.name, "@before and @after are steps of a @bulk statement")
    return replace(
        source,
        cardinality=cardinality,
        bulk=bulk,
        before=tuple(steps["before"]),
        after=tuple(steps["after"]),
        internal=internal,
        nullable_parameters=nullable,
        parameter_meanings=meanings,
        paired_parameters=tuple(paired),
        column_nulls=not_null,
        json_types=json_types,
        plan=plan,
    )
