"""`kalshidb check queries` on our own statements, and as people and programs meet it."""

import json
from contextlib import nullcontext

import psycopg
import pytest
from typer.testing import CliRunner

from kalshidb import checks
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
