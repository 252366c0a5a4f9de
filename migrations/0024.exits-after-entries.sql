-- Nobody leaves a position before entering it, and a bin has a width.
--
-- Why: an exit or a settlement from before the entry was taken as it came, and its profit was filed under a day on which nothing was
-- held. The trigger that watches the contracts of a position holds its row already, so it compares the times as well. Bins of no width
-- divided by zero, and bins of a negative one were answered with nonsense: the width is a domain, whose rule has a name.
-- Locks: replaces a function and creates a domain. Safe while an application runs.
-- Undo: such times are taken again; nothing is lost.
-- depends: 0023.defaults-for-hand-written-rows

CREATE OR REPLACE FUNCTION trading.refuse_overexit() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
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
$$;

COMMENT ON FUNCTION trading.refuse_overexit() IS
    'Trigger of exits and position versions: the contracts that left a position never exceed those that entered (constraint <table>_overexit_check), and none left before the entry (constraint <table>_entry_time_check).';

CREATE DOMAIN market_data.bin_width AS numeric(7, 6)
    CONSTRAINT bin_width_range_check CHECK (VALUE > 0 AND VALUE <= 1);
COMMENT ON DOMAIN market_data.bin_width IS 'Width of the bins in which prices are counted: dollars, above 0 to 1, six decimals.';
