-- How positions changed: one state a version, one chain of versions a position (SCD type 2).
--
-- What counts as a change: quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price, exit_time,
-- trailing_stop_state, exit_reason, exit_priority, close_reason. last_update alone is no change: it moves in the version that a look
-- confirms. To open, look at, leave and settle a position see positions.sql and exits.sql, which write versions too.

-- name: record_position_version(environment, position_id, observed_at, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason)$
-- Files the whole state of a position at a moment; money in dollars, unrealized_pnl_pct a fraction, None = unknown or none yet.
--
-- Answers `written` (it is current now), `unchanged` (it was so then already) or `filed` (it belongs before a later version, whose
-- beginning moves when it is the same state). Another state at the same moment is refused: UniqueViolation.
-- A position that is unknown is refused: ForeignKeyViolation.
-- @param fees nullable: unknown, or none yet
-- @param current_price nullable: unknown, or none yet
-- @param unrealized_pnl nullable: unknown, or none yet
-- @param unrealized_pnl_pct nullable: unknown, or none yet
-- @param realized_pnl nullable: unknown, or none yet
-- @param exit_price nullable: unknown, or none yet
-- @param exit_time nullable: unknown, or none yet
-- @param trailing_stop_state nullable: unknown, or none yet
-- @param exit_reason nullable: unknown, or none yet
-- @param exit_priority nullable: unknown, or none yet
-- @param close_reason nullable: unknown, or none yet
-- @json trailing_stop_state kalshidb.documents:TrailingStop
-- @column outcome not null: the function answers with a word, or fails
SELECT trading.record_position_version(
    :environment::trading.environment, :position_id::bigint, :observed_at::timestamptz, :quantity::market_data.contracts,
    :fees::market_data.money, :status::text, :current_price::market_data.price, :unrealized_pnl::market_data.money,
    :unrealized_pnl_pct::numeric(12, 6), :realized_pnl::market_data.money, :exit_price::market_data.price, :exit_time::timestamptz,
    :trailing_stop_state::jsonb, :exit_reason::trading.exit_condition, :exit_priority::trading.exit_priority, :close_reason::text
) AS outcome;

-- name: change_position_version(environment, position_id, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason)$
-- Changes some columns of a position's current version as of now; None leaves a column as it was, and all others are carried over.
--
-- For writers that know one thing each (a price, a stop): they take turns, and none undoes what another changed. Now is the database's
-- clock once it is this writer's turn. exit_priority follows exit_reason where it is None. Answers `written`, or `unchanged`, which moves
-- only last_update. A position without a version is refused: NoDataFound.
-- @param quantity nullable: as it was
-- @param fees nullable: as it was
-- @param status nullable: as it was
-- @param current_price nullable: as it was
-- @param unrealized_pnl nullable: as it was
-- @param unrealized_pnl_pct nullable: as it was
-- @param realized_pnl nullable: as it was
-- @param exit_price nullable: as it was
-- @param exit_time nullable: as it was
-- @param trailing_stop_state nullable: as it was
-- @param exit_reason nullable: as it was
-- @param exit_priority nullable: as it was
-- @param close_reason nullable: as it was
-- @json trailing_stop_state kalshidb.documents:TrailingStop
-- @column outcome not null: the function answers with a word, or fails
SELECT trading.change_position_version(
    :environment::trading.environment, :position_id::bigint, :quantity::market_data.contracts, :fees::market_data.money,
    :status::text, :current_price::market_data.price, :unrealized_pnl::market_data.money, :unrealized_pnl_pct::numeric(12, 6),
    :realized_pnl::market_data.money, :exit_price::market_data.price, :exit_time::timestamptz, :trailing_stop_state::jsonb,
    :exit_reason::trading.exit_condition, :exit_priority::trading.exit_priority, :close_reason::text
) AS outcome;

-- name: record_position_versions()^
-- Files the whole states of many positions, valid_from being the moment of each; several of one position in any order.
--
-- Each observation answers for its moment afterwards, and every version that was stored still begins where it did, or earlier. Of the
-- result, `filed` (part of `written`) belong before a later version that was stored; `conflicting` are contradicted by a state that
-- was recorded for the same moment first, and are left out.
-- @bulk staged_position_versions like trading.position_versions without valid_to, last_update, created_at
-- @one
-- @before settle_position_versions
-- @before hold_positions_of_versions
-- @after look_at_position_versions
WITH observed AS (
    SELECT
        staged_position,
        environment,
        position_id,
        valid_from,
        ROW(
            quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price, exit_time,
            trailing_stop_state, exit_reason, exit_priority, close_reason
        )::record AS state
    FROM staged_position_versions
),
spans AS (
    SELECT environment, position_id, min(valid_from) AS first_at, max(valid_from) AS last_at
    FROM observed
    GROUP BY environment, position_id
),
stored AS (
    -- From the version before the first observation to the one after the last. OFFSET 0 keeps it a look into the index for each key.
    SELECT known.*
    FROM spans
    CROSS JOIN LATERAL (
        SELECT
            version.environment,
            version.position_id,
            version.valid_from,
            version.valid_to,
            -- Staged values have no domains, and records compare only where their types are the same.
            ROW(
                version.quantity::numeric, version.fees::numeric, version.status, version.current_price::numeric,
                version.unrealized_pnl::numeric, version.unrealized_pnl_pct, version.realized_pnl::numeric,
                version.exit_price::numeric, version.exit_time, version.trailing_stop_state, version.exit_reason::text,
                version.exit_priority::text, version.close_reason
            )::record AS state
        FROM trading.position_versions AS version
        WHERE version.environment = spans.environment
            AND version.position_id = spans.position_id
            AND version.valid_from >= COALESCE(
                (
                    SELECT earlier.valid_from
                    FROM trading.position_versions AS earlier
                    WHERE earlier.environment = spans.environment
                        AND earlier.position_id = spans.position_id
                        AND earlier.valid_from <= spans.first_at
                    ORDER BY earlier.valid_from DESC
                    LIMIT 1
                ),
                spans.first_at
            )
            AND version.valid_from <= COALESCE(
                (
                    SELECT later.valid_from
                    FROM trading.position_versions AS later
                    WHERE later.environment = spans.environment
                        AND later.position_id = spans.position_id
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
        AND stored.position_id = observed.position_id
        AND stored.valid_from = observed.valid_from
    WINDOW moment AS (PARTITION BY observed.environment, observed.position_id, observed.valid_from ORDER BY observed.staged_position)
),
points AS (
    -- Every moment at which a state is known to have been seen, with that state.
    SELECT environment, position_id, valid_from AS seen_at, valid_from AS stored_from, valid_to AS stored_to, NULL AS staged_position, state
    FROM stored
    UNION ALL
    SELECT environment, position_id, valid_from, NULL, NULL, staged_position, state
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
    WINDOW chronicle AS (PARTITION BY environment, position_id ORDER BY seen_at)
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY environment, position_id ORDER BY seen_at) AS number
    FROM compared
),
versions AS (
    -- One state from its first sight on. A stored one keeps its row, and at most one is stored: between two there was a change.
    SELECT
        environment, position_id,
        number,
        min(seen_at) AS valid_from,
        max(seen_at) AS last_seen_at,
        max(stored_from) AS stored_from,
        max(stored_to) AS stored_to,
        min(staged_position) AS staged_position
    FROM numbered
    GROUP BY environment, position_id, number
),
chain AS (
    -- The last one ends where its row ended. If it has none it is the newest of all, for what is stored after it would be in the chain.
    SELECT
        environment, position_id,
        valid_from,
        last_seen_at,
        COALESCE(lead(valid_from) OVER chronicle, stored_to) AS valid_to,
        stored_from,
        stored_to,
        staged_position,
        valid_from IS DISTINCT FROM stored_from AS is_changed,
        valid_from < max(stored_from) OVER (PARTITION BY environment, position_id) AS is_past
    FROM versions
    WINDOW chronicle AS (PARTITION BY environment, position_id ORDER BY number)
),
moved AS (
    UPDATE trading.position_versions AS stored
    SET valid_from = chain.valid_from, valid_to = chain.valid_to
    FROM chain
    WHERE stored.environment = chain.environment
        AND stored.position_id = chain.position_id
        AND stored.valid_from = chain.stored_from
        AND (chain.stored_from, chain.stored_to) IS DISTINCT FROM (chain.valid_from, chain.valid_to)
    RETURNING stored.environment
),
inserted AS (
    -- In one statement with the update, at whose end the chain is whole again; counting makes it wait for the room that is made.
    INSERT INTO trading.position_versions (
        environment, position_id, valid_from, valid_to, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct,
        realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, last_update, created_at
    )
    SELECT
        chain.environment, chain.position_id, chain.valid_from, chain.valid_to, staged.quantity, staged.fees, staged.status,
        staged.current_price, staged.unrealized_pnl, staged.unrealized_pnl_pct, staged.realized_pnl, staged.exit_price,
        staged.exit_time, staged.trailing_stop_state, staged.exit_reason, staged.exit_priority, staged.close_reason,
        chain.last_seen_at, statement_timestamp()
    FROM chain
    JOIN staged_position_versions AS staged USING (staged_position)
    WHERE chain.stored_from IS NULL
        AND (SELECT count(*) FROM moved) >= 0
)
SELECT
    count(*) FILTER (WHERE is_changed) AS written,
    count(*) FILTER (WHERE is_changed AND is_past) AS filed,
    (SELECT count(*) FROM weighed WHERE is_contradicted) AS conflicting
FROM chain;

-- name: settle_position_versions()!
-- Takes out of the staged rows the keys of which every observation equals the version of its moment, without a lock.
-- A look that is later than the last one stays: it moves last_update.
-- @internal step of record_position_versions
WITH confirmed AS (
    SELECT
        staged.environment, staged.position_id,
        COALESCE(known.is_same, false) AS is_same
    FROM staged_position_versions AS staged
    LEFT JOIN LATERAL (
        SELECT
            (
                version.quantity, version.fees, version.status, version.current_price, version.unrealized_pnl,
                version.unrealized_pnl_pct, version.realized_pnl, version.exit_price, version.exit_time, version.trailing_stop_state,
                version.exit_reason, version.exit_priority, version.close_reason
            ) IS NOT DISTINCT FROM (
                staged.quantity, staged.fees, staged.status, staged.current_price, staged.unrealized_pnl, staged.unrealized_pnl_pct,
                staged.realized_pnl, staged.exit_price, staged.exit_time, staged.trailing_stop_state, staged.exit_reason,
                staged.exit_priority, staged.close_reason
            )
            AND version.last_update >= staged.valid_from AS is_same
        FROM trading.position_versions AS version
        WHERE version.environment = staged.environment
            AND version.position_id = staged.position_id
            AND version.valid_from <= staged.valid_from
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS known ON true
)
DELETE FROM staged_position_versions AS staged
WHERE (staged.environment, staged.position_id) IN (
    SELECT environment, position_id FROM confirmed GROUP BY environment, position_id HAVING bool_and(is_same)
);

-- name: hold_positions_of_versions()!
-- Locks the positions of the staged versions, in one order, so that two writers wait for each other in one direction only.
-- @internal step of record_position_versions
SELECT
FROM trading.positions AS stored
WHERE (stored.environment, stored.position_id) IN (SELECT environment, position_id FROM staged_position_versions)
ORDER BY stored.environment, stored.position_id
FOR NO KEY UPDATE;

-- name: look_at_position_versions()!
-- Moves last_update of the versions that the staged rows confirm.
-- @internal step of record_position_versions
UPDATE trading.position_versions AS stored
SET last_update = looks.last_seen_at
FROM (
    SELECT known.environment, known.position_id, known.valid_from, max(staged.valid_from) AS last_seen_at
    FROM staged_position_versions AS staged
    CROSS JOIN LATERAL (
        SELECT
            version.*,
            (
                version.quantity, version.fees, version.status, version.current_price, version.unrealized_pnl,
                version.unrealized_pnl_pct, version.realized_pnl, version.exit_price, version.exit_time, version.trailing_stop_state,
                version.exit_reason, version.exit_priority, version.close_reason
            ) IS NOT DISTINCT FROM (
                staged.quantity, staged.fees, staged.status, staged.current_price, staged.unrealized_pnl, staged.unrealized_pnl_pct,
                staged.realized_pnl, staged.exit_price, staged.exit_time, staged.trailing_stop_state, staged.exit_reason,
                staged.exit_priority, staged.close_reason
            ) AS is_same
        FROM trading.position_versions AS version
        WHERE version.environment = staged.environment
            AND version.position_id = staged.position_id
            AND version.valid_from <= staged.valid_from
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS known
    WHERE known.is_same
    GROUP BY known.environment, known.position_id, known.valid_from
) AS looks
WHERE stored.environment = looks.environment
    AND stored.position_id = looks.position_id
    AND stored.valid_from = looks.valid_from
    AND (stored.last_update < looks.last_seen_at OR stored.last_update IS NULL);

-- name: current_position_version(environment, position_id)^
-- The state of a position now, whether it is open, closed or settled; None when there is no such position.
-- @json trailing_stop_state kalshidb.documents:TrailingStop
SELECT *
FROM trading.position_versions
WHERE environment = :environment
    AND position_id = :position_id
    AND valid_to IS NULL;

-- name: position_version_as_of(environment, position_id, moment)^
-- The state of a position at a moment, or None when it had not been opened by then.
-- @json trailing_stop_state kalshidb.documents:TrailingStop
SELECT *
FROM trading.position_versions
WHERE environment = :environment
    AND position_id = :position_id
    AND valid_from <= :moment
ORDER BY valid_from DESC
LIMIT 1;

-- name: position_versions_as_of(environment, position_ids, moments)
-- The state of a position at each moment, for many (position, moment) pairs in one round trip, in the order asked.
--
-- A pair before the position was opened comes back with null status. Never looks past the moment.
-- @pairs position_ids, moments
-- @column position_id not null: an element of the array that was asked
-- @column moment not null: an element of the array that was asked
-- @json trailing_stop_state kalshidb.documents:TrailingStop
WITH asked AS (
    SELECT position, position_id, moment
    FROM unnest(:position_ids::bigint[], :moments::timestamptz[]) WITH ORDINALITY AS pairs (position_id, moment, position)
)
SELECT
    asked.position,
    asked.position_id,
    asked.moment,
    version.valid_from,
    version.quantity,
    version.fees,
    version.status,
    version.current_price,
    version.unrealized_pnl,
    version.unrealized_pnl_pct,
    version.realized_pnl,
    version.exit_price,
    version.exit_time,
    version.trailing_stop_state,
    version.exit_reason,
    version.exit_priority,
    version.close_reason
FROM asked
LEFT JOIN LATERAL (
    SELECT *
    FROM trading.position_versions AS versions
    WHERE versions.environment = :environment
        AND versions.position_id = asked.position_id
        AND versions.valid_from <= asked.moment
    ORDER BY versions.valid_from DESC
    LIMIT 1
) AS version ON true
ORDER BY asked.position;

-- name: versions_of_position(environment, position_id)
-- Every version of a position, oldest first.
-- @json trailing_stop_state kalshidb.documents:TrailingStop
SELECT *
FROM trading.position_versions
WHERE environment = :environment
    AND position_id = :position_id
ORDER BY valid_from;

-- name: position_versions_between(environment, position_id, start_time, end_time)
-- The versions of a position that were valid at some moment of [start_time, end_time), oldest first; the first may have begun before.
-- @json trailing_stop_state kalshidb.documents:TrailingStop
SELECT *
FROM trading.position_versions
WHERE environment = :environment
    AND position_id = :position_id
    AND valid_from < :end_time
    AND (valid_to > :start_time OR valid_to IS NULL)
ORDER BY valid_from;
