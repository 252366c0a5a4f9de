DROP TABLE ops.stream_gaps;
DELETE FROM ops.coverage WHERE kind = 'orderbook';
ALTER TABLE ops.coverage
    DROP CONSTRAINT coverage_kind_check,
    ADD CONSTRAINT coverage_kind_check CHECK (kind IN ('candlesticks', 'trades'));
COMMENT ON COLUMN ops.coverage.kind IS 'candlesticks or trades.';
COMMENT ON COLUMN ops.coverage.period_interval_minutes IS 'Length of the candlesticks in minutes; 0 for trades.';
COMMENT ON COLUMN ops.coverage.covered IS 'The spans, half-open, UTC: every candlestick that ends, or trade that happened, within them is stored.';
