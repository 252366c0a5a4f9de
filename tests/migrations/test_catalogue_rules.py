"""The rules of the schema, held against the catalogue of a migrated database and the text of the migrations."""

# ruff: noqa: S608  (the rooms are a constant)

import re
from typing import Any

import psycopg
import pytest

from kalshidb.sqlfiles import sql_dir

TEXTS = {
    path.relative_to(folder.parent).as_posix(): path.read_text()  # not by name: three rooms have a trades.sql
    for folder in (sql_dir("migrations"), sql_dir("queries"))
    for path in sorted(folder.glob("**/*.sql"))
}
ROOMS = "('catalog', 'market_data', 'research', 'trading', 'backtest', 'ops')"

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
    "research.strategies": "strategy_name, strategy_version",
    "research.probability_models": "model_name, model_version",
    "research.probability_matrices": "category, subcategory, version, state_descriptor, value_bucket, situational_factors",
    "research.edges": "market_ticker, source_key, valid_from",
    "research.game_states": "event_ticker, external_game_id, valid_from",
    "research.market_analyses": "market_ticker, analyzed_at, ai_provider",
    "research.asof_policies": "asof_policy_id",
    "trading.positions": "market_ticker, environment, platform_id, side, entry_time",
    "trading.position_versions": "environment, position_id, valid_from",
    "trading.trades": "environment, platform_id, fill_id",
    "trading.position_exits": "environment, position_id, exited_at",
    "trading.exit_attempts": "environment, position_id, attempted_at, attempt_number",
    "trading.account_balances": "environment, platform_id, currency, valid_from",
    "trading.cash_ledger": "environment, platform_id, reference",
    "trading.performance_daily": "environment, platform_id, date",
    "backtest.runs": "run_id",
    "backtest.trades": "trade_id",
    "ops.ingest_runs": "run_id",
    "ops.ingest_requests": "run_id, request_number",
    "ops.coverage": "market_ticker, kind, period_interval_minutes",
    "ops.stream_gaps": "found_at, channel, sid",
    "ops.rejected_payloads": "payload_sha256, kind",
    "ops.backfill_checkpoints": "job_name, series_ticker, event_ticker",
    "ops.config_overrides": "override_id",
    "ops.circuit_breaker_events": "event_id",
    "ops.system_health": "component, last_check",
    "ops.ai_calls": "provider, call_id",
    "ops.ai_costs": "date, provider",
    "ops.retention_policies": "table_name",
}
VIEWS = {
    "catalog.current_markets", "catalog.final_settlements", "market_data.orphan_trades", "market_data.sequence_gaps",
    "research.active_strategies", "research.active_models", "research.current_edges", "research.current_game_states",
    "trading.open_positions", "trading.current_balances", "trading.trade_attribution",
    "ops.table_sizes", "ops.data_freshness", "ops.daily_ai_cost", "ops.partitions",
}  # fmt: skip
# What each table must hold beyond its key; what the seeds ask for.
COLUMNS = {
    "catalog.platforms": "platform_type display_name base_url websocket_url api_version auth_method fees_structure status created_at",
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
    "catalog.market_lifecycle": "source details",
    "catalog.stations": "name latitude longitude elevation timezone series_tickers",
    "market_data.candlesticks": "yes_bid_open yes_bid_high yes_bid_low yes_bid_close yes_ask_open yes_ask_high yes_ask_low"
    " yes_ask_close price_open price_high price_low price_close price_mean price_previous volume open_interest retrieved_at raw_json",
    "market_data.price_snapshots": "sequence yes_bid yes_ask no_bid no_ask last_price volume volume_24h open_interest liquidity"
    " status title category raw_json midpoint spread implied_probability seen_again",
    "market_data.orderbook_snapshots": "source sid sequence yes_bid_prices yes_bid_quantities no_bid_prices no_bid_quantities"
    " best_yes_bid best_yes_ask best_no_bid best_no_ask yes_depth no_depth",
    "market_data.orderbook_deltas": "sid side price delta",
    "market_data.public_trades": "count yes_price no_price taker_side is_block_trade",
    "research.strategies": "strategy_id strategy_type sport config description status paper_roi live_roi paper_trades_count"
    " live_trades_count created_at created_by notes",
    "research.probability_models": "model_id model_type sport config description status validation_accuracy"
    " validation_calibration validation_sample_size created_at created_by notes",
    "research.probability_matrices": "probability_id win_probability confidence_interval_lower confidence_interval_upper"
    " sample_size source methodology created_at",
    "research.edges": "edge_id probability_matrix_id strategy_id model_id valid_to row_current_ind expected_value"
    " true_win_probability market_implied_probability market_price confidence_level confidence_metrics recommended_action created_at",
    "research.game_states": "valid_to row_current_ind sport home_team away_team home_score away_score period time_remaining"
    " possession status sport_metadata created_at",
    "research.market_analyses": "analysis_text cost decision confidence metadata created_at",
    "research.asof_policies": "name description quote_lag forecast_lag max_age rules",
    "trading.positions": "position_id entry_price strategy_id model_id reason created_at updated_at",
    "trading.position_versions": "valid_to row_current_ind quantity fees status current_price unrealized_pnl unrealized_pnl_pct"
    " realized_pnl exit_price exit_time trailing_stop_state exit_reason exit_priority close_reason last_update created_at",
    "trading.trades": "trade_id order_id market_ticker position_id edge_id strategy_id model_id side price quantity fees"
    " edge_at_execution confidence_at_execution executed_at created_at",
    "trading.position_exits": "exit_condition exit_priority quantity_exited exit_price unrealized_pnl_at_exit created_at",
    "trading.exit_attempts": "exit_condition priority_level order_type limit_price fill_price quantity timeout_seconds success"
    " created_at",
    "trading.account_balances": "valid_to row_current_ind balance created_at",
    "trading.cash_ledger": "currency reason amount occurred_at market_ticker trade_id notes",
    "trading.performance_daily": "total_pnl num_trades win_rate portfolio_value daily_return max_drawdown created_at",
    "backtest.runs": "strategy_name strategy_version strategy_id git_sha random_seed config_yaml date_start_local date_end_local"
    " series_tickers asof_policy_id trade_window_policy status total_pnl sharpe_ratio max_drawdown win_rate num_trades metrics_json"
    " metadata artifact_path error created_at",
    "backtest.trades": "run_id station_id series_ticker event_ticker market_ticker decision_ts side qty entry_price entry_fee"
    " model_prob_yes model_ev_per_contract settled_result pnl entry_snapshot_time entry_snapshot_source exit_snapshot_time"
    " exit_snapshot_source entry_time exit_time exit_price signal_metadata notes",
    "ops.backfill_checkpoints": "window_start_ts window_end_ts last_success_ts fetched_through status notes attempts error",
    "ops.ingest_runs": "source rows_read rows_written rows_unchanged rows_rejected duration status",
    "ops.ingest_requests": "url params http_status body_bytes retrieved_at retrieved_until",
    "ops.coverage": "covered run_id updated_at",
    "ops.stream_gaps": "run_id reason last_received_at last_sequence next_sequence repaired_at",
    "ops.rejected_payloads": "payload errors first_seen_at last_seen_at seen_count resolved_at",
    "ops.config_overrides": "config_key override_value data_type reason applied_by applied_at expires_at ended_at active",
    "ops.circuit_breaker_events": "breaker_type triggered_at resolved_at trigger_value resolution_action notes",
    "ops.system_health": "status details alert_sent",
    "ops.ai_calls": "called_at cost created_at",
    "ops.ai_costs": "total_cost num_calls created_at",
    "ops.retention_policies": "hot_for warm_for keep_for archive_target",
}
# Our own vocabularies: these words and no other.
WORDS = {
    "catalog.platforms.platform_type": "trading data_source",
    "market_data.price_snapshots.source": "poll websocket backfill",
    "market_data.public_trades.taker_side": "yes no",
    "research.strategies.strategy_type": "entry exit sizing hedging",
    "research.strategies.status": "draft testing active inactive deprecated",
    "research.probability_models.model_type": "elo regression ensemble ml",
    "research.probability_models.status": "draft training validating active deprecated",
    "research.edges.confidence_level": "high medium low",
    "research.edges.recommended_action": "auto_execute alert ignore",
    "research.game_states.possession": "home away",
    "research.game_states.status": "scheduled pregame live halftime final delayed suspended postponed cancelled",
    "research.market_analyses.decision": "OPEN_YES OPEN_NO CLOSE SKIP",
    "trading.positions.environment": "live paper demo",
    "trading.positions.side": "yes no",
    "trading.position_versions.status": "open closed settled",
    "trading.position_versions.exit_reason": "stop_loss circuit_breaker trailing_stop time_based_urgent liquidity_dried_up"
    " profit_target partial_exit_target early_exit edge_disappeared rebalance",
    "trading.position_exits.exit_priority": "CRITICAL HIGH MEDIUM LOW",
    "trading.exit_attempts.order_type": "market limit",
    "trading.trades.side": "buy sell",
    "trading.trades.confidence_at_execution": "high medium low",
    "trading.cash_ledger.reason": "fill fee settlement deposit withdrawal correction",
    "backtest.runs.status": "running success failed",
    "backtest.trades.side": "buy_yes buy_no",
    "ops.backfill_checkpoints.status": "running success failed",
    "ops.config_overrides.data_type": "float int bool string json",
    "ops.circuit_breaker_events.breaker_type": "daily_loss_limit api_failures data_stale position_limit manual",
    "ops.system_health.status": "healthy degraded down",
    "ops.coverage.kind": "candlesticks trades orderbook",
    "ops.stream_gaps.reason": "sequence disconnect silence overflow channel_error",
}
# Numbers that may not be negative, and those between 0 and 1.
NOT_NEGATIVE = """
    catalog.markets.volume catalog.markets.open_interest catalog.market_versions.volume catalog.market_versions.open_interest
    market_data.candlesticks.volume market_data.price_snapshots.volume_24h research.strategies.paper_trades_count
    research.strategies.live_trades_count research.probability_models.validation_sample_size
    research.probability_matrices.sample_size research.game_states.home_score research.game_states.away_score
    research.market_analyses.cost trading.position_versions.quantity trading.position_versions.fees trading.trades.quantity
    trading.position_exits.quantity_exited trading.exit_attempts.quantity trading.exit_attempts.attempt_number
    trading.account_balances.balance trading.performance_daily.num_trades backtest.runs.num_trades backtest.runs.max_drawdown
    backtest.trades.qty backtest.trades.entry_fee ops.ai_calls.cost ops.ai_costs.total_cost ops.ai_costs.num_calls
    ops.backfill_checkpoints.attempts
"""
UP_TO_ONE = """
    catalog.markets.last_price catalog.market_versions.yes_price catalog.market_versions.no_price catalog.settlements.payout
    market_data.candlesticks.price_close market_data.price_snapshots.yes_bid market_data.public_trades.yes_price
    research.probability_matrices.win_probability research.probability_matrices.confidence_interval_lower
    research.probability_matrices.confidence_interval_upper research.probability_models.validation_accuracy
    research.probability_models.validation_calibration research.edges.true_win_probability
    research.edges.market_implied_probability research.edges.market_price research.market_analyses.confidence
    trading.positions.entry_price trading.position_versions.current_price trading.position_versions.exit_price
    trading.trades.price trading.position_exits.exit_price trading.exit_attempts.limit_price trading.exit_attempts.fill_price
    trading.performance_daily.win_rate backtest.runs.win_rate backtest.trades.entry_price backtest.trades.exit_price
    backtest.trades.model_prob_yes
"""


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
        UNION ALL
        SELECT 'trigger ' || tgname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN rooms ON rooms.oid = relnamespace
        WHERE NOT tgisinternal AND obj_description(t.oid, 'pg_trigger') IS NULL
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
            # The names of all columns of a natural key may be longer than a name can be.
            right = name in (
                f"{table}_{'_'.join(columns)}_{'fkey' if kind == 'f' else 'key'}",
                f"{table}_natural_key"[kind == "f" :],
            )
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
    found: dict[str, list[str]] = {}
    for owner, _, _, kind, columns in constraints(pg):
        if kind in "pu":
            found.setdefault(owner, []).append(", ".join(columns))
    assert {owner: KEYS.get(owner) if KEYS.get(owner) in keys else keys for owner, keys in found.items()} == KEYS


def test_the_agreed_views_exist(pg: psycopg.Connection) -> None:
    found = pg.execute(f"SELECT schemaname || '.' || viewname FROM pg_views WHERE schemaname IN {ROOMS}").fetchall()
    assert {name for (name,) in found} == VIEWS


def test_the_agreed_columns_exist(pg: psycopg.Connection) -> None:
    found = pg.execute(
        f"SELECT table_schema || '.' || table_name, array_agg(column_name::text) FROM information_schema.columns"
        f" WHERE table_schema IN {ROOMS} GROUP BY 1"
    ).fetchall()
    columns: dict[str, list[str]] = dict(found)
    assert {table: missing for table, words in COLUMNS.items() if (missing := set(words.split()) - set(columns[table]))} == {}
    assert COLUMNS.keys() == KEYS.keys()


def rules(pg: psycopg.Connection, column: str) -> list[str]:
    """What CHECKs say of a column alone, its domain's with the word VALUE and its table's with the column's name."""
    table, _, name = column.rpartition(".")
    found = pg.execute(
        """
        SELECT pg_get_constraintdef(c.oid) FROM pg_attribute a
        JOIN pg_constraint c ON c.contype = 'c' AND (c.contypid = a.atttypid OR (c.conrelid = a.attrelid AND c.conkey = ARRAY[a.attnum]))
        WHERE a.attrelid = %s::regclass AND a.attname = %s
        """,
        [table, name],
    ).fetchall()
    return [re.sub(rf"\b{name}\b", "VALUE", text) for (text,) in found]


def test_our_own_vocabularies_are_closed(pg: psycopg.Connection) -> None:
    found = {
        column: [set(re.findall(r"'(\w+)'::text", rule)) for rule in rules(pg, column) if "ANY (ARRAY[" in rule]
        for column in WORDS
    }
    assert found == {column: [set(words.split())] for column, words in WORDS.items()}


def test_numbers_have_their_ranges(pg: psycopg.Connection) -> None:
    least = r"VALUE\)?(?:::numeric)? >=? \(?[01]\b"
    assert [column for column in NOT_NEGATIVE.split() if not any(re.search(least, rule) for rule in rules(pg, column))] == []
    between = r"VALUE >= \(0\)::numeric\) AND \(VALUE <= \(1\)::numeric"
    assert [column for column in UP_TO_ONE.split() if not any(re.search(between, rule) for rule in rules(pg, column))] == []


def test_each_exit_condition_has_its_one_priority(pg: psycopg.Connection) -> None:
    priorities = {
        "CRITICAL": "stop_loss circuit_breaker",
        "HIGH": "trailing_stop time_based_urgent liquidity_dried_up",
        "MEDIUM": "profit_target partial_exit_target",
        "LOW": "early_exit edge_disappeared rebalance",
    }
    for priority, conditions in priorities.items():
        for condition in conditions.split():
            assert pg.execute("SELECT trading.priority_of(%s)", [condition]).fetchone() == (priority,), condition
    held = {
        owner
        for owner, _, name, kind, _ in constraints(pg)
        if kind == "c" and re.search(r"(exit_priority|priority_level)_check", name)
    }
    assert held == {"trading.position_versions", "trading.position_exits", "trading.exit_attempts"}


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


def test_no_statement_relies_on_a_column_default_where_tables_are_distributed(pg: psycopg.Connection) -> None:
    """The time travels in the row: a default is for rows that are written by hand, our statements name every such column."""
    defaults: dict[str, set[str]] = {}
    for table, column in pg.execute(
        """
        SELECT nspname || '.' || relname, attname FROM pg_attrdef
        JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum JOIN pg_class ON pg_class.oid = adrelid
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE attgenerated = '' AND nspname IN ('catalog', 'market_data') AND NOT relispartition
        """
    ):
        defaults.setdefault(table, set()).add(column)
    inserts = [
        (name, table, {column.strip() for column in columns.split(",")})
        for name, text in TEXTS.items()
        for table, columns in re.findall(r"INSERT INTO ((?:catalog|market_data)\.\w+)(?: AS \w+)?\s*\(([^)]*)\)", text)
    ]
    assert {table for _, table, _ in inserts} >= set(defaults) - {"catalog.stations"}
    assert [
        (name, table, defaults[table] - columns) for name, table, columns in inserts if defaults.get(table, set()) - columns
    ] == []


def test_a_person_writes_down_what_a_row_is_about_and_the_rest_is_filled_in(pg: psycopg.Connection) -> None:
    """The columns that the seeds name and no others; what a default cannot know is still asked for."""
    for statement in (
        "INSERT INTO catalog.platforms (platform_id, platform_type, display_name) VALUES ('poly', 'trading', 'Polymarket')",
        "INSERT INTO catalog.series (series_ticker, platform_id, external_id, category, title) "
        "VALUES ('S', 'poly', 'S', 'sports', 'Games')",
        "INSERT INTO catalog.events (event_ticker, platform_id, series_ticker, external_id, category, title) "
        "VALUES ('E', 'poly', 'S', 'E', 'sports', 'A game')",
        "INSERT INTO catalog.markets (market_ticker, platform_id, event_ticker, external_id, title, status) "
        "VALUES ('M', 'poly', 'E', 'M', 'Who wins?', 'open')",
        "INSERT INTO catalog.stations (station_id, name, latitude, longitude, timezone) "
        "VALUES ('KNYC', 'NY', 40.78, -73.97, 'America/New_York')",
        "INSERT INTO catalog.market_versions (market_ticker, valid_from, status, yes_price) VALUES ('M', '2026-07-01Z', 'open', 0.4)",
        "INSERT INTO catalog.settlements (market_ticker, settled_at, platform_id, outcome, payout) "
        "VALUES ('M', '2026-07-02Z', 'poly', 'yes', 1)",
        "INSERT INTO catalog.market_lifecycle (market_ticker, event_type, occurred_at, source) "
        "VALUES ('M', 'settled', '2026-07-02Z', 'poll')",
        "SELECT market_data.create_month_partitions(('market_data.' || name)::regclass, ARRAY['2026-07-01Z'::timestamptz]) "
        "FROM unnest(ARRAY['candlesticks', 'price_snapshots', 'public_trades']) AS tables (name)",
        "INSERT INTO market_data.candlesticks (market_ticker, end_period_ts, yes_bid_close) VALUES ('M', '2026-07-01Z', 0.4)",
        "INSERT INTO market_data.price_snapshots (market_ticker, snapshot_time, source, yes_bid) VALUES ('M', '2026-07-01Z', 'poll', 0.4)",
        "INSERT INTO market_data.public_trades (market_ticker, created_time, trade_id, count, yes_price, no_price) "
        "VALUES ('M', '2026-07-01Z', gen_random_uuid(), 1, 0.4, 0.6)",
        "INSERT INTO ops.backfill_checkpoints (job_name, series_ticker, event_ticker, window_start_ts, window_end_ts, status) "
        "VALUES ('candles', 'S', 'E', '2026-07-01Z', '2026-07-02Z', 'running')",
        "INSERT INTO trading.account_balances (environment, platform_id, valid_from, balance) VALUES ('live', 'poly', '2026-07-01Z', 100)",
    ):
        pg.execute(statement)
    row = pg.execute("SELECT is_stub, updated_at = created_at, retrieved_at <= clock_timestamp() FROM catalog.markets").fetchone()
    assert row == (False, True, True)
    assert pg.execute("SELECT period_interval_minutes FROM market_data.candlesticks").fetchone() == (1,)
    with pytest.raises(psycopg.errors.NotNullViolation, match="environment"):
        pg.execute("INSERT INTO trading.account_balances (platform_id, valid_from, balance) VALUES ('poly', '2026-07-01Z', 100)")


def test_the_exchange_is_there_from_the_start(pg: psycopg.Connection) -> None:
    assert pg.execute("SELECT platform_id FROM catalog.platforms").fetchall() == [("kalshi",)]


@pytest.mark.parametrize("column", ["catalog.markets.status", "catalog.markets.result", "catalog.settlements.outcome"])
def test_a_new_word_of_the_exchange_stops_nothing(pg: psycopg.Connection, column: str) -> None:
    table, _, name = column.rpartition(".")
    checks = pg.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", [table]
    ).fetchall()
    assert [text for (text,) in checks if re.search(rf"\b{name}\b.*\b(ANY|IN)\b", text)] == []
