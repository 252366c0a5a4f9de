"""What a check of migrations, schema or a live database found: one line for people, JSON for programs, SARIF for reviewing tools."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kalshidb import __version__

RULES = {
    "generated": "A generated file is missing, stale or edited by hand.",
    "queries": "A statement, or what is generated from it, is not sound.",
    "apply": "A migration cannot be applied.",
    "rollback": "A rollback fails, leaves something behind or takes too much.",
    "reapply": "A migration that was taken back cannot be applied again, or makes another schema.",
    "snapshot": "The snapshot is not what the migrations make.",
    "missing": "An object of the snapshot is not in the database.",
    "extra": "An object of the database is not in the snapshot.",
    "changed": "An object is defined otherwise than in the snapshot.",
    "column-order": "The columns of a table stand in another order than in the snapshot.",
    "default-partition": "A partition takes rows that belong into none.",
    "partition": "A partition that no loader makes is not in the snapshot.",
    "scratch": "A scratch server cannot make what a database has, so it was compared as it is written there.",
    "fault": "An index or constraint is there and does not do its work.",
}
"""What each rule is about, apart from those of single statements (kalshidb.migration.lint)."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is wrong, where it stands, and what to do about it.

    Attributes:
        file: as people write it, relative to the project.
        line: from 1; where it is about the whole file, 1.
        rule: the word by which an ignore or a filter names this kind of finding.
        subject: the object it is about, empty where it is about the file.
    """

    file: str
    line: int
    rule: str
    subject: str
    problem: str
    advice: str

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        return f"{self.file}:{self.line}: {subject}{self.problem}; {self.advice} [{self.rule}]"


def shown(path: Path) -> str:
    """Return a path as people write it: relative to the project's folder where it lies in there, with slashes."""
    here = Path.cwd()
    path = path.resolve()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def findings_as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return the findings as JSON has them: one object each, with the attributes as they are called here."""
    return [dataclasses.asdict(finding) for finding in findings]


def sarif(findings: Iterable[Finding], rules: Mapping[str, str]) -> dict[str, Any]:
    """Return the findings as a SARIF 2.1.0 log, which code hosts show beside the lines.

    Args:
        findings: what was found.
        rules: what each rule is about; a rule without an entry stands for itself.
    """
    found = list(findings)
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "kalshidb check",
                        "version": __version__,
                        "rules": [
                            {"id": rule, "shortDescription": {"text": rules.get(rule, rule)}}
                            for rule in sorted({finding.rule for finding in found})
                        ],
                    }
                },
                "results": [_result(finding) for finding in found],
            }
        ],
    }


def _result(finding: Finding) -> dict[str, Any]:
    subject = f"{finding.subject}: " if finding.subject else ""
    place = {"artifactLocation": {"uri": finding.file}, "region": {"startLine": max(finding.line, 1)}}
    return {
        "ruleId": finding.rule,
        "level": "error",
        "message": {"text": f"{subject}{finding.problem}; {finding.advice}"},
        "locations": [{"physicalLocation": place}],
    }
