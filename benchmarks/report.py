"""What came out: a table for people, JSON for programs, and the ratios that the project has promised itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import calls, reads, writes
from benchmarks.measure import Section, Spread

MEMORY_LIMIT_MB = 150


@dataclass(frozen=True)
class Target:
    """A ratio with the least that is asked of it."""

    name: str
    section: str
    of: str
    against: str
    asked: float


TARGETS = (
    Target("bulk upsert of ready models, first load, against raw CSV COPY", "writes", writes.OURS, writes.COPY, 0.70),
    Target("bulk upsert of ready models, keys known to be new, against raw CSV COPY", "writes", writes.NEW, writes.COPY, 0.85),
    Target("the same batch again, nothing changed, against the first load", "writes", writes.AGAIN, writes.OURS, 1.5),
    Target("bulk upsert against SQLAlchemy Core executemany upsert", "writes", writes.OURS, writes.CORE, 2.0),
    Target("bulk upsert against SQLAlchemy Core insertmanyvalues upsert", "writes", writes.OURS, writes.CORE_VALUES, 2.0),
    Target("bulk upsert against ORM merge", "writes", writes.OURS, writes.MERGE, 30),
    Target("validated read of models against psycopg binary tuples", "reads", reads.OURS, reads.BINARY, 0.60),
    Target("validated read of models against SQLAlchemy ORM", "reads", reads.OURS, reads.ORM, 1.6),
    Target("Arrow read against validated read", "reads", reads.ARROW, reads.OURS, 5),
    Target("one-row typed call against conn.execute().fetchone(): candlestick", "candlestick_as_of", calls.TYPED, calls.PLAIN, 0.90),
    Target("one-row typed call against conn.execute().fetchone(): market", "market_by_ticker", calls.TYPED, calls.PLAIN, 0.90),
)  # fmt: skip
"""What is asked for. Both of SQLAlchemy Core's ways are held against the same number, as the second is not its default."""


def as_json(
    around: Mapping[str, Any],
    options: Mapping[str, Any],
    sections: Mapping[str, Section],
    memory: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return everything that was measured, raw, with the promised ratios."""
    return {
        **around,
        "options": dict(options),
        "sections": {
            key: {
                "title": section.title,
                "ours": section.ours,
                "alternatives": {
                    name: {
                        "size": section.sizes[name],
                        "seconds": section.seconds[name],
                        "client_seconds": section.client_seconds[name],
                        f"{section.unit}_per_second": asdict(Spread.of(section.rates(name))),
                    }
                    for name in section.seconds
                },
                "skipped": dict(section.skipped),
            }
            for key, section in sections.items()
        },
        "memory": {kind: dict(result) for kind, result in memory.items()},
        "ratios": [*_ratios(sections), *_memory_limits(memory)],
    }


def _ratios(sections: Mapping[str, Section]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for target in TARGETS:
        ratio = sections[target.section].ratio(target.of, target.against)
        row: dict[str, Any] = {"what": target.name, "asked": target.asked, "reached": None, "median": None}
        if ratio is not None:
            row |= {**asdict(ratio), "reached": ratio.median >= target.asked}
        else:
            skipped = sections[target.section].skipped
            row["skipped"] = skipped.get(target.of) or skipped.get(target.against)
        rows.append(row)
    return rows


def _memory_limits(memory: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "what": f"memory of {kind} of {result['rows']:,} rows, MB above start",
            "asked": MEMORY_LIMIT_MB,
            "median": result["above_start_mb"],
            "reached": result["above_start_mb"] < MEMORY_LIMIT_MB,
        }
        for kind, result in memory.items()
    ]


def show_surroundings(console: Console, around: Mapping[str, Any]) -> None:
    """Print what was measured on."""
    machine, versions = around["machine"], around["versions"]
    console.print(
        f"{around['date']}  {machine['system']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB\n"
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        style="dim",
        highlight=False,
    )


def show_section(console: Console, section: Section) -> None:
    """Print how fast the alternatives of a section were; done as soon as it is known."""
    console.print(_section_table(section))


def show_ratios(console: Console, results: Mapping[str, Any]) -> None:
    """Print what was asked for and whether it was reached."""
    console.print(_target_table(results["ratios"]))


def _section_table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in (f"{section.unit}/s", "lowest to highest", f"{section.ours} ÷ this", "client µs"):
        table.add_column(heading, justify="right")
    for name in section.seconds:
        rate, ratio = Spread.of(section.rates(name)), section.ratio(section.ours, name)
        table.add_row(
            name,
            f"{rate.median:,.0f}",
            f"{rate.low:,.0f} to {rate.high:,.0f}",
            "" if ratio is None or name == section.ours else f"{ratio.median:.2f}",
            f"{section.client_microseconds(name):,.1f}",
            style="bold" if name == section.ours else None,
        )
    for name, why in section.skipped.items():
        table.add_row(name, "skipped", why, "", "", style="dim")
    return table


def _target_table(ratios: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="What was asked for", title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("measured", "lowest to highest", "at least", "reached"):
        table.add_column(heading, justify="right")
    for row in ratios:
        if row["reached"] is None:
            table.add_row(row["what"], "skipped", row["skipped"], f"{row['asked']:g}", "", style="dim")
            continue
        memory = row["what"].startswith("memory")
        table.add_row(
            row["what"],
            f"{row['median']:.0f}" if memory else f"{row['median']:.2f}",
            "" if memory else f"{row['low']:.2f} to {row['high']:.2f}",
            ("< " if memory else "") + f"{row['asked']:g}",
            "yes" if row["reached"] else "no",
            style=None if row["reached"] else "red",
        )
    return table
