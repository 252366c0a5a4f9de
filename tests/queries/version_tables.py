"""The versioned tables, one like the other, so that a test can ask the same of each; and what their histories must be."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import count, groupby, pairwise
from typing import Any

import psycopg
from sample_rows import market

from kalshidb.models.catalog import MarketVersionInput
from kalshidb.queries import catalog
from kalshidb.typedsql import BulkResult

State = dict[str, Any]
Observation = tuple[Any, datetime, State]
_numbers = count(1)


@dataclass(frozen=True)
class Table:
    """A versioned table.

    Attributes:
        key: its key columns, without valid_from.
        states: values of all its state columns; no two are equal, and each lacks what can be unknown now and then.
        new_key: makes something that can have versions, and returns its key.
        record: files one observation, returns the outcome.
        record_many: files many.
        not_state: columns that are neither key nor state.
        changed_together: groups of columns of which the database allows only some combinations.
    """

    name: str
    key: tuple[str, ...]
    states: Sequence[State]
    new_key: Callable[[psycopg.Connection], tuple[Any, ...]]
    record: Callable[[psycopg.Connection, tuple[Any, ...], datetime, State], str]
    record_many: Callable[[psycopg.Connection, Iterable[Observation]], BulkResult]
    not_state: tuple[str, ...] = ()
    changed_together: tuple[frozenset[str], ...] = ()

    def together(self, column: str, state: State) -> State:
        """Return the values of a state's columns that can only change together with one."""
        return {name: state[name] for group in self.changed_together if column in group for name in group}

    def __str__(self) -> str:
        return self.name

    def chain(self, conn: psycopg.Connection, key: tuple[Any, ...]) -> list[tuple[datetime, State]]:
        """Return when each state of a key began, having seen that the versions follow one another without gap or overlap."""
        columns = list(self.states[0])
        rows = conn.execute(
            f"SELECT valid_from, valid_to, row_current_ind, {', '.join(columns)} FROM {self.name}"  # noqa: S608
            f" WHERE ({', '.join(self.key)}) = ({', '.join(['%s'] * len(key))}) ORDER BY valid_from",
            key,
        ).fetchall()
        assert all(one[1] == next_[0] for one, next_ in pairwise(rows))
        assert [row[1] for row in rows[-1:]] in ([], [None])
        assert [row[2] for row in rows] == [row[1] is None for row in rows]
        return [(row[0], dict(zip(columns, row[3:], strict=True))) for row in rows]


@dataclass
class History:
    """What the history of one key must be, in plain Python: the moments at which a state was seen to begin."""

    starts: dict[datetime, State] = field(default_factory=dict)

    def record(self, moment: datetime, state: State) -> str:
        """File an observation; return the outcome."""
        before = [each for each in self.starts if each <= moment]
        after = [each for each in self.starts if each > moment]
        if before and self.starts[max(before)] == state:
            return "unchanged"
        if moment in self.starts:
            return "conflicting"
        if after and self.starts[min(after)] == state:
            del self.starts[min(after)]
        self.starts[moment] = state
        return "filed" if after else "written"

    def record_many(self, observations: Iterable[tuple[datetime, State]]) -> list[tuple[datetime, State]]:
        """File observations that are known together; return those that contradict what was known."""
        conflicting = []
        for moment, state in observations:
            if self.starts.setdefault(moment, state) != state:
                conflicting.append((moment, state))
        runs = groupby(sorted(self.starts.items(), key=lambda start: start[0]), key=lambda start: start[1])
        self.starts = dict(next(run) for _, run in runs)
        return conflicting

    def at(self, moment: datetime) -> State | None:
        """Return the state at a moment."""
        return next((state for start, state in reversed(self.chain()) if start <= moment), None)

    def chain(self) -> list[tuple[datetime, State]]:
        """Return when each state began, in order."""
        return sorted(self.starts.items(), key=lambda start: start[0])


def _market_states() -> list[State]:
    columns = (
        "status", "yes_price", "no_price", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "volume", "open_interest",
        "settlement_value",
    )  # fmt: skip
    some = ["active", *(Decimal(number) / 16 for number in range(1, 8)), Decimal(10), Decimal("20.5"), None]
    other = [*some[:-1], Decimal(1)]
    empty = ["active", *[None] * 10]
    return [dict(zip(columns, values, strict=True)) for values in (some, other, empty)]


def _new_market(conn: psycopg.Connection) -> tuple[Any, ...]:
    ticker = f"M-{next(_numbers)}"
    catalog.upsert_markets(conn, [market(ticker)])
    return (ticker,)


MARKETS = Table(
    "catalog.market_versions",
    ("market_ticker",),
    _market_states(),
    _new_market,
    lambda conn, key, moment, state: catalog.record_market_version(conn, market_ticker=key[0], observed_at=moment, **state),
    lambda conn, observations: catalog.record_market_versions(
        conn, [MarketVersionInput(market_ticker=key[0], valid_from=moment, **state) for key, moment, state in observations]
    ),
)

TABLES = [MARKETS]
