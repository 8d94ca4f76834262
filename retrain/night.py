"""A night put together: its ten steps, in order, over the data folder of one installation."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from features.grammar import Declaration
from features.runner import EMBEDDED, Runner
from release.registering import verify_registered
from release.state import registry_of
from retrain import archived, modelled, released
from retrain.plan import Plan
from retrain.steps import Done, Place, Step
from store.engine import transaction
from store.models import model_version

CarryOut = Callable[[int, Callable[[str], None]], Mapping[str, Any]]
"""Carries out a request of the registry, by its number, and tells its steps; returns what was checked."""


@dataclass(frozen=True)
class Night:
    """Everything that the steps of a night work on.

    data: the data folder; archive, journal: where the past is, None for none; models: folder of the model's versions;
    engine: SQL, for the registry; now_us: our clock, for its requests; carry_out: brings the candidate into the shadow,
    None: that is left to people; runner: of Beam; load: imports TensorFlow before a step that needs it; made: more for
    the card, such as `code_commit`.
    """

    plan: Plan
    data: Path
    archive: Path | None
    journal: Path | None
    models: Path
    declaration: Declaration
    engine: sa.Engine
    now_us: Callable[[], int]
    carry_out: CarryOut | None = None
    runner: Runner = EMBEDDED
    load: Callable[[], None] = lambda: None
    made: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder of all nights."""
        return self.data / "retrain"

    @property
    def days(self) -> Path:
        """Rows by day, shared by all nights."""
        return self.root / "days"

    @property
    def analyzed(self) -> Path:
        """What the analysis found by day, shared by all nights."""
        return self.root / "analyzed"

    @property
    def blocks(self) -> Path:
        """The journal's columns by block, shared by all nights."""
        return self.root / "blocks"

    def run_folder(self, run: str) -> Path:
        """A run's folder."""
        return self.root / "runs" / run

    def tensorboard(self, run: str) -> Path:
        """The folder of a run's logs of fitting."""
        return self.data / "tensorboard" / f"retrain-{run}"

    def champion(self) -> int | None:
        """The version that decides, as the registry has it; its files must be what was registered.

        Raises StoreUnavailable, Refused, ModelVersionNotFound.
        """
        with transaction(self.engine) as session:
            number = registry_of(session).champion
            if number is not None:
                verify_registered(self.models, model_version(session, number))
        return number

    def champion_digest(self) -> dict[str, str]:
        """What stands for the champion among a step's inputs."""
        with transaction(self.engine) as session:
            number = registry_of(session).champion
            files = {} if number is None else model_version(session, number).files
        listed = msgspec.json.encode([number, files], order="deterministic")
        return {"champion": hashlib.sha256(listed).hexdigest()}


def steps_of(night: Night) -> list[Step]:
    """The steps of a night, which `retrain.run` goes through."""

    def bound(work: Callable[[Night, Place], Done]) -> Callable[[Place], Done]:
        return lambda place: work(night, place)

    judged = night.champion_digest
    return [
        Step("archive", bound(archived.archive)),
        Step("labels", bound(archived.labels), ("archive",)),
        Step("history", bound(archived.history), ("archive",)),
        Step("rows", bound(archived.rows), ("archive", "labels", "history")),
        Step("analysis", bound(archived.analysis), ("rows",)),
        Step("fit", bound(modelled.fit), ("rows", "analysis"), looks=True),
        Step("evaluate", bound(modelled.evaluate), ("archive", "labels", "rows", "fit"), judged),
        Step("gate", bound(modelled.gate), ("labels", "evaluate"), judged),
        Step("register", bound(released.register), ("rows", "fit", "evaluate", "gate")),
        Step("shadow", bound(released.shadow), ("register",)),
    ]
