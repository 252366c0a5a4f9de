-- Our own fills, each with the exact strategy and model version and the edge that led to it. Rows are only added.

-- name: insert_trades()^
-- Adds fills; one that is stored already, same environment, venue and fill_id, counts as unchanged.
--
-- The same fill_id with other content is refused (constraint trades_append_only), with the stored fill in the error, and nothing of the
-- input is written. An unknown market gets a stub: a fill that happened must not be lost. A fill may be filed only under a position of
-- its own environment, venue and market.
-- @bulk staged_trades like trading.trades without trade_id, created_at
-- @one
-- @before insert_market_stubs_of_trades
WITH newest AS (
    SELECT DISTINCT ON (environment, platform_id, fill_id) *
    FROM staged_trades
    ORDER BY environment, platform_id, fill_id, staged_position DESC
),
written AS (
    INSERT INTO trading.trades AS stored (
        environment, platform_id, fill_id, order_id, market_ticker, position_id, edge_id, strategy_id, model_id, side, contract_side,
        price, quantity, fees, is_taker, edge_at_execution, confidence_at_execution, executed_at
    )
    SELECT
        environment, platform_id, fill_id, order_id, market_ticker, position_id, edge_id, strategy_id, model_id, side, contract_side,
        price, quantity, fees, is_taker, edge_at_execution, confidence_at_execution, executed_at
    FROM newest
    ORDER BY environment, platform_id, fill_id
    -- Only what differs is tried to be changed, for the trigger to refuse.
    ON CONFLICT (environment, platform_id, fill_id) DO UPDATE SET price = EXCLUDED.price
    WHERE (
        stored.order_id, stored.market_ticker, stored.position_id, stored.edge_id, stored.strategy_id, stored.model_id, stored.side,
        stored.contract_side, stored.price, stored.quantity, stored.fees, stored.is_taker, stored.edge_at_execution,
        stored.confidence_at_execution, stored.executed_at
    ) IS DISTINCT FROM (
        EXCLUDED.order_id, EXCLUDED.market_ticker, EXCLUDED.position_id, EXCLUDED.edge_id, EXCLUDED.strategy_id, EXCLUDED.model_id,
        EXCLUDED.side, EXCLUDED.contract_side, EXCLUDED.price, EXCLUDED.quantity, EXCLUDED.fees, EXCLUDED.is_taker,
        EXCLUDED.edge_at_execution, EXCLUDED.confidence_at_execution, EXCLUDED.executed_at
    )
    RETURNING fill_id
)
SELECT count(*) AS written FROM written;

-- name: insert_market_stubs_of_trades()!
-- A stub for each market that the staged fills name and the catalogue lacks.
-- @internal step of insert_trades
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, min(platform_id), market_ticker, true, min(executed_at), statement_timestamp(), statement_timestamp()
FROM staged_trades
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_trades.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: record_trade(environment, platform_id, fill_id, order_id, market_ticker, position_id, edge_id, strategy_id, model_id, side, contract_side, price, quantity, fees, is_taker, edge_at_execution, confidence_at_execution, executed_at)!
-- Adds one fill; returns 1, or 0 when it is stored already. The same fill_id with other content is refused (constraint
-- trades_append_only), with the stored fill in the error.
--
-- side is buy or sell, contract_side says of what, price is dollars for contract_side, fees are dollars of the fill.
-- @param order_id nullable: the venue may not say
-- @param position_id nullable: it may belong to none
-- @param edge_id nullable: no edge triggered it
-- @param strategy_id nullable: a trade by hand
-- @param model_id nullable: no model is behind it
-- @param fees nullable: unknown until the venue says
-- @param is_taker nullable: unknown
-- @param edge_at_execution nullable: not computed
-- @param confidence_at_execution nullable: not judged
INSERT INTO trading.trades AS stored (
    environment, platform_id, fill_id, order_id, market_ticker, position_id, edge_id, strategy_id, model_id, side, contract_side, price,
    quantity, fees, is_taker, edge_at_execution, confidence_at_execution, executed_at
)
VALUES (
    :environment, :platform_id, :fill_id, :order_id, :market_ticker, :position_id, :edge_id, :strategy_id, :model_id, :side,
    :contract_side, :price, :quantity, :fees, :is_taker, :edge_at_execution, :confidence_at_execution, :executed_at
)
ON CONFLICT (environment, platform_id, fill_id) DO UPDATE SET price = EXCLUDED.price
WHERE (
    stored.order_id, stored.market_ticker, stored.position_id, stored.edge_id, stored.strategy_id, stored.model_id, stored.side,
    stored.contract_side, stored.price, stored.quantity, stored.fees, stored.is_taker, stored.edge_at_execution,
    stored.confidence_at_execution, stored.executed_at
) IS DISTINCT FROM (
    EXCLUDED.order_id, EXCLUDED.market_ticker, EXCLUDED.position_id, EXCLUDED.edge_id, EXCLUDED.strategy_id, EXCLUDED.model_id,
    EXCLUDED.side, EXCLUDED.contract_side, EXCLUDED.price, EXCLUDED.quantity, EXCLUDED.fees, EXCLUDED.is_taker,
    EXCLUDED.edge_at_execution, EXCLUDED.confidence_at_execution, EXCLUDED.executed_at
);

-- name: trade_by_fill(environment, platform_id, fill_id)^
-- One fill by the venue's id, or None when it is not stored.
SELECT *
FROM trading.trades
WHERE environment = :environment AND platform_id = :platform_id AND fill_id = :fill_id;

-- name: trades_between(environment, executed_from, executed_to)
-- Fills executed in [executed_from, executed_to), oldest first.
SELECT *
FROM trading.trades
WHERE environment = :environment
    AND executed_at >= :executed_from
    AND executed_at < :executed_to
ORDER BY executed_at, trade_id;

-- name: trade_attribution_between(environment, executed_from, executed_to)
-- Fills executed in [executed_from, executed_to) with the exact strategy and model version behind each, newest first (seed S2).
SELECT *
FROM trading.trade_attribution
WHERE environment = :environment
    AND executed_at >= :executed_from
    AND executed_at < :executed_to
ORDER BY executed_at DESC, trade_id DESC;

-- name: trades_of_position(environment, position_id)
-- The fills that opened, grew and reduced a position, oldest first.
SELECT *
FROM trading.trades
WHERE environment = :environment AND position_id = :position_id
ORDER BY executed_at, trade_id;

-- name: trades_of_market(environment, market_ticker)
-- Our fills in one market, oldest first.
SELECT *
FROM trading.trades
WHERE market_ticker = :market_ticker AND environment = :environment
ORDER BY executed_at, trade_id;

-- name: trades_of_strategy(environment, strategy_id, executed_from, executed_to)
-- The fills of one exact strategy version executed in [executed_from, executed_to), oldest first.
SELECT *
FROM trading.trades
WHERE strategy_id = :strategy_id
    AND environment = :environment
    AND executed_at >= :executed_from
    AND executed_at < :executed_to
ORDER BY executed_at, trade_id;

-- name: trades_of_edge(edge_id)
-- The fills that one version of an edge triggered, oldest first.
SELECT *
FROM trading.trades
WHERE edge_id = :edge_id
ORDER BY executed_at, trade_id;

-- name: trade_history(environment, executed_from, executed_to)
-- Fills executed in [executed_from, executed_to) with the edge behind each and how their market was settled, newest first (seed S2).
--
-- expected_value, true_win_probability and confidence_level are those of the edge's version that triggered the fill; null without one.
-- outcome and payout (dollars for contract_side) are of the last declared outcome; null while the market is open, payout also when it
-- is void. pnl_after_fees is what the fill came to when held until then, dollars: a buy gains payout - price a contract, a sell
-- price - payout, and what was sold before settlement is so counted right in the sum; null while unsettled or when the fee is unknown.
SELECT
    trades.trade_id,
    trades.platform_id,
    trades.fill_id,
    trades.order_id,
    trades.executed_at,
    trades.market_ticker,
    trades.position_id,
    trades.strategy_id,
    trades.model_id,
    trades.side,
    trades.contract_side,
    trades.price,
    trades.quantity,
    trades.fees,
    trades.is_taker,
    trades.edge_id,
    trades.edge_at_execution,
    trades.confidence_at_execution,
    edges.expected_value,
    edges.true_win_probability,
    edges.confidence_level,
    settlement.settled_at,
    settlement.outcome,
    settled.payout,
    (
        trades.quantity * (settled.payout - trades.price) * CASE trades.side WHEN 'buy' THEN 1 ELSE -1 END - trades.fees
    )::market_data.money AS pnl_after_fees
FROM trading.trades
LEFT JOIN research.edges ON edges.edge_id = trades.edge_id
LEFT JOIN LATERAL (
    SELECT
        settled_at,
        outcome,
        COALESCE(yes_payout, 1 - no_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
    FROM catalog.settlements
    WHERE settlements.market_ticker = trades.market_ticker
    ORDER BY settled_at DESC
    LIMIT 1
) AS settlement ON true
CROSS JOIN LATERAL (
    SELECT (CASE trades.contract_side WHEN 'yes' THEN settlement.yes_paid ELSE 1 - settlement.yes_paid END)::market_data.price AS payout
) AS settled
WHERE trades.environment = :environment
    AND trades.executed_at >= :executed_from
    AND trades.executed_at < :executed_to
ORDER BY trades.executed_at DESC, trades.trade_id DESC;
