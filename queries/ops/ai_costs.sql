-- What calls of AI providers cost. Days are UTC days, money is dollars.
--
-- Two sources: calls as they are paid (ai_calls, summed in ai_costs), and the cost that each stored analysis carries. Where a call makes an
-- analysis both know of it, so they are shown side by side and never added.

-- name: add_ai_call(provider, call_id, called_at, cost)$
-- Adds a paid call to the costs of its day; returns 1, or 0 when the call was counted before.
--
-- Callers at once all count, and a retry counts once: call_id is the provider's id of the call, or one that the caller made before the
-- first attempt. A call that is repeated under a new id is a new call, and was paid for.
WITH counted AS (
    INSERT INTO ops.ai_calls (provider, call_id, called_at, cost)
    VALUES (:provider, :call_id, :called_at, :cost)
    ON CONFLICT (provider, call_id) DO NOTHING
    RETURNING (called_at AT TIME ZONE 'UTC')::date AS date, provider, cost
),
added AS (
    INSERT INTO ops.ai_costs AS stored (date, provider, total_cost, num_calls)
    SELECT date, provider, cost, 1
    FROM counted
    ON CONFLICT (date, provider) DO UPDATE SET
        total_cost = stored.total_cost + EXCLUDED.total_cost,
        num_calls = stored.num_calls + EXCLUDED.num_calls,
        updated_at = EXCLUDED.updated_at
    RETURNING provider
)
SELECT count(*) AS added FROM added;

-- name: ai_calls_between(start_time, end_time)
-- Paid calls made in [start_time, end_time), oldest first.
SELECT *
FROM ops.ai_calls
WHERE called_at >= :start_time
    AND called_at < :end_time
ORDER BY called_at, provider, call_id;

-- name: forget_ai_calls(called_before)!
-- Deletes the single calls before a moment; their sums stay. A call that is retried after
-- that counts again.
-- @plan what is old enough to forget may be most of the table
DELETE FROM ops.ai_calls
WHERE called_at < :called_before;

-- name: ai_cost_by_day(from_date, to_date)
-- Cost of each day and provider of [from_date, to_date), oldest first: by call, and by stored analysis.
SELECT *
FROM ops.daily_ai_cost
WHERE date >= :from_date
    AND date < :to_date
ORDER BY date, provider;

-- name: ai_cost_by_provider(from_date, to_date)
-- Cost of each provider over the days of [from_date, to_date), the dearest first.
SELECT
    provider,
    sum(total_cost)::numeric(18, 6) AS total_cost,
    sum(num_calls)::bigint AS num_calls,
    sum(analysis_cost)::numeric(18, 6) AS analysis_cost,
    sum(num_analyses)::bigint AS num_analyses
FROM ops.daily_ai_cost
WHERE date >= :from_date
    AND date < :to_date
GROUP BY provider
ORDER BY sum(total_cost) DESC, provider;

-- name: ai_cost_of_day(day)^
-- What AI cost on one day, all providers together; zeros when nothing did. For today pass the date in UTC.
-- @one
SELECT
    COALESCE(sum(total_cost), 0)::numeric(18, 6) AS total_cost,
    COALESCE(sum(num_calls), 0)::bigint AS num_calls,
    COALESCE(sum(analysis_cost), 0)::numeric(18, 6) AS analysis_cost,
    COALESCE(sum(num_analyses), 0)::bigint AS num_analyses
FROM ops.daily_ai_cost
WHERE date = :day;

-- name: ai_budget(day, daily_budget)^
-- What is left of a day's budget, dollars; negative once it is exceeded.
--
-- What was spent is, for each provider, the greater of what calls and what analyses say: a call that was not recorded must not hide
-- money. exhausted says that nothing is left.
-- @one
SELECT
    spent.spent::numeric(18, 6) AS spent,
    (:daily_budget::market_data.money - spent.spent)::numeric(18, 6) AS remaining,
    spent.spent >= :daily_budget::market_data.money AS exhausted
FROM (
    SELECT COALESCE(sum(GREATEST(total_cost, analysis_cost)), 0) AS spent
    FROM ops.daily_ai_cost
    WHERE date = :day
) AS spent;
