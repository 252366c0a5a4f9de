-- What was loaded.

-- name: begin_ingest_run(source)$
-- Notes the start of a load and returns its number. The caller then takes hold_ingest_run on the same connection.
INSERT INTO ops.ingest_runs (
    source, status, rows_read, rows_written, rows_unchanged, rows_rejected, rows_by_kind, started_at
)
VALUES (:source, 'running', 0, 0, 0, 0, '{}', clock_timestamp())
RETURNING run_id;

-- name: hold_ingest_run(run_id)$
-- Holds the run's advisory lock until the connection ends, so that others see that its process lives.
-- @column held not null: pg_try_advisory_lock never answers null
SELECT pg_try_advisory_lock(hashtextextended('kalshidb ingest run ' || :run_id::bigint, 0)) AS held;

-- name: progress_ingest_run(run_id, rows_read, rows_written, rows_unchanged, rows_rejected, rows_by_kind)!
-- Writes down how far a running load got.
UPDATE ops.ingest_runs
SET
    rows_read = :rows_read,
    rows_written = :rows_written,
    rows_unchanged = :rows_unchanged,
    rows_rejected = :rows_rejected,
    rows_by_kind = :rows_by_kind
WHERE run_id = :run_id AND status = 'running';

-- name: finish_ingest_run(run_id, status, error)!
-- Notes the end of a load: succeeded, rejected_some or failed.
-- @param error nullable: only a failed run has one
UPDATE ops.ingest_runs
SET status = :status, error = :error, finished_at = clock_timestamp()
WHERE run_id = :run_id AND status = 'running';

-- name: abandon_dead_runs()!
-- Marks runs whose process is gone (nobody holds their lock) as abandoned.
--
-- Looks at the locks and does not try them: a session can always take a lock that it holds, and would abandon its own run.
UPDATE ops.ingest_runs
SET status = 'abandoned'
WHERE status = 'running'
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory'
            AND objsubid = 1
            AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
            -- PostgreSQL shows the key in two halves.
            AND (classid::bigint << 32 | objid::bigint) = hashtextextended('kalshidb ingest run ' || run_id, 0)
    );

-- name: ingest_run(run_id)^
-- One load, or None.
SELECT *
FROM ops.ingest_runs
WHERE run_id = :run_id;

-- name: recent_ingest_runs(how_many)
-- The last loads, newest first.
SELECT *
FROM ops.ingest_runs
ORDER BY started_at DESC, run_id DESC
LIMIT :how_many;

-- name: last_complete_run_like(run_id)^
-- The last load before a run that had the same source and read everything to its end, or None.
-- @plan a few hundred runs a day, looked through from the newest once a poll
SELECT *
FROM ops.ingest_runs
WHERE run_id < :run_id
    AND source = (SELECT this.source FROM ops.ingest_runs AS this WHERE this.run_id = :run_id)
    AND status IN ('succeeded', 'rejected_some')
ORDER BY run_id DESC
LIMIT 1;
