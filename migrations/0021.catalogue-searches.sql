-- Looking through the catalogue by time: what closes soon, what expires, page by page.
--
-- Why: a list of markets is asked for by when they close, whatever else is asked of them; the index by status only helps who names one
-- status. The venue's deadline (expiration_time) is another moment than the close, and the one by which an outcome is due.
-- Locks: built concurrently, so readers and writers go on; it waits for transactions that began before. If it stops half way an invalid
-- index is left: DROP INDEX it and migrate again.
-- Undo: drops the indexes; nothing is lost.
-- transactional: false
-- depends: 0020.ingestion-audit

-- Serves catalog.search_markets.
CREATE INDEX CONCURRENTLY markets_close_time_idx ON catalog.markets (close_time, market_ticker);

-- Serves catalog.markets_expiring_between.
CREATE INDEX CONCURRENTLY markets_expiration_time_idx ON catalog.markets (expiration_time);

-- Serves catalog.search_events.
CREATE INDEX CONCURRENTLY events_close_time_idx ON catalog.events (close_time, event_ticker);
