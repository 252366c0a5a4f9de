"""The rules of the schema, held against the catalogue of a migrated database and the text of the migrations."""

# ruff: noqa: S608  (the rooms are a constant)

import re
from typing import Any

import psycopg
import pytest

from kalshidb.queries import STATEMENTS
from kalshidb.sqlfiles import sql_dir

TEXTS = {
    path.name: path.read_text()
    for folder in (sql_dir("migrations"), sql_dir("queries"))
    for path in sorted(folder.glob("**/*.sql"))
}
ROOMS = "('catalog', 'market_data', 'ops')"

# Names and natural keys are agreed: what reads this database from outside relies on them.
KEYS = {
    "catalog.platforms": "platform_id",
    "catalog.series": "series_ticker",
    "catalog.events": "event_ticker",
    "catalog.markets": "market_ticker",
    "catalog.market_versions": "market_ticker, valid_from",
    "catalog.settlements": "market_ticker, settled_at",
    "catalog.market_lifecycle": "market_ticker, event_type, occurred_at",
    "catalog.stations": "station_id",
    "market_data.candlesticks": "market_ticker, end_period_ts, period_interval_minutes",
    "market_data.price_snapshots": "market_ticker, snapshot_time, source",
    "market_data.orderbook_snapshots": "market_ticker, snapshot_time",
    "market_data.orderbook_deltas": "market_ticker, delta_time, sequence",
    "market_data.public_trades": "market_ticker, created_time, trade_id",
    "ops.ingest_runs": "run_id",
    "ops.rejected_payloads": "payload_sha256, kind",
    "ops.backfill_checkpoints": "job_name, series_ticker, event_ticker",
}
VIEWS = {"catalog.current_markets", "catalog.final_settlements", "market_data.orphan_trades", "market_data.sequence_gaps"}
# What each table must hold beyond its key; what the seeds ask for.
COLUMNS = {
    "catalog.series": "platform_id external_id category subcategory title frequency tags fee_type fee_multiplier"
    " settlement_sources metadata raw_json retrieved_at created_at updated_at",
    "catalog.events": "platform_id series_ticker external_id category subcategory title sub_title description strike_date"
    " open_time close_time status mutually_exclusive result metadata raw_json retrieved_at created_at updated_at",
    "catalog.markets": "platform_id event_ticker series_ticker external_id market_type title subtitle yes_sub_title no_sub_title"
    " category subcategory strike_type floor_strike cap_strike functional_strike custom_strike open_time close_time"
    " expiration_time expected_expiration_time status result settlement_value settlement_ts price_ranges last_price volume"
    " open_interest metadata raw_json retrieved_at created_at updated_at",
    "catalog.market_versions": "valid_to row_current_ind status yes_price no_price yes_bid yes_ask no_bid no_ask last_price volume"
    " open_interest settlement_value spread",
    "catalog.settlements": "platform_id event_ticker outcome payout final_yes_price final_no_price yes_payout no_payout",
    "catalog.stations": "name latitude longitude elevation timezone series_tickers",
    "market_data.candlesticks": "yes_bid_open yes_bid_high yes_bid_low yes_bid_close yes_ask_open yes_ask_high yes_ask_low"
    " yes_ask_close price_open price_high price_low price_close price_mean price_previous volume open_interest retrieved_at raw_json",
    "market_data.price_snapshots": "sequence yes_bid yes_ask no_bid no_ask last_price volume volume_24h open_interest liquidity"
    " status title category raw_json midpoint spread implied_probability",
    "market_data.public_trades": "count yes_price no_price taker_side is_block_trade",
    "ops.backfill_checkpoints": "window_start_ts window_end_ts last_success_ts fetched_through status notes attempts error",
    "ops.ingest_runs": "source rows_read rows_written rows_unchanged rows_rejected duration status",
    "ops.rejected_payloads": "payload errors first_seen_at last_seen_at seen_count resolved_at",
}


def test_everything_in_the_catalogue_has_a_comment(pg: psycopg.Connection) -> None:
    bare = pg.execute(
        f"""
        WITH rooms AS (SELECT oid, nspname FROM pg_namespace WHERE nspname IN {ROOMS})
        SELECT 'schema ' || nspname FROM rooms WHERE obj_description(oid, 'pg_namespace') IS NULL
        UNION ALL
        SELECT 'relation ' || c.oid::regclass FROM pg_class c JOIN rooms ON rooms.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT 'column ' || c.oid::regclass || '.' || attname
        FROM pg_class c JOIN rooms ON rooms.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid
        WHERE relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped AND col_description(c.oid, attnum) IS NULL
        UNION ALL
        SELECT 'domain ' || t.oid::regtype FROM pg_type t JOIN rooms ON rooms.oid = typnamespace
        WHERE typtype IN ('d', 'e') AND obj_description(t.oid, 'pg_type') IS NULL
        UNION ALL
        SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN rooms ON rooms.oid = pronamespace
        WHERE obj_description(p.oid, 'pg_proc') IS NULL
        """
    ).fetchall()
    assert bare == []


def constraints(pg: psycopg.Connection, where: str = "true") -> list[tuple[Any, ...]]:
    return pg.execute(
        f"""
        SELECT
            conrelid::regclass::text AS owner, relname, conname, contype,
            ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
                  JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place) AS columns
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
        WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {ROOMS})
            AND contype IN ('p', 'u', 'f', 'c', 'x') AND conparentid = 0 AND {where}
        ORDER BY 1, 3
        """
    ).fetchall()


def test_constraints_are_named_by_table_columns_and_kind(pg: psycopg.Connection) -> None:
    wrong = []
    for owner, table, name, kind, columns in constraints(pg):
        if kind == "p":
            right = name == f"{table}_pkey"
        elif kind in "fu":
            right = name == f"{table}_{'_'.join(columns)}_{'fkey' if kind == 'f' else 'key'}"
        else:
            # A check may be named for its rule, where it is about more than its columns' names would say.
            right = re.fullmatch(rf"{table}_[a-z0-9_]+_check", name) is not None
        if not right:
            wrong.append((owner, name))
    assert wrong == []


def test_a_domain_names_its_rule(pg: psycopg.Connection) -> None:
    found = pg.execute(
        "SELECT typname, conname FROM pg_constraint JOIN pg_type ON pg_type.oid = contypid"
        f" WHERE typnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {ROOMS}) AND contype = 'c'"
    ).fetchall()
    assert found
    assert [name for domain, name in found if not re.fullmatch(rf"{domain}_[a-z]+_check", name)] == []


def test_the_agreed_tables_exist_with_their_natural_keys(pg: psycopg.Connection) -> None:
    keys = {owner: ", ".join(columns) for owner, _, _, kind, columns in constraints(pg) if kind == "p"}
    assert keys == KEYS


def test_the_agreed_views_exist(pg: psycopg.Connection) -> None:
    found = pg.execute(f"SELECT schemaname || '.' || viewname FROM pg_views WHERE schemaname IN {ROOMS}").fetchall()
    assert {name for (name,) in found} == VIEWS


@pytest.mark.parametrize("table", COLUMNS)
def test_the_agreed_columns_exist(pg: psycopg.Connection, table: str) -> None:
    found = pg.execute("SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0", [table]).fetchall()
    assert set(COLUMNS[table].split()) - {name for (name,) in found} == set()


def test_each_index_says_which_statements_it_serves() -> None:
    known = {statement.source.full_name for statement in STATEMENTS} | VIEWS
    count = 0
    for name, text in TEXTS.items():
        for found in re.finditer(r"((?:^--.*\n)*)^CREATE (?:UNIQUE )?INDEX (\w+)", text, re.MULTILINE):
            count += 1
            comment = " ".join(line.removeprefix("--").strip() for line in found[1].splitlines())
            assert comment.startswith("Serves "), f"{name}: {found[2]} does not say what it serves"
            served = re.findall(r"\b(?:catalog|market_data|ops)\.[a-z_]+", comment)
            assert served or "the rule " in comment, f"{name}: {found[2]} serves nothing by name"
            assert set(served) - known == set(), f"{name}: {found[2]} serves what does not exist"
    assert count > 10


def test_no_index_is_left_of_another_index_of_its_table(pg: psycopg.Connection) -> None:
    """An index whose columns another one begins with is paid for at each write and never needed."""
    found = pg.execute(
        f"""
        SELECT narrow.indexrelid::regclass, wide.indexrelid::regclass
        FROM pg_index narrow JOIN pg_index wide ON wide.indrelid = narrow.indrelid AND wide.indexrelid <> narrow.indexrelid
        JOIN pg_class ON pg_class.oid = narrow.indrelid
        WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {ROOMS})
            AND narrow.indpred IS NULL AND wide.indpred IS NULL AND NOT narrow.indisunique
            AND starts_with(wide.indkey::text || ' ', narrow.indkey::text || ' ')
        """
    ).fetchall()
    assert found == []


def test_each_key_of_market_data_carries_the_market(pg: psycopg.Connection) -> None:
    found = constraints(pg, "relnamespace = 'market_data'::regnamespace AND contype IN ('p', 'u', 'f', 'x')")
    assert len(found) > 5
    assert [name for _, _, name, _, columns in found if "market_ticker" not in columns] == []


def test_unique_indexes_of_market_data_carry_the_market(pg: psycopg.Connection) -> None:
    found = pg.execute(
        """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relnamespace = 'market_data'::regnamespace AND indisunique
        """
    ).fetchall()
    assert [name for name, definition in found if "market_ticker" not in definition] == []


def test_only_public_trades_do_not_need_their_market(pg: psycopg.Connection) -> None:
    """Combos trade before the catalogue knows them."""
    keyed = {owner for owner, _, _, kind, _ in constraints(pg) if kind == "f"}
    assert {table for table in KEYS if table.startswith("market_data.")} - keyed == {"market_data.public_trades"}


def test_nothing_in_catalog_and_market_data_hides_work_in_triggers_or_rules(pg: psycopg.Connection) -> None:
    found = pg.execute(
        """
        SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE NOT tgisinternal AND relnamespace IN ('catalog'::regnamespace, 'market_data'::regnamespace)
        UNION ALL
        SELECT rulename FROM pg_rules WHERE schemaname IN ('catalog', 'market_data')
        """
    ).fetchall()
    assert found == []


def test_no_update_on_conflict_asks_the_clock() -> None:
    updates = [
        (name, update[0])
        for name, text in TEXTS.items()
        for update in re.finditer(r"DO UPDATE SET.*?(?=RETURNING|;)", re.sub(r"--.*", "", text), re.DOTALL)
    ]
    assert len(updates) > 5
    clocks = r"now\(|_timestamp\(|current_(?:time|date)|localtime|timeofday"
    assert [name for name, update in updates if re.search(clocks, update, re.IGNORECASE)] == []


def test_no_statement_reads_system_columns_or_merges() -> None:
    bare = {name: re.sub(r"--.*|'[^']*'", "", text) for name, text in TEXTS.items()}
    assert [name for name, text in bare.items() if re.search(r"\b(xmax|xmin|ctid|MERGE)\b", text)] == []


def test_numbers_are_exact_and_times_have_a_zone(pg: psycopg.Connection) -> None:
    wrong = pg.execute(
        f"""
        SELECT c.oid::regclass || '.' || attname, format_type(atttypid, atttypmod)
        FROM pg_class c JOIN pg_attribute ON attrelid = c.oid JOIN pg_type t ON t.oid = atttypid
        LEFT JOIN pg_type element ON element.oid = t.typelem AND t.typcategory = 'A'
        CROSS JOIN LATERAL (SELECT COALESCE(element.oid, NULLIF(t.typbasetype, 0), t.oid)) AS plain (type)
        WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {ROOMS}) AND relkind IN ('r', 'p')
            AND attnum > 0 AND NOT attisdropped
            AND (
                plain.type IN ('real'::regtype, 'double precision'::regtype, 'money'::regtype, 'timestamp'::regtype,
                               'time'::regtype, 'timetz'::regtype, 'json'::regtype, 'bpchar'::regtype)
                OR (plain.type = 'numeric'::regtype AND GREATEST(atttypmod, t.typtypmod) = -1)
            )
        """
    ).fetchall()
    assert wrong == []


def test_our_numbers_fit_in_arrow_decimals(pg: psycopg.Connection) -> None:
    wide = pg.execute(
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        f" WHERE table_schema IN {ROOMS} AND table_type = 'BASE TABLE'"
        " AND data_type = 'numeric' AND numeric_precision NOT BETWEEN 1 AND 38"
    ).fetchall()
    assert wide == []


def test_time_series_are_partitioned_once_by_time_without_a_default(pg: psycopg.Connection) -> None:
    found = pg.execute(
        """
        SELECT partrelid::regclass::text, partstrat::text, partnatts, partdefid, attname::text
        FROM pg_partitioned_table JOIN pg_attribute ON attrelid = partrelid AND attnum = partattrs[0] ORDER BY 1
        """
    ).fetchall()
    assert [(table, *rest) for table, *rest in found] == [
        ("market_data.candlesticks", "r", 1, 0, "end_period_ts"),
        ("market_data.orderbook_deltas", "r", 1, 0, "delta_time"),
        ("market_data.orderbook_snapshots", "r", 1, 0, "snapshot_time"),
        ("market_data.price_snapshots", "r", 1, 0, "snapshot_time"),
        ("market_data.public_trades", "r", 1, 0, "created_time"),
    ]


def test_no_column_default_is_relied_on(pg: psycopg.Connection) -> None:
    """The time travels in the row, and a missing value is an error of the statement that left it out."""
    defaults = pg.execute(
        f"""
        SELECT adrelid::regclass || '.' || attname FROM pg_attrdef
        JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum JOIN pg_class ON pg_class.oid = adrelid
        WHERE attgenerated = '' AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {ROOMS})
        """
    ).fetchall()
    assert defaults == []


def test_the_exchange_is_there_from_the_start(pg: psycopg.Connection) -> None:
    assert pg.execute("SELECT platform_id FROM catalog.platforms").fetchall() == [("kalshi",)]


@pytest.mark.parametrize("column", ["catalog.markets.status", "catalog.markets.result", "catalog.settlements.outcome"])
def test_a_new_word_of_the_exchange_stops_nothing(pg: psycopg.Connection, column: str) -> None:
    table, _, name = column.rpartition(".")
    checks = pg.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", [table]
    ).fetchall()
    assert [text for (text,) in checks if re.search(rf"\b{name}\b.*\b(ANY|IN)\b", text)] == []
