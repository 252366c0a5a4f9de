"""The versioned tables, one like the other, so that a test can ask the same of each; and what their histories must be."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import count, groupby, pairwise
from typing import Any

import psycopg
from sample_rows import HOUR, NOON, event, market

from kalshidb.models.catalog import MarketVersionInput
from kalshidb.models.research import EdgeInput, GameStateInput
from kalshidb.models.trading import AccountBalanceInput, PositionVersionInput
from kalshidb.queries import catalog, research, trading
from kalshidb.typedsql import BulkResult

State = dict[str, Any]
Observation = tuple[Any, datetime, State]
_numbers = count(1)


@dataclass(frozen=True, eq=False)
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


def _new_edge(conn: psycopg.Connection) -> tuple[Any, ...]:
    """An edge without a strategy, of a model alone, beside another one of no model that must stay apart."""
    (ticker,) = _new_market(conn)
    model = research.register_model(
        conn, model_name=f"model-{ticker}", model_version="1.0", model_type="elo", sport=None, config={}, status="draft",
        description=None, created_by=None, notes=None,
    )  # fmt: skip
    research.record_edge(
        conn,
        market_ticker=ticker,
        strategy_id=None,
        model_id=None,
        probability_matrix_id=None,
        observed_at=NOON - HOUR,
        **EDGES[0],
    )
    return ticker, f"{{0,{model.model_id},0}}"


EDGES: list[State] = [
    {
        "expected_value": Decimal("0.12"), "true_win_probability": Decimal("0.6"), "market_implied_probability": Decimal("0.45"),
        "market_price": Decimal("0.46"), "confidence_level": "high", "confidence_metrics": {"sample_size": 90},
        "recommended_action": "alert",
    },
    {
        "expected_value": Decimal("-0.02"), "true_win_probability": Decimal("0.4"), "market_implied_probability": Decimal("0.41"),
        "market_price": Decimal("0.42"), "confidence_level": None, "confidence_metrics": None, "recommended_action": None,
    },
    {
        "expected_value": Decimal("0.12"), "true_win_probability": Decimal("0.6"), "market_implied_probability": Decimal("0.45"),
        "market_price": Decimal("0.46"), "confidence_level": "low", "confidence_metrics": {"sample_size": 3},
        "recommended_action": "alert",
    },
]  # fmt: skip


def _edge(key: tuple[Any, ...]) -> dict[str, Any]:
    ticker, source = key
    return {
        "market_ticker": ticker, "strategy_id": None, "model_id": int(source.split(",")[1]), "probability_matrix_id": None,
    }  # fmt: skip


EDGE_TABLE = Table(
    "research.edges",
    ("market_ticker", "source_key"),
    EDGES,
    _new_edge,
    lambda conn, key, moment, state: research.record_edge(conn, **_edge(key), observed_at=moment, **state),
    lambda conn, observations: research.record_edges(
        conn, [EdgeInput(**_edge(key), valid_from=moment, **state) for key, moment, state in observations]
    ),
    not_state=("strategy_id", "model_id", "probability_matrix_id"),
)

_SCORE = (
    "sport", "home_team", "away_team", "home_score", "away_score", "period", "time_remaining", "possession", "status",
    "sport_metadata",
)  # fmt: skip
_GAMES: list[State] = [
    dict(zip(_SCORE, values, strict=True))
    for values in (
        ("nfl", "KC", "BUF", 0, 7, "Q1", "12:45", "home", "live", {"down": 3, "distance": 5}),
        ("nba", "LAL", "BOS", 3, 9, "Q2", "00:10", "away", "halftime", {"fouls": 2}),
        ("nfl", None, None, None, None, None, None, None, None, None),
    )
]


def _new_game(conn: psycopg.Connection) -> tuple[Any, ...]:
    number = next(_numbers)
    catalog.upsert_events(conn, [event(f"E-{number}")])
    return f"E-{number}", "" if number % 2 else f"game-{number}"


GAME_TABLE = Table(
    "research.game_states",
    ("event_ticker", "external_game_id"),
    _GAMES,
    _new_game,
    lambda conn, key, moment, state: research.record_game_state(
        conn, event_ticker=key[0], external_game_id=key[1], observed_at=moment, **state
    ),
    lambda conn, observations: research.record_game_states(
        conn,
        [GameStateInput(event_ticker=key[0], external_game_id=key[1], valid_from=at, **state) for key, at, state in observations],
    ),
)


def _new_account(conn: psycopg.Connection) -> tuple[Any, ...]:
    number, letters = next(_numbers), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "paper", "kalshi", "X" + "".join(letters[number // 26**place % 26] for place in range(4))


BALANCE_TABLE = Table(
    "trading.account_balances",
    ("environment", "platform_id", "currency"),
    [{"balance": Decimal(amount)} for amount in ("100", "99.25", "0")],
    _new_account,
    lambda conn, key, moment, state: trading.record_balance(
        conn, environment=key[0], platform_id=key[1], currency=key[2], observed_at=moment, **state
    ),
    lambda conn, observations: trading.record_balances(
        conn,
        [
            AccountBalanceInput(environment=key[0], platform_id=key[1], currency=key[2], valid_from=moment, **state)
            for key, moment, state in observations
        ],
    ),
)

_POSITION = (
    "quantity", "fees", "status", "current_price", "unrealized_pnl", "unrealized_pnl_pct", "realized_pnl", "exit_price",
    "exit_time", "trailing_stop_state", "exit_reason", "exit_priority", "close_reason",
)  # fmt: skip
_STOP = {
    "active": True, "activation_price": "0.5", "peak_price": "0.6", "current_stop_price": "0.55", "current_distance": "0.05",
    "stop_distance": None,
}  # fmt: skip
POSITIONS: list[State] = [
    dict(zip(_POSITION, values, strict=True))
    for values in (
        (Decimal(10), Decimal("0.07"), "open", Decimal("0.5"), Decimal(1), Decimal("0.25"), None, None, None, _STOP, None, None,
         None),
        (Decimal(20), Decimal("0.14"), "closed", Decimal("0.6"), Decimal(0), Decimal("0.5"), Decimal(2), Decimal("0.6"), NOON,
         _STOP | {"active": False}, "stop_loss", "CRITICAL", "the stop was hit"),
        (Decimal(10), None, "open", None, None, None, None, None, None, None, None, None, None),
    )
]  # fmt: skip


def _new_position(conn: psycopg.Connection) -> tuple[Any, ...]:
    (ticker,) = _new_market(conn)
    row = conn.execute(
        "INSERT INTO trading.positions (environment, platform_id, market_ticker, side, entry_price, entry_time)"
        " VALUES ('paper', 'kalshi', %s, 'yes', 0.4, %s) RETURNING environment, position_id",
        [ticker, NOON],
    ).fetchone()
    assert row is not None
    return tuple(row)


POSITION_TABLE = Table(
    "trading.position_versions",
    ("environment", "position_id"),
    POSITIONS,
    _new_position,
    lambda conn, key, moment, state: trading.record_position_version(
        conn, environment=key[0], position_id=key[1], observed_at=moment, **state
    ),
    lambda conn, observations: trading.record_position_versions(
        conn,
        [
            PositionVersionInput(environment=key[0], position_id=key[1], valid_from=moment, **state)
            for key, moment, state in observations
        ],
    ),
    not_state=("last_update",),
    changed_together=(frozenset({"status", "exit_time"}), frozenset({"exit_reason", "exit_priority"})),
)

TABLES = [MARKETS, EDGE_TABLE, GAME_TABLE, BALANCE_TABLE, POSITION_TABLE]
