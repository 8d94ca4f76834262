"""In which rows a feature had nothing to go by: the declaration says it, so training and the journal count it alike.

A feature is missing in a row when an input says "never" (a measure of time since something, -1) or "not known" (a
place), when what it is a share or a ratio of is 0, or when a category's value is outside the vocabulary. What the graph
gives in such rows is a stand-in (a year, 0, index 0), no measurement.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.grammar import ABSENT, Feature

Column = Callable[[str], npt.NDArray[np.int64]]
"""A measure or a raw integer by its name, int64 [n]."""

PLACES: Final = ("latitude_e6", "longitude_e6")
WHOLE: Final = {"log_ratio": 1, "log_ratio_to_mean": 2, "share": 1, "z_score": 3}
"""Which input of a transform is what it compares with: 0 there leaves nothing to compare."""


def missing(feature: Feature, values: npt.NDArray[Any], column: Column) -> npt.NDArray[np.bool_]:
    """Whether each row had nothing to go by, bool [n].

    values: the feature's own, [n], float32 or (categories) an index; column: gives the inputs of the same rows.
    """
    if feature.is_category:
        return np.asarray(values == 0)
    found = np.isnan(values)
    if feature.transform == "known":  # it is about this very thing, and always has an answer
        return np.asarray(found)
    for name in feature.inputs:
        found = found | (column(name) == ABSENT if name.endswith(PLACES) else column(name) < 0)
    if feature.transform == "share_of_difference":
        _, longer, shorter = feature.inputs
        found = found | (column(longer) <= column(shorter))
    elif feature.transform in WHOLE:
        found = found | (column(feature.inputs[WHOLE[feature.transform]]) <= 0)
    return np.asarray(found)
