"""What the database itself holds: ledgers are only added to, a purge is meant, money of one kind never meets another, exits find room."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sample_rows import DAY, HOUR, MINUTE, NOON, SECOND, book, candle, delta, event, market, quote, series, trade
from trading_rows import T80, declared, dollars, fill, left, markets, model, opened, strategy

from kalshidb.models.research import MarketAnalysisInput
from kalshidb.models.trading import CashLedgerInput, ExitAttemptInput, PerformanceDailyInput, Position
from kalshidb.queries import catalog, market_data, research, trading

LEDGERS = [
    "research.strategies", "research.probability_models", "research.market_analyses", "trading.positions",
    "trading.position_versions", "trading.position_exits", "trading.exit_attempts", "trading.trades", "trading.account_balances",
    "trading.cash_ledger",
]  # fmt: skip


def everything(pg: psycopg.Connection, venue: str = "kalshi", ticker: str = T80) -> Position:
    """One row of every kind that hangs on a venue; strategies and models hang on none."""
    catalog.upsert_platform(
        pg, platform_id=venue, platform_type="trading", display_name=venue, base_url=None, websocket_url=None, api_version=None,
        auth_method=None, fees_structure=None, status="active",
    )  # fmt: skip
    parent = ticker.rpartition("-")[0]
    kind = parent.partition("-")[0]
    catalog.upsert_series(pg, [series(kind, platform_id=venue)])
    catalog.upsert_events(pg, [event(parent, platform_id=venue, series_ticker=kind)])
    catalog.upsert_markets(pg, [market(ticker, platform_id=venue)])
    catalog.insert_settlements(pg, [declared(ticker, at=NOON + DAY).model_copy(update={"platform_id": venue})])
    market_data.upsert_candlesticks(pg, [candle(ticker)])
    market_data.upsert_price_snapshots(pg, [quote(ticker)])
    market_data.upsert_orderbook_snapshots(pg, [book(ticker)])
    market_data.insert_orderbook_deltas(pg, [delta(ticker)])
    market_data.insert_public_trades(pg, [trade(len(ticker), ticker)])
    research.insert_market_analyses(
        pg, [MarketAnalysisInput(market_ticker=ticker, analyzed_at=NOON, ai_provider="xai", cost=Decimal(0))]
    )
    numbers = {"strategy_id": strategy(pg).strategy_id, "model_id": model(pg).model_id}
    (edge,) = pg.execute(
        "INSERT INTO research.edges (market_ticker, strategy_id, model_id, valid_from, expected_value, true_win_probability,"
        " market_implied_probability, market_price) VALUES (%s, %s, %s, %s, 0.1, 0.7, 0.6, 0.6) RETURNING edge_id",
        [ticker, *numbers.values(), NOON],
    ).fetchone() or (None,)
    pg.execute("INSERT INTO research.game_states (event_ticker, valid_from, sport) VALUES (%s, %s, 'nfl')", [parent, NOON])
    position = opened(pg, ticker, platform_id=venue, **numbers)
    left(pg, position, NOON + HOUR, "40", "0.70")
    trading.insert_exit_attempts(
        pg,
        [
            ExitAttemptInput(
                environment="paper", position_id=position.position_id, attempted_at=NOON, attempt_number=1, order_type="market",
                exit_condition="stop_loss", priority_level="CRITICAL", quantity=Decimal(1),
            )
        ],
    )  # fmt: skip
    trading.insert_trades(pg, [fill(ticker=ticker, platform_id=venue, position_id=position.position_id, edge_id=edge, **numbers)])
    trading.book_fills(pg, environment="paper", executed_from=NOON, executed_to=NOON + SECOND)
    pg.execute(
        "INSERT INTO trading.account_balances (environment, platform_id, currency, valid_from, balance)"
        " VALUES ('paper', %s, 'USD', %s, 1000)",
        [venue, NOON],
    )
    day = PerformanceDailyInput(
        environment="paper",
        platform_id=venue,
        date=date(2026, 7, 19),
        total_pnl=Decimal(1),
        num_trades=1,
        portfolio_value=Decimal(1),
    )
    trading.upsert_performance_daily(pg, [day])
    return position


def counts(pg: psycopg.Connection) -> dict[str, int]:
    tables = pg.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace IN ('catalog'::regnamespace, 'market_data'::regnamespace, 'research'::regnamespace,"
        " 'trading'::regnamespace)"
    ).fetchall()
    found: dict[str, int] = {}
    for (name,) in tables:
        (found[name],) = pg.execute(f"SELECT count(*) FROM {name}").fetchone() or (0,)  # type: ignore[arg-type]  # noqa: S608
    return found


# -- only added --------------------------------------------------------------------------------------------------------------------


def test_no_row_of_a_ledger_is_lost(pg: psycopg.Connection) -> None:
    everything(pg)
    pg.commit()
    before = counts(pg)
    assert all(before[table] for table in LEDGERS)
    for table in LEDGERS:
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):  # noqa: S608
            with pytest.raises(errors.RestrictViolation) as refused, pg.transaction():
                pg.execute(statement)  # type: ignore[arg-type]
            assert (refused.value.diag.constraint_name or "").endswith("_append_only"), statement
            assert "SET LOCAL kalshidb.allow_purge = on" in (refused.value.diag.message_hint or "")
    assert counts(pg) == before


CHANGES = {
    "trading.trades": "price = 0.5", "trading.position_exits": "exit_price = 0.5", "trading.exit_attempts": "quantity = 2",
    "trading.cash_ledger": "amount = 1", "research.market_analyses": "analysis_text = 'other'",
    "trading.position_versions": "realized_pnl = 1000", "trading.account_balances": "balance = 1000000",
    "trading.positions": "entry_price = 0.01", "research.strategies": "config = '{}'",
    "research.probability_models": "config = '{}'",
}  # fmt: skip


def test_no_row_of_a_ledger_is_rewritten_not_even_in_a_purge(pg: psycopg.Connection) -> None:
    assert set(CHANGES) == set(LEDGERS)
    everything(pg)
    pg.commit()
    pg.execute("SET LOCAL kalshidb.allow_purge = on")
    for table, change in CHANGES.items():
        with pytest.raises(errors.RestrictViolation) as refused, pg.transaction():
            pg.execute(f"UPDATE {table} SET {change}")  # type: ignore[arg-type]  # noqa: S608
        name = table.partition(".")[2]
        assert refused.value.diag.constraint_name in (f"{name}_append_only", f"{name}_immutable_config")


# -- a purge -----------------------------------------------------------------------------------------------------------------------


def test_without_the_setting_a_venue_does_not_go_and_nothing_of_it(pg: psycopg.Connection) -> None:
    everything(pg)
    pg.commit()
    before = counts(pg)
    for statement in (
        "DELETE FROM catalog.platforms WHERE platform_id = 'kalshi'",
        f"DELETE FROM catalog.markets WHERE market_ticker = '{T80}'",  # noqa: S608
        "TRUNCATE catalog.platforms CASCADE",
    ):
        with pytest.raises(errors.RestrictViolation), pg.transaction():
            pg.execute(statement)  # type: ignore[arg-type]
    assert counts(pg) == before


def test_with_the_setting_a_venue_goes_whole_and_nothing_of_another(pg: psycopg.Connection) -> None:
    everything(pg)
    pg.commit()
    alone = counts(pg)
    everything(pg, "othervenue", "OTHER-26JUL19-X")
    pg.commit()
    both = counts(pg)
    stay = {"catalog.stations", "research.strategies", "research.probability_models", "research.probability_matrices",
            "research.asof_policies", "catalog.market_lifecycle"}  # fmt: skip
    grown = {name for name in both if both[name] > alone[name]}
    assert grown >= {name for name in both if both[name]} - stay, "each table has rows of the other venue"
    with pg.transaction():
        pg.execute("SET LOCAL kalshidb.allow_purge = on")
        pg.execute("DELETE FROM catalog.platforms WHERE platform_id = 'othervenue'")
    # Public trades know no market (combinations trade before the catalogue has them): they stay, and retention takes them.
    assert counts(pg) == alone | {"market_data.public_trades": both["market_data.public_trades"]}


def test_the_setting_ends_with_the_transaction(pg: psycopg.Connection) -> None:
    everything(pg)
    pg.commit()
    with pg.transaction():
        pg.execute("SET LOCAL kalshidb.allow_purge = on")
        pg.execute("DELETE FROM trading.cash_ledger")
    with pytest.raises(errors.RestrictViolation):
        pg.execute("DELETE FROM trading.trades")


def test_a_market_goes_with_its_ledgers(pg: psycopg.Connection) -> None:
    everything(pg)
    pg.commit()
    pg.execute("SET LOCAL kalshidb.allow_purge = on")
    pg.execute("DELETE FROM catalog.markets WHERE market_ticker = %s", [T80])
    left_over = counts(pg)
    assert not any(
        left_over[name] for name in ("trading.trades", "trading.positions", "trading.position_exits", "research.edges")
    )
    assert left_over["catalog.events"] == 1


# -- live, paper and demo ------------------------------------------------------------------------------------------------------------


def test_no_table_of_money_guesses_the_environment(pg: psycopg.Connection) -> None:
    tables = pg.execute(
        "SELECT c.relname, a.attname, a.attnotnull, d.oid IS NULL, EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary"
        " AND a.attnum = ANY (indkey)) FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'environment'"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE c.relnamespace = 'trading'::regnamespace AND c.relkind = 'r'"
    ).fetchall()
    assert len(tables) >= 8
    assert [row for row in tables if row[1:] != ("environment", True, True, True)] == []


def test_what_belongs_to_a_position_has_its_environment(pg: psycopg.Connection) -> None:
    """Every foreign key between tables of money carries the environment: no column but it could be wrong."""
    keys = pg.execute(
        "SELECT conname, ARRAY(SELECT attname::text FROM unnest(conkey) AS k JOIN pg_attribute ON attrelid = conrelid AND attnum = k)"
        " FROM pg_constraint JOIN pg_class ON pg_class.oid = confrelid WHERE contype = 'f'"
        " AND relnamespace = 'trading'::regnamespace"
    ).fetchall()
    assert len(keys) >= 6
    assert [name for name, columns in keys if "environment" not in columns] == []


MIXED = {
    "a version": "INSERT INTO trading.position_versions (environment, position_id, valid_from, quantity, status)"
    " VALUES ('live', {position}, now(), 1, 'open')",
    "an exit": "INSERT INTO trading.position_exits (environment, position_id, exited_at, exit_condition, exit_priority,"
    " quantity_exited, exit_price) VALUES ('live', {position}, now(), 'stop_loss', 'CRITICAL', 1, 0.5)",
    "an attempt": "INSERT INTO trading.exit_attempts (environment, position_id, attempted_at, attempt_number, exit_condition,"
    " priority_level, order_type, quantity) VALUES ('live', {position}, now(), 1, 'stop_loss', 'CRITICAL', 'market', 1)",
    "a fill": "INSERT INTO trading.trades (environment, platform_id, fill_id, market_ticker, position_id, side, contract_side, price,"
    " quantity, executed_at) VALUES ('live', 'kalshi', 'F9', '{ticker}', {position}, 'buy', 'yes', 0.5, 1, now())",
    "a movement of cash": "INSERT INTO trading.cash_ledger (environment, platform_id, reference, reason, amount, occurred_at,"
    " trade_id) VALUES ('live', 'kalshi', 'R', 'fill', -1, now(), {trade})",
    "the next balance": "UPDATE trading.account_balances SET valid_to = '2026-07-20 12:00+0' WHERE environment = 'paper'",
    "the position itself": "UPDATE trading.positions SET environment = 'live'",
    "its version": "UPDATE trading.position_versions SET environment = 'live'",
    "the fill itself": "UPDATE trading.trades SET environment = 'live'",
}


def test_money_of_one_kind_never_meets_another(pg: psycopg.Connection) -> None:
    position = everything(pg)
    pg.execute(
        "INSERT INTO trading.account_balances (environment, platform_id, currency, valid_from, balance)"
        " VALUES ('live', 'kalshi', 'USD', '2026-07-20 12:00+0', 1)"
    )
    (number,) = pg.execute("SELECT trade_id FROM trading.trades").fetchone() or (0,)
    pg.commit()
    for what, statement in MIXED.items():
        text = statement.format(position=position.position_id, ticker=T80, trade=number)
        with pytest.raises((errors.ForeignKeyViolation, errors.RestrictViolation, errors.CheckViolation)), pg.transaction():
            pg.execute(text)  # type: ignore[arg-type]
        # It is the environment that is refused, and nothing else: with the right one each of the others is taken.
        if text.startswith("INSERT") and what != "a version":
            pg.execute(text.replace("'live'", "'paper'"))  # type: ignore[arg-type]
            pg.rollback()


def test_functions_refuse_a_position_of_another_environment(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    other: dict[str, Any] = {"environment": "live", "position_id": position.position_id}
    for call in (
        lambda: left(pg, position.model_copy(update={"environment": "live"}), NOON + HOUR, "1", "0.5"),
        lambda: trading.mark_position(pg, price=dollars("0.5"), observed_at=NOON + HOUR, **other),
        lambda: trading.settle_position(pg, settled_at=NOON + HOUR, payout=Decimal(1), fees=None, **other),
    ):
        with pytest.raises(errors.NoDataFound, match=r"\(live\)"), pg.transaction():
            call()


def test_a_fill_is_not_filed_under_a_position_of_another_market_or_venue(pg: psycopg.Connection) -> None:
    markets(pg, T80, "KXHIGHNY-26JUL19-T81")
    position = opened(pg)
    for change in ({"market_ticker": "KXHIGHNY-26JUL19-T81"}, {"position_id": position.position_id + 1}):
        row = fill(2, position_id=position.position_id).model_dump() | change
        with pytest.raises(errors.ForeignKeyViolation), pg.transaction():
            trading.record_trade(pg, **row)


def test_a_movement_of_cash_names_a_fill_of_its_own_money(pg: psycopg.Connection) -> None:
    markets(pg)
    trading.insert_trades(pg, [fill(1)])
    (number,) = pg.execute("SELECT trade_id FROM trading.trades").fetchone() or (0,)
    row = CashLedgerInput(
        environment="live", platform_id="kalshi", reference="fee:F1", currency="USD", reason="fee", amount=Decimal(-1),
        occurred_at=NOON, trade_id=number,
    )  # fmt: skip
    with pytest.raises(errors.ForeignKeyViolation):
        trading.insert_cash_movements(pg, [row])


# -- exits find room -----------------------------------------------------------------------------------------------------------------

CONDITIONS: dict[str, list[Any]] = {
    "CRITICAL": ["stop_loss", "circuit_breaker"],
    "HIGH": ["trailing_stop", "time_based_urgent", "liquidity_dried_up"],
    "MEDIUM": ["profit_target", "partial_exit_target"],
    "LOW": ["early_exit", "edge_disappeared", "rebalance"],
}


def test_each_condition_has_its_one_priority(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    at = NOON
    for priority, words in CONDITIONS.items():
        for word in words:
            at += MINUTE
            left(pg, position, at, "1", "0.6", word)
            assert (
                trading.exits_of_position(pg, environment="paper", position_id=position.position_id)[-1].exit_priority == priority
            )
    pg.commit()
    with pytest.raises(errors.CheckViolation) as refused, pg.transaction():
        pg.execute(
            "INSERT INTO trading.position_exits (environment, position_id, exited_at, exit_condition, exit_priority, quantity_exited,"
            " exit_price) VALUES ('paper', %s, now(), 'stop_loss', 'LOW', 1, 0.5)",
            [position.position_id],
        )
    assert refused.value.diag.constraint_name == "position_exits_exit_priority_check"
    with pytest.raises(errors.CheckViolation) as refused:
        left(pg, position, at + MINUTE, "1", "0.6", "boredom")
    assert refused.value.diag.constraint_name == "exit_condition_word_check"


EXIT = (
    "INSERT INTO trading.position_exits (environment, position_id, exited_at, exit_condition, exit_priority, quantity_exited,"
    " exit_price) VALUES ('paper', %s, %s, 'stop_loss', 'CRITICAL', %s, 0.5)"
)


@pytest.mark.parametrize("way", ["the function", "a plain insert"])
@pytest.mark.parametrize("isolation", [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ])
def test_eight_at_once_never_take_more_than_there_is(database_url: str, isolation: psycopg.IsolationLevel, way: str) -> None:
    """Eight sessions take 7 of 100 contracts each, again and again, until there is no room: 14 exits, 98 contracts, every time."""
    with psycopg.connect(database_url, autocommit=True) as pg:
        markets(pg)
        position = opened(pg)
    start = threading.Barrier(8)
    collisions: list[str] = []
    refused: set[str | None] = set()

    def work(writer: int) -> int:
        taken = 0
        with psycopg.connect(database_url) as conn:
            conn.isolation_level = isolation
            start.wait()
            while True:
                at = NOON + HOUR + (taken * 8 + writer) * SECOND
                try:
                    with conn.transaction():
                        if way == "the function":
                            left(conn, position, at, "7", "0.5", "stop_loss")
                        else:
                            conn.execute(EXIT, [position.position_id, at, 7])
                    taken += 1
                except errors.SerializationFailure:
                    collisions.append("again")
                except errors.CheckViolation as error:
                    refused.add(error.diag.constraint_name)
                    return taken

    with ThreadPoolExecutor(8) as pool:
        taken = sum(pool.map(work, range(8)))
    with psycopg.connect(database_url) as pg:
        found = pg.execute("SELECT count(*), sum(quantity_exited) FROM trading.position_exits").fetchone()
    assert (taken, found, refused) == (14, (14, 98), {"position_exits_overexit_check"})
    if isolation is psycopg.IsolationLevel.REPEATABLE_READ:
        assert collisions, "nobody waited for anybody: the race did not fire"


def take_sixty_twice(database_url: str) -> int:
    """Two sessions take 60 of 100 contracts, the second before the first has committed; return how many left in the end."""
    with psycopg.connect(database_url) as first, psycopg.connect(database_url) as second:
        (number,) = first.execute("SELECT position_id FROM trading.positions").fetchone() or (0,)
        first.execute(EXIT, [number, NOON + HOUR, 60])
        done = threading.Thread(target=lambda: attempt(second, number))
        done.start()
        with psycopg.connect(database_url, autocommit=True) as watch:
            while done.is_alive():
                if watch.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                ).fetchone() == (1,):
                    break
                done.join(0.01)
        first.commit()
        done.join()
        (total,) = first.execute("SELECT sum(quantity_exited)::int FROM trading.position_exits").fetchone() or (0,)
        return total


def attempt(conn: psycopg.Connection, number: int) -> None:
    try:
        conn.execute(EXIT, [number, NOON + 2 * HOUR, 60])
        conn.commit()
    except errors.CheckViolation:
        conn.rollback()


@pytest.mark.parametrize("locks", [True, False])
def test_it_is_the_lock_that_keeps_the_sum(database_url: str, locks: bool) -> None:
    """The same race without the line that takes the position's row: 120 of 100 contracts leave."""
    with psycopg.connect(database_url, autocommit=True) as pg:
        markets(pg)
        opened(pg)
        if not locks:
            (source,) = pg.execute("SELECT pg_get_functiondef('trading.refuse_overexit'::regproc)").fetchone() or ("",)
            without, count = re.subn(r"UPDATE trading\.positions SET updated_at.*?;", "", source, flags=re.DOTALL)
            assert count == 1
            pg.execute(without)
    assert take_sixty_twice(database_url) == (60 if locks else 120)


def test_a_position_does_not_shrink_below_what_left_it(pg: psycopg.Connection) -> None:
    markets(pg)
    position = opened(pg)
    left(pg, position, NOON + HOUR, "60", "0.7")
    with pytest.raises(errors.CheckViolation) as refused:
        pg.execute(
            "WITH ended AS (UPDATE trading.position_versions SET valid_to = %(at)s WHERE valid_to IS NULL RETURNING position_id)"
            " INSERT INTO trading.position_versions (environment, position_id, valid_from, quantity, status)"
            " SELECT 'paper', position_id, %(at)s, 59, 'open' FROM ended",
            {"at": NOON + DAY},
        )
    assert refused.value.diag.constraint_name == "position_versions_overexit_check"


def test_watchers_and_sellers_at_once_leave_one_whole_chain(database_url: str) -> None:
    """Four look at a position while four sell it in parts: one chain of versions, and its end says what the exits say."""
    with psycopg.connect(database_url, autocommit=True) as pg:
        markets(pg)
        position = opened(pg)
    start = threading.Barrier(8)

    def work(writer: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            start.wait()
            for turn in range(25):
                at = NOON + HOUR + (turn * 8 + writer) * SECOND
                if writer % 2:
                    left(conn, position, at, "1", f"0.{50 + turn}")
                else:
                    trading.mark_position(
                        conn, environment="paper", position_id=position.position_id, price=dollars(f"0.{50 + (turn * 7) % 40}"),
                        observed_at=at,
                    )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with psycopg.connect(database_url) as pg:
        chain = pg.execute(
            "SELECT valid_from, valid_to, status, realized_pnl, exit_price FROM trading.position_versions ORDER BY valid_from"
        ).fetchall()
        exits = pg.execute("SELECT quantity_exited, exit_price FROM trading.position_exits").fetchall()
    assert [row[1] for row in chain] == [*[row[0] for row in chain[1:]], None]
    assert len(exits) == 100
    assert chain[-1][2:] == ("closed", sum(price - dollars("0.60") for _, price in exits), sum(price for _, price in exits) / 100)
    assert len(chain) > 100, "the watchers had no turn"
