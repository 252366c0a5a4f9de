-- Trades of a backtest: stored with the quote that they were made on, settled, and audited.

-- name: insert_trades()^
-- Writes trades of runs that are running.
--
-- The trade_id is the caller's, so that a retry changes nothing: of two trades with one id the first stored stays. Give what the decision
-- rests on: the candlestick (entry_candle_end_ts, entry_candle_minutes) or the snapshot (entry_snapshot_time, entry_snapshot_source); one
-- from after the decision is refused (trades_entry_look_ahead_check), and so is a trade of a run that has ended (trades_run_is_open).
-- @bulk staged_backtest_trades like backtest.trades without created_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (trade_id) *
    FROM staged_backtest_trades
    ORDER BY trade_id, staged_position DESC
),
written AS (
    INSERT INTO backtest.trades (
        trade_id, run_id, station_id, series_ticker, event_ticker, market_ticker, decision_ts, side, qty, entry_price, entry_fee,
        entry_time, entry_candle_end_ts, entry_candle_minutes, entry_snapshot_time, entry_snapshot_source, exit_time, exit_price,
        exit_fee, exit_candle_end_ts, exit_candle_minutes, exit_snapshot_time, exit_snapshot_source, model_prob_yes,
        model_ev_per_contract, settled_result, pnl, signal_metadata, notes
    )
    SELECT
        trade_id, run_id, station_id, series_ticker, event_ticker, market_ticker, decision_ts, side, qty, entry_price, entry_fee,
        entry_time, entry_candle_end_ts, entry_candle_minutes, entry_snapshot_time, entry_snapshot_source, exit_time, exit_price,
        exit_fee, exit_candle_end_ts, exit_candle_minutes, exit_snapshot_time, exit_snapshot_source, model_prob_yes,
        model_ev_per_contract, settled_result, pnl, signal_metadata, notes
    FROM newest
    ORDER BY trade_id
    ON CONFLICT (trade_id) DO NOTHING
    RETURNING trade_id
)
SELECT count(*) AS written FROM written;

-- name: settle_trades(run_id)!
-- Writes into the trades of a run how their markets settled, and into those that were held to settlement what they made; returns how many
-- changed.
--
-- Profit is qty x (payout of the side that was bought - entry_price) - entry_fee, dollars; the last settlement counts, where a result was
-- amended. A settlement whose payout is not known (void) leaves pnl null. A trade that was sold keeps its profit. Twice changes nothing.
WITH settled AS (
    SELECT
        trades.trade_id,
        settlement.outcome,
        CASE
            WHEN trades.exit_time IS NOT NULL THEN trades.pnl
            ELSE
                (
                    trades.qty
                    * (CASE trades.side WHEN 'buy_yes' THEN settlement.yes_paid ELSE 1 - settlement.yes_paid END - trades.entry_price)
                    - trades.entry_fee
                )::numeric(18, 6)
        END AS pnl
    FROM backtest.trades
    CROSS JOIN LATERAL (
        SELECT outcome, COALESCE(yes_payout, 1 - no_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
        FROM catalog.settlements
        WHERE settlements.market_ticker = trades.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS settlement
    WHERE trades.run_id = :run_id
)
UPDATE backtest.trades
SET settled_result = settled.outcome, pnl = settled.pnl
FROM settled
WHERE trades.trade_id = settled.trade_id
    AND (trades.settled_result, trades.pnl) IS DISTINCT FROM (settled.outcome, settled.pnl);

-- name: trades_of_run(run_id)
-- The trades of a run in the order in which they were decided.
SELECT *
FROM backtest.trades
WHERE run_id = :run_id
ORDER BY decision_ts, market_ticker, trade_id;

-- name: trades_of_run_and_event(run_id, event_ticker)
-- The trades of a run in the markets of one event, in the order in which they were decided.
SELECT *
FROM backtest.trades
WHERE run_id = :run_id AND event_ticker = :event_ticker
ORDER BY decision_ts, market_ticker, trade_id;

-- name: pnl_of_run_by_event(run_id)
-- What a run made in each event, dollars after fees, the worst first; pnl is null while no trade of the event is sold or settled.
SELECT
    event_ticker,
    count(*) AS trades,
    sum(qty)::numeric(18, 2) AS contracts,
    sum(entry_fee + COALESCE(exit_fee, 0))::numeric(18, 6) AS fees,
    sum(pnl)::numeric(18, 6) AS pnl
FROM backtest.trades
WHERE run_id = :run_id
GROUP BY event_ticker
ORDER BY pnl, event_ticker;

-- name: trades_of_market(market_ticker, start_ts, end_ts)
-- The trades of all runs in one market decided in [start_ts, end_ts), in the order in which they were decided.
SELECT *
FROM backtest.trades
WHERE market_ticker = :market_ticker
    AND decision_ts >= :start_ts
    AND decision_ts < :end_ts
ORDER BY decision_ts, trade_id;

-- name: executions_of_run(run_id)
-- The trades of a run with the stored quotes that they were entered and left on, in the order in which they were decided.
--
-- Quotes are dollars for YES, of the candlestick's close or of the snapshot. The columns of a quote are null where the trade names none
-- (held to settlement) or where what it names is not stored any more (see trades_without_quote).
SELECT
    trades.trade_id,
    trades.market_ticker,
    trades.event_ticker,
    trades.decision_ts,
    trades.side,
    trades.qty,
    trades.entry_time,
    trades.entry_price,
    trades.entry_fee,
    trades.exit_time,
    trades.exit_price,
    trades.exit_fee,
    trades.model_prob_yes,
    trades.model_ev_per_contract,
    trades.settled_result,
    trades.pnl,
    trades.signal_metadata,
    COALESCE(trades.entry_candle_end_ts, trades.entry_snapshot_time) AS entry_quote_ts,
    trades.entry_candle_minutes,
    trades.entry_snapshot_source,
    COALESCE(entry_candle.yes_bid_close, entry_snapshot.yes_bid) AS entry_yes_bid,
    COALESCE(entry_candle.yes_ask_close, entry_snapshot.yes_ask) AS entry_yes_ask,
    COALESCE(entry_candle.price_close, entry_snapshot.last_price) AS entry_last_price,
    entry_snapshot.sequence AS entry_sequence,
    COALESCE(entry_candle.retrieved_at, entry_snapshot.retrieved_at) AS entry_retrieved_at,
    COALESCE(entry_candle.raw_json, entry_snapshot.raw_json) AS entry_raw_json,
    COALESCE(trades.exit_candle_end_ts, trades.exit_snapshot_time) AS exit_quote_ts,
    trades.exit_candle_minutes,
    trades.exit_snapshot_source,
    COALESCE(exit_candle.yes_bid_close, exit_snapshot.yes_bid) AS exit_yes_bid,
    COALESCE(exit_candle.yes_ask_close, exit_snapshot.yes_ask) AS exit_yes_ask,
    exit_snapshot.sequence AS exit_sequence,
    COALESCE(exit_candle.retrieved_at, exit_snapshot.retrieved_at) AS exit_retrieved_at,
    COALESCE(exit_candle.raw_json, exit_snapshot.raw_json) AS exit_raw_json
FROM backtest.trades
-- Each by its key alone: a join might read whole months.
LEFT JOIN LATERAL (
    SELECT *
    FROM market_data.candlesticks AS candles
    WHERE candles.market_ticker = trades.market_ticker
        AND candles.period_interval_minutes = trades.entry_candle_minutes
        AND candles.end_period_ts BETWEEN trades.entry_candle_end_ts AND trades.entry_candle_end_ts
    OFFSET 0
) AS entry_candle ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM market_data.price_snapshots AS snapshots
    WHERE snapshots.market_ticker = trades.market_ticker
        AND snapshots.source = trades.entry_snapshot_source
        AND snapshots.snapshot_time BETWEEN trades.entry_snapshot_time AND trades.entry_snapshot_time
    OFFSET 0
) AS entry_snapshot ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM market_data.candlesticks AS candles
    WHERE candles.market_ticker = trades.market_ticker
        AND candles.period_interval_minutes = trades.exit_candle_minutes
        AND candles.end_period_ts BETWEEN trades.exit_candle_end_ts AND trades.exit_candle_end_ts
    OFFSET 0
) AS exit_candle ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM market_data.price_snapshots AS snapshots
    WHERE snapshots.market_ticker = trades.market_ticker
        AND snapshots.source = trades.exit_snapshot_source
        AND snapshots.snapshot_time BETWEEN trades.exit_snapshot_time AND trades.exit_snapshot_time
    OFFSET 0
) AS exit_snapshot ON true
WHERE trades.run_id = :run_id
ORDER BY trades.decision_ts, trades.market_ticker, trades.trade_id;

-- name: trades_without_quote(run_id)
-- Audit: trades of a run that name a quote which is not stored, for their entry or their exit; missing says which.
--
-- Quotes may have been archived or purged since; a trade that was never made on a stored quote cannot be told from that.
SELECT
    trades.trade_id,
    trades.market_ticker,
    trades.decision_ts,
    named.missing,
    named.quote_ts
FROM backtest.trades
CROSS JOIN LATERAL (
    VALUES
        ('entry', trades.entry_candle_end_ts, trades.entry_candle_minutes, trades.entry_snapshot_time, trades.entry_snapshot_source),
        ('exit', trades.exit_candle_end_ts, trades.exit_candle_minutes, trades.exit_snapshot_time, trades.exit_snapshot_source)
) AS quotes (missing, candle_end_ts, candle_minutes, snapshot_time, snapshot_source)
CROSS JOIN LATERAL (
    SELECT quotes.missing, COALESCE(quotes.candle_end_ts, quotes.snapshot_time) AS quote_ts
) AS named
WHERE trades.run_id = :run_id
    AND named.quote_ts IS NOT NULL
    AND NOT EXISTS (
        SELECT
        FROM market_data.candlesticks AS candles
        WHERE candles.market_ticker = trades.market_ticker
            AND candles.period_interval_minutes = quotes.candle_minutes
            AND candles.end_period_ts BETWEEN quotes.candle_end_ts AND quotes.candle_end_ts
        OFFSET 0
    )
    AND NOT EXISTS (
        SELECT
        FROM market_data.price_snapshots AS snapshots
        WHERE snapshots.market_ticker = trades.market_ticker
            AND snapshots.source = quotes.snapshot_source
            AND snapshots.snapshot_time BETWEEN quotes.snapshot_time AND quotes.snapshot_time
        OFFSET 0
    )
ORDER BY trades.decision_ts, trades.trade_id, named.missing;

-- name: leakage(run_id)
-- Audit: what the trades of a run rest on although their as-of policy does not let it be known. Must return no row.
--
-- One row for each rule that an entry or an exit breaks, with the quote's time and the moment it was used. A rule about the stored quote
-- itself (reached us when) cannot speak where the quote is not stored; trades_without_quote lists these.
SELECT
    trades.trade_id,
    trades.market_ticker,
    quotes.leg,
    quotes.quote_ts,
    quotes.used_at,
    rules.problem
FROM backtest.runs
CROSS JOIN LATERAL research.asof_policy(runs.asof_policy_id) AS policy
JOIN backtest.trades ON trades.run_id = runs.run_id
CROSS JOIN LATERAL (
    VALUES
        (
            'entry', COALESCE(trades.entry_candle_end_ts, trades.entry_snapshot_time), trades.decision_ts,
            trades.entry_candle_end_ts, trades.entry_candle_minutes, trades.entry_snapshot_time, trades.entry_snapshot_source
        ),
        (
            'exit', COALESCE(trades.exit_candle_end_ts, trades.exit_snapshot_time), trades.exit_time,
            trades.exit_candle_end_ts, trades.exit_candle_minutes, trades.exit_snapshot_time, trades.exit_snapshot_source
        )
) AS quotes (leg, quote_ts, used_at, candle_end_ts, candle_minutes, snapshot_time, snapshot_source)
LEFT JOIN LATERAL (
    SELECT candles.retrieved_at
    FROM market_data.candlesticks AS candles
    WHERE candles.market_ticker = trades.market_ticker
        AND candles.period_interval_minutes = quotes.candle_minutes
        AND candles.end_period_ts BETWEEN quotes.candle_end_ts AND quotes.candle_end_ts
    OFFSET 0
) AS candle ON true
LEFT JOIN LATERAL (
    SELECT
        snapshots.retrieved_at,
        (
            SELECT max(again.seen_at)
            FROM unnest(snapshots.seen_again) AS again (seen_at)
            WHERE again.seen_at <= quotes.used_at - policy.quote_lag
        ) AS seen_again_at
    FROM market_data.price_snapshots AS snapshots
    WHERE snapshots.market_ticker = trades.market_ticker
        AND snapshots.source = quotes.snapshot_source
        AND snapshots.snapshot_time BETWEEN quotes.snapshot_time AND quotes.snapshot_time
    OFFSET 0
) AS snapshot ON true
CROSS JOIN LATERAL (
    VALUES
        ('the quote is from after the moment it was used', quotes.quote_ts > quotes.used_at),
        ('the quote was not known yet: quote_lag', quotes.quote_ts > quotes.used_at - policy.quote_lag),
        ('the quote was too old: max_age', GREATEST(quotes.quote_ts, snapshot.seen_again_at) < quotes.used_at - policy.max_age),
        ('the candlestick has another length than the policy''s', quotes.candle_minutes <> policy.period_interval_minutes),
        ('the candlestick was fetched before its period ended', candle.retrieved_at < quotes.candle_end_ts),
        (
            'the quote reached us too late: retrieved_within',
            -- A later sight reached us when it was made.
            COALESCE(candle.retrieved_at, snapshot.retrieved_at) > quotes.quote_ts + policy.retrieved_within
            AND snapshot.seen_again_at IS NULL
        )
) AS rules (problem, is_broken)
WHERE runs.run_id = :run_id
    AND rules.is_broken
ORDER BY trades.decision_ts, trades.trade_id, quotes.leg, rules.problem;

-- name: trades_that_do_not_add_up(run_id)
-- Audit: trades of a run whose stored profit is not what their prices, fees and settlement make, dollars; null means unknown.
--
-- Held to settlement: qty x (payout - entry_price) - entry_fee; sold: qty x (exit_price - entry_price) - entry_fee - exit_fee.
SELECT
    trades.trade_id,
    trades.market_ticker,
    trades.pnl,
    made.pnl AS computed_pnl
FROM backtest.trades
LEFT JOIN LATERAL (
    SELECT CASE trades.side WHEN 'buy_yes' THEN paid.yes_paid ELSE 1 - paid.yes_paid END AS payout
    FROM catalog.settlements
    CROSS JOIN LATERAL (
        SELECT COALESCE(yes_payout, 1 - no_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
    ) AS paid
    WHERE settlements.market_ticker = trades.market_ticker
    ORDER BY settled_at DESC
    LIMIT 1
) AS settlement ON true
CROSS JOIN LATERAL (
    SELECT
        (
            trades.qty * (COALESCE(trades.exit_price, settlement.payout) - trades.entry_price)
            - trades.entry_fee - COALESCE(trades.exit_fee, 0)
        )::numeric(18, 6) AS pnl
) AS made
WHERE trades.run_id = :run_id
    AND trades.pnl IS DISTINCT FROM made.pnl
ORDER BY trades.decision_ts, trades.trade_id;
