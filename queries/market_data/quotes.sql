-- Quotes as observed: the first sight of a quote in snapshot_time, the polls that found it unchanged in seen_again.
--
-- What was known at a moment is the quote with the last sight by then. That is the newest row, or the newest row of a poll, whose sights
-- may go on after a row of another source; a row holds sights of 6 hours at most. So reads look at these two.

-- name: upsert_price_snapshots()^
-- Writes observed quotes.
--
-- A poll that finds the quote of the poll before unchanged counts as unchanged: its moment is added to seen_again of the row that is
-- there. A different quote that arrives late, between two sights of a row, parts that row; whatever the order and the batches in which
-- polls arrive, and whoever writes, each moment keeps the quote that was seen then. Only a poll without a payload whose retrieved_at is
-- its snapshot_time can become such a moment; every other quote is a row of its own. A quote with the market, time and source of a stored
-- row replaces it only if it was retrieved later and differs. One that occurs twice in the input counts once. An unknown market gets
-- a stub, a missing month its partition.
-- @bulk staged_price_snapshots like market_data.price_snapshots without seen_again
-- @one
-- @before create_partitions_of_price_snapshots
-- @before insert_market_stubs_of_price_snapshots
-- @before hold_markets_of_price_snapshots
-- @before settle_price_snapshots
-- @before confirm_price_snapshots
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time, source) *
    FROM staged_price_snapshots
    ORDER BY market_ticker, snapshot_time, source, retrieved_at DESC, staged_position DESC
),
polled AS (
    SELECT
        staged_position,
        market_ticker,
        snapshot_time,
        retrieved_at,
        raw_json IS NULL AND retrieved_at = snapshot_time AS is_plain,
        ROW(
            sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h, open_interest, liquidity, status, title,
            category
        )::record AS quote
    FROM newest
    WHERE source = 'poll'
),
spans AS (
    SELECT market_ticker, min(snapshot_time) AS first_at, max(snapshot_time) AS last_at
    FROM polled
    GROUP BY market_ticker
),
stored AS (
    -- From the row before the first poll, if it may reach it, to the last. OFFSET 0 keeps it a look into the index for each market.
    SELECT known.*
    FROM spans
    CROSS JOIN LATERAL (
        SELECT
            snapshot.market_ticker,
            snapshot.snapshot_time,
            snapshot.seen_again,
            -- Staged values have no domains, and records compare only where their types are the same.
            ROW(
                sequence, yes_bid::numeric, yes_ask::numeric, no_bid::numeric, no_ask::numeric, last_price::numeric,
                volume::numeric, volume_24h::numeric, open_interest::numeric, liquidity::numeric, status, title, category
            )::record AS quote
        FROM market_data.price_snapshots AS snapshot
        WHERE snapshot.market_ticker = spans.market_ticker
            AND snapshot.source = 'poll'
            AND snapshot.snapshot_time >= COALESCE(
                (
                    SELECT earlier.snapshot_time
                    FROM market_data.price_snapshots AS earlier
                    WHERE earlier.market_ticker = spans.market_ticker
                        AND earlier.source = 'poll'
                        AND earlier.snapshot_time <= spans.first_at
                        AND earlier.snapshot_time >= spans.first_at - interval '6 hours'
                    ORDER BY earlier.snapshot_time DESC
                    LIMIT 1
                ),
                spans.first_at
            )
            AND snapshot.snapshot_time <= spans.last_at
        OFFSET 0
    ) AS known
),
sights AS (
    SELECT market_ticker, snapshot_time AS seen_at, snapshot_time AS stored_at, quote FROM stored
    UNION ALL
    SELECT stored.market_ticker, again.seen_at, stored.snapshot_time, stored.quote
    FROM stored
    CROSS JOIN LATERAL unnest(stored.seen_again) AS again (seen_at)
),
weighed AS (
    -- Of a stored row and a poll of its moment the poll counts, for what cannot change the row is gone from the staged rows. Of a sight
    -- within a row and a poll of its moment the one that was retrieved later, or has a payload.
    SELECT
        polled.*,
        sights.stored_at,
        sights.stored_at IS NULL OR sights.stored_at = sights.seen_at OR polled.retrieved_at > sights.seen_at
            OR (polled.retrieved_at = sights.seen_at AND NOT polled.is_plain AND polled.quote IS NOT DISTINCT FROM sights.quote) AS counts
    FROM polled
    LEFT JOIN sights
        ON sights.market_ticker = polled.market_ticker
        AND sights.seen_at = polled.snapshot_time
),
points AS (
    -- Every moment at which a quote was seen, with that quote.
    SELECT
        market_ticker,
        snapshot_time AS seen_at,
        stored_at,
        staged_position,
        quote,
        NOT is_plain OR stored_at IS NOT DISTINCT FROM snapshot_time AS has_a_row
    FROM weighed
    WHERE counts
    UNION ALL
    SELECT market_ticker, seen_at, stored_at, NULL, quote, seen_at = stored_at
    FROM sights
    WHERE NOT EXISTS (
        SELECT FROM weighed
        WHERE weighed.market_ticker = sights.market_ticker
            AND weighed.snapshot_time = sights.seen_at
            AND weighed.counts
    )
),
compared AS (
    SELECT *, has_a_row OR quote IS DISTINCT FROM lag(quote) OVER chronicle AS is_change
    FROM points
    WINDOW chronicle AS (PARTITION BY market_ticker ORDER BY seen_at)
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY market_ticker ORDER BY seen_at) AS number
    FROM compared
),
measured AS (
    -- At most 6 hours and 1 + 48 sights in a row, of one month: reads rely on the hours, the sights keep a row short, and who archives
    -- a month has all of it.
    SELECT
        *,
        (row_number() OVER run - 1) / 49 AS piece,
        floor(extract(epoch FROM seen_at - first_value(seen_at) OVER run) / 21600) AS stretch,
        date_trunc('month', seen_at, 'UTC') AS month
    FROM numbered
    WINDOW run AS (PARTITION BY market_ticker, number ORDER BY seen_at)
),
wanted AS (
    -- The rows as they are to be: each under its first sight, of which is known where its quote stands, staged or stored.
    SELECT
        market_ticker,
        min(seen_at) AS snapshot_time,
        (array_agg(staged_position ORDER BY seen_at))[1] AS staged_position,
        (array_agg(stored_at ORDER BY seen_at))[1] AS stored_at,
        CASE WHEN count(*) > 1 THEN (array_agg(seen_at ORDER BY seen_at))[2:] END AS seen_again
    FROM measured
    GROUP BY market_ticker, number, piece, stretch, month
),
rows_to_write AS (
    SELECT
        market_ticker, snapshot_time, source, sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h,
        open_interest, liquidity, status, title, category, retrieved_at, raw_json, NULL::timestamptz [] AS seen_again
    FROM newest
    WHERE source <> 'poll'
    UNION ALL
    SELECT
        newest.market_ticker, newest.snapshot_time, newest.source, newest.sequence, newest.yes_bid, newest.yes_ask, newest.no_bid,
        newest.no_ask, newest.last_price, newest.volume, newest.volume_24h, newest.open_interest, newest.liquidity, newest.status,
        newest.title, newest.category, newest.retrieved_at, newest.raw_json, wanted.seen_again
    FROM wanted
    JOIN newest USING (staged_position)
    UNION ALL
    -- Stored rows with other sights than before, and what parted from one.
    SELECT
        stored.market_ticker, wanted.snapshot_time, stored.source, stored.sequence, stored.yes_bid, stored.yes_ask, stored.no_bid,
        stored.no_ask, stored.last_price, stored.volume, stored.volume_24h, stored.open_interest, stored.liquidity, stored.status,
        stored.title, stored.category,
        CASE WHEN wanted.snapshot_time = stored.snapshot_time THEN stored.retrieved_at ELSE wanted.snapshot_time END,
        CASE WHEN wanted.snapshot_time = stored.snapshot_time THEN stored.raw_json END,
        wanted.seen_again
    FROM wanted
    CROSS JOIN LATERAL (
        SELECT *
        FROM market_data.price_snapshots AS known
        WHERE known.market_ticker = wanted.market_ticker
            AND known.source = 'poll'
            AND known.snapshot_time BETWEEN wanted.stored_at AND wanted.stored_at
        OFFSET 0
    ) AS stored
    WHERE wanted.staged_position IS NULL
        AND (wanted.snapshot_time, wanted.seen_again) IS DISTINCT FROM (stored.snapshot_time, stored.seen_again)
),
written AS (
    INSERT INTO market_data.price_snapshots AS stored (
        market_ticker, snapshot_time, source, sequence, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, volume_24h,
        open_interest, liquidity, status, title, category, retrieved_at, raw_json, seen_again
    )
    SELECT *
    FROM rows_to_write
    ORDER BY market_ticker, snapshot_time, source
    ON CONFLICT (market_ticker, snapshot_time, source) DO UPDATE SET
        sequence = EXCLUDED.sequence,
        yes_bid = EXCLUDED.yes_bid,
        yes_ask = EXCLUDED.yes_ask,
        no_bid = EXCLUDED.no_bid,
        no_ask = EXCLUDED.no_ask,
        last_price = EXCLUDED.last_price,
        volume = EXCLUDED.volume,
        volume_24h = EXCLUDED.volume_24h,
        open_interest = EXCLUDED.open_interest,
        liquidity = EXCLUDED.liquidity,
        status = EXCLUDED.status,
        title = EXCLUDED.title,
        category = EXCLUDED.category,
        retrieved_at = EXCLUDED.retrieved_at,
        raw_json = COALESCE(EXCLUDED.raw_json, stored.raw_json),
        seen_again = EXCLUDED.seen_again
    WHERE stored.seen_again IS DISTINCT FROM EXCLUDED.seen_again OR EXCLUDED.retrieved_at > stored.retrieved_at AND (
        stored.sequence, stored.yes_bid, stored.yes_ask, stored.no_bid, stored.no_ask, stored.last_price, stored.volume,
        stored.volume_24h, stored.open_interest, stored.liquidity, stored.status, stored.title, stored.category
    ) IS DISTINCT FROM (
        EXCLUDED.sequence, EXCLUDED.yes_bid, EXCLUDED.yes_ask, EXCLUDED.no_bid, EXCLUDED.no_ask, EXCLUDED.last_price,
        EXCLUDED.volume, EXCLUDED.volume_24h, EXCLUDED.open_interest, EXCLUDED.liquidity, EXCLUDED.status, EXCLUDED.title,
        EXCLUDED.category
    )
    RETURNING source
)
-- What changed only for the sights of others was not given, and does not count.
SELECT
    (SELECT count(*) FROM written WHERE source <> 'poll') + (SELECT count(*) FROM wanted WHERE staged_position IS NOT NULL) AS written;

-- name: settle_price_snapshots()!
-- Takes out of the staged rows what cannot change anything: what is stored with this content already, and what was seen no later than
-- what is stored. A later sight of stored content moves its retrieved_at, so that an older state that arrives after it does not win; a
-- payload that was not kept before is kept now.
-- @internal step of upsert_price_snapshots
WITH settled AS (
    SELECT
        staged.staged_position, staged.market_ticker, staged.snapshot_time, staged.source, staged.retrieved_at, staged.raw_json,
        known.retrieved_at AS known_at, known.has_payload, known.is_same
    FROM staged_price_snapshots AS staged
    CROSS JOIN LATERAL (
        SELECT
            known.retrieved_at,
            known.raw_json IS NOT NULL AS has_payload,
            (
                known.sequence, known.yes_bid, known.yes_ask, known.no_bid, known.no_ask, known.last_price, known.volume,
                known.volume_24h, known.open_interest, known.liquidity, known.status, known.title, known.category
            ) IS NOT DISTINCT FROM (
                staged.sequence, staged.yes_bid, staged.yes_ask, staged.no_bid, staged.no_ask, staged.last_price, staged.volume,
                staged.volume_24h, staged.open_interest, staged.liquidity, staged.status, staged.title, staged.category
            ) AS is_same
        FROM market_data.price_snapshots AS known
        -- BETWEEN, for = would tempt the planner to look a fresh month up by its time alone, which all markets share. OFFSET 0 keeps
        -- this a look into the index for each row: a join might read every month.
        WHERE known.market_ticker = staged.market_ticker
            AND known.source = staged.source
            AND known.snapshot_time BETWEEN staged.snapshot_time AND staged.snapshot_time
        OFFSET 0
    ) AS known
    WHERE known.is_same OR staged.retrieved_at <= known.retrieved_at
),
taken_out AS (
    DELETE FROM staged_price_snapshots
    WHERE staged_position IN (SELECT staged_position FROM settled)
),
latest AS (
    SELECT DISTINCT ON (market_ticker, snapshot_time, source) *
    FROM settled
    WHERE is_same AND (retrieved_at > known_at OR (retrieved_at = known_at AND raw_json IS NOT NULL AND NOT has_payload))
    ORDER BY market_ticker, snapshot_time, source, retrieved_at DESC, raw_json NULLS LAST
),
held AS (
    -- Locked in the order of the key, as the insert does.
    SELECT stored.market_ticker, stored.snapshot_time, stored.source
    FROM latest
    CROSS JOIN LATERAL (
        SELECT market_ticker, snapshot_time, source
        FROM market_data.price_snapshots AS known
        WHERE known.market_ticker = latest.market_ticker
            AND known.source = latest.source
            AND known.snapshot_time BETWEEN latest.snapshot_time AND latest.snapshot_time
        FOR NO KEY UPDATE
    ) AS stored
)
UPDATE market_data.price_snapshots AS stored
SET
    retrieved_at = latest.retrieved_at,
    raw_json = COALESCE(latest.raw_json, stored.raw_json)
FROM held
JOIN latest USING (market_ticker, snapshot_time, source)
WHERE stored.market_ticker = held.market_ticker
    AND stored.snapshot_time = held.snapshot_time
    AND stored.source = held.source;

-- name: confirm_price_snapshots()!
-- Takes out of the staged rows the polls that find the quote of the poll before unchanged, most of a poll, and adds their moments to the
-- rows that are there. What upsert_price_snapshots would do, for the plain case: one poll of its market, later than every sight of
-- the row before it, and room in that row (6 hours, 48 sights, its month).
-- @internal step of upsert_price_snapshots
WITH confirmed AS (
    SELECT staged.staged_position, staged.market_ticker, staged.snapshot_time AS seen_at, known.snapshot_time
    FROM (
        SELECT *, count(*) FILTER (WHERE source = 'poll') OVER (PARTITION BY market_ticker) AS polls_of_market
        FROM staged_price_snapshots
    ) AS staged
    CROSS JOIN LATERAL (
        SELECT
            known.snapshot_time,
            known.seen_again,
            (
                known.sequence, known.yes_bid, known.yes_ask, known.no_bid, known.no_ask, known.last_price, known.volume,
                known.volume_24h, known.open_interest, known.liquidity, known.status, known.title, known.category
            ) IS NOT DISTINCT FROM (
                staged.sequence, staged.yes_bid, staged.yes_ask, staged.no_bid, staged.no_ask, staged.last_price, staged.volume,
                staged.volume_24h, staged.open_interest, staged.liquidity, staged.status, staged.title, staged.category
            ) AS is_same
        FROM market_data.price_snapshots AS known
        WHERE known.market_ticker = staged.market_ticker
            AND known.source = 'poll'
            AND known.snapshot_time < staged.snapshot_time
            AND known.snapshot_time > staged.snapshot_time - interval '6 hours'
        ORDER BY known.snapshot_time DESC
        LIMIT 1
    ) AS known
    WHERE staged.source = 'poll'
        AND staged.raw_json IS NULL
        AND staged.retrieved_at = staged.snapshot_time
        AND known.is_same
        AND staged.snapshot_time > COALESCE(known.seen_again[cardinality(known.seen_again)], known.snapshot_time)
        AND COALESCE(cardinality(known.seen_again), 0) < 48
        AND date_trunc('month', known.snapshot_time, 'UTC') = date_trunc('month', staged.snapshot_time, 'UTC')
        AND staged.polls_of_market = 1
),
taken_out AS (
    DELETE FROM staged_price_snapshots
    WHERE staged_position IN (SELECT staged_position FROM confirmed)
)
UPDATE market_data.price_snapshots AS stored
SET seen_again = array_append(stored.seen_again, confirmed.seen_at)
FROM confirmed
WHERE stored.market_ticker = confirmed.market_ticker
    AND stored.source = 'poll'
    AND stored.snapshot_time BETWEEN confirmed.snapshot_time AND confirmed.snapshot_time;

-- name: create_partitions_of_price_snapshots()$
-- The months that the staged rows need.
-- @internal step of upsert_price_snapshots
SELECT market_data.create_month_partitions('market_data.price_snapshots', array_agg(DISTINCT date_trunc('month', snapshot_time, 'UTC')))
FROM staged_price_snapshots;

-- name: insert_market_stubs_of_price_snapshots()!
-- Makes a stub of each market that the staged rows name and the catalogue lacks; the venue is a guess until the market itself arrives.
--
-- Where one is lacking, this also locks all that were polled, in one pass in order of ticker (an update that is never true still locks),
-- for the reason that hold_markets_of_versions gives.
-- @internal step of upsert_price_snapshots
INSERT INTO catalog.markets AS stored (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(retrieved_at), statement_timestamp(), statement_timestamp()
FROM staged_price_snapshots
WHERE EXISTS (
    SELECT FROM staged_price_snapshots AS staged
    WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged.market_ticker)
)
GROUP BY market_ticker
HAVING bool_or(source = 'poll')
    OR NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_price_snapshots.market_ticker)
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO UPDATE SET updated_at = stored.updated_at WHERE false;

-- name: hold_markets_of_price_snapshots()$
-- Locks the markets that were polled, in order of ticker as the writers of versions do, so that their quotes are filed by one writer at
-- a time; returns how many.
-- @internal step of upsert_price_snapshots
SELECT count(*)
FROM (SELECT DISTINCT market_ticker FROM staged_price_snapshots WHERE source = 'poll' ORDER BY market_ticker) AS asked
CROSS JOIN LATERAL (
    SELECT known.market_ticker
    FROM catalog.markets AS known
    WHERE known.market_ticker = asked.market_ticker
    FOR NO KEY UPDATE
) AS held;

-- name: latest_snapshot(market_ticker)^
-- The freshest quote of one market, or None when none is stored: the one that was seen last, be it again.
WITH newest AS (
    SELECT snapshot_time, source, seen_again
    FROM market_data.price_snapshots
    WHERE market_ticker = :market_ticker
    ORDER BY snapshot_time DESC, source
    LIMIT 1
),
newest_poll AS (
    SELECT snapshot_time, source, seen_again
    FROM market_data.price_snapshots
    WHERE market_ticker = :market_ticker
        AND source = 'poll'
        AND snapshot_time >= (SELECT snapshot_time FROM newest) - interval '6 hours'
    ORDER BY snapshot_time DESC
    LIMIT 1
)
SELECT *
FROM market_data.price_snapshots
WHERE market_ticker = :market_ticker
    AND (snapshot_time, source) = (
        SELECT snapshot_time, source
        FROM (SELECT * FROM newest UNION ALL SELECT * FROM newest_poll) AS candidate
        ORDER BY GREATEST(snapshot_time, seen_again[cardinality(seen_again)]) DESC, source
        LIMIT 1
    );

-- name: latest_snapshots(market_tickers)
-- The freshest quote of each of many markets, the one that was seen last, be it again; a market without one is left out.
SELECT latest.*
FROM unnest(:market_tickers::text[]) AS asked (market_ticker)
CROSS JOIN LATERAL (
    SELECT snapshot_time, source, seen_again
    FROM market_data.price_snapshots
    WHERE price_snapshots.market_ticker = asked.market_ticker
    ORDER BY snapshot_time DESC, source
    LIMIT 1
) AS newest
LEFT JOIN LATERAL (
    SELECT snapshot_time, seen_again[cardinality(seen_again)] AS seen_at
    FROM market_data.price_snapshots
    WHERE price_snapshots.market_ticker = asked.market_ticker
        AND price_snapshots.source = 'poll'
        AND price_snapshots.snapshot_time >= newest.snapshot_time - interval '6 hours'
    ORDER BY snapshot_time DESC
    LIMIT 1
) AS newest_poll ON true
CROSS JOIN LATERAL (
    -- Of one moment a backfill comes before a poll and a poll before the stream.
    SELECT
        newest_poll.seen_at > newest.snapshot_time OR (newest_poll.seen_at = newest.snapshot_time AND newest.source > 'poll') AS is_poll
) AS chosen
CROSS JOIN LATERAL (
    SELECT *
    FROM market_data.price_snapshots
    WHERE price_snapshots.market_ticker = asked.market_ticker
        AND price_snapshots.snapshot_time = CASE WHEN chosen.is_poll THEN newest_poll.snapshot_time ELSE newest.snapshot_time END
        AND price_snapshots.source = CASE WHEN chosen.is_poll THEN 'poll' ELSE newest.source::text END
    OFFSET 0
) AS latest
ORDER BY latest.market_ticker;

-- name: freshest_quotes(how_many)
-- The open markets with the most contracts traded, each with its freshest quote; what is going on right now. seen_at is when the quote
-- was seen last, snapshot_time when first.
SELECT
    markets.market_ticker,
    markets.title,
    markets.yes_sub_title,
    markets.close_time,
    markets.volume,
    quote.snapshot_time,
    quote.seen_at,
    quote.yes_bid,
    quote.yes_ask,
    quote.last_price,
    quote.implied_probability
FROM catalog.markets
CROSS JOIN LATERAL (
    SELECT snapshot_time
    FROM market_data.price_snapshots
    WHERE price_snapshots.market_ticker = markets.market_ticker
    ORDER BY snapshot_time DESC
    LIMIT 1
) AS newest
CROSS JOIN LATERAL (
    SELECT candidate.*, GREATEST(candidate.snapshot_time, candidate.seen_again[cardinality(candidate.seen_again)]) AS seen_at
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.snapshot_time >= newest.snapshot_time
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time >= newest.snapshot_time - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    ORDER BY GREATEST(candidate.snapshot_time, candidate.seen_again[cardinality(candidate.seen_again)]) DESC, candidate.source
    LIMIT 1
) AS quote
WHERE markets.status = 'active'
ORDER BY markets.volume DESC NULLS LAST, markets.market_ticker
LIMIT :how_many;

-- name: snapshots_between(market_ticker, start_time, end_time)
-- Quotes of one market first seen in [start_time, end_time), oldest first, from every source; seen_again says when else.
SELECT *
FROM market_data.price_snapshots
WHERE market_ticker = :market_ticker
    AND snapshot_time >= :start_time
    AND snapshot_time < :end_time
ORDER BY snapshot_time, source;

-- name: snapshots_in_window(start_time, end_time)
-- Quotes of all markets first seen in [start_time, end_time), oldest first; seen_again says when else. Streamed, so memory stays flat.
-- @stream
SELECT *
FROM market_data.price_snapshots
WHERE snapshot_time >= :start_time
    AND snapshot_time < :end_time
ORDER BY snapshot_time, market_ticker, source;

-- name: quotes_as_of(market_tickers, decision_times, max_age)
-- The quote that was known at each decision time, for many (market, time) pairs in one round trip, in the order asked.
--
-- seen_at is the last time by then at which the quote was seen; snapshot_time, the first one, names its row. A pair whose last quote was
-- seen longer than max_age before comes back with null prices: absent is not zero, and the caller must see that nothing was known. Never
-- looks past the decision time, nor counts a sight from after it; that is what keeps a backtest honest.
-- @pairs market_tickers, decision_times
-- @column market_ticker not null: an element of the array that was asked
-- @column decision_time not null: an element of the array that was asked
WITH asked AS (
    SELECT position, market_ticker, decision_time
    FROM unnest(:market_tickers::text[], :decision_times::timestamptz[])
        WITH ORDINALITY AS pairs (market_ticker, decision_time, position)
)
SELECT
    asked.position,
    asked.market_ticker,
    asked.decision_time,
    quote.snapshot_time,
    quote.seen_at,
    quote.source,
    quote.yes_bid,
    quote.yes_ask,
    quote.no_bid,
    quote.no_ask,
    quote.last_price,
    quote.implied_probability
FROM asked
LEFT JOIN LATERAL (
    SELECT candidate.*, seen.seen_at
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = asked.market_ticker
                AND snapshots.snapshot_time <= asked.decision_time
                AND snapshots.snapshot_time >= asked.decision_time - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = asked.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time <= asked.decision_time
                AND snapshots.snapshot_time >= asked.decision_time - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT GREATEST(candidate.snapshot_time, max(again.seen_at)) AS seen_at
        FROM unnest(candidate.seen_again) AS again (seen_at)
        WHERE again.seen_at <= asked.decision_time
    ) AS seen
    WHERE seen.seen_at >= asked.decision_time - :max_age::interval
    ORDER BY seen.seen_at DESC, candidate.source
    LIMIT 1
) AS quote ON true
ORDER BY asked.position;

-- name: sequence_gaps()
-- Numbers that a stream used up and that did not reach us; what came late, twice or from a new connection is no gap.
-- @plan a gap shows only next to its neighbours, so every streamed row is looked at
SELECT *
FROM market_data.sequence_gaps
ORDER BY seen_at, stream, counted_by;
