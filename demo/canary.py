"""The demo's canary: a version with a planted fault beside the trained one, and what becomes of it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from demo.faulty import planted_fault
from plumbline.errors import Unready
from store.engine import engine_at, transaction
from store.guards import incidents, trials

PER_MILLE: Final = 500
LAST_LINES: Final = 5
VERSIONS_KEPT: Final = 8
"""The trained version and one of each fault are served at once."""


def trained_version(models: Path) -> int:
    """The newest version that was trained, and not made by planting a fault. Raises Unready where there is none."""
    found = [int(each.name) for each in models.iterdir() if each.name.isdigit() and not planted_fault(each)]
    if not found:
        raise Unready(f"{models} has no trained version: remove the data folder, and the demo trains one")
    return max(found)


def planted_version(environ: Mapping[str, str], models: Path, fault: str) -> int:
    """The version with this fault inside the trained one; made where it is not there. Raises Unready."""
    inside = trained_version(models)
    for each in models.iterdir():
        if each.name.isdigit() and planted_fault(each) == f"{fault} of {inside}":
            return int(each.name)
    made = [sys.executable, "-m", "demo.faulty", str(models), "--of", str(inside), "--fault", fault]
    done = subprocess.run(made, env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n  ".join(done.stderr.splitlines()[-LAST_LINES:])
        raise Unready(f"no version with the fault {fault} could be made:\n  {last}")
    return int(json.loads(done.stdout.splitlines()[-1])["version"])


@dataclass(slots=True)
class Canary:
    """What the guard says of the canary, in sentences that are told once each."""

    folder: Path
    assignment: str
    version: int
    fault: str
    _told: set[str] = field(default_factory=set)

    def news(self) -> list[str]:
        """What became true since the last look."""
        facts = self.facts()
        said = {
            "passed": f"The guard has judged: canary {self.version} ({self.fault}) passed",
            "why": f"The guard found it: {facts.get('why')}",
            "rollback_seconds": f"The rollback is in force after {facts.get('rollback_seconds')} s; see the page Guard",
        }
        new = [name for name in said if facts.get(name) not in (None, False) and name not in self._told]
        self._told.update(new)
        return [said[name] for name in new]

    def facts(self) -> dict[str, Any]:
        """Whether it passed, and where it did not why, and seconds from detection to the rollback."""
        engine = engine_at(sa.URL.create("sqlite", database=str(self.folder / "plumbline.db")))
        try:
            with transaction(engine) as session:
                trial = next((each for each in trials(session) if each.assignment == self.assignment), None)
                found = next((each for each in incidents(session) if each.assignment == self.assignment), None)
        finally:
            engine.dispose()
        facts: dict[str, Any] = {"version": self.version, "fault": self.fault}
        if found is None:
            return facts | {"passed": trial is not None and trial.state == "passed"}
        seconds = None if found.effective_at is None else round((found.effective_at - found.opened_at) / 1e6, 2)
        return facts | {"passed": False, "rule": found.rule, "why": found.why, "rollback_seconds": seconds}
