-- Markets: the contracts themselves, as last seen.

-- name: upsert_markets()^
-- Writes markets as the venue described them; completes stubs, and keeps their events' open and close times.
--
-- Of two states of one market the one retrieved later stays, whichever arrives first. An unknown event or series gets a stub. Series
-- and category are the event's once the event itself has arrived; until then what the venue sent with the market. A market that
-- occurs twice in the input counts once. A state that only confirms what is stored counts as unchanged.
-- @bulk staged_markets like catalog.markets without is_stub, created_at, updated_at
-- @one
-- @before insert_series_stubs_of_markets
-- @before hold_events_of_markets
-- @before hold_staged_markets
-- @before confirm_markets
-- @after summarise_events_of_markets
WITH newest AS (
    SELECT DISTINCT ON (market_ticker) *
    FROM staged_markets
    -- Of two at the same moment the content decides, here and below, so that the order of arrival never does.
    ORDER BY market_ticker, retrieved_at DESC, ROW(
        raw_json, platform_id, event_ticker, external_id, market_type, title, subtitle, yes_sub_title, no_sub_title, subcategory,
        strike_type, floor_strike, cap_strike, functional_strike, custom_strike, open_time, close_time, expiration_time,
        expected_expiration_time, status, result, settlement_value, settlement_ts, price_ranges, last_price, volume,
        open_interest, metadata, series_ticker, category
    )::record DESC
),
placed AS (
    SELECT
        newest.*,
        CASE WHEN events.event_ticker IS NULL THEN newest.series_ticker ELSE events.series_ticker END AS placed_series_ticker,
        CASE WHEN events.event_ticker IS NULL THEN newest.category ELSE events.category END AS placed_category
    FROM newest
    LEFT JOIN catalog.events ON events.event_ticker = newest.event_ticker AND NOT events.is_stub
),
written AS (
    INSERT INTO catalog.markets AS stored (
        market_ticker, platform_id, event_ticker, series_ticker, external_id, market_type, title, subtitle, yes_sub_title,
        no_sub_title, category, subcategory, strike_type, floor_strike, cap_strike, functional_strike, custom_strike, open_time,
        close_time, expiration_time, expected_expiration_time, status, result, settlement_value, settlement_ts, price_ranges,
        last_price, volume, open_interest, metadata, raw_json, retrieved_at, is_stub, created_at, updated_at
    )
    SELECT
        market_ticker, platform_id, event_ticker, placed_series_ticker, external_id, market_type, title, subtitle, yes_sub_title,
        no_sub_title, placed_category, subcategory, strike_type, floor_strike, cap_strike, functional_strike, custom_strike,
        open_time, close_time, expiration_time, expected_expiration_time, status, result, settlement_value, settlement_ts,
        price_ranges, last_price, volume, open_interest, metadata, raw_json, retrieved_at, false, statement_timestamp(),
        statement_timestamp()
    FROM placed
    ORDER BY market_ticker
    ON CONFLICT (market_ticker) DO UPDATE SET
        platform_id = EXCLUDED.platform_id,
        event_ticker = EXCLUDED.event_ticker,
        series_ticker = EXCLUDED.series_ticker,
        external_id = EXCLUDED.external_id,
        market_type = EXCLUDED.market_type,
        title = EXCLUDED.title,
        subtitle = EXCLUDED.subtitle,
        yes_sub_title = EXCLUDED.yes_sub_title,
        no_sub_title = EXCLUDED.no_sub_title,
        category = EXCLUDED.category,
        subcategory = EXCLUDED.subcategory,
        strike_type = EXCLUDED.strike_type,
        floor_strike = EXCLUDED.floor_strike,
        cap_strike = EXCLUDED.cap_strike,
        functional_strike = EXCLUDED.functional_strike,
        custom_strike = EXCLUDED.custom_strike,
        open_time = EXCLUDED.open_time,
        close_time = EXCLUDED.close_time,
        expiration_time = EXCLUDED.expiration_time,
        expected_expiration_time = EXCLUDED.expected_expiration_time,
        status = EXCLUDED.status,
        result = EXCLUDED.result,
        settlement_value = EXCLUDED.settlement_value,
        settlement_ts = EXCLUDED.settlement_ts,
        price_ranges = EXCLUDED.price_ranges,
        last_price = EXCLUDED.last_price,
        volume = EXCLUDED.volume,
        open_interest = EXCLUDED.open_interest,
        metadata = EXCLUDED.metadata,
        raw_json = EXCLUDED.raw_json,
        retrieved_at = EXCLUDED.retrieved_at,
        is_stub = false,
        -- A poll that only confirms the content moves retrieved_at, not updated_at.
        updated_at = CASE WHEN (
            stored.is_stub, stored.platform_id, stored.event_ticker, stored.external_id, stored.market_type, stored.title,
            stored.subtitle, stored.yes_sub_title, stored.no_sub_title, stored.subcategory, stored.strike_type,
            stored.floor_strike, stored.cap_strike, stored.functional_strike, stored.custom_strike, stored.open_time,
            stored.close_time, stored.expiration_time, stored.expected_expiration_time, stored.status, stored.result,
            stored.settlement_value, stored.settlement_ts, stored.price_ranges, stored.last_price, stored.volume,
            stored.open_interest, stored.metadata, stored.raw_json, stored.series_ticker, stored.category
        ) IS DISTINCT FROM (
            false, EXCLUDED.platform_id, EXCLUDED.event_ticker, EXCLUDED.external_id, EXCLUDED.market_type, EXCLUDED.title,
            EXCLUDED.subtitle, EXCLUDED.yes_sub_title, EXCLUDED.no_sub_title, EXCLUDED.subcategory, EXCLUDED.strike_type,
            EXCLUDED.floor_strike, EXCLUDED.cap_strike, EXCLUDED.functional_strike, EXCLUDED.custom_strike, EXCLUDED.open_time,
            EXCLUDED.close_time, EXCLUDED.expiration_time, EXCLUDED.expected_expiration_time, EXCLUDED.status, EXCLUDED.result,
            EXCLUDED.settlement_value, EXCLUDED.settlement_ts, EXCLUDED.price_ranges, EXCLUDED.last_price, EXCLUDED.volume,
            EXCLUDED.open_interest, EXCLUDED.metadata, EXCLUDED.raw_json, EXCLUDED.series_ticker, EXCLUDED.category
        ) THEN EXCLUDED.updated_at ELSE stored.updated_at END
    WHERE stored.is_stub OR EXCLUDED.retrieved_at > stored.retrieved_at OR (
        -- As records and not as rows, because a row with a null compares with nothing.
        EXCLUDED.retrieved_at = stored.retrieved_at AND ROW(
            EXCLUDED.raw_json, EXCLUDED.platform_id, EXCLUDED.event_ticker, EXCLUDED.external_id, EXCLUDED.market_type,
            EXCLUDED.title, EXCLUDED.subtitle, EXCLUDED.yes_sub_title, EXCLUDED.no_sub_title, EXCLUDED.subcategory,
            EXCLUDED.strike_type, EXCLUDED.floor_strike, EXCLUDED.cap_strike, EXCLUDED.functional_strike, EXCLUDED.custom_strike,
            EXCLUDED.open_time, EXCLUDED.close_time, EXCLUDED.expiration_time, EXCLUDED.expected_expiration_time, EXCLUDED.status,
            EXCLUDED.result, EXCLUDED.settlement_value, EXCLUDED.settlement_ts, EXCLUDED.price_ranges, EXCLUDED.last_price,
            EXCLUDED.volume, EXCLUDED.open_interest, EXCLUDED.metadata, EXCLUDED.series_ticker, EXCLUDED.category
        )::record > ROW(
            stored.raw_json, stored.platform_id, stored.event_ticker, stored.external_id, stored.market_type, stored.title,
            stored.subtitle, stored.yes_sub_title, stored.no_sub_title, stored.subcategory, stored.strike_type,
            stored.floor_strike, stored.cap_strike, stored.functional_strike, stored.custom_strike, stored.open_time,
            stored.close_time, stored.expiration_time, stored.expected_expiration_time, stored.status, stored.result,
            stored.settlement_value, stored.settlement_ts, stored.price_ranges, stored.last_price, stored.volume,
            stored.open_interest, stored.metadata, stored.series_ticker, stored.category
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

-- name: insert_series_stubs_of_markets()!
-- A stub for each series that the staged markets name and the catalogue lacks.
-- @internal step of upsert_markets
INSERT INTO catalog.series (series_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT series_ticker, min(platform_id), series_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_markets
WHERE series_ticker IS NOT NULL
    AND NOT EXISTS (SELECT FROM catalog.series WHERE series.series_ticker = staged_markets.series_ticker)
GROUP BY series_ticker
ORDER BY series_ticker
ON CONFLICT (series_ticker) DO NOTHING;

-- name: hold_events_of_markets()!
-- A stub for each event that the staged markets name and the catalogue lacks, and a lock on those that it has, so that an event and
-- its markets that are written at the same time see each other.
--
-- One pass in order of ticker does both (an update that is never true still locks): were the stubs made first and the others locked
-- then, two writers could wait for each other. Events before markets, each in order of ticker: every writer keeps this order.
-- @internal step of upsert_markets
INSERT INTO catalog.events AS stored (
    event_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at
)
SELECT event_ticker, min(platform_id), event_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_markets
WHERE event_ticker IS NOT NULL
GROUP BY event_ticker
ORDER BY event_ticker
ON CONFLICT (event_ticker) DO UPDATE SET updated_at = stored.updated_at WHERE false;

-- name: hold_staged_markets()$
-- Locks the markets that the catalogue has, in order of ticker as every writer does, before any of them is written; returns how many.
-- @internal step of upsert_markets
SELECT count(*)
FROM (SELECT DISTINCT market_ticker FROM staged_markets ORDER BY market_ticker) AS asked
CROSS JOIN LATERAL (
    SELECT known.market_ticker
    FROM catalog.markets AS known
    WHERE known.market_ticker = asked.market_ticker
    FOR NO KEY UPDATE
) AS held;

-- name: confirm_markets()!
-- Takes out of the staged rows the markets that are stored with this content already, most of a poll, and notes when they were seen. What
-- upsert_markets would do, without making and keeping a second copy of everything that a market is.
-- @internal step of upsert_markets
WITH confirmed AS (
    SELECT staged.staged_position, staged.market_ticker, staged.retrieved_at
    FROM (SELECT *, count(*) OVER (PARTITION BY market_ticker) AS states FROM staged_markets) AS staged
    LEFT JOIN catalog.events ON events.event_ticker = staged.event_ticker AND NOT events.is_stub
    CROSS JOIN LATERAL (
        SELECT
            known.is_stub,
            known.retrieved_at,
            known.raw_json = staged.raw_json AND (
                known.platform_id, known.event_ticker, known.series_ticker, known.external_id, known.market_type, known.title,
                known.subtitle, known.yes_sub_title, known.no_sub_title, known.category, known.subcategory, known.strike_type,
                known.floor_strike, known.cap_strike, known.functional_strike, known.custom_strike, known.open_time,
                known.close_time, known.expiration_time, known.expected_expiration_time, known.status, known.result,
                known.settlement_value, known.settlement_ts, known.price_ranges, known.last_price, known.volume,
                known.open_interest, known.metadata, known.raw_json
            ) IS NOT DISTINCT FROM (
                staged.platform_id, staged.event_ticker, CASE WHEN events.event_ticker IS NULL THEN staged.series_ticker ELSE
                events.series_ticker END, staged.external_id, staged.market_type, staged.title, staged.subtitle,
                staged.yes_sub_title, staged.no_sub_title, CASE WHEN events.event_ticker IS NULL THEN staged.category ELSE
                events.category END, staged.subcategory, staged.strike_type, staged.floor_strike, staged.cap_strike,
                staged.functional_strike, staged.custom_strike, staged.open_time, staged.close_time, staged.expiration_time,
                staged.expected_expiration_time, staged.status, staged.result, staged.settlement_value, staged.settlement_ts,
                staged.price_ranges, staged.last_price, staged.volume, staged.open_interest, staged.metadata, staged.raw_json
            ) AS is_same
        FROM catalog.markets AS known
        WHERE known.market_ticker = staged.market_ticker
        OFFSET 0
    ) AS known
    WHERE staged.states = 1
        AND NOT known.is_stub
        AND staged.retrieved_at > known.retrieved_at
        AND known.is_same
),
taken_out AS (
    DELETE FROM staged_markets
    WHERE staged_position IN (SELECT staged_position FROM confirmed)
)
UPDATE catalog.markets AS stored
SET retrieved_at = confirmed.retrieved_at
FROM confirmed
WHERE stored.market_ticker = confirmed.market_ticker;

-- name: summarise_events_of_markets()!
-- Sets what the staged markets' events have from their markets: open and close time, and while the event is a stub its series.
-- @internal step of upsert_markets
UPDATE catalog.events
SET
    series_ticker = CASE WHEN events.is_stub THEN summaries.series_ticker ELSE events.series_ticker END,
    open_time = summaries.open_time,
    close_time = summaries.close_time,
    updated_at = statement_timestamp()
FROM (
    SELECT event_ticker, min(series_ticker) AS series_ticker, min(open_time) AS open_time, max(close_time) AS close_time
    FROM catalog.markets
    WHERE event_ticker IN (SELECT event_ticker FROM staged_markets)
    GROUP BY event_ticker
) AS summaries
WHERE events.event_ticker = summaries.event_ticker
    AND (
        (events.open_time, events.close_time) IS DISTINCT FROM (summaries.open_time, summaries.close_time)
        OR (events.is_stub AND events.series_ticker IS DISTINCT FROM summaries.series_ticker)
    );

-- name: market_by_ticker(market_ticker)^
-- One market, or None when the catalogue does not know it.
SELECT *
FROM catalog.markets
WHERE market_ticker = :market_ticker;

-- name: markets_of_event(event_ticker)
-- The markets of one event; a ladder of strikes comes out in order.
SELECT *
FROM catalog.markets
WHERE event_ticker = :event_ticker
ORDER BY strike_type, floor_strike NULLS FIRST, cap_strike, market_ticker;

-- name: markets_of_series(series_ticker)
-- The markets of one series, by event.
SELECT *
FROM catalog.markets
WHERE series_ticker = :series_ticker
ORDER BY event_ticker, market_ticker;

-- name: markets_by_status(status, after_close_time, after_market_ticker, page_size)
-- A page of the markets with one status (the venue's word), in order of close time.
--
-- For the first page pass datetime.min in UTC and an empty text, then the last row's close_time and market_ticker. Markets of which no
-- close time is known (stubs, and answers that lack it) are left out.
SELECT *
FROM catalog.markets
WHERE status = :status
    AND (close_time, market_ticker) > (:after_close_time, :after_market_ticker::text)
ORDER BY close_time, market_ticker
LIMIT :page_size;

-- name: search_markets(status, category, series_ticker, event_ticker, words, closing_from, closing_to, after_close_time, after_market_ticker, page_size)
-- A page of the markets that close in [closing_from, closing_to) and are all that is asked, in order of close time.
--
-- None for status, category, series_ticker, event_ticker or words asks for every one; words are looked for in title and YES's meaning,
-- without regard to case. For the first page pass closing_from and an empty text as the place to go on from, then the last row's
-- close_time and market_ticker. Rare markets in a wide window take long: everything that closes in it is looked at until the page is full.
-- Where status alone is asked markets_by_status is quicker, where the series is known markets_of_series.
-- @param status nullable: None asks for every status
-- @param category nullable: None asks for every category
-- @param series_ticker nullable: None asks for every series
-- @param event_ticker nullable: None asks for every event
-- @param words nullable: None asks for every title
SELECT *
FROM catalog.markets
WHERE close_time >= :closing_from
    AND close_time < :closing_to
    AND (close_time, market_ticker) > (:after_close_time, :after_market_ticker::text)
    AND (:status::text IS NULL OR status = :status::text)
    AND (:category::text IS NULL OR category = :category::text)
    AND (:series_ticker::text IS NULL OR series_ticker = :series_ticker::text)
    AND (:event_ticker::text IS NULL OR event_ticker = :event_ticker::text)
    AND (
        :words::text IS NULL
        OR strpos(lower(title), lower(:words::text)) > 0
        OR strpos(lower(yes_sub_title), lower(:words::text)) > 0
    )
ORDER BY close_time, market_ticker
LIMIT :page_size;

-- name: open_markets_closing_between(closing_from, closing_to)
-- Markets that are open and close in [closing_from, closing_to), the soonest first.
SELECT *
FROM catalog.markets
WHERE status = 'active'
    AND close_time >= :closing_from
    AND close_time < :closing_to
ORDER BY close_time, market_ticker;

-- name: markets_expiring_between(expiring_from, expiring_to)
-- Markets whose outcome is due in [expiring_from, expiring_to), the soonest first; settled ones too.
SELECT *
FROM catalog.markets
WHERE expiration_time >= :expiring_from
    AND expiration_time < :expiring_to
ORDER BY expiration_time, market_ticker;

-- name: markets_awaiting_settlement(statuses, closed_before)
-- Markets that closed before a moment and have one of some statuses (the venue's words for not settled: closed, determined, disputed,
-- amended), the longest waiting first: whose outcome to ask for. Some wait for years.
SELECT *
FROM catalog.markets
WHERE status = ANY (:statuses::text[])
    AND close_time < :closed_before
ORDER BY close_time, market_ticker;

-- name: has_markets(series_ticker, event_ticker, market_ticker)$
-- Whether the catalogue has any market of a series, of an event, or of this ticker; null means any.
-- @param series_ticker nullable: null means any series
-- @param event_ticker nullable: null means any event
-- @param market_ticker nullable: null means any market
-- @plan asked once before a command gives up: the first market that fits ends it
SELECT EXISTS (
    SELECT 1 FROM catalog.markets
    WHERE (:series_ticker::text IS NULL OR series_ticker = :series_ticker)
        AND (:event_ticker::text IS NULL OR event_ticker = :event_ticker)
        AND (:market_ticker::text IS NULL OR market_ticker = :market_ticker)
) AS has_markets;

-- name: all_markets()
-- Every market, for an export; streamed, so memory stays flat.
-- @stream
-- @plan an export reads everything
SELECT *
FROM catalog.markets
ORDER BY market_ticker;

-- name: stubs()
-- What is known by its ticker only, because a child arrived before it: series, events and markets to ask the venue for.
SELECT 'series' AS kind, series_ticker AS ticker, retrieved_at FROM catalog.series WHERE is_stub
UNION ALL
SELECT 'event', event_ticker, retrieved_at FROM catalog.events WHERE is_stub
UNION ALL
SELECT 'market', market_ticker, retrieved_at FROM catalog.markets WHERE is_stub
ORDER BY kind, ticker;

-- name: markets_to_listen_to(series_tickers, event_tickers)
-- Markets of these series and events that are open or may open (again): whose order books can change.
SELECT market_ticker
FROM catalog.markets
WHERE status IN ('initialized', 'active', 'inactive')
    AND status <> 'finalized'
    AND (series_ticker = ANY (:series_tickers::text[]) OR event_ticker = ANY (:event_tickers::text[]))
ORDER BY market_ticker;

-- name: unsettled_markets(retrieved_before, series_tickers, with_combos)
-- Markets that had not settled when they were last looked at, which was before a moment. What every list of unsettled markets has left
-- out since then has settled, perhaps before its time, and has to be asked for by name, in either tier.
--
-- series_tickers null means any series; combinations of several markets are left out unless with_combos.
-- @param series_tickers nullable: null means any series
SELECT market_ticker
FROM catalog.markets
WHERE status <> 'finalized'
    AND retrieved_at < :retrieved_before
    AND (:series_tickers::text[] IS NULL OR series_ticker = ANY (:series_tickers))
    AND (:with_combos::boolean OR raw_json ->> 'mve_collection_ticker' IS NULL)
ORDER BY market_ticker;

-- name: stub_events_of_markets(retrieved_since)
-- Events that are known by ticker only although a market of theirs was described since a moment: to be asked for one by one, or, where
-- the market is a combination of several, to be looked for in the list of those.
SELECT events.event_ticker, described.is_combo
FROM catalog.events
-- One look into the index for each stub; a join might read all markets.
CROSS JOIN LATERAL (
    SELECT raw_json ->> 'mve_collection_ticker' IS NOT NULL AS is_combo
    FROM catalog.markets
    WHERE markets.event_ticker = events.event_ticker
        AND NOT markets.is_stub
        AND markets.retrieved_at >= :retrieved_since
    LIMIT 1
) AS described
WHERE events.is_stub
ORDER BY events.event_ticker;
