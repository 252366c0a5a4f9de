-- Who saw what.

-- name: saw(order_id, seen_by)!
INSERT INTO audit.orders (order_id, seen_by) VALUES (:order_id, :seen_by);

-- name: orders()
SELECT * FROM audit.orders;
