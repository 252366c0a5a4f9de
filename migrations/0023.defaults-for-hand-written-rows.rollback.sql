ALTER TABLE trading.account_balances
    ALTER COLUMN currency DROP DEFAULT;
ALTER TABLE ops.backfill_checkpoints
    ALTER COLUMN attempts DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
ALTER TABLE market_data.public_trades
    ALTER COLUMN is_block_trade DROP DEFAULT,
    ALTER COLUMN retrieved_at DROP DEFAULT;
ALTER TABLE market_data.orderbook_deltas
    ALTER COLUMN retrieved_at DROP DEFAULT;
ALTER TABLE market_data.orderbook_snapshots
    ALTER COLUMN retrieved_at DROP DEFAULT;
ALTER TABLE market_data.price_snapshots
    ALTER COLUMN retrieved_at DROP DEFAULT;
ALTER TABLE market_data.candlesticks
    ALTER COLUMN period_interval_minutes DROP DEFAULT,
    ALTER COLUMN retrieved_at DROP DEFAULT;
ALTER TABLE catalog.market_lifecycle
    ALTER COLUMN retrieved_at DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT;
ALTER TABLE catalog.settlements
    ALTER COLUMN retrieved_at DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT;
ALTER TABLE catalog.market_versions
    ALTER COLUMN created_at DROP DEFAULT;
ALTER TABLE catalog.stations
    ALTER COLUMN series_tickers DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
ALTER TABLE catalog.markets
    ALTER COLUMN is_stub DROP DEFAULT,
    ALTER COLUMN retrieved_at DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
ALTER TABLE catalog.events
    ALTER COLUMN is_stub DROP DEFAULT,
    ALTER COLUMN retrieved_at DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
ALTER TABLE catalog.series
    ALTER COLUMN is_stub DROP DEFAULT,
    ALTER COLUMN retrieved_at DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
ALTER TABLE catalog.platforms
    ALTER COLUMN status DROP DEFAULT,
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
