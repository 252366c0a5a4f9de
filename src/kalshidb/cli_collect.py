"""The commands that keep collecting: `kalshidb collect`, `health`, `spool`. Thin, as kalshidb.cli is, which registers them."""

import json
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import FrameType
from typing import Annotated, Any

import psycopg
import typer

from kalshidb import postgres
from kalshidb.cli_ingest import FullSpeed, exchange_client
from kalshidb.ingest.collect import Collector, Finished, Plan
from kalshidb.ingest.intake import Report, total_of
from kalshidb.ingest.landing import load_spool
from kalshidb.ingest.spool import Spool, folder_for
from kalshidb.ingest.sync import SyncScope
from kalshidb.models.ops import SystemHealth
from kalshidb.queries import ops
from kalshidb.settings import Settings
from kalshidb.terminal import FAILED, HEALTH_STYLES, REJECTED, Address, AsJson, err, log_to_stderr, out, print_json

Connect = Callable[[], psycopg.Connection[Any]]
SpoolFolder = Annotated[
    Path | None,
    typer.Option("--spool", help="Folder for what arrives while the database is away; default: in kalshidb's data folder."),
]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def register(app: typer.Typer, address: Address) -> None:
    """Add the commands to the application.

    Args:
        app: where to.
        address: gives the address of a migrated database, which is there as long as the block.
    """

    @app.command()
    def collect(
        *,
        interval: Annotated[str, typer.Option("--interval", help="How often catalogue and quotes: 15m, 1h, 90s …")] = "15m",
        orderbooks: Annotated[str | None, typer.Option("--orderbooks", help="How often order books; default: never.")] = None,
        trades: Annotated[bool, typer.Option("--trades", help="Also the tape of all trades, from where it ends.")] = False,
        once: Annotated[bool, typer.Option("--once", help="Each of these once, now, and end.")] = False,
        series: Annotated[list[str] | None, typer.Option("--series", help="Only this series; again for several.")] = None,
        category: Annotated[list[str] | None, typer.Option("--category", help="Only series of this category.")] = None,
        with_combos: Annotated[bool, typer.Option("--with-combos", help="Also multivariate combinations.")] = False,
        spool: SpoolFolder = None,
        full_speed: FullSpeed = False,
        as_json: AsJson = False,
    ) -> None:
        """Collect for months: catalogue, quotes, settlements, order books, trades. Ends with SIGTERM or Ctrl-C, and loses nothing."""
        plan = Plan(
            _duration(interval, "--interval"),
            None if orderbooks is None else _duration(orderbooks, "--orderbooks"),
            trades,
            SyncScope(series=tuple(series or ()), categories=tuple(category or ()), with_combos=with_combos),
        )
        _collect(plan, address, spool, once=once, full_speed=full_speed, as_json=as_json)

    @app.command()
    def health(
        component: Annotated[list[str] | None, typer.Option("--component", help="Only this one; again for several.")] = None,
        max_age: Annotated[str | None, typer.Option("--max-age", help="Older checks count as failed: 45m, 2h …")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Say how each part of the system was when it was last looked at. Status 1: one is down, was never looked at, or too long ago."""
        oldest = None if max_age is None else _duration(max_age, "--max-age")
        with address() as url, postgres.connect(url, autocommit=True) as conn:
            found = [seen for seen in ops.current_health(conn) if not component or seen.component in component]
        now = datetime.now(UTC)
        stale = {seen.component for seen in found if oldest is not None and now - seen.last_check > oldest}
        if as_json:
            print_json([seen.model_dump(mode="json") | {"stale": seen.component in stale} for seen in found])
        else:
            for seen in found:
                _print_health(seen, now, stale=seen.component in stale)
            if not found:
                out.print("nothing was looked at", style="dim")
        unseen = set(component or ()) - {seen.component for seen in found}
        if unseen and not as_json:
            err.print(f"never looked at: {', '.join(sorted(unseen))}", style="red", markup=False)
        if not found or unseen or stale or any(seen.status == "down" for seen in found):
            raise typer.Exit(FAILED)

    _register_spool(app, address)


def _register_spool(app: typer.Typer, address: Address) -> None:
    spool_app = typer.Typer(help="What arrived while the database was away.", no_args_is_help=True)
    app.add_typer(spool_app, name="spool")

    @spool_app.command("list")
    def spool_list(spool: SpoolFolder = None, as_json: AsJson = False) -> None:
        """List what waits to be stored. Needs no database."""
        settings = Settings.load()
        url = settings.database_url or postgres.EmbeddedPostgres(settings.home).url(postgres.DATABASE)
        folder = spool_folder(url, spool)
        Spool(folder).require_readable()
        found = [(path, path.stat()) for path in Spool(folder).segments()]
        if as_json:
            print_json(
                {
                    "folder": str(folder),
                    "segments": [
                        {"file": path.name, "bytes": status.st_size, "written": _at(status.st_mtime).isoformat()}
                        for path, status in found
                    ],
                }
            )
            return
        for path, status in found:
            out.print(f"{_at(status.st_mtime):%Y-%m-%d %H:%M:%S} UTC  {status.st_size:>12,} bytes  {path}", markup=False)
        out.print(f"{len(found):,} segments in {folder}", style="dim", markup=False)

    @spool_app.command("load")
    def spool_load(spool: SpoolFolder = None, as_json: AsJson = False) -> None:
        """Store what waits, in the order of arrival; `collect` does so by itself. A segment that is being written is left alone."""
        begun = time.monotonic()
        reports: list[Report] = []
        with address() as url, postgres.connect(url, autocommit=True) as conn:
            waiting = Spool(spool_folder(url, spool))
            waiting.require_readable()
            done = load_spool(conn, waiting, on_report=reports.append)
        total = total_of(reports).total
        if as_json:
            print_json(
                total.as_dict() | {"runs": [report.run_id for report in reports], "seconds": round(time.monotonic() - begun, 3)}
            )
        else:
            out.print(
                f"{len(reports):,} runs: {total.read:,} read, {total.written:,} written, {total.unchanged:,} unchanged, "
                f"{total.rejected:,} rejected in {time.monotonic() - begun:.1f} s"
            )
        if done is None:
            err.print("another process loads this spool", style="yellow")
        if total.rejected:
            raise typer.Exit(REJECTED)


def _collect(plan: Plan, address: Address, spool: Path | None, *, once: bool, full_speed: bool, as_json: bool) -> None:
    log_to_stderr()
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # what it skips is counted as missed
    done: list[Finished] = []
    signals: SimpleQueue[int] = SimpleQueue()  # the one queue that a signal handler may put into
    stopping = False

    def note(finished: Finished) -> None:
        _print_finished(finished, as_json=as_json)
        if once:
            done.append(finished)

    def end(number: int, _: object) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)  # asked twice: at once; what is spooled stays
        stopping = True
        signals.put(number)

    with _signals_to(end), exchange_client(full_speed=full_speed) as client, database(address) as (url, connect):
        folder = spool_folder(url, spool)
        Spool(folder).check()
        collector = Collector(client, connect, folder, plan, on_run=note)
        collector.start(once=once, on_done=lambda: signals.put(0))
        signals.get()
        collector.stop()
        collector.join()
    if any(finished.status == "down" or finished.unstored for finished in done):
        raise typer.Exit(FAILED)
    if any(finished.report and finished.report.total.rejected for finished in done):
        raise typer.Exit(REJECTED)


@contextmanager
def _signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _duration(text: str, option: str) -> timedelta:
    """Return a length of time as it stands on the command line."""
    matched = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if matched is None or not int(matched[1]):
        raise typer.BadParameter(f"{text!r} is no length of time: a number and s, m, h or d, such as 15m", param_hint=option)
    return timedelta(seconds=int(matched[1]) * _UNITS[matched[2]])


@contextmanager
def database(address: Address) -> Iterator[tuple[str, Connect]]:
    """Give the database's address and a way to connect; DATABASE_URL's need not be there yet."""
    given = Settings.load().database_url
    if given is None:
        with address() as url:
            yield url, lambda: postgres.connect(url, autocommit=True)
        return
    checked, checking = False, Lock()

    def check() -> None:
        nonlocal checked
        with checking:
            if not checked:
                with address():
                    checked = True

    def connect() -> psycopg.Connection[Any]:
        try:
            check()
        except SystemExit:  # it has said so on stderr
            raise psycopg.OperationalError("the database lacks migrations; run `kalshidb migrate`") from None
        # A standby takes no rows; there are none to be had from it until it is promoted.
        return postgres.connect(given, autocommit=True, target_session_attrs="read-write")

    try:
        check()
    except psycopg.OperationalError as error:  # not there, or gone while it was looked at
        err.print(f"the database is away, collecting to the spool: {str(error).splitlines()[0]}", style="yellow", markup=False)
    yield given, connect


def spool_folder(url: str, given: Path | None) -> Path:
    """Return the folder for what arrives while the database at an address is away."""
    return folder_for(Settings.load().home, url) if given is None else given.expanduser().absolute()


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _print_finished(finished: Finished, *, as_json: bool) -> None:
    if as_json:
        line = {"component": finished.component, "status": finished.status, **finished.details()}
        print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201  (one line a run)
        return
    total = finished.report.total if finished.report else None
    counts = (
        f"{total.read:,} read, {total.written:,} written, {total.unchanged:,} unchanged, {total.rejected:,} rejected"
        if total
        else ""
    )
    parts = [
        f"run {finished.report.run_id}" if finished.report and finished.report.run_id else "",
        counts,
        f"{finished.spooled:,} answers spooled" if finished.spooled else "",
        f"{finished.spool.size:,} bytes wait in the spool" if finished.spool.size else "",
        f"{finished.missed:,} runs missed before" if finished.missed else "",
        f"{finished.seconds:.1f} s",
        finished.error or "",
    ]
    name = finished.component.removeprefix("collect_")
    text = f"{finished.began:%Y-%m-%d %H:%M:%S} UTC  {name} {finished.status}: {', '.join(part for part in parts if part)}"
    err.print(text, style=HEALTH_STYLES[finished.status], markup=False)


def _print_health(seen: SystemHealth, now: datetime, *, stale: bool) -> None:
    minutes = (now - seen.last_check).total_seconds() / 60
    said = (seen.details or {}).get("error") if isinstance(seen.details, dict) else None
    out.print(
        f"{seen.component:20} {seen.status:9} {minutes:,.1f} minutes ago{' (too long)' if stale else ''}{f'  {said}' if said else ''}",
        style="red" if stale else HEALTH_STYLES[seen.status],
        markup=False,
    )
