"""The catalogue after a synchronisation is the exchange's, also of markets that closed, settled and moved to the other tier meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from loading import Store

from kalshidb.cli import app
from kalshidb.cli_ingest import exchange_client
from kalshidb.exchange.client import ExchangeClient, ExchangeError, RateLimit
from kalshidb.exchange.simulator import SimulatedExchange, World
from kalshidb.exchange.simulator.query import Query, RefusalError
from kalshidb.exchange.simulator.server import Exchange
from kalshidb.exchange.simulator.wire import Document
from kalshidb.exchange.simulator.world import DEFAULT_NOW, micros
from kalshidb.ingest.intake import Intake, Report
from kalshidb.ingest.sync import ASKED_ONE_BY_ONE, SyncError, SyncScope, sync_markets
from kalshidb.queries import catalog, ops
from kalshidb.settings import SettingsError

SETTLED = {"finalized"}


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=400) as exchange:
        yield exchange


def synced(store: Store, exchange: SimulatedExchange, scope: SyncScope | None = None) -> Report:
    with (
        ExchangeClient(exchange.base_url, limit=None) as client,
        Intake(store.conn, "sync-markets", origin="poll") as intake,
    ):
        sync_markets(client, intake, scope or SyncScope())
    return intake.report


def stored(store: Store, columns: str = "market_ticker") -> set[Any]:
    rows = store.conn.execute(f"SELECT {columns} FROM catalog.markets WHERE NOT is_stub").fetchall()  # noqa: S608
    return {row if len(row) > 1 else row[0] for row in rows}


def unsettled(world: World, *, combos: bool = False) -> set[str]:
    return {
        ticker
        for ticker, market in world.markets.items()
        if world.status(market) not in SETTLED and (combos or not market.is_combo) and not world.is_historical(market)
    }


def test_what_opened_and_settled_since_the_last_time_is_not_missed(store: Store) -> None:
    """On no list of unsettled markets was it ever: the store was made to forget it, as if the exchange had not had it yet."""
    now = datetime.now(UTC)
    with SimulatedExchange(seed=7, markets=120, now=now) as exchange:
        world = exchange.world
        synced(store, exchange)
        upcoming = [
            market
            for market in world.markets.values()
            if market.settled is not None
            and not market.is_combo
            and micros(now) < market.settled < micros(now + timedelta(days=1))
        ]
        missed = {market.ticker for market in upcoming if market.series_ticker == "KXSIMBTC15M"}
        assert missed
        with store.conn.transaction():
            store.conn.execute("SET LOCAL kalshidb.allow_purge = on")
            store.conn.execute("DELETE FROM catalog.markets WHERE market_ticker = ANY(%s)", [list(missed)])
        exchange.move_to(now + timedelta(days=1))
        synced(store, exchange)
        assert missed <= set(store.column("SELECT market_ticker FROM catalog.settlements"))
        assert store.count("catalog.events WHERE is_stub") == 0
        settled_before = {
            ticker for ticker, market in world.markets.items() if (market.settled or 0) < micros(now - timedelta(hours=2))
        }
        long_closed = {ticker for ticker in settled_before if world.markets[ticker].settled is not None}
        assert stored(store) & long_closed == set()  # what had settled before is asked for with --status settled
        assert synced(store, exchange).total.written == 0


@pytest.mark.parametrize("answers", ["ignores the filter", "does not know it"])
def test_an_exchange_without_the_filter_of_settlements_brings_nothing_else(store: Store, answers: str) -> None:
    def answer(self: Exchange, path: str, query: Query) -> Document:
        if answers == "does not know it" and query.text("min_settled_ts"):
            raise RefusalError(400, "unknown parameter")
        without = {name: value for name, value in query.values.items() if name != "min_settled_ts"}
        return honest(self, path, replace(query, values=without))

    honest = Exchange.answer
    with SimulatedExchange(seed=7, markets=120, now=datetime.now(UTC)) as exchange, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Exchange, "answer", answer)
        patch.setattr("kalshidb.ingest.sync.SETTLED_BEFORE", timedelta())
        synced(store, exchange)
        before = stored(store)
        synced(store, exchange)
        assert stored(store) == before


def test_everything_that_can_still_change_is_stored_with_its_place_and_its_version(
    store: Store, exchange: SimulatedExchange
) -> None:
    report = synced(store, exchange)
    world = exchange.world
    assert stored(store) == unsettled(world)
    assert report.total.rejected == 0
    assert stored(store, "market_ticker, event_ticker, series_ticker, status") == {
        (ticker, world.markets[ticker].event_ticker, world.markets[ticker].series_ticker, world.status(world.markets[ticker]))
        for ticker in unsettled(world)
    }
    assert {ticker for (ticker,) in store.conn.execute("SELECT series_ticker FROM catalog.series").fetchall()} == set(
        world.series
    )
    stubs = store.conn.execute("SELECT count(*) FROM catalog.events WHERE is_stub").fetchone()
    assert stubs == (0,)
    without_version = store.conn.execute("SELECT count(*) FROM catalog.current_markets WHERE valid_from IS NULL").fetchone()
    assert without_version == (0,)


def test_a_second_time_changes_nothing_in_the_catalogue(store: Store, exchange: SimulatedExchange) -> None:
    synced(store, exchange)
    report = synced(store, exchange)
    for kind in ("series", "event", "market", "market_version", "settlement"):
        assert report.counts(kind).written == 0, kind


def test_combos_come_when_asked_for(store: Store, exchange: SimulatedExchange) -> None:
    combos = unsettled(exchange.world, combos=True) - unsettled(exchange.world)
    assert combos
    synced(store, exchange)
    assert not combos & stored(store)
    synced(store, exchange, SyncScope(with_combos=True))
    assert combos <= stored(store)
    events = store.conn.execute("SELECT event_ticker, series_ticker FROM catalog.events WHERE NOT is_stub").fetchall()
    assert {(event.ticker, event.series_ticker) for event in exchange.world.combos.values()} <= set(events)
    assert catalog.stubs(store.conn) == []
    exchange.requests.clear()
    synced(store, exchange, SyncScope(with_combos=True))
    assert not [served for served in exchange.requests if served.path.endswith("/multivariate")]  # none is lacking


@pytest.mark.parametrize("one_by_one", [0, ASKED_ONE_BY_ONE])
def test_combos_of_a_category_come_with_their_events(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, one_by_one: int
) -> None:
    monkeypatch.setattr("kalshidb.ingest.sync.ASKED_ONE_BY_ONE", one_by_one)
    synced(store, exchange, SyncScope(categories=("Exotics",), with_combos=True))
    assert stored(store) == unsettled(exchange.world, combos=True) - unsettled(exchange.world)
    assert store.conn.execute("SELECT event_ticker FROM catalog.events").fetchall() == [
        (event,) for event in sorted(exchange.world.combos)
    ]


def test_one_series_is_asked_for_alone(store: Store, exchange: SimulatedExchange) -> None:
    world = exchange.world
    some = next(world.markets[ticker].series_ticker for ticker in sorted(unsettled(world)))
    exchange.requests.clear()
    synced(store, exchange, SyncScope(series=(some,)))
    assert stored(store) == {ticker for ticker in unsettled(world) if world.markets[ticker].series_ticker == some}
    assert store.conn.execute("SELECT series_ticker, is_stub FROM catalog.series").fetchall() == [(some, False)]


@pytest.mark.parametrize("one_by_one", [0, ASKED_ONE_BY_ONE])
def test_a_category_is_the_same_picked_out_of_all_or_asked_for_by_series(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, one_by_one: int
) -> None:
    monkeypatch.setattr("kalshidb.ingest.sync.ASKED_ONE_BY_ONE", one_by_one)
    world = exchange.world
    categories = {world.series[market.series_ticker].category for market in world.markets.values() if not market.is_combo}
    category = sorted(categories)[0]
    synced(store, exchange, SyncScope(categories=(category,)))
    expected = {ticker for ticker in unsettled(world) if world.series[world.markets[ticker].series_ticker].category == category}
    assert expected
    assert stored(store) == expected


def test_what_settled_meanwhile_gets_its_result_whichever_tier_it_is_in(store: Store) -> None:
    with SimulatedExchange(seed=7, markets=400) as exchange:
        world = exchange.world
        synced(store, exchange)
        then = stored(store)
        # Much later: what was open has settled, and most of it lies in the historical tier, which no list of open markets names.
        exchange.move_to(DEFAULT_NOW + timedelta(days=90))
        synced(store, exchange)
        moved = {ticker for ticker in then if world.is_historical(world.markets[ticker])}
        settled = {ticker for ticker in then if world.status(world.markets[ticker]) == "finalized"} - moved
        truth = {(ticker, world.status(world.markets[ticker])) for ticker in then}
    assert len(moved) > 10
    assert settled
    assert truth <= stored(store, "market_ticker, status")
    outcomes = dict(store.conn.execute("SELECT market_ticker, outcome FROM catalog.final_settlements").fetchall())
    assert {ticker: outcomes.get(ticker) for ticker in moved | settled} == {
        ticker: world.result(world.markets[ticker]) for ticker in moved | settled
    }


def test_settlements_of_every_kind_are_recorded(store: Store, exchange: SimulatedExchange) -> None:
    synced(store, exchange, SyncScope(statuses=("settled",), historical=True))
    outcomes = {outcome for (outcome,) in store.conn.execute("SELECT DISTINCT outcome FROM catalog.settlements").fetchall()}
    assert {"yes", "no"} <= outcomes
    unpaid = store.conn.execute(
        "SELECT count(*) FROM catalog.markets LEFT JOIN catalog.final_settlements USING (market_ticker)"
        " WHERE markets.status = 'finalized' AND final_settlements.market_ticker IS NULL AND markets.result IS NOT NULL"
    ).fetchone()
    assert unpaid == (0,)


def test_a_list_that_is_cut_short_is_no_success(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kalshidb.exchange.questions.PAGE_SIZE", 5)
    report = synced(store, exchange, SyncScope(max_pages=2, statuses=("open",)))
    assert report.cut is not None
    assert report.cut.startswith("/markets status=open")
    assert report.cut.endswith("stopped after 2 pages, there are more")
    (run,) = ops.recent_ingest_runs(store.conn, how_many=1)
    assert (run.status, run.error) == ("truncated", report.cut)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (SyncScope(series=("KXNOSUCH",)), "no series 'KXNOSUCH'"),
        (SyncScope(categories=("No such",)), "no series of category 'No such'"),
    ],
)
def test_what_does_not_exist_is_named(store: Store, exchange: SimulatedExchange, scope: SyncScope, message: str) -> None:
    with pytest.raises(SyncError, match=message):
        synced(store, exchange, scope)


@pytest.mark.parametrize(("series", "categories"), [(("",), ()), ((), ("Sports", ""))])
def test_an_empty_choice_is_refused(series: tuple[str, ...], categories: tuple[str, ...]) -> None:
    with pytest.raises(SyncError, match="an empty text"):
        SyncScope(series, categories)


def test_a_status_that_does_not_exist_is_named() -> None:
    with pytest.raises(SyncError, match="no status 'active'; there are open, unopened, paused, closed, settled"):
        SyncScope(statuses=("active",))


def test_an_exchange_that_fails_in_the_middle_leaves_what_came_and_a_failed_run(
    store: Store, exchange: SimulatedExchange
) -> None:
    def fail_at_markets(step: str) -> None:
        if step == "markets":
            exchange.fail(500)

    def sync_against_failures() -> None:
        with (
            ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client,
            Intake(store.conn, "sync-markets", origin="poll") as intake,
        ):
            sync_markets(client, intake, SyncScope(), on_step=fail_at_markets)

    with pytest.raises(ExchangeError, match="500"):
        sync_against_failures()
    (run,) = ops.recent_ingest_runs(store.conn, how_many=1)
    assert run.status == "failed"
    assert "500" in (run.error or "")
    synced(store, exchange)
    assert stored(store) == unsettled(exchange.world)


def test_the_command_asks_the_exchange_of_the_settings(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", store.url)
    monkeypatch.setenv("KALSHI_API_URL", exchange.base_url)
    series = sorted(exchange.world.markets[ticker].series_ticker for ticker in unsettled(exchange.world))[0]
    with pytest.raises(SystemExit) as ended:
        app(["sync-markets", "--series", series, "--full-speed", "--json"])
    assert ended.value.code in (0, None)
    report = json.loads(capfd.readouterr().out)
    assert report["cut"] is None
    assert report["kinds"]["market"]["written"] == len(stored(store)) > 0


def test_control_c_does_not_wait_for_an_exchange_that_says_nothing(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/trade-api/v2"
        asking = subprocess.Popen(
            [sys.executable, "-m", "kalshidb", "sync-markets", "--full-speed"],
            env={**os.environ, "DATABASE_URL": store.url, "KALSHI_API_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1000)
                asking.send_signal(signal.SIGINT)
                _, err = asking.communicate(timeout=5)
        finally:
            asking.kill()
    assert asking.returncode != 0
    assert "Traceback" not in err
    (run,) = ops.recent_ingest_runs(store.conn, how_many=1)
    assert run.status == "failed"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"KALSHI_API_KEY_ID": "a"}, "belong together"),
        ({"KALSHI_API_TIER": "basic"}, "is the tier of an API key"),
        ({"KALSHI_API_URL": "example.com/trade-api/v2"}, "KALSHI_API_URL.*not an address: write https://host/path"),
        ({"KALSHI_API_URL": "https://["}, "KALSHI_API_URL.*not a well-formed address"),
        ({"KALSHI_API_URL": "https://host:port/x"}, "KALSHI_API_URL.*not a well-formed address"),
        ({"KALSHI_API_URL": "https://exa mple/x"}, "KALSHI_API_URL.*not an address"),
        ({"KALSHI_API_URL": "https://user:hidden@host/x"}, "KALSHI_API_URL.*without user, password"),
        ({"KALSHI_API_URL": "https://host/x?token=hidden"}, "KALSHI_API_URL.*without user, password"),
        ({"KALSHI_WEBSOCKET_URL": "https://host/x"}, "KALSHI_WEBSOCKET_URL.*write wss://host/path"),
        ({"KALSHI_API_KEY_ID": "hid\nden"}, "KALSHI_API_KEY_ID.*characters that no id has"),
        ({"KALSHI_API_KEY_ID": "hiddén"}, "KALSHI_API_KEY_ID.*characters that no id has"),
        ({"KALSHI_API_KEY_ID": "a", "KALSHI_PRIVATE_KEY_FILE": "/no/such/file"}, "/no/such/file cannot be read"),
    ],
)
def test_settings_of_the_exchange_that_make_no_sense_are_named(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message) as refused, exchange_client():
        pass
    assert "hid" not in str(refused.value)


def test_a_key_brings_its_tiers_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, pkcs8, no_password = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(pem, pkcs8, no_password))
    monkeypatch.setenv("KALSHI_API_KEY_ID", "a")
    monkeypatch.setenv("KALSHI_PRIVATE_KEY_FILE", str(file))
    monkeypatch.setenv("KALSHI_API_TIER", "expert")
    with exchange_client() as client:
        assert client.limit == RateLimit(60, 120)
    monkeypatch.setenv("KALSHI_API_TIER", "gold")
    with pytest.raises(SettingsError, match="KALSHI_API_TIER: no tier 'gold'"), exchange_client():
        pass
