-- Games: the state of the game behind an event, and how it changed (SCD type 2).
--
-- external_game_id is empty where an event has one game and the source gives no id. What counts as a change: sport, home_team, away_team,
-- home_score, away_score, period, time_remaining, possession, status, sport_metadata.

-- name: record_game_state(event_ticker, external_game_id, observed_at, sport, home_team, away_team, home_score, away_score, period, time_remaining, possession, status, sport_metadata)$
-- Files the state of a game that was observed at a moment; None = unknown, and no score yet is not 0.
--
-- Answers `written` (it is current now), `unchanged` (it was so then already) or `filed` (it belongs before a later version, whose
-- beginning moves when it is the same state). Another state at the same moment is refused: UniqueViolation.
-- An event that is unknown is refused: ForeignKeyViolation.
-- @param home_team nullable: unknown
-- @param away_team nullable: unknown
-- @param home_score nullable: unknown
-- @param away_score nullable: unknown
-- @param period nullable: unknown
-- @param time_remaining nullable: unknown
-- @param possession nullable: unknown
-- @param status nullable: unknown
-- @param sport_metadata nullable: unknown
-- @column outcome not null: the function answers with a word, or fails
SELECT research.record_game_state(
    :event_ticker::catalog.ticker, :external_game_id::text, :observed_at::timestamptz, :sport::text, :home_team::text,
    :away_team::text, :home_score::integer, :away_score::integer, :period::text, :time_remaining::text, :possession::text,
    :status::text, :sport_metadata::jsonb
) AS outcome;

-- name: record_game_states()^
-- Files many, valid_from being the moment of each; several of one game in any order.
--
-- Each observation answers for its moment afterwards, and every version that was stored still begins where it did, or earlier. Of the
-- result, `filed` (part of `written`) belong before a later version that was stored; `conflicting` are contradicted by a state that
-- was recorded for the same moment first, and are left out.
-- @bulk staged_game_states like research.game_states without valid_to, created_at
-- @one
-- @before settle_game_states
-- @before hold_events_of_game_states
WITH observed AS (
    SELECT
        staged_position,
        event_ticker,
        external_game_id,
        valid_from,
        ROW(
            sport, home_team, away_team, home_score, away_score, period, time_remaining, possession, status, sport_metadata
        )::record AS state
    FROM staged_game_states
),
spans AS (
    SELECT event_ticker, external_game_id, min(valid_from) AS first_at, max(valid_from) AS last_at
    FROM observed
    GROUP BY event_ticker, external_game_id
),
stored AS (
    -- From the version before the first observation to the one after the last. OFFSET 0 keeps it a look into the index for each key.
    SELECT known.*
    FROM spans
    CROSS JOIN LATERAL (
        SELECT
            version.event_ticker,
            version.external_game_id,
            version.valid_from,
            version.valid_to,
            ROW(
                version.sport, version.home_team, version.away_team, version.home_score, version.away_score, version.period,
                version.time_remaining, version.possession, version.status, version.sport_metadata
            )::record AS state
        FROM research.game_states AS version
        WHERE version.event_ticker = spans.event_ticker
            AND version.external_game_id = spans.external_game_id
            AND version.valid_from >= COALESCE(
                (
                    SELECT earlier.valid_from
                    FROM research.game_states AS earlier
                    WHERE earlier.event_ticker = spans.event_ticker
                        AND earlier.external_game_id = spans.external_game_id
                        AND earlier.valid_from <= spans.first_at
                    ORDER BY earlier.valid_from DESC
                    LIMIT 1
                ),
                spans.first_at
            )
            AND version.valid_from <= COALESCE(
                (
                    SELECT later.valid_from
                    FROM research.game_states AS later
                    WHERE later.event_ticker = spans.event_ticker
                        AND later.external_game_id = spans.external_game_id
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
        ON stored.event_ticker = observed.event_ticker
        AND stored.external_game_id = observed.external_game_id
        AND stored.valid_from = observed.valid_from
    WINDOW moment AS (PARTITION BY observed.event_ticker, observed.external_game_id, observed.valid_from ORDER BY observed.staged_position)
),
points AS (
    -- Every moment at which a state is known to have been seen, with that state.
    SELECT event_ticker, external_game_id, valid_from AS seen_at, valid_from AS stored_from, valid_to AS stored_to, NULL AS staged_position, state
    FROM stored
    UNION ALL
    SELECT event_ticker, external_game_id, valid_from, NULL, NULL, staged_position, state
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
    WINDOW chronicle AS (PARTITION BY event_ticker, external_game_id ORDER BY seen_at)
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY event_ticker, external_game_id ORDER BY seen_at) AS number
    FROM compared
),
versions AS (
    -- One state from its first sight on. A stored one keeps its row, and at most one is stored: between two there was a change.
    SELECT
        event_ticker, external_game_id,
        number,
        min(seen_at) AS valid_from,
        max(stored_from) AS stored_from,
        max(stored_to) AS stored_to,
        min(staged_position) AS staged_position
    FROM numbered
    GROUP BY event_ticker, external_game_id, number
),
chain AS (
    -- The last one ends where its row ended. If it has none it is the newest of all, for what is stored after it would be in the chain.
    SELECT
        event_ticker, external_game_id,
        valid_from,
        COALESCE(lead(valid_from) OVER chronicle, stored_to) AS valid_to,
        stored_from,
        stored_to,
        staged_position,
        valid_from IS DISTINCT FROM stored_from AS is_changed,
        valid_from < max(stored_from) OVER (PARTITION BY event_ticker, external_game_id) AS is_past
    FROM versions
    WINDOW chronicle AS (PARTITION BY event_ticker, external_game_id ORDER BY number)
),
moved AS (
    UPDATE research.game_states AS stored
    SET valid_from = chain.valid_from, valid_to = chain.valid_to
    FROM chain
    WHERE stored.event_ticker = chain.event_ticker
        AND stored.external_game_id = chain.external_game_id
        AND stored.valid_from = chain.stored_from
        AND (chain.stored_from, chain.stored_to) IS DISTINCT FROM (chain.valid_from, chain.valid_to)
    RETURNING stored.event_ticker
),
inserted AS (
    -- In one statement with the update, at whose end the chain is whole again; counting makes it wait for the room that is made.
    INSERT INTO research.game_states (
        event_ticker, external_game_id, valid_from, valid_to, sport, home_team, away_team, home_score, away_score, period,
        time_remaining, possession, status, sport_metadata, created_at
    )
    SELECT
        chain.event_ticker, chain.external_game_id, chain.valid_from, chain.valid_to, staged.sport, staged.home_team,
        staged.away_team, staged.home_score, staged.away_score, staged.period, staged.time_remaining, staged.possession,
        staged.status, staged.sport_metadata, statement_timestamp()
    FROM chain
    JOIN staged_game_states AS staged USING (staged_position)
    WHERE chain.stored_from IS NULL
        AND (SELECT count(*) FROM moved) >= 0
)
SELECT
    count(*) FILTER (WHERE is_changed) AS written,
    count(*) FILTER (WHERE is_changed AND is_past) AS filed,
    (SELECT count(*) FROM weighed WHERE is_contradicted) AS conflicting
FROM chain;

-- name: settle_game_states()!
-- Takes out of the staged rows the keys of which every observation equals the version of its moment, without a lock.
-- @internal step of record_game_states
WITH confirmed AS (
    SELECT
        staged.event_ticker, staged.external_game_id,
        COALESCE(known.is_same, false) AS is_same
    FROM staged_game_states AS staged
    LEFT JOIN LATERAL (
        SELECT
            (
                version.sport, version.home_team, version.away_team, version.home_score, version.away_score, version.period,
                version.time_remaining, version.possession, version.status, version.sport_metadata
            ) IS NOT DISTINCT FROM (
                staged.sport, staged.home_team, staged.away_team, staged.home_score, staged.away_score, staged.period,
                staged.time_remaining, staged.possession, staged.status, staged.sport_metadata
            ) AS is_same
        FROM research.game_states AS version
        WHERE version.event_ticker = staged.event_ticker
            AND version.external_game_id = staged.external_game_id
            AND version.valid_from <= staged.valid_from
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS known ON true
)
DELETE FROM staged_game_states AS staged
WHERE (staged.event_ticker, staged.external_game_id) IN (
    SELECT event_ticker, external_game_id FROM confirmed GROUP BY event_ticker, external_game_id HAVING bool_and(is_same)
);

-- name: hold_events_of_game_states()!
-- Locks the events of the staged games, in one order, so that two writers wait for each other in one direction only.
-- @internal step of record_game_states
SELECT
FROM catalog.events AS stored
WHERE (stored.event_ticker) IN (SELECT event_ticker FROM staged_game_states)
ORDER BY stored.event_ticker
FOR NO KEY UPDATE;

-- name: game_state_as_of(event_ticker, external_game_id, moment)^
-- The state of a game at a moment, or None when none had been observed by then.
SELECT *
FROM research.game_states
WHERE event_ticker = :event_ticker
    AND external_game_id = :external_game_id
    AND valid_from <= :moment
ORDER BY valid_from DESC
LIMIT 1;

-- name: game_states_as_of(event_tickers, external_game_ids, moments)
-- The state of a game at each moment, for many (event, game, moment) in one round trip, in the order asked.
--
-- One before the game's first state comes back with null sport: nothing was known. Never looks past the moment.
-- @pairs event_tickers, external_game_ids, moments
-- @column event_ticker not null: an element of the array that was asked
-- @column external_game_id not null: an element of the array that was asked
-- @column moment not null: an element of the array that was asked
WITH asked AS (
    SELECT position, event_ticker, external_game_id, moment
    FROM unnest(:event_tickers::text[], :external_game_ids::text[], :moments::timestamptz[])
        WITH ORDINALITY AS games (event_ticker, external_game_id, moment, position)
)
SELECT
    asked.position,
    asked.event_ticker,
    asked.external_game_id,
    asked.moment,
    version.valid_from,
    version.sport,
    version.home_team,
    version.away_team,
    version.home_score,
    version.away_score,
    version.period,
    version.time_remaining,
    version.possession,
    version.status,
    version.sport_metadata
FROM asked
LEFT JOIN LATERAL (
    SELECT *
    FROM research.game_states AS versions
    WHERE versions.event_ticker = asked.event_ticker
        AND versions.external_game_id = asked.external_game_id
        AND versions.valid_from <= asked.moment
    ORDER BY versions.valid_from DESC
    LIMIT 1
) AS version ON true
ORDER BY asked.position;

-- name: game_states_between(event_ticker, external_game_id, start_time, end_time)
-- The states of a game that were valid at some moment of [start_time, end_time), oldest first; the first may have begun before.
SELECT *
FROM research.game_states
WHERE event_ticker = :event_ticker
    AND external_game_id = :external_game_id
    AND valid_from < :end_time
    AND (valid_to > :start_time OR valid_to IS NULL)
ORDER BY valid_from;

-- name: current_game_states_of_event(event_ticker)
-- The games of an event as they are now.
SELECT *
FROM research.current_game_states
WHERE event_ticker = :event_ticker
ORDER BY external_game_id;

-- name: current_game_states_of_sport(sport)
-- The games of a sport as they are now.
SELECT *
FROM research.current_game_states
WHERE sport = :sport
ORDER BY event_ticker, external_game_id;
