"""History fetched once and completely: candlesticks and trades of any span, by any number of workers, from both tiers.

What is to be done is what ops.coverage says is missing, cut into windows that the exchange answers. A window counts as covered when
all of it is stored, and not before; so whatever stops a worker, only its open window is asked for again. Workers, in one process or
many, share the work by events: who claims an event has it until it is done or the worker's session ends.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal

import psycopg

from kalshidb.exchange.client import NO_JSON, Answer, ExchangeClient, ExchangeError, is_passing
from kalshidb.exchange.questions import MAX_BATCH_TICKERS, batch_periods, chunks
from kalshidb.exchange.questions import epoch_seconds as whole_seconds
from kalshidb.exchange.recognise import Hints
from kalshidb.exchange.scalars import WireValueError, epoch_seconds, moment
from kalshidb.ingest.intake import Intake, Report
from kalshidb.ingest.pull import take
from kalshidb.models.ops import CoverageRow
from kalshidb.queries import catalog, ops

Kind = Literal["candlesticks", "trades"]
Span = tuple[datetime, datetime]

FIRST_WIDTH = timedelta(hours=6)
NARROWEST, WIDEST = timedelta(minutes=1), timedelta(days=30)
FEW_TRADES, MANY_TRADES = 2_000, 20_000
"""A window of trades is what is asked for again when a walk of pages is broken off; after one with few trades the next is wider, after
one with many narrower."""
STILL_FORMING = timedelta(minutes=1)
"""How long after its end a candlestick may still change."""
NOT_FOUND = 404
TURNED_AWAY = frozenset((401, 403))
"""Statuses that are about who asks, and not about what is asked."""
TOLD = 20
"""How many markets that no tier has a run names; the catalogue's coverage knows them all."""
OTHERS_MAY_BE_DONE = 1.0
"""Seconds between two attempts at what other workers have."""
AROUND_CUTOFF = timedelta(days=1)
"""How far from the tiers' border both are asked: it moves while we ask."""
CUTOFF_HOLDS = 3600.0
"""Seconds for which that border is taken to be where it was."""


class BackfillError(ValueError):
    """What to fetch makes no sense; says why."""


@dataclass(frozen=True, slots=True)
class BackfillScope:
    """What to fetch: a kind of data of [start, end), of some markets or of all that the catalogue knows.

    Attributes:
        kind: candlesticks or trades.
        start, end: the span, aware; an end that has not passed yet is cut to now.
        period_minutes: length of the candlesticks, 1, 60 or 1440; 0 for trades.
        series, event, market: only these; None for any. For trades of any market the whole tape is fetched, which also has markets
            that the catalogue does not know.
    """

    kind: Kind
    start: datetime
    end: datetime
    period_minutes: int = 0
    series: str | None = None
    event: str | None = None
    market: str | None = None

    def __post_init__(self) -> None:
        """Refuse a span that is none, and periods that do not exist."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise BackfillError("start and end need a time zone")
        if self.start >= self.end:
            raise BackfillError(f"a span that ends before it begins: {self.start} to {self.end}")
        for name in ("series", "event", "market"):
            if getattr(self, name) == "":
                raise BackfillError(f"an empty text is no {name}")
        if self.period_minutes not in ((1, 60, 1440) if self.kind == "candlesticks" else (0,)):
            raise BackfillError(f"candlesticks have 1, 60 or 1440 minutes and trades none, not {self.period_minutes}")

    @property
    def job_name(self) -> str:
        """Name of the work in ops.backfill_checkpoints."""
        return f"candlesticks_{self.period_minutes}m" if self.kind == "candlesticks" else "trades"

    @property
    def is_whole_tape(self) -> bool:
        """Whether trades of all markets are wanted, which are fetched by time alone."""
        return self.kind == "trades" and self.series is self.event is self.market is None

    @property
    def hints(self) -> Hints:
        """What the answers leave out."""
        return Hints(period_interval_minutes=self.period_minutes or None)


@dataclass(frozen=True, slots=True)
class Piece:
    """The missing spans of the markets of one event, or of the whole tape.

    A market whose event is unknown is a piece by itself, under its own ticker.
    """

    series_ticker: str
    event_ticker: str
    spans: dict[str, tuple[Span, ...]]
    has_event: bool = True

    @property
    def missing(self) -> timedelta:
        """How much is missing, summed over the markets."""
        return sum((end - start for spans in self.spans.values() for start, end in spans), timedelta())

    @property
    def window(self) -> Span:
        """From the first to the last that is missing."""
        every = [span for spans in self.spans.values() for span in spans]
        return min(start for start, _ in every), max(end for _, end in every)


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked for, stored and noted as covered together."""

    tickers: tuple[str, ...]
    start: datetime
    end: datetime


@dataclass(slots=True)
class Outcome:
    """What a backfill did.

    Attributes:
        reports: what each worker stored.
        failed: pieces that could not be fetched, by event, with the reason.
        unknown: markets that neither tier has.
        left_to_others: pieces that another worker had claimed.
    """

    reports: list[Report] = field(default_factory=list[Report])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    unknown: set[str] = field(default_factory=set[str])
    left_to_others: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill would ask for and, at most, store: with candlesticks one row a period and market, but most periods have none."""

    pieces: int
    markets: int
    requests: int
    most_rows: int | None


def missing_pieces(conn: psycopg.Connection[Any], scope: BackfillScope, now: datetime) -> list[Piece]:
    """Return what of the scope is missing, by event; what is not over yet is left out."""
    end = min(scope.end, now - STILL_FORMING)
    if end <= scope.start:
        return []
    if scope.is_whole_tape:
        gaps = ops.tape_gaps(conn, start_ts=scope.start, end_ts=end)
        spans = tuple((gap.gap_from, gap.gap_until) for gap in gaps)
        return [Piece("", "", {"": spans})] if spans else []
    rows = ops.coverage(
        conn,
        kind=scope.kind,
        period_interval_minutes=scope.period_minutes,
        start_ts=scope.start,
        end_ts=end,
        series_ticker=scope.series,
        event_ticker=scope.event,
        market_ticker=scope.market,
    )
    pieces = []
    for (series, event, has_event), members in groupby(rows, key=_place):
        spans_of = {row.market_ticker: spans for row in members if (spans := _spans(row))}
        if spans_of:
            pieces.append(Piece(series, event, spans_of, has_event))
    return pieces


def _place(row: CoverageRow) -> tuple[str, str, bool]:
    return row.series_ticker or "", row.event_ticker or row.market_ticker, row.event_ticker is not None


def _spans(row: CoverageRow) -> tuple[Span, ...]:
    return tuple((gap.lower, gap.upper) for gap in row.missing if gap.lower is not None and gap.upper is not None)


class Width:
    """How wide the next window of trades is: there are none for days in one market, and hundreds a second in all."""

    def __init__(self) -> None:
        """Begin with a guess."""
        self.now = FIRST_WIDTH

    def learn(self, found: int) -> None:
        """Take in how many trades the last window had."""
        if found < FEW_TRADES:
            self.now = min(WIDEST, self.now * 4)
        elif found > MANY_TRADES:
            self.now = max(NARROWEST, self.now / 4)


def windows_of(piece: Piece, scope: BackfillScope, width: Width | None = None) -> Iterator[Window]:
    """Cut what is missing into windows, oldest first; markets that miss the same span are asked for together.

    Args:
        piece: what is missing.
        scope: of what kind.
        width: of windows of trades; looked at again for each window.
    """
    width = width or Width()
    by_span: dict[Span, list[str]] = {}
    for ticker, spans in piece.spans.items():
        for span in spans:
            by_span.setdefault(span, []).append(ticker)
    for (start, end), tickers in sorted(by_span.items()):
        if scope.kind == "trades":
            for ticker in tickers:
                yield from _cut((ticker,), start, end, lambda: width.now)
            continue
        for some in chunks(tickers, MAX_BATCH_TICKERS):
            most = timedelta(minutes=batch_periods(len(some)) * scope.period_minutes)
            yield from _cut(tuple(some), start, end, lambda: most)  # noqa: B023  (used up before it changes)


def _cut(tickers: tuple[str, ...], start: datetime, end: datetime, width: Callable[[], timedelta]) -> Iterator[Window]:
    while start < end:
        until = min(end, start + width())
        yield Window(tickers, start, until)
        start = until


def check_known(conn: psycopg.Connection[Any], scope: BackfillScope) -> None:
    """Refuse a scope in which the catalogue has no market: nothing would be missing of it, and nothing fetched.

    Raises:
        BackfillError: it has none; says what to do.
    """
    named = {"series": scope.series, "event": scope.event}
    if catalog.has_markets(conn, series_ticker=scope.series, event_ticker=scope.event, market_ticker=scope.market):
        return
    of = " and ".join(f"{name} {ticker!r}" for name, ticker in named.items() if ticker is not None)
    which = "" if scope.market is None else f" {scope.market!r}"
    raise BackfillError(
        f"the catalogue has no market{which}{f' of {of}' if of else ''}; `kalshidb sync-markets` brings those that have not settled, "
        "with --status settled and --historical the others"
    )


def estimate(conn: psycopg.Connection[Any], scope: BackfillScope, now: datetime | None = None) -> Estimate:
    """Say what a backfill would take, without asking the exchange anything.

    Raises:
        BackfillError: the catalogue has no market of the scope.
    """
    pieces = missing_pieces(conn, scope, now or datetime.now(UTC))
    if not pieces and not scope.is_whole_tape:
        check_known(conn, scope)
    requests = sum(1 for piece in pieces for _ in windows_of(piece, scope))
    rows = None
    if scope.period_minutes:
        period = timedelta(minutes=scope.period_minutes)
        spans = (span for piece in pieces for spans in piece.spans.values() for span in spans)
        rows = sum(math.ceil((end - start) / period) for start, end in spans)
    return Estimate(len(pieces), sum(len(piece.spans) for piece in pieces), requests, rows)


def backfill(
    client: ExchangeClient,
    connect: Callable[[], psycopg.Connection[Any]],
    scope: BackfillScope,
    *,
    workers: int = 1,
    is_patient: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    on_total: Callable[[timedelta], object] = lambda _: None,
    on_window: Callable[[timedelta, int], object] = lambda _span, _rows: None,
    on_wait: Callable[[int], object] = lambda _: None,
) -> Outcome:
    """Fetch what is missing.

    Args:
        client: the exchange; shared by the workers. Ctrl-C stops it, and with it whatever they wait for.
        connect: gives a connection in autocommit mode of a worker's own; it is closed at the end.
        scope: what to fetch.
        workers: how many threads share the work.
        is_patient: whether to wait for pieces that other workers have, and to fetch what is missing of them then: the others' span
            may be another.
        now: the exchange's present; another than ours only for a simulated one.
        on_total: called once with how much is missing, summed over the markets.
        on_window: called after each window with how much it covers, summed over its markets, and how many objects it had.
        on_wait: called with the number of pieces for which others are waited for, once.

    Raises:
        BackfillError: the catalogue has no market of the scope.
        ExchangeError: the exchange stayed out of reach after all retries; what was stored is noted as covered.
    """
    outcome = Outcome()
    with connect() as conn:
        pieces = missing_pieces(conn, scope, now())
        if pieces:
            pieces = missing_pieces(conn, scope, _present(client, now()))
        elif not scope.is_whole_tape:
            check_known(conn, scope)
        on_total(sum((piece.missing for piece in pieces), timedelta()))
    waiting = iter(pieces)
    left: deque[Piece] = deque()
    told = False
    one_at_a_time = threading.Lock()
    stop = threading.Event()

    def next_piece() -> Piece | None:
        with one_at_a_time:
            return None if stop.is_set() else next(waiting, None)

    def next_left() -> Piece | None:
        nonlocal told
        with one_at_a_time:
            if not is_patient or not left or stop.is_set():
                return None
            if not told:
                on_wait(len(left))
                told = True
            return left.popleft()

    def work(number: int) -> None:
        try:
            with connect() as conn, Intake(conn, _source(client, scope, number, workers), origin="backfill") as intake:
                outcome.reports.append(intake.report)
                worker = _Worker(client, conn, intake, scope, outcome, now, on_window)
                while piece := next_piece():
                    if not worker.work_on(piece):
                        left.append(piece)
                while piece := next_left():
                    if not worker.work_on(piece):
                        left.append(piece)
                        stop.wait(OTHERS_MAY_BE_DONE)
                if outcome.unknown:
                    intake.note_cut(f"no tier of the exchange has {', '.join(sorted(outcome.unknown)[:TOLD])}")
                if stop.is_set():
                    intake.note_cut("stopped before its end; the next run goes on")
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(workers, thread_name_prefix="backfill") as pool:
        try:
            for done in [pool.submit(work, number) for number in range(1, workers + 1)]:
                done.result()
        except KeyboardInterrupt:
            stop.set()
            client.stop()  # a worker's piece may take hours
            raise
    outcome.left_to_others = len(left)
    return outcome


def _present(client: ExchangeClient, now: datetime) -> datetime:
    """Return now by our clock or by the exchange's, whichever is behind: what is not over there must not be fetched as if it were."""
    try:
        said = client.status().date
    except ExchangeError as error:
        if error.status != NOT_FOUND:
            raise
        said = None
    return now if said is None else min(now, said)


def _source(client: ExchangeClient, scope: BackfillScope, number: int, workers: int) -> str:
    what = scope.market or scope.event or scope.series or "all"
    minutes = f" {scope.period_minutes}m" if scope.period_minutes else ""
    one_of = f" worker {number}/{workers}" if workers > 1 else ""
    return f"backfill {scope.kind}{minutes} {what} {scope.start:%Y-%m-%dT%H:%MZ} to {scope.end:%Y-%m-%dT%H:%MZ}{one_of} {client.base_url}"


@dataclass(slots=True)
class _Worker:
    """Fetches pieces one after the other, and writes over a connection of its own; see `backfill` for what it is given."""

    client: ExchangeClient
    conn: psycopg.Connection[Any]
    intake: Intake
    scope: BackfillScope
    outcome: Outcome
    now: Callable[[], datetime]
    on_window: Callable[[timedelta, int], object]
    _border: datetime | None = None
    _border_is_old: float = 0.0  # time.monotonic(); at once
    _border_told_at: datetime | None = None
    _clock: datetime | None = None  # what the exchange's said last

    def work_on(self, piece: Piece) -> bool:
        """Fetch a piece, unless another worker has it: then return False."""
        key = {"job_name": self.scope.job_name, "series_ticker": piece.series_ticker, "event_ticker": piece.event_ticker}
        begin, end = piece.window
        checkpoint = ops.begin_checkpoint(self.conn, **key, window_start_ts=begin, window_end_ts=end)
        if checkpoint is None:
            return False
        attempt = checkpoint.attempts
        try:
            # What another worker did since the list was made need not be done again.
            current = _still_missing(self.conn, self.scope, piece, self.now())
            for until in self._fetch(current) if current else ():
                if until is not None and not ops.advance_checkpoint(self.conn, **key, attempts=attempt, fetched_through=until):
                    raise psycopg.OperationalError(f"the checkpoint of {piece.event_ticker} is not this worker's any more")
        except ExchangeError as error:
            ops.fail_checkpoint(self.conn, **key, attempts=attempt, error=str(error)[:2000])
            if error.status is None or is_passing(error.status) or error.status in TURNED_AWAY or error.code == NO_JSON:
                raise  # the exchange is out of reach, or closed to us: it would be so for the next piece too
            self.outcome.failed[piece.event_ticker or "the tape"] = str(error)
        else:
            ops.succeed_checkpoint(self.conn, **key, attempts=attempt)
        return True

    def _fetch(self, piece: Piece) -> Iterator[datetime | None]:
        """Fetch, store and note as covered each window; yield up to when all of the piece is stored, None while that is unknown."""
        moved: set[str] = set()  # markets that the live tier does not have
        width = Width()
        # All markets advance together only where they miss the same and fit into one request.
        together = len(piece.spans) == 1 or (
            self.scope.kind == "candlesticks" and len(set(piece.spans.values())) == 1 and len(piece.spans) <= MAX_BATCH_TICKERS
        )
        for window in windows_of(piece, self.scope, width):
            fetched, objects = (
                self._take_candlesticks(window, moved, piece.series_ticker)
                if self.scope.kind == "candlesticks"
                else self._take_trades(window)
            )
            self.intake.flush()
            if fetched:
                ops.extend_coverage(
                    self.conn,
                    market_tickers=fetched,
                    kind=self.scope.kind,
                    period_interval_minutes=self.scope.period_minutes,
                    covered_from=window.start,
                    covered_until=window.end,
                    run_id=self.intake.report.run_id,
                )
            width.learn(objects)
            self.on_window((window.end - window.start) * len(window.tickers), objects)
            yield window.end if together else None

    def _noted(self, answers: Iterator[Answer]) -> Iterator[Answer]:
        """Note the exchange's clock as answers pass: a long walk of them may outlast what is known of the border."""
        for answer in answers:
            self._clock = answer.date or self._clock
            yield answer

    def _take_candlesticks(self, window: Window, moved: set[str], series_ticker: str) -> tuple[list[str], int]:
        """Take in the candlesticks of a window; return the markets that a tier answered for, and how many candlesticks they had."""
        minutes = self.scope.period_minutes
        # The exchange counts both bounds in, in whole seconds, and candlesticks end with one.
        first, last = whole_seconds(window.start, up=True), whole_seconds(window.end, up=True) - 1
        if last < first:
            return list(window.tickers), 0
        live = [ticker for ticker in window.tickers if ticker not in moved]
        answered: dict[str, int] = {}

        def note(ticker: object, candles: object) -> None:
            # What is of another shape is refused and kept; it says nothing about the market.
            if isinstance(ticker, str) and (candles is None or isinstance(candles, list)):
                answered[ticker] = answered.get(ticker, 0) + len(candles or ())

        def is_alone(ticker: str, answers: Iterator[Answer]) -> bool:
            hints = Hints(market_ticker=ticker, period_interval_minutes=minutes)
            try:
                for document in take(self.intake, answers, hints):
                    if document.get("ticker", ticker) == ticker:
                        note(ticker, document["candlesticks"])
            except ExchangeError as error:
                if error.status != NOT_FOUND:
                    raise
                return False
            return True

        if live:
            try:
                for document in take(self.intake, self.client.candlesticks_batch(live, first, last, minutes), self.scope.hints):
                    for market in document["markets"] or ():
                        if isinstance(market, dict):
                            note(market.get("market_ticker"), market.get("candlesticks"))
            except ExchangeError as error:
                if error.status != NOT_FOUND:
                    raise  # else: an exchange without this question, which answers for each market
            moved.update(ticker for ticker in live if ticker not in answered)
        for ticker in [ticker for ticker in window.tickers if ticker in moved and ticker not in self.outcome.unknown]:
            if is_alone(ticker, self.client.historical_candlesticks(ticker, first, last, minutes)):
                continue
            if not series_ticker or not is_alone(ticker, self.client.candlesticks(series_ticker, ticker, first, last, minutes)):
                self.outcome.unknown.add(ticker)
        return [ticker for ticker in window.tickers if ticker in answered], sum(answered.values())

    def _take_trades(self, window: Window) -> tuple[list[str], int]:
        """Take in the trades of a window from the tier, or near their border from both, that can have them."""
        (ticker,) = window.tickers
        found = 0
        cutoff = self._cutoff()
        if cutoff is None or window.end > cutoff - AROUND_CUTOFF:
            found += self._taken(self.client.trades(ticker or None, start=window.start, end=window.end))
            cutoff = self._cutoff()  # while that took its time trades may have become history
        if cutoff is not None and window.start < cutoff + AROUND_CUTOFF:
            found += self._taken(self.client.historical_trades(ticker or None, start=window.start, end=window.end))
        return [ticker], found

    def _taken(self, answers: Iterator[Answer]) -> int:
        return sum(len(document["trades"] or ()) for document in take(self.intake, self._noted(answers)))

    def _cutoff(self) -> datetime | None:
        """Return the tiers' border for trades, asked for again before it can have moved far: a backfill may take days."""
        told_at, said = self._border_told_at, self._clock
        moved_on = told_at is not None and said is not None and said - told_at >= timedelta(seconds=CUTOFF_HOLDS)
        if moved_on or time.monotonic() >= self._border_is_old:
            self._border, self._border_told_at = _cutoff(self.client)
            self._border_is_old = time.monotonic() + CUTOFF_HOLDS
        return self._border


def _still_missing(conn: psycopg.Connection[Any], scope: BackfillScope, piece: Piece, now: datetime) -> Piece | None:
    # What has become over since the list was made is for the next run: the checkpoint ends where the piece does.
    scope = replace(scope, end=min(scope.end, piece.window[1]))
    return next(iter(missing_pieces(conn, scope, now) if scope.is_whole_tape else _of_event(conn, scope, piece, now)), None)


def _of_event(conn: psycopg.Connection[Any], scope: BackfillScope, piece: Piece, now: datetime) -> Iterator[Piece]:
    narrow = BackfillScope(
        scope.kind,
        scope.start,
        scope.end,
        scope.period_minutes,
        series=piece.series_ticker or None,
        event=piece.event_ticker if piece.has_event else None,
        market=None if piece.has_event else piece.event_ticker,
    )
    for current in missing_pieces(conn, narrow, now):
        kept = {ticker: spans for ticker, spans in current.spans.items() if ticker in piece.spans}
        if kept:
            yield Piece(current.series_ticker, current.event_ticker, kept, current.has_event)


def _cutoff(client: ExchangeClient) -> tuple[datetime | None, datetime | None]:
    """Return the time before which trades are only in the historical tier, None from an exchange without tiers, and when it said so.

    Raises:
        ExchangeError: the answer does not say it; taken for an exchange without tiers, half of the trades would be missed.
    """
    try:
        answer = client.historical_cutoff()
    except ExchangeError as error:
        if error.status == NOT_FOUND:
            return None, None
        raise
    try:
        told = answer.document["trades_created_ts"]
        return epoch_seconds(told) if isinstance(told, int) else moment(told), answer.date
    except (TypeError, KeyError, WireValueError):
        said = answer.body[:200].decode(errors="replace")
        raise ExchangeError(answer.status, "no_cutoff", f"no trades_created_ts in {said}", answer.url) from None
