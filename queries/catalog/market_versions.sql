-- How markets changed: one state a version, one chain of versions a market (SCD type 2).
--
-- What counts as a change: status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, open_interest,
-- settlement_value. An observation that equals the version of its moment writes nothing and locks nothing.

-- name: record_market_version(market_ticker, observed_at, status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, open_interest, settlement_value)$
-- Files the whole state of one market that was observed at a moment; prices in dollars, None = unknown.
--
-- Answers `written` (it is the current version now), `unchanged` (the market was in that state then already) or `filed` (it belongs before
-- a later version, whose beginning moves when it is the same state). Another state at the same moment is refused: UniqueViolation of
-- market_versions_pkey. An unknown market gets a stub.
-- @param yes_price nullable: unknown
-- @param no_price nullable: unknown
-- @param yes_bid nullable: unknown
-- @param yes_ask nullable: unknown
-- @param no_bid nullable: unknown
-- @param no_ask nullable: unknown
-- @param last_price nullable: unknown
-- @param volume nullable: unknown
-- @param open_interest nullable: unknown
-- @param settlement_value nullable: unsettled
-- @column outcome not null: the function answers with a word, or fails
SELECT catalog.record_market_version(
    :market_ticker::catalog.ticker, :observed_at::timestamptz, :status::text, :yes_price::market_data.price,
    :no_price::market_data.price, :yes_bid::market_data.price, :yes_ask::market_data.price, :no_bid::market_data.price,
    :no_ask::market_data.price, :last_price::market_data.price, :volume::market_data.contracts,
    :open_interest::market_data.contracts, :settlement_value::market_data.price
) AS outcome;

-- name: change_market_version(market_ticker, status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, open_interest, settlement_value)$
-- Changes some columns of a market's current version as of now; None leaves a column as it was, and all others are carried over.
--
-- For writers that know one thing each (a volume, a price): they take turns, and none undoes what another changed. Now is the database's
-- clock once it is this writer's turn. Answers `written` or `unchanged`. A market without a version is refused: NoDataFound; record
-- its whole state first. To say that something is unknown again, record the whole state too.
-- @param status nullable: as it was
-- @param yes_price nullable: as it was
-- @param no_price nullable: as it was
-- @param yes_bid nullable: as it was
-- @param yes_ask nullable: as it was
-- @param no_bid nullable: as it was
-- @param no_ask nullable: as it was
-- @param last_price nullable: as it was
-- @param volume nullable: as it was
-- @param open_interest nullable: as it was
-- @param settlement_value nullable: as it was
-- @column outcome not null: the function answers with a word, or fails
SELECT catalog.change_market_version(
    :market_ticker::catalog.ticker, :status::text, :yes_price::market_data.price, :no_price::market_data.price,
    :yes_bid::market_data.price, :yes_ask::market_data.price, :no_bid::market_data.price, :no_ask::market_data.price,
    :last_price::market_data.price, :volume::market_data.contracts, :open_interest::market_data.contracts,
    :settlement_value::market_data.price
) AS outcome;

-- name: record_market_versions()^
-- Files observed states of many markets, valid_from being the moment of the observation; several of one market in any order.
--
-- Each observation answers for its moment afterwards, and every version that was stored still begins where it did, or earlier. Of the
-- result, `filed` (part of `written`) belong before a later version that was stored; `conflicting` are contradicted by a state that
-- was recorded for the same moment first, and are left out. An unknown market gets a stub.
-- @bulk staged_market_versions like catalog.market_versions without valid_to, created_at
-- @one
-- @before settle_market_versions
-- @before hold_markets_of_versions
WITH observed AS (
    SELECT
        staged_position,
        market_ticker,
        valid_from,
        ROW(
            status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume, open_interest, settlement_value
        )::record AS state
    FROM staged_market_versions
),
spans AS (
    SELECT market_ticker, min(valid_from) AS first_at, max(valid_from) AS last_at
    FROM staged_market_versions
    GROUP BY market_ticker
),
stored AS (
    -- From the version before the first observation to the one after the last. OFFSET 0 keeps it a look into the index for each market.
    SELECT known.*
    FROM spans
    CROSS JOIN LATERAL (
        SELECT
            version.market_ticker,
            version.valid_from,
            version.valid_to,
            -- Staged values have no domains, and records compare only where their types are the same.
            ROW(
                status, yes_price::numeric, no_price::numeric, yes_bid::numeric, yes_ask::numeric, no_bid::numeric,
                no_ask::numeric, last_price::numeric, volume::numeric, open_interest::numeric, settlement_value::numeric
            )::record AS state
        FROM catalog.market_versions AS version
        WHERE version.market_ticker = spans.market_ticker
            AND version.valid_from >= COALESCE(
                (
                    SELECT earlier.valid_from
                    FROM catalog.market_versions AS earlier
                    WHERE earlier.market_ticker = spans.market_ticker
                        AND earlier.valid_from <= spans.first_at
                    ORDER BY earlier.valid_from DESC
                    LIMIT 1
                ),
                spans.first_at
            )
            AND version.valid_from <= COALESCE(
                (
                    SELECT later.valid_from
                    FROM catalog.market_versions AS later
                    WHERE later.market_ticker = spans.market_ticker
                        AND later.valid_from > spans.last_at
                    ORDER BY later.valid_from
                    LIMIT 1
                ),
                spans.last_at
            )
        OFFSET 0
    ) AS known
),
weighed AS (
    -- Of several at one moment what is stored counts, or else the first; the others confirm or contradict it.
    SELECT
        observed.*,
        stored.valid_from IS NULL AND row_number() OVER moment = 1 AS is_new,
        observed.state IS DISTINCT FROM COALESCE(stored.state, first_value(observed.state) OVER moment) AS is_contradicted
    FROM observed
    LEFT JOIN stored
        ON stored.market_ticker = observed.market_ticker
        AND stored.valid_from = observed.valid_from
    WINDOW moment AS (PARTITION BY observed.market_ticker, observed.valid_from ORDER BY observed.staged_position)
),
points AS (
    -- Every moment at which a state is known to have been seen, with that state.
    SELECT market_ticker, valid_from AS seen_at, valid_from AS stored_from, valid_to AS stored_to, NULL AS staged_position, state
    FROM stored
    UNION ALL
    SELECT market_ticker, valid_from, NULL, NULL, staged_position, state
    FROM weighed
    WHERE is_new
),
compared AS (
    SELECT
        *,
        -- Should two stored versions be adjacent and equal, both stay.
        state IS DISTINCT FROM lag(state) OVER chronicle
            OR (stored_from IS NOT NULL AND lag(stored_from) OVER chronicle IS NOT NULL) AS is_change
    FROM points
    WINDOW chronicle AS (PARTITION BY market_ticker ORDER BY seen_at)
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY market_ticker ORDER BY seen_at) AS number
    FROM compared
),
versions AS (
    -- One state from its first sight on. A stored one keeps its row, and at most one is stored: between two there was a change.
    SELECT
        market_ticker,
        number,
        min(seen_at) AS valid_from,
        max(stored_from) AS stored_from,
        max(stored_to) AS stored_to,
        min(staged_position) AS staged_position
    FROM numbered
    GROUP BY market_ticker, number
),
chain AS (
    -- The last one ends where its row ended. If it has none it is the newest of all, for what is stored after it would be in the chain.
    SELECT
        market_ticker,
        valid_from,
        COALESCE(lead(valid_from) OVER chronicle, stored_to) AS valid_to,
        stored_from,
        stored_to,
        staged_position,
        valid_from IS DISTINCT FROM stored_from AS is_changed,
        valid_from < max(stored_from) OVER (PARTITION BY market_ticker) AS is_past
    FROM versions
    WINDOW chronicle AS (PARTITION BY market_ticker ORDER BY number)
),
moved AS (
    UPDATE catalog.market_versions AS stored
    SET valid_from = chain.valid_from, valid_to = chain.valid_to
    FROM chain
    WHERE stored.market_ticker = chain.market_ticker
        AND stored.valid_from = chain.stored_from
        AND (chain.stored_from, chain.stored_to) IS DISTINCT FROM (chain.valid_from, chain.valid_to)
    RETURNING stored.market_ticker
),
inserted AS (
    -- In one statement with the update, at whose end the chain is whole again; counting makes it wait for the room that is made.
    INSERT INTO catalog.market_versions (
        market_ticker, valid_from, valid_to, status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume,
        open_interest, settlement_value, created_at
    )
    SELECT
        chain.market_ticker, chain.valid_from, chain.valid_to, staged.status, staged.yes_price, staged.no_price, staged.yes_bid,
        staged.yes_ask, staged.no_bid, staged.no_ask, staged.last_price, staged.volume, staged.open_interest,
        staged.settlement_value, statement_timestamp()
    FROM chain
    JOIN staged_market_versions AS staged USING (staged_position)
    WHERE chain.stored_from IS NULL
        AND (SELECT count(*) FROM moved) >= 0
)
SELECT
    count(*) FILTER (WHERE is_changed) AS written,
    count(*) FILTER (WHERE is_changed AND is_past) AS filed,
    (SELECT count(*) FROM weighed WHERE is_contradicted) AS conflicting
FROM chain;

-- name: settle_market_versions()!
-- Takes out of the staged rows the markets of which every observation equals the version of its moment: most of a poll, without a lock.
--
-- A market of which one observation differs stays whole, for an observation that confirms a version bears witness against another that
-- would end it.
-- @internal step of record_market_versions
WITH confirmed AS (
    SELECT staged.staged_position, staged.market_ticker, COALESCE(known.is_same, false) AS is_same
    FROM staged_market_versions AS staged
    LEFT JOIN LATERAL (
        SELECT
            (
                version.status, version.yes_price, version.no_price, version.yes_bid, version.yes_ask, version.no_bid,
                version.no_ask, version.last_price, version.volume, version.open_interest, version.settlement_value
            ) IS NOT DISTINCT FROM (
                staged.status, staged.yes_price, staged.no_price, staged.yes_bid, staged.yes_ask, staged.no_bid, staged.no_ask,
                staged.last_price, staged.volume, staged.open_interest, staged.settlement_value
            ) AS is_same
        FROM catalog.market_versions AS version
        WHERE version.market_ticker = staged.market_ticker
            AND version.valid_from <= staged.valid_from
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS known ON true
)
DELETE FROM staged_market_versions
WHERE market_ticker IN (SELECT market_ticker FROM confirmed GROUP BY market_ticker HAVING bool_and(is_same));

-- name: hold_markets_of_versions()!
-- Locks the markets whose versions change, and makes a stub of each that the catalogue lacks; the venue is a guess until it arrives.
--
-- One pass in order of ticker does both (an update that is never true still locks): were the stubs made first and the others locked
-- then, two writers could wait for each other.
-- @internal step of record_market_versions
INSERT INTO catalog.markets AS stored (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(valid_from), statement_timestamp(), statement_timestamp()
FROM staged_market_versions
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO UPDATE SET updated_at = stored.updated_at WHERE false;

-- name: market_version_as_of(market_ticker, moment)^
-- The version of a market that was valid at a moment, or None when none had been recorded by then.
SELECT *
FROM catalog.market_versions
WHERE market_ticker = :market_ticker
    AND valid_from <= :moment
    AND (valid_to > :moment OR valid_to IS NULL)
ORDER BY valid_from DESC
LIMIT 1;

-- name: market_versions_as_of(market_tickers, moments)
-- The version that was valid at each moment, for many (market, moment) pairs in one round trip, in the order asked.
--
-- A pair before the market's first version comes back with null status: nothing was known. Never looks past the moment.
-- @pairs market_tickers, moments
-- @column market_ticker not null: an element of the array that was asked
-- @column moment not null: an element of the array that was asked
WITH asked AS (
    SELECT position, market_ticker, moment
    FROM unnest(:market_tickers::text[], :moments::timestamptz[]) WITH ORDINALITY AS pairs (market_ticker, moment, position)
)
SELECT
    asked.position,
    asked.market_ticker,
    asked.moment,
    version.valid_from,
    version.status,
    version.yes_price,
    version.no_price,
    version.yes_bid,
    version.yes_ask,
    version.no_bid,
    version.no_ask,
    version.last_price,
    version.volume,
    version.open_interest,
    version.settlement_value,
    version.spread
FROM asked
LEFT JOIN LATERAL (
    SELECT *
    FROM catalog.market_versions AS versions
    WHERE versions.market_ticker = asked.market_ticker
        AND versions.valid_from <= asked.moment
    ORDER BY versions.valid_from DESC
    LIMIT 1
) AS version ON true
ORDER BY asked.position;

-- name: versions_of_market(market_ticker)
-- Every recorded version of a market, oldest first.
SELECT *
FROM catalog.market_versions
WHERE market_ticker = :market_ticker
ORDER BY valid_from;

-- name: market_versions_between(market_ticker, start_time, end_time)
-- The versions of a market that were valid at some moment of [start_time, end_time), oldest first; the first may have begun before.
SELECT *
FROM catalog.market_versions
WHERE market_ticker = :market_ticker
    AND valid_from < :end_time
    AND (valid_to > :start_time OR valid_to IS NULL)
ORDER BY valid_from;

-- name: current_market(market_ticker)^
-- One market with its current version, or None when the catalogue does not know it.
SELECT *
FROM catalog.current_markets
WHERE market_ticker = :market_ticker;

-- name: current_markets(market_tickers)
-- Many markets with their current versions, by ticker; one that the catalogue does not know is left out.
SELECT *
FROM catalog.current_markets
WHERE market_ticker = ANY (:market_tickers::text[])
ORDER BY market_ticker;

-- name: current_price(market_ticker)^
-- What a market costs now, or None when no version of it has been recorded; dollars for YES and for NO.
--
-- yes_price and no_price are those that the venue shows; where it shows none, the last trade and one minus it.
SELECT
    market_ticker,
    valid_from,
    COALESCE(yes_price, last_price)::market_data.price AS yes_price,
    COALESCE(no_price, 1 - last_price)::market_data.price AS no_price,
    yes_bid,
    yes_ask,
    no_bid,
    no_ask,
    last_price,
    volume
FROM catalog.market_versions
WHERE market_ticker = :market_ticker
    AND valid_to IS NULL;

-- name: status_changes_of_market(market_ticker)
-- When a market's status changed, oldest first, as seen in its versions: its life without a stream. The first has no status before.
WITH compared AS (
    SELECT
        valid_from AS occurred_at,
        status,
        lag(status) OVER (ORDER BY valid_from) AS status_before,
        last_price,
        settlement_value
    FROM catalog.market_versions
    WHERE market_ticker = :market_ticker
)
SELECT occurred_at, status_before, status, last_price, settlement_value
FROM compared
WHERE status IS DISTINCT FROM status_before
ORDER BY occurred_at;
