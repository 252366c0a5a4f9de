"""Measuring alternatives side by side.

Every alternative runs once in each round and the order rotates, so that a slow minute of the machine hits all of them; what is compared
are the times of the same round. A first round warms everything up, is not counted, and shows that all alternatives did the same.
"""

import gc
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


class DisagreementError(Exception):
    """An alternative stored or returned other rows than the rest, so that its time means nothing."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Alternative:
    """One way to do the work.

    Attributes:
        run: the work; only this is timed.
        size: how many rows (or calls) it handles.
        before: brings the table to where the work begins.
        check: given what `run` returned in the warm-up, raises DisagreementError when that is not what all others did.
    """

    name: str
    run: Callable[[], Any]
    size: int
    before: Callable[[], None] = _nothing
    check: Callable[[Any], None] = lambda _result: None


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise some measurements."""
        return cls(median(values), min(values), max(values))


@dataclass
class Section:
    """What was measured together.

    Attributes:
        unit: what is counted a second, rows or calls.
        seconds: of each alternative, a round each.
        client_seconds: of processor time that this process took of them.
        sizes: rows or calls of one measurement of each alternative.
        skipped: alternatives that could not run, and why.
        ours: the alternative that the table compares the others with.
    """

    title: str
    unit: str
    ours: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    client_seconds: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def rates(self, name: str) -> list[float]:
        """Return rows or calls a second, a round each."""
        return [self.sizes[name] / seconds for seconds in self.seconds[name]]

    def client_microseconds(self, name: str) -> float:
        """Return the processor time that the client takes for a row or call, which a busy machine disturbs least."""
        return median(self.client_seconds[name]) / self.sizes[name] * 1e6

    def ratio(self, name: str, to: str) -> Spread | None:
        """Return how many times as fast one is as another, compared within each round; None where one of them was skipped."""
        if name not in self.seconds or to not in self.seconds:
            return None
        return Spread.of([one / other for one, other in zip(self.rates(name), self.rates(to), strict=True)])


def measure(
    section: Section, alternatives: Sequence[Alternative], rounds: int, progress: Callable[[str], None] = lambda _text: None
) -> Section:
    """Warm up and check every alternative, then time each once a round.

    Raises:
        DisagreementError: an alternative did something else than the others.
    """
    for alternative in alternatives:
        progress(f"{section.title}: warm-up, {alternative.name}")
        alternative.before()
        alternative.check(alternative.run())
        section.sizes[alternative.name] = alternative.size
        section.seconds[alternative.name], section.client_seconds[alternative.name] = [], []
    for number in range(rounds):
        turn = number * max(1, len(alternatives) // max(rounds, 1)) % len(alternatives)
        for alternative in [*alternatives[turn:], *alternatives[:turn]]:
            progress(f"{section.title}: round {number + 1} of {rounds}, {alternative.name}")
            alternative.before()
            gc.collect()
            seconds, client_seconds = _timed(alternative.run)
            section.seconds[alternative.name].append(seconds)
            section.client_seconds[alternative.name].append(client_seconds)
    return section


def _timed(run: Callable[[], Any]) -> tuple[float, float]:
    begun, begun_client = time.perf_counter(), time.process_time()
    result = run()
    taken, taken_client = time.perf_counter() - begun, time.process_time() - begun_client
    del result  # only now: giving back the memory of the rows is not the work
    return taken, taken_client


def missing(*packages: str) -> str | None:
    """Return why an alternative has to be skipped, when one of the packages that it needs is not installed."""
    for package in packages:
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # a parent package is missing
            found = None
        if found is None:
            return f"{package} is not installed"
    return None
