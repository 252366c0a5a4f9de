"""What arrived and is not stored yet, and how it is written down as one line: whole, so that storing it later is the same as now."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

import simplejson

from kalshidb.exchange.recognise import Hints, Kind
from kalshidb.models.domains import Source

FORMAT = 1
"""Of a line. A line of a later version is refused whole rather than understood half."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One answer of the exchange, or one batch of frames, as it came.

    Attributes:
        url: what was asked, without parameters.
        params: the parameters.
        http_status: status of the answer; None for frames.
        retrieved_at: when all of it had arrived, UTC; its rows are stored under this moment.
        body: its bytes.
        hints: what the request said and the body leaves out.
        retrieved_until: of a batch of frames: when the last had arrived; each says its own moment, and retrieved_at is the first's.
        chosen: the parsed document without what was not wanted; None when all of the body was.
    """

    url: str
    params: Mapping[str, str]
    http_status: int | None
    retrieved_at: datetime
    body: bytes
    hints: Hints = field(default_factory=Hints)
    chosen: Any = None
    retrieved_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be noted in the database once everything that arrived before it is stored, such as what is covered now.

    Attributes:
        word: which writer of `kalshidb.ingest.landing.NOTES` writes it.
        payload: what that writer needs; JSON.
    """

    word: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What a line holds.

    Attributes:
        entry: what arrived, or was to be noted.
        source: what the run that received it was doing, for ops.ingest_runs.
        origin: how it reached us.
    """

    entry: Arrival | Note
    source: str
    origin: Source


class LineError(ValueError):
    """A line is not one of ours, or not whole; says why."""


def to_line(entry: Arrival | Note, source: str, origin: Source) -> bytes:
    """Return the line for what arrived, with its end."""
    line: dict[str, Any] = {"kalshidb": FORMAT, "source": source, "origin": origin}
    match entry:
        case Note():
            line |= {"note": entry.word, "payload": entry.payload}
        case Arrival():
            line |= {
                "url": entry.url,
                "params": dict(entry.params),
                "http_status": entry.http_status,
                "retrieved_at": entry.retrieved_at.astimezone(UTC).isoformat(),
                "retrieved_until": None if entry.retrieved_until is None else entry.retrieved_until.astimezone(UTC).isoformat(),
                "hints": _hints_json(entry.hints),
                "body_bytes": len(entry.body),
            }
            body = entry.body if entry.chosen is None else simplejson.dumps(entry.chosen, use_decimal=True).encode()
            try:
                line["body"] = body.decode()
            except UnicodeDecodeError:
                line["body_base64"] = base64.b64encode(body).decode()
    # ASCII, as a lone surrogate has no UTF-8. A line's end never stands within a line: JSON escapes it.
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Written:
    """Return what a line holds.

    Raises:
        LineError: it was torn, or is no such line.
    """
    if not line.endswith(b"\n"):
        raise LineError("the line was not written to its end")
    try:
        said = json.loads(line)
    except ValueError as error:
        raise LineError(f"no JSON: {error}") from None
    if not isinstance(said, dict) or said.get("kalshidb") != FORMAT:
        raise LineError(f"no line of a spool of version {FORMAT}")
    try:
        entry: Arrival | Note
        if said["origin"] not in get_args(Source):
            raise LineError(f"no origin {said['origin']!r}")
        if "note" in said:
            entry = Note(said["note"], said["payload"])
        else:
            body = base64.b64decode(said["body_base64"]) if "body_base64" in said else said["body"].encode()
            retrieved_at = datetime.fromisoformat(said["retrieved_at"])
            until = said.get("retrieved_until")
            entry = Arrival(
                said["url"],
                said["params"],
                said["http_status"],
                retrieved_at,
                body,
                _hints(said["hints"]),
                retrieved_until=None if until is None else datetime.fromisoformat(until),
            )
        return Written(entry, said["source"], cast("Source", said["origin"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LineError(f"{type(error).__name__}: {error}") from None


def _hints_json(hints: Hints) -> dict[str, Any]:
    named = {
        "kind": hints.kind,
        "market_ticker": hints.market_ticker,
        "series_ticker": hints.series_ticker,
        "period_interval_minutes": hints.period_interval_minutes,
        "observed_at": None if hints.observed_at is None else hints.observed_at.astimezone(UTC).isoformat(),
    }
    return {name: value for name, value in named.items() if value is not None}


def _hints(said: Mapping[str, Any]) -> Hints:
    hints = Hints(
        market_ticker=said.get("market_ticker"),
        series_ticker=said.get("series_ticker"),
        period_interval_minutes=said.get("period_interval_minutes"),
    )
    if said.get("kind") is not None:
        hints = replace(hints, kind=Kind(said["kind"]))
    if said.get("observed_at") is not None:
        hints = replace(hints, observed_at=datetime.fromisoformat(said["observed_at"]))
    return hints
