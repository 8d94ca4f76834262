"""A registry with two people and a real control topic, scorer, journal and SQL; files and model server are not there.

The scorer is a thread with the fake model, so that a test can stop a release between any two steps.
"""

import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from features.declaration import DECLARATION
from features.grammar import Declaration
from plumbline.assignment import Assignment
from plumbline.journal import AssignmentApplied
from release import carrying, serving, thresholds
from release.publishing import answers_between, journal_end
from release.reconcile import Reconciled, reconcile
from release.state import registry_of
from store import models
from store.engine import engine_at, transaction
from store.model_tables import ModelVersion
from store.releases import owning
from store.schema import migrate
from tests.release.conftest import add_people
from tests.scorer_thread import Installation, now_us

PATIENCE_SECONDS = 60.0
ADA, BOB = "ada@bank.example", "bob@bank.example"


class Killed(BaseException):
    """What ends a command as a signal does: nothing of it goes on."""


def passes(version: int) -> dict:
    """A gate that finds nothing."""
    return {}


class Bank:
    """One installation in a folder; `wait_seconds` is how long its release commands wait."""

    def __init__(self, bootstrap: str, folder: Path, monkeypatch: pytest.MonkeyPatch, wait_seconds: float = 20.0):
        monkeypatch.setattr(carrying, "verify_registered", lambda *_: None)
        for name in ("make_available", "move_labels", "let_go"):
            monkeypatch.setattr(serving, name, lambda *_, **__: "")
        monkeypatch.setattr(thresholds, "bring", lambda *_, **__: {})
        self.bootstrap, self.prefix = bootstrap, f"t{uuid.uuid4().hex[:10]}."
        self.stream = Installation(bootstrap, self.prefix, folder)
        self.client = self.stream.client
        self.engine: sa.Engine = engine_at(sa.URL.create("sqlite", database=str(folder / "plumbline.db")))
        migrate(self.engine)
        add_people(self.engine)
        self.site = carrying.Site(
            self.engine, bootstrap, self.prefix, None, folder / "models", now_us, wait_seconds  # type: ignore[arg-type]
        )  # fmt: skip

    def start_scorer(self) -> None:
        """A scorer, which leads when this returns."""
        self.scorer = self.stream.scorer().leading()

    def close(self) -> None:
        """End what runs."""
        self.stream.close()
        self.engine.dispose()

    def register(self, *numbers: int, declaration: Declaration = DECLARATION) -> None:
        """Versions, each a candidate."""
        for number in numbers:
            self.client.declarations[number] = declaration
            with transaction(self.engine) as session:
                models.add_version(
                    session,
                    ModelVersion(
                        version=number, name="m", stage="candidate", per_mille=0, trained_at=0, registered_at=now_us(),
                        made_by=ADA, fingerprint="", train_days="", test_days="", archive_digest="", seed=None,
                        code_commit="", lock_sha256="", rows={}, metrics={}, slices={}, files={}, gate=None, card={},
                    ),
                    ADA,
                )  # fmt: skip

    def allowed(self, version: int, to: str, per_mille: int = 0) -> int:
        """A request that Ada made and Bob allowed."""
        with transaction(self.engine) as session:
            number = models.ask(
                session, kind="promote", by=ADA, now_us=now_us(), version=version, to_stage=to, per_mille=per_mille
            ).id  # fmt: skip
        with transaction(self.engine) as session:
            models.approve(session, number, by=BOB, now_us=now_us())
        return number

    def release(self, *what) -> dict:
        """A promotion from its request to its end."""
        return carrying.carry_out(self.site, self.allowed(*what), passes)

    def canary(self) -> int:
        """Version 1 champion and 2 a shadow; the request, allowed and not applied, that makes 2 a canary."""
        self.register(1, 2)
        self.release(1, "champion")
        self.release(2, "shadow")
        return self.allowed(2, "canary", 100)

    def reconcile(self) -> Reconciled:
        """As the verb does."""
        with owning(self.engine, "a test", urgent=False, wait_seconds=PATIENCE_SECONDS) as owner:
            return reconcile(self.site.stream, owner, self.site.wait_seconds)

    def assignments(self) -> list[Assignment]:
        """Every assignment that came into force, oldest first."""
        end = journal_end(self.bootstrap, self.prefix)
        found = answers_between(self.bootstrap, self.prefix, 0, end)
        return [each.assignment for _, each in found if isinstance(each, AssignmentApplied) and each.assignment]

    def stages(self) -> dict[int, str]:
        """The stage of every version."""
        with transaction(self.engine) as session:
            return {number: each.stage for number, each in registry_of(session).placed.items()}

    def request(self, number: int) -> str:
        """A request's state."""
        with transaction(self.engine) as session:
            return models.model_request(session, number).state

    def require_agreement(self) -> None:
        """The stream does what the registry says."""
        active, stages = self.assignments()[-1], self.stages()
        said = {"champion": [active.decides], "canary": [each.version for each in active.arms]}
        said["shadow"] = list(active.shadows)
        for stage, versions in said.items():
            assert sorted(versions) == sorted(n for n, each in stages.items() if each == stage), (active, stages)
