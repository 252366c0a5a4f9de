-- Quotes of every market, as polled, streamed or imported.
--
-- Why: the latest price of a market, and the price that was known at some moment, are asked for far more often than anything else.
-- source is part of the key: a poll and the stream may see the same moment, and which one is trusted is the reader's choice.
-- Locks: creates only.
-- Undo: loses the stored quotes; they cannot be had again, the exchange keeps only candlesticks.
-- depends: 0005.candlesticks

CREATE TABLE market_data.price_snapshots (
    market_ticker       catalog.ticker          NOT NULL,
    snapshot_time       timestamptz             NOT NULL,
    source              market_data.source      NOT NULL,
    sequence            bigint,
    yes_bid             market_data.price,
    yes_ask             market_data.price,
    no_bid              market_data.price,
    no_ask              market_data.price,
    last_price          market_data.price,
    volume              market_data.contracts,
    volume_24h          market_data.contracts,
    open_interest       market_data.contracts,
    liquidity           market_data.money,
    status              text,
    title               text,
    category            text,
    midpoint            numeric(8, 7)           GENERATED ALWAYS AS ((yes_bid + yes_ask) / 2) STORED,
    spread              numeric(7, 6)           GENERATED ALWAYS AS (yes_ask - yes_bid) STORED,
    implied_probability numeric(8, 7)           GENERATED ALWAYS AS (
        CASE WHEN yes_bid > 0 AND yes_ask < 1 THEN (yes_bid + yes_ask) / 2 ELSE last_price END
    ) STORED,
    retrieved_at        timestamptz             NOT NULL,
    raw_json            jsonb,
    CONSTRAINT price_snapshots_pkey PRIMARY KEY (market_ticker, snapshot_time, source),
    CONSTRAINT price_snapshots_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker),
    CONSTRAINT price_snapshots_bid_below_ask_check CHECK (yes_bid <= yes_ask)
) PARTITION BY RANGE (snapshot_time);

COMMENT ON TABLE market_data.price_snapshots IS 'One observed quote of one market; monthly partitions by snapshot_time.';
COMMENT ON COLUMN market_data.price_snapshots.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.price_snapshots.snapshot_time IS 'When the quote was seen, UTC; never earlier than it was known, so that an as-of read is honest.';
COMMENT ON COLUMN market_data.price_snapshots.source IS 'poll, websocket or backfill.';
COMMENT ON COLUMN market_data.price_snapshots.sequence IS 'Sequence number of the stream, for finding gaps; null where the channel has none.';
COMMENT ON COLUMN market_data.price_snapshots.yes_bid IS 'Best bid for YES in dollars, 0 when nobody bids, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.yes_ask IS 'Best offer of YES in dollars, 1 when nobody offers, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.no_bid IS 'Best bid for NO in dollars, 0 when nobody bids, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.no_ask IS 'Best offer of NO in dollars, 1 when nobody offers, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.last_price IS 'Last trade, dollars for YES; 0 before the first trade, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.volume IS 'Contracts traded so far.';
COMMENT ON COLUMN market_data.price_snapshots.volume_24h IS 'Contracts traded in the last 24 hours.';
COMMENT ON COLUMN market_data.price_snapshots.open_interest IS 'Contracts outstanding.';
COMMENT ON COLUMN market_data.price_snapshots.liquidity IS 'The venue''s liquidity figure in dollars; dead since 2026 (always 0), negative in old data.';
COMMENT ON COLUMN market_data.price_snapshots.status IS 'The market''s status at that moment, the venue''s word.';
COMMENT ON COLUMN market_data.price_snapshots.title IS 'The market''s title at that moment, where kept.';
COMMENT ON COLUMN market_data.price_snapshots.category IS 'The market''s category at that moment, where kept.';
COMMENT ON COLUMN market_data.price_snapshots.midpoint IS 'Mean of bid and ask in dollars; says nothing where a side is empty.';
COMMENT ON COLUMN market_data.price_snapshots.spread IS 'yes_ask - yes_bid in dollars.';
COMMENT ON COLUMN market_data.price_snapshots.implied_probability IS 'Midpoint where both sides are quoted, else the last trade; 0 to 1.';
COMMENT ON COLUMN market_data.price_snapshots.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN market_data.price_snapshots.raw_json IS 'The last payload that was kept, as it arrived; kept on request only, null otherwise.';

-- Serves market_data.snapshots_in_window: all markets over a slice of time.
CREATE INDEX price_snapshots_snapshot_time_idx ON market_data.price_snapshots (snapshot_time);

-- Serves market_data.sequence_gaps: only streamed rows carry a sequence.
CREATE INDEX price_snapshots_market_ticker_sequence_idx ON market_data.price_snapshots (market_ticker, sequence)
    WHERE sequence IS NOT NULL;
