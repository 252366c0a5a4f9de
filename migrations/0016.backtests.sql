-- What would have happened: runs of a backtest and the trades in them.
--
-- Why: a run is worth as much as what it says of itself: the code (git_sha), the seed, the whole resolved config, the days, the series,
-- and what it was allowed to know. A trade names the very quote that it was made on, so that it can be followed down to the raw
-- observation. A quote from after the decision is refused by the table itself: a backtest that looks ahead cannot be stored.
-- The reference to a quote is by its natural key and no foreign key: quotes are partitioned and may be archived or distributed.
-- A run that succeeded adds up: its total is the sum of its trades, and they stay as they are until it is opened again.
-- Locks: creates only.
-- Undo: loses the runs; they can be computed again from their configs, if those were kept elsewhere.
-- depends: 0015.trades-and-cash

CREATE SCHEMA backtest;
COMMENT ON SCHEMA backtest IS 'What would have happened: runs of backtests and their trades.';

CREATE TABLE backtest.runs (
    run_id              uuid                        NOT NULL DEFAULT gen_random_uuid(),
    strategy_name       text                        NOT NULL,
    strategy_version    text                        NOT NULL,
    strategy_id         bigint,
    git_sha             text,
    random_seed         bigint                      NOT NULL,
    config_yaml         text                        NOT NULL,
    date_start_local    date                        NOT NULL,
    date_end_local      date                        NOT NULL,
    series_tickers      text[]                      NOT NULL,
    asof_policy_id      text                        NOT NULL,
    trade_window_policy text                        NOT NULL,
    status              text                        NOT NULL DEFAULT 'running',
    total_pnl           market_data.money,
    sharpe_ratio        numeric(12, 6),
    max_drawdown        market_data.money,
    win_rate            market_data.probability,
    num_trades          bigint,
    metrics_json        jsonb,
    metadata            jsonb                       NOT NULL DEFAULT '{}',
    artifact_path       text,
    error               text,
    created_at          timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    finished_at         timestamptz,
    CONSTRAINT runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT runs_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies (strategy_id),
    CONSTRAINT runs_asof_policy_id_fkey FOREIGN KEY (asof_policy_id) REFERENCES research.asof_policies (asof_policy_id),
    CONSTRAINT runs_strategy_name_check CHECK (strategy_name ~ '^\S(.{0,98}\S)?$'),
    CONSTRAINT runs_strategy_version_check CHECK (strategy_version ~ '^\S{1,50}$'),
    CONSTRAINT runs_git_sha_check CHECK (git_sha ~ '^[0-9a-f]{7,64}$'),
    CONSTRAINT runs_date_end_local_check CHECK (date_end_local >= date_start_local),
    CONSTRAINT runs_series_tickers_check CHECK (array_position(series_tickers, NULL) IS NULL),
    CONSTRAINT runs_status_check CHECK (status IN ('running', 'success', 'failed')),
    CONSTRAINT runs_finished_at_check CHECK ((status = 'running') = (finished_at IS NULL)),
    CONSTRAINT runs_error_check CHECK ((status = 'failed') = (error IS NOT NULL)),
    CONSTRAINT runs_success_check CHECK (status <> 'success' OR (total_pnl IS NOT NULL AND num_trades IS NOT NULL)),
    CONSTRAINT runs_max_drawdown_check CHECK (max_drawdown >= 0),
    CONSTRAINT runs_num_trades_check CHECK (num_trades >= 0),
    CONSTRAINT runs_metrics_json_check CHECK (jsonb_typeof(metrics_json) = 'object'),
    CONSTRAINT runs_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
);

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
COMMENT ON COLUMN backtest.runs.artifact_path IS 'Where its files lie; null when it left none.';
COMMENT ON COLUMN backtest.runs.error IS 'Why it failed; null otherwise.';
COMMENT ON COLUMN backtest.runs.created_at IS 'Begun, UTC.';
COMMENT ON COLUMN backtest.runs.finished_at IS 'Ended, UTC; null while running.';

-- Serves backtest.runs_of_strategy (with and without its version).
CREATE INDEX runs_strategy_name_strategy_version_created_at_idx ON backtest.runs (strategy_name, strategy_version, created_at);
-- Serves backtest.recent_runs.
CREATE INDEX runs_created_at_idx ON backtest.runs (created_at);
-- Serves backtest.runs_without_end, backtest.fail_runs_without_end: few at any time.
CREATE INDEX runs_running_idx ON backtest.runs (created_at) WHERE status = 'running';

CREATE TABLE backtest.trades (
    trade_id                uuid                        NOT NULL DEFAULT gen_random_uuid(),
    run_id                  uuid                        NOT NULL,
    station_id              text,
    series_ticker           catalog.ticker,
    event_ticker            catalog.ticker,
    market_ticker           catalog.ticker              NOT NULL,
    decision_ts             timestamptz                 NOT NULL,
    side                    text                        NOT NULL,
    qty                     market_data.contracts       NOT NULL,
    entry_price             market_data.price           NOT NULL,
    entry_fee               market_data.money           NOT NULL,
    entry_time              timestamptz                 NOT NULL,
    entry_candle_end_ts     timestamptz,
    entry_candle_minutes    smallint,
    entry_snapshot_time     timestamptz,
    entry_snapshot_source   market_data.source,
    exit_time               timestamptz,
    exit_price              market_data.price,
    exit_fee                market_data.money,
    exit_candle_end_ts      timestamptz,
    exit_candle_minutes     smallint,
    exit_snapshot_time      timestamptz,
    exit_snapshot_source    market_data.source,
    model_prob_yes          market_data.probability,
    model_ev_per_contract   market_data.money,
    settled_result          text,
    pnl                     market_data.money,
    signal_metadata         jsonb                       NOT NULL DEFAULT '{}',
    notes                   text,
    created_at              timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT trades_pkey PRIMARY KEY (trade_id),
    CONSTRAINT trades_run_id_fkey FOREIGN KEY (run_id) REFERENCES backtest.runs (run_id) ON DELETE CASCADE,
    CONSTRAINT trades_station_id_fkey FOREIGN KEY (station_id) REFERENCES catalog.stations (station_id),
    CONSTRAINT trades_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    CONSTRAINT trades_side_check CHECK (side IN ('buy_yes', 'buy_no')),
    CONSTRAINT trades_qty_check CHECK (qty > 0),
    CONSTRAINT trades_entry_fee_check CHECK (entry_fee >= 0),
    CONSTRAINT trades_exit_fee_check CHECK (exit_fee IS NULL OR (exit_fee >= 0 AND exit_time IS NOT NULL)),
    CONSTRAINT trades_entry_time_check CHECK (entry_time >= decision_ts),
    CONSTRAINT trades_exit_time_check CHECK (exit_time >= entry_time),
    CONSTRAINT trades_signal_metadata_check CHECK (jsonb_typeof(signal_metadata) = 'object'),
    CONSTRAINT trades_exit_price_check CHECK ((exit_time IS NULL) = (exit_price IS NULL)),
    CONSTRAINT trades_entry_candle_check CHECK ((entry_candle_end_ts IS NULL) = (entry_candle_minutes IS NULL)),
    CONSTRAINT trades_entry_snapshot_check CHECK ((entry_snapshot_time IS NULL) = (entry_snapshot_source IS NULL)),
    CONSTRAINT trades_exit_candle_check CHECK ((exit_candle_end_ts IS NULL) = (exit_candle_minutes IS NULL)),
    CONSTRAINT trades_exit_snapshot_check CHECK ((exit_snapshot_time IS NULL) = (exit_snapshot_source IS NULL)),
    CONSTRAINT trades_entry_quote_check CHECK (num_nonnulls(entry_candle_end_ts, entry_snapshot_time) = 1),
    CONSTRAINT trades_exit_quote_check CHECK (num_nonnulls(exit_candle_end_ts, exit_snapshot_time) <= 1),
    -- What was not yet known at the decision cannot have decided it.
    CONSTRAINT trades_entry_look_ahead_check CHECK (COALESCE(entry_candle_end_ts, entry_snapshot_time) <= decision_ts),
    CONSTRAINT trades_exit_look_ahead_check CHECK (COALESCE(exit_candle_end_ts, exit_snapshot_time) <= exit_time)
);

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

-- Serves backtest.trades_of_run, backtest.trades_of_run_and_event.
CREATE INDEX trades_run_id_event_ticker_idx ON backtest.trades (run_id, event_ticker);
-- Serves backtest.trades_of_market.
CREATE INDEX trades_market_ticker_decision_ts_idx ON backtest.trades (market_ticker, decision_ts);

CREATE FUNCTION backtest.refuse_wrong_totals() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION backtest.refuse_wrong_totals() IS
    'Trigger of runs: one succeeds only with the number and the sum of its stored trades (constraint runs_totals).';

-- On UPDATE alone: the summary of a run whose trades were never kept can still be inserted as a success.
CREATE TRIGGER runs_totals
    BEFORE UPDATE ON backtest.runs
    FOR EACH ROW
    WHEN (NEW.status = 'success' AND (OLD.status, OLD.total_pnl, OLD.num_trades) IS DISTINCT FROM (NEW.status, NEW.total_pnl, NEW.num_trades))
    EXECUTE FUNCTION backtest.refuse_wrong_totals();
COMMENT ON TRIGGER runs_totals ON backtest.runs IS 'What a run says it made is what its trades made.';

CREATE FUNCTION backtest.refuse_ended_run() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION backtest.refuse_ended_run() IS
    'Trigger of trades: they are added and changed only while their run is running (constraint trades_run_is_open).';

CREATE TRIGGER trades_run_is_open_to_new
    AFTER INSERT ON backtest.trades
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION backtest.refuse_ended_run();
COMMENT ON TRIGGER trades_run_is_open_to_new ON backtest.trades IS 'A run that has ended takes no more trades.';
CREATE TRIGGER trades_run_is_open_to_changes
    AFTER UPDATE ON backtest.trades
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION backtest.refuse_ended_run();
COMMENT ON TRIGGER trades_run_is_open_to_changes ON backtest.trades IS 'The trades of a run that has ended stay as they were.';
