"""A snapshot: the scorer's state on disk, with the sequence number it was taken at.

One folder a snapshot, named by its sequence number: `state.npz` (arrays) and `manifest.json` (everything else, and the
SHA-256 of both). It is written beside its place and renamed into it, so a half-written one is never seen. It is only a
cache: one that is damaged or of another format is refused, and the journal rebuilds it.
"""

import fcntl
import hashlib
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from features.grammar import Declaration
from features.sweep import Entities, History
from plumbline.assignment import Assignment
from plumbline.errors import SnapshotRefused, Unready
from plumbline.label import Label
from plumbline.policy import Policy
from streaming.awaited import Awaited, Rows
from streaming.known import Known
from streaming.state import CaughtUp, State

FORMAT: Final = 4
KEPT: Final = 2
"""How many snapshots stay: the newest, and one more in case the newest turns out damaged."""

LOCK_SECONDS: Final = 5.0
"""How long a writer waits for another one in the same folder; each holds it for a moment only."""
LOCK_LOOK_SECONDS: Final = 0.01

_READ_BYTES: Final = 1 << 20
_UNFINISHED: Final = ".unfinished-"
_UNREADABLE: Final = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
"""What a file raises that was damaged, cut short, or removed while it was read."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a snapshot is: format, sequence, positions, everything in force at that place, archive, and its digests.

    policies: version and content digest of each policy that was ever active, the active one last; left out where none
    was, as in snapshots of releases that did not remember them, which know the active one alone;
    waiting: labels that wait for their transactions, the oldest first;
    awaited: of each shadow, version, declaration and the decisions that wait for its answer; left out where there are
    none, so that snapshots from before there was any stay good, as are the next four;
    remembered, topic_ids, journal: as in `State`;
    unassigned: as in `State`; left out where no version scored without an assignment, and by older releases;
    manifest_sha256: of this manifest with the field itself empty. A changed digit in a position would otherwise make
    the scorer leave messages out, or take them twice.
    """

    format: int
    declarations: list[Declaration]
    only: str
    sequence: int
    positions: list[tuple[str, int, int]]
    waiting: list[Label] = []
    policy: Policy | None
    assignment: Assignment | None
    fingerprints: tuple[str, ...]
    archive_digest: str
    archive_until_us: int | None
    awaited: Rows | msgspec.UnsetType = msgspec.UNSET
    policies: list[tuple[str, str]] | msgspec.UnsetType = msgspec.UNSET
    remembered: int | msgspec.UnsetType = msgspec.UNSET
    topic_ids: list[tuple[str, str]] | msgspec.UnsetType = msgspec.UNSET
    journal: str | msgspec.UnsetType = msgspec.UNSET
    unassigned: int | msgspec.UnsetType = msgspec.UNSET
    state_sha256: str
    manifest_sha256: str = ""


class _Formatted(msgspec.Struct):
    format: int


Frozen = tuple[Manifest, dict[str, npt.NDArray[Any]]]


def freeze(caught_up: CaughtUp) -> Frozen:
    """A copy of the state that later changes do not touch; cheap, so that writing it can happen elsewhere."""
    state = caught_up.state
    arrays = {
        f"history.{fingerprint}.{name}": array
        for fingerprint, history in state.histories.items()
        for name, array in history.arrays().items()
    }
    arrays |= {f"entities.{name}": array for name, array in state.entities.arrays().items()}
    arrays |= {f"known.{name}": array for name, array in state.known.arrays().items()}
    manifest = Manifest(
        format=FORMAT,
        declarations=[history.declaration for history in state.histories.values()],
        only=state.only,
        sequence=state.sequence,
        positions=[(topic, partition, offset) for (topic, partition), offset in sorted(state.positions.items())],
        waiting=list(state.waiting.values()),
        policy=state.policy,
        assignment=state.assignment,
        fingerprints=state.fingerprints,
        archive_digest=state.archive_digest,
        archive_until_us=state.archive_until_us,
        awaited=state.awaited.rows() or msgspec.UNSET,
        policies=list(state.policies.items()) or msgspec.UNSET,
        remembered=msgspec.UNSET if state.remembered is None else state.remembered,
        topic_ids=sorted(state.topic_ids.items()) or msgspec.UNSET,
        journal=state.journal or msgspec.UNSET,
        unassigned=msgspec.UNSET if state.unassigned is None else state.unassigned,
        state_sha256="",
    )
    return manifest, arrays


def write(folder: Path, frozen: Frozen) -> Path:
    """Put a frozen state into `folder` as a snapshot, and drop all but the newest two; returns where it lies.

    Any number of processes may write to one folder. Raises Unready when the disk is full or not writable; the older
    snapshots stay then.
    """
    manifest, arrays = frozen
    place = folder / str(manifest.sequence)
    unfinished = folder / f"{_UNFINISHED}{manifest.sequence}-{os.getpid()}-{get_ident()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as writing:
            with _held(folder, wait=True):
                _drop_left(folder)
                unfinished.mkdir()
                writing.enter_context(_held(unfinished))
            with (unfinished / "state.npz").open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            complete = msgspec.structs.replace(manifest, state_sha256=_sha256(unfinished / "state.npz"))
            with (unfinished / "manifest.json").open("wb") as file:
                file.write(sealed(complete))
                file.flush()
                os.fsync(file.fileno())
            with _held(folder, wait=True):
                if place.exists():
                    shutil.rmtree(place)
                unfinished.rename(place)
                for old in sorted(sequences(folder))[:-KEPT]:
                    shutil.rmtree(folder / str(old), ignore_errors=True)
    except BlockingIOError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise Unready(
            f"no snapshot could be written to {folder}: another process has held it for {LOCK_SECONDS:.0f} s; let that "
            "one go on, or end it"
        ) from error
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise Unready(
            f"no snapshot could be written to {folder} ({error.strerror}): make room or rights there"
        ) from error
    return place


def _drop_left(folder: Path) -> None:
    """Remove what writers that were killed left unfinished; one whose writer lives is locked by it, and stays."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError), _held(left):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Locks a folder, until this process lets go or ends. Raises OSError where another writer holds it.

    wait: first for LOCK_SECONDS, and no longer: a writer that stands still must not keep another scorer from ending.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    until = time.monotonic() + (LOCK_SECONDS if wait else 0.0)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
                time.sleep(LOCK_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def sealed(manifest: Manifest) -> bytes:
    """The manifest as it is kept: with its own SHA-256."""
    whole = msgspec.structs.replace(manifest, manifest_sha256=_seal(manifest))
    return msgspec.json.format(msgspec.json.encode(whole))


def _seal(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, manifest_sha256=""))).hexdigest()


def manifest_of(place: Path) -> Manifest:
    """A snapshot's manifest. Raises SnapshotRefused when it is missing, damaged or of another format."""
    try:
        raw = (place / "manifest.json").read_bytes()
        if (found := msgspec.json.decode(raw, type=_Formatted).format) != FORMAT:
            raise SnapshotRefused(f"snapshot {place} has format {found}, this release reads {FORMAT}: remove it")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotRefused(f"snapshot {place} has no readable manifest ({error}): remove it") from error
    if manifest.manifest_sha256 != _seal(manifest):
        raise SnapshotRefused(f"snapshot {place} is damaged: its manifest's SHA-256 is not what it says; remove it")
    return manifest


def sequences(folder: Path) -> list[int]:
    """The sequence numbers of the snapshots in a folder."""
    if not folder.is_dir():
        return []
    return [int(each.name) for each in folder.iterdir() if each.name.lstrip("-").isdigit()]


def read(place: Path, remembered: int) -> State:
    """The state in one snapshot; remembered: how many transactions to keep known where the journal does not say.

    It goes on under the declarations that it was made under, whatever this release's own is. Raises SnapshotRefused
    when it is damaged, of another format, or of a declaration that this release does not compute.
    """
    manifest = manifest_of(place)
    try:
        found = _sha256(place / "state.npz")
        if found != manifest.state_sha256:
            raise SnapshotRefused(
                f"snapshot {place} is damaged: its state's SHA-256 is {found}, expected {manifest.state_sha256}; "
                "remove it"
            )
        with np.load(place / "state.npz", allow_pickle=False) as file:
            return _state(manifest, {name: file[name] for name in file.files}, remembered)
    except _UNREADABLE as error:
        raise SnapshotRefused(
            f"snapshot {place} has no readable state ({type(error).__name__}: {error}): remove it"
        ) from error


def _state(manifest: Manifest, arrays: dict[str, npt.NDArray[Any]], remembered: int) -> State:
    def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    entities = Entities.from_arrays(under("entities."))
    journaled = None if manifest.remembered is msgspec.UNSET else manifest.remembered
    return State(
        known=Known.from_arrays(journaled or remembered, under("known.")),
        histories={
            each.fingerprint: History.from_arrays(under(f"history.{each.fingerprint}."), each, entities)
            for each in manifest.declarations
        },
        waiting={label.transaction_id: label for label in manifest.waiting},
        policy=manifest.policy,
        policies=dict(manifest.policies or []),
        unassigned=None if manifest.unassigned is msgspec.UNSET else manifest.unassigned,
        assignment=manifest.assignment,
        fingerprints=manifest.fingerprints,
        positions={(topic, partition): offset for topic, partition, offset in manifest.positions},
        sequence=manifest.sequence,
        archive_digest=manifest.archive_digest,
        archive_until_us=manifest.archive_until_us,
        awaited=Awaited.of(manifest.awaited or []),
        remembered=journaled,
        topic_ids=dict(manifest.topic_ids or {}),
        journal=manifest.journal or "",
        only=manifest.only,
    )


def prehistory(folder: Path) -> tuple[str, int | None]:
    """Digest of the archive that the snapshots in a folder began with ("" for none), and how far it was taken."""
    for sequence in sorted(sequences(folder), reverse=True):
        try:
            manifest = manifest_of(folder / str(sequence))
        except SnapshotRefused:
            continue  # an older one says the same
        return manifest.archive_digest, manifest.archive_until_us
    return "", None


def newest(
    folder: Path, remembered: int, before: int | None = None, archive: tuple[str, int | None] | None = None
) -> tuple[State | None, list[SnapshotRefused]]:
    """The newest snapshot that can be read (None where there is none), and why newer ones were refused.

    before: only those of a smaller sequence number; archive: digest of the archive that came before the journal and how
    far it was taken, where that is known: a snapshot that began with another one is refused. The folder is looked at
    again after each refusal, since a leader may have replaced both of its snapshots meanwhile.
    """
    refused: list[SnapshotRefused] = []
    tried: set[int] = set()
    while True:
        try:
            left = [each for each in sequences(folder) if each not in tried and (before is None or each < before)]
            if not left:
                return None, refused
            tried.add(max(left))
            state = read(folder / str(max(left)), remembered)
        except SnapshotRefused as error:
            refused.append(error)
            continue
        except OSError as error:
            return None, [*refused, SnapshotRefused(f"the snapshots in {folder} cannot be read ({error.strerror})")]
        if archive is None or (state.archive_digest, state.archive_until_us) == archive:
            return state, refused
        refused.append(
            SnapshotRefused(
                f"snapshot {folder / str(state.sequence)} began with archive {state.archive_digest or '(none)'} up to "
                f"{state.archive_until_us}, the journal with {archive[0] or '(none)'} up to {archive[1]}: remove it"
            )
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
