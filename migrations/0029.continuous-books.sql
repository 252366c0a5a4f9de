-- Of which spans of time the order book of a market is known at every moment, and where a stream broke off.
--
-- Why: a book is rebuilt from a snapshot and the changes after it, and is right only if none is missing. That cannot be told from the
-- rows: a market in which nothing happens sends nothing, and so does a connection that is dead. So whoever listens writes down the spans
-- over which it heard everything, a little behind the present, and each gap with what ended it.
-- Locks: creates a table; ops.coverage is locked for a moment while its checks are exchanged, its rows are read once.
-- Undo: forgets the spans and the gaps; the books stay.
-- depends: 0028.requests-of-a-span

-- lint: ignore constraint-missing-not-valid: a row a market, read in milliseconds
ALTER TABLE ops.coverage
    DROP CONSTRAINT coverage_kind_check,
    ADD CONSTRAINT coverage_kind_check CHECK (kind IN ('candlesticks', 'trades', 'orderbook'));

COMMENT ON COLUMN ops.coverage.kind IS 'candlesticks, trades or orderbook.';
COMMENT ON COLUMN ops.coverage.period_interval_minutes IS 'Length of the candlesticks in minutes; 0 for trades and order books.';
COMMENT ON COLUMN ops.coverage.covered IS 'The spans, half-open, UTC: every candlestick that ends, trade that happened, or change of the order book within them is stored; a span of order books begins with a snapshot.';

CREATE TABLE ops.stream_gaps (
    found_at            timestamptz     NOT NULL,
    channel             text            NOT NULL,
    sid                 bigint          NOT NULL,
    run_id              bigint          NOT NULL,
    reason              text            NOT NULL,
    last_received_at    timestamptz,
    last_sequence       bigint,
    next_sequence       bigint,
    repaired_at         timestamptz,
    CONSTRAINT stream_gaps_pkey PRIMARY KEY (found_at, channel, sid),
    CONSTRAINT stream_gaps_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs (run_id) ON DELETE CASCADE,
    CONSTRAINT stream_gaps_reason_check CHECK (reason IN ('sequence', 'disconnect', 'silence', 'overflow', 'channel_error')),
    CONSTRAINT stream_gaps_next_sequence_check CHECK (next_sequence > last_sequence + 1),
    CONSTRAINT stream_gaps_last_received_at_check CHECK (last_received_at <= found_at),
    CONSTRAINT stream_gaps_repaired_at_check CHECK (repaired_at >= found_at)
);

COMMENT ON TABLE ops.stream_gaps IS 'Where a stream of the exchange broke off, or a number in it was missing: what was sent from last_received_at to repaired_at may not have reached us.';
COMMENT ON COLUMN ops.stream_gaps.found_at IS 'When the gap was noticed, UTC.';
COMMENT ON COLUMN ops.stream_gaps.channel IS 'Channel of the subscription: ticker, trade, orderbook_delta ...';
COMMENT ON COLUMN ops.stream_gaps.sid IS 'The subscription; its number begins anew with each connection.';
COMMENT ON COLUMN ops.stream_gaps.run_id IS 'The run that listened.';
COMMENT ON COLUMN ops.stream_gaps.reason IS 'sequence (a number was missing), disconnect, silence (nothing was heard any more), overflow (we were too slow) or channel_error (both: the exchange ended the subscription).';
COMMENT ON COLUMN ops.stream_gaps.last_received_at IS 'When the last frame before the gap arrived on the connection, UTC; null when there was none.';
COMMENT ON COLUMN ops.stream_gaps.last_sequence IS 'Number of the last frame before the gap; null in a channel without numbers.';
COMMENT ON COLUMN ops.stream_gaps.next_sequence IS 'Number of the first frame after it; null when the subscription ended.';
COMMENT ON COLUMN ops.stream_gaps.repaired_at IS 'When the subscription was whole again, UTC: of order books, a fresh snapshot of each market; of others, its next beginning, and what was missed in between is for backfill and sync-markets. Null while it is not, or when its process died first.';
