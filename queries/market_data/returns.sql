-- Who earned what: returns of buyers by price, of makers against takers, and of given orders.
--
-- A trade has two buyers: the taker bought taker_side, the maker the other side, each at its own price, and both held to settlement. Money is
-- dollars; a return is (paid out - cost) / cost, so -1 is a total loss; null where nothing was paid for it.
--
-- The venue's quadratic fee is 0.07 x contracts x price x (1 - price) x the series' fee_multiplier, of takers; where fee_type is
-- quadratic_with_maker_fees makers pay a quarter of that. It is rounded up once an order: to the cent by the published rule, to 0.0001
-- in the settlements recorded in August 2026. The tape does not tell orders, so fees over the tape are not rounded: a lower bound, close
-- for orders of many contracts.

-- name: favourite_longshot(bin_width, start_time, end_time)
-- Favourite-longshot bias: what buyers got back by the price they paid, before and after fees, over trades in [start_time, end_time) of
-- markets that have settled.
--
-- Both buyers of a trade count, weighted by contracts, each in the bin of its own price; bins as in calibration. Where long shots are
-- overpriced the return falls with the price. Trades without a known taker are left out, and void markets; an unknown fee_multiplier is 1.
WITH outcomes AS MATERIALIZED (
    -- The outcome and the fee of each market are looked up once; joins might read the whole catalogue.
    SELECT
        traded.market_ticker,
        final.yes_paid,
        0.07 * COALESCE(market.fee_multiplier, 1) AS fee_rate,
        CASE market.fee_type WHEN 'quadratic_with_maker_fees' THEN 0.25 ELSE 0 END AS maker_share
    FROM (
        SELECT DISTINCT market_ticker
        FROM market_data.public_trades
        WHERE created_time >= :start_time
            AND created_time < :end_time
    ) AS traded
    CROSS JOIN LATERAL (
        SELECT COALESCE(yes_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
        FROM catalog.settlements
        WHERE settlements.market_ticker = traded.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS final
    LEFT JOIN LATERAL (
        SELECT series.fee_type, series.fee_multiplier
        FROM catalog.markets
        LEFT JOIN catalog.series ON series.series_ticker = markets.series_ticker
        WHERE markets.market_ticker = traded.market_ticker
        LIMIT 1
    ) AS market ON true
    WHERE final.yes_paid IS NOT NULL
)
SELECT
    (
        least(floor(price / :bin_width::market_data.bin_width), ceil(1 / :bin_width::market_data.bin_width) - 1) * :bin_width
    )::numeric(7, 6) AS price_from,
    count(*) AS purchases,
    sum(contracts)::numeric(24, 2) AS contracts,
    (sum(contracts * price) / NULLIF(sum(contracts), 0))::numeric(7, 6) AS mean_price,
    (sum(contracts * paid) / NULLIF(sum(contracts), 0))::numeric(7, 6) AS paid_share,
    sum(contracts * price)::numeric(24, 6) AS cost,
    sum(contracts * paid)::numeric(24, 6) AS paid_out,
    sum(contracts * fee)::numeric(24, 6) AS fees,
    (sum(contracts * (paid - price)) / NULLIF(sum(contracts * price), 0))::numeric(18, 6) AS return_before_fees,
    (sum(contracts * (paid - price - fee)) / NULLIF(sum(contracts * (price + fee)), 0))::numeric(18, 6) AS return_after_fees
FROM market_data.public_trades
JOIN outcomes ON outcomes.market_ticker = public_trades.market_ticker
CROSS JOIN LATERAL (
    SELECT
        public_trades.count AS contracts,
        CASE taker_side WHEN 'yes' THEN yes_price ELSE no_price END AS taker_price,
        CASE taker_side WHEN 'yes' THEN outcomes.yes_paid ELSE 1 - outcomes.yes_paid END AS taker_paid,
        outcomes.fee_rate * yes_price * no_price AS taker_fee
) AS taken
CROSS JOIN LATERAL (
    VALUES
        (taken.taker_price, taken.taker_paid, taken.taker_fee),
        (1 - taken.taker_price, 1 - taken.taker_paid, taken.taker_fee * outcomes.maker_share)
) AS buyers (price, paid, fee)
WHERE created_time >= :start_time
    AND created_time < :end_time
    AND taker_side IS NOT NULL
GROUP BY 1
ORDER BY 1;

-- name: maker_taker_returns(start_time, end_time)
-- Return of makers against takers by category and hour of the day (UTC), over trades in [start_time, end_time) of markets that have
-- settled.
--
-- Returns are before fees; taker_fees and maker_fees say what those were. Category is null where the catalogue knows none. Trades without
-- a known taker are left out, and void markets; an unknown fee_multiplier is 1.
WITH outcomes AS MATERIALIZED (
    -- The outcome and the fee of each market are looked up once; joins might read the whole catalogue.
    SELECT
        traded.market_ticker,
        final.yes_paid,
        market.category,
        0.07 * COALESCE(market.fee_multiplier, 1) AS fee_rate,
        CASE market.fee_type WHEN 'quadratic_with_maker_fees' THEN 0.25 ELSE 0 END AS maker_share
    FROM (
        SELECT DISTINCT market_ticker
        FROM market_data.public_trades
        WHERE created_time >= :start_time
            AND created_time < :end_time
    ) AS traded
    CROSS JOIN LATERAL (
        SELECT COALESCE(yes_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
        FROM catalog.settlements
        WHERE settlements.market_ticker = traded.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS final
    LEFT JOIN LATERAL (
        SELECT markets.category, series.fee_type, series.fee_multiplier
        FROM catalog.markets
        LEFT JOIN catalog.series ON series.series_ticker = markets.series_ticker
        WHERE markets.market_ticker = traded.market_ticker
        LIMIT 1
    ) AS market ON true
    WHERE final.yes_paid IS NOT NULL
)
SELECT
    outcomes.category,
    taken.hour,
    count(*) AS trades,
    sum(contracts)::numeric(24, 2) AS contracts,
    sum(taker_cost)::numeric(24, 6) AS taker_cost,
    sum(taker_paid)::numeric(24, 6) AS taker_paid_out,
    sum(taker_fees)::numeric(24, 6) AS taker_fees,
    (sum(taker_paid - taker_cost) / NULLIF(sum(taker_cost), 0))::numeric(18, 6) AS taker_return,
    sum(contracts - taker_cost)::numeric(24, 6) AS maker_cost,
    sum(contracts - taker_paid)::numeric(24, 6) AS maker_paid_out,
    sum(taker_fees * outcomes.maker_share)::numeric(24, 6) AS maker_fees,
    (sum(taker_cost - taker_paid) / NULLIF(sum(contracts - taker_cost), 0))::numeric(18, 6) AS maker_return
FROM market_data.public_trades
JOIN outcomes ON outcomes.market_ticker = public_trades.market_ticker
CROSS JOIN LATERAL (
    SELECT
        extract(hour FROM created_time AT TIME ZONE 'UTC')::integer AS hour,
        public_trades.count AS contracts,
        public_trades.count * CASE taker_side WHEN 'yes' THEN yes_price ELSE no_price END AS taker_cost,
        public_trades.count * CASE taker_side WHEN 'yes' THEN outcomes.yes_paid ELSE 1 - outcomes.yes_paid END AS taker_paid,
        public_trades.count * outcomes.fee_rate * yes_price * no_price AS taker_fees
) AS taken
WHERE created_time >= :start_time
    AND created_time < :end_time
    AND taker_side IS NOT NULL
GROUP BY outcomes.category, taken.hour
ORDER BY outcomes.category NULLS LAST, taken.hour;

-- name: order_pnl(market_tickers, sides, prices, quantities, are_takers, fee_step)
-- Profit and loss after fees of given orders held to settlement, in the order given: what a backtest or a list of fills earned.
--
-- The arrays go together, one order each: side yes or no bought at a price in dollars. The fee is rounded up to fee_step dollars: 0.01 by
-- the published rule, 0.0001 as recorded since 2026. fee is null where the venue's rule for the series is not known here (it knows
-- quadratic and quadratic_with_maker_fees); paid_out is null while the market has not settled, and where it was void. Then pnl is null:
-- unknown, not zero.
-- @pairs market_tickers, sides, prices, quantities, are_takers
-- @column market_ticker not null: an element of the array that was given
-- @column side not null: an element of the array that was given
-- @column cost not null: price and quantity are elements of the arrays that were given
WITH orders AS (
    SELECT position, market_ticker, side, price, quantity, is_taker
    FROM unnest(
        :market_tickers::text[], :sides::market_data.side[], :prices::market_data.price[], :quantities::market_data.contracts[],
        :are_takers::boolean[]
    ) WITH ORDINALITY AS given (market_ticker, side, price, quantity, is_taker, position)
),
priced AS (
    SELECT
        orders.position,
        orders.market_ticker,
        orders.side,
        orders.price * orders.quantity AS cost,
        ceil(
            0.07 * COALESCE(series.fee_multiplier, 1) * orders.quantity * orders.price * (1 - orders.price)
            * CASE
                WHEN series.fee_type NOT IN ('quadratic', 'quadratic_with_maker_fees') THEN NULL
                WHEN series.fee_type IS NULL OR orders.is_taker IS NULL THEN NULL
                WHEN orders.is_taker THEN 1
                WHEN series.fee_type = 'quadratic_with_maker_fees' THEN 0.25
                ELSE 0
            END / :fee_step::numeric
        ) * :fee_step::numeric AS fee,
        final.outcome,
        orders.quantity * CASE orders.side WHEN 'yes' THEN final.yes_paid WHEN 'no' THEN 1 - final.yes_paid END AS paid_out
    FROM orders
    LEFT JOIN catalog.markets ON markets.market_ticker = orders.market_ticker
    LEFT JOIN catalog.series ON series.series_ticker = markets.series_ticker
    LEFT JOIN LATERAL (
        SELECT outcome, COALESCE(yes_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS yes_paid
        FROM catalog.settlements
        WHERE settlements.market_ticker = orders.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS final ON true
)
SELECT
    position,
    market_ticker,
    side,
    cost::numeric(24, 6) AS cost,
    fee::numeric(18, 6) AS fee,
    outcome,
    paid_out::numeric(24, 6) AS paid_out,
    (paid_out - cost - fee)::numeric(24, 6) AS pnl
FROM priced
ORDER BY position;
