"""History after a backfill is the exchange's, whoever was killed, however many share the work, and whichever tier has it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import httpx
import psycopg
import pytest
from loading import Store

from kalshidb import postgres
from kalshidb.cli import app
from kalshidb.exchange.client import ExchangeClient, ExchangeError
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.exchange.simulator.world import DEFAULT_NOW, DOLLAR
from kalshidb.ingest.backfill import (
    BackfillError,
    BackfillScope,
    Outcome,
    Piece,
    Width,
    backfill,
    estimate,
    missing_pieces,
    windows_of,
)
from kalshidb.ingest.intake import Intake
from kalshidb.ingest.sync import STATUSES, SyncScope, sync_markets
from kalshidb.queries import ops

END = DEFAULT_NOW - timedelta(days=2)
START = END - timedelta(days=30)
OLD = DEFAULT_NOW - timedelta(days=110)
HOURS = BackfillScope("candlesticks", START, END, 60)
Rows = set[tuple[Any, ...]]


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=200) as exchange:
        yield exchange


@pytest.fixture
def catalogued(store: Store, exchange: SimulatedExchange) -> Store:
    exchange.requests.clear()
    with ExchangeClient(exchange.base_url, limit=None) as client, Intake(store.conn, "sync", origin="poll") as intake:
        sync_markets(client, intake, SyncScope(statuses=STATUSES, historical=True))
    exchange.requests.clear()
    return store


def connecting(store: Store) -> Callable[[], psycopg.Connection[Any]]:
    return lambda: postgres.connect(store.url, autocommit=True)


def filled(store: Store, exchange: SimulatedExchange, scope: BackfillScope = HOURS, *, workers: int = 1) -> Outcome:
    with ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client:
        return backfill(client, connecting(store), scope, workers=workers, now=lambda: DEFAULT_NOW)


def truth_of_candles(exchange: SimulatedExchange, scope: BackfillScope) -> Rows:
    world = exchange.world
    return {
        (ticker, candle.end, candle.bid.close, candle.volume)
        for ticker, market in world.markets.items()
        if not market.is_combo and (scope.series is None or market.series_ticker == scope.series)
        for candle in world.candles(ticker, scope.period_minutes)
        if scope.start.timestamp() <= candle.end < scope.end.timestamp()
    }


def stored_candles(store: Store, minutes: int = 60) -> Rows:
    return {
        (ticker, int(end.timestamp()), int(bid * DOLLAR), int(volume * 100))
        for ticker, end, bid, volume in store.conn.execute(
            "SELECT market_ticker, end_period_ts, yes_bid_close, volume FROM market_data.candlesticks"
            " WHERE period_interval_minutes = %s",
            [minutes],
        )
    }


def truth_of_trades(exchange: SimulatedExchange, scope: BackfillScope) -> Rows:
    first, last = (int(moment.timestamp()) * 1_000_000 for moment in (scope.start, scope.end))
    return {
        (trade.trade_id, trade.ticker, trade.time, trade.count, trade.yes_price)
        for trade in exchange.world.all_trades
        if first <= trade.time < last and (scope.market is None or trade.ticker == scope.market)
    }


def stored_trades(store: Store, scope: BackfillScope) -> Rows:
    return {
        (str(trade_id), ticker, round(at.timestamp() * 1_000_000), int(count * 100), int(price * DOLLAR))
        for trade_id, ticker, at, count, price in store.conn.execute(
            "SELECT trade_id, market_ticker, created_time, count, yes_price FROM market_data.public_trades"
            " WHERE created_time >= %s AND created_time < %s",
            [scope.start, scope.end],
        )
    }


@pytest.mark.parametrize("minutes", [60, 1440])
@pytest.mark.parametrize("workers", [1, 3])
def test_candlesticks_of_both_tiers_are_the_exchanges(
    catalogued: Store, exchange: SimulatedExchange, minutes: int, workers: int
) -> None:
    scope = BackfillScope("candlesticks", OLD, END, minutes)
    outcome = filled(catalogued, exchange, scope, workers=workers)
    assert (outcome.failed, outcome.unknown) == ({}, set())
    paths = Counter(served.path.split("/")[3] for served in exchange.requests)
    assert paths["historical"] > 5
    assert paths["markets"] > 5
    expected = truth_of_candles(exchange, scope)
    assert len(expected) > 300
    assert stored_candles(catalogued, minutes) == expected


def test_minutes_are_the_exchanges_too(catalogued: Store, exchange: SimulatedExchange) -> None:
    scope = BackfillScope("candlesticks", END - timedelta(hours=30), END, 1)
    filled(catalogued, exchange, scope)
    expected = truth_of_candles(exchange, scope)
    assert len(expected) > 300
    assert stored_candles(catalogued, 1) == expected


@pytest.mark.parametrize("whole_tape", [True, False])
def test_trades_of_both_tiers_are_the_exchanges(catalogued: Store, exchange: SimulatedExchange, whole_tape: bool) -> None:
    border = datetime.fromtimestamp(exchange.world.cutoff / 1_000_000, UTC)
    scope = BackfillScope("trades", border - timedelta(days=12), END)
    if not whole_tape:
        tickers = Counter(ticker for _, ticker, at, *_ in truth_of_trades(exchange, scope) if at < exchange.world.cutoff)
        scope = replace(scope, market=tickers.most_common(1)[0][0])
    filled(catalogued, exchange, scope)
    expected = truth_of_trades(exchange, scope)
    assert len(expected) > 20
    assert stored_trades(catalogued, scope) == expected
    assert ("KXMVE" in "".join(ticker for _, ticker, *_ in expected)) == whole_tape  # combos that the catalogue does not know


def test_a_second_time_asks_for_nothing(catalogued: Store, exchange: SimulatedExchange) -> None:
    filled(catalogued, exchange)
    exchange.requests.clear()
    filled(catalogued, exchange)
    assert exchange.requests == []


def test_a_longer_span_asks_only_for_what_is_missing(catalogued: Store, exchange: SimulatedExchange) -> None:
    series = max(Counter(market.series_ticker for market in exchange.world.markets.values()).items(), key=lambda pair: pair[1])[0]
    short = BackfillScope("candlesticks", START, END, 60, series=series)
    long = BackfillScope("candlesticks", START - timedelta(days=4), END + timedelta(days=1), 60, series=series)
    filled(catalogued, exchange, short)
    filled(catalogued, exchange, long)
    assert stored_candles(catalogued) == truth_of_candles(exchange, long)
    asked = [request for run in ops.recent_ingest_runs(catalogued.conn, how_many=1)
             for request in ops.requests_of_run(catalogued.conn, run_id=run.run_id)]  # fmt: skip
    for request in asked:
        first, last = (datetime.fromtimestamp(int(request.params[name]), UTC) for name in ("start_ts", "end_ts"))
        assert last < START or first >= END, request


@pytest.mark.parametrize("border", [timedelta(milliseconds=1), timedelta(milliseconds=400), timedelta(seconds=1)])
def test_a_span_that_ends_within_a_second_loses_nothing_at_its_border(
    catalogued: Store, exchange: SimulatedExchange, border: timedelta
) -> None:
    noon = END.replace(hour=12, minute=0)  # where candlesticks end; spans up to now end at any microsecond
    for start, end in ((noon - timedelta(hours=6), noon + border), (noon + border, noon + border * 2), (noon, END)):
        outcome = filled(catalogued, exchange, BackfillScope("candlesticks", start, end, 60))
        assert (outcome.failed, outcome.unknown) == ({}, set())
    whole = BackfillScope("candlesticks", noon - timedelta(hours=6), END, 60)
    assert stored_candles(catalogued) == truth_of_candles(exchange, whole)


def test_an_exchange_that_fails_leaves_what_is_stored_and_the_rest_is_fetched_later(
    catalogued: Store, exchange: SimulatedExchange
) -> None:
    seen = 0

    def fail_then(_span: timedelta, _objects: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            exchange.fail(503)

    with ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client, pytest.raises(ExchangeError, match="503"):
        backfill(client, connecting(catalogued), HOURS, now=lambda: DEFAULT_NOW, on_window=fail_then)
    (failed,) = ops.checkpoints_to_resume(catalogued.conn, job_name=HOURS.job_name)
    assert failed.status == "failed"
    assert "503" in (failed.error or "")
    before = len(exchange.requests)
    filled(catalogued, exchange)
    assert stored_candles(catalogued) == truth_of_candles(exchange, HOURS)
    windows = [served for served in exchange.requests if "candlesticks" in served.path and served.status == 200]
    assert len(exchange.requests) > before
    asked = Counter(
        (request.url, json.dumps(request.params, sort_keys=True))
        for run in ops.recent_ingest_runs(catalogued.conn, how_many=3)
        for request in ops.requests_of_run(catalogued.conn, run_id=run.run_id)
        if "candlesticks" in request.url
    )
    assert len(windows) == asked.total()
    assert set(asked.values()) == {1}  # no window that was stored is asked for again
    assert ops.checkpoints_to_resume(catalogued.conn, job_name=HOURS.job_name) == []


def test_a_market_that_changes_tier_in_the_middle_is_followed(store: Store) -> None:
    with SimulatedExchange(seed=7, markets=200) as exchange:
        with ExchangeClient(exchange.base_url, limit=None) as client, Intake(store.conn, "sync", origin="poll") as intake:
            sync_markets(client, intake, SyncScope(statuses=STATUSES))
        later = DEFAULT_NOW + timedelta(days=70)
        moves = iter([later])

        def let_time_pass(_span: timedelta, _objects: int) -> None:
            for moment in moves:
                exchange.move_to(moment)

        with ExchangeClient(exchange.base_url, limit=None) as client:
            outcome = backfill(client, connecting(store), HOURS, now=lambda: DEFAULT_NOW, on_window=let_time_pass)
        live = {ticker for (ticker,) in store.conn.execute("SELECT market_ticker FROM catalog.markets").fetchall()}
        expected = {row for row in truth_of_candles(exchange, HOURS) if row[0] in live}
        assert any(exchange.world.is_historical(exchange.world.markets[ticker]) for ticker in live)
    assert outcome.unknown == set()
    assert stored_candles(store) == expected


def test_trades_are_followed_when_the_border_of_the_tiers_moves_far(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshidb.ingest.backfill.CUTOFF_HOLDS", 0.0)
    with SimulatedExchange(seed=7, markets=200) as exchange:
        border = datetime.fromtimestamp(exchange.world.cutoff / 1_000_000, UTC)
        scope = BackfillScope("trades", border, border + timedelta(days=25))
        moves = iter([DEFAULT_NOW + timedelta(days=20)])

        def let_time_pass(_span: timedelta, _objects: int) -> None:
            for moment in moves:
                exchange.move_to(moment)

        with ExchangeClient(exchange.base_url, limit=None) as client:
            backfill(client, connecting(store), scope, now=lambda: DEFAULT_NOW, on_window=let_time_pass)
        expected = truth_of_trades(exchange, scope)
    assert len(expected) > 1_000
    assert stored_trades(store, scope) == expected


def test_control_c_ends_also_a_piece_of_many_windows_and_the_next_run_goes_on(store: Store, exchange: SimulatedExchange) -> None:
    tape = BackfillScope("trades", START, END)
    windows: list[timedelta] = []

    def interrupt_once(span: timedelta, _objects: int) -> None:
        windows.append(span)
        if len(windows) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            deadline = time.monotonic() + 2
            while not client.stopped and time.monotonic() < deadline:
                time.sleep(0.001)

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "a test or a command before this one left its own"
    with ExchangeClient(exchange.base_url, limit=None) as client, pytest.raises(KeyboardInterrupt):
        backfill(client, connecting(store), tape, now=lambda: DEFAULT_NOW, on_window=interrupt_once)
    assert len(windows) == 1
    (run,) = ops.recent_ingest_runs(store.conn, how_many=1)
    assert (run.status, "closed" in (run.error or "")) == ("failed", True)
    filled(store, exchange, tape)
    assert stored_trades(store, tape) == truth_of_trades(exchange, tape)


COMMAND = [sys.executable, "-m", "kalshidb", "backfill", "candles", "--full-speed", "--interval", "60",
           "--from", f"{OLD:%Y-%m-%dT%H:%M}", "--to", f"{END:%Y-%m-%dT%H:%M}"]  # fmt: skip


def environment(store: Store, exchange: SimulatedExchange) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": store.url, "KALSHI_API_URL": exchange.base_url}


def test_killed_at_any_moment_the_next_run_makes_it_good_and_repeats_only_open_windows(
    catalogued: Store, exchange: SimulatedExchange
) -> None:
    scope = BackfillScope("candlesticks", OLD, END, 60)
    kills = 0
    for wanted in (3, 9, 17):  # windows that are covered when the next blow falls
        process = subprocess.Popen(COMMAND, env=environment(catalogued, exchange), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(exchange.requests) >= wanted + kills:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
    assert kills == 3
    filled(catalogued, exchange, scope)
    assert stored_candles(catalogued) == truth_of_candles(exchange, scope)
    repeated = Counter(
        (request.url, json.dumps(request.params, sort_keys=True))
        for run in ops.recent_ingest_runs(catalogued.conn, how_many=9)
        for request in ops.requests_of_run(catalogued.conn, run_id=run.run_id)
        if "candlesticks" in request.url
    )
    assert sum(times - 1 for times in repeated.values()) <= kills


def test_two_processes_share_the_work_and_repeat_nothing(catalogued: Store, exchange: SimulatedExchange) -> None:
    scope = BackfillScope("candlesticks", OLD, END, 60)
    both = [subprocess.Popen(COMMAND, env=environment(catalogued, exchange), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert stored_candles(catalogued) == truth_of_candles(exchange, scope)
    runs = [run for run in ops.recent_ingest_runs(catalogued.conn, how_many=5) if run.source.startswith("backfill")]
    asked = [
        (request.url, json.dumps(request.params, sort_keys=True))
        for run in runs
        for request in ops.requests_of_run(catalogued.conn, run_id=run.run_id)
        if "candlesticks" in request.url
    ]
    assert len(runs) == 2
    assert len(asked) == len(set(asked))


def test_a_piece_that_another_session_holds_is_left_to_it(catalogued: Store, exchange: SimulatedExchange) -> None:
    pieces = missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW)
    held = pieces[0]
    with connecting(catalogued)() as other:
        ours = ops.begin_checkpoint(
            other, job_name=HOURS.job_name, series_ticker=held.series_ticker, event_ticker=held.event_ticker,
            window_start_ts=START, window_end_ts=END,
        )  # fmt: skip
        assert ours is not None
        outcome = filled(catalogued, exchange)
        assert outcome.left_to_others == 1
        assert missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW) == [held]
    filled(catalogued, exchange)
    assert missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW) == []


def test_who_is_patient_fetches_what_another_session_held_and_left_undone(catalogued: Store, exchange: SimulatedExchange) -> None:
    held = missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW)[0]
    other = connecting(catalogued)()
    ops.begin_checkpoint(
        other, job_name=HOURS.job_name, series_ticker=held.series_ticker, event_ticker=held.event_ticker,
        window_start_ts=START, window_end_ts=START + timedelta(hours=1),
    )  # fmt: skip
    waited: list[int] = []

    def end_the_other(number: int) -> None:
        waited.append(number)
        other.close()

    with ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client:
        outcome = backfill(
            client, connecting(catalogued), HOURS, workers=2, is_patient=True, now=lambda: DEFAULT_NOW, on_wait=end_the_other
        )
    assert (waited, outcome.left_to_others) == ([1], 0)
    assert missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW) == []


@pytest.mark.parametrize(
    "answer", [httpx.Response(401, json={}), httpx.Response(403, text="no"), httpx.Response(200, html="<h1>Maintenance</h1>")]
)
def test_an_exchange_that_lets_us_in_no_more_is_not_asked_for_each_event(catalogued: Store, answer: httpx.Response) -> None:
    asked: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/y/exchange/status":
            return httpx.Response(200, json={"exchange_active": True})
        asked.append(request)
        return answer

    transport = httpx.MockTransport(refuse)
    with ExchangeClient("http://x/y", limit=None, max_retries=0, transport=transport) as client, pytest.raises(ExchangeError):
        backfill(client, connecting(catalogued), HOURS, now=lambda: DEFAULT_NOW)
    assert len(asked) == 1


def test_what_is_not_over_is_not_called_covered(catalogued: Store, exchange: SimulatedExchange) -> None:
    scope = BackfillScope("candlesticks", END, DEFAULT_NOW + timedelta(days=5), 60)
    filled(catalogued, exchange, scope)
    rows = ops.coverage(
        catalogued.conn, kind="candlesticks", period_interval_minutes=60, start_ts=END, end_ts=scope.end,
        series_ticker=None, event_ticker=None, market_ticker=None,
    )  # fmt: skip
    latest = max(span.upper for row in rows for span in row.covered if span.upper)
    assert DEFAULT_NOW - timedelta(minutes=2) <= latest < DEFAULT_NOW


def test_time_that_passes_during_a_backfill_that_goes_up_to_now_is_for_the_next_run(
    catalogued: Store, exchange: SimulatedExchange
) -> None:
    scope = BackfillScope("candlesticks", END, DEFAULT_NOW + timedelta(days=1), 60)
    begun = DEFAULT_NOW - timedelta(hours=3)
    moments = count()
    with ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client:
        outcome = backfill(client, connecting(catalogued), scope, now=lambda: begun + timedelta(minutes=next(moments)))
    assert (outcome.failed, ops.checkpoints_to_resume(catalogued.conn, job_name=scope.job_name)) == ({}, [])
    expected = {row for row in truth_of_candles(exchange, scope) if row[1] < (begun - timedelta(minutes=1)).timestamp()}
    assert stored_candles(catalogued) == expected


def test_a_market_that_no_tier_has_is_told(catalogued: Store, exchange: SimulatedExchange) -> None:
    some = missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW)[0]
    catalogued.conn.execute(
        "INSERT INTO catalog.markets (market_ticker, platform_id, event_ticker, series_ticker, external_id, title, open_time, close_time,"
        " status, is_stub, retrieved_at, created_at, updated_at)"
        " VALUES ('KXGONE-1', 'kalshi', %s, %s, 'KXGONE-1', 'gone', %s, %s, 'active', false, now(), now(), now())",
        [some.event_ticker, some.series_ticker, START, END],
    )
    outcome = filled(catalogued, exchange)
    assert outcome.unknown == {"KXGONE-1"}
    (run,) = ops.recent_ingest_runs(catalogued.conn, how_many=1)
    assert (run.status, run.error) == ("truncated", "no tier of the exchange has KXGONE-1")
    assert stored_candles(catalogued) == truth_of_candles(exchange, HOURS)
    assert [list(piece.spans) for piece in missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW)] == [["KXGONE-1"]]


# Arithmetic.


def hours(number: float) -> datetime:
    return START + timedelta(hours=number)


def test_windows_keep_the_exchanges_limits_and_leave_no_gap() -> None:
    span = (hours(0), hours(24 * 400))
    piece = Piece("KXA", "KXA-1", {f"KXA-1-{number}": (span,) for number in range(230)})
    windows = list(windows_of(piece, BackfillScope("candlesticks", *span, 60)))
    for window in windows:
        periods = (window.end - window.start) / timedelta(hours=1)
        assert len(window.tickers) <= 100
        assert (periods + 1) * len(window.tickers) <= 10_000
        assert periods < 5_000
    for ticker in piece.spans:
        own = [(window.start, window.end) for window in windows if ticker in window.tickers]
        assert own[0][0] == span[0]
        assert own[-1][1] == span[1]
        assert all(before[1] == after[0] for before, after in pairwise(own))


def test_markets_with_different_gaps_are_asked_for_apart() -> None:
    piece = Piece("KXA", "KXA-1", {"KXA-1-1": ((hours(0), hours(5)),), "KXA-1-2": ((hours(2), hours(5)),)})
    windows = list(windows_of(piece, BackfillScope("candlesticks", hours(0), hours(9), 60)))
    assert [(window.tickers, window.start, window.end) for window in windows] == [
        (("KXA-1-1",), hours(0), hours(5)),
        (("KXA-1-2",), hours(2), hours(5)),
    ]


def test_windows_of_trades_grow_where_little_happens_and_shrink_where_much_does() -> None:
    width = Width()
    first = width.now
    width.learn(0)
    assert width.now > first
    for _ in range(20):
        width.learn(0)
    assert width.now == timedelta(days=30)
    for _ in range(20):
        width.learn(100_000)
    assert width.now == timedelta(minutes=1)
    width.learn(10_000)
    assert width.now == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("candlesticks", END, START, 60), "ends before it begins"),
        (("candlesticks", START, START, 60), "ends before it begins"),
        (("candlesticks", START, END, 5), "1, 60 or 1440"),
        (("trades", START, END, 60), "trades none"),
        (("trades", START.replace(tzinfo=None), END, 0), "time zone"),
        (("trades", START, END, 0, ""), "no series"),
        (("candlesticks", START, END, 60, None, None, ""), "no market"),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(BackfillError, match=message):
        BackfillScope(*arguments)


# The command.


def ran(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    return ended.value.code or 0, capfd.readouterr().out


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ((None, None, None), "has no market;"),
        (("KXNO", None, None), "series 'KXNO'"),
        ((None, "KXNO-1", None), "event 'KXNO-1'"),
        (("KXNO", None, "KXNO-1-2"), "no market 'KXNO-1-2' of series 'KXNO';"),
    ],
)
def test_a_scope_without_a_market_in_the_catalogue_is_an_error_that_names_it(
    store: Store, only: tuple[str | None, str | None, str | None], said: str
) -> None:
    scope = BackfillScope("candlesticks", START, END, 60, *only)
    with ExchangeClient("http://x/y") as client, pytest.raises(BackfillError, match=said):
        backfill(client, connecting(store), scope)
    with pytest.raises(BackfillError, match=said):
        estimate(store.conn, scope)


def test_the_commands_name_what_the_catalogue_does_not_have(catalogued: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", catalogued.url)
    for command in (["backfill", "candles", "--dry-run"], ["backfill", "trades", "--dry-run"], ["coverage"]):
        with pytest.raises(BackfillError, match="'KXTYPO'"):
            app([*command, "--from", "2026-10-01", "--market", "KXTYPO"], standalone_mode=False)


def test_a_dry_run_asks_nothing_and_says_what_it_would_take(
    catalogued: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(catalogued, exchange).items():
        monkeypatch.setenv(name, value)
    span = ["--from", f"{START:%Y-%m-%dT%H:%M}", "--to", f"{END:%Y-%m-%dT%H:%M}"]
    status, text = ran(["backfill", "candles", *span, "--interval", "60", "--dry-run", "--json"], capfd)
    said = json.loads(text)
    assert status == 0
    assert exchange.requests == []
    assert said == {
        "pieces": len(missing_pieces(catalogued.conn, HOURS, DEFAULT_NOW)),
        "markets": said["markets"],
        "requests": estimate(catalogued.conn, HOURS, DEFAULT_NOW).requests,
        "most_rows": said["most_rows"],
    }
    status, text = ran(["backfill", "candles", *span, "--interval", "60", "--full-speed", "--json"], capfd)
    assert status == 0
    assert json.loads(text)["kinds"]["candlestick"]["written"] <= said["most_rows"]
    live = [served for served in exchange.requests if served.path.endswith("/markets/candlesticks")]
    assert len(live) <= said["requests"]
    status, text = ran(["coverage", *span, "--json"], capfd)
    assert status == 0
    assert all(market["missing"] == [] for market in json.loads(text))
    assert len(json.loads(text)) == said["markets"]
    status, text = ran(["coverage", *span[:3], f"{END + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}"], capfd)
    assert "  99 %  missing" in text
    assert "100 %  missing" not in text
