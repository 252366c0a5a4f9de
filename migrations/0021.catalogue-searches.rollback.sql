-- transactional: false
DROP INDEX CONCURRENTLY catalog.events_close_time_idx;
DROP INDEX CONCURRENTLY catalog.markets_expiration_time_idx;
DROP INDEX CONCURRENTLY catalog.markets_close_time_idx;
