-- A poll that finds a quote unchanged adds a moment to the row of that quote, not a row.
--
-- Why: 84 % of the quotes of a poll equal those of the poll before, and each was a row of its own. Now a row holds every moment at which
-- its quote was seen: the first in snapshot_time, later ones in seen_again. Each moment is kept, not only the last: an as-of read asks
-- when the quote was last seen by a decision, which a mere end would answer with a sight from after the decision; and a quote that
-- arrives late between two sights parts the row exactly there. A row reaches over 6 hours at most, so that a reader finds it within
-- 6 hours of what it asks for, holds 48 more sights at most, so that it stays short, and none of another month than its own, so that
-- a partition has all of its month. Rows from before are as they were: seen once.
-- Locks: ACCESS EXCLUSIVE on market_data.price_snapshots for a moment; no row is read (the next migration validates). The view
-- ops.data_freshness is replaced.
-- Undo: every sight becomes a row again, which takes its time where there are many; nothing is lost.
-- depends: 0025.gaps-are-what-never-came

ALTER TABLE market_data.price_snapshots ADD COLUMN seen_again timestamptz [];

COMMENT ON COLUMN market_data.price_snapshots.seen_again IS 'Later moments at which a poll found the quote unchanged, ascending, UTC; null where it was seen once. Up to 6 hours after snapshot_time; each is also when that sight reached us.';

ALTER TABLE market_data.price_snapshots
    ADD CONSTRAINT price_snapshots_seen_again_check CHECK (array_position(seen_again, NULL) IS NULL) NOT VALID;
ALTER TABLE market_data.price_snapshots
    ADD CONSTRAINT price_snapshots_seen_again_within_hours_check CHECK (
        source = 'poll'
        AND seen_again[1] > snapshot_time
        AND seen_again[cardinality(seen_again)] - snapshot_time <= interval '6 hours'
        OR seen_again IS NULL
    ) NOT VALID;

COMMENT ON TABLE market_data.price_snapshots IS 'One observed quote of one market, with each moment at which it was seen unchanged; monthly partitions by snapshot_time.';
COMMENT ON COLUMN market_data.price_snapshots.snapshot_time IS 'When the quote was first seen, UTC; never earlier than it was known, so that an as-of read is honest. Again: seen_again.';
COMMENT ON COLUMN market_data.price_snapshots.retrieved_at IS 'When the first sight reached us, UTC.';

CREATE OR REPLACE VIEW ops.data_freshness AS
SELECT 'market_data.candlesticks' AS table_name, max(end_period_ts) AS latest_at FROM market_data.candlesticks
UNION ALL
-- Of the newest rows also when they were seen again. Where more than these were new within 6 hours, the newest one is fresh itself.
SELECT 'market_data.price_snapshots', max(GREATEST(snapshot_time, seen_again[cardinality(seen_again)]))
FROM (SELECT snapshot_time, seen_again FROM market_data.price_snapshots ORDER BY snapshot_time DESC LIMIT 10000) AS newest
UNION ALL
SELECT 'market_data.orderbook_snapshots', max(snapshot_time) FROM market_data.orderbook_snapshots
UNION ALL
SELECT 'market_data.public_trades', max(created_time) FROM market_data.public_trades
UNION ALL
SELECT 'catalog.settlements', max(settled_at) FROM catalog.settlements
UNION ALL
SELECT 'research.market_analyses', max(analyzed_at) FROM research.market_analyses
UNION ALL
SELECT 'ops.ingest_runs', max(started_at) FROM ops.ingest_runs;
