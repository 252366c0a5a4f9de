"""Writers that meet: nobody is refused, nothing is lost, and the chain stays whole. And without the lock it would not."""

import random
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sample_rows import MINUTE, NOON
from version_tables import MARKETS, TABLES, State, Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks is no installed package

from benchmarks.race import SHAPES, Outcome, Subject, a_market, a_position, race

SUBJECTS = pytest.mark.parametrize("subject_of", [a_market, a_position])


@pytest.fixture(autouse=True)
def at_once(pg: psycopg.Connection) -> None:
    pg.autocommit = True
    pg.execute("ALTER ROLE CURRENT_USER IN DATABASE " + pg.info.dbname + " SET deadlock_timeout = '50ms'")


def faults(outcome: Outcome, each: int) -> dict[str, Any]:
    """What is wrong with what a race left behind."""
    found = {
        "raised": outcome.raised, "broken": outcome.broken, "regressions": outcome.regressions, "lost": outcome.lost,
        "final": outcome.final if outcome.final != (each, each) else None,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


@SUBJECTS
@pytest.mark.parametrize(("writers", "each"), SHAPES)
def test_writers_of_one_row_that_change_other_columns_undo_nothing(
    pg: psycopg.Connection,
    database_url: str,
    subject_of: Callable[[psycopg.Connection[Any]], Subject],
    writers: int,
    each: int,
) -> None:
    outcome = race(database_url, subject_of(pg), writers, each)
    assert faults(outcome, each) == {}
    # They did meet: one's change is followed by another's again and again.
    assert outcome.turns > outcome.changes // 20


@pytest.mark.parametrize(
    ("subject_of", "function", "lock"),
    [
        (a_market, "catalog.change_market_version", r"PERFORM FROM catalog\.markets.*?FOR NO KEY UPDATE;"),
        (a_position, "trading.change_position_version", r"UPDATE trading\.positions.*?;"),
    ],
)
def test_without_the_lock_on_the_identity_the_race_shows_it(
    pg: psycopg.Connection,
    database_url: str,
    subject_of: Callable[[psycopg.Connection[Any]], Subject],
    function: str,
    lock: str,
) -> None:
    row = pg.execute("SELECT pg_get_functiondef(%s::regproc)", [function]).fetchone()
    assert row is not None
    unlocked, count = re.subn(lock, "", row[0], count=1, flags=re.DOTALL)
    assert count == 1
    pg.execute(unlocked.encode())
    assert faults(race(database_url, subject_of(pg), 4, 100), 100).keys() >= {"lost"}


def recorded_by_many(
    url: str, table: Table, pg: psycopg.Connection, writers: int
) -> tuple[list[BaseException], list[Any], list[Any]]:
    """Let many record the same observations, each in another order, one by one and together; return errors, histories, what was seen."""
    keys = [table.new_key(pg) for _ in range(3)]
    # No two are equal, so that the history is what was seen, in whatever order it was heard.
    columns, base = list(table.states[0]), table.states[0]
    number = next(column for column in ("volume", "expected_value", "home_score", "balance", "fees") if column in columns)
    states: list[State] = [base | {number: minute + 1} for minute in range(24)]
    seen = [(NOON + minute * MINUTE, state) for minute, state in enumerate(states)]
    errors: list[BaseException] = []

    def work(writer: int) -> None:
        chance = random.Random(writer)  # noqa: S311
        mine = [(key, moment, state) for key in keys for moment, state in seen]
        chance.shuffle(mine)
        with psycopg.connect(url, autocommit=True) as connection:
            while mine:
                size = chance.choice([1, 1, 1, 5, 12])
                some, mine = mine[:size], mine[size:]
                try:
                    if size == 1:
                        table.record(connection, *some[0])
                    else:
                        table.record_many(connection, some)
                except BaseException as error:
                    errors.append(error)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(work, range(writers)))
    return errors, [table.chain(pg, key) for key in keys], seen


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_whoever_records_whatever_in_whatever_order_at_the_same_time_the_history_is_one(
    pg: psycopg.Connection, database_url: str, table: Table
) -> None:
    errors, histories, seen = recorded_by_many(database_url, table, pg, 4)
    assert errors == []
    assert histories == [seen] * 3


def test_recording_without_the_lock_is_refused_by_the_constraints(pg: psycopg.Connection, database_url: str) -> None:
    row = pg.execute("SELECT pg_get_functiondef('catalog.record_market_version'::regproc)").fetchone()
    assert row is not None
    unlocked, count = re.subn(r"PERFORM FROM catalog\.markets.*?FOR NO KEY UPDATE;", "PERFORM 1;", row[0], flags=re.DOTALL)
    assert count == 1
    pg.execute(unlocked.encode())
    for _ in range(20):  # until they have met
        errors, _, _ = recorded_by_many(database_url, MARKETS, pg, 4)
        if errors:
            return
        pg.execute("TRUNCATE catalog.market_versions")
    pytest.fail("four writers without a lock never got into each other's way")
