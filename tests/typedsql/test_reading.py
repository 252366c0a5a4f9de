"""Rows become models as Pydantic would make them, whichever way they are read; and a cursor that is used again reads as a new one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
import pytest
from psycopg import pq
from psycopg.adapt import Dumper, Loader
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NaiveDatetime, ValidationError

from kalshidb.typedsql import RowError, Rows, Statements
from kalshidb.typedsql.reading import row_builder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ZONELESS = datetime(2026, 1, 1, 12)  # noqa: DTZ001

Load = Callable[[str], Statements]


class Everything(BaseModel):
    """A field of each kind that is read without Pydantic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticker: Annotated[str, Field(pattern=r"^\S{1,5}$")]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\w+$")] | None = None
    short: Annotated[str, Field(min_length=1, max_length=3)] | None = None
    side: Literal["yes", "no"] | None = None
    price: Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)] | None = None
    share: Annotated[float, Field(gt=0, lt=1.5)] | None = None
    count: Annotated[int, Field(gt=0, lt=100)] | None = None
    seen: AwareDatetime | None = None
    local: NaiveDatetime | None = None
    day: date | None = None
    hour: time | None = None
    span: timedelta | None = None
    flag: bool | None = None
    blob: bytes | None = None
    uuid: UUID | None = None
    class_: int = Field(default=1, alias="class")
    anything: Any | None = None


VALUES: dict[str, list[object]] = {
    "ticker": ["A", "ÄÖ", "", "A B", "A\n", "ABCDEF", None, 1],
    "code": [None, "AB-x", "AB-x\n", "AB-²", "ab-x", "AB-"],
    "short": [None, "", "abc", "abcd"],
    "side": [None, "yes", "maybe", ["yes"], 1],
    "price": [None, *map(Decimal, ("0", "1", "1.000001", "-0.1", "NaN", "Infinity")), 0.5, "0.5"],
    "share": [None, 0.0, 0.1, 1.5, float("nan"), float("inf"), 1],
    "count": [None, 0, 1, 99, 100, True, 1.0],
    "seen": [None, NOON, ZONELESS, NOON.date(), "2026-01-01T00:00Z"],
    "local": [None, NOON, ZONELESS],
    "day": [None, NOON.date(), NOON, "2026-01-01"],
    "hour": [None, time(12), time(12, tzinfo=UTC)],
    "span": [None, timedelta(days=1), 5],
    "flag": [None, True, 1, "t"],
    "blob": [None, b"x", "x"],
    "uuid": [None, UUID(int=1), str(UUID(int=1))],
    "class": [1, None],
    "anything": [None, {"a": [1]}, NOON],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in VALUES.items() for value in values])
def test_a_row_is_built_only_as_pydantic_would_build_it(column: str, value: object) -> None:
    build = row_builder(Everything)
    assert build is not None
    row: dict[str, Any] = {name: values[0] for name, values in VALUES.items()} | {column: value}
    try:
        built = build(list(row.values()))
    except Exception:
        made = valid(row)
        assert made is None or (made[column], type(made[column])) != (value, type(value))
    else:
        assert built == Everything.model_validate(row)
        assert built.model_fields_set == set(Everything.model_fields)
        assert built.model_copy(update={"count": 2}).count == 2


def valid(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return what Pydantic makes of a row, None when it refuses it."""
    try:
        return Everything.model_validate(row).model_dump(by_alias=True)
    except ValidationError:
        return None


class Price(BaseModel):
    """One decimal with a limit of digits."""

    p: Annotated[Decimal, Field(max_digits=4, decimal_places=2)]


@pytest.mark.parametrize(
    ("sql", "fits"),
    [
        ("12.34::numeric(4, 2)", True),
        ("12.3::numeric(3, 1)", True),
        ("12.34::numeric(9, 3)", True),  # here its digits are counted
        ("12.345::numeric(9, 3)", False),
        ("123.4::numeric(4, 1)", False),
        ("12.345", False),
        ("12.34", True),
    ],
)
def test_digits_are_counted_where_the_server_does_not_vouch_for_them(
    load: Load, shop: psycopg.Connection, sql: str, fits: bool
) -> None:
    prices = Rows.of_model(load(f"-- name: price()^\n-- @one\nSELECT {sql} AS p;")["shop.price"], Price)
    for _ in range(2):
        if fits:
            assert prices.one(shop, ()).p == Decimal("12.34") or sql.startswith("12.3::")
        else:
            with pytest.raises(RowError, match="column p"):
                prices.one(shop, ())


# -- cursors that are used again ---------------------------------------------------------------------------------------------------


class Moment(BaseModel):
    """A time, and what was given."""

    at: AwareDatetime
    word: str


@pytest.fixture
def moments(load: Load) -> Rows[Moment]:
    statements = load("-- name: moment(at, word)^\n-- @one\nSELECT :at::timestamptz AS at, :word::text AS word;")
    return Rows.of_model(statements["shop.moment"], Moment)


def test_a_changed_time_zone_shows_in_the_next_row(moments: Rows[Moment], shop: psycopg.Connection) -> None:
    offsets = []
    for zone in ("UTC", "Asia/Tokyo", "America/New_York", "UTC"):
        shop.execute(f"SET TIME ZONE '{zone}'")
        offsets += [moments.one(shop, (NOON, "x")).at.utcoffset() for _ in range(3)]
    hours = [offset.total_seconds() / 3600 for offset in offsets if offset is not None]
    assert hours == [0] * 3 + [9] * 3 + [-5] * 3 + [0] * 3


class Shouting(Loader):
    """Reads text loudly."""

    def load(self, data: Any) -> str:  # noqa: ANN401
        return bytes(data).decode().upper()


class Doubling(Dumper):
    """Writes text twice."""

    def dump(self, obj: str) -> bytes:
        return (obj * 2).encode()


async def test_what_is_registered_on_a_connection_counts_from_then_on(
    moments: Rows[Moment], shop: psycopg.Connection, ashop: psycopg.AsyncConnection
) -> None:
    for _ in range(2):
        assert moments.one(shop, (NOON, "x")).word == (await moments.one(ashop, (NOON, "x"))).word == "x"
    shop.adapters.register_loader("text", Shouting)
    ashop.adapters.register_dumper(str, Doubling)
    for _ in range(2):
        assert moments.one(shop, (NOON, "x")).word == "X"
        assert (await moments.one(ashop, (NOON, "x"))).word == "xx"
    shop.adapters.register_dumper(str, Doubling)
    assert moments.one(shop, (NOON, "x")).word == "XX"


def test_a_table_that_changed_is_read_as_it_is_now(load: Load, shop: psycopg.Connection) -> None:
    class Person(BaseModel):
        name: str
        nickname: Any = None

    people = Rows.of_model(load("-- name: person()^\nSELECT * FROM shop.people;")["shop.person"], Person)
    shop.prepare_threshold = None  # else the server itself refuses, once
    assert people.optional(shop, ()) is None
    shop.execute("INSERT INTO shop.people (name, nickname) VALUES ('Ann', '5')")
    assert people.optional(shop, ()) == Person(name="Ann", nickname="5")
    shop.execute("ALTER TABLE shop.people ALTER COLUMN nickname TYPE integer USING nickname::integer")
    assert people.optional(shop, ()) == Person(name="Ann", nickname=5)
    shop.execute("ALTER TABLE shop.people RENAME nickname TO alias")
    assert people.optional(shop, ()) == Person(name="Ann")


def test_threads_share_a_connection_and_get_their_own_rows(moments: Rows[Moment], shop: psycopg.Connection) -> None:
    start = threading.Barrier(4)

    def ask(thread: int) -> list[str]:
        start.wait(10)
        return [moments.one(shop, (NOON, f"{thread} {turn}")).word for turn in range(100)]

    with ThreadPoolExecutor(4) as pool:
        for thread, words in enumerate(pool.map(ask, range(4))):
            assert words == [f"{thread} {turn}" for turn in range(100)]


def test_within_a_pipeline_rows_come_as_ever(moments: Rows[Moment], shop: psycopg.Connection) -> None:
    if not psycopg.Pipeline.is_supported():
        pytest.skip("this libpq knows no pipelines")
    assert moments.one(shop, (NOON, "before")).word == "before"
    with shop.pipeline():
        assert [moments.one(shop, (NOON, word)).word for word in ("a", "b")] == ["a", "b"]
    assert moments.one(shop, (NOON, "after")).word == "after"


def test_a_failed_statement_leaves_nothing_behind_for_the_next(load: Load, shop: psycopg.Connection) -> None:
    quotients = Rows.of_value(load("-- name: divide(by)$\nSELECT 6 / :by::int;")["shop.divide"])
    for _ in range(2):
        assert quotients.one(shop, (2,)) == 3
        with pytest.raises(psycopg.errors.DivisionByZero):
            quotients.one(shop, (0,))
    assert shop.info.transaction_status is pq.TransactionStatus.IDLE


@pytest.fixture
def lists(load: Load) -> Rows[Any]:
    return Rows.of_value(load("-- name: joined(words)$\nSELECT array_to_string(:words::text[], ',');")["shop.joined"])


def test_what_is_in_a_list_is_written_as_it_is_registered_now(lists: Rows[Any], shop: psycopg.Connection) -> None:
    assert [lists.one(shop, (["a"],)) for _ in range(2)] == ["a", "a"]
    shop.adapters.register_dumper(str, Doubling)
    assert lists.one(shop, (["a"],)) == "aa"
