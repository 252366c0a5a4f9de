"""What a statement promises about its rows and parameters holds, sync and async, against a real server."""

import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from pydantic import AwareDatetime, BaseModel, ConfigDict

from kalshidb.typedsql import (
    BulkResult,
    BulkRows,
    CardinalityError,
    ParameterError,
    RowError,
    Rows,
    Statements,
    as_jsonb,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ZONELESS = datetime(2026, 1, 1, 12)  # noqa: DTZ001

Load = Callable[[str], Statements]


class Number(BaseModel):
    """A row of the statements below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int


class Order(BaseModel):
    """What the bulk statement takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_id: int
    person: str
    sku: str
    status: str
    side: str
    price: Decimal | None = None
    tags: list[str] = []
    history: list[str] | None = None
    placed_at: AwareDatetime
    extra: Any = None
    weight: Decimal | None = None


def order(order_id: int, **changes: object) -> Order:
    given: dict[str, Any] = {"person": "Ann", "sku": "AB-1", "status": "open", "side": "buy", "placed_at": NOON} | changes
    return Order(order_id=order_id, **given)


Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, shop: psycopg.Connection, ashop: psycopg.AsyncConnection) -> Call:
    """Call a method of Rows, Statement or BulkRows over a sync or an async connection; a stream comes as a list."""

    async def call(method: Callable[..., Any], *arguments: object) -> object:
        if request.param == "sync":
            result = method(shop, *arguments)
            return list(result) if isinstance(result, Iterator) else result
        result = method(ashop, *arguments)
        return [row async for row in result] if hasattr(result, "__aiter__") else await result

    return call


@pytest.fixture
def statements(load: Load) -> Statements:
    return load(
        """\
        -- name: numbers(count)
        SELECT n FROM generate_series(1, :count::int) AS n;

        -- name: streamed(count)
        -- @stream
        SELECT n FROM generate_series(1, :count::int) AS n;

        -- name: failing(count)
        -- @stream
        SELECT n / (n - 3000) AS n FROM generate_series(1, :count::int) AS n;

        -- name: mark(name, nickname)!
        -- @param nickname nullable: most people have none
        INSERT INTO shop.people (name, nickname) VALUES (:name, :nickname::text);

        -- name: rename(nickname)!
        UPDATE shop.people SET nickname = :nickname;

        -- name: length(words)$
        SELECT cardinality(:words::text[]);

        -- name: moments(times)$
        SELECT array_length(:times::timestamptz[], 1);

        -- name: sold(skus, amounts, buyers, ages)$
        -- @pairs skus, amounts
        -- @pairs buyers, ages
        -- @param ages nullable: nobody was asked
        SELECT count(*) FROM (
            SELECT FROM unnest(:skus::text[], :amounts::int[])
            UNION ALL
            SELECT FROM unnest(:buyers::text[], :ages::int[])
        ) AS lines;

        -- name: moment(time)$
        SELECT :time::timestamptz;

        -- name: divide(by)$
        -- A comment.
        SELECT 1 / :by::int;

        -- name: nothing()!
        SELECT 1 WHERE false;

        -- name: put_orders()^
        -- @bulk staged_orders like shop.orders
        -- @one
        WITH newest AS (SELECT DISTINCT ON (order_id) * FROM staged_orders ORDER BY order_id, staged_position DESC),
        written AS (
            INSERT INTO shop.orders AS stored (
                order_id, person, sku, status, side, price, tags, history, placed_at, extra, weight
            )
            SELECT order_id, person, sku, status, side, price, tags, history, placed_at, extra, weight FROM newest
            ON CONFLICT (order_id) DO UPDATE SET price = EXCLUDED.price, extra = EXCLUDED.extra
            WHERE (stored.price, stored.extra) IS DISTINCT FROM (EXCLUDED.price, EXCLUDED.extra)
            RETURNING xmax = 0 AS is_new
        )
        SELECT count(*) FILTER (WHERE is_new) AS inserted, count(*) FILTER (WHERE NOT is_new) AS updated FROM written;

        -- name: put_with_steps()^
        -- @bulk staged_steps like shop.orders
        -- @one
        -- @before greet
        -- @after rename_all
        WITH written AS (
            INSERT INTO shop.people (name) SELECT person FROM staged_steps ORDER BY staged_position RETURNING 1
        )
        SELECT count(*) AS written FROM written;

        -- name: greet()!
        -- @internal step of put_with_steps
        INSERT INTO shop.people (name) SELECT 'before ' || person FROM staged_steps;

        -- name: rename_all()!
        -- @internal step of put_with_steps
        UPDATE shop.people SET nickname = 'after';
        """
    )


@pytest.fixture
def numbers(statements: Statements) -> Rows[Number]:
    return Rows.of_model(statements["shop.numbers"], Number)


@pytest.fixture
def put_orders(statements: Statements) -> BulkRows[Order]:
    return BulkRows(statements["shop.put_orders"], Order, jsonb=("extra",))


def people(conn: psycopg.Connection) -> list[tuple[str, str | None]]:
    return conn.execute("SELECT name, nickname FROM shop.people ORDER BY person_id").fetchall()


def stored(conn: psycopg.Connection) -> list[int]:
    return [row[0] for row in conn.execute("SELECT order_id FROM shop.orders ORDER BY order_id")]


# -- how many rows -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_each_promise_is_held_or_broken_aloud(run: Call, numbers: Rows[Number], count: int) -> None:
    rows = [Number(n=n + 1) for n in range(count)]
    assert await run(numbers.many, (count,)) == rows
    if count < 2:
        assert await run(numbers.optional, (count,)) == (rows[0] if rows else None)
    else:
        with pytest.raises(CardinalityError, match=r"^queries/shop/test.sql:1: shop.numbers: at most one row .* 2 came$"):
            await run(numbers.optional, (count,))
    if count == 1:
        assert await run(numbers.one, (count,)) == rows[0]
    else:
        with pytest.raises(CardinalityError, match=f"exactly one row is promised, {count} came"):
            await run(numbers.one, (count,))


@pytest.mark.parametrize("count", [0, 1, 2, 4500])
async def test_a_stream_gives_every_row_once_and_in_order(run: Call, statements: Statements, count: int) -> None:
    stream = Rows.of_model(statements["shop.streamed"], Number)
    assert [row.n for row in await run(stream.stream, (count,))] == list(range(1, count + 1))


async def test_one_value_comes_bare(run: Call, statements: Statements) -> None:
    assert await run(Rows.of_value(statements["shop.length"]).one, (["a", "b"],)) == 2


async def test_affected_rows_are_counted(run: Call, statements: Statements, shop: psycopg.Connection) -> None:
    for name, nickname in [("Ann", None), ("Bob", "Bobby")]:
        assert await run(statements["shop.mark"].affected, (name, nickname)) == 1
    assert await run(statements["shop.rename"].affected, ("both",)) == 2
    assert people(shop) == [("Ann", "both"), ("Bob", "both")]
    assert await run(statements["shop.nothing"].affected, ()) == 0


# -- parameters --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("mark", (None, None), "parameter name is None; it takes no null"),
        ("moment", (ZONELESS,), "parameter time has no time zone (2026-01-01T12:00:00); write tzinfo"),
        ("moments", ([NOON, ZONELESS],), "parameter times has no time zone (2026-01-01T12:00:00)"),
        ("moments", ((ZONELESS,),), "parameter times has no time zone"),
        ("length", (["a", None],), "parameter words has None in it; it takes no null"),
    ],
)
async def test_what_the_server_would_misunderstand_is_never_sent(
    run: Call, statements: Statements, shop: psycopg.Connection, name: str, values: tuple[Any, ...], problem: str
) -> None:
    statement = statements[f"shop.{name}"]
    method = statement.affected if name == "mark" else Rows.of_value(statement).one
    with pytest.raises(ParameterError) as caught:
        await run(method, values)
    assert str(caught.value).startswith(f"{statement.source.place}: shop.{name}: {problem}")
    assert isinstance(caught.value, TypeError)
    assert people(shop) == []


async def test_any_sequence_is_an_array_not_only_a_list(run: Call, statements: Statements) -> None:
    assert await run(Rows.of_value(statements["shop.length"]).one, (("a", "b,c"),)) == 2
    assert await run(Rows.of_value(statements["shop.length"]).one, ([],)) == 0


async def test_lists_that_go_together_are_of_one_length(run: Call, statements: Statements) -> None:
    sold = Rows.of_value(statements["shop.sold"]).one
    assert await run(sold, (["AB-1", "AB-2"], (1, 2), ["Ann"], [41])) == 3
    assert await run(sold, ([], [], [], [])) == 0
    assert await run(sold, (["AB-1"], [1], ["Ann"], None)) == 2, "no list at all has no length"
    for lists, told in [
        ((["AB-1", "AB-2"], [1], [], []), "skus (2) and amounts (1)"),
        (([], (1, 2, 3), [], []), "skus (0) and amounts (3)"),
        ((["AB-1"], [1], ["Ann"], [41, 42]), "buyers (1) and ages (2)"),
    ]:
        with pytest.raises(ParameterError) as caught:
            await run(sold, lists)
        problem = f"shop.sold: parameters {told} have unequal lengths; their elements go together, one with one"
        assert str(caught.value) == f"{statements['shop.sold'].source.place}: {problem}"


async def test_a_time_means_the_same_whatever_the_sessions_zone(run: Call, statements: Statements) -> None:
    assert await run(Rows.of_value(statements["shop.moment"]).one, (NOON,)) == NOON


# -- errors ------------------------------------------------------------------------------------------------------------------------


async def test_a_database_error_keeps_its_type_and_says_which_statement_it_was(run: Call, statements: Statements) -> None:
    statement = statements["shop.divide"]
    with pytest.raises(psycopg.errors.DivisionByZero) as caught:
        await run(Rows.of_value(statement).one, (0,))
    assert caught.value.sqlstate == "22012"
    assert caught.value.__notes__ == [f"queries/shop/test.sql:{statement.source.place.line}: shop.divide(by=0)"]
    assert await run(Rows.of_value(statement).one, (1,)) == 1


async def test_an_error_in_the_middle_of_a_stream_says_which_statement_it_was(
    statements: Statements, shop: psycopg.Connection, ashop: psycopg.AsyncConnection
) -> None:
    # In a transaction the server computes rows as they are fetched, so the first ones arrive.
    failing = Rows.of_model(statements["shop.failing"], Number)
    arrived = 0
    with pytest.raises(psycopg.errors.DivisionByZero) as caught, shop.transaction():  # noqa: PT012
        for _ in failing.stream(shop, (5000,)):
            arrived += 1
    assert arrived == 2000
    assert [note.split(": ")[1] for note in caught.value.__notes__] == ["shop.failing"]
    arrived = 0
    with pytest.raises(psycopg.errors.DivisionByZero) as caught:  # noqa: PT012
        async with ashop.transaction():
            async for _ in failing.stream(ashop, (5000,)):
                arrived += 1
    assert arrived == 2000
    assert [note.split(": ")[1] for note in caught.value.__notes__] == ["shop.failing"]


# -- streams -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_transaction", [False, True])
def test_any_number_of_rows_streams_through_little_memory(
    statements: Statements, shop: psycopg.Connection, in_transaction: bool
) -> None:
    shop.autocommit = not in_transaction
    stream = Rows.of_value(statements["shop.streamed"])
    tracemalloc.start()
    try:
        total = sum(1 for _ in stream.stream(shop, (250_000,)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 250_000
    assert peak < 3_000_000  # as a list they would be some 15 MB


async def test_a_stream_is_a_cursor_on_the_server(statements: Statements, shop: psycopg.Connection) -> None:
    stream = Rows.of_model(statements["shop.streamed"], Number).stream(shop, (5000,))
    assert next(stream) == Number(n=1)
    ((name, statement),) = shop.execute("SELECT name, statement FROM pg_cursors WHERE name LIKE 'shop%'").fetchall()
    assert name.startswith("shop.streamed ")
    assert "/* shop.streamed */" in statement
    del stream
    assert shop.execute("SELECT count(*) FROM pg_cursors WHERE name LIKE 'shop%'").fetchone() == (0,)


def test_one_stream_can_be_read_inside_another_of_the_same_statement(statements: Statements, shop: psycopg.Connection) -> None:
    stream = Rows.of_model(statements["shop.streamed"], Number)
    assert [(a.n, b.n) for a in stream.stream(shop, (2,)) for b in stream.stream(shop, (2,))] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_stopping_early_leaves_the_connection_usable_and_other_work_done(
    statements: Statements, shop: psycopg.Connection
) -> None:
    stream, mark = Rows.of_model(statements["shop.streamed"], Number), statements["shop.mark"]
    for row in stream.stream(shop, (10_000,)):
        mark.affected(shop, (f"seen {row.n}", None))
        if row.n == 2:
            break
    assert shop.info.transaction_status is TransactionStatus.IDLE
    mark.affected(shop, ("after", None))
    with shop.transaction():
        for row in stream.stream(shop, (10_000,)):
            mark.affected(shop, (f"inside {row.n}", None))
            break
        mark.affected(shop, ("inside, after", None))
    assert [name for name, _ in people(shop)] == ["seen 1", "seen 2", "after", "inside 1", "inside, after"]


async def test_stopping_early_leaves_an_async_connection_usable_and_other_work_done(
    statements: Statements, ashop: psycopg.AsyncConnection, shop: psycopg.Connection
) -> None:
    stream, mark = Rows.of_model(statements["shop.streamed"], Number), statements["shop.mark"]
    async for row in stream.stream(ashop, (10_000,)):
        await mark.affected(ashop, (f"seen {row.n}", None))
        break
    await mark.affected(ashop, ("after", None))
    async with ashop.transaction():
        async for row in stream.stream(ashop, (10_000,)):
            await mark.affected(ashop, (f"inside {row.n}", None))
            break
        await mark.affected(ashop, ("inside, after", None))
    async with ashop.transaction():
        await mark.affected(ashop, ("next", None))
    assert ashop.info.transaction_status is TransactionStatus.IDLE
    assert [name for name, _ in people(shop)] == ["seen 1", "after", "inside 1", "inside, after", "next"]


def test_an_exception_in_the_readers_loop_leaves_the_connection_usable(statements: Statements, shop: psycopg.Connection) -> None:
    stream, mark = Rows.of_model(statements["shop.streamed"], Number), statements["shop.mark"]

    def read() -> None:
        for row in stream.stream(shop, (10_000,)):
            mark.affected(shop, (f"seen {row.n}", None))
            raise LookupError

    with pytest.raises(LookupError):
        read()
    with pytest.raises(LookupError), shop.transaction():
        read()
    gc.collect()
    mark.affected(shop, ("after", None))
    assert [name for name, _ in people(shop)] == ["seen 1", "after"]
    assert shop.info.transaction_status is TransactionStatus.IDLE


def test_a_stream_reads_in_the_callers_transaction(statements: Statements, shop: psycopg.Connection) -> None:
    shop.autocommit = False
    statements["shop.mark"].affected(shop, ("Ann", None))
    assert len(list(Rows.of_model(statements["shop.streamed"], Number).stream(shop, (3,)))) == 3
    shop.rollback()
    assert people(shop) == []


# -- rows and models ---------------------------------------------------------------------------------------------------------------


class Person(BaseModel):
    """A person, of another version of the code than the database's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    nickname: str | None = None
    shoe_size: int | None = None


async def test_code_and_database_of_neighbouring_versions_read_each_other(
    run: Call, load: Load, shop: psycopg.Connection
) -> None:
    # The table has columns that the model lacks, and the model a field that the table does not have yet.
    statement = load("-- name: everyone()\nSELECT * FROM shop.people;")["shop.everyone"]
    shop.execute("INSERT INTO shop.people (name, born) VALUES ('Ann', '2000-01-01')")
    shop.execute("ALTER TABLE shop.people ADD COLUMN hat text NOT NULL DEFAULT 'none'")
    rows = Rows.of_model(statement, Person)
    assert await run(rows.many, ()) == [Person(name="Ann")]
    assert await run(rows.stream, ()) == [Person(name="Ann")]


async def test_a_row_that_does_not_fit_is_an_error_that_names_the_column(run: Call, load: Load) -> None:
    statement = load("-- name: odd()\nSELECT 'many' AS n;")["shop.odd"]
    with pytest.raises(RowError, match=r"^queries/shop/test.sql:1: shop.odd: column n: Input should be .*\(value 'many'\)$"):
        await run(Rows.of_model(statement, Number).many, ())
    missing = load("-- name: odd()\nSELECT 1 AS m;")["shop.odd"]
    with pytest.raises(RowError, match="column n: Field required"):
        await run(Rows.of_model(missing, Number).one, ())


async def test_a_decimal_in_jsonb_is_stored_digit_for_digit(
    run: Call, load: Load, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    exact = Decimal("0.1234567890123456789012345678901")
    echo = load("-- name: echo(value)$\nSELECT (:value::jsonb -> 'x' ->> 0)::text;")["shop.echo"]
    assert await run(Rows.of_value(echo).one, (as_jsonb({"x": [exact]}),)) == str(exact)
    await run(put_orders.write, [order(1, extra={"é": exact}), order(2, extra=None)])
    assert shop.execute("SELECT extra::text FROM shop.orders ORDER BY order_id").fetchall() == [(f'{{"é": {exact}}}',), (None,)]


# -- bulk --------------------------------------------------------------------------------------------------------------------------


async def test_models_and_tuples_are_written_and_counted(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    rows = [order(1), order(2, price=Decimal("1.5"), tags=["a", "b,c"], history=["open", "done"])]
    assert await run(put_orders.write, rows) == BulkResult(2, 2, 2, 0)
    again = [order(2, price=Decimal(2)), tuple(getattr(order(3), name) for name in Order.model_fields)]
    assert await run(put_orders.write, again) == BulkResult(received=2, written=2, inserted=1, updated=1)
    result = await run(put_orders.write, iter([*again, order(1)]))
    assert (result.written, result.unchanged) == (0, 3)
    assert shop.execute("SELECT price, tags, history::text[], placed_at FROM shop.orders WHERE order_id = 2").fetchone() == (
        Decimal(2),
        ["a", "b,c"],
        ["open", "done"],
        NOON,
    )


async def test_a_key_twice_in_one_input_counts_once_and_the_later_row_wins(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    result = await run(put_orders.write, [order(1, price=Decimal(1)), order(1, price=Decimal(2)), order(2)])
    assert (result.received, result.written, result.unchanged) == (3, 2, 1)
    assert shop.execute("SELECT price FROM shop.orders WHERE order_id = 1").fetchone() == (Decimal(2),)


async def test_no_rows_are_nothing_to_do(run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection) -> None:
    assert await run(put_orders.write, []) == BulkResult(0, 0, 0, 0)
    assert await run(put_orders.write, iter(())) == BulkResult(0, 0, 0, 0)
    assert stored(shop) == []


async def test_one_bad_row_in_the_middle_writes_nothing_and_is_named(
    run: Call, statements: Statements, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    rows = [order(n, sku="nonsense" if n == 3 else "AB-1") for n in range(1, 6)]
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        await run(put_orders.write, rows)
    assert caught.value.diag.constraint_name == "sku_check"
    assert caught.value.diag.context is not None
    assert caught.value.diag.context.startswith("COPY staged_orders, line 3, column sku")
    assert caught.value.__notes__ == [f"{statements['shop.put_orders'].source.place}: shop.put_orders"]
    assert stored(shop) == []
    assert (await run(put_orders.write, [order(1)])).written == 1
    assert stored(shop) == [1]


async def test_a_row_that_only_the_table_refuses_writes_nothing(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        await run(put_orders.write, [order(1), order(2, weight=Decimal(-1))])
    assert caught.value.diag.constraint_name == "orders_weight_check"
    assert "(2, Ann" in (caught.value.diag.message_detail or "")
    assert stored(shop) == []
    assert (await run(put_orders.write, [order(1)])).written == 1


async def test_an_error_of_the_source_of_rows_comes_through_as_it_is(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    def rows() -> Iterator[Order]:
        yield order(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match=r"^the disk is gone$"):
        await run(put_orders.write, rows())
    assert stored(shop) == []
    assert (await run(put_orders.write, [order(2)])).written == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: row[:-1], "row 2 has 10 values, not the 11 of its model"),
        (lambda row: (*row, 1), "row 2 has 12 values, not the 11 of its model"),
        (
            lambda row: tuple(ZONELESS if value == NOON else value for value in row),
            "placed_at of row .* no time zone",
        ),
    ],
)
async def test_a_tuple_that_fits_no_model_is_refused(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection, change: Callable[[tuple[Any, ...]], Any], problem: str
) -> None:
    good = tuple(getattr(order(1), name) for name in Order.model_fields)
    with pytest.raises(ParameterError, match=problem):
        await run(put_orders.write, [good, change(good)])
    assert stored(shop) == []
    assert (await run(put_orders.write, [good])).written == 1


def test_within_a_transaction_a_failure_takes_only_itself_back(put_orders: BulkRows[Order], shop: psycopg.Connection) -> None:
    with shop.transaction():
        assert put_orders.write(shop, [order(1)]).inserted == 1
        with pytest.raises(psycopg.errors.CheckViolation):
            put_orders.write(shop, [order(2), order(3, sku="nonsense")])
        # Called again, the staging table has nothing of the calls before.
        shop.execute("DELETE FROM shop.orders")
        assert put_orders.write(shop, [order(4)]) == BulkResult(1, 1, 1, 0)
    assert stored(shop) == [4]
    with pytest.raises(LookupError), shop.transaction():  # noqa: PT012
        put_orders.write(shop, [order(5)])
        raise LookupError
    assert stored(shop) == [4]


async def test_within_an_async_transaction_a_failure_takes_only_itself_back(
    put_orders: BulkRows[Order], ashop: psycopg.AsyncConnection, shop: psycopg.Connection
) -> None:
    async with ashop.transaction():
        await put_orders.write(ashop, [order(1)])
        with pytest.raises(psycopg.errors.CheckViolation):
            await put_orders.write(ashop, [order(2), order(3, sku="nonsense")])
        await ashop.execute("DELETE FROM shop.orders")
        assert await put_orders.write(ashop, [order(4)]) == BulkResult(1, 1, 1, 0)
    assert stored(shop) == [4]


async def test_steps_run_before_and_after_and_see_the_rows(run: Call, statements: Statements, shop: psycopg.Connection) -> None:
    bulk = BulkRows(statements["shop.put_with_steps"], Order, jsonb=("extra",))
    result = await run(bulk.write, [order(1), order(2, person="Bob")])
    assert (result.written, result.inserted, result.updated) == (2, None, None)
    assert people(shop) == [(name, "after") for name in ("before Ann", "before Bob", "Ann", "Bob")]


def test_a_long_input_is_never_held_as_a_whole(put_orders: BulkRows[Order], shop: psycopg.Connection) -> None:
    row = tuple(getattr(order(1), name) for name in Order.model_fields)
    tracemalloc.start()
    try:
        result = put_orders.write(shop, ((row[0], f"{n:01000}", *row[2:]) for n in range(20_000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (result.received, result.written) == (20_000, 1)
    assert peak < 5_000_000


def test_only_a_bulk_statement_takes_rows(statements: Statements) -> None:
    with pytest.raises(TypeError, match=r"shop.numbers is no bulk statement"):
        BulkRows(statements["shop.numbers"], Number)


@pytest.mark.parametrize(
    ("changes", "said", "column"),
    [
        ({"sku": "ab-1"}, "violates check constraint", 'column sku: "ab-1"'),
        ({"price": Decimal("-0.0001")}, "violates check constraint", 'column price: "-0.0001"'),
    ],
)
async def test_a_value_that_a_domain_refuses_is_named_with_its_row(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection, changes: dict[str, Any], said: str, column: str
) -> None:
    rows = [order(1), order(2), order(3, **changes), order(4)]
    with pytest.raises(psycopg.errors.CheckViolation, match=said) as caught:
        await run(put_orders.write, rows)
    assert caught.value.diag.context == f"COPY staged_orders, line 3, {column}"
    assert any("shop.put_orders" in note for note in caught.value.__notes__)
    assert stored(shop) == []
    assert (await run(put_orders.write, [order(1)])).written == 1, "the connection and its staging table go on"


async def test_a_repeated_row_is_not_asked_again_what_its_domains_say(
    run: Call, put_orders: BulkRows[Order], shop: psycopg.Connection
) -> None:
    await run(put_orders.write, [order(1)])
    types = """
        SELECT format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = %s::regclass AND attname IN ('sku', 'price') ORDER BY attname DESC
    """
    assert shop.execute(types, ["shop.orders"]).fetchall() == [("shop.sku",), ("shop.price",)]
    if shop.execute("SELECT to_regclass('pg_temp.staged_orders')").fetchone() != (None,):  # it is the other connection's else
        assert shop.execute(types, ["pg_temp.staged_orders"]).fetchall() == [("text",), ("numeric(9,4)",)]
