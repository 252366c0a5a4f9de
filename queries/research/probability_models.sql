-- Versions of probability models: registered once, never changed, retired by their status.

-- name: register_model(model_name, model_version, model_type, sport, config, status, description, created_by, notes)^
-- Registers a version of a model, and returns it with its model_id. The same version again returns what is stored.
--
-- Type, sport and config are compared: others under the same name and version are refused (constraint
-- probability_models_immutable_config), and the error says to make a new version. Status, description and notes of a version that is
-- stored stay as they are. Decimals in config as text or Decimal; a float would be rounded.
-- @one
-- @param sport nullable: a model may be for any sport
-- @param description nullable: not everybody describes it
-- @param created_by nullable: not everybody signs
-- @param notes nullable: there may be nothing to remark
INSERT INTO research.probability_models AS stored (
    model_name, model_version, model_type, sport, config, status, description, created_by, notes
)
VALUES (
    :model_name, :model_version, :model_type, :sport, :config, :status, :description, :created_by, :notes
)
-- Sets what is stored already, or is refused by the trigger; and so returns the row also where another session has just written it.
ON CONFLICT (model_name, model_version) DO UPDATE SET
    model_type = EXCLUDED.model_type,
    sport = EXCLUDED.sport,
    config = EXCLUDED.config
RETURNING *;

-- name: model_by_version(model_name, model_version)^
-- One version of a model, or None when it was never registered.
SELECT *
FROM research.probability_models
WHERE model_name = :model_name AND model_version = :model_version;

-- name: model_by_id(model_id)^
-- The model version that a trade, edge or position points to.
SELECT *
FROM research.probability_models
WHERE model_id = :model_id;

-- name: model_versions(model_name)
-- Every version of a model, newest first as versions count: v1.10 before v1.9, 2.0.0 before 2.0.0-rc1.
SELECT *
FROM research.probability_models
WHERE model_name = :model_name
ORDER BY research.version_order(model_version) COLLATE "C" DESC, model_version DESC;

-- name: active_models()
-- The model versions that are in use, by name, of one name the newest first.
SELECT *
FROM research.active_models
ORDER BY model_name, research.version_order(model_version) COLLATE "C" DESC, model_version DESC;

-- name: set_model_status(model_id, status)^
-- Moves a version through its life (draft, training, validating, active, deprecated); returns it, or None when there is none such.
--
-- Back to draft and away from deprecated are refused (constraint probability_models_lifecycle). updated_at moves only when the status
-- does.
UPDATE research.probability_models
SET
    status = :status,
    updated_at = CASE WHEN status = :status THEN updated_at ELSE statement_timestamp() END
WHERE model_id = :model_id
RETURNING *;

-- name: set_model_validation(model_id, validation_accuracy, validation_calibration, validation_sample_size)^
-- Sets what validation came to, None leaves a value as it is; returns the version, or None when there is none such.
--
-- Accuracy and calibration are 0 to 1. updated_at moves only when a value does.
-- @param validation_accuracy nullable: None leaves it
-- @param validation_calibration nullable: None leaves it
-- @param validation_sample_size nullable: None leaves it
UPDATE research.probability_models
SET
    validation_accuracy = COALESCE(:validation_accuracy, validation_accuracy),
    validation_calibration = COALESCE(:validation_calibration, validation_calibration),
    validation_sample_size = COALESCE(:validation_sample_size, validation_sample_size),
    updated_at = CASE
        WHEN (validation_accuracy, validation_calibration, validation_sample_size) IS NOT DISTINCT FROM (
            COALESCE(:validation_accuracy, validation_accuracy), COALESCE(:validation_calibration, validation_calibration),
            COALESCE(:validation_sample_size, validation_sample_size)
        ) THEN updated_at
        ELSE statement_timestamp()
    END
WHERE model_id = :model_id
RETURNING *;

-- name: compare_model_versions(model_name)
-- The versions of a model side by side, newest first, apart for each environment that one traded in.
--
-- trades are the fills that point to the version, closed_positions and pnl_after_fees (dollars) its positions that are closed or
-- settled. settled_edges counts the edges behind those fills whose market settled yes or no, each edge once; over them accuracy is the
-- share where true_win_probability (of YES) was on the right side of one half (exactly one half is wrong), and brier_score the mean
-- square of its error: 0 is perfect, 0.25 is a coin. market_brier_score is the same of market_implied_probability: a model that is not
-- below it knows less than the price. What cannot be known is null. A version that never traded has one row without environment.
WITH versions AS (
    SELECT *
    FROM research.probability_models
    WHERE model_name = :model_name
),
fills AS (
    SELECT trades.model_id, trades.environment, count(*) AS trades
    FROM versions
    JOIN trading.trades ON trades.model_id = versions.model_id
    GROUP BY trades.model_id, trades.environment
),
results AS (
    SELECT
        positions.model_id,
        positions.environment,
        count(*) AS closed_positions,
        CASE
            WHEN bool_and(version.realized_pnl IS NOT NULL AND version.fees IS NOT NULL)
                THEN sum(version.realized_pnl - version.fees)
        END AS pnl_after_fees
    FROM versions
    JOIN trading.positions ON positions.model_id = versions.model_id
    JOIN trading.position_versions AS version
        ON version.environment = positions.environment
        AND version.position_id = positions.position_id
        AND version.valid_to IS NULL
        AND version.status <> 'open'
    GROUP BY positions.model_id, positions.environment
),
predictions AS (
    SELECT DISTINCT
        trades.model_id,
        trades.environment,
        trades.edge_id,
        edges.true_win_probability,
        edges.market_implied_probability,
        CASE settlement.outcome WHEN 'yes' THEN 1 ELSE 0 END AS outcome
    FROM versions
    JOIN trading.trades ON trades.model_id = versions.model_id
    JOIN research.edges ON edges.edge_id = trades.edge_id
    CROSS JOIN LATERAL (
        SELECT outcome
        FROM catalog.settlements
        WHERE settlements.market_ticker = edges.market_ticker
        ORDER BY settled_at DESC
        LIMIT 1
    ) AS settlement
    WHERE settlement.outcome IN ('yes', 'no')
),
scores AS (
    SELECT
        model_id,
        environment,
        count(*) AS settled_edges,
        avg(CASE WHEN abs(true_win_probability - outcome) < 0.5 THEN 1 ELSE 0 END) AS accuracy,
        avg((true_win_probability - outcome) ^ 2) AS brier_score,
        avg((market_implied_probability - outcome) ^ 2) AS market_brier_score
    FROM predictions
    GROUP BY model_id, environment
),
traded AS (
    SELECT model_id, environment FROM fills
    UNION
    SELECT model_id, environment FROM results
)
SELECT
    versions.model_id,
    versions.model_name,
    versions.model_version,
    versions.status,
    versions.config,
    versions.validation_accuracy,
    versions.validation_calibration,
    versions.validation_sample_size,
    traded.environment,
    COALESCE(fills.trades, 0) AS trades,
    COALESCE(results.closed_positions, 0) AS closed_positions,
    results.pnl_after_fees::numeric(24, 6) AS pnl_after_fees,
    COALESCE(scores.settled_edges, 0) AS settled_edges,
    scores.accuracy::numeric(7, 6) AS accuracy,
    scores.brier_score::numeric(7, 6) AS brier_score,
    scores.market_brier_score::numeric(7, 6) AS market_brier_score
FROM versions
LEFT JOIN traded ON traded.model_id = versions.model_id
LEFT JOIN fills ON fills.model_id = traded.model_id AND fills.environment = traded.environment
LEFT JOIN results ON results.model_id = traded.model_id AND results.environment = traded.environment
LEFT JOIN scores ON scores.model_id = traded.model_id AND scores.environment = traded.environment
ORDER BY research.version_order(versions.model_version) COLLATE "C" DESC, versions.model_version DESC, traded.environment;
