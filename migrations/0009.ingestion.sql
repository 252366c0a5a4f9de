-- What was loaded, what could not be, and how far a backfill got.
--
-- Why: every load leaves a row that says what it read and what became of it; what could not be stored is kept whole with the reason
-- for each field, so that nothing that arrived is lost; a backfill writes down how far it got, so that a restart goes on from there.
-- Locks: creates only.
-- Undo: loses the audit of loads, the rejected payloads (which may exist nowhere else: look at them first) and the checkpoints.
-- depends: 0008.public-trades

CREATE TABLE ops.ingest_runs (
    run_id          bigint          NOT NULL GENERATED ALWAYS AS IDENTITY,
    source          text            NOT NULL,
    status          text            NOT NULL,
    rows_read       bigint          NOT NULL,
    rows_written    bigint          NOT NULL,
    rows_unchanged  bigint          NOT NULL,
    rows_rejected   bigint          NOT NULL,
    rows_by_kind    jsonb           NOT NULL,
    error           text,
    started_at      timestamptz     NOT NULL,
    finished_at     timestamptz,
    duration        interval        GENERATED ALWAYS AS (finished_at - started_at) STORED,
    CONSTRAINT ingest_runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT ingest_runs_status_check CHECK (status IN ('running', 'succeeded', 'rejected_some', 'failed', 'abandoned')),
    CONSTRAINT ingest_runs_finished_at_check CHECK ((status IN ('running', 'abandoned')) = (finished_at IS NULL)),
    CONSTRAINT ingest_runs_rows_check CHECK (least(rows_read, rows_written, rows_unchanged, rows_rejected) >= 0)
);

COMMENT ON TABLE ops.ingest_runs IS 'One load of data, from whatever source.';
COMMENT ON COLUMN ops.ingest_runs.run_id IS 'Number of the run; also the key of the advisory lock that the living run holds.';
COMMENT ON COLUMN ops.ingest_runs.source IS 'What was loaded: the command with its paths, or the address of the exchange.';
COMMENT ON COLUMN ops.ingest_runs.status IS 'running, succeeded, rejected_some (stored all but the rejected), failed, or abandoned (its process died).';
COMMENT ON COLUMN ops.ingest_runs.rows_read IS 'Objects read: written + unchanged + rejected.';
COMMENT ON COLUMN ops.ingest_runs.rows_written IS 'Objects inserted or changed.';
COMMENT ON COLUMN ops.ingest_runs.rows_unchanged IS 'Objects that were stored already, or are older than what is stored.';
COMMENT ON COLUMN ops.ingest_runs.rows_rejected IS 'Objects that could not be stored; see ops.rejected_payloads.';
COMMENT ON COLUMN ops.ingest_runs.rows_by_kind IS 'The same counts for each kind of object.';
COMMENT ON COLUMN ops.ingest_runs.error IS 'Why it failed; null otherwise.';
COMMENT ON COLUMN ops.ingest_runs.started_at IS 'Start, UTC.';
COMMENT ON COLUMN ops.ingest_runs.finished_at IS 'End, UTC; null while running and when abandoned.';
COMMENT ON COLUMN ops.ingest_runs.duration IS 'finished_at - started_at.';

-- Serves ops.recent_ingest_runs.
CREATE INDEX ingest_runs_started_at_idx ON ops.ingest_runs (started_at);

-- Serves ops.abandon_dead_runs.
CREATE INDEX ingest_runs_running_idx ON ops.ingest_runs (run_id) WHERE status = 'running';

CREATE TABLE ops.rejected_payloads (
    payload_sha256  text            NOT NULL,
    kind            text            NOT NULL,
    payload         bytea           NOT NULL,
    context         jsonb           NOT NULL,
    errors          jsonb           NOT NULL,
    source          text            NOT NULL,
    run_id          bigint,
    seen_count      bigint          NOT NULL,
    first_seen_at   timestamptz     NOT NULL,
    last_seen_at    timestamptz     NOT NULL,
    resolved_at     timestamptz,
    CONSTRAINT rejected_payloads_pkey PRIMARY KEY (payload_sha256, kind),
    CONSTRAINT rejected_payloads_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs (run_id),
    CONSTRAINT rejected_payloads_payload_sha256_check CHECK (payload_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT rejected_payloads_seen_count_check CHECK (seen_count > 0)
);

COMMENT ON TABLE ops.rejected_payloads IS 'What arrived and could not be stored, whole, with the reason for each field.';
COMMENT ON COLUMN ops.rejected_payloads.payload_sha256 IS 'SHA-256 (hex) of the payload and its context: a candle that is refused for two markets is two rows, and so is one of an unknown market from two files.';
COMMENT ON COLUMN ops.rejected_payloads.kind IS 'What it was taken for: market, candlestick, trade ..., or unrecognised, or file.';
COMMENT ON COLUMN ops.rejected_payloads.payload IS 'The bytes as they arrived; for an element of a larger answer its JSON. Text unless the file itself was broken.';
COMMENT ON COLUMN ops.rejected_payloads.context IS 'What the payload does not say itself and a retry needs: ticker, interval, time of observation.';
COMMENT ON COLUMN ops.rejected_payloads.errors IS 'Array of field, value, error and hint.';
COMMENT ON COLUMN ops.rejected_payloads.source IS 'Where it came from last: file and line and place in the document, or URL.';
COMMENT ON COLUMN ops.rejected_payloads.run_id IS 'The run that saw it last.';
COMMENT ON COLUMN ops.rejected_payloads.seen_count IS 'How often it was refused.';
COMMENT ON COLUMN ops.rejected_payloads.first_seen_at IS 'First refused, UTC.';
COMMENT ON COLUMN ops.rejected_payloads.last_seen_at IS 'Last refused, UTC.';
COMMENT ON COLUMN ops.rejected_payloads.resolved_at IS 'When a retry stored it, UTC; null while open.';

-- Serves ops.open_rejects: the open ones are few, the resolved ones stay for the record.
CREATE INDEX rejected_payloads_open_idx ON ops.rejected_payloads (last_seen_at) WHERE resolved_at IS NULL;

CREATE TABLE ops.backfill_checkpoints (
    job_name            text            NOT NULL,
    series_ticker       text            NOT NULL,
    event_ticker        text            NOT NULL,
    window_start_ts     timestamptz     NOT NULL,
    window_end_ts       timestamptz     NOT NULL,
    last_success_ts     timestamptz,
    fetched_through     timestamptz,
    status              text            NOT NULL,
    attempts            integer         NOT NULL,
    notes               text,
    error               text,
    created_at          timestamptz     NOT NULL,
    updated_at          timestamptz     NOT NULL,
    CONSTRAINT backfill_checkpoints_pkey PRIMARY KEY (job_name, series_ticker, event_ticker),
    CONSTRAINT backfill_checkpoints_status_check CHECK (status IN ('running', 'success', 'failed')),
    CONSTRAINT backfill_checkpoints_window_check CHECK (window_start_ts < window_end_ts),
    CONSTRAINT backfill_checkpoints_fetched_through_check CHECK (fetched_through BETWEEN window_start_ts AND window_end_ts),
    CONSTRAINT backfill_checkpoints_attempts_check CHECK (attempts >= 0)
);

COMMENT ON TABLE ops.backfill_checkpoints IS 'How far a backfill of one event (or of a whole series) got.';
COMMENT ON COLUMN ops.backfill_checkpoints.job_name IS 'The job, such as event_candlesticks_1m.';
COMMENT ON COLUMN ops.backfill_checkpoints.series_ticker IS 'The series.';
COMMENT ON COLUMN ops.backfill_checkpoints.event_ticker IS 'The event; empty text for a job over the whole series.';
COMMENT ON COLUMN ops.backfill_checkpoints.window_start_ts IS 'Start of what is to be fetched, UTC, inclusive.';
COMMENT ON COLUMN ops.backfill_checkpoints.window_end_ts IS 'End of what is to be fetched, UTC, exclusive.';
COMMENT ON COLUMN ops.backfill_checkpoints.last_success_ts IS 'When a piece was last stored, UTC; null before the first.';
COMMENT ON COLUMN ops.backfill_checkpoints.fetched_through IS 'Everything before this moment is stored, UTC. Not the last candle: candles are sparse.';
COMMENT ON COLUMN ops.backfill_checkpoints.status IS 'running, success or failed.';
COMMENT ON COLUMN ops.backfill_checkpoints.attempts IS 'How often it was begun.';
COMMENT ON COLUMN ops.backfill_checkpoints.notes IS 'Remarks for people.';
COMMENT ON COLUMN ops.backfill_checkpoints.error IS 'Why the last attempt failed; null otherwise.';
COMMENT ON COLUMN ops.backfill_checkpoints.created_at IS 'First begun, UTC.';
COMMENT ON COLUMN ops.backfill_checkpoints.updated_at IS 'Last changed, UTC.';
