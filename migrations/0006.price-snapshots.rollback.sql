DROP TABLE market_data.price_snapshots;
