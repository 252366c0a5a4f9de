-- How far backfills got, and who is at it.
--
-- A checkpoint belongs to the connection that began it, by an advisory lock that dies with the connection: two workers never own one, and
-- what a killed worker left can be taken at once. Each beginning has a number (attempts), which the worker gives with every note of its
-- progress: one that lost its connection, and with it the checkpoint, gets 0 back instead of overwriting what its successor notes. Keep
-- the connection for the whole backfill; through a pooler that shares connections between transactions it means nothing.

-- name: begin_checkpoint(job_name, series_ticker, event_ticker, window_start_ts, window_end_ts)^
-- Begins or begins again a backfill of a window, and owns it; returns the checkpoint, whose fetched_through says where to go on and whose
-- attempts is the number to give with every note, or None when another living worker owns it.
--
-- What an earlier attempt fetched of the same window stays fetched. A window that starts later or ends earlier than what was fetched
-- keeps the part that lies inside it; one that starts earlier begins anew. Owned until it succeeds, fails or the connection ends.
WITH own AS (
    SELECT
        CASE
            -- Taken twice by one connection it would have to be given back twice.
            WHEN EXISTS (
                SELECT
                FROM pg_catalog.pg_locks
                WHERE locktype = 'advisory'
                    AND pid = pg_backend_pid()
                    AND objsubid = 1
                    AND (classid::bigint << 32 | objid::bigint) = key.number
            ) THEN true
            ELSE pg_try_advisory_lock(key.number)
        END AS is_ours
    FROM hashtextextended(
        concat_ws('/', 'kalshidb checkpoint', :job_name::text, :series_ticker::text, :event_ticker::text), 0
    ) AS key (number)
)
INSERT INTO ops.backfill_checkpoints AS stored (
    job_name, series_ticker, event_ticker, window_start_ts, window_end_ts, status, attempts, created_at, updated_at
)
SELECT
    :job_name, :series_ticker, :event_ticker, :window_start_ts, :window_end_ts, 'running', 1, clock_timestamp(), clock_timestamp()
FROM own
WHERE own.is_ours
ON CONFLICT (job_name, series_ticker, event_ticker) DO UPDATE SET
    fetched_through = CASE
        WHEN EXCLUDED.window_start_ts < stored.window_start_ts THEN NULL
        -- Not when nothing was fetched: least() leaves nulls out and would say that everything was.
        WHEN stored.fetched_through >= EXCLUDED.window_start_ts THEN least(stored.fetched_through, EXCLUDED.window_end_ts)
    END,
    window_start_ts = EXCLUDED.window_start_ts,
    window_end_ts = EXCLUDED.window_end_ts,
    status = 'running',
    attempts = stored.attempts + 1,
    error = NULL,
    updated_at = EXCLUDED.updated_at
RETURNING *;

-- name: advance_checkpoint(job_name, series_ticker, event_ticker, attempts, fetched_through)!
-- Notes that everything before fetched_through is stored; never moves backwards. Write it in the transaction that stores, or after it.
--
-- Returns 0 when the checkpoint is not this attempt's any more (another worker took it, or it has ended): then stop.
UPDATE ops.backfill_checkpoints
SET
    fetched_through = greatest(fetched_through, :fetched_through),
    last_success_ts = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE job_name = :job_name
    AND series_ticker = :series_ticker
    AND event_ticker = :event_ticker
    AND attempts = :attempts
    AND status = 'running';

-- name: succeed_checkpoint(job_name, series_ticker, event_ticker, attempts)$
-- Notes that the whole window is stored, and gives the checkpoint up; returns 1, or 0 when it is not this attempt's any more.
WITH ended AS (
    UPDATE ops.backfill_checkpoints
    SET
        status = 'success',
        fetched_through = window_end_ts,
        last_success_ts = clock_timestamp(),
        error = NULL,
        updated_at = clock_timestamp()
    WHERE job_name = :job_name
        AND series_ticker = :series_ticker
        AND event_ticker = :event_ticker
        AND attempts = :attempts
        AND status = 'running'
    RETURNING job_name, series_ticker, event_ticker
)
SELECT count(pg_advisory_unlock(
    hashtextextended(concat_ws('/', 'kalshidb checkpoint', job_name, series_ticker, event_ticker), 0)
)) AS ended
FROM ended;

-- name: fail_checkpoint(job_name, series_ticker, event_ticker, attempts, error)$
-- Notes why a backfill stopped, and gives the checkpoint up; what it fetched stays fetched. Returns 1, or 0 when it is not this attempt's
-- any more.
WITH ended AS (
    UPDATE ops.backfill_checkpoints
    SET status = 'failed', error = :error, updated_at = clock_timestamp()
    WHERE job_name = :job_name
        AND series_ticker = :series_ticker
        AND event_ticker = :event_ticker
        AND attempts = :attempts
        AND status = 'running'
    RETURNING job_name, series_ticker, event_ticker
)
SELECT count(pg_advisory_unlock(
    hashtextextended(concat_ws('/', 'kalshidb checkpoint', job_name, series_ticker, event_ticker), 0)
)) AS ended
FROM ended;

-- name: note_checkpoint(job_name, series_ticker, event_ticker, notes)!
-- Writes a remark for people on a checkpoint; returns 0 when there is none.
UPDATE ops.backfill_checkpoints
SET notes = :notes, updated_at = clock_timestamp()
WHERE job_name = :job_name AND series_ticker = :series_ticker AND event_ticker = :event_ticker;

-- name: checkpoint(job_name, series_ticker, event_ticker)^
-- One checkpoint, or None when the backfill was never begun.
SELECT *
FROM ops.backfill_checkpoints
WHERE job_name = :job_name AND series_ticker = :series_ticker AND event_ticker = :event_ticker;

-- name: checkpoints_to_resume(job_name)
-- Backfills of a job that did not end well and that nobody is at: failed, or running of a worker that is dead; the longest untouched first.
SELECT *
FROM ops.backfill_checkpoints
WHERE job_name = :job_name
    AND status <> 'success'
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory'
            AND objsubid = 1
            AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
            -- PostgreSQL shows the key in two halves.
            AND (classid::bigint << 32 | objid::bigint)
                = hashtextextended(concat_ws('/', 'kalshidb checkpoint', job_name, series_ticker, event_ticker), 0)
    )
ORDER BY updated_at, series_ticker, event_ticker;
