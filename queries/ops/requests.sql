-- Which request a stored row came from.

-- name: record_requests()^
-- Notes answers that were taken in; of one that is noted already only the end of its span may move on.
-- @bulk staged_requests like ops.ingest_requests
-- @one
WITH newest AS (
    SELECT DISTINCT ON (run_id, request_number) *
    FROM staged_requests
    ORDER BY run_id, request_number, retrieved_until DESC NULLS LAST, staged_position DESC
),
written AS (
    INSERT INTO ops.ingest_requests AS stored (
        run_id, request_number, url, params, http_status, body_bytes, retrieved_at, retrieved_until
    )
    SELECT run_id, request_number, url, params, http_status, body_bytes, retrieved_at, retrieved_until
    FROM newest
    ORDER BY run_id, request_number
    ON CONFLICT (run_id, request_number) DO UPDATE SET
        retrieved_until = EXCLUDED.retrieved_until
    WHERE EXCLUDED.retrieved_until > COALESCE(stored.retrieved_until, '-infinity')
    RETURNING run_id
)
SELECT count(*) AS written FROM written;

-- name: requests_at(retrieved_at)
-- Where a row with this retrieved_at came from: the answer that arrived at that moment, else the batch of frames or the file over whose
-- span it lies, with its run. Nearly always one; two streams that listen at the same time are both answered.
--
-- Files whose documents carry a clock of their own are not found by it.
WITH exact AS (
    SELECT *
    FROM ops.ingest_requests
    WHERE ingest_requests.retrieved_at = :retrieved_at
),
found AS (
    SELECT * FROM exact
    UNION ALL
    SELECT *
    FROM ops.ingest_requests
    WHERE tstzrange(ingest_requests.retrieved_at, ingest_requests.retrieved_until, '[]') @> :retrieved_at::timestamptz
        AND ingest_requests.retrieved_until IS NOT NULL
        AND NOT EXISTS (SELECT FROM exact)
)
SELECT
    found.run_id,
    found.request_number,
    found.url,
    found.params,
    found.http_status,
    found.body_bytes,
    found.retrieved_at,
    found.retrieved_until,
    ingest_runs.source,
    ingest_runs.status,
    ingest_runs.started_at
FROM found
JOIN ops.ingest_runs ON ingest_runs.run_id = found.run_id
ORDER BY found.run_id, found.request_number;

-- name: requests_of_run(run_id)
-- The answers that a run took in, in their order; streamed, a long run has many.
-- @stream
SELECT *
FROM ops.ingest_requests
WHERE run_id = :run_id
ORDER BY request_number;

-- name: last_requests_of_run(run_id, how_many)
-- The last answers that a run took in, in their order; the number of the first says how many came before.
SELECT last_ones.*
FROM (
    SELECT *
    FROM ops.ingest_requests
    WHERE run_id = :run_id
    ORDER BY request_number DESC
    LIMIT :how_many
) AS last_ones
ORDER BY last_ones.request_number;
