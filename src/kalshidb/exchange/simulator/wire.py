"""How the exchange writes its truth down as JSON, in each era of its wire format.

Eras: `cents` (until 2026-03-12: integers, with dollar strings beside the prices), `transition` (the days before that:
integers, dollar strings and fixed-point counts), `current` (only strings). What an era does not send is absent here. Fractions
of contracts came last: before `current` every count is a whole number, each trade's rounded up.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from kalshidb.exchange.simulator.world import (
    CONTRACT,
    DAY,
    DOLLAR,
    SECOND,
    Book,
    Candle,
    Event,
    Market,
    Range,
    Series,
    Trade,
    World,
)

Era = Literal["cents", "transition", "current"]
Document = dict[str, Any]

MISSING_TIME = "0001-01-01T00:00:00Z"


def dollars(price: int) -> str:
    """Return a price as the exchange writes it: four decimals."""
    return f"{price // DOLLAR}.{price % DOLLAR:04d}"


def contracts(count: int) -> str:
    """Return a count as the exchange writes it: two decimals."""
    return f"{count // CONTRACT}.{count % CONTRACT:02d}"


def cents(price: int) -> int:
    """Return a price as the integer era wrote it, rounded half up."""
    return (price + 50) // 100


def whole(count: int) -> int:
    """Return a count as the integer era wrote it: contracts, rounded up."""
    return -(-count // CONTRACT)


def timestamp(moment: int) -> str:
    """Return RFC 3339 with as many fraction digits as are needed: trailing zeros are dropped, so text does not sort."""
    seconds, fraction = divmod(moment, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:06d}".rstrip("0") + "Z" if fraction else f"{text}Z"


def series_document(series: Series, era: Era) -> Document:
    """Return the series object."""
    document: Document = {
        "additional_prohibitions": None,
        "category": series.category,
        "contract_terms_url": f"https://exchange.invalid/terms/{series.ticker}.pdf",
        "contract_url": f"https://exchange.invalid/contracts/{series.ticker}.pdf",
        "fee_multiplier": series.fee_multiplier,
        "fee_type": series.fee_type,
        "frequency": series.frequency,
        "settlement_sources": [{"name": "The Simulated Gazette", "url": "https://exchange.invalid/gazette"}],
        "tags": None if series.tags is None else list(series.tags),
        "ticker": series.ticker,
        "title": series.title,
    }
    if era == "current":
        document |= {"exchange_index": 0, "last_updated_ts": "2026-05-19T00:00:19.599Z"}
    return document


def event_document(event: Event, era: Era) -> Document:
    """Return the event object, without its markets."""
    document: Document = {
        "available_on_brokers": False,
        "category": event.category,
        "collateral_return_type": "MECNET" if event.mutually_exclusive else "",
        "event_ticker": event.ticker,
        "mutually_exclusive": event.mutually_exclusive,
        "series_ticker": event.series_ticker,
        "sub_title": event.sub_title,
        "title": event.title,
    }
    document |= {"strike_period": ""} if event.strike_date is None else {"strike_date": timestamp(event.strike_date)}
    if era == "current":
        document |= {
            "exchange_index": 0,
            "last_updated_ts": timestamp(event.markets[0].created),
            "settlement_sources": [{"name": "The Simulated Gazette", "url": "https://exchange.invalid/gazette"}],
        }
    return document


def market_document(world: World, market: Market, era: Era) -> Document:
    """Return the market object as it is at the world's present."""
    status, result = world.status(market), world.result(market)
    forgets = era == "cents" and world.stream(market.ticker, "created").randrange(4) == 0
    expiration = market.close + 7 * DAY
    document: Document = {
        "can_close_early": True,
        "close_time": timestamp(market.close),
        "created_time": MISSING_TIME if forgets else timestamp(market.created),
        "event_ticker": market.event_ticker,
        "expected_expiration_time": timestamp(market.close + 9 * 3600 * SECOND),
        "expiration_time": timestamp(expiration),
        "expiration_value": market.value if result else "",
        "latest_expiration_time": timestamp(expiration),
        "market_type": "binary",
        "no_sub_title": market.label,
        "open_time": timestamp(market.open),
        "price_level_structure": "linear_cent" if market.tick == 100 else "deci_cent",
        "price_ranges": [{"end": "1.0000", "start": "0.0000", "step": dollars(market.tick)}],
        "result": result,
        "rules_primary": "" if market.is_combo else f"If the answer is {market.label}, then the market resolves to Yes.",
        "rules_secondary": "",
        "settlement_timer_seconds": 3600,
        "status": status,
        "strike_type": market.strike_type,
        "subtitle": market.label,
        "ticker": market.ticker,
        "title": market.title,
        "updated_time": timestamp(market.open + 801_802),
        "yes_sub_title": market.label,
    }
    for strike in ("floor_strike", "cap_strike"):
        value = getattr(market, strike)
        if value is not None:
            document[strike] = value
    if market.is_combo:
        document |= _combination(world, market)
    if status == "finalized" and market.settled is not None:
        document |= {
            "settlement_ts": timestamp(market.settled),
            "settlement_value_dollars": dollars(market.payout),
            "updated_time": timestamp(market.settled + 28_400),
        }
        if era != "current":
            document["settlement_value"] = cents(market.payout)
    if era == "current":
        document |= {"exchange_index": 0, "occurrence_datetime": timestamp(market.close)}
    else:
        document |= {"response_price_units": "usd_cent", "tick_size": 1}
    return document | _prices(world, market, status, era) | _counts(world, market, era)


def _combination(world: World, market: Market) -> Document:
    legs = [world.markets[ticker] for ticker in market.legs]
    collection = f"{market.series_ticker}-R"
    return {
        "custom_strike": {
            "Associated Events": ",".join(leg.event_ticker for leg in legs),
            "Associated Market Sides": ",".join("yes" for _ in legs),
            "Associated Markets": ",".join(leg.ticker for leg in legs),
            "Multivariate Event Ticker": market.event_ticker,
        },
        "is_provisional": True,
        "mve_collection_ticker": collection,
        "mve_selected_legs": [{"event_ticker": leg.event_ticker, "market_ticker": leg.ticker, "side": "yes"} for leg in legs],
    }


def _prices(world: World, market: Market, status: str, era: Era) -> Document:
    history = world.history(market.ticker)
    last = history.trades[-1].yes_price if history.trades else 0
    bid, ask = history.quote_at(world.now) if status in {"active", "inactive"} else (0, DOLLAR)
    before = min(world.now, market.close) - DAY
    old_bid, old_ask = history.quote_at(before)
    old = next((trade.yes_price for trade in reversed(history.trades) if trade.time <= before), 0)
    amounts = {
        "last_price": last,
        "liquidity": 0,
        "no_ask": DOLLAR - bid,
        "no_bid": DOLLAR - ask,
        "notional_value": DOLLAR,
        "previous_price": old,
        "previous_yes_ask": old_ask if history.quotes and before >= history.quotes[0][0] else 0,
        "previous_yes_bid": old_bid,
        "yes_ask": ask,
        "yes_bid": bid,
    }
    document: Document = {f"{name}_dollars": dollars(amount) for name, amount in amounts.items()}
    if era != "current":
        document |= {name: cents(amount) for name, amount in amounts.items()}
        # Rounded once: yes and no stay complements where a tick is smaller than a cent.
        document |= {"no_ask": 100 - document["yes_bid"], "no_bid": 100 - document["yes_ask"]}
    return document


def _counts(world: World, market: Market, era: Era) -> Document:
    trades = world.trades(market.ticker)
    today = [trade for trade in trades if trade.time > world.now - DAY]
    candles = world.candles(market.ticker, 1440)
    interest = candles[-1].whole_open_interest if candles else 0
    document = (
        _era_count("open_interest", world.open_interest(market.ticker), interest, era)
        | _era_count("volume", sum(trade.count for trade in trades), sum(trade.whole_count for trade in trades), era)
        | _era_count("volume_24h", sum(trade.count for trade in today), sum(trade.whole_count for trade in today), era)
    )
    if era != "cents":
        book = world.book(market.ticker)
        for name, bids in (("yes_ask_size_fp", book.no), ("yes_bid_size_fp", book.yes)):
            best = bids[-1][1] if bids else 0
            document[name] = contracts(best if era == "current" else whole(best) * CONTRACT)
    return document


def _era_count(name: str, exact: int, rounded: int, era: Era) -> Document:
    """Return a count in the fields of an era; `exact` in 0.01 contract, `rounded` in contracts."""
    if era == "current":
        return {f"{name}_fp": contracts(exact)}
    return {name: rounded} | ({} if era == "cents" else {f"{name}_fp": contracts(rounded * CONTRACT)})


def trade_document(trade: Trade, era: Era) -> Document:
    """Return the trade object."""
    document: Document = {
        "created_time": timestamp(trade.time),
        "no_price_dollars": dollars(DOLLAR - trade.yes_price),
        "taker_side": trade.taker_side,
        "ticker": trade.ticker,
        "trade_id": trade.trade_id,
        "yes_price_dollars": dollars(trade.yes_price),
    }
    document |= _era_count("count", trade.count, trade.whole_count, era)
    if era == "current":
        document |= {
            "is_block_trade": trade.is_block,
            "taker_book_side": "bid" if trade.taker_side == "yes" else "ask",
            "taker_outcome_side": trade.taker_side,
        }
    else:
        yes = cents(trade.yes_price)
        document |= {
            "no_price": 100 - yes,
            "price": trade.yes_price / DOLLAR,
            "yes_price": yes,
        }
    return document


def candle_document(candle: Candle, era: Era) -> Document:
    """Return a candle as the live, batch and event endpoints write it: what there is nothing to say about is absent."""
    document: Document = {"end_period_ts": candle.end}
    for name, values in (("yes_ask", candle.ask), ("yes_bid", candle.bid)):
        document[name] = _era_prices(_named(values), era)
    price: dict[str, int | None] = {} if candle.price is None else {**_named(candle.price), "mean": candle.mean}
    if candle.previous is not None:
        price["previous"] = candle.previous
    if era == "current":
        document["price"] = _era_prices(price, era)
    else:
        nulls = dict.fromkeys(("open", "low", "high", "close", "mean", "previous", "min", "max"))
        document["price"] = nulls | _era_prices(price, era)
    document |= _era_count("open_interest", candle.open_interest, candle.whole_open_interest, era)
    return document | _era_count("volume", candle.volume, candle.whole_volume, era)


def historical_candle_document(candle: Candle, era: Era) -> Document:
    """Return a candle as the historical tier writes it: plain names, strings, explicit nulls; the same in every era."""
    exact = era == "current"
    price: dict[str, int | None] = dict.fromkeys(("open", "low", "high", "close"))
    if candle.price is not None:
        price |= _named(candle.price)
    return {
        "end_period_ts": candle.end,
        "open_interest": contracts(candle.open_interest if exact else candle.whole_open_interest * CONTRACT),
        "price": _plain({**price, "mean": candle.mean, "previous": candle.previous}),
        "volume": contracts(candle.volume if exact else candle.whole_volume * CONTRACT),
        "yes_ask": _plain(_named(candle.ask)),
        "yes_bid": _plain(_named(candle.bid)),
    }


def _named(values: Range) -> dict[str, int]:
    return {"open": values.open, "low": values.low, "high": values.high, "close": values.close}


def _plain(prices: Mapping[str, int | None]) -> Document:
    return {name: None if price is None else dollars(price) for name, price in prices.items()}


def _era_prices(prices: Mapping[str, int | None], era: Era) -> Document:
    document: Document = {f"{name}_dollars": dollars(price) for name, price in prices.items() if price is not None}
    if era != "current":
        document |= {name: cents(price) for name, price in prices.items() if price is not None}
    return document


def book_document(book: Book, era: Era, depth: int = 0) -> Document:
    """Return the envelope of an order book: `orderbook_fp`, `orderbook`, or both; `depth` 0 means all levels."""
    sides = {"yes": book.yes[-depth:], "no": book.no[-depth:]} if depth else {"yes": book.yes, "no": book.no}
    document: Document = {}
    if era != "current":
        sides = {side: tuple((price, whole(count) * CONTRACT) for price, count in bids) for side, bids in sides.items()}
        document["orderbook"] = _integer_book(sides, empty=None if era == "cents" else [])
    if era != "cents":
        document["orderbook_fp"] = {
            f"{side}_dollars": [[dollars(price), contracts(count)] for price, count in levels] for side, levels in sides.items()
        }
    return document


def _integer_book(sides: Mapping[str, Sequence[tuple[int, int]]], empty: list[Any] | None) -> Document:
    document: Document = {}
    for side, levels in sides.items():
        document[side] = [[cents(price), count // CONTRACT] for price, count in levels] or empty
        document[f"{side}_dollars"] = [[dollars(price), count // CONTRACT] for price, count in levels] or empty
    return document
