"""A statement's result as an Arrow table, and Arrow or CSV as rows of a bulk statement."""

import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import RawCursor, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime

from kalshidb.models.market_data import Candlestick
from kalshidb.queries import market_data
from kalshidb.typedsql import ParameterError, RowError, Rows, Statements

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.csv")

from kalshidb.typedsql import arrow  # noqa: E402
from kalshidb.typedsql.arrow import (  # noqa: E402
    COPY_OPTIONS,
    ArrowError,
    arrow_batches,
    arrow_batches_async,
    as_arrow,
    as_arrow_async,
    copy_text_from_arrow,
    is_arrow,
)

Load = Callable[[str], Statements]
Connection = psycopg.Connection[Any]
_modules = count()


class Anything(BaseModel):
    """What the statements here return; reading by column asks a model only which texts are words."""

    word: Literal["one", "two"] | None = None
    sku: Annotated[str, Field(pattern="^A")] | None = None


@pytest.fixture
def function(load: Load) -> Iterator[Callable[[str], Any]]:
    """Make the function of one statement, as generated code has it."""
    made: list[str] = []

    def make(text: str) -> Any:  # noqa: ANN401
        (statement,) = load(text)
        source = statement.source
        module = ModuleType(f"arrow_test_{next(_modules)}")
        given_ = "".join(f", {name}{'=None' if name in source.nullable_parameters else ''}" for name in source.parameters)
        vars(module).update({f"_{source.name}": Rows.of_model(statement, Anything), "Anything": Anything})
        star = ", *" if given_ else ""
        exec(f"def {source.name}(conn{star}{given_}) -> list[Anything]: ...", vars(module))  # noqa: S102
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        return getattr(module, source.name)

    yield make
    for name in made:
        del sys.modules[name]


def psycopgs(conn: Connection, function_: Any, *params: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """What psycopg itself makes of the statement."""
    statement = getattr(sys.modules[function_.__module__], f"_{function_.__name__}").statement
    return RawCursor(conn, row_factory=dict_row).execute(statement.sql.encode(), params).fetchall()


# -- types -----------------------------------------------------------------------------------------------------------------------------

TABLE = """
    CREATE TEMPORARY TABLE all_types (
        "position" int NOT NULL, flag bool, small int2, whole int4, big int8, single float4, double float8, exact numeric(18, 6),
        widest numeric(38, 10), wider numeric(60, 20), tiny numeric(3, 5), round numeric(3, -2), label text,
        short varchar(20), fixed char(3),
        day date, clock time, local timestamp, moment timestamptz, span interval, id uuid, raw bytea, state shop.status, price shop.price,
        words text[], amounts numeric(6, 2)[], moments timestamptz[], states shop.status[], prices shop.price[], flags bool[],
        ids uuid[], raws bytea[], spans interval[]
    )
"""

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", " ", "\\.", "\\N", "NULL", 'a "quoted" one', "two\nlines", "\r\n", "a,b", "é", "😀", '""', "{", "}"]
)
# psycopg, too, reads no moment that is before the year 1 or after 9999 somewhere.
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda whole: Decimal(f"{whole}E-{places}"))  # exact, whatever the context


def listed(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | values, max_size=4)


spans = st.timedeltas(timedelta(-20_000), timedelta(20_000))
COLUMNS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "flag": ("bool", st.booleans()),
    "small": ("int16", st.integers(-(2**15), 2**15 - 1)),
    "whole": ("int32", st.integers(-(2**31), 2**31 - 1)),
    "big": ("int64", st.integers(-(2**63), 2**63 - 1)),
    "single": ("float", st.floats(width=32, allow_nan=False)),
    "double": ("double", st.floats(allow_nan=False)),
    "exact": ("decimal128(18, 6)", decimals(18, 6)),
    "widest": ("decimal128(38, 10)", decimals(38, 10)),
    "wider": ("decimal256(60, 20)", decimals(60, 20)),
    "tiny": ("decimal128(5, 5)", decimals(3, 5)),
    "round": ("decimal128(5, 0)", st.integers(-999, 999).map(lambda whole: Decimal(whole * 100))),
    "label": ("string", texts),
    "short": ("string", texts),
    "fixed": ("string", st.sampled_from(["abc", "é,\n"])),
    "day": ("date32[day]", st.dates()),
    "clock": ("time64[us]", st.times()),
    "local": ("timestamp[us]", st.datetimes()),
    "moment": ("timestamp[us, tz=UTC]", moments),
    "span": ("duration[us]", spans),
    "id": ("string", st.uuids()),
    "raw": ("binary", st.binary(max_size=8)),
    "state": ("dictionary<values=string, indices=int32, ordered=0>", st.sampled_from(["open", "in progress", "2nd try"])),
    "price": ("decimal128(9, 4)", st.integers(0, 999_990_000).map(lambda whole: Decimal(f"{whole}E-4"))),
    "words": ("list<item: string>", listed(texts)),
    "amounts": ("list<item: decimal128(6, 2)>", listed(decimals(6, 2))),
    "moments": ("list<item: timestamp[us, tz=UTC]>", listed(moments)),
    "states": ("list<item: string>", listed(st.sampled_from(["open", "in progress"]))),
    "prices": ("list<item: decimal128(9, 4)>", listed(st.integers(0, 9_999).map(lambda whole: Decimal(f"{whole}E-4")))),
    "flags": ("list<item: bool>", listed(st.booleans())),
    "ids": ("list<item: string>", listed(st.uuids())),
    "raws": ("list<item: binary>", listed(st.binary(max_size=4))),
    "spans": ("list<item: duration[us]>", listed(spans)),
}
rows_of_all_types = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()}), min_size=1, max_size=6
)


def insert(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    conn.execute("DELETE FROM all_types")
    casts = {"states": "shop.status[]", "prices": "shop.price[]", "state": "shop.status"}
    names = list(COLUMNS)
    statement = sql.SQL("INSERT INTO all_types VALUES (%s, {})").format(
        sql.SQL(", ").join(sql.SQL("%s" + (f"::{casts[name]}" if name in casts else "")) for name in names)
    )
    with conn.cursor() as cursor:
        cursor.executemany(statement, [(at, *(row[name] for name in names)) for at, row in enumerate(rows)])


def plain(value: Any) -> Any:  # noqa: ANN401
    """A value as Arrow gives it back: ids are texts there, moments are in UTC."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC)
    return str(value) if isinstance(value, UUID) else value


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_every_value_is_what_psycopg_says(shop: Connection, function: Callable[[str], Any], zone: str) -> None:
    shop.execute(TABLE)
    shop.execute(sql.SQL("SET timezone = {}").format(zone))
    rows_function = function("-- name: everything()\nSELECT * FROM all_types ORDER BY position")
    assert {str(field.type) for field in as_arrow(rows_function, shop).schema}  # of no rows

    @given(rows=rows_of_all_types)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def values(rows: list[dict[str, Any]]) -> None:
        insert(shop, rows)
        table = as_arrow(rows_function, shop)
        assert {field.name: str(field.type) for field in table.schema if field.name != "position"} == {
            name: type_ for name, (type_, _) in COLUMNS.items()
        }
        expected = psycopgs(shop, rows_function)
        for each in expected:
            # psycopg reads a real of four bytes as one of eight.
            each["single"] = None if each["single"] is None else struct.unpack("f", struct.pack("f", each["single"]))[0]
            # Of types made in the database psycopg knows the text only.
            each["states"] = None if each["states"] is None else shop.execute("SELECT %s::text[]", [each["states"]]).fetchone()[0]
            each["prices"] = (
                None if each["prices"] is None else shop.execute("SELECT %s::numeric[]", [each["prices"]]).fetchone()[0]
            )
        assert table.to_pylist() == [{name: plain(value) for name, value in row.items()} for row in expected]

    values()


def test_an_empty_result_keeps_its_types(shop: Connection, function: Callable[[str], Any]) -> None:
    shop.execute(TABLE)
    table = as_arrow(function("-- name: nothing()\nSELECT * FROM all_types"), shop)
    assert table.num_rows == 0
    assert table.column_names == ["position", *COLUMNS]
    assert str(table.schema.field("prices").type) == "list<item: decimal128(9, 4)>"


def test_null_and_the_empty_text_are_two_things_also_in_a_row_of_one_column(
    shop: Connection, function: Callable[[str], Any]
) -> None:
    found = as_arrow(function("-- name: texts()\nSELECT * FROM (VALUES (NULL), (''), ('x'), (NULL)) AS t (a)"), shop)
    assert found.column("a").to_pylist() == [None, "", "x", None]


def test_words_and_patterns_of_the_model_become_dictionaries_and_other_texts_do_not(
    shop: Connection, function: Callable[[str], Any]
) -> None:
    table = as_arrow(function("-- name: words()\nSELECT 'one' AS word, 'A-1' AS sku, 'free' AS free"), shop)
    assert [pa.types.is_dictionary(field.type) for field in table.schema] == [True, True, False]


def test_what_has_no_type_in_arrow_is_text_as_the_server_writes_it(shop: Connection, function: Callable[[str], Any]) -> None:
    table = as_arrow(
        function("""
            -- name: others()
            SELECT '{"a": 1.10}'::jsonb AS extra, '[1,5)'::int4range AS range, ROW(1, 'x') AS pair, '10.0.0.1'::inet AS address
        """),
        shop,
    )
    assert table.to_pylist() == [{"extra": '{"a": 1.10}', "range": "[1,5)", "pair": "(1,x)", "address": "10.0.0.1"}]


def test_a_numeric_without_precision_is_refused_with_what_to_do(shop: Connection, function: Callable[[str], Any]) -> None:
    with pytest.raises(
        ArrowError, match=r"test\.sql:1: shop\.mean: column mean is numeric without precision.*mean::numeric\(18, 6\)"
    ):
        as_arrow(function("-- name: mean()\nSELECT avg(1.5) AS mean"), shop)
    assert shop.info.transaction_status is TransactionStatus.IDLE


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'infinity'::timestamptz", "column x: 'infinity' is no timestamp"),
        ("'NaN'::numeric(5, 2)", "column x: 'NaN' is no decimal128"),
        ("'0044-03-15 BC'::date", "column x: '0044-03-15 BC' is no date32"),
        ("ARRAY[[1, 2], [3, 4]]", r"column x: '\{\{1,2\},\{3,4\}\}' is no list<"),
    ],
)
def test_a_value_that_arrow_lacks_is_an_error_that_names_the_column(
    shop: Connection, function: Callable[[str], Any], value: str, message: str
) -> None:
    with pytest.raises(RowError, match=message):
        as_arrow(function(f"-- name: odd()\nSELECT 1 AS one, {value} AS x"), shop)
    assert shop.execute("SELECT 1").fetchone() == (1,)


def test_zones_of_old_with_offsets_of_seconds_are_read_right(shop: Connection, function: Callable[[str], Any]) -> None:
    table = as_arrow(
        function("""
            -- name: noon()
            SELECT '1800-06-01 12:00Z'::timestamptz AS x, ARRAY['1800-06-01 12:00Z'::timestamptz] AS xs
        """),
        shop,
    )
    assert table.to_pylist() == [{"x": datetime(1800, 6, 1, 12, tzinfo=UTC), "xs": [datetime(1800, 6, 1, 12, tzinfo=UTC)]}]


def test_the_sessions_zone_still_decides_what_the_statement_means(shop: Connection, function: Callable[[str], Any]) -> None:
    days = function("-- name: days(moment)\nSELECT date_trunc('day', :moment::timestamptz) AS midnight")
    noon = datetime(2025, 7, 1, 2, tzinfo=UTC)
    assert as_arrow(days, shop, moment=noon).to_pylist() == [
        {"midnight": datetime(2025, 6, 30, tzinfo=ZoneInfo("America/New_York"))}
    ]


@pytest.mark.parametrize("setting", ["DateStyle TO 'SQL, DMY'", "IntervalStyle TO iso_8601"])
def test_other_ways_to_write_times_are_refused(shop: Connection, function: Callable[[str], Any], setting: str) -> None:
    shop.execute(f"SET {setting}")
    with pytest.raises(ArrowError, match=setting.split(maxsplit=1)[0]):
        as_arrow(function("-- name: today()\nSELECT current_date AS a, '1 day'::interval AS b"), shop)


def test_bytea_is_read_in_both_of_its_forms(shop: Connection, function: Callable[[str], Any]) -> None:
    shop.execute("SET bytea_output = escape")
    table = as_arrow(function("-- name: raw()\nSELECT '\\x00ff5c41'::bytea AS raw"), shop)
    assert table.column("raw").to_pylist() == [b"\x00\xff\\A"]


def test_text_comes_right_whatever_the_clients_encoding(shop: Connection, function: Callable[[str], Any]) -> None:
    shop.execute("SET client_encoding = latin1")
    assert as_arrow(function("-- name: text(a)\nSELECT :a::text AS a"), shop, a="é").to_pylist() == [{"a": "é"}]


def test_a_row_may_be_longer_than_a_block(
    shop: Connection, function: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "_BLOCK_BYTES", 64)
    found = as_arrow(function("-- name: long()\nSELECT repeat('x', n * 1000) AS a FROM generate_series(0, 9) AS n"), shop)
    assert [len(text) for text in found.column("a").to_pylist()] == [n * 1000 for n in range(10)]


# -- parameters ------------------------------------------------------------------------------------------------------------------------

PARAMETERS: list[tuple[str, Any]] = [
    ("bool", True), ("int2", -32768), ("int4", -5), ("int8", -(2**63)), ("float8", -1.5e300), ("numeric(20, 5)", Decimal("-1.50000")),
    ("text", ""), ("text", "'; DROP TABLE shop.orders; --"), ("text", "\\'; SELECT 1; --"), ("text", "$1 :a %s %% /* */ -- é\n"),
    ("varchar", "abc"), ("bpchar", "abc"), ("bytea", b"\x00'\\"), ("date", date(2025, 1, 2)), ("time", time(1, 2, 3, 4)),
    ("timestamptz", datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=ZoneInfo("Asia/Kathmandu"))), ("interval", timedelta(-3, 4, 5)),
    ("uuid", uuid4()), ("shop.status", "in progress"), ("shop.sku", "AB-1"), ("text[]", ["a'b", 'c"d', "", "NULL", "{}"]),
    ("int4[]", []), ("timestamptz[]", [datetime(2025, 1, 2, tzinfo=UTC)]), ("numeric(6, 2)[]", [Decimal("1.50")]),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "value"), PARAMETERS)
def test_a_parameter_means_what_it_means_to_the_function(
    shop: Connection, function: Callable[[str], Any], type_: str, value: object
) -> None:
    echo = function(f"-- name: echo(a)\nSELECT :a::{type_} AS a, '$1' AS text, :a::{type_} IS NULL AS is_null")
    expected = [{name: plain(each) for name, each in row.items()} for row in psycopgs(shop, echo, value)]
    assert as_arrow(echo, shop, a=value).to_pylist() == expected
    assert expected[0]["is_null"] is False


@given(text=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_breaks_out_of_its_quotes(shop: Connection, function: Callable[[str], Any], text: str) -> None:
    for quoting in ("on", "off"):
        shop.execute(f"SET standard_conforming_strings = {quoting}")
        assert as_arrow(function("-- name: echo(a)\nSELECT :a::text AS a"), shop, a=text).to_pylist() == [{"a": text}]


def test_many_parameters_in_any_order_and_json(shop: Connection, function: Callable[[str], Any]) -> None:
    found = function("""
        -- name: found(a, b, c, d, e, f, g, h, i, j, k)
        -- @param k nullable: it may
        SELECT :k::text AS k, :j + 1 AS j, :a::jsonb AS a, :b::int4 AS b, coalesce(:c, :d, :e, :f, :g, :h, :i, 'x') AS rest
    """)
    given_ = {name: name for name in "cdefghi"}
    table = as_arrow(found, shop, a={"x": Decimal("1.10"), "y": "it's"}, b=-7, j=1, **given_)
    assert table.to_pylist() == [{"k": None, "j": 2, "a": '{"x": 1.10, "y": "it\'s"}', "b": -7, "rest": "c"}]


def test_parameters_are_checked_as_the_function_checks_them(shop: Connection, function: Callable[[str], Any]) -> None:
    echo = function("-- name: echo(a)\nSELECT :a::timestamptz AS a")
    with pytest.raises(ParameterError, match="no time zone"):
        as_arrow(echo, shop, a=datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(ParameterError, match="takes no null"):
        as_arrow(echo, shop, a=None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'b'"):
        as_arrow(echo, shop, a=BEGIN, b=1)
    with pytest.raises(TypeError, match="missing a required"):
        as_arrow(echo, shop)


def test_only_functions_of_many_rows_can_be_read(pg: Connection) -> None:
    with pytest.raises(TypeError, match="promises optional"):
        as_arrow(market_data.latest_snapshot, pg, market_ticker="A")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no generated function"):
        as_arrow(market_data.upsert_candlesticks, pg)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no generated function"):
        as_arrow(sorted, pg)  # type: ignore[arg-type]


# -- errors and transactions -----------------------------------------------------------------------------------------------------------


def failing(function: Callable[[str], Any]) -> Any:  # noqa: ANN401
    return function("-- name: failing(n)\nSELECT 1 / (:n - g) AS a, repeat('x', 1000) AS b FROM generate_series(1, 50000) AS g")


def test_a_database_error_keeps_its_state_and_names_the_statement(shop: Connection, function: Callable[[str], Any]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero) as error:
        as_arrow(failing(function), shop, n=40_000)
    assert error.value.__notes__ == ["queries/shop/test.sql:1: shop.failing"]
    with pytest.raises(psycopg.errors.UndefinedTable) as error_:
        as_arrow(function("-- name: none()\nSELECT * FROM nowhere"), shop)
    assert error_.value.__notes__ == ["queries/shop/test.sql:1: shop.none"]
    assert shop.execute("SELECT 1").fetchone() == (1,)


def test_an_error_leaves_what_the_caller_did_before(shop: Connection, function: Callable[[str], Any]) -> None:
    with shop.transaction():
        shop.execute("INSERT INTO shop.people (name) VALUES ('Ada')")
        with pytest.raises(psycopg.errors.DivisionByZero):
            as_arrow(failing(function), shop, n=40_000)
        assert shop.execute("SELECT name FROM shop.people").fetchall() == [("Ada",)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_who_stops_early_has_a_usable_connection(shop: Connection, function: Callable[[str], Any], autocommit: bool) -> None:
    shop.autocommit = autocommit
    batches = arrow_batches(failing(function), shop, n=60_000)
    with closing(batches):  # type: ignore[type-var]
        assert next(batches).num_rows > 1_000
    assert shop.execute("SELECT 1").fetchone() == (1,)


def test_without_autocommit_the_caller_commits(shop: Connection, function: Callable[[str], Any]) -> None:
    shop.autocommit = False
    added = function("-- name: added(name)\nINSERT INTO shop.people (name) VALUES (:name) RETURNING name")
    assert as_arrow(added, shop, name="Ada").to_pylist() == [{"name": "Ada"}]
    assert shop.info.transaction_status is TransactionStatus.INTRANS
    shop.rollback()
    assert shop.execute("SELECT FROM shop.people").fetchall() == []


async def test_the_same_over_an_asynchronous_connection(
    ashop: psycopg.AsyncConnection[Any], function: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "_BLOCK_BYTES", 1_000)
    numbers = function("-- name: numbers(n)\nSELECT g AS a, now() AS b FROM generate_series(1, :n) AS g")
    assert (await as_arrow_async(numbers, ashop, n=1_000)).column("a").to_pylist() == list(range(1, 1_001))
    batches = [batch async for batch in arrow_batches_async(numbers, ashop, n=1_000)]
    assert len(batches) > 10
    assert sum(batch.num_rows for batch in batches) == 1_000
    assert (await as_arrow_async(numbers, ashop, n=0)).num_rows == 0
    monkeypatch.undo()
    with pytest.raises(psycopg.errors.DivisionByZero) as error:
        await as_arrow_async(failing(function), ashop, n=40_000)
    assert error.value.__notes__ == ["queries/shop/test.sql:1: shop.failing"]
    stopped = arrow_batches_async(failing(function), ashop, n=60_000)
    async for _ in stopped:
        break
    await stopped.aclose()  # type: ignore[attr-defined]
    assert await (await ashop.execute("SELECT 1")).fetchone() == (1,)


def test_a_large_result_streams_in_flat_memory(shop: Connection, function: Callable[[str], Any]) -> None:
    wide = function("-- name: wide(n)\nSELECT g AS a, repeat('x', 400) AS b FROM generate_series(1, :n) AS g")
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in arrow_batches(wide, shop, n=500_000):  # 200 MB
        rows += batch.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 500_000
    assert most < 60 << 20


# -- the project's own statements ------------------------------------------------------------------------------------------------------

BEGIN = datetime(2025, 3, 30, tzinfo=UTC)


def candles(number: int) -> list[Candlestick]:
    return [
        Candlestick(
            market_ticker=f"KXHIGHNY-25APR10-B{at % 3}",
            end_period_ts=BEGIN + timedelta(minutes=at),
            period_interval_minutes=1,
            yes_bid_open=Decimal("0.430000"),
            volume=Decimal("17.50") if at % 2 else None,
            retrieved_at=BEGIN + timedelta(days=2, microseconds=at),
            raw_json={"a": [1, 'é,\n"']} if at % 5 == 0 else None,
        )
        for at in range(number)
    ]


WINDOW: dict[str, Any] = {"period_interval_minutes": 1, "start_ts": BEGIN, "end_ts": BEGIN + timedelta(days=1)}


def test_candlesticks_have_exact_prices_moments_in_utc_and_tickers_as_dictionary(pg: Connection) -> None:
    market_data.upsert_candlesticks(pg, candles(100))
    pg.execute("SET timezone TO 'America/New_York'")
    table = as_arrow(market_data.candlesticks_in_window, pg, **WINDOW)
    types = {field.name: str(field.type) for field in table.schema}
    assert list(types) == list(Candlestick.model_fields)
    assert types["yes_bid_open"] == "decimal128(7, 6)"
    assert types["volume"] == "decimal128(18, 2)"
    assert types["end_period_ts"] == types["retrieved_at"] == "timestamp[us, tz=UTC]"
    assert types["market_ticker"] == "dictionary<values=string, indices=int32, ordered=0>"
    rows = [row.model_dump() for row in market_data.candlesticks_in_window(pg, **WINDOW)]
    assert [{**row, "raw_json": None} for row in table.to_pylist()] == [{**row, "raw_json": None} for row in rows]


def test_the_examples_of_the_documentation_run(pg: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "arrow.md").read_text(encoding="utf-8")
    first, parquet, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    market_data.upsert_candlesticks(pg, [candle.model_copy(update={"period_interval_minutes": 60}) for candle in candles(100)])
    pg.commit()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kalshidb.postgres.connect", lambda: psycopg.connect(pg.info.dsn))
    names: dict[str, Any] = {}
    exec(first + parquet, names)  # noqa: S102
    assert names["table"].num_rows == 100
    read = pytest.importorskip("pyarrow.parquet").read_table("march.parquet")
    assert read.column("yes_bid_open").type == pa.decimal128(7, 6)
    assert read.to_pylist() == names["table"].to_pylist()


def test_a_wrong_keyword_is_a_type_error(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from datetime import datetime\n"
        "from typing import Any\n"
        "from psycopg import AsyncConnection, Connection\n"
        "from kalshidb.queries import market_data\n"
        "from kalshidb.typedsql.arrow import arrow_batches_async, as_arrow\n"
        "def read(conn: Connection[Any], other: AsyncConnection[Any], t: datetime) -> None:\n"
        "    as_arrow(market_data.candlesticks_in_window, conn, period_interval_minutes=1, start_ts=t, end_ts=t)\n"
        "    as_arrow(market_data.orphan_trades, conn)\n"
        "    arrow_batches_async(market_data.trades_in_window, other, start_time=t, end_time=t)\n"
        "    as_arrow(market_data.candlesticks_in_window, conn, period_interval_minutes=1, start_ts=t, end=t)\n"
        "    as_arrow(market_data.candlesticks_in_window, conn, period_interval_minutes='1', start_ts=t, end_ts=t)\n"
        "    as_arrow(market_data.candlesticks_in_window, conn, period_interval_minutes=1)\n"
        "    as_arrow(market_data.latest_snapshot, conn, market_ticker='A')\n"
        "    as_arrow(market_data.orphan_trades, other)\n"
    )
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nplugins = pydantic.mypy\nfollow_imports = silent\n")
    source = Path(arrow.__file__).parents[2]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(program)],
        cwd=tmp_path, env={"MYPYPATH": str(source), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wrong = [line.split(":")[1] for line in checked.stdout.splitlines() if line.startswith("program.py") and "error" in line]
    assert wrong == ["10", "11", "12", "13", "14"], checked.stdout + checked.stderr


# -- writing ---------------------------------------------------------------------------------------------------------------------------


class Taken(BaseModel):
    """Rows of a bulk statement of every kind."""

    name: str
    flag: bool | None = None
    whole: int | None = None
    double: float | None = None
    exact: Annotated[Decimal, Field(max_digits=18, decimal_places=6)] | None = None
    day: date | None = None
    clock: time | None = None
    local: NaiveDatetime | None = None
    moment: AwareDatetime | None = None
    span: timedelta | None = None
    id: UUID | None = None
    raw: bytes | None = None
    extra: Any | None = None
    words: list[str] | None = None
    amounts: list[Annotated[Decimal, Field(max_digits=8, decimal_places=2)]] | None = None
    moments: list[AwareDatetime] | None = None
    raws: list[bytes] | None = None
    spans: list[timedelta] | None = None


TAKEN = {
    "name": (pa.string(), texts), "flag": (pa.bool_(), st.booleans()), "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "double": (pa.float64(), st.floats(allow_nan=False)), "exact": (pa.decimal128(18, 6), decimals(18, 6)),
    "day": (pa.date32(), st.dates()), "clock": (pa.time64("us"), st.times()), "local": (pa.timestamp("us"), st.datetimes()),
    "moment": (pa.timestamp("us", "UTC"), moments), "span": (pa.duration("us"), spans), "id": (pa.binary(16), st.uuids()),
    "raw": (pa.binary(), st.binary(max_size=8)), "extra": (pa.string(), st.sampled_from(['{"a": 1}', "null", '"é,\\n"'])),
    "words": (pa.list_(pa.string()), listed(texts)), "amounts": (pa.list_(pa.decimal128(8, 2)), listed(decimals(8, 2))),
    "moments": (pa.large_list(pa.timestamp("us", "Asia/Tokyo")), listed(moments)),
    "raws": (pa.list_(pa.binary()), listed(st.binary(max_size=4))), "spans": (pa.list_(pa.duration("us")), listed(spans)),
}  # fmt: skip


def copied(conn: Connection, chunks: Iterator[tuple[int, bytes]]) -> list[dict[str, Any]]:
    conn.execute("DELETE FROM taken")
    with conn.cursor().copy(f"COPY taken FROM STDIN {COPY_OPTIONS}") as copy:  # type: ignore[arg-type]
        for _, text in chunks:
            copy.write(text)
    return conn.cursor(row_factory=dict_row).execute("SELECT * FROM taken").fetchall()


@pytest.fixture
def taken(shop: Connection) -> Connection:
    shop.execute("""
        CREATE TEMPORARY TABLE taken (
            name text, flag bool, whole int8, "double" float8, exact numeric(18, 6), day date, clock time, local timestamp,
            moment timestamptz, span interval, id uuid, raw bytea, extra jsonb, words text[], amounts numeric(8, 2)[],
            moments timestamptz[], raws bytea[], spans interval[]
        )
    """)
    return shop


def test_every_value_of_arrow_reaches_the_table(taken: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_ROWS_A_WRITE", 2)

    @given(
        rows=st.lists(
            st.fixed_dictionaries(
                {name: values if name == "name" else st.none() | values for name, (_, values) in TAKEN.items()}
            ),
            min_size=1,
            max_size=5,
        )
    )
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def values(rows: list[dict[str, Any]]) -> None:
        columns = {
            name: pa.array([row[name].bytes if isinstance(row[name], UUID) else row[name] for row in rows], type_)
            for name, (type_, _) in reversed(TAKEN.items())  # any order
        }
        found = copied(taken, copy_text_from_arrow(pa.table(columns), Taken))
        extras = [row.pop("extra") for row in found]
        assert [extra is None for extra in extras] == [row["extra"] in (None, "null") for row in rows]
        assert found == [{name: value for name, value in row.items() if name != "extra"} for row in rows]

    values()


def test_what_was_read_by_column_can_be_written_again(pg: Connection, database_url: str) -> None:
    market_data.upsert_candlesticks(pg, candles(100))
    table = as_arrow(market_data.candlesticks_in_window, pg, **WINDOW)
    pg.execute("CREATE TEMPORARY TABLE again AS SELECT * FROM market_data.candlesticks WITH NO DATA")
    with pg.cursor().copy(f"COPY again FROM STDIN {COPY_OPTIONS}") as copy:  # type: ignore[arg-type]
        for _, text in copy_text_from_arrow(table, Candlestick):
            copy.write(text)
    assert pg.execute("TABLE again EXCEPT ALL TABLE market_data.candlesticks").fetchall() == []
    assert pg.execute("SELECT count(*) FROM again").fetchone() == (100,)


def test_columns_that_may_be_null_may_be_missing_and_texts_may_be_dictionaries(taken: Connection) -> None:
    rows = pa.record_batch({"name": pa.array(["a", "", "a"]).dictionary_encode(), "whole": pa.nulls(3)})
    assert is_arrow(rows)
    assert not is_arrow([("a",)])
    found = copied(taken, copy_text_from_arrow(rows, Taken))
    assert [row["name"] for row in found] == ["a", "", "a"]
    assert {row["whole"] for row in found} == {None}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"whole": pa.array([1])}, "column name is missing and takes no null"),
        ({"name": pa.array(["a"]), "nam": pa.array(["a"])}, "there is no column nam; there are name, flag"),
        ({"name": pa.array([1])}, "column name is int64, not string"),
        ({"name": pa.array(["a"]), "exact": pa.array([1.5])}, "column exact is double, not a decimal; a float is not exact"),
        ({"name": pa.array(["a"]), "whole": pa.array([1.0])}, "column whole is double, not an integer"),
        (
            {"name": pa.array(["a"]), "moment": pa.array([BEGIN.replace(tzinfo=None)])},
            r"column moment is timestamp\[us\], not timestamp with",
        ),
        (
            {"name": pa.array(["a"]), "local": pa.array([BEGIN])},
            r"column local is timestamp\[us, tz=UTC\], not timestamp without",
        ),
        ({"name": pa.array(["a"]), "extra": pa.array([{"a": 1}])}, r"column extra is struct<a: int64>, not string"),
        ({"name": pa.array(["a"]), "words": pa.array(["a"])}, r"column words is string, not a list"),
        ({"name": pa.array(["a"]), "words": pa.array([[1]])}, r"column words is int64, not string"),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_both_types(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        list(copy_text_from_arrow(pa.table(columns), Taken))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": pa.array(["a", None])}, "row 2: name is null"),
        ({"name": pa.array(["a"]), "exact": pa.array([Decimal("0.1234567")])}, "exact, rows 1 to 1: .*data loss"),
        ({"name": pa.array(["a"]), "moment": pa.array([1], pa.timestamp("ns", "UTC"))}, "moment, rows 1 to 1: .*lose data"),
    ],
)
def test_values_that_would_lose_something_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(copy_text_from_arrow(pa.table(columns), Taken))


def test_without_pyarrow_the_error_says_what_to_install(pg: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"kalshidb\[arrow\]"):
        as_arrow(market_data.orphan_trades, pg)
