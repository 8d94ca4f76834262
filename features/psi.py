"""The population stability index: how far two counts of the same bins lie apart.

The index (PSI) of shares p then and q now is the sum over all bins of (q - p) × ln(q / p): 0 for equal shares, always
positive otherwise, and the same in both directions. Half a row is added to every bin of either side first, so that an
empty bin has a logarithm. Chance alone gives about (bins - 1) × (1 / rows then + 1 / rows now).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

SMOOTHING_ROWS: Final = 0.5


def shares(counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Shares of the bins with half a row added to each: they sum to 1 and none of them is 0."""
    smoothed: npt.NDArray[np.float64] = np.asarray(counts, np.float64) + SMOOTHING_ROWS
    return np.asarray(smoothed / smoothed.sum())


def psi(then: Sequence[int], now: Sequence[int]) -> float:
    """The population stability index of two counts of the same bins, 0 or more."""
    p, q = shares(then), shares(now)
    return float(np.sum((q - p) * np.log(q / p)))
