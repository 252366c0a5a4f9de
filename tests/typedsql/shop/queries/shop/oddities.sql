-- Names that Python or Pydantic would rather have for themselves.

-- name: oddities()
SELECT * FROM shop.oddities ORDER BY "class";

-- name: odd_columns(match, type, self)
SELECT :match::int AS "from", :type::date AS "date", NULL::date AS "next day", :self::text AS copy, 5 AS "2nd";

-- name: put_oddities()^
-- @bulk staged_oddities like shop.oddities
-- @one
WITH written AS (INSERT INTO shop.oddities SELECT "class", "date", schema, _hidden, "Mixed Up", outside, since, word, twice, share,
    surely, next_date, amounts FROM staged_oddities RETURNING 1)
SELECT count(*) AS written FROM written;

-- name: price_list()
SELECT * FROM shop.prices ORDER BY sku;

-- name: put_prices()^
-- @bulk staged_prices like shop.prices
-- @one
WITH written AS (INSERT INTO shop.prices SELECT sku, price FROM staged_prices RETURNING 1)
SELECT count(*) AS written FROM written;
