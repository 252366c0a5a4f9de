-- The public tape: every trade on the exchange.
--
-- Why: trade_id is the only thing that tells two trades apart; equal ticker, microsecond, price, side and count occur in real pages.
-- There is deliberately no foreign key to markets: combos trade before the catalogue knows them, a fifth of all contracts. The view
-- orphan_trades shows which markets are missing.
-- Locks: creates only.
-- Undo: loses the stored trades; the exchange can be asked again.
-- depends: 0007.order-books

CREATE TABLE market_data.public_trades (
    market_ticker   catalog.ticker          NOT NULL,
    created_time    timestamptz             NOT NULL,
    trade_id        uuid                    NOT NULL,
    count           market_data.contracts   NOT NULL,
    yes_price       market_data.price       NOT NULL,
    no_price        market_data.price       NOT NULL,
    taker_side      market_data.side,
    is_block_trade  boolean                 NOT NULL,
    retrieved_at    timestamptz             NOT NULL,
    raw_json        jsonb,
    CONSTRAINT public_trades_pkey PRIMARY KEY (market_ticker, created_time, trade_id),
    CONSTRAINT public_trades_yes_price_no_price_check CHECK (yes_price + no_price = 1)
) PARTITION BY RANGE (created_time);

COMMENT ON TABLE market_data.public_trades IS 'One trade between two others; monthly partitions by created_time.';
COMMENT ON COLUMN market_data.public_trades.market_ticker IS 'The market; may be unknown to the catalogue.';
COMMENT ON COLUMN market_data.public_trades.created_time IS 'When it happened, UTC, to the microsecond.';
COMMENT ON COLUMN market_data.public_trades.trade_id IS 'The venue''s id of the trade, the only thing that identifies it.';
COMMENT ON COLUMN market_data.public_trades.count IS 'Contracts traded, 0.01 and up.';
COMMENT ON COLUMN market_data.public_trades.yes_price IS 'Dollars for YES.';
COMMENT ON COLUMN market_data.public_trades.no_price IS 'Dollars for NO; both sum to one.';
COMMENT ON COLUMN market_data.public_trades.taker_side IS 'The side that the taker bought; null when the venue does not say.';
COMMENT ON COLUMN market_data.public_trades.is_block_trade IS 'True for a negotiated block trade; false where the venue did not say, as before May 2026.';
COMMENT ON COLUMN market_data.public_trades.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN market_data.public_trades.raw_json IS 'The payload as it arrived; kept on request only, null otherwise.';

-- Serves market_data.trades_in_window: all markets over a slice of time.
CREATE INDEX public_trades_created_time_idx ON market_data.public_trades (created_time);

CREATE VIEW market_data.orphan_trades AS
SELECT
    public_trades.market_ticker,
    count(*) AS trades,
    sum(public_trades.count)::numeric(24, 2) AS contracts,
    min(public_trades.created_time) AS first_trade_time,
    max(public_trades.created_time) AS last_trade_time
FROM market_data.public_trades
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = public_trades.market_ticker)
GROUP BY public_trades.market_ticker;

COMMENT ON VIEW market_data.orphan_trades IS 'Markets that traded and that the catalogue does not know.';
COMMENT ON COLUMN market_data.orphan_trades.market_ticker IS 'The unknown market.';
COMMENT ON COLUMN market_data.orphan_trades.trades IS 'How many trades are stored.';
COMMENT ON COLUMN market_data.orphan_trades.contracts IS 'Contracts traded in them.';
COMMENT ON COLUMN market_data.orphan_trades.first_trade_time IS 'The first of them, UTC.';
COMMENT ON COLUMN market_data.orphan_trades.last_trade_time IS 'The last of them, UTC.';
