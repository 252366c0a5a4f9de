-- Who looked at what. Its orders are not the shop's.

CREATE SCHEMA audit;

CREATE TABLE audit.orders (
    order_id    integer         NOT NULL,
    seen_by     text            NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (order_id)
);
