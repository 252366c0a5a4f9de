"""A server that answers from recorded files: what an exchange would say that had only these series, events, markets, candlesticks,
trades and books, written exactly as they were recorded, in whatever era.

It is given a folder of JSON files and finds out by their content what each one is; wrappers of recorders are taken off. Filters,
page sizes and cursors are honest, and what was not recorded is not found.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import simplejson

Json = Any
Query = dict[str, list[str]]
WORDS = {
    "unopened": {"initialized"}, "open": {"active"}, "paused": {"inactive"},
    "closed": {"closed", "determined", "disputed", "amended"}, "settled": {"finalized", "settled"},
}  # fmt: skip
LARGEST = {"events": 200}
NOT_FOUND = 404, {"error": {"code": "not_found", "message": "not found"}}


class Recording:
    """What was recorded, by what it is.

    `candles` are kept by market, minutes and tier; `historical` are markets whose candlesticks were recorded in the historical tier.
    """

    def __init__(self, folder: Path) -> None:
        self.series: dict[str, Json] = {}
        self.events: dict[str, Json] = {}
        self.markets: dict[str, Json] = {}
        self.candles: dict[tuple[str, int], dict[int, Json]] = defaultdict(dict)
        self.historical: set[str] = set()
        self.trades: dict[str, Json] = {}
        self.books: dict[str, Json] = {}
        self.cutoff: Json = None
        self.unused: list[Path] = []
        for path in sorted(folder.glob("*.json")):
            document = simplejson.loads(path.read_text(encoding="utf-8"), use_decimal=True)
            if not self._take(*_unwrapped(document)):
                self.unused.append(path)
        settled_before = (self.cutoff or {}).get("market_settled_ts", "")
        self.historical |= {
            ticker for ticker, market in self.markets.items() if "" < (market.get("settlement_ts") or "") < settled_before
        }

    def _take(self, document: Json, about: Json) -> bool:
        if isinstance(document, list):
            kind = _kind_of_rows(document)
            return kind is not None and self._take({kind: document}, about)
        if not isinstance(document, dict):
            return False
        taken = [] in document.values()  # an empty page
        for name, value in document.items():
            rows = value if isinstance(value, list) else [value]
            match name:
                case "series" | "events" | "event" | "market" | "trades" | "orderbooks":
                    for row in rows:
                        taken |= isinstance(row, dict) and self._take_row(name, row)
                case "markets" if isinstance(value, dict):
                    for ticker, part in value.items():
                        taken |= self._take_candles(ticker, part.get("candlesticks"), about | part)
                case "markets":
                    for row in rows:
                        if isinstance(row, dict) and "candlesticks" in row:
                            taken |= self._take_candles(row["market_ticker"], row["candlesticks"], about)
                        elif isinstance(row, dict):
                            taken |= self._take_row("market", row)
                case "candlesticks" if "ticker" in document:
                    taken |= self._take_candles(document["ticker"], rows, about)
                case "trades_created_ts":
                    self.cutoff, taken = document, True
                case _:
                    pass
        return taken

    def _take_row(self, name: str, row: Json) -> bool:
        kept = {"series": self.series, "market": self.markets, "trades": self.trades, "orderbooks": self.books}.get(
            name, self.events
        )
        key = "trade_id" if name == "trades" else "event_ticker" if kept is self.events else "ticker"
        if not row.get(key):
            return False
        if kept is self.events:
            for market in row.get("markets") or []:
                self.markets.setdefault(market["ticker"], market)
            row = {field: value for field, value in row.items() if field != "markets"}
        kept.setdefault(row[key], row)
        return True

    def _take_candles(self, ticker: str, candles: Json, about: Json) -> bool:
        if not candles:
            return candles == []
        minutes = about.get("period_interval") or _minutes([candle["end_period_ts"] for candle in candles])
        for candle in candles:
            self.candles[ticker, int(minutes)].setdefault(int(candle["end_period_ts"]), candle)
        if isinstance(candles[0].get("volume"), str):  # the historical tier writes plain names with text
            self.historical.add(ticker)
        return True


def _unwrapped(document: Json) -> tuple[Json, Json]:
    """The answer within a recorder's wrapper, and what the wrapper says about the request."""
    if isinstance(document, dict):
        about = next(
            (document[name] for name in ("_metadata", "metadata", "request") if isinstance(document.get(name), dict)), {}
        )
        for name in ("response", "payload", "body", "data"):
            if isinstance(document.get(name), dict | list):
                return document[name], about
    return document, {}


def _kind_of_rows(rows: list[Json]) -> str | None:
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    if "trade_id" in first:
        return "trades"
    if "orderbook_fp" in first or "orderbook" in first:
        return "orderbooks"
    if "event_ticker" in first:
        return "markets" if "ticker" in first else "events"
    return "series" if "fee_type" in first else None


def _minutes(ends: list[int]) -> int:
    if any(end % 3600 for end in ends):
        return 1
    return 1440 if all(datetime.fromtimestamp(end, UTC).hour in (4, 5) for end in ends) else 60


class Replay:
    """The endpoints over a recording."""

    def __init__(self, recording: Recording, *, page_size: int = 1000) -> None:
        self.recording = recording
        self.page_size = page_size
        self.asked: list[str] = []
        ticker = r"([^/]+)"
        self._routes: list[tuple[str, Callable[..., tuple[int, Json] | Json]]] = [
            ("/series", lambda query: self._listed("series", recording.series.values(), query)),
            (f"/series/{ticker}", lambda _, name: self._one("series", recording.series, name)),
            ("/events", lambda query: self._events(query, combos=False)),
            ("/events/multivariate", lambda query: self._events(query, combos=True)),
            (f"/events/{ticker}", lambda _, name: self._one("event", recording.events, name)),
            ("/markets", lambda query: self._markets(query, historical=False)),
            ("/historical/markets", lambda query: self._markets(query, historical=True)),
            ("/markets/trades", lambda query: self._trades(query, historical=False)),
            ("/historical/trades", lambda query: self._trades(query, historical=True)),
            ("/markets/candlesticks", self._batch),
            (
                f"/series/{ticker}/markets/{ticker}/candlesticks",
                lambda query, _, name: self._candles(query, name, historical=False),
            ),
            (f"/historical/markets/{ticker}/candlesticks", lambda query, name: self._candles(query, name, historical=True)),
            ("/historical/cutoff", lambda _: recording.cutoff or NOT_FOUND),
        ]

    def answer(self, path: str, query: Query) -> tuple[int, Json]:
        for pattern, handler in self._routes:
            if found := re.fullmatch(pattern, path):
                reply = handler(query, *(unquote(part) for part in found.groups()))
                return reply if isinstance(reply, tuple) else (200, reply)
        return NOT_FOUND

    @staticmethod
    def _one(name: str, things: dict[str, Json], ticker: str) -> tuple[int, Json] | Json:
        return {name: things[ticker]} if ticker in things else NOT_FOUND

    @staticmethod
    def _listed(name: str, things: Any, query: Query) -> Json:  # noqa: ANN401
        category = query.get("category", [""])[0]
        return {name: [thing for thing in things if not category or thing.get("category") == category]}

    def _page(self, name: str, things: Any, query: Query) -> Json:  # noqa: ANN401
        found = [thing for thing in things if self._wanted(thing, query)]
        begin, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["100"])[0])
        end = begin + min(limit, self.page_size, LARGEST.get(name, 1000))
        return {name: found[begin:end], "cursor": str(end) if end < len(found) else ""}

    def _wanted(self, thing: Json, query: Query) -> bool:
        series = thing.get("series_ticker") or self.recording.events.get(thing.get("event_ticker"), {}).get("series_ticker")
        said = {"series_ticker": series, "event_ticker": thing.get("event_ticker"), "ticker": thing.get("ticker")}
        for name, value in said.items():
            if name in query and value != query[name][0]:
                return False
        if "tickers" in query and thing.get("ticker") not in query["tickers"][0].split(","):
            return False
        if query.get("mve_filter") == ["exclude"] and thing.get("mve_collection_ticker"):
            return False
        return "status" not in query or self._status(thing) & WORDS[query["status"][0]] != set()

    def _status(self, thing: Json) -> set[str]:
        if "ticker" in thing:
            return {thing["status"]}
        of_event = {
            market["status"] for market in self.recording.markets.values() if market["event_ticker"] == thing["event_ticker"]
        }
        return of_event or {"active"}

    def _events(self, query: Query, *, combos: bool) -> Json:
        of_combos = {market["event_ticker"] for market in self.recording.markets.values() if market.get("mve_collection_ticker")}
        return self._page("events", [
            event for ticker, event in self.recording.events.items() if (ticker in of_combos) == combos
        ], query)  # fmt: skip

    def _markets(self, query: Query, *, historical: bool) -> Json:
        recording = self.recording
        return self._page("markets", [
            market for ticker, market in recording.markets.items() if (ticker in recording.historical) == historical
        ], query)  # fmt: skip

    def _trades(self, query: Query, *, historical: bool) -> Json:
        recording = self.recording
        cutoff = datetime.fromisoformat((recording.cutoff or {}).get("trades_created_ts", "1970-01-01T00:00:00+00:00"))
        after, before = int(query.get("min_ts", ["0"])[0]), int(query.get("max_ts", ["99999999999"])[0])
        found = [
            (moment, trade)
            for trade in recording.trades.values()
            if after < (moment := datetime.fromisoformat(trade["created_time"])).timestamp() < before
            and (moment < cutoff) == historical
        ]
        return self._page("trades", [trade for _, trade in sorted(found, key=lambda pair: pair[0], reverse=True)], query)

    def _batch(self, query: Query) -> Json:
        tickers = [ticker for ticker in query["market_tickers"][0].split(",") if ticker not in self.recording.historical]
        known = [ticker for ticker in tickers if ticker in self.recording.markets]
        return {"markets": [{"market_ticker": ticker, "candlesticks": self._between(ticker, query)} for ticker in known]}

    def _candles(self, query: Query, ticker: str, *, historical: bool) -> tuple[int, Json] | Json:
        known = ticker in self.recording.markets or any(ticker == name for name, _ in self.recording.candles)
        if not known or (ticker in self.recording.historical) != historical:
            return NOT_FOUND
        return {"ticker": ticker, "candlesticks": self._between(ticker, query)}

    def _between(self, ticker: str, query: Query) -> list[Json]:
        first, last, minutes = (int(query[name][0]) for name in ("start_ts", "end_ts", "period_interval"))
        candles = self.recording.candles.get((ticker, minutes), {})
        return [candle for end, candle in sorted(candles.items()) if first <= end <= last]


@contextmanager
def replaying(replay: Replay) -> Iterator[str]:
    """Serve a recording; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            replay.asked.append(self.path)
            status, document = replay.answer(url.path, parse_qs(url.query))
            body = simplejson.dumps(document, use_decimal=True).encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
