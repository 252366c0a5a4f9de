"""Many writers at once: no deadlock, no lost row, and the newest observation wins whoever writes it."""

import multiprocessing
import random
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sample_rows import DAY, HOUR, NOON, SECOND, candle, event, market, quote, rows_of, series, trade

from kalshidb.models.market_data import Candlestick
from kalshidb.queries import catalog, market_data

WRITERS, ROUNDS = 8, 12
TICKERS = [f"E{number % 6}-{number}" for number in range(30)]
EVENTS = sorted({ticker.partition("-")[0] for ticker in TICKERS})


def observations(writer: int, round_: int) -> list[tuple[Any, list[Any]]]:
    """Return what one writer has seen: other keys in another order each time, each with a moment of its own."""
    chance = random.Random(writer * 1000 + round_)  # noqa: S311
    seen = NOON + (round_ * WRITERS + writer) * SECOND
    title = f"as of {seen:%H:%M:%S}"

    def some(keys: list[str], share: float = 0.6) -> list[str]:
        return chance.sample(keys, k=round(len(keys) * share))

    kinds: list[tuple[Any, list[Any]]] = [
        (catalog.upsert_series, [series("KXHIGHNY", title=title, retrieved_at=seen)]),
        (catalog.upsert_events, [event(ticker, title=title, retrieved_at=seen) for ticker in some(EVENTS)]),
        (catalog.upsert_markets, [market(ticker, title=title, retrieved_at=seen) for ticker in some(TICKERS)]),
        (
            market_data.upsert_candlesticks,
            [
                candle(
                    ticker,
                    NOON + chance.randrange(4) * 31 * DAY,
                    volume=Decimal(seen.minute * 60 + seen.second),
                    retrieved_at=seen,
                )
                for ticker in some([*TICKERS, "E7-99"])
            ],
        ),
        (market_data.insert_public_trades, [trade(chance.randrange(500), at=NOON + DAY) for _ in range(20)]),
    ]
    chance.shuffle(kinds)
    return kinds


KEYS = {"series": "series_ticker", "events": "event_ticker", "markets": "market_ticker"}


def test_eight_writers_of_the_same_rows_neither_block_each_other_for_ever_nor_lose_one(database_url: str) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(WRITERS)

    def work(writer: int) -> None:
        try:
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("SET deadlock_timeout = '50ms'; SET lock_timeout = '30s'")
                start.wait(20)
                for round_ in range(ROUNDS):
                    for write, rows in observations(writer, round_):
                        write(connection, rows)
        except BaseException as error:
            errors.append(error)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(work, range(WRITERS)))
    assert errors == []

    newest: dict[tuple[Any, ...], Any] = {}
    trades = set()
    for writer in range(WRITERS):
        for round_ in range(ROUNDS):
            for _, rows in observations(writer, round_):
                for row in rows:
                    if hasattr(row, "trade_id"):
                        trades.add(row.trade_id)
                        continue
                    key = (type(row).__name__, *(getattr(row, name, None) for name in (*KEYS.values(), "end_period_ts")))
                    if type(row).__name__ in ("MarketInput", "EventInput"):
                        key = (key[0], getattr(row, "market_ticker", None) or row.event_ticker)
                    if key not in newest or newest[key].retrieved_at < row.retrieved_at:
                        newest[key] = row
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        found = {
            "SeriesInput": rows_of(connection, "catalog.series", "1"),
            "EventInput": rows_of(connection, "catalog.events", "1"),
            "MarketInput": [row for row in rows_of(connection, "catalog.markets", "1") if not row["is_stub"]],
            "Candlestick": rows_of(connection, "market_data.candlesticks", "1, 2"),
        }
        for kind, rows in found.items():
            expected = [row for key, row in newest.items() if key[0] == kind]
            identity = next(name for name in ("market_ticker", "event_ticker", "series_ticker") if hasattr(expected[0], name))
            expected.sort(key=lambda row: (getattr(row, identity), getattr(row, "end_period_ts", None)))
            own = {"series_ticker", "category"} if kind == "MarketInput" else set()  # those come from the event
            assert [
                {name: row[name] for name in want.model_dump(exclude=own)} for row, want in zip(rows, expected, strict=True)
            ] == [want.model_dump(exclude=own) for want in expected]
        assert {row["series_ticker"] for row in found["MarketInput"]} == {"KXHIGHNY"}
        assert [stub.ticker for stub in catalog.stubs(connection)] == ["E7-99"]
        assert {row["trade_id"] for row in rows_of(connection, "market_data.public_trades", "1")} == trades


MANY_ROUNDS = 100


def overlapping_candles(writer: int, round_: int) -> list[Candlestick]:
    """Return some of a few candles, in an order of this writer's and round's own, as of a moment of its own."""
    turn = round_ * WRITERS + writer
    tickers = random.Random(turn).sample(TICKERS[:5], k=3)  # noqa: S311
    return [candle(ticker, volume=Decimal(turn), retrieved_at=NOON + turn * SECOND) for ticker in tickers]


def write_rounds(address: str, writer: int) -> int:
    """Write every round of one writer; runs in a process of its own."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET deadlock_timeout = '50ms'; SET lock_timeout = '30s'")
        written = 0
        for round_ in range(MANY_ROUNDS):
            written += market_data.upsert_candlesticks(connection, overlapping_candles(writer, round_)).written
        return written


def test_eight_processes_write_the_same_rows_a_hundred_times_and_the_newest_stays(database_url: str) -> None:
    """Takes its time: what two writers may do to each other shows only when they meet often."""
    context = multiprocessing.get_context("forkserver")  # they import once, not eight times
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(WRITERS, mp_context=context) as pool:
        written = list(pool.map(write_rounds, [database_url] * WRITERS, range(WRITERS)))
    newest: dict[str, Decimal] = {}
    for round_ in range(MANY_ROUNDS):
        for writer in range(WRITERS):
            newest |= {row.market_ticker: Decimal(round_ * WRITERS + writer) for row in overlapping_candles(writer, round_)}
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("SELECT market_ticker, volume FROM market_data.candlesticks").fetchall()
    assert dict(stored) == newest
    assert len(stored) == len(newest)
    assert sum(written) >= len(newest)


def test_events_and_their_markets_written_at_once_do_not_wait_in_a_circle(database_url: str) -> None:
    """One writer of markets has a new last event, and a known first one that a writer of events holds."""
    with psycopg.connect(database_url) as connection:
        catalog.upsert_events(connection, [event("E1")])
    results = []
    for turn in range(15):
        start = threading.Barrier(2)
        new = f"E9{turn:02}"

        def markets(start: threading.Barrier = start, new: str = new) -> None:
            with psycopg.connect(database_url) as connection:
                start.wait(10)
                results.append(catalog.upsert_markets(connection, [market(f"{new}-1"), market(f"E1-{new}")]).inserted)

        def events(start: threading.Barrier = start, new: str = new, turn: int = turn) -> None:
            with psycopg.connect(database_url) as connection:
                start.wait(10)
                seen = NOON + turn * SECOND
                catalog.upsert_events(connection, [event("E1", title=f"turn {turn}", retrieved_at=seen), event(new)])

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(markets), pool.submit(events)]:
                done.result(20)
    assert results == [2] * 15
    with psycopg.connect(database_url) as connection:
        assert {stub.kind for stub in catalog.stubs(connection)} == {"series"}


def test_a_writer_of_markets_takes_events_in_order_whether_they_exist_or_not(database_url: str) -> None:
    """Were the missing event E9 made before the known E1 is locked, the writer of events would wait for it in a circle."""
    with (
        psycopg.connect(database_url) as setup,
        psycopg.connect(database_url) as events,
        psycopg.connect(database_url, autocommit=True) as watcher,
    ):
        catalog.upsert_events(setup, [event("E1")])
        events.execute("BEGIN")
        catalog.upsert_events(events, [event("E1", title="held", retrieved_at=NOON + HOUR)])

        def write() -> int | None:
            with psycopg.connect(database_url) as connection:
                return catalog.upsert_markets(connection, [market("E9-1"), market("E1-1")]).inserted

        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write)
            waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            while watcher.execute(waits).fetchone() == (0,):
                assert not written.done()
            catalog.upsert_events(events, [event("E9")])
            events.commit()
            assert written.result(20) == 2


@pytest.mark.parametrize("search_path", ["public", "market_data"])
def test_writers_that_miss_the_same_months_make_each_of_them_once(database_url: str, search_path: str) -> None:
    start = threading.Barrier(6)
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 7)]

    def work(writer: int) -> int:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"SET search_path TO {search_path if writer % 2 else 'public'}")
            start.wait(20)
            rows = [candle(f"E1-{writer}", month) for month in months]
            return market_data.upsert_candlesticks(connection, rows).written

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [6] * 6
    with psycopg.connect(database_url) as connection:
        made = connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'market_data.candlesticks'::regclass"
        ).fetchone()
        assert made == (6,)
        assert len(rows_of(connection, "market_data.candlesticks", "1")) == 36


def test_readers_go_on_while_a_month_is_made(database_url: str) -> None:
    with psycopg.connect(database_url) as writer, psycopg.connect(database_url) as reader:
        market_data.upsert_price_snapshots(writer, [quote()])
        writer.commit()
        market_data.latest_snapshot(reader, market_ticker="E1-1")  # its transaction stays open
        writer.execute("SET lock_timeout = '5s'")
        market_data.upsert_price_snapshots(writer, [quote(at=NOON + 40 * DAY)])
        reader.execute("SET lock_timeout = '5s'")
        assert market_data.latest_snapshot(reader, market_ticker=quote().market_ticker).snapshot_time == NOON  # type: ignore[union-attr]
