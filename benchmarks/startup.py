"""How long the light processes take from their start to being ready: the scorer leads, the console answers.

    python -m benchmarks.startup --json

`python_seconds` is an interpreter that does nothing, beside which the others are to be read; medians of a few starts.
`*_imports_tensorflow` is 1 if TensorFlow was mapped into the process: neither may.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from demo.prepare import secret_files
from streaming.broker.local import LocalBroker
from streaming.parts import command, start, step


def main() -> int:
    """Run it; exit code 1 when a process takes more than 2 s, or holds TensorFlow."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plumbline-benchmark-") as folder:
        figures = measure(Path(folder), asked.rounds)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:>8.3f}")
    good = max(figures["scorer_ready_seconds"], figures["web_ready_seconds"]) <= 2
    return 0 if good and not figures["scorer_imports_tensorflow"] and not figures["web_imports_tensorflow"] else 1


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """All figures; the folder is used for everything that is written."""
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder), **secret_files(folder)}
    step(environ, "migrate", "--json")
    with LocalBroker(folder) as broker:
        environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        environ["PLUMBLINE_MESSAGE_MAX_AGE_DAYS"] = "36500"  # fixed days are played, whenever this runs
        step(environ, "topics", "--json")
        _ready(folder, environ, "score", ["score", "--json"], {"state": "leading"})  # compiles what is compiled once
        scorer = [_ready(folder, environ, "score", ["score", "--json"], {"state": "leading"}) for _ in range(rounds)]
        web = [_ready(folder, environ, "web", ["web", "--port", "0", "--json"], {"url": ...}) for _ in range(rounds)]
    plain = [_seconds([sys.executable, "-c", "pass"]) for _ in range(rounds)]
    helping = [_seconds(command("--help")) for _ in range(rounds)]
    return {
        "scorer_ready_seconds": round(statistics.median(seconds for seconds, _ in scorer), 3),
        "web_ready_seconds": round(statistics.median(seconds for seconds, _ in web), 3),
        "help_seconds": round(statistics.median(helping), 3),
        "python_seconds": round(statistics.median(plain), 3),
        "scorer_imports_tensorflow": max(found for _, found in scorer),
        "web_imports_tensorflow": max(found for _, found in web),
    }


def _ready(
    folder: Path, environ: dict[str, str], name: str, arguments: list[str], wanted: dict[str, Any]
) -> tuple[float, int]:
    """Seconds from start to the line that says it is ready, and whether TensorFlow is in the process."""
    with ExitStack() as stack:
        begun = time.monotonic()
        part = start(name, environ, folder / "logs", arguments)
        stack.callback(part.stop)
        part.wait_for(**wanted)
        seconds = time.monotonic() - begun
        mapped = Path(f"/proc/{part.child.pid}/maps").read_text()
        return seconds, int("tensorflow" in mapped)


def _seconds(arguments: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
