-- How positions were left, in parts or whole, and the orders that tried to. Rows are only added.

-- name: record_exit(environment, position_id, exited_at, exit_condition, quantity_exited, exit_price, fees, close_reason)^
-- Contracts leave a position: adds the exit, and the version of the position that follows from it; closed when nothing is left.
--
-- exit_price is dollars for the side that was held, fees are dollars of this exit. The priority is the condition's. Several exits at once
-- take turns, and their sum never exceeds what entered: one too many is refused (constraint position_exits_overexit_check). The same
-- exit again (position, time, condition, quantity, price) is `unchanged`; another one at the same time is refused: UniqueViolation of
-- position_exits_pkey. realized_pnl is that of all exits so far, before fees, dollars.
-- @one
-- @param fees nullable: none for this exit
-- @param close_reason nullable: nothing is kept for people when this exit closes the position
-- @column outcome not null: the function answers with a word, or fails
-- @column status not null: the function answers with a word, or fails
-- @column quantity_left not null: the function answers with a number, or fails
-- @column remaining_quantity not null: the function answers with a number, or fails
-- @column realized_pnl not null: the function answers with a number, or fails
SELECT
    outcome,
    status,
    quantity_left::market_data.contracts AS quantity_left,
    remaining_quantity::market_data.contracts AS remaining_quantity,
    realized_pnl::market_data.money AS realized_pnl
FROM trading.record_exit(
    :environment, :position_id, :exited_at, :exit_condition, :quantity_exited, :exit_price, :fees, :close_reason
);

-- name: close_position(environment, position_id, exited_at, exit_condition, exit_price, fees, close_reason)^
-- Everything that is still held leaves a position: record_exit of whatever is left at that moment.
-- @one
-- @param fees nullable: none for this exit
-- @param close_reason nullable: nothing is kept for people
-- @column outcome not null: the function answers with a word, or fails
-- @column status not null: the function answers with a word, or fails
-- @column quantity_left not null: the function answers with a number, or fails
-- @column remaining_quantity not null: the function answers with a number, or fails
-- @column realized_pnl not null: the function answers with a number, or fails
SELECT
    outcome,
    status,
    quantity_left::market_data.contracts AS quantity_left,
    remaining_quantity::market_data.contracts AS remaining_quantity,
    realized_pnl::market_data.money AS realized_pnl
FROM trading.record_exit(:environment, :position_id, :exited_at, :exit_condition, NULL, :exit_price, :fees, :close_reason);

-- name: exits_of_position(environment, position_id)
-- How a position was left, oldest first.
SELECT *
FROM trading.position_exits
WHERE environment = :environment AND position_id = :position_id
ORDER BY exited_at;

-- name: exits_between(environment, exited_from, exited_to, exit_condition, exit_priority)
-- Exits in [exited_from, exited_to), oldest first; of one condition or one priority if given.
-- @param exit_condition nullable: every condition
-- @param exit_priority nullable: every priority
SELECT *
FROM trading.position_exits
WHERE environment = :environment
    AND exited_at >= :exited_from
    AND exited_at < :exited_to
    AND (:exit_condition::text IS NULL OR exit_condition = :exit_condition::text)
    AND (:exit_priority::text IS NULL OR exit_priority = :exit_priority::text)
ORDER BY exited_at, position_id;

-- name: exits_by_condition(environment, exited_from, exited_to)
-- What each exit condition came to in [exited_from, exited_to), the most urgent first.
--
-- average_price weighs each exit as its contracts; pnl is profit of those contracts before fees, dollars.
SELECT
    exits.exit_priority,
    exits.exit_condition,
    count(*) AS exits,
    count(DISTINCT exits.position_id) AS positions,
    sum(exits.quantity_exited)::numeric(24, 2) AS contracts,
    (sum(exits.quantity_exited * exits.exit_price) / sum(exits.quantity_exited))::numeric(7, 6) AS average_price,
    sum(exits.quantity_exited * (exits.exit_price - positions.entry_price))::numeric(24, 6) AS pnl
FROM trading.position_exits AS exits
JOIN trading.positions
    ON positions.environment = exits.environment
    AND positions.position_id = exits.position_id
WHERE exits.environment = :environment
    AND exits.exited_at >= :exited_from
    AND exits.exited_at < :exited_to
GROUP BY exits.exit_priority, exits.exit_condition
ORDER BY array_position(ARRAY['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], exits.exit_priority::text), exits.exit_condition;

-- name: insert_exit_attempts()^
-- Adds orders that tried to leave a position; one that is stored already, same position, time and number, counts as unchanged.
--
-- The same attempt with other content is refused (constraint exit_attempts_append_only), with the stored row in the error, and nothing
-- of the input is written.
-- @bulk staged_exit_attempts like trading.exit_attempts without created_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (environment, position_id, attempted_at, attempt_number) *
    FROM staged_exit_attempts
    ORDER BY environment, position_id, attempted_at, attempt_number, staged_position DESC
),
written AS (
    INSERT INTO trading.exit_attempts AS stored (
        environment, position_id, attempted_at, attempt_number, exit_condition, priority_level, order_type, limit_price, fill_price,
        quantity, timeout_seconds, success
    )
    SELECT
        environment, position_id, attempted_at, attempt_number, exit_condition, priority_level, order_type, limit_price, fill_price,
        quantity, timeout_seconds, success
    FROM newest
    ORDER BY environment, position_id, attempted_at, attempt_number
    -- Only what differs is tried to be changed, for the trigger to refuse.
    ON CONFLICT (environment, position_id, attempted_at, attempt_number) DO UPDATE SET quantity = EXCLUDED.quantity
    WHERE (
        stored.exit_condition, stored.order_type, stored.limit_price, stored.fill_price, stored.quantity, stored.timeout_seconds,
        stored.success
    ) IS DISTINCT FROM (
        EXCLUDED.exit_condition, EXCLUDED.order_type, EXCLUDED.limit_price, EXCLUDED.fill_price, EXCLUDED.quantity,
        EXCLUDED.timeout_seconds, EXCLUDED.success
    )
    RETURNING position_id
)
SELECT count(*) AS written FROM written;

-- name: record_exit_attempt(environment, position_id, attempted_at, attempt_number, exit_condition, order_type, limit_price, fill_price, quantity, timeout_seconds, success)!
-- Adds one order that tried to leave a position, filled or not; returns 1, or 0 when it is stored already.
--
-- Prices are dollars for the side that is held; the priority is the condition's. The same attempt with other content is refused
-- (constraint exit_attempts_append_only).
-- @param limit_price nullable: a market order has none
-- @param fill_price nullable: it did not fill
-- @param timeout_seconds nullable: nobody waited
-- @param success nullable: unknown whether it filled
INSERT INTO trading.exit_attempts AS stored (
    environment, position_id, attempted_at, attempt_number, exit_condition, priority_level, order_type, limit_price, fill_price,
    quantity, timeout_seconds, success
)
VALUES (
    :environment, :position_id, :attempted_at, :attempt_number, :exit_condition, trading.priority_of(:exit_condition), :order_type,
    :limit_price, :fill_price, :quantity, :timeout_seconds, :success
)
ON CONFLICT (environment, position_id, attempted_at, attempt_number) DO UPDATE SET quantity = EXCLUDED.quantity
WHERE (
    stored.exit_condition, stored.order_type, stored.limit_price, stored.fill_price, stored.quantity, stored.timeout_seconds,
    stored.success
) IS DISTINCT FROM (
    EXCLUDED.exit_condition, EXCLUDED.order_type, EXCLUDED.limit_price, EXCLUDED.fill_price, EXCLUDED.quantity,
    EXCLUDED.timeout_seconds, EXCLUDED.success
);

-- name: attempts_of_position(environment, position_id)
-- The walk of the price: every order that tried to leave a position, oldest first. Why did my exit not fill?
--
-- price_step is how far the limit moved from the attempt before, dollars; null for the first and around a market order. waited is how
-- long after the attempt before it was sent.
SELECT
    attempted_at,
    attempt_number,
    exit_condition,
    priority_level,
    order_type,
    limit_price,
    (limit_price - lag(limit_price) OVER walk)::numeric(7, 6) AS price_step,
    attempted_at - lag(attempted_at) OVER walk AS waited,
    timeout_seconds,
    quantity,
    fill_price,
    success
FROM trading.exit_attempts
WHERE environment = :environment AND position_id = :position_id
WINDOW walk AS (ORDER BY attempted_at, attempt_number)
ORDER BY attempted_at, attempt_number;

-- name: attempts_between(environment, attempted_from, attempted_to, exit_condition, success)
-- Attempts made in [attempted_from, attempted_to), oldest first; of one condition, and filled or not filled, if given.
-- @param exit_condition nullable: every condition
-- @param success nullable: filled or not
SELECT *
FROM trading.exit_attempts
WHERE environment = :environment
    AND attempted_at >= :attempted_from
    AND attempted_at < :attempted_to
    AND (:exit_condition::text IS NULL OR exit_condition = :exit_condition::text)
    AND (:success::boolean IS NULL OR success = :success)
ORDER BY attempted_at, position_id, attempt_number;

-- name: attempts_by_condition(environment, attempted_from, attempted_to)
-- How well exits fill: for each condition and kind of order the attempts made in [attempted_from, attempted_to), the most urgent first.
--
-- fill_rate is the share of attempts with a known outcome that filled; slippage how much worse than its limit an order filled on
-- average, dollars a contract, of those that had one (negative: better).
SELECT
    priority_level,
    exit_condition,
    order_type,
    count(*) AS attempts,
    count(*) FILTER (WHERE success) AS filled,
    (count(*) FILTER (WHERE success)::numeric / NULLIF(count(success), 0))::numeric(7, 6) AS fill_rate,
    avg(limit_price - fill_price)::numeric(7, 6) AS slippage
FROM trading.exit_attempts
WHERE environment = :environment
    AND attempted_at >= :attempted_from
    AND attempted_at < :attempted_to
GROUP BY priority_level, exit_condition, order_type
ORDER BY array_position(ARRAY['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], priority_level::text), exit_condition, order_type;
