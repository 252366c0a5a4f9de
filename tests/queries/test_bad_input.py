"""What is wrong is refused: by the model before anything is sent, where it can know, with field and value; else by the database,
whose error names the constraint, and which the statement's name and values follow."""

# ruff: noqa: ANN401  (a bad value is of any type)

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from sample_rows import DAY, HOUR, NOON, book, candle, market, quote, trade
from trading_rows import T80, declared, dollars, fill, left, markets, opened, strategy

from kalshidb.api.backtests import BacktestRequest
from kalshidb.models.backtest import Run
from kalshidb.models.catalog import Station
from kalshidb.models.ops import ConfigOverride, SystemHealth
from kalshidb.models.research import MarketAnalysisInput, ProbabilityMatrix
from kalshidb.models.trading import ExitAttempt
from kalshidb.queries import catalog, market_data, ops, trading
from kalshidb.typedsql import ParameterError, load_statements

QUERIES = Path(__file__).parents[2] / "queries"
NAIVE = datetime(2026, 7, 19, 12)  # noqa: DTZ001  (that is what is wrong with it)


# -- before the server -------------------------------------------------------------------------------------------------------------


def test_lists_that_a_statement_reads_side_by_side_must_be_of_one_length(pg: psycopg.Connection) -> None:
    side_by_side: dict[str, set[str]] = {}
    for statement in load_statements(QUERIES):
        for arguments in re.findall(r"\bunnest\(([^()]*)\)", statement.source.sql):
            names = [statement.source.parameters[int(number) - 1] for number in re.findall(r"\$(\d+)", arguments)]
            if len(names) > 1:
                side_by_side[statement.source.full_name] = set(names)
                assert set(names) in map(set, statement.source.paired_parameters), f"{statement.source.place}: @pairs {names}"
    assert side_by_side["trading.mark_positions"] == {"position_ids", "prices"}
    assert len(side_by_side) > 8
    with pytest.raises(ParameterError, match=r"position_ids \(2\) and prices \(1\) have unequal lengths"):
        trading.mark_positions(pg, environment="paper", position_ids=[1, 2], prices=[Decimal("0.5")], observed_at=NOON)


def analysis(**changes: Any) -> Any:
    row = {
        "market_ticker": T80,
        "analyzed_at": NOON,
        "ai_provider": "xai",
        "cost": "0.05",
        "decision": "SKIP",
        "confidence": "0.5",
    }
    return MarketAnalysisInput(**(row | changes))


def of(model: Any, **values: Any) -> Callable[[], Any]:
    """Make a model from what is wrong alone: of the errors that follow, only those of the fields that are given count."""
    return lambda: model(**values)


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (lambda: quote(yes_bid=dollars("1.01")), "yes_bid", "1.01"),
        (lambda: candle(price_close=dollars("-0.01")), "price_close", "-0.01"),
        (lambda: trade(yes_price=dollars("1.01")), "yes_price", "1.01"),
        (lambda: market(last_price=dollars("1.01")), "last_price", "1.01"),
        (lambda: fill(price=dollars("1.01")), "price", "1.01"),
        (lambda: quote(yes_bid=dollars("0.1234567")), "yes_bid", "0.1234567"),
        (lambda: analysis(confidence=dollars("-0.1")), "confidence", "-0.1"),
        (of(ProbabilityMatrix, win_probability=dollars("-0.1")), "win_probability", "-0.1"),
        (of(Run, win_rate=dollars("1.1")), "win_rate", "1.1"),
        (lambda: quote(at=NAIVE), "snapshot_time", "2026-07-19"),
        (lambda: candle(end=NAIVE), "end_period_ts", "2026-07-19"),
        (lambda: fill(at=NAIVE), "executed_at", "2026-07-19"),
        (lambda: trade(taker_side="maybe"), "taker_side", "maybe"),
        (lambda: fill(side="hold"), "side", "hold"),
        (lambda: fill(contract_side="maybe"), "contract_side", "maybe"),
        (lambda: fill(environment="real"), "environment", "real"),
        (lambda: quote(source="rumour"), "source", "rumour"),
        (lambda: fill(quantity=Decimal(-1)), "quantity", "-1"),
        (lambda: fill(quantity=Decimal(0)), "quantity", "0"),
        (lambda: candle(volume=Decimal(-1)), "volume", "-1"),
        (lambda: book(yes_bid_quantities=[Decimal(1), Decimal("1.001")]), "yes_bid_quantities.1", "1.001"),
        (lambda: market("KX HIGH"), "market_ticker", "KX HIGH"),
        (lambda: analysis(cost=dollars("-0.05")), "cost", "-0.05"),
        (lambda: analysis(decision="BUY"), "decision", "BUY"),
        (of(ExitAttempt, exit_condition="boredom"), "exit_condition", "boredom"),
        (of(ExitAttempt, priority_level="URGENT"), "priority_level", "URGENT"),
        (of(ExitAttempt, attempt_number=0), "attempt_number", "0"),
        (of(ExitAttempt, order_type="stop"), "order_type", "stop"),
        (of(SystemHealth, status="fine"), "status", "fine"),
        (of(ConfigOverride, config_key="Max Spread"), "config_key", "Max Spread"),
        (of(Station, latitude=Decimal(91)), "latitude", "91"),
        (lambda: BacktestRequest(strategy="", start_date=date(2026, 1, 1), end_date=date(2026, 2, 1)), "strategy", ""),
        (lambda: BacktestRequest(strategy="x" * 101, start_date=date(2026, 1, 1), end_date=date(2026, 2, 1)), "strategy", "xxx"),
    ],
)
def test_a_model_refuses_what_it_can_know_and_names_field_and_value(make: Callable[[], Any], field: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make()
    found = [error for error in refused.value.errors() if ".".join(map(str, error["loc"])) == field]
    assert [error["type"] for error in found if error["type"] != "missing"], refused.value
    assert value in str(found[0]["input"])


def test_a_backtest_that_ends_before_it_begins_is_refused_with_both_days() -> None:
    with pytest.raises(ValidationError, match=r"end_date must be after start_date: 2026-01-01 is not after 2026-02-01"):
        BacktestRequest(strategy="fade", start_date=date(2026, 2, 1), end_date=date(2026, 1, 1))


def test_a_fill_without_its_environment_is_no_fill() -> None:
    given = fill().model_dump(exclude={"environment"})
    with pytest.raises(ValidationError, match=r"environment\n +Field required"):
        type(fill()).model_validate(given)


def test_a_function_without_its_environment_cannot_be_called(pg: psycopg.Connection) -> None:
    with pytest.raises(TypeError, match="environment"):
        trading.open_positions(pg)  # type: ignore[call-overload]
    with pytest.raises(ParameterError, match=r"queries/trading/positions\.sql:\d+: .*parameter environment is None"):
        opened(pg, environment=None)


def test_a_time_without_zone_is_refused_before_it_is_sent(pg: psycopg.Connection) -> None:
    with pytest.raises(ParameterError, match=r"parameter entry_time has no time zone \(2026-07-19T12:00:00\); write tzinfo=UTC"):
        opened(pg, at=NAIVE)
    with pytest.raises(ParameterError, match="parameter decision_times has no time zone"):
        market_data.quotes_as_of(pg, market_tickers=[T80], decision_times=[NAIVE], max_age=DAY)


def test_a_misspelt_word_is_an_error_at_the_call(pg: psycopg.Connection) -> None:
    with pytest.raises(TypeError, match="tickr"):
        catalog.market_by_ticker(pg, market_tickr=T80)  # type: ignore[call-overload]


# -- from the server ---------------------------------------------------------------------------------------------------------------


def refused(pg: psycopg.Connection, call: Callable[[], Any], constraint: str, *said: str) -> psycopg.Error:
    """Run what must be refused by a constraint; what was said about it has these words."""
    with pytest.raises(psycopg.errors.Error) as error, pg.transaction():
        call()
    assert error.value.diag.constraint_name == constraint, error.value
    assert (error.value.sqlstate or "")[:2] == "23"
    told = "\n".join([str(error.value), *getattr(error.value, "__notes__", [])])
    for words in said:
        assert words in told, told
    return error.value


def exit_of(position: Any, quantity: str, **changes: Any) -> dict[str, Any]:
    row = {"quantity_exited": Decimal(quantity), "exit_condition": "profit_target", "exit_price": dollars("0.7")}
    return {"environment": position.environment, "position_id": position.position_id, "exited_at": NOON + HOUR} | row | changes


@pytest.mark.parametrize(
    ("changes", "constraint", "said"),
    [
        ({"entry_price": dollars("1.01")}, "price_range_check", "entry_price=Decimal('1.01')"),
        ({"side": "maybe"}, "side_word_check", "side='maybe'"),
        ({"environment": "real"}, "environment_word_check", "environment='real'"),
        ({"quantity": Decimal(-1)}, "contracts_range_check", "quantity=Decimal('-1')"),
        ({"quantity": Decimal(0)}, "position_versions_quantity_check", "quantity=Decimal('0')"),
    ],
)
def test_a_function_gives_the_rule_and_the_values(
    pg: psycopg.Connection, changes: dict[str, Any], constraint: str, said: str
) -> None:
    markets(pg)
    refused(pg, lambda: opened(pg, **changes), constraint, said, "trading.open_position(")


def test_an_exit_is_never_larger_than_its_position(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    left(pg, position, NOON + HOUR, "60", "0.7")
    error = refused(
        pg, lambda: left(pg, position, NOON + 2 * HOUR, "40.01", "0.7"), "position_exits_overexit_check",
        "quantity_exited=Decimal('40.01')", "cannot lose 100.01 contracts: 100.00 entered it",
    )  # fmt: skip
    assert "may not exceed" in str(error.diag.message_hint)


def test_an_exit_has_a_known_condition(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    refused(pg, lambda: left(pg, position, NOON + HOUR, "1", "0.7", "boredom"), "exit_condition_word_check", "'boredom'")


def test_a_config_is_never_edited(pg: psycopg.Connection) -> None:
    first = strategy(pg)
    error = refused(
        pg,
        lambda: pg.execute("""UPDATE research.strategies SET config = '{"min_lead": 10}' WHERE strategy_id = %s""", [first.strategy_id]),
        "strategies_immutable_config", "research.strategies.config cannot be changed from", '"min_lead": 7', '"min_lead": 10',
    )  # fmt: skip
    assert "insert a new version" in str(error.diag.message_hint)
    assert error.diag.column_name == "config"


def test_two_payouts_make_a_dollar(pg: psycopg.Connection) -> None:
    markets(pg)
    wrong = declared().model_copy(update={"no_payout": dollars("0.1")})
    refused(pg, lambda: catalog.insert_settlements(pg, [wrong]), "settlements_yes_payout_no_payout_check", "0.100000")


def test_two_prices_of_a_trade_make_a_dollar(pg: psycopg.Connection) -> None:
    wrong = trade(no_price=dollars("0.7"))
    refused(pg, lambda: market_data.insert_public_trades(pg, [wrong]), "public_trades_yes_price_no_price_check", "0.700000")


def test_nobody_bids_above_the_offer(pg: psycopg.Connection) -> None:
    wrong = quote(yes_bid=dollars("0.45"))
    refused(pg, lambda: market_data.upsert_price_snapshots(pg, [wrong]), "price_snapshots_bid_below_ask_check", "0.450000")


def test_the_low_of_a_candle_is_not_above_its_high(pg: psycopg.Connection) -> None:
    wrong = candle(yes_bid_low=dollars("0.5"), yes_bid_high=dollars("0.4"))
    refused(pg, lambda: market_data.upsert_candlesticks(pg, [wrong]), "candlesticks_yes_bid_low_yes_bid_high_check", "0.500000")


def test_a_window_ends_after_it_starts(pg: psycopg.Connection) -> None:
    refused(
        pg,
        lambda: ops.begin_checkpoint(
            pg, job_name="j", series_ticker="S", event_ticker="E", window_start_ts=NOON, window_end_ts=NOON - DAY
        ),
        "backfill_checkpoints_window_check", "window_end_ts=datetime.datetime(2026, 7, 18",
    )  # fmt: skip


def test_a_strategy_has_a_version_and_a_type_that_are_known(pg: psycopg.Connection) -> None:
    refused(pg, lambda: strategy(pg, "first"), "version_form_check", "strategy_version='first'")
    refused(pg, lambda: strategy(pg, strategy_type="hope"), "strategies_strategy_type_check", "strategy_type='hope'")
    refused(pg, lambda: strategy(pg, config=[1]), "strategies_config_check", "research.register_strategy(")


def run(**changes: Any) -> tuple[str, dict[str, Any]]:
    row = {
        "strategy_name": "fade", "strategy_version": "v1.0", "random_seed": 1, "config_yaml": "{}", "date_start_local": "2026-01-01",
        "date_end_local": "2026-01-31", "series_tickers": ["KXHIGHNY"], "asof_policy_id": "candle_close_1m", "trade_window_policy": "all",
    }  # fmt: skip
    return "backtest.runs", row | changes


def simulated(**changes: Any) -> tuple[str, dict[str, Any]]:
    row = {
        "run_id": "00000000-0000-0000-0000-000000000001", "market_ticker": T80, "decision_ts": NOON, "side": "buy_yes", "qty": 1,
        "entry_price": "0.4", "entry_fee": "0.01", "entry_time": NOON, "entry_snapshot_time": NOON, "entry_snapshot_source": "poll",
    }  # fmt: skip
    return "backtest.trades", row | changes


def held(table: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """A row of a position that is there: environment and number are those of the one that the test opens."""
    return f"trading.{table}", {"environment": "paper"} | values


@pytest.mark.parametrize(
    ("row", "constraint", "said"),
    [
        (run(date_end_local="2025-12-31"), "runs_date_end_local_check", "2025-12-31"),
        (run(status="paused", finished_at=NOON), "runs_status_check", "paused"),
        (run(win_rate="1.1"), "probability_range_check", ""),
        (run(asof_policy_id="psychic"), "runs_asof_policy_id_fkey", "psychic"),
        (simulated(side="sell"), "trades_side_check", "sell"),
        (simulated(exit_time=NOON - HOUR, exit_price="0.5"), "trades_exit_time_check", "2026-07-19 11:00:00"),
        (simulated(entry_snapshot_time=NOON + HOUR), "trades_entry_look_ahead_check", "2026-07-19 13:00:00"),
        (
            held("position_exits", exited_at=NOON, exit_condition="stop_loss", exit_priority="LOW", quantity_exited=1, exit_price="0.1"),
            "position_exits_exit_priority_check", "stop_loss, LOW",
        ),
        (
            held("exit_attempts", attempted_at=NOON, attempt_number=1, exit_condition="rebalance", priority_level="LOW",
                 order_type="limit", quantity=1),
            "exit_attempts_limit_price_check", "limit, null",
        ),
        (
            ("research.probability_matrices", {"category": "sports", "subcategory": "nfl", "version": "v1.0", "state_descriptor": "q1",
                                              "value_bucket": "10+", "win_probability": "0.5", "confidence_interval_lower": "0.6"}),
            "probability_matrices_confidence_interval_check", "0.600000",
        ),
        (
            ("ops.config_overrides", {"config_key": "a.b", "override_value": "1", "data_type": "bool", "reason": "x", "applied_by": "x"}),
            "config_overrides_override_value_check", "bool",
        ),
        (
            ("ops.config_overrides", {"config_key": "a.b", "override_value": "1", "data_type": "int", "reason": "x", "applied_by": "x",
                                     "applied_at": NOON, "expires_at": NOON - DAY}),
            "config_overrides_expires_at_check", "2026-07-18",
        ),
        (
            ("trading.account_balances", {"environment": "paper", "platform_id": "kalshi", "currency": "USD", "valid_from": NOON,
                                         "balance": "-1"}),
            "account_balances_balance_check", "-1.000000",
        ),
        (
            ("trading.cash_ledger", {"environment": "paper", "platform_id": "kalshi", "reference": "x", "reason": "deposit", "amount": "-5",
                                    "occurred_at": NOON}),
            "cash_ledger_amount_check", "-5.000000",
        ),
        (
            ("catalog.market_versions", {"market_ticker": T80, "valid_from": NOON, "valid_to": NOON - HOUR, "status": "active",
                                        "created_at": NOON}),
            "market_versions_valid_to_check", "2026-07-19 11:00:00",
        ),
    ],
)  # fmt: skip
def test_the_tables_themselves_refuse_what_gets_past_python(
    pg: psycopg.Connection, row: tuple[str, dict[str, Any]], constraint: str, said: str
) -> None:
    markets(pg)
    table, values = row
    if table in ("trading.position_exits", "trading.exit_attempts"):
        values = values | {"position_id": opened(pg).position_id}
    if table == "backtest.trades":
        first, given = run()
        insert(pg, first, given | {"run_id": values["run_id"]})
    refused(pg, lambda: insert(pg, table, values), constraint, said)


def insert(pg: psycopg.Connection, table: str, values: dict[str, Any]) -> None:
    pg.execute(
        psycopg.sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            psycopg.sql.Identifier(*table.split(".")),
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values)),
            psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() for _ in values),
        ),
        list(values.values()),
    )


# An exit without its environment has no position that it could leave, which is said first.
@pytest.mark.parametrize(
    "table", ["positions", "trades", "exit_attempts", "account_balances", "cash_ledger", "performance_daily"]
)
def test_no_row_of_trading_is_without_its_environment(pg: psycopg.Connection, table: str) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation) as error:
        pg.execute(psycopg.sql.SQL("INSERT INTO trading.{} DEFAULT VALUES").format(psycopg.sql.Identifier(table)))
    assert (error.value.diag.table_name, error.value.diag.column_name) == (table, "environment")
