-- What is in the store.

-- name: store_counts()
-- How many rows each part of the store holds, and the time they span.
--
-- Counts exactly, so it takes long on a large store.
-- @plan an exact count reads every row
SELECT 'series' AS part, count(*) AS rows, NULL::timestamptz AS earliest, NULL::timestamptz AS latest FROM catalog.series
UNION ALL
SELECT 'events', count(*), min(close_time), max(close_time) FROM catalog.events
UNION ALL
SELECT 'markets', count(*), min(open_time), max(close_time) FROM catalog.markets
UNION ALL
SELECT 'settlements', count(*), min(settled_at), max(settled_at) FROM catalog.settlements
UNION ALL
SELECT 'candlesticks', count(*), min(end_period_ts), max(end_period_ts) FROM market_data.candlesticks
UNION ALL
SELECT 'price snapshots', count(*), min(snapshot_time), max(GREATEST(snapshot_time, seen_again[cardinality(seen_again)]))
FROM market_data.price_snapshots
UNION ALL
SELECT 'order books', count(*), min(snapshot_time), max(snapshot_time) FROM market_data.orderbook_snapshots
UNION ALL
SELECT 'order book deltas', count(*), min(delta_time), max(delta_time) FROM market_data.orderbook_deltas
UNION ALL
SELECT 'public trades', count(*), min(created_time), max(created_time) FROM market_data.public_trades;

-- name: catalogue_by_series(how_many)
-- The series with the most contracts traded: events, markets, open markets and contracts of each.
-- @plan adds up every market of the catalogue
SELECT
    series.series_ticker,
    series.title,
    series.category,
    count(DISTINCT markets.event_ticker) AS events,
    count(markets.market_ticker) AS markets,
    count(markets.market_ticker) FILTER (WHERE markets.status = 'active') AS open_markets,
    sum(markets.volume)::numeric(24, 2) AS contracts
FROM catalog.series
LEFT JOIN catalog.markets ON markets.series_ticker = series.series_ticker
GROUP BY series.series_ticker, series.title, series.category
ORDER BY contracts DESC NULLS LAST, series.series_ticker
LIMIT :how_many;

-- name: is_untouched()$
-- Whether nothing was ever put into the store: no run and no series. What its migrations seed does not count.
-- @plan EXISTS stops at the first row that it meets
SELECT NOT EXISTS (SELECT FROM ops.ingest_runs) AND NOT EXISTS (SELECT FROM catalog.series) AS untouched;
