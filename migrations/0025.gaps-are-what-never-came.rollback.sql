CREATE OR REPLACE VIEW market_data.sequence_gaps AS
WITH sequenced AS (
    -- The ticker stream counts within a market, the book stream within a subscription over all its markets.
    SELECT 'price_snapshots' AS stream, market_ticker::text AS counted_by, snapshot_time AS seen_at, sequence
    FROM market_data.price_snapshots
    WHERE sequence IS NOT NULL
    UNION ALL
    SELECT 'orderbook', sid::text, snapshot_time, sequence
    FROM market_data.orderbook_snapshots
    WHERE sequence IS NOT NULL
    UNION ALL
    SELECT 'orderbook', sid::text, delta_time, sequence
    FROM market_data.orderbook_deltas
),
neighbours AS (
    SELECT
        stream,
        counted_by,
        lag(seen_at) OVER steps AS last_seen_at,
        seen_at,
        lag(sequence) OVER steps AS last_sequence,
        sequence
    FROM sequenced
    WINDOW steps AS (PARTITION BY stream, counted_by ORDER BY seen_at, sequence)
)
SELECT
    stream,
    counted_by,
    last_seen_at,
    seen_at,
    last_sequence + 1 AS first_missing,
    sequence - 1 AS last_missing
FROM neighbours
WHERE sequence > last_sequence + 1;

COMMENT ON VIEW market_data.sequence_gaps IS 'Where a stream''s sequence jumps: what was sent in between did not reach us. Control frames take numbers too, so an orderbook gap may be one of them.';
COMMENT ON COLUMN market_data.sequence_gaps.last_seen_at IS 'When the last row before the gap was seen, UTC.';
COMMENT ON COLUMN market_data.sequence_gaps.seen_at IS 'When the first row after the gap was seen, UTC.';
