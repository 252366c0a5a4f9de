-- Circuit breakers: what stops the trading until somebody, or something, closes it again.

-- name: trip_breaker(breaker_type, trigger_value, notes)^
-- Opens a breaker, and answers whether it was newly opened; while it is open, tripping it again opens nothing and is only counted.
--
-- The row is the event that is open: of two at once one opens it, and both get the same event, with what opened it. breaker_type is
-- daily_loss_limit, api_failures, data_stale, position_limit or manual; trigger_value is the measure and its limit.
-- @one
-- @param trigger_value nullable: None where nothing was measured
-- @param notes nullable: None says nothing
INSERT INTO ops.circuit_breaker_events AS stored (breaker_type, trigger_value, notes)
VALUES (:breaker_type, :trigger_value, :notes)
-- Counted rather than left alone: DO NOTHING would return no row for an event that was committed while this statement ran.
ON CONFLICT (breaker_type) WHERE resolved_at IS NULL DO UPDATE SET trip_count = stored.trip_count + 1
RETURNING
    event_id,
    breaker_type,
    triggered_at,
    trigger_value,
    trip_count,
    notes,
    trip_count = 1 AS newly_opened;

-- name: resolve_breaker(breaker_type, resolution_action, notes)!
-- Closes a breaker and notes how. Returns 0 when it was not open; of two at once one closes it.
-- @param notes nullable: None keeps the notes from its opening
UPDATE ops.circuit_breaker_events
SET
    resolved_at = GREATEST(clock_timestamp(), triggered_at),
    resolution_action = :resolution_action::text,
    notes = COALESCE(:notes, notes)
WHERE breaker_type = :breaker_type
    AND resolved_at IS NULL;

-- name: breaker_is_open(breaker_type)$
-- Whether a breaker is open now; what to ask before each order.
SELECT EXISTS (
    SELECT
    FROM ops.circuit_breaker_events
    WHERE breaker_type = :breaker_type
        AND resolved_at IS NULL
) AS is_open;

-- name: open_breakers()
-- The breakers that are open, the longest open first; none means that nothing stops the trading.
SELECT *
FROM ops.circuit_breaker_events
WHERE resolved_at IS NULL
ORDER BY triggered_at, breaker_type;

-- name: breaker_events_between(start_time, end_time)
-- Breakers that opened in [start_time, end_time), oldest first, open or closed since.
SELECT *
FROM ops.circuit_breaker_events
WHERE triggered_at >= :start_time
    AND triggered_at < :end_time
ORDER BY triggered_at, event_id;
