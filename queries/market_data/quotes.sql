-- Quotes as observed.

-- name: upsert_price_snapshots()^
-- Writes observed quotes.
--
-- A quote with the market, time and source of a stored one replaces it only if it was retrieved later and differs. One that occurs
-- twice in the input counts once. An unknown market gets a stub, a missing month its partition.
-- @bulk staged_price_snapshots like market_data.price_snapshots
-- @one
-- @before create_partitions_of_price_snapshots
-- @before insert_market_stubs_of_price_snapshots
-- @before settle_price_snapshots
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time, source) *
    FROM staged_price_snapshots
    ORDER BY market_ticker, snapshot_time, source, retrieved_at DESC, staged_position DESC
),
written AS (
    INSERT INTO market_data.price_snapshots AS stored (
        market_ticker, snapshot_time, source, sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h,
        open_interest, liquidity, status, title, category, retrieved_at, raw_json
    )
    SELECT
        market_ticker, snapshot_time, source, sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h,
        open_interest, liquidity, status, title, category, retrieved_at, raw_json
    FROM newest
    ORDER BY market_ticker, snapshot_time, source
    ON CONFLICT (market_ticker, snapshot_time, source) DO UPDATE SET
        sequence = EXCLUDED.sequence,
        yes_bid = EXCLUDED.yes_bid,
        yes_ask = EXCLUDED.yes_ask,
        no_bid = EXCLUDED.no_bid,
        no_ask = EXCLUDED.no_ask,
        last_price = EXCLUDED.last_price,
        volume = EXCLUDED.volume,
        volume_24h = EXCLUDED.volume_24h,
        open_interest = EXCLUDED.open_interest,
        liquidity = EXCLUDED.liquidity,
        status = EXCLUDED.status,
        title = EXCLUDED.title,
        category = EXCLUDED.category,
        retrieved_at = EXCLUDED.retrieved_at,
        raw_json = COALESCE(EXCLUDED.raw_json, stored.raw_json)
    WHERE EXCLUDED.retrieved_at > stored.retrieved_at AND (
        stored.sequence, stored.yes_bid, stored.yes_ask, stored.no_bid, stored.no_ask, stored.last_price, stored.volume,
        stored.volume_24h, stored.open_interest, stored.liquidity, stored.status, stored.title, stored.category
    ) IS DISTINCT FROM (
        EXCLUDED.sequence, EXCLUDED.yes_bid, EXCLUDED.yes_ask, EXCLUDED.no_bid, EXCLUDED.no_ask, EXCLUDED.last_price,
        EXCLUDED.volume, EXCLUDED.volume_24h, EXCLUDED.open_interest, EXCLUDED.liquidity, EXCLUDED.status, EXCLUDED.title,
        EXCLUDED.category
    )
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: settle_price_snapshots()!
-- Takes out of the staged rows what cannot change anything: what is stored with this content already, and what was seen no later than
-- what is stored. A later sight of stored content moves its retrieved_at, so that an older state that arrives after it does not win; a
-- payload that was not kept before is kept now.
-- @internal step of upsert_price_snapshots
WITH settled AS (
    SELECT
        staged.staged_position, staged.market_ticker, staged.snapshot_time, staged.source, staged.retrieved_at, staged.raw_json,
        known.retrieved_at AS known_at, known.has_payload, known.is_same
    FROM staged_price_snapshots AS staged
    CROSS JOIN LATERAL (
        SELECT
            known.retrieved_at,
            known.raw_json IS NOT NULL AS has_payload,
            (
                known.sequence, known.yes_bid, known.yes_ask, known.no_bid, known.no_ask, known.last_price, known.volume,
                known.volume_24h, known.open_interest, known.liquidity, known.status, known.title, known.category
            ) IS NOT DISTINCT FROM (
                staged.sequence, staged.yes_bid, staged.yes_ask, staged.no_bid, staged.no_ask, staged.last_price, staged.volume,
                staged.volume_24h, staged.open_interest, staged.liquidity, staged.status, staged.title, staged.category
            ) AS is_same
        FROM market_data.price_snapshots AS known
        -- BETWEEN, for = would tempt the planner to look a fresh month up by its time alone, which all markets share. OFFSET 0 keeps
        -- this a look into the index for each row: a join might read every month.
        WHERE known.market_ticker = staged.market_ticker
            AND known.source = staged.source
            AND known.snapshot_time BETWEEN staged.snapshot_time AND staged.snapshot_time
        OFFSET 0
    ) AS known
    WHERE known.is_same OR staged.retrieved_at <= known.retrieved_at
),
taken_out AS (
    DELETE FROM staged_price_snapshots
    WHERE staged_position IN (SELECT staged_position FROM settled)
),
latest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time, source) *
    FROM settled
    WHERE is_same AND (retrieved_at > known_at OR (retrieved_at = known_at AND raw_json IS NOT NULL AND NOT has_payload))
    ORDER BY market_ticker, snapshot_time, source, retrieved_at DESC, raw_json NULLS LAST
),
held AS (
    -- Locked in the order of the key, as the insert does.
    SELECT stored.market_ticker, stored.snapshot_time, stored.source
    FROM latest
    CROSS JOIN LATERAL (
        SELECT market_ticker, snapshot_time, source
        FROM market_data.price_snapshots AS known
        WHERE known.market_ticker = latest.market_ticker
            AND known.source = latest.source
            AND known.snapshot_time BETWEEN latest.snapshot_time AND latest.snapshot_time
        FOR NO KEY UPDATE
    ) AS stored
)
UPDATE market_data.price_snapshots AS stored
SET
    retrieved_at = latest.retrieved_at,
    raw_json = COALESCE(latest.raw_json, stored.raw_json)
FROM held
JOIN latest USING (market_ticker, snapshot_time, source)
WHERE stored.market_ticker = held.market_ticker
    AND stored.snapshot_time = held.snapshot_time
    AND stored.source = held.source;

-- name: create_partitions_of_price_snapshots()$
-- The months that the staged rows need.
-- @internal step of upsert_price_snapshots
SELECT market_data.create_month_partitions('market_data.price_snapshots', array_agg(DISTINCT date_trunc('month', snapshot_time, 'UTC')))
FROM staged_price_snapshots;

-- name: insert_market_stubs_of_price_snapshots()!
-- A stub for each market that the staged rows name and the catalogue lacks. The venue is a guess until the market itself arrives.
-- @internal step of upsert_price_snapshots
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_price_snapshots
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_price_snapshots.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: latest_snapshot(market_ticker)^
-- The freshest quote of one market, or None when none is stored.
SELECT *
FROM market_data.price_snapshots
WHERE market_ticker = :market_ticker
ORDER BY snapshot_time DESC, source
LIMIT 1;

-- name: latest_snapshots(market_tickers)
-- The freshest quote of each of many markets; a market without one is left out.
SELECT latest.*
FROM unnest(:market_tickers::text[]) AS asked (market_ticker)
CROSS JOIN LATERAL (
    SELECT *
    FROM market_data.price_snapshots
    WHERE price_snapshots.market_ticker = asked.market_ticker
    ORDER BY snapshot_time DESC, source
    LIMIT 1
) AS latest
ORDER BY latest.market_ticker;

-- name: freshest_quotes(how_many)
-- The open markets with the most contracts traded, each with its freshest quote; what is going on right now.
SELECT
    markets.market_ticker,
    markets.title,
    markets.yes_sub_title,
    markets.close_time,
    markets.volume,
    quote.snapshot_time,
    quote.yes_bid,
    quote.yes_ask,
    quote.last_price,
    quote.implied_probability
FROM catalog.markets
CROSS JOIN LATERAL (
    SELECT *
    FROM market_data.price_snapshots
    WHERE price_snapshots.market_ticker = markets.market_ticker
    ORDER BY snapshot_time DESC, source
    LIMIT 1
) AS quote
WHERE markets.status = 'active'
ORDER BY markets.volume DESC NULLS LAST, markets.market_ticker
LIMIT :how_many;

-- name: snapshots_between(market_ticker, start_time, end_time)
-- Quotes of one market seen in [start_time, end_time), oldest first, from every source.
SELECT *
FROM market_data.price_snapshots
WHERE market_ticker = :market_ticker
    AND snapshot_time >= :start_time
    AND snapshot_time < :end_time
ORDER BY snapshot_time, source;

-- name: snapshots_in_window(start_time, end_time)
-- Quotes of all markets seen in [start_time, end_time), oldest first; streamed, so memory stays flat.
-- @stream
SELECT *
FROM market_data.price_snapshots
WHERE snapshot_time >= :start_time
    AND snapshot_time < :end_time
ORDER BY snapshot_time, market_ticker, source;

-- name: quotes_as_of(market_tickers, decision_times, max_age)
-- The quote that was known at each decision time, for many (market, time) pairs in one round trip, in the order asked.
--
-- A pair whose last quote is older than max_age comes back with null prices: absent is not zero, and the caller must see that nothing
-- was known. Never looks past the decision time; that is what keeps a backtest honest.
-- @pairs market_tickers, decision_times
-- @column market_ticker not null: an element of the array that was asked
-- @column decision_time not null: an element of the array that was asked
WITH asked AS (
    SELECT position, market_ticker, decision_time
    FROM unnest(:market_tickers::text[], :decision_times::timestamptz[])
        WITH ORDINALITY AS pairs (market_ticker, decision_time, position)
)
SELECT
    asked.position,
    asked.market_ticker,
    asked.decision_time,
    quote.snapshot_time,
    quote.source,
    quote.yes_bid,
    quote.yes_ask,
    quote.no_bid,
    quote.no_ask,
    quote.last_price,
    quote.implied_probability
FROM asked
LEFT JOIN LATERAL (
    SELECT *
    FROM market_data.price_snapshots AS snapshots
    WHERE snapshots.market_ticker = asked.market_ticker
        AND snapshots.snapshot_time <= asked.decision_time
        AND snapshots.snapshot_time >= asked.decision_time - :max_age::interval
    ORDER BY snapshots.snapshot_time DESC, snapshots.source
    LIMIT 1
) AS quote ON true
ORDER BY asked.position;

-- name: sequence_gaps()
-- Numbers that a stream used up and that did not reach us; what came late, twice or from a new connection is no gap.
-- @plan a gap shows only next to its neighbours, so every streamed row is looked at
SELECT *
FROM market_data.sequence_gaps
ORDER BY seen_at, stream, counted_by;
