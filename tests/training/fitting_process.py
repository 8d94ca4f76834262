"""Run as a program: fits a small network in child processes, some of them killed on the way; prints what came of it.

It reads one JSON object a line, and answers each with another one when everything that the line asks for is done:

    {"mode": "whole", "folder": ...}                       one fit, from beginning to end
    {"mode": "killed", "folder": ..., "kills": ["9:KILL"]} the same; a signal for every child at a step
    {"mode": "workers", "folder": ..., "clusters": [...]}  the workers of a cluster, a TF_CONFIG each

Children are forked from a parent that has imported TensorFlow and done nothing with it, since the import takes seconds.
"""

import hashlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from plumbline.errors import Preempted
from training.dataset import Examples
from training.fit import fit
from training.model import Shape
from training.placed import cluster, strategy
from training.recipe import Recipe
from training.shards import open_shards, write_shards

SIZES = [8, 8]
RECIPE = Recipe(epochs=3, batch_rows=128, shape=Shape(token=4, width=16))


def rows(n=6000, seed=0):
    """Rows in which the first two numbers and one category tell a fraud."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(n, 6)).astype(np.float32)
    categories = random.integers(0, 9, (n, 2)).astype(np.int32)
    odds = numbers[:, 0] * 2 + numbers[:, 1] - 1 + (categories[:, 0] == 2)
    frauds = (random.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    return Examples(numbers, categories, frauds, random.choice([1.0, 3.0], n).astype(np.float32))


def told(fitted):
    """What must be equal after a kill, as JSON."""
    weights = fitted.network.whole.get_weights()
    return {
        "weights": hashlib.sha256(b"".join(each.tobytes() for each in weights)).hexdigest(),
        "losses": fitted.losses,
        "validation_losses": fitted.validation_losses,
        "best_epoch": fitted.best_epoch,
    }


def child(folder, report, most):
    """Fit, telling each step to the parent; SIGTERM makes it stop; at the step `most` it waits for its signal."""
    asked = []

    def tell(each):
        print(each.step, file=out)
        while each.step >= most and not asked:
            signal.sigtimedwait([], 0.05)

    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    with os.fdopen(report, "w", buffering=1) as out:
        try:
            fitted = fit(
                open_shards(folder / "examples"), SIZES, RECIPE, strategy(1), checkpoints=folder / "checkpoints",
                every_steps=7, stop=lambda: bool(asked), tell=tell,
            )  # fmt: skip
        except Preempted as stopped:
            print(stopped, file=sys.stderr)
            os._exit(75)
        (folder / "told.json").write_text(json.dumps(told(fitted)))
    os._exit(0)


def attempt(folder, kill=None):
    """Run one child; kill: "STEP:SIGNAL", sent when it has come so far. Returns exit status and steps told."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        try:
            child(folder, writes, int(kill.partition(":")[0]) + 28 if kill else 10**9)
        finally:
            os._exit(3)
    os.close(writes)
    steps = []
    with os.fdopen(reads) as told_steps:
        for line in told_steps:
            steps.append(int(line))
            if kill and steps[-1] >= int(kill.partition(":")[0]):
                os.kill(pid, getattr(signal, f"SIG{kill.partition(':')[2]}"))
                kill = None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), steps


def worker(folder, result, told_config):
    """One worker of a cluster: fit, and leave what came of it in a file."""
    os.environ["TF_CONFIG"] = told_config
    among = cluster(os.environ)
    placed = strategy(None, among)
    if among.is_chief:
        write_shards(folder / "examples", [rows()], SIZES)
    while not (folder / "examples" / "manifest.json").exists():
        signal.sigtimedwait([], 0.1)
    plain = Recipe(epochs=2, batch_rows=128, shape=Shape(token=4, width=16, dropout=0.0))
    fitted = fit(open_shards(folder / "examples"), SIZES, plain, placed, checkpoints=folder / "checkpoints")
    result.write_text(json.dumps(told(fitted)))


def forked(work, *arguments):
    """The process id of a child that does some work."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            work(*arguments)
            status = 0
        except Exception:  # noqa: BLE001 - told, as Python itself would
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def main(mode, folder, kills=(), clusters=()):
    """Do what was asked for; returns what is to be printed."""
    folder.mkdir(parents=True, exist_ok=True)
    if mode == "workers":
        results = [folder / f"worker-{number}.json" for number, _ in enumerate(clusters)]
        started = [forked(worker, folder, *each) for each in zip(results, clusters, strict=True)]
        assert [os.waitpid(pid, 0)[1] for pid in started] == [0] * len(clusters)
        return [json.loads(each.read_text()) for each in results]
    write_shards(folder / "examples", [rows()], SIZES)
    attempts = [attempt(folder, kill) for kill in [*kills, None]]
    return {**json.loads((folder / "told.json").read_text()), "attempts": attempts}


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            print(json.dumps(main(asked.pop("mode"), Path(asked.pop("folder")), **asked)), flush=True)
        except Exception:  # noqa: BLE001 - told, as Python itself would
            traceback.print_exc()
            print("null", flush=True)
