"""Rows to train and to test on: raw columns, history, and the truth as it was known at a moment; then tf.data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from archive.layout import Archive
from features.analysis import Columns, raw_columns
from features.declaration import DECLARATION
from features.grammar import RAW_INTEGERS, RAW_STRINGS, Declaration
from features.pieces import read_history
from plumbline.errors import InvalidArchive
from training.windows import Days

Tensor = Any
Transform = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""The exported graph's `transform`: raw columns in, every feature by name out."""

_COLUMNS: Final = ("sequence", "transaction_id", "account_id", *RAW_INTEGERS, *RAW_STRINGS)
TRANSFORM_ROWS: Final = 8192
ROWS_A_GROUP: Final = 65_536


@dataclass(frozen=True, slots=True)
class Examples:
    """n rows as the network takes them: float32 [n, numbers], int32 [n, categories], and the truth float32 [n]."""

    numbers: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int32]
    frauds: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frauds)

    def take(self, rows: slice) -> "Examples":
        """A range of rows."""
        return Examples(self.numbers[rows], self.categories[rows], self.frauds[rows])


def frauds_known(archive: Archive, before_us: int | None) -> set[str]:
    """Ids of the transactions whose latest label known before a moment (ever, when None) says fraud.

    `unsure` says nothing.
    """
    labels = archive.labels(None, before_us, ("transaction_id", "verdict"))
    latest = {
        transaction_id: verdict
        for transaction_id, verdict in zip(
            labels["transaction_id"].to_pylist(), labels["verdict"].to_pylist(), strict=True
        )
        if verdict != "unsure"
    }
    return {transaction_id for transaction_id, verdict in latest.items() if verdict == "fraud"}


def write_rows(
    archive: Archive,
    history: Path,
    days: Days,
    known_before_us: int | None,
    file: Path,
    declaration: Declaration = DECLARATION,
) -> int:
    """Write the transactions of some days with history and truth as Parquet; returns their number.

    Columns: sequence, transaction_id, account_id, the raw inputs, every measure, `fraud` (as frauds_known tells).
    Raises InvalidArchive when the days hold no transaction.
    """
    batches = list(archive.transactions(days.since_us, days.until_us, _COLUMNS))
    if not batches:
        raise InvalidArchive(f"archive {archive.path}", "transactions", 0, f"one or more in {days}")
    rows = pa.Table.from_batches(batches)
    past = read_history(history, declaration)
    at = np.searchsorted(past["sequence"], rows["sequence"])
    known = frauds_known(archive, known_before_us)
    truth = np.fromiter((each in known for each in rows["transaction_id"].to_pylist()), np.bool_, rows.num_rows)
    past = past.take(pa.array(at))
    if not past["sequence"].equals(rows["sequence"]):
        raise InvalidArchive(f"archive {archive.path}", "history", str(history), f"every transaction of {days}")
    for name in declaration.history_names:
        rows = rows.append_column(name, past[name])
    pq.write_table(rows.append_column("fraud", pa.array(truth)), file, row_group_size=ROWS_A_GROUP, compression="zstd")
    return len(truth)


def row_batches(
    file: Path, declaration: Declaration = DECLARATION, rows: int = TRANSFORM_ROWS
) -> Iterator[tuple[Columns, pa.RecordBatch]]:
    """The rows of a file in order, a batch at a time: the model's raw inputs, and the whole batch."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(rows):
            yield raw_columns(batch, declaration), batch


def examples(file: Path, transform: Transform, declaration: Declaration = DECLARATION) -> Examples:
    """All rows of a file through the exported transform, the very graph that serves."""
    numbers, categories, frauds = [], [], []
    for columns, batch in row_batches(file, declaration):
        features = transform({name: tf.constant(column) for name, column in columns.items()})
        numbers.append(np.stack([features[each.name].numpy() for each in declaration.numbers], axis=1))
        indices = [features[each.name].numpy().astype(np.int32) for each in declaration.categories]
        categories.append(np.stack(indices, axis=1))
        frauds.append(np.asarray(batch.column("fraud"), dtype=np.float32))
    return Examples(np.concatenate(numbers), np.concatenate(categories), np.concatenate(frauds))


def batched(rows: Examples, batch_rows: int, seed: int | None) -> Any:
    """A tf.data.Dataset of ((numbers, categories), truth); in a new order every epoch when a seed is given.

    Rows lie in memory as tensors; only their numbers are shuffled.
    """
    numbers, categories = tf.constant(rows.numbers), tf.constant(rows.categories)
    frauds = tf.constant(rows.frauds)[:, None]
    order = tf.data.Dataset.range(len(rows))
    if seed is not None:
        order = order.shuffle(len(rows), seed=seed, reshuffle_each_iteration=True)

    def gathered(at: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return (tf.gather(numbers, at), tf.gather(categories, at)), tf.gather(frauds, at)

    parts = order.batch(batch_rows, drop_remainder=seed is not None and len(rows) >= batch_rows)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return parts.map(gathered, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE).with_options(options)
