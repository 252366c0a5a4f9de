-- Balances: our cash at a venue as the venue showed it, and how it changed (SCD type 2). Why it changed is in the cash ledger.

-- name: record_balance(environment, platform_id, currency, observed_at, balance)$
-- Files the balance that a venue showed at a moment, in units of the currency.
--
-- Answers `written` (it is current now), `unchanged` (it was so then already) or `filed` (it belongs before a later version, whose
-- beginning moves when it is the same state). Another state at the same moment is refused: UniqueViolation.
-- A venue that is unknown is refused: ForeignKeyViolation.
-- @column outcome not null: the function answers with a word, or fails
SELECT trading.record_balance(
    :environment::trading.environment, :platform_id::text, :currency::trading.currency, :observed_at::timestamptz,
    :balance::market_data.money
) AS outcome;

-- name: record_balances()^
-- Files many, valid_from being the moment of each; several of one account in any order.
--
-- Each observation answers for its moment afterwards, and every version that was stored still begins where it did, or earlier. Of the
-- result, `filed` (part of `written`) belong before a later version that was stored; `conflicting` are contradicted by a state that
-- was recorded for the same moment first, and are left out.
-- @bulk staged_account_balances like trading.account_balances without valid_to, created_at
-- @one
-- @before settle_balances
-- @before hold_platforms_of_balances
WITH observed AS (
    SELECT
        staged_position,
        environment,
        platform_id,
        currency,
        valid_from,
        ROW(balance)::record AS state
    FROM staged_account_balances
),
spans AS (
    SELECT environment, platform_id, currency, min(valid_from) AS first_at, max(valid_from) AS last_at
    FROM observed
    GROUP BY environment, platform_id, currency
),
stored AS (
    -- From the version before the first observation to the one after the last. OFFSET 0 keeps it a look into the index for each key.
    SELECT known.*
    FROM spans
    CROSS JOIN LATERAL (
        SELECT
            version.environment,
            version.platform_id,
            version.currency,
            version.valid_from,
            version.valid_to,
            -- Staged values have no domains, and records compare only where their types are the same.
            ROW(version.balance::numeric)::record AS state
        FROM trading.account_balances AS version
        WHERE version.environment = spans.environment
            AND version.platform_id = spans.platform_id
            AND version.currency = spans.currency
            AND version.valid_from >= COALESCE(
                (
                    SELECT earlier.valid_from
                    FROM trading.account_balances AS earlier
                    WHERE earlier.environment = spans.environment
                        AND earlier.platform_id = spans.platform_id
                        AND earlier.currency = spans.currency
                        AND earlier.valid_from <= spans.first_at
                    ORDER BY earlier.valid_from DESC
                    LIMIT 1
                ),
                spans.first_at
            )
            AND version.valid_from <= COALESCE(
                (
                    SELECT later.valid_from
                    FROM trading.account_balances AS later
                    WHERE later.environment = spans.environment
                        AND later.platform_id = spans.platform_id
                        AND later.currency = spans.currency
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
        ON stored.environment = observed.environment
        AND stored.platform_id = observed.platform_id
        AND stored.currency = observed.currency
        AND stored.valid_from = observed.valid_from
    WINDOW moment AS (PARTITION BY observed.environment, observed.platform_id, observed.currency, observed.valid_from ORDER BY observed.staged_position)
),
points AS (
    -- Every moment at which a state is known to have been seen, with that state.
    SELECT environment, platform_id, currency, valid_from AS seen_at, valid_from AS stored_from, valid_to AS stored_to, NULL AS staged_position, state
    FROM stored
    UNION ALL
    SELECT environment, platform_id, currency, valid_from, NULL, NULL, staged_position, state
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
    WINDOW chronicle AS (PARTITION BY environment, platform_id, currency ORDER BY seen_at)
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY environment, platform_id, currency ORDER BY seen_at) AS number
    FROM compared
),
versions AS (
    -- One state from its first sight on. A stored one keeps its row, and at most one is stored: between two there was a change.
    SELECT
        environment, platform_id, currency,
        number,
        min(seen_at) AS valid_from,
        max(stored_from) AS stored_from,
        max(stored_to) AS stored_to,
        min(staged_position) AS staged_position
    FROM numbered
    GROUP BY environment, platform_id, currency, number
),
chain AS (
    -- The last one ends where its row ended. If it has none it is the newest of all, for what is stored after it would be in the chain.
    SELECT
        environment, platform_id, currency,
        valid_from,
        COALESCE(lead(valid_from) OVER chronicle, stored_to) AS valid_to,
        stored_from,
        stored_to,
        staged_position,
        valid_from IS DISTINCT FROM stored_from AS is_changed,
        valid_from < max(stored_from) OVER (PARTITION BY environment, platform_id, currency) AS is_past
    FROM versions
    WINDOW chronicle AS (PARTITION BY environment, platform_id, currency ORDER BY number)
),
moved AS (
    UPDATE trading.account_balances AS stored
    SET valid_from = chain.valid_from, valid_to = chain.valid_to
    FROM chain
    WHERE stored.environment = chain.environment
        AND stored.platform_id = chain.platform_id
        AND stored.currency = chain.currency
        AND stored.valid_from = chain.stored_from
        AND (chain.stored_from, chain.stored_to) IS DISTINCT FROM (chain.valid_from, chain.valid_to)
    RETURNING stored.environment
),
inserted AS (
    -- In one statement with the update, at whose end the chain is whole again; counting makes it wait for the room that is made.
    INSERT INTO trading.account_balances (
        environment, platform_id, currency, valid_from, valid_to, balance, created_at
    )
    SELECT
        chain.environment, chain.platform_id, chain.currency, chain.valid_from, chain.valid_to, staged.balance, statement_timestamp()
    FROM chain
    JOIN staged_account_balances AS staged USING (staged_position)
    WHERE chain.stored_from IS NULL
        AND (SELECT count(*) FROM moved) >= 0
)
SELECT
    count(*) FILTER (WHERE is_changed) AS written,
    count(*) FILTER (WHERE is_changed AND is_past) AS filed,
    (SELECT count(*) FROM weighed WHERE is_contradicted) AS conflicting
FROM chain;

-- name: settle_balances()!
-- Takes out of the staged rows the keys of which every observation equals the version of its moment, without a lock.
-- @internal step of record_balances
WITH confirmed AS (
    SELECT
        staged.environment, staged.platform_id, staged.currency,
        COALESCE(known.is_same, false) AS is_same
    FROM staged_account_balances AS staged
    LEFT JOIN LATERAL (
        SELECT
            version.balance = staged.balance AS is_same
        FROM trading.account_balances AS version
        WHERE version.environment = staged.environment
            AND version.platform_id = staged.platform_id
            AND version.currency = staged.currency
            AND version.valid_from <= staged.valid_from
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS known ON true
)
DELETE FROM staged_account_balances AS staged
WHERE (staged.environment, staged.platform_id, staged.currency) IN (
    SELECT environment, platform_id, currency FROM confirmed GROUP BY environment, platform_id, currency HAVING bool_and(is_same)
);

-- name: hold_platforms_of_balances()!
-- Locks the venues of the staged balances, in one order, so that two writers wait for each other in one direction only.
-- @internal step of record_balances
SELECT
FROM catalog.platforms AS stored
WHERE (stored.platform_id) IN (SELECT platform_id FROM staged_account_balances)
ORDER BY stored.platform_id
FOR NO KEY UPDATE;

-- name: balance_as_of(environment, platform_id, currency, moment)^
-- The balance at a moment, or None when none had been observed by then.
SELECT *
FROM trading.account_balances
WHERE environment = :environment
    AND platform_id = :platform_id
    AND currency = :currency
    AND valid_from <= :moment
ORDER BY valid_from DESC
LIMIT 1;

-- name: balances_as_of(environment, platform_id, currency, moments)
-- The balance at each of many moments in one round trip, in the order asked; null before the first observation.
-- @column moment not null: an element of the array that was asked
WITH asked AS (
    SELECT position, moment
    FROM unnest(:moments::timestamptz[]) WITH ORDINALITY AS moments (moment, position)
)
SELECT asked.position, asked.moment, version.valid_from, version.balance
FROM asked
LEFT JOIN LATERAL (
    SELECT *
    FROM trading.account_balances AS versions
    WHERE versions.environment = :environment
        AND versions.platform_id = :platform_id
        AND versions.currency = :currency
        AND versions.valid_from <= asked.moment
    ORDER BY versions.valid_from DESC
    LIMIT 1
) AS version ON true
ORDER BY asked.position;

-- name: balances_between(environment, platform_id, currency, start_time, end_time)
-- The balances that were valid at some moment of [start_time, end_time), oldest first; the first may have begun before.
SELECT *
FROM trading.account_balances
WHERE environment = :environment
    AND platform_id = :platform_id
    AND currency = :currency
    AND valid_from < :end_time
    AND (valid_to > :start_time OR valid_to IS NULL)
ORDER BY valid_from;

-- name: current_balances(environment)
-- Our cash at each venue now.
SELECT *
FROM trading.current_balances
WHERE environment = :environment
ORDER BY platform_id, currency;
