"""SQL files in, typed Python functions out.

Statements live in `.sql` files, tables in migrations; a real server is asked what both mean, and models and functions are written from
its answers. Serves any schema and imports nothing else of this project. `describe`, `nulls`, `generate`, `checking` and `plans` belong to
development; the rest is what runs.
"""

from kalshidb.typedsql.arrow import ArrowError, arrow_batches, arrow_batches_async, as_arrow, as_arrow_async
from kalshidb.typedsql.bulk import ArrowStream, BulkRows, OnDuplicate
from kalshidb.typedsql.errors import (
    CardinalityError,
    DescribeError,
    DuplicateRowError,
    LoadError,
    ParameterError,
    Place,
    RowError,
    StatementError,
)
from kalshidb.typedsql.loading import Statements, load_statements
from kalshidb.typedsql.runtime import BulkResult, Rows, Statement, as_jsonb, as_jsonb_array

__all__ = [
    "ArrowError",
    "ArrowStream",
    "BulkResult",
    "BulkRows",
    "CardinalityError",
    "DescribeError",
    "DuplicateRowError",
    "LoadError",
    "OnDuplicate",
    "ParameterError",
    "Place",
    "RowError",
    "Rows",
    "Statement",
    "StatementError",
    "Statements",
    "arrow_batches",
    "arrow_batches_async",
    "as_arrow",
    "as_arrow_async",
    "as_jsonb",
    "as_jsonb_array",
    "load_statements",
]
