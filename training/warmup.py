"""Gives a version the requests that a model server answers before it comes into service, made of real rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.grammar import ABSENT, RAW_INTEGERS, RAW_STRINGS, Declaration
from serving import warmup

Columns = Mapping[str, npt.NDArray[Any]]
"""Raw inputs by name, [n] or [n, H]."""

ROWS_MAX: Final = 512
SIZES: Final = {"serving_default": (1, 64, ROWS_MAX), "transform": (1, 64), "explain": (1, 64)}
"""Rows of a signature's requests: one decision, what a graph pads to, and the scorer's largest micro-batch."""


def write_warm_up(folder: Path, model_name: str, declaration: Declaration, rows: Columns | None = None) -> Path:
    """Write a version's warm-up requests: every signature of rows in several sizes, and `about`; returns the file.

    rows: raw inputs of one row or more, repeated as often as is needed; zeros, absent places and empty texts if None.
    """
    given = nothing(declaration) if rows is None else rows
    requests: list[tuple[str, dict[str, Any]]] = [
        (name, {each: np.take(column, range(size), axis=0, mode="wrap") for each, column in given.items()})
        for name, sizes in SIZES.items()
        for size in sizes
    ]
    return warmup.write(folder, model_name, [*requests, ("about", {"ping": np.zeros(1, np.int64)})])


def nothing(declaration: Declaration) -> Columns:
    """The raw inputs of one row in which nothing is known."""
    numbers = {name: np.full(1, ABSENT if name.endswith("_e6") else 0, np.int64) for name in RAW_INTEGERS}
    texts = {name: np.full(1, b"", object) for name in RAW_STRINGS}
    return {"history": np.zeros((1, len(declaration.history)), np.int64), **numbers, **texts}
