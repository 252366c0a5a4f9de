DROP TABLE trading.performance_daily;
DROP TABLE trading.cash_ledger;
DROP VIEW trading.current_balances;
DROP TABLE trading.account_balances;
DROP DOMAIN trading.currency;
DROP VIEW trading.trade_attribution;
DROP TABLE trading.trades;
