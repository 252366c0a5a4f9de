-- What is stored completely, and what is missing.

-- name: extend_coverage(market_tickers, kind, period_interval_minutes, covered_from, covered_until, run_id)!
-- Notes that everything of these markets in [covered_from, covered_until) is stored; returns how many markets' coverage grew.
--
-- The empty text as a market stands for all markets together. period_interval_minutes is 0 for trades.
-- @param run_id nullable: what was not fetched by a run can be noted too
INSERT INTO ops.coverage AS stored (market_ticker, kind, period_interval_minutes, covered, run_id, updated_at)
SELECT DISTINCT
    market_ticker,
    :kind::text,
    :period_interval_minutes::smallint,
    tstzmultirange(tstzrange(:covered_from::timestamptz, :covered_until::timestamptz)),
    :run_id::bigint,
    clock_timestamp()
FROM unnest(:market_tickers::text[]) AS fetched (market_ticker)
ORDER BY market_ticker
ON CONFLICT (market_ticker, kind, period_interval_minutes) DO UPDATE SET
    covered = stored.covered + EXCLUDED.covered,
    run_id = EXCLUDED.run_id,
    updated_at = EXCLUDED.updated_at
WHERE NOT stored.covered @> EXCLUDED.covered;

-- name: coverage(kind, period_interval_minutes, start_ts, end_ts, series_ticker, event_ticker, market_ticker)
-- What is stored and what is missing of [start_ts, end_ts), by market.
--
-- Wanted of a market is the part of the range in which it was open, and a second more, or for candlesticks a period and a second: the
-- last one may end a period after the close, and a day may have 25 hours. What was fetched of all markets together counts for each. Markets without any part in the range are left out; so
-- are stubs that were never open as far as is known. Null for series, event and market means any.
-- @param series_ticker nullable: null means any series
-- @param event_ticker nullable: null means any event
-- @param market_ticker nullable: null means any market
-- @column wanted not null: both its bounds are
-- @column covered not null: made of ranges that are not
-- @column missing not null: made of ranges that are not
-- @plan a report over the catalogue: without a filter every market is looked at
WITH asked AS (
    SELECT
        :start_ts::timestamptz AS start_ts,
        :end_ts::timestamptz AS end_ts,
        make_interval(
            mins => :period_interval_minutes::integer + CASE WHEN :period_interval_minutes = 1440 THEN 60 ELSE 0 END, secs => 1
        ) AS beyond_close
),
wanted AS (
    SELECT
        markets.market_ticker,
        markets.series_ticker,
        markets.event_ticker,
        markets.status,
        tstzrange(
            greatest(markets.open_time, asked.start_ts), least(markets.close_time + asked.beyond_close, asked.end_ts)
        ) AS span
    FROM asked
    CROSS JOIN catalog.markets
    WHERE (:series_ticker::text IS NULL OR markets.series_ticker = :series_ticker)
        AND (:event_ticker::text IS NULL OR markets.event_ticker = :event_ticker)
        AND (:market_ticker::text IS NULL OR markets.market_ticker = :market_ticker)
        AND greatest(markets.open_time, asked.start_ts) < least(markets.close_time + asked.beyond_close, asked.end_ts)
        -- greatest and least pass over nulls: a market that was never open as far as is known has no span.
        AND markets.open_time IS NOT NULL
        AND markets.close_time IS NOT NULL
),
known AS (
    SELECT
        wanted.market_ticker,
        wanted.series_ticker,
        wanted.event_ticker,
        wanted.status,
        wanted.span,
        tstzmultirange(wanted.span)
            * (COALESCE(own.covered, tstzmultirange()) + COALESCE(every.covered, tstzmultirange())) AS covered
    FROM wanted
    LEFT JOIN ops.coverage AS own
        ON own.market_ticker = wanted.market_ticker
        AND own.kind = :kind::text
        AND own.period_interval_minutes = :period_interval_minutes
    LEFT JOIN ops.coverage AS every
        ON every.market_ticker = ''
        AND every.kind = :kind::text
        AND every.period_interval_minutes = :period_interval_minutes
)
SELECT
    market_ticker,
    series_ticker,
    event_ticker,
    status,
    span AS wanted,
    covered,
    tstzmultirange(span) - covered AS missing
FROM known
ORDER BY series_ticker NULLS LAST, event_ticker NULLS LAST, market_ticker;

-- name: tape_gaps(start_ts, end_ts)
-- What of [start_ts, end_ts) is missing of the tape of all markets together, oldest first.
-- @column gap_from not null: a gap lies within two bounds
-- @column gap_until not null: a gap lies within two bounds
WITH known AS (
    SELECT COALESCE(
        (SELECT covered FROM ops.coverage WHERE market_ticker = '' AND kind = 'trades' AND period_interval_minutes = 0),
        tstzmultirange()
    ) AS covered
)
SELECT lower(gap) AS gap_from, upper(gap) AS gap_until
FROM known
CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(:start_ts::timestamptz, :end_ts::timestamptz)) - known.covered) AS gap
ORDER BY lower(gap);

-- name: tape_end()$
-- Up to when the tape of all markets together is stored, UTC: the end of the last span that is covered; None when nothing of it is.
SELECT max(upper(covered)) AS tape_end
FROM ops.coverage
WHERE market_ticker = '' AND kind = 'trades' AND period_interval_minutes = 0;
