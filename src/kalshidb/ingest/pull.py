"""Asking the exchange for its catalogue, candlesticks, trades and books, once, and taking in every answer.

The walk is simple on purpose: everything of the given series, start to end. Resuming, schedules and the sliding tier cutoff are
the business of backfill and collect.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kalshidb.exchange.client import Answer, ExchangeClient
from kalshidb.exchange.recognise import Hints
from kalshidb.ingest.intake import Intake

TICKERS_A_STEP = 100  # what one batch answer takes


@dataclass(frozen=True, slots=True)
class Scope:
    """What to ask for.

    Attributes:
        start, end: candlesticks and trades of [start, end).
        period_minutes: length of the candlesticks: 1, 60 or 1440.
        books: whether to ask for the order books of open markets.
    """

    start: datetime
    end: datetime
    period_minutes: int = 60
    books: bool = True


def pull(
    client: ExchangeClient,
    intake: Intake,
    scope: Scope,
    *,
    seen_at: Callable[[Answer], datetime] = lambda answer: answer.retrieved_at,
    on_step: Callable[[str], object] = lambda _: None,
) -> None:
    """Ask for everything in scope and take it in.

    Args:
        client: the exchange, real or simulated.
        intake: where the answers go.
        scope: what to ask for.
        seen_at: the time to note for an answer; another than its arrival only where the exchange's clock is not ours.
        on_step: called with a word on what is being asked for.

    Raises:
        kalshidb.exchange.client.ExchangeError: the exchange refuses, or stays out of reach after all retries.
    """

    def take(answers: Iterable[Answer], period_minutes: int | None = None) -> Iterator[Answer]:
        for answer in answers:
            moment = seen_at(answer)
            hints = Hints(period_interval_minutes=period_minutes, observed_at=moment)
            intake.take(answer.document, answer.url, hints, moment)
            yield answer

    def drain(answers: Iterator[Answer]) -> None:
        for _ in answers:
            pass

    on_step("series")
    drain(take(client.series_list()))
    on_step("events")
    live: dict[str, str] = {}
    for answer in take(client.events(with_nested_markets=True)):
        for event in answer.document["events"]:
            live.update({market["ticker"]: market["status"] for market in event.get("markets") or ()})
    on_step("settled markets")
    historical = [market["ticker"] for answer in take(client.historical_markets()) for market in answer.document["markets"]]

    on_step("candlesticks")
    end = scope.end + timedelta(minutes=scope.period_minutes)  # a market's last candlestick ends one period after its close
    for tickers in _steps(list(live)):
        drain(take(client.candlesticks_batch(tickers, scope.start, end, scope.period_minutes), scope.period_minutes))
    for ticker in historical:
        for answer in client.historical_candlesticks(ticker, scope.start, end, scope.period_minutes):
            moment = seen_at(answer)
            hints = Hints(market_ticker=ticker, period_interval_minutes=scope.period_minutes, observed_at=moment)
            intake.take(answer.document, answer.url, hints, moment)

    on_step("trades")
    drain(take(client.trades(start=scope.start, end=scope.end)))
    drain(take(client.historical_trades(start=scope.start, end=scope.end)))

    if scope.books:
        on_step("order books")
        drain(take(client.orderbooks([ticker for ticker, status in live.items() if status == "active"])))


def _steps(tickers: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(tickers), TICKERS_A_STEP):
        yield tickers[at : at + TICKERS_A_STEP]
