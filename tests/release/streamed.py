"""A registry with two people and a real control topic, scorer, journal and SQL; files and model server are not there.

The scorer is a thread with the fake model, so that a test can stop a release between any two steps.
"""

import threading
import time
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from features.declaration import DECLARATION
from observe.metrics import Metrics
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
from streaming.leading import Scoring
from streaming.model import Model
from streaming.scorer import run
from streaming.topics import ensure_topics
from tests.fakes import FakeClient
from tests.release.conftest import add_people

PATIENCE = 60.0
ADA, BOB = "ada@bank.example", "bob@bank.example"


class Killed(BaseException):
    """What ends a command as a signal does: nothing of it goes on."""


def now_us() -> int:
    """Our clock."""
    return time.time_ns() // 1000


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
        ensure_topics(bootstrap, self.prefix, 2)
        self.folder = folder
        self.client = FakeClient()
        self.scorers: list[tuple[threading.Thread, threading.Event]] = []
        self.engine: sa.Engine = engine_at(sa.URL.create("sqlite", database=str(folder / "plumbline.db")))
        migrate(self.engine)
        add_people(self.engine)
        self.site = carrying.Site(
            self.engine, bootstrap, self.prefix, None, folder / "models", now_us, wait_seconds  # type: ignore[arg-type]
        )  # fmt: skip

    def start_scorer(self) -> None:
        """A scorer, which leads when this returns."""
        leading, stop = threading.Event(), threading.Event()
        scoring = Scoring(self.bootstrap, self.prefix, self.folder / "snapshots", 64, 10**6, 10**6)

        def announce(state: str, _: int) -> None:
            if state == "leading":
                leading.set()

        def work() -> None:
            run(scoring, Model(self.client, now_us), Metrics(), now_us, stop, announce)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.scorers.append((thread, stop))
        assert leading.wait(PATIENCE)

    def stop_scorer(self) -> None:
        """As SIGTERM does."""
        for thread, stop in self.scorers:
            stop.set()
            thread.join(PATIENCE)
        self.scorers = []

    def close(self) -> None:
        """End what runs."""
        self.stop_scorer()
        self.engine.dispose()

    def register(self, *numbers: int) -> None:
        """Versions, each a candidate."""
        for number in numbers:
            self.client.declarations[number] = DECLARATION
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
        with owning(self.engine, "a test", urgent=False, wait_seconds=PATIENCE) as owner:
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
