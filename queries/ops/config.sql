-- Settings that are changed while everything runs, with a reason, an author and an end.
--
-- A moment of None means now, by the server's clock, which also dates the overrides: a reader whose own clock is late would not see one
-- that was just set. Another moment answers what counted then, which is what an audit asks.

-- name: override_config(config_key, override_value, data_type, reason, applied_by, expires_at)^
-- Overrides a setting from now on, and ends the override of that key that counted until now.
--
-- data_type is float, int, bool, string or json, and the value must be of that kind (constraint config_overrides_override_value_check).
-- Two at once on one key take turns, and the later one stays active: a trigger of the table sees to it, so this holds for every INSERT.
-- Under REPEATABLE READ and stricter the second of two is an error, to be tried again in a new transaction.
-- @one
-- @param expires_at nullable: None counts until it is replaced or taken back
INSERT INTO ops.config_overrides (config_key, override_value, data_type, reason, applied_by, expires_at)
VALUES (:config_key, :override_value, :data_type, :reason, :applied_by, :expires_at)
RETURNING *;

-- name: take_back_config(config_key)!
-- Ends the override of a setting, which falls back to what it was without. Returns 0 when none was active.
UPDATE ops.config_overrides
SET ended_at = GREATEST(clock_timestamp(), applied_at)
WHERE config_key = :config_key AND ended_at IS NULL;

-- name: config_override(config_key, moment)^
-- The override of a setting that counts at a moment, or None: applied by then, not ended and not expired.
-- @param moment nullable: None asks for now
SELECT *
FROM ops.config_overrides
WHERE config_key = :config_key
    AND applied_at <= COALESCE(:moment::timestamptz, statement_timestamp())
    AND (ended_at IS NULL OR ended_at > COALESCE(:moment::timestamptz, statement_timestamp()))
    AND (expires_at IS NULL OR expires_at > COALESCE(:moment::timestamptz, statement_timestamp()))
ORDER BY applied_at DESC, override_id DESC
LIMIT 1;

-- name: config_number(config_key, moment)$
-- The overriding value of a setting that is a number, exact to the last digit; None when none counts at the moment.
--
-- Whatever the driver makes of numbers in JSON. A value that is no number is an error.
-- @param moment nullable: None asks for now
SELECT (
    SELECT (override_value #>> '{}')::numeric
    FROM ops.config_overrides
    WHERE config_key = :config_key
        AND applied_at <= COALESCE(:moment::timestamptz, statement_timestamp())
        AND (ended_at IS NULL OR ended_at > COALESCE(:moment::timestamptz, statement_timestamp()))
        AND (expires_at IS NULL OR expires_at > COALESCE(:moment::timestamptz, statement_timestamp()))
    ORDER BY applied_at DESC, override_id DESC
    LIMIT 1
) AS value;

-- name: config_flag(config_key, moment)$
-- The overriding value of a setting that is true or false; None when none counts at the moment. A value that is neither is an error.
-- @param moment nullable: None asks for now
SELECT (
    SELECT (override_value #>> '{}')::boolean
    FROM ops.config_overrides
    WHERE config_key = :config_key
        AND applied_at <= COALESCE(:moment::timestamptz, statement_timestamp())
        AND (ended_at IS NULL OR ended_at > COALESCE(:moment::timestamptz, statement_timestamp()))
        AND (expires_at IS NULL OR expires_at > COALESCE(:moment::timestamptz, statement_timestamp()))
    ORDER BY applied_at DESC, override_id DESC
    LIMIT 1
) AS value;

-- name: config_in_force()
-- Every override that counts now, by key; an expired one is not among them.
SELECT *
FROM ops.config_overrides
WHERE ended_at IS NULL
    AND (expires_at IS NULL OR expires_at > statement_timestamp())
ORDER BY config_key;

-- name: config_in_force_at(moment)
-- Every override that counted at a moment, by key.
-- @plan overrides are set by people: the table stays small
SELECT *
FROM ops.config_overrides
WHERE applied_at <= :moment
    AND (ended_at IS NULL OR ended_at > :moment)
    AND (expires_at IS NULL OR expires_at > :moment)
ORDER BY config_key, applied_at, override_id;

-- name: config_override_history(config_key)
-- Every override that a setting ever had, oldest first; when one stopped counting is the earlier of ended_at and expires_at.
SELECT *
FROM ops.config_overrides
WHERE config_key = :config_key
ORDER BY applied_at, override_id;
