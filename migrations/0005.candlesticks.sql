-- Candlesticks of one minute, one hour and one day.
--
-- Why: the exchange's own summary of quotes and trades, and the only history of quotes that it keeps. Sparse: a period in which
-- nothing moved has no row, so absent is not zero. Daily bars end at midnight US Eastern, so one of them is 25 hours long in autumn;
-- nothing here assumes a grid. The three lengths share a table because every question about one is asked of the others.
-- Locks: creates only.
-- Undo: loses the stored candlesticks; the exchange can be asked again.
-- depends: 0004.monthly-partitions

CREATE TABLE market_data.candlesticks (
    market_ticker           catalog.ticker          NOT NULL,
    end_period_ts           timestamptz             NOT NULL,
    period_interval_minutes smallint                NOT NULL,
    yes_bid_open            market_data.price,
    yes_bid_high            market_data.price,
    yes_bid_low             market_data.price,
    yes_bid_close           market_data.price,
    yes_ask_open            market_data.price,
    yes_ask_high            market_data.price,
    yes_ask_low             market_data.price,
    yes_ask_close           market_data.price,
    price_open              market_data.price,
    price_high              market_data.price,
    price_low               market_data.price,
    price_close             market_data.price,
    price_mean              market_data.price,
    price_previous          market_data.price,
    volume                  market_data.contracts,
    open_interest           market_data.contracts,
    retrieved_at            timestamptz             NOT NULL,
    raw_json                jsonb,
    CONSTRAINT candlesticks_pkey PRIMARY KEY (market_ticker, end_period_ts, period_interval_minutes),
    CONSTRAINT candlesticks_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker),
    CONSTRAINT candlesticks_period_interval_minutes_check CHECK (period_interval_minutes IN (1, 60, 1440)),
    CONSTRAINT candlesticks_yes_bid_low_yes_bid_high_check CHECK (yes_bid_low <= yes_bid_high),
    CONSTRAINT candlesticks_yes_ask_low_yes_ask_high_check CHECK (yes_ask_low <= yes_ask_high),
    CONSTRAINT candlesticks_price_low_price_high_check CHECK (price_low <= price_high)
) PARTITION BY RANGE (end_period_ts);

COMMENT ON TABLE market_data.candlesticks IS 'Quotes and trades of one market over one period; sparse, monthly partitions by end_period_ts.';
COMMENT ON COLUMN market_data.candlesticks.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.candlesticks.end_period_ts IS 'End of the period, UTC, inclusive; daily bars end at midnight US Eastern.';
COMMENT ON COLUMN market_data.candlesticks.period_interval_minutes IS 'Length of the period in minutes: 1, 60 or 1440.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_open IS 'Best bid for YES at the start of the period, dollars; 0 when nobody bids.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_high IS 'Highest best bid for YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_low IS 'Lowest best bid for YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_close IS 'Best bid for YES at the end, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_open IS 'Best offer of YES at the start, dollars; 1 when nobody offers.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_high IS 'Highest best offer of YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_low IS 'Lowest best offer of YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_close IS 'Best offer of YES at the end, dollars.';
COMMENT ON COLUMN market_data.candlesticks.price_open IS 'First trade of the period, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_high IS 'Highest trade, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_low IS 'Lowest trade, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_close IS 'Last trade, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_mean IS 'Mean trade price as the exchange gives it, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_previous IS 'Last trade before the period, dollars for YES; null before the first trade.';
COMMENT ON COLUMN market_data.candlesticks.volume IS 'Contracts traded in the period.';
COMMENT ON COLUMN market_data.candlesticks.open_interest IS 'Contracts outstanding at the end.';
COMMENT ON COLUMN market_data.candlesticks.retrieved_at IS 'When the exchange gave this state, UTC; the newest wins, because the candle of an open period still grows.';
COMMENT ON COLUMN market_data.candlesticks.raw_json IS 'The last payload that was kept, as it arrived; kept on request only, null otherwise.';

-- Serves market_data.candlesticks_in_window: all markets over a slice of time.
CREATE INDEX candlesticks_end_period_ts_idx ON market_data.candlesticks (end_period_ts);
