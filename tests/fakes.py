"""Hand-written stand-ins for what a test steers: a model's client, a clock, messages as a broker numbers them."""

import json
import threading
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from features.declaration import DECLARATION, FEATURE_NAMES
from features.grammar import Declaration, encode
from plumbline.clock import Monotonic
from plumbline.decision import Source
from plumbline.errors import ModelRefused, ModelUnavailable
from serving.client import About, Scored
from serving.columns import ModelColumns
from streaming.batch import Message
from streaming.model import Model

NOW = 1_700_000_000_000_000
"""The present of most tests, microseconds."""


class Clock:
    """Both clocks of a process: calling it reads the wall clock, which a test may step; `monotonic` the other one."""

    def __init__(self, now_us: int = NOW) -> None:
        self.now_us = now_us
        self.passed_us = 0

    def __call__(self) -> int:
        return self.now_us

    def monotonic(self) -> Monotonic:
        """Seconds that have passed, whatever the wall clock did."""
        return Monotonic(self.passed_us / 1_000_000)

    def passes(self, seconds: float) -> None:
        """Time passes, on both clocks; a microsecond more on the monotonic one, so that sums of floats are reached."""
        self.passed_us += round(seconds * 1_000_000) + 1
        self.now_us += round(seconds * 1_000_000)

    def steps(self, seconds: float) -> None:
        """The wall clock is set to another time, and no time passes."""
        self.now_us += round(seconds * 1_000_000)


class FakeClient:
    """A model whose score is a plain function of a row's history and amount, and which a test can switch off.

    down: no call is answered, nor one to a version in `absent`; held: one to these versions only once the event is
    set; mute: no explanation is; fingerprints, declarations: what each version says it was trained under; shifts: by
    how much a version's scores lie beside the plain ones.
    """

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.down = False
        self.mute = False
        self.absent: set[int] = set()
        self.fingerprints: dict[int, str] = {}
        self.declarations: dict[int, Declaration] = {}
        self.features = len(FEATURE_NAMES)
        self.deadline_ms = 1000
        self.shifts: dict[int, float] = {}
        self.explained: list[int | None] = []
        self.held: dict[int, threading.Event] = {}
        self.calls: Counter[str] = Counter()

    def score(self, columns: ModelColumns, version: int | None = None, *, tries: int = 2) -> Scored:
        """Scores of n rows."""
        asked = self.version if version is None else version
        self._called("score")
        if asked in self.absent or asked not in {self.version, *self.declarations}:
            raise ModelRefused(f"the fake has no version {asked}")
        if asked in self.held:
            self.held[asked].wait()
        shifted = (scores_of(columns) + np.float32(self.shifts.get(asked, 0))) % np.float32(1)
        return Scored(shifted, asked)

    def explain(self, columns: ModelColumns, version: int | None = None, *, tries: int = 2) -> npt.NDArray[np.float32]:
        """Effects of the fake's own."""
        self._called("explain")
        self.explained.append(version)
        if self.mute:
            raise ModelUnavailable("the fake explains nothing")
        declared = self.declarations.get(version or self.version)
        features = self.features if declared is None else len(declared.feature_names)
        return effects_of(len(columns), features)

    def about(self, version: int | None = None, *, tries: int = 2) -> About:
        """Declaration and version."""
        self._called("about")
        asked = self.version if version is None else version
        if asked in self.absent:
            raise ModelUnavailable(f"the fake has no version {asked}")
        declaration = self.declarations.get(asked, DECLARATION)
        return About(self.fingerprints.get(asked, declaration.fingerprint), encode(declaration), asked)

    def states(self) -> dict[int, str]:
        """The version that scores, and those of other declarations; less those that are absent."""
        self._called("states")
        found = {self.version, *self.declarations} - self.absent
        return dict.fromkeys(sorted(found), "AVAILABLE")

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.down:
            raise ModelUnavailable("the fake is down")


def effects_of(rows: int, features: int) -> npt.NDArray[np.float32]:
    """Effects float32 [rows, features] that fall from 3 to below 0, feature by feature."""
    return np.tile(3 - np.arange(features, dtype=np.float32), (rows, 1))


def scores_of(columns: ModelColumns) -> npt.NDArray[np.float32]:
    """The fake's scores, float32 [n]: any change of a row's history changes its score."""
    weights = np.arange(1, columns.history.shape[1] + 1)
    mixed = (columns.history % 10_007 @ weights + columns.amount_minor * 31) % 9_973
    return (mixed / 9_973).astype(np.float32)


def fake_model(client: FakeClient | None = None, clock: Clock | None = None) -> Model:
    """The scorer's view of a fake."""
    return Model(client or FakeClient(), (clock or Clock()).monotonic)


class Numbered:
    """Messages of a topic, each with the next offset."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.next = 0

    def message(self, raw: bytes) -> Message:
        """These bytes as the topic's next message."""
        self.next += 1
        return Message(Source(self.topic, 0, self.next - 1, NOW // 1000), raw)


def payment(number: int, **changes: Any) -> dict[str, Any]:
    """A transaction as JSON fields."""
    return {
        "transaction_id": f"t{number}", "occurred_at": NOW - 10**9 + number * 10**6, "account_id": f"a{number % 3}",
        "merchant_id": f"m{number % 2}", "device_id": f"d{number % 4}", "amount_minor": 100 + number,
        "currency": "EUR", "channel": "ecom", "mcc": "5411", "country": "DE",
        "latitude_e6": 52_000_000 + number, "longitude_e6": 13_000_000 - number,
    } | changes  # fmt: skip


def told(number: int, of: int, verdict: str = "fraud", **changes: Any) -> dict[str, Any]:
    """A label about the payment of that number, as JSON fields."""
    return {
        "label_id": f"l{number}", "transaction_id": f"t{of}", "verdict": verdict, "source": "analyst", "known_at": NOW,
    } | changes  # fmt: skip


def raw(fields: dict[str, Any]) -> bytes:
    """JSON fields as a message's bytes."""
    return json.dumps(fields).encode()
