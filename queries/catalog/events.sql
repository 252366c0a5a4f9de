-- Events: one question each, with one or more markets.

-- name: upsert_events()^
-- Writes events as the venue described them; completes stubs, and gives their markets the event's series and category.
--
-- Of two states of one event the one retrieved later stays, whichever arrives first. An unknown series gets a stub. An event that
-- occurs twice in the input counts once. A state that only confirms what is stored counts as unchanged.
-- @bulk staged_events like catalog.events without open_time, close_time, is_stub, created_at, updated_at
-- @one
-- @before insert_series_stubs_of_events
-- @after inherit_from_events
WITH newest AS (
    SELECT DISTINCT ON (event_ticker) *
    FROM staged_events
    -- Of two at the same moment the content decides, here and below, so that the order of arrival never does.
    ORDER BY event_ticker, retrieved_at DESC, ROW(
        raw_json, platform_id, series_ticker, external_id, category, subcategory, title, sub_title, description, strike_date,
        status, mutually_exclusive, result, metadata
    )::record DESC
),
written AS (
    INSERT INTO catalog.events AS stored (
        event_ticker, platform_id, series_ticker, external_id, category, subcategory, title, sub_title, description, strike_date,
        status, mutually_exclusive, result, metadata, raw_json, retrieved_at, is_stub, created_at, updated_at
    )
    SELECT
        event_ticker, platform_id, series_ticker, external_id, category, subcategory, title, sub_title, description, strike_date,
        status, mutually_exclusive, result, metadata, raw_json, retrieved_at, false, statement_timestamp(), statement_timestamp()
    FROM newest
    ORDER BY event_ticker
    ON CONFLICT (event_ticker) DO UPDATE SET
        platform_id = EXCLUDED.platform_id,
        series_ticker = EXCLUDED.series_ticker,
        external_id = EXCLUDED.external_id,
        category = EXCLUDED.category,
        subcategory = EXCLUDED.subcategory,
        title = EXCLUDED.title,
        sub_title = EXCLUDED.sub_title,
        description = EXCLUDED.description,
        strike_date = EXCLUDED.strike_date,
        status = EXCLUDED.status,
        mutually_exclusive = EXCLUDED.mutually_exclusive,
        result = EXCLUDED.result,
        metadata = EXCLUDED.metadata,
        raw_json = EXCLUDED.raw_json,
        retrieved_at = EXCLUDED.retrieved_at,
        is_stub = false,
        -- A poll that only confirms the content moves retrieved_at, not updated_at.
        updated_at = CASE WHEN (
            stored.is_stub, stored.platform_id, stored.series_ticker, stored.external_id, stored.category, stored.subcategory,
            stored.title, stored.sub_title, stored.description, stored.strike_date, stored.status, stored.mutually_exclusive,
            stored.result, stored.metadata, stored.raw_json
        ) IS DISTINCT FROM (
            false, EXCLUDED.platform_id, EXCLUDED.series_ticker, EXCLUDED.external_id, EXCLUDED.category, EXCLUDED.subcategory,
            EXCLUDED.title, EXCLUDED.sub_title, EXCLUDED.description, EXCLUDED.strike_date, EXCLUDED.status,
            EXCLUDED.mutually_exclusive, EXCLUDED.result, EXCLUDED.metadata, EXCLUDED.raw_json
        ) THEN EXCLUDED.updated_at ELSE stored.updated_at END
    WHERE stored.is_stub OR EXCLUDED.retrieved_at > stored.retrieved_at OR (
        -- As records and not as rows, because a row with a null compares with nothing.
        EXCLUDED.retrieved_at = stored.retrieved_at AND ROW(
            EXCLUDED.raw_json, EXCLUDED.platform_id, EXCLUDED.series_ticker, EXCLUDED.external_id, EXCLUDED.category,
            EXCLUDED.subcategory, EXCLUDED.title, EXCLUDED.sub_title, EXCLUDED.description, EXCLUDED.strike_date, EXCLUDED.status,
            EXCLUDED.mutually_exclusive, EXCLUDED.result, EXCLUDED.metadata
        )::record > ROW(
            stored.raw_json, stored.platform_id, stored.series_ticker, stored.external_id, stored.category, stored.subcategory,
            stored.title, stored.sub_title, stored.description, stored.strike_date, stored.status, stored.mutually_exclusive,
            stored.result, stored.metadata
        )::record
    )
    RETURNING
        created_at = statement_timestamp() AS is_inserted,
        updated_at = statement_timestamp() AS is_changed
)
SELECT
    count(*) FILTER (WHERE is_inserted) AS inserted,
    count(*) FILTER (WHERE is_changed AND NOT is_inserted) AS updated
FROM written;

-- name: insert_series_stubs_of_events()!
-- A stub for each series that the staged events name and the catalogue lacks.
-- @internal step of upsert_events
INSERT INTO catalog.series (series_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT series_ticker, min(platform_id), series_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_events
WHERE series_ticker IS NOT NULL
    AND NOT EXISTS (SELECT FROM catalog.series WHERE series.series_ticker = staged_events.series_ticker)
GROUP BY series_ticker
ORDER BY series_ticker
ON CONFLICT (series_ticker) DO NOTHING;

-- name: inherit_from_events()!
-- Copies series and category of the staged events to their markets, which the venue sends without either.
-- @internal step of upsert_events
WITH inheriting AS (
    -- Locked in order of ticker, as every writer of markets does.
    SELECT markets.market_ticker
    FROM catalog.markets
    JOIN catalog.events ON events.event_ticker = markets.event_ticker
    WHERE markets.event_ticker IN (SELECT event_ticker FROM staged_events)
        AND (markets.series_ticker, markets.category) IS DISTINCT FROM (events.series_ticker, events.category)
    ORDER BY markets.market_ticker
    FOR NO KEY UPDATE OF markets
)
UPDATE catalog.markets
SET
    series_ticker = events.series_ticker,
    category = events.category,
    updated_at = statement_timestamp()
FROM inheriting, catalog.events
WHERE markets.market_ticker = inheriting.market_ticker
    AND events.event_ticker = markets.event_ticker;

-- name: event_by_ticker(event_ticker)^
-- One event, or None when the catalogue does not know it.
SELECT *
FROM catalog.events
WHERE event_ticker = :event_ticker;

-- name: events_of_series(series_ticker, closing_from, closing_to)
-- Events of one series whose last market closes in [closing_from, closing_to), in order of close.
SELECT *
FROM catalog.events
WHERE series_ticker = :series_ticker
    AND close_time >= :closing_from
    AND close_time < :closing_to
ORDER BY close_time, event_ticker;

-- name: search_events(series_ticker, category, words, closing_from, closing_to, after_close_time, after_event_ticker, page_size)
-- A page of the events whose last market closes in [closing_from, closing_to) and that are all that is asked, in order of close time.
--
-- None for series_ticker, category or words asks for every one; words are looked for in the titles, without regard to case. For the first
-- page pass closing_from and an empty text as the place to go on from, then the last row's close_time and event_ticker. Events without a
-- known market have no close time and are left out.
-- @param series_ticker nullable: None asks for every series
-- @param category nullable: None asks for every category
-- @param words nullable: None asks for every title
SELECT *
FROM catalog.events
WHERE close_time >= :closing_from
    AND close_time < :closing_to
    AND (close_time, event_ticker) > (:after_close_time, :after_event_ticker::text)
    AND (:series_ticker::text IS NULL OR series_ticker = :series_ticker::text)
    AND (:category::text IS NULL OR category = :category::text)
    AND (
        :words::text IS NULL
        OR strpos(lower(title), lower(:words::text)) > 0
        OR strpos(lower(sub_title), lower(:words::text)) > 0
    )
ORDER BY close_time, event_ticker
LIMIT :page_size;

-- name: all_events()
-- Every event, for an export; streamed, so memory stays flat.
-- @stream
-- @plan an export reads everything
SELECT *
FROM catalog.events
ORDER BY event_ticker;
