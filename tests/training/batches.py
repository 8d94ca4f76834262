"""Run as a program: scores the same rows in batches of many sizes and prints, as JSON, how many numbers differ.

python tests/training/batches.py MODEL_FOLDER
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "0"

import numpy as np

from training.evaluate import load_version

SIZES = (1, 2, 7, 63, 64, 65, 512)


def differences(folder, rows=520, sizes=SIZES):
    """Numbers that differ from those of one batch of all rows, by signature and batch size."""
    spec = importlib.util.spec_from_file_location("small", Path(__file__).with_name("small.py"))
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    model, found = load_version(folder), {}
    columns = small.raw_rows(rows)
    for signature in ("serving_default", "transform", "explain"):
        whole = model.call(signature, columns)
        for size in sizes:
            limit = rows if size >= 63 else 40 * size
            count = 0
            for begin in range(0, min(limit, rows), size):
                part = slice(begin, min(begin + size, rows))
                outputs = model.call(signature, {name: column[part] for name, column in columns.items()})
                count += sum(int(np.sum(outputs[name] != whole[name][part])) for name in whole)
            found[f"{signature} {size}"] = count
    return found


if __name__ == "__main__":
    print(json.dumps(differences(Path(sys.argv[1]))))
