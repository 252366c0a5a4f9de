-- Order books and their changes.

-- name: upsert_orderbook_snapshots()^
-- Writes whole order books; the depth of each side is summed here.
--
-- A book with the market and time of a stored one replaces it only if it was retrieved later and differs. One that occurs twice in
-- the input counts once. An unknown market gets a stub, a missing month its partition.
-- @bulk staged_orderbook_snapshots like market_data.orderbook_snapshots without yes_depth, no_depth
-- @one
-- @before create_partitions_of_orderbook_snapshots
-- @before insert_market_stubs_of_orderbook_snapshots
-- @before settle_orderbook_snapshots
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time) *
    FROM staged_orderbook_snapshots
    ORDER BY market_ticker, snapshot_time, retrieved_at DESC, staged_position DESC
),
written AS (
    INSERT INTO market_data.orderbook_snapshots AS stored (
        market_ticker, snapshot_time, source, sid, sequence, yes_bid_prices, yes_bid_quantities, no_bid_prices, no_bid_quantities,
        yes_depth, no_depth, retrieved_at, raw_json
    )
    SELECT
        market_ticker, snapshot_time, source, sid, sequence, yes_bid_prices, yes_bid_quantities, no_bid_prices, no_bid_quantities,
        (SELECT COALESCE(sum(quantity), 0) FROM unnest(yes_bid_quantities) AS quantity),
        (SELECT COALESCE(sum(quantity), 0) FROM unnest(no_bid_quantities) AS quantity),
        retrieved_at, raw_json
    FROM newest
    ORDER BY market_ticker, snapshot_time
    ON CONFLICT (market_ticker, snapshot_time) DO UPDATE SET
        source = EXCLUDED.source,
        sid = EXCLUDED.sid,
        sequence = EXCLUDED.sequence,
        yes_bid_prices = EXCLUDED.yes_bid_prices,
        yes_bid_quantities = EXCLUDED.yes_bid_quantities,
        no_bid_prices = EXCLUDED.no_bid_prices,
        no_bid_quantities = EXCLUDED.no_bid_quantities,
        yes_depth = EXCLUDED.yes_depth,
        no_depth = EXCLUDED.no_depth,
        retrieved_at = EXCLUDED.retrieved_at,
        raw_json = COALESCE(EXCLUDED.raw_json, stored.raw_json)
    WHERE EXCLUDED.retrieved_at > stored.retrieved_at AND (
        stored.source, stored.sid, stored.sequence, stored.yes_bid_prices, stored.yes_bid_quantities, stored.no_bid_prices,
        stored.no_bid_quantities
    ) IS DISTINCT FROM (
        EXCLUDED.source, EXCLUDED.sid, EXCLUDED.sequence, EXCLUDED.yes_bid_prices, EXCLUDED.yes_bid_quantities,
        EXCLUDED.no_bid_prices, EXCLUDED.no_bid_quantities
    )
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: settle_orderbook_snapshots()!
-- Takes out of the staged rows what cannot change anything: what is stored with this content already, and what was seen no later than
-- what is stored. A later sight of stored content moves its retrieved_at, so that an older state that arrives after it does not win; a
-- payload that was not kept before is kept now.
-- @internal step of upsert_orderbook_snapshots
WITH settled AS (
    SELECT
        staged.staged_position, staged.market_ticker, staged.snapshot_time, staged.retrieved_at, staged.raw_json,
        known.retrieved_at AS known_at, known.has_payload, known.is_same
    FROM staged_orderbook_snapshots AS staged
    CROSS JOIN LATERAL (
        SELECT
            known.retrieved_at,
            known.raw_json IS NOT NULL AS has_payload,
            (
                known.source, known.sid, known.sequence, known.yes_bid_prices, known.yes_bid_quantities, known.no_bid_prices,
                known.no_bid_quantities
            ) IS NOT DISTINCT FROM (
                staged.source, staged.sid, staged.sequence, staged.yes_bid_prices, staged.yes_bid_quantities,
                staged.no_bid_prices, staged.no_bid_quantities
            ) AS is_same
        FROM market_data.orderbook_snapshots AS known
        -- BETWEEN, for = would tempt the planner to look a fresh month up by its time alone, which all markets share. OFFSET 0 keeps
        -- this a look into the index for each row: a join might read every month.
        WHERE known.market_ticker = staged.market_ticker
            AND known.snapshot_time BETWEEN staged.snapshot_time AND staged.snapshot_time
        OFFSET 0
    ) AS known
    WHERE known.is_same OR staged.retrieved_at <= known.retrieved_at
),
taken_out AS (
    DELETE FROM staged_orderbook_snapshots
    WHERE staged_position IN (SELECT staged_position FROM settled)
),
latest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time) *
    FROM settled
    WHERE is_same AND (retrieved_at > known_at OR (retrieved_at = known_at AND raw_json IS NOT NULL AND NOT has_payload))
    ORDER BY market_ticker, snapshot_time, retrieved_at DESC, raw_json NULLS LAST
),
held AS (
    -- Locked in the order of the key, as the insert does.
    SELECT stored.market_ticker, stored.snapshot_time
    FROM latest
    CROSS JOIN LATERAL (
        SELECT market_ticker, snapshot_time
        FROM market_data.orderbook_snapshots AS known
        WHERE known.market_ticker = latest.market_ticker
            AND known.snapshot_time BETWEEN latest.snapshot_time AND latest.snapshot_time
        FOR NO KEY UPDATE
    ) AS stored
)
UPDATE market_data.orderbook_snapshots AS stored
SET
    retrieved_at = latest.retrieved_at,
    raw_json = COALESCE(latest.raw_json, stored.raw_json)
FROM held
JOIN latest USING (market_ticker, snapshot_time)
WHERE stored.market_ticker = held.market_ticker
    AND stored.snapshot_time = held.snapshot_time;

-- name: create_partitions_of_orderbook_snapshots()$
-- The months that the staged rows need.
-- @internal step of upsert_orderbook_snapshots
SELECT market_data.create_month_partitions('market_data.orderbook_snapshots', array_agg(DISTINCT date_trunc('month', snapshot_time, 'UTC')))
FROM staged_orderbook_snapshots;

-- name: insert_market_stubs_of_orderbook_snapshots()!
-- A stub for each market that the staged rows name and the catalogue lacks. The venue is a guess until the market itself arrives.
-- @internal step of upsert_orderbook_snapshots
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_orderbook_snapshots
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_orderbook_snapshots.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: insert_orderbook_deltas()^
-- Adds changes of order book levels; one that is stored already, same market, time and sequence, is left as it is.
--
-- An unknown market gets a stub, a missing month its partition.
-- @bulk staged_orderbook_deltas like market_data.orderbook_deltas
-- @one
-- @before create_partitions_of_orderbook_deltas
-- @before insert_market_stubs_of_orderbook_deltas
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, delta_time, sequence) *
    FROM staged_orderbook_deltas
    ORDER BY market_ticker, delta_time, sequence, retrieved_at DESC, staged_position DESC
),
written AS (
    INSERT INTO market_data.orderbook_deltas AS stored (
        market_ticker, delta_time, sequence, sid, side, price, delta, retrieved_at
    )
    SELECT
        market_ticker, delta_time, sequence, sid, side, price, delta, retrieved_at
    FROM newest
    ORDER BY market_ticker, delta_time, sequence
    ON CONFLICT (market_ticker, delta_time, sequence) DO NOTHING
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: create_partitions_of_orderbook_deltas()$
-- The months that the staged rows need.
-- @internal step of insert_orderbook_deltas
SELECT market_data.create_month_partitions('market_data.orderbook_deltas', array_agg(DISTINCT date_trunc('month', delta_time, 'UTC')))
FROM staged_orderbook_deltas;

-- name: insert_market_stubs_of_orderbook_deltas()!
-- A stub for each market that the staged rows name and the catalogue lacks. The venue is a guess until the market itself arrives.
-- @internal step of insert_orderbook_deltas
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_orderbook_deltas
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_orderbook_deltas.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: orderbook_as_of(market_ticker, moment)^
-- The last whole book of a market that had been seen at a moment, or None when there was none.
SELECT *
FROM market_data.orderbook_snapshots
WHERE market_ticker = :market_ticker
    AND snapshot_time <= :moment
ORDER BY snapshot_time DESC
LIMIT 1;

-- name: orderbooks_between(market_ticker, start_time, end_time)
-- Whole books of one market seen in [start_time, end_time), oldest first.
SELECT *
FROM market_data.orderbook_snapshots
WHERE market_ticker = :market_ticker
    AND snapshot_time >= :start_time
    AND snapshot_time < :end_time
ORDER BY snapshot_time;

-- name: orderbook_deltas_between(market_ticker, start_time, end_time)
-- Changes of one market's book in [start_time, end_time), in the order they happened.
SELECT *
FROM market_data.orderbook_deltas
WHERE market_ticker = :market_ticker
    AND delta_time >= :start_time
    AND delta_time < :end_time
ORDER BY delta_time, sequence;

-- name: latest_orderbook(market_ticker)^
-- The last whole book of a market, or None when none is stored.
SELECT *
FROM market_data.orderbook_snapshots
WHERE market_ticker = :market_ticker
ORDER BY snapshot_time DESC
LIMIT 1;

-- name: latest_orderbooks(market_tickers)
-- The last whole book of each of many markets; a market without one is left out.
SELECT latest.*
FROM unnest(:market_tickers::text[]) AS asked (market_ticker)
CROSS JOIN LATERAL (
    SELECT *
    FROM market_data.orderbook_snapshots
    WHERE orderbook_snapshots.market_ticker = asked.market_ticker
    ORDER BY snapshot_time DESC
    LIMIT 1
) AS latest
ORDER BY latest.market_ticker;

-- name: orderbooks_in_window(start_time, end_time)
-- Whole books of all markets seen in [start_time, end_time), oldest first; streamed, so memory stays flat.
-- @stream
SELECT *
FROM market_data.orderbook_snapshots
WHERE snapshot_time >= :start_time
    AND snapshot_time < :end_time
ORDER BY snapshot_time, market_ticker;

-- name: orderbook_deltas_in_window(start_time, end_time)
-- Changes of all markets' books in [start_time, end_time), by market and in the order they happened; streamed, so memory stays flat.
-- @stream
-- @plan read by whole months, for an export; an index on the time alone would cost every insert
SELECT *
FROM market_data.orderbook_deltas
WHERE delta_time >= :start_time
    AND delta_time < :end_time
ORDER BY market_ticker, delta_time, sequence;
