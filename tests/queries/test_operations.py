"""Checkpoints of backfills, loads and their dead processes, and what could not be stored."""

import hashlib
import subprocess
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from sample_rows import DAY, HOUR, NOON, TICK

from kalshidb.models.ops import BackfillCheckpoint, RejectedPayloadInput
from kalshidb.queries import ops

JOB = {"job_name": "event_candlesticks_1m", "series_ticker": "KXHIGHNY", "event_ticker": "KXHIGHNY-26JUL19"}


def begin(pg: psycopg.Connection, start: datetime = NOON, end: datetime = NOON + DAY, **job: str) -> BackfillCheckpoint:
    found = ops.begin_checkpoint(pg, **(JOB | job), window_start_ts=start, window_end_ts=end)
    assert found is not None
    return found


def advance(pg: psycopg.Connection, to: datetime) -> int:
    found = ops.checkpoint(pg, **JOB)
    return ops.advance_checkpoint(pg, **JOB, attempts=found.attempts if found else 1, fetched_through=to)


def now(pg: psycopg.Connection) -> BackfillCheckpoint:
    found = ops.checkpoint(pg, **JOB)
    assert found is not None
    return found


def test_a_backfill_begins_advances_and_succeeds(pg: psycopg.Connection) -> None:
    pg.autocommit = True
    assert ops.checkpoint(pg, **JOB) is None
    new = begin(pg)
    assert (new.status, new.attempts, new.fetched_through, new.last_success_ts) == ("running", 1, None, None)
    assert advance(pg, NOON + HOUR) == 1
    moved = now(pg)
    assert moved.fetched_through == NOON + HOUR
    assert moved.last_success_ts is not None
    assert moved.updated_at > new.updated_at
    assert ops.succeed_checkpoint(pg, **JOB, attempts=1) == 1
    done = now(pg)
    assert (done.status, done.fetched_through, done.error) == ("success", NOON + DAY, None)


def test_a_checkpoint_never_moves_backwards(pg: psycopg.Connection) -> None:
    begin(pg)
    for to in NOON + 2 * HOUR, NOON + HOUR, NOON:
        advance(pg, to)
    assert now(pg).fetched_through == NOON + 2 * HOUR


def test_a_checkpoint_that_was_never_begun_cannot_be_moved(pg: psycopg.Connection) -> None:
    assert advance(pg, NOON) == 0
    assert ops.succeed_checkpoint(pg, **JOB, attempts=1) == ops.fail_checkpoint(pg, **JOB, attempts=1, error="x") == 0
    assert ops.note_checkpoint(pg, **JOB, notes="x") == 0


def test_a_checkpoint_stays_inside_its_window(pg: psycopg.Connection) -> None:
    begin(pg)
    with pytest.raises(psycopg.errors.CheckViolation, match="backfill_checkpoints_fetched_through_check"):
        advance(pg, NOON + DAY + TICK)


def test_a_failure_keeps_what_was_fetched_and_a_new_attempt_forgets_the_error(pg: psycopg.Connection) -> None:
    begin(pg)
    advance(pg, NOON + HOUR)
    ops.fail_checkpoint(pg, **JOB, attempts=1, error="HTTP 500")
    failed = now(pg)
    assert (failed.status, failed.error, failed.fetched_through) == ("failed", "HTTP 500", NOON + HOUR)
    again = begin(pg)
    assert (again.status, again.error, again.attempts, again.fetched_through) == ("running", None, 2, NOON + HOUR)


@pytest.mark.parametrize("status", ["running", "failed"])
def test_an_attempt_that_fetched_nothing_is_begun_again_with_nothing_fetched(pg: psycopg.Connection, status: str) -> None:
    begin(pg)
    if status == "failed":
        ops.fail_checkpoint(pg, **JOB, attempts=1, error="HTTP 500")
    assert begin(pg).fetched_through is None
    assert begin(pg, end=NOON + 2 * DAY).fetched_through is None


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [
        pytest.param(NOON, NOON + 2 * DAY, NOON + 6 * HOUR, id="a later end keeps what was fetched"),
        pytest.param(NOON, NOON + 2 * HOUR, NOON + 2 * HOUR, id="an earlier end keeps what lies inside"),
        pytest.param(NOON + HOUR, NOON + DAY, NOON + 6 * HOUR, id="a later start keeps what lies inside"),
        pytest.param(NOON + 6 * HOUR, NOON + DAY, NOON + 6 * HOUR, id="a start where fetching stopped goes on there"),
        pytest.param(NOON + 7 * HOUR, NOON + DAY, None, id="a start beyond what was fetched begins anew"),
        pytest.param(NOON - HOUR, NOON + DAY, None, id="an earlier start begins anew"),
    ],
)
def test_another_window_keeps_what_was_fetched_of_it(
    pg: psycopg.Connection, start: datetime, end: datetime, kept: datetime
) -> None:
    begin(pg)
    advance(pg, NOON + 6 * HOUR)
    again = begin(pg, start, end)
    assert (again.window_start_ts, again.window_end_ts, again.fetched_through) == (start, end, kept)


def test_a_window_must_not_be_empty(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="backfill_checkpoints_window_check"):
        begin(pg, NOON, NOON)


def test_what_did_not_end_well_is_resumed_the_longest_untouched_first(pg: psycopg.Connection) -> None:
    pg.autocommit = True
    for event in "ABCD":
        begin(pg, event_ticker=event)
    begin(pg, job_name="another")
    ops.succeed_checkpoint(pg, **(JOB | {"event_ticker": "B"}), attempts=1)
    ops.fail_checkpoint(pg, **(JOB | {"event_ticker": "C"}), attempts=1, error="x")
    ops.advance_checkpoint(pg, **(JOB | {"event_ticker": "A"}), attempts=1, fetched_through=NOON)
    left = lambda: [row.event_ticker for row in ops.checkpoints_to_resume(pg, job_name=JOB["job_name"])]  # noqa: E731
    assert left() == ["C"], "A and D are at work"
    pg.execute("SELECT pg_advisory_unlock_all()")
    assert left() == ["D", "C", "A"]


def test_two_connections_never_own_one_checkpoint(database_url: str) -> None:
    connect = lambda: psycopg.connect(database_url, autocommit=True)  # noqa: E731
    window = {"window_start_ts": NOON, "window_end_ts": NOON + DAY}
    with connect() as second:
        first = connect()
        owned = begin(first)
        assert begin(first).attempts == 2, "the owner may begin anew"
        assert ops.begin_checkpoint(second, **JOB, **window) is None
        assert now(second).attempts == 2, "who does not get it changes nothing"
        assert ops.begin_checkpoint(second, **(JOB | {"event_ticker": "another"}), **window) is not None
        assert ops.succeed_checkpoint(first, **JOB, attempts=2) == 1
        taken = ops.begin_checkpoint(second, **JOB, **window)
        assert taken is not None, "given up, although the first connection lives"
        # The first one is late: what it notes is not its business any more.
        assert ops.advance_checkpoint(first, **JOB, attempts=owned.attempts, fetched_through=NOON + HOUR) == 0
        assert ops.fail_checkpoint(first, **JOB, attempts=2, error="x") == 0
        first.close()
        assert (now(second).status, now(second).attempts) == ("running", 3)
        assert ops.note_checkpoint(second, **JOB, notes="by hand") == 1
        assert now(second).notes == "by hand"


WORKER = """
import sys
from datetime import UTC, datetime, timedelta
import psycopg
from kalshidb.queries import ops
job = dict(job_name="j", series_ticker="S", event_ticker="E")
start = datetime(2026, 7, 1, tzinfo=UTC)
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    for _ in sys.stdin:
        owned = ops.begin_checkpoint(conn, **job, window_start_ts=start, window_end_ts=start + timedelta(days=1))
        if owned is None:
            print("refused", flush=True)
            continue
        hour = timedelta(hours=owned.attempts)
        ops.advance_checkpoint(conn, **job, attempts=owned.attempts, fetched_through=start + hour)
        print(owned.attempts, owned.fetched_through, flush=True)
"""


def test_of_two_processes_one_owns_a_checkpoint_and_the_other_takes_it_when_that_one_is_killed(database_url: str) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(worker: subprocess.Popen[str]) -> str:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("begin\n")
        worker.stdin.flush()
        return worker.stdout.readline().strip()

    with start() as first, start() as second:
        try:
            assert ask(first) == "1 None"
            assert [ask(second) for _ in range(3)] == ["refused"] * 3
            first.kill()
            first.wait()
            # The server notices that the process is gone as soon as the kernel has closed its socket.
            deadline = time.monotonic() + 10
            while (said := ask(second)) == "refused" and time.monotonic() < deadline:
                pass
            assert said == "2 2026-07-01 01:00:00+00:00", "what the killed one had fetched stays fetched"
        finally:
            first.kill()
            second.kill()


def run(pg: psycopg.Connection, source: str = "files") -> int:
    with pg.transaction():
        number = ops.begin_ingest_run(pg, source=source)
        assert ops.hold_ingest_run(pg, run_id=number)
    return number


def status(pg: psycopg.Connection, number: int) -> str:
    found = ops.ingest_run(pg, run_id=number)
    assert found is not None
    return found.status


def test_a_load_is_begun_counted_and_finished(pg: psycopg.Connection) -> None:
    number = run(pg)
    counts: dict[str, Any] = {"rows_read": 6, "rows_written": 3, "rows_unchanged": 2, "rows_rejected": 1}
    assert ops.progress_ingest_run(pg, run_id=number, **counts, rows_by_kind={"market": {"read": 6}}) == 1
    assert ops.finish_ingest_run(pg, run_id=number, status="rejected_some", error=None) == 1
    found = ops.ingest_run(pg, run_id=number)
    assert found is not None
    assert found.model_dump(include={*counts, "status", "rows_by_kind", "error"}) == counts | {
        "status": "rejected_some", "rows_by_kind": {"market": {"read": 6}}, "error": None,
    }  # fmt: skip
    assert found.finished_at is not None
    assert found.duration == found.finished_at - found.started_at >= timedelta(0)
    # What has ended stays as it ended.
    assert ops.progress_ingest_run(pg, run_id=number, **counts, rows_by_kind={}) == 0
    assert ops.finish_ingest_run(pg, run_id=number, status="failed", error="x") == 0


def test_a_load_ends_in_one_of_the_agreed_ways(pg: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ingest_runs_status_check"):
        ops.finish_ingest_run(pg, run_id=run(pg), status="finished", error=None)


def test_the_run_of_a_dead_connection_is_abandoned_and_a_living_one_is_not(database_url: str) -> None:
    connect = lambda: psycopg.connect(database_url, autocommit=True)  # noqa: E731
    with connect() as living, connect() as watcher:
        dying = connect()
        alive, dead = run(living), run(dying)
        done = run(watcher)
        ops.finish_ingest_run(watcher, run_id=done, status="succeeded", error=None)
        assert ops.abandon_dead_runs(watcher) == 0
        watcher.execute("SELECT pg_terminate_backend(%s, 5000)", [dying.info.backend_pid])
        dying.close()
        assert ops.abandon_dead_runs(watcher) == 1
        assert [status(watcher, number) for number in (alive, dead, done)] == ["running", "abandoned", "succeeded"]
        assert ops.abandon_dead_runs(watcher) == 0
        assert not ops.hold_ingest_run(watcher, run_id=alive), "the living one still holds its lock"
        assert ops.finish_ingest_run(living, run_id=alive, status="succeeded", error=None) == 1
        assert [row.run_id for row in ops.recent_ingest_runs(watcher, how_many=2)] == [done, dead]


def test_a_connection_does_not_abandon_its_own_run(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        number = run(connection)
        assert ops.abandon_dead_runs(connection) == 0
        assert status(connection, number) == "running"


def rejected(payload: bytes = b"{}", kind: str = "market", at: datetime = NOON, source: str = "a.json") -> RejectedPayloadInput:
    return RejectedPayloadInput(
        payload_sha256=hashlib.sha256(payload).hexdigest(), kind=kind, payload=payload, context={}, errors=[{"field": "status"}],
        source=source, last_seen_at=at,
    )  # fmt: skip


def open_rejects(pg: psycopg.Connection, **asked: Any) -> list[Any]:  # noqa: ANN401
    return ops.open_rejects(pg, **({"kind": None, "source_part": None, "sha256_prefix": None, "how_many": 100} | asked))


def test_a_payload_that_is_refused_again_is_counted_and_not_stored_again(pg: psycopg.Connection) -> None:
    ops.upsert_rejected_payloads(pg, [rejected(), rejected(at=NOON + HOUR, source="b.json"), rejected(b"\x00\xff", "file")])
    ops.upsert_rejected_payloads(pg, [rejected(at=NOON + DAY, source="c.json")])
    first, second = open_rejects(pg)
    assert (first.seen_count, first.first_seen_at, first.last_seen_at, first.source) == (3, NOON, NOON + DAY, "c.json")
    assert (second.seen_count, second.payload) == (1, b"\x00\xff")
    assert [(row.kind, row.open_count) for row in ops.count_open_rejects(pg)] == [("file", 1), ("market", 1)]


def test_the_last_refusal_is_the_last_whatever_comes_late(pg: psycopg.Connection) -> None:
    for at in NOON, NOON - DAY:
        ops.upsert_rejected_payloads(pg, [rejected(at=at)])
    (row,) = open_rejects(pg)
    assert (row.first_seen_at, row.last_seen_at, row.seen_count) == (NOON - DAY, NOON, 2)


def test_what_is_resolved_is_closed_until_it_is_refused_again(pg: psycopg.Connection) -> None:
    ops.upsert_rejected_payloads(pg, [rejected(), rejected(kind="event"), rejected(b"[]")])
    pairs = [(rejected().payload_sha256, "market"), (rejected().payload_sha256, "market"), ("0" * 64, "market")]
    resolve = {"payload_sha256s": [sha for sha, _ in pairs], "kinds": [kind for _, kind in pairs]}
    assert ops.resolve_rejects(pg, **resolve) == 1
    assert ops.resolve_rejects(pg, **resolve) == 0
    assert ops.resolve_rejects(pg, payload_sha256s=[], kinds=[]) == 0
    assert {(row.payload, row.kind) for row in open_rejects(pg)} == {(b"{}", "event"), (b"[]", "market")}
    assert len(ops.rejects_by_prefix(pg, sha256_prefix=rejected().payload_sha256[:12])) == 2
    ops.upsert_rejected_payloads(pg, [rejected()])
    assert len(open_rejects(pg)) == 3


def test_open_refusals_can_be_searched(pg: psycopg.Connection) -> None:
    ops.upsert_rejected_payloads(
        pg,
        [
            rejected(b"1", at=NOON),
            rejected(b"2", "event", at=NOON + HOUR),
            rejected(b"3", at=NOON + DAY, source="100%_sure.json"),
        ],
    )
    asked: dict[str, dict[str, Any]] = {
        "all": {},
        "kind": {"kind": "market"},
        "source": {"source_part": "%_s"},
        "sha": {"sha256_prefix": rejected(b"2").payload_sha256[:8]},
        "some": {"how_many": 1},
    }
    found = {name: [row.payload for row in open_rejects(pg, **filters)] for name, filters in asked.items()}
    assert found == {"all": [b"3", b"2", b"1"], "kind": [b"3", b"1"], "source": [b"3"], "sha": [b"2"], "some": [b"3"]}


async def test_checkpoints_and_refusals_work_asynchronously(apg: psycopg.AsyncConnection) -> None:
    begun = await ops.begin_checkpoint(apg, **JOB, window_start_ts=NOON, window_end_ts=NOON + DAY)
    assert begun is not None
    assert await ops.advance_checkpoint(apg, **JOB, attempts=begun.attempts, fetched_through=NOON + HOUR) == 1
    assert (await ops.checkpoint(apg, **JOB)).attempts == begun.attempts  # type: ignore[union-attr]
    assert (await ops.upsert_rejected_payloads(apg, [rejected()])).written == 1
    number = await ops.begin_ingest_run(apg, source="files")
    assert (await ops.ingest_run(apg, run_id=number)).status == "running"  # type: ignore[union-attr]
