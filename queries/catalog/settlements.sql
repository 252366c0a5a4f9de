-- What markets paid. Rows are only added: an amended result is a new row, and the last one counts.

-- name: settlements_of_market(market_ticker)
-- Every outcome that was declared for a market, oldest first; more than one where a result was amended.
SELECT *
FROM catalog.settlements
WHERE market_ticker = :market_ticker
ORDER BY settled_at;

-- name: settlements_of_event(event_ticker)
-- Every outcome that was declared for the markets of an event, by market, oldest first.
SELECT *
FROM catalog.settlements
WHERE event_ticker = :event_ticker
ORDER BY market_ticker, settled_at;

-- name: final_settlements_between(settled_from, settled_to)
-- Outcomes declared in [settled_from, settled_to) that no later one has amended, oldest first; streamed.
-- @stream
SELECT *
FROM catalog.settlements
WHERE settled_at >= :settled_from
    AND settled_at < :settled_to
    AND NOT EXISTS (
        SELECT FROM catalog.settlements AS later
        WHERE later.market_ticker = settlements.market_ticker
            AND later.settled_at > settlements.settled_at
    )
ORDER BY settled_at, market_ticker;

-- name: settlements_of_markets(market_tickers)
-- The last declared outcome of each of many markets; a market without one is left out.
SELECT latest.*
FROM unnest(:market_tickers::text[]) AS asked (market_ticker)
CROSS JOIN LATERAL (
    SELECT *
    FROM catalog.settlements
    WHERE settlements.market_ticker = asked.market_ticker
    ORDER BY settled_at DESC
    LIMIT 1
) AS latest
ORDER BY latest.market_ticker;
