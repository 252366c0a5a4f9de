"""The catalogue kept as the exchange has it: series, events and markets, with their versions and settlements.

Asked for is what can still change: markets that are open, about to open, paused, or closed and not settled. What the exchange
lists no longer and had not settled when it was last seen is asked for by name, in both tiers: it has settled, perhaps before its
time. What opened and settled since the last time was on no list then: it is asked for by when it settled. Everything may be repeated
and stopped at any moment.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from kalshidb.exchange import scalars
from kalshidb.exchange.client import ExchangeClient, ExchangeError
from kalshidb.exchange.questions import MAX_LISTED_TICKERS, REQUESTS, Request, chunks
from kalshidb.ingest.intake import Door
from kalshidb.ingest.pull import take
from kalshidb.queries import catalog, ops

STATUSES = ("open", "unopened", "paused", "closed", "settled")
"""The exchange's words for what to list; other words than a market's own status."""
UNSETTLED = ("open", "unopened", "paused", "closed")
_OF_EVENTS = {"open": "open", "paused": "open", "unopened": "unopened", "closed": "closed", "settled": "settled"}
ASKED_ONE_BY_ONE = 40
"""So many series are asked for each by itself; more than these are picked out of the whole list, which is fewer requests."""

SETTLED_BEFORE = timedelta(hours=1)
"""So much earlier than the last time begins what is asked for by when it settled: clocks differ, and lists lag."""

log = logging.getLogger(__name__)


class SyncError(ValueError):
    """What to synchronise does not exist; says what."""


@dataclass(frozen=True, slots=True)
class SyncScope:
    """What of the catalogue to synchronise.

    Attributes:
        series: only these series; empty for all.
        categories: only series of these categories, in the exchange's words; empty for all.
        statuses: words of STATUSES. `settled` lists markets that settled in the last two months or so.
        with_combos: also multivariate combinations, more than all others together, with those of their events that are not known yet.
        historical: also what settled before that; millions of markets when no series is named.
        max_pages: stop each list after so many pages; the run then counts as truncated.
    """

    series: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    statuses: tuple[str, ...] = UNSETTLED
    with_combos: bool = False
    historical: bool = False
    max_pages: int | None = None

    def __post_init__(self) -> None:
        """Refuse words that the exchange does not know, and empty ones, which it would take for all."""
        for name in ("series", "categories"):
            if "" in getattr(self, name):
                raise SyncError(f"an empty text among the {name}; leave it out for all")
        for word in self.statuses:
            if word not in STATUSES:
                raise SyncError(f"no status {word!r}; there are {', '.join(STATUSES)}")

    @property
    def words(self) -> str:
        """What is chosen, for the source of a run: runs of one source have synchronised the same."""
        chosen = [("series", self.series), ("category", self.categories), ("status", self.statuses)]
        said = [f"{name} {','.join(words)}" for name, words in chosen if words and set(words) != set(UNSETTLED)]
        return "".join(f" {word}" for word in (*said, *(["with combos"] if self.with_combos else [])))


def sync_markets(
    client: ExchangeClient,
    intake: Door,
    scope: SyncScope,
    *,
    on_step: Callable[[str], object] = lambda _: None,
    on_page: Callable[[int], object] = lambda _: None,
    on_market: Callable[[Any], object] = lambda _: None,
) -> None:
    """Bring the catalogue up to date.

    Args:
        client: the exchange, real or simulated.
        intake: where the answers go; its run becomes `truncated` when max_pages cut a list short. While its database is away only the
            lists are asked for: what has left them stays to be asked for by name, by the next run that knows what it has.
        scope: what to synchronise.
        on_step: called with a word on what is being asked for.
        on_page: called after each answer with the number of objects in it.
        on_market: called with each market that the lists have.

    Raises:
        SyncError: a series or category that the exchange does not have.
        kalshidb.exchange.client.ExchangeError: the exchange refuses, or stays out of reach after all retries.
    """
    begun = datetime.now(UTC)
    before = intake.ask(lambda conn: ops.last_complete_run_like(conn, run_id=intake.report.run_id))

    def walk(
        questions: Iterable[Request], name: str, keep: Callable[[Any], bool] | None = None, of: str | None = None
    ) -> Generator[Any, None, None]:
        answers = client.fetch(questions, max_pages=scope.max_pages, on_cut=lambda cut: intake.note_cut(_cut(cut, scope)))
        for document in take(intake, answers, only=None if keep is None else (of or name, keep)):
            found = document.get(name) or []
            objects = found if isinstance(found, list) else [found]
            on_page(len(objects))
            yield from (one for one in objects if isinstance(one, dict))  # what is none has been refused

    on_step("series")
    chosen = _choose_series(walk, scope)
    picked = chosen is not None and len(chosen) > ASKED_ONE_BY_ONE
    few: list[str | None] = [None] if chosen is None or picked else [*sorted(chosen)]

    def of_series(event: Any) -> bool:  # noqa: ANN401  (an object of the exchange)
        return chosen is None or event.get("series_ticker") in chosen

    on_step("events")
    events: set[str] = set()
    listed = _event_questions(scope, few)
    if picked and scope.with_combos:  # whose series they are is said by their events only
        listed = chain(listed, REQUESTS.multivariate_events())
    for event in walk(listed, "events", of_series if picked else None):
        events.add(str(event.get("event_ticker")))

    on_step("markets")
    in_events = (lambda market: market.get("event_ticker") in events) if picked else None
    for market in walk(_market_questions(scope, few), "markets", in_events):
        on_market(market)
    if before is not None and set(UNSETTLED) == set(scope.statuses):
        on_step("markets that have settled")
        _ask_for_settled(walk, few, before.started_at - SETTLED_BEFORE, in_events, scope)
    if scope.historical:
        on_step("historical markets")
        for _ in walk(chain.from_iterable(REQUESTS.historical_markets(series_ticker=one) for one in few), "markets", in_events):
            pass

    if set(UNSETTLED) <= set(scope.statuses) and intake.report.cut is None:
        intake.flush()
        on_step("markets that have left the lists")
        gone = intake.ask(
            lambda conn: catalog.unsettled_markets(
                conn,
                retrieved_before=begun,
                series_tickers=None if chosen is None else sorted(chosen),
                with_combos=scope.with_combos,
            )
        )
        _ask_by_name(walk, [market.market_ticker for market in gone or ()])

    intake.flush()
    on_step("events of those")
    lacking = intake.ask(lambda conn: catalog.stub_events_of_markets(conn, retrieved_since=begun)) or []
    if scope.with_combos:
        _look_for_combos(walk, few, {stub.event_ticker for stub in lacking if stub.is_combo})
    for stub in lacking:
        if not stub.is_combo:
            # Its markets are known from their own list, which tells their category differently: not another quote of each.
            _ask_if_there(
                lambda asked, name: walk(asked, name, lambda _: False, "markets"), [REQUESTS.event(stub.event_ticker)], "event"
            )


Walk = Callable[..., Generator[Any, None, None]]


def _choose_series(walk: Walk, scope: SyncScope) -> set[str] | None:
    """Take in the series and return those chosen; None for all."""
    if scope.series:
        chosen = set()
        for ticker in scope.series:
            found = _ask_if_there(walk, [REQUESTS.series(ticker)], "series")
            if not found:
                raise SyncError(f"the exchange has no series {ticker!r}; `kalshidb sync-markets` without --series lists all")
            chosen |= {str(series["ticker"]) for series in found}
        if scope.categories:
            raise SyncError("a choice of series and one of categories exclude each other")
        return chosen
    if not scope.categories:
        for _ in walk(REQUESTS.series_list(), "series"):
            pass
        return None
    chosen = set()
    for category in scope.categories:
        listed = {str(series.get("ticker")): series for series in walk(REQUESTS.series_list(category=category), "series")}
        if not listed:
            raise SyncError(f"the exchange has no series of category {category!r}")
        for ticker, series in listed.items():
            if category.casefold() not in (word.casefold() for word in _categories(series)):
                raise ExchangeError(200, "filter_ignored", f"asked for category {category}, {ticker} is of another", "/series")
        chosen |= set(listed)
    return chosen


def _categories(series: Mapping[str, Any]) -> Iterator[str]:
    several = series.get("categories")
    for word in (series.get("category"), *(several if isinstance(several, list) else ())):
        if isinstance(word, str):
            yield word


def _event_questions(scope: SyncScope, few: Sequence[str | None]) -> Iterator[Request]:
    for status in dict.fromkeys(_OF_EVENTS[word] for word in scope.statuses):
        for series in few:
            yield from REQUESTS.events(status=status, series_ticker=series)


def _market_questions(scope: SyncScope, few: Sequence[str | None]) -> Iterator[Request]:
    for status in scope.statuses:
        for series in few:
            yield from REQUESTS.markets(status=status, series_ticker=series, mve_filter=None if scope.with_combos else "exclude")


def _ask_for_settled(
    walk: Walk, few: Sequence[str | None], since: datetime, in_events: Callable[[Any], bool] | None, scope: SyncScope
) -> None:
    """Take in the markets of the live tier that have settled since a moment, and none that settled before, whatever is answered."""

    def wanted(market: Any) -> bool:  # noqa: ANN401  (an object of the exchange)
        try:
            settled = scalars.moment(market.get("settlement_ts"))
        except (scalars.WireValueError, AttributeError):
            return True  # whatever it is, it is not passed over in silence
        return (settled is None or settled >= since) and (in_events is None or in_events(market))

    combos = None if scope.with_combos else "exclude"
    for series in few:
        asked = REQUESTS.markets(status="settled", series_ticker=series, min_settled=since, mve_filter=combos)
        try:
            for _ in walk(asked, "markets", wanted):
                pass
        except ExchangeError as error:
            if error.status != 400:
                raise
            log.warning("the exchange does not say what has settled since %s: %s", since, error)
            return


def _ask_by_name(walk: Walk, tickers: Sequence[str]) -> None:
    """Take in markets by name from whichever tier has them; the exchange leaves out those that it does not have there."""
    for some in chunks(tickers, MAX_LISTED_TICKERS):
        live = {market.get("ticker") for market in walk(REQUESTS.markets_named(some), "markets")}
        moved = [ticker for ticker in some if ticker not in live]
        _ask_if_there(walk, REQUESTS.markets_named(moved, historical=True), "markets")


def _look_for_combos(walk: Walk, few: Sequence[str | None], lacking: set[str]) -> None:
    """Take in the list of combinations' events as far as it takes to find those that are lacking: it has no filter by status."""
    for series in few if lacking else ():
        with closing(walk(REQUESTS.multivariate_events(series_ticker=series), "events")) as listed:
            for event in listed:
                lacking.discard(str(event.get("event_ticker")))
                if not lacking:
                    return


def _ask_if_there(walk: Walk, questions: Iterable[Request], name: str) -> list[Any]:
    """Take in what the exchange has of something, which may be nothing: not all that is in our catalogue is in its."""
    try:
        return list(walk(questions, name))
    except ExchangeError as error:
        if error.status == 404:
            return []
        raise


def _cut(question: Request, scope: SyncScope) -> str:
    filters = " ".join(f"{name}={value}" for name, value in question.params if name != "limit")
    return f"{question.path} {filters}: stopped after {scope.max_pages} pages, there are more".replace(" :", ":")
