"""The HTTP client of the exchange: one answer at a time, as it came.

It keeps to the pace that the exchange allows, follows cursors, waits and tries again; which requests a question takes is said in
`questions`, and what an answer means is the business of the models. Bodies are kept byte for byte.

The first half of this module is arithmetic without I/O: when to try again, where the next page is, when paging has gone wrong.
`AsyncExchangeClient` opens the connections; `ExchangeClient` is the same for threads, and asks through one of its own.
"""

import asyncio
import concurrent.futures
import json
import logging
import random
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from kalshidb import __version__
from kalshidb.exchange.questions import Endpoints, Request

BASE_URL = "https://external-api.kalshi.com/trade-api/v2"

MAX_PAGES = 100_000
MAX_EMPTY_PAGES = 10

KEYLESS_PER_SECOND = 5.0
"""Requests a second without an API key that were never refused; the exchange documents no number."""
TOKENS_A_REQUEST = 10
TIERS = {"basic": 200, "advanced": 300, "expert": 600, "premier": 1_000, "paragon": 2_000, "prime": 4_000, "prestige": 6_000}
"""Read tokens a second of the exchange's tiers of API keys; the bucket holds two seconds' worth. A read costs 10."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
LONGEST_ASKED_DELAY = 300.0
"""The most seconds that a `Retry-After` is heeded."""

log = logging.getLogger(__name__)


class ExchangeError(Exception):
    """The exchange refused, could not be reached, or answered in a way that must not be taken for data.

    `status` is None when there was no usable answer; `code` and `message` are the exchange's words where it sent some;
    `retry_after` is for how many seconds it does not want to be asked again, 0 when it named none.
    """

    def __init__(self, status: int | None, code: str, message: str, url: str, retry_after: float = 0.0) -> None:
        """Say what failed and where."""
        super().__init__(f"{url}: {status or 'no answer'}: {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.url = url
        self.retry_after = retry_after


class ClientClosedError(ExchangeError):
    """The client was stopped or closed, before the question or while its answer was awaited."""

    def __init__(self, url: str) -> None:
        """Say what was not answered."""
        super().__init__(None, "closed", "the client was closed, nothing is asked any more", url)


class _Unread:
    """What a document is before somebody reads it."""


_UNREAD = _Unread()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the exchange, as it came.

    `url` is without the query; `params` are the parameters, repeated ones joined by commas; `retrieved_at` is when the
    whole answer had arrived, UTC; `date` is what the exchange's clock said, None where it did not say.
    """

    url: str
    params: Mapping[str, str]
    status: int
    body: bytes
    retrieved_at: datetime
    date: datetime | None = None
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
            except (ValueError, RecursionError, ArithmeticError) as error:  # the latter: a number beyond reason
                raise ExchangeError(self.status, NO_JSON, str(error), self.url) from error
            object.__setattr__(self, "_document", document)
        return self._document


# When something went wrong.


def is_passing(status: int) -> bool:
    """Whether the same request may succeed later: too many requests, or a fault of the server."""
    return status == 429 or status >= 500


NO_JSON, NO_ITEMS = "no_json", "no_items"


def unusable(question: Request, answer: Answer) -> ExchangeError | None:
    """Return what makes a successful answer none to its question, or None: it is no JSON, or has not what was asked for.

    What stands before an exchange answers 200 with a page for people, or with the half of an answer, when something is wrong; taken
    for an empty list, that would be a hole.
    """
    try:
        document = answer.document
    except ExchangeError as error:
        return error
    names, of = ((question.items,), list) if question.items is not None else (question.holds, question.of)
    held = [document[name] for name in names if name in document] if isinstance(document, dict) else []
    if not names or any(_is_filled(value, of) for value in held):
        return None
    what = "a page without a list of" if of is list else "an answer without"
    return ExchangeError(answer.status, NO_ITEMS, f"{what} {' or '.join(names)}", answer.url)


def _is_filled(value: object, of: type) -> bool:
    if of is list:
        return value is None or isinstance(value, list)
    return value != {} and isinstance(value, of)


def date_of(header: str | None) -> datetime | None:
    """Return the time that a `Date` says; None where it is absent or says none."""
    try:
        said = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return said.replace(tzinfo=said.tzinfo or UTC)


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


def retry_delay(attempt: int, chance: float, asked: float = 0.0) -> float:
    """Return the seconds to wait after failed attempt 0, 1, …: exponential with full jitter, `chance` being 0 to 1.

    Not less than was `asked`, up to LONGEST_ASKED_DELAY. (The exchange's own 429 names no time; what stands before it may.)
    """
    return max(chance * min(LONGEST_DELAY, FIRST_DELAY * 2.0**attempt), min(asked, LONGEST_ASKED_DELAY))


def retry_after(header: str | None) -> float:
    """Return the seconds that a `Retry-After` asks for; 0 without one, and for a date, which would need clocks that agree."""
    header = (header or "").strip()
    return float(header) if header.isascii() and header.isdecimal() and len(header) < 9 else 0.0


def refusal(answer: Answer, asked: float = 0.0) -> ExchangeError:
    """Return what a failed answer says: its error object, its error text (429), or the head of whatever else it is.

    `asked` is for how many seconds it asks to be left alone.
    """
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
    return ExchangeError(answer.status, code, message, answer.url, asked)


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
    """The next request of a question, and whether asking on still makes sense; no I/O.

    `upcoming` is the request to make, None after the last answer.
    """

    def __init__(self, first: Request, max_pages: int = MAX_PAGES) -> None:
        """Begin with the question itself."""
        self.upcoming: Request | None = first
        self._first = first
        self._seen: set[str] = set()
        self._empty = 0
        self._left = max_pages

    def turn(self, answer: Answer) -> None:
        """Read what is to be asked next.

        Raises:
            ExchangeError: no list where it should be, a cursor that came before, pages without end, or a range cut to nothing.
        """
        asked, self.upcoming = self.upcoming, None
        if self._first.items is not None:
            self.upcoming = self._next_page(answer, self._first.items)
        elif self._first.cut is not None and asked is not None:
            self.upcoming = self._rest(answer, asked, self._first.cut)

    def _next_page(self, answer: Answer, name: str) -> Request | None:
        document = answer.document
        if wrong := unusable(self._first, answer):
            raise wrong
        items = document[name] or []
        if stray := stray_row(self._first, items):
            raise ExchangeError(answer.status, "filter_ignored", stray, answer.url)
        cursor = document.get("cursor") or ""
        if not cursor:
            return None
        self._left -= 1
        self._empty = 0 if items else self._empty + 1
        if cursor in self._seen:
            raise ExchangeError(answer.status, "repeated_cursor", f"cursor {cursor} came before", answer.url)
        if self._left <= 0 or self._empty > MAX_EMPTY_PAGES:
            message = f"no end after {len(self._seen) + 1} pages, the last {self._empty} of them empty"
            raise ExchangeError(answer.status, "endless_pages", message, answer.url)
        self._seen.add(cursor)
        return _with(self._first, "cursor", cursor)

    def _rest(self, answer: Answer, asked: Request, name: str) -> Request | None:
        first, last = (int(dict(asked.params)[bound]) for bound in ("start_ts", "end_ts"))
        document = answer.document
        reached = document.get(name, last) if isinstance(document, dict) else None
        if not isinstance(reached, int) or reached < first:
            raise ExchangeError(answer.status, "no_progress", f"a range cut at {reached}", answer.url)
        return _with(asked, "start_ts", str(reached + 1)) if reached < last else None


def _with(question: Request, name: str, value: str) -> Request:
    kept = tuple(pair for pair in question.params if pair[0] != name)
    return replace(question, params=(*kept, (name, value)))


class Walk:
    """The requests of several questions in order, all pages of each; no I/O. Each wants its answer by `turn` before the next."""

    def __init__(self, questions: Iterable[Request], max_pages: int | None, on_cut: Callable[[Request], object]) -> None:
        """Begin before the first question; see `ExchangeClient.fetch`."""
        self._questions = questions
        self._max_pages = max_pages
        self._on_cut = on_cut
        self._paging: Paging | None = None

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests."""
        for question in self._questions:
            self._paging = Paging(question)
            pages = 0
            while self._paging.upcoming is not None:
                if pages == self._max_pages:
                    self._on_cut(question)
                    break
                pages += 1
                yield self._paging.upcoming

    def turn(self, answer: Answer) -> Answer:
        """Take in the answer to the last request, and return it.

        Raises:
            ExchangeError: it is not what was asked for; see `Paging.turn`.
        """
        if self._paging is None:
            raise ValueError("an answer to nothing")
        self._paging.turn(answer)
        return answer


class AsyncExchangeClient(Endpoints[Coroutine[Any, Any, Answer], AsyncGenerator[Answer, None]]):
    """Reads the public endpoints of the exchange, real or simulated, in one event loop of asyncio. May be shared between its tasks.

    Methods that may take several requests return asynchronous iterators: a page is asked for when the one before has been taken.
    All raise `ExchangeError`; what can pass (429, 5xx, broken connections) is tried again first. A task that is cancelled leaves
    nothing behind.

    Args:
        base_url: up to and with `/trade-api/v2`.
        timeout: seconds for connecting, and between two pieces of an answer.
        answer_within: seconds for one answer as a whole, however slowly it dribbles in.
        max_retries: further attempts after the first.
        limit: how fast requests may go; None for as fast as answers come.
        auth: signs requests (kalshidb.exchange.signing); None for the public endpoints.
        transport: what httpx sends with, for tests.
        clock, sleep, chance: time in seconds, waiting, and the jitter from 0 to 1, for tests.

    `stopped` is whether nothing is asked any more.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float = 30.0,
        answer_within: float = 300.0,
        max_retries: int = 6,
        limit: RateLimit | None = KEYLESS,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; nothing is sent before the first question."""
        self.base_url = base_url.rstrip("/")
        self.limit = limit
        self._bucket = None if limit is None else TokenBucket(limit, clock())
        self._answer_within = answer_within
        self._max_retries = max_retries
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self.stopped = False
        self._under_way: set[asyncio.Timeout] = set()
        self._http = httpx.AsyncClient(
            headers={"User-Agent": f"kalshidb/{__version__}", "Accept": "application/json"},
            timeout=timeout,
            auth=auth,
            transport=transport,
            # A proxy of the environment is for the outside: a simulated exchange is never behind it.
            mounts={"all://127.0.0.1": None, "all://localhost": None},
        )

    def stop(self) -> None:
        """End what is under way, and ask nothing any more: questions raise ClientClosedError, also those that wait for their turn."""
        self.stopped = True
        for waiting in self._under_way:
            if not waiting.expired():
                waiting.reschedule(0.0)  # long ago

    async def aclose(self) -> None:
        """Stop, and close the connections. Twice is harmless."""
        self.stop()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return the client; `async with` closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    def _one(self, question: Request) -> Coroutine[Any, Any, Answer]:
        return self.send(question)

    def _many(self, questions: Iterable[Request]) -> AsyncGenerator[Answer, None]:
        return self.fetch(questions)

    async def fetch(
        self, questions: Iterable[Request], *, max_pages: int | None = None, on_cut: Callable[[Request], object] = lambda _: None
    ) -> AsyncGenerator[Answer, None]:
        """Return the answers to requests in order, all pages of each; as `ExchangeClient.fetch`."""
        walk = Walk(questions, max_pages, on_cut)
        for asked in walk:
            yield walk.turn(await self.send(asked))

    async def send(self, question: Request) -> Answer:
        """Return the answer to one request, trying again what can pass.

        Raises:
            ExchangeError: refused, or still failing after all retries; then the last failure.
        """
        url = f"{self.base_url}{question.path}"
        if self.stopped:
            raise ClientClosedError(url)
        until_stopped = asyncio.timeout(None)
        self._under_way.add(until_stopped)
        try:
            async with until_stopped:
                return await self._insist(question, url)
        except TimeoutError:
            raise ClientClosedError(url) from None
        finally:
            self._under_way.discard(until_stopped)

    async def _insist(self, question: Request, url: str) -> Answer:
        attempt = 0
        while True:
            failure = await self._attempt(question, url)
            if isinstance(failure, Answer):
                return failure
            passing = failure.status is None or is_passing(failure.status) or failure.code in (NO_JSON, NO_ITEMS)
            if not passing or attempt >= self._max_retries:
                raise failure
            delay = retry_delay(attempt, self._chance(), failure.retry_after)
            log.info("%s failed (%s), attempt %d; again in %.1f s", question.path, failure.code, attempt + 1, delay)
            if failure.status == 429 and self._bucket is not None:
                self._bucket.drain(self._clock(), delay)  # too much was asked by all together, so all of them pause
            await self._sleep(delay)
            attempt += 1

    async def _attempt(self, question: Request, url: str) -> Answer | ExchangeError:
        if self._bucket is not None and (pause := self._bucket.take(self._clock())):
            await self._sleep(pause)
        try:
            async with asyncio.timeout(self._answer_within):
                response = await self._http.get(url, params=question.params)
        except TimeoutError:
            return ExchangeError(None, "too_slow", f"no whole answer within {self._answer_within:g} s", url)
        except (httpx.TransportError, httpx.DecodingError) as error:
            if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
                raise ExchangeError(None, "bad_request", str(error), url) from error
            failure = ExchangeError(None, type(error).__name__, str(error) or "connection failed", url)
            failure.__cause__ = error
            return failure
        arrived = datetime.now(UTC)
        said_at = date_of(response.headers.get("Date"))
        answer = Answer(url, _joined(question.params), response.status_code, response.content, arrived, said_at)
        if not response.is_success:
            return refusal(answer, retry_after(response.headers.get("Retry-After")))
        return unusable(question, answer) or answer


class ExchangeClient(Endpoints[Answer, Iterator[Answer]]):
    """`AsyncExchangeClient` for threads, of which any number may share it: the same questions, answered before they return.

    Methods that may take several requests return iterators: a page is asked for when the one before has been taken. All
    raise `ExchangeError`; what can pass (429, 5xx, broken connections) is tried again first. It asks in an event loop of
    its own, in a thread that begins with the first question and ends with `close`.

    Args:
        base_url: up to and with `/trade-api/v2`.
        timeout: seconds for connecting, and between two pieces of an answer.
        answer_within: seconds for one answer as a whole, however slowly it dribbles in.
        max_retries: further attempts after the first.
        limit: how fast requests may go; None for as fast as answers come.
        auth: signs requests (kalshidb.exchange.signing); None for the public endpoints.
        transport: what httpx sends with, for tests.
        clock, chance: time in seconds, and the jitter from 0 to 1, for tests.
        sleep: waiting, for tests; whoever else asks meanwhile waits too.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float = 30.0,
        answer_within: float = 300.0,
        max_retries: int = 6,
        limit: RateLimit | None = KEYLESS,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; nothing is sent before the first question."""
        self._client = AsyncExchangeClient(
            base_url,
            timeout=timeout,
            answer_within=answer_within,
            max_retries=max_retries,
            limit=limit,
            auth=auth,
            transport=transport,
            clock=clock,
            sleep=asyncio.sleep if sleep is None else _awaited(sleep),
            chance=chance,
        )
        self.base_url = self._client.base_url
        self.limit = limit
        # Reentrant: a signal may come while a question is being handed over, and its handler may close.
        self._handing_over = threading.RLock()
        self._thread: threading.Thread | None = None
        self._begun: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._closed = asyncio.Event()

    def stop(self) -> None:
        """Make every question raise ClientClosedError, at once also where an answer is awaited; for signal handlers, waits for nothing."""
        self._client.stopped = True
        self._tell(self._client.stop)

    def close(self) -> None:
        """Stop, and close the connections; nothing is left when it returns. Twice is harmless."""
        self.stop()
        with self._handing_over:
            thread, self._thread = self._thread, None
        if thread is not None:
            concurrent.futures.wait([self._begun])
            self._tell(self._closed.set)
            thread.join()

    @property
    def stopped(self) -> bool:
        """Whether nothing is asked any more."""
        return self._client.stopped

    def __enter__(self) -> Self:
        """Return the client; `with` closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def _one(self, question: Request) -> Answer:
        return self.send(question)

    def _many(self, questions: Iterable[Request]) -> Iterator[Answer]:
        return self.fetch(questions)

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
        walk = Walk(questions, max_pages, on_cut)
        for asked in walk:
            yield walk.turn(self.send(asked))

    def send(self, question: Request) -> Answer:
        """Return the answer to one request, trying again what can pass.

        Raises:
            ExchangeError: refused, or still failing after all retries; then the last failure.
        """
        url = f"{self.base_url}{question.path}"
        with self._handing_over:
            loop = self._running_loop(url)
            asked = self._client.send(question)
            try:
                awaited = asyncio.run_coroutine_threadsafe(asked, loop)
            except RuntimeError:  # the loop has ended
                asked.close()
                raise ClientClosedError(url) from None
        try:
            return awaited.result()
        except concurrent.futures.CancelledError:
            raise ClientClosedError(url) from None
        except BaseException:
            awaited.cancel()  # Ctrl-C: nobody waits for the answer any more
            raise

    def _running_loop(self, url: str) -> asyncio.AbstractEventLoop:
        """Return the loop that asks; the first question begins it."""
        if self._client.stopped:
            raise ClientClosedError(url)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="asking the exchange", daemon=True)
            thread.start()
            self._thread = thread
        return self._begun.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._ask())
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)  # no loop could be made: no file descriptors left

    async def _ask(self) -> None:
        async with self._client:
            self._begun.set_result(asyncio.get_running_loop())
            await self._closed.wait()

    def _tell(self, do: Callable[[], object]) -> None:
        """Have something done in the loop, if there is one."""
        if self._begun.done():
            with suppress(RuntimeError, OSError):  # it has ended, or never began
                self._begun.result().call_soon_threadsafe(do)


def _awaited(sleep: Callable[[float], None]) -> Callable[[float], Awaitable[None]]:
    async def pause(seconds: float) -> None:
        sleep(seconds)

    return pause


def _joined(params: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in params:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
