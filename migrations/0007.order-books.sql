-- Order books: whole ones as seen, and the changes between them.
--
-- Why: no historical order book exists anywhere, so what is not recorded is lost. A book is bids only, on both sides, best last, the
-- way the exchange sends it; the offer of YES is one minus the best bid for NO. Levels are two arrays a side, exact and compact.
-- Deltas rebuild the book at any time between snapshots; sequence counts over all markets of one subscription (sid).
-- Locks: creates only.
-- Undo: loses books and deltas; they cannot be had again.
-- depends: 0006.price-snapshots

CREATE TABLE market_data.orderbook_snapshots (
    market_ticker       catalog.ticker          NOT NULL,
    snapshot_time       timestamptz             NOT NULL,
    source              market_data.source      NOT NULL,
    sid                 bigint,
    sequence            bigint,
    yes_bid_prices      numeric(7, 6)[]         NOT NULL,
    yes_bid_quantities  numeric(18, 2)[]        NOT NULL,
    no_bid_prices       numeric(7, 6)[]         NOT NULL,
    no_bid_quantities   numeric(18, 2)[]        NOT NULL,
    best_yes_bid        market_data.price       GENERATED ALWAYS AS (yes_bid_prices[cardinality(yes_bid_prices)]) STORED,
    best_no_bid         market_data.price       GENERATED ALWAYS AS (no_bid_prices[cardinality(no_bid_prices)]) STORED,
    best_yes_ask        market_data.price       GENERATED ALWAYS AS (1 - no_bid_prices[cardinality(no_bid_prices)]) STORED,
    best_no_ask         market_data.price       GENERATED ALWAYS AS (1 - yes_bid_prices[cardinality(yes_bid_prices)]) STORED,
    yes_depth           market_data.contracts   NOT NULL,
    no_depth            market_data.contracts   NOT NULL,
    retrieved_at        timestamptz             NOT NULL,
    raw_json            jsonb,
    CONSTRAINT orderbook_snapshots_pkey PRIMARY KEY (market_ticker, snapshot_time),
    CONSTRAINT orderbook_snapshots_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker),
    CONSTRAINT orderbook_snapshots_yes_bid_levels_check CHECK (
        cardinality(yes_bid_prices) = cardinality(yes_bid_quantities) AND array_position(yes_bid_prices, NULL) IS NULL
        AND array_position(yes_bid_quantities, NULL) IS NULL
    ),
    CONSTRAINT orderbook_snapshots_no_bid_levels_check CHECK (
        cardinality(no_bid_prices) = cardinality(no_bid_quantities) AND array_position(no_bid_prices, NULL) IS NULL
        AND array_position(no_bid_quantities, NULL) IS NULL
    )
) PARTITION BY RANGE (snapshot_time);

COMMENT ON TABLE market_data.orderbook_snapshots IS 'A whole order book at one moment: bids for YES and for NO; monthly partitions by snapshot_time.';
COMMENT ON COLUMN market_data.orderbook_snapshots.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.orderbook_snapshots.snapshot_time IS 'When the book was seen, UTC.';
COMMENT ON COLUMN market_data.orderbook_snapshots.source IS 'poll, websocket or backfill.';
COMMENT ON COLUMN market_data.orderbook_snapshots.sid IS 'Subscription of the stream that sent it; null when polled.';
COMMENT ON COLUMN market_data.orderbook_snapshots.sequence IS 'Sequence number within the subscription; null when polled.';
COMMENT ON COLUMN market_data.orderbook_snapshots.yes_bid_prices IS 'Prices bid for YES in dollars, ascending: the best is the last; empty when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.yes_bid_quantities IS 'Contracts bid at each of yes_bid_prices.';
COMMENT ON COLUMN market_data.orderbook_snapshots.no_bid_prices IS 'Prices bid for NO in dollars, ascending: the best is the last; empty when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.no_bid_quantities IS 'Contracts bid at each of no_bid_prices.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_yes_bid IS 'Best bid for YES in dollars; null when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_no_bid IS 'Best bid for NO in dollars; null when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_yes_ask IS 'Best offer of YES in dollars, one minus the best bid for NO; null when nobody offers.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_no_ask IS 'Best offer of NO in dollars, one minus the best bid for YES; null when nobody offers.';
COMMENT ON COLUMN market_data.orderbook_snapshots.yes_depth IS 'Contracts bid for YES over all levels.';
COMMENT ON COLUMN market_data.orderbook_snapshots.no_depth IS 'Contracts bid for NO over all levels.';
COMMENT ON COLUMN market_data.orderbook_snapshots.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN market_data.orderbook_snapshots.raw_json IS 'The last payload that was kept, as it arrived; kept on request only, null otherwise.';

-- Serves market_data.sequence_gaps: only streamed books carry a sequence.
CREATE INDEX orderbook_snapshots_sid_sequence_idx ON market_data.orderbook_snapshots (sid, sequence) WHERE sequence IS NOT NULL;

CREATE TABLE market_data.orderbook_deltas (
    market_ticker   catalog.ticker      NOT NULL,
    delta_time      timestamptz         NOT NULL,
    sequence        bigint              NOT NULL,
    sid             bigint              NOT NULL,
    side            market_data.side    NOT NULL,
    price           market_data.price   NOT NULL,
    delta           numeric(18, 2)      NOT NULL,
    retrieved_at    timestamptz         NOT NULL,
    CONSTRAINT orderbook_deltas_pkey PRIMARY KEY (market_ticker, delta_time, sequence),
    CONSTRAINT orderbook_deltas_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker)
) PARTITION BY RANGE (delta_time);

COMMENT ON TABLE market_data.orderbook_deltas IS 'A change of one level of one order book; monthly partitions by delta_time.';
COMMENT ON COLUMN market_data.orderbook_deltas.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.orderbook_deltas.delta_time IS 'When the level changed, UTC.';
COMMENT ON COLUMN market_data.orderbook_deltas.sequence IS 'Sequence number within the subscription, over all its markets and control frames.';
COMMENT ON COLUMN market_data.orderbook_deltas.sid IS 'Subscription of the stream that sent it.';
COMMENT ON COLUMN market_data.orderbook_deltas.side IS 'yes: a bid for YES changed; no: a bid for NO.';
COMMENT ON COLUMN market_data.orderbook_deltas.price IS 'The level, dollars for that side.';
COMMENT ON COLUMN market_data.orderbook_deltas.delta IS 'Contracts added (positive) or taken away (negative).';
COMMENT ON COLUMN market_data.orderbook_deltas.retrieved_at IS 'When it reached us, UTC.';

CREATE VIEW market_data.sequence_gaps AS
WITH sequenced AS (
    -- The ticker stream counts within a market, the book stream within a subscription over all its markets.
    SELECT 'price_snapshots' AS stream, market_ticker::text AS counted_by, snapshot_time AS seen_at, sequence
    FROM market_data.price_snapshots
    WHERE sequence IS NOT NULL
    UNION ALL
    SELECT 'orderbook', sid::text, snapshot_time, sequence
    FROM market_data.orderbook_snapshots
    WHERE sequence IS NOT NULL
    UNION ALL
    SELECT 'orderbook', sid::text, delta_time, sequence
    FROM market_data.orderbook_deltas
),
neighbours AS (
    SELECT
        stream,
        counted_by,
        lag(seen_at) OVER steps AS last_seen_at,
        seen_at,
        lag(sequence) OVER steps AS last_sequence,
        sequence
    FROM sequenced
    WINDOW steps AS (PARTITION BY stream, counted_by ORDER BY seen_at, sequence)
)
SELECT
    stream,
    counted_by,
    last_seen_at,
    seen_at,
    last_sequence + 1 AS first_missing,
    sequence - 1 AS last_missing
FROM neighbours
WHERE sequence > last_sequence + 1;

COMMENT ON VIEW market_data.sequence_gaps IS 'Where a stream''s sequence jumps: what was sent in between did not reach us. Control frames take numbers too, so an orderbook gap may be one of them.';
COMMENT ON COLUMN market_data.sequence_gaps.stream IS 'price_snapshots or orderbook.';
COMMENT ON COLUMN market_data.sequence_gaps.counted_by IS 'What the sequence counts within: the market, or the subscription id.';
COMMENT ON COLUMN market_data.sequence_gaps.last_seen_at IS 'When the last row before the gap was seen, UTC.';
COMMENT ON COLUMN market_data.sequence_gaps.seen_at IS 'When the first row after the gap was seen, UTC.';
COMMENT ON COLUMN market_data.sequence_gaps.first_missing IS 'First sequence number that is missing.';
COMMENT ON COLUMN market_data.sequence_gaps.last_missing IS 'Last sequence number that is missing.';
