"""Many writers of one row, each changing a column of its own: what they leave behind, and whether they really met.

The first two writers count upwards in a column each, so that a lost change shows as a final value that is too low, and a stale copy as a
value that goes back. All others change a third column.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import psycopg

from kalshidb.models.catalog import MarketInput
from kalshidb.queries import catalog, trading

SHAPES = ((2, 500), (4, 100), (8, 50))
"""Writers and changes of each, as the best peer was measured."""

_OPENED = datetime(2026, 7, 19, 12, tzinfo=UTC)
_MARKET = dict.fromkeys(
    ("status", "yes_price", "no_price", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "volume", "open_interest",
     "settlement_value")
)  # fmt: skip
_POSITION = dict.fromkeys(
    ("quantity", "fees", "status", "current_price", "unrealized_pnl", "unrealized_pnl_pct", "realized_pnl", "exit_price", "exit_time",
     "trailing_stop_state", "exit_reason", "exit_priority", "close_reason")
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One row with versions.

    Attributes:
        columns: what the first writer counts in, what the second does, and what all others change.
        change: sets columns of it.
        history: selects valid_from, valid_to and the three columns, in order of time.
    """

    columns: tuple[str, str, str]
    change: Callable[[psycopg.Connection[Any], dict[str, Any]], str]
    history: str


@dataclass
class Outcome:
    """What a race left behind.

    Attributes:
        changes: how many were asked for.
        raised: errors that writers met.
        broken: versions that end before they begin, overlap the next or leave a gap to it.
        regressions: how often a counter went back.
        lost: changes of which no version tells.
        final: the two counters at the end.
        turns: how often the next version is another writer's.
        waits: how often somebody was seen to wait for a lock.
    """

    changes: int
    seconds: float
    raised: list[BaseException] = field(default_factory=list[BaseException])
    broken: int = 0
    regressions: int = 0
    lost: int = 0
    final: tuple[Decimal, Decimal] = (Decimal(0), Decimal(0))
    turns: int = 0
    waits: int = 0


def a_market(conn: psycopg.Connection[Any], ticker: str = "RACE-1") -> Subject:
    """Make a market with one version."""
    catalog.upsert_markets(
        conn,
        [
            MarketInput(
                market_ticker=ticker, platform_id="kalshi", event_ticker="RACE", external_id=ticker, title="Who wins?", status="active",
                retrieved_at=_OPENED,
            )
        ],
    )  # fmt: skip
    state = _MARKET | {"status": "active", "volume": 0, "open_interest": 0, "yes_bid": 1}
    catalog.record_market_version(conn, market_ticker=ticker, observed_at=_OPENED, **state)  # type: ignore[arg-type]
    return Subject(
        ("volume", "open_interest", "yes_bid"),
        lambda writer, columns: catalog.change_market_version(writer, market_ticker=ticker, **_MARKET | columns),
        f"SELECT valid_from, valid_to, volume, open_interest, yes_bid FROM catalog.market_versions"  # noqa: S608
        f" WHERE market_ticker = '{ticker}' ORDER BY valid_from",
    )


def a_position(conn: psycopg.Connection[Any], ticker: str = "RACE-2") -> Subject:
    """Make an open position with one version."""
    a_market(conn, ticker)
    position = trading.open_position(
        conn, environment="paper", platform_id="kalshi", market_ticker=ticker, side="yes", entry_price=Decimal("0.4"),
        entry_time=_OPENED, quantity=Decimal(10), fees=Decimal(0), strategy_id=None, model_id=None, reason=None,
        trailing_stop_state=None,
    )  # fmt: skip
    trading.change_position_version(
        conn, environment="paper", position_id=position.position_id,
        **_POSITION | {"realized_pnl": Decimal(0), "current_price": Decimal(1)},
    )  # fmt: skip
    return Subject(
        ("fees", "realized_pnl", "current_price"),
        lambda writer, columns: trading.change_position_version(
            writer, environment="paper", position_id=position.position_id, **_POSITION | columns
        ),
        f"SELECT valid_from, valid_to, fees, realized_pnl, current_price FROM trading.position_versions"  # noqa: S608
        f" WHERE environment = 'paper' AND position_id = {position.position_id} AND realized_pnl IS NOT NULL ORDER BY valid_from",
    )


def race(url: str, subject: Subject, writers: int, each: int) -> Outcome:
    """Let writers change one row at the same time, and look at what they leave.

    Args:
        url: the database.
        subject: what they change; its counters stand at 0.
        writers: how many, two at least.
        each: changes of each.
    """
    outcome = Outcome(writers * each, 0)
    connections = [psycopg.connect(url, autocommit=True) for _ in range(writers)]
    observer = psycopg.connect(url, autocommit=True)
    start = threading.Barrier(writers + 1)

    def write(number: int) -> None:
        start.wait(60)
        column = subject.columns[min(number, 2)]
        for step in range(1, each + 1):
            value = Decimal(step) if number < 2 else Decimal(number * each + step) / 1_000_000
            try:
                subject.change(connections[number], {column: value})
            except BaseException as error:
                outcome.raised.append(error)

    try:
        with ThreadPoolExecutor(writers) as pool:
            running = [pool.submit(write, number) for number in range(writers)]
            start.wait(60)
            begun = time.perf_counter()
            while not all(one.done() for one in running):
                outcome.waits += _waiting(observer)
                time.sleep(0.005)
            outcome.seconds = time.perf_counter() - begun
        _judge(outcome, observer.execute(subject.history).fetchall(), each)
    finally:
        for connection in (*connections, observer):
            connection.close()
    return outcome


def _waiting(observer: psycopg.Connection[Any]) -> int:
    row = observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return int(row[0]) if row else 0


def _judge(outcome: Outcome, versions: list[tuple[Any, ...]], each: int) -> None:
    changed_by: list[tuple[int, Any]] = []
    for one, following in pairwise(versions):
        outcome.broken += one[1] != following[0] or one[1] <= one[0]
        outcome.regressions += following[2] < one[2] or following[3] < one[3]
        changed = [number for number in range(3) if one[2 + number] != following[2 + number]]
        # The third column says by its value which of the others it was.
        changed_by += [(number, None if number < 2 else (following[4] * 1_000_000 - 1) // each) for number in changed]
    outcome.broken += versions[-1][1] is not None
    outcome.lost = outcome.changes - len(changed_by)
    outcome.final = versions[-1][2], versions[-1][3]
    outcome.turns = sum(one != following for one, following in pairwise(changed_by))
