"""The exchange's websocket: one connection after another, and everything that arrives over them, in order.

What is said is decided by `dialogue`; here is the socket, the handshake and the patience. A connection that breaks, or over which
nothing more is heard, is made anew with growing pauses. Who does not take what arrives makes the exchange wait: nothing piles up here.

Needs the extra `stream` (websockets, and cryptography for the handshake, which the real exchange wants signed).
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
except ImportError as error:
    raise ImportError("the websocket needs websockets: pip install 'kalshidb[stream]'") from error

from kalshidb.exchange.dialogue import Dialogue, Event, Frame, Reason, Step, Wanted

WEBSOCKET_URL = "wss://external-api-ws.kalshi.com/trade-api/ws/v2"
LARGEST_FRAME = 1 << 24  # a snapshot of a deep book has some hundred kilobytes
LOOK = 0.25  # seconds between two looks at the clock while nothing arrives
LONGEST_PAUSE = 60.0
HANDSHAKE = 10.0
STEADY = 60.0
"""Seconds after which a connection counts as a good one: the next failure is the first again."""

Headers = Callable[[str, str], Mapping[str, str]]
"""Signs a request: method and path to headers."""

log = logging.getLogger(__name__)
_wire = logging.getLogger(f"{__name__}.wire")
_wire.addFilter(lambda record: "KALSHI-ACCESS" not in record.getMessage())  # the library tells every header of the handshake


class StreamError(Exception):
    """The exchange will not talk to us, now or later; says why."""


class Stream:
    """A subscription to channels of the exchange that outlives its connections.

    Args:
        wanted: channels and their markets, None for all.
        url: the websocket.
        sign: headers for the handshake; None for a simulated exchange.
        clock: the time under which frames arrive, UTC; another than ours only for a simulated exchange.
        pause: seconds before the first further attempt; each next one takes twice as long, with jitter.

    Raises:
        ValueError: an unknown channel, or books of all markets.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        url: str = WEBSOCKET_URL,
        sign: Headers | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: float = 0.5,
    ) -> None:
        self.dialogue = Dialogue(wanted)
        self.url = url
        self.connections = 0
        """How many connections were made."""
        self.last_failure: str | None = None
        """Why there is no connection; None while there is one."""
        self._sign = sign
        self._clock = clock
        self._pause = pause
        self._stopped = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._last_moment = datetime.min.replace(tzinfo=UTC)
        self._looked = self._returned = 0.0

    def stop(self) -> None:
        """End `listen` soon; from its loop."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    async def want(self, channel: str, tickers: Collection[str]) -> None:
        """Change the markets of a channel, which was made with its markets named."""
        await self._send(self.dialogue.want(channel, tickers, time.monotonic()))

    async def listen(self) -> AsyncIterator[Event]:
        """Yield everything that arrives, and what it means, until `stop`.

        Raises:
            StreamError: the address is none, or the exchange refuses the key.
        """
        attempt = 0
        while not self._stopped.is_set():
            try:
                socket = await self._connect()
            except (OSError, InvalidHandshake, TimeoutError) as error:
                attempt += 1
                self.last_failure = f"{type(error).__name__}: {error}"
                log.warning("no connection to %s (attempt %d): %s", self.url, attempt, self.last_failure)
                await self._rest(attempt)
                continue
            self._socket, self.last_failure = socket, None
            self.connections += 1
            self._returned = begun = time.monotonic()
            reason: Reason = "disconnect"
            try:
                await self._send(self.dialogue.opened(begun))
                while not self._stopped.is_set():
                    step = await self._next(socket)
                    await self._send(step)
                    for event in step.events:
                        yield event
                    if step.is_dead:
                        reason = "silence"
                        break
            except ConnectionClosed as error:
                self.last_failure = str(error)
            finally:
                self._socket = None
                if reason == "silence":
                    socket.transport.abort()
                with suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await socket.close()
            if not self._stopped.is_set():
                self.last_failure = self.last_failure or "nothing was heard any more"
                log.warning("connection to %s lost (%s): %s", self.url, reason, self.last_failure)
                for gap in self.dialogue.closed(self._moment(), reason):
                    yield gap
                attempt = 1 if time.monotonic() - begun > STEADY else attempt + 1
                await self._rest(attempt)

    async def _connect(self) -> ClientConnection:
        address = urlsplit(self.url)
        path = address.path
        headers = {} if self._sign is None else dict(self._sign("GET", path))
        try:
            return await connect(
                self.url,
                additional_headers=headers,
                logger=_wire,
                open_timeout=HANDSHAKE,
                close_timeout=1,
                ping_interval=20,
                ping_timeout=120,  # the answer stands behind all that our caller has not taken yet; silence is noticed otherwise
                max_size=LARGEST_FRAME,
                # A proxy of the environment is for the outside: a simulated exchange is never behind it.
                proxy=None if address.hostname in ("127.0.0.1", "localhost") else True,
            )
        except InvalidURI as error:
            raise StreamError(f"{self.url} is no address of a websocket: {error}") from None
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403) and self.connections == 0:
                hint = "its websocket wants an API key" if self._sign is None else "is the API key right, and our clock?"
                raise StreamError(f"{self.url} refuses us ({status}): {hint}") from None
            if status == 404 and self.connections == 0:
                raise StreamError(f"there is no websocket at {self.url} (404)") from None
            raise

    async def _next(self, socket: ClientConnection) -> Step:
        now = time.monotonic()
        if now - self._returned > LOOK:
            self.dialogue.overslept(now - self._returned)
        try:
            return await self._listen_for(socket, now)
        finally:
            self._returned = time.monotonic()

    async def _listen_for(self, socket: ClientConnection, now: float) -> Step:
        if now - self._looked > LOOK:
            self._looked = now
            step = self.dialogue.tick(self._clock(), now)
            if step.commands or step.is_dead:
                return step
        try:
            async with asyncio.timeout(LOOK):
                content = await socket.recv(decode=False)
        except TimeoutError:
            return Step()
        step = self.dialogue.receive(bytes(content), self._moment(), time.monotonic())
        if step.events and isinstance(step.events[-1], Frame) and step.events[-1].document is None:
            log.warning("a frame that is no JSON object: %.200r", bytes(content))
        return step

    async def _send(self, step: Step) -> None:
        if self._socket is not None:
            for command in step.commands:
                await self._socket.send(command)

    async def _rest(self, attempt: int) -> None:
        pause = min(LONGEST_PAUSE, self._pause * 2 ** min(attempt - 1, 10)) * random.uniform(0.5, 1)  # noqa: S311  (jitter)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopped.wait()

    def _moment(self) -> datetime:
        """Return the time, later than every one before: what arrives is told apart by it."""
        self._last_moment = max(self._clock(), self._last_moment + timedelta(microseconds=1))
        return self._last_moment
