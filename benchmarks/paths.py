"""Whether every way on which a row reaches its numbers agrees to the bit on this kind of host.

    python -m benchmarks.paths --json
    python -m benchmarks.paths --model-base-path var/models/plumbline --json

The newest version under the base path (a small model is trained when none is given) computes features, scores and
effects of simulated transactions in this process; the same rows then go through the embedded server by gRPC and by
REST, and through this process again, in batches of 1, 2, 7, 63, 64, 65 and 512 in a random order. `*_different` must be
0, oneDNN on or off. How far scores move with oneDNN switched and in LiteRT is no fault: it is what `*_distance` tells.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from plumbline.errors import NotFound, PlumblineError

MODEL_NAME: Final = "plumbline"
SWITCH: Final = "TF_ENABLE_ONEDNN_OPTS"


def main() -> int:
    """Run it; exit code 1 when a number differs where none may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths", description=__doc__)
    parser.add_argument(
        "--model-base-path", type=Path, help="folder of versions; a small model is trained if not given"
    )
    parser.add_argument("--rows", type=int, default=10_000, help="how many simulated transactions")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    try:
        if options.alone:
            result = alone(options.model_base_path, options.rows, options.alone)
        else:
            with tempfile.TemporaryDirectory(prefix="plumbline-paths-") as folder:
                result = run(options.model_base_path or trained(Path(folder)), options.rows)
    except PlumblineError as error:
        print(f"benchmarks.paths: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=None if options.json or options.alone else 2))
    return int(any(value for name, value in result.items() if name.endswith("_different")))


def trained(folder: Path) -> Path:
    """The base path of a small model, trained on a simulated bank; everything that is written goes into the folder."""
    from benchmarks.stream import prepared

    prepared(folder, {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)})
    return folder / "models" / MODEL_NAME


def run(base: Path, rows: int) -> dict[str, Any]:
    """Every way against the SavedModel in this process."""
    with tempfile.TemporaryDirectory(prefix="plumbline-paths-") as name:
        folder = Path(name)
        scores: dict[str, Any] = {}
        result: dict[str, Any] = {}
        for word, setting in (("off", "0"), ("on", "1")):
            file = folder / f"{word}.npy"
            arguments = ["--model-base-path", str(base), "--rows", str(rows), "--alone", str(file)]
            environ = {**os.environ, SWITCH: setting}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.paths", *arguments], env=environ, stdout=subprocess.PIPE, check=False
            )
            if not file.exists():
                raise NotFound(f"the process with oneDNN {word} came to no end: its message stands above")
            result |= {f"onednn_{word}_{key}": value for key, value in json.loads(done.stdout).items()}
            scores[word] = np.load(file)
        result |= _served(folder, base, rows)
        result["onednn_distance"] = float(np.max(np.abs(scores["on"].astype(np.float64) - scores["off"])))
    return result


def alone(base: Path, rows: int, file: Path) -> dict[str, Any]:
    """The SavedModel against itself in batches of every size; its scores are kept in a file."""
    from audit.paths import OUTPUTS, differing, scattered, shuffled

    model = loaded(base)
    columns = columns_of(rows, model.declaration)
    truth = {signature: model.call(signature, columns) for signature in OUTPUTS}
    different = sum(
        differing(truth[signature], scattered(model.call, signature, columns, shuffled(rows, np.random.default_rng(1))))
        for signature in OUTPUTS
    )
    np.save(file, truth["serving_default"]["score"])
    return {"compared": _numbers(truth), "different": different}


def _served(folder: Path, base: Path, rows: int) -> dict[str, Any]:
    from audit.paths import OUTPUTS, by_grpc, by_rest, differing, distance, litert, scattered, shuffled
    from streaming.parts import start

    model = loaded(base)
    columns = columns_of(rows, model.declaration)
    truth = {signature: model.call(signature, columns) for signature in OUTPUTS}
    arguments = ["serve", "--model-base-path", str(base), "--model-name", MODEL_NAME, "--port", "0", "--rest-port", "0"]
    server = start("serve", os.environ, folder / "logs", [*arguments, "--json-ready"])
    result = {}
    try:
        ready = server.wait_for(state="serving")
        ways = {"grpc": by_grpc(f"127.0.0.1:{ready['port']}", MODEL_NAME)}
        ways |= {f"rest_{form}": by_rest(ready["rest_port"], MODEL_NAME, form) for form in ("row", "column")}
        for way, call in ways.items():
            result[f"{way}_compared"] = _numbers(truth)
            result[f"{way}_different"] = sum(
                differing(truth[each], scattered(call, each, columns, shuffled(rows, np.random.default_rng(2))))
                for each in OUTPUTS
            )
    finally:
        server.stop()
    scores = truth["serving_default"]
    return {**result, "litert_distance": distance(scores, litert(model)("serving_default", columns))}


def loaded(base: Path) -> Any:
    """The newest version under a base path, in this process. Raises NotFound when there is none."""
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from training.evaluate import load_version
    from training.export import versions

    if not versions(base):
        raise NotFound(f"{base} holds no model version: train one, or give another folder with --model-base-path")
    return load_version(base / str(versions(base)[-1]))


def columns_of(rows: int, declaration: Any) -> dict[str, Any]:
    """Raw inputs of the last rows of a simulated bank, with the history that the scorer would give them."""
    from archive.rows import transactions_of
    from archive.simulation.run import Plan, simulated
    from audit.models import inputs
    from features.sweep import History
    from streaming.arrivals import arrivals

    days = simulated(Plan(accounts=max(10, rows // 40), days=60))
    stream = list(islice(chain.from_iterable(transactions_of(batch) for batch, _ in days), 2 * rows))
    return inputs(stream[-rows:], History(declaration).advance(arrivals(stream))[-rows:])


def _numbers(outputs: dict[str, Any]) -> int:
    return sum(int(values.size) for named in outputs.values() for values in named.values())


if __name__ == "__main__":
    sys.exit(main())
