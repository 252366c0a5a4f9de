-- Prices of many markets at once: before the close, now, how they moved, and whether those of one event fit together.

-- name: prices_before_close(market_tickers, before_close, max_age)
-- The price of each of many markets some time before its close, in the order asked: the last quote and the last trade by then.
--
-- Neither is older than max_age at that moment, a quote since it was last seen (seen_at; snapshot_time is when first); null where there is
-- none, and where the close is not known. close_time is the one last
-- known: for a market that closed early it is the early one.
-- @column market_ticker not null: an element of the array that was asked
WITH asked AS (
    SELECT given.position, given.market_ticker, markets.close_time, markets.close_time - :before_close::interval AS moment
    FROM unnest(:market_tickers::text[]) WITH ORDINALITY AS given (market_ticker, position)
    LEFT JOIN catalog.markets ON markets.market_ticker = given.market_ticker
)
SELECT
    asked.position,
    asked.market_ticker,
    asked.close_time,
    quote.snapshot_time,
    quote.seen_at,
    quote.yes_bid,
    quote.yes_ask,
    quote.implied_probability,
    traded.created_time AS traded_at,
    traded.yes_price AS traded_price
FROM asked
LEFT JOIN LATERAL (
    SELECT candidate.snapshot_time, seen.seen_at, candidate.yes_bid, candidate.yes_ask, candidate.implied_probability
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = asked.market_ticker
                AND snapshots.snapshot_time <= asked.moment
                AND snapshots.snapshot_time >= asked.moment - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = asked.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time <= asked.moment
                AND snapshots.snapshot_time >= asked.moment - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT GREATEST(candidate.snapshot_time, max(again.seen_at)) AS seen_at
        FROM unnest(candidate.seen_again) AS again (seen_at)
        WHERE again.seen_at <= asked.moment
    ) AS seen
    WHERE seen.seen_at >= asked.moment - :max_age::interval
    ORDER BY seen.seen_at DESC, candidate.source
    LIMIT 1
) AS quote ON true
LEFT JOIN LATERAL (
    SELECT created_time, yes_price
    FROM market_data.public_trades
    WHERE public_trades.market_ticker = asked.market_ticker
        AND public_trades.created_time <= asked.moment
        AND public_trades.created_time >= asked.moment - :max_age::interval
    ORDER BY created_time DESC, trade_id DESC
    LIMIT 1
) AS traded ON true
ORDER BY asked.position;

-- name: prices_of_open_markets(seen_since)
-- The latest quote of every open market, in order of close; streamed. Null where none was seen, be it again, since a moment; seen_at is
-- when it was seen last.
-- @stream
SELECT
    markets.market_ticker,
    markets.event_ticker,
    markets.category,
    markets.close_time,
    quote.snapshot_time,
    quote.seen_at,
    quote.yes_bid,
    quote.yes_ask,
    quote.no_bid,
    quote.no_ask,
    quote.last_price,
    quote.implied_probability
FROM catalog.markets
LEFT JOIN LATERAL (
    SELECT candidate.*, seen.seen_at
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.snapshot_time >= :seen_since::timestamptz - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time >= :seen_since::timestamptz - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT GREATEST(candidate.snapshot_time, candidate.seen_again[cardinality(candidate.seen_again)]) AS seen_at
    ) AS seen
    WHERE seen.seen_at >= :seen_since
    ORDER BY seen.seen_at DESC, candidate.source
    LIMIT 1
) AS quote ON true
WHERE markets.status = 'active'
ORDER BY markets.close_time, markets.market_ticker;

-- name: biggest_movers(from_time, to_time, max_age, how_many)
-- The open markets whose implied probability changed most between two moments, either way.
--
-- At each moment the last quote counts that was seen, if again, no longer than max_age before; a market without both is left out.
SELECT
    markets.market_ticker,
    markets.title,
    markets.category,
    earlier.implied_probability AS probability_before,
    later.implied_probability AS probability_after,
    (later.implied_probability - earlier.implied_probability)::numeric(8, 7) AS change
FROM catalog.markets
CROSS JOIN LATERAL (
    SELECT candidate.implied_probability
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.snapshot_time <= :from_time::timestamptz
                AND snapshots.snapshot_time >= :from_time::timestamptz - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time <= :from_time::timestamptz
                AND snapshots.snapshot_time >= :from_time::timestamptz - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT GREATEST(candidate.snapshot_time, max(again.seen_at)) AS seen_at
        FROM unnest(candidate.seen_again) AS again (seen_at)
        WHERE again.seen_at <= :from_time::timestamptz
    ) AS seen
    WHERE seen.seen_at >= :from_time::timestamptz - :max_age::interval
    ORDER BY seen.seen_at DESC, candidate.source
    LIMIT 1
) AS earlier
CROSS JOIN LATERAL (
    SELECT candidate.implied_probability
    FROM (
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.snapshot_time <= :to_time::timestamptz
                AND snapshots.snapshot_time >= :to_time::timestamptz - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC, snapshots.source
            LIMIT 1
        )
        UNION ALL
        (
            SELECT *
            FROM market_data.price_snapshots AS snapshots
            WHERE snapshots.market_ticker = markets.market_ticker
                AND snapshots.source = 'poll'
                AND snapshots.snapshot_time <= :to_time::timestamptz
                AND snapshots.snapshot_time >= :to_time::timestamptz - :max_age::interval - interval '6 hours'
            ORDER BY snapshots.snapshot_time DESC
            LIMIT 1
        )
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT GREATEST(candidate.snapshot_time, max(again.seen_at)) AS seen_at
        FROM unnest(candidate.seen_again) AS again (seen_at)
        WHERE again.seen_at <= :to_time::timestamptz
    ) AS seen
    WHERE seen.seen_at >= :to_time::timestamptz - :max_age::interval
    ORDER BY seen.seen_at DESC, candidate.source
    LIMIT 1
) AS later
WHERE markets.status = 'active'
    AND earlier.implied_probability IS NOT NULL
    AND later.implied_probability IS NOT NULL
ORDER BY abs(later.implied_probability - earlier.implied_probability) DESC, markets.market_ticker
LIMIT :how_many;

-- name: event_arbitrage(moment, max_age, smallest_profit)
-- Events whose markets exclude each other and whose prices at a moment do not fit together: YES bids that add up to more than a dollar,
-- or offers to less; the most profitable first.
--
-- Quotes last seen longer than max_age before the moment do not count. For one contract of each, dollars: sell_profit is what selling YES (buying NO)
-- at every bid brings for sure, as at most one market pays. buy_profit is what buying YES at every offer brings if one of the markets
-- does pay, which the venue does not promise: look whether they cover every case. It is null unless every market of the event that has
-- not settled as no is open and offered. Both are before fees; sell_fees and buy_fees are what a taker pays (see returns.sql; not rounded).
WITH quoted AS (
    SELECT
        markets.event_ticker,
        quote.yes_bid,
        quote.yes_ask,
        COALESCE(series.fee_multiplier, 1) AS fee_multiplier
    FROM catalog.markets
    JOIN catalog.events ON events.event_ticker = markets.event_ticker
    LEFT JOIN catalog.series ON series.series_ticker = markets.series_ticker
    LEFT JOIN LATERAL (
        SELECT candidate.yes_bid, candidate.yes_ask
        FROM (
            (
                SELECT *
                FROM market_data.price_snapshots AS snapshots
                WHERE snapshots.market_ticker = markets.market_ticker
                    AND snapshots.snapshot_time <= :moment::timestamptz
                    AND snapshots.snapshot_time >= :moment::timestamptz - :max_age::interval - interval '6 hours'
                ORDER BY snapshots.snapshot_time DESC, snapshots.source
                LIMIT 1
            )
            UNION ALL
            (
                SELECT *
                FROM market_data.price_snapshots AS snapshots
                WHERE snapshots.market_ticker = markets.market_ticker
                    AND snapshots.source = 'poll'
                    AND snapshots.snapshot_time <= :moment::timestamptz
                    AND snapshots.snapshot_time >= :moment::timestamptz - :max_age::interval - interval '6 hours'
                ORDER BY snapshots.snapshot_time DESC
                LIMIT 1
            )
        ) AS candidate
        CROSS JOIN LATERAL (
            SELECT GREATEST(candidate.snapshot_time, max(again.seen_at)) AS seen_at
            FROM unnest(candidate.seen_again) AS again (seen_at)
            WHERE again.seen_at <= :moment::timestamptz
        ) AS seen
        WHERE seen.seen_at >= :moment::timestamptz - :max_age::interval
        ORDER BY seen.seen_at DESC, candidate.source
        LIMIT 1
    ) AS quote ON true
    WHERE markets.status = 'active'
        AND events.mutually_exclusive
),
summed AS (
    SELECT
        event_ticker,
        count(*) AS open_markets,
        sum(COALESCE(yes_bid, 0)) AS yes_bids,
        CASE WHEN bool_and(yes_ask < 1) THEN sum(yes_ask) END AS yes_asks,
        sum(COALESCE(0.07 * fee_multiplier * yes_bid * (1 - yes_bid), 0)) AS sell_fees,
        sum(0.07 * fee_multiplier * yes_ask * (1 - yes_ask)) AS buy_fees
    FROM quoted
    GROUP BY event_ticker
    HAVING count(*) > 1
),
judged AS (
    SELECT
        summed.*,
        summed.yes_bids - 1 AS sell_profit,
        CASE
            WHEN NOT EXISTS (
                SELECT FROM catalog.markets AS other
                WHERE other.event_ticker = summed.event_ticker
                    AND other.status IS DISTINCT FROM 'active'
                    AND other.result IS DISTINCT FROM 'no'
            ) THEN 1 - summed.yes_asks
        END AS buy_profit
    FROM summed
    WHERE summed.yes_bids > 1 OR summed.yes_asks < 1
)
SELECT
    event_ticker,
    open_markets,
    yes_bids::numeric(18, 6) AS yes_bids,
    yes_asks::numeric(18, 6) AS yes_asks,
    sell_profit::numeric(18, 6) AS sell_profit,
    sell_fees::numeric(18, 6) AS sell_fees,
    buy_profit::numeric(18, 6) AS buy_profit,
    buy_fees::numeric(18, 6) AS buy_fees
FROM judged
WHERE GREATEST(sell_profit, buy_profit) >= :smallest_profit::numeric
ORDER BY GREATEST(sell_profit, buy_profit) DESC, event_ticker;
