"""Every moment of every long-running process, with everything that can happen to it there, and what was broken.

    python -m benchmarks.steps --json
    python -m benchmarks.steps --only scorer --every 10     # a tenth of the moments of scorers alone

A moment is one call of a process to anything outside: Kafka, model, disk, clock, SQL. At each, the process is asked to
stop, crashes before or behind the call, sees the call fail before or behind its effect, has its clock set, is fenced,
loses its lease, or stands still while another one takes over; then it is started again, and everything is counted. The
broker is in memory (tests/fake_kafka.py, held to Apache Kafka by a contract), all of our own code runs as it is. The
last line of standard output is one JSON object; exit code 1 when anything was broken.
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

PROCESSES: Final = {
    "scorer cold": ("tests.scorer_moments", "ColdScorer"),
    "scorer warm": ("tests.scorer_moments", "WarmScorer"),
    "scorer first": ("tests.scorer_moments", "FirstScorer"),
    "ledger": ("tests.process_moments", "LedgerTries"),
    "api": ("tests.process_moments", "ApiTries"),
    "guard": ("tests.process_moments", "GuardTries"),
    "watch": ("tests.watch_moments", "WatchTries"),
    "release": ("tests.release_moments", "ReleaseTries"),
    "nightly run": ("tests.release_moments", "NightTries"),
}
"""By name, where what starts such a process and looks at what it left is written."""

FIGURES: Final = ("decided_twice", "lost", "different", "registry_disagreements")
TOLD_MOST: Final = 50


@dataclass(slots=True)
class Found:
    """What a run found: moments tried, by process, and met; faults by kind, and the first ones in words."""

    tried: Counter[str] = field(default_factory=Counter)
    met: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """What the last line says."""
        return {
            "moments_tried": self.tried.total(), "moments_met": self.met,
            **{name: self.faults[name] for name in FIGURES}, **dict(sorted(self.tried.items())), "told": self.told,
        }  # fmt: skip


def main() -> int:
    """Run it; exit code 1 when anything was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--only", default="", help="processes whose name begins so")
    parser.add_argument("--every", type=int, default=1, help="one of so many moments")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--json", action="store_true", help="nothing but the last line on standard output")
    asked = parser.parse_args()
    names = [name for name in PROCESSES if name.startswith(asked.only)]
    begun = time.monotonic()
    jobs = [(name, number, asked.workers, asked.every) for name in names for number in range(asked.workers)]
    found = Found()
    with closing(multiprocessing.get_context("spawn").Pool(asked.workers, maxtasksperchild=1)) as pool:
        for one in pool.imap_unordered(_job, jobs, chunksize=1):
            found.tried += one.tried
            found.met += one.met
            found.faults += one.faults
            found.told += one.told[: TOLD_MOST - len(found.told)]
            for each in one.told if not asked.json else ():
                print(each, flush=True)
    figures = {**found.figures(), "seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps(figures))
    return int(any(figures[name] for name in FIGURES))


def _job(given: tuple[str, int, int, int]) -> Found:
    name, part, parts, every = given
    return run(name, part, parts, every)


def run(
    name: str, part: int = 0, parts: int = 1, every: int = 1, *, acts: Sequence[str] = (), calls: Sequence[str] = ()
) -> Found:
    """Try the cases of a process that fall to one of so many parts, and of those one of so many.

    acts: only those of these names; calls: only those whose call begins so, by the process' own thread; all when none
    is given.
    """
    # Whatever waits or starts over would say so thousands of times.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    found = Found()
    with tempfile.TemporaryDirectory(prefix="plumbline-steps-") as folder, _in_memory():
        tries = _made(name, Path(folder))
        ours = [
            (moment, act)
            for moment, act in tries.cases()
            if _number((moment, act)) % parts == part
            and (not acts or act.name in acts)
            and (not calls or (moment.role == "main" and moment.call.startswith(tuple(calls))))
        ]
        for moment, act in ours[::every]:
            tried = tries.tried(moment, act)
            found.tried[name] += 1
            found.met += tried.met
            found.faults.update(kind for kind, _ in tried.faults)
            if tried.faults:
                found.told.append(tried.words)
    return found


def _number(case: Any) -> int:
    """A case's number, by what it is: which one it is in a list may differ between two lists of the same process."""
    moment, act = case
    return zlib.crc32(f"{moment} {act.name}".encode())


def _in_memory() -> Any:
    from tests.tries import in_memory

    return in_memory()


def _made(name: str, folder: Path) -> Any:
    import importlib

    module, kind = PROCESSES[name]
    return getattr(importlib.import_module(module), kind)(folder)


if __name__ == "__main__":
    sys.exit(main())
