"""History under a declaration that is not in force yet, made ready beside the stream and taken over without a stop.

`plumbline prepare` folds the archive and the journal under a new declaration and leaves a snapshot of it, while the
scorer goes on. When an assignment brings the declaration into force, the scorer takes that snapshot and folds what has
been journaled since, which is little if it was prepared a moment ago.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import structlog
from kafka import TopicPartition

from archive.layout import Archive
from features.grammar import Declaration
from features.sweep import History
from plumbline import journal
from plumbline.errors import HistoryMissing
from streaming.backfill import fold_archive
from streaming.kafka import end_offsets, reader
from streaming.known import Known
from streaming.snapshot import freeze, newest, write
from streaming.state import CaughtUp, State

log = structlog.get_logger()

POLL_MS: Final = 500
ENTRIES_A_POLL: Final = 5000


def folder_of(snapshots: Path, declaration: Declaration) -> Path:
    """Where the snapshots of a declaration that is being prepared lie."""
    return snapshots.parent / "prepared" / declaration.fingerprint


def prepare(
    bootstrap: str,
    partition: TopicPartition,
    snapshots: Path,
    declaration: Declaration,
    *,
    archive: Archive | None,
    until_us: int | None,
    remembered: int,
    tell: Callable[[int], None],
) -> State:
    """Fold archive and journal up to its present end under a declaration, and leave a snapshot; returns that state.

    partition: the journal's; archive, until_us: what came before the journal, as the scorer's first snapshot has it;
    tell: called with a number of rows or entries taken. A second call goes on from where the first one ended.
    What an earlier call left is only a cache: damaged, it is prepared again. Raises BrokerUnavailable, Unready when the
    disk is full.
    """
    folder = folder_of(snapshots, declaration)
    named = (archive.manifest.digest, until_us) if archive is not None else ("", None)
    state, refused = newest(folder, remembered, archive=named)
    for error in refused:
        log.error("snapshot refused, what it held is prepared again", error=str(error))
    if state is None:
        state = State(Known(remembered), {declaration.fingerprint: History(declaration)}, only=declaration.fingerprint)
        if archive is not None:
            fold_archive(state, archive, until_us, tell)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    write(folder, freeze(fold_until(state, bootstrap, partition, end, tell)))
    return state


def history_until(
    bootstrap: str,
    partition: TopicPartition,
    snapshots: Path,
    declaration: Declaration,
    *,
    sequence: int,
    remembered: int,
    most_entries: int | None,
    begin: Callable[[Declaration], State] | None = None,
) -> History:
    """The history of everything before journal entry `sequence`, from what was prepared and the journal since.

    most_entries: how many entries may be left to fold (None: any number); a leader must not stand still for long.
    begin: makes the state before the journal's first entry under a declaration, from which the history is folded where
    none is prepared; None for a leader. Raises HistoryMissing where nothing was prepared, or too long ago.
    """
    state, refused = newest(folder_of(snapshots, declaration), remembered, before=sequence)
    if state is None and begin is not None:
        log.info("a history that is not prepared is folded from the beginning", fingerprint=declaration.fingerprint)
        state = begin(declaration)
    if state is None:
        said = "".join(f"; {error}" for error in refused)
        raise HistoryMissing(
            f"no history is prepared for declaration {declaration.fingerprint}{said}: run `plumbline prepare`"
        )
    behind = sequence - 1 - state.sequence
    if most_entries is not None and behind > most_entries:
        raise HistoryMissing(
            f"the history prepared for declaration {declaration.fingerprint} is {behind} journal entries behind, and "
            f"the stream may wait for {most_entries} at most: run `plumbline prepare` again, then assign at once"
        )
    fold_until(state, bootstrap, partition, sequence, lambda entries: None)
    return state.histories[declaration.fingerprint]


def fold_until(
    state: State, bootstrap: str, partition: TopicPartition, end: int, tell: Callable[[int], None]
) -> CaughtUp:
    """Fold the journal's entries before offset `end`; tell: called with the number of entries as they are taken."""
    begin = state.sequence + 1
    with closing(reader(bootstrap, {partition: begin}, most_records=ENTRIES_A_POLL)) as entries:
        while entries.position(partition) < end:
            for records in entries.poll(timeout_ms=POLL_MS).values():
                wanted = [(each.offset, journal.decode(each.value)) for each in records if each.offset < end]
                tell(state.fold(wanted))
    return CaughtUp(state)
