"""A stream written down: every frame a row, every book of every moment as it was, and nothing claimed that was not heard."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from loading import NOON, Store, market
from test_landing import Outage

from kalshidb import postgres
from kalshidb.exchange.dialogue import BOOKS
from kalshidb.exchange.simulator import SimulatedExchange, World
from kalshidb.exchange.simulator.feed import FeedFault
from kalshidb.exchange.simulator.world import CONTRACT, DOLLAR, MINUTE, Trade, micros, moment_of
from kalshidb.exchange.stream import Stream
from kalshidb.ingest import landing as landings
from kalshidb.ingest.arrivals import Arrival
from kalshidb.ingest.landing import Landing
from kalshidb.ingest.spool import Spool
from kalshidb.ingest.stream import Recorder, Selection, SelectionError
from kalshidb.queries import market_data, ops

Levels = list[tuple[Decimal, Decimal]]


def truth(world: World, ticker: str, at: datetime) -> tuple[Levels, Levels]:
    book = world.book(ticker, micros(at))
    yes, no = ([(Decimal(price) / DOLLAR, Decimal(count) / CONTRACT) for price, count in side] for side in (book.yes, book.no))
    return yes, no


def rebuilt(conn: psycopg.Connection[Any], ticker: str, at: datetime) -> tuple[str, tuple[Levels, Levels]]:
    found = market_data.orderbook_at(conn, market_ticker=ticker, moment=at)
    yes = list(zip(found.yes_bid_prices or (), found.yes_bid_quantities or (), strict=True))
    no = list(zip(found.no_bid_prices or (), found.no_bid_quantities or (), strict=True))
    return found.status, (yes, no)  # type: ignore[return-value]


def spans(conn: psycopg.Connection[Any]) -> dict[str, list[tuple[datetime, datetime]]]:
    """What is claimed of the order books."""
    rows = conn.execute("SELECT market_ticker, unnest(covered) FROM ops.coverage WHERE kind = 'orderbook'").fetchall()
    claimed: dict[str, list[tuple[datetime, datetime]]] = {}
    for ticker, span in rows:
        claimed.setdefault(ticker, []).append((span.lower, span.upper))
    return claimed


def assert_claims_are_true(conn: psycopg.Connection[Any], world: World, *, samples: int = 30) -> timedelta:
    """Rebuild books at random moments of what is claimed and outside of it; return how much is claimed in all."""
    chance, claimed = random.Random(1), spans(conn)  # noqa: S311
    total = timedelta()
    for ticker, of_market in claimed.items():
        for begin, end in of_market:
            total += end - begin
            inside = [begin, end - timedelta(microseconds=1), *(begin + (end - begin) * chance.random() for _ in range(samples))]
            changes = [at for at, name, _ in world.happenings(micros(begin)) if name == ticker and at < micros(end)]
            inside += [moment_of(at + offset) for at in changes for offset in (-1, 0, 1) if begin <= moment_of(at + offset) < end]
            for at in inside:
                assert rebuilt(conn, ticker, at) == ("known", truth(world, ticker, at)), (ticker, at)
        first, last = of_market[0][0], of_market[-1][1]
        for at in (first + (last - first) * chance.random() for _ in range(samples)):
            if not any(begin <= at < end for begin, end in of_market):
                status, levels = rebuilt(conn, ticker, at)
                assert status == "last_seen" or (status == "known" and levels == truth(world, ticker, at))
    return total


def busy(world: World, minutes: int = 60) -> list[str]:
    """Markets that are open and in which something happens soon, the busiest first."""
    until = world.now + minutes * MINUTE
    found: dict[str, int] = {}
    for at, ticker, _ in world.happenings(world.now):
        market = world.markets[ticker]
        if at < until and world.status(market) == "active" and market.close > until and not market.is_combo:
            found[ticker] = found.get(ticker, 0) + 1
    return sorted(found, key=lambda ticker: -found[ticker])


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for seconds here."""
    for name, value in {"BATCH_SECONDS": 0.05, "COVER_SECONDS": 0.1, "REFRESH_SECONDS": 0.2}.items():
        monkeypatch.setattr(f"kalshidb.ingest.stream.{name}", value)
    for name, value in {"PROOF": 0.05, "QUIET": 0.1, "SILENCE": 2.5, "PATIENCE": 3.0}.items():
        monkeypatch.setattr(f"kalshidb.exchange.dialogue.{name}", value)
    monkeypatch.setattr("kalshidb.exchange.stream.LOOK", 0.02)
    monkeypatch.setattr(landings, "FIRST_WAIT", 0.05)


@pytest.fixture
def outage(database_url: str) -> Iterator[Outage]:
    outage = Outage(database_url)
    yield outage
    outage.back()


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=11, markets=60, feed=True) as exchange:
        yield exchange


@asynccontextmanager
async def recording(
    exchange: SimulatedExchange,
    connect: Callable[[], psycopg.Connection[Any]],
    folder: Path,
    ahead: timedelta = timedelta(),
    **choice: object,
) -> AsyncIterator[Recorder]:
    """A recorder that is listening, in the simulated time or so far ahead of it."""
    selection = Selection(**choice)  # type: ignore[arg-type]
    stream = Stream(selection.wanted(()), url=exchange.websocket_url, clock=lambda: exchange.feed.present + ahead, pause=0.01)
    landing = Landing(connect, Spool(folder), "a test", origin="websocket", stop=lambda: stream.is_stopped)
    recorder = Recorder(landing, stream, selection)
    task = asyncio.create_task(recorder.run())
    try:
        await until(lambda: task.done() or is_subscribed(recorder))
        yield recorder
    finally:
        stream.stop()
        await task


def is_subscribed(recorder: Recorder) -> bool:
    channels = recorder._stream.dialogue._channels.values()
    return all(one.sid is not None and (one.name != BOOKS or one.whole >= (one.wanted or set())) for one in channels)


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for knows nothing of us)
            await asyncio.sleep(0.01)


def pass_time(exchange: SimulatedExchange, **span: float) -> None:
    exchange.move_to(moment_of(exchange.world.now) + timedelta(**span))


@pytest.mark.usefixtures("hasty")
async def test_everything_that_is_told_is_stored_and_leads_to_its_batch(store: Store, exchange: SimulatedExchange) -> None:
    world, begun = exchange.world, exchange.world.now
    async with recording(exchange, lambda: postgres.connect(store.url, autocommit=True), store.folder) as recorder:
        for _ in range(8):
            pass_time(exchange, hours=1)
            await asyncio.sleep(0.05)
        expected = {
            trade.trade_id: trade
            for _, _, trade in world.happenings(begun)
            if isinstance(trade, Trade) and trade.time <= world.now
        }
        await until(lambda: store.count("market_data.public_trades") == len(expected))
    stored = store.conn.execute(
        "SELECT trade_id::text, market_ticker, count, yes_price, created_time FROM market_data.public_trades"
    )
    for trade_id, ticker, count, price, created_time in stored:
        trade = expected[trade_id]
        assert (ticker, count, price) == (trade.ticker, Decimal(trade.count) / CONTRACT, Decimal(trade.yes_price) / DOLLAR)
        assert created_time == moment_of(trade.time // 1000 * 1000)
    quotes = store.conn.execute(
        "SELECT market_ticker, snapshot_time, source, yes_bid, yes_ask, retrieved_at FROM market_data.price_snapshots"
    ).fetchall()
    assert len(quotes) > 50
    for ticker, at, source, bid, ask, retrieved_at in quotes:
        known = world.history(ticker).quote_at(micros(at))
        assert source == "websocket"
        assert not world.markets[ticker].is_combo
        assert (bid, ask) == tuple(Decimal(price) / DOLLAR for price in known)
        assert [origin.url for origin in ops.requests_at(store.conn, retrieved_at=retrieved_at)] == [exchange.websocket_url]
    assert recorder.tally.left_out > 0  # quotes of combinations
    assert {word for (word,) in store.conn.execute("SELECT event_type FROM catalog.market_lifecycle")} == {
        "determined",
        "settled",
    }
    assert store.rejects() == []
    (run,) = ops.recent_ingest_runs(store.conn, how_many=5)
    assert (run.status, run.source) == ("succeeded", "a test")
    (health,) = ops.current_health(store.conn)
    assert (health.component, health.status) == ("stream", "healthy")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("seed", "rate"), [(11, 0.0), (12, 0.03), (13, 0.1), (16, 0.2)])
async def test_books_of_random_moments_are_as_they_were(store: Store, seed: int, rate: float) -> None:
    with SimulatedExchange(seed=seed, markets=60, feed=True) as exchange:
        world, tickers, chance = exchange.world, busy(exchange.world)[:4], random.Random(seed)  # noqa: S311
        begun = exchange.feed.present
        connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
        async with recording(exchange, connect, store.folder, markets=tuple(tickers)) as recorder:
            # All faults but silence, which takes its time.
            exchange.feed.fail_at_random(rate, seed, [fault for fault in get_args(FeedFault) if fault != "silence"])
            for _ in range(60):
                pass_time(exchange, minutes=chance.uniform(0.2, 3))
                await asyncio.sleep(0.02)
            exchange.feed.fail_at_random(0)
            pass_time(exchange, minutes=3)
            await until(lambda: is_subscribed(recorder))
            for _ in range(3):
                pass_time(exchange, minutes=1)
                await asyncio.sleep(0.2)
        claimed = assert_claims_are_true(store.conn, world)
        passed = exchange.feed.present - begun
        assert set(spans(store.conn)) == set(tickers)
        gaps = ops.stream_gaps_between(store.conn, start_time=begun, end_time=begun + timedelta(days=1))
        assert bool(gaps) == bool(rate)
        assert len(gaps) == recorder.tally.gaps
        assert all(gap.repaired_at is not None for gap in gaps)
        assert claimed > (timedelta() if rate else (passed - timedelta(minutes=2)) * len(tickers))


@pytest.mark.usefixtures("hasty")
async def test_a_gap_is_written_down_with_its_repair_and_not_claimed(store: Store, exchange: SimulatedExchange) -> None:
    ticker = busy(exchange.world)[0]
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    begun = exchange.feed.present
    async with recording(exchange, connect, store.folder, markets=(ticker,), channels=(BOOKS,)) as recorder:
        for _ in range(20):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.02)
        exchange.feed.fail("swallow", channel=BOOKS)
        for _ in range(30):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.02)
        await until(lambda: recorder.tally.repaired)
        for _ in range(5):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.1)
    (gap,) = ops.stream_gaps_between(store.conn, start_time=begun, end_time=begun + timedelta(days=1))
    assert (gap.channel, gap.reason) == (BOOKS, "sequence")
    assert gap.next_sequence == (gap.last_sequence or 0) + 2
    assert gap.last_received_at is not None
    assert gap.last_received_at <= gap.found_at <= (gap.repaired_at or begun)
    of_market = spans(store.conn)[ticker]
    assert len(of_market) == 2
    assert of_market[0][1] < gap.found_at <= of_market[1][0]
    assert_claims_are_true(store.conn, exchange.world)


@pytest.mark.usefixtures("hasty")
async def test_a_clock_of_ours_that_is_wrong_claims_nothing_when_the_connection_breaks(
    store: Store, exchange: SimulatedExchange
) -> None:
    ticker = busy(exchange.world)[0]
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    async with recording(exchange, connect, store.folder, timedelta(hours=3), markets=(ticker,), everything=True) as recorder:
        for _ in range(10):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.05)
        exchange.feed.fail("drop")
        for _ in range(10):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.05)
        await until(lambda: recorder.tally.repaired)
    assert store.count("market_data.orderbook_deltas")
    claimed = [span for of_market in spans(store.conn).values() for span in of_market]
    assert [end for _, end in claimed if end > exchange.feed.present] == []


@pytest.mark.usefixtures("hasty")
async def test_a_quiet_book_is_claimed_only_as_far_as_it_is_proven(store: Store, exchange: SimulatedExchange) -> None:
    """What was lost last shows only when the next frame comes; quotes that come meanwhile prove nothing of the book."""
    ticker = busy(exchange.world)[0]
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    async with recording(exchange, connect, store.folder, markets=(ticker,)) as recorder:
        for _ in range(10):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.02)
        for _ in range(5):  # everything that is told of books is lost, also the proofs
            for _ in range(50):
                exchange.feed.fail("swallow", channel=BOOKS)
            pass_time(exchange, minutes=4)
            await asyncio.sleep(0.2)
        assert recorder.tally.gaps == 0
        assert store.count("market_data.price_snapshots") > 5
    assert_claims_are_true(store.conn, exchange.world)


@pytest.mark.usefixtures("hasty")
async def test_what_comes_while_the_database_is_away_is_spooled_and_stored(
    store: Store, database_url: str, exchange: SimulatedExchange
) -> None:
    outage, world, begun = Outage(database_url), exchange.world, exchange.world.now
    tickers = busy(world)[:3]
    store.conn.close()
    try:
        async with recording(
            exchange, outage.connect, store.folder / "spool", markets=tuple(tickers), everything=True
        ) as recorder:
            pass_time(exchange, minutes=30)
            await asyncio.sleep(0.3)
            outage.away()
            for _ in range(30):
                pass_time(exchange, minutes=2)
                await asyncio.sleep(0.01)
            await until(lambda: recorder._landing.spooled > 2)
            assert recorder.health[0] == "degraded"
            outage.back()
            await until(lambda: recorder._landing.away is None)
            pass_time(exchange, minutes=30)
            await asyncio.sleep(0.3)
        assert recorder.health == ("healthy", None)
    finally:
        outage.back()
    with postgres.connect(database_url, autocommit=True) as conn:
        told = {trade.trade_id for _, _, trade in world.happenings(begun) if isinstance(trade, Trade) and trade.time <= world.now}
        stored = {str(trade_id) for (trade_id,) in conn.execute("SELECT trade_id FROM market_data.public_trades")}
        assert stored == told
        assert not Spool(store.folder / "spool").segments()
        assert assert_claims_are_true(conn, world) > timedelta(minutes=100) * len(tickers)
        assert all(len(of_market) == 1 for of_market in spans(conn).values())  # the books were heard all the time


@pytest.mark.usefixtures("hasty")
async def test_what_is_no_frame_is_kept_and_what_is_unknown_is_counted(store: Store, exchange: SimulatedExchange) -> None:
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    async with recording(exchange, connect, store.folder, channels=("trade",)) as recorder:
        exchange.feed.fail("unknown", "cut", "garbage")
        pass_time(exchange, hours=4)
        await until(lambda: recorder.tally.broken == 2 and recorder.tally.frames > 5)
    rejects = store.rejects()
    assert [reject.kind for reject in rejects] == ["unrecognised"] * 2
    kept = [json.loads(bytes(reject.payload))["broken"] for reject in rejects]
    assert any("bad gateway" in text for text in kept)
    assert any(text.startswith('{"type": "trade"') or text.startswith('{"type":"trade"') for text in kept)
    assert recorder._landing.report.not_stored == {"websocket weather_report": 1}


@pytest.mark.usefixtures("hasty")
async def test_a_writer_that_falls_behind_makes_the_exchange_wait(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kalshidb.ingest.stream.BATCH_FRAMES", 10)
    monkeypatch.setattr("kalshidb.exchange.dialogue.SILENCE", 0.8)  # the time in which nobody listens is longer, and no silence
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    most = 0
    async with recording(exchange, connect, store.folder, channels=("ticker",), with_combos=True) as recorder:
        blocked = asyncio.Event()
        loop, flush = asyncio.get_running_loop(), recorder._landing.flush

        def slow() -> None:
            asyncio.run_coroutine_threadsafe(blocked.wait(), loop).result()
            flush()

        monkeypatch.setattr(recorder._landing, "flush", slow)
        pass_time(exchange, hours=20)
        for _ in range(100):
            await asyncio.sleep(0.01)
            most = max(most, recorder.tally.frames)
        assert most < 100  # of hundreds
        blocked.set()
        await until(lambda: recorder.tally.frames > 200)
        assert recorder.tally.gaps == 0
    assert store.count("market_data.price_snapshots") > 200


@pytest.mark.usefixtures("hasty")
async def test_of_two_streams_one_records_a_book_and_the_other_takes_over(store: Store, exchange: SimulatedExchange) -> None:
    ticker = busy(exchange.world)[0]
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    async with recording(exchange, connect, store.folder / "second", channels=("trade",)):
        async with recording(exchange, connect, store.folder / "first", markets=(ticker,), channels=(BOOKS,)) as first:
            await until(lambda: first._claimed)
            selection = Selection(markets=(ticker,), channels=(BOOKS,))
            stream = Stream(selection.wanted(()), url=exchange.websocket_url, clock=lambda: exchange.feed.present)
            landing = Landing(connect, Spool(store.folder / "third"), "another", origin="websocket")
            other = Recorder(landing, stream, selection)
            task = asyncio.create_task(other.run())
            await until(lambda: other.health[0] == "degraded" and not other._claimed)
            assert "another process records the order books of" in (other.health[1] or "")
        await until(lambda: other._claimed)
        assert other.health[0] == "healthy"
        pass_time(exchange, minutes=10)
        stream.stop()
        await task
    assert_claims_are_true(store.conn, exchange.world)


@pytest.mark.usefixtures("hasty")
async def test_a_second_stream_does_not_touch_a_book_that_another_records(store: Store, exchange: SimulatedExchange) -> None:
    """Its snapshot would stand without the changes after it, which the first one hears under its own number."""
    ticker = busy(exchange.world)[0]
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    async with recording(exchange, connect, store.folder / "first", markets=(ticker,)) as first:
        await until(lambda: first._claimed)
        selection = Selection(markets=(ticker,), channels=(BOOKS,))
        stream = Stream(selection.wanted(()), url=exchange.websocket_url, clock=lambda: exchange.feed.present)
        other = Recorder(Landing(connect, Spool(store.folder / "second"), "another", origin="websocket"), stream, selection)
        task = asyncio.create_task(other.run())
        await until(lambda: other.health[0] == "degraded")
        pass_time(exchange, minutes=20)
        await asyncio.sleep(0.3)
        stream.stop()
        await task
        assert other.tally.frames == 0
    assert store.count("market_data.orderbook_deltas")
    assert_claims_are_true(store.conn, exchange.world)


@pytest.mark.usefixtures("hasty")
async def test_without_room_on_the_disk_it_goes_on_when_the_database_is_back(
    outage: Outage, exchange: SimulatedExchange, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file is where the folder should be")
    async with recording(exchange, outage.connect, tmp_path / "spool", channels=("ticker",)) as recorder:
        pass_time(exchange, minutes=10)
        await until(lambda: recorder.tally.frames)
        outage.away()
        try:
            pass_time(exchange, minutes=10)
            await until(lambda: recorder._trouble)
            assert recorder.health[0] == "down"
            assert "cannot be written" in (recorder.health[1] or "")
        finally:
            outage.back()
        await until(lambda: recorder._trouble is None)
        frames = recorder.tally.frames
        pass_time(exchange, minutes=10)
        await until(lambda: recorder.tally.frames > frames)
    assert recorder._landing.unsaved == ()
    assert recorder._landing.spooled == 0
    with psycopg.connect(outage.url) as conn:
        stored = conn.execute("SELECT count(*) FROM market_data.price_snapshots").fetchone()
    assert stored == (recorder.tally.frames,)


def test_what_cannot_be_listened_to_is_said() -> None:
    with pytest.raises(SelectionError, match="no channel 'fills'; there are ticker, trade"):
        Selection(channels=("fills",))
    with pytest.raises(SelectionError, match="order books are had of markets that are named"):
        Selection(channels=("orderbook_delta",))


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({}, {"ticker": None, "trade": None, "market_lifecycle_v2": None}),
        ({"with_combos": True, "channels": ("ticker",)}, {"ticker": None}),
        (
            {"markets": ("KXA-1",)},
            {"ticker": {"KXA-1"}, "trade": {"KXA-1"}, "market_lifecycle_v2": None, "orderbook_delta": {"KXA-1"}},
        ),
        (
            {"series": ("KXB",), "everything": True},
            {"ticker": None, "trade": None, "market_lifecycle_v2": None, "orderbook_delta": {"KXB-1"}},
        ),
    ],
)
def test_what_is_named_decides_what_is_listened_to(choice: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert Selection(**choice).wanted({"KXB-1"} if "series" in choice else ()) == wanted


# As a program


@pytest.fixture
def running() -> Iterator[SimulatedExchange]:
    """An exchange in which a simulated minute passes every tenth of a second; snapshots say its time, as its clock is not ours."""
    with SimulatedExchange(seed=11, markets=60, feed={"stamped": True}) as exchange:
        exchange.let_time_pass(600)
        yield exchange


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(running: SimulatedExchange, store: Store) -> Iterator[Start]:
    """Starts the command; what is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        environment = os.environ | {"DATABASE_URL": store.url, "KALSHI_WEBSOCKET_URL": running.websocket_url}
        process = subprocess.Popen(
            [sys.executable, "-m", "kalshidb", "stream", "--spool", str(store.folder / "spool"), *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            pytest.fail(f"it ended: {process.communicate()}")


@pytest.mark.timeout(60)
def test_the_command_ends_with_sigterm_and_has_claimed_all_that_it_heard(
    store: Store, running: SimulatedExchange, start: Start
) -> None:
    tickers = busy(running.world, 600)[:3]
    process = start("--all-open", "--json", *(part for one in tickers for part in ("--market", one)))
    wait_for(lambda: store.count("market_data.orderbook_deltas") > 20 and store.count("market_data.public_trades") > 3, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert summary["rejected"] == summary["spooled"] == 0
    assert summary["written"] > 20
    (run,) = ops.recent_ingest_runs(store.conn, how_many=5)
    assert (run.status, run.run_id) == ("succeeded", summary["run_id"])
    assert set(spans(store.conn)) == set(tickers)
    assert_claims_are_true(store.conn, running.world)
    last = max(end for of_market in spans(store.conn).values() for _, end in of_market)
    assert store.value("SELECT max(delta_time) FROM market_data.orderbook_deltas") - last < timedelta(seconds=2)


@pytest.mark.timeout(60)
def test_a_stream_that_is_killed_has_claimed_nothing_that_is_not_stored(
    store: Store, running: SimulatedExchange, start: Start
) -> None:
    tickers = busy(running.world, 600)[:3]
    named = [part for one in tickers for part in ("--market", one)]
    for _ in range(2):
        before = store.count("market_data.orderbook_deltas")
        process = start(*named)
        wait_for(lambda before=before: store.count("market_data.orderbook_deltas") > before + 15, process)  # type: ignore[misc]
        process.kill()
        process.communicate()
        assert_claims_are_true(store.conn, running.world)
    process = start(*named)
    wait_for(lambda: len(ops.recent_ingest_runs(store.conn, how_many=5)) == 3, process)
    process.terminate()
    process.communicate(timeout=10)
    assert [run.status for run in ops.recent_ingest_runs(store.conn, how_many=5)][1:] == ["abandoned", "abandoned"]
    assert_claims_are_true(store.conn, running.world)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kalshidb", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "fills"], "no channel 'fills'"),
        (["--channels", "orderbook_delta"], "order books are had of markets that are named"),
    ],
)
def test_the_command_says_what_it_cannot_listen_to(options: list[str], message: str) -> None:
    done = command("stream", *options)
    assert done.returncode == 2
    assert message in done.stderr.replace("\n", " ").replace("│", "").replace("  ", " ")


def test_the_command_says_when_the_exchange_refuses_it(store: Store) -> None:
    with SimulatedExchange(seed=11, markets=60, feed={"authorise": lambda _: False}) as exchange:
        done = command(
            "stream", "--spool", str(store.folder), DATABASE_URL=store.url, KALSHI_WEBSOCKET_URL=exchange.websocket_url
        )
    assert done.returncode == 1
    assert "refuses us (401): its websocket wants an API key" in done.stderr
    (run,) = ops.recent_ingest_runs(store.conn, how_many=5)
    assert run.status == "failed"


def test_a_book_is_shown_with_what_is_known_of_it(store: Store) -> None:
    store.give({"orderbook_fp": {"yes_dollars": [["0.4000", "10.00"]], "no_dollars": []}}, market_ticker="KXA-1")
    seen = command("orderbook", "KXA-1", "--at", "2026-11-01T12:00:10", DATABASE_URL=store.url)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "last seen 2026-11-01 12:00:00.000000 UTC, 10.0 s before (poll)" in seen.stdout or "(backfill)" in seen.stdout
    assert "0.4000             10.00" in seen.stdout
    assert "nobody bids for no" in seen.stdout
    before = command("orderbook", "KXA-1", "--at", "2026-10-01", DATABASE_URL=store.url)
    assert before.returncode == 1
    assert "nothing is stored of its order book until then; the first is of 2026-11-01 12:00:00" in before.stdout
    machine = command("orderbook", "KXA-1", "--at", "2026-11-01T12:00:10", "--json", DATABASE_URL=store.url)
    assert json.loads(machine.stdout)["status"] == "last_seen"
    assert json.loads(machine.stdout)["yes_bid_prices"] == ["0.400000"]


def test_the_coverage_of_order_books_is_listed(store: Store) -> None:
    store.give(market("KXRAIN-26NOV01-NY", open_time="2026-11-01T00:00:00Z", close_time="2026-11-02T00:00:00Z"))
    ops.extend_coverage(
        store.conn,
        market_tickers=["KXRAIN-26NOV01-NY"],
        kind="orderbook",
        period_interval_minutes=0,
        covered_from=NOON,
        covered_until=NOON + timedelta(hours=3),
        run_id=None,
    )
    done = command(
        "coverage", "--kind", "orderbook", "--from", "2026-11-01T12:00", "--to", "2026-11-01T18:00", DATABASE_URL=store.url
    )
    assert done.returncode == 0
    assert "KXRAIN-26NOV01-NY  50 %  missing 2026-11-01 15:00 to 2026-11-01 18:00" in done.stdout


@pytest.mark.usefixtures("hasty")
async def test_a_claim_stands_behind_every_frame_that_it_speaks_of(
    store: Store, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is killed in between has stored more than it has claimed, never less."""
    monkeypatch.setattr("kalshidb.ingest.stream.BATCH_SECONDS", 5)  # so that frames wait when a claim is made
    tickers = busy(exchange.world)[:3]
    connect = lambda: postgres.connect(store.url, autocommit=True)  # noqa: E731
    given: list[datetime] = []  # the changes of books, as they went to the landing
    claims: list[tuple[datetime, int]] = []  # up to when was claimed, and how many changes had gone before
    async with recording(exchange, connect, store.folder, markets=tuple(tickers), channels=(BOOKS,)) as recorder:
        arrive, note = recorder._landing.arrive, recorder._landing.note

        def arrived(arrival: Arrival) -> int:
            frames = [part["frame"] for part in json.loads(arrival.body)]
            given.extend(datetime.fromisoformat(one["msg"]["ts"]) for one in frames if one["type"] == "orderbook_delta")
            return arrive(arrival)

        def noted(word: str, payload: dict[str, Any]) -> int:
            if word == "coverage":
                claims.append((datetime.fromisoformat(payload["covered_until"]), len(given)))
            return note(word, payload)

        monkeypatch.setattr(recorder._landing, "arrive", arrived)
        monkeypatch.setattr(recorder._landing, "note", noted)
        for _ in range(60):
            pass_time(exchange, minutes=1)
            await asyncio.sleep(0.02)
    assert len(claims) > 5
    for until, before in claims:
        assert not [at for at in given[before:] if at < until]
