"""How fast the simulator makes payments on one core, and what it takes to write them as an archive.

    python -m benchmarks.simulate --json

The last line is one flat JSON object. `transactions_per_second` is generation alone, up to Arrow columns;
`archive_transactions_per_second` is generation and writing together.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from archive.simulation.run import Plan, simulate, simulated

WANTED_PER_SECOND = 200_000


def main() -> int:
    """Run it on one core; exit code 1 when generation is slower than 200,000 transactions a second."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=60)
    arguments = parser.parse_args()
    _stay_on_one_core()
    plan = Plan(accounts=arguments.accounts, days=arguments.days)
    sum(batch.num_rows for batch, _ in simulated(Plan(accounts=1000, days=3)))  # load what is loaded on first use

    begun = time.perf_counter()
    rows = sum(batch.num_rows for batch, _ in simulated(plan))
    generated_seconds = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        archive = simulate(plan, Path(folder) / "archive")
        written_seconds = time.perf_counter() - begun
        size_bytes = sum(file.stat().st_size for file in archive.path.rglob("*.parquet"))

    per_second = rows / generated_seconds
    figures = {
        "transactions": rows,
        "transactions_per_second": round(per_second),
        "archive_transactions_per_second": round(rows / written_seconds),
        "archive_transaction_bytes": round(size_bytes / rows, 1),
        "generated_seconds": round(generated_seconds, 3),
        "written_seconds": round(written_seconds, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<34} {value:>14,}")
    return 0 if per_second >= WANTED_PER_SECOND else 1


def _stay_on_one_core() -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if sys.platform == "linux":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


if __name__ == "__main__":
    sys.exit(main())
