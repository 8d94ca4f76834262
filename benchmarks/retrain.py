"""How fast a night is: rows a second of each step, the second night with its caches, peak memory, and how fits scale.

    python -m benchmarks.retrain --json
    python -m benchmarks.retrain --until 2018-05-15 --epochs 1 --json           (a smaller range)

Real nights, each `plumbline retrain` in a process of its own over the handbook's data set (1.75 M transactions), a day
apart. `STEP_per_second` are rows a second of a step in the first night, `second_STEP_seconds` that step a day later,
when only one day is new; `night_per_second` are transactions a second of the whole first night, imports of TensorFlow
included. `peak_mb` is the largest resident size of the first night. The figures of `benchmarks.fitting` stand beside:
`input_ratio`, examples a second from files over those from memory, and two devices against one.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from plumbline.errors import NotFound, Refused
from streaming.parts import step

DEFAULT_HANDBOOK: Final = Path("../shared/data/handbook")
STEPS: Final = ("archive", "labels", "history", "rows", "analysis", "fit", "evaluate", "gate", "register", "shadow")


def main() -> int:
    """Run it; exit code 1 where a night failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrain", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--handbook", type=Path, default=DEFAULT_HANDBOOK, help="folder of transactions-*.parquet")
    parser.add_argument("--archive", type=Path, help="an imported archive instead")
    parser.add_argument("--since", default="2018-04-01", help="first day of the data set that is imported")
    parser.add_argument("--until", default="2018-09-30", help="day on which the first night's cut-off lies")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--days", type=int, default=270, help="days to train on, at most")
    parser.add_argument("--no-fitting", action="store_true", help="leave out the figures of benchmarks.fitting")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plumbline-nights-") as folder:
        figures = nights(Path(folder), asked)
    if not asked.no_fitting:
        figures |= fitting()
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value}")
    return 0 if figures["verdicts"] == ["registered", "registered"] else 1


def nights(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Two nights, a day apart, and their figures."""
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder / "data"), "PLUMBLINE_LOG_FORMAT": "json"}
    archive = asked.archive or imported(folder, environ, asked.handbook)
    step(environ, "migrate")
    first = datetime.date.fromisoformat(asked.until) - datetime.timedelta(days=1)
    limits = folder / "limits.json"
    limits.write_text(json.dumps({"frauds_least": 1, "rows_least": 1}))
    environ["PLUMBLINE_GATE_LIMITS_FILE"] = str(limits)
    found = [
        night(environ, archive, first + datetime.timedelta(days=number), asked.epochs, asked.days, folder)
        for number in (0, 1)
    ]
    one, two = found
    figures: dict[str, Any] = {
        "verdicts": [each["verdict"] for each in found],
        "transactions": one["transactions"],
        "night_seconds": one["wall_seconds"],
        "night_per_second": round(one["transactions"] / one["wall_seconds"], 1),
        "second_night_seconds": two["wall_seconds"],
        "second_night_ratio": round(two["wall_seconds"] / one["wall_seconds"], 3),
        "peak_mb": one["peak_mb"],
        "second_peak_mb": two["peak_mb"],
    }
    for name in STEPS:
        mine, later = one["steps"].get(name), two["steps"].get(name)
        if mine and mine["state"] == "done":
            figures[f"{name}_seconds"] = mine["seconds"]
            figures[f"{name}_per_second"] = round(mine["rows"] / max(mine["seconds"], 1e-3), 1)
            figures[f"second_{name}_seconds"] = later["seconds"] if later else None
    return figures


def imported(folder: Path, environ: dict[str, str], handbook: Path) -> Path:
    """The data set as an archive."""
    if not sorted(handbook.glob("transactions-*.parquet")):
        raise NotFound(f"{handbook} holds no transactions-*.parquet: give the data set's folder with --handbook")
    archive = folder / "archive"
    step(environ, "import", "handbook", str(handbook), "--to", str(archive), "--json")
    return archive


def night(
    environ: dict[str, str], archive: Path, cut_off: datetime.date, epochs: int, days: int, folder: Path
) -> dict[str, Any]:  # fmt: skip
    """One night in a process of its own: what it printed, how long it took, and its largest resident size."""
    words = [
        "retrain", "--archive", str(archive), "--cut-off", str(cut_off), "--epochs", str(epochs), "--days", str(days),
        "--other-seeds", "0", "--no-shadow", "--json",
    ]  # fmt: skip
    out = folder / f"night-{cut_off}.json"
    begun = time.perf_counter()
    with out.open("wb") as opened, (folder / f"night-{cut_off}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "plumbline.cli.main", *words], stdout=opened, stderr=log, env=environ
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if not out.stat().st_size:
        raise Refused((folder / f"night-{cut_off}.log").read_text()[-2000:])
    found = json.loads(out.read_bytes())
    steps = {each["name"]: each for each in found["steps"]}
    return {
        "verdict": found["verdict"], "wall_seconds": round(seconds, 1), "peak_mb": round(used.ru_maxrss / 1024),
        "steps": steps, "transactions": steps["archive"]["rows"],
    }  # fmt: skip


def fitting() -> dict[str, Any]:
    """The figures of `benchmarks.fitting`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fitting", "--json"], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
