"""A model version in this process, asked as a model server would be: for benchmarks and tests that need no server."""

from typing import Any

import numpy as np
import numpy.typing as npt

from features.grammar import encode
from serving.client import About, Scored
from serving.columns import NAMES, TEXTS, ModelColumns
from training.evaluate import Loaded


class InProcess:
    """The scorer's client (`streaming.model.Client`) over one loaded version; it answers whichever version is named."""

    deadline_ms = 1000

    def __init__(self, loaded: Loaded, version: int = 1) -> None:
        self._loaded = loaded
        self._version = version

    def score(self, columns: ModelColumns, version: int | None = None, *, tries: int = 1) -> Scored:
        """Scores of n rows."""
        return Scored(self._loaded.score(_inputs(columns)), self._version)

    def explain(self, columns: ModelColumns, version: int | None = None, *, tries: int = 1) -> npt.NDArray[np.float32]:
        """Effects [n, features]."""
        effects: npt.NDArray[np.float32] = self._loaded.call("explain", _inputs(columns))["effects"]
        return effects

    def about(self, version: int | None = None, *, tries: int = 1) -> About:
        """Declaration and version."""
        declaration = self._loaded.declaration
        return About(declaration.fingerprint, encode(declaration), self._version)

    def states(self) -> dict[int, str]:
        """The one version there is."""
        return {self._version: "AVAILABLE"}


def _inputs(columns: ModelColumns) -> dict[str, Any]:
    return {name: np.asarray(getattr(columns, name), object if name in TEXTS else None) for name in NAMES}
