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

-- name: orderbook_at(market_ticker, moment)^
-- The order book of a market at a moment, rebuilt from the last whole book and the changes after it; and what is known of it.
--
-- status says it: `known` (the stream was heard without a gap up to the moment, or a book was seen at that very moment); `last_seen` (the
-- book as of an earlier moment, as_of: the last that was polled, or where the stream broke off); `none` (nothing is stored of it
-- until then: levels, as_of and source are null, and earliest is when the first book after the moment was seen, null when there is none).
-- A book that is known to be empty has empty lists. Prices in dollars, ascending, the best last; quantities in contracts.
--
-- Changes follow their snapshot by the number of the stream and not by a clock, as a snapshot says no time of its own. Numbers and
-- subscriptions begin anew with each connection, so a snapshot's changes are those with its sid and a larger number that arrived after
-- it, and before the count began anew.
-- @one
WITH asked AS (
    SELECT :market_ticker::text AS market_ticker, :moment::timestamptz AS moment
),
span AS (
    -- The last span without a gap that had begun; how far into it is asked.
    SELECT lower(spans.span) AS since, least(upper(spans.span), asked.moment) AS until, spans.span @> asked.moment AS is_known
    FROM asked
    JOIN ops.coverage
        ON coverage.market_ticker = asked.market_ticker AND coverage.kind = 'orderbook' AND coverage.period_interval_minutes = 0
    CROSS JOIN LATERAL unnest(coverage.covered) AS spans (span)
    WHERE lower(spans.span) <= asked.moment
    ORDER BY lower(spans.span) DESC
    LIMIT 1
),
streamed AS (
    SELECT
        snapshot.market_ticker, snapshot.snapshot_time, snapshot.retrieved_at, snapshot.sid, snapshot.sequence,
        snapshot.yes_bid_prices, snapshot.yes_bid_quantities, snapshot.no_bid_prices, snapshot.no_bid_quantities,
        span.until, span.is_known,
        -- A change after the snapshot may have an earlier time: the exchange's, not that of its arrival. No clock is off by an hour.
        snapshot.snapshot_time - interval '1 hour' AS changes_from,
        CASE WHEN span.is_known THEN span.until + interval '1 microsecond' ELSE span.until END AS changes_until
    FROM asked
    CROSS JOIN span
    CROSS JOIN LATERAL (
        SELECT *
        FROM market_data.orderbook_snapshots
        WHERE orderbook_snapshots.market_ticker = asked.market_ticker
            AND orderbook_snapshots.snapshot_time >= span.since
            AND orderbook_snapshots.snapshot_time <= span.until
            AND orderbook_snapshots.source = 'websocket'
            AND orderbook_snapshots.sequence IS NOT NULL
        ORDER BY orderbook_snapshots.snapshot_time DESC
        LIMIT 1
    ) AS snapshot
),
seen AS (
    -- The last whole book, however it came.
    SELECT snapshot.*
    FROM asked
    CROSS JOIN LATERAL (
        SELECT *
        FROM market_data.orderbook_snapshots
        WHERE orderbook_snapshots.market_ticker = asked.market_ticker AND orderbook_snapshots.snapshot_time <= asked.moment
        ORDER BY orderbook_snapshots.snapshot_time DESC
        LIMIT 1
    ) AS snapshot
),
following AS (
    -- When the stream began to count anew: what arrived since does not follow this snapshot. A later snapshot within the same count
    -- ends nothing: what it says is in the changes, too.
    SELECT min(snapshot.retrieved_at) AS arrived_at
    FROM streamed
    CROSS JOIN LATERAL (
        SELECT orderbook_snapshots.retrieved_at
        FROM market_data.orderbook_snapshots
        WHERE orderbook_snapshots.market_ticker = streamed.market_ticker
            AND orderbook_snapshots.snapshot_time > streamed.snapshot_time
            -- Later ones have no say: no change that is asked for arrived so late.
            AND orderbook_snapshots.snapshot_time < streamed.changes_until + interval '1 hour'
            AND orderbook_snapshots.source = 'websocket'
            AND (orderbook_snapshots.sid <> streamed.sid OR orderbook_snapshots.sequence <= streamed.sequence)
        ORDER BY orderbook_snapshots.snapshot_time
        LIMIT 1
    ) AS snapshot
),
changes AS (
    SELECT deltas.side::text AS side, deltas.price::numeric AS price, deltas.delta
    FROM streamed
    CROSS JOIN following
    CROSS JOIN LATERAL (
        SELECT *
        FROM market_data.orderbook_deltas
        WHERE orderbook_deltas.market_ticker = streamed.market_ticker
            AND orderbook_deltas.delta_time >= streamed.changes_from
            AND orderbook_deltas.delta_time < streamed.changes_until
            AND orderbook_deltas.sid = streamed.sid
            AND orderbook_deltas.sequence > streamed.sequence
            AND orderbook_deltas.retrieved_at >= streamed.retrieved_at
    ) AS deltas
    WHERE following.arrived_at IS NULL OR deltas.retrieved_at < following.arrived_at
),
levels AS (
    SELECT side, price, sum(quantity)::numeric(18, 2) AS quantity
    FROM (
        SELECT 'yes' AS side, bids.price, bids.quantity
        FROM streamed
        CROSS JOIN LATERAL unnest(streamed.yes_bid_prices, streamed.yes_bid_quantities) AS bids (price, quantity)
        UNION ALL
        SELECT 'no', bids.price, bids.quantity
        FROM streamed
        CROSS JOIN LATERAL unnest(streamed.no_bid_prices, streamed.no_bid_quantities) AS bids (price, quantity)
        UNION ALL
        SELECT side, price, delta FROM changes
    ) AS counted
    GROUP BY side, price
    HAVING sum(quantity) <> 0
),
candidates AS (
    SELECT
        CASE WHEN streamed.is_known THEN 0 ELSE 2 END AS rank,
        streamed.until AS as_of,
        'websocket' AS source,
        COALESCE((SELECT array_agg(price ORDER BY price) FROM levels WHERE side = 'yes'), '{}')::numeric(7, 6)[] AS yes_bid_prices,
        COALESCE((SELECT array_agg(quantity ORDER BY price) FROM levels WHERE side = 'yes'), '{}')::numeric(18, 2)[] AS yes_bid_quantities,
        COALESCE((SELECT array_agg(price ORDER BY price) FROM levels WHERE side = 'no'), '{}')::numeric(7, 6)[] AS no_bid_prices,
        COALESCE((SELECT array_agg(quantity ORDER BY price) FROM levels WHERE side = 'no'), '{}')::numeric(18, 2)[] AS no_bid_quantities
    FROM streamed
    UNION ALL
    SELECT
        CASE WHEN seen.snapshot_time = asked.moment THEN 1 ELSE 2 END,
        seen.snapshot_time, seen.source::text, seen.yes_bid_prices, seen.yes_bid_quantities, seen.no_bid_prices, seen.no_bid_quantities
    FROM asked
    CROSS JOIN seen
),
best AS (
    SELECT *
    FROM candidates
    ORDER BY rank, as_of DESC
    LIMIT 1
)
SELECT
    asked.market_ticker,
    asked.moment,
    -- A span ends before its upper bound: of that very moment nothing is known.
    CASE WHEN best.as_of IS NULL THEN 'none' WHEN best.rank < 2 THEN 'known' ELSE 'last_seen' END AS status,
    best.as_of,
    best.source,
    best.yes_bid_prices,
    best.yes_bid_quantities,
    best.no_bid_prices,
    best.no_bid_quantities,
    CASE WHEN best.as_of IS NULL THEN (
        SELECT orderbook_snapshots.snapshot_time
        FROM market_data.orderbook_snapshots
        WHERE orderbook_snapshots.market_ticker = asked.market_ticker AND orderbook_snapshots.snapshot_time > asked.moment
        ORDER BY orderbook_snapshots.snapshot_time
        LIMIT 1
    ) END AS earliest
FROM asked
LEFT JOIN best ON true;

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
