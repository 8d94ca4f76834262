"""What old nights leave: the newest keep all their files, older ones their words, and none stays for ever.

A run's own folder grows with the rows it trained on. The newest `keep` runs stay whole; of others `run.json`, the
gate's verdict and each step's record stay, until they are KEPT_DAYS old. Files by day that no whole run names go too.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from plumbline.errors import Refused
from plumbline.transaction import DAY_US
from retrain.manifest import STEP_NAME, Manifest, read_run

KEPT_DAYS: Final = 400
WORDS: Final = frozenset({"run.json", "gate.json", "version.json", STEP_NAME})


def prune(runs: Path, keep: int, now_us: int) -> list[str]:
    """Prune the folders of runs; the names of those that lost something. keep: how many stay whole, 1 or more."""
    found = sorted(_runs(runs), key=lambda each: (each[1].started_at, each[1].run), reverse=True)
    pruned = []
    for folder, manifest in found[keep:]:
        if now_us - manifest.started_at > KEPT_DAYS * DAY_US:
            shutil.rmtree(folder, ignore_errors=True)
            pruned.append(manifest.run)
        elif _only_words(folder):
            pruned.append(manifest.run)
    return pruned


def shared_names(runs: Path) -> set[str]:
    """File names outside their folders that runs name; of a run that is pruned to words only, none."""
    return {
        Path(name).name
        for folder, manifest in _runs(runs)
        if (folder / "rows" / "days.json").exists()
        for step in manifest.steps
        for name in step.shared
    }


def _runs(runs: Path) -> Iterator[tuple[Path, Manifest]]:
    for folder in sorted(runs.glob("*")) if runs.is_dir() else []:
        try:
            manifest = read_run(folder)
        except Refused:
            continue  # whoever asks for that night hears of it
        if manifest is not None:
            yield folder, manifest


def _only_words(folder: Path) -> bool:
    """Leave what is small and says what happened; whether anything went."""
    gone = False
    for file in sorted(folder.rglob("*"), reverse=True):
        if file.is_dir():
            if not any(file.iterdir()):
                file.rmdir()
        elif file.name not in WORDS:
            file.unlink()
            gone = True
    return gone
