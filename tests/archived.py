"""A first snapshot from an archive, for journals that a test writes itself."""

from pathlib import Path

from archive.layout import Archive
from streaming.backfill import fold_archive
from streaming.known import Known
from streaming.snapshot import freeze, write
from streaming.state import State


def backfilled(archive: Archive, snapshots: Path, *, until_us: int | None, remembered: int) -> State:
    """The state before a journal that begins after this archive, which lies in `snapshots` too."""
    state = State(Known(remembered))
    write(snapshots, freeze(fold_archive(state, archive, until_us, lambda _rows: None)))
    return state
