"""The model as the scorer sees it: scores, or None and a reason to review. It never raises for a model's fault.

A version is asked for its fingerprint before its first score is believed: one trained under another declaration would
read the history wrongly, so it is not asked for scores. After a failure the model is left alone for a moment, so that a
server that hangs cannot slow every batch down to its deadline.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from features.grammar import Declaration, decode
from plumbline.errors import FingerprintMismatch, ModelRefused, ModelUnavailable
from serving.client import About, Scored
from serving.columns import ModelColumns

log = structlog.get_logger()

LOOK_US: Final = 1_000_000
"""How long the newest fit version counts as such before the server is asked again."""

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

    def states(self) -> dict[int, str]:
        """State of every version, such as `AVAILABLE`; raises ModelUnavailable."""


class Model:
    """A client, what the served versions were trained under, and how long to leave each alone after a failure.

    now_us: our clock, microseconds since 1970 UTC. A version of None is the newest that is served and was trained under
    the declaration asked for: one of another declaration can wait beside it until it is assigned.
    """

    def __init__(self, client: Client, now_us: Callable[[], int]) -> None:
        self._client = client
        self._now_us = now_us
        self._fingerprints: dict[int, str] = {}
        self._newest: dict[str, int] = {}
        self._look_again_us = 0
        self._pauses_us: dict[int | None, int] = {}
        self._resting_until_us: dict[int | None, int] = {}

    def score(self, columns: ModelColumns, fingerprint: str, version: int | None = None) -> Scored | None:
        """Scores of n rows, or None when no version trained under this declaration answered in time."""
        if self._now_us() < self._resting_until_us.get(version, 0):
            return None
        try:
            scored = self._scored(columns, fingerprint, version)
        except (ModelUnavailable, FingerprintMismatch) as error:
            self._rest(version, str(error))
            return None
        if self._pauses_us.pop(version, 0):
            log.info("model answers again", model_version=scored.model_version)
        return scored

    def _scored(self, columns: ModelColumns, fingerprint: str, version: int | None) -> Scored:
        if version is not None:
            self._require(version, fingerprint)
            return self._client.score(columns, version)
        if self._now_us() >= self._look_again_us or fingerprint not in self._newest:
            self._look(fingerprint)
        try:
            return self._client.score(columns, self._newest[fingerprint])
        except ModelRefused:  # it may have been let go for a newer one since the look, or be another one by now
            self._fingerprints.clear()
            self._look(fingerprint)
            return self._client.score(columns, self._newest[fingerprint])

    def _look(self, fingerprint: str) -> None:
        """Note the newest version served of a declaration. Raises FingerprintMismatch when there are only others."""
        self._newest.pop(fingerprint, None)
        served = sorted((each for each, state in self._client.states().items() if state == "AVAILABLE"), reverse=True)
        if not served:
            raise ModelUnavailable("the model server has no version to serve yet: look at its log")
        fit = next((each for each in served if self._fingerprint(each) == fingerprint), None)
        if fit is None:
            self._require(served[0], fingerprint)
            raise AssertionError("the newest version is of another declaration")
        self._newest[fingerprint] = fit
        self._look_again_us = self._now_us() + LOOK_US

    def _fingerprint(self, version: int) -> str:
        if version not in self._fingerprints:
            self._fingerprints[version] = self._client.about(version).fingerprint
        return self._fingerprints[version]

    def _require(self, version: int, fingerprint: str) -> None:
        if (found := self._fingerprint(version)) != fingerprint:
            raise FingerprintMismatch(
                f"model version {version}", found, fingerprint,
                "prepare and assign it, or serve a version of the declaration in force; until then every transaction "
                "goes to review",
            )  # fmt: skip

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

    def _rest(self, version: int | None, reason: str) -> None:
        pause_us = min(max(self._pauses_us.get(version, 0) * 2, PAUSE_FIRST_US), PAUSE_MOST_US)
        self._pauses_us[version] = pause_us
        self._resting_until_us[version] = self._now_us() + pause_us
        log.warning("model unavailable", error=reason, version=version, pause_ms=pause_us // 1000)
