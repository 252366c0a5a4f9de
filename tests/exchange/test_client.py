"""The client against a real local server: the simulated exchange, or a few lines that behave as no exchange should."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest

from kalshidb import __version__
from kalshidb.exchange.client import (
    Answer,
    ExchangeClient,
    ExchangeError,
    RateLimit,
    TokenBucket,
    date_of,
    retry_delay,
)
from kalshidb.exchange.questions import (
    Request,
    batch_candlestick_requests,
    candlestick_requests,
    candlestick_windows,
    epoch_seconds,
    orderbook_requests,
    request,
)
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.exchange.simulator.faults import Fault

NOON = datetime(2026, 10, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared_exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=300) as exchange:
        yield exchange


@pytest.fixture
def exchange(shared_exchange: SimulatedExchange) -> SimulatedExchange:
    shared_exchange.requests.clear()
    return shared_exchange


@pytest.fixture
def client(exchange: SimulatedExchange) -> Iterator[ExchangeClient]:
    with ExchangeClient(exchange.base_url, limit=None, max_retries=0) as client:
        yield client


class Waiting:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def patient(exchange: SimulatedExchange, waiting: Waiting, *, max_retries: int = 4) -> ExchangeClient:
    return ExchangeClient(
        exchange.base_url,
        limit=None,
        max_retries=max_retries,
        clock=waiting,
        sleep=waiting.sleep,
        chance=lambda: 1.0,
    )


@contextmanager
def answering(reply: Callable[[str, dict[str, list[str]]], tuple[int, str]]) -> Iterator[str]:
    """A server whose every answer is what `reply` makes of path and query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            status, text = reply(url.path, parse_qs(url.query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hasty(url: str) -> ExchangeClient:
    return ExchangeClient(url, limit=None, max_retries=0)


# One answer.


def test_an_answer_is_kept_as_it_came(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    before = datetime.now(UTC)
    answer = client.series("KXSIMBTC15M")
    after = datetime.now(UTC)
    assert answer.status == 200
    assert answer.url == f"{exchange.base_url}/series/KXSIMBTC15M"
    assert answer.params == {}
    assert json.loads(answer.body) == answer.document
    assert before <= answer.retrieved_at <= after
    assert answer.retrieved_at.utcoffset() == timedelta(0)


def test_parameters_are_part_of_the_answer(client: ExchangeClient) -> None:
    answer = client.get("/markets", tickers=["A", "B"], min_close_ts=NOON, limit=7, with_something=True, status=None)
    assert answer.params == {
        "tickers": "A,B",
        "min_close_ts": "1792497600",
        "limit": "7",
        "with_something": "true",
    }


def test_fractions_are_decimals_and_never_floats() -> None:
    answer = Answer("u", {}, 200, b'{"strike": 0.1, "n": 7, "deep": [93250.37]}', datetime.now(UTC))
    assert answer.document == {"strike": Decimal("0.1"), "n": 7, "deep": [Decimal("93250.37")]}
    assert isinstance(answer.document["strike"], Decimal)
    assert answer.document is answer.document  # parsed once


def test_a_body_that_is_no_json_is_no_document() -> None:
    answer = Answer("u", {}, 200, b"<html>maintenance</html>", datetime.now(UTC))
    with pytest.raises(ExchangeError) as caught:
        _ = answer.document
    assert caught.value.code == "no_json"


def test_the_exchange_is_told_who_asks() -> None:
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.headers["User-Agent"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with hasty(f"http://127.0.0.1:{server.server_address[1]}") as client:
            client.get("/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert told == [f"kalshidb/{__version__}"]


def test_a_proxy_of_the_environment_does_not_come_between_us_and_a_local_exchange(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with hasty(exchange.base_url) as client:
        assert client.status().document["exchange_active"] is True


# Refusals.


def test_a_refusal_carries_the_words_of_the_exchange(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    with pytest.raises(ExchangeError) as caught:
        client.get("/markets", status="finalized")
    error = caught.value
    assert (error.status, error.code) == (400, "bad_request")
    assert error.message == "bad request: invalid status filter"
    assert error.url == f"{exchange.base_url}/markets"
    assert "invalid status filter" in str(error)


def test_what_does_not_exist_is_404(client: ExchangeClient) -> None:
    with pytest.raises(ExchangeError) as caught:
        client.market("KXNONE-26-X")
    assert (caught.value.status, caught.value.code) == (404, "not_found")


@pytest.mark.parametrize("body", ["<html>", "[]", '"text"', '{"error": null}', '{"other": 1}'])
def test_a_refusal_without_an_error_object_shows_its_body(body: str) -> None:
    with answering(lambda *_: (403, body)) as url, hasty(url) as client, pytest.raises(ExchangeError) as caught:
        client.get("/x")
    assert (caught.value.status, caught.value.code, caught.value.message) == (403, "http_403", body)


def test_a_redirect_is_no_answer() -> None:
    with answering(lambda *_: (302, "")) as url, hasty(url) as client, pytest.raises(ExchangeError) as caught:
        client.get("/x")
    assert caught.value.status == 302


def test_an_empty_filter_is_refused_because_it_would_mean_everything(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    with pytest.raises(ValueError, match="ticker is empty"):
        client.trades("")
    with pytest.raises(ValueError, match="tickers is empty"):
        client.get("/markets", tickers=[])
    with pytest.raises(ValueError, match="empty ticker"):
        client.market("")
    assert exchange.requests == []


# Trying again.


def test_what_can_pass_is_tried_again_after_growing_waits(exchange: SimulatedExchange) -> None:
    waiting = Waiting()
    exchange.fail(429, 503, "drop", "truncate")
    with patient(exchange, waiting) as client:
        answer = client.status()
    assert answer.document["trading_active"] is True
    assert waiting.slept == [0.5, 1.0, 2.0, 4.0]
    assert [served.status for served in exchange.requests] == [429, 503, 0, 200, 200]


def test_after_the_last_attempt_the_last_failure_is_raised(exchange: SimulatedExchange) -> None:
    waiting = Waiting()
    exchange.fail(503, 429, 429)
    with patient(exchange, waiting, max_retries=2) as client, pytest.raises(ExchangeError) as caught:
        client.status()
    assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    assert caught.value.message == "too many requests"
    assert len(waiting.slept) == 2
    assert len(exchange.requests) == 3


def test_an_exchange_that_is_not_there_is_an_error_without_a_status() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    waiting = Waiting()
    with (
        ExchangeClient(f"http://127.0.0.1:{port}", limit=None, max_retries=1, sleep=waiting.sleep) as client,
        pytest.raises(ExchangeError) as caught,
    ):
        client.status()
    assert (caught.value.status, caught.value.code) == (None, "ConnectError")
    assert len(waiting.slept) == 1


def test_a_mistake_of_ours_is_not_tried_again(exchange: SimulatedExchange) -> None:
    waiting = Waiting()
    with patient(exchange, waiting) as client, pytest.raises(ExchangeError):
        client.get("/markets", limit=100_000)
    assert waiting.slept == []
    assert len(exchange.requests) == 1


def test_an_answer_that_does_not_come_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            ExchangeClient(url, timeout=0.1, max_retries=0) as client,
            pytest.raises(ExchangeError) as caught,
        ):
            client.status()
    assert (caught.value.status, caught.value.code) == (None, "ReadTimeout")


def test_waits_are_spread_by_chance_and_bounded() -> None:
    assert retry_delay(3, 0.0) == 0.0
    assert retry_delay(3, 0.5) == 2.0
    assert retry_delay(50, 1.0) == 30.0


@pytest.mark.parametrize("fault", ["broken_json", "html", "other_shape"])
def test_a_200_that_is_no_answer_is_tried_again_and_is_never_taken_for_an_empty_one(
    exchange: SimulatedExchange, fault: Fault
) -> None:
    ticker = next(iter(exchange.world.markets))
    span = (NOON - timedelta(days=1), NOON, 60)
    with patient(exchange, Waiting(), max_retries=1) as client:
        questions: list[Callable[[], object]] = [
            client.historical_cutoff,
            lambda: client.series("KXSIMBTC15M"),
            lambda: list(client.series_list()),
            lambda: list(client.markets()),
            lambda: list(client.trades()),
            lambda: list(client.candlesticks_batch([ticker], *span)),
            lambda: list(client.orderbooks([ticker])),
        ]
        for question in questions:
            exchange.requests.clear()
            exchange.fail(fault)
            question()
            assert len(exchange.requests) > 1
            for _ in range(8):  # of every shape that there is
                exchange.fail(fault, fault)
                with pytest.raises(ExchangeError) as caught:
                    question()
                assert caught.value.code in {"no_json", "no_items"}


def test_an_answer_says_what_the_clock_of_the_exchange_said(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    assert client.status().date == exchange.present.replace(microsecond=0)
    with answering(lambda *_: (200, "{}")) as url, hasty(url) as other:
        assert other.get("/x").date is not None


@pytest.mark.parametrize("header", [None, "", "yesterday", "Sun, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_that_is_none_says_nothing(header: str | None) -> None:
    assert date_of(header) is None
    assert date_of("Sun, 01 Nov 2026 12:00:00 GMT") == datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_a_429_between_two_pages_is_not_taken_for_the_end(exchange: SimulatedExchange) -> None:
    waiting = Waiting()
    with patient(exchange, waiting) as client:
        complete = sum(len(page.document["trades"]) for page in client.trades())
        pages = client.trades()
        counted = len(next(pages).document["trades"])
        exchange.fail(429, "drop")
        counted += sum(len(page.document["trades"]) for page in pages)
    assert counted == complete > 10_000


# Pace.


def test_requests_are_spaced(exchange: SimulatedExchange) -> None:
    waiting = Waiting()
    with ExchangeClient(exchange.base_url, limit=RateLimit(5), clock=waiting, sleep=waiting.sleep) as client:
        for _ in range(4):
            client.status()
        waiting.now += 10
        client.status()
    assert waiting.slept == pytest.approx([0.2, 0.2, 0.2])


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(RateLimit(per_second=20, burst=40), now=100.0)
    assert [bucket.take(100.0) for _ in range(40)] == [0.0] * 40
    assert bucket.take(100.0) == pytest.approx(0.05)
    assert bucket.take(100.0) == pytest.approx(0.10)
    assert bucket.take(103.0) == 0.0  # 60 tokens later, of which 40 fit and two were owed


def test_a_drained_bucket_makes_everybody_wait() -> None:
    bucket = TokenBucket(RateLimit(per_second=20, burst=40), now=0.0)
    bucket.drain(0.0, pause=3.0)
    assert bucket.take(0.0) == pytest.approx(3.0)
    assert bucket.take(0.0) == pytest.approx(3.05)


def test_tiers_are_those_of_the_exchange() -> None:
    assert RateLimit.of_tier("basic") == RateLimit(20, 40)
    with pytest.raises(ValueError, match="no tier 'gold'; there are basic, advanced"):
        RateLimit.of_tier("gold")
    for wrong in ((0, 1), (-1, 1), (5, 0.5), (float("nan"), 1)):
        with pytest.raises(ValueError, match="positive rate"):
            RateLimit(*wrong)


def test_too_many_requests_pause_everybody(exchange: SimulatedExchange) -> None:
    waiting = Waiting()
    limit = RateLimit(per_second=10, burst=10)
    with ExchangeClient(exchange.base_url, limit=limit, clock=waiting, sleep=waiting.sleep, chance=lambda: 1.0) as client:
        client.status()
        assert waiting.slept == []
        exchange.fail(429)
        client.status()
        client.status()
    # The pause of the one that was refused, and then the plain rate for all: the burst is used up.
    assert waiting.slept == pytest.approx([0.5, 0.1])


# What was asked for.


@pytest.mark.parametrize(
    ("question", "rows", "stray"),
    [
        (request("/markets", "markets", event_ticker="KXA-1"), [{"event_ticker": "KXA-1"}, {"event_ticker": "KXA-2"}], "row 1 is of KXA-2"),
        (request("/events", "events", series_ticker="KXA"), [{"series_ticker": "KXB"}], "row 0 is of KXB"),
        (request("/markets/trades", "trades", ticker="KXA-1"), [{"ticker": "KXA-3"}], "asked for ticker KXA-1"),
        (request("/markets", "markets", tickers=["KXA-1", "KXA-2"]), [{"ticker": "KXA-2"}, {"ticker": "KXA-3"}], "row 1 is of KXA-3"),
        (request("/markets", "markets", tickers=["KXA-1", "KXA-2"]), [{"ticker": "KXA-2"}, {"title": "no name"}], None),
        (request("/markets", "markets", status="open"), [{"ticker": "KXA-1", "status": "closed"}], None),
    ],
)  # fmt: skip
def test_a_row_that_was_not_asked_for_is_an_error(question: Request, rows: list[dict[str, str]], stray: str | None) -> None:
    page = json.dumps({question.items: rows, "cursor": ""})
    with answering(lambda _path, _query: (200, page)) as url, hasty(url) as client:
        if stray is None:
            assert len(list(client.fetch([question]))) == 1
        else:
            with pytest.raises(ExchangeError, match=stray) as caught:
                list(client.fetch([question]))
            assert caught.value.code == "filter_ignored"


def test_a_walk_that_is_cut_says_so(client: ExchangeClient) -> None:
    cut: list[Request] = []
    question = request("/markets", "markets", limit=10)
    assert len(list(client.fetch([question], max_pages=2, on_cut=cut.append))) == 2
    assert cut == [question]
    cut.clear()
    whole = len(list(client.fetch([question])))
    assert len(list(client.fetch([question], max_pages=whole, on_cut=cut.append))) == whole
    assert cut == []


def test_a_limited_exchange_is_read_to_the_end_by_waiting() -> None:
    with (
        SimulatedExchange(markets=60, rate_limit=30) as limited,
        ExchangeClient(limited.base_url, limit=None, chance=lambda: 0.05, max_retries=20) as client,
    ):
        pages = list(client.pages("/markets", items="markets", limit=1))
        statuses = [served.status for served in limited.requests]
    assert len(pages) == 60 - sum(limited.world.is_historical(market) for market in limited.world.markets.values())
    assert statuses.count(429) >= 1


# Pages.


def test_pages_are_followed_to_the_end(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    tickers = [
        market["ticker"] for page in client.pages("/markets", items="markets", limit=37) for market in page.document["markets"]
    ]
    world = exchange.world
    live = {ticker for ticker, market in world.markets.items() if not world.is_historical(market)}
    assert len(tickers) == len(set(tickers))
    assert set(tickers) == live
    assert len(exchange.requests) == -(-len(live) // 37)


def test_pages_are_asked_for_one_at_a_time(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    pages = client.trades()
    assert len(exchange.requests) == 0
    next(pages)
    assert len(exchange.requests) == 1


def test_the_filters_go_with_every_page() -> None:
    asked: list[dict[str, list[str]]] = []

    def reply(_: str, query: dict[str, list[str]]) -> tuple[int, str]:
        asked.append(query)
        cursor = {None: "one", "one": "two"}.get(query.get("cursor", [None])[0], "")
        return 200, json.dumps({"markets": [{}], "cursor": cursor})

    with answering(reply) as url, hasty(url) as client:
        assert len(list(client.markets(status="open"))) == 3
    assert [query.pop("cursor", None) for query in asked] == [None, ["one"], ["two"]]
    assert asked == [{"limit": ["1000"], "status": ["open"], "mve_filter": ["exclude"]}] * 3


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_a_cursor_that_comes_again_is_an_error(cursors: list[str]) -> None:
    remaining = iter(cursors)

    def reply(*_: object) -> tuple[int, str]:
        return 200, json.dumps({"markets": [{}], "cursor": next(remaining)})

    with answering(reply) as url, hasty(url) as client, pytest.raises(ExchangeError) as caught:
        list(client.markets())
    assert caught.value.code == "repeated_cursor"


def test_empty_pages_without_end_are_an_error() -> None:
    numbers = iter(range(10_000))

    def reply(*_: object) -> tuple[int, str]:
        return 200, json.dumps({"markets": [], "cursor": f"c{next(numbers)}"})

    with answering(reply) as url, hasty(url) as client, pytest.raises(ExchangeError) as caught:
        list(client.markets())
    assert caught.value.code == "endless_pages"


@pytest.mark.parametrize("body", ['{"cursor": ""}', '{"markets": {}}', "[]", '{"market": []}'])
def test_a_page_without_its_list_is_an_error_and_not_an_empty_page(body: str) -> None:
    with answering(lambda *_: (200, body)) as url, hasty(url) as client, pytest.raises(ExchangeError) as caught:
        list(client.markets())
    assert caught.value.code == "no_items"


def test_a_list_that_is_null_is_empty() -> None:
    with answering(lambda *_: (200, '{"markets": null}')) as url, hasty(url) as client:
        assert len(list(client.markets())) == 1


# Limits.


def test_windows_cover_the_range_once() -> None:
    windows = list(candlestick_windows(1_000_000, 1_700_000, 60, 24))
    assert windows[0][0] == 1_000_000
    assert windows[-1][1] == 1_700_000
    assert all(after[0] == before[1] + 1 for before, after in pairwise(windows))
    assert max(last - first + 1 for first, last in windows) == 24 * 3600
    assert list(candlestick_windows(5, 5, 1, 1)) == [(5, 5)]


def test_ranges_and_periods_that_cannot_be_are_refused_before_anything_is_asked(
    exchange: SimulatedExchange, client: ExchangeClient
) -> None:
    later = NOON + timedelta(hours=1)
    questions: list[Callable[[], object]] = [
        lambda: client.candlesticks("S", "M", later, NOON, 60),
        lambda: client.candlesticks_batch(["M"], NOON, later, 5),
        lambda: client.historical_candlesticks("M", NOON.replace(tzinfo=None), later, 60),
        lambda: client.event_candlesticks("S", "E", NOON, later, 2),
        lambda: client.candlesticks("", "M", NOON, later, 60),
    ]
    for question in questions:
        with pytest.raises(ValueError, match=r"ends before|minutes, not|without a zone|empty"):
            question()
    assert exchange.requests == []


def test_the_same_moment_is_the_same_second_in_every_zone() -> None:
    assert epoch_seconds(NOON.astimezone(timezone(timedelta(hours=-4)))) == epoch_seconds(NOON) == 1_792_497_600
    assert epoch_seconds(NOON + timedelta(milliseconds=1)) == 1_792_497_600
    assert epoch_seconds(NOON + timedelta(milliseconds=1), up=True) == 1_792_497_601


@pytest.mark.parametrize(("tickers", "hours"), [(1, 5_001), (3, 4_000), (100, 24), (101, 500), (250, 7)])
def test_batches_stay_within_both_limits_and_ask_for_everything_once(tickers: int, hours: int) -> None:
    names = [f"T{number}" for number in range(tickers)]
    covered: dict[str, int] = dict.fromkeys(names, 0)
    for asked in batch_candlestick_requests(names, NOON, NOON + timedelta(hours=hours), 60):
        params = dict(asked.params)
        some = params["market_tickers"].split(",")
        seconds = int(params["end_ts"]) - int(params["start_ts"]) + 1
        assert len(some) <= 100
        assert len(some) * -(-seconds // 3600) <= 10_000
        for name in some:
            covered[name] += seconds
    assert set(covered.values()) == {hours * 3600 + 1}


def test_order_books_repeat_their_tickers() -> None:
    asked = list(orderbook_requests([f"T{number}" for number in range(201)], depth=3))
    assert [len(one.params) for one in asked] == [101, 101, 2]
    assert asked[2].params == (("tickers", "T200"), ("depth", "3"))


def test_requests_write_what_the_exchange_reads() -> None:
    asked = request("/x", "things", a=1, b=True, c=None, d=["p", "q"], e=NOON)
    assert asked.params == (("a", "1"), ("b", "true"), ("d", "p,q"), ("e", "1792497600"))
    assert asked.items == "things"
    assert [dict(one.params)["period_interval"] for one in candlestick_requests("/x", 0, 1, 1440)] == ["1440"]


# The whole of it, against the truth of the simulated exchange.


def test_candles_longer_than_one_answer_are_complete(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    world = exchange.world
    market = world.markets["KXHARBORMAYOR-26-MAR"]
    answers = list(client.candlesticks(market.series_ticker, market.ticker, market.open // 10**6, world.now // 10**6, 1))
    ends = [candle["end_period_ts"] for answer in answers for candle in answer.document["candlesticks"]]
    assert len(answers) > 20
    assert ends == [candle.end for candle in world.candles(market.ticker, 1) if candle.end <= world.now // 10**6]


def test_a_batch_of_candles_is_complete(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    world = exchange.world
    now = world.now // 10**6
    tickers = [ticker for ticker, market in world.markets.items() if not world.is_historical(market)]
    found: dict[str, int] = dict.fromkeys(tickers, 0)
    for answer in client.candlesticks_batch(tickers, now - 10 * 86_400, now, 60):
        for market in answer.document["markets"]:
            found[market["market_ticker"]] += len(market["candlesticks"])
    assert found == {
        ticker: sum(now - 10 * 86_400 <= candle.end <= now for candle in world.candles(ticker, 60)) for ticker in tickers
    }


def test_event_candles_are_asked_for_until_the_end_is_reached(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    world = exchange.world
    event = world.events["KXHARBORMAYOR-26"]
    start, end = event.markets[0].open // 10**6, world.now // 10**6
    found: dict[str, list[int]] = {}
    for answer in client.event_candlesticks(event.series_ticker, event.ticker, start, end, 60):
        pairs = zip(answer.document["market_tickers"], answer.document["market_candlesticks"], strict=True)
        for ticker, candles in pairs:
            found.setdefault(ticker, []).extend(candle["end_period_ts"] for candle in candles)
    assert len(exchange.requests) > 1
    assert found == {
        market.ticker: [candle.end for candle in world.candles(market.ticker, 60) if candle.end <= end]
        for market in event.markets
    }


def test_an_event_range_that_is_cut_to_nothing_is_an_error() -> None:
    body = '{"adjusted_end_ts": 0, "market_tickers": [], "market_candlesticks": []}'
    with answering(lambda *_: (200, body)) as url, hasty(url) as client, pytest.raises(ExchangeError) as caught:
        list(client.event_candlesticks("S", "E", NOON, NOON + timedelta(days=1), 60))
    assert caught.value.code == "no_progress"


def test_trades_of_a_range_include_both_its_ends(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    trades = exchange.world.trades("KXHARBORMAYOR-26-LIN")
    recent = [trade for trade in trades if trade.time >= exchange.world.cutoff]
    first, last = recent[3], recent[-3]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    start = epoch + timedelta(microseconds=first.time)
    end = epoch + timedelta(microseconds=last.time + 1)
    found = [
        trade["trade_id"]
        for page in client.trades("KXHARBORMAYOR-26-LIN", start=start, end=end)
        for trade in page.document["trades"]
    ]
    wanted = {trade.trade_id for trade in trades if first.time <= trade.time <= last.time}
    assert wanted <= set(found)
    assert len(found) < len(recent)


def test_both_tiers_together_have_every_trade_once(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    found = [
        trade["trade_id"]
        for pages in (client.trades(), client.historical_trades())
        for page in pages
        for trade in page.document["trades"]
    ]
    assert len(found) == len(set(found)) == len(exchange.world.all_trades)


def test_both_tiers_together_have_every_market_once(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    found = [
        market["ticker"]
        for pages in (client.markets(mve_filter=None), client.historical_markets())
        for page in pages
        for market in page.document["markets"]
    ]
    assert sorted(found) == sorted(exchange.world.markets)


def test_combinations_are_left_out_unless_they_are_asked_for(client: ExchangeClient) -> None:
    usual = [market["ticker"] for page in client.markets() for market in page.document["markets"]]
    only = [market["ticker"] for page in client.markets(mve_filter="only") for market in page.document["markets"]]
    assert not any(ticker.startswith("KXMVE") for ticker in usual)
    assert len(only) == 2


def test_events_of_combinations_have_a_list_of_their_own(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    usual = {event["event_ticker"] for page in client.events() for event in page.document["events"]}
    combos = {event["event_ticker"]: event for page in client.multivariate_events() for event in page.document["events"]}
    assert set(combos) == set(exchange.world.combos)
    assert not usual & set(combos)
    (page,) = client.multivariate_events(series_ticker="KXMVEWEATHER", with_nested_markets=True)
    assert [event["series_ticker"] for event in page.document["events"]] == ["KXMVEWEATHER"] * 2
    assert sum(len(event["markets"]) for event in page.document["events"]) > 0
    assert [len(page.document["events"]) for page in client.multivariate_events(series_ticker="KXOTHER")] == [0]


def test_many_markets_are_asked_for_by_name_in_pieces(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    names = list(exchange.world.markets)
    live = [m["ticker"] for page in client.markets_named(names) for m in page.document["markets"]]
    old = [m["ticker"] for page in client.markets_named(names, historical=True) for m in page.document["markets"]]
    assert sorted(live + old) == sorted(names)
    assert len(exchange.requests) == 4


def test_all_order_books_are_read_in_hundreds(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    world = exchange.world
    tickers = [ticker for ticker, market in world.markets.items() if not world.is_historical(market)]
    books = [book for answer in client.orderbooks(tickers) for book in answer.document["orderbooks"]]
    assert [book["ticker"] for book in books] == tickers
    assert len(exchange.requests) == -(-len(tickers) // 100)
    full = [book for book in books if book["orderbook_fp"]["yes_dollars"]]
    assert len(full) >= 10


def test_every_other_question_has_its_answer(exchange: SimulatedExchange, client: ExchangeClient) -> None:
    world = exchange.world
    old = next(market for market in world.markets.values() if world.is_historical(market))
    start, end = old.open // 10**6, old.close // 10**6 + 3600
    assert client.historical_cutoff().document["market_settled_ts"] == "2026-09-02T00:00:00Z"
    assert len(next(client.series_list(category="Crypto")).document["series"]) == 1
    assert len(next(client.events(status="open", series_ticker="KXSIMBTC15M")).document["events"]) == 1
    assert client.event("KXHARBORMAYOR-26").document["event"]["mutually_exclusive"] is True
    assert len(client.event("KXHARBORMAYOR-26", with_nested_markets=True).document["event"]["markets"]) == 5
    assert client.market("KXRECORDRAIN-26").document["market"]["status"] == "active"
    assert client.historical_market(old.ticker).document["market"]["status"] == "finalized"
    candles = [
        candle
        for answer in client.historical_candlesticks(old.ticker, start, end, 60)
        for candle in answer.document["candlesticks"]
    ]
    assert len(candles) == len(world.candles(old.ticker, 60))
    assert len(client.orderbook("KXRECORDRAIN-26", depth=1).document["orderbook_fp"]["yes_dollars"]) == 1
