"""What is said about a statement is true: each is described, then run on data that makes nulls wherever nulls can be."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from kalshidb.typedsql import DescribeError, Statements
from kalshidb.typedsql.describe import Column, Database, Relation, describe

Load = Callable[[str], Statements]

# People 1 and 2, orders 1 to 3; order 3 has no price in the list and nobody knows who ordered it.
DATA = """
INSERT INTO shop.people (name, nickname) VALUES ('Ann', NULL), ('Bob', 'Bobby'), ('Eve', NULL);
INSERT INTO shop.prices VALUES ('AB-1', 1), ('AB-2', 2), ('ZZ-9', 9);
INSERT INTO shop.orders (order_id, person, sku, status, side, price, tags, placed_at) VALUES
    (1, 'Ann', 'AB-1', 'open', 'buy', 1, '{a}', '2026-01-01Z'),
    (2, 'Bob', 'AB-2', 'done', 'sell', NULL, '{}', '2026-01-02Z'),
    (3, 'nobody', 'XX-7', 'open', 'buy', NULL, '{}', '2026-01-03Z');
"""


@pytest.fixture
def stocked(shop: psycopg.Connection) -> psycopg.Connection:
    shop.execute(DATA)
    return shop


def described(conn: psycopg.Connection, load: Load, sql: str, header: str = "asked()") -> tuple[Column, ...]:
    (description,) = describe(conn, load(f"-- name: {header}\n{sql}")).descriptions
    return description.columns


def relation(database: Database, name: str) -> Relation:
    return next(r for r in database.relations if f"{r.schema}.{r.name}" == name)


# Each statement, the columns that are proven not null, and whether running it brings nulls at all (so that the test can fail).
STATEMENTS: dict[str, tuple[str, str, bool]] = {
    "a plain read": ("SELECT order_id, person, price FROM shop.orders", "order_id person", True),
    "everything": ("SELECT * FROM shop.people", "person_id name", True),
    "a WHERE and an ORDER BY": (
        "SELECT o.order_id, o.sku FROM shop.orders o WHERE o.order_id = $1 ORDER BY o.sku LIMIT 1",
        "order_id sku",
        False,
    ),
    "an inner join": (
        "SELECT o.order_id, p.price FROM shop.orders o JOIN shop.prices p ON p.sku = o.sku ORDER BY 1",
        "order_id price",
        False,
    ),
    "a join by USING": ("SELECT sku, o.order_id FROM shop.orders o JOIN shop.prices p USING (sku)", "sku order_id", False),
    "a LEFT JOIN": (
        "SELECT o.order_id, p.sku, p.price FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku",
        "order_id",
        True,
    ),
    "a LEFT JOIN whose WHERE makes it an inner one": (
        "SELECT o.order_id, p.sku FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku WHERE p.price > 0",
        "order_id sku",
        False,
    ),
    "a RIGHT JOIN": (
        "SELECT o.order_id, p.sku FROM shop.orders o RIGHT JOIN shop.prices p ON p.sku = o.sku",
        "sku",
        True,
    ),
    "a FULL JOIN": (
        "SELECT o.order_id, p.sku FROM shop.orders o FULL JOIN shop.prices p ON p.sku = o.sku",
        "",
        True,
    ),
    "a FULL JOIN by USING": (
        "SELECT sku, order_id FROM shop.orders o FULL JOIN shop.prices p USING (sku)",
        "",
        True,
    ),
    "a LEFT JOIN LATERAL with LIMIT 1": (
        "SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN LATERAL "
        "(SELECT price FROM shop.prices x WHERE x.sku = o.sku ORDER BY price LIMIT 1) p ON true",
        "order_id",
        True,
    ),
    "a LEFT JOIN with ORDER BY": (
        "SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku ORDER BY o.order_id",
        "order_id",
        True,
    ),
    "a LEFT JOIN with WHERE id = $1": (
        "SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku WHERE o.order_id = $1",
        "order_id",
        True,
    ),
    "a LEFT JOIN that asks who is missing": (
        "SELECT o.order_id, p.sku FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku WHERE p.sku IS NULL",
        "order_id",
        True,
    ),
    "the same, with the small side hashed": (
        "SELECT p.sku, o.order_id FROM shop.prices p LEFT JOIN shop.orders o ON o.sku = p.sku "
        "WHERE o.sku IS NULL AND p.price = 9",
        "sku",
        True,
    ),
    "a NOT EXISTS": (
        "SELECT o.order_id FROM shop.orders o WHERE NOT EXISTS (SELECT FROM shop.prices p WHERE p.sku = o.sku)",
        "order_id",
        False,
    ),
    "a NOT EXISTS in the table itself": (
        "SELECT o.order_id FROM shop.orders o WHERE NOT EXISTS "
        "(SELECT FROM shop.orders later WHERE later.person = o.person AND later.order_id > o.order_id)",
        "order_id",
        False,
    ),
    "a LEFT JOIN that can never match": (
        "SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN shop.prices p ON false",
        "order_id",
        True,
    ),
    "a CTE on the null side, inlined": (
        "WITH p AS NOT MATERIALIZED (SELECT sku, price FROM shop.prices) "
        "SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN p ON p.sku = o.sku",
        "order_id",
        True,
    ),
    "a CTE on the null side, materialized": (
        "WITH p AS MATERIALIZED (SELECT sku, price FROM shop.prices) "
        "SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN p ON p.sku = o.sku",
        "order_id",
        True,
    ),
    "a CTE that another CTE reads on the null side": (
        "WITH p AS MATERIALIZED (SELECT sku, price FROM shop.prices), q AS MATERIALIZED (SELECT * FROM p) "
        "SELECT o.order_id, q.price FROM shop.orders o LEFT JOIN q ON q.sku = o.sku",
        "order_id",
        True,
    ),
    "a CTE with the outer join in it": (
        "WITH p AS MATERIALIZED (SELECT o.order_id, p.price FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku) "
        "SELECT order_id, price FROM p",
        "order_id",
        True,
    ),
    "nested outer joins": (
        "SELECT o.order_id, p.sku, n.name FROM shop.orders o LEFT JOIN "
        "(shop.prices p LEFT JOIN shop.people n ON n.name = p.sku::text) ON p.sku = o.sku",
        "order_id",
        True,
    ),
    "an inner join within the null side": (
        "SELECT o.order_id, p.sku, n.name FROM shop.orders o LEFT JOIN "
        "(shop.prices p JOIN shop.people n ON n.person_id = p.price) ON p.sku = o.sku",
        "order_id",
        True,
    ),
    "one table twice, once on the null side": (
        "SELECT a.order_id, b.order_id AS next_id FROM shop.orders a LEFT JOIN shop.orders b ON b.order_id = a.order_id + 1",
        "order_id",
        True,
    ),
    "a view over a join": ("SELECT * FROM shop.priced_orders", "order_id sku price", False),
    "a view over an outer join": ("SELECT * FROM shop.maybe_priced_orders ORDER BY order_id", "order_id sku", True),
    "a view on the null side": (
        "SELECT n.name, v.price FROM shop.people n LEFT JOIN shop.priced_orders v ON v.order_id = n.person_id + 1",
        "name",
        True,
    ),
    "aggregates": (
        "SELECT count(*) AS n, count(price) AS priced, count(*) FILTER (WHERE person = ')') AS odd, "
        "count(DISTINCT lower(person)) AS who, sum(price) AS total, max(order_id) AS last FROM shop.orders WHERE order_id < 0",
        "n priced odd who",
        True,
    ),
    "a count that is divided": (
        "SELECT count(*) FILTER (WHERE price > 0) / nullif(sum(0), (0)) AS share FROM shop.orders",
        "",
        True,
    ),
    "a count for each group, sorted": (
        "SELECT o.person, count(p.sku) AS n FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku "
        "GROUP BY o.person ORDER BY n DESC, o.person LIMIT 5",
        "person n",
        False,
    ),
    "a count on the null side": (
        "SELECT o.order_id, c.n FROM shop.orders o LEFT JOIN "
        "(SELECT sku, count(*) AS n FROM shop.prices GROUP BY sku) c ON c.sku = o.sku",
        "order_id",
        True,
    ),
    "a count on the null side, shown as it was computed": (
        "SELECT o.order_id, c.n FROM shop.orders o LEFT JOIN LATERAL "
        "(SELECT count(*) AS n FROM shop.prices p WHERE p.sku = o.sku HAVING count(*) > 0) c ON true",
        "order_id",
        True,
    ),
    "the same, grouped again": (
        "SELECT c.n, max(o.order_id) AS last FROM shop.orders o LEFT JOIN LATERAL "
        "(SELECT count(*) AS n FROM shop.prices p WHERE p.sku = o.sku HAVING count(*) > 0) c ON true GROUP BY c.n",
        "last",
        True,
    ),
    "a count on the null side, grouped again": (
        "SELECT c.n FROM shop.orders o LEFT JOIN (SELECT sku, count(*) AS n FROM shop.prices GROUP BY sku) c ON c.sku = o.sku "
        "GROUP BY c.n",
        "",
        True,
    ),
    "a function of a nullable": ("SELECT lower(nickname) AS low FROM shop.people", "", True),
    "a UNION": ("SELECT name FROM shop.people UNION ALL SELECT nickname FROM shop.people", "", True),
    "a recursive CTE": (
        "WITH RECURSIVE r AS (SELECT order_id FROM shop.orders UNION ALL SELECT NULL FROM r WHERE order_id = 1) "
        "SELECT order_id FROM r",
        "",
        True,
    ),
    "an INSERT": (
        "INSERT INTO shop.people (name) VALUES ('Zoe') RETURNING person_id, name, nickname",
        "person_id name",
        True,
    ),
    "an upsert": (
        "INSERT INTO shop.prices AS stored VALUES ('AB-1', 5) ON CONFLICT (sku) DO UPDATE SET price = EXCLUDED.price "
        "RETURNING stored.sku, stored.price",
        "sku price",
        False,
    ),
    "an UPDATE from another table": (
        "UPDATE shop.orders o SET price = 3 FROM shop.prices p WHERE p.sku = o.sku RETURNING o.order_id, o.price, p.sku",
        "order_id sku",
        False,
    ),
    "a DELETE": ("DELETE FROM shop.prices RETURNING *", "sku price", False),
    "the row before an INSERT": (
        "INSERT INTO shop.prices VALUES ('NN-1', 5) RETURNING old.sku, new.price",
        "price",
        True,
    ),
    "the row before an INSERT, by another name": (
        "INSERT INTO shop.prices VALUES ('NN-1', 5) RETURNING WITH (OLD AS was) was.sku",
        "",
        True,
    ),
    "the row before an INSERT, through a CTE": (
        "WITH w AS (INSERT INTO shop.prices VALUES ('NN-1', 5) RETURNING old.sku) SELECT sku FROM w",
        "",
        True,
    ),
    "a MERGE": (
        "MERGE INTO shop.prices p USING shop.orders o ON o.sku = p.sku WHEN NOT MATCHED BY SOURCE THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET price = 4 RETURNING p.sku, o.order_id",
        "sku",
        True,
    ),
    "GROUPING SETS": (
        "SELECT person, sku, count(*) AS n FROM shop.orders GROUP BY GROUPING SETS ((person), (sku))",
        "n",
        True,
    ),
    "ROLLUP": ("SELECT person, count(*) AS n FROM shop.orders GROUP BY ROLLUP (person) ORDER BY 1", "n", True),
    "a scalar subquery": (
        "SELECT o.order_id, (SELECT p.price FROM shop.prices p WHERE p.sku = o.sku) AS list FROM shop.orders o",
        "order_id",
        True,
    ),
    "DISTINCT ON": ("SELECT DISTINCT ON (person) person, price FROM shop.orders ORDER BY person, order_id", "person", True),
    "a window": ("SELECT order_id, lag(order_id) OVER (ORDER BY order_id) AS before FROM shop.orders", "order_id", True),
    "a lock": ("SELECT order_id FROM shop.orders ORDER BY order_id LIMIT 1 FOR UPDATE SKIP LOCKED", "order_id", False),
    "values of arrays": ("SELECT unnest(ARRAY['a', NULL]) AS word", "", True),
    # -- more joins
    "the left side of a self join, through USING": (
        "SELECT order_id, b.person FROM shop.orders a LEFT JOIN shop.orders b USING (order_id, price)",
        "order_id",
        True,
    ),
    "a LEFT JOIN that the planner removes": (
        "SELECT o.order_id, o.person FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku",
        "order_id person",
        False,
    ),
    "a LEFT JOIN that WHERE undoes from deep within": (
        "SELECT o.order_id, p.sku, n.name FROM shop.orders o LEFT JOIN (shop.prices p LEFT JOIN shop.people n ON n.person_id = p.price) "
        "ON p.sku = o.sku WHERE n.person_id IN (1, 2)",
        "order_id sku name",
        False,
    ),
    "a FULL JOIN that WHERE makes a LEFT one": (
        "SELECT o.order_id, p.sku FROM shop.orders o FULL JOIN shop.prices p ON p.sku = o.sku WHERE o.order_id > 0",
        "order_id",
        True,
    ),
    "a WHERE that is true of one side or the other": (
        "SELECT o.order_id, p.sku FROM shop.orders o FULL JOIN shop.prices p ON p.sku = o.sku WHERE o.order_id > 0 OR p.price > 0",
        "",
        True,
    ),
    "a WHERE that nulls pass": (
        "SELECT o.order_id, p.sku FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku "
        "WHERE coalesce(p.price, 1) > 0 AND (p.price > 0) IS NOT FALSE AND p.price IS DISTINCT FROM 5",
        "order_id",
        True,
    ),
    "an ON that only filters the null side": (
        "SELECT o.order_id, p.sku FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku AND p.price > 1 AND o.price > 0",
        "order_id",
        True,
    ),
    "an inner join above an outer one": (
        "SELECT p.price, n.name FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku JOIN shop.people n ON n.name = o.person",
        "name",
        False,
    ),
    "an outer join below the null side of another": (
        "SELECT n.name, o.order_id, p.price FROM shop.people n LEFT JOIN (shop.orders o LEFT JOIN shop.prices p USING (sku)) "
        "ON o.person = n.name",
        "name",
        True,
    ),
    "LATERAL that looks outside": (
        "SELECT x.id, x.price FROM shop.orders o, LATERAL (SELECT o.order_id AS id, o.price) x",
        "id",
        True,
    ),
    "LATERAL that looks at the null side": (
        "SELECT o.order_id, x.sku FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku, LATERAL (SELECT p.sku) x",
        "order_id",
        True,
    ),
    "a semi join": ("SELECT order_id FROM shop.orders WHERE sku IN (SELECT sku FROM shop.prices)", "order_id", False),
    "WHERE false": ("SELECT max(order_id) AS m, count(*) AS n FROM shop.orders WHERE false", "n", True),
    "a constant join that folds": ("SELECT n.name, o.order_id FROM shop.people n LEFT JOIN shop.orders o ON 1 = 2", "name", True),
    # -- CTEs and set operations
    "a CTE that is read twice, once on the null side": (
        "WITH p AS (SELECT sku, price FROM shop.prices) SELECT a.sku, b.price FROM p a LEFT JOIN p b ON b.sku = a.sku AND b.price > 5",
        "sku",
        True,
    ),
    "a recursive CTE that keeps what it began with": (
        "WITH RECURSIVE r (n, m) AS (SELECT 1, 1 UNION ALL SELECT n + 1, nullif(n, 1) FROM r WHERE n < 3) SELECT n, m FROM r",
        "n",
        True,
    ),
    "a recursive CTE whose columns change places": (
        "WITH RECURSIVE r (i, a, b, c) AS (SELECT 1, 1, 2, NULL::int UNION ALL SELECT i + 1, b, c, a FROM r WHERE i < 4) "
        "SELECT i, a, b, c FROM r",
        "i",
        True,
    ),
    "a recursive CTE within another": (
        "WITH RECURSIVE o (x, y) AS (SELECT 1, 1 UNION ALL SELECT x + 1, (WITH RECURSIVE i (k, v) AS ("
        "SELECT 1, o.y UNION ALL SELECT k + 1, v FROM i WHERE k < 2) SELECT v FROM i WHERE k > 2) FROM o WHERE x < 3) SELECT x, y FROM o",
        "x",
        True,
    ),
    "a recursive CTE beside another, on what the other loses": (
        "WITH RECURSIVE o (x, y, z) AS (SELECT 1, 1, 1 UNION ALL SELECT o.x + 1, i.v, nullif(o.z, 1) FROM o, LATERAL ("
        "WITH RECURSIVE i (k, v) AS (SELECT 1, o.z UNION ALL SELECT k + 1, v FROM i WHERE k < 2) SELECT v FROM i) i WHERE o.x < 4) "
        "SELECT x, y, z FROM o",
        "x",
        True,
    ),
    "a UNION of what is never null": ("SELECT name FROM shop.people UNION SELECT sku FROM shop.prices", "name", False),
    "an INTERSECT with what is never null": (
        "SELECT nickname FROM shop.people INTERSECT SELECT 'Bobby' AS b",
        "nickname",
        False,
    ),
    "an EXCEPT": ("SELECT nickname FROM shop.people EXCEPT SELECT 'Bobby'", "", True),
    "VALUES": ("SELECT a, b FROM (VALUES (1, 2), (3, NULL)) AS v (a, b)", "a", True),
    # -- expressions
    "expressions of what is never null": (
        "SELECT order_id + 1 AS next, lower(person) AS low, person || '!' AS loud, order_id::text AS words, order_id = 1 AS is_one, "
        "person IN ('a', 'b') AS known, price IS NULL AS unpriced, coalesce(price, 0) AS price, greatest(price, 0) AS most, "
        "CASE WHEN price > 1 THEN 'dear' ELSE 'cheap' END AS kind, now() AS now, current_date AS today, "
        "EXISTS (SELECT FROM shop.prices) AS listed, (SELECT count(*) FROM shop.prices) AS prices, "
        "ARRAY(SELECT sku FROM shop.prices) AS skus, date_trunc('day', placed_at) AS day, NOT order_id = 1 AS other FROM shop.orders",
        "next low loud words is_one known unpriced price most kind now today listed prices skus day other",
        False,
    ),
    "expressions that bring nulls by themselves": (
        "SELECT CASE WHEN order_id = 1 THEN 1 END AS a, nullif(order_id, 1) AS b, (SELECT order_id WHERE false) AS c, "
        "substring(person FROM 'x+') AS d, array_length('{}'::text[], 1) AS e, to_char('infinity'::timestamptz, 'YYYY') AS f, "
        "('{\"a\": null}'::jsonb) ->> 'a' AS g, (ARRAY[1])[2] AS h, lower('empty'::int4range) AS i, "
        "('infinity'::timestamp)::time AS j, extract(month FROM 'infinity'::date) AS k, order_id IN (9, NULL) AS l, "
        "order_id = ALL (ARRAY[1, NULL]) AS m, concat_ws(NULL, 'a') AS n, (SELECT max(price) FROM shop.prices WHERE false) AS o, "
        "'null'::jsonb #>> '{}' AS p FROM shop.orders",
        "",
        True,
    ),
    "windows": (
        "SELECT row_number() OVER w AS n, rank() OVER w AS r, count(*) OVER w AS c, lead(order_id) OVER w AS next, "
        "sum(order_id) OVER (ORDER BY order_id ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) AS s "
        "FROM shop.orders WINDOW w AS (ORDER BY order_id)",
        "n r c",
        True,
    ),
    "aggregates of groups": (
        "SELECT status, max(order_id) AS last, sum(price) AS total, min(person) FILTER (WHERE order_id > 9) AS who, "
        "array_agg(price) AS prices, stddev_samp(order_id) AS spread FROM shop.orders GROUP BY status",
        "status last prices",
        True,
    ),
    "GROUP BY ()": ("SELECT max(order_id) AS m, count(*) AS n FROM shop.orders WHERE false GROUP BY ()", "n", True),
    "a constant and an expression under CUBE": (
        "SELECT kind, one, p + 1 AS q, count(*) AS n, grouping(kind) AS g FROM "
        "(SELECT 'a' AS kind, 1 AS one, coalesce(price, 0) AS p FROM shop.orders) x GROUP BY CUBE (kind, one, p)",
        "n g",
        True,
    ),
    "a function's rows": (
        "SELECT g, n, w FROM generate_series(1, 3) AS g, unnest(ARRAY['a', NULL]) WITH ORDINALITY AS u (w, n)",
        "g n",
        True,
    ),
    "functions side by side": (
        "SELECT a, b, n FROM ROWS FROM (generate_series(1, 3), generate_series(1, 2)) WITH ORDINALITY AS r (a, b, n)",
        "n",
        True,
    ),
    "functions side by side in SELECT": ("SELECT generate_series(1, 3) AS a, generate_series(1, 2) AS b", "", True),
    "a whole row": (
        "SELECT o, p FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku",
        "o",
        True,
    ),
    "everything of both sides": (
        "SELECT o.order_id, p.* FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku",
        "order_id",
        True,
    ),
    "a WHERE that proves more than the table says": (
        "SELECT o.price, o.weight FROM shop.orders o WHERE o.price > 0",
        "price",
        True,
    ),
    # -- writing
    "an UPDATE of what its WHERE found": (
        "UPDATE shop.orders SET price = NULL WHERE price = 1 RETURNING order_id, price",
        "order_id",
        True,
    ),
    "both states of an UPDATE": (
        "UPDATE shop.people SET nickname = 'x' RETURNING old.name AS was, new.name AS is_now, old.nickname",
        "was is_now",
        True,
    ),
    "the row after a DELETE": ("DELETE FROM shop.prices RETURNING old.sku, new.price", "sku", True),
    "an UPDATE through an outer join": (
        "UPDATE shop.orders o SET price = 3 FROM shop.people n LEFT JOIN shop.prices p ON p.price = n.person_id + 5 "
        "WHERE n.name = o.person RETURNING o.order_id, n.name, p.sku",
        "order_id name",
        True,
    ),
    "a MERGE by target only": (
        "MERGE INTO shop.prices p USING shop.orders o ON o.sku = p.sku WHEN NOT MATCHED THEN INSERT VALUES (o.sku, 1) "
        "WHEN MATCHED THEN DELETE RETURNING o.order_id, old.sku, new.price, p.sku AS either",
        "order_id either",
        True,
    ),
    "an INSERT in a CTE, joined": (
        "WITH w AS (INSERT INTO shop.people (name) VALUES ('Zoe') RETURNING person_id, nickname) "
        "SELECT w.person_id, w.nickname, o.order_id FROM w LEFT JOIN shop.orders o ON o.order_id = w.person_id + 90",
        "person_id",
        True,
    ),
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_column_called_not_null_never_is_and_the_plain_cases_are_seen(
    what: str, load: Load, stocked: psycopg.Connection
) -> None:
    sql, proven, brings_nulls = STATEMENTS[what]
    header = "asked(id)" if "$1" in sql else "asked()"
    columns = described(stocked, load, sql.replace("$1", ":id"), header)
    never_null = [column.name for column in columns if not column.nullable]
    cursor = psycopg.RawCursor(stocked)
    rows: list[tuple[Any, ...]] = cursor.execute(sql, [3] if "$1" in sql else None).fetchall()
    assert rows
    with_nulls = {column.name for at, column in enumerate(columns) if any(row[at] is None for row in rows)}
    assert bool(with_nulls) == brings_nulls
    assert not with_nulls & set(never_null), "described as not null, and null"
    assert " ".join(never_null) == proven


def test_a_table_without_partitions_is_described_all_the_same(load: Load, shop: psycopg.Connection) -> None:
    shop.execute("CREATE TABLE shop.visits (at timestamptz NOT NULL, what text) PARTITION BY RANGE (at)")
    columns = described(shop, load, "SELECT v.at, v.what FROM shop.visits v")
    assert [(column.name, column.nullable) for column in columns] == [("at", False), ("what", True)]
    joined = described(shop, load, "SELECT v.at, o.order_id FROM shop.orders o LEFT JOIN shop.visits v ON v.at = o.placed_at")
    assert [(column.name, column.nullable) for column in joined] == [("at", True), ("order_id", False)]
    assert shop.execute("SELECT count(*) FROM pg_inherits").fetchone() == (0,), "describing leaves nothing behind"


def test_what_lets_nulls_past_is_no_proof(load: Load, shop: psycopg.Connection) -> None:
    # Both are documented: a domain's NOT NULL does not see a subquery without rows, a NOT VALID constraint not what is there.
    shop.execute("CREATE TABLE shop.leaky (surely shop.surely, late text)")
    shop.execute("INSERT INTO shop.leaky (surely) SELECT (SELECT surely FROM shop.oddities WHERE false)")
    shop.execute("ALTER TABLE shop.leaky ADD CONSTRAINT leaky_late_not_null NOT NULL late NOT VALID")
    assert shop.execute("SELECT surely, late FROM shop.leaky").fetchall() == [(None, None)]
    assert [c.nullable for c in described(shop, load, "SELECT surely, late FROM shop.leaky")] == [True, True]
    shop.execute("UPDATE shop.leaky SET late = 'now'")
    shop.execute("ALTER TABLE shop.leaky VALIDATE CONSTRAINT leaky_late_not_null")
    assert [c.nullable for c in described(shop, load, "SELECT surely, late FROM shop.leaky")] == [True, False]


def test_a_count_in_a_view_without_tables_is_null_behind_an_outer_join(load: Load, stocked: psycopg.Connection) -> None:
    stocked.execute("CREATE VIEW shop.counted AS SELECT count(*) AS n FROM generate_series(1, 3)")
    assert not described(stocked, load, "SELECT n FROM shop.counted")[0].nullable
    joined = "SELECT c.n FROM shop.orders o LEFT JOIN shop.counted c ON c.n = o.order_id + 100"
    assert stocked.execute(joined).fetchall()[0] == (None,)
    assert described(stocked, load, joined)[0].nullable


def test_what_stands_beneath_a_table_or_view_is_asked(load: Load, stocked: psycopg.Connection) -> None:
    stocked.execute("""
        CREATE TABLE shop.parts (n integer NOT NULL, d date NOT NULL) PARTITION BY RANGE (d);
        CREATE TABLE shop.parts_1 PARTITION OF shop.parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE shop.parts_2 PARTITION OF shop.parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        INSERT INTO shop.parts VALUES (1, '2026-01-01'), (2, '2026-02-02');
        CREATE TABLE shop.parent (a integer NOT NULL, b integer, CONSTRAINT parent_b CHECK (b > 0));
        ALTER TABLE shop.parent ADD CONSTRAINT parent_b_not_null NOT NULL b NO INHERIT;
        CREATE TABLE shop.child () INHERITS (shop.parent);
        INSERT INTO shop.child VALUES (1, NULL);
        CREATE VIEW shop.over_view AS SELECT v.order_id, v.list_price, n.name FROM shop.maybe_priced_orders v
            LEFT JOIN shop.people n ON n.person_id = v.order_id + 90;
        CREATE MATERIALIZED VIEW shop.kept AS SELECT order_id, price FROM shop.orders;
        CREATE VIEW shop.replaced AS SELECT order_id, person FROM shop.orders;
        CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.order_id = NULL; RETURN NEW; END';
        CREATE TRIGGER instead INSTEAD OF INSERT ON shop.replaced FOR EACH ROW EXECUTE FUNCTION shop.nothing();
        CREATE FUNCTION shop.rows() RETURNS TABLE (a integer, b text) LANGUAGE sql AS 'SELECT 1, NULL::text';
        CREATE FUNCTION shop.leaky(integer) RETURNS integer LANGUAGE sql STRICT AS 'SELECT NULL::integer';
        CREATE FUNCTION shop.lower(text) RETURNS text LANGUAGE sql STRICT AS 'SELECT NULL::text';
    """)
    for sql, proven in {
        "SELECT n, d FROM shop.parts": "n d",
        "SELECT p.n, o.order_id FROM shop.orders o LEFT JOIN shop.parts p ON p.n = o.order_id": "order_id",
        "SELECT a, b FROM shop.parent": "a",
        "SELECT order_id, list_price, name FROM shop.over_view": "order_id",
        "SELECT order_id, price FROM shop.kept": "order_id",
        "INSERT INTO shop.replaced VALUES (7, 'x') RETURNING order_id, person": "",
        "SELECT a, b FROM shop.rows()": "",
        "SELECT shop.leaky(order_id) AS l, shop.lower(person) AS p FROM shop.orders": "",
    }.items():
        columns = described(stocked, load, sql)
        rows: list[tuple[Any, ...]] = psycopg.RawCursor(stocked).execute(sql).fetchall()
        never_null = [column.name for column in columns if not column.nullable]
        assert " ".join(never_null) == proven, sql
        assert rows
        assert not any(row[at] is None for row in rows for at, column in enumerate(columns) if not column.nullable), sql


def test_a_parameter_is_not_null_unless_its_header_says_so(load: Load, shop: psycopg.Connection) -> None:
    statements = load(
        "-- name: asked(a, b)\n-- @param b nullable: for the test\n"
        "SELECT :a::int AS a, :b::int AS b, :a::int + 1 AS c, coalesce(:b::int, 0) AS d"
    )
    (description,) = describe(shop, statements).descriptions
    assert [c.nullable for c in description.columns] == [False, True, False, False]


def test_elements_are_not_null_only_where_a_check_says_so(load: Load, shop: psycopg.Connection) -> None:
    shop.execute("""
        CREATE DOMAIN shop.full_array AS text[] CHECK (array_position(VALUE, NULL) IS NULL);
        CREATE TABLE shop.arrays (a text[], b text[], c text[], d shop.full_array,
            CONSTRAINT all_of_it CHECK (cardinality(a) > 0 AND array_position(a, NULL) IS NULL),
            CONSTRAINT either CHECK (array_position(b, NULL) IS NULL OR cardinality(b) = 2));
        INSERT INTO shop.arrays (b, c) VALUES ('{a,NULL}', '{NULL}');
    """)
    columns = described(shop, load, "SELECT * FROM shop.arrays")
    assert [c.type.full or bool(c.type.base and c.type.base.full) for c in columns] == [True, False, False, True]


# -- types -------------------------------------------------------------------------------------------------------------------------


def test_types_are_those_of_the_catalogue_and_not_what_the_wire_says(load: Load, shop: psycopg.Connection) -> None:
    columns = {
        column.name: column.type for column in described(shop, load, "SELECT o.*, 1.5::numeric(3, 1) AS cast_ FROM shop.orders o")
    }
    sku, price = columns["sku"], columns["price"]
    assert (sku.name, sku.base.name if sku.base else None) == ("sku", "text")
    assert price.base is not None
    assert (price.name, price.base.name, price.base.modifier) == ("price", "numeric", ((9 << 16) | 4) + 4)
    assert columns["weight"].modifier == ((6 << 16) | 2) + 4
    assert columns["cast_"].modifier == ((3 << 16) | 1) + 4
    assert columns["status"].labels == ("open", "in-progress", "in progress", "2nd try", "done")
    assert columns["tags"].element is not None
    assert columns["tags"].element.name == "text"
    assert columns["history"].element is not None
    assert columns["history"].element.labels[0] == "open"


def test_a_domain_is_recovered_through_views_and_ctes(load: Load, shop: psycopg.Connection) -> None:
    for sql in (
        "SELECT price FROM shop.priced_orders",
        "WITH p AS MATERIALIZED (SELECT price FROM shop.prices) SELECT price FROM p",
        "SELECT x.price FROM (SELECT price FROM shop.prices ORDER BY price LIMIT 1) x",
    ):
        assert described(shop, load, sql)[0].type.name == "price"


def test_parameters_have_the_types_of_what_they_meet(load: Load, shop: psycopg.Connection) -> None:
    statements = load(
        """\
        -- name: asked(status, ids, extra, low)
        -- @param low nullable: null asks for all
        SELECT order_id FROM shop.orders
        WHERE status = :status AND order_id = ANY (:ids) AND extra @> :extra AND (:low::shop.price IS NULL OR price > :low)
        """
    )
    (description,) = describe(shop, statements).descriptions
    assert [(p.name, p.type.name, p.nullable) for p in description.parameters] == [
        ("status", "status", False),
        ("ids", "_int4", False),
        ("extra", "jsonb", False),
        ("low", "price", True),
    ]


def test_tables_and_views_are_described_with_their_comments(load: Load, shop: psycopg.Connection) -> None:
    database = describe(shop, load("-- name: one()\nSELECT 1 AS n"))
    people = relation(database, "shop.people")
    assert (people.comment, people.is_view) == ("Who orders.", False)
    assert [(c.name, c.nullable, c.generated) for c in people.columns] == [
        ("person_id", False, True),
        ("name", False, False),
        ("nickname", True, False),
        ("born", True, False),
    ]
    assert people.columns[2].comment == 'What friends say, "quoted"'
    view = relation(database, "shop.maybe_priced_orders")
    assert [(c.name, c.nullable) for c in view.columns] == [("order_id", False), ("sku", False), ("list_price", True)]


def test_a_dropped_column_shifts_nothing(load: Load, shop: psycopg.Connection) -> None:
    shop.execute("ALTER TABLE shop.orders DROP COLUMN person")
    columns = described(shop, load, "SELECT status, price FROM shop.orders")
    assert [(c.name, c.type.name, c.nullable) for c in columns] == [("status", "status", False), ("price", "price", True)]


def test_the_header_can_say_what_the_server_cannot_tell(load: Load, shop: psycopg.Connection) -> None:
    sql = "-- @column low not null: a person has a name\nSELECT lower(min(person)) AS low, max(person) AS high FROM shop.orders"
    assert [(c.name, c.nullable) for c in described(shop, load, sql)] == [("low", False), ("high", True)]


# -- errors ------------------------------------------------------------------------------------------------------------------------


def refusal(conn: psycopg.Connection, statements: Statements) -> str:
    with pytest.raises(DescribeError) as caught:
        describe(conn, statements)
    return str(caught.value)


def test_an_error_of_the_server_points_at_line_and_column(load: Load, shop: psycopg.Connection) -> None:
    statements = load(
        "-- A file.\n\n-- name: asked()\n-- Words.\nSELECT 'é', -- don't\n    o.person, o.persn\nFROM shop.orders o;\n"
    )
    assert refusal(shop, statements).splitlines() == [
        "queries/shop/test.sql:6: shop.asked: column o.persn does not exist",
        "    6 |     o.person, o.persn",
        "      |               ^^^^^^^ did you mean o.person?",
    ]


def test_an_error_at_the_very_end_points_there(load: Load, shop: psycopg.Connection) -> None:
    assert refusal(shop, load("-- name: asked()\nSELECT order_id\nFROM")).splitlines() == [
        "queries/shop/test.sql:3: shop.asked: syntax error at end of input",
        "    3 | FROM",
        "      |     ^",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-- name: f()\nUPDATE shop.people SET name = 'x'", "1: shop.f: it returns no columns; end its name with ! if"),
        ("-- name: f()\nSELECT 1 AS a, 2 AS a", "1: shop.f: two columns have one name: a, a"),
        ("-- name: f()\nSELECT 1 AS a, 2", "1: shop.f: column 2 has no name; give it one with AS"),
        ("-- name: f()$\nSELECT 1 AS a, 2 AS b", "1: shop.f: one column is promised ($), there are 2"),
        ("-- name: f()\n-- @column b not null: why not\nSELECT 1 AS a", "2: shop.f: @column names b, which it does not return"),
        (
            "-- name: f()\n\n-- @column a not null: a constant\nSELECT 1 AS a",
            "3: shop.f: @column a is needless: the server proves",
        ),
        (
            "-- name: f()\n-- @column sku not null: each has a price\n"
            "SELECT o.order_id, p.sku FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku",
            "2: shop.f: @column sku not null is wrong: an outer join without a partner makes it null; write JOIN or COALESCE",
        ),
        (
            "-- name: f()\n-- @column sku not null: through a view, a CTE and a subquery\nWITH c AS (SELECT * FROM ("
            "SELECT v.sku FROM shop.people n LEFT JOIN shop.priced_orders v ON v.order_id = n.person_id) s) SELECT sku FROM c",
            "2: shop.f: @column sku not null is wrong: an outer join",
        ),
        ("-- name: f()\n-- @json n app:Thing\nSELECT 1 AS n", "1: shop.f: @json names n, which is int4 and no json"),
        ("-- name: f()\n-- @json m app:Thing\nSELECT 1 AS n", "1: shop.f: @json names m, which it neither takes nor returns"),
        (
            "-- name: f()^\n-- @bulk s like shop.nothing\n-- @one\nSELECT 1 AS written",
            "1: shop.f: there is no table shop.nothing to stage rows for",
        ),
        (
            "-- name: f()^\n-- @bulk s like shop.people without shoe, hat\n-- @one\nSELECT 1 AS written",
            "1: shop.f: shop.people has no column hat, shoe",
        ),
        (
            "-- name: f()^\n-- @bulk s like shop.people\n-- @one\nSELECT 1 AS written\n"
            "-- name: g()^\n-- @bulk s like shop.orders\n-- @one\nSELECT 1 AS written",
            "5: shop.g: shop.f stages other rows in s; choose another name",
        ),
    ],
)
def test_what_the_header_claims_against_the_server_is_refused(
    load: Load, shop: psycopg.Connection, text: str, problem: str
) -> None:
    assert refusal(shop, load(text)).startswith(f"queries/shop/test.sql:{problem}")


def test_one_value_needs_no_name(load: Load, shop: psycopg.Connection) -> None:
    assert len(described(shop, load, "SELECT 1", "asked()$")) == 1


def test_two_bulk_statements_can_stage_the_same_rows(load: Load, shop: psycopg.Connection) -> None:
    bulk = "-- name: {}()^\n-- @bulk s like shop.people without born\n-- @one\nSELECT count(*) AS written FROM s\n"
    assert len(describe(shop, load(bulk.format("f") + bulk.format("g"))).descriptions) == 2
