"""The model of `benchmarks.skew`: trained and exported by the product's own code, and asked in batches of any sizes."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from features.analysis import Columns, raw_columns, write_analysis
from features.declaration import DECLARATION
from features.history import Integers
from features.preprocessing import padded
from training.dataset import examples
from training.evaluate import Loaded, load
from training.export import Exported, Transform, save
from training.fit import Recipe, fit, strategy

_NAMES = DECLARATION.feature_names
_NUMBERS = [_NAMES.index(each.name) for each in DECLARATION.numbers]
_CATEGORIES = [_NAMES.index(each.name) for each in DECLARATION.categories]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Side:
    """One side's view of the test rows: features float32 [n, F] and scores float32 [n]."""

    features: Array
    scores: Array


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a Parquet file that `training.dataset.write_rows` wrote, whole: the model's inputs, and the truth."""

    whole: pa.Table
    columns: Columns

    @property
    def sequence(self) -> Integers:
        """Sequence numbers, int64 [n]."""
        return np.asarray(self.whole["sequence"], dtype=np.int64)

    @property
    def transaction_ids(self) -> Array:
        """Ids of transactions, str [n]."""
        return np.array(self.whole["transaction_id"].to_pylist(), np.str_)

    @property
    def accounts(self) -> Array:
        """Ids of accounts, str [n]."""
        return np.array(self.whole["account_id"].to_pylist(), np.str_)

    @property
    def frauds(self) -> Array:
        """The truth, bool [n]."""
        return np.asarray(self.whole["fraud"])

    def with_history(self, history: Integers, file: Path) -> Path:
        """Write the rows with another history, int64 [n, measures], into a file; returns it."""
        rows = self.whole
        for column, name in enumerate(DECLARATION.history_names):
            rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(history[:, column]))
        pq.write_table(rows, file)
        return file


def column_table(file: Path) -> Rows:
    """The rows of a file."""
    whole = pq.read_table(file).combine_chunks()
    return Rows(whole, raw_columns(whole))


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted network in its graph, as built and as loaded again from its SavedModel."""

    exported: Exported
    loaded: Loaded

    @classmethod
    def trained(cls, train: Path, folder: Path, seed: int) -> "Model":
        """Analyse and fit the rows of a file, export into a folder, and load what a server would load."""
        folder.mkdir()
        write_analysis([train], folder / "analysis")
        transform = Transform(folder / "analysis")
        learnable = examples(train, transform.features)
        fitted = fit(learnable, transform.vocabulary_sizes, Recipe(seed=seed), strategy(None))
        exported = Exported(transform, fitted.network)
        return cls(exported, load(save(exported, folder), DECLARATION))

    def served(self, columns: Columns, cuts: Integers) -> Side:
        """Features and scores of rows by the SavedModel, in batches that end at the cuts."""
        features, scores = [], []
        for batch in _batches(columns, cuts):
            found = self.loaded.call("transform", batch)
            features.append(np.stack([found[name].astype(np.float32) for name in _NAMES], axis=1))
            scores.append(self.loaded.score(batch))
        return Side(np.concatenate(features), np.concatenate(scores))

    def served_numbers(self, numbers: npt.NDArray[np.float32], features: Array) -> Side:
        """Scores of rows whose numbers, float32 [n, numbers], came from elsewhere; categories as in `features`."""
        features = features.copy()
        features[:, _NUMBERS] = numbers
        categories = tf.constant(features[:, _CATEGORIES].astype(np.int32))
        tokens = self.exported.tokens([padded(tf.constant(numbers)), padded(categories)], training=False)
        scores = tf.sigmoid(self.exported.head(tokens, training=False)[: len(numbers), 0])
        return Side(features, scores.numpy())


def unpadded_sides(
    model: Model, train: Path, folder: Path, columns: Columns, bulk: Integers, small: Integers
) -> tuple[Side, Side]:
    """A model's network in graphs that do not pad, asked in bulk and in small batches."""
    folder.mkdir()
    with patch("features.preprocessing.padded", _as_it_is), patch("training.export.padded", _as_it_is):
        write_analysis([train], folder / "analysis")
        exported = Exported(Transform(folder / "analysis"), _Parts(model.exported))  # type: ignore[arg-type]
        return _asked(exported, columns, bulk), _asked(exported, columns, small)


class _Parts:
    """The network of an exported model, once more."""

    def __init__(self, exported: Exported) -> None:
        self.tokens, self.head, self.layers = exported.tokens, exported.head, exported.layers

    def baseline(self, categories: int) -> Any:
        return tf.zeros([1])  # nobody asks for explanations here


def _asked(exported: Exported, columns: Columns, cuts: Integers) -> Side:
    features, scores = [], []
    for batch in _batches(columns, cuts):
        inputs = {name: tf.constant(column) for name, column in batch.items()}
        found = exported.transform.features(inputs)
        features.append(np.stack([found[name].numpy().astype(np.float32) for name in _NAMES], axis=1))
        scores.append(exported.score(inputs)["score"].numpy())
    return Side(np.concatenate(features), np.concatenate(scores))


def _as_it_is(tensor: Any) -> Any:
    return tensor


def _batches(columns: Columns, cuts: Integers) -> Iterator[Columns]:
    for begin, end in itertools.pairwise([0, *cuts.tolist(), len(columns["history"])]):
        yield {name: column[begin:end] for name, column in columns.items()}
