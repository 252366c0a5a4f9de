"""Which database, and connections to it: DATABASE_URL when it is set, else the embedded server.

Every connection made here has the same session: UTC, and limits that end what waits for nothing but never a statement
that works.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from kalshidb.postgres.embedded import DATABASE, DatabaseUnavailable, EmbeddedPostgres
from kalshidb.settings import Settings, libpq_url

SESSION: Mapping[str, str] = {
    # Times come out as UTC, whatever the server's or the machine's zone.
    "timezone": "UTC",
    # Longer than a bulk load's transaction on the same rows takes, shorter than a night.
    "lock_timeout": "5min",
    # A program that has forgotten its transaction blocks vacuum and DDL. A reader of a stream that thinks between rows
    # has an hour.
    "idle_in_transaction_session_timeout": "1h",
    # statement_timeout is left as the server or the role has it (by default none): a bulk load, or a report over
    # everything, is one statement that may rightly run for hours, and a web page's limit is the web page's to set (in
    # the URL's `options`).
}
"""The session's settings, unless the URL's own `options`, or PGOPTIONS, say otherwise."""

CONNECTION: Mapping[str, tuple[str, str]] = {
    # libpq's parameter: our value, and the environment variable that has precedence
    "fallback_application_name": ("kalshidb", ""),
    "connect_timeout": ("10", "PGCONNECT_TIMEOUT"),
    # A peer that vanished without a word is noticed within about a minute, also while data waits to be acknowledged.
    "keepalives_idle": ("30", ""),
    "keepalives_interval": ("10", ""),
    "keepalives_count": ("3", ""),
    "tcp_user_timeout": ("60000", ""),
}
"""How connections are made, unless the URL or the environment says otherwise."""

# A number in json is as exact as a numeric; psycopg would read it as a float.
_EXACT = AdaptersMap(psycopg.adapters)
set_json_loads(partial(json.loads, parse_float=Decimal), _EXACT)


@dataclass(frozen=True)
class Database:
    """A database to work with."""

    url: str = field(repr=False)
    """Its address, for psycopg and every libpq program. It may contain a password."""

    embedded: bool
    """Whether it is the embedded server's, rather than the one in DATABASE_URL."""


@contextmanager
def database(settings: Settings | None = None) -> Iterator[Database]:
    """Give the database: the one in DATABASE_URL, with nothing started, else the embedded server's, which runs as long
    as the block.

    Raises:
        SettingsError: a setting is malformed.
        DatabaseUnavailable: the embedded server cannot run, and why.
    """
    settings = settings or Settings.load()
    if settings.database_url is not None:
        yield Database(libpq_url(settings.database_url), embedded=False)
        return
    with EmbeddedPostgres(settings.home) as server:
        yield Database(server.ensure_database(), embedded=True)


def url() -> str:
    """Return the address of the database: DATABASE_URL, else the embedded server's.

    The embedded server is started and then runs at least until this process ends.
    """
    settings = Settings.load()
    return settings.database_url if settings.database_url is not None else _embedded_url(settings)


def up() -> str:
    """Start the embedded server, keep it running until `down`, and return its database's address.

    With DATABASE_URL set, its server is somebody else's: nothing is started, and its address is returned.
    """
    settings = Settings.load()
    if settings.database_url is not None:
        return settings.database_url
    server = EmbeddedPostgres(settings.home).start(keep=True)
    try:
        return server.ensure_database()
    finally:
        server.close()


def down(*, force: bool = False) -> str:
    """Stop the embedded server that `up` keeps, and return what has happened, as a sentence.

    While other processes use it, it goes on and stops when the last of them ends; with `force` it stops at once.
    """
    settings = Settings.load()
    if settings.database_url is not None:
        return "DATABASE_URL is set: its server is not kalshidb's to stop. Nothing was done."
    server = EmbeddedPostgres(settings.home)
    outcome = server.down(force=force)
    if outcome == "stopped":
        return f"The embedded server in {server.root} has stopped."
    if outcome == "not running":
        return f"The embedded server in {server.root} is not running."
    users = server.users()
    who = "Other processes still use" if users is None else f"{users} other process(es) still use"
    return f"{who} the embedded server in {server.root}. It stops when the last of them ends; --force stops it now."


def describe() -> str:
    """Say in one line which database kalshidb would use, without starting or reaching it, and without a password."""
    settings = Settings.load()
    if settings.database_url is not None:
        return f"{_place(settings.database_url)} (DATABASE_URL)"
    server = EmbeddedPostgres(settings.home)
    state = ("running, kept until `kalshidb down`" if server.kept else "running") if server.running() else "not running"
    return f"embedded server in {server.root} ({state})"


# Connections


def connect(url: str | None = None, **parameters: Any) -> psycopg.Connection[TupleRow]:  # noqa: ANN401
    """Connect, with this project's session settings.

    `url` None: DATABASE_URL, else the embedded server, which then runs until this process ends. `parameters` are
    psycopg's, such as
    ``autocommit`` and ``row_factory``, or libpq's, which have precedence over the URL's.

    Raises:
        SettingsError: the address is malformed.
        DatabaseUnavailable: there is no connection to be had; a psycopg.OperationalError that says what was tried and
        what to do.
    """
    conninfo = _conninfo(_resolve(url), parameters)
    try:
        return psycopg.connect(conninfo, **_own(parameters))
    except psycopg.OperationalError as error:
        _explain(error, conninfo, ours=url is None)


async def connect_async(url: str | None = None, **parameters: Any) -> psycopg.AsyncConnection[TupleRow]:  # noqa: ANN401
    """Connect as `connect` does, without blocking the event loop."""
    conninfo = _conninfo(await asyncio.to_thread(_resolve, url), parameters)
    try:
        return await psycopg.AsyncConnection.connect(conninfo, **_own(parameters))
    except psycopg.OperationalError as error:
        _explain(error, conninfo, ours=url is None)


def pool(
    url: str | None = None,
    *,
    min_size: int = 1,
    max_size: int = 8,
    timeout: float = 30,
    **parameters: Any,  # noqa: ANN401
) -> ConnectionPool[psycopg.Connection[TupleRow]]:
    """Return a pool of connections like `connect`'s. It opens with its ``with`` block, or by ``open()``.

    A connection is checked when it is handed out, so that a restarted server costs a moment instead of an error. One
    that is not to be had within `timeout` seconds raises psycopg_pool.PoolTimeout.
    """
    url = _resolve(url)
    return ConnectionPool(
        _conninfo(url, parameters),
        kwargs=_own(parameters),
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        check=ConnectionPool.check_connection,
        name="kalshidb",
        open=False,
    )


def pool_async(
    url: str | None = None,
    *,
    min_size: int = 1,
    max_size: int = 8,
    timeout: float = 30,
    **parameters: Any,  # noqa: ANN401
) -> AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]:
    """Return a pool like `pool`'s for asynchronous use. It opens with its ``async with`` block, or by ``await open()``.

    Without `url` and DATABASE_URL this starts the embedded server, which blocks for a moment: call it before serving
    begins.
    """
    url = _resolve(url)
    return AsyncConnectionPool(
        _conninfo(url, parameters),
        kwargs=_own(parameters),
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        check=AsyncConnectionPool.check_connection,
        name="kalshidb",
        open=False,
    )


def yoyo_url(url: str) -> str:
    """Return an address as yoyo takes it: ``postgresql+psycopg://user:password@host:port/database?parameter=value``.

    yoyo reads addresses by itself and knows no Unix socket, no list of hosts and no key=value pairs: what does not fit
    into its form goes behind the question mark, from where it hands everything to psycopg.
    """
    rest = {name: str(value) for name, value in conninfo_to_dict(libpq_url(url)).items() if value is not None}
    host, port = rest.get("host", ""), rest.get("port", "")
    # yoyo lowers the case of a host's name, which is harmless for a name and would be wrong for a path.
    plain = bool(host) and "/" not in host and "," not in host and "," not in port
    place = ""
    if plain:
        place = f"[{host}]" if ":" in host else quote(host, safe="")
        del rest["host"]
        if port:
            place += f":{port}"
            del rest["port"]
    user, password = rest.pop("user", None), rest.pop("password", None)
    who = ""
    if user is not None and password is not None:
        who = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    else:  # yoyo turns a lone user into one with an empty password
        rest |= {name: value for name, value in (("user", user), ("password", password)) if value is not None}
    name = rest.pop("dbname", None)
    if name is not None and quote(name, safe="-_.~") != name:  # yoyo does not decode the database's name
        rest["dbname"], name = name, None
    query = f"?{urlencode(rest, quote_via=quote, safe='')}" if rest else ""
    return f"postgresql+psycopg://{who}{place}/{name or ''}{query}"


# The embedded server of this process

_servers: dict[tuple[int, str], EmbeddedPostgres] = {}
_servers_lock = Lock()


def _embedded_url(settings: Settings) -> str:
    """Start the embedded server once in this process; it is released at exit."""
    key = (os.getpid(), str(settings.home))  # a forked child takes its own lease
    with _servers_lock:
        server = _servers.setdefault(key, EmbeddedPostgres(settings.home))
        if server.leased and server.running():
            return server.url(DATABASE)
        return server.start().ensure_database()


def _resolve(given: str | None) -> str:
    return url() if given is None else libpq_url(given)


_PSYCOPGS_OWN = frozenset({"autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"})


def _own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parameters that are psycopg's, not libpq's, and how we read what psycopg would read inexactly."""
    return {"context": _EXACT} | {name: value for name, value in parameters.items() if name in _PSYCOPGS_OWN}


def _conninfo(url: str, parameters: Mapping[str, Any]) -> str:
    """Return the address with the parameters, and with ours where neither it nor the environment has any."""
    given = {name: value for name, value in parameters.items() if name not in _PSYCOPGS_OWN}
    merged = conninfo_to_dict(make_conninfo(url, **given))
    for name, (value, variable) in CONNECTION.items():
        if not (variable and os.environ.get(variable)):
            merged.setdefault(name, value)
    # The last of several settings of the same name counts.
    theirs = str(merged.get("options") or os.environ.get("PGOPTIONS", ""))
    merged["options"] = " ".join([*(f"-c {name}={value}" for name, value in SESSION.items()), theirs]).strip()
    return make_conninfo("", **merged)


# What went wrong


def _place(url: str) -> str:
    """Return where an address leads, without the password."""
    parts = conninfo_to_dict(url)
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "the local socket"
    return f"{user}{host}{port}/{parts.get('dbname') or ''}"


_ADVICE = (
    ("password authentication failed", "Check the user and the password in the address."),
    ("no password supplied", "Add the password to the address, or to ~/.pgpass."),
    ("does not exist", "Create it (createdb, createuser), or correct the address."),
    (
        "unsupported startup parameter",
        "A connection pooler is in between: add `options` to its ignore_startup_parameters.",
    ),
    ("too many", "The server has no connection left: end some, or use smaller pools."),
    ("SSL", "Check sslmode in the address."),
)


def _explain(error: psycopg.OperationalError, conninfo: str, *, ours: bool) -> NoReturn:
    """Raise what the server or the network said, with where we tried and what to do.

    `ours` says that the address was not given by the caller, but found here.
    """
    said = str(error).strip()
    advice = next(
        (advice for sign, advice in _ADVICE if sign in said), "Check that the server runs and can be reached from here."
    )
    if ours and Settings.load().database_url is not None:
        advice += " The address is DATABASE_URL's; without it, kalshidb runs a server of its own."
    raise DatabaseUnavailable(f"No connection to PostgreSQL at {_place(conninfo)}: {said}\n{advice}") from error
