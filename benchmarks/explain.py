"""Whether explanations add up, are true, and are cheap: of the model that is exported, against leaving one out.

    python -m benchmarks.explain --json
    python -m benchmarks.explain --archive var/archive --json      (instead of simulating)

A model is trained on an archive. Of its test rows the 500 with the highest scores stand for alerts. Of their effects,
as the exported `explain` signature gives them, and of those that come of leaving out one feature at a time
(`left_out_*`), which was the way before:

- `misses`: the largest distance of a row's sum from its log-odds less the baseline's; `misses_allowed`: the share of
  what is allowed (`serving.effects.COMPLETE_WITHIN`) that the worst row takes;
- `won_share`: of alerts, how often taking the first reason's feature away lowers the log-odds more than another
  feature drawn by lot; `won_probability`: of winning so often by luck; `fall`, `other_fall`: by how much on the mean;
- `any_set_error`: root mean square distance, in log-odds, between the sum of the effects of features drawn by lot and
  how far the log-odds fall when all of them are taken away together;
- `explain_ms_N`, `score_ms_N`: of N rows in one call in this process, the best of several; `explain_ratio_N`.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plumbline.errors import PlumblineError

if TYPE_CHECKING:
    from archive.layout import Archive
    from features.analysis import Columns
    from training.evaluate import Loaded
    from training.export import Exported

ALERTS: Final = 500
SETS: Final = 100
SIZES: Final = (1, 64, 512)
CALLS: Final = 20
LUCK_MOST: Final = 1e-6


def main() -> int:
    """Run it; exit code 1 when effects do not add up, or name no better features than luck would."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain", description=__doc__)
    parser.add_argument("--archive", type=Path, help="archive to train on; a bank is simulated when not given")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    try:
        with tempfile.TemporaryDirectory(prefix="plumbline-explain-") as folder:
            result = run(Path(folder), options.archive)
    except PlumblineError as error:
        print(f"benchmarks.explain: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=None if options.json else 2))
    return int(not (result["misses_allowed"] <= 1 and result["won_probability"] < LUCK_MOST))


def run(folder: Path, archive: Path | None) -> dict[str, float]:
    """All figures; the folder is used for everything that is written."""
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from archive.layout import open_archive
    from archive.simulation.run import Plan, simulate
    from serving.effects import incomplete
    from training.faithful import falls

    bank = simulate(Plan(accounts=1500, days=60), folder / "archive") if archive is None else open_archive(archive)
    exported, model, columns = _trained(bank, folder)
    found = model.call("explain", columns)
    fall = falls(exported, columns)
    features = found["effects"].shape[1]
    left_out = np.stack([fall(row) for row in np.eye(features, dtype=bool)[:, None]], axis=1)
    gap = found["logit"].astype(np.float64) - found["baseline_logit"]
    result: dict[str, float] = {"alerts": len(gap), "features": features}
    for name, effects in (("", found["effects"].astype(np.float64)), ("left_out_", left_out)):
        result[f"{name}misses"] = float(np.max(np.abs(effects.sum(axis=1) - gap)))
        result |= {f"{name}{each}": value for each, value in _truth(exported, columns, effects, fall).items()}
    result["misses_allowed"] = incomplete(found["effects"], found["logit"], found["baseline_logit"])
    return {**result, **_times(model, columns)}


def _trained(archive: "Archive", folder: Path) -> tuple["Exported", "Loaded", "Columns"]:
    """A model as `plumbline train` makes it, before and after its export, and the raw columns of its alerts."""
    from features.analysis import write_analysis
    from features.declaration import DECLARATION
    from plumbline.errors import InvalidArchive
    from training.dataset import examples, row_batches, write_rows
    from training.evaluate import load
    from training.export import Exported, Transform, save
    from training.fit import Recipe, fit, strategy
    from training.past import ensure_history
    from training.windows import automatic

    first, last = archive.manifest.first_occurred_at, archive.manifest.last_occurred_at
    if first is None or last is None:
        raise InvalidArchive(f"archive {archive.path}", "rows", 0, "one transaction or more")
    windows = automatic(first, last, 7)
    history = ensure_history(archive, folder / "history", (windows.train.since_us, windows.test.until_us))
    write_rows(archive, history, windows.train, windows.cut_off_us, folder / "train.parquet")
    write_rows(archive, history, windows.test, None, folder / "test.parquet")
    write_analysis([folder / "train.parquet"], folder / "analysis")
    transform = Transform(folder / "analysis")
    learnable = examples(folder / "train.parquet", transform.features)
    exported = Exported(transform, fit(learnable, transform.vocabulary_sizes, Recipe(), strategy(None)).network)
    model = load(save(exported, folder), DECLARATION)
    ((columns, _),) = row_batches(folder / "test.parquet", rows=2**31 - 1)
    highest = np.argsort(-model.score(columns), kind="stable")[:ALERTS]
    return exported, model, {name: column[highest] for name, column in columns.items()}


def _truth(
    exported: "Exported", columns: "Columns", effects: np.ndarray, fall: Callable[[Any], Any]
) -> dict[str, float]:
    from training.faithful import first_reasons

    found = first_reasons(exported, columns, effects, seed=1)
    random, rows = np.random.default_rng(2), len(effects)
    errors = []
    for _ in range(SETS):
        taken = random.random(effects.shape[1]) < random.random()
        errors.append(np.where(taken, effects, 0).sum(axis=1) - fall(np.tile(taken, (rows, 1))))
    return {
        "won_share": found.won / max(1, found.compared),
        "won_probability": found.probability,
        "fall": found.fall,
        "other_fall": found.other_fall,
        "any_set_error": float(np.sqrt(np.mean(np.square(errors)))),
    }


def _times(model: "Loaded", columns: "Columns") -> dict[str, float]:
    result = {}
    for size in SIZES:
        rows = np.resize(np.arange(len(columns["history"])), size)
        given = {name: column[rows] for name, column in columns.items()}
        best = {signature: _best_ms(model, signature, given) for signature in ("explain", "serving_default")}
        result[f"explain_ms_{size}"] = round(best["explain"], 3)
        result[f"score_ms_{size}"] = round(best["serving_default"], 3)
        result[f"explain_ratio_{size}"] = round(best["explain"] / best["serving_default"], 3)
    return result


def _best_ms(model: "Loaded", signature: str, given: "Columns") -> float:
    taken = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        model.call(signature, given)
        taken.append(time.perf_counter() - begun)
    return min(taken) * 1000


if __name__ == "__main__":
    sys.exit(main())
