"""What goes wrong on the way, on request: the faults of the simulated exchange.

Some fall on the connection (`drop`, `truncate`, `slow`, `dribble`), some on the bytes (`broken_json`, `html`), some on what the
answer says (`other_shape`, `same_page`, `overlap`, `swapped_pages`, `shuffled`, `ignored_filter`, `other_era`, `wrong_field`); a
number is an HTTP status. They come one by one as a script says, or by chance: then the same question, asked for the same time,
has the same fault with the same seed, in whatever order questions arrive.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal, cast, get_args

from kalshidb.exchange.simulator.query import Query
from kalshidb.exchange.simulator.wire import Document, Era

FaultName = Literal[
    "drop",  # the connection ends without an answer
    "truncate",  # it ends in the middle of one: fewer bytes than Content-Length says
    "slow",  # nothing for a while, then the answer
    "dribble",  # the answer in small pieces with pauses between
    "storm",  # from here on many 429s in a row
    "broken_json",  # 200 with the first half of the JSON, and a Content-Length that agrees
    "html",  # 200 with a page for people
    "other_shape",  # 200 with JSON of another shape
    "same_page",  # a page comes again under another cursor
    "overlap",  # the first rows of the next page also end this one
    "swapped_pages",  # the next page first
    "shuffled",  # rows in another order
    "ignored_filter",  # everything, whatever was asked for
    "other_era",  # this answer in another wire format
    "wrong_field",  # one row has a value that cannot be
]
Fault = FaultName | int
NAMES: tuple[FaultName, ...] = get_args(FaultName)
ON_THE_CONNECTION = frozenset({"drop", "truncate", "slow", "dribble"})
STATUSES = frozenset({429, 500, 502, 503, 504})

STORM_REQUESTS = 12
SLOW_SECONDS = 0.3
DRIBBLE_PIECES = 8
_OVERLAPPING = 3
_FILTERS = frozenset({"series_ticker", "event_ticker", "ticker", "tickers", "status", "category", "mve_filter"})
_OF_THE_SERVERS_CLOCK = frozenset({
    "updated_time", "last_updated_ts", "market_positions_last_updated_ts", "market_settled_ts", "orders_updated_ts",
    "trades_created_ts",
})  # fmt: skip
_WRONG: Mapping[str, Document] = {
    "series": {"title": 5},
    "events": {"title": 5},
    "markets": {"status": 5},
    "candlesticks": {"yes_bid": "nobody"},
    "trades": {"yes_price_dollars": "much", "yes_price": "much"},
    "orderbooks": {"orderbook_fp": "thin", "orderbook": "thin"},
}
_PAGE_FOR_PEOPLE = b"<!DOCTYPE html><html><head><title>Scheduled maintenance</title></head><body>Back soon.</body></html>"
_SEPARATOR = "."  # in no cursor of the exchange's own

Ask = Callable[[Query], Document]


@dataclass(frozen=True, slots=True)
class Settings:
    """What goes wrong by chance.

    Attributes:
        seed: which chances.
        rates: the share of answers, 0 to 1, that have a fault, by its name or status.
        latency: the least and the most seconds that an answer takes, drawn for each.
        skew: how far the server's clock is ahead: in its Date, its cutoff and the times at which it says it changed something.
    """

    seed: int = 0
    rates: Mapping[Fault, float] = field(default_factory=dict[Fault, float])
    latency: tuple[float, float] = (0.0, 0.0)
    skew: timedelta = timedelta()

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for fault, rate in self.rates.items():
            if fault not in NAMES and fault not in STATUSES:
                known = ", ".join((*NAMES, *map(str, sorted(STATUSES))))
                raise ValueError(f"no fault {fault!r}; there are {known}")
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {fault} must lie between 0 and 1: {rate}")
        if sum(self.rates.values()) > 1:
            raise ValueError(f"the rates add up to more than 1: {sum(self.rates.values())}")
        least, most = self.latency
        if not 0 <= least <= most:
            raise ValueError(f"latency goes from a least to a most number of seconds: {least} to {most}")

    @classmethod
    def from_document(cls, document: object) -> "Settings":
        """Read settings as the control path of a running exchange takes them; all may be left out.

        Raises:
            ValueError: a name or value that cannot be; says which.
        """
        if not isinstance(document, dict) or document.keys() - {"seed", "rates", "latency", "skew_seconds"}:
            raise ValueError("faults are an object with seed, rates, latency, skew_seconds, each of which may be left out")
        said = cast("dict[str, Any]", document)
        try:
            low, high = said.get("latency", (0.0, 0.0))
            rates: dict[Fault, float] = {fault_of(name): float(rate) for name, rate in said.get("rates", {}).items()}
            skew = timedelta(seconds=said.get("skew_seconds", 0))
            return cls(int(said.get("seed", 0)), rates, (float(low), float(high)), skew)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"faults: {error}") from None

    def as_document(self) -> Document:
        """Return the settings as `from_document` reads them."""
        rates = {str(fault): rate for fault, rate in self.rates.items()}
        return {"seed": self.seed, "rates": rates, "latency": list(self.latency), "skew_seconds": self.skew.total_seconds()}


def fault_of(text: str) -> Fault:
    """Return the fault of a name, or of a status written as text; what is none is refused where it is used."""
    return int(text) if text.isdigit() else cast("Fault", text)


class Faults:
    """Which fault the next answer has. May be asked from many threads."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Begin with what goes wrong by chance; by default nothing."""
        self.given: Counter[Fault] = Counter()
        """How often each fault was given."""
        self._settings = settings or Settings()
        self._script: deque[Fault] = deque()
        self._storm_until = 0.0
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """What goes wrong by chance now."""
        return self._settings

    def set(self, settings: Settings) -> None:
        """Let other things go wrong by chance from now on, and end what was going on."""
        with self._lock:
            self._settings = settings
            self._script.clear()
            self._storm_until = 0.0

    def script(self, *faults: Fault) -> None:
        """Give the next answers these faults, one each.

        Raises:
            ValueError: there is no such fault.
        """
        Settings(rates=dict.fromkeys(faults, 0.0))
        with self._lock:
            self._script.extend(faults)

    def storm(self, seconds: float) -> None:
        """Answer everything with 429 for so many seconds."""
        with self._lock:
            self._storm_until = time.monotonic() + seconds

    def next(self, question: str) -> "Disturbance":
        """Return what happens to the answer of a question."""
        with self._lock:
            settings = self._settings
            self._times[question] += 1
            chance = Random(f"{settings.seed} {self._times[question]} {question}")
            fault = self._drawn(settings, chance.random())
            if fault == "storm":
                self._script.extend([429] * STORM_REQUESTS)
                fault = 429
            if fault is not None:
                self.given[fault] += 1
        return Disturbance(fault, chance, chance.uniform(*settings.latency), settings.skew)

    def _drawn(self, settings: Settings, drawn: float) -> Fault | None:
        if time.monotonic() < self._storm_until:
            return 429
        if self._script:
            return self._script.popleft()
        for fault, rate in settings.rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What happens to one answer: a fault or none, after some seconds, on a clock that is ahead."""

    fault: Fault | None
    chance: Random
    latency: float
    skew: timedelta

    @property
    def status(self) -> int | None:
        """The HTTP status instead of an answer."""
        return self.fault if isinstance(self.fault, int) else None

    def answer(self, ask: Ask, query: Query) -> Any:  # noqa: ANN401  (wrong answers are any JSON)
        """Return the document of a question, disturbed; a cursor that an earlier fault gave out is understood."""
        query = self._asked(query)
        document = _followed(ask, query)
        made: dict[Fault | None, Callable[[], object]] = {
            "other_shape": lambda: self._misshapen(document),
            "same_page": lambda: _again(document, query),
            "overlap": lambda: _overlapping(document, ask, query),
            "swapped_pages": lambda: _swapped(document, ask, query),
            "shuffled": lambda: self._shuffled(document),
            "wrong_field": lambda: self._wrong(document),
        }
        found = made.get(self.fault, lambda: document)()
        return _shifted(found, self.skew) if self.skew else found

    def _asked(self, query: Query) -> Query:
        if self.fault == "ignored_filter":
            return replace(query, values={name: values for name, values in query.values.items() if name not in _FILTERS})
        if self.fault == "other_era":
            return replace(query, era=self.chance.choice([era for era in get_args(Era) if era != query.era]))
        return query

    def _misshapen(self, document: Document) -> object:
        name = _items(document) or next(iter(document), "data")
        other: list[object] = [{}, [], None, "ok", {"message": "success"}, {name: {}}, {name: "none"}, {"data": document}]
        return self.chance.choice(other)

    def _shuffled(self, document: Document) -> Document:
        name = _items(document)
        if name is None:
            return document
        rows = [
            row | {"candlesticks": self.chance.sample(row["candlesticks"], len(row["candlesticks"]))}
            if isinstance(row, dict) and isinstance(row.get("candlesticks"), list)
            else row
            for row in document[name]
        ]
        return document | {name: self.chance.sample(rows, len(rows))}

    def _wrong(self, document: Document) -> Document:
        name = _items(document)
        if name is None or not document[name]:
            return document
        rows = list(document[name])
        place = self.chance.choice([place for place, row in enumerate(rows) if not _is_empty_ladder(row)] or [0])
        rows[place] = self._wrong(rows[place]) if "candlesticks" in rows[place] else rows[place] | _WRONG[name]
        return document | {name: rows}

    def body(self, body: bytes) -> tuple[bytes, str]:
        """Return the bytes that are sent for an answer, and their content type."""
        if self.fault == "broken_json":
            return body[: max(1, len(body) // 2)], "application/json"
        if self.fault == "html":
            return _PAGE_FOR_PEOPLE, "text/html; charset=utf-8"
        return body, "application/json"

    def date(self, present: int) -> datetime:
        """Return what the server's clock says; `present` is the world's, in microseconds since 1970."""
        return datetime.fromtimestamp(present / 1_000_000, UTC) + self.skew


def _items(document: object) -> str | None:
    """Return the name of the list in an answer, if it holds one."""
    if not isinstance(document, dict):
        return None
    lists = (name for name, value in document.items() if isinstance(value, list) and name != "milestones")
    return next(lists, None)


def _is_empty_ladder(row: Document) -> bool:
    return row.get("candlesticks") == []


def _at(query: Query, cursor: str) -> Query:
    return replace(query, values={**query.values, "cursor": [cursor]})


def _followed(ask: Ask, query: Query) -> Document:
    """Answer a question whose cursor may be one that a fault gave out."""
    how, *cursors = query.text("cursor").split(_SEPARATOR)
    if how == "again" and cursors:
        return ask(_at(query, cursors[0]))
    if how == "back" and len(cursors) == 2:
        return ask(_at(query, cursors[0])) | {"cursor": cursors[1]}
    return ask(query)


def _plain_cursor(query: Query) -> str | None:
    cursor = query.text("cursor")
    return None if _SEPARATOR in cursor else cursor


def _again(document: Document, query: Query) -> Document:
    cursor = _plain_cursor(query)
    return document if cursor is None or "cursor" not in document else document | {"cursor": f"again.{cursor}"}


def _overlapping(document: Document, ask: Ask, query: Query) -> Document:
    name = _items(document)
    if name is None or not document.get("cursor"):
        return document
    following = _followed(ask, _at(query, document["cursor"]))[name]
    return document | {name: [*document[name], *following[:_OVERLAPPING]]}


def _swapped(document: Document, ask: Ask, query: Query) -> Document:
    cursor = _plain_cursor(query)
    if cursor is None or not document.get("cursor"):
        return document
    following = ask(_at(query, document["cursor"]))
    return following | {"cursor": f"back.{cursor}.{following['cursor']}"}


def _shifted(value: Any, skew: timedelta) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, list):
        return [_shifted(part, skew) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _moved(part, skew) if name in _OF_THE_SERVERS_CLOCK and isinstance(part, str) else _shifted(part, skew)
        for name, part in value.items()
    }


def _moved(text: str, skew: timedelta) -> str:
    return (datetime.fromisoformat(text) + skew).astimezone(UTC).isoformat().replace("+00:00", "Z")


def written(document: object) -> bytes:
    """Return an answer as the exchange sends it; the same document has the same bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
