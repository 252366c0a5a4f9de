"""The benchmark runs, names everything that it compares, and notices an alternative that does not do the same work."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks is no installed package

from benchmarks import calls, data, markdown, reads, report, writes  # noqa: E402
from benchmarks.measure import Alternative, DisagreementError, Section, measure  # noqa: E402
from benchmarks.server import open_connection  # noqa: E402

from kalshidb.queries import catalog  # noqa: E402

WRITES = {
    writes.COPY, writes.OURS, writes.NEW, writes.AGAIN, writes.TUPLES, writes.CSV, writes.ARROW,
    writes.PSYCOPG, writes.CORE, writes.CORE_VALUES, writes.MERGE, writes.ASYNCPG,
}  # fmt: skip
READS = {
    reads.OURS, reads.STREAM, reads.ARROW, reads.BINARY, reads.TEXT, reads.CLASS_ROW,
    reads.ORM, reads.ASYNCPG, reads.ADBC, reads.CSV,
}  # fmt: skip
CALLS = {calls.TYPED, calls.PLAIN}


def test_a_small_run_names_every_alternative_and_finds_that_all_did_the_same(tmp_path: Path, scratch: Path) -> None:
    file = tmp_path / "results.json"
    sizes = ["--quick", "--rows", "500", "--memory-rows", "500", "--calls", "10", "--rounds", "1"]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", *sizes, "--json", file],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Ends with an error if an alternative has stored or returned other rows than the rest.
    assert ran.returncode == 0, ran.stdout + ran.stderr

    results = json.loads(file.read_text())
    expected = {"writes": WRITES, "reads": READS, "candlestick_as_of": CALLS, "market_by_ticker": CALLS}
    assert set(results["sections"]) == set(expected)
    for key, names in expected.items():
        section = results["sections"][key]
        assert set(section["alternatives"]) | set(section["skipped"]) == names
        assert set(section["alternatives"]) & set(section["skipped"]) == set()
        assert section["ours"] in section["alternatives"]
        assert all(name in ran.stdout for name in names)
        assert all(len(one["seconds"]) == (1 if key in {"writes", "reads"} else 4) for one in section["alternatives"].values())
    assert [row["what"] for row in results["ratios"][: len(report.TARGETS)]] == [target.name for target in report.TARGETS]
    assert {kind: result["rows"] for kind, result in results["memory"].items()} == {"upsert": 500, "stream": 500}
    assert results["versions"]["postgresql"]
    assert results["settings"]["fsync"] == "on"
    assert str(scratch) not in file.read_text()
    assert all(f"| {target.name} |" in markdown.tables(results) for target in report.TARGETS)


def test_a_row_that_is_missing_or_other_is_noticed(database_url: str) -> None:
    with open_connection(database_url) as conn:
        catalog.upsert_markets(conn, data.markets(50))
        with writes.alternatives(database_url, conn, rows=50, merged=1) as (_, ways):
            copy = ways[0]
            for damage in (
                "UPDATE market_data.candlesticks SET volume = volume + 1 WHERE end_period_ts = %s",
                "UPDATE market_data.candlesticks SET price_previous = NULL WHERE end_period_ts = %s",
                "DELETE FROM market_data.candlesticks WHERE end_period_ts = %s",
            ):
                copy.before()
                copy.check(copy.run())
                assert conn.execute(damage, [data.BEGIN + timedelta(hours=10)]).rowcount == 1
                with pytest.raises(DisagreementError, match="other rows"):
                    copy.check(None)
        copy.before()
        copy.run()
        with reads.alternatives(database_url, conn) as (_, ways):
            for way in ways:
                way.check(way.run())
            conn.execute("DELETE FROM market_data.candlesticks WHERE volume = 0")
            for way in ways:
                with pytest.raises(DisagreementError, match="other rows"):
                    way.check(way.run())


def test_what_needs_a_missing_package_is_skipped_and_says_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (writes, reads):
        monkeypatch.setattr(module, "missing", lambda *packages: f"{packages[0]} is not installed")
    with open_connection(database_url) as conn:
        catalog.upsert_markets(conn, data.markets(10))
        with writes.alternatives(database_url, conn, rows=10, merged=1) as (section, ways):
            assert {way.name for way in ways} | set(section.skipped) == WRITES
            assert section.skipped[writes.MERGE] == section.skipped[writes.CORE] == "sqlalchemy is not installed"
            assert section.skipped[writes.ASYNCPG] == "asyncpg is not installed"
        with reads.alternatives(database_url, conn) as (section, ways):
            assert {way.name for way in ways} | set(section.skipped) == READS
            assert section.skipped[reads.CSV] == section.skipped[reads.ADBC] == "pyarrow is not installed"


def test_every_alternative_runs_once_a_round_in_a_turning_order_and_is_compared_within_it() -> None:
    ran: list[str] = []
    ways = [Alternative(name, lambda name=name: ran.append(name), 10) for name in "abcd"]
    section = measure(Section("Letters", "rows", "a"), ways, rounds=4)
    assert "".join(ran) == "abcd" + "abcd" + "bcda" + "cdab" + "dabc"

    section.seconds |= {"a": [1, 2, 4], "b": [2, 4, 40]}
    ratio = section.ratio("a", "b")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 10)
    assert section.ratio("a", "not measured") is None


def test_the_rows_are_the_same_every_time_and_fit_the_model() -> None:
    batch = data.Batch(600).prepare()
    assert batch.tuples == list(data.candle_tuples(600))
    assert len({row[:3] for row in batch.tuples}) == 600
    assert batch.models[599].market_ticker == data.market_ticker(1)
    assert len({model.end_period_ts.month for model in batch.models}) == 2


def test_the_benchmark_of_versions_runs_and_its_races_leave_nothing_wrong(tmp_path: Path, scratch: Path) -> None:
    file = tmp_path / "versions.json"
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.versions", "--markets", "200", "--rounds", "1", "--json", file],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads(file.read_text())
    assert [len(section) for section in results["sections"].values()] == [5, 2]
    assert [(one["raised"], one["broken"], one["regressions"], one["lost"]) for one in results["races"]] == [([], 0, 0, 0)] * 2


def test_the_benchmark_of_ingestion_stores_what_its_answers_hold(tmp_path: Path, scratch: Path) -> None:
    file = tmp_path / "ingestion.json"
    sizes = ["--markets", "60", "--rows", "1000", "--memory-rows", "10000", "--rounds", "1"]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingestion", *sizes, "--json", file],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Ends with an error if anything was stored that had not changed, or was not stored that had.
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads(file.read_text())
    assert set(results["measured"]) == {
        "first poll", "poll, 84 % unchanged", "candlesticks, bytes to rows", "candlesticks, two workers",
        "candlesticks, parsed and validated", "trades, bytes to rows", "trades, two workers", "trades, parsed and validated",
        "sync-markets",
    }  # fmt: skip
    assert results["memory"]["rows"] == 10_000
    assert len(results["asked"]) == 8
    assert str(scratch) not in file.read_text()
