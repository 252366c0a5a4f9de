-- What comes late, twice or from a new connection is no gap.
--
-- Why: sequence_gaps walked the rows by time alone. A row that came after its successor (5, 7, 6) made a
-- false gap, and so did a repeated one (5, 6, 7, 6, 8): what had been seen was called missing. Now a stream's rows are first parted
-- where its counter began again, and in each part the numbers count, not the times.
-- Locks: ACCESS EXCLUSIVE on the view for a moment, for whoever reads it; no table is touched.
-- Undo: the view walks by time again; no data is lost.
-- depends: 0024.exits-after-entries

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
surroundings AS (
    SELECT
        *,
        min(sequence) OVER (arrived ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING) AS lowest_before,
        lead(sequence) OVER arrived AS next_sequence
    FROM sequenced
    WINDOW arrived AS (PARTITION BY stream, counted_by ORDER BY seen_at, sequence)
),
numbered AS (
    -- The counter began again where a row is far below all of the 20 before it and the next one stays there. A row that is only late lies
    -- among those 20, or just below them, or is followed by a row that goes on above. Connections count from 1, so whoever is wrongly
    -- taken for late is so near the beginning that a few numbers are at stake.
    SELECT
        stream,
        counted_by,
        seen_at,
        sequence,
        count(*) FILTER (WHERE sequence < lowest_before - 5 AND COALESCE(next_sequence < lowest_before, true)) OVER (
            PARTITION BY stream, counted_by ORDER BY seen_at, sequence
        ) AS epoch
    FROM surroundings
),
neighbours AS (
    SELECT
        stream,
        counted_by,
        lag(seen_at) OVER steps AS last_seen_at,
        seen_at,
        lag(sequence) OVER steps AS last_sequence,
        sequence
    FROM numbered
    WINDOW steps AS (PARTITION BY stream, counted_by, epoch ORDER BY sequence, seen_at)
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

COMMENT ON VIEW market_data.sequence_gaps IS 'Numbers that a stream used up and that did not reach us, late ones and repetitions aside. The ticker stream counts within a market, the book stream within a subscription over all its markets; each begins again with its connection, which is no gap. Control frames take numbers too, so an orderbook gap may be one of them.';
COMMENT ON COLUMN market_data.sequence_gaps.last_seen_at IS 'When the row numbered just before the gap was seen, UTC; after seen_at where one of both came late.';
COMMENT ON COLUMN market_data.sequence_gaps.seen_at IS 'When the row numbered just after the gap was seen, UTC.';
