"""A small honest backtest over what is stored: no look-ahead, every trade with the quote that it was made on.

Run the demo first, so that there is something to trade on; nothing is asked of the exchange afterwards:

    python3 run.py demo
    .venv/bin/python examples/backtest.py

The strategy backs favourites: where the middle of the quotes is above one half it thinks YES a little likelier than that, below it a
little less likely, and buys that side where the price and the fee leave something. It holds to settlement. A toy, but an honest one: it
decides so many hours after a market opened (when it closes is only known for certain afterwards), and sees what its as-of policy allows.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any
from uuid import UUID, uuid5

import psycopg

from kalshidb import postgres
from kalshidb.models.backtest import ExecutionsOfRunRow, TradeInput
from kalshidb.models.catalog import Market
from kalshidb.models.market_data import QuotesKnownAtRow
from kalshidb.queries import backtest, catalog, market_data, ops

LONG_AGO = datetime(2021, 1, 1, tzinfo=UTC)
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Config:
    """What a run depends on; it is stored with the run.

    Attributes:
        bias: how much likelier than its price a favourite is thought to be.
        least_ev: dollars a contract that a trade must promise after its fee.
        contracts: how many are bought at once.
        hours_after_open: when it decides.
    """

    bias: Decimal = Decimal("0.04")
    least_ev: Decimal = Decimal("0.005")
    contracts: int = 20
    hours_after_open: int = 12
    asof_policy_id: str = "candle_close_60m"

    def as_yaml(self) -> str:
        """Return it as the run keeps it."""
        return "".join(f"{name}: {value}\n" for name, value in asdict(self).items())


def fee(contracts: int, price: Decimal) -> Decimal:
    """Return the exchange's fee for a purchase, dollars: 0.07 x C x P x (1 - P), rounded up to the cent."""
    return (Decimal("0.07") * contracts * price * (1 - price)).quantize(CENT, rounding=ROUND_CEILING)


def settled_markets(conn: psycopg.Connection[Any]) -> list[Market]:
    """Return the markets that are settled and have a time of opening, page by page."""
    found: list[Market] = []
    after, ticker = LONG_AGO, ""
    while page := catalog.markets_by_status(
        conn, status="finalized", after_close_time=after, after_market_ticker=ticker, page_size=500
    ):
        found += [market for market in page if market.open_time is not None]
        if page[-1].close_time is None:
            break
        after, ticker = page[-1].close_time, page[-1].market_ticker
    return found


def decide(quote: QuotesKnownAtRow, market: Market, run_id: UUID, config: Config) -> TradeInput | None:
    """Return the trade that the strategy makes on a quote, or None: nothing known, a side without quotes, or nothing to win."""
    if (
        quote.yes_bid is None
        or quote.yes_ask is None
        or quote.end_period_ts is None
        or not (quote.yes_bid > 0 and quote.yes_ask < 1)
    ):
        return None
    middle = (quote.yes_bid + quote.yes_ask) / 2
    likelier = config.bias if middle > Decimal("0.5") else -config.bias
    prob_yes = min(max(middle + likelier, Decimal(0)), Decimal(1))
    # NO is bought from whoever bids for YES.
    side, price, prob = ("buy_yes", quote.yes_ask, prob_yes) if likelier > 0 else ("buy_no", 1 - quote.yes_bid, 1 - prob_yes)
    cost = fee(config.contracts, price)
    ev = prob - price - cost / config.contracts
    if ev < config.least_ev:
        return None
    return TradeInput(
        trade_id=uuid5(run_id, market.market_ticker),  # the same in a retry, so that a retry writes nothing
        run_id=run_id,
        series_ticker=market.series_ticker,
        event_ticker=market.event_ticker,
        market_ticker=market.market_ticker,
        decision_ts=quote.decision_time,
        side=side,
        qty=Decimal(config.contracts),
        entry_price=price,
        entry_fee=cost,
        entry_time=quote.decision_time,
        entry_candle_end_ts=quote.end_period_ts,
        entry_candle_minutes=quote.period_interval_minutes,
        model_prob_yes=prob_yes.quantize(Decimal("0.000001")),
        model_ev_per_contract=ev.quantize(Decimal("0.000001")),
        signal_metadata={"reason": "favourite", "middle": str(middle)},
    )


def run_backtest(conn: psycopg.Connection[Any], config: Config, *, run_id: UUID | None = None) -> UUID | None:
    """Run the strategy over all settled markets, store the run and its trades, and return the run's id; None when nothing is stored.

    Args:
        conn: a connection in autocommit mode.
        config: what the run depends on.
        run_id: of a run that is begun again after its process died; None for a new one.
    """
    markets = {market.market_ticker: market for market in settled_markets(conn)}
    moments = {
        ticker: market.open_time + timedelta(hours=config.hours_after_open)
        for ticker, market in markets.items()
        if market.open_time is not None
    }
    asked = [ticker for ticker, at in moments.items() if (close := markets[ticker].close_time) is not None and at < close]
    if not asked:
        return None
    days: list[date] = [moments[ticker].date() for ticker in asked]
    run = backtest.begin_run(
        conn,
        run_id=run_id,
        strategy_name="favourites",
        strategy_version="1.0",
        strategy_id=None,
        git_sha=None,
        random_seed=0,  # nothing in it is random
        config_yaml=config.as_yaml(),
        date_start_local=min(days),
        date_end_local=max(days),
        series_tickers=sorted({series for ticker in asked if (series := markets[ticker].series_ticker) is not None}),
        asof_policy_id=config.asof_policy_id,
        trade_window_policy=f"{config.hours_after_open}h_after_open",
        metadata={"bias": str(config.bias)},
    )
    try:
        quotes = market_data.quotes_known_at(
            conn, market_tickers=asked, decision_times=[moments[ticker] for ticker in asked], asof_policy_id=config.asof_policy_id
        )
        trades = [decide(quote, markets[quote.market_ticker], run.run_id, config) for quote in quotes]
        backtest.insert_trades(conn, [trade for trade in trades if trade is not None])
        backtest.settle_trades(conn, run_id=run.run_id)
        found = backtest.run_metrics(conn, run_id=run.run_id)
        backtest.finish_run(
            conn,
            run_id=run.run_id,
            total_pnl=found.total_pnl,
            num_trades=found.num_trades,
            win_rate=found.win_rate,
            max_drawdown=found.max_drawdown,
            sharpe_ratio=found.sharpe_ratio,
            metrics_json={"fees": str(found.fees), "sharpe_ratio": "profits of single trades, not annualised"},
            artifact_path=None,
        )
    except Exception as error:
        backtest.fail_run(conn, run_id=run.run_id, error=str(error))
        raise
    return run.run_id


def show(conn: psycopg.Connection[Any], run_id: UUID) -> None:
    """Print a run, its audits, and one of its trades down to the raw quote and the request that brought it."""
    summary = backtest.run_summary(conn, run_id=run_id)
    if summary is None:
        raise LookupError(f"there is no run {run_id}")
    print(f"run {summary.run_id}: {summary.strategy_name} {summary.strategy_version}, {summary.status}")
    print(
        f"  {summary.date_start_local} to {summary.date_end_local}, {len(summary.series_tickers)} series; {summary.asof_policy}"
    )
    print(
        f"  {summary.trades} trades in {summary.markets} markets, {summary.open_trades} not settled, {summary.contracts} contracts"
    )
    rate = "-" if summary.win_rate is None else f"{summary.win_rate:.1%}"
    print(f"  profit {summary.total_pnl} after fees of {summary.fees}; won {rate}; worst fall {summary.max_drawdown}")
    print(f"  differs from the sum of its trades by {summary.pnl_difference}")
    print(f"  trades on quotes that were not known: {len(backtest.leakage(conn, run_id=run_id))}")
    print(f"  trades on quotes that are not stored: {len(backtest.trades_without_quote(conn, run_id=run_id))}")
    print(f"  trades that do not add up: {len(backtest.trades_that_do_not_add_up(conn, run_id=run_id))}")
    for execution in backtest.executions_of_run(conn, run_id=run_id)[:1]:
        show_trail(conn, execution)


def show_trail(conn: psycopg.Connection[Any], trade: ExecutionsOfRunRow) -> None:
    """Print what a trade rests on."""
    print(
        f"trade {trade.trade_id}: {trade.side} {trade.qty} of {trade.market_ticker} at {trade.entry_price}, fee {trade.entry_fee}"
    )
    print(f"  decided {trade.decision_ts}: YES thought {trade.model_prob_yes}, worth {trade.model_ev_per_contract} a contract")
    print(f"  settled {trade.settled_result}, made {trade.pnl}")
    print(f"  on the {trade.entry_candle_minutes}-minute candlestick that ended {trade.entry_quote_ts}: ", end="")
    print(f"bid {trade.entry_yes_bid}, ask {trade.entry_yes_ask}; as it arrived: {trade.entry_raw_json or 'not kept'}")
    print(f"  retrieved {trade.entry_retrieved_at}")
    if trade.entry_retrieved_at is not None:
        # The simulated clock stands still, so all its answers arrived at one moment; of the real exchange it is one.
        answers = [r for r in ops.requests_at(conn, retrieved_at=trade.entry_retrieved_at) if "candlesticks" in r.url]
        for answer in answers[:1]:
            print(f"  by run {answer.run_id} ({answer.source}), begun {answer.started_at}")
            print(f"  in request {answer.request_number}, or one of {len(answers)} of that moment: {answer.url}")


def main() -> None:
    """Run it twice: as it is, and with another idea of how strong the bias is."""
    with postgres.connect(autocommit=True) as conn:
        for config in (Config(), replace(Config(), bias=Decimal("0.08"))):
            run_id = run_backtest(conn, config)
            if run_id is None:
                print("nothing is stored yet: python3 run.py demo")
                return
            show(conn, run_id)


if __name__ == "__main__":
    main()
