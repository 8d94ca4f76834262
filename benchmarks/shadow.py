"""What a shadow costs the stream: the scorer's rate with one, over its rate without, in turn in one run.

    python -m benchmarks.shadow --json

Real Kafka, the embedded model server with two versions, `plumbline score`. Each round sends the same number of payments
twice while the scorer is down, and times its decisions by the broker's append times: once under an assignment without a
shadow, once under one with. `shadow_ratio` is the ratio of the medians. `shadow_answered_ratio` is the share of the
decisions under the second kind that the shadow scored: the rest were skipped, since it was too far behind, or failed.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from kafka import TopicPartition

from benchmarks.stream import end_of, part, prepared, rate_of, run_here
from plumbline import journal
from plumbline.journal import Answered
from plumbline.names import Topic
from streaming.broker.local import LocalBroker
from streaming.kafka import reader
from streaming.parts import step

PROMISED: Final = 0.8
PATIENCE_SECONDS: Final = 30.0
_JOURNAL: Final = Topic.DECISIONS.value


def main() -> int:
    """Run it; exit code 1 when the ratio is below the promised 0.8."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadow", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--transactions", type=int, default=40_000, help="of each throughput run")
    parser.add_argument("--rounds", type=int, default=3, help="each without a shadow, and with one")
    parser.add_argument("--data-dir", type=Path, help="with archive/ and models/plumbline/1; made when not given")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plumbline-benchmark-") as folder:
        figures = measure(Path(folder), asked.transactions, asked.rounds, asked.data_dir)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:>12,.2f}")
    return 0 if figures["shadow_ratio"] >= PROMISED else 1


def measure(folder: Path, count: int, rounds: int, data: Path | None) -> dict[str, float]:
    """All figures; the folder is used for everything that is written."""
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)}
    if data is None:
        data = prepared(folder, environ)
    models = folder / "served" / "plumbline"
    for version in ("1", "2"):  # the same network twice: a shadow costs what a champion does
        shutil.copytree(data / "models" / "plumbline" / "1", models / version)
    rates: dict[bool, list[float]] = {False: [], True: []}
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(folder))
        environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        environ["PLUMBLINE_MESSAGE_MAX_AGE_DAYS"] = "36500"  # fixed days are played, whenever this runs
        step(environ, "topics", "--json")
        serve = part(stack, "serve", environ, folder, "--model-base-path", str(models), "--port", "0", "--no-rest",
                     "--keep-versions", "2", "--json-ready")  # fmt: skip
        environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{serve.wait_for(state='serving', version=2)['port']}"
        serve.wait_for(state="serving", version=1)
        score = part(stack, "score", environ, folder, "--json")
        score.wait_for(state="leading")
        sent = 0
        for _ in range(rounds):
            for shadow in (False, True):
                before = end_of(broker.bootstrap, _JOURNAL)
                step(environ, "assign", "--decides", "1", *(["--shadow", "2"] if shadow else []), "--json")
                while end_of(broker.bootstrap, _JOURNAL) == before:
                    time.sleep(0.1)  # until the assignment is in force
                score.child.stop(30)  # it must not take messages while they are being sent
                run_here(["--send", broker.bootstrap, str(data / "archive"), str(sent), str(count), "0"])
                sent += count
                before = end_of(broker.bootstrap, _JOURNAL)
                score = part(stack, "score", environ, folder, "--json")
                rates[shadow].append(rate_of(broker.bootstrap, _JOURNAL, before, count))
                print(f"{'with' if shadow else 'without'} {rates[shadow][-1]:,.0f}/s", file=sys.stderr, flush=True)
        answers = _answers(broker.bootstrap)
    return {
        "without_per_second": round(statistics.median(rates[False]), 1),
        "with_per_second": round(statistics.median(rates[True]), 1),
        "shadow_ratio": round(statistics.median(rates[True]) / statistics.median(rates[False]), 4),
        "shadow_answered_ratio": round(answers[""] / (count * rounds), 4),
        "shadow_skipped_ratio": round(answers["skipped"] / (count * rounds), 4),
        "shadow_failed_ratio": round((answers["deadline"] + answers["error"]) / (count * rounds), 4),
        "transactions": sent,
    }


def _answers(bootstrap: str) -> Counter[str]:
    """Decisions that the shadow answered about, by failure."""
    partition = TopicPartition(_JOURNAL, 0)
    end, found, quiet_since = end_of(bootstrap, _JOURNAL), Counter[str](), time.monotonic()
    with closing(reader(bootstrap, {partition: 0}, most_records=5000)) as consumer:
        while consumer.position(partition) < end and time.monotonic() - quiet_since < PATIENCE_SECONDS:
            for polled in consumer.poll(timeout_ms=500).values():
                quiet_since = time.monotonic()
                for each in polled:
                    if each.value.startswith(b'{"type":"answered"'):
                        entry = journal.decode(each.value)
                        if isinstance(entry, Answered) and entry.role == "shadow":
                            found[entry.failure] += entry.rows
    return found


if __name__ == "__main__":
    sys.exit(main())
