DROP TABLE ops.coverage;
DROP TABLE ops.ingest_requests;
UPDATE ops.ingest_runs SET status = 'failed' WHERE status = 'truncated';
ALTER TABLE ops.ingest_runs
    DROP CONSTRAINT ingest_runs_status_check,
    ADD CONSTRAINT ingest_runs_status_check CHECK (status IN ('running', 'succeeded', 'rejected_some', 'failed', 'abandoned'));
COMMENT ON COLUMN ops.ingest_runs.status IS 'running, succeeded, rejected_some (stored all but the rejected), failed, or abandoned (its process died).';
COMMENT ON COLUMN ops.ingest_runs.error IS 'Why it failed; null otherwise.';
