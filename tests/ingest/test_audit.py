"""Every stored row can be traced to the answer that brought it, and a walk that was cut short says so."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from loading import DATA, Store

from kalshidb.exchange.client import ExchangeClient
from kalshidb.exchange.recognise import Hints
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.exchange.simulator.world import DEFAULT_NOW
from kalshidb.ingest.intake import Intake
from kalshidb.ingest.load import find_files, load_files
from kalshidb.ingest.pull import Scope, pull
from kalshidb.queries import ops

TRACED = [
    table for table in DATA if table not in ("catalog.market_versions",)
]  # a version has no retrieved_at: its valid_from is it


def test_each_row_of_a_pull_leads_to_the_request_that_brought_it(store: Store) -> None:
    with SimulatedExchange(seed=5, markets=60) as exchange, ExchangeClient(exchange.base_url, limit=None) as client:
        end = DEFAULT_NOW
        with Intake(store.conn, "simulated", origin="poll") as intake:
            pull(client, intake, Scope(end - timedelta(days=400), end, 1440))
        served = len(exchange.requests)
    (run,) = ops.recent_ingest_runs(store.conn, how_many=5)
    asked = list(ops.requests_of_run(store.conn, run_id=run.run_id))
    assert len(asked) == served
    assert [request.request_number for request in asked] == list(range(1, served + 1))
    assert all(request.http_status == 200 and request.body_bytes > 0 and request.url.startswith("http") for request in asked)
    for table in TRACED:
        moments = store.conn.execute(f"SELECT DISTINCT retrieved_at FROM {table}").fetchall()  # noqa: S608
        for (moment,) in moments:
            found = ops.requests_at(store.conn, retrieved_at=moment)
            assert [(origin.run_id, origin.retrieved_at) for origin in found] == [(run.run_id, moment)], table
    one = store.conn.execute("SELECT market_ticker, retrieved_at FROM market_data.candlesticks LIMIT 1").fetchone()
    assert one is not None
    (origin,) = ops.requests_at(store.conn, retrieved_at=one[1])
    assert "candlesticks" in origin.url
    assert one[0] in f"{origin.url} {origin.params}"


def test_a_row_of_a_file_leads_to_the_file(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "trades.json"
    trade = (
        '{"trade_id": "00000000-0000-4000-8000-00000000000%d", "ticker": "KXA-1", "count_fp": "1.00", "yes_price_dollars": "0.4000",'
        ' "no_price_dollars": "0.6000", "taker_side": "yes", "created_time": "2026-07-01T00:00:00Z"}'
    )
    file.write_text('{"trades": [' + ", ".join(trade % number for number in range(3)) + "]}")
    with Intake(store.conn, "load", origin="backfill") as intake:
        load_files(intake, find_files([file]), Hints())
    moments = store.conn.execute("SELECT retrieved_at FROM market_data.public_trades ORDER BY trade_id").fetchall()
    assert len({moment for (moment,) in moments}) == 3  # a microsecond apart
    for (moment,) in moments:
        (origin,) = ops.requests_at(store.conn, retrieved_at=moment)
        assert (origin.url, origin.http_status, origin.body_bytes) == (str(file), None, file.stat().st_size)


def test_a_walk_that_was_cut_short_is_no_success(store: Store) -> None:
    with Intake(store.conn, "simulated", origin="poll") as intake:
        intake.note_cut("/markets: stopped after 2 pages")
        intake.note_cut("/events: stopped after 1 page")
    (run,) = ops.recent_ingest_runs(store.conn, how_many=1)
    assert (run.status, run.error) == ("truncated", "/markets: stopped after 2 pages")


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_moment_at_which_nothing_arrived_leads_nowhere(store: Store, moment: datetime) -> None:
    assert ops.requests_at(store.conn, retrieved_at=moment) == []
