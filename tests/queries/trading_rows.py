"""What a trader has: a market, a strategy, a model, positions of 100 contracts, fills. Short to write, easy to picture."""

# ruff: noqa: ANN401  (a change may be of any column)

from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from sample_rows import NOON, market

from kalshidb.documents import TrailingStop
from kalshidb.models.catalog import SettlementInput
from kalshidb.models.research import ProbabilityModel, Strategy
from kalshidb.models.trading import Position, TradeInput
from kalshidb.queries import catalog, research, trading

T80 = "KXHIGHNY-26JUL19-T80"
Connection = psycopg.Connection[Any]


def dollars(text: str) -> Decimal:
    return Decimal(text)


def markets(pg: Connection, *tickers: str) -> None:
    catalog.upsert_markets(pg, [market(ticker) for ticker in tickers or (T80,)])


def strategy(pg: Connection, version: str = "v1.0", name: str = "halftime_entry", **changes: Any) -> Strategy:
    row = {
        "strategy_type": "entry", "sport": "nfl", "config": {"min_lead": 7, "max_spread": "0.08"}, "status": "testing",
        "description": None, "created_by": None, "notes": None,
    }  # fmt: skip
    return research.register_strategy(pg, strategy_name=name, strategy_version=version, **(row | changes))


def model(pg: Connection, version: str = "v1.0", name: str = "elo_nfl", **changes: Any) -> ProbabilityModel:
    row = {
        "model_type": "elo", "sport": "nfl", "config": {"k_factor": 28, "initial_rating": 1500}, "status": "active",
        "description": None, "created_by": None, "notes": None,
    }  # fmt: skip
    return research.register_model(pg, model_name=name, model_version=version, **(row | changes))


def opened(pg: Connection, ticker: str = T80, at: datetime = NOON, environment: Any = "paper", **changes: Any) -> Position:
    row: dict[str, Any] = {
        "platform_id": "kalshi", "side": "yes", "entry_price": dollars("0.60"), "quantity": Decimal(100), "fees": Decimal(0),
        "strategy_id": None, "model_id": None, "reason": None, "trailing_stop_state": None,
    }  # fmt: skip
    return trading.open_position(pg, market_ticker=ticker, entry_time=at, environment=environment, **(row | changes))


def left(pg: Connection, position: Position, at: datetime, quantity: str, price: str, why: Any = "profit_target") -> Any:
    return trading.record_exit(
        pg, environment=position.environment, position_id=position.position_id, exited_at=at, exit_condition=why,
        quantity_exited=Decimal(quantity), exit_price=dollars(price), fees=None, close_reason=None,
    )  # fmt: skip


def fill(number: int = 1, ticker: str = T80, at: datetime = NOON, **changes: Any) -> TradeInput:
    row = {
        "environment": "paper", "platform_id": "kalshi", "order_id": None, "side": "buy", "contract_side": "yes",
        "price": dollars("0.60"), "quantity": Decimal(100), "fees": dollars("1.68"),
    }  # fmt: skip
    return TradeInput(fill_id=f"F{number}", market_ticker=ticker, executed_at=at, **(row | changes))


def declared(ticker: str = T80, outcome: str = "yes", at: datetime = NOON) -> SettlementInput:
    pays = {"yes": Decimal(1), "no": Decimal(0), "scalar": dollars("0.25")}.get(outcome)
    return SettlementInput(
        market_ticker=ticker, settled_at=at, platform_id="kalshi", outcome=outcome, yes_payout=pays,
        no_payout=None if pays is None else 1 - pays, retrieved_at=at,
    )  # fmt: skip


def stop(**changes: Any) -> TrailingStop:
    return TrailingStop(**({"activation_price": dollars("0.66"), "current_distance": dollars("0.02")} | changes))


def state(pg: Connection, position: Position) -> dict[str, Any]:
    """Return the current version of a position."""
    from psycopg.rows import dict_row

    with pg.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            "SELECT * FROM trading.position_versions WHERE environment = %s AND position_id = %s AND valid_to IS NULL",
            [position.environment, position.position_id],
        ).fetchone()
    assert found is not None
    return found
