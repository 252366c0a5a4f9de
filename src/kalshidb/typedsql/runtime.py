"""Running a statement under its contract, over a sync or an async connection.

The generated functions call in here; each promise a statement makes about its rows (exactly one, at most one, many, streamed, one value,
rows affected) is one method. Everything that does not wait for the server is shared; what waits is written twice, side by side.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, overload

import simplejson
from psycopg import AsyncConnection, AsyncRawCursor, AsyncRawServerCursor, Connection, RawCursor, RawServerCursor
from psycopg import Error as DatabaseError
from psycopg.pq import TransactionStatus
from psycopg.rows import RowMaker, no_result
from psycopg.types.array import ArrayLoader
from psycopg.types.json import Jsonb
from pydantic import BaseModel, TypeAdapter, ValidationError

from kalshidb.typedsql.errors import CardinalityError, LoadError, ParameterError, RowError
from kalshidb.typedsql.source import StatementSource

if TYPE_CHECKING:
    from psycopg import AsyncCursor, Cursor

Row = TypeVar("Row")
Model = TypeVar("Model", bound=BaseModel)
Params = Sequence[Any]
AnyConnection = Connection[Any] | AsyncConnection[Any]

_STREAM_ROWS = 2_000  # rows a round trip of a streamed statement: large enough to hide the round trip, small enough for memory
_stream_numbers = count()


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of the rows given to a bulk statement.

    Attributes:
        received: rows given.
        written: rows inserted or changed.
        inserted, updated: the same apart, where the table tells them apart; else None.
    """

    received: int
    written: int
    inserted: int | None = None
    updated: int | None = None

    @property
    def unchanged(self) -> int:
        """Rows that were stored already, are older than what is stored, or occurred again within the input."""
        return self.received - self.written


class Statement:
    """A statement of a SQL file, ready to run."""

    def __init__(self, source: StatementSource, sql: str) -> None:
        self.source = source
        self.sql = sql
        self.before: tuple[Statement, ...] = ()
        self.after: tuple[Statement, ...] = ()

    def link(self, room: Mapping[str, "Statement"]) -> None:
        """Find the steps that run before and after, among the statements of the same folder."""

        def find(names: Iterable[str]) -> tuple[Statement, ...]:
            for name in names:
                if f"{self.source.room}.{name}" not in room:
                    raise LoadError(
                        self.source.place, self.source.name, f"its step {name} is no statement of {self.source.room}/"
                    )
            return tuple(room[f"{self.source.room}.{name}"] for name in names)

        self.before, self.after = find(self.source.before), find(self.source.after)

    def checked(self, params: Params) -> Params:
        """Refuse what the server would take wrongly: None where it is not meant, and times without a zone.

        Raises:
            ParameterError: names the parameter; nothing was sent.
        """
        sent: list[Any] = []
        for name, value in zip(self.source.parameters, params, strict=True):
            if value is None and name not in self.source.nullable_parameters:
                raise self.wrong_parameter(f"parameter {name} is None; it takes no null")
            values = _several(value)
            if values is not None and any(each is None for each in values):
                raise self.wrong_parameter(f"parameter {name} has None in it; it takes no null")
            sent.append(value if values is None else values)
            for each in [value] if values is None else values:
                if isinstance(each, datetime) and each.utcoffset() is None:
                    raise self.wrong_parameter(f"parameter {name} {without_zone(each)}")
        return sent

    def wrong_parameter(self, problem: str) -> ParameterError:
        """Return the error for a value that may not be sent."""
        return ParameterError(self.source.place, self.source.full_name, problem)

    def explained(self, error: DatabaseError) -> None:
        """Add to a database error which statement it came from; type and SQLSTATE stay what they are."""
        error.add_note(f"{self.source.place}: {self.source.full_name}")

    def wrong_count(self, promised: str) -> CardinalityError:
        """Return the error for a broken promise of cardinality."""
        return CardinalityError(self.source.place, self.source.full_name, promised)

    # -- affected rows -----------------------------------------------------------------------------------------------------------

    @overload
    def affected(self, conn: Connection[Any], params: Params) -> int: ...
    @overload
    def affected(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, int]: ...
    def affected(self, conn: AnyConnection, params: Params) -> int | Coroutine[Any, Any, int]:
        """Run it and return how many rows it wrote."""
        if isinstance(conn, AsyncConnection):
            return self._affected_async(conn, params)
        with RawCursor(conn) as cursor:
            self._execute(cursor, params)
            return cursor.rowcount

    async def _affected_async(self, conn: AsyncConnection[Any], params: Params) -> int:
        async with AsyncRawCursor(conn) as cursor:
            await self._execute_async(cursor, params)
            return cursor.rowcount

    # -- executing, with the statement's name on every error ----------------------------------------------------------------------

    def _execute(self, cursor: "Cursor[Any]", params: Params) -> None:
        try:
            cursor.execute(self.sql.encode(), self.checked(params))
        except DatabaseError as error:
            self.explained(error)
            raise

    async def _execute_async(self, cursor: "AsyncCursor[Any]", params: Params) -> None:
        try:
            await cursor.execute(self.sql.encode(), self.checked(params))
        except DatabaseError as error:
            self.explained(error)
            raise


def _several(value: Any) -> list[Any] | None:  # noqa: ANN401  (whatever the caller gave)
    """Return a list of what a sequence holds, None for a single value. psycopg makes an array of a list only; of a tuple, a row."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview) else None


def without_zone(time: datetime) -> str:
    """Say what is wrong with a time that has no zone."""
    return f"has no time zone ({time.isoformat()}); write tzinfo=UTC or what zone it is in"


def as_jsonb(value: object) -> Jsonb | None:
    """Wrap a value for a jsonb parameter or column; Decimals become numbers digit for digit, None becomes null."""
    return None if value is None else Jsonb(value, dumps=_exact_json)


def _exact_json(value: object) -> str:
    # The standard library would write a Decimal by way of float.
    return simplejson.dumps(value, use_decimal=True, ensure_ascii=False)


class Rows(Generic[Row]):
    """A statement together with what its rows become: a model, or one value."""

    def __init__(self, statement: Statement, row_factory: "Callable[[Cursor[Any] | AsyncCursor[Any]], RowMaker[Row]]") -> None:
        self.statement = statement
        self._row_factory = row_factory

    @classmethod
    def of_model(cls, statement: Statement, model: type[Model]) -> "Rows[Model]":
        """Rows become validated models."""
        return Rows(statement, _model_rows(statement, model))

    @classmethod
    def of_value(cls, statement: Statement, type_: Any = None) -> "Rows[Any]":  # noqa: ANN401
        """Rows become their only column; of a type that only Python and the database know (an enum), if one is given."""
        return Rows(statement, _value_rows if type_ is None else _typed_value_rows(statement, type_))

    @overload
    def many(self, conn: Connection[Any], params: Params) -> list[Row]: ...
    @overload
    def many(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, list[Row]]: ...
    def many(self, conn: AnyConnection, params: Params) -> list[Row] | Coroutine[Any, Any, list[Row]]:
        """Run it and return all rows."""
        if isinstance(conn, AsyncConnection):
            return self._many_async(conn, params)
        with RawCursor(conn, row_factory=self._row_factory) as cursor:
            self.statement._execute(cursor, params)
            return cursor.fetchall()

    async def _many_async(self, conn: AsyncConnection[Any], params: Params) -> list[Row]:
        async with AsyncRawCursor(conn, row_factory=self._row_factory) as cursor:
            await self.statement._execute_async(cursor, params)
            return await cursor.fetchall()

    @overload
    def optional(self, conn: Connection[Any], params: Params) -> Row | None: ...
    @overload
    def optional(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, Row | None]: ...
    def optional(self, conn: AnyConnection, params: Params) -> Row | None | Coroutine[Any, Any, Row | None]:
        """Run it and return its row, or None; a second row is a CardinalityError."""
        if isinstance(conn, AsyncConnection):
            return self._optional_async(conn, params)
        return self._at_most_one(self.many(conn, params))

    async def _optional_async(self, conn: AsyncConnection[Any], params: Params) -> Row | None:
        return self._at_most_one(await self._many_async(conn, params))

    @overload
    def one(self, conn: Connection[Any], params: Params) -> Row: ...
    @overload
    def one(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, Row]: ...
    def one(self, conn: AnyConnection, params: Params) -> Row | Coroutine[Any, Any, Row]:
        """Run it and return its row; any other number of rows is a CardinalityError."""
        if isinstance(conn, AsyncConnection):
            return self._one_async(conn, params)
        return self._exactly_one(self.many(conn, params))

    async def _one_async(self, conn: AsyncConnection[Any], params: Params) -> Row:
        return self._exactly_one(await self._many_async(conn, params))

    def _at_most_one(self, rows: list[Row]) -> Row | None:
        if len(rows) > 1:
            raise self.statement.wrong_count(f"at most one row is promised, {len(rows)} came")
        return rows[0] if rows else None

    def _exactly_one(self, rows: list[Row]) -> Row:
        if len(rows) != 1:
            raise self.statement.wrong_count(f"exactly one row is promised, {len(rows)} came")
        return rows[0]

    @overload
    def stream(self, conn: Connection[Any], params: Params) -> Iterator[Row]: ...
    @overload
    def stream(self, conn: AsyncConnection[Any], params: Params) -> AsyncIterator[Row]: ...
    def stream(self, conn: AnyConnection, params: Params) -> Iterator[Row] | AsyncIterator[Row]:
        """Run it and yield row after row through a server-side cursor; memory does not grow with their number.

        Reads in the transaction that is open. In autocommit mode the server sets the whole result aside first and no transaction stays
        open, so that whoever stops early, or writes meanwhile, changes nothing for the rest.
        """
        if isinstance(conn, AsyncConnection):
            return self._stream_async(conn, params)
        return self._stream_sync(conn, params)

    def _stream_sync(self, conn: Connection[Any], params: Params) -> Iterator[Row]:
        with RawServerCursor(conn, self._cursor_name(), row_factory=self._row_factory, withhold=_alone(conn)) as cursor:
            cursor.itersize = _STREAM_ROWS
            self.statement._execute(cursor, params)
            try:
                yield from cursor
            except DatabaseError as error:
                self.statement.explained(error)
                raise

    async def _stream_async(self, conn: AsyncConnection[Any], params: Params) -> AsyncIterator[Row]:
        name = self._cursor_name()
        async with AsyncRawServerCursor(conn, name, row_factory=self._row_factory, withhold=_alone(conn)) as cursor:
            cursor.itersize = _STREAM_ROWS
            await self.statement._execute_async(cursor, params)
            try:
                async for row in cursor:
                    yield row
            except DatabaseError as error:
                self.statement.explained(error)
                raise

    def _cursor_name(self) -> str:
        # Numbered: one stream may be read inside another of the same statement.
        return f"{self.statement.source.full_name} {next(_stream_numbers)}"


def _alone(conn: AnyConnection) -> bool:
    """Tell whether a statement on this connection would be a transaction of its own."""
    return conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE


def _value_rows(cursor: "Cursor[Any] | AsyncCursor[Any]") -> RowMaker[Any]:
    return lambda values: values[0]


def _typed_value_rows(statement: Statement, type_: Any) -> "Callable[[Cursor[Any] | AsyncCursor[Any]], RowMaker[Any]]":  # noqa: ANN401
    validate = TypeAdapter(type_).validate_python

    def factory(cursor: "Cursor[Any] | AsyncCursor[Any]") -> RowMaker[Any]:
        array = _Texts(0, cursor)

        def make(values: Sequence[Any]) -> Any:  # noqa: ANN401  (whatever the type is)
            (value,) = values
            if value is None:
                return None
            try:
                return validate(array.load(value.encode()) if _is_list(type_) and isinstance(value, str) else value)
            except ValidationError as error:
                raise row_error(statement, error) from error

        return make

    return factory


def _model_rows(statement: Statement, model: type[Model]) -> "Callable[[Cursor[Any] | AsyncCursor[Any]], RowMaker[Model]]":
    # The core validator called directly: model_validate() would cost one more Python call a row.
    validate = model.__pydantic_validator__.validate_python

    wanted = frozenset(column_names(model))
    lists = frozenset(
        name for name, field in zip(column_names(model), model.model_fields.values(), strict=True) if _is_list(field.annotation)
    )

    def factory(cursor: "Cursor[Any] | AsyncCursor[Any]") -> RowMaker[Model]:
        if cursor.description is None:
            return no_result
        # A column that a later migration added is no concern of this code: it is left out, so that old code reads new databases.
        known = [(at, column.name) for at, column in enumerate(cursor.description) if column.name in wanted]
        # psycopg knows no types that were made in the database, so an array of such comes as text: as an array of texts it validates.
        unknown = [
            (at, column.name)
            for at, column in enumerate(cursor.description)
            if column.name in lists and cursor.adapters.types.get(column.type_code) is None
        ]
        array = _Texts(0, cursor) if unknown else None

        def make(values: Sequence[Any]) -> Model:
            row = {name: values[at] for at, name in known}
            if array is not None:
                row |= {name: array.load(values[at].encode()) for at, name in unknown if values[at] is not None}
            try:
                return validate(row)  # type: ignore[no-any-return]
            except ValidationError as error:
                raise row_error(statement, error) from error

        return make

    return factory


class _Texts(ArrayLoader):
    base_oid = 25  # text


def _is_list(annotation: object) -> bool:
    return any(get_origin(each) is list for each in (annotation, *get_args(annotation)))


def column_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the database's names of a model's fields; they differ where the name is taken in Python (`class_` for class)."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def row_error(statement: Statement, error: ValidationError) -> RowError:
    """Say which field of a row does not fit, in the statement's name."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return RowError(
        statement.source.place,
        statement.source.full_name,
        f"column {where}: {first['msg']} (value {first['input']!r:.200})",
    )
