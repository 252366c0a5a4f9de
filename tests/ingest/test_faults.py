"""What arrives through faults: the same rows as undisturbed, at once or by the next run, and nothing called covered that is not stored."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from loading import Store, all_rows
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.multirange import TimestamptzMultirange
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from kalshidb import postgres
from kalshidb.exchange.client import ExchangeClient, ExchangeError
from kalshidb.exchange.recognise import Item, parse
from kalshidb.exchange.simulator import FaultSettings, SimulatedExchange
from kalshidb.exchange.simulator.faults import NAMES, Fault
from kalshidb.exchange.simulator.world import DEFAULT_NOW, SECOND
from kalshidb.ingest.backfill import BackfillScope, Outcome, backfill
from kalshidb.ingest.intake import Intake
from kalshidb.ingest.sync import STATUSES, SyncScope, sync_markets
from kalshidb.queries import ops

RATE = 0.2
EVERY: tuple[Fault, ...] = (429, 500, 502, 503, *(name for name in NAMES if name != "wrong_field"))
PASSING: frozenset[Fault] = frozenset(EVERY) - {"ignored_filter"}  # what is tried again, or does no harm
RARE: dict[Fault, float] = {"storm": 0.02}
EVERYTHING = SyncScope(statuses=STATUSES, historical=True, with_combos=True)
END = DEFAULT_NOW - timedelta(days=2)
HOURS = BackfillScope("candlesticks", DEFAULT_NOW - timedelta(days=75), END, 60)
TAPE = BackfillScope("trades", DEFAULT_NOW - timedelta(days=75), END)
WHEN = (
    "created_at",
    "updated_at",
    "retrieved_at",
    "snapshot_time",
    "valid_from",
    "valid_to",
    "seen_again",
)  # of one walk or of another

Contents = dict[str, set[str]]
Databases = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=90) as exchange:
        yield exchange


@pytest.fixture
def exchange(running: SimulatedExchange) -> Iterator[SimulatedExchange]:
    running.faults.given.clear()
    yield running
    running.faults.set(FaultSettings())
    running.era = "current"


def hasty(exchange: SimulatedExchange) -> ExchangeClient:
    return ExchangeClient(exchange.base_url, limit=None, max_retries=40, sleep=lambda _: None)


def synced(store: Store, exchange: SimulatedExchange, scope: SyncScope = EVERYTHING) -> None:
    with hasty(exchange) as client, Intake(store.conn, "sync", origin="poll") as intake:
        sync_markets(client, intake, scope)


def connecting(store: Store) -> Callable[[], psycopg.Connection[Any]]:
    return lambda: postgres.connect(store.url, autocommit=True)


def filled(store: Store, exchange: SimulatedExchange, scope: BackfillScope, **options: Any) -> Outcome:  # noqa: ANN401
    with hasty(exchange) as client:
        return backfill(client, connecting(store), scope, now=lambda: exchange.present, **options)


def contents(store: Store) -> Contents:
    """What is stored, without when it was seen and how often."""
    return {table: set(rows) for table, rows in all_rows(store.conn, without=WHEN).items()}


def difference(left: Contents, right: Contents) -> dict[str, tuple[list[str], list[str]]]:
    return {
        table: (sorted(rows - right[table])[:3], sorted(right[table] - rows)[:3])
        for table, rows in left.items()
        if rows != right[table]
    }


def keys(found: Contents) -> dict[str, int]:
    return {table: len(rows) for table, rows in found.items()}


def unkept_promises(store: Store, exchange: SimulatedExchange) -> list[Any]:
    """What lies in spans that are called covered and is not stored."""
    claims: dict[tuple[str, str, int], TimestamptzMultirange] = {
        (ticker, kind, minutes): covered
        for ticker, kind, minutes, covered in store.conn.execute(
            "SELECT market_ticker, kind, period_interval_minutes, covered FROM ops.coverage"
        )
    }
    world = exchange.world
    candles = set(
        store.conn.execute("SELECT market_ticker, end_period_ts, period_interval_minutes FROM market_data.candlesticks")
    )
    trades = set(store.column("SELECT trade_id::text FROM market_data.public_trades"))
    broken: list[Any] = []
    for (ticker, kind, minutes), covered in claims.items():
        for name in [ticker] if ticker else world.markets:
            things = world.candles(name, minutes) if kind == "candlesticks" else world.trades(name)
            for thing in things:
                micros = thing.end * SECOND if kind == "candlesticks" else thing.time  # type: ignore[union-attr]
                moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
                held = (name, moment, minutes) in candles if kind == "candlesticks" else thing.trade_id in trades  # type: ignore[union-attr]
                if not held and any(moment in span for span in covered):
                    broken.append((name, kind, moment))
    return broken


def runs(store: Store) -> list[str]:
    return [f"{run.status}: {run.error}" for run in ops.recent_ingest_runs(store.conn, how_many=50)]


@pytest.fixture(scope="module")
def databases(postgresql_noproc: NoopExecutor) -> Databases:
    """Makes a database of a template's, by default of the migrated schema."""
    server = postgresql_noproc
    numbers = count()

    @contextmanager
    def database(template: str = server.template_dbname) -> Iterator[str]:
        name = f"{server.dbname}_faults_{next(numbers)}"
        where = {"user": server.user, "host": server.host, "port": server.port}
        with DatabaseJanitor(**where, dbname=name, template_dbname=template):
            yield f"postgresql://{server.user}@/{name}?host={quote(server.host, safe='')}&port={server.port}"

    return database


@dataclass
class Undisturbed:
    """What a store holds that nobody disturbed: after a synchronisation, and after each backfill too."""

    catalogue: Contents
    name: str
    history: dict[str, Contents]


@pytest.fixture(scope="module")
def undisturbed(
    running: SimulatedExchange, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with databases() as template:
        with opened(template, folder) as store:
            synced(store, running)
            catalogue = contents(store)
        name = conninfo_to_dict(template)["dbname"]
        history = {}
        for what, scopes in {"candlesticks": (HOURS,), "trades": (TAPE,), "both": (HOURS, TAPE)}.items():
            with databases(str(name)) as url, opened(url, folder) as store:
                for scope in scopes:
                    filled(store, running, scope)
                history[what] = contents(store)
        yield Undisturbed(catalogue, str(name), history)


@pytest.fixture
def catalogued(undisturbed: Undisturbed, databases: Databases, tmp_path: Path) -> Iterator[Store]:
    """A store that has the whole catalogue."""
    with databases(undisturbed.name) as url, opened(url, tmp_path) as store:
        yield store


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Store]:
    with postgres.connect(url, autocommit=True) as conn:
        yield Store(url, conn, folder)


@pytest.mark.parametrize("fault", EVERY)
def test_the_catalogue_is_the_same_through_every_fault(
    store: Store, exchange: SimulatedExchange, undisturbed: Undisturbed, fault: Fault
) -> None:
    whole = undisturbed.catalogue
    exchange.faults.set(FaultSettings(1, {fault: RARE.get(fault, RATE)}))
    exchange.fail(fault)
    failure = None
    try:
        synced(store, exchange)
    except ExchangeError as error:
        failure = error
    assert exchange.faults.given[fault if fault != "storm" else 429] >= 1
    if fault in PASSING:
        assert failure is None
    if failure is not None:
        assert runs(store)[0].startswith("failed: ")
        exchange.faults.set(FaultSettings())
        synced(store, exchange)
    found = contents(store)
    if fault == "other_era":  # it writes the same with less precision
        assert keys(found)["catalog.markets"] == keys(whole)["catalog.markets"]
    else:
        assert difference(found, whole) == {}
    assert store.rejects() == []


@pytest.mark.parametrize("fault", EVERY)
@pytest.mark.parametrize("scope", [HOURS, TAPE], ids=["candles", "trades"])
def test_history_is_the_same_through_every_fault(
    catalogued: Store, exchange: SimulatedExchange, undisturbed: Undisturbed, fault: Fault, scope: BackfillScope
) -> None:
    store, whole = catalogued, undisturbed.history[scope.kind]
    filled_by = {"candlesticks": "market_data.candlesticks", "trades": "market_data.public_trades"}[scope.kind]
    assert len(whole[filled_by]) > 300
    exchange.faults.set(FaultSettings(2, {fault: RARE.get(fault, RATE)}))
    exchange.fail(fault)
    failed = False
    try:
        outcome = filled(store, exchange, scope, workers=2)
    except ExchangeError:
        failed = True
    else:
        failed = bool(outcome.failed or outcome.unknown)
    assert unkept_promises(store, exchange) == []
    if fault in PASSING:
        assert not failed
    exchange.faults.set(FaultSettings())
    if failed:
        filled(store, exchange, scope)
    found = contents(store)
    if fault == "other_era":
        assert keys(found)[filled_by] == keys(whole)[filled_by]
    else:
        assert difference(found, whole) == {}
    assert store.rejects() == []
    exchange.requests.clear()
    filled(store, exchange, scope)
    assert exchange.requests == []  # nothing is missing any more


def test_all_faults_together_end_with_the_same_rows(store: Store, exchange: SimulatedExchange, undisturbed: Undisturbed) -> None:
    whole = undisturbed.history["both"]
    precise: list[Fault] = [fault for fault in EVERY if fault != "other_era"]
    exchange.faults.set(FaultSettings(3, {fault: 0.5 / len(precise) for fault in precise}))
    for _ in range(8):
        with suppress(ExchangeError):
            synced(store, exchange)
            filled(store, exchange, HOURS, workers=2)
            filled(store, exchange, TAPE)
        assert unkept_promises(store, exchange) == []
    exchange.faults.set(FaultSettings())
    synced(store, exchange)
    filled(store, exchange, HOURS)
    filled(store, exchange, TAPE)
    assert difference(contents(store), whole) == {}


def test_a_promise_that_is_not_kept_is_noticed(catalogued: Store, exchange: SimulatedExchange) -> None:
    filled(catalogued, exchange, HOURS)
    filled(catalogued, exchange, TAPE)
    assert unkept_promises(catalogued, exchange) == []
    for statement in (
        "DELETE FROM market_data.candlesticks WHERE (market_ticker, end_period_ts) IN"
        " (SELECT market_ticker, end_period_ts FROM market_data.candlesticks LIMIT 1)",
        "DELETE FROM market_data.public_trades WHERE trade_id = (SELECT trade_id FROM market_data.public_trades LIMIT 1)",
    ):
        catalogued.conn.execute(statement.encode())
    assert sorted(kind for _, kind, _ in unkept_promises(catalogued, exchange)) == ["candlesticks", "trades"]


def test_a_category_that_the_exchange_ignores_is_an_error_and_not_everything(store: Store, exchange: SimulatedExchange) -> None:
    category = sorted({series.category for series in exchange.world.series.values()})[0]
    exchange.fail("ignored_filter")
    with pytest.raises(ExchangeError, match=f"filter_ignored: asked for category {category}"):
        synced(store, exchange, SyncScope(categories=(category,)))


# What changes on the way.


@pytest.fixture
def moving(catalogued: Store) -> Iterator[SimulatedExchange]:
    """An exchange of the test's own, whose time may pass; the same that the catalogue came from."""
    with SimulatedExchange(seed=7, markets=90) as exchange:
        yield exchange


def missing_candles(store: Store, exchange: SimulatedExchange, scope: BackfillScope) -> list[Any]:
    stored = set(store.conn.execute("SELECT market_ticker, end_period_ts FROM market_data.candlesticks"))
    return [
        (ticker, candle.end)
        for ticker in exchange.world.markets
        for candle in exchange.world.candles(ticker, scope.period_minutes)
        if scope.start.timestamp() <= candle.end < scope.end.timestamp()
        and (ticker, datetime.fromtimestamp(candle.end, UTC)) not in stored
    ]


def missing_trades(store: Store, exchange: SimulatedExchange, scope: BackfillScope) -> list[str]:
    stored = set(store.column("SELECT trade_id::text FROM market_data.public_trades"))
    return [
        trade.trade_id
        for trade in exchange.world.all_trades
        if scope.start.timestamp() <= trade.time / SECOND < scope.end.timestamp() and trade.trade_id not in stored
    ]


@pytest.mark.parametrize("requests", [1, 3])
def test_markets_that_become_history_between_two_questions_lose_no_candlestick(
    catalogued: Store, moving: SimulatedExchange, requests: int
) -> None:
    begun = moving.present
    moving.after(requests, lambda: moving.move_to(begun + timedelta(days=65)))
    with hasty(moving) as client:
        outcome = backfill(client, connecting(catalogued), HOURS, now=lambda: begun)
    assert (outcome.failed, outcome.unknown) == ({}, set())
    assert moving.present > begun
    assert missing_candles(catalogued, moving, HOURS) == []


@pytest.mark.parametrize("days", [1, 40])
@pytest.mark.parametrize("requests", [1, 3])
def test_trades_that_become_history_between_two_pages_are_not_lost(
    catalogued: Store, moving: SimulatedExchange, requests: int, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kalshidb.exchange.questions.PAGE_SIZE", 50)
    border = datetime.fromtimestamp(moving.world.cutoff / SECOND, UTC)
    scope = BackfillScope("trades", border - timedelta(hours=30), border + timedelta(days=days + 3))
    begun = moving.present
    moving.after(requests, lambda: moving.move_to(begun + timedelta(days=days)))
    with hasty(moving) as client:
        outcome = backfill(client, connecting(catalogued), scope, now=lambda: begun)
    assert outcome.failed == {}
    assert moving.present > begun
    assert missing_trades(catalogued, moving, scope) == []


@pytest.mark.parametrize("scope", [HOURS, TAPE], ids=["candles", "trades"])
def test_our_clock_may_be_ahead_of_the_exchanges_what_has_yet_to_happen_there_is_not_called_covered(
    catalogued: Store, moving: SimulatedExchange, scope: BackfillScope
) -> None:
    ahead = timedelta(hours=30)
    scope = replace(scope, start=moving.present - timedelta(days=2), end=moving.present + timedelta(days=3))
    now = moving.present + ahead
    for passes in (timedelta(), timedelta(hours=7), ahead):
        moving.move_to(now - ahead + passes)
        with hasty(moving) as client:
            assert backfill(client, connecting(catalogued), scope, now=lambda: now + passes).failed == {}  # noqa: B023
        assert unkept_promises(catalogued, moving) == []
        unfinished = catalogued.value("SELECT count(*) FROM market_data.candlesticks WHERE end_period_ts > %s", moving.present)
        assert unfinished == 0
    over = replace(scope, end=moving.present - timedelta(minutes=2))
    assert (missing_candles if scope.kind == "candlesticks" else missing_trades)(catalogued, moving, over) == []


@pytest.mark.parametrize("scope", [HOURS, TAPE], ids=["candles", "trades"])
def test_the_wire_format_may_change_between_two_pages(
    catalogued: Store, exchange: SimulatedExchange, scope: BackfillScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kalshidb.exchange.questions.PAGE_SIZE", 300)
    for requests, era in ((2, "cents"), (4, "transition"), (6, "current"), (8, "cents")):
        exchange.after(requests, partial(setattr, exchange, "era", era))
    assert filled(catalogued, exchange, scope).failed == {}
    missing = missing_candles if scope.kind == "candlesticks" else missing_trades
    assert (missing(catalogued, exchange, scope), catalogued.rejects()) == ([], [])


# What is refused.


def mended(item: Item) -> Any:  # noqa: ANN401  (a model of the exchange's objects)
    """What a later version would read that knows the exchange's new words."""
    news = {"status": "active", "yes_bid": None, "yes_price_dollars": None, "title": "a number"}
    payload = {
        name: news[name] if name in news and value in (5, "nobody", "much") else value for name, value in item.payload.items()
    }
    if payload.get("no_price_dollars") and payload.get("yes_price_dollars") is None and "trade_id" in payload:
        payload["yes_price_dollars"] = str(1 - Decimal(payload["no_price_dollars"]))
        payload.pop("yes_price", None)
    return parse(replace(item, payload=payload))


@pytest.mark.parametrize("scope", [HOURS, TAPE], ids=["candles", "trades"])
def test_a_row_that_is_refused_in_a_window_is_kept_the_window_is_covered_and_an_upgrade_stores_it(
    catalogued: Store,
    exchange: SimulatedExchange,
    undisturbed: Undisturbed,
    scope: BackfillScope,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, whole = catalogued, undisturbed.history[scope.kind]
    table = {"candlesticks": "market_data.candlesticks", "trades": "market_data.public_trades"}[scope.kind]
    exchange.after(1, lambda: exchange.fail("wrong_field", "wrong_field", "wrong_field"))
    filled(store, exchange, scope)
    rejects = store.rejects()
    assert 0 < len(rejects) <= 3
    assert {reject.kind for reject in rejects} == {scope.kind.removesuffix("s")}
    assert len(contents(store)[table]) == len(whole[table]) - len(rejects)
    assert runs(store)[0].startswith("rejected_some")
    exchange.requests.clear()
    filled(store, exchange, scope)
    assert exchange.requests == []  # what was refused is in the house
    assert store.retry().resolved == 0
    monkeypatch.setattr("kalshidb.ingest.intake.parse", mended)
    assert store.retry().resolved == len(rejects)
    assert store.rejects() == []
    assert len(contents(store)[table]) == len(whole[table])


def test_a_market_that_is_refused_in_a_poll_is_kept_and_an_upgrade_stores_it_as_of_then(
    store: Store, exchange: SimulatedExchange, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confuse(step: str) -> None:
        if step == "markets":
            exchange.fail("wrong_field")

    with hasty(exchange) as client, Intake(store.conn, "sync", origin="poll") as intake:
        sync_markets(client, intake, SyncScope(statuses=("open",)), on_step=confuse)
    (reject,) = store.rejects()
    ticker = reject.context["market_ticker"] or json.loads(reject.payload)["ticker"]
    assert store.value("SELECT count(*) FROM catalog.markets WHERE market_ticker = %s AND NOT is_stub", ticker) == 0
    # The next poll finds it right, which leaves the refused observation open: it was another, of an earlier moment.
    synced(store, exchange, SyncScope(statuses=("open",)))
    assert [open_one.payload_sha256 for open_one in store.rejects()] == [reject.payload_sha256]
    polled = store.value("SELECT max(retrieved_at) FROM catalog.markets WHERE market_ticker = %s", ticker)
    monkeypatch.setattr("kalshidb.ingest.intake.parse", mended)
    assert store.retry().resolved == 1
    assert store.value("SELECT max(retrieved_at) FROM catalog.markets WHERE market_ticker = %s", ticker) == polled
    assert store.value("SELECT min(valid_from) FROM catalog.market_versions WHERE market_ticker = %s", ticker) < polled
