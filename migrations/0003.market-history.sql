-- How a market changed, what happened to it, and how it was settled.
--
-- Why: the identity row in catalog.markets cannot hold two states of one market. A version row is one state over a half-open span of
-- time (SCD type 2); exactly one is current. Settlements are facts that are only added: an amended result is a new row, and the view
-- final_settlements answers with the last.
-- Locks: creates only; the foreign keys take a short SHARE ROW EXCLUSIVE lock on the empty new tables and on catalog.markets, so a
-- running loader waits for a moment.
-- Undo: loses versions, lifecycle and settlements. The exchange can be asked for settlements again, never for the versions.
-- depends: 0002.catalog

CREATE TABLE catalog.market_versions (
    market_ticker       catalog.ticker      NOT NULL,
    valid_from          timestamptz         NOT NULL,
    valid_to            timestamptz,
    row_current_ind     boolean             NOT NULL GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    status              text                NOT NULL,
    yes_price           market_data.price,
    no_price            market_data.price,
    yes_bid             market_data.price,
    yes_ask             market_data.price,
    no_bid              market_data.price,
    no_ask              market_data.price,
    last_price          market_data.price,
    volume              market_data.contracts,
    open_interest       market_data.contracts,
    settlement_value    market_data.price,
    spread              numeric(7, 6)       GENERATED ALWAYS AS (yes_ask - yes_bid) STORED,
    created_at          timestamptz         NOT NULL,
    CONSTRAINT market_versions_pkey PRIMARY KEY (market_ticker, valid_from),
    CONSTRAINT market_versions_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker),
    CONSTRAINT market_versions_valid_to_check CHECK (valid_to > valid_from)
);

COMMENT ON TABLE catalog.market_versions IS 'One state of one market over [valid_from, valid_to): SCD type 2.';
COMMENT ON COLUMN catalog.market_versions.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.market_versions.valid_from IS 'When this state was first observed, UTC.';
COMMENT ON COLUMN catalog.market_versions.valid_to IS 'When the next state was observed, UTC, exclusive; null = current.';
COMMENT ON COLUMN catalog.market_versions.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN catalog.market_versions.status IS 'The venue''s word for the market''s state.';
COMMENT ON COLUMN catalog.market_versions.yes_price IS 'Price of YES in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.market_versions.no_price IS 'Price of NO in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.market_versions.yes_bid IS 'Best bid for YES in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.market_versions.yes_ask IS 'Best offer of YES in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.market_versions.no_bid IS 'Best bid for NO in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.market_versions.no_ask IS 'Best offer of NO in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.market_versions.last_price IS 'Last trade, dollars for YES.';
COMMENT ON COLUMN catalog.market_versions.volume IS 'Contracts traded so far.';
COMMENT ON COLUMN catalog.market_versions.open_interest IS 'Contracts outstanding.';
COMMENT ON COLUMN catalog.market_versions.settlement_value IS 'What one YES contract pays, in dollars; null while unsettled.';
COMMENT ON COLUMN catalog.market_versions.spread IS 'yes_ask - yes_bid in dollars; null when either is unknown.';
COMMENT ON COLUMN catalog.market_versions.created_at IS 'When the row was written, UTC.';

-- Serves the rule of one current version a market, and catalog.current_markets.
CREATE UNIQUE INDEX market_versions_market_ticker_current_key ON catalog.market_versions (market_ticker) WHERE valid_to IS NULL;

CREATE VIEW catalog.current_markets AS
SELECT
    markets.market_ticker,
    markets.platform_id,
    markets.event_ticker,
    markets.series_ticker,
    markets.title,
    markets.category,
    markets.close_time,
    markets.result,
    market_versions.valid_from,
    COALESCE(market_versions.status, markets.status) AS status,
    market_versions.yes_price,
    market_versions.no_price,
    market_versions.yes_bid,
    market_versions.yes_ask,
    market_versions.no_bid,
    market_versions.no_ask,
    COALESCE(market_versions.last_price, markets.last_price) AS last_price,
    COALESCE(market_versions.volume, markets.volume) AS volume,
    COALESCE(market_versions.open_interest, markets.open_interest) AS open_interest,
    COALESCE(market_versions.settlement_value, markets.settlement_value) AS settlement_value,
    market_versions.spread
FROM catalog.markets
LEFT JOIN catalog.market_versions
    ON market_versions.market_ticker = markets.market_ticker
    AND market_versions.valid_to IS NULL;

COMMENT ON VIEW catalog.current_markets IS 'Each market with its current version; quotes are null where no version has been recorded yet.';
COMMENT ON COLUMN catalog.current_markets.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.current_markets.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.current_markets.event_ticker IS 'The event it belongs to; null only in a stub.';
COMMENT ON COLUMN catalog.current_markets.series_ticker IS 'The series it belongs to; null while unknown.';
COMMENT ON COLUMN catalog.current_markets.title IS 'The question for people; null only in a stub.';
COMMENT ON COLUMN catalog.current_markets.category IS 'The event''s category; null while unknown.';
COMMENT ON COLUMN catalog.current_markets.close_time IS 'Trading ends, UTC.';
COMMENT ON COLUMN catalog.current_markets.result IS 'The venue''s word for the outcome; null while undetermined.';
COMMENT ON COLUMN catalog.current_markets.valid_from IS 'When the current version was first observed, UTC; null without a version.';
COMMENT ON COLUMN catalog.current_markets.status IS 'The venue''s word for the state.';
COMMENT ON COLUMN catalog.current_markets.yes_price IS 'Price of YES in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.current_markets.no_price IS 'Price of NO in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.current_markets.yes_bid IS 'Best bid for YES in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.current_markets.yes_ask IS 'Best offer of YES in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.current_markets.no_bid IS 'Best bid for NO in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.current_markets.no_ask IS 'Best offer of NO in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.current_markets.last_price IS 'Last trade, dollars for YES.';
COMMENT ON COLUMN catalog.current_markets.volume IS 'Contracts traded so far.';
COMMENT ON COLUMN catalog.current_markets.open_interest IS 'Contracts outstanding.';
COMMENT ON COLUMN catalog.current_markets.settlement_value IS 'What one YES contract pays, in dollars; null while unsettled.';
COMMENT ON COLUMN catalog.current_markets.spread IS 'yes_ask - yes_bid in dollars.';

CREATE TABLE catalog.settlements (
    market_ticker       catalog.ticker      NOT NULL,
    settled_at          timestamptz         NOT NULL,
    platform_id         text                NOT NULL,
    event_ticker        catalog.ticker,
    outcome             text                NOT NULL,
    payout              market_data.price,
    final_yes_price     market_data.price,
    final_no_price      market_data.price,
    yes_payout          market_data.price,
    no_payout           market_data.price,
    retrieved_at        timestamptz         NOT NULL,
    created_at          timestamptz         NOT NULL,
    CONSTRAINT settlements_pkey PRIMARY KEY (market_ticker, settled_at),
    CONSTRAINT settlements_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker),
    CONSTRAINT settlements_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    CONSTRAINT settlements_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker),
    CONSTRAINT settlements_outcome_check CHECK (outcome <> ''),
    CONSTRAINT settlements_yes_payout_no_payout_check CHECK (yes_payout + no_payout = 1)
);

COMMENT ON TABLE catalog.settlements IS 'An outcome that was declared; rows are only added, an amended result is a new row. See final_settlements.';
COMMENT ON COLUMN catalog.settlements.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.settlements.settled_at IS 'When the venue settled it, UTC.';
COMMENT ON COLUMN catalog.settlements.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.settlements.event_ticker IS 'The event it belongs to.';
COMMENT ON COLUMN catalog.settlements.outcome IS 'yes, no, scalar or void; the venue''s word, so a new one is stored too.';
COMMENT ON COLUMN catalog.settlements.payout IS 'Dollars that one contract on the winning side pays: 1 for yes and no, the settlement value for scalar, null when unknown.';
COMMENT ON COLUMN catalog.settlements.final_yes_price IS 'Last trade before settlement, dollars for YES; null when it never traded.';
COMMENT ON COLUMN catalog.settlements.final_no_price IS 'Last trade before settlement, dollars for NO; null when it never traded.';
COMMENT ON COLUMN catalog.settlements.yes_payout IS 'Dollars that one YES contract pays; null when unknown.';
COMMENT ON COLUMN catalog.settlements.no_payout IS 'Dollars that one NO contract pays; null when unknown.';
COMMENT ON COLUMN catalog.settlements.retrieved_at IS 'When the venue told us, UTC.';
COMMENT ON COLUMN catalog.settlements.created_at IS 'When the row was written, UTC.';

-- Serves catalog.settlements_between.
CREATE INDEX settlements_settled_at_idx ON catalog.settlements (settled_at);

CREATE VIEW catalog.final_settlements AS
SELECT DISTINCT ON (market_ticker)
    market_ticker,
    settled_at,
    platform_id,
    event_ticker,
    outcome,
    payout,
    final_yes_price,
    final_no_price,
    yes_payout,
    no_payout
FROM catalog.settlements
ORDER BY market_ticker, settled_at DESC;

COMMENT ON VIEW catalog.final_settlements IS 'The last declared outcome of each settled market.';
COMMENT ON COLUMN catalog.final_settlements.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.final_settlements.settled_at IS 'When the venue settled it, UTC.';
COMMENT ON COLUMN catalog.final_settlements.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.final_settlements.event_ticker IS 'The event it belongs to.';
COMMENT ON COLUMN catalog.final_settlements.outcome IS 'yes, no, scalar or void.';
COMMENT ON COLUMN catalog.final_settlements.payout IS 'Dollars that one contract on the winning side pays.';
COMMENT ON COLUMN catalog.final_settlements.final_yes_price IS 'Last trade before settlement, dollars for YES.';
COMMENT ON COLUMN catalog.final_settlements.final_no_price IS 'Last trade before settlement, dollars for NO.';
COMMENT ON COLUMN catalog.final_settlements.yes_payout IS 'Dollars that one YES contract pays.';
COMMENT ON COLUMN catalog.final_settlements.no_payout IS 'Dollars that one NO contract pays.';

CREATE TABLE catalog.market_lifecycle (
    market_ticker   catalog.ticker      NOT NULL,
    event_type      text                NOT NULL,
    occurred_at     timestamptz         NOT NULL,
    source          market_data.source  NOT NULL,
    details         jsonb,
    retrieved_at    timestamptz         NOT NULL,
    created_at      timestamptz         NOT NULL,
    CONSTRAINT market_lifecycle_pkey PRIMARY KEY (market_ticker, event_type, occurred_at),
    CONSTRAINT market_lifecycle_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker)
);

COMMENT ON TABLE catalog.market_lifecycle IS 'Something happened to a market: activated, close time moved, determined, disputed, settled ...';
COMMENT ON COLUMN catalog.market_lifecycle.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.market_lifecycle.event_type IS 'The venue''s word for what happened, or ours where we saw a change between two polls.';
COMMENT ON COLUMN catalog.market_lifecycle.occurred_at IS 'When it happened, UTC; for a change seen between polls, when it was seen.';
COMMENT ON COLUMN catalog.market_lifecycle.source IS 'websocket when streamed, poll when seen as a change.';
COMMENT ON COLUMN catalog.market_lifecycle.details IS 'The message, or what changed from what to what.';
COMMENT ON COLUMN catalog.market_lifecycle.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN catalog.market_lifecycle.created_at IS 'When the row was written, UTC.';
