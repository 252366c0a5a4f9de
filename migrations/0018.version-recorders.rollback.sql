DROP FUNCTION catalog.change_market_version(
    text, text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric
);
DROP FUNCTION catalog.record_market_version(
    text, timestamptz, text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric
);
