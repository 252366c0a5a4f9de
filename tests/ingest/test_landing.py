"""A database that goes away and comes back costs nothing: what arrived meanwhile is stored as if it had been there."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from loading import DATA, NOON, Store, all_rows, differences, trade
from psycopg import sql

from kalshidb import postgres
from kalshidb.exchange.client import Answer, ExchangeClient, ExchangeError
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.ingest.arrivals import Arrival, Note, to_line
from kalshidb.ingest.intake import Intake
from kalshidb.ingest.landing import FIRST_WAIT, LONGEST_WAIT, NOTES, Landing, load_spool
from kalshidb.ingest.pull import take
from kalshidb.ingest.spool import Spool, SpoolError
from kalshidb.queries import ops

REFUSED = "postgresql:///nowhere?host=/no/such/socket"


@dataclass
class Outage:
    """Takes a database away, as a restart does, and gives it back; and how a landing reaches it."""

    url: str
    attempts: int = 0

    def admin(self, statement: str) -> None:
        with psycopg.connect(self.url, dbname="postgres", autocommit=True) as conn:
            name = psycopg.conninfo.conninfo_to_dict(self.url)["dbname"]
            conn.execute(sql.SQL(statement).format(name=sql.Identifier(str(name)), literal=sql.Literal(name)))  # type: ignore[arg-type]

    def away(self) -> None:
        self.admin("ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        self.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal}")

    def back(self) -> None:
        self.admin("ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    def connect(self) -> psycopg.Connection[Any]:
        self.attempts += 1
        return postgres.connect(self.url, autocommit=True)


@pytest.fixture
def outage(database_url: str) -> Iterator[Outage]:
    outage = Outage(database_url)
    yield outage
    outage.back()


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    """Answers of every kind that a collector asks for."""
    with SimulatedExchange(seed=5, markets=80) as exchange, ExchangeClient(exchange.base_url, limit=None) as client:
        found = [*client.series_list(), *client.events(), *client.markets(), *client.historical_markets()]
        active = [market.ticker for market in exchange.world.markets.values() if exchange.world.status(market) == "active"]
        found += [*client.orderbooks(active), *list(client.trades())[:3]]
    assert len(found) >= 8
    return found


def forget(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("SET LOCAL kalshidb.allow_purge = on")
        conn.execute(f"TRUNCATE {', '.join(DATA)}, ops.ingest_runs, ops.ingest_requests, ops.rejected_payloads CASCADE")  # type: ignore[arg-type]


def rows(url: str) -> dict[str, list[str]]:
    with psycopg.connect(url, options="-c timezone=UTC") as conn:
        return all_rows(conn)


def runs(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT source, status FROM ops.ingest_runs ORDER BY run_id").fetchall()


def ticking() -> Callable[[], float]:
    """A clock on which an hour passes between two looks."""
    hours = iter(range(0, 10**9, 3600))
    return lambda: float(next(hours))


@pytest.fixture
def undisturbed(database_url: str, answers: list[Answer]) -> dict[str, list[str]]:
    with postgres.connect(database_url, autocommit=True) as conn, Intake(conn, "undisturbed", origin="poll") as intake:
        for _ in take(intake, answers):
            pass
    found = rows(database_url)
    assert all(found[table] for table in ("catalog.markets", "market_data.orderbook_snapshots", "market_data.public_trades"))
    forget(database_url)
    return found


def test_a_database_that_goes_away_at_any_answer_and_comes_back_later_holds_the_same(
    outage: Outage, answers: list[Answer], undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    for gone_at in range(0, len(answers), 2):
        forget(outage.url)
        back_at = gone_at + gone_at % 3 + 1
        spool = Spool(tmp_path / "spool")
        with Landing(outage.connect, spool, "a walk", origin="poll", clock=ticking()) as landing:
            for number, _ in enumerate(take(landing, answers)):
                if number == gone_at:
                    outage.away()
                if number == back_at:
                    outage.back()
            outage.back()
        assert differences(undisturbed, rows(outage.url)) == {}, f"away at {gone_at}, back at {back_at}"
        assert spool.held().segments == 0
        if landing.spooled:
            assert ("spooled: a walk", "succeeded") in runs(outage.url)
        assert "running" not in dict(runs(outage.url)).values()


def test_a_database_that_is_away_all_the_time_gets_everything_from_the_spool(
    outage: Outage, answers: list[Answer], undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    outage.away()
    with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll") as landing:
        for _ in take(landing, answers):
            pass
        assert landing.ask(lambda conn: conn.info.dbname) is None
    assert landing.away is not None
    assert landing.spooled == len(answers)
    assert landing.report.run_id == 0
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) > 10_000
    outage.back()
    with outage.connect() as conn:
        assert load_spool(conn, Spool(tmp_path)) is True
    assert differences(undisturbed, rows(outage.url)) == {}
    assert runs(outage.url) == [("spooled: a walk", "succeeded")]


def test_a_segment_of_the_spool_can_also_be_loaded_as_a_file(
    store: Store, answers: list[Answer], undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    """By hand, without what the line knows of its request: it counts as loaded from a file."""
    lines = b"".join(
        to_line(Arrival(answer.url, answer.params, answer.status, answer.retrieved_at, answer.body), "a walk", "poll")
        for answer in answers
    )
    store.load(store.file("segment.jsonl", lines))
    found = store.rows()
    assert {table: len(each) for table, each in found.items()} == {table: len(each) for table, each in undisturbed.items()}


def test_a_run_that_lost_its_database_says_so_and_what_was_not_stored_by_it_is_by_the_next(
    outage: Outage, answers: list[Answer], tmp_path: Path
) -> None:
    with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll", clock=ticking()) as landing:
        for number, _ in enumerate(take(landing, answers)):
            if number == 2:
                outage.away()
            if number == 5:
                outage.back()
    with psycopg.connect(outage.url) as conn:
        lost, *_ = conn.execute("SELECT status, error FROM ops.ingest_runs ORDER BY run_id").fetchall()
    assert lost[0] == "failed"
    assert "the database went away (" in lost[1]
    assert [status for _, status in runs(outage.url)] == ["failed", "succeeded", "succeeded"]
    assert landing.was_away is not None
    assert landing.away is None


def test_nothing_newer_is_stored_before_what_was_spooled_earlier(outage: Outage, tmp_path: Path) -> None:
    """Also what another process spooled and died: the order in which rows arrive in the database is that of their arrival."""
    with Spool(tmp_path) as dead:
        dead.append([to_line(page(1), "a dead process", "poll")])
    outage.away()
    with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll", clock=ticking()) as landing:
        landing.arrive(page(2))
        outage.back()
        landing.arrive(page(3))
        landing.arrive(page(4))
    with psycopg.connect(outage.url) as conn:
        numbers = conn.execute("SELECT trade_id FROM market_data.public_trades ORDER BY ctid").fetchall()
    assert [int(str(number)[-2:]) for (number,) in numbers] == [1, 2, 3, 4]


def page(number: int, *, market: str = "KXRAIN-26NOV01-NY") -> Arrival:
    body = json.dumps({"trades": [trade(number, ticker=market)], "cursor": ""}).encode()
    return Arrival("http://exchange/markets/trades", {}, 200, NOON + timedelta(seconds=number), body)


def covered(until: str) -> dict[str, Any]:
    return {
        "market_tickers": ["KXRAIN-26NOV01-NY"],
        "kind": "trades",
        "period_interval_minutes": 0,
        "covered_from": "2026-11-01T00:00:00+00:00",
        "covered_until": until,
    }


def test_a_note_is_written_when_what_arrived_before_it_is_stored_also_by_way_of_the_spool(
    outage: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_then: list[int] = []

    def count(conn: psycopg.Connection[Any], run_id: int, said: Any) -> None:  # noqa: ANN401
        row = conn.execute("SELECT count(*) FROM market_data.public_trades").fetchone()
        assert row is not None
        stored_then.append(row[0])

    monkeypatch.setitem(NOTES, "count", count)
    durable: list[int] = []
    with Landing(
        outage.connect, Spool(tmp_path), "a walk", origin="websocket", on_durable=durable.append, clock=ticking()
    ) as landing:
        landing.arrive(page(1))
        landing.note("count", {})
        landing.note("coverage", covered("2026-11-01T10:00:00+00:00"))
        assert stored_then == []
        assert durable == []
        landing.flush()
        assert stored_then == [1]
        assert durable == [3]
        outage.away()
        landing.arrive(page(2))
        landing.note("count", {})
        landing.flush()
        assert durable[-1] == 5  # in the spool
        landing.arrive(page(3))
        landing.note("count", {})
        landing.note("coverage", covered("2026-11-01T11:00:00+00:00"))
        outage.back()
    assert stored_then == [1, 2, 3]
    with psycopg.connect(outage.url) as conn:
        assert conn.execute("SELECT upper(covered)::text FROM ops.coverage").fetchall()[0][0].startswith("2026-11-01 11:00")


def test_a_note_that_nobody_writes_is_an_error_at_once(outage: Outage, tmp_path: Path) -> None:
    with (
        Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll") as landing,
        pytest.raises(ValueError, match="nobody writes notes of 'secret'"),
    ):
        landing.note("secret", {})


def test_a_torn_line_is_kept_as_a_reject_and_so_is_a_note_of_another_version(store: Store, tmp_path: Path) -> None:
    whole = to_line(page(1), "a walk", "poll")
    torn = to_line(page(2), "a walk", "poll")[:200]
    strange = to_line(Note("unheard", {}), "a walk", "poll")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "1.jsonl").write_bytes(strange + whole + torn)
    assert load_spool(store.conn, Spool(tmp_path / "spool")) is True
    assert store.count("market_data.public_trades") == 1
    rejects = {reject.source: reject for reject in store.rejects()}
    assert rejects["1.jsonl:3"].payload == torn
    assert "not written to its end" in rejects["1.jsonl:3"].errors[0]["error"]
    assert rejects["1.jsonl:1"].payload == strange
    assert "KeyError: 'unheard'" in rejects["1.jsonl:1"].errors[0]["error"]
    assert list((tmp_path / "spool").glob("*.jsonl")) == []


def test_memory_is_bounded_while_the_database_is_away(tmp_path: Path) -> None:
    with Landing(lambda: postgres.connect(REFUSED, autocommit=True), Spool(tmp_path), "a walk", origin="poll") as landing:
        for number in range(200):
            landing.arrive(page(number))
            assert landing.unsaved == ()
    assert Spool(tmp_path).held().size > 200 * 100


def test_a_database_that_is_away_is_tried_again_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    now, tried = 0.0, []

    def refuse() -> psycopg.Connection[Any]:
        tried.append(now)
        raise psycopg.OperationalError("not today")

    with Landing(refuse, Spool(tmp_path), "a walk", origin="poll", clock=lambda: now, stop=lambda: True) as landing:
        for number in range(1200):
            now = number / 2
            landing.look()
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses[0] == FIRST_WAIT
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_WAIT
    assert len(tried) < 20


def test_what_can_neither_be_stored_nor_spooled_is_kept_for_the_next_landing(outage: Outage, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is where the folder should be")
    outage.away()
    landing = Landing(outage.connect, Spool(tmp_path / "spool"), "a walk", origin="poll")
    with pytest.raises(SpoolError, match=r"1 answers of \d+ bytes are kept in memory only"), landing:
        landing.arrive(page(1))
    assert len(landing.unsaved) == 1
    outage.back()
    with Landing(outage.connect, Spool(tmp_path / "other"), "a walk", origin="poll", backlog=landing.unsaved) as later:
        later.arrive(page(2))
    assert later.report.counts("trade").written == 2
    assert later.unsaved == ()


def test_a_landing_without_room_on_the_disk_goes_on_when_its_database_is_back(outage: Outage, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is where the folder should be")
    durable: list[int] = []
    with Landing(
        outage.connect, Spool(tmp_path / "spool"), "a walk", origin="poll", on_durable=durable.append, clock=ticking()
    ) as landing:
        outage.away()
        landing.arrive(page(1))
        with pytest.raises(SpoolError):
            landing.flush()
        for number in (2, 3):
            with pytest.raises(SpoolError):
                landing.arrive(page(number))
        assert durable == []
        outage.back()
        landing.arrive(page(4))
        assert durable == [4]
        assert landing.unsaved == ()
    assert len(rows(outage.url)["market_data.public_trades"]) == 4


def test_a_backlog_outlives_another_loss_on_the_way(outage: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").write_text("a file is where the folder should be")
    backlog = [page(number) for number in range(5)]
    take_in = Intake.arrive

    def lose(intake: Intake, arrival: Arrival, *rest: Any) -> None:  # noqa: ANN401
        if arrival == backlog[1]:
            outage.away()
            intake.flush()
        take_in(intake, arrival, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Intake, "arrive", lose)
        landing = Landing(outage.connect, Spool(tmp_path / "spool"), "a walk", origin="poll", backlog=backlog)
        with pytest.raises(SpoolError), landing:
            pass
    assert landing.unsaved == tuple(backlog)


def test_an_error_that_no_waiting_mends_is_raised_and_what_arrived_is_spooled(outage: Outage, tmp_path: Path) -> None:
    def walk() -> None:
        with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll") as landing:
            landing.arrive(page(1))
            with psycopg.connect(outage.url) as conn:
                conn.execute("ALTER TABLE market_data.public_trades RENAME TO gone")

    with pytest.raises(psycopg.ProgrammingError):
        walk()
    assert runs(outage.url) == [("a walk", "failed")]
    with psycopg.connect(outage.url) as conn:
        conn.execute("ALTER TABLE market_data.gone RENAME TO public_trades")
    with outage.connect() as conn:
        assert load_spool(conn, Spool(tmp_path)) is True
        assert len(rows(outage.url)["market_data.public_trades"]) == 1


def test_a_mistake_of_our_own_in_taking_something_in_loses_it_not_and_holds_up_nothing_behind_it(
    outage: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in = Intake.arrive

    def stumble(intake: Intake, arrival: Arrival, *rest: Any) -> None:  # noqa: ANN401
        if b"000000000002" in arrival.body:
            raise ZeroDivisionError("a mistake")
        take_in(intake, arrival, *rest)

    def walk() -> None:
        with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll") as landing:
            landing.arrive(page(1))
            landing.arrive(page(2))

    monkeypatch.setattr(Intake, "arrive", stumble)
    with pytest.raises(ZeroDivisionError):
        walk()
    with Landing(outage.connect, Spool(tmp_path), "the next", origin="poll") as landing:
        landing.arrive(page(3))
    assert len(rows(outage.url)["market_data.public_trades"]) == 2
    with psycopg.connect(outage.url) as conn:
        ((payload, errors),) = conn.execute("SELECT payload, errors FROM ops.rejected_payloads").fetchall()
    assert b"000000000002" in payload
    assert errors[0]["error"] == "it cannot be taken in: ZeroDivisionError: a mistake"


def test_a_server_that_becomes_read_only_takes_nothing_until_it_is_no_more(outage: Outage, tmp_path: Path) -> None:
    with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll", clock=ticking()) as landing:
        landing.arrive(page(1))
        landing.ask(lambda conn: conn.execute("SET default_transaction_read_only = on"))
        outage.admin("ALTER DATABASE {name} SET default_transaction_read_only = on")
        landing.flush()
        assert landing.away is not None
        assert "read-only" in landing.away
        landing.arrive(page(2))
        assert landing.spooled == 2
        outage.admin("ALTER DATABASE {name} RESET default_transaction_read_only")
        landing.arrive(page(3))
        assert landing.away is None
    assert len(rows(outage.url)["market_data.public_trades"]) == 3


def test_of_an_answer_that_is_written_in_parts_nothing_is_let_go_before_its_end(
    outage: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first rows fill a batch; the database goes away before the last are written."""
    monkeypatch.setattr("kalshidb.ingest.intake.BATCH_ROWS", 10)
    books = [
        {"ticker": f"KXRAIN-26NOV01-{number}", "orderbook_fp": {"yes_dollars": [], "no_dollars": []}} for number in range(25)
    ]
    body = json.dumps({"orderbooks": books}).encode()
    with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll", clock=ticking()) as landing:
        landing.arrive(Arrival("http://exchange/markets/orderbooks", {}, 200, NOON, body))
        outage.away()
        landing.arrive(page(1))
        landing.flush()
        outage.back()
    assert len(rows(outage.url)["market_data.orderbook_snapshots"]) == 25


def test_what_arrived_before_the_exchange_failed_is_stored_and_the_run_has_failed(outage: Outage, tmp_path: Path) -> None:
    def walk() -> None:
        with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll") as landing:
            landing.arrive(page(1))
            raise ExchangeError(500, "http_500", "no", "u")

    with pytest.raises(ExchangeError):
        walk()
    assert runs(outage.url) == [("a walk", "failed")]
    assert len(rows(outage.url)["market_data.public_trades"]) == 1


# Killed

SPOOLER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import psycopg
from kalshidb.ingest.arrivals import Arrival
from kalshidb.ingest.landing import Landing
from kalshidb.ingest.spool import Spool

def refuse():
    raise psycopg.OperationalError("away")

body = '{"trades": [{"trade_id": "00000000-0000-4000-8000-%012d", "ticker": "KXA-1", "created_time": "2026-11-01T10:00:00Z",'
body += '"count_fp": "1.00", "yes_price_dollars": "0.4100", "no_price_dollars": "0.5900", "taker_side": "yes"}]}'
report = lambda number: sys.stdout.write(f"{number}\\n") and sys.stdout.flush()
with Landing(refuse, Spool(Path(sys.argv[1]), segment_bytes=20_000), "killed", origin="poll", on_durable=report) as landing:
    for number in range(1, 1_000_000):
        landing.arrive(Arrival("u", {}, 200, datetime(2026, 11, 1, 12, tzinfo=UTC), (body % number).encode()))
"""

LOADER = """
import sys
from pathlib import Path
from kalshidb import postgres
from kalshidb.ingest.landing import load_spool
from kalshidb.ingest.spool import Spool

with postgres.connect(sys.argv[2], autocommit=True) as conn:
    print("begun", flush=True)
    load_spool(conn, Spool(Path(sys.argv[1])))
"""


def test_what_a_killed_process_was_told_is_safe_is_stored_although_the_loading_is_killed_too(
    store: Store, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", SPOOLER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 400:
                process.kill()
                break
        promised = max([400, *(int(line) for line in process.stdout if line.endswith("\n"))])
    spool = Spool(tmp_path)
    segments = spool.held().segments
    assert segments >= 5
    killed = 0
    for pause in (0.02, 0.05, 0.1):
        with subprocess.Popen([sys.executable, "-c", LOADER, str(tmp_path), store.url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(pause)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    left = spool.held().segments
    assert load_spool(store.conn, spool) is True
    assert killed >= 1
    assert left <= segments
    stored = {int(str(trade_id)[-12:]) for trade_id in store.column("SELECT trade_id FROM market_data.public_trades")}
    assert set(range(1, promised + 1)) <= stored


def test_two_that_load_the_same_spool_store_it_once(store: Store, tmp_path: Path) -> None:
    with Spool(tmp_path, segment_bytes=2000) as spool:
        for number in range(100):
            spool.append([to_line(page(number), "a walk", "poll")])
    loaders = [
        subprocess.Popen([sys.executable, "-c", LOADER, str(tmp_path), store.url], stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [loader.wait() for loader in loaders] == [0, 0]
    assert store.count("market_data.public_trades") == 100
    read = sum(store.column("SELECT rows_read FROM ops.ingest_runs WHERE source = 'spooled: a walk'"))
    assert read == 100


def test_requests_of_what_was_spooled_can_be_traced(outage: Outage, tmp_path: Path) -> None:
    outage.away()
    with Landing(outage.connect, Spool(tmp_path), "a walk", origin="poll") as landing:
        landing.arrive(page(1))
    outage.back()
    with outage.connect() as conn:
        load_spool(conn, Spool(tmp_path))
        (retrieved_at,) = conn.execute("SELECT retrieved_at FROM market_data.public_trades").fetchone() or (None,)
        (request,) = ops.requests_at(conn, retrieved_at=retrieved_at)
    assert (request.url, request.http_status, request.source) == ("http://exchange/markets/trades", 200, "spooled: a walk")
