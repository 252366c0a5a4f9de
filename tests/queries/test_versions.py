"""Histories: one chain of versions a key, whatever is recorded in whatever order."""

# ruff: noqa: S608  (names of tables and columns are the test's own)

from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import HOUR, MINUTE, NOON, SECOND, TICK
from version_tables import (
    BALANCE_TABLE,
    EDGE_TABLE,
    EDGES,
    GAME_TABLE,
    MARKETS,
    POSITION_TABLE,
    POSITIONS,
    TABLES,
    History,
    Table,
)  # fmt: skip

from kalshidb.models.catalog import SettlementInput
from kalshidb.queries import catalog, research, trading

EACH_TABLE = pytest.mark.parametrize("table", TABLES, ids=str)
#: Observations as (key, minute, state), of few of each so that they meet.
OBSERVATION = st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 2))


@pytest.fixture(autouse=True)
def at_once(pg: psycopg.Connection) -> None:
    pg.autocommit = True


@EACH_TABLE
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(OBSERVATION, st.lists(OBSERVATION, min_size=1, max_size=6)), max_size=8))
def test_whatever_is_recorded_one_by_one_and_together_becomes_the_history_that_it_should(
    table: Table, pg: psycopg.Connection, steps: list[Any]
) -> None:
    keys = [table.new_key(pg) for _ in range(2)]
    histories = [History(), History()]
    for step in steps:
        if isinstance(step, list):
            observations = [(key, NOON + minute * MINUTE, table.states[state]) for key, minute, state in step]
            result = table.record_many(pg, [(keys[key], moment, state) for key, moment, state in observations])
            before = [dict(history.starts) for history in histories]
            conflicts = [
                history.record_many((moment, state) for key, moment, state in observations if key == number)
                for number, history in enumerate(histories)
            ]
            new = [
                [moment for moment in history.starts if moment not in known]
                for history, known in zip(histories, before, strict=True)
            ]
            filed = sum(
                moment < max(known, default=NOON) for moments, known in zip(new, before, strict=True) for moment in moments
            )
            assert (result.received, result.conflicting) == (len(observations), sum(map(len, conflicts)))
            assert (result.written, result.filed) == (sum(map(len, new)), filed)
            for key, moment, state in observations:
                if (moment, state) not in conflicts[key]:
                    assert histories[key].at(moment) == state
        else:
            key, minute, state = step
            moment = NOON + minute * MINUTE
            outcome = histories[key].record(moment, table.states[state])
            if outcome == "conflicting":
                with pytest.raises(psycopg.errors.UniqueViolation, match="already"):
                    table.record(pg, keys[key], moment, table.states[state])
            else:
                assert table.record(pg, keys[key], moment, table.states[state]) == outcome
        assert [table.chain(pg, key) for key in keys] == [history.chain() for history in histories]


@EACH_TABLE
def test_what_is_recorded_again_is_not_written_again(table: Table, pg: psycopg.Connection) -> None:
    key = table.new_key(pg)
    observations = [(key, NOON + minute * MINUTE, table.states[minute % 3]) for minute in range(6)]
    assert table.record_many(pg, observations).written == 6
    for again in (observations, observations[::-1], observations[2:3]):
        result = table.record_many(pg, again)
        assert (result.written, result.unchanged, result.filed) == (0, len(again), 0)
    assert [table.record(pg, *observation) for observation in observations] == ["unchanged"] * 6


@pytest.mark.parametrize("table", [table for table in TABLES if table is not POSITION_TABLE], ids=str)
def test_what_equals_the_version_of_its_moment_locks_nothing(table: Table, pg: psycopg.Connection, database_url: str) -> None:
    key = table.new_key(pg)
    table.record(pg, key, NOON, table.states[0])
    with psycopg.connect(database_url) as other, psycopg.connect(database_url, autocommit=True) as writer:
        table.record(other, key, NOON + HOUR, table.states[1])  # and does not commit
        writer.execute("SET lock_timeout = '5s'")
        assert table.record(writer, key, NOON + MINUTE, table.states[0]) == "unchanged"
        assert table.record_many(writer, [(key, NOON + 2 * MINUTE, table.states[0])]).unchanged == 1
        writer.execute("SET lock_timeout = '20ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            table.record(writer, key, NOON + MINUTE, table.states[2])


@EACH_TABLE
def test_every_state_column_makes_a_version_and_is_kept(table: Table, pg: psycopg.Connection) -> None:
    room, name = table.name.split(".")
    columns = {
        row[0]
        for row in pg.execute(
            "SELECT column_name::text FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s AND is_generated = 'NEVER' AND is_identity = 'NO'",
            [room, name],
        )
    }
    assert columns - {*table.key, "valid_from", "valid_to", "created_at"} - set(table.not_state) == set(table.states[0])
    for state in table.states:
        for other in table.states:
            for column in state:
                if other[column] == state[column]:
                    continue
                changed = state | {column: other[column]} | table.together(column, other)
                for record in ("record", "record_many"):
                    key = table.new_key(pg)
                    table.record(pg, key, NOON, state)
                    if record == "record":
                        assert table.record(pg, key, NOON + SECOND, changed) == "written", column
                    else:
                        assert table.record_many(pg, [(key, NOON + SECOND, changed)]).written == 1, column
                    assert table.chain(pg, key) == [(NOON, state), (NOON + SECOND, changed)]


@EACH_TABLE
def test_the_database_refuses_a_gap_an_overlap_and_a_second_end(table: Table, pg: psycopg.Connection) -> None:
    key = table.new_key(pg)
    table.record_many(pg, [(key, NOON + minute * MINUTE, table.states[minute]) for minute in range(3)])
    where = " AND ".join(f"{column} = %s" for column in table.key)
    for minute, change, constraint in [
        (0, "valid_to = valid_to + interval '1 second'", "valid_to_fkey"),
        (0, "valid_to = valid_to + interval '1 minute'", "_key"),
        (0, "valid_to = NULL", "current_key"),
        (0, "valid_to = valid_from", "valid_to_check"),
        (1, "valid_from = valid_from + interval '1 second'", "valid_to_fkey"),
        (2, "valid_from = valid_from - interval '1 minute'", "valid_from_key"),
    ]:
        with pytest.raises(psycopg.errors.IntegrityError) as refused:
            pg.execute(f"UPDATE {table.name} SET {change} WHERE {where} AND valid_from = %s", [*key, NOON + minute * MINUTE])
        assert (refused.value.diag.constraint_name or "").replace("pkey", "valid_from_key").endswith(constraint), change


@EACH_TABLE
def test_a_transaction_that_does_not_see_others_fails_rather_than_writing_on_what_is_no_more(
    table: Table, pg: psycopg.Connection, database_url: str
) -> None:
    for record in ("record", "record_many"):
        key = table.new_key(pg)
        table.record(pg, key, NOON, table.states[0])
        with psycopg.connect(database_url) as late:
            late.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            late.execute("SELECT 1")
            table.record(pg, key, NOON + MINUTE, table.states[1])
            observation = (key, NOON + HOUR, table.states[2])
            with pytest.raises((psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation)):
                table.record(late, *observation) if record == "record" else table.record_many(late, [observation])
        assert table.chain(pg, key) == [(NOON, table.states[0]), (NOON + MINUTE, table.states[1])]


def test_a_change_carries_every_other_column_over(pg: psycopg.Connection) -> None:
    for state in MARKETS.states[:2]:
        for column, value in MARKETS.states[1].items():
            (ticker,) = MARKETS.new_key(pg)
            MARKETS.record(pg, (ticker,), NOON, state)
            given_ = dict.fromkeys(state) | {column: "closed" if column == "status" else value / 2}
            assert catalog.change_market_version(pg, market_ticker=ticker, **given_) == "written"
            assert catalog.change_market_version(pg, market_ticker=ticker, **given_) == "unchanged"
            (_, before), (_, after) = MARKETS.chain(pg, (ticker,))
            assert (before, after) == (state, state | {column: given_[column]})


def test_a_change_is_made_when_it_is_its_turn_and_never_before_what_it_changes(pg: psycopg.Connection) -> None:
    (ticker,) = MARKETS.new_key(pg)
    future = NOON.replace(year=2999)
    MARKETS.record(pg, (ticker,), future, MARKETS.states[0])
    nothing = dict.fromkeys(MARKETS.states[0])
    with pg.transaction():
        begun = pg.execute("SELECT now()").fetchone()
        catalog.change_market_version(pg, market_ticker=ticker, **nothing | {"volume": 11})
        assert [moment for moment, _ in MARKETS.chain(pg, (ticker,))] == [future, future + TICK]
        (other,) = MARKETS.new_key(pg)
        MARKETS.record(pg, (other,), NOON, MARKETS.states[0])
        catalog.change_market_version(pg, market_ticker=other, **nothing | {"volume": 11})
        assert begun is not None
        assert MARKETS.chain(pg, (other,))[-1][0] > begun[0]


def test_a_market_without_a_version_cannot_be_changed_and_is_told_what_to_do(pg: psycopg.Connection) -> None:
    nothing = dict.fromkeys(MARKETS.states[0])
    for ticker in (*MARKETS.new_key(pg), "NOBODY-KNOWS"):
        with pytest.raises(psycopg.errors.NoDataFound, match="record_market_version"):
            catalog.change_market_version(pg, market_ticker=ticker, **nothing | {"volume": 1})


def test_an_unknown_market_gets_a_stub(pg: psycopg.Connection) -> None:
    assert MARKETS.record(pg, ("NEW-1",), NOON, MARKETS.states[0]) == "written"
    assert MARKETS.record_many(pg, [(("NEW-2",), NOON, MARKETS.states[0])]).written == 1
    assert [row.ticker for row in catalog.stubs(pg) if row.kind == "market"] == ["NEW-1", "NEW-2"]


def test_many_moments_are_asked_at_once_and_none_sees_what_came_after(pg: psycopg.Connection) -> None:
    (ticker,) = MARKETS.new_key(pg)
    MARKETS.record_many(pg, [((ticker,), NOON, MARKETS.states[0]), ((ticker,), NOON + HOUR, MARKETS.states[1])])
    moments = [NOON + HOUR, NOON - TICK, NOON, NOON + HOUR - TICK]
    rows = catalog.market_versions_as_of(pg, market_tickers=[ticker] * 3 + ["UNKNOWN"], moments=moments)
    assert [(row.moment, row.valid_from) for row in rows] == [
        (NOON + HOUR, NOON + HOUR), (NOON - TICK, None), (NOON, NOON), (NOON + HOUR - TICK, None)
    ]  # fmt: skip
    for moment in moments[:3]:
        one = catalog.market_version_as_of(pg, market_ticker=ticker, moment=moment)
        many = catalog.market_versions_as_of(pg, market_tickers=[ticker], moments=[moment])
        assert (one and one.valid_from) == many[0].valid_from


def test_the_versions_of_a_time_are_those_that_were_valid_at_some_moment_of_it(pg: psycopg.Connection) -> None:
    (ticker,) = MARKETS.new_key(pg)
    starts = [NOON + hour * HOUR for hour in range(4)]
    MARKETS.record_many(pg, [((ticker,), start, MARKETS.states[number % 3]) for number, start in enumerate(starts)])

    def between(begin: datetime, end: datetime) -> list[datetime]:
        rows = catalog.market_versions_between(pg, market_ticker=ticker, start_time=begin, end_time=end)
        return [row.valid_from for row in rows]

    assert between(NOON - HOUR, NOON) == []
    assert between(NOON, NOON + TICK) == starts[:1]
    assert between(NOON + MINUTE, NOON + HOUR) == starts[:1]
    assert between(NOON + HOUR, NOON + 2 * HOUR + TICK) == starts[1:3]
    assert between(NOON + 9 * HOUR, NOON + 10 * HOUR) == starts[3:]


def test_the_life_of_a_market_is_seen_in_its_versions(pg: psycopg.Connection) -> None:
    (ticker,) = MARKETS.new_key(pg)
    active, closed = MARKETS.states[0], MARKETS.states[1] | {"status": "closed"}
    for minute, state in enumerate([active, MARKETS.states[1], closed, closed | {"status": "settled"}]):
        MARKETS.record(pg, (ticker,), NOON + minute * MINUTE, state)
    rows = catalog.status_changes_of_market(pg, market_ticker=ticker)
    assert [(row.occurred_at, row.status_before, row.status) for row in rows] == [
        (NOON, None, "active"), (NOON + 2 * MINUTE, "active", "closed"), (NOON + 3 * MINUTE, "closed", "settled")
    ]  # fmt: skip


def test_many_current_markets_come_with_their_versions(pg: psycopg.Connection) -> None:
    (ticker,), (without,) = MARKETS.new_key(pg), MARKETS.new_key(pg)
    MARKETS.record(pg, (ticker,), NOON, MARKETS.states[1])
    rows = catalog.current_markets(pg, market_tickers=[ticker, without, "UNKNOWN"])
    assert {row.market_ticker: row.yes_bid for row in rows} == {ticker: MARKETS.states[1]["yes_bid"], without: None}


def test_a_change_of_a_position_carries_every_other_column_over(pg: psycopg.Connection) -> None:
    other = POSITIONS[1] | {"status": "settled", "quantity": 5}
    for column, value in other.items():
        for state in (POSITIONS[1], POSITIONS[0]):
            if state is POSITIONS[0] and column in {"status", "exit_time", "exit_reason", "exit_priority"}:
                continue  # they change together
            environment, position = key = POSITION_TABLE.new_key(pg)
            POSITION_TABLE.record(pg, key, NOON, state)
            new = {"current_price": 0.75, "exit_time": NOON + HOUR, "trailing_stop_state": None, "close_reason": "sold"}.get(
                column, value
            )
            change = dict.fromkeys(state) | {column: new}
            outcome = trading.change_position_version(pg, environment=environment, position_id=position, **change)
            chain = POSITION_TABLE.chain(pg, key)
            if new is None or new == state[column]:
                assert (outcome, len(chain)) == ("unchanged", 1)
            else:
                assert (outcome, chain[0][1], chain[1][1]) == ("written", state, state | {column: new}), column


def test_the_priority_of_an_exit_follows_its_reason(pg: psycopg.Connection) -> None:
    environment, position = key = POSITION_TABLE.new_key(pg)
    POSITION_TABLE.record(pg, key, NOON, POSITIONS[1])
    change = dict.fromkeys(POSITIONS[0]) | {"exit_reason": "rebalance"}
    assert trading.change_position_version(pg, environment=environment, position_id=position, **change) == "written"
    assert POSITION_TABLE.chain(pg, key)[-1][1]["exit_priority"] == "LOW"


def test_a_position_of_another_environment_cannot_be_changed(pg: psycopg.Connection) -> None:
    _, position = key = POSITION_TABLE.new_key(pg)
    POSITION_TABLE.record(pg, key, NOON, POSITIONS[0])
    with pytest.raises(psycopg.errors.NoDataFound, match=rf"position {position} \(live\)"):
        trading.change_position_version(
            pg, environment="live", position_id=position, **dict.fromkeys(POSITIONS[0]) | {"status": "closed"}
        )


@pytest.mark.parametrize("together", [False, True])
def test_a_look_that_changes_nothing_moves_only_the_time_of_the_last_look(pg: psycopg.Connection, together: bool) -> None:
    environment, position = key = POSITION_TABLE.new_key(pg)

    def look(minute: int, state: int) -> None:
        observation = (key, NOON + minute * MINUTE, POSITIONS[state])
        POSITION_TABLE.record_many(pg, [observation]) if together else POSITION_TABLE.record(pg, *observation)

    def looks() -> list[int]:
        rows = trading.versions_of_position(pg, environment=environment, position_id=position)
        return [(row.last_update - NOON) // MINUTE for row in rows if row.last_update]

    for minute, state, expected in [
        (0, 0, [0]), (2, 0, [2]), (1, 0, [2]), (5, 1, [2, 5]), (9, 1, [2, 9]), (4, 0, [4, 9]), (9, 1, [4, 9]),
    ]:  # fmt: skip
        look(minute, state)
        assert looks() == expected
    if together:
        POSITION_TABLE.record_many(pg, [(key, NOON + minute * MINUTE, POSITIONS[2]) for minute in (20, 30, 25)])
        assert looks() == [4, 9, 30]


def test_edges_of_different_sources_are_chains_of_their_own_and_are_asked_by_market(pg: psycopg.Connection) -> None:
    ticker, source = key = EDGE_TABLE.new_key(pg)  # with an edge of no source an hour before noon
    EDGE_TABLE.record(pg, key, NOON, EDGES[1])
    EDGE_TABLE.record(pg, key, NOON + HOUR, EDGES[2])
    model = int(source.split(",")[1])
    now = research.current_edges_of_market(pg, market_ticker=ticker)
    assert [(edge.model_id, edge.confidence_level) for edge in now] == [(None, "high"), (model, "low")]

    rows = research.edges_as_of(pg, market_tickers=[ticker] * 3, moments=[NOON - TICK, NOON, NOON - 2 * HOUR])
    assert [(row.position, row.model_id, row.expected_value) for row in rows] == [
        (1, None, EDGES[0]["expected_value"]), (2, None, EDGES[0]["expected_value"]), (2, model, EDGES[1]["expected_value"]),
    ]  # fmt: skip
    asked = {"market_ticker": ticker, "strategy_id": None, "model_id": model, "probability_matrix_id": None}
    one = research.edge_as_of(pg, **asked, moment=NOON + HOUR - TICK)
    assert one is not None
    assert one.valid_from == NOON
    assert research.edge_as_of(pg, **asked, moment=NOON - TICK) is None
    between = research.edge_versions(pg, **asked, start_time=NOON + MINUTE, end_time=NOON + HOUR)
    assert [edge.valid_from for edge in between] == [NOON]


def test_active_edges_are_those_above_a_threshold_and_of_some_confidence(pg: psycopg.Connection) -> None:
    first, second, third = (EDGE_TABLE.new_key(pg) for _ in range(3))
    EDGE_TABLE.record(pg, first, NOON, EDGES[2])
    EDGE_TABLE.record(pg, second, NOON, EDGES[2] | {"expected_value": 0.08, "confidence_level": "medium"})
    EDGE_TABLE.record(pg, third, NOON, EDGES[1])
    MARKETS.record(pg, (second[0],), NOON, MARKETS.states[1])

    def active(threshold: str, *levels: str) -> list[tuple[str, bool]]:
        rows = research.active_edges(pg, min_expected_value=Decimal(threshold), confidence_levels=levels)
        return [(row.market_ticker, row.model_id is not None) for row in rows]

    assert active("0.08", "medium") == [(second[0], True)]
    assert active("0.080001", "medium") == []
    assert sorted(active("0.1", "low", "high")) == sorted(
        [(first[0], True), *((key[0], False) for key in (first, second, third))]
    )
    (row,) = research.active_edges(pg, min_expected_value=Decimal("0.08"), confidence_levels=["medium"])
    assert (row.title, row.yes_bid, row.edge) == ("80 or above?", MARKETS.states[1]["yes_bid"], Decimal("0.14"))


def test_games_balances_and_positions_are_asked_as_of_a_moment_and_over_a_time(pg: psycopg.Connection) -> None:
    moments = [NOON - TICK, NOON, NOON + HOUR - TICK, NOON + HOUR]
    states = [None, 0, 0, 1]

    def filled(table: Table) -> tuple[Any, ...]:
        key = table.new_key(pg)
        table.record_many(pg, [(key, NOON, table.states[0]), (key, NOON + HOUR, table.states[1])])
        return key

    event_ticker, game = filled(GAME_TABLE)
    which: dict[str, Any] = {"event_ticker": event_ticker, "external_game_id": game}
    games = research.game_states_as_of(pg, event_tickers=[event_ticker] * 4, external_game_ids=[game] * 4, moments=moments)
    assert [row.home_score for row in games] == [
        None if state is None else GAME_TABLE.states[state]["home_score"] for state in states
    ]
    for moment, row in zip(moments, games, strict=True):
        one_game = research.game_state_as_of(pg, **which, moment=moment)
        assert (one_game and one_game.valid_from) == row.valid_from
    over = research.game_states_between(pg, **which, start_time=NOON + MINUTE, end_time=NOON + HOUR)
    assert [state.valid_from for state in over] == [NOON]
    (current_game,) = research.current_game_states_of_event(pg, event_ticker=event_ticker)
    assert current_game.sport == "nba"
    assert [state.event_ticker for state in research.current_game_states_of_sport(pg, sport="nba")] == [event_ticker]
    assert research.current_game_states_of_sport(pg, sport="nfl") == []

    environment, platform, currency = filled(BALANCE_TABLE)
    account: dict[str, Any] = {"environment": environment, "platform_id": platform, "currency": currency}
    balances = trading.balances_as_of(pg, **account, moments=moments)
    assert [row.balance for row in balances] == [
        None if state is None else BALANCE_TABLE.states[state]["balance"] for state in states
    ]
    for moment, balance in zip(moments, balances, strict=True):
        one_balance = trading.balance_as_of(pg, **account, moment=moment)
        assert (one_balance and one_balance.valid_from) == balance.valid_from
    held = trading.balances_between(pg, **account, start_time=NOON + HOUR, end_time=NOON + 2 * HOUR)
    assert [balance.valid_from for balance in held] == [NOON + HOUR]
    assert [balance.balance for balance in trading.current_balances(pg, environment="paper")] == [Decimal("99.25")]
    assert trading.current_balances(pg, environment="live") == []

    _, position = filled(POSITION_TABLE)
    positions = trading.position_versions_as_of(pg, environment="paper", position_ids=[position] * 4, moments=moments)
    assert [row.status for row in positions] == [None, "open", "open", "closed"]
    for moment, version in zip(moments, positions, strict=True):
        one_position = trading.position_version_as_of(pg, environment="paper", position_id=position, moment=moment)
        assert (one_position and one_position.valid_from) == version.valid_from
    begun = trading.position_versions_between(
        pg, environment="paper", position_id=position, start_time=NOON - HOUR, end_time=NOON + TICK
    )
    assert [state.valid_from for state in begun] == [NOON]
    now = trading.current_position_version(pg, environment="paper", position_id=position)
    assert now is not None
    assert now.status == "closed"
    assert trading.current_position_version(pg, environment="live", position_id=position) is None


@pytest.mark.parametrize("table", [EDGE_TABLE, GAME_TABLE, BALANCE_TABLE, POSITION_TABLE], ids=str)
def test_what_nobody_knows_has_no_versions(table: Table, pg: psycopg.Connection) -> None:
    unknown = {EDGE_TABLE: ("NOBODY", "{0,0,0}"), GAME_TABLE: ("NOBODY", ""), POSITION_TABLE: ("paper", 987654)}.get(
        table, ("paper", "nobody", "USD")
    )
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        table.record(pg, unknown, NOON, table.states[0])
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        table.record_many(pg, [(unknown, NOON, table.states[0])])


def test_the_current_price_is_the_venues_or_else_that_of_the_last_trade(pg: psycopg.Connection) -> None:
    (ticker,) = MARKETS.new_key(pg)
    assert catalog.current_price(pg, market_ticker=ticker) is None
    for minute, (shown, expected) in enumerate(
        [(Decimal("0.3"), (Decimal("0.3"), Decimal("0.7"))), (None, (Decimal("0.4"), Decimal("0.6")))]
    ):
        state = dict.fromkeys(MARKETS.states[0]) | {
            "status": "active", "yes_price": shown, "no_price": shown and 1 - shown, "last_price": Decimal("0.4"),
        }  # fmt: skip
        MARKETS.record(pg, (ticker,), NOON + minute * MINUTE, state)
        price = catalog.current_price(pg, market_ticker=ticker)
        assert price is not None
        assert (price.yes_price, price.no_price) == expected


def test_an_amended_outcome_is_a_row_of_its_own_also_where_the_time_of_settlement_stays(pg: psycopg.Connection) -> None:
    (ticker,) = MARKETS.new_key(pg)

    def declare(outcome: str, minute: int) -> int:
        yes = Decimal(outcome == "yes")
        row = SettlementInput(
            market_ticker=ticker, settled_at=NOON, platform_id="kalshi", outcome=outcome, payout=Decimal(1), yes_payout=yes,
            no_payout=1 - yes, retrieved_at=NOON + minute * MINUTE,
        )  # fmt: skip
        return catalog.insert_settlements(pg, [row]).written

    assert [declare(*each) for each in [("yes", 1), ("yes", 2), ("no", 5), ("no", 6), ("no", 5), ("yes", 1)]] == [
        1,
        0,
        1,
        0,
        0,
        0,
    ]
    final = catalog.final_settlement(pg, market_ticker=ticker)
    assert final is not None
    assert (final.outcome, final.settled_at) == ("no", NOON + 5 * MINUTE)
    assert [declare("yes", 9), declare("yes", 10)] == [1, 0]
    rows = catalog.settlements_between(pg, settled_from=NOON, settled_to=NOON + HOUR)
    assert [row.outcome for row in rows] == ["yes", "no", "yes"]
