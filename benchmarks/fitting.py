"""How fast a network is fitted from sharded files, beside the same network fed from memory, and on two devices.

    python -m benchmarks.fitting --json

Rows are drawn by lot in the sizes of the release's declaration. One network is fitted by the product's own loop, in
turns from shards on disk and from tensors in memory, in one process; of each the fastest of three epochs counts,
without the first steps, which trace the graph. `input_ratio` is examples a second from shards over those from memory
(goal: 0.8), `input_share` the part of the time in which the step waited for rows, `checkpoint_share` the part that
checkpoints took (one every 1,000 steps and one an epoch). `two_devices_ratio` is examples a second of two logical CPU
devices over those of one: they share the machine's cores, so nothing is gained; the figure shows what replicas cost.
Nothing here says anything of a GPU.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

GOAL: Final = 0.8
TURNS: Final = 3
VOCABULARY: Final = 40


def main() -> int:
    """Run it; exit code 1 when rows from shards come slower than the goal allows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fitting", description=__doc__)
    parser.add_argument("--rows", type=int, default=150_000, help="training rows")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    with tempfile.TemporaryDirectory(prefix="plumbline-fitting-") as folder:
        result = run(Path(folder), options.rows)
    print(json.dumps(result, indent=None if options.json else 2))
    return int(result["input_ratio"] < GOAL)


def run(folder: Path, rows: int) -> dict[str, float]:
    """All figures; the folder is used for everything that is written."""
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    import tensorflow as tf

    from training.placed import strategy
    from training.recipe import Recipe
    from training.shards import write_shards

    two = strategy(2)
    one = tf.distribute.MirroredStrategy(["CPU:0"])
    examples, sizes = _examples(rows)
    shards = write_shards(folder / "examples", [examples], sizes)
    recipe = Recipe(epochs=1, validation_share=0.0)
    fitted: dict[str, list[Any]] = {"shards": [], "memory": [], "two": []}
    for turn in range(TURNS):
        given = replace(recipe, seed=turn)
        fitted["shards"].append(_fitted(shards, sizes, given, one, folder / f"kept-{turn}"))
        with patch("training.fit.training_batches", lambda *asked, **more: _from_memory(examples, *asked, **more)):
            fitted["memory"].append(_fitted(shards, sizes, given, one))
        fitted["two"].append(_fitted(shards, sizes, given, two))
    pace = {name: max(each.examples_per_second for each in found) for name, found in fitted.items()}
    fastest = max(fitted["shards"], key=lambda each: float(each.examples_per_second))
    return {
        "rows": float(rows),
        "shards_examples_per_second": round(pace["shards"]),
        "memory_examples_per_second": round(pace["memory"]),
        "two_devices_examples_per_second": round(pace["two"]),
        "input_ratio": round(pace["shards"] / pace["memory"], 3),
        "two_devices_ratio": round(pace["two"] / pace["shards"], 3),
        "input_share": round(fastest.input_share, 4),
        "checkpoint_share": round(fastest.saving_seconds / (fastest.seconds + fastest.saving_seconds), 4),
        "fitting_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cores": float(os.cpu_count() or 1),
    }


def _examples(rows: int) -> tuple[Any, list[int]]:
    import numpy as np

    from features.declaration import DECLARATION
    from training.dataset import Examples

    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, len(DECLARATION.numbers))).astype(np.float32)
    sizes = [VOCABULARY] * len(DECLARATION.categories)
    categories = random.integers(0, VOCABULARY + 1, (rows, len(sizes))).astype(np.int32)
    frauds = (random.random(rows) < 1 / (1 + np.exp(4 - numbers[:, 0]))).astype(np.float32)
    return Examples(numbers, categories, frauds), sizes


def _fitted(shards: Any, sizes: list[int], recipe: Any, placed: Any, checkpoints: Path | None = None) -> Any:
    from training.fit import fit

    return fit(shards, sizes, recipe, placed, checkpoints=checkpoints)


def _from_memory(rows: Any, _shards: Any, _range: slice, batch_rows: int, seed: int, epoch: int, skipped: int) -> Any:
    """The batches of an epoch from tensors: row numbers are shuffled, and rows gathered by them."""
    import tensorflow as tf

    columns = [tf.constant(each) for each in (rows.numbers, rows.categories, rows.frauds, rows.weights)]
    order = (
        tf.data.Dataset.range(len(rows)).shuffle(len(rows), seed=seed + epoch).batch(batch_rows, drop_remainder=True)
    )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    gathered = order.skip(skipped).map(
        lambda at: tuple(tf.gather(each, at) for each in columns), num_parallel_calls=tf.data.AUTOTUNE
    )
    return gathered.prefetch(tf.data.AUTOTUNE).with_options(options)


if __name__ == "__main__":
    sys.exit(main())
