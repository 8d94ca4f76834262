"""The model as the scorer sees it: scores, or none and a reason to review. It never raises for a model's fault.

A version is asked for its fingerprint before its first score is believed: one trained under another declaration would
read the history wrongly, so it is not asked for scores. After a failure the version is left alone for a moment, so that
a server that hangs cannot slow every batch down to its deadline. Versions that are asked together answer together: the
first may be tried twice, the others once, and nobody waits for them longer than the deadline.
"""

from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillAsking
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from features.grammar import Declaration, decode
from plumbline.clock import Monotonic, MonotonicClock, later
from plumbline.errors import FingerprintMismatch, ModelRefused, ModelTimedOut, ModelUnavailable
from serving.client import TRIES, About, Scored
from serving.columns import ModelColumns

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
"""How long the newest fit version counts as such before the server is asked again."""

PAUSE_FIRST_SECONDS: Final = 0.1
PAUSE_MOST_SECONDS: Final = 2.0

MICROS: Final = 1_000_000

TOGETHER_MOST: Final = 8
"""Threads for versions that are asked beside the first; one that hangs holds one until its deadline."""

Failure = Literal["", "deadline", "error"]
Effects = npt.NDArray[np.float32]


class Client(Protocol):
    """What `serving.client.ModelClient` offers; deadline_ms: of one try."""

    deadline_ms: int

    def score(self, columns: ModelColumns, version: int | None = None, *, tries: int = TRIES) -> Scored:
        """Scores of n rows; raises ModelUnavailable."""

    def explain(self, columns: ModelColumns, version: int | None = None, *, tries: int = TRIES) -> Effects:
        """Effects [n, features]; raises ModelUnavailable."""

    def about(self, version: int | None = None, *, tries: int = TRIES) -> About:
        """Declaration and version; raises ModelUnavailable."""

    def states(self) -> dict[int, str]:
        """State of every version, such as `AVAILABLE`; raises ModelUnavailable."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a version is asked about: n rows, and the declaration that their history was computed under.

    version: None is the newest that is served and was trained under that declaration: one of another declaration can
    wait beside it until it is assigned.
    """

    columns: ModelColumns
    fingerprint: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A version's scores, or None and why it gave none; micros: how long that took, 0 where it was left alone."""

    scored: Scored | None
    failure: Failure = ""
    micros: int = 0


class Model:
    """A client, what the served versions were trained under, and how long to leave each alone after a failure.

    monotonic: the clock of every pause and deadline. Threads may share it, each asking versions of its own.
    """

    def __init__(self, client: Client, monotonic: MonotonicClock) -> None:
        self._client = client
        self._monotonic = monotonic
        self._fingerprints: dict[int, str] = {}
        self._newest: dict[str, int] = {}
        self._look_again: Monotonic | None = None
        self._pauses: dict[Hashable, float] = {}
        self._resting: dict[Hashable, tuple[Monotonic, Failure]] = {}
        self._threads = ThreadPoolExecutor(TOGETHER_MOST, thread_name_prefix="model")

    def ask(self, question: Question, *, tries: int = TRIES) -> Answer:
        """Scores of n rows, or why there are none: no version of that declaration answered in time, or it rests."""
        if failure := self._rests(question.version):
            return Answer(None, failure)
        return self._noted(question.version, *self._tried(question, tries))

    def ask_patiently(self, question: Question) -> Answer:
        """As `ask`, whether or not the version rests, by somebody whom nobody waits for; it rests no longer for it."""
        found, micros = self._tried(question, TRIES)
        return Answer(None, _failure(found), micros) if isinstance(found, Exception) else Answer(found, "", micros)

    def ask_together(self, first: Question, others: Sequence[Question]) -> list[Answer]:
        """Answers of several versions, asked at the same time, in order."""
        if not others:
            return [self.ask(first)]
        deadline = later(self._monotonic(), self._client.deadline_ms / 1000)
        asked = [self._rests(each.version) or self._threads.submit(self._tried, each, 1) for each in others]
        answers = [self.ask(first)]
        for question, future in zip(others, asked, strict=True):
            if isinstance(future, str):
                answers.append(Answer(None, future))
            else:
                answers.append(self._noted(question.version, *self._waited(future, deadline)))
        return answers

    def _waited(
        self, future: "Future[tuple[Scored | Exception, int]]", deadline: Monotonic
    ) -> tuple[Scored | Exception, int]:
        deadline_ms = self._client.deadline_ms
        try:
            return future.result(max(0.0, deadline - self._monotonic()))
        except StillAsking:
            return ModelTimedOut(f"no answer within {deadline_ms} ms"), deadline_ms * 1000

    def _tried(self, question: Question, tries: int) -> tuple[Scored | Exception, int]:
        """What came of asking, and how long it took, microseconds."""
        begun = self._monotonic()
        found: Scored | Exception
        try:
            found = self._scored(question, tries)
        except (ModelUnavailable, FingerprintMismatch) as error:
            found = error
        return found, round((self._monotonic() - begun) * MICROS)

    def _noted(self, version: int | None, found: Scored | Exception, micros: int) -> Answer:
        """The answer, and what it means for the next question."""
        if isinstance(found, Exception):
            return Answer(None, self._rest(version, found), micros)
        if self._pauses.pop(version, 0):
            log.info("model answers again", model_version=found.model_version)
        return Answer(found, "", micros)

    def _scored(self, question: Question, tries: int) -> Scored:
        columns, fingerprint, version = question.columns, question.fingerprint, question.version
        if version is not None:
            self._require(version, fingerprint, tries)
            return self._client.score(columns, version, tries=tries)
        look_again = self._look_again
        if look_again is None or self._monotonic() >= look_again or fingerprint not in self._newest:
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
        self._look_again = later(self._monotonic(), LOOK_SECONDS)

    def _fingerprint(self, version: int, tries: int = TRIES) -> str:
        if version not in self._fingerprints:
            self._fingerprints[version] = self._client.about(version, tries=tries).fingerprint
        return self._fingerprints[version]

    def _require(self, version: int, fingerprint: str, tries: int = TRIES) -> None:
        if (found := self._fingerprint(version, tries)) != fingerprint:
            raise FingerprintMismatch(
                f"model version {version}", found, fingerprint,
                "prepare and assign it, or serve a version of the declaration in force; until then every transaction "
                "goes to review",
            )  # fmt: skip

    def explain(self, asked: Sequence[tuple[ModelColumns, int, int]], *, tries: int = TRIES) -> list[Effects | None]:
        """Effects [n, features] by each version that scored, asked at the same time; None where one does not answer.

        asked: rows, version, and how many features it has; tries: of the first, the others are asked once.
        """
        if not asked:
            return []
        deadline = later(self._monotonic(), self._client.deadline_ms / 1000)
        others = [self._threads.submit(self._explained, *each, 1) for each in asked[1:]]
        found = [self._explained(*asked[0], tries)]
        for future in others:
            try:
                found.append(future.result(max(0.0, deadline - self._monotonic())))
            except StillAsking:
                found.append(None)
        return found

    def _explained(self, columns: ModelColumns, version: int, features: int, tries: int) -> Effects | None:
        """Effects, or None; after a failure the version is not asked for any for a while, and scores on."""
        if self._rests(("explain", version)):
            return None
        try:
            effects = self._client.explain(columns, version, tries=tries)
        except ModelUnavailable as error:
            self._rest(("explain", version), error)
            return None
        self._pauses.pop(("explain", version), None)
        if effects.shape[1] != features:
            log.error("explanation of another shape", features=effects.shape[1], expected=features)
            return None
        return effects

    def declaration(self, version: int) -> Declaration:
        """What a version was trained under. Raises ModelUnavailable, and InvalidDeclaration when it says nonsense."""
        return decode(self._client.about(version).declaration)

    def _rests(self, asked: Hashable) -> Failure:
        """Why a version is left alone just now; empty where it may be asked."""
        found = self._resting.get(asked)
        return "" if found is None or self._monotonic() >= found[0] else found[1]

    def _rest(self, asked: Hashable, error: Exception) -> Failure:
        failure = _failure(error)
        pause = min(max(self._pauses.get(asked, 0) * 2, PAUSE_FIRST_SECONDS), PAUSE_MOST_SECONDS)
        self._pauses[asked] = pause
        self._resting[asked] = later(self._monotonic(), pause), failure
        log.warning("model unavailable", error=str(error), asked=asked, pause_ms=round(pause * 1000))
        return failure


def _failure(error: Exception) -> Failure:
    return "deadline" if isinstance(error, ModelTimedOut) else "error"
