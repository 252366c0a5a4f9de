"""The `kalshidb` command: thin. It reads arguments, finds the database, calls the package that does the work and prints.

Exit status: 0 all went well · 1 failed, the reason is on stderr · 2 wrong arguments · 3 something was refused and kept in
ops.rejected_payloads (`kalshidb rejects list`) · 4, 5, 6 are `kalshidb status`'s: pending, drifted, unreachable.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psycopg
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from kalshidb import __version__, checks, cli_collect, cli_ingest, cli_migrations, cli_runs, cli_stream, demo, postgres
from kalshidb.exchange.client import ExchangeError
from kalshidb.exchange.recognise import Hints, Kind
from kalshidb.ingest.backfill import BackfillError
from kalshidb.ingest.collect import CollectError
from kalshidb.ingest.intake import FILE, Intake, Report
from kalshidb.ingest.load import find_files, load_files, shown_path
from kalshidb.ingest.sync import SyncError
from kalshidb.migration import MigrationError, pending
from kalshidb.migration import migrate as apply_migrations
from kalshidb.migration.findings import shown
from kalshidb.models.ops import RejectedPayload
from kalshidb.postgres.embedded import find_programs
from kalshidb.queries import catalog, ops
from kalshidb.terminal import FAILED, MOMENTS, REJECTED, AsJson, aware, err, fail, out, print_json
from kalshidb.typedsql import StatementError

CONNECTION_LOST = ("08", "57P")  # SQLSTATE of a lost connection, and of a server that is being stopped
EVERY_REJECT = 1_000_000

app = typer.Typer(
    help="A PostgreSQL store for prediction-market data. DATABASE_URL says which database; without it an embedded server is used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
rejects_app = typer.Typer(help="What could not be stored: list it, look at it, try it again.", no_args_is_help=True)
app.add_typer(rejects_app, name="rejects")
app.add_typer(checks.app, name="check")


def main() -> None:
    """Run the command; known failures end in one line on stderr instead of a traceback."""
    try:
        _run()
    finally:
        # Who reads only the beginning (`| head`) makes no error, also where the rest is written as the program ends.
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> None:
    try:
        app()
    except postgres.DatabaseUnavailable as error:
        if not isinstance(error.__cause__, psycopg.Error):
            fail(str(error))
        # What the network said, libpq's guess and our advice are one line.
        lines = (line.strip() for line in str(error).splitlines())
        fail(" ".join(line if line.endswith((".", "?")) else f"{line}." for line in lines))
    except (
        postgres.SettingsError,
        ExchangeError,
        StatementError,
        MigrationError,
        SyncError,
        BackfillError,
        CollectError,
    ) as error:
        fail(str(error))
    except OSError as error:
        fail(str(error))
    except psycopg.OperationalError as error:
        if error.sqlstate is not None and not error.sqlstate.startswith(CONNECTION_LOST):
            _refused(error)
        reason = str(error).splitlines()[0]
        fail(f"the connection to the database was lost ({reason}); what was stored stays, so the command can be run again")
    except psycopg.Error as error:
        _refused(error)


def _refused(error: psycopg.Error) -> NoReturn:
    notes = "".join(f"\n  in {note}" for note in getattr(error, "__notes__", ()))
    fail(f"the database refuses: {error}{notes}")


# Database


@app.command()
def up() -> None:
    """Start the embedded server, migrate its database and print its address; it runs until `kalshidb down`."""
    url = postgres.up()
    postgres.connect(url).close()
    _migrated(url, embedded=postgres.Settings.load().database_url is None)
    print(url)  # noqa: T201  (for $(kalshidb up): no wrapping, no style)


@app.command()
def down(force: Annotated[bool, typer.Option(help="Stop at once, even while others use it.")] = False) -> None:
    """Stop the embedded server."""
    out.print(postgres.down(force=force), markup=False)


@app.command()
def url() -> None:
    """Print the address of the database, for psql and for `yoyo apply -d` (write postgresql+psycopg:// there)."""
    print(postgres.url())  # noqa: T201


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open the database in psql; arguments are psql's (-c "SELECT …"). The embedded server's own psql serves where none is installed."""
    with postgres.database() as database:
        _migrated(database.url, embedded=database.embedded)
        program = shutil.which("psql") or str(find_programs() / "psql")
        status = subprocess.call([program, database.url, *context.args])  # noqa: S603  (the user's own words, for the user's psql)
    raise typer.Exit(status)


cli_migrations.register(app)


@contextmanager
def _address() -> Iterator[str]:
    """Give the address of a database that has the schema."""
    with postgres.database() as database:
        _migrated(database.url, embedded=database.embedded)
        yield database.url


@contextmanager
def _store() -> Iterator[psycopg.Connection[Any]]:
    """Give a connection in autocommit mode to a database that has the schema."""
    with _address() as address, postgres.connect(address, autocommit=True) as conn:
        yield conn


def _migrated(url: str, *, embedded: bool) -> None:
    """Bring an empty database, or our own server's, to the latest schema; changing a database in use is its owner's decision."""
    lacking, applied = pending(url)
    if lacking and (embedded or not applied or _is_untouched(url)):
        apply_migrations(url)
    elif lacking:
        fail(f"the database lacks {', '.join(lacking)}; run `kalshidb migrate`, or `yoyo apply`, when it suits")


def _is_untouched(url: str) -> bool:
    """Whether the first migration of an empty database was broken off, or nothing came after it."""
    with postgres.connect(url) as conn:
        try:
            return bool(ops.is_untouched(conn))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return True


# Loading


@app.command()
def load(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders with *.json, *.jsonl, *.ndjson below them.")],
    kind: Annotated[Kind | None, typer.Option(help="What the documents are, where their shape does not say.")] = None,
    ticker: Annotated[str | None, typer.Option(help="The market that was asked for, where the answers do not say.")] = None,
    series: Annotated[str | None, typer.Option(help="The series that was asked for, where the answers do not say.")] = None,
    interval: Annotated[int | None, typer.Option(help="Length of candlesticks in minutes: 1, 60 or 1440.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=MOMENTS, help="When the answers were given, UTC; default: as they say, else when the file was written."
        ),
    ] = None,
    keep_raw: Annotated[bool, typer.Option(help="Keep the payload of candlesticks, quotes, books and trades too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load saved answers of the exchange. What is stored already is left alone; what cannot be stored is kept as a reject."""
    hints = _hints(kind, ticker, series, interval, at)
    found = find_files(paths)
    begun = time.monotonic()
    with (
        _store() as conn,
        Intake(conn, f"load {' '.join(map(shown_path, paths))}", origin="backfill", keep_raw=keep_raw) as intake,
    ):
        with Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
            console=err, transient=True, disable=as_json or not err.is_terminal,
        ) as progress:  # fmt: skip
            task = progress.add_task("loading", total=found.size)
            load_files(intake, found, hints, lambda done: progress.advance(task, done))
        intake.flush()
        stubs = catalog.stubs(conn)
    report = intake.report
    if as_json:
        print_json(
            _report_json(report)
            | {
                "files": len(found.files),
                "passed_over": [shown_path(path) for path in found.passed_over],
                "stubs": {word: sum(stub.kind == word for stub in stubs) for word in ("series", "event", "market")},
                "seconds": round(time.monotonic() - begun, 3),
            }
        )
    else:
        _print_report(report, time.monotonic() - begun)
        for path in found.passed_over:
            out.print(f"passed over, no JSON by its name: {shown_path(path)}", style="dim", markup=False, soft_wrap=True)
        if stubs:
            out.print(f"{len(stubs):,} parents are known by ticker only; `kalshidb stubs` lists them", style="dim")
    if report.total.rejected:
        raise typer.Exit(REJECTED)


def _hints(kind: Kind | None, ticker: str | None, series: str | None, interval: int | None, at: datetime | None) -> Hints:
    if interval not in (None, 1, 60, 1440):
        raise typer.BadParameter(f"{interval} is no length of a candlestick: 1, 60 or 1440 minutes", param_hint="--interval")
    return Hints(kind, ticker, series, interval, None if at is None else aware(at))


@app.command()
def stubs(as_json: AsJson = False) -> None:
    """List series, events and markets that are known by ticker only, because a child of theirs arrived first."""
    with _store() as conn:
        found = catalog.stubs(conn)
    if as_json:
        print_json([stub.model_dump(mode="json") for stub in found])
        return
    for stub in found:
        out.print(f"{stub.kind:8}{stub.ticker}", markup=False, soft_wrap=True)
    out.print(f"{len(found):,} stubs; loading their own answers completes them", style="dim")


# Rejects


RejectKind = Annotated[str | None, typer.Option("--kind", help="Only this kind: market, candlestick, unrecognised, file …")]
RejectSource = Annotated[str | None, typer.Option("--source", help="Only those whose file or address contains this.")]
RejectPrefix = Annotated[str | None, typer.Argument(help="Only those whose SHA-256 begins so.")]


@rejects_app.command("list")
def rejects_list(
    kind: RejectKind = None,
    source: RejectSource = None,
    how_many: Annotated[int, typer.Option("--last", min=1, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what could not be stored and is not resolved, the last refused first."""
    with _store() as conn:
        found = ops.open_rejects(conn, kind=kind, source_part=source, sha256_prefix=None, how_many=how_many)
        counted = ops.count_open_rejects(conn)
    if as_json:
        print_json([_reject_json(reject) for reject in found])
        return
    for reject in found:
        _print_reject(reject)
    summary = ", ".join(f"{count.open_count:,} {count.kind}" for count in counted)
    out.print(f"open: {summary}" if counted else "nothing is rejected", style="dim")


@rejects_app.command("show")
def rejects_show(
    sha256: Annotated[str, typer.Argument(help="The beginning of its SHA-256, as `rejects list` prints it.")],
    as_json: AsJson = False,
) -> None:
    """Show a refused payload whole, with what was wrong with each field."""
    with _store() as conn:
        found = ops.rejects_by_prefix(conn, sha256_prefix=sha256)
    if not found:
        fail(f"no reject begins with {sha256!r}; `kalshidb rejects list` shows them")
    if as_json:
        print_json([_reject_json(reject) | {"payload": reject.payload.decode("utf-8", "backslashreplace")} for reject in found])
        return
    for reject in found:
        _print_reject(reject)
        state = "open" if reject.resolved_at is None else f"resolved {reject.resolved_at:%Y-%m-%d %H:%M:%S}"
        out.print(
            f"  {state}, refused {reject.seen_count:,} times from {reject.first_seen_at:%Y-%m-%d %H:%M:%S} "
            f"to {reject.last_seen_at:%Y-%m-%d %H:%M:%S} UTC",
            markup=False,
        )
        out.print(f"  context {json.dumps(reject.context)}", markup=False, soft_wrap=True)
        out.print(reject.payload.decode("utf-8", "backslashreplace"), markup=False, soft_wrap=True)


@rejects_app.command("retry")
def rejects_retry(
    sha256: RejectPrefix = None,
    kind: RejectKind = None,
    source: RejectSource = None,
    ticker: Annotated[str | None, typer.Option(help="The market that was asked for, where the payload does not say.")] = None,
    series: Annotated[str | None, typer.Option(help="The series that was asked for, where the payload does not say.")] = None,
    interval: Annotated[int | None, typer.Option(help="Length of candlesticks in minutes: 1, 60 or 1440.")] = None,
    as_: Annotated[Kind | None, typer.Option("--as", help="What unrecognised payloads are.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try refused payloads again, after an upgrade or with what was missing; what is stored now is marked resolved."""
    hints = _hints(as_, ticker, series, interval, None)
    begun = time.monotonic()
    with _store() as conn:
        found = ops.open_rejects(conn, kind=kind, source_part=source, sha256_prefix=sha256, how_many=EVERY_REJECT)
        if sha256 is not None and not found:
            fail(f"no open reject begins with {sha256!r}; `kalshidb rejects list` shows them")
        with Intake(conn, "rejects retry", origin="backfill") as intake:
            for _ in intake.retry(found, hints):
                pass
    broken = sum(reject.kind == FILE for reject in found)
    if as_json:
        print_json(_report_json(intake.report) | {"resolved": intake.report.resolved, "broken_files": broken})
    else:
        _print_report(intake.report, time.monotonic() - begun)
        out.print(f"{intake.report.resolved:,} of {len(found):,} resolved")
        if broken:
            out.print(f"{broken:,} are broken files: load mended ones", style="dim")
    if intake.report.total.rejected:
        raise typer.Exit(REJECTED)


@rejects_app.command("discard")
def rejects_discard(
    sha256: Annotated[str, typer.Argument(help="The beginning of its SHA-256, as `rejects list` prints it.")],
) -> None:
    """Mark refused payloads as resolved although they are not stored, such as a broken file that was fetched anew. Deletes nothing."""
    with _store() as conn:
        found = [reject for reject in ops.rejects_by_prefix(conn, sha256_prefix=sha256) if reject.resolved_at is None]
        if not found:
            fail(f"no open reject begins with {sha256!r}; `kalshidb rejects list` shows them")
        ops.resolve_rejects(conn, payload_sha256s=[one.payload_sha256 for one in found], kinds=[one.kind for one in found])
    for reject in found:
        out.print(f"discarded {reject.payload_sha256[:12]}  {reject.kind}  {reject.source}", markup=False, soft_wrap=True)


def _print_reject(reject: RejectedPayload) -> None:
    out.print(f"{reject.payload_sha256[:12]}  {reject.kind}  {reject.source}", markup=False, soft_wrap=True)
    for error in reject.errors:
        out.print(f"  {_error_line(error)}", markup=False, soft_wrap=True)


def _error_line(error: dict[str, Any]) -> str:
    where = f"{error['field']}: " if error["field"] else ""
    value = "" if error["value"] is None else f" (found {error['value']})"
    hint = f"; {error['hint']}" if error["hint"] else ""
    return f"{where}{error['error']}{value}{hint}"


def _reject_json(reject: RejectedPayload) -> dict[str, Any]:
    return reject.model_dump(mode="json", exclude={"payload"})


# Showing


def _print_report(report: Report, seconds: float) -> None:
    out.print(demo.counts_table(report))
    for what, count in report.not_stored.items():
        out.print(f"kind not stored: {count:,} {what}", style="dim", markup=False)
    for refusal in report.refusals:
        out.print(f"rejected {refusal.kind} {refusal.source}", style="red", markup=False, soft_wrap=True)
        for error in refusal.errors:
            out.print(f"  {_error_line(error)}", markup=False, soft_wrap=True)
    total = report.total
    if total.rejected > len(report.refusals):
        out.print(f"… {total.rejected - len(report.refusals):,} more: kalshidb rejects list", style="dim")
    if report.cut:
        out.print(f"cut short: {report.cut}", style="yellow", markup=False, soft_wrap=True)
    out.print(
        f"run {report.run_id}: {total.read:,} read, {total.written:,} written, {total.unchanged:,} unchanged, "
        f"{total.rejected:,} rejected in {seconds:.1f} s"
    )


def _print_run(report: Report, seconds: float, as_json: bool) -> None:
    """Print what a run that asked the exchange did, and end with the status for rejects."""
    if as_json:
        print_json(_report_json(report) | {"seconds": round(seconds, 3)})
    else:
        _print_report(report, seconds)
    if report.total.rejected:
        raise typer.Exit(REJECTED)


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        **report.total.as_dict(),
        "kinds": {kind: counts.as_dict() for kind, counts in report.by_kind.items()},
        "cut": report.cut,
        "not_stored": report.not_stored,
        "refusals": [dataclasses.asdict(refusal) for refusal in report.refusals],
    }


# Demonstration and development


@app.command(name="demo")
def demo_command(
    seed: Annotated[int, typer.Option(help="Another seed makes another world.")] = 7,
    markets: Annotated[int, typer.Option(min=60, help="How many markets the simulated exchange has.")] = 300,
) -> None:
    """Start, migrate, load a simulated exchange over HTTP, and show what is in the store."""
    with _store() as conn:
        out.print(f"kalshidb {__version__} on {postgres.describe()}", style="dim", markup=False)
        complete = demo.run(conn, out, seed=seed, markets=markets)
    out.rule("What next", align="left")
    in_checkout = (Path(__file__).resolve().parents[2] / "run.py").exists()
    for command, meaning in (
        ("psql", "look at the tables"),
        ("load FILE…", "load answers of the exchange that you saved"),
        ("runs", "what was loaded when"),
        ("up", "keep the server running and print its address"),
        *([("test", "run the tests")] if in_checkout else []),
    ):
        out.print(f"  {'python3 run.py' if in_checkout else 'kalshidb'} {command:12} [dim]{meaning}[/]", soft_wrap=True)
    if not complete:
        raise typer.Exit(REJECTED)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def simulator(context: typer.Context) -> None:
    """Serve the simulated exchange until interrupted, with faults if asked; prints its address."""
    from kalshidb.exchange.simulator.__main__ import main  # noqa: PLC0415  (only this command serves)

    raise typer.Exit(main(context.args))


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="Only say whether SQL and Python agree; needs no database.")] = False,
) -> None:
    """Write anew what is made from migrations/ and queries/: models, functions, schema.sql. For those who change the SQL."""
    from kalshidb.typedsql.__main__ import GenerateError  # noqa: PLC0415  (development only)

    project = checks.project_of_package()
    if check:
        problems = checks.stale_generated(project)
        for problem in problems:
            err.print(problem, markup=False, soft_wrap=True)
        if problems:
            raise typer.Exit(FAILED)
        out.print("generated files are fresh")
        return
    try:
        touched = checks.write_generated(project)
    except GenerateError as error:
        fail(str(error))
    for path in touched:
        out.print(f"wrote {shown(path)}", markup=False)
    if not touched:
        out.print("nothing changed")


cli_ingest.register(app, _address, _print_run)
cli_collect.register(app, _address)
cli_stream.register(app, _address)
cli_runs.register(app, _address)
