-- Candlesticks of other lengths than the venue keeps.

-- name: resampled_candlesticks(market_ticker, minutes, start_ts, end_ts, fill_gaps)
-- Candlesticks of any number of minutes (5, 15, 240 ...) of one market, made of its 1-minute ones, whose periods end in (start_ts, end_ts].
--
-- Periods are counted in UTC from 2000-01-01; start_ts should be the edge of one, else the first is made of a part of its minutes. Open and
-- close are those of the first and last minute that has one; price_mean is weighted by volume. With fill_gaps a period in which nothing
-- moved comes too, with is_filled: quotes and open interest stand as they closed (last seen at most a week before start_ts, else
-- null), nothing traded, volume is 0, and price_previous is the last trade. Without it such a period has no row.
WITH minutes AS (
    SELECT
        date_bin(make_interval(mins => :minutes), candlesticks.end_period_ts - interval '1 microsecond', '2000-01-01 00:00:00+00')
            + make_interval(mins => :minutes) AS period_end,
        candlesticks.*
    FROM market_data.candlesticks
    WHERE market_ticker = :market_ticker
        AND period_interval_minutes = 1
        AND end_period_ts > :start_ts
        AND end_period_ts <= :end_ts
),
periods AS (
    SELECT
        period_end,
        (array_agg(yes_bid_open ORDER BY end_period_ts) FILTER (WHERE yes_bid_open IS NOT NULL))[1] AS yes_bid_open,
        max(yes_bid_high) AS yes_bid_high,
        min(yes_bid_low) AS yes_bid_low,
        (array_agg(yes_bid_close ORDER BY end_period_ts DESC) FILTER (WHERE yes_bid_close IS NOT NULL))[1] AS yes_bid_close,
        (array_agg(yes_ask_open ORDER BY end_period_ts) FILTER (WHERE yes_ask_open IS NOT NULL))[1] AS yes_ask_open,
        max(yes_ask_high) AS yes_ask_high,
        min(yes_ask_low) AS yes_ask_low,
        (array_agg(yes_ask_close ORDER BY end_period_ts DESC) FILTER (WHERE yes_ask_close IS NOT NULL))[1] AS yes_ask_close,
        (array_agg(price_open ORDER BY end_period_ts) FILTER (WHERE price_open IS NOT NULL))[1] AS price_open,
        max(price_high) AS price_high,
        min(price_low) AS price_low,
        (array_agg(price_close ORDER BY end_period_ts DESC) FILTER (WHERE price_close IS NOT NULL))[1] AS price_close,
        sum(price_mean * volume) / NULLIF(sum(volume) FILTER (WHERE price_mean IS NOT NULL), 0) AS price_mean,
        (array_agg(price_previous ORDER BY end_period_ts))[1] AS price_previous,
        sum(volume) AS volume,
        (array_agg(open_interest ORDER BY end_period_ts DESC) FILTER (WHERE open_interest IS NOT NULL))[1] AS open_interest
    FROM minutes
    GROUP BY period_end
),
edges AS (
    SELECT period_end FROM periods WHERE NOT :fill_gaps
    UNION ALL
    SELECT generate_series(
        date_bin(make_interval(mins => :minutes), :start_ts, '2000-01-01 00:00:00+00') + make_interval(mins => :minutes),
        :end_ts,
        make_interval(mins => :minutes)
    )
    WHERE :fill_gaps
)
SELECT
    edges.period_end AS end_period_ts,
    periods.period_end IS NULL AS is_filled,
    COALESCE(periods.yes_bid_open, before.yes_bid_close)::numeric(7, 6) AS yes_bid_open,
    COALESCE(periods.yes_bid_high, before.yes_bid_close)::numeric(7, 6) AS yes_bid_high,
    COALESCE(periods.yes_bid_low, before.yes_bid_close)::numeric(7, 6) AS yes_bid_low,
    COALESCE(periods.yes_bid_close, before.yes_bid_close)::numeric(7, 6) AS yes_bid_close,
    COALESCE(periods.yes_ask_open, before.yes_ask_close)::numeric(7, 6) AS yes_ask_open,
    COALESCE(periods.yes_ask_high, before.yes_ask_close)::numeric(7, 6) AS yes_ask_high,
    COALESCE(periods.yes_ask_low, before.yes_ask_close)::numeric(7, 6) AS yes_ask_low,
    COALESCE(periods.yes_ask_close, before.yes_ask_close)::numeric(7, 6) AS yes_ask_close,
    periods.price_open::numeric(7, 6) AS price_open,
    periods.price_high::numeric(7, 6) AS price_high,
    periods.price_low::numeric(7, 6) AS price_low,
    periods.price_close::numeric(7, 6) AS price_close,
    periods.price_mean::numeric(7, 6) AS price_mean,
    COALESCE(periods.price_previous, before.price_close, before.price_previous)::numeric(7, 6) AS price_previous,
    (CASE WHEN periods.period_end IS NULL THEN 0 ELSE periods.volume END)::numeric(18, 2) AS volume,
    COALESCE(periods.open_interest, before.open_interest)::numeric(18, 2) AS open_interest
FROM edges
LEFT JOIN periods ON periods.period_end = edges.period_end
LEFT JOIN LATERAL (
    SELECT yes_bid_close, yes_ask_close, price_close, price_previous, open_interest
    FROM market_data.candlesticks
    WHERE periods.period_end IS NULL
        AND candlesticks.market_ticker = :market_ticker
        AND candlesticks.period_interval_minutes = 1
        AND candlesticks.end_period_ts < edges.period_end
        AND candlesticks.end_period_ts > :start_ts - interval '7 days'
    ORDER BY candlesticks.end_period_ts DESC
    LIMIT 1
) AS before ON true
ORDER BY edges.period_end;
