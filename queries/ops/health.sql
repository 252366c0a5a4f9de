-- How the parts of the system are: one row each time somebody looked.

-- name: record_health(component, last_check, status, details)!
-- Notes how a component was found: healthy, degraded or down. Returns 0 when that check is noted already, so a retry changes nothing.
-- @param details nullable: None where there is nothing to add
INSERT INTO ops.system_health (component, last_check, status, details)
VALUES (:component, :last_check, :status, :details)
ON CONFLICT (component, last_check) DO NOTHING;

-- name: current_health()
-- The last check of each component: how everything is now.
WITH RECURSIVE components AS (
    -- From one component to the next along the key: there are few of them and very many checks.
    (SELECT component FROM ops.system_health ORDER BY component LIMIT 1)
    UNION ALL
    SELECT following.component
    FROM components
    CROSS JOIN LATERAL (
        SELECT system_health.component
        FROM ops.system_health
        WHERE system_health.component > components.component
        ORDER BY system_health.component
        LIMIT 1
    ) AS following
)
SELECT latest.*
FROM components
CROSS JOIN LATERAL (
    SELECT *
    FROM ops.system_health
    WHERE system_health.component = components.component
    ORDER BY last_check DESC
    LIMIT 1
) AS latest
ORDER BY latest.component;

-- name: stale_components(checked_before)
-- Components that nobody has looked at since a moment, with their last check: silence is not health.
WITH RECURSIVE components AS (
    (SELECT component FROM ops.system_health ORDER BY component LIMIT 1)
    UNION ALL
    SELECT following.component
    FROM components
    CROSS JOIN LATERAL (
        SELECT system_health.component
        FROM ops.system_health
        WHERE system_health.component > components.component
        ORDER BY system_health.component
        LIMIT 1
    ) AS following
)
SELECT latest.*
FROM components
CROSS JOIN LATERAL (
    SELECT *
    FROM ops.system_health
    WHERE system_health.component = components.component
    ORDER BY last_check DESC
    LIMIT 1
) AS latest
WHERE latest.last_check < :checked_before
ORDER BY latest.last_check, latest.component;

-- name: health_between(component, start_time, end_time)
-- Checks of one component in [start_time, end_time), oldest first.
SELECT *
FROM ops.system_health
WHERE component = :component
    AND last_check >= :start_time
    AND last_check < :end_time
ORDER BY last_check;

-- name: unhealthy_between(start_time, end_time)
-- Checks in [start_time, end_time) that found a component degraded or down, oldest first.
SELECT *
FROM ops.system_health
WHERE status <> 'healthy'
    AND last_check >= :start_time
    AND last_check < :end_time
ORDER BY last_check, component;

-- name: alerts_due(since)
-- Checks since a moment that found a component degraded or down and of which nobody was told, oldest first.
SELECT *
FROM ops.system_health
WHERE status <> 'healthy'
    AND last_check >= :since
    AND NOT alert_sent
ORDER BY last_check, component;

-- name: mark_alert_sent(component, last_check)!
-- Notes that somebody was told of a check. Returns 0 when that was noted already: of two that would tell, the one that gets 1 does.
UPDATE ops.system_health
SET alert_sent = true
WHERE component = :component
    AND last_check = :last_check
    AND NOT alert_sent;

-- name: forget_health(component, checked_before)!
-- Deletes the checks of a component before a moment; see the policy of ops.system_health.
DELETE FROM ops.system_health
WHERE component = :component
    AND last_check < :checked_before;
