"""Fills, attribution, cash and days: added once, never changed, and every sum checked against plain Python over the same rows."""

# ruff: noqa: S311  (chance is only to have many different rows)

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND
from trading_rows import T80, declared, dollars, fill, left, markets, model, opened, strategy

from kalshidb.models.trading import CashLedgerInput, ExitAttemptInput, PerformanceDailyInput
from kalshidb.queries import catalog, research, trading

SPAN: dict[str, Any] = {"environment": "paper", "executed_from": NOON - DAY, "executed_to": NOON + 9 * DAY}


def table(pg: psycopg.Connection, name: str) -> list[dict[str, Any]]:
    with pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SELECT * FROM {name}").fetchall()  # type: ignore[arg-type]  # noqa: S608


def rounded(value: Decimal | None, digits: str = "0.000001") -> Decimal | None:
    from decimal import ROUND_HALF_UP

    return None if value is None else value.quantize(Decimal(digits), ROUND_HALF_UP)


# -- fills -------------------------------------------------------------------------------------------------------------------------


def record(pg: psycopg.Connection, **changes: Any) -> int:  # noqa: ANN401
    return trading.record_trade(pg, **(fill().model_dump() | changes))


def test_a_fill_is_added_once_alone_and_in_bulk(pg: psycopg.Connection) -> None:
    rows = [fill(number, at=NOON + number * SECOND) for number in range(5)]
    assert trading.insert_trades(pg, rows).written == 5
    assert trading.insert_trades(pg, [*rows[::-1], fill(9)]).written == 1
    assert [record(pg, fill_id="F77"), record(pg, fill_id="F77"), record(pg, fill_id="F9")] == [1, 0, 0]
    assert len(trading.trades_between(pg, **SPAN)) == 7


def test_a_fill_that_comes_again_with_other_content_is_an_error_that_shows_the_fill(pg: psycopg.Connection) -> None:
    trading.insert_trades(pg, [fill(1)])
    pg.commit()
    for again in (lambda: trading.insert_trades(pg, [fill(2), fill(1, price=dollars("0.61"))]), lambda: record(pg, quantity=99)):
        with pytest.raises(errors.RestrictViolation) as refused:
            again()
        diag = refused.value.diag
        assert diag.constraint_name == "trades_append_only"
        assert '"fill_id": "F1"' in (diag.message_detail or "")
        pg.rollback()
    assert [row.fill_id for row in trading.trades_between(pg, **SPAN)] == ["F1"]


def test_a_fill_of_a_market_that_nobody_knows_is_not_lost(pg: psycopg.Connection) -> None:
    trading.insert_trades(pg, [fill(1, "KX-NEW")])
    stored = catalog.market_by_ticker(pg, market_ticker="KX-NEW")
    assert stored is not None
    assert stored.is_stub


def test_the_same_fill_id_in_another_environment_is_another_fill(pg: psycopg.Connection) -> None:
    assert trading.insert_trades(pg, [fill(environment=word) for word in ("live", "paper", "demo")]).written == 3
    assert len(trading.trades_between(pg, **SPAN)) == 1


@pytest.mark.parametrize(
    ("wrong", "constraint"),
    [
        ({"side": "hold"}, "trades_side_check"), ({"quantity": Decimal(0)}, "trades_quantity_check"),
        ({"price": dollars("1.01")}, "price_range_check"), ({"contract_side": "maybe"}, "side_word_check"),
        ({"environment": "backtest"}, "environment_word_check"), ({"fill_id": ""}, "trades_fill_id_check"),
        ({"confidence_at_execution": "sure"}, "trades_confidence_at_execution_check"),
    ],
)  # fmt: skip
def test_a_fill_that_cannot_be_is_refused_by_name(pg: psycopg.Connection, wrong: dict[str, Any], constraint: str) -> None:
    markets(pg)
    with pytest.raises(errors.CheckViolation) as refused:
        record(pg, **wrong)
    assert refused.value.diag.constraint_name == constraint


def story(pg: psycopg.Connection, seed: int = 3) -> None:
    """Two strategies in versions, two models, eight markets of which six settle, some hundred fills and positions."""
    chance = random.Random(seed)
    tickers = [f"KX-{number}" for number in range(8)]
    markets(pg, *tickers)
    strategies = [strategy(pg, version) for version in ("v1.0", "v1.1", "v1.10")] + [strategy(pg, name="other")]
    models = [model(pg, version) for version in ("v1.0", "v2.0")]
    edges: list[tuple[int, str]] = []
    for number in range(60):
        ticker = chance.choice(tickers)
        mine = chance.choice(models).model_id
        (edge,) = pg.execute(
            "INSERT INTO research.edges (market_ticker, strategy_id, model_id, valid_from, valid_to, expected_value,"
            " true_win_probability, market_implied_probability, market_price, confidence_level)"
            " VALUES (%s, %s, %s, %s, NULL, 0.1, %s, %s, 0.5, %s) ON CONFLICT DO NOTHING RETURNING edge_id",
            [ticker, chance.choice(strategies).strategy_id, mine, NOON - number * SECOND, chance.randrange(101) / Decimal(100),
             chance.randrange(101) / Decimal(100), chance.choice(["high", "low"])],
        ).fetchone() or (None,)  # fmt: skip
        if edge is not None:
            edges.append((edge, ticker))
    rows = []
    for number in range(200):
        edge, ticker = chance.choice(edges)
        rows.append(
            fill(
                number,
                ticker,
                NOON + number * MINUTE,
                environment=chance.choice(["live", "paper"]),
                edge_id=edge,
                strategy_id=chance.choice(strategies[:3]).strategy_id if number % 7 else None,
                model_id=chance.choice(models).model_id,
                side=chance.choice(["buy", "sell"]),
                contract_side=chance.choice(["yes", "no"]),
                price=chance.randrange(1, 100) / Decimal(100),
                quantity=chance.randrange(1, 5000) / Decimal(100),
                fees=None if number == 150 else chance.randrange(200) / Decimal(100),
            )
        )
    trading.insert_trades(pg, rows)
    for number in range(80):
        position = opened(
            pg, chance.choice(tickers), NOON + number * HOUR, chance.choice(["live", "paper"]), side=chance.choice(["yes", "no"]),
            entry_price=chance.randrange(1, 100) / Decimal(100), fees=chance.randrange(100) / Decimal(100),
            strategy_id=chance.choice(strategies[:2]).strategy_id, model_id=models[number % 2].model_id,
        )  # fmt: skip
        if number % 4:
            left(pg, position, NOON + number * HOUR + MINUTE, "30.5", str(chance.randrange(1, 100) / Decimal(100)))
            if number % 3:
                left(pg, position, NOON + number * HOUR + 2 * HOUR, "69.5", str(chance.randrange(1, 100) / Decimal(100)))
    outcomes = ["yes", "no", "yes", "no", "scalar", "void"]
    catalog.insert_settlements(
        pg, [declared(ticker, word, NOON + 5 * DAY) for ticker, word in zip(tickers, outcomes, strict=False)]
    )
    catalog.insert_settlements(pg, [declared(tickers[0], "no", NOON + 6 * DAY)])  # amended: the last one counts


def ended(pg: psycopg.Connection) -> list[dict[str, Any]]:
    """Return the positions that ended, each with its profit worked out from its exits."""
    held = {row["position_id"]: row for row in table(pg, "trading.positions")}
    sold: dict[int, Decimal] = defaultdict(Decimal)
    for row in table(pg, "trading.position_exits"):
        sold[row["position_id"]] += row["quantity_exited"] * (row["exit_price"] - held[row["position_id"]]["entry_price"])
    return [
        held[row["position_id"]] | {"pnl": sold[row["position_id"]], "fees": row["fees"], "exit_time": row["exit_time"],
                                    "quantity": row["quantity"]}
        for row in table(pg, "trading.position_versions") if row["valid_to"] is None and row["status"] == "closed"
    ]  # fmt: skip


def test_versions_of_a_strategy_side_by_side_as_plain_python_has_them(pg: psycopg.Connection) -> None:
    story(pg)
    numbers = {row["strategy_id"]: row["strategy_version"] for row in table(pg, "research.strategies")
               if row["strategy_name"] == "halftime_entry"}  # fmt: skip
    fills, closed = defaultdict(list), defaultdict(list)
    for row in table(pg, "trading.trades"):
        if row["strategy_id"] in numbers:
            fills[numbers[row["strategy_id"]], row["environment"]].append(row)
    for row in ended(pg):
        closed[numbers[row["strategy_id"]], row["environment"]].append(row)
    expected = {}
    for key in {*fills, *closed}:
        mine, done = fills[key], closed[key]
        contracts = sum(row["quantity"] for row in mine)
        expected[key] = (
            len(mine), contracts, rounded(sum(row["quantity"] * row["price"] for row in mine) / contracts),
            None if any(row["fees"] is None for row in mine) else sum(row["fees"] for row in mine),
            len(done), rounded(sum(row["pnl"] for row in done)) if done else None,
            rounded(sum(row["pnl"] - row["fees"] for row in done)) if done else None,
            rounded(Decimal(sum(row["pnl"] > row["fees"] for row in done)) / len(done)) if done else None,
        )  # fmt: skip
    found = research.compare_strategy_versions(pg, strategy_name="halftime_entry")
    assert {
        (row.strategy_version, row.environment): (
            row.trades, row.contracts, row.average_price, row.fees, row.closed_positions, row.pnl, row.pnl_after_fees, row.win_rate,
        ) for row in found
    } == expected  # fmt: skip
    assert [row.strategy_version for row in found] == ["v1.10", "v1.10", "v1.1", "v1.1", "v1.0", "v1.0"]
    assert any(row.fees is None for row in found), "an unknown fee makes the sum unknown"
    (idle,) = research.compare_strategy_versions(pg, strategy_name="other")
    assert (idle.environment, idle.trades, idle.closed_positions, idle.pnl) == (None, 0, 0, None)
    assert research.compare_strategy_versions(pg, strategy_name="unheard of") == []


def test_metrics_of_a_strategy_come_from_what_it_traded(pg: psycopg.Connection) -> None:
    story(pg)
    for version in ("v1.0", "v1.1", "v1.10"):
        number = strategy(pg, version).strategy_id
        row = research.refresh_strategy_metrics(pg, strategy_id=number)
        assert row is not None
        for word, roi, count in [("paper", row.paper_roi, row.paper_trades_count), ("live", row.live_roi, row.live_trades_count)]:
            done = [each for each in ended(pg) if each["strategy_id"] == number and each["environment"] == word]
            cost = sum(each["quantity"] * each["entry_price"] for each in done)
            assert roi == (rounded(sum(each["pnl"] - each["fees"] for each in done) / cost) if done else None)
            trades = [t for t in table(pg, "trading.trades") if t["strategy_id"] == number and t["environment"] == word]
            assert count == len(trades)
        pg.commit()
        assert research.refresh_strategy_metrics(pg, strategy_id=number) == row, "again it changes nothing, not even updated_at"
        pg.commit()


def test_versions_of_a_model_side_by_side_as_plain_python_has_them(pg: psycopg.Connection) -> None:
    story(pg)
    numbers = {row["model_id"]: row["model_version"] for row in table(pg, "research.probability_models")}
    edges = {row["edge_id"]: row for row in table(pg, "research.edges")}
    last: dict[str, str] = {}
    for row in sorted(table(pg, "catalog.settlements"), key=lambda each: each["settled_at"]):
        last[row["market_ticker"]] = row["outcome"]
    fills, used, closed = defaultdict(int), defaultdict(set), defaultdict(list)
    for row in table(pg, "trading.trades"):
        key = numbers[row["model_id"]], row["environment"]
        fills[key] += 1
        if last.get(edges[row["edge_id"]]["market_ticker"]) in ("yes", "no"):
            used[key].add(row["edge_id"])
    for row in ended(pg):
        closed[numbers[row["model_id"]], row["environment"]].append(row)

    def score(key: Any, column: str) -> Decimal | None:  # noqa: ANN401
        errors_ = [(edges[e][column] - (last[edges[e]["market_ticker"]] == "yes")) ** 2 for e in used[key]]
        return rounded(sum(errors_) / len(errors_)) if errors_ else None

    for row in research.compare_model_versions(pg, model_name="elo_nfl"):
        key = row.model_version, row.environment
        right = [
            abs(edges[e]["true_win_probability"] - (last[edges[e]["market_ticker"]] == "yes")) < Decimal("0.5") for e in used[key]
        ]
        assert (row.trades, row.settled_edges, row.closed_positions) == (fills[key], len(used[key]), len(closed[key]))
        assert row.accuracy == rounded(Decimal(sum(right)) / len(right))
        assert (row.brier_score, row.market_brier_score) == (
            score(key, "true_win_probability"), score(key, "market_implied_probability"),
        )  # fmt: skip
        assert row.pnl_after_fees == rounded(sum(each["pnl"] - each["fees"] for each in closed[key]))
    assert len(fills) == 4


def test_history_of_fills_with_edge_settlement_and_profit_after_fees(pg: psycopg.Connection) -> None:
    story(pg)
    edges = {row["edge_id"]: row for row in table(pg, "research.edges")}
    last: dict[str, dict[str, Any]] = {}
    for row in sorted(table(pg, "catalog.settlements"), key=lambda each: each["settled_at"]):
        last[row["market_ticker"]] = row
    stored = {row["trade_id"]: row for row in table(pg, "trading.trades") if row["environment"] == "paper"}
    found = trading.trade_history(pg, **SPAN)
    assert [row.executed_at for row in found] == sorted((row["executed_at"] for row in stored.values()), reverse=True)
    seen = set()
    for row in found:
        was, ended_ = stored[row.trade_id], last.get(row.market_ticker)
        assert (row.confidence_level, row.expected_value) == (edges[was["edge_id"]]["confidence_level"], dollars("0.1"))
        assert row.outcome == (ended_ and ended_["outcome"])
        pays = ended_ and ended_[f"{was['contract_side']}_payout"]
        if pays is None or was["fees"] is None:
            assert row.pnl_after_fees is None
        else:
            gain = (pays - was["price"]) * was["quantity"]
            assert row.pnl_after_fees == (gain if was["side"] == "buy" else -gain) - was["fees"]
        seen.add((row.outcome, row.side, row.contract_side))
    assert len(seen) > 15


@pytest.mark.parametrize(("contract_side", "pays"), [("yes", 0), ("no", 1)])
def test_an_outcome_whose_payouts_nobody_wrote_down_pays_by_its_word(
    pg: psycopg.Connection,
    contract_side: Any,  # noqa: ANN401
    pays: int,
) -> None:
    markets(pg)
    trading.insert_trades(
        pg, [fill(1, contract_side=contract_side, price=dollars("0.4"), quantity=dollars("10"), fees=dollars("0.1"))]
    )
    pg.execute(
        "INSERT INTO catalog.settlements (market_ticker, settled_at, platform_id, outcome) VALUES (%s, %s, 'kalshi', 'no')",
        [T80, NOON + DAY],
    )
    (found,) = trading.trade_history(pg, **SPAN)
    assert (found.payout, found.pnl_after_fees) == (pays, 10 * (pays - dollars("0.4")) - dollars("0.1"))


def test_attribution_names_the_exact_versions(pg: psycopg.Connection) -> None:
    markets(pg)
    rows = [
        fill(1, strategy_id=strategy(pg, "v1.0").strategy_id, model_id=model(pg, "v1.0").model_id),
        fill(2, at=NOON + HOUR, strategy_id=strategy(pg, "v1.1", config={"min_lead": 10}).strategy_id),
        fill(3, at=NOON + 2 * HOUR),
    ]
    trading.insert_trades(pg, rows)
    found = trading.trade_attribution_between(pg, **SPAN)
    assert [(row.fill_id, row.strategy_version, row.model_version) for row in found] == [
        ("F3", None, None), ("F2", "v1.1", None), ("F1", "v1.0", "v1.0"),
    ]  # fmt: skip
    assert [row.strategy_config for row in found] == [None, {"min_lead": 10}, {"min_lead": 7, "max_spread": "0.08"}]


def test_fills_are_found_by_market_position_strategy_and_edge(pg: psycopg.Connection) -> None:
    story(pg)
    stored = [row for row in table(pg, "trading.trades") if row["environment"] == "paper"]
    number = strategy(pg).strategy_id
    of_strategy = trading.trades_of_strategy(pg, strategy_id=number, **SPAN)
    assert {row.trade_id for row in of_strategy} == {row["trade_id"] for row in stored if row["strategy_id"] == number}
    of_market = trading.trades_of_market(pg, environment="paper", market_ticker="KX-3")
    assert {row.trade_id for row in of_market} == {row["trade_id"] for row in stored if row["market_ticker"] == "KX-3"}
    edge = stored[0]["edge_id"]
    assert {row.trade_id for row in trading.trades_of_edge(pg, edge_id=edge)} == {
        row["trade_id"] for row in table(pg, "trading.trades") if row["edge_id"] == edge
    }
    position = opened(pg, at=NOON + 30 * DAY, ticker="KX-3")
    trading.insert_trades(pg, [fill(1000, "KX-3", position_id=position.position_id)])
    assert [row.fill_id for row in trading.trades_of_position(pg, environment="paper", position_id=position.position_id)] == [
        "F1000"
    ]
    known = trading.trade_by_fill(pg, environment="paper", platform_id="kalshi", fill_id="F1000")
    assert known is not None
    assert known.position_id == position.position_id


# -- positions that ended ------------------------------------------------------------------------------------------------------------


def test_daily_profit_and_the_best_markets_as_plain_python_has_them(pg: psycopg.Connection) -> None:
    story(pg)
    live = [row for row in ended(pg) if row["environment"] == "live"]
    days, by_market = defaultdict(list), defaultdict(list)
    for row in live:
        days[row["exit_time"].astimezone(UTC).date()].append(row)
        by_market[row["market_ticker"]].append(row)
    span: dict[str, Any] = {"environment": "live", "exit_from": NOON - DAY, "exit_to": NOON + 30 * DAY}
    found = trading.daily_pnl(pg, **span)
    assert [row.trade_date for row in found] == sorted(days, reverse=True)

    def summed(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
        pnl = [row["pnl"] for row in rows]
        return (
            len(rows), rounded(sum(pnl)), rounded(sum(row["pnl"] - row["fees"] for row in rows)), rounded(sum(pnl) / len(rows)),
            rounded(Decimal(sum(each > 0 for each in pnl)) / len(rows)),
        )  # fmt: skip

    for row in found:
        assert (row.num_trades, row.total_pnl, row.total_pnl_after_fees, row.avg_pnl, row.win_rate) == summed(
            days[row.trade_date]
        )
    best = trading.best_markets(pg, **span, min_trades=3, how_many=3)
    expected = sorted((summed(rows)[1], name) for name, rows in by_market.items() if len(rows) >= 3)[::-1][:3]
    assert [(row.total_pnl, row.market_ticker) for row in best] == expected
    for each in best:
        assert (each.num_trades, each.total_pnl, each.total_pnl_after_fees, each.avg_pnl, each.win_rate) == summed(
            by_market[each.market_ticker]
        )
    assert len(by_market) > 3
    most = max(map(len, by_market.values()))
    busiest = trading.best_markets(pg, **span, min_trades=most, how_many=99)
    assert {row.market_ticker for row in busiest} == {name for name, rows in by_market.items() if len(rows) == most}
    assert len(busiest) < len(by_market)


def test_the_history_of_a_market_shows_open_and_closed_positions(pg: psycopg.Connection) -> None:
    markets(pg)
    first = opened(pg, entry_price=dollars("0.65"), reason="High confidence AI signal")
    trading.close_position(
        pg, environment="paper", position_id=first.position_id, exited_at=NOON + DAY, exit_condition="profit_target",
        exit_price=dollars("0.72"), fees=None, close_reason="Profit target reached",
    )  # fmt: skip
    opened(pg, at=NOON + DAY, side="no")
    found = trading.positions_of_market(pg, environment="paper", market_ticker=T80)
    assert [(row.side, row.status, row.pnl, row.exit_price) for row in found] == [
        ("no", "open", None, None), ("yes", "closed", 7, dollars("0.72")),
    ]  # fmt: skip
    assert (found[1].reason, found[1].close_reason) == ("High confidence AI signal", "Profit target reached")


def test_exits_by_condition_and_priority_as_plain_python_has_them(pg: psycopg.Connection) -> None:
    markets(pg)
    words: list[Any] = ["stop_loss", "trailing_stop", "rebalance", "profit_target", "stop_loss", "circuit_breaker"]
    for number, word in enumerate(words):
        left(pg, opened(pg, at=NOON + number * SECOND), NOON + number * MINUTE + MINUTE, "10", f"0.{50 + number}", word)
    span: dict[str, Any] = {"environment": "paper", "exited_from": NOON, "exited_to": NOON + DAY}
    found = trading.exits_by_condition(pg, **span)
    assert [(row.exit_priority, row.exit_condition, row.exits, row.pnl) for row in found] == [
        ("CRITICAL", "circuit_breaker", 1, dollars("-0.5")), ("CRITICAL", "stop_loss", 2, dollars("-1.6")),
        ("HIGH", "trailing_stop", 1, dollars("-0.9")), ("MEDIUM", "profit_target", 1, dollars("-0.7")),
        ("LOW", "rebalance", 1, dollars("-0.8")),
    ]  # fmt: skip
    assert found[1].average_price == dollars("0.52")
    for condition, priority, count in [(None, None, 6), ("stop_loss", None, 2), (None, "CRITICAL", 3), ("stop_loss", "LOW", 0)]:
        assert len(trading.exits_between(pg, **span, exit_condition=condition, exit_priority=priority)) == count


def attempt(position_id: int, number: int = 1, **changes: Any) -> ExitAttemptInput:  # noqa: ANN401
    row = {"environment": "paper", "exit_condition": "stop_loss", "priority_level": "CRITICAL", "order_type": "market",
           "quantity": Decimal(100), "success": True, "attempted_at": NOON + number * SECOND}  # fmt: skip
    return ExitAttemptInput(position_id=position_id, attempt_number=number, **(row | changes))


def test_attempts_in_bulk_are_added_once_and_other_content_is_refused(pg: psycopg.Connection) -> None:
    markets(pg)
    number = opened(pg).position_id
    rows = [attempt(number, each) for each in (1, 2, 3)]
    assert trading.insert_exit_attempts(pg, rows).written == 3
    assert trading.insert_exit_attempts(pg, rows).written == 0
    with pytest.raises(errors.RestrictViolation) as refused:
        trading.insert_exit_attempts(pg, [attempt(number, 4), attempt(number, 2, success=False)])
    assert refused.value.diag.constraint_name == "exit_attempts_append_only"


# -- cash --------------------------------------------------------------------------------------------------------------------------


def moved(reference: str, reason: str, amount: str, at: datetime = NOON, **changes: Any) -> CashLedgerInput:  # noqa: ANN401
    row = {"environment": "paper", "platform_id": "kalshi", "currency": "USD"} | changes
    return CashLedgerInput(reference=reference, reason=reason, amount=dollars(amount), occurred_at=at, **row)


def balance(pg: psycopg.Connection, amount: str, at: datetime, **changes: Any) -> None:  # noqa: ANN401
    row = {"environment": "paper", "platform_id": "kalshi", "currency": "USD"} | changes
    with pg.transaction():
        pg.execute(
            "WITH closed AS (UPDATE trading.account_balances SET valid_to = %(at)s WHERE valid_to IS NULL AND environment ="
            " %(environment)s AND platform_id = %(platform_id)s AND currency = %(currency)s RETURNING 1)"
            " INSERT INTO trading.account_balances (environment, platform_id, currency, valid_from, balance)"
            " SELECT %(environment)s, %(platform_id)s, %(currency)s, %(at)s, %(amount)s WHERE (SELECT count(*) FROM closed) >= 0",
            row | {"amount": amount, "at": at},
        )


def test_movements_are_added_once_and_other_content_is_refused(pg: psycopg.Connection) -> None:
    markets(pg)
    rows = [moved("D1", "deposit", "1000"), moved("W1", "withdrawal", "-10", NOON + HOUR)]
    assert trading.insert_cash_movements(pg, rows).written == 2
    assert trading.insert_cash_movements(pg, rows).written == 0
    assert trading.record_cash_movement(pg, **rows[0].model_dump()) == 0
    pg.commit()
    for again in (
        lambda: trading.insert_cash_movements(pg, [moved("D1", "deposit", "1001")]),
        lambda: trading.record_cash_movement(pg, **moved("D1", "correction", "1000").model_dump()),
    ):
        with pytest.raises(errors.RestrictViolation) as refused:
            again()
        assert refused.value.diag.constraint_name == "cash_ledger_append_only"
        pg.rollback()
    found = trading.cash_between(
        pg, environment="paper", platform_id="kalshi", currency="USD", occurred_from=NOON, occurred_to=NOON + HOUR
    )
    assert [row.reference for row in found] == ["D1"]


@pytest.mark.parametrize(("reason", "amount"), [("deposit", "-1"), ("withdrawal", "1"), ("settlement", "-1"), ("fill", "0")])
def test_a_movement_in_the_wrong_direction_is_refused(pg: psycopg.Connection, reason: str, amount: str) -> None:
    with pytest.raises(errors.CheckViolation) as refused:
        trading.insert_cash_movements(pg, [moved("X", reason, amount)])
    assert refused.value.diag.constraint_name == "cash_ledger_amount_check"


def test_fills_are_booked_once_and_their_cash_is_what_they_cost(pg: psycopg.Connection) -> None:
    story(pg)
    stored = [row for row in table(pg, "trading.trades") if row["environment"] == "paper"]
    booked = trading.book_fills(pg, **SPAN)
    assert booked == len(stored) + sum(row["fees"] is not None and row["fees"] != 0 for row in stored)
    assert trading.book_fills(pg, **SPAN) == 0
    cash = sum(row["quantity"] * row["price"] * (1 if row["side"] == "sell" else -1) - (row["fees"] or 0) for row in stored)
    (found,) = trading.reconcile_balances(pg, environment="paper", moment=NOON + 9 * DAY)
    assert (found.ledger, found.movements, found.balance, found.difference) == (cash, booked, None, None)
    by_market = trading.cash_of_market(pg, environment="paper", market_ticker="KX-3")
    assert sum(row.amount for row in by_market) == sum(
        row["quantity"] * row["price"] * (1 if row["side"] == "sell" else -1) - (row["fees"] or 0)
        for row in stored if row["market_ticker"] == "KX-3"
    )  # fmt: skip
    of_trade = trading.cash_of_trade(pg, environment="paper", platform_id="kalshi", trade_id=stored[0]["trade_id"])
    assert {row.reason for row in of_trade} <= {"fill", "fee"}


def test_the_ledger_explains_the_balance_or_the_gap_is_shown(pg: psycopg.Connection) -> None:
    balance(pg, "1000", NOON)
    trading.insert_cash_movements(pg, [moved("D1", "deposit", "1000", NOON)])
    balance(pg, "938.32", NOON + HOUR)
    trading.insert_trades(pg, [fill(1, at=NOON + HOUR)])
    trading.book_fills(pg, **SPAN)
    balance(pg, "940", NOON + 2 * HOUR)

    def gap(at: datetime) -> Decimal | None:
        (row,) = trading.reconcile_balances(pg, environment="paper", moment=at)
        return row.difference

    assert [gap(NOON), gap(NOON + HOUR), gap(NOON + 2 * HOUR)] == [0, 0, dollars("1.68")]
    assert trading.reconcile_balances(pg, environment="live", moment=NOON + DAY) == []


# -- days --------------------------------------------------------------------------------------------------------------------------


def test_days_are_computed_from_positions_balance_and_ledger(pg: psycopg.Connection) -> None:
    """Four days told by hand: a deposit, a position that gains, its close at a loss, a withdrawal."""
    markets(pg)
    noon = datetime(2026, 7, 20, 12, tzinfo=UTC)
    day = noon.date()

    def refresh(number: int) -> Any:  # noqa: ANN401
        return trading.refresh_performance_day(pg, environment="paper", platform_id="kalshi", date=day + timedelta(days=number))

    balance(pg, "1000", noon)
    trading.insert_cash_movements(pg, [moved("D1", "deposit", "1000", noon)])
    first = refresh(0)
    assert (first.portfolio_value, first.daily_return, first.max_drawdown, first.num_trades, first.win_rate) == (
        1000,
        None,
        0,
        0,
        None,
    )

    position = opened(pg, at=noon + DAY)  # 100 at 0.60
    balance(pg, "940", noon + DAY)
    trading.mark_position(
        pg, environment="paper", position_id=position.position_id, price=dollars("0.70"), observed_at=noon + DAY + HOUR
    )
    trading.mark_position(
        pg, environment="paper", position_id=position.position_id, price=dollars("0.10"), observed_at=noon + 2 * DAY
    )
    second = refresh(1)
    assert (second.portfolio_value, second.daily_return, second.total_pnl) == (1010, dollars("0.01"), 0), "what was seen that day"

    left(pg, position, noon + 2 * DAY + HOUR, "50", "0.50")
    left(pg, position, noon + 2 * DAY + 2 * HOUR, "50", "0.40")
    balance(pg, "985", noon + 2 * DAY + 2 * HOUR)
    third = refresh(2)
    assert (third.total_pnl, third.num_trades, third.win_rate, third.portfolio_value) == (-15, 1, 0, 985)
    assert third.daily_return == rounded(Decimal(985) / 1010 - 1)
    assert third.max_drawdown == rounded(1 - Decimal(985) / 1010)

    trading.insert_cash_movements(pg, [moved("W1", "withdrawal", "-85", noon + 3 * DAY)])
    balance(pg, "900", noon + 3 * DAY)
    fourth = refresh(3)
    assert (fourth.daily_return, fourth.portfolio_value) == (0, 900), "a withdrawal is no loss"

    pg.commit()
    assert [refresh(number) for number in range(4)] == [first, second, third, fourth], "again it changes nothing"
    found = trading.performance_between(
        pg, environment="paper", platform_id="kalshi", date_from=day + timedelta(days=1), date_to=day + timedelta(days=3)
    )
    assert found == [second, third]


def test_a_day_without_a_known_balance_is_refused(pg: psycopg.Connection) -> None:
    with pytest.raises(errors.NotNullViolation) as refused:
        trading.refresh_performance_day(pg, environment="paper", platform_id="kalshi", date=date(2026, 7, 20))
    assert refused.value.diag.column_name == "portfolio_value"


def test_days_that_were_computed_elsewhere_are_written_and_changed_where_they_differ(pg: psycopg.Connection) -> None:
    rows = [
        PerformanceDailyInput(environment="live", platform_id="kalshi", date=date(2026, 7, number), total_pnl=Decimal(number),
                              num_trades=number, portfolio_value=Decimal(1000))
        for number in (1, 2, 3)
    ]  # fmt: skip
    assert trading.upsert_performance_daily(pg, rows).inserted == 3
    changed = trading.upsert_performance_daily(pg, [*rows[:2], rows[2].model_copy(update={"win_rate": dollars("0.5")})])
    assert (changed.inserted, changed.updated, changed.unchanged) == (0, 1, 2)
