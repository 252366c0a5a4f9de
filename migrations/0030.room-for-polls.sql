-- What a poll touches again stays on its page.
--
-- Why: a poll notes of every market when it was seen, and of most quotes that they were seen again. Neither is in an index, so the new
-- state of such a row needs no index entry, if there is room for it on the page of the old one. Where pages were filled up there was
-- none: each poll of unchanged markets wrote nine index entries a market, and the table was twice as large after three. Rows that are
-- stored already move to pages with room as they are polled.
-- Locks: SHARE UPDATE EXCLUSIVE on catalog.markets for a moment; no row is touched. Months of quotes that exist stay as they are.
-- Undo: pages are filled up again; nothing is lost.
-- depends: 0029.continuous-books

ALTER TABLE catalog.markets SET (fillfactor = 60);

CREATE OR REPLACE FUNCTION market_data.create_month_partitions(parent regclass, moments timestamptz[]) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET timezone TO 'UTC'
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
    month       timestamptz;
    room        text;
    parent_name text;
    partition   text;
    created     integer := 0;
BEGIN
    SELECT n.nspname, c.relname INTO STRICT room, parent_name
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = parent;

    FOR month IN
        SELECT DISTINCT date_trunc('month', moment) FROM unnest(moments) AS moment WHERE moment IS NOT NULL ORDER BY 1
    LOOP
        partition := parent_name || to_char(month, '"_"YYYY"_"MM');
        CONTINUE WHEN to_regclass(format('%I.%I', room, partition)) IS NOT NULL;

        -- Two loaders may miss the same month at once: the second waits here and then finds it made. Not an advisory lock: only
        -- the lock of a table makes the session hear of tables that others have made meanwhile. ATTACH takes this one anyway.
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
        CONTINUE WHEN to_regclass(format('%I.%I', room, partition)) IS NOT NULL;

        -- Created apart and attached: CREATE TABLE ... PARTITION OF would lock the parent against every reader.
        EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)',
                       room, partition, parent);
        -- Room for a quote's next sight on the page of its row: seen_again.
        IF parent_name = 'price_snapshots' THEN
            EXECUTE format('ALTER TABLE %I.%I SET (fillfactor = 70)', room, partition);
        END IF;
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                       parent, room, partition, month, month + interval '1 month');
        EXECUTE format('COMMENT ON TABLE %I.%I IS %L', room, partition,
                       format('%s of %s, UTC.', parent_name, to_char(month, 'YYYY-MM')));
        created := created + 1;
    END LOOP;
    RETURN created;
END;
$$;
