"""The engine's commands, for any project: python -m kalshidb.typedsql generate … and check …

This module alone may use `kalshidb.postgres` and `kalshidb.migration`, and only when it needs a database: to have a server of its own
to ask, and to apply migrations as yoyo does.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from kalshidb.typedsql import checking, generate, plans
from kalshidb.typedsql.describe import describe
from kalshidb.typedsql.document import read_facts, render
from kalshidb.typedsql.errors import StatementError
from kalshidb.typedsql.loading import load_statements


class GenerateError(Exception):
    """Nothing was generated; says why."""


def generate_project(
    project: generate.Project, server: str | None = None, beside: Callable[[psycopg.Connection[Any]], object] = lambda _: None
) -> list[Path]:
    """Write a project's models and functions, and its pages about the schema, anew, and return the files that changed.

    Args:
        project: where its SQL lies and its Python goes.
        server: address of a server on which a scratch database is made and dropped again; by default a server of its own runs for as
            long as this takes.
        beside: called with a connection to the migrated database, for what else is made from it.

    Raises:
        GenerateError: the migrations fail, the server refuses a statement, or something has no Python.
    """
    _look_for_folders(project)
    try:
        # Before any server: what cannot be read needs none.
        statements = load_statements(project.queries)
        with _migrated_database(project, server) as url:
            with psycopg.connect(url) as conn:
                beside(conn)
            with psycopg.connect(url) as conn:
                database = describe(conn, statements)
                files = generate.render(project, database)
                if project.docs:
                    link = Path(os.path.relpath(project.queries, project.docs)).as_posix()
                    files |= generate.pages(project, render(database, read_facts(conn), project.migrations, link))
        return generate.write(files)
    except (StatementError, generate.UnknownTypeError, generate.NameClashError) as error:
        raise GenerateError(str(error)) from error


def check_project(project: generate.Project, server: str | None = None) -> checking.Report:
    """Check a project's statements, their Python, their plans and their indexes, on a scratch database; see `checking`.

    Raises:
        GenerateError: the migrations fail, or the server is not one that plans can be asked of.
    """
    _look_for_folders(project)
    with _migrated_database(project, server) as url, psycopg.connect(url) as conn:
        try:
            return checking.check(project, conn)
        except plans.PlansError as error:
            raise GenerateError(str(error)) from error


def _look_for_folders(project: generate.Project) -> None:
    for folder in (project.migrations, project.queries):
        if not folder.is_dir():
            raise GenerateError(f"there is no folder {folder}")


def _migrate(url: str, migrations: Path) -> None:
    # PLC0415: only who needs a server needs these.
    from kalshidb.migration import MigrationError, migrate  # noqa: PLC0415

    if not any(path.suffix in (".sql", ".py") for path in migrations.iterdir()):
        return
    try:
        migrate(url, migrations)
    except (psycopg.Error, MigrationError) as error:
        raise GenerateError(f"the migrations in {migrations} fail: {error}") from error


@contextmanager
def _migrated_database(project: generate.Project, server: str | None) -> Iterator[str]:
    from kalshidb.postgres.scratch import scratch_database, scratch_server  # noqa: PLC0415

    with scratch_server(server) as own, scratch_database(own) as url:
        _migrate(url, project.migrations)
        yield url


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done or fresh, 1 stale or impossible, 2 not understood."""
    parser = argparse.ArgumentParser(prog="python -m kalshidb.typedsql", description="SQL files in, typed Python functions out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    making = commands.add_parser("generate", help="write models and functions from migrations and queries")
    looking = commands.add_parser(
        "check", help="look whether statements prepare, their Python is fresh, their plans suit large tables"
    )
    for command in (making, looking):
        command.add_argument("--migrations", type=Path, required=True, metavar="DIR", help="folder of yoyo migrations")
        command.add_argument("--queries", type=Path, required=True, metavar="DIR", help="folder of statements")
        command.add_argument(
            "--package", required=True, metavar="NAME", help="import name of the package that gets models and queries"
        )
        command.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="that package's folder, or the one that it stands in"
        )
        command.add_argument("--server", metavar="URL", help="make the scratch database there; by default on a server of its own")
    making.add_argument(
        "--docs", type=Path, metavar="DIR", help="folder of its own for pages about the schema; without it none are written"
    )
    making.add_argument("--check", action="store_true", help="only say whether SQL and Python agree; needs no database")
    given = parser.parse_args(arguments)
    if not all(part.isidentifier() for part in given.package.split(".")):
        parser.error(f"--package {given.package}: no name that Python can import")
    project = generate.Project.of_folders(given.migrations, given.queries, given.package, given.out)
    return _check(project, given) if given.command == "check" else _generate(project, given)


def _check(project: generate.Project, given: argparse.Namespace) -> int:
    try:
        report = check_project(project, given.server)
    except (GenerateError, psycopg.OperationalError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    for finding in report.findings:
        print(finding, file=sys.stderr)  # noqa: T201
    if not report.findings:
        print(f"{report.statements} statements, {report.tables} tables, {report.indexes} indexes: nothing to find fault with")  # noqa: T201
    return 1 if report.findings else 0


def _generate(project: generate.Project, given: argparse.Namespace) -> int:
    if given.docs:
        project = replace(project, docs=given.docs.resolve())
    if given.check:
        problems = generate.check(project)
        for problem in problems:
            print(problem, file=sys.stderr)  # noqa: T201
        if not problems:
            print("generated files are fresh")  # noqa: T201
        return 1 if problems else 0
    try:
        touched = generate_project(project, given.server)
    except (GenerateError, psycopg.OperationalError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    (project.out / "__init__.py").touch()
    for path in touched:
        print(f"wrote {Path(os.path.relpath(path, project.out)).as_posix()}")  # noqa: T201
    if not touched:
        print("nothing changed")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
