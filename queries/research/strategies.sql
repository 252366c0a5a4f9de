-- Versions of strategies: registered once, never changed, retired by their status.

-- name: register_strategy(strategy_name, strategy_version, strategy_type, sport, config, status, description, created_by, notes)^
-- Registers a version of a strategy, and returns it with its strategy_id. The same version again returns what is stored.
--
-- Type, sport and config are compared: others under the same name and version are refused (constraint strategies_immutable_config), and
-- the error says to make a new version. Status, description and notes of a version that is stored stay as they are. Decimals in config
-- as text or Decimal; a float would be rounded.
-- @one
-- @param sport nullable: a strategy may be for any sport
-- @param description nullable: not everybody describes it
-- @param created_by nullable: not everybody signs
-- @param notes nullable: there may be nothing to remark
INSERT INTO research.strategies AS stored (
    strategy_name, strategy_version, strategy_type, sport, config, status, description, created_by, notes
)
VALUES (
    :strategy_name, :strategy_version, :strategy_type, :sport, :config, :status, :description, :created_by, :notes
)
-- Sets what is stored already, or is refused by the trigger; and so returns the row also where another session has just written it.
ON CONFLICT (strategy_name, strategy_version) DO UPDATE SET
    strategy_type = EXCLUDED.strategy_type,
    sport = EXCLUDED.sport,
    config = EXCLUDED.config
RETURNING *;

-- name: strategy_by_version(strategy_name, strategy_version)^
-- One version of a strategy, or None when it was never registered.
SELECT *
FROM research.strategies
WHERE strategy_name = :strategy_name AND strategy_version = :strategy_version;

-- name: strategy_by_id(strategy_id)^
-- The strategy version that a trade, edge or position points to.
SELECT *
FROM research.strategies
WHERE strategy_id = :strategy_id;

-- name: strategy_versions(strategy_name)
-- Every version of a strategy, newest first as versions count: v1.10 before v1.9, 2.0.0 before 2.0.0-rc1.
SELECT *
FROM research.strategies
WHERE strategy_name = :strategy_name
ORDER BY research.version_order(strategy_version) COLLATE "C" DESC, strategy_version DESC;

-- name: active_strategies()
-- The strategy versions that are in use, by name, of one name the newest first.
SELECT *
FROM research.active_strategies
ORDER BY strategy_name, research.version_order(strategy_version) COLLATE "C" DESC, strategy_version DESC;

-- name: set_strategy_status(strategy_id, status)^
-- Moves a version through its life (draft, testing, active, inactive, deprecated); returns it, or None when there is no such version.
--
-- Back to draft and away from deprecated are refused (constraint strategies_lifecycle). updated_at moves only when the status does.
UPDATE research.strategies
SET
    status = :status,
    updated_at = CASE WHEN status = :status THEN updated_at ELSE statement_timestamp() END
WHERE strategy_id = :strategy_id
RETURNING *;

-- name: set_strategy_metrics(strategy_id, paper_roi, live_roi, paper_trades_count, live_trades_count)^
-- Sets the metrics that are given, None leaves one as it is; returns the version, or None when there is no such version.
--
-- Returns on investment are fractions (0.15 = 15 %). updated_at moves only when a metric does. See also refresh_strategy_metrics.
-- @param paper_roi nullable: None leaves it
-- @param live_roi nullable: None leaves it
-- @param paper_trades_count nullable: None leaves it
-- @param live_trades_count nullable: None leaves it
UPDATE research.strategies
SET
    paper_roi = COALESCE(:paper_roi, paper_roi),
    live_roi = COALESCE(:live_roi, live_roi),
    paper_trades_count = COALESCE(:paper_trades_count, paper_trades_count),
    live_trades_count = COALESCE(:live_trades_count, live_trades_count),
    updated_at = CASE
        WHEN (paper_roi, live_roi, paper_trades_count, live_trades_count) IS NOT DISTINCT FROM (
            COALESCE(:paper_roi, paper_roi), COALESCE(:live_roi, live_roi),
            COALESCE(:paper_trades_count, paper_trades_count), COALESCE(:live_trades_count, live_trades_count)
        ) THEN updated_at
        ELSE statement_timestamp()
    END
WHERE strategy_id = :strategy_id
RETURNING *;

-- name: refresh_strategy_metrics(strategy_id)^
-- Sets the metrics of a version from what it traded; returns it, or None when there is no such version.
--
-- Return on investment: profit after fees of its positions that are closed or settled, by what their contracts cost; null while none
-- is, or while a profit or fee of one is unknown. Trades are its fills. Demo money counts for neither. updated_at moves only when a
-- metric does.
WITH results AS (
    SELECT
        positions.environment,
        CASE
            WHEN bool_and(version.realized_pnl IS NOT NULL AND version.fees IS NOT NULL)
                THEN round(sum(version.realized_pnl - version.fees) / NULLIF(sum(version.quantity * positions.entry_price), 0), 6)
        END AS roi
    FROM trading.positions
    JOIN trading.position_versions AS version
        ON version.environment = positions.environment
        AND version.position_id = positions.position_id
        AND version.valid_to IS NULL
        AND version.status <> 'open'
    WHERE positions.strategy_id = :strategy_id
    GROUP BY positions.environment
),
fills AS (
    SELECT environment, count(*) AS trades
    FROM trading.trades
    WHERE strategy_id = :strategy_id
    GROUP BY environment
),
metrics AS (
    SELECT
        (SELECT roi FROM results WHERE environment = 'paper') AS paper_roi,
        (SELECT roi FROM results WHERE environment = 'live') AS live_roi,
        COALESCE((SELECT trades FROM fills WHERE environment = 'paper'), 0) AS paper_trades_count,
        COALESCE((SELECT trades FROM fills WHERE environment = 'live'), 0) AS live_trades_count
)
UPDATE research.strategies
SET
    paper_roi = metrics.paper_roi,
    live_roi = metrics.live_roi,
    paper_trades_count = metrics.paper_trades_count,
    live_trades_count = metrics.live_trades_count,
    updated_at = CASE
        WHEN (strategies.paper_roi, strategies.live_roi, strategies.paper_trades_count, strategies.live_trades_count)
            IS NOT DISTINCT FROM (metrics.paper_roi, metrics.live_roi, metrics.paper_trades_count, metrics.live_trades_count)
            THEN updated_at
        ELSE statement_timestamp()
    END
FROM metrics
WHERE strategy_id = :strategy_id
RETURNING strategies.*;

-- name: compare_strategy_versions(strategy_name)
-- The versions of a strategy side by side, newest first, apart for each environment that one traded in: the A/B comparison.
--
-- trades, contracts, average_price (dollars, each fill weighs as its contracts) and fees are those of its fills; closed_positions, pnl
-- (before fees), position_fees, pnl_after_fees and win_rate those of its positions that are closed or settled; a position wins when it
-- made money after fees. return_on_cost is pnl_after_fees by what those positions cost, a fraction. What cannot be known is null: a sum
-- with an unknown fee in it is not a sum. A version that never traded has one row without environment. paper_roi and live_roi are the
-- stored metrics.
WITH versions AS (
    SELECT *
    FROM research.strategies
    WHERE strategy_name = :strategy_name
),
fills AS (
    SELECT
        trades.strategy_id,
        trades.environment,
        count(*) AS trades,
        sum(trades.quantity) AS contracts,
        sum(trades.quantity * trades.price) / sum(trades.quantity) AS average_price,
        CASE WHEN bool_and(trades.fees IS NOT NULL) THEN sum(trades.fees) END AS fees
    FROM versions
    JOIN trading.trades ON trades.strategy_id = versions.strategy_id
    GROUP BY trades.strategy_id, trades.environment
),
results AS (
    SELECT
        positions.strategy_id,
        positions.environment,
        count(*) AS closed_positions,
        CASE WHEN bool_and(version.realized_pnl IS NOT NULL) THEN sum(version.realized_pnl) END AS pnl,
        CASE WHEN bool_and(version.fees IS NOT NULL) THEN sum(version.fees) END AS position_fees,
        CASE
            WHEN bool_and(version.realized_pnl IS NOT NULL AND version.fees IS NOT NULL)
                THEN sum(version.realized_pnl - version.fees)
        END AS pnl_after_fees,
        CASE
            WHEN bool_and(version.realized_pnl IS NOT NULL AND version.fees IS NOT NULL)
                THEN count(*) FILTER (WHERE version.realized_pnl > version.fees)::numeric / count(*)
        END AS win_rate,
        sum(version.quantity * positions.entry_price) AS cost
    FROM versions
    JOIN trading.positions ON positions.strategy_id = versions.strategy_id
    JOIN trading.position_versions AS version
        ON version.environment = positions.environment
        AND version.position_id = positions.position_id
        AND version.valid_to IS NULL
        AND version.status <> 'open'
    GROUP BY positions.strategy_id, positions.environment
),
traded AS (
    SELECT strategy_id, environment FROM fills
    UNION
    SELECT strategy_id, environment FROM results
)
SELECT
    versions.strategy_id,
    versions.strategy_name,
    versions.strategy_version,
    versions.status,
    versions.config,
    traded.environment,
    COALESCE(fills.trades, 0) AS trades,
    fills.contracts::numeric(24, 2) AS contracts,
    fills.average_price::numeric(7, 6) AS average_price,
    fills.fees::numeric(24, 6) AS fees,
    COALESCE(results.closed_positions, 0) AS closed_positions,
    results.pnl::numeric(24, 6) AS pnl,
    results.position_fees::numeric(24, 6) AS position_fees,
    results.pnl_after_fees::numeric(24, 6) AS pnl_after_fees,
    results.win_rate::numeric(7, 6) AS win_rate,
    (results.pnl_after_fees / NULLIF(results.cost, 0))::numeric(18, 6) AS return_on_cost,
    versions.paper_roi,
    versions.live_roi
FROM versions
LEFT JOIN traded ON traded.strategy_id = versions.strategy_id
LEFT JOIN fills ON fills.strategy_id = traded.strategy_id AND fills.environment = traded.environment
LEFT JOIN results ON results.strategy_id = traded.strategy_id AND results.environment = traded.environment
ORDER BY research.version_order(versions.strategy_version) COLLATE "C" DESC, versions.strategy_version DESC, traded.environment;
