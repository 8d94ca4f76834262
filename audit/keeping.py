"""What the watching process remembers on disk, so that a restart is quick: its own snapshots, and counts beside them.

All of it is a cache of the archive and the journal. One that is damaged, of another declaration, without its counts, or
ahead of what SQL says was counted is passed over, and the journal is folded from further back.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec
import structlog

from archive.layout import open_archive
from audit.counting import Kept
from audit.following import Following
from plumbline.errors import FingerprintMismatch, SnapshotRefused
from plumbline.policy import Policy
from streaming.backfill import backfill
from streaming.known import Known
from streaming.snapshot import freeze, read, sequences, write
from streaming.state import BEFORE_JOURNAL, State

log = structlog.get_logger()

REMEMBERED: Final = 1024
"""The continuous audit takes labels' effects as journaled, so it need not remember transactions."""


class Beside(msgspec.Struct):
    """What lies beside a snapshot: counts, and every policy journaled so far; sha256: of all this with itself empty."""

    sequence: int
    kept: Kept
    policies: dict[str, Policy]
    sha256: str = ""

    def seal(self) -> str:
        """The digest that belongs here."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, sha256=""))).hexdigest()


def save(folder: Path, following: Following, kept: Kept) -> None:
    """Write everything down. Raises Unready when the disk is full; what was written before stays."""
    sequence = following.state.sequence
    beside = Beside(sequence, kept, following.policies)
    beside.sha256 = beside.seal()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".counts-{os.getpid()}"
    unfinished.write_bytes(msgspec.json.encode(beside))
    unfinished.rename(folder / f"counts-{sequence}.json")
    write(folder, freeze(following.state))
    for old in folder.glob("counts-*.json"):
        if int(old.stem.removeprefix("counts-")) not in sequences(folder):
            old.unlink()


def restore(folder: Path, counted: int, archive: Path | None, until_us: int | None) -> tuple[Following, Kept]:
    """The newest of what was written down, up to the sequence that SQL says was counted; else from the very beginning.

    archive, until_us: what came before the journal. Raises InvalidArchive, Unready when the disk is full.
    """
    digest = open_archive(archive).manifest.digest if archive is not None else ""
    for sequence in sorted((each for each in sequences(folder) if each <= counted), reverse=True):
        try:
            state = read(folder / str(sequence), REMEMBERED)
            if (state.archive_digest, state.archive_until_us) == (digest, until_us):
                beside = _beside(folder, sequence)
                return Following(state, beside.policies), beside.kept
        except (SnapshotRefused, FingerprintMismatch) as error:
            log.warning("passed over", reason=str(error))
    for sequence in sequences(folder):
        log.info("the journal is folded anew", instead_of=sequence)
    state = State(Known(REMEMBERED), archive_digest=digest, archive_until_us=until_us)
    if archive is not None:
        state = _prehistory(folder, archive, until_us)
    return Following(state), Kept()


def _prehistory(folder: Path, archive: Path, until_us: int | None) -> State:
    aside = folder / "archive"
    opened = open_archive(archive)
    if sequences(aside):
        try:
            state = read(aside / str(BEFORE_JOURNAL), REMEMBERED)
            if (state.archive_digest, state.archive_until_us) == (opened.manifest.digest, until_us):
                return state
        except (SnapshotRefused, FingerprintMismatch) as error:
            log.warning("passed over", reason=str(error))
    for sequence in sequences(aside):
        _remove(aside / str(sequence))
    rows = opened.manifest.rows + opened.manifest.labels
    state = backfill(opened, aside, until_us=until_us, remembered=max(rows, REMEMBERED), tell=lambda _: None)
    state.known = Known(REMEMBERED)
    write(aside, freeze(state))
    return state


def _remove(place: Path) -> None:
    for file in place.iterdir():
        file.unlink()
    place.rmdir()


def _beside(folder: Path, sequence: int) -> Beside:
    try:
        beside = msgspec.json.decode((folder / f"counts-{sequence}.json").read_bytes(), type=Beside)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotRefused(
            f"snapshot {folder / str(sequence)} has no readable counts beside it ({error})"
        ) from error
    if beside.sha256 != beside.seal() or beside.sequence != sequence:
        raise SnapshotRefused(f"the counts beside snapshot {folder / str(sequence)} are damaged")
    return beside
