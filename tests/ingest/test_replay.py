"""Recorded answers served over HTTP: `sync-markets` and `backfill` store everything that was recorded, of every era."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import simplejson
from loading import Store, all_rows, market
from replay import NOT_FOUND, Query, Recording, Replay, replaying

from kalshidb import postgres
from kalshidb.cli import app
from kalshidb.exchange.client import ExchangeClient
from kalshidb.exchange.simulator import Era, SimulatedExchange
from kalshidb.exchange.simulator.world import DEFAULT_NOW
from kalshidb.ingest.backfill import BackfillScope, Outcome, backfill
from kalshidb.ingest.intake import Intake
from kalshidb.ingest.sync import STATUSES, SyncScope, sync_markets

EVERYTHING = SyncScope(statuses=STATUSES, historical=True, with_combos=True)
WHEN = ("created_at", "updated_at", "retrieved_at", "snapshot_time", "valid_from", "valid_to", "seen_again")
BEGIN, END = DEFAULT_NOW - timedelta(days=75), DEFAULT_NOW - timedelta(days=2)


def synced(store: Store, url: str, scope: SyncScope = EVERYTHING) -> None:
    with ExchangeClient(url, limit=None, max_retries=0) as client, Intake(store.conn, "sync", origin="poll") as intake:
        sync_markets(client, intake, scope)


def filled(store: Store, url: str, scope: BackfillScope) -> Outcome:
    with ExchangeClient(url, limit=None, max_retries=0) as client:
        return backfill(client, lambda: postgres.connect(store.url, autocommit=True), scope)


def written(folder: Path, name: str, document: object) -> None:
    (folder / f"{name}.json").write_text(simplejson.dumps(document, use_decimal=True))


def recorded(folder: Path, exchange: SimulatedExchange) -> Path:
    """A folder of answers of the simulated exchange, some in a recorder's wrapper, some as bare lists."""
    folder.mkdir()
    world = exchange.world
    with ExchangeClient(exchange.base_url, limit=None) as client:
        written(folder, "everything there is", next(client.series_list()).document)
        written(folder, "border", client.historical_cutoff().document)
        for number, page in enumerate(client.pages("/events", items="events", limit=7)):
            written(folder, f"e{number}", page.document if number % 2 else page.document["events"])
        for number, page in enumerate(client.multivariate_events()):
            written(folder, f"m{number}", page.document)
        for path in ("/markets", "/historical/markets"):
            for number, page in enumerate(client.pages(path, items="markets", limit=23)):
                wrapped = {"_metadata": {"endpoint": "?", "note": "a recorder's"}, "response": page.document}
                written(folder, f"{path.replace('/', '_')}{number}", wrapped if number % 2 else page.document)
        for number, page in enumerate(client.trades(start=BEGIN, end=END)):
            written(folder, f"t{number}", page.document["trades"] if number % 2 else page.document)
        for number, page in enumerate(client.historical_trades(start=BEGIN, end=END)):
            written(folder, f"old{number}", page.document)
        for ticker, market in world.markets.items():
            historical = world.is_historical(market)
            question = {"start": BEGIN, "end": END, "period_minutes": 60}
            answers = (
                client.historical_candlesticks(ticker, **question)
                if historical
                else client.candlesticks_batch([ticker], **question)
            )  # fmt: skip
            for answer in answers:
                about = {"start_ts": 0, "period_interval": 60, "ticker": ticker}
                written(folder, f"c {ticker}", {"_metadata": about, "response": answer.document})
    return folder


@contextmanager
def another(store: Store, url: str) -> Iterator[Store]:
    with postgres.connect(url, autocommit=True) as conn:
        yield Store(url, conn, store.folder)


def contents(store: Store) -> dict[str, set[str]]:
    return {table: set(rows) for table, rows in all_rows(store.conn, without=WHEN).items()}


@pytest.mark.parametrize("era", ["cents", "transition", "current"])
def test_answers_of_every_era_are_stored_as_if_they_came_from_the_exchange(
    store: Store, another_database_url: str, tmp_path: Path, era: Era
) -> None:
    candles = BackfillScope("candlesticks", BEGIN, END, 60)
    tape = BackfillScope("trades", BEGIN, END)
    with SimulatedExchange(seed=11, markets=60, era=era) as exchange, another(store, another_database_url) as from_the_exchange:
        recording = Recording(recorded(tmp_path / "recorded", exchange))
        synced(from_the_exchange, exchange.base_url)
        for scope in (candles, tape):
            filled(from_the_exchange, exchange.base_url, scope)
        expected = contents(from_the_exchange)
    assert recording.unused == []
    with replaying(Replay(recording, page_size=41)) as url:
        synced(store, url)
        outcomes = [filled(store, url, scope) for scope in (candles, tape)]
    assert [(outcome.failed, outcome.unknown) for outcome in outcomes] == [({}, set())] * 2
    assert store.rejects() == []
    found = contents(store)
    for table, rows in expected.items():
        assert found[table] == rows, table
    assert min(len(found[table]) for table in ("market_data.candlesticks", "market_data.public_trades")) > 200


@pytest.fixture(scope="module")
def recording(samples: Path) -> Recording:
    return Recording(samples)


def test_what_was_recorded_of_the_real_exchange_becomes_the_catalogue(store: Store, recording: Recording) -> None:
    with replaying(Replay(recording)) as url:
        synced(store, url)
    assert store.rejects() == []
    assert len(recording.markets) > 100
    assert set(store.column("SELECT market_ticker FROM catalog.markets WHERE NOT is_stub")) == set(recording.markets)
    assert set(store.column("SELECT event_ticker FROM catalog.events WHERE NOT is_stub")) == set(recording.events)
    assert set(store.column("SELECT series_ticker FROM catalog.series WHERE NOT is_stub")) == set(recording.series)
    settled = {ticker for ticker, market in recording.markets.items() if market.get("result") and market.get("settlement_ts")}
    assert set(store.column("SELECT market_ticker FROM catalog.settlements")) == settled


def test_recorded_candlesticks_of_the_real_exchange_are_filled_in(store: Store, recording: Recording) -> None:
    with replaying(Replay(recording)) as url:
        synced(store, url)
        for minutes in (1, 60, 1440):
            moments = [end for (_, period), candles in recording.candles.items() if period == minutes for end in candles]
            begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (min(moments), max(moments) + 1))
            outcome = filled(store, url, BackfillScope("candlesticks", begin, end, minutes))
            assert (outcome.failed, outcome.unknown) == ({}, set())
    lives = {ticker: (opened, closed) for ticker, opened, closed in store.conn.execute(
        "SELECT market_ticker, open_time, close_time FROM catalog.markets WHERE NOT is_stub")}  # fmt: skip
    of_known = {
        (ticker, minutes, moment)
        for (ticker, minutes), candles in recording.candles.items()
        for moment in candles
        if ticker in lives
    }
    assert len(of_known) > 50
    stored = {
        (ticker, minutes, int(moment.timestamp()))
        for ticker, minutes, moment in store.conn.execute(
            "SELECT market_ticker, period_interval_minutes, end_period_ts FROM market_data.candlesticks"
        )
    }
    assert stored == of_known
    assert store.rejects() == []


def test_the_recorded_tape_of_the_real_exchange_is_filled_in(store: Store, recording: Recording) -> None:
    moments = [datetime.fromisoformat(trade["created_time"]) for trade in recording.trades.values()]
    scope = BackfillScope("trades", min(moments).replace(microsecond=0), max(moments) + timedelta(seconds=1))
    with replaying(Replay(recording, page_size=3)) as url:
        outcome = filled(store, url, scope)
    assert outcome.failed == {}
    assert set(map(str, store.column("SELECT trade_id FROM market_data.public_trades"))) == set(recording.trades)
    assert len(recording.trades) > 25
    assert store.rejects() == []


def test_the_commands_ask_a_recorded_exchange_of_the_settings(
    store: Store, recording: Recording, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with replaying(Replay(recording)) as url:
        monkeypatch.setenv("DATABASE_URL", store.url)
        monkeypatch.setenv("KALSHI_API_URL", url)
        for command in (
            ["sync-markets", "--status", "open", "--status", "closed", "--status", "settled"],
            ["backfill", "candles", "--from", "2026-01-01", "--interval", "1440"],
            ["backfill", "trades", "--from", "2026-06-01"],
        ):
            with pytest.raises(SystemExit) as ended:
                app([*command, "--full-speed", "--json"])
            said = json.loads(capfd.readouterr().out)
            assert (ended.value.code or 0, said["rejected"]) == (0, 0), command
    assert store.count("catalog.markets WHERE NOT is_stub") > 40


def test_an_exchange_that_is_not_asked_for_many_markets_at_once_is_asked_for_each(store: Store, recording: Recording) -> None:
    class Alone(Replay):
        def answer(self, path: str, query: Query) -> tuple[int, Any]:
            return NOT_FOUND if path == "/markets/candlesticks" else super().answer(path, query)

    (ticker,) = {ticker for ticker, minutes in recording.candles if minutes == 1440 and ticker in recording.markets}
    ends = recording.candles[ticker, 1440]
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (min(ends), max(ends) + 1))
    with replaying(Alone(recording)) as url:
        synced(store, url)
        outcome = filled(store, url, BackfillScope("candlesticks", begin, end, 1440, market=ticker))
    assert (outcome.failed, outcome.unknown) == ({}, set())
    assert store.count("market_data.candlesticks") == len(ends)


def test_rows_that_are_no_objects_and_endpoints_that_are_not_there_end_no_synchronisation(
    store: Store, recording: Recording
) -> None:
    class Odd(Replay):
        def answer(self, path: str, query: Query) -> tuple[int, Any]:
            if path.startswith("/historical"):
                return NOT_FOUND
            status, document = super().answer(path, query)
            name = path.removeprefix("/")
            return status, document | {name: [*document[name], "a row", 5, None]} if name in (
                "events",
                "markets",
                "series",
            ) else document

    scope = SyncScope(categories=(next(iter(recording.series.values()))["category"],))
    with replaying(Replay(recording)) as url:
        synced(store, url, SyncScope())
    gone = market("KXGONE-26-1", event_ticker="KXGONE-26")  # open when it was last seen, and now in neither tier
    store.give({"market": gone}, seen=datetime(2026, 1, 1, tzinfo=UTC))
    with replaying(Odd(recording)) as url:
        synced(store, url, SyncScope())
        synced(store, url, scope)
    assert {reject.kind for reject in store.rejects()} == {"unrecognised"}
