"""The faults of the simulated exchange, each as it looks over the wire."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from kalshidb.exchange.simulator import FaultSettings, SimulatedExchange
from kalshidb.exchange.simulator.faults import NAMES, STORM_REQUESTS, Fault
from kalshidb.exchange.simulator.world import DEFAULT_NOW

LIST: dict[str, Any] = {"limit": 40}


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=5, markets=120) as exchange:
        yield exchange


@pytest.fixture
def exchange(running: SimulatedExchange) -> Iterator[SimulatedExchange]:
    yield running
    running.faults.set(FaultSettings())
    running.era = "current"


@pytest.fixture
def http(exchange: SimulatedExchange) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=exchange.base_url, trust_env=False, timeout=5) as client:
        yield client


def walk(http: httpx.Client) -> list[list[Any]]:
    """The markets of each page until the last."""
    pages, cursor = [], ""
    while True:
        page = http.get("/markets", params=LIST | ({"cursor": cursor} if cursor else {})).json()
        pages.append(page["markets"])
        assert len(pages) < 30
        cursor = page["cursor"]
        if not cursor:
            return pages


def names(rows: list[Any]) -> list[str]:
    return [row["ticker"] for row in rows]


def flat(pages: list[list[Any]]) -> list[str]:
    return [name for page in pages for name in names(page)]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_status_is_an_error_in_the_form_of_the_exchange(exchange: SimulatedExchange, http: httpx.Client, status: int) -> None:
    exchange.fail(status)
    answers = [http.get("/exchange/status") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, 200]
    assert "error" in answers[0].json()


def test_a_dropped_connection_gives_no_answer(exchange: SimulatedExchange, http: httpx.Client) -> None:
    exchange.fail("drop")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        http.get("/series")
    assert http.get("/series").status_code == 200


def test_a_cut_body_is_shorter_than_it_says(exchange: SimulatedExchange) -> None:
    exchange.fail("truncate")
    url = urlsplit(exchange.base_url)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=5)
    connection.request("GET", f"{url.path}/series")
    answer = connection.getresponse()
    announced = int(answer.headers["Content-Length"])
    with pytest.raises(IncompleteRead) as caught:
        answer.read()
    assert 0 < len(caught.value.partial) < announced
    connection.close()


def test_a_slow_answer_comes_whole_after_a_while_and_a_dribbling_one_in_pieces(
    exchange: SimulatedExchange, http: httpx.Client
) -> None:
    expected = http.get("/series").content
    for fault in ("slow", "dribble"):
        exchange.fail(fault)
        begun = time.monotonic()
        with http.stream("GET", "/series") as answer:
            pieces = list(answer.iter_raw())
        assert b"".join(pieces) == expected
        assert time.monotonic() - begun >= 0.25
        assert (len(pieces) > 4) == (fault == "dribble")


def test_latency_is_drawn_for_each_answer(exchange: SimulatedExchange, http: httpx.Client) -> None:
    exchange.faults.set(FaultSettings(latency=(0.02, 0.06)))
    took = []
    for _ in range(6):
        begun = time.monotonic()
        http.get("/exchange/status")
        took.append(time.monotonic() - begun)
    assert min(took) >= 0.02
    assert max(took) - min(took) > 0.005


def test_a_storm_is_many_429s_in_a_row_for_requests_or_for_time(exchange: SimulatedExchange, http: httpx.Client) -> None:
    exchange.fail("storm")
    statuses = [http.get("/exchange/status").status_code for _ in range(STORM_REQUESTS + 2)]
    assert statuses == [429] * (STORM_REQUESTS + 1) + [200]
    exchange.faults.storm(0.05)
    assert http.get("/exchange/status").status_code == 429
    deadline = time.monotonic() + 5
    while http.get("/exchange/status").status_code == 429:
        assert time.monotonic() < deadline


def test_wrong_json_and_pages_for_people_come_with_status_200_and_their_right_length(
    exchange: SimulatedExchange, http: httpx.Client
) -> None:
    kinds: dict[Fault, str] = {"broken_json": "application/json", "html": "text/html; charset=utf-8"}
    for fault, kind in kinds.items():
        exchange.fail(fault)
        answer = http.get("/markets")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
        with pytest.raises(ValueError):  # noqa: PT011  (whatever the parser says)
            answer.json()


def test_other_shapes_are_json_without_the_rows_that_were_asked_for(exchange: SimulatedExchange, http: httpx.Client) -> None:
    shapes = set()
    for _ in range(40):
        exchange.fail("other_shape")
        answer = http.get("/markets")
        document = answer.json()
        shapes.add(answer.text[:12])
        assert answer.status_code == 200
        assert not isinstance(document, dict) or not isinstance(document.get("markets"), list)
    assert len(shapes) == 8


def test_a_page_that_comes_again_has_another_cursor_and_the_walk_ends_as_it_would(
    exchange: SimulatedExchange, http: httpx.Client
) -> None:
    expected = walk(http)
    assert len(expected) > 2
    for place in range(len(expected)):
        exchange.after(place, lambda: exchange.fail("same_page"))
        pages = walk(http)
        assert len(pages) == len(expected) + 1
        assert [names(page) for page in pages[: place + 1]] == [names(page) for page in expected[: place + 1]]
        assert names(pages[place + 1]) == names(expected[place])


def test_pages_may_overlap_come_in_another_order_and_have_their_rows_in_another_order(
    exchange: SimulatedExchange, http: httpx.Client
) -> None:
    expected = walk(http)
    exchange.fail("overlap")
    pages = walk(http)
    assert names(pages[0])[-3:] == names(pages[1])[:3]
    assert set(flat(pages)) == set(flat(expected))
    exchange.fail("swapped_pages")
    swapped = walk(http)
    assert [names(page) for page in swapped[:2]] == [names(expected[1]), names(expected[0])]
    assert [names(page) for page in swapped[2:]] == [names(page) for page in expected[2:]]
    exchange.fail("shuffled")
    shuffled = walk(http)
    assert names(shuffled[0]) != names(expected[0])
    assert sorted(names(shuffled[0])) == sorted(names(expected[0]))


def test_an_ignored_filter_answers_with_everything(exchange: SimulatedExchange, http: httpx.Client) -> None:
    series = next(market.series_ticker for market in exchange.world.markets.values() if not market.is_combo)
    asked = {"series_ticker": series, "limit": 1000}
    some = http.get("/markets", params=asked).json()["markets"]
    exchange.fail("ignored_filter")
    assert len(http.get("/markets", params=asked).json()["markets"]) > len(some) > 0


def test_one_row_may_have_a_value_that_cannot_be(exchange: SimulatedExchange, http: httpx.Client) -> None:
    good = http.get("/markets").json()["markets"]
    exchange.fail("wrong_field")
    found = http.get("/markets").json()["markets"]
    wrong = [market for market in found if market not in good]
    assert [market["status"] for market in wrong] == [5]
    assert len(found) == len(good)
    active = [market["ticker"] for market in good if market["status"] == "active"][:9]
    span = {"start_ts": int(DEFAULT_NOW.timestamp()) - 86_400 * 3, "end_ts": int(DEFAULT_NOW.timestamp()), "period_interval": 60}
    exchange.fail("wrong_field")
    answer = http.get("/markets/candlesticks", params={"market_tickers": ",".join(active), **span}).json()
    assert [candle["yes_bid"] for market in answer["markets"] for candle in market["candlesticks"]].count("nobody") == 1


def test_an_answer_may_be_of_another_era_and_the_era_may_change_between_two_pages(
    exchange: SimulatedExchange, http: httpx.Client
) -> None:
    exchange.fail("other_era")
    assert "volume" in http.get("/markets").json()["markets"][0]
    exchange.after(1, lambda: setattr(exchange, "era", "cents"))
    pages = walk(http)
    assert ["volume" in page[0] for page in pages] == [False] + [True] * (len(pages) - 1)


def test_time_may_pass_between_two_answers() -> None:
    with SimulatedExchange(seed=5, markets=60) as exchange, httpx.Client(base_url=exchange.base_url, trust_env=False) as http:
        exchange.after(1, lambda: exchange.move_to(DEFAULT_NOW + timedelta(days=70)))
        market = next(
            market
            for market in exchange.world.markets.values()
            if exchange.world.status(market) == "finalized" and not exchange.world.is_historical(market)
        )
        paths = [f"/markets/{market.ticker}"] * 2 + [f"/historical/markets/{market.ticker}"]
        assert [http.get(path).status_code for path in paths] == [200, 404, 200]


def test_a_clock_that_is_ahead_shows_in_the_date_the_cutoff_and_what_was_changed_when_but_in_no_trade(
    exchange: SimulatedExchange, http: httpx.Client
) -> None:
    def said() -> tuple[datetime, Any, Any, bytes]:
        status = http.get("/exchange/status")
        market = http.get("/markets", params={"limit": 1}).json()["markets"][0]
        return (
            parsedate_to_datetime(status.headers["Date"]),
            datetime.fromisoformat(http.get("/historical/cutoff").json()["trades_created_ts"]),
            datetime.fromisoformat(market["updated_time"]),
            http.get("/markets/trades").content,
        )

    before = said()
    assert before[0] == datetime.fromtimestamp(exchange.world.now // 1_000_000, UTC)
    exchange.faults.set(FaultSettings(skew=timedelta(seconds=95)))
    after = said()
    assert [later - earlier for later, earlier in zip(after[:3], before[:3], strict=True)] == [timedelta(seconds=95)] * 3
    assert after[3] == before[3]


def test_faults_by_chance_are_the_same_for_the_same_seed_in_every_order_of_questions() -> None:
    rates: dict[Fault, float] = {"drop": 0.2, 503: 0.2, "slow": 0.1}
    questions = [f"GET /{number % 10}" for number in range(200)]

    def given(seed: int, order: list[str]) -> dict[str, list[Any]]:
        faults = SimulatedExchange(seed=5, markets=60, faults=FaultSettings(seed, rates)).faults
        found: dict[str, list[Any]] = {}
        for question in order:
            found.setdefault(question, []).append(faults.next(question).fault)
        return found

    forwards = given(1, questions)
    assert given(1, questions[::-1]) == forwards
    assert given(2, questions) != forwards
    every = [fault for faults in forwards.values() for fault in faults]
    assert 20 < every.count("drop") < 60
    assert 70 < every.count(None) < 130


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "faults are an object"),
        ({"rate": {}}, "faults are an object"),
        ({"rates": {"rain": 0.1}}, "no fault 'rain'; there are drop"),
        ({"rates": {"404": 0.1}}, "no fault 404"),
        ({"rates": {"drop": 1.1}}, "between 0 and 1: 1.1"),
        ({"rates": {"drop": 0.6, "slow": 0.6}}, "add up to more than 1"),
        ({"rates": []}, "faults: "),
        ({"latency": [2, 1]}, "from a least to a most"),
        ({"latency": 1}, "faults: "),
    ],
)
def test_faults_that_cannot_be_are_named(document: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultSettings.from_document(document)
    with pytest.raises(ValueError, match="no fault 'rain'"):
        SimulatedExchange(markets=60).fail("rain")  # type: ignore[arg-type]


def test_every_fault_may_be_asked_for_by_its_name() -> None:
    settings = FaultSettings.from_document({"rates": dict.fromkeys((*NAMES, "503"), 0.01), "latency": [0, 1], "skew_seconds": -3})
    assert FaultSettings.from_document(json.loads(json.dumps(settings.as_document()))) == settings


def test_a_process_is_disturbed_from_its_command_line_and_while_it_runs() -> None:
    command = [sys.executable, "-m", "kalshidb", "simulator", "--markets", "60", "--fault", "503=1", "--fault-seed", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        control = url.replace("/trade-api/v2", "/simulator")
        with httpx.Client(trust_env=False) as http:
            assert http.get(f"{url}/series").status_code == 503
            said = http.get(control).json()
            assert (said["era"], said["faults"]["rates"], said["given"]) == ("current", {"503": 1.0}, {"503": 1})
            later = (DEFAULT_NOW + timedelta(days=1)).isoformat()
            changed = http.put(control, json={"now": later, "era": "cents", "faults": {}}).json()
            assert (changed["now"], changed["era"], changed["faults"]["rates"]) == (later, "cents", {})
            assert "volume" in http.get(f"{url}/markets").json()["markets"][0]
            for wrong in (
                {"now": "yesterday"},
                {"now": DEFAULT_NOW.isoformat()},
                {"era": "stone"},
                {"faults": {"rates": {"x": 1}}},
                3,
            ):
                assert http.put(control, json=wrong).status_code == 400, wrong
            assert http.get(control).json()["now"] == later
            assert http.put(f"{url}/markets", json={}).status_code == 405
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
