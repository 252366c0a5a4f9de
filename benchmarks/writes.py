"""Writing: the bulk upsert and its alternatives, into the same indexed, foreign-keyed, partitioned table.

Every measurement begins with an empty table, the markets and the months' partitions in place, and a checkpoint just made; it ends with
the commit. Each alternative gets its rows ready-made in the form it takes best.
"""

# ruff: noqa: PLC0415  (optional packages are imported by the alternative that needs them)

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from benchmarks.data import BEGIN, COLUMNS, END, KEY, Batch
from benchmarks.measure import Alternative, DisagreementError, Section, missing
from kalshidb.queries import market_data
from kalshidb.typedsql import BulkResult

COPY = "COPY of ready-made CSV"
OURS = "upsert: models"
NEW = "upsert: models, keys known to be new"
AGAIN = "upsert: the same models again"
TUPLES = "upsert: tuples"
CSV = "upsert: CSV bytes"
ARROW = "upsert: Arrow table"
CORE = "SQLAlchemy Core executemany"
CORE_VALUES = "SQLAlchemy Core insertmanyvalues"
MERGE = "SQLAlchemy ORM merge"
PSYCOPG = "psycopg executemany"
ASYNCPG = "asyncpg executemany"

_PIECE = 1 << 18
_NAMES = ", ".join(COLUMNS)
_CHANGES = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS if name not in KEY)
_COPY = f"COPY market_data.candlesticks ({_NAMES}) FROM STDIN (FORMAT csv)"


def _upsert(placeholders: list[str]) -> str:
    return (
        f"INSERT INTO market_data.candlesticks ({_NAMES}) VALUES ({', '.join(placeholders)})"  # noqa: S608
        f" ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {_CHANGES}"
    )


def copy(conn: psycopg.Connection[Any], batch: Batch) -> None:
    """Write ready-made CSV straight into the table: the limit of what any client can reach."""
    data = memoryview(batch.csv)
    with conn.transaction(), conn.cursor().copy(_COPY) as writing:
        for at in range(0, len(data), _PIECE):
            writing.write(data[at : at + _PIECE])


class _Table:
    """The table between measurements."""

    def __init__(self, conn: psycopg.Connection[Any], batch: Batch, few: Batch) -> None:
        self._conn = conn
        self._batch = batch
        conn.execute("SELECT market_data.create_month_partitions('market_data.candlesticks', %s)", [[BEGIN, END]])
        self.expected: dict[int, tuple[int, int]] = {}
        for each in (batch, few):
            self.empty()
            self.copy(each)
            self.expected[each.size] = self.fingerprint()

    def empty(self) -> None:
        self._conn.execute("TRUNCATE market_data.candlesticks")
        self._conn.execute("CHECKPOINT")

    def full(self) -> None:
        self.empty()
        self.copy(self._batch)
        self._conn.execute("CHECKPOINT")

    def copy(self, batch: Batch) -> None:
        copy(self._conn, batch)

    def fingerprint(self) -> tuple[int, int]:
        """Return how many rows are stored, and a number that says which, whatever their order."""
        row = self._conn.execute(
            "SELECT count(*), coalesce(sum(hashtextextended(candlesticks::text, 0)::numeric), 0) FROM market_data.candlesticks"
        ).fetchone()
        if row is None:
            raise DisagreementError("no answer")
        return int(row[0]), int(row[1])

    def check(self, name: str, size: int) -> None:
        if self.fingerprint() != self.expected[size]:
            raise DisagreementError(f"{name} has stored other rows than {COPY}")


@contextmanager
def alternatives(url: str, conn: psycopg.Connection[Any], rows: int, merged: int) -> Iterator[tuple[Section, list[Alternative]]]:
    """Prepare every way of writing; the table holds what the last one wrote afterwards.

    Args:
        url: the database's address, for the libraries that connect by themselves.
        conn: a connection in autocommit mode; the markets of all rows are stored.
        rows: how many candlesticks a measurement writes.
        merged: how many where each row takes a round trip.
    """
    batch, few = Batch(rows).prepare(), Batch(merged).prepare()
    table = _Table(conn, batch, few)
    made: list[Alternative] = []
    skipped: dict[str, str] = {}
    section = Section(f"Writing {rows:,} candlesticks", "rows", OURS, skipped=skipped)

    def add(name: str, run: Callable[[], Any], *, before: Callable[[], None] = table.empty, of: Batch = batch) -> None:
        def check(result: object) -> None:
            table.check(name, of.size)
            written = 0 if name == AGAIN else of.size
            if isinstance(result, BulkResult) and (result.received, result.written) != (of.size, written):
                raise DisagreementError(f"{name} says {result}, not {written} written")

        made.append(Alternative(name, run, of.size, before, check))

    add(COPY, lambda: table.copy(batch))
    add(OURS, lambda: market_data.upsert_candlesticks(conn, batch.models))
    add(AGAIN, lambda: market_data.upsert_candlesticks(conn, batch.models), before=table.full)
    add(TUPLES, lambda: market_data.upsert_candlesticks(conn, batch.tuples))
    _add_other_inputs(conn, batch, add, skipped)

    def executemany() -> None:
        with conn.transaction(), conn.cursor() as cursor:
            cursor.executemany(_upsert(["%s"] * len(COLUMNS)), batch.tuples)

    add(PSYCOPG, executemany)
    with ExitStack() as stack:
        if why := missing("sqlalchemy"):
            skipped |= dict.fromkeys((CORE, CORE_VALUES, MERGE), why)
        else:
            _add_alchemy(url, batch, few, add, stack)
        if why := missing("asyncpg"):
            skipped[ASYNCPG] = why
        else:
            _add_asyncpg(url, batch, add, stack)
        yield section, made


def _add_other_inputs(conn: psycopg.Connection[Any], batch: Batch, add: Callable[..., None], skipped: dict[str, str]) -> None:
    upsert: Callable[..., BulkResult] = market_data.upsert_candlesticks
    if "known_new" not in inspect.signature(upsert).parameters:
        skipped |= dict.fromkeys((NEW, CSV, ARROW), "this version cannot")
        return
    add(NEW, lambda: upsert(conn, batch.models, known_new=True))
    add(CSV, lambda: upsert(conn, batch.csv_with_header))
    if why := missing("pyarrow"):
        skipped[ARROW] = why
    else:
        table = batch.arrow
        add(ARROW, lambda: upsert(conn, table))


def _add_alchemy(url: str, batch: Batch, few: Batch, add: Callable[..., None], stack: ExitStack) -> None:
    from sqlalchemy.orm import Session

    from benchmarks import alchemy

    plain, many_values = alchemy.engine(url), alchemy.engine(url, many_values=True)
    stack.callback(plain.dispose)
    stack.callback(many_values.dispose)
    statement = alchemy.upsert()

    def core(engine: Any) -> None:  # noqa: ANN401  (sqlalchemy may be missing)
        with engine.begin() as connection:
            connection.execute(statement, batch.dicts)

    def merge() -> None:
        with Session(plain) as session, session.begin():
            for row in few.dicts:
                session.merge(alchemy.Candle(**row))

    add(CORE, lambda: core(plain))
    add(CORE_VALUES, lambda: core(many_values))
    add(MERGE, merge, of=few)


def _add_asyncpg(url: str, batch: Batch, add: Callable[..., None], stack: ExitStack) -> None:
    import asyncpg  # type: ignore[import-untyped,unused-ignore]

    runner = stack.enter_context(asyncio.Runner())
    connection = runner.run(asyncpg.connect(url))
    stack.callback(lambda: runner.run(connection.close()))
    statement = _upsert([f"${number}" for number in range(1, len(COLUMNS) + 1)])
    add(ASYNCPG, lambda: runner.run(connection.executemany(statement, batch.tuples)))
