"""Running a statement under its contract, over a sync or an async connection.

The generated functions call in here; each promise a statement makes about its rows (exactly one, at most one, many, streamed, one value,
rows affected) is one method. Everything that does not wait for the server is shared; what waits is written twice, side by side.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from types import NoneType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from uuid import UUID

import simplejson
from psycopg import AsyncConnection, AsyncRawCursor, AsyncRawServerCursor, Connection, RawCursor, RawServerCursor
from psycopg import Error as DatabaseError
from psycopg.adapt import PyFormat
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from pydantic import BaseModel, ValidationError

from kalshidb.typedsql.errors import CardinalityError, LoadError, ParameterError, RowError
from kalshidb.typedsql.reading import ModelReader, Reader, ValueReader
from kalshidb.typedsql.source import StatementSource

if TYPE_CHECKING:
    from psycopg import AsyncCursor, Cursor
    from psycopg.abc import Dumper, Loader

Row = TypeVar("Row")
Model = TypeVar("Model", bound=BaseModel)
Params = Sequence[Any]
AnyConnection = Connection[Any] | AsyncConnection[Any]

_PLAIN = frozenset({str, int, bool, Decimal, UUID})  # values that need no second look before they are sent
_STREAM_ROWS = 2_000  # rows a round trip of a streamed statement: large enough to hide the round trip, small enough for memory
_stream_numbers = count()


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of the rows given to a bulk statement.

    Attributes:
        received: rows given.
        written: rows inserted or changed.
        inserted, updated: the same apart, where the table tells them apart; else None.
        filed: of those written, how many went into the past of what is stored, where the table keeps history; else None.
        conflicting: rows left out because what is stored contradicts them, where the statement looks for such; else None.
    """

    received: int
    written: int
    inserted: int | None = None
    updated: int | None = None
    filed: int | None = None
    conflicting: int | None = None

    @property
    def unchanged(self) -> int:
        """Rows that were stored already, are older than what is stored, or occurred again within the input."""
        return self.received - self.written - (self.conflicting or 0)


class Statement:
    """A statement of a SQL file, ready to run."""

    def __init__(self, source: StatementSource, sql: str) -> None:
        self.source = source
        self.sql = sql
        self.query = sql.encode()
        self.before: tuple[Statement, ...] = ()
        self.after: tuple[Statement, ...] = ()
        self.zoneless: frozenset[str] = frozenset()

    def taking_zoneless(self, *parameters: str) -> "Statement":
        """Let parameters take times without a zone, and no others: their type in the database is timestamp."""
        self.zoneless = frozenset(parameters)
        return self

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
        """Refuse what the server would take wrongly: None where it is not meant, times without a zone, or with one where none is stored,
        lists that do not pair up.

        Raises:
            ParameterError: names the parameter; nothing was sent.
        """
        if _PLAIN.issuperset(map(type, params)):
            return params
        sent: list[Any] = []
        for name, value in zip(self.source.parameters, params, strict=True):
            zoneless = name in self.zoneless
            if type(value) in _PLAIN or (type(value) is datetime and (value.utcoffset() is None) is zoneless):
                sent.append(value)
                continue
            if value is None and name not in self.source.nullable_parameters:
                raise self.wrong_parameter(f"parameter {name} is None; it takes no null")
            values = _several(value)
            if values is not None and any(each is None for each in values):
                raise self.wrong_parameter(f"parameter {name} has None in it; it takes no null")
            sent.append(value if values is None else values)
            for each in [value] if values is None else values:
                if isinstance(each, datetime) and (each.utcoffset() is None) is not zoneless:
                    raise self.wrong_parameter(f"parameter {name} {wrong_zone(each)}")
        for together in self.source.paired_parameters:
            self._refuse_unequal(together, dict(zip(self.source.parameters, sent, strict=True)))
        return sent

    def _refuse_unequal(self, together: tuple[str, ...], sent: Mapping[str, Any]) -> None:
        # What is no list has no length to compare; the server says what it thinks of it.
        lengths = [(name, len(sent[name])) for name in together if isinstance(sent[name], list)]
        if len({length for _, length in lengths}) > 1:
            told = " and ".join(f"{name} ({length})" for name, length in lengths)
            raise self.wrong_parameter(f"parameters {told} have unequal lengths; their elements go together, one with one")

    def wrong_parameter(self, problem: str) -> ParameterError:
        """Return the error for a value that may not be sent."""
        return ParameterError(self.source.place, self.source.full_name, problem)

    def explained(self, error: DatabaseError, params: Params = ()) -> None:
        """Add to a database error which statement it came from; type and SQLSTATE stay what they are.

        Of a value that is refused PostgreSQL often names the rule only: then the note has the values that were sent.
        """
        values = ""
        if params and (error.sqlstate or "").startswith(("22", "23")):
            sent = zip(self.source.parameters, params, strict=True)
            values = f"({', '.join(f'{name}={value!r:.80}' for name, value in sent)})"
        error.add_note(f"{self.source.place}: {self.source.full_name}{values}")

    def misfit(self, error: ValidationError) -> RowError:
        """Return the error for a row that does not fit its model; it names the column."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"column {where}: {first['msg']} (value {first['input']!r:.200})"
        if first["type"] == "finite_number":
            problem += (
                "; leave such rows out, say what they mean (NULLIF(…, 'NaN')), or cast to double precision, which may be infinite"
            )
        return RowError(self.source.place, self.source.full_name, problem)

    def wrong_count(self, promised: str) -> CardinalityError:
        """Return the error for a broken promise of cardinality."""
        return CardinalityError(self.source.place, self.source.full_name, promised)

    # -- affected rows -----------------------------------------------------------------------------------------------------------

    @overload
    def affected(self, conn: Connection[Any], params: Params) -> int: ...
    @overload
    def affected(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, int]: ...
    def affected(self, conn: AnyConnection, params: Params) -> int | Coroutine[Any, Any, int]:
        """Run it and return how many rows it wrote, or answered; 0 where the server does not count (CALL, REFRESH)."""
        if isinstance(conn, AsyncConnection):
            return self._affected_async(conn, params)
        with RawCursor(conn) as cursor:
            self._execute(cursor, params)
            return max(cursor.rowcount, 0)

    async def _affected_async(self, conn: AsyncConnection[Any], params: Params) -> int:
        async with AsyncRawCursor(conn) as cursor:
            await self._execute_async(cursor, params)
            return max(cursor.rowcount, 0)

    # -- executing, with the statement's name on every error ----------------------------------------------------------------------

    def _execute(self, cursor: "Cursor[Any]", params: Params) -> None:
        try:
            cursor.execute(self.query, self.checked(params))
        except DatabaseError as error:
            self.explained(error, params)
            raise

    async def _execute_async(self, cursor: "AsyncCursor[Any]", params: Params) -> None:
        try:
            await cursor.execute(self.query, self.checked(params))
        except DatabaseError as error:
            self.explained(error, params)
            raise


def _several(value: Any) -> list[Any] | None:  # noqa: ANN401  (whatever the caller gave)
    """Return a list of what a sequence holds, None for a single value. psycopg makes an array of a list only; of a tuple, a row."""
    single = not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview | Multirange)
    return None if single else list(value)


def wrong_zone(time: datetime) -> str:
    """Say what is wrong with a time that has no zone, or one where the database stores none."""
    if time.utcoffset() is None:
        return f"has no time zone ({time.isoformat()}); write tzinfo=UTC or what zone it is in"
    return f"has a time zone ({time.isoformat()}) and its type in the database has none; write .replace(tzinfo=None)"


def as_jsonb(value: object) -> Jsonb | None:
    """Wrap a value for a jsonb parameter or column; Decimals become numbers digit for digit, None becomes null."""
    return None if value is None else Jsonb(value, dumps=_exact_json)


def as_jsonb_array(values: Iterable[object] | None) -> list[Jsonb | None] | None:
    """Wrap the values for an array of jsonb."""
    return None if values is None else [as_jsonb(value) for value in values]


def _exact_json(value: object) -> str:
    # The standard library would write a Decimal by way of float.
    return simplejson.dumps(value, use_decimal=True, ensure_ascii=False, default=_plain_json)


def _plain_json(value: object) -> object:
    """Return what a typed json value is made of."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


class Rows(Generic[Row]):
    """A statement together with what its rows become: a model, or one value."""

    def __init__(self, statement: Statement, reader: Reader[Row]) -> None:
        self.statement = statement
        self.reader = reader

    @classmethod
    def of_model(cls, statement: Statement, model: type[Model]) -> "Rows[Model]":
        """Rows become validated models."""
        return Rows(statement, ModelReader(model, statement.misfit))

    @classmethod
    def of_value(cls, statement: Statement, type_: Any = None) -> "Rows[Any]":  # noqa: ANN401
        """Rows become their only column; of a type that only Python and the database know (an enum), if one is given."""
        return Rows(statement, ValueReader(type_, statement.misfit))

    @overload
    def many(self, conn: Connection[Any], params: Params) -> list[Row]: ...
    @overload
    def many(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, list[Row]]: ...
    def many(self, conn: AnyConnection, params: Params) -> list[Row] | Coroutine[Any, Any, list[Row]]:
        """Run it and return all rows."""
        if isinstance(conn, AsyncConnection):
            return self._many_async(conn, params)
        # Not closed: what a client-side cursor holds goes with it.
        cursor = RawCursor(conn, row_factory=tuple_row)
        self.statement._execute(cursor, params)
        return self.reader.read(cursor, cursor.fetchall())

    async def _many_async(self, conn: AsyncConnection[Any], params: Params) -> list[Row]:
        cursor = AsyncRawCursor(conn, row_factory=tuple_row)
        await self.statement._execute_async(cursor, params)
        return self.reader.read(cursor, await cursor.fetchall())

    @overload
    def optional(self, conn: Connection[Any], params: Params) -> Row | None: ...
    @overload
    def optional(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, Row | None]: ...
    def optional(self, conn: AnyConnection, params: Params) -> Row | None | Coroutine[Any, Any, Row | None]:
        """Run it and return its row, or None; a second row is a CardinalityError."""
        if isinstance(conn, AsyncConnection):
            return self._optional_async(conn, params)
        kept = _taken(conn, self, params) or _Kept(RawCursor(conn, row_factory=tuple_row))
        self.statement._execute(kept.cursor, params)
        row = kept.cursor.fetchone()
        if row is None:
            kept.put_back(self)
            return None
        return self._only(kept, row, "at most")

    async def _optional_async(self, conn: AsyncConnection[Any], params: Params) -> Row | None:
        kept = _taken(conn, self, params) or _Kept(AsyncRawCursor(conn, row_factory=tuple_row))
        await self.statement._execute_async(kept.cursor, params)
        row = await kept.cursor.fetchone()
        if row is None:
            kept.put_back(self)
            return None
        return self._only(kept, row, "at most")

    @overload
    def one(self, conn: Connection[Any], params: Params) -> Row: ...
    @overload
    def one(self, conn: AsyncConnection[Any], params: Params) -> Coroutine[Any, Any, Row]: ...
    def one(self, conn: AnyConnection, params: Params) -> Row | Coroutine[Any, Any, Row]:
        """Run it and return its row; any other number of rows is a CardinalityError."""
        if isinstance(conn, AsyncConnection):
            return self._one_async(conn, params)
        kept = _taken(conn, self, params) or _Kept(RawCursor(conn, row_factory=tuple_row))
        self.statement._execute(kept.cursor, params)
        return self._only(kept, kept.cursor.fetchone(), "exactly")

    async def _one_async(self, conn: AsyncConnection[Any], params: Params) -> Row:
        kept = _taken(conn, self, params) or _Kept(AsyncRawCursor(conn, row_factory=tuple_row))
        await self.statement._execute_async(kept.cursor, params)
        return self._only(kept, await kept.cursor.fetchone(), "exactly")

    def _only(self, kept: "_Kept", row: TupleRow | None, promise: str) -> Row:
        if row is None:
            raise self.statement.wrong_count(f"{promise} one row is promised, 0 came")
        if (count := kept.cursor.rowcount) > 1:
            raise self.statement.wrong_count(f"{promise} one row is promised, {count} came")
        made = self.reader.read(kept.cursor, (row,))[0]
        kept.put_back(self)
        return made

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
        with RawServerCursor(conn, self._cursor_name(), row_factory=tuple_row, withhold=_alone(conn)) as cursor:
            self.statement._execute(cursor, params)
            while rows := self._fetched(cursor):
                yield from self.reader.read(cursor, rows)

    def _fetched(self, cursor: "Cursor[TupleRow]") -> list[TupleRow]:
        try:
            return cursor.fetchmany(_STREAM_ROWS)
        except DatabaseError as error:
            self.statement.explained(error)
            raise

    async def _stream_async(self, conn: AsyncConnection[Any], params: Params) -> AsyncIterator[Row]:
        name = self._cursor_name()
        async with AsyncRawServerCursor(conn, name, row_factory=tuple_row, withhold=_alone(conn)) as cursor:
            await self.statement._execute_async(cursor, params)
            while rows := await self._fetched_async(cursor):
                for row in self.reader.read(cursor, rows):
                    yield row

    async def _fetched_async(self, cursor: "AsyncCursor[TupleRow]") -> list[TupleRow]:
        try:
            return await cursor.fetchmany(_STREAM_ROWS)
        except DatabaseError as error:
            self.statement.explained(error)
            raise

    def _cursor_name(self) -> str:
        # Numbered: one stream may be read inside another of the same statement.
        return f"{self.statement.source.full_name} {next(_stream_numbers)}"


# -- cursors that are used again -----------------------------------------------------------------------------------------------------
#
# psycopg finds out anew for each cursor how values of each type are written and read, which for one row takes longer than to read it. A
# cursor that runs the same statement once more still knows. So the cursor of a statement of one row stays with its connection.

_CURSORS = "_typedsql_cursors"  # the connection's attribute
_TEXT, _AUTO = Format.TEXT, PyFormat.AUTO
_SIMPLE = _PLAIN | {bytes, date, datetime, float, NoneType, time, timedelta}


class _Kept:
    """A cursor with what it knows."""

    __slots__ = ("_dumpers", "_loaders", "_settings", "cursor")

    def __init__(self, cursor: Any) -> None:  # noqa: ANN401  (Cursor or AsyncCursor, as the connection is)
        self.cursor = cursor
        self._settings: tuple[bytes | None, ...] | None = None
        self._loaders: list[tuple[int, type[Loader] | None]] = []
        self._dumpers: dict[type, type[Dumper]] = {}

    def is_current(self, conn: AnyConnection, params: Params) -> bool:
        """Tell whether a new cursor would write these parameters and read its result in the same way."""
        if self._settings != _settings(conn.pgconn.parameter_status):
            return False
        adapters = conn.adapters
        for type_, loader in self._loaders:
            if adapters.get_loader(type_, _TEXT) is not loader:
                return False
        known = self._dumpers
        for value in params:
            kind = type(value)
            if kind not in known:
                if kind not in _SIMPLE:  # how a list or a range is written depends on what is in it
                    return False
                known[kind] = self.cursor.adapters.get_dumper(kind, _AUTO)
            if adapters.get_dumper(kind, _AUTO) is not known[kind]:
                return False
        return True

    def put_back(self, rows: Rows[Any]) -> None:
        """Leave the cursor to the next run of the statement, on the connection."""
        conn = self.cursor.connection
        if self._settings is None:
            result = self.cursor.pgresult
            self._settings = _settings(conn.pgconn.parameter_status)
            types = set(map(result.ftype, range(result.nfields)))
            self._loaders = [(type_, self.cursor.adapters.get_loader(type_, _TEXT)) for type_ in types]
        vars(conn).setdefault(_CURSORS, {})[rows] = self


def _settings(status: Callable[[bytes], bytes | None]) -> tuple[bytes | None, ...]:
    # What reading a value depends on.
    return status(b"TimeZone"), status(b"DateStyle"), status(b"IntervalStyle"), status(b"client_encoding")


def _taken(conn: AnyConnection, rows: Rows[Any], params: Params) -> _Kept | None:
    """Take the cursor that ran a statement on a connection before, or None; until it is put back nobody else gets it."""
    kept: dict[Rows[Any], _Kept] | None = vars(conn).get(_CURSORS)
    taken = kept.pop(rows, None) if kept else None
    return taken if taken is not None and taken.is_current(conn, params) else None


def _alone(conn: AnyConnection) -> bool:
    """Tell whether a statement on this connection would be a transaction of its own."""
    return conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE
