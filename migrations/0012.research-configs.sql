-- What a decision rests on: strategies, probability models, probability matrices, as-of policies. They do not change.
--
-- Why: an A/B comparison and the attribution of a trade are worth nothing when the parameters behind a version moved afterwards. So name,
-- version, type and config of a strategy or model are fixed from the first moment, held by a trigger and not by good will; a change
-- is a new version. Status and metrics go on moving; the status never returns to draft and never leaves deprecated, for what was run is no
-- draft and what was retired stays so. An as-of policy says which quote a backtest may know at a moment; a run points to
-- it, so it is fixed as well.
-- Locks: creates only.
-- Undo: loses the configs; what was traded with them loses its explanation. Refused by the later tables that point here.
-- depends: 0011.chained-versions

CREATE SCHEMA research;
COMMENT ON SCHEMA research IS 'What we think: strategies and models (never changed, only versioned), probabilities, edges, states of games, analyses.';

CREATE FUNCTION research.refuse_config_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
    field text;
BEGIN
    FOREACH field IN ARRAY TG_ARGV LOOP
        IF to_jsonb(OLD) -> field IS DISTINCT FROM to_jsonb(NEW) -> field THEN
            RAISE EXCEPTION '%.%.% cannot be changed from % to %', TG_TABLE_SCHEMA, TG_TABLE_NAME, field,
                COALESCE(to_jsonb(OLD) -> field, 'null'), COALESCE(to_jsonb(NEW) -> field, 'null')
                USING
                    ERRCODE = 'restrict_violation',
                    SCHEMA = TG_TABLE_SCHEMA,
                    TABLE = TG_TABLE_NAME,
                    COLUMN = field,
                    CONSTRAINT = TG_TABLE_NAME || '_immutable_config',
                    HINT = 'What was run with it must stay explainable: insert a new version with the new value, and retire this one by its status.';
        END IF;
    END LOOP;
    RETURN NEW;
END;
$$;

COMMENT ON FUNCTION research.refuse_config_change() IS
    'Trigger of immutable configs: refuses a change of the named columns (constraint <table>_immutable_config).';

CREATE FUNCTION research.refuse_status_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
    IF OLD.status <> NEW.status AND (NEW.status = 'draft' OR OLD.status = 'deprecated') THEN
        RAISE EXCEPTION '%.%.status cannot go from % to %', TG_TABLE_SCHEMA, TG_TABLE_NAME, OLD.status, NEW.status
            USING
                ERRCODE = 'restrict_violation',
                SCHEMA = TG_TABLE_SCHEMA,
                TABLE = TG_TABLE_NAME,
                COLUMN = 'status',
                CONSTRAINT = TG_TABLE_NAME || '_lifecycle',
                DETAIL = format('The row is %s.', left(to_jsonb(OLD)::text, 500)),
                HINT = CASE
                    WHEN OLD.status = 'deprecated' THEN 'What was retired stays so: insert a new version, with the same config if it should be used again.'
                    ELSE 'What left the drafts was used: insert a new version as a draft.'
                END;
    END IF;
    RETURN NEW;
END;
$$;

COMMENT ON FUNCTION research.refuse_status_change() IS
    'Trigger of configs with a status: nothing returns to draft, nothing leaves deprecated (constraint <table>_lifecycle).';

CREATE DOMAIN research.version AS text
    CONSTRAINT version_form_check CHECK (VALUE ~ '^v?\d+\.\d+(\.\d+)?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$');
COMMENT ON DOMAIN research.version IS 'A semantic version, with or without the v: v1.0, v1.1, 2.0.3-rc1.';

CREATE FUNCTION research.version_order(version research.version) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    -- Numbers are padded so that they compare as numbers; what comes before a release ends in a character below the release's '~'.
    SELECT concat(
        lpad(part[1], greatest(20, length(part[1])), '0'), '.',
        lpad(part[2], greatest(20, length(part[2])), '0'), '.',
        lpad(COALESCE(part[3], '0'), greatest(20, length(part[3])), '0'), ' ',
        CASE
            WHEN part[4] IS NULL THEN '~'
            ELSE (
                SELECT string_agg(
                    CASE WHEN word ~ '^\d+$' THEN '0' || lpad(word, greatest(20, length(word)), '0') ELSE '1' || word END,
                    ' ' ORDER BY place
                )
                FROM string_to_table(part[4], '.') WITH ORDINALITY AS words (word, place)
            )
        END
    )
    FROM regexp_match(version, '^v?(\d+)\.(\d+)(?:\.(\d+))?(?:-([^+]*))?') AS parts (part)
);
COMMENT ON FUNCTION research.version_order(research.version) IS
    'Text that sorts (COLLATE "C") as versions do: v1.9 < v1.10, 2.0.0-rc1 < 2.0.0; what follows + does not count.';

CREATE TABLE research.strategies (
    strategy_id         bigint                  NOT NULL GENERATED ALWAYS AS IDENTITY,
    strategy_name       text                    NOT NULL,
    strategy_version    research.version        NOT NULL,
    strategy_type       text                    NOT NULL,
    sport               text,
    config              jsonb                   NOT NULL,
    description         text,
    status              text                    NOT NULL DEFAULT 'draft',
    paper_roi           numeric(12, 6),
    live_roi            numeric(12, 6),
    paper_trades_count  bigint                  NOT NULL DEFAULT 0,
    live_trades_count   bigint                  NOT NULL DEFAULT 0,
    created_at          timestamptz             NOT NULL DEFAULT statement_timestamp(),
    updated_at          timestamptz             NOT NULL DEFAULT statement_timestamp(),
    created_by          text,
    notes               text,
    CONSTRAINT strategies_pkey PRIMARY KEY (strategy_id),
    CONSTRAINT strategies_strategy_name_strategy_version_key UNIQUE (strategy_name, strategy_version),
    CONSTRAINT strategies_strategy_name_check CHECK (strategy_name ~ '^\S(.{0,98}\S)?$'),
    CONSTRAINT strategies_strategy_type_check CHECK (strategy_type IN ('entry', 'exit', 'sizing', 'hedging')),
    CONSTRAINT strategies_config_check CHECK (jsonb_typeof(config) = 'object'),
    CONSTRAINT strategies_status_check CHECK (status IN ('draft', 'testing', 'active', 'inactive', 'deprecated')),
    CONSTRAINT strategies_paper_trades_count_check CHECK (paper_trades_count >= 0),
    CONSTRAINT strategies_live_trades_count_check CHECK (live_trades_count >= 0)
);

COMMENT ON TABLE research.strategies IS 'One version of a trading strategy. Name, version, type, sport and config never change; status and metrics do.';
COMMENT ON COLUMN research.strategies.strategy_id IS 'Number of this version; what trades, edges and positions point to.';
COMMENT ON COLUMN research.strategies.strategy_name IS 'Name over all its versions: halftime_entry. 1 to 100 characters.';
COMMENT ON COLUMN research.strategies.strategy_version IS 'Version of the config: a fix makes v1.1 of v1.0, another idea v2.0.';
COMMENT ON COLUMN research.strategies.strategy_type IS 'entry, exit, sizing or hedging: what it decides.';
COMMENT ON COLUMN research.strategies.sport IS 'Sport that it is meant for (nfl, nba ...); null when for any.';
COMMENT ON COLUMN research.strategies.config IS 'Its parameters, an object. Decimals as text, so that nothing is rounded on the way.';
COMMENT ON COLUMN research.strategies.description IS 'What it does, for people.';
COMMENT ON COLUMN research.strategies.status IS 'draft, testing, active, inactive or deprecated.';
COMMENT ON COLUMN research.strategies.paper_roi IS 'Return on the money put in while paper trading, as a fraction: 0.15 = 15 %; null before the first trade.';
COMMENT ON COLUMN research.strategies.live_roi IS 'Return on the money put in while trading live, as a fraction; null before the first trade.';
COMMENT ON COLUMN research.strategies.paper_trades_count IS 'Paper trades so far.';
COMMENT ON COLUMN research.strategies.live_trades_count IS 'Live trades so far.';
COMMENT ON COLUMN research.strategies.created_at IS 'When the version was made, UTC.';
COMMENT ON COLUMN research.strategies.updated_at IS 'When status, metrics or notes last changed, UTC.';
COMMENT ON COLUMN research.strategies.created_by IS 'Who made it.';
COMMENT ON COLUMN research.strategies.notes IS 'Remarks for people.';

-- Serves research.active_strategies.
CREATE INDEX strategies_active_idx ON research.strategies (strategy_name) WHERE status = 'active';

CREATE TRIGGER strategies_immutable_config
    BEFORE UPDATE ON research.strategies
    FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change(
        'strategy_id', 'strategy_name', 'strategy_version', 'strategy_type', 'sport', 'config', 'created_at'
    );
COMMENT ON TRIGGER strategies_immutable_config ON research.strategies IS 'A version stays what it was when it was traded.';
CREATE TRIGGER strategies_lifecycle
    BEFORE UPDATE OF status ON research.strategies
    FOR EACH ROW EXECUTE FUNCTION research.refuse_status_change();
COMMENT ON TRIGGER strategies_lifecycle ON research.strategies IS 'What was used is no draft, what was retired stays so.';
CREATE TRIGGER strategies_append_only
    BEFORE DELETE ON research.strategies
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER strategies_append_only ON research.strategies IS 'A version goes only by a purge.';
CREATE TRIGGER strategies_truncate
    BEFORE TRUNCATE ON research.strategies
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER strategies_truncate ON research.strategies IS 'A version goes only by a purge.';

CREATE VIEW research.active_strategies AS
SELECT
    strategy_id, strategy_name, strategy_version, strategy_type, sport, config, description, paper_roi, live_roi,
    paper_trades_count, live_trades_count, created_at, created_by, notes
FROM research.strategies
WHERE status = 'active';

COMMENT ON VIEW research.active_strategies IS 'The strategy versions that are in use now.';
COMMENT ON COLUMN research.active_strategies.strategy_id IS 'Number of this version.';
COMMENT ON COLUMN research.active_strategies.strategy_name IS 'Name over all its versions.';
COMMENT ON COLUMN research.active_strategies.strategy_version IS 'Version of the config.';
COMMENT ON COLUMN research.active_strategies.strategy_type IS 'entry, exit, sizing or hedging.';
COMMENT ON COLUMN research.active_strategies.sport IS 'Sport that it is meant for; null when for any.';
COMMENT ON COLUMN research.active_strategies.config IS 'Its parameters, an object.';
COMMENT ON COLUMN research.active_strategies.description IS 'What it does, for people.';
COMMENT ON COLUMN research.active_strategies.paper_roi IS 'Return while paper trading, as a fraction.';
COMMENT ON COLUMN research.active_strategies.live_roi IS 'Return while trading live, as a fraction.';
COMMENT ON COLUMN research.active_strategies.paper_trades_count IS 'Paper trades so far.';
COMMENT ON COLUMN research.active_strategies.live_trades_count IS 'Live trades so far.';
COMMENT ON COLUMN research.active_strategies.created_at IS 'When the version was made, UTC.';
COMMENT ON COLUMN research.active_strategies.created_by IS 'Who made it.';
COMMENT ON COLUMN research.active_strategies.notes IS 'Remarks for people.';

CREATE TABLE research.probability_models (
    model_id                bigint                      NOT NULL GENERATED ALWAYS AS IDENTITY,
    model_name              text                        NOT NULL,
    model_version           research.version            NOT NULL,
    model_type              text                        NOT NULL,
    sport                   text,
    config                  jsonb                       NOT NULL,
    description             text,
    status                  text                        NOT NULL DEFAULT 'draft',
    validation_accuracy     market_data.probability,
    validation_calibration  market_data.probability,
    validation_sample_size  bigint,
    created_at              timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    updated_at              timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    created_by              text,
    notes                   text,
    CONSTRAINT probability_models_pkey PRIMARY KEY (model_id),
    CONSTRAINT probability_models_model_name_model_version_key UNIQUE (model_name, model_version),
    CONSTRAINT probability_models_model_name_check CHECK (model_name ~ '^\S(.{0,98}\S)?$'),
    CONSTRAINT probability_models_model_type_check CHECK (model_type IN ('elo', 'regression', 'ensemble', 'ml')),
    CONSTRAINT probability_models_config_check CHECK (jsonb_typeof(config) = 'object'),
    CONSTRAINT probability_models_status_check CHECK (status IN ('draft', 'training', 'validating', 'active', 'deprecated')),
    CONSTRAINT probability_models_validation_sample_size_check CHECK (validation_sample_size >= 0)
);

COMMENT ON TABLE research.probability_models IS 'One version of a model of probabilities. Name, version, type, sport and config never change; status and metrics do.';
COMMENT ON COLUMN research.probability_models.model_id IS 'Number of this version; what trades, edges and positions point to.';
COMMENT ON COLUMN research.probability_models.model_name IS 'Name over all its versions: elo_nfl. 1 to 100 characters.';
COMMENT ON COLUMN research.probability_models.model_version IS 'Version of the config.';
COMMENT ON COLUMN research.probability_models.model_type IS 'elo, regression, ensemble or ml.';
COMMENT ON COLUMN research.probability_models.sport IS 'Sport that it is meant for; null when for any.';
COMMENT ON COLUMN research.probability_models.config IS 'Its parameters and hyperparameters, an object. Decimals as text, so that nothing is rounded on the way.';
COMMENT ON COLUMN research.probability_models.description IS 'What it does, for people.';
COMMENT ON COLUMN research.probability_models.status IS 'draft, training, validating, active or deprecated.';
COMMENT ON COLUMN research.probability_models.validation_accuracy IS 'Share of right calls on the validation set, 0 to 1; null before validation.';
COMMENT ON COLUMN research.probability_models.validation_calibration IS 'Calibration score on the validation set, 0 to 1; null before validation.';
COMMENT ON COLUMN research.probability_models.validation_sample_size IS 'Rows of the validation set.';
COMMENT ON COLUMN research.probability_models.created_at IS 'When the version was made, UTC.';
COMMENT ON COLUMN research.probability_models.updated_at IS 'When status, metrics or notes last changed, UTC.';
COMMENT ON COLUMN research.probability_models.created_by IS 'Who made it.';
COMMENT ON COLUMN research.probability_models.notes IS 'Remarks for people.';

-- Serves research.active_models.
CREATE INDEX probability_models_active_idx ON research.probability_models (model_name) WHERE status = 'active';

CREATE TRIGGER probability_models_immutable_config
    BEFORE UPDATE ON research.probability_models
    FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change(
        'model_id', 'model_name', 'model_version', 'model_type', 'sport', 'config', 'created_at'
    );
COMMENT ON TRIGGER probability_models_immutable_config ON research.probability_models IS 'A version stays what it was when it was traded.';
CREATE TRIGGER probability_models_lifecycle
    BEFORE UPDATE OF status ON research.probability_models
    FOR EACH ROW EXECUTE FUNCTION research.refuse_status_change();
COMMENT ON TRIGGER probability_models_lifecycle ON research.probability_models IS 'What was used is no draft, what was retired stays so.';
CREATE TRIGGER probability_models_append_only
    BEFORE DELETE ON research.probability_models
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER probability_models_append_only ON research.probability_models IS 'A version goes only by a purge.';
CREATE TRIGGER probability_models_truncate
    BEFORE TRUNCATE ON research.probability_models
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER probability_models_truncate ON research.probability_models IS 'A version goes only by a purge.';

CREATE VIEW research.active_models AS
SELECT
    model_id, model_name, model_version, model_type, sport, config, description, validation_accuracy, validation_calibration,
    validation_sample_size, created_at, created_by, notes
FROM research.probability_models
WHERE status = 'active';

COMMENT ON VIEW research.active_models IS 'The model versions that are in use now.';
COMMENT ON COLUMN research.active_models.model_id IS 'Number of this version.';
COMMENT ON COLUMN research.active_models.model_name IS 'Name over all its versions.';
COMMENT ON COLUMN research.active_models.model_version IS 'Version of the config.';
COMMENT ON COLUMN research.active_models.model_type IS 'elo, regression, ensemble or ml.';
COMMENT ON COLUMN research.active_models.sport IS 'Sport that it is meant for; null when for any.';
COMMENT ON COLUMN research.active_models.config IS 'Its parameters and hyperparameters, an object.';
COMMENT ON COLUMN research.active_models.description IS 'What it does, for people.';
COMMENT ON COLUMN research.active_models.validation_accuracy IS 'Share of right calls on the validation set, 0 to 1.';
COMMENT ON COLUMN research.active_models.validation_calibration IS 'Calibration score on the validation set, 0 to 1.';
COMMENT ON COLUMN research.active_models.validation_sample_size IS 'Rows of the validation set.';
COMMENT ON COLUMN research.active_models.created_at IS 'When the version was made, UTC.';
COMMENT ON COLUMN research.active_models.created_by IS 'Who made it.';
COMMENT ON COLUMN research.active_models.notes IS 'Remarks for people.';

CREATE TABLE research.probability_matrices (
    probability_id              bigint                      NOT NULL GENERATED ALWAYS AS IDENTITY,
    category                    text                        NOT NULL,
    subcategory                 text                        NOT NULL,
    version                     research.version            NOT NULL,
    state_descriptor            text                        NOT NULL,
    value_bucket                text                        NOT NULL,
    situational_factors         jsonb,
    win_probability             market_data.probability     NOT NULL,
    confidence_interval_lower   market_data.probability,
    confidence_interval_upper   market_data.probability,
    sample_size                 bigint,
    source                      text,
    methodology                 text,
    created_at                  timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    updated_at                  timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT probability_matrices_pkey PRIMARY KEY (probability_id),
    -- Its order is the lookup's: category, subcategory, version, state, bucket.
    CONSTRAINT probability_matrices_natural_key UNIQUE NULLS NOT DISTINCT
        (category, subcategory, version, state_descriptor, value_bucket, situational_factors),
    CONSTRAINT probability_matrices_confidence_interval_check
        CHECK (confidence_interval_lower <= win_probability AND win_probability <= confidence_interval_upper),
    CONSTRAINT probability_matrices_sample_size_check CHECK (sample_size >= 0)
);

COMMENT ON TABLE research.probability_matrices IS 'How often a side won in the past from a given state: one cell of a table of probabilities.';
COMMENT ON COLUMN research.probability_matrices.probability_id IS 'Number of the cell; what edges point to.';
COMMENT ON COLUMN research.probability_matrices.category IS 'sports, politics, entertainment ...';
COMMENT ON COLUMN research.probability_matrices.subcategory IS 'nfl, nba, presidential, boxoffice ...';
COMMENT ON COLUMN research.probability_matrices.version IS 'Version of the matrix that the cell belongs to.';
COMMENT ON COLUMN research.probability_matrices.state_descriptor IS 'The state: halftime, 30_days_before, opening_weekend.';
COMMENT ON COLUMN research.probability_matrices.value_bucket IS 'The bucket within the state: 10+_points, polling_3to5_ahead.';
COMMENT ON COLUMN research.probability_matrices.situational_factors IS 'What else distinguishes the cell (home, favourite ...); null when nothing does.';
COMMENT ON COLUMN research.probability_matrices.win_probability IS 'Probability of winning, 0 to 1.';
COMMENT ON COLUMN research.probability_matrices.confidence_interval_lower IS 'Lower end of its confidence interval, 0 to 1; null when not computed.';
COMMENT ON COLUMN research.probability_matrices.confidence_interval_upper IS 'Upper end of its confidence interval, 0 to 1; null when not computed.';
COMMENT ON COLUMN research.probability_matrices.sample_size IS 'Past cases behind it.';
COMMENT ON COLUMN research.probability_matrices.source IS 'Where the past cases come from.';
COMMENT ON COLUMN research.probability_matrices.methodology IS 'How it was computed.';
COMMENT ON COLUMN research.probability_matrices.created_at IS 'When the cell was first written, UTC.';
COMMENT ON COLUMN research.probability_matrices.updated_at IS 'When it last changed, UTC.';

CREATE TABLE research.asof_policies (
    asof_policy_id          text            NOT NULL,
    name                    text            NOT NULL,
    description             text            NOT NULL,
    period_interval_minutes smallint        NOT NULL,
    quote_lag               interval        NOT NULL,
    max_age                 interval        NOT NULL,
    retrieved_within        interval,
    forecast_lag            interval        NOT NULL,
    rules                   jsonb           NOT NULL DEFAULT '{}',
    created_at              timestamptz     NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT asof_policies_pkey PRIMARY KEY (asof_policy_id),
    CONSTRAINT asof_policies_asof_policy_id_check CHECK (asof_policy_id ~ '^[a-z0-9_]{1,100}$'),
    CONSTRAINT asof_policies_period_interval_minutes_check CHECK (period_interval_minutes IN (1, 60, 1440)),
    CONSTRAINT asof_policies_quote_lag_check CHECK (quote_lag >= interval '0'),
    CONSTRAINT asof_policies_max_age_check CHECK (max_age > interval '0'),
    CONSTRAINT asof_policies_quote_lag_max_age_check CHECK (quote_lag <= max_age),
    CONSTRAINT asof_policies_retrieved_within_check CHECK (retrieved_within > interval '0'),
    CONSTRAINT asof_policies_forecast_lag_check CHECK (forecast_lag >= interval '0'),
    CONSTRAINT asof_policies_rules_check CHECK (jsonb_typeof(rules) = 'object')
);

COMMENT ON TABLE research.asof_policies IS 'What a backtest may know at the moment of a decision. Never changed: runs point here.';
COMMENT ON COLUMN research.asof_policies.asof_policy_id IS 'Short name, lower case: candle_close_1m.';
COMMENT ON COLUMN research.asof_policies.name IS 'Name for people.';
COMMENT ON COLUMN research.asof_policies.description IS 'What may be known, in a sentence.';
COMMENT ON COLUMN research.asof_policies.period_interval_minutes IS 'Length of the candlesticks that quotes are taken from: 1, 60 or 1440 minutes.';
COMMENT ON COLUMN research.asof_policies.quote_lag IS 'How long after the end of its period, or after its observation, a quote counts as known.';
COMMENT ON COLUMN research.asof_policies.max_age IS 'A quote that is older than this at the decision counts as no quote.';
COMMENT ON COLUMN research.asof_policies.retrieved_within IS 'A quote counts only if it reached us within this time after the end of its period, or after its observation, so that what was revised later stays out; null: whenever it reached us, so that imported history counts.';
COMMENT ON COLUMN research.asof_policies.forecast_lag IS 'How long after its publication a forecast counts as known.';
COMMENT ON COLUMN research.asof_policies.rules IS 'What else a strategy must respect, an object; empty when nothing.';
COMMENT ON COLUMN research.asof_policies.created_at IS 'When it was written, UTC.';

CREATE TRIGGER asof_policies_immutable_config
    BEFORE UPDATE ON research.asof_policies
    FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change(
        'asof_policy_id', 'period_interval_minutes', 'quote_lag', 'max_age', 'retrieved_within', 'forecast_lag', 'rules', 'created_at'
    );
COMMENT ON TRIGGER asof_policies_immutable_config ON research.asof_policies IS 'What past runs were allowed to know does not change.';
CREATE TRIGGER asof_policies_append_only
    BEFORE DELETE ON research.asof_policies
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER asof_policies_append_only ON research.asof_policies IS 'A policy goes only by a purge.';
CREATE TRIGGER asof_policies_truncate
    BEFORE TRUNCATE ON research.asof_policies
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER asof_policies_truncate ON research.asof_policies IS 'A policy goes only by a purge.';

INSERT INTO research.asof_policies (
    asof_policy_id, name, description, period_interval_minutes, quote_lag, max_age, forecast_lag
) VALUES
    (
        'candle_close_1m', 'Close of the last minute',
        'The close of the last one-minute candlestick that ended at or before the decision, if it is not older than an hour.',
        1, interval '0', interval '1 hour', interval '0'
    ),
    (
        'candle_close_1m_lag_1m', 'Close of the last minute, a minute late',
        'The close of the last one-minute candlestick that ended at least a minute before the decision: what a poller could have acted on.',
        1, interval '1 minute', interval '1 hour', interval '1 minute'
    ),
    (
        'candle_close_60m', 'Close of the last hour',
        'The close of the last hourly candlestick that ended at or before the decision, if it is not older than a day.',
        60, interval '0', interval '1 day', interval '0'
    );

-- A policy that is misspelt must not read as: nothing was known. Days become 24 hours each, whatever the session's time zone does.
CREATE FUNCTION research.asof_policy(asof_policy_id text) RETURNS research.asof_policies
LANGUAGE plpgsql STABLE
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
    policy research.asof_policies;
BEGIN
    SELECT * INTO policy FROM research.asof_policies AS stored WHERE stored.asof_policy_id = asof_policy.asof_policy_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no as-of policy %', COALESCE(quote_literal(asof_policy.asof_policy_id), 'null')
            USING
                ERRCODE = 'no_data_found',
                SCHEMA = 'research',
                TABLE = 'asof_policies',
                HINT = 'There are ' || (SELECT string_agg(stored.asof_policy_id, ', ' ORDER BY 1) FROM research.asof_policies AS stored)
                    || '; research.insert_asof_policy adds another.';
    END IF;
    policy.quote_lag := make_interval(secs => extract(epoch FROM policy.quote_lag)::double precision);
    policy.max_age := make_interval(secs => extract(epoch FROM policy.max_age)::double precision);
    policy.retrieved_within := make_interval(secs => extract(epoch FROM policy.retrieved_within)::double precision);
    policy.forecast_lag := make_interval(secs => extract(epoch FROM policy.forecast_lag)::double precision);
    RETURN policy;
END;
$$;

COMMENT ON FUNCTION research.asof_policy(text) IS
    'An as-of policy by its id, its times as exact seconds; an unknown id is an error that names those that there are.';
