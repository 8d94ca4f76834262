"""An archive becomes the first state: what happened before the journal's first entry.

The archive's rows are taken by the rules of the batch path: a transaction id comes once, the first fraud label of a
transaction counts, and an archive holds none before its transaction. However few ids are remembered, no label is lost:
an archive's label names account and merchant itself. The archive's digest is in the journal's first entry, so that an
audit can begin at the very first row.
"""

from collections.abc import Callable, Iterator
from typing import Final

import pyarrow as pa

from archive.layout import Archive
from archive.rows import labels_of, transactions_of
from plumbline.errors import InvalidArchive
from plumbline.journal import LabelApplied
from plumbline.transaction import Transaction
from streaming.arrivals import arrivals
from streaming.known import NEW
from streaming.state import CaughtUp, State

CHUNK_ROWS: Final = 50_000


def fold_archive(state: State, archive: Archive, until_us: int | None, tell: Callable[[int], None]) -> CaughtUp:
    """Take an archive's arrivals into an empty state, and note the archive there.

    until_us: only arrivals before this time, microseconds; tell: called with the number of rows taken after each chunk.
    Raises InvalidArchive when a transaction id comes twice.
    """
    state.archive_digest, state.archive_until_us = archive.manifest.digest, until_us
    frauds: set[str] = set()
    for chunk in _chunks(archive, until_us):
        _take(state, chunk, frauds)
        tell(len(chunk))
    return CaughtUp(state)


def _chunks(archive: Archive, until_us: int | None) -> Iterator[list[Transaction | LabelApplied]]:
    waiting: list[Transaction | LabelApplied] = []
    for part, batch in archive.arrivals(until_us=until_us):
        waiting.extend(_values(part, batch))
        if len(waiting) >= CHUNK_ROWS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _values(part: str, batch: pa.RecordBatch) -> Iterator[Transaction | LabelApplied]:
    if part == "transactions":
        yield from transactions_of(batch)
        return
    columns = (batch.column(name).to_pylist() for name in ("account_id", "merchant_id", "occurred_at"))
    for label, account, merchant, occurred_at in zip(labels_of(batch), *columns, strict=True):
        yield LabelApplied(
            label=label, source=None, effect="counted", account_id=account, merchant_id=merchant,
            occurred_at=occurred_at, journaled_at=label.known_at,
        )  # fmt: skip


def _take(state: State, chunk: list[Transaction | LabelApplied], frauds: set[str]) -> None:
    """One chunk, in arrival order; frauds: ids of the transactions whose fraud label has counted, which grows."""
    rows: list[Transaction | LabelApplied] = []
    begin = 0
    for end, each in enumerate([*chunk, None]):
        if isinstance(each, Transaction):
            continue
        transactions = [one for one in chunk[begin:end] if isinstance(one, Transaction)]
        for one, status in zip(transactions, state.admit(transactions), strict=True):
            if status != NEW:
                raise InvalidArchive("archive", "transaction_id", one.transaction_id, "each id once")
        rows.extend(transactions)
        begin = end
        if each is not None and each.label.verdict == "fraud" and each.label.transaction_id not in frauds:
            frauds.add(each.label.transaction_id)
            state.mark_fraud(each.label.transaction_id)
            rows.append(each)
    state.advance(arrivals(rows))
