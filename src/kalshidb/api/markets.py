"""A market as the exchange tells it in short, and as an application answers with it."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AliasChoices, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kalshidb.exchange import scalars
from kalshidb.models.catalog import CurrentMarket
from kalshidb.models.domains import Contracts, Price, Ticker
from kalshidb.models.market_data import PriceSnapshot

# Spellings of one value, the most exact first: today's, the one until 2026-03-12 (integer cents), and ours.
_YES = ("yes_bid_dollars", "yes_bid", "yes_price")
_NO = ("no_bid_dollars", "no_bid", "no_price")
_VOLUME = ("volume_fp", "volume")
_OPEN_INTEREST = ("open_interest_fp", "open_interest")
_CENT, _CONTRACT = Decimal("0.01"), Decimal(1)  # what rounding in the older spelling explains


def _time(value: object) -> object:
    """Read times as the exchange writes them: RFC 3339 text, epoch seconds; its zero time means missing."""
    return value if isinstance(value, datetime) else scalars.time(value)


class KalshiMarket(BaseModel):
    """What an answer of GET /markets says of one market, as far as a strategy that watches prices needs it (seed S1).

    Takes `yes_bid` as well as `yes_price`, and today's `yes_bid_dollars`; of several the most exact counts, and the others must agree
    with it but for rounding. A price is dollars from 0 to 1; an integer under a name without `_dollars` is cents, as it was on the wire
    until March 2026. The status is the exchange's word, whatever it is: it adds words (today active, closed, determined, finalized
    …), and one that is new must not stop anybody. Fields that are not here are ignored; kalshidb.exchange reads them all.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    ticker: Annotated[Ticker, Field(validation_alias=AliasChoices("ticker", "market_ticker"))]
    """The market."""
    title: str
    """The question for people."""
    category: str | None = None
    """The exchange's category; None since it left the payload of markets in January 2026 (events and series have it)."""
    yes_price: Annotated[Price, BeforeValidator(scalars.price), Field(validation_alias=AliasChoices(*_YES))]
    """Best bid for YES, dollars; 0 when nobody bids."""
    no_price: Annotated[Price, BeforeValidator(scalars.price), Field(validation_alias=AliasChoices(*_NO))]
    """Best bid for NO, dollars; 0 when nobody bids."""
    volume: Annotated[Contracts, BeforeValidator(scalars.count), Field(validation_alias=AliasChoices(*_VOLUME))]
    """Contracts traded so far; not always a whole number."""
    open_interest: Annotated[Contracts, BeforeValidator(scalars.count), Field(validation_alias=AliasChoices(*_OPEN_INTEREST))]
    """Contracts outstanding."""
    close_time: Annotated[AwareDatetime, BeforeValidator(_time)]
    """When trading ends."""
    status: Annotated[str, Field(min_length=1)]
    """The exchange's word: active, closed, settled, finalized …"""

    @model_validator(mode="before")
    @classmethod
    def _one_value_of_several_spellings(cls, data: Any) -> Any:  # noqa: ANN401  (whatever the caller gives)
        if not isinstance(data, Mapping):
            return data
        # null says no more than absence, and must not hide the spelling that has the value.
        given = {name: value for name, value in data.items() if value is not None}
        for name in (_YES[0], _NO[0]):
            if type(given.get(name)) is int:
                given[name] = Decimal(given[name])  # dollars, as the name says, and not cents
        for spellings, read, rounding in (
            (_YES, scalars.price, _CENT),
            (_NO, scalars.price, _CENT),
            (_VOLUME, scalars.count, _CONTRACT),
            (_OPEN_INTEREST, scalars.count, _CONTRACT),
        ):
            (first, exact), *others = [(name, _read(read, given[name])) for name in spellings if name in given] or [("", None)]
            for other, rough in others:
                if exact is not None and rough is not None and abs(exact - rough) >= rounding:
                    raise ValueError(f"{first} says {exact} and {other} says {rough}: give one of them, or the same value")
        return given


def _read(read: Any, value: object) -> Decimal | None:  # noqa: ANN401  (a function of scalars)
    """Return a value as the field will read it, or None where the field will refuse it, with a better place for the error."""
    try:
        number: Decimal = read(value)
    except scalars.WireValueError:
        return None
    return number


class MarketResponse(BaseModel):
    """A market as an application answers with it (seed S1). All prices are dollars from 0 to 1.

    `implied_probability` is the price of YES, unless it is given. What is made from a row of the database gives it, by the rule of
    market_data.price_snapshots: the middle of bid and ask where both sides are quoted, else the last trade; the bid alone is a poor
    estimate where the spread is wide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticker: Ticker
    """The market."""
    title: str
    """The question for people; may be empty for combinations."""
    yes_price: Price
    """Best bid for YES, dollars."""
    no_price: Price
    """Best bid for NO, dollars."""
    implied_probability: Annotated[
        Decimal, Field(ge=0, le=1, max_digits=8, decimal_places=7, default_factory=lambda given: given["yes_price"])
    ]
    """Probability of YES that the quotes imply, 0 to 1."""
    volume: Contracts
    """Contracts traded so far."""
    status: str
    """The exchange's word."""
    last_updated: AwareDatetime
    """When the quotes were seen."""

    @classmethod
    def from_market(cls, market: CurrentMarket) -> Self:
        """Make it from a row of catalog.current_markets.

        Raises:
            ValueError: the market was never quoted, or only its ticker is known; names the columns that are null.
        """
        bid, ask = market.yes_bid, market.yes_ask
        return cls._known(
            market.market_ticker,
            title=market.title, yes_bid=bid, no_bid=market.no_bid, volume=market.volume, status=market.status,
            last_updated=market.valid_from,
            # The rule of market_data.price_snapshots.implied_probability: a side that nobody quotes says nothing.
            implied_probability=(bid + ask) / 2 if bid is not None and ask is not None and bid > 0 and ask < 1 else market.last_price,
        )  # fmt: skip

    @classmethod
    def from_snapshot(cls, snapshot: PriceSnapshot, *, title: str | None = None) -> Self:
        """Make it from a row of market_data.price_snapshots.

        Args:
            snapshot: the quote.
            title: the market's, where the snapshot has not kept it.

        Raises:
            ValueError: something was not observed; names the columns that are null.
        """
        return cls._known(
            snapshot.market_ticker,
            title=snapshot.title if title is None else title, yes_bid=snapshot.yes_bid, no_bid=snapshot.no_bid,
            volume=snapshot.volume, status=snapshot.status,
            last_updated=snapshot.seen_again[-1] if snapshot.seen_again else snapshot.snapshot_time,
            implied_probability=snapshot.implied_probability,
        )  # fmt: skip

    @classmethod
    def _known(cls, ticker: str, *, implied_probability: Decimal | None, **columns: object) -> Self:
        if missing := [name for name, value in columns.items() if value is None]:
            raise ValueError(f"{ticker}: {', '.join(missing)} not known; load the market and a quote of it first")
        fields = {"yes_price": columns.pop("yes_bid"), "no_price": columns.pop("no_bid"), **columns}
        if implied_probability is not None:
            fields["implied_probability"] = implied_probability
        return cls.model_validate({"ticker": ticker, **fields})
