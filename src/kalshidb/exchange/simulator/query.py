"""A question to the simulated exchange, and how it refuses one: the parameters of a request, checked as they are read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kalshidb.exchange.simulator.wire import Document, Era


class RefusalError(Exception):
    """An answer that is an error in the form of the exchange."""

    def __init__(self, status: int, details: str = "") -> None:
        """Refuse with 400, 404 or 405; `details` is what the exchange would say."""
        super().__init__(status, details)
        self.status = status
        words = {400: ("bad_request", "bad request"), 404: ("not_found", "not found")}
        code, message = words.get(status, ("method_not_allowed", "method not allowed"))
        self.document: Document = {"error": {"code": code, "message": message} | ({"details": details} if details else {})}


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a request, checked as they are read."""

    values: Mapping[str, Sequence[str]]
    era: Era

    def text(self, name: str) -> str:
        """Return a parameter, or the empty text."""
        return self.values.get(name, [""])[-1]

    def flag(self, name: str) -> bool:
        """Return whether a parameter is `true`."""
        return self.text(name).lower() == "true"

    def integer(self, name: str) -> int | None:
        """Return a parameter as an integer, or None when it is absent. A broken one is a 400."""
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise RefusalError(400, f"invalid parameter: {name}")
        return int(text)

    def required(self, name: str) -> int:
        """Return a parameter as an integer; its absence is a 400."""
        value = self.integer(name)
        if value is None:
            raise RefusalError(400, f"missing required parameter: {name}")
        return value

    def limit(self, default: int, largest: int) -> int:
        """Return the page size; 0 means the default."""
        limit = self.integer("limit")
        if limit is not None and not 0 <= limit <= largest:
            raise RefusalError(400, f"invalid limit: must be between 0 and {largest}")
        return limit or default

    def listed(self, name: str) -> list[str]:
        """Return a comma-separated parameter; given twice, it is a 400, as on the real exchange."""
        if len(self.values.get(name, [])) > 1:
            raise RefusalError(400, f"invalid parameter: {name}")
        return [part for part in self.text(name).split(",") if part]
