DROP TABLE backtest.trades;
DROP TABLE backtest.runs;
DROP SCHEMA backtest;
