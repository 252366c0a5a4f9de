"""Turning rows into models, many at a time.

Pydantic takes about twenty microseconds for a row of twenty columns. A result of the server is more regular than that: a column
has one type from top to bottom. So whole columns are checked, a few thousand rows at a time, for everything that the model says
(type, null, range, words, pattern, time zone), and the models are then built without asking again. Where a column does not pass,
or the model says something that cannot be checked by column, Pydantic reads the rows one by one and says what is wrong.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from types import NoneType
from typing import Any, Generic, TypeVar
from uuid import UUID

from psycopg import Column
from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)
Values = Sequence[Any]
Check = Callable[[Values, Column], bool]

CHUNK_ROWS = 4_096  # enough for the cost of a column's check to vanish, little enough to stay in the processor's cache
FEW_ROWS = 8  # below, reading row by row is as fast

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
    "str": {"pattern"},
    "datetime": {"tz_constraint"},
}
_HARMLESS = {"type", "metadata", "microseconds_precision"}
_zone = attrgetter("tzinfo")


class ModelReader(Generic[Model]):
    """Reads rows of one result into one model."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self._names = tuple(model.model_fields)
        self._checks = column_checks(model)
        self._validate: Callable[[dict[str, Any]], Model] = model.__pydantic_validator__.validate_python

    def read(self, description: Sequence[Column], rows: Sequence[Values]) -> list[Model]:
        """Return the rows as models.

        Columns that the model does not know are left out, so that old code reads a database that has grown.

        Raises:
            pydantic.ValidationError: a value does not fit; the location is the column's name.
        """
        places = {column.name: at for at, column in enumerate(description)}
        known = [(name, places[name]) for name in self._names if name in places]
        if self._checks is None or len(known) < len(self._names) or len(rows) < FEW_ROWS:
            return self._one_by_one(known, rows)
        in_order = [at for _, at in known] == list(range(len(description)))
        made: list[Model] = []
        for begin in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[begin : begin + CHUNK_ROWS]
            columns = list(zip(*chunk, strict=True))
            if all(check(columns[at], description[at]) for check, (_, at) in zip(self._checks, known, strict=True)):
                values = chunk if in_order else zip(*(columns[at] for _, at in known), strict=True)
                made.extend(_built(self.model, self._names, values))
            else:
                made.extend(self._one_by_one(known, chunk))
        return made

    def _one_by_one(self, known: Sequence[tuple[str, int]], rows: Iterable[Values]) -> list[Model]:
        validate = self._validate
        return [validate({name: row[at] for name, at in known}) for row in rows]


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
        return lambda _values, _column: True
    if kind == "literal":
        words = frozenset(schema["expected"]) | ({None} if nullable else set[None]())
        return lambda values, _column: _hashable_within(values, words)
    if kind not in _TYPES or not set(schema) <= _HARMLESS | _KEYS.get(kind, set()):
        return None
    allowed = frozenset({_TYPES[kind], NoneType} if nullable else {_TYPES[kind]})
    limits = _limits(schema)
    if not limits:
        return lambda values, _column: set(map(type, values)) <= allowed

    def check(values: Values, column: Column) -> bool:
        if not set(map(type, values)) <= allowed:
            return False
        present = [value for value in values if value is not None] if nullable else values
        try:
            return not present or all(limit(present, column) for limit in limits)
        except InvalidOperation:  # NaN has no order
            return False

    return check


def _limits(schema: dict[str, Any]) -> list[Check]:
    limits: list[Check] = []
    if "ge" in schema:
        limits.append(lambda values, _column, least=schema["ge"]: bool(min(values) >= least))
    if "gt" in schema:
        limits.append(lambda values, _column, below=schema["gt"]: bool(min(values) > below))
    if "le" in schema:
        limits.append(lambda values, _column, most=schema["le"]: bool(max(values) <= most))
    if "lt" in schema:
        limits.append(lambda values, _column, above=schema["lt"]: bool(max(values) < above))
    if "max_digits" in schema or "decimal_places" in schema:
        digits, places = schema.get("max_digits"), schema.get("decimal_places")
        # The server itself vouches for the digits of a numeric(p, s) column.
        limits.append(
            lambda _values, column: (digits is None or (column.precision or 1_000) <= digits)
            and (places is None or (column.scale if column.scale is not None else 1_000) <= places)
        )
    if "pattern" in schema:
        matches = re.compile(schema["pattern"]).search
        limits.append(lambda values, _column: all(map(matches, set(values))))
    if schema.get("tz_constraint") == "aware":
        limits.append(lambda values, _column: None not in set(map(_zone, values)))
    elif schema.get("tz_constraint") == "naive":
        limits.append(lambda values, _column: set(map(_zone, values)) == {None})
    return limits


def _hashable_within(values: Values, words: frozenset[Any]) -> bool:
    try:
        return set(values) <= words
    except TypeError:
        return False
