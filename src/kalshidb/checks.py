"""The `kalshidb check` commands: whether what the repository holds is sound, and whether a live database is what it should be. Thin.

Exit status: 0 nothing was found · 1 something was, or the check could not be made · 2 wrong arguments ·
5 `check drift` found something · 6 it could not reach the database.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer

from kalshidb import postgres
from kalshidb.migration import MigrationError, snapshot
from kalshidb.migration.findings import RULES, Finding, findings_as_json, sarif, shown
from kalshidb.postgres.scratch import scratch_server
from kalshidb.sqlfiles import snapshot_file, sql_dir
from kalshidb.terminal import FAILED, AsJson, err, fail, out, print_json

if TYPE_CHECKING:
    from kalshidb.migration.reversible import Proof
    from kalshidb.typedsql.checking import Finding as StatementFinding
    from kalshidb.typedsql.checking import Report as StatementsReport
    from kalshidb.typedsql.generate import Project

DRIFTED, UNREACHABLE = 5, 6  # as `kalshidb status` has them

app = typer.Typer(
    help="Whether what the repository holds is sound; without a command, all of it. For those who change the SQL.",
    invoke_without_command=True,
)
AsSarif = Annotated[
    Path | None, typer.Option("--sarif", metavar="FILE", help="Write SARIF too, which code hosts show beside the lines.")
]
Migrations = Annotated[
    Path | None,
    typer.Option("--migrations", metavar="DIR", help="The folder of migrations, anybody's; by default this project's."),
]
Snapshot = Annotated[
    Path | None,
    typer.Option("--snapshot", metavar="FILE", help="The snapshot; by default docs/schema/schema.sql beside the migrations."),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Make scratch databases there, where your extensions are; by default an embedded server runs.",
    ),
]


@app.callback()
def everything(context: typer.Context, as_json: AsJson = False, sarif_file: AsSarif = None) -> None:
    """Check all that the repository holds: migrations, generated files, schema, statements. Needs no network."""
    if context.invoked_subcommand is not None:
        return
    begun = time.monotonic()
    project = project_of_package()
    parts = {
        "migrations": _linted(project.migrations, house=True),
        "generated files": (_generated(project), "models, functions, schema.sql"),
    }
    with scratch_server(None) as server:
        proof, found = _schema(project.migrations, snapshot_file(), server)
        parts["schema"] = found, f"{len(proof.proved)} migrations, down and up again"
        if proof.schema is not None:
            report = _queries(project, server)
            parts["queries"] = [_of_statements(finding) for finding in report.findings], _looked_at(report)
    if as_json:
        print_json({part: findings_as_json(found) for part, (found, _) in parts.items()})
    else:
        for part, (found, looked_at) in parts.items():
            _print_findings(found, f"{part}: {{}} in {looked_at}")
        out.print(f"{time.monotonic() - begun:.1f} s", style="dim")
    _end([finding for found, _ in parts.values() for finding in found], sarif_file)


@app.command("migrations")
def migrations(
    folder: Migrations = None,
    house: Annotated[
        bool | None, typer.Option("--house/--no-house", help="Hold to this project's own rules too; default: in its own folder.")
    ] = None,
    as_json: AsJson = False,
    sarif_file: AsSarif = None,
) -> None:
    """Find what is dangerous or against the rules in migration files. Needs no database; the extra `check` has what it needs."""
    found, looked_at = _linted(_folder(folder), house=folder is None if house is None else house)
    _report(found, f"{{}} in {looked_at}", as_json=as_json)
    _end(found, sarif_file)


@app.command("schema")
def schema(
    migrations: Migrations = None,
    file: Snapshot = None,
    server: Server = None,
    write: Annotated[bool, typer.Option("--write", help="Write the snapshot anew instead of comparing.")] = False,
    as_json: AsJson = False,
    sarif_file: AsSarif = None,
) -> None:
    """Prove on a scratch server that each migration can be taken back, and that the snapshot is what they make."""
    folder = _folder(migrations)
    place = file or (snapshot_file() if migrations is None else folder.parent / "docs" / "schema" / snapshot.FILE)
    with scratch_server(server) as scratch:
        # A folder that has never had a snapshot does not lack one.
        compared = None if write or (migrations is not None and file is None and not place.exists()) else place
        proof, found = _schema(folder, compared, scratch)
    if write and proof.schema is not None and snapshot.write(place, snapshot.text(proof.schema, folder)) and not as_json:
        out.print(f"wrote {shown(place)}", markup=False)
    untried = f", {len(proof.unproved)} without a way back" if proof.unproved else ""
    _report(found, f"{{}} in {len(proof.proved)} migrations, down and up again{untried}", as_json=as_json)
    _end(found, sarif_file)


@app.command("drift")
def drift(
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="The live database, which is only read; default: as for every command.")
    ] = None,
    file: Snapshot = None,
    server: Server = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEMA", help="A schema of that database that is somebody else's; may be repeated."),
    ] = None,
    grants: Annotated[bool, typer.Option(help="Compare who may do what too.")] = True,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the database is now as a snapshot, and compare nothing.")
    ] = None,
    as_json: AsJson = False,
    sarif_file: AsSarif = None,
) -> None:
    """Compare a live database with the snapshot of the schema. Monthly partitions are no drift. Ends with 5 where it differs."""
    from kalshidb.migration import drift as comparing  # noqa: PLC0415

    place = file or snapshot_file()
    if save is None and not place.exists():
        fail(f"there is no snapshot {shown(place)}; `kalshidb check schema --write` makes it, or --snapshot names another")
    try:
        live = _live(database)
    except postgres.DatabaseUnavailable as error:
        err.print(f"kalshidb: {' '.join(str(error).split())}", style="red", markup=False)
        raise typer.Exit(UNREACHABLE) from None
    with live as conn:
        if save is not None:
            snapshot.write(save, snapshot.text(snapshot.read(conn)))
            out.print(f"wrote {shown(save)}", markup=False)
            return
        with scratch_server(server) as scratch:
            try:
                found = comparing.check(conn, place, scratch, ignored=ignore or (), grants=grants)
            except psycopg.Error as error:
                if isinstance(error, postgres.DatabaseUnavailable):
                    raise
                fail(f"a scratch server cannot make what {shown(place)} says: {error}; --server names one that can")
    _report(found, f"{{}} against {shown(place)}", as_json=as_json)
    _end(found, sarif_file, DRIFTED)


@app.command("queries")
def queries(as_json: AsJson = False) -> None:
    """Check each statement on a migrated scratch server: it prepares, its Python is fresh, its plan suits a large database."""
    with scratch_server(None) as server:
        report = _queries(project_of_package(), server)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _print_findings(report.findings, f"{{}} in {_looked_at(report)}")
    if report.findings:
        raise typer.Exit(FAILED)


def write_generated(project: "Project") -> list[Path]:
    """Write everything anew that is made from SQL, and return the files that changed.

    Raises:
        GenerateError: the migrations fail, the server refuses a statement, or something has no Python.
    """
    from kalshidb.typedsql.__main__ import generate_project  # noqa: PLC0415  (development only)

    texts: list[str] = []
    touched = generate_project(project, beside=lambda conn: texts.append(snapshot.text(snapshot.read(conn), project.migrations)))
    return touched + [snapshot_file() for text in texts if snapshot.write(snapshot_file(), text)]


def stale_generated(project: "Project") -> list[str]:
    """Say which generated files are not fresh. Needs no database."""
    from kalshidb.typedsql import generate  # noqa: PLC0415  (development only)

    problem = snapshot.stale(project.migrations, snapshot_file())
    return generate.check(project) + ([f"{snapshot_file()}: {problem}"] if problem else [])


def project_of_package() -> "Project":
    """Return where this package's own SQL lies and its Python goes."""
    from kalshidb.typedsql.generate import Project  # noqa: PLC0415  (development only)

    docs = Path(__file__).resolve().parents[2] / "docs" / "schema"  # in a checkout only
    return Project(
        migrations=sql_dir("migrations").resolve(),
        queries=sql_dir("queries").resolve(),
        package="kalshidb",
        out=Path(__file__).resolve().parent,
        locate='sql_dir("queries")',
        locate_import="from kalshidb.sqlfiles import sql_dir",
        docs=docs if docs.is_dir() else None,
    )


# The parts


def _linted(folder: Path, *, house: bool) -> tuple[list[Finding], str]:
    from kalshidb.migration import lint  # noqa: PLC0415  (development only)

    try:
        found = lint.check(folder, house=house)
    except (lint.SquawkMissingError, MigrationError) as error:
        fail(str(error))
    return found, f"{len([*folder.glob('*.sql'), *folder.glob('*.py')])} files"


def _generated(project: "Project") -> list[Finding]:
    found: list[Finding] = []
    for said in stale_generated(project):
        where, _, problem = said.partition(": ")
        file, _, line = where.partition(":")
        found.append(
            Finding(shown(Path(file)), int(line or 1), "generated", "", problem, "generated files are made, not written")
        )
    return found


def _schema(folder: Path, file: Path | None, server: str) -> tuple["Proof", list[Finding]]:
    from kalshidb.migration import drift, reversible  # noqa: PLC0415

    try:
        proof = reversible.prove(folder, server)
    except MigrationError as error:
        fail(str(error))
    found = list(proof.findings)
    if proof.schema is not None and file is not None:
        found += drift.stale(proof.schema, file, folder, server)
    return proof, found


def _queries(project: "Project", server: str) -> "StatementsReport":
    from kalshidb.typedsql.__main__ import GenerateError, check_project  # noqa: PLC0415  (development only)

    try:
        return check_project(project, server)
    except GenerateError as error:
        fail(str(error))


def _of_statements(finding: "StatementFinding") -> Finding:
    return Finding(finding.file, finding.line, "queries", finding.subject, finding.problem, finding.advice)


def _looked_at(report: "StatementsReport") -> str:
    return f"{report.statements} statements, {report.tables} tables, {report.indexes} indexes"


def _folder(migrations: Path | None) -> Path:
    folder = migrations or sql_dir("migrations")
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {folder}", param_hint="--migrations")
    return folder.resolve()


def _live(given: str | None) -> psycopg.Connection[Any]:
    """Return a connection to the live database that cannot write, and sees one moment."""
    conn = postgres.connect(given)
    conn.read_only = True
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return conn


# Showing


def _report(findings: Sequence[Finding], summary: str, *, as_json: bool) -> None:
    if as_json:
        print_json(findings_as_json(findings))
    else:
        _print_findings(findings, summary)


def _print_findings(findings: Sequence[object], summary: str) -> None:
    for finding in findings:
        print(finding)  # noqa: T201  (a line for tools that jump to it: no wrapping, no style)
    out.print(summary.format(f"{len(findings) or 'no'} finding{'s' * (len(findings) != 1)}"), markup=False)


def _end(findings: Sequence[Finding], sarif_file: Path | None, status: int = FAILED) -> None:
    if sarif_file is not None:
        from kalshidb.migration import lint  # noqa: PLC0415  (development only)

        sarif_file.write_text(
            json.dumps(sarif(findings, RULES | lint.RULES), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    if findings:
        raise typer.Exit(status)
