"""Canaries with planted faults in a real stream: each must be rolled back by itself, and a healthy one must pass.

    python -m benchmarks.canary --json
    python -m benchmarks.canary --fault slow --fault healthy --per-mille 100

A bank is simulated, a model trained on its first weeks, and the rest played through a real broker, model server, two
scorers, ledger and guard. Version after version becomes the canary: `demo.faulty` has made them of the trained
one. For each fault: `FAULT_transactions` and `FAULT_seconds` from the first decision under the canary until detection,
`FAULT_rollback_seconds` from detection to the first decision under the rollback, and the rule that spoke.
`lost`, `doubled` and `imbalance` are of the whole stream. Exit code 1 when a fault was not rolled back, the healthy one
did not pass, a rollback took 5 s or more, or anything was lost or doubled.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.site import Site
from demo.watch import Watch
from plumbline import journal
from plumbline.assignment import Arm, Assignment
from plumbline.decision import Decision
from plumbline.errors import Unready
from plumbline.names import Topic
from plumbline.policy import Policy
from store.engine import engine_at, transaction
from store.guard_tables import Incident, Trial
from store.guards import incident_of, incidents, trial_of, trials
from store.tables import Rejected
from streaming.control import publish
from streaming.kafka import end_offsets, reader
from streaming.parts import Part, command, start, step

FAULTS: Final = ("slow", "erring", "shifted", "blind", "healthy")
ROLLBACK_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 240.0
LOOK_SECONDS: Final = 0.05
POLICY: Final = Policy(version="benchmark", review_at=0.1, decline_at=0.5)
"""About a payment of forty is alerted, so that the rules about outcomes have something to count within minutes."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one canary; trial: its row in SQL; incident: None where it passed."""

    trial: Trial
    incident: Incident | None

    @property
    def rolled_back(self) -> bool:
        """Whether a decision was made under the rollback."""
        return self.incident is not None and self.incident.effective_at is not None

    def figures(self, name: str) -> dict[str, Any]:
        """What the benchmark prints of it."""
        if self.incident is None:
            seconds = ((self.trial.passed_at or 0) - self.trial.began_at) / 1e6
            return {f"{name}_passed": True, f"{name}_seconds": round(seconds, 2)}
        found, picture = self.incident, self.incident.picture
        rollback = None if found.effective_at is None else round((found.effective_at - found.opened_at) / 1e6, 3)
        return {
            f"{name}_rule": f"{found.rule} {found.slice}".strip(),
            f"{name}_transactions": picture["decisions"],
            f"{name}_seconds": round((found.opened_at - self.trial.began_at) / 1e6, 2),
            f"{name}_rollback_seconds": rollback,
        }


class Stream:
    """An installation with a guard, in which canaries are put in force one after another."""

    def __init__(self, site: Site, alive: Callable[[], None]) -> None:
        """alive: raises when the traffic has ended."""
        self.site, self.alive = site, alive
        self.engine = engine_at(sa.URL.create("sqlite", database=str(site.folder / "plumbline.db")))

    def assign(self, assignment: Assignment) -> None:
        """Bring an assignment into force with the next batch."""
        publish(self.site.broker.bootstrap, "", assignment)

    def canary(self, version: int, per_mille: int, name: str) -> Found:
        """Put a version in force as canary of champion 1, and wait until it passed or its rollback is in force."""
        self.assign(Assignment(version=f"canary-{name}", decides=1, arms=(Arm(version, per_mille),), salt=name))
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            self.alive()
            with transaction(self.engine) as session:
                refused = session.scalars(sa.select(Rejected.error).where(Rejected.error.contains(f"canary-{name}:")))
                if why := refused.first():
                    raise Unready(f"the scorer refused it: {why}")
                mine = next((each for each in trials(session) if each.assignment == f"canary-{name}"), None)
                trial = None if mine is None else trial_of(session, mine.sequence, version)
                incident = None if mine is None else incident_of(session, mine.sequence, version)
            if trial is not None and incident is not None and incident.effective_at is not None:
                return Found(trial, incident)
            if trial is not None and incident is None and trial.passed_at is not None:
                return Found(trial, None)
            time.sleep(LOOK_SECONDS)
        raise Unready(f"nothing became of canary {name} within {PATIENCE_SECONDS:.0f} s: see guard.log")

    def opened(self) -> int:
        """How many incidents there are."""
        with transaction(self.engine) as session:
            return len(incidents(session))


def begin(site: Site, stack: ExitStack, backfill: Sequence[str]) -> None:
    """Start an installation with its guard, and version 1 as champion; backfill: the verb that begins its journal."""
    stack.callback(site.broker.stop)
    stack.callback(site.end)
    site.begin(backfill)
    site.start("guard")
    site.parts["guard"].wait_for(state="guarding")
    publish(site.broker.bootstrap, "", Assignment(version="champion", decides=1))


def decided(bootstrap: str) -> list[str]:
    """The transaction id of every decision in the journal."""
    partition = next(iter(end_offsets(bootstrap, [Topic.DECISIONS.value])))
    end, found = end_offsets(bootstrap, [Topic.DECISIONS.value])[partition], []
    consumer = reader(bootstrap, {partition: 0}, most_records=5000)
    while consumer.position(partition) < end:
        for records in consumer.poll(timeout_ms=200).values():
            entries = [journal.decode(each.value) for each in records]
            found += [each.transaction.transaction_id for each in entries if isinstance(each, Decision)]
    consumer.close()
    return found


def imbalance(environ: Mapping[str, str]) -> int:
    """What conservation finds out of balance."""
    asked = command("conservation", "--json")
    printed = subprocess.run(asked, env=dict(environ), stdout=subprocess.PIPE, text=True, check=False).stdout
    return int(json.loads(printed.splitlines()[-1])["imbalance"])


def main() -> int:
    """Run it; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only these; may be repeated")
    parser.add_argument("--per-mille", type=int, default=500, help="accounts of every thousand that a canary decides")
    parser.add_argument("--rate", type=float, default=150.0, help="messages a second")
    parser.add_argument("--accounts", type=int, default=4000)
    parser.add_argument("--data-dir", type=Path, help="an empty folder; kept. A temporary one when not given")
    asked = parser.parse_args()
    wanted = [each for each in FAULTS if not asked.fault or each in asked.fault]
    with ExitStack() as stack:
        folder = asked.data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumbline-canary-")))
        figures = run(folder.absolute(), wanted, asked.per_mille, asked.rate, asked.accounts)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<32} {value!s:>20}")
    return 0 if good(figures, wanted) else 1


def good(figures: Mapping[str, Any], wanted: Sequence[str]) -> bool:
    """Whether every promise was kept."""
    kept = [figures.get("healthy_passed", "healthy" not in wanted), not figures["lost"], not figures["doubled"]]
    kept += [not figures["imbalance"]]
    kept += [
        (figures.get(f"{fault}_rollback_seconds") or ROLLBACK_SECONDS) < ROLLBACK_SECONDS
        for fault in wanted
        if fault != "healthy"
    ]
    return all(kept)


def run(folder: Path, wanted: Sequence[str], per_mille: int, rate: float, accounts: int) -> dict[str, Any]:
    """Everything, from the simulated bank to the figures."""
    models = folder / "models" / "plumbline"
    site = Site(folder, models, keep_versions=1 + len(wanted), model_deadline_ms=1000)
    _say("simulating a bank and training a model")
    archive = folder / "archive"
    step(site.environ, "simulate", "--to", str(archive), "--accounts", str(accounts), "--fraud-rate", "0.03",
         "--start", "2026-01-01", "--days", "110", "--transactions-per-account-day", "0.5", "--json")  # fmt: skip
    step(site.environ, "train", "--archive", str(archive), "--train", "2026-01-20..2026-02-10", "--test",
         "2026-02-18..2026-02-28", "--epochs", "3", "--json")  # fmt: skip
    planted = [sys.executable, "-m", "demo.faulty", str(models)]
    for fault in wanted:
        planted += ["--fault", fault]
    subprocess.run(planted, check=True, env=site.environ, stdout=subprocess.PIPE)
    with ExitStack() as stack:
        begin(site, stack, ("backfill", "--archive", str(archive), "--until", "2026-03-01", "--json"))
        publish(site.broker.bootstrap, "", POLICY)
        watch = Watch(site.broker.bootstrap)
        stack.callback(watch.close)
        arguments = ["play", "--archive", str(archive), "--since", "2026-03-01", "--rate", str(rate), "--json"]
        play = start("play", site.environ, folder / "logs", arguments)
        stack.callback(play.stop)
        stream = Stream(site, lambda: _alive(play))
        figures: dict[str, Any] = {"per_mille": per_mille, "rate": rate, "accounts": accounts}
        for version, fault in enumerate(wanted, start=2):
            _say(f"canary {version}: {fault}")
            found = stream.canary(version, per_mille, fault)
            figures |= found.figures(fault)
            _say(json.dumps(found.figures(fault)))
            if found.incident is None:
                stream.assign(Assignment(version="promoted", decides=version, replaces=f"canary-{fault}"))
        play.stop()
        sent = next(each["transactions"] for each in reversed(play.said()) if "transactions" in each)
        watch.wait_for(sent, PATIENCE_SECONDS)
        ids = decided(site.broker.bootstrap)
        figures |= {"transactions": sent, "lost": sent - len(set(ids)), "doubled": len(ids) - len(set(ids))}
        figures |= {"incidents": stream.opened(), "imbalance": imbalance(site.environ)}
    return figures


def _alive(play: Part) -> None:
    if play.child.ended.is_set():
        raise Unready(play.obituary())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
