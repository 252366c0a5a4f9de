"""`python -m benchmarks [--quick] [--json FILE]`: starts a server, measures, prints one table.

The exit status says whether the measuring worked and all alternatives did the same; never whether the numbers please.
"""

import argparse
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from benchmarks import calls, data, memory, reads, report, writes
from benchmarks.measure import Section, measure
from benchmarks.server import migrated_server, open_connection, surroundings
from kalshidb.queries import catalog


def main() -> None:
    """Measure what the command line asks for."""
    options = _options()
    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120)
    with migrated_server() as url, open_connection(url) as conn, console.status("") as status:
        around = surroundings(conn)
        report.show_surroundings(console, around)
        sections, used = _run(url, conn, options, status.update, lambda section: report.show_section(console, section))
    sizes = {name: getattr(options, name) for name in ("rows", "rounds", "calls", "memory_rows")}
    results = report.as_json(around, sizes, sections, used)
    report.show_ratios(console, results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the typed functions against their alternatives.")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows; good for a first look, not for comparing versions"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every timing, the machine and the versions to FILE")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--memory-rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"rows": 20_000, "memory_rows": 200_000, "calls": 500, "rounds": 5}
    if not options.quick:
        sizes = {"rows": 200_000, "memory_rows": 2_000_000, "calls": 2_000, "rounds": 5}
    for name, size in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, size)
    return options


def _run(
    url: str,
    conn: psycopg.Connection[Any],
    options: argparse.Namespace,
    progress: Callable[[str], None],
    show: Callable[[Section], None],
) -> tuple[dict[str, Section], dict[str, dict[str, Any]]]:
    progress("Markets")
    catalog.upsert_markets(conn, data.markets(max(options.rows, options.memory_rows)))
    conn.execute("VACUUM (ANALYZE) catalog.markets")
    sections = {"writes": _writes(url, conn, options, progress)}
    show(sections["writes"])
    conn.execute("TRUNCATE market_data.candlesticks")
    writes.copy(conn, data.Batch(options.rows))
    sections["reads"] = _reads(url, conn, options, progress)
    show(sections["reads"])
    for prepare in (calls.candlestick_as_of, calls.market_by_ticker):
        # Many short turns rather than few long ones: a call takes a fraction of a millisecond.
        sections[prepare.__name__] = measure(*prepare(conn, options.calls), options.rounds * 4, progress)
        show(sections[prepare.__name__])

    conn.execute("TRUNCATE market_data.candlesticks")
    used = {}
    for kind in memory.KINDS:
        progress(f"Memory: {kind} of {options.memory_rows:,} rows")
        used[kind] = memory.measured(kind, url, options.memory_rows)
    return sections, used


def _writes(url: str, conn: psycopg.Connection[Any], options: argparse.Namespace, progress: Callable[[str], None]) -> Section:
    merged = max(1, options.rows // 100)  # a row a round trip: as many would take minutes
    with writes.alternatives(url, conn, options.rows, merged) as (section, ways):
        _freeze()
        return measure(section, ways, options.rounds, progress)


def _reads(url: str, conn: psycopg.Connection[Any], options: argparse.Namespace, progress: Callable[[str], None]) -> Section:
    with reads.alternatives(url, conn) as (section, ways):
        _freeze()
        return measure(section, ways, options.rounds, progress)


def _freeze() -> None:
    """Take the ready-made rows out of the garbage collector's sight: they would slow down whoever makes objects."""
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
