"""The folder in which a training goes on after a kill, and which the workers of a cluster share.

FOLDER/asked.json     what was asked for: another question may not use the folder
FOLDER/examples/      shards, there when all of them are
FOLDER/analysis/      TFT's graph, that the shards were made by
FOLDER/checkpoints/   the fit's
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from features.grammar import Declaration
from plumbline.errors import Preempted, Refused
from training.fit import Fitted, fit
from training.placed import Cluster, strategy
from training.recipe import Recipe
from training.shards import MANIFEST, open_shards

ASKED: Final = "asked.json"
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """A folder, this process among those that use it, and whether it was told to stop."""

    folder: Path
    among: Cluster = field(default_factory=Cluster)
    stop: Callable[[], bool] = lambda: False

    @property
    def examples(self) -> Path:
        """Folder of the shards."""
        return self.folder / "examples"

    @property
    def checkpoints(self) -> Path:
        """Folder of the fit's checkpoints."""
        return self.folder / "checkpoints"

    def claim(self, asked: Mapping[str, Any]) -> None:
        """Begin here, or go on. Raises Refused when the folder is another training's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / ASKED
        if not file.exists():
            if any(self.folder.iterdir()):
                raise Refused(f"{self.folder} holds something that no training left: take an empty folder")
            file.write_text(json.dumps(dict(asked)), encoding="utf-8")
        there = json.loads(file.read_text(encoding="utf-8"))
        if different := [name for name in asked if there.get(name) != asked[name]]:
            said = ", ".join(f"{name} is {there.get(name)!r} there and {asked[name]!r} here" for name in different)
            raise Refused(f"{self.folder} is another training's: {said}; take another folder, or delete this one")


def help_fitting(work: Work, recipe: Recipe, declaration: Declaration) -> Fitted:
    """Fit as a worker beside the first one, for whose examples it waits, and which makes the version."""
    placed, ready = strategy(None, work.among), threading.Event()
    while not (work.examples / MANIFEST).exists():
        if work.stop():
            raise Preempted(f"stopped while it waited for examples in {work.examples}: start it again")
        ready.wait(LOOK_SECONDS)
    shards = open_shards(work.examples, declaration)
    return fit(shards, shards.vocabulary_sizes, recipe, placed, checkpoints=work.checkpoints, stop=work.stop)
