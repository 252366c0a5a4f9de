"""The commands about what was taken in when: `kalshidb runs`, `runs show`, `runs at`. Thin, as kalshidb.cli is, which registers them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import psycopg
import typer

from kalshidb import postgres
from kalshidb.models.ops import IngestRequest, IngestRun, RequestsAtRow
from kalshidb.queries import ops
from kalshidb.terminal import Address, AsJson, aware, fail, out, print_json


def register(app: typer.Typer, address: Address) -> None:
    """Add the commands to the application.

    Args:
        app: where to.
        address: gives the address of a migrated database, which is there as long as the block.
    """
    runs_app = typer.Typer(
        help="What was taken in when: without a command the last runs; one with its requests; where a row came from.",
        invoke_without_command=True,
    )
    app.add_typer(runs_app, name="runs")

    @contextmanager
    def store() -> Iterator[psycopg.Connection[Any]]:
        with address() as url, postgres.connect(url, autocommit=True) as conn:
            yield conn

    @runs_app.callback()
    def runs(
        context: typer.Context,
        how_many: Annotated[int, typer.Option("--last", min=1, help="How many.")] = 20,
        as_json: AsJson = False,
    ) -> None:
        """List the last runs, or see the commands."""
        if context.invoked_subcommand is not None:
            return
        with store() as conn:
            found = ops.recent_ingest_runs(conn, how_many=how_many)
        if as_json:
            print_json([run.model_dump(mode="json") for run in found])
            return
        for run in found:
            _print_run(run)

    @runs_app.command("show")
    def show(
        run_id: Annotated[int, typer.Argument(metavar="RUN", help="Its number, as `kalshidb runs` prints it.")],
        how_many: Annotated[int, typer.Option("--requests", min=0, help="How many of its requests, the last.")] = 20,
        as_json: AsJson = False,
    ) -> None:
        """Show one run: what became of each kind, why it failed, and what it asked."""
        with store() as conn:
            run = ops.ingest_run(conn, run_id=run_id)
            if run is None:
                fail(f"there is no run {run_id}; `kalshidb runs` lists them")
            asked = ops.last_requests_of_run(conn, run_id=run_id, how_many=how_many)
        if as_json:
            print_json(run.model_dump(mode="json") | {"requests": [request.model_dump(mode="json") for request in asked]})
            return
        _print_run(run)
        for kind, counts in run.rows_by_kind.items():
            said = ", ".join(f"{counts[what]:,} {what}" for what in ("read", "written", "unchanged", "rejected"))
            out.print(f"        {kind}: {said}", markup=False)
        for request in asked:
            _print_request(request)
        if asked and asked[0].request_number > 1:
            out.print(f"{asked[0].request_number - 1:,} requests before these; --requests shows more", style="dim")

    @runs_app.command("at")
    def at(
        moment: Annotated[str, typer.Argument(help="The retrieved_at of a row, as the database prints it; without a zone UTC.")],
        as_json: AsJson = False,
    ) -> None:
        """Say where a row came from: the answer, file or frames that brought what has this retrieved_at, and the run."""
        with store() as conn:
            found = ops.requests_at(conn, retrieved_at=_moment(moment))
        if as_json:
            print_json([origin.model_dump(mode="json") for origin in found])
            return
        for origin in found:
            out.print(f"{origin.run_id:6}  {origin.started_at:%Y-%m-%d %H:%M:%S} UTC  {origin.status:13}", markup=False)
            out.print(f"        {origin.source}", style="dim", markup=False)
            _print_request(origin)
        if not found:
            fail(f"nothing that was taken in arrived at {moment}; retrieved_at is exact to the microsecond")


def _moment(text: str) -> datetime:
    try:
        return aware(datetime.fromisoformat(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment such as 2026-11-21 09:30:00.123456+00", param_hint="MOMENT") from None


def _print_run(run: IngestRun) -> None:
    seconds = "" if run.duration is None else f" in {run.duration.total_seconds():,.1f} s"
    out.print(
        f"{run.run_id:6}  {run.started_at:%Y-%m-%d %H:%M:%S} UTC  {run.status:13}  {run.rows_read:,} read, "
        f"{run.rows_written:,} written, {run.rows_unchanged:,} unchanged, {run.rows_rejected:,} rejected{seconds}",
        markup=False,
    )
    out.print(f"        {run.source}", style="dim", markup=False)
    if run.error:
        out.print(f"        {run.error}", style="red", markup=False)


def _print_request(request: IngestRequest | RequestsAtRow) -> None:
    """Print one answer, file or batch of frames: its place in the run, when it had arrived, what it was."""
    params = "&".join(f"{name}={value}" for name, value in request.params.items())
    until = "" if request.retrieved_until is None else f" to {request.retrieved_until:%H:%M:%S.%f}"
    out.print(
        f"{request.request_number:6}  {request.retrieved_at:%Y-%m-%d %H:%M:%S.%f}{until} UTC  {request.http_status or '-'}"
        f"  {request.body_bytes:,} bytes  {request.url}{'?' if params else ''}{params}",
        markup=False,
    )
