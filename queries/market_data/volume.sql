-- How much was traded, and at what mean price. Contracts are counted once a trade, and are not dollars.

-- name: vwap(market_ticker, start_time, end_time)^
-- Volume-weighted average price of YES in one market over trades in [start_time, end_time), dollars; null when nothing traded.
-- @one
SELECT
    count(*) AS trades,
    COALESCE(sum(public_trades.count), 0)::numeric(24, 2) AS contracts,
    (sum(public_trades.count * yes_price) / NULLIF(sum(public_trades.count), 0))::numeric(7, 6) AS vwap
FROM market_data.public_trades
WHERE market_ticker = :market_ticker
    AND created_time >= :start_time
    AND created_time < :end_time;

-- name: vwap_by_interval(market_ticker, width, start_time, end_time)
-- Volume-weighted average price of YES in one market for each interval of a width, counted from start_time; dollars.
--
-- interval_start is inclusive, its end exclusive. An interval without trades has no row. The width is made of days or less, not months.
SELECT
    date_bin(:width::interval, created_time, :start_time) AS interval_start,
    count(*) AS trades,
    sum(public_trades.count)::numeric(24, 2) AS contracts,
    (sum(public_trades.count * yes_price) / NULLIF(sum(public_trades.count), 0))::numeric(7, 6) AS vwap,
    min(yes_price)::numeric(7, 6) AS low,
    max(yes_price)::numeric(7, 6) AS high
FROM market_data.public_trades
WHERE market_ticker = :market_ticker
    AND created_time >= :start_time
    AND created_time < :end_time
GROUP BY 1
ORDER BY 1;

-- name: vwap_of_markets(market_tickers, start_time, end_time)
-- Volume-weighted average price of YES of many markets over trades in [start_time, end_time), dollars; one without trades is left out.
SELECT
    market_ticker,
    count(*) AS trades,
    sum(public_trades.count)::numeric(24, 2) AS contracts,
    (sum(public_trades.count * yes_price) / NULLIF(sum(public_trades.count), 0))::numeric(7, 6) AS vwap
FROM market_data.public_trades
WHERE market_ticker = ANY (:market_tickers::text[])
    AND created_time >= :start_time
    AND created_time < :end_time
GROUP BY market_ticker
ORDER BY market_ticker;

-- name: volume_by_category_and_day(start_time, end_time)
-- Trades, contracts and dollars by category and UTC day, over trades in [start_time, end_time).
--
-- taker_dollars is what takers paid for their side; the makers paid the rest of one dollar a contract. Category is null for markets that
-- the catalogue does not know or that have none.
WITH categories AS MATERIALIZED (
    -- The category of each market is looked up once; a join might read the whole catalogue.
    SELECT traded.market_ticker, market.category
    FROM (
        SELECT DISTINCT market_ticker
        FROM market_data.public_trades
        WHERE created_time >= :start_time
            AND created_time < :end_time
    ) AS traded
    LEFT JOIN LATERAL (
        SELECT category
        FROM catalog.markets
        WHERE markets.market_ticker = traded.market_ticker
        LIMIT 1
    ) AS market ON true
)
SELECT
    (created_time AT TIME ZONE 'UTC')::date AS day,
    categories.category,
    count(*) AS trades,
    sum(public_trades.count)::numeric(24, 2) AS contracts,
    sum(public_trades.count * CASE taker_side WHEN 'yes' THEN yes_price WHEN 'no' THEN no_price END)::numeric(24, 6) AS taker_dollars
FROM market_data.public_trades
JOIN categories ON categories.market_ticker = public_trades.market_ticker
WHERE created_time >= :start_time
    AND created_time < :end_time
GROUP BY (created_time AT TIME ZONE 'UTC')::date, categories.category
ORDER BY day, categories.category NULLS LAST;
