"""How fast decisions are audited, against how fast they were made: one process, two cores, bounded memory.

    python -m benchmarks.audit --json
    python -m benchmarks.audit --decisions 1000000 --json
    python -m benchmarks.audit --archive FOLDER --models FOLDER --json      (instead of simulating and training)

A simulated bank's payments and fraud labels are decided by `streaming.batch.process`, the scorer's own core, in
micro-batches of 512, with the trained model in this process and every alert explained; its entries, encoded as for
Kafka, and their messages are kept as `plumbline keep` keeps them. `scorer_per_second` is the rate of that core alone:
parsing, duplicates, history, score, reasons, outcome and encoding, without a broker and without writing files.

Then the kept journal is audited whole, in a process of its own, as `plumbline audit --journal` does it: every message
parsed and judged again, history by the kernel in one sweep and by Beam key by key, features on both sides, score,
outcome. `audit_per_second` is decisions over the whole of it, start of the process and checking of digests included;
`scorer_ratio` is that over `scorer_per_second`; `peak_mib` is the audit's largest resident memory.
`scorer_cpu_seconds` and `audit_cpu_seconds` are what all threads computed: on a machine that does other work meanwhile
they say more than the seconds that passed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from archive.kept import append, held, nothing_kept, write_manifest
from archive.layout import Archive, open_archive
from archive.record import Record
from archive.rows import labels_of, transactions_of
from archive.simulation.run import Plan, simulate
from plumbline import journal
from plumbline import transaction as language
from plumbline.clock import monotonic
from plumbline.decision import Decision, Source
from plumbline.errors import Unready
from plumbline.policy import Policy
from streaming.parts import step

BATCH: Final = 512
ACCOUNTS: Final = 5_000
PER_DAY: Final = 1.5
TRAIN_DAYS: Final = 12
BLOCK_BATCHES: Final = 400
LAYERS: Final = ("read_and_sweep", "by_key")


def main() -> int:
    """Run it; exit code 1 when anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--archive", type=Path, help="archive whose payments are decided; simulated when not given")
    parser.add_argument("--models", type=Path, help="folder with plumbline/1; trained on the archive when not given")
    parser.add_argument("--audit", nargs=2, metavar=("JOURNAL", "MODELS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    if asked.audit:
        print(json.dumps(audited(Path(asked.audit[0]), Path(asked.audit[1]))))
        return 0
    with tempfile.TemporaryDirectory(prefix="plumbline-benchmark-") as folder:
        figures = measure(Path(folder), asked.decisions, asked.archive, asked.models)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:>14,.2f}")
    return 0 if figures["different"] == 0 and figures["compared"] > 0 else 1


def measure(folder: Path, decisions: int, archive: Path | None, models: Path | None) -> dict[str, float]:
    """All figures; the folder is used for everything that is written."""
    if archive is None:
        days = max(40, round(decisions * 1.25 / (ACCOUNTS * PER_DAY)))
        _say(f"simulating {days} days")
        plan = Plan(accounts=ACCOUNTS, days=days, transactions_per_account_day=PER_DAY)
        archive = simulate(plan, folder / "archive").path
    if models is None:
        _say("training a model")
        environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)}
        step(environ, "train", "--archive", str(archive), "--auto", "--epochs", "2", "--json")
        models = folder / "models"
    kept = folder / "journal"
    _say("deciding")
    made, seconds, cpu_seconds = decide(open_archive(archive), decisions, models / "plumbline" / "1", kept)
    _say(f"{made:,} decisions in {seconds:.1f} s; auditing")
    begun = time.perf_counter()
    found = _apart(["--audit", str(kept), str(models / "plumbline")])
    whole = time.perf_counter() - begun
    scorer = made / seconds
    return {
        "audit_per_second": round(found["compared"] / whole, 1),
        "scorer_per_second": round(scorer, 1),
        "scorer_ratio": round(found["compared"] / whole / scorer, 4),
        "seconds": round(whole, 1),
        "scorer_cpu_seconds": round(cpu_seconds, 1),
        "peak_mib": found["peak_mib"],
        **{name: value for name, value in found.items() if name != "peak_mib"},
    }


def decide(archive: Archive, decisions: int, version: Path, kept: Path) -> tuple[int, float, float]:
    """Decide an archive's first payments and keep the journal.

    Returns how many, and of the core alone the seconds that passed and those that all threads computed.
    """
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from streaming.batch import process
    from streaming.known import Known
    from streaming.state import State

    policy = msgspec.json.decode((version / "assets.extra" / "policy.json").read_bytes(), type=Policy)
    state = State(Known(5_000_000), policy=policy)
    model = _in_process(version)
    first = journal.ControlApplied(policy=policy, source=None, journaled_at=0)
    waiting = [Record(0, 0, journal.encode(first))]
    made, seconds, cpu_seconds, sequence, batches = 0, 0.0, 0.0, 1, 0
    with held(kept):
        manifest = nothing_kept("", "", None)
        write_manifest(kept, manifest)
        for label, transaction, now_us in _batches(archive, decisions):
            begun, computed = time.perf_counter(), time.process_time()
            batch = process(state, model, label=label, transaction=transaction, now_us=now_us)
            values = [journal.encode(each) for each in batch.entries]
            seconds += time.perf_counter() - begun
            cpu_seconds += time.process_time() - computed
            raw = {(each.source.topic, each.source.offset): each.raw for each in (*label, *transaction)}
            for entry, value in zip(batch.entries, values, strict=True):
                source = entry.source
                if source is None:
                    raise AssertionError("every entry here answers a message")
                message = raw[source.topic, source.offset]
                waiting.append(Record(sequence, now_us // 1000, value, source.topic, 0, source.offset, message, "here"))
                sequence += 1
                made += isinstance(entry, Decision)
            batches += 1
            if batches % BLOCK_BATCHES == 0:
                manifest = append(kept, manifest, manifest.stop, sequence, _parts(waiting))
                waiting = []
        if waiting:
            append(kept, manifest, manifest.stop, sequence, _parts(waiting))
    return made, seconds, cpu_seconds


def _parts(rows: list[Record]) -> Iterator[list[Record]]:
    for begin in range(0, len(rows), 20_000):
        yield rows[begin : begin + 20_000]


def _batches(archive: Archive, decisions: int) -> Iterator[tuple[list[Any], list[Any], int]]:
    """Micro-batches as a scorer would get them: labels, transactions, and the clock."""
    from streaming.batch import Message

    offsets = {"transactions": 0, "labels": 0}
    taken: dict[str, list[Any]] = {"transactions": [], "labels": []}
    paid = 0
    for part, rows in archive.arrivals():
        values = transactions_of(rows) if part == "transactions" else labels_of(rows)
        for each in values:
            raw = language.encode(each) if part == "transactions" else msgspec.json.encode(each)
            at_us = each.occurred_at if isinstance(each, language.Transaction) else each.known_at
            taken[part].append(Message(Source(part, 0, offsets[part], at_us // 1000), raw))
            offsets[part] += 1
            paid += part == "transactions"
            if len(taken["transactions"]) == BATCH or paid == decisions:
                yield taken["labels"], taken["transactions"], at_us
                taken = {"transactions": [], "labels": []}
            if paid == decisions:
                return
    if taken["transactions"]:
        yield taken["labels"], taken["transactions"], at_us


def _in_process(version: Path) -> Any:
    """The scorer's view of a version that is loaded in this process."""

    from streaming.model import Model
    from training.evaluate import load_version
    from training.in_process import InProcess

    return Model(InProcess(load_version(version)), monotonic)


def audited(kept: Path, models: Path) -> dict[str, float]:
    """Audit a kept journal in this process."""
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from archive.kept import KeptJournal
    from audit.models import Versions
    from audit.run import Audited, audit

    times = []

    def tell(step: str) -> None:
        times.append(time.perf_counter())
        _say(step)

    asked = Audited(KeptJournal(kept), "", Versions(models), None, None, remembered=5_000_000)
    report = audit(asked, tell)
    times.append(time.perf_counter())
    found: dict[str, float] = {"compared": report.decisions, "different": report.decisions_different}
    for name, begin, end in zip(LAYERS, times, times[1:], strict=False):
        found[f"{name}_per_second"] = round(report.decisions / (end - begin), 1)
    found |= {f"{layer}_compared": count for layer, count in report.compared.items()}
    found["audit_cpu_seconds"] = round(time.process_time(), 1)
    found["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    for each in report.differences:
        _say(str(each))
    return found


def _apart(arguments: list[str]) -> dict[str, float]:
    """This module once more, in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.audit", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise Unready(f"the audit ended with code {ended.returncode}: see its words above")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _say(text: str) -> None:
    print(f"benchmarks.audit: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
