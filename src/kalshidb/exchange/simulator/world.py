"""The truth behind the simulated exchange: series, events, markets and everything that ever happened in them.

Nothing here knows about HTTP or JSON (see `wire` and `server`). All numbers are integers: prices in 0.0001 dollar,
counts in 0.01 contract, times in microseconds since 1970. Everything follows from a seed: each market and event has
random streams of its own; an answer depends neither on what was asked before nor on the clock.

Prices are honest by construction. What a market will pay is drawn first; the fair price on the way there is the
probability of that payment given what is known so far (a Gaussian forecast, or a posterior over hypotheses), so among
all quotes near p a share p of the markets settles yes.
"""

import math
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from random import Random
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

DOLLAR = 10_000
CONTRACT = 100
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EASTERN = ZoneInfo("America/New_York")
DEFAULT_NOW = datetime(2026, 11, 1, 12, 5, tzinfo=UTC)
LIVE_DAYS = 60
SMALLEST_WORLD = 60
MAX_TRADES = 400

Side = Literal["yes", "no"]
Quote = tuple[int, int, int]
"""When, best yes bid, best yes ask; 0 and 10,000 mean that nobody bids or asks."""
Happening: TypeAlias = "Quote | Trade | str"
"""A quote that changed, a trade, or what became of a market: created, deactivated, closed, determined, settled."""
Step = tuple[int, tuple[float, ...]]
"""When, and what each market of an event was worth from then on, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Series:
    """A template of recurring events."""

    ticker: str
    title: str
    category: str
    tags: tuple[str, ...] | None
    frequency: str
    fee_type: str = "quadratic"
    fee_multiplier: float = 1


@dataclass(frozen=True, slots=True)
class Market:
    """One contract, and what it will pay (which the exchange shows only once it is determined)."""

    ticker: str
    event_ticker: str
    series_ticker: str
    position: int
    title: str
    label: str
    payout: int
    created: int
    open: int
    close: int
    determined: int | None
    settled: int | None
    value: str
    strike_type: str = "custom"
    floor_strike: float | None = None
    cap_strike: float | None = None
    tick: int = 100
    activity: float = 3.2
    halted: int | None = None
    legs: tuple[str, ...] = ()

    @property
    def is_combo(self) -> bool:
        """Whether this is a multivariate combination: no event in the lists, legs in other markets."""
        return bool(self.legs)


@dataclass(frozen=True, slots=True)
class Event:
    """A question, its markets, and the way its answer becomes known."""

    ticker: str
    series_ticker: str
    title: str
    sub_title: str
    category: str
    mutually_exclusive: bool
    strike_date: int | None
    markets: tuple[Market, ...]
    unfold: Callable[[Random], Iterator[Step]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution; `yes_price` in 0.0001 dollar, `count` in 0.01 contract, `time` in microseconds."""

    trade_id: str
    ticker: str
    time: int
    count: int
    yes_price: int
    taker_side: Side
    is_block: bool
    opens: int
    """What it added to the open interest, in 0.01 contract; negative when positions were closed."""

    @property
    def whole_count(self) -> int:
        """Contracts as the integer era counted them: fractions did not exist, so they are rounded up."""
        return -(-self.count // CONTRACT)


@dataclass(frozen=True, slots=True)
class Range:
    """Open, low, high and close of a period, in 0.0001 dollar."""

    open: int
    low: int
    high: int
    close: int


@dataclass(frozen=True, slots=True)
class Candle:
    """What happened in the period that ends, inclusive, at `end` (epoch seconds)."""

    end: int
    bid: Range
    ask: Range
    price: Range | None
    mean: int | None
    previous: int | None
    volume: int
    open_interest: int
    whole_volume: int
    whole_open_interest: int


@dataclass(frozen=True, slots=True)
class Book:
    """Bids for yes and bids for no, each ascending: (price in 0.0001 dollar, count in 0.01 contract)."""

    yes: tuple[tuple[int, int], ...]
    no: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class History:
    """Everything that happened in one market until now, oldest first."""

    quotes: tuple[Quote, ...]
    trades: tuple[Trade, ...]

    def quote_at(self, time: int) -> tuple[int, int]:
        """Return the best yes bid and ask at a time; (0, 10,000) before anybody quoted."""
        place = bisect_right(self.quotes, time, key=lambda quote: quote[0])
        return (0, DOLLAR) if place == 0 else self.quotes[place - 1][1:]


def micros(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def moment_of(moment: int) -> datetime:
    """Return microseconds since 1970 as an aware time, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)


class World:
    """A whole simulated exchange at one moment.

    The same seed, size and moment give the same world in every process. Histories are made when first asked for.

    Raises:
        ValueError: `now` is naive, or `markets` is too small to hold one of everything.
    """

    def __init__(self, *, seed: int = 7, markets: int = 300, now: datetime = DEFAULT_NOW) -> None:
        """Decide which markets there are and what they pay; what happened in them follows when it is asked for."""
        if now.tzinfo is None:
            raise ValueError(f"now must carry a time zone: {now}")
        if markets < SMALLEST_WORLD:
            raise ValueError(f"a world of {markets} markets cannot hold one of everything; the smallest has {SMALLEST_WORLD}")
        self.seed = seed
        self.now = micros(now)
        self.lock = threading.RLock()
        """Held while something is read that must all be of one moment; `move_to` waits for it."""
        self._paths: dict[str, tuple[Step, ...]] = {}
        self._lives: dict[str, History] = {}
        self._histories: dict[str, History] = {}
        self._candles: dict[tuple[str, int], tuple[Candle, ...]] = {}

        builder = _Builder(self)
        builder.populate(markets)
        self.series: dict[str, Series] = builder.series
        self.events: dict[str, Event] = {event.ticker: event for event in builder.events}
        self.combos: dict[str, Event] = {event.ticker: event for event in builder.combos}
        """Events of multivariate combinations: their markets trade, but the event lists leave them out."""
        self.markets: dict[str, Market] = {
            market.ticker: market for event in (*builder.events, *builder.combos) for market in event.markets
        }

    def stream(self, *names: str) -> Random:
        """Return the random stream of a name; the same in every process."""
        return Random(sha256("/".join((str(self.seed), *names)).encode()).digest())

    @property
    def cutoff(self) -> int:
        """Where the historical tier begins: settled, or traded, before this."""
        return self.now // DAY * DAY - LIVE_DAYS * DAY

    def move_to(self, now: datetime) -> None:
        """Let time pass: the same world, seen later. Markets open, trade, close, settle and change tier; none are added.

        Raises:
            ValueError: `now` is naive, or lies before the world's present.
        """
        if now.tzinfo is None or micros(now) < self.now:
            raise ValueError(f"time passes forwards, to a moment with a zone: {now}")
        with self.lock:
            self.now = micros(now)
            self._histories.clear()
            self._candles.clear()
            self.__dict__.pop("all_trades", None)

    # What is known about a market now.

    def status(self, market: Market, at: int | None = None) -> str:
        """Return the status word of the market object, such as `active` or `finalized`, now or at a moment before."""
        at = self.now if at is None else at
        if market.settled is not None and at >= market.settled:
            return "finalized"
        if market.determined is not None and at >= market.determined:
            return "determined"
        if at >= market.close:
            return "closed"
        if market.halted is not None and at >= market.halted:
            return "inactive"
        return "active" if at >= market.open else "initialized"

    def result(self, market: Market) -> str:
        """Return `yes`, `no` or `scalar` once it is determined, before that the empty text."""
        if self.status(market) not in {"determined", "finalized"}:
            return ""
        return {0: "no", DOLLAR: "yes"}.get(market.payout, "scalar")

    def is_historical(self, market: Market) -> bool:
        """Whether the market has left the live tier."""
        return market.settled is not None and market.settled < self.cutoff

    def history(self, ticker: str) -> History:
        """Return every quote and trade of a market until now.

        Raises:
            KeyError: no such market.
        """
        market = self.markets[ticker]
        with self.lock:
            if ticker not in self._histories:
                self._histories[ticker] = self._until_now(market, self._life(ticker))
            return self._histories[ticker]

    def trades(self, ticker: str) -> tuple[Trade, ...]:
        """Return the trades of a market, oldest first. KeyError: no such market."""
        return self.history(ticker).trades

    @cached_property
    def all_trades(self) -> tuple[Trade, ...]:
        """Every trade of the exchange, newest first."""
        found = [trade for ticker in self.markets for trade in self.trades(ticker)]
        found.sort(key=lambda trade: (trade.time, trade.trade_id), reverse=True)
        return tuple(found)

    def open_interest(self, ticker: str) -> int:
        """Return the contracts that exist now, in 0.01 contract."""
        return sum(trade.opens for trade in self.trades(ticker))

    def fair_values(self, event_ticker: str) -> tuple[Step, ...]:
        """Return what the markets of an event are worth from when on, beyond the present too: the hidden truth."""
        with self.lock:
            if event_ticker not in self._paths:
                event = self.events.get(event_ticker) or self.combos[event_ticker]
                self._paths[event_ticker] = tuple(event.unfold(self.stream(event_ticker, "path")))
            return self._paths[event_ticker]

    def book(self, ticker: str, at: int | None = None) -> Book:
        """Return the resting bids of both sides, now or at a moment before; both are empty unless the market is active.

        A book changes when the quote does, and when a trade takes from its best level, which is then filled up to another count.
        """
        market, at = self.markets[ticker], self.now if at is None else at
        if self.status(market, at) != "active":
            return Book((), ())
        history = self.history(ticker)
        place = bisect_right(history.quotes, at, key=lambda quote: quote[0])
        since, bid, ask = history.quotes[place - 1] if place else (0, 0, DOLLAR)
        random = self.stream(ticker, "book")
        sides = {"yes": _ladder(random, bid, market.tick), "no": _ladder(random, DOLLAR - ask, market.tick)}
        first = bisect_left(history.trades, since, key=lambda trade: trade.time)
        for trade in history.trades[first : bisect_right(history.trades, at, key=lambda trade: trade.time)]:
            taken = "no" if trade.taker_side == "yes" else "yes"
            if sides[taken]:
                *others, (best, _) = sides[taken]
                sides[taken] = (*others, (best, 1 + int(trade.trade_id[:8], 16) % 50_000))
        return Book(sides["yes"], sides["no"])

    def happenings(self, since: int) -> list[tuple[int, str, Happening]]:
        """Return what happens in all markets after a moment, beyond the present too: when, in which market, and what; oldest first."""
        found: list[tuple[int, str, Happening]] = []
        for ticker, market in self.markets.items():
            life = self._life(ticker)
            found += [(quote[0], ticker, quote) for quote in life.quotes]
            found += [(trade.time, ticker, trade) for trade in life.trades]
            words = {"created": market.created, "deactivated": market.halted, "closed": market.close,
                     "determined": market.determined, "settled": market.settled}  # fmt: skip
            found += [(moment, ticker, word) for word, moment in words.items() if moment is not None]
        return sorted((one for one in found if one[0] > since), key=lambda one: one[:2])

    def candles(self, ticker: str, interval: int) -> tuple[Candle, ...]:
        """Return the candles of a market, oldest first; periods without a trade or a move of the quote have none.

        `interval` is 1, 60 or 1440 minutes; days end at midnight US Eastern. The last one may still be forming.
        """
        with self.lock:
            key = (ticker, interval)
            if key not in self._candles:
                self._candles[key] = tuple(_aggregate(self.history(ticker), interval))
            return self._candles[key]

    def _until_now(self, market: Market, life: History) -> History:
        """Return what the present knows of a market's life."""
        until = min(moment for moment in (self.now, market.close, market.halted) if moment is not None)
        seen = list(life.quotes[: bisect_right(life.quotes, until, key=lambda quote: quote[0])])
        if market.close <= self.now and seen and seen[-1][1:] != (0, DOLLAR):
            after = self.stream(market.ticker, "after the close").randrange(1, SECOND)
            seen.append((market.close + after, 0, DOLLAR))
        return History(tuple(seen), life.trades[: bisect_right(life.trades, until, key=lambda trade: trade.time)])

    def _life(self, ticker: str) -> History:
        """Return what happens in a market from its beginning to its end, whatever the present is."""
        with self.lock:
            if ticker not in self._lives:
                self._lives[ticker] = self._live_through(self.markets[ticker])
            return self._lives[ticker]

    def _live_through(self, market: Market) -> History:
        random = self.stream(market.ticker, "history")
        wanted = min(MAX_TRADES, int(random.lognormvariate(market.activity, 1.1)))
        spread = max(1.0, min(6.0, 6.5 - 1.25 * math.log1p(wanted / 4)))
        quotes = tuple(self._quotes(random, market, spread))
        halted = market.close if market.halted is None else market.halted
        trades = self._trades(random, market, quotes, wanted)
        return History(
            tuple(quote for quote in quotes if quote[0] <= halted), tuple(trade for trade in trades if trade.time <= halted)
        )

    def _quotes(self, random: Random, market: Market, spread: float) -> Iterator[Quote]:
        begin = market.open + int((market.close - market.open) * 0.004 * random.random())
        steps = self.fair_values(market.event_ticker)
        first = max(0, bisect_right(steps, begin, key=lambda step: step[0]) - 1)
        previous, told = (0, DOLLAR), 0
        for time, values in steps[first:]:
            # The book follows the news within a tenth of a second, and in its order.
            told = max(told + 1, max(time, begin) + random.randrange(1, SECOND // 10))
            if told >= market.close:
                return
            width = spread + (random.choice((1.0, 2.0)) if random.random() < 0.12 else 0.0)
            quote = _quote(values[market.position], width, market.tick)
            if quote != previous:
                previous = quote
                yield (told, *quote)

    def _trades(self, random: Random, market: Market, quotes: Sequence[Quote], wanted: int) -> list[Trade]:
        if not quotes:
            return []
        begin, end = quotes[0][0], market.close
        if begin >= end:
            return []
        scale = random.gauss(2.0, 1.2)
        moments = sorted(_when(random, begin, end) for _ in range(wanted))
        starts = [quote[0] for quote in quotes]
        trades: list[Trade] = []
        interest = 0
        for moment in moments:
            _, bid, ask = quotes[bisect_right(starts, moment) - 1]
            side: Side = "yes" if random.random() < 0.5 else "no"
            if (side == "yes" and ask == DOLLAR) or (side == "no" and bid == 0):
                continue  # nobody on the other side
            fills = [_count(random, scale)]
            while random.random() < 0.12:
                # Two resting orders may be equal in everything but their trade's id.
                fills.append(fills[-1] if random.random() < 0.5 else _count(random, scale))
            for count in fills:
                chance = random.random()
                opens = count if chance < 0.8 else 0 if chance < 0.95 else -min(interest, count)
                interest += opens
                trades.append(
                    Trade(
                        trade_id=_identifier(random),
                        ticker=market.ticker,
                        time=moment,
                        count=count,
                        yes_price=ask if side == "yes" else bid,
                        taker_side=side,
                        is_block=random.random() < 0.004,
                        opens=opens,
                    )
                )
        return trades


def _quote(value: float, width: float, tick: int) -> tuple[int, int]:
    """Return a bid below and an ask above a value, `width` ticks apart on average, both on the tick grid."""
    half = (width - 1) / 2
    ticks = value * (DOLLAR / tick)
    bid = math.floor(ticks - half + 1e-9)
    ask = math.ceil(ticks + half - 1e-9)
    if ask <= bid:
        ask = bid + 1
    # Nobody bids a dollar and nobody sells for nothing: at the rim the bid stays a tick below 1, the offer a tick above 0.
    top = DOLLAR // tick
    return min(max(0, bid), top - 1) * tick, min(top, max(ask, 1)) * tick


def _when(random: Random, begin: int, end: int) -> int:
    moment = random.randrange(begin, end)
    # Some fall on a whole second: no fraction to write, and exactly on the bounds of a query.
    return max(begin, moment // SECOND * SECOND) if random.random() < 0.03 else moment


def _count(random: Random, scale: float) -> int:
    kind = random.random()
    if kind < 0.06:
        return 1
    if kind < 0.4:
        return random.randint(1, 25) * CONTRACT
    count = int(min(random.lognormvariate(scale, 1.4), 50_000) * CONTRACT)
    return max(1, count if kind < 0.75 else -(-count // CONTRACT) * CONTRACT)


def _ladder(random: Random, best: int, tick: int) -> tuple[tuple[int, int], ...]:
    levels: list[tuple[int, int]] = []
    price = best
    for _ in range(random.randint(2, 10)):
        if price <= 0:
            break
        levels.append((price, max(1, int(random.lognormvariate(4.2, 1.5) * CONTRACT))))
        price -= tick * random.choice((1, 1, 1, 2, 3))
    return tuple(reversed(levels))


def _identifier(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


# Candles.


def eastern_midnights(first: int, last: int) -> list[int]:
    """Return the US Eastern midnights, in microseconds, around two moments and between; 23 to 25 hours apart."""
    day = datetime.fromtimestamp(first // SECOND, EASTERN).date()
    midnights: list[int] = []
    while not midnights or midnights[-1] < last:
        midnights.append(micros(datetime(day.year, day.month, day.day, tzinfo=EASTERN)))
        day += timedelta(days=1)
    return midnights


@dataclass(slots=True)
class _Forming:
    end: int
    bid: list[int]
    ask: list[int]
    price: list[int] = field(default_factory=list[int])
    turnover: int = 0
    volume: int = 0
    whole_volume: int = 0


def _aggregate(history: History, interval: int) -> Iterator[Candle]:
    ends = _period_ends(history, interval)
    news: list[tuple[int, int, Quote | Trade]] = [(quote[0], 0, quote) for quote in history.quotes]
    news += [(trade.time, 1, trade) for trade in history.trades]
    news.sort(key=lambda item: item[:2])
    bid, ask = 0, DOLLAR
    last: int | None = None
    interest = whole_interest = 0
    forming: _Forming | None = None

    def close(period: _Forming, previous: int | None) -> Candle:
        return Candle(
            end=period.end // SECOND,
            bid=_range(period.bid),
            ask=_range(period.ask),
            price=_range(period.price) if period.price else None,
            mean=(2 * period.turnover + period.volume) // (2 * period.volume) if period.price else None,
            previous=previous,
            volume=period.volume,
            open_interest=interest,
            whole_volume=period.whole_volume,
            whole_open_interest=whole_interest,
        )

    for time, _, what in news:
        end = ends(time)
        if forming is None or end != forming.end:
            if forming is not None:
                yield close(forming, last)
                last = forming.price[-1] if forming.price else last
            forming = _Forming(end, [bid], [ask])
        if isinstance(what, Trade):
            forming.price.append(what.yes_price)
            forming.turnover += what.yes_price * what.count
            forming.volume += what.count
            forming.whole_volume += what.whole_count
            interest += what.opens
            whole_interest = max(0, whole_interest + (what.opens > 0) * what.whole_count + min(0, what.opens) // CONTRACT)
        else:
            _, bid, ask = what
            forming.bid.append(bid)
            forming.ask.append(ask)
    if forming is not None:
        yield close(forming, last)


def _range(values: Sequence[int]) -> Range:
    return Range(values[0], min(values), max(values), values[-1])


def _period_ends(history: History, interval: int) -> Callable[[int], int]:
    """Return a function from a moment to the inclusive end of its period."""
    if interval == 1440 and history.quotes:
        last = max(history.quotes[-1][0], history.trades[-1].time if history.trades else 0)
        midnights = eastern_midnights(history.quotes[0][0], last)
        return lambda time: midnights[bisect_left(midnights, time)]
    period = interval * MINUTE
    return lambda time: -(-time // period) * period


# How answers become known.


def _normal(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def _moments(random: Random, begin: int, end: int, steps: int) -> list[int]:
    return [begin, *sorted(random.randrange(begin + 1, end) for _ in range(steps))]


def _forecast(
    random: Random, *, begin: int, end: int, steps: int, start: float, final: float, deviation: float, known_at: float
) -> Iterator[tuple[int, float, float]]:
    """Walk from a first forecast to the final value: a bridge.

    Yields time, forecast, and the standard deviation of what is still unknown.
    `known_at` is the share of the way at which the value is fully known.
    """
    value, spent = start, 0.0
    for moment in _moments(random, begin, end, steps):
        way = (moment - begin) / (end - begin)
        clock = min(1.0, way / known_at)
        clock = 1 - (1 - clock) ** 1.2
        if spent < 1.0:
            step = clock - spent
            mean = value + (final - value) * step / (1 - spent)
            noise = deviation * math.sqrt(max(0.0, step * (1 - clock) / (1 - spent)))
            value = random.gauss(mean, noise) if clock < 1.0 else final
            spent = clock
        yield moment, value, deviation * math.sqrt(1 - spent)


def _ladder_path(edges: Sequence[float], **forecast: float) -> Callable[[Random], Iterator[Step]]:
    """Return the path of markets that share one number: below the first edge, between edges, above the last."""

    def unfold(random: Random) -> Iterator[Step]:
        for moment, value, left in _forecast(
            random,
            begin=int(forecast["begin"]),
            end=int(forecast["end"]),
            steps=int(forecast["steps"]),
            start=forecast["start"],
            final=forecast["final"],
            deviation=forecast["deviation"],
            known_at=forecast["known_at"],
        ):
            below = [_normal((edge - value) / left) if left > 0 else float(value < edge) for edge in edges]
            bounds = [0.0, *below, 1.0]
            yield moment, tuple(high - low for low, high in pairwise(bounds))

    return unfold


def _posterior_path(
    *,
    begin: int,
    end: int,
    steps: int,
    prior: Sequence[float],
    truth: int,
    payouts: Sequence[Sequence[float]],
    pace: float,
) -> Callable[[Random], Iterator[Step]]:
    """Return the path of markets that pay by hypothesis, as evidence for the true one accumulates towards the end.

    `payouts[market][hypothesis]` is 0 to 1. Each hypothesis has a noisy signal that drifts upwards if it is the true
    one; a price is the expected payment under the posterior, which makes it a martingale.
    """

    def unfold(random: Random) -> Iterator[Step]:
        evidence = [math.log(weight) for weight in prior]
        clock = 0.0
        for moment in _moments(random, begin, end, steps):
            way = (moment - begin) / (end - begin)
            passed = pace * way / (1.02 - way) - clock
            clock += passed
            for place in range(len(evidence)):
                evidence[place] += random.gauss(passed * (place == truth), math.sqrt(passed))
            top = max(evidence)
            weights = [math.exp(amount - top) for amount in evidence]
            total = sum(weights)
            yield moment, tuple(sum(w * p for w, p in zip(weights, row, strict=True)) / total for row in payouts)

    return unfold


class _Builder:
    """Decides which markets a world has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.series: dict[str, Series] = {}
        self.events: list[Event] = []
        self.combos: list[Event] = []

    def populate(self, size: int) -> None:
        """Fill the world with exactly `size` markets."""
        self._election()
        self._match()
        self._curiosities()
        special = sum(len(event.markets) for event in self.events) + 2
        crypto = max(8, size // 12)
        ladders, rest = divmod(size - special - crypto, 6)
        self._crypto(crypto + rest)
        self._weather(ladders)
        self._combinations()

    # Daily temperature ladders.

    def _weather(self, events: int) -> None:
        cities = CITIES[: max(3, min(len(CITIES), events // 15))]
        today = datetime.fromtimestamp(self.world.now // SECOND, EASTERN).date()
        for place, (code, city, mean) in enumerate(cities):
            series = Series(
                f"KXSIMHIGH{code}",
                f"Highest temperature in {city}",
                "Climate and Weather",
                ("Daily temperature",),
                "daily",
            )
            self.series[series.ticker] = series
            share = events // len(cities) + (place < events % len(cities))
            for offset in _day_offsets(share, place / len(cities)):
                self.events.append(self._temperature(series, city, mean, today - timedelta(days=offset)))

    def _temperature(self, series: Series, city: str, mean: float, day: date) -> Event:
        ticker = f"{series.ticker}-{_day_code(day)}"
        random = self.world.stream(ticker, "outcome")
        season = 20 * math.cos(2 * math.pi * (day.timetuple().tm_yday - 200) / 365)
        start = random.gauss(mean + season, 6)
        deviation = random.uniform(2.2, 3.8)
        final = random.gauss(start, deviation)
        reading = math.floor(final + 0.5)
        low = round(start) - 4 + random.choice((-1, 0, 0, 1))
        opened = micros(datetime(day.year, day.month, day.day, 10, tzinfo=EASTERN) - timedelta(days=1))
        morning = micros(datetime(day.year, day.month, day.day, tzinfo=UTC)) + DAY
        closed = morning + 4 * HOUR + 59 * MINUTE
        report = micros(datetime(day.year, day.month, day.day, 8, tzinfo=EASTERN) + timedelta(days=1))
        settled = report + random.randrange(MINUTE, 20 * MINUTE)
        day_text = f"{day:%b} {day.day}, {day.year}"
        strikes: list[tuple[str, str, str, float | None, float | None, bool]] = [
            (f"T{low}", "less", f"{low - 1}° or below", None, low, reading < low)
        ]
        for floor in range(low, low + 8, 2):
            inside = floor <= reading <= floor + 1
            strikes.append((f"B{floor}.5", "between", f"{floor}° to {floor + 1}°", floor, floor + 1, inside))
        strikes.append((f"T{low + 7}", "greater", f"{low + 8}° or above", low + 7, None, reading > low + 7))
        markets = tuple(
            Market(
                ticker=f"{ticker}-{suffix}",
                event_ticker=ticker,
                series_ticker=series.ticker,
                position=position,
                title=f"Highest temperature in {city} on {day_text}: {label}?",
                label=label,
                payout=DOLLAR * inside,
                created=opened - 4 * HOUR - random.randrange(30 * MINUTE),
                open=opened,
                close=closed,
                determined=settled,
                settled=settled,
                value=f"{reading}.00",
                strike_type=kind,
                floor_strike=floor,
                cap_strike=cap,
                activity=2.6 + 1.1 * (kind == "between"),
            )
            for position, (suffix, kind, label, floor, cap, inside) in enumerate(strikes)
        )
        path = _ladder_path(
            [low - 0.5 + 2 * step for step in range(5)],
            begin=opened,
            end=closed,
            steps=90,
            start=start,
            final=final,
            deviation=deviation,
            known_at=0.9,
        )
        return Event(
            ticker=ticker,
            series_ticker=series.ticker,
            title=f"Highest temperature in {city} on {day_text}?",
            sub_title=f"On {day_text}",
            category=series.category,
            mutually_exclusive=True,
            strike_date=morning + 3 * HOUR + 59 * MINUTE,
            markets=markets,
            unfold=path,
        )

    # Will bitcoin be higher in a quarter of an hour?

    def _crypto(self, events: int) -> None:
        series = Series("KXSIMBTC15M", "Bitcoin price up or down in 15 minutes", "Crypto", ("15 min", "BTC"), "fifteen_min")
        self.series[series.ticker] = series
        quarter = 15 * MINUTE
        last = self.world.now // quarter * quarter + 3 * quarter
        random = self.world.stream(series.ticker, "prices")
        # Backwards, so that the price of a moment does not depend on how far back the world goes.
        prices = [round(random.gauss(94_000, 2_500), 2)]
        found: list[Event] = []
        taken: set[str] = set()
        close = last
        while len(found) < events:
            deviation = prices[-1] * 0.0019
            prices.append(round(random.gauss(prices[-1], deviation), 2))
            local = datetime.fromtimestamp(close // SECOND, EASTERN)
            ticker = f"{series.ticker}-{_day_code(local.date())}{local:%H%M}"
            if ticker not in taken:  # the hour that comes twice in autumn has its name once
                taken.add(ticker)
                found.append(
                    self._quarter_hour(
                        series,
                        ticker,
                        local=local,
                        close=close,
                        strike=prices[-1],
                        final=prices[-2],
                        deviation=deviation,
                    )
                )
            close -= quarter
        self.events.extend(reversed(found))

    def _quarter_hour(
        self, series: Series, ticker: str, *, local: datetime, close: int, strike: float, final: float, deviation: float
    ) -> Event:
        random = self.world.stream(ticker, "outcome")
        opened = close - 15 * MINUTE
        determined = close + random.randrange(2 * SECOND, 30 * SECOND)
        when = f"{local:%b} {local.day}, {local:%H:%M} ET"
        market = Market(
            ticker=f"{ticker}-{local:%M}",
            event_ticker=ticker,
            series_ticker=series.ticker,
            position=1,
            title=f"Bitcoin at or above ${strike:,.2f} at {when}?",
            label=f"${strike:,.2f} or above",
            payout=DOLLAR * (final >= strike),
            created=opened - DAY - random.randrange(HOUR),
            open=opened,
            close=close,
            determined=determined,
            settled=determined + random.randrange(5 * MINUTE, 8 * MINUTE),
            value=f"{final:.2f}",
            strike_type="greater_or_equal",
            floor_strike=strike,
            activity=4.0,
        )
        path = _ladder_path(
            [strike], begin=opened, end=close, steps=60, start=strike, final=final, deviation=deviation, known_at=1.0
        )
        return Event(
            ticker=ticker,
            series_ticker=series.ticker,
            title=f"Bitcoin price at {when}?",
            sub_title=when,
            category=series.category,
            mutually_exclusive=False,
            strike_date=close,
            markets=(market,),
            unfold=path,
        )

    # One of each kind that breaks careless readers.

    def _election(self) -> None:
        now = self.world.now // DAY * DAY
        prior = [0.34, 0.27, 0.2, 0.12, 0.07]
        truth = _draw(self.world.stream("KXHARBORMAYOR", "outcome"), prior)
        self._hypotheses(
            series=Series("KXHARBORMAYOR", "Mayor of Harborview", "Elections", ("Local", "Mayors"), "custom"),
            suffix="26",
            title="Who will be elected mayor of Harborview?",
            sub_title="In 2026",
            labels=["Amara Okafor", "Bruno Lindqvist", "Celia Marsh", "Dov Halpern", "Esme Tran"],
            codes=["OKA", "LIN", "MAR", "HAL", "TRA"],
            prior=prior,
            truth=truth,
            payouts=[[float(row == column) for column in range(5)] for row in range(5)],
            span=(now - 95 * DAY + 14 * HOUR, now + 40 * DAY + 4 * HOUR),
            settles=True,
            activity=5.2,
            pace=0.6,
        )

    def _match(self) -> None:
        now = self.world.now // DAY * DAY
        self._hypotheses(
            series=Series("KXHARBORCUPGAME", "Harbor Cup match", "Sports", ("Football",), "custom", "quadratic_with_maker_fees"),
            suffix="26SEMI1",
            title="Rowan Athletic against Stone Bridge: who wins?",
            sub_title="Harbor Cup, first semi-final",
            labels=["Rowan Athletic", "Stone Bridge"],
            codes=["ROW", "STO"],
            prior=[0.46, 0.44, 0.1],
            truth=2,
            payouts=[[1, 0, 0.5], [0, 1, 0.5]],
            span=(now - 9 * DAY + 14 * HOUR, now - 5 * DAY + 21 * HOUR),
            settles=True,
            activity=4.6,
            pace=0.8,
        )

    def _curiosities(self) -> None:
        now = self.world.now // DAY * DAY
        # Closed long ago, never settled: stays in the live tier, its trades do not.
        self._yes_or_no(
            "KXFERRYSTRIKE", "Ferry strike before autumn", "Politics", (now - 130 * DAY, now - 70 * DAY), settles=False
        )
        # Halted by the exchange: not closed, but nobody trades.
        self._yes_or_no(
            "KXALBUMDELAY",
            "Album released late",
            "Entertainment",
            (now - 20 * DAY, now + 30 * DAY),
            halted=now - 3 * DAY,
        )
        # Ticks of a tenth of a cent.
        self._yes_or_no(
            "KXRECORDRAIN",
            "Wettest November on record",
            "Climate and Weather",
            (now - 12 * DAY + 14 * HOUR, now + 35 * DAY),
            tick=10,
            prior=0.11,
            activity=4.8,
        )

    def _yes_or_no(
        self,
        ticker: str,
        title: str,
        category: str,
        span: tuple[int, int],
        *,
        settles: bool = True,
        halted: int | None = None,
        tick: int = 100,
        prior: float = 0.4,
        activity: float = 3.6,
    ) -> None:
        chances = [prior, 1 - prior]
        self._hypotheses(
            series=Series(ticker, title, category, None, "one_off"),
            suffix="26",
            title=f"{title}?",
            sub_title="In 2026",
            labels=["Yes"],
            codes=["Y"],
            prior=chances,
            truth=_draw(self.world.stream(ticker, "outcome"), chances),
            payouts=[[1, 0]],
            span=span,
            settles=settles,
            activity=activity,
            pace=0.7,
            halted=halted,
            tick=tick,
        )

    def _hypotheses(
        self,
        *,
        series: Series,
        suffix: str,
        title: str,
        sub_title: str,
        labels: Sequence[str],
        codes: Sequence[str],
        prior: Sequence[float],
        truth: int,
        payouts: Sequence[Sequence[float]],
        span: tuple[int, int],
        settles: bool,
        activity: float,
        pace: float,
        halted: int | None = None,
        tick: int = 100,
    ) -> None:
        opened, closed = span
        ticker = f"{series.ticker}-{suffix}"
        settled = closed + 3 * HOUR + self.world.stream(ticker, "settlement").randrange(HOUR) if settles else None
        alone = len(labels) == 1
        markets = tuple(
            Market(
                ticker=ticker if alone else f"{ticker}-{codes[place]}",
                event_ticker=ticker,
                series_ticker=series.ticker,
                position=place,
                title=title if alone else f"{title} {label}?",
                label=label,
                payout=round(payouts[place][truth] * DOLLAR),
                created=opened - 2 * HOUR,
                open=opened,
                close=closed,
                determined=settled,
                settled=settled,
                value=labels[truth] if truth < len(labels) else "",
                tick=tick,
                activity=activity,
                halted=halted,
            )
            for place, label in enumerate(labels)
        )
        path = _posterior_path(begin=opened, end=closed, steps=240, prior=prior, truth=truth, payouts=payouts, pace=pace)
        self.series[series.ticker] = series
        self.events.append(
            Event(
                ticker=ticker,
                series_ticker=series.ticker,
                title=title,
                sub_title=sub_title,
                category=series.category,
                mutually_exclusive=not alone,
                strike_date=None,
                markets=markets,
                unfold=path,
            )
        )

    # Combinations of other markets, which trade without an event in the lists.

    def _combinations(self) -> None:
        series = Series("KXMVEWEATHER", "Several cities at once", "Exotics", None, "custom")
        self.series[series.ticker] = series
        world = self.world
        ladders = [event for event in self.events if event.ticker.startswith("KXSIMHIGH")]
        running = [event for event in ladders if event.markets[0].open <= world.now < event.markets[0].close]
        settled = [event for event in ladders if (event.markets[0].settled or world.now) < world.now]
        days = Counter(event.markets[0].close for event in settled)
        newest = max(close for close, cities in days.items() if cities >= 2)
        for legs in (running[:2], [event for event in settled if event.markets[0].close == newest][:2]):
            self.combos.append(self._combination(series, legs))

    def _combination(self, series: Series, legs: Sequence[Event]) -> Event:
        random = self.world.stream(series.ticker, *(leg.ticker for leg in legs))
        ticker = f"{series.ticker}-S2026{random.getrandbits(48):012X}"
        chosen = [leg.markets[2] for leg in legs]
        opened = chosen[0].open + HOUR
        payout = DOLLAR * all(leg.payout == DOLLAR for leg in chosen)
        label = ",".join(f"yes {leg.label}" for leg in chosen)
        market = Market(
            ticker=f"{ticker}-{random.getrandbits(44):011X}",
            event_ticker=ticker,
            series_ticker=series.ticker,
            position=0,
            title=label,
            label=label,
            payout=payout,
            created=opened,
            open=opened,
            close=chosen[0].close,
            determined=max(leg.determined or leg.close for leg in chosen),
            settled=max(leg.settled or leg.close for leg in chosen) + 5 * SECOND,
            value="",
            tick=10,
            activity=3.4,
            legs=tuple(leg.ticker for leg in chosen),
        )

        def unfold(_: Random) -> Iterator[Step]:
            # The legs are about different cities, which are independent here: the combination is worth their product.
            known = [1.0] * len(chosen)
            steps = [
                (time, place, values[leg.position])
                for place, leg in enumerate(chosen)
                for time, values in self.world.fair_values(leg.event_ticker)
            ]
            for time, place, value in sorted(steps):
                known[place] = value
                if time >= opened:
                    yield time, (math.prod(known),)

        return Event(
            ticker=ticker,
            series_ticker=series.ticker,
            title=label,
            sub_title="",
            category=series.category,
            mutually_exclusive=False,
            strike_date=None,
            markets=(market,),
            unfold=unfold,
        )


CITIES = (
    ("DLH", "Duluth", 50.0),
    ("SAV", "Savannah", 77.0),
    ("BOI", "Boise", 63.0),
    ("TUS", "Tucson", 83.0),
    ("BTV", "Burlington", 55.0),
    ("OMA", "Omaha", 62.0),
    ("MOB", "Mobile", 78.0),
    ("GEG", "Spokane", 57.0),
    ("FAT", "Fresno", 77.0),
    ("ABQ", "Albuquerque", 69.0),
    ("TUL", "Tulsa", 71.0),
    ("ROC", "Rochester", 57.0),
    ("LEX", "Lexington", 66.0),
    ("ELP", "El Paso", 78.0),
    ("MSN", "Madison", 56.0),
    ("CHA", "Chattanooga", 71.0),
    ("FSD", "Sioux Falls", 57.0),
    ("PWM", "Portland in Maine", 55.0),
    ("SHV", "Shreveport", 77.0),
    ("RNO", "Reno", 67.0),
)


def _day_offsets(share: int, phase: float) -> list[int]:
    """Return how many days ago a city's events are: the newest dense, the rest over 75 days or, if many, beyond."""
    recent = [0, 2, 1, -1][:share]
    spread = share - len(recent)
    if spread <= 0:
        return recent
    step = max(73, spread) / spread
    return recent + [3 + int((place + phase) * step) for place in range(spread)]


def _day_code(day: date) -> str:
    return f"{day:%y}{day:%b}{day:%d}".upper()


def _draw(random: Random, weights: Sequence[float]) -> int:
    return random.choices(range(len(weights)), weights)[0]
