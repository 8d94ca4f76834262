"""Checkpoints of a fit: a file holds all that the next step depends on, and is there whole or not at all.

    FOLDER/step-000001000.npz   arrays by name, and `meta`, JSON: whose fit this is, and where it stood

A file is written under another name, forced to the disk, and then given its own at one stroke, so that a kill leaves
the one before. Two are kept, since a disk may lose what it said was safe: the newest that can be read counts.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import Refused

KEPT: Final = 2
META: Final = "meta"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a fit stood: arrays by name, and what can be said in JSON."""

    arrays: Arrays
    meta: Mapping[str, Any]


def write_checkpoint(folder: Path, step: int, found: Checkpoint) -> Path:
    """Write the checkpoint of a step, and delete all but the two newest; returns its file.

    Raises Refused when it cannot be written, as on a full disk; the one before stays, and nothing of this one.
    """
    file = folder / f"step-{step:09}.npz"
    scratch = file.with_suffix(".part")
    text = np.frombuffer(json.dumps(dict(found.meta)).encode(), np.uint8)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as opened:
            np.savez(opened, **{META: text, **found.arrays})  # type: ignore[arg-type]  # names are ours
            opened.flush()
            os.fsync(opened.fileno())
        scratch.replace(file)
        _force(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        before = files(folder)
        kept = f"the one before, {before[-1].name}, stays" if before else "there is none before it"
        raise Refused(
            f"the checkpoint of step {step} cannot be written to {folder}: {error.strerror or error}; {kept}: "
            "make room and start the training again"
        ) from error
    for old in files(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return file


def newest_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint that can be read, of the fit that `identity` tells; None when there is none.

    Raises Refused when it is another fit's: the names that differ are told.
    """
    for file in reversed(files(folder)):
        try:
            with np.load(file, allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in opened.files}
            meta = json.loads(arrays.pop(META).tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue  # cut short by the disk: the one before counts
        if meta["identity"] != dict(identity):
            raise Refused(f"{folder} holds a checkpoint of another training: {_differing(meta['identity'], identity)}; "
                          "take another folder, or delete this one to begin anew")  # fmt: skip
        return Checkpoint(arrays, meta)
    return None


def files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by step."""
    return sorted(folder.glob("step-*.npz"))


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return ", ".join(f"{name} is {there.get(name)!r} there and {here.get(name)!r} here" for name in names)


def _force(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
