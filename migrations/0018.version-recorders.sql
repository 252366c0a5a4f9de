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
    market_ticker       text,
    observed_at         timestamptz,
    status              text,
    yes_price           numeric,
    no_price            numeric,
    yes_bid             numeric,
    yes_ask             numeric,
    no_bid              numeric,
    no_ask              numeric,
    last_price          numeric,
    volume              numeric,
    open_interest       numeric,
    settlement_value    numeric
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
    text, timestamptz, text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric
) IS
    'Files the state of a market that was observed at a moment; null is unknown. Answers written (it is current now), unchanged (it was that already) or filed (it belongs before a later version). Another state at the same moment is refused (market_versions_pkey). An unknown market gets a stub.';

CREATE FUNCTION catalog.change_market_version(
    market_ticker       text,
    status              text    DEFAULT NULL,
    yes_price           numeric DEFAULT NULL,
    no_price            numeric DEFAULT NULL,
    yes_bid             numeric DEFAULT NULL,
    yes_ask             numeric DEFAULT NULL,
    no_bid              numeric DEFAULT NULL,
    no_ask              numeric DEFAULT NULL,
    last_price          numeric DEFAULT NULL,
    volume              numeric DEFAULT NULL,
    open_interest       numeric DEFAULT NULL,
    settlement_value    numeric DEFAULT NULL
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
    text, text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric
) IS
    'Changes some columns of a market''s current version as of now and carries the others over; null leaves a column as it was. Answers written or unchanged. A market without a version is refused (no_data_found).';
