-- Markets that have not settled are found at once.
--
-- Why: a market may settle before its time, or wait for its result for more than a year, and the exchange moves it from one tier to the
-- other meanwhile; a synchronisation asks by name for each that its lists have left out. Those are few among millions that have settled.
-- Locks: SHARE on catalog.markets while the index is built, some seconds for a million markets: writers of markets wait.
-- Undo: drops the index.
-- depends: 0021.catalogue-searches

-- lint: ignore require-concurrent-index-creation: the catalogue is small next to market data, and a transaction undoes it whole
-- Serves catalog.unsettled_markets.
CREATE INDEX markets_unsettled_idx ON catalog.markets (market_ticker) WHERE status <> 'finalized';
