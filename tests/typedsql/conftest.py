"""A shop: a small schema that has nothing to do with this project, because the engine must serve any."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest

from kalshidb.typedsql import Statements, load_statements

SHOP = Path(__file__).with_name("shop")


@pytest.fixture
def shop_url(empty_database: str) -> str:
    """The address of a database that has the shop's migrations."""
    with psycopg.connect(empty_database) as conn:
        for path in sorted((SHOP / "migrations").glob("*.sql")):
            conn.execute(path.read_bytes())
    return empty_database


@pytest.fixture
def shop(shop_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the shop in autocommit mode: what a statement did is visible at once, and stays."""
    with psycopg.connect(shop_url, autocommit=True, options="-c timezone=America/New_York") as conn:
        yield conn


@pytest.fixture
async def ashop(shop_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """The same, asynchronous."""
    async with await psycopg.AsyncConnection.connect(shop_url, autocommit=True, options="-c timezone=America/New_York") as conn:
        yield conn


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Statements]:
    """Write the statements of shop/test.sql and load them."""

    def write_and_load(text: str) -> Statements:
        path = tmp_path / "queries" / "shop" / "test.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return load_statements(tmp_path / "queries")

    return write_and_load
