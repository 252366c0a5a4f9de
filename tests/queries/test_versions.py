"""Histories: one chain of versions a key, whatever is recorded in whatever order."""

# ruff: noqa: S608  (names of tables and columns are the test's own)

from datetime import datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import HOUR, MINUTE, NOON, SECOND, TICK
from version_tables import MARKETS, TABLES, History, Table

from kalshidb.queries import catalog

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


@EACH_TABLE
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
