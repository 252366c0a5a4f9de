-- Orders and what becomes of them.

-- name: put_orders()^
-- Writes orders; \n stays as it is, and so does """this""", and "that"
-- @bulk staged_orders like shop.orders without weight
-- @one
WITH written AS (
    INSERT INTO shop.orders AS stored (order_id, person, sku, status, side, price, tags, history, placed_at, extra)
    SELECT order_id, person, sku, status, side, price, tags, history, placed_at, extra FROM staged_orders
    ON CONFLICT (order_id) DO UPDATE SET price = EXCLUDED.price
    WHERE stored.price IS DISTINCT FROM EXCLUDED.price
    RETURNING 1
)
SELECT count(*) AS written FROM written;

-- name: orders()
-- "All" orders, oldest first.
SELECT * FROM shop.orders ORDER BY placed_at;

-- name: order_of(order_id)^
-- One order, or None.
SELECT * FROM shop.orders WHERE order_id = :order_id;

-- name: first_order()^
-- @one
-- The oldest order. Nobody asks when there is none.
SELECT * FROM shop.orders ORDER BY placed_at LIMIT 1;

-- name: orders_with(statuses, side, since, low)
-- Orders of some kind.
-- @param low nullable: null asks for every price
-- @param side: Whether it buys.
SELECT order_id, status, price, history
FROM shop.orders
WHERE status = ANY (:statuses) AND side = :side AND placed_at >= :since AND (:low::shop.price IS NULL OR price >= :low)
ORDER BY order_id;

-- name: orders_one_by_one()
-- @stream
SELECT order_id, person FROM shop.orders ORDER BY order_id;

-- name: count_orders()$
SELECT count(*) FROM shop.orders;

-- name: total()$
-- The sum, or None.
SELECT sum(price) FROM shop.orders;

-- name: newest_status()$
SELECT status FROM shop.orders ORDER BY placed_at DESC LIMIT 1;

-- name: longest_history()$
SELECT history FROM shop.orders ORDER BY cardinality(history) DESC NULLS LAST LIMIT 1;

-- name: note(order_id, extra)!
-- @param extra nullable: null takes the note away
UPDATE shop.orders SET extra = :extra WHERE order_id = :order_id;

-- name: seen_orders()
-- Who saw which order; the row is audit's.
SELECT * FROM audit.orders ORDER BY order_id;
