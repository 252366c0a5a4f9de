"""The rows of the benchmark: the same for every run, every alternative and every machine.

Hourly candlesticks as the exchange gives them: prices on a grid of one cent, quotes on both sides, no trade in a third of the hours.
"""

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from kalshidb.models.catalog import MarketInput
from kalshidb.models.market_data import Candlestick

Row = tuple[Any, ...]

COLUMNS = tuple(Candlestick.model_fields)
KEY = ("market_ticker", "end_period_ts", "period_interval_minutes")

PERIOD_MINUTES = 60
CANDLES_A_MARKET = 500
BEGIN = datetime(2025, 3, 20, tzinfo=UTC)  # 500 hours from here end in the next month: two partitions
END = BEGIN + timedelta(hours=CANDLES_A_MARKET + 1)

PRICES = frozenset(name for name in COLUMNS if name.startswith(("yes_", "price_")))
CONTRACTS = frozenset({"volume", "open_interest"})

_CENTS = [f"0.{cents:02}0000" for cents in range(100)] + ["1.000000"]
_ENDS = [BEGIN + timedelta(hours=hour) for hour in range(1, CANDLES_A_MARKET + 1)]


def market_ticker(number: int) -> str:
    """Return the ticker of one of the markets."""
    return f"KXHIGHNY-25APR10-B{number}.5"


def markets(candles: int) -> list[MarketInput]:
    """Return the markets that so many candlesticks belong to."""
    return [
        MarketInput(
            market_ticker=market_ticker(number),
            platform_id="kalshi",
            event_ticker="KXHIGHNY-25APR10",
            series_ticker="KXHIGHNY",
            external_id=market_ticker(number),
            market_type="binary",
            title="Will the high temp in New York be between two whole degrees on Apr 10, 2025?",
            yes_sub_title=f"{number}° to {number + 1}°",
            no_sub_title=f"{number}° to {number + 1}°",
            category="Climate and Weather",
            strike_type="between",
            floor_strike=Decimal(number),
            cap_strike=Decimal(number + 1),
            open_time=BEGIN,
            close_time=END,
            expiration_time=END,
            status="active",
            last_price=Decimal("0.430000"),
            volume=Decimal("1234.00"),
            open_interest=Decimal("567.00"),
            retrieved_at=END,
        )
        for number in range(-(-candles // CANDLES_A_MARKET))
    ]


def candle_tuples(count: int) -> Iterator[Row]:
    """Yield candlesticks as tuples in the order of the model's fields, market after market, oldest first."""
    chance = random.Random(20250320)  # noqa: S311  (the same rows every time)
    draw = chance.getrandbits

    def price(cents: int) -> Decimal:
        return Decimal(_CENTS[cents])  # a new object each time, as from a decoded answer

    previous: int | None = None
    for number in range(count):
        hour = number % CANDLES_A_MARKET
        if hour == 0:
            ticker, previous = market_ticker(number // CANDLES_A_MARKET), None
        low = 1 + draw(6)  # 1 to 64
        high, spread = low + draw(4), 1 + draw(3)
        opened, closed = low + (high - low) // 3, high - (high - low) // 4
        traded = hour % 3 != 1
        trades = (opened, high, low, closed, (low + high) // 2) if traded else (None,) * 5
        yield (
            ticker,
            _ENDS[hour],
            PERIOD_MINUTES,
            *map(price, (opened, high, low, closed)),
            *map(price, (opened + spread, high + spread, low + spread, closed + spread)),
            *(None if cents is None else price(cents) for cents in trades),
            None if previous is None else price(previous),
            Decimal(f"{draw(12)}.00") if traded else Decimal("0.00"),
            Decimal(f"{draw(14)}.00"),
            END,
            None,
        )
        previous = closed if traded else previous


def arrow_types() -> dict[str, Any]:
    """Return the Arrow type of each column: exact decimals, UTC times, tickers each stored once."""
    import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415  (optional)

    moment = pa.timestamp("us", tz="UTC")
    others = {
        "market_ticker": pa.dictionary(pa.int32(), pa.string()),
        "end_period_ts": moment,
        "period_interval_minutes": pa.int16(),
        "retrieved_at": moment,
        "raw_json": pa.string(),
    }
    return others | dict.fromkeys(PRICES, pa.decimal128(7, 6)) | dict.fromkeys(CONTRACTS, pa.decimal128(18, 2))


@dataclass(frozen=True)
class Batch:
    """The same rows in the form that each alternative takes, ready-made, so that only writing is measured."""

    size: int

    def prepare(self) -> "Batch":
        """Make all forms now."""
        _ = self.tuples, self.dicts, self.models, self.csv_with_header
        return self

    @cached_property
    def tuples(self) -> list[Row]:
        """In the order of the columns."""
        return list(candle_tuples(self.size))

    @cached_property
    def dicts(self) -> list[dict[str, Any]]:
        """By the names of the columns."""
        return [dict(zip(COLUMNS, row, strict=True)) for row in self.tuples]

    @cached_property
    def models(self) -> list[Candlestick]:
        """Validated."""
        return [Candlestick.model_validate(row) for row in self.dicts]

    @cached_property
    def csv(self) -> bytes:
        """As COPY ... (FORMAT csv) takes it, without a header."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.tuples)
        return text.getvalue().encode()

    @cached_property
    def csv_with_header(self) -> bytes:
        """As the bulk upsert takes it."""
        return ",".join(COLUMNS).encode() + b"\n" + self.csv

    @cached_property
    def arrow(self) -> Any:  # noqa: ANN401  (pyarrow may be missing)
        """As an Arrow table."""
        import pyarrow as pa  # noqa: PLC0415  (optional)

        types = arrow_types()
        return pa.Table.from_pylist(self.dicts, schema=pa.schema([(name, types[name]) for name in COLUMNS]))
