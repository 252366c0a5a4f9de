"""The tables of docs/performance.md from a run's JSON: `python -m benchmarks.markdown FILE`."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def tables(results: Mapping[str, Any]) -> str:
    """Return what a run has found, as Markdown."""
    return "\n".join([*_head(results), *_ratios(results), *_sections(results)]) + "\n"


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    machine, options = results["machine"], results["options"]
    yield f"{results['date'][:10]} · {machine['system']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB ·"
    yield ", ".join(f"{name} {version}" for name, version in results["versions"].items()) + " ·"
    yield f"{options['rows']:,} rows, {options['rounds']} rounds, {options['memory_rows']:,} rows for memory."


def _ratios(results: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "| asked for | median | lowest to highest | at least | reached |", "|---|---:|---:|---:|---|")
    for row in results["ratios"]:
        if row["reached"] is None:
            yield f"| {row['what']} | | {row['skipped']} | {row['asked']:g} | |"
        else:
            low_high = f"{row['low']:.2f} to {row['high']:.2f}" if "low" in row else ""
            asked = f"{row['asked']:g}" if "low" in row else f"< {row['asked']:g}"
            median = f"{row['median']:.2f}" if "low" in row else f"{row['median']:.0f}"
            yield f"| {row['what']} | {median} | {low_high} | {asked} | {'yes' if row['reached'] else 'no'} |"


def _sections(results: Mapping[str, Any]) -> Iterator[str]:
    for section in results["sections"].values():
        unit = next(key for key in next(iter(section["alternatives"].values())) if key.endswith("_per_second"))
        yield from ("", f"| {section['title'].lower()} | {unit.partition('_')[0]}/s | lowest to highest |", "|---|---:|---:|")
        for name, one in section["alternatives"].items():
            rate, shown = one[unit], f"**{name}**" if name == section["ours"] else name
            yield f"| {shown} | {rate['median']:,.0f} | {rate['low']:,.0f} to {rate['high']:,.0f} |"
        for name, why in section["skipped"].items():
            yield f"| {name} | skipped | {why} |"


if __name__ == "__main__":
    print(tables(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")  # noqa: T201
