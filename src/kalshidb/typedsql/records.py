"""Composite types as models, and values that arrive as text because psycopg does not know their type.

psycopg knows the types that every server has. One that was made in a database comes as its text unless each connection is told of it;
the models that are generated read the text instead, so that they work over any connection.
"""

from functools import cache
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.types.composite import RecordLoader, TupleDumper
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


class Record(BaseModel):
    """The base of models of composite types: reads `(1,"a b")`, and is written so as a parameter or within a row."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401  (whatever is validated)
        if isinstance(value, str):
            value = RecordLoader(0).load(value.encode())
        if not isinstance(value, tuple):
            return value
        names = [field.alias or name for name, field in cls.model_fields.items()]
        # A row of one null is written as a row of nothing.
        return dict(zip(names, value or (None,) * len(names), strict=True))


class _RecordDumper(TupleDumper):
    def dump(self, obj: Any) -> Any:  # noqa: ANN401  (psycopg's own signature is of tuples)
        return super().dump(tuple(getattr(obj, name) for name in type(obj).model_fields))


psycopg.adapters.register_dumper(Record, _RecordDumper)


def from_text(sql_type: str) -> BeforeValidator:
    """Return what reads the text of a type that psycopg knows, `timestamptz` or `numeric[]`; other values pass."""

    def read(value: Any) -> Any:  # noqa: ANN401  (whatever is validated)
        return _loader(sql_type).load(value.encode()) if isinstance(value, str) else value

    return BeforeValidator(read)


@cache
def _loader(sql_type: str) -> Any:  # noqa: ANN401  (a loader of psycopg, of whatever type)
    known = psycopg.adapters.types[sql_type.removesuffix("[]")]
    return Transformer().get_loader(known.array_oid if sql_type.endswith("[]") else known.oid, Format.TEXT)
