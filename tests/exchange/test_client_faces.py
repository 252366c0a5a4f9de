"""The client asked from tasks and from threads: stopped, cancelled and interrupted in the middle, it ends at once and leaves nothing."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from kalshidb.exchange.client import (
    Answer,
    AsyncExchangeClient,
    ClientClosedError,
    ExchangeClient,
    ExchangeError,
    RateLimit,
    retry_after,
    retry_delay,
)
from kalshidb.exchange.questions import REQUESTS, Request
from kalshidb.exchange.simulator import SimulatedExchange

SOON = 5.0
"""Seconds after which something that should have happened at once has not."""


@pytest.fixture(scope="module")
def shared_exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=120) as exchange:
        yield exchange


@pytest.fixture
def exchange(shared_exchange: SimulatedExchange) -> SimulatedExchange:
    shared_exchange.requests.clear()
    return shared_exchange


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name == "asking the exchange"]
    assert left == []


@dataclass
class Mute:
    """An exchange that takes questions and says what it is told to, piece by piece; nothing by itself."""

    url: str = ""
    pieces: list[bytes] = field(default_factory=list[bytes])
    between: float = 0.0
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    hung_up: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    closing: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                self.asked.release()
                for piece in self.pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        break
                    self.closing.wait(self.between)
            self.hung_up.release()


@contextmanager
def mute(*pieces: bytes, between: float = 0.0) -> Iterator[Mute]:
    server = Mute(pieces=list(pieces), between=between)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(40) as pool:
        server.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept() -> None:
            while not server.closing.is_set():
                connection, _ = listening.accept()
                pool.submit(server.serve, connection)

        accepting = pool.submit(accept)
        try:
            yield server
        finally:
            server.closing.set()
            socket.create_connection(listening.getsockname()).close()
            accepting.result(SOON)


def answer_of(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def ended_by(
    act: Callable[[], object], ask: Callable[[], object], begun: threading.Semaphore
) -> tuple[BaseException | None, float]:
    """Ask in a thread, act once the question is there, and return what asking raised and how long after the act."""
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert begun.acquire(timeout=SOON)
        at = time.monotonic()
        act()
        error = asking.exception(timeout=SOON)
    return error, time.monotonic() - at


# From tasks.


async def test_tasks_are_answered_as_threads_are(exchange: SimulatedExchange) -> None:
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC)
    event = exchange.world.events["KXHARBORMAYOR-26"]
    with ExchangeClient(exchange.base_url, limit=None) as threaded:
        expected = [
            [page.body for page in threaded.trades(start=start)],
            [page.body for page in threaded.markets(mve_filter=None)],
            [page.body for page in threaded.event_candlesticks(event.series_ticker, event.ticker, start, end, 60)],
            [threaded.event(event.ticker).body],
        ]
        served = list(exchange.requests)
    exchange.requests.clear()
    async with AsyncExchangeClient(exchange.base_url, limit=None) as client:
        found = [
            [page.body async for page in client.trades(start=start)],
            [page.body async for page in client.markets(mve_filter=None)],
            [page.body async for page in client.event_candlesticks(event.series_ticker, event.ticker, start, end, 60)],
            [(await client.event(event.ticker)).body],
        ]
    assert found == expected
    assert exchange.requests == served
    assert len(expected[0]) > 1


async def test_a_cancelled_task_hangs_up_and_the_client_goes_on(exchange: SimulatedExchange) -> None:
    with mute() as silent:
        async with AsyncExchangeClient(silent.url, limit=None) as client:
            asking = asyncio.create_task(client.status())
            assert await asyncio.to_thread(silent.asked.acquire, timeout=SOON)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await asyncio.to_thread(silent.hung_up.acquire, timeout=SOON)
            silent.pieces = [answer_of(b'{"exchange_active": true}')]
            assert (await client.status()).document == {"exchange_active": True}


async def test_a_walk_that_is_left_early_asks_no_more(exchange: SimulatedExchange) -> None:
    async with AsyncExchangeClient(exchange.base_url, limit=None) as client:
        pages = client.pages("/markets", items="markets", limit=10)
        async for _ in pages:
            break
        await pages.aclose()
        assert len(exchange.requests) == 1


async def test_what_cannot_be_asked_is_refused_before_anything_is_awaited(exchange: SimulatedExchange) -> None:
    async with AsyncExchangeClient(exchange.base_url, limit=None) as client:
        with pytest.raises(ValueError, match="empty ticker"):
            client.market("")
        with pytest.raises(ValueError, match="ends before"):
            client.candlesticks_batch(["M"], 7, 3, 60)
    assert exchange.requests == []


async def test_closing_ends_what_other_tasks_wait_for() -> None:
    with mute() as silent:
        client = AsyncExchangeClient(silent.url, limit=None)
        asking = [asyncio.create_task(client.status()) for _ in range(3)]
        for _ in asking:
            assert await asyncio.to_thread(silent.asked.acquire, timeout=SOON)
        async with asyncio.timeout(SOON):
            await client.aclose()
            await client.aclose()
            ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [ClientClosedError] * 3


# From threads.


def test_threads_share_a_client_and_its_pace(exchange: SimulatedExchange) -> None:
    waits: list[float] = []
    with (
        ExchangeClient(exchange.base_url, limit=RateLimit(10), clock=lambda: 0.0, sleep=waits.append) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda _: client.status(), range(60)))
    assert len(answers) == len(exchange.requests) == 60
    # Each has a turn of its own: they wait for each other, not each for itself.
    assert sorted(waits) == pytest.approx([turn / 10 for turn in range(1, 60)])


def test_stopping_ends_what_is_awaited_at_once() -> None:
    with mute() as silent, ExchangeClient(silent.url, limit=None) as client:
        error, seconds = ended_by(client.stop, client.status, silent.asked)
        assert isinstance(error, ClientClosedError)
        assert seconds < SOON / 2
        with pytest.raises(ClientClosedError, match="closed"):
            client.status()


def test_closing_in_another_thread_ends_what_is_awaited_at_once() -> None:
    with mute() as silent:
        client = ExchangeClient(silent.url, limit=None)
        error, seconds = ended_by(client.close, client.status, silent.asked)
    assert isinstance(error, ClientClosedError)
    assert seconds < SOON / 2


def test_stopping_ends_the_wait_for_ones_turn_and_the_wait_after_a_failure() -> None:
    with mute(answer_of(b"{}")) as server, ExchangeClient(server.url, limit=RateLimit(0.01)) as client:
        client.status()  # the next has its turn in 100 seconds
        waits = threading.Semaphore(0)

        def ask() -> object:
            waits.release()
            return client.status()

        error, _ = ended_by(lambda: (time.sleep(0.05), client.stop()), ask, waits)
        assert isinstance(error, ClientClosedError)
    failing = answer_of(b"{}", b"Retry-After: 100", status=b"503 Service Unavailable")
    with mute(failing) as server, ExchangeClient(server.url, limit=None) as client:
        error, _ = ended_by(client.stop, client.status, server.asked)
        assert isinstance(error, ClientClosedError)


def test_a_client_that_was_never_asked_closes_and_stays_closed() -> None:
    client = ExchangeClient("http://127.0.0.1:9")
    client.stop()
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        client.status()
    with pytest.raises(ClientClosedError):
        next(client.trades())


def test_nobody_waits_for_ever_who_asks_while_it_is_closed(exchange: SimulatedExchange) -> None:
    """Asked and closed at every moment: each question ends, with an answer or as closed."""
    for pause in range(30):
        client = ExchangeClient(exchange.base_url, limit=None)
        client.status()
        ends: list[str] = []

        def ask(client: ExchangeClient = client, ends: list[str] = ends) -> None:
            try:
                while True:
                    client.status()
            except ClientClosedError:
                ends.append("closed")

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(pause / 2000)
        client.close()
        for thread in threads:
            thread.join(SOON)
        assert ends == ["closed"] * 3


def test_a_signal_may_close_the_client_in_the_middle_of_handing_over(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExchangeClient(exchange.base_url, limit=None) as client:
        client.status()
        hand_over = asyncio.run_coroutine_threadsafe

        def interrupted(asked: Coroutine[object, object, Answer], loop: asyncio.AbstractEventLoop) -> Future[Answer]:
            client.close()
            return hand_over(asked, loop)

        monkeypatch.setattr("kalshidb.exchange.client.asyncio.run_coroutine_threadsafe", interrupted)
        with pytest.raises(ClientClosedError):
            client.status()


def test_a_client_that_cannot_begin_says_why_each_time_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(asking: Coroutine[object, object, None]) -> None:
        asking.close()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("kalshidb.exchange.client.asyncio.run", run)
    with ExchangeClient("http://127.0.0.1:9", limit=None) as client:
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files"):
                client.status()
        client.stop()


def test_control_c_ends_the_wait_and_hangs_up() -> None:
    with mute() as silent, ExchangeClient(silent.url, limit=None) as client:

        def interrupt() -> None:
            silent.asked.acquire(timeout=SOON)
            os.kill(os.getpid(), signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            client.status()
        interrupting.join()
        assert silent.hung_up.acquire(timeout=SOON)
        silent.pieces = [answer_of(b"{}")]
        assert client.status().status == 200


@pytest.mark.parametrize("handler", ["stop", "close"])
def test_a_signal_may_stop_the_client_and_the_process_ends_without_noise(exchange: SimulatedExchange, handler: str) -> None:
    program = textwrap.dedent(f"""
        import signal, sys
        from kalshidb.exchange.client import ClientClosedError, ExchangeClient
        client = ExchangeClient(sys.argv[1], limit=None)
        signal.signal(signal.SIGTERM, lambda *_: client.{handler}())
        forgotten = ExchangeClient(sys.argv[2], limit=None)
        forgotten.status()
        try:
            client.status()
        except ClientClosedError:
            print("stopped")
    """)
    with mute() as silent:
        asking = subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", program, silent.url, exchange.base_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert silent.asked.acquire(timeout=2 * SOON)
        asking.send_signal(signal.SIGTERM)
        out, err = asking.communicate(timeout=SOON)
    assert (out, err, asking.returncode) == ("stopped\n", "", 0)


# Slow and busy exchanges.


def test_an_answer_that_dribbles_is_given_up_although_each_piece_is_in_time() -> None:
    body = answer_of(b"{}" + b" " * 1000)
    with (
        mute(body[:80], *(b" " for _ in range(100)), between=0.05) as slow,
        ExchangeClient(slow.url, limit=None, timeout=2.0, answer_within=0.3, max_retries=1, chance=lambda: 0.0) as client,
    ):
        begun = time.monotonic()
        with pytest.raises(ExchangeError, match=r"no whole answer within 0\.3 s") as caught:
            client.status()
        assert 0.6 <= time.monotonic() - begun < SOON / 2  # and it was asked again
        assert (caught.value.status, caught.value.code) == (None, "too_slow")
        assert slow.hung_up.acquire(timeout=SOON)


@pytest.mark.parametrize(
    ("status", "header", "waited"),
    [
        (b"503 Service Unavailable", b"Retry-After: 7", 7.0),
        (b"429 Too Many Requests", b"retry-after:  7 ", 7.0),
        (b"503 Service Unavailable", b"Retry-After: 86400", 300.0),
        (b"503 Service Unavailable", b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", 0.25),
        (b"503 Service Unavailable", b"Retry-After: -1", 0.25),
        (b"503 Service Unavailable", b"X: y", 0.25),
    ],
)
def test_who_asks_to_be_left_alone_is_left_alone_within_reason(status: bytes, header: bytes, waited: float) -> None:
    slept: list[float] = []
    with (
        mute(answer_of(b"{}", header, status=status)) as busy,
        ExchangeClient(busy.url, limit=None, max_retries=1, sleep=slept.append, chance=lambda: 0.5) as client,
        pytest.raises(ExchangeError),
    ):
        client.status()
    assert slept == [waited]


def test_waits_are_never_shorter_than_was_asked_for() -> None:
    assert retry_delay(0, 0.5, asked=2.0) == 2.0
    assert retry_delay(5, 1.0, asked=2.0) == 16.0
    assert retry_after(None) == retry_after("") == retry_after("soon") == retry_after("9" * 400) == 0.0


# The requests by themselves.


def test_requests_are_those_that_a_client_sends(exchange: SimulatedExchange) -> None:
    end = datetime(2026, 10, 20, tzinfo=UTC)
    questions: list[Callable[[ExchangeClient], object]] = []
    asked: list[Request] = [
        REQUESTS.status(),
        *REQUESTS.events(series_ticker="KXHARBORMAYOR"),
        *REQUESTS.candlesticks_batch([f"T{n}" for n in range(150)], end - timedelta(days=30), end, 60),
    ]
    questions = [
        lambda client: client.status(),
        lambda client: list(client.events(series_ticker="KXHARBORMAYOR")),
        lambda client: list(client.candlesticks_batch([f"T{n}" for n in range(150)], end - timedelta(days=30), end, 60)),
    ]
    with ExchangeClient(exchange.base_url, limit=None) as client:
        for question in questions:
            question(client)
        assert [served.path.removeprefix("/trade-api/v2") for served in exchange.requests] == [one.path for one in asked]
        assert [client.send(one).status for one in asked] == [200] * len(asked)
    assert list(REQUESTS.markets_named([])) == []
