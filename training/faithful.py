"""Whether reasons are true of the model: does its score fall when what a reason names is as usual instead?

A feature is taken away by giving it the token of the baseline, which is the mean of its number or its most frequent
value. Nothing here knows how effects were computed, so that ways of computing them can be held against one another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy.stats import binomtest

from features.analysis import Columns
from training.explain import places
from training.export import Exported

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """Of n alerts, how often taking the first reason's feature away lowered the logit more than taking another one.

    The other is drawn by lot for each alert, and ties are left out. fall, other_fall: by how much on the mean, in
    log-odds; probability: of winning so often or more if the first reason were drawn by lot too (a sign test).
    """

    compared: int
    won: int
    fall: float
    other_fall: float
    probability: float


def tokens_of(exported: Exported, columns: Columns) -> Array:
    """Tokens float32 [n, F, E] of raw columns, as the network orders them."""
    tokens = exported.tokens_of({name: tf.constant(column) for name, column in columns.items()})
    return np.asarray(tokens[: len(columns["history"])])


def first_reasons(exported: Exported, columns: Columns, effects: Array, seed: int) -> Compared:
    """The paired comparison on n alerts; effects: float32 [n, F], in the declaration's order."""
    count = len(effects)
    first = np.argmax(effects, axis=1)
    others = (first + np.random.default_rng(seed).integers(1, effects.shape[1], count)) % effects.shape[1]
    fall = falls(exported, columns)
    ours, theirs = fall(np.eye(effects.shape[1], dtype=bool)[first]), fall(np.eye(effects.shape[1], dtype=bool)[others])
    differ = ours != theirs
    won, compared = int(np.count_nonzero(ours > theirs)), int(np.count_nonzero(differ))
    probability = float(binomtest(won, compared, alternative="greater").pvalue) if compared else 1.0
    return Compared(compared, won, float(ours.mean()), float(theirs.mean()), probability)


def falls(exported: Exported, columns: Columns) -> Callable[[Array], Array]:
    """By how much the logits of n rows fall, float64 [n], as a function of what is taken away.

    That is bool [n, F], in the declaration's order.
    """
    tokens, baseline = tokens_of(exported, columns), exported.baseline.numpy()
    order = np.argsort(places(exported.transform.declaration))
    whole = _logits(exported, tokens)

    def fall(taken: Array) -> Array:
        return whole - _logits(exported, np.where(taken[:, order, None], baseline, tokens))

    return fall


def _logits(exported: Exported, tokens: Array) -> Array:
    return np.asarray(exported.calibrated(exported.head(tokens, training=False)[:, 0]), dtype=np.float64)
