"""Prices of many markets at once, spreads and depth, movers, prices of an event that do not fit, and candles of other lengths."""

import random
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import psycopg
import pytest
from generated_rows import rounded
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND, TICK, book, candle, event, market, quote, series, trade

from kalshidb.models.catalog import MarketInput
from kalshidb.models.market_data import Candlestick, EventArbitrageRow, PriceSnapshotInput
from kalshidb.queries import catalog, market_data

T80 = "KXHIGHNY-26JUL19-T80"


def mean(values: list[Decimal]) -> Fraction:
    return sum((Fraction(value) for value in values), Fraction(0)) / len(values)


def test_the_price_before_the_close_is_the_last_one_by_then(pg: psycopg.Connection) -> None:
    close = NOON + DAY
    catalog.upsert_markets(
        pg, [market("KX-A", close_time=close), market("KX-B", close_time=close + HOUR), market("KX-OPEN", close_time=None)]
    )
    market_data.upsert_price_snapshots(
        pg,
        [
            quote("KX-A", close - HOUR - TICK, yes_bid=Decimal("0.10"), yes_ask=Decimal("0.20")),
            quote("KX-A", close - HOUR, yes_bid=Decimal("0.30"), yes_ask=Decimal("0.40")),
            quote("KX-A", close - HOUR + TICK, yes_bid=Decimal("0.50"), yes_ask=Decimal("0.60")),  # too late: nobody knew
            quote("KX-B", close - 3 * HOUR),  # too old
            quote("KX-OPEN", close - HOUR),
        ],
    )
    market_data.insert_public_trades(
        pg, [trade(1, "KX-A", close - HOUR, yes_price=Decimal("0.33")), trade(2, "KX-B", close, yes_price=Decimal("0.7"))]
    )
    asked = ["KX-B", "KX-A", "KX-OPEN", "KX-NONE", "KX-A"]
    found = market_data.prices_before_close(pg, market_tickers=asked, before_close=HOUR, max_age=2 * HOUR)
    assert [(row.position, row.market_ticker) for row in found] == list(enumerate(asked, 1))
    b, a, open_, none, again = found
    assert (a.snapshot_time, a.yes_bid, a.implied_probability) == (close - HOUR, Decimal("0.3"), Decimal("0.35"))
    assert (a.traded_at, a.traded_price) == (close - HOUR, Decimal("0.33"))
    assert (b.close_time, b.snapshot_time, b.traded_price) == (close + HOUR, None, Decimal("0.7"))
    assert (open_.close_time, open_.snapshot_time, none.close_time, none.traded_at) == (None, None, None, None)
    assert again.model_copy(update={"position": a.position}) == a


def test_every_open_market_comes_with_its_latest_quote(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(
        pg,
        [
            market("KX-LATE", close_time=NOON + 2 * DAY),
            market("KX-SOON", close_time=NOON + DAY),
            market("KX-QUIET", close_time=NOON + 3 * DAY),
            market("KX-SHUT", status="closed"),
        ],
    )
    old = quote("KX-QUIET", NOON - 40 * DAY)
    rows = [
        quote(ticker, NOON + number * SECOND, last_price=Decimal(number) / 10)
        for ticker in ("KX-LATE", "KX-SOON", "KX-SHUT")
        for number in range(3)
    ]
    market_data.upsert_price_snapshots(pg, [*rows, old])
    found = list(market_data.prices_of_open_markets(pg, seen_since=NOON - DAY))
    assert [(row.market_ticker, row.last_price, row.snapshot_time) for row in found] == [
        ("KX-SOON", Decimal("0.2"), NOON + 2 * SECOND),
        ("KX-LATE", Decimal("0.2"), NOON + 2 * SECOND),
        ("KX-QUIET", None, None),
    ]


def test_the_biggest_movers_come_first_whichever_way_they_moved(pg: psycopg.Connection) -> None:
    moves = {"KX-UP": ("0.20", "0.50"), "KX-DOWN": ("0.90", "0.40"), "KX-STILL": ("0.50", "0.50"), "KX-SHUT": ("0.01", "0.99")}
    catalog.upsert_markets(
        pg, [market(ticker, status="closed" if ticker == "KX-SHUT" else "active") for ticker in [*moves, "KX-NEW"]]
    )
    rows = [
        quote(ticker, at, yes_bid=Decimal(price) - Decimal("0.01"), yes_ask=Decimal(price) + Decimal("0.01"))
        for ticker, prices in moves.items()
        for at, price in zip((NOON - MINUTE, NOON + HOUR), prices, strict=True)
    ]
    market_data.upsert_price_snapshots(pg, [*rows, quote("KX-NEW", NOON + HOUR), quote("KX-UP", NOON + 2 * HOUR)])
    found = market_data.biggest_movers(pg, from_time=NOON, to_time=NOON + HOUR, max_age=10 * MINUTE, how_many=5)
    assert [(row.market_ticker, row.change) for row in found] == [
        ("KX-DOWN", Decimal("-0.5")), ("KX-UP", Decimal("0.3")), ("KX-STILL", Decimal(0)),
    ]  # fmt: skip
    assert [
        row.market_ticker for row in market_data.biggest_movers(pg, from_time=NOON, to_time=NOON + HOUR, max_age=HOUR, how_many=1)
    ] == ["KX-DOWN"]


def fitting(pg: psycopg.Connection, quotes: dict[str, tuple[str, str]], **changes: MarketInput) -> list[EventArbitrageRow]:
    """What is found of one event whose markets are quoted (bid, ask) so."""
    catalog.upsert_series(pg, [series("KXCUP", fee_type="quadratic", fee_multiplier=Decimal(1))])
    catalog.upsert_events(pg, [event("KXCUP-1", series_ticker="KXCUP", mutually_exclusive=True)])
    catalog.upsert_markets(pg, [changes.get(name) or market(f"KXCUP-1-{name}") for name in {**quotes, **changes}])
    market_data.upsert_price_snapshots(
        pg, [quote(f"KXCUP-1-{name}", yes_bid=Decimal(bid), yes_ask=Decimal(ask)) for name, (bid, ask) in quotes.items()]
    )
    return market_data.event_arbitrage(pg, moment=NOON, max_age=HOUR, smallest_profit=Decimal("0.01"))


def test_bids_of_one_event_that_exceed_a_dollar_are_found(pg: psycopg.Connection) -> None:
    (found,) = fitting(pg, {"A": ("0.40", "0.42"), "B": ("0.35", "0.40"), "C": ("0.30", "0.33"), "D": ("0", "1")})
    assert (found.event_ticker, found.open_markets, found.yes_bids, found.sell_profit) == (
        "KXCUP-1",
        4,
        Decimal("1.05"),
        Decimal("0.05"),
    )
    assert (found.yes_asks, found.buy_profit) == (None, None)  # nobody offers D
    fees = [Decimal("0.07") * Decimal(bid) * (1 - Decimal(bid)) for bid in ("0.40", "0.35", "0.30")]
    assert found.sell_fees == sum(fees)


def test_offers_of_one_event_below_a_dollar_are_found_only_where_all_are_offered(pg: psycopg.Connection) -> None:
    (found,) = fitting(pg, {"A": ("0.30", "0.40"), "B": ("0.20", "0.30"), "C": ("0.10", "0.22")})
    assert (found.yes_asks, found.buy_profit, found.sell_profit) == (Decimal("0.92"), Decimal("0.08"), Decimal("-0.4"))


@pytest.mark.parametrize(
    ("status", "result", "is_found"), [("finalized", "no", True), ("closed", None, False), ("finalized", "yes", False)]
)
def test_a_market_that_may_still_pay_spoils_buying_all_the_others(
    pg: psycopg.Connection, status: str, result: str | None, is_found: bool
) -> None:
    gone = market("KXCUP-1-GONE", status=status, result=result)
    found = fitting(pg, {"A": ("0.30", "0.40"), "B": ("0.20", "0.30")}, GONE=gone)
    assert [row.buy_profit for row in found] == ([Decimal("0.3")] if is_found else [])


def test_prices_that_fit_and_events_whose_markets_do_not_exclude_each_other_are_not_found(pg: psycopg.Connection) -> None:
    assert fitting(pg, {"A": ("0.50", "0.52"), "B": ("0.47", "0.49")}) == []
    catalog.upsert_events(pg, [event("KXCUP-2", series_ticker="KXCUP", mutually_exclusive=False)])
    catalog.upsert_markets(pg, [market(f"KXCUP-2-{name}") for name in "AB"])
    market_data.upsert_price_snapshots(
        pg, [quote(f"KXCUP-2-{name}", yes_bid=Decimal("0.9"), yes_ask=Decimal("0.95")) for name in "AB"]
    )
    assert market_data.event_arbitrage(pg, moment=NOON, max_age=HOUR, smallest_profit=Decimal("0.01")) == []


def test_spread_over_time_counts_only_quotes_with_two_sides(pg: psycopg.Connection) -> None:
    chance = random.Random(3)  # noqa: S311
    rows: list[PriceSnapshotInput] = []
    for number in range(500):
        bid = Decimal(chance.randrange(0, 90)) / 100
        ask = min(bid + Decimal(chance.randrange(1, 30)) / 100, Decimal(1))
        rows.append(quote(at=NOON + number * 17 * SECOND, yes_bid=bid, yes_ask=ask))
    market_data.upsert_price_snapshots(pg, [*rows, quote(at=NOON - SECOND)])
    width = 20 * MINUTE
    groups: dict[datetime, list[PriceSnapshotInput]] = defaultdict(list)
    for row in rows:
        groups[NOON + (row.snapshot_time - NOON) // width * width].append(row)
    expected = []
    for at, members in sorted(groups.items()):
        both = [(row.yes_bid, row.yes_ask) for row in members if row.yes_bid and row.yes_ask and row.yes_ask < 1]
        spreads = [ask - bid for bid, ask in both]
        middles = [(ask + bid) / 2 for bid, ask in both]
        expected.append(
            (
                at,
                len(members),
                len(both),
                rounded(mean(spreads)),
                min(spreads),
                max(spreads),
                rounded(mean(spreads) / mean(middles)),
            )
        )
    found = market_data.spread_over_time(pg, market_ticker=T80, width=width, start_time=NOON, end_time=NOON + DAY)
    assert [tuple(row.model_dump().values()) for row in found] == expected
    assert len(found) == 8
    assert any(row.quoted < row.observations for row in found)


def test_depth_over_time_is_the_mean_of_the_books(pg: psycopg.Connection) -> None:
    depths = [(Decimal(3), Decimal(10)), (Decimal("4.50"), Decimal(0)), (Decimal(9), Decimal(2))]
    rows = [
        book(
            at=NOON + number * 40 * MINUTE, yes_bid_quantities=[yes, Decimal(1)], no_bid_prices=[Decimal("0.55")] if no else [],
            no_bid_quantities=[no] if no else [],
        )
        for number, (yes, no) in enumerate(depths)
    ]  # fmt: skip
    market_data.upsert_orderbook_snapshots(pg, rows)
    first, second = market_data.depth_over_time(pg, market_ticker=T80, width=HOUR, start_time=NOON, end_time=NOON + DAY)
    assert (first.books, first.mean_yes_depth, first.mean_no_depth, first.smallest_no_depth) == (2, Decimal("4.75"), 5, 0)
    assert first.mean_spread == Decimal("0.05")  # of the one book with both sides
    assert (second.interval_start, second.books, second.smallest_yes_depth) == (NOON + HOUR, 1, 10)


def test_liquidity_is_what_stands_near_the_best_price(pg: psycopg.Connection) -> None:
    deep = book(
        "KX-DEEP", NOON, yes_bid_prices=[Decimal("0.10"), Decimal("0.38"), Decimal("0.40")],
        yes_bid_quantities=[Decimal(1000), Decimal(20), Decimal(5)],
        no_bid_prices=[Decimal("0.50"), Decimal("0.55")], no_bid_quantities=[Decimal(30), Decimal("7.50")],
    )  # fmt: skip
    empty = book("KX-EMPTY", NOON, yes_bid_prices=[], yes_bid_quantities=[], no_bid_prices=[], no_bid_quantities=[])
    market_data.upsert_orderbook_snapshots(
        pg, [deep, empty, book("KX-DEEP", NOON - HOUR), book("KX-DEEP", NOON + TICK), book("KX-OLD", NOON - DAY)]
    )
    found = market_data.liquidity(
        pg, market_tickers=["KX-OLD", "KX-DEEP", "KX-EMPTY"], moment=NOON, max_age=2 * HOUR, within=Decimal("0.02")
    )
    assert [row.snapshot_time for row in found] == [None, NOON, NOON]
    one = found[1]
    assert (one.best_yes_bid, one.best_yes_ask, one.spread) == (Decimal("0.40"), Decimal("0.45"), Decimal("0.05"))
    assert (one.bid_contracts, one.bid_dollars) == (25, 5 * Decimal("0.40") + 20 * Decimal("0.38"))
    assert (one.ask_contracts, one.ask_dollars) == (Decimal("7.5"), Decimal("7.5") * Decimal("0.45"))
    assert (found[0].bid_contracts, found[2].bid_contracts, found[2].ask_dollars, found[2].spread) == (None, 0, 0, None)


def minute_candles(count: int, seed: int = 5) -> list[Candlestick]:
    """Sparse 1-minute candles: quotes mostly, trades sometimes, nothing at all for long stretches."""
    chance = random.Random(seed)  # noqa: S311
    rows = []
    minute = 0
    last: Decimal | None = None
    for _ in range(count):
        minute += chance.choice([1, 1, 1, 2, 3, 40])
        low = Decimal(chance.randrange(1, 40)) / 100
        prices = {
            f"{side}_{name}": low + Decimal(offset) / 100
            for side, base in (("yes_bid", 0), ("yes_ask", 10))
            for name, offset in (("low", base), ("open", base + 1), ("close", base + chance.randrange(3)), ("high", base + 2))
        }
        if chance.random() < 0.5:
            prices |= {
                "price_low": low,
                "price_open": low + Decimal("0.01"),
                "price_close": low + Decimal("0.02"),
                "price_high": low + Decimal("0.02"),
            }
            prices["price_mean"] = low + Decimal("0.013")
        rows.append(
            candle(
                end=NOON + minute * MINUTE,
                minutes=1,
                volume=Decimal(chance.randrange(1, 900)) / 100 if "price_open" in prices else Decimal(0),
                open_interest=Decimal(minute),
                price_previous=last,
                **{"price_close": None, **prices},
            )
        )
        last = prices.get("price_close", last)
    return rows


@pytest.mark.parametrize("minutes", [5, 15, 60])
@pytest.mark.parametrize("fill_gaps", [False, True])
def test_candles_of_other_lengths_agree_with_plain_python(pg: psycopg.Connection, minutes: int, fill_gaps: bool) -> None:
    rows = minute_candles(300)
    market_data.upsert_candlesticks(pg, [*rows, candle(end=rows[3].end_period_ts, minutes=60)])
    width = minutes * MINUTE
    start, end = NOON + 30 * MINUTE - 30 * MINUTE % width, NOON + 20 * HOUR
    groups: dict[datetime, list[Candlestick]] = defaultdict(list)
    for row in rows:
        if start < row.end_period_ts <= end:
            groups[NOON - (NOON - row.end_period_ts) // width * width].append(row)

    def known(members: list[Candlestick], name: str) -> list[Decimal]:
        return [value for row in members if (value := getattr(row, name)) is not None]

    expected: dict[datetime, dict[str, object]] = {}
    edges = [start + number * width for number in range(1, (end - start) // width + 1)] if fill_gaps else sorted(groups)
    for edge in edges:
        members = groups.get(edge, [])
        line: dict[str, object] = {"is_filled": not members}
        if members:
            for side in ("yes_bid", "yes_ask", "price"):
                line[f"{side}_open"] = next(iter(known(members, f"{side}_open")), None)
                line[f"{side}_close"] = next(iter(known(members, f"{side}_close")[::-1]), None)
                line[f"{side}_high"] = max(known(members, f"{side}_high"), default=None)
                line[f"{side}_low"] = min(known(members, f"{side}_low"), default=None)
            traded = [(row.price_mean, row.volume) for row in members if row.price_mean is not None and row.volume]
            total = sum((Fraction(volume) for _, volume in traded), Fraction(0))
            line["price_mean"] = (
                rounded(sum((Fraction(price) * Fraction(volume) for price, volume in traded), Fraction(0)) / total)
                if traded
                else None
            )
            line["price_previous"] = members[0].price_previous
            line["volume"] = sum(known(members, "volume"))
            line["open_interest"] = members[-1].open_interest
        else:
            before = [row for row in rows if row.end_period_ts < edge]
            for side in ("yes_bid", "yes_ask"):
                for name in ("open", "high", "low", "close"):
                    line[f"{side}_{name}"] = getattr(before[-1], f"{side}_close") if before else None
            line |= dict.fromkeys(("price_open", "price_high", "price_low", "price_close", "price_mean"))
            line["price_previous"] = next(iter(known(before, "price_close")[::-1]), None)
            line["volume"] = 0
            line["open_interest"] = before[-1].open_interest if before else None
        expected[edge] = line
    found = market_data.resampled_candlesticks(
        pg, market_ticker=rows[0].market_ticker, minutes=minutes, start_ts=start, end_ts=end, fill_gaps=fill_gaps
    )
    assert {row.end_period_ts: row.model_dump(exclude={"end_period_ts"}) for row in found} == expected
    assert [row.end_period_ts for row in found] == sorted(expected)
    if minutes < 60:  # no gap is as long as an hour
        assert any(row.is_filled for row in found) == fill_gaps


def test_a_gap_is_filled_with_what_was_seen_before_it_but_not_with_last_weeks(pg: psycopg.Connection) -> None:
    seen = candle(end=NOON - timedelta(days=3), minutes=1, yes_bid_close=Decimal("0.3"))
    market_data.upsert_candlesticks(pg, [seen])

    def first(start: datetime) -> tuple[bool, Decimal | None, Decimal | None]:
        row, *_ = market_data.resampled_candlesticks(
            pg, market_ticker=seen.market_ticker, minutes=15, start_ts=start, end_ts=start + HOUR, fill_gaps=True
        )
        return row.is_filled, row.yes_bid_close, row.price_previous

    assert first(NOON) == (True, Decimal("0.3"), Decimal("0.4"))
    assert first(NOON + timedelta(days=7)) == (True, None, None)
