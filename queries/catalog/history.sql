-- What happened to markets, and how they were settled.

-- name: insert_settlements()^
-- Adds declared outcomes; one that is stored already, same market and time, is left as it is.
--
-- An amended outcome is a row of its own. Where the venue amends without another time of settlement, it is filed under the time at which
-- it was retrieved, once, and only if that is later than what is stored.
-- @bulk staged_settlements like catalog.settlements without created_at
-- @one
WITH declared AS (
    SELECT DISTINCT ON (market_ticker, settled_at) *
    FROM staged_settlements
    ORDER BY market_ticker, settled_at, staged_position DESC
),
compared AS (
    SELECT
        declared.*,
        stored.market_ticker IS NOT NULL AS is_stored,
        (latest.outcome, latest.payout, latest.yes_payout, latest.no_payout)
            IS DISTINCT FROM (declared.outcome, declared.payout, declared.yes_payout, declared.no_payout)
            AND declared.retrieved_at > latest.retrieved_at
            AND declared.retrieved_at > latest.settled_at AS is_amended
    FROM declared
    LEFT JOIN catalog.settlements AS stored
        ON stored.market_ticker = declared.market_ticker
        AND stored.settled_at = declared.settled_at
    LEFT JOIN LATERAL (
        SELECT *
        FROM catalog.settlements AS last_one
        WHERE last_one.market_ticker = declared.market_ticker
        ORDER BY last_one.settled_at DESC
        LIMIT 1
    ) AS latest ON true
),
written AS (
    INSERT INTO catalog.settlements (
        market_ticker, settled_at, platform_id, event_ticker, outcome, payout, final_yes_price, final_no_price, yes_payout, no_payout,
        retrieved_at, created_at
    )
    SELECT
        market_ticker, CASE WHEN is_stored THEN retrieved_at ELSE settled_at END, platform_id, event_ticker, outcome, payout,
        final_yes_price, final_no_price, yes_payout, no_payout, retrieved_at, statement_timestamp()
    FROM compared
    WHERE NOT is_stored OR is_amended
    ORDER BY market_ticker, settled_at
    ON CONFLICT (market_ticker, settled_at) DO NOTHING
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: final_settlement(market_ticker)^
-- The last declared outcome of a market, or None while it is open.
SELECT *
FROM catalog.final_settlements
WHERE market_ticker = :market_ticker;

-- name: settlements_between(settled_from, settled_to)
-- Outcomes declared in [settled_from, settled_to), oldest first.
SELECT *
FROM catalog.settlements
WHERE settled_at >= :settled_from
    AND settled_at < :settled_to
ORDER BY settled_at, market_ticker;

-- name: insert_market_lifecycle()^
-- Adds what happened to markets; the same happening, same market, type and time, is left as it is.
-- @bulk staged_lifecycle like catalog.market_lifecycle without created_at
-- @one
WITH written AS (
    INSERT INTO catalog.market_lifecycle (market_ticker, event_type, occurred_at, source, details, retrieved_at, created_at)
    SELECT DISTINCT ON (market_ticker, event_type, occurred_at)
        market_ticker, event_type, occurred_at, source, details, retrieved_at, statement_timestamp()
    FROM staged_lifecycle
    ORDER BY market_ticker, event_type, occurred_at, staged_position DESC
    ON CONFLICT (market_ticker, event_type, occurred_at) DO NOTHING
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: lifecycle_of_market(market_ticker)
-- What happened to one market, oldest first.
SELECT *
FROM catalog.market_lifecycle
WHERE market_ticker = :market_ticker
ORDER BY occurred_at, event_type;
