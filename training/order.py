"""In which order an epoch reads the rows: a pure function of seed and epoch, so that any step can be found again.

Rows lie on disk in time order, 4,096 to a shard. An epoch deals the shards out at random over the whole of the data,
and mixes the rows of every 16 shards among themselves (`training.feed` does that, in the graph). So a read is a whole
file, memory holds a few chunks of 65,536 rows, and the rows of a batch come from 16 places of the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

CHUNK_PIECES: Final = 16

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of rows in the order in which they are read: shard, first row within it, number of rows; int64 [p] each."""

    shard: Int64
    start: Int64
    rows: Int64

    def take(self, which: Int64 | slice) -> "Pieces":
        """Some of them."""
        return Pieces(self.shard[which], self.start[which], self.rows[which])

    def chunk_ends(self) -> Int64:
        """Rows up to the end of each chunk of 16 pieces, the last one of fewer; int64 [c]."""
        return np.cumsum(np.add.reduceat(self.rows, np.arange(0, len(self.rows), CHUNK_PIECES)))


def in_order(shard_rows: Sequence[int], rows: slice) -> Pieces:
    """The part of each shard that a range of rows holds; shards without one are left out. shard_rows: rows of each."""
    length = np.asarray(shard_rows, np.int64)
    before = np.cumsum(length) - length
    start = np.clip(rows.start - before, 0, length)
    held = np.clip(rows.stop - before, 0, length) - start
    shard = np.flatnonzero(held > 0)
    return Pieces(shard, start[shard], held[shard])


def shuffled(shard_rows: Sequence[int], rows: slice, seed: int, epoch: int) -> Pieces:
    """The same in the order of an epoch, counted from 0."""
    pieces = in_order(shard_rows, rows)
    return pieces.take(np.random.Generator(np.random.PCG64([seed, epoch])).permutation(len(pieces.rows)))


def place_of(pieces: Pieces, row: int) -> tuple[int, int]:
    """The chunk that holds the row-th row of an epoch, and how many of the chunk's rows come before it."""
    ends = pieces.chunk_ends()
    chunk = int(np.searchsorted(ends, row, side="right"))
    return chunk, row - (int(ends[chunk - 1]) if chunk else 0)
