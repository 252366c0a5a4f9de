"""Dependencies point one way; a room that reaches back is found here, with the line."""

import ast
from pathlib import Path

import pytest

import kalshidb

ROOT = Path(kalshidb.__file__).parent

# What each room may import of the others. cli, its checks, demo and terminal stand on top and may use everything.
ALLOWED = {
    "typedsql": set(),
    "settings": set(),
    "sqlfiles": set(),
    "documents": set(),
    "models": {"documents"},
    "postgres": {"settings"},
    "migration": {"postgres", "sqlfiles", "queries", "models"},
    "queries": {"documents", "models", "typedsql", "sqlfiles"},
    "exchange": {"models"},
    "api": {"exchange", "models"},
    "ingest": {"exchange", "models", "queries", "typedsql"},
}
# The engine's command has to have a server to ask and migrations to apply; the engine itself knows neither.
COMMANDS = {"typedsql/__main__.py": {"postgres", "migration"}}
TOP = {
    "cli",
    "cli_collect",
    "cli_stream",
    "cli_ingest",
    "cli_migrations",
    "cli_runs",
    "checks",
    "demo",
    "terminal",
    "__main__",
    "__init__",
}


def room_of(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(module: Path) -> list[tuple[int, str]]:
    """Return the rooms that a module imports, with the lines, also inside functions."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import; write where it comes from"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "kalshidb" else [node.module or ""]
        found += [
            (node.lineno, name.split(".")[1]) for name in names if name.startswith("kalshidb.") and name != "kalshidb.__version__"
        ]
    return found


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_rooms_below_its_own(module: Path) -> None:
    room = room_of(module)
    if room in TOP:
        return
    assert room in ALLOWED, f"{module}: a new room; say here what it may import"
    allowed = ALLOWED[room] | COMMANDS.get(module.relative_to(ROOT).as_posix(), set())
    for line, other in imported_rooms(module):
        assert other == room or other in allowed, f"{module}:{line}: {room} may not import {other}"


def test_the_rule_sees_imports_inside_functions(tmp_path: Path) -> None:
    module = tmp_path / "reaching_back.py"
    module.write_text("def late():\n    from kalshidb.ingest import load\n    import kalshidb.cli\n")
    assert imported_rooms(module) == [(2, "ingest"), (3, "cli")]


def test_python_outside_the_engine_holds_no_statements_about_our_tables() -> None:
    for module in MODULES:
        room = room_of(module)
        if room in {"typedsql", "queries", "models"}:
            continue
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = node.value.upper().split()
                is_sql = words[:1] and words[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "COPY"} and len(words) > 2
                names_ours = any(
                    f"{schema}." in node.value for schema in ("catalog", "market_data", "research", "trading", "backtest", "ops")
                )
                assert not (is_sql and names_ours), f"{module}:{node.lineno}: SQL belongs into queries/"
