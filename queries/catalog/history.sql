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
-- Adds what happened to markets; the same happening, same market, type and time, is left as it is. An unknown market gets a stub.
--
-- What the stream says of a market's close time, pause and result is written to the market too, where it is newer than what is stored.
-- That it has settled is not: the settlement, and the market as it was then, come with the exchange's own answer, which is asked for as
-- long as the market counts as unsettled.
-- @bulk staged_lifecycle like catalog.market_lifecycle without created_at
-- @one
-- @before insert_market_stubs_of_lifecycle
-- @after apply_lifecycle
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

-- name: insert_market_stubs_of_lifecycle()!
-- A stub for each market that the staged rows name and the catalogue lacks. The venue is a guess until the market itself arrives.
-- @internal step of insert_market_lifecycle
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_lifecycle
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_lifecycle.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: apply_lifecycle()!
-- What staged happenings say of their markets, the newest of each market and field.
-- @internal step of insert_market_lifecycle
WITH said AS (
    SELECT
        market_ticker,
        retrieved_at,
        staged_position,
        CASE event_type
            WHEN 'activated' THEN 'active' WHEN 'deactivated' THEN 'inactive' WHEN 'determined' THEN 'determined'
        END AS status,
        CASE WHEN jsonb_typeof(details -> 'close_ts') = 'number' THEN to_timestamp((details ->> 'close_ts')::numeric) END AS close_time,
        CASE WHEN event_type = 'determined' THEN NULLIF(details ->> 'result', '') END AS result
    FROM staged_lifecycle
    WHERE source = 'websocket'
),
newest AS (
    SELECT
        market_ticker,
        max(retrieved_at) AS retrieved_at,
        (array_agg(status ORDER BY retrieved_at DESC, staged_position DESC) FILTER (WHERE status IS NOT NULL))[1] AS status,
        (array_agg(close_time ORDER BY retrieved_at DESC, staged_position DESC) FILTER (WHERE close_time IS NOT NULL))[1] AS close_time,
        (array_agg(result ORDER BY retrieved_at DESC, staged_position DESC) FILTER (WHERE result IS NOT NULL))[1] AS result
    FROM said
    WHERE status IS NOT NULL OR close_time IS NOT NULL OR result IS NOT NULL
    GROUP BY market_ticker
    ORDER BY market_ticker
),
held AS (
    -- Locked in the order of the key, as all writers of markets do.
    SELECT stored.market_ticker
    FROM newest
    CROSS JOIN LATERAL (
        SELECT markets.market_ticker
        FROM catalog.markets
        WHERE markets.market_ticker = newest.market_ticker
            AND markets.retrieved_at < newest.retrieved_at
            AND NOT markets.is_stub
        FOR NO KEY UPDATE
    ) AS stored
)
UPDATE catalog.markets AS stored
SET
    status = COALESCE(newest.status, stored.status),
    close_time = COALESCE(newest.close_time, stored.close_time),
    result = COALESCE(newest.result, stored.result),
    retrieved_at = newest.retrieved_at,
    updated_at = statement_timestamp()
FROM newest
JOIN held ON held.market_ticker = newest.market_ticker
WHERE stored.market_ticker = newest.market_ticker
    AND stored.status <> 'finalized'
    AND (
        COALESCE(newest.status, stored.status), COALESCE(newest.close_time, stored.close_time), COALESCE(newest.result, stored.result)
    ) IS DISTINCT FROM (stored.status, stored.close_time, stored.result);

-- name: lifecycle_of_market(market_ticker)
-- What happened to one market, oldest first.
SELECT *
FROM catalog.market_lifecycle
WHERE market_ticker = :market_ticker
ORDER BY occurred_at, event_type;
