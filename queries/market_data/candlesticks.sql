-- Candlesticks of one minute, one hour and one day.

-- name: upsert_candlesticks()^
-- Writes candlesticks of any markets and lengths.
--
-- The candle of a period that was still open grows: of two states the one retrieved later stays. A candle that occurs twice in the
-- input counts once. An unknown market gets a stub, a missing month its partition.
-- @bulk staged_candlesticks like market_data.candlesticks
-- @one
-- @before create_partitions_of_candlesticks
-- @before insert_market_stubs_of_candlesticks
-- @before settle_candlesticks
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, end_period_ts, period_interval_minutes) *
    FROM staged_candlesticks
    ORDER BY market_ticker, end_period_ts, period_interval_minutes, retrieved_at DESC, staged_position DESC
),
written AS (
    INSERT INTO market_data.candlesticks AS stored (
        market_ticker, end_period_ts, period_interval_minutes, yes_bid_open, yes_bid_high, yes_bid_low, yes_bid_close,
        yes_ask_open, yes_ask_high, yes_ask_low, yes_ask_close, price_open, price_high, price_low, price_close, price_mean,
        price_previous, volume, open_interest, retrieved_at, raw_json
    )
    SELECT
        market_ticker, end_period_ts, period_interval_minutes, yes_bid_open, yes_bid_high, yes_bid_low, yes_bid_close,
        yes_ask_open, yes_ask_high, yes_ask_low, yes_ask_close, price_open, price_high, price_low, price_close, price_mean,
        price_previous, volume, open_interest, retrieved_at, raw_json
    FROM newest
    ORDER BY market_ticker, end_period_ts, period_interval_minutes
    ON CONFLICT (market_ticker, end_period_ts, period_interval_minutes) DO UPDATE SET
        yes_bid_open = EXCLUDED.yes_bid_open,
        yes_bid_high = EXCLUDED.yes_bid_high,
        yes_bid_low = EXCLUDED.yes_bid_low,
        yes_bid_close = EXCLUDED.yes_bid_close,
        yes_ask_open = EXCLUDED.yes_ask_open,
        yes_ask_high = EXCLUDED.yes_ask_high,
        yes_ask_low = EXCLUDED.yes_ask_low,
        yes_ask_close = EXCLUDED.yes_ask_close,
        price_open = EXCLUDED.price_open,
        price_high = EXCLUDED.price_high,
        price_low = EXCLUDED.price_low,
        price_close = EXCLUDED.price_close,
        price_mean = EXCLUDED.price_mean,
        price_previous = EXCLUDED.price_previous,
        volume = EXCLUDED.volume,
        open_interest = EXCLUDED.open_interest,
        retrieved_at = EXCLUDED.retrieved_at,
        raw_json = COALESCE(EXCLUDED.raw_json, stored.raw_json)
    WHERE EXCLUDED.retrieved_at > stored.retrieved_at AND (
        stored.yes_bid_open, stored.yes_bid_high, stored.yes_bid_low, stored.yes_bid_close, stored.yes_ask_open,
        stored.yes_ask_high, stored.yes_ask_low, stored.yes_ask_close, stored.price_open, stored.price_high, stored.price_low,
        stored.price_close, stored.price_mean, stored.price_previous, stored.volume, stored.open_interest
    ) IS DISTINCT FROM (
        EXCLUDED.yes_bid_open, EXCLUDED.yes_bid_high, EXCLUDED.yes_bid_low, EXCLUDED.yes_bid_close, EXCLUDED.yes_ask_open,
        EXCLUDED.yes_ask_high, EXCLUDED.yes_ask_low, EXCLUDED.yes_ask_close, EXCLUDED.price_open, EXCLUDED.price_high,
        EXCLUDED.price_low, EXCLUDED.price_close, EXCLUDED.price_mean, EXCLUDED.price_previous, EXCLUDED.volume,
        EXCLUDED.open_interest
    )
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: settle_candlesticks()!
-- Takes out of the staged rows what cannot change anything: what is stored with this content already, and what was seen no later than
-- what is stored. A later sight of stored content moves its retrieved_at, so that an older state that arrives after it does not win; a
-- payload that was not kept before is kept now.
-- @internal step of upsert_candlesticks
WITH settled AS (
    SELECT
        staged.staged_position, staged.market_ticker, staged.end_period_ts, staged.period_interval_minutes, staged.retrieved_at, staged.raw_json,
        known.retrieved_at AS known_at, known.has_payload, known.is_same
    FROM staged_candlesticks AS staged
    CROSS JOIN LATERAL (
        SELECT
            known.retrieved_at,
            known.raw_json IS NOT NULL AS has_payload,
            (
                known.yes_bid_open, known.yes_bid_high, known.yes_bid_low, known.yes_bid_close, known.yes_ask_open,
                known.yes_ask_high, known.yes_ask_low, known.yes_ask_close, known.price_open, known.price_high, known.price_low,
                known.price_close, known.price_mean, known.price_previous, known.volume, known.open_interest
            ) IS NOT DISTINCT FROM (
                staged.yes_bid_open, staged.yes_bid_high, staged.yes_bid_low, staged.yes_bid_close, staged.yes_ask_open,
                staged.yes_ask_high, staged.yes_ask_low, staged.yes_ask_close, staged.price_open, staged.price_high,
                staged.price_low, staged.price_close, staged.price_mean, staged.price_previous, staged.volume,
                staged.open_interest
            ) AS is_same
        FROM market_data.candlesticks AS known
        -- BETWEEN, for = would tempt the planner to look a fresh month up by its time alone, which all markets share. OFFSET 0 keeps
        -- this a look into the index for each row: a join might read every month.
        WHERE known.market_ticker = staged.market_ticker
            AND known.period_interval_minutes = staged.period_interval_minutes
            AND known.end_period_ts BETWEEN staged.end_period_ts AND staged.end_period_ts
        OFFSET 0
    ) AS known
    WHERE known.is_same OR staged.retrieved_at <= known.retrieved_at
),
taken_out AS (
    DELETE FROM staged_candlesticks
    WHERE staged_position IN (SELECT staged_position FROM settled)
),
latest AS (
    SELECT DISTINCT ON (market_ticker, end_period_ts, period_interval_minutes) *
    FROM settled
    WHERE is_same AND (retrieved_at > known_at OR (retrieved_at = known_at AND raw_json IS NOT NULL AND NOT has_payload))
    ORDER BY market_ticker, end_period_ts, period_interval_minutes, retrieved_at DESC, raw_json NULLS LAST
),
held AS (
    -- Locked in the order of the key, as the insert does.
    SELECT stored.market_ticker, stored.end_period_ts, stored.period_interval_minutes
    FROM latest
    CROSS JOIN LATERAL (
        SELECT market_ticker, end_period_ts, period_interval_minutes
        FROM market_data.candlesticks AS known
        WHERE known.market_ticker = latest.market_ticker
            AND known.period_interval_minutes = latest.period_interval_minutes
            AND known.end_period_ts BETWEEN latest.end_period_ts AND latest.end_period_ts
        FOR NO KEY UPDATE
    ) AS stored
)
UPDATE market_data.candlesticks AS stored
SET
    retrieved_at = latest.retrieved_at,
    raw_json = COALESCE(latest.raw_json, stored.raw_json)
FROM held
JOIN latest USING (market_ticker, end_period_ts, period_interval_minutes)
WHERE stored.market_ticker = held.market_ticker
    AND stored.end_period_ts = held.end_period_ts
    AND stored.period_interval_minutes = held.period_interval_minutes;

-- name: create_partitions_of_candlesticks()$
-- The months that the staged rows need.
-- @internal step of upsert_candlesticks
SELECT market_data.create_month_partitions('market_data.candlesticks', array_agg(DISTINCT date_trunc('month', end_period_ts, 'UTC')))
FROM staged_candlesticks;

-- name: insert_market_stubs_of_candlesticks()!
-- A stub for each market that the staged rows name and the catalogue lacks. The venue is a guess until the market itself arrives.
-- @internal step of upsert_candlesticks
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_candlesticks
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_candlesticks.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: candlesticks_between(market_ticker, period_interval_minutes, start_ts, end_ts)
-- Candlesticks of one market whose period ends in [start_ts, end_ts), oldest first.
--
-- Candles are sparse: a period in which nothing moved has none.
SELECT *
FROM market_data.candlesticks
WHERE market_ticker = :market_ticker
    AND period_interval_minutes = :period_interval_minutes
    AND end_period_ts >= :start_ts
    AND end_period_ts < :end_ts
ORDER BY end_period_ts;

-- name: candlesticks_of_event(event_ticker, period_interval_minutes, start_ts, end_ts)
-- Candlesticks of all markets of one event whose period ends in [start_ts, end_ts), by market, oldest first.
SELECT candlesticks.*
FROM catalog.markets
JOIN market_data.candlesticks ON candlesticks.market_ticker = markets.market_ticker
WHERE markets.event_ticker = :event_ticker
    AND candlesticks.period_interval_minutes = :period_interval_minutes
    AND candlesticks.end_period_ts >= :start_ts
    AND candlesticks.end_period_ts < :end_ts
ORDER BY candlesticks.market_ticker, candlesticks.end_period_ts;

-- name: candlesticks_in_window(period_interval_minutes, start_ts, end_ts)
-- Candlesticks of all markets whose period ends in [start_ts, end_ts), oldest first; streamed, so memory stays flat.
-- @stream
SELECT *
FROM market_data.candlesticks
WHERE period_interval_minutes = :period_interval_minutes
    AND end_period_ts >= :start_ts
    AND end_period_ts < :end_ts
ORDER BY end_period_ts, market_ticker;

-- name: candlestick_as_of(market_ticker, period_interval_minutes, moment)^
-- The last candlestick of a market whose period had ended at a moment, or None when there was none.
SELECT *
FROM market_data.candlesticks
WHERE market_ticker = :market_ticker
    AND period_interval_minutes = :period_interval_minutes
    AND end_period_ts <= :moment
ORDER BY end_period_ts DESC
LIMIT 1;
