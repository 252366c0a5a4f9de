-- Who works on what: a claim lives as long as the session that holds it.

-- name: try_claim(job_name, series_ticker, event_ticker)$
-- Claims a piece of work for this session; false when another living session has it.
--
-- A claim is a lock of the session and no row, so it ends with the process, however that ends. One session may claim a piece again.
SELECT pg_try_advisory_lock(hashtextextended(
    format('kalshidb work %s/%s/%s', :job_name::text, :series_ticker::text, :event_ticker::text), 0
)) AS claimed;

-- name: release_claim(job_name, series_ticker, event_ticker)$
-- Gives a piece of work back, for others to claim; false when this session did not have it.
SELECT pg_advisory_unlock(hashtextextended(
    format('kalshidb work %s/%s/%s', :job_name::text, :series_ticker::text, :event_ticker::text), 0
)) AS released;
