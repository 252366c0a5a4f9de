-- The rules of seen_again hold for every row.
--
-- Why: they were added without looking at what is stored (0026), so that nobody waits. Readers rely on them.
-- Locks: SHARE UPDATE EXCLUSIVE on market_data.price_snapshots while its rows are read: nobody waits but other changes of the table.
-- Undo: nothing to undo; the rules go with the migration before.
-- depends: 0026.quotes-seen-again

ALTER TABLE market_data.price_snapshots VALIDATE CONSTRAINT price_snapshots_seen_again_check;
ALTER TABLE market_data.price_snapshots VALIDATE CONSTRAINT price_snapshots_seen_again_within_hours_check;
