"""Finds in migration files what is dangerous on a database in use, and, for this project's own, what breaks its rules. No database.

`squawk` (from PyPI) knows unsafe DDL; what it cannot know stands here: yoyo's directives and rollbacks, partitioned tables, two steps of
which the second is missing, and the rules of the house. A finding is excused where it stands, with a reason:

    -- lint: ignore adding-foreign-key-constraint: the table is empty until the next release
    ALTER TABLE …

in the comment right above the statement (above the first blank line of the file: for the whole file), or, for files that may not change
any more, in `lint.ignore` beside them: `0010.purge.sql: RULE: reason`. An ignore that excuses nothing is itself a finding.

Not here: what a statement does (kalshidb.migration.effects) and what migrations.lock says (kalshidb.migration.integrity, which is asked).
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from postgast import pg_query_pb2 as pg

from kalshidb.migration.effects import Node, dotted, relation_name
from kalshidb.migration.findings import Finding, shown
from kalshidb.migration.folder import Folder, read_folder
from kalshidb.migration.integrity import verify
from kalshidb.migration.reversible import can_go_down
from kalshidb.migration.statements import ROLLBACK, SqlFile, Statement

IGNORES = "lint.ignore"

RULES = {
    "encoding": "A file is not plain UTF-8.",
    "syntax": "PostgreSQL's grammar refuses a file.",
    "empty": "A file holds no statement.",
    "unread": "squawk cannot read what PostgreSQL can, and has looked at nothing.",
    "split": "yoyo splits a file into other statements than PostgreSQL does.",
    "directive": "A directive of yoyo's is misspelt, misplaced or has a wrong value.",
    "transaction": "A statement cannot run in the transaction that it stands in, or ends it.",
    "no-rollback": "A migration has neither a rollback nor a reason why it cannot have one.",
    "stray": "yoyo passes a file over.",
    "lock": "migrations.lock cannot be read, or is no chain.",
    "unlocked": "A migration is not in migrations.lock yet.",
    "edited": "A migration is not what migrations.lock says.",
    "rollback-edited": "A rollback is not what migrations.lock says.",
    "vanished": "A migration that migrations.lock has is gone.",
    "reordered": "Migrations stand in another order than in migrations.lock.",
    "duplicate": "Two migrations have one number.",
    "gap": "A number is missing.",
    "outside": "A migration outside of transactions does what belongs into one.",
    "validate-at-once": "A constraint is validated in the transaction that adds it, so its lock is held for as long as that takes.",
    "never-validated": "A constraint is added NOT VALID, and no migration validates it.",
    "partitioned-index": "An index on a partitioned table that is in use is made in one piece.",
    "ignore": "An ignore has no reason, or excuses nothing.",
    "header": "A migration does not say in prose what it does, why, what it locks and how it is undone.",
    "depends": "A migration does not depend on the one before it, so that yoyo may apply it alone.",
    "name": "A constraint or index is not named {table}_{columns}_{pkey|key|fkey|check|excl|idx}.",
    "comment": "Something is made without a COMMENT.",
    "precision": "A number is inexact, or has no precision and scale.",
    "identity": "An identity column is no bigint, or a serial is used.",
    "trigger": "A trigger or rule on a table that must run distributed.",
    "market-key": "A key of market_data does not carry market_ticker.",
    "levels": "A table of market_data inherits, is partitioned twice, or has a default partition.",
    "clock-in-update": "ON CONFLICT DO UPDATE asks the clock instead of taking the time from the row.",
}

# Of squawk's rules those that do not apply, and why.
NOT_OURS = {
    "require-lock-timeout": "kalshidb migrate sets it on the connection",
    "require-statement-timeout": "kalshidb migrate sets it on the connection",
    "prefer-robust-stmts": "a migration is one transaction; one outside of it is a single statement",
    "ban-create-domain-with-constraint": "domains hold the rules of our words; adding a constraint to one in use stays a finding",
    "prefer-bigint-over-int": "small counts are small; identity columns have a rule of their own",
    "prefer-bigint-over-smallint": "small counts are small; identity columns have a rule of their own",
}
AFTER_DEPLOYMENT = re.compile(r"^\d+[._-]post-")
"""Migrations that are applied when no running program knows the old shape any more."""
TAKEN_AWAY = ("ban-drop-column", "ban-drop-table", "ban-drop-constraint", "ban-drop-not-null")
"""What they are for."""
DISTRIBUTED = ("catalog", "market_data")
"""The schemas that must run unchanged when they are spread over several servers."""
MARKET_DATA = "market_data"


@dataclass(frozen=True, slots=True)
class Ignore:
    """A finding that is excused. `first` to `last` are the lines it is about, the whole file where `last` is 0."""

    file: str
    line: int
    rules: tuple[str, ...]
    reason: str
    target: str
    first: int = 1
    last: int = 0

    def excuses(self, finding: Finding) -> bool:
        """Say whether it is about that finding."""
        in_lines = self.last == 0 or self.first <= finding.line <= self.last
        return finding.file == self.target and finding.rule in self.rules and in_lines


@dataclass(slots=True)
class _Folder:
    """What the files before the current one have made."""

    partitioned: set[str] = field(default_factory=set[str])
    not_valid: dict[tuple[str, str], Finding] = field(default_factory=dict[tuple[str, str], Finding])


class SquawkMissingError(Exception):
    """The program that knows unsafe DDL is not installed."""

    def __init__(self) -> None:
        super().__init__("squawk is not installed, which knows unsafe DDL; it comes with: pip install 'kalshidb[check]'")


def check(folder: Path, *, house: bool) -> list[Finding]:
    """Return what is wrong with the migrations of a folder, without what is excused.

    Args:
        folder: the migrations, ours or anybody's.
        house: whether this project's own rules apply too: prose, names, comments, keys.

    Raises:
        SquawkMissingError: says what to install.
        FolderError: the folder cannot be read as migrations.
    """
    read = read_folder(folder)
    ups = [migration.file for migration in read if migration.file]
    rollbacks = [migration.rollback_file for migration in read if migration.rollback_file]
    files = sorted([*ups, *rollbacks, *(hook.file for hook in read.hooks if hook.file)], key=lambda file: file.path)
    findings: list[Finding] = []
    made = _Folder()
    for problem in (*(problem for file in files for problem in file.problems), *read.strays, *verify(read)):
        at, line = shown(problem.path), max(problem.line, 1)
        findings.append(Finding(at, line, problem.code, "", problem.message, "see docs/for-dbas.md"))
    findings += _rollbacks(read)
    for file in ups:
        findings += _outside(file)
        findings += _two_steps(file, made)
        if house:
            findings += _header(file, is_first=file is ups[0])
            for statement in file.statements:
                findings += _house(file, statement)
        for statement in file.statements:
            if statement.kind == "create_stmt" and statement.node.create_stmt.HasField("partspec"):
                made.partitioned.add(relation_name(statement.node.create_stmt.relation))
    if house:
        findings += _comments(ups)
    findings += made.not_valid.values()
    findings += _unsafe(ups, made)
    ignores, wrong = _ignores(folder, files)
    kept = [finding for finding in findings if not any(ignore.excuses(finding) for ignore in ignores)]
    wrong += (
        Finding(ignore.file, ignore.line, "ignore", "", f"it excuses nothing: there is no {rule} there", "take it away")
        for ignore in ignores
        for rule in ignore.rules
        if not any(replace(ignore, rules=(rule,)).excuses(finding) for finding in findings)
    )
    return sorted({*kept, *wrong})


# -- files -------------------------------------------------------------------------------------------------------------------------


def _rollbacks(folder: Folder) -> Iterator[Finding]:
    for migration in folder:
        if migration.irreversible is None and not can_go_down(migration.raw):
            message = "nothing undoes it; yoyo would only unmark it"
            advice = f"write {migration.id}{ROLLBACK}, or say in its header why there is none: -- irreversible: REASON"
            if migration.file is None:
                steps = len(migration.steps("apply"))
                if migration.can_be_undone:
                    message = f"{len(migration.one_way)} of its {steps} steps have no way back"
                advice = "give each step its way back, or say why there is none: # irreversible: REASON"
            yield Finding(shown(migration.path), 1, "no-rollback", "", message, advice)
        if migration.irreversible is not None and migration.rollback_file:
            where = shown(migration.rollback_path)
            yield Finding(where, 1, "no-rollback", "", "its migration is declared irreversible", "take the one or the other away")


def _outside(file: SqlFile) -> Iterator[Finding]:
    if file.transactional:
        return
    at = shown(file.path)
    needing = [statement for statement in file.statements if statement.effect.transaction == "forbidden"]
    if file.statements and not needing:
        advice = "take `-- transactional: false` away"
        yield Finding(at, 1, "outside", "", "no statement of it needs to run outside of a transaction", advice)
        return
    for statement in file.statements:
        if statement not in needing and statement.kind != "variable_set_stmt":
            advice = "give it a migration of its own: when this one stops half way, what is done stays done"
            yield Finding(at, statement.line, "outside", "", f"{statement.title} could run inside of a transaction", advice)


# -- two steps ---------------------------------------------------------------------------------------------------------------------


def _alterations(statement: Statement) -> Iterator[Node]:
    if statement.kind == "alter_table_stmt":
        for command in statement.node.alter_table_stmt.cmds:
            yield command.alter_table_cmd


def _two_steps(file: SqlFile, made: _Folder) -> Iterator[Finding]:
    """Find constraints of which only one step is taken, or both at once."""
    added: set[tuple[str, str]] = set()
    for statement in file.statements:
        for command in _alterations(statement):
            table = relation_name(statement.node.alter_table_stmt.relation)
            if command.subtype == pg.AT_AddConstraint and getattr(command, "def").constraint.skip_validation:
                name = getattr(command, "def").constraint.conname
                added.add((table, name))
                made.not_valid[table, name] = Finding(
                    shown(file.path), statement.line, "never-validated", name, "it stays NOT VALID: rows from before may break it",
                    f"add a migration with ALTER TABLE {table} VALIDATE CONSTRAINT {name}",
                )  # fmt: skip
            if command.subtype == pg.AT_ValidateConstraint:
                made.not_valid.pop((table, command.name), None)
                if (table, command.name) in added and file.transactional:
                    advice = "validate it in the next migration, which blocks nobody"
                    problem = "it is validated in the transaction that adds it, so its lock is held while all rows are read"
                    yield Finding(shown(file.path), statement.line, "validate-at-once", command.name, problem, advice)


# -- what squawk knows -------------------------------------------------------------------------------------------------------------


def _unsafe(files: list[SqlFile], made: _Folder) -> list[Finding]:
    program = shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")
    if program is None:
        raise SquawkMissingError
    findings: list[Finding] = []
    for transactional in (True, False):
        known = {str(file.path): file for file in files if file.transactional is transactional and file.statements}
        if not known:
            continue
        command = [program, "--reporter", "json", "--pg-version", "15", f"--exclude={','.join(NOT_OURS)}", *known]
        if transactional:
            command.insert(1, "--assume-in-transaction")
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own files, a pinned program)
        if not done.stdout.lstrip().startswith("["):
            raise RuntimeError(f"squawk failed: {done.stderr.strip() or done.stdout.strip()}")
        for said in json.loads(done.stdout):
            findings += _judged(known[said["file"]], said, made)
    return findings


def _judged(file: SqlFile, said: dict[str, Any], made: _Folder) -> Iterator[Finding]:
    """Take what squawk says, but for what it cannot know."""
    rule, line = str(said["rule_name"]), int(said["line"]) + 1
    statement = next((one for one in reversed(file.statements) if one.line <= line), None)
    at, advice = shown(file.path), " ".join(str(said.get("help") or "see docs/for-dbas.md").split())
    if rule == "syntax-error":  # PostgreSQL's own grammar has read the file
        problem = f"squawk cannot read this ({said['message']}), so it has looked for unsafe DDL nowhere in this file"
        yield Finding(at, line, "unread", "", problem, "write it another way, or look yourself and say so in an ignore")
        return
    if statement is None:
        yield Finding(at, line, rule, "", str(said["message"]), advice)
        return
    if rule in TAKEN_AWAY and AFTER_DEPLOYMENT.match(file.id):
        return
    if rule == "ban-drop-constraint" and _readded(statement, file, line):
        return  # it is changed, not dropped; what adding it takes is a finding of its own
    if rule == "constraint-missing-not-valid" and _kind_at(statement, file, line) != pg.CONSTR_CHECK:
        return  # nothing else can be NOT VALID but a foreign key, of which it speaks once more
    table = _table(statement)
    if rule == "require-concurrent-index-creation" and table in made.partitioned:
        if not statement.node.index_stmt.relation.inh:
            return  # ON ONLY makes the frame for the indexes of the partitions, and reads no row
        yield Finding(
            at, line, "partitioned-index", statement.node.index_stmt.idxname,
            f"it blocks the writers of every partition of {table} until all is indexed",
            "build it CONCURRENTLY on each partition first, then this one only attaches those; see docs/for-dbas.md",
        )  # fmt: skip
        return
    if rule == "adding-foreign-key-constraint" and table in made.partitioned:
        advice = (
            "add it NOT VALID (on a partitioned table from PostgreSQL 18 on, before that to each partition), validate it later"
        )
    yield Finding(at, line, rule, "", " ".join(str(said["message"]).split()), advice.rstrip("."))


def _kind_at(statement: Statement, file: SqlFile, line: int) -> int | None:
    """Return what kind of constraint is added at a line."""
    added = [getattr(command, "def").constraint for command in _alterations(statement) if command.subtype == pg.AT_AddConstraint]
    return next((constraint.contype for constraint in added if _line_at(file, constraint.location) == line), None)


def _line_at(file: SqlFile, location: int) -> int:
    return file.text.encode().count(b"\n", 0, location) + 1


def _readded(statement: Statement, file: SqlFile, line: int) -> bool:
    dropped, added = set[str](), set[str]()
    for one in file.statements:
        if _table(one) == _table(statement):
            for command in _alterations(one):
                if command.subtype == pg.AT_DropConstraint:
                    dropped.add(command.name)
                if command.subtype == pg.AT_AddConstraint:
                    added.add(getattr(command, "def").constraint.conname)
    here = re.search(
        r"(?i)DROP\s+CONSTRAINT\s+(?:IF\s+EXISTS\s+)?\"?(\w+)", "\n".join(file.text.splitlines()[line - 1 : line + 1])
    )
    return here is not None and here[1] in dropped & added


def _table(statement: Statement) -> str:
    """Return the table that a statement is about, empty for others."""
    node = getattr(statement.node, statement.kind)
    return (
        relation_name(node.relation)
        if statement.kind in ("create_stmt", "alter_table_stmt", "index_stmt", "rule_stmt", "create_trig_stmt")
        else ""
    )


# -- ignores -----------------------------------------------------------------------------------------------------------------------

_IGNORE = re.compile(r"^\s*--\s*lint:\s*ignore\s+(?P<rules>[\w-]+(?:\s*,\s*[\w-]+)*)\s*(?::\s*(?P<reason>.*))?$")
_LISTED = re.compile(r"^(?P<file>\S+):\s*(?P<rules>[\w-]+(?:\s*,\s*[\w-]+)*)\s*:\s*(?P<reason>\S.*)$")


def _ignores(folder: Path, files: list[SqlFile]) -> tuple[list[Ignore], list[Finding]]:
    found: list[Ignore] = []
    wrong: list[Finding] = []
    for file in files:
        at, lines = shown(file.path), file.text.splitlines()
        for number, line in enumerate(lines, 1):
            if re.match(r"\s*--\s*squawk-ignore", line):
                wrong.append(Finding(at, number, "ignore", "", "it gives no reason", "write -- lint: ignore RULE: reason"))
            if not re.match(r"\s*--\s*lint\s*:", line):
                continue
            match = _IGNORE.match(line)
            if match is None or not match["reason"]:
                advice = "write -- lint: ignore RULE: reason"
                wrong.append(Finding(at, number, "ignore", "", "it gives no reason, or cannot be read", advice))
                continue
            first, last = _lines_of(file, lines, number)
            found.append(Ignore(at, number, _rules(match), match["reason"], at, first, last))
    listed = folder / IGNORES
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines() if listed.exists() else (), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LISTED.match(line)
        if match is None:
            wrong.append(Finding(shown(listed), number, "ignore", "", "it cannot be read", "write FILE: RULE, RULE: reason"))
        else:
            found.append(Ignore(shown(listed), number, _rules(match), match["reason"], shown(folder / match["file"])))
    return found, wrong


def _rules(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(rule.strip() for rule in match["rules"].split(","))


def _lines_of(file: SqlFile, lines: list[str], number: int) -> tuple[int, int]:
    """Return the lines that an ignore is about: the statement right below its comment, the one around it, else the whole file."""
    below = number
    while below < len(lines) and lines[below].lstrip().startswith("--"):
        below += 1
    ends = [following.line - 1 for following in file.statements[1:]] + [len(lines)]
    for statement, end in zip(file.statements, ends, strict=True):
        if statement.line == below + 1 or statement.line <= number <= statement.line + statement.text.count("\n"):
            return statement.line, end
    return 1, 0


# -- rules of the house ------------------------------------------------------------------------------------------------------------


def _header(file: SqlFile, *, is_first: bool) -> Iterator[Finding]:
    at = shown(file.path)
    first = file.header[0] if file.header else ""
    if not first.rstrip().endswith("."):
        yield Finding(at, 1, "header", "", "it does not begin with a sentence that says what it does", "write one, as a comment")
    for word in ("Why:", "Locks:", "Undo:"):
        if not any(line.startswith(word) and len(line) > len(word) + 10 for line in file.header):
            yield Finding(at, 1, "header", "", f"it says nothing after `-- {word}`", "say it for who must run it at night")
    if not file.depends and not is_first:
        advice = "write -- depends: and the id of the one before it"
        yield Finding(at, 1, "depends", "", "it depends on nothing, so that yoyo may apply it alone", advice)


def _house(file: SqlFile, statement: Statement) -> Iterator[Finding]:
    reader: Callable[[Node], Iterable[tuple[int, str, str, str, str]]] | None = _READERS.get(statement.kind)
    if reader is None:
        return
    for location, rule, subject, problem, advice in reader(getattr(statement.node, statement.kind)):
        line = _line_at(file, location) if location > 0 else statement.line
        yield Finding(shown(file.path), line, rule, subject, problem, advice)


_Said = Iterator[tuple[int, str, str, str, str]]
_SUFFIXES = {
    pg.CONSTR_PRIMARY: "pkey",
    pg.CONSTR_UNIQUE: "key",
    pg.CONSTR_FOREIGN: "fkey",
    pg.CONSTR_CHECK: "check",
    pg.CONSTR_EXCLUSION: "excl",
}
_KEYS = (pg.CONSTR_PRIMARY, pg.CONSTR_UNIQUE, pg.CONSTR_FOREIGN, pg.CONSTR_EXCLUSION)


def _words(nodes: Iterable[Node]) -> list[str]:
    return [node.string.sval for node in nodes]


def _constraint(constraint: Node, table: Node, column: str = "") -> _Said:
    """Look at the name of a constraint, and at the columns of a key of market_data."""
    suffix = _SUFFIXES.get(constraint.contype)
    if suffix is None:
        return
    columns = [column] if column else _words(constraint.fk_attrs) or _words(constraint.keys)
    if constraint.contype == pg.CONSTR_EXCLUSION:
        columns = [item.list.items[0].index_elem.name for item in constraint.exclusions]
    name = constraint.conname
    if constraint.contype == pg.CONSTR_PRIMARY:
        right = f"{table.relname}_pkey"
    elif constraint.contype == pg.CONSTR_CHECK:
        right = f"{table.relname}_…_check"
    else:
        right = "_".join([table.relname, *columns, suffix])
    fits = name == right or (right.endswith("…_check") and re.fullmatch(rf"{re.escape(table.relname)}_\w+_check", name))
    # PostgreSQL cuts a name at 63 bytes; the rest is for people to shorten.
    if not fits and not (len(right) > 63 and name.startswith(table.relname) and name.endswith(suffix)):
        what = f"is called {name}" if name else "has no name"
        yield constraint.location, "name", name or table.relname, f"the constraint {what}", f"call it {right}"
    if (
        table.schemaname == MARKET_DATA
        and constraint.contype in _KEYS
        and not constraint.indexname
        and "market_ticker" not in columns
    ):
        advice = "let it begin with market_ticker: rows are spread by it"
        yield constraint.location, "market-key", name, "a key without market_ticker", advice
    if (
        table.schemaname == MARKET_DATA
        and constraint.contype == pg.CONSTR_FOREIGN
        and (constraint.fk_del_action in "nd" or constraint.fk_upd_action in "nd")
    ):
        advice = "use CASCADE or NO ACTION: the column that rows are spread by never changes"
        yield constraint.location, "market-key", name, "a foreign key that sets its column to null or a default", advice


def _column(column: Node, table: Node) -> _Said:
    subject = f"{relation_name(table)}.{column.colname}"
    if column.HasField("type_name"):
        yield from _type(column.type_name, subject)
    for node in column.constraints:
        constraint = node.constraint
        if constraint.contype == pg.CONSTR_IDENTITY and dotted(column.type_name).rpartition(".")[2] != "int8":
            yield column.location, "identity", subject, "an identity that is no bigint runs out", "make it bigint"
        yield from _constraint(constraint, table, column.colname)


_INEXACT = {
    "float4": "numeric(p, s)", "float8": "numeric(p, s)", "money": "numeric(p, s)", "timestamp": "timestamptz", "time": "text",
    "timetz": "timestamptz", "json": "jsonb", "bpchar": "text",
}  # fmt: skip


def _type(type_name: Node, subject: str) -> _Said:
    name = dotted(type_name).removeprefix("pg_catalog.")
    if name in _INEXACT:
        yield type_name.location, "precision", subject, f"{name} is inexact or means less than it seems", f"use {_INEXACT[name]}"
    if name == "numeric" and not type_name.typmods:
        yield type_name.location, "precision", subject, "numeric without precision and scale", "write numeric(p, s), p at most 38"
    if name.endswith("serial") or name in ("serial2", "serial4", "serial8"):
        yield (
            type_name.location,
            "identity",
            subject,
            f"{name} is a sequence beside the table",
            "use bigint GENERATED ALWAYS AS IDENTITY",
        )


def _create_table(node: Node) -> _Said:
    table = node.relation
    is_market_data = table.schemaname == MARKET_DATA
    if is_market_data and node.inh_relations and (node.HasField("partspec") or not node.HasField("partbound")):
        yield (
            table.location,
            "levels",
            relation_name(table),
            "it inherits, or is a partition with partitions",
            "one level of partitions",
        )
    if is_market_data and node.HasField("partbound") and node.partbound.is_default:
        advice = "let the loader make the month that is missing: nobody looks into a default partition"
        yield table.location, "levels", relation_name(table), "a default partition", advice
    for element in node.table_elts:
        if element.HasField("column_def"):
            yield from _column(element.column_def, table)
        elif element.HasField("constraint"):
            yield from _constraint(element.constraint, table)


def _alter_table(node: Node) -> _Said:
    for each in node.cmds:
        command = each.alter_table_cmd
        what = getattr(command, "def")
        if command.subtype == pg.AT_AddColumn:
            yield from _column(what.column_def, node.relation)
        elif command.subtype == pg.AT_AddConstraint:
            yield from _constraint(what.constraint, node.relation)
        elif command.subtype == pg.AT_AlterColumnType:
            yield from _type(what.column_def.type_name, f"{relation_name(node.relation)}.{command.name}")


def _create_index(node: Node) -> _Said:
    table, name = node.relation, node.idxname
    suffix = "key" if node.unique else "idx"
    if not (name.startswith(f"{table.relname}_") and name.endswith(f"_{suffix}")) and not (node.unique and name.endswith("_idx")):
        # A partition's index begins with the name of its table too.
        yield (
            table.location,
            "name",
            name or table.relname,
            f"the index is called {name or 'by the server'}",
            f"call it {table.relname}_COLUMNS_{suffix}",
        )
    columns = [item.index_elem.name for item in node.index_params]
    if node.unique and table.schemaname == MARKET_DATA and "market_ticker" not in columns:
        yield table.location, "market-key", name, "a unique index without market_ticker", "let it begin with market_ticker"


def _create_trigger(node: Node) -> _Said:
    if node.relation.schemaname in DISTRIBUTED:
        advice = "let statements do it, or privileges refuse it; tables of research, trading, backtest and ops may have triggers"
        yield node.relation.location, "trigger", node.trigname, f"a trigger on {relation_name(node.relation)}", advice


def _create_rule(node: Node) -> _Said:
    if node.relation.schemaname in DISTRIBUTED:
        yield (
            node.relation.location,
            "trigger",
            node.rulename,
            f"a rule on {relation_name(node.relation)}",
            "let statements do it",
        )


def _create_domain(node: Node) -> _Said:
    name = ".".join(_words(node.domainname))
    yield from _type(node.type_name, name)
    for each in node.constraints:
        constraint = each.constraint
        bare = name.rpartition(".")[2]
        if constraint.contype == pg.CONSTR_CHECK and not re.fullmatch(rf"{bare}_\w+_check", constraint.conname):
            problem = f"the constraint is called {constraint.conname}" if constraint.conname else "the constraint has no name"
            yield constraint.location, "name", name, problem, f"call it {bare}_RULE_check"


_CLOCK = re.compile(
    r"(?is)\bDO\s+UPDATE\s+SET\b[^;]*?(\bnow\s*\(|_timestamp\s*\(|\bcurrent_(?:time|date)|\blocaltime|\btimeofday\s*\()"
)


def _create_function(node: Node) -> _Said:
    name = ".".join(_words(node.funcname))
    for option in node.options:
        body = option.def_elem
        if body.defname == "as" and any(_CLOCK.search(re.sub(r"--.*", "", text)) for text in _words(body.arg.list.items)):
            advice = "let the time travel in the row: updated_at = EXCLUDED.updated_at"
            yield body.location, "clock-in-update", name, "its ON CONFLICT DO UPDATE asks the clock", advice


_READERS: dict[str, Callable[[Node], Iterable[tuple[int, str, str, str, str]]]] = {
    "create_stmt": _create_table,
    "alter_table_stmt": _alter_table,
    "index_stmt": _create_index,
    "create_trig_stmt": _create_trigger,
    "rule_stmt": _create_rule,
    "create_domain_stmt": _create_domain,
    "create_function_stmt": _create_function,
}


# -- comments ----------------------------------------------------------------------------------------------------------------------


def _comments(files: list[SqlFile]) -> Iterator[Finding]:
    """Find what is made and never commented, in this file or a later one."""
    made: dict[tuple[str, str], tuple[str, int]] = {}
    said: set[tuple[str, str]] = set()
    for file in files:
        for statement in file.statements:
            node = getattr(statement.node, statement.kind)
            if statement.kind == "comment_stmt":
                if node.comment:
                    said.add(_commented(node))
                continue
            for what, name, location in _made(statement.kind, node):
                line = _line_at(file, location) if location > 0 else statement.line
                made.setdefault((what, name), (shown(file.path), line))
    for (what, name), (at, line) in made.items():
        if (what, name) not in said:
            yield Finding(
                at, line, "comment", f"{what} {name}", "it has no comment", f"COMMENT ON {what.upper()} {name} IS '…', with units"
            )


def _commented(node: Node) -> tuple[str, str]:
    kind = pg.ObjectType.Name(node.objtype).removeprefix("OBJECT_").lower()
    if kind == "function":
        return "function", ".".join(_words(node.object.object_with_args.objname))
    return {"tabcol": "column", "matview": "view", "column": "column"}.get(kind, kind), dotted(node.object)


def _made(kind: str, node: Node) -> Iterator[tuple[str, str, int]]:
    if kind == "create_schema_stmt":
        yield "schema", node.schemaname, 0
    elif kind == "create_stmt" and not node.HasField("partbound"):
        table = relation_name(node.relation)
        yield "table", table, 0
        for element in node.table_elts:
            if element.HasField("column_def"):
                yield "column", f"{table}.{element.column_def.colname}", element.column_def.location
    elif kind == "alter_table_stmt":
        for each in node.cmds:
            if each.alter_table_cmd.subtype == pg.AT_AddColumn:
                column = getattr(each.alter_table_cmd, "def").column_def
                yield "column", f"{relation_name(node.relation)}.{column.colname}", column.location
    elif kind == "view_stmt":
        yield "view", relation_name(node.view), 0
    elif kind == "create_domain_stmt":
        yield "domain", ".".join(_words(node.domainname)), 0
    elif kind == "create_enum_stmt":
        yield "type", ".".join(_words(node.type_name)), 0
    elif kind == "create_function_stmt":
        yield "function", ".".join(_words(node.funcname)), 0
