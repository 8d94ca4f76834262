"""The model as the scorer sees it: scores, or None and a reason to review. It never raises for a model's fault.

A version is asked for its fingerprint before its first score is believed: one trained under another declaration would
read the history wrongly, so it counts as unavailable. After a failure the model is left alone for a moment, so that a
server that hangs cannot slow every batch down to its deadline.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from features.declaration import FEATURE_NAMES, fingerprint
from plumbline.errors import FingerprintMismatch, ModelUnavailable
from serving.client import About, Scored
from serving.columns import ModelColumns

log = structlog.get_logger()

PAUSE_FIRST_US: Final = 100_000
PAUSE_MOST_US: Final = 2_000_000


class Client(Protocol):
    """What `serving.client.ModelClient` offers."""

    def score(self, columns: ModelColumns, version: int | None = None) -> Scored:
        """Scores of n rows; raises ModelUnavailable."""

    def explain(self, columns: ModelColumns, version: int | None = None) -> npt.NDArray[np.float32]:
        """Effects [n, features]; raises ModelUnavailable."""

    def about(self, version: int | None = None) -> About:
        """Fingerprint and version; raises ModelUnavailable."""


class Model:
    """A client, the versions found fit, and how long to leave the server alone after a failure.

    now_us: our clock, microseconds since 1970 UTC.
    """

    def __init__(self, client: Client, now_us: Callable[[], int]) -> None:
        self._client = client
        self._now_us = now_us
        self._fit: set[int] = set()
        self._pause_us = 0
        self._resting_until_us = 0

    def score(self, columns: ModelColumns) -> Scored | None:
        """Scores of n rows, or None when no fit model answered in time."""
        if self._now_us() < self._resting_until_us:
            return None
        try:
            scored = self._client.score(columns)
            if scored.model_version not in self._fit:
                self._check(scored.model_version)
        except (ModelUnavailable, FingerprintMismatch) as error:
            self._rest(str(error))
            return None
        if self._pause_us:
            log.info("model answers again", model_version=scored.model_version)
        self._pause_us = 0
        return scored

    def explain(self, columns: ModelColumns, version: int) -> npt.NDArray[np.float32] | None:
        """Effects [n, features] by the version that scored, or None when it does not answer in time."""
        try:
            effects = self._client.explain(columns, version)
        except ModelUnavailable as error:
            log.warning("no explanation", error=str(error))
            return None
        if effects.shape[1] != len(FEATURE_NAMES):
            log.error("explanation of another shape", features=effects.shape[1], expected=len(FEATURE_NAMES))
            return None
        return effects

    def _check(self, version: int) -> None:
        about = self._client.about(version)
        if about.fingerprint != fingerprint():
            raise FingerprintMismatch(
                f"model version {version}", about.fingerprint, fingerprint(),
                "serve a version trained by this release; until then every transaction goes to review",
            )  # fmt: skip
        self._fit.add(version)

    def _rest(self, reason: str) -> None:
        self._pause_us = min(max(self._pause_us * 2, PAUSE_FIRST_US), PAUSE_MOST_US)
        self._resting_until_us = self._now_us() + self._pause_us
        log.warning("model unavailable", error=reason, pause_ms=self._pause_us // 1000)
