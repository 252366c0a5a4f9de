"""Asking the exchange for its catalogue, candlesticks, trades and books, once, and taking in every answer.

The walk is simple on purpose: everything of the given series, start to end. Resuming, schedules and the sliding tier cutoff are
the business of backfill and collect.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from kalshidb.exchange.client import Answer, ExchangeClient
from kalshidb.exchange.plain import Page
from kalshidb.exchange.recognise import Hints
from kalshidb.ingest.ahead import ahead
from kalshidb.ingest.arrivals import Arrival
from kalshidb.ingest.intake import Door

MOST_BYTES_AHEAD = 8 << 20
"""Answers that are read while others are written; parsed they take about ten times as much memory."""


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
    intake: Door,
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

    def drain(answers: Iterable[Answer], ticker: str | None = None, period_minutes: int | None = None) -> None:
        for _ in taken(answers, ticker, period_minutes):
            pass

    def taken(answers: Iterable[Answer], ticker: str | None = None, period_minutes: int | None = None) -> Iterator[Any]:
        hints = Hints(market_ticker=ticker, period_interval_minutes=period_minutes)
        return take(intake, answers, hints, seen_at=seen_at)

    on_step("series")
    drain(client.series_list())
    on_step("events and markets")
    events = [
        event["markets"]
        for document in taken(client.events(with_nested_markets=True))
        for event in document["events"]
        if event.get("markets")
    ]
    settled = [market for document in taken(client.historical_markets()) for market in document["markets"]]

    on_step("candlesticks")
    minutes = scope.period_minutes
    for markets in events:
        start, end = _life(markets, scope)
        if start < end:
            tickers = [market["ticker"] for market in markets]
            drain(client.candlesticks_batch(tickers, start, end, minutes), period_minutes=minutes)
    for market in settled:
        start, end = _life([market], scope)
        if start < end:
            ticker = market["ticker"]
            drain(client.historical_candlesticks(ticker, start, end, minutes), ticker, minutes)

    on_step("trades")
    drain(client.trades(start=scope.start, end=scope.end))
    drain(client.historical_trades(start=scope.start, end=scope.end))

    if scope.books:
        on_step("order books")
        active = [market["ticker"] for markets in events for market in markets if market["status"] == "active"]
        if active:
            drain(client.orderbooks(active))


def take(
    intake: Door,
    answers: Iterable[Answer],
    hints: Hints = Hints(),  # noqa: B008  (immutable)
    *,
    seen_at: Callable[[Answer], datetime] = lambda answer: answer.retrieved_at,
    only: tuple[str, Callable[[Any], bool]] | None = None,
) -> Iterator[Any]:
    """Take in answers as they are asked for, the next being read while one is written; yield the document of each once it is taken in.

    Args:
        intake: where they go; each is noted as a request of its run.
        answers: answers of the exchange, asked for lazily.
        hints: what the requests said and the answers leave out.
        seen_at: the time to note for an answer; another than its arrival only where the exchange's clock is not ours.
        only: the name of the list in each document, and which of its objects were wanted; the others are left out.
    """

    def read() -> Iterator[tuple[Arrival, Any, Page | None]]:
        for answer in answers:
            moment = seen_at(answer)
            said = replace(hints, observed_at=moment)
            document, chosen = answer.document, None
            if only is not None and isinstance(document, dict) and isinstance(document.get(only[0]), list):
                document = chosen = document | {
                    only[0]: [one for one in document[only[0]] if not isinstance(one, dict) or only[1](one)]
                }
            arrival = Arrival(answer.url, answer.params, answer.status, moment, answer.body, said, chosen)
            yield arrival, document, intake.read(document, said)

    for arrival, document, page in ahead(read(), MOST_BYTES_AHEAD, lambda made: len(made[0].body)):
        intake.arrive(arrival, document, page)
        yield document


def _life(markets: Sequence[Mapping[str, Any]], scope: Scope) -> tuple[datetime, datetime]:
    """Return the part of the scope in which the markets were open, and one period more: the last candlestick ends after the close."""
    opened = min(datetime.fromisoformat(market["open_time"]) for market in markets)
    closed = max(datetime.fromisoformat(market["close_time"]) for market in markets)
    period = timedelta(minutes=scope.period_minutes)
    return max(scope.start, opened), min(scope.end, closed) + period
