"""Runs of a backtest begin, end and add up; what could not have been known cannot be stored, and is found where it was."""

# ruff: noqa: ANN401  (a change may be of any column)

import random
import statistics
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sample_rows import DAY, HOUR, MINUTE, NOON, TICK, candle, market, quote

from kalshidb.models.backtest import Run, TradeInput
from kalshidb.models.catalog import SettlementInput
from kalshidb.queries import backtest, catalog, market_data
from kalshidb.typedsql import CardinalityError

T80, T90 = "KXHIGHNY-26JUL19-T80", "KXHIGHNY-26JUL19-T90"


def begin(pg: psycopg.Connection, **changes: Any) -> Run:
    row: dict[str, Any] = {
        "run_id": None, "strategy_name": "fade", "strategy_version": "1.0", "strategy_id": None, "git_sha": "f5cd139", "random_seed": 7,
        "config_yaml": "threshold: 0.05\n", "date_start_local": date(2026, 7, 19), "date_end_local": date(2026, 7, 20),
        "series_tickers": ["KXHIGHNY"], "asof_policy_id": "candle_close_60m", "trade_window_policy": "always", "metadata": {},
    }  # fmt: skip
    return backtest.begin_run(pg, **(row | changes))


def trade(run: Run, number: int = 1, **changes: Any) -> TradeInput:
    row: dict[str, Any] = {
        "trade_id": UUID(int=number), "run_id": run.run_id, "market_ticker": T80, "event_ticker": "KXHIGHNY-26JUL19",
        "series_ticker": "KXHIGHNY", "decision_ts": NOON, "side": "buy_yes", "qty": 10, "entry_price": "0.44", "entry_fee": "0.18",
        "entry_time": NOON, "entry_candle_end_ts": NOON, "entry_candle_minutes": 60, "signal_metadata": {"reason": "cheap"},
    }  # fmt: skip
    return TradeInput.model_validate(row | changes)


def finish(pg: psycopg.Connection, run: Run, **changes: Any) -> int:
    found = backtest.run_metrics(pg, run_id=run.run_id)
    given: dict[str, Any] = {
        "total_pnl": found.total_pnl, "num_trades": found.num_trades, "win_rate": found.win_rate, "max_drawdown": found.max_drawdown,
        "sharpe_ratio": found.sharpe_ratio, "metrics_json": {"sharpe": "per trade"}, "artifact_path": None,
    }  # fmt: skip
    return backtest.finish_run(pg, run_id=run.run_id, **(given | changes))


def status(pg: psycopg.Connection, run: Run) -> str:
    found = backtest.run_by_id(pg, run_id=run.run_id)
    assert found is not None
    return found.status


def settle(pg: psycopg.Connection, ticker: str, outcome: str, yes: str | None, at: datetime = NOON + DAY) -> None:
    payout = None if yes is None else Decimal(yes)
    row = {
        "market_ticker": ticker, "settled_at": at, "platform_id": "kalshi", "event_ticker": None, "outcome": outcome, "payout": None,
        "yes_payout": payout, "no_payout": None if payout is None else 1 - payout, "retrieved_at": at,
    }  # fmt: skip
    catalog.insert_settlements(pg, [SettlementInput.model_validate(row)])


@pytest.fixture
def markets(pg: psycopg.Connection) -> psycopg.Connection:
    pg.autocommit = True
    catalog.upsert_markets(pg, [market(T80), market(T90)])
    return pg


def test_a_run_begins_trades_settles_and_finishes(markets: psycopg.Connection) -> None:
    run = begin(markets)
    assert (run.status, run.total_pnl, run.finished_at) == ("running", None, None)
    rows = [trade(run, 1), trade(run, 2, market_ticker=T90, side="buy_no", entry_price="0.3", entry_fee="0.15")]
    assert backtest.insert_trades(markets, rows).written == 2
    settle(markets, T80, "yes", "1")
    settle(markets, T90, "yes", "1")
    assert backtest.settle_trades(markets, run_id=run.run_id) == 2
    assert backtest.settle_trades(markets, run_id=run.run_id) == 0
    assert finish(markets, run) == 1
    ended = backtest.run_by_id(markets, run_id=run.run_id)
    assert ended is not None
    # 10 x (1 - 0.44) - 0.18 and 10 x (0 - 0.3) - 0.15
    assert (ended.status, ended.total_pnl, ended.num_trades, ended.win_rate) == ("success", Decimal("2.27"), 2, Decimal("0.5"))
    summary = backtest.run_summary(markets, run_id=run.run_id)
    assert summary is not None
    assert (summary.trades, summary.markets, summary.fees, summary.pnl_difference) == (2, 2, Decimal("0.33"), 0)
    assert backtest.trades_that_do_not_add_up(markets, run_id=run.run_id) == []
    assert finish(markets, run) == 0, "what has ended stays as it ended"


def test_a_total_that_is_not_the_sum_of_the_trades_is_refused(markets: psycopg.Connection) -> None:
    run = begin(markets)
    backtest.insert_trades(markets, [trade(run, pnl="1.5")])
    for wrong in ({"total_pnl": Decimal("1.500001")}, {"num_trades": 2}):
        with pytest.raises(psycopg.errors.CheckViolation, match=r"does not add up.*are 1 and sum to 1.5") as refused:
            finish(markets, run, **wrong)
        assert refused.value.diag.constraint_name == "runs_totals"
    assert status(markets, run) == "running"
    assert finish(markets, run) == 1


def test_a_run_that_has_ended_takes_and_changes_no_trade_until_it_is_opened_again(markets: psycopg.Connection) -> None:
    run = begin(markets)
    backtest.insert_trades(markets, [trade(run)])
    finish(markets, run)
    settle(markets, T80, "no", "0")
    with pytest.raises(psycopg.errors.RestrictViolation, match=r"has ended \(success\)"):
        backtest.insert_trades(markets, [trade(run, 2)])
    with pytest.raises(psycopg.errors.RestrictViolation, match=r"has ended \(success\)"):
        backtest.settle_trades(markets, run_id=run.run_id)
    assert backtest.reopen_run(markets, run_id=run.run_id) == 1
    assert backtest.settle_trades(markets, run_id=run.run_id) == 1
    assert finish(markets, run) == 1
    assert backtest.run_by_id(markets, run_id=run.run_id).total_pnl == Decimal("-4.58")  # type: ignore[union-attr]


def test_a_retry_begins_no_second_run_and_writes_no_second_trade(markets: psycopg.Connection) -> None:
    mine = uuid4()
    run = begin(markets, run_id=mine)
    rows = [trade(run, number) for number in range(1, 4)]
    assert backtest.insert_trades(markets, rows[:2]).written == 2
    assert backtest.fail_run(markets, run_id=mine, error="killed") == 1
    again = begin(markets, run_id=mine)
    assert (again.run_id, again.status, again.error, again.created_at) == (mine, "running", None, run.created_at)
    assert backtest.insert_trades(markets, [*rows, *rows]).written == 1
    assert len(backtest.trades_of_run(markets, run_id=mine)) == 3
    finish(markets, run)
    assert begin(markets, run_id=mine).status == "success"
    with pytest.raises(CardinalityError, match="begin_run"):
        begin(markets, run_id=mine, random_seed=8)


def test_runs_that_never_ended_are_found_and_closed(markets: psycopg.Connection) -> None:
    dead, ended = begin(markets), begin(markets)
    backtest.fail_run(markets, run_id=ended.run_id, error="x")
    later = dead.created_at + HOUR
    assert [run.run_id for run in backtest.runs_without_end(markets, begun_before=later)] == [dead.run_id]
    assert backtest.runs_without_end(markets, begun_before=dead.created_at) == []
    assert backtest.fail_runs_without_end(markets, begun_before=later) == 1
    assert status(markets, dead) == "failed"


def test_runs_are_found_by_strategy_and_version(markets: psycopg.Connection) -> None:
    old, new, other = begin(markets), begin(markets, strategy_version="1.1"), begin(markets, strategy_name="hold")
    backtest.insert_trades(markets, [trade(new, 1, pnl="2"), trade(new, 2, pnl="-1")])
    for run in (old, new):
        finish(markets, run)
    of = lambda version: [r.run_id for r in backtest.runs_of_strategy(markets, strategy_name="fade", strategy_version=version)]  # noqa: E731
    assert (of("1.0"), of("1.1"), of(None)) == ([old.run_id], [new.run_id], [new.run_id, old.run_id])
    assert [run.run_id for run in backtest.recent_runs(markets, how_many=2)] == [other.run_id, new.run_id]
    first, second = backtest.compare_versions(markets, strategy_name="fade")
    assert (first.strategy_version, first.num_trades, first.win_rate) == ("1.0", 0, None)
    assert (second.strategy_version, second.total_pnl, second.pnl_per_trade, second.win_rate) == (
        "1.1",
        1,
        Decimal("0.5"),
        Decimal("0.5"),
    )


def test_metrics_are_what_plain_python_computes(markets: psycopg.Connection) -> None:
    chance = random.Random(11)  # noqa: S311
    run = begin(markets)
    made = [Decimal(chance.randrange(-300, 320)) / 100 for _ in range(200)]
    rows = [
        trade(run, n + 1, pnl=pnl, exit_time=NOON + n * MINUTE, exit_price="0.5", exit_fee="0.02", exit_candle_end_ts=NOON,
              exit_candle_minutes=60)
        for n, pnl in enumerate(made)
    ]  # fmt: skip
    chance.shuffle(rows)
    backtest.insert_trades(markets, rows)
    found = backtest.run_metrics(markets, run_id=run.run_id)
    summed = peak = worst = Decimal(0)
    for pnl in made:
        summed += pnl
        peak = max(peak, summed)
        worst = max(worst, peak - summed)
    assert (found.total_pnl, found.max_drawdown, found.num_trades, found.open_trades) == (summed, worst, 200, 0)
    assert found.win_rate == Decimal(sum(pnl > 0 for pnl in made)) / 200
    assert found.fees == 200 * Decimal("0.2")
    assert found.sharpe_ratio == (statistics.mean(made) / statistics.stdev(made)).quantize(Decimal("0.000001"))


def test_a_run_without_trades_has_no_rates(markets: psycopg.Connection) -> None:
    run = begin(markets)
    found = backtest.run_metrics(markets, run_id=run.run_id)
    assert (found.num_trades, found.total_pnl, found.max_drawdown, found.win_rate, found.sharpe_ratio) == (0, 0, 0, None, None)
    assert finish(markets, run) == 1


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"entry_candle_end_ts": NOON + TICK}, "trades_entry_look_ahead_check"),
        (
            {"entry_candle_end_ts": None, "entry_candle_minutes": None, "entry_snapshot_time": NOON + TICK,
             "entry_snapshot_source": "poll"},
            "trades_entry_look_ahead_check",
        ),
        (
            {"exit_time": NOON + HOUR, "exit_price": "0.5", "exit_candle_end_ts": NOON + 2 * HOUR, "exit_candle_minutes": 60},
            "trades_exit_look_ahead_check",
        ),
        ({"entry_candle_end_ts": None, "entry_candle_minutes": None}, "trades_entry_quote_check"),
        ({"entry_time": NOON - TICK}, "trades_entry_time_check"),
        ({"exit_fee": "0.02"}, "trades_exit_fee_check"),
        ({"side": "yes"}, "trades_side_check"),
        ({"qty": 0}, "trades_qty_check"),
        ({"run_id": UUID(int=9)}, "trades_run_id_fkey"),
        ({"market_ticker": "KX-UNKNOWN"}, "trades_market_ticker_fkey"),
    ],
)  # fmt: skip
def test_a_trade_that_cannot_have_been_is_refused(markets: psycopg.Connection, wrong: dict[str, Any], rule: str) -> None:
    run = begin(markets)
    row = trade(run).model_dump() | wrong
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        backtest.insert_trades(markets, [TradeInput.model_construct(**row)])
    assert refused.value.diag.constraint_name == rule


def test_an_unknown_policy_cannot_be_run_under(markets: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="runs_asof_policy_id_fkey"):
        begin(markets, asof_policy_id="clairvoyance")


@pytest.mark.parametrize(
    ("outcome", "yes", "side", "pnl"),
    [
        ("yes", "1", "buy_yes", "5.42"),
        ("yes", "1", "buy_no", "-4.58"),
        ("no", "0", "buy_yes", "-4.58"),
        ("no", "0", "buy_no", "5.42"),
        ("scalar", "0.5", "buy_no", "0.42"),
        ("void", None, "buy_yes", None),
    ],
)
def test_a_trade_held_to_settlement_makes_what_its_side_pays(
    markets: psycopg.Connection, outcome: str, yes: str | None, side: str, pnl: str | None
) -> None:
    run = begin(markets)
    backtest.insert_trades(markets, [trade(run, side=side)])
    settle(markets, T80, outcome, yes)
    assert backtest.settle_trades(markets, run_id=run.run_id) == 1
    (found,) = backtest.trades_of_run(markets, run_id=run.run_id)
    assert (found.settled_result, found.pnl) == (outcome, None if pnl is None else Decimal(pnl))
    assert backtest.trades_that_do_not_add_up(markets, run_id=run.run_id) == []


@pytest.mark.parametrize(
    ("outcome", "side", "pnl"), [("yes", "buy_yes", "5.42"), ("yes", "buy_no", "-4.58"), ("no", "buy_no", "5.42")]
)
def test_an_outcome_whose_payouts_nobody_wrote_down_pays_by_its_word(
    markets: psycopg.Connection, outcome: str, side: str, pnl: str
) -> None:
    run = begin(markets)
    backtest.insert_trades(markets, [trade(run, side=side)])
    settle(markets, T80, outcome, None)
    assert backtest.settle_trades(markets, run_id=run.run_id) == 1
    (found,) = backtest.trades_of_run(markets, run_id=run.run_id)
    assert found.pnl == Decimal(pnl)
    assert backtest.trades_that_do_not_add_up(markets, run_id=run.run_id) == []


def test_the_last_settlement_counts_and_what_was_sold_keeps_its_profit(markets: psycopg.Connection) -> None:
    run = begin(markets)
    sold = {"exit_time": NOON + HOUR, "exit_price": "0.54", "exit_fee": "0.18", "pnl": "0.64"}
    backtest.insert_trades(markets, [trade(run, 1), trade(run, 2, **sold), trade(run, 3, **sold | {"pnl": "0.82"})])
    settle(markets, T80, "yes", "1")
    backtest.settle_trades(markets, run_id=run.run_id)
    settle(markets, T80, "no", "0", NOON + 2 * DAY)
    backtest.settle_trades(markets, run_id=run.run_id)
    rows = backtest.trades_of_run(markets, run_id=run.run_id)
    assert [(row.settled_result, row.pnl) for row in rows] == [
        ("no", Decimal("-4.58")),
        ("no", Decimal("0.64")),
        ("no", Decimal("0.82")),
    ]
    (wrong,) = backtest.trades_that_do_not_add_up(markets, run_id=run.run_id)
    assert (wrong.trade_id, wrong.pnl, wrong.computed_pnl) == (UUID(int=3), Decimal("0.82"), Decimal("0.64"))


def test_executions_come_with_the_quotes_that_they_were_made_on(markets: psycopg.Connection) -> None:
    run = begin(markets)
    market_data.upsert_candlesticks(markets, [candle(T80, NOON, yes_bid_close=Decimal("0.41"), yes_ask_close=Decimal("0.44"))])
    market_data.upsert_candlesticks(markets, [candle(T80, NOON, minutes=1, yes_bid_close=Decimal("0.01"))])
    market_data.upsert_price_snapshots(
        markets, [quote(T80, NOON, sequence=5), quote(T80, NOON + HOUR, source="websocket", sequence=6)]
    )
    by_snapshot: dict[str, Any] = {
        "entry_candle_end_ts": None, "entry_candle_minutes": None, "entry_snapshot_time": NOON, "entry_snapshot_source": "poll",
        "exit_time": NOON + HOUR, "exit_price": "0.4", "exit_snapshot_time": NOON + HOUR, "exit_snapshot_source": "websocket",
    }  # fmt: skip
    lost = {"entry_candle_end_ts": NOON - HOUR}
    backtest.insert_trades(markets, [trade(run, 1), trade(run, 2, **by_snapshot), trade(run, 3, **lost)])
    one, two, three = backtest.executions_of_run(markets, run_id=run.run_id)
    assert (one.entry_quote_ts, one.entry_yes_bid, one.entry_yes_ask, one.exit_quote_ts) == (
        NOON,
        Decimal("0.41"),
        Decimal("0.44"),
        None,
    )
    assert (two.entry_sequence, two.entry_yes_ask, two.exit_sequence, two.exit_quote_ts) == (5, Decimal("0.44"), 6, NOON + HOUR)
    assert (three.entry_quote_ts, three.entry_yes_bid, three.entry_retrieved_at) == (NOON - HOUR, None, None)
    (missing,) = backtest.trades_without_quote(markets, run_id=run.run_id)
    assert (missing.trade_id, missing.missing, missing.quote_ts) == (UUID(int=3), "entry", NOON - HOUR)
    assert [row.event_ticker for row in backtest.pnl_of_run_by_event(markets, run_id=run.run_id)] == ["KXHIGHNY-26JUL19"]


def test_what_the_policy_did_not_let_be_known_is_found(markets: psycopg.Connection) -> None:
    run = begin(markets, asof_policy_id="candle_close_1m_lag_1m")
    seen = {at: candle(T80, at, minutes=1, retrieved_at=at + HOUR) for at in (NOON, NOON - MINUTE, NOON - 2 * HOUR)}
    early = candle(T80, NOON - 2 * MINUTE, minutes=1, retrieved_at=NOON - 3 * MINUTE)
    market_data.upsert_candlesticks(markets, [*seen.values(), early])
    on = lambda at, minutes=1: {"entry_candle_end_ts": at, "entry_candle_minutes": minutes}  # noqa: E731
    rows = [
        trade(run, 1, **on(NOON - MINUTE)),
        trade(run, 2, **on(NOON)),
        trade(run, 3, **on(NOON - 2 * HOUR)),
        trade(run, 4, **on(NOON - MINUTE, 60)),
        trade(run, 5, **on(NOON - 2 * MINUTE)),
        trade(
            run,
            6,
            **on(NOON - MINUTE),
            exit_time=NOON + HOUR,
            exit_price="0.5",
            exit_candle_end_ts=NOON + HOUR,
            exit_candle_minutes=1,
        ),
    ]
    backtest.insert_trades(markets, rows)
    assert [(row.trade_id.int, row.leg, row.problem) for row in backtest.leakage(markets, run_id=run.run_id)] == [
        (2, "entry", "the quote was not known yet: quote_lag"),
        (3, "entry", "the quote was too old: max_age"),
        (4, "entry", "the candlestick has another length than the policy's"),
        (5, "entry", "the candlestick was fetched before its period ended"),
        (6, "exit", "the quote was not known yet: quote_lag"),
    ]


def test_what_reached_us_too_late_is_found(markets: psycopg.Connection) -> None:
    from kalshidb.queries import research

    policy = {
        "asof_policy_id": "live_1m", "name": "Live", "description": "What the collector had.", "period_interval_minutes": 1,
        "quote_lag": timedelta(0), "max_age": HOUR, "retrieved_within": 5 * MINUTE, "forecast_lag": timedelta(0), "rules": {},
    }  # fmt: skip
    for _ in range(2):
        made = research.insert_asof_policy(markets, **policy)  # type: ignore[arg-type]
        assert made is not None
    assert research.insert_asof_policy(markets, **policy | {"quote_lag": MINUTE}) is None  # type: ignore[arg-type]
    run = begin(markets, asof_policy_id="live_1m")
    market_data.upsert_candlesticks(markets, [candle(T80, NOON, minutes=1, retrieved_at=NOON + HOUR)])
    backtest.insert_trades(markets, [trade(run, entry_candle_minutes=1)])
    (found,) = backtest.leakage(markets, run_id=run.run_id)
    assert found.problem == "the quote reached us too late: retrieved_within"


def test_trades_of_a_market_over_all_runs(markets: psycopg.Connection) -> None:
    runs = [begin(markets), begin(markets)]
    backtest.insert_trades(markets, [trade(run, n + 1) for n, run in enumerate(runs)])
    found = backtest.trades_of_market(markets, market_ticker=T80, start_ts=NOON, end_ts=NOON + TICK)
    assert {row.run_id for row in found} == {run.run_id for run in runs}
    assert backtest.trades_of_market(markets, market_ticker=T80, start_ts=NOON - HOUR, end_ts=NOON) == []
    (one,) = backtest.trades_of_run_and_event(markets, run_id=runs[0].run_id, event_ticker="KXHIGHNY-26JUL19")
    assert one.run_id == runs[0].run_id
