"""The scorer's snapshots against the journal: each must be the fold of it up to the snapshot's own sequence number."""

from collections.abc import Callable
from pathlib import Path

from kafka import TopicPartition

from archive.layout import open_archive
from audit.causes import Cause
from audit.report import Difference, Report
from features.grammar import Declaration
from features.sweep import History
from streaming import verify
from streaming.backfill import fold_archive
from streaming.known import Known
from streaming.state import BEFORE_JOURNAL, State


def compare_snapshots(
    report: Report,
    folder: Path,
    bootstrap: str,
    journal: TopicPartition,
    archive: tuple[Path | None, int | None],
    remembered: int,
    *,
    to_the_end: bool,
) -> None:
    """Load the snapshots whose sequence numbers lie among the compared entries, and add to the report.

    folder: the scorer's snapshots; archive: what came before the journal, and up to when; to_the_end: whether the
    selection has no upper bound, so that a snapshot ahead of the journal is looked at too. Raises BrokerUnavailable.
    """
    if report.first_sequence is None or report.last_sequence is None:
        return
    first = BEFORE_JOURNAL if report.first_sequence == 0 else report.first_sequence
    found = [
        each
        for each in verify.listed(folder)
        if first <= each.sequence and (to_the_end or each.sequence <= report.last_sequence)
    ]
    if not found:
        return
    verify.verify(found, _begin(archive, remembered), bootstrap, journal, remembered, lambda _: None)
    # One that is gone by now was pruned by its scorer meanwhile.
    judged = [each for each in found if each.place.is_dir()]
    report.add(
        "snapshot",
        len(judged),
        [
            Difference(
                each.sequence, f"snapshot {each.sequence}", "snapshot", part, "one", "another", Cause.SNAPSHOT.value
            )
            for each in judged
            for part in ([each.refused] if each.refused else each.different)
        ],
    )


def _begin(archive: tuple[Path | None, int | None], remembered: int) -> Callable[[Declaration], State]:
    """Makes the state before the journal's first entry, under one declaration."""
    folder, until_us = archive
    opened = None if folder is None else open_archive(folder)

    def begin(declaration: Declaration) -> State:
        state = State(Known(remembered), {declaration.fingerprint: History(declaration)})
        if opened is not None:
            fold_archive(state, opened, until_us, lambda _: None)
        return state

    return begin
