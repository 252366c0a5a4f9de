-- Edges: what a strategy, a model and a matrix believed of a market against its price, and how that changed (SCD type 2).
--
-- The three together with the market are the key of an edge; each may be missing. What counts as a change: expected_value,
-- true_win_probability, market_implied_probability, market_price, confidence_level, confidence_metrics, recommended_action.

-- name: record_edge(market_ticker, strategy_id, model_id, probability_matrix_id, observed_at, expected_value, true_win_probability, market_implied_probability, market_price, confidence_level, confidence_metrics, recommended_action)$
-- Files what was believed of a market at a moment; expected_value is dollars a contract, probabilities and price are 0 to 1.
--
-- Answers `written` (it is current now), `unchanged` (it was so then already) or `filed` (it belongs before a later version, whose
-- beginning moves when it is the same state). Another state at the same moment is refused: UniqueViolation.
-- A market that is unknown is refused: ForeignKeyViolation.
-- @param strategy_id nullable: no strategy looked for it
-- @param model_id nullable: no model is behind it
-- @param probability_matrix_id nullable: no matrix is behind it
-- @param confidence_level nullable: not judged
-- @param confidence_metrics nullable: nothing to say
-- @param recommended_action nullable: none is recommended
-- @column outcome not null: the function answers with a word, or fails
SELECT research.record_edge(
    :market_ticker::catalog.ticker, :strategy_id::bigint, :model_id::bigint, :probability_matrix_id::bigint,
    :observed_at::timestamptz, :expected_value::numeric(18, 6), :true_win_probability::market_data.probability,
    :market_implied_probability::market_data.probability, :market_price::market_data.price, :confidence_level::text,
    :confidence_metrics::jsonb, :recommended_action::text
) AS outcome;

-- name: record_edges()^
-- Files many, valid_from being the moment of each; several of one edge in any order.
--
-- Each observation answers for its moment afterwards, and every version that was stored still begins where it did, or earlier. Of the
-- result, `filed` (part of `written`) belong before a later version that was stored; `conflicting` are contradicted by a state that
-- was recorded for the same moment first, and are left out.
-- @bulk staged_edges like research.edges without edge_id, valid_to, created_at
-- @one
-- @before settle_edges
-- @before hold_markets_of_edges
WITH observed AS (
    SELECT
        staged_position,
        market_ticker,
        ARRAY[COALESCE(strategy_id, 0), COALESCE(model_id, 0), COALESCE(probability_matrix_id, 0)] AS source_key,
        valid_from,
        ROW(
            expected_value, true_win_probability, market_implied_probability, market_price, confidence_level, confidence_metrics,
            recommended_action
        )::record AS state
    FROM staged_edges
),
spans AS (
    SELECT market_ticker, source_key, min(valid_from) AS first_at, max(valid_from) AS last_at
    FROM observed
    GROUP BY market_ticker, source_key
),
stored AS (
    -- From the version before the first observation to the one after the last. OFFSET 0 keeps it a look into the index for each key.
    SELECT known.*
    FROM spans
    CROSS JOIN LATERAL (
        SELECT
            version.market_ticker,
            version.source_key,
            version.valid_from,
            version.valid_to,
            -- Staged values have no domains, and records compare only where their types are the same.
            ROW(
                version.expected_value, version.true_win_probability::numeric, version.market_implied_probability::numeric,
                version.market_price::numeric, version.confidence_level, version.confidence_metrics,
                version.recommended_action
            )::record AS state
        FROM research.edges AS version
        WHERE version.market_ticker = spans.market_ticker
            AND version.source_key = spans.source_key
            AND version.valid_from >= COALESCE(
                (
                    SELECT earlier.valid_from
                    FROM research.edges AS earlier
                    WHERE earlier.market_ticker = spans.market_ticker
                        AND earlier.source_key = spans.source_key
                        AND earlier.valid_from <= spans.first_at
                    ORDER BY earlier.valid_from DESC
                    LIMIT 1
                ),
                spans.first_at
            )
            AND version.valid_from <= COALESCE(
                (
                    SELECT later.valid_from
                    FROM research.edges AS later
                    WHERE later.market_ticker = spans.market_ticker
                        AND later.source_key = spans.source_key
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
        AND stored.source_key = observed.source_key
        AND stored.valid_from = observed.valid_from
    WINDOW moment AS (PARTITION BY observed.market_ticker, observed.source_key, observed.valid_from ORDER BY observed.staged_position)
),
points AS (
    -- Every moment at which a state is known to have been seen, with that state.
    SELECT market_ticker, source_key, valid_from AS seen_at, valid_from AS stored_from, valid_to AS stored_to, NULL AS staged_position, state
    FROM stored
    UNION ALL
    SELECT market_ticker, source_key, valid_from, NULL, NULL, staged_position, state
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
    WINDOW chronicle AS (PARTITION BY market_ticker, source_key ORDER BY seen_at)
),
numbered AS (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY market_ticker, source_key ORDER BY seen_at) AS number
    FROM compared
),
versions AS (
    -- One state from its first sight on. A stored one keeps its row, and at most one is stored: between two there was a change.
    SELECT
        market_ticker, source_key,
        number,
        min(seen_at) AS valid_from,
        max(stored_from) AS stored_from,
        max(stored_to) AS stored_to,
        min(staged_position) AS staged_position
    FROM numbered
    GROUP BY market_ticker, source_key, number
),
chain AS (
    -- The last one ends where its row ended. If it has none it is the newest of all, for what is stored after it would be in the chain.
    SELECT
        market_ticker, source_key,
        valid_from,
        COALESCE(lead(valid_from) OVER chronicle, stored_to) AS valid_to,
        stored_from,
        stored_to,
        staged_position,
        valid_from IS DISTINCT FROM stored_from AS is_changed,
        valid_from < max(stored_from) OVER (PARTITION BY market_ticker, source_key) AS is_past
    FROM versions
    WINDOW chronicle AS (PARTITION BY market_ticker, source_key ORDER BY number)
),
moved AS (
    UPDATE research.edges AS stored
    SET valid_from = chain.valid_from, valid_to = chain.valid_to
    FROM chain
    WHERE stored.market_ticker = chain.market_ticker
        AND stored.source_key = chain.source_key
        AND stored.valid_from = chain.stored_from
        AND (chain.stored_from, chain.stored_to) IS DISTINCT FROM (chain.valid_from, chain.valid_to)
    RETURNING stored.market_ticker
),
inserted AS (
    -- In one statement with the update, at whose end the chain is whole again; counting makes it wait for the room that is made.
    INSERT INTO research.edges (
        market_ticker, strategy_id, model_id, probability_matrix_id, valid_from, valid_to, expected_value, true_win_probability,
        market_implied_probability, market_price, confidence_level, confidence_metrics, recommended_action, created_at
    )
    SELECT
        chain.market_ticker, staged.strategy_id, staged.model_id, staged.probability_matrix_id, chain.valid_from, chain.valid_to,
        staged.expected_value, staged.true_win_probability, staged.market_implied_probability, staged.market_price,
        staged.confidence_level, staged.confidence_metrics, staged.recommended_action, statement_timestamp()
    FROM chain
    JOIN staged_edges AS staged USING (staged_position)
    WHERE chain.stored_from IS NULL
        AND (SELECT count(*) FROM moved) >= 0
)
SELECT
    count(*) FILTER (WHERE is_changed) AS written,
    count(*) FILTER (WHERE is_changed AND is_past) AS filed,
    (SELECT count(*) FROM weighed WHERE is_contradicted) AS conflicting
FROM chain;

-- name: settle_edges()!
-- Takes out of the staged rows the keys of which every observation equals the version of its moment, without a lock.
-- @internal step of record_edges
WITH confirmed AS (
    SELECT
        staged.market_ticker, ARRAY[COALESCE(staged.strategy_id, 0), COALESCE(staged.model_id, 0), COALESCE(staged.probability_matrix_id, 0)] AS source_key,
        COALESCE(known.is_same, false) AS is_same
    FROM staged_edges AS staged
    LEFT JOIN LATERAL (
        SELECT
            (
                version.expected_value, version.true_win_probability, version.market_implied_probability, version.market_price,
                version.confidence_level, version.confidence_metrics, version.recommended_action
            ) IS NOT DISTINCT FROM (
                staged.expected_value, staged.true_win_probability, staged.market_implied_probability, staged.market_price,
                staged.confidence_level, staged.confidence_metrics, staged.recommended_action
            ) AS is_same
        FROM research.edges AS version
        WHERE version.market_ticker = staged.market_ticker
            AND version.source_key = ARRAY[COALESCE(staged.strategy_id, 0), COALESCE(staged.model_id, 0), COALESCE(staged.probability_matrix_id, 0)]
            AND version.valid_from <= staged.valid_from
        ORDER BY version.valid_from DESC
        LIMIT 1
    ) AS known ON true
)
DELETE FROM staged_edges AS staged
WHERE (staged.market_ticker, ARRAY[COALESCE(staged.strategy_id, 0), COALESCE(staged.model_id, 0), COALESCE(staged.probability_matrix_id, 0)]) IN (
    SELECT market_ticker, source_key FROM confirmed GROUP BY market_ticker, source_key HAVING bool_and(is_same)
);

-- name: hold_markets_of_edges()!
-- Locks the markets of the staged edges, in one order, so that two writers wait for each other in one direction only.
-- @internal step of record_edges
SELECT
FROM catalog.markets AS stored
WHERE (stored.market_ticker) IN (SELECT market_ticker FROM staged_edges)
ORDER BY stored.market_ticker
FOR NO KEY UPDATE;

-- name: edge_as_of(market_ticker, strategy_id, model_id, probability_matrix_id, moment)^
-- The version of one edge that was valid at a moment, or None when nothing had been computed by then.
-- @param strategy_id nullable: no strategy looked for it
-- @param model_id nullable: no model is behind it
-- @param probability_matrix_id nullable: no matrix is behind it
SELECT *
FROM research.edges
WHERE market_ticker = :market_ticker
    AND source_key = ARRAY[COALESCE(:strategy_id::bigint, 0), COALESCE(:model_id::bigint, 0), COALESCE(:probability_matrix_id::bigint, 0)]
    AND valid_from <= :moment
ORDER BY valid_from DESC
LIMIT 1;

-- name: edges_as_of(market_tickers, moments)
-- What was believed at each moment, for many (market, moment) pairs in one round trip: each edge of the market with the version that was
-- valid then. Never looks past the moment; a pair without an edge is left out.
-- @pairs market_tickers, moments
SELECT
    asked.position,
    asked.moment,
    version.edge_id,
    version.market_ticker,
    version.strategy_id,
    version.model_id,
    version.probability_matrix_id,
    version.valid_from,
    version.expected_value,
    version.true_win_probability,
    version.market_implied_probability,
    version.market_price,
    version.confidence_level,
    version.recommended_action
FROM unnest(:market_tickers::text[], :moments::timestamptz[]) WITH ORDINALITY AS asked (market_ticker, moment, position)
JOIN research.edges AS version
    ON version.market_ticker = asked.market_ticker
    AND version.valid_from <= asked.moment
    AND (version.valid_to > asked.moment OR version.valid_to IS NULL)
ORDER BY asked.position, version.source_key;

-- name: edge_versions(market_ticker, strategy_id, model_id, probability_matrix_id, start_time, end_time)
-- The versions of one edge that were valid at some moment of [start_time, end_time), oldest first; the first may have begun before.
-- @param strategy_id nullable: no strategy looked for it
-- @param model_id nullable: no model is behind it
-- @param probability_matrix_id nullable: no matrix is behind it
SELECT *
FROM research.edges
WHERE market_ticker = :market_ticker
    AND source_key = ARRAY[COALESCE(:strategy_id::bigint, 0), COALESCE(:model_id::bigint, 0), COALESCE(:probability_matrix_id::bigint, 0)]
    AND valid_from < :end_time
    AND (valid_to > :start_time OR valid_to IS NULL)
ORDER BY valid_from;

-- name: current_edges_of_market(market_ticker)
-- What is believed of a market now, the best edge first.
SELECT *
FROM research.current_edges
WHERE market_ticker = :market_ticker
ORDER BY expected_value DESC, edge_id;

-- name: active_edges(min_expected_value, confidence_levels)
-- The current edges that promise at least so many dollars a contract, of the given confidence levels (high, medium, low), best first, each
-- with what its market is now.
SELECT
    edges.*,
    markets.title,
    markets.status AS market_status,
    markets.close_time,
    markets.yes_bid,
    markets.yes_ask,
    markets.last_price
FROM research.current_edges AS edges
JOIN catalog.current_markets AS markets ON markets.market_ticker = edges.market_ticker
WHERE edges.expected_value >= :min_expected_value::numeric(18, 6)
    AND edges.confidence_level = ANY (:confidence_levels::text[])
ORDER BY edges.expected_value DESC, edges.edge_id;
