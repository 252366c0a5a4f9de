-- How the store and the trading on it are kept running: overrides, breakers, health, costs, retention, and views to look at it all.
--
-- Why: what runs unattended must leave a trace that can be asked. An override of a setting has a reason, an author and an end; a
-- breaker that is open cannot be opened twice; health is a series of checks and not one word that is overwritten; how long each kind of
-- data is kept is a row and not folklore.
-- Locks: creates only; the indexes on market_data.orderbook_snapshots and research.market_analyses hold off their writers while they are
-- built.
-- Undo: loses the traces and the policies.
-- depends: 0016.backtests

CREATE TABLE ops.config_overrides (
    override_id     bigint          NOT NULL GENERATED ALWAYS AS IDENTITY,
    config_key      text            NOT NULL,
    override_value  jsonb           NOT NULL,
    data_type       text            NOT NULL,
    reason          text            NOT NULL,
    applied_by      text            NOT NULL,
    applied_at      timestamptz     NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz,
    ended_at        timestamptz,
    active          boolean         NOT NULL GENERATED ALWAYS AS (ended_at IS NULL) STORED,
    CONSTRAINT config_overrides_pkey PRIMARY KEY (override_id),
    CONSTRAINT config_overrides_config_key_check CHECK (config_key ~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$'),
    CONSTRAINT config_overrides_data_type_check CHECK (data_type IN ('float', 'int', 'bool', 'string', 'json')),
    CONSTRAINT config_overrides_override_value_check CHECK (
        CASE data_type
            WHEN 'bool' THEN jsonb_typeof(override_value) = 'boolean'
            WHEN 'string' THEN jsonb_typeof(override_value) = 'string'
            WHEN 'int' THEN jsonb_typeof(override_value) = 'number' AND override_value::text !~ '[.eE]'
            WHEN 'float' THEN jsonb_typeof(override_value) = 'number'
            ELSE true
        END
    ),
    CONSTRAINT config_overrides_expires_at_check CHECK (expires_at > applied_at),
    CONSTRAINT config_overrides_ended_at_check CHECK (ended_at >= applied_at)
);

COMMENT ON TABLE ops.config_overrides IS 'A setting that was changed while running. At any moment at most one of a key counts: applied, not ended and not expired.';
COMMENT ON COLUMN ops.config_overrides.override_id IS 'Number of the override.';
COMMENT ON COLUMN ops.config_overrides.config_key IS 'The setting, words joined by dots: trading.sports_live.execution.max_spread.';
COMMENT ON COLUMN ops.config_overrides.override_value IS 'The value, of the kind that data_type says; the bare value, not wrapped in an object.';
COMMENT ON COLUMN ops.config_overrides.data_type IS 'float, int, bool, string or json.';
COMMENT ON COLUMN ops.config_overrides.reason IS 'Why it was overridden.';
COMMENT ON COLUMN ops.config_overrides.applied_by IS 'Who or what did it.';
COMMENT ON COLUMN ops.config_overrides.applied_at IS 'Since when it counts, UTC; the server''s clock while the key was held, so that two overrides of a key have an order.';
COMMENT ON COLUMN ops.config_overrides.expires_at IS 'Until when it counts, UTC, exclusive; null = until it is replaced or taken back.';
COMMENT ON COLUMN ops.config_overrides.ended_at IS 'When another replaced it or it was taken back, UTC, exclusive; null while neither happened, also after it expired.';
COMMENT ON COLUMN ops.config_overrides.active IS 'False once it was taken back or replaced; derived from ended_at. An active one may have expired: nobody needs to clean up.';

-- Serves the rule of one active override a key, and ops.take_back_config.
CREATE UNIQUE INDEX config_overrides_config_key_active_key ON ops.config_overrides (config_key) WHERE ended_at IS NULL;
-- Serves ops.config_override, ops.config_override_history.
CREATE INDEX config_overrides_config_key_applied_at_idx ON ops.config_overrides (config_key, applied_at);

CREATE FUNCTION ops.replace_config_override() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
    -- Whoever sets the same key waits here, and what follows looks again afterwards: no statement by itself could, its view of the
    -- table is older than the wait.
    PERFORM pg_advisory_xact_lock(hashtextextended('kalshidb config ' || NEW.config_key, 0));
    NEW.applied_at := clock_timestamp();
    UPDATE ops.config_overrides
    SET ended_at = GREATEST(NEW.applied_at, applied_at)
    WHERE config_key = NEW.config_key AND ended_at IS NULL;
    RETURN NEW;
END;
$$;

COMMENT ON FUNCTION ops.replace_config_override() IS
    'Trigger of ops.config_overrides: a new override ends the active one of its key, one writer of a key after the other.';

CREATE TRIGGER config_overrides_replace
    BEFORE INSERT ON ops.config_overrides
    FOR EACH ROW WHEN (NEW.ended_at IS NULL) EXECUTE FUNCTION ops.replace_config_override();
COMMENT ON TRIGGER config_overrides_replace ON ops.config_overrides IS
    'A new override replaces the active one; one that comes with its end (a record of the past) leaves it alone.';

CREATE TABLE ops.circuit_breaker_events (
    event_id            bigint          NOT NULL GENERATED ALWAYS AS IDENTITY,
    breaker_type        text            NOT NULL,
    triggered_at        timestamptz     NOT NULL DEFAULT statement_timestamp(),
    resolved_at         timestamptz,
    trigger_value       jsonb,
    trip_count          integer         NOT NULL DEFAULT 1,
    resolution_action   text,
    notes               text,
    CONSTRAINT circuit_breaker_events_pkey PRIMARY KEY (event_id),
    CONSTRAINT circuit_breaker_events_breaker_type_check
        CHECK (breaker_type IN ('daily_loss_limit', 'api_failures', 'data_stale', 'position_limit', 'manual')),
    CONSTRAINT circuit_breaker_events_trip_count_check CHECK (trip_count >= 1),
    CONSTRAINT circuit_breaker_events_resolved_at_check CHECK (resolved_at >= triggered_at),
    CONSTRAINT circuit_breaker_events_resolution_action_check CHECK ((resolved_at IS NULL) = (resolution_action IS NULL))
);

COMMENT ON TABLE ops.circuit_breaker_events IS 'A breaker that opened, and how it was closed again. While one is open, tripping it again only counts.';
COMMENT ON COLUMN ops.circuit_breaker_events.event_id IS 'Number of the event.';
COMMENT ON COLUMN ops.circuit_breaker_events.breaker_type IS 'daily_loss_limit, api_failures, data_stale, position_limit or manual.';
COMMENT ON COLUMN ops.circuit_breaker_events.triggered_at IS 'When it opened, UTC.';
COMMENT ON COLUMN ops.circuit_breaker_events.resolved_at IS 'When it was closed, UTC; null while open.';
COMMENT ON COLUMN ops.circuit_breaker_events.trigger_value IS 'What opened it: the measure and its limit.';
COMMENT ON COLUMN ops.circuit_breaker_events.trip_count IS 'How often it was tripped before it was closed; 1 = only when it opened.';
COMMENT ON COLUMN ops.circuit_breaker_events.resolution_action IS 'How it was closed; null while open.';
COMMENT ON COLUMN ops.circuit_breaker_events.notes IS 'Remarks for people.';

-- Serves the rule of one open event a breaker, and ops.open_breakers, ops.resolve_breaker, ops.breaker_is_open.
CREATE UNIQUE INDEX circuit_breaker_events_open_key ON ops.circuit_breaker_events (breaker_type) WHERE resolved_at IS NULL;
-- Serves ops.breaker_events_between.
CREATE INDEX circuit_breaker_events_triggered_at_idx ON ops.circuit_breaker_events (triggered_at);

CREATE TABLE ops.system_health (
    component   text            NOT NULL,
    last_check  timestamptz     NOT NULL DEFAULT clock_timestamp(),
    status      text            NOT NULL,
    details     jsonb,
    alert_sent  boolean         NOT NULL DEFAULT false,
    CONSTRAINT system_health_pkey PRIMARY KEY (component, last_check),
    CONSTRAINT system_health_component_check CHECK (component <> ''),
    CONSTRAINT system_health_status_check CHECK (status IN ('healthy', 'degraded', 'down'))
);

COMMENT ON TABLE ops.system_health IS 'One look at one component; the last one is how it is now.';
COMMENT ON COLUMN ops.system_health.component IS 'What was looked at: kalshi_api, database, collector, edge_detector.';
COMMENT ON COLUMN ops.system_health.last_check IS 'When, UTC.';
COMMENT ON COLUMN ops.system_health.status IS 'healthy, degraded or down.';
COMMENT ON COLUMN ops.system_health.details IS 'Measures and error messages.';
COMMENT ON COLUMN ops.system_health.alert_sent IS 'Whether somebody was told.';

-- Serves ops.unhealthy_between, ops.alerts_due.
CREATE INDEX system_health_unhealthy_idx ON ops.system_health (last_check) WHERE status <> 'healthy';

CREATE TABLE ops.ai_calls (
    provider    text                NOT NULL,
    call_id     text                NOT NULL,
    called_at   timestamptz         NOT NULL,
    cost        market_data.money   NOT NULL,
    created_at  timestamptz         NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT ai_calls_pkey PRIMARY KEY (provider, call_id),
    CONSTRAINT ai_calls_provider_check CHECK (provider <> ''),
    CONSTRAINT ai_calls_call_id_check CHECK (call_id <> ''),
    CONSTRAINT ai_calls_cost_check CHECK (cost >= 0)
);

COMMENT ON TABLE ops.ai_calls IS 'One paid call of an AI provider: what makes a retry countable once. The sums are in ops.ai_costs and outlive it.';
COMMENT ON COLUMN ops.ai_calls.provider IS 'Who was paid: xai, openai, anthropic ...';
COMMENT ON COLUMN ops.ai_calls.call_id IS 'The provider''s id of the call, or one of ours; the same in a retry.';
COMMENT ON COLUMN ops.ai_calls.called_at IS 'When it was made, UTC.';
COMMENT ON COLUMN ops.ai_calls.cost IS 'Dollars.';
COMMENT ON COLUMN ops.ai_calls.created_at IS 'When the row was written, UTC.';

-- Serves ops.ai_calls_between.
CREATE INDEX ai_calls_called_at_idx ON ops.ai_calls (called_at);

CREATE TABLE ops.ai_costs (
    date        date                NOT NULL,
    provider    text                NOT NULL,
    total_cost  market_data.money   NOT NULL,
    num_calls   bigint              NOT NULL,
    created_at  timestamptz         NOT NULL DEFAULT statement_timestamp(),
    updated_at  timestamptz         NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT ai_costs_pkey PRIMARY KEY (date, provider),
    CONSTRAINT ai_costs_provider_check CHECK (provider <> ''),
    CONSTRAINT ai_costs_total_cost_check CHECK (total_cost >= 0),
    CONSTRAINT ai_costs_num_calls_check CHECK (num_calls >= 0)
);

COMMENT ON TABLE ops.ai_costs IS 'What calls of AI providers cost on a day, all calls, also those that made no analysis.';
COMMENT ON COLUMN ops.ai_costs.date IS 'The day, UTC.';
COMMENT ON COLUMN ops.ai_costs.provider IS 'Who was paid: xai, openai, anthropic ...';
COMMENT ON COLUMN ops.ai_costs.total_cost IS 'Dollars.';
COMMENT ON COLUMN ops.ai_costs.num_calls IS 'Calls.';
COMMENT ON COLUMN ops.ai_costs.created_at IS 'When the day''s first call was written, UTC.';
COMMENT ON COLUMN ops.ai_costs.updated_at IS 'When the last of its calls was written, UTC.';

-- Serves ops.daily_ai_cost, ops.ai_cost_by_day, ops.ai_cost_by_provider: analyses by their UTC day.
-- lint: ignore require-concurrent-index-creation: its table is made by 0013 and is empty when this runs
CREATE INDEX market_analyses_utc_day_idx ON research.market_analyses (((analyzed_at AT TIME ZONE 'UTC')::date));

-- Not a join of the two: a condition on the day reaches the indexes of both only through a union.
CREATE VIEW ops.daily_ai_cost AS
SELECT
    date,
    provider,
    sum(total_cost)::numeric(18, 6) AS total_cost,
    sum(num_calls)::bigint AS num_calls,
    sum(analysis_cost)::numeric(18, 6) AS analysis_cost,
    sum(num_analyses)::bigint AS num_analyses
FROM (
    SELECT date, provider, total_cost, num_calls, 0::numeric AS analysis_cost, 0::bigint AS num_analyses
    FROM ops.ai_costs
    UNION ALL
    SELECT (analyzed_at AT TIME ZONE 'UTC')::date, ai_provider, 0, 0, cost, 1
    FROM research.market_analyses
) AS costs
GROUP BY date, provider;

COMMENT ON VIEW ops.daily_ai_cost IS 'What AI cost each UTC day and provider: as billed by call, and as the stored analyses say.';
COMMENT ON COLUMN ops.daily_ai_cost.date IS 'The day, UTC.';
COMMENT ON COLUMN ops.daily_ai_cost.provider IS 'Who was paid.';
COMMENT ON COLUMN ops.daily_ai_cost.total_cost IS 'Dollars of all calls, from ops.ai_costs; 0 when none was recorded there.';
COMMENT ON COLUMN ops.daily_ai_cost.num_calls IS 'Calls, from ops.ai_costs.';
COMMENT ON COLUMN ops.daily_ai_cost.analysis_cost IS 'Dollars of the analyses stored for the day; more than total_cost means that calls were not recorded.';
COMMENT ON COLUMN ops.daily_ai_cost.num_analyses IS 'Analyses stored for the day.';

CREATE TABLE ops.retention_policies (
    table_name      text            NOT NULL,
    hot_for         interval,
    warm_for        interval,
    keep_for        interval,
    archive_target  text,
    reason          text            NOT NULL,
    updated_at      timestamptz     NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT retention_policies_pkey PRIMARY KEY (table_name),
    CONSTRAINT retention_policies_table_name_check CHECK (table_name ~ '^[a-z_]+\.[a-z_]+$'),
    CONSTRAINT retention_policies_order_check CHECK (
        hot_for > interval '0' AND warm_for >= hot_for AND keep_for >= COALESCE(warm_for, hot_for)
    ),
    CONSTRAINT retention_policies_archive_target_check CHECK (archive_target IN ('parquet', 'none'))
);

COMMENT ON TABLE ops.retention_policies IS 'How long rows of a table stay where: hot in the database, warm compressed, cold in files, then gone.';
COMMENT ON COLUMN ops.retention_policies.table_name IS 'The table with its schema: market_data.price_snapshots.';
COMMENT ON COLUMN ops.retention_policies.hot_for IS 'Age up to which rows stay in their table; null = always.';
COMMENT ON COLUMN ops.retention_policies.warm_for IS 'Age up to which rows may be asked for by SQL, compressed or detached; null = as hot_for.';
COMMENT ON COLUMN ops.retention_policies.keep_for IS 'Age at which rows may be deleted everywhere; null = never.';
COMMENT ON COLUMN ops.retention_policies.archive_target IS 'Where rows go that are no longer hot: parquet, or none = they are deleted; null while hot_for is null.';
COMMENT ON COLUMN ops.retention_policies.reason IS 'Why so long.';
COMMENT ON COLUMN ops.retention_policies.updated_at IS 'When the policy last changed, UTC.';

INSERT INTO ops.retention_policies (table_name, hot_for, warm_for, keep_for, archive_target, reason) VALUES
    ('catalog.platforms', NULL, NULL, NULL, NULL, 'Reference data, kept for ever.'),
    ('catalog.series', NULL, NULL, NULL, NULL, 'Reference data, kept for ever.'),
    ('catalog.events', NULL, NULL, NULL, NULL, 'Reference data, kept for ever.'),
    ('catalog.markets', NULL, NULL, NULL, NULL, 'Reference data, kept for ever.'),
    ('catalog.settlements', NULL, NULL, NULL, NULL, 'Outcomes are what calibration is scored against, kept for ever.'),
    ('catalog.market_versions', interval '18 months', interval '42 months', interval '10 years', 'parquet', 'Hot for backtests, then colder; ten years in all.'),
    ('market_data.candlesticks', interval '18 months', interval '42 months', NULL, 'parquet', 'History of prices, kept for ever; old months in files.'),
    ('market_data.price_snapshots', interval '1 year', interval '42 months', interval '10 years', 'parquet', 'Tracking of probabilities: a year at hand.'),
    ('market_data.orderbook_snapshots', interval '30 days', NULL, interval '30 days', 'none', 'Analysis of liquidity looks back a month.'),
    ('market_data.orderbook_deltas', interval '30 days', NULL, interval '30 days', 'none', 'Only of use with the snapshots that they change.'),
    ('market_data.public_trades', interval '18 months', interval '42 months', NULL, 'parquet', 'Analysis of volume, kept for ever; old months in files.'),
    ('research.game_states', interval '18 months', interval '42 months', interval '10 years', 'parquet', 'Hot for backtests, then colder; ten years in all.'),
    ('research.edges', interval '18 months', interval '42 months', interval '10 years', 'parquet', 'Hot for backtests, then colder; ten years in all.'),
    ('research.market_analyses', interval '18 months', interval '42 months', interval '10 years', 'parquet', 'Ledger; ten years in all.'),
    ('trading.trades', interval '18 months', interval '42 months', interval '10 years', 'parquet', 'Ledger; ten years in all.'),
    ('trading.position_versions', interval '18 months', interval '42 months', interval '10 years', 'parquet', 'Ledger; ten years in all.'),
    ('ops.ai_calls', interval '90 days', NULL, interval '90 days', 'none', 'Nobody retries a call after that; the sums stay in ops.ai_costs.'),
    ('ops.system_health', interval '90 days', NULL, interval '90 days', 'none', 'What was down long ago explains nothing any more.');

CREATE VIEW ops.partitions AS
SELECT
    parent_schema.nspname::text || '.' || parent.relname::text AS table_name,
    partition_schema.nspname::text || '.' || partition.relname::text AS partition_name,
    bounds.range_from::timestamptz AS range_from,
    bounds.range_to::timestamptz AS range_to,
    CASE WHEN partition.reltuples >= 0 THEN partition.reltuples::bigint END AS estimated_rows,
    pg_total_relation_size(partition.oid) AS total_bytes
FROM pg_catalog.pg_partitioned_table
JOIN pg_catalog.pg_class AS parent ON parent.oid = pg_partitioned_table.partrelid
JOIN pg_catalog.pg_namespace AS parent_schema ON parent_schema.oid = parent.relnamespace
JOIN pg_catalog.pg_inherits ON pg_inherits.inhparent = parent.oid
JOIN pg_catalog.pg_class AS partition ON partition.oid = pg_inherits.inhrelid
JOIN pg_catalog.pg_namespace AS partition_schema ON partition_schema.oid = partition.relnamespace
CROSS JOIN LATERAL (
    -- As the server writes it, FOR VALUES FROM ('2026-07-01 00:00:00+00') TO (...), in the zone of the session, which it names.
    SELECT bound[1] AS range_from, bound[2] AS range_to
    FROM regexp_match(pg_get_expr(partition.relpartbound, partition.oid), '^FOR VALUES FROM \(''([^'']+)''\) TO \(''([^'']+)''\)$') AS bound
) AS bounds
WHERE pg_partitioned_table.partstrat = 'r'
    AND parent_schema.nspname = 'market_data';

COMMENT ON VIEW ops.partitions IS 'The monthly partitions of the time series, as the catalog of the database knows them.';
COMMENT ON COLUMN ops.partitions.table_name IS 'The partitioned table with its schema.';
COMMENT ON COLUMN ops.partitions.partition_name IS 'The partition with its schema.';
COMMENT ON COLUMN ops.partitions.range_from IS 'Start of its time, UTC, inclusive; null for one without such a bound.';
COMMENT ON COLUMN ops.partitions.range_to IS 'End of its time, UTC, exclusive; null for one without such a bound.';
COMMENT ON COLUMN ops.partitions.estimated_rows IS 'Rows as of the last ANALYZE; null before the first.';
COMMENT ON COLUMN ops.partitions.total_bytes IS 'Bytes of rows, indexes and what is stored out of line.';

CREATE VIEW ops.table_sizes AS
WITH tables AS (
    SELECT
        pg_class.oid,
        COALESCE(pg_partition_root(pg_class.oid)::oid, pg_class.oid) AS root
    FROM pg_catalog.pg_class
    JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE pg_class.relkind IN ('r', 'p')
        AND pg_namespace.nspname IN ('catalog', 'market_data', 'research', 'trading', 'backtest', 'ops')
)
SELECT
    pg_namespace.nspname::text || '.' || root.relname::text AS table_name,
    count(*) FILTER (WHERE pg_class.relispartition AND pg_class.relkind = 'r') AS partitions,
    -- -1 says that a table was never analyzed: unknown, which is not 0.
    CASE WHEN bool_and(pg_class.reltuples >= 0 OR pg_class.relkind = 'p')
        THEN sum(GREATEST(pg_class.reltuples, 0)) FILTER (WHERE pg_class.relkind = 'r')::bigint
    END AS estimated_rows,
    sum(pg_relation_size(pg_class.oid))::bigint AS table_bytes,
    sum(pg_indexes_size(pg_class.oid))::bigint AS index_bytes,
    sum(pg_total_relation_size(pg_class.oid))::bigint AS total_bytes
FROM tables
JOIN pg_catalog.pg_class ON pg_class.oid = tables.oid
JOIN pg_catalog.pg_class AS root ON root.oid = tables.root
JOIN pg_catalog.pg_namespace ON pg_namespace.oid = root.relnamespace
GROUP BY pg_namespace.nspname, root.relname;

COMMENT ON VIEW ops.table_sizes IS 'How large each table is, its partitions counted together.';
COMMENT ON COLUMN ops.table_sizes.table_name IS 'The table with its schema.';
COMMENT ON COLUMN ops.table_sizes.partitions IS 'Monthly partitions; 0 for a table without.';
COMMENT ON COLUMN ops.table_sizes.estimated_rows IS 'Rows as of the last ANALYZE; null while a part was never analyzed.';
COMMENT ON COLUMN ops.table_sizes.table_bytes IS 'Bytes of the rows.';
COMMENT ON COLUMN ops.table_sizes.index_bytes IS 'Bytes of the indexes.';
COMMENT ON COLUMN ops.table_sizes.total_bytes IS 'Bytes of all, with what is stored out of line.';

-- Serves ops.data_freshness, market_data.orderbooks_in_window: all markets over a slice of time.
CREATE INDEX orderbook_snapshots_snapshot_time_idx ON market_data.orderbook_snapshots (snapshot_time);

CREATE VIEW ops.data_freshness AS
SELECT 'market_data.candlesticks' AS table_name, max(end_period_ts) AS latest_at FROM market_data.candlesticks
UNION ALL
SELECT 'market_data.price_snapshots', max(snapshot_time) FROM market_data.price_snapshots
UNION ALL
SELECT 'market_data.orderbook_snapshots', max(snapshot_time) FROM market_data.orderbook_snapshots
UNION ALL
SELECT 'market_data.public_trades', max(created_time) FROM market_data.public_trades
UNION ALL
SELECT 'catalog.settlements', max(settled_at) FROM catalog.settlements
UNION ALL
SELECT 'research.market_analyses', max(analyzed_at) FROM research.market_analyses
UNION ALL
SELECT 'ops.ingest_runs', max(started_at) FROM ops.ingest_runs;

COMMENT ON VIEW ops.data_freshness IS 'The latest moment that each stream of data has reached.';
COMMENT ON COLUMN ops.data_freshness.table_name IS 'The table with its schema.';
COMMENT ON COLUMN ops.data_freshness.latest_at IS 'The latest observation in it, UTC; null while it is empty.';
