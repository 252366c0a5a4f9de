"""The websocket face of the simulated exchange: subscriptions, sequence numbers, snapshots and deltas, and faults on request.

A real websocket server on 127.0.0.1. What happens is decided by `world`, how it is spelled by `frames`. Needs the extra `stream`
(websockets). The habits of the real exchange are kept: one subscription a channel and connection, so that a second `subscribe` only
adds markets and is answered by `ok`; numbers (`seq`) count over all markets of a subscription, control frames included, and begin
again with each; the ticker has none; a market that opens or closes by the clock is told nobody.
"""

import asyncio
import json
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from itertools import groupby
from random import Random
from typing import Any, Literal, cast, get_args

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
except ImportError as error:
    raise ImportError("the websocket needs websockets: pip install 'kalshidb[stream]'") from error

from kalshidb.exchange.simulator.frames import delta_messages, lifecycle_message, snapshot_message, ticker_message, trade_message
from kalshidb.exchange.simulator.wire import Document
from kalshidb.exchange.simulator.world import Happening, Trade, World, moment_of

PATH = "/trade-api/ws/v2"
CHANNELS = ("ticker", "trade", "orderbook_delta", "market_lifecycle_v2", "multivariate_market_lifecycle")
ERRORS: Mapping[int, str] = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    10: "Channel error",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market Ticker required",
    15: "Action required",
    25: "Subscription buffer overflow",
    26: "Subscription market limit exceeded",
    27: "Too many requests",
}

FeedFault = Literal[
    "drop", "swallow", "duplicate", "reorder", "overflow", "channel_error", "silence", "cut", "garbage", "unknown"
]
"""What may happen instead of sending a frame as it is: the connection is dropped; the frame is lost, sent twice, or sent after the next;
its subscription ends (25, 10); nothing more is sent or heard on the connection; half of the frame, something that is no JSON, or a frame of
an unknown type with the next number before it."""

_ENDS: Mapping[FeedFault | None, int] = {"overflow": 25, "channel_error": 10}

Authorise = Callable[[Mapping[str, str]], bool]


class _RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class _Subscription:
    sid: int
    channel: str
    tickers: set[str] | None
    """None: all markets."""
    seq: int = 0

    def wants(self, ticker: str) -> bool:
        return self.tickers is None or ticker in self.tickers


@dataclass(eq=False, slots=True)
class _Client:
    socket: ServerConnection
    subscriptions: dict[int, _Subscription] = field(default_factory=dict[int, _Subscription])
    outbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue[str])
    held: str | None = None
    sids: int = 0
    is_silent: bool = False


class Feed:
    """A websocket server over a world, which sends what happens as the world's clock moves.

    Args:
        world: the truth; it must move through `advance` afterwards.
        port: where to listen on 127.0.0.1; 0 takes a free one.
        authorise: judges the headers of a handshake; None lets everybody in.
        stamped: whether snapshots of books say the exchange's time, which the real ones do not: for a clock that is not ours.
        buffer: frames that wait for a slow reader before its subscription ends with an overflow.
        market_limit: how many markets a subscription may name.
    """

    def __init__(
        self,
        world: World,
        *,
        port: int = 0,
        authorise: Authorise | None = None,
        stamped: bool = False,
        buffer: int = 100_000,
        market_limit: int = 10_000,
    ) -> None:
        self.commands: list[Document] = []
        """What clients asked for, oldest first."""
        self.handshakes: list[int] = []
        """Statuses that handshakes were answered with; 101 let the client in."""
        self.delay = 0.0
        """Seconds before each frame: a slow line."""
        self._world = world
        self._port = port
        self._authorise = authorise
        self._stamped = stamped
        self._buffer = buffer
        self._market_limit = market_limit
        self._at = world.now
        self._timeline: list[tuple[int, str, Happening]] | None = None
        self._clients: set[_Client] = set()
        self._faults: deque[tuple[FeedFault, str | None]] = deque()
        self._refusals: deque[int] = deque()
        self._chance: tuple[Random, float, tuple[FeedFault, ...]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: Server | None = None

    # For whoever runs it.

    @property
    def url(self) -> str:
        """Where it listens. RuntimeError: not started."""
        if self._server is None:
            raise RuntimeError("the feed is not running")
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}{PATH}"

    @property
    def present(self) -> datetime:
        """Up to which moment everything that happened has been told: the clock of whoever listens in the simulated time."""
        return moment_of(self._at)

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def start(self) -> None:
        """Begin to serve."""
        ready = threading.Event()
        failure: list[BaseException] = []

        async def run() -> None:
            try:
                self._server = await serve(self._talk, "127.0.0.1", self._port, process_request=self._greet, ping_interval=10)
            except OSError as error:
                failure.append(error)
                ready.set()
                return
            self._loop = asyncio.get_running_loop()
            ready.set()
            await self._server.wait_closed()

        self._thread = threading.Thread(target=lambda: asyncio.run(run()), name="simulated feed")
        self._thread.start()
        ready.wait()
        if failure:
            self._thread.join()
            raise failure[0]

    def close(self) -> None:
        """End all connections and stop. Closing twice is harmless."""
        if self._loop is None or self._thread is None or self._server is None:
            return

        def stop() -> None:
            self._drop()  # a client that was silenced would not hear a polite goodbye
            cast(Server, self._server).close()

        self._loop.call_soon_threadsafe(stop)
        self._thread.join()
        self._loop = self._thread = self._server = None

    def advance(self) -> None:
        """Send what happened since the last time; returns when it is on its way to every client."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._advance(), self._loop).result()

    def fail(self, *faults: FeedFault, channel: str | None = None) -> None:
        """Let the next frames of data go wrong, one fault each; of a channel, or of any."""
        for fault in faults:
            if fault not in get_args(FeedFault):
                raise ValueError(f"no fault {fault!r}: {', '.join(get_args(FeedFault))}")
        self._faults.extend((fault, channel) for fault in faults)

    def fail_at_random(self, rate: float, seed: int = 0, faults: Iterable[FeedFault] = get_args(FeedFault)) -> None:
        """Let a share of all frames of data go wrong from now on; 0 ends it."""
        self._chance = (Random(seed), rate, tuple(faults)) if rate else None

    def refuse(self, *statuses: int) -> None:
        """Answer the next handshakes with these statuses, such as 401 or 503."""
        self._refusals.extend(statuses)

    def drop(self) -> None:
        """Drop every connection now, without a goodbye."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for client in self._clients:
            client.socket.transport.abort()

    # The connection.

    def _greet(self, socket: ServerConnection, request: Request) -> Response | None:
        status = self._refusals.popleft() if self._refusals else 101
        if status == 101 and request.path.partition("?")[0] != PATH:
            status = 404
        if status == 101 and self._authorise is not None and not self._authorise(request.headers):
            status = 401
        self.handshakes.append(status)
        return None if status == 101 else socket.respond(HTTPStatus(status), "")

    async def _talk(self, socket: ServerConnection) -> None:
        client = _Client(socket)
        self._clients.add(client)
        writer = asyncio.create_task(self._write(client))
        try:
            async for text in socket:
                if not client.is_silent:
                    self._obey(client, text)
        except ConnectionClosed:
            pass
        finally:
            self._clients.discard(client)
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer

    async def _write(self, client: _Client) -> None:
        while True:
            text = await client.outbox.get()
            if self.delay:
                await asyncio.sleep(self.delay)
            if not client.is_silent:
                try:
                    await client.socket.send(text)
                except ConnectionClosed:
                    return

    # Commands.

    def _obey(self, client: _Client, text: str | bytes) -> None:
        number: Any = None
        try:
            try:
                command = json.loads(text)
            except ValueError:
                raise _RefusedError(1) from None
            if not isinstance(command, dict):
                raise _RefusedError(1)
            self.commands.append(command)
            number = command.get("id")
            params = command.get("params") or {}
            match command.get("cmd"):
                case "subscribe":
                    self._subscribe(client, number, params)
                case "unsubscribe":
                    for sid in params.get("sids") or _refuse(4):
                        subscription = client.subscriptions.pop(sid, None) or _refuse(7)
                        self._control(client, "unsubscribed", number, subscription)
                case "update_subscription":
                    self._update(client, number, params)
                case "list_subscriptions":
                    listed = [{"channel": one.channel, "sid": one.sid} for one in client.subscriptions.values()]
                    self._control(client, "ok", number, message=listed)
                case _:
                    _refuse(5)
        except _RefusedError as refusal:
            self._control(client, "error", number, message={"code": refusal.code, "msg": ERRORS[refusal.code]})

    def _subscribe(self, client: _Client, number: object, params: Document) -> None:
        if not params:
            _refuse(2)
        for channel in params.get("channels") or _refuse(3):
            if channel not in CHANNELS:
                _refuse(8)
            tickers = None if channel.endswith(("lifecycle", "lifecycle_v2")) else _tickers_of(params)
            if channel == "orderbook_delta" and not tickers:
                _refuse(14)
            there = next((one for one in client.subscriptions.values() if one.channel == channel), None)
            if there is not None:
                self._add(client, there, tickers, number, params)
                continue
            if tickers is not None and len(tickers) > self._market_limit:
                _refuse(26)
            client.sids += 1
            subscription = _Subscription(client.sids, channel, tickers)
            client.subscriptions[subscription.sid] = subscription
            self._control(client, "subscribed", number, message={"channel": channel, "sid": subscription.sid})
            self._send_first(client, subscription, tickers or (), params)

    def _update(self, client: _Client, number: object, params: Document) -> None:
        sids = [params["sid"]] if "sid" in params else params.get("sids") or []
        if len(sids) != 1:
            _refuse(12)
        subscription = client.subscriptions.get(sids[0]) or _refuse(7)
        tickers = _tickers_of(params) or _refuse(14)
        match params.get("action"):
            case "add_markets":
                self._add(client, subscription, tickers, number, params)
            case "delete_markets":
                subscription.tickers = (subscription.tickers or set()) - tickers
                self._control(client, "ok", number, subscription, {"market_tickers": sorted(subscription.tickers)})
            case "get_snapshot" if subscription.channel == "orderbook_delta":
                for ticker in sorted(tickers):
                    self._snapshot(client, subscription, ticker, number)
            case None:
                _refuse(15)
            case _:
                _refuse(13)

    def _add(
        self, client: _Client, subscription: _Subscription, tickers: set[str] | None, number: object, params: Document
    ) -> None:
        known = subscription.tickers
        new = (tickers or set()) - (known or set()) if known is not None else set[str]()
        if known is not None and tickers is not None and len(known | new) > self._market_limit:
            _refuse(26)
        subscription.tickers = None if known is None or tickers is None else known | new
        listed = {} if subscription.tickers is None else {"market_tickers": sorted(subscription.tickers)}
        self._control(client, "ok", number, subscription, listed)
        self._send_first(client, subscription, new, params)

    def _send_first(self, client: _Client, subscription: _Subscription, tickers: Iterable[str], params: Document) -> None:
        for ticker in sorted(tickers):
            if subscription.channel == "orderbook_delta":
                self._snapshot(client, subscription, ticker)
            elif subscription.channel == "ticker" and params.get("send_initial_snapshot") and ticker in self._world.markets:
                self._tell(client, subscription, "ticker", ticker_message(self._world, ticker, self._at))

    def _snapshot(self, client: _Client, subscription: _Subscription, ticker: str, number: object = None) -> None:
        if ticker in self._world.markets:
            message = snapshot_message(self._world, ticker, self._at, stamped=self._stamped)
            self._tell(client, subscription, "orderbook_snapshot", message, number)

    # What happens.

    async def _advance(self) -> None:
        if self._timeline is None:
            if not self._clients:
                self._at = self._world.now
                return
            self._timeline = self._world.happenings(self._at)
        timeline, now = self._timeline, self._world.now
        first = bisect_right(timeline, self._at, key=lambda one: one[0])
        last = bisect_right(timeline, now, key=lambda one: one[0])
        for (at, ticker), together in groupby(timeline[first:last], key=lambda one: one[:2]):
            self._at = at
            self._happen(at, ticker, [one[2] for one in together])
        self._at = now

    def _happen(self, at: int, ticker: str, happenings: list[Happening]) -> None:
        market = self._world.markets[ticker]
        words = [lifecycle_message(market, one) for one in happenings if isinstance(one, str)]
        trades = [trade_message(one) for one in happenings if isinstance(one, Trade)]
        by_channel: dict[str, tuple[str, list[Document]]] = {
            "trade": ("trade", trades),
            "multivariate_market_lifecycle" if market.is_combo else "market_lifecycle_v2": (
                "multivariate_market_lifecycle" if market.is_combo else "market_lifecycle_v2",
                [message for message in words if message is not None],
            ),
        }
        if any(not isinstance(one, str) for one in happenings) and at < market.close:
            by_channel["ticker"] = ("ticker", [ticker_message(self._world, ticker, at)])
        for client in list(self._clients):
            for subscription in list(client.subscriptions.values()):
                if not subscription.wants(ticker):
                    continue
                if subscription.channel == "orderbook_delta":
                    before, after = self._world.book(ticker, at - 1), self._world.book(ticker, at)
                    for message in delta_messages(self._world, ticker, before, after, at):
                        self._tell(client, subscription, "orderbook_delta", message)
                elif subscription.channel in by_channel:
                    word, messages = by_channel[subscription.channel]
                    for message in messages:
                        self._tell(client, subscription, word, message)

    # Frames.

    def _tell(self, client: _Client, subscription: _Subscription, word: str, message: Document, number: object = None) -> None:
        """Send a frame of data, or let it go wrong."""
        if client.subscriptions.get(subscription.sid) is not subscription:
            return  # it has ended among the frames before
        if client.outbox.qsize() >= self._buffer:
            self._end(client, subscription, 25)
            return
        fault = self._next_fault(subscription.channel)
        if fault in _ENDS:
            self._end(client, subscription, _ENDS[fault])
            return
        if fault == "unknown":
            self._put(client, _frame(subscription, "weather_report", {"market_ticker": message.get("market_ticker")}))
        text = _frame(subscription, word, message, number)
        match fault:
            case "drop":
                client.socket.transport.abort()
            case "swallow":
                pass
            case "duplicate":
                self._put(client, text)
                self._put(client, text)
            case "reorder":
                client.held = text
            case "silence":
                client.is_silent = True
                client.socket.transport.pause_reading()
            case "cut":
                self._put(client, text[: len(text) // 2])
            case "garbage":
                self._put(client, "<html>bad gateway</html>")
            case _:
                self._put(client, text)

    def _next_fault(self, channel: str) -> FeedFault | None:
        for place, (fault, wanted) in enumerate(self._faults):
            if wanted in (None, channel):
                del self._faults[place]
                return fault
        if self._chance is not None:
            random, rate, faults = self._chance
            if random.random() < rate:
                return random.choice(faults)
        return None

    def _end(self, client: _Client, subscription: _Subscription, code: int) -> None:
        del client.subscriptions[subscription.sid]
        self._control(client, "error", None, subscription, {"code": code, "msg": ERRORS[code]})

    def _control(
        self,
        client: _Client,
        word: str,
        number: object,
        subscription: _Subscription | None = None,
        message: object = None,
    ) -> None:
        frame: Document = {"type": word}
        if number is not None:
            frame["id"] = number
        if subscription is not None:
            frame["sid"] = subscription.sid
            if subscription.channel != "ticker":
                subscription.seq += 1
                frame["seq"] = subscription.seq
        if message is not None:
            frame["msg"] = message
        self._put(client, json.dumps(frame, separators=(",", ":")))

    def _put(self, client: _Client, text: str) -> None:
        client.outbox.put_nowait(text)
        if client.held is not None:
            client.outbox.put_nowait(client.held)
            client.held = None


def _frame(subscription: _Subscription, word: str, message: Document, number: object = None) -> str:
    frame: Document = {"type": word}
    if number is not None:
        frame["id"] = number
    frame["sid"] = subscription.sid
    if subscription.channel != "ticker":
        subscription.seq += 1
        frame["seq"] = subscription.seq
    return json.dumps(frame | {"msg": message}, separators=(",", ":"))


def _tickers_of(params: Document) -> set[str] | None:
    if "market_ticker" in params and "market_tickers" in params:
        _refuse(11)
    tickers = [params["market_ticker"]] if "market_ticker" in params else params.get("market_tickers")
    if tickers is None:
        return None
    if not isinstance(tickers, list) or not all(isinstance(ticker, str) and ticker for ticker in tickers):
        _refuse(11)
    return set(tickers)


def _refuse(code: int) -> Any:  # noqa: ANN401  (never returns; stands where a value is missing)
    raise _RefusedError(code)
