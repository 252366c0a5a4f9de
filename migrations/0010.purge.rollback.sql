DROP FUNCTION ops.refuse_ledger_change();
DROP INDEX catalog.settlements_event_ticker_idx;
ALTER TABLE market_data.orderbook_deltas
    DROP CONSTRAINT orderbook_deltas_market_ticker_fkey,
    ADD CONSTRAINT orderbook_deltas_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker);
ALTER TABLE market_data.orderbook_snapshots
    DROP CONSTRAINT orderbook_snapshots_market_ticker_fkey,
    ADD CONSTRAINT orderbook_snapshots_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker);
ALTER TABLE market_data.price_snapshots
    DROP CONSTRAINT price_snapshots_market_ticker_fkey,
    ADD CONSTRAINT price_snapshots_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker);
ALTER TABLE market_data.candlesticks
    DROP CONSTRAINT candlesticks_market_ticker_fkey,
    ADD CONSTRAINT candlesticks_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker);
ALTER TABLE catalog.market_lifecycle
    DROP CONSTRAINT market_lifecycle_market_ticker_fkey,
    ADD CONSTRAINT market_lifecycle_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker);
ALTER TABLE catalog.settlements
    DROP CONSTRAINT settlements_market_ticker_fkey,
    ADD CONSTRAINT settlements_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker),
    DROP CONSTRAINT settlements_platform_id_fkey,
    ADD CONSTRAINT settlements_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    DROP CONSTRAINT settlements_event_ticker_fkey,
    ADD CONSTRAINT settlements_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker);
ALTER TABLE catalog.market_versions
    DROP CONSTRAINT market_versions_market_ticker_fkey,
    ADD CONSTRAINT market_versions_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker);
ALTER TABLE catalog.markets
    DROP CONSTRAINT markets_platform_id_fkey,
    ADD CONSTRAINT markets_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    DROP CONSTRAINT markets_event_ticker_fkey,
    ADD CONSTRAINT markets_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker),
    DROP CONSTRAINT markets_series_ticker_fkey,
    ADD CONSTRAINT markets_series_ticker_fkey FOREIGN KEY (series_ticker) REFERENCES catalog.series (series_ticker);
ALTER TABLE catalog.events
    DROP CONSTRAINT events_platform_id_fkey,
    ADD CONSTRAINT events_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    DROP CONSTRAINT events_series_ticker_fkey,
    ADD CONSTRAINT events_series_ticker_fkey FOREIGN KEY (series_ticker) REFERENCES catalog.series (series_ticker);
ALTER TABLE catalog.series
    DROP CONSTRAINT series_platform_id_fkey,
    ADD CONSTRAINT series_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id);
