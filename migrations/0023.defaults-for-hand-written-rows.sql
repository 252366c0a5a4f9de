-- A row that is written by hand needs to say only what it is about.
--
-- Why: whoever adds a venue, a series or a market in psql had to know of is_stub and of three times that the loaders fill, and was refused
-- for them one by one. What a person means by leaving them out is not in doubt: no stub, seen now, written now. Our own statements go on
-- naming every column, so no upsert relies on a default; what no default can know (environment, the time of an observation) has none.
-- Locks: ACCESS EXCLUSIVE on each table and on its months, for a moment: only the catalogue of the server changes, no row is touched.
-- Undo: drops the defaults; nothing is lost.
-- depends: 0022.unsettled-markets

ALTER TABLE catalog.platforms
    ALTER COLUMN status SET DEFAULT 'active',
    ALTER COLUMN created_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN updated_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.series
    ALTER COLUMN is_stub SET DEFAULT false,
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN created_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN updated_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.events
    ALTER COLUMN is_stub SET DEFAULT false,
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN created_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN updated_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.markets
    ALTER COLUMN is_stub SET DEFAULT false,
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN created_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN updated_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.stations
    ALTER COLUMN series_tickers SET DEFAULT '{}',
    ALTER COLUMN created_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN updated_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.market_versions
    ALTER COLUMN created_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.settlements
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN created_at SET DEFAULT statement_timestamp();

ALTER TABLE catalog.market_lifecycle
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN created_at SET DEFAULT statement_timestamp();

ALTER TABLE market_data.candlesticks
    ALTER COLUMN period_interval_minutes SET DEFAULT 1,
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp();

ALTER TABLE market_data.price_snapshots
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp();

ALTER TABLE market_data.orderbook_snapshots
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp();

ALTER TABLE market_data.orderbook_deltas
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp();

ALTER TABLE market_data.public_trades
    ALTER COLUMN is_block_trade SET DEFAULT false,
    ALTER COLUMN retrieved_at SET DEFAULT statement_timestamp();

ALTER TABLE ops.backfill_checkpoints
    ALTER COLUMN attempts SET DEFAULT 0,
    ALTER COLUMN created_at SET DEFAULT statement_timestamp(),
    ALTER COLUMN updated_at SET DEFAULT statement_timestamp();

ALTER TABLE trading.account_balances
    ALTER COLUMN currency SET DEFAULT 'USD';
