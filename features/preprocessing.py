"""Layer 3: `preprocessing_fn` turns a transaction and its history into every number that the model sees.

It is generated from a declaration's features and runs in one place only, the TensorFlow graph: TFT analyses the
training window with it, and the exported model carries it. Rows are padded to a multiple of 192 before the first float
is computed and cut back after the last, so that a row's numbers are the same to the bit in a batch of any size and at
any place in it.

    integers int64 [n]: padded -> transforms -> float32 [n + p, K] -> z-scores -> float32 [n]   preprocessing_fn
    strings [n]: looked up in the vocabulary that TFT found, no float     -> int64 [n]          index
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import tensorflow as tf
import tensorflow_transform as tft

from features.grammar import RAW_INTEGERS, RAW_STRINGS, Declaration
from features.transforms import TRANSFORMS

Tensor = Any

ROWS_MULTIPLE: Final = 192
"""Of whole panels of rows, whatever the processor: a matrix product takes 12 rows at a time with SSE, 24 with AVX2, 48
with AVX-512, and those left over by another kernel, which adds up in another order."""

Z_LIMIT: Final = 100.0
"""Scaled numbers are cut off here, so that all are finite and of a size. Not lower: of a count that is 0 in 99 of 100
rows, all that tells lies ten deviations away. What reads them keeps the far ones from silencing the others itself."""

DEVIATION_LEAST: Final = 1e-6
"""A column that varies by less did not vary: what is left is the rounding of its mean."""


def raw_spec(declaration: Declaration) -> dict[str, Any]:
    """The raw columns of one row, in the order in which every signature names them."""
    return {
        "history": tf.io.FixedLenFeature([len(declaration.history)], tf.int64),
        **{name: tf.io.FixedLenFeature([], tf.int64) for name in RAW_INTEGERS},
        **{name: tf.io.FixedLenFeature([], tf.string) for name in RAW_STRINGS},
    }


def signature(declaration: Declaration) -> dict[str, Any]:
    """The named tensors that every signature takes: `history` int64 [n, H], the others int64 or string [n]."""
    spec_of = raw_spec(declaration)
    return {name: tf.TensorSpec([None, *spec.shape], spec.dtype, name) for name, spec in spec_of.items()}


def padded(tensor: Tensor) -> Tensor:
    """Rows of zeros are added, up to the next multiple of 192; any tensor of numbers, [n, ...]."""
    missing = tf.math.floormod(-tf.shape(tensor)[0], ROWS_MULTIPLE)
    return tf.pad(tensor, [[0, missing], *([[0, 0]] * (len(tensor.shape) - 1))])


def preprocessing_fn(declaration: Declaration, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every declared number by name, float32 [n] within [-8, 8]; TFT also finds the vocabulary of every category.

    inputs: the columns of `raw_spec`. Mean, variance and vocabularies come from the training window.
    """
    rows = tf.shape(inputs["history"])[0]
    history = padded(inputs["history"])
    columns = {name: history[:, index] for index, name in enumerate(declaration.history_names)}
    columns |= {name: padded(inputs[name]) for name in RAW_INTEGERS}
    plain = tf.stack(
        [TRANSFORMS[each.transform](*(columns[name] for name in each.inputs)) for each in declaration.numbers], axis=1
    )
    scaled = _scaled(plain, rows)[:rows]
    features = {each.name: scaled[:, index] for index, each in enumerate(declaration.numbers)}
    for each in declaration.categories:
        (column,) = each.inputs
        tft.vocabulary(inputs[column], top_k=each.vocabulary_max, vocab_filename=each.name)
    return features


def vocabulary_table(values: Sequence[bytes]) -> Any:
    """A look-up table of a vocabulary, the most frequent value first. Whoever exports a graph must keep it.

    Its values are constants of the graph: a table that is read from a file has no LiteRT counterpart, nor has one with
    buckets for unknown values.
    """
    keys, numbers = tf.constant(list(values), tf.string), tf.range(1, len(values) + 1, dtype=tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, numbers), default_value=0)


def index(strings: Tensor, table: Any) -> Tensor:
    """1 for the most frequent value, 2 for the next, 0 for values outside the vocabulary; int64 [n] from string [n]."""
    return table.lookup(strings)


def _scaled(plain: Tensor, rows: Tensor) -> Tensor:
    """z-scores by column, float32 [n + p, K] of as many; 0 in a column that never varied. Padding is not counted."""
    counted = tf.cast(plain[:rows], tf.float64)  # a mean of float32 is off by 1e-5 after 100,000 equal numbers
    mean = tf.cast(tft.mean(counted, reduce_instance_dims=False), tf.float32)
    deviation = tf.cast(tf.sqrt(tft.var(counted, reduce_instance_dims=False)), tf.float32)
    varies = deviation > DEVIATION_LEAST
    scaled = (plain - mean) / tf.where(varies, deviation, 1.0) * tf.cast(varies, tf.float32)
    return tf.clip_by_value(scaled, -Z_LIMIT, Z_LIMIT)
