"""Many rows at once: COPY into a temporary table, then the statement that stands in the SQL file, in one transaction.

The staging table is made like the target's columns, so that domains and their checks apply while rows arrive. Nothing is written
unless everything is: a failure leaves the database as it was. Rows are made into text some hundred at a time, while the server
takes in those before; memory does not grow with their number.
"""

import csv
import io
import re
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

from psycopg import AsyncConnection, AsyncCursor, AsyncRawCursor, Connection, Cursor, RawCursor, sql
from psycopg import Error as DatabaseError
from psycopg import errors as pg
from psycopg.adapt import Transformer
from psycopg.rows import DictRow, dict_row
from pydantic import BaseModel

from kalshidb.typedsql import staging
from kalshidb.typedsql.errors import DuplicateRowError
from kalshidb.typedsql.reading import column_names
from kalshidb.typedsql.runtime import AnyConnection, BulkResult, Statement, as_jsonb, as_jsonb_array
from kalshidb.typedsql.writing import CopyText, RowValueError

Model = TypeVar("Model", bound=BaseModel)
OnDuplicate: TypeAlias = Literal["last", "error"]

_CONFLICT = re.compile(r"\bON\s+CONFLICT\s*\(\s*(?P<columns>\w+(?:\s*,\s*\w+)*)\s*\)", re.IGNORECASE)
_REPLAYED_IN_MEMORY = 16 << 20  # bytes of a batch believed new that are held in memory in case it is not; the rest goes to a file

_REFUSED_BY_DOMAINS = (pg.CheckViolation, pg.NotNullViolation)

# What shows that keys believed new are not, or that a partition or a parent is missing: the statement's own way puts that right.
_NOT_NEW = (pg.UniqueViolation, pg.ForeignKeyViolation, pg.CheckViolation, pg.NotNullViolation, pg.DeadlockDetected)


@runtime_checkable
class ArrowStream(Protocol):
    """Anything that speaks Arrow's stream interface: a pyarrow table or reader, a polars frame, a DuckDB result."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the stream."""
        ...


@dataclass(frozen=True, slots=True)
class _Input:
    """Rows on their way: how COPY is told to read them, and pieces of that with the number of rows in each (None: not counted)."""

    columns: sql.Composable
    options: sql.SQL
    pieces: Iterator[tuple[int | None, bytes]]


class BulkRows(Generic[Model]):
    """A bulk statement together with the model of the rows it takes."""

    def __init__(
        self, statement: Statement, model: type[Model], jsonb: Sequence[str] = (), jsonb_arrays: Sequence[str] = ()
    ) -> None:
        bulk = statement.source.bulk
        if bulk is None:
            raise TypeError(f"{statement.source.full_name} is no bulk statement")
        self.statement = statement
        self.model = model
        self._names = column_names(model)
        self._text = CopyText(model, self._names, dict.fromkeys(jsonb, as_jsonb) | dict.fromkeys(jsonb_arrays, as_jsonb_array))
        self._columns = sql.SQL(", ").join([sql.Identifier(name) for name in self._names])
        self._staging, self._target = sql.Identifier(bulk.staging), sql.Identifier(*bulk.like.split("."))
        schema, _, table = bulk.like.partition(".")
        self._defined = staging.columns((schema, table), self._names)
        self._typed = staging.typed(bulk.staging, (schema, table), self._names)
        self._staged_again = sql.SQL("COPY (SELECT {columns} FROM {before} ORDER BY {position}) TO STDOUT").format(
            columns=self._columns, before=staging.before(bulk.staging), position=sql.Identifier(staging.POSITION)
        )
        self._made = sql.SQL("SELECT to_regclass({name}) IS NOT NULL AS made").format(name=f"pg_temp.{bulk.staging}")
        self._empty = sql.SQL("TRUNCATE {staging} RESTART IDENTITY").format(staging=self._staging)
        # Only a table of which every column is given can be copied into as it stands.
        self._straight = not bulk.without
        self._copy_text = sql.SQL("COPY {} ({}) FROM STDIN").format(self._staging, self._columns)
        key = _CONFLICT.search(statement.source.sql)
        self._key = tuple(re.split(r"\s*,\s*", key["columns"])) if key else ()

    @overload
    def write(
        self,
        conn: Connection[Any],
        rows: Iterable[Model | tuple[Any, ...]] | ArrowStream | bytes,
        *,
        on_duplicate: OnDuplicate = "last",
        known_new: bool = False,
    ) -> BulkResult: ...
    @overload
    def write(
        self,
        conn: AsyncConnection[Any],
        rows: Iterable[Model | tuple[Any, ...]] | ArrowStream | bytes,
        *,
        on_duplicate: OnDuplicate = "last",
        known_new: bool = False,
    ) -> Coroutine[Any, Any, BulkResult]: ...
    def write(
        self,
        conn: AnyConnection,
        rows: Iterable[Model | tuple[Any, ...]] | ArrowStream | bytes,
        *,
        on_duplicate: OnDuplicate = "last",
        known_new: bool = False,
    ) -> BulkResult | Coroutine[Any, Any, BulkResult]:
        """Write rows; all or nothing.

        Args:
            conn: where to.
            rows: models, or tuples in the order of the model's fields; or an Arrow table or stream, or CSV with a header line, whose
                columns are found by name.
            on_duplicate: `last`: of rows with one key the statement decides, by its custom for the last; `error`: refuse them.
            known_new: the keys are believed to be new, so try the table itself first. Should they not be, nothing is lost but time.

        Raises:
            DuplicateRowError: two rows have one key, with `on_duplicate="error"`; names both.
            ParameterError: a row cannot be sent; names row and field.
            psycopg.Error: the database refuses a row; its context names the row.
        """
        source = self._input(rows)
        straight = known_new and self._straight and on_duplicate == "last"
        if isinstance(conn, AsyncConnection):
            return self._write_async(conn, source, on_duplicate, straight=straight)
        with conn.transaction(), RawCursor(conn, row_factory=dict_row) as cursor:
            try:
                if straight:
                    with SpooledTemporaryFile[bytes](_REPLAYED_IN_MEMORY) as copied:
                        if (received := self._copied_straight(conn, cursor, source, copied)) is not None:
                            return BulkResult(received, received)
                        return self._staged(cursor, _replayed(source, copied), on_duplicate)
                return self._staged(cursor, source, on_duplicate)
            except DatabaseError as error:
                self.statement.explained(error)
                raise
            except RowValueError as error:
                raise self.statement.wrong_parameter(str(error)) from None

    def _staged(self, cursor: "Cursor[DictRow]", source: _Input, on_duplicate: OnDuplicate) -> BulkResult:
        cursor.execute(self._made)
        if _only(cursor.fetchone())["made"]:
            cursor.execute(self._empty)
        else:
            cursor.execute(self._defined)
            cursor.execute(self._create(cursor.fetchone()))
        with cursor.copy(self._copy_into(self._staging, source)) as copy:
            for _, piece in source.pieces:
                copy.write(piece)
        received = cursor.rowcount
        if not received:
            return self._nothing()
        if on_duplicate == "error":
            cursor.execute(self._duplicates())
            self._refuse_duplicates(cursor.fetchone())
        try:
            # What a domain refuses is looked for among the staged rows, which have to be there still.
            with cursor.connection.transaction():
                for step in self.statement.before:
                    cursor.execute(step.query)
                cursor.execute(self.statement.query)
                counts = cursor.fetchone()
                for step in self.statement.after:
                    cursor.execute(step.query)
        except _REFUSED_BY_DOMAINS as error:
            if _is_of_a_domain(error):
                self._stage_again(cursor)
            raise
        return self._result(received, counts)

    def _stage_again(self, cursor: "Cursor[DictRow]") -> None:
        """Copy the staged rows into a table with the domains, for the error that names the row."""
        for step in self._typed:
            cursor.execute(step)
        with SpooledTemporaryFile[bytes](_REPLAYED_IN_MEMORY) as spool:
            with cursor.copy(self._staged_again) as copy:
                for piece in copy:
                    spool.write(piece)
            spool.seek(0)
            with cursor.copy(self._copy_text) as copy:
                while some := spool.read(1 << 20):
                    copy.write(some)

    def _copied_straight(
        self, conn: Connection[Any], cursor: "Cursor[DictRow]", source: _Input, copied: "SpooledTemporaryFile[bytes]"
    ) -> int | None:
        """Copy into the table itself and return how many rows went, or None when they cannot go that way; keeps what it has read."""
        with suppress(*_NOT_NEW), conn.transaction():
            with cursor.copy(self._copy_into(self._target, source)) as copy:
                for _, piece in source.pieces:
                    copied.write(piece)
                    copy.write(piece)
            return cursor.rowcount
        return None

    async def _write_async(
        self, conn: AsyncConnection[Any], source: _Input, on_duplicate: OnDuplicate, *, straight: bool
    ) -> BulkResult:
        async with conn.transaction(), AsyncRawCursor(conn, row_factory=dict_row) as cursor:
            try:
                if straight:
                    with SpooledTemporaryFile[bytes](_REPLAYED_IN_MEMORY) as copied:
                        if (received := await self._copied_straight_async(conn, cursor, source, copied)) is not None:
                            return BulkResult(received, received)
                        return await self._staged_async(cursor, _replayed(source, copied), on_duplicate)
                return await self._staged_async(cursor, source, on_duplicate)
            except DatabaseError as error:
                self.statement.explained(error)
                raise
            except RowValueError as error:
                raise self.statement.wrong_parameter(str(error)) from None

    async def _staged_async(self, cursor: "AsyncCursor[DictRow]", source: _Input, on_duplicate: OnDuplicate) -> BulkResult:
        await cursor.execute(self._made)
        if _only(await cursor.fetchone())["made"]:
            await cursor.execute(self._empty)
        else:
            await cursor.execute(self._defined)
            await cursor.execute(self._create(await cursor.fetchone()))
        async with cursor.copy(self._copy_into(self._staging, source)) as copy:
            for _, piece in source.pieces:
                await copy.write(piece)
        received = cursor.rowcount
        if not received:
            return self._nothing()
        if on_duplicate == "error":
            await cursor.execute(self._duplicates())
            self._refuse_duplicates(await cursor.fetchone())
        try:
            async with cursor.connection.transaction():
                for step in self.statement.before:
                    await cursor.execute(step.query)
                await cursor.execute(self.statement.query)
                counts = await cursor.fetchone()
                for step in self.statement.after:
                    await cursor.execute(step.query)
        except _REFUSED_BY_DOMAINS as error:
            if _is_of_a_domain(error):
                await self._stage_again_async(cursor)
            raise
        return self._result(received, counts)

    async def _stage_again_async(self, cursor: "AsyncCursor[DictRow]") -> None:
        for step in self._typed:
            await cursor.execute(step)
        with SpooledTemporaryFile[bytes](_REPLAYED_IN_MEMORY) as spool:
            async with cursor.copy(self._staged_again) as copy:
                async for piece in copy:
                    spool.write(piece)
            spool.seek(0)
            async with cursor.copy(self._copy_text) as copy:
                while some := spool.read(1 << 20):
                    await copy.write(some)

    async def _copied_straight_async(
        self, conn: AsyncConnection[Any], cursor: "AsyncCursor[DictRow]", source: _Input, copied: "SpooledTemporaryFile[bytes]"
    ) -> int | None:
        with suppress(*_NOT_NEW):
            async with conn.transaction():
                async with cursor.copy(self._copy_into(self._target, source)) as copy:
                    for _, piece in source.pieces:
                        copied.write(piece)
                        await copy.write(piece)
                return cursor.rowcount
        return None

    # -- what arrives ------------------------------------------------------------------------------------------------------------

    def _input(self, rows: Iterable[Model | tuple[Any, ...]] | ArrowStream | bytes) -> _Input:
        if isinstance(rows, bytes | bytearray | memoryview):
            return self._csv(bytes(rows))
        if isinstance(rows, ArrowStream):
            return self._arrow(rows)
        return _Input(self._columns, sql.SQL(""), self._text.chunks(rows, Transformer()))

    def _csv(self, content: bytes) -> _Input:
        """Read the header line for the order of the columns; the server reads the rest."""
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        header = next(csv.reader(text), [])
        self._known(header)
        columns = sql.SQL(", ").join([sql.Identifier(name) for name in header])
        return _Input(columns, sql.SQL(" WITH (FORMAT csv, HEADER true)"), iter([(None, content.removeprefix(b"\xef\xbb\xbf"))]))

    def _arrow(self, table: ArrowStream) -> _Input:
        from kalshidb.typedsql.arrow import COPY_OPTIONS, copy_text_from_arrow  # noqa: PLC0415  (pyarrow is an extra)

        return _Input(self._columns, sql.SQL(" WITH " + COPY_OPTIONS), self._explained(copy_text_from_arrow(table, self.model)))

    def _explained(self, pieces: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        try:
            yield from pieces
        except (TypeError, ValueError) as error:
            raise self.statement.wrong_parameter(str(error)) from error

    def _known(self, header: Sequence[str]) -> None:
        required = {
            name for name, field in zip(self._names, self.model.model_fields.values(), strict=True) if field.is_required()
        }
        unknown, missing = [name for name in header if name not in self._names], sorted(required - set(header))
        if unknown or missing or len(set(header)) != len(header):
            problem = (
                f"unknown column {unknown[0]!r}"
                if unknown
                else f"no column {missing[0]!r}"
                if missing
                else "a column occurs twice"
            )
            raise self.statement.wrong_parameter(f"header line of the CSV: {problem}; the columns are {', '.join(self._names)}")

    # -- what is sent ------------------------------------------------------------------------------------------------------------

    def _create(self, defined: DictRow | None) -> bytes:
        bulk = self.statement.source.bulk
        assert bulk is not None  # noqa: S101  (else there is no BulkRows)
        return staging.create(bulk.staging, _only(defined)["columns"])

    def _copy_into(self, table: sql.Identifier, source: _Input) -> sql.Composed:
        return sql.SQL("COPY {table} ({columns}) FROM STDIN{options}").format(
            table=table, columns=source.columns, options=source.options
        )

    def _duplicates(self) -> sql.Composed:
        if not self._key:
            raise self.statement.wrong_parameter("on_duplicate='error' needs a statement with ON CONFLICT (columns)")
        key = sql.SQL(", ").join(map(sql.Identifier, self._key))
        position = sql.Identifier(staging.POSITION)
        return sql.SQL(
            "SELECT min({position}) AS first, max({position}) AS second, row({key})::text AS key FROM {staging} "
            "GROUP BY {key} HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
        ).format(position=position, key=key, staging=self._staging)

    def _refuse_duplicates(self, found: DictRow | None) -> None:
        if found is not None:
            raise DuplicateRowError(
                self.statement.source.place,
                self.statement.source.full_name,
                f"rows {found['first']} and {found['second']} have one key, ({', '.join(self._key)}) = {found['key']}",
            )

    def _result(self, received: int, counts: DictRow | None) -> BulkResult:
        if counts is None:
            raise self.statement.wrong_count("a bulk statement answers one row of counts, none came")
        if "written" in counts:
            return BulkResult(received, counts["written"], filed=counts.get("filed"), conflicting=counts.get("conflicting"))
        return BulkResult(received, counts["inserted"] + counts["updated"], counts["inserted"], counts["updated"])

    @staticmethod
    def _nothing() -> BulkResult:
        return BulkResult(0, 0, 0, 0)


def _replayed(source: _Input, copied: "SpooledTemporaryFile[bytes]") -> _Input:
    """Return the same input again: first what was read already, then the rest."""

    def again() -> Iterator[tuple[int | None, bytes]]:
        copied.seek(0)
        while piece := copied.read(1 << 20):
            yield None, piece

    return _Input(source.columns, source.options, chain(again(), source.pieces))


def _is_of_a_domain(error: DatabaseError) -> bool:
    return error.diag.datatype_name is not None and error.diag.table_name is None


def _only(row: DictRow | None) -> DictRow:
    assert row is not None  # noqa: S101  (a SELECT without FROM answers one row)
    return row
