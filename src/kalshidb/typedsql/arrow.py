"""Rows as columns: a statement's result as an Arrow table, and Arrow tables as rows for a bulk statement.

The server writes CSV, Arrow reads it by column; Python never sees a row. What comes out has the statement's columns in its order, and
the exact types of the database: numeric(p, s) is decimal128(p, s), timestamptz a UTC timestamp, a ticker a dictionary of tickers.
Needs pyarrow, which is imported on the first call.

    table = as_arrow(market_data.candlesticks_in_window, conn, period_interval_minutes=60, start_ts=begin, end_ts=end)

| PostgreSQL | Arrow |
|---|---|
| boolean, smallint, integer, bigint, oid | bool, int16, int32, int64, uint32 |
| real, double precision | float, double |
| numeric(p, s) | decimal128(p, s), above 38 digits decimal256; without precision it is refused, for Arrow has no such type |
| date, time, timestamp | date32, time64[us], timestamp[us] |
| timestamptz | timestamp[us, UTC], whatever the session's time zone is |
| interval | duration[us], as Python has it: a month is 30 days |
| bytea | binary |
| an enum; text whose model has a pattern or names its words | dictionary<int32, string> |
| arrays of one dimension | list of what the element becomes |
| text, uuid, json, jsonb, ranges and all else | string, as the server writes it |
"""

import asyncio
import inspect
import re
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, get_args, get_origin

from psycopg import AsyncConnection, AsyncRawCursor, Connection, DataError, RawCursor
from psycopg import Error as DatabaseError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.generators import execute, fetch_many
from psycopg.pq import Escaping, ExecStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import IntervalLoader
from psycopg.types.string import ByteaLoader
from psycopg.waiting import Wait
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from kalshidb.typedsql.errors import RowError, StatementError
from kalshidb.typedsql.reading import TextArrayLoader, column_names
from kalshidb.typedsql.runtime import AnyConnection, Rows, Statement, as_jsonb, as_jsonb_array
from kalshidb.typedsql.source import Cardinality, pieces

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

P = ParamSpec("P")
Schema = Mapping[str, Any]

_BLOCK_BYTES = 4 << 20  # of CSV: some twenty thousand rows, enough for a group of rows in a Parquet file
_ROWS_A_WRITE = 20_000  # of Arrow turned into CSV at once
_DECIMAL128_DIGITS, _DECIMAL256_DIGITS = 38, 76


class ArrowError(StatementError):
    """A statement's result has no exact form in Arrow; the message says which column and what to do."""


def _arrow() -> Any:  # noqa: ANN401  (pyarrow has no types)
    try:
        import pyarrow  # noqa: PLC0415  (optional)
        import pyarrow.compute  # noqa: PLC0415
        import pyarrow.csv  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('Arrow tables need pyarrow: pip install "kalshidb[arrow]"') from error
    return pyarrow


# -- reading: the four ways in ---------------------------------------------------------------------------------------------------------


def as_arrow(
    function: Callable[Concatenate[Connection[Any], P], list[Any] | Iterator[Any]],
    conn: Connection[Any],
    *_: P.args,
    **parameters: P.kwargs,
) -> "pa.Table":
    """Run the statement of a generated function, one that returns many rows or streams them, and return its rows as a table.

    Types are in this module's docstring; null is null and never NaN. Parameters are those of the function, and are checked like there.

    Raises:
        ParameterError, psycopg.Error: as the function does.
        ArrowError: a column has no exact type in Arrow.
        RowError: a value has none (infinity, NaN in a numeric, years before 1 or after 9999); names the column.
        ImportError: pyarrow is not installed.
    """
    rows, params = _statement_of(function, conn, parameters)
    reading = _Reading(rows, function)
    with closing(_batches(reading, conn, params)) as batches:
        return reading.table(list(batches))


def arrow_batches(
    function: Callable[Concatenate[Connection[Any], P], list[Any] | Iterator[Any]],
    conn: Connection[Any],
    *_: P.args,
    **parameters: P.kwargs,
) -> "Iterator[pa.RecordBatch]":
    """Yield the same as `as_arrow`, some twenty thousand rows at a time, in memory that does not grow; an empty result is one empty batch.

    The connection is busy until the last batch has come or the iterator is closed, as a `for` loop does when it is left. Whoever stops
    early cancels the statement; the transaction, if one was open, goes on.
    """
    rows, params = _statement_of(function, conn, parameters)
    return _batches(_Reading(rows, function), conn, params)


async def as_arrow_async(
    function: Callable[Concatenate[AsyncConnection[Any], P], Coroutine[Any, Any, list[Any]] | AsyncIterator[Any]],
    conn: AsyncConnection[Any],
    *_: P.args,
    **parameters: P.kwargs,
) -> "pa.Table":
    """Do what `as_arrow` does, over an asynchronous connection; the loop is free while Arrow reads."""
    rows, params = _statement_of(function, conn, parameters)
    reading = _Reading(rows, function)
    async with aclosing(_batches_async(reading, conn, params)) as batches:
        return reading.table([batch async for batch in batches])


def arrow_batches_async(
    function: Callable[Concatenate[AsyncConnection[Any], P], Coroutine[Any, Any, list[Any]] | AsyncIterator[Any]],
    conn: AsyncConnection[Any],
    *_: P.args,
    **parameters: P.kwargs,
) -> "AsyncIterator[pa.RecordBatch]":
    """Do what `arrow_batches` does, over an asynchronous connection. Close the iterator (`aclosing`) when you stop early."""
    rows, params = _statement_of(function, conn, parameters)
    return _batches_async(_Reading(rows, function), conn, params)


def _statement_of(
    function: Callable[..., Any], conn: AnyConnection, parameters: Mapping[str, Any]
) -> tuple[Rows[Any], Sequence[Any]]:
    """Return the statement behind a generated function, and its checked parameters in the statement's order."""
    name = getattr(function, "__name__", "")
    module = sys.modules.get(getattr(function, "__module__", ""))
    rows = getattr(module, f"_{name}", None)
    if not isinstance(rows, Rows) or getattr(module, name, None) is not function:
        raise TypeError(f"{function!r} is no generated function of a statement that returns rows")
    source = rows.statement.source
    if source.cardinality not in (Cardinality.MANY, Cardinality.STREAM):
        raise TypeError(f"{source.place}: {source.full_name} promises {source.cardinality}; Arrow is for many rows")
    given = inspect.signature(function).bind(conn, **parameters)
    given.apply_defaults()
    return rows, rows.statement.checked([given.arguments[parameter] for parameter in source.parameters])


# -- running: sync and async side by side ----------------------------------------------------------------------------------------------


def _batches(reading: "_Reading", conn: Connection[Any], params: Sequence[Any]) -> "Generator[pa.RecordBatch, None, None]":
    try:
        if _opens_transaction(conn):
            conn.execute("SELECT")
        # A failure, or an early end, undoes this savepoint and nothing of what the caller did before.
        with conn.transaction(), RawCursor(conn, row_factory=tuple_row) as cursor, ThreadPoolExecutor(1) as parser:
            with conn.lock:
                reading.described(conn.wait(_description(conn, reading.statement)))
            cursor.execute(_TYPES, [reading.oids()])
            reading.plan(conn, cursor.fetchall())
            with cursor.copy(reading.copy_sql(conn, params)):
                block, more = conn.wait(_block(conn))
                pending = parser.submit(reading.batch, block)  # while the next block arrives
                while more and (following := conn.wait(_block(conn)))[0]:
                    yield pending.result()
                    block, more = following
                    pending = parser.submit(reading.batch, block)
            last = pending.result()
        yield last
    except DatabaseError as error:
        reading.statement.explained(error)
        raise


async def _batches_async(
    reading: "_Reading", conn: AsyncConnection[Any], params: Sequence[Any]
) -> "AsyncGenerator[pa.RecordBatch, None]":
    try:
        if _opens_transaction(conn):
            await conn.execute("SELECT")
        async with conn.transaction(), AsyncRawCursor(conn, row_factory=tuple_row) as cursor:
            async with conn.lock:
                reading.described(await conn.wait(_description(conn, reading.statement)))
            await cursor.execute(_TYPES, [reading.oids()])
            reading.plan(conn, await cursor.fetchall())
            async with cursor.copy(reading.copy_sql(conn, params)):
                block, more = await conn.wait(_block(conn))
                pending = asyncio.create_task(asyncio.to_thread(reading.batch, block))
                while more and (following := await conn.wait(_block(conn)))[0]:
                    yield await pending
                    block, more = following
                    pending = asyncio.create_task(asyncio.to_thread(reading.batch, block))
            last = await pending
        yield last
    except DatabaseError as error:
        reading.statement.explained(error)
        raise


def _opens_transaction(conn: AnyConnection) -> bool:
    """Tell whether any statement would open the transaction that the caller is to commit."""
    return not conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE


def _block(conn: AnyConnection) -> "PQGen[tuple[bytearray, bool]]":
    """Receive CSV of COPY, and whether more may come; libpq gives whole rows, so a block never ends inside one.

    As psycopg's Copy does it, but waiting once for all rows that have arrived and not once for each: half the time.
    """
    pgconn = conn.pgconn
    block = bytearray()  # and not a list of rows: each would keep a buffer of libpq's
    while len(block) < _BLOCK_BYTES:
        size, row = pgconn.get_copy_data(1)
        if size > 0:
            block += row
        elif size == 0:
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        else:
            yield from _answer(conn, fetch_many(pgconn))
            return block, False
    return block, True


# -- asking the server what the statement takes and gives -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Description:
    parameters: tuple[int, ...]
    columns: tuple[tuple[str, int, int], ...]  # name, type, type modifier; of a domain what it stands on


def _description(conn: AnyConnection, statement: Statement) -> "PQGen[_Description]":
    """Prepare without a word about the parameters, as generating did: so they have the types that the function promises."""
    encoding = conn.info.encoding
    conn.pgconn.send_prepare(b"", statement.sql.encode())
    yield from _answer(conn, execute(conn.pgconn))
    conn.pgconn.send_describe_prepared(b"")
    result = yield from _answer(conn, execute(conn.pgconn))
    return _Description(
        tuple(result.param_type(at) for at in range(result.nparams)),
        tuple(((result.fname(at) or b"").decode(encoding), result.ftype(at), result.fmod(at)) for at in range(result.nfields)),
    )


def _answer(conn: AnyConnection, results: "PQGen[list[PGresult]]") -> "PQGen[PGresult]":
    result = (yield from results)[-1]
    if result.status != ExecStatus.COMMAND_OK:
        raise error_from_result(result, encoding=conn.info.encoding)
    return result


# With what arrays hold and domains stand on. Names are qualified and never `bit` or `character` alone, which would mean one place.
_TYPES = b"""
    WITH RECURSIVE needed (oid) AS (
        SELECT unnest($1::oid[])
        UNION
        SELECT unnest(ARRAY[t.typelem, t.typbasetype]) FROM needed JOIN pg_catalog.pg_type t ON t.oid = needed.oid
    )
    SELECT
        t.oid::int8, quote_ident(n.nspname) || '.' || quote_ident(t.typname),
        CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text END, t.typtype::text,
        t.typarray::int8, t.typelem::int8, t.typdelim::text, t.typbasetype::int8, t.typtypmod
    FROM needed
    JOIN pg_catalog.pg_type t ON t.oid = needed.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
"""


class _Type(NamedTuple):
    oid: int
    sql: str
    builtin: str | None
    kind: str
    array: int
    element: int
    delimiter: str
    base: int
    base_modifier: int


# -- reading: what becomes of each column ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """How a column is read: by Arrow as `csv`, and then, where CSV has no form for it, by us."""

    name: str
    csv: "pa.DataType"
    type: "pa.DataType"
    convert: "Callable[[pa.Array], pa.Array] | None" = None


class _Reading:
    """One run of a statement: what the server said of it, and how its CSV becomes Arrow."""

    def __init__(self, rows: Rows[Any], function: Callable[..., Any]) -> None:
        self.arrow = _arrow()
        self.statement = rows.statement
        self._row_type = _row_type(function)
        self._description = _Description((), ())
        self._types: dict[int, _Type] = {}
        self._columns: list[_Column] = []

    def described(self, description: _Description) -> None:
        self._description = description

    def oids(self) -> list[int]:
        return sorted({*self._description.parameters, *(oid for _, oid, _ in self._description.columns)})

    def plan(self, conn: AnyConnection, types: Iterable[Sequence[Any]]) -> None:
        """Decide how each column is read."""
        self._types = {row[0]: _Type(*row) for row in types}
        words = _columns_of_words(self._row_type)
        self._columns = [
            self._column(conn, name, oid, modifier, words=name in words or None in words)
            for name, oid, modifier in self._description.columns
        ]
        self.schema = self.arrow.schema([(column.name, column.type) for column in self._columns])

    def copy_sql(self, conn: AnyConnection, params: Sequence[Any]) -> bytes:
        """Return the statement as COPY, which takes no parameters: each stands in it as a quoted text of the parameter's type."""
        transformer, escaping = Transformer.from_context(conn), Escaping(conn.pgconn)

        def literal(value: Any, type_: _Type) -> bytes:  # noqa: ANN401
            if type_.builtin in ("json", "jsonb"):
                value = as_jsonb(value)
            elif type_.element and self._types[type_.element].builtin in ("json", "jsonb"):
                value = as_jsonb_array(value)
            text = None if value is None else transformer.get_dumper(value, PyFormat.TEXT).dump(value)
            quoted = b"NULL" if text is None else bytes(escaping.escape_literal(text))
            return b"(" + quoted + b"::" + type_.sql.encode() + b")"

        literals = [literal(value, self._types[oid]) for value, oid in zip(params, self._description.parameters, strict=True)]
        written = (
            re.sub(rb"\$(\d+)", lambda match: literals[int(match[1]) - 1], piece.text.encode())
            if piece.kind == "code"
            else piece.text.encode()
            for piece in pieces(self.statement.sql)
        )
        return b"COPY (" + b"".join(written) + b"\n) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"

    def batch(self, block: "bytearray | pa.Buffer") -> "pa.RecordBatch":
        """Return whole lines of CSV as a batch."""
        if not block:
            return self.arrow.RecordBatch.from_pylist([], schema=self.schema)
        try:
            table = self._read(block, [column.csv for column in self._columns])
            arrays = [
                values if column.convert is None else column.convert(values)
                for column, values in zip(self._columns, map(_whole, table.columns), strict=True)
            ]
        except ValueError:  # pyarrow's ArrowInvalid is one
            # Something has no quick form: offsets of a few seconds, as zones had before there were zones, or no form at all.
            table = self._read(block, [self.arrow.string()] * len(self._columns))
            arrays = [self._by_value(column, _whole(texts)) for column, texts in zip(self._columns, table.columns, strict=True)]
        return self.arrow.RecordBatch.from_arrays(arrays, schema=self.schema)

    def table(self, batches: "Sequence[pa.RecordBatch]") -> "pa.Table":
        """Return batches as one table, its dictionaries as one."""
        return self.arrow.Table.from_batches(batches, schema=self.schema).unify_dictionaries()

    def _read(self, block: "bytearray | pa.Buffer", types: "Sequence[pa.DataType]") -> "pa.Table":
        options = self.arrow.csv
        names = [str(at) for at in range(len(types))]
        return options.read_csv(
            self.arrow.BufferReader(block),
            # One block: a row of any length fits.
            read_options=options.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            # An empty line is a row: one column that is null.
            parse_options=options.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=options.ConvertOptions(
                column_types=dict(zip(names, types, strict=True)),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )

    def _parsed(self, texts: "pa.Array", column: _Column) -> "pa.Array":
        """Read texts as if they were a column of their own."""
        if column.csv != self.arrow.string() and len(texts):
            written = self.arrow.BufferOutputStream()
            self.arrow.csv.write_csv(
                self.arrow.table([texts], names=["0"]), written, self.arrow.csv.WriteOptions(include_header=False)
            )
            texts = _whole(self._read(written.getvalue(), [column.csv]).column(0))
        elif column.csv != self.arrow.string():
            texts = self.arrow.array([], column.csv)
        return texts if column.convert is None else column.convert(texts)

    def _by_value(self, column: _Column, texts: "pa.Array") -> "pa.Array":
        """Read texts as a column of their own; where that fails, one by one, to read more forms or to say which one is wrong."""
        try:
            return self._parsed(texts, column)
        except ValueError:
            one_by_one = [self._one(column, text) for text in texts.to_pylist()]
            return self.arrow.concat_arrays(one_by_one)

    def _one(self, column: _Column, text: str | None) -> "pa.Array":
        try:
            if text is not None and self.arrow.types.is_timestamp(column.type) and column.type.tz:
                return self.arrow.array([datetime.fromisoformat(text)], column.type)
            return self._parsed(self.arrow.array([text], self.arrow.string()), column)
        except ValueError as error:
            raise self._wrong_value(column, f"{text!r:.200} is no {column.type} of Arrow") from error

    def _wrong_value(self, column: _Column, problem: str) -> RowError:
        return RowError(self.statement.source.place, self.statement.source.full_name, f"column {column.name}: {problem}")

    def _no_type(self, name: str, problem: str) -> ArrowError:
        return ArrowError(self.statement.source.place, self.statement.source.full_name, f"column {name} {problem}")

    def _column(self, conn: AnyConnection, name: str, oid: int, modifier: int, *, words: bool) -> _Column:
        arrow, type_ = self.arrow, self._types[oid]
        while type_.kind == "d":  # only within an array: of a column the server tells what the domain stands on
            type_, modifier = self._types[type_.base], type_.base_modifier
        text = arrow.string()
        if type_.element and self._types[type_.element].array == type_.oid:
            element = self._column(conn, name, type_.element, modifier, words=False)
            if element.type == arrow.dictionary(arrow.int32(), text):
                element = _Column(name, text, text)
            delimiter = self._types[type_.element].delimiter.encode()
            return _Column(name, text, arrow.list_(element.type), lambda texts: self._lists(texts, element, delimiter))
        simple = {
            "bool": arrow.bool_(), "int2": arrow.int16(), "int4": arrow.int32(), "int8": arrow.int64(), "oid": arrow.uint32(),
            "float4": arrow.float32(), "float8": arrow.float64(), "time": arrow.time64("us"), "date": arrow.date32(),
            "timestamp": arrow.timestamp("us"), "timestamptz": arrow.timestamp("us", "UTC"),
        }  # fmt: skip
        if type_.builtin in ("date", "timestamp", "timestamptz"):
            self._want_setting(conn, name, "DateStyle", "ISO")
        if type_.builtin in simple:
            return _Column(name, simple[type_.builtin], simple[type_.builtin])
        if type_.builtin == "numeric":
            return self._numeric(name, modifier)
        if type_.builtin == "interval":
            self._want_setting(conn, name, "IntervalStyle", "postgres")
            return _Column(name, text, arrow.duration("us"), partial(self._durations, IntervalLoader(type_.oid, conn)))
        if type_.builtin == "bytea":
            return _Column(name, text, arrow.binary(), self._binaries)
        if type_.kind == "e" or (words and type_.builtin in ("text", "varchar", "bpchar")):
            text = arrow.dictionary(arrow.int32(), text)
        return _Column(name, text, text)

    def _want_setting(self, conn: AnyConnection, name: str, setting: str, wanted: str) -> None:
        value = conn.info.parameter_status(setting) or ""
        if value.partition(",")[0] != wanted:
            raise self._no_type(name, f"is written as {setting} {value} says; as_arrow reads {wanted}: SET {setting} TO {wanted}")

    def _numeric(self, name: str, modifier: int) -> _Column:
        if modifier < 0:
            raise self._no_type(
                name,
                f"is numeric without precision, and Arrow's decimals have one; cast it in the statement: {name}::numeric(18, 6)",
            )
        digits, places = (modifier - 4) >> 16 & 0xFFFF, ((modifier - 4) & 0x7FF ^ 1024) - 1024
        # numeric(3, -2) is 12300, numeric(3, 5) 0.00123.
        digits, places = max(digits - min(places, 0), places), max(places, 0)
        if digits <= _DECIMAL128_DIGITS:
            exact = self.arrow.decimal128(digits, places)
            return _Column(name, exact, exact)
        if digits <= _DECIMAL256_DIGITS:
            exact = self.arrow.decimal256(digits, places)
            return _Column(name, self.arrow.string(), exact, lambda texts: texts.cast(exact))
        raise self._no_type(name, f"has {digits} digits, Arrow's decimals have at most {_DECIMAL256_DIGITS}")

    def _lists(self, texts: "pa.Array", element: _Column, delimiter: bytes) -> "pa.Array":
        loader = TextArrayLoader(0, None)
        loader.delimiter = delimiter
        lists = [None if text is None else loader.load(text.encode()) for text in texts.to_pylist()]
        flat: list[Any] = []
        ends = [0]
        for values in lists:
            flat.extend(values or ())
            ends.append(len(flat))
        if any(isinstance(value, list) for value in flat):
            raise ValueError("an array of more than one dimension is no list")
        arrow = self.arrow
        return arrow.ListArray.from_arrays(
            arrow.array(ends, arrow.int32()),
            self._by_value(element, arrow.array(flat, arrow.string())),
            type=arrow.list_(element.type),
            mask=arrow.array([values is None for values in lists], arrow.bool_()),
        )

    def _durations(self, loader: IntervalLoader, texts: "pa.Array") -> "pa.Array":
        known: dict[str | None, timedelta | None] = {None: None}
        for text in texts.unique().to_pylist():
            try:
                known[text] = None if text is None else loader.load(text.encode())
            except DataError as error:
                raise ValueError(str(error)) from error
        return self.arrow.array([known[text] for text in texts.to_pylist()], self.arrow.duration("us"))

    def _binaries(self, texts: "pa.Array") -> "pa.Array":
        load = ByteaLoader(0, None).load  # whether bytea_output is hex or escape
        return self.arrow.array(
            [None if text is None else load(text.encode()) for text in texts.to_pylist()], self.arrow.binary()
        )


def _whole(column: "pa.ChunkedArray") -> "pa.Array":
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _row_type(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Return what a generated function says its rows are: a model, or the type of their only column."""
    answer = inspect.get_annotations(function).get("return")
    for each in (answer, *get_args(answer)):
        if get_origin(each) in (list, Iterator):
            return get_args(each)[0]
    return None


def _columns_of_words(row: Any) -> frozenset[str | None]:  # noqa: ANN401
    """Return the columns whose texts have a pattern or are words of a list; None stands for the only column of a row."""
    if isinstance(row, type) and issubclass(row, BaseModel):
        return frozenset(
            name for name, (schema, _) in _fields(row).items() if schema["type"] in ("literal", "enum") or "pattern" in schema
        )
    try:
        schema, _ = _plain(dict(TypeAdapter(row).core_schema))
    except PydanticSchemaGenerationError:
        return frozenset()
    return frozenset({None}) if schema["type"] in ("literal", "enum") or "pattern" in schema else frozenset()


def _fields(model: type[BaseModel]) -> dict[str, tuple[Schema, bool]]:
    """Return what Pydantic checks of each column, and whether it may be null."""
    schema: Any = model.__pydantic_core_schema__
    known = {each["ref"]: each for each in schema.get("definitions", ())} if schema["type"] == "definitions" else {}
    while schema["type"] != "model-fields":
        schema = known[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    return {
        column: _plain(schema["fields"][name]["schema"], known)
        for column, name in zip(column_names(model), model.model_fields, strict=True)
    }


def _plain(schema: Schema, known: Mapping[str, Schema] | None = None) -> tuple[Schema, bool]:
    nullable = False
    while schema["type"] in ("default", "nullable", "definition-ref"):
        nullable |= schema["type"] == "nullable"
        schema = (known or {})[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    return schema, nullable or schema["type"] == "any"


# -- writing: Arrow or CSV as rows of a bulk statement ---------------------------------------------------------------------------------

COPY_OPTIONS = "(FORMAT csv, NULL '', ENCODING 'UTF8')"
"""How COPY FROM STDIN reads what copy_text_from_arrow gives."""


def is_arrow(rows: object) -> bool:
    """Tell whether rows are of Arrow: a table, batch or reader of pyarrow, or of whatever else speaks its interface (polars, DuckDB)."""
    return hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__")


def copy_text_from_arrow(rows: Any, model: type[BaseModel]) -> Iterator[tuple[int, bytes]]:  # noqa: ANN401
    """Yield rows of Arrow as the text that COPY reads with COPY_OPTIONS, and with how many rows they are.

    The columns have the model's order, whatever theirs is; a column that may be null may be missing. Memory does not grow with the
    number of rows. Ranges and jsonb are taken as text, as the server writes them.

    Raises:
        TypeError: a column is unknown, missing, or of a type that is not exactly the model's; nothing was yielded yet.
        ValueError: a value is null, or has more digits than the database keeps; names column and row.
    """
    arrow = _arrow()
    if hasattr(rows, "__arrow_c_stream__"):
        reader = arrow.RecordBatchReader.from_stream(rows)
    else:
        batch = arrow.record_batch(rows)
        reader = arrow.RecordBatchReader.from_batches(batch.schema, [batch])
    fields = _fields(model)
    _check_names(reader.schema.names, fields)
    writers = {name: _writer(arrow, name, fields[name][0], reader.schema.field(name).type) for name in reader.schema.names}
    done = 0
    for whole in reader:
        for begin in range(0, len(whole), _ROWS_A_WRITE):
            batch = whole.slice(begin, _ROWS_A_WRITE)
            columns = {}
            for name, write in writers.items():
                values = batch.column(name)
                _refuse_nulls(arrow, name, values, done, nullable=fields[name][1])
                try:
                    columns[name] = write(values)
                except arrow.ArrowInvalid as error:
                    raise ValueError(f"{name}, rows {done + 1} to {done + len(batch)}: {error}") from error
            yield len(batch), _csv(arrow, [columns.get(name) for name in fields], len(batch))
            done += len(batch)


def _check_names(names: Sequence[str], fields: Mapping[str, tuple[Schema, bool]]) -> None:
    if unknown := [name for name in names if name not in fields]:
        raise TypeError(f"there is no column {', '.join(unknown)}; there are {', '.join(fields)}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"column {', '.join(sorted(twice))} is there twice")
    if missing := [name for name, (_, nullable) in fields.items() if name not in names and not nullable]:
        raise TypeError(f"column {', '.join(missing)} is missing and takes no null")


def _refuse_nulls(arrow: Any, name: str, values: "pa.Array", done: int, *, nullable: bool) -> None:  # noqa: ANN401
    if values.null_count and not nullable:
        row = done + 1 + arrow.compute.index(values.is_null(), True).as_py()
        raise ValueError(f"row {row}: {name} is null; it takes no null")


def _csv(arrow: Any, columns: "Sequence[pa.Array | None]", count: int) -> bytes:  # noqa: ANN401
    arrays = [arrow.nulls(count) if column is None else column for column in columns]
    written = arrow.BufferOutputStream()
    arrow.csv.write_csv(
        arrow.RecordBatch.from_arrays(arrays, names=[str(at) for at in range(len(arrays))]),
        written,
        # Texts in quotes, nulls empty and without: '' stays ''.
        arrow.csv.WriteOptions(include_header=False, quoting_style="needed"),
    )
    return bytes(written.getvalue().to_pybytes())


def _writer(arrow: Any, name: str, schema: Schema, type_: "pa.DataType") -> "Callable[[pa.Array], pa.Array]":  # noqa: ANN401
    """Return what turns a column into one that CSV can hold, or refuse its type."""
    types = arrow.types
    if types.is_null(type_):
        return lambda values: values
    if types.is_dictionary(type_):
        decoded = _writer(arrow, name, schema, type_.value_type)
        return lambda values: decoded(values.dictionary_decode())
    kind, zone = schema["type"], schema.get("tz_constraint")
    if kind == "list" and (types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)):
        element = _writer(arrow, name, _plain(schema["items_schema"])[0], type_.value_type)
        return lambda values: _array_texts(arrow, values, element)
    wanted, fits, write = _FORMS.get(kind, ("string", _is_text, _as_text))
    if kind == "datetime":
        wanted = "timestamp with a time zone" if zone == "aware" else "timestamp without time zone" if zone else wanted
        fits = partial(_is_timestamp, zone)
    if not fits(types, type_):
        raise TypeError(f"column {name} is {type_}, not {wanted}{_HINTS.get(kind, '')}")
    return partial(write, arrow, schema)


def _is_text(types: Any, type_: "pa.DataType") -> bool:  # noqa: ANN401
    return bool(types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_))


def _is_timestamp(zone: str | None, types: Any, type_: "pa.DataType") -> bool:  # noqa: ANN401
    return bool(types.is_timestamp(type_)) and (zone is None or (zone == "aware") == (type_.tz is not None))


def _is_uuid(types: Any, type_: "pa.DataType") -> bool:  # noqa: ANN401
    return _is_text(types, type_) or str(type_) in ("fixed_size_binary[16]", "extension<arrow.uuid>")


def _is_bytes(types: Any, type_: "pa.DataType") -> bool:  # noqa: ANN401
    return bool(types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_))


def _as_it_is(_arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    return values


def _as_text(arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    return values.cast(arrow.string()) if arrow.types.is_string_view(values.type) else values


def _as_decimal(arrow: Any, schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    # The server would round without a word.
    places = schema.get("decimal_places")
    if arrow.types.is_integer(values.type) or places is None or values.type.scale <= places:
        return values
    make = arrow.decimal256 if arrow.types.is_decimal256(values.type) else arrow.decimal128
    return values.cast(make(values.type.precision, places))


def _as_moment(arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    return values.cast(arrow.timestamp("us", "UTC" if values.type.tz else None))


def _as_duration(arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    counted = values.cast(arrow.duration("us")).cast(arrow.int64()).cast(arrow.string())
    return arrow.compute.binary_join_element_wise(counted, "microseconds", " ")


def _as_time(arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    return values.cast(arrow.time64("us"))


def _as_date(arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    return values.cast(arrow.date32())


def _as_hex(arrow: Any, _schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    return arrow.array([None if value is None else rf"\x{value.hex()}" for value in values.to_pylist()], arrow.string())


def _as_uuid(arrow: Any, schema: Schema, values: "pa.Array") -> "pa.Array":  # noqa: ANN401
    if _is_text(arrow.types, values.type):
        return _as_text(arrow, schema, values)
    plain = values.storage if str(values.type).startswith("extension") else values
    return arrow.array([None if value is None else value.hex() for value in plain.to_pylist()], arrow.string())


_Form = tuple[str, Callable[[Any, Any], bool], Callable[[Any, Schema, Any], Any]]
_FORMS: dict[str, _Form] = {
    "int": ("an integer", lambda types, type_: types.is_integer(type_), _as_it_is),
    "bool": ("bool", lambda types, type_: types.is_boolean(type_), _as_it_is),
    "float": ("a float", lambda types, type_: types.is_floating(type_) or types.is_integer(type_), _as_it_is),
    "decimal": ("a decimal", lambda types, type_: types.is_decimal(type_) or types.is_integer(type_), _as_decimal),
    "datetime": ("a timestamp", lambda types, type_: types.is_timestamp(type_), _as_moment),
    "date": ("a date", lambda types, type_: types.is_date(type_), _as_date),
    "time": ("a time", lambda types, type_: types.is_time(type_), _as_time),
    "timedelta": ("a duration", lambda types, type_: types.is_duration(type_), _as_duration),
    "uuid": ("a string or 16 bytes", _is_uuid, _as_uuid),
    "bytes": ("binary", _is_bytes, _as_hex),
    "list": ("a list", lambda types, type_: types.is_list(type_), _as_it_is),
}
_HINTS = {
    "decimal": "; a float is not exact: cast it to decimal128",
    "datetime": "; say which zone with assume_timezone",
    "any": " of JSON",
}


def _array_texts(arrow: Any, values: "pa.Array", element: "Callable[[pa.Array], pa.Array]") -> "pa.Array":  # noqa: ANN401
    """Write lists as PostgreSQL writes arrays."""
    lengths = [length or 0 for length in arrow.compute.list_value_length(values).to_pylist()]
    texts = element(values.flatten()).cast(arrow.string()).to_pylist()
    quoted = ["NULL" if text is None else '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"' for text in texts]
    written: list[str | None] = []
    begin = 0
    for length, present in zip(lengths, values.is_valid().to_pylist(), strict=True):
        written.append("{" + ",".join(quoted[begin : begin + length]) + "}" if present else None)
        begin += length
    return arrow.array(written, arrow.string())
