-- Which request a row came from, and what is covered.
--
-- Why: a row of market data carries the moment at which it was retrieved and nothing else about its origin, which keeps billions of rows
-- small. So each answer leaves a row of its own under that moment, and every stored row can be traced to its request and run. What is
-- covered cannot be told from the rows (candlesticks are sparse, a quiet hour has none): it is written down as spans of time when a piece
-- has been fetched to its end. A walk that was cut short is a status of its own; a list of 200 of 676 markets must not look complete.
-- Locks: creates only; ops.ingest_runs is locked for a moment while its check is exchanged, its rows are read once.
-- Undo: loses the trace and the coverage; runs that were cut short have to be called failed first.
-- depends: 0019.loaders-make-months

ALTER TABLE ops.ingest_runs
    DROP CONSTRAINT ingest_runs_status_check,
    ADD CONSTRAINT ingest_runs_status_check
        CHECK (status IN ('running', 'succeeded', 'rejected_some', 'truncated', 'failed', 'abandoned'));

COMMENT ON COLUMN ops.ingest_runs.status IS 'running, succeeded, rejected_some (stored all but the rejected), truncated (stopped before the last page), failed, or abandoned (its process died).';
COMMENT ON COLUMN ops.ingest_runs.error IS 'Why it failed, or where it was cut short; null otherwise.';

CREATE TABLE ops.ingest_requests (
    run_id          bigint          NOT NULL,
    request_number  bigint          NOT NULL,
    url             text            NOT NULL,
    params          jsonb           NOT NULL,
    http_status     integer,
    body_bytes      bigint          NOT NULL,
    retrieved_at    timestamptz     NOT NULL,
    CONSTRAINT ingest_requests_pkey PRIMARY KEY (run_id, request_number),
    CONSTRAINT ingest_requests_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs (run_id) ON DELETE CASCADE,
    CONSTRAINT ingest_requests_request_number_check CHECK (request_number > 0),
    CONSTRAINT ingest_requests_body_bytes_check CHECK (body_bytes >= 0)
);

COMMENT ON TABLE ops.ingest_requests IS 'One answer that was taken in. A stored row came with the answer of its retrieved_at.';
COMMENT ON COLUMN ops.ingest_requests.run_id IS 'The run that asked.';
COMMENT ON COLUMN ops.ingest_requests.request_number IS 'Its place in the run, from 1.';
COMMENT ON COLUMN ops.ingest_requests.url IS 'What was asked, without its parameters; or the file.';
COMMENT ON COLUMN ops.ingest_requests.params IS 'The parameters, an object of text.';
COMMENT ON COLUMN ops.ingest_requests.http_status IS 'Status of the answer; null for a file or a frame of a stream.';
COMMENT ON COLUMN ops.ingest_requests.body_bytes IS 'Bytes of the answer.';
COMMENT ON COLUMN ops.ingest_requests.retrieved_at IS 'When the whole answer had arrived, UTC; the retrieved_at of its rows.';

-- Serves ops.requests_at.
CREATE INDEX ingest_requests_retrieved_at_idx ON ops.ingest_requests (retrieved_at);

CREATE TABLE ops.coverage (
    market_ticker           text            NOT NULL,
    kind                    text            NOT NULL,
    period_interval_minutes smallint        NOT NULL,
    covered                 tstzmultirange  NOT NULL,
    run_id                  bigint,
    updated_at              timestamptz     NOT NULL,
    CONSTRAINT coverage_pkey PRIMARY KEY (market_ticker, kind, period_interval_minutes),
    CONSTRAINT coverage_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs (run_id),
    CONSTRAINT coverage_kind_check CHECK (kind IN ('candlesticks', 'trades')),
    CONSTRAINT coverage_period_interval_minutes_check CHECK (
        CASE kind WHEN 'candlesticks' THEN period_interval_minutes IN (1, 60, 1440) ELSE period_interval_minutes = 0 END
    ),
    CONSTRAINT coverage_covered_check CHECK (NOT isempty(covered))
);

COMMENT ON TABLE ops.coverage IS 'Of which spans of time everything is stored, by market and kind; from fetches that reached their end, never from the rows.';
COMMENT ON COLUMN ops.coverage.market_ticker IS 'The market; empty text for all markets together.';
COMMENT ON COLUMN ops.coverage.kind IS 'candlesticks or trades.';
COMMENT ON COLUMN ops.coverage.period_interval_minutes IS 'Length of the candlesticks in minutes; 0 for trades.';
COMMENT ON COLUMN ops.coverage.covered IS 'The spans, half-open, UTC: every candlestick that ends, or trade that happened, within them is stored.';
COMMENT ON COLUMN ops.coverage.run_id IS 'The run that added to it last.';
COMMENT ON COLUMN ops.coverage.updated_at IS 'When it last grew, UTC.';
