"""`python -m benchmarks.asof [--quick]`: what was known at each of many moments, over ten million candlesticks, in one statement.

The candlesticks are made by the server itself, hour after hour over all markets as they would arrive, a third of the hours missing.
What the statement answers is compared with what plain Python computes from the rule that made the rows; the exit status is not 0 when
they differ.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from benchmarks.server import migrated_server, open_connection, surroundings
from kalshidb.queries import market_data

BEGIN = datetime(2025, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY, MAX_AGE_HOURS = "candle_close_60m", 24
PAIRS = 10_000
ROUNDS = 7
ASKED = 20_000  # pairs a second

# What a covering index would have to hold for the statement never to look into the table.
COVERING = """
    CREATE INDEX candlesticks_covering_idx ON market_data.candlesticks (market_ticker, period_interval_minutes, end_period_ts)
    INCLUDE (yes_bid_close, yes_ask_close, price_close, price_previous, volume, open_interest, retrieved_at)
"""


def ticker(market: int) -> str:
    """Return the ticker of a market by its number."""
    return f"KXBENCH-{market}"


def bid(market: int, hour: int) -> Decimal | None:
    """Return the bid of an hour, or None where the hour has no candlestick; the rule that `fill` has in SQL."""
    return None if (market * 7 + hour * 13) % 3 == 1 else Decimal((market * 31 + hour * 17) % 90 + 1) / 100


def fill(conn: psycopg.Connection[Any], markets: int, hours: int) -> int:
    """Make the candlesticks on the server; return how many there are."""
    conn.execute(
        """
        INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
        SELECT 'KXBENCH-' || m, 'kalshi', 'KXBENCH-' || m, true, now(), now(), now() FROM generate_series(1, %s::integer) AS m
        """,
        [markets],
    )
    conn.execute(
        """
        SELECT market_data.create_month_partitions('market_data.candlesticks', array_agg(at))
        FROM generate_series(%s::timestamptz, %s::timestamptz, interval '24 hours') AS at
        """,
        [BEGIN, BEGIN + (hours + 24) * HOUR],
    )
    # The markets are there: asking the foreign key ten million times would be the longest part. Indexes are built at the end, sorted.
    conn.execute("SET session_replication_role = replica")
    conn.execute("ALTER TABLE market_data.candlesticks DROP CONSTRAINT candlesticks_pkey")
    conn.execute("DROP INDEX market_data.candlesticks_end_period_ts_idx")
    made = conn.execute(
        """
        INSERT INTO market_data.candlesticks (
            market_ticker, end_period_ts, period_interval_minutes, yes_bid_open, yes_bid_high, yes_bid_low, yes_bid_close,
            yes_ask_open, yes_ask_high, yes_ask_low, yes_ask_close, price_close, volume, open_interest, retrieved_at
        )
        SELECT
            'KXBENCH-' || m, at, 60, bid, bid, bid, bid, bid + 0.02, bid + 0.02, bid + 0.02, bid + 0.02, bid, m %% 500, h, at
        FROM generate_series(0, %s::integer - 1) AS h
        CROSS JOIN generate_series(1, %s::integer) AS m
        CROSS JOIN LATERAL (
            SELECT %s::timestamptz + h * interval '1 hour' AS at, ((m * 31 + h * 17) %% 90 + 1) / 100.0 AS bid
        ) AS made
        WHERE (m * 7 + h * 13) %% 3 <> 1
        """,
        [hours, markets, BEGIN],
    ).rowcount
    conn.execute("RESET session_replication_role")
    conn.execute(
        """
        ALTER TABLE market_data.candlesticks
        ADD CONSTRAINT candlesticks_pkey PRIMARY KEY (market_ticker, end_period_ts, period_interval_minutes)
        """
    )
    conn.execute("CREATE INDEX candlesticks_end_period_ts_idx ON market_data.candlesticks (end_period_ts)")
    conn.execute("VACUUM (ANALYZE) market_data.candlesticks")
    return made


def questions(markets: int, hours: int, pairs: int) -> tuple[list[str], list[datetime], list[Decimal | None]]:
    """Return random pairs over the whole span and somewhat beyond it, with the right bids."""
    chance = random.Random(17)  # noqa: S311  (the same every time)
    asked = [(chance.randint(1, markets), chance.randrange(-60, (hours + 48) * 60)) for _ in range(pairs)]
    expected: list[Decimal | None] = []
    for market, minute in asked:
        last = min(minute // 60, hours - 1)
        known = (bid(market, hour) for hour in range(last, -1, -1) if minute - hour * 60 <= MAX_AGE_HOURS * 60)
        expected.append(next((price for price in known if price is not None), None))
    return [ticker(market) for market, _ in asked], [BEGIN + timedelta(minutes=minute) for _, minute in asked], expected


def seconds(
    conn: psycopg.Connection[Any], tickers: list[str], moments: list[datetime], expected: list[Decimal | None]
) -> Iterator[float]:
    """Ask and yield how long each round took, the first one left out.

    Raises:
        SystemExit: an answer is not what Python computes.
    """
    for number in range(ROUNDS + 1):
        begun = time.perf_counter()
        rows = market_data.quotes_known_at(conn, market_tickers=tickers, decision_times=moments, asof_policy_id=POLICY)
        took = time.perf_counter() - begun
        if [row.yes_bid for row in rows] != expected:
            raise SystemExit("quotes_known_at answers something else than plain Python computes")
        if number:
            yield took


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks.asof", description="Measure quotes_known_at over many candlesticks.")
    parser.add_argument("--quick", action="store_true", help="300,000 candlesticks instead of ten million")
    parser.add_argument("--covering", action="store_true", help="once more with a covering index, to see whether it pays")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every timing, the machine and the versions to FILE")
    options = parser.parse_args()
    markets, hours = (100, 4_500) if options.quick else (1_500, 10_000)
    pairs = PAIRS // 10 if options.quick else PAIRS
    console = Console(soft_wrap=True)
    results: dict[str, Any] = {"pairs": pairs}
    with migrated_server() as url, open_connection(url) as conn:
        begun = time.perf_counter()
        results["candlesticks"] = fill(conn, markets, hours)
        console.print(f"{results['candlesticks']:,} candlesticks in {time.perf_counter() - begun:,.0f} s", highlight=False)
        asked = questions(markets, hours, pairs)
        ways = {"primary key": None} | ({"covering index": COVERING} if options.covering else {})
        for name, make in ways.items():
            if make:
                conn.execute(make)
                conn.execute("VACUUM (ANALYZE) market_data.candlesticks")
            rounds = list(seconds(conn, *asked))
            results[name] = {"seconds": rounds}
            rates = sorted(pairs / took for took in rounds)
            row = conn.execute(
                "SELECT sum(pg_table_size(relid))::bigint FROM pg_partition_tree('market_data.candlesticks')"
            ).fetchone()
            gigabytes = row[0] / 1e9 if row else 0
            console.print(
                f"{name}: {statistics.median(rates):,.0f} pairs/s ({rates[0]:,.0f} to {rates[-1]:,.0f}), "
                f"{ASKED:,} asked; table {gigabytes:.2f} GB",
                highlight=False,
            )
        results |= surroundings(conn)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
