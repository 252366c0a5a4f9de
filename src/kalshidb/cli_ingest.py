"""The commands that ask the exchange: `kalshidb sync-markets`, `backfill`, `coverage`. Thin, as kalshidb.cli is: they read
arguments, call kalshidb.ingest and print. Registered by kalshidb.cli, which turns errors into one line.
"""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from psycopg.types.range import Range
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kalshidb import postgres
from kalshidb.exchange.client import BASE_URL, KEYLESS, ExchangeClient, RateLimit
from kalshidb.ingest.backfill import BackfillScope, Kind, backfill, check_known, estimate
from kalshidb.ingest.intake import Intake, Report, total_of
from kalshidb.ingest.sync import STATUSES, UNSETTLED, SyncScope, sync_markets
from kalshidb.models.ops import CoverageRow
from kalshidb.queries import ops
from kalshidb.settings import Settings, SettingsError
from kalshidb.terminal import FAILED, MOMENTS, Address, AsJson, aware, err, out, print_json

if TYPE_CHECKING:
    from kalshidb.exchange.signing import Signer

From = Annotated[datetime, typer.Option("--from", formats=MOMENTS, help="Begin of the span, UTC.")]
To = Annotated[datetime | None, typer.Option("--to", formats=MOMENTS, help="End of the span, UTC, exclusive; default: now.")]
OneSeries = Annotated[str | None, typer.Option("--series", help="Only markets of this series.")]
OneEvent = Annotated[str | None, typer.Option("--event", help="Only markets of this event.")]
OneMarket = Annotated[str | None, typer.Option("--market", help="Only this market.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=32, help="Threads that share the work; other processes may, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many requests it would take; the exchange is not asked.")]

Printer = Callable[[Report, float, bool], None]
FullSpeed = Annotated[
    bool, typer.Option("--full-speed", help="Ask as fast as answers come: for a simulated exchange, never for the real one.")
]


def register(app: typer.Typer, address: Address, print_report: Printer) -> None:
    """Add the commands to the application.

    Args:
        app: where to.
        address: gives the address of a migrated database, which is there as long as the block.
        print_report: prints what a run did, and ends with the status for rejects.
    """

    @app.command("sync-markets")
    def sync_markets_command(
        series: Annotated[list[str] | None, typer.Option("--series", help="Only this series; again for several.")] = None,
        category: Annotated[list[str] | None, typer.Option("--category", help="Only series of this category.")] = None,
        status: Annotated[
            list[str] | None,
            typer.Option("--status", help=f"Only markets that are {', '.join(STATUSES)}; default: all but settled."),
        ] = None,
        with_combos: Annotated[bool, typer.Option("--with-combos", help="Also multivariate combinations.")] = False,
        historical: Annotated[bool, typer.Option("--historical", help="Also what settled more than two months ago.")] = False,
        max_pages: Annotated[int | None, typer.Option("--max-pages", min=1, help="Stop each list after so many pages.")] = None,
        full_speed: FullSpeed = False,
        as_json: AsJson = False,
    ) -> None:
        """Bring series, events and markets up to date, with their versions and settlements."""
        scope = SyncScope(
            series=tuple(series or ()),
            categories=tuple(category or ()),
            statuses=tuple(status or UNSETTLED),
            with_combos=with_combos,
            historical=historical,
            max_pages=max_pages,
        )
        begun = time.monotonic()
        with (
            exchange_client(full_speed=full_speed) as client,
            address() as url,
            postgres.connect(url, autocommit=True) as conn,
            Intake(conn, f"sync-markets{scope.words} {client.base_url}", origin="poll") as intake,
            _walk_progress(as_json) as (step, page),
        ):
            sync_markets(client, intake, scope, on_step=step, on_page=page)
        print_report(intake.report, time.monotonic() - begun, as_json)

    backfill_app = typer.Typer(help="Fetch history that is missing, completely and once.", no_args_is_help=True)
    app.add_typer(backfill_app, name="backfill")

    @backfill_app.command("candles")
    def backfill_candles(
        *,
        start: From,
        end: To = None,
        interval: Annotated[int, typer.Option("--interval", help="Length in minutes: 1, 60 or 1440.")] = 60,
        series: OneSeries = None,
        event: OneEvent = None,
        market: OneMarket = None,
        workers: Workers = 1,
        dry_run: DryRun = False,
        full_speed: FullSpeed = False,
        as_json: AsJson = False,
    ) -> None:
        """Fetch candlesticks of the markets that the catalogue has (`kalshidb sync-markets` first)."""
        scope = BackfillScope("candlesticks", aware(start), aware(end), interval, series, event, market)
        _backfill(scope, address, workers, dry_run=dry_run, full_speed=full_speed, as_json=as_json, print_report=print_report)

    @backfill_app.command("trades")
    def backfill_trades(
        *,
        start: From,
        end: To = None,
        series: OneSeries = None,
        event: OneEvent = None,
        market: OneMarket = None,
        workers: Workers = 1,
        dry_run: DryRun = False,
        full_speed: FullSpeed = False,
        as_json: AsJson = False,
    ) -> None:
        """Fetch public trades; without a series, event or market those of the whole exchange."""
        scope = BackfillScope("trades", aware(start), aware(end), 0, series, event, market)
        _backfill(scope, address, workers, dry_run=dry_run, full_speed=full_speed, as_json=as_json, print_report=print_report)

    @app.command()
    def coverage(
        *,
        start: From,
        end: To = None,
        kind: Annotated[
            Literal[Kind, "orderbook"], typer.Option("--kind", help="candlesticks, trades or orderbook.")
        ] = "candlesticks",
        interval: Annotated[int, typer.Option("--interval", help="Length of candlesticks in minutes: 1, 60 or 1440.")] = 60,
        series: OneSeries = None,
        event: OneEvent = None,
        market: OneMarket = None,
        missing: Annotated[bool, typer.Option("--missing", help="Only markets of which something is missing.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Say what is stored completely and what is missing, by market; from what was fetched to its end, not from guesses."""
        minutes = interval if kind == "candlesticks" else 0
        # Books cannot be fetched later, so there is no backfill of them; a span is checked as that of trades.
        scope = BackfillScope("trades" if kind == "orderbook" else kind, aware(start), aware(end), minutes, series, event, market)
        with address() as url, postgres.connect(url, autocommit=True) as conn:
            rows = ops.coverage(
                conn,
                kind=kind,
                period_interval_minutes=scope.period_minutes,
                start_ts=scope.start,
                end_ts=scope.end,
                series_ticker=series,
                event_ticker=event,
                market_ticker=market,
            )
            if not rows:
                check_known(conn, scope)
        shown = [row for row in rows if row.missing or not missing]
        if as_json:
            print_json([_coverage_json(row) for row in shown])
            return
        for row in shown:
            share = math.floor(100 * (1 - _length(row.missing) / _length([row.wanted])))  # 100 is all
            gaps = ", ".join(f"{gap.lower:%Y-%m-%d %H:%M} to {gap.upper:%Y-%m-%d %H:%M}" for gap in row.missing)
            out.print(f"{row.market_ticker}  {share} %{f'  missing {gaps}' if gaps else ''}", markup=False)
        complete = sum(not row.missing for row in rows)
        out.print(f"{len(rows):,} markets, {complete:,} complete", style="dim")


def _backfill(
    scope: BackfillScope, address: Address, workers: int, *, dry_run: bool, full_speed: bool, as_json: bool, print_report: Printer
) -> None:
    begun = time.monotonic()
    if dry_run:
        with address() as url, postgres.connect(url, autocommit=True) as conn:
            found = estimate(conn, scope)
        if as_json:
            print_json(dataclasses.asdict(found))
            return
        rows = "" if found.most_rows is None else f", at most {found.most_rows:,} rows (periods in which nothing moved have none)"
        out.print(f"{found.requests:,} requests or more for {found.markets:,} markets in {found.pieces:,} events{rows}")
        return
    with exchange_client(full_speed=full_speed) as client, address() as url, _span_progress(as_json) as (total, window):
        outcome = backfill(
            client,
            lambda: postgres.connect(url, autocommit=True),
            scope,
            workers=workers,
            on_total=total,
            on_window=window,
            is_patient=True,
            on_wait=lambda number: err.print(f"waiting for {number:,} events that others are fetching", style="dim"),
        )
    for ticker in sorted(outcome.unknown):
        err.print(f"no tier of the exchange has {ticker}", style="yellow", markup=False)
    for event, reason in outcome.failed.items():
        err.print(f"{event}: {reason}", style="red", markup=False)
    print_report(total_of(outcome.reports), time.monotonic() - begun, as_json)
    if outcome.failed or outcome.unknown:
        raise typer.Exit(FAILED)


def _length(spans: Iterable[Range[datetime]]) -> timedelta:
    return sum(((span.upper - span.lower) for span in spans if span.upper and span.lower), timedelta())


def _coverage_json(row: CoverageRow) -> dict[str, Any]:
    def spans(ranges: Iterable[Range[datetime]]) -> list[list[str]]:
        return [[span.lower.isoformat(), span.upper.isoformat()] for span in ranges if span.lower and span.upper]

    return {
        "market_ticker": row.market_ticker,
        "event_ticker": row.event_ticker,
        "series_ticker": row.series_ticker,
        "wanted": spans([row.wanted])[0],
        "covered": spans(row.covered),
        "missing": spans(row.missing),
    }


@contextmanager
def _span_progress(quiet: bool) -> Iterator[tuple[Callable[[timedelta], None], Callable[[timedelta, int], None]]]:
    """Show on a terminal how much of the missing spans is fetched, how fast objects come, and how long it will take."""
    with Progress(
        TextColumn("backfill"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[objects]:,} objects"),
        TextColumn("{task.fields[rate]:,.0f}/s"), TimeRemainingColumn(),
        console=err, transient=True, disable=quiet or not err.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("backfill", total=None, objects=0, rate=0.0)
        begun, objects = time.monotonic(), 0

        def window(span: timedelta, count: int) -> None:
            nonlocal objects
            objects += count
            rate = objects / max(time.monotonic() - begun, 0.001)
            progress.update(task, advance=span.total_seconds(), objects=objects, rate=rate)

        yield lambda total: progress.update(task, total=max(total.total_seconds(), 1)), window


@contextmanager
def exchange_client(*, full_speed: bool = False) -> Iterator[ExchangeClient]:
    """Give a client for the exchange of the settings, with their key and its limits.

    Raises:
        SettingsError: half a key, a tier that does not exist, or a key without the extra `keyed`.
    """
    settings = Settings.load()
    tier = settings.kalshi_api_tier
    limit, auth = KEYLESS, signer_of(settings)
    if auth is not None:
        try:
            limit = RateLimit.of_tier(tier or "basic")
        except ValueError as error:
            raise SettingsError(f"KALSHI_API_TIER: {error}") from None
    elif tier is not None:
        raise SettingsError("KALSHI_API_TIER is the tier of an API key: set KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY_FILE too")
    url = settings.kalshi_api_url or BASE_URL
    with ExchangeClient(url, limit=None if full_speed else limit, auth=auth) as client, _stopped_by_ctrl_c(client):
        yield client


@contextmanager
def _stopped_by_ctrl_c(client: ExchangeClient) -> Iterator[None]:
    """Let Ctrl-C end at once whatever waits for an answer, in any thread: the main one would wait for the others."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) != signal.default_int_handler:
        yield  # somebody else decides
        return

    def stop(number: int, frame: FrameType | None) -> None:
        client.stop()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def signer_of(settings: Settings) -> "Signer | None":
    """Return what signs requests with the key of the settings, or None where they have none.

    Raises:
        SettingsError: half a key, one that cannot be read, or one without the extra `keyed`.
    """
    key_id, key_file = settings.kalshi_api_key_id, settings.kalshi_private_key_file
    if (key_id is None) != (key_file is None):
        raise SettingsError("KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY_FILE belong together: set both or none")
    if key_id is None or key_file is None:
        return None
    try:
        from kalshidb.exchange.signing import Signer, SigningError  # noqa: PLC0415  (needs an extra)
    except ImportError as error:
        raise SettingsError(str(error)) from None
    try:
        return Signer(key_id, key_file.expanduser())
    except SigningError as error:
        raise SettingsError(f"KALSHI_PRIVATE_KEY_FILE: {error}") from None


@contextmanager
def _walk_progress(quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """Show what is being asked for and how many objects came, on a terminal."""
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,} objects"), TimeElapsedColumn(),
        console=err, transient=True, disable=quiet or not err.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("asking", total=None)
        yield lambda step: progress.update(task, description=step), lambda count: progress.advance(task, count)
