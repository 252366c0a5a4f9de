DROP INDEX ops.ingest_requests_span_idx;
ALTER TABLE ops.ingest_requests
    DROP CONSTRAINT ingest_requests_retrieved_until_check,
    DROP COLUMN retrieved_until;
COMMENT ON COLUMN ops.ingest_requests.retrieved_at IS 'When the whole answer had arrived, UTC; the retrieved_at of its rows.';
