-- The versions of a market form one chain without gap or overlap, and the database itself sees to it.
--
-- Why: one current row a market is not enough: two writers at once could still leave intervals that overlap or a moment that belongs to
-- no version. A version ends exactly where another one begins (foreign key to the next), no two end at the same moment (unique), a
-- version ends after it began (check), and only one does not end. Together: each start has at most one predecessor, every way leads to
-- the one open end, so there is one chain. Costs a probe for each version that is closed, and no exclusion constraint.
-- Locks: SHARE ROW EXCLUSIVE on catalog.market_versions while its rows are read once.
-- Undo: drops the constraints; rows stay.
-- depends: 0010.purge

ALTER TABLE catalog.market_versions
    -- The end first: led by the ticker it would be a second way to all versions of a market, and the planner would take it for the key.
    ADD CONSTRAINT market_versions_valid_to_market_ticker_key UNIQUE (valid_to, market_ticker),
    ADD CONSTRAINT market_versions_market_ticker_valid_to_fkey
        FOREIGN KEY (market_ticker, valid_to) REFERENCES catalog.market_versions (market_ticker, valid_from);

COMMENT ON CONSTRAINT market_versions_market_ticker_valid_to_fkey ON catalog.market_versions IS
    'A version ends where the next begins: no gap.';
COMMENT ON CONSTRAINT market_versions_valid_to_market_ticker_key ON catalog.market_versions IS
    'No two versions end at the same moment: no overlap.';
