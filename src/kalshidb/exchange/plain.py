"""The common case, read fast: answers full of markets, candlesticks or trades in the form of today.

Almost everything that is ever read is an answer of the public endpoints whose objects have the usual names and hold decimal text.
Such an answer is read here in one pass, straight to the values of rows; numbers stay the text that they are, once it has proved
to be a number that fits. Whatever is not quite so (another name, an integer, a value that cannot be true) makes `read` answer
None, and the whole document goes the general way through `recognise` and `models`, which say what is wrong with it. So this
module may be missing without a change in what is stored, only in how fast; a test holds the two ways to the same rows.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

from kalshidb.exchange import scalars
from kalshidb.exchange.recognise import Hints, Item, Kind
from kalshidb.exchange.rows import PLATFORM
from kalshidb.exchange.scalars import WireValueError
from kalshidb.models.domains import Source

Row = tuple[Any, ...]

CANDLESTICK_FIELDS = (
    "market_ticker", "end_period_ts", "period_interval_minutes",
    "yes_bid_open", "yes_bid_high", "yes_bid_low", "yes_bid_close",
    "yes_ask_open", "yes_ask_high", "yes_ask_low", "yes_ask_close",
    "price_open", "price_high", "price_low", "price_close", "price_mean", "price_previous",
    "volume", "open_interest", "retrieved_at", "raw_json",
)  # fmt: skip
TRADE_FIELDS = (
    "market_ticker", "created_time", "trade_id", "count", "yes_price", "no_price", "taker_side", "is_block_trade",
    "retrieved_at", "raw_json",
)  # fmt: skip

MARKET_FIELDS = (
    "market_ticker", "platform_id", "event_ticker", "series_ticker", "external_id", "market_type", "title", "subtitle",
    "yes_sub_title", "no_sub_title", "category", "subcategory", "strike_type", "floor_strike", "cap_strike", "functional_strike",
    "custom_strike", "open_time", "close_time", "expiration_time", "expected_expiration_time", "status", "result",
    "settlement_value", "settlement_ts", "price_ranges", "last_price", "volume", "open_interest", "metadata", "raw_json",
    "retrieved_at",
)  # fmt: skip
VERSION_FIELDS = (
    "market_ticker", "valid_from", "status", "yes_price", "no_price", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price",
    "volume", "open_interest", "settlement_value",
)  # fmt: skip
QUOTE_FIELDS = (
    "market_ticker", "snapshot_time", "source", "sequence", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "volume",
    "volume_24h", "open_interest", "liquidity", "status", "title", "category", "retrieved_at", "raw_json",
)  # fmt: skip
SETTLEMENT_FIELDS = (
    "market_ticker", "settled_at", "platform_id", "event_ticker", "outcome", "payout", "final_yes_price", "final_no_price",
    "yes_payout", "no_payout", "retrieved_at",
)  # fmt: skip

_MOST_KNOWN = 1 << 16


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one answer, as tuples in the order of CANDLESTICK_FIELDS, TRADE_FIELDS or MARKET_FIELDS.

    `item(place)` is the object behind a row, for when the database refuses it. A market is also an observation of its state and of its
    quotes and, once settled, a settlement: their rows are pages of their own, in the order of VERSION_FIELDS, QUOTE_FIELDS
    and SETTLEMENT_FIELDS.
    """

    kind: Kind
    rows: list[Row]
    item: Callable[[int], Item]
    versions: "Page | None" = None
    quotes: "Page | None" = None
    settlements: "Page | None" = None

    @property
    def size(self) -> int:
        """How many rows there are, with those of its other pages."""
        return len(self.rows) + sum(part.size for part in (self.versions, self.quotes, self.settlements) if part is not None)


class _NotPlainError(Exception):
    """Something is not as usual: for the general way to judge."""


class _Proved(dict[Any, Any]):
    """Values that have been read before, each proved once; reading what cannot be is not plain."""

    def __init__(self, read: Callable[[Any], Any], *known: object) -> None:
        super().__init__({value: value for value in known})
        self._read = read

    def __missing__(self, value: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
        try:
            proved = self._read(value)
        except WireValueError:
            raise _NotPlainError from None
        if len(self) < _MOST_KNOWN:
            self[value] = proved
        return proved


def _price(value: object) -> str:
    if type(value) is not str:  # an integer may be cents
        raise _NotPlainError
    scalars.dollars(value)
    return value


def _end(value: object) -> datetime:
    if type(value) is not int:
        raise _NotPlainError
    return scalars.epoch_seconds(value)


def _both(prices: tuple[Any, Any]) -> tuple[str, str]:
    yes, no = prices
    if scalars.dollars(_price(yes)) + scalars.dollars(_price(no)) != scalars.ONE:
        raise _NotPlainError
    return prices


_prices = _Proved(_price, None)
_ends = _Proved(_end)
_tickers = _Proved(scalars.ticker)
_both_prices = _Proved(_both)
_is_count = re.compile(r"[0-9]{1,14}\.[0-9]{2}").fullmatch
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_is_time = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z").fullmatch

# What a taker's side is called, under its three names (outcome, book, the deprecated one); all that are there agree.
_SIDES: Mapping[tuple[Any, Any, Any], str] = {
    (outcome, book, old): side
    for side, of_book in (("yes", "bid"), ("no", "ask"))
    for outcome in (side, None)
    for book in (of_book, None)
    for old in (side, None)
    if (outcome, book, old) != (None, None, None)
}

_LIVE = ("volume_fp", "open_interest_fp", *(f"{part}_dollars" for part in ("open", "high", "low", "close", "mean", "previous")))
_HISTORICAL = tuple(name.removesuffix("_fp").removesuffix("_dollars") for name in _LIVE)
_NOTHING: Mapping[str, Any] = {}
_TRADE = frozenset((
    "trade_id", "ticker", "count_fp", "yes_price_dollars", "no_price_dollars", "taker_outcome_side", "taker_book_side",
    "taker_side", "created_time", "is_block_trade",
))  # fmt: skip


def read(document: object, hints: Hints, seen_at: datetime, apart: timedelta, source: Source = "poll") -> Page | None:
    """Return the rows of a plain answer, or None where the document is anything else.

    Args:
        document: parsed JSON.
        hints: what the request said: the period of candlesticks, and their market where the answer leaves it out.
        seen_at: when the answer was given, UTC; the hints' own word wins.
        apart: how much later each object counts as seen than the one before, where the hints do not say when.
        source: how the quotes of markets reached us.
    """
    if type(document) is not dict or hints.kind not in (None, Kind.CANDLESTICK, Kind.TRADE, Kind.MARKET):
        return None
    if hints.observed_at is not None:
        seen_at, apart = hints.observed_at, timedelta(0)
    try:
        if "trades" in document:
            return _trades(document, hints, seen_at, apart)
        if "cursor" in document and "markets" in document:
            return _markets(document, hints, seen_at, apart, source)
        return _candlesticks(document, hints, seen_at, apart)
    except (_NotPlainError, KeyError, TypeError, AttributeError, ValueError):  # the latter: another shape than the usual
        return None


def _candlesticks(document: dict[str, Any], hints: Hints, seen_at: datetime, apart: timedelta) -> Page | None:
    minutes = hints.period_interval_minutes
    if hints.kind not in (None, Kind.CANDLESTICK) or minutes not in (1, 60, 1440):
        return None
    rows: list[Row] = []
    at: list[tuple[int, str, str, list[Any]]] = []  # first row, path, ticker, candles
    for path, ticker, candles in _ladders(document, hints):
        if hints.market_ticker not in (None, ticker) or type(candles) is not list:
            return None
        at.append((len(rows), path, _tickers[ticker], candles))
        for candle in candles:
            rows.append(_candle(candle, ticker, minutes, seen_at))
            seen_at += apart

    def item(place: int) -> Item:
        first, path, ticker, candles = next(part for part in reversed(at) if part[0] <= place and part[3])
        row, inner = rows[place], place - first
        return Item(
            kind=Kind.CANDLESTICK,
            payload=candles[inner],
            path=f"{path}[{inner}]",
            market_ticker=ticker,
            series_ticker=hints.series_ticker,
            period_interval_minutes=minutes,
            observed_at=row[19],
        )

    return Page(Kind.CANDLESTICK, rows, item)


def _ladders(document: dict[str, Any], hints: Hints) -> list[tuple[str, str, Any]]:
    """Return path, ticker and candles of each market in an answer of one of the three endpoints."""
    names = document.keys()
    if names == {"markets"}:
        ladders = []
        for place, market in enumerate(document["markets"]):
            if market.keys() != {"market_ticker", "candlesticks"}:
                raise _NotPlainError
            ladders.append((f"$.markets[{place}].candlesticks", market["market_ticker"], market["candlesticks"]))
        return ladders
    if names == {"ticker", "candlesticks"}:
        return [("$.candlesticks", document["ticker"], document["candlesticks"])]
    if names == {"candlesticks"} and hints.market_ticker is not None:
        return [("$.candlesticks", hints.market_ticker, document["candlesticks"])]
    if names <= {"market_tickers", "market_candlesticks", "adjusted_end_ts"}:
        return [
            (f"$.market_candlesticks[{place}]", ticker, candles)
            for place, (ticker, candles) in enumerate(
                zip(document["market_tickers"], document["market_candlesticks"], strict=True)
            )
        ]
    raise _NotPlainError


def _candle(candle: dict[str, Any], ticker: str, minutes: int, seen_at: datetime) -> Row:
    volume, interest, opened, high, low, closed, mean, previous = _LIVE if "volume_fp" in candle else _HISTORICAL
    seconds = candle["end_period_ts"]
    bid, ask, price = candle.get("yes_bid") or _NOTHING, candle.get("yes_ask") or _NOTHING, candle.get("price") or _NOTHING
    # As many names as are read, so that no other form of a value stands beside.
    if candle.keys() - {"end_period_ts", "yes_bid", "yes_ask", "price", volume, interest} or (minutes != 1 and seconds % 3600):
        raise _NotPlainError
    quote = {opened, high, low, closed}
    if bid.keys() - quote or ask.keys() - quote or price.keys() - {*quote, mean, previous}:
        raise _NotPlainError
    traded, interested = candle.get(volume), candle.get(interest)
    if (traded is not None and not _is_count(traded)) or (interested is not None and not _is_count(interested)):
        raise _NotPlainError
    bid_low, bid_high = _prices[bid.get(low)], _prices[bid.get(high)]
    ask_low, ask_high = _prices[ask.get(low)], _prices[ask.get(high)]
    price_low, price_high = _prices[price.get(low)], _prices[price.get(high)]
    if _above(bid_low, bid_high) or _above(ask_low, ask_high) or _above(price_low, price_high):
        raise _NotPlainError
    return (
        ticker,
        _ends[seconds],
        minutes,
        _prices[bid.get(opened)],
        bid_high,
        bid_low,
        _prices[bid.get(closed)],
        _prices[ask.get(opened)],
        ask_high,
        ask_low,
        _prices[ask.get(closed)],
        _prices[price.get(opened)],
        price_high,
        price_low,
        _prices[price.get(closed)],
        _prices[price.get(mean)],
        _prices[price.get(previous)],
        traded,
        interested,
        seen_at,
        None,
    )


_MARKET_TEXTS = (
    "market_type", "subtitle", "yes_sub_title", "no_sub_title", "strike_type", "functional_strike", "result", "expiration_value",
    "price_level_structure", "rules_primary", "rules_secondary", "early_close_condition", "primary_participant_key", "title",
)  # fmt: skip
_MARKET_TIMES = (
    "open_time", "close_time", "expiration_time", "expected_expiration_time", "latest_expiration_time", "occurrence_datetime",
    "created_time", "updated_time", "settlement_ts",
)  # fmt: skip
_MARKET_PRICES = tuple(
    f"{name}_dollars"
    for name in (
        "settlement_value", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "previous_price", "previous_yes_bid",
        "previous_yes_ask",
    )
)  # fmt: skip
_MARKET_COUNTS = tuple(f"{name}_fp" for name in ("yes_bid_size", "yes_ask_size", "volume", "volume_24h", "open_interest"))
_MARKET_AMOUNTS = ("liquidity_dollars", "notional_value_dollars")
_MARKET = frozenset((
    *_MARKET_TEXTS, *_MARKET_TIMES, *_MARKET_PRICES, *_MARKET_COUNTS, *_MARKET_AMOUNTS, "ticker", "event_ticker", "status",
    "floor_strike", "cap_strike", "custom_strike", "settlement_timer_seconds", "price_ranges", "can_close_early", "is_provisional",
    "mve_collection_ticker", "mve_selected_legs", "exchange_index",
))  # fmt: skip
_MARKET_INTEGERS = ("settlement_timer_seconds", "exchange_index")
_MARKET_LISTS = ("price_ranges", "mve_selected_legs")
_MARKET_KINDS: tuple[tuple[tuple[str, ...], tuple[type, ...]], ...] = (
    (_MARKET_TEXTS, (str, NoneType)),
    (("custom_strike",), (dict, NoneType)),
    (("can_close_early", "is_provisional"), (bool, NoneType)),
    (_MARKET_INTEGERS, (int, NoneType)),
    (_MARKET_LISTS, (list, NoneType)),
)
_SETTLED_FOR = {"yes": Decimal(1), "no": Decimal(0)}


def _time(value: object) -> datetime | None:
    if type(value) is not str:
        raise _NotPlainError
    return scalars.time_of_text(value)


def _amount(value: object) -> str:
    if type(value) is not str:
        raise _NotPlainError
    scalars.money(value)
    return value


def _offer(prices: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
    """Return an offer and the bid of the other side, as kalshidb.exchange.rows does: an offer for nothing is none."""
    ask, other_bid = prices
    if ask is None or scalars.dollars(ask):
        return prices
    return "1", "0" if other_bid is not None and scalars.dollars(other_bid) == scalars.ONE else other_bid


_times = _Proved(_time)
_times[None] = None
_amounts = _Proved(_amount, None)
_offers = _Proved(_offer)
_collections = _Proved(scalars.ticker, None, "")
_MARKET_PROVED: tuple[tuple[tuple[str, ...], _Proved], ...] = (
    (_MARKET_TIMES, _times), (_MARKET_PRICES, _prices), (_MARKET_AMOUNTS, _amounts), (("mve_collection_ticker",), _collections),
)  # fmt: skip


def _markets(document: dict[str, Any], hints: Hints, seen_at: datetime, apart: timedelta, source: Source) -> Page | None:
    cursor = document["cursor"]
    if document.keys() != {"cursor", "markets"} or not (
        cursor is None or (type(cursor) is str and cursor.lstrip()[:1] not in ("{", "["))
    ):
        return None
    markets = document["markets"]
    if type(markets) is not list or hints.kind not in (None, Kind.MARKET):
        return None
    rows: list[Row] = []
    versions: list[Row] = []
    quotes: list[Row] = []
    quoted: list[int] = []
    settlements: list[Row] = []
    settled: list[int] = []
    for place, market in enumerate(markets):
        _prove_market(market)
        get = market.get
        ticker, event = _tickers[market["ticker"]], _tickers[market["event_ticker"]]
        if hints.market_ticker not in (None, ticker):
            return None
        status, result = market["status"], get("result") or None
        paid, settled_at = get("settlement_value_dollars"), _times[get("settlement_ts")]
        last, volume, interest = get("last_price_dollars"), get("volume_fp"), get("open_interest_fp")
        yes_bid, yes_ask, no_bid, no_ask = (
            get("yes_bid_dollars"), get("yes_ask_dollars"), get("no_bid_dollars"), get("no_ask_dollars"),
        )  # fmt: skip
        ranges = get("price_ranges")
        rows.append((
            ticker, PLATFORM, event, hints.series_ticker, ticker, get("market_type") or None, market["title"], get("subtitle") or None,
            get("yes_sub_title") or None, get("no_sub_title") or None, None, None, get("strike_type") or None,
            _strike(get("floor_strike")), _strike(get("cap_strike")), get("functional_strike") or None, get("custom_strike"),
            _times[get("open_time")], _times[get("close_time")],
            _times[get("latest_expiration_time")] or _times[get("expiration_time")], _times[get("expected_expiration_time")], status,
            result, paid, settled_at, ranges, last, volume, interest, None, market, seen_at,
        ))  # fmt: skip
        quote_yes_ask, quote_no_bid = _offers[yes_ask, no_bid]
        quote_no_ask, quote_yes_bid = _offers[no_ask, yes_bid]
        versions.append((
            ticker, seen_at, status, None, None, quote_yes_bid, quote_yes_ask, quote_no_bid, quote_no_ask, last, volume, interest, paid,
        ))  # fmt: skip
        if yes_bid is not None or yes_ask is not None or no_bid is not None or no_ask is not None:
            quoted.append(place)
            quotes.append((
                ticker, seen_at, source, None, quote_yes_bid, quote_yes_ask, quote_no_bid, quote_no_ask, last, volume,
                get("volume_24h_fp"), interest, get("liquidity_dollars"), status, None, None, seen_at, None,
            ))  # fmt: skip
        if result is not None and settled_at is not None:
            settled.append(place)
            settlements.append(_settlement(ticker, event, settled_at, result, paid, last, volume, seen_at))
        seen_at += apart

    def item(place: int) -> Item:
        return Item(
            kind=Kind.MARKET,
            payload=markets[place],
            path=f"$.markets[{place}]",
            market_ticker=rows[place][0],
            series_ticker=hints.series_ticker,
            observed_at=rows[place][31],
        )

    return Page(
        Kind.MARKET,
        rows,
        item,
        versions=Page(Kind.MARKET, versions, item),
        quotes=Page(Kind.MARKET, quotes, lambda place: item(quoted[place])),
        settlements=Page(Kind.MARKET, settlements, lambda place: item(settled[place])),
    )


def _prove_market(market: dict[str, Any]) -> None:
    """Go through the values of a market as the general way would; whatever it would refuse or read otherwise is not plain."""
    get = market.get
    if market.keys() - _MARKET or type(market["title"]) is not str or type(market["status"]) is not str or not market["status"]:
        raise _NotPlainError
    for names, kinds in _MARKET_KINDS:
        for name in names:
            if type(get(name)) not in kinds:
                raise _NotPlainError
    for names, proved in _MARKET_PROVED:
        for name in names:
            proved[get(name)]
    for name in _MARKET_COUNTS:
        counted = get(name)
        if counted is not None and not _is_count(counted):
            raise _NotPlainError
    for name in _MARKET_INTEGERS:
        number = get(name)
        if number is not None and not 0 <= number < 2**31:
            raise _NotPlainError
    for name in _MARKET_LISTS:
        if not all(type(part) is dict for part in get(name) or ()):
            raise _NotPlainError
    for value in market.values():
        # Most is text in ASCII: whatever else there is, is looked into.
        kind = type(value)
        is_plain = (value.isascii() and "\0" not in value) if kind is str else value is None or kind is bool or kind is int
        if not is_plain and scalars.unstorable(value):
            raise _NotPlainError


def _strike(value: object) -> Decimal | None:
    return None if value is None else scalars.strike(value)


def _settlement(
    ticker: str,
    event: str,
    settled_at: datetime,
    result: str,
    paid: str | None,
    last: str | None,
    volume: str | None,
    seen_at: datetime,
) -> Row:
    yes = _SETTLED_FOR.get(result) if paid is None else scalars.dollars(paid)
    no = None if yes is None else scalars.ONE - yes
    final = scalars.dollars(last) if last is not None and volume is not None and scalars.count(volume) else None
    return (
        ticker, settled_at, PLATFORM, event, result, no if result == "no" else yes, final, None if final is None else scalars.ONE - final,
        yes, no, seen_at,
    )  # fmt: skip


def _above(low: str | None, high: str | None) -> bool:
    """Whether a low is above its high, or may be: texts of one length compare as their numbers do."""
    return low is not None and high is not None and (low > high or len(low) != len(high))


def _trades(document: dict[str, Any], hints: Hints, seen_at: datetime, apart: timedelta) -> Page | None:
    if document.keys() - {"trades", "cursor"} or hints.kind not in (None, Kind.TRADE):
        return None
    trades = document["trades"]
    if type(trades) is not list:
        return None
    rows: list[Row] = []
    for trade in trades:
        if trade.keys() - _TRADE:
            return None
        ticker, time, traded = _tickers[trade["ticker"]], trade["created_time"], trade["count_fp"]
        if hints.market_ticker not in (None, ticker):
            return None
        if not _is_time(time) or not _is_uuid(trade["trade_id"]) or not _is_count(traded) or traded.strip("0.") == "":
            return None
        yes, no = _both_prices[trade["yes_price_dollars"], trade["no_price_dollars"]]
        block = trade.get("is_block_trade")
        if block is not None and type(block) is not bool:
            return None
        side = _SIDES[trade.get("taker_outcome_side"), trade.get("taker_book_side"), trade.get("taker_side")]
        rows.append((ticker, _moment(time), trade["trade_id"], traded, yes, no, side, block is True, seen_at, None))
        seen_at += apart

    def item(place: int) -> Item:
        return Item(
            kind=Kind.TRADE,
            payload=trades[place],
            path=f"$.trades[{place}]",
            market_ticker=rows[place][0],
            series_ticker=hints.series_ticker,
            observed_at=rows[place][8],
        )

    return Page(Kind.TRADE, rows, item)


def _moment(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise _NotPlainError from None
    if not scalars.EARLIEST <= when < scalars.LATEST:
        raise _NotPlainError
    return when
