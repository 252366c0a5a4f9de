"""Snapshots and backtest audit, whole (seed S1): quotes of three sources with a gap, a backtest tied to exact snapshots, API models."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from sample_rows import NOON, SECOND, TICK, market, quote

from kalshidb.api.backtests import BacktestRequest
from kalshidb.api.markets import KalshiMarket, MarketResponse
from kalshidb.models.backtest import TradeInput
from kalshidb.queries import backtest, catalog, market_data

T80 = "KXHIGHNY-26JUL19-T80"


def test_from_snapshots_to_audited_executions(pg: psycopg.Connection) -> None:
    pg.autocommit = True
    # A market as the API tells it, in the older and in today's spelling.
    payload: dict[str, Any] = {
        "ticker": T80, "title": "80 or above?", "category": "Climate", "volume": 10, "open_interest": 4, "status": "active",
        "close_time": "2026-07-20T12:00:00Z",
    }  # fmt: skip
    told = KalshiMarket.model_validate(payload | {"yes_bid": 40, "no_bid": 56})
    assert told == KalshiMarket.model_validate(payload | {"yes_bid_dollars": "0.4000", "no_bid_dollars": "0.5600"})
    catalog.upsert_markets(pg, [market(told.ticker, category=told.category, volume=told.volume)])

    # Polled every five seconds, streamed with sequence numbers of which 4 and 5 are lost, and imported history before.
    def seen(offset: int, source: str, bid: str, sequence: int | None = None) -> Any:  # noqa: ANN401
        price = Decimal(bid)
        return quote(
            T80, NOON + offset * SECOND, source=source, sequence=sequence, yes_bid=price, yes_ask=price + Decimal("0.04"),
            no_bid=1 - price - Decimal("0.04"), volume=Decimal(10), status="active", title="80 or above?",
            raw_json={"yes_bid_dollars": bid},
        )  # fmt: skip

    streamed = [seen(n, "websocket", f"0.4{n}", n) for n in (1, 2, 3, 6, 7)]
    rows = [seen(-3600, "backfill", "0.30"), seen(0, "poll", "0.40"), seen(5, "poll", "0.43"), *streamed]
    assert market_data.upsert_price_snapshots(pg, rows).written == 8
    assert market_data.upsert_price_snapshots(pg, rows).written == 0, "a market, a moment and a source are one snapshot"
    (gap,) = market_data.sequence_gaps(pg)
    assert (gap.counted_by, gap.first_missing, gap.last_missing) == (T80, 4, 5)
    latest = market_data.latest_snapshot(pg, market_ticker=T80)
    assert latest is not None
    assert (latest.sequence, latest.snapshot_time) == (7, NOON + 7 * SECOND)
    assert len(market_data.snapshots_between(pg, market_ticker=T80, start_time=NOON, end_time=NOON + 5 * SECOND)) == 4
    answer = MarketResponse.from_snapshot(latest)
    assert (answer.yes_price, answer.implied_probability) == (Decimal("0.47"), Decimal("0.49"))

    # A request becomes a run; it enters and leaves on quotes that were known, each by its snapshot's key.
    request = BacktestRequest(
        strategy="momentum", market_filter="weather", start_date=date(2026, 7, 19), end_date=date(2026, 7, 20)
    )
    run = backtest.begin_run(
        pg, run_id=None, strategy_version="abc1234", strategy_id=None, git_sha="abc1234", random_seed=1, config_yaml="threshold: 0.05\n",
        series_tickers=["KXHIGHNY"], asof_policy_id="candle_close_1m", trade_window_policy="always", **request.as_run(),
    )  # fmt: skip
    assert run.metadata == {"market_filter": "weather"}
    entry, left = market_data.snapshots_known_at(
        pg,
        market_tickers=[T80, T80],
        decision_times=[NOON + 2 * SECOND + TICK, NOON + 6 * SECOND],
        asof_policy_id=run.asof_policy_id,
    )
    assert entry.yes_ask is not None
    assert left.yes_bid is not None
    qty, fee = 10, Decimal("0.18")
    trade = TradeInput(
        trade_id=UUID(int=1), run_id=run.run_id, market_ticker=T80, decision_ts=entry.decision_time, side="buy_yes", qty=Decimal(qty),
        entry_price=entry.yes_ask, entry_fee=fee, entry_time=entry.decision_time, entry_snapshot_time=entry.snapshot_time,
        entry_snapshot_source=entry.source, exit_time=left.decision_time, exit_price=left.yes_bid, exit_fee=fee,
        exit_snapshot_time=left.snapshot_time, exit_snapshot_source=left.source, pnl=qty * (left.yes_bid - entry.yes_ask) - 2 * fee,
        signal_metadata={"reason": "price_spike", "threshold": 0.05},
    )  # fmt: skip
    assert backtest.insert_trades(pg, [trade]).written == 1
    found = backtest.run_metrics(pg, run_id=run.run_id)
    backtest.finish_run(
        pg, run_id=run.run_id, total_pnl=found.total_pnl, num_trades=found.num_trades, win_rate=found.win_rate,
        max_drawdown=found.max_drawdown, sharpe_ratio=None, metrics_json={}, artifact_path=None,
    )  # fmt: skip

    (stored,) = backtest.runs_of_strategy(pg, strategy_name="momentum", strategy_version="abc1234")
    assert (stored.run_id, stored.total_pnl, stored.max_drawdown, stored.win_rate) == (
        run.run_id, Decimal("-0.36"), Decimal("0.36"), Decimal(0)
    )  # fmt: skip
    (execution,) = backtest.executions_of_run(pg, run_id=run.run_id)
    assert (execution.entry_sequence, execution.entry_yes_ask, execution.entry_raw_json) == (
        2,
        Decimal("0.46"),
        {"yes_bid_dollars": "0.42"},
    )
    assert (execution.exit_sequence, execution.exit_yes_bid) == (6, Decimal("0.46"))
    assert execution.signal_metadata == {"reason": "price_spike", "threshold": 0.05}
    for audit in (backtest.leakage, backtest.trades_without_quote, backtest.trades_that_do_not_add_up):
        assert audit(pg, run_id=run.run_id) == []

    # The snapshot goes to an archive: the execution stays, and the audit says what it cannot show any more.
    pg.execute("DELETE FROM market_data.price_snapshots WHERE sequence = 2")
    (missing,) = backtest.trades_without_quote(pg, run_id=run.run_id)
    assert (missing.missing, missing.quote_ts) == ("entry", NOON + 2 * SECOND)
