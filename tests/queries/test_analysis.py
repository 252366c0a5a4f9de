"""What is computed from the data agrees with an independent computation in plain Python."""

import random
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from uuid import UUID

import psycopg
import pytest
from sample_rows import DAY, NOON, SECOND, book, delta, market, quote, trade

from kalshidb.models.catalog import SettlementInput
from kalshidb.queries import catalog, market_data, ops

OUTCOMES = {"KX-Y": "yes", "KX-N": "no", "KX-S": "scalar", "KX-V": "void"}
PAID = {"KX-Y": Fraction(1), "KX-N": Fraction(0), "KX-S": Fraction(1, 4)}  # void pays nobody


def settle(pg: psycopg.Connection, outcomes: dict[str, str]) -> None:
    catalog.upsert_markets(pg, [market(ticker) for ticker in outcomes])
    catalog.insert_settlements(
        pg,
        [
            SettlementInput(
                market_ticker=ticker,
                settled_at=NOON + DAY,
                platform_id="kalshi",
                outcome=outcome,
                retrieved_at=NOON,
                yes_payout=Decimal("0.25") if outcome == "scalar" else None,
                no_payout=Decimal("0.75") if outcome == "scalar" else None,
            )
            for ticker, outcome in outcomes.items()
        ],
    )


def rounded(value: Fraction) -> Decimal:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return exact.quantize(Decimal("0.000001"), ROUND_HALF_UP)


def calibrated(trades: list[tuple[str, Decimal]], width: Decimal) -> list[tuple[Decimal, int, Decimal, Decimal]]:
    """Return (price_from, trades, mean_price, yes_share) of each bin, by fractions."""
    bins: dict[int, list[tuple[Fraction, Fraction]]] = {}
    count = -(-1 // Fraction(width))  # the last one may be narrower; it also holds the price of exactly 1
    for ticker, price in trades:
        if ticker in PAID:
            bins.setdefault(min(int(Fraction(price) / Fraction(width)), count - 1), []).append((Fraction(price), PAID[ticker]))
    return [
        (
            rounded(number * Fraction(width)),
            len(members),
            rounded(sum((price for price, _ in members), Fraction(0)) / len(members)),
            rounded(sum((paid for _, paid in members), Fraction(0)) / len(members)),
        )
        for number, members in sorted(bins.items())
    ]


@pytest.mark.parametrize("width", ["0.05", "0.1", "0.03", "0.07", "0.3", "1", "0.000001", "0.333333"])
def test_calibration_agrees_with_plain_python(pg: psycopg.Connection, width: str) -> None:
    chance = random.Random(width)  # noqa: S311
    step = Decimal(width)
    edges = [min(number * step, Decimal(1)) for number in range(5)]
    ticks = [edge + tick for edge in edges for tick in (Decimal("-0.000001"), Decimal("0.000001")) if 0 <= edge + tick <= 1]
    prices = [Decimal(0), Decimal(1), *edges, *ticks, *(Decimal(chance.randrange(0, 1_000_001)) / 1_000_000 for _ in range(300))]
    trades = [(chance.choice([*OUTCOMES, "KX-UNKNOWN"]), price) for price in prices * 3]
    settle(pg, OUTCOMES)
    market_data.insert_public_trades(
        pg, [trade(number, ticker, yes_price=price) for number, (ticker, price) in enumerate(trades)]
    )
    found = market_data.calibration(pg, bin_width=step, start_time=None, end_time=None)
    rows = [(row.price_from, row.trades, row.mean_price, row.yes_share) for row in found]
    assert rows == calibrated(trades, step)


def test_calibration_counts_by_the_last_declared_outcome(pg: psycopg.Connection) -> None:
    settle(pg, {"KX-Y": "no"})
    amended = SettlementInput(
        market_ticker="KX-Y", settled_at=NOON + 2 * DAY, platform_id="kalshi", outcome="yes", retrieved_at=NOON + 2 * DAY
    )
    catalog.insert_settlements(pg, [amended])
    market_data.insert_public_trades(pg, [trade(1, "KX-Y", yes_price=Decimal(1))])
    (row,) = market_data.calibration(pg, bin_width=Decimal("0.1"), start_time=None, end_time=None)
    assert (row.price_from, row.trades, row.mean_price, row.yes_share) == (Decimal("0.9"), 1, 1, 1)


@pytest.mark.parametrize("width", ["0", "-0.1", "1.5"])
def test_bins_have_a_width_between_nothing_and_a_dollar(pg: psycopg.Connection, width: str) -> None:
    settle(pg, {"KX-Y": "no"})
    market_data.insert_public_trades(pg, [trade(1, "KX-Y", yes_price=Decimal(1))])
    span = {"start_time": NOON - DAY, "end_time": NOON + DAY}
    for ask in (
        lambda: market_data.calibration(pg, bin_width=Decimal(width), **span),
        lambda: market_data.favourite_longshot(pg, bin_width=Decimal(width), **span),
    ):
        with pytest.raises(psycopg.errors.CheckViolation, match="bin_width_range_check"), pg.transaction():
            ask()


def test_calibration_of_nothing_is_empty(pg: psycopg.Connection) -> None:
    assert market_data.calibration(pg, bin_width=Decimal("0.1"), start_time=None, end_time=None) == []


def gaps(pg: psycopg.Connection) -> list[tuple[str | None, str | None, int | None, int | None]]:
    return [(gap.stream, gap.counted_by, gap.first_missing, gap.last_missing) for gap in market_data.sequence_gaps(pg)]


def test_a_jump_in_the_sequence_of_a_market_is_a_gap(pg: psycopg.Connection) -> None:
    numbered = [(1, 0), (2, 1), (5, 2), (6, 3), (8, 40 * 24 * 3600)]  # the last one in another month
    rows = [quote(at=NOON + at * SECOND, sequence=sequence, source="websocket") for sequence, at in numbered]
    other = [quote("KX-O", at=NOON + at * SECOND, sequence=at, source="websocket") for at in range(3)]
    market_data.upsert_price_snapshots(pg, [*rows, *other, quote(at=NOON + 9 * SECOND)])
    ticker = rows[0].market_ticker
    assert gaps(pg) == [("price_snapshots", ticker, 3, 4), ("price_snapshots", ticker, 7, 7)]
    first = market_data.sequence_gaps(pg)[0]
    assert (first.last_seen_at, first.seen_at) == (NOON + SECOND, NOON + 2 * SECOND)


def test_the_book_stream_counts_over_all_its_markets(pg: psycopg.Connection) -> None:
    market_data.upsert_orderbook_snapshots(pg, [book(at=NOON, sid=1, sequence=1, source="websocket")])
    market_data.insert_orderbook_deltas(
        pg,
        [
            delta(at=NOON + 1 * SECOND, sequence=2),
            delta("KX-O", at=NOON + 2 * SECOND, sequence=3),
            delta(at=NOON + 3 * SECOND, sequence=4),
            delta("KX-O", at=NOON + 4 * SECOND, sequence=9),
            delta(at=NOON + 5 * SECOND, sequence=70, sid=2),
            delta(at=NOON + 6 * SECOND, sequence=71, sid=2),
        ],
    )
    assert gaps(pg) == [("orderbook", "1", 5, 8)]


def test_a_stream_that_begins_again_is_no_gap(pg: psycopg.Connection) -> None:
    numbered = enumerate([7, 8, 1, 2, 3])
    market_data.upsert_price_snapshots(pg, [quote(at=NOON + at * SECOND, sequence=sequence) for at, sequence in numbered])
    assert gaps(pg) == []


LONG = [*range(48_000, 48_030)]


@pytest.mark.parametrize(
    ("arrived", "missing"),
    [
        ([5, 7, 6], []),
        ([5, 7, 6, 8], []),
        ([5, 8, 6, 7, 9], []),
        ([2, 4, 1, 3, 5], []),
        ([5, 9, 7, 10], [(8, 8), (6, 6)]),  # 9 was seen before 7
        ([5, 6, 7, 6, 8], []),
        ([5, 6, 5, 7, 7, 8], []),
        ([*range(1, 50), *range(51, 100), 50, 100, 101], []),  # later than anything should be
        ([*LONG, 1, 2, 3], []),
        ([*LONG, 1], []),
        ([*LONG, 2, 4, 1, 3], []),
        ([*LONG, 47_000, 47_001], []),
        ([*LONG, 1, 2, 5, 4, 7], [(3, 3), (6, 6)]),
        ([*range(1, 31), 1, 2, 5], [(3, 4)]),
        ([*LONG, 48_040, 1, 2, 3], [(48_030, 48_039)]),
    ],
)
def test_a_late_row_a_repeated_one_and_a_new_connection_are_no_gap(
    pg: psycopg.Connection, arrived: list[int], missing: list[tuple[int, int]]
) -> None:
    rows = [quote(at=NOON + at * SECOND, sequence=sequence, source="websocket") for at, sequence in enumerate(arrived)]
    market_data.upsert_price_snapshots(pg, rows)
    assert gaps(pg) == [("price_snapshots", rows[0].market_ticker, first, last) for first, last in missing]
    pg.execute("TRUNCATE market_data.price_snapshots")

    # The same of one subscription over two markets, whose books come whole at first.
    (first, *others) = enumerate(arrived)
    market_data.upsert_orderbook_snapshots(pg, [book(at=NOON, sid=3, sequence=first[1], source="websocket")])
    tickers = [rows[0].market_ticker, "KX-O"]
    deltas = [delta(tickers[at % 2], at=NOON + at * SECOND, sequence=sequence, sid=3) for at, sequence in others]
    market_data.insert_orderbook_deltas(pg, deltas)
    assert gaps(pg) == [("orderbook", "3", first, last) for first, last in missing]


def test_two_quotes_of_one_moment_are_in_order_of_their_sequence(pg: psycopg.Connection) -> None:
    rows = [quote(source=source, sequence=sequence) for source, sequence in [("websocket", 1), ("backfill", 2)]]
    market_data.upsert_price_snapshots(pg, rows)
    assert gaps(pg) == []


def test_trades_of_unknown_markets_are_shown_by_contracts(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(pg, [market("KX-KNOWN")])
    market_data.insert_public_trades(
        pg,
        [
            trade(1, "KX-SMALL"),
            trade(2, "KX-BIG", count=Decimal("7.25")),
            trade(3, "KX-BIG", at=NOON + 40 * DAY, count=Decimal("0.01")),
            trade(4, "KX-KNOWN"),
        ],
    )
    rows = market_data.orphan_trades(pg)
    assert [(row.market_ticker, row.trades, row.contracts) for row in rows] == [
        ("KX-BIG", 2, Decimal("7.26")),
        ("KX-SMALL", 1, 1),
    ]
    assert (rows[0].first_trade_time, rows[0].last_trade_time) == (NOON, NOON + 40 * DAY)


def test_the_store_counts_what_it_holds(pg: psycopg.Connection) -> None:
    catalog.upsert_markets(
        pg, [market("E1-1", series_ticker="S", volume=Decimal(3)), market("E1-2", series_ticker="S", status="closed")]
    )
    market_data.insert_public_trades(pg, [trade(1), trade(2, at=NOON + DAY)])
    parts = {row.part: (row.rows, row.earliest, row.latest) for row in ops.store_counts(pg)}
    assert parts["public trades"] == (2, NOON, NOON + DAY)
    assert (parts["markets"][0], parts["events"][0], parts["series"][0], parts["candlesticks"]) == (2, 1, 1, (0, None, None))
    (row,) = ops.catalogue_by_series(pg, how_many=5)
    assert (row.series_ticker, row.events, row.markets, row.open_markets, row.contracts) == ("S", 1, 2, 1, 13)


def test_a_trade_whose_prices_do_not_sum_to_a_dollar_is_refused(pg: psycopg.Connection) -> None:
    wrong = trade(1).model_copy(update={"no_price": Decimal("0.7"), "trade_id": UUID(int=1)})
    with pytest.raises(psycopg.errors.CheckViolation, match="public_trades_yes_price_no_price_check"):
        market_data.insert_public_trades(pg, [wrong])
