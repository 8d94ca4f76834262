"""The network: every declared feature becomes a small vector of its own, and a compact residual network reads them all.

    numbers    float32 [n, K] ─ piecewise-linear steps ─► [n, K, S + 1] ─ a matrix a feature, relu ─► [n, K, E] ┐
    categories int32 [n, C] ─ one-hot × a table a feature ──────────────────────────────────────────► [n, C, E] ┤
    logit      float32 [n, 1] ◄─ dense ─ residual blocks ─ dense, relu ─ flat ─ tokens [n, K + C, E] ◄──────────┘

The steps let so small a network draw thresholds as a tree does (Gorishniy et al., On Embeddings for Numerical Features
in Tabular Deep Learning, 2022). That a feature has a place of its own makes reasons plain: what the way from the
baseline's vector to the row's adds is the feature's effect (`training.explain`). Look-ups are one-hot products since
those have dense gradients, which every replica can sum.

Frauds are rare, and nothing is re-weighted or re-sampled for it: the loss is the plain log-likelihood, so that a score
is a probability; the last bias starts at the log-odds of the training window, so that no step is spent on finding it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from sklearn.tree import DecisionTreeRegressor

from features.preprocessing import Z_LIMIT, padded
from plumbline.errors import Invalid

Tensor = Any
Float32 = npt.NDArray[np.float32]

QUANTILES: Final = (0.25, 0.5, 0.75, 0.95, 0.99)
TREE_LEAVES: Final = 8
TREE_LEAF_ROWS: Final = 10
"""Where steps end: at some quantiles, and where a small regression tree of this number alone would part frauds from the
rest, since what tells may lie in one row of a hundred and at no quantile. The outer ends are ±Z_LIMIT."""

PLAIN_LIMIT: Final = 1.0
"""Beyond so many standard deviations a number speaks through its steps alone: they end, and one number that is a
thousand times the usual cannot silence the others."""

WIDTH_LEAST: Final = 1e-3
"""Of a step, in standard deviations of its number."""

PRODUCT_LENGTH: Final = 64
"""Longest sum that a matrix product may make here. TensorFlow may share a longer one among its threads, at places that
depend on how many rows there are, and a row's score must not depend on that: wide layers are several products, added
one after another. For the same reason no batched product is used: without oneDNN it takes one of two kernels by the
number of rows (measured: every row of a batch of 64 differed from the same row among 512)."""


class InvalidShape(Invalid):
    """Sizes with which a network cannot keep its promises."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a network: E numbers a feature, width of hidden layers, residual blocks, share dropped in training."""

    token: int = 8
    width: int = 64
    blocks: int = 1
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.width <= PRODUCT_LENGTH:
            raise InvalidShape("network", "width", self.width, f"1 to {PRODUCT_LENGTH}, so that products stay short")


@dataclass(frozen=True, slots=True)
class HeadLayers:
    """The dense layers of a head: `first`, a product for every 64 numbers of the flat tokens, whose sum goes through a
    relu; `blocks`, each of which adds its relu to what it reads; and `logit`."""

    first: tuple[Any, ...]
    blocks: tuple[Any, ...]
    logit: Any


@dataclass(frozen=True, slots=True)
class Network:
    """Two Keras models that share nothing: `tokens` (numbers, categories) -> [n, F, E], and `head` of it -> [n, 1].

    `whole` is both, one after the other, as training runs them; `layers` are the head's.
    """

    tokens: keras.Model
    head: keras.Model
    whole: keras.Model
    layers: HeadLayers

    def baseline(self, categories: int) -> Tensor:
        """Tokens of the baseline, float32 [F, E]: the mean of every number (0), the most frequent value (1)."""
        numbers = tf.zeros([1, self.tokens.input[0].shape[1]])
        return self.tokens([numbers, tf.ones([1, categories], tf.int32)], training=False)[0]


class Whole(keras.Model):
    """Tokens and head over rows padded to a multiple of 192: what chooses an epoch is to the bit what will serve."""

    def __init__(self, tokens: keras.Model, head: keras.Model) -> None:
        super().__init__(name="plumbline", dtype="float32")  # parts of it may compute in less
        self.tokens, self.head = tokens, head

    def call(self, inputs: Sequence[Tensor], training: bool = False) -> Tensor:
        """Logits float32 [n, 1] of n rows: numbers float32 [n, K] and categories int32 [n, C]."""
        numbers, categories = inputs
        tokens = self.tokens([padded(numbers), padded(categories)], training=training)
        return self.head(tokens, training=training)[: tf.shape(numbers)[0]]


@keras.saving.register_keras_serializable("plumbline")
class Steps(keras.layers.Layer):
    """How far each number has come through each interval between edges, clipped to [0, 1], and the number itself,
    clipped to ±PLAIN_LIMIT.

    edges: float32 [K, S + 1], ascending. [n, K] -> [n, K, S + 1].
    """

    def __init__(self, edges: Any, **options: Any) -> None:
        super().__init__(**options)
        self.edges = np.asarray(edges, np.float32)

    def call(self, numbers: Tensor) -> Tensor:
        """Steps of n rows."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        # An interval almost without width (a number that takes few values) would turn a last bit into a leap: it is
        # made one that begins behind the last value.
        inside = high - low > WIDTH_LEAST
        start, width = np.where(inside, low, 2 * Z_LIMIT), np.where(inside, high - low, 1)
        column = tf.expand_dims(numbers, 2)  # an index with None is no LiteRT operation
        return tf.concat(
            [
                tf.clip_by_value((column - start) * (1 / width).astype(np.float32), 0.0, 1.0),
                tf.clip_by_value(column, -PLAIN_LIMIT, PLAIN_LIMIT),
            ],
            axis=2,
        )

    def get_config(self) -> dict[str, Any]:
        """The edges, as lists."""
        return {**super().get_config(), "edges": self.edges.tolist()}


@keras.saving.register_keras_serializable("plumbline")
class NumberTokens(keras.layers.Layer):
    """A dense layer of its own for each number: [n, K, S] -> [n, K, E], relu.

    Neighbours share a product whose matrix is zero between them, as many as keep it within PRODUCT_LENGTH.
    """

    def __init__(self, width: int, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.seed = width, seed

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Make the weights for K numbers of S steps."""
        _, self.count, self.length = shape
        self.together = max(1, PRODUCT_LENGTH // self.length)
        self.groups = -(-self.count // self.together)
        # Small at first, as if all numbers shared one layer: tokens that start near nothing overfit less.
        limit = math.sqrt(6 / (self.count * (self.length + self.width)))
        self.kernel = self.add_weight(
            shape=(self.groups, self.together, self.length, self.width),
            initializer=keras.initializers.RandomUniform(-limit, limit, self.seed),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(self.count, self.width), initializer="zeros", name="bias")

    def call(self, steps: Tensor) -> Tensor:
        """Tokens of n rows."""
        rows = tf.shape(steps)[0]
        steps = tf.pad(steps, [[0, 0], [0, self.groups * self.together - self.count], [0, 0]])
        inner, outer = self.together * self.length, self.together * self.width
        apart = tf.cast(np.eye(self.together, dtype=np.float32)[None, :, None, :, None], steps.dtype)
        matrices = tf.reshape(tf.cast(tf.expand_dims(self.kernel, 3), steps.dtype) * apart, [self.groups, inner, outer])
        flat = tf.reshape(steps, [rows, self.groups * inner])
        products = [
            tf.matmul(flat[:, group * inner : (group + 1) * inner], matrices[group]) for group in range(self.groups)
        ]
        tokens = tf.reshape(tf.concat(products, axis=1), [rows, self.groups * self.together, self.width])
        return tf.nn.relu(tokens[:, : self.count] + tf.cast(self.bias, steps.dtype))

    def get_config(self) -> dict[str, Any]:
        """Width and seed."""
        return {**super().get_config(), "width": self.width, "seed": self.seed}


def edges_of(numbers: Float32, frauds: Float32) -> Float32:
    """Edges of the steps of each column, ascending, float32 [K, len(QUANTILES) + TREE_LEAVES + 1].

    numbers: of training rows, [n, K]; frauds: 1 or 0, [n]. Edges may fall together.
    """
    edges = np.full((numbers.shape[1], len(QUANTILES) + TREE_LEAVES + 1), Z_LIMIT, np.float32)
    edges[:, 0] = -Z_LIMIT
    for index, column in enumerate(numbers.T):
        tree = DecisionTreeRegressor(max_leaf_nodes=TREE_LEAVES, min_samples_leaf=TREE_LEAF_ROWS, random_state=0)
        grown = tree.fit(column[:, None], frauds).tree_
        parts = grown.threshold[grown.feature >= 0]
        inner = np.unique(np.concatenate([np.quantile(column, QUANTILES), parts]).astype(np.float32))
        edges[index, 1 : 1 + len(inner)] = inner
    return edges


def build(edges: Float32, vocabulary_sizes: Sequence[int], fraud_rate: float, shape: Shape, seed: int) -> Network:
    """A network with fresh weights.

    edges: see edges_of; vocabulary_sizes: values of each category, the unknown one not counted; fraud_rate: share of
    frauds in training, in (0, 1); seed: of the weights and of dropout.
    """
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def dense(width: int, **options: Any) -> Any:
        return keras.layers.Dense(width, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)), **options)

    numbers = keras.Input([edges.shape[0]], dtype="float32", name="numbers")
    categories = keras.Input([len(vocabulary_sizes)], dtype="int32", name="categories")
    embedded = NumberTokens(shape.token, next(seeds), name="number_tokens")(Steps(edges, dtype="float32")(numbers))
    parts = [embedded]
    for index, size in enumerate(vocabulary_sizes):
        one_hot = keras.ops.one_hot(categories[:, index], size + 1, dtype="float32")
        parts.append(keras.layers.Reshape([1, shape.token])(dense(shape.token, use_bias=False)(one_hot)))
    tokens = keras.Model([numbers, categories], keras.layers.Concatenate(axis=1, name="tokens")(parts), name="tokens")

    read = keras.Input(tokens.output.shape[1:], name="tokens")
    flat = keras.layers.Flatten()(read)
    limit = math.sqrt(6 / (flat.shape[1] + shape.width))  # Glorot's, of the whole layer
    starts = range(0, flat.shape[1], PRODUCT_LENGTH)
    first = [
        keras.layers.Dense(
            shape.width,
            use_bias=start == 0,
            kernel_initializer=keras.initializers.RandomUniform(-limit, limit, next(seeds)),
        )
        for start in starts
    ]
    parts = [each(flat[:, start : start + PRODUCT_LENGTH]) for each, start in zip(first, starts, strict=True)]
    hidden = keras.layers.Activation("relu")(keras.layers.Add()(parts))
    hidden = keras.layers.Dropout(shape.dropout, seed=next(seeds))(hidden)
    blocks = []
    for _ in range(shape.blocks):
        dropout = keras.layers.Dropout(shape.dropout, seed=next(seeds))
        blocks.append(dense(shape.width, activation="relu"))
        hidden = keras.layers.Add()([hidden, dropout(blocks[-1](hidden))])
    odds = math.log(fraud_rate / (1 - fraud_rate))
    logit = dense(1, bias_initializer=keras.initializers.Constant(odds), dtype="float32", name="logit")
    head = keras.Model(read, logit(hidden), name="head")
    return Network(tokens, head, Whole(tokens, head), HeadLayers(tuple(first), tuple(blocks), logit))
