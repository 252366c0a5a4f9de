"""The HTTP client of the exchange: one answer at a time, as it came.

It knows the limits of the public read endpoints, follows cursors, waits and tries again; what an answer means is the
business of the models. Bodies are kept byte for byte. The first half of this module is arithmetic without I/O (which
requests a question takes, when to try again, when paging has gone wrong); only `ExchangeClient` opens connections.
"""

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from kalshidb import __version__

BASE_URL = "https://external-api.kalshi.com/trade-api/v2"

PAGE_SIZE = 1_000
EVENT_PAGE_SIZE = 200
MAX_PERIODS = 5_000
MAX_BATCH_CANDLES = 10_000
MAX_BATCH_TICKERS = 100
MAX_LISTED_TICKERS = 200
"""Tickers in one `tickers=` list; the exchange sets no number, this keeps URLs below 8 KB."""
MAX_PAGES = 100_000
MAX_EMPTY_PAGES = 10

KEYLESS_PER_SECOND = 5.0
"""Requests a second without an API key that were never refused; the exchange documents no number."""
TOKENS_A_REQUEST = 10
TIERS = {"basic": 200, "advanced": 300, "expert": 600, "premier": 1_000, "paragon": 2_000, "prime": 4_000, "prestige": 6_000}
"""Read tokens a second of the exchange's tiers of API keys; the bucket holds two seconds' worth. A read costs 10."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0

Moment = datetime | int
"""An aware time, or epoch seconds."""
Parameter = str | int | bool | datetime | Sequence[str] | None

log = logging.getLogger(__name__)


class ExchangeError(Exception):
    """The exchange refused, could not be reached, or answered in a way that must not be taken for data.

    `status` is None when there was no usable answer; `code` and `message` are the exchange's words where it sent some.
    """

    def __init__(self, status: int | None, code: str, message: str, url: str) -> None:
        """Say what failed and where."""
        super().__init__(f"{url}: {status or 'no answer'}: {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.url = url


class _Unread:
    """What a document is before somebody reads it."""


_UNREAD = _Unread()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the exchange, as it came.

    `url` is without the query; `params` are the parameters, repeated ones joined by commas; `retrieved_at` is when the
    whole answer had arrived, UTC.
    """

    url: str
    params: Mapping[str, str]
    status: int
    body: bytes
    retrieved_at: datetime
    _document: Any = field(default=_UNREAD, init=False, repr=False, compare=False)

    @property
    def document(self) -> Any:  # noqa: ANN401 -- whatever JSON it is; the models decide
        """The parsed body; fractions are decimals, never floats. Parsed once.

        Raises:
            ExchangeError: the body is no JSON.
        """
        if self._document is _UNREAD:
            try:
                document = json.loads(self.body, parse_float=Decimal)
            except ValueError as error:
                raise ExchangeError(self.status, "no_json", str(error), self.url) from error
            object.__setattr__(self, "_document", document)
        return self._document


# Which requests a question takes.


@dataclass(frozen=True, slots=True)
class Request:
    """A read below the base URL. `items` names the list in each page of a paged answer; None: there is one answer."""

    path: str
    params: tuple[tuple[str, str], ...] = ()
    items: str | None = None


def request(path: str, items: str | None = None, /, **params: Parameter) -> Request:
    """Return a request. None is left out, times become epoch seconds, sequences comma lists.

    Raises:
        ValueError: a time without a zone; an empty text or list, which the exchange would take for "all".
    """
    written = tuple((name, _text(value)) for name, value in params.items() if value is not None)
    for name, text in written:
        if not text:
            raise ValueError(f"{name} is empty, which the exchange would take for all")
    return Request(path, written, items)


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
    return (request(path, start_ts=first, end_ts=last, period_interval=period_minutes) for first, last in windows)


def batch_candlestick_requests(tickers: Sequence[str], start: Moment, end: Moment, period_minutes: int) -> Iterator[Request]:
    """Return the requests for the candles of many markets: at most 100 markets and 10,000 candles each."""
    candlestick_windows(start, end, period_minutes, 1)  # what cannot be is refused here, not at the first answer
    return (
        request("/markets/candlesticks", market_tickers=some, start_ts=first, end_ts=last, period_interval=period_minutes)
        for some in chunks(tickers, MAX_BATCH_TICKERS)
        for first, last in candlestick_windows(start, end, period_minutes, _batch_periods(len(some)))
    )


def _batch_periods(tickers: int) -> int:
    return min(MAX_PERIODS, MAX_BATCH_CANDLES // tickers) - 1


def orderbook_requests(tickers: Sequence[str], depth: int | None = None) -> Iterator[Request]:
    """Return the requests for many order books. Here tickers are repeated: a comma list answers one empty book."""
    for some in chunks(tickers, MAX_BATCH_TICKERS):
        named = tuple(("tickers", ticker) for ticker in some)
        yield Request("/markets/orderbooks", named + request("", depth=depth).params)


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


# When something went wrong.


def is_passing(status: int) -> bool:
    """Whether the same request may succeed later: too many requests, or a fault of the server."""
    return status == 429 or status >= 500


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How fast requests may go: so many a second over time, and at most `burst` at once after a rest."""

    per_second: float
    burst: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a limit under which nothing is ever sent."""
        if not self.per_second > 0 or not self.burst >= 1:
            raise ValueError(f"a rate limit needs a positive rate and a burst of at least 1: {self}")

    @classmethod
    def of_tier(cls, tier: str) -> Self:
        """Return the limit of a tier of API keys.

        Raises:
            ValueError: there is no such tier.
        """
        if tier not in TIERS:
            raise ValueError(f"no tier {tier!r}; there are {', '.join(TIERS)}")
        per_second = TIERS[tier] / TOKENS_A_REQUEST
        return cls(per_second, 2 * per_second)


KEYLESS = RateLimit(KEYLESS_PER_SECOND)


class TokenBucket:
    """When the next request may go; no I/O. Give it the time, it answers how long to wait."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        """Begin with a full bucket."""
        self._limit = limit
        self._tokens = limit.burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one request's worth and return the seconds until it may be sent."""
        self._fill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._limit.per_second)

    def drain(self, now: float, pause: float) -> None:
        """Let nothing go for so many seconds, whoever asks: the exchange said that it was too much."""
        self._fill(now)
        self._tokens = min(self._tokens, 1 - pause * self._limit.per_second)

    def _fill(self, now: float) -> None:
        rested = max(0.0, now - self._at) * self._limit.per_second
        self._at = max(self._at, now)
        self._tokens = min(self._limit.burst, self._tokens + rested)


def retry_delay(attempt: int, chance: float) -> float:
    """Return the seconds to wait after failed attempt 0, 1, …: exponential with full jitter, `chance` being 0 to 1.

    The exchange names no time to wait (its 429 has no Retry-After).
    """
    return chance * min(LONGEST_DELAY, FIRST_DELAY * 2.0**attempt)


def refusal(answer: Answer) -> ExchangeError:
    """Return what a failed answer says: its error object, its error text (429), or the head of whatever else it is."""
    code, message = "", answer.body[:200].decode(errors="replace")
    try:
        error = json.loads(answer.body).get("error")
    except (ValueError, AttributeError):
        error = None
    if isinstance(error, str):
        message = error
    elif isinstance(error, dict):
        code = str(error.get("code") or "")
        message = ": ".join(str(error[name]) for name in ("message", "details") if error.get(name))
    code = code or ("too_many_requests" if answer.status == 429 else f"http_{answer.status}")
    return ExchangeError(answer.status, code, message, answer.url)


_NAMED_BY = {"ticker": ("ticker", "market_ticker"), "tickers": ("ticker",), "series_ticker": ("series_ticker",),
             "event_ticker": ("event_ticker",)}  # fmt: skip


def stray_row(question: Request, items: Sequence[Any]) -> str | None:
    """Return what is wrong with the first row that was not asked for, or None.

    The exchange answers 200 with everything where it does not know a filter. Only names are looked at: what is open when it is
    listed may have closed since.
    """
    asked = {name: set(value.split(",")) for name, value in question.params if name in _NAMED_BY}
    for filtered, wanted in asked.items():
        for place, item in enumerate(items):
            named = next((item[name] for name in _NAMED_BY[filtered] if isinstance(item, dict) and item.get(name)), None)
            if named is not None and named not in wanted:
                return f"asked for {filtered} {', '.join(sorted(wanted))[:200]}, row {place} is of {str(named)[:200]}"
    return None


class Paging:
    """The next page of a question, and whether paging still makes sense; no I/O.

    `upcoming` is the request to make, None after the last page.
    """

    def __init__(self, first: Request, max_pages: int = MAX_PAGES) -> None:
        """Begin with the request of the first page, which names its `items`."""
        self.upcoming: Request | None = first
        self._first = first
        self._seen: set[str] = set()
        self._empty = 0
        self._left = max_pages

    def turn(self, answer: Answer) -> None:
        """Read where the next page is.

        Raises:
            ExchangeError: no list where it should be, a cursor that came before, or pages without end.
        """
        document = answer.document
        items, name = None, self._first.items or ""
        if isinstance(document, dict) and name in document:
            items = [] if document[name] is None else document[name]
        if not isinstance(items, list):
            raise ExchangeError(answer.status, "no_items", f"a page without a list of {name}", answer.url)
        if stray := stray_row(self._first, items):
            raise ExchangeError(answer.status, "filter_ignored", stray, answer.url)
        cursor = document.get("cursor") or ""
        if not cursor:
            self.upcoming = None
            return
        self._left -= 1
        self._empty = 0 if items else self._empty + 1
        if cursor in self._seen:
            raise ExchangeError(answer.status, "repeated_cursor", f"cursor {cursor} came before", answer.url)
        if self._left <= 0 or self._empty > MAX_EMPTY_PAGES:
            message = f"no end after {len(self._seen) + 1} pages, the last {self._empty} of them empty"
            raise ExchangeError(answer.status, "endless_pages", message, answer.url)
        self._seen.add(cursor)
        kept = tuple(pair for pair in self._first.params if pair[0] != "cursor")
        self.upcoming = replace(self._first, params=(*kept, ("cursor", cursor)))


class ExchangeClient:
    """Reads the public endpoints of the exchange, real or simulated. May be shared between threads.

    Methods that may take several requests return iterators: a page is asked for when the one before has been taken. All
    raise `ExchangeError`; what can pass (429, 5xx, broken connections) is tried again first.

    Args:
        base_url: up to and with `/trade-api/v2`.
        timeout: seconds for connecting, and between two pieces of an answer.
        max_retries: further attempts after the first.
        limit: how fast requests may go; None for as fast as answers come.
        auth: signs requests (kalshidb.exchange.signing); None for the public endpoints.
        transport: what httpx sends with, for tests.
        clock, sleep, chance: time in seconds, waiting, and the jitter from 0 to 1, for tests.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float = 30.0,
        max_retries: int = 6,
        limit: RateLimit | None = KEYLESS,
        auth: httpx.Auth | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; nothing is sent before the first question."""
        self.base_url = base_url.rstrip("/")
        self.limit = limit
        self._bucket = None if limit is None else TokenBucket(limit, clock())
        self._max_retries = max_retries
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._pace = threading.Lock()
        self._http = httpx.Client(
            headers={"User-Agent": f"kalshidb/{__version__}", "Accept": "application/json"},
            timeout=timeout,
            auth=auth,
            transport=transport,
            # A proxy of the environment is for the outside: a simulated exchange is never behind it.
            mounts={"all://127.0.0.1": None, "all://localhost": None},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return the client; `with` closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    # Any path.

    def get(self, path: str, **params: Parameter) -> Answer:
        """Return the answer to one read, such as `get("/markets", status="open")`."""
        return self.send(request(path, **params))

    def pages(self, path: str, *, items: str, **params: Parameter) -> Iterator[Answer]:
        """Return every page of a list; `items` is its name in the document, such as `markets`.

        A cursor that comes twice, pages without end and a page without the list are errors: an incomplete list never
        looks like a complete one.
        """
        return self.fetch([request(path, items, **params)])

    def fetch(
        self, questions: Iterable[Request], *, max_pages: int | None = None, on_cut: Callable[[Request], object] = lambda _: None
    ) -> Iterator[Answer]:
        """Return the answers to requests in order, all pages of each.

        Args:
            questions: the requests; paged ones name their items.
            max_pages: stop each question after so many pages.
            on_cut: called with the question for which there would have been more pages.

        Raises:
            ExchangeError: also where a row is not what was asked for (`filter_ignored`): the exchange answers some filters
                that it does not know with everything.
        """
        for question in questions:
            if question.items is None:
                yield self.send(question)
                continue
            paging, pages = Paging(question), 0
            while paging.upcoming is not None:
                if pages == max_pages:
                    on_cut(question)
                    break
                answer = self.send(paging.upcoming)
                pages += 1
                paging.turn(answer)
                yield answer

    def send(self, question: Request) -> Answer:
        """Return the answer to one request, trying again what can pass.

        Raises:
            ExchangeError: refused, or still failing after all retries; then the last failure.
        """
        attempt = 0
        while True:
            failure = self._attempt(question)
            if isinstance(failure, Answer):
                return failure
            passing = failure.status is None or is_passing(failure.status)
            if not passing or attempt >= self._max_retries:
                raise failure
            delay = retry_delay(attempt, self._chance())
            log.info("%s failed (%s), attempt %d; again in %.1f s", question.path, failure.code, attempt + 1, delay)
            if failure.status == 429 and self._bucket is not None:
                with self._pace:  # too much was asked by all threads together, so all of them pause
                    self._bucket.drain(self._clock(), delay)
            self._sleep(delay)
            attempt += 1

    def _attempt(self, question: Request) -> Answer | ExchangeError:
        self._wait_for_turn()
        url = f"{self.base_url}{question.path}"
        try:
            response = self._http.get(url, params=question.params)
        except (httpx.TransportError, httpx.DecodingError) as error:
            if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
                raise ExchangeError(None, "bad_request", str(error), url) from error
            failure = ExchangeError(None, type(error).__name__, str(error) or "connection failed", url)
            failure.__cause__ = error
            return failure
        arrived = datetime.now(UTC)
        answer = Answer(url, _joined(question.params), response.status_code, response.content, arrived)
        return answer if response.is_success else refusal(answer)

    def _wait_for_turn(self) -> None:
        if self._bucket is None:
            return
        with self._pace:
            pause = self._bucket.take(self._clock())
        if pause:
            self._sleep(pause)

    # The exchange, series and events.

    def status(self) -> Answer:
        """Return whether the exchange is open: `exchange_active`, `trading_active`."""
        return self.get("/exchange/status")

    def historical_cutoff(self) -> Answer:
        """Return the times before which markets and trades are only in the historical tier; they move on every day."""
        return self.get("/historical/cutoff")

    def series_list(self, *, category: str | None = None, tags: Sequence[str] | None = None) -> Iterator[Answer]:
        """Return all series, in one answer of several megabytes."""
        return self.fetch([request("/series", category=category, tags=tags)])

    def series(self, ticker: str) -> Answer:
        """Return one series."""
        return self.get(f"/series/{segment(ticker)}")

    def events(
        self, *, status: str | None = None, series_ticker: str | None = None, with_nested_markets: bool = False
    ) -> Iterator[Answer]:
        """Return events of both tiers, 200 a page; nested markets only of the live tier.

        `status` is `unopened`, `open`, `closed` or `settled`. Multivariate events are not among them.
        """
        return self.pages(
            "/events",
            items="events",
            limit=EVENT_PAGE_SIZE,
            status=status,
            series_ticker=series_ticker,
            with_nested_markets=with_nested_markets,
        )

    def event(self, ticker: str, *, with_nested_markets: bool = False) -> Answer:
        """Return one event; its markets are beside it, or within if asked."""
        return self.get(f"/events/{segment(ticker)}", with_nested_markets=with_nested_markets)

    # Markets.

    def markets(
        self,
        *,
        status: str | None = None,
        series_ticker: str | None = None,
        event_ticker: str | None = None,
        min_close: Moment | None = None,
        max_close: Moment | None = None,
        mve_filter: str | None = "exclude",
    ) -> Iterator[Answer]:
        """Return markets of the live tier, 1,000 a page; `markets_named` asks for single ones.

        `status` is a word of the filter (`unopened`, `open`, `paused`, `closed`, `settled`), not of the market object.
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
            mve_filter=mve_filter,
        )

    def markets_named(self, tickers: Sequence[str], *, historical: bool = False) -> Iterator[Answer]:
        """Return the markets of these tickers that are in the tier; the exchange leaves out the others silently."""
        path = "/historical/markets" if historical else "/markets"
        return self.fetch(request(path, "markets", limit=PAGE_SIZE, tickers=some) for some in chunks(tickers, MAX_LISTED_TICKERS))

    def market(self, ticker: str) -> Answer:
        """Return one market of the live tier; 404 if it is historical."""
        return self.get(f"/markets/{segment(ticker)}")

    def historical_markets(self, *, series_ticker: str | None = None, event_ticker: str | None = None) -> Iterator[Answer]:
        """Return markets of the historical tier, 1,000 a page; one filter or none, and none by time."""
        return self.pages(
            "/historical/markets",
            items="markets",
            limit=PAGE_SIZE,
            series_ticker=series_ticker,
            event_ticker=event_ticker,
        )

    def historical_market(self, ticker: str) -> Answer:
        """Return one market of the historical tier; 404 if it is live."""
        return self.get(f"/historical/markets/{segment(ticker)}")

    # Candles. Those whose period ends within [start, end]; the last of a market ends one period after its close.

    def candlesticks(
        self, series_ticker: str, market_ticker: str, start: Moment, end: Moment, period_minutes: int
    ) -> Iterator[Answer]:
        """Return the candles of one live market, in as many windows as the limit of 5,000 periods asks for.

        Periods without a trade or a move of the quote have no candle. ValueError: a range or period that cannot be.
        """
        path = f"/series/{segment(series_ticker)}/markets/{segment(market_ticker)}/candlesticks"
        return self.fetch(candlestick_requests(path, start, end, period_minutes))

    def historical_candlesticks(self, market_ticker: str, start: Moment, end: Moment, period_minutes: int) -> Iterator[Answer]:
        """Return the candles of one historical market; its fields have other names than those of a live one."""
        path = f"/historical/markets/{segment(market_ticker)}/candlesticks"
        return self.fetch(candlestick_requests(path, start, end, period_minutes))

    def candlesticks_batch(
        self, market_tickers: Sequence[str], start: Moment, end: Moment, period_minutes: int
    ) -> Iterator[Answer]:
        """Return the candles of many live markets, cut by tickers and windows to 100 markets and 10,000 candles."""
        return self.fetch(batch_candlestick_requests(market_tickers, start, end, period_minutes))

    def event_candlesticks(
        self, series_ticker: str, event_ticker: str, start: Moment, end: Moment, period_minutes: int
    ) -> Iterator[Answer]:
        """Return the candles of all live markets of an event: parallel lists of tickers and candles.

        The exchange cuts a long range and says where; the rest is asked for until the end is reached.
        """
        path = f"/series/{segment(series_ticker)}/events/{segment(event_ticker)}/candlesticks"
        ((first, last),) = candlestick_windows(start, end, period_minutes, 10**9)
        return self._event_candlesticks(path, first, last, period_minutes)

    def _event_candlesticks(self, path: str, first: int, last: int, period_minutes: int) -> Iterator[Answer]:
        while first <= last:
            answer = self.get(path, start_ts=first, end_ts=last, period_interval=period_minutes)
            reached = answer.document.get("adjusted_end_ts", last)
            if not isinstance(reached, int) or reached < first:
                raise ExchangeError(answer.status, "no_progress", f"a range cut at {reached}", answer.url)
            yield answer
            first = reached + 1

    # Trades and order books.

    def trades(self, ticker: str | None = None, *, start: Moment | None = None, end: Moment | None = None) -> Iterator[Answer]:
        """Return the trades of the live tier, newest first, 1,000 a page: at least all with start <= time < end.

        The exchange compares whole seconds and leaves out the bounds, so up to a second more comes on both sides.
        Trades are told apart by `trade_id` alone.
        """
        return self._trades("/markets/trades", ticker, start, end)

    def historical_trades(
        self, ticker: str | None = None, *, start: Moment | None = None, end: Moment | None = None
    ) -> Iterator[Answer]:
        """Return the trades from before the cutoff, as `trades` does; also those of markets that are still live."""
        return self._trades("/historical/trades", ticker, start, end)

    def _trades(self, path: str, ticker: str | None, start: Moment | None, end: Moment | None) -> Iterator[Answer]:
        return self.pages(
            path,
            items="trades",
            limit=PAGE_SIZE,
            ticker=ticker,
            min_ts=None if start is None else epoch_seconds(start) - 1,
            max_ts=None if end is None else epoch_seconds(end, up=True),
        )

    def orderbook(self, ticker: str, *, depth: int | None = None) -> Answer:
        """Return the bids of both sides of one market, the `depth` best (None: all). Past books cannot be asked for."""
        return self.get(f"/markets/{segment(ticker)}/orderbook", depth=depth)

    def orderbooks(self, tickers: Sequence[str], *, depth: int | None = None) -> Iterator[Answer]:
        """Return the order books of many markets, 100 an answer."""
        return self.fetch(orderbook_requests(tickers, depth))


def _joined(params: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in params:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
