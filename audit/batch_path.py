"""The numbers once more, by the batch path: history by Beam key by key, scores by the model's file in this process.

It starts from raw transactions and labels alone: an archive, for what came before the journal, and the journal's own.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.layout import open_archive
from features.declaration import HISTORY_NAMES
from features.history import Integers
from features.pieces import read_history
from features.pipeline import Part, write_history
from plumbline.transaction import DAY_US

DAYS_A_PART: Final = 30
_ARCHIVE_COLUMNS: Final = (
    "sequence", "account_id", "merchant_id", "device_id", "occurred_at", "amount_minor", "latitude_e6", "longitude_e6",
)  # fmt: skip


def recompute_history(
    archive: Path | None, until_us: int | None, arrivals: Path, scratch: Path, keep_us: tuple[int, int]
) -> pa.Table:
    """History of the journal's transactions whose occurred_at is in keep_us: `sequence` and every measure, by sequence.

    archive, until_us: what came before the journal, up to that arrival time; arrivals: folder of `write_arrivals`;
    scratch: a folder to be made.
    """
    scratch.mkdir()
    read = functools.partial(_read, str(archive) if archive is not None else None, until_us, str(arrivals))
    write_history(read, list(_parts(archive, until_us)), scratch, keep_us=keep_us)
    table = read_history(scratch)
    return table.filter(pc.greater_equal(table.column("sequence"), 0))


def _parts(archive: Path | None, until_us: int | None) -> Iterator[Part]:
    yield Part("transactions", None, None)
    yield Part("labels", None, None)
    if archive is None:
        return
    manifest = open_archive(archive).manifest
    if manifest.first_occurred_at is None or manifest.last_occurred_at is None:
        return
    yield Part("labels", 0, until_us)
    since = manifest.first_occurred_at
    end = min(manifest.last_occurred_at + 1, until_us if until_us is not None else manifest.last_occurred_at + 1)
    while since < end:
        until = min(since + DAYS_A_PART * DAY_US, end)
        yield Part("transactions", since, until)
        since = until


def _read(archive: str | None, until_us: int | None, arrivals: str, part: Part) -> Iterator[pa.RecordBatch]:
    """A part's arrivals; the one without bounds is the journal's."""
    if part.since_us is None or archive is None:
        for file in sorted(Path(arrivals).glob(f"{part.kind}-*.parquet")):
            yield from pq.ParquetFile(file).iter_batches()
        return
    opened = open_archive(archive)
    if part.kind == "transactions":
        yield from opened.transactions(part.since_us, part.until_us, columns=_ARCHIVE_COLUMNS)
        return
    labels = opened.labels(until_us=until_us)
    frauds = labels.filter(pc.equal(labels.column("verdict"), "fraud"))
    ids = frauds.column("transaction_id").to_pylist()
    seen: set[str] = set()
    first = [row for row, each in enumerate(ids) if not (each in seen or seen.add(each))]  # type: ignore[func-returns-value]
    yield from frauds.take(pa.array(first, pa.int64())).to_batches()


def history_matrix(table: pa.Table, sequences: Sequence[int]) -> tuple[Integers, np.ndarray]:
    """A history table's rows by sequence number: int64 [n, measures], and bool [n], whether it has them."""
    have = np.asarray(table.column("sequence"))
    wanted = np.array(sequences, np.int64)
    at = np.searchsorted(have, wanted)
    found = (at < len(have)) & (have[np.minimum(at, max(len(have) - 1, 0))] == wanted) if len(have) else at < 0
    columns = [np.asarray(table.column(name))[at[found]] for name in HISTORY_NAMES]
    matrix = np.zeros((len(wanted), len(HISTORY_NAMES)), np.int64)
    matrix[found] = np.stack(columns, axis=1) if found.any() else 0
    return matrix, found
