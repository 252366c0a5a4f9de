"""Turning rows into models, many at a time.

Pydantic takes about twenty microseconds for a row of twenty columns. A result of the server is more regular than that: a column
has one type from top to bottom. So whole columns are checked, a few thousand rows at a time, for everything that the model says
(type, null, range, words, pattern, time zone), and the models are then built without asking again. Where a column does not pass,
or the model says something that cannot be checked by column, Pydantic reads the rows one by one and says what is wrong.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, get_args, get_origin
from uuid import UUID

from psycopg.adapt import AdaptersMap
from psycopg.types.array import ArrayLoader
from pydantic import BaseModel, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Row = TypeVar("Row")
Model = TypeVar("Model", bound=BaseModel)
Values = Sequence[Any]
Check = Callable[[Values, "Digits"], bool]
Misfit = Callable[[ValidationError], Exception]

CHUNK_ROWS = 4_096  # enough for the cost of a column's check to vanish, little enough to stay in the processor's cache
FEW_ROWS = 8  # below, reading row by row is as fast
_MANY_SHAPES = 100  # a statement has one, or a few where databases differ
_ANY = 1_000_000
_NUMERIC = 1700  # the type's oid, the same everywhere

# What the schema of a Pydantic field may say for its column to be checked whole; anything else is Pydantic's to judge.
_TYPES: dict[str, type] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "decimal": Decimal,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
    "datetime": datetime,
}
_KEYS = {
    "decimal": {"ge", "gt", "le", "lt", "max_digits", "decimal_places"},
    "int": {"ge", "gt", "le", "lt"},
    "str": {"pattern", "min_length", "max_length"},
    "datetime": {"tz_constraint"},
}
_HARMLESS = {"type", "metadata", "microseconds_precision"}
_zone = attrgetter("tzinfo")


class Cursor(Protocol):
    """What a reader asks a cursor, sync or async."""

    @property
    def pgresult(self) -> "PGresult | None":
        """The result as libpq has it. psycopg's own description is made anew at each look, and takes longer than a row."""
        ...

    @property
    def adapters(self) -> AdaptersMap:
        """The types that psycopg knows here."""
        ...


class Reader(Protocol[Row]):
    """Turns the rows of a result into what the caller gets."""

    def read(self, cursor: Cursor, rows: Sequence[Values]) -> list[Row]:
        """Return what the rows become."""
        ...


class ValueReader:
    """Reads the only column of a result; into a type that only Python and the database know (an enum), if one is given."""

    def __init__(self, type_: Any, misfit: Misfit) -> None:  # noqa: ANN401  (any annotation)
        self._validate = None if type_ is None else TypeAdapter(type_).validate_python
        self._is_list = _is_list(type_)
        self._misfit = misfit

    def read(self, cursor: Cursor, rows: Sequence[Values]) -> list[Any]:
        """Return the values."""
        if self._validate is None:
            return [value for (value,) in rows]
        array = TextArrayLoader(0, cursor)  # type: ignore[arg-type]  # psycopg asks for less than it says
        try:
            return [
                None
                if value is None
                else self._validate(array.load(value.encode()) if self._is_list and isinstance(value, str) else value)
                for (value,) in rows
            ]
        except ValidationError as error:
            raise self._misfit(error) from error


class Digits(NamedTuple):
    """How many digits the server lets a column have; None where it is no numeric or has no limit."""

    precision: int | None
    scale: int | None


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the columns of a result go in a model.

    Attributes:
        known: the columns that the model has, and their places.
        lists: those of them that are arrays.
        order: the places of the model's fields, or None when the result lacks some.
    """

    known: tuple[tuple[str, int], ...]
    lists: tuple[tuple[str, int], ...]
    order: tuple[int, ...] | None


class ModelReader(Generic[Model]):
    """Reads rows into models.

    Columns that the model does not know are left out, so that old code reads a database that has grown.

    Args:
        model: the model.
        misfit: makes the error for a row that does not fit.
    """

    def __init__(self, model: type[Model], misfit: Misfit) -> None:
        self.model = model
        self._misfit = misfit
        self._fields = tuple(model.model_fields)
        self._names = column_names(model)
        self._lists = frozenset(
            name for name, field in zip(self._names, model.model_fields.values(), strict=True) if _is_list(field.annotation)
        )
        self._checks = column_checks(model)
        self._shapes: dict[tuple[bytes | None, ...], _Shape] = {}
        # The core validator called directly: model_validate() would cost one more Python call a row.
        self._validate: Callable[[dict[str, Any]], Model] = model.__pydantic_validator__.validate_python

    def read(self, cursor: Cursor, rows: Sequence[Values]) -> list[Model]:
        """Return the rows as models."""
        result = cursor.pgresult
        if not rows or result is None:
            return []
        # A statement's results look alike: what is found out about one is kept for the next.
        names = tuple(map(result.fname, range(result.nfields)))
        shape = self._shapes.get(names) or self._shape(names)
        order = shape.order
        if self._checks is None or order is None or len(rows) < FEW_ROWS:
            return self._one_by_one(shape, cursor, rows)
        in_order = order == tuple(range(len(names)))
        digits = [_digits(result.ftype(at), result.fmod(at)) for at in order]
        made: list[Model] = []
        for begin in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[begin : begin + CHUNK_ROWS]
            every = list(zip(*chunk, strict=True))
            columns = [every[at] for at in order]
            if all(map(_passes, self._checks, columns, digits)):
                made.extend(_built(self.model, self._fields, chunk if in_order else zip(*columns, strict=True)))
            else:
                made.extend(self._one_by_one(shape, cursor, chunk))
        return made

    def _shape(self, names: tuple[bytes | None, ...]) -> _Shape:
        places = {(name or b"").decode(): at for at, name in enumerate(names)}
        known = tuple((name, places[name]) for name in self._names if name in places)
        lists = tuple((name, at) for name, at in known if name in self._lists)
        shape = _Shape(known, lists, tuple(at for _, at in known) if len(known) == len(self._names) else None)
        if len(self._shapes) < _MANY_SHAPES:
            self._shapes[names] = shape
        return shape

    def _one_by_one(self, shape: _Shape, cursor: Cursor, rows: Sequence[Values]) -> list[Model]:
        known, validate = shape.known, self._validate
        try:
            if not shape.lists:
                return [validate({name: row[at] for name, at in known}) for row in rows]
            # psycopg knows no types that were made in the database: an array of such comes as text, and as an array of texts it validates.
            array = TextArrayLoader(0, cursor)  # type: ignore[arg-type]  # psycopg asks for less than it says
            return [
                validate(
                    {name: row[at] for name, at in known}
                    | {name: array.load(row[at].encode()) for name, at in shape.lists if isinstance(row[at], str)}
                )
                for row in rows
            ]
        except ValidationError as error:
            raise self._misfit(error) from error


def _digits(type_: int, modifier: int) -> Digits:
    if type_ != _NUMERIC or modifier < 0:
        return Digits(None, None)
    scale = (modifier - 4) & 0x7FF
    return Digits((modifier - 4 >> 16) & 0xFFFF, scale - 0x800 if scale & 0x400 else scale)


def _passes(check: Check, values: Values, digits: Digits) -> bool:
    return check(values, digits)


class TextArrayLoader(ArrayLoader):
    """Reads an array of a type that psycopg does not know as an array of texts."""

    base_oid = 25  # text


def _is_list(annotation: object) -> bool:
    return any(get_origin(each) is list for each in (annotation, *get_args(annotation)))


def column_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the database's names of a model's fields; they differ where the name is taken in Python (`class_` for class)."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _built(model: type[Model], names: Sequence[str], rows: Iterable[Values]) -> Iterator[Model]:
    """Make models from checked values, in the way of Pydantic's own model_construct without its Python loop over the fields."""
    new, put, fields_set = object.__new__, object.__setattr__, set(names)
    for row in rows:
        made = new(model)
        put(made, "__dict__", dict(zip(names, row, strict=True)))
        put(made, "__pydantic_fields_set__", fields_set)
        put(made, "__pydantic_extra__", None)
        put(made, "__pydantic_private__", None)
        yield made


def column_checks(model: type[BaseModel]) -> list[Check] | None:
    """Return a check for each field of a model, or None when some field, or the model as a whole, needs Pydantic itself."""
    schema: Any = model.__pydantic_core_schema__
    inner = schema.get("schema", {})
    if schema.get("type") != "model" or schema.get("post_init") or inner.get("type") != "model-fields":
        return None
    if set(inner["fields"]) != set(model.model_fields) or model.__private_attributes__ or inner.get("computed_fields"):
        return None
    checks = [_check(inner["fields"][name]["schema"], nullable=False) for name in model.model_fields]
    return [check for check in checks if check is not None] if None not in checks else None


def _check(schema: dict[str, Any], *, nullable: bool) -> Check | None:
    kind = schema["type"]
    if kind == "default":
        return _check(schema["schema"], nullable=nullable)
    if kind == "nullable":
        return _check(schema["schema"], nullable=True)
    if kind == "any":
        return lambda _values, _digits: True
    if kind == "literal":
        words = frozenset(schema["expected"]) | ({None} if nullable else set[None]())
        return lambda values, _digits: _hashable_within(values, words)
    if kind not in _TYPES or not set(schema) <= _HARMLESS | _KEYS.get(kind, set()) or not _is_plain(schema.get("pattern", "")):
        return None
    allowed = frozenset({_TYPES[kind], NoneType} if nullable else {_TYPES[kind]})
    limits = _limits(schema)
    if not limits:
        return lambda values, _digits: set(map(type, values)) <= allowed

    def check(values: Values, digits: Digits) -> bool:
        if not set(map(type, values)) <= allowed:
            return False
        present = [value for value in values if value is not None] if nullable else values
        try:
            return not present or all(limit(present, digits) for limit in limits)
        except InvalidOperation:  # NaN has no order
            return False

    return check


def _is_plain(pattern: str) -> bool:
    """Tell whether Python's regular expressions mean the same by a pattern as Pydantic's: nothing but simple classes and counts."""
    return re.fullmatch(r"\^?(?:\\[SsDdWw.]|\[[\w.:-]+\]|[\w-]|[+*?]|\{\d+(?:,\d*)?\})*\$?", pattern) is not None


_RANGES: tuple[tuple[str, Callable[[Values], Any], Callable[[Any, Any], bool]], ...] = (
    ("ge", min, operator.ge),
    ("gt", min, operator.gt),
    ("le", max, operator.le),
    ("lt", max, operator.lt),
)


def _within(
    ends: Callable[[Values], Any], holds: Callable[[Any, Any], bool], limit: object, values: Values, _digits: Digits
) -> bool:
    return holds(ends(values), limit)


def _limits(schema: dict[str, Any]) -> list[Check]:
    limits: list[Check] = []
    for word, ends, holds in _RANGES:
        if word in schema:
            limits.append(partial(_within, ends, holds, schema[word]))
    if "max_digits" in schema or "decimal_places" in schema:
        most, places = schema.get("max_digits", _ANY), schema.get("decimal_places", _ANY)
        # The server itself vouches for the digits of a numeric(p, s) column; where it does not, Pydantic counts them.
        limits.append(
            lambda _values, digits: (
                digits.precision is not None and digits.scale is not None and digits.precision <= most and digits.scale <= places
            )
        )
    if "max_length" in schema:
        limits.append(lambda values, _digits: max(map(len, values)) <= schema["max_length"])
    if "min_length" in schema:
        limits.append(lambda values, _digits: min(map(len, values)) >= schema["min_length"])
    if "pattern" in schema:
        # Python's $ would let a line feed at the end pass, Pydantic's does not.
        pattern = str(schema["pattern"])
        matches = re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern).search
        limits.append(lambda values, _digits: all(map(matches, set(values))))
    if schema.get("tz_constraint") == "aware":
        limits.append(lambda values, _digits: None not in set(map(_zone, values)))
    elif schema.get("tz_constraint") == "naive":
        limits.append(lambda values, _digits: set(map(_zone, values)) == {None})
    return limits


def _hashable_within(values: Values, words: frozenset[Any]) -> bool:
    try:
        return set(values) <= words
    except TypeError:
        return False
