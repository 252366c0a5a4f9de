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
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time) *
    FROM staged_orderbook_snapshots
    -- Of two at the same moment the content decides, here and below, so that the order of arrival never does.
    ORDER BY market_ticker, snapshot_time, retrieved_at DESC, ROW(
        source, sid, sequence, yes_bid_prices, yes_bid_quantities, no_bid_prices, no_bid_quantities, raw_json IS NOT NULL,
        raw_json
    )::record DESC
),
confirmed AS (
    -- Stored with this content already: a later sight of it moves retrieved_at and counts as unchanged.
    SELECT newest.market_ticker, newest.snapshot_time
    FROM newest
    WHERE EXISTS (
        SELECT
        FROM market_data.orderbook_snapshots AS known
        WHERE known.market_ticker = newest.market_ticker
            AND known.snapshot_time = newest.snapshot_time
            AND (
                newest.source, newest.sid, newest.sequence, newest.yes_bid_prices, newest.yes_bid_quantities, newest.no_bid_prices,
                newest.no_bid_quantities
            ) IS NOT DISTINCT FROM (
                known.source, known.sid, known.sequence, known.yes_bid_prices, known.yes_bid_quantities, known.no_bid_prices,
                known.no_bid_quantities
            )
        -- Keeps this a look into the index for each row: a join might read every month.
        OFFSET 0
    )
),
written AS (
    INSERT INTO market_data.orderbook_snapshots AS stored (
        market_ticker, snapshot_time, source, sid, sequence, yes_bid_prices, yes_bid_quantities, no_bid_prices, no_bid_quantities,
        yes_depth, no_depth, retrieved_at, raw_json
    )
    SELECT
        market_ticker, snapshot_time, source, sid, sequence, yes_bid_prices, yes_bid_quantities, no_bid_prices, no_bid_quantities,
        (SELECT COALESCE(sum(quantity), 0) FROM unnest(yes_bid_quantities) AS quantity), (SELECT COALESCE(sum(quantity), 0) FROM
        unnest(no_bid_quantities) AS quantity), retrieved_at, raw_json
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
    WHERE EXCLUDED.retrieved_at > stored.retrieved_at OR (
        -- As records and not as rows, because a row with a null compares with nothing.
        EXCLUDED.retrieved_at = stored.retrieved_at AND ROW(
            EXCLUDED.source, EXCLUDED.sid, EXCLUDED.sequence, EXCLUDED.yes_bid_prices, EXCLUDED.yes_bid_quantities,
            EXCLUDED.no_bid_prices, EXCLUDED.no_bid_quantities, EXCLUDED.raw_json IS NOT NULL, EXCLUDED.raw_json
        )::record > ROW(
            stored.source, stored.sid, stored.sequence, stored.yes_bid_prices, stored.yes_bid_quantities, stored.no_bid_prices,
            stored.no_bid_quantities, stored.raw_json IS NOT NULL, stored.raw_json
        )::record
    )
    RETURNING market_ticker, snapshot_time
)
SELECT count(*) AS written FROM (TABLE written EXCEPT TABLE confirmed) AS changed;

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
