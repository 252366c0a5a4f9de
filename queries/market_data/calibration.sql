-- Do prices tell the truth? Prices against what was paid in the end.
--
-- Bins are [n x bin_width, (n + 1) x bin_width) dollars, the last one closed. An outcome counts with what one YES contract was paid: 1 or
-- 0, or the value of a scalar settlement. The last declared outcome counts; void markets, which pay nobody, are left out.

-- name: calibration(bin_width, start_time, end_time)
-- Win rate by price of trades made in [start_time, end_time) in markets that have settled: a reliability diagram.
--
-- Each trade counts once, so markets that trade often weigh more; the columns of contracts weigh by size instead. For one voice a market
-- see calibration_before_close. A YES share above the mean price says that YES was too cheap.
-- @param start_time nullable: None asks for trades from the first one on
-- @param end_time nullable: None asks for trades up to the last one
WITH outcomes AS MATERIALIZED (
    -- The outcome of each market is looked up once; a join might read every settlement there is.
    SELECT traded.market_ticker, final.paid
    FROM (
        SELECT DISTINCT market_ticker
        FROM market_data.public_trades
        WHERE created_time >= COALESCE(:start_time::timestamptz, '-infinity')
            AND created_time < COALESCE(:end_time::timestamptz, 'infinity')
    ) AS traded
    CROSS JOIN LATERAL (
        SELECT COALESCE(yes_payout, CASE outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS paid
        FROM catalog.settlements
        WHERE settlements.market_ticker = traded.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS final
    WHERE final.paid IS NOT NULL
)
SELECT
    (
        least(floor(trades.yes_price / :bin_width::market_data.bin_width), ceil(1 / :bin_width::market_data.bin_width) - 1) * :bin_width
    )::numeric(7, 6) AS price_from,
    count(*) AS trades,
    avg(trades.yes_price)::numeric(7, 6) AS mean_price,
    avg(outcomes.paid)::numeric(7, 6) AS yes_share,
    sum(trades.count)::numeric(24, 2) AS contracts,
    (sum(trades.count * trades.yes_price) / NULLIF(sum(trades.count), 0))::numeric(7, 6) AS mean_price_of_contracts,
    (sum(trades.count * outcomes.paid) / NULLIF(sum(trades.count), 0))::numeric(7, 6) AS yes_share_of_contracts
FROM market_data.public_trades AS trades
JOIN outcomes ON outcomes.market_ticker = trades.market_ticker
WHERE trades.created_time >= COALESCE(:start_time::timestamptz, '-infinity')
    AND trades.created_time < COALESCE(:end_time::timestamptz, 'infinity')
GROUP BY 1
ORDER BY 1;

-- name: calibration_before_close(bin_width, before_close, max_age, settled_from, settled_to)
-- Win rate by the price some time before the close, one voice a market, of markets whose last outcome was declared in [settled_from,
-- settled_to).
--
-- The price is the last trade at or before close_time - before_close that is not older than max_age by then; a market without one is left
-- out. close_time is the one last known: where the venue closed early it is the early one. brier_score is the mean of (price - paid)
-- squared, 0 is perfect; the bins' scores weighted by markets add up to the whole one.
WITH settled AS (
    SELECT
        settlements.market_ticker,
        COALESCE(settlements.yes_payout, CASE settlements.outcome WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END) AS paid,
        market.close_time - :before_close::interval AS moment
    FROM catalog.settlements
    CROSS JOIN LATERAL (
        -- LIMIT keeps this a look into the index for each row: a join might read the whole catalogue.
        SELECT close_time
        FROM catalog.markets
        WHERE markets.market_ticker = settlements.market_ticker
        LIMIT 1
    ) AS market
    WHERE settlements.settled_at >= :settled_from
        AND settlements.settled_at < :settled_to
        AND NOT EXISTS (
            SELECT FROM catalog.settlements AS later
            WHERE later.market_ticker = settlements.market_ticker
                AND later.settled_at > settlements.settled_at
        )
)
SELECT
    (
        least(floor(traded.yes_price / :bin_width::market_data.bin_width), ceil(1 / :bin_width::market_data.bin_width) - 1) * :bin_width
    )::numeric(7, 6) AS price_from,
    count(*) AS markets,
    avg(traded.yes_price)::numeric(7, 6) AS mean_price,
    avg(settled.paid)::numeric(7, 6) AS yes_share,
    avg((traded.yes_price - settled.paid) * (traded.yes_price - settled.paid))::numeric(7, 6) AS brier_score
FROM settled
CROSS JOIN LATERAL (
    SELECT yes_price
    FROM market_data.public_trades
    WHERE public_trades.market_ticker = settled.market_ticker
        AND public_trades.created_time <= settled.moment
        AND public_trades.created_time >= settled.moment - :max_age::interval
    ORDER BY created_time DESC, trade_id DESC
    LIMIT 1
) AS traded
WHERE settled.paid IS NOT NULL
GROUP BY 1
ORDER BY 1;
