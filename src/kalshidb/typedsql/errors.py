"""What can go wrong with a statement, always with its file and line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A line in a SQL file; `file:line` when printed, as editors and terminals understand it."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class StatementError(Exception):
    """Something is wrong with a statement: its header, its parameters, its SQL or its result.

    Attributes:
        place: the file and line at fault.
        statement: the statement's name, or None where no statement was recognised yet.
    """

    def __init__(self, place: Place, statement: str | None, problem: str) -> None:
        self.place = place
        self.statement = statement
        self.problem = problem
        super().__init__(f"{place}: {statement}: {problem}" if statement else f"{place}: {problem}")


class LoadError(StatementError):
    """A SQL file cannot be loaded; nothing of it was loaded."""


class DescribeError(StatementError):
    """The server, or what the header claims against it, refuses the statement."""


class ParameterError(StatementError, TypeError):
    """A parameter has a value that the server would misunderstand; nothing was sent."""


class CardinalityError(StatementError):
    """A statement that promises one row, or at most one, gave another number."""


class DuplicateRowError(StatementError):
    """Two rows of one bulk input have the same key, and the caller asked to be told."""


class RowError(StatementError):
    """A row that came from the database or is to go there does not fit the model."""
