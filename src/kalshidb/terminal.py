"""What the commands share: the two consoles, moments on the command line, JSON for machines, and how a command fails.

Belongs to the commands (kalshidb.cli and those beside it); no package below them prints.
"""

import json
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich.console import Console

FAILED, REJECTED = 1, 3
"""Exit status of a command that failed, and of one that refused something and kept it (`kalshidb rejects list`)."""

# Soft: a line that a program reads is not broken at the width of a terminal that is not there.
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

HEALTH_STYLES = {"healthy": "", "degraded": "yellow", "down": "red"}
"""How the words of ops.system_health look."""

Address = Callable[[], AbstractContextManager[str]]
"""Gives the address of a migrated database, which is there as long as the block."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"]
"""How a moment may be written; without a zone it is UTC (`aware`)."""


def aware(moment: datetime | None) -> datetime:
    """Return a moment of the command line as an aware one, UTC where it names no zone; None is now."""
    return datetime.now(UTC) if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC)


def log_to_stderr() -> None:
    """Show warnings of a command that runs for long, with their time."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")


def print_json(value: object) -> None:
    """Print JSON as machines want it: no wrapping."""
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201


def fail(message: str) -> NoReturn:
    """End the command with a line on stderr."""
    err.print(f"kalshidb: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(FAILED)
