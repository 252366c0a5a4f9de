"""Breakers open once and close once; health is a series of checks whose last one counts."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg
import pytest
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND, TICK

from kalshidb.models.ops import TripBreakerRow
from kalshidb.postgres import connect
from kalshidb.queries import ops


def trip(conn: psycopg.Connection, kind: str = "daily_loss_limit", value: object = None) -> TripBreakerRow:
    return ops.trip_breaker(conn, breaker_type=kind, trigger_value=value, notes=None)


def test_a_breaker_that_is_open_is_not_opened_again(pg: psycopg.Connection) -> None:
    pg.autocommit = True
    first = trip(pg, value={"loss": Decimal("512.25"), "limit": 500})
    again = trip(pg, value={"loss": 900})
    assert (first.newly_opened, again.newly_opened) == (True, False)
    assert again == first.model_copy(update={"newly_opened": False, "trip_count": 2})
    other = trip(pg, "api_failures")
    assert other.newly_opened
    assert [event.breaker_type for event in ops.open_breakers(pg)] == ["daily_loss_limit", "api_failures"]
    assert ops.breaker_is_open(pg, breaker_type="daily_loss_limit")
    assert not ops.breaker_is_open(pg, breaker_type="manual")


def test_a_breaker_is_closed_once_and_can_open_again(pg: psycopg.Connection) -> None:
    pg.autocommit = True
    first = trip(pg)
    assert ops.resolve_breaker(pg, breaker_type="daily_loss_limit", resolution_action="new day", notes="checked") == 1
    assert ops.resolve_breaker(pg, breaker_type="daily_loss_limit", resolution_action="new day", notes=None) == 0
    assert not ops.breaker_is_open(pg, breaker_type="daily_loss_limit")
    second = trip(pg)
    assert second.newly_opened
    assert second.event_id != first.event_id
    events = ops.breaker_events_between(pg, start_time=first.triggered_at, end_time=second.triggered_at + TICK)
    assert [(event.event_id, event.resolution_action, event.notes) for event in events] == [
        (first.event_id, "new day", "checked"),
        (second.event_id, None, None),
    ]
    assert events[0].resolved_at is not None
    assert events[0].resolved_at >= events[0].triggered_at
    assert ops.breaker_events_between(pg, start_time=first.triggered_at, end_time=first.triggered_at) == []


def test_of_two_that_open_a_breaker_at_once_one_opened_it(database_url: str) -> None:
    with connect(database_url) as one, connect(database_url, autocommit=True) as two, connect(database_url) as watch:
        first = trip(one)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(trip, two)
            while watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (1,):
                watch.rollback()
            one.commit()
            second = waiting.result()
        assert (first.newly_opened, second.newly_opened) == (True, False)
        assert second.event_id == first.event_id
        assert len(ops.open_breakers(two)) == 1


def test_an_unknown_breaker_is_refused(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="circuit_breaker_events_breaker_type_check"):
        trip(pg, "daily_los_limit")


def check(pg: psycopg.Connection, component: str, minutes: int, status: str = "healthy") -> int:
    return ops.record_health(pg, component=component, last_check=NOON + minutes * MINUTE, status=status, details={"at": minutes})


def test_the_last_check_of_each_component_says_how_it_is(pg: psycopg.Connection) -> None:
    assert ops.current_health(pg) == []
    for minutes in range(3):
        check(pg, "kalshi_api", minutes)
    check(pg, "database", 1, "degraded")
    check(pg, "edge_detector", 5, "down")
    check(pg, "kalshi_api", -60, "down")  # arrives late
    now = [(row.component, row.last_check, row.status) for row in ops.current_health(pg)]
    assert now == [
        ("database", NOON + MINUTE, "degraded"),
        ("edge_detector", NOON + 5 * MINUTE, "down"),
        ("kalshi_api", NOON + 2 * MINUTE, "healthy"),
    ]
    stale = ops.stale_components(pg, checked_before=NOON + 2 * MINUTE)
    assert [row.component for row in stale] == ["database"]
    assert [row.component for row in ops.stale_components(pg, checked_before=NOON + DAY)] == [
        "database",
        "kalshi_api",
        "edge_detector",
    ]


def test_a_check_is_noted_once(pg: psycopg.Connection) -> None:
    assert check(pg, "database", 0) == 1
    assert check(pg, "database", 0, "down") == 0
    (row,) = ops.health_between(pg, component="database", start_time=NOON, end_time=NOON + SECOND)
    assert (row.status, row.details) == ("healthy", {"at": 0})


def test_somebody_is_told_once_of_what_is_not_healthy(pg: psycopg.Connection) -> None:
    check(pg, "database", 0)
    check(pg, "database", 1, "down")
    check(pg, "kalshi_api", 2, "degraded")
    check(pg, "database", 60, "down")
    between = ops.unhealthy_between(pg, start_time=NOON, end_time=NOON + HOUR)
    assert [(row.component, row.status) for row in between] == [("database", "down"), ("kalshi_api", "degraded")]
    assert ops.alerts_due(pg, since=NOON)[:2] == between
    told = {"component": "database", "last_check": NOON + MINUTE}
    assert [ops.mark_alert_sent(pg, **told), ops.mark_alert_sent(pg, **told)] == [1, 0]  # type: ignore[arg-type]
    assert [row.last_check for row in ops.alerts_due(pg, since=NOON)] == [NOON + 2 * MINUTE, NOON + HOUR]
    assert ops.forget_health(pg, component="database", checked_before=NOON + HOUR) == 2
    assert [row.component for row in ops.unhealthy_between(pg, start_time=NOON, end_time=NOON + DAY)] == [
        "kalshi_api",
        "database",
    ]


def test_health_has_three_words(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="system_health_status_check"):
        check(pg, "database", 0, "fine")
