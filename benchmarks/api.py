"""How long callers of the decision API wait at 100, 500 and 1,000 requests a second, over the whole real path.

    python -m benchmarks.api --json

Callers, API, Kafka, scorer, model server: each a process, as in production, and all of them on this machine, the
callers too; `cpu` says what each took. Latencies run from the moment at which a request was due
(`benchmarks.callers`). A rate is sustained when every request of it was decided, none by the fallback, 99 of 100 within
the deadline, and the last quarter was not slower than twice the whole.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.stream import messages, prepared
from streaming.broker.local import LocalBroker, free_port
from streaming.parts import Part, start, step

RATES: Final = (100, 500, 1000)
WARM_UP: Final = (200, 4.0)
"""Rate and seconds of a run that is not counted: connections, threads and the broker's code get warm."""


def main() -> int:
    """Run it; exit code 1 when 100 requests a second are not sustained."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES))
    parser.add_argument("--deadline-ms", type=int, default=500)
    parser.add_argument("--data-dir", type=Path, help="with archive/ and models/plumbline/; made when not given")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plumbline-benchmark-") as folder:
        found = measure(Path(folder), asked.rates, asked.seconds, asked.deadline_ms, asked.data_dir)
    if asked.json:
        print(json.dumps(found))
    else:
        for each in found["rates"]:
            print(json.dumps(each))
        print(f"sustained: {found['sustained_per_second']} requests a second on {found['cores']} cores")
    return 0 if found["sustained_per_second"] >= RATES[0] else 1


def measure(folder: Path, rates: list[int], seconds: float, deadline_ms: int, data: Path | None) -> dict[str, Any]:
    """All figures; the folder is used for everything that is written."""
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)}
    if data is None:
        data = prepared(folder, environ)
    models = data / "models" / "plumbline"
    runs = [WARM_UP, *((rate, seconds) for rate in rates)]
    bodies = folder / "bodies"
    with bodies.open("wb") as file:
        for _, body in messages(data / "archive", 0, sum(int(rate * time) for rate, time in runs)):
            file.write(body + b"\n")
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(folder))
        environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        environ["PLUMBLINE_MESSAGE_MAX_AGE_DAYS"] = "36500"  # fixed days are played, whenever this runs
        environ["PLUMBLINE_API_REQUESTS_PER_SECOND"] = "100000"
        step(environ, "topics", "--json")
        step(environ, "migrate", "--json")
        key = json.loads(step(environ, "keys", "add", "callers", "--scope", "decisions:write", "--json"))["key"]

        def part(verb: str, *arguments: str) -> Part:
            made = start(verb, environ, folder / "logs", [verb, *arguments])
            stack.callback(made.stop)
            return made

        serve = part("serve", "--model-base-path", str(models), "--port", "0", "--no-rest", "--json-ready")
        environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{serve.wait_for(state='serving')['port']}"
        step(environ, "policy", str(sorted(models.glob("*/assets.extra/policy.json"))[-1]), "--json")
        score = part("score", "--json")
        score.wait_for(state="leading")
        api = part("api", "--port", "0", "--grpc-port", str(free_port()), "--json")
        port = api.wait_for(state="listening")["url"].rstrip("/").rpartition(":")[2]
        pids = {"broker": broker.pid, "scorer": score.child.pid, "model_server": serve.child.pid, "api": api.child.pid}
        found, first = [], 0
        for rate, time_of_run in runs:
            print(f"{rate} requests a second for {time_of_run:.0f} s", file=sys.stderr, flush=True)
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            asked = [port, key, str(rate), str(time_of_run), str(deadline_ms), str(bodies), str(first)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.callers", *asked], check=True, capture_output=True, text=True
            )
            each = json.loads(done.stdout)
            cpu = {name: round((cpu_seconds(pid) - before[name]) / time_of_run, 2) for name, pid in pids.items()}
            cpu["callers"] = each.pop("client_cpu_seconds_per_second")
            found.append({**each, "sustained": sustained(each, deadline_ms), "cpu": cpu})
            first += int(rate * time_of_run)
        rates_found = found[1:]
        return {
            "rates": rates_found,
            "sustained_per_second": max(
                (each["rate_per_second"] for each in rates_found if each["sustained"]), default=0
            ),
            "deadline_ms": deadline_ms,
            "cores": len(os.sched_getaffinity(0)),
        }


def sustained(run: dict[str, Any], deadline_ms: int) -> bool:
    """Whether a rate can be kept up, by its figures."""
    keeps_up = run["last_quarter_p50_ms"] <= 2 * run["p50_ms"]
    return bool(run["decided"] == run["requests"] and run["p99_ms"] <= deadline_ms and keeps_up)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its children's processes took so far."""
    total, waiting = 0.0, [pid]
    while waiting:
        each = waiting.pop()
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            waiting += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"took {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(code)
