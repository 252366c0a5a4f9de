-- A request may bring rows of many moments: a batch of frames, or a file whose objects count as seen a microsecond apart.
--
-- Why: a row is traced to its request by retrieved_at, and so far a row of a file was looked for within the second after the file's
-- moment, whatever else arrived then. A stream goes on while others poll; its batches lie around the answers to requests. Now a
-- request says the span over which its rows arrived, and a row leads to the request whose span holds its moment.
-- Locks: ACCESS EXCLUSIVE on ops.ingest_requests for a moment, SHARE while it is read once for the index, which is empty.
-- Undo: drops the column: rows of streams lead nowhere then; nothing else is lost.
-- depends: 0027.quotes-seen-again-checked

ALTER TABLE ops.ingest_requests ADD COLUMN retrieved_until timestamptz;

-- lint: ignore constraint-missing-not-valid: the column is null in every row there is
ALTER TABLE ops.ingest_requests
    ADD CONSTRAINT ingest_requests_retrieved_until_check CHECK (retrieved_until >= retrieved_at);

COMMENT ON COLUMN ops.ingest_requests.retrieved_at IS 'When the whole answer had arrived, UTC; the retrieved_at of its rows. Of a batch of frames or a file: of its first row.';
COMMENT ON COLUMN ops.ingest_requests.retrieved_until IS 'Of a batch of frames or a file: the retrieved_at of its last row, UTC; null for an answer, whose rows have one moment.';

-- lint: ignore require-concurrent-index-creation: no row is in it yet, and a transaction undoes it whole
-- Serves ops.requests_at.
CREATE INDEX ingest_requests_span_idx ON ops.ingest_requests
    USING gist (tstzrange(retrieved_at, retrieved_until, '[]')) WHERE retrieved_until IS NOT NULL;
