"""`kalshidb check queries` on our own statements, and as people and programs meet it."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from kalshidb import checks
from kalshidb.migration import findings as migration
from kalshidb.migration.reversible import Proof
from kalshidb.migration.snapshot import Schema
from kalshidb.sqlfiles import snapshot_file
from kalshidb.typedsql import checking
from kalshidb.typedsql.checking import Finding, Report


def test_nothing_is_wrong_with_our_statements_tables_and_indexes(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        report = checking.check(checks.project_of_package(), conn)
    assert [str(finding) for finding in report.findings] == []
    assert report.statements > 80


FOUND = Finding("queries/ops/x.sql", 3, "ops.x", "it is wrong", "mend it", "    3 | SELECT wrong\n      |        ^")


@pytest.mark.parametrize(("findings", "status"), [((), 0), ((FOUND,), 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_says_what_was_found_and_fails_if_anything(
    monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...], status: int, as_json: bool
) -> None:
    monkeypatch.setattr(checks, "scratch_server", nullcontext)
    monkeypatch.setattr(checks, "_queries", lambda _project, _server: Report(findings, 2, 1, 1))
    ended = CliRunner().invoke(checks.app, ["queries", *["--json"] * as_json])
    assert ended.exit_code == status
    if as_json:
        said = json.loads(ended.stdout)
        assert [finding["line"] for finding in said["findings"]] == [3] * status
        assert (said["statements"], said["tables"], said["indexes"]) == (2, 1, 1)
    else:
        number = "1 finding" if status else "no findings"
        assert (
            ended.stdout == "".join(f"{finding}\n" for finding in findings) + f"{number} in 2 statements, 1 tables, 1 indexes\n"
        )


def test_everything_is_checked_by_one_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each part is tested where it is at home; here, that each is asked and none is swallowed."""
    lint = migration.Finding("migrations/0001.x.sql", 1, "split", "", "it is wrong", "mend it")
    proof = Proof(Schema((), {}, 18), ["0001.x"])
    monkeypatch.setattr(checks, "scratch_server", nullcontext)
    monkeypatch.setattr(checks, "_linted", lambda _folder, house: ([lint] if house else [], "2 files"))
    monkeypatch.setattr(checks, "_generated", lambda _project: [replace(lint, rule="generated")])
    monkeypatch.setattr(checks, "_schema", lambda _folder, _file, _server: (proof, [replace(lint, rule="rollback")]))
    monkeypatch.setattr(checks, "_queries", lambda _project, _server: Report((FOUND,), 2, 1, 1))
    sarif = tmp_path / "found.sarif"
    ended = CliRunner().invoke(checks.app, ["--json", "--sarif", str(sarif)])
    assert ended.exit_code == 1
    said = json.loads(ended.stdout)
    assert [(part, [finding["rule"] for finding in found]) for part, found in said.items()] == [
        ("migrations", ["split"]), ("generated files", ["generated"]), ("schema", ["rollback"]), ("queries", ["queries"]),
    ]  # fmt: skip
    assert len(json.loads(sarif.read_text())["runs"][0]["results"]) == 4
    ended = CliRunner().invoke(checks.app, [])
    assert "migrations: 1 finding in 2 files\n" in ended.stdout
    assert f"{FOUND.file}:{FOUND.line}: {FOUND.subject}: {FOUND.problem}; {FOUND.advice} [queries]\n" in ended.stdout


def test_a_generated_file_that_was_edited_is_found_without_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    edited = tmp_path / "schema.sql"
    edited.write_text(snapshot_file().read_text().replace("NOT NULL", "NULL"))
    monkeypatch.setattr(checks, "snapshot_file", lambda: edited)
    (found,) = checks._generated(checks.project_of_package())
    assert (found.rule, Path(found.file).name) == ("generated", "schema.sql")
    assert "edited by hand" in found.problem
