DROP VIEW trading.open_positions;
DROP FUNCTION trading.mark_position(trading.environment, bigint, market_data.price, timestamptz);
DROP FUNCTION trading.settle_position(trading.environment, bigint, timestamptz, market_data.price, market_data.money);
DROP FUNCTION trading.record_exit(
    trading.environment, bigint, timestamptz, trading.exit_condition, market_data.contracts, market_data.price, market_data.money, text
);
DROP FUNCTION trading.begin_position_version(trading.position_versions);
DROP FUNCTION trading.held_position(trading.environment, bigint);
DROP TABLE trading.exit_attempts;
DROP TABLE trading.position_exits;
DROP FUNCTION trading.trailing_stop_is_hit(jsonb, market_data.price);
DROP FUNCTION trading.advanced_trailing_stop(jsonb, market_data.price);
DROP TABLE trading.position_versions;
DROP FUNCTION trading.refuse_overexit();
DROP TABLE trading.positions;
DROP FUNCTION trading.priority_of(trading.exit_condition);
DROP DOMAIN trading.exit_priority;
DROP DOMAIN trading.exit_condition;
DROP DOMAIN trading.environment;
DROP SCHEMA trading;
