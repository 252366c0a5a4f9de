"""Proving that a column is never null, from what the server made of the statement. Development time only.

PostgreSQL keeps the body of a SQL function, and of a view, as the tree that its parser made: every name resolved, every operator and
function known, nothing planned yet. That tree is read here. Unlike a plan it says the same whatever statistics, settings and
versions are, and no outer join is folded, turned round or left out of it.

A column is not null when the tree proves it: a NOT NULL column on a side that no outer join extends, a constant, a count, COALESCE
with something not null in it, a function of such that PostgreSQL never answers with null. Everything else may be null.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, TypeAlias

import psycopg

Node: TypeAlias = dict[str, Any]


class Null(IntEnum):
    """Whether a column can be null; of several the greatest counts."""

    NEVER = 0
    MAYBE = 1
    EXTENDED = 2
    """The unmatched side of an outer join: nothing but another join can change it."""


# -- the text form of a tree -------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[(){}]|(?:\\.|[^\s(){}\\])+", re.DOTALL)


def read_tree(text: str) -> Any:  # noqa: ANN401  (a node, or a list of them)
    """Read a pg_node_tree: nodes become dictionaries with their kind under "", lists become lists, all else stays text."""
    tokens = _TOKEN.findall(text)
    value, _ = _value(tokens, 0)
    return value


def _value(tokens: list[str], at: int) -> tuple[Any, int]:
    word = tokens[at]
    if word == "{":
        node: Node = {"": tokens[at + 1]}
        at += 2
        while tokens[at] != "}":
            name = tokens[at][1:]
            node[name], at = _value(tokens, at + 1)
            if tokens[at] == "[":  # the bytes of a constant
                at = tokens.index("]", at) + 1
        return node, at + 1
    if word == "(":
        items: list[Any] = []
        at += 1
        while tokens[at] != ")":
            item, at = _value(tokens, at)
            items.append(item)
        return items, at + 1
    if word == "<>":
        return None, at + 1
    return re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL), at + 1


def tables_of(tree: Any) -> tuple[frozenset[int], frozenset[int]]:  # noqa: ANN401  (a node, or a list of them)
    """Return the tables and views that a statement names, in its subqueries too: those that it only reads, those that it writes."""
    named, written, pending = set[int](), set[int](), [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            pending += node.values()
            if node[""] == "RANGETBLENTRY" and node["rtekind"] == _RELATION:
                named.add(int(node["relid"]))
            elif node[""] == "QUERY" and (target := int(node["resultRelation"])):
                written.add(int(node["rtable"][target - 1]["relid"]))
    return frozenset(named - written), frozenset(written)


_Place = int | tuple[int, int] | None
_TURNED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}  # what a comparison becomes when its sides change places
_CASTS = {"RELABELTYPE", "COERCETODOMAIN", "COERCEVIAIO", "ARRAYCOERCEEXPR"}


def _place(node: Node | None, queries: tuple[Node, ...]) -> _Place:  # noqa: PLR0911  (a case for each kind of table)
    """Return which parameter, or which column of which table, an expression is but for casts; None when it is neither."""
    while node is not None and (node[""] in _CASTS or (node[""] == "FUNCEXPR" and node["funcformat"] in ("1", "2"))):
        node = node["arg"] if node[""] in _CASTS else node["args"][0]
    if node is None or node[""] not in ("PARAM", "VAR"):
        return None
    if node[""] == "PARAM":
        return int(node["paramid"]) if node["paramkind"] == "0" else None
    queries = queries[: len(queries) - int(node["varlevelsup"])]
    number = int(node["varattno"])
    if not queries or int(node["varno"]) < 1 or number < 1:
        return None
    table: Node = queries[-1]["rtable"][int(node["varno"]) - 1]
    match table["rtekind"]:
        case "0":
            return int(table["relid"]), number
        case "1" if table["subquery"]["commandType"] == _SELECT and not table["subquery"]["setOperations"]:
            return _place(table["subquery"]["targetList"][number - 1]["expr"], (*queries, table["subquery"]))
        case "2":
            return _place(table["joinaliasvars"][number - 1], queries)
        case "9":
            return _place(table["groupexprs"][number - 1], queries)
        case "3" if number <= len(table["functions"]):  # unnest(:these, :those) is a function each
            called = table["functions"][number - 1]["funcexpr"]
            one = called[""] == "FUNCEXPR" and called["args"] and len(called["args"]) == 1
            return _place(called["args"][0], queries) if one else None
    return None


# -- what PostgreSQL's own functions never do --------------------------------------------------------------------------------------

# Of the functions in pg_catalog those that answer no arguments but null ones with null. Left out for what they do with some value:
# extract, to_char and time() of an infinite time, lower() of a range without bound (its arguments are not plain), substring() by pattern.
_TOTAL_FUNCTIONS = frozenset(
    re.findall(r"\w+", """
    lower upper initcap length char_length character_length octet_length bit_length btrim ltrim rtrim lpad rpad left right replace
    reverse repeat translate md5 ascii chr concat strpos position split_part starts_with quote_literal quote_ident
    abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log power pow mod div random pi
    now clock_timestamp statement_timestamp transaction_timestamp date_trunc date_bin timezone make_date make_interval
    int2 int4 int8 float4 float8 numeric text varchar bpchar date timestamp timestamptz interval bool
    gen_random_uuid nextval hashtext hashtextextended
    """)
)  # fmt: skip
# The same whatever the types of the arguments are.
_TOTAL_FUNCTIONS_OF_ANYTHING = frozenset(
    re.findall(r"\w+", """
    cardinality isempty lower_inc upper_inc lower_inf upper_inf to_json to_jsonb row_to_json json_typeof jsonb_typeof array_to_string
    to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd
    """)
)  # fmt: skip
_NEVER_NULL_FUNCTIONS = frozenset(
    re.findall(r"\w+", """
    concat num_nulls num_nonnulls version pg_backend_pid json_build_array json_build_object jsonb_build_array jsonb_build_object
    """)
)  # fmt: skip
_TOTAL_OPERATORS_OF_ANYTHING = frozenset(["=", "<>", "<", "<=", ">", ">=", "@>", "<@", "&&", "?", "?|", "?&", "||"])
_TEXT_SEARCH = frozenset({"ts_match_vq", "ts_match_qv", "ts_match_tt", "ts_match_tq"})
_TOTAL_OPERATORS = frozenset(re.findall(r"\S+", "= <> < <= > >= + - * / % ^ || ~~ !~~ ~~* !~~* ~ ~* !~ !~*"))
_PLAIN_CATEGORIES = frozenset("NSDTB")
_PLAIN_TYPES = frozenset({"bytea", "uuid", "unknown", "any", "xid"})
_TOTAL_WINDOWS = frozenset({"row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "count"})
# Never null over one row or more of what is not null.
_TOTAL_AGGREGATES = frozenset({"min", "max", "sum", "avg", "bool_and", "bool_or", "every", "string_agg", "bit_and", "bit_or"})
# Never null over one row or more.
_COLLECTING_AGGREGATES = frozenset({"array_agg", "json_agg", "jsonb_agg"})
_CURRENT_SCHEMA = "14"
_SELECT, _UPDATE, _INSERT, _DELETE, _MERGE = "1", "2", "3", "4", "5"
_INNER, _LEFT, _FULL, _RIGHT = "0", "1", "2", "3"
_RELATION, _SUBQUERY, _JOIN, _FUNCTION, _VALUES, _CTE, _GROUP = "0", "1", "2", "3", "5", "6", "9"


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    builtin: bool
    strict: bool
    many: bool
    plain: bool


class Nulls:
    """Reads the nulls of queries, of one database."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._functions: dict[str, _Function] = {}
        self._operators: dict[str, tuple[str, str]] = {}
        self._relations: dict[int, dict[int, Null]] = {}
        self._rewritten: dict[int, bool] = {}
        self._cache: dict[tuple[int, int], Null] = {}
        self._scopes: dict[int, _Scope] = {}
        self._assuming: set[tuple[int, str]] = set()

    def of_statement(self, tree: Any, nullable: Iterable[int]) -> list[Null]:  # noqa: ANN401  (what `tree_of` returns)
        """Return the nulls of a statement's columns.

        Args:
            tree: the statement as `tree_of` has it.
            nullable: the numbers, from 1, of the parameters that may be null.
        """
        return self._of_tree(tree, frozenset(nullable))

    def tree_of(self, query: str, parameter_types: Iterable[str]) -> Any:  # noqa: ANN401  (a node, or a list of them)
        """Return the tree that the server makes of a statement, or None when it keeps none of such a statement (SHOW).

        Args:
            query: the statement, with $1, $2 …
            parameter_types: their types, as SQL writes them.
        """
        try:
            with self._conn.transaction(force_rollback=True):
                self._conn.execute(
                    f"CREATE FUNCTION pg_temp.described({', '.join(parameter_types)}) RETURNS void "
                    f"LANGUAGE sql BEGIN ATOMIC {query}\n; END".encode()
                )
                row = self._conn.execute(
                    "SELECT prosqlbody::text FROM pg_proc "
                    "WHERE proname = 'described' AND pronamespace = pg_my_temp_schema() ORDER BY oid DESC LIMIT 1"
                ).fetchone()
        except psycopg.Error:
            return None
        assert row is not None  # noqa: S101  (just made)
        return read_tree(row[0])

    def columns_of_parameters(self, tree: Any) -> dict[int, list[tuple[int, int, str]]]:  # noqa: ANN401
        """Return by the number of each parameter the columns (table or view, number) that take its value or are compared with it, and how.

        How a column stands to the parameter is = (also where it takes the value), <, <=, > or >=. `tree` is what `tree_of` returns.
        """
        found: dict[int, list[tuple[int, int, str]]] = {}

        def pair(one: "_Place", how: str, other: "_Place") -> None:
            for parameter, column, told in ((other, one, how), (one, other, _TURNED[how])):
                if isinstance(parameter, int) and isinstance(column, tuple):
                    columns = found.setdefault(parameter, [])
                    if (*column, told) not in columns:
                        columns.append((*column, told))

        def walk(node: Any, queries: tuple[Node, ...]) -> None:  # noqa: ANN401  (a node, or a list of them)
            if isinstance(node, list):
                for each in node:
                    walk(each, queries)
            if not isinstance(node, dict):
                return
            if node[""] == "QUERY":
                queries = (*queries, node)
                if node["commandType"] in (_INSERT, _UPDATE):
                    table = int(node["rtable"][int(node["resultRelation"]) - 1]["relid"])
                    for target in node["targetList"] or ():
                        pair((table, int(target["resno"])), "=", _place(target["expr"], queries))
            elif node[""] in ("OPEXPR", "SCALARARRAYOPEXPR") and (how := self._operator(node["opno"])[0]) in _TURNED:
                one, other = node["args"]
                pair(_place(one, queries), how, _place(other, queries))
            for part in node.values():
                walk(part, queries)

        walk(tree, ())
        return found

    def of_relation(self, oid: int) -> dict[int, Null]:
        """Return the nulls of the columns of a table or a view, by their numbers."""
        if oid not in self._relations:
            self._relations[oid] = self._of_relation(oid)
        return self._relations[oid]

    def origins(self, view: int) -> dict[int, tuple[int, int]]:
        """Return for the columns of a view, by number, the table or view and the number of the column that they show unchanged."""
        row = self._conn.execute(
            "SELECT ev_action::text FROM pg_rewrite WHERE ev_class = %s AND ev_type = '1'", [view]
        ).fetchone()
        tree = read_tree(row[0]) if row else None
        while isinstance(tree, list):
            tree = tree[-1]
        targets = [target for target in tree["targetList"] if target["resjunk"] != "true"] if tree else []
        return {
            number: (int(target["resorigtbl"]), int(target["resorigcol"]))
            for number, target in enumerate(targets, start=1)
            if target["resorigtbl"] != "0"
        }

    def _of_relation(self, oid: int) -> dict[int, Null]:
        rule = self._conn.execute(
            "SELECT r.ev_action::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class "
            "WHERE r.ev_class = %s AND c.relkind IN ('v', 'm') AND r.ev_type = '1'",
            [oid],
        ).fetchone()
        if rule is not None:
            return dict(enumerate(self._of_tree(read_tree(rule[0]), frozenset()), start=1))
        # A domain's own NOT NULL proves nothing: a subquery without rows stores a null past it. Nor does a constraint that was added
        # NOT VALID, one that tables below do not share, or one of a foreign table, which nobody enforces.
        found = self._conn.execute(
            """
            WITH RECURSIVE family (oid) AS (
                SELECT %s::oid
                UNION
                SELECT i.inhrelid FROM pg_inherits i JOIN family f ON f.oid = i.inhparent
            )
            SELECT own.attnum, bool_and(c.relkind IN ('r', 'p') AND a.attnotnull AND NOT EXISTS (
                SELECT FROM pg_constraint k
                WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated
            ))
            FROM pg_attribute own, family f
            JOIN pg_class c ON c.oid = f.oid
            JOIN pg_attribute a ON a.attrelid = f.oid
            WHERE own.attrelid = %s AND own.attnum > 0 AND NOT own.attisdropped AND a.attname = own.attname AND NOT a.attisdropped
            GROUP BY own.attnum
            """,
            [oid, oid],
        ).fetchall()
        return {number: Null.NEVER if proven else Null.MAYBE for number, proven in found}

    def _of_tree(self, tree: Any, nullable: frozenset[int]) -> list[Null]:  # noqa: ANN401  (a node, or a list of them)
        while isinstance(tree, list):
            tree = tree[-1]
        scope = _Scope(tree, None, nullable)
        # The tree is held here while it is read: caches go by its nodes' identity.
        outer, self._cache, outer_scopes, self._scopes = self._cache, {}, self._scopes, {id(tree): scope}
        try:
            return [self._column(scope, at) for at in range(len(scope.outputs))]
        finally:
            self._cache, self._scopes = outer, outer_scopes

    # -- the catalogue -----------------------------------------------------------------------------------------------------------

    def _function(self, oid: str) -> _Function:
        if oid not in self._functions:
            row = self._conn.execute(
                """
                SELECT p.proname::text, p.pronamespace = 'pg_catalog'::regnamespace, p.proisstrict, p.proretset,
                    NOT EXISTS (
                        SELECT FROM unnest(p.proargtypes) AS argument JOIN pg_type t ON t.oid = argument
                        WHERE t.typcategory::text <> ALL (%s) AND t.typname <> ALL (%s)
                    )
                FROM pg_proc p
                WHERE p.oid = %s
                """,
                [list(_PLAIN_CATEGORIES), list(_PLAIN_TYPES), int(oid)],
            ).fetchone()
            assert row is not None  # noqa: S101  (the server named it)
            self._functions[oid] = _Function(*row)
        return self._functions[oid]

    def _operator(self, oid: str) -> tuple[str, str]:
        """Return an operator's name and its function."""
        if oid not in self._operators:
            row = self._conn.execute(
                "SELECT oprname::text, oprcode::oid::text FROM pg_operator WHERE oid = %s", [int(oid)]
            ).fetchone()
            assert row is not None  # noqa: S101  (the server named it)
            self._operators[oid] = row
        return self._operators[oid]

    def _has_rules(self, relation: int) -> bool:
        """Tell whether writing into a relation may answer with something else than its rows."""
        if relation not in self._rewritten:
            row = self._conn.execute(
                "SELECT c.relkind NOT IN ('r', 'p') OR c.relhasrules FROM pg_class c WHERE c.oid = %s", [relation]
            ).fetchone()
            self._rewritten[relation] = row is None or bool(row[0])
        return self._rewritten[relation]

    # -- queries -----------------------------------------------------------------------------------------------------------------

    def _scope(self, query: Node, parent: "_Scope") -> "_Scope":
        if id(query) not in self._scopes:
            self._scopes[id(query)] = _Scope(query, parent, parent.nullable_parameters)
        return self._scopes[id(query)]

    def _column(self, scope: "_Scope", at: int) -> Null:
        key = (id(scope.query), at)
        if key not in self._cache:
            found = self._column_now(scope, at)
            self._cache[key] = found
        return self._cache[key]

    def _column_now(self, scope: "_Scope", at: int) -> Null:
        if at >= len(scope.outputs):
            return Null.MAYBE  # what SEARCH and CYCLE add
        if scope.query["setOperations"]:
            return self._set_operation(scope, scope.query["setOperations"], at)
        target = scope.outputs[at]
        if scope.grouping_sets and (
            target["ressortgroupref"] != "0"
            or not (target["expr"][""] in ("CONST", "GROUPINGFUNC") or self._counts(target["expr"]))
        ):
            # A grouped column, or an expression of one, is null in the rows of the other sets.
            return Null.MAYBE
        return self._null(scope, target["expr"])

    def _set_operation(self, scope: "_Scope", node: Node, at: int) -> Null:
        if node[""] == "RANGETBLREF":
            return self._column(self._scope(scope.table(node["rtindex"])["subquery"], scope), at)
        left = self._set_operation(scope, node["larg"], at)
        right = self._set_operation(scope, node["rarg"], at)
        return {"1": max(left, right), "2": min(left, right), "3": left}.get(node["op"], Null.MAYBE)  # UNION, INTERSECT, EXCEPT

    def _counts(self, node: Node) -> bool:
        return bool(node[""] == "AGGREF" and self._builtin(node["aggfnoid"]) in ("count", "regr_count"))

    def _builtin(self, function: str) -> str | None:
        found = self._function(function)
        return found.name if found.builtin else None

    # -- expressions -------------------------------------------------------------------------------------------------------------

    def _null(self, scope: "_Scope", node: Node | None) -> Null:  # noqa: PLR0911, PLR0912  (a case for each kind of node)
        if node is None:
            return Null.MAYBE
        match node[""]:
            case "VAR":
                return self._variable(scope, node)
            case "CONST":
                return Null.MAYBE if node["constisnull"] == "true" else Null.NEVER
            case "PARAM":
                known = node["paramkind"] == "0" and int(node["paramid"]) not in scope.nullable_parameters
                return Null.NEVER if known else Null.MAYBE
            case "RELABELTYPE" | "COERCEVIAIO" | "COLLATEEXPR" | "COERCETODOMAIN" | "ARRAYCOERCEEXPR":
                return self._null(scope, node["arg"])
            case "COALESCEEXPR" | "COALESCE" | "MINMAXEXPR" | "MINMAX":
                return Null.NEVER if any(self._null(scope, each) is Null.NEVER for each in node["args"]) else Null.MAYBE
            case "CASEEXPR" | "CASE":
                results = [*(when["result"] for when in node["args"]), node["defresult"]]
                return self._all(scope, results)
            case "BOOLEXPR":
                return self._all(scope, node["args"])
            case "NULLTEST" | "BOOLEANTEST" | "DISTINCTEXPR" | "ARRAYEXPR" | "ARRAY" | "ROWEXPR" | "ROW" | "GROUPINGFUNC":
                return Null.NEVER
            case "SQLVALUEFUNCTION":
                return Null.MAYBE if node["op"] == _CURRENT_SCHEMA else Null.NEVER
            case "NEXTVALUEEXPR":
                return Null.NEVER
            case "FUNCEXPR":
                function = self._function(node["funcid"])
                if not function.builtin or function.many:
                    return Null.MAYBE
                if function.name in _NEVER_NULL_FUNCTIONS:
                    return Null.NEVER
                total = function.name in _TOTAL_FUNCTIONS_OF_ANYTHING or (function.plain and function.name in _TOTAL_FUNCTIONS)
                return self._all(scope, node["args"]) if total else Null.MAYBE
            case "OPEXPR":
                return self._all(scope, node["args"]) if self._total_operator(node["opno"]) else Null.MAYBE
            case "SCALARARRAYOPEXPR":
                # x IN (1, 2); an array from elsewhere may have nulls in it.
                listed = node["args"][1][""] in ("ARRAYEXPR", "ARRAY") and self._total_operator(node["opno"])
                return self._all(scope, [node["args"][0], *(node["args"][1]["elements"] or ())]) if listed else Null.MAYBE
            case "AGGREF":
                return self._aggregate(scope, node)
            case "WINDOWFUNC":
                return Null.NEVER if self._builtin(node["winfnoid"]) in _TOTAL_WINDOWS else Null.MAYBE
            case "SUBLINK":
                return self._sublink(scope, node)
            case _:
                return Null.MAYBE

    def _all(self, scope: "_Scope", nodes: Iterable[Node | None] | None) -> Null:
        return Null.NEVER if all(self._null(scope, node) is Null.NEVER for node in nodes or ()) else Null.MAYBE

    def _total_operator(self, oid: str) -> bool:
        name, code = self._operator(oid)
        function = self._function(code)
        if not function.builtin or function.many:
            return False
        return (
            name in _TOTAL_OPERATORS_OF_ANYTHING or function.name in _TEXT_SEARCH or (function.plain and name in _TOTAL_OPERATORS)
        )

    def _aggregate(self, scope: "_Scope", node: Node) -> Null:
        if self._counts(node):
            return Null.NEVER
        # A group has a row at least; without GROUP BY there may be none, and a FILTER may leave none.
        if node["agglevelsup"] != "0" or not scope.query["groupClause"] or scope.grouping_sets or node["aggfilter"]:
            return Null.MAYBE
        name = self._builtin(node["aggfnoid"])
        if name in _COLLECTING_AGGREGATES:
            return Null.NEVER
        arguments = [target["expr"] for target in node["args"] or () if target["resjunk"] != "true"]
        return self._all(scope, arguments) if name in _TOTAL_AGGREGATES else Null.MAYBE

    def _sublink(self, scope: "_Scope", node: Node) -> Null:
        kind = node["subLinkType"]
        if kind in ("0", "6"):  # EXISTS, ARRAY
            return Null.NEVER
        if kind != "4":  # one value
            return Null.MAYBE
        inner = self._scope(node["subselect"], scope)
        return self._column(inner, 0) if inner.has_one_row else Null.MAYBE

    def _variable(self, scope: "_Scope", node: Node) -> Null:
        owner = scope.above(int(node["varlevelsup"]))
        if owner is None or owner.grouping_sets:
            return Null.MAYBE
        number, column = int(node["varno"]), int(node["varattno"])
        table = owner.table(number)
        kind = table["rtekind"]
        if kind == _GROUP:
            return self._null(owner, table["groupexprs"][column - 1])
        if kind == _JOIN:
            return self._null(owner, table["joinaliasvars"][column - 1]) if column > 0 else Null.MAYBE
        if (number, column) in self._facts(owner):
            return Null.NEVER
        if self._is_extended(owner, number):
            return Null.EXTENDED
        if number == owner.target and self._is_other_row(owner, node, int(table["relid"])):
            return Null.MAYBE
        if column <= 0:
            # A whole row; what is below zero is the system's, xmax or ctid, which rows of partitions may lack.
            return Null.NEVER if kind == _RELATION and table["relkind"] in (("r", "p") if column == 0 else ("r",)) else Null.MAYBE
        return self._of_table(owner, table, column)

    def _is_other_row(self, scope: "_Scope", node: Node, relation: int) -> bool:
        """Tell whether a written table's column is read from a row that need not exist: old of an INSERT, new of a DELETE."""
        if self._has_rules(relation):
            return True
        which = node.get("varreturningtype", "0")
        return (which == "1" and scope.command in (_INSERT, _MERGE)) or (which == "2" and scope.command in (_DELETE, _MERGE))

    def _of_table(self, scope: "_Scope", table: Node, column: int) -> Null:
        match table["rtekind"]:
            case k if k == _RELATION:
                return self.of_relation(int(table["relid"])).get(column, Null.MAYBE)
            case k if k == _SUBQUERY:
                return self._column(self._scope(table["subquery"], scope), column - 1)
            case k if k == _FUNCTION:
                return self._of_function(scope, table, column)
            case k if k == _VALUES:
                return max((self._null(scope, row[column - 1]) for row in table["values_lists"]), default=Null.MAYBE)
            case k if k == _CTE:
                return self._of_cte(scope, table, column)
            case _:
                return Null.MAYBE

    def _of_function(self, scope: "_Scope", table: Node, column: int) -> Null:
        functions = table["functions"]
        if table["funcordinality"] == "true" and column > sum(int(each["funccolcount"]) for each in functions):
            return Null.NEVER
        call = functions[0]["funcexpr"]
        if len(functions) > 1 or call[""] != "FUNCEXPR":
            return Null.MAYBE  # the shorter of several is filled with nulls
        if self._builtin(call["funcid"]) == "generate_series":
            return Null.NEVER
        return self._null(scope, call)

    def _of_cte(self, scope: "_Scope", table: Node, column: int) -> Null:
        owner = scope.above(int(table["ctelevelsup"]))
        cte = (
            next((each for each in (owner.query["cteList"] or ()) if each["ctename"] == table["ctename"]), None)
            if owner
            else None
        )
        if owner is None or cte is None:
            return Null.MAYBE
        body = self._scope(cte["ctequery"], owner)
        if cte["cterecursive"] != "true":
            return self._column(body, column - 1)
        if cte["ctename"] not in owner.assumed:
            # What a recursive query gives is not null if it is not null given that: assumed first, and taken back until it holds.
            assumed = [Null.NEVER] * len(body.outputs)
            self._assuming.add((id(owner), cte["ctename"]))
            while True:
                owner.assumed[cte["ctename"]] = assumed
                self._forget_conclusions()
                found = [max(before, self._column(body, at)) for at, before in enumerate(assumed)]
                if found == assumed:
                    break
                assumed = found
            self._assuming.remove((id(owner), cte["ctename"]))
        known = owner.assumed[cte["ctename"]]
        return known[column - 1] if column <= len(known) else Null.MAYBE

    def _forget_conclusions(self) -> None:
        """Drop what was concluded from an assumption that changes now, but keep the assumptions that are being tried."""
        self._cache.clear()
        for scope in self._scopes.values():
            scope.assumed = {name: nulls for name, nulls in scope.assumed.items() if (id(scope), name) in self._assuming}

    # -- what WHERE and the ON of inner joins leave out ----------------------------------------------------------------------------

    def _facts(self, scope: "_Scope") -> set[tuple[int, int]]:
        """Return the columns of a query's tables that no row comes out with as null, whatever they are in the table."""
        if scope.facts is None:
            found: set[tuple[int, int]] = set()
            for condition in scope.conditions:
                found |= self._true(scope, condition)
            scope.matched = {join for number, _ in found for join in scope.nulling.get(number, ())}
            # What is written may differ from what was found.
            scope.facts = {each for each in found if each[0] != scope.target}
        return scope.facts

    def _is_extended(self, scope: "_Scope", number: int) -> bool:
        self._facts(scope)
        merged_unmatched = (
            scope.command == _MERGE
            and number != scope.target
            and any(action.get("matchKind", "1") == "1" for action in scope.query["mergeActionList"] or ())
        )
        return merged_unmatched or any(join not in scope.matched for join in scope.nulling.get(number, ()))

    def _true(self, scope: "_Scope", node: Node) -> set[tuple[int, int]]:
        """Return the columns that are not null where a condition is true."""
        match node[""]:
            case "BOOLEXPR" if node["boolop"] == "and":
                return set[tuple[int, int]]().union(*(self._true(scope, each) for each in node["args"]))
            case "BOOLEXPR" if node["boolop"] == "or":
                return set[tuple[int, int]].intersection(*(self._true(scope, each) for each in node["args"]))
            case "BOOLEXPR":
                return self._present(scope, node["args"][0])
            case "NULLTEST" if node["nulltesttype"] == "1" and node["argisrow"] == "false":
                return self._present(scope, node["arg"])
            case "BOOLEANTEST" if node["booltesttype"] in ("0", "2", "5"):
                return self._present(scope, node["arg"])
            case "SCALARARRAYOPEXPR" if node["useOr"] == "true" and self._function(self._operator(node["opno"])[1]).strict:
                return self._present(scope, node["args"][0])
            case "SUBLINK" if node["subLinkType"] == "2":  # x IN (SELECT …)
                return self._true(scope, node["testexpr"])
            case _:
                return self._present(scope, node)

    def _present(self, scope: "_Scope", node: Node | None) -> set[tuple[int, int]]:
        """Return the columns that are not null where an expression is not null."""
        nothing = set[tuple[int, int]]()
        if node is None:
            return nothing
        match node[""]:
            case "VAR" if node["varlevelsup"] == "0":
                number, column = int(node["varno"]), int(node["varattno"])
                if scope.table(number)["rtekind"] == _JOIN:
                    return self._present(scope, scope.table(number)["joinaliasvars"][column - 1]) if column > 0 else nothing
                return {(number, column)}
            case "OPEXPR" if self._function(self._operator(node["opno"])[1]).strict:
                return nothing.union(*(self._present(scope, each) for each in node["args"]))
            case "FUNCEXPR" if (function := self._function(node["funcid"])).strict and not function.many:
                return nothing.union(*(self._present(scope, each) for each in node["args"] or ()))
            case "RELABELTYPE" | "COERCEVIAIO" | "COLLATEEXPR":
                return self._present(scope, node["arg"])
            case _:
                return nothing


@dataclass
class _Scope:
    """A query of the tree with what surrounds it."""

    query: Node
    parent: "_Scope | None"
    nullable_parameters: frozenset[int]
    assumed: dict[str, list[Null]] = field(default_factory=dict[str, list[Null]])
    nulling: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    conditions: list[Node] = field(default_factory=list[Node])
    matched: set[str] = field(default_factory=set[str])
    facts: set[tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        self.command: str = self.query["commandType"]
        self.target = int(self.query["resultRelation"])
        self.grouping_sets = bool(self.query["groupingSets"])
        targets = self.query["targetList" if self.command == _SELECT else "returningList"] or ()
        self.outputs: list[Node] = [target for target in targets if target["resjunk"] != "true"]
        self._walk(self.query["jointree"], ())

    def table(self, number: int | str) -> Node:
        found: Node = self.query["rtable"][int(number) - 1]
        return found

    def above(self, levels: int) -> "_Scope | None":
        scope: _Scope | None = self
        for _ in range(levels):
            scope = scope.parent if scope else None
        return scope

    @cached_property
    def has_one_row(self) -> bool:
        """Whether the query gives exactly one row, whatever is in the database."""
        query = self.query
        if query["hasTargetSRFs"] == "true" or query["setOperations"] or query["limitCount"] or query["limitOffset"]:
            return False
        if query["havingQual"] or query["groupClause"] or self.grouping_sets or self.command != _SELECT:
            return False
        tree = query["jointree"]
        return query["hasAggs"] == "true" or not (tree["fromlist"] or tree["quals"])

    def _walk(self, node: Node | None, nulling: tuple[str, ...]) -> None:
        """Note which joins can make a table null, and which conditions every row meets."""
        if node is None:
            return
        if node[""] == "RANGETBLREF":
            self.nulling[int(node["rtindex"])] = nulling
            return
        if node[""] == "FROMEXPR":
            for each in node["fromlist"] or ():
                self._walk(each, nulling)
        else:
            kind, join = node["jointype"], node["rtindex"]
            self._walk(node["larg"], (*nulling, f"{join} left") if kind in (_RIGHT, _FULL) else nulling)
            self._walk(node["rarg"], (*nulling, f"{join} right") if kind in (_LEFT, _FULL) else nulling)
        if node["quals"] and not nulling and node.get("jointype", _INNER) == _INNER:
            self.conditions.append(node["quals"])
