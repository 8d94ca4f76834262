"""Rows to train and to test on: raw columns, history, and the truth as it was known at a moment; then examples."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
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
from plumbline.errors import Invalid, InvalidArchive
from training.windows import Days

Tensor = Any
Transform = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""The exported graph's `transform`: raw columns in, every feature by name out."""

_COLUMNS: Final = ("sequence", "transaction_id", "account_id", *RAW_INTEGERS, *RAW_STRINGS)
TRANSFORM_ROWS: Final = 8192
ROWS_A_GROUP: Final = 65_536
WEIGHT: Final = "weight"
"""Column of a rows file that says how many rows a row stands for; rows without it stand for themselves."""


class InvalidExamples(Invalid):
    """Columns that are no table of examples."""


_UNWEIGHTED: Final = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Examples:
    """n rows as the network takes them: float32 [n, numbers], int32 [n, categories], and the truth float32 [n].

    weights: float32 [n], above 0, how many rows each one stands for (1 / the probability with which it came to be
    labelled); ones when not given. Raises InvalidExamples.
    """

    numbers: npt.NDArray[np.float32]
    categories: npt.NDArray[np.int32]
    frauds: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32] = field(default_factory=lambda: _UNWEIGHTED)

    def __post_init__(self) -> None:
        if self.weights is _UNWEIGHTED:
            object.__setattr__(self, "weights", np.ones(len(self.frauds), np.float32))
        lengths = {each.name: len(getattr(self, each.name)) for each in fields(self)}
        if len(set(lengths.values())) != 1:
            raise InvalidExamples("examples", "columns", lengths, "columns of one length")
        fine = (self.weights > 0) & np.isfinite(self.weights)
        if not fine.all():
            at = int(np.argmin(fine))
            raise InvalidExamples(f"row {at}", "weight", float(self.weights[at]), "a finite number above 0")

    def __len__(self) -> int:
        return len(self.frauds)

    def take(self, rows: slice) -> "Examples":
        """A range of rows."""
        return Examples(self.numbers[rows], self.categories[rows], self.frauds[rows], self.weights[rows])

    def number(self, index: int) -> npt.NDArray[np.float32]:
        """One column of the numbers, float32 [n]."""
        return self.numbers[:, index]

    def category(self, index: int) -> npt.NDArray[np.int32]:
        """One column of the categories, int32 [n]."""
        return self.categories[:, index]


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


def transformed(
    files: Iterable[Path], transform: Transform, declaration: Declaration = DECLARATION
) -> Iterator[Examples]:
    """The rows of files in order, a batch at a time, through the exported transform, the very graph that serves.

    files: Parquet, as write_rows makes them; a column `weight` is taken where there is one.
    """
    for file in files:
        for columns, batch in row_batches(file, declaration):
            features = transform({name: tf.constant(column) for name, column in columns.items()})
            indices = [features[each.name].numpy().astype(np.int32) for each in declaration.categories]
            weighed = batch.schema.get_field_index(WEIGHT) >= 0
            yield Examples(
                np.stack([features[each.name].numpy() for each in declaration.numbers], axis=1),
                np.stack(indices, axis=1),
                np.asarray(batch.column("fraud"), dtype=np.float32),
                np.asarray(batch.column(WEIGHT) if weighed else np.ones(batch.num_rows), dtype=np.float32),
            )


def examples(file: Path, transform: Transform, declaration: Declaration = DECLARATION) -> Examples:
    """All rows of a file through the exported transform, in memory."""
    return joined(transformed([file], transform, declaration))


def joined(parts: Iterable[Examples]) -> Examples:
    """Parts one behind the other; one or more."""
    listed = list(parts)
    return Examples(*(np.concatenate([getattr(part, each.name) for part in listed]) for each in fields(Examples)))
