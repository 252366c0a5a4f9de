"""The HTTP face of the simulated exchange: routes, limits, cursors and errors of the real public read endpoints.

A real server on 127.0.0.1 with keep-alive, so that clients are tested over the wire. What an answer contains is decided
by `world` (the truth) and `wire` (its spelling); the traps of the real exchange are kept on purpose, and named.
"""

import base64
import binascii
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from kalshidb.exchange.simulator.faults import DRIBBLE_PIECES, SLOW_SECONDS, Disturbance, Fault, Faults, Settings, written
from kalshidb.exchange.simulator.query import Query, RefusalError
from kalshidb.exchange.simulator.wire import (
    Document,
    Era,
    book_document,
    candle_document,
    event_document,
    historical_candle_document,
    market_document,
    series_document,
    timestamp,
    trade_document,
)
from kalshidb.exchange.simulator.world import DEFAULT_NOW, SECOND, Book, Candle, Event, Market, Trade, World, moment_of

if TYPE_CHECKING:
    from kalshidb.exchange.simulator.feed import Feed

PREFIX = "/trade-api/v2"
CONTROL = "/simulator"
PERIODS = (1, 60, 1440)
MAX_CANDLES = 5_000
MAX_BATCH_CANDLES = 10_000
MAX_BATCH_TICKERS = 100
STATUS_FILTERS: Mapping[str, frozenset[str]] = {
    "unopened": frozenset({"initialized"}),
    "open": frozenset({"active"}),
    "paused": frozenset({"inactive"}),
    "closed": frozenset({"closed", "determined", "disputed", "amended"}),
    "settled": frozenset({"finalized"}),
}


class Served(NamedTuple):
    """One request that was answered; `path` is without the query. Status 0: the connection was dropped instead."""

    method: str
    path: str
    status: int


Handler = Callable[..., Document]
Thing = TypeVar("Thing")


class Exchange:
    """The endpoints as functions: query in, document out. Knows nothing of sockets."""

    def __init__(self, world: World) -> None:
        """Answer for a world."""
        self.world = world
        ticker = r"([^/]+)"
        routes: list[tuple[str, Handler]] = [
            ("/exchange/status", self.status),
            ("/series", self.series_list),
            (f"/series/{ticker}", self.series),
            ("/events", self.events),
            ("/events/multivariate", self.multivariate_events),
            (f"/events/{ticker}", self.event),
            ("/markets", self.markets),
            ("/markets/trades", self.trades),
            ("/markets/orderbooks", self.orderbooks),
            ("/markets/candlesticks", self.batch_candlesticks),
            (f"/markets/{ticker}", self.market),
            (f"/markets/{ticker}/orderbook", self.orderbook),
            (f"/series/{ticker}/markets/{ticker}/candlesticks", self.candlesticks),
            (f"/series/{ticker}/events/{ticker}/candlesticks", self.event_candlesticks),
            ("/historical/cutoff", self.cutoff),
            ("/historical/markets", self.historical_markets),
            ("/historical/trades", self.historical_trades),
            (f"/historical/markets/{ticker}", self.historical_market),
            (f"/historical/markets/{ticker}/candlesticks", self.historical_candlesticks),
        ]
        self._routes = [(re.compile(pattern), handler) for pattern, handler in routes]
        newest = sorted(world.markets.values(), key=lambda market: (-market.created, market.ticker))
        self._live = [market for market in newest if not world.is_historical(market)]
        self._historical = [market for market in newest if world.is_historical(market)]

    def answer(self, path: str, query: Query) -> Document:
        """Return the document of a path below the prefix.

        Raises:
            RefusalError: the exchange would answer with an error.
        """
        for pattern, handler in self._routes:
            found = pattern.fullmatch(path)
            if found:
                return handler(query, *(unquote(part) for part in found.groups()))
        raise RefusalError(404)

    def status(self, query: Query) -> Document:
        """`/exchange/status`."""
        document: Document = {"exchange_active": True, "trading_active": True}
        return document if query.era == "current" else document | {"exchange_estimated_resume_time": None}

    def cutoff(self, _: Query) -> Document:
        """`/historical/cutoff`: times as text in spite of their names."""
        moment = timestamp(self.world.cutoff)
        names = ("market_positions_last_updated_ts", "market_settled_ts", "orders_updated_ts", "trades_created_ts")
        return dict.fromkeys(names, moment)

    # Series and events.

    def series_list(self, query: Query) -> Document:
        """`/series`: everything at once, there are no pages."""
        category, tags = query.text("category"), set(query.listed("tags"))
        return {
            "series": [
                series_document(series, query.era)
                for series in self.world.series.values()
                if (not category or series.category == category) and (not tags or tags & set(series.tags or ()))
            ]
        }

    def series(self, query: Query, ticker: str) -> Document:
        """`/series/{series}`."""
        return {"series": series_document(_known(self.world.series, ticker), query.era)}

    def events(self, query: Query) -> Document:
        """`/events`: multivariate events are left out, nested markets of the historical tier too."""
        limit, wanted, series = query.limit(200, 200), query.text("status"), query.text("series_ticker")
        if wanted and wanted not in STATUS_FILTERS.keys() - {"paused"}:
            raise RefusalError(400, "invalid status filter")
        nested = query.flag("with_nested_markets")
        found = [
            event
            for event in self.world.events.values()
            if (not series or event.series_ticker == series) and (not wanted or self._event_status(event) == wanted)
        ]
        page, cursor = _page(found, query, "events", limit)
        documents = [self._event(event, query.era, nested=nested) for event in page]
        return {"cursor": cursor, "events": documents, "milestones": []}

    def multivariate_events(self, query: Query) -> Document:
        """`/events/multivariate`: the events of combinations, which no other list and no name gives; a status is ignored."""
        limit, series, nested = query.limit(200, 200), query.text("series_ticker"), query.flag("with_nested_markets")
        found = [event for event in self.world.combos.values() if not series or event.series_ticker == series]
        page, cursor = _page(found, query, "multivariate_events", limit)
        return {"cursor": cursor, "events": [self._event(event, query.era, nested=nested) for event in page]}

    def event(self, query: Query, ticker: str) -> Document:
        """`/events/{event}`: the markets nested, or beside the event."""
        event = _known(self.world.events, ticker)
        document: Document = {"event": self._event(event, query.era, nested=query.flag("with_nested_markets"))}
        if not query.flag("with_nested_markets"):
            document["markets"] = self._live_markets(event, query.era)
        return document

    def _event(self, event: Event, era: Era, *, nested: bool) -> Document:
        document = event_document(event, era)
        return document | {"markets": self._live_markets(event, era)} if nested else document

    def _live_markets(self, event: Event, era: Era) -> list[Document]:
        markets = (market for market in event.markets if not self.world.is_historical(market))
        return [market_document(self.world, market, era) for market in markets]

    def _event_status(self, event: Event) -> str:
        words = {self.world.status(market) for market in event.markets}
        for name in ("open", "unopened", "closed"):
            if words & STATUS_FILTERS[name]:
                return name
        return "open" if "inactive" in words else "settled"

    # Markets.

    def markets(self, query: Query) -> Document:
        """`/markets`: a `ticker` parameter is ignored and unknown `tickers` are left out, as on the real one."""
        limit, status = query.limit(100, 1000), query.text("status")
        if status and status not in STATUS_FILTERS:
            raise RefusalError(400, "invalid status filter")
        lowest, highest = query.integer("min_close_ts"), query.integer("max_close_ts")
        settled = query.integer("min_settled_ts")
        found = [
            market
            for market in self._filtered(self._live, query)
            if (not status or self.world.status(market) in STATUS_FILTERS[status])
            and (lowest is None or market.close >= lowest * SECOND)
            and (highest is None or market.close <= highest * SECOND)
            and (settled is None or (market.settled is not None and settled * SECOND <= market.settled <= self.world.now))
        ]
        page, cursor = _page(found, query, "markets", limit)
        return {"cursor": cursor, "markets": [market_document(self.world, market, query.era) for market in page]}

    def market(self, query: Query, ticker: str) -> Document:
        """`/markets/{market}`: 404 for the historical tier."""
        return {"market": market_document(self.world, self._in_tier(ticker, historical=False), query.era)}

    def historical_markets(self, query: Query) -> Document:
        """`/historical/markets`: the ticker filters exclude each other, time and status filters are ignored."""
        if sum(bool(query.text(name)) for name in ("tickers", "event_ticker", "series_ticker")) > 1:
            raise RefusalError(400, "tickers, event_ticker and series_ticker are mutually exclusive")
        limit = query.limit(100, 1000)
        page, cursor = _page(self._filtered(self._historical, query), query, "historical_markets", limit)
        return {"cursor": cursor, "markets": [market_document(self.world, market, query.era) for market in page]}

    def historical_market(self, query: Query, ticker: str) -> Document:
        """`/historical/markets/{market}`: 404 for the live tier."""
        return {"market": market_document(self.world, self._in_tier(ticker, historical=True), query.era)}

    def _filtered(self, markets: Iterable[Market], query: Query) -> list[Market]:
        tickers, event, series = set(query.listed("tickers")), query.text("event_ticker"), query.text("series_ticker")
        combos = query.text("mve_filter")
        if combos not in {"", "only", "exclude"}:
            raise RefusalError(400, "invalid mve_filter")
        return [
            market
            for market in markets
            if (not tickers or market.ticker in tickers)
            and (not event or market.event_ticker == event)
            and (not series or market.series_ticker == series)
            and (not combos or market.is_combo == (combos == "only"))
        ]

    def _in_tier(self, ticker: str, *, historical: bool) -> Market:
        market = _known(self.world.markets, ticker)
        if self.world.is_historical(market) != historical:
            raise RefusalError(404)
        return market

    # Trades and books.

    def trades(self, query: Query) -> Document:
        """`/markets/trades`: newest first; `min_ts` and `max_ts` are whole seconds and strict."""
        return self._trades(query, historical=False)

    def historical_trades(self, query: Query) -> Document:
        """`/historical/trades`: those before the cutoff, whatever tier their market is in."""
        return self._trades(query, historical=True)

    def _trades(self, query: Query, *, historical: bool) -> Document:
        limit, ticker = query.limit(100, 1000), query.text("ticker")
        after, before = query.integer("min_ts"), query.integer("max_ts")
        trades: Sequence[Trade]
        if ticker:
            known = self.world.trades(ticker) if ticker in self.world.markets else ()
            trades = sorted(known, key=lambda trade: (trade.time, trade.trade_id), reverse=True)
        else:
            trades = self.world.all_trades
        found = [
            trade
            for trade in trades
            if (trade.time < self.world.cutoff) == historical
            and (after is None or trade.time > after * SECOND)
            and (before is None or trade.time < before * SECOND)
        ]
        page, cursor = _page(found, query, "historical_trades" if historical else "trades", limit)
        return {"cursor": cursor, "trades": [trade_document(trade, query.era) for trade in page]}

    def orderbook(self, query: Query, ticker: str) -> Document:
        """`/markets/{market}/orderbook`: bids only, `depth` best levels of each side, 0 for all."""
        market = self._in_tier(ticker, historical=False)
        return book_document(self.world.book(market.ticker), query.era, _depth(query))

    def orderbooks(self, query: Query) -> Document:
        """`/markets/orderbooks`: `tickers` is repeated; a comma list is taken for one unknown ticker."""
        tickers = [ticker for ticker in query.values.get("tickers", []) if ticker]
        if not 1 <= len(tickers) <= MAX_BATCH_TICKERS:
            raise RefusalError(400, f"tickers: between 1 and {MAX_BATCH_TICKERS} are required")
        books: list[Document] = []
        for ticker in tickers:
            market = self.world.markets.get(ticker)
            if market is None or not self.world.is_historical(market):
                book = self.world.book(ticker) if market else Book((), ())
                books.append(book_document(book, query.era, _depth(query)) | {"ticker": ticker})
        return {"orderbooks": books}

    # Candles.

    def candlesticks(self, query: Query, series: str, ticker: str) -> Document:
        """`/series/{series}/markets/{market}/candlesticks`."""
        market = self._in_tier(ticker, historical=False)
        if market.series_ticker != series:
            raise RefusalError(404)
        found = self._candles(market, query)
        return {"candlesticks": [candle_document(candle, query.era) for candle in found], "ticker": ticker}

    def historical_candlesticks(self, query: Query, ticker: str) -> Document:
        """`/historical/markets/{market}/candlesticks`."""
        found = self._candles(self._in_tier(ticker, historical=True), query)
        return {"candlesticks": [historical_candle_document(candle, query.era) for candle in found], "ticker": ticker}

    def _candles(self, market: Market, query: Query) -> Sequence[Candle]:
        start, end, interval = _window(query)
        if interval not in PERIODS:
            raise RefusalError(400, "invalid period_interval")
        asked = _periods(start, end, interval)
        if asked > MAX_CANDLES:
            message = f"requested time range with candlesticks: {asked}, max candlesticks: {MAX_CANDLES}"
            raise RefusalError(400, message)
        return self._between(market, start, end, interval)

    def batch_candlesticks(self, query: Query) -> Document:
        """`/markets/candlesticks`: no series needed; a period that does not exist answers empty lists, not an error."""
        tickers = query.listed("market_tickers") or query.listed("tickers")
        if not 1 <= len(tickers) <= MAX_BATCH_TICKERS:
            raise RefusalError(400, f"market_tickers: between 1 and {MAX_BATCH_TICKERS} are required")
        start, end, interval = _window(query)
        if interval < 1:
            raise RefusalError(400, "invalid period_interval")
        asked = len(tickers) * _periods(start, end, interval)
        if asked > MAX_BATCH_CANDLES:
            message = f"requested candlesticks across all markets: {asked}, max candlesticks: {MAX_BATCH_CANDLES}"
            raise RefusalError(400, message)
        markets = [market for ticker in tickers if (market := self.world.markets.get(ticker))]
        return {
            "markets": [
                {
                    "candlesticks": [
                        candle_document(candle, query.era)
                        for candle in (self._between(market, start, end, interval) if interval in PERIODS else ())
                    ],
                    "market_ticker": market.ticker,
                }
                for market in markets
                if not self.world.is_historical(market)
            ]
        }

    def event_candlesticks(self, query: Query, series: str, ticker: str) -> Document:
        """`/series/{series}/events/{event}/candlesticks`: too long a range is cut, and `adjusted_end_ts` says where."""
        event = _known(self.world.events, ticker)
        start, end, interval = _window(query)
        if event.series_ticker != series:
            raise RefusalError(404)
        if interval not in PERIODS:
            raise RefusalError(400, "invalid period_interval")
        markets = [market for market in event.markets if not self.world.is_historical(market)]
        allowed = MAX_CANDLES // max(1, len(markets))
        end = min(end, start + allowed * interval * 60)
        return {
            "adjusted_end_ts": end,
            "market_candlesticks": [
                [candle_document(candle, query.era) for candle in self._between(market, start, end, interval)]
                for market in markets
            ],
            "market_tickers": [market.ticker for market in markets],
        }

    def _between(self, market: Market, start: int, end: int, interval: int) -> Sequence[Candle]:
        return [candle for candle in self.world.candles(market.ticker, interval) if start <= candle.end <= end]


def _known(things: Mapping[str, Thing], ticker: str) -> Thing:
    if ticker not in things:
        raise RefusalError(404)
    return things[ticker]


def _depth(query: Query) -> int:
    depth = query.integer("depth") or 0
    if not 0 <= depth <= 100:
        raise RefusalError(400, "invalid depth: must be between 0 and 100")
    return depth


def _window(query: Query) -> tuple[int, int, int]:
    start, end = query.required("start_ts"), query.required("end_ts")
    if end < start:
        raise RefusalError(400, "start_ts must not be after end_ts")
    return start, end, query.required("period_interval")


def _periods(start: int, end: int, interval: int) -> int:
    """Return the periods of a range as the limits count them: from the asked range, not from what there is."""
    return -(-(end - start) // (interval * 60))


def _page(found: Sequence[Thing], query: Query, kind: str, limit: int) -> tuple[Sequence[Thing], str]:
    begin = _position(query.text("cursor"), kind)
    if begin > len(found):
        raise RefusalError(400, "invalid cursor")
    end = begin + limit
    return found[begin:end], _cursor(end, kind) if end < len(found) else ""


def _cursor(position: int, kind: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")


def _position(cursor: str, kind: str) -> int:
    if not cursor:
        return 0
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise RefusalError(400, "invalid cursor") from None
    found = re.fullmatch(rf"{kind}:([0-9]{{1,12}})", text)
    if not found:
        raise RefusalError(400, "invalid cursor")
    return int(found[1])


# HTTP.


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, exchange: "SimulatedExchange", port: int) -> None:
        self.exchange = exchange
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- as in the base class
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 -- as in the base class
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open, so that their threads end."""
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- as in the base class
        """Say nothing: a client that goes away is no news. Faults of our own are answered with 500."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer a read."""
        self._serve()

    def do_POST(self) -> None:
        """Refuse: there is nothing to write here."""
        self.close_connection = True
        self._serve()

    def do_PUT(self) -> None:
        """Change the simulator itself; there is nothing to write on the exchange."""
        if urlsplit(self.path).path == CONTROL:
            self._control()
        else:
            self.do_POST()

    do_DELETE = do_PATCH = do_POST  # noqa: N815 -- names given by the base class

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    @property
    def _exchange(self) -> "SimulatedExchange":
        return cast(_Server, self.server).exchange

    def _control(self) -> None:
        exchange = self._exchange
        status = 200
        try:
            if self.command == "PUT":
                exchange.control(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0))))
            document = exchange.settings
        except ValueError as error:
            status, document = 400, {"error": {"code": "bad_request", "message": str(error)}}
        self._send(Reply(status, written(document), None, "application/json", exchange.present))

    def _serve(self) -> None:
        url = urlsplit(self.path)
        if url.path == CONTROL and self.command == "GET":
            self._control()
            return
        reply = self._exchange.reply(self.command, url.path, url.query, self.headers.get("X-Simulator-Era"))
        if reply is None:
            self.close_connection = True
        else:
            self._send(reply)

    def _send(self, reply: "Reply") -> None:
        self.send_response_only(reply.status)
        self.send_header("Date", format_datetime(reply.date, usegmt=True))
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        if reply.fault == "truncate":
            self.close_connection = True
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if reply.fault == "truncate":
            self.wfile.write(reply.body[: len(reply.body) // 2])
        elif reply.fault == "dribble":
            for piece in _pieces(reply.body, DRIBBLE_PIECES):
                self.wfile.write(piece)
                self.wfile.flush()
                self._exchange.pause(SLOW_SECONDS / DRIBBLE_PIECES)
        else:
            self.wfile.write(reply.body)


def _pieces(body: bytes, number: int) -> Iterable[bytes]:
    size = max(1, -(-len(body) // number))
    return (body[begin : begin + size] for begin in range(0, len(body), size))


class Reply(NamedTuple):
    """What is sent for a request; `date` is what the server's clock says."""

    status: int
    body: bytes
    fault: Fault | None
    content_type: str
    date: datetime


class SimulatedExchange:
    """A simulated exchange that serves while its `with` block runs.

    Args:
        seed: which world; the same seed gives the same bytes, in every process and in every order of requests.
        markets: how many markets the world has, at least 60.
        era: how answers are written; a request may choose by the header `X-Simulator-Era` or the parameter `era`.
        now: the world's present, aware; nothing here reads the clock except the rate limit.
        rate_limit: requests a second before 429s, or None for no limit.
        port: where to listen on 127.0.0.1; 0 takes a free one.
        faults: what goes wrong by chance; None for nothing.
        feed: whether to serve the websocket too; needs the extra `stream`. Its options are those of `feed.Feed`.

    A running exchange, also one in a process of its own, can be changed from outside: GET of `/simulator` says the present, the era
    and the faults; PUT of a JSON object with some of `now`, `era`, `faults`, `feed` changes them.

    Raises:
        ValueError: `now` is naive, `markets` too small, `era` unknown, or `rate_limit` not positive.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        markets: int = 300,
        era: Era = "current",
        now: datetime = DEFAULT_NOW,
        rate_limit: float | None = None,
        port: int = 0,
        faults: Settings | None = None,
        feed: bool | Mapping[str, Any] = False,
    ) -> None:
        """Make the world; nothing listens before `start`."""
        if era not in get_args(Era):
            raise ValueError(f"unknown era {era!r}: one of {', '.join(get_args(Era))}")
        if rate_limit is not None and rate_limit <= 0:
            raise ValueError(f"rate_limit must be positive: {rate_limit}")
        self.world = World(seed=seed, markets=markets, now=now)
        self.era: Era = era
        self.requests: list[Served] = []
        """What was asked and answered, oldest first."""
        self.faults = Faults(faults)
        self._endpoints = Exchange(self.world)
        self._feed: Feed | None = None
        if feed is not False:
            from kalshidb.exchange.simulator import feed as needs_extra  # noqa: PLC0415

            self._feed = needs_extra.Feed(self.world, **({} if feed is True else feed))
        self._clock: threading.Thread | None = None
        self._ended = threading.Event()
        self._port = port
        self._rate = rate_limit
        self._tokens = max(1.0, rate_limit or 1.0)
        self._filled = 0.0
        self._lock = threading.Lock()
        self._later: list[tuple[int, Callable[[], object]]] = []
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """Where the API is, without a slash at the end. RuntimeError: not started."""
        if self._server is None:
            raise RuntimeError("the simulated exchange is not running; use it as a context manager")
        return f"http://127.0.0.1:{self._server.server_address[1]}{PREFIX}"

    @property
    def feed(self) -> "Feed":
        """The websocket's side. RuntimeError: made without."""
        if self._feed is None:
            raise RuntimeError("this simulated exchange was made without a feed")
        return self._feed

    @property
    def websocket_url(self) -> str:
        """Where the websocket is. RuntimeError: made without, or not started."""
        return self.feed.url

    def fail(self, *faults: Fault) -> None:
        """Make the next requests fail, one fault each: see kalshidb.exchange.simulator.faults."""
        self.faults.script(*faults)

    def after(self, requests: int, action: Callable[[], object]) -> None:
        """Do something when so many more requests have been answered, before the next is: let time pass, change the era."""
        with self._lock:
            self._later.append((len(self.requests) + requests, action))

    @property
    def present(self) -> datetime:
        """The world's present."""
        return datetime.fromtimestamp(self.world.now / SECOND, UTC)

    @property
    def settings(self) -> Document:
        """What can be changed while it runs."""
        given = {str(fault): times for fault, times in self.faults.given.items()}
        return {
            "now": self.present.isoformat(),
            "era": self.era,
            "faults": self.faults.settings.as_document(),
            "given": given,
            "requests": len(self.requests),
        }

    def control(self, document: object) -> None:
        """Change the present (`now`), how fast it moves (`speed`), the era (`era`), what goes wrong (`faults`; `feed`: rate, seed).

        Raises:
            ValueError: another name, or a value that cannot be.
        """
        if not isinstance(document, dict) or document.keys() - {"now", "speed", "era", "faults", "feed"}:
            raise ValueError("what can be changed are now, speed, era, faults and feed")
        if document.get("era", self.era) not in get_args(Era):
            raise ValueError(f"unknown era: one of {', '.join(get_args(Era))}")
        faults = Settings.from_document(document["faults"]) if "faults" in document else None
        if "speed" in document:
            self.let_time_pass(float(document["speed"]))
        if "now" in document:
            self.move_to(datetime.fromisoformat(str(document["now"])))
        self.era = document.get("era", self.era)
        if faults is not None:
            self.faults.set(faults)
        if "feed" in document:
            self.feed.fail_at_random(float(document["feed"].get("rate", 0)), int(document["feed"].get("seed", 0)))

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the exchange is open."""
        if seconds > 0:
            self._closing.wait(seconds)

    def move_to(self, now: datetime) -> None:
        """Let time pass in the world, also while somebody is asking: the next answer is of then.

        Raises:
            ValueError: `now` is naive, or lies before the world's present.
        """
        cutoff = self.world.cutoff
        self.world.move_to(now)
        if self.world.cutoff != cutoff:  # else each market stays in its tier
            self._endpoints = Exchange(self.world)
        if self._feed is not None:
            self._feed.advance()

    def let_time_pass(self, speed: float, step: float = 0.02) -> None:
        """Let the world's clock run from now on, for requests and the websocket alike, until the exchange is closed.

        Args:
            speed: simulated seconds a second; 0 stops the clock.
            step: seconds between two looks at the clock.

        Raises:
            ValueError: time would pass backwards.
        """
        if not speed >= 0:
            raise ValueError(f"time passes forwards: {speed}")
        self._stop_clock()
        if speed == 0:
            return
        start, begun, ended = self.world.now, time.monotonic(), threading.Event()
        self._ended = ended

        def run() -> None:
            while not ended.wait(step):
                passed = timedelta(seconds=(time.monotonic() - begun) * speed)
                self.move_to(max(moment_of(start) + passed, moment_of(self.world.now)))

        self._clock = threading.Thread(target=run, name="simulated clock")
        self._clock.start()

    def _stop_clock(self) -> None:
        self._ended.set()
        if self._clock is not None:
            self._clock.join()
            self._clock = None

    def start(self) -> None:
        """Begin to serve. `with` does this."""
        self._closing.clear()
        self._server = _Server(self, self._port)
        try:
            if self._feed is not None:
                self._feed.start()
        except OSError:
            self._server.server_close()
            raise
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulated exchange"
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving, end all connections and wait for every thread. Closing twice is harmless."""
        self._stop_clock()
        if self._feed is not None:
            self._feed.close()
        server, thread = self._server, self._thread
        self._server = self._thread = None
        self._closing.set()
        if server is not None and thread is not None:
            server.shutdown()
            thread.join()
            server.hang_up()
            server.server_close()

    def __enter__(self) -> Self:
        """Start serving."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop serving."""
        self.close()

    def reply(self, method: str, path: str, query: str, era: str | None) -> Reply | None:
        """Return the reply to a request, or None when the connection is to be dropped; counts it."""
        self._do_what_is_due()
        disturbance = self.faults.next(f"{method} {path}?{query}")
        fault = disturbance.fault
        self.pause(disturbance.latency + (SLOW_SECONDS if fault == "slow" else 0))
        if fault == "drop":
            self._count(method, path, 0)
            return None
        date = disturbance.date(self.world.now)
        if disturbance.status is not None:
            status, document = disturbance.status, self._failure(disturbance.status)
        elif not self._within_rate():
            status, document = 429, self._failure(429)
        else:
            status, document = self._answer(method, path, query, era, disturbance)
        self._count(method, path, status)
        body, content_type = written(document), "application/json"
        if status == 200:
            body, content_type = disturbance.body(body)
        return Reply(status, body, fault, content_type, date)

    def _answer(
        self, method: str, path: str, query: str, era: str | None, disturbance: Disturbance
    ) -> tuple[int, Any]:  # a disturbed document is any JSON
        endpoints = self._endpoints  # of one moment, also when time passes meanwhile
        try:
            if method != "GET":
                raise RefusalError(405)
            if not path.startswith(f"{PREFIX}/"):
                raise RefusalError(404)
            values = parse_qs(query, keep_blank_values=True)
            chosen = era or values.get("era", [self.era])[-1]
            if chosen not in get_args(Era):
                raise RefusalError(400, f"unknown era: one of {', '.join(get_args(Era))}")
            asked = Query(values, cast(Era, chosen))
            with self.world.lock:  # an answer is of one moment
                return 200, disturbance.answer(lambda query: endpoints.answer(path.removeprefix(PREFIX), query), asked)
        except RefusalError as refusal:
            return refusal.status, refusal.document
        except Exception as error:
            # A fault of the simulator must reach the test instead of ending a thread.
            return 500, {"error": {"code": "simulator_fault", "message": repr(error)}}

    def _do_what_is_due(self) -> None:
        if not self._later:
            return
        with self._lock:
            asked = len(self.requests)
            due = [action for at, action in self._later if at <= asked]
            self._later = [(at, action) for at, action in self._later if at > asked]
        for action in due:
            action()

    @staticmethod
    def _failure(status: int) -> Document:
        # The real one sends text here where all other errors are objects, and no Retry-After.
        if status == 429:
            return {"error": "too many requests"}
        return {"error": {"code": "service_unavailable", "message": "service unavailable"}}

    def _count(self, method: str, path: str, status: int) -> None:
        with self._lock:
            self.requests.append(Served(method, path, status))

    def _within_rate(self) -> bool:
        if self._rate is None:
            return True
        with self._lock:
            now = time.monotonic()
            self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
