-- Orders, whose columns have names that SQL, Python and Pydantic would keep for themselves.

-- name: orders()
SELECT * FROM sales."order" ORDER BY "order";

-- name: put_order(order, kind, frm, größe)^
-- @one
INSERT INTO sales."order" ("order", "class", "from", "größe") VALUES (:order, :kind, :frm, :größe)
ON CONFLICT ("order") DO UPDATE SET "class" = EXCLUDED."class" RETURNING "order", "class", "from", "größe", xmax = 0 AS is_new;

-- name: order_people()
SELECT * FROM sales.order_people;

-- name: strict_items()
SELECT * FROM sales.strict_items;

-- name: totals()
SELECT * FROM sales.totals;

-- name: refresh_totals()!
REFRESH MATERIALIZED VIEW sales.totals;

-- name: restock(sku, on_hand)
MERGE INTO sales.stock s USING (SELECT :sku::text AS sku, :on_hand::int AS on_hand) n ON n.sku = s.sku
WHEN MATCHED THEN UPDATE SET on_hand = s.on_hand + n.on_hand
WHEN NOT MATCHED THEN INSERT (sku, on_hand) VALUES (n.sku, n.on_hand)
RETURNING merge_action(), s.*;

-- name: merge_quiet(sku)!
MERGE INTO sales.stock s USING (SELECT :sku::text AS sku) n ON n.sku = s.sku WHEN MATCHED THEN DELETE;

-- name: full_outer()
SELECT i.sku AS item_sku, s.sku AS stock_sku, COALESCE(i.sku, s.sku) AS sku, s.on_hand - s.reserved AS free
FROM sales.items i FULL JOIN sales.stock s ON s.sku = i.sku;

-- name: right_outer()
SELECT i.line, o."order", o."Camel Case" FROM sales.items i RIGHT JOIN sales."order" o USING ("order");

-- name: measures()
SELECT * FROM "Größe"."Maß";

-- name: add_measure(länge)$
INSERT INTO "Größe"."Maß" ("länge") VALUES (:länge) RETURNING id;

-- name: add_event(at, kind, body)!
-- @param body nullable: x
INSERT INTO sales.events (at, kind, body) VALUES (:at, :kind, :body);

-- name: events()
SELECT * FROM sales.events ORDER BY at;

-- name: put_items()^
-- @bulk staged_items like sales.items
-- @one
WITH w AS (INSERT INTO sales.items AS t SELECT "order", line, sku, quantity, price FROM staged_items
ON CONFLICT ("order", line) DO UPDATE SET quantity = EXCLUDED.quantity WHERE t.quantity <> EXCLUDED.quantity RETURNING 1)
SELECT count(*) AS written FROM w;

-- name: put_orders()^
-- @bulk staged_orders like sales.order
-- @one
WITH w AS (INSERT INTO sales."order" SELECT "order", "class", "from", "select", model_config, copy, json, schema, dict, "größe", person_id,
 "Camel Case", at FROM staged_orders ON CONFLICT ("order") DO NOTHING RETURNING 1)
SELECT count(*) AS written FROM w;

-- name: old_and_new(order)^
UPDATE sales."order" SET copy = COALESCE(copy, 0) + 1 WHERE "order" = :order RETURNING old.copy AS was, new.copy AS is_now;

-- name: at_time(at)
SELECT "order" FROM sales."order" WHERE at <= :at;
