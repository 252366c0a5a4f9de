"""Weather markets, whole (seed S0): a backfill that is killed and resumed, then a backtest that reads the database alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from loading import pull_world

from kalshidb import postgres
from kalshidb.models.backtest import TradeInput
from kalshidb.models.market_data import Candlestick
from kalshidb.queries import backtest, catalog, market_data, ops

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example() -> Any:  # noqa: ANN401
    """The example's program, as a module."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import backtest as program  # type: ignore[import-not-found]

        return program
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def world(postgresql_noproc: Any) -> Iterator[str]:  # noqa: ANN401
    """The address of a database that was loaded from a simulated exchange, which is switched off since."""
    from pytest_postgresql.janitor import DatabaseJanitor

    server = postgresql_noproc
    name = f"{server.dbname}_s0"
    janitor = DatabaseJanitor(
        user=server.user, host=server.host, port=server.port, dbname=name, template_dbname=server.template_dbname
    )
    url = f"postgresql://{server.user}@/{name}?host={quote(server.host, safe='')}&port={server.port}"
    with janitor:
        with postgres.connect(url, autocommit=True) as conn:
            report, _ = pull_world(conn, markets=120)
            assert report.total.rejected == 0
        yield url


def stored(conn: psycopg.Connection[Any], run_id: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
    return [
        (row.market_ticker, row.decision_ts, row.side, row.qty, row.entry_price, row.entry_fee, row.entry_candle_end_ts, row.pnl)
        for row in backtest.trades_of_run(conn, run_id=run_id)
    ]


def test_a_backtest_reads_the_database_alone_adds_up_and_is_audited(world: str, example: Any) -> None:  # noqa: ANN401
    with postgres.connect(world, autocommit=True) as conn:
        config = example.Config()
        run_id = example.run_backtest(conn, config)
        trades = backtest.trades_of_run(conn, run_id=run_id)
        assert len(trades) > 10
        # Each trade again in plain Python, from the raw rows.
        for trade in trades:
            candles = conn.execute(
                "SELECT end_period_ts, yes_bid_close, yes_ask_close FROM market_data.candlesticks"
                " WHERE market_ticker = %s AND period_interval_minutes = 60",
                [trade.market_ticker],
            ).fetchall()
            end, bid, ask = max(row for row in candles if row[0] <= trade.decision_ts)
            assert trade.decision_ts - end <= timedelta(hours=24)
            cost = ask if trade.side == "buy_yes" else 1 - bid
            fee = (Decimal("0.07") * trade.qty * cost * (1 - cost) * 100).to_integral_value(ROUND_CEILING) / 100
            settlement = catalog.final_settlement(conn, market_ticker=trade.market_ticker)
            assert settlement is not None
            payout = settlement.yes_payout if trade.side == "buy_yes" else settlement.no_payout
            assert payout is not None
            assert (trade.entry_candle_end_ts, trade.entry_price, trade.entry_fee) == (end, cost, fee)
            assert (trade.settled_result, trade.pnl) == (settlement.outcome, trade.qty * (payout - cost) - fee)
        run = backtest.run_by_id(conn, run_id=run_id)
        assert run is not None
        assert (run.status, run.total_pnl, run.num_trades) == (
            "success",
            sum(t.pnl for t in trades if t.pnl is not None),
            len(trades),
        )
        assert backtest.leakage(conn, run_id=run_id) == []
        assert backtest.trades_without_quote(conn, run_id=run_id) == []
        assert backtest.trades_that_do_not_add_up(conn, run_id=run_id) == []
        (again,) = [example.run_backtest(conn, config)]
        assert stored(conn, again) == stored(conn, run_id)


def test_what_comes_after_the_decisions_changes_nothing(world: str, example: Any) -> None:  # noqa: ANN401
    with postgres.connect(world) as conn:  # one transaction, taken back at the end
        config = example.Config()
        before = stored(conn, example.run_backtest(conn, config))
        planted = 0
        for ticker, decided in {(row[0], row[1]) for row in before}:
            future = [
                Candlestick(
                    market_ticker=ticker, end_period_ts=decided + after, period_interval_minutes=60, yes_bid_close=Decimal("0.98"),
                    yes_ask_close=Decimal("0.99"), retrieved_at=decided + timedelta(days=400),
                )
                for after in (timedelta(microseconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(hours=2))
            ]  # fmt: skip
            planted += market_data.upsert_candlesticks(conn, future).written
        assert planted >= 3 * len(before)
        assert stored(conn, example.run_backtest(conn, config)) == before

        # The same quote a moment before the decision does change it: the test sees what it claims to see.
        ticker, decided = before[0][:2]
        conn.execute(
            "UPDATE market_data.candlesticks SET yes_bid_close = 0.5, yes_ask_close = 0.51"
            " WHERE market_ticker = %s AND end_period_ts = %s AND period_interval_minutes = 60",
            [ticker, before[0][6]],
        )
        assert stored(conn, example.run_backtest(conn, config)) != before
        conn.rollback()


def test_a_strategy_that_looks_ahead_is_refused_by_the_table(world: str, example: Any) -> None:  # noqa: ANN401
    with postgres.connect(world) as conn:
        honest = backtest.trades_of_run(conn, run_id=example.run_backtest(conn, example.Config()))
        conn.execute("UPDATE backtest.runs SET status = 'running', finished_at = NULL")
        cheats = [
            TradeInput.model_validate(
                trade.model_dump(exclude={"created_at", "trade_id"})
                | {"trade_id": f"{number:032x}", "entry_candle_end_ts": trade.decision_ts + timedelta(hours=1)}
            )
            for number, trade in enumerate(honest)
        ]
        with pytest.raises(psycopg.errors.CheckViolation, match="trades_entry_look_ahead_check"):
            backtest.insert_trades(conn, cheats)


def test_under_a_stricter_policy_less_is_known(world: str, example: Any) -> None:  # noqa: ANN401
    with postgres.connect(world, autocommit=True) as conn:
        run_id = example.run_backtest(conn, replace(example.Config(), asof_policy_id="candle_close_1m"))
        assert backtest.trades_of_run(conn, run_id=run_id) == [], "there are hourly candlesticks only"


def test_the_example_prints_a_run_and_the_trail_of_a_trade(world: str) -> None:
    environment = {**os.environ, "DATABASE_URL": world}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "backtest.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "trades on quotes that were not known: 0", "differs from the sum of its trades by 0.000000", "60-minute candlestick that ended",
        "retrieved ", "by run 1 (the simulated exchange)",
    ):  # fmt: skip
        assert part in done.stdout, done.stdout


WORKER = """
import sys
from datetime import datetime, timedelta
import psycopg
from kalshidb.models.market_data import Candlestick
from kalshidb.queries import market_data, ops

source, target, event, slow = sys.argv[1:]
job = dict(job_name="event_candlesticks_60m", series_ticker="", event_ticker=event)
with psycopg.connect(source, autocommit=True) as old, psycopg.connect(target, autocommit=True) as new:
    start, end = old.execute(
        "SELECT min(end_period_ts), max(end_period_ts) + interval '1 hour' FROM market_data.candlesticks"
        " JOIN catalog.markets USING (market_ticker) WHERE event_ticker = %s", [event]).fetchone()
    owned = ops.begin_checkpoint(new, **job, window_start_ts=start, window_end_ts=end)
    if owned is None:
        sys.exit("another worker is at it")
    here = owned.fetched_through or start
    print("from", here.isoformat(), flush=True)
    while here < end:
        to = min(here + timedelta(hours=3), end)
        with new.transaction():
            market_data.upsert_candlesticks(new, market_data.candlesticks_of_event(
                old, event_ticker=event, period_interval_minutes=60, start_ts=here, end_ts=to))
            assert ops.advance_checkpoint(new, **job, attempts=owned.attempts, fetched_through=to) == 1
        here = to
        print("through", here.isoformat(), flush=True)
        if slow == "slow":
            sys.stdin.readline()
    assert ops.succeed_checkpoint(new, **job, attempts=owned.attempts) == 1
"""


def test_a_backfill_that_is_killed_goes_on_where_it_was_and_ends_as_if_undisturbed(world: str, database_url: str) -> None:
    with postgres.connect(world) as conn:
        row = conn.execute(
            "SELECT event_ticker FROM market_data.candlesticks JOIN catalog.markets USING (market_ticker)"
            " GROUP BY event_ticker HAVING max(end_period_ts) - min(end_period_ts) > interval '12 hours' ORDER BY 1 LIMIT 1"
        ).fetchone()
        assert row is not None
        event = row[0]

    def start(speed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, world, database_url, event, speed],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    job = {"job_name": "event_candlesticks_60m", "series_ticker": "", "event_ticker": event}
    with start("slow") as killed, postgres.connect(database_url, autocommit=True) as conn:
        assert killed.stdout is not None
        assert killed.stdout.readline().startswith("from")
        through = killed.stdout.readline().split()[1]
        _, second = start("fast").communicate()
        assert "another worker is at it" in second
        assert ops.checkpoints_to_resume(conn, job_name=job["job_name"]) == []
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        deadline = time.monotonic() + 10  # the server has to notice
        while not (left := ops.checkpoints_to_resume(conn, job_name=job["job_name"])):
            assert time.monotonic() < deadline
        assert [(each.event_ticker, each.status) for each in left] == [(event, "running")]
        with start("fast") as resumed:
            said, wrong = resumed.communicate()
        assert (resumed.returncode, wrong) == (0, "")
        assert said.splitlines()[0] == f"from {through}", "what was fetched is not fetched again"
        done = ops.checkpoint(conn, **job)
        assert done is not None
        assert (done.status, done.attempts, done.fetched_through) == ("success", 2, done.window_end_ts)
        with postgres.connect(world) as old:
            span = {
                "event_ticker": event,
                "period_interval_minutes": 60,
                "start_ts": done.window_start_ts,
                "end_ts": done.window_end_ts,
            }
            expected = market_data.candlesticks_of_event(old, **span)
        tickers = sorted({row.market_ticker for row in expected})
        got = [
            row
            for ticker in tickers
            for row in market_data.candlesticks_between(
                conn, market_ticker=ticker, period_interval_minutes=60, start_ts=done.window_start_ts, end_ts=done.window_end_ts
            )
        ]
        assert got == expected
