"""The whole path against a bare loop: real Kafka, the embedded model server, the journal; and the latency at half load.

    python -m benchmarks.stream --json

`bare_loop_per_second` is what kafka-python alone does with the same messages on this machine in this run: read, write
each to a topic, commit a transaction for every 512; no parsing, no history, no model. `path_ratio` is the scorer's rate
over it. Both are taken twice, in turn, each from the broker's own append times, and the medians' ratio is given. Every
part is a process of its own, as in production; latencies are from a transaction's append to its decision's.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from kafka import TopicPartition

from archive.layout import open_archive
from archive.rows import transactions_of
from plumbline import transaction as language
from plumbline.decision import Outcome, Source
from plumbline.names import Topic
from streaming.broker.local import LocalBroker
from streaming.kafka import close_producer, end_offsets, idempotent_producer, reader, transactional_producer
from streaming.parts import Part, start, step

BATCH: Final = 512
HALF: Final = 0.5
DRAIN_SECONDS: Final = 120.0
NO_TRANSACTION: Final = tuple(b'{"type":"%s"' % kind for kind in (b"control", b"assignment", b"answered"))
"""How entries of the journal begin that no transaction brought."""

_BARE_TOPIC: Final = Topic.DEAD_LETTER.value
_JOURNAL: Final = Topic.DECISIONS.value


def main() -> int:
    """Run it; exit code 1 when the ratio is below the promised 0.35."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--transactions", type=int, default=80_000, help="of each throughput run")
    parser.add_argument("--rounds", type=int, default=2, help="of bare loop and path, in turn")
    parser.add_argument("--latency-seconds", type=float, default=30.0)
    parser.add_argument("--data-dir", type=Path, help="with archive/ and models/plumbline/; made when not given")
    parser.add_argument("--bare", nargs=2, metavar=("BOOTSTRAP", "MESSAGES"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--send", nargs=5, metavar=("BOOTSTRAP", "ARCHIVE", "FIRST", "MESSAGES", "RATE"), help=argparse.SUPPRESS
    )
    asked = parser.parse_args()
    if asked.bare:
        bare_loop(asked.bare[0], int(asked.bare[1]))
        return 0
    if asked.send:
        bootstrap, archive, first, count, rate = asked.send
        send(bootstrap, Path(archive), int(first), int(count), float(rate))
        return 0
    with tempfile.TemporaryDirectory(prefix="plumbline-benchmark-") as folder:
        figures = measure(Path(folder), asked.transactions, asked.rounds, asked.latency_seconds, asked.data_dir)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:>12,.2f}")
    return 0 if figures["path_ratio"] >= 0.35 else 1


def measure(folder: Path, count: int, rounds: int, latency_seconds: float, data: Path | None) -> dict[str, float]:
    """All figures; the folder is used for everything that is written."""
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)}
    if data is None:
        data = prepared(folder, environ)
    archive, models = data / "archive", data / "models" / "plumbline"
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(folder))
        environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        environ["PLUMBLINE_MESSAGE_MAX_AGE_DAYS"] = "36500"  # fixed days are played, whenever this runs
        step(environ, "topics", "--json")
        serve = part(stack, "serve", environ, folder, "--model-base-path", str(models), "--port", "0", "--no-rest",
                      "--json-ready")  # fmt: skip
        environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{serve.wait_for(state='serving')['port']}"
        policy = sorted(models.glob("*/assets.extra/policy.json"))[-1]
        step(environ, "policy", str(policy), "--json")
        score = part(stack, "score", environ, folder, "--json")
        score.wait_for(state="leading")
        sent, bare, path = 0, [], []
        for _ in range(rounds):
            _say(f"sending {count:,} messages")
            score.child.stop(30)  # it must not take them while they are being sent
            run_here(["--send", broker.bootstrap, str(archive), str(sent), str(count), "0"])
            sent += count
            _say("bare loop")
            before = end_of(broker.bootstrap, _BARE_TOPIC)
            run_here(["--bare", broker.bootstrap, str(count)])
            bare.append(rate_of(broker.bootstrap, _BARE_TOPIC, before, count))
            _say("whole path")
            before = end_of(broker.bootstrap, _JOURNAL)
            score = part(stack, "score", environ, folder, "--json")
            path.append(rate_of(broker.bootstrap, _JOURNAL, before, count))
            _say(f"bare loop {bare[-1]:,.0f}/s, whole path {path[-1]:,.0f}/s")
        peak = statistics.median(path)
        left = open_archive(archive).manifest.rows - sent
        latency_count = min(int(peak * HALF * latency_seconds), left)
        _say(f"latency at {peak * HALF:,.0f}/s")
        before = end_of(broker.bootstrap, _JOURNAL)
        run_here(["--send", broker.bootstrap, str(archive), str(sent), str(latency_count), str(peak * HALF)])
        latencies, alerts, unscored = _decided(broker.bootstrap, before, latency_count)
        memory = {"broker": broker.pid, "serve": serve.child.pid, "score": score.child.pid}
        return {
            "path_per_second": round(peak, 1),
            "bare_loop_per_second": round(statistics.median(bare), 1),
            "path_ratio": round(peak / statistics.median(bare), 4),
            "latency_load_per_second": round(peak * HALF, 1),
            **{name: round(float(np.percentile(latencies, share)), 1)
               for name, share in (("p50_ms", 50), ("p99_ms", 99), ("p999_ms", 99.9))},
            **{f"{name}_peak_mib": round(_peak_mib(pid), 1) for name, pid in memory.items()},
            "alert_share_ratio": round(alerts, 4),
            "unscored": unscored,
            "transactions": sent + latency_count,
        }  # fmt: skip


def messages(archive: Path, first: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of `count` of the archive's transactions, from the one numbered `first` on, in arrival order."""
    rows = itertools.chain.from_iterable(transactions_of(batch) for batch in open_archive(archive).transactions())
    for each in itertools.islice(rows, first, first + count):
        yield each.account_id.encode(), language.encode(each)


def send(bootstrap: str, archive: Path, first: int, count: int, rate: float) -> None:
    """Send messages to the transactions topic, evenly at `rate` a second (0: at once), and wait for all."""
    producer = idempotent_producer(bootstrap, linger_ms=0 if rate else 5)
    prepared = list(messages(archive, first, count))
    begun = time.monotonic()
    for n, (key, value) in enumerate(prepared):
        if rate and (wait := begun + n / rate - time.monotonic()) > 0.001:
            time.sleep(wait)
        producer.send(Topic.TRANSACTIONS.value, value, key=key)
    producer.flush()
    close_producer(producer, 10)


def bare_loop(bootstrap: str, count: int) -> None:
    """Read the newest `count` transactions and write each to another topic, a transaction for every 512."""
    partition = TopicPartition(Topic.TRANSACTIONS.value, 0)
    begin = end_offsets(bootstrap, [partition.topic])[partition] - count
    producer = transactional_producer(bootstrap, "bare-loop", 10_000)
    with closing(reader(bootstrap, {partition: begin}, most_records=BATCH)) as consumer:
        taken = 0
        while taken < count:
            for records in consumer.poll(timeout_ms=200).values():
                producer.begin_transaction()
                for each in records:
                    producer.send(_BARE_TOPIC, each.value, key=each.key, partition=0)
                producer.commit_transaction()
                taken += len(records)
    close_producer(producer, 10)


def prepared(folder: Path, environ: dict[str, str]) -> Path:
    """A simulated bank, and a model and policy that fit it, so that as many alerts are explained as in real life."""
    _say("simulating a bank, and training a model to score with")
    archive = folder / "archive"
    step(environ, "simulate", "--to", str(archive), "--accounts", "4000", "--days", "80", "--json")
    step(environ, "train", "--archive", str(archive), "--auto", "--epochs", "2", "--json")
    return folder


def part(stack: ExitStack, verb: str, environ: dict[str, str], folder: Path, *arguments: str) -> Part:
    """A verb as a process that ends with the stack."""
    made = start(verb, environ, folder / "logs", [verb, *arguments])
    stack.callback(made.stop)
    return made


def run_here(arguments: Sequence[str]) -> None:
    """This module in a process of its own."""
    subprocess.run([sys.executable, "-m", "benchmarks.stream", *arguments], check=True)


def end_of(bootstrap: str, topic: str) -> int:
    """The offset after a topic's newest record."""
    return end_offsets(bootstrap, [topic])[TopicPartition(topic, 0)]


def records(bootstrap: str, topic: str, begin: int, count: int) -> list[Any]:
    """The next `count` records that transactions brought; other entries of the journal do not count."""
    found: list[Any] = []
    quiet_since = time.monotonic()
    with closing(reader(bootstrap, {TopicPartition(topic, 0): begin}, most_records=5000)) as consumer:
        while len(found) < count:
            new = [
                each
                for records in consumer.poll(timeout_ms=1000).values()
                for each in records
                if not each.value.startswith(NO_TRANSACTION)
            ]
            found += [(each.timestamp, each.value if topic == _JOURNAL else b"") for each in new]
            quiet_since = time.monotonic() if new else quiet_since
            if time.monotonic() - quiet_since > DRAIN_SECONDS:
                raise RuntimeError(f"{len(found)} of {count} records, then nothing for {DRAIN_SECONDS:.0f} s")
    return found


def rate_of(bootstrap: str, topic: str, begin: int, count: int) -> float:
    """Records a second by their append times, from the first batch's to the last's, the first batch left out."""
    # Reading begins when all is written, so that the reader takes no processor time from what is measured.
    quiet, end = 0, begin
    while end - begin < count or quiet < 2:
        time.sleep(1)
        now = end_of(bootstrap, topic)
        quiet, end = (quiet + 1, now) if now == end else (0, now)
    times = np.array([time_ms for time_ms, _ in records(bootstrap, topic, begin, count)])
    later = times > times[0]
    return float(later.sum() / ((times[-1] - times[0]) / 1000))


class _Decided(msgspec.Struct):
    source: Source
    outcome: Outcome
    scores: list[Any]


def _decided(bootstrap: str, begin: int, count: int) -> tuple[np.ndarray, float, int]:
    """Latencies in milliseconds, share of decisions that are alerts, and how many had no score."""
    decoder = msgspec.json.Decoder(_Decided)
    found = [(time_ms, decoder.decode(value)) for time_ms, value in records(bootstrap, _JOURNAL, begin, count)]
    latencies = np.array([time_ms - each.source.appended_at_ms for time_ms, each in found])
    alerts = sum(each.outcome is not Outcome.APPROVE for _, each in found) / count
    return latencies, alerts, sum(not each.scores for _, each in found)


def _peak_mib(pid: int) -> float:
    """Peak resident memory of a running process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
