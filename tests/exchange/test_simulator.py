"""The simulated exchange: is its world believable, and does it answer as the real one does, traps included?"""

import http.client
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from kalshidb.exchange.simulator import Era, Market, SimulatedExchange, World
from kalshidb.exchange.simulator.__main__ import main
from kalshidb.exchange.simulator.wire import timestamp
from kalshidb.exchange.simulator.world import DAY, DOLLAR, HOUR, MINUTE, SECOND, micros

Json: TypeAlias = Any
"""Whatever an answer holds; the tests say what they expect."""
Parameter: TypeAlias = str | int | list[str]
ERAS: tuple[Era, ...] = ("cents", "transition", "current")


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(seed=7, markets=300) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def world(exchange: SimulatedExchange) -> World:
    return exchange.world


@pytest.fixture(scope="module")
def large() -> World:
    return World(seed=11, markets=3_000)


@pytest.fixture(scope="module")
def http_client(exchange: SimulatedExchange) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=exchange.base_url, trust_env=False) as client:
        yield client


class Asking:
    """Short questions for tests."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def __call__(self, path: str, **params: Parameter) -> Json:
        response = self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, path: str, **params: Parameter) -> tuple[int, Json]:
        response = self.client.get(path, params=params)
        return response.status_code, response.json()

    def everything(self, path: str, items: str, **params: Parameter) -> list[Json]:
        found: list[Json] = []
        cursor = ""
        while True:
            page = self(path, **params, **({"cursor": cursor} if cursor else {}))
            found.extend(page[items])
            cursor = page["cursor"]
            if not cursor:
                return found


@pytest.fixture
def ask(http_client: httpx.Client) -> Asking:
    return Asking(http_client)


def bad_request(details: str) -> tuple[int, Json]:
    return 400, {"error": {"code": "bad_request", "message": "bad request", "details": details}}


NOT_FOUND = (404, {"error": {"code": "not_found", "message": "not found"}})


# The world.


@pytest.mark.parametrize("size", [60, 61, 300, 1_001])
def test_a_world_has_as_many_markets_as_were_asked_for(size: int) -> None:
    assert len(World(markets=size).markets) == size


def test_a_world_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest"):
        World(markets=59)
    with pytest.raises(ValueError, match="time zone"):
        World(now=datetime(2026, 11, 1))  # noqa: DTZ001 -- that is the mistake
    with pytest.raises(ValueError, match="unknown era"):
        SimulatedExchange(era="roman")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        SimulatedExchange(rate_limit=0)


@pytest.mark.parametrize("hour", [0, 3, 5, 6, 13, 19])
@pytest.mark.parametrize("month", [1, 3, 7, 11])
def test_any_moment_has_a_world(month: int, hour: int) -> None:
    world = World(markets=60, now=datetime(2026, month, 9, hour, 31, tzinfo=UTC))
    words = {world.status(market) for market in world.markets.values()}
    assert {"active", "finalized", "closed", "inactive"} <= words


def test_every_ladder_has_exactly_one_winner(large: World) -> None:
    ladders = [event for event in large.events.values() if event.ticker.startswith("KXSIMHIGH")]
    assert len(ladders) > 400
    for event in ladders:
        assert [market.strike_type for market in event.markets] == ["less", *["between"] * 4, "greater"]
        assert [market.payout for market in event.markets].count(DOLLAR) == 1
        reading = float(event.markets[0].value)
        for market in event.markets:
            above = market.floor_strike is None or reading > market.floor_strike - (market.strike_type == "between")
            below = market.cap_strike is None or reading < market.cap_strike + (market.strike_type == "between")
            assert (market.payout == DOLLAR) == (above and below), market.ticker


def test_a_quarter_hour_begins_where_the_one_before_ended(world: World) -> None:
    quarters = [event.markets[0] for event in world.events.values() if event.series_ticker == "KXSIMBTC15M"]
    assert len(quarters) >= 20
    together = [(one, two) for one, two in pairwise(quarters) if one.close == two.open]
    assert len(together) >= 18
    for one, two in together:
        assert Decimal(one.value) == Decimal(str(two.floor_strike))
    assert {world.status(market) for market in quarters} == {"finalized", "determined", "active", "initialized"}


def test_the_hour_that_comes_twice_gives_no_market_twice() -> None:
    world = World(now=datetime(2026, 11, 1, 8, 5, tzinfo=UTC))
    names = [event.ticker for event in world.events.values() if event.series_ticker == "KXSIMBTC15M"]
    assert "KXSIMBTC15M-26NOV010130" in names
    assert len(names) == len(set(names)) >= 25


def test_the_peculiar_ones_are_there(world: World) -> None:
    tie = world.events["KXHARBORCUPGAME-26SEMI1"].markets
    assert [(world.result(market), market.payout) for market in tie] == [("scalar", 5_000)] * 2
    assert world.status(world.markets["KXFERRYSTRIKE-26"]) == "closed"
    assert world.now - world.markets["KXFERRYSTRIKE-26"].close > 60 * DAY
    assert world.status(world.markets["KXALBUMDELAY-26"]) == "inactive"
    fine = world.trades("KXRECORDRAIN-26")
    assert any(trade.yes_price % 100 for trade in fine)
    assert any(trade.count == 1 for trade in fine)
    assert {world.status(event.markets[0]) for event in world.combos.values()} == {"active", "finalized"}


def test_a_combination_pays_when_all_its_legs_pay() -> None:
    paid: Counter[bool] = Counter()
    for seed in range(60):
        world = World(seed=seed, markets=60)
        for event in world.combos.values():
            market = event.markets[0]
            legs = [world.markets[leg].payout == DOLLAR for leg in market.legs]
            assert (market.payout == DOLLAR) == all(legs)
            paid[all(legs)] += 1
    assert paid[True] >= 3


def test_candidates_share_one_dollar(world: World) -> None:
    event = world.events["KXHARBORMAYOR-26"]
    quotes = [world.history(market.ticker).quote_at(world.now) for market in event.markets]
    middle = sum(bid + ask for bid, ask in quotes) / 2 / DOLLAR
    assert middle == pytest.approx(1, abs=0.12)
    for _, values in world.fair_values(event.ticker):
        assert sum(values) == pytest.approx(1)


def settled_binaries(world: World) -> list[Market]:
    return [
        market
        for market in world.markets.values()
        if world.status(market) == "finalized" and market.payout in {0, DOLLAR} and not market.is_combo
    ]


def miscalibration(pairs: list[tuple[float, bool]]) -> float:
    """The largest deviation of wins from prices over price bins, in standard deviations."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for price, won in pairs:
        bins[min(7, int(price * 8))].append((price, won))
    worst = 0.0
    for members in bins.values():
        spread = math.sqrt(sum(price * (1 - price) for price, _ in members) + 0.25)
        worst = max(worst, abs(sum(won - price for price, won in members)) / spread)
    return worst


def middle_prices(world: World) -> list[tuple[float, bool]]:
    """One price a market, at a time of its own, as a reader of candles would see it; and whether it won."""
    pairs: list[tuple[float, bool]] = []
    for market in settled_binaries(world):
        share = world.stream(market.ticker, "a reader of the test").uniform(0.1, 0.8)
        bid, ask = world.history(market.ticker).quote_at(market.open + int((market.close - market.open) * share))
        if bid > 0 and ask < DOLLAR:
            pairs.append(((bid + ask) / 2 / DOLLAR, market.payout == DOLLAR))
    return pairs


def test_prices_are_probabilities(large: World) -> None:
    pairs = middle_prices(large)
    assert len(pairs) > 1_000
    assert miscalibration(pairs) < 4


def test_the_calibration_test_would_notice_a_biased_world(large: World) -> None:
    pairs = middle_prices(large)
    generous = [(min(0.99, price + 0.08), won) for price, won in pairs]
    timid = [(0.5 + (price - 0.5) * 0.6, won) for price, won in pairs]
    assert miscalibration(generous) > 4
    assert miscalibration(timid) > 4


def test_traded_prices_pay_what_they_cost_on_average(large: World) -> None:
    # Within an event all trades share one answer, so the mean of each market's trades counts once.
    gains = [
        sum(market.payout - trade.yes_price for trade in trades) / len(trades) / DOLLAR
        for market in settled_binaries(large)
        if (trades := large.trades(market.ticker))
    ]
    mean = sum(gains) / len(gains)
    deviation = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / len(gains) / len(gains))
    assert abs(mean) < 4 * deviation + 0.01


def test_quotes_are_ordered_on_the_grid_and_a_few_cents_apart(world: World) -> None:
    spreads: list[int] = []
    for market in world.markets.values():
        quotes = world.history(market.ticker).quotes
        assert all(one[0] < two[0] for one, two in pairwise(quotes)), market.ticker
        for _, bid, ask in quotes:
            assert 0 <= bid < ask <= DOLLAR
            assert bid % market.tick == ask % market.tick == 0
            if bid and ask < DOLLAR and market.tick == 100:
                spreads.append((ask - bid) // 100)
    assert min(spreads) == 1
    assert max(spreads) <= 9
    assert Counter(spreads).most_common(1)[0][0] <= 4


def test_a_few_markets_have_most_of_the_volume(world: World) -> None:
    volumes = sorted((sum(trade.count for trade in world.trades(ticker)) for ticker in world.markets), reverse=True)
    assert sum(volumes[:30]) > 0.45 * sum(volumes)
    assert volumes[150] < sum(volumes) / 300 / 2
    assert all(len(world.trades(ticker)) <= 600 for ticker in world.markets)


def test_trades_are_at_the_quote_and_in_the_life_of_their_market(world: World) -> None:
    for ticker, market in world.markets.items():
        history = world.history(ticker)
        for trade in history.trades:
            assert market.open <= trade.time <= min(market.close, world.now)
            bid, ask = history.quote_at(trade.time)
            assert trade.yes_price == (ask if trade.taker_side == "yes" else bid)
            assert 0 < trade.yes_price < DOLLAR
            assert trade.count >= 1


def test_some_trades_differ_only_in_their_id(world: World) -> None:
    seen = Counter((trade.ticker, trade.time, trade.yes_price, trade.taker_side, trade.count) for trade in world.all_trades)
    assert sum(count > 1 for count in seen.values()) > 100
    assert len({trade.trade_id for trade in world.all_trades}) == len(world.all_trades)


@pytest.mark.parametrize("interval", [1, 60, 1440])
def test_candles_are_the_sum_of_their_trades(world: World, interval: int) -> None:
    for ticker in list(world.markets)[::3]:
        history = world.history(ticker)
        candles = world.candles(ticker, interval)
        starts = [candle.end - interval * 60 for candle in candles]
        assert all(one.end < two.end for one, two in pairwise(candles))
        remaining = list(history.trades)
        previous: int | None = None
        for start, candle in zip(starts, candles, strict=True):
            if interval == 1440:
                start = candle.end - 25 * 3600  # noqa: PLW2901 -- the trades of the day before are gone already
            inside = [trade for trade in remaining if start * SECOND < trade.time <= candle.end * SECOND]
            remaining = remaining[len(inside) :]
            prices = [trade.yes_price for trade in inside]
            assert candle.previous == previous
            assert candle.volume == sum(trade.count for trade in inside)
            assert candle.whole_volume == sum(trade.whole_count for trade in inside)
            if not prices:
                assert candle.price is None
                continue
            assert candle.price is not None
            told = (candle.price.open, candle.price.low, candle.price.high, candle.price.close)
            assert told == (prices[0], min(prices), max(prices), prices[-1])
            mean = sum(trade.yes_price * trade.count for trade in inside) / candle.volume
            assert candle.mean == pytest.approx(mean, abs=0.51)
            previous = prices[-1]
        assert remaining == []


def test_candles_follow_the_quote(world: World) -> None:
    for ticker in list(world.markets)[::5]:
        history = world.history(ticker)
        bid, ask = 0, DOLLAR
        for candle in world.candles(ticker, 60):
            assert (candle.bid.open, candle.ask.open) == (bid, ask)
            bid, ask = history.quote_at(candle.end * SECOND)
            assert (candle.bid.close, candle.ask.close) == (bid, ask)
            assert candle.bid.low <= min(candle.bid.open, candle.bid.close)
            assert candle.ask.high >= max(candle.ask.open, candle.ask.close)


def test_open_interest_never_exceeds_volume(world: World) -> None:
    for ticker in world.markets:
        volume = whole = 0
        for candle in world.candles(ticker, 60):
            volume += candle.volume
            whole += candle.whole_volume
            assert 0 <= candle.open_interest <= volume
            assert 0 <= candle.whole_open_interest <= whole


def test_the_last_candle_ends_one_period_after_the_close(world: World) -> None:
    quarters = [market for market in world.markets.values() if market.series_ticker == "KXSIMBTC15M"]
    ended = [market for market in quarters if market.close < world.now]
    after = [world.candles(market.ticker, 1)[-1].end - market.close // SECOND for market in ended]
    assert max(after) == 60
    assert after.count(60) > len(after) / 2


def test_days_end_at_eastern_midnight_and_one_has_25_hours() -> None:
    world = World(markets=60, now=datetime(2026, 11, 4, 12, tzinfo=UTC))
    ends = {candle.end for ticker in world.markets for candle in world.candles(ticker, 1440)}
    autumn = int(datetime(2026, 11, 2, 5, tzinfo=UTC).timestamp())
    assert {autumn, autumn - 25 * 3600} <= ends
    assert {(end // 3600) % 24 for end in ends if end < autumn} == {4}
    assert {(end // 3600) % 24 for end in ends if end >= autumn} == {5}


def test_candles_are_sparse(world: World) -> None:
    election = world.markets["KXHARBORMAYOR-26-OKA"]
    minutes = (world.now - election.open) // MINUTE
    assert 50 < len(world.candles(election.ticker, 1)) < minutes / 100


# Repeatable.


def test_the_same_seed_gives_the_same_bytes_in_every_order() -> None:
    questions = [
        "/markets?limit=1000",
        "/events?with_nested_markets=true",
        "/markets/trades?limit=500",
        "/series",
        "/series/KXSIMBTC15M/events/KXSIMBTC15M-26NOV010730/candlesticks?start_ts=1793534000&end_ts=1793536000&period_interval=1",
        "/markets/KXRECORDRAIN-26/orderbook",
    ]

    def answers(seed: int, order: list[str]) -> dict[str, bytes]:
        exchange = SimulatedExchange(seed=seed, markets=120)
        bodies: dict[str, bytes] = {}
        for question in order:
            url = urlsplit(question)
            reply = exchange.reply("GET", f"/trade-api/v2{url.path}", url.query, None)
            assert reply is not None
            assert reply[0] == 200, reply[1]
            bodies[question] = reply[1]
        return bodies

    assert answers(3, questions) == answers(3, questions[::-1])
    assert answers(3, questions)["/markets?limit=1000"] != answers(4, questions)["/markets?limit=1000"]


def test_the_same_seed_gives_the_same_world_in_another_process() -> None:
    program = (
        "from hashlib import sha256; from kalshidb.exchange.simulator import World;"
        "w = World(seed=5, markets=80);"
        "print(sha256(repr((w.all_trades, [w.candles(t, 60) for t in w.markets], [w.book(t) for t in w.markets]))"
        ".encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt, zone in (("0", "UTC"), ("17", "Asia/Tokyo"))
    }
    assert len(digests) == 1


# The answers: lists, filters, pages.


def test_markets_know_neither_series_nor_category(ask: Asking) -> None:
    market = ask("/markets/KXRECORDRAIN-26")["market"]
    assert not {"series_ticker", "category"} & market.keys()
    assert market["event_ticker"] == "KXRECORDRAIN-26"
    assert market["price_ranges"] == [{"start": "0.0000", "end": "1.0000", "step": "0.0010"}]


@pytest.mark.parametrize(
    ("word", "statuses"),
    [
        ("unopened", {"initialized"}),
        ("open", {"active"}),
        ("paused", {"inactive"}),
        ("closed", {"closed", "determined"}),
        ("settled", {"finalized"}),
    ],
)
def test_status_words_of_the_filter_are_not_those_of_the_market(ask: Asking, word: str, statuses: set[str]) -> None:
    markets = ask.everything("/markets", "markets", status=word)
    assert {market["status"] for market in markets} == statuses


@pytest.mark.parametrize("word", ["active", "finalized", "Open", "all"])
def test_other_status_words_are_refused(ask: Asking, word: str) -> None:
    assert ask.refused("/markets", status=word) == bad_request("invalid status filter")
    assert ask.refused("/events", status=word) == bad_request("invalid status filter")


def test_the_ticker_filter_that_does_not_exist_is_ignored(ask: Asking) -> None:
    assert len(ask("/markets", ticker="KXRECORDRAIN-26", limit=1000)["markets"]) > 200


def test_filters_of_markets(ask: Asking, world: World) -> None:
    named = ask("/markets", tickers="KXRECORDRAIN-26,KXNONE,KXALBUMDELAY-26")["markets"]
    assert {market["ticker"] for market in named} == {"KXRECORDRAIN-26", "KXALBUMDELAY-26"}
    assert len(ask("/markets", event_ticker="KXHARBORMAYOR-26")["markets"]) == 5
    assert len(ask("/markets", series_ticker="KXHARBORCUPGAME")["markets"]) == 2
    first, last = (world.now - 2 * HOUR) // SECOND, world.now // SECOND
    closing = ask.everything("/markets", "markets", min_close_ts=first, max_close_ts=last)
    assert {market["ticker"] for market in closing} == {
        ticker for ticker, market in world.markets.items() if first <= market.close // SECOND <= last
    }
    combos = {event.markets[0].ticker for event in world.combos.values()}
    assert {market["ticker"] for market in ask("/markets", mve_filter="only")["markets"]} == combos
    rest = ask.everything("/markets", "markets", mve_filter="exclude", limit=1000)
    assert not combos & {market["ticker"] for market in rest}


def test_a_repeated_list_of_tickers_is_refused_by_markets_and_required_by_order_books(ask: Asking) -> None:
    both = ["KXRECORDRAIN-26", "KXHARBORMAYOR-26-MAR"]
    assert ask.refused("/markets", tickers=both)[0] == 400
    assert [book["ticker"] for book in ask("/markets/orderbooks", tickers=both)["orderbooks"]] == both
    joined = ask("/markets/orderbooks", tickers=",".join(both))["orderbooks"]
    assert joined == [{"ticker": ",".join(both), "orderbook_fp": {"yes_dollars": [], "no_dollars": []}}]


@pytest.mark.parametrize(
    ("path", "items", "default", "largest"),
    [
        ("/markets", "markets", 100, 1000),
        ("/events", "events", 200, 200),
        ("/markets/trades", "trades", 100, 1000),
        ("/historical/trades", "trades", 100, 1000),
        ("/historical/markets", "markets", 100, 1000),
    ],
)
def test_page_sizes(ask: Asking, path: str, items: str, default: int, largest: int) -> None:
    page = ask(path)
    assert len(page[items]) == default or page["cursor"] == ""
    assert len(ask(path, limit=7)[items]) == 7
    assert ask(path, limit=largest)[items]
    for limit in (largest + 1, -1, "many"):
        assert ask.refused(path, limit=limit)[0] == 400


def test_pages_of_any_size_are_the_same_list(ask: Asking) -> None:
    whole = ask.everything("/markets/trades", "trades", ticker="KXHARBORMAYOR-26-LIN", limit=1000)
    assert ask.everything("/markets/trades", "trades", ticker="KXHARBORMAYOR-26-LIN", limit=41) == whole
    assert len(whole) > 100


@pytest.mark.parametrize("cursor", ["x", "!!!!", "bWFya2V0czox", "dHJhZGVzOi0x", "dHJhZGVzOjk5OTk5OTk5OQ"])
def test_a_cursor_that_was_not_given_out_is_refused(ask: Asking, cursor: str) -> None:
    assert ask.refused("/markets/trades", cursor=cursor) == bad_request("invalid cursor")


def test_events_come_with_their_markets_nested_or_beside(ask: Asking) -> None:
    beside = ask("/events/KXHARBORMAYOR-26")
    nested = ask("/events/KXHARBORMAYOR-26", with_nested_markets="true")
    assert "markets" not in beside["event"]
    assert beside["markets"] == nested["event"]["markets"]
    assert len(beside["markets"]) == 5
    assert all("markets" not in event for event in ask("/events")["events"])
    assert ask.refused("/events/KXNONE") == NOT_FOUND


def test_events_filters(ask: Asking, world: World) -> None:
    events = ask("/events", series_ticker="KXSIMBTC15M")["events"]
    assert {event["event_ticker"] for event in events} == {
        event.ticker for event in world.events.values() if event.series_ticker == "KXSIMBTC15M"
    }
    by_word = {
        word: {event["event_ticker"] for event in ask("/events", status=word)["events"]}
        for word in ("unopened", "open", "closed", "settled")
    }
    assert sum(len(tickers) for tickers in by_word.values()) == len(world.events)
    assert "KXHARBORMAYOR-26" in by_word["open"]
    assert "KXFERRYSTRIKE-26" in by_word["closed"]
    assert ask.refused("/events", status="paused") == bad_request("invalid status filter")


def test_combinations_trade_without_an_event(ask: Asking, world: World) -> None:
    listed = {event["event_ticker"] for event in ask("/events", limit=200)["events"]}
    for event in world.combos.values():
        market = event.markets[0]
        assert event.ticker not in listed
        assert ask.refused(f"/events/{event.ticker}") == NOT_FOUND
        assert ask("/markets/trades", ticker=market.ticker)["trades"]
        legs = ask(f"/markets/{market.ticker}")["market"]["mve_selected_legs"]
        assert [leg["market_ticker"] for leg in legs] == list(market.legs)


def test_series_are_one_list_with_filters(ask: Asking, world: World) -> None:
    assert {series["ticker"] for series in ask("/series")["series"]} == set(world.series)
    assert all(series["category"] == "Climate and Weather" for series in ask("/series", category="Climate and Weather")["series"])
    assert [series["ticker"] for series in ask("/series", tags="BTC,Nothing")["series"]] == ["KXSIMBTC15M"]
    assert any(series["tags"] is None for series in ask("/series")["series"])
    assert ask("/series/KXSIMBTC15M")["series"]["category"] == "Crypto"
    assert ask.refused("/series/KXNONE") == NOT_FOUND


# Tiers.


def test_the_tiers_are_disjoint_and_complete(ask: Asking, world: World) -> None:
    cutoff = ask("/historical/cutoff")
    assert set(cutoff.values()) == {"2026-09-02T00:00:00Z"}
    live = {market["ticker"] for market in ask.everything("/markets", "markets", limit=1000)}
    old = {market["ticker"] for market in ask.everything("/historical/markets", "markets", limit=1000)}
    assert not live & old
    assert live | old == set(world.markets)
    assert len(old) >= 20
    a_live, an_old = sorted(live)[0], sorted(old)[0]
    assert ask.refused(f"/markets/{an_old}") == NOT_FOUND
    assert ask.refused(f"/historical/markets/{a_live}") == NOT_FOUND
    assert ask(f"/historical/markets/{an_old}")["market"]["settlement_ts"] < cutoff["market_settled_ts"]
    event = ask(f"/events/{world.markets[an_old].event_ticker}", with_nested_markets="true")["event"]
    assert event["markets"] == []


def test_trades_change_tier_by_their_own_time(ask: Asking) -> None:
    live = ask.everything("/markets/trades", "trades", ticker="KXHARBORMAYOR-26-LIN")
    old = ask.everything("/historical/trades", "trades", ticker="KXHARBORMAYOR-26-LIN")
    assert live
    assert old
    assert max(trade["created_time"] for trade in old) < "2026-09-02" < min(trade["created_time"] for trade in live)
    # Closed long ago, never settled: the market is live, all its trades are history.
    assert ask("/markets/KXFERRYSTRIKE-26")["market"]["status"] == "closed"
    assert ask("/markets/trades", ticker="KXFERRYSTRIKE-26")["trades"] == []
    assert ask("/historical/trades", ticker="KXFERRYSTRIKE-26")["trades"]


def test_filters_of_historical_markets_exclude_each_other(ask: Asking) -> None:
    one = ask("/historical/markets", limit=1)["markets"][0]
    event = one["event_ticker"]
    assert len(ask("/historical/markets", event_ticker=event)["markets"]) == 6
    assert ask.refused("/historical/markets", event_ticker=event, tickers=one["ticker"])[0] == 400
    assert ask("/historical/markets", min_close_ts=99_999_999_999)["markets"]


# Trades and books.


def test_trades_are_newest_first_and_their_bounds_are_strict(ask: Asking, world: World) -> None:
    times = [datetime.fromisoformat(trade["created_time"]) for trade in ask.everything("/markets/trades", "trades", limit=1000)]
    assert times == sorted(times, reverse=True)
    moment = next(time for time in times[500:] if time.microsecond == 0)
    second = int(moment.timestamp())
    after = ask.everything("/markets/trades", "trades", min_ts=second, limit=1000)
    before = ask.everything("/markets/trades", "trades", max_ts=second, limit=1000)
    assert len(after) == sum(time > moment for time in times)
    assert len(before) == sum(time < moment for time in times)
    assert ask.refused("/markets/trades", min_ts="1.5")[0] == 400
    assert ask("/markets/trades", ticker="KXNONE")["trades"] == []
    assert len(times) == sum(trade.time >= world.cutoff for trade in world.all_trades)


def test_both_prices_of_a_trade_are_one_dollar(ask: Asking) -> None:
    for trade in ask.everything("/markets/trades", "trades", limit=1000):
        assert Decimal(trade["yes_price_dollars"]) + Decimal(trade["no_price_dollars"]) == 1
        assert (trade["taker_book_side"] == "bid") == (trade["taker_outcome_side"] == "yes")
        assert trade["taker_side"] == trade["taker_outcome_side"]


def test_times_drop_their_trailing_zeros() -> None:
    assert timestamp(1_793_534_400_000_000) == "2026-11-01T12:00:00Z"
    assert timestamp(1_793_534_400_373_150) == "2026-11-01T12:00:00.37315Z"
    assert timestamp(1_793_534_400_000_001) == "2026-11-01T12:00:00.000001Z"


def test_books_have_bids_only_and_agree_with_their_market(ask: Asking) -> None:
    several = 0
    for market in ask.everything("/markets", "markets", status="open", limit=1000):
        book = ask(f"/markets/{market['ticker']}/orderbook")["orderbook_fp"]
        for side in book.values():
            prices = [Decimal(price) for price, _ in side]
            assert prices == sorted(prices)
            assert all(0 < price < 1 for price in prices)
            assert all(Decimal(count) > 0 for _, count in side)
        best_yes = Decimal(book["yes_dollars"][-1][0]) if book["yes_dollars"] else Decimal(0)
        best_no = Decimal(book["no_dollars"][-1][0]) if book["no_dollars"] else Decimal(0)
        assert Decimal(market["yes_bid_dollars"]) == best_yes
        assert Decimal(market["yes_ask_dollars"]) == 1 - best_no
        assert market["yes_bid_size_fp"] == (book["yes_dollars"][-1][1] if book["yes_dollars"] else "0.00")
        several += len(book["yes_dollars"]) > 2
    assert several > 5


def test_the_depth_of_a_book_counts_from_the_best_bid(ask: Asking) -> None:
    path = "/markets/KXHARBORMAYOR-26-MAR/orderbook"
    whole, two = ask(path)["orderbook_fp"], ask(path, depth=2)["orderbook_fp"]
    assert two["yes_dollars"] == whole["yes_dollars"][-2:]
    assert two["no_dollars"] == whole["no_dollars"][-2:]
    assert ask(path, depth=0)["orderbook_fp"] == whole
    assert ask.refused(path, depth=101)[0] == 400
    assert ask.refused("/markets/orderbooks")[0] == 400
    assert ask.refused("/markets/orderbooks", tickers=[f"T{number}" for number in range(101)])[0] == 400


# Candles on the wire.


def candle_path(world: World, ticker: str) -> str:
    return f"/series/{world.markets[ticker].series_ticker}/markets/{ticker}/candlesticks"


def test_candle_limits_are_counted_from_the_asked_range(ask: Asking, world: World) -> None:
    path, end = candle_path(world, "KXRECORDRAIN-26"), world.now // SECOND
    assert ask(path, start_ts=end - 5_000 * 3600, end_ts=end, period_interval=60)["candlesticks"]
    assert ask.refused(path, start_ts=end - 5_001 * 3600, end_ts=end, period_interval=60) == bad_request(
        "requested time range with candlesticks: 5001, max candlesticks: 5000"
    )
    assert ask.refused(path, start_ts=end - 60, end_ts=end, period_interval=5)[0] == 400
    assert ask.refused(path, start_ts=end - 60, period_interval=1)[0] == 400
    assert ask.refused(path, start_ts=end, end_ts=end - 60, period_interval=1)[0] == 400
    assert ask.refused("/series/KXSIMBTC15M/markets/KXRECORDRAIN-26/candlesticks") == NOT_FOUND


def test_batch_limits(ask: Asking, world: World) -> None:
    end = world.now // SECOND
    names = ",".join(list(world.markets)[:10])
    span = {"start_ts": end - 3_600 * 60, "end_ts": end}
    assert ask.refused("/markets/candlesticks", market_tickers=names, period_interval=1, **span) == bad_request(
        "requested candlesticks across all markets: 36000, max candlesticks: 10000"
    )
    too_many = ",".join(f"T{number}" for number in range(101))
    assert ask.refused("/markets/candlesticks", market_tickers=too_many, period_interval=60, **span)[0] == 400
    five = ask("/markets/candlesticks", market_tickers="KXRECORDRAIN-26", period_interval=5, **span)
    assert five == {"markets": [{"market_ticker": "KXRECORDRAIN-26", "candlesticks": []}]}


def test_all_ways_to_a_live_candle_give_the_same(ask: Asking, world: World) -> None:
    end = world.now // SECOND
    span = {"start_ts": end - 86_400, "end_ts": end, "period_interval": 60}
    single = ask(candle_path(world, "KXHARBORMAYOR-26-MAR"), **span)
    batch = ask("/markets/candlesticks", market_tickers="KXHARBORMAYOR-26-MAR,KXNONE", **span)
    event = ask("/series/KXHARBORMAYOR/events/KXHARBORMAYOR-26/candlesticks", **span)
    assert single["candlesticks"]
    assert batch["markets"] == [{"market_ticker": "KXHARBORMAYOR-26-MAR", "candlesticks": single["candlesticks"]}]
    place = event["market_tickers"].index("KXHARBORMAYOR-26-MAR")
    assert event["market_candlesticks"][place] == single["candlesticks"]
    assert event["adjusted_end_ts"] == end


def test_event_candles_are_cut_and_say_where(ask: Asking, world: World) -> None:
    start = world.now // SECOND - 90 * 86_400
    path = "/series/KXHARBORMAYOR/events/KXHARBORMAYOR-26/candlesticks"
    answer = ask(path, start_ts=start, end_ts=world.now // SECOND, period_interval=60)
    assert answer["adjusted_end_ts"] == start + 1_000 * 3600
    last = max(candle["end_period_ts"] for candles in answer["market_candlesticks"] for candle in candles)
    assert last <= answer["adjusted_end_ts"]


def test_a_live_candle_leaves_out_what_it_has_not_and_a_historical_one_says_null(ask: Asking, world: World) -> None:
    end = world.now // SECOND
    live = ask(candle_path(world, "KXHARBORMAYOR-26-HAL"), start_ts=end - 90 * 86_400, end_ts=end, period_interval=60)
    quiet = [candle for candle in live["candlesticks"] if candle["volume_fp"] == "0.00"]
    traded = [candle for candle in live["candlesticks"] if candle["volume_fp"] != "0.00"]
    assert {frozenset(candle["price"]) for candle in quiet} <= {frozenset(), frozenset({"previous_dollars"})}
    assert {"open_dollars", "low_dollars", "high_dollars", "close_dollars", "mean_dollars"} <= traded[0]["price"].keys()
    assert quiet

    old = next(market for market in world.markets.values() if world.is_historical(market) and market.position == 0)
    history = ask(
        f"/historical/markets/{old.ticker}/candlesticks",
        start_ts=old.open // SECOND,
        end_ts=old.close // SECOND + 3600,
        period_interval=60,
    )["candlesticks"]
    names = {"open", "low", "high", "close", "mean", "previous"}
    assert all(candle["price"].keys() == names for candle in history)
    assert any(candle["price"]["close"] is None for candle in history)
    assert any(isinstance(candle["price"]["close"], str) for candle in history)
    assert all(isinstance(candle["volume"], str) and "volume_fp" not in candle for candle in history)


# Eras.


def shape(value: Json) -> Json:
    """The names and kinds in a document."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in sorted(value.items())}
    return type(value).__name__


def test_the_eras_of_a_trade(ask: Asking) -> None:
    trades = {era: ask("/markets/trades", ticker="KXRECORDRAIN-26", limit=1, era=era)["trades"][0] for era in ERAS}
    common = dict.fromkeys(("created_time", "no_price_dollars", "taker_side", "ticker", "trade_id", "yes_price_dollars"), "str")
    integers = {"count": "int", "no_price": "int", "price": "float", "yes_price": "int"}
    new = {"is_block_trade": "bool", "taker_book_side": "str", "taker_outcome_side": "str"}
    assert shape(trades["cents"]) == common | integers
    assert shape(trades["transition"]) == common | integers | {"count_fp": "str"}
    assert shape(trades["current"]) == common | new | {"count_fp": "str"}
    assert len({trade["trade_id"] for trade in trades.values()}) == 1


def test_the_eras_of_a_market(ask: Asking) -> None:
    markets = {era: ask("/markets/KXHARBORMAYOR-26-MAR", era=era)["market"] for era in ERAS}
    integers = {"yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "volume", "open_interest", "tick_size"}
    strings = {"volume_fp", "open_interest_fp", "volume_24h_fp"}
    assert integers <= markets["cents"].keys()
    assert not strings & markets["cents"].keys()
    assert integers | strings <= markets["transition"].keys()
    assert strings <= markets["current"].keys()
    assert not integers & markets["current"].keys()
    for market in markets.values():
        assert Decimal(market["yes_bid_dollars"]) + Decimal(market["no_ask_dollars"]) == 1
    assert markets["cents"]["yes_bid"] + markets["cents"]["no_ask"] == 100
    assert Decimal(markets["transition"]["volume_fp"]) == markets["transition"]["volume"]


def test_the_eras_of_a_candle(ask: Asking, world: World) -> None:
    path, end = candle_path(world, "KXHARBORMAYOR-26-MAR"), world.now // SECOND
    candles = {
        era: ask(path, start_ts=end - 30 * 86_400, end_ts=end, period_interval=1440, era=era)["candlesticks"] for era in ERAS
    }
    for old, both, new in zip(candles["cents"], candles["transition"], candles["current"], strict=True):
        assert old["yes_bid"]["close"] * 100 == Decimal(old["yes_bid"]["close_dollars"]) * DOLLAR
        assert isinstance(old["volume"], int)
        assert "volume_fp" not in old
        assert Decimal(both["volume_fp"]) == both["volume"] == old["volume"]
        assert "volume" not in new
        assert "close" not in new["yes_bid"]
        assert {"min", "max", "previous"} <= old["price"].keys()
    path = candle_path(world, "KXHARBORMAYOR-26-HAL")
    hours = ask(path, start_ts=end - 30 * 86_400, end_ts=end, period_interval=60, era="cents")["candlesticks"]
    quiet = next(candle for candle in hours if candle["volume"] == 0)
    assert quiet["price"]["close"] is None
    assert "close_dollars" not in quiet["price"]


def test_the_eras_of_a_book(ask: Asking) -> None:
    full, empty = "/markets/KXHARBORMAYOR-26-MAR/orderbook", "/markets/KXALBUMDELAY-26/orderbook"
    books = {era: ask(full, era=era, depth=1) for era in ERAS}
    assert {era: set(book) for era, book in books.items()} == {
        "cents": {"orderbook"},
        "transition": {"orderbook", "orderbook_fp"},
        "current": {"orderbook_fp"},
    }
    price, count = books["cents"]["orderbook"]["yes"][0]
    assert [f"{price / 100:.4f}", count] == books["cents"]["orderbook"]["yes_dollars"][0]
    assert set(ask(empty, era="cents")["orderbook"].values()) == {None}
    assert ask(empty, era="transition")["orderbook"]["yes"] == []
    assert ask(empty)["orderbook_fp"] == {"yes_dollars": [], "no_dollars": []}


def test_integer_eras_add_up_too(ask: Asking, world: World) -> None:
    end = world.now // SECOND
    ticker = "KXHARBORCUPGAME-26SEMI1-ROW"
    trades = ask.everything("/markets/trades", "trades", ticker=ticker, era="cents", limit=1000)
    span = {"start_ts": end - 20 * 86_400, "end_ts": end, "period_interval": 60}
    candles = ask(candle_path(world, ticker), era="cents", **span)["candlesticks"]
    volume = sum(trade["count"] for trade in trades)
    assert volume == sum(candle["volume"] for candle in candles) > 0
    assert ask(f"/markets/{ticker}", era="cents")["market"]["volume"] == volume


def test_the_missing_time_of_the_cents_era(ask: Asking) -> None:
    old = [market["created_time"] for market in ask.everything("/markets", "markets", era="cents", limit=1000)]
    new = [market["created_time"] for market in ask.everything("/markets", "markets", limit=1000)]
    assert 0.1 < old.count("0001-01-01T00:00:00Z") / len(old) < 0.4
    assert "0001-01-01T00:00:00Z" not in new


def test_the_era_is_chosen_by_server_header_or_parameter(exchange: SimulatedExchange) -> None:
    path = "/markets/KXRECORDRAIN-26/orderbook"
    with SimulatedExchange(markets=60, era="cents") as old, httpx.Client(trust_env=False) as client:
        assert set(client.get(old.base_url + path).json()) == {"orderbook"}
        assert set(client.get(old.base_url + path, headers={"X-Simulator-Era": "current"}).json()) == {"orderbook_fp"}
        assert len(client.get(old.base_url + path, params={"era": "transition"}).json()) == 2
        assert client.get(old.base_url + path, params={"era": "roman"}).status_code == 400


# Results on the wire.


def test_results_are_told_when_they_are_known(ask: Asking) -> None:
    for market in ask.everything("/markets", "markets", limit=1000):
        known = market["status"] in {"determined", "finalized"}
        assert (market["result"] != "") == known
        assert ("settlement_ts" in market) == (market["status"] == "finalized")
        if market["status"] == "finalized":
            worth = {"yes": "1.0000", "no": "0.0000", "scalar": "0.5000"}[market["result"]]
            assert market["settlement_value_dollars"] == worth
            assert (market["yes_bid_dollars"], market["yes_ask_dollars"]) == ("0.0000", "1.0000")


def test_the_volume_of_a_market_is_the_sum_of_its_trades(ask: Asking) -> None:
    counts: dict[str, Decimal] = defaultdict(Decimal)
    for path in ("/markets/trades", "/historical/trades"):
        for trade in ask.everything(path, "trades", limit=1000):
            counts[trade["ticker"]] += Decimal(trade["count_fp"])
    for path in ("/markets", "/historical/markets"):
        for market in ask.everything(path, "markets", limit=1000):
            assert Decimal(market["volume_fp"]) == counts[market["ticker"]]
            assert Decimal(market["open_interest_fp"]) <= counts[market["ticker"]]


# The server.


def test_everything_else_is_not_found(ask: Asking, exchange: SimulatedExchange) -> None:
    assert ask.refused("/portfolio/balance") == NOT_FOUND
    assert ask.refused("/markets/KXRECORDRAIN-26/") == NOT_FOUND
    host = exchange.base_url.removesuffix("/trade-api/v2")
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{host}/markets").status_code == 404
        assert client.post(f"{exchange.base_url}/markets").status_code == 405
        assert client.get(f"{exchange.base_url}/exchange/status").json()["exchange_active"] is True


def test_one_connection_serves_many_requests(exchange: SimulatedExchange) -> None:
    url = urlsplit(exchange.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.connect()
    socket = connection.sock
    for _ in range(3):
        connection.request("GET", f"{url.path}/exchange/status")
        response = connection.getresponse()
        assert response.read()
        assert response.getheader("Retry-After") is None
        assert connection.sock is socket
    connection.close()


def test_too_many_requests_are_refused_without_saying_how_long() -> None:
    with SimulatedExchange(markets=60, rate_limit=5) as exchange, httpx.Client(trust_env=False) as client:
        answers = [client.get(f"{exchange.base_url}/exchange/status") for _ in range(30)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 1 <= len(refused) <= 25
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    assert refused[0].json() == {"error": "too many requests"}
    assert "retry-after" not in refused[0].headers


def test_requests_are_recorded() -> None:
    with SimulatedExchange(markets=60) as exchange, httpx.Client(trust_env=False) as client:
        exchange.fail(503)
        for path in ("/series", "/series?category=Crypto", "/markets?status=x"):
            client.get(exchange.base_url + path)
    assert exchange.requests == [
        ("GET", "/trade-api/v2/series", 503),
        ("GET", "/trade-api/v2/series", 200),
        ("GET", "/trade-api/v2/markets", 400),
    ]


def test_closing_leaves_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    exchange = SimulatedExchange(markets=60)
    with exchange:
        url = urlsplit(exchange.base_url)
        idle = [http.client.HTTPConnection(url.hostname or "", url.port) for _ in range(3)]
        for connection in idle:
            connection.request("GET", f"{url.path}/exchange/status")
            connection.getresponse().read()
        impolite = http.client.HTTPConnection(url.hostname or "", url.port)
        impolite.request("GET", f"{url.path}/markets?limit=1000")
        impolite.close()
    exchange.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="not running"):
        _ = exchange.base_url
    for connection in idle:
        connection.close()
    assert capfd.readouterr() == ("", "")


def test_many_readers_at_once_get_the_same() -> None:
    bodies: list[bytes] = []
    with SimulatedExchange(markets=120) as exchange:

        def read() -> None:
            with httpx.Client(trust_env=False) as client:
                bodies.append(client.get(f"{exchange.base_url}/markets/trades?limit=1000").content)

        readers = [threading.Thread(target=read) for _ in range(6)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert len(bodies) == 6
    assert len(set(bodies)) == 1
    assert len(json.loads(bodies[0])["trades"]) == 1000


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_as_a_program_until_it_is_told_to_stop(ending: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kalshidb.exchange.simulator", "--seed", "9", "--markets", "60", "--era", "cents"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        body = httpx.get(f"{url}/markets?{urlencode({'limit': 1000})}", trust_env=False).content
        process.send_signal(ending)
        out, err = process.communicate(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    exchange = SimulatedExchange(seed=9, markets=60, era="cents")
    reply = exchange.reply("GET", "/trade-api/v2/markets", "limit=1000", None)
    assert reply is not None
    assert body == reply[1]


def test_the_present_can_be_chosen(world: World) -> None:
    later = World(now=datetime(2026, 11, 1, 12, 5, tzinfo=UTC) + timedelta(minutes=7))
    assert later.now - world.now == 7 * MINUTE
    assert micros(datetime(1970, 1, 2, tzinfo=UTC)) == DAY
    running = next(market for market in world.markets.values() if world.status(market) == "active" and market.position == 1)
    assert later.trades(running.ticker)[: len(world.trades(running.ticker))] == world.trades(running.ticker)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "a port is a number from 0 to 65535"),
        (["--websocket-port", "x"], "a port is a number from 0 to 65535"),
        (["--speed", "-1"], "time passes forwards"),
        (["--websocket-faults", "2"], "a share from 0 to 1"),
        (["--fault", "drop=5"], "must lie between 0 and 1"),
        (["--skew", "inf"], "infinity"),
    ],
)
def test_an_argument_that_makes_no_sense_is_an_error_of_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
