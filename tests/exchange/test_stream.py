"""The websocket over the wire: the simulated exchange's feed, and a stream that outlives everything that goes wrong with it."""

import asyncio
import base64
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from websockets.sync.client import connect

from kalshidb.exchange.dialogue import BOOKS, Event, Frame, Gap, Refusal, Repaired, Whole
from kalshidb.exchange.signing import Signer
from kalshidb.exchange.simulator import SimulatedExchange, World
from kalshidb.exchange.simulator.feed import Feed, FeedFault
from kalshidb.exchange.simulator.world import CONTRACT, DOLLAR, MINUTE, Book, Trade, moment_of
from kalshidb.exchange.stream import Stream, StreamError

Levels = dict[str, dict[Decimal, Decimal]]


def levels(book: Book) -> Levels:
    """The world's book in dollars and contracts."""
    return {
        side: {Decimal(price) / DOLLAR: Decimal(count) / CONTRACT for price, count in bids}
        for side, bids in (("yes", book.yes), ("no", book.no))
    }


def busy(world: World, minutes: int = 60) -> list[str]:
    """Markets that are open and in which something happens soon, the busiest first."""
    until = world.now + minutes * MINUTE
    count = Counter(
        ticker
        for at, ticker, _ in world.happenings(world.now)
        if at < until and world.status(world.markets[ticker]) == "active" and world.markets[ticker].close > until
    )
    return [ticker for ticker, _ in count.most_common()]


class Follower:
    """Follows a stream: what came, what it means, and the books as they follow from the frames alone."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.events: list[Event] = []
        self.books: dict[str, Levels] = {}
        self.known: set[str] = set()
        self.place = (0, 0, 0)
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self.stream.listen():
            if isinstance(event, Frame):
                self.frames.append(event)
                self._apply(event.document or {})
            else:
                self.events.append(event)
            if isinstance(event, Whole):
                self.known.add(event.ticker)
            elif isinstance(event, Gap) and event.channel == BOOKS:
                self.known.clear()

    def _apply(self, frame: Mapping[str, Any]) -> None:
        message = frame.get("msg") or {}
        # What comes twice or late has been taken, or is within a snapshot that came since.
        if frame.get("type") in {"orderbook_snapshot", "orderbook_delta"}:
            place = (self.stream.connections, frame["sid"], frame["seq"])
            if place <= self.place:
                return
            self.place = place
        if frame.get("type") == "orderbook_snapshot":
            self.books[message["market_ticker"]] = {
                side: {Decimal(price): Decimal(count) for price, count in message.get(f"{side}_dollars_fp", ())}
                for side in ("yes", "no")
            }
        elif frame.get("type") == "orderbook_delta":
            side = self.books[message["market_ticker"]][message["side"]]
            price = Decimal(message["price_dollars"])
            side[price] = side.get(price, Decimal()) + Decimal(message["delta_fp"])
            if not side[price]:
                del side[price]

    def of(self, word: str) -> list[dict[str, Any]]:
        return [document["msg"] for document in self.documents if document["type"] == word]

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [frame.document for frame in self.frames if frame.document is not None]

    def found(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(10):
            while not condition():
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        self.stream.stop()
        await self.task


def pass_time(exchange: SimulatedExchange, **span: float) -> None:
    exchange.move_to(moment_of(exchange.world.now) + timedelta(**span))


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=11, markets=60, feed=True) as exchange:
        yield exchange


async def follow(exchange: SimulatedExchange, **wanted: list[str] | None) -> Follower:
    follower = Follower(Stream(wanted, url=exchange.websocket_url, pause=0.01))
    await follower.until(lambda: Counter(document["type"] for document in follower.documents)["subscribed"] == len(wanted))
    books = wanted.get(BOOKS)
    await follower.until(lambda: follower.known == set(books or ()))
    return follower


async def test_snapshot_and_deltas_give_the_book_at_every_moment(exchange: SimulatedExchange) -> None:
    world, tickers = exchange.world, busy(exchange.world)[:4]
    follower = await follow(exchange, orderbook_delta=tickers)
    for _ in range(40):
        pass_time(exchange, minutes=2)
        expected = {ticker: levels(world.book(ticker)) for ticker in tickers}
        await follower.until(lambda expected=expected: follower.books == expected)  # type: ignore[misc]
    assert len(follower.of("orderbook_delta")) > 100
    assert not follower.found(Gap)
    await follower.end()


async def test_deltas_carry_the_moment_at_which_the_book_changed(exchange: SimulatedExchange) -> None:
    world, ticker = exchange.world, busy(exchange.world)[0]
    follower = await follow(exchange, orderbook_delta=[ticker])
    pass_time(exchange, hours=1)
    expected = levels(world.book(ticker))
    await follower.until(lambda: follower.books[ticker] == expected)
    for change in follower.of("orderbook_delta"):
        at = (datetime.fromisoformat(change["ts"]) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        price = Decimal(change["price_dollars"])
        before, after = (levels(world.book(ticker, moment))[change["side"]].get(price, Decimal()) for moment in (at - 1, at))
        assert after - before == Decimal(change["delta_fp"])
        assert change["ts_ms"] == at // 1000
    await follower.end()


async def test_trades_quotes_and_lives_come_as_they_happen(exchange: SimulatedExchange) -> None:
    world = exchange.world
    begun = world.now
    follower = await follow(exchange, ticker=None, trade=None, market_lifecycle_v2=None)
    pass_time(exchange, hours=8)
    trades = {trade.trade_id for _, _, trade in world.happenings(begun) if isinstance(trade, Trade) and trade.time <= world.now}
    await follower.until(lambda: {message["trade_id"] for message in follower.of("trade")} == trades)
    assert len(follower.of("trade")) == len(trades) > 10
    quotes = {message["market_ticker"]: message for message in follower.of("ticker")}
    for ticker, message in quotes.items():
        if world.status(world.markets[ticker]) == "active":
            bid, ask = world.history(ticker).quote_at(world.now)
            assert (Decimal(message["yes_bid_dollars"]), Decimal(message["yes_ask_dollars"])) == (
                Decimal(bid) / DOLLAR,
                Decimal(ask) / DOLLAR,
            )
    lives = Counter(message["event_type"] for message in follower.of("market_lifecycle_v2"))
    assert lives["determined"]
    assert lives["settled"]
    assert "closed" not in lives  # what happens by the clock is told nobody
    await follower.end()


@pytest.mark.parametrize("fault", get_args(FeedFault))
async def test_books_are_right_again_after_every_fault(
    exchange: SimulatedExchange, fault: FeedFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, tickers = exchange.world, busy(exchange.world)[:3]
    follower = await follow(exchange, orderbook_delta=tickers)
    if fault == "silence":
        monkeypatch.setattr("kalshidb.exchange.dialogue.SILENCE", 0.3)  # nobody waits half a minute
        monkeypatch.setattr("kalshidb.exchange.dialogue.QUIET", 0.1)
    exchange.feed.fail(fault, channel=BOOKS)
    pass_time(exchange, minutes=20)
    for _ in range(10):
        pass_time(exchange, minutes=2)
    is_gap = fault not in {"duplicate", "unknown"}
    if is_gap:
        await follower.until(lambda: follower.found(Gap))
        await follower.until(lambda: follower.found(Repaired))
        reasons = {"overflow": "overflow", "channel_error": "channel_error", "drop": "disconnect", "silence": "silence"}
        assert {gap.reason for gap in follower.found(Gap)} == {reasons.get(fault, "sequence")}
    expected = {ticker: levels(world.book(ticker)) for ticker in tickers}
    await follower.until(lambda: follower.known == set(tickers) and follower.books == expected)
    assert bool(follower.found(Gap)) == is_gap
    assert follower.stream.connections == (2 if fault in {"drop", "silence"} else 1)
    await follower.end()


async def test_the_exchange_may_be_away_for_a_while() -> None:
    with SimulatedExchange(seed=11, markets=60, feed=True) as exchange:
        tickers, port = busy(exchange.world)[:2], int(exchange.websocket_url.split(":")[2].partition("/")[0])
        follower = await follow(exchange, orderbook_delta=tickers)
    await follower.until(lambda: follower.stream.last_failure and "ConnectionRefused" in follower.stream.last_failure)
    with SimulatedExchange(seed=11, markets=60, feed={"port": port}) as exchange:
        exchange.feed.refuse(503, 401)  # not ready yet: what is fatal at the beginning is a hiccup later
        await follower.until(lambda: follower.known == set(tickers))
        assert exchange.feed.handshakes == [503, 401, 101]
        await follower.end()


async def test_markets_can_be_added_and_left_while_it_runs(exchange: SimulatedExchange) -> None:
    first, second, third = busy(exchange.world)[:3]
    follower = await follow(exchange, orderbook_delta=[first, second])
    await follower.stream.want(BOOKS, [second, third])
    await follower.until(lambda: third in follower.known)
    pass_time(exchange, hours=1)
    expected = {ticker: levels(exchange.world.book(ticker)) for ticker in (second, third)}
    await follower.until(lambda: {ticker: follower.books[ticker] for ticker in (second, third)} == expected)
    assert [command["params"].get("action") for command in exchange.feed.commands] == [None, "delete_markets", "add_markets"]
    await follower.end()


async def test_more_markets_than_a_subscription_takes_are_told() -> None:
    with SimulatedExchange(seed=11, markets=60, feed={"market_limit": 2}) as exchange:
        tickers = sorted(busy(exchange.world)[:3])
        follower = Follower(Stream({BOOKS: tickers}, url=exchange.websocket_url))
        await follower.until(lambda: follower.found(Refusal))
        assert [refusal.tickers for refusal in follower.found(Refusal)] == [(tickers[2],)]
        assert follower.known == set(tickers[:2])
        await follower.end()


async def test_a_reader_that_is_too_slow_is_told_so_and_begins_anew() -> None:
    with SimulatedExchange(seed=11, markets=60, feed={"buffer": 20}) as exchange:
        tickers = busy(exchange.world)[:3]
        follower = await follow(exchange, orderbook_delta=tickers)
        pass_time(exchange, hours=2)
        await follower.until(lambda: follower.found(Repaired))
        assert {gap.reason for gap in follower.found(Gap)} == {"overflow"}
        expected = {ticker: levels(exchange.world.book(ticker)) for ticker in tickers}
        await follower.until(lambda: follower.books == expected)
        await follower.end()


async def test_the_handshake_is_signed_with_the_key_and_no_log_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "key.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    def is_signed(headers: Mapping[str, str]) -> bool:
        try:
            signature = base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"])
            said = f"{headers['KALSHI-ACCESS-TIMESTAMP']}GET/trade-api/ws/v2".encode()
            pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
            key.public_key().verify(signature, said, pss, hashes.SHA256())
        except (KeyError, InvalidSignature):
            return False
        return headers["KALSHI-ACCESS-KEY"] == "an id"

    with SimulatedExchange(seed=11, markets=60, feed={"authorise": is_signed}) as exchange:
        follower = Follower(Stream({"trade": None}, url=exchange.websocket_url, sign=Signer("an id", file).headers))
        await follower.until(lambda: follower.frames)
        await follower.end()
        ours = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]  # the exchange's own
        assert any("GET /trade-api/ws/v2" in line for line in ours)
        assert not any("KALSHI-ACCESS" in line for line in ours)
        with pytest.raises(StreamError, match=r"refuses us \(401\): its websocket wants an API key"):
            await Follower(Stream({"trade": None}, url=exchange.websocket_url)).task


@pytest.mark.parametrize(
    ("url", "message"),
    [("http://127.0.0.1:1/trade-api/ws/v2", "no address of a websocket"), ("{}/else", r"no websocket at .*/else \(404\)")],
)
async def test_an_address_that_is_none_is_an_error(exchange: SimulatedExchange, url: str, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        await Follower(Stream({"trade": None}, url=url.format(exchange.websocket_url))).task


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("no json", 1),
        ("[]", 1),
        ({"cmd": "dance"}, 5),
        ({"cmd": "subscribe"}, 2),
        ({"cmd": "subscribe", "params": {"market_tickers": ["X"]}}, 3),
        ({"cmd": "subscribe", "params": {"channels": ["fills"]}}, 8),
        ({"cmd": "subscribe", "params": {"channels": ["orderbook_delta"]}}, 14),
        ({"cmd": "subscribe", "params": {"channels": ["ticker"], "market_tickers": "X"}}, 11),
        ({"cmd": "unsubscribe", "params": {}}, 4),
        ({"cmd": "unsubscribe", "params": {"sids": [9]}}, 7),
        ({"cmd": "update_subscription", "params": {"sids": [1, 2], "action": "add_markets"}}, 12),
    ],
)
def test_commands_that_are_wrong_are_answered_as_the_exchange_does(
    exchange: SimulatedExchange, command: object, code: int
) -> None:
    with connect(exchange.websocket_url) as socket:
        socket.send(command if isinstance(command, str) else json.dumps({"id": 7, **cast("dict[str, Any]", command)}))
        answer = json.loads(socket.recv(timeout=5))
    assert (answer["type"], answer["msg"]["code"]) == ("error", code)
    assert answer.get("id") == (None if isinstance(command, str) else 7)


def test_a_second_subscription_of_a_channel_adds_to_the_first(exchange: SimulatedExchange) -> None:
    first, second = busy(exchange.world)[:2]
    with connect(exchange.websocket_url) as socket:
        for number, ticker in enumerate((first, second, first)):
            params = {"channels": [BOOKS], "market_ticker": ticker}
            socket.send(json.dumps({"id": number, "cmd": "subscribe", "params": params}))
        frames = [json.loads(socket.recv(timeout=5)) for _ in range(5)]
    assert [(frame["type"], frame.get("sid"), frame.get("seq")) for frame in frames] == [
        ("subscribed", None, None),
        ("orderbook_snapshot", 1, 1),
        ("ok", 1, 2),
        ("orderbook_snapshot", 1, 3),
        ("ok", 1, 4),
    ]
    assert frames[2]["msg"]["market_tickers"] == sorted([first, second])


def test_faults_at_random_repeat_with_their_seed() -> None:
    def ended(seed: int) -> list[FeedFault | None]:
        feed = Feed(World(markets=60))
        feed.fail_at_random(0.3, seed)
        return [feed._next_fault("trade") for _ in range(50)]

    assert ended(1) == ended(1)
    assert ended(1) != ended(2)
    assert 5 < sum(fault is not None for fault in ended(1)) < 30


def test_the_process_prints_both_addresses_and_its_clock_runs() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kalshidb.exchange.simulator",
            "--markets",
            "60",
            "--seed",
            "11",
            "--speed",
            "3600",
            "--websocket",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url, websocket_url = process.stdout.readline().strip(), process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with connect(websocket_url, close_timeout=0.1) as socket:  # its goodbye would stand behind all that is still coming
            socket.send(json.dumps({"id": 1, "cmd": "subscribe", "params": {"channels": ["ticker"]}}))
            socket.recv(timeout=5)
            stamps = [json.loads(socket.recv(timeout=5))["msg"]["ts_ms"] for _ in range(5)]
        process.terminate()
        assert process.wait(10) == 0
    assert stamps == sorted(stamps)
    assert stamps[-1] > stamps[0]
