"""Why a score is what it is: integrated gradients from a stated baseline, which add up to the score's log-odds.

A row's tokens are reached on a straight path from those of the baseline: the mean of every number and the most frequent
value of every category, in the training window. What a feature adds on the way, summed over its token, is its effect,
and all effects together are the row's logit less the baseline's (Sundararajan, Taly, Yan, Axiomatic Attribution for
Deep Networks, 2017).

Gradients at some points of a path miss the places where a relu bends. Here each unit's mean slope over a segment is
taken instead, the share of the segment on which it is above 0. That is exact in the first layer, whose sums move in a
straight line, and the chain of slopes adds up whatever the number of segments (Shrikumar et al., Learning Important
Features Through Propagating Activation Differences, 2017, of which one segment is the rescale rule). With `SEGMENTS`
the effects are those of the exact integral but for some thousandths.

    tokens [n, F, E] ─ first layer, once ─► path of first sums [(S + 1) n, W] ─ blocks ─► mean slopes [n, W]
    effects [n, F]   ◄─ sum over E ─ × (tokens - baseline's) ◄─ first layer, transposed ─┘

Only the first layer is as wide as the tokens, and it is passed once each way, so this costs little more than a score.
Every product sums over 64 terms at most, as everywhere in `training.model`.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, Final

import tensorflow as tf

from features.grammar import Declaration
from features.preprocessing import ROWS_MULTIPLE
from training.model import PRODUCT_LENGTH, HeadLayers

Tensor = Any

SEGMENTS: Final = 8
"""Of a path; a power of two, so that a share of the path is an exact float."""

NEXT_TO_NOTHING: Final = 1e-30
"""A unit that moves by less over a segment adds nothing, whatever its slope."""


def effects(layers: HeadLayers, tokens: Tensor, baseline: Tensor) -> Tensor:
    """What each feature adds to the logit, float32 [n, F]; n is a multiple of 192.

    layers: of the network's head; tokens: float32 [n, F, E]; baseline: the tokens to compare with, float32 [F, E].
    """
    moved = tokens - baseline
    slopes = _mean_slopes(layers, _first_sums(layers, _tiled(baseline)), _first_sums(layers, tokens))
    back = [tf.matmul(slopes, each.kernel, transpose_b=True) for each in layers.first]
    added = moved * tf.reshape(tf.concat(back, axis=1), tf.shape(moved))
    return _sum([added[:, :, at] for at in range(moved.shape[2])])


def places(declaration: Declaration) -> list[int]:
    """Where each feature's token stands, in the declaration's order: numbers come first, then categories."""
    tokens = [*declaration.numbers, *declaration.categories]
    return [tokens.index(each) for each in declaration.features]


def baseline_logit(head: Any, baseline: Tensor) -> Tensor:
    """The logit of the baseline, a float32 scalar."""
    return head(_tiled(baseline), training=False)[0, 0]


def _tiled(baseline: Tensor) -> Tensor:
    """192 rows of it, so that it goes through the same kernels as every other row."""
    return tf.tile(baseline[None], [ROWS_MULTIPLE, 1, 1])


def _first_sums(layers: HeadLayers, tokens: Tensor) -> Tensor:
    """What the first layer's relu is given, float32 [n, W]; summed as the head does it."""
    flat = tf.reshape(tokens, [-1, tokens.shape[1] * tokens.shape[2]])
    starts = range(0, flat.shape[1], PRODUCT_LENGTH)
    parts = [each(flat[:, at : at + PRODUCT_LENGTH]) for each, at in zip(layers.first, starts, strict=True)]
    return _sum(parts)


def _mean_slopes(layers: HeadLayers, begin: Tensor, end: Tensor) -> Tensor:
    """Of the logit by each of the first layer's sums, over the path to n rows: float32 [n, W].

    begin: the baseline's sums, of which one row counts; end: the rows', [n, W].
    """
    rows = tf.shape(end)[0]
    begin = begin[:1]
    path = tf.concat([begin + (end - begin) * (at / SEGMENTS) for at in range(SEGMENTS + 1)], axis=0)
    shares, hidden = [_shares(path, rows)], tf.nn.relu(path)
    for each in layers.blocks:
        sums = tf.matmul(hidden, each.kernel) + each.bias
        shares.append(_shares(sums, rows))
        hidden += tf.nn.relu(sums)
    slopes = tf.transpose(layers.logit.kernel)
    for each, share in reversed(list(zip(layers.blocks, shares[1:], strict=True))):
        slopes += tf.matmul(slopes * share, each.kernel, transpose_b=True)
    slopes *= shares[0]
    return _sum([slopes[at * rows : (at + 1) * rows] for at in range(SEGMENTS)]) * (1 / SEGMENTS)


def _shares(sums: Tensor, rows: Tensor) -> Tensor:
    """On which share of each segment a relu's input is above 0, [S n, W]; it moves in a straight line from end to end.

    sums: at the path's points, [(S + 1) n, W].
    """
    one, other = sums[:-rows], sums[rows:]
    moved = tf.maximum(tf.abs(one) + tf.abs(other), NEXT_TO_NOTHING)
    return (tf.nn.relu(one) + tf.nn.relu(other)) / moved


def _sum(parts: Sequence[Tensor]) -> Tensor:
    """In the order given: a reduction might choose another one by the number of rows."""
    return functools.reduce(operator.add, parts)
