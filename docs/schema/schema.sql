-- The schema that the migrations make, up to 0030.room-for-polls. Made by `kalshidb generate`; do not edit.
-- inputs 1c595d8a32b011cd11c7c3c683b30b18c38c05b465feb51c71f616c38429aaf7
-- body   ec3a2a912cdb1fea5b530a658456b3ad130637281a85f8ac4e06a6a462f0229f
--
-- For comparing: each object stands here once, in an order of its own, as PostgreSQL 18 writes it. Executed on an empty database,
-- by psql or any other client, it makes the same schema. Rows, owners and the monthly partitions that loaders make are no part of it.

SET search_path = pg_catalog;
SET check_function_bodies = off;

CREATE SCHEMA backtest;

COMMENT ON SCHEMA backtest IS 'What would have happened: runs of backtests and their trades.';

CREATE SCHEMA catalog;

COMMENT ON SCHEMA catalog IS 'What can be traded: platforms, series, events, markets, how they changed and how they settled.';

CREATE SCHEMA market_data;

COMMENT ON SCHEMA market_data IS 'What the market did: candlesticks, quotes, order books and public trades, partitioned by month.';

CREATE SCHEMA ops;

COMMENT ON SCHEMA ops IS 'How the store is kept running: loads, rejected payloads, backfill checkpoints.';

CREATE SCHEMA research;

COMMENT ON SCHEMA research IS 'What we think: strategies and models (never changed, only versioned), probabilities, edges, states of games, analyses.';

CREATE SCHEMA trading;

COMMENT ON SCHEMA trading IS 'What we did: positions, fills, exits, cash. Every row says in which environment.';

CREATE OR REPLACE FUNCTION backtest.refuse_ended_run()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    ended backtest.runs;
BEGIN
    -- FOR SHARE: a run that is just being finished waits for these trades, or these wait for it.
    FOR ended IN
        SELECT runs.* FROM backtest.runs WHERE runs.run_id IN (SELECT changed.run_id FROM changed) ORDER BY runs.run_id FOR SHARE
    LOOP
        CONTINUE WHEN ended.status = 'running';
        RAISE EXCEPTION '% of trades of run % is refused: it has ended (%)', TG_OP, ended.run_id, ended.status
            USING
                ERRCODE = 'restrict_violation',
                SCHEMA = TG_TABLE_SCHEMA,
                TABLE = TG_TABLE_NAME,
                CONSTRAINT = 'trades_run_is_open',
                HINT = 'Open it with backtest.reopen_run, change its trades, and finish it again.';
    END LOOP;
    RETURN NULL;
END;
$function$;

COMMENT ON FUNCTION backtest.refuse_ended_run() IS 'Trigger of trades: they are added and changed only while their run is running (constraint trades_run_is_open).';

CREATE OR REPLACE FUNCTION backtest.refuse_wrong_totals()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    stored_trades   bigint;
    stored_pnl      numeric;
    stored_open     bigint;
BEGIN
    SELECT count(*), COALESCE(sum(pnl), 0), count(*) FILTER (WHERE pnl IS NULL)
    INTO stored_trades, stored_pnl, stored_open
    FROM backtest.trades
    WHERE trades.run_id = NEW.run_id;
    IF (NEW.num_trades, NEW.total_pnl) IS DISTINCT FROM (stored_trades, stored_pnl) THEN
        RAISE EXCEPTION 'run % does not add up: num_trades % and total_pnl % are given, its stored trades are % and sum to %',
            NEW.run_id, NEW.num_trades, NEW.total_pnl, stored_trades, stored_pnl
            USING
                ERRCODE = 'check_violation',
                SCHEMA = TG_TABLE_SCHEMA,
                TABLE = TG_TABLE_NAME,
                CONSTRAINT = 'runs_totals',
                DETAIL = format('%s of its trades have no pnl yet.', stored_open),
                HINT = 'Insert all trades and settle them first, then finish with what backtest.run_metrics says.';
    END IF;
    RETURN NEW;
END;
$function$;

COMMENT ON FUNCTION backtest.refuse_wrong_totals() IS 'Trigger of runs: one succeeds only with the number and the sum of its stored trades (constraint runs_totals).';

CREATE DOMAIN market_data.money AS numeric(18,6);

COMMENT ON DOMAIN market_data.money IS 'Amount in US dollars, may be negative, six decimals.';

CREATE DOMAIN market_data.probability AS numeric(7,6)
    CONSTRAINT probability_range_check CHECK (VALUE >= 0::numeric AND VALUE <= 1::numeric);

COMMENT ON DOMAIN market_data.probability IS 'Probability, 0 to 1, six decimals.';

CREATE TABLE backtest.runs (
    run_id uuid DEFAULT gen_random_uuid() NOT NULL,
    strategy_name text NOT NULL,
    strategy_version text NOT NULL,
    strategy_id bigint,
    git_sha text,
    random_seed bigint NOT NULL,
    config_yaml text NOT NULL,
    date_start_local date NOT NULL,
    date_end_local date NOT NULL,
    series_tickers text[] NOT NULL,
    asof_policy_id text NOT NULL,
    trade_window_policy text NOT NULL,
    status text DEFAULT 'running'::text NOT NULL,
    total_pnl market_data.money,
    sharpe_ratio numeric(12,6),
    max_drawdown market_data.money,
    win_rate market_data.probability,
    num_trades bigint,
    metrics_json jsonb,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    artifact_path text,
    error text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT runs_date_end_local_check CHECK (date_end_local >= date_start_local),
    CONSTRAINT runs_error_check CHECK ((status = 'failed'::text) = (error IS NOT NULL)),
    CONSTRAINT runs_finished_at_check CHECK ((status = 'running'::text) = (finished_at IS NULL)),
    CONSTRAINT runs_git_sha_check CHECK (git_sha ~ '^[0-9a-f]{7,64}$'::text),
    CONSTRAINT runs_max_drawdown_check CHECK (max_drawdown::numeric >= 0::numeric),
    CONSTRAINT runs_metadata_check CHECK (jsonb_typeof(metadata) = 'object'::text),
    CONSTRAINT runs_metrics_json_check CHECK (jsonb_typeof(metrics_json) = 'object'::text),
    CONSTRAINT runs_num_trades_check CHECK (num_trades >= 0),
    CONSTRAINT runs_series_tickers_check CHECK (array_position(series_tickers, NULL::text) IS NULL),
    CONSTRAINT runs_status_check CHECK (status = ANY (ARRAY['running'::text, 'success'::text, 'failed'::text])),
    CONSTRAINT runs_strategy_name_check CHECK (strategy_name ~ '^\S(.{0,98}\S)?$'::text),
    CONSTRAINT runs_strategy_version_check CHECK (strategy_version ~ '^\S{1,50}$'::text),
    CONSTRAINT runs_success_check CHECK (status <> 'success'::text OR total_pnl IS NOT NULL AND num_trades IS NOT NULL)
);

CREATE INDEX runs_created_at_idx ON backtest.runs USING btree (created_at);

CREATE INDEX runs_running_idx ON backtest.runs USING btree (created_at) WHERE (status = 'running'::text);

CREATE INDEX runs_strategy_name_strategy_version_created_at_idx ON backtest.runs USING btree (strategy_name, strategy_version, created_at);

CREATE TRIGGER runs_totals BEFORE UPDATE ON backtest.runs FOR EACH ROW WHEN (new.status = 'success'::text AND (old.status IS DISTINCT FROM new.status OR old.total_pnl::numeric IS DISTINCT FROM new.total_pnl::numeric OR old.num_trades IS DISTINCT FROM new.num_trades)) EXECUTE FUNCTION backtest.refuse_wrong_totals();

COMMENT ON TABLE backtest.runs IS 'One run of a backtest: what went in, what was allowed to be known, what came out.';
COMMENT ON COLUMN backtest.runs.run_id IS 'Id of the run.';
COMMENT ON COLUMN backtest.runs.strategy_name IS 'Name of the strategy, 1 to 100 characters.';
COMMENT ON COLUMN backtest.runs.strategy_version IS 'Its version: semantic, or a git hash; 1 to 50 characters.';
COMMENT ON COLUMN backtest.runs.strategy_id IS 'The registered strategy version, if it is one.';
COMMENT ON COLUMN backtest.runs.git_sha IS 'Commit of the code that ran, hex; null when it was not in a repository.';
COMMENT ON COLUMN backtest.runs.random_seed IS 'Seed of every random choice in it.';
COMMENT ON COLUMN backtest.runs.config_yaml IS 'The resolved config, whole.';
COMMENT ON COLUMN backtest.runs.date_start_local IS 'First day, in the calendar of the series'' station or venue.';
COMMENT ON COLUMN backtest.runs.date_end_local IS 'Last day, inclusive, in the same calendar.';
COMMENT ON COLUMN backtest.runs.series_tickers IS 'The series that it traded.';
COMMENT ON COLUMN backtest.runs.asof_policy_id IS 'What it was allowed to know at a decision.';
COMMENT ON COLUMN backtest.runs.trade_window_policy IS 'When it was allowed to trade, by name.';
COMMENT ON COLUMN backtest.runs.status IS 'running, success or failed.';
COMMENT ON COLUMN backtest.runs.total_pnl IS 'Profit after fees, dollars; null until it succeeded.';
COMMENT ON COLUMN backtest.runs.sharpe_ratio IS 'Mean over standard deviation of the returns that metrics_json describes; null when there are too few.';
COMMENT ON COLUMN backtest.runs.max_drawdown IS 'Deepest fall of the summed profit from a peak, dollars, not negative.';
COMMENT ON COLUMN backtest.runs.win_rate IS 'Share of trades that made money, 0 to 1; null when there were none.';
COMMENT ON COLUMN backtest.runs.num_trades IS 'Trades made; null until it succeeded.';
COMMENT ON COLUMN backtest.runs.metrics_json IS 'All other metrics.';
COMMENT ON COLUMN backtest.runs.metadata IS 'Parameters worth searching for: threshold, market_filter.';
COMMENT ON TRIGGER runs_totals ON backtest.runs IS 'What a run says it made is what its trades made.';
COMMENT ON COLUMN backtest.runs.artifact_path IS 'Where its files lie; null when it left none.';
COMMENT ON COLUMN backtest.runs.error IS 'Why it failed; null otherwise.';
COMMENT ON COLUMN backtest.runs.created_at IS 'Begun, UTC.';
COMMENT ON COLUMN backtest.runs.finished_at IS 'Ended, UTC; null while running.';

CREATE DOMAIN catalog.ticker AS text
    CONSTRAINT ticker_form_check CHECK (VALUE ~ '^\S{1,200}$'::text);

COMMENT ON DOMAIN catalog.ticker IS 'A venue''s key of a series, event or market: 1 to 200 characters, no white space.';

CREATE DOMAIN market_data.contracts AS numeric(18,2)
    CONSTRAINT contracts_range_check CHECK (VALUE >= 0::numeric);

COMMENT ON DOMAIN market_data.contracts IS 'Number of contracts, never negative, two decimals: the smallest trade is 0.01 contract.';

CREATE DOMAIN market_data.price AS numeric(7,6)
    CONSTRAINT price_range_check CHECK (VALUE >= 0::numeric AND VALUE <= 1::numeric);

COMMENT ON DOMAIN market_data.price IS 'Price of one contract in dollars, 0 to 1, six decimals.';

CREATE DOMAIN market_data.source AS text
    CONSTRAINT source_word_check CHECK (VALUE = ANY (ARRAY['poll'::text, 'websocket'::text, 'backfill'::text]));

COMMENT ON DOMAIN market_data.source IS 'How an observation reached us: poll (asked for), websocket (streamed) or backfill (imported later).';

CREATE TABLE backtest.trades (
    trade_id uuid DEFAULT gen_random_uuid() NOT NULL,
    run_id uuid NOT NULL,
    station_id text,
    series_ticker catalog.ticker,
    event_ticker catalog.ticker,
    market_ticker catalog.ticker NOT NULL,
    decision_ts timestamp with time zone NOT NULL,
    side text NOT NULL,
    qty market_data.contracts NOT NULL,
    entry_price market_data.price NOT NULL,
    entry_fee market_data.money NOT NULL,
    entry_time timestamp with time zone NOT NULL,
    entry_candle_end_ts timestamp with time zone,
    entry_candle_minutes smallint,
    entry_snapshot_time timestamp with time zone,
    entry_snapshot_source market_data.source,
    exit_time timestamp with time zone,
    exit_price market_data.price,
    exit_fee market_data.money,
    exit_candle_end_ts timestamp with time zone,
    exit_candle_minutes smallint,
    exit_snapshot_time timestamp with time zone,
    exit_snapshot_source market_data.source,
    model_prob_yes market_data.probability,
    model_ev_per_contract market_data.money,
    settled_result text,
    pnl market_data.money,
    signal_metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    notes text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT trades_pkey PRIMARY KEY (trade_id),
    CONSTRAINT trades_entry_candle_check CHECK ((entry_candle_end_ts IS NULL) = (entry_candle_minutes IS NULL)),
    CONSTRAINT trades_entry_fee_check CHECK (entry_fee::numeric >= 0::numeric),
    CONSTRAINT trades_entry_look_ahead_check CHECK (COALESCE(entry_candle_end_ts, entry_snapshot_time) <= decision_ts),
    CONSTRAINT trades_entry_quote_check CHECK (num_nonnulls(entry_candle_end_ts, entry_snapshot_time) = 1),
    CONSTRAINT trades_entry_snapshot_check CHECK ((entry_snapshot_time IS NULL) = (entry_snapshot_source IS NULL)),
    CONSTRAINT trades_entry_time_check CHECK (entry_time >= decision_ts),
    CONSTRAINT trades_exit_candle_check CHECK ((exit_candle_end_ts IS NULL) = (exit_candle_minutes IS NULL)),
    CONSTRAINT trades_exit_fee_check CHECK (exit_fee IS NULL OR exit_fee::numeric >= 0::numeric AND exit_time IS NOT NULL),
    CONSTRAINT trades_exit_look_ahead_check CHECK (COALESCE(exit_candle_end_ts, exit_snapshot_time) <= exit_time),
    CONSTRAINT trades_exit_price_check CHECK ((exit_time IS NULL) = (exit_price IS NULL)),
    CONSTRAINT trades_exit_quote_check CHECK (num_nonnulls(exit_candle_end_ts, exit_snapshot_time) <= 1),
    CONSTRAINT trades_exit_snapshot_check CHECK ((exit_snapshot_time IS NULL) = (exit_snapshot_source IS NULL)),
    CONSTRAINT trades_exit_time_check CHECK (exit_time >= entry_time),
    CONSTRAINT trades_qty_check CHECK (qty::numeric > 0::numeric),
    CONSTRAINT trades_side_check CHECK (side = ANY (ARRAY['buy_yes'::text, 'buy_no'::text])),
    CONSTRAINT trades_signal_metadata_check CHECK (jsonb_typeof(signal_metadata) = 'object'::text)
);

CREATE INDEX trades_market_ticker_decision_ts_idx ON backtest.trades USING btree (market_ticker, decision_ts);

CREATE INDEX trades_run_id_event_ticker_idx ON backtest.trades USING btree (run_id, event_ticker);

CREATE TRIGGER trades_run_is_open_to_changes AFTER UPDATE ON backtest.trades REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION backtest.refuse_ended_run();

CREATE TRIGGER trades_run_is_open_to_new AFTER INSERT ON backtest.trades REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION backtest.refuse_ended_run();

COMMENT ON TABLE backtest.trades IS 'One simulated trade of a run, with the quote that it was made on.';
COMMENT ON COLUMN backtest.trades.trade_id IS 'Id of the trade.';
COMMENT ON COLUMN backtest.trades.run_id IS 'The run.';
COMMENT ON COLUMN backtest.trades.station_id IS 'The weather station that settles it; null for other markets.';
COMMENT ON COLUMN backtest.trades.series_ticker IS 'The series; null when unknown.';
COMMENT ON COLUMN backtest.trades.event_ticker IS 'The event; null when unknown.';
COMMENT ON COLUMN backtest.trades.market_ticker IS 'The market.';
COMMENT ON COLUMN backtest.trades.decision_ts IS 'When it was decided, UTC; nothing later was known.';
COMMENT ON COLUMN backtest.trades.side IS 'buy_yes or buy_no.';
COMMENT ON COLUMN backtest.trades.qty IS 'Contracts.';
COMMENT ON COLUMN backtest.trades.entry_price IS 'What one contract cost, dollars for the side that was bought.';
COMMENT ON COLUMN backtest.trades.entry_fee IS 'Fee of the whole entry, dollars.';
COMMENT ON COLUMN backtest.trades.entry_time IS 'When it filled, UTC; not before the decision.';
COMMENT ON COLUMN backtest.trades.entry_candle_end_ts IS 'End of the candlestick that the entry was decided on, UTC; null when it was a snapshot.';
COMMENT ON COLUMN backtest.trades.entry_candle_minutes IS 'Length of that candlestick, minutes.';
COMMENT ON COLUMN backtest.trades.entry_snapshot_time IS 'Time of the snapshot that the entry was decided on, UTC; null when it was a candlestick.';
COMMENT ON COLUMN backtest.trades.entry_snapshot_source IS 'Source of that snapshot.';
COMMENT ON COLUMN backtest.trades.exit_time IS 'When it was sold, UTC; null when it was held to settlement.';
COMMENT ON COLUMN backtest.trades.exit_price IS 'What one contract brought, dollars for the side that was bought; null when it was held to settlement.';
COMMENT ON COLUMN backtest.trades.exit_fee IS 'Fee of the whole exit, dollars; null when it was held to settlement, which costs none, or when none was counted.';
COMMENT ON COLUMN backtest.trades.exit_candle_end_ts IS 'End of the candlestick that the exit was decided on, UTC.';
COMMENT ON TRIGGER trades_run_is_open_to_changes ON backtest.trades IS 'The trades of a run that has ended stay as they were.';
COMMENT ON TRIGGER trades_run_is_open_to_new ON backtest.trades IS 'A run that has ended takes no more trades.';
COMMENT ON COLUMN backtest.trades.exit_candle_minutes IS 'Length of that candlestick, minutes.';
COMMENT ON COLUMN backtest.trades.exit_snapshot_time IS 'Time of the snapshot that the exit was decided on, UTC.';
COMMENT ON COLUMN backtest.trades.exit_snapshot_source IS 'Source of that snapshot.';
COMMENT ON COLUMN backtest.trades.model_prob_yes IS 'Probability of YES that the model gave, 0 to 1.';
COMMENT ON COLUMN backtest.trades.model_ev_per_contract IS 'Expected profit of one contract, dollars.';
COMMENT ON COLUMN backtest.trades.settled_result IS 'How the market settled, as the catalogue had it: yes, no, scalar, void; null while unsettled.';
COMMENT ON COLUMN backtest.trades.pnl IS 'Profit of the trade after fees, dollars; null while neither sold nor settled.';
COMMENT ON COLUMN backtest.trades.signal_metadata IS 'Why it was entered and left, an object.';
COMMENT ON COLUMN backtest.trades.notes IS 'Remarks for people.';
COMMENT ON COLUMN backtest.trades.created_at IS 'When the row was written, UTC.';

CREATE OR REPLACE FUNCTION catalog.change_market_version(market_ticker catalog.ticker, status text DEFAULT NULL::text, yes_price market_data.price DEFAULT NULL::numeric, no_price market_data.price DEFAULT NULL::numeric, yes_bid market_data.price DEFAULT NULL::numeric, yes_ask market_data.price DEFAULT NULL::numeric, no_bid market_data.price DEFAULT NULL::numeric, no_ask market_data.price DEFAULT NULL::numeric, last_price market_data.price DEFAULT NULL::numeric, volume market_data.contracts DEFAULT NULL::numeric, open_interest market_data.contracts DEFAULT NULL::numeric, settlement_value market_data.price DEFAULT NULL::numeric)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    PERFORM FROM catalog.markets AS stored
    WHERE stored.market_ticker = change_market_version.market_ticker
    FOR NO KEY UPDATE;
    -- Read after the wait for the lock. A clock that was set back does not end a version before it began.
    moment := clock_timestamp();

    WITH closed AS (
        UPDATE catalog.market_versions AS stored
        SET valid_to = greatest(moment, stored.valid_from + interval '1 microsecond')
        WHERE stored.market_ticker = change_market_version.market_ticker
            AND stored.valid_to IS NULL
            AND (
                COALESCE(change_market_version.status, stored.status),
                COALESCE(change_market_version.yes_price, stored.yes_price),
                COALESCE(change_market_version.no_price, stored.no_price),
                COALESCE(change_market_version.yes_bid, stored.yes_bid), COALESCE(change_market_version.yes_ask, stored.yes_ask),
                COALESCE(change_market_version.no_bid, stored.no_bid), COALESCE(change_market_version.no_ask, stored.no_ask),
                COALESCE(change_market_version.last_price, stored.last_price),
                COALESCE(change_market_version.volume, stored.volume),
                COALESCE(change_market_version.open_interest, stored.open_interest),
                COALESCE(change_market_version.settlement_value, stored.settlement_value)
            ) IS DISTINCT FROM (
                stored.status, stored.yes_price, stored.no_price, stored.yes_bid, stored.yes_ask, stored.no_bid, stored.no_ask,
                stored.last_price, stored.volume, stored.open_interest, stored.settlement_value
            )
        RETURNING stored.*
    )
    INSERT INTO catalog.market_versions (
        market_ticker, valid_from, valid_to, status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume,
        open_interest, settlement_value, created_at
    )
    SELECT
        closed.market_ticker,
        closed.valid_to,
        NULL,
        COALESCE(change_market_version.status, closed.status),
        COALESCE(change_market_version.yes_price, closed.yes_price),
        COALESCE(change_market_version.no_price, closed.no_price),
        COALESCE(change_market_version.yes_bid, closed.yes_bid),
        COALESCE(change_market_version.yes_ask, closed.yes_ask),
        COALESCE(change_market_version.no_bid, closed.no_bid),
        COALESCE(change_market_version.no_ask, closed.no_ask),
        COALESCE(change_market_version.last_price, closed.last_price),
        COALESCE(change_market_version.volume, closed.volume),
        COALESCE(change_market_version.open_interest, closed.open_interest),
        COALESCE(change_market_version.settlement_value, closed.settlement_value),
        moment
    FROM closed;
    IF FOUND THEN
        RETURN 'written';
    END IF;

    IF NOT EXISTS (
        SELECT FROM catalog.market_versions AS stored
        WHERE stored.market_ticker = change_market_version.market_ticker
            AND stored.valid_to IS NULL
    ) THEN
        RAISE EXCEPTION 'market % has no version that could change', change_market_version.market_ticker
            USING
                ERRCODE = 'no_data_found',
                SCHEMA = 'catalog',
                TABLE = 'market_versions',
                HINT = 'Record its whole state first: catalog.record_market_version.';
    END IF;
    RETURN 'unchanged';
END;
$function$;

COMMENT ON FUNCTION catalog.change_market_version(catalog.ticker,text,market_data.price,market_data.price,market_data.price,market_data.price,market_data.price,market_data.price,market_data.price,market_data.contracts,market_data.contracts,market_data.price) IS 'Changes some columns of a market''s current version as of now and carries the others over; null leaves a column as it was. Answers written or unchanged. A market without a version is refused (no_data_found).';

CREATE OR REPLACE FUNCTION catalog.record_market_version(market_ticker catalog.ticker, observed_at timestamp with time zone, status text, yes_price market_data.price, no_price market_data.price, yes_bid market_data.price, yes_ask market_data.price, no_bid market_data.price, no_ask market_data.price, last_price market_data.price, volume market_data.contracts, open_interest market_data.contracts, settlement_value market_data.price)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    observed    catalog.market_versions;
    previous    record;
    following   record;
BEGIN
    observed.market_ticker := record_market_version.market_ticker;
    observed.valid_from := record_market_version.observed_at;
    observed.status := record_market_version.status;
    observed.yes_price := record_market_version.yes_price;
    observed.no_price := record_market_version.no_price;
    observed.yes_bid := record_market_version.yes_bid;
    observed.yes_ask := record_market_version.yes_ask;
    observed.no_bid := record_market_version.no_bid;
    observed.no_ask := record_market_version.no_ask;
    observed.last_price := record_market_version.last_price;
    observed.volume := record_market_version.volume;
    observed.open_interest := record_market_version.open_interest;
    observed.settlement_value := record_market_version.settlement_value;

    -- Once to see whether there is anything to do, once more when nobody else can write versions of this market.
    FOR turn IN 1..2 LOOP
        SELECT
            stored.valid_from,
            stored.valid_to,
            (
                stored.status, stored.yes_price, stored.no_price, stored.yes_bid, stored.yes_ask, stored.no_bid, stored.no_ask,
                stored.last_price, stored.volume, stored.open_interest, stored.settlement_value
            ) IS NOT DISTINCT FROM (
                observed.status, observed.yes_price, observed.no_price, observed.yes_bid, observed.yes_ask, observed.no_bid,
                observed.no_ask, observed.last_price, observed.volume, observed.open_interest, observed.settlement_value
            ) AS is_same
        INTO previous
        FROM catalog.market_versions AS stored
        WHERE stored.market_ticker = observed.market_ticker
            AND stored.valid_from <= observed.valid_from
        ORDER BY stored.valid_from DESC
        LIMIT 1;
        IF previous.is_same THEN
            RETURN 'unchanged';
        END IF;
        IF previous.valid_from = observed.valid_from THEN
            RAISE EXCEPTION 'market % has another state at % already', observed.market_ticker, observed.valid_from
                USING
                    ERRCODE = 'unique_violation',
                    SCHEMA = 'catalog',
                    TABLE = 'market_versions',
                    CONSTRAINT = 'market_versions_pkey',
                    HINT = 'What was recorded first stays. Record a correction as seen later, be it by a microsecond.';
        END IF;
        EXIT WHEN turn = 2;

        PERFORM FROM catalog.markets AS stored WHERE stored.market_ticker = observed.market_ticker FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            -- An update that is never true still locks, should somebody else have made the stub meanwhile.
            INSERT INTO catalog.markets AS stored (
                market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at
            )
            VALUES (
                observed.market_ticker, 'kalshi', observed.market_ticker, true, observed.valid_from, clock_timestamp(),
                clock_timestamp()
            )
            ON CONFLICT (market_ticker) DO UPDATE SET updated_at = stored.updated_at WHERE false;
        END IF;
    END LOOP;

    SELECT
        stored.valid_from,
        (
            stored.status, stored.yes_price, stored.no_price, stored.yes_bid, stored.yes_ask, stored.no_bid, stored.no_ask,
            stored.last_price, stored.volume, stored.open_interest, stored.settlement_value
        ) IS NOT DISTINCT FROM (
            observed.status, observed.yes_price, observed.no_price, observed.yes_bid, observed.yes_ask, observed.no_bid,
            observed.no_ask, observed.last_price, observed.volume, observed.open_interest, observed.settlement_value
        ) AS is_same
    INTO following
    FROM catalog.market_versions AS stored
    WHERE stored.market_ticker = observed.market_ticker
        AND stored.valid_from > observed.valid_from
    ORDER BY stored.valid_from
    LIMIT 1;

    IF following.is_same THEN
        -- The next state began earlier than was known.
        UPDATE catalog.market_versions AS stored
        SET
            valid_from = CASE WHEN stored.valid_from = following.valid_from THEN observed.valid_from ELSE stored.valid_from END,
            valid_to = CASE WHEN stored.valid_from = following.valid_from THEN stored.valid_to ELSE observed.valid_from END
        WHERE stored.market_ticker = observed.market_ticker
            AND stored.valid_from IN (previous.valid_from, following.valid_from);
        RETURN 'filed';
    END IF;

    -- In one statement, at whose end the chain is whole again; the insert waits for the update, which makes room for it.
    WITH closed AS (
        UPDATE catalog.market_versions AS stored
        SET valid_to = observed.valid_from
        WHERE stored.market_ticker = observed.market_ticker
            AND stored.valid_from = previous.valid_from
        RETURNING stored.valid_from
    )
    INSERT INTO catalog.market_versions (
        market_ticker, valid_from, valid_to, status, yes_price, no_price, yes_bid, yes_ask, no_bid, no_ask, last_price, volume,
        open_interest, settlement_value, created_at
    )
    SELECT
        observed.market_ticker, observed.valid_from, following.valid_from, observed.status, observed.yes_price, observed.no_price,
        observed.yes_bid, observed.yes_ask, observed.no_bid, observed.no_ask, observed.last_price, observed.volume,
        observed.open_interest, observed.settlement_value, clock_timestamp()
    WHERE (SELECT count(*) FROM closed) >= 0;
    RETURN CASE WHEN following.valid_from IS NULL THEN 'written' ELSE 'filed' END;
END;
$function$;

COMMENT ON FUNCTION catalog.record_market_version(catalog.ticker,timestamp with time zone,text,market_data.price,market_data.price,market_data.price,market_data.price,market_data.price,market_data.price,market_data.price,market_data.contracts,market_data.contracts,market_data.price) IS 'Files the state of a market that was observed at a moment; null is unknown. Answers written (it is current now), unchanged (it was that already) or filed (it belongs before a later version). Another state at the same moment is refused (market_versions_pkey). An unknown market gets a stub.';

CREATE TABLE catalog.events (
    event_ticker catalog.ticker NOT NULL,
    platform_id text NOT NULL,
    series_ticker catalog.ticker,
    external_id text NOT NULL,
    category text,
    subcategory text,
    title text,
    sub_title text,
    description text,
    strike_date timestamp with time zone,
    open_time timestamp with time zone,
    close_time timestamp with time zone,
    status text,
    mutually_exclusive boolean,
    result jsonb,
    metadata jsonb,
    raw_json jsonb,
    is_stub boolean DEFAULT false NOT NULL,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (event_ticker),
    CONSTRAINT events_title_check CHECK (is_stub OR title IS NOT NULL)
);

CREATE INDEX events_close_time_idx ON catalog.events USING btree (close_time, event_ticker);

CREATE INDEX events_is_stub_idx ON catalog.events USING btree (event_ticker) WHERE is_stub;

CREATE INDEX events_series_ticker_close_time_idx ON catalog.events USING btree (series_ticker, close_time);

COMMENT ON TABLE catalog.events IS 'One question with one or more markets, such as the high in New York on 19 July.';
COMMENT ON COLUMN catalog.events.event_ticker IS 'The venue''s key of the event.';
COMMENT ON COLUMN catalog.events.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.events.series_ticker IS 'The series it belongs to; null while unknown.';
COMMENT ON COLUMN catalog.events.external_id IS 'The venue''s own identifier; for Kalshi the ticker.';
COMMENT ON COLUMN catalog.events.category IS 'The venue''s category, open text; null when it sends none.';
COMMENT ON COLUMN catalog.events.subcategory IS 'Finer category; null when unknown.';
COMMENT ON COLUMN catalog.events.title IS 'The question for people; null only in a stub.';
COMMENT ON COLUMN catalog.events.sub_title IS 'Second line of the title, such as the day.';
COMMENT ON COLUMN catalog.events.description IS 'Longer text; null when the venue sends none.';
COMMENT ON COLUMN catalog.events.strike_date IS 'The moment the question is about, UTC; null when the venue names none.';
COMMENT ON COLUMN catalog.events.open_time IS 'Earliest open_time of its known markets, UTC.';
COMMENT ON COLUMN catalog.events.close_time IS 'Latest close_time of its known markets, UTC.';
COMMENT ON COLUMN catalog.events.status IS 'The venue''s word for its state; null when it sends none.';
COMMENT ON COLUMN catalog.events.mutually_exclusive IS 'True when at most one of its markets can settle yes.';
COMMENT ON COLUMN catalog.events.result IS 'Final outcome data, where a source gives any.';
COMMENT ON COLUMN catalog.events.metadata IS 'The venue''s product metadata.';
COMMENT ON COLUMN catalog.events.raw_json IS 'The payload as it arrived without its nested markets, which are rows of their own; null in a stub.';
COMMENT ON COLUMN catalog.events.is_stub IS 'True while only the ticker is known, because a child arrived first.';
COMMENT ON COLUMN catalog.events.retrieved_at IS 'When the venue gave this state, UTC; the newest observation wins.';
COMMENT ON COLUMN catalog.events.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.events.updated_at IS 'When the content last changed, UTC; a poll that confirms it leaves this alone.';

CREATE TABLE catalog.market_lifecycle (
    market_ticker catalog.ticker NOT NULL,
    event_type text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    source market_data.source NOT NULL,
    details jsonb,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT market_lifecycle_pkey PRIMARY KEY (market_ticker, event_type, occurred_at)
);

COMMENT ON TABLE catalog.market_lifecycle IS 'Something happened to a market: activated, close time moved, determined, disputed, settled ...';
COMMENT ON COLUMN catalog.market_lifecycle.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.market_lifecycle.event_type IS 'The venue''s word for what happened, or ours where we saw a change between two polls.';
COMMENT ON COLUMN catalog.market_lifecycle.occurred_at IS 'When it happened, UTC; for a change seen between polls, when it was seen.';
COMMENT ON COLUMN catalog.market_lifecycle.source IS 'websocket when streamed, poll when seen as a change.';
COMMENT ON COLUMN catalog.market_lifecycle.details IS 'The message, or what changed from what to what.';
COMMENT ON COLUMN catalog.market_lifecycle.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN catalog.market_lifecycle.created_at IS 'When the row was written, UTC.';

CREATE TABLE catalog.market_versions (
    market_ticker catalog.ticker NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    row_current_ind boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED NOT NULL,
    status text NOT NULL,
    yes_price market_data.price,
    no_price market_data.price,
    yes_bid market_data.price,
    yes_ask market_data.price,
    no_bid market_data.price,
    no_ask market_data.price,
    last_price market_data.price,
    volume market_data.contracts,
    open_interest market_data.contracts,
    settlement_value market_data.price,
    spread numeric(7,6) GENERATED ALWAYS AS ((yes_ask::numeric - yes_bid::numeric)) STORED,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT market_versions_pkey PRIMARY KEY (market_ticker, valid_from),
    CONSTRAINT market_versions_valid_to_market_ticker_key UNIQUE (valid_to, market_ticker),
    CONSTRAINT market_versions_valid_to_check CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX market_versions_market_ticker_current_key ON catalog.market_versions USING btree (market_ticker) WHERE (valid_to IS NULL);

COMMENT ON TABLE catalog.market_versions IS 'One state of one market over [valid_from, valid_to): SCD type 2.';
COMMENT ON COLUMN catalog.market_versions.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.market_versions.valid_from IS 'When this state was first observed, UTC.';
COMMENT ON COLUMN catalog.market_versions.valid_to IS 'When the next state was observed, UTC, exclusive; null = current.';
COMMENT ON COLUMN catalog.market_versions.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN catalog.market_versions.status IS 'The venue''s word for the market''s state.';
COMMENT ON COLUMN catalog.market_versions.yes_price IS 'Price of YES in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.market_versions.no_price IS 'Price of NO in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.market_versions.yes_bid IS 'Best bid for YES in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.market_versions.yes_ask IS 'Best offer of YES in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.market_versions.no_bid IS 'Best bid for NO in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.market_versions.no_ask IS 'Best offer of NO in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.market_versions.last_price IS 'Last trade, dollars for YES.';
COMMENT ON COLUMN catalog.market_versions.volume IS 'Contracts traded so far.';
COMMENT ON COLUMN catalog.market_versions.open_interest IS 'Contracts outstanding.';
COMMENT ON COLUMN catalog.market_versions.settlement_value IS 'What one YES contract pays, in dollars; null while unsettled.';
COMMENT ON COLUMN catalog.market_versions.spread IS 'yes_ask - yes_bid in dollars; null when either is unknown.';
COMMENT ON COLUMN catalog.market_versions.created_at IS 'When the row was written, UTC.';
COMMENT ON CONSTRAINT market_versions_valid_to_market_ticker_key ON catalog.market_versions IS 'No two versions end at the same moment: no overlap.';

CREATE TABLE catalog.markets (
    market_ticker catalog.ticker NOT NULL,
    platform_id text NOT NULL,
    event_ticker catalog.ticker,
    series_ticker catalog.ticker,
    external_id text NOT NULL,
    market_type text,
    title text,
    subtitle text,
    yes_sub_title text,
    no_sub_title text,
    category text,
    subcategory text,
    strike_type text,
    floor_strike numeric(38,18),
    cap_strike numeric(38,18),
    functional_strike text,
    custom_strike jsonb,
    open_time timestamp with time zone,
    close_time timestamp with time zone,
    expiration_time timestamp with time zone,
    expected_expiration_time timestamp with time zone,
    status text,
    result text,
    settlement_value market_data.price,
    settlement_ts timestamp with time zone,
    price_ranges jsonb,
    last_price market_data.price,
    volume market_data.contracts,
    open_interest market_data.contracts,
    metadata jsonb,
    raw_json jsonb,
    is_stub boolean DEFAULT false NOT NULL,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT markets_pkey PRIMARY KEY (market_ticker),
    CONSTRAINT markets_title_check CHECK (is_stub OR title IS NOT NULL AND event_ticker IS NOT NULL AND status IS NOT NULL)
) WITH (fillfactor=60);

CREATE INDEX markets_close_time_idx ON catalog.markets USING btree (close_time, market_ticker);

CREATE INDEX markets_event_ticker_strike_type_floor_strike_cap_strike_idx ON catalog.markets USING btree (event_ticker, strike_type, floor_strike, cap_strike);

CREATE INDEX markets_expiration_time_idx ON catalog.markets USING btree (expiration_time);

CREATE INDEX markets_is_stub_idx ON catalog.markets USING btree (market_ticker) WHERE is_stub;

CREATE INDEX markets_series_ticker_event_ticker_idx ON catalog.markets USING btree (series_ticker, event_ticker);

CREATE INDEX markets_status_close_time_idx ON catalog.markets USING btree (status, close_time, market_ticker);

CREATE INDEX markets_unsettled_idx ON catalog.markets USING btree (market_ticker) WHERE (status <> 'finalized'::text);

COMMENT ON TABLE catalog.markets IS 'One contract that pays up to one dollar, such as: New York''s high on 19 July is 80 degrees or above.';
COMMENT ON COLUMN catalog.markets.market_ticker IS 'The venue''s key of the market.';
COMMENT ON COLUMN catalog.markets.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.markets.event_ticker IS 'The event it belongs to; null only in a stub.';
COMMENT ON COLUMN catalog.markets.series_ticker IS 'Copy of the event''s series, for joins without the event; null while unknown.';
COMMENT ON COLUMN catalog.markets.external_id IS 'The venue''s own identifier; for Kalshi the ticker.';
COMMENT ON COLUMN catalog.markets.market_type IS 'The venue''s word: binary, scalar.';
COMMENT ON COLUMN catalog.markets.title IS 'The question for people, may be empty for combos; null only in a stub.';
COMMENT ON COLUMN catalog.markets.subtitle IS 'Second line of the title.';
COMMENT ON COLUMN catalog.markets.yes_sub_title IS 'What YES means.';
COMMENT ON COLUMN catalog.markets.no_sub_title IS 'What NO means.';
COMMENT ON COLUMN catalog.markets.category IS 'Copy of the event''s category; null while unknown.';
COMMENT ON COLUMN catalog.markets.subcategory IS 'Finer category; null when unknown.';
COMMENT ON COLUMN catalog.markets.strike_type IS 'How strikes are compared, the venue''s word: greater, between, less, functional, custom, structured ...';
COMMENT ON COLUMN catalog.markets.floor_strike IS 'Lower strike, in the unit of the question (degrees, dollars ...); null when there is none.';
COMMENT ON COLUMN catalog.markets.cap_strike IS 'Upper strike, in the unit of the question; null when there is none.';
COMMENT ON COLUMN catalog.markets.functional_strike IS 'Strike given as an expression.';
COMMENT ON COLUMN catalog.markets.custom_strike IS 'Strike given as an object (a team, a candidate, the legs of a combo).';
COMMENT ON COLUMN catalog.markets.open_time IS 'Trading starts, UTC.';
COMMENT ON COLUMN catalog.markets.close_time IS 'Trading ends, UTC; the venue may move it.';
COMMENT ON COLUMN catalog.markets.expiration_time IS 'Latest moment of expiration, UTC.';
COMMENT ON COLUMN catalog.markets.expected_expiration_time IS 'When the venue expects to know the outcome, UTC.';
COMMENT ON COLUMN catalog.markets.status IS 'The venue''s word: initialized, inactive, active, closed, determined, disputed, amended, finalized ...; null only in a stub.';
COMMENT ON COLUMN catalog.markets.result IS 'The venue''s word: yes, no, scalar ...; null while undetermined.';
COMMENT ON COLUMN catalog.markets.settlement_value IS 'What one YES contract pays, in dollars; null while unsettled.';
COMMENT ON COLUMN catalog.markets.settlement_ts IS 'When it was settled, UTC.';
COMMENT ON COLUMN catalog.markets.price_ranges IS 'Valid limit prices: array of start, end and step in dollars. The truth about ticks; names of structures change.';
COMMENT ON COLUMN catalog.markets.last_price IS 'Last trade as of retrieved_at, dollars for YES; 0 before the first trade.';
COMMENT ON COLUMN catalog.markets.volume IS 'Contracts traded so far as of retrieved_at.';
COMMENT ON COLUMN catalog.markets.open_interest IS 'Contracts outstanding as of retrieved_at.';
COMMENT ON COLUMN catalog.markets.metadata IS 'Further facts that have no column and are not the venue''s payload.';
COMMENT ON COLUMN catalog.markets.raw_json IS 'The payload as it arrived, every field; null in a stub.';
COMMENT ON COLUMN catalog.markets.is_stub IS 'True while only the ticker is known, because a child arrived first.';
COMMENT ON COLUMN catalog.markets.retrieved_at IS 'When the venue gave this state, UTC; the newest observation wins.';
COMMENT ON COLUMN catalog.markets.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.markets.updated_at IS 'When the content last changed, UTC; a poll that confirms it leaves this alone.';

CREATE TABLE catalog.platforms (
    platform_id text NOT NULL,
    platform_type text NOT NULL,
    display_name text NOT NULL,
    base_url text,
    websocket_url text,
    api_version text,
    auth_method text,
    fees_structure jsonb,
    status text DEFAULT 'active'::text NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT platforms_pkey PRIMARY KEY (platform_id),
    CONSTRAINT platforms_platform_type_check CHECK (platform_type = ANY (ARRAY['trading'::text, 'data_source'::text])),
    CONSTRAINT platforms_status_check CHECK (status = ANY (ARRAY['active'::text, 'inactive'::text]))
);

COMMENT ON TABLE catalog.platforms IS 'A venue that trades contracts, or a source of data about them.';
COMMENT ON COLUMN catalog.platforms.platform_id IS 'Our short name of the venue: kalshi, polymarket.';
COMMENT ON COLUMN catalog.platforms.platform_type IS 'trading or data_source.';
COMMENT ON COLUMN catalog.platforms.display_name IS 'Name for people.';
COMMENT ON COLUMN catalog.platforms.base_url IS 'Root of the REST interface.';
COMMENT ON COLUMN catalog.platforms.websocket_url IS 'Root of the streaming interface.';
COMMENT ON COLUMN catalog.platforms.api_version IS 'Version of the interface that base_url speaks.';
COMMENT ON COLUMN catalog.platforms.auth_method IS 'How keyed calls are signed: rsa_pss, api_key, wallet.';
COMMENT ON COLUMN catalog.platforms.fees_structure IS 'The venue''s fee rules; for Kalshi the factor of the quadratic fee: factor x price x (1 - price) dollars a contract.';
COMMENT ON COLUMN catalog.platforms.status IS 'active or inactive: whether we collect from it.';
COMMENT ON COLUMN catalog.platforms.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.platforms.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE catalog.series (
    series_ticker catalog.ticker NOT NULL,
    platform_id text NOT NULL,
    external_id text NOT NULL,
    category text,
    subcategory text,
    title text,
    frequency text,
    tags text[],
    fee_type text,
    fee_multiplier numeric(12,6),
    settlement_sources jsonb,
    metadata jsonb,
    raw_json jsonb,
    is_stub boolean DEFAULT false NOT NULL,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT series_pkey PRIMARY KEY (series_ticker),
    CONSTRAINT series_title_check CHECK (is_stub OR title IS NOT NULL)
);

CREATE INDEX series_is_stub_idx ON catalog.series USING btree (series_ticker) WHERE is_stub;

COMMENT ON TABLE catalog.series IS 'A recurring kind of event, such as the daily high temperature in New York.';
COMMENT ON COLUMN catalog.series.series_ticker IS 'The venue''s key of the series.';
COMMENT ON COLUMN catalog.series.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.series.external_id IS 'The venue''s own identifier; for Kalshi the ticker. Not unique: vendors reuse and drift.';
COMMENT ON COLUMN catalog.series.category IS 'The venue''s category, open text; null in a stub.';
COMMENT ON COLUMN catalog.series.subcategory IS 'Finer category of ours or the venue''s; null when unknown.';
COMMENT ON COLUMN catalog.series.title IS 'Title for people; null only in a stub.';
COMMENT ON COLUMN catalog.series.frequency IS 'How often events occur, the venue''s free text (daily, hourly, one_off, custom ...).';
COMMENT ON COLUMN catalog.series.tags IS 'The venue''s tags, in its order; null when it sends none.';
COMMENT ON COLUMN catalog.series.fee_type IS 'The venue''s fee rule by name, open text: quadratic, quadratic_with_maker_fees, flat ...';
COMMENT ON COLUMN catalog.series.fee_multiplier IS 'Factor on the venue''s fee, 1 = the full fee.';
COMMENT ON COLUMN catalog.series.settlement_sources IS 'Who decides the outcome: array of name and url.';
COMMENT ON COLUMN catalog.series.metadata IS 'The venue''s product metadata.';
COMMENT ON COLUMN catalog.series.raw_json IS 'The payload as it arrived, every field; null in a stub.';
COMMENT ON COLUMN catalog.series.is_stub IS 'True while only the ticker is known, because a child arrived first.';
COMMENT ON COLUMN catalog.series.retrieved_at IS 'When the venue gave this state, UTC; the newest observation wins.';
COMMENT ON COLUMN catalog.series.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.series.updated_at IS 'When the content last changed, UTC; a poll that confirms it leaves this alone.';

CREATE TABLE catalog.settlements (
    market_ticker catalog.ticker NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    platform_id text NOT NULL,
    event_ticker catalog.ticker,
    outcome text NOT NULL,
    payout market_data.price,
    final_yes_price market_data.price,
    final_no_price market_data.price,
    yes_payout market_data.price,
    no_payout market_data.price,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT settlements_pkey PRIMARY KEY (market_ticker, settled_at),
    CONSTRAINT settlements_outcome_check CHECK (outcome <> ''::text),
    CONSTRAINT settlements_yes_payout_no_payout_check CHECK ((yes_payout::numeric + no_payout::numeric) = 1::numeric)
);

CREATE INDEX settlements_event_ticker_idx ON catalog.settlements USING btree (event_ticker);

CREATE INDEX settlements_settled_at_idx ON catalog.settlements USING btree (settled_at);

COMMENT ON TABLE catalog.settlements IS 'An outcome that was declared; rows are only added, an amended result is a new row. See final_settlements.';
COMMENT ON COLUMN catalog.settlements.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.settlements.settled_at IS 'When the venue settled it, UTC.';
COMMENT ON COLUMN catalog.settlements.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.settlements.event_ticker IS 'The event it belongs to.';
COMMENT ON COLUMN catalog.settlements.outcome IS 'yes, no, scalar or void; the venue''s word, so a new one is stored too.';
COMMENT ON COLUMN catalog.settlements.payout IS 'Dollars that one contract on the winning side pays: 1 for yes and no, the settlement value for scalar, null when unknown.';
COMMENT ON COLUMN catalog.settlements.final_yes_price IS 'Last trade before settlement, dollars for YES; null when it never traded.';
COMMENT ON COLUMN catalog.settlements.final_no_price IS 'Last trade before settlement, dollars for NO; null when it never traded.';
COMMENT ON COLUMN catalog.settlements.yes_payout IS 'Dollars that one YES contract pays; null when unknown.';
COMMENT ON COLUMN catalog.settlements.no_payout IS 'Dollars that one NO contract pays; null when unknown.';
COMMENT ON COLUMN catalog.settlements.retrieved_at IS 'When the venue told us, UTC.';
COMMENT ON COLUMN catalog.settlements.created_at IS 'When the row was written, UTC.';

CREATE TABLE catalog.stations (
    station_id text NOT NULL,
    name text NOT NULL,
    latitude numeric(9,6) NOT NULL,
    longitude numeric(9,6) NOT NULL,
    elevation numeric(7,2),
    timezone text NOT NULL,
    series_tickers text[] DEFAULT '{}'::text[] NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT stations_pkey PRIMARY KEY (station_id),
    CONSTRAINT stations_latitude_check CHECK (latitude >= '-90'::integer::numeric AND latitude <= 90::numeric),
    CONSTRAINT stations_longitude_check CHECK (longitude >= '-180'::integer::numeric AND longitude <= 180::numeric)
);

COMMENT ON TABLE catalog.stations IS 'A weather station whose reading settles one or more series.';
COMMENT ON COLUMN catalog.stations.station_id IS 'ICAO or network code, such as KNYC.';
COMMENT ON COLUMN catalog.stations.name IS 'Name for people.';
COMMENT ON COLUMN catalog.stations.latitude IS 'Degrees north.';
COMMENT ON COLUMN catalog.stations.longitude IS 'Degrees east.';
COMMENT ON COLUMN catalog.stations.elevation IS 'Metres above sea level; null when unknown.';
COMMENT ON COLUMN catalog.stations.timezone IS 'IANA name of the zone whose calendar day the reading belongs to.';
COMMENT ON COLUMN catalog.stations.series_tickers IS 'The series that settle on this station.';
COMMENT ON COLUMN catalog.stations.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.stations.updated_at IS 'When the row last changed, UTC.';

CREATE VIEW catalog.current_markets AS
 SELECT markets.market_ticker,
    markets.platform_id,
    markets.event_ticker,
    markets.series_ticker,
    markets.title,
    markets.category,
    markets.close_time,
    markets.result,
    market_versions.valid_from,
    COALESCE(market_versions.status, markets.status) AS status,
    market_versions.yes_price,
    market_versions.no_price,
    market_versions.yes_bid,
    market_versions.yes_ask,
    market_versions.no_bid,
    market_versions.no_ask,
    COALESCE(market_versions.last_price, markets.last_price) AS last_price,
    COALESCE(market_versions.volume, markets.volume) AS volume,
    COALESCE(market_versions.open_interest, markets.open_interest) AS open_interest,
    COALESCE(market_versions.settlement_value, markets.settlement_value) AS settlement_value,
    market_versions.spread
   FROM catalog.markets
     LEFT JOIN catalog.market_versions ON market_versions.market_ticker::text = markets.market_ticker::text AND market_versions.valid_to IS NULL;

COMMENT ON VIEW catalog.current_markets IS 'Each market with its current version; quotes are null where no version has been recorded yet.';
COMMENT ON COLUMN catalog.current_markets.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.current_markets.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.current_markets.event_ticker IS 'The event it belongs to; null only in a stub.';
COMMENT ON COLUMN catalog.current_markets.series_ticker IS 'The series it belongs to; null while unknown.';
COMMENT ON COLUMN catalog.current_markets.title IS 'The question for people; null only in a stub.';
COMMENT ON COLUMN catalog.current_markets.category IS 'The event''s category; null while unknown.';
COMMENT ON COLUMN catalog.current_markets.close_time IS 'Trading ends, UTC.';
COMMENT ON COLUMN catalog.current_markets.result IS 'The venue''s word for the outcome; null while undetermined.';
COMMENT ON COLUMN catalog.current_markets.valid_from IS 'When the current version was first observed, UTC; null without a version.';
COMMENT ON COLUMN catalog.current_markets.status IS 'The venue''s word for the state.';
COMMENT ON COLUMN catalog.current_markets.yes_price IS 'Price of YES in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.current_markets.no_price IS 'Price of NO in dollars as the venue shows it.';
COMMENT ON COLUMN catalog.current_markets.yes_bid IS 'Best bid for YES in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.current_markets.yes_ask IS 'Best offer of YES in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.current_markets.no_bid IS 'Best bid for NO in dollars, 0 when nobody bids.';
COMMENT ON COLUMN catalog.current_markets.no_ask IS 'Best offer of NO in dollars, 1 when nobody offers.';
COMMENT ON COLUMN catalog.current_markets.last_price IS 'Last trade, dollars for YES.';
COMMENT ON COLUMN catalog.current_markets.volume IS 'Contracts traded so far.';
COMMENT ON COLUMN catalog.current_markets.open_interest IS 'Contracts outstanding.';
COMMENT ON COLUMN catalog.current_markets.settlement_value IS 'What one YES contract pays, in dollars; null while unsettled.';
COMMENT ON COLUMN catalog.current_markets.spread IS 'yes_ask - yes_bid in dollars.';

CREATE VIEW catalog.final_settlements AS
 SELECT DISTINCT ON (market_ticker) market_ticker,
    settled_at,
    platform_id,
    event_ticker,
    outcome,
    payout,
    final_yes_price,
    final_no_price,
    yes_payout,
    no_payout
   FROM catalog.settlements
  ORDER BY market_ticker, settled_at DESC;

COMMENT ON VIEW catalog.final_settlements IS 'The last declared outcome of each settled market.';
COMMENT ON COLUMN catalog.final_settlements.market_ticker IS 'The market.';
COMMENT ON COLUMN catalog.final_settlements.settled_at IS 'When the venue settled it, UTC.';
COMMENT ON COLUMN catalog.final_settlements.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.final_settlements.event_ticker IS 'The event it belongs to.';
COMMENT ON COLUMN catalog.final_settlements.outcome IS 'yes, no, scalar or void.';
COMMENT ON COLUMN catalog.final_settlements.payout IS 'Dollars that one contract on the winning side pays.';
COMMENT ON COLUMN catalog.final_settlements.final_yes_price IS 'Last trade before settlement, dollars for YES.';
COMMENT ON COLUMN catalog.final_settlements.final_no_price IS 'Last trade before settlement, dollars for NO.';
COMMENT ON COLUMN catalog.final_settlements.yes_payout IS 'Dollars that one YES contract pays.';
COMMENT ON COLUMN catalog.final_settlements.no_payout IS 'Dollars that one NO contract pays.';

CREATE DOMAIN market_data.bin_width AS numeric(7,6)
    CONSTRAINT bin_width_range_check CHECK (VALUE > 0::numeric AND VALUE <= 1::numeric);

COMMENT ON DOMAIN market_data.bin_width IS 'Width of the bins in which prices are counted: dollars, above 0 to 1, six decimals.';

CREATE DOMAIN market_data.side AS text
    CONSTRAINT side_word_check CHECK (VALUE = ANY (ARRAY['yes'::text, 'no'::text]));

COMMENT ON DOMAIN market_data.side IS 'The side of a binary contract: yes or no.';

CREATE OR REPLACE FUNCTION market_data.create_month_partitions(parent regclass, moments timestamp with time zone[])
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET "TimeZone" TO 'UTC'
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    month       timestamptz;
    room        text;
    parent_name text;
    partition   text;
    created     integer := 0;
BEGIN
    SELECT n.nspname, c.relname INTO STRICT room, parent_name
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = parent;

    FOR month IN
        SELECT DISTINCT date_trunc('month', moment) FROM unnest(moments) AS moment WHERE moment IS NOT NULL ORDER BY 1
    LOOP
        partition := parent_name || to_char(month, '"_"YYYY"_"MM');
        CONTINUE WHEN to_regclass(format('%I.%I', room, partition)) IS NOT NULL;

        -- Two loaders may miss the same month at once: the second waits here and then finds it made. Not an advisory lock: only
        -- the lock of a table makes the session hear of tables that others have made meanwhile. ATTACH takes this one anyway.
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
        CONTINUE WHEN to_regclass(format('%I.%I', room, partition)) IS NOT NULL;

        -- Created apart and attached: CREATE TABLE ... PARTITION OF would lock the parent against every reader.
        EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)',
                       room, partition, parent);
        -- Room for a quote's next sight on the page of its row: seen_again.
        IF parent_name = 'price_snapshots' THEN
            EXECUTE format('ALTER TABLE %I.%I SET (fillfactor = 70)', room, partition);
        END IF;
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                       parent, room, partition, month, month + interval '1 month');
        EXECUTE format('COMMENT ON TABLE %I.%I IS %L', room, partition,
                       format('%s of %s, UTC.', parent_name, to_char(month, 'YYYY-MM')));
        created := created + 1;
    END LOOP;
    RETURN created;
END;
$function$;

COMMENT ON FUNCTION market_data.create_month_partitions(regclass,timestamp with time zone[]) IS 'Makes the monthly partitions (UTC months) that the given moments need and that are missing; returns how many it made.';

REVOKE EXECUTE ON FUNCTION market_data.create_month_partitions(regclass,timestamp with time zone[]) FROM PUBLIC;

CREATE TABLE market_data.candlesticks (
    market_ticker catalog.ticker NOT NULL,
    end_period_ts timestamp with time zone NOT NULL,
    period_interval_minutes smallint DEFAULT 1 NOT NULL,
    yes_bid_open market_data.price,
    yes_bid_high market_data.price,
    yes_bid_low market_data.price,
    yes_bid_close market_data.price,
    yes_ask_open market_data.price,
    yes_ask_high market_data.price,
    yes_ask_low market_data.price,
    yes_ask_close market_data.price,
    price_open market_data.price,
    price_high market_data.price,
    price_low market_data.price,
    price_close market_data.price,
    price_mean market_data.price,
    price_previous market_data.price,
    volume market_data.contracts,
    open_interest market_data.contracts,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    raw_json jsonb,
    CONSTRAINT candlesticks_pkey PRIMARY KEY (market_ticker, end_period_ts, period_interval_minutes),
    CONSTRAINT candlesticks_period_interval_minutes_check CHECK (period_interval_minutes = ANY (ARRAY[1, 60, 1440])),
    CONSTRAINT candlesticks_price_low_price_high_check CHECK (price_low::numeric <= price_high::numeric),
    CONSTRAINT candlesticks_yes_ask_low_yes_ask_high_check CHECK (yes_ask_low::numeric <= yes_ask_high::numeric),
    CONSTRAINT candlesticks_yes_bid_low_yes_bid_high_check CHECK (yes_bid_low::numeric <= yes_bid_high::numeric)
) PARTITION BY RANGE (end_period_ts);

CREATE INDEX candlesticks_end_period_ts_idx ON market_data.candlesticks USING btree (end_period_ts);

COMMENT ON TABLE market_data.candlesticks IS 'Quotes and trades of one market over one period; sparse, monthly partitions by end_period_ts.';
COMMENT ON COLUMN market_data.candlesticks.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.candlesticks.end_period_ts IS 'End of the period, UTC, inclusive; daily bars end at midnight US Eastern.';
COMMENT ON COLUMN market_data.candlesticks.period_interval_minutes IS 'Length of the period in minutes: 1, 60 or 1440.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_open IS 'Best bid for YES at the start of the period, dollars; 0 when nobody bids.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_high IS 'Highest best bid for YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_low IS 'Lowest best bid for YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_bid_close IS 'Best bid for YES at the end, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_open IS 'Best offer of YES at the start, dollars; 1 when nobody offers.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_high IS 'Highest best offer of YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_low IS 'Lowest best offer of YES, dollars.';
COMMENT ON COLUMN market_data.candlesticks.yes_ask_close IS 'Best offer of YES at the end, dollars.';
COMMENT ON COLUMN market_data.candlesticks.price_open IS 'First trade of the period, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_high IS 'Highest trade, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_low IS 'Lowest trade, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_close IS 'Last trade, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_mean IS 'Mean trade price as the exchange gives it, dollars for YES; null when nothing traded.';
COMMENT ON COLUMN market_data.candlesticks.price_previous IS 'Last trade before the period, dollars for YES; null before the first trade.';
COMMENT ON COLUMN market_data.candlesticks.volume IS 'Contracts traded in the period.';
COMMENT ON COLUMN market_data.candlesticks.open_interest IS 'Contracts outstanding at the end.';
COMMENT ON COLUMN market_data.candlesticks.retrieved_at IS 'When the exchange gave this state, UTC; the newest wins, because the candle of an open period still grows.';
COMMENT ON COLUMN market_data.candlesticks.raw_json IS 'The last payload that was kept, as it arrived; kept on request only, null otherwise.';

CREATE TABLE market_data.orderbook_deltas (
    market_ticker catalog.ticker NOT NULL,
    delta_time timestamp with time zone NOT NULL,
    sequence bigint NOT NULL,
    sid bigint NOT NULL,
    side market_data.side NOT NULL,
    price market_data.price NOT NULL,
    delta numeric(18,2) NOT NULL,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT orderbook_deltas_pkey PRIMARY KEY (market_ticker, delta_time, sequence)
) PARTITION BY RANGE (delta_time);

COMMENT ON TABLE market_data.orderbook_deltas IS 'A change of one level of one order book; monthly partitions by delta_time.';
COMMENT ON COLUMN market_data.orderbook_deltas.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.orderbook_deltas.delta_time IS 'When the level changed, UTC.';
COMMENT ON COLUMN market_data.orderbook_deltas.sequence IS 'Sequence number within the subscription, over all its markets and control frames.';
COMMENT ON COLUMN market_data.orderbook_deltas.sid IS 'Subscription of the stream that sent it.';
COMMENT ON COLUMN market_data.orderbook_deltas.side IS 'yes: a bid for YES changed; no: a bid for NO.';
COMMENT ON COLUMN market_data.orderbook_deltas.price IS 'The level, dollars for that side.';
COMMENT ON COLUMN market_data.orderbook_deltas.delta IS 'Contracts added (positive) or taken away (negative).';
COMMENT ON COLUMN market_data.orderbook_deltas.retrieved_at IS 'When it reached us, UTC.';

CREATE TABLE market_data.orderbook_snapshots (
    market_ticker catalog.ticker NOT NULL,
    snapshot_time timestamp with time zone NOT NULL,
    source market_data.source NOT NULL,
    sid bigint,
    sequence bigint,
    yes_bid_prices numeric(7,6)[] NOT NULL,
    yes_bid_quantities numeric(18,2)[] NOT NULL,
    no_bid_prices numeric(7,6)[] NOT NULL,
    no_bid_quantities numeric(18,2)[] NOT NULL,
    best_yes_bid market_data.price GENERATED ALWAYS AS (yes_bid_prices[cardinality(yes_bid_prices)]) STORED,
    best_no_bid market_data.price GENERATED ALWAYS AS (no_bid_prices[cardinality(no_bid_prices)]) STORED,
    best_yes_ask market_data.price GENERATED ALWAYS AS ((1::numeric - no_bid_prices[cardinality(no_bid_prices)])) STORED,
    best_no_ask market_data.price GENERATED ALWAYS AS ((1::numeric - yes_bid_prices[cardinality(yes_bid_prices)])) STORED,
    yes_depth market_data.contracts NOT NULL,
    no_depth market_data.contracts NOT NULL,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    raw_json jsonb,
    CONSTRAINT orderbook_snapshots_pkey PRIMARY KEY (market_ticker, snapshot_time),
    CONSTRAINT orderbook_snapshots_no_bid_levels_check CHECK (cardinality(no_bid_prices) = cardinality(no_bid_quantities) AND array_position(no_bid_prices, NULL::numeric) IS NULL AND array_position(no_bid_quantities, NULL::numeric) IS NULL),
    CONSTRAINT orderbook_snapshots_yes_bid_levels_check CHECK (cardinality(yes_bid_prices) = cardinality(yes_bid_quantities) AND array_position(yes_bid_prices, NULL::numeric) IS NULL AND array_position(yes_bid_quantities, NULL::numeric) IS NULL)
) PARTITION BY RANGE (snapshot_time);

CREATE INDEX orderbook_snapshots_sid_sequence_idx ON market_data.orderbook_snapshots USING btree (sid, sequence) WHERE (sequence IS NOT NULL);

CREATE INDEX orderbook_snapshots_snapshot_time_idx ON market_data.orderbook_snapshots USING btree (snapshot_time);

COMMENT ON TABLE market_data.orderbook_snapshots IS 'A whole order book at one moment: bids for YES and for NO; monthly partitions by snapshot_time.';
COMMENT ON COLUMN market_data.orderbook_snapshots.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.orderbook_snapshots.snapshot_time IS 'When the book was seen, UTC.';
COMMENT ON COLUMN market_data.orderbook_snapshots.source IS 'poll, websocket or backfill.';
COMMENT ON COLUMN market_data.orderbook_snapshots.sid IS 'Subscription of the stream that sent it; null when polled.';
COMMENT ON COLUMN market_data.orderbook_snapshots.sequence IS 'Sequence number within the subscription; null when polled.';
COMMENT ON COLUMN market_data.orderbook_snapshots.yes_bid_prices IS 'Prices bid for YES in dollars, ascending: the best is the last; empty when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.yes_bid_quantities IS 'Contracts bid at each of yes_bid_prices.';
COMMENT ON COLUMN market_data.orderbook_snapshots.no_bid_prices IS 'Prices bid for NO in dollars, ascending: the best is the last; empty when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.no_bid_quantities IS 'Contracts bid at each of no_bid_prices.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_yes_bid IS 'Best bid for YES in dollars; null when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_no_bid IS 'Best bid for NO in dollars; null when nobody bids.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_yes_ask IS 'Best offer of YES in dollars, one minus the best bid for NO; null when nobody offers.';
COMMENT ON COLUMN market_data.orderbook_snapshots.best_no_ask IS 'Best offer of NO in dollars, one minus the best bid for YES; null when nobody offers.';
COMMENT ON COLUMN market_data.orderbook_snapshots.yes_depth IS 'Contracts bid for YES over all levels.';
COMMENT ON COLUMN market_data.orderbook_snapshots.no_depth IS 'Contracts bid for NO over all levels.';
COMMENT ON COLUMN market_data.orderbook_snapshots.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN market_data.orderbook_snapshots.raw_json IS 'The last payload that was kept, as it arrived; kept on request only, null otherwise.';

CREATE TABLE market_data.price_snapshots (
    market_ticker catalog.ticker NOT NULL,
    snapshot_time timestamp with time zone NOT NULL,
    source market_data.source NOT NULL,
    sequence bigint,
    yes_bid market_data.price,
    yes_ask market_data.price,
    no_bid market_data.price,
    no_ask market_data.price,
    last_price market_data.price,
    volume market_data.contracts,
    volume_24h market_data.contracts,
    open_interest market_data.contracts,
    liquidity market_data.money,
    status text,
    title text,
    category text,
    midpoint numeric(8,7) GENERATED ALWAYS AS (((yes_bid::numeric + yes_ask::numeric) / 2::numeric)) STORED,
    spread numeric(7,6) GENERATED ALWAYS AS ((yes_ask::numeric - yes_bid::numeric)) STORED,
    implied_probability numeric(8,7) GENERATED ALWAYS AS (
CASE
    WHEN yes_bid::numeric > 0::numeric AND yes_ask::numeric < 1::numeric THEN (yes_bid::numeric + yes_ask::numeric) / 2::numeric
    ELSE last_price::numeric
END) STORED,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    raw_json jsonb,
    seen_again timestamp with time zone[],
    CONSTRAINT price_snapshots_pkey PRIMARY KEY (market_ticker, snapshot_time, source),
    CONSTRAINT price_snapshots_bid_below_ask_check CHECK (yes_bid::numeric <= yes_ask::numeric),
    CONSTRAINT price_snapshots_seen_again_check CHECK (array_position(seen_again, NULL::timestamp with time zone) IS NULL),
    CONSTRAINT price_snapshots_seen_again_within_hours_check CHECK (source::text = 'poll'::text AND seen_again[1] > snapshot_time AND (seen_again[cardinality(seen_again)] - snapshot_time) <= '06:00:00'::interval OR seen_again IS NULL)
) PARTITION BY RANGE (snapshot_time);

CREATE INDEX price_snapshots_market_ticker_sequence_idx ON market_data.price_snapshots USING btree (market_ticker, sequence) WHERE (sequence IS NOT NULL);

CREATE INDEX price_snapshots_snapshot_time_idx ON market_data.price_snapshots USING btree (snapshot_time);

COMMENT ON TABLE market_data.price_snapshots IS 'One observed quote of one market, with each moment at which it was seen unchanged; monthly partitions by snapshot_time.';
COMMENT ON COLUMN market_data.price_snapshots.market_ticker IS 'The market.';
COMMENT ON COLUMN market_data.price_snapshots.snapshot_time IS 'When the quote was first seen, UTC; never earlier than it was known, so that an as-of read is honest. Again: seen_again.';
COMMENT ON COLUMN market_data.price_snapshots.source IS 'poll, websocket or backfill.';
COMMENT ON COLUMN market_data.price_snapshots.sequence IS 'Sequence number of the stream, for finding gaps; null where the channel has none.';
COMMENT ON COLUMN market_data.price_snapshots.yes_bid IS 'Best bid for YES in dollars, 0 when nobody bids, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.yes_ask IS 'Best offer of YES in dollars, 1 when nobody offers, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.no_bid IS 'Best bid for NO in dollars, 0 when nobody bids, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.no_ask IS 'Best offer of NO in dollars, 1 when nobody offers, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.last_price IS 'Last trade, dollars for YES; 0 before the first trade, null when not observed.';
COMMENT ON COLUMN market_data.price_snapshots.volume IS 'Contracts traded so far.';
COMMENT ON COLUMN market_data.price_snapshots.volume_24h IS 'Contracts traded in the last 24 hours.';
COMMENT ON COLUMN market_data.price_snapshots.open_interest IS 'Contracts outstanding.';
COMMENT ON COLUMN market_data.price_snapshots.liquidity IS 'The venue''s liquidity figure in dollars; dead since 2026 (always 0), negative in old data.';
COMMENT ON COLUMN market_data.price_snapshots.status IS 'The market''s status at that moment, the venue''s word.';
COMMENT ON COLUMN market_data.price_snapshots.title IS 'The market''s title at that moment, where kept.';
COMMENT ON COLUMN market_data.price_snapshots.category IS 'The market''s category at that moment, where kept.';
COMMENT ON COLUMN market_data.price_snapshots.midpoint IS 'Mean of bid and ask in dollars; says nothing where a side is empty.';
COMMENT ON COLUMN market_data.price_snapshots.spread IS 'yes_ask - yes_bid in dollars.';
COMMENT ON COLUMN market_data.price_snapshots.implied_probability IS 'Midpoint where both sides are quoted, else the last trade; 0 to 1.';
COMMENT ON COLUMN market_data.price_snapshots.retrieved_at IS 'When the first sight reached us, UTC.';
COMMENT ON COLUMN market_data.price_snapshots.raw_json IS 'The last payload that was kept, as it arrived; kept on request only, null otherwise.';
COMMENT ON COLUMN market_data.price_snapshots.seen_again IS 'Later moments at which a poll found the quote unchanged, ascending, UTC; null where it was seen once. Up to 6 hours after snapshot_time; each is also when that sight reached us.';

CREATE TABLE market_data.public_trades (
    market_ticker catalog.ticker NOT NULL,
    created_time timestamp with time zone NOT NULL,
    trade_id uuid NOT NULL,
    count market_data.contracts NOT NULL,
    yes_price market_data.price NOT NULL,
    no_price market_data.price NOT NULL,
    taker_side market_data.side,
    is_block_trade boolean DEFAULT false NOT NULL,
    retrieved_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    raw_json jsonb,
    CONSTRAINT public_trades_pkey PRIMARY KEY (market_ticker, created_time, trade_id),
    CONSTRAINT public_trades_yes_price_no_price_check CHECK ((yes_price::numeric + no_price::numeric) = 1::numeric)
) PARTITION BY RANGE (created_time);

CREATE INDEX public_trades_created_time_idx ON market_data.public_trades USING btree (created_time);

COMMENT ON TABLE market_data.public_trades IS 'One trade between two others; monthly partitions by created_time.';
COMMENT ON COLUMN market_data.public_trades.market_ticker IS 'The market; may be unknown to the catalogue.';
COMMENT ON COLUMN market_data.public_trades.created_time IS 'When it happened, UTC, to the microsecond.';
COMMENT ON COLUMN market_data.public_trades.trade_id IS 'The venue''s id of the trade, the only thing that identifies it.';
COMMENT ON COLUMN market_data.public_trades.count IS 'Contracts traded, 0.01 and up.';
COMMENT ON COLUMN market_data.public_trades.yes_price IS 'Dollars for YES.';
COMMENT ON COLUMN market_data.public_trades.no_price IS 'Dollars for NO; both sum to one.';
COMMENT ON COLUMN market_data.public_trades.taker_side IS 'The side that the taker bought; null when the venue does not say.';
COMMENT ON COLUMN market_data.public_trades.is_block_trade IS 'True for a negotiated block trade; false where the venue did not say, as before May 2026.';
COMMENT ON COLUMN market_data.public_trades.retrieved_at IS 'When it reached us, UTC.';
COMMENT ON COLUMN market_data.public_trades.raw_json IS 'The payload as it arrived; kept on request only, null otherwise.';

CREATE VIEW market_data.orphan_trades AS
 SELECT market_ticker,
    count(*) AS trades,
    sum(count::numeric)::numeric(24,2) AS contracts,
    min(created_time) AS first_trade_time,
    max(created_time) AS last_trade_time
   FROM market_data.public_trades
  WHERE NOT (EXISTS ( SELECT
           FROM catalog.markets
          WHERE markets.market_ticker::text = public_trades.market_ticker::text))
  GROUP BY market_ticker;

COMMENT ON VIEW market_data.orphan_trades IS 'Markets that traded and that the catalogue does not know.';
COMMENT ON COLUMN market_data.orphan_trades.market_ticker IS 'The unknown market.';
COMMENT ON COLUMN market_data.orphan_trades.trades IS 'How many trades are stored.';
COMMENT ON COLUMN market_data.orphan_trades.contracts IS 'Contracts traded in them.';
COMMENT ON COLUMN market_data.orphan_trades.first_trade_time IS 'The first of them, UTC.';
COMMENT ON COLUMN market_data.orphan_trades.last_trade_time IS 'The last of them, UTC.';

CREATE VIEW market_data.sequence_gaps AS
 WITH sequenced AS (
         SELECT 'price_snapshots'::text AS stream,
            price_snapshots.market_ticker::text AS counted_by,
            price_snapshots.snapshot_time AS seen_at,
            price_snapshots.sequence
           FROM market_data.price_snapshots
          WHERE price_snapshots.sequence IS NOT NULL
        UNION ALL
         SELECT 'orderbook'::text,
            orderbook_snapshots.sid::text AS sid,
            orderbook_snapshots.snapshot_time,
            orderbook_snapshots.sequence
           FROM market_data.orderbook_snapshots
          WHERE orderbook_snapshots.sequence IS NOT NULL
        UNION ALL
         SELECT 'orderbook'::text,
            orderbook_deltas.sid::text AS sid,
            orderbook_deltas.delta_time,
            orderbook_deltas.sequence
           FROM market_data.orderbook_deltas
        ), surroundings AS (
         SELECT sequenced.stream,
            sequenced.counted_by,
            sequenced.seen_at,
            sequenced.sequence,
            min(sequenced.sequence) OVER (arrived ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING) AS lowest_before,
            lead(sequenced.sequence) OVER arrived AS next_sequence
           FROM sequenced
          WINDOW arrived AS (PARTITION BY sequenced.stream, sequenced.counted_by ORDER BY sequenced.seen_at, sequenced.sequence)
        ), numbered AS (
         SELECT surroundings.stream,
            surroundings.counted_by,
            surroundings.seen_at,
            surroundings.sequence,
            count(*) FILTER (WHERE surroundings.sequence < (surroundings.lowest_before - 5) AND COALESCE(surroundings.next_sequence < surroundings.lowest_before, true)) OVER (PARTITION BY surroundings.stream, surroundings.counted_by ORDER BY surroundings.seen_at, surroundings.sequence) AS epoch
           FROM surroundings
        ), neighbours AS (
         SELECT numbered.stream,
            numbered.counted_by,
            lag(numbered.seen_at) OVER steps AS last_seen_at,
            numbered.seen_at,
            lag(numbered.sequence) OVER steps AS last_sequence,
            numbered.sequence
           FROM numbered
          WINDOW steps AS (PARTITION BY numbered.stream, numbered.counted_by, numbered.epoch ORDER BY numbered.sequence, numbered.seen_at)
        )
 SELECT stream,
    counted_by,
    last_seen_at,
    seen_at,
    last_sequence + 1 AS first_missing,
    sequence - 1 AS last_missing
   FROM neighbours
  WHERE sequence > (last_sequence + 1);

COMMENT ON VIEW market_data.sequence_gaps IS 'Numbers that a stream used up and that did not reach us, late ones and repetitions aside. The ticker stream counts within a market, the book stream within a subscription over all its markets; each begins again with its connection, which is no gap. Control frames take numbers too, so an orderbook gap may be one of them.';
COMMENT ON COLUMN market_data.sequence_gaps.stream IS 'price_snapshots or orderbook.';
COMMENT ON COLUMN market_data.sequence_gaps.counted_by IS 'What the sequence counts within: the market, or the subscription id.';
COMMENT ON COLUMN market_data.sequence_gaps.last_seen_at IS 'When the row numbered just before the gap was seen, UTC; after seen_at where one of both came late.';
COMMENT ON COLUMN market_data.sequence_gaps.seen_at IS 'When the row numbered just after the gap was seen, UTC.';
COMMENT ON COLUMN market_data.sequence_gaps.first_missing IS 'First sequence number that is missing.';
COMMENT ON COLUMN market_data.sequence_gaps.last_missing IS 'Last sequence number that is missing.';

CREATE OR REPLACE FUNCTION ops.refuse_ledger_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    -- A row that was written stays as it was, also in a purge; a purge may only take it away.
    IF TG_OP <> 'UPDATE' AND COALESCE(NULLIF(current_setting('kalshidb.allow_purge', true), '')::boolean, false) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% of %.% is refused: its rows are kept as they were written', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING
            ERRCODE = 'restrict_violation',
            SCHEMA = TG_TABLE_SCHEMA,
            TABLE = TG_TABLE_NAME,
            CONSTRAINT = TG_TABLE_NAME || '_append_only',
            DETAIL = CASE WHEN TG_LEVEL = 'ROW' THEN format('The row is %s.', left(to_jsonb(OLD)::text, 500)) ELSE 'The whole table was meant.' END,
            HINT = CASE
                WHEN TG_OP = 'UPDATE' THEN 'Insert a new row that corrects it.'
                ELSE 'To purge on purpose, say SET LOCAL kalshidb.allow_purge = on in the same transaction.'
            END;
END;
$function$;

COMMENT ON FUNCTION ops.refuse_ledger_change() IS 'Trigger of ledgers and configs: refuses to lose or change a row (constraint <table>_append_only), except a DELETE or TRUNCATE in a transaction that said SET LOCAL kalshidb.allow_purge = on.';

CREATE OR REPLACE FUNCTION ops.replace_config_override()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

COMMENT ON FUNCTION ops.replace_config_override() IS 'Trigger of ops.config_overrides: a new override ends the active one of its key, one writer of a key after the other.';

CREATE TABLE ops.ai_calls (
    provider text NOT NULL,
    call_id text NOT NULL,
    called_at timestamp with time zone NOT NULL,
    cost market_data.money NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT ai_calls_pkey PRIMARY KEY (provider, call_id),
    CONSTRAINT ai_calls_call_id_check CHECK (call_id <> ''::text),
    CONSTRAINT ai_calls_cost_check CHECK (cost::numeric >= 0::numeric),
    CONSTRAINT ai_calls_provider_check CHECK (provider <> ''::text)
);

CREATE INDEX ai_calls_called_at_idx ON ops.ai_calls USING btree (called_at);

COMMENT ON TABLE ops.ai_calls IS 'One paid call of an AI provider: what makes a retry countable once. The sums are in ops.ai_costs and outlive it.';
COMMENT ON COLUMN ops.ai_calls.provider IS 'Who was paid: xai, openai, anthropic ...';
COMMENT ON COLUMN ops.ai_calls.call_id IS 'The provider''s id of the call, or one of ours; the same in a retry.';
COMMENT ON COLUMN ops.ai_calls.called_at IS 'When it was made, UTC.';
COMMENT ON COLUMN ops.ai_calls.cost IS 'Dollars.';
COMMENT ON COLUMN ops.ai_calls.created_at IS 'When the row was written, UTC.';

CREATE TABLE ops.ai_costs (
    date date NOT NULL,
    provider text NOT NULL,
    total_cost market_data.money NOT NULL,
    num_calls bigint NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT ai_costs_pkey PRIMARY KEY (date, provider),
    CONSTRAINT ai_costs_num_calls_check CHECK (num_calls >= 0),
    CONSTRAINT ai_costs_provider_check CHECK (provider <> ''::text),
    CONSTRAINT ai_costs_total_cost_check CHECK (total_cost::numeric >= 0::numeric)
);

COMMENT ON TABLE ops.ai_costs IS 'What calls of AI providers cost on a day, all calls, also those that made no analysis.';
COMMENT ON COLUMN ops.ai_costs.date IS 'The day, UTC.';
COMMENT ON COLUMN ops.ai_costs.provider IS 'Who was paid: xai, openai, anthropic ...';
COMMENT ON COLUMN ops.ai_costs.total_cost IS 'Dollars.';
COMMENT ON COLUMN ops.ai_costs.num_calls IS 'Calls.';
COMMENT ON COLUMN ops.ai_costs.created_at IS 'When the day''s first call was written, UTC.';
COMMENT ON COLUMN ops.ai_costs.updated_at IS 'When the last of its calls was written, UTC.';

CREATE TABLE ops.backfill_checkpoints (
    job_name text NOT NULL,
    series_ticker text NOT NULL,
    event_ticker text NOT NULL,
    window_start_ts timestamp with time zone NOT NULL,
    window_end_ts timestamp with time zone NOT NULL,
    last_success_ts timestamp with time zone,
    fetched_through timestamp with time zone,
    status text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    notes text,
    error text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT backfill_checkpoints_pkey PRIMARY KEY (job_name, series_ticker, event_ticker),
    CONSTRAINT backfill_checkpoints_attempts_check CHECK (attempts >= 0),
    CONSTRAINT backfill_checkpoints_fetched_through_check CHECK (fetched_through >= window_start_ts AND fetched_through <= window_end_ts),
    CONSTRAINT backfill_checkpoints_status_check CHECK (status = ANY (ARRAY['running'::text, 'success'::text, 'failed'::text])),
    CONSTRAINT backfill_checkpoints_window_check CHECK (window_start_ts < window_end_ts)
);

COMMENT ON TABLE ops.backfill_checkpoints IS 'How far a backfill of one event (or of a whole series) got.';
COMMENT ON COLUMN ops.backfill_checkpoints.job_name IS 'The job, such as event_candlesticks_1m.';
COMMENT ON COLUMN ops.backfill_checkpoints.series_ticker IS 'The series.';
COMMENT ON COLUMN ops.backfill_checkpoints.event_ticker IS 'The event; empty text for a job over the whole series.';
COMMENT ON COLUMN ops.backfill_checkpoints.window_start_ts IS 'Start of what is to be fetched, UTC, inclusive.';
COMMENT ON COLUMN ops.backfill_checkpoints.window_end_ts IS 'End of what is to be fetched, UTC, exclusive.';
COMMENT ON COLUMN ops.backfill_checkpoints.last_success_ts IS 'When a piece was last stored, UTC; null before the first.';
COMMENT ON COLUMN ops.backfill_checkpoints.fetched_through IS 'Everything before this moment is stored, UTC. Not the last candle: candles are sparse.';
COMMENT ON COLUMN ops.backfill_checkpoints.status IS 'running, success or failed.';
COMMENT ON COLUMN ops.backfill_checkpoints.attempts IS 'How often it was begun.';
COMMENT ON COLUMN ops.backfill_checkpoints.notes IS 'Remarks for people.';
COMMENT ON COLUMN ops.backfill_checkpoints.error IS 'Why the last attempt failed; null otherwise.';
COMMENT ON COLUMN ops.backfill_checkpoints.created_at IS 'First begun, UTC.';
COMMENT ON COLUMN ops.backfill_checkpoints.updated_at IS 'Last changed, UTC.';

CREATE TABLE ops.circuit_breaker_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    breaker_type text NOT NULL,
    triggered_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    resolved_at timestamp with time zone,
    trigger_value jsonb,
    trip_count integer DEFAULT 1 NOT NULL,
    resolution_action text,
    notes text,
    CONSTRAINT circuit_breaker_events_pkey PRIMARY KEY (event_id),
    CONSTRAINT circuit_breaker_events_breaker_type_check CHECK (breaker_type = ANY (ARRAY['daily_loss_limit'::text, 'api_failures'::text, 'data_stale'::text, 'position_limit'::text, 'manual'::text])),
    CONSTRAINT circuit_breaker_events_resolution_action_check CHECK ((resolved_at IS NULL) = (resolution_action IS NULL)),
    CONSTRAINT circuit_breaker_events_resolved_at_check CHECK (resolved_at >= triggered_at),
    CONSTRAINT circuit_breaker_events_trip_count_check CHECK (trip_count >= 1)
);

CREATE UNIQUE INDEX circuit_breaker_events_open_key ON ops.circuit_breaker_events USING btree (breaker_type) WHERE (resolved_at IS NULL);

CREATE INDEX circuit_breaker_events_triggered_at_idx ON ops.circuit_breaker_events USING btree (triggered_at);

COMMENT ON TABLE ops.circuit_breaker_events IS 'A breaker that opened, and how it was closed again. While one is open, tripping it again only counts.';
COMMENT ON COLUMN ops.circuit_breaker_events.event_id IS 'Number of the event.';
COMMENT ON COLUMN ops.circuit_breaker_events.breaker_type IS 'daily_loss_limit, api_failures, data_stale, position_limit or manual.';
COMMENT ON COLUMN ops.circuit_breaker_events.triggered_at IS 'When it opened, UTC.';
COMMENT ON COLUMN ops.circuit_breaker_events.resolved_at IS 'When it was closed, UTC; null while open.';
COMMENT ON COLUMN ops.circuit_breaker_events.trigger_value IS 'What opened it: the measure and its limit.';
COMMENT ON COLUMN ops.circuit_breaker_events.trip_count IS 'How often it was tripped before it was closed; 1 = only when it opened.';
COMMENT ON COLUMN ops.circuit_breaker_events.resolution_action IS 'How it was closed; null while open.';
COMMENT ON COLUMN ops.circuit_breaker_events.notes IS 'Remarks for people.';

CREATE TABLE ops.config_overrides (
    override_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    config_key text NOT NULL,
    override_value jsonb NOT NULL,
    data_type text NOT NULL,
    reason text NOT NULL,
    applied_by text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    ended_at timestamp with time zone,
    active boolean GENERATED ALWAYS AS (ended_at IS NULL) STORED NOT NULL,
    CONSTRAINT config_overrides_pkey PRIMARY KEY (override_id),
    CONSTRAINT config_overrides_config_key_check CHECK (config_key ~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$'::text),
    CONSTRAINT config_overrides_data_type_check CHECK (data_type = ANY (ARRAY['float'::text, 'int'::text, 'bool'::text, 'string'::text, 'json'::text])),
    CONSTRAINT config_overrides_ended_at_check CHECK (ended_at >= applied_at),
    CONSTRAINT config_overrides_expires_at_check CHECK (expires_at > applied_at),
    CONSTRAINT config_overrides_override_value_check CHECK (
CASE data_type
    WHEN 'bool'::text THEN jsonb_typeof(override_value) = 'boolean'::text
    WHEN 'string'::text THEN jsonb_typeof(override_value) = 'string'::text
    WHEN 'int'::text THEN jsonb_typeof(override_value) = 'number'::text AND override_value::text !~ '[.eE]'::text
    WHEN 'float'::text THEN jsonb_typeof(override_value) = 'number'::text
    ELSE true
END)
);

CREATE UNIQUE INDEX config_overrides_config_key_active_key ON ops.config_overrides USING btree (config_key) WHERE (ended_at IS NULL);

CREATE INDEX config_overrides_config_key_applied_at_idx ON ops.config_overrides USING btree (config_key, applied_at);

CREATE TRIGGER config_overrides_replace BEFORE INSERT ON ops.config_overrides FOR EACH ROW WHEN (new.ended_at IS NULL) EXECUTE FUNCTION ops.replace_config_override();

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
COMMENT ON TRIGGER config_overrides_replace ON ops.config_overrides IS 'A new override replaces the active one; one that comes with its end (a record of the past) leaves it alone.';

CREATE TABLE ops.coverage (
    market_ticker text NOT NULL,
    kind text NOT NULL,
    period_interval_minutes smallint NOT NULL,
    covered tstzmultirange NOT NULL,
    run_id bigint,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT coverage_pkey PRIMARY KEY (market_ticker, kind, period_interval_minutes),
    CONSTRAINT coverage_covered_check CHECK (NOT isempty(covered)),
    CONSTRAINT coverage_kind_check CHECK (kind = ANY (ARRAY['candlesticks'::text, 'trades'::text, 'orderbook'::text])),
    CONSTRAINT coverage_period_interval_minutes_check CHECK (
CASE kind
    WHEN 'candlesticks'::text THEN period_interval_minutes = ANY (ARRAY[1, 60, 1440])
    ELSE period_interval_minutes = 0
END)
);

COMMENT ON TABLE ops.coverage IS 'Of which spans of time everything is stored, by market and kind; from fetches that reached their end, never from the rows.';
COMMENT ON COLUMN ops.coverage.market_ticker IS 'The market; empty text for all markets together.';
COMMENT ON COLUMN ops.coverage.kind IS 'candlesticks, trades or orderbook.';
COMMENT ON COLUMN ops.coverage.period_interval_minutes IS 'Length of the candlesticks in minutes; 0 for trades and order books.';
COMMENT ON COLUMN ops.coverage.covered IS 'The spans, half-open, UTC: every candlestick that ends, trade that happened, or change of the order book within them is stored; a span of order books begins with a snapshot.';
COMMENT ON COLUMN ops.coverage.run_id IS 'The run that added to it last.';
COMMENT ON COLUMN ops.coverage.updated_at IS 'When it last grew, UTC.';

CREATE TABLE ops.ingest_requests (
    run_id bigint NOT NULL,
    request_number bigint NOT NULL,
    url text NOT NULL,
    params jsonb NOT NULL,
    http_status integer,
    body_bytes bigint NOT NULL,
    retrieved_at timestamp with time zone NOT NULL,
    retrieved_until timestamp with time zone,
    CONSTRAINT ingest_requests_pkey PRIMARY KEY (run_id, request_number),
    CONSTRAINT ingest_requests_body_bytes_check CHECK (body_bytes >= 0),
    CONSTRAINT ingest_requests_request_number_check CHECK (request_number > 0),
    CONSTRAINT ingest_requests_retrieved_until_check CHECK (retrieved_until >= retrieved_at)
);

CREATE INDEX ingest_requests_retrieved_at_idx ON ops.ingest_requests USING btree (retrieved_at);

CREATE INDEX ingest_requests_span_idx ON ops.ingest_requests USING gist (tstzrange(retrieved_at, retrieved_until, '[]'::text)) WHERE (retrieved_until IS NOT NULL);

COMMENT ON TABLE ops.ingest_requests IS 'One answer that was taken in. A stored row came with the answer of its retrieved_at.';
COMMENT ON COLUMN ops.ingest_requests.run_id IS 'The run that asked.';
COMMENT ON COLUMN ops.ingest_requests.request_number IS 'Its place in the run, from 1.';
COMMENT ON COLUMN ops.ingest_requests.url IS 'What was asked, without its parameters; or the file.';
COMMENT ON COLUMN ops.ingest_requests.params IS 'The parameters, an object of text.';
COMMENT ON COLUMN ops.ingest_requests.http_status IS 'Status of the answer; null for a file or a frame of a stream.';
COMMENT ON COLUMN ops.ingest_requests.body_bytes IS 'Bytes of the answer.';
COMMENT ON COLUMN ops.ingest_requests.retrieved_at IS 'When the whole answer had arrived, UTC; the retrieved_at of its rows. Of a batch of frames or a file: of its first row.';
COMMENT ON COLUMN ops.ingest_requests.retrieved_until IS 'Of a batch of frames or a file: the retrieved_at of its last row, UTC; null for an answer, whose rows have one moment.';

CREATE TABLE ops.ingest_runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    source text NOT NULL,
    status text NOT NULL,
    rows_read bigint NOT NULL,
    rows_written bigint NOT NULL,
    rows_unchanged bigint NOT NULL,
    rows_rejected bigint NOT NULL,
    rows_by_kind jsonb NOT NULL,
    error text,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    duration interval GENERATED ALWAYS AS (finished_at - started_at) STORED,
    CONSTRAINT ingest_runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT ingest_runs_finished_at_check CHECK ((status = ANY (ARRAY['running'::text, 'abandoned'::text])) = (finished_at IS NULL)),
    CONSTRAINT ingest_runs_rows_check CHECK (LEAST(rows_read, rows_written, rows_unchanged, rows_rejected) >= 0),
    CONSTRAINT ingest_runs_status_check CHECK (status = ANY (ARRAY['running'::text, 'succeeded'::text, 'rejected_some'::text, 'truncated'::text, 'failed'::text, 'abandoned'::text]))
);

CREATE INDEX ingest_runs_running_idx ON ops.ingest_runs USING btree (run_id) WHERE (status = 'running'::text);

CREATE INDEX ingest_runs_started_at_idx ON ops.ingest_runs USING btree (started_at);

COMMENT ON TABLE ops.ingest_runs IS 'One load of data, from whatever source.';
COMMENT ON COLUMN ops.ingest_runs.run_id IS 'Number of the run; also the key of the advisory lock that the living run holds.';
COMMENT ON COLUMN ops.ingest_runs.source IS 'What was loaded: the command with its paths, or the address of the exchange.';
COMMENT ON COLUMN ops.ingest_runs.status IS 'running, succeeded, rejected_some (stored all but the rejected), truncated (stopped before the last page), failed, or abandoned (its process died).';
COMMENT ON COLUMN ops.ingest_runs.rows_read IS 'Objects read: written + unchanged + rejected.';
COMMENT ON COLUMN ops.ingest_runs.rows_written IS 'Objects inserted or changed.';
COMMENT ON COLUMN ops.ingest_runs.rows_unchanged IS 'Objects that were stored already, or are older than what is stored.';
COMMENT ON COLUMN ops.ingest_runs.rows_rejected IS 'Objects that could not be stored; see ops.rejected_payloads.';
COMMENT ON COLUMN ops.ingest_runs.rows_by_kind IS 'The same counts for each kind of object.';
COMMENT ON COLUMN ops.ingest_runs.error IS 'Why it failed, or where it was cut short; null otherwise.';
COMMENT ON COLUMN ops.ingest_runs.started_at IS 'Start, UTC.';
COMMENT ON COLUMN ops.ingest_runs.finished_at IS 'End, UTC; null while running and when abandoned.';
COMMENT ON COLUMN ops.ingest_runs.duration IS 'finished_at - started_at.';

CREATE TABLE ops.rejected_payloads (
    payload_sha256 text NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    context jsonb NOT NULL,
    errors jsonb NOT NULL,
    source text NOT NULL,
    run_id bigint,
    seen_count bigint NOT NULL,
    first_seen_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    resolved_at timestamp with time zone,
    CONSTRAINT rejected_payloads_pkey PRIMARY KEY (payload_sha256, kind),
    CONSTRAINT rejected_payloads_payload_sha256_check CHECK (payload_sha256 ~ '^[0-9a-f]{64}$'::text),
    CONSTRAINT rejected_payloads_seen_count_check CHECK (seen_count > 0)
);

CREATE INDEX rejected_payloads_open_idx ON ops.rejected_payloads USING btree (last_seen_at) WHERE (resolved_at IS NULL);

COMMENT ON TABLE ops.rejected_payloads IS 'What arrived and could not be stored, whole, with the reason for each field.';
COMMENT ON COLUMN ops.rejected_payloads.payload_sha256 IS 'SHA-256 (hex) of the payload and its context: a candle that is refused for two markets is two rows, and so is one of an unknown market from two files.';
COMMENT ON COLUMN ops.rejected_payloads.kind IS 'What it was taken for: market, candlestick, trade ..., or unrecognised, or file.';
COMMENT ON COLUMN ops.rejected_payloads.payload IS 'The bytes as they arrived; for an element of a larger answer its JSON. Text unless the file itself was broken.';
COMMENT ON COLUMN ops.rejected_payloads.context IS 'What the payload does not say itself and a retry needs: ticker, interval, time of observation.';
COMMENT ON COLUMN ops.rejected_payloads.errors IS 'Array of field, value, error and hint.';
COMMENT ON COLUMN ops.rejected_payloads.source IS 'Where it came from last: file and line and place in the document, or URL.';
COMMENT ON COLUMN ops.rejected_payloads.run_id IS 'The run that saw it last.';
COMMENT ON COLUMN ops.rejected_payloads.seen_count IS 'How often it was refused.';
COMMENT ON COLUMN ops.rejected_payloads.first_seen_at IS 'First refused, UTC.';
COMMENT ON COLUMN ops.rejected_payloads.last_seen_at IS 'Last refused, UTC.';
COMMENT ON COLUMN ops.rejected_payloads.resolved_at IS 'When a retry stored it, UTC; null while open.';

CREATE TABLE ops.retention_policies (
    table_name text NOT NULL,
    hot_for interval,
    warm_for interval,
    keep_for interval,
    archive_target text,
    reason text NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT retention_policies_pkey PRIMARY KEY (table_name),
    CONSTRAINT retention_policies_archive_target_check CHECK (archive_target = ANY (ARRAY['parquet'::text, 'none'::text])),
    CONSTRAINT retention_policies_order_check CHECK (hot_for > '00:00:00'::interval AND warm_for >= hot_for AND keep_for >= COALESCE(warm_for, hot_for)),
    CONSTRAINT retention_policies_table_name_check CHECK (table_name ~ '^[a-z_]+\.[a-z_]+$'::text)
);

COMMENT ON TABLE ops.retention_policies IS 'How long rows of a table stay where: hot in the database, warm compressed, cold in files, then gone.';
COMMENT ON COLUMN ops.retention_policies.table_name IS 'The table with its schema: market_data.price_snapshots.';
COMMENT ON COLUMN ops.retention_policies.hot_for IS 'Age up to which rows stay in their table; null = always.';
COMMENT ON COLUMN ops.retention_policies.warm_for IS 'Age up to which rows may be asked for by SQL, compressed or detached; null = as hot_for.';
COMMENT ON COLUMN ops.retention_policies.keep_for IS 'Age at which rows may be deleted everywhere; null = never.';
COMMENT ON COLUMN ops.retention_policies.archive_target IS 'Where rows go that are no longer hot: parquet, or none = they are deleted; null while hot_for is null.';
COMMENT ON COLUMN ops.retention_policies.reason IS 'Why so long.';
COMMENT ON COLUMN ops.retention_policies.updated_at IS 'When the policy last changed, UTC.';

CREATE TABLE ops.stream_gaps (
    found_at timestamp with time zone NOT NULL,
    channel text NOT NULL,
    sid bigint NOT NULL,
    run_id bigint NOT NULL,
    reason text NOT NULL,
    last_received_at timestamp with time zone,
    last_sequence bigint,
    next_sequence bigint,
    repaired_at timestamp with time zone,
    CONSTRAINT stream_gaps_pkey PRIMARY KEY (found_at, channel, sid),
    CONSTRAINT stream_gaps_last_received_at_check CHECK (last_received_at <= found_at),
    CONSTRAINT stream_gaps_next_sequence_check CHECK (next_sequence > (last_sequence + 1)),
    CONSTRAINT stream_gaps_reason_check CHECK (reason = ANY (ARRAY['sequence'::text, 'disconnect'::text, 'silence'::text, 'overflow'::text, 'channel_error'::text])),
    CONSTRAINT stream_gaps_repaired_at_check CHECK (repaired_at >= found_at)
);

COMMENT ON TABLE ops.stream_gaps IS 'Where a stream of the exchange broke off, or a number in it was missing: what was sent from last_received_at to repaired_at may not have reached us.';
COMMENT ON COLUMN ops.stream_gaps.found_at IS 'When the gap was noticed, UTC.';
COMMENT ON COLUMN ops.stream_gaps.channel IS 'Channel of the subscription: ticker, trade, orderbook_delta ...';
COMMENT ON COLUMN ops.stream_gaps.sid IS 'The subscription; its number begins anew with each connection.';
COMMENT ON COLUMN ops.stream_gaps.run_id IS 'The run that listened.';
COMMENT ON COLUMN ops.stream_gaps.reason IS 'sequence (a number was missing), disconnect, silence (nothing was heard any more), overflow (we were too slow) or channel_error (both: the exchange ended the subscription).';
COMMENT ON COLUMN ops.stream_gaps.last_received_at IS 'When the last frame before the gap arrived on the connection, UTC; null when there was none.';
COMMENT ON COLUMN ops.stream_gaps.last_sequence IS 'Number of the last frame before the gap; null in a channel without numbers.';
COMMENT ON COLUMN ops.stream_gaps.next_sequence IS 'Number of the first frame after it; null when the subscription ended.';
COMMENT ON COLUMN ops.stream_gaps.repaired_at IS 'When the subscription was whole again, UTC: of order books, a fresh snapshot of each market; of others, its next beginning, and what was missed in between is for backfill and sync-markets. Null while it is not, or when its process died first.';

CREATE TABLE ops.system_health (
    component text NOT NULL,
    last_check timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    status text NOT NULL,
    details jsonb,
    alert_sent boolean DEFAULT false NOT NULL,
    CONSTRAINT system_health_pkey PRIMARY KEY (component, last_check),
    CONSTRAINT system_health_component_check CHECK (component <> ''::text),
    CONSTRAINT system_health_status_check CHECK (status = ANY (ARRAY['healthy'::text, 'degraded'::text, 'down'::text]))
);

CREATE INDEX system_health_unhealthy_idx ON ops.system_health USING btree (last_check) WHERE (status <> 'healthy'::text);

COMMENT ON TABLE ops.system_health IS 'One look at one component; the last one is how it is now.';
COMMENT ON COLUMN ops.system_health.component IS 'What was looked at: kalshi_api, database, collector, edge_detector.';
COMMENT ON COLUMN ops.system_health.last_check IS 'When, UTC.';
COMMENT ON COLUMN ops.system_health.status IS 'healthy, degraded or down.';
COMMENT ON COLUMN ops.system_health.details IS 'Measures and error messages.';
COMMENT ON COLUMN ops.system_health.alert_sent IS 'Whether somebody was told.';

CREATE TABLE research.market_analyses (
    market_ticker catalog.ticker NOT NULL,
    analyzed_at timestamp with time zone NOT NULL,
    ai_provider text NOT NULL,
    analysis_text text,
    cost market_data.money NOT NULL,
    decision text,
    confidence market_data.probability,
    metadata jsonb,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT market_analyses_pkey PRIMARY KEY (market_ticker, analyzed_at, ai_provider),
    CONSTRAINT market_analyses_ai_provider_check CHECK (ai_provider <> ''::text),
    CONSTRAINT market_analyses_cost_check CHECK (cost::numeric >= 0::numeric),
    CONSTRAINT market_analyses_decision_check CHECK (decision = ANY (ARRAY['OPEN_YES'::text, 'OPEN_NO'::text, 'CLOSE'::text, 'SKIP'::text])),
    CONSTRAINT market_analyses_metadata_check CHECK (jsonb_typeof(metadata) = 'object'::text)
);

CREATE INDEX market_analyses_analyzed_at_idx ON research.market_analyses USING btree (analyzed_at);

CREATE INDEX market_analyses_decision_analyzed_at_idx ON research.market_analyses USING btree (decision, analyzed_at);

CREATE INDEX market_analyses_utc_day_idx ON research.market_analyses USING btree ((((analyzed_at AT TIME ZONE 'UTC'::text))::date));

CREATE TRIGGER market_analyses_append_only BEFORE DELETE OR UPDATE ON research.market_analyses FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER market_analyses_truncate BEFORE TRUNCATE ON research.market_analyses FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE research.market_analyses IS 'What an AI said of a market, what it cost and what was decided; rows are only added.';
COMMENT ON COLUMN research.market_analyses.market_ticker IS 'The market.';
COMMENT ON COLUMN research.market_analyses.analyzed_at IS 'When it was made, UTC.';
COMMENT ON COLUMN research.market_analyses.ai_provider IS 'Who was asked: xai, openai, anthropic ...';
COMMENT ON COLUMN research.market_analyses.analysis_text IS 'The answer, whole.';
COMMENT ON COLUMN research.market_analyses.cost IS 'What the call cost, dollars.';
COMMENT ON COLUMN research.market_analyses.decision IS 'OPEN_YES, OPEN_NO, CLOSE or SKIP; null when none was made.';
COMMENT ON COLUMN research.market_analyses.confidence IS 'How sure it is, 0 to 1.';
COMMENT ON COLUMN research.market_analyses.metadata IS 'Model, tokens and what else the call reports.';
COMMENT ON COLUMN research.market_analyses.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER market_analyses_append_only ON research.market_analyses IS 'What was said stays said.';
COMMENT ON TRIGGER market_analyses_truncate ON research.market_analyses IS 'What was said stays said.';

CREATE VIEW ops.daily_ai_cost AS
 SELECT date,
    provider,
    sum(total_cost)::numeric(18,6) AS total_cost,
    sum(num_calls)::bigint AS num_calls,
    sum(analysis_cost)::numeric(18,6) AS analysis_cost,
    sum(num_analyses)::bigint AS num_analyses
   FROM ( SELECT ai_costs.date,
            ai_costs.provider,
            ai_costs.total_cost,
            ai_costs.num_calls,
            0::numeric AS analysis_cost,
            0::bigint AS num_analyses
           FROM ops.ai_costs
        UNION ALL
         SELECT (market_analyses.analyzed_at AT TIME ZONE 'UTC'::text)::date AS timezone,
            market_analyses.ai_provider,
            0,
            0,
            market_analyses.cost,
            1
           FROM research.market_analyses) costs
  GROUP BY date, provider;

COMMENT ON VIEW ops.daily_ai_cost IS 'What AI cost each UTC day and provider: as billed by call, and as the stored analyses say.';
COMMENT ON COLUMN ops.daily_ai_cost.date IS 'The day, UTC.';
COMMENT ON COLUMN ops.daily_ai_cost.provider IS 'Who was paid.';
COMMENT ON COLUMN ops.daily_ai_cost.total_cost IS 'Dollars of all calls, from ops.ai_costs; 0 when none was recorded there.';
COMMENT ON COLUMN ops.daily_ai_cost.num_calls IS 'Calls, from ops.ai_costs.';
COMMENT ON COLUMN ops.daily_ai_cost.analysis_cost IS 'Dollars of the analyses stored for the day; more than total_cost means that calls were not recorded.';
COMMENT ON COLUMN ops.daily_ai_cost.num_analyses IS 'Analyses stored for the day.';

CREATE VIEW ops.data_freshness AS
 SELECT 'market_data.candlesticks'::text AS table_name,
    max(candlesticks.end_period_ts) AS latest_at
   FROM market_data.candlesticks
UNION ALL
 SELECT 'market_data.price_snapshots'::text AS table_name,
    max(GREATEST(newest.snapshot_time, newest.seen_again[cardinality(newest.seen_again)])) AS latest_at
   FROM ( SELECT price_snapshots.snapshot_time,
            price_snapshots.seen_again
           FROM market_data.price_snapshots
          ORDER BY price_snapshots.snapshot_time DESC
         LIMIT 10000) newest
UNION ALL
 SELECT 'market_data.orderbook_snapshots'::text AS table_name,
    max(orderbook_snapshots.snapshot_time) AS latest_at
   FROM market_data.orderbook_snapshots
UNION ALL
 SELECT 'market_data.public_trades'::text AS table_name,
    max(public_trades.created_time) AS latest_at
   FROM market_data.public_trades
UNION ALL
 SELECT 'catalog.settlements'::text AS table_name,
    max(settlements.settled_at) AS latest_at
   FROM catalog.settlements
UNION ALL
 SELECT 'research.market_analyses'::text AS table_name,
    max(market_analyses.analyzed_at) AS latest_at
   FROM research.market_analyses
UNION ALL
 SELECT 'ops.ingest_runs'::text AS table_name,
    max(ingest_runs.started_at) AS latest_at
   FROM ops.ingest_runs;

COMMENT ON VIEW ops.data_freshness IS 'The latest moment that each stream of data has reached.';
COMMENT ON COLUMN ops.data_freshness.table_name IS 'The table with its schema.';
COMMENT ON COLUMN ops.data_freshness.latest_at IS 'The latest observation in it, UTC; null while it is empty.';

CREATE VIEW ops.partitions AS
 SELECT (parent_schema.nspname::text || '.'::text) || parent.relname::text AS table_name,
    (partition_schema.nspname::text || '.'::text) || partition.relname::text AS partition_name,
    bounds.range_from::timestamp with time zone AS range_from,
    bounds.range_to::timestamp with time zone AS range_to,
        CASE
            WHEN partition.reltuples >= 0::double precision THEN partition.reltuples::bigint
            ELSE NULL::bigint
        END AS estimated_rows,
    pg_total_relation_size(partition.oid::regclass) AS total_bytes
   FROM pg_partitioned_table
     JOIN pg_class parent ON parent.oid = pg_partitioned_table.partrelid
     JOIN pg_namespace parent_schema ON parent_schema.oid = parent.relnamespace
     JOIN pg_inherits ON pg_inherits.inhparent = parent.oid
     JOIN pg_class partition ON partition.oid = pg_inherits.inhrelid
     JOIN pg_namespace partition_schema ON partition_schema.oid = partition.relnamespace
     CROSS JOIN LATERAL ( SELECT bound.bound[1] AS range_from,
            bound.bound[2] AS range_to
           FROM regexp_match(pg_get_expr(partition.relpartbound, partition.oid), '^FOR VALUES FROM \(''([^'']+)''\) TO \(''([^'']+)''\)$'::text) bound(bound)) bounds
  WHERE pg_partitioned_table.partstrat = 'r'::"char" AND parent_schema.nspname = 'market_data'::name;

COMMENT ON VIEW ops.partitions IS 'The monthly partitions of the time series, as the catalog of the database knows them.';
COMMENT ON COLUMN ops.partitions.table_name IS 'The partitioned table with its schema.';
COMMENT ON COLUMN ops.partitions.partition_name IS 'The partition with its schema.';
COMMENT ON COLUMN ops.partitions.range_from IS 'Start of its time, UTC, inclusive; null for one without such a bound.';
COMMENT ON COLUMN ops.partitions.range_to IS 'End of its time, UTC, exclusive; null for one without such a bound.';
COMMENT ON COLUMN ops.partitions.estimated_rows IS 'Rows as of the last ANALYZE; null before the first.';
COMMENT ON COLUMN ops.partitions.total_bytes IS 'Bytes of rows, indexes and what is stored out of line.';

CREATE VIEW ops.table_sizes AS
 WITH tables AS (
         SELECT pg_class_1.oid,
            COALESCE(pg_partition_root(pg_class_1.oid::regclass)::oid, pg_class_1.oid) AS root
           FROM pg_class pg_class_1
             JOIN pg_namespace pg_namespace_1 ON pg_namespace_1.oid = pg_class_1.relnamespace
          WHERE (pg_class_1.relkind = ANY (ARRAY['r'::"char", 'p'::"char"])) AND (pg_namespace_1.nspname = ANY (ARRAY['catalog'::name, 'market_data'::name, 'research'::name, 'trading'::name, 'backtest'::name, 'ops'::name]))
        )
 SELECT (pg_namespace.nspname::text || '.'::text) || root.relname::text AS table_name,
    count(*) FILTER (WHERE pg_class.relispartition AND pg_class.relkind = 'r'::"char") AS partitions,
        CASE
            WHEN bool_and(pg_class.reltuples >= 0::double precision OR pg_class.relkind = 'p'::"char") THEN sum(GREATEST(pg_class.reltuples, 0::real)) FILTER (WHERE pg_class.relkind = 'r'::"char")::bigint
            ELSE NULL::bigint
        END AS estimated_rows,
    sum(pg_relation_size(pg_class.oid::regclass))::bigint AS table_bytes,
    sum(pg_indexes_size(pg_class.oid::regclass))::bigint AS index_bytes,
    sum(pg_total_relation_size(pg_class.oid::regclass))::bigint AS total_bytes
   FROM tables
     JOIN pg_class ON pg_class.oid = tables.oid
     JOIN pg_class root ON root.oid = tables.root
     JOIN pg_namespace ON pg_namespace.oid = root.relnamespace
  GROUP BY pg_namespace.nspname, root.relname;

COMMENT ON VIEW ops.table_sizes IS 'How large each table is, its partitions counted together.';
COMMENT ON COLUMN ops.table_sizes.table_name IS 'The table with its schema.';
COMMENT ON COLUMN ops.table_sizes.partitions IS 'Monthly partitions; 0 for a table without.';
COMMENT ON COLUMN ops.table_sizes.estimated_rows IS 'Rows as of the last ANALYZE; null while a part was never analyzed.';
COMMENT ON COLUMN ops.table_sizes.table_bytes IS 'Bytes of the rows.';
COMMENT ON COLUMN ops.table_sizes.index_bytes IS 'Bytes of the indexes.';
COMMENT ON COLUMN ops.table_sizes.total_bytes IS 'Bytes of all, with what is stored out of line.';

CREATE DOMAIN research.version AS text
    CONSTRAINT version_form_check CHECK (VALUE ~ '^v?\d+\.\d+(\.\d+)?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$'::text);

COMMENT ON DOMAIN research.version IS 'A semantic version, with or without the v: v1.0, v1.1, 2.0.3-rc1.';

CREATE OR REPLACE FUNCTION research.refuse_config_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

COMMENT ON FUNCTION research.refuse_config_change() IS 'Trigger of immutable configs: refuses a change of the named columns (constraint <table>_immutable_config).';

CREATE TABLE research.asof_policies (
    asof_policy_id text NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    period_interval_minutes smallint NOT NULL,
    quote_lag interval NOT NULL,
    max_age interval NOT NULL,
    retrieved_within interval,
    forecast_lag interval NOT NULL,
    rules jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT asof_policies_pkey PRIMARY KEY (asof_policy_id),
    CONSTRAINT asof_policies_asof_policy_id_check CHECK (asof_policy_id ~ '^[a-z0-9_]{1,100}$'::text),
    CONSTRAINT asof_policies_forecast_lag_check CHECK (forecast_lag >= '00:00:00'::interval),
    CONSTRAINT asof_policies_max_age_check CHECK (max_age > '00:00:00'::interval),
    CONSTRAINT asof_policies_period_interval_minutes_check CHECK (period_interval_minutes = ANY (ARRAY[1, 60, 1440])),
    CONSTRAINT asof_policies_quote_lag_check CHECK (quote_lag >= '00:00:00'::interval),
    CONSTRAINT asof_policies_quote_lag_max_age_check CHECK (quote_lag <= max_age),
    CONSTRAINT asof_policies_retrieved_within_check CHECK (retrieved_within > '00:00:00'::interval),
    CONSTRAINT asof_policies_rules_check CHECK (jsonb_typeof(rules) = 'object'::text)
);

CREATE TRIGGER asof_policies_append_only BEFORE DELETE ON research.asof_policies FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER asof_policies_immutable_config BEFORE UPDATE ON research.asof_policies FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('asof_policy_id', 'period_interval_minutes', 'quote_lag', 'max_age', 'retrieved_within', 'forecast_lag', 'rules', 'created_at');

CREATE TRIGGER asof_policies_truncate BEFORE TRUNCATE ON research.asof_policies FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

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
COMMENT ON TRIGGER asof_policies_append_only ON research.asof_policies IS 'A policy goes only by a purge.';
COMMENT ON TRIGGER asof_policies_immutable_config ON research.asof_policies IS 'What past runs were allowed to know does not change.';
COMMENT ON TRIGGER asof_policies_truncate ON research.asof_policies IS 'A policy goes only by a purge.';

CREATE OR REPLACE FUNCTION research.asof_policy(asof_policy_id text)
 RETURNS research.asof_policies
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

COMMENT ON FUNCTION research.asof_policy(text) IS 'An as-of policy by its id, its times as exact seconds; an unknown id is an error that names those that there are.';

CREATE OR REPLACE FUNCTION research.record_edge(market_ticker catalog.ticker, strategy_id bigint, model_id bigint, probability_matrix_id bigint, observed_at timestamp with time zone, expected_value numeric, true_win_probability market_data.probability, market_implied_probability market_data.probability, market_price market_data.price, confidence_level text, confidence_metrics jsonb, recommended_action text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    observed    research.edges;
    previous    record;
    following   record;
BEGIN
    observed.market_ticker := record_edge.market_ticker;
    observed.strategy_id := record_edge.strategy_id;
    observed.model_id := record_edge.model_id;
    observed.probability_matrix_id := record_edge.probability_matrix_id;
    observed.source_key := ARRAY[COALESCE(record_edge.strategy_id, 0), COALESCE(record_edge.model_id, 0), COALESCE(record_edge.probability_matrix_id, 0)];
    observed.valid_from := record_edge.observed_at;
    observed.expected_value := record_edge.expected_value;
    observed.true_win_probability := record_edge.true_win_probability;
    observed.market_implied_probability := record_edge.market_implied_probability;
    observed.market_price := record_edge.market_price;
    observed.confidence_level := record_edge.confidence_level;
    observed.confidence_metrics := record_edge.confidence_metrics;
    observed.recommended_action := record_edge.recommended_action;

    -- Once to see whether there is anything to do, once more when nobody else can write.
    FOR turn IN 1..2 LOOP
        SELECT
            stored.valid_from,
            (
                stored.expected_value, stored.true_win_probability, stored.market_implied_probability, stored.market_price,
                stored.confidence_level, stored.confidence_metrics, stored.recommended_action
            ) IS NOT DISTINCT FROM (
                observed.expected_value, observed.true_win_probability, observed.market_implied_probability, observed.market_price,
                observed.confidence_level, observed.confidence_metrics, observed.recommended_action
            ) AS is_same
        INTO previous
        FROM research.edges AS stored
        WHERE stored.market_ticker = observed.market_ticker
            AND stored.source_key = observed.source_key
            AND stored.valid_from <= observed.valid_from
        ORDER BY stored.valid_from DESC
        LIMIT 1;
        IF previous.is_same THEN
            RETURN 'unchanged';
        ELSIF previous.valid_from = observed.valid_from THEN
            RAISE EXCEPTION 'edge of market % has another state at % already', observed.market_ticker, observed.valid_from
                USING
                    ERRCODE = 'unique_violation',
                    SCHEMA = 'research',
                    TABLE = 'edges',
                    CONSTRAINT = 'edges_market_ticker_source_key_valid_from_key',
                    HINT = 'What was recorded first stays. Record a correction as seen later, be it by a microsecond.';
        END IF;
        EXIT WHEN turn = 2;

        PERFORM FROM catalog.markets AS stored WHERE stored.market_ticker = observed.market_ticker FOR NO KEY UPDATE;
    END LOOP;

    SELECT
        stored.valid_from,
        (
            stored.expected_value, stored.true_win_probability, stored.market_implied_probability, stored.market_price,
            stored.confidence_level, stored.confidence_metrics, stored.recommended_action
        ) IS NOT DISTINCT FROM (
            observed.expected_value, observed.true_win_probability, observed.market_implied_probability, observed.market_price,
            observed.confidence_level, observed.confidence_metrics, observed.recommended_action
        ) AS is_same
    INTO following
    FROM research.edges AS stored
    WHERE stored.market_ticker = observed.market_ticker
        AND stored.source_key = observed.source_key
        AND stored.valid_from > observed.valid_from
    ORDER BY stored.valid_from
    LIMIT 1;

    IF following.is_same THEN
        -- The next state began earlier than was known.
        UPDATE research.edges AS stored
        SET
            valid_from = CASE WHEN stored.valid_from = following.valid_from THEN observed.valid_from ELSE stored.valid_from END,
            valid_to = CASE WHEN stored.valid_from = following.valid_from THEN stored.valid_to ELSE observed.valid_from END
        WHERE stored.market_ticker = observed.market_ticker
            AND stored.source_key = observed.source_key
            AND stored.valid_from IN (previous.valid_from, following.valid_from);
        RETURN 'filed';
    END IF;

    WITH closed AS (
        UPDATE research.edges AS stored
        SET valid_to = observed.valid_from
        WHERE stored.market_ticker = observed.market_ticker
            AND stored.source_key = observed.source_key
            AND stored.valid_from = previous.valid_from
        RETURNING stored.valid_from
    )
    INSERT INTO research.edges (
        market_ticker, strategy_id, model_id, probability_matrix_id, valid_from, valid_to, expected_value, true_win_probability,
        market_implied_probability, market_price, confidence_level, confidence_metrics, recommended_action, created_at
    )
    SELECT
        observed.market_ticker, observed.strategy_id, observed.model_id, observed.probability_matrix_id, observed.valid_from,
        following.valid_from, observed.expected_value, observed.true_win_probability, observed.market_implied_probability,
        observed.market_price, observed.confidence_level, observed.confidence_metrics, observed.recommended_action, clock_timestamp()
    WHERE (SELECT count(*) FROM closed) >= 0;
    RETURN CASE WHEN following.valid_from IS NULL THEN 'written' ELSE 'filed' END;
END;
$function$;

COMMENT ON FUNCTION research.record_edge(catalog.ticker,bigint,bigint,bigint,timestamp with time zone,numeric,market_data.probability,market_data.probability,market_data.price,text,jsonb,text) IS 'Files what was believed of a market at a moment by a strategy, a model and a matrix (each null when there is none), and what it came to. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (edges_market_ticker_source_key_valid_from_key).';

CREATE OR REPLACE FUNCTION research.record_game_state(event_ticker catalog.ticker, external_game_id text, observed_at timestamp with time zone, sport text, home_team text, away_team text, home_score integer, away_score integer, period text, time_remaining text, possession text, status text, sport_metadata jsonb)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    observed    research.game_states;
    previous    record;
    following   record;
BEGIN
    observed.event_ticker := record_game_state.event_ticker;
    observed.external_game_id := record_game_state.external_game_id;
    observed.valid_from := record_game_state.observed_at;
    observed.sport := record_game_state.sport;
    observed.home_team := record_game_state.home_team;
    observed.away_team := record_game_state.away_team;
    observed.home_score := record_game_state.home_score;
    observed.away_score := record_game_state.away_score;
    observed.period := record_game_state.period;
    observed.time_remaining := record_game_state.time_remaining;
    observed.possession := record_game_state.possession;
    observed.status := record_game_state.status;
    observed.sport_metadata := record_game_state.sport_metadata;

    -- Once to see whether there is anything to do, once more when nobody else can write.
    FOR turn IN 1..2 LOOP
        SELECT
            stored.valid_from,
            (
                stored.sport, stored.home_team, stored.away_team, stored.home_score, stored.away_score, stored.period,
                stored.time_remaining, stored.possession, stored.status, stored.sport_metadata
            ) IS NOT DISTINCT FROM (
                observed.sport, observed.home_team, observed.away_team, observed.home_score, observed.away_score, observed.period,
                observed.time_remaining, observed.possession, observed.status, observed.sport_metadata
            ) AS is_same
        INTO previous
        FROM research.game_states AS stored
        WHERE stored.event_ticker = observed.event_ticker
            AND stored.external_game_id = observed.external_game_id
            AND stored.valid_from <= observed.valid_from
        ORDER BY stored.valid_from DESC
        LIMIT 1;
        IF previous.is_same THEN
            RETURN 'unchanged';
        ELSIF previous.valid_from = observed.valid_from THEN
            RAISE EXCEPTION 'game % of event % has another state at % already', observed.external_game_id, observed.event_ticker, observed.valid_from
                USING
                    ERRCODE = 'unique_violation',
                    SCHEMA = 'research',
                    TABLE = 'game_states',
                    CONSTRAINT = 'game_states_pkey',
                    HINT = 'What was recorded first stays. Record a correction as seen later, be it by a microsecond.';
        END IF;
        EXIT WHEN turn = 2;

        PERFORM FROM catalog.events AS stored WHERE stored.event_ticker = observed.event_ticker FOR NO KEY UPDATE;
    END LOOP;

    SELECT
        stored.valid_from,
        (
            stored.sport, stored.home_team, stored.away_team, stored.home_score, stored.away_score, stored.period,
            stored.time_remaining, stored.possession, stored.status, stored.sport_metadata
        ) IS NOT DISTINCT FROM (
            observed.sport, observed.home_team, observed.away_team, observed.home_score, observed.away_score, observed.period,
            observed.time_remaining, observed.possession, observed.status, observed.sport_metadata
        ) AS is_same
    INTO following
    FROM research.game_states AS stored
    WHERE stored.event_ticker = observed.event_ticker
        AND stored.external_game_id = observed.external_game_id
        AND stored.valid_from > observed.valid_from
    ORDER BY stored.valid_from
    LIMIT 1;

    IF following.is_same THEN
        -- The next state began earlier than was known.
        UPDATE research.game_states AS stored
        SET
            valid_from = CASE WHEN stored.valid_from = following.valid_from THEN observed.valid_from ELSE stored.valid_from END,
            valid_to = CASE WHEN stored.valid_from = following.valid_from THEN stored.valid_to ELSE observed.valid_from END
        WHERE stored.event_ticker = observed.event_ticker
            AND stored.external_game_id = observed.external_game_id
            AND stored.valid_from IN (previous.valid_from, following.valid_from);
        RETURN 'filed';
    END IF;

    WITH closed AS (
        UPDATE research.game_states AS stored
        SET valid_to = observed.valid_from
        WHERE stored.event_ticker = observed.event_ticker
            AND stored.external_game_id = observed.external_game_id
            AND stored.valid_from = previous.valid_from
        RETURNING stored.valid_from
    )
    INSERT INTO research.game_states (
        event_ticker, external_game_id, valid_from, valid_to, sport, home_team, away_team, home_score, away_score, period,
        time_remaining, possession, status, sport_metadata, created_at
    )
    SELECT
        observed.event_ticker, observed.external_game_id, observed.valid_from, following.valid_from, observed.sport,
        observed.home_team, observed.away_team, observed.home_score, observed.away_score, observed.period, observed.time_remaining,
        observed.possession, observed.status, observed.sport_metadata, clock_timestamp()
    WHERE (SELECT count(*) FROM closed) >= 0;
    RETURN CASE WHEN following.valid_from IS NULL THEN 'written' ELSE 'filed' END;
END;
$function$;

COMMENT ON FUNCTION research.record_game_state(catalog.ticker,text,timestamp with time zone,text,text,text,integer,integer,text,text,text,text,jsonb) IS 'Files the state of a game that was observed at a moment; null is unknown. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (game_states_pkey).';

CREATE OR REPLACE FUNCTION research.refuse_status_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

COMMENT ON FUNCTION research.refuse_status_change() IS 'Trigger of configs with a status: nothing returns to draft, nothing leaves deprecated (constraint <table>_lifecycle).';

CREATE OR REPLACE FUNCTION research.version_order(version research.version)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (SELECT concat(lpad(parts.part[1], GREATEST(20, length(parts.part[1])), '0'::text), '.', lpad(parts.part[2], GREATEST(20, length(parts.part[2])), '0'::text), '.', lpad(COALESCE(parts.part[3], '0'::text), GREATEST(20, length(parts.part[3])), '0'::text), ' ', CASE WHEN (parts.part[4] IS NULL) THEN '~'::text ELSE (SELECT string_agg(CASE WHEN (words.word ~ '^\d+$'::text) THEN ('0'::text || lpad(words.word, GREATEST(20, length(words.word)), '0'::text)) ELSE ('1'::text || words.word) END, ' '::text ORDER BY words.place) AS string_agg FROM string_to_table(parts.part[4], '.'::text) WITH ORDINALITY words(word, place)) END) AS concat FROM regexp_match((version_order.version)::text, '^v?(\d+)\.(\d+)(?:\.(\d+))?(?:-([^+]*))?'::text) parts(part));

COMMENT ON FUNCTION research.version_order(research.version) IS 'Text that sorts (COLLATE "C") as versions do: v1.9 < v1.10, 2.0.0-rc1 < 2.0.0; what follows + does not count.';

CREATE TABLE research.edges (
    edge_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    market_ticker catalog.ticker NOT NULL,
    probability_matrix_id bigint,
    strategy_id bigint,
    model_id bigint,
    source_key bigint[] GENERATED ALWAYS AS (ARRAY[COALESCE(strategy_id, 0::bigint), COALESCE(model_id, 0::bigint), COALESCE(probability_matrix_id, 0::bigint)]) STORED NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    row_current_ind boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED NOT NULL,
    expected_value numeric(18,6) NOT NULL,
    true_win_probability market_data.probability NOT NULL,
    market_implied_probability market_data.probability NOT NULL,
    market_price market_data.price NOT NULL,
    confidence_level text,
    confidence_metrics jsonb,
    recommended_action text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT edges_pkey PRIMARY KEY (edge_id),
    CONSTRAINT edges_market_ticker_source_key_valid_from_key UNIQUE (market_ticker, source_key, valid_from),
    CONSTRAINT edges_valid_to_market_ticker_source_key_key UNIQUE (valid_to, market_ticker, source_key),
    CONSTRAINT edges_confidence_level_check CHECK (confidence_level = ANY (ARRAY['high'::text, 'medium'::text, 'low'::text])),
    CONSTRAINT edges_confidence_metrics_check CHECK (jsonb_typeof(confidence_metrics) = 'object'::text),
    CONSTRAINT edges_recommended_action_check CHECK (recommended_action = ANY (ARRAY['auto_execute'::text, 'alert'::text, 'ignore'::text])),
    CONSTRAINT edges_valid_to_check CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX edges_current_key ON research.edges USING btree (market_ticker, source_key) WHERE (valid_to IS NULL);

CREATE INDEX edges_expected_value_current_idx ON research.edges USING btree (expected_value) WHERE (valid_to IS NULL);

COMMENT ON TABLE research.edges IS 'What a model believed of a market against its price, over [valid_from, valid_to): SCD type 2. One key is market, strategy, model and matrix.';
COMMENT ON COLUMN research.edges.edge_id IS 'Number of this version; what a trade points to, so that it is known what triggered it.';
COMMENT ON COLUMN research.edges.market_ticker IS 'The market.';
COMMENT ON COLUMN research.edges.probability_matrix_id IS 'The cell that the probability comes from; null when it comes from a model alone.';
COMMENT ON COLUMN research.edges.strategy_id IS 'The exact strategy version that looked for it; null when none did.';
COMMENT ON COLUMN research.edges.model_id IS 'The exact model version behind the probability; null when none is.';
COMMENT ON COLUMN research.edges.source_key IS 'Strategy, model and matrix in one value that is never null (0 for none), so that keys over it hold; derived from them.';
COMMENT ON COLUMN research.edges.valid_from IS 'When this state was first computed, UTC.';
COMMENT ON COLUMN research.edges.valid_to IS 'When the next state was computed, UTC, exclusive; null = current.';
COMMENT ON COLUMN research.edges.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN research.edges.expected_value IS 'Expected profit of one contract in dollars, after the costs that the strategy counts.';
COMMENT ON COLUMN research.edges.true_win_probability IS 'What we believe, 0 to 1.';
COMMENT ON COLUMN research.edges.market_implied_probability IS 'What the market believes, 0 to 1.';
COMMENT ON COLUMN research.edges.market_price IS 'Price in dollars that it was computed against.';
COMMENT ON COLUMN research.edges.confidence_level IS 'high, medium or low; null when not judged.';
COMMENT ON COLUMN research.edges.confidence_metrics IS 'What the confidence rests on: sample_size, ci_width, data_recency.';
COMMENT ON COLUMN research.edges.recommended_action IS 'auto_execute, alert or ignore; null when none.';
COMMENT ON COLUMN research.edges.created_at IS 'When the row was written, UTC.';

CREATE TABLE research.game_states (
    event_ticker catalog.ticker NOT NULL,
    external_game_id text DEFAULT ''::text NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    row_current_ind boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED NOT NULL,
    sport text NOT NULL,
    home_team text,
    away_team text,
    home_score integer,
    away_score integer,
    period text,
    time_remaining text,
    possession text,
    status text,
    sport_metadata jsonb,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT game_states_pkey PRIMARY KEY (event_ticker, external_game_id, valid_from),
    CONSTRAINT game_states_valid_to_event_ticker_external_game_id_key UNIQUE (valid_to, event_ticker, external_game_id),
    CONSTRAINT game_states_away_score_check CHECK (away_score >= 0),
    CONSTRAINT game_states_home_score_check CHECK (home_score >= 0),
    CONSTRAINT game_states_possession_check CHECK (possession = ANY (ARRAY['home'::text, 'away'::text])),
    CONSTRAINT game_states_sport_metadata_check CHECK (jsonb_typeof(sport_metadata) = 'object'::text),
    CONSTRAINT game_states_status_check CHECK (status = ANY (ARRAY['scheduled'::text, 'pregame'::text, 'live'::text, 'halftime'::text, 'final'::text, 'delayed'::text, 'suspended'::text, 'postponed'::text, 'cancelled'::text])),
    CONSTRAINT game_states_valid_to_check CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX game_states_current_key ON research.game_states USING btree (event_ticker, external_game_id) WHERE (valid_to IS NULL);

CREATE INDEX game_states_sport_current_idx ON research.game_states USING btree (sport) WHERE (valid_to IS NULL);

COMMENT ON TABLE research.game_states IS 'The state of the game behind an event over [valid_from, valid_to): SCD type 2.';
COMMENT ON COLUMN research.game_states.event_ticker IS 'The event that the game decides.';
COMMENT ON COLUMN research.game_states.external_game_id IS 'The data source''s id of the game; empty text where an event has one game and the source gives none.';
COMMENT ON COLUMN research.game_states.valid_from IS 'When this state was first observed, UTC.';
COMMENT ON COLUMN research.game_states.valid_to IS 'When the next state was observed, UTC, exclusive; null = current.';
COMMENT ON COLUMN research.game_states.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN research.game_states.sport IS 'nfl, nba, tennis, mlb ...';
COMMENT ON COLUMN research.game_states.home_team IS 'Team at home.';
COMMENT ON COLUMN research.game_states.away_team IS 'Team away.';
COMMENT ON COLUMN research.game_states.home_score IS 'Points of the team at home; null before the game, which is not 0.';
COMMENT ON COLUMN research.game_states.away_score IS 'Points of the team away; null before the game, which is not 0.';
COMMENT ON COLUMN research.game_states.period IS 'Period in the sport''s words: Q1, Halftime, OT, Final.';
COMMENT ON COLUMN research.game_states.time_remaining IS 'Clock of the period as the source writes it: 12:45.';
COMMENT ON COLUMN research.game_states.possession IS 'home or away; null when neither or unknown.';
COMMENT ON COLUMN research.game_states.status IS 'scheduled, pregame, live, halftime, final, delayed, suspended, postponed or cancelled.';
COMMENT ON COLUMN research.game_states.sport_metadata IS 'What only this sport has: down, distance, fouls.';
COMMENT ON COLUMN research.game_states.created_at IS 'When the row was written, UTC.';

CREATE TABLE research.probability_matrices (
    probability_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    category text NOT NULL,
    subcategory text NOT NULL,
    version research.version NOT NULL,
    state_descriptor text NOT NULL,
    value_bucket text NOT NULL,
    situational_factors jsonb,
    win_probability market_data.probability NOT NULL,
    confidence_interval_lower market_data.probability,
    confidence_interval_upper market_data.probability,
    sample_size bigint,
    source text,
    methodology text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT probability_matrices_pkey PRIMARY KEY (probability_id),
    CONSTRAINT probability_matrices_natural_key UNIQUE NULLS NOT DISTINCT (category, subcategory, version, state_descriptor, value_bucket, situational_factors),
    CONSTRAINT probability_matrices_confidence_interval_check CHECK (confidence_interval_lower::numeric <= win_probability::numeric AND win_probability::numeric <= confidence_interval_upper::numeric),
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

CREATE TABLE research.probability_models (
    model_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    model_name text NOT NULL,
    model_version research.version NOT NULL,
    model_type text NOT NULL,
    sport text,
    config jsonb NOT NULL,
    description text,
    status text DEFAULT 'draft'::text NOT NULL,
    validation_accuracy market_data.probability,
    validation_calibration market_data.probability,
    validation_sample_size bigint,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_by text,
    notes text,
    CONSTRAINT probability_models_pkey PRIMARY KEY (model_id),
    CONSTRAINT probability_models_model_name_model_version_key UNIQUE (model_name, model_version),
    CONSTRAINT probability_models_config_check CHECK (jsonb_typeof(config) = 'object'::text),
    CONSTRAINT probability_models_model_name_check CHECK (model_name ~ '^\S(.{0,98}\S)?$'::text),
    CONSTRAINT probability_models_model_type_check CHECK (model_type = ANY (ARRAY['elo'::text, 'regression'::text, 'ensemble'::text, 'ml'::text])),
    CONSTRAINT probability_models_status_check CHECK (status = ANY (ARRAY['draft'::text, 'training'::text, 'validating'::text, 'active'::text, 'deprecated'::text])),
    CONSTRAINT probability_models_validation_sample_size_check CHECK (validation_sample_size >= 0)
);

CREATE INDEX probability_models_active_idx ON research.probability_models USING btree (model_name) WHERE (status = 'active'::text);

CREATE TRIGGER probability_models_append_only BEFORE DELETE ON research.probability_models FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER probability_models_immutable_config BEFORE UPDATE ON research.probability_models FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('model_id', 'model_name', 'model_version', 'model_type', 'sport', 'config', 'created_at');

CREATE TRIGGER probability_models_lifecycle BEFORE UPDATE OF status ON research.probability_models FOR EACH ROW EXECUTE FUNCTION research.refuse_status_change();

CREATE TRIGGER probability_models_truncate BEFORE TRUNCATE ON research.probability_models FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

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
COMMENT ON TRIGGER probability_models_append_only ON research.probability_models IS 'A version goes only by a purge.';
COMMENT ON TRIGGER probability_models_immutable_config ON research.probability_models IS 'A version stays what it was when it was traded.';
COMMENT ON TRIGGER probability_models_lifecycle ON research.probability_models IS 'What was used is no draft, what was retired stays so.';
COMMENT ON TRIGGER probability_models_truncate ON research.probability_models IS 'A version goes only by a purge.';

CREATE TABLE research.strategies (
    strategy_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    strategy_name text NOT NULL,
    strategy_version research.version NOT NULL,
    strategy_type text NOT NULL,
    sport text,
    config jsonb NOT NULL,
    description text,
    status text DEFAULT 'draft'::text NOT NULL,
    paper_roi numeric(12,6),
    live_roi numeric(12,6),
    paper_trades_count bigint DEFAULT 0 NOT NULL,
    live_trades_count bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    created_by text,
    notes text,
    CONSTRAINT strategies_pkey PRIMARY KEY (strategy_id),
    CONSTRAINT strategies_strategy_name_strategy_version_key UNIQUE (strategy_name, strategy_version),
    CONSTRAINT strategies_config_check CHECK (jsonb_typeof(config) = 'object'::text),
    CONSTRAINT strategies_live_trades_count_check CHECK (live_trades_count >= 0),
    CONSTRAINT strategies_paper_trades_count_check CHECK (paper_trades_count >= 0),
    CONSTRAINT strategies_status_check CHECK (status = ANY (ARRAY['draft'::text, 'testing'::text, 'active'::text, 'inactive'::text, 'deprecated'::text])),
    CONSTRAINT strategies_strategy_name_check CHECK (strategy_name ~ '^\S(.{0,98}\S)?$'::text),
    CONSTRAINT strategies_strategy_type_check CHECK (strategy_type = ANY (ARRAY['entry'::text, 'exit'::text, 'sizing'::text, 'hedging'::text]))
);

CREATE INDEX strategies_active_idx ON research.strategies USING btree (strategy_name) WHERE (status = 'active'::text);

CREATE TRIGGER strategies_append_only BEFORE DELETE ON research.strategies FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER strategies_immutable_config BEFORE UPDATE ON research.strategies FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('strategy_id', 'strategy_name', 'strategy_version', 'strategy_type', 'sport', 'config', 'created_at');

CREATE TRIGGER strategies_lifecycle BEFORE UPDATE OF status ON research.strategies FOR EACH ROW EXECUTE FUNCTION research.refuse_status_change();

CREATE TRIGGER strategies_truncate BEFORE TRUNCATE ON research.strategies FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

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
COMMENT ON TRIGGER strategies_append_only ON research.strategies IS 'A version goes only by a purge.';
COMMENT ON TRIGGER strategies_immutable_config ON research.strategies IS 'A version stays what it was when it was traded.';
COMMENT ON TRIGGER strategies_lifecycle ON research.strategies IS 'What was used is no draft, what was retired stays so.';
COMMENT ON TRIGGER strategies_truncate ON research.strategies IS 'A version goes only by a purge.';

CREATE VIEW research.active_models AS
 SELECT model_id,
    model_name,
    model_version,
    model_type,
    sport,
    config,
    description,
    validation_accuracy,
    validation_calibration,
    validation_sample_size,
    created_at,
    created_by,
    notes
   FROM research.probability_models
  WHERE status = 'active'::text;

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

CREATE VIEW research.active_strategies AS
 SELECT strategy_id,
    strategy_name,
    strategy_version,
    strategy_type,
    sport,
    config,
    description,
    paper_roi,
    live_roi,
    paper_trades_count,
    live_trades_count,
    created_at,
    created_by,
    notes
   FROM research.strategies
  WHERE status = 'active'::text;

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

CREATE VIEW research.current_edges AS
 SELECT edge_id,
    market_ticker,
    probability_matrix_id,
    strategy_id,
    model_id,
    valid_from,
    expected_value,
    true_win_probability,
    market_implied_probability,
    market_price,
    (true_win_probability::numeric - market_price::numeric)::numeric(7,6) AS edge,
    confidence_level,
    confidence_metrics,
    recommended_action
   FROM research.edges
  WHERE valid_to IS NULL;

COMMENT ON VIEW research.current_edges IS 'The current version of each edge.';
COMMENT ON COLUMN research.current_edges.edge_id IS 'Number of this version.';
COMMENT ON COLUMN research.current_edges.market_ticker IS 'The market.';
COMMENT ON COLUMN research.current_edges.probability_matrix_id IS 'The cell that the probability comes from.';
COMMENT ON COLUMN research.current_edges.strategy_id IS 'The exact strategy version that looked for it.';
COMMENT ON COLUMN research.current_edges.model_id IS 'The exact model version behind the probability.';
COMMENT ON COLUMN research.current_edges.valid_from IS 'When this state was first computed, UTC.';
COMMENT ON COLUMN research.current_edges.expected_value IS 'Expected profit of one contract in dollars.';
COMMENT ON COLUMN research.current_edges.true_win_probability IS 'What we believe, 0 to 1.';
COMMENT ON COLUMN research.current_edges.market_implied_probability IS 'What the market believes, 0 to 1.';
COMMENT ON COLUMN research.current_edges.market_price IS 'Price in dollars that it was computed against.';
COMMENT ON COLUMN research.current_edges.edge IS 'true_win_probability - market_price.';
COMMENT ON COLUMN research.current_edges.confidence_level IS 'high, medium or low; null when not judged.';
COMMENT ON COLUMN research.current_edges.confidence_metrics IS 'What the confidence rests on.';
COMMENT ON COLUMN research.current_edges.recommended_action IS 'auto_execute, alert or ignore; null when none.';

CREATE VIEW research.current_game_states AS
 SELECT event_ticker,
    external_game_id,
    valid_from,
    sport,
    home_team,
    away_team,
    home_score,
    away_score,
    period,
    time_remaining,
    possession,
    status,
    sport_metadata
   FROM research.game_states
  WHERE valid_to IS NULL;

COMMENT ON VIEW research.current_game_states IS 'The current state of each game.';
COMMENT ON COLUMN research.current_game_states.event_ticker IS 'The event that the game decides.';
COMMENT ON COLUMN research.current_game_states.external_game_id IS 'The data source''s id of the game.';
COMMENT ON COLUMN research.current_game_states.valid_from IS 'When this state was first observed, UTC.';
COMMENT ON COLUMN research.current_game_states.sport IS 'nfl, nba, tennis, mlb ...';
COMMENT ON COLUMN research.current_game_states.home_team IS 'Team at home.';
COMMENT ON COLUMN research.current_game_states.away_team IS 'Team away.';
COMMENT ON COLUMN research.current_game_states.home_score IS 'Points of the team at home.';
COMMENT ON COLUMN research.current_game_states.away_score IS 'Points of the team away.';
COMMENT ON COLUMN research.current_game_states.period IS 'Period in the sport''s words.';
COMMENT ON COLUMN research.current_game_states.time_remaining IS 'Clock of the period.';
COMMENT ON COLUMN research.current_game_states.possession IS 'home or away; null when neither or unknown.';
COMMENT ON COLUMN research.current_game_states.status IS 'scheduled, pregame, live, halftime, final ...';
COMMENT ON COLUMN research.current_game_states.sport_metadata IS 'What only this sport has.';

CREATE DOMAIN trading.currency AS text
    CONSTRAINT currency_form_check CHECK (VALUE ~ '^[A-Z]{3,5}$'::text);

COMMENT ON DOMAIN trading.currency IS 'Code of a currency, upper case: USD, USDC.';

CREATE DOMAIN trading.environment AS text
    CONSTRAINT environment_word_check CHECK (VALUE = ANY (ARRAY['live'::text, 'paper'::text, 'demo'::text]));

COMMENT ON DOMAIN trading.environment IS 'Which money: live (real), paper (simulated by us) or demo (the venue''s test system). Never mixed.';

CREATE DOMAIN trading.exit_condition AS text
    CONSTRAINT exit_condition_word_check CHECK (VALUE = ANY (ARRAY['stop_loss'::text, 'circuit_breaker'::text, 'trailing_stop'::text, 'time_based_urgent'::text, 'liquidity_dried_up'::text, 'profit_target'::text, 'partial_exit_target'::text, 'early_exit'::text, 'edge_disappeared'::text, 'rebalance'::text]));

COMMENT ON DOMAIN trading.exit_condition IS 'Why a position is left: stop_loss, circuit_breaker (CRITICAL), trailing_stop, time_based_urgent, liquidity_dried_up (HIGH), profit_target, partial_exit_target (MEDIUM), early_exit, edge_disappeared, rebalance (LOW).';

CREATE DOMAIN trading.exit_priority AS text
    CONSTRAINT exit_priority_word_check CHECK (VALUE = ANY (ARRAY['CRITICAL'::text, 'HIGH'::text, 'MEDIUM'::text, 'LOW'::text]));

COMMENT ON DOMAIN trading.exit_priority IS 'How urgently a position is left: CRITICAL, HIGH, MEDIUM or LOW.';

CREATE OR REPLACE FUNCTION trading.advanced_trailing_stop(state jsonb, price market_data.price)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (SELECT CASE WHEN (NOT seen.is_active) THEN (advanced_trailing_stop.state || jsonb_build_object('active', false)) ELSE (advanced_trailing_stop.state || jsonb_build_object('active', true, 'peak_price', (trim_scale(seen.peak))::text, 'current_stop_price', (trim_scale(GREATEST(((advanced_trailing_stop.state ->> 'current_stop_price'::text))::numeric, CASE WHEN ((advanced_trailing_stop.state ->> 'stop_distance'::text) IS NOT NULL) THEN GREATEST((seen.peak - ((advanced_trailing_stop.state ->> 'stop_distance'::text))::numeric), (0)::numeric) ELSE round((seen.peak * ((1)::numeric - ((advanced_trailing_stop.state ->> 'current_distance'::text))::numeric)), 6) END)))::text)) END AS "case" FROM (SELECT (COALESCE(((advanced_trailing_stop.state ->> 'active'::text))::boolean, false) OR ((advanced_trailing_stop.price)::numeric >= COALESCE(((advanced_trailing_stop.state ->> 'activation_price'::text))::numeric, (0)::numeric))) AS is_active, GREATEST(((advanced_trailing_stop.state ->> 'peak_price'::text))::numeric, (advanced_trailing_stop.price)::numeric) AS peak) seen);

COMMENT ON FUNCTION trading.advanced_trailing_stop(jsonb,market_data.price) IS 'The trailing stop after a price of the side that is held: active from activation_price on, the stop follows the peak at its distance and never falls.';

CREATE OR REPLACE FUNCTION trading.priority_of(condition trading.exit_condition)
 RETURNS trading.exit_priority
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((condition)::text = ANY (ARRAY['stop_loss'::text, 'circuit_breaker'::text])) THEN 'CRITICAL'::text WHEN ((condition)::text = ANY (ARRAY['trailing_stop'::text, 'time_based_urgent'::text, 'liquidity_dried_up'::text])) THEN 'HIGH'::text WHEN ((condition)::text = ANY (ARRAY['profit_target'::text, 'partial_exit_target'::text])) THEN 'MEDIUM'::text WHEN ((condition)::text = ANY (ARRAY['early_exit'::text, 'edge_disappeared'::text, 'rebalance'::text])) THEN 'LOW'::text ELSE NULL::text END;

COMMENT ON FUNCTION trading.priority_of(trading.exit_condition) IS 'The one priority that an exit condition has.';

CREATE OR REPLACE FUNCTION trading.refuse_overexit()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    entered     numeric;
    exited      numeric;
    state       text;
    opened_at   timestamptz;
    left_at     timestamptz;
BEGIN
    -- A retry of an exit that is stored is for the primary key to judge, and changes nothing.
    IF TG_TABLE_NAME = 'position_exits' THEN
        IF EXISTS (
            SELECT FROM trading.position_exits
            WHERE environment = NEW.environment AND position_id = NEW.position_id AND exited_at = NEW.exited_at
        ) THEN
            RETURN NEW;
        END IF;
    END IF;

    -- The one row that all writers of a position change first: they take turns, at every isolation level.
    UPDATE trading.positions SET updated_at = clock_timestamp()
    WHERE environment = NEW.environment AND position_id = NEW.position_id
    RETURNING entry_time INTO opened_at;

    IF TG_TABLE_NAME = 'position_exits' THEN
        left_at := NEW.exited_at;
    ELSE
        left_at := NEW.exit_time;
    END IF;
    IF left_at < opened_at THEN
        RAISE EXCEPTION 'position % (%) cannot be left at %: it was entered at %', NEW.position_id, NEW.environment, left_at, opened_at
            USING
                ERRCODE = 'check_violation',
                SCHEMA = TG_TABLE_SCHEMA,
                TABLE = TG_TABLE_NAME,
                CONSTRAINT = TG_TABLE_NAME || '_entry_time_check',
                HINT = 'Look whether it is this position and this time.';
    END IF;

    SELECT quantity, status INTO entered, state
    FROM trading.position_versions
    WHERE environment = NEW.environment AND position_id = NEW.position_id AND valid_to IS NULL;

    SELECT COALESCE(sum(quantity_exited), 0) INTO exited
    FROM trading.position_exits
    WHERE environment = NEW.environment AND position_id = NEW.position_id;

    IF TG_TABLE_NAME = 'position_exits' THEN
        -- Or it was stored while this one waited.
        IF EXISTS (
            SELECT FROM trading.position_exits
            WHERE environment = NEW.environment AND position_id = NEW.position_id AND exited_at = NEW.exited_at
        ) THEN
            RETURN NEW;
        END IF;
        exited := exited + NEW.quantity_exited;
        -- What the venue paid out is no exit, and leaves no room for one.
        IF state = 'settled' THEN
            entered := exited - NEW.quantity_exited;
        END IF;
    ELSIF NEW.valid_to IS NULL THEN
        entered := NEW.quantity;
    ELSE
        RETURN NEW;
    END IF;

    IF entered IS NULL OR exited > entered THEN
        RAISE EXCEPTION 'position % (%) cannot lose % contracts: %', NEW.position_id, NEW.environment, exited,
            CASE WHEN state = 'settled' THEN 'it is settled, none is left' ELSE COALESCE(entered::text, 'no version says that any') || ' entered it' END
            USING
                ERRCODE = 'check_violation',
                SCHEMA = TG_TABLE_SCHEMA,
                TABLE = TG_TABLE_NAME,
                CONSTRAINT = TG_TABLE_NAME || '_overexit_check',
                HINT = 'The contracts of all its exits may not exceed quantity of its current version.';
    END IF;
    RETURN NEW;
END;
$function$;

COMMENT ON FUNCTION trading.refuse_overexit() IS 'Trigger of exits and position versions: the contracts that left a position never exceed those that entered (constraint <table>_overexit_check), and none left before the entry (constraint <table>_entry_time_check).';

CREATE TABLE trading.position_versions (
    environment trading.environment NOT NULL,
    position_id bigint NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    row_current_ind boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED NOT NULL,
    quantity market_data.contracts NOT NULL,
    fees market_data.money,
    status text NOT NULL,
    current_price market_data.price,
    unrealized_pnl market_data.money,
    unrealized_pnl_pct numeric(12,6),
    realized_pnl market_data.money,
    exit_price market_data.price,
    exit_time timestamp with time zone,
    trailing_stop_state jsonb,
    exit_reason trading.exit_condition,
    exit_priority trading.exit_priority,
    close_reason text,
    last_update timestamp with time zone,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT position_versions_pkey PRIMARY KEY (environment, position_id, valid_from),
    CONSTRAINT position_versions_valid_to_environment_position_id_key UNIQUE (valid_to, environment, position_id),
    CONSTRAINT position_versions_exit_priority_check CHECK (exit_priority::text = trading.priority_of(exit_reason)::text),
    CONSTRAINT position_versions_fees_check CHECK (fees::numeric >= 0::numeric),
    CONSTRAINT position_versions_open_exit_time_check CHECK ((status = 'open'::text) = (exit_time IS NULL)),
    CONSTRAINT position_versions_quantity_check CHECK (quantity::numeric > 0::numeric),
    CONSTRAINT position_versions_status_check CHECK (status = ANY (ARRAY['open'::text, 'closed'::text, 'settled'::text])),
    CONSTRAINT position_versions_trailing_stop_state_check CHECK (jsonb_typeof(trailing_stop_state) = 'object'::text),
    CONSTRAINT position_versions_valid_to_check CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX position_versions_current_key ON trading.position_versions USING btree (environment, position_id) WHERE (valid_to IS NULL);

CREATE INDEX position_versions_exit_time_idx ON trading.position_versions USING btree (environment, exit_time) WHERE ((valid_to IS NULL) AND (status <> 'open'::text));

CREATE INDEX position_versions_open_idx ON trading.position_versions USING btree (environment, last_update) WHERE ((valid_to IS NULL) AND (status = 'open'::text));

CREATE TRIGGER position_versions_append_only BEFORE DELETE ON trading.position_versions FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER position_versions_immutable_config BEFORE UPDATE OF environment, position_id, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, created_at ON trading.position_versions FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('environment', 'position_id', 'quantity', 'fees', 'status', 'current_price', 'unrealized_pnl', 'unrealized_pnl_pct', 'realized_pnl', 'exit_price', 'exit_time', 'trailing_stop_state', 'exit_reason', 'exit_priority', 'close_reason', 'created_at');

CREATE TRIGGER position_versions_overexit BEFORE INSERT OR UPDATE OF quantity ON trading.position_versions FOR EACH ROW EXECUTE FUNCTION trading.refuse_overexit();

CREATE TRIGGER position_versions_truncate BEFORE TRUNCATE ON trading.position_versions FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.position_versions IS 'One state of one position over [valid_from, valid_to): SCD type 2.';
COMMENT ON COLUMN trading.position_versions.environment IS 'Which money: that of the position.';
COMMENT ON COLUMN trading.position_versions.position_id IS 'The position.';
COMMENT ON COLUMN trading.position_versions.valid_from IS 'When this state began, UTC.';
COMMENT ON COLUMN trading.position_versions.valid_to IS 'When the next state began, UTC, exclusive; null = current.';
COMMENT ON COLUMN trading.position_versions.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN trading.position_versions.quantity IS 'Contracts that entered the position so far; what left it is in position_exits, what remains in open_positions.';
COMMENT ON COLUMN trading.position_versions.fees IS 'Fees paid so far, dollars; null when unknown.';
COMMENT ON COLUMN trading.position_versions.status IS 'open, closed (sold) or settled (paid out by the venue).';
COMMENT ON COLUMN trading.position_versions.current_price IS 'Latest price seen by the monitor, dollars for the side that is held; null before the first look.';
COMMENT ON COLUMN trading.position_versions.unrealized_pnl IS 'Profit of the remaining contracts at current_price, before fees, dollars.';
COMMENT ON COLUMN trading.position_versions.unrealized_pnl_pct IS '(current_price - entry_price) / entry_price, a fraction: 0.1234 = 12.34 %; null when the entry was free.';
COMMENT ON COLUMN trading.position_versions.realized_pnl IS 'Profit of the contracts that left, before fees, dollars; null while none did.';
COMMENT ON COLUMN trading.position_versions.exit_price IS 'Average price of the contracts that left, dollars; null while none did.';
COMMENT ON COLUMN trading.position_versions.exit_time IS 'When the last contract left or was settled, UTC; null while open.';
COMMENT ON COLUMN trading.position_versions.trailing_stop_state IS 'Trailing stop: active, activation_price, peak_price, current_stop_price in dollars for the side that is held, current_distance as a fraction of the peak (or stop_distance in dollars), all as text. Null when there is none. [json: kalshidb.documents:TrailingStop]';
COMMENT ON COLUMN trading.position_versions.exit_reason IS 'Condition that triggered the exit; null while none did.';
COMMENT ON COLUMN trading.position_versions.exit_priority IS 'Priority of that condition; null while none triggered.';
COMMENT ON COLUMN trading.position_versions.close_reason IS 'Why it was closed, for people.';
COMMENT ON COLUMN trading.position_versions.last_update IS 'When the monitor looked at it, UTC; tells whether the monitor lives. A look that changes nothing else is no version of its own.';
COMMENT ON COLUMN trading.position_versions.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER position_versions_append_only ON trading.position_versions IS 'A state that was recorded stays on record.';
COMMENT ON TRIGGER position_versions_immutable_config ON trading.position_versions IS 'A state that was recorded stays what it was; another one is a new version.';
COMMENT ON TRIGGER position_versions_overexit ON trading.position_versions IS 'A position does not shrink below what left it.';
COMMENT ON TRIGGER position_versions_truncate ON trading.position_versions IS 'A state that was recorded stays on record.';

CREATE OR REPLACE FUNCTION trading.begin_position_version(state trading.position_versions)
 RETURNS void
 LANGUAGE sql
BEGIN ATOMIC
 WITH closed AS (
          UPDATE trading.position_versions version SET valid_to = (begin_position_version.state).valid_from
           WHERE (((version.environment)::text = ((begin_position_version.state).environment)::text) AND (version.position_id = (begin_position_version.state).position_id) AND (version.valid_to IS NULL))
           RETURNING version.position_id
         )
  INSERT INTO trading.position_versions (environment, position_id, valid_from, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, last_update, created_at)  SELECT (begin_position_version.state).environment AS environment,
             (begin_position_version.state).position_id AS position_id,
             (begin_position_version.state).valid_from AS valid_from,
             (begin_position_version.state).quantity AS quantity,
             (begin_position_version.state).fees AS fees,
             (begin_position_version.state).status AS status,
             (begin_position_version.state).current_price AS current_price,
             (begin_position_version.state).unrealized_pnl AS unrealized_pnl,
             (begin_position_version.state).unrealized_pnl_pct AS unrealized_pnl_pct,
             (begin_position_version.state).realized_pnl AS realized_pnl,
             (begin_position_version.state).exit_price AS exit_price,
             (begin_position_version.state).exit_time AS exit_time,
             (begin_position_version.state).trailing_stop_state AS trailing_stop_state,
             (begin_position_version.state).exit_reason AS exit_reason,
             (begin_position_version.state).exit_priority AS exit_priority,
             (begin_position_version.state).close_reason AS close_reason,
             (begin_position_version.state).last_update AS last_update,
             clock_timestamp() AS clock_timestamp
           WHERE (( SELECT count(*) AS count
                    FROM closed) = 1);
END;

COMMENT ON FUNCTION trading.begin_position_version(trading.position_versions) IS 'Ends the current version of a position where the given one begins. For functions that hold the position (trading.held_position).';

CREATE OR REPLACE FUNCTION trading.change_position_version(environment trading.environment, position_id bigint, quantity market_data.contracts DEFAULT NULL::numeric, fees market_data.money DEFAULT NULL::numeric, status text DEFAULT NULL::text, current_price market_data.price DEFAULT NULL::numeric, unrealized_pnl market_data.money DEFAULT NULL::numeric, unrealized_pnl_pct numeric DEFAULT NULL::numeric, realized_pnl market_data.money DEFAULT NULL::numeric, exit_price market_data.price DEFAULT NULL::numeric, exit_time timestamp with time zone DEFAULT NULL::timestamp with time zone, trailing_stop_state jsonb DEFAULT NULL::jsonb, exit_reason trading.exit_condition DEFAULT NULL::text, exit_priority trading.exit_priority DEFAULT NULL::text, close_reason text DEFAULT NULL::text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    UPDATE trading.positions AS stored SET updated_at = clock_timestamp()
    WHERE stored.environment = change_position_version.environment
        AND stored.position_id = change_position_version.position_id;
    -- Read after the wait for the lock. A clock that was set back does not end a version before it began.
    moment := clock_timestamp();

    WITH closed AS (
        UPDATE trading.position_versions AS stored
        SET valid_to = greatest(moment, stored.valid_from + interval '1 microsecond')
        WHERE stored.environment = change_position_version.environment
            AND stored.position_id = change_position_version.position_id
            AND stored.valid_to IS NULL
            AND (
                COALESCE(change_position_version.quantity, stored.quantity), COALESCE(change_position_version.fees, stored.fees),
                COALESCE(change_position_version.status, stored.status),
                COALESCE(change_position_version.current_price, stored.current_price),
                COALESCE(change_position_version.unrealized_pnl, stored.unrealized_pnl),
                COALESCE(change_position_version.unrealized_pnl_pct::numeric(12, 6), stored.unrealized_pnl_pct),
                COALESCE(change_position_version.realized_pnl, stored.realized_pnl),
                COALESCE(change_position_version.exit_price, stored.exit_price),
                COALESCE(change_position_version.exit_time, stored.exit_time),
                COALESCE(change_position_version.trailing_stop_state, stored.trailing_stop_state),
                COALESCE(change_position_version.exit_reason, stored.exit_reason),
                COALESCE(change_position_version.exit_priority, trading.priority_of(change_position_version.exit_reason), stored.exit_priority),
                COALESCE(change_position_version.close_reason, stored.close_reason)
            ) IS DISTINCT FROM (
                stored.quantity, stored.fees, stored.status, stored.current_price, stored.unrealized_pnl, stored.unrealized_pnl_pct,
                stored.realized_pnl, stored.exit_price, stored.exit_time, stored.trailing_stop_state, stored.exit_reason,
                stored.exit_priority, stored.close_reason
            )
        RETURNING stored.*
    )
    INSERT INTO trading.position_versions (
        environment, position_id, valid_from, valid_to, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct,
        realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, last_update, created_at
    )
    SELECT
        closed.environment,
        closed.position_id,
        closed.valid_to,
        NULL,
        COALESCE(change_position_version.quantity, closed.quantity),
        COALESCE(change_position_version.fees, closed.fees),
        COALESCE(change_position_version.status, closed.status),
        COALESCE(change_position_version.current_price, closed.current_price),
        COALESCE(change_position_version.unrealized_pnl, closed.unrealized_pnl),
        COALESCE(change_position_version.unrealized_pnl_pct::numeric(12, 6), closed.unrealized_pnl_pct),
        COALESCE(change_position_version.realized_pnl, closed.realized_pnl),
        COALESCE(change_position_version.exit_price, closed.exit_price),
        COALESCE(change_position_version.exit_time, closed.exit_time),
        COALESCE(change_position_version.trailing_stop_state, closed.trailing_stop_state),
        COALESCE(change_position_version.exit_reason, closed.exit_reason),
        COALESCE(change_position_version.exit_priority, trading.priority_of(change_position_version.exit_reason), closed.exit_priority),
        COALESCE(change_position_version.close_reason, closed.close_reason),
        moment,
        moment
    FROM closed;
    IF FOUND THEN
        RETURN 'written';
    END IF;

    UPDATE trading.position_versions AS stored
    SET last_update = greatest(stored.last_update, moment)
    WHERE stored.environment = change_position_version.environment
        AND stored.position_id = change_position_version.position_id
        AND stored.valid_to IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'position % (%) has no version that could change', change_position_version.position_id, change_position_version.environment
            USING
                ERRCODE = 'no_data_found',
                SCHEMA = 'trading',
                TABLE = 'position_versions',
                HINT = 'Open it first (trading.open_position), and look whether the environment is the one that it was opened in.';
    END IF;
    RETURN 'unchanged';
END;
$function$;

COMMENT ON FUNCTION trading.change_position_version(trading.environment,bigint,market_data.contracts,market_data.money,text,market_data.price,market_data.money,numeric,market_data.money,market_data.price,timestamp with time zone,jsonb,trading.exit_condition,trading.exit_priority,text) IS 'Changes some columns of a position''s current version as of now and carries the others over; null leaves a column as it was, and exit_priority follows exit_reason. Answers written, or unchanged, which moves only last_update. A position without a version is refused (no_data_found).';

CREATE OR REPLACE FUNCTION trading.held_position(environment trading.environment, position_id bigint)
 RETURNS trading.position_versions
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    state trading.position_versions;
BEGIN
    -- First the row that all writers of a position change first; then, in a statement of its own, what the one before left.
    UPDATE trading.positions AS stored SET updated_at = clock_timestamp()
    WHERE stored.environment = held_position.environment AND stored.position_id = held_position.position_id;

    SELECT version.* INTO state
    FROM trading.position_versions AS version
    WHERE version.environment = held_position.environment
        AND version.position_id = held_position.position_id
        AND version.valid_to IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no position % (%)', held_position.position_id, held_position.environment
            USING
                ERRCODE = 'no_data_found',
                SCHEMA = 'trading',
                TABLE = 'positions',
                HINT = 'Open it first (trading.open_position), and look whether the environment is the one that it was opened in.';
    END IF;
    RETURN state;
END;
$function$;

COMMENT ON FUNCTION trading.held_position(trading.environment,bigint) IS 'The current version of a position, after its row is locked: nobody else writes the position until the transaction ends.';

CREATE OR REPLACE FUNCTION trading.mark_position(environment trading.environment, position_id bigint, price market_data.price, observed_at timestamp with time zone, OUT outcome text, OUT is_stop_hit boolean, OUT unrealized_pnl numeric, OUT trailing_stop_state jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    state   trading.position_versions;
    changed trading.position_versions;
    held    trading.positions;
    sold    numeric;
BEGIN
    -- Once without a lock: most looks change nothing but the time of the look. Once more when nobody else can write the position.
    FOR turn IN 1..2 LOOP
        IF turn = 2 THEN
            state := trading.held_position(mark_position.environment, mark_position.position_id);
        ELSE
            SELECT version.* INTO state
            FROM trading.position_versions AS version
            WHERE version.environment = mark_position.environment
                AND version.position_id = mark_position.position_id
                AND version.valid_to IS NULL;
            CONTINUE WHEN NOT FOUND;
        END IF;
        outcome := CASE
            WHEN state.status <> 'open' THEN state.status
            WHEN mark_position.observed_at < greatest(state.valid_from, state.last_update) THEN 'late'
        END;
        EXIT WHEN outcome IS NOT NULL;

        SELECT positions.* INTO STRICT held
        FROM trading.positions
        WHERE positions.environment = state.environment AND positions.position_id = state.position_id;

        SELECT COALESCE(sum(exits.quantity_exited), 0) INTO sold
        FROM trading.position_exits AS exits
        WHERE exits.environment = state.environment AND exits.position_id = state.position_id;

        changed := state;
        changed.current_price := mark_position.price;
        changed.unrealized_pnl := (state.quantity - sold) * (mark_position.price - held.entry_price);
        changed.unrealized_pnl_pct := (mark_position.price - held.entry_price) / NULLIF(held.entry_price, 0);
        changed.trailing_stop_state := trading.advanced_trailing_stop(state.trailing_stop_state, mark_position.price);
        changed.last_update := mark_position.observed_at;
        IF (changed.current_price, changed.unrealized_pnl, changed.unrealized_pnl_pct, changed.trailing_stop_state)
            IS NOT DISTINCT FROM (state.current_price, state.unrealized_pnl, state.unrealized_pnl_pct, state.trailing_stop_state) THEN
            UPDATE trading.position_versions AS version
            SET last_update = greatest(version.last_update, mark_position.observed_at)
            WHERE version.environment = state.environment
                AND version.position_id = state.position_id
                AND version.valid_from = state.valid_from
                AND version.valid_to IS NULL;
            IF FOUND THEN
                outcome := 'unchanged';
                EXIT;
            END IF;
        ELSIF turn = 2 THEN
            changed.valid_from := greatest(mark_position.observed_at, state.valid_from + interval '1 microsecond');
            PERFORM trading.begin_position_version(changed);
            outcome := 'written';
            state := changed;
        END IF;
    END LOOP;
    is_stop_hit := outcome IN ('written', 'unchanged') AND trading.trailing_stop_is_hit(state.trailing_stop_state, mark_position.price);
    unrealized_pnl := state.unrealized_pnl;
    trailing_stop_state := state.trailing_stop_state;
END;
$function$;

COMMENT ON FUNCTION trading.mark_position(trading.environment,bigint,market_data.price,timestamp with time zone) IS 'The monitor looks at a position: its price, unrealized profit and trailing stop follow, and a new version begins where one of them moved. Answers written, unchanged, late (an older price than the last one, which moves nothing), closed or settled.';

CREATE OR REPLACE FUNCTION trading.record_balance(environment trading.environment, platform_id text, currency trading.currency, observed_at timestamp with time zone, balance market_data.money)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    observed    trading.account_balances;
    previous    record;
    following   record;
BEGIN
    observed.environment := record_balance.environment;
    observed.platform_id := record_balance.platform_id;
    observed.currency := record_balance.currency;
    observed.valid_from := record_balance.observed_at;
    observed.balance := record_balance.balance;

    -- Once to see whether there is anything to do, once more when nobody else can write.
    FOR turn IN 1..2 LOOP
        SELECT
            stored.valid_from,
            stored.balance = observed.balance AS is_same
        INTO previous
        FROM trading.account_balances AS stored
        WHERE stored.environment = observed.environment
            AND stored.platform_id = observed.platform_id
            AND stored.currency = observed.currency
            AND stored.valid_from <= observed.valid_from
        ORDER BY stored.valid_from DESC
        LIMIT 1;
        IF previous.is_same THEN
            RETURN 'unchanged';
        ELSIF previous.valid_from = observed.valid_from THEN
            RAISE EXCEPTION 'balance in % at % (%) has another state at % already', observed.currency, observed.platform_id, observed.environment, observed.valid_from
                USING
                    ERRCODE = 'unique_violation',
                    SCHEMA = 'trading',
                    TABLE = 'account_balances',
                    CONSTRAINT = 'account_balances_pkey',
                    HINT = 'What was recorded first stays. Record a correction as seen later, be it by a microsecond.';
        END IF;
        EXIT WHEN turn = 2;

        PERFORM FROM catalog.platforms AS stored WHERE stored.platform_id = observed.platform_id FOR NO KEY UPDATE;
    END LOOP;

    SELECT
        stored.valid_from,
        stored.balance = observed.balance AS is_same
    INTO following
    FROM trading.account_balances AS stored
    WHERE stored.environment = observed.environment
        AND stored.platform_id = observed.platform_id
        AND stored.currency = observed.currency
        AND stored.valid_from > observed.valid_from
    ORDER BY stored.valid_from
    LIMIT 1;

    IF following.is_same THEN
        -- The next state began earlier than was known.
        UPDATE trading.account_balances AS stored
        SET
            valid_from = CASE WHEN stored.valid_from = following.valid_from THEN observed.valid_from ELSE stored.valid_from END,
            valid_to = CASE WHEN stored.valid_from = following.valid_from THEN stored.valid_to ELSE observed.valid_from END
        WHERE stored.environment = observed.environment
            AND stored.platform_id = observed.platform_id
            AND stored.currency = observed.currency
            AND stored.valid_from IN (previous.valid_from, following.valid_from);
        RETURN 'filed';
    END IF;

    WITH closed AS (
        UPDATE trading.account_balances AS stored
        SET valid_to = observed.valid_from
        WHERE stored.environment = observed.environment
            AND stored.platform_id = observed.platform_id
            AND stored.currency = observed.currency
            AND stored.valid_from = previous.valid_from
        RETURNING stored.valid_from
    )
    INSERT INTO trading.account_balances (
        environment, platform_id, currency, valid_from, valid_to, balance, created_at
    )
    SELECT
        observed.environment, observed.platform_id, observed.currency, observed.valid_from, following.valid_from, observed.balance,
        clock_timestamp()
    WHERE (SELECT count(*) FROM closed) >= 0;
    RETURN CASE WHEN following.valid_from IS NULL THEN 'written' ELSE 'filed' END;
END;
$function$;

COMMENT ON FUNCTION trading.record_balance(trading.environment,text,trading.currency,timestamp with time zone,market_data.money) IS 'Files the balance that a venue showed at a moment. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (account_balances_pkey).';

CREATE OR REPLACE FUNCTION trading.record_exit(environment trading.environment, position_id bigint, exited_at timestamp with time zone, exit_condition trading.exit_condition, quantity_exited market_data.contracts, exit_price market_data.price, fees market_data.money, close_reason text, OUT outcome text, OUT status text, OUT quantity_left numeric, OUT remaining_quantity numeric, OUT realized_pnl numeric)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    state   trading.position_versions;
    held    trading.positions;
    known   trading.position_exits;
    sold    record;
BEGIN
    SELECT version.* INTO state
    FROM trading.position_exits AS exits
    JOIN trading.position_versions AS version
        ON version.environment = exits.environment
        AND version.position_id = exits.position_id
        AND version.valid_to IS NULL
    WHERE exits.environment = record_exit.environment
        AND exits.position_id = record_exit.position_id
        AND exits.exited_at = record_exit.exited_at;
    IF NOT FOUND THEN  -- else it is a retry, which needs no lock: an exit that is stored stays
        state := trading.held_position(record_exit.environment, record_exit.position_id);
    END IF;

    SELECT positions.* INTO STRICT held
    FROM trading.positions
    WHERE positions.environment = state.environment AND positions.position_id = state.position_id;

    SELECT exits.* INTO known
    FROM trading.position_exits AS exits
    WHERE exits.environment = state.environment
        AND exits.position_id = state.position_id
        AND exits.exited_at = record_exit.exited_at;
    IF FOUND THEN
        IF known.exit_condition <> record_exit.exit_condition OR known.exit_price <> record_exit.exit_price
            OR known.quantity_exited <> record_exit.quantity_exited THEN
            RAISE EXCEPTION 'position % (%) has another exit at % already', state.position_id, state.environment, known.exited_at
                USING
                    ERRCODE = 'unique_violation',
                    SCHEMA = 'trading',
                    TABLE = 'position_exits',
                    CONSTRAINT = 'position_exits_pkey',
                    DETAIL = format('Stored is %s.', to_jsonb(known)),
                    HINT = 'An exit that happened stays. Was it another one, then give its own time, be it a microsecond later.';
        END IF;
        outcome := 'unchanged';
        quantity_left := known.quantity_exited;
    ELSE
        SELECT
            COALESCE(record_exit.quantity_exited, state.quantity - COALESCE(sum(exits.quantity_exited), 0)) INTO quantity_left
        FROM trading.position_exits AS exits
        WHERE exits.environment = state.environment AND exits.position_id = state.position_id;

        INSERT INTO trading.position_exits (
            environment, position_id, exited_at, exit_condition, exit_priority, quantity_exited, exit_price, unrealized_pnl_at_exit
        )
        VALUES (
            state.environment, state.position_id, record_exit.exited_at, record_exit.exit_condition,
            trading.priority_of(record_exit.exit_condition), quantity_left, record_exit.exit_price,
            quantity_left * (record_exit.exit_price - held.entry_price)
        );
        outcome := 'written';
    END IF;

    SELECT
        sum(exits.quantity_exited) AS quantity,
        sum(exits.quantity_exited * exits.exit_price) AS proceeds,
        sum(exits.quantity_exited * (exits.exit_price - held.entry_price)) AS pnl,
        max(exits.exited_at) AS last_at
    INTO sold
    FROM trading.position_exits AS exits
    WHERE exits.environment = state.environment AND exits.position_id = state.position_id;

    IF outcome = 'written' THEN
        -- An exit that is told late takes effect when it is told: the states in between were what was known.
        state.valid_from := greatest(record_exit.exited_at, state.valid_from + interval '1 microsecond');
        state.fees := state.fees + COALESCE(record_exit.fees, 0);
        state.realized_pnl := sold.pnl;
        state.exit_price := sold.proceeds / sold.quantity;
        state.exit_reason := record_exit.exit_condition;
        state.exit_priority := trading.priority_of(record_exit.exit_condition);
        state.unrealized_pnl := (state.quantity - sold.quantity) * (state.current_price - held.entry_price);
        IF sold.quantity = state.quantity THEN
            state.status := 'closed';
            state.exit_time := sold.last_at;
            state.close_reason := record_exit.close_reason;
        END IF;
        PERFORM trading.begin_position_version(state);
    END IF;
    status := state.status;
    remaining_quantity := CASE WHEN state.status = 'settled' THEN 0 ELSE state.quantity - sold.quantity END;
    realized_pnl := state.realized_pnl;
END;
$function$;

COMMENT ON FUNCTION trading.record_exit(trading.environment,bigint,timestamp with time zone,trading.exit_condition,market_data.contracts,market_data.price,market_data.money,text) IS 'Contracts leave a position: adds the exit, and begins the version of the position that follows from it, closed when nothing is left. A quantity of null is all that is left. The same exit again is unchanged; fees are dollars and null is none.';

CREATE OR REPLACE FUNCTION trading.record_position_version(environment trading.environment, position_id bigint, observed_at timestamp with time zone, quantity market_data.contracts, fees market_data.money, status text, current_price market_data.price, unrealized_pnl market_data.money, unrealized_pnl_pct numeric, realized_pnl market_data.money, exit_price market_data.price, exit_time timestamp with time zone, trailing_stop_state jsonb, exit_reason trading.exit_condition, exit_priority trading.exit_priority, close_reason text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    observed    trading.position_versions;
    previous    record;
    following   record;
BEGIN
    observed.environment := record_position_version.environment;
    observed.position_id := record_position_version.position_id;
    observed.valid_from := record_position_version.observed_at;
    observed.quantity := record_position_version.quantity;
    observed.fees := record_position_version.fees;
    observed.status := record_position_version.status;
    observed.current_price := record_position_version.current_price;
    observed.unrealized_pnl := record_position_version.unrealized_pnl;
    observed.unrealized_pnl_pct := record_position_version.unrealized_pnl_pct;
    observed.realized_pnl := record_position_version.realized_pnl;
    observed.exit_price := record_position_version.exit_price;
    observed.exit_time := record_position_version.exit_time;
    observed.trailing_stop_state := record_position_version.trailing_stop_state;
    observed.exit_reason := record_position_version.exit_reason;
    observed.exit_priority := record_position_version.exit_priority;
    observed.close_reason := record_position_version.close_reason;

    -- Once to see whether there is anything to do, once more when nobody else can write.
    FOR turn IN 1..2 LOOP
        SELECT
            stored.valid_from,
            stored.last_update,
            (
                stored.quantity, stored.fees, stored.status, stored.current_price, stored.unrealized_pnl, stored.unrealized_pnl_pct,
                stored.realized_pnl, stored.exit_price, stored.exit_time, stored.trailing_stop_state, stored.exit_reason,
                stored.exit_priority, stored.close_reason
            ) IS NOT DISTINCT FROM (
                observed.quantity, observed.fees, observed.status, observed.current_price, observed.unrealized_pnl,
                observed.unrealized_pnl_pct, observed.realized_pnl, observed.exit_price, observed.exit_time,
                observed.trailing_stop_state, observed.exit_reason, observed.exit_priority, observed.close_reason
            ) AS is_same
        INTO previous
        FROM trading.position_versions AS stored
        WHERE stored.environment = observed.environment
            AND stored.position_id = observed.position_id
            AND stored.valid_from <= observed.valid_from
        ORDER BY stored.valid_from DESC
        LIMIT 1;
        IF previous.is_same AND previous.last_update >= observed.valid_from THEN
            RETURN 'unchanged';
        ELSIF previous.is_same AND turn = 2 THEN
            UPDATE trading.position_versions AS stored
            SET last_update = observed.valid_from
            WHERE stored.environment = observed.environment
                AND stored.position_id = observed.position_id
                AND stored.valid_from = previous.valid_from;
            RETURN 'unchanged';
        ELSIF previous.valid_from = observed.valid_from AND NOT previous.is_same THEN
            RAISE EXCEPTION 'position % (%) has another state at % already', observed.position_id, observed.environment, observed.valid_from
                USING
                    ERRCODE = 'unique_violation',
                    SCHEMA = 'trading',
                    TABLE = 'position_versions',
                    CONSTRAINT = 'position_versions_pkey',
                    HINT = 'What was recorded first stays. Record a correction as seen later, be it by a microsecond.';
        END IF;
        EXIT WHEN turn = 2;

        UPDATE trading.positions AS stored SET updated_at = clock_timestamp()
        WHERE stored.environment = observed.environment AND stored.position_id = observed.position_id;
    END LOOP;

    SELECT
        stored.valid_from,
        (
            stored.quantity, stored.fees, stored.status, stored.current_price, stored.unrealized_pnl, stored.unrealized_pnl_pct,
            stored.realized_pnl, stored.exit_price, stored.exit_time, stored.trailing_stop_state, stored.exit_reason,
            stored.exit_priority, stored.close_reason
        ) IS NOT DISTINCT FROM (
            observed.quantity, observed.fees, observed.status, observed.current_price, observed.unrealized_pnl,
            observed.unrealized_pnl_pct, observed.realized_pnl, observed.exit_price, observed.exit_time, observed.trailing_stop_state,
            observed.exit_reason, observed.exit_priority, observed.close_reason
        ) AS is_same
    INTO following
    FROM trading.position_versions AS stored
    WHERE stored.environment = observed.environment
        AND stored.position_id = observed.position_id
        AND stored.valid_from > observed.valid_from
    ORDER BY stored.valid_from
    LIMIT 1;

    IF following.is_same THEN
        -- The next state began earlier than was known.
        UPDATE trading.position_versions AS stored
        SET
            valid_from = CASE WHEN stored.valid_from = following.valid_from THEN observed.valid_from ELSE stored.valid_from END,
            valid_to = CASE WHEN stored.valid_from = following.valid_from THEN stored.valid_to ELSE observed.valid_from END
        WHERE stored.environment = observed.environment
            AND stored.position_id = observed.position_id
            AND stored.valid_from IN (previous.valid_from, following.valid_from);
        RETURN 'filed';
    END IF;

    WITH closed AS (
        UPDATE trading.position_versions AS stored
        SET valid_to = observed.valid_from
        WHERE stored.environment = observed.environment
            AND stored.position_id = observed.position_id
            AND stored.valid_from = previous.valid_from
        RETURNING stored.valid_from
    )
    INSERT INTO trading.position_versions (
        environment, position_id, valid_from, valid_to, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct,
        realized_pnl, exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, last_update, created_at
    )
    SELECT
        observed.environment, observed.position_id, observed.valid_from, following.valid_from, observed.quantity, observed.fees,
        observed.status, observed.current_price, observed.unrealized_pnl, observed.unrealized_pnl_pct, observed.realized_pnl,
        observed.exit_price, observed.exit_time, observed.trailing_stop_state, observed.exit_reason, observed.exit_priority,
        observed.close_reason, observed.valid_from, clock_timestamp()
    WHERE (SELECT count(*) FROM closed) >= 0;
    RETURN CASE WHEN following.valid_from IS NULL THEN 'written' ELSE 'filed' END;
END;
$function$;

COMMENT ON FUNCTION trading.record_position_version(trading.environment,bigint,timestamp with time zone,market_data.contracts,market_data.money,text,market_data.price,market_data.money,numeric,market_data.money,market_data.price,timestamp with time zone,jsonb,trading.exit_condition,trading.exit_priority,text) IS 'Files the whole state of a position at a moment; null is unknown. A confirmation moves only last_update. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (position_versions_pkey).';

CREATE OR REPLACE FUNCTION trading.settle_position(environment trading.environment, position_id bigint, settled_at timestamp with time zone, payout market_data.price, fees market_data.money, OUT outcome text, OUT quantity_paid numeric, OUT realized_pnl numeric)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    state   trading.position_versions;
    held    trading.positions;
    sold    record;
    pnl     numeric;
BEGIN
    state := trading.held_position(settle_position.environment, settle_position.position_id);

    SELECT positions.* INTO STRICT held
    FROM trading.positions
    WHERE positions.environment = state.environment AND positions.position_id = state.position_id;

    SELECT
        COALESCE(sum(exits.quantity_exited), 0) AS quantity,
        COALESCE(sum(exits.quantity_exited * exits.exit_price), 0) AS proceeds
    INTO sold
    FROM trading.position_exits AS exits
    WHERE exits.environment = state.environment AND exits.position_id = state.position_id;
    quantity_paid := state.quantity - sold.quantity;
    pnl := round(sold.proceeds + quantity_paid * settle_position.payout - state.quantity * held.entry_price, 6);

    IF state.status = 'closed' OR (state.status = 'settled' AND state.realized_pnl <> pnl) THEN
        RAISE EXCEPTION 'position % (%) is % since % with a profit of % dollars', state.position_id, state.environment, state.status,
            state.exit_time, state.realized_pnl
            USING
                ERRCODE = 'restrict_violation',
                SCHEMA = 'trading',
                TABLE = 'position_versions',
                CONSTRAINT = 'position_versions_settle_once',
                HINT = 'Only what is still held is paid out, and once. What was recorded stays; what the venue amends is a movement of cash (reason correction).';
    END IF;
    realized_pnl := pnl;
    outcome := 'unchanged';
    IF state.status = 'open' THEN
        state.valid_from := greatest(settle_position.settled_at, state.valid_from + interval '1 microsecond');
        state.status := 'settled';
        state.fees := state.fees + COALESCE(settle_position.fees, 0);
        state.realized_pnl := pnl;
        state.exit_price := (sold.proceeds + quantity_paid * settle_position.payout) / state.quantity;
        state.exit_time := settle_position.settled_at;
        state.current_price := settle_position.payout;
        state.unrealized_pnl := 0;
        state.unrealized_pnl_pct := (settle_position.payout - held.entry_price) / NULLIF(held.entry_price, 0);
        PERFORM trading.begin_position_version(state);
        outcome := 'written';
    END IF;
END;
$function$;

COMMENT ON FUNCTION trading.settle_position(trading.environment,bigint,timestamp with time zone,market_data.price,market_data.money) IS 'The venue pays for the contracts that are still held: payout dollars each, for the side that is held. The same again is unchanged, another payout is refused (constraint position_versions_settle_once).';

CREATE OR REPLACE FUNCTION trading.trailing_stop_is_hit(state jsonb, price market_data.price)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN COALESCE((((state ->> 'active'::text))::boolean AND ((price)::numeric <= ((state ->> 'current_stop_price'::text))::numeric)), false);

COMMENT ON FUNCTION trading.trailing_stop_is_hit(jsonb,market_data.price) IS 'Whether a price of the side that is held is at or below the stop, and the stop is active.';

CREATE TABLE trading.account_balances (
    environment trading.environment NOT NULL,
    platform_id text NOT NULL,
    currency trading.currency DEFAULT 'USD'::text NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    row_current_ind boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED NOT NULL,
    balance market_data.money NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT account_balances_pkey PRIMARY KEY (environment, platform_id, currency, valid_from),
    CONSTRAINT account_balances_valid_to_environment_platform_id_currency_key UNIQUE (valid_to, environment, platform_id, currency),
    CONSTRAINT account_balances_balance_check CHECK (balance::numeric >= 0::numeric),
    CONSTRAINT account_balances_valid_to_check CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX account_balances_current_key ON trading.account_balances USING btree (environment, platform_id, currency) WHERE (valid_to IS NULL);

CREATE TRIGGER account_balances_append_only BEFORE DELETE ON trading.account_balances FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER account_balances_immutable_config BEFORE UPDATE OF environment, platform_id, currency, balance, created_at ON trading.account_balances FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('environment', 'platform_id', 'currency', 'balance', 'created_at');

CREATE TRIGGER account_balances_truncate BEFORE TRUNCATE ON trading.account_balances FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.account_balances IS 'Our cash at a venue over [valid_from, valid_to): SCD type 2. Why it changed is in cash_ledger.';
COMMENT ON COLUMN trading.account_balances.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.account_balances.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.account_balances.currency IS 'Currency of the balance.';
COMMENT ON COLUMN trading.account_balances.valid_from IS 'When this balance was first observed, UTC.';
COMMENT ON COLUMN trading.account_balances.valid_to IS 'When the next one was observed, UTC, exclusive; null = current.';
COMMENT ON COLUMN trading.account_balances.row_current_ind IS 'True for the current balance; derived from valid_to.';
COMMENT ON COLUMN trading.account_balances.balance IS 'Cash, never negative, in units of the currency.';
COMMENT ON COLUMN trading.account_balances.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER account_balances_append_only ON trading.account_balances IS 'A balance that was observed stays on record.';
COMMENT ON TRIGGER account_balances_immutable_config ON trading.account_balances IS 'A balance that was observed stays what it was; another one is a new version.';
COMMENT ON TRIGGER account_balances_truncate ON trading.account_balances IS 'A balance that was observed stays on record.';

CREATE TABLE trading.cash_ledger (
    environment trading.environment NOT NULL,
    platform_id text NOT NULL,
    reference text NOT NULL,
    currency trading.currency DEFAULT 'USD'::text NOT NULL,
    reason text NOT NULL,
    amount market_data.money NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    market_ticker catalog.ticker,
    trade_id bigint,
    notes text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT cash_ledger_pkey PRIMARY KEY (environment, platform_id, reference),
    CONSTRAINT cash_ledger_amount_check CHECK (amount::numeric <> 0::numeric AND (reason <> 'deposit'::text OR amount::numeric > 0::numeric) AND (reason <> 'withdrawal'::text OR amount::numeric < 0::numeric) AND (reason <> 'settlement'::text OR amount::numeric > 0::numeric)),
    CONSTRAINT cash_ledger_reason_check CHECK (reason = ANY (ARRAY['fill'::text, 'fee'::text, 'settlement'::text, 'deposit'::text, 'withdrawal'::text, 'correction'::text])),
    CONSTRAINT cash_ledger_reference_check CHECK (reference <> ''::text)
);

CREATE INDEX cash_ledger_environment_platform_id_trade_id_idx ON trading.cash_ledger USING btree (environment, platform_id, trade_id);

CREATE INDEX cash_ledger_market_ticker_idx ON trading.cash_ledger USING btree (market_ticker);

CREATE INDEX cash_ledger_occurred_at_idx ON trading.cash_ledger USING btree (environment, platform_id, currency, occurred_at);

CREATE TRIGGER cash_ledger_append_only BEFORE DELETE OR UPDATE ON trading.cash_ledger FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER cash_ledger_truncate BEFORE TRUNCATE ON trading.cash_ledger FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.cash_ledger IS 'Why cash changed: one row a movement, only added. The sum up to a moment is the balance at it.';
COMMENT ON COLUMN trading.cash_ledger.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.cash_ledger.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.cash_ledger.reference IS 'What the movement is known by: fill id with its reason, id of the transfer. Tells a retry from a new movement.';
COMMENT ON COLUMN trading.cash_ledger.currency IS 'Currency of the amount.';
COMMENT ON COLUMN trading.cash_ledger.reason IS 'fill, fee, settlement, deposit, withdrawal or correction.';
COMMENT ON COLUMN trading.cash_ledger.amount IS 'What came in (positive) or went out (negative), in units of the currency, never 0.';
COMMENT ON COLUMN trading.cash_ledger.occurred_at IS 'When it happened, UTC.';
COMMENT ON COLUMN trading.cash_ledger.market_ticker IS 'The market that it is about; null for a transfer.';
COMMENT ON COLUMN trading.cash_ledger.trade_id IS 'The fill behind it; null when none is.';
COMMENT ON COLUMN trading.cash_ledger.notes IS 'Remarks for people; a correction says here why.';
COMMENT ON COLUMN trading.cash_ledger.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER cash_ledger_append_only ON trading.cash_ledger IS 'Money that moved has moved.';
COMMENT ON TRIGGER cash_ledger_truncate ON trading.cash_ledger IS 'Money that moved has moved.';

CREATE TABLE trading.exit_attempts (
    environment trading.environment NOT NULL,
    position_id bigint NOT NULL,
    attempted_at timestamp with time zone NOT NULL,
    attempt_number integer NOT NULL,
    exit_condition trading.exit_condition NOT NULL,
    priority_level trading.exit_priority NOT NULL,
    order_type text NOT NULL,
    limit_price market_data.price,
    fill_price market_data.price,
    quantity market_data.contracts NOT NULL,
    timeout_seconds integer,
    success boolean,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT exit_attempts_pkey PRIMARY KEY (environment, position_id, attempted_at, attempt_number),
    CONSTRAINT exit_attempts_attempt_number_check CHECK (attempt_number >= 1),
    CONSTRAINT exit_attempts_fill_price_check CHECK (fill_price IS NULL OR success),
    CONSTRAINT exit_attempts_limit_price_check CHECK ((order_type = 'limit'::text) = (limit_price IS NOT NULL)),
    CONSTRAINT exit_attempts_order_type_check CHECK (order_type = ANY (ARRAY['market'::text, 'limit'::text])),
    CONSTRAINT exit_attempts_priority_level_check CHECK (priority_level::text = trading.priority_of(exit_condition)::text),
    CONSTRAINT exit_attempts_quantity_check CHECK (quantity::numeric > 0::numeric),
    CONSTRAINT exit_attempts_timeout_seconds_check CHECK (timeout_seconds > 0)
);

CREATE INDEX exit_attempts_attempted_at_idx ON trading.exit_attempts USING btree (environment, attempted_at);

CREATE TRIGGER exit_attempts_append_only BEFORE DELETE OR UPDATE ON trading.exit_attempts FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER exit_attempts_truncate BEFORE TRUNCATE ON trading.exit_attempts FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.exit_attempts IS 'An order that tried to leave a position, filled or not: the walk of the price. Rows are only added.';
COMMENT ON COLUMN trading.exit_attempts.environment IS 'Which money: that of the position.';
COMMENT ON COLUMN trading.exit_attempts.position_id IS 'The position.';
COMMENT ON COLUMN trading.exit_attempts.attempted_at IS 'When the order was sent, UTC.';
COMMENT ON COLUMN trading.exit_attempts.attempt_number IS '1 = first order, 2 = first step of the walk ...';
COMMENT ON COLUMN trading.exit_attempts.exit_condition IS 'Condition that triggered it.';
COMMENT ON COLUMN trading.exit_attempts.priority_level IS 'Priority of that condition.';
COMMENT ON COLUMN trading.exit_attempts.order_type IS 'market or limit.';
COMMENT ON COLUMN trading.exit_attempts.limit_price IS 'Limit in dollars for the side that is held; null for a market order.';
COMMENT ON COLUMN trading.exit_attempts.fill_price IS 'Price of the fill in dollars; null when it did not fill.';
COMMENT ON COLUMN trading.exit_attempts.quantity IS 'Contracts of the order.';
COMMENT ON COLUMN trading.exit_attempts.timeout_seconds IS 'Seconds that were waited for a fill; null when not at all.';
COMMENT ON COLUMN trading.exit_attempts.success IS 'Whether it filled; null when unknown.';
COMMENT ON COLUMN trading.exit_attempts.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER exit_attempts_append_only ON trading.exit_attempts IS 'An attempt that happened stays.';
COMMENT ON TRIGGER exit_attempts_truncate ON trading.exit_attempts IS 'An attempt that happened stays.';

CREATE TABLE trading.performance_daily (
    environment trading.environment NOT NULL,
    platform_id text NOT NULL,
    date date NOT NULL,
    total_pnl market_data.money NOT NULL,
    num_trades bigint NOT NULL,
    win_rate market_data.probability,
    portfolio_value market_data.money NOT NULL,
    daily_return numeric(12,6),
    max_drawdown numeric(12,6),
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT performance_daily_pkey PRIMARY KEY (environment, platform_id, date),
    CONSTRAINT performance_daily_max_drawdown_check CHECK (max_drawdown >= 0::numeric AND max_drawdown <= 1::numeric),
    CONSTRAINT performance_daily_num_trades_check CHECK (num_trades >= 0)
);

COMMENT ON TABLE trading.performance_daily IS 'What a day came to at one venue.';
COMMENT ON COLUMN trading.performance_daily.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.performance_daily.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.performance_daily.date IS 'The day, UTC.';
COMMENT ON COLUMN trading.performance_daily.total_pnl IS 'Realized profit of the positions that ended that day, before fees, dollars.';
COMMENT ON COLUMN trading.performance_daily.num_trades IS 'Positions that were closed or settled that day.';
COMMENT ON COLUMN trading.performance_daily.win_rate IS 'Share of them that made money, 0 to 1; null when none was closed.';
COMMENT ON COLUMN trading.performance_daily.portfolio_value IS 'Cash and positions at the end of the day, dollars.';
COMMENT ON COLUMN trading.performance_daily.daily_return IS 'Return of the day, a fraction: 0.01 = 1 %; null on the first day.';
COMMENT ON COLUMN trading.performance_daily.max_drawdown IS 'Deepest fall from a peak of portfolio_value so far, a fraction 0 to 1.';
COMMENT ON COLUMN trading.performance_daily.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN trading.performance_daily.updated_at IS 'When it last changed, UTC.';

CREATE TABLE trading.position_exits (
    environment trading.environment NOT NULL,
    position_id bigint NOT NULL,
    exited_at timestamp with time zone NOT NULL,
    exit_condition trading.exit_condition NOT NULL,
    exit_priority trading.exit_priority NOT NULL,
    quantity_exited market_data.contracts NOT NULL,
    exit_price market_data.price NOT NULL,
    unrealized_pnl_at_exit market_data.money,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT position_exits_pkey PRIMARY KEY (environment, position_id, exited_at),
    CONSTRAINT position_exits_exit_priority_check CHECK (exit_priority::text = trading.priority_of(exit_condition)::text),
    CONSTRAINT position_exits_quantity_exited_check CHECK (quantity_exited::numeric > 0::numeric)
);

CREATE INDEX position_exits_exited_at_idx ON trading.position_exits USING btree (environment, exited_at);

CREATE TRIGGER position_exits_append_only BEFORE DELETE OR UPDATE ON trading.position_exits FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER position_exits_overexit BEFORE INSERT ON trading.position_exits FOR EACH ROW EXECUTE FUNCTION trading.refuse_overexit();

CREATE TRIGGER position_exits_truncate BEFORE TRUNCATE ON trading.position_exits FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.position_exits IS 'Contracts that left a position; a position can be left in parts. Rows are only added.';
COMMENT ON COLUMN trading.position_exits.environment IS 'Which money: that of the position.';
COMMENT ON COLUMN trading.position_exits.position_id IS 'The position.';
COMMENT ON COLUMN trading.position_exits.exited_at IS 'When they left, UTC.';
COMMENT ON COLUMN trading.position_exits.exit_condition IS 'Condition that triggered it.';
COMMENT ON COLUMN trading.position_exits.exit_priority IS 'Priority of that condition.';
COMMENT ON COLUMN trading.position_exits.quantity_exited IS 'Contracts that left.';
COMMENT ON COLUMN trading.position_exits.exit_price IS 'What one of them brought, dollars for the side that was held.';
COMMENT ON COLUMN trading.position_exits.unrealized_pnl_at_exit IS 'Profit of the position at that moment, dollars; null when not computed.';
COMMENT ON COLUMN trading.position_exits.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER position_exits_append_only ON trading.position_exits IS 'An exit that happened stays.';
COMMENT ON TRIGGER position_exits_overexit ON trading.position_exits IS 'An exit finds room in the position, or is refused.';
COMMENT ON TRIGGER position_exits_truncate ON trading.position_exits IS 'An exit that happened stays.';

CREATE TABLE trading.positions (
    environment trading.environment NOT NULL,
    position_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    platform_id text NOT NULL,
    market_ticker catalog.ticker NOT NULL,
    side market_data.side NOT NULL,
    entry_price market_data.price NOT NULL,
    entry_time timestamp with time zone NOT NULL,
    strategy_id bigint,
    model_id bigint,
    reason text,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT positions_pkey PRIMARY KEY (environment, position_id),
    CONSTRAINT positions_environment_position_id_market_ticker_platform_id_key UNIQUE (environment, position_id, market_ticker, platform_id),
    CONSTRAINT positions_natural_key UNIQUE (market_ticker, environment, platform_id, side, entry_time),
    CONSTRAINT positions_position_id_key UNIQUE (position_id)
);

CREATE INDEX positions_model_id_idx ON trading.positions USING btree (model_id);

CREATE INDEX positions_strategy_id_idx ON trading.positions USING btree (strategy_id);

CREATE TRIGGER positions_append_only BEFORE DELETE ON trading.positions FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER positions_immutable_config BEFORE UPDATE OF environment, position_id, platform_id, market_ticker, side, entry_price, entry_time, strategy_id, model_id, created_at ON trading.positions FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('environment', 'position_id', 'platform_id', 'market_ticker', 'side', 'entry_price', 'entry_time', 'strategy_id', 'model_id', 'created_at');

CREATE TRIGGER positions_truncate BEFORE TRUNCATE ON trading.positions FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.positions IS 'A position: what was entered, where, when and why. Its state over time is in position_versions.';
COMMENT ON COLUMN trading.positions.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.positions.position_id IS 'Number of the position.';
COMMENT ON COLUMN trading.positions.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.positions.market_ticker IS 'The market.';
COMMENT ON COLUMN trading.positions.side IS 'The side that is held: yes or no.';
COMMENT ON COLUMN trading.positions.entry_price IS 'What one contract cost on average at the entry, dollars for that side.';
COMMENT ON COLUMN trading.positions.entry_time IS 'When it was entered, UTC; with market, venue, environment and side it tells a retry from a new position.';
COMMENT ON COLUMN trading.positions.strategy_id IS 'The exact strategy version that entered; null when none did.';
COMMENT ON COLUMN trading.positions.model_id IS 'The exact model version behind it; null when none is.';
COMMENT ON COLUMN trading.positions.reason IS 'Why it was entered, for people.';
COMMENT ON COLUMN trading.positions.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN trading.positions.updated_at IS 'When a version or an exit was last added, UTC; each writer moves it first, which makes them take turns.';
COMMENT ON TRIGGER positions_append_only ON trading.positions IS 'A position that was held stays on record.';
COMMENT ON TRIGGER positions_immutable_config ON trading.positions IS 'What was entered, with which money and why by which version, stays so.';
COMMENT ON TRIGGER positions_truncate ON trading.positions IS 'A position that was held stays on record.';

CREATE TABLE trading.trades (
    environment trading.environment NOT NULL,
    platform_id text NOT NULL,
    fill_id text NOT NULL,
    trade_id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    order_id text,
    market_ticker catalog.ticker NOT NULL,
    position_id bigint,
    edge_id bigint,
    strategy_id bigint,
    model_id bigint,
    side text NOT NULL,
    contract_side market_data.side NOT NULL,
    price market_data.price NOT NULL,
    quantity market_data.contracts NOT NULL,
    fees market_data.money,
    is_taker boolean,
    edge_at_execution numeric(18,6),
    confidence_at_execution text,
    executed_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    CONSTRAINT trades_pkey PRIMARY KEY (environment, platform_id, fill_id),
    CONSTRAINT trades_environment_platform_id_trade_id_key UNIQUE (environment, platform_id, trade_id),
    CONSTRAINT trades_confidence_at_execution_check CHECK (confidence_at_execution = ANY (ARRAY['high'::text, 'medium'::text, 'low'::text])),
    CONSTRAINT trades_fill_id_check CHECK (fill_id <> ''::text),
    CONSTRAINT trades_quantity_check CHECK (quantity::numeric > 0::numeric),
    CONSTRAINT trades_side_check CHECK (side = ANY (ARRAY['buy'::text, 'sell'::text]))
);

CREATE INDEX trades_edge_id_idx ON trading.trades USING btree (edge_id);

CREATE INDEX trades_executed_at_idx ON trading.trades USING btree (environment, executed_at);

CREATE INDEX trades_market_ticker_executed_at_idx ON trading.trades USING btree (market_ticker, executed_at);

CREATE INDEX trades_model_id_idx ON trading.trades USING btree (model_id);

CREATE INDEX trades_position_id_idx ON trading.trades USING btree (environment, position_id);

CREATE INDEX trades_strategy_id_executed_at_idx ON trading.trades USING btree (strategy_id, executed_at);

CREATE TRIGGER trades_append_only BEFORE DELETE OR UPDATE ON trading.trades FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();

CREATE TRIGGER trades_truncate BEFORE TRUNCATE ON trading.trades FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();

COMMENT ON TABLE trading.trades IS 'One fill of our own, with what led to it; rows are only added.';
COMMENT ON COLUMN trading.trades.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.trades.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.trades.fill_id IS 'The venue''s id of the fill; ours for paper. With venue and environment it tells a retry from a new fill.';
COMMENT ON COLUMN trading.trades.trade_id IS 'Number of the fill here.';
COMMENT ON COLUMN trading.trades.order_id IS 'The venue''s id of the order; an order can fill in parts.';
COMMENT ON COLUMN trading.trades.market_ticker IS 'The market.';
COMMENT ON COLUMN trading.trades.position_id IS 'The position that it opened, grew or reduced; null when none.';
COMMENT ON COLUMN trading.trades.edge_id IS 'The exact version of the edge that triggered it; null when none did.';
COMMENT ON COLUMN trading.trades.strategy_id IS 'The exact strategy version that traded; null for a trade by hand.';
COMMENT ON COLUMN trading.trades.model_id IS 'The exact model version behind it; null when none is.';
COMMENT ON COLUMN trading.trades.side IS 'buy or sell.';
COMMENT ON COLUMN trading.trades.contract_side IS 'What was bought or sold: yes or no contracts.';
COMMENT ON COLUMN trading.trades.price IS 'Price of one contract, dollars for contract_side.';
COMMENT ON COLUMN trading.trades.quantity IS 'Contracts of the fill.';
COMMENT ON COLUMN trading.trades.fees IS 'Fee of the fill, dollars; negative for a rebate, null when unknown.';
COMMENT ON COLUMN trading.trades.is_taker IS 'Whether we took liquidity; null when unknown.';
COMMENT ON COLUMN trading.trades.edge_at_execution IS 'Expected profit of one contract at that moment, dollars.';
COMMENT ON COLUMN trading.trades.confidence_at_execution IS 'high, medium or low at that moment; null when not judged.';
COMMENT ON COLUMN trading.trades.executed_at IS 'When it filled, UTC.';
COMMENT ON COLUMN trading.trades.created_at IS 'When the row was written, UTC.';
COMMENT ON TRIGGER trades_append_only ON trading.trades IS 'A fill that happened stays.';
COMMENT ON TRIGGER trades_truncate ON trading.trades IS 'A fill that happened stays.';

CREATE VIEW trading.current_balances AS
 SELECT environment,
    platform_id,
    currency,
    valid_from,
    balance
   FROM trading.account_balances
  WHERE valid_to IS NULL;

COMMENT ON VIEW trading.current_balances IS 'Our cash at each venue now.';
COMMENT ON COLUMN trading.current_balances.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.current_balances.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.current_balances.currency IS 'Currency of the balance.';
COMMENT ON COLUMN trading.current_balances.valid_from IS 'When this balance was first observed, UTC.';
COMMENT ON COLUMN trading.current_balances.balance IS 'Cash, in units of the currency.';

CREATE VIEW trading.open_positions AS
 SELECT positions.environment,
    positions.position_id,
    positions.platform_id,
    positions.market_ticker,
    positions.side,
    positions.entry_price,
    positions.entry_time,
    positions.strategy_id,
    positions.model_id,
    positions.reason,
    version.valid_from,
    version.quantity,
    (version.quantity::numeric - COALESCE(exited.quantity, 0::numeric))::numeric(18,2) AS remaining_quantity,
    version.fees,
    version.current_price,
    version.unrealized_pnl,
    version.unrealized_pnl_pct,
    version.realized_pnl,
    version.trailing_stop_state,
    version.last_update
   FROM trading.position_versions version
     JOIN trading.positions ON positions.environment::text = version.environment::text AND positions.position_id = version.position_id
     LEFT JOIN LATERAL ( SELECT sum(position_exits.quantity_exited::numeric) AS quantity
           FROM trading.position_exits
          WHERE position_exits.environment::text = version.environment::text AND position_exits.position_id = version.position_id) exited ON true
  WHERE version.valid_to IS NULL AND version.status = 'open'::text;

COMMENT ON VIEW trading.open_positions IS 'What is held now, with its current version.';
COMMENT ON COLUMN trading.open_positions.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.open_positions.position_id IS 'Number of the position.';
COMMENT ON COLUMN trading.open_positions.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.open_positions.market_ticker IS 'The market.';
COMMENT ON COLUMN trading.open_positions.side IS 'The side that is held.';
COMMENT ON COLUMN trading.open_positions.entry_price IS 'What one contract cost, dollars for that side.';
COMMENT ON COLUMN trading.open_positions.entry_time IS 'When it was entered, UTC.';
COMMENT ON COLUMN trading.open_positions.strategy_id IS 'The exact strategy version that entered.';
COMMENT ON COLUMN trading.open_positions.model_id IS 'The exact model version behind it.';
COMMENT ON COLUMN trading.open_positions.reason IS 'Why it was entered.';
COMMENT ON COLUMN trading.open_positions.valid_from IS 'When its current state began, UTC.';
COMMENT ON COLUMN trading.open_positions.quantity IS 'Contracts that entered.';
COMMENT ON COLUMN trading.open_positions.remaining_quantity IS 'Contracts that are still held.';
COMMENT ON COLUMN trading.open_positions.fees IS 'Fees paid so far, dollars.';
COMMENT ON COLUMN trading.open_positions.current_price IS 'Latest price seen by the monitor, dollars for that side.';
COMMENT ON COLUMN trading.open_positions.unrealized_pnl IS 'Profit of the remaining contracts as the monitor saw it, dollars.';
COMMENT ON COLUMN trading.open_positions.unrealized_pnl_pct IS 'The same as a fraction of the entry.';
COMMENT ON COLUMN trading.open_positions.realized_pnl IS 'Profit of the contracts that left, dollars.';
COMMENT ON COLUMN trading.open_positions.trailing_stop_state IS 'Trailing stop; null when there is none. [json: kalshidb.documents:TrailingStop]';
COMMENT ON COLUMN trading.open_positions.last_update IS 'When the monitor looked at it, UTC.';

CREATE VIEW trading.trade_attribution AS
 SELECT trades.environment,
    trades.platform_id,
    trades.trade_id,
    trades.fill_id,
    trades.executed_at,
    trades.market_ticker,
    trades.position_id,
    trades.side,
    trades.contract_side,
    trades.price,
    trades.quantity,
    trades.fees,
    trades.strategy_id,
    strategies.strategy_name,
    strategies.strategy_version,
    strategies.config AS strategy_config,
    trades.model_id,
    probability_models.model_name,
    probability_models.model_version,
    probability_models.config AS model_config,
    trades.edge_id,
    trades.edge_at_execution,
    trades.confidence_at_execution
   FROM trading.trades
     LEFT JOIN research.strategies ON strategies.strategy_id = trades.strategy_id
     LEFT JOIN research.probability_models ON probability_models.model_id = trades.model_id;

COMMENT ON VIEW trading.trade_attribution IS 'Each fill with the exact strategy and model version that it came from.';
COMMENT ON COLUMN trading.trade_attribution.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.trade_attribution.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.trade_attribution.trade_id IS 'Number of the fill here.';
COMMENT ON COLUMN trading.trade_attribution.fill_id IS 'The venue''s id of the fill.';
COMMENT ON COLUMN trading.trade_attribution.executed_at IS 'When it filled, UTC.';
COMMENT ON COLUMN trading.trade_attribution.market_ticker IS 'The market.';
COMMENT ON COLUMN trading.trade_attribution.position_id IS 'The position; null when none.';
COMMENT ON COLUMN trading.trade_attribution.side IS 'buy or sell.';
COMMENT ON COLUMN trading.trade_attribution.contract_side IS 'yes or no contracts.';
COMMENT ON COLUMN trading.trade_attribution.price IS 'Price of one contract, dollars for contract_side.';
COMMENT ON COLUMN trading.trade_attribution.quantity IS 'Contracts of the fill.';
COMMENT ON COLUMN trading.trade_attribution.fees IS 'Fee of the fill, dollars.';
COMMENT ON COLUMN trading.trade_attribution.strategy_id IS 'The exact strategy version; null for a trade by hand.';
COMMENT ON COLUMN trading.trade_attribution.strategy_name IS 'Its name.';
COMMENT ON COLUMN trading.trade_attribution.strategy_version IS 'Its version.';
COMMENT ON COLUMN trading.trade_attribution.strategy_config IS 'Its parameters.';
COMMENT ON COLUMN trading.trade_attribution.model_id IS 'The exact model version; null when none.';
COMMENT ON COLUMN trading.trade_attribution.model_name IS 'Its name.';
COMMENT ON COLUMN trading.trade_attribution.model_version IS 'Its version.';
COMMENT ON COLUMN trading.trade_attribution.model_config IS 'Its parameters.';
COMMENT ON COLUMN trading.trade_attribution.edge_id IS 'The exact version of the edge that triggered it.';
COMMENT ON COLUMN trading.trade_attribution.edge_at_execution IS 'Expected profit of one contract at that moment, dollars.';
COMMENT ON COLUMN trading.trade_attribution.confidence_at_execution IS 'high, medium or low at that moment.';

ALTER TABLE backtest.runs ADD CONSTRAINT runs_asof_policy_id_fkey FOREIGN KEY (asof_policy_id) REFERENCES research.asof_policies(asof_policy_id);
ALTER TABLE backtest.runs ADD CONSTRAINT runs_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies(strategy_id);
ALTER TABLE backtest.trades ADD CONSTRAINT trades_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE backtest.trades ADD CONSTRAINT trades_run_id_fkey FOREIGN KEY (run_id) REFERENCES backtest.runs(run_id) ON DELETE CASCADE;
ALTER TABLE backtest.trades ADD CONSTRAINT trades_station_id_fkey FOREIGN KEY (station_id) REFERENCES catalog.stations(station_id);
ALTER TABLE catalog.events ADD CONSTRAINT events_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE catalog.events ADD CONSTRAINT events_series_ticker_fkey FOREIGN KEY (series_ticker) REFERENCES catalog.series(series_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.market_lifecycle ADD CONSTRAINT market_lifecycle_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.market_versions ADD CONSTRAINT market_versions_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.market_versions ADD CONSTRAINT market_versions_market_ticker_valid_to_fkey FOREIGN KEY (market_ticker, valid_to) REFERENCES catalog.market_versions(market_ticker, valid_from);
COMMENT ON CONSTRAINT market_versions_market_ticker_valid_to_fkey ON catalog.market_versions IS 'A version ends where the next begins: no gap.';
ALTER TABLE catalog.markets ADD CONSTRAINT markets_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events(event_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.markets ADD CONSTRAINT markets_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE catalog.markets ADD CONSTRAINT markets_series_ticker_fkey FOREIGN KEY (series_ticker) REFERENCES catalog.series(series_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.series ADD CONSTRAINT series_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE catalog.settlements ADD CONSTRAINT settlements_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events(event_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.settlements ADD CONSTRAINT settlements_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE catalog.settlements ADD CONSTRAINT settlements_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE market_data.candlesticks ADD CONSTRAINT candlesticks_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE market_data.orderbook_deltas ADD CONSTRAINT orderbook_deltas_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE market_data.orderbook_snapshots ADD CONSTRAINT orderbook_snapshots_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE market_data.price_snapshots ADD CONSTRAINT price_snapshots_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE ops.coverage ADD CONSTRAINT coverage_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs(run_id);
ALTER TABLE ops.ingest_requests ADD CONSTRAINT ingest_requests_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs(run_id) ON DELETE CASCADE;
ALTER TABLE ops.rejected_payloads ADD CONSTRAINT rejected_payloads_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs(run_id);
ALTER TABLE ops.stream_gaps ADD CONSTRAINT stream_gaps_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.ingest_runs(run_id) ON DELETE CASCADE;
ALTER TABLE research.market_analyses ADD CONSTRAINT market_analyses_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE research.edges ADD CONSTRAINT edges_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE research.edges ADD CONSTRAINT edges_market_ticker_source_key_valid_to_fkey FOREIGN KEY (market_ticker, source_key, valid_to) REFERENCES research.edges(market_ticker, source_key, valid_from);
ALTER TABLE research.edges ADD CONSTRAINT edges_model_id_fkey FOREIGN KEY (model_id) REFERENCES research.probability_models(model_id);
ALTER TABLE research.edges ADD CONSTRAINT edges_probability_matrix_id_fkey FOREIGN KEY (probability_matrix_id) REFERENCES research.probability_matrices(probability_id);
ALTER TABLE research.edges ADD CONSTRAINT edges_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies(strategy_id);
ALTER TABLE research.game_states ADD CONSTRAINT game_states_event_ticker_external_game_id_valid_to_fkey FOREIGN KEY (event_ticker, external_game_id, valid_to) REFERENCES research.game_states(event_ticker, external_game_id, valid_from);
ALTER TABLE research.game_states ADD CONSTRAINT game_states_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events(event_ticker) ON DELETE CASCADE;
ALTER TABLE trading.position_versions ADD CONSTRAINT position_versions_environment_position_id_fkey FOREIGN KEY (environment, position_id) REFERENCES trading.positions(environment, position_id) ON DELETE CASCADE;
ALTER TABLE trading.position_versions ADD CONSTRAINT position_versions_environment_position_id_valid_to_fkey FOREIGN KEY (environment, position_id, valid_to) REFERENCES trading.position_versions(environment, position_id, valid_from);
ALTER TABLE trading.account_balances ADD CONSTRAINT account_balances_environment_platform_id_currency_valid_to_fkey FOREIGN KEY (environment, platform_id, currency, valid_to) REFERENCES trading.account_balances(environment, platform_id, currency, valid_from);
ALTER TABLE trading.account_balances ADD CONSTRAINT account_balances_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE trading.cash_ledger ADD CONSTRAINT cash_ledger_environment_platform_id_trade_id_fkey FOREIGN KEY (environment, platform_id, trade_id) REFERENCES trading.trades(environment, platform_id, trade_id) ON DELETE CASCADE;
ALTER TABLE trading.cash_ledger ADD CONSTRAINT cash_ledger_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE trading.cash_ledger ADD CONSTRAINT cash_ledger_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE trading.exit_attempts ADD CONSTRAINT exit_attempts_environment_position_id_fkey FOREIGN KEY (environment, position_id) REFERENCES trading.positions(environment, position_id) ON DELETE CASCADE;
ALTER TABLE trading.performance_daily ADD CONSTRAINT performance_daily_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE trading.position_exits ADD CONSTRAINT position_exits_environment_position_id_fkey FOREIGN KEY (environment, position_id) REFERENCES trading.positions(environment, position_id) ON DELETE CASCADE;
ALTER TABLE trading.positions ADD CONSTRAINT positions_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE trading.positions ADD CONSTRAINT positions_model_id_fkey FOREIGN KEY (model_id) REFERENCES research.probability_models(model_id);
ALTER TABLE trading.positions ADD CONSTRAINT positions_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE trading.positions ADD CONSTRAINT positions_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies(strategy_id);
ALTER TABLE trading.trades ADD CONSTRAINT trades_edge_id_fkey FOREIGN KEY (edge_id) REFERENCES research.edges(edge_id);
ALTER TABLE trading.trades ADD CONSTRAINT trades_environment_position_id_market_ticker_platform_id_fkey FOREIGN KEY (environment, position_id, market_ticker, platform_id) REFERENCES trading.positions(environment, position_id, market_ticker, platform_id) ON DELETE CASCADE;
ALTER TABLE trading.trades ADD CONSTRAINT trades_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets(market_ticker) ON DELETE CASCADE;
ALTER TABLE trading.trades ADD CONSTRAINT trades_model_id_fkey FOREIGN KEY (model_id) REFERENCES research.probability_models(model_id);
ALTER TABLE trading.trades ADD CONSTRAINT trades_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms(platform_id) ON DELETE CASCADE;
ALTER TABLE trading.trades ADD CONSTRAINT trades_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies(strategy_id);
