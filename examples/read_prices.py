"""Read prices through typed functions, with a sync and with an async connection.

Run the demo first, so that there is something to read:

    python3 run.py demo
    .venv/bin/python examples/read_prices.py
"""

import asyncio
from datetime import UTC, datetime, timedelta

from kalshidb import postgres
from kalshidb.queries import market_data

LONG_AGO = datetime(2021, 1, 1, tzinfo=UTC)


def busiest_market() -> str | None:
    """Return the open market with the most contracts traded, and print its quote."""
    with postgres.connect() as conn:
        quotes = market_data.freshest_quotes(conn, how_many=1)
    if not quotes:
        return None
    quote = quotes[0]
    # Prices are None where none was observed; the type checker insists that somebody thinks of it.
    implied = "unknown" if quote.implied_probability is None else f"{quote.implied_probability:.1%}"
    print(f"{quote.market_ticker}: bid {quote.yes_bid}, ask {quote.yes_ask}, implied probability {implied}")
    return quote.market_ticker


async def price_history(market_ticker: str) -> None:
    """Print the daily range of a market's quotes from its hourly candlesticks."""
    async with await postgres.connect_async() as conn:
        last = await market_data.candlestick_as_of(
            conn, market_ticker=market_ticker, period_interval_minutes=60, moment=datetime.now(UTC)
        )
        if last is None:
            print("no candlesticks")
            return
        candles = await market_data.candlesticks_between(
            conn,
            market_ticker=market_ticker,
            period_interval_minutes=60,
            start_ts=max(LONG_AGO, last.end_period_ts - timedelta(days=7)),
            end_ts=last.end_period_ts + timedelta(seconds=1),
        )
    for candle in candles[-5:]:
        print(
            f"{candle.end_period_ts:%Y-%m-%d %H:%M}  bid {candle.yes_bid_close}  ask {candle.yes_ask_close}  volume {candle.volume}"
        )


if __name__ == "__main__":
    ticker = busiest_market()
    if ticker is None:
        print("nothing is stored yet: python3 run.py demo")
    else:
        asyncio.run(price_history(ticker))
