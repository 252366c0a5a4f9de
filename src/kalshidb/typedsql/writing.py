"""Turning models and tuples into the text that COPY reads, some hundred rows at a time.

psycopg's write_row asks for each value how it is written. Values of a column are of one type, so here the question is asked once a
column; what has no quick form (arrays, ranges, intervals, types that the caller registered) is written by psycopg's own dumpers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from operator import attrgetter
from types import NoneType
from typing import Any, Generic, TypeVar, get_args
from uuid import UUID

from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.types.json import Jsonb
from pydantic import BaseModel, NaiveDatetime

from kalshidb.typedsql.runtime import wrong_zone

Model = TypeVar("Model", bound=BaseModel)
Values = Sequence[Any]

CHUNK_ROWS = 500  # one write to the server each, small enough for the processor's cache; the server works while the next is made
NULL = r"\N"


class RowValueError(Exception):
    """A row that cannot be written; says which, and which field."""


class CopyText(Generic[Model]):
    """Writes rows of one bulk statement.

    Args:
        model: the model of the rows; tuples have the order of its fields.
        names: the database's names of its fields.
        json: of the columns that are json, or arrays of it, by name what makes of a value what psycopg writes as JSON.
    """

    def __init__(
        self, model: type[Model], names: Sequence[str], json: Mapping[str, Callable[[Any], Jsonb | list[Jsonb | None] | None]]
    ) -> None:
        self._model = model
        self._names = tuple(names)
        self._json = {self._names.index(name): wrap for name, wrap in json.items()}
        self._zoneless = {at for at, field in enumerate(model.model_fields.values()) if _is_zoneless(field.annotation)}
        fields = tuple(model.model_fields)
        self._values: Callable[[Any], Values] = (
            attrgetter(*fields) if len(fields) > 1 else lambda row: tuple(getattr(row, field) for field in fields)
        )

    def chunks(self, rows: Iterable[Model | Values], transformer: Transformer) -> Iterator[tuple[int, bytes]]:
        """Yield the rows as text, one line each, with how many of them.

        Raises:
            RowValueError: a row has another number of values than the model has fields, or a time whose zone is missing or too much.
        """
        iterator, done = iter(rows), 0
        while chunk := list(islice(iterator, CHUNK_ROWS)):
            columns = self._columns(chunk, done)
            written = [self._written(at, values, done, transformer) for at, values in enumerate(columns)]
            done += len(chunk)
            yield len(chunk), ("\n".join(map("\t".join, zip(*written, strict=True))) + "\n").encode()

    def _columns(self, chunk: Sequence[Any], done: int) -> list[Values]:
        model = self._model
        rows = [self._values(row) if isinstance(row, model) else row for row in chunk]
        for at, row in enumerate(rows, start=done + 1):
            if len(row) != len(self._names):
                raise RowValueError(f"row {at} has {len(row)} values, not the {len(self._names)} of its model: {row!r:.200}")
        return list(zip(*rows, strict=True))

    def _written(self, at: int, values: Values, done: int, transformer: Transformer) -> Iterable[str]:
        if wrap := self._json.get(at):
            return [_dumped(wrap(value), transformer) for value in values]
        types = set(map(type, values))
        nullable = NoneType in types
        types.discard(NoneType)
        if not types:
            return [NULL] * len(values)
        if len(types) == 1 and (write := _WRITERS.get(next(iter(types)))):
            if write is _moment:
                self._refuse_wrong_zone(at, values, done)
            if write is str:
                return [NULL if value is None else str(value) for value in values] if nullable else map(str, values)
            # Tickers, words and times repeat within a chunk: each is written once.
            known = {value: write(value) for value in set(values) if value is not None}
            known[None] = NULL
            return map(known.__getitem__, values)
        if datetime in types:
            self._refuse_wrong_zone(at, values, done)
        return [_dumped(value, transformer) for value in values]

    def _refuse_wrong_zone(self, at: int, values: Values, done: int) -> None:
        zoneless = at in self._zoneless
        if all((value.utcoffset() is None) is zoneless for value in set(values) if isinstance(value, datetime)):
            return
        for number, value in enumerate(values, start=done + 1):
            if isinstance(value, datetime) and (value.utcoffset() is None) is not zoneless:
                raise RowValueError(f"{self._names[at]} of row {number} {wrong_zone(value)}")


def _is_zoneless(annotation: Any) -> bool:  # noqa: ANN401  (any annotation)
    return annotation is NaiveDatetime or any(map(_is_zoneless, get_args(annotation)))


def _dumped(value: object, transformer: Transformer) -> str:
    if value is None:
        return NULL
    written = transformer.get_dumper(value, PyFormat.TEXT).dump(value)
    return NULL if written is None else _text(bytes(written).decode())


def _text(value: str) -> str:
    # One after the other: translate looks every character up, which takes twenty times as long.
    return value.replace("\\", r"\\").replace("\n", r"\n").replace("\r", r"\r").replace("\t", r"\t")


def _moment(value: datetime) -> str:
    return value.isoformat()


def _flag(value: bool) -> str:
    return "t" if value else "f"


def _binary(value: bytes) -> str:
    return r"\\x" + value.hex()


_WRITERS: dict[type, Callable[[Any], str]] = {
    Decimal: str,
    int: str,
    UUID: str,
    str: _text,
    datetime: _moment,
    date: date.isoformat,
    bool: _flag,
    bytes: _binary,
}
