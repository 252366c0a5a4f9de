-- What we hold, how it went, and how we got out.
--
-- Why: a position is one row that everything points to; its changing state (size, price, stop, profit) is versioned beside it, in one
-- chain without gap or overlap (see 0011). Live, paper and demo money must never be mixed: environment has no default and is part of
-- every key and foreign key here, so that not even a bug can move a paper exit onto a live position. Exits and the attempts at them are
-- ledgers. Contracts that left a position never exceed what entered: the trigger takes the position's row first, so two exits at once
-- cannot both find room.
-- Locks: creates only; the foreign keys take a short SHARE ROW EXCLUSIVE on the tables of catalog and research that they name.
-- Undo: loses the record of what was held. Nothing else knows it but the venue.
-- depends: 0013.research-observations

CREATE SCHEMA trading;
COMMENT ON SCHEMA trading IS 'What we did: positions, fills, exits, cash. Every row says in which environment.';

CREATE DOMAIN trading.environment AS text
    CONSTRAINT environment_word_check CHECK (VALUE IN ('live', 'paper', 'demo'));
COMMENT ON DOMAIN trading.environment IS 'Which money: live (real), paper (simulated by us) or demo (the venue''s test system). Never mixed.';

CREATE DOMAIN trading.exit_condition AS text
    CONSTRAINT exit_condition_word_check CHECK (VALUE IN (
        'stop_loss', 'circuit_breaker', 'trailing_stop', 'time_based_urgent', 'liquidity_dried_up', 'profit_target',
        'partial_exit_target', 'early_exit', 'edge_disappeared', 'rebalance'
    ));
COMMENT ON DOMAIN trading.exit_condition IS 'Why a position is left: stop_loss, circuit_breaker (CRITICAL), trailing_stop, time_based_urgent, liquidity_dried_up (HIGH), profit_target, partial_exit_target (MEDIUM), early_exit, edge_disappeared, rebalance (LOW).';

CREATE DOMAIN trading.exit_priority AS text
    CONSTRAINT exit_priority_word_check CHECK (VALUE IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW'));
COMMENT ON DOMAIN trading.exit_priority IS 'How urgently a position is left: CRITICAL, HIGH, MEDIUM or LOW.';

CREATE FUNCTION trading.priority_of(condition trading.exit_condition) RETURNS trading.exit_priority
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN condition IN ('stop_loss', 'circuit_breaker') THEN 'CRITICAL'
    WHEN condition IN ('trailing_stop', 'time_based_urgent', 'liquidity_dried_up') THEN 'HIGH'
    WHEN condition IN ('profit_target', 'partial_exit_target') THEN 'MEDIUM'
    WHEN condition IN ('early_exit', 'edge_disappeared', 'rebalance') THEN 'LOW'
END;
COMMENT ON FUNCTION trading.priority_of(trading.exit_condition) IS 'The one priority that an exit condition has.';

CREATE TABLE trading.positions (
    environment     trading.environment     NOT NULL,
    position_id     bigint                  NOT NULL GENERATED ALWAYS AS IDENTITY,
    platform_id     text                    NOT NULL,
    market_ticker   catalog.ticker          NOT NULL,
    side            market_data.side        NOT NULL,
    entry_price     market_data.price       NOT NULL,
    entry_time      timestamptz             NOT NULL,
    strategy_id     bigint,
    model_id        bigint,
    reason          text,
    created_at      timestamptz             NOT NULL DEFAULT statement_timestamp(),
    updated_at      timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT positions_pkey PRIMARY KEY (environment, position_id),
    CONSTRAINT positions_position_id_key UNIQUE (position_id),
    CONSTRAINT positions_natural_key UNIQUE (market_ticker, environment, platform_id, side, entry_time),
    -- For the fills of 0015, which may only be filed under a position of their own market and venue.
    CONSTRAINT positions_environment_position_id_market_ticker_platform_id_key
        UNIQUE (environment, position_id, market_ticker, platform_id),
    CONSTRAINT positions_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    CONSTRAINT positions_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    CONSTRAINT positions_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies (strategy_id),
    CONSTRAINT positions_model_id_fkey FOREIGN KEY (model_id) REFERENCES research.probability_models (model_id)
);

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

-- Serves research.compare_strategy_versions, research.refresh_strategy_metrics.
CREATE INDEX positions_strategy_id_idx ON trading.positions (strategy_id);
-- Serves research.compare_model_versions.
CREATE INDEX positions_model_id_idx ON trading.positions (model_id);

-- The columns are named twice: a version that moves updated_at alone pays nothing.
CREATE TRIGGER positions_immutable_config
    BEFORE UPDATE OF
        environment, position_id, platform_id, market_ticker, side, entry_price, entry_time, strategy_id, model_id, created_at
    ON trading.positions
    FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change(
        'environment', 'position_id', 'platform_id', 'market_ticker', 'side', 'entry_price', 'entry_time', 'strategy_id', 'model_id',
        'created_at'
    );
COMMENT ON TRIGGER positions_immutable_config ON trading.positions IS 'What was entered, with which money and why by which version, stays so.';

CREATE TABLE trading.position_versions (
    environment         trading.environment     NOT NULL,
    position_id         bigint                  NOT NULL,
    valid_from          timestamptz             NOT NULL,
    valid_to            timestamptz,
    row_current_ind     boolean                 NOT NULL GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    quantity            market_data.contracts   NOT NULL,
    fees                market_data.money,
    status              text                    NOT NULL,
    current_price       market_data.price,
    unrealized_pnl      market_data.money,
    unrealized_pnl_pct  numeric(12, 6),
    realized_pnl        market_data.money,
    exit_price          market_data.price,
    exit_time           timestamptz,
    trailing_stop_state jsonb,
    exit_reason         trading.exit_condition,
    exit_priority       trading.exit_priority,
    close_reason        text,
    last_update         timestamptz,
    created_at          timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT position_versions_pkey PRIMARY KEY (environment, position_id, valid_from),
    CONSTRAINT position_versions_environment_position_id_fkey
        FOREIGN KEY (environment, position_id) REFERENCES trading.positions (environment, position_id) ON DELETE CASCADE,
    CONSTRAINT position_versions_valid_to_environment_position_id_key UNIQUE (valid_to, environment, position_id),
    CONSTRAINT position_versions_environment_position_id_valid_to_fkey
        FOREIGN KEY (environment, position_id, valid_to)
        REFERENCES trading.position_versions (environment, position_id, valid_from),
    CONSTRAINT position_versions_valid_to_check CHECK (valid_to > valid_from),
    CONSTRAINT position_versions_quantity_check CHECK (quantity > 0),
    CONSTRAINT position_versions_fees_check CHECK (fees >= 0),
    CONSTRAINT position_versions_status_check CHECK (status IN ('open', 'closed', 'settled')),
    CONSTRAINT position_versions_open_exit_time_check CHECK ((status = 'open') = (exit_time IS NULL)),
    CONSTRAINT position_versions_exit_priority_check CHECK (exit_priority = trading.priority_of(exit_reason)),
    CONSTRAINT position_versions_trailing_stop_state_check CHECK (jsonb_typeof(trailing_stop_state) = 'object')
);

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

-- Serves the rule of one current version a position.
CREATE UNIQUE INDEX position_versions_current_key ON trading.position_versions (environment, position_id) WHERE valid_to IS NULL;
-- Serves trading.open_positions, trading.stale_positions: the open ones are few among all that ever were.
CREATE INDEX position_versions_open_idx ON trading.position_versions (environment, last_update)
    WHERE valid_to IS NULL AND status = 'open';
-- Serves trading.daily_pnl, trading.best_markets.
CREATE INDEX position_versions_exit_time_idx ON trading.position_versions (environment, exit_time)
    WHERE valid_to IS NULL AND status <> 'open';

CREATE FUNCTION trading.advanced_trailing_stop(state jsonb, price market_data.price) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT CASE
        WHEN NOT is_active THEN state || jsonb_build_object('active', false)
        ELSE state || jsonb_build_object(
            'active', true,
            'peak_price', trim_scale(peak)::text,
            -- greatest() leaves a null out: the first stop is the one below the peak.
            'current_stop_price', trim_scale(greatest(
                (state ->> 'current_stop_price')::numeric,
                CASE
                    WHEN state ->> 'stop_distance' IS NOT NULL THEN greatest(peak - (state ->> 'stop_distance')::numeric, 0)
                    ELSE round(peak * (1 - (state ->> 'current_distance')::numeric), 6)
                END
            ))::text
        )
    END
    FROM (
        SELECT
            COALESCE((state ->> 'active')::boolean, false) OR price >= COALESCE((state ->> 'activation_price')::numeric, 0) AS is_active,
            greatest((state ->> 'peak_price')::numeric, price) AS peak
    ) AS seen
);
COMMENT ON FUNCTION trading.advanced_trailing_stop(jsonb, market_data.price) IS
    'The trailing stop after a price of the side that is held: active from activation_price on, the stop follows the peak at its distance and never falls.';

CREATE FUNCTION trading.trailing_stop_is_hit(state jsonb, price market_data.price) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE((state ->> 'active')::boolean AND price <= (state ->> 'current_stop_price')::numeric, false);
COMMENT ON FUNCTION trading.trailing_stop_is_hit(jsonb, market_data.price) IS
    'Whether a price of the side that is held is at or below the stop, and the stop is active.';

CREATE TABLE trading.position_exits (
    environment             trading.environment     NOT NULL,
    position_id             bigint                  NOT NULL,
    exited_at               timestamptz             NOT NULL,
    exit_condition          trading.exit_condition  NOT NULL,
    exit_priority           trading.exit_priority   NOT NULL,
    quantity_exited         market_data.contracts   NOT NULL,
    exit_price              market_data.price       NOT NULL,
    unrealized_pnl_at_exit  market_data.money,
    created_at              timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT position_exits_pkey PRIMARY KEY (environment, position_id, exited_at),
    CONSTRAINT position_exits_environment_position_id_fkey
        FOREIGN KEY (environment, position_id) REFERENCES trading.positions (environment, position_id) ON DELETE CASCADE,
    CONSTRAINT position_exits_exit_priority_check CHECK (exit_priority = trading.priority_of(exit_condition)),
    CONSTRAINT position_exits_quantity_exited_check CHECK (quantity_exited > 0)
);

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

-- Serves trading.exits_between, trading.exits_by_condition.
CREATE INDEX position_exits_exited_at_idx ON trading.position_exits (environment, exited_at);

CREATE TABLE trading.exit_attempts (
    environment     trading.environment     NOT NULL,
    position_id     bigint                  NOT NULL,
    attempted_at    timestamptz             NOT NULL,
    attempt_number  integer                 NOT NULL,
    exit_condition  trading.exit_condition  NOT NULL,
    priority_level  trading.exit_priority   NOT NULL,
    order_type      text                    NOT NULL,
    limit_price     market_data.price,
    fill_price      market_data.price,
    quantity        market_data.contracts   NOT NULL,
    timeout_seconds integer,
    success         boolean,
    created_at      timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT exit_attempts_pkey PRIMARY KEY (environment, position_id, attempted_at, attempt_number),
    CONSTRAINT exit_attempts_environment_position_id_fkey
        FOREIGN KEY (environment, position_id) REFERENCES trading.positions (environment, position_id) ON DELETE CASCADE,
    CONSTRAINT exit_attempts_attempt_number_check CHECK (attempt_number >= 1),
    CONSTRAINT exit_attempts_priority_level_check CHECK (priority_level = trading.priority_of(exit_condition)),
    CONSTRAINT exit_attempts_order_type_check CHECK (order_type IN ('market', 'limit')),
    CONSTRAINT exit_attempts_limit_price_check CHECK ((order_type = 'limit') = (limit_price IS NOT NULL)),
    CONSTRAINT exit_attempts_fill_price_check CHECK (fill_price IS NULL OR success),
    CONSTRAINT exit_attempts_quantity_check CHECK (quantity > 0),
    CONSTRAINT exit_attempts_timeout_seconds_check CHECK (timeout_seconds > 0)
);

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

-- Serves trading.attempts_between, trading.attempts_by_condition.
CREATE INDEX exit_attempts_attempted_at_idx ON trading.exit_attempts (environment, attempted_at);

CREATE FUNCTION trading.refuse_overexit() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
    entered numeric;
    exited  numeric;
    state   text;
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
    WHERE environment = NEW.environment AND position_id = NEW.position_id;

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
$$;
COMMENT ON FUNCTION trading.refuse_overexit() IS
    'Trigger of exits and position versions: the contracts that left a position never exceed those that entered (constraint <table>_overexit_check).';

CREATE TRIGGER position_exits_overexit
    BEFORE INSERT ON trading.position_exits
    FOR EACH ROW EXECUTE FUNCTION trading.refuse_overexit();
COMMENT ON TRIGGER position_exits_overexit ON trading.position_exits IS 'An exit finds room in the position, or is refused.';
CREATE TRIGGER position_versions_overexit
    BEFORE INSERT OR UPDATE OF quantity ON trading.position_versions
    FOR EACH ROW EXECUTE FUNCTION trading.refuse_overexit();
COMMENT ON TRIGGER position_versions_overexit ON trading.position_versions IS 'A position does not shrink below what left it.';

CREATE TRIGGER positions_append_only
    BEFORE DELETE ON trading.positions
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER positions_append_only ON trading.positions IS 'A position that was held stays on record.';
CREATE TRIGGER positions_truncate
    BEFORE TRUNCATE ON trading.positions
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER positions_truncate ON trading.positions IS 'A position that was held stays on record.';
-- A version ends (valid_to), may turn out to have begun earlier (valid_from), and is looked at (last_update). Nothing else of it moves.
CREATE TRIGGER position_versions_immutable_config
    BEFORE UPDATE OF
        environment, position_id, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl, exit_price,
        exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, created_at
    ON trading.position_versions
    FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change(
        'environment', 'position_id', 'quantity', 'fees', 'status', 'current_price', 'unrealized_pnl', 'unrealized_pnl_pct',
        'realized_pnl', 'exit_price', 'exit_time', 'trailing_stop_state', 'exit_reason', 'exit_priority', 'close_reason', 'created_at'
    );
COMMENT ON TRIGGER position_versions_immutable_config ON trading.position_versions IS 'A state that was recorded stays what it was; another one is a new version.';
CREATE TRIGGER position_versions_append_only
    BEFORE DELETE ON trading.position_versions
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER position_versions_append_only ON trading.position_versions IS 'A state that was recorded stays on record.';
CREATE TRIGGER position_versions_truncate
    BEFORE TRUNCATE ON trading.position_versions
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER position_versions_truncate ON trading.position_versions IS 'A state that was recorded stays on record.';
CREATE TRIGGER position_exits_append_only
    BEFORE UPDATE OR DELETE ON trading.position_exits
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER position_exits_append_only ON trading.position_exits IS 'An exit that happened stays.';
CREATE TRIGGER position_exits_truncate
    BEFORE TRUNCATE ON trading.position_exits
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER position_exits_truncate ON trading.position_exits IS 'An exit that happened stays.';
CREATE TRIGGER exit_attempts_append_only
    BEFORE UPDATE OR DELETE ON trading.exit_attempts
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER exit_attempts_append_only ON trading.exit_attempts IS 'An attempt that happened stays.';
CREATE TRIGGER exit_attempts_truncate
    BEFORE TRUNCATE ON trading.exit_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER exit_attempts_truncate ON trading.exit_attempts IS 'An attempt that happened stays.';

CREATE FUNCTION trading.held_position(environment trading.environment, position_id bigint) RETURNS trading.position_versions
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION trading.held_position(trading.environment, bigint) IS
    'The current version of a position, after its row is locked: nobody else writes the position until the transaction ends.';

CREATE FUNCTION trading.begin_position_version(state trading.position_versions) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    -- In one statement, at whose end the chain is whole again; counting makes the insert wait for the room that is made.
    WITH closed AS (
        UPDATE trading.position_versions AS version
        SET valid_to = (state).valid_from
        WHERE version.environment = (state).environment
            AND version.position_id = (state).position_id
            AND version.valid_to IS NULL
        RETURNING version.position_id
    )
    INSERT INTO trading.position_versions (
        environment, position_id, valid_from, quantity, fees, status, current_price, unrealized_pnl, unrealized_pnl_pct, realized_pnl,
        exit_price, exit_time, trailing_stop_state, exit_reason, exit_priority, close_reason, last_update, created_at
    )
    SELECT
        (state).environment, (state).position_id, (state).valid_from, (state).quantity, (state).fees, (state).status,
        (state).current_price, (state).unrealized_pnl, (state).unrealized_pnl_pct, (state).realized_pnl, (state).exit_price,
        (state).exit_time, (state).trailing_stop_state, (state).exit_reason, (state).exit_priority, (state).close_reason,
        (state).last_update, clock_timestamp()
    WHERE (SELECT count(*) FROM closed) = 1;
END;
COMMENT ON FUNCTION trading.begin_position_version(trading.position_versions) IS
    'Ends the current version of a position where the given one begins. For functions that hold the position (trading.held_position).';

CREATE FUNCTION trading.record_exit(
    environment         trading.environment,
    position_id         bigint,
    exited_at           timestamptz,
    exit_condition      trading.exit_condition,
    quantity_exited     market_data.contracts,
    exit_price          market_data.price,
    fees                market_data.money,
    close_reason        text,
    OUT outcome             text,
    OUT status              text,
    OUT quantity_left       numeric,
    OUT remaining_quantity  numeric,
    OUT realized_pnl        numeric
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION trading.record_exit(
    trading.environment, bigint, timestamptz, trading.exit_condition, market_data.contracts, market_data.price, market_data.money, text
) IS
    'Contracts leave a position: adds the exit, and begins the version of the position that follows from it, closed when nothing is left. A quantity of null is all that is left. The same exit again is unchanged; fees are dollars and null is none.';

CREATE FUNCTION trading.settle_position(
    environment     trading.environment,
    position_id     bigint,
    settled_at      timestamptz,
    payout          market_data.price,
    fees            market_data.money,
    OUT outcome         text,
    OUT quantity_paid   numeric,
    OUT realized_pnl    numeric
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION trading.settle_position(trading.environment, bigint, timestamptz, market_data.price, market_data.money) IS
    'The venue pays for the contracts that are still held: payout dollars each, for the side that is held. The same again is unchanged, another payout is refused (constraint position_versions_settle_once).';

CREATE FUNCTION trading.mark_position(
    environment     trading.environment,
    position_id     bigint,
    price           market_data.price,
    observed_at     timestamptz,
    OUT outcome             text,
    OUT is_stop_hit         boolean,
    OUT unrealized_pnl      numeric,
    OUT trailing_stop_state jsonb
)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION trading.mark_position(trading.environment, bigint, market_data.price, timestamptz) IS
    'The monitor looks at a position: its price, unrealized profit and trailing stop follow, and a new version begins where one of them moved. Answers written, unchanged, late (an older price than the last one, which moves nothing), closed or settled.';

CREATE VIEW trading.open_positions AS
SELECT
    positions.environment,
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
    (version.quantity - COALESCE(exited.quantity, 0))::numeric(18, 2) AS remaining_quantity,
    version.fees,
    version.current_price,
    version.unrealized_pnl,
    version.unrealized_pnl_pct,
    version.realized_pnl,
    version.trailing_stop_state,
    version.last_update
FROM trading.position_versions AS version
JOIN trading.positions
    ON positions.environment = version.environment
    AND positions.position_id = version.position_id
LEFT JOIN LATERAL (
    SELECT sum(position_exits.quantity_exited) AS quantity
    FROM trading.position_exits
    WHERE position_exits.environment = version.environment
        AND position_exits.position_id = version.position_id
) AS exited ON true
WHERE version.valid_to IS NULL
    AND version.status = 'open';

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
