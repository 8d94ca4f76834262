"""What a step of a night is: a function that writes into an empty folder, which gets its name when it is complete."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

STEPS: Final = ("archive", "labels", "history", "rows", "analysis", "fit", "evaluate", "gate", "register", "shadow")


class Stopped(BaseException):
    """Told to stop on the way; the next start goes on. No error, and so nothing that a library may swallow."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a step came to.

    rows: that went through it; facts: flat JSON for people; shared: files outside the run's folder that it made or
    relies on; ends: the verdict that ends the run here; version, champion: of the registry; why: the verdict in words.
    """

    rows: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    shared: tuple[Path, ...] = ()
    ends: str = ""
    version: int | None = None
    champion: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step works.

    folder: empty, of this step alone; keep: a folder that outlives a kill, until the step is done; run: the run's
    folder, in which the folders of the steps before are; started_at: when the run first began, microseconds since 1970
    UTC; stopped: whether somebody asked to stop; tell: how much of the step is done, and how much it is in all (0 while
    that is not known).
    """

    folder: Path
    keep: Path
    run: Path
    started_at: int
    stopped: Callable[[], bool]
    tell: Callable[[int, int], None]

    def of(self, step: str) -> Path:
        """The folder of a step that is done."""
        return self.run / step


Work = Callable[[Place], Done]


@dataclass(frozen=True, slots=True)
class Step:
    """A step by its name.

    needs: steps whose outputs it reads; reads: digests of what it reads besides them, found when it is its turn;
    looks: whether it asks `Place.stopped` itself, as another one is broken off.
    """

    name: str
    work: Work
    needs: tuple[str, ...] = ()
    reads: Callable[[], Mapping[str, str]] = dict
    looks: bool = False
