"""What an explanation promises, so that whoever asks for one can hold the model to it."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

COMPLETE_WITHIN: Final = 1e-5
"""Of the size of what is added up: rounding in float32 leaves a hundredth of it, as docs/training.md has it."""


def incomplete(effects: npt.NDArray[Any], logit: npt.NDArray[Any], baseline_logit: npt.NDArray[Any]) -> float:
    """How far the worst row of effects is from adding up to its logit less the baseline's; above 1 is too far.

    effects: [n, F]; logit, baseline_logit: [n]. In units of `COMPLETE_WITHIN` times one and the sizes of the row's
    effects; infinite where a number is none; 0 for no row.
    """
    if not len(effects):
        return 0.0
    exact = effects.astype(np.float64)
    missing = np.abs(exact.sum(axis=1) - (logit.astype(np.float64) - baseline_logit))
    share = missing / (COMPLETE_WITHIN * (1 + np.abs(exact).sum(axis=1)))
    return float(np.max(np.where(np.isfinite(share), share, np.inf)))
