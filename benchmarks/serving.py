"""The embedded model server against the same SavedModel called in process: rows a second, latencies, memory, hot swap.

    python -m benchmarks.serving --json
    python -m benchmarks.serving --model-base-path var/models/plumbline --json

Calls in process, over gRPC and over REST take turns one by one, so that a busy machine slows all of them alike, and
none finds its processor warmer than another; `*_ratio` is a way's rate over that in process, from medians.
One caller at a time, each call whole: what the client packs and unpacks counts. An operation has one thread everywhere.
Then many callers at once, with and without batching, whose scores must be the model's own to the bit
(`batched_different`); and a version that takes over under load, where `swap_failed` must be 0.
"""

import argparse
import functools
import http.client
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.paths import MODEL_NAME
from plumbline.errors import ModelUnavailable, PlumblineError
from serving.client import ModelClient
from serving.columns import ModelColumns
from streaming.parts import Part, start

SIZES: Final = (1, 64, 512)
CALLERS: Final = 16
WARM_UP_CALLS: Final = 10
BATCHED_CALLS: Final = 20
DEADLINE_MS: Final = 60_000
GOAL: Final = 0.5

Call = Callable[[], object]


def main() -> int:
    """Run it; exit code 1 for a call that failed or another bit, and for less than half the rate with 512 rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument(
        "--model-base-path", type=Path, help="folder of versions; a small model is trained if not given"
    )
    parser.add_argument("--calls", type=int, default=300, help="of each way and size, in turn")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load of many callers")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    try:
        with tempfile.TemporaryDirectory(prefix="plumbline-serving-") as name:
            result = run(Path(name), options.model_base_path, options.calls, options.seconds)
    except PlumblineError as error:
        print(f"benchmarks.serving: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=None if options.json else 2))
    return int(bool(result["swap_failed"] or result["batched_different"]) or result["grpc_512_ratio"] < GOAL)


def run(folder: Path, base: Path | None, calls: int, seconds: float) -> dict[str, Any]:
    """All figures; the folder is used for everything that is written."""
    from benchmarks import paths

    newest = max((base or paths.trained(folder)).glob("[0-9]*"), key=lambda version: int(version.name))
    served = folder / "served"
    shutil.copytree(newest, served / "1")
    one_thread_an_operation()
    model = paths.loaded(served)
    inputs = paths.columns_of(max(SIZES), model.declaration)
    with serving(folder, served, "--keep-versions", "1") as (part, ready):
        result = latencies(ready, model, inputs, calls)
        result["callers_rows_per_second"] = many_callers(ready, ModelColumns(**inputs), seconds)
        result |= hot_swap(ready, part, served, ModelColumns(**inputs))
    with serving(folder, served, "--enable-batching") as (_, ready):
        result["batched_callers_rows_per_second"] = many_callers(ready, ModelColumns(**inputs), seconds)
        result |= batched_bits(ready, ModelColumns(**inputs), model.score(inputs))
    with serving(folder, served, "--keep-versions", "4") as (part, _):
        result |= memory(part, served)
    return result


def one_thread_an_operation() -> None:
    """Set TensorFlow up in this process as the server does in its own."""
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from serving.server.saved_model import use_threads

    use_threads(1)


@contextmanager
def serving(folder: Path, base: Path, *arguments: str) -> Iterator[tuple[Part, dict[str, Any]]]:
    """A model server of its own process, and what it said when it came into service."""
    verb = ["serve", "--model-base-path", str(base), "--model-name", MODEL_NAME, "--port", "0", "--rest-port", "0"]
    part = start("serve", os.environ, folder / "logs", [*verb, "--poll-seconds", "0.1", "--json-ready", *arguments])
    try:
        yield part, part.wait_for(state="serving")
    finally:
        part.stop()


def latencies(ready: dict[str, Any], model: Any, inputs: dict[str, Any], calls: int) -> dict[str, float]:
    """Rows a second, median and 99th percentile of one caller's calls, by every way and size."""
    connection = http.client.HTTPConnection("127.0.0.1", ready["rest_port"])
    result: dict[str, float] = {}
    with ModelClient(f"127.0.0.1:{ready['port']}", MODEL_NAME, DEADLINE_MS) as client:
        for rows in SIZES:
            part = {name: column[:rows] for name, column in inputs.items()}
            ways: dict[str, Call] = {
                "in_process": functools.partial(model.score, part),
                "grpc": functools.partial(client.score, ModelColumns(**part)),
                "rest": functools.partial(_rest, connection, part),
            }
            taken = _in_turn(ways, calls)
            median = {way: statistics.median(seconds) for way, seconds in taken.items()}
            for way, seconds in taken.items():
                result[f"{way}_{rows}_rows_per_second"] = round(rows / median[way])
                result[f"{way}_{rows}_p50_ms"] = round(median[way] * 1000, 3)
                result[f"{way}_{rows}_p99_ms"] = round(float(np.percentile(seconds, 99)) * 1000, 3)
            for way in ("grpc", "rest"):
                result[f"{way}_{rows}_ratio"] = round(median["in_process"] / median[way], 3)
    connection.close()
    return result


def _in_turn(ways: dict[str, Call], calls: int) -> dict[str, list[float]]:
    """Seconds of every call, by way."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(WARM_UP_CALLS + calls):
        for way, call in ways.items():
            begun = time.perf_counter()
            call()
            if number >= WARM_UP_CALLS:
                taken[way].append(time.perf_counter() - begun)
    return taken


def many_callers(ready: dict[str, Any], columns: ModelColumns, seconds: float) -> float:
    """Rows a second of callers that each ask for one row at a time."""
    asked = columns.take(np.arange(1))
    end = time.perf_counter() + seconds

    def ask(_: int) -> int:
        done = 0
        with ModelClient(f"127.0.0.1:{ready['port']}", MODEL_NAME, DEADLINE_MS) as client:
            while time.perf_counter() < end:
                client.score(asked)
                done += 1
        return done

    with ThreadPoolExecutor(CALLERS) as pool:
        return round(sum(pool.map(ask, range(CALLERS))) / seconds)


def batched_bits(ready: dict[str, Any], columns: ModelColumns, truth: Any) -> dict[str, int]:
    """Scores that callers of any number of rows got from merged calls, and how many are not the model's own."""

    def ask(seed: int) -> tuple[int, int]:
        random = np.random.default_rng(seed)
        compared = different = 0
        with ModelClient(f"127.0.0.1:{ready['port']}", MODEL_NAME, DEADLINE_MS) as client:
            for _ in range(BATCHED_CALLS):
                rows = random.choice(len(columns), int(random.integers(1, 100)), replace=False)
                got = client.score(columns.take(rows)).values
                compared += len(rows)
                different += int((got.view(np.int32) != truth[rows].view(np.int32)).sum())
        return compared, different

    with ThreadPoolExecutor(CALLERS) as pool:
        found = list(pool.map(ask, range(CALLERS)))
    return {"batched_compared": sum(each for each, _ in found), "batched_different": sum(each for _, each in found)}


def _rest(connection: http.client.HTTPConnection, part: dict[str, Any]) -> list[float]:
    columns = {
        name: [text.decode() for text in column] if column.dtype == object else column.tolist()
        for name, column in part.items()
    }
    connection.request("POST", f"/v1/models/{MODEL_NAME}:predict", json.dumps({"inputs": columns}))
    response = connection.getresponse()
    scores: list[float] = json.loads(response.read())["outputs"]
    return scores


def hot_swap(ready: dict[str, Any], part: Part, base: Path, columns: ModelColumns) -> dict[str, float]:
    """Calls of 64 rows by two callers while a version is published, loaded and takes over."""
    asked = columns.take(np.arange(64))
    stop = threading.Event()
    failed: list[str] = []

    def ask() -> list[tuple[float, float]]:
        calls = []
        with ModelClient(f"127.0.0.1:{ready['port']}", MODEL_NAME, DEADLINE_MS) as client:
            while not stop.is_set():
                begun = time.perf_counter()
                try:
                    client.score(asked)
                except ModelUnavailable as error:
                    failed.append(str(error))
                calls.append((begun, time.perf_counter() - begun))
        return calls

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        time.sleep(2)  # a load without a swap, to compare with
        begun = time.perf_counter()
        _publish(base, 2)
        part.wait_for(state="serving", version=2)
        ended = time.perf_counter()
        time.sleep(0.5)
        stop.set()
        calls = [call for each in asking for call in each.result()]
    before = [seconds for at, seconds in calls if at < begun]
    during = [seconds for at, seconds in calls if begun <= at < ended + 0.5]
    return {
        "swap_seconds": round(ended - begun, 2),
        "swap_calls": len(during),
        "swap_failed": len(failed),
        "swap_worst_ms": round(max(during) * 1000, 1),
        "swap_p50_ms": round(float(np.percentile(during, 50)) * 1000, 2),
        "steady_worst_ms": round(max(before) * 1000, 1),
        "steady_p50_ms": round(float(np.percentile(before, 50)) * 1000, 2),
    }


def _publish(base: Path, version: int) -> None:
    hidden = base / f"{version}.tmp"
    shutil.copytree(base / "1", hidden)
    hidden.rename(base / str(version))


def memory(part: Part, base: Path) -> dict[str, float]:
    """What each further version takes, resident, and the process with one."""
    process = int(part.wait_for(state="listening")["pid"])
    part.wait_for(state="serving", version=2)
    first = _resident_mib(process)
    for version in (3, 4):
        _publish(base, version)
        part.wait_for(state="serving", version=version)
    return {
        "server_mib": round(first, 1),
        "version_mib": round((_resident_mib(process) - first) / 2, 1),
    }


def _resident_mib(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
