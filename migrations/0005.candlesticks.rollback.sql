DROP TABLE market_data.candlesticks;
