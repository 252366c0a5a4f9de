-- Series: recurring kinds of event.

-- name: upsert_series()^
-- Writes series as the venue described them; completes stubs.
--
-- Of two states of one series the one retrieved later stays, whichever arrives first. A series that occurs twice in the input counts
-- once. A state that only confirms what is stored counts as unchanged.
-- @bulk staged_series like catalog.series without is_stub, created_at, updated_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (series_ticker) *
    FROM staged_series
    -- Of two at the same moment the content decides, here and below, so that the order of arrival never does.
    ORDER BY series_ticker, retrieved_at DESC, ROW(
        raw_json, platform_id, external_id, category, subcategory, title, frequency, tags, fee_type, fee_multiplier,
        settlement_sources, metadata
    )::record DESC
),
written AS (
    INSERT INTO catalog.series AS stored (
        series_ticker, platform_id, external_id, category, subcategory, title, frequency, tags, fee_type, fee_multiplier,
        settlement_sources, metadata, raw_json, retrieved_at, is_stub, created_at, updated_at
    )
    SELECT
        series_ticker, platform_id, external_id, category, subcategory, title, frequency, tags, fee_type, fee_multiplier,
        settlement_sources, metadata, raw_json, retrieved_at, false, statement_timestamp(), statement_timestamp()
    FROM newest
    ORDER BY series_ticker
    ON CONFLICT (series_ticker) DO UPDATE SET
        platform_id = EXCLUDED.platform_id,
        external_id = EXCLUDED.external_id,
        category = EXCLUDED.category,
        subcategory = EXCLUDED.subcategory,
        title = EXCLUDED.title,
        frequency = EXCLUDED.frequency,
        tags = EXCLUDED.tags,
        fee_type = EXCLUDED.fee_type,
        fee_multiplier = EXCLUDED.fee_multiplier,
        settlement_sources = EXCLUDED.settlement_sources,
        metadata = EXCLUDED.metadata,
        raw_json = EXCLUDED.raw_json,
        retrieved_at = EXCLUDED.retrieved_at,
        is_stub = false,
        -- A poll that only confirms the content moves retrieved_at, not updated_at.
        updated_at = CASE WHEN (
            stored.is_stub, stored.platform_id, stored.external_id, stored.category, stored.subcategory, stored.title,
            stored.frequency, stored.tags, stored.fee_type, stored.fee_multiplier, stored.settlement_sources, stored.metadata,
            stored.raw_json
        ) IS DISTINCT FROM (
            false, EXCLUDED.platform_id, EXCLUDED.external_id, EXCLUDED.category, EXCLUDED.subcategory, EXCLUDED.title,
            EXCLUDED.frequency, EXCLUDED.tags, EXCLUDED.fee_type, EXCLUDED.fee_multiplier, EXCLUDED.settlement_sources,
            EXCLUDED.metadata, EXCLUDED.raw_json
        ) THEN EXCLUDED.updated_at ELSE stored.updated_at END
    WHERE stored.is_stub OR EXCLUDED.retrieved_at > stored.retrieved_at OR (
        -- As records and not as rows, because a row with a null compares with nothing.
        EXCLUDED.retrieved_at = stored.retrieved_at AND ROW(
            EXCLUDED.raw_json, EXCLUDED.platform_id, EXCLUDED.external_id, EXCLUDED.category, EXCLUDED.subcategory,
            EXCLUDED.title, EXCLUDED.frequency, EXCLUDED.tags, EXCLUDED.fee_type, EXCLUDED.fee_multiplier,
            EXCLUDED.settlement_sources, EXCLUDED.metadata
        )::record > ROW(
            stored.raw_json, stored.platform_id, stored.external_id, stored.category, stored.subcategory, stored.title,
            stored.frequency, stored.tags, stored.fee_type, stored.fee_multiplier, stored.settlement_sources, stored.metadata
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

-- name: series_by_ticker(series_ticker)^
-- One series, or None when the catalogue does not know it.
SELECT *
FROM catalog.series
WHERE series_ticker = :series_ticker;

-- name: series_of_category(category)
-- All series of one category, in the venue's spelling, by ticker.
-- @plan there are a few thousand series, and a category has hundreds of them
SELECT *
FROM catalog.series
WHERE category = :category
ORDER BY series_ticker;
