"""The Python that is written for a shop it has never heard of: it imports, it runs, it type-checks, and staleness is seen."""

import importlib
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter, ValidationError

import kalshidb
from kalshidb.typedsql import Statements, describe, generate, load_statements
from kalshidb.typedsql.generate import NameClashError, Project, UnknownTypeError, class_name

SHOP = Path(__file__).with_name("shop")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

# The shop's files as text, made once: each test gets them in a folder of its own.
_rendered: dict[str, str] = {}


def project_at(root: Path) -> Project:
    return Project(
        migrations=root / "migrations",
        queries=root / "queries",
        package="shopdb",
        out=root / "shopdb",
        locate='Path(__file__).resolve().parents[2] / "queries"',
        locate_import="from pathlib import Path",
    )


def rendered(project: Project, conn: psycopg.Connection) -> dict[Path, str]:
    return generate.render(project, describe.describe(conn, load_statements(project.queries)))


@pytest.fixture
def project(tmp_path: Path, shop: psycopg.Connection) -> Project:
    """The shop's SQL and the Python generated from it."""
    project = project_at(tmp_path)
    shutil.copytree(SHOP / "migrations", project.migrations)
    shutil.copytree(SHOP / "queries", project.queries)
    if not _rendered:
        _rendered.update({str(path.relative_to(project.out)): text for path, text in rendered(project, shop).items()})
    generate.write({project.out / name: text for name, text in _rendered.items()})
    (project.out / "__init__.py").touch()
    return project


Import = Callable[[str], ModuleType]


@pytest.fixture
def load_module(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Import a module of the generated package."""
    monkeypatch.syspath_prepend(str(project.out.parent))
    yield lambda name: importlib.import_module(f"shopdb.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "shopdb"]:
        del sys.modules[name]


def filled_order(models: ModuleType, domains: ModuleType, **changes: object) -> Any:  # noqa: ANN401  (a generated model)
    given: dict[str, object] = {
        "order_id": 1, "person": "Ann", "sku": "AB-1", "status": domains.Status.IN_PROGRESS, "side": "don't",
        "price": Decimal("1.2345"), "tags": ["a"], "history": [domains.Status._2ND_TRY], "placed_at": NOON, "extra": {"x": [1]},
    }  # fmt: skip
    return models.OrderInput(**given | changes)


# -- it runs -----------------------------------------------------------------------------------------------------------------------


def test_generated_functions_do_what_their_sql_says(load_module: Import, shop: psycopg.Connection) -> None:
    q, models, domains = load_module("queries.shop"), load_module("models.shop"), load_module("models.domains")
    assert q.count_orders(shop) == 0
    assert q.total(shop) is None
    assert q.order_of(shop, order_id=1) is None
    result = q.put_orders(
        shop, [filled_order(models, domains), filled_order(models, domains, order_id=2, price=None, side="buy")]
    )
    assert (result.received, result.written) == (2, 2)
    (first, second) = q.orders(shop)
    assert isinstance(first, models.Order)
    assert (first.status, first.side, first.price, first.history, first.extra, first.weight) == (
        domains.Status.IN_PROGRESS, "don't", Decimal("1.2345"), [domains.Status._2ND_TRY], {"x": [1]}, None,
    )  # fmt: skip
    assert q.first_order(shop) in (first, second)
    assert q.order_of(shop, order_id=2) == second
    assert [type(row).__name__ for row in q.orders_one_by_one(shop)] == ["OrdersOneByOneRow"] * 2
    found = q.orders_with(shop, statuses=[domains.Status.IN_PROGRESS], side="don't", since=NOON, low=None)
    assert [(row.order_id, row.status) for row in found] == [(1, domains.Status.IN_PROGRESS)]
    assert q.orders_with(shop, statuses=(domains.Status.OPEN,), side="don't", since=NOON, low=Decimal(0)) == []
    assert q.note(shop, order_id=1, extra={"n": Decimal("0.10")}) == 1
    assert shop.execute("SELECT extra::text FROM shop.orders WHERE order_id = 1").fetchone() == ('{"n": 0.10}',)
    assert q.note(shop, order_id=1, extra=None) == 1
    assert q.order_of(shop, order_id=1).extra is None
    assert q.total(shop) == Decimal("1.2345")
    assert q.newest_status(shop) is domains.Status.IN_PROGRESS
    assert q.longest_history(shop) == [domains.Status._2ND_TRY]
    assert q.longest_history(shop)[0] is domains.Status._2ND_TRY


async def test_generated_functions_do_the_same_asynchronously(load_module: Import, ashop: psycopg.AsyncConnection) -> None:
    q, models, domains = load_module("queries.shop"), load_module("models.shop"), load_module("models.domains")
    assert (await q.put_orders(ashop, [filled_order(models, domains)])).written == 1
    assert await q.count_orders(ashop) == 1
    (row,) = await q.orders(ashop)
    assert await q.order_of(ashop, order_id=1) == row == await q.first_order(ashop)
    assert [row.person async for row in q.orders_one_by_one(ashop)] == ["Ann"]
    assert await q.note(ashop, order_id=7, extra=None) == 0


def test_two_schemas_can_have_tables_of_one_name(load_module: Import, shop: psycopg.Connection) -> None:
    q, audit = load_module("queries.shop"), load_module("queries.audit")
    assert audit.saw(shop, order_id=1, seen_by="Eve") == 1
    (row,) = q.seen_orders(shop)
    assert (type(row).__module__, row.seen_by) == ("shopdb.models.audit", "Eve")
    assert audit.orders(shop) == [row]


def test_columns_that_python_cannot_name_get_a_field_and_keep_their_column(load_module: Import, shop: psycopg.Connection) -> None:
    q, models = load_module("queries.shop"), load_module("models.shop")
    given = models.Oddity(
        class_="x", date_=date(2026, 1, 1), hidden=5, surely="s", Mixed_Up=True, next_date=date(2026, 1, 2), schema_="s"
    )
    bare = models.Oddity(class_="y", hidden=6, surely="s", amounts=[Decimal("1.25")])
    assert q.put_oddities(shop, [given, bare]).written == 2
    assert q.oddities(shop) == [given, bare]
    stored = shop.execute('SELECT "class", "date", _hidden, "Mixed Up" FROM shop.oddities ORDER BY 1').fetchone()
    assert stored == ("x", date(2026, 1, 1), 5, True)
    (row,) = q.odd_columns(shop, match=1, type=date(2026, 1, 1), self="me")
    assert (row.from_, row.date_, row.next_day, row.copy_, row.column_2nd) == (1, date(2026, 1, 1), None, "me", 5)


def test_parameters_go_by_keyword_and_a_wrong_one_is_an_error_at_the_call(load_module: Import, shop: psycopg.Connection) -> None:
    q = load_module("queries.shop")
    for call in (lambda: q.order_of(shop, 1), lambda: q.order_of(shop), lambda: q.order_of(shop, order_id=1, sku="x")):
        with pytest.raises(TypeError):
            call()


def test_docstrings_say_what_the_sql_says_with_every_character(load_module: Import) -> None:
    q, models = load_module("queries.shop"), load_module("models.shop")
    documentation = inspect.getdoc(q.put_orders) or ""
    assert documentation.startswith(r"""Writes orders; \n stays as it is, and so does '''this''', and "that""" + '"')
    assert "Statement: queries/shop/orders.sql" in documentation
    assert (inspect.getdoc(q.orders) or "").startswith('"All" orders, oldest first.')
    assert inspect.getdoc(models.People) == "Who orders."
    assert inspect.getdoc(q.count_orders) == "count_orders\n\nStatement: queries/shop/orders.sql"
    source = inspect.getsource(load_module("models.domains"))
    assert r'Dollars "net", C:\\new, never \\N{nothing}.' in source


def test_docstrings_say_what_each_parameter_means_where_the_header_or_a_column_does(load_module: Import) -> None:
    q = load_module("queries.shop")
    told = (inspect.getdoc(q.orders_with) or "").partition("Args:\n")[2].partition("\n\nStatement: ")[0]
    assert told.splitlines() == [
        "    statuses: Each: how far the order is.",
        "    side: Whether it buys.",
        "    since: Lower bound of placed_at, inclusive: when it was placed, UTC.",
        "    low: None asks for every price.",
    ]


# -- types -------------------------------------------------------------------------------------------------------------------------


def test_an_enum_becomes_a_str_enum_with_a_member_for_each_label(load_module: Import) -> None:
    status = load_module("models.domains").Status
    assert issubclass(status, StrEnum)
    assert {member.name: member.value for member in status} == {
        "OPEN": "open", "IN_PROGRESS": "in-progress", "IN_PROGRESS_2": "in progress", "_2ND_TRY": "2nd try", "DONE": "done",
    }  # fmt: skip
    assert inspect.getdoc(status) == "How far an order is."


def test_a_domain_with_a_closed_list_becomes_a_literal(load_module: Import) -> None:
    assert get_args(load_module("models.domains").Side) == ("buy", "sell", "don't")


@pytest.mark.parametrize(
    ("domain", "good", "bad"),
    [
        ("Sku", ["AB-1", "ZZ-123"], ["ab-1", "AB-", "AB-1x", ""]),
        ("ShopPrice", ["0", "99999.5", "1.2345"], ["-0.0001", "99999.6", "1.23456", "100000"]),
        ("Share", [0.1, 1.4], [0, 1.5]),
        ("Twice", ["ab", "axx"], ["b"]),
        # These the server alone can judge; the model must not refuse what the server takes.
        ("Outside", [50, 15], []),
        ("Since", ["2020-01-01", "2026-01-01"], []),
        ("Word", ["word"], []),
        ("Surely", [""], []),
    ],
)
def test_a_check_is_enforced_by_the_model_where_python_can_say_it(
    load_module: Import, shop: psycopg.Connection, domain: str, good: list[object], bad: list[object]
) -> None:
    type_ = TypeAdapter(getattr(load_module("models.domains"), domain))
    column = domain.removeprefix("Shop").lower()
    for value in good:
        type_.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            type_.validate_python(value)
        if value != "1.23456":  # the server rounds it, the model says so
            with pytest.raises(psycopg.Error):
                shop.execute(f"SELECT %s::shop.{column}", [value])


JUDGED = """
CREATE TABLE shop.judged (
    state   text CHECK (state IN ('state', 'new')),
    "order" text CHECK ("order" <> ''),
    code    text CHECK (code ~ '^code-[0-9]+$'),
    degrees numeric(9, 6) CHECK (degrees BETWEEN -90 AND 90),
    cost    shop.price CHECK (cost > 0),
    extra   jsonb CHECK (jsonb_typeof(extra) = 'object'),
    low     integer CHECK (low <> 3),
    high    integer,
    CHECK (low <= high)
)
"""


def test_what_a_table_demands_of_one_column_its_model_demands_too(
    load_module: Import, project: Project, shop: psycopg.Connection
) -> None:
    shop.execute(JUDGED)
    generate.write(rendered(project, shop))
    judged = load_module("models.shop").Judged
    for field, good, bad in [
        ("state", ["state", "new", None], ["VALUE", "old", ""]),
        ("order", ["x"], [""]),
        ("code", ["code-1"], ["VALUE-1", "code-"]),
        ("degrees", ["-90", "90"], ["-90.1", "91"]),
        ("cost", ["0.1"], ["0", "-1"]),
        ("extra", [{}, {"a": 1}], [[], 1, "x"]),
        # What Python has no word for, and what is about two columns, is the server's to judge.
        ("low", [3, 9], []),
    ]:
        for value in good:
            judged(**{field: value})
        for value in bad:
            with pytest.raises(ValidationError, match=field):
                judged(**{field: value})
            statement = sql.SQL("INSERT INTO shop.judged ({}) VALUES (%s)").format(sql.Identifier(field))
            with pytest.raises(psycopg.errors.CheckViolation):
                shop.execute(statement, [Jsonb(value) if field == "extra" else value])


def test_numeric_precision_is_enforced_by_the_model(load_module: Import) -> None:
    order = load_module("models.shop").Order
    given = {"order_id": 1, "person": "Ann", "sku": "AB-1", "status": "open", "side": "buy", "tags": [], "placed_at": NOON}
    assert order(**given, weight="1234.56").weight == Decimal("1234.56")
    for weight in ("12345.6", "1.234"):
        with pytest.raises(ValidationError):
            order(**given, weight=weight)
    with pytest.raises(ValidationError, match="timezone"):
        order(**given | {"placed_at": datetime(2026, 1, 1)})  # noqa: DTZ001
    with pytest.raises(ValidationError, match="Extra inputs"):
        order(**given, hat="none")


USER = '''
"""What a person would write, with the types that person would expect."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from psycopg import AsyncConnection, Connection
from shopdb.models.audit import Order as AuditOrder
from shopdb.models.domains import Status
from shopdb.models.shop import Oddity, Order, OrderInput, OrdersOneByOneRow, OrdersWithRow, Price
from shopdb.queries import audit, shop

from kalshidb.typedsql import BulkResult


def sync(conn: Connection[Any], rows: list[OrderInput]) -> None:
    assert_type(shop.orders(conn), list[Order])
    assert_type(shop.seen_orders(conn), list[AuditOrder])
    assert_type(shop.price_list(conn), list[Price])
    assert_type(shop.order_of(conn, order_id=1), Order | None)
    assert_type(shop.first_order(conn), Order)
    assert_type(shop.orders_one_by_one(conn), Iterator[OrdersOneByOneRow])
    assert_type(shop.count_orders(conn), int)
    assert_type(shop.total(conn), Decimal | None)
    assert_type(shop.newest_status(conn), Status)
    assert_type(shop.put_orders(conn, rows), BulkResult)
    assert_type(audit.saw(conn, order_id=1, seen_by="x"), int)
    found = shop.orders_with(conn, statuses=[Status.OPEN], side="buy", since=datetime.now(UTC), low=None)
    assert_type(found, list[OrdersWithRow])
    assert_type(found[0].history, list[Status | None] | None)
    assert_type(Oddity(class_="x", hidden=1).class_, str)


async def later(conn: AsyncConnection[Any]) -> None:
    assert_type(await shop.orders(conn), list[Order])
    assert_type(await shop.order_of(conn, order_id=1), Order | None)
    assert_type(shop.orders_one_by_one(conn), AsyncIterator[OrdersOneByOneRow])
    assert_type(await shop.put_orders(conn, []), BulkResult)


def wrong(conn: Connection[Any]) -> None:
    shop.order_of(conn)  # type: ignore[call-overload]
    shop.order_of(conn, order_id="1")  # type: ignore[call-overload]
    shop.order_of(conn, order_id=None)  # type: ignore[call-overload]
    shop.orders_with(conn, statuses=["open"], side="buy", since=datetime.now(UTC), low=None)  # type: ignore[list-item]
'''


def test_the_generated_package_and_its_users_pass_mypy_strict(project: Project) -> None:
    user = project.out.parent / "user.py"
    user.write_text(USER)
    config = project.out.parent / "mypy.ini"
    config.write_text("[mypy]\nstrict = true\nplugins = pydantic.mypy\n[mypy-kalshidb.*]\nfollow_imports = silent\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", os.devnull, user, project.out],
        capture_output=True, text=True, check=False, cwd=project.out.parent,
        env=os.environ | {"MYPYPATH": str(Path(kalshidb.__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


# -- the same every time, and stale when it should be ------------------------------------------------------------------------------


def test_generating_again_gives_the_same_bytes_wherever_the_project_lies(
    project: Project, shop: psycopg.Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = project_at(tmp_path_factory.mktemp("elsewhere"))
    shutil.copytree(project.migrations, elsewhere.migrations)
    shutil.copytree(project.queries, elsewhere.queries)
    again = rendered(elsewhere, shop)
    assert {str(path.relative_to(elsewhere.out)): text for path, text in again.items()} == _rendered
    assert generate.write(rendered(project, shop)) == []


def test_fresh_files_have_no_problems(project: Project) -> None:
    assert generate.check(project) == []


def test_line_ends_of_a_checkout_do_not_matter(project: Project) -> None:
    for path in (*project.queries.glob("**/*.sql"), *project.migrations.glob("*.sql")):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert generate.check(project) == []


@pytest.mark.parametrize("changed", ["queries/shop/orders.sql", "queries/audit/new.sql", "migrations/0002.audit.sql"])
def test_changed_sql_makes_every_file_stale(project: Project, changed: str) -> None:
    with (project.out.parent / changed).open("a") as file:
        file.write("-- A word more.\n")
    problems = generate.check(project)
    assert len(problems) == len(_rendered)
    assert f"{project.out}/queries/shop.py: stale, the SQL or the engine changed since; run generate" in problems


@pytest.mark.parametrize("name", sorted(["models/shop.py", "models/audit.py", "models/domains.py", "queries/__init__.py"]))
def test_an_edited_or_deleted_file_is_named(project: Project, name: str) -> None:
    path = project.out / name
    path.write_text(path.read_text() + "\n# a quick fix\n")
    assert generate.check(project) == [f"{path}: edited by hand; change the SQL and run generate"]
    path.unlink()
    assert generate.check(project) == [f"{path}: missing; run generate"]


def test_a_schema_without_statements_is_missed_too(project: Project, shop: psycopg.Connection) -> None:
    shutil.rmtree(project.queries / "audit")
    (project.queries / "shop" / "orders.sql").unlink()
    generate.write(rendered(project, shop))
    assert generate.check(project) == []
    assert not (project.out / "queries" / "audit.py").exists(), "what is no longer made is removed"
    (project.out / "models" / "audit.py").unlink()
    assert generate.check(project) == [f"{project.out}/models/audit.py: missing; run generate"]


def test_a_file_written_by_hand_is_named_and_never_removed(project: Project) -> None:
    path = project.out / "queries" / "helpers.py"
    path.write_text("print('hello')\n")
    assert generate.check(project) == [f"{path}:1: not a generated file; what is written by hand belongs elsewhere"]
    generate.write({project.out / name: text for name, text in _rendered.items()})
    assert path.exists()


def test_writing_touches_only_what_differs(project: Project) -> None:
    path = project.out / "models" / "shop.py"
    path.write_text("")
    assert generate.write({project.out / name: text for name, text in _rendered.items()}) == [path]
    assert generate.check(project) == []


# -- what cannot be generated ------------------------------------------------------------------------------------------------------


def test_a_type_without_a_python_type_is_named(
    load: Callable[[str], Statements], shop: psycopg.Connection, tmp_path: Path
) -> None:
    statements = load("-- name: f()\nSELECT ROW(1, 2) AS p")
    with pytest.raises(
        UnknownTypeError,
        match=r"^queries/shop/test.sql:1: shop.f: column p: pg_catalog.record has no Python type; name its fields",
    ):
        generate.render(project_at(tmp_path), describe.describe(shop, statements))


def test_two_models_of_one_name_are_refused(load: Callable[[str], Statements], shop: psycopg.Connection, tmp_path: Path) -> None:
    statements = load("-- name: latest()\nSELECT order_id FROM shop.orders")
    shop.execute("CREATE TABLE shop.latest_rows (n integer)")
    with pytest.raises(NameClashError, match="shop: two tables, views or statements would have the model LatestRow; rename one"):
        generate.render(project_at(tmp_path), describe.describe(shop, statements))


@pytest.mark.parametrize(
    ("relation", "name"),
    [
        ("candlesticks", "Candlestick"),
        ("market_analyses", "MarketAnalysis"),
        ("series", "Series"),
        ("final_series", "FinalSeries"),
        ("species", "Species"),
        ("companies", "Company"),
        ("classes", "Class"),
        ("boxes", "Box"),
        ("batches", "Batch"),
        ("wishes", "Wish"),
        ("statuses", "Status"),
        ("order_statuses", "OrderStatus"),
        ("caches", "Cache"),
        ("prices", "Price"),
        ("exchanges", "Exchange"),
        ("status", "Status"),
        ("address", "Address"),
        ("addresses", "Address"),
        ("basis", "Basis"),
        ("person", "Person"),
        ("news", "News"),
        ("v2_orders", "V2Order"),
    ],
)
def test_a_row_is_named_in_the_singular(relation: str, name: str) -> None:
    assert class_name(relation) == name
