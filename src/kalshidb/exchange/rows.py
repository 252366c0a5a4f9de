"""From the exchange's objects to rows of the database: names, derived values, what goes to which table.

Pure functions of a validated object and the moment it was seen. Not here: what the wire looks like (models) and writing
(kalshidb.ingest).
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel

from kalshidb.exchange import models
from kalshidb.models.catalog import (
    EventInput,
    MarketInput,
    MarketLifecycleInput,
    MarketVersionInput,
    SeriesInput,
    SettlementInput,
)
from kalshidb.models.domains import Source
from kalshidb.models.market_data import (
    Candlestick,
    OrderbookDelta,
    OrderbookSnapshotInput,
    PriceSnapshotInput,
    PublicTrade,
)

PLATFORM = "kalshi"


class MissingContextError(Exception):
    """An answer left out what its request said, and nobody else says it."""

    def __init__(self, field: str, error: str, hint: str) -> None:
        self.field, self.error, self.hint = field, error, hint
        super().__init__(f"{field}: {error}; {hint}")


def rows_of(thing: models.WireModel, seen_at: datetime, source: Source, *, keep_raw: bool = False) -> Iterator[BaseModel]:
    """Return the rows that an object of the exchange becomes, the object's own first.

    A market is also an observation of its state and of its quotes and, once settled, a settlement.

    Args:
        thing: a validated object.
        seen_at: when the exchange gave it, UTC.
        source: how it reached us.
        keep_raw: keep the payload of high-volume rows too (candlesticks, quotes, books, trades).

    Raises:
        MissingContextError: the market or the period of a candlestick, or the market of a book, is unknown.
        pydantic.ValidationError: a value does not fit the database's type.
    """
    raw = thing.raw_json if keep_raw else None
    match thing:
        case models.Series():
            yield series_row(thing, seen_at)
        case models.Event():
            yield event_row(thing, seen_at)
        case models.Market():
            yield market_row(thing, seen_at)
            yield version_row(thing, seen_at)
            if any(price is not None for price in (thing.yes_bid, thing.yes_ask, thing.no_bid, thing.no_ask)):
                yield quote_row(thing, seen_at, source, raw)
            if thing.result is not None and thing.settlement_ts is not None:
                yield settlement_row(thing, thing.result, thing.settlement_ts, seen_at)
        case models.Candlestick():
            yield candlestick_row(thing, seen_at, raw)
        case models.Trade() | models.TradeFrame():
            yield trade_row(thing, seen_at, raw)
        case models.OrderBook():
            yield book_row(thing, _known_market(thing.market_ticker), seen_at, seen_at, source, raw)
        case models.OrderBookSnapshotFrame():
            yield book_row(thing, thing.market_ticker, thing.snapshot_time or seen_at, seen_at, "websocket", raw)
        case models.OrderBookDeltaFrame():
            yield delta_row(thing, seen_at)
        case models.TickerFrame():
            yield ticker_row(thing, seen_at, raw)
        case models.MarketLifecycleFrame():
            yield lifecycle_row(thing, seen_at)
        case _:
            raise TypeError(f"{type(thing).__name__} becomes no row")


def series_row(series: models.Series, seen_at: datetime) -> SeriesInput:
    """Return the catalogue's row of a series."""
    return SeriesInput(
        series_ticker=series.series_ticker,
        platform_id=PLATFORM,
        external_id=series.series_ticker,
        category=series.category,
        title=series.title,
        frequency=series.frequency,
        tags=list(series.tags) or None,
        fee_type=series.fee_type,
        fee_multiplier=series.fee_multiplier,
        settlement_sources=_list(series.settlement_sources),
        metadata=series.product_metadata,
        raw_json=series.raw_json,
        retrieved_at=seen_at,
    )


def event_row(event: models.Event, seen_at: datetime) -> EventInput:
    """Return the catalogue's row of an event; its nested markets are rows of their own."""
    return EventInput(
        event_ticker=event.event_ticker,
        platform_id=PLATFORM,
        series_ticker=event.series_ticker,
        external_id=event.event_ticker,
        category=event.category,
        title=event.title,
        sub_title=event.sub_title,
        strike_date=event.strike_date,
        mutually_exclusive=event.mutually_exclusive,
        metadata=event.product_metadata,
        raw_json={name: value for name, value in event.raw_json.items() if name != "markets"},
        retrieved_at=seen_at,
    )


def market_row(market: models.Market, seen_at: datetime) -> MarketInput:
    """Return the catalogue's row of a market."""
    return MarketInput(
        market_ticker=market.market_ticker,
        platform_id=PLATFORM,
        event_ticker=market.event_ticker,
        series_ticker=market.series_ticker,
        external_id=market.market_ticker,
        market_type=market.market_type,
        title=market.title,
        subtitle=market.subtitle,
        yes_sub_title=market.yes_sub_title,
        no_sub_title=market.no_sub_title,
        category=market.category,
        strike_type=market.strike_type,
        floor_strike=market.floor_strike,
        cap_strike=market.cap_strike,
        functional_strike=market.functional_strike,
        custom_strike=market.custom_strike,
        open_time=market.open_time,
        close_time=market.close_time,
        expiration_time=market.latest_expiration_time or market.expiration_time,
        expected_expiration_time=market.expected_expiration_time,
        status=market.status,
        result=market.result,
        settlement_value=market.settlement_value,
        settlement_ts=market.settlement_ts,
        price_ranges=_list(market.price_ranges),
        last_price=market.last_price,
        volume=market.volume,
        open_interest=market.open_interest,
        raw_json=market.raw_json,
        retrieved_at=seen_at,
    )


def version_row(market: models.Market, seen_at: datetime) -> MarketVersionInput:
    """Return the state that a market was in when its answer was given."""
    yes_ask, no_bid = _offered(market.yes_ask, market.no_bid)
    no_ask, yes_bid = _offered(market.no_ask, market.yes_bid)
    return MarketVersionInput(
        market_ticker=market.market_ticker,
        valid_from=seen_at,
        status=market.status,
        yes_bid=yes_bid,
        yes_ask=yes_ask,
        no_bid=no_bid,
        no_ask=no_ask,
        last_price=market.last_price,
        volume=market.volume,
        open_interest=market.open_interest,
        settlement_value=market.settlement_value,
    )


def quote_row(market: models.Market, seen_at: datetime, source: Source, raw: object) -> PriceSnapshotInput:
    """Return the quotes that a market's answer carries, as observed then."""
    yes_ask, no_bid = _offered(market.yes_ask, market.no_bid)
    no_ask, yes_bid = _offered(market.no_ask, market.yes_bid)
    return PriceSnapshotInput(
        market_ticker=market.market_ticker,
        snapshot_time=seen_at,
        source=source,
        yes_bid=yes_bid,
        yes_ask=yes_ask,
        no_bid=no_bid,
        no_ask=no_ask,
        last_price=market.last_price,
        volume=market.volume,
        volume_24h=market.volume_24h,
        open_interest=market.open_interest,
        liquidity=market.liquidity,
        status=market.status,
        category=market.category,
        retrieved_at=seen_at,
        raw_json=raw,
    )


def settlement_row(market: models.Market, result: str, settled_at: datetime, seen_at: datetime) -> SettlementInput:
    """Return the outcome that a settled market's answer declares."""
    yes = market.settlement_value if market.settlement_value is not None else {"yes": Decimal(1), "no": Decimal(0)}.get(result)
    no = None if yes is None else 1 - yes
    # A market that never traded shows a last price of 0, which nobody paid.
    last = market.last_price if market.volume else None
    return SettlementInput(
        market_ticker=market.market_ticker,
        settled_at=settled_at,
        platform_id=PLATFORM,
        event_ticker=market.event_ticker,
        outcome=result,
        payout=no if result == "no" else yes,
        final_yes_price=last,
        final_no_price=None if last is None else 1 - last,
        yes_payout=yes,
        no_payout=no,
        retrieved_at=seen_at,
    )


def candlestick_row(candle: models.Candlestick, seen_at: datetime, raw: object) -> Candlestick:
    """Return the row of a candlestick."""
    if candle.period_interval_minutes is None:
        raise MissingContextError(
            "period_interval_minutes",
            "the answer does not say how long its periods are, and their ends leave it open",
            "say it with --interval 1, 60 or 1440",
        )
    if candle.period_interval_minutes not in (1, 60, 1440):
        raise MissingContextError(
            "period_interval",
            f"{candle.period_interval_minutes} is no length of a candlestick",
            "there are 1, 60 and 1440 minutes",
        )
    return Candlestick(
        market_ticker=_known_market(candle.market_ticker),
        end_period_ts=candle.end_period_ts,
        period_interval_minutes=candle.period_interval_minutes,
        yes_bid_open=candle.yes_bid_open,
        yes_bid_high=candle.yes_bid_high,
        yes_bid_low=candle.yes_bid_low,
        yes_bid_close=candle.yes_bid_close,
        yes_ask_open=candle.yes_ask_open,
        yes_ask_high=candle.yes_ask_high,
        yes_ask_low=candle.yes_ask_low,
        yes_ask_close=candle.yes_ask_close,
        price_open=candle.price_open,
        price_high=candle.price_high,
        price_low=candle.price_low,
        price_close=candle.price_close,
        price_mean=candle.price_mean,
        price_previous=candle.price_previous,
        volume=candle.volume,
        open_interest=candle.open_interest,
        retrieved_at=seen_at,
        raw_json=raw,
    )


def trade_row(trade: models.Trade | models.TradeFrame, seen_at: datetime, raw: object) -> PublicTrade:
    """Return the row of a public trade."""
    # Validated from names, not constructed: trade_id is text on the wire and must be a UUID here.
    return PublicTrade.model_validate(
        {
            "market_ticker": trade.market_ticker,
            "created_time": trade.created_time,
            "trade_id": trade.trade_id,
            "count": trade.count,
            "yes_price": trade.yes_price,
            "no_price": trade.no_price,
            "taker_side": trade.taker_side,
            "is_block_trade": trade.is_block_trade or False,
            "retrieved_at": seen_at,
            "raw_json": raw,
        }
    )


def book_row(
    book: models.OrderBook | models.OrderBookSnapshotFrame,
    market_ticker: str,
    snapshot_time: datetime,
    seen_at: datetime,
    source: Source,
    raw: object,
) -> OrderbookSnapshotInput:
    """Return the row of a whole order book: bids of both sides, ascending."""
    frame = book if isinstance(book, models.OrderBookSnapshotFrame) else None
    return OrderbookSnapshotInput(
        market_ticker=market_ticker,
        snapshot_time=snapshot_time,
        source=source,
        sid=frame.subscription_id if frame else None,
        sequence=frame.sequence if frame else None,
        yes_bid_prices=[price for price, _ in book.yes],
        yes_bid_quantities=[quantity for _, quantity in book.yes],
        no_bid_prices=[price for price, _ in book.no],
        no_bid_quantities=[quantity for _, quantity in book.no],
        retrieved_at=seen_at,
        raw_json=raw,
    )


def delta_row(frame: models.OrderBookDeltaFrame, seen_at: datetime) -> OrderbookDelta:
    """Return the row of one change of an order book."""
    if frame.sequence is None or frame.subscription_id is None:
        missing = "seq" if frame.sequence is None else "sid"
        raise MissingContextError(missing, "is missing", "without its place in the stream a change cannot be told from another")
    return OrderbookDelta(
        market_ticker=frame.market_ticker,
        delta_time=frame.delta_time or seen_at,
        sequence=frame.sequence,
        sid=frame.subscription_id,
        side=frame.side,
        price=frame.price,
        delta=frame.delta,
        retrieved_at=seen_at,
    )


def ticker_row(frame: models.TickerFrame, seen_at: datetime, raw: object) -> PriceSnapshotInput:
    """Return the quotes that a ticker frame carries; the offer of NO is one minus the bid for YES, and the reverse."""
    return PriceSnapshotInput(
        market_ticker=frame.market_ticker,
        snapshot_time=frame.snapshot_time or seen_at,
        source="websocket",
        sequence=frame.sequence,
        yes_bid=frame.yes_bid,
        yes_ask=frame.yes_ask,
        no_bid=None if frame.yes_ask is None else 1 - frame.yes_ask,
        no_ask=None if frame.yes_bid is None else 1 - frame.yes_bid,
        last_price=frame.last_price,
        volume=frame.volume,
        open_interest=frame.open_interest,
        retrieved_at=seen_at,
        raw_json=raw,
    )


def lifecycle_row(frame: models.MarketLifecycleFrame, seen_at: datetime) -> MarketLifecycleInput:
    """Return the row of something that happened to a market; at the time of its arrival where the exchange says none."""
    return MarketLifecycleInput(
        market_ticker=frame.market_ticker,
        event_type=frame.event_type,
        occurred_at=frame.occurred_at or seen_at,
        source="websocket",
        details=frame.details or None,
        retrieved_at=seen_at,
    )


def _offered(ask: Decimal | None, other_bid: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
    """Return an offer and the bid for the other side that it comes from.

    Nobody sells for nothing: where the exchange writes 0 for an offer (combos without one, and 1 for the bid behind it), there is none,
    which is 1 and 0 everywhere else.
    """
    if ask != 0:
        return ask, other_bid
    return Decimal(1), Decimal(0) if other_bid == 1 else other_bid


def _known_market(ticker: str | None) -> str:
    if ticker is None:
        raise MissingContextError("market_ticker", "the answer does not say which market it is about", "say it with --ticker")
    return ticker


def _list(things: tuple[dict[str, object], ...] | None) -> list[dict[str, object]] | None:
    return None if things is None else list(things)
