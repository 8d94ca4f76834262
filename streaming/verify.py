"""Are the snapshots what the journal says? Each is loaded, and compared with a state folded anew up to its sequence.

Compared is what a state means: which ids there are and their order, each key's facts and entries, the transactions
known, labels that wait, source positions and policy. How rings lie in the arena, what is on the free lists and how the
ring of known transactions is turned depends on how the stream was cut into batches and on restarts in between; it
changes no answer and is left out (see `Past.remembered` and `Known.remembered`).
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from kafka import KafkaConsumer, TopicPartition

from features.declaration import DECLARATION
from features.grammar import Declaration
from features.sweep import History
from plumbline import journal
from plumbline.errors import FingerprintMismatch, InvalidDeclaration, SnapshotRefused, StateDiverged
from streaming.kafka import end_offsets, reader
from streaming.prepared import fold_until
from streaming.snapshot import Manifest, manifest_of, read, sequences
from streaming.state import State, Supply

POLL_MS: Final = 500
CHUNK_ENTRIES: Final = 5_000
TOLD_MOST: Final = 10
"""Differences of one snapshot that are told."""


@dataclass(slots=True)
class Verified:
    """One snapshot: what its manifest says, bytes on disk, and what is wrong with it; `different` names parts."""

    sequence: int
    place: Path
    bytes: int
    manifest: Manifest | None = None
    refused: str = ""
    different: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether a scorer must not start from it."""
        return bool(self.refused or self.different)


def listed(folder: Path) -> list[Verified]:
    """The snapshots in a folder, oldest first, as their manifests describe them."""
    found = []
    for sequence in sorted(sequences(folder)):
        place = folder / str(sequence)
        each = Verified(sequence, place, sum(file.stat().st_size for file in place.iterdir()))
        try:
            each.manifest = manifest_of(place)
        except SnapshotRefused as error:
            each.refused = str(error)
        found.append(each)
    return found


def verify(
    found: Sequence[Verified],
    begin: Callable[[Declaration], State],
    bootstrap: str,
    partition: TopicPartition,
    remembered: int,
    tell: Callable[[int], None],
) -> None:
    """Load each snapshot, fold the journal up to it, and note in each what is wrong with it.

    found: as `listed` gives them, oldest first; begin: makes the state before the journal's first entry under a
    declaration, from which each that came into force later is folded too; partition: the journal's; remembered:
    transactions whose ids the scorer keeps; tell: called with the number of entries folded as it grows.
    Raises BrokerUnavailable, NotFound.
    """
    end = end_offsets(bootstrap, [partition.topic])[partition]
    folded = begin(DECLARATION)

    def supply(declaration: Declaration, sequence: int) -> History:
        alone = begin(declaration)
        alone.only = declaration.fingerprint
        fold_until(alone, bootstrap, partition, sequence, lambda entries: None)
        return alone.histories[declaration.fingerprint]

    with closing(reader(bootstrap, {partition: 0}, most_records=CHUNK_ENTRIES)) as entries:
        diverged = ""
        for each in found:
            try:
                state = read(each.place, remembered)
            except SnapshotRefused as error:
                each.refused = str(error)
                continue
            if state.sequence != each.sequence:
                each.different.append(f"sequence (folder {each.sequence}, manifest {state.sequence})")
            elif state.sequence >= max(end, 0):
                each.different.append(f"sequence (the journal ends before {end})")
            elif not diverged:
                try:
                    _fold(folded, entries, partition, state.sequence, tell, supply)
                except (StateDiverged, FingerprintMismatch, InvalidDeclaration) as error:
                    diverged = str(error)
            if diverged:
                each.refused = f"the journal itself cannot be folded up to here: {diverged}"
            elif not each.different:
                each.different = differences(state, folded)


def differences(ours: State, theirs: State) -> list[str]:
    """The parts, and the first key or row of each, in which two states do not mean the same; empty when they do."""
    found = [
        name
        for name in (
            "sequence",
            "positions",
            "waiting",
            "policy",
            "assignment",
            "fingerprints",
            "archive_digest",
            "archive_until_us",
            "awaited",
            "remembered",
            "topic_ids",
        )
        if getattr(ours, name) != getattr(theirs, name)
    ]
    if not ours.policies.items() <= theirs.policies.items():  # an older release remembered fewer of them
        found.append("policies")
    if ours.unassigned not in (None, theirs.unassigned):  # an older release remembered none
        found.append("unassigned")
    found += _unequal("entities", ours.entities.arrays(), theirs.entities.arrays())
    if list(ours.histories) != list(theirs.histories):
        found.append(f"declarations in force: {', '.join(ours.histories)} against {', '.join(theirs.histories)}")
    for fingerprint, history in theirs.histories.items():
        for name, past in history.tables.items() if fingerprint in ours.histories else ():
            mine = ours.histories[fingerprint].tables[name].remembered()
            under = f" under declaration {fingerprint}" if len(theirs.histories) > 1 else ""
            found += _unequal(f"table {name}{under}", mine, past.remembered())
    common = min(len(ours.known), len(theirs.known))  # one may have been kept under a smaller limit
    newest = [
        {part: column[len(column) - common :] for part, column in each.known.remembered().items()}
        for each in (ours, theirs)
    ]
    return (found + _unequal("known transactions", *newest))[:TOLD_MOST]


def _unequal(what: str, ours: dict[str, npt.NDArray[Any]], theirs: dict[str, npt.NDArray[Any]]) -> list[str]:
    found = []
    for part, mine in ours.items():
        other = theirs[part]
        if mine.shape != other.shape:
            found.append(f"{what}, {part}: {len(mine)} against {len(other)}")
        elif not np.array_equal(mine, other):
            at = int(np.flatnonzero(mine != other)[0])
            found.append(f"{what}, {part}: at {at} {mine[at]} against {other[at]}")
    return found


def _fold(
    state: State,
    entries: KafkaConsumer,
    partition: TopicPartition,
    until: int,
    tell: Callable[[int], None],
    supply: Supply,
) -> None:
    """Fold the journal up to and with the entry of sequence `until`, and leave the reader behind it."""
    while state.sequence < until:
        for records in entries.poll(timeout_ms=POLL_MS).values():
            taken = [(each.offset, journal.decode(each.value)) for each in records if each.offset <= until]
            tell(state.fold(taken, supply))
    entries.seek(partition, until + 1)
