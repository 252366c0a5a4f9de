"""The candlesticks table as SQLAlchemy sees it; imported only where SQLAlchemy is installed."""

from typing import Any

import psycopg
from sqlalchemy import Column, DateTime, Engine, MetaData, Numeric, SmallInteger, Table, Text, create_engine
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.orm import registry

from benchmarks.data import COLUMNS, KEY

_TYPES: dict[str, Any] = {
    "market_ticker": Text(),
    "end_period_ts": DateTime(timezone=True),
    "period_interval_minutes": SmallInteger(),
    "volume": Numeric(18, 2),
    "open_interest": Numeric(18, 2),
    "retrieved_at": DateTime(timezone=True),
    "raw_json": JSONB(none_as_null=True),
}

TABLE = Table(
    "candlesticks",
    MetaData(schema="market_data"),
    *(Column(name, _TYPES.get(name, Numeric(7, 6)), primary_key=name in KEY) for name in COLUMNS),
)


class Candle:
    """A mapped row."""

    def __init__(self, **values: Any) -> None:  # noqa: ANN401
        for name, value in values.items():
            setattr(self, name, value)


registry().map_imperatively(Candle, TABLE)


def engine(url: str, *, many_values: bool = False) -> Engine:
    """Return an engine over psycopg.

    Args:
        url: the database's address, as libpq takes it.
        many_values: let one INSERT carry many rows (SQLAlchemy's "insertmanyvalues"), which its psycopg dialect by default does only for
            statements with RETURNING.
    """
    made = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    made.dialect.use_insertmanyvalues_wo_returning = many_values
    return made


def upsert() -> Insert:
    """Return the statement that inserts a row or overwrites the one with its key."""
    statement = insert(TABLE)
    changed = {name: statement.excluded[name] for name in COLUMNS if name not in KEY}
    return statement.on_conflict_do_update(index_elements=list(KEY), set_=changed)
