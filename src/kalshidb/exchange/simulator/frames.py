"""How the exchange writes its truth down as frames of the websocket: the messages inside of the envelopes.

Spelled as recorded in August 2026: decimal strings, times of books and quotes to the microsecond beside milliseconds, trades only
in milliseconds.
"""

import uuid
from collections.abc import Iterator

from kalshidb.exchange.simulator.wire import Document, contracts, dollars, timestamp
from kalshidb.exchange.simulator.world import DOLLAR, SECOND, Book, Market, Trade, World

MILLISECOND = 1_000
_UNIT = 100 * DOLLAR  # a price times a count, in dollars


def market_id(world: World, ticker: str) -> str:
    """Return the id that a market has only here."""
    return str(uuid.UUID(int=world.stream(ticker, "market id").getrandbits(128)))


def snapshot_message(world: World, ticker: str, at: int, *, stamped: bool) -> Document:
    """Return a whole book. A side without bids is left out; the real exchange says no time, which `stamped` adds."""
    book = world.book(ticker, at)
    message: Document = {"market_ticker": ticker, "market_id": market_id(world, ticker)}
    for side, bids in (("yes", book.yes), ("no", book.no)):
        if bids:
            message[f"{side}_dollars_fp"] = [[dollars(price), contracts(count)] for price, count in bids]
    return message | _clock(at) if stamped else message


def delta_messages(world: World, ticker: str, before: Book, after: Book, at: int) -> Iterator[Document]:
    """Return the changes from one book to another, one a level."""
    for side, old, new in (("yes", dict(before.yes), dict(after.yes)), ("no", dict(before.no), dict(after.no))):
        for price in sorted(old.keys() | new.keys()):
            change = new.get(price, 0) - old.get(price, 0)
            if change:
                yield {
                    "market_ticker": ticker,
                    "market_id": market_id(world, ticker),
                    "price_dollars": dollars(price),
                    "delta_fp": contracts(change) if change > 0 else f"-{contracts(-change)}",
                    "side": side,
                } | _clock(at)


def ticker_message(world: World, ticker: str, at: int) -> Document:
    """Return a market's quotes and counts at a moment."""
    history, book = world.history(ticker), world.book(ticker, at)
    trades = [trade for trade in history.trades if trade.time <= at]
    bid, ask = history.quote_at(at) if world.status(world.markets[ticker], at) == "active" else (0, DOLLAR)
    volume, interest = sum(trade.count for trade in trades), sum(trade.opens for trade in trades)
    return {
        "market_id": market_id(world, ticker),
        "market_ticker": ticker,
        "price_dollars": dollars(trades[-1].yes_price if trades else 0),
        "yes_bid_dollars": dollars(bid),
        "yes_ask_dollars": dollars(ask),
        "volume_fp": contracts(volume),
        "open_interest_fp": contracts(interest),
        "dollar_volume": sum(trade.count * trade.yes_price for trade in trades) // _UNIT,
        "dollar_open_interest": interest // 100,
        "yes_bid_size_fp": contracts(book.yes[-1][1] if book.yes else 0),
        "yes_ask_size_fp": contracts(book.no[-1][1] if book.no else 0),
        "last_trade_size_fp": contracts(trades[-1].count if trades else 0),
        "ts": at // SECOND,
        "ts_ms": at // MILLISECOND,
        "time": timestamp(at),
    }


def trade_message(trade: Trade) -> Document:
    """Return a trade; its time is coarser than in the answers to requests."""
    return {
        "trade_id": trade.trade_id,
        "market_ticker": trade.ticker,
        "yes_price_dollars": dollars(trade.yes_price),
        "no_price_dollars": dollars(DOLLAR - trade.yes_price),
        "count_fp": contracts(trade.count),
        "taker_side": trade.taker_side,
        "taker_outcome_side": trade.taker_side,
        "taker_book_side": "bid" if trade.taker_side == "yes" else "ask",
        "is_block_trade": trade.is_block,
        "ts": trade.time // SECOND,
        "ts_ms": trade.time // MILLISECOND,
    }


def lifecycle_message(market: Market, word: str) -> Document | None:
    """Return what is told of a market's life; None for what happens by the clock alone, of which the exchange says nothing."""
    message: Document = {"market_ticker": market.ticker, "event_type": word}
    match word:
        case "created":
            return message | {
                "exchange_index": 0,
                "open_ts": market.open // SECOND,
                "close_ts": market.close // SECOND,
                "additional_metadata": {
                    "name": market.label,
                    "title": market.title,
                    "yes_sub_title": market.label,
                    "no_sub_title": market.label,
                    "rules_primary": "",
                    "rules_secondary": "",
                    "can_close_early": True,
                    "event_ticker": market.event_ticker,
                    "expected_expiration_ts": market.close // SECOND,
                    "strike_type": market.strike_type,
                },
            }
        case "deactivated":
            return message | {"is_deactivated": True}
        case "determined":
            result = {0: "no", DOLLAR: "yes"}.get(market.payout, "scalar")
            moment = (market.determined or market.close) // SECOND
            return message | {"determination_ts": moment, "result": result, "settlement_value": dollars(market.payout)}
        case "settled":
            return message | {"settled_ts": (market.settled or market.close) // SECOND}
        case _:
            return None


def _clock(at: int) -> Document:
    return {"ts": timestamp(at), "ts_ms": at // MILLISECOND}
