"""Loading statements with aiosql: its loader, its queries and its adapter are where this engine hooks in.

aiosql walks the folders and names things; what it leaves open is closed here: parameters are found by SQL's own lexical rules, equal
names in two files are an error, and each statement becomes a `Statement` with a contract instead of a loosely typed function.
"""

import inspect
import keyword
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import aiosql
from aiosql.queries import Queries
from aiosql.query_loader import QueryLoader
from aiosql.types import QueryDataTree, QueryDatum, SQLOperationType, SyncDriverAdapterProtocol

from kalshidb.typedsql.errors import LoadError, Place
from kalshidb.typedsql.runtime import Statement
from kalshidb.typedsql.source import Cardinality, StatementSource, parse_statements

_OPERATIONS = {
    Cardinality.MANY: SQLOperationType.SELECT,
    Cardinality.STREAM: SQLOperationType.SELECT,
    Cardinality.ONE: SQLOperationType.SELECT_ONE,
    Cardinality.OPTIONAL: SQLOperationType.SELECT_ONE,
    Cardinality.SCALAR: SQLOperationType.SELECT_VALUE,
    Cardinality.AFFECTED: SQLOperationType.INSERT_UPDATE_DELETE,
}


class _Adapter:
    """Tells aiosql that statements are sent as they stand, but for the tag that names them on the server."""

    def process_sql(self, query_name: str, op_type: SQLOperationType, sql: str) -> str:
        return f"/* {query_name} */ {sql}"


class _Datum(QueryDatum):
    """aiosql's record of a statement, carrying ours."""

    source: StatementSource


class _Loader(QueryLoader):
    """Finds statements with `source.parse_statements` instead of regular expressions; refuses equal names in one folder."""

    root = Path()

    def load_query_data_from_sql(self, sql: str, ns_parts: list[str], fname: Path | str = "<unknown>") -> list[QueryDatum]:
        file = Path(fname)
        shown = file.relative_to(self.root.parent) if file.is_relative_to(self.root) else file
        return [self._datum(source) for source in parse_statements(sql, ".".join(ns_parts), shown)]

    def load_query_data_from_file(
        self, path: Path, ns_parts: list[str] | None = None, encoding: str | None = None
    ) -> list[QueryDatum]:
        return self.load_query_data_from_sql(path.read_text(encoding=encoding or "utf-8"), ns_parts or [], path)

    def load_query_data_from_dir_path(
        self, dir_path: Path, ext: tuple[str, ...] = (".sql",), encoding: str | None = None
    ) -> QueryDataTree:
        self.root = dir_path
        for path in sorted(dir_path.glob("**/*")):
            if path.suffix in ext:
                self._check_room(path, path.relative_to(dir_path))
        return self._load_folder(dir_path, [], ext, encoding)

    def _check_room(self, path: Path, within: Path) -> None:
        """Refuse a file whose folder, or whose own name where it stands in none, can be no module's name."""
        folders = within.parts[:-1]
        room = folders[0] if folders else within.stem
        if len(folders) > 1 or not room.isidentifier() or keyword.iskeyword(room):
            problem = (
                f"statements stand right below {self.root.name}/ or in one folder there, and file or folder is a Python name"
            )
            raise LoadError(Place(path, 1), None, problem)

    def _load_folder(self, folder: Path, parts: list[str], ext: tuple[str, ...], encoding: str | None) -> QueryDataTree:
        tree: QueryDataTree = {}
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                self._merge(tree, path.name, self._load_folder(path, [*parts, path.name], ext, encoding))
            elif path.suffix in ext:
                # A file that stands in no folder is a room of its own.
                room, of = ([path.stem], dict[str, Any]()) if not parts else (parts, tree)
                for datum in self.load_query_data_from_file(path, room, encoding):
                    self._put(of, datum.query_name.rpartition(".")[2], datum)
                if not parts:
                    self._merge(tree, path.stem, of)
        return tree

    def _merge(self, tree: QueryDataTree, room: str, statements: QueryDataTree) -> None:
        already = tree.setdefault(room, {})
        assert isinstance(already, dict)  # noqa: S101  (rooms only, at this depth)
        for name, statement in statements.items():
            self._put(already, name, statement)

    def _put(self, tree: QueryDataTree, name: str, datum: "QueryDatum | QueryDataTree") -> None:
        if name in tree and isinstance(datum, _Datum):
            first = tree[name]
            at = first.source.place if isinstance(first, _Datum) else name
            raise LoadError(datum.source.place, name, f"a statement of this name stands at {at} already; rename one")
        tree[name] = datum

    def _datum(self, source: StatementSource) -> _Datum:
        signature = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in source.parameters])
        operation = _OPERATIONS[source.cardinality]
        datum = _Datum(
            source.full_name,
            source.doc,
            operation,
            self._driver_adapter.process_sql(source.full_name, operation, source.sql),
            None,
            signature,
            (source.place.file, source.place.line),
            None,
            list(source.parameters),
        )
        datum.source = source
        return datum


class Statements(Queries):
    """All statements of a tree of SQL files, by full name (`folder.name`)."""

    def __init__(self, driver_adapter: Any, kwargs_only: bool = True) -> None:  # noqa: ANN401  (aiosql's own signature)
        super().__init__(driver_adapter, kwargs_only)
        self._statements: dict[str, Statement] = {}

    def load_from_tree(self, query_data_tree: QueryDataTree) -> "Statements":
        """Make the statements of a loaded tree, in the order of their files."""
        for value in query_data_tree.values():
            if isinstance(value, dict):
                self.load_from_tree(value)
            else:
                assert isinstance(value, _Datum)  # noqa: S101  (the tree comes from _Loader)
                self._statements[value.query_name] = Statement(value.source, value.sql)
        return self

    def link(self) -> "Statements":
        """Connect each bulk statement to its steps."""
        for statement in self:
            statement.link(
                {name: other for name, other in self._statements.items() if other.source.room == statement.source.room}
            )
        return self

    def __getitem__(self, full_name: str) -> Statement:
        return self._statements[full_name]

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._statements.values())


def load_statements(folder: Path) -> Statements:
    """Load every `*.sql` below a folder.

    Raises:
        LoadError: names the file and line of the first thing that is wrong.
    """
    # aiosql asks for a whole driver; it never calls ours, because statements run in `runtime`.
    adapter = cast("Callable[..., SyncDriverAdapterProtocol]", _Adapter)
    loaded = cast("Statements", aiosql.from_path(folder, adapter, loader_cls=_Loader, queries_cls=Statements))
    return loaded.link()
