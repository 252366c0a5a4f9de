"""The examples run, and the type checker sees in them what a user could get wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from kalshidb.models.catalog import MarketInput
from kalshidb.models.market_data import Candlestick, PriceSnapshotInput
from kalshidb.queries import catalog, market_data

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "read_prices.py"


def checked(program: str, tmp_path: Path) -> str:
    """What mypy --strict says about a program."""
    path = tmp_path / "program.py"
    path.write_text(program)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        "pyproject.toml",
        "--cache-dir",
        tmp_path / "cache",
        path,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_the_example_reads_what_is_stored(database_url: str, pg: psycopg.Connection) -> None:
    def run() -> str:
        environment = {**os.environ, "DATABASE_URL": database_url}
        done = subprocess.run([sys.executable, EXAMPLE], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run() == "nothing is stored yet: python3 run.py demo\n"
    moment = "2026-07-19T12:00:00Z"
    market = {
        "market_ticker": "KX-1", "platform_id": "kalshi", "external_id": "KX-1", "event_ticker": "KX", "title": "?", "status": "active",
        "retrieved_at": moment,
    }  # fmt: skip
    catalog.upsert_markets(pg, [MarketInput.model_validate(market)])
    quote = {
        "market_ticker": "KX-1",
        "snapshot_time": moment,
        "source": "poll",
        "yes_bid": "0.4",
        "yes_ask": "0.5",
        "retrieved_at": moment,
    }
    market_data.upsert_price_snapshots(pg, [PriceSnapshotInput.model_validate(quote)])
    candle = {
        "market_ticker": "KX-1", "end_period_ts": moment, "period_interval_minutes": 60, "yes_bid_close": "0.4", "retrieved_at": moment,
    }  # fmt: skip
    market_data.upsert_candlesticks(pg, [Candlestick.model_validate(candle)])
    pg.commit()
    assert run().splitlines() == [
        "KX-1: bid 0.400000, ask 0.500000, implied probability 45.0%",
        "2026-07-19 12:00  bid 0.400000  ask None  volume None",
    ]


def test_the_type_checker_passes_the_example_and_stops_what_is_wrong_in_it(tmp_path: Path) -> None:
    program = EXAMPLE.read_text()
    assert "no issues found" in checked(program, tmp_path)
    for right, wrong, error in [
        ("how_many=1", "how_man=1", r'Unexpected keyword argument "how_man"|No overload variant'),
        (
            '"unknown" if quote.implied_probability is None else ',
            "",
            r'Unsupported left operand|has no attribute|"None"|Item "None"',
        ),
        ("last = await market_data", "last = market_data", r'"Coroutine\[|Missing "await"|has no attribute'),
    ]:
        assert right in program
        broken = program.replace(right, wrong)
        if not right.startswith("how_many") and "implied_probability" in right:
            broken = broken.replace('f"{quote.implied_probability:.1%}"', "str(quote.implied_probability + 1)")
        said = checked(broken, tmp_path)
        assert re.search(rf"program\.py:\d+: error: .*({error})", said), said


# What the README's later examples take for granted, in its words.
GIVEN = """
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from kalshidb import postgres
from kalshidb.queries import backtest, catalog, market_data, ops, research, trading
from kalshidb.typedsql.arrow import as_arrow
conn, now = postgres.connect(), datetime.now(UTC)
"""


def test_the_backtest_is_strictly_typed_too(tmp_path: Path) -> None:
    program = (ROOT / "examples" / "backtest.py").read_text()
    assert checked(program, tmp_path).startswith("Success")
    assert "error" in checked(program.replace("asof_policy_id=", "asof_policy="), tmp_path)


def test_the_examples_in_the_readme_run(database_url: str) -> None:
    first, *others = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(others) == 5
    for program in (first, GIVEN + "\n".join(others)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
