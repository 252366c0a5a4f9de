-- The rules go back to what 0026 made: rows from before it are not vouched for.
ALTER TABLE market_data.price_snapshots
    DROP CONSTRAINT price_snapshots_seen_again_check,
    DROP CONSTRAINT price_snapshots_seen_again_within_hours_check;
ALTER TABLE market_data.price_snapshots
    ADD CONSTRAINT price_snapshots_seen_again_check CHECK (array_position(seen_again, NULL) IS NULL) NOT VALID;
ALTER TABLE market_data.price_snapshots
    ADD CONSTRAINT price_snapshots_seen_again_within_hours_check CHECK (
        source = 'poll'
        AND seen_again[1] > snapshot_time
        AND seen_again[cardinality(seen_again)] - snapshot_time <= interval '6 hours'
        OR seen_again IS NULL
    ) NOT VALID;
