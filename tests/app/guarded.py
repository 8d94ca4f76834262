"""What the guard leaves in SQL, by its own code over simulated entries: a canary rolled back, and one being judged."""

import time

import msgspec
import sqlalchemy as sa

from benchmarks.guardrails import BEGAN_US, stream
from plumbline.assignment import Arm, Assignment
from release.judging import Judging
from release.limits import Limits
from release.rollback import rollback_name, told
from store.engine import transaction
from store.guard_tables import Incident
from store.guards import open_incident, record_position, record_trial
from store.tables import Assignment as AssignmentRow

NEWEST = 10**10
"""The assignment in force stands behind whatever else a test has stored."""


def store_canaries(engine: sa.Engine) -> int:
    """A breached canary with its incident, and a healthy one in force until now; returns the incident's number."""
    now_us = time.time_ns() // 1000
    broken, _ = judged("shifted", 50)
    incident, healthy = broken, judged("", 900)[1]
    shift = now_us - healthy.fold.now_us
    with transaction(engine) as session:
        incident.opened_at, incident.published_at = now_us - 60_000_000, now_us - 59_900_000
        incident.effective_at, incident.effective_sequence = now_us - 59_600_000, 5_000
        number = open_incident(session, incident).id
        for row in healthy.rows(now_us):
            row.began_at += shift
            record_trial(session, row)
        record_position(session, 900, 9_000, 20, now_us)
        assignment = healthy.fold.assignment
        session.add(AssignmentRow(
            sequence=NEWEST, version=assignment.version, body=msgspec.to_builtins(assignment), fingerprints=[],
            declarations={}, journaled_at=now_us - 10_000_000,
        ))  # fmt: skip
    return number


def judged(fault: str, sequence: int) -> tuple[Incident, Judging]:
    """A canary's judging after a few thousand payments, and its incident where it broke a rule."""
    assignment = Assignment(version=f"canary-{sequence}", decides=3, arms=(Arm(4, 300),), salt="x")
    judging, incident = Judging(assignment, sequence, BEGAN_US, Limits()), Incident()
    for number, entry in stream(7, assignment, fault, 4_000):
        for each in judging.take(number, entry):
            incident = judging.incident(each, BEGAN_US)
            incident.rollback, incident.why = rollback_name(sequence), told(4, "canary", each.figure)
        if judging.faulty:
            break
    return incident, judging
