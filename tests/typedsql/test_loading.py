"""How a tree of SQL files becomes statements, through aiosql."""

from pathlib import Path

import psycopg
import pytest
from aiosql.queries import Queries

from kalshidb.typedsql import LoadError, Rows, Statements, load_statements
from kalshidb.typedsql.source import Cardinality


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """A tree of two folders."""
    write(
        tmp_path, "shop/orders.sql", "-- name: orders()\n-- All of them.\nSELECT 1 AS id;\n-- name: count_orders()$\nSELECT 2;\n"
    )
    write(tmp_path, "shop/people.sql", "-- name: person(id)^\nSELECT :id::int AS id;\n")
    write(tmp_path, "audit/orders.sql", "-- name: orders()\nSELECT 3 AS id;\n")
    write(tmp_path, "audit/notes.txt", "no SQL at all")
    return tmp_path / "queries"


def write(root: Path, name: str, text: str) -> Path:
    path = root / "queries" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_aiosql_loads_the_tree_and_each_statement_has_its_folders_name(queries: Path) -> None:
    statements = load_statements(queries)
    assert isinstance(statements, Statements)
    assert isinstance(statements, Queries)
    assert [statement.source.full_name for statement in statements] == [
        "audit.orders",
        "shop.orders",
        "shop.count_orders",
        "shop.person",
    ]
    assert statements["shop.person"].source.parameters == ("id",)
    assert statements["shop.count_orders"].source.cardinality is Cardinality.SCALAR
    assert statements["shop.orders"].source.doc == "All of them."


def test_a_place_is_shown_from_the_folder_of_queries_on(queries: Path) -> None:
    statements = load_statements(queries)
    assert str(statements["shop.count_orders"].source.place) == "queries/shop/orders.sql:4"


def test_an_unknown_name_is_a_key_error(queries: Path) -> None:
    with pytest.raises(KeyError, match=r"shop\.nothing"):
        load_statements(queries)["shop.nothing"]


def test_equal_names_in_two_files_of_a_folder_are_refused_and_both_places_are_named(queries: Path) -> None:
    write(queries.parent, "shop/again.sql", "\n-- name: orders()\nSELECT 4 AS id;\n")
    with pytest.raises(LoadError) as caught:
        load_statements(queries)
    assert str(caught.value) == (
        "queries/shop/orders.sql:1: orders: a statement of this name stands at queries/shop/again.sql:2 already; rename one"
    )


@pytest.mark.parametrize("name", ["class.sql", "my-shop.sql", "shop/deep/orders.sql", "class/orders.sql", "my-shop/orders.sql"])
def test_a_file_that_could_become_no_module_is_refused(queries: Path, name: str) -> None:
    path = write(queries.parent, name, "-- name: f()\nSELECT 1;\n")
    with pytest.raises(LoadError, match="statements stand right below queries/ or in one folder there") as caught:
        load_statements(queries)
    assert caught.value.place.file == path


def test_a_file_in_no_folder_is_a_room_of_its_own_or_shares_the_folder_of_its_name(queries: Path) -> None:
    write(queries.parent, "stock.sql", "-- name: stock()\nSELECT 1 AS id;\n")
    write(queries.parent, "shop.sql", "-- name: closes()\nSELECT 1 AS id;\n")
    loaded = load_statements(queries)
    assert str(loaded["stock.stock"].source.place) == "queries/stock.sql:1"
    assert loaded["shop.closes"].source.room == loaded["shop.orders"].source.room == "shop"
    write(queries.parent, "shop.sql", "-- name: orders()\nSELECT 1 AS id;\n")
    with pytest.raises(
        LoadError, match=r"^queries/shop\.sql:1: orders: a statement of this name stands at queries/shop/orders\.sql:1"
    ):
        load_statements(queries)


BULK = "-- name: put()^\n-- @bulk staged like shop.orders\n-- @one\n-- @before first\n-- @after last\nSELECT 1 AS written;\n"


def test_a_bulk_statement_knows_its_steps_even_from_other_files(queries: Path) -> None:
    write(queries.parent, "shop/put.sql", BULK + "-- name: last()!\n-- @internal step of put\nSELECT 1;\n")
    write(queries.parent, "shop/zero.sql", "-- name: first()!\n-- @internal step of put\nSELECT 1;\n")
    put = load_statements(queries)["shop.put"]
    assert [step.source.name for step in (*put.before, *put.after)] == ["first", "last"]


def test_a_step_that_does_not_exist_is_an_error_even_if_another_folder_has_it(queries: Path) -> None:
    write(queries.parent, "shop/put.sql", BULK + "-- name: last()!\n-- @internal step of put\nSELECT 1;\n")
    write(queries.parent, "audit/first.sql", "-- name: first()!\n-- @internal step of put\nSELECT 1;\n")
    with pytest.raises(LoadError, match=r"^queries/shop/put.sql:1: put: its step first is no statement of shop/$"):
        load_statements(queries)


def test_the_server_sees_which_statement_runs(queries: Path, empty_database: str) -> None:
    write(
        queries.parent,
        "shop/activity.sql",
        "-- name: activity()$\nSELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();\n",
    )
    statement = load_statements(queries)["shop.activity"]
    with psycopg.connect(empty_database) as conn:
        seen = Rows.of_value(statement).one(conn, ())
    assert seen == statement.sql
    assert seen.startswith("/* shop.activity */ SELECT query FROM pg_stat_activity")
