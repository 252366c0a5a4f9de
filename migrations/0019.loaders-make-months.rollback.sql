GRANT EXECUTE ON FUNCTION market_data.create_month_partitions(regclass, timestamptz[]) TO PUBLIC;
ALTER FUNCTION market_data.create_month_partitions(regclass, timestamptz[]) SECURITY INVOKER;
