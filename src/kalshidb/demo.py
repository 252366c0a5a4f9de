"""The main job from an empty machine: a simulated exchange is loaded over HTTP and looked at through typed functions.

Everything but the exchange is the real thing: client, models, statements, database. The simulated series have names that no real
series has, so the demo may share a database with real data.
"""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kalshidb.exchange.client import ExchangeClient
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.ingest.intake import Intake, Report
from kalshidb.ingest.pull import Scope, pull
from kalshidb.models.market_data import Candlestick
from kalshidb.queries import market_data, ops

HISTORY = timedelta(days=1000)  # the simulated world is younger
CHART_WIDTH, CHART_HEIGHT = 72, 8


def run(conn: psycopg.Connection[Any], console: Console, *, seed: int = 7, markets: int = 300) -> bool:
    """Load the simulated exchange twice and show what is in the store; return whether everything was stored.

    Args:
        conn: a connection in autocommit mode to a migrated database.
        console: where to show it.
        seed: another seed makes another world.
        markets: how many markets the simulated exchange has.
    """
    with SimulatedExchange(seed=seed, markets=markets) as exchange:
        now = exchange.world.now
        # The simulated clock stands still, so asking again observes nothing new.
        moment = datetime.fromtimestamp(now / 1_000_000, UTC)
        scope = Scope(moment - HISTORY, moment, period_minutes=60)

        def load(title: str) -> Report:
            begun = time.monotonic()
            with (
                ExchangeClient(exchange.base_url, limit=None) as client,
                Intake(conn, f"demo {exchange.base_url}", origin="poll") as intake,
                console.status(title) as status,
            ):
                pull(client, intake, scope, seen_at=lambda _: moment, on_step=lambda step: status.update(f"{title}: {step}"))
            total = intake.report.total
            console.print(
                f"{title}: [bold]{total.written:,} written[/], {total.unchanged:,} unchanged, {total.rejected:,} rejected, "
                f"{time.monotonic() - begun:.1f} s",
                soft_wrap=True,
            )
            return intake.report

        first = load("Loading the simulated exchange over HTTP")
        console.print(counts_table(first))
        show(conn, console, moment)
        second = load("Loading it once more")
    return not first.total.rejected and not second.total.rejected


def counts_table(report: Report) -> Table:
    """Return what became of each kind of object, as a table."""
    table = Table("kind", box=None, header_style="dim", pad_edge=False)
    for name in ("read", "written", "unchanged", "rejected"):
        table.add_column(name, justify="right")
    for kind, counts in report.by_kind.items():
        style = "red" if counts.rejected else None
        table.add_row(kind, *(f"{number:,}" for number in counts.as_dict().values()), style=style)
    return table


def show(conn: psycopg.Connection[Any], console: Console, moment: datetime) -> None:
    """Show the catalogue, the freshest quotes, one market's price and the calibration of prices."""
    console.rule("The catalogue  [dim]ops.catalogue_by_series", align="left")
    table = Table("series", "title", "category", box=None, header_style="dim", pad_edge=False)
    for name in ("events", "markets", "open", "contracts"):
        table.add_column(name, justify="right")
    for series in ops.catalogue_by_series(conn, how_many=8):
        contracts = "" if series.contracts is None else f"{series.contracts:,.0f}"
        table.add_row(
            series.series_ticker, series.title, series.category,
            f"{series.events:,}", f"{series.markets:,}", f"{series.open_markets:,}", contracts,
        )  # fmt: skip
    console.print(table)

    console.rule("The freshest quotes  [dim]market_data.freshest_quotes", align="left")
    quotes = market_data.freshest_quotes(conn, how_many=8)
    table = Table("market", "YES means", box=None, header_style="dim", pad_edge=False)
    for name in ("bid", "ask", "last", "implied", "contracts"):
        table.add_column(name, justify="right")
    for quote in quotes:
        implied = "" if quote.implied_probability is None else f"{quote.implied_probability:.1%}"
        table.add_row(
            quote.market_ticker, quote.yes_sub_title, _dollars(quote.yes_bid), _dollars(quote.yes_ask), _dollars(quote.last_price),
            implied, "" if quote.volume is None else f"{quote.volume:,.2f}",
        )  # fmt: skip
    console.print(table)

    if quotes:
        ticker = quotes[0].market_ticker
        candles = market_data.candlesticks_between(
            conn, market_ticker=ticker, period_interval_minutes=60, start_ts=moment - HISTORY, end_ts=moment + timedelta(hours=1)
        )
        console.rule(f"The price of {ticker}  [dim]market_data.candlesticks_between", align="left")
        console.print(price_chart(candles))

    console.rule("Do prices tell the truth?  [dim]market_data.calibration", align="left")
    table = Table("price of YES", box=None, header_style="dim", pad_edge=False)
    for name in ("trades", "mean price", "came true"):
        table.add_column(name, justify="right")
    table.add_column("")
    width = Decimal("0.1")
    for row in market_data.calibration(conn, bin_width=width, start_time=None, end_time=None):
        table.add_row(
            f"{row.price_from:.2f} to {row.price_from + width:.2f}", f"{row.trades:,}", f"{row.mean_price:.1%}",
            f"{row.yes_share:.1%}", Text("█" * round(row.yes_share * 30), style="cyan"),
        )  # fmt: skip
    console.print(table)


def price_chart(candles: list[Candlestick]) -> Text:
    """Return the middle of the quotes over time as a chart of text; periods without a quote on both sides leave a gap."""
    points = [
        (candle.end_period_ts, (candle.yes_bid_close + candle.yes_ask_close) / 2)
        for candle in candles
        if candle.yes_bid_close is not None and candle.yes_ask_close is not None
        # An empty side is quoted as 0 or 1: the middle of that is no price.
        and candle.yes_bid_close > 0 and candle.yes_ask_close < 1
    ]  # fmt: skip
    if len(points) < 2:
        return Text("not enough quotes for a chart", style="dim")
    (begin, _), (end, _) = points[0], points[-1]
    low, high = min(price for _, price in points), max(price for _, price in points)
    span = high - low or Decimal("0.01")
    grid = [[" "] * CHART_WIDTH for _ in range(CHART_HEIGHT)]
    for at, price in points:
        column = round((at - begin) / (end - begin) * (CHART_WIDTH - 1))
        level = int((price - low) / span * (CHART_HEIGHT * 2 - 1))
        row, upper = CHART_HEIGHT - 1 - level // 2, level % 2
        old = grid[row][column]
        grid[row][column] = "█" if {old, "▀" if upper else "▄"} == {"▀", "▄"} or old == "█" else ("▀" if upper else "▄")
    chart = Text()
    for number, line in enumerate(grid):
        label = _dollars(high) if number == 0 else _dollars(low) if number == CHART_HEIGHT - 1 else ""
        chart.append(f"{label:>6} ", style="dim").append("".join(line) + "\n", style="cyan")
    axis = f"{f'{begin:%d %b %H:%M}':<{CHART_WIDTH - 16}}{f'{end:%d %b %H:%M} UTC':>16}"
    return chart.append(f"{'':7}{axis}", style="dim")


def _dollars(price: Decimal | None) -> str:
    return "" if price is None else f"{price:.3f}".removesuffix("0")
