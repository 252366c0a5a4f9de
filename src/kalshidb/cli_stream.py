"""The commands around the websocket: `kalshidb stream` and `orderbook`. Thin, as kalshidb.cli is, which registers them."""

import asyncio
import json
import os
import signal
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kalshidb import postgres
from kalshidb.cli_collect import SpoolFolder, database, spool_folder
from kalshidb.cli_ingest import signer_of
from kalshidb.ingest.landing import Landing
from kalshidb.ingest.spool import Spool
from kalshidb.models.market_data import OrderbookAtRow
from kalshidb.queries import market_data
from kalshidb.settings import Settings, SettingsError
from kalshidb.terminal import (
    FAILED,
    HEALTH_STYLES,
    MOMENTS,
    REJECTED,
    Address,
    AsJson,
    aware,
    err,
    log_to_stderr,
    out,
    print_json,
)

if TYPE_CHECKING:
    from kalshidb.ingest.stream import Health, Selection, Tally


def register(app: typer.Typer, address: Address) -> None:
    """Add the commands to the application.

    Args:
        app: where to.
        address: gives the address of a migrated database, which is there as long as the block.
    """

    @app.command()
    def stream(
        *,
        market: Annotated[
            list[str] | None, typer.Option("--market", "--ticker", help="This market, with its order book; again for several.")
        ] = None,
        series: Annotated[list[str] | None, typer.Option("--series", help="The open markets of this series, likewise.")] = None,
        event: Annotated[list[str] | None, typer.Option("--event", help="The open markets of this event, likewise.")] = None,
        all_open: Annotated[
            bool, typer.Option("--all-open", help="Quotes and trades of all markets, though some are named for their books.")
        ] = False,
        channels: Annotated[
            str | None,
            typer.Option(
                "--channels",
                help="Only these, with commas between: ticker, trade, market_lifecycle_v2, multivariate_market_lifecycle, orderbook_delta.",
            ),
        ] = None,
        with_combos: Annotated[bool, typer.Option("--with-combos", help="Also quotes and lives of combinations.")] = False,
        spool: SpoolFolder = None,
        as_json: AsJson = False,
    ) -> None:
        """Write down what the websocket tells: quotes, trades, lives of markets, and order books of markets that are named.

        Without names quotes, trades and lives of all markets. Ends with SIGTERM or Ctrl-C, and loses nothing that was received.
        """
        try:
            from kalshidb.ingest.stream import Selection, SelectionError  # noqa: PLC0415  (needs an extra)
        except ImportError as error:
            raise SettingsError(str(error)) from None
        try:
            selection = Selection(
                markets=tuple(market or ()),
                series=tuple(series or ()),
                events=tuple(event or ()),
                channels=tuple(name.strip() for name in channels.split(",") if name.strip()) if channels else (),
                everything=all_open,
                with_combos=with_combos,
            )
        except SelectionError as error:
            raise typer.BadParameter(str(error), param_hint="--channels") from None
        _stream(selection, address, spool, as_json=as_json)

    @app.command()
    def orderbook(
        ticker: Annotated[str, typer.Argument(help="The market.")],
        at: Annotated[datetime | None, typer.Option("--at", formats=MOMENTS, help="When, UTC; default: now.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Show the order book of a market at a moment, and what is known of it. Status 1 when nothing is stored of it until then."""
        with address() as url, postgres.connect(url, autocommit=True) as conn:
            found = market_data.orderbook_at(conn, market_ticker=ticker, moment=aware(at))
        if as_json:
            print_json(json.loads(found.model_dump_json()))
        else:
            _print_book(found)
        if found.status == "none":
            raise typer.Exit(FAILED)


def _stream(selection: "Selection", address: Address, spool: Path | None, *, as_json: bool) -> None:
    from kalshidb.exchange.stream import WEBSOCKET_URL, Stream, StreamError  # noqa: PLC0415  (needs an extra)
    from kalshidb.ingest.stream import Recorder  # noqa: PLC0415

    log_to_stderr()
    settings = Settings.load()
    signer = signer_of(settings)
    url = settings.kalshi_websocket_url or WEBSOCKET_URL
    with database(address) as (database_url, connect):

        async def listen() -> Landing:
            source = Stream(selection.wanted(()), url=url, sign=None if signer is None else signer.headers)
            landing = Landing(
                connect,
                Spool(spool_folder(database_url, spool)),
                f"stream {url}",
                origin="websocket",
                stop=lambda: source.is_stopped,
            )

            def end(number: int) -> None:
                if source.is_stopped:
                    os._exit(128 + number)  # asked twice: at once; what is spooled stays
                source.stop()

            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, end, number)
            recorder = Recorder(landing, source, selection, on_minute=lambda *said: _print_minute(*said, as_json=as_json))
            await recorder.run()
            _print_minute(recorder.tally, *recorder.health, as_json=as_json)
            return landing

        try:
            landing = asyncio.run(listen())
        except StreamError as error:
            err.print(f"kalshidb: {error}", style="red", markup=False)
            raise typer.Exit(FAILED) from None
    total = landing.report.total
    if as_json:
        line: dict[str, Any] = {"run_id": landing.report.run_id, **total.as_dict(), "not_stored": landing.report.not_stored}
        print(json.dumps(line | {"spooled": landing.spooled}), flush=True)  # noqa: T201
    else:
        out.print(
            f"run {landing.report.run_id}: {total.read:,} read, {total.written:,} written, {total.unchanged:,} unchanged, "
            f"{total.rejected:,} rejected, {landing.spooled:,} spooled"
        )
    if total.rejected:
        raise typer.Exit(REJECTED)


def _print_minute(tally: "Tally", health: "Health", why: str | None, *, as_json: bool) -> None:
    now = datetime.now(UTC)
    if as_json:
        line = {"at": now.isoformat(), "status": health, "frames": tally.frames, "gaps": tally.gaps, "repaired": tally.repaired}
        print(json.dumps(line | {"broken": tally.broken, "left_out": tally.left_out, "error": why}), flush=True)  # noqa: T201
        return
    gaps = f", {tally.gaps:,} gaps ({tally.repaired:,} repaired)" if tally.gaps else ""
    err.print(
        f"{now:%Y-%m-%d %H:%M:%S} UTC  stream {health}: {tally.frames:,} frames{gaps}{f', {why}' if why else ''}",
        style=HEALTH_STYLES[health],
        markup=False,
    )


def _print_book(book: OrderbookAtRow) -> None:
    moment = f"{book.moment:%Y-%m-%d %H:%M:%S.%f} UTC"
    if book.as_of is None:
        since = f"the first is of {book.earliest:%Y-%m-%d %H:%M:%S.%f} UTC" if book.earliest else "nor later"
        out.print(f"{book.market_ticker} at {moment}: nothing is stored of its order book until then; {since}", markup=False)
        return
    known = (
        "known"
        if book.status == "known"
        else f"last seen {book.as_of:%Y-%m-%d %H:%M:%S.%f} UTC, {(book.moment - book.as_of).total_seconds():,.1f} s before"
    )
    out.print(f"{book.market_ticker} at {moment}: {known} ({book.source})", markup=False)
    for side, prices, quantities in (
        ("yes", book.yes_bid_prices, book.yes_bid_quantities),
        ("no", book.no_bid_prices, book.no_bid_quantities),
    ):
        levels = [
            (price, quantity)
            for price, quantity in zip(prices or (), quantities or (), strict=True)
            if price is not None and quantity is not None
        ]
        out.print(f"  bids for {side}" if levels else f"  nobody bids for {side}")
        for price, quantity in reversed(levels):
            out.print(f"    {_plain(price):>8}  {quantity:>16,}")


def _plain(price: Decimal) -> str:
    """Return a price with four decimals, or with those that it has."""
    return f"{price:.4f}" if price == round(price, 4) else f"{price:f}"
