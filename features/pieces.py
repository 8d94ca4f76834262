"""History in pieces: what the Beam pipeline writes, a file for each shard of an entity's keys, and how it is joined.

    FOLDER/account-0.parquet     sequence, the measures of the account's tables; ascending by sequence
    FOLDER/merchant-3.parquet    ...

A row of history is spread over three pieces, those of its account, its merchant and its device. They are joined while
they are read, block by block, so that no more than a block of rows is in memory.
"""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.declaration import DECLARATION
from features.grammar import Declaration, Table
from features.history import Past

BLOCK_ROWS: Final = 65_536
GROUP_ROWS: Final = 16_384
"""Rows of a piece that are read at a time."""

Integers = npt.NDArray[np.int64]

OWNERS: Final = ("account", "merchant", "device")
_OWNER: Final = {"account_merchant": "account"}
"""A pair's history is computed where its account's is: every pair of an account lies in the account's shard."""

_SPINE: Final = "account"
"""Every transaction has an account, so the account's pieces say which rows there are."""


def tables_of(declaration: Declaration, owner: str) -> tuple[Table, ...]:
    """The tables whose history is computed from an entity's rows."""
    return tuple(each for each in declaration.tables if _OWNER.get(each.entity, each.entity) == owner)


def write(folder: Path, owner: str, number: int, rows: pa.Table) -> None:
    """Write one shard's rows: `sequence`, ascending, and the measures of its owner's tables.

    The file appears whole: a runner may try a shard again, or twice at once, and each try writes the same rows.
    """
    name = f"{owner}-{number}.parquet"
    unfinished = folder / f".{name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    pq.write_table(rows, unfinished, compression="lz4", row_group_size=GROUP_ROWS)
    unfinished.replace(folder / name)


def read_history(folder: Path, declaration: Declaration = DECLARATION) -> pa.Table:
    """All of it, ascending by sequence: `sequence` and every measure of the declaration, int64."""
    schema = pa.schema([(name, pa.int64()) for name in ("sequence", *declaration.history_names)])
    return pa.concat_tables([schema.empty_table(), *blocks(folder, declaration)])


def blocks(folder: Path, declaration: Declaration = DECLARATION) -> Iterator[pa.Table]:
    """The same, a table for every 65,536 sequence numbers (..., 0 to 65,535, ...) that has rows."""
    cursors = {owner: [_Cursor(file) for file in sorted(folder.glob(f"{owner}-*.parquet"))] for owner in OWNERS}
    while waiting := [each.first for each in cursors[_SPINE] if each.first is not None]:
        end = (min(waiting) // BLOCK_ROWS + 1) * BLOCK_ROWS
        parts = {owner: [part for each in found for part in each.until(end)] for owner, found in cursors.items()}
        yield _joined(parts, declaration)


class _Cursor:
    """One file, read from its beginning to its end; `first` is the sequence number of its next row, None at the end."""

    def __init__(self, file: Path) -> None:
        self._batches = pq.ParquetFile(file).iter_batches(GROUP_ROWS)
        self._waiting: Any = None
        self.first: int | None = None
        self._next()

    def until(self, end: int) -> Iterator[pa.RecordBatch]:
        """The rows before a sequence number that were not taken yet."""
        while self.first is not None and self.first < end:
            numbers = _integers(self._waiting, "sequence")
            stop = int(np.searchsorted(numbers, end))
            yield self._waiting.slice(0, stop)
            if stop == len(numbers):
                self._next()
            else:
                self._waiting, self.first = self._waiting.slice(stop), int(numbers[stop])

    def _next(self) -> None:
        self._waiting = next(self._batches, None)
        self.first = None if self._waiting is None else int(_integers(self._waiting, "sequence")[0])


def _joined(parts: dict[str, list[pa.RecordBatch]], declaration: Declaration) -> pa.Table:
    """One block's rows, joined by sequence."""
    sequence = np.sort(np.concatenate([_integers(each, "sequence") for each in parts[_SPINE]]))
    columns = {"sequence": sequence}
    for owner, batches in parts.items():
        columns |= {name: np.full(len(sequence), value) for name, value in _of_no_key(declaration, owner).items()}
        for batch in batches:
            numbers = _integers(batch, "sequence")
            at = np.minimum(np.searchsorted(sequence, numbers), len(sequence) - 1)
            ours = sequence[at] == numbers  # where only some keys matter, a merchant has rows of other accounts
            for name in batch.schema.names[1:]:
                columns[name][at[ours]] = _integers(batch, name)[ours]
    names = ["sequence", *declaration.history_names]
    return pa.table([columns[name] for name in names], names=names)


def _of_no_key(declaration: Declaration, owner: str) -> dict[str, int]:
    """The measures of a row that has no such entity, as the kernel gives them: a device may be unknown."""
    no_key, zero, yes, no = np.full(1, -1, np.int64), np.zeros(1, np.int64), np.ones(1, np.bool_), np.zeros(1, np.bool_)
    found: dict[str, int] = {}
    for each in tables_of(declaration, owner):
        numbers = Past(each.name, declaration).advance(
            no_key, zero, zero, zero, zero, zero, reads=yes, writes=yes, marks=no
        )
        found |= {
            measure.name: int(numbers[0, index]) for index, measure in enumerate(declaration.measures_of(each.name))
        }
    return found


def _integers(rows: Any, column: str) -> Integers:
    return np.asarray(rows.column(column), dtype=np.int64)
