"""The guard over a real journal: each entry counts once, whatever kills it; a breach is undone by one assignment."""

import itertools
import os
import random
import subprocess
import sys
import threading

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.guardrails import BEGAN_US, stream
from observe.metrics import Metrics
from plumbline.assignment import Arm, Assignment
from plumbline.assignment import parse as parse_assignment
from plumbline.decision import Decision
from plumbline.errors import Refused, StoreUnavailable
from plumbline.journal import AssignmentApplied
from release import guard
from release.guard import Guarding, run
from release.limits import Limits
from release.state import registry_of
from store.engine import engine_at, transaction
from store.guard_tables import Guard, Incident, Trial
from store.guards import guard_position, guarded, incidents, trials
from store.model_tables import ModelChange, ModelVersion
from store.models import add_changes, add_version, changes
from store.schema import migrate
from streaming.kafka import end_offsets
from tests.journal_writer import JournalWriter, read_topic

NOW = BEGAN_US + 10**9
CANARY = Assignment(version="canary-2", decides=1, arms=(Arm(2, 300),), shadows=(3,), salt="c")


class Journaled:
    """A journal on the broker, and the guard's database."""

    def __init__(self, bootstrap, prefix, folder):
        self.bootstrap, self.prefix, self.folder = bootstrap, prefix, folder
        self.writer = JournalWriter(bootstrap, prefix)
        self.engine = engine_at(sa.URL.create("sqlite", database=str(folder / "plumbline.db")))
        migrate(self.engine)

    def assign(self, assignment, at_us=BEGAN_US):
        applied = AssignmentApplied(
            assignment=assignment, fingerprints=(), declarations={}, source=None, journaled_at=at_us
        )
        self.writer.write([applied])

    def pay(self, fault, payments, attacks=0.006):
        self.writer.write([each for _, each in stream(7, CANARY, fault, payments, attacks)])

    def register(self):
        """The canary's registry: 1 is champion, 2 the canary, 3 a shadow."""
        stages = {1: ("champion", 0), 2: ("canary", 300), 3: ("shadow", 0)}
        with transaction(self.engine) as session:
            for version, (stage, per_mille) in stages.items():
                add_version(session, ModelVersion(
                    version=version, name="plumbline", stage="candidate", per_mille=0, trained_at=1, registered_at=1,
                    made_by="ada", fingerprint="f", train_days="", test_days="", archive_digest="", seed=1,
                    code_commit="", lock_sha256="", rows={}, metrics={}, slices={}, files={}, gate=None, card={},
                ), "ada")  # fmt: skip
                add_changes(session, [ModelChange(
                    at=2, version=version, kind="promote", from_stage="candidate", to_stage=stage, per_mille=per_mille,
                    asked_by="ada", approved_by="bob", why="", evidence={}, assignment="canary-2", experiment="",
                )])  # fmt: skip

    def guard(self, **limits):
        guarding = Guarding(self.bootstrap, self.prefix, self.engine, Limits(**limits))
        metrics = Metrics()
        run(guarding, metrics, lambda: NOW, threading.Event(), once=True)
        return metrics.text().decode()

    def published(self):
        return [parse_assignment(each.value) for each in read_topic(self.bootstrap, self.prefix + "control")]

    def stored(self, of):
        with Session(self.engine) as session:
            return session.scalars(sa.select(of)).all()


@pytest.fixture
def journaled(kafka, topic_prefix, tmp_path):
    made = Journaled(kafka.bootstrap, topic_prefix, tmp_path)
    yield made
    made.writer.close()
    made.engine.dispose()


def counted(row):
    """What a trial came to."""
    return {name: getattr(row, name) for name in Trial.__table__.columns.keys()}  # noqa: SIM118 - names of columns


def test_a_healthy_canary_is_watched_and_passes(journaled):
    journaled.assign(None)
    journaled.assign(CANARY)
    journaled.pay("", 4_000, attacks=0.2)
    text = journaled.guard()
    canary, shadow = journaled.stored(Trial)
    assert (canary.version, canary.role, canary.per_mille, canary.state) == (2, "canary", 300, "passed")
    assert (shadow.version, shadow.role, shadow.state) == (3, "shadow", "watching"), "it was never asked"
    assert canary.passed_at == NOW
    assert canary.decisions == 4_000
    assert journaled.stored(Incident) == []
    assert journaled.published() == []
    assert f"plumbline_guard_looked_seconds {NOW / 1e6:.6e}"[:30] in text
    journaled.assign(Assignment(version="over", decides=2), BEGAN_US + 10**8)
    journaled.guard()
    with Session(journaled.engine) as session:
        assert guarded(session) == []
        assert [each.ended_at for each in trials(session)] == [BEGAN_US + 10**8] * 2
        assert trials(session)[0].state == "passed"
        position = guard_position(session)
    assert position.begin == position.sequence + 1, "what is over is not read again"


def test_a_breach_is_rolled_back_once_and_its_incident_holds_the_picture(journaled):
    journaled.register()
    journaled.assign(CANARY)
    journaled.pay("shifted", 4_000)
    text = journaled.guard()
    (rollback,) = journaled.published()
    assert (rollback.decides, rollback.arms, rollback.shadows) == (1, (), (3,))
    assert rollback.replaces == CANARY.version
    (incident,) = journaled.stored(Incident)
    assert (incident.version, incident.champion, incident.role) == (2, 1, "canary")
    assert incident.rollback == rollback.version
    assert incident.why == rollback.why
    assert incident.rule in {"scores", "outcomes", "slices", "load"}
    assert incident.published_at == NOW
    points = incident.picture["points"]
    assert len(points) > 3
    assert points[-1][4] == 1.0, "the last point is the alarm"
    assert [point[0] for point in points] == sorted(point[0] for point in points)
    assert incident.picture["figure"]["breached"]
    assert "plumbline_incidents_open 1.0" in text
    assert "plumbline_rollbacks_total 1.0" in text

    # The scorer takes it, and a decision under it is noted; the incident is not opened again.
    journaled.assign(rollback, BEGAN_US + 10**8)
    (_, last), *_ = [(n, e) for n, e in stream(1, CANARY, "", 8) if isinstance(e, Decision)]
    journaled.writer.write(
        [msgspec.structs.replace(last, assignment=rollback.version, decided_at=BEGAN_US + 2 * 10**8)]
    )
    journaled.guard()
    (incident,) = journaled.stored(Incident)
    assert incident.effective_at == BEGAN_US + 2 * 10**8
    assert journaled.published() == [rollback]
    with Session(journaled.engine) as session:
        registry = registry_of(session)
        newest = changes(session)[-1]
    assert {stage: registry.at(stage) for stage in ("champion", "canary", "shadow", "retired")} == {
        "champion": [1], "canary": [], "shadow": [3], "retired": [2],
    }  # fmt: skip
    assert (newest.version, newest.asked_by, newest.assignment, newest.why) == (
        2,
        "guard",
        rollback.version,
        rollback.why,
    )
    states = {(each.assignment, each.version): each.state for each in journaled.stored(Trial)}
    assert states == {
        ("canary-2", 2): "breached", ("canary-2", 3): "ended", (rollback.version, 3): "watching",
    }  # fmt: skip


def test_the_rollback_does_not_wait_for_the_database(journaled, monkeypatch):
    journaled.assign(CANARY)
    journaled.pay("erring", 4_000)

    def unavailable(*_):
        raise StoreUnavailable("the database is away")

    with monkeypatch.context() as away:
        away.setattr(guard, "open_incident", unavailable)
        with pytest.raises(StoreUnavailable):
            journaled.guard()
    (rollback,) = journaled.published()
    assert journaled.stored(Incident) == []
    journaled.assign(rollback, BEGAN_US + 10**8)
    journaled.guard()
    assert [each.rule for each in journaled.stored(Incident)] == ["errors"]
    assert journaled.published() == [rollback]


def test_what_people_assigned_meanwhile_stands(journaled):
    journaled.assign(CANARY)
    journaled.pay("erring", 4_000)
    journaled.assign(Assignment(version="people-were-faster", decides=1), BEGAN_US + 10**8)
    journaled.guard()
    assert len(journaled.stored(Incident)) == 1
    assert journaled.published() == []


def test_another_journal_is_refused(journaled):
    journaled.assign(CANARY)
    with Session(journaled.engine) as session, session.begin():
        session.add(Guard(id=1, updated_at=1, begin=0, sequence=500, behind_ms=0))
    with pytest.raises(Refused, match="guarded up to 500"):
        journaled.guard()


@pytest.mark.slow
def test_killed_again_and_again_it_counts_what_it_counts_undisturbed(journaled, kafka, topic_prefix, tmp_path):
    draw = random.Random(11)
    environ = os.environ | {
        "PLUMBLINE_KAFKA_BOOTSTRAP": kafka.bootstrap, "PLUMBLINE_TOPIC_PREFIX": topic_prefix,
        "PLUMBLINE_DATA_DIR": str(tmp_path),
    }  # fmt: skip
    journaled.assign(CANARY)
    entries = [each for _, each in stream(3, CANARY, "shifted", 4_000)]
    position = 0
    for size in itertools.cycle((900, 1_400, 1_700)):
        process = subprocess.Popen(
            [sys.executable, "-m", "plumbline.cli.main", "guard", "--json"], env=environ,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert '"guarding"' in process.stdout.readline()
        journaled.writer.write(entries[position : position + size])
        position += size
        threading.Event().wait(draw.uniform(0.0, 0.4))  # at no moment in particular
        process.kill()
        process.wait()
        if position >= len(entries):
            break
    journaled.guard()
    (incident,) = journaled.stored(Incident)
    assert {each.version for each in journaled.published()} == {incident.rollback}
    disturbed = {each.version: counted(each) for each in journaled.stored(Trial)}
    assert disturbed[2]["decisions"] == 4_000
    end = next(iter(end_offsets(kafka.bootstrap, [topic_prefix + "decisions"]).values()))
    with Session(journaled.engine) as session:
        assert guard_position(session).sequence < end
        assert len(incidents(session)) == 1

    other = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "other.db")))
    migrate(other)
    journaled.engine, mine = other, journaled.engine
    journaled.guard()
    undisturbed = {each.version: counted(each) for each in journaled.stored(Trial)}
    for row in (*disturbed.values(), *undisturbed.values()):
        row["passed_at"] = None  # our clock's, not the journal's
    assert disturbed == undisturbed
    mine.dispose()
