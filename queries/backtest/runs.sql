-- Runs of a backtest: begun, finished or failed; what went in and what came out.

-- name: begin_run(run_id, strategy_name, strategy_version, strategy_id, git_sha, random_seed, config_yaml, date_start_local, date_end_local, series_tickers, asof_policy_id, trade_window_policy, metadata)^
-- Begins a run, or begins it again, and returns it; without a run_id it gets one.
--
-- A run_id of the caller's own makes a retry safe: a run that is running or has failed with the same inputs goes on as running, and its
-- trades stay; one that succeeded comes back as it ended, so look at status. A run_id that belongs to a run with other inputs is a
-- CardinalityError. Days are those of the series' station or venue, the last one inclusive.
-- @one
-- @param run_id nullable: null makes a new one
-- @param strategy_id nullable: a strategy need not be registered
-- @param git_sha nullable: the code need not be in a repository
INSERT INTO backtest.runs AS stored (
    run_id, strategy_name, strategy_version, strategy_id, git_sha, random_seed, config_yaml, date_start_local, date_end_local,
    series_tickers, asof_policy_id, trade_window_policy, metadata
)
VALUES (
    COALESCE(:run_id, gen_random_uuid()), :strategy_name, :strategy_version, :strategy_id, :git_sha, :random_seed, :config_yaml,
    :date_start_local, :date_end_local, :series_tickers, :asof_policy_id, :trade_window_policy, :metadata
)
ON CONFLICT (run_id) DO UPDATE SET
    status = CASE WHEN stored.status = 'success' THEN 'success' ELSE 'running' END,
    finished_at = CASE WHEN stored.status = 'success' THEN stored.finished_at END,
    error = NULL
WHERE (
    stored.strategy_name, stored.strategy_version, stored.strategy_id, stored.git_sha, stored.random_seed, stored.config_yaml,
    stored.date_start_local, stored.date_end_local, stored.series_tickers, stored.asof_policy_id, stored.trade_window_policy,
    stored.metadata
) IS NOT DISTINCT FROM (
    EXCLUDED.strategy_name, EXCLUDED.strategy_version, EXCLUDED.strategy_id, EXCLUDED.git_sha, EXCLUDED.random_seed,
    EXCLUDED.config_yaml, EXCLUDED.date_start_local, EXCLUDED.date_end_local, EXCLUDED.series_tickers, EXCLUDED.asof_policy_id,
    EXCLUDED.trade_window_policy, EXCLUDED.metadata
)
RETURNING *;

-- name: run_metrics(run_id)^
-- The metrics of a run, computed from its stored trades; nothing is written. Give them to finish_run.
--
-- Money in dollars after fees. open_trades are neither sold nor settled and count in num_trades only. max_drawdown is the deepest fall of
-- the summed profit below its highest point so far (or below nothing made), trades in the order in which they were sold or settled.
-- win_rate is the share that made money. sharpe_ratio is the mean over the standard deviation of the profits of single trades, not
-- annualised; null for fewer than two, or when all are equal. A run that does not exist has no trades.
-- @one
WITH closed AS (
    SELECT
        trades.trade_id,
        trades.qty,
        trades.pnl,
        trades.entry_fee + COALESCE(trades.exit_fee, 0) AS fees,
        sum(trades.pnl) OVER (
            ORDER BY COALESCE(trades.exit_time, settlement.settled_at, trades.decision_ts), trades.trade_id
        ) AS summed,
        COALESCE(trades.exit_time, settlement.settled_at, trades.decision_ts) AS closed_at
    FROM backtest.trades
    LEFT JOIN LATERAL (
        SELECT settled_at
        FROM catalog.settlements
        WHERE settlements.market_ticker = trades.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS settlement ON true
    WHERE trades.run_id = :run_id
),
falling AS (
    SELECT *, greatest(max(summed) OVER (ORDER BY closed_at, trade_id), 0) - summed AS fall
    FROM closed
)
SELECT
    count(*) AS num_trades,
    count(*) FILTER (WHERE pnl IS NULL) AS open_trades,
    COALESCE(sum(pnl), 0)::numeric(18, 6) AS total_pnl,
    COALESCE(sum(fees), 0)::numeric(18, 6) AS fees,
    COALESCE(greatest(max(fall), 0), 0)::numeric(18, 6) AS max_drawdown,
    (count(*) FILTER (WHERE pnl > 0) / nullif(count(pnl), 0)::numeric)::numeric(7, 6) AS win_rate,
    (avg(pnl) / nullif(stddev_samp(pnl), 0))::numeric(12, 6) AS sharpe_ratio
FROM falling;

-- name: finish_run(run_id, total_pnl, num_trades, win_rate, max_drawdown, sharpe_ratio, metrics_json, artifact_path)!
-- Ends a run well. It computes nothing: the metrics are what the caller gives, as run_metrics says or by a definition of their own, which
-- metrics_json describes.
--
-- total_pnl and num_trades must be those of the stored trades, or the database refuses (runs_totals). Returns 0 when no such run is
-- running; a run that has ended stays as it ended.
-- @param win_rate nullable: a run without trades has none
-- @param max_drawdown nullable: need not be known
-- @param sharpe_ratio nullable: too few trades have none
-- @param artifact_path nullable: a run need not leave files
UPDATE backtest.runs
SET
    status = 'success',
    total_pnl = :total_pnl,
    num_trades = :num_trades,
    win_rate = :win_rate,
    max_drawdown = :max_drawdown,
    sharpe_ratio = :sharpe_ratio,
    metrics_json = :metrics_json,
    artifact_path = :artifact_path,
    finished_at = clock_timestamp()
WHERE run_id = :run_id AND status = 'running';

-- name: fail_run(run_id, error)!
-- Ends a run that went wrong, with the reason; its trades stay for a look at them. Returns 0 when no such run is running.
UPDATE backtest.runs
SET status = 'failed', error = :error, finished_at = clock_timestamp()
WHERE run_id = :run_id AND status = 'running';

-- name: reopen_run(run_id)!
-- Opens a run that has ended, to add, correct or settle trades; its metrics stay until it is finished again. Returns 0 when it is not
-- there or running already.
UPDATE backtest.runs
SET status = 'running', finished_at = NULL, error = NULL
WHERE run_id = :run_id AND status <> 'running';

-- name: runs_without_end(begun_before)
-- Runs that were begun before a moment and have neither finished nor failed, the oldest first: their processes have perhaps died.
--
-- What is not running any more for certain is ended by fail_run, or gone on with by begin_run with its run_id.
SELECT *
FROM backtest.runs
WHERE status = 'running' AND created_at < :begun_before
ORDER BY created_at, run_id;

-- name: fail_runs_without_end(begun_before)!
-- Ends runs that were begun before a moment and have neither finished nor failed as failed; returns how many there were.
UPDATE backtest.runs
SET status = 'failed', error = 'abandoned: begun and never ended', finished_at = clock_timestamp()
WHERE status = 'running' AND created_at < :begun_before;

-- name: run_by_id(run_id)^
-- One run, or None.
SELECT *
FROM backtest.runs
WHERE run_id = :run_id;

-- name: recent_runs(how_many)
-- The last runs that were begun, newest first.
SELECT *
FROM backtest.runs
ORDER BY created_at DESC, run_id
LIMIT :how_many;

-- name: runs_of_strategy(strategy_name, strategy_version)
-- The runs of a strategy, of one version or of all, newest first.
-- @param strategy_version nullable: null asks for every version
SELECT *
FROM backtest.runs
WHERE strategy_name = :strategy_name
    AND (:strategy_version::text IS NULL OR strategy_version = :strategy_version::text)
ORDER BY created_at DESC, run_id;

-- name: run_summary(run_id)^
-- A run with its policy and what its stored trades say, or None.
--
-- contracts and fees (dollars) are of all its trades. pnl_difference is total_pnl less the sum of the trades' profits: 0 for every run
-- that succeeded, null while it has no total.
SELECT
    runs.run_id,
    runs.strategy_name,
    runs.strategy_version,
    runs.status,
    runs.date_start_local,
    runs.date_end_local,
    runs.series_tickers,
    runs.asof_policy_id,
    asof_policies.description AS asof_policy,
    runs.trade_window_policy,
    runs.git_sha,
    runs.random_seed,
    runs.total_pnl,
    runs.num_trades,
    runs.win_rate,
    runs.max_drawdown,
    runs.sharpe_ratio,
    traded.trades,
    traded.markets,
    traded.open_trades,
    traded.contracts,
    traded.fees,
    (runs.total_pnl - traded.pnl)::numeric(18, 6) AS pnl_difference,
    runs.created_at,
    runs.finished_at,
    runs.error
FROM backtest.runs
JOIN research.asof_policies ON asof_policies.asof_policy_id = runs.asof_policy_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS trades,
        count(DISTINCT trades.market_ticker) AS markets,
        count(*) FILTER (WHERE trades.pnl IS NULL) AS open_trades,
        COALESCE(sum(trades.qty), 0)::numeric(18, 2) AS contracts,
        COALESCE(sum(trades.entry_fee + COALESCE(trades.exit_fee, 0)), 0)::numeric(18, 6) AS fees,
        COALESCE(sum(trades.pnl), 0) AS pnl
    FROM backtest.trades
    WHERE trades.run_id = runs.run_id
) AS traded
WHERE runs.run_id = :run_id;

-- name: compare_versions(strategy_name)
-- The versions of a strategy side by side, over their runs that succeeded: how many, days from first to last, profit in dollars and a
-- trade, share of trades that made money.
--
-- pnl_per_trade and win_rate are null where no trade was made. Runs over the same days count each; compare what is alike.
-- @column total_pnl not null: a run that succeeded has one
-- @column num_trades not null: a run that succeeded has one
SELECT
    strategy_version,
    count(*) AS runs,
    min(date_start_local) AS first_day,
    max(date_end_local) AS last_day,
    sum(num_trades)::bigint AS num_trades,
    sum(total_pnl)::numeric(18, 6) AS total_pnl,
    (sum(total_pnl) / nullif(sum(num_trades), 0))::numeric(18, 6) AS pnl_per_trade,
    (sum(win_rate * num_trades) / nullif(sum(num_trades) FILTER (WHERE win_rate IS NOT NULL), 0))::numeric(7, 6) AS win_rate,
    max(max_drawdown)::numeric(18, 6) AS max_drawdown
FROM backtest.runs
WHERE strategy_name = :strategy_name AND status = 'success'
GROUP BY strategy_version
ORDER BY strategy_version;
