"""Overrides of settings: one counts at a time, whoever sets them, and what counted when can be asked."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from sample_rows import DAY, HOUR, SECOND, TICK

from kalshidb.models.ops import ConfigOverride
from kalshidb.postgres import connect
from kalshidb.queries import ops
from kalshidb.typedsql import as_jsonb

KEY = "trading.sports_live.execution.max_spread"


def override(pg: psycopg.Connection, value: object = Decimal("0.08"), **changes: Any) -> ConfigOverride:  # noqa: ANN401
    row: dict[str, Any] = {
        "config_key": KEY, "data_type": "float", "reason": "spreads are wide tonight", "applied_by": "ana", "expires_at": None,
    }  # fmt: skip
    return ops.override_config(pg, override_value=value, **(row | changes))


@pytest.fixture
def conn(database_url: str) -> Any:  # noqa: ANN401
    with connect(database_url, autocommit=True) as connection:
        yield connection


def test_an_override_counts_until_it_is_taken_back(conn: psycopg.Connection) -> None:
    assert ops.config_override(conn, config_key=KEY, moment=None) is None
    set_ = override(conn)
    assert (set_.active, set_.ended_at, set_.override_value) == (True, None, Decimal("0.08"))
    assert ops.config_override(conn, config_key=KEY, moment=None) == set_
    assert ops.config_in_force(conn) == [set_]
    assert ops.take_back_config(conn, config_key=KEY) == 1
    assert ops.take_back_config(conn, config_key=KEY) == 0
    assert ops.config_override(conn, config_key=KEY, moment=None) is None
    assert ops.config_in_force(conn) == []
    (ended,) = ops.config_override_history(conn, config_key=KEY)
    assert not ended.active
    assert ops.config_override(conn, config_key=KEY, moment=set_.applied_at) == ended


def test_a_new_override_replaces_the_active_one_without_a_gap(conn: psycopg.Connection) -> None:
    for value in ("0.08", "0.05", "0.03"):
        override(conn, Decimal(value))
    override(conn, True, config_key="trading.enabled", data_type="bool")
    first, second, third = ops.config_override_history(conn, config_key=KEY)
    assert [first.ended_at, second.ended_at, third.ended_at] == [second.applied_at, third.applied_at, None]
    assert ops.config_override(conn, config_key=KEY, moment=second.applied_at) == second
    assert ops.config_override(conn, config_key=KEY, moment=second.applied_at - TICK) == first
    assert [row.config_key for row in ops.config_in_force(conn)] == ["trading.enabled", KEY]
    assert ops.config_in_force_at(conn, moment=second.applied_at) == [second]


def test_an_expired_override_counts_no_more_although_nobody_cleaned_up(conn: psycopg.Connection) -> None:
    end = datetime.now(UTC) + DAY
    set_ = override(conn, expires_at=end)
    assert ops.config_override(conn, config_key=KEY, moment=end - TICK) == set_
    assert ops.config_override(conn, config_key=KEY, moment=end) is None
    assert ops.config_in_force_at(conn, moment=end) == []
    conn.execute(
        "UPDATE ops.config_overrides SET applied_at = applied_at - interval '2 days', expires_at = expires_at - interval '2 days'"
    )
    assert ops.config_override(conn, config_key=KEY, moment=None) is None
    assert ops.config_in_force(conn) == []
    (expired,) = ops.config_override_history(conn, config_key=KEY)
    assert expired.active


def test_values_come_typed_and_exact_whatever_reads_them(pg: psycopg.Connection) -> None:
    override(pg, Decimal("0.12345678901234567890"))
    override(pg, False, config_key="trading.enabled", data_type="bool")
    assert ops.config_number(pg, config_key=KEY, moment=None) == Decimal("0.12345678901234567890")
    assert ops.config_flag(pg, config_key="trading.enabled", moment=None) is False
    assert ops.config_flag(pg, config_key="trading.other", moment=None) is None
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match=r'boolean: "0\.123'):
        ops.config_flag(pg, config_key=KEY, moment=None)


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"value": "0.08"}, "override_value"),
        ({"value": Decimal("1.5"), "data_type": "int"}, "override_value"),
        ({"value": 1, "data_type": "bool"}, "override_value"),
        ({"value": 1, "data_type": "string"}, "override_value"),
        ({"data_type": "decimal"}, "data_type"),
        ({"config_key": "Max Spread"}, "config_key"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
    ],
)
def test_a_value_that_is_not_of_its_kind_is_refused(pg: psycopg.Connection, changes: dict[str, Any], constraint: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=f"config_overrides_{constraint}_check"):
        override(pg, **changes)


def test_of_two_writers_at_once_the_second_waits_and_replaces(database_url: str) -> None:
    with connect(database_url) as one, connect(database_url, autocommit=True) as two, connect(database_url) as watch:
        override(one, Decimal("0.01"), applied_by="one")
        with ThreadPoolExecutor() as pool:
            second = pool.submit(override, two, Decimal("0.02"), applied_by="two")
            wait = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while watch.execute(wait).fetchone() != (1,):
                watch.rollback()
            assert not second.done()
            one.commit()
            second.result()
        rows = ops.config_override_history(two, config_key=KEY)
    assert [(row.applied_by, row.active) for row in rows] == [("one", False), ("two", True)]
    assert rows[0].ended_at == rows[1].applied_at


def test_many_writers_at_once_leave_one_active_and_one_chain(database_url: str) -> None:
    def write(number: int) -> None:
        with connect(database_url, autocommit=True) as conn:
            for step in range(25):
                override(conn, number * 100 + step, data_type="int", applied_by=f"writer {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with connect(database_url) as conn:
        rows = ops.config_override_history(conn, config_key=KEY)
    assert len(rows) == 100
    assert [row.active for row in rows] == [False] * 99 + [True]
    assert all(row.ended_at == following.applied_at for row, following in pairwise(rows))
    changes = sum(row.applied_by != following.applied_by for row, following in pairwise(rows))
    assert changes > 3, "the writers did not meet: nothing was tried"


def test_a_record_of_the_past_leaves_the_active_one_alone(conn: psycopg.Connection) -> None:
    active = override(conn)
    begun = active.applied_at - DAY
    conn.execute(
        "INSERT INTO ops.config_overrides (config_key, override_value, data_type, reason, applied_by, applied_at, ended_at) "
        "VALUES (%s, %s, 'float', 'imported', 'ana', %s, %s)",
        [KEY, as_jsonb(Decimal("0.5")), begun, begun + HOUR],
    )
    assert ops.config_override(conn, config_key=KEY, moment=None) == active
    assert ops.config_number(conn, config_key=KEY, moment=begun) == Decimal("0.5")
    assert ops.config_number(conn, config_key=KEY, moment=begun + HOUR) is None
    assert ops.config_number(conn, config_key=KEY, moment=begun + HOUR - SECOND) == Decimal("0.5")
