"""History and statistics on another Beam runner against the embedded one: every bit compared, both timed.

    python -m benchmarks.beam --runner flink --json
    python -m benchmarks.beam --runner portable --options "--job_endpoint=127.0.0.1:8099" --json

Without --runner it is the job server of Beam's Python wheel, in a process of its own. Simulated payments; a runner's
own settings are read from the environment as by `plumbline train`. Exits 1 when a number of history differs.
Keys: `rows`, `history_differing` (numbers), `statistics_differing` and `statistics_most` (features made with them, and
the largest difference of one), `embedded_seconds`, `runner_seconds` (history and analysis together).
"""

import argparse
import contextlib
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from archive.layout import Archive
from archive.simulation.run import Plan, simulate
from features.analysis import write_analysis
from features.pieces import read_history
from features.runner import EMBEDDED, Runner
from plumbline import settings
from plumbline.cli.beam import job_server, runner_of
from training.dataset import Examples, examples, write_rows
from training.export import Transform
from training.past import ensure_history
from training.windows import Days


def main() -> None:
    """Compare, print, and exit 1 when history differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runner", choices=["wheel", "flink", "portable"], default="wheel")
    parser.add_argument("--options", default="", help="Beam's flags")
    parser.add_argument("--accounts", type=int, default=2000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    plan = Plan(accounts=asked.accounts, days=asked.days, start=datetime.date(2024, 1, 1), seed=1)
    with tempfile.TemporaryDirectory(prefix="plumbline-beam-") as name, contextlib.ExitStack() as stack:
        if asked.runner == "wheel":
            endpoint, gone = stack.enter_context(job_server(wheel, Path(name) / "job-server.log"))
            other = Runner("PortableRunner", (f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"), gone)
        else:
            given = msgspec.structs.replace(settings.load(), beam_runner=asked.runner)
            if asked.options:
                given = msgspec.structs.replace(given, beam_options=asked.options)
            other = stack.enter_context(runner_of(given))
        found = compare(Path(name), plan, other)
    print(json.dumps(found) if asked.json else "\n".join(f"{key:<22} {value}" for key, value in found.items()))
    sys.exit(1 if found["history_differing"] else 0)


def wheel(port: int, staged: Path) -> list[str]:
    """Starts the job server that Beam's Python wheel carries."""
    server = "apache_beam.runners.portability.local_job_service_main"
    return [sys.executable, "-m", server, "--port", str(port), "--staging_dir", str(staged)]


def compare(folder: Path, plan: Plan, runner: Runner) -> dict[str, float]:
    """Compute everything twice and count what differs."""
    archive = simulate(plan, folder / "archive")
    ours, one = _made(archive, folder / "embedded", folder / "embedded", EMBEDDED)
    theirs, other = _made(archive, folder / "runner", folder / "embedded", runner)
    left, right = (read_history(each.history) for each in (one, other))
    pairs = zip(left.columns, right.columns, strict=True)
    differing = sum(int((np.asarray(a) != np.asarray(b)).sum()) for a, b in pairs)
    away = np.abs(ours.numbers - theirs.numbers)
    return {
        "rows": left.num_rows,
        "history_differing": differing,
        "statistics_differing": int((away > 0).sum() + (ours.categories != theirs.categories).sum()),
        "statistics_most": float(away.max()),
        "embedded_seconds": round(one.seconds, 2),
        "runner_seconds": round(other.seconds, 2),
    }


class _Made(msgspec.Struct):
    history: Path
    seconds: float


def _made(archive: Archive, folder: Path, rows_folder: Path, runner: Runner) -> tuple[Examples, _Made]:
    """History of the archive, and the features of the embedded runner's rows after an analysis on this runner."""
    first, last = archive.manifest.first_occurred_at, archive.manifest.last_occurred_at
    assert first is not None
    assert last is not None
    days = Days(first // 86_400_000_000, last // 86_400_000_000)
    folder.mkdir()
    started = time.perf_counter()
    history = ensure_history(archive, folder, (days.since_us, days.until_us), runner=runner)
    rows = rows_folder / "rows.parquet"
    if runner == EMBEDDED:
        write_rows(archive, history, days, None, rows)
    write_analysis([rows], folder / "analysis", runner=runner)
    seconds = time.perf_counter() - started
    return examples(rows, Transform(folder / "analysis").features), _Made(history, seconds)


if __name__ == "__main__":
    main()
