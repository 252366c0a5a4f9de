"""The commands that ask the exchange: `kalshidb sync-markets`. Thin, as kalshidb.cli is: they read arguments, call kalshidb.ingest
and print. Registered by kalshidb.cli, which turns errors into one line.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kalshidb.exchange.client import BASE_URL, KEYLESS, ExchangeClient, RateLimit
from kalshidb.ingest.intake import Intake, Report
from kalshidb.ingest.sync import STATUSES, UNSETTLED, SyncScope, sync_markets
from kalshidb.settings import Settings, SettingsError

err = Console(stderr=True, highlight=False, soft_wrap=True)

Store = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
Printer = Callable[[Report, float, bool], None]
FullSpeed = Annotated[
    bool, typer.Option("--full-speed", help="Ask as fast as answers come: for a simulated exchange, never for the real one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def register(app: typer.Typer, store: Store, print_report: Printer) -> None:
    """Add the commands to the application.

    Args:
        app: where to.
        store: gives a connection in autocommit mode to a migrated database.
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
            store() as conn,
            Intake(conn, f"sync-markets {client.base_url}", origin="poll") as intake,
            _walk_progress(as_json) as (step, page),
        ):
            sync_markets(client, conn, intake, scope, on_step=step, on_page=page)
        print_report(intake.report, time.monotonic() - begun, as_json)


@contextmanager
def exchange_client(*, full_speed: bool = False) -> Iterator[ExchangeClient]:
    """Give a client for the exchange of the settings, with their key and its limits.

    Raises:
        SettingsError: half a key, a tier that does not exist, or a key without the extra `keyed`.
    """
    settings = Settings.load()
    key_id, key_file, tier = settings.kalshi_api_key_id, settings.kalshi_private_key_file, settings.kalshi_api_tier
    if (key_id is None) != (key_file is None):
        raise SettingsError("KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY_FILE belong together: set both or none")
    limit, auth = KEYLESS, None
    if key_id is not None and key_file is not None:
        auth = _signer(key_id, key_file)
        try:
            limit = RateLimit.of_tier(tier or "basic")
        except ValueError as error:
            raise SettingsError(f"KALSHI_API_TIER: {error}") from None
    elif tier is not None:
        raise SettingsError("KALSHI_API_TIER is the tier of an API key: set KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY_FILE too")
    url = settings.kalshi_api_url or BASE_URL
    with ExchangeClient(url, limit=None if full_speed else limit, auth=auth) as client:
        yield client


def _signer(key_id: str, key_file: Path) -> Any:  # noqa: ANN401  (a class of an extra)
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
