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

from features.grammar import Declaration, decode
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
        """Declaration and version; raises ModelUnavailable."""


class Model:
    """A client, the versions found fit, and how long to leave each alone after a failure.

    now_us: our clock, microseconds since 1970 UTC. A version of None is the newest that is served.
    """

    def __init__(self, client: Client, now_us: Callable[[], int]) -> None:
        self._client = client
        self._now_us = now_us
        self._fit: set[tuple[int, str]] = set()
        self._pauses_us: dict[int | None, int] = {}
        self._resting_until_us: dict[int | None, int] = {}

    def score(self, columns: ModelColumns, fingerprint: str, version: int | None = None) -> Scored | None:
        """Scores of n rows, or None when no version trained under this declaration answered in time."""
        if self._now_us() < self._resting_until_us.get(version, 0):
            return None
        try:
            scored = self._client.score(columns, version)
            if (scored.model_version, fingerprint) not in self._fit:
                self._check(scored.model_version, fingerprint)
        except (ModelUnavailable, FingerprintMismatch) as error:
            self._rest(version, str(error))
            return None
        if self._pauses_us.pop(version, 0):
            log.info("model answers again", model_version=scored.model_version)
        return scored

    def explain(self, columns: ModelColumns, version: int, features: int) -> npt.NDArray[np.float32] | None:
        """Effects [n, features] by the version that scored, or None when it does not answer in time."""
        try:
            effects = self._client.explain(columns, version)
        except ModelUnavailable as error:
            log.warning("no explanation", error=str(error))
            return None
        if effects.shape[1] != features:
            log.error("explanation of another shape", features=effects.shape[1], expected=features)
            return None
        return effects

    def declaration(self, version: int) -> Declaration:
        """What a version was trained under. Raises ModelUnavailable, and InvalidDeclaration when it says nonsense."""
        return decode(self._client.about(version).declaration)

    def _check(self, version: int, fingerprint: str) -> None:
        about = self._client.about(version)
        if about.fingerprint != fingerprint:
            raise FingerprintMismatch(
                f"model version {version}", about.fingerprint, fingerprint,
                "prepare and assign it, or serve a version of the declaration in force; until then every transaction "
                "goes to review",
            )  # fmt: skip
        self._fit.add((version, fingerprint))

    def _rest(self, version: int | None, reason: str) -> None:
        pause_us = min(max(self._pauses_us.get(version, 0) * 2, PAUSE_FIRST_US), PAUSE_MOST_US)
        self._pauses_us[version] = pause_us
        self._resting_until_us[version] = self._now_us() + pause_us
        log.warning("model unavailable", error=reason, version=version, pause_ms=pause_us // 1000)
