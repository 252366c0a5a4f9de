DROP DOMAIN market_data.bin_width;
CREATE OR REPLACE FUNCTION trading.refuse_overexit() RETURNS trigger
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
