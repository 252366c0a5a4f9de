CREATE OR REPLACE VIEW ops.data_freshness AS
SELECT 'market_data.candlesticks' AS table_name, max(end_period_ts) AS latest_at FROM market_data.candlesticks
UNION ALL
SELECT 'market_data.price_snapshots', max(snapshot_time) FROM market_data.price_snapshots
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
COMMENT ON COLUMN market_data.price_snapshots.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN market_data.price_snapshots.snapshot_time IS 'When the quote was seen, UTC; never earlier than it was known, so that an as-of read is honest.';
COMMENT ON TABLE market_data.price_snapshots IS 'One observed quote of one market; monthly partitions by snapshot_time.';
INSERT INTO market_data.price_snapshots (
    market_ticker, snapshot_time, source, sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h, open_interest,
    liquidity, status, title, category, retrieved_at
)
SELECT
    market_ticker, again.seen_at, source, sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h, open_interest,
    liquidity, status, title, category, again.seen_at
FROM market_data.price_snapshots
CROSS JOIN LATERAL unnest(seen_again) AS again (seen_at);
ALTER TABLE market_data.price_snapshots
    DROP CONSTRAINT price_snapshots_seen_again_within_hours_check,
    DROP CONSTRAINT price_snapshots_seen_again_check;
ALTER TABLE market_data.price_snapshots DROP COLUMN seen_again;
