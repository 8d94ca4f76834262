"""Run as a program: computes the same rows in batches of many sizes, in order and out of it.

Prints, as JSON, how many numbers differ from those of one batch of all rows, and keeps that batch's numbers.

python tests/training/batches.py MODEL_FOLDER ROWS.parquet NUMBERS.npz
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "0"

import numpy as np

from audit.paths import OUTPUTS, SIZES, differing, scattered, shuffled
from training.dataset import row_batches
from training.evaluate import load_version


def in_order(rows, size):
    """Row numbers in order, in batches of one size: all rows, or as many as 20 batches hold."""
    numbers = np.arange(min(rows, 20 * size))
    return np.split(numbers, range(size, len(numbers), size))


def differences(call, columns, signature):
    """Numbers that differ from those of one batch of all rows, by how the rows were cut; and that batch's numbers."""
    rows = len(columns["history"])
    whole = call(signature, columns)
    found = {}
    for size in SIZES:
        parts = in_order(rows, size)
        count = sum(map(len, parts))
        first = {name: values[:count] for name, values in whole.items()}
        found[f"{signature} {size}"] = differing(first, cut(scattered(call, signature, columns, parts), count))
    parts = shuffled(rows, np.random.default_rng(rows))
    assert {len(part) for part in parts} >= set(SIZES) or rows < sum(SIZES)
    found[f"{signature} shuffled"] = differing(whole, scattered(call, signature, columns, parts))
    return found, whole


def cut(outputs, count):
    """The first rows of every output."""
    return {name: values[:count] for name, values in outputs.items()}


def file_columns(file):
    """The raw inputs of all rows of a file."""
    ((columns, _),) = row_batches(file, rows=1_000_000)
    return columns


def main(folder, file, numbers):
    """Raw rows of every kind first, then a file's rows; returns the differences of both together."""
    spec = importlib.util.spec_from_file_location("small", Path(__file__).with_name("small.py"))
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    model, found, kept = load_version(folder), {}, {}
    for columns in (small.raw_rows(520), file_columns(file)):
        for signature in OUTPUTS:
            different, kept[signature] = differences(model.call, columns, signature)
            for name, count in different.items():
                found[name] = found.get(name, 0) + count
    np.savez(
        numbers, **{f"{signature} {name}": each for signature in OUTPUTS for name, each in kept[signature].items()}
    )
    return found


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
