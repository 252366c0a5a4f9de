"""The ways into a bulk statement: models, tuples, CSV and Arrow end in the same rows; keys known to be new, and keys that occur twice."""

# ruff: noqa: ANN401  (a form may be anything that a bulk function takes)

import csv
import io
import multiprocessing
import random
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sample_rows import HOUR, NOON, candle, rows_of

from kalshidb.models.market_data import Candlestick
from kalshidb.queries import catalog, market_data
from kalshidb.typedsql import BulkResult, DuplicateRowError, ParameterError

CANDLES = [
    candle(end=NOON + HOUR * at, volume=Decimal(at), yes_bid_open=None if at % 3 else Decimal("0.1050")) for at in range(30)
]
TABLE, KEY = "market_data.candlesticks", "end_period_ts"


def as_csv(rows: list[Candlestick], columns: list[str] | None = None) -> bytes:
    names = columns or list(Candlestick.model_fields)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([["" if (value := getattr(row, name)) is None else value for name in names] for row in rows])
    return text.getvalue().encode()


def as_arrow(rows: list[Candlestick]) -> Any:
    pa = pytest.importorskip("pyarrow")
    table = pa.Table.from_pylist([row.model_dump(exclude={"raw_json"}) for row in rows])
    return table.cast(
        pa.schema([field.with_type(pa.decimal128(18, 6)) if pa.types.is_decimal(field.type) else field for field in table.schema])
    )


def as_is(rows: list[Candlestick]) -> list[Candlestick]:
    return rows


def as_tuples(rows: list[Candlestick]) -> list[tuple[Any, ...]]:
    return [tuple(getattr(row, name) for name in Candlestick.model_fields) for row in rows]


def as_a_generator(rows: list[Candlestick]) -> Iterator[Candlestick]:
    yield from rows


FORMS = [as_is, as_tuples, as_a_generator, as_csv, as_arrow]


@pytest.mark.parametrize("known_new", [False, True])
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_ends_in_the_same_rows_sync_and_async(
    pg: psycopg.Connection,
    apg: psycopg.AsyncConnection,
    form: Any,
    known_new: bool,
) -> None:
    market_data.upsert_candlesticks(pg, CANDLES)
    expected = rows_of(pg, TABLE, KEY)
    pg.execute("TRUNCATE market_data.candlesticks")
    assert market_data.upsert_candlesticks(pg, form(CANDLES), known_new=known_new) == BulkResult(30, 30)
    assert rows_of(pg, TABLE, KEY) == expected
    pg.execute("TRUNCATE market_data.candlesticks")
    pg.commit()
    assert await market_data.upsert_candlesticks(apg, form(CANDLES), known_new=known_new) == BulkResult(30, 30)
    await apg.commit()
    assert rows_of(pg, TABLE, KEY) == expected


def test_csv_is_found_by_the_names_of_its_columns(pg: psycopg.Connection) -> None:
    columns = ["retrieved_at", "volume", "end_period_ts", "period_interval_minutes", "market_ticker"]
    text = b"\xef\xbb\xbf" + as_csv(CANDLES[:2], columns)
    assert market_data.upsert_candlesticks(pg, text).written == 2
    assert pg.execute("SELECT volume, yes_bid_open FROM market_data.candlesticks ORDER BY 1").fetchall() == [
        (Decimal(0), None), (Decimal(1), None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("market_ticker,end_period_ts", "no column 'period_interval_minutes'"),
        ("market_ticker,end_period_ts,period_interval_minutes,retrieved_at,volum", "unknown column 'volum'"),
        ("market_ticker,market_ticker,end_period_ts,period_interval_minutes,retrieved_at", "a column occurs twice"),
        ("", "no column"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_before_anything_is_sent(pg: psycopg.Connection, header: str, problem: str) -> None:
    with pytest.raises(
        ParameterError, match=f"candlesticks.sql:3: market_data.upsert_candlesticks: header line of the CSV: {problem}"
    ):
        market_data.upsert_candlesticks(pg, header.encode())
    pg.execute("SELECT 1")


# -- keys believed to be new ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_keys_that_turn_out_to_be_stored_go_the_usual_way(pg: psycopg.Connection, form: Any) -> None:
    market_data.upsert_candlesticks(pg, CANDLES[:10])
    assert market_data.upsert_candlesticks(pg, form(CANDLES), known_new=True) == BulkResult(30, 20)
    assert len(rows_of(pg, TABLE, KEY)) == 30


def test_rows_believed_new_make_the_partitions_and_parents_that_they_lack(pg: psycopg.Connection) -> None:
    new = [candle("KXNEW-1", NOON + timedelta(days=31 * at)) for at in range(3)]
    assert market_data.upsert_candlesticks(pg, iter(new), known_new=True).written == 3
    assert {stub.ticker for stub in catalog.stubs(pg)} >= {"KXNEW-1"}


def test_an_input_too_long_for_memory_is_replayed_whole(pg: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshidb.typedsql.bulk._REPLAYED_IN_MEMORY", 1_000)
    rows = [candle(end=NOON + timedelta(minutes=at)) for at in range(3_000)]
    market_data.upsert_candlesticks(pg, rows[-1:])  # found only when all has been sent
    assert market_data.upsert_candlesticks(pg, iter(rows), known_new=True) == BulkResult(3_000, 2_999)


def test_a_row_that_is_wrong_is_an_error_also_when_its_key_is_new(pg: psycopg.Connection) -> None:
    wrong = CANDLES[1].model_copy(update={"yes_bid_open": Decimal(2)})
    with pytest.raises(psycopg.errors.CheckViolation, match="price_range_check"):
        market_data.upsert_candlesticks(pg, [CANDLES[0], wrong], known_new=True)


# -- keys that occur twice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_two_rows_with_one_key_are_refused_on_request_by_their_numbers(pg: psycopg.Connection, form: Any) -> None:
    rows = [*CANDLES[:5], CANDLES[2].model_copy(update={"volume": Decimal(99)})]
    with pytest.raises(
        DuplicateRowError, match=r"rows 3 and 6 have one key, \(market_ticker, end_period_ts, period_interval_minutes\) ="
    ):
        market_data.upsert_candlesticks(pg, form(rows), on_duplicate="error")
    pg.rollback()
    assert market_data.upsert_candlesticks(pg, form(rows)) == BulkResult(6, 5)
    assert pg.execute("SELECT max(volume) FROM market_data.candlesticks").fetchone() == (Decimal(99),)


def test_rows_without_a_twin_pass_the_strict_way(pg: psycopg.Connection) -> None:
    assert market_data.upsert_candlesticks(pg, CANDLES, on_duplicate="error").written == 30


# -- many writers -----------------------------------------------------------------------------------------------------------------

WRITERS, ROUNDS, KEYS = 8, 12, 60


def write_rounds(url: str, number: int) -> None:
    chance = random.Random(number)  # noqa: S311
    with psycopg.connect(url, autocommit=True) as conn:
        for at in range(ROUNDS):
            keys = chance.sample(range(KEYS), KEYS // 2)
            seen = NOON + timedelta(seconds=at * WRITERS + number)
            market_data.upsert_candlesticks(
                conn,
                [candle(end=NOON + HOUR * key, volume=Decimal(at * WRITERS + number), retrieved_at=seen) for key in keys],
                known_new=bool(at % 2),
            )


def test_processes_that_write_the_same_keys_neither_fail_nor_lose_a_row(database_url: str, pg: psycopg.Connection) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_rounds, args=(database_url, number)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * WRITERS
    latest: dict[int, int] = {}
    for number in range(WRITERS):
        chance = random.Random(number)  # noqa: S311
        for at in range(ROUNDS):
            for key in chance.sample(range(KEYS), KEYS // 2):
                latest[key] = max(latest.get(key, 0), at * WRITERS + number)
    stored = pg.execute("SELECT end_period_ts, volume FROM market_data.candlesticks").fetchall()
    assert {(moment - NOON) // HOUR: int(volume) for moment, volume in stored} == latest
