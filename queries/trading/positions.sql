-- What is held: opened, looked at, left in parts, settled. How its state was at any time is in position_versions.

-- name: open_position(environment, platform_id, market_ticker, side, entry_price, entry_time, quantity, fees, strategy_id, model_id, reason, trailing_stop_state)^
-- Opens a position with its first version, in one statement; returns the position. The same again returns what is stored.
--
-- Market, environment, venue, side and entry_time tell a retry from another position. Another entry price, strategy or model under the
-- same key is refused (constraint positions_immutable_config); quantity and the rest of the first version stay as they were recorded
-- first. entry_price is dollars for the side that is held, the average over the fills; fees are dollars, None while unknown.
-- @one
-- @param fees nullable: unknown until the venue says
-- @param strategy_id nullable: a position may be taken by hand
-- @param model_id nullable: there may be no model behind it
-- @param reason nullable: not everybody says why
-- @param trailing_stop_state nullable: there may be no trailing stop
-- @json trailing_stop_state kalshidb.documents:TrailingStop
WITH opened AS (
    INSERT INTO trading.positions AS stored (
        environment, platform_id, market_ticker, side, entry_price, entry_time, strategy_id, model_id, reason
    )
    VALUES (
        :environment, :platform_id, :market_ticker, :side, :entry_price, :entry_time, :strategy_id, :model_id, :reason
    )
    -- Sets what is stored already, or is refused by the trigger; and so returns the row also where another session has just written it.
    ON CONFLICT (market_ticker, environment, platform_id, side, entry_time) DO UPDATE SET
        entry_price = EXCLUDED.entry_price,
        strategy_id = EXCLUDED.strategy_id,
        model_id = EXCLUDED.model_id
    RETURNING *
),
began AS (
    INSERT INTO trading.position_versions (
        environment, position_id, valid_from, quantity, fees, status, trailing_stop_state
    )
    SELECT environment, position_id, entry_time, :quantity, :fees, 'open', :trailing_stop_state
    FROM opened
    -- The first version begins with the entry, whatever came after it.
    WHERE NOT EXISTS (
        SELECT FROM trading.position_versions AS known
        WHERE known.environment = opened.environment
            AND known.position_id = opened.position_id
            AND known.valid_from = opened.entry_time
    )
    ON CONFLICT (environment, position_id, valid_from) DO NOTHING
)
SELECT * FROM opened;

-- name: mark_position(environment, position_id, price, observed_at)^
-- The monitor looks at a position: unrealized profit and the trailing stop follow the price; says whether the stop is hit.
--
-- price is dollars for the side that is held. From activation_price on the stop is active; peak_price rises with the price, and
-- current_stop_price follows it at its distance and never falls. is_stop_hit: the stop is active and the price is at or below it.
-- outcome is `written` (a new version began), `unchanged` (only last_update moved), `late` (older than the last look: nothing moved), or
-- `closed` or `settled`. A position that does not exist in this environment is refused: NoDataFound.
-- @one
-- @json trailing_stop_state kalshidb.documents:TrailingStop
-- @column outcome not null: the function answers with a word, or fails
-- @column is_stop_hit not null: false where there is no stop
SELECT outcome, is_stop_hit, unrealized_pnl::market_data.money AS unrealized_pnl, trailing_stop_state
FROM trading.mark_position(:environment, :position_id, :price, :observed_at);

-- name: mark_positions(environment, position_ids, prices, observed_at)
-- Looks at many positions at once, in one transaction; see mark_position. prices go with position_ids, one each.
-- @pairs position_ids, prices
-- @json trailing_stop_state kalshidb.documents:TrailingStop
-- @column position_id not null: an element of the array that was asked
-- @column outcome not null: the function answers with a word, or fails
-- @column is_stop_hit not null: false where there is no stop
WITH looks AS MATERIALIZED (
    -- In order of number: whoever looks at the same positions at the same time takes turns and never waits in a circle.
    SELECT position_id, price
    FROM unnest(:position_ids::bigint[], :prices::market_data.price[]) AS pairs (position_id, price)
    ORDER BY position_id
)
SELECT
    looks.position_id,
    mark.outcome,
    mark.is_stop_hit,
    mark.unrealized_pnl::market_data.money AS unrealized_pnl,
    mark.trailing_stop_state
FROM looks
CROSS JOIN LATERAL trading.mark_position(:environment, looks.position_id, looks.price, :observed_at) AS mark;

-- name: settle_position(environment, position_id, settled_at, payout, fees)^
-- The venue pays for what is still held of a position: payout dollars a contract, for the side that is held.
--
-- outcome is `written`, or `unchanged` when it was settled so already; a position that was closed, or settled to another profit, is
-- refused (constraint position_versions_settle_once). realized_pnl is that of the whole position, before fees, dollars.
-- @one
-- @param fees nullable: none for the settlement
-- @column outcome not null: the function answers with a word, or fails
-- @column quantity_paid not null: the function answers with a number, or fails
-- @column realized_pnl not null: the function answers with a number, or fails
SELECT
    outcome,
    quantity_paid::market_data.contracts AS quantity_paid,
    realized_pnl::market_data.money AS realized_pnl
FROM trading.settle_position(:environment, :position_id, :settled_at, :payout, :fees);

-- name: settle_positions_of_market(environment, market_ticker)
-- Settles every open position of a market by its last declared outcome; returns what became of each.
--
-- A market without an outcome, or with one that pays an unknown amount (void), leaves its positions open: for these settle_position says
-- what was paid. Run again it finds nothing to do.
-- @column outcome not null: the function answers with a word, or fails
-- @column quantity_paid not null: the function answers with a number, or fails
-- @column realized_pnl not null: the function answers with a number, or fails
WITH held AS MATERIALIZED (
    SELECT
        positions.environment,
        positions.position_id,
        positions.side,
        settlement.settled_at,
        CASE positions.side WHEN 'yes' THEN settlement.yes_paid ELSE 1 - settlement.yes_paid END AS payout
    FROM trading.positions
    JOIN trading.position_versions AS version
        ON version.environment = positions.environment
        AND version.position_id = positions.position_id
        AND version.valid_to IS NULL
        AND version.status = 'open'
    CROSS JOIN LATERAL (
        SELECT settled_at, COALESCE(yes_payout, 1 - no_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
        FROM catalog.settlements
        WHERE settlements.market_ticker = positions.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS settlement
    WHERE positions.environment = :environment
        AND positions.market_ticker = :market_ticker
    ORDER BY positions.position_id
)
SELECT
    held.position_id,
    held.side,
    held.settled_at,
    held.payout,
    settled.outcome,
    settled.quantity_paid::market_data.contracts AS quantity_paid,
    settled.realized_pnl::market_data.money AS realized_pnl
FROM held
CROSS JOIN LATERAL trading.settle_position(held.environment, held.position_id, held.settled_at, held.payout, NULL) AS settled
WHERE held.payout IS NOT NULL;

-- name: position_by_id(environment, position_id)^
-- What was entered, or None when there is no such position in this environment.
SELECT *
FROM trading.positions
WHERE environment = :environment AND position_id = :position_id;

-- name: open_positions(environment)
-- What is held now, the newest entry first (seed S3).
SELECT *
FROM trading.open_positions
WHERE environment = :environment
ORDER BY entry_time DESC, position_id DESC;

-- name: open_positions_of_market(environment, market_ticker)
-- What is held of one market now, the newest entry first.
SELECT *
FROM trading.open_positions
WHERE environment = :environment AND market_ticker = :market_ticker
ORDER BY entry_time DESC, position_id DESC;

-- name: stale_positions(environment, looked_before)
-- Open positions that the monitor has not looked at since a moment, never looked at first: is the monitor alive?
SELECT *
FROM trading.open_positions
WHERE environment = :environment
    AND (last_update < :looked_before OR last_update IS NULL)
ORDER BY last_update NULLS FIRST, position_id;

-- name: positions_of_market(environment, market_ticker)
-- Every position that was ever taken in a market with its current state, the newest entry first (seed S3).
--
-- pnl is realized profit before fees, dollars; null while nothing was sold. exit_price is the average over what left.
SELECT
    positions.position_id,
    positions.side,
    version.quantity,
    positions.entry_price,
    version.exit_price,
    version.realized_pnl AS pnl,
    version.fees,
    version.status,
    positions.reason,
    version.close_reason,
    positions.entry_time,
    version.exit_time,
    positions.strategy_id,
    positions.model_id
FROM trading.positions
JOIN trading.position_versions AS version
    ON version.environment = positions.environment
    AND version.position_id = positions.position_id
    AND version.valid_to IS NULL
WHERE positions.market_ticker = :market_ticker
    AND positions.environment = :environment
ORDER BY positions.entry_time DESC, positions.position_id DESC;

-- name: position_pnl(environment)
-- Profit and loss of each open position at the market's current price, with its trailing stop (seed S2); the newest entry first.
--
-- market_price is the price of the side that is held, as the venue shows it, else from the last trade; null when the market was never
-- quoted, and then unrealized_pnl is null: unknown is not 0. A NO position gains when NO gains. total_cost is what the contracts that
-- entered cost; bought_for the same by the fills that are filed under it, null when there are none. realized_pnl comes from the exits,
-- fees from the position, fill_fees from its fills (null when one is unknown); profits are dollars before fees, net_pnl after fees.
WITH held AS (
    SELECT
        position.*,
        CASE position.side
            WHEN 'yes' THEN COALESCE(market.yes_price, market.last_price)
            ELSE COALESCE(market.no_price, 1 - market.last_price)
        END AS market_price
    FROM trading.open_positions AS position
    LEFT JOIN catalog.current_markets AS market ON market.market_ticker = position.market_ticker
    WHERE position.environment = :environment
)
SELECT
    held.position_id,
    held.platform_id,
    held.market_ticker,
    held.side,
    held.entry_time,
    held.entry_price,
    held.quantity,
    held.remaining_quantity,
    held.market_price::market_data.price AS market_price,
    (held.quantity * held.entry_price)::market_data.money AS total_cost,
    fills.bought_for::market_data.money AS bought_for,
    (held.remaining_quantity * (held.market_price - held.entry_price))::market_data.money AS unrealized_pnl,
    ((held.market_price - held.entry_price) / NULLIF(held.entry_price, 0))::numeric(18, 6) AS unrealized_pnl_pct,
    exits.realized_pnl::market_data.money AS realized_pnl,
    held.fees,
    fills.fees::market_data.money AS fill_fees,
    (
        held.remaining_quantity * (held.market_price - held.entry_price) + COALESCE(exits.realized_pnl, 0) - held.fees
    )::market_data.money AS net_pnl,
    held.trailing_stop_state,
    (held.trailing_stop_state ->> 'active')::boolean AS is_trailing_stop_active,
    (held.trailing_stop_state ->> 'current_stop_price')::market_data.price AS current_stop_price,
    held.last_update
FROM held
LEFT JOIN LATERAL (
    SELECT
        sum(trades.quantity * trades.price) FILTER (WHERE trades.side = 'buy') AS bought_for,
        CASE WHEN bool_and(trades.fees IS NOT NULL) THEN sum(trades.fees) END AS fees
    FROM trading.trades
    WHERE trades.environment = held.environment AND trades.position_id = held.position_id
) AS fills ON true
LEFT JOIN LATERAL (
    SELECT sum(position_exits.quantity_exited * (position_exits.exit_price - held.entry_price)) AS realized_pnl
    FROM trading.position_exits
    WHERE position_exits.environment = held.environment AND position_exits.position_id = held.position_id
) AS exits ON true
ORDER BY held.entry_time DESC, held.position_id DESC;

-- name: daily_pnl(environment, exit_from, exit_to)
-- What the positions that ended on each day of [exit_from, exit_to) came to, the last day first (seed S3); days are UTC.
--
-- total_pnl and avg_pnl are dollars before fees, total_pnl_after_fees after them (null when a fee is unknown); win_rate is the share that
-- made money before fees. A position counts whole on the day its last contract left or was settled. Days without any are left out.
SELECT
    (version.exit_time AT TIME ZONE 'UTC')::date AS trade_date,
    sum(version.realized_pnl)::numeric(24, 6) AS total_pnl,
    CASE
        WHEN bool_and(version.fees IS NOT NULL AND version.realized_pnl IS NOT NULL) THEN sum(version.realized_pnl - version.fees)
    END::numeric(24, 6) AS total_pnl_after_fees,
    count(*) AS num_trades,
    avg(version.realized_pnl)::numeric(18, 6) AS avg_pnl,
    (count(*) FILTER (WHERE version.realized_pnl > 0)::numeric / NULLIF(count(version.realized_pnl), 0))::numeric(7, 6) AS win_rate
FROM trading.position_versions AS version
WHERE version.environment = :environment
    AND version.exit_time >= :exit_from
    AND version.exit_time < :exit_to
    AND version.valid_to IS NULL
    AND version.status <> 'open'
GROUP BY (version.exit_time AT TIME ZONE 'UTC')::date
ORDER BY trade_date DESC;

-- name: best_markets(environment, exit_from, exit_to, min_trades, how_many)
-- The markets that made the most, of those where at least min_trades positions ended in [exit_from, exit_to), best first (seed S3).
--
-- Profits are dollars before fees, total_pnl_after_fees after them (null when a fee is unknown); win_rate is the share of positions that
-- made money before fees.
SELECT
    positions.market_ticker,
    count(*) AS num_trades,
    sum(version.realized_pnl)::numeric(24, 6) AS total_pnl,
    CASE
        WHEN bool_and(version.fees IS NOT NULL AND version.realized_pnl IS NOT NULL) THEN sum(version.realized_pnl - version.fees)
    END::numeric(24, 6) AS total_pnl_after_fees,
    avg(version.realized_pnl)::numeric(18, 6) AS avg_pnl,
    (count(*) FILTER (WHERE version.realized_pnl > 0)::numeric / NULLIF(count(version.realized_pnl), 0))::numeric(7, 6) AS win_rate
FROM trading.position_versions AS version
JOIN trading.positions
    ON positions.environment = version.environment
    AND positions.position_id = version.position_id
WHERE version.environment = :environment
    AND version.exit_time >= :exit_from
    AND version.exit_time < :exit_to
    AND version.valid_to IS NULL
    AND version.status <> 'open'
GROUP BY positions.market_ticker
HAVING count(*) >= :min_trades::bigint
ORDER BY total_pnl DESC NULLS LAST, positions.market_ticker
LIMIT :how_many;
