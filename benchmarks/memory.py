"""How much memory the client takes for many rows, measured in a process of its own.

Run as `python -m benchmarks.memory upsert|stream ROWS` with the database's address as the only line of standard input; prints JSON.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.data import BEGIN, COLUMNS, END, PERIOD_MINUTES, candle_tuples
from benchmarks.measure import DisagreementError
from benchmarks.server import open_connection
from kalshidb.models.market_data import Candlestick
from kalshidb.queries import market_data

KINDS = ("upsert", "stream")
MB = 1_000_000


def measured(kind: str, url: str, rows: int) -> dict[str, Any]:
    """Run one of the kinds in a fresh process; return its rows, and megabytes at the start, at the peak and between.

    Raises:
        DisagreementError: it handled another number of rows.
    """
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.memory", kind, str(rows)], input=url, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    if result["rows"] != rows:
        raise DisagreementError(f"the {kind} of {rows} rows has handled {result['rows']}")
    return result


def _handle(kind: str, url: str, rows: int) -> dict[str, Any]:
    with open_connection(url) as conn:
        conn.execute("SELECT 1")
        start = _resident()
        if kind == "upsert":
            models = (Candlestick.model_validate(dict(zip(COLUMNS, row, strict=True))) for row in candle_tuples(rows))
            handled = market_data.upsert_candlesticks(conn, models).written
        else:
            handled = sum(
                1
                for _ in market_data.candlesticks_in_window(
                    conn, period_interval_minutes=PERIOD_MINUTES, start_ts=BEGIN, end_ts=END
                )
            )
        peak = _resident(peak=True)
    return {"rows": handled, "start_mb": start / MB, "peak_mb": peak / MB, "above_start_mb": (peak - start) / MB}


def _resident(*, peak: bool = False) -> int:
    """Return this process's resident memory in bytes, now or at its highest.

    Linux's own getrusage would count the parent's memory from before the exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        word = "VmHWM:" if peak else "VmRSS:"
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(word))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes, the peak so far


if __name__ == "__main__":
    print(json.dumps(_handle(sys.argv[1], sys.stdin.read().strip(), int(sys.argv[2]))))  # noqa: T201
