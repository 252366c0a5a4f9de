DROP VIEW market_data.sequence_gaps;
DROP TABLE market_data.orderbook_deltas;
DROP TABLE market_data.orderbook_snapshots;
