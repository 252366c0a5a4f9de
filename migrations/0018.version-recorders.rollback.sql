DROP FUNCTION trading.record_balance(
    trading.environment, text, trading.currency, timestamptz, market_data.money
);
DROP FUNCTION trading.change_position_version(
    trading.environment, bigint, market_data.contracts, market_data.money, text, market_data.price, market_data.money, numeric,
    market_data.money, market_data.price, timestamptz, jsonb, trading.exit_condition, trading.exit_priority, text
);
DROP FUNCTION trading.record_position_version(
    trading.environment, bigint, timestamptz, market_data.contracts, market_data.money, text, market_data.price, market_data.money,
    numeric, market_data.money, market_data.price, timestamptz, jsonb, trading.exit_condition, trading.exit_priority, text
);
DROP FUNCTION research.record_game_state(
    catalog.ticker, text, timestamptz, text, text, text, integer, integer, text, text, text, text, jsonb
);
DROP FUNCTION research.record_edge(
    catalog.ticker, bigint, bigint, bigint, timestamptz, numeric, market_data.probability, market_data.probability, market_data.price,
    text, jsonb, text
);
DROP FUNCTION catalog.change_market_version(
    catalog.ticker, text, market_data.price, market_data.price, market_data.price, market_data.price, market_data.price,
    market_data.price, market_data.price, market_data.contracts, market_data.contracts, market_data.price
);
DROP FUNCTION catalog.record_market_version(
    catalog.ticker, timestamptz, text, market_data.price, market_data.price, market_data.price, market_data.price, market_data.price,
    market_data.price, market_data.price, market_data.contracts, market_data.contracts, market_data.price
);
