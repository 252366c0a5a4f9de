"""A month on the exchange of some size, the same at every run: what analyses are computed from, as rows and as plain Python.

Awkward on purpose: outcomes yes, no, scalar, void, amended and none; fractions of contracts and of cents; trades without a known taker,
in unknown markets and at the very edges of bins; series with every fee rule.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import psycopg
from sample_rows import DAY, HOUR, event, market, series, trade

from kalshidb.models.catalog import EventInput, MarketInput, SeriesInput, SettlementInput
from kalshidb.models.market_data import PublicTrade
from kalshidb.queries import catalog, market_data

BEGIN = datetime(2026, 6, 20, tzinfo=UTC)
END = datetime(2026, 7, 20, tzinfo=UTC)
CLOSE = datetime(2026, 7, 15, 20, tzinfo=UTC)
CATEGORIES = {"KXRAIN": "Climate", "KXCUP": "Sports", "KXODD": None}
FEES = {"KXRAIN": ("quadratic", Decimal(1)), "KXCUP": ("quadratic_with_maker_fees", Decimal("0.5")), "KXODD": ("flat", None)}
TICKS = [Decimal(0), Decimal(1), Decimal("0.05"), Decimal("0.95"), Decimal("0.049999"), Decimal("0.000001")]


@dataclass
class Month:
    """The rows, and what each market paid a YES contract: None where it was void or is not settled."""

    series: list[SeriesInput] = field(default_factory=list)
    events: list[EventInput] = field(default_factory=list)
    markets: list[MarketInput] = field(default_factory=list)
    settlements: list[SettlementInput] = field(default_factory=list)
    trades: list[PublicTrade] = field(default_factory=list)
    paid: dict[str, Fraction] = field(default_factory=dict)
    settled_at: dict[str, datetime] = field(default_factory=dict)

    def store(self, conn: psycopg.Connection) -> None:
        catalog.upsert_series(conn, self.series)
        catalog.upsert_events(conn, self.events)
        catalog.upsert_markets(conn, self.markets)
        catalog.insert_settlements(conn, self.settlements)
        market_data.insert_public_trades(conn, self.trades)

    def category(self, ticker: str) -> str | None:
        return CATEGORIES.get(ticker.partition("-")[0])


def settlement(ticker: str, at: datetime, outcome: str, yes: str | None = None) -> SettlementInput:
    paid = None if yes is None else Decimal(yes)
    return SettlementInput(
        market_ticker=ticker, settled_at=at, platform_id="kalshi", outcome=outcome, yes_payout=paid,
        no_payout=None if paid is None else 1 - paid, retrieved_at=at,
    )  # fmt: skip


def month(seed: int = 11, trades: int = 4000) -> Month:
    """Return the month of a seed."""
    chance = random.Random(seed)  # noqa: S311
    made = Month()
    tickers: list[str] = []
    for name, category in CATEGORIES.items():
        fee_type, multiplier = FEES[name]
        made.series.append(series(name, category=category, fee_type=fee_type, fee_multiplier=multiplier))
        for number in range(4):
            made.events.append(event(f"{name}-{number}", series_ticker=name, category=category))
            for strike in range(4):
                ticker = f"{name}-{number}-T{strike}"
                tickers.append(ticker)
                close = CLOSE + timedelta(hours=number, minutes=strike)
                made.markets.append(market(ticker, close_time=close, status="active" if number == 3 else "finalized"))
                if number == 3:
                    continue  # still open
                at = close + 3 * HOUR
                made.settled_at[ticker] = at
                match strike:
                    case 0:
                        made.settlements.append(settlement(ticker, at, "yes", "1"))
                        made.paid[ticker] = Fraction(1)
                    case 1:
                        made.settlements.append(settlement(ticker, at, "no"))  # the payout was not told, the word says it
                        made.paid[ticker] = Fraction(0)
                    case 2:
                        made.settlements.append(settlement(ticker, at, "scalar", "0.37"))
                        made.paid[ticker] = Fraction(37, 100)
                    case _ if number == 0:
                        made.settlements.append(settlement(ticker, at, "void"))
                    case _:
                        made.settlements += [settlement(ticker, at, "yes", "1"), settlement(ticker, at + DAY, "no", "0")]
                        made.paid[ticker] = Fraction(0)
                        made.settled_at[ticker] = at + DAY
    span = int((CLOSE - BEGIN) / timedelta(microseconds=1))
    for number in range(trades):
        price = chance.choice(TICKS) if chance.random() < 0.1 else Decimal(chance.randrange(1, 1000)) / 1000
        made.trades.append(
            trade(
                number,
                chance.choice([*tickers, "KXUNKNOWN-1"]),
                BEGIN + timedelta(microseconds=chance.randrange(span)),
                yes_price=price,
                count=Decimal(chance.randrange(1, 20_000)) / 100,
                taker_side=chance.choice(["yes", "no", "yes", "no", "yes", "no", None]),
            )
        )
    return made


def rounded(value: Fraction, places: int = 6) -> Decimal:
    """Return an exact fraction as PostgreSQL casts one to numeric(p, places): half away from zero."""
    scaled = abs(value) * 10**places
    whole = int(scaled + Fraction(1, 2))
    return (Decimal(whole if value >= 0 else -whole) / 10**places).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def share(values: Iterable[Fraction], weights: Iterable[Fraction]) -> Fraction | None:
    """Return a weighted mean, None without weight."""
    pairs = list(zip(values, weights, strict=True))
    total = sum((weight for _, weight in pairs), Fraction(0))
    return sum((value * weight for value, weight in pairs), Fraction(0)) / total if total else None
