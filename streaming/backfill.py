"""An archive becomes the first snapshot: what happened before the journal's first entry.

The archive's rows are taken by the same rules as a stream's: a transaction id counts once, a fraud label counts once,
and only for a transaction that came before it. The archive's digest stands in the snapshot, so that an audit can begin
at the very first row.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from archive.layout import Archive
from archive.rows import labels_of, transactions_of
from plumbline.decision import Source
from plumbline.errors import InvalidArchive, Refused
from plumbline.journal import LabelApplied
from plumbline.label import Label
from plumbline.transaction import Transaction
from streaming.known import NEW, Known
from streaming.snapshot import freeze, sequences, write
from streaming.state import State, arrivals

CHUNK_ROWS: Final = 50_000
_ARCHIVE: Final = Source("archive", 0, 0, 0)


def backfill(
    archive: Archive, snapshots: Path, *, until_us: int | None, remembered: int, tell: Callable[[int], None]
) -> State:
    """Fold an archive into a first snapshot in the folder `snapshots`; returns the state it holds.

    until_us: only arrivals before this time, microseconds; remembered: transactions whose ids are kept; tell: called
    with the number of rows taken after each chunk. Raises Refused when there are snapshots already, and InvalidArchive
    when a transaction id comes twice.
    """
    if sequences(snapshots):
        raise Refused(
            f"{snapshots} holds snapshots already: a backfill is the first thing an installation does; remove them "
            "only if the journal is empty"
        )
    state = State(Known(remembered))
    fold_archive(state, archive, until_us, tell)
    write(snapshots, freeze(state))
    return state


def fold_archive(state: State, archive: Archive, until_us: int | None, tell: Callable[[int], None]) -> None:
    """Take an archive's arrivals into an empty state, and note the archive there; see `backfill`.

    Raises InvalidArchive when a transaction id comes twice.
    """
    state.archive_digest, state.archive_until_us = archive.manifest.digest, until_us
    for chunk in _chunks(archive, until_us):
        _take(state, chunk)
        tell(len(chunk))


def _chunks(archive: Archive, until_us: int | None) -> Iterator[list[Transaction | Label]]:
    waiting: list[Transaction | Label] = []
    for part, batch in archive.arrivals(until_us=until_us):
        waiting.extend(_values(part, batch))
        if len(waiting) >= CHUNK_ROWS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _values(part: str, batch: pa.RecordBatch) -> Iterator[Transaction | Label]:
    return transactions_of(batch) if part == "transactions" else labels_of(batch)


def _take(state: State, chunk: list[Transaction | Label]) -> None:
    """One chunk, in arrival order: labels see exactly the transactions before them."""
    rows: list[Transaction | LabelApplied] = []
    begin = 0
    for end, each in enumerate([*chunk, None]):
        if each is not None and not isinstance(each, Label):
            continue
        transactions = [one for one in chunk[begin:end] if isinstance(one, Transaction)]
        for one, status in zip(transactions, state.admit(transactions), strict=True):
            if status != NEW:
                raise InvalidArchive("archive", "transaction_id", one.transaction_id, "each id once")
        rows.extend(transactions)
        begin = end
        if isinstance(each, Label):
            applied = state.label(each, _ARCHIVE, each.known_at)
            if applied.effect == "counted":
                rows.append(applied)
    state.advance(arrivals(rows))
