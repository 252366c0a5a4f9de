"""The AI bot, whole (seed S3): analyses lead to positions, positions to profit, and every common query of it has its answer."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sample_rows import DAY, HOUR, MINUTE, NOON, quote
from trading_rows import left, markets, opened

from kalshidb.models.research import MarketAnalysisInput
from kalshidb.postgres import connect
from kalshidb.queries import market_data, ops, research, trading

BTC, ETH, RAIN = "KXBTC-24DEC-50K", "KXETH-24DEC-3K", "KXRAIN-26JUL19-NY"
PROVIDERS = {"xai": Decimal("0.05"), "openai": Decimal("0.021"), "anthropic": Decimal("0.034")}
TODAY = NOON.date() + timedelta(days=4)


@dataclass
class Done:
    """A position of the bot, as the bot itself would write it down."""

    ticker: str
    side: str
    quantity: Decimal
    entry_price: Decimal
    entry_time: datetime
    exit_price: Decimal
    exit_time: datetime
    reason: str

    @property
    def pnl(self) -> Decimal:
        return (self.exit_price - self.entry_price) * self.quantity


@dataclass
class Bot:
    """What the bot did, and the database that it did it in."""

    conn: psycopg.Connection[Any]
    closed: list[Done]
    analyses: list[MarketAnalysisInput]


@pytest.fixture(scope="module")
def bot(postgresql_noproc: Any) -> Iterator[Bot]:  # noqa: ANN401
    """Five days of trading by three AI providers in three markets; the last two positions are still open."""
    from pytest_postgresql.janitor import DatabaseJanitor

    server = postgresql_noproc
    name = f"{server.dbname}_s3"
    janitor = DatabaseJanitor(
        user=server.user, host=server.host, port=server.port, dbname=name, template_dbname=server.template_dbname
    )
    with janitor, connect(f"postgresql://{server.user}@/{name}?host={server.host}&port={server.port}", autocommit=True) as conn:
        yield live(conn)


def live(conn: psycopg.Connection[Any]) -> Bot:
    chance = random.Random(3)  # noqa: S311
    markets(conn, BTC, ETH, RAIN)
    closed: list[Done] = []
    analyses: list[MarketAnalysisInput] = []
    for number in range(25):
        at = NOON + number * 5 * HOUR
        ticker = chance.choice([BTC, BTC, ETH, RAIN])
        provider = chance.choice(list(PROVIDERS))
        side = chance.choice(["yes", "no"])
        analysis = MarketAnalysisInput(
            market_ticker=ticker, analyzed_at=at - 5 * MINUTE, ai_provider=provider, analysis_text="strong momentum ...",
            cost=PROVIDERS[provider] + Decimal(number) / 1000, decision="SKIP" if number % 6 == 5 else f"OPEN_{side.upper()}",
            confidence=Decimal(chance.randrange(50, 100)) / 100, metadata={"model": "large", "tokens": 1250 + number},
        )  # fmt: skip
        analyses.append(analysis)
        research.insert_market_analyses(conn, [analysis])
        ops.add_ai_call(conn, provider=provider, call_id=f"call-{number}", called_at=analysis.analyzed_at, cost=analysis.cost)
        if analysis.decision == "SKIP":
            continue
        entry, quantity = Decimal(chance.randrange(20, 80)) / 100, Decimal(chance.randrange(1, 40)) * 5
        position = opened(
            conn,
            ticker,
            at,
            side=side,
            entry_price=entry,
            quantity=quantity,
            reason=f"analysis of {provider} at {analysis.analyzed_at:%H:%M}",
        )
        if number >= 22:
            continue  # still held
        price, exit_time = entry + Decimal(chance.randrange(-15, 16)) / 100, at + chance.randrange(1, 30) * HOUR
        left(conn, position, exit_time, str(quantity), str(price), "profit_target" if price > entry else "stop_loss")
        closed.append(Done(ticker, side, quantity, entry, at, price, exit_time, position.reason or ""))
    return Bot(conn, closed, analyses)


def test_a_decision_becomes_a_position_for_a_reason(bot: Bot) -> None:
    decided = [row for row in bot.analyses if row.decision in ("OPEN_YES", "OPEN_NO")]
    found = [
        row for decision in ("OPEN_YES", "OPEN_NO")
        for row in research.analyses_by_decision(bot.conn, decision=decision, analyzed_from=NOON - DAY, analyzed_to=NOON + 9 * DAY)
    ]  # fmt: skip
    assert sorted(row.analyzed_at for row in found) == [row.analyzed_at for row in decided]
    held = trading.open_positions(bot.conn, environment="paper")
    assert [row.reason for row in held] == [
        f"analysis of {row.ai_provider} at {row.analyzed_at:%H:%M}" for row in decided[:-3:-1]
    ]
    last = [row for row in bot.analyses if row.market_ticker == held[0].market_ticker][-1]
    latest = research.latest_analysis(bot.conn, market_ticker=held[0].market_ticker)
    assert latest is not None
    assert (latest.analyzed_at, latest.metadata, latest.confidence) == (last.analyzed_at, last.metadata, last.confidence)


def test_open_positions_are_the_newest_entry_first(bot: Bot) -> None:
    held = trading.open_positions(bot.conn, environment="paper")
    assert len(held) == 2
    assert held[0].entry_time is not None
    assert held[1].entry_time is not None
    assert held[0].entry_time > held[1].entry_time
    assert trading.open_positions(bot.conn, environment="live") == []


def test_daily_profit_agrees_with_the_bots_own_book(bot: Bot) -> None:
    days: dict[date, list[Decimal]] = defaultdict(list)
    for position in bot.closed:
        days[position.exit_time.astimezone(UTC).date()].append(position.pnl)
    found = trading.daily_pnl(bot.conn, environment="paper", exit_from=NOON - DAY, exit_to=NOON + 30 * DAY)
    expected = [
        (day, sum(pnls), len(pnls), (sum(pnls) / len(pnls)).quantize(Decimal("0.000001")))
        for day, pnls in sorted(days.items(), reverse=True)
    ]
    assert [(row.trade_date, row.total_pnl, row.num_trades, row.avg_pnl) for row in found] == expected
    assert len(found) > 3


def test_the_cost_of_today_is_known_by_call_and_by_analysis_and_by_provider(bot: Bot) -> None:
    today = [row for row in bot.analyses if row.analyzed_at.astimezone(UTC).date() == TODAY]
    assert len(today) > 3
    spent = ops.ai_cost_of_day(bot.conn, day=TODAY)
    assert spent.total_cost == spent.analysis_cost == sum(row.cost for row in today)
    assert spent.num_calls == spent.num_analyses == len(today)
    by_provider: dict[str, Decimal] = defaultdict(Decimal)
    for row in bot.analyses:
        by_provider[row.ai_provider] += row.cost
    found = ops.ai_cost_by_provider(bot.conn, from_date=NOON.date() - timedelta(days=1), to_date=TODAY + timedelta(days=9))
    assert [(row.provider, row.total_cost) for row in found] == sorted(by_provider.items(), key=lambda item: -item[1])
    budget = ops.ai_budget(bot.conn, day=TODAY, daily_budget=spent.total_cost)
    assert budget.exhausted


def test_the_best_markets_are_those_with_three_trades_and_the_most_profit(bot: Bot) -> None:
    by_market: dict[str, list[Decimal]] = defaultdict(list)
    for position in bot.closed:
        by_market[position.ticker].append(position.pnl)
    expected = sorted(((sum(pnls), ticker) for ticker, pnls in by_market.items() if len(pnls) >= 3), reverse=True)
    found = trading.best_markets(
        bot.conn, environment="paper", exit_from=NOON - DAY, exit_to=NOON + 30 * DAY, min_trades=3, how_many=10
    )
    assert [(row.total_pnl, row.market_ticker) for row in found] == expected
    for row in found:
        pnls = by_market[row.market_ticker or ""]
        assert row.win_rate == (Decimal(sum(pnl > 0 for pnl in pnls)) / len(pnls)).quantize(Decimal("0.000001"))


def test_the_history_of_a_market_has_every_position_in_it(bot: Bot) -> None:
    rows = trading.positions_of_market(bot.conn, environment="paper", market_ticker=BTC)
    closed = [row for row in rows if row.status == "closed"]
    expected = sorted((row for row in bot.closed if row.ticker == BTC), key=lambda row: row.entry_time, reverse=True)
    assert [(row.side, row.quantity, row.entry_price, row.exit_price, row.pnl, row.reason) for row in closed] == [
        (row.side, row.quantity, row.entry_price, row.exit_price, row.pnl, row.reason) for row in expected
    ]


def test_a_day_of_performance_is_stored_once_and_can_be_refreshed(bot: Bot) -> None:
    bot.conn.execute(
        "INSERT INTO trading.account_balances (environment, platform_id, currency, valid_from, balance) "
        "VALUES ('paper', 'kalshi', 'USD', %s, 1000)",
        [NOON - DAY],
    )
    days = sorted({position.exit_time.astimezone(UTC).date() for position in bot.closed})
    for day in [*days, days[-1]]:
        trading.refresh_performance_day(bot.conn, environment="paper", platform_id="kalshi", date=day)
    stored = trading.performance_between(
        bot.conn, environment="paper", platform_id="kalshi", date_from=days[0], date_to=days[-1] + timedelta(days=1)
    )
    assert [row.date_ for row in stored] == days
    assert sum(row.total_pnl for row in stored) == sum(position.pnl for position in bot.closed)
    assert sum(row.num_trades for row in stored) == len(bot.closed)
    assert all(row.portfolio_value >= 1000 for row in stored)


def test_quotes_are_recorded_with_title_and_category_while_trading(bot: Bot) -> None:
    rows = [
        quote(
            BTC,
            NOON + number * MINUTE,
            title="Bitcoin above 50,000?",
            category="Crypto",
            volume_24h=Decimal(900),
            open_interest=Decimal(80 + number),
        )
        for number in range(3)
    ]
    assert market_data.upsert_price_snapshots(bot.conn, rows).written == 3
    stored = market_data.snapshots_between(bot.conn, market_ticker=BTC, start_time=NOON, end_time=NOON + HOUR)
    assert [(row.title, row.category, row.volume_24h) for row in stored] == [("Bitcoin above 50,000?", "Crypto", 900)] * 3


def test_the_store_says_how_large_it_is_and_what_may_go(bot: Bot) -> None:
    bot.conn.execute("ANALYZE trading.positions, research.market_analyses")
    sizes = {row.table_name: row for row in ops.table_sizes(bot.conn)}
    assert sizes["trading.positions"].estimated_rows == len(bot.closed) + 2
    assert sizes["research.market_analyses"].estimated_rows == len(bot.analyses)
    assert ops.database_size(bot.conn) > sum(row.total_bytes or 0 for row in sizes.values())
    # S3 deletes quotes after 90 days and moves closed positions after a year: here both are policies, and a ledger is never moved.
    ops.set_retention_policy(
        bot.conn, table_name="market_data.price_snapshots", hot_for=timedelta(days=90), warm_for=None, keep_for=timedelta(days=90),
        archive_target="none", reason="as the bot had it",
    )  # fmt: skip
    market_data.upsert_price_snapshots(bot.conn, [quote(BTC, NOON)])
    (month,) = [
        row for row in ops.partitions_by_age(bot.conn, moment=NOON + 120 * DAY) if row.table_name == "market_data.price_snapshots"
    ]
    assert (month.partition_name, month.stage) == ("market_data.price_snapshots_2026_07", "expired")
    windows = {row.table_name: row for row in ops.retention_windows(bot.conn, moment=NOON)}
    assert windows["trading.position_versions"].hot_since == datetime(2025, 1, 19, 12, tzinfo=UTC)
