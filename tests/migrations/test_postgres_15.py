"""The schema and the statements work on older servers than the one that is bundled."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from kalshidb.migration import drift, migrate, pending
from kalshidb.models.catalog import EventInput, MarketInput
from kalshidb.models.market_data import Candlestick, PriceSnapshotInput
from kalshidb.postgres import EmbeddedPostgres
from kalshidb.postgres.embedded import find_programs
from kalshidb.queries import STATEMENTS, catalog, market_data
from kalshidb.sqlfiles import snapshot_file

NOON = datetime(2026, 7, 19, 12, tzinfo=UTC)


def major(programs: Path) -> int:
    said = subprocess.check_output([programs / "postgres", "--version"], text=True)
    return int(re.search(r"(\d+)", said)[1])  # type: ignore[index]


def other_servers() -> list[Path]:
    """Find server programs of another major version than the bundled one, 15 or later, which the schema is written for."""
    named = os.environ.get("KALSHIDB_TEST_PG_BIN")
    places = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    bundled = major(find_programs())
    return [place for place in places if (place / "postgres").exists() and 15 <= major(place) != bundled]


@pytest.fixture(scope="module")
def older_server(scratch: Path) -> Iterator[str]:
    """The address of a database on a server of another major version."""
    found = other_servers()
    if not found:
        pytest.skip("no PostgreSQL of another major version is installed; KALSHIDB_TEST_PG_BIN names one")
    root = tempfile.mkdtemp(prefix="kalshidb-tests-older-", dir=scratch)
    options = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    with EmbeddedPostgres(root, bin_dir=found[0], options=options) as server:
        yield server.ensure_database()
    shutil.rmtree(root, ignore_errors=True)


def test_migrations_and_statements_work_on_another_major_version(older_server: str) -> None:
    applied = migrate(older_server)
    assert applied
    assert pending(older_server) == ([], applied)
    with psycopg.connect(older_server, options="-c timezone=America/New_York") as connection:
        event = EventInput(
            event_ticker="E", platform_id="kalshi", series_ticker="S", external_id="E", title="?", retrieved_at=NOON
        )
        market = MarketInput(
            market_ticker="E-1",
            platform_id="kalshi",
            event_ticker="E",
            external_id="E-1",
            title="?",
            status="active",
            retrieved_at=NOON,
        )
        assert catalog.upsert_events(connection, [event]).inserted == 1
        assert catalog.upsert_markets(connection, [market]).inserted == 1
        assert catalog.upsert_markets(connection, [market]).written == 0
        candle = Candlestick(
            market_ticker="E-1", end_period_ts=NOON, period_interval_minutes=60, price_close=Decimal("0.5"), retrieved_at=NOON
        )
        quote = PriceSnapshotInput(
            market_ticker="E-1",
            snapshot_time=NOON,
            source="poll",
            yes_bid=Decimal("0.4"),
            yes_ask=Decimal("0.5"),
            retrieved_at=NOON,
        )
        assert market_data.upsert_candlesticks(connection, [candle]).written == 1
        assert market_data.upsert_candlesticks(connection, [candle]).written == 0
        assert market_data.upsert_price_snapshots(connection, [quote]).written == 1
        assert catalog.market_by_ticker(connection, market_ticker="E-1").series_ticker == "S"  # type: ignore[union-attr]
        stored = market_data.candlesticks_between(
            connection, market_ticker="E-1", period_interval_minutes=60, start_ts=NOON, end_ts=NOON + timedelta(hours=1)
        )
        assert [row.price_close for row in stored] == [Decimal("0.5")]
        known = market_data.quotes_as_of(
            connection, market_tickers=["E-1"], decision_times=[NOON + timedelta(minutes=1)], max_age=timedelta(hours=1)
        )
        assert [row.implied_probability for row in known] == [Decimal("0.45")]


def test_rolling_back_works_on_another_major_version(older_server: str) -> None:
    import yoyo

    from kalshidb.postgres import yoyo_url

    migrate(older_server)
    backend = yoyo.get_backend(yoyo_url(older_server))
    migrations = yoyo.read_migrations(str(Path(__file__).resolve().parents[2] / "migrations"))
    backend.rollback_migrations(backend.to_rollback(migrations))
    backend.connection.close()
    assert len(migrate(older_server)) == len(migrations)


def test_a_database_on_another_major_version_is_no_drift_and_its_changes_are(older_server: str, empty_database: str) -> None:
    """That version writes views, defaults and privileges in its own way; the snapshot is the bundled server's."""
    migrate(older_server)
    with psycopg.connect(older_server) as connection:
        assert [str(finding) for finding in drift.check(connection, snapshot_file(), empty_database)] == []
        connection.execute(
            "ALTER VIEW catalog.current_markets SET (security_barrier = true); DROP INDEX catalog.events_is_stub_idx"
        )
        connection.execute("GRANT ALL ON catalog.markets TO PUBLIC")
        found = {finding.subject for finding in drift.check(connection, snapshot_file(), empty_database)}
        assert found == {
            "view catalog.current_markets",
            "index catalog.events_is_stub_idx",
            "grant TABLE catalog.markets TO PUBLIC",
        }
        connection.rollback()


def test_every_statement_prepares_on_another_major_version(older_server: str) -> None:
    migrate(older_server)
    prepared = 0
    with psycopg.connect(older_server, autocommit=True) as connection, psycopg.RawCursor(connection) as cursor:
        for statement in STATEMENTS:
            if "staged_" in statement.sql:
                continue  # reads a table that exists only while its bulk function runs
            try:
                cursor.execute(f"PREPARE checked AS {statement.sql}".encode())
            except psycopg.Error as error:
                error.add_note(statement.source.full_name)
                raise
            cursor.execute(b"DEALLOCATE checked")
            prepared += 1
    assert prepared > 150
