-- What each day came to.

-- name: upsert_performance_daily()^
-- Writes days as they were computed elsewhere; a day that is stored is changed where it differs. Of a day that occurs twice the last wins.
-- @bulk staged_performance like trading.performance_daily without created_at, updated_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (environment, platform_id, date) *
    FROM staged_performance
    ORDER BY environment, platform_id, date, staged_position DESC
),
written AS (
    INSERT INTO trading.performance_daily AS stored (
        environment, platform_id, date, total_pnl, num_trades, win_rate, portfolio_value, daily_return, max_drawdown, created_at,
        updated_at
    )
    SELECT
        environment, platform_id, date, total_pnl, num_trades, win_rate, portfolio_value, daily_return, max_drawdown,
        statement_timestamp(), statement_timestamp()
    FROM newest
    ORDER BY environment, platform_id, date
    ON CONFLICT (environment, platform_id, date) DO UPDATE SET
        total_pnl = EXCLUDED.total_pnl,
        num_trades = EXCLUDED.num_trades,
        win_rate = EXCLUDED.win_rate,
        portfolio_value = EXCLUDED.portfolio_value,
        daily_return = EXCLUDED.daily_return,
        max_drawdown = EXCLUDED.max_drawdown,
        updated_at = EXCLUDED.updated_at
    WHERE (
        stored.total_pnl, stored.num_trades, stored.win_rate, stored.portfolio_value, stored.daily_return, stored.max_drawdown
    ) IS DISTINCT FROM (
        EXCLUDED.total_pnl, EXCLUDED.num_trades, EXCLUDED.win_rate, EXCLUDED.portfolio_value, EXCLUDED.daily_return,
        EXCLUDED.max_drawdown
    )
    RETURNING created_at = statement_timestamp() AS is_inserted
)
SELECT
    count(*) FILTER (WHERE is_inserted) AS inserted,
    count(*) FILTER (WHERE NOT is_inserted) AS updated
FROM written;

-- name: refresh_performance_day(environment, platform_id, date)^
-- Computes a day of a venue from its positions, balance and ledger, stores it and returns it. Days are UTC; refresh them in order.
--
-- total_pnl, num_trades and win_rate are of the positions that ended that day, before fees. portfolio_value is the balance in dollars at
-- the end of the day and the contracts held then, at the price last seen by the monitor, else at their entry. daily_return leaves
-- deposits and withdrawals since the stored day before out; null without one. max_drawdown is the deepest fall below the highest stored
-- portfolio_value before it; a withdrawal looks like one. A day at whose end no balance is known, or of which a profit is unknown, is
-- refused: NotNullViolation of portfolio_value or total_pnl; record the balance first.
-- @one
WITH day AS (
    SELECT
        :date::date AS date,
        :date::date::timestamp AT TIME ZONE 'UTC' AS begins,
        (:date::date + 1)::timestamp AT TIME ZONE 'UTC' AS ends
),
ended AS (
    SELECT
        CASE WHEN bool_and(version.realized_pnl IS NOT NULL) IS NOT FALSE THEN COALESCE(sum(version.realized_pnl), 0) END AS total_pnl,
        count(*) AS num_trades,
        count(*) FILTER (WHERE version.realized_pnl > 0)::numeric / NULLIF(count(*), 0) AS win_rate
    FROM day
    JOIN trading.position_versions AS version
        ON version.environment = :environment
        AND version.exit_time >= day.begins
        AND version.exit_time < day.ends
        AND version.valid_to IS NULL
        AND version.status <> 'open'
    JOIN trading.positions
        ON positions.environment = version.environment
        AND positions.position_id = version.position_id
        AND positions.platform_id = :platform_id
),
cash AS (
    SELECT balance
    FROM day
    JOIN trading.account_balances
        ON account_balances.environment = :environment
        AND account_balances.platform_id = :platform_id
        AND account_balances.currency = 'USD'
        AND account_balances.valid_from < day.ends
    ORDER BY account_balances.valid_from DESC
    LIMIT 1
),
current_versions AS (
    -- What is open now, or ended later: every other position had ended by then.
    SELECT version.environment, version.position_id
    FROM trading.position_versions AS version
    WHERE version.environment = :environment AND version.valid_to IS NULL AND version.status = 'open'
    UNION ALL
    SELECT version.environment, version.position_id
    FROM day
    JOIN trading.position_versions AS version
        ON version.environment = :environment
        AND version.exit_time >= day.ends
        AND version.valid_to IS NULL
        AND version.status <> 'open'
),
held AS (
    SELECT
        COALESCE(sum((then_version.quantity - COALESCE(sold.quantity, 0)) * COALESCE(then_version.current_price, positions.entry_price)), 0)
            AS worth
    FROM day
    CROSS JOIN current_versions
    JOIN trading.positions
        ON positions.environment = current_versions.environment
        AND positions.position_id = current_versions.position_id
        AND positions.platform_id = :platform_id
        AND positions.entry_time < day.ends
    CROSS JOIN LATERAL (
        SELECT version.quantity, version.current_price
        FROM trading.position_versions AS version
        WHERE version.environment = current_versions.environment
            AND version.position_id = current_versions.position_id
            AND version.valid_from < day.ends
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS then_version
    LEFT JOIN LATERAL (
        SELECT sum(position_exits.quantity_exited) AS quantity
        FROM trading.position_exits
        WHERE position_exits.environment = current_versions.environment
            AND position_exits.position_id = current_versions.position_id
            AND position_exits.exited_at < day.ends
    ) AS sold ON true
),
worth AS (
    SELECT round((SELECT balance FROM cash) + (SELECT worth FROM held), 6) AS portfolio_value
),
before AS (
    SELECT
        max(stored.date) AS date,
        (array_agg(stored.portfolio_value ORDER BY stored.date DESC))[1] AS portfolio_value,
        max(stored.portfolio_value) AS peak,
        max(stored.max_drawdown) AS max_drawdown
    FROM trading.performance_daily AS stored
    WHERE stored.environment = :environment AND stored.platform_id = :platform_id AND stored.date < :date
),
transferred AS (
    SELECT COALESCE(sum(cash_ledger.amount), 0) AS amount
    FROM day
    CROSS JOIN before
    JOIN trading.cash_ledger
        ON cash_ledger.environment = :environment
        AND cash_ledger.platform_id = :platform_id
        AND cash_ledger.currency = 'USD'
        AND cash_ledger.occurred_at >= (before.date + 1)::timestamp AT TIME ZONE 'UTC'
        AND cash_ledger.occurred_at < day.ends
    WHERE cash_ledger.reason IN ('deposit', 'withdrawal')
)
INSERT INTO trading.performance_daily AS stored (
    environment, platform_id, date, total_pnl, num_trades, win_rate, portfolio_value, daily_return, max_drawdown, created_at, updated_at
)
SELECT
    :environment, :platform_id, :date, ended.total_pnl, ended.num_trades, ended.win_rate, worth.portfolio_value,
    (worth.portfolio_value - transferred.amount) / NULLIF(before.portfolio_value, 0) - 1,
    greatest(COALESCE(before.max_drawdown, 0), 1 - worth.portfolio_value / NULLIF(greatest(before.peak, worth.portfolio_value), 0)),
    statement_timestamp(), statement_timestamp()
FROM ended, worth, before, transferred
ON CONFLICT (environment, platform_id, date) DO UPDATE SET
    total_pnl = EXCLUDED.total_pnl,
    num_trades = EXCLUDED.num_trades,
    win_rate = EXCLUDED.win_rate,
    portfolio_value = EXCLUDED.portfolio_value,
    daily_return = EXCLUDED.daily_return,
    max_drawdown = EXCLUDED.max_drawdown,
    updated_at = CASE
        WHEN (
            stored.total_pnl, stored.num_trades, stored.win_rate, stored.portfolio_value, stored.daily_return, stored.max_drawdown
        ) IS DISTINCT FROM (
            EXCLUDED.total_pnl, EXCLUDED.num_trades, EXCLUDED.win_rate, EXCLUDED.portfolio_value, EXCLUDED.daily_return,
            EXCLUDED.max_drawdown
        ) THEN EXCLUDED.updated_at
        ELSE stored.updated_at
    END
RETURNING *;

-- name: performance_between(environment, platform_id, date_from, date_to)
-- The days of one venue in [date_from, date_to), oldest first.
SELECT *
FROM trading.performance_daily
WHERE environment = :environment
    AND platform_id = :platform_id
    AND date >= :date_from
    AND date < :date_to
ORDER BY date;
