"""What the watching process remembers on disk, so that a restart is quick: its own snapshots, and counts beside them.

All of it is a cache of the archive and the journal. One that is damaged, of another declaration, without its counts, or
ahead of what SQL says was counted is passed over, and the journal is folded from further back.
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec
import structlog

from archive.layout import open_archive
from audit.counting import Kept
from audit.following import Following
from audit.past import Sources
from features.grammar import Declaration
from features.sweep import History
from plumbline import journal
from plumbline.decision import Decision
from plumbline.errors import FingerprintMismatch, SnapshotRefused
from plumbline.journal import LabelApplied
from plumbline.policy import Policy
from streaming.arrivals import arrivals
from streaming.backfill import CHUNK_ROWS, fold_archive
from streaming.known import Known
from streaming.snapshot import freeze, read, sequences, write
from streaming.state import BEFORE_JOURNAL, CaughtUp, State

log = structlog.get_logger()

FORMAT: Final = 2
REMEMBERED: Final = 1024
"""The continuous audit takes labels' effects as journaled, so it need not remember transactions."""


class Beside(msgspec.Struct):
    """What lies beside a snapshot: counts, and every policy journaled so far; sha256: of all this with itself empty."""

    format: int
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
    beside = Beside(FORMAT, sequence, kept, following.policies)
    beside.sha256 = beside.seal()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".counts-{os.getpid()}"
    unfinished.write_bytes(msgspec.json.encode(beside))
    unfinished.rename(folder / f"counts-{sequence}.json")
    write(folder, freeze(CaughtUp(following.state)))
    for old in folder.glob("counts-*.json"):
        if int(old.stem.removeprefix("counts-")) not in sequences(folder):
            old.unlink()


def restore(folder: Path, counted: int, sources: Sources) -> tuple[Following, Kept]:
    """The newest of what was written down, up to the sequence that SQL says was counted; else from the very beginning.

    Raises InvalidArchive, Unready when the disk is full.
    """
    archive, until_us = sources.archive, sources.until_us
    supply = functools.partial(history_under, sources)
    digest = open_archive(archive).manifest.digest if archive is not None else ""
    for sequence in sorted((each for each in sequences(folder) if each <= counted), reverse=True):
        try:
            state = read(folder / str(sequence), REMEMBERED)
            if (state.archive_digest, state.archive_until_us) == (digest, until_us):
                beside = _beside(folder, sequence)
                return Following(state, supply, beside.policies), beside.kept
        except (SnapshotRefused, FingerprintMismatch) as error:
            log.warning("passed over", reason=str(error))
    for sequence in sequences(folder):
        log.info("the journal is folded anew", instead_of=sequence)
    state = State(Known(REMEMBERED), archive_digest=digest, archive_until_us=until_us)
    if archive is not None:
        state = _prehistory(folder, archive, until_us)
    return Following(state, supply), Kept()


def history_under(sources: Sources, declaration: Declaration, sequence: int) -> History:
    """History under a declaration, of everything before the journal entry of that sequence number.

    The archive and the journal are read for it from their beginnings: a declaration seldom changes.
    """
    name = declaration.fingerprint
    state = State(Known(REMEMBERED), {name: History(declaration)}, only=name)
    if sources.archive is not None:
        opened = open_archive(sources.archive)
        state.known = Known(max(opened.manifest.rows, REMEMBERED))
        fold_archive(state, opened, sources.until_us, lambda _: None)
    rows: list[Decision | LabelApplied] = []
    for record in sources.journal.records(0, sequence):
        entry = journal.decode(record.value)
        if isinstance(entry, Decision) or (isinstance(entry, LabelApplied) and entry.effect == "counted"):
            rows.append(entry)
        if len(rows) >= CHUNK_ROWS:
            state.advance(arrivals(rows))
            rows = []
    state.advance(arrivals(rows))
    return state.histories[name]


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
    state = State(Known(max(rows, REMEMBERED)))
    caught_up = fold_archive(state, opened, until_us, lambda _: None)
    state.known = Known(REMEMBERED)
    write(aside, freeze(caught_up))
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
    if beside.format != FORMAT:
        raise SnapshotRefused(f"the counts beside snapshot {folder / str(sequence)} are of another release")
    if beside.sha256 != beside.seal() or beside.sequence != sequence:
        raise SnapshotRefused(f"the counts beside snapshot {folder / str(sequence)} are damaged")
    return beside
