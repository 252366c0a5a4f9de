"""How statements are read out of a SQL file, before any server sees them."""

from pathlib import Path

import pytest

from kalshidb.typedsql import LoadError, Place
from kalshidb.typedsql.source import Cardinality, StatementSource, parse_statements, read_statements

FILE = Path("queries/shop/orders.sql")


def parse(text: str) -> list[StatementSource]:
    return parse_statements(text, "shop", FILE)


def sql_of(body: str, parameters: str = "") -> str:
    """Return what would be sent for a body."""
    (statement,) = parse(f"-- name: asked({parameters})\n{body}\n")
    return statement.sql


def refusal(text: str) -> str:
    with pytest.raises(LoadError) as caught:
        parse(text)
    return str(caught.value)


# -- where a colon is a parameter and where it is not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("SELECT :b::text", "SELECT $1::text"),
        ("SELECT '1'::int + :b", "SELECT '1'::int + $1"),
        ("SELECT make_interval(days := :b)", "SELECT make_interval(days := $1)"),
        ("SELECT '12:30:b', :b", "SELECT '12:30:b', $1"),
        ("SELECT 'it''s :x', :b", "SELECT 'it''s :x', $1"),
        (r"SELECT E'it\'s :x', :b", r"SELECT E'it\'s :x', $1"),
        (r"SELECT e'a\\', :b", r"SELECT e'a\\', $1"),
        # Without the E a backslash is a letter like any other, so the string ends at the next quote.
        (r"SELECT 'a\', :b", r"SELECT 'a\', $1"),
        (r"SELECT type'a\', :b", r"SELECT type'a\', $1"),
        ("SELECT $$ :x ' $$, :b", "SELECT $$ :x ' $$, $1"),
        ("SELECT $tag$ :x $$ :y $tag$, :b", "SELECT $tag$ :x $$ :y $tag$, $1"),
        ('SELECT "quoted:id", "say "":x""", :b', 'SELECT "quoted:id", "say "":x""", $1'),
        ("SELECT /* :x /* it's :y */ :z */ :b", "SELECT   $1"),
        ("SELECT a[1:n], a[2::int], a[(1):n], b[x[1]:n], :b", "SELECT a[1:n], a[2::int], a[(1):n], b[x[1]:n], $1"),
        ("SELECT a[:b], a[1: :b]", "SELECT a[$1], a[1: $1]"),
        (":b", "$1"),
        ("(:b)", "($1)"),
        ("SELECT x=:b AND y>:b", "SELECT x=$1 AND y>$1"),
        ("SELECT :b, j ? 'k', j @? '$.a', 1 <-> 2", "SELECT $1, j ? 'k', j @? '$.a', 1 <-> 2"),
    ],
)
def test_a_colon_is_a_parameter_only_where_the_server_would_see_a_value(body: str, sent: str) -> None:
    assert sql_of(body, "b") == sent


def test_a_parameter_used_twice_is_sent_once() -> None:
    assert sql_of("SELECT :b, :a, :b, :a_b", "a, a_b, b") == "SELECT $3, $1, $3, $2"


def test_an_apostrophe_in_a_trailing_comment_swallows_nothing() -> None:
    assert sql_of("SELECT 1 -- don't :foo\n    , :b -- see :bar", "b") == "SELECT 1  \n    , $1"


def test_a_percent_sign_stays_one_percent_sign() -> None:
    assert sql_of("SELECT 7 % 3 FROM t WHERE name LIKE '%x' AND :b LIKE '%s'", "b").count("%%") == 0
    assert sql_of("SELECT 7 % 3") == "SELECT 7 % 3"


def test_lines_stay_where_they_are_so_that_the_servers_positions_fit_the_file() -> None:
    (statement,) = parse("\n-- name: asked(b)\n-- Words.\n\nSELECT 1, -- one\n/* two\n lines */ :b;\n")
    assert statement.sql == "SELECT 1,  \n\n $1"
    assert (statement.place.line, statement.sql_line) == (2, 5)


def test_a_text_of_several_lines_keeps_its_blanks_and_its_odd_characters() -> None:
    assert sql_of("SELECT 'a  \n\u2028b\x0c\x85', 1") == "SELECT 'a  \n\u2028b\x0c\x85', 1"


# -- headers -----------------------------------------------------------------------------------------------------------------------


def test_a_header_says_name_parameters_and_promise() -> None:
    promises = {"": Cardinality.MANY, "^": Cardinality.OPTIONAL, "$": Cardinality.SCALAR, "!": Cardinality.AFFECTED}
    for operator, cardinality in promises.items():
        (statement,) = parse(f"--name:  f( a , b ){operator}\n-- What it does.\n--\n-- More.\nSELECT :a, :b;")
        assert (statement.full_name, statement.parameters, statement.cardinality) == ("shop.f", ("a", "b"), cardinality)
        assert statement.doc == "What it does.\n\nMore."


def test_directives_change_the_contract_and_are_no_documentation() -> None:
    one, stream, bulk, step = parse(
        """\
-- name: one_order(a)^
-- @one
-- The order.
-- @param a nullable: null asks for the first
-- @param a: its number
-- @column total not null: a sum of at least one
-- @json note shop.notes:Note
SELECT :a
-- name: all_orders()
-- @stream
SELECT 1
-- name: put_orders()^
-- @bulk staged_orders like shop.orders without total, note
-- @one
-- @before step_a
-- @before step_b
-- @after step_c
SELECT 1 AS written
-- name: step_a()!
-- @internal step of put_orders
SELECT 1
"""
    )
    assert (one.cardinality, one.doc) == (Cardinality.ONE, "The order.")
    assert (one.nullable_parameters, one.column_nulls) == ({"a": "null asks for the first"}, {"total": Place(FILE, 6)})
    assert one.parameter_meanings == {"a": "its number"}
    assert one.json_types == {"note": "shop.notes:Note"}
    assert stream.cardinality is Cardinality.STREAM
    assert bulk.bulk is not None
    assert (bulk.bulk.staging, bulk.bulk.like, bulk.bulk.without) == ("staged_orders", "shop.orders", {"total", "note"})
    assert (bulk.before, bulk.after) == (("step_a", "step_b"), ("step_c",))
    assert (step.internal, bulk.internal) == (True, False)


@pytest.mark.parametrize(
    "header",
    ["Orders()", "orders", "orders(a", "orders(a)*!", "orders(a)<!", "orders(a)#", "1st()", "two words()", "", "a-b()", "a.b()"],
)
def test_a_header_that_cannot_be_read_is_refused_with_the_form_it_should_have(header: str) -> None:
    assert refusal(f"-- A file of orders.\n-- name: {header}\nSELECT 1").startswith(
        f"queries/shop/orders.sql:2: cannot read '-- name: {header}'; write -- name: statement_name(parameter, parameter)"
    )


@pytest.mark.parametrize("word", ["a: int", "a=1", "a b", ":a", "A", "1"])
def test_a_parameter_is_a_bare_name_because_its_type_comes_from_the_server(word: str) -> None:
    assert refusal(f"-- name: f({word})\nSELECT :a") == (
        f"queries/shop/orders.sql:1: f: '{word}' is no name of a parameter; types come from the server, not from the header"
    )


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("class()", "class: this name means something else"),
        ("list()", "list: this name means something else"),
        ("date()", "date: this name means something else"),
        ("f(conn)", "f: parameter conn means something else"),
        ("f(from)", "f: parameter from means something else"),
        ("f(as_jsonb)", "f: parameter as_jsonb means something else"),
        ("f(_f)", "f: parameter _f means something else"),
    ],
)
def test_names_that_would_break_the_python_are_refused_in_the_sql(header: str, problem: str) -> None:
    assert refusal(f"-- name: {header}\nSELECT 1").startswith(f"queries/shop/orders.sql:1: {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "-- name: f(a)\nSELECT :a,\n    :b",
            "orders.sql:3: f: parameter :b is not declared; add it to the list after the name, or quote it if it is text",
        ),
        ("-- name: f(a, b, c)\n\nSELECT :b", "orders.sql:3: f: declared but not used: a, c"),
        ("-- name: f(a, a)\nSELECT :a", "orders.sql:1: f: a parameter is declared twice"),
        ("-- name: f()\nSELECT 1,\n$2", "orders.sql:3: f: parameters are named (:market_ticker), not numbered"),
        (
            "-- name: f()\nSELECT 1;\n\nSELECT 2;",
            "orders.sql:2: f: a second statement begins after the semicolon; give each its own '-- name:' line",
        ),
        ("-- name: f()\n-- Only words.\n", "orders.sql:1: f: there is no SQL"),
        ("-- name: f()\n/* only words */", "orders.sql:2: f: there is no SQL"),
        ("-- name: f()\n;", "orders.sql:2: f: there is no SQL"),
        ("-- Orders.\n\nSELECT 1;\n-- name: f()\nSELECT 1", "orders.sql:3: SQL without a '-- name:' line before it"),
        ("SELECT 1;\n", "orders.sql:1: SQL without a '-- name:' line before it"),
        ("-- name f()\nSELECT 1;\n", "orders.sql:2: SQL without a '-- name:' line before it"),
        ("-- name: f()\nSELECT 1\n-- name: f()\nSELECT 1", "orders.sql:3: f: a statement of this name stands at"),
        ("-- name: f()\n-- @two\nSELECT 1", "orders.sql:2: f: unknown directive @two; there are @one, @stream, @bulk"),
        ("-- name: f()\n-- Words.\n-- @internal\nSELECT 1", "orders.sql:3: f: cannot read '@internal '"),
        ("-- name: f(a)\n-- @param a nullable\nSELECT :a", "orders.sql:2: f: cannot read '@param a nullable'"),
        ("-- name: f()\n-- @column a not null:\nSELECT 1 a", "orders.sql:2: f: cannot read '@column a not null:'"),
        (
            "-- name: f()\n-- @column a nullable: why\nSELECT 1 a",
            "orders.sql:2: f: column a needs no such line: it is nullable unless",
        ),
        ("-- name: f()\n-- @json a Type\nSELECT 1 a", "orders.sql:2: f: cannot read '@json a Type'"),
        ("-- name: f(a)\n-- @param b nullable: why not\nSELECT :a", "orders.sql:2: f: there is no parameter b"),
        ("-- name: f(a, b)\n-- Words.\n-- @pairs a, c\nSELECT :a, :b", "orders.sql:3: f: there is no parameter c"),
        ("-- name: f(a)\n-- @pairs a\nSELECT :a", "orders.sql:2: f: cannot read '@pairs a'"),
        ("-- name: f()\n-- @one\nSELECT 1", "orders.sql:2: f: @one goes with the operator ^"),
        ("-- name: f()^\n-- @stream\nSELECT 1", "orders.sql:2: f: @stream goes with no operator"),
        ("-- name: f()\n-- @before g\nSELECT 1", "orders.sql:1: f: @before and @after are steps of a @bulk statement"),
        ("-- name: f()^\n-- @bulk s like a.b\nSELECT 1", "orders.sql:1: f: a @bulk statement takes no parameters"),
        ("-- name: f(a)^\n-- @bulk s like a.b\n-- @one\nSELECT :a", "orders.sql:1: f: a @bulk statement takes no parameters"),
        ("-- name: f()\nSELECT 1\n-- @stream\n", "orders.sql:3: f: directives stand between the name and the SQL"),
        ("-- name: f(b)\nSELECT 1,\n 'abc, :b;", "orders.sql:3: f: the string, name or comment that begins with 'abc, :b; here"),
        ("-- name: f(b)\nSELECT 'it''', 'it''", "orders.sql:2: f: the string, name or comment that begins with 'it'' here"),
        ("-- name: f()\nSELECT E'a\\'", "orders.sql:2: f: the string, name or comment that begins with 'a\\' here"),
        ('-- name: f()\nSELECT "a', 'orders.sql:2: f: the string, name or comment that begins with "a here'),
        ("-- name: f()\nSELECT $x$ $$", "orders.sql:2: f: the string, name or comment that begins with $x$ $$ here"),
        ("-- name: f()\nSELECT 1 /* /* */", "orders.sql:2: f: the string, name or comment that begins with /* /* */ here"),
        ("/* old\n-- name: f()\nSELECT 1", "orders.sql:1: SQL without a '-- name:' line before it"),
    ],
)
def test_a_mistake_is_an_error_at_its_line(text: str, problem: str) -> None:
    assert refusal(text).startswith(f"queries/shop/{problem}")


def test_a_semicolon_in_a_string_or_comment_ends_nothing() -> None:
    assert sql_of("SELECT ';' -- ;\n, 1; -- the end; really\n/* yes; */") == "SELECT ';'  \n, 1"


# -- files -------------------------------------------------------------------------------------------------------------------------


def test_a_file_from_windows_reads_like_any_other(tmp_path: Path) -> None:
    text = "-- Orders.\n\n-- name: f(a)\n-- Words.\nSELECT 'é\nx',\n    :a;\n"
    unix, windows = tmp_path / "unix.sql", tmp_path / "windows.sql"
    unix.write_bytes(text.encode())
    windows.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    shown = Path("orders.sql")
    assert read_statements(windows, "shop", shown) == read_statements(unix, "shop", shown)
    assert parse(text.replace("\n", "\r\n")) == parse(text)


def test_a_byte_order_mark_does_not_hide_the_first_statement(tmp_path: Path) -> None:
    path = tmp_path / "orders.sql"
    path.write_bytes(b"\xef\xbb\xbf-- name: f()\nSELECT 1;\n")
    assert [statement.name for statement in read_statements(path, "shop")] == ["f"]


def test_a_file_of_comments_only_has_no_statements() -> None:
    assert parse("-- To be written.\n/* soon */\n") == []
