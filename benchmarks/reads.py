"""Reading: the validated read and its alternatives, the same statement over the same rows, in the same order.

The client's work is what differs; the server's is the same for all. Results are lists, or whatever the library's own whole result is.
"""

# ruff: noqa: PLC0415  (optional packages are imported by the alternative that needs them)

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import class_row

from benchmarks.data import BEGIN, COLUMNS, CONTRACTS, END, PERIOD_MINUTES, PRICES, Row, arrow_types
from benchmarks.measure import Alternative, DisagreementError, Section, missing
from kalshidb.models.market_data import Candlestick
from kalshidb.queries import STATEMENTS, market_data
from kalshidb.typedsql import Rows

OURS = "read: models"
STREAM = "read: models, streamed"
ARROW = "read: Arrow table"
BINARY = "psycopg tuples, binary"
TEXT = "psycopg tuples, text"
CLASS_ROW = "psycopg class_row(Candlestick)"
ORM = "SQLAlchemy ORM select"
ASYNCPG = "asyncpg fetch"
ADBC = "ADBC fetch_arrow_table, numeric as text"
CSV = "COPY of CSV into pyarrow"

_WINDOW = (PERIOD_MINUTES, BEGIN, END)
_SELECT = """
    SELECT * FROM market_data.candlesticks
    WHERE period_interval_minutes = {} AND end_period_ts >= {} AND end_period_ts < {}
    ORDER BY end_period_ts, market_ticker
"""
_PLAIN = _SELECT.format("%s", "%s", "%s")
_NUMBERED = _SELECT.format("$1", "$2", "$3")
_LITERAL = _SELECT.format(PERIOD_MINUTES, *(f"'{moment.isoformat()}'" for moment in (BEGIN, END)))


@contextmanager
def alternatives(url: str, conn: psycopg.Connection[Any]) -> Iterator[tuple[Section, list[Alternative]]]:
    """Prepare every way of reading all candlesticks that are stored.

    Args:
        url: the database's address, for the libraries that connect by themselves.
        conn: a connection in autocommit mode.
    """
    conn.execute("VACUUM (ANALYZE) market_data.candlesticks")
    expected = conn.execute(_PLAIN, _WINDOW).fetchall()
    made: list[Alternative] = []
    skipped: dict[str, str] = {}
    section = Section(f"Reading {len(expected):,} candlesticks", "rows", OURS, skipped=skipped)

    def add(name: str, run: Callable[[], Any], rows_of: Callable[[Any], Iterable[Sequence[Any]]]) -> None:
        def check(result: object) -> None:
            if list(map(tuple, rows_of(result))) != expected:
                raise DisagreementError(f"{name} has returned other rows than {TEXT}")

        made.append(Alternative(name, run, len(expected), check=check))

    models = Rows.of_model(STATEMENTS["market_data.candlesticks_in_window"], Candlestick)
    minutes, begin, end = _WINDOW

    def stream() -> Iterator[Candlestick]:
        return market_data.candlesticks_in_window(conn, period_interval_minutes=minutes, start_ts=begin, end_ts=end)

    add(OURS, lambda: models.many(conn, _WINDOW), _of_objects)
    # Its purpose is not to hold the rows, so here they are only counted.
    add(STREAM, lambda: sum(1 for _ in stream()), lambda _count: _of_objects(stream()))
    add(BINARY, lambda: conn.cursor(binary=True).execute(_PLAIN, _WINDOW).fetchall(), list)
    add(TEXT, lambda: conn.execute(_PLAIN, _WINDOW).fetchall(), list)
    add(
        CLASS_ROW,
        lambda: conn.cursor(row_factory=class_row(Candlestick), binary=True).execute(_PLAIN, _WINDOW).fetchall(),
        _of_objects,
    )
    if why := missing("pyarrow"):
        skipped |= dict.fromkeys((ARROW, ADBC, CSV), why)
    else:
        if missing("kalshidb.typedsql.arrow"):
            skipped[ARROW] = "this version cannot"
        else:
            add(ARROW, lambda: _as_arrow(conn), _of_arrow)
        add(CSV, lambda: _csv_into_pyarrow(conn), _of_arrow)
    with ExitStack() as stack:
        if why := missing("sqlalchemy"):
            skipped[ORM] = why
        else:
            add(ORM, _orm(url, stack), _of_objects)
        if why := missing("asyncpg"):
            skipped[ASYNCPG] = why
        else:
            add(ASYNCPG, _asyncpg(url, stack), list)
        if ADBC not in skipped:
            if why := missing("adbc_driver_postgresql"):
                skipped[ADBC] = why
            else:
                add(ADBC, _adbc(url, stack), _of_arrow)
        yield section, made


def _as_arrow(conn: psycopg.Connection[Any]) -> Any:  # noqa: ANN401
    from kalshidb.typedsql.arrow import as_arrow

    minutes, begin, end = _WINDOW
    return as_arrow(market_data.candlesticks_in_window, conn, period_interval_minutes=minutes, start_ts=begin, end_ts=end)


def _of_objects(objects: Iterable[object]) -> Iterator[Row]:
    return (tuple(getattr(each, name) for name in COLUMNS) for each in objects)


def _of_arrow(table: Any) -> Iterator[Row]:  # noqa: ANN401  (pyarrow may be missing)
    columns = []
    for name in COLUMNS:
        values = table.column(name).to_pylist()
        exact = name in PRICES | CONTRACTS and any(isinstance(value, str) for value in values)  # ADBC leaves numeric as text
        columns.append([None if value is None else Decimal(value) for value in values] if exact else values)
    return zip(*columns, strict=True)


def _orm(url: str, stack: ExitStack) -> Callable[[], Any]:
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from benchmarks import alchemy

    engine = alchemy.engine(url)
    stack.callback(engine.dispose)
    columns = alchemy.TABLE.c
    statement = (
        select(alchemy.Candle)
        .where(
            columns.period_interval_minutes == PERIOD_MINUTES,
            columns.end_period_ts >= BEGIN,
            columns.end_period_ts < END,
        )
        .order_by(columns.end_period_ts, columns.market_ticker)
    )

    def run() -> Any:  # noqa: ANN401
        with Session(engine, expire_on_commit=False) as session:
            return session.scalars(statement).all()

    return run


def _asyncpg(url: str, stack: ExitStack) -> Callable[[], Any]:
    import asyncpg  # type: ignore[import-untyped,unused-ignore]

    runner = stack.enter_context(asyncio.Runner())
    connection = runner.run(asyncpg.connect(url))
    stack.callback(lambda: runner.run(connection.close()))
    return lambda: runner.run(connection.fetch(_NUMBERED, *_WINDOW))


def _adbc(url: str, stack: ExitStack) -> Callable[[], Any]:
    import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped,unused-ignore]

    connection = stack.enter_context(adbc_driver_postgresql.dbapi.connect(url, autocommit=True))

    def run() -> Any:  # noqa: ANN401
        with connection.cursor() as cursor:
            cursor.execute(_LITERAL)
            return cursor.fetch_arrow_table()

    return run


def _csv_into_pyarrow(conn: psycopg.Connection[Any]) -> Any:  # noqa: ANN401
    """Read the server's CSV while it arrives, by hand, with the types that the table's columns have."""
    from pyarrow import csv  # type: ignore[import-untyped,unused-ignore]

    options = csv.ConvertOptions(
        column_types=arrow_types(),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
        timestamp_parsers=[csv.ISO8601],
    )
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe, conn.cursor().copy(f"COPY ({_LITERAL}) TO STDOUT (FORMAT csv, HEADER)") as copy:
            for piece in copy:
                pipe.write(piece)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb") as pipe:
        table = csv.open_csv(pipe, read_options=csv.ReadOptions(block_size=8 << 20), convert_options=options).read_all()
    feeder.join()
    return table
