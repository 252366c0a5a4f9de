-- What users of the exchange's data compute.

-- name: calibration(bin_width)
-- Do prices tell the truth? Settled markets by the price of their trades: how often YES came true against the price paid.
--
-- Each trade counts once with the YES price; bins are [n x bin_width, (n + 1) x bin_width) dollars, the last one closed. Only outcomes
-- yes and no count.
-- @plan computed from every trade of every settled market
SELECT
    (least(floor(trades.yes_price / :bin_width::numeric), ceil(1 / :bin_width::numeric) - 1) * :bin_width::numeric)::numeric(7, 6)
        AS price_from,
    count(*) AS trades,
    avg(trades.yes_price)::numeric(7, 6) AS mean_price,
    avg(CASE settlements.outcome WHEN 'yes' THEN 1 ELSE 0 END)::numeric(7, 6) AS yes_share
FROM market_data.public_trades AS trades
JOIN catalog.final_settlements AS settlements ON settlements.market_ticker = trades.market_ticker
WHERE settlements.outcome IN ('yes', 'no')
GROUP BY 1
ORDER BY 1;
