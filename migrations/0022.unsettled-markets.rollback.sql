DROP INDEX catalog.markets_unsettled_idx;
