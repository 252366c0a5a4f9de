"""A project that this one has never seen: made by the command, checked by both type checkers, run sync and async."""

import asyncio
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

import kalshidb
from kalshidb.typedsql import ParameterError, RowError
from kalshidb.typedsql import __main__ as command

SOURCE = Path(kalshidb.__file__).parents[1]
ELSEWHERE = Path(__file__).with_name("elsewhere")
NOON = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)

MIGRATION = """
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy-ish', 'None');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN small AS positive CHECK (VALUE < 100);
CREATE DOMAIN code AS varchar(8) CHECK (length(VALUE) >= 2);
CREATE DOMAIN said AS text CHECK (VALUE <> '') CHECK (VALUE ~ '^.{1,20}$');
CREATE DOMAIN "decimal" AS numeric(5, -2);
CREATE DOMAIN moment AS timestamptz;
CREATE DOMAIN hash AS bytea CHECK (octet_length(VALUE) = 2);
CREATE DOMAIN tags AS text[] CHECK (array_position(VALUE, NULL) IS NULL);
CREATE DOMAIN meta AS jsonb;
CREATE DOMAIN feeling AS mood;
CREATE TYPE address AS (
    street text, "class" integer, at timestamptz, nums numeric[], moods mood[], blob bytea, how interval, ok boolean
);
CREATE TYPE nested AS (home address, all_of address[], m moment);
CREATE TABLE "any" (
    id integer PRIMARY KEY, "Any" text, "Decimal" numeric, "UUID" uuid, date date, field text, "2nd" integer, "with space" text,
    "Mood" mood, model_dump_x integer, "naïve²" text, "self" text, "model_config" integer, "Field" text, "__x" text
);
CREATE TABLE field (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, i2 smallint NOT NULL, s small, c code, sa said, d "decimal", n numeric(3, 5),
    vc varchar(3), ch char(4), ci citext NOT NULL, b bytea, h hash, u uuid, t time, tz timetz, ts timestamp, at timestamptz, iv interval,
    j json, jb jsonb NOT NULL, me meta, ip inet, net cidr, f4 real, f8 double precision, m mood NOT NULL, fe feeling, ms mood[],
    mm moment[], tg tags, r int4range, nr numrange, tr tstzrange, mr datemultirange, a address, aa address[], ne nested, cis citext[],
    bits bit(3), mac macaddr
);
COMMENT ON COLUMN field.i2 IS 'A length in metres.';
COMMENT ON COLUMN field.jb IS 'Its shape. [json: shapes.flat:Shape]';
CREATE TABLE "order" (id integer PRIMARY KEY);
CREATE TABLE orders (id integer PRIMARY KEY, o integer);
CREATE SCHEMA "class";
CREATE SCHEMA "2020 Data";
CREATE SCHEMA domains;
CREATE TABLE "class"."import" (id integer);
CREATE TABLE "2020 Data"."2 x" (id integer);
CREATE TABLE domains.orders (id integer PRIMARY KEY, o integer);
CREATE VIEW lengths AS SELECT f.i2, a."Any" FROM field f LEFT JOIN "any" a ON a.id = f.id;
"""
STATEMENTS = {
    "fields.sql": """
        -- name: put_field(i2, ci, jb, m, ms, a, r, tr, ip, s, mm, u, fe)^
        -- @one
        -- @param a nullable: not everybody lives somewhere
        INSERT INTO field (i2, ci, jb, m, ms, a, r, tr, ip, s, mm, u, fe)
        VALUES (:i2, :ci, :jb, :m, :ms, :a, :r, :tr, :ip, :s, :mm, :u, :fe) RETURNING *;
        -- name: fields()
        SELECT * FROM field;
        -- name: an_address()$
        SELECT a FROM field LIMIT 1;
        -- name: moods()$
        SELECT ms FROM field LIMIT 1;
        -- name: range_of(i2)$
        SELECT tr FROM field WHERE i2 = :i2;
        -- name: shape(id)^
        -- @json also shapes.flat:Shape
        SELECT jb, jb AS also, jb AS plain FROM field WHERE id = :id;
        -- name: streamed()
        -- @stream
        SELECT id, m FROM field;
        -- name: drop_all()!
        DELETE FROM field;
        -- name: put_any()^
        -- @bulk staged like public.any
        -- @one
        WITH w AS (INSERT INTO "any" SELECT id, "Any", "Decimal", "UUID", date, field, "2nd", "with space", "Mood", model_dump_x,
            "naïve²", "self", "model_config", "Field", "__x" FROM staged RETURNING 1)
        SELECT count(*) AS written FROM w;
        -- name: anys()
        SELECT * FROM "any";
    """,
    "reports/lengths.sql": """
        -- name: lengths()
        SELECT * FROM lengths;
        -- name: orders()
        SELECT * FROM orders;
        -- name: other_orders()
        SELECT * FROM domains.orders;
    """,
}
WIDE_PARAMETERS = [f"p{number}" for number in range(65)]
WIDE = (
    f"-- name: wide({', '.join(WIDE_PARAMETERS)})^\n-- @one\n-- Many.\n"
    f"SELECT {', '.join(f':{name}::int AS {name}' for name in WIDE_PARAMETERS)};\n"
)
SHAPES = "from pydantic import BaseModel\n\n\nclass Shape(BaseModel):\n    kind: str\n    size: int = 1\n"
USER = """
from datetime import date
from decimal import Decimal
from typing import Any, assert_type
from psycopg import AsyncConnection, Connection
from foreign.models import domains_, public
from foreign.models.domains import Address, Mood
from foreign.queries import fields, hr, reports, sales
from shapes.flat import Shape


def use(conn: Connection[Any]) -> None:
    row = fields.fields(conn)[0]
    assert_type(row, public.FieldRow)
    assert_type(row.i2, int)
    assert_type(row.jb, Shape)
    assert_type(row.ms, list[Mood | None] | None)
    assert_type(row.tg, list[str] | None)
    assert_type(row.a, Address | None)
    assert_type(fields.moods(conn), list[Mood | None] | None)
    assert_type(reports.orders(conn), list[public.Orders])
    assert_type(sales.put_order(conn, order=1, kind="k", frm=date(2026, 1, 1), größe=Decimal(1)).is_new, bool)
    assert_type(hr.bosses(conn)[0].boss_name, str | None)
    assert_type(hr.by_level(conn)[0].salary, Decimal)
    assert_type(reports.other_orders(conn), list[domains_.Order])


async def use_later(conn: AsyncConnection[Any]) -> None:
    assert_type(await fields.an_address(conn), Address | None)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of somebody else's."""
    root = tmp_path_factory.mktemp("foreign")
    for name, text in {
        "db/migrations/0001.all.sql": f"-- All of it.\n{MIGRATION}",
        "db/migrations/0001.all.rollback.sql": "SELECT 1;",
        **{f"db/sql/{name}": dedent(text) for name, text in STATEMENTS.items()},
        "shapes/__init__.py": "",
        "shapes/flat.py": SHAPES,
        "user.py": USER,
        **{f"db/migrations/{path.name}": path.read_text(encoding="utf-8") for path in (ELSEWHERE / "migrations").glob("*.sql")},
        **{
            f"db/sql/{path.relative_to(ELSEWHERE / 'queries')}": path.read_text(encoding="utf-8")
            for path in (ELSEWHERE / "queries").glob("*/*.sql")
        },
        "db/sql/wide.sql": WIDE,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def arguments(root: Path, **changes: str) -> list[str]:
    given = {"migrations": f"{root}/db/migrations", "queries": f"{root}/db/sql", "package": "foreign", "out": f"{root}/foreign"}
    return ["generate", *(word for name, value in (given | changes).items() for word in (f"--{name}", value))]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> str:
    return f"postgresql://postgres@/postgres?host={request.config.option.postgresql_host}&port=5432"


@pytest.fixture(scope="module")
def generated(root: Path, server: str) -> Path:
    assert command.main([*arguments(root), "--server", server]) == 0
    return root


def databases(server: str) -> list[str]:
    with psycopg.connect(server) as conn:
        return [name for (name,) in conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'typedsql%'")]


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "foreign").rglob("*.py")}


def test_it_comes_out_the_same_whichever_server_directory_and_way_of_writing_paths(
    generated: Path, monkeypatch: pytest.MonkeyPatch, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(generated)
    monkeypatch.chdir(generated / "db")
    # Relative paths, the package's parent as --out, a server of its own.
    assert command.main(arguments(generated, migrations="migrations", queries="../db/sql", out="..")) == 0
    assert capsys.readouterr().out == "nothing changed\n"
    assert files(generated) == before
    assert not any(str(generated).encode() in text for text in before.values())
    assert databases(server) == []


def test_check_needs_no_database_and_says_what_is_stale(generated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*arguments(generated, out=str(generated)), "--check"]) == 0
    path = generated / "db/sql/fields.sql"
    kept = path.read_bytes()
    path.write_bytes(kept + b"-- more\n")
    assert command.main([*arguments(generated), "--check"]) == 1
    assert "queries/fields.py: stale" in capsys.readouterr().err
    path.write_bytes(b"-- name: f(\n" + kept)
    assert command.main([*arguments(generated), "--check"]) == 1
    assert capsys.readouterr().err.startswith("sql/fields.sql:1: cannot read '-- name: f('")
    path.write_bytes(kept)


def test_the_whole_check_runs_for_any_project(generated: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check", *arguments(generated)[1:], "--server", server]) == 1
    found = capsys.readouterr().err.splitlines()
    assert any(line.startswith("sql/hr/people.sql:") and "hr.count: it reads all of hr.people (" in line for line in found)
    wrong = ("yoyo", "the file has", "is stale", "edited")
    assert [line for line in found if any(word in line for word in wrong)] == []
    assert databases(server) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("db/migrations/0002.bad.sql", "SELECT nothing;", 'column "nothing" does not exist'),
        ("db/sql/bad.sql", "-- name: f()\nSELECT * FROM fields", "sql/bad.sql:2: bad.f: relation"),
        (
            "db/sql/bad.sql",
            "-- name: f()$\nSELECT ROW(1, 2)",
            "sql/bad.sql:1: bad.f: its value: pg_catalog.record has no Python type; name its fields",
        ),
        (
            "db/sql/bad.sql",
            "-- name: f(p)!\nSELECT count(:p::record)",
            "sql/bad.sql:1: bad.f: parameter p: pg_catalog.record has no Python type",
        ),
        ("db/sql/domains.sql", "-- name: f()!\nSELECT 1", "statements stand in domains"),
    ],
)
def test_what_cannot_be_generated_is_said_in_a_line_and_leaves_nothing(
    generated: Path, name: str, text: str, said: str, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(generated)
    path = generated / name
    path.write_text(text)
    try:
        assert command.main([*arguments(generated), "--server", server]) == 1
    finally:
        path.unlink()
    assert said in capsys.readouterr().err
    assert databases(server) == []
    assert files(generated) == before


def test_a_project_without_anything_generates(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "q").mkdir()
    paths = {"migrations": f"{tmp_path}/m", "queries": f"{tmp_path}/q", "package": "some.empty", "out": str(tmp_path)}
    assert command.main([*arguments(tmp_path, **paths), "--server", server]) == 0
    assert command.main([*arguments(tmp_path, **paths), "--check"]) == 0
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(importlib.import_module("some.empty.queries").STATEMENTS) == []


def test_mypy_and_pyright_find_nothing_in_their_strictest_mode(generated: Path) -> None:
    (generated / "mypy.ini").write_text("[mypy]\nstrict = true\n[mypy-kalshidb.*]\nfollow_imports = silent\n")
    python = sys.executable
    mypy = subprocess.run(
        [python, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", os.devnull, "user.py", "foreign"],
        capture_output=True, text=True, check=False, cwd=generated, env=os.environ | {"MYPYPATH": str(SOURCE)},
    )  # fmt: skip
    assert mypy.stdout.startswith("Success"), mypy.stdout + mypy.stderr
    config = {"include": ["user.py", "foreign"], "extraPaths": [str(SOURCE), "."], "typeCheckingMode": "strict"}
    (generated / "pyrightconfig.json").write_text(repr(config).replace("'", '"'))
    pyright = subprocess.run(
        [python, "-m", "pyright", "--pythonpath", python, "-p", "."], capture_output=True, text=True, check=False, cwd=generated
    )
    assert pyright.stdout.startswith("0 errors, 0 warnings"), pyright.stdout + pyright.stderr


# -- it runs -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(generated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(generated))
    yield lambda name: importlib.import_module(f"foreign.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("foreign", "shapes")]:
        del sys.modules[name]


@pytest.fixture
def database(empty_database: str) -> str:
    with psycopg.connect(empty_database) as conn:
        conn.execute(MIGRATION)
        for path in sorted((ELSEWHERE / "migrations").glob("*.sql")):
            conn.execute(path.read_bytes())
    return empty_database


def given(domains: Any) -> dict[str, Any]:  # noqa: ANN401  (a generated module)
    address = domains.Address(
        street='a "b", c\\d(e){f}', class_=3, at=NOON, nums=[Decimal("1.50"), None], moods=[domains.Mood.OK, None],
        blob=b"\x00\xff", how=timedelta(days=1, microseconds=1), ok=True,
    )  # fmt: skip
    return {
        "i2": 1, "ci": "Xy", "jb": {"kind": "a"}, "m": domains.Mood.HAPPY_ISH, "ms": [domains.Mood.SAD], "a": address,
        "r": Range(1, 5), "tr": Range(NOON, None), "ip": ip_address("1.2.3.4"), "s": 5, "mm": [NOON], "u": UUID(int=7),
        "fe": domains.Mood.NONE,
    }  # fmt: skip


def test_every_type_goes_there_and_comes_back(package: Any, database: str) -> None:  # noqa: ANN401
    fields, domains = package("queries.fields"), package("models.domains")
    shape = importlib.import_module("shapes.flat").Shape
    with psycopg.connect(database, autocommit=True, options="-c timezone=America/New_York") as conn:
        values = given(domains)
        row = fields.put_field(conn, **values)
        assert (row.a, row.mm, row.r, row.u, row.ip, row.s) == tuple(values[name] for name in ("a", "mm", "r", "u", "ip", "s"))
        assert row.m is domains.Mood.HAPPY_ISH
        assert row.ms[0] is domains.Mood.SAD
        assert row.fe is domains.Mood.NONE
        assert (row.tr.lower, row.tr.upper, row.jb) == (NOON, None, shape(kind="a"))
        conn.execute(
            "UPDATE field SET ne = ROW(a, ARRAY[a, NULL], at), aa = ARRAY[a, NULL], at = '2026-01-01 12:00Z', tg = '{a}', nr = '[1.5,2)', "
            "mr = '{[2020-01-01,2020-02-01)}', cis = '{a,NULL}', bits = '101', iv = '1 day', net = '10.0.0.0/8', j = '[1.5]', "
            "me = '{}', d = 12345, n = 0.00999, vc = 'abc', ch = 'a', h = '\\x0102', sa = E'a\\nb', tz = '12:00+01', f4 = 'NaN'"
        )
        (row,) = fields.fields(conn)
        assert (row.ne.home, row.ne.all_of, row.aa) == (row.a, [row.a, None], [row.a, None])
        assert (row.d, row.n, row.ch, row.h, row.sa) == (Decimal(12300), Decimal("0.00999"), "a   ", b"\1\2", "a\nb")
        assert (row.tg, row.cis, row.bits, row.iv, row.net) == (
            ["a"],
            ["a", None],
            "101",
            timedelta(days=1),
            ip_network("10.0.0.0/8"),
        )
        assert fields.an_address(conn) == row.a
        assert fields.moods(conn) == [domains.Mood.SAD]
        assert fields.range_of(conn, i2=1).lower == NOON
        read = fields.shape(conn, id=row.id)
        assert (read.jb, read.also, read.plain) == (shape(kind="a"), shape(kind="a"), shape(kind="a"))
        any_row = package("models.public").AnyRow(id=1, Any_="x", Mood_=domains.Mood.OK, self="me", with_space="w", x="_")
        assert fields.put_any(conn, [any_row]).written == 1
        assert fields.anys(conn) == [any_row]
        assert fields.put_field(conn, **values | {"a": None}).a is None


def test_it_runs_asynchronously_too(package: Any, database: str) -> None:  # noqa: ANN401
    fields, domains = package("queries.fields"), package("models.domains")

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
            row = await fields.put_field(conn, **given(domains))
            assert row.a == given(domains)["a"]
            assert [each.m async for each in fields.streamed(conn)] == [domains.Mood.HAPPY_ISH]
            assert await fields.an_address(conn) == row.a
            assert await fields.drop_all(conn) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("Small", [1, 99], [0, 100]),
        ("Code", ["ab", "abcdefgh"], ["a", "abcdefghi"]),
        ("Said", ["a\nb"], ["", "a" * 21]),
        ("PublicDecimal", [Decimal(9999900), Decimal(100)], [Decimal(10000000), Decimal("0.5")]),
        ("Hash", [b"ab"], [b"a", b"abc"]),
    ],
)
def test_a_check_becomes_a_constraint(package: Any, name: str, good: list[Any], bad: list[Any]) -> None:  # noqa: ANN401
    from pydantic import TypeAdapter, ValidationError

    type_ = TypeAdapter(getattr(package("models.domains"), name))
    assert [type_.validate_python(value) for value in good] == good
    for value in bad:
        with pytest.raises(ValidationError):
            type_.validate_python(value)


def test_docstrings_carry_units_and_not_the_note_about_json(package: Any) -> None:  # noqa: ANN401
    text = Path(package("models.public").__file__).read_text(encoding="utf-8")
    assert text.count('"""A length in metres."""') == 2, "the table's, and the view's that shows it"
    assert '"""Its shape."""' in text


# -- everything elsewhere runs ---------------------------------------------------------------------------------------------------------


def arguments_of(package: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    """Return what the statements elsewhere are called with, those that take parameters."""
    domains = package("models.domains")
    home = domains.HomeAddress(street='a "b"', zip="12", since=date(2020, 1, 1))
    words = {"object", "type", "filter", "print"}
    names = "self cls object id type filter print sync later rows params conn_ row result dict set_ sum max"
    lead = domains.Level.LEAD
    return {
        "hr.add_person": {
            "name": "Ann x", "email": None, "emails": ["a@b"], "level": lead, "home": home, "homes": [home],
            "salary": Decimal("100.50"), "active": Range(date(2020, 1, 1), None),
            "shifts": Multirange([Range(NOON, NOON + timedelta(hours=1))]), "tags": ["t1", "t2"], "scores": [1.5],
            "meta": {"a": 1, "b": "x"}, "worked": timedelta(hours=5), "born": 1980, "clock": time(12),
        },
        **{f"hr.{name}": {"id": 1} for name in ("person", "person_part", "chain", "home", "lock_person", "case_of")},
        "hr.search": {
            "words": "Ann", "pattern": "nn", "keys": ["a"], "key": "a", "contains": {"a": 1}, "levels": [lead], "ids": [1, 2],
        },
        "hr.team": {"boss": 1},
        "hr.people_of": {"level": lead},
        "hr.count": {"level": lead},
        "hr.delete_person": {"id": 99},
        "hr.raise_bonus": {"by": Decimal(5), "id": 1},
        "hr.raise_all": {"percent": Decimal(10)},
        "hr.keywords": {name: "x" if name in words else 3 for name in names.split()},
        "hr.exists_person": {"email": "a@b"},
        "hr.set_names": {"ids": [1], "names": ["Ann y"]},
        "hr.by_date": {"day": date(2026, 1, 1), "since": NOON, "until": NOON, "zone": "UTC"},
        "hr.page": {"after_id": 0, "size": 5},
        "sales.put_order": {"order": 1, "kind": "k", "frm": date(2026, 1, 1), "größe": Decimal("1.5")},
        "sales.restock": {"sku": "s", "on_hand": 4},
        "sales.merge_quiet": {"sku": "zz"},
        "sales.add_measure": {"länge": 1.5},
        "sales.add_event": {"at": NOON, "kind": "k", "body": None},
        "sales.old_and_new": {"order": 1},
        "sales.at_time": {"at": NOON.replace(tzinfo=None)},
        "wide.wide": {name: at for at, name in enumerate(WIDE_PARAMETERS)},
        "tricky.q71": {"n": None},
        "tricky.q72": {"n": 3, "m": 1},
        "tricky.q73": {"n": 2},
        "tricky.q74": {"days": 2},
        "tricky.q75": {"a": 1, "b": 5},
        "tricky.q76": {"words": ["a"], "uuids": [UUID(int=1)]},
        "tricky.q77": {"docs": [{"a": 1}, [1]]},
        "tricky.q78": {"times": [NOON.replace(tzinfo=None)], "span": Range(date(2026, 1, 1), None), "level": lead},
        "tricky.q79": {"pair": home, "fr": "[1.5,2]", "p": "(1,2)"},
    }  # fmt: skip


def functions(package: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return every generated function of the statements elsewhere but the bulk ones, those that write first."""
    first = ["hr.add_person", "sales.put_order", "sales.restock", "sales.add_event"]
    found = {
        f"{room}.{name}": function
        for room in ("hr", "sales", "tricky", "wide")
        for name, function in vars(package(f"queries.{room}")).items()
        if inspect.isfunction(function) and function.__module__ == f"foreign.queries.{room}" and not name.startswith("put_o")
    } | {"sales.put_order": package("queries.sales").put_order}
    bulk = {"sales.put_items", "tricky.put_odd", "sales.put_orders"}
    return {name: found[name] for name in sorted(found.keys() - bulk, key=lambda name: (name not in first, name))}


def test_every_statement_elsewhere_runs_and_nothing_is_null_that_should_not_be(package: Any, database: str) -> None:  # noqa: ANN401
    """A null or a type where the model has none is a RowError; so this compares what was proven with what is true."""
    every, given = functions(package), arguments_of(package)
    assert len(every) > 120
    with psycopg.connect(database, autocommit=True) as conn:
        for rows in (b"", (ELSEWHERE / "tricky-rows.sql").read_bytes()):
            if rows:
                conn.execute(rows)
            for name, function in every.items():
                if name != "hr.home" or rows:
                    result = function(conn, **given.get(name, {}))
                    assert not isinstance(result, Iterator) or list(result)


def test_every_statement_elsewhere_runs_asynchronously(package: Any, database: str) -> None:  # noqa: ANN401
    every, given = functions(package), arguments_of(package)

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
            await conn.execute((ELSEWHERE / "tricky-rows.sql").read_bytes())
            for name, function in every.items():
                result = function(conn, **given.get(name, {}))
                if inspect.isasyncgen(result):
                    assert len([row async for row in result]) == 1
                else:
                    await result

    asyncio.run(run())


def test_a_row_of_the_oddest_types_is_written_as_it_was_read(package: Any, database: str) -> None:  # noqa: ANN401
    tricky = package("queries.tricky")
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute((ELSEWHERE / "tricky-rows.sql").read_bytes())
        odd = tricky.q62(conn)
        assert (odd[0].jbs, odd[0].fm, odd[0].boxes) == ([{"a": 1}], "{[1,2]}", ["(1,1),(0,0)"])
        conn.execute("DELETE FROM tricky.odd")
        assert tricky.put_odd(conn, odd).written == len(odd) == 2
        assert tricky.q62(conn) == odd


def test_a_time_is_sent_with_a_zone_or_without_as_its_type_has_it(package: Any, database: str) -> None:  # noqa: ANN401
    sales, order = package("queries.sales"), package("models.sales").Order
    with psycopg.connect(database, autocommit=True) as conn:
        with pytest.raises(ParameterError, match=r"parameter at has a time zone .* write .replace\(tzinfo=None\)"):
            sales.at_time(conn, at=NOON)
        row = order(order=7, class_="c", select=True, schema_="s", at=NOON.replace(tzinfo=None))
        assert sales.put_orders(conn, [row]).written == 1
        assert sales.orders(conn) == [row]
        assert len(sales.at_time(conn, at=NOON.replace(tzinfo=None))) == 1
        with pytest.raises(ParameterError, match=r"at of row 1 has a time zone .* its type in the database has none"):
            sales.put_orders(conn, [row.model_copy(update={"at": NOON})])


def test_infinity_is_refused_with_what_to_do(package: Any, database: str) -> None:  # noqa: ANN401
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("INSERT INTO tricky.odd (id, must, n) VALUES (1, 1, 'Infinity')")
        with pytest.raises(RowError, match=r"column n: Input should be a finite number .*; leave such rows out"):
            package("queries.tricky").q62(conn)
