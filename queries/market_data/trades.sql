-- The public tape.

-- name: insert_public_trades()^
-- Adds public trades; one that is stored already is left as it is.
--
-- trade_id alone tells two trades apart: equal market, time, price, side and count with different ids are all stored. Markets that the
-- catalogue lacks are no error here (combos trade first); see orphan_trades. A missing month gets its partition. The stream gives a
-- trade's time coarser than the tape does: the same market and id within a second is the same trade.
-- @bulk staged_public_trades like market_data.public_trades
-- @one
-- @before create_partitions_of_public_trades
WITH newest AS (
    -- Of two times of one trade the one with a fraction of a second is the finer.
    SELECT DISTINCT ON (market_ticker, trade_id) *
    FROM staged_public_trades
    ORDER BY market_ticker, trade_id, created_time = date_trunc('second', created_time), retrieved_at DESC, staged_position DESC
),
written AS (
    INSERT INTO market_data.public_trades AS stored (
        market_ticker, created_time, trade_id, count, yes_price, no_price, taker_side, is_block_trade, retrieved_at, raw_json
    )
    SELECT
        market_ticker, created_time, trade_id, count, yes_price, no_price, taker_side, is_block_trade, retrieved_at, raw_json
    FROM newest
    WHERE NOT EXISTS (
        SELECT FROM market_data.public_trades AS known
        WHERE known.market_ticker = newest.market_ticker
            AND known.trade_id = newest.trade_id
            AND known.created_time BETWEEN newest.created_time - interval '1 second' AND newest.created_time + interval '1 second'
        -- Keeps this a look into the index for each row: a join might read every month.
        OFFSET 0
    )
    ORDER BY market_ticker, created_time, trade_id
    ON CONFLICT (market_ticker, created_time, trade_id) DO NOTHING
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: create_partitions_of_public_trades()$
-- The months that the staged rows need.
-- @internal step of insert_public_trades
SELECT market_data.create_month_partitions('market_data.public_trades', array_agg(DISTINCT date_trunc('month', created_time, 'UTC')))
FROM staged_public_trades;

-- name: trades_between(market_ticker, start_time, end_time)
-- Trades of one market in [start_time, end_time), oldest first.
SELECT *
FROM market_data.public_trades
WHERE market_ticker = :market_ticker
    AND created_time >= :start_time
    AND created_time < :end_time
ORDER BY created_time, trade_id;

-- name: trades_in_window(start_time, end_time)
-- Trades of all markets in [start_time, end_time), oldest first; streamed, so memory stays flat.
-- @stream
SELECT *
FROM market_data.public_trades
WHERE created_time >= :start_time
    AND created_time < :end_time
ORDER BY created_time, trade_id;

-- name: last_trade_as_of(market_ticker, moment)^
-- The last trade of a market at or before a moment, or None when it had not traded.
SELECT *
FROM market_data.public_trades
WHERE market_ticker = :market_ticker
    AND created_time <= :moment
ORDER BY created_time DESC, trade_id DESC
LIMIT 1;

-- name: orphan_trades()
-- Markets that traded and that the catalogue does not know, by contracts traded.
-- @plan adds up every trade; asked now and then by a person
SELECT *
FROM market_data.orphan_trades
ORDER BY contracts DESC, market_ticker;
