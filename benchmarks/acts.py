"""What the nemesis does besides kills and pauses: acts aimed at a process' state, or at what it finds around it.

Each is a function of the site and of a number in [0, 1) that draws its delays. It starts again what it ended, but for
processes that it returns: those are down for so many seconds.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Final

from benchmarks.site import SCORERS, Site
from streaming.parts import command
from streaming.snapshot import sequences

READY_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.02
DARK_SECONDS: Final = 4.0
"""Longer than the lease: nobody is left who could have taken over."""

SKEW_MINUTES: Final = 20
SETTINGS: Final = (
    {"BATCH_MAX_TRANSACTIONS": "1"},
    {"BATCH_MAX_TRANSACTIONS": "64", "SNAPSHOT_EVERY_TRANSACTIONS": "1000"},
    {"REMEMBERED_TRANSACTIONS": "2000000"},
    {"BATCH_MAX_TRANSACTIONS": "512", "SNAPSHOT_EVERY_TRANSACTIONS": "2000"},
)
"""What a restart may find changed; ids are never remembered for less long, as that would forget some."""

Down = Mapping[str, float]


@dataclass(slots=True)
class Operators:
    """People at the command line: verbs in the background, whose answers may be no, but never a traceback."""

    site: Site
    wrong: list[str] = field(default_factory=list)
    asked: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)

    def run(self, arguments: list[str], allowed: tuple[int, ...]) -> None:
        """Run a verb; it may end with these codes."""

        def work() -> None:
            found = subprocess.run(
                command(*arguments), env=dict(self.site.environ), capture_output=True, text=True, check=False
            )
            if found.returncode not in allowed or "Traceback" in found.stderr:
                said = " ".join((found.stderr or found.stdout).split())[-600:]
                self.wrong.append(f"`plumbline {' '.join(arguments[:2])}` ended with {found.returncode}: {said}")

        self.asked += 1
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        """Wait for all of them."""
        for each in self._threads:
            each.join(120.0)


def _said(site: Site, name: str, state: str) -> bool:
    """Whether a running process has said that it is in this state."""
    return any(each.get("state") == state for each in site.parts[name].said())


def _until(site: Site, name: str, true: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not true() and site.runs(name) and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)


def _ended(site: Site, name: str, wrong: list[str]) -> None:
    """Ask a process to end (SIGTERM), and wait for it; one that does not, or not well, is wrong."""
    child, before = site.parts[name].child, bool(site.parts[name].said())
    child.send(SIGTERM)
    if not child.ended.wait(END_SECONDS):
        wrong.append(f"{name} did not end within {END_SECONDS:.0f} s of being asked to")
        child.kill()
    # A program that is asked to end before it has begun to listen is ended by the system.
    elif child.exit_code != 0 and (before or child.exit_code != -SIGTERM):
        wrong.append(f"asked to end: {site.parts[name].obituary()}")


def _both(site: Site) -> None:
    for name in SCORERS:
        site.kill(name)


def stop_before_ready(site: Site, draw: float, operators: Operators) -> Down:
    """Asked to end while it starts."""
    site.kill(SCORERS[1])
    site.start(SCORERS[1])
    time.sleep(2.0 * draw)
    _ended(site, SCORERS[1], operators.wrong)
    return {SCORERS[1]: 0.5}


def stop_standing_by(site: Site, draw: float, operators: Operators) -> Down:
    """Asked to end while another one leads."""
    name = next(each for each in SCORERS if each != site.leader())
    _until(site, name, lambda: _said(site, name, "standing by"))
    _ended(site, name, operators.wrong)
    return {name: draw}


def stop_catching_up(site: Site, draw: float, operators: Operators) -> Down:
    """A lone scorer without snapshots folds the whole journal, and is asked to end on its way to lead."""
    _both(site)
    shutil.rmtree(site.folder / "snapshots", ignore_errors=True)
    name = SCORERS[0]
    site.start(name)
    _until(site, name, lambda: _said(site, name, "standing by"))
    time.sleep(4.0 * draw)
    _ended(site, name, operators.wrong)
    return dict.fromkeys(SCORERS, 0.0)


def stop_leaving(site: Site, draw: float, operators: Operators) -> Down:
    """Asked to end, and killed while it writes its last snapshot."""
    name = site.leader() or SCORERS[0]
    site.parts[name].child.send(SIGTERM)
    time.sleep(0.4 * draw)
    site.kill(name)
    return {name: 0.5}


def dark(site: Site, draw: float, operators: Operators) -> Down:
    """Everything is gone for longer than the lease, the broker too."""
    for name in site.processes:
        site.kill(name)
    return dict.fromkeys(site.processes, DARK_SECONDS * (1 + draw))


def twice(site: Site, draw: float, operators: Operators) -> Down:
    """Two starts at once, neither of which finds a leader."""
    _both(site)
    for name in SCORERS:
        site.start(name)
    return {}


def damage(site: Site, draw: float, operators: Operators) -> Down:
    """A bit of the newest snapshot's arrays is another one when the next scorer looks for it."""
    name = next(each for each in SCORERS if each != site.leader())
    site.kill(name)
    folder = site.folder / "snapshots"
    for newest in sorted(sequences(folder), reverse=True)[:1]:
        place = folder / str(newest) / "state.npz"
        with place.open("r+b") as file:
            at = int(draw * place.stat().st_size)
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    return {name: 0.0}


def settings(site: Site, draw: float, operators: Operators) -> Down:
    """The leader is asked to end, and starts again with other settings; so does whoever starts later."""
    name = site.leader() or SCORERS[0]
    changed = SETTINGS[int(draw * len(SETTINGS))]
    site.environ |= {f"PLUMBLINE_{key}": value for key, value in changed.items()}
    _ended(site, name, operators.wrong)
    return {name: 0.0}


def operate(site: Site, draw: float, operators: Operators) -> Down:
    """A policy, an assignment, a preparation and a look, all at once, and a backfill that must be refused."""
    number = operators.asked
    file = site.folder / f"policy-{number}.json"
    file.write_text(
        json.dumps({"type": "policy", "version": f"operated-{number}", "review_at": 0.9, "decline_at": 0.99})
    )
    share = 100 + int(draw * 400)
    asked = ["assign", "--decides", "1", "--arm", f"2={share}", "--shadow", "3", "--name", f"operated-{number}"]
    operators.run([*asked, "--no-own-thresholds"], (0, 1))
    operators.run(["policy", str(file), "--wait-seconds", "1"], (0, 1))
    operators.run(["prepare", str(site.models_folder / "2")], (0, 1))
    operators.run(["backfill", "--archive", str(archive(site))], (1,))
    return {}


def clock(site: Site, draw: float, operators: Operators) -> Down:
    """The leader's wall clock is set some minutes off while it works, and set right again a moment later."""
    file = site.clock_of(site.leader() or SCORERS[0])
    minutes = (2 * draw - 1) * SKEW_MINUTES
    file.write_text(str(60 * minutes))
    time.sleep(1.0 + 2.0 * draw)
    file.write_text("0")
    return {}


SPECIAL: Final[Mapping[str, Callable[[Site, float, Operators], Down]]] = {
    "stop before ready": stop_before_ready,
    "stop standing by": stop_standing_by,
    "stop catching up": stop_catching_up,
    "stop leaving": stop_leaving,
    "dark": dark,
    "two starts at once": twice,
    "damaged snapshot": damage,
    "changed settings": settings,
    "operators": operate,
    "clock steps": clock,
}
"""Every act by its name; all but the first wait until everything works."""


def archive(site: Site) -> Path:
    """A small archive, which is made once."""
    place = site.folder / "archive-of-an-operator"
    if not place.exists():
        made = ["simulate", "--to", str(place), "--accounts", "10", "--days", "1"]
        subprocess.run(command(*made), env=dict(os.environ), check=True, capture_output=True)
    return place
