"""What each kind of skew costs: a model trained right, then served with one thing done in another way on one side.

    python -m benchmarks.skew --json
    python -m benchmarks.skew --handbook FOLDER

The simulated transactions of the Fraud Detection Handbook, protocol A: trained on 2018-07-25 to 07-31, labels get seven
days, scored are 2018-08-08 to 08-14. For each kind: average precision as the offline figure says it and as served,
what that costs against Plumbline's own served figure, and the shares of test rows whose features, score (in any bit)
or outcome differ between the two sides. Outcomes are those of the policy that `plumbline train` would suggest.
`own_different` counts the differing feature values and scores of Plumbline's own two paths: exit code 1 unless it is 0.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import NotFound, PlumblineError, StateDiverged

if TYPE_CHECKING:
    from benchmarks.skewed_model import Side  # which needs TensorFlow, and that its environment first

DEFAULT_HANDBOOK: Final = Path("../shared/data/handbook")
TRAIN, TEST, DELAY_DAYS, IMPORT_UNTIL = "2018-07-25..2018-07-31", "2018-08-08..2018-08-14", 7, "2018-08-15"
BULK_ROWS: Final = 8192
BATCH_MOST: Final = 63
"""Rows of a served batch, drawn evenly from 1: what a scorer's micro-batches are when traffic is light."""

SAID: Final = {
    "own": "history by Beam, rows in bulk | by one sweep of the kernel, batches of 1 to 63",
    "float64_by_hand": "the exported graph | the same formulas in numpy and float64, statistics by numpy",
    "float64_two_digits": "the exported graph | the same, its statistics copied with two decimals",
    "major_units": "amount in cents | amount in whole euros, history in cents",
    "sawtooth_windows": "(t - window, t] | the tail on the hop before (5 min, 1 h, 1 d by window)",
    "hopping_windows": "(t - window, t] | the newest whole window, moved on by the same hops",
    "day_old": "as of the transaction | windows as of last midnight",
    "leaked_labels": "trained and tested with frauds known at once | known when they are",
    "unpadded": "no padding in the graph, rows in bulk | the same graph, batches of 1 to 63",
}
"""What was done for the offline figure, and what was done in serving."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every kind is measured with: average precision of scores, thresholds from scores, and all sides by kind."""

    precision: Callable[[Array], float]
    thresholds: Callable[[Array], Array]
    sides: "dict[str, tuple[Side, Side]]"

    def figures(self) -> dict[str, float]:
        """Every kind's figures, under keys that begin with its name."""
        result: dict[str, float] = {}
        own = self.precision(self.sides["own"][1].scores)
        for kind, (offline, served) in self.sides.items():
            limits = self.thresholds(offline.scores)
            outcomes = [np.searchsorted(limits, side.scores.astype(np.float64), "right") for side in (offline, served)]
            precisions = [self.precision(side.scores) for side in (offline, served)]
            result |= {
                f"{kind}_offline_ap": precisions[0],
                f"{kind}_served_ap": precisions[1],
                f"{kind}_cost": own - precisions[1],
                f"{kind}_rows_differ": float(np.mean(unequal(offline.features, served.features).any(axis=1))),
                f"{kind}_scores_differ": float(np.mean(unequal(offline.scores, served.scores))),
                f"{kind}_outcomes_differ": float(np.mean(outcomes[0] != outcomes[1])),
            }
        return result


def unequal(one: Array, other: Array) -> Array:
    """Where two float32 arrays differ in any bit."""
    different: Array = np.ascontiguousarray(one).view(np.uint32) != np.ascontiguousarray(other).view(np.uint32)
    return different


def main() -> int:
    """Run it; exit code 1 when Plumbline's own two paths differ in any bit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.skew", description=__doc__)
    parser.add_argument("--handbook", type=Path, default=DEFAULT_HANDBOOK, help="folder of transactions-*.parquet")
    parser.add_argument("--seed", type=int, default=0, help="seed of the trainings and of the batches' sizes")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, and no table")
    options = parser.parse_args()
    if not sorted(options.handbook.glob("transactions-*.parquet")):
        print(f"benchmarks.skew: {options.handbook} holds no transactions-*.parquet", file=sys.stderr)
        return 1
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="plumbline-skew-") as folder:
            result = run(Path(folder), options.handbook, options.seed)
    except PlumblineError as error:
        print(f"benchmarks.skew: {error}", file=sys.stderr)
        return 1
    result["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(result) if options.json else table(result))
    return int(result["own_different"] != 0)


def table(result: dict[str, float]) -> str:
    """The result as a table of Markdown."""
    lines = [
        "| Kind | Offline AP | Served AP | Cost | Features differ | Scores differ | Outcomes differ |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in SAID:
        precisions = [f"{result[f'{kind}_{name}']:.4f}" for name in ("offline_ap", "served_ap", "cost")]
        shares = [f"{result[f'{kind}_{name}_differ']:.3%}" for name in ("rows", "scores", "outcomes")]
        lines.append("| " + " | ".join([f"`{kind}`", *precisions, *shares]) + " |")
    return "\n".join(lines)


def run(folder: Path, handbook: Path, seed: int) -> dict[str, float]:
    """Import, train and serve in a folder that is thrown away; raises NotFound when the set cannot be imported."""
    from plumbline.cli.main import run as command
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    to = str(folder / "archive")
    if command(["import", "handbook", str(handbook), "--to", to, "--until", IMPORT_UNTIL, "--json"]):
        raise NotFound(f"{handbook} could not be imported")
    from archive.layout import open_archive
    from benchmarks import skewed
    from benchmarks.skewed_model import Model, column_table, unpadded_sides
    from training.costs import Costs, choose
    from training.dataset import write_rows
    from training.metrics import ScoredRows
    from training.past import ensure_history
    from training.train import measure_as_published
    from training.windows import Windows, parse_days

    archive = open_archive(folder / "archive")
    windows = Windows(parse_days(TRAIN), DELAY_DAYS, parse_days(TEST))
    _tell("history by Beam")
    past = ensure_history(archive, folder, (windows.train.since_us, windows.test.until_us))
    files = {"train": folder / "train.parquet", "test": folder / "test.parquet"}
    write_rows(archive, past, windows.train, windows.cut_off_us, files["train"])
    write_rows(archive, past, windows.test, None, files["test"])
    tables = {name: column_table(file) for name, file in files.items()}
    columns = {name: each.columns for name, each in tables.items()}

    _tell("history by the kernel, and by naive windows")
    stream = skewed.stream_of(archive, windows.test.until_us)
    rows = {name: stream.at(each.sequence) for name, each in tables.items()}
    kernel = skewed.swept(stream, rows["test"])
    naive = skewed.history_with(stream, rows["test"], kernel, skewed.exact)
    if not np.array_equal(naive, kernel):
        raise StateDiverged("the naive windows of benchmarks.skewed are not the kernel's: mend them first")
    leaky = stream.with_labels_leaked()
    leaked = {
        name: skewed.history_with(leaky, leaky.at(tables[name].sequence), columns[name]["history"], skewed.exact)
        for name in tables
    }

    _tell("training")
    model = Model.trained(files["train"], folder / "right", seed)
    _tell("training with leaked labels")
    files["leaked"] = tables["train"].with_history(leaked["train"], folder / "leaked.parquet")
    leaky_model = Model.trained(files["leaked"], folder / "leaky", seed)

    _tell("serving")
    test, draw = columns["test"], np.random.default_rng(seed)
    small = np.cumsum(draw.integers(1, BATCH_MOST + 1, len(kernel)))
    small = small[small < len(kernel)]
    bulk = np.arange(BULK_ROWS, len(kernel), BULK_ROWS)
    right = model.served(test, bulk)
    by_hand = skewed.ByHand.learnt(columns["train"])
    sides = {
        "own": (right, model.served(test | {"history": kernel}, small)),
        "float64_by_hand": (right, model.served_numbers(by_hand.numbers(test), right.features)),
        "float64_two_digits": (right, model.served_numbers(by_hand.rounded(2).numbers(test), right.features)),
        "major_units": (right, model.served(skewed.in_major_units(test), bulk)),
        "leaked_labels": (
            leaky_model.served(test | {"history": leaked["test"]}, bulk), leaky_model.served(test, bulk),
        ),
    }  # fmt: skip
    for kind, edges in (
        ("sawtooth_windows", skewed.sawtooth), ("hopping_windows", skewed.hopping), ("day_old", skewed.day_old),
    ):  # fmt: skip
        history = skewed.history_with(stream, rows["test"], kernel, edges)
        sides[kind] = (right, model.served(test | {"history": history}, bulk))
    _tell("serving without padding")
    sides["unpadded"] = unpadded_sides(model, files["train"], folder / "unpadded", test, bulk, small)

    def scored(scores: Array) -> ScoredRows:
        truth = tables["test"]
        return ScoredRows(
            truth.transaction_ids, test["occurred_at"], truth.accounts, scores, truth.frauds,
            amounts_minor=test["amount_minor"],
        )  # fmt: skip

    def thresholds(scores: Array) -> Array:
        chosen = choose(scored(scores), Costs())
        return np.array([chosen.review_at, chosen.decline_at])

    bench = Bench(
        lambda scores: measure_as_published(archive, windows, scored(scores))["ap_unblocked"], thresholds, sides
    )
    one, other = sides["own"]
    different = np.count_nonzero(unequal(one.features, other.features)) + np.count_nonzero(
        unequal(one.scores, other.scores)
    )
    compared = one.features.size + one.scores.size
    return {"rows": float(len(kernel)), "own_compared": float(compared), "own_different": float(different)} | (
        bench.figures()
    )


def _tell(step: str) -> None:
    print(step, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
