-- Deleting is a purge: it goes down the whole tree, and stops at what must not be deleted by accident.
--
-- Why: when a venue is given up, or test data has to go, everything that hangs on it goes in one statement: platform, series, events,
-- markets, their history, and the ledgers of later migrations. A foreign key that merely refuses would leave the order of a dozen
-- DELETEs to whoever is on call. Ledgers (own trades, exits, attempts, analyses) and configs carry a trigger that refuses to lose a row
-- unless the transaction says SET LOCAL kalshidb.allow_purge = on; catalog and market_data take no triggers (they must run distributed),
-- so there it is for privileges to say who may delete.
-- Locks: SHARE ROW EXCLUSIVE on both tables of each key, one after the other, held to the end; each ADD reads the referencing table
-- once. On a large database that is minutes in which nothing is written: run it in a quiet hour.
-- Undo: the keys refuse again, nothing is lost.
-- depends: 0009.ingestion

ALTER TABLE catalog.series
    DROP CONSTRAINT series_platform_id_fkey,
    ADD CONSTRAINT series_platform_id_fkey
        FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE;

ALTER TABLE catalog.events
    DROP CONSTRAINT events_platform_id_fkey,
    ADD CONSTRAINT events_platform_id_fkey
        FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    DROP CONSTRAINT events_series_ticker_fkey,
    ADD CONSTRAINT events_series_ticker_fkey
        FOREIGN KEY (series_ticker) REFERENCES catalog.series (series_ticker) ON DELETE CASCADE;

ALTER TABLE catalog.markets
    DROP CONSTRAINT markets_platform_id_fkey,
    ADD CONSTRAINT markets_platform_id_fkey
        FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    DROP CONSTRAINT markets_event_ticker_fkey,
    ADD CONSTRAINT markets_event_ticker_fkey
        FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker) ON DELETE CASCADE,
    DROP CONSTRAINT markets_series_ticker_fkey,
    ADD CONSTRAINT markets_series_ticker_fkey
        FOREIGN KEY (series_ticker) REFERENCES catalog.series (series_ticker) ON DELETE CASCADE;

ALTER TABLE catalog.market_versions
    DROP CONSTRAINT market_versions_market_ticker_fkey,
    ADD CONSTRAINT market_versions_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE;

ALTER TABLE catalog.settlements
    DROP CONSTRAINT settlements_market_ticker_fkey,
    ADD CONSTRAINT settlements_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    DROP CONSTRAINT settlements_platform_id_fkey,
    ADD CONSTRAINT settlements_platform_id_fkey
        FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    DROP CONSTRAINT settlements_event_ticker_fkey,
    ADD CONSTRAINT settlements_event_ticker_fkey
        FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker) ON DELETE CASCADE;

ALTER TABLE catalog.market_lifecycle
    DROP CONSTRAINT market_lifecycle_market_ticker_fkey,
    ADD CONSTRAINT market_lifecycle_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE;

ALTER TABLE market_data.candlesticks
    DROP CONSTRAINT candlesticks_market_ticker_fkey,
    ADD CONSTRAINT candlesticks_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE;

ALTER TABLE market_data.price_snapshots
    DROP CONSTRAINT price_snapshots_market_ticker_fkey,
    ADD CONSTRAINT price_snapshots_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE;

ALTER TABLE market_data.orderbook_snapshots
    DROP CONSTRAINT orderbook_snapshots_market_ticker_fkey,
    ADD CONSTRAINT orderbook_snapshots_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE;

ALTER TABLE market_data.orderbook_deltas
    DROP CONSTRAINT orderbook_deltas_market_ticker_fkey,
    ADD CONSTRAINT orderbook_deltas_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE;

-- Serves catalog.settlements_of_event, and a purge, which asks for the settlements of each event that goes.
CREATE INDEX settlements_event_ticker_idx ON catalog.settlements (event_ticker);

CREATE FUNCTION ops.refuse_ledger_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
    -- A row that was written stays as it was, also in a purge; a purge may only take it away.
    IF TG_OP <> 'UPDATE' AND COALESCE(NULLIF(current_setting('kalshidb.allow_purge', true), '')::boolean, false) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% of %.% is refused: its rows are kept as they were written', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING
            ERRCODE = 'restrict_violation',
            SCHEMA = TG_TABLE_SCHEMA,
            TABLE = TG_TABLE_NAME,
            CONSTRAINT = TG_TABLE_NAME || '_append_only',
            DETAIL = CASE WHEN TG_LEVEL = 'ROW' THEN format('The row is %s.', left(to_jsonb(OLD)::text, 500)) ELSE 'The whole table was meant.' END,
            HINT = CASE
                WHEN TG_OP = 'UPDATE' THEN 'Insert a new row that corrects it.'
                ELSE 'To purge on purpose, say SET LOCAL kalshidb.allow_purge = on in the same transaction.'
            END;
END;
$$;

COMMENT ON FUNCTION ops.refuse_ledger_change() IS
    'Trigger of ledgers and configs: refuses to lose or change a row (constraint <table>_append_only), except a DELETE or TRUNCATE in a transaction that said SET LOCAL kalshidb.allow_purge = on.';
