DROP VIEW market_data.orphan_trades;
DROP TABLE market_data.public_trades;
