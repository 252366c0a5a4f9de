-- The rooms of the database, and the words that its columns are made of.
--
-- Why: a price, a count of contracts or a ticker means the same in every table, so each is a DOMAIN: one place for its precision
-- and its rule, and the Python type is derived from it. Prices are dollars with six decimals because the exchange's specification
-- allows six; contracts have two because 0.01-contract trades are common. Never float, never cents.
-- Locks: creates only. Safe while an application runs. If it stops half way, nothing is left: it is one transaction.
-- Undo: drops the schemas; they must be empty of tables (roll back the later migrations first).

CREATE SCHEMA catalog;
COMMENT ON SCHEMA catalog IS 'What can be traded: platforms, series, events, markets, how they changed and how they settled.';

CREATE SCHEMA market_data;
COMMENT ON SCHEMA market_data IS 'What the market did: candlesticks, quotes, order books and public trades, partitioned by month.';

CREATE SCHEMA ops;
COMMENT ON SCHEMA ops IS 'How the store is kept running: loads, rejected payloads, backfill checkpoints.';

-- Open on purpose: another venue's key (a hex condition id, a slug) is as good a ticker as KXHIGHNY-26JUL19-T80.
CREATE DOMAIN catalog.ticker AS text
    CONSTRAINT ticker_form_check CHECK (VALUE ~ '^\S{1,200}$');
COMMENT ON DOMAIN catalog.ticker IS 'A venue''s key of a series, event or market: 1 to 200 characters, no white space.';

CREATE DOMAIN market_data.price AS numeric(7, 6)
    CONSTRAINT price_range_check CHECK (VALUE BETWEEN 0 AND 1);
COMMENT ON DOMAIN market_data.price IS 'Price of one contract in dollars, 0 to 1, six decimals.';

CREATE DOMAIN market_data.probability AS numeric(7, 6)
    CONSTRAINT probability_range_check CHECK (VALUE BETWEEN 0 AND 1);
COMMENT ON DOMAIN market_data.probability IS 'Probability, 0 to 1, six decimals.';

CREATE DOMAIN market_data.contracts AS numeric(18, 2)
    CONSTRAINT contracts_range_check CHECK (VALUE >= 0);
COMMENT ON DOMAIN market_data.contracts IS 'Number of contracts, never negative, two decimals: the smallest trade is 0.01 contract.';

CREATE DOMAIN market_data.money AS numeric(18, 6);
COMMENT ON DOMAIN market_data.money IS 'Amount in US dollars, may be negative, six decimals.';

CREATE DOMAIN market_data.side AS text
    CONSTRAINT side_word_check CHECK (VALUE IN ('yes', 'no'));
COMMENT ON DOMAIN market_data.side IS 'The side of a binary contract: yes or no.';

CREATE DOMAIN market_data.source AS text
    CONSTRAINT source_word_check CHECK (VALUE IN ('poll', 'websocket', 'backfill'));
COMMENT ON DOMAIN market_data.source IS 'How an observation reached us: poll (asked for), websocket (streamed) or backfill (imported later).';
