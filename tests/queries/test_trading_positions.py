"""A position from entry to exit: opened once, watched, left in parts or whole, settled."""

import threading
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from pydantic import ValidationError
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND, TICK
from trading_rows import T80, declared, dollars, fill, left, markets, opened, state, stop, strategy

from kalshidb.documents import TrailingStop
from kalshidb.models.trading import Position
from kalshidb.queries import catalog, trading


def mark(pg: psycopg.Connection, position: Position, price: str, at: Any) -> Any:  # noqa: ANN401
    return trading.mark_position(
        pg, environment=position.environment, position_id=position.position_id, price=dollars(price), observed_at=at
    )


def close(pg: psycopg.Connection, position: Position, at: Any, price: str, why: Any = "stop_loss") -> Any:  # noqa: ANN401
    return trading.close_position(
        pg, environment=position.environment, position_id=position.position_id, exited_at=at, exit_condition=why,
        exit_price=dollars(price), fees=dollars("0.10"), close_reason="enough",
    )  # fmt: skip


def versions(pg: psycopg.Connection, position: Position) -> list[tuple[Any, ...]]:
    return pg.execute(
        "SELECT valid_from, valid_to, status, current_price, realized_pnl FROM trading.position_versions"
        " WHERE environment = %s AND position_id = %s ORDER BY valid_from",
        [position.environment, position.position_id],
    ).fetchall()


# -- opening ---------------------------------------------------------------------------------------------------------------------


def test_opening_makes_the_position_and_its_first_version(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg, fees=dollars("1.68"), reason="High confidence AI signal", trailing_stop_state=stop())
    assert (position.market_ticker, position.side, position.entry_price) == (T80, "yes", dollars("0.60"))
    (held,) = trading.open_positions(pg, environment="paper")
    assert (held.position_id, held.quantity, held.remaining_quantity) == (position.position_id, 100, 100)
    assert (held.fees, held.valid_from, held.current_price) == (dollars("1.68"), NOON, None)
    assert held.trailing_stop_state == stop()


def test_opening_again_changes_nothing(pg: psycopg.Connection) -> None:
    markets(pg)
    first = opened(pg)
    left(pg, first, NOON + HOUR, "40", "0.70")
    pg.commit()
    before = (versions(pg, first), pg.execute("SELECT * FROM trading.positions").fetchall())
    assert opened(pg).position_id == first.position_id
    assert (versions(pg, first), pg.execute("SELECT * FROM trading.positions").fetchall()) == before


@pytest.mark.parametrize("other", [{"entry_price": dollars("0.61")}, {"strategy_id": 1}])
def test_another_position_under_the_same_key_is_refused_by_name(pg: psycopg.Connection, other: dict[str, Any]) -> None:
    markets(pg)
    strategy(pg)
    opened(pg)
    with pytest.raises(errors.RestrictViolation, match="cannot be changed") as refused:
        opened(pg, **other)
    assert refused.value.diag.constraint_name == "positions_immutable_config"
    assert refused.value.diag.column_name == next(iter(other))


def test_two_sessions_that_open_the_same_position_get_the_same_one(database_url: str) -> None:
    """The second waits for the first; there is one position with one version, whoever came first."""
    with psycopg.connect(database_url) as one, psycopg.connect(database_url) as two:
        markets(one)
        one.commit()
        first = opened(one)
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.append(opened(two).position_id))
        waiting.start()
        with psycopg.connect(database_url, autocommit=True) as watch:
            while (
                waiting.is_alive()
                and not watch.execute(
                    "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                ).fetchall()
            ):
                waiting.join(0.01)
            assert waiting.is_alive(), "the second did not wait: the race did not fire"
        one.commit()
        waiting.join()
        two.commit()
        assert found == [first.position_id]
        assert one.execute("SELECT count(*) FROM trading.position_versions").fetchone() == (1,)


def test_the_other_side_another_time_and_another_environment_are_other_positions(pg: psycopg.Connection) -> None:
    markets(pg)
    made = [opened(pg), opened(pg, side="no"), opened(pg, at=NOON + SECOND), opened(pg, environment="live")]
    assert len({position.position_id for position in made}) == 4


def test_what_was_entered_stays(pg: psycopg.Connection) -> None:
    markets(pg)
    opened(pg)
    pg.commit()
    for column, value in [("environment", "'live'"), ("side", "'no'"), ("entry_time", "now()"), ("position_id", "DEFAULT")]:
        with pytest.raises(psycopg.Error), pg.transaction():
            pg.execute(f"UPDATE trading.positions SET {column} = {value}")  # type: ignore[arg-type]  # noqa: S608
    pg.execute("UPDATE trading.positions SET reason = 'better said'")


# -- looking at it -----------------------------------------------------------------------------------------------------------------


def test_a_look_moves_price_and_profit_and_a_look_that_changes_nothing_is_no_version(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    assert mark(pg, position, "0.65", NOON + MINUTE).outcome == "written"
    assert mark(pg, position, "0.65", NOON + 2 * MINUTE).outcome == "unchanged"
    now = state(pg, position)
    assert (now["current_price"], now["unrealized_pnl"], now["last_update"]) == (dollars("0.65"), Decimal(5), NOON + 2 * MINUTE)
    assert now["unrealized_pnl_pct"] == dollars("0.083333")
    assert [row[0] for row in versions(pg, position)] == [NOON, NOON + MINUTE]


def test_a_no_position_loses_when_no_falls(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg, side="no", entry_price=dollars("0.40"))
    assert mark(pg, position, "0.30", NOON + MINUTE).unrealized_pnl == -10
    assert mark(pg, position, "0.55", NOON + 2 * MINUTE).unrealized_pnl == 15


def test_an_older_price_moves_nothing(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg, trailing_stop_state=stop())
    mark(pg, position, "0.70", NOON + HOUR)
    before = versions(pg, position)
    assert mark(pg, position, "0.10", NOON + MINUTE).outcome == "late"
    assert not mark(pg, position, "0.10", NOON + MINUTE).is_stop_hit
    assert versions(pg, position) == before


def test_a_look_at_what_is_not_there_is_refused(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    with pytest.raises(errors.NoDataFound, match=r"no position \d+ \(live\)"):
        trading.mark_position(
            pg, environment="live", position_id=position.position_id, price=dollars("0.5"), observed_at=NOON + HOUR
        )


def test_every_column_survives_a_look_an_exit_and_a_settlement(pg: psycopg.Connection) -> None:
    """A version is carried over whole; a column that is forgotten would fall back to null."""
    markets(pg)
    position = opened(pg, trailing_stop_state=stop())
    pg.execute("SET session_replication_role = replica")  # a recorded version is not changed otherwise
    pg.execute(
        "UPDATE trading.position_versions SET fees = 1.5, current_price = 0.61, unrealized_pnl = 1, unrealized_pnl_pct = 0.01,"
        " realized_pnl = 2, exit_price = 0.7, exit_reason = 'rebalance', exit_priority = 'LOW', close_reason = 'why',"
        " last_update = valid_from"
    )
    pg.execute("SET session_replication_role = origin")
    mark(pg, position, "0.62", NOON + MINUTE)
    first, second = (state_of for state_of in rows(pg))
    moved = {"valid_from", "valid_to", "row_current_ind", "current_price", "unrealized_pnl", "unrealized_pnl_pct", "last_update"}
    assert {name for name in first if first[name] != second[name]} - {"created_at", "trailing_stop_state"} == moved
    assert [name for name, value in second.items() if value is None] == ["valid_to", "exit_time"]
    left(pg, position, NOON + HOUR, "10", "0.70")
    assert [name for name, value in rows(pg)[2].items() if value is None] == ["valid_to", "exit_time"]


def rows(pg: psycopg.Connection) -> list[dict[str, Any]]:
    from psycopg.rows import dict_row

    with pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM trading.position_versions ORDER BY valid_from").fetchall()


def test_stale_positions_are_those_the_monitor_has_not_seen(pg: psycopg.Connection) -> None:
    markets(pg)
    fresh, old, never = (opened(pg, at=NOON + number * SECOND) for number in range(3))
    mark(pg, fresh, "0.61", NOON + HOUR)
    mark(pg, old, "0.61", NOON + MINUTE)
    found = trading.stale_positions(pg, environment="paper", looked_before=NOON + HOUR)
    assert [row.position_id for row in found] == [never.position_id, old.position_id]
    assert trading.stale_positions(pg, environment="live", looked_before=NOON + HOUR) == []


def test_many_positions_are_looked_at_in_one_round_trip(pg: psycopg.Connection) -> None:
    markets(pg)
    made = [opened(pg, at=NOON + number * SECOND, trailing_stop_state=stop()) for number in range(3)]
    found = trading.mark_positions(
        pg, environment="paper", position_ids=[position.position_id for position in reversed(made)],
        prices=[dollars("0.30"), dollars("0.60"), dollars("0.70")], observed_at=NOON + HOUR,
    )  # fmt: skip
    assert [(row.outcome, row.unrealized_pnl) for row in found] == [("written", 10), ("written", 0), ("written", -30)]
    assert [row.trailing_stop_state.active for row in found if row.trailing_stop_state] == [True, False, False]


# -- trailing stop -----------------------------------------------------------------------------------------------------------------


@dataclass
class Stop:
    """The rule once more, in plain Python."""

    activation: Decimal
    distance: Decimal
    active: bool = False
    peak: Decimal | None = None
    stop: Decimal | None = None

    def see(self, price: Decimal) -> bool:
        self.active = self.active or price >= self.activation
        if self.active:
            self.peak = max(price, self.peak or price)
            below = (self.peak * (1 - self.distance)).quantize(Decimal("0.000001"))
            self.stop = max(below, self.stop or below)
        return self.active and self.stop is not None and price <= self.stop


PRICES = ["0.60", "0.65", "0.66", "0.70", "0.69", "0.80", "0.79", "0.785", "0.784", "0.90", "0.5", "0.95"]


def test_the_stop_follows_the_peak_never_falls_and_says_when_it_is_hit(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg, trailing_stop_state=stop())
    expected, hits = Stop(dollars("0.66"), dollars("0.02")), []
    for minute, price in enumerate(PRICES, 1):
        hit = expected.see(dollars(price))
        seen = mark(pg, position, price, NOON + minute * MINUTE)
        now = seen.trailing_stop_state
        assert (seen.is_stop_hit, now.active, now.peak_price, now.current_stop_price) == (
            hit, expected.active, expected.peak, expected.stop,
        ), price  # fmt: skip
        hits.append(hit)
    assert hits.count(True) >= 2


def test_the_example_of_the_seed(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg, trailing_stop_state=stop())
    mark(pg, position, "0.80", NOON + MINUTE)
    raw = state(pg, position)["trailing_stop_state"]
    assert raw["active"] is True
    assert {name: Decimal(value) for name, value in raw.items() if isinstance(value, str)} == {
        "activation_price": dollars("0.66"), "peak_price": dollars("0.80"), "current_stop_price": dollars("0.784"),
        "current_distance": dollars("0.02"),
    }  # fmt: skip


def test_a_stop_that_was_tightened_by_hand_does_not_loosen(pg: psycopg.Connection) -> None:
    markets(pg)
    tight = stop(active=True, peak_price=dollars("0.80"), current_stop_price=dollars("0.79"))
    position = opened(pg, trailing_stop_state=tight)
    seen = [mark(pg, position, price, NOON + minute * MINUTE) for minute, price in enumerate(["0.795", "0.805", "0.82"], 1)]
    assert [row.trailing_stop_state.current_stop_price for row in seen] == [dollars(each) for each in ("0.79", "0.79", "0.8036")]


def test_a_stop_in_dollars_and_the_older_spelling(pg: psycopg.Connection) -> None:
    old = {"enabled": True, "activation_price": 0.75, "stop_distance": 0.05, "current_stop": 0.70, "highest_price": 0.75}
    known = TrailingStop.model_validate(old)
    assert (known.active, known.peak_price, known.current_stop_price) == (True, dollars("0.75"), dollars("0.7"))
    markets(pg)
    position = opened(pg, trailing_stop_state=known)
    now = mark(pg, position, "0.78", NOON + MINUTE).trailing_stop_state
    assert (now.peak_price, now.current_stop_price) == (dollars("0.78"), dollars("0.73"))


@pytest.mark.parametrize("wrong", [{}, {"current_distance": 1}, {"current_distance": "0.1", "stop_distance": "0.1"}, {"peak": 1}])
def test_a_stop_that_makes_no_sense_is_refused_before_it_is_sent(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrailingStop.model_validate({"activation_price": "0.66", **wrong})


# -- leaving -----------------------------------------------------------------------------------------------------------------------


def test_the_partial_exits_of_the_seed(pg: psycopg.Connection) -> None:
    """100 contracts at 0.60 leave as 50 at 0.69, 25 at 0.75 and 25 at 0.88; three exits, one position that closes."""
    markets(pg)
    position = opened(pg)
    parts = [
        left(pg, position, NOON + HOUR, "50", "0.69", "partial_exit_target"),
        left(pg, position, NOON + 2 * HOUR, "25", "0.75", "partial_exit_target"),
        left(pg, position, NOON + 3 * HOUR, "25", "0.88", "trailing_stop"),
    ]
    assert [(part.status, part.remaining_quantity) for part in parts] == [("open", 50), ("open", 25), ("closed", 0)]
    assert [part.realized_pnl for part in parts] == [dollars("4.5"), dollars("8.25"), dollars("15.25")]
    exits = trading.exits_of_position(pg, environment="paper", position_id=position.position_id)
    assert [(row.exit_condition, row.exit_priority) for row in exits] == [
        ("partial_exit_target", "MEDIUM"), ("partial_exit_target", "MEDIUM"), ("trailing_stop", "HIGH"),
    ]  # fmt: skip
    now = state(pg, position)
    assert (now["exit_reason"], now["exit_priority"], now["exit_time"]) == ("trailing_stop", "HIGH", NOON + 3 * HOUR)
    assert now["exit_price"] == dollars("0.7525")
    assert trading.open_positions(pg, environment="paper") == []


def test_an_exit_that_comes_again_changes_nothing_and_another_at_the_same_time_is_refused(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    left(pg, position, NOON + HOUR, "50", "0.69")
    pg.commit()
    before = (versions(pg, position), pg.execute("SELECT * FROM trading.positions").fetchall())
    again = left(pg, position, NOON + HOUR, "50", "0.69")
    assert (again.outcome, again.remaining_quantity) == ("unchanged", 50)
    assert (versions(pg, position), pg.execute("SELECT * FROM trading.positions").fetchall()) == before
    with pytest.raises(errors.UniqueViolation, match="another exit") as refused:
        left(pg, position, NOON + HOUR, "50", "0.70")
    assert refused.value.diag.constraint_name == "position_exits_pkey"


def test_more_than_there_is_cannot_leave(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    left(pg, position, NOON + HOUR, "99.99", "0.69")
    with pytest.raises(errors.CheckViolation, match=r"cannot lose 100.01 contracts: 100.00 entered it") as refused:
        left(pg, position, NOON + 2 * HOUR, "0.02", "0.69")
    assert refused.value.diag.constraint_name == "position_exits_overexit_check"


def test_closing_takes_what_is_left_and_again_changes_nothing(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg, fees=dollars("1.68"))
    left(pg, position, NOON + HOUR, "30", "0.69")
    closed = close(pg, position, NOON + 2 * HOUR, "0.50")
    assert (closed.status, closed.quantity_left, closed.remaining_quantity) == ("closed", 70, 0)
    assert closed.realized_pnl == dollars("-4.3")
    assert close(pg, position, NOON + 2 * HOUR, "0.50").outcome == "unchanged"
    now = state(pg, position)
    assert (now["close_reason"], now["fees"], now["unrealized_pnl"]) == ("enough", dollars("1.78"), None)
    with pytest.raises(errors.CheckViolation):
        close(pg, position, NOON + 3 * HOUR, "0.50")


def test_an_exit_that_is_told_late_is_filed_with_its_time_and_takes_effect_when_it_is_told(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    mark(pg, position, "0.65", NOON + HOUR)
    left(pg, position, NOON + MINUTE, "100", "0.64")
    assert [row[0] for row in versions(pg, position)] == [NOON, NOON + HOUR, NOON + HOUR + TICK]
    assert state(pg, position)["exit_time"] == NOON + MINUTE


@pytest.mark.parametrize(
    ("side", "outcome", "pnl"), [("yes", "yes", 40), ("yes", "no", -60), ("no", "yes", -60), ("no", "no", 40)]
)
def test_settlement_pays_the_side_that_is_held(pg: psycopg.Connection, side: Any, outcome: str, pnl: int) -> None:  # noqa: ANN401
    """A loss on NO is a loss."""
    markets(pg)
    position = opened(pg, side=side)
    catalog.insert_settlements(pg, [declared(outcome=outcome, at=NOON + DAY)])
    (paid,) = trading.settle_positions_of_market(pg, environment="paper", market_ticker=T80)
    assert (paid.outcome, paid.quantity_paid, paid.realized_pnl) == ("written", 100, pnl)
    now = state(pg, position)
    assert (now["status"], now["exit_time"], now["unrealized_pnl"]) == ("settled", NOON + DAY, 0)
    assert trading.settle_positions_of_market(pg, environment="paper", market_ticker=T80) == []


@pytest.mark.parametrize(("side", "pnl"), [("yes", -60), ("no", 40)])
def test_an_outcome_whose_payouts_nobody_wrote_down_pays_by_its_word(pg: psycopg.Connection, side: Any, pnl: int) -> None:  # noqa: ANN401
    markets(pg)
    opened(pg, side=side)
    pg.execute(
        "INSERT INTO catalog.settlements (market_ticker, settled_at, platform_id, outcome) VALUES (%s, %s, 'kalshi', 'no')",
        [T80, NOON + DAY],
    )
    (paid,) = trading.settle_positions_of_market(pg, environment="paper", market_ticker=T80)
    assert paid.realized_pnl == pnl


def test_nobody_leaves_a_position_before_entering_it(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    for table, leave in (
        ("position_exits", lambda: left(pg, position, NOON - TICK, "10", "0.50")),
        (
            "position_versions",
            lambda: trading.settle_position(
                pg, environment="paper", position_id=position.position_id, settled_at=NOON - TICK, payout=dollars("1"), fees=None
            ),
        ),
    ):
        with pytest.raises(errors.CheckViolation, match=r"cannot be left at .*: it was entered at") as refused, pg.transaction():
            leave()
        assert refused.value.diag.constraint_name == f"{table}_entry_time_check"
    assert len(versions(pg, position)) == 1
    left(pg, position, NOON, "10", "0.50")


def test_only_what_is_still_held_is_paid_out(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    left(pg, position, NOON + HOUR, "60", "0.70")
    catalog.insert_settlements(pg, [declared(outcome="no", at=NOON + DAY)])
    (paid,) = trading.settle_positions_of_market(pg, environment="paper", market_ticker=T80)
    assert (paid.quantity_paid, paid.realized_pnl) == (40, dollars("-18"))
    with pytest.raises(errors.CheckViolation, match="it is settled"):
        left(pg, position, NOON + 2 * DAY, "1", "0.70")


def test_a_void_market_and_another_environment_stay_open(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    catalog.insert_settlements(pg, [declared(outcome="void", at=NOON + DAY)])
    assert trading.settle_positions_of_market(pg, environment="paper", market_ticker=T80) == []
    catalog.insert_settlements(pg, [declared(outcome="yes", at=NOON + 2 * DAY)])
    assert trading.settle_positions_of_market(pg, environment="live", market_ticker=T80) == []
    assert state(pg, position)["status"] == "open"


def test_settling_twice_to_another_result_is_refused(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)

    def settle(payout: str) -> str:
        return trading.settle_position(
            pg, environment="paper", position_id=position.position_id, settled_at=NOON + DAY, payout=dollars(payout), fees=None
        ).outcome

    assert [settle("0.25"), settle("0.25")] == ["written", "unchanged"]
    with pytest.raises(errors.RestrictViolation) as refused:
        settle("1")
    assert refused.value.diag.constraint_name == "position_versions_settle_once"


# -- attempts ----------------------------------------------------------------------------------------------------------------------


def test_the_price_walk_of_the_seed(pg: psycopg.Connection) -> None:
    """A stop loss at 0.75, a step down to 0.74, then a market order that fills at 0.73."""
    markets(pg)
    position = opened(pg, entry_price=dollars("0.80"))
    walk: list[tuple[Any, str | None, str | None, bool]] = [
        ("limit", "0.75", None, False), ("limit", "0.74", None, False), ("market", None, "0.73", True),
    ]  # fmt: skip
    for number, (kind, limit, filled, success) in enumerate(walk, 1):
        for again in (1, 0):
            assert again == trading.record_exit_attempt(
                pg, environment="paper", position_id=position.position_id, attempted_at=NOON + number * timedelta(seconds=10),
                attempt_number=number, exit_condition="stop_loss", order_type=kind, limit_price=limit and dollars(limit),
                fill_price=filled and dollars(filled), quantity=Decimal(100), timeout_seconds=10, success=success,
            )  # fmt: skip
    found = trading.attempts_of_position(pg, environment="paper", position_id=position.position_id)
    assert [(row.priority_level, row.price_step, row.success) for row in found] == [
        ("CRITICAL", None, False), ("CRITICAL", dollars("-0.01"), False), ("CRITICAL", None, True),
    ]  # fmt: skip
    assert [row.waited for row in found] == [None, timedelta(seconds=10), timedelta(seconds=10)]
    spans = {"environment": "paper", "attempted_from": NOON, "attempted_to": NOON + HOUR}
    assert [(row.order_type, row.attempts, row.filled, row.fill_rate) for row in trading.attempts_by_condition(pg, **spans)] == [
        ("limit", 2, 0, 0), ("market", 1, 1, 1),
    ]  # fmt: skip
    for condition, success, count in [("stop_loss", None, 3), ("stop_loss", True, 1), (None, False, 2), ("rebalance", None, 0)]:
        found_between = trading.attempts_between(pg, **spans, exit_condition=condition, success=success)
        assert len(found_between) == count


def test_profit_and_loss_of_what_is_held(pg: psycopg.Connection) -> None:
    markets(pg, T80, "KXHIGHNY-26JUL19-T81", "KXHIGHNY-26JUL19-T82")
    for ticker, yes, no in [(T80, "0.70", "0.31"), ("KXHIGHNY-26JUL19-T81", "0.90", "0.11")]:
        pg.execute(
            "INSERT INTO catalog.market_versions (market_ticker, valid_from, status, yes_price, no_price, created_at)"
            " VALUES (%s, %s, 'active', %s, %s, now())",
            [ticker, NOON, yes, no],
        )
    pg.execute("UPDATE catalog.markets SET last_price = NULL WHERE market_ticker = 'KXHIGHNY-26JUL19-T82'")
    yes = opened(pg, fees=dollars("1.5"), trailing_stop_state=stop(active=True, current_stop_price=dollars("0.65")))
    no = opened(pg, "KXHIGHNY-26JUL19-T81", NOON + SECOND, side="no", entry_price=dollars("0.40"), fees=Decimal(2))
    unquoted = opened(pg, "KXHIGHNY-26JUL19-T82", NOON + MINUTE)
    left(pg, yes, NOON + HOUR, "25", "0.80")
    trading.insert_trades(
        pg,
        [
            fill(1, position_id=yes.position_id, quantity=Decimal(60), price=dollars("0.59"), fees=Decimal(1)),
            fill(2, position_id=yes.position_id, quantity=Decimal(40), price=dollars("0.61"), fees=dollars("0.5")),
        ],
    )
    third, second, first = trading.position_pnl(pg, environment="paper")
    assert [third.position_id, second.position_id, first.position_id] == [
        unquoted.position_id, no.position_id, yes.position_id,
    ]  # fmt: skip
    assert (first.market_price, first.unrealized_pnl, first.realized_pnl) == (dollars("0.70"), dollars("7.5"), Decimal(5))
    assert (first.total_cost, first.bought_for, first.fill_fees) == (60, dollars("59.8"), dollars("1.5"))
    assert first.net_pnl == 11
    assert (first.is_trailing_stop_active, first.current_stop_price) == (True, dollars("0.65"))
    assert (second.market_price, second.unrealized_pnl, second.net_pnl) == (dollars("0.11"), -29, -31)
    assert second.unrealized_pnl_pct == dollars("-0.725")
    assert (third.market_price, third.unrealized_pnl, third.net_pnl) == (None, None, None), "unknown is not 0"
