-- What a backtest may know at the moment of a decision.

-- name: insert_asof_policy(asof_policy_id, name, description, period_interval_minutes, quote_lag, max_age, retrieved_within, forecast_lag, rules)^
-- Writes a policy, or finds it as it is; returns it, or None when another policy has that id. Policies never change: runs point to them.
--
-- quote_lag, max_age and forecast_lag say how long a quote or forecast takes to be known and how old it may be. retrieved_within is null
-- when it does not matter when a quote reached us.
-- @param retrieved_within nullable: null lets imported history count
INSERT INTO research.asof_policies AS stored (
    asof_policy_id, name, description, period_interval_minutes, quote_lag, max_age, retrieved_within, forecast_lag, rules
)
VALUES (
    :asof_policy_id, :name, :description, :period_interval_minutes, :quote_lag, :max_age, :retrieved_within, :forecast_lag, :rules
)
ON CONFLICT (asof_policy_id) DO UPDATE SET asof_policy_id = EXCLUDED.asof_policy_id
WHERE (
    stored.period_interval_minutes, stored.quote_lag, stored.max_age, stored.retrieved_within, stored.forecast_lag, stored.rules
) IS NOT DISTINCT FROM (
    EXCLUDED.period_interval_minutes, EXCLUDED.quote_lag, EXCLUDED.max_age, EXCLUDED.retrieved_within, EXCLUDED.forecast_lag,
    EXCLUDED.rules
)
RETURNING *;

-- name: asof_policy_by_id(asof_policy_id)^
-- One policy, or None.
SELECT *
FROM research.asof_policies
WHERE asof_policy_id = :asof_policy_id;

-- name: asof_policies()
-- All policies, by their ids.
-- @plan there are a handful
SELECT *
FROM research.asof_policies
ORDER BY asof_policy_id;
