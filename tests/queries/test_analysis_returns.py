"""Calibration, bias, returns, profit after fees and volume agree with exact fractions over the same rows."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg
import pytest
from generated_rows import BEGIN, CATEGORIES, CLOSE, END, FEES, Month, month, rounded, settlement, share
from sample_rows import DAY, HOUR, NOON, market, series, trade

from kalshidb.models.market_data import PublicTrade
from kalshidb.queries import catalog, market_data

WIDTH = Decimal("0.05")


@pytest.fixture(scope="module")
def stored(postgresql_noproc: Any) -> Iterator[tuple[psycopg.Connection, Month]]:  # noqa: ANN401
    """A database of the module's own with the generated month, read only."""
    from pytest_postgresql.janitor import DatabaseJanitor

    server = postgresql_noproc
    janitor = DatabaseJanitor(
        user=server.user,
        host=server.host,
        port=server.port,
        dbname=f"{server.dbname}_returns",
        template_dbname=server.template_dbname,
    )
    with janitor, psycopg.connect(host=server.host, user=server.user, dbname=janitor.dbname, autocommit=True) as conn:
        conn.execute("SET timezone = 'Asia/Kolkata'")  # half an hour off: hours and days must be UTC's all the same
        rows = month()
        rows.store(conn)
        yield conn, rows


def bin_of(price: Fraction) -> Fraction:
    return min(int(price / Fraction(WIDTH)), 19) * Fraction(WIDTH)


def within(rows: Month, start: Any = BEGIN, end: Any = END) -> list[PublicTrade]:  # noqa: ANN401
    return [row for row in rows.trades if start <= row.created_time < end and row.market_ticker in rows.paid]


@pytest.mark.parametrize(("start", "end"), [(BEGIN, END), (BEGIN + 3 * DAY, BEGIN + 15 * DAY)])
def test_calibration_of_a_window_agrees_by_trade_and_by_contract(
    stored: tuple[psycopg.Connection, Month], start: Any, end: Any  # noqa: ANN401
) -> None:  # fmt: skip
    conn, rows = stored
    bins: dict[Fraction, list[PublicTrade]] = defaultdict(list)
    for row in within(rows, start, end):
        bins[bin_of(Fraction(row.yes_price))].append(row)
    expected = [
        (
            rounded(low), len(members),
            rounded(sum((Fraction(row.yes_price) for row in members), Fraction(0)) / len(members)),
            rounded(sum((rows.paid[row.market_ticker] for row in members), Fraction(0)) / len(members)),
            sum(row.count for row in members),
            rounded(share((Fraction(row.yes_price) for row in members), (Fraction(row.count) for row in members)) or Fraction(0)),
            rounded(share((rows.paid[row.market_ticker] for row in members), (Fraction(row.count) for row in members)) or Fraction(0)),
        )
        for low, members in sorted(bins.items())
    ]  # fmt: skip
    found = market_data.calibration(conn, bin_width=WIDTH, start_time=start, end_time=end)
    assert [tuple(row.model_dump().values()) for row in found] == expected
    assert len(expected) == 20


@pytest.mark.parametrize("before", [timedelta(0), HOUR, 36 * HOUR, 5 * DAY])
def test_calibration_before_the_close_gives_each_market_one_voice(
    stored: tuple[psycopg.Connection, Month], before: timedelta
) -> None:
    conn, rows = stored
    max_age = 2 * DAY
    bins: dict[Fraction, list[tuple[Fraction, Fraction]]] = defaultdict(list)
    for row in rows.markets:
        assert row.close_time is not None
        moment = row.close_time - before
        seen = [
            trade for trade in rows.trades
            if trade.market_ticker == row.market_ticker and moment - max_age <= trade.created_time <= moment
        ]  # fmt: skip
        if row.market_ticker in rows.paid and seen and CLOSE <= rows.settled_at[row.market_ticker] < END:
            last = max(seen, key=lambda trade: (trade.created_time, trade.trade_id.int))
            bins[bin_of(Fraction(last.yes_price))].append((Fraction(last.yes_price), rows.paid[row.market_ticker]))
    expected = [
        (
            rounded(low), len(members),
            *(
                rounded(sum(values, Fraction(0)) / len(members))
                for values in (
                    [price for price, _ in members], [paid for _, paid in members], [(price - paid) ** 2 for price, paid in members],
                )
            ),
        )
        for low, members in sorted(bins.items())
    ]  # fmt: skip
    found = market_data.calibration_before_close(
        conn, bin_width=WIDTH, before_close=before, max_age=max_age, settled_from=CLOSE, settled_to=END
    )
    assert [tuple(row.model_dump().values()) for row in found] == expected
    assert sum(row.markets for row in found) > 20


def test_an_amended_outcome_belongs_to_the_window_of_its_amendment(stored: tuple[psycopg.Connection, Month]) -> None:
    conn, rows = stored
    first_day = {"settled_from": CLOSE, "settled_to": CLOSE + 20 * HOUR}
    found = market_data.calibration_before_close(conn, bin_width=Decimal(1), before_close=HOUR, max_age=30 * DAY, **first_day)
    amended = [ticker for ticker, at in rows.settled_at.items() if at >= CLOSE + 20 * HOUR]
    assert len(amended) == 6
    assert found[0].markets == len(rows.paid) - len(amended)


def fee(ticker: str, price: Fraction, *, is_taker: bool) -> Fraction:
    """The venue's rule without rounding, of one contract."""
    rule, multiplier = FEES[ticker.partition("-")[0]]
    base = Fraction(7, 100) * Fraction(1 if multiplier is None else multiplier) * price * (1 - price)
    return base if is_taker else base / 4 if rule == "quadratic_with_maker_fees" else Fraction(0)


def buyers(rows: Month) -> Iterator[tuple[PublicTrade, bool, Fraction, Fraction, Fraction]]:
    """Yield each buyer of each trade: whether it is the taker, what it paid a contract, what it got, its fee."""
    for row in within(rows):
        if row.taker_side is None:
            continue
        price, paid = Fraction(row.yes_price), rows.paid[row.market_ticker]
        for is_taker in (True, False):
            on_yes = (row.taker_side == "yes") == is_taker
            cost = price if on_yes else 1 - price
            yield row, is_taker, cost, paid if on_yes else 1 - paid, fee(row.market_ticker, cost, is_taker=is_taker)


def test_favourite_longshot_bias_agrees_before_and_after_fees(stored: tuple[psycopg.Connection, Month]) -> None:
    conn, rows = stored
    bins: dict[Fraction, list[tuple[Fraction, Fraction, Fraction, Fraction]]] = defaultdict(list)
    for row, _, cost, paid, fees in buyers(rows):
        bins[bin_of(cost)].append((Fraction(row.count), cost, paid, fees))

    expected = []
    for low, members in sorted(bins.items()):
        contracts = sum((n for n, *_ in members), Fraction(0))
        cost, paid, fees = (sum((member[0] * member[at] for member in members), Fraction(0)) for at in (1, 2, 3))
        expected.append(
            (
                rounded(low),
                len(members),
                rounded(contracts, 2),
                rounded(cost / contracts),
                rounded(paid / contracts),
                rounded(cost),
                rounded(paid),
                rounded(fees),
                rounded((paid - cost) / cost),
                rounded((paid - cost - fees) / (cost + fees)),
            )
        )
    found = market_data.favourite_longshot(conn, bin_width=WIDTH, start_time=BEGIN, end_time=END)
    assert [tuple(row.model_dump().values()) for row in found] == expected
    assert len(expected) == 20


def test_makers_against_takers_agree_by_category_and_utc_hour(stored: tuple[psycopg.Connection, Month]) -> None:
    conn, rows = stored
    groups: dict[tuple[str | None, int], list[tuple[Fraction, bool, Fraction, Fraction, Fraction]]] = defaultdict(list)
    for row, is_taker, cost, paid, fees in buyers(rows):
        groups[rows.category(row.market_ticker), row.created_time.hour].append((Fraction(row.count), is_taker, cost, paid, fees))
    expected = []
    for (category, hour), members in sorted(groups.items(), key=lambda item: (item[0][0] is None, item[0])):
        line: list[object] = [
            category,
            hour,
            len(members) // 2,
            rounded(sum((n for n, is_taker, *_ in members if is_taker), Fraction(0)), 2),
        ]
        for who in (True, False):
            of = [member for member in members if member[1] == who]
            cost, paid, fees = (sum((member[0] * member[at] for member in of), Fraction(0)) for at in (2, 3, 4))
            line += [rounded(cost), rounded(paid), rounded(fees), rounded((paid - cost) / cost)]
        expected.append(tuple(line))
    found = market_data.maker_taker_returns(conn, start_time=BEGIN, end_time=END)
    assert [tuple(row.model_dump().values()) for row in found] == expected
    assert len(expected) == 3 * 24


def test_volume_by_category_and_utc_day_agrees(stored: tuple[psycopg.Connection, Month]) -> None:
    conn, rows = stored
    groups: dict[Any, list[PublicTrade]] = defaultdict(list)
    for row in rows.trades:
        groups[row.created_time.date(), rows.category(row.market_ticker)].append(row)

    def taker_dollars(row: PublicTrade) -> Fraction:
        price = {"yes": row.yes_price, "no": row.no_price, None: 0}[row.taker_side]
        return Fraction(row.count) * Fraction(price)

    expected = [
        (
            day, category, len(members), sum(row.count for row in members),
            rounded(sum(map(taker_dollars, members), Fraction(0))),
        )
        for (day, category), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] is None, item[0][1]))
    ]  # fmt: skip
    found = market_data.volume_by_category_and_day(conn, start_time=BEGIN, end_time=END)
    assert [tuple(row.model_dump().values()) for row in found] == expected
    assert sum(row.trades for row in found) == len(rows.trades)
    assert {category for _, category, *_ in expected} == set(CATEGORIES.values())


def test_vwap_agrees_for_one_market_for_many_and_by_interval(stored: tuple[psycopg.Connection, Month]) -> None:
    conn, rows = stored
    tickers = [row.market_ticker for row in rows.markets]
    window = {"start_time": BEGIN + DAY, "end_time": BEGIN + 20 * DAY}

    def expected(members: list[PublicTrade]) -> tuple[object, ...]:
        mean = share((Fraction(row.yes_price) for row in members), (Fraction(row.count) for row in members))
        return len(members), sum(row.count for row in members), None if mean is None else rounded(mean)

    def of(ticker: str) -> list[PublicTrade]:
        return [
            row for row in rows.trades
            if row.market_ticker == ticker and window["start_time"] <= row.created_time < window["end_time"]
        ]  # fmt: skip

    many = {
        row.market_ticker: tuple(row.model_dump().values())[1:]
        for row in market_data.vwap_of_markets(conn, market_tickers=tickers, **window)
    }
    assert many == {ticker: expected(of(ticker)) for ticker in tickers}
    for ticker in [*tickers[:5], "KX-NONE"]:
        one = market_data.vwap(conn, market_ticker=ticker, **window)
        assert tuple(one.model_dump().values()) == expected(of(ticker))

    width = 7 * HOUR
    intervals: dict[Any, list[PublicTrade]] = defaultdict(list)
    for row in of(tickers[0]):
        intervals[window["start_time"] + (row.created_time - window["start_time"]) // width * width].append(row)
    found = market_data.vwap_by_interval(conn, market_ticker=tickers[0], width=width, **window)
    assert [tuple(row.model_dump().values()) for row in found] == [
        (at, *expected(members), min(row.yes_price for row in members), max(row.yes_price for row in members))
        for at, members in sorted(intervals.items())
    ]
    assert len(found) > 10


# Contracts, price, what was charged: settlements of one account, recorded in August 2026, by series of multiplier 1 and 0.5.
CHARGED = [
    ("10", "0.04", "0.0269"), ("10", "0.01", "0.0070"), ("20", "0.13", "0.1584"), ("20", "0.33", "0.3096"), ("15", "0.74", "0.2021"),
    ("3", "0.52", "0.0525"), ("5", "0.24", "0.0639"), ("20", "0.15", "0.1785"), ("1", "0.28", "0.0142"),
]  # fmt: skip
CHARGED_HALF = [("1", "0.51", "0.0088"), ("1", "0.27", "0.0069"), ("21", "0.13", "0.0832"), ("11.27", "0.27", "0.0778")]


def test_fees_are_those_that_the_exchange_charged(pg: psycopg.Connection) -> None:
    catalog.upsert_series(
        pg,
        [
            series("KXFULL", fee_type="quadratic", fee_multiplier=Decimal(1)),
            series("KXHALF", fee_type="quadratic", fee_multiplier=Decimal("0.5")),
        ],
    )
    catalog.upsert_markets(pg, [market("KXFULL-1-A", series_ticker="KXFULL"), market("KXHALF-1-A", series_ticker="KXHALF")])
    orders = [("KXFULL-1-A", *row) for row in CHARGED] + [("KXHALF-1-A", *row) for row in CHARGED_HALF]
    found = market_data.order_pnl(
        pg, market_tickers=[ticker for ticker, *_ in orders], sides=["yes"] * len(orders),
        prices=[Decimal(price) for _, _, price, _ in orders], quantities=[Decimal(count) for _, count, *_ in orders],
        are_takers=[True] * len(orders), fee_step=Decimal("0.0001"),
    )  # fmt: skip
    assert [row.fee for row in found] == [Decimal(charged) for *_, charged in orders]


def test_profit_of_orders_is_after_fees_and_unknown_where_something_is(pg: psycopg.Connection) -> None:
    catalog.upsert_series(
        pg,
        [
            series("KXQ", fee_type="quadratic", fee_multiplier=Decimal(1)),
            series("KXM", fee_type="quadratic_with_maker_fees", fee_multiplier=Decimal(1)),
            series("KXF", fee_type="flat", fee_multiplier=Decimal(1)),
        ],
    )
    markets = ["KXQ-1-Y", "KXQ-1-S", "KXQ-1-V", "KXQ-1-O", "KXM-1-N", "KXF-1-Y"]
    catalog.upsert_markets(pg, [market(ticker, series_ticker=ticker.partition("-")[0]) for ticker in markets])
    catalog.insert_settlements(
        pg,
        [
            settlement("KXQ-1-Y", NOON, "yes", "1"), settlement("KXQ-1-S", NOON, "scalar", "0.25"), settlement("KXQ-1-V", NOON, "void"),
            settlement("KXM-1-N", NOON, "no", "0"), settlement("KXF-1-Y", NOON, "yes", "1"),
        ],
    )  # fmt: skip
    orders = [
        # market, side, price, contracts, taker; cost, fee, paid out, profit
        ("KXQ-1-Y", "yes", "0.50", "10", True, "5", "0.18", "10", "4.82"),  # 0.175 is rounded up to the cent
        ("KXQ-1-Y", "no", "0.50", "10", True, "5", "0.18", "0", "-5.18"),
        ("KXQ-1-Y", "yes", "0.50", "10", False, "5", "0", "10", "5"),
        ("KXQ-1-S", "no", "0.60", "100", True, "60", "1.68", "75", "13.32"),
        ("KXM-1-N", "no", "0.90", "7", False, "6.3", "0.02", "7", "0.68"),  # a quarter of 0.0441 is 0.011025
        ("KXQ-1-V", "yes", "0.50", "10", True, "5", "0.18", None, None),
        ("KXQ-1-O", "yes", "0.50", "10", True, "5", "0.18", None, None),
        ("KXF-1-Y", "yes", "0.50", "10", True, "5", None, "10", None),
        ("KXNOWHERE", "yes", "0.50", "10", True, "5", None, None, None),
    ]
    found = market_data.order_pnl(
        pg, market_tickers=[o[0] for o in orders], sides=[o[1] for o in orders], prices=[Decimal(o[2]) for o in orders],
        quantities=[Decimal(o[3]) for o in orders], are_takers=[o[4] for o in orders], fee_step=Decimal("0.01"),
    )  # fmt: skip
    numbers = [[None if value is None else Decimal(value) for value in o[5:]] for o in orders]
    assert [[row.cost, row.fee, row.paid_out, row.pnl] for row in found] == numbers
    assert [row.position for row in found] == list(range(1, len(orders) + 1))


@pytest.mark.parametrize(("side", "price"), [("maybe", "0.5"), ("yes", "1.01")])
def test_an_order_that_cannot_be_is_refused(pg: psycopg.Connection, side: str, price: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        market_data.order_pnl(
            pg, market_tickers=["KX"], sides=[side], prices=[Decimal(price)], quantities=[Decimal(1)], are_takers=[True],
            fee_step=Decimal("0.01"),
        )  # fmt: skip


def test_nothing_is_said_of_nothing(pg: psycopg.Connection) -> None:
    window = {"start_time": BEGIN, "end_time": END}
    assert market_data.favourite_longshot(pg, bin_width=WIDTH, **window) == []
    assert market_data.maker_taker_returns(pg, **window) == []
    assert market_data.volume_by_category_and_day(pg, **window) == []
    empty = market_data.vwap(pg, market_ticker="KX", **window)
    assert (empty.trades, empty.contracts, empty.vwap) == (0, 0, None)
    market_data.insert_public_trades(pg, [trade(1, count=Decimal(0))])
    assert market_data.vwap(pg, market_ticker="KXHIGHNY-26JUL19-T80", **window).vwap is None
