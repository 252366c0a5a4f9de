"""The main job: everything that the simulated exchange has is in the store afterwards, and a second time changes nothing."""

import io
import os
import re
import subprocess
import sys
import time

import psycopg
import pytest
from rich.console import Console

from kalshidb import demo, postgres
from kalshidb.exchange.simulator import SimulatedExchange, World
from kalshidb.models.market_data import Candlestick

MARKETS = 80


@pytest.fixture(scope="module")
def world() -> World:
    return SimulatedExchange(seed=7, markets=MARKETS).world


def test_the_demo_stores_everything_that_the_exchange_has_and_again_nothing(database_url: str, world: World) -> None:
    text = io.StringIO()
    with postgres.connect(database_url, autocommit=True) as conn:
        assert demo.run(conn, Console(file=text, width=120), markets=MARKETS)

        trades = conn.execute(
            "SELECT trade_id::text, market_ticker, (extract(epoch FROM created_time) * 1000000)::bigint, (count * 100)::bigint,"
            " (yes_price * 10000)::bigint, taker_side, is_block_trade FROM market_data.public_trades"
        ).fetchall()
        assert set(trades) == {
            (t.trade_id, t.ticker, t.time, t.count, t.yes_price, t.taker_side, t.is_block) for t in world.all_trades
        }
        assert len(trades) == len(world.all_trades)

        candles = conn.execute(
            "SELECT market_ticker, extract(epoch FROM end_period_ts)::bigint, (volume * 100)::bigint, (open_interest * 100)::bigint,"
            " (yes_bid_close * 10000)::bigint, (price_close * 10000)::bigint FROM market_data.candlesticks"
        ).fetchall()
        expected = {
            (ticker, c.end, c.volume, c.open_interest, c.bid.close, c.price.close if c.price else None)
            for ticker, market in world.markets.items()
            if not market.is_combo
            for c in world.candles(ticker, 60)
        }
        assert set(candles) == expected
        assert len(candles) == len(expected)

        markets = {row[0] for row in conn.execute("SELECT market_ticker FROM catalog.markets WHERE NOT is_stub")}
        assert markets >= {ticker for ticker, market in world.markets.items() if not market.is_combo}
        assert {row[0] for row in conn.execute("SELECT series_ticker FROM catalog.series WHERE NOT is_stub")} >= {
            market.series_ticker for market in world.markets.values()
        }

        books = {
            row[0]: row[1:]
            for row in conn.execute("SELECT market_ticker, yes_depth, no_depth FROM market_data.orderbook_snapshots")
        }
        for ticker, (yes_depth, no_depth) in books.items():
            book = world.book(ticker)
            assert (yes_depth * 100, no_depth * 100) == (sum(q for _, q in book.yes), sum(q for _, q in book.no))
        active = {m.ticker for m in world.markets.values() if world.status(m) == "active" and not m.is_combo}
        assert books.keys() == active

        settled = {row[0]: row[1] for row in conn.execute("SELECT market_ticker, outcome FROM catalog.settlements")}
        assert settled == {
            ticker: world.result(market)
            for ticker, market in world.markets.items()
            if world.status(market) == "finalized" and not market.is_combo
        }
        assert conn.execute("SELECT array_agg(status) FROM ops.ingest_runs").fetchone() == (["succeeded", "succeeded"],)

    shown = text.getvalue()
    first, second = re.findall(r"([\d,]+) written, ([\d,]+) unchanged, 0 rejected", shown)
    assert (first[1], second[0]) == ("0", "0")
    assert first[0] == second[1]
    for part in ("The catalogue", "The freshest quotes", "The price of", "Do prices tell the truth?"):
        assert part in shown
    assert "not enough quotes" not in shown


def test_the_demo_command_is_plain_text_where_there_is_no_terminal_and_ends_in_time(database_url: str) -> None:
    begun = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "kalshidb", "demo", "--markets", "60"],
        env=os.environ | {"DATABASE_URL": database_url}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert time.monotonic() - begun < 30
    assert "\x1b" not in found.stdout
    assert "Loading it once more: 0 written" in found.stdout
    assert "python3 run.py load FILE…" in found.stdout
    again = subprocess.run(
        [sys.executable, "-m", "kalshidb", "demo", "--markets", "60"],
        env=os.environ | {"DATABASE_URL": database_url}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Loading the simulated exchange over HTTP: 0 written" in again.stdout
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM ops.rejected_payloads").fetchone() == (0,)


def test_a_chart_needs_two_quotes() -> None:
    candles: list[Candlestick] = []
    assert demo.price_chart(candles).plain == "not enough quotes for a chart"
