-- How dear it is to trade: spreads and depth. Prices are dollars of YES, depth is contracts.

-- name: spread_over_time(market_ticker, width, start_time, end_time)
-- Spread of one market for each interval of a width, counted from start_time, from its quotes; each sight of a quote counts once.
--
-- Only quotes with a bid and an offer have a spread (0 bid or 1 offered means that nobody does); quoted counts those, of all observations.
-- relative_spread is the mean spread over the mean midpoint. An interval without quotes has no row.
SELECT
    date_bin(:width::interval, seen.seen_at, :start_time) AS interval_start,
    count(*) AS observations,
    count(*) FILTER (WHERE yes_bid > 0 AND yes_ask < 1) AS quoted,
    (avg(spread) FILTER (WHERE yes_bid > 0 AND yes_ask < 1))::numeric(7, 6) AS mean_spread,
    (min(spread) FILTER (WHERE yes_bid > 0 AND yes_ask < 1))::numeric(7, 6) AS smallest_spread,
    (max(spread) FILTER (WHERE yes_bid > 0 AND yes_ask < 1))::numeric(7, 6) AS largest_spread,
    (
        avg(spread) FILTER (WHERE yes_bid > 0 AND yes_ask < 1)
        / NULLIF(avg(midpoint) FILTER (WHERE yes_bid > 0 AND yes_ask < 1), 0)
    )::numeric(18, 6) AS relative_spread
FROM market_data.price_snapshots
CROSS JOIN LATERAL unnest(array_prepend(snapshot_time, seen_again)) AS seen (seen_at)
WHERE market_ticker = :market_ticker
    AND snapshot_time >= :start_time::timestamptz - interval '6 hours'
    AND snapshot_time < :end_time
    AND seen.seen_at >= :start_time
    AND seen.seen_at < :end_time
GROUP BY 1
ORDER BY 1;

-- name: depth_over_time(market_ticker, width, start_time, end_time)
-- Depth of one market's books for each interval of a width, counted from start_time; each book counts once.
--
-- Depth is the contracts bid over all levels; a bid for NO is an offer of YES. An interval without books has no row.
SELECT
    date_bin(:width::interval, snapshot_time, :start_time) AS interval_start,
    count(*) AS books,
    avg(yes_depth)::numeric(18, 2) AS mean_yes_depth,
    avg(no_depth)::numeric(18, 2) AS mean_no_depth,
    min(yes_depth)::numeric(18, 2) AS smallest_yes_depth,
    min(no_depth)::numeric(18, 2) AS smallest_no_depth,
    avg(best_yes_ask - best_yes_bid)::numeric(7, 6) AS mean_spread
FROM market_data.orderbook_snapshots
WHERE market_ticker = :market_ticker
    AND snapshot_time >= :start_time
    AND snapshot_time < :end_time
GROUP BY 1
ORDER BY 1;

-- name: liquidity(market_tickers, moment, max_age, within)
-- What could be traded in each of many markets at a moment, in the order asked: the last book not older than max_age, and what stands
-- in it within some dollars of the best price.
--
-- bid_contracts and bid_dollars can be sold into, at worst `within` below the best bid; ask_contracts and ask_dollars can be bought. A
-- market without such a book comes back with nulls; an empty side is 0 contracts.
-- @column market_ticker not null: an element of the array that was asked
WITH asked AS (
    SELECT position, market_ticker
    FROM unnest(:market_tickers::text[]) WITH ORDINALITY AS given (market_ticker, position)
)
SELECT
    asked.position,
    asked.market_ticker,
    book.snapshot_time,
    book.best_yes_bid,
    book.best_yes_ask,
    (book.best_yes_ask - book.best_yes_bid)::numeric(7, 6) AS spread,
    book.bid_contracts::numeric(18, 2) AS bid_contracts,
    book.bid_dollars::numeric(24, 6) AS bid_dollars,
    book.ask_contracts::numeric(18, 2) AS ask_contracts,
    book.ask_dollars::numeric(24, 6) AS ask_dollars
FROM asked
LEFT JOIN LATERAL (
    SELECT latest.*, bids.contracts AS bid_contracts, bids.dollars AS bid_dollars, asks.contracts AS ask_contracts, asks.dollars AS ask_dollars
    FROM (
        SELECT *
        FROM market_data.orderbook_snapshots
        WHERE orderbook_snapshots.market_ticker = asked.market_ticker
            AND orderbook_snapshots.snapshot_time <= :moment
            AND orderbook_snapshots.snapshot_time >= :moment - :max_age::interval
        ORDER BY snapshot_time DESC
        LIMIT 1
    ) AS latest
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(level.quantity), 0) AS contracts, COALESCE(sum(level.quantity * level.price), 0) AS dollars
        FROM unnest(latest.yes_bid_prices, latest.yes_bid_quantities) AS level (price, quantity)
        WHERE level.price >= latest.best_yes_bid - :within::numeric
    ) AS bids
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(level.quantity), 0) AS contracts, COALESCE(sum(level.quantity * (1 - level.price)), 0) AS dollars
        FROM unnest(latest.no_bid_prices, latest.no_bid_quantities) AS level (price, quantity)
        WHERE level.price >= latest.best_no_bid - :within::numeric
    ) AS asks
) AS book ON true
ORDER BY asked.position;
