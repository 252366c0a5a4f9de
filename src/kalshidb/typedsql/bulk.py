"""Many rows at once: COPY into a temporary table, then the statement that stands in the SQL file, in one transaction.

The staging table is created like the target's columns, so that domains and their checks apply while rows arrive. Nothing is written
unless everything is: a failure leaves the database as it was.
"""

from collections.abc import Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, get_args, overload

from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor, sql
from psycopg import Error as DatabaseError
from psycopg.rows import dict_row
from pydantic import AwareDatetime, BaseModel

from kalshidb.typedsql.runtime import AnyConnection, BulkResult, Statement, as_jsonb, column_names, without_zone

Model = TypeVar("Model", bound=BaseModel)


class BulkRows(Generic[Model]):
    """A bulk statement together with the model of the rows it takes."""

    def __init__(self, statement: Statement, model: type[Model], jsonb: Sequence[str] = ()) -> None:
        bulk = statement.source.bulk
        if bulk is None:
            raise TypeError(f"{statement.source.full_name} is no bulk statement")
        self.statement = statement
        self.model = model
        self._fields = tuple(model.model_fields)
        names = column_names(model)
        self._jsonb = frozenset(names.index(name) for name in jsonb)
        self._times = frozenset(at for at, name in enumerate(self._fields) if _is_moment(model.model_fields[name].annotation))
        staging, columns = sql.Identifier(bulk.staging), sql.SQL(", ").join(map(sql.Identifier, names))
        self._create = sql.SQL(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS AS "
            "SELECT {columns}, NULL::bigint AS staged_position FROM {like} WITH NO DATA"
        ).format(staging=staging, columns=columns, like=sql.Identifier(*bulk.like.split(".")))
        self._empty = sql.SQL("TRUNCATE {staging}").format(staging=staging)
        self._copy = sql.SQL("COPY {staging} ({columns}, staged_position) FROM STDIN").format(staging=staging, columns=columns)

    @overload
    def write(self, conn: Connection[Any], rows: Iterable[Model | tuple[Any, ...]]) -> BulkResult: ...
    @overload
    def write(self, conn: AsyncConnection[Any], rows: Iterable[Model | tuple[Any, ...]]) -> Coroutine[Any, Any, BulkResult]: ...
    def write(self, conn: AnyConnection, rows: Iterable[Model | tuple[Any, ...]]) -> BulkResult | Coroutine[Any, Any, BulkResult]:
        """Write rows, models or tuples in the order of the model's fields; all or nothing."""
        if isinstance(conn, AsyncConnection):
            return self._write_async(conn, rows)
        received = 0
        with conn.transaction(), RawCursor(conn, row_factory=dict_row) as cursor:
            try:
                cursor.execute(self._create)
                cursor.execute(self._empty)
                with cursor.copy(self._copy) as copy:
                    for received, row in enumerate(rows, start=1):
                        copy.write_row((*self._values(row), received))
                if not received:
                    return BulkResult(0, 0, 0, 0)
                for step in self.statement.before:
                    cursor.execute(step.sql.encode())
                cursor.execute(self.statement.sql.encode())
                counts = cursor.fetchone()
                for step in self.statement.after:
                    cursor.execute(step.sql.encode())
            except DatabaseError as error:
                self.statement.explained(error)
                raise
        return self._result(received, counts)

    async def _write_async(self, conn: AsyncConnection[Any], rows: Iterable[Model | tuple[Any, ...]]) -> BulkResult:
        received = 0
        async with conn.transaction(), AsyncRawCursor(conn, row_factory=dict_row) as cursor:
            try:
                await cursor.execute(self._create)
                await cursor.execute(self._empty)
                async with cursor.copy(self._copy) as copy:
                    for received, row in enumerate(rows, start=1):
                        await copy.write_row((*self._values(row), received))
                if not received:
                    return BulkResult(0, 0, 0, 0)
                for step in self.statement.before:
                    await cursor.execute(step.sql.encode())
                await cursor.execute(self.statement.sql.encode())
                counts = await cursor.fetchone()
                for step in self.statement.after:
                    await cursor.execute(step.sql.encode())
            except DatabaseError as error:
                self.statement.explained(error)
                raise
        return self._result(received, counts)

    def _values(self, row: Model | tuple[Any, ...]) -> Sequence[Any]:
        # Not __dict__: it would miss nothing today, but a model with a private default would shift the columns.
        if isinstance(row, BaseModel):
            values = [getattr(row, name) for name in self._fields]
        else:
            values = list(row)
            if len(values) != len(self._fields):
                raise self.statement.wrong_parameter(
                    f"a row has {len(values)} values, not the {len(self._fields)} of its model: {row!r:.200}"
                )
            for at in self._times:
                if isinstance(values[at], datetime) and values[at].utcoffset() is None:
                    raise self.statement.wrong_parameter(f"{self._fields[at]} of row {row!r:.200} {without_zone(values[at])}")
        for at in self._jsonb:
            values[at] = as_jsonb(values[at])
        return values

    def _result(self, received: int, counts: dict[str, Any] | None) -> BulkResult:
        if counts is None:
            raise self.statement.wrong_count("a bulk statement answers one row of counts, none came")
        if "written" in counts:
            return BulkResult(received, counts["written"])
        return BulkResult(received, counts["inserted"] + counts["updated"], counts["inserted"], counts["updated"])


def _is_moment(annotation: object) -> bool:
    return AwareDatetime in (annotation, *get_args(annotation))
