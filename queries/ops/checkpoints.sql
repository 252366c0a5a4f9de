-- How far backfills got.

-- name: begin_checkpoint(job_name, series_ticker, event_ticker, window_start_ts, window_end_ts)^
-- Begins or begins again a backfill of a window; returns the checkpoint, whose fetched_through says where to go on.
--
-- What an earlier attempt fetched of the same window stays fetched. A window that starts later or ends earlier than what was fetched
-- keeps the part that lies inside it; one that starts earlier begins anew.
-- @one
INSERT INTO ops.backfill_checkpoints AS stored (
    job_name, series_ticker, event_ticker, window_start_ts, window_end_ts, status, attempts, created_at, updated_at
)
VALUES (
    :job_name, :series_ticker, :event_ticker, :window_start_ts, :window_end_ts, 'running', 1,
    statement_timestamp(), statement_timestamp()
)
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

-- name: advance_checkpoint(job_name, series_ticker, event_ticker, fetched_through)!
-- Notes that everything before fetched_through is stored; never moves backwards. Returns 0 when there is no such checkpoint.
UPDATE ops.backfill_checkpoints
SET
    fetched_through = greatest(fetched_through, :fetched_through),
    last_success_ts = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE job_name = :job_name AND series_ticker = :series_ticker AND event_ticker = :event_ticker;

-- name: succeed_checkpoint(job_name, series_ticker, event_ticker)!
-- Notes that the whole window is stored.
UPDATE ops.backfill_checkpoints
SET
    status = 'success',
    fetched_through = window_end_ts,
    last_success_ts = clock_timestamp(),
    error = NULL,
    updated_at = clock_timestamp()
WHERE job_name = :job_name AND series_ticker = :series_ticker AND event_ticker = :event_ticker;

-- name: fail_checkpoint(job_name, series_ticker, event_ticker, error)!
-- Notes why a backfill stopped; what it fetched stays fetched.
UPDATE ops.backfill_checkpoints
SET status = 'failed', error = :error, updated_at = clock_timestamp()
WHERE job_name = :job_name AND series_ticker = :series_ticker AND event_ticker = :event_ticker;

-- name: checkpoint(job_name, series_ticker, event_ticker)^
-- One checkpoint, or None when the backfill was never begun.
SELECT *
FROM ops.backfill_checkpoints
WHERE job_name = :job_name AND series_ticker = :series_ticker AND event_ticker = :event_ticker;

-- name: checkpoints_to_resume(job_name)
-- Backfills of a job that did not end well: running (perhaps of a dead process) or failed, the longest untouched first.
SELECT *
FROM ops.backfill_checkpoints
WHERE job_name = :job_name AND status <> 'success'
ORDER BY updated_at, series_ticker, event_ticker;
