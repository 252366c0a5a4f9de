"""The common case, read fast: answers full of candlesticks or trades in the form of today.

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
from typing import Any

from kalshidb.exchange import scalars
from kalshidb.exchange.recognise import Hints, Item, Kind
from kalshidb.exchange.scalars import WireValueError

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

_MOST_KNOWN = 1 << 16


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one answer, as tuples in the order of CANDLESTICK_FIELDS or TRADE_FIELDS.

    `item(place)` is the object behind a row, for when the database refuses it.
    """

    kind: Kind
    rows: list[Row]
    item: Callable[[int], Item]


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


def read(document: object, hints: Hints, seen_at: datetime, apart: timedelta) -> Page | None:
    """Return the rows of a plain answer, or None where the document is anything else.

    Args:
        document: parsed JSON.
        hints: what the request said: the period of candlesticks, and their market where the answer leaves it out.
        seen_at: when the answer was given, UTC; the hints' own word wins.
        apart: how much later each object counts as seen than the one before, where the hints do not say when.
    """
    if type(document) is not dict or hints.kind not in (None, Kind.CANDLESTICK, Kind.TRADE):
        return None
    if hints.observed_at is not None:
        seen_at, apart = hints.observed_at, timedelta(0)
    try:
        if "trades" in document:
            return _trades(document, hints, seen_at, apart)
        return _candlesticks(document, hints, seen_at, apart)
    except (_NotPlainError, KeyError, TypeError, AttributeError, ValueError):  # the latter: another shape than the usual
        return None


def _candlesticks(document: dict[str, Any], hints: Hints, seen_at: datetime, apart: timedelta) -> Page | None:
    minutes = hints.period_interval_minutes
    if hints.kind is Kind.TRADE or minutes not in (1, 60, 1440):
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


def _above(low: str | None, high: str | None) -> bool:
    """Whether a low is above its high, or may be: texts of one length compare as their numbers do."""
    return low is not None and high is not None and (low > high or len(low) != len(high))


def _trades(document: dict[str, Any], hints: Hints, seen_at: datetime, apart: timedelta) -> Page | None:
    if document.keys() - {"trades", "cursor"} or hints.kind is Kind.CANDLESTICK:
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
