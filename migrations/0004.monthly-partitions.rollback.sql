DROP FUNCTION market_data.create_month_partitions(regclass, timestamptz[]);
