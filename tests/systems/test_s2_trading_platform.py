"""The trading platform, whole (seed S2): from the venue to the exit, every trade attributed, and what was known at any moment of it.

Buffalo leads Kansas City by ten at half time. halftime_entry v1.1 buys YES at 0.60 and leaves in three parts; v1.0 bought NO and is paid
out nothing; a third position walks its price down to get out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sample_rows import DAY, HOUR, MINUTE, SECOND, event, market, series
from trading_rows import declared, dollars

from kalshidb.documents import TrailingStop
from kalshidb.models.research import Edge, ProbabilityMatrix, ProbabilityMatrixInput, ProbabilityModel, Strategy
from kalshidb.models.trading import CashLedgerInput, ExitAttemptInput, Position, TradeInput
from kalshidb.postgres import connect
from kalshidb.queries import catalog, ops, research, trading

KICKOFF = datetime(2026, 11, 15, 21, 25, tzinfo=UTC)
HALFTIME = KICKOFF + timedelta(hours=1, minutes=30)
FINAL = KICKOFF + timedelta(hours=3, minutes=10)
SERIES, GAME, BUF = "KXNFLGAME", "KXNFLGAME-26NOV15BUFKC", "KXNFLGAME-26NOV15BUFKC-BUF"
ESPN = "401772988"
PAPER: dict[str, Any] = {"environment": "paper"}
VENUE: dict[str, Any] = {"environment": "paper", "platform_id": "kalshi"}
ALL_DAY: dict[str, Any] = {"executed_from": KICKOFF - DAY, "executed_to": KICKOFF + DAY}


@dataclass
class Season:
    """What was registered and held, and the database that it is in."""

    conn: psycopg.Connection[Any]
    strategies: dict[str, Strategy]
    models: dict[str, ProbabilityModel]
    cell: ProbabilityMatrix
    edges: dict[str, Edge]
    positions: dict[str, Position]
    looks: list[Any]


@pytest.fixture(scope="module")
def season(postgresql_noproc: Any) -> Iterator[Season]:  # noqa: ANN401
    from pytest_postgresql.janitor import DatabaseJanitor

    server = postgresql_noproc
    name = f"{server.dbname}_s2"
    janitor = DatabaseJanitor(
        user=server.user, host=server.host, port=server.port, dbname=name, template_dbname=server.template_dbname
    )
    with janitor, connect(f"postgresql://{server.user}@/{name}?host={server.host}&port={server.port}", autocommit=True) as conn:
        yield play(conn)


def quoted(conn: psycopg.Connection[Any], at: datetime, yes: str, *, status: str = "active", volume: int = 1000) -> str:
    price = dollars(yes)
    return catalog.record_market_version(
        conn, market_ticker=BUF, observed_at=at, status=status, yes_price=price, no_price=1 - price, yes_bid=price - dollars("0.01"),
        yes_ask=price, no_bid=1 - price - dollars("0.01"), no_ask=1 - price, last_price=price, volume=Decimal(volume),
        open_interest=None, settlement_value=None,
    )  # fmt: skip


def scored(conn: psycopg.Connection[Any], at: datetime, home: int | None, away: int | None, **changes: Any) -> str:  # noqa: ANN401
    row = {"period": "Q1", "time_remaining": "15:00", "possession": None, "status": "live", "sport_metadata": None} | changes
    return research.record_game_state(
        conn, event_ticker=GAME, external_game_id=ESPN, observed_at=at, sport="nfl", home_team="BUF", away_team="KC",
        home_score=home, away_score=away, **row,
    )  # fmt: skip


def believed(conn: psycopg.Connection[Any], at: datetime, season_: dict[str, Any], wins: str, price: str) -> str:
    return research.record_edge(
        conn, market_ticker=BUF, observed_at=at, expected_value=dollars(wins) - dollars(price), true_win_probability=dollars(wins),
        market_implied_probability=dollars(price), market_price=dollars(price), confidence_level="high",
        confidence_metrics={"sample_size": 412, "ci_width": "0.08"}, recommended_action="auto_execute", **season_,
    )  # fmt: skip


def filled(number: int, at: datetime, position: Position, **changes: Any) -> TradeInput:  # noqa: ANN401
    row: dict[str, Any] = {
        "order_id": f"O{number}", "side": "buy", "contract_side": position.side, "price": position.entry_price,
        "quantity": Decimal(100), "fees": dollars("1.68"), "strategy_id": position.strategy_id, "model_id": position.model_id,
        "edge_at_execution": dollars("0.10"), "confidence_at_execution": "high",
    }  # fmt: skip
    return TradeInput(
        **VENUE, fill_id=f"F{number}", market_ticker=BUF, position_id=position.position_id, executed_at=at, **(row | changes)
    )


def leave(conn: psycopg.Connection[Any], position: Position, at: datetime, quantity: int, price: str, why: Any) -> None:  # noqa: ANN401
    """Sell a part of a position, with the fill that the venue reports."""
    paid: dict[str, Any] = {"price": dollars(price), "quantity": Decimal(quantity), "fees": dollars("0.40")}
    trading.record_exit(
        conn, **PAPER, position_id=position.position_id, exited_at=at, exit_condition=why, quantity_exited=Decimal(quantity),
        exit_price=dollars(price), fees=dollars("0.40"), close_reason="all parts left",
    )  # fmt: skip
    trading.insert_trades(conn, [filled(10 + (at - HALFTIME) // MINUTE, at, position, side="sell", **paid)])


def register(conn: psycopg.Connection[Any]) -> tuple[dict[str, Strategy], dict[str, ProbabilityModel]]:
    unsaid: dict[str, Any] = {"description": None, "created_by": "ann", "notes": None}
    strategies = {
        version: research.register_strategy(
            conn, strategy_name="halftime_entry", strategy_version=version, strategy_type="entry", sport="nfl",
            config={"min_lead": lead, "max_spread": "0.08"}, status="testing", **unsaid,
        )
        for version, lead in [("v1.0", 7), ("v1.1", 10)]
    }  # fmt: skip
    models = {
        version: research.register_model(
            conn, model_name="elo_nfl", model_version=version, model_type="elo", sport="nfl",
            config={"k_factor": k, "initial_rating": 1500}, status="active", **unsaid,
        )
        for version, k in [("v1.0", 28), ("v1.1", 30)]
    }  # fmt: skip
    return strategies, models


def play(conn: psycopg.Connection[Any]) -> Season:
    """Live through the game, in the order in which things happened."""
    # What can be traded.
    catalog.upsert_series(conn, [series(SERIES, category="Sports", subcategory="nfl", retrieved_at=KICKOFF - DAY)])
    catalog.upsert_events(conn, [event(GAME, series_ticker=SERIES, category="Sports", retrieved_at=KICKOFF - DAY)])
    catalog.upsert_markets(conn, [market(BUF, title="Buffalo wins?", close_time=FINAL, retrieved_at=KICKOFF - DAY)])
    # What we believe before the game.
    strategies, models = register(conn)
    research.upsert_probability_matrices(
        conn,
        [
            ProbabilityMatrixInput(
                category="sports", subcategory="nfl", version="v1.0", state_descriptor="halftime", value_bucket="10+_points",
                situational_factors=factors, win_probability=dollars(wins), confidence_interval_lower=dollars(wins) - dollars("0.04"),
                confidence_interval_upper=dollars(wins) + dollars("0.04"), sample_size=412, source="games 2009-2025",
            )
            for factors, wins in [(None, "0.65"), ({"home": True}, "0.70")]
        ],
    )  # fmt: skip
    cell = research.probability_cell(
        conn, category="sports", subcategory="nfl", version="v1.0", state_descriptor="halftime", value_bucket="10+_points",
        situational_factors={"home": True, "favourite": False},
    )  # fmt: skip
    assert cell is not None
    trading.record_balance(conn, **VENUE, currency="USD", observed_at=KICKOFF - HOUR, balance=Decimal(1000))
    trading.insert_cash_movements(
        conn,
        [
            CashLedgerInput(
                **VENUE, reference="D1", currency="USD", reason="deposit", amount=Decimal(1000), occurred_at=KICKOFF - HOUR
            )
        ],
    )
    # First half.
    scored(conn, KICKOFF - HOUR, None, None, period=None, time_remaining=None, status="pregame")
    scored(conn, KICKOFF, 0, 0)
    quoted(conn, KICKOFF, "0.50")
    scored(conn, KICKOFF + HOUR, 17, 7, period="Q2", time_remaining="04:10", possession="away", sport_metadata={"down": 3})
    quoted(conn, KICKOFF + HOUR, "0.58")
    # Half time: the edge, and the two versions that act on it.
    scored(conn, HALFTIME, 17, 7, period="Halftime", time_remaining="00:00", status="halftime")
    quoted(conn, HALFTIME, "0.60")
    edges = {}
    for version in ("v1.0", "v1.1"):
        key: dict[str, Any] = {
            "strategy_id": strategies[version].strategy_id, "model_id": models[version].model_id,
            "probability_matrix_id": cell.probability_id,
        }  # fmt: skip
        believed(conn, HALFTIME + SECOND, key, "0.70" if version == "v1.1" else "0.38", "0.60")
        found = research.edge_as_of(conn, market_ticker=BUF, moment=HALFTIME + SECOND, **key)
        assert found is not None
        edges[version] = found
    entries: dict[str, tuple[str, Any, str, int]] = {
        "parts": ("v1.1", "yes", "0.60", 2), "loser": ("v1.0", "no", "0.40", 3), "walker": ("v1.1", "yes", "0.61", 60),
    }  # fmt: skip
    positions = {
        name: trading.open_position(
            conn, **VENUE, market_ticker=BUF, side=side, entry_price=dollars(price), entry_time=HALFTIME + seconds * SECOND,
            quantity=Decimal(100), fees=dollars("1.68"), strategy_id=strategies[version].strategy_id,
            model_id=models[version].model_id, reason="lead at half time",
            trailing_stop_state=TrailingStop(activation_price=dollars("0.66"), current_distance=dollars("0.02")),
        )
        for name, (version, side, price, seconds) in entries.items()
    }  # fmt: skip
    bought = [
        filled(number, position.entry_time, position, edge_id=edges[entries[name][0]].edge_id)
        for number, (name, position) in enumerate(positions.items(), 1)
    ]
    trading.insert_trades(conn, bought)
    # Second half: the price rises, the stop follows it, and the first position leaves in three parts.
    looks = []
    path = {25: "0.65", 30: "0.69", 35: "0.75", 40: "0.80", 45: "0.79", 50: "0.90", 55: "0.88"}
    parts: dict[int, tuple[int, str, Any]] = {
        30: (50, "0.69", "partial_exit_target"), 35: (25, "0.75", "partial_exit_target"), 55: (25, "0.88", "trailing_stop"),
    }  # fmt: skip
    for minutes, price in path.items():
        at = HALFTIME + minutes * MINUTE
        quoted(conn, at, price, volume=1000 + minutes)
        looks.append(mark(conn, positions["parts"], price, at))
        mark(conn, positions["loser"], str(1 - dollars(price)), at)
        if minutes in parts:
            leave(conn, positions["parts"], at + MINUTE, *parts[minutes])
    # The third has to get out, and walks its price: 0.75, 0.74, then whatever there is.
    walk: list[tuple[str, str | None, str | None]] = [("limit", "0.75", None), ("limit", "0.74", None), ("market", None, "0.73")]
    trading.insert_exit_attempts(
        conn,
        [
            ExitAttemptInput(
                **PAPER, position_id=positions["walker"].position_id, attempted_at=HALFTIME + 40 * MINUTE + number * 10 * SECOND,
                attempt_number=number, exit_condition="stop_loss", priority_level="CRITICAL", order_type=kind,
                limit_price=limit and dollars(limit), fill_price=price and dollars(price), quantity=Decimal(100),
                timeout_seconds=10, success=price is not None,
            )
            for number, (kind, limit, price) in enumerate(walk, 1)
        ],
    )  # fmt: skip
    trading.close_position(
        conn, **PAPER, position_id=positions["walker"].position_id, exited_at=HALFTIME + 41 * MINUTE, exit_condition="stop_loss",
        exit_price=dollars("0.73"), fees=dollars("1.38"), close_reason="breaker: daily loss",
    )  # fmt: skip
    trading.insert_trades(
        conn, [filled(60, HALFTIME + 41 * MINUTE, positions["walker"], side="sell", price=dollars("0.73"), fees=dollars("1.38"))]
    )
    # Buffalo wins.
    scored(conn, FINAL, 31, 24, period="Final", time_remaining="00:00", status="final")
    catalog.insert_settlements(conn, [declared(BUF, "yes", FINAL + 5 * MINUTE)])
    trading.settle_positions_of_market(conn, **PAPER, market_ticker=BUF)
    trading.book_fills(conn, **PAPER, **ALL_DAY)
    return Season(conn, strategies, models, cell, edges, positions, looks)


def mark(conn: psycopg.Connection[Any], position: Position, price: str, at: datetime) -> Any:  # noqa: ANN401
    return trading.mark_position(conn, **PAPER, position_id=position.position_id, price=dollars(price), observed_at=at)


# -- what happened -------------------------------------------------------------------------------------------------------------------


def test_the_stop_followed_the_price_and_was_hit_on_the_way_down(season: Season) -> None:
    stops = [look.trailing_stop_state.current_stop_price for look in season.looks]
    assert stops == [None, *[dollars(each) for each in ("0.6762", "0.735", "0.784", "0.784", "0.882", "0.882")]]
    assert [look.is_stop_hit for look in season.looks] == [False] * 6 + [True]


def test_the_position_left_in_three_parts_and_closed(season: Season) -> None:
    number = season.positions["parts"].position_id
    exits = trading.exits_of_position(season.conn, **PAPER, position_id=number)
    assert [(row.quantity_exited, row.exit_price, row.exit_priority) for row in exits] == [
        (50, dollars("0.69"), "MEDIUM"), (25, dollars("0.75"), "MEDIUM"), (25, dollars("0.88"), "HIGH"),
    ]  # fmt: skip
    state = trading.current_position_version(season.conn, **PAPER, position_id=number)
    assert state is not None
    assert (state.status, state.realized_pnl, state.fees) == ("closed", dollars("15.25"), dollars("2.88"))
    assert (state.exit_reason, state.exit_price) == ("trailing_stop", dollars("0.7525"))


def test_the_walk_of_the_price_says_why_it_did_not_fill(season: Season) -> None:
    walk = trading.attempts_of_position(season.conn, **PAPER, position_id=season.positions["walker"].position_id)
    assert [(row.order_type, row.limit_price, row.fill_price, row.success) for row in walk] == [
        ("limit", dollars("0.75"), None, False), ("limit", dollars("0.74"), None, False), ("market", None, dollars("0.73"), True),
    ]  # fmt: skip


def test_the_no_position_was_paid_nothing_and_lost_what_it_cost(season: Season) -> None:
    state = trading.current_position_version(season.conn, **PAPER, position_id=season.positions["loser"].position_id)
    assert state is not None
    assert (state.status, state.exit_price, state.realized_pnl) == ("settled", 0, -40)


def test_nothing_is_held_any_more_and_the_day_came_to_this(season: Season) -> None:
    assert trading.open_positions(season.conn, **PAPER) == []
    (day,) = trading.daily_pnl(season.conn, **PAPER, exit_from=KICKOFF, exit_to=KICKOFF + DAY)[-1:]
    total = trading.daily_pnl(season.conn, **PAPER, exit_from=KICKOFF, exit_to=KICKOFF + 2 * DAY)
    assert sum(row.total_pnl or 0 for row in total) == dollars("15.25") + 12 - 40
    assert sum(row.num_trades for row in total) == 3
    assert day.trade_date == HALFTIME.date()


# -- who did it --------------------------------------------------------------------------------------------------------------------


def test_every_fill_names_the_exact_versions_that_made_it(season: Season) -> None:
    found = trading.trade_attribution_between(season.conn, **PAPER, **ALL_DAY)
    assert [row.fill_id for row in found] == ["F66", "F60", "F46", "F41", "F3", "F2", "F1"]
    for row in found:
        expected = ("v1.0", 28, 7) if row.fill_id == "F2" else ("v1.1", 30, 10)
        assert row.strategy_version == row.model_version == expected[0]
        assert (row.model_config_["k_factor"], row.strategy_config["min_lead"]) == expected[1:]


def test_the_versions_side_by_side(season: Season) -> None:
    better, worse = research.compare_strategy_versions(season.conn, strategy_name="halftime_entry")
    assert (better.strategy_version, better.trades, better.closed_positions) == ("v1.1", 6, 2)
    assert better.pnl_after_fees == dollars("15.25") - dollars("2.88") + 12 - dollars("3.06")
    assert (better.win_rate, better.average_price) == (1, dollars("0.673125"))
    assert (worse.strategy_version, worse.trades, worse.pnl_after_fees, worse.win_rate) == ("v1.0", 1, dollars("-41.68"), 0)
    for version, row in season.strategies.items():
        now = research.refresh_strategy_metrics(season.conn, strategy_id=row.strategy_id)
        assert now is not None
        assert (now.paper_trades_count, now.live_roi) == (6 if version == "v1.1" else 1, None)


def test_the_models_side_by_side(season: Season) -> None:
    better, worse = research.compare_model_versions(season.conn, model_name="elo_nfl")
    assert (better.model_version, better.settled_edges, better.accuracy, better.brier_score) == ("v1.1", 1, 1, dollars("0.09"))
    assert (worse.model_version, worse.settled_edges, worse.accuracy, worse.brier_score) == ("v1.0", 1, 0, dollars("0.3844"))
    assert better.market_brier_score == worse.market_brier_score == dollars("0.16")


def test_the_history_of_fills_adds_up_to_the_profit_of_positions(season: Season) -> None:
    found = trading.trade_history(season.conn, **PAPER, **ALL_DAY)
    assert {(row.outcome, row.payout) for row in found} == {("yes", 1), ("yes", 0)}
    assert {row.confidence_level for row in found} == {"high", None}
    fees = dollars("1.68") * 3 + dollars("0.40") * 3 + dollars("1.38")
    assert sum(row.pnl_after_fees or 0 for row in found) == dollars("15.25") + 12 - 40 - fees


def test_the_cash_ledger_explains_the_balance(season: Season) -> None:
    with season.conn.transaction(force_rollback=True):
        cash = (
            1000
            - 60
            - 40
            - 61
            + dollars("34.5")
            + dollars("18.75")
            + 22
            + 73
            - dollars("1.68") * 3
            - dollars("1.20")
            - dollars("1.38")
        )
        trading.record_balance(season.conn, **VENUE, currency="USD", observed_at=FINAL + HOUR, balance=cash)
        (row,) = trading.reconcile_balances(season.conn, **PAPER, moment=FINAL + HOUR)
        assert (row.ledger, row.balance, row.difference) == (cash, cash, 0)
        trading.record_balance(season.conn, **VENUE, currency="USD", observed_at=FINAL + 2 * HOUR, balance=cash + 5)
        (row,) = trading.reconcile_balances(season.conn, **PAPER, moment=FINAL + 2 * HOUR)
        assert row.difference == 5
        day = trading.refresh_performance_day(season.conn, **VENUE, date=(FINAL + HOUR).date())
        assert (day.num_trades, day.total_pnl, day.portfolio_value) == (1, -40, cash + 5)


# -- what was known then -------------------------------------------------------------------------------------------------------------


def test_what_was_known_at_half_time_and_nothing_of_what_came_after(season: Season) -> None:
    conn, moment = season.conn, HALFTIME + 30 * SECOND
    price = catalog.market_version_as_of(conn, market_ticker=BUF, moment=moment)
    game = research.game_state_as_of(conn, event_ticker=GAME, external_game_id=ESPN, moment=moment)
    (worse, edge) = research.edges_as_of(conn, market_tickers=[BUF], moments=[moment])
    held = trading.position_version_as_of(conn, **PAPER, position_id=season.positions["parts"].position_id, moment=moment)
    later = trading.position_version_as_of(conn, **PAPER, position_id=season.positions["walker"].position_id, moment=moment)
    cash = trading.balance_as_of(conn, **VENUE, currency="USD", moment=moment)
    assert price is not None
    assert game is not None
    assert held is not None
    assert cash is not None
    assert (price.yes_price, price.valid_from) == (dollars("0.60"), HALFTIME)
    assert (game.period, game.home_score, game.away_score) == ("Halftime", 17, 7)
    assert (edge.expected_value, edge.strategy_id) == (dollars("0.10"), season.strategies["v1.1"].strategy_id)
    assert worse.expected_value == dollars("-0.22")
    assert (held.status, held.quantity, held.current_price, held.realized_pnl) == ("open", 100, None, None)
    assert later is None, "it was opened half a minute later"
    assert cash.balance == 1000


def test_the_state_before_the_last_part_left(season: Season) -> None:
    number = season.positions["parts"].position_id
    moments = [HALFTIME + minutes * MINUTE for minutes in (0, 27, 32, 37, 57)]
    found = trading.position_versions_as_of(season.conn, **PAPER, position_ids=[number] * 5, moments=moments)
    assert [(row.status, row.realized_pnl) for row in found] == [
        (None, None), ("open", None), ("open", dollars("4.5")), ("open", dollars("8.25")), ("closed", dollars("15.25")),
    ]  # fmt: skip


def test_an_observation_that_comes_late_is_filed_into_its_place(season: Season) -> None:
    with season.conn.transaction(force_rollback=True):
        assert scored(season.conn, KICKOFF + 20 * MINUTE, 7, 0, time_remaining="06:00") == "filed"
        assert quoted(season.conn, KICKOFF + 20 * MINUTE, "0.54") == "filed"
        states = research.game_states_between(
            season.conn, event_ticker=GAME, external_game_id=ESPN, start_time=KICKOFF, end_time=HALFTIME
        )
        assert [(row.home_score, row.away_score) for row in states] == [(0, 0), (7, 0), (17, 7)]
        assert [row.valid_to for row in states] == [KICKOFF + 20 * MINUTE, KICKOFF + HOUR, HALFTIME]


def test_edges_above_a_threshold(season: Season) -> None:
    found = research.active_edges(season.conn, min_expected_value=dollars("0.08"), confidence_levels=["high", "medium"])
    assert [(row.market_ticker, row.title, row.expected_value) for row in found] == [(BUF, "Buffalo wins?", dollars("0.10"))]
    assert research.active_edges(season.conn, min_expected_value=dollars("0.08"), confidence_levels=["low"]) == []


# -- what stays --------------------------------------------------------------------------------------------------------------------


def test_what_was_traded_with_stays_what_it_was(season: Season) -> None:
    conn = season.conn
    with pytest.raises(errors.RestrictViolation, match=r"strategies\.config"):
        conn.execute("UPDATE research.strategies SET config = '{\"min_lead\": 3}' WHERE strategy_version = 'v1.0'")
    with pytest.raises(errors.RestrictViolation):
        conn.execute("DELETE FROM trading.trades")
    with conn.transaction(force_rollback=True):
        retired = research.set_strategy_status(conn, strategy_id=season.strategies["v1.0"].strategy_id, status="deprecated")
        assert retired is not None
        research.set_strategy_status(conn, strategy_id=season.strategies["v1.1"].strategy_id, status="active")
        assert [row.strategy_version for row in research.active_strategies(conn)] == ["v1.1"]
        assert [row.strategy_version for row in research.strategy_versions(conn, strategy_name="halftime_entry")] == [
            "v1.1",
            "v1.0",
        ]


def test_a_breaker_that_tripped_and_a_setting_that_was_overridden(season: Season) -> None:
    conn = season.conn
    with conn.transaction(force_rollback=True):
        ops.trip_breaker(conn, breaker_type="daily_loss_limit", trigger_value={"loss": "-50"}, notes=None)
        assert ops.breaker_is_open(conn, breaker_type="daily_loss_limit")
        ops.override_config(
            conn, config_key="trading.sports_live.execution.max_spread", override_value=dollars("0.08"), data_type="float",
            reason="wide game", applied_by="ann", expires_at=None,
        )  # fmt: skip
        assert [row.config_key for row in ops.config_in_force(conn)] == ["trading.sports_live.execution.max_spread"]


def test_the_whole_venue_goes_in_one_purge_and_what_belongs_to_none_stays(season: Season) -> None:
    conn = season.conn
    with pytest.raises(errors.RestrictViolation):
        conn.execute("DELETE FROM catalog.platforms WHERE platform_id = 'kalshi'")
    with conn.transaction(force_rollback=True):
        conn.execute("SET LOCAL kalshidb.allow_purge = on")
        conn.execute("DELETE FROM catalog.platforms WHERE platform_id = 'kalshi'")
        for table in ("catalog.markets", "research.edges", "research.game_states", "trading.trades", "trading.positions",
                      "trading.cash_ledger", "trading.account_balances"):  # fmt: skip
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # type: ignore[arg-type]  # noqa: S608
        assert len(research.strategy_versions(conn, strategy_name="halftime_entry")) == 2
