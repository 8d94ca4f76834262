"""The nemesis: kills and freezes processes at moments drawn from a seed, and starts them again; and `benchmarks.acts`.

Half of its kills and pauses wait until everything works again, the others come whenever they come: so faults meet a
system at work as well as one that still recovers from the fault before.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from benchmarks.acts import SPECIAL, Operators
from benchmarks.site import SCORERS, Site
from plumbline.errors import Unready

TARGETS: Final = ("leader", "standby", "model", "ledger", "broker", "guard")
_WEIGHTS: Final = (32, 18, 10, 15, 20, 5)

CALM_SHARE: Final = 0.5
CALM_MOST_SECONDS: Final = 1.5
"""After everything works again: the longest further wait."""

STORM_MOST_SECONDS: Final = 3.0
AWAY_MOST_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.05
WELL_SECONDS: Final = 150.0
WELL_ENTRIES: Final = 10


class Act(NamedTuple):
    """One thing that the nemesis will do: wait (for everything to work, if `calm`), strike, and undo it later.

    target: a process by its part, or the name of a special act, whose delays `away_seconds` (in [0, 1)) draws.
    """

    kind: Literal["kill", "pause", "special"]
    target: str
    calm: bool
    wait_seconds: float
    away_seconds: float


def plan(
    seed: int, kills: int, pauses: int, pause_seconds: float, calm_share: float = CALM_SHARE, specials: int = 0
) -> list[Act]:
    """The acts of a seed: so many kills, and pauses of every target and special acts, each in turn, strewn among them.

    pause_seconds: shortest pause, the longest is a third more; calm_share: how many of the acts wait until everything
    works.
    """
    draw = random.Random(seed)
    wanted = [kills, pauses, specials]
    kinds = draw.sample(["kill", "pause", "special"], counts=wanted, k=sum(wanted))
    turn = draw.sample(TARGETS, k=len(TARGETS))
    special = draw.sample(tuple(SPECIAL), k=len(SPECIAL))
    acts, paused, done = [], 0, 0
    for kind in kinds:
        calm = draw.random() < calm_share
        wait = draw.random() * (CALM_MOST_SECONDS if calm else STORM_MOST_SECONDS)
        if kind == "pause":
            target, paused = turn[paused % len(turn)], paused + 1
            acts.append(Act("pause", target, calm, wait, pause_seconds * (1 + draw.random() / 3)))
        elif kind == "special":
            target, done = special[done % len(special)], done + 1
            acts.append(Act("special", target, True, wait, draw.random()))
        else:
            target = draw.choices(TARGETS, _WEIGHTS)[0]
            acts.append(Act("kill", target, calm, wait, draw.random() * AWAY_MOST_SECONDS))
    return acts


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened: seconds since the run began, what, to whom, and a word about it."""

    at_seconds: float
    what: str
    process: str
    detail: str = ""


class Nemesis:
    """Carries a plan out on a site.

    progress: journal entries and the ledger's position, as far as anybody can see just now; tell: called with each
    Moment; broken: what is wrong with the journal so far, asked after every act. `died` holds the last words of
    processes that ended without being killed, or not as they were asked to.
    """

    def __init__(
        self,
        site: Site,
        acts: list[Act],
        progress: Callable[[], tuple[int, int]],
        tell: Callable[[Moment], None],
        broken: Callable[[], list[str]] = list,
    ) -> None:
        self.site = site
        self.acts = acts
        self.history: list[Moment] = []
        self.died: list[str] = []
        self.kills = 0
        self.pauses = 0
        self.specials = 0
        self.operators = Operators(site)
        self._broken = broken
        self._progress = progress
        self._tell = tell
        self._begun = time.monotonic()
        self._due: dict[str, float] = {}
        """When each process that was struck is to be helped up again."""

    def run(self) -> None:
        """Carry out all acts, undo the last ones, and return when everything works. Raises Unready when it does not."""
        for act in self.acts:
            if act.calm:
                self._until_well()
            self._pass(act.wait_seconds)
            self._strike(act)
            self._check(act)
        while self._due:
            self._pass(LOOK_SECONDS)
        self._until_well()
        self.operators.join()
        self.died += self.operators.wrong

    def _check(self, act: Act) -> None:
        """Note after which act the journal was first seen to be wrong."""
        if (wrong := self._broken()) and not any(each.what == "broken" for each in self.history):
            self._note("broken", "journal", f"seen after {act.kind} {act.target}: {wrong[0]}")

    def _strike(self, act: Act) -> None:
        if act.kind == "special":
            for name in dict.fromkeys((*self._due, *self.site.frozen)):  # everybody runs, and nobody stands still
                self._help_up(name)
            self.specials += 1
            self._note("special", act.target, f"drawn {act.away_seconds:.2f}")
            down = SPECIAL[act.target](self.site, act.away_seconds, self.operators)
            self._due.update({name: time.monotonic() + seconds for name, seconds in down.items()})
            return
        name = self._named(act.target)
        if not self.site.runs(name):
            self._help_up(name)  # so it dies while it starts
        if act.kind == "pause" and name in self.site.frozen:
            self._due[name] = max(self._due[name], time.monotonic() + act.away_seconds)
            return
        self._due[name] = time.monotonic() + act.away_seconds
        if act.kind == "kill":
            self.kills += 1
            self.site.kill(name)
        else:
            self.pauses += 1
            self.site.freeze(name)
        self._note(act.kind, name, f"{act.target}, for {act.away_seconds:.2f} s{'' if act.calm else ', in a storm'}")

    def _named(self, target: str) -> str:
        if target not in {"leader", "standby"}:
            return target
        leader = self.site.leader() or next((name for name in SCORERS if self.site.runs(name)), SCORERS[0])
        return leader if target == "leader" else next(name for name in SCORERS if name != leader)

    def _pass(self, seconds: float) -> None:
        """Let time pass; help up whoever is due, and notice who died by himself."""
        end = time.monotonic() + seconds
        while True:
            for name in [name for name, due in self._due.items() if due <= time.monotonic()]:
                self._help_up(name)
            for name, part in self.site.parts.items():
                if name not in self._due and part.child.ended.is_set():
                    self._bury(name)
            if not self.site.runs("broker") and "broker" not in self._due:
                self.died.append("the broker ended by itself")
                self._help_up("broker")
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_SECONDS))

    def _bury(self, name: str) -> None:
        self.died.append(self.site.parts[name].obituary())
        self._note("died", name, self.died[-1])
        self._help_up(name)

    def _help_up(self, name: str) -> None:
        self._due.pop(name, None)
        if name in self.site.frozen:
            self.site.thaw(name)
            self._note("goes on", name)
        else:
            begun = time.monotonic()
            self.site.start(name)
            self._note("start", name, f"{time.monotonic() - begun:.1f} s" if name == "broker" else "")

    def _until_well(self) -> None:
        """Wait until nobody is down, the journal grows, and the ledger follows (unless one of them is frozen)."""
        begun = time.monotonic()
        entries, position = self._progress()
        last = "nothing"
        while missing := self._missing(entries, position):
            last = missing[-1]
            if time.monotonic() - begun > WELL_SECONDS + (30 if self.site.frozen else 0):
                raise Unready(
                    f"not well again after {WELL_SECONDS:.0f} s, still missing: {missing}; journal entries {entries} "
                    f"-> {self._progress()[0]}, ledger at {position} -> {self._progress()[1]}, "
                    f"down: {sorted(self._due)}, frozen: {sorted(self.site.frozen)}; "
                    f"the logs are in {self.site.folder / 'logs'}"
                )
            self._pass(LOOK_SECONDS)
        self._note("well", "all", f"after {time.monotonic() - begun:.1f} s, waited longest for {last}")

    def _missing(self, entries: int, position: int) -> list[str]:
        """What does not work yet, since there were so many entries and the ledger was at this position."""
        frozen = self.site.frozen
        now_entries, now_position = self._progress()
        missing = {
            "processes": any(name not in frozen for name in self._due),
            "scorers": not all(self.site.parts[name].said() for name in SCORERS),
            "model": not self.site.serves() and "model" not in frozen,
            "journal": now_entries < entries + WELL_ENTRIES,
            "ledger": now_position <= position and "ledger" not in frozen,
        }
        return [name for name, is_missing in missing.items() if is_missing]

    def _note(self, what: str, process: str, detail: str = "") -> None:
        moment = Moment(round(time.monotonic() - self._begun, 2), what, process, detail)
        self.history.append(moment)
        self._tell(moment)
