"""A month of the handbook's payments through real Kafka, and the audit of all of it.

    python -m benchmarks.month --json

The simulated transactions of the Fraud Detection Handbook are imported, a model is trained on a week of July,
and a month is streamed with its labels in step: broker, model server, scorer, journal. Then `plumbline audit` computes
every decision again. `different` is the promise: 0. Takes some ten minutes on two cores.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.through_kafka import streamed
from plumbline.errors import NotFound, PlumblineError
from streaming.parts import step

DEFAULT_HANDBOOK: Final = Path("../shared/data/handbook")
TRAIN, TEST = "2018-07-10..2018-07-17", "2018-07-25..2018-07-31"


def main() -> int:
    """Run it; exit code 1 when a decision differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.month", description=__doc__)
    parser.add_argument("--handbook", type=Path, default=DEFAULT_HANDBOOK, help="folder of transactions-*.parquet")
    parser.add_argument("--since", default="2018-08-01", help="first day that is streamed")
    parser.add_argument("--until", default="2018-09-01", help="the day after the last")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="plumbline-month-") as folder:
            result = run(Path(folder), options.handbook, options.since, options.until)
    except PlumblineError as error:
        print(f"benchmarks.month: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=None if options.json else 2))
    return int(result["different"] != 0)


def run(folder: Path, handbook: Path, since: str, until: str) -> dict[str, Any]:
    """Import, train, stream and audit in a folder; raises NotFound when the data set is not there."""
    if not sorted(handbook.glob("transactions-*.parquet")):
        raise NotFound(f"{handbook} holds no transactions-*.parquet: give the data set's folder with --handbook")
    data, archive = folder / "data", folder / "archive"
    models = data / "models" / "plumbline"
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(data)}
    step(environ, "import", "handbook", str(handbook), "--to", str(archive), "--json")
    step(environ, "train", "--archive", str(archive), "--train", TRAIN, "--test", TEST, "--json")
    with streamed(data, archive, models, since, until) as done:
        begun = time.monotonic()
        printed = step(done.environ, "audit", "--archive", str(archive), "--no-record", "--json", allowed=(0, 1))
        seconds = time.monotonic() - begun
    found = json.loads(printed.splitlines()[-1])
    layers = {name: value for name, value in found.items() if name.endswith(("_compared", "_different"))}
    return {
        "transactions": done.transactions,
        "stream_seconds": round(done.seconds, 1),
        "compared": found["compared"],
        "different": found["different"],
        "audit_seconds": round(seconds, 1),
        **layers,
    }


if __name__ == "__main__":
    sys.exit(main())
