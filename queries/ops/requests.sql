-- Which request a stored row came from.

-- name: record_requests()^
-- Notes answers that were taken in; one that is noted already stays as it is.
-- @bulk staged_requests like ops.ingest_requests
-- @one
WITH written AS (
    INSERT INTO ops.ingest_requests (run_id, request_number, url, params, http_status, body_bytes, retrieved_at)
    SELECT run_id, request_number, url, params, http_status, body_bytes, retrieved_at
    FROM staged_requests
    ORDER BY run_id, request_number
    ON CONFLICT (run_id, request_number) DO NOTHING
    RETURNING run_id
)
SELECT count(*) AS written FROM written;

-- name: requests_at(retrieved_at)
-- Where a row with this retrieved_at came from: the answers that arrived at that moment, with their runs. Nearly always one.
--
-- Objects of one file count as seen a microsecond apart, so where nothing arrived at the very moment the last answer or file within a
-- second before it is meant. Files whose documents carry a clock of their own are not found by it.
SELECT
    ingest_requests.run_id,
    ingest_requests.request_number,
    ingest_requests.url,
    ingest_requests.params,
    ingest_requests.http_status,
    ingest_requests.body_bytes,
    ingest_requests.retrieved_at,
    ingest_runs.source,
    ingest_runs.status,
    ingest_runs.started_at
FROM ops.ingest_requests
JOIN ops.ingest_runs ON ingest_runs.run_id = ingest_requests.run_id
WHERE ingest_requests.retrieved_at = (
    SELECT max(latest.retrieved_at)
    FROM ops.ingest_requests AS latest
    WHERE latest.retrieved_at <= :retrieved_at AND latest.retrieved_at > :retrieved_at - interval '1 second'
)
ORDER BY ingest_requests.run_id, ingest_requests.request_number;

-- name: requests_of_run(run_id)
-- The answers that a run took in, in their order; streamed, a long run has many.
-- @stream
SELECT *
FROM ops.ingest_requests
WHERE run_id = :run_id
ORDER BY request_number;
