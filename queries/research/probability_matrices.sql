-- Tables of probabilities: how often a side won in the past from a given state.

-- name: upsert_probability_matrices()^
-- Writes cells of matrices; a cell that is stored is changed where it differs. Of a cell that occurs twice in the input the last wins.
-- @bulk staged_matrices like research.probability_matrices without probability_id, created_at, updated_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (category, subcategory, version, state_descriptor, value_bucket, situational_factors) *
    FROM staged_matrices
    ORDER BY category, subcategory, version, state_descriptor, value_bucket, situational_factors, staged_position DESC
),
written AS (
    INSERT INTO research.probability_matrices AS stored (
        category, subcategory, version, state_descriptor, value_bucket, situational_factors, win_probability,
        confidence_interval_lower, confidence_interval_upper, sample_size, source, methodology, created_at, updated_at
    )
    SELECT
        category, subcategory, version, state_descriptor, value_bucket, situational_factors, win_probability,
        confidence_interval_lower, confidence_interval_upper, sample_size, source, methodology, statement_timestamp(),
        statement_timestamp()
    FROM newest
    ORDER BY category, subcategory, version, state_descriptor, value_bucket, situational_factors
    ON CONFLICT (category, subcategory, version, state_descriptor, value_bucket, situational_factors) DO UPDATE SET
        win_probability = EXCLUDED.win_probability,
        confidence_interval_lower = EXCLUDED.confidence_interval_lower,
        confidence_interval_upper = EXCLUDED.confidence_interval_upper,
        sample_size = EXCLUDED.sample_size,
        source = EXCLUDED.source,
        methodology = EXCLUDED.methodology,
        updated_at = EXCLUDED.updated_at
    WHERE (
        stored.win_probability, stored.confidence_interval_lower, stored.confidence_interval_upper, stored.sample_size, stored.source,
        stored.methodology
    ) IS DISTINCT FROM (
        EXCLUDED.win_probability, EXCLUDED.confidence_interval_lower, EXCLUDED.confidence_interval_upper, EXCLUDED.sample_size,
        EXCLUDED.source, EXCLUDED.methodology
    )
    RETURNING created_at = statement_timestamp() AS is_inserted
)
SELECT
    count(*) FILTER (WHERE is_inserted) AS inserted,
    count(*) FILTER (WHERE NOT is_inserted) AS updated
FROM written;

-- name: probability_cells(category, subcategory, version, state_descriptor, value_bucket)
-- The cells of one state and bucket: one for each set of situational factors, the one without any first.
SELECT *
FROM research.probability_matrices
WHERE category = :category
    AND subcategory = :subcategory
    AND version = :version
    AND state_descriptor = :state_descriptor
    AND value_bucket = :value_bucket
ORDER BY situational_factors NULLS FIRST;

-- name: probability_cell(category, subcategory, version, state_descriptor, value_bucket, situational_factors)^
-- The cell that holds for a situation, or None when nothing is known of the state and bucket.
--
-- Of the cells whose factors the situation has, all of them, the one with the most; the cell without factors holds for every situation.
SELECT *
FROM research.probability_matrices
WHERE category = :category
    AND subcategory = :subcategory
    AND version = :version
    AND state_descriptor = :state_descriptor
    AND value_bucket = :value_bucket
    AND (situational_factors IS NULL OR situational_factors <@ :situational_factors::jsonb)
ORDER BY (SELECT count(*) FROM jsonb_object_keys(situational_factors)) DESC, situational_factors
LIMIT 1;

-- name: probability_matrix(category, subcategory, version)
-- Every cell of one matrix, by state and bucket.
SELECT *
FROM research.probability_matrices
WHERE category = :category
    AND subcategory = :subcategory
    AND version = :version
ORDER BY state_descriptor, value_bucket, situational_factors NULLS FIRST;
