"""What the environment decides: which database, where the embedded server lives, and which exchange is asked with which key.

Nothing else is configured from outside.
"""

import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

import platformdirs
import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SCHEMES = frozenset({"postgresql", "postgres"})

EXPECTED = (
    "Expected postgresql://user:password@host:5432/database or key=value pairs as psql takes them (host=… dbname=…). "
    "In a URL, write a password's @ : / ? # % as %40 %3A %2F %3F %23 %25."
)


class SettingsError(ValueError):
    """A setting is malformed. The message says which, and what to write instead; it never contains the value."""


def libpq_url(url: str) -> str:
    """Return a database URL, or key=value pairs, in the form that libpq and psycopg take.

    A driver in the scheme (``postgresql+psycopg://``, as yoyo and SQLAlchemy write it) is dropped.

    Raises:
        SettingsError: it is neither.
    """
    scheme, separator, rest = url.strip().partition("://")
    if separator and scheme.isascii() and "=" not in scheme:
        base = scheme.partition("+")[0].lower()
        if base not in SCHEMES:
            raise SettingsError(f"not a PostgreSQL URL: its scheme is {scheme}://. {EXPECTED}")
        url = f"postgresql://{rest}"
    try:
        parameters = conninfo_to_dict(url)
        ports = str(parameters.get("port") or "5432").split(",")
        if separator and "@" in (urlsplit(url).netloc.rpartition("@")[0]):
            raise SettingsError(f"not a well-formed PostgreSQL URL: there is more than one @ before the host. {EXPECTED}")
    except (psycopg.ProgrammingError, ValueError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"not a well-formed PostgreSQL URL. {EXPECTED}") from None  # libpq's message quotes parts of it
    if not all(port.isdecimal() and 0 < int(port) < 1 << 16 for port in ports if port):
        raise SettingsError(f"not a well-formed PostgreSQL URL: the port is not a number from 1 to 65535. {EXPECTED}")
    return url.strip()


def _unset_when_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _address(value: object, schemes: tuple[str, str]) -> object:
    """Return the address of an interface; ValueError where it is none. The message never contains it: it may hold a password."""
    if not isinstance(value, str) or not value.strip():
        return None
    value = value.strip()
    like = f"write {schemes[1]}://host/path"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"not a well-formed address: {like}") from None
    if parts.scheme not in schemes or not host or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"not an address: {like}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"an address without user, password, ? and # is wanted, as it is written down with what was asked: {like}"
        )
    return value


def _http(value: object) -> object:
    return _address(value, ("http", "https"))


def _websocket(value: object) -> object:
    return _address(value, ("ws", "wss"))


def _header(value: object) -> object:
    """Return an id that a header can carry, without what stands around it in a file; ValueError without the id where it is none."""
    if not isinstance(value, str) or not value.strip():
        return None
    if not (value.strip().isascii() and value.strip().isprintable()):
        raise ValueError("has characters that no id has")
    return value.strip()


class Settings(BaseSettings):
    """The settings, read from the environment, then from ``.env`` in the current directory.

    A variable that is set but empty counts as not set, and also hides the one in ``.env``.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True)

    database_url: Annotated[str | None, BeforeValidator(_unset_when_empty)] = Field(default=None, repr=False)
    """Where the database is. None: kalshidb runs its own server."""

    kalshidb_home: Annotated[Path | None, BeforeValidator(_unset_when_empty)] = None
    """Where the embedded server keeps its data. None: where the platform's users expect it."""

    kalshi_api_url: Annotated[str | None, BeforeValidator(_http)] = None
    """The exchange's REST interface, up to and with /trade-api/v2. None: the real exchange."""

    kalshi_websocket_url: Annotated[str | None, BeforeValidator(_websocket)] = None
    """The exchange's websocket. None: the real exchange."""

    kalshi_api_key_id: Annotated[str | None, BeforeValidator(_header)] = Field(default=None, repr=False)
    """Id of an API key, for higher limits and the websocket. None: public endpoints without a key."""

    kalshi_private_key_file: Annotated[Path | None, BeforeValidator(_unset_when_empty)] = None
    """File of that key's private half, PEM."""

    kalshi_api_tier: Annotated[str | None, BeforeValidator(_unset_when_empty)] = None
    """Tier of the key's limits: basic, advanced, expert, premier, paragon, prime or prestige. None: basic."""

    @classmethod
    def load(cls) -> Self:
        """Read the settings.

        Raises:
            SettingsError: one is malformed.
        """
        try:
            settings = cls()
        except ValidationError as error:
            wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
            raise SettingsError(wrong) from None
        if settings.database_url is None:
            return settings
        try:
            return settings.model_copy(update={"database_url": libpq_url(settings.database_url)})
        except SettingsError as error:
            raise SettingsError(f"DATABASE_URL is {error}") from None

    @property
    def home(self) -> Path:
        """The directory of the embedded server.

        KALSHIDB_HOME, else /var/lib/kalshidb for root, else in the user's data directory.
        """
        if self.kalshidb_home is not None:
            return self.kalshidb_home.expanduser().absolute()
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            return Path("/var/lib/kalshidb")  # root's own home is closed to the account that the server runs as
        return platformdirs.user_data_path("kalshidb", appauthor=False)
