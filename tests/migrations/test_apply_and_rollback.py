"""Migrations go up and come down: with yoyo alone, step by step, by several at once, and through a kill."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import yoyo
from yoyo.backends import DatabaseBackend

from kalshidb.migration import Interrupted, MigrationError, Options, migrate, pending
from kalshidb.postgres import yoyo_url
from kalshidb.postgres.embedded import find_programs
from kalshidb.sqlfiles import sql_dir

REPOSITORY = Path(__file__).resolve().parents[2]
MIGRATIONS = sql_dir("migrations")
IDS = [path.stem for path in sorted(MIGRATIONS.glob("*.sql")) if not path.stem.endswith(".rollback")]
PROGRAM = "import sys; from kalshidb.migration import migrate; print(*migrate(sys.argv[1]))"


def run_yoyo(command: str, *options: str, url: str) -> str:
    """Run yoyo as a DBA does: in the repository, with its yoyo.ini and nothing else."""
    program = [sys.executable, "-m", "yoyo", command, "--batch", *options, "-d", yoyo_url(url)]
    done = subprocess.run(program, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def schema(url: str) -> str:
    """Return the schema as pg_dump writes it, without yoyo's own tables."""
    dump = [find_programs() / "pg_dump", "--schema-only", "--exclude-table=*yoyo*", "-d", url]
    text = subprocess.check_output(dump, text=True, timeout=60)
    return re.sub(r"^\\(un)?restrict .*\n", "", text, flags=re.MULTILINE)


def objects(url: str) -> set[tuple[str, str]]:
    """Return everything in the catalogue that is neither PostgreSQL's nor yoyo's own."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            """
            WITH rooms AS (
                SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
            )
            SELECT 'schema', nspname FROM rooms
            UNION ALL SELECT 'relation', relname FROM pg_class WHERE relnamespace IN (SELECT oid FROM rooms)
            UNION ALL SELECT 'type', typname FROM pg_type WHERE typnamespace IN (SELECT oid FROM rooms)
            UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace IN (SELECT oid FROM rooms)
            UNION ALL SELECT 'constraint', conname FROM pg_constraint WHERE connamespace IN (SELECT oid FROM rooms)
            """
        ).fetchall()
    return {(kind, name) for kind, name in found if "yoyo" not in name}


def fill(url: str) -> None:
    """Put rows where a rollback could stumble over them: months, versions in a chain, ledgers that refuse to lose a row, and what they
    point to.
    """
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
            VALUES ('M', 'kalshi', 'M', true, now(), now(), now());
            SELECT market_data.create_month_partitions(parent, ARRAY['2026-01-05Z', '2026-02-05Z']::timestamptz[])
            FROM unnest(ARRAY['market_data.candlesticks', 'market_data.price_snapshots', 'market_data.orderbook_snapshots',
                              'market_data.orderbook_deltas', 'market_data.public_trades']::regclass[]) AS parent;
            INSERT INTO market_data.candlesticks (market_ticker, end_period_ts, period_interval_minutes, retrieved_at)
            VALUES ('M', '2026-01-05Z', 60, now());
            INSERT INTO market_data.public_trades
            VALUES ('M', '2026-02-05Z', gen_random_uuid(), 1, 0.5, 0.5, 'yes', false, now(), NULL);
            INSERT INTO market_data.orderbook_deltas VALUES ('M', '2026-02-05Z', 1, 1, 'yes', 0.5, 3, now());

            INSERT INTO catalog.events (event_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
            VALUES ('E', 'kalshi', 'E', true, now(), now(), now());
            INSERT INTO catalog.market_versions (market_ticker, valid_from, valid_to, status, created_at)
            VALUES ('M', '2026-02-05Z', NULL, 'active', now()), ('M', '2026-01-05Z', '2026-02-05Z', 'initialized', now());
            INSERT INTO catalog.settlements (market_ticker, settled_at, platform_id, outcome, retrieved_at, created_at)
            VALUES ('M', '2026-02-06Z', 'kalshi', 'yes', now(), now());

            INSERT INTO research.strategies (strategy_name, strategy_version, strategy_type, config) VALUES ('s', 'v1.0', 'entry', '{}');
            INSERT INTO research.probability_models (model_name, model_version, model_type, config) VALUES ('m', 'v1.0', 'elo', '{}');
            INSERT INTO research.probability_matrices (category, subcategory, version, state_descriptor, value_bucket, win_probability)
            VALUES ('sports', 'nfl', 'v1.0', 'halftime', '10+', 0.7);
            INSERT INTO research.edges (market_ticker, strategy_id, model_id, probability_matrix_id, valid_from, expected_value,
                                        true_win_probability, market_implied_probability, market_price)
            SELECT 'M', strategy_id, model_id, probability_id, '2026-01-05Z', 0.1, 0.7, 0.6, 0.6
            FROM research.strategies, research.probability_models, research.probability_matrices;
            INSERT INTO research.game_states (event_ticker, valid_from, sport) VALUES ('E', '2026-01-05Z', 'nfl');
            INSERT INTO research.market_analyses (market_ticker, analyzed_at, ai_provider, cost) VALUES ('M', '2026-01-05Z', 'xai', 0.05);

            INSERT INTO trading.positions (environment, platform_id, market_ticker, side, entry_price, entry_time, strategy_id)
            SELECT 'paper', 'kalshi', 'M', 'yes', 0.6, '2026-01-05Z', strategy_id FROM research.strategies;
            INSERT INTO trading.position_versions (environment, position_id, valid_from, quantity, status)
            SELECT environment, position_id, entry_time, 100, 'open' FROM trading.positions;
            INSERT INTO trading.position_exits (environment, position_id, exited_at, exit_condition, exit_priority, quantity_exited,
                                                exit_price)
            SELECT environment, position_id, '2026-01-06Z', 'stop_loss', 'CRITICAL', 40, 0.5 FROM trading.positions;
            INSERT INTO trading.exit_attempts (environment, position_id, attempted_at, attempt_number, exit_condition, priority_level,
                                               order_type, quantity)
            SELECT environment, position_id, '2026-01-06Z', 1, 'stop_loss', 'CRITICAL', 'market', 40 FROM trading.positions;
            INSERT INTO trading.trades (environment, platform_id, fill_id, market_ticker, position_id, edge_id, side, contract_side, price,
                                        quantity, executed_at)
            SELECT environment, 'kalshi', 'F', 'M', position_id, edge_id, 'buy', 'yes', 0.6, 100, entry_time
            FROM trading.positions, research.edges;
            INSERT INTO trading.account_balances (environment, platform_id, currency, valid_from, balance)
            VALUES ('paper', 'kalshi', 'USD', '2026-01-05Z', 1000);
            INSERT INTO trading.cash_ledger (environment, platform_id, reference, reason, amount, occurred_at, trade_id)
            SELECT environment, platform_id, 'F fill', 'fill', -60, executed_at, trade_id FROM trading.trades;
            INSERT INTO trading.performance_daily (environment, platform_id, date, total_pnl, num_trades, portfolio_value)
            VALUES ('paper', 'kalshi', '2026-01-06', -4, 1, 996);

            INSERT INTO backtest.runs (strategy_name, strategy_version, random_seed, config_yaml, date_start_local, date_end_local,
                                       series_tickers, asof_policy_id, trade_window_policy)
            VALUES ('s', 'v1.0', 7, '', '2026-01-01', '2026-01-31', '{S}', 'candle_close_1m', 'all');
            INSERT INTO backtest.trades (run_id, market_ticker, decision_ts, side, qty, entry_price, entry_fee, entry_time,
                                         entry_candle_end_ts, entry_candle_minutes)
            SELECT run_id, 'M', '2026-01-05Z', 'buy_yes', 1, 0.6, 0.01, '2026-01-05Z', '2026-01-05Z', 60 FROM backtest.runs;

            INSERT INTO ops.config_overrides (config_key, override_value, data_type, reason, applied_by)
            VALUES ('trading.max_spread', '0.08', 'float', 'thin books', 'ann');
            INSERT INTO ops.circuit_breaker_events (breaker_type) VALUES ('api_failures');
            INSERT INTO ops.system_health (component, status) VALUES ('database', 'healthy');
            INSERT INTO ops.ai_costs (date, provider, total_cost, num_calls) VALUES ('2026-01-05', 'xai', 0.05, 1);
            """
        )


@contextmanager
def backend(url: str) -> Iterator[DatabaseBackend]:
    opened = yoyo.get_backend(yoyo_url(url))
    yield opened
    opened.connection.close()


def test_yoyo_applies_everything_and_takes_everything_back(empty_database: str) -> None:
    before = objects(empty_database)
    run_yoyo("apply", url=empty_database)
    assert {("schema", "catalog"), ("schema", "market_data"), ("schema", "ops")} <= objects(empty_database)
    fill(empty_database)
    assert ("relation", "candlesticks_2026_01") in objects(empty_database)
    run_yoyo("rollback", "--all", url=empty_database)
    assert objects(empty_database) == before


def test_each_step_can_be_taken_back_and_made_again(empty_database: str, database_url: str) -> None:
    """As pg_dump sees it; `kalshidb check schema` proves the same by its own reading of the catalogs."""
    with backend(empty_database) as database:
        below = schema(empty_database)
        for migration in yoyo.read_migrations(str(MIGRATIONS)):
            database.apply_one(migration)
            database.rollback_one(migration)
            assert schema(empty_database) == below, f"the rollback of {migration.id} leaves something or takes too much"
            database.apply_one(migration)
            above = schema(empty_database)
            assert above != below, f"{migration.id} changes nothing"
            below = above
    assert below == schema(database_url), "made a second time, a migration makes another schema"


def test_migrate_makes_what_yoyo_makes_and_yoyo_agrees(empty_database: str, database_url: str) -> None:
    run_yoyo("apply", url=empty_database)
    assert schema(database_url) == schema(empty_database)
    assert pending(database_url) == pending(empty_database) == ([], IDS)
    for url in database_url, empty_database:
        table = [line.split() for line in run_yoyo("list", url=url).splitlines()]
        assert [(row[0], row[1]) for row in table[2:]] == [("A", identity) for identity in IDS], "each is marked as applied"
        assert run_yoyo("apply", url=url).strip() == ""
    assert migrate(empty_database) == []


def test_migrate_goes_on_from_where_yoyo_stopped(empty_database: str, database_url: str) -> None:
    run_yoyo("apply", "--revision", IDS[3], url=empty_database)
    assert migrate(empty_database) == IDS[4:]
    assert schema(empty_database) == schema(database_url)


def test_what_migrate_applied_yoyo_takes_back(empty_database: str) -> None:
    before = objects(empty_database)
    assert migrate(empty_database) == IDS
    run_yoyo("rollback", "--all", url=empty_database)
    assert objects(empty_database) == before


@pytest.mark.parametrize("identity", IDS)
def test_a_migration_says_why_what_it_locks_and_how_it_is_undone(identity: str) -> None:
    header = re.match(r"(--.*\n)+", (MIGRATIONS / f"{identity}.sql").read_text()).group()  # type: ignore[union-attr]
    lines = [line.removeprefix("--").strip() for line in header.splitlines()]
    assert lines[0].endswith("."), "the first line is a sentence"
    for word in "Why:", "Locks:", "Undo:":
        assert any(line.startswith(word) and len(line) > len(word) + 10 for line in lines), f"no {word}"
    previous = IDS.index(identity) - 1
    depends = [line.removeprefix("depends:").split() for line in lines if line.startswith("depends:")]
    assert depends == ([[IDS[previous]]] if previous >= 0 else []), "each depends on the one before it"
    rollback = MIGRATIONS / f"{identity}.rollback.sql"
    assert rollback.exists()
    assert "CASCADE" not in rollback.read_text(), "a rollback takes nothing that it does not name"


def test_no_rollback_lacks_its_migration() -> None:
    rollbacks = {path.stem.removesuffix(".rollback") for path in MIGRATIONS.glob("*.rollback.sql")}
    assert rollbacks == set(IDS)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


# A migration stops at its first view, until the test lets go of the lock.
GATE = """
    CREATE FUNCTION public.gate() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(4711); END';
    CREATE EVENT TRIGGER gate ON ddl_command_start WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION public.gate();
"""


def test_a_killed_migrate_leaves_nothing_half_done_and_the_next_one_succeeds(empty_database: str, database_url: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as gate:
        gate.execute(GATE)
        gate.execute("SELECT pg_advisory_lock(4711)")
        waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database() {}"
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, empty_database])
        until(lambda: gate.execute(waiting.format("AND NOT granted")).fetchone() != (0,))
        process.send_signal(signal.SIGKILL)
        process.wait()
        gate.execute("SELECT pg_advisory_unlock(4711)")
        until(lambda: gate.execute(waiting.format("AND pid <> pg_backend_pid()")).fetchone() == (0,))
        marked = [row[0] for row in gate.execute("SELECT migration_id FROM _yoyo_migration ORDER BY 1").fetchall()]
        assert marked == IDS[:2], "0003 has the first view"
        assert ("relation", "market_versions") not in objects(empty_database)
        gate.execute("DROP EVENT TRIGGER gate; DROP FUNCTION public.gate")
    assert migrate(empty_database) == IDS[2:]
    assert schema(empty_database) == schema(database_url)


def test_a_failing_migration_leaves_nothing_of_itself_and_the_ones_before_it(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "0001.good.sql").write_text("CREATE TABLE public.good ();")
    (tmp_path / "0002.bad.sql").write_text(
        "-- depends: 0001.good\n\nCREATE TABLE public.half ();\nCREATE TABLE public.bad (x nonsense);"
    )
    with pytest.raises(
        Interrupted, match=r'0002\.bad\.sql:4: type "nonsense" does not exist\n  in statement 2: CREATE TABLE public\.bad'
    ):
        migrate(empty_database, tmp_path)
    assert {name for _, name in objects(empty_database)} >= {"good"}
    assert not {name for _, name in objects(empty_database)} & {"half", "bad"}
    assert pending(empty_database, tmp_path) == (["0002.bad"], ["0001.good"])
    (tmp_path / "0002.bad.sql").write_text("-- depends: 0001.good\nCREATE TABLE public.bad ();")
    assert migrate(empty_database, tmp_path) == ["0002.bad"]


def test_a_migration_outside_of_transactions_is_applied_too(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "0001.table.sql").write_text("CREATE TABLE public.t (x integer);")
    (tmp_path / "0002.index.sql").write_text(
        "-- transactional: false\n-- depends: 0001.table\nCREATE INDEX CONCURRENTLY t_x_idx ON public.t (x);"
    )
    assert migrate(empty_database, tmp_path) == ["0001.table", "0002.index"]
    assert ("relation", "t_x_idx") in objects(empty_database)
    assert migrate(empty_database, tmp_path) == []


def test_a_lock_that_a_killed_yoyo_left_is_broken_when_no_session_can_be_its(empty_database: str) -> None:
    with backend(empty_database) as database:
        database.ensure_internal_schema_updated()
        database._insert_lock_row(12345, 1)
    told: list[str] = []
    assert migrate(empty_database, report=lambda event: told.append(f"{event.kind}: {event.detail}")) == IDS
    assert [line for line in told if line.startswith("broke lock: process 12345 had taken yoyo's lock at ")]


def test_a_lock_whose_yoyo_may_live_is_respected_and_named(empty_database: str) -> None:
    with backend(empty_database) as database:
        database.ensure_internal_schema_updated()
        database._insert_lock_row(12345, 1)
        with pytest.raises(
            MigrationError, match=r"process 12345 took yoyo's lock .*these sessions: server process \d+ .*break-lock"
        ):
            migrate(empty_database, options=Options(wait=0.3))
        assert objects(empty_database) == objects(empty_database) & {("schema", "public")}
        database.break_lock()
    assert migrate(empty_database) == IDS


def test_an_address_with_a_host_in_the_query_reaches_the_same_database(empty_database: str) -> None:
    parts = urlsplit(empty_database)
    host = parse_qs(parts.query)["host"][0]
    assert migrate(f"host={host} dbname={parts.path[1:]} user=postgres port=5432") == IDS
    assert pending(empty_database) == ([], IDS)
