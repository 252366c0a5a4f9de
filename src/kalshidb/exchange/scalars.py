"""One value of the wire, read exactly: prices, counts, money, times, words.

Every function takes a value as JSON gave it and returns what the database can hold, or raises `WireValueError` with a
reason and, where there is one, a hint. No function rounds: what does not fit is refused. Objects and field names belong
in `models`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from functools import lru_cache
from typing import TypeAlias

ZERO, ONE = Decimal(0), Decimal(1)

#: numeric(18,2) and numeric(18,6) of the database, strikes numeric(38,18), fee multipliers numeric(12,6).
CONTRACTS_LIMIT = Decimal(10) ** 16
MONEY_LIMIT = Decimal(10) ** 12
STRIKE_LIMIT = Decimal(10) ** 20
MULTIPLIER_LIMIT = Decimal(10) ** 6

TICKER_LENGTH = 200

_CENTS = tuple(Decimal(cents).scaleb(-2) for cents in range(101))
_WIDE = Context(prec=100)
_plain_number = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?").fullmatch
_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
).fullmatch

_GO_ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Things that happened lie between these; the exchange opened in 2021, and a year 50000 is a unit mistaken for another.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_EARLIEST_S, _LATEST_S = int(EARLIEST.timestamp()), int(LATEST.timestamp())


class WireValueError(ValueError):
    """A value that cannot be what its field says. `reason` is a sentence; `hint` says what to do about it, or is
    empty.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        """A reason and, perhaps, a hint."""
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def shown(value: object, limit: int = 60) -> str:
    """A value as it may stand in a message: ASCII, shortened, free of anything a terminal or PostgreSQL would choke
    on.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = str(value) if isinstance(value, Decimal) else ascii(value if not isinstance(value, str) else value[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


# Numbers


@lru_cache(maxsize=1 << 16)
def _decimal_of_text(text: str) -> Decimal:
    if not _plain_number(text):
        raise WireValueError(f"{shown(text)} is not a decimal number")
    return Decimal(text)


def exact(value: object) -> Decimal:
    """Any JSON number, or a decimal string, as the Decimal that was written. A float counts as its shortest text (0.06,
    not 0.059…).
    """
    if type(value) is str:
        return _decimal_of_text(value)
    if type(value) is int:
        if value.bit_length() > 128:
            raise WireValueError(f"{shown(value)} is too large")
        return Decimal(value)
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, float):
        number = Decimal(repr(value))
    else:
        raise WireValueError(f"a number was expected, found {shown(value)}")
    if not number.is_finite():
        raise WireValueError(f"{number} is not a number that can be stored")
    return number


def fitted(number: Decimal, low: Decimal, high: Decimal, places: int, *, what: str, hint: str = "") -> Decimal:
    """The number, if it lies in [low, high] and has no non-zero digit beyond `places` decimals."""
    if not low <= number <= high:
        raise WireValueError(f"{shown(number)} is not {what}", hint)
    exponent = number.as_tuple().exponent
    if exponent < -places or exponent > 0:  # type: ignore[operator]  # finite, so an int
        whole = number.quantize(ONE.scaleb(-places if exponent < 0 else 0), context=_WIDE) if number else ZERO  # type: ignore[operator]
        if whole != number:
            raise WireValueError(f"{shown(number)} has more than {places} decimals")
        number = whole
    return number if number else number.copy_abs()


def _price_of(number: Decimal) -> Decimal:
    hint = ""
    if number > ONE and number == number.to_integral_value(context=_WIDE) and number <= 100:
        hint = "looks like cents: cents are JSON integers in a field without _dollars"
    return fitted(number, ZERO, ONE, 6, what="a price between 0 and 1 dollar", hint=hint)


@lru_cache(maxsize=1 << 16)
def _price_of_text(text: str) -> Decimal:
    return _price_of(_decimal_of_text(text))


def dollars(value: object) -> Decimal:
    """A price under a name that says dollars: "0.1050" → Decimal("0.1050"). Always dollars, whatever the JSON type."""
    return _price_of_text(value) if type(value) is str else _price_of(exact(value))


def price(value: object) -> Decimal:
    """A price under a plain name: an integer is cents (until 2026-03-12), a string or a number with a point is
    dollars.
    """
    if type(value) is int:
        if 0 <= value <= 100:
            return _CENTS[value]
        raise WireValueError(f"{shown(value)} is not a price between 0 and 100 cents")
    return dollars(value)


@lru_cache(maxsize=1 << 16)
def _count_of_text(text: str) -> Decimal:
    return _count_of(_decimal_of_text(text))


def _count_of(number: Decimal) -> Decimal:
    if number < ZERO:
        raise WireValueError(f"{shown(number)} is negative, a count of contracts never is")
    if number >= CONTRACTS_LIMIT:
        raise WireValueError(f"{shown(number)} is more contracts than can be stored")
    return fitted(number, ZERO, CONTRACTS_LIMIT, 2, what="a count of contracts")


def count(value: object) -> Decimal:
    """Contracts, never negative, at most two decimals: 5, "132.93", Decimal("0.01")."""
    return _count_of_text(value) if type(value) is str else _count_of(exact(value))


def signed_count(value: object) -> Decimal:
    """A change of contracts: as `count`, and may be negative."""
    number = exact(value)
    return _count_of(number) if number >= ZERO else _count_of(number.copy_negate()).copy_negate()


def money(value: object) -> Decimal:
    """An amount in dollars, may be negative, at most six decimals. An integer is whole dollars."""
    number = exact(value)
    if number.copy_abs() >= MONEY_LIMIT:
        raise WireValueError(f"{shown(number)} is more money than can be stored")
    return fitted(number, -MONEY_LIMIT, MONEY_LIMIT, 6, what="an amount of money")


def money_or_cents(value: object) -> Decimal:
    """An amount under a plain name: an integer is cents, anything else dollars."""
    return money(exact(value).scaleb(-2, context=_WIDE)) if type(value) is int else money(value)


def strike(value: object) -> Decimal:
    """A strike: any size and sign that numeric(38,18) holds; a double on the wire."""
    number = exact(value)
    if number.copy_abs() >= STRIKE_LIMIT:
        raise WireValueError(f"{shown(number)} is larger than a strike that can be stored")
    return fitted(number, -STRIKE_LIMIT, STRIKE_LIMIT, 18, what="a strike")


def multiplier(value: object) -> Decimal:
    """A factor on fees: 1, 0.5."""
    number = exact(value)
    if not -MULTIPLIER_LIMIT < number < MULTIPLIER_LIMIT:
        raise WireValueError(f"{shown(number)} is larger than a multiplier that can be stored")
    return fitted(number, -MULTIPLIER_LIMIT, MULTIPLIER_LIMIT, 6, what="a multiplier")


def integer(value: object) -> int:
    """A whole number that a PostgreSQL bigint holds."""
    if type(value) is not int:
        raise WireValueError(f"a whole number was expected, found {shown(value)}")
    if not -(2**63) <= value < 2**63:
        raise WireValueError(f"{shown(value)} is too large")
    return value


def flag(value: object) -> bool:
    """true or false, nothing that resembles them."""
    if not isinstance(value, bool):
        raise WireValueError(f"true or false was expected, found {shown(value)}")
    return value


# Times


def time_of_text(text: str) -> datetime | None:
    """An RFC 3339 time as aware UTC; '' and Go's zero time (0001-01-01T00:00:00Z) mean missing.

    Up to nine fraction digits; those beyond the sixth are cut off (PostgreSQL keeps microseconds, cutting never reaches
    into the next second or period, and raw_json keeps the text). A time without an offset is refused: guessing one
    moved cut-offs by hours elsewhere.
    """
    if not text:
        return None
    match = _rfc3339(text)
    if not match:
        raise WireValueError(f"{shown(text)} is not an RFC 3339 time")
    day, clock, fraction, offset = match.groups()
    if offset is None:
        raise WireValueError(f"{shown(text)} has no offset", "a time needs Z or an offset such as -04:00")
    try:
        time = datetime.fromisoformat(f"{day}T{clock}{fraction or ''}{'+00:00' if offset in 'Zz' else offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise WireValueError(f"{shown(text)} is no time of any calendar") from None
    return None if time == _GO_ZERO_TIME else time


def epoch_seconds(value: object) -> datetime:
    """Seconds since 1970, whole or with a fraction, between the years 2000 and 2100."""
    number = exact(value)
    if not _EARLIEST_S <= number < _LATEST_S:
        hint = ""
        for unit, factor in (("milliseconds", 1000), ("microseconds", 10**6), ("nanoseconds", 10**9)):
            if _EARLIEST_S * factor <= number < _LATEST_S * factor:
                hint = f"looks like {unit}, seconds were expected"
        raise WireValueError(f"{shown(number)} seconds is not between the years 2000 and 2100", hint)
    whole = int(number)
    return _EPOCH + timedelta(seconds=whole, microseconds=int((number - whole) * 10**6))


def epoch_milliseconds(value: object) -> datetime:
    """Milliseconds since 1970, between the years 2000 and 2100."""
    number = exact(value)
    if not _EARLIEST_S * 1000 <= number < _LATEST_S * 1000:
        hint = "looks like seconds, milliseconds were expected" if _EARLIEST_S <= number < _LATEST_S else ""
        raise WireValueError(f"{shown(number)} milliseconds is not between the years 2000 and 2100", hint)
    return _EPOCH + timedelta(microseconds=int(number * 1000))


def time(value: object) -> datetime | None:
    """A time of the calendar: RFC 3339 text or epoch seconds, any year; None for '' and Go's zero time."""
    return time_of_text(value) if isinstance(value, str) else epoch_seconds(value)


def moment(value: object) -> datetime | None:
    """The time at which something happened: as `time`, between the years 2000 and 2100, because it chooses a
    partition.
    """
    when = time(value)
    if when is not None and not EARLIEST <= when < LATEST:
        raise WireValueError(f"{shown(value)} is not between the years 2000 and 2100")
    return when


# Words


def is_ticker(value: object) -> bool:
    """Whether a value can be a key of the exchange: 1 to 200 printable characters, no white space."""
    return isinstance(value, str) and 0 < len(value) <= TICKER_LENGTH and value.isprintable() and " " not in value


def ticker(value: object) -> str:
    """A key of the exchange: 1 to 200 printable characters, no white space."""
    if not isinstance(value, str):
        raise WireValueError(f"a ticker was expected, found {shown(value)}")
    if not is_ticker(value):
        raise WireValueError(f"{shown(value)} is not a ticker: 1 to {TICKER_LENGTH} printable characters without white space")
    return value


def text(value: object) -> str:
    """Text as it was sent, '' included."""
    if not isinstance(value, str):
        raise WireValueError(f"text was expected, found {shown(value)}")
    return value


def outcome_side(value: object) -> str:
    """'yes' or 'no'."""
    if value not in ("yes", "no"):
        raise WireValueError(f"{shown(value)} is no side: yes or no")
    return str(value)


def book_side(value: object) -> str:
    """The outcome that a side of the book stands for: bid buys yes, ask buys no."""
    if value not in ("bid", "ask"):
        raise WireValueError(f"{shown(value)} is no side of a book: bid or ask")
    return "yes" if value == "bid" else "no"


# What PostgreSQL text and jsonb cannot hold

NESTING_LIMIT = 64
Place: TypeAlias = tuple[str | int, ...]


def unstorable(value: object, at: Place = (), depth: int = 0) -> list[tuple[Place, object, str]]:
    """Every place of a payload that jsonb could not hold, as (place, value, reason).

    That is NUL and half a surrogate pair in any text or name, NaN and infinities, numbers of absurd size, bottomless
    nesting, and whatever is no JSON.
    """
    if isinstance(value, dict | list):
        if depth >= NESTING_LIMIT:
            return [(at, value, f"nested deeper than {NESTING_LIMIT} levels")]
        found: list[tuple[Place, object, str]] = []
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in members:
            if type(key) is str and (not key.isascii() or "\x00" in key):
                reason = _unstorable_text(key)
                if reason:
                    found.append(((*at, key), key, f"the name {reason}"))
            elif type(key) is not str and isinstance(value, dict):
                found.append((at, key, "a name that is not text"))
            kind = type(part)
            if kind is str:
                if not part.isascii() or "\x00" in part:
                    found.extend(unstorable(part, (*at, key)))
            elif part is not None and kind is not bool and (kind is not int or part.bit_length() > 64):
                found.extend(unstorable(part, (*at, key), depth + 1))
        return found
    reason = _unstorable_text(value) if isinstance(value, str) else _unstorable_scalar(value)
    return [(at, value, reason)] if reason else []


def _unstorable_scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "an integer too large to store" if value.bit_length() > 1024 else ""
    if isinstance(value, float | Decimal):
        number = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not number.is_finite():
            return f"{number} is no JSON number"
        return "a number too large to store" if number and abs(number.adjusted()) > 300 else ""
    return f"{type(value).__name__} is no JSON value"


def _unstorable_text(text: str) -> str:
    if "\x00" in text:
        return "contains NUL, which PostgreSQL cannot store"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains half of a surrogate pair, which PostgreSQL cannot store"
    return ""
