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
        "",  # order_id is not null in truth; a plan tells tables apart, not their copies
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
        "",
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
        "",
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


def test_the_header_can_overrule_and_says_why(load: Load, shop: psycopg.Connection) -> None:
    sql = "-- @column low not null: names are\n-- @column sku nullable: for the test\nSELECT lower(person) AS low, sku FROM shop.orders"
    assert [(c.name, c.nullable) for c in described(shop, load, sql)] == [("low", False), ("sku", True)]


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
        "queries/shop/test.sql:6: shop.asked: column o.persn does not exist"
        ' (Perhaps you meant to reference the column "o.person".)',
        "    6 |     o.person, o.persn",
        "      |               ^",
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
        ("-- name: f()\n-- @column b not null: why not\nSELECT 1 AS a", "1: shop.f: @column names b, which it does not return"),
        ("-- name: f()\nSHOW timezone", "1: shop.f: the server cannot plan it"),
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
