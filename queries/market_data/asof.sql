-- What was known at the moment of a decision: the read path of a backtest.

-- name: quotes_known_at(market_tickers, decision_times, asof_policy_id)
-- The quote that an as-of policy lets be known at each decision time, for many (market, time) pairs in one round trip, in the order asked.
--
-- The quote is the close of the last candlestick of the policy's length that had ended quote_lag before the decision and is no older than
-- max_age at it; where there is none, the candlestick's columns are null: nothing was known, which is not a price of zero. It never looks
-- past the decision. A candlestick that was fetched while its period still ran has no close and does not count, nor does one that reached
-- us later than the policy's retrieved_within allows. last_price is the last trade, which may be older than the candlestick. An unknown
-- policy is an error.
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
    quote.end_period_ts,
    quote.period_interval_minutes,
    quote.yes_bid_close AS yes_bid,
    quote.yes_ask_close AS yes_ask,
    COALESCE(quote.price_close, quote.price_previous) AS last_price,
    quote.volume,
    quote.open_interest,
    quote.retrieved_at
FROM research.asof_policy(:asof_policy_id) AS policy
CROSS JOIN asked
LEFT JOIN LATERAL (
    SELECT *
    FROM market_data.candlesticks AS candles
    WHERE candles.market_ticker = asked.market_ticker
        AND candles.period_interval_minutes = policy.period_interval_minutes
        AND candles.end_period_ts <= asked.decision_time - policy.quote_lag
        AND candles.end_period_ts >= asked.decision_time - policy.max_age
        AND candles.retrieved_at >= candles.end_period_ts
        AND (policy.retrieved_within IS NULL OR candles.retrieved_at <= candles.end_period_ts + policy.retrieved_within)
    ORDER BY candles.end_period_ts DESC
    LIMIT 1
) AS quote ON true
ORDER BY asked.position;

-- name: snapshots_known_at(market_tickers, decision_times, asof_policy_id)
-- The observed quote that an as-of policy lets be known at each decision time, for many (market, time) pairs in one round trip, in the
-- order asked.
--
-- As quotes_known_at, from snapshots: the one that was last seen quote_lag before the decision, at seen_at, no longer than max_age before
-- it, from any source (of one moment a backfill before a poll before the stream). Null where there is none. snapshot_time, its first
-- sight, names the row, and retrieved_at is of that sight; each later one reached us when it was made.
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
    quote.implied_probability,
    quote.retrieved_at
FROM research.asof_policy(:asof_policy_id) AS policy
CROSS JOIN asked
LEFT JOIN LATERAL (
    SELECT candidate.*, seen.seen_at
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = asked.market_ticker
                AND snapshots.snapshot_time <= asked.decision_time - policy.quote_lag
                AND snapshots.snapshot_time >= asked.decision_time - policy.max_age - interval '6 hours'
                AND (
                    policy.retrieved_within IS NULL
                    OR snapshots.retrieved_at <= snapshots.snapshot_time + policy.retrieved_within
                    OR snapshots.seen_again[1] <= asked.decision_time - policy.quote_lag
                )
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = asked.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time <= asked.decision_time - policy.quote_lag
                AND snapshots.snapshot_time >= asked.decision_time - policy.max_age - interval '6 hours'
                AND (
                    policy.retrieved_within IS NULL
                    OR snapshots.retrieved_at <= snapshots.snapshot_time + policy.retrieved_within
                    OR snapshots.seen_again[1] <= asked.decision_time - policy.quote_lag
                )
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT GREATEST(candidate.snapshot_time, max(again.seen_at)) AS seen_at
        FROM unnest(candidate.seen_again) AS again (seen_at)
        WHERE again.seen_at <= asked.decision_time - policy.quote_lag
    ) AS seen
    WHERE seen.seen_at >= asked.decision_time - policy.max_age
    ORDER BY seen.seen_at DESC, candidate.source
    LIMIT 1
) AS quote ON true
ORDER BY asked.position;
