"""`run.json`: what a night was asked, how far it is, and what every step read and wrote, by SHA-256.

A step's own record lies in its folder, which gets its name at one stroke: that is what counts. `run.json` is put
together from those records, for people and for whoever asks how the night went.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from archive.manifest import file_sha256
from plumbline.errors import Refused

FORMAT: Final = 1
RUN_NAME: Final = "run.json"
STEP_NAME: Final = "step.json"

Verdict = Literal["running", "stopped", "failed", "refused", "registered", "shadowed"]
FINAL: Final[frozenset[Verdict]] = frozenset({"refused", "registered", "shadowed"})
"""What no later start changes: `failed` and `stopped` runs go on where they were."""
State = Literal["waiting", "running", "done", "failed"]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class StepRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One step: what it read and wrote (SHA-256 by name), how long it took, how many rows, and flat facts.

    outputs: files of its folder; shared: files outside it, by their path from the data folder.
    """

    name: str
    state: State = "waiting"
    inputs: dict[str, Sha256] = {}
    outputs: dict[str, Sha256] = {}
    shared: dict[str, Sha256] = {}
    seconds: float = 0.0
    rows: int = 0
    facts: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """SHA-256 over everything that the step wrote, as `sha256sum` would list it."""
        return digest_of({**self.outputs, **self.shared})


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run: its arguments, its verdict so far, and its steps.

    step: the one at work, or in which the run ended; empty when it is done; error: why it stopped, failed or was
    refused; times: microseconds since 1970 UTC; finished_at: None while the verdict is not final; attempts: how often a
    process began; host: where it ran last; version: in the registry; champion: what the candidate was held against.
    """

    format: int = FORMAT
    run: str
    arguments: dict[str, Any]
    verdict: Verdict = "running"
    step: str = ""
    error: str = ""
    started_at: int
    updated_at: int
    finished_at: int | None = None
    attempts: int = 1
    host: str = ""
    version: int | None = None
    champion: int | None = None
    steps: tuple[StepRecord, ...] = ()

    @property
    def seconds(self) -> float:
        """Time of work in all its steps."""
        return sum(each.seconds for each in self.steps)

    def of(self, name: str) -> StepRecord:
        """A step's record."""
        return next(each for each in self.steps if each.name == name)


def name_of(day: str, asked: Mapping[str, Any]) -> str:
    """A run's name: the cut-off's date, and eight digits of the digest of what was asked.

    >>> name_of("2026-01-31", {"seed": 0})
    '2026-01-31-bd048884'
    """
    return f"{day}-{asked_digest(asked)[:8]}"


def asked_digest(asked: Mapping[str, Any]) -> str:
    """SHA-256 of arguments, whatever their order."""
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def digest_of(files: Mapping[str, str]) -> str:
    """SHA-256 over a list of files and their digests."""
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


def file_outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a step's folder but its record, by path within it."""
    files = {each.relative_to(folder).as_posix(): each for each in sorted(folder.rglob("*")) if each.is_file()}
    return {name: file_sha256(file) for name, file in files.items() if name != STEP_NAME}


def changed(folder: Path, listed: Mapping[str, str]) -> list[str]:
    """The listed files that are gone from a folder, or have another digest."""
    return sorted(
        name for name, sha256 in listed.items() if not (folder / name).is_file() or file_sha256(folder / name) != sha256
    )


def read_run(folder: Path) -> Manifest | None:
    """The manifest in a run's folder; None where there is none. Raises Refused when it cannot be read."""
    file = folder / RUN_NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(f"{file} cannot be read ({error}): put it aside, and the night begins anew") from error


def read_step(folder: Path) -> StepRecord | None:
    """The record in a step's folder; None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / STEP_NAME).read_bytes(), type=StepRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def write_run(folder: Path, manifest: Manifest) -> None:
    """Exchange a run's manifest at one stroke. Raises OSError; what stood there before stays then."""
    write_whole(folder / RUN_NAME, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def write_whole(file: Path, raw: bytes) -> None:
    """Write a file so that it is there whole or as it was before, also after a power cut. Raises OSError."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with unfinished.open("wb") as opened:
            opened.write(raw)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync([file.parent])


def sync(paths: Iterable[Path]) -> None:
    """Have files and folders reach the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
