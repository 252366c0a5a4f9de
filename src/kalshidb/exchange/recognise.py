"""What is in a saved document: a stream of items, each with its kind, its payload and what its surroundings say about
it.

Answers of the exchange are saved in many shapes: as they came, in a recorder's wrapper, keyed by ticker, as a list of
pages, as one object a line, without their envelope. `recognise` walks a parsed document and yields every object of the
exchange it finds. It decides by envelope where there is one (`markets`, `trades`, `candlesticks` …) and by the object's
own fields where there is none; it never decides by a file's name. Whether an object is right is not decided here: a
broken market among markets is still an item, and its model says which field is wrong.

What an answer leaves out (the market of a candle, its period, when it was seen) is taken from the object itself, else
from the nearest wrapper that says it, else from the caller's hints. A hint that the document contradicts is a mistake
in one of the two: the object is handed back as `Unrecognised` with both words. Only `observed_at` is a mere default:
the document's own clock wins.

Nothing is dropped silently: what is known but has no table is `NotStored`, all else is `Unrecognised`. Notes that a
recorder put beside an envelope are not the exchange's and are passed over. No input or output here, and no database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

from kalshidb.exchange import models, scalars
from kalshidb.exchange.scalars import is_ticker, shown


class Kind(StrEnum):
    """What an item is; the word that `--kind` takes."""

    SERIES = "series"
    EVENT = "event"
    MARKET = "market"
    CANDLESTICK = "candlestick"
    TRADE = "trade"
    ORDERBOOK = "orderbook"
    SETTLEMENT = "settlement"
    WS_TICKER = "ws_ticker"
    WS_TRADE = "ws_trade"
    WS_LIFECYCLE = "ws_lifecycle"
    WS_ORDERBOOK_SNAPSHOT = "ws_orderbook_snapshot"
    WS_ORDERBOOK_DELTA = "ws_orderbook_delta"


MODELS: Mapping[Kind, type[models.WireModel]] = {
    Kind.SERIES: models.Series,
    Kind.EVENT: models.Event,
    Kind.MARKET: models.Market,
    Kind.CANDLESTICK: models.Candlestick,
    Kind.TRADE: models.Trade,
    Kind.ORDERBOOK: models.OrderBook,
    Kind.SETTLEMENT: models.Settlement,
    Kind.WS_TICKER: models.TickerFrame,
    Kind.WS_TRADE: models.TradeFrame,
    Kind.WS_LIFECYCLE: models.MarketLifecycleFrame,
    Kind.WS_ORDERBOOK_SNAPSHOT: models.OrderBookSnapshotFrame,
    Kind.WS_ORDERBOOK_DELTA: models.OrderBookDeltaFrame,
}


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller knows and the document may not say. `kind` also decides what shape alone cannot."""

    kind: Kind | None = None
    market_ticker: str | None = None
    series_ticker: str | None = None
    period_interval_minutes: int | None = None
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One object of the exchange. `path` is its place in the document ($.response.markets[3]).

    `market_ticker`, `series_ticker`, `category`, `period_interval_minutes` and `observed_at` are what the object, its
    surroundings or the hints say; None where nobody does. An event's payload comes without its nested markets: they are
    items of their own.
    """

    kind: Kind
    payload: dict[str, Any]
    path: str
    market_ticker: str | None = None
    series_ticker: str | None = None
    category: str | None = None
    period_interval_minutes: int | None = None
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NotStored:
    """Something of the exchange that is known and has no table: what it is, where, how many."""

    what: str
    path: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A part of the document that could not be told, or that contradicts a hint."""

    path: str
    payload: Any
    reason: str


Found: TypeAlias = Item | NotStored | Unrecognised
Walk: TypeAlias = Generator[Found, None, bool]  # returns whether anything was recognised; if not, it has yielded nothing

DEPTH_LIMIT = 48
EASTERN = ZoneInfo("America/New_York")


def recognise(document: object, hints: Hints | None = None) -> Iterator[Found]:
    """Every object of the exchange in one parsed document (json.loads(text, parse_float=Decimal)), as a stream.

    A document in which nothing is recognised yields exactly one `Unrecognised`; an empty page yields nothing. Never
    raises for what a document holds.
    """
    hints = hints or Hints()
    walker = _Walker(hints)
    try:
        found = yield from walker.walk(document, "$", _Context(observed_at=hints.observed_at), 0)
    except RecursionError:
        yield Unrecognised("$", None, "nested too deeply")
        return
    if found:
        return
    if hints.kind is not None and (
        yield from walker.forced(document, "$", _context_of(document, _Context(observed_at=hints.observed_at)), 0)
    ):
        return
    reason = walker.too_deep or ("is empty" if document in ({}, []) else "nothing of the exchange was found in it")
    yield Unrecognised("$", document, reason)


def parse(item: Item) -> models.WireModel:
    """The model of an item, completed by what its surroundings said. Raises pydantic's ValidationError naming the
    wire's fields.
    """
    return MODELS[item.kind].from_wire(
        item.payload,
        market_ticker=item.market_ticker,
        series_ticker=item.series_ticker,
        category=item.category,
        period_interval_minutes=item.period_interval_minutes,
    )


# What surrounds an object


_Parents: TypeAlias = dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True)
class _Context:
    market_ticker: str | None = None
    series_ticker: str | None = None
    category: str | None = None
    period_interval_minutes: int | None = None
    observed_at: datetime | None = None
    of_event: bool = False  # below an event: a market here is no contradiction to a hint that says event
    parents: _Parents = field(default_factory=dict)  # of markets: event_ticker → its series and category


#: Keys under which recorders keep what they know about the request; never searched for objects.
_ABOUT = frozenset((
    "_metadata", "metadata", "_meta", "meta", "request", "req", "params", "query", "args", "context", "info",
    "request_params", "request_info", "query_params", "headers", "request_headers", "response_headers", "config",
    "options", "settings",
))  # fmt: skip
_NOTES = frozenset(("note", "notes", "comment", "description", "error", "errors"))
_TICKER_KEYS = ("market_ticker", "ticker", "market")
_SERIES_KEYS = ("series_ticker", "series")
_PERIOD_KEYS = (
    "period_interval_minutes",
    "period_interval",
    "interval_minutes",
    "interval",
    "resolution",
    "granularity",
)
_URL_KEYS = ("url", "request_url", "uri", "endpoint", "path", "href", "request", "source", "source_url")
_VERBS = (
    "received", "captured", "recorded", "observed", "retrieved", "fetched", "collected", "scraped", "polled",
    "snapshot", "recv", "saved", "downloaded",
)  # fmt: skip
_SEEN_KEYS = tuple(
    f"{verb}_{suffix}" for verb in _VERBS for suffix in ("at", "ms", "at_ms", "ts", "ts_ms", "time", "ns", "at_utc", "utc")
)
_TIME_KEYS = (*_SEEN_KEYS, "timestamp_ms", "timestamp", "startedDateTime", "ts_ms", "ts", "time", "date")
_SEEN = frozenset(_SEEN_KEYS)
_WORDS_OF_PERIOD = {
    "1m": 1, "1min": 1, "minute": 1, "1h": 60, "60m": 60, "hour": 60, "hourly": 60,
    "1d": 1440, "day": 1440, "daily": 1440,
}  # fmt: skip
_looks_like_ticker = re.compile(r"[A-Z0-9][A-Z0-9.]*-[A-Z0-9._-]+|KX[A-Z0-9.]+").fullmatch
_looks_like_url = re.compile(r"(https?:/)?/\S+|[a-z_]+/\S+|(GET|POST) \S+", re.IGNORECASE).match
_market_in_url = re.compile(r"/markets/([^/?]+)/?(?:candlesticks|orderbook)?/?$").search
_series_in_url = re.compile(r"/series/([^/?]+)").search


def _context_of(holder: object, context: _Context) -> _Context:
    """The context with what a wrapper says about everything below it; what stands nearer wins."""
    if not isinstance(holder, dict):
        return context
    for key in _ABOUT:
        about = holder.get(key)
        if isinstance(about, dict):
            context = _said_by(about, context)
            for part in about.values():
                if isinstance(part, dict):
                    context = _said_by(part, context)
    return _said_by(holder, context)


def _context_beside(holder: dict[str, Any], context: _Context) -> _Context:
    """The context of what stands beside a single market: its candles, trades and book are that market's."""
    market = holder.get("market")
    ticker = _own_ticker(market) if isinstance(market, dict) else None
    return replace(context, market_ticker=ticker) if ticker else context


def _said_by(holder: dict[str, Any], context: _Context) -> _Context:
    said: dict[str, Any] = {}
    for key in _URL_KEYS:
        if isinstance(holder.get(key), str):
            said |= _said_by_url(holder[key])
    for key in _TICKER_KEYS:
        if is_ticker(holder.get(key)) and (key != "market" or _looks_like_ticker(holder[key])):
            said["market_ticker"] = holder[key]
            break
    for key in _SERIES_KEYS:
        if is_ticker(holder.get(key)):
            said["series_ticker"] = holder[key]
            break
    for key in _PERIOD_KEYS:
        minutes = _minutes(holder.get(key), certain=key.startswith("period"))
        if minutes is not None:
            said["period_interval_minutes"] = minutes
            break
    for key in _TIME_KEYS:
        when = _moment(holder.get(key))
        if when is not None:
            said["observed_at"] = when
            break
    return replace(context, **said) if said else context


def _context_of_key(key: object, context: _Context) -> tuple[_Context, bool]:
    """The context under a key that is a ticker or a request's address, and whether it is one."""
    if isinstance(key, str) and _looks_like_ticker(key):
        return (replace(context, market_ticker=key) if "-" in key else replace(context, series_ticker=key)), True
    if isinstance(key, str) and _looks_like_url(key):
        return replace(context, **_said_by_url(key)), True
    return context, False


def _said_by_url(url: str) -> dict[str, Any]:
    """What a request's address says: …/series/KXA/markets/KXA-B/candlesticks?period_interval=60."""
    said: dict[str, Any] = {}
    try:
        parts = urlsplit(url.split(" ", 1)[-1])
        query = parse_qs(parts.query)
    except ValueError:
        return said
    market, series = _market_in_url(parts.path), _series_in_url(parts.path)
    tickers = [query[name][0] for name in ("ticker", "market_ticker") if name in query]
    if market and market[1] not in ("trades", "candlesticks", "orderbooks"):
        tickers.insert(0, unquote(market[1]))
    if tickers and is_ticker(tickers[0]):
        said["market_ticker"] = tickers[0]
    named = unquote(series[1]) if series else query.get("series_ticker", [""])[0]
    if is_ticker(named) and named != "fee_changes":
        said["series_ticker"] = named
    minutes = _minutes(query.get("period_interval", [""])[0], certain=True)
    if minutes is not None:
        said["period_interval_minutes"] = minutes
    return said


def _minutes(value: object, *, certain: bool = False) -> int | None:
    if isinstance(value, str):
        if value.lower() in _WORDS_OF_PERIOD:
            return _WORDS_OF_PERIOD[value.lower()]
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else None
    if type(value) is not int or not 0 < value < 100_000:
        return None
    return value if certain or value in (1, 60, 1440) else None


def _moment(value: object) -> datetime | None:
    """When a wrapper says it was seen: RFC 3339 with an offset, or an epoch whose unit its size tells. Anything else
    says nothing.
    """
    try:
        if isinstance(value, str):
            return scalars.moment(value)
        if value is None or isinstance(value, bool | dict | list):
            return None
        number = scalars.exact(value)
        for unit in (1, 1000, 10**6, 10**9):
            seconds = number / unit
            if scalars.EARLIEST.timestamp() <= seconds < scalars.LATEST.timestamp():
                return scalars.epoch_seconds(Decimal(seconds).quantize(Decimal("0.000001")))
    except (scalars.WireValueError, ArithmeticError):
        pass
    return None


# What an object or an envelope looks like

_ENVELOPES: Mapping[str, Kind] = {
    "series": Kind.SERIES,
    "series_list": Kind.SERIES,
    "event": Kind.EVENT,
    "events": Kind.EVENT,
    "market": Kind.MARKET,
    "markets": Kind.MARKET,
    "candlestick": Kind.CANDLESTICK,
    "candlesticks": Kind.CANDLESTICK,
    "candles": Kind.CANDLESTICK,
    "trade": Kind.TRADE,
    "trades": Kind.TRADE,
    "orderbooks": Kind.ORDERBOOK,
    "settlement": Kind.SETTLEMENT,
    "settlements": Kind.SETTLEMENT,
}

#: Envelopes of answers that have no table.
_NOT_STORED: Mapping[str, str] = {
    "fills": "portfolio fills",
    "fill": "portfolio fills",
    "orders": "portfolio orders",
    "order": "portfolio orders",
    "positions": "portfolio positions",
    "market_positions": "portfolio positions",
    "event_positions": "portfolio event positions",
    "portfolio_value": "portfolio balance",
    "balance_dollars": "portfolio balance",
    "balance": "portfolio balance",
    "total_resting_order_value": "portfolio resting order value",
    "order_groups": "portfolio order groups",
    "queue_positions": "portfolio queue positions",
    "deposits": "portfolio deposits",
    "withdrawals": "portfolio withdrawals",
    "subaccount_balances": "portfolio subaccounts",
    "endpoint_costs": "account endpoint costs",
    "api_limits": "account limits",
    "usage_tier": "account limits",
    "api_keys": "account keys",
    "exchange_active": "exchange status",
    "schedule": "exchange schedule",
    "announcements": "exchange announcements",
    "user_data_as_of_time": "exchange user data timestamp",
    "as_of_time": "exchange user data timestamp",
    "trades_created_ts": "historical cutoff",
    "market_settled_ts": "historical cutoff",
    "grids": "price range census",
    "milestones": "milestones",
    "milestone": "milestones",
    "market_details": "event metadata",
    "multivariate_contract": "multivariate event collections",
    "multivariate_contracts": "multivariate event collections",
    "lookup_points": "multivariate event collection lookups",
    "series_fee_change_array": "fee changes of series",
    "series_fee_change_arr": "fee changes of series",
    "event_fee_changes": "fee changes of events",
    "structured_targets": "structured targets",
    "structured_target": "structured targets",
    "live_data": "live data",
    "live_datas": "live data",
    "forecast_history": "forecast history",
    "incentive_programs": "incentive programs",
    "tags_by_categories": "tags by category",
    "filters_by_sports": "filters by sport",
    "rfqs": "requests for quotes",
    "rfq": "requests for quotes",
    "quotes": "quotes",
    "communications_id": "communications id",
}

_STORED_FRAMES: Mapping[str, Kind] = {
    "ticker": Kind.WS_TICKER,
    "trade": Kind.WS_TRADE,
    "market_lifecycle": Kind.WS_LIFECYCLE,
    "market_lifecycle_v2": Kind.WS_LIFECYCLE,
    "multivariate_market_lifecycle": Kind.WS_LIFECYCLE,
    "orderbook_snapshot": Kind.WS_ORDERBOOK_SNAPSHOT,
    "orderbook_delta": Kind.WS_ORDERBOOK_DELTA,
}
_CONTROL_FRAMES = frozenset(("subscribed", "unsubscribed", "ok", "error", "list_subscriptions", "ping", "pong", "heartbeat"))

_CANDLE = frozenset(("yes_bid", "yes_ask", "price", "volume", "volume_fp", "open_interest", "open_interest_fp"))
_TAKER = frozenset(("taker_side", "taker_outcome_side", "taker_book_side"))
_TRADE_PRICE = frozenset(("yes_price", "yes_price_dollars", "no_price", "no_price_dollars", "price", "count", "count_fp"))
_OWN_FILL = frozenset(("fill_id", "order_id", "is_taker", "action"))
_MARKET_ONLY = frozenset((
    "market_type", "yes_bid", "yes_bid_dollars", "yes_ask", "yes_ask_dollars", "last_price", "last_price_dollars",
    "yes_sub_title", "no_sub_title", "rules_primary", "open_time", "close_time", "expiration_time",
    "latest_expiration_time", "strike_type", "price_level_structure",
))  # fmt: skip
_EVENT_ONLY = frozenset((
    "mutually_exclusive", "collateral_return_type", "strike_period", "sub_title", "strike_date",
    "available_on_brokers",
))  # fmt: skip
_SERIES_ONLY = frozenset(
    ("fee_type", "fee_multiplier", "frequency", "contract_url", "contract_terms_url", "additional_prohibitions")
)
_SETTLEMENT_ONLY = frozenset(("market_result", "settled_time", "revenue", "yes_total_cost", "yes_total_cost_dollars"))
_POSITION_ONLY = frozenset(
    ("market_exposure", "market_exposure_dollars", "position_fp", "event_exposure", "event_exposure_dollars")
)
_IN_MARKETS = ("candlesticks", "candles", "trades", "orderbook", "orderbook_fp")
_SIDES = frozenset(f"{side}{form}" for side in ("yes", "no") for form in ("", "_dollars", "_dollars_fp", "_fp"))
_BOOKS = ("orderbook", "orderbook_fp")


def _kind_of(thing: dict[str, Any]) -> Kind | str | None:  # noqa: PLR0911  # a list of decisions, in order
    """The kind of one bare object by its own fields; text says which known thing without a table it is."""
    keys = thing.keys()
    if "end_period_ts" in keys and keys & _CANDLE:
        return Kind.CANDLESTICK
    if keys & _OWN_FILL and keys & _TRADE_PRICE and ("trade_id" in keys or "order_id" in keys or "fill_id" in keys):
        return "portfolio fills" if "trade_id" in keys or "fill_id" in keys else "portfolio orders"
    if ("trade_id" in keys or keys & _TAKER) and keys & _TRADE_PRICE:
        return Kind.TRADE
    if len(keys & _SETTLEMENT_ONLY) >= 2:
        return Kind.SETTLEMENT
    if keys & _POSITION_ONLY:
        return "portfolio positions"
    market, event, series = len(keys & _MARKET_ONLY), len(keys & _EVENT_ONLY), len(keys & _SERIES_ONLY)
    if "ticker" in keys or "market_ticker" in keys:
        if market >= 2 or ("event_ticker" in keys and (market or keys & {"status", "result", "title"}) and not event):
            return Kind.MARKET
    elif "event_ticker" in keys:
        if market >= 3:
            return Kind.MARKET  # without its ticker
        if event + len(keys & {"series_ticker", "title"}) >= 2 and not keys & {*_IN_MARKETS, "market_candlesticks"}:
            return Kind.EVENT
    if series >= 2 or (series and "ticker" in keys and "title" in keys):
        return Kind.SERIES
    if any(isinstance(thing.get(name), dict) for name in _BOOKS) or _is_bare_book(thing):
        return Kind.ORDERBOOK
    if "price_level_structure" in keys and "price_ranges" in keys:
        return "price range census"
    return None


_LIVES = frozenset((
    "created", "activated", "deactivated", "close_date_updated", "determined", "settled", "price_level_structure_updated",
    "metadata_updated",
))  # fmt: skip
_STAMPS = frozenset(("ts", "ts_ms"))
_ENVELOPE = frozenset(("type", "id", "sid", "seq"))


def _frame_of(thing: dict[str, Any]) -> dict[str, Any] | None:
    """The frame whose message was saved without its envelope, or None where an object is not plainly one.

    What a quote and a trade of the stream have and an answer has not is a stamp: answers say their times by other names.
    """
    keys = thing.keys()
    if (
        "market_ticker" not in keys
        or keys & {"msg", "event_ticker", "end_period_ts", "status", "created_time"}
        or keys & _OWN_FILL
    ):
        return None
    if "side" in keys and keys & {"delta", "delta_fp"} and keys & {"price", "price_dollars"}:
        return _enveloped("orderbook_delta", thing)
    if "trade_id" in keys and keys & _STAMPS and keys & _TRADE_PRICE:
        return _enveloped("trade", thing)
    if keys & _STAMPS and all(keys & {name, f"{name}_dollars"} for name in ("price", "yes_bid", "yes_ask")):
        return _enveloped("ticker", thing)
    if thing.get("event_type") in _LIVES:
        return _enveloped("market_lifecycle_v2", thing)
    return None


def _enveloped(word: str, thing: dict[str, Any]) -> dict[str, Any]:
    envelope: dict[str, Any] = {"type": word}
    envelope |= {name: thing[name] for name in ("sid", "seq") if name in thing}
    return envelope | {"msg": {name: value for name, value in thing.items() if name not in _ENVELOPE}}


def _is_bare_book(thing: dict[str, Any]) -> bool:
    sides = thing.keys() & _SIDES
    return (
        bool(sides)
        and all(
            thing[side] is None
            or (isinstance(thing[side], list) and all(isinstance(level, list) and len(level) == 2 for level in thing[side]))
            for side in sides
        )
        and (any(thing[side] for side in sides) or len(sides) >= 2)
    )


def _step(path: str, key: object) -> str:
    """The path of a member; a key that is no plain name is quoted, so that any key gives a path that can be stored."""
    if isinstance(key, str) and key.isidentifier() and key.isascii():
        return f"{path}.{key[:80]}"
    return f"{path}[{json.dumps(str(key)[:80])}]"


# The walk


class _Walker:
    def __init__(self, hints: Hints) -> None:
        self.hints = hints
        self.too_deep = ""

    # Going down

    def walk(self, value: object, path: str, context: _Context, depth: int) -> Walk:
        if depth > DEPTH_LIMIT:
            self.too_deep = f"nested deeper than {DEPTH_LIMIT} levels"
            return False
        if isinstance(value, dict):
            return (yield from self.walk_dict(value, path, context, depth))
        if isinstance(value, list):
            return (yield from self.walk_list(value, path, context, depth))
        if isinstance(value, str) and value[:200].lstrip()[:1] in ("{", "["):
            return (yield from self.walk_text(value, path, context, depth))
        return False

    def walk_text(self, text: str, path: str, context: _Context, depth: int) -> Walk:
        """A body that was saved as text inside of JSON (HAR files, cassettes, log lines)."""
        try:
            inner = json.loads(text, parse_float=Decimal)
        except (ValueError, RecursionError):
            return False
        return (yield from self.walk(inner, path, context, depth + 1))

    def walk_list(self, values: list[Any], path: str, context: _Context, depth: int) -> Walk:
        """A list without an envelope: objects, pages, whole answers. Its candles are judged together."""
        found = False
        waiting: list[int] = []
        inferred = _inferred_periods(values)
        for place, value in enumerate(values):
            at = f"{path}[{place}]"
            if inferred and isinstance(value, dict) and _kind_of(value) is Kind.CANDLESTICK:
                walk = self.candlestick(value, at, context, inferred)
            else:
                walk = self.walk(value, at, context, depth + 1)
            if (yield from walk):
                for earlier in waiting:
                    yield from self.stray(values[earlier], f"{path}[{earlier}]", context)
                waiting.clear()
                found = True
            elif found:
                yield from self.stray(value, at, context)
            else:
                waiting.append(place)
        return found

    def stray(self, value: object, path: str, context: _Context) -> Iterator[Found]:
        """An element in which nothing was recognised, in a list in which something was."""
        if self.hints.kind is not None and isinstance(value, dict):
            yield from self.item(self.hints.kind, value, path, context)
        else:
            yield Unrecognised(path, value, "nothing of the exchange was found in it")

    def walk_dict(self, holder: dict[str, Any], path: str, context: _Context, depth: int) -> Walk:
        frame = holder.get("type")
        if isinstance(frame, str) and (yield from self.frame(frame, holder, path, context)):
            return True
        bare = _frame_of(holder)
        if bare is not None:
            yield from self.item(_STORED_FRAMES[bare["type"]], bare, path, context)
            return True
        kind = _kind_of(holder)
        if kind is None:
            return (yield from self.wrapper(holder, path, context, depth))
        if isinstance(kind, Kind):
            yield from self.objects(self.hints.kind or kind, holder, path, context, depth)
        else:
            yield NotStored(kind, path)
        return True

    def wrapper(self, holder: dict[str, Any], path: str, context: _Context, depth: int) -> Walk:
        """Something around objects: the exchange's envelope, a recorder's, or both in one."""
        context = _context_of(holder, context)
        if isinstance(holder.get("market_tickers"), list) and isinstance(holder.get("market_candlesticks"), list):
            yield from self.event_candlesticks(holder, path, context, depth)
            return True
        parents = _parents(holder)
        if parents:
            context = replace(context, parents=parents)
        context = _context_beside(holder, context)
        known: set[str] = set()
        for name in _ENVELOPES:
            if name in holder and _is_envelope(name, holder[name]):
                known.add(name)
                yield from self.envelope(name, holder[name], _step(path, name), context, depth)
        for name, what in _NOT_STORED.items():
            if name in holder and (what not in known) and self.is_not_stored(name, holder):
                known |= {name, what}
                count = len(holder[name]) if isinstance(holder[name], list) else 1
                if count:
                    yield NotStored(what, _step(path, name), count)
        error = holder.get("error")
        is_error = isinstance(error, dict) or (isinstance(error, str) and bool(error))
        if is_error and not any(holder.get(name) for name in known):
            # Also beside an empty page, which is then no page.
            yield NotStored("error answer", path)
            yield from self.members(holder, path, context, depth, known)
            return True
        return (yield from self.members(holder, path, context, depth, known))

    def members(self, holder: dict[str, Any], path: str, context: _Context, depth: int, known: set[str]) -> Walk:
        """The members of a wrapper under names of the recorder's choice.

        Beside an envelope they are its notes unless an object is in them; a note of more than one level is reported. What says
        how was asked (`request`, `params` …) is searched for objects only. Beside another member that was recognised,
        one in which nothing was is a stray, unless a usual wrapper (`response`, `body` …) says which member holds the
        answer, or it is a single level of scalars beside a single answer: a recorder's note.
        """
        found = len(known)
        answered = bool(known)
        strays: list[str] = []
        for key, value in holder.items():
            if key in known or key in _NOTES or value in (None, "", [], {}):
                continue
            inner, keyed = _context_of_key(key, context)
            walk = self.walk(value, _step(path, key), inner, depth + 1)
            if key in _ABOUT:
                about = list(walk)
                if any(isinstance(part, Item) for part in about):
                    yield from about
                    found += 1
            elif known:
                beside = list(walk)
                if any(isinstance(part, Item) for part in beside):
                    yield from beside
                elif known & _ENVELOPES.keys() and not _is_flat(value):
                    yield NotStored(f"recorder's note {key!r}", _step(path, key))
            elif (yield from walk):
                found += 1
                answered = answered or key in _WRAPPERS
            elif keyed or isinstance(value, dict | list):
                strays.append(key)
        if found and not answered:
            for key in strays:
                if found > 1 or not _is_flat(holder[key]) or _context_of_key(key, context)[1]:
                    yield from self.stray(holder[key], _step(path, key), context)
        return bool(found)

    # Envelopes

    def envelope(self, name: str, content: object, path: str, context: _Context, depth: int) -> Iterator[Found]:
        kind = _ENVELOPES[name]
        if isinstance(content, list):
            yield from self.elements(kind, content, path, context, depth)
        elif isinstance(content, dict):
            own = _kind_of(content)
            if own is None and all(
                isinstance(value, dict) and _context_of_key(key, context)[1] for key, value in content.items()
            ):
                yield from self.keyed(kind, content, path, context, depth)
                return
            if own is kind or (own is None and name in _SINGULAR and not _is_wrapper(content)):
                yield from self.objects(kind, content, path, context, depth)
                return
            if any(_context_of_key(key, context)[1] for key in content):
                yield from self.keyed(kind, content, path, context, depth)
            elif content and not (yield from self.walk(content, path, context, depth + 1)):
                yield from self.objects(kind, content, path, context, depth)

    def elements(self, kind: Kind, values: list[Any], path: str, context: _Context, depth: int) -> Walk:
        """The elements of an envelope: each is of its kind, whatever state it is in, unless it is plainly a wrapper
        around something.
        """
        inferred = _inferred_periods(values) if kind is Kind.CANDLESTICK else {}
        for place, value in enumerate(values):
            at = f"{path}[{place}]"
            if not isinstance(value, dict):
                if isinstance(value, list | str) and (yield from self.walk(value, at, context, depth + 1)):
                    continue
                yield Unrecognised(at, value, f"a {kind} was expected, found {shown(value)}")
                continue
            if _kind_of(value) is not kind and _is_wrapper(value) and (yield from self.walk(value, at, context, depth + 1)):
                continue
            if kind is Kind.CANDLESTICK:
                yield from self.candlestick(value, at, context, inferred)
            else:
                yield from self.objects(kind, value, at, context, depth)
        return True

    def keyed(self, kind: Kind, content: dict[str, Any], path: str, context: _Context, depth: int) -> Iterator[Found]:
        """An envelope that a recorder keyed by ticker: {"markets": {"KXA-B": {…}, …}}."""
        for key, value in content.items():
            at = _step(path, key)
            inner, _ = _context_of_key(key, context)
            if (yield from self.walk(value, at, inner, depth + 1)):
                continue
            if isinstance(value, dict):
                yield from self.objects(kind, value, at, inner, depth)
            elif value is not None and value != []:
                yield Unrecognised(at, value, f"a {kind} was expected, found {shown(value)}")

    def event_candlesticks(self, holder: dict[str, Any], path: str, context: _Context, depth: int) -> Iterator[Found]:
        """The event endpoint's answer: one list of tickers and, beside it, one list of candles a ticker."""
        tickers, ladders = holder["market_tickers"], holder["market_candlesticks"]
        for place, candles in enumerate(ladders):
            at = f"{path}.market_candlesticks[{place}]"
            if place >= len(tickers) or not is_ticker(tickers[place]):
                yield Unrecognised(at, candles, f"market_tickers[{place}] names no market for it")
            elif isinstance(candles, list):
                yield from self.elements(Kind.CANDLESTICK, candles, at, replace(context, market_ticker=tickers[place]), depth)
            elif candles is not None:
                yield Unrecognised(at, candles, f"a list of candlesticks was expected, found {shown(candles)}")
        for place in range(len(ladders), len(tickers)):
            yield Unrecognised(f"{path}.market_tickers[{place}]", tickers[place], "market_candlesticks holds nothing for it")

    def is_not_stored(self, name: str, holder: dict[str, Any]) -> bool:
        value = holder[name]
        if name in ("balance", "portfolio_value", "balance_dollars", "total_resting_order_value"):
            return (
                not isinstance(value, dict | list | bool)
                and len(holder.keys() & {"balance", "portfolio_value", "balance_dollars"}) > 1
            )
        if name in (
            "exchange_active",
            "trades_created_ts",
            "market_settled_ts",
            "usage_tier",
            "as_of_time",
            "communications_id",
        ):
            return not isinstance(value, dict | list)
        if name in ("user_data_as_of_time",):
            return True
        return isinstance(value, dict | list)

    # Objects

    def objects(
        self,
        kind: Kind,
        thing: dict[str, Any],
        path: str,
        context: _Context,
        depth: int,
    ) -> Iterator[Found]:
        """One object, and what is nested in it: the markets of an event, the candles or the book a recorder put into a
        market.
        """
        if kind is Kind.EVENT:
            yield from self.event(thing, path, context, depth)
        elif kind is Kind.CANDLESTICK:
            yield from self.candlestick(thing, path, context, _inferred_periods([thing]))
        elif kind is Kind.MARKET:
            yield from self.market(thing, path, context, depth)
        elif kind is Kind.ORDERBOOK:
            yield from self.book(thing, path, _context_of(thing, context), depth)
        else:
            yield from self.item(kind, thing, path, context)

    def market(self, thing: dict[str, Any], path: str, context: _Context, depth: int) -> Iterator[Found]:
        event = thing.get("event_ticker")
        parent = context.parents.get(event) if isinstance(event, str) else None
        if parent:
            context = replace(context, series_ticker=parent[0] or context.series_ticker, category=parent[1], of_event=True)
        inside = {name: thing[name] for name in _IN_MARKETS if isinstance(thing.get(name), dict | list)}
        if not inside:
            yield from self.item(Kind.MARKET, thing, path, context)
            return
        alone = {name: value for name, value in thing.items() if name not in inside}
        yield from self.item(Kind.MARKET, alone, path, context)
        inner = replace(_context_of(alone, context), market_ticker=_own_ticker(thing) or context.market_ticker)
        for name, content in inside.items():
            part = {name: content}
            if not (yield from self.walk(part, path, inner, depth + 1)):
                yield Unrecognised(_step(path, name), content, "nothing of the exchange was found in it")

    def book(self, thing: dict[str, Any], path: str, context: _Context, depth: int) -> Iterator[Found]:
        """A book; and what was saved beside it in one wrapper, {"market": {…}, "orderbook": {…}}."""
        beside = {name: value for name, value in thing.items() if name in _ENVELOPES and isinstance(value, dict | list) and value}
        if not beside:
            yield from self.item(Kind.ORDERBOOK, thing, path, context)
            return
        context = _context_beside(thing, context)
        alone = {name: value for name, value in thing.items() if name not in beside}
        yield from self.item(Kind.ORDERBOOK, alone, path, context)
        if not (yield from self.walk(beside, path, context, depth + 1)):
            yield Unrecognised(path, beside, "nothing of the exchange was found in it")

    def event(self, thing: dict[str, Any], path: str, context: _Context, depth: int) -> Iterator[Found]:
        alone = {name: value for name, value in thing.items() if name != "markets"}
        nested = thing.get("markets")
        yield from self.item(Kind.EVENT, alone, path, context)
        series, category = thing.get("series_ticker"), thing.get("category")
        inner = replace(
            context,
            series_ticker=series if isinstance(series, str) and is_ticker(series) else context.series_ticker,
            category=category if isinstance(category, str) and category else None,
            of_event=True,
        )
        at = _step(path, "markets")
        if isinstance(nested, dict | list):
            yield from self.envelope("markets", nested, at, inner, depth)
        elif nested is not None:
            yield Unrecognised(at, nested, f"a list of markets was expected, found {shown(nested)}")

    def candlestick(
        self, candle: dict[str, Any], path: str, context: _Context, inferred: Mapping[str | None, int | None]
    ) -> Walk:
        if self.hints.kind not in (None, Kind.CANDLESTICK):
            yield from self.item(Kind.CANDLESTICK, candle, path, context)
            return True
        said = _minutes(candle.get("period_interval_minutes", candle.get("period_interval")), certain=True)
        period = said or context.period_interval_minutes
        guess = inferred.get(_own_ticker(candle))
        hint = self.hints.period_interval_minutes
        if period is None and hint not in (None, 1) and guess == 1:
            reason = f"the hint says periods of {hint} minutes, but some end within the hour, as only minutes do"
            yield Unrecognised(path, candle, reason)
        else:
            context = replace(context, period_interval_minutes=period or hint or guess)
            yield from self.item(Kind.CANDLESTICK, candle, path, context)
        return True

    def frame(self, word: str, frame: dict[str, Any], path: str, context: _Context) -> Walk:
        kind = _STORED_FRAMES.get(word)
        if kind is not None and "msg" not in frame and "market_ticker" in frame:
            frame = _enveloped(word, frame)  # a recorder made the message and its envelope one
        if kind is not None and ("msg" in frame or "sid" in frame):
            yield from self.item(kind, frame, path, context)
            return True
        if word in _CONTROL_FRAMES and frame.keys() & {"id", "sid", "seq", "msg"}:
            yield NotStored("websocket control frame", path)
            return True
        if kind is None and isinstance(frame.get("msg"), dict):
            yield NotStored(f"websocket {shown(word)[1:-1]}", path)
            return True
        return False

    def item(self, kind: Kind, payload: dict[str, Any], path: str, context: _Context) -> Iterator[Found]:
        """The finished item, unless a hint says otherwise."""
        hints = self.hints
        frame = payload.get("msg") if kind in _FRAME_KINDS else None
        own = _own_ticker(frame if isinstance(frame, dict) else payload)
        series = payload.get("series_ticker")
        if kind is Kind.SERIES:
            series, own = own or series, None
        elif kind is Kind.EVENT:
            own = None
        if not is_ticker(series):
            series = None
        market_ticker = own
        if market_ticker is None and kind in (Kind.CANDLESTICK, Kind.ORDERBOOK, Kind.TRADE):
            market_ticker = context.market_ticker
        series_ticker = series or (context.series_ticker if kind is not Kind.SERIES else None)
        period = context.period_interval_minutes if kind is Kind.CANDLESTICK else None
        contradictions = (
            ("kind", hints.kind if not (context.of_event and hints.kind is Kind.EVENT) else None, kind),
            ("market", hints.market_ticker, market_ticker),
            ("series", hints.series_ticker, series_ticker),
            ("period", hints.period_interval_minutes, period),
        )
        for name, hinted, said in contradictions:
            if hinted is not None and said is not None and hinted != said:
                yield Unrecognised(path, payload, f"the hint says {name} {shown(hinted)}, the document says {shown(said)}")
                return
        if kind in (Kind.CANDLESTICK, Kind.ORDERBOOK, Kind.TRADE):
            market_ticker = market_ticker or hints.market_ticker
        observed_at = context.observed_at
        if not _SEEN.isdisjoint(payload):
            observed_at = next((when for key in _SEEN_KEYS if (when := _moment(payload.get(key)))), observed_at)
        yield Item(
            kind=kind,
            payload=payload,
            path=path,
            market_ticker=market_ticker,
            series_ticker=series_ticker or (hints.series_ticker if kind is not Kind.SERIES else None),
            category=context.category if kind is Kind.MARKET else None,
            period_interval_minutes=period,
            observed_at=observed_at,
        )

    # By force

    def forced(self, document: object, path: str, context: _Context, depth: int) -> Walk:
        """Nothing was recognised, but the caller says what it is: every object there is of that kind."""
        kind = self.hints.kind
        assert kind is not None  # noqa: S101  # asked by the caller
        if isinstance(document, list):
            if kind is Kind.CANDLESTICK or all(not isinstance(value, list) for value in document):
                return (yield from self.elements(kind, document, path, context, depth))
            return False
        if not isinstance(document, dict) or not document:
            return False
        for name in _WRAPPERS:
            if isinstance(document.get(name), dict | list) and document[name]:
                return (
                    yield from self.forced(document[name], _step(path, name), _context_of(document[name], context), depth + 1)
                )
        yield from self.objects(kind, document, path, context, depth)
        return True


_FRAME_KINDS = frozenset(_STORED_FRAMES.values())
_SINGULAR = frozenset(("series", "event", "market", "candlestick", "trade", "settlement"))
_WRAPPERS = (
    "response", "payload", "data", "body", "result", "results", "frame", "message", "json", "content", "text",
    "answer", "raw", "items", "records", "rows", "pages", "responses", "frames", "messages", "entries", "log", "string",
)  # fmt: skip


def _is_envelope(name: str, content: object) -> bool:
    """Whether a member named like an envelope is one.

    `series: "KXA"` and `markets: 44` are labels, `markets: null` is empty.
    """
    return isinstance(content, dict | list) or (content is None and name not in _SINGULAR)


def _is_wrapper(thing: dict[str, Any]) -> bool:
    """Whether an object holds others under a name of the exchange or of the usual recorders."""
    return (
        any(name in thing and _is_envelope(name, thing[name]) for name in _ENVELOPES)
        or any(isinstance(thing.get(name), dict | list) for name in (*_BOOKS, *_WRAPPERS, "market_candlesticks"))
        or (isinstance(thing.get("type"), str) and "msg" in thing)
    )


def _is_flat(value: object) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(part, dict | list) for part in parts)


def _parents(holder: dict[str, Any]) -> _Parents:
    """The series and category of each event that stands beside markets."""
    parents: _Parents = {}
    if "markets" in holder or "market" in holder:
        events = holder.get("events") if isinstance(holder.get("events"), list) else []
        for event in [holder.get("event"), *(events or [])]:
            if isinstance(event, dict) and isinstance(event.get("event_ticker"), str):
                series, category = event.get("series_ticker"), event.get("category")
                parents[event["event_ticker"]] = (
                    series if isinstance(series, str) and is_ticker(series) else None,
                    category if isinstance(category, str) and category else None,
                )
    return parents


def _own_ticker(thing: dict[str, Any]) -> str | None:
    for name in ("market_ticker", "ticker"):
        value = thing.get(name)
        if isinstance(value, str) and is_ticker(value):
            return value
    return None


def _inferred_periods(candles: list[Any]) -> dict[str | None, int | None]:
    """The period of each market's candles, where their ends leave no doubt.

    An end within the hour is a minute's. Four or more ends, all at midnight US Eastern, are days'; four or more on the
    hour that are not, hours'. Anything less stays open: a gap tells nothing, because periods in which nothing moved
    have no candle.
    """
    ends: dict[str | None, list[int]] = {}
    for candle in candles:
        if isinstance(candle, dict) and type(candle.get("end_period_ts")) is int:
            ends.setdefault(_own_ticker(candle), []).append(candle["end_period_ts"])
    return {market: _inferred_period(stamps) for market, stamps in ends.items()}


def _inferred_period(stamps: Iterable[int]) -> int | None:
    stamps = {stamp for stamp in stamps if 0 < stamp < 4_102_444_800}
    if any(stamp % 3600 for stamp in stamps):
        return 1
    if len(stamps) < 4:
        return None
    midnight = all(datetime.fromtimestamp(stamp, UTC).astimezone(EASTERN).hour == 0 for stamp in stamps)
    return 1440 if midnight else 60
