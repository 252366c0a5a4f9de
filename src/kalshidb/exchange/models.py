"""The exchange's objects, read from the wire of every era into one form.

A model is made from a payload as the exchange sent it, `Market.model_validate(payload)`, and offers what the payload
means: prices as exact dollars between 0 and 1, counts as contracts with two decimals, times as aware UTC, under the
names of the database's columns. An attribute is None when the payload does not say; absent and null are the same.
Fields that no attribute stands for are kept in `raw_json`, which is the payload itself, so a new field loses nothing.
Words of the exchange (status, result, strike_type …) pass as they come. What cannot be true (a price of 1.5, half a
surrogate pair, two forms of one price that differ) is refused, and the `ValidationError` says which field of the wire:
`errors_of` turns it into rows for the dead letters.

Eras: integer cents until 2026-03-12, `_dollars` and `_fp` strings since, dollar strings under plain names in the
historical tier; the JSON type decides (an integer price is cents). Where several forms stand side by side the most
exact is taken, and the others must agree with it to within a cent or a contract, which is what their rounding explains.

What a payload leaves out because the request said it comes as validation context: `market_ticker`, `series_ticker`,
`category`, `period_interval_minutes`. The payload's own word always wins.

Which object a document holds is the business of `recognise`. Source of all names: docs.kalshi.com, OpenAPI 3.20 and
AsyncAPI 2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from kalshidb.exchange import scalars
from kalshidb.exchange.scalars import ONE, Place, WireValueError, shown

Payload: TypeAlias = dict[str, Any]
Side: TypeAlias = Literal["yes", "no"]

# The reading functions have already proved these types; pydantic need not look again.
Exact: TypeAlias = Annotated[Decimal, SkipValidation]
MaybeExact: TypeAlias = Annotated[Decimal | None, SkipValidation]
Time: TypeAlias = Annotated[datetime, SkipValidation]
MaybeTime: TypeAlias = Annotated[datetime | None, SkipValidation]
Text: TypeAlias = Annotated[str, SkipValidation]
MaybeText: TypeAlias = Annotated[str | None, SkipValidation]
MaybeInt: TypeAlias = Annotated[int | None, SkipValidation]
MaybeFlag: TypeAlias = Annotated[bool | None, SkipValidation]
MaybeSide: TypeAlias = Annotated[Side | None, SkipValidation]
Object: TypeAlias = Annotated[dict[str, Any], SkipValidation]
MaybeObject: TypeAlias = Annotated[dict[str, Any] | None, SkipValidation]
Objects: TypeAlias = Annotated[tuple[dict[str, Any], ...], SkipValidation]
MaybeObjects: TypeAlias = Annotated[tuple[dict[str, Any], ...] | None, SkipValidation]
Texts: TypeAlias = Annotated[tuple[str, ...], SkipValidation]
Ladder: TypeAlias = Annotated[tuple[tuple[Decimal, Decimal], ...], SkipValidation]

T = TypeVar("T")
_CENT, _CONTRACT = Decimal("0.01"), Decimal(1)


# Reading


class _Reader:
    """Reads fields of one JSON object and collects every refusal under the name the field has on the wire."""

    __slots__ = ("at", "payload", "problems")

    def __init__(self, payload: Payload, at: Place = (), problems: list[InitErrorDetails] | None = None) -> None:
        self.payload = payload
        self.at = at
        self.problems: list[InitErrorDetails] = [] if problems is None else problems

    def refuse(self, name: str | int | None, value: object, reason: str, hint: str = "") -> None:
        at = self.at if name is None else (*self.at, name)
        self.problems.append(_problem(at, value, reason, hint))

    def take(self, name: str, value: object, read: Callable[[Any], T]) -> T | None:
        try:
            return read(value)
        except WireValueError as refusal:
            self.refuse(name, value, refusal.reason, refusal.hint)
            return None

    def inner(self, name: str) -> _Reader:
        """The object under a name; absent and null read as {}."""
        value = self.payload.get(name)
        if value is not None and not isinstance(value, dict):
            self.refuse(name, value, f"an object was expected, found {shown(value)}")
            value = None
        return _Reader(value or {}, (*self.at, name), self.problems)

    # One field under one name

    def optional(self, name: str, read: Callable[[Any], T]) -> T | None:
        value = self.payload.get(name)
        return None if value is None else self.take(name, value, read)

    def required(self, name: str, read: Callable[[Any], T | None]) -> T | None:
        value = self.payload.get(name)
        if value is None:
            self.refuse(name, None, "is missing")
            return None
        result = self.take(name, value, read)
        if result is None and (not self.problems or self.problems[-1].get("loc") != (*self.at, name)):
            self.refuse(name, value, "is missing")
        return result

    def text(self, name: str) -> str | None:
        """Optional text; '' means that nothing was said."""
        return self.optional(name, scalars.text) or None

    def time(self, name: str) -> datetime | None:
        return self.optional(name, scalars.time)

    def key(self, *names: str, context: object = None, required: bool = True) -> str | None:
        """A ticker under the first of its names that is there; two names that differ are refused; else the
        request's.
        """
        key: str | None = None
        for name in names:
            value = self.payload.get(name)
            if value is None or (not required and value == ""):
                continue
            other = self.take(name, value, scalars.ticker)
            if key is not None and other is not None and other != key:
                self.refuse(name, value, f"{shown(other)} and {shown(key)} are given for the same thing")
            if other is None:
                required = False
            key = key or other
        if key is None and isinstance(context, str):
            return context
        if key is None and required:
            self.refuse(names[0], None, "is missing")
        return key

    def objects(self, name: str) -> tuple[Payload, ...] | None:
        return self.optional(name, _objects)

    # One field in several forms

    def two_forms(
        self,
        exact: str,
        plain: str,
        read: Callable[[Any], Decimal],
        read_plain: Callable[[Any], Decimal],
        rounding: Decimal,
    ) -> Decimal | None:
        """The exact form if it is there, else the plain one; if both are there they agree to within the plain one's
        rounding.
        """
        payload = self.payload
        value = payload.get(exact)
        other = payload.get(plain)
        if value is None:
            return None if other is None else self.take(plain, other, read_plain)
        result = self.take(exact, value, read)
        if other is not None:
            rough = self.take(plain, other, read_plain)
            if result is not None and rough is not None and result != rough and abs(result - rough) >= rounding:
                self.refuse(exact, value, f"{shown(value)} and {plain} {shown(other)} disagree by more than rounding")
        return result

    def price(self, name: str) -> Decimal | None:
        return self.two_forms(name + "_dollars", name, scalars.dollars, scalars.price, _CENT)

    def count(self, name: str) -> Decimal | None:
        return self.two_forms(name + "_fp", name, scalars.count, scalars.count, _CONTRACT)

    def money(self, name: str) -> Decimal | None:
        return self.two_forms(name + "_dollars", name, scalars.money, scalars.money_or_cents, _CENT)

    def taker_side(self) -> str | None:
        """The taker's side from any of its three names, which must agree; '' is unknown."""
        side: str | None = None
        for name in ("taker_outcome_side", "taker_side", "taker_book_side"):
            value = self.payload.get(name)
            if value is None or value == "":
                continue
            other = self.take(name, value, scalars.book_side if name == "taker_book_side" else scalars.outcome_side)
            if side is not None and other is not None and other != side:
                self.refuse(name, value, f"{shown(value)} contradicts the other names of the taker's side")
            side = side or other
        return side

    def finest_time(self, *names: str) -> datetime | None:
        """The finest of several forms of one time: text before milliseconds before seconds, whatever their names."""
        best: datetime | None = None
        rank = 0
        for name in names:
            value = self.payload.get(name)
            if value is None or value == "":
                continue
            form = 3 if isinstance(value, str) else 2 if name.endswith("_ms") else 1
            when = self.take(name, value, scalars.epoch_milliseconds if form == 2 else scalars.moment)
            if when is not None and form > rank:
                best, rank = when, form
        return best


def _problem(at: Place, value: object, reason: str, hint: str = "") -> InitErrorDetails:
    safe = tuple(part if isinstance(part, int) else _printable(part) for part in at)
    return InitErrorDetails(type=PydanticCustomError("wire", "{reason}", {"reason": reason, "hint": hint}), loc=safe, input=value)


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode("ascii")


def _objects(value: object) -> tuple[Payload, ...]:
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise WireValueError(f"a list of objects was expected, found {shown(value)}")
    return tuple(value)


def _object(value: object) -> Payload:
    if not isinstance(value, dict):
        raise WireValueError(f"an object was expected, found {shown(value)}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise WireValueError(f"a list of texts was expected, found {shown(value)}")
    return tuple(value)


def _small_integer(value: object) -> int:
    number = scalars.integer(value)
    if not 0 <= number < 2**31:
        raise WireValueError(f"{number} is not between 0 and 2147483647")
    return number


def _word(value: object) -> str:
    if scalars.text(value) == "":
        raise WireValueError("is empty")
    return scalars.text(value)


class WireModel(BaseModel):
    """What all objects share: immutable, made from a wire payload, and keeping that payload."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    raw_json: Object = Field(repr=False, description="The payload as it came, every field of it. Do not change it.")

    @model_validator(mode="before")
    @classmethod
    def _from_wire(cls, payload: object, info: ValidationInfo) -> object:
        if isinstance(payload, cls):
            return payload
        if not isinstance(payload, dict):
            raise _error(cls, [_problem((), payload, f"an object was expected, found {shown(payload)}")])
        reader = _Reader(payload)
        fields = cls._read(reader, info.context or {})
        seen = {problem.get("loc") for problem in reader.problems}
        for at, value, reason in scalars.unstorable(payload):
            problem = _problem(at, value, reason)
            if problem.get("loc") not in seen:
                reader.problems.append(problem)
        if reader.problems:
            raise _error(cls, reader.problems)
        fields["raw_json"] = payload
        return fields

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_wire(cls, payload: object, **context: str | int | None) -> Self:
        """The object in a payload; keywords say what the request said (market_ticker, series_ticker, category,
        period_interval_minutes).

        Raises pydantic's ValidationError, whose locations are names of the wire.
        """
        return cls.model_validate(payload, context=context)


def _error(cls: type[BaseModel], problems: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data(cls.__name__, problems)


def errors_of(error: ValidationError) -> list[dict[str, Any]]:
    """What was wrong with a payload, one entry a field: {field, value, error, hint}, safe to store as jsonb.

    `field` is the name on the wire (`price.close_dollars`, `yes_dollars[3][0]`), '' for the payload as a whole; `value`
    is shortened, numbers stand as text; `hint` is None when there is nothing to advise.
    """
    entries: list[dict[str, Any]] = []
    for line in error.errors(include_url=False):
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in line["loc"]).lstrip(".")
        value = line.get("input")
        entries.append(
            {
                "field": field,
                "value": value if value is None or isinstance(value, bool) else _short(value),
                "error": line["msg"],
                "hint": line.get("ctx", {}).get("hint") or None,
            }
        )
    return entries


def _short(value: object, limit: int = 200) -> str:
    if isinstance(value, str):
        return (
            value
            if len(value) <= limit and value.isprintable()
            else _printable(value[:limit]) + ("…" if len(value) > limit else "")
        )
    return shown(value, limit)


# Catalogue


class Series(WireModel):
    """A template of events, for example the daily high in New York (GET /series, /series/{series_ticker})."""

    series_ticker: Text
    title: Text
    category: MaybeText = None
    categories: Texts = ()
    frequency: MaybeText = None
    tags: Texts = ()
    fee_type: MaybeText = None
    fee_multiplier: MaybeExact = Field(None, description="Factor on the fee formula, for example 0.5.")
    settlement_sources: MaybeObjects = None
    contract_url: MaybeText = None
    contract_terms_url: MaybeText = None
    additional_prohibitions: Texts = ()
    product_metadata: MaybeObject = None
    volume: MaybeExact = Field(None, description="Contracts traded in all its markets.")
    last_updated_ts: MaybeTime = None
    exchange_index: MaybeInt = None

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "series_ticker": reader.key("ticker", "series_ticker"),
            "title": reader.required("title", scalars.text),
            "category": reader.text("category"),
            "categories": reader.optional("categories", _texts) or (),
            "frequency": reader.text("frequency"),
            "tags": reader.optional("tags", _texts) or (),
            "fee_type": reader.text("fee_type"),
            "fee_multiplier": reader.optional("fee_multiplier", scalars.multiplier),
            "settlement_sources": reader.objects("settlement_sources"),
            "contract_url": reader.text("contract_url"),
            "contract_terms_url": reader.text("contract_terms_url"),
            "additional_prohibitions": reader.optional("additional_prohibitions", _texts) or (),
            "product_metadata": reader.optional("product_metadata", _object),
            "volume": reader.count("volume"),
            "last_updated_ts": reader.time("last_updated_ts"),
            "exchange_index": reader.optional("exchange_index", _small_integer),
        }


class Event(WireModel):
    """One occasion with its markets (GET /events, /events/{event_ticker}).

    `markets` holds nested markets as they came, unread: one bad market must not take its event down. Read each with
    `Market`.
    """

    event_ticker: Text
    series_ticker: Text
    title: Text
    sub_title: MaybeText = None
    category: MaybeText = None
    strike_date: MaybeTime = None
    strike_period: MaybeText = None
    mutually_exclusive: MaybeFlag = None
    collateral_return_type: MaybeText = None
    available_on_brokers: MaybeFlag = None
    fee_type_override: MaybeText = None
    fee_multiplier_override: MaybeExact = None
    settlement_sources: MaybeObjects = None
    product_metadata: MaybeObject = None
    last_updated_ts: MaybeTime = None
    exchange_index: MaybeInt = None
    markets: Objects = ()

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        markets = reader.payload.get("markets")
        if markets is not None and not isinstance(markets, list):
            reader.refuse("markets", markets, f"a list of markets was expected, found {shown(markets)}")
            markets = None
        return {
            "event_ticker": reader.key("event_ticker"),
            "series_ticker": reader.key("series_ticker", context=context.get("series_ticker")),
            "title": reader.required("title", scalars.text),
            "sub_title": reader.text("sub_title"),
            "category": reader.text("category"),
            "strike_date": reader.time("strike_date"),
            "strike_period": reader.text("strike_period"),
            "mutually_exclusive": reader.optional("mutually_exclusive", scalars.flag),
            "collateral_return_type": reader.text("collateral_return_type"),
            "available_on_brokers": reader.optional("available_on_brokers", scalars.flag),
            "fee_type_override": reader.text("fee_type_override"),
            "fee_multiplier_override": reader.optional("fee_multiplier_override", scalars.multiplier),
            "settlement_sources": reader.objects("settlement_sources"),
            "product_metadata": reader.optional("product_metadata", _object),
            "last_updated_ts": reader.time("last_updated_ts"),
            "exchange_index": reader.optional("exchange_index", _small_integer),
            "markets": tuple(markets or ()),
        }


class Market(WireModel):
    """One yes/no question with its latest quotes (GET /markets, /markets/{ticker}, /historical/markets).

    A quote of 0 or 1 is legal and means an empty side. `settlement_value` is what one YES contract pays.
    """

    market_ticker: Text
    event_ticker: Text
    series_ticker: MaybeText = Field(None, description="Not in the payload: the event's, when the request or a wrapper said it.")
    category: MaybeText = None
    market_type: MaybeText = None
    title: Text
    subtitle: MaybeText = None
    yes_sub_title: MaybeText = None
    no_sub_title: MaybeText = None
    strike_type: MaybeText = None
    floor_strike: MaybeExact = None
    cap_strike: MaybeExact = None
    functional_strike: MaybeText = None
    custom_strike: MaybeObject = None
    open_time: MaybeTime = None
    close_time: MaybeTime = None
    expiration_time: MaybeTime = None
    expected_expiration_time: MaybeTime = None
    latest_expiration_time: MaybeTime = None
    occurrence_datetime: MaybeTime = None
    created_time: MaybeTime = None
    updated_time: MaybeTime = None
    status: Text
    result: MaybeText = Field(None, description="yes, no, scalar or a newer word; None while undetermined.")
    settlement_value: MaybeExact = None
    settlement_ts: MaybeTime = None
    settlement_timer_seconds: MaybeInt = None
    expiration_value: MaybeText = Field(None, description='Free text: "3.38", "Miami".')
    price_level_structure: MaybeText = None
    price_ranges: MaybeObjects = None
    yes_bid: MaybeExact = None
    yes_ask: MaybeExact = None
    no_bid: MaybeExact = None
    no_ask: MaybeExact = None
    last_price: MaybeExact = None
    previous_price: MaybeExact = None
    previous_yes_bid: MaybeExact = None
    previous_yes_ask: MaybeExact = None
    yes_bid_size: MaybeExact = None
    yes_ask_size: MaybeExact = None
    volume: MaybeExact = None
    volume_24h: MaybeExact = None
    open_interest: MaybeExact = None
    liquidity: MaybeExact = Field(None, description="Dollars; may be negative in old data, always 0 in new.")
    notional_value: MaybeExact = Field(None, description="Dollars that a winning contract pays.")
    rules_primary: MaybeText = None
    rules_secondary: MaybeText = None
    can_close_early: MaybeFlag = None
    early_close_condition: MaybeText = None
    is_provisional: MaybeFlag = None
    primary_participant_key: MaybeText = None
    mve_collection_ticker: MaybeText = None
    mve_selected_legs: MaybeObjects = None
    exchange_index: MaybeInt = None

    _texts: ClassVar = (
        "market_type", "subtitle", "yes_sub_title", "no_sub_title", "strike_type", "functional_strike", "result",
        "expiration_value", "price_level_structure", "rules_primary", "rules_secondary",
        "early_close_condition", "primary_participant_key",
    )  # fmt: skip
    _times: ClassVar = (
        "open_time", "close_time", "expiration_time", "expected_expiration_time", "latest_expiration_time",
        "occurrence_datetime", "created_time", "updated_time", "settlement_ts",
    )  # fmt: skip
    _prices: ClassVar = (
        "settlement_value", "yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "previous_price",
        "previous_yes_bid", "previous_yes_ask",
    )  # fmt: skip
    _counts: ClassVar = ("yes_bid_size", "yes_ask_size", "volume", "volume_24h", "open_interest")

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "market_ticker": reader.key("ticker", "market_ticker"),
            "event_ticker": reader.key("event_ticker"),
            "series_ticker": reader.key("series_ticker", context=context.get("series_ticker"), required=False),
            "category": reader.text("category") or context.get("category"),
            "title": reader.required("title", scalars.text),
            "status": reader.required("status", _word),
            "floor_strike": reader.optional("floor_strike", scalars.strike),
            "cap_strike": reader.optional("cap_strike", scalars.strike),
            "custom_strike": reader.optional("custom_strike", _object),
            "settlement_timer_seconds": reader.optional("settlement_timer_seconds", scalars.integer),
            "price_ranges": reader.objects("price_ranges"),
            "liquidity": reader.money("liquidity"),
            "notional_value": reader.money("notional_value"),
            "can_close_early": reader.optional("can_close_early", scalars.flag),
            "is_provisional": reader.optional("is_provisional", scalars.flag),
            "mve_collection_ticker": reader.key("mve_collection_ticker", required=False),
            "mve_selected_legs": reader.objects("mve_selected_legs"),
            "exchange_index": reader.optional("exchange_index", _small_integer),
        }
        for name in cls._texts:
            fields[name] = reader.text(name)
        for name in cls._times:
            fields[name] = reader.time(name)
        for name in cls._prices:
            fields[name] = reader.price(name)
        for name in cls._counts:
            fields[name] = reader.count(name)
        return fields


# Market data


class Candlestick(WireModel):
    """The prices of one period of one market (all candlestick endpoints, live, batch, event and historical).

    `end_period_ts` is the inclusive end of the period; daily periods end at midnight US Eastern. `price_*` are trades
    and None in a period without one; the bid and ask of such a period are normal. A low above its high is refused; an
    open or close outside of them is kept as sent.
    """

    market_ticker: MaybeText = Field(None, description="Not in the payload: the request's.")
    period_interval_minutes: MaybeInt = Field(None, description="Not in the payload: the request's; 1, 60 or 1440.")
    end_period_ts: Time
    yes_bid_open: MaybeExact = None
    yes_bid_high: MaybeExact = None
    yes_bid_low: MaybeExact = None
    yes_bid_close: MaybeExact = None
    yes_ask_open: MaybeExact = None
    yes_ask_high: MaybeExact = None
    yes_ask_low: MaybeExact = None
    yes_ask_close: MaybeExact = None
    price_open: MaybeExact = None
    price_high: MaybeExact = None
    price_low: MaybeExact = None
    price_close: MaybeExact = None
    price_mean: MaybeExact = None
    price_previous: MaybeExact = Field(None, description="Last trade price before the period.")
    price_min: MaybeExact = None
    price_max: MaybeExact = None
    volume: MaybeExact = Field(None, description="Contracts traded in the period.")
    open_interest: MaybeExact = Field(None, description="Contracts open at the end of the period.")

    _quote: ClassVar = ("open", "high", "low", "close")
    _trade: ClassVar = ("open", "high", "low", "close", "mean", "previous", "min", "max")

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "market_ticker": reader.key("market_ticker", "ticker", context=context.get("market_ticker"), required=False),
            "period_interval_minutes": context.get("period_interval_minutes"),
            "end_period_ts": reader.required("end_period_ts", scalars.moment),
            "volume": reader.count("volume"),
            "open_interest": reader.count("open_interest"),
        }
        for name, parts in (("yes_bid", cls._quote), ("yes_ask", cls._quote), ("price", cls._trade)):
            inner = reader.inner(name)
            if inner.payload:
                for part in parts:
                    fields[f"{name}_{part}"] = inner.price(part)
                for low, high in (("low", "high"), ("min", "max")) if name == "price" else (("low", "high"),):
                    bottom, top = fields[f"{name}_{low}"], fields[f"{name}_{high}"]
                    if bottom is not None and top is not None and bottom > top:
                        at = f"{low}_dollars" if inner.payload.get(f"{low}_dollars") is not None else low
                        inner.refuse(at, inner.payload[at], f"{low} {shown(bottom)} is above {high} {shown(top)}")
        return fields


class Trade(WireModel):
    """One public trade (GET /markets/trades, /historical/trades). `trade_id` is its only key; equal content is no
    duplicate.

    `yes_price` and `no_price` sum to 1. `taker_side` is the outcome the taker bought, None where old data does not say.
    """

    trade_id: Text
    market_ticker: Text
    count: Exact
    yes_price: Exact
    no_price: Exact
    taker_side: MaybeSide = None
    is_block_trade: MaybeFlag = None
    created_time: Time

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        return _trade_fields(reader, context, ("created_time", "created_ts", "ts_ms", "ts"))


def _trade_fields(reader: _Reader, context: Mapping[str, Any], times: tuple[str, ...]) -> dict[str, Any]:
    quantity = reader.count("count")
    if quantity is None:
        if not any(problem.get("loc", ())[-1:] in (("count",), ("count_fp",)) for problem in reader.problems):
            reader.refuse("count_fp", None, "is missing")
    elif not quantity:
        name = "count_fp" if reader.payload.get("count_fp") is not None else "count"
        reader.refuse(name, reader.payload[name], "a trade of no contracts")
    problems = len(reader.problems)
    created = reader.finest_time(*times)
    if created is None and len(reader.problems) == problems:
        reader.refuse(times[0], reader.payload.get(times[0]), "is missing")
    yes, no = _both_prices(reader)
    return {
        "trade_id": reader.key("trade_id"),
        "market_ticker": reader.key("ticker", "market_ticker", context=context.get("market_ticker")),
        "count": quantity,
        "yes_price": yes,
        "no_price": no,
        "taker_side": reader.taker_side(),
        "is_block_trade": reader.optional("is_block_trade", scalars.flag),
        "created_time": created,
    }


def _both_prices(reader: _Reader) -> tuple[Decimal | None, Decimal | None]:
    """Both prices of a trade. One may be missing (it follows from the other) or be the rounded form of its exact
    partner.
    """
    payload, problems = reader.payload, len(reader.problems)
    yes, no = reader.price("yes_price"), reader.price("no_price")
    if len(reader.problems) > problems:
        return yes, no
    if yes is None and no is None:
        yes = reader.optional("price", scalars.price)
        if yes is None:
            if len(reader.problems) == problems:
                reader.refuse("yes_price_dollars", None, "is missing")
            return yes, no
    if yes is None or no is None:
        return (ONE - no, no) if no is not None else (yes, ONE - yes if yes is not None else None)
    if yes + no != ONE:
        exact_yes, exact_no = payload.get("yes_price_dollars") is not None, payload.get("no_price_dollars") is not None
        if exact_yes != exact_no and abs(yes + no - ONE) < _CENT:
            return (yes, ONE - yes) if exact_yes else (ONE - no, no)
        name = "yes_price_dollars" if exact_yes else "yes_price"
        reader.refuse(name, payload[name], f"yes {shown(yes)} and no {shown(no)} do not sum to 1")
    return yes, no


class OrderBook(WireModel):
    """The resting bids of both sides of one market (GET /markets/{ticker}/orderbook, /markets/orderbooks).

    `yes` and `no` are (price, contracts), ascending by price; bids only: the best YES ask is 1 minus the best NO bid. A
    null side is an empty side. Read from `orderbook_fp`, from `orderbook`, or from the ladders alone.
    """

    market_ticker: MaybeText = None
    yes: Ladder = ()
    no: Ladder = ()

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        places: list[_Reader] = []
        for name in ("orderbook_fp", "orderbook"):
            if reader.payload.get(name) is not None:
                places.append(reader.inner(name))
        if not places:
            if not any(
                f"{side}{form}" in reader.payload for side in ("yes", "no") for form in ("", "_dollars", "_dollars_fp", "_fp")
            ):
                reader.refuse("orderbook_fp", None, "is missing")
            places.append(reader)
        return {
            "market_ticker": reader.key("market_ticker", "ticker", context=context.get("market_ticker"), required=False),
            "yes": _side_of_book(places, "yes"),
            "no": _side_of_book(places, "no"),
        }


def _side_of_book(places: list[_Reader], side: str) -> tuple[tuple[Decimal, Decimal], ...]:
    """One side from its most exact form; every other form that is there must agree with it."""
    best: tuple[tuple[Decimal, Decimal], ...] | None = None
    best_name = ""
    for place in places:
        for form in ("_dollars_fp", "_dollars", "_fp", ""):
            name = side + form
            value = place.payload.get(name)
            if value is None:
                continue
            ladder = _ladder(place, name, value, form)
            if ladder is None:
                continue
            if best is None:
                best, best_name = ladder, name
            elif not _agree(best, ladder):
                place.refuse(name, value, f"disagrees with {best_name} by more than rounding")
    return best or ()


def _ladder(place: _Reader, name: str, value: object, form: str) -> tuple[tuple[Decimal, Decimal], ...] | None:
    """The levels of one form of a side. Only whole cents may name a price twice: two finer levels rounded to one."""
    price = scalars.dollars if "dollars" in form else scalars.price
    if not isinstance(value, list):
        place.refuse(name, value, f"a list of [price, count] was expected, found {shown(value)}")
        return None
    problems = len(place.problems)
    levels: dict[Decimal, Decimal] = {}
    for number, level in enumerate(value):
        if not isinstance(level, list | tuple) or len(level) != 2:
            at: Place = (*place.at, name, number)
            place.problems.append(_problem(at, level, f"[price, count] was expected, found {shown(level)}"))
            continue
        part = 0
        try:
            at_price = price(level[0])
            part = 1
            quantity = scalars.count(level[1])
            part = 0
            if at_price in levels and form != "":
                raise WireValueError(f"{shown(level[0])} is there twice")
        except WireValueError as refusal:
            place.problems.append(_problem((*place.at, name, number, part), level[part], refusal.reason, refusal.hint))
            continue
        levels[at_price] = levels.get(at_price, scalars.ZERO) + quantity
    if len(place.problems) > problems:
        return None
    return tuple(sorted((level for level in levels.items() if level[1]), key=lambda level: level[0]))


def _agree(exact: tuple[tuple[Decimal, Decimal], ...], rough: tuple[tuple[Decimal, Decimal], ...]) -> bool:
    if len(exact) != len(rough):
        # A coarser form may merge levels or drop a fraction of a contract, but not when there is nothing to round.
        return any(price % _CENT or quantity % _CONTRACT for price, quantity in exact) and bool(exact)
    return all(abs(a[0] - b[0]) < _CENT and abs(a[1] - b[1]) < _CONTRACT for a, b in zip(exact, rough, strict=True))


class Settlement(WireModel):
    """What one of our own positions was paid (GET /portfolio/settlements). It has no id. Money in dollars."""

    market_ticker: Text
    event_ticker: MaybeText = None
    market_result: MaybeText = Field(None, description="yes, no, scalar, void or a newer word.")
    yes_count: MaybeExact = None
    no_count: MaybeExact = None
    yes_total_cost: MaybeExact = None
    no_total_cost: MaybeExact = None
    revenue: MaybeExact = Field(None, description="Dollars received; integer cents on the wire.")
    value: MaybeExact = Field(None, description="What one YES contract paid.")
    fee_cost: MaybeExact = None
    settled_time: Time

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "market_ticker": reader.key("ticker", "market_ticker"),
            "event_ticker": reader.key("event_ticker", required=False),
            "market_result": reader.text("market_result"),
            "yes_count": reader.count("yes_count"),
            "no_count": reader.count("no_count"),
            "yes_total_cost": reader.money("yes_total_cost"),
            "no_total_cost": reader.money("no_total_cost"),
            "revenue": reader.money("revenue"),
            "value": reader.price("value"),
            "fee_cost": reader.money("fee_cost"),
            "settled_time": reader.required("settled_time", scalars.moment),
        }


# Websocket frames


class Frame(WireModel):
    """An envelope of the websocket: {type, sid, seq?, msg}. `sequence` counts over all markets of a subscription,
    control frames included.
    """

    subscription_id: MaybeInt = None
    sequence: MaybeInt = None

    @classmethod
    def _read(cls, reader: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        reader.required("type", scalars.text)
        message = reader.inner("msg")
        fields: dict[str, Any] = {
            "subscription_id": reader.optional("sid", scalars.integer),
            "sequence": reader.optional("seq", scalars.integer),
        }
        if reader.payload.get("msg") is None:
            reader.refuse("msg", None, "is missing")
        elif isinstance(reader.payload["msg"], dict):
            fields |= cls._read_message(message, context)
        return fields

    @classmethod
    def _read_message(cls, message: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class TickerFrame(Frame):
    """Quotes of one market at a change (channel `ticker`; has no `seq`). `snapshot_time` is the exchange's clock."""

    market_ticker: Text
    market_id: MaybeText = None
    snapshot_time: MaybeTime = None
    last_price: MaybeExact = None
    yes_bid: MaybeExact = None
    yes_ask: MaybeExact = None
    yes_bid_size: MaybeExact = None
    yes_ask_size: MaybeExact = None
    last_trade_size: MaybeExact = None
    volume: MaybeExact = None
    open_interest: MaybeExact = None
    dollar_volume: MaybeExact = None
    dollar_open_interest: MaybeExact = None

    @classmethod
    def _read_message(cls, message: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "market_ticker": message.key("market_ticker", "ticker"),
            "market_id": message.text("market_id"),
            "snapshot_time": message.finest_time("time", "ts_ms", "ts"),
            "last_price": message.price("price"),
            "yes_bid": message.price("yes_bid"),
            "yes_ask": message.price("yes_ask"),
            "yes_bid_size": message.count("yes_bid_size"),
            "yes_ask_size": message.count("yes_ask_size"),
            "last_trade_size": message.count("last_trade_size"),
            "volume": message.count("volume"),
            "open_interest": message.count("open_interest"),
            "dollar_volume": message.optional("dollar_volume", scalars.money),
            "dollar_open_interest": message.optional("dollar_open_interest", scalars.money),
        }


class TradeFrame(Frame):
    """A public trade as it happens (channel `trade`). Its time may be coarser than the REST answer's (milliseconds,
    seconds).
    """

    trade_id: Text
    market_ticker: Text
    count: Exact
    yes_price: Exact
    no_price: Exact
    taker_side: MaybeSide = None
    is_block_trade: MaybeFlag = None
    created_time: Time

    @classmethod
    def _read_message(cls, message: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        return _trade_fields(message, context, ("ts", "ts_ms", "created_time"))


class MarketLifecycleFrame(Frame):
    """Something happened to a market (channel `market_lifecycle_v2`): created, activated, deactivated, close_date_updated, determined,
    settled, metadata_updated … `occurred_at` is None where the exchange says no time, which is most of them.
    """

    market_ticker: Text
    event_type: Text
    occurred_at: MaybeTime = None
    details: Object = Field(description="The message without its market and type.")

    @classmethod
    def _read_message(cls, message: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        word = message.required("event_type", _word)
        times = {"determined": "determination_ts", "settled": "settled_ts"}
        details = {
            name: value for name, value in message.payload.items() if name not in ("market_ticker", "ticker", "event_type")
        }
        return {
            "market_ticker": message.key("market_ticker", "ticker"),
            "event_type": word,
            "occurred_at": message.finest_time(times.get(word or "", "ts"), "ts_ms"),
            "details": details,
        }


class OrderBookSnapshotFrame(Frame):
    """The whole book at the start of a subscription (channel `orderbook_delta`). A side that is missing is empty."""

    market_ticker: Text
    market_id: MaybeText = None
    snapshot_time: MaybeTime = None
    yes: Ladder = ()
    no: Ladder = ()

    @classmethod
    def _read_message(cls, message: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "market_ticker": message.key("market_ticker", "ticker"),
            "market_id": message.text("market_id"),
            "snapshot_time": message.finest_time("ts", "ts_ms"),
            "yes": _side_of_book([message], "yes"),
            "no": _side_of_book([message], "no"),
        }


class OrderBookDeltaFrame(Frame):
    """A signed change of one level of one side's bids (channel `orderbook_delta`). A gap in `sequence` means that a
    change was lost.
    """

    market_ticker: Text
    market_id: MaybeText = None
    delta_time: MaybeTime = None
    side: Annotated[Side, SkipValidation]
    price: Exact
    delta: Exact

    @classmethod
    def _read_message(cls, message: _Reader, context: Mapping[str, Any]) -> dict[str, Any]:
        fields = {
            "market_ticker": message.key("market_ticker", "ticker"),
            "market_id": message.text("market_id"),
            "delta_time": message.finest_time("ts", "ts_ms"),
            "side": message.required("side", scalars.outcome_side),
        }
        for name, suffix, value in (
            ("price", "_dollars", message.price("price")),
            (
                "delta",
                "_fp",
                message.two_forms("delta_fp", "delta", scalars.signed_count, scalars.signed_count, _CONTRACT),
            ),
        ):
            if value is None and not any(message.payload.get(form) is not None for form in (name, name + suffix)):
                message.refuse(name + suffix, None, "is missing")
            fields[name] = value  # type: ignore[assignment]
        return fields
