"""A straight line on the log-odds turns a network's scores into probabilities: two numbers, inside the exported graph.

The network's loss is the log-likelihood, so its scores are nearly probabilities; what moves them off is training on
weighted or sampled rows, stopping early, and a fraud rate that has changed since. The line is fitted on rows that did
not train. It is increasing, so that no ranking changes by it, and it is a line, so that effects stay effects: each is
multiplied by the scale, and they still add up to the logit less the baseline's. Steps of an isotonic fit would do
neither.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import Invalid

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

SCALE_LEAST: Final = 0.2
SCALE_MOST: Final = 5.0
"""A line steeper or flatter than these says that the rows are no sample of what trained; the fit stays inside."""
BIAS_MOST: Final = 10.0
PRIOR: Final = 1.0
"""Strength of the pull towards the identity, in squared distance: next to nothing beside 200 frauds, and it keeps a fit
of rows that are told apart without a fault from running away."""
STEPS: Final = 100
NEAR: Final = 1e-12
SCORE_EDGE: Final = 1e-9
"""Scores of exactly 0 and 1 have no log-odds: they count as this far inside."""


class InvalidCalibration(Invalid):
    """A line that would turn the ranking round, or is no number."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibrated logit is `scale * logit + bias`; scale is above 0. The default changes nothing."""

    scale: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InvalidCalibration("calibration", "scale", self.scale, "a finite number above 0")
        if not np.isfinite(self.bias):
            raise InvalidCalibration("calibration", "bias", self.bias, "a finite number")

    def apply(self, logits: Array) -> Float64:
        """Calibrated probabilities of logits [n], in float64: for choosing and measuring; the graph has its own."""
        return 1 / (1 + np.exp(-(self.scale * logits.astype(np.float64) + self.bias)))


UNCALIBRATED: Final = Calibration()


def logits_of(scores: Array) -> Float64:
    """Log-odds of scores [n] in [0, 1]."""
    inside = np.clip(scores.astype(np.float64), SCORE_EDGE, 1 - SCORE_EDGE)
    return np.log(inside) - np.log1p(-inside)


def fit_calibration(logits: Array, frauds: Array, weights: Float64 | None = None) -> Calibration:
    """The line under which held-out rows are likeliest (Platt scaling), with a weak pull towards changing nothing.

    logits: float [n]; frauds: bool [n]; weights: float64 [n], how many rows each stands for. Without a fraud or
    without a genuine row nothing is known, and nothing is changed. Newton's method, halved where it would overshoot.
    """
    truth = frauds.astype(np.float64)
    counts = np.ones(len(truth)) if weights is None else weights
    if not 0 < np.sum(counts * truth) < np.sum(counts):
        return Calibration()
    given = logits.astype(np.float64)
    least, most = np.array([SCALE_LEAST, -BIAS_MOST]), np.array([SCALE_MOST, BIAS_MOST])
    line = np.array([1.0, 0.0])
    loss = _loss(line, given, truth, counts)
    for _ in range(STEPS):
        step = _newton(line, given, truth, counts)
        share = 1.0
        while (
            better := _loss(np.clip(line - share * step, least, most), given, truth, counts)
        ) > loss and share > NEAR:
            share /= 2
        moved = np.clip(line - share * step, least, most)
        gained, line, loss = loss - better, moved if better <= loss else line, min(better, loss)
        if gained <= NEAR * (1 + abs(loss)):
            break
    return Calibration(float(line[0]), float(line[1]))


def _loss(line: Float64, logits: Float64, truth: Float64, counts: Float64) -> float:
    """Negative log-likelihood, and the pull."""
    moved = line[0] * logits + line[1]
    likelihood = np.sum(counts * (np.logaddexp(0.0, moved) - truth * moved))
    return float(likelihood + PRIOR / 2 * ((line[0] - 1) ** 2 + line[1] ** 2))


def _newton(line: Float64, logits: Float64, truth: Float64, counts: Float64) -> Float64:
    """Newton's step, to be taken away from the line."""
    scores = 1 / (1 + np.exp(-np.clip(line[0] * logits + line[1], -500, 500)))
    off, spread = counts * (scores - truth), counts * scores * (1 - scores)
    slope = np.array([np.sum(off * logits) + PRIOR * (line[0] - 1), np.sum(off) + PRIOR * line[1]])
    mixed = np.sum(spread * logits)
    bend = np.array([[np.sum(spread * logits**2) + PRIOR, mixed], [mixed, np.sum(spread) + PRIOR]])
    found: Float64 = np.linalg.solve(bend, slope)
    return found
