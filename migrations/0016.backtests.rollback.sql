DROP TABLE backtest.trades;
DROP TABLE backtest.runs;
DROP FUNCTION backtest.refuse_ended_run();
DROP FUNCTION backtest.refuse_wrong_totals();
DROP SCHEMA backtest;
