"""Turning rows into models.

Pydantic takes some ten to twenty microseconds for a row of twenty columns, most of it for counting the digits of decimals and for being
ready for values of any type. What psycopg reads is more regular than that. So for each model a function is written once, as
dataclasses writes its own, that looks whether a row's values are all that the model says (type, null, range, words, pattern, time
zone) and builds the model without asking again; that decimals have no more digits than they may, the server itself vouches for. A
row that does not pass, or a model that says something else, is Pydantic's to read, and to say what is wrong.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
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
Misfit = Callable[[ValidationError], Exception]

_MANY_SHAPES = 100  # a statement has one, or a few where databases differ
_ANY = 1_000_000
_NUMERIC = 1700  # the type's oid, the same everywhere

# What the schema of a Pydantic field may say for a function of ours to check its values; anything else is Pydantic's to judge.
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
    "float": {"ge", "gt", "le", "lt"},
    "bytes": {"min_length", "max_length"},
    "str": {"pattern", "min_length", "max_length"},
    "datetime": {"tz_constraint"},
}
_HARMLESS = {"type", "metadata", "microseconds_precision"}
_RANGES = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


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
    """How many digits a model lets a field have, or the server a column: in all, before and after the point."""

    precision: int
    whole: int
    scale: int

    def within(self, most: "Digits") -> bool:
        """Tell whether there are no more of them than another says."""
        return self.precision <= most.precision and self.whole <= most.whole and self.scale <= most.scale


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the columns of a result go in a model.

    Attributes:
        known: the columns that the model has, and their places.
        lists: those of them that are arrays.
        order: the places of the model's fields, or None when the result lacks some.
        straight: the result has these columns in this order, and no more.
        numerics: the places of the fields that have a limit of digits.
        most: these limits.
        vouched: modifiers of these columns that are known to keep within the limits.
    """

    known: tuple[tuple[str, int], ...]
    lists: tuple[tuple[str, int], ...]
    order: tuple[int, ...] | None
    straight: bool
    numerics: tuple[int, ...]
    most: tuple[Digits, ...]
    vouched: set[tuple[int, ...]]

    def server_vouches(self, result: "PGresult") -> bool:
        """Tell whether the server lets no column have more digits than its field may have."""
        modifiers = tuple(map(result.fmod, self.numerics))
        if modifiers in self.vouched:
            return True
        for at, modifier, most in zip(self.numerics, modifiers, self.most, strict=True):
            its = _digits(result.ftype(at), modifier)
            if its is None or not its.within(most):
                return False
        self.vouched.add(modifiers)
        return True


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
        self._names = column_names(model)
        self._lists = frozenset(
            name for name, field in zip(self._names, model.model_fields.values(), strict=True) if _is_list(field.annotation)
        )
        self._build = row_builder(model)
        self._digits = _most_digits(model)
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
        order, build = shape.order, self._build
        if build is None or order is None or not shape.server_vouches(result):
            return self._one_by_one(shape, cursor, rows)
        try:
            if not shape.straight:
                return [build([row[at] for at in order]) for row in rows]
            return [build(row) for row in rows]
        except (_MisfitError, InvalidOperation):  # NaN has no order
            return self._one_by_one(shape, cursor, rows)

    def _shape(self, names: tuple[bytes | None, ...]) -> _Shape:
        places = {(name or b"").decode(): at for at, name in enumerate(names)}
        known = tuple((name, places[name]) for name in self._names if name in places)
        lists = tuple((name, at) for name, at in known if name in self._lists)
        order = tuple(at for _, at in known) if len(known) == len(self._names) else None
        counted = [(at, most) for at, most in zip(order or (), self._digits, strict=False) if most is not None]
        shape = _Shape(
            known,
            lists,
            order,
            order == tuple(range(len(names))),
            tuple(at for at, _ in counted),
            tuple(most for _, most in counted),
            set(),
        )
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


def _digits(type_: int, modifier: int) -> Digits | None:
    if type_ != _NUMERIC or modifier < 0:
        return None
    precision, scale = (modifier - 4 >> 16) & 0xFFFF, (modifier - 4) & 0x7FF
    if scale & 0x400:
        scale -= 0x800
    return Digits(precision, precision - scale, scale)


class TextArrayLoader(ArrayLoader):
    """Reads an array of a type that psycopg does not know as an array of texts."""

    base_oid = 25  # text


def _is_list(annotation: object) -> bool:
    return any(get_origin(each) is list for each in (annotation, *get_args(annotation)))


def column_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the database's names of a model's fields; they differ where the name is taken in Python (`class_` for class)."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


class _MisfitError(Exception):
    """A row is not what its model says, or Pydantic has to tell."""


def row_builder(model: type[Model]) -> Callable[[Values], Model] | None:
    """Return what builds a model of a row, or None when some field, or the model as a whole, needs Pydantic itself.

    The function looks at everything but the number of digits, and builds as Pydantic's own model_construct does. It refuses rather too
    much than too little: by _MisfitError, or InvalidOperation of NaN.
    """
    schema: Any = model.__pydantic_core_schema__
    inner = schema.get("schema", {})
    if schema.get("type") != "model" or schema.get("post_init") or inner.get("type") != "model-fields":
        return None
    if set(inner["fields"]) != set(model.model_fields) or model.__private_attributes__ or inner.get("computed_fields"):
        return None
    known: dict[str, Any] = {
        "MisfitError": _MisfitError, "model": model, "new": object.__new__, "put": object.__setattr__,
        "fields_set": set(model.model_fields),
    }  # fmt: skip
    values = {name: f"value_{at}" for at, name in enumerate(model.model_fields)}
    conditions: list[str] = []
    for name, value in values.items():
        condition = _condition(inner["fields"][name]["schema"], value, known)
        if condition is None:
            return None
        if condition:
            conditions.append(condition)
    # What is compiled are our own words and the names of fields; limits and patterns are handed over as values.
    exec(  # noqa: S102
        f"""
def build(row):
    ({"".join(f"{value}, " for value in values.values())}) = row
    if not ({" and ".join(conditions) or "True"}):
        raise MisfitError
    made = new(model)
    put(made, "__dict__", {{{", ".join(f"{name!r}: {value}" for name, value in values.items())}}})
    put(made, "__pydantic_fields_set__", fields_set)
    put(made, "__pydantic_extra__", None)
    put(made, "__pydantic_private__", None)
    return made
""",
        known,
    )
    build: Callable[[Values], Model] = known["build"]
    return build


def _condition(schema: dict[str, Any], value: str, known: dict[str, Any]) -> str | None:
    """Return as Python what the schema of a field says, "" for nothing, None for what only Pydantic knows.

    Args:
        schema: the field's.
        value: what the value is called there.
        known: gets what else has a name there.
    """
    kind = schema["type"]
    if kind == "default":
        return _condition(schema["schema"], value, known)
    if kind == "nullable":
        condition = _condition(schema["schema"], value, known)
        return condition and f"({value} is None or {condition})"
    if kind == "any":
        return ""

    def named(word: str, what: object) -> str:
        known[f"{word}_of_{value}"] = what
        return f"{word}_of_{value}"

    if kind == "literal" and set(map(type, schema["expected"])) == {str}:
        return f"type({value}) is str and {value} in {named('words', frozenset(schema['expected']))}"
    if kind not in _TYPES or not set(schema) <= _HARMLESS | _KEYS.get(kind, set()) or not _is_plain(schema.get("pattern", "")):
        return None
    if schema.get("tz_constraint", "aware") not in ("aware", "naive"):
        return None
    known[f"{kind}_type"] = _TYPES[kind]
    parts = [f"type({value}) is {kind}_type"]
    for word, symbol in _RANGES.items():
        if word in schema:
            limit = (
                Decimal(schema[word]) if kind == "decimal" else schema[word]
            )  # so that it is not made anew for each comparison
            parts.append(f"{value} {symbol} {named(word, limit)}")
    if "max_length" in schema:
        parts.append(f"len({value}) <= {named('max_length', schema['max_length'])}")
    if "min_length" in schema:
        parts.append(f"len({value}) >= {named('min_length', schema['min_length'])}")
    if "pattern" in schema:
        pattern = str(schema["pattern"])
        if re.search(r"\\[wWdD]", pattern):  # which other letters and digits there are, Python and Pydantic do not agree
            parts.append(f"{value}.isascii()")
        # Python's $ would let a line feed at the end pass, Pydantic's does not.
        search = re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern).search
        parts.append(f"{named('search', search)}({value}) is not None")
    if "tz_constraint" in schema:
        parts.append(f"{value}.tzinfo is {'not ' if schema['tz_constraint'] == 'aware' else ''}None")
    return f"({' and '.join(parts)})"


def _most_digits(model: type[BaseModel]) -> list[Digits | None]:
    """Return how many digits each field of a model may have, None for any number."""
    schema: Any = model.__pydantic_core_schema__
    fields: dict[str, Any] = schema.get("schema", {}).get("fields", {})
    return [_digits_in(fields.get(name, {})) for name in model.model_fields]


def _digits_in(schema: dict[str, Any]) -> Digits | None:
    while "schema" in schema:
        schema = schema["schema"]
    if "max_digits" in schema:
        return Digits(
            schema["max_digits"], schema["max_digits"] - schema.get("decimal_places", 0), schema.get("decimal_places", _ANY)
        )
    return Digits(_ANY, _ANY, schema["decimal_places"]) if "decimal_places" in schema else None


def _is_plain(pattern: str) -> bool:
    """Tell whether Python's regular expressions mean the same by a pattern as Pydantic's: nothing but simple classes and counts."""
    return re.fullmatch(r"\^?(?:\\[SsDdWw.]|\[[\w.:-]+\]|[\w-]|[+*?]|\{\d+(?:,\d*)?\})*\$?", pattern) is not None
