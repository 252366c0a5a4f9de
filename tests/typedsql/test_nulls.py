# ruff: noqa: S608  (queries are made up here: that is what it is about)
"""No query that can be thought of makes a column null that is described as never null: queries are made up, described, and run."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from kalshidb.typedsql.nulls import Null, Nulls, read_tree

TABLES = """
CREATE TABLE a (id integer NOT NULL, x integer, y integer NOT NULL);
CREATE TABLE b (id integer NOT NULL, x integer, y integer NOT NULL);
CREATE TABLE c (id integer NOT NULL, x integer, y integer NOT NULL);
INSERT INTO a VALUES (1, NULL, 1), (2, 2, 2), (3, NULL, 2);
INSERT INTO b VALUES (1, 1, 1), (5, NULL, 3);
INSERT INTO c VALUES (2, 2, 1);
CREATE VIEW v AS SELECT a.id, b.x, b.y FROM a LEFT JOIN b USING (id);
CREATE VIEW w AS SELECT a.id, coalesce(c.x, 0) AS x, a.y FROM a JOIN c ON c.y <= a.y;
"""


class QueryWriter:
    """Makes up queries of two integer columns, c1 and c2."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw
        self._aliases = 0
        self._ctes: list[str] = []

    def pick(self, *choices: Any) -> Any:  # noqa: ANN401  (one of what it is given)
        return self._draw(st.sampled_from(choices))

    def statement(self) -> str:
        ctes: list[str] = []
        for number in range(self.pick(0, 0, 1, 2)):
            how = self.pick("", "MATERIALIZED ", "NOT MATERIALIZED ")
            ctes.append(f"q{number} AS {how}({self.query(2)})")
            self._ctes.append(f"q{number}")
        if self.pick(True, False, False):
            step = f"SELECT {self.expression(['c1', 'c2'], 1)}, {self.expression(['c1', 'c2'], 1)} FROM r WHERE c1 < 3"
            ctes.append(f"r (c1, c2) AS ({self.query(1)} UNION {step})")
            self._ctes.append("r")
        return f"{'WITH RECURSIVE ' + ', '.join(ctes) if ctes else ''} {self.query(3)}"

    def query(self, depth: int, outside: tuple[str, ...] = ()) -> str:
        if depth > 1 and self.pick(True, False, False, False):
            operator = self.pick("UNION ALL", "UNION", "INTERSECT", "EXCEPT")
            return f"({self.query(depth - 1)}) {operator} ({self.query(depth - 1)})"
        source, columns = self.source(depth)
        columns += outside
        where = f" WHERE {self.condition(columns, 2)}" if self.pick(True, False) else ""
        if self.pick(True, False, False):
            return f"{self.grouped(source + where, columns)}"
        expressions = [self.expression(columns, 2, depth) for _ in range(2)]
        return f"SELECT {expressions[0]} AS c1, {expressions[1]} AS c2 FROM {source}{where}"

    def grouped(self, source: str, columns: list[str]) -> str:
        key = self.expression(columns, 1)
        aggregate = self.pick("count", "sum", "max", "min")
        argument = self.expression(columns, 1)
        rest = self.pick("", "", " FILTER (WHERE false)")
        how = self.pick("GROUP BY {}", "GROUP BY {}", "GROUP BY ROLLUP ({})", "GROUP BY GROUPING SETS (({}), ())", "")
        first = "k" if how else f"max({argument})"
        # The key under a name: a constant would be a position.
        return (
            f"SELECT {first} AS c1, {aggregate}(g){rest}::integer AS c2 FROM (SELECT ({key}) AS k, ({argument}) AS g FROM {source}) AS t "
            + how.format("k")
            if how
            else f"SELECT max({argument}) AS c1, {aggregate}({argument}){rest}::integer AS c2 FROM {source}"
        )

    def source(self, depth: int) -> tuple[str, list[str]]:
        if depth > 0 and self.pick(True, True, False):
            left, left_columns = self.source(depth - 1)
            kind = self.pick("JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN", "LEFT JOIN LATERAL")
            if kind == "LEFT JOIN LATERAL":
                alias = self.alias()
                columns = [f"{alias}.c1", f"{alias}.c2"]
                inner = self.query(0, tuple(left_columns))
                return f"({left} LEFT JOIN LATERAL ({inner}) AS {alias} ON true)", [*left_columns, *columns]
            right, right_columns = self.source(depth - 1)
            columns = [*left_columns, *right_columns]
            if kind == "CROSS JOIN":
                return f"({left} CROSS JOIN {right})", columns
            # FULL JOIN takes no other condition.
            condition = f"{self.pick(*left_columns)} = {self.pick(*right_columns)}"
            if kind != "FULL JOIN" and self.pick(True, False):
                condition = self.condition(columns, 1)
            return f"({left} {kind} {right} ON {condition})", columns
        alias = self.alias()
        if depth > 0 and self.pick(True, False):
            return f"({self.query(depth - 1)}) AS {alias}", [f"{alias}.c1", f"{alias}.c2"]
        table = self.pick("a", "b", "c", "v", "w", *self._ctes)
        names = ("c1", "c2") if table in self._ctes else ("id", "x", "y")
        return f"{table} AS {alias}", [f"{alias}.{name}" for name in names]

    def alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    def expression(self, columns: list[str], depth: int, subqueries: int = 0) -> str:
        column = self.pick(*columns)
        if depth == 0 or self.pick(True, True, False):
            return str(column)
        one, other = self.expression(columns, depth - 1), self.expression(columns, depth - 1)
        forms = [
            "1",
            "NULL::integer",
            f"coalesce({one}, {other})",
            f"coalesce({one}, 0)",
            f"nullif({one}, {other})",
            f"({one} + {other})",
            f"abs({one})",
            f"greatest({one}, {other})",
            f"CASE WHEN {self.condition(columns, 0)} THEN {one} ELSE {other} END",
            f"CASE WHEN {self.condition(columns, 0)} THEN {one} END",
        ]
        if subqueries > 1:
            forms.append(f"(SELECT {self.pick('count(*)::integer', 'max(s.x)')} FROM ({self.query(0)}) AS s (x, y))")
        return str(self.pick(*forms))

    def condition(self, columns: list[str], depth: int) -> str:
        one, other = self.expression(columns, 1 if depth else 0), self.expression(columns, 0)
        if depth == 0 or self.pick(True, False):
            return str(
                self.pick(
                    f"{one} = {other}",
                    f"{one} > 1",
                    f"{one} IS NULL",
                    f"{one} IS NOT NULL",
                    f"{one} IN (1, 2)",
                    f"({one} = {other}) IS NOT FALSE",
                    f"({one} > 0) IS TRUE",
                    f"{one} IS DISTINCT FROM {other}",
                    f"{one} IN (SELECT x FROM b)",
                    f"NOT EXISTS (SELECT FROM c WHERE c.id = {one})",
                )
            )
        first, second = self.condition(columns, depth - 1), self.condition(columns, depth - 1)
        return str(self.pick(f"({first} AND {second})", f"({first} OR {second})", f"NOT ({first})"))


@st.composite
def queries(draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """Return a query that PostgreSQL understands."""
    return QueryWriter(draw).statement()


@pytest.fixture
def tables(empty_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(TABLES)
        yield conn


def check_many(conn: psycopg.Connection, examples: int) -> dict[Null | str, int]:
    """Make up queries, and fail where a column that never is null is null; return how often each was said."""
    nulls = Nulls(conn)
    said: dict[Null | str, int] = dict.fromkeys(Null, 0) | {"null": 0}

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(queries())
    def check(query: str) -> None:
        tree = nulls.tree_of(query, [])
        try:
            rows = conn.execute(query.encode()).fetchall()
        except psycopg.ProgrammingError:
            reject()  # an aggregate of what only the query outside has
        assert tree is not None, query
        for at, null in enumerate(nulls.of_statement(tree, [])):
            is_null = any(row[at] is None for row in rows)
            said[null] += 1
            said["null"] += is_null
            assert not (is_null and null is Null.NEVER), f"column {at + 1} is null: {query}"

    check()
    return said


def test_what_is_called_not_null_never_is_in_hundreds_of_queries(tables: psycopg.Connection) -> None:
    said = check_many(tables, 400)
    # Saying nothing would be no mistake, and no help.
    assert said[Null.NEVER] > 100
    assert said[Null.EXTENDED] > 20
    assert said["null"] > 100


MISTAKES: dict[str, Callable[..., Any]] = {
    "_is_extended": lambda *_: False,
    "_present": lambda _self, _scope, node: {(1, 1), (1, 2), (1, 3)} if node else set(),
    "_set_operation": lambda self, scope, node, at: self._column(self._scope(scope.table(1)["subquery"], scope), at),
    "_aggregate": lambda self, scope, node: self._all(scope, [each["expr"] for each in node["args"] or ()]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_queries_find_a_mistake_in_the_proof(
    mistake: str, tables: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nulls, mistake, MISTAKES[mistake])
    with pytest.raises(AssertionError, match="is null: "):
        check_many(tables, 400)


def test_a_tree_is_read_with_whatever_names_are_in_it(tables: psycopg.Connection) -> None:
    assert read_tree(r'({X :name \<> :list (i 1 2) :none <> :text "a\ b\)" :value 4 [ 1 0 ] :next :odd})') == [
        {"": "X", "name": "<>", "list": ["i", "1", "2"], "none": None, "text": '"a b)"', "value": "4", "next": ":odd"}
    ]
    query = """SELECT id AS "} :x {", y AS "(a" , x AS "[ \\", 'it''s } \\ {' AS ":s" FROM a AS "<>" """
    nulls = Nulls(tables)
    assert nulls.of_statement(nulls.tree_of(query, []), []) == [Null.NEVER, Null.NEVER, Null.MAYBE, Null.NEVER]


def test_what_the_server_keeps_no_tree_of_is_not_described(tables: psycopg.Connection) -> None:
    assert Nulls(tables).tree_of("SHOW timezone", []) is None
    assert tables.execute("SELECT count(*) FROM pg_proc WHERE proname = 'described'").fetchone() == (0,)
