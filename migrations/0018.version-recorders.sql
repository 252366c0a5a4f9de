-- One observation becomes a version in one round trip, whoever else writes at that moment.
--
-- Why: a version is right only when the row before it is read after everybody else is shut out, and closed in the same statement that
-- begins the next. That is three steps, and a client that takes them one by one gets them wrong: it reads before it locks, or locks the
-- current version, which is no longer the current one when the wait is over. Here the identity row is locked (it is always the same
-- one), then a new statement with a snapshot of its own looks, then one statement writes. What equals the version of its moment is
-- found without any lock, because most observations do. Many at once: record_market_versions and its like in queries/.
-- A moment is the observation's, or the clock's after the lock; never now(), which is from before the wait.
-- Locks: creates only. Safe while the application runs.
-- Undo: drops the functions; versions stay.
-- depends: 0017.operations

CREATE FUNCTION catalog.record_market_version(
    market_ticker       catalog.ticker,
    observed_at         timestamptz,
    status              text,
    yes_price           market_data.price,
    no_price            market_data.price,
    yes_bid             market_data.price,
    yes_ask             market_data.price,
    no_bid              market_data.price,
    no_ask              market_data.price,
    last_price          market_data.price,
    volume              market_data.contracts,
    open_interest       market_data.contracts,
    settlement_value    market_data.price
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION catalog.record_market_version(
    catalog.ticker, timestamptz, text, market_data.price, market_data.price, market_data.price, market_data.price, market_data.price,
    market_data.price, market_data.price, market_data.contracts, market_data.contracts, market_data.price
) IS
    'Files the state of a market that was observed at a moment; null is unknown. Answers written (it is current now), unchanged (it was that already) or filed (it belongs before a later version). Another state at the same moment is refused (market_versions_pkey). An unknown market gets a stub.';

CREATE FUNCTION catalog.change_market_version(
    market_ticker       catalog.ticker,
    status              text    DEFAULT NULL,
    yes_price           market_data.price DEFAULT NULL,
    no_price            market_data.price DEFAULT NULL,
    yes_bid             market_data.price DEFAULT NULL,
    yes_ask             market_data.price DEFAULT NULL,
    no_bid              market_data.price DEFAULT NULL,
    no_ask              market_data.price DEFAULT NULL,
    last_price          market_data.price DEFAULT NULL,
    volume              market_data.contracts DEFAULT NULL,
    open_interest       market_data.contracts DEFAULT NULL,
    settlement_value    market_data.price DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION catalog.change_market_version(
    catalog.ticker, text, market_data.price, market_data.price, market_data.price, market_data.price, market_data.price,
    market_data.price, market_data.price, market_data.contracts, market_data.contracts, market_data.price
) IS
    'Changes some columns of a market''s current version as of now and carries the others over; null leaves a column as it was. Answers written or unchanged. A market without a version is refused (no_data_found).';

CREATE FUNCTION research.record_edge(
    market_ticker                   catalog.ticker,
    strategy_id                     bigint,
    model_id                        bigint,
    probability_matrix_id           bigint,
    observed_at                     timestamptz,
    expected_value                  numeric,
    true_win_probability            market_data.probability,
    market_implied_probability      market_data.probability,
    market_price                    market_data.price,
    confidence_level                text,
    confidence_metrics              jsonb,
    recommended_action              text
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION research.record_edge(
    catalog.ticker, bigint, bigint, bigint, timestamptz, numeric, market_data.probability, market_data.probability, market_data.price,
    text, jsonb, text
) IS
    'Files what was believed of a market at a moment by a strategy, a model and a matrix (each null when there is none), and what it came to. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (edges_market_ticker_source_key_valid_from_key).';

CREATE FUNCTION research.record_game_state(
    event_ticker        catalog.ticker,
    external_game_id    text,
    observed_at         timestamptz,
    sport               text,
    home_team           text,
    away_team           text,
    home_score          integer,
    away_score          integer,
    period              text,
    time_remaining      text,
    possession          text,
    status              text,
    sport_metadata      jsonb
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION research.record_game_state(
    catalog.ticker, text, timestamptz, text, text, text, integer, integer, text, text, text, text, jsonb
) IS
    'Files the state of a game that was observed at a moment; null is unknown. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (game_states_pkey).';

CREATE FUNCTION trading.record_position_version(
    environment             trading.environment,
    position_id             bigint,
    observed_at             timestamptz,
    quantity                market_data.contracts,
    fees                    market_data.money,
    status                  text,
    current_price           market_data.price,
    unrealized_pnl          market_data.money,
    unrealized_pnl_pct      numeric,
    realized_pnl            market_data.money,
    exit_price              market_data.price,
    exit_time               timestamptz,
    trailing_stop_state     jsonb,
    exit_reason             trading.exit_condition,
    exit_priority           trading.exit_priority,
    close_reason            text
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION trading.record_position_version(
    trading.environment, bigint, timestamptz, market_data.contracts, market_data.money, text, market_data.price, market_data.money,
    numeric, market_data.money, market_data.price, timestamptz, jsonb, trading.exit_condition, trading.exit_priority, text
) IS
    'Files the whole state of a position at a moment; null is unknown. A confirmation moves only last_update. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (position_versions_pkey).';

CREATE FUNCTION trading.change_position_version(
    environment         trading.environment,
    position_id         bigint,
    quantity            market_data.contracts   DEFAULT NULL,
    fees                market_data.money       DEFAULT NULL,
    status              text                    DEFAULT NULL,
    current_price       market_data.price       DEFAULT NULL,
    unrealized_pnl      market_data.money       DEFAULT NULL,
    unrealized_pnl_pct  numeric                 DEFAULT NULL,
    realized_pnl        market_data.money       DEFAULT NULL,
    exit_price          market_data.price       DEFAULT NULL,
    exit_time           timestamptz             DEFAULT NULL,
    trailing_stop_state jsonb                   DEFAULT NULL,
    exit_reason         trading.exit_condition  DEFAULT NULL,
    exit_priority       trading.exit_priority   DEFAULT NULL,
    close_reason        text                    DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION trading.change_position_version(
    trading.environment, bigint, market_data.contracts, market_data.money, text, market_data.price, market_data.money, numeric,
    market_data.money, market_data.price, timestamptz, jsonb, trading.exit_condition, trading.exit_priority, text
) IS
    'Changes some columns of a position''s current version as of now and carries the others over; null leaves a column as it was, and exit_priority follows exit_reason. Answers written, or unchanged, which moves only last_update. A position without a version is refused (no_data_found).';

CREATE FUNCTION trading.record_balance(
    environment     trading.environment,
    platform_id     text,
    currency        trading.currency,
    observed_at     timestamptz,
    balance         market_data.money
) RETURNS text
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION trading.record_balance(
    trading.environment, text, trading.currency, timestamptz, market_data.money
) IS
    'Files the balance that a venue showed at a moment. Answers written (it is current now), unchanged (it was so then already) or filed (it belongs before a later version). Another state at the same moment is refused (account_balances_pkey).';
