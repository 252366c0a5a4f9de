ALTER TABLE catalog.market_versions
    DROP CONSTRAINT market_versions_market_ticker_valid_to_fkey,
    DROP CONSTRAINT market_versions_valid_to_market_ticker_key;
