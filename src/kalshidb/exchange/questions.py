"""Which requests a question to the exchange takes: paths, parameters, and the limits that cut a long question into several requests.

No I/O, and nothing about answers. `Endpoints` names the public read endpoints once; what a question comes back as depends on who
is asked: answers from a client, one after the other or awaited, and the bare requests from `REQUESTS`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import quote

PAGE_SIZE = 1_000
EVENT_PAGE_SIZE = 200
MAX_PERIODS = 5_000
MAX_BATCH_CANDLES = 10_000
MAX_BATCH_TICKERS = 100
MAX_LISTED_TICKERS = 200
"""Tickers in one `tickers=` list; the exchange sets no number, this keeps URLs below 8 KB."""

Moment = datetime | int
"""An aware time, or epoch seconds."""
Parameter = str | int | bool | datetime | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Request:
    """A read below the base URL.

    Attributes:
        path: below the base URL.
        params: names may come twice.
        items: the name of the list in each page of an answer that comes in pages.
        cut: the name under which an answer that cut the range says where; the rest is asked for from there.
            Without `items` and `cut` there is one answer.
        holds: names, at least one of which an answer has; without `items`, which is the one. An answer with none of them, or with
            something else there, is none to this question. Empty: any JSON will do.
        of: what stands under these names: a list (null is an empty one), an object, or anything.
    """

    path: str
    params: tuple[tuple[str, str], ...] = ()
    items: str | None = None
    cut: str | None = None
    holds: tuple[str, ...] = ()
    of: type = list


def request(path: str, items: str | None = None, cut: str | None = None, /, **params: Parameter) -> Request:
    """Return a request. None is left out, times become epoch seconds, sequences comma lists.

    Raises:
        ValueError: a time without a zone; an empty text or list, which the exchange would take for "all".
    """
    written = tuple((name, _text(value)) for name, value in params.items() if value is not None)
    for name, text in written:
        if not text:
            raise ValueError(f"{name} is empty, which the exchange would take for all")
    return Request(path, written, items, cut)


def epoch_seconds(moment: Moment, *, up: bool = False) -> int:
    """Return whole seconds since 1970, rounded down, or up if asked.

    Raises:
        ValueError: the time carries no zone, so nobody knows when it is.
    """
    if isinstance(moment, int):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {moment}")
    seconds = moment.timestamp()
    return math.ceil(seconds) if up else math.floor(seconds)


def candlestick_windows(start: Moment, end: Moment, period_minutes: int, periods: int) -> Iterator[tuple[int, int]]:
    """Cut a range into windows of at most so many periods: first and last second, both inclusive, without overlap.

    Raises:
        ValueError: the range is backwards, or the period is not 1, 60 or 1440 minutes. (Asked in a batch for another
            period, the exchange would answer an empty list.)
    """
    if period_minutes not in {1, 60, 1440}:
        raise ValueError(f"candles have 1, 60 or 1440 minutes, not {period_minutes}")
    first, last = epoch_seconds(start, up=True), epoch_seconds(end)
    if last < first:
        raise ValueError(f"a range that ends before it starts: {start} to {end}")
    width = periods * period_minutes * 60
    return ((begin, min(begin + width - 1, last)) for begin in range(first, last + 1, width))


def candlestick_requests(path: str, start: Moment, end: Moment, period_minutes: int) -> Iterator[Request]:
    """Return the requests for the candles of one market whose period ends within [start, end]."""
    # One period less than allowed: how the exchange rounds a range is not documented.
    windows = candlestick_windows(start, end, period_minutes, MAX_PERIODS - 1)
    return (
        replace(request(path, start_ts=first, end_ts=last, period_interval=period_minutes), holds=("candlesticks",))
        for first, last in windows
    )


def batch_candlestick_requests(tickers: Sequence[str], start: Moment, end: Moment, period_minutes: int) -> Iterator[Request]:
    """Return the requests for the candles of many markets: at most 100 markets and 10,000 candles each."""
    candlestick_windows(start, end, period_minutes, 1)  # what cannot be is refused here, not at the first answer
    return (
        replace(
            request("/markets/candlesticks", market_tickers=some, start_ts=first, end_ts=last, period_interval=period_minutes),
            holds=("markets",),
        )
        for some in chunks(tickers, MAX_BATCH_TICKERS)
        for first, last in candlestick_windows(start, end, period_minutes, batch_periods(len(some)))
    )


def batch_periods(tickers: int) -> int:
    """Return for how many periods so many markets may be asked together; one less than allowed, as everywhere."""
    return min(MAX_PERIODS, MAX_BATCH_CANDLES // tickers) - 1


def orderbook_requests(tickers: Sequence[str], depth: int | None = None) -> Iterator[Request]:
    """Return the requests for many order books. Here tickers are repeated: a comma list answers one empty book."""
    for some in chunks(tickers, MAX_BATCH_TICKERS):
        named = tuple(("tickers", ticker) for ticker in some)
        yield Request("/markets/orderbooks", named + request("", depth=depth).params, holds=("orderbooks",))


def chunks(tickers: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a list into pieces of at most `size`."""
    return (tickers[begin : begin + size] for begin in range(0, len(tickers), size))


def segment(ticker: str) -> str:
    """Return a ticker as a part of a path.

    Raises:
        ValueError: it is empty; the path would mean something else.
    """
    if not ticker:
        raise ValueError("an empty ticker")
    return quote(ticker, safe="")


def _text(value: Parameter) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return str(epoch_seconds(value))
    if isinstance(value, str | int):
        return str(value)
    return ",".join(value or ())


One = TypeVar("One")
Many = TypeVar("Many")


class Endpoints(ABC, Generic[One, Many]):
    """The public read endpoints. `One` is what a question with one answer comes back as, `Many` what any other does.

    All raise ValueError for what cannot be asked: an empty ticker, a time without a zone, a range that ends before it starts.
    """

    @abstractmethod
    def _one(self, question: Request) -> One:
        """Ask a question that has one answer."""

    @abstractmethod
    def _many(self, questions: Iterable[Request]) -> Many:
        """Ask questions in order, each to its last page."""

    # Any path.

    def get(self, path: str, **params: Parameter) -> One:
        """Return the answer to one read, such as `get("/markets", status="open")`."""
        return self._one(request(path, **params))

    def pages(self, path: str, *, items: str, **params: Parameter) -> Many:
        """Return every page of a list; `items` is its name in the document, such as `markets`.

        A cursor that comes twice, pages without end and a page without the list are errors: an incomplete list never
        looks like a complete one.
        """
        return self._many([request(path, items, **params)])

    def _alone(self, question: Request, *names: str, of: type = dict) -> One:
        return self._one(replace(question, holds=names, of=of))

    # The exchange, series and events.

    def status(self) -> One:
        """Return whether the exchange is open: `exchange_active`, `trading_active`."""
        return self.get("/exchange/status")

    def historical_cutoff(self) -> One:
        """Return the times before which markets and trades are only in the historical tier; they move on every day."""
        return self._alone(request("/historical/cutoff"), "trades_created_ts", of=object)

    def series_list(self, *, category: str | None = None, tags: Sequence[str] | None = None) -> Many:
        """Return all series, in one answer of several megabytes."""
        return self._many([replace(request("/series", category=category, tags=tags), holds=("series",))])

    def series(self, ticker: str) -> One:
        """Return one series."""
        return self._alone(request(f"/series/{segment(ticker)}"), "series")

    def events(self, *, status: str | None = None, series_ticker: str | None = None, with_nested_markets: bool = False) -> Many:
        """Return events of both tiers, 200 a page; nested markets only of the live tier.

        `status` is `unopened`, `open`, `closed` or `settled`. Multivariate events are not among them.
        """
        return self.pages(
            "/events",
            items="events",
            limit=EVENT_PAGE_SIZE,
            status=status,
            series_ticker=series_ticker,
            with_nested_markets=with_nested_markets or None,
        )

    def multivariate_events(self, *, series_ticker: str | None = None, with_nested_markets: bool = False) -> Many:
        """Return the events of combinations, 200 a page; there is no filter by status."""
        return self.pages(
            "/events/multivariate",
            items="events",
            limit=EVENT_PAGE_SIZE,
            series_ticker=series_ticker,
            with_nested_markets=with_nested_markets or None,
        )

    def event(self, ticker: str, *, with_nested_markets: bool = False) -> One:
        """Return one event; its markets are beside it, or within if asked."""
        return self._alone(request(f"/events/{segment(ticker)}", with_nested_markets=with_nested_markets or None), "event")

    # Markets.

    def markets(
        self,
        *,
        status: str | None = None,
        series_ticker: str | None = None,
        event_ticker: str | None = None,
        min_close: Moment | None = None,
        max_close: Moment | None = None,
        min_settled: Moment | None = None,
        mve_filter: str | None = "exclude",
    ) -> Many:
        """Return markets of the live tier, 1,000 a page; `markets_named` asks for single ones.

        `status` is a word of the filter (`unopened`, `open`, `paused`, `closed`, `settled`), not of the market object. The exchange
        takes times of closing with `closed` or no status, and `min_settled` with `settled` or none.
        Multivariate combinations, most of all open markets, are left out unless `mve_filter` is None or `only`.
        """
        return self.pages(
            "/markets",
            items="markets",
            limit=PAGE_SIZE,
            status=status,
            series_ticker=series_ticker,
            event_ticker=event_ticker,
            min_close_ts=None if min_close is None else epoch_seconds(min_close),
            max_close_ts=None if max_close is None else epoch_seconds(max_close, up=True),
            min_settled_ts=None if min_settled is None else epoch_seconds(min_settled),
            mve_filter=mve_filter,
        )

    def markets_named(self, tickers: Sequence[str], *, historical: bool = False) -> Many:
        """Return the markets of these tickers that are in the tier; the exchange leaves out the others silently."""
        path = "/historical/markets" if historical else "/markets"
        return self._many(request(path, "markets", limit=PAGE_SIZE, tickers=some) for some in chunks(tickers, MAX_LISTED_TICKERS))

    def market(self, ticker: str) -> One:
        """Return one market of the live tier; 404 if it is historical."""
        return self._alone(request(f"/markets/{segment(ticker)}"), "market")

    def historical_markets(self, *, series_ticker: str | None = None, event_ticker: str | None = None) -> Many:
        """Return markets of the historical tier, 1,000 a page; one filter or none, and none by time."""
        return self.pages(
            "/historical/markets",
            items="markets",
            limit=PAGE_SIZE,
            series_ticker=series_ticker,
            event_ticker=event_ticker,
        )

    def historical_market(self, ticker: str) -> One:
        """Return one market of the historical tier; 404 if it is live."""
        return self._alone(request(f"/historical/markets/{segment(ticker)}"), "market")

    # Candles. Those whose period ends within [start, end]; the last of a market ends one period after its close.

    def candlesticks(self, series_ticker: str, market_ticker: str, start: Moment, end: Moment, period_minutes: int) -> Many:
        """Return the candles of one live market, in as many windows as the limit of 5,000 periods asks for.

        Periods without a trade or a move of the quote have no candle. ValueError: a range or period that cannot be.
        """
        path = f"/series/{segment(series_ticker)}/markets/{segment(market_ticker)}/candlesticks"
        return self._many(candlestick_requests(path, start, end, period_minutes))

    def historical_candlesticks(self, market_ticker: str, start: Moment, end: Moment, period_minutes: int) -> Many:
        """Return the candles of one historical market; its fields have other names than those of a live one."""
        path = f"/historical/markets/{segment(market_ticker)}/candlesticks"
        return self._many(candlestick_requests(path, start, end, period_minutes))

    def candlesticks_batch(self, market_tickers: Sequence[str], start: Moment, end: Moment, period_minutes: int) -> Many:
        """Return the candles of many live markets, cut by tickers and windows to 100 markets and 10,000 candles."""
        return self._many(batch_candlestick_requests(market_tickers, start, end, period_minutes))

    def event_candlesticks(self, series_ticker: str, event_ticker: str, start: Moment, end: Moment, period_minutes: int) -> Many:
        """Return the candles of all live markets of an event: parallel lists of tickers and candles.

        The exchange cuts a long range and says where; the rest is asked for until the end is reached.
        """
        path = f"/series/{segment(series_ticker)}/events/{segment(event_ticker)}/candlesticks"
        ((first, last),) = candlestick_windows(start, end, period_minutes, 10**9)
        question = request(path, None, "adjusted_end_ts", start_ts=first, end_ts=last, period_interval=period_minutes)
        return self._many([replace(question, holds=("market_candlesticks",))])

    # Trades and order books.

    def trades(self, ticker: str | None = None, *, start: Moment | None = None, end: Moment | None = None) -> Many:
        """Return the trades of the live tier, newest first, 1,000 a page: at least all with start <= time < end.

        The exchange compares whole seconds and leaves out the bounds, so up to a second more comes on both sides.
        Trades are told apart by `trade_id` alone.
        """
        return self._trades("/markets/trades", ticker, start, end)

    def historical_trades(self, ticker: str | None = None, *, start: Moment | None = None, end: Moment | None = None) -> Many:
        """Return the trades from before the cutoff, as `trades` does; also those of markets that are still live."""
        return self._trades("/historical/trades", ticker, start, end)

    def _trades(self, path: str, ticker: str | None, start: Moment | None, end: Moment | None) -> Many:
        return self.pages(
            path,
            items="trades",
            limit=PAGE_SIZE,
            ticker=ticker,
            min_ts=None if start is None else epoch_seconds(start) - 1,
            max_ts=None if end is None else epoch_seconds(end, up=True),
        )

    def orderbook(self, ticker: str, *, depth: int | None = None) -> One:
        """Return the bids of both sides of one market, the `depth` best (None: all). Past books cannot be asked for."""
        return self._alone(request(f"/markets/{segment(ticker)}/orderbook", depth=depth), "orderbook", "orderbook_fp")

    def orderbooks(self, tickers: Sequence[str], *, depth: int | None = None) -> Many:
        """Return the order books of many markets, 100 an answer."""
        return self._many(orderbook_requests(tickers, depth))


class _Requests(Endpoints[Request, Iterable[Request]]):
    def _one(self, question: Request) -> Request:
        return question

    def _many(self, questions: Iterable[Request]) -> Iterable[Request]:
        return questions


REQUESTS = _Requests()
"""The requests that a question takes, asked of nobody: `REQUESTS.markets(status="open")`."""
