"""Makes the registry say what the stream does: whatever came into effect and was not recorded, is recorded.

A release command may be killed between any two steps, and the scorer may take what it sent a moment later. What was
meant is written down before it is sent (`store.releases`), and the journal says what became of it: this module reads
the journal from where it was compared last, and ends every publication that has its answer there. It runs at the start
of every release command, in the guard's rounds, and as `plumbline models reconcile`. It publishes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from plumbline.assignment import Assignment
from plumbline.journal import AssignmentApplied, Rejected
from release.publishing import Sent, answer, answers_between, journal_end, messages
from release.recording import record_publication, refuse, taken_out
from store import models, releases
from store.engine import transaction
from store.guards import incidents_of_rollback
from store.models import GUARD
from store.releases import Owner


@dataclass(frozen=True, slots=True)
class Stream:
    """Where SQL and the journal of one installation are; now_us: our clock."""

    engine: sa.Engine
    bootstrap: str
    prefix: str
    now_us: Callable[[], int]


@dataclass(slots=True)
class Reconciled:
    """What was found: the assignment that is active (None before any), and the names of those that came to an end.

    recorded: they came into effect, and the registry did not say so; refused: the scorer rejected them; abandoned:
    nobody sent them; waiting: they are on the control topic, and no scorer has taken them yet.
    """

    active: Assignment | None = None
    sequence: int = -1
    recorded: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


def reconcile(stream: Stream, owner: Owner, wait_seconds: float = 0.0) -> Reconciled:
    """Record what the journal holds and the registry does not; wait_seconds: for what is published and not taken yet.

    Raises BrokerUnavailable; ReleaseHeld when another command takes the release over meanwhile.
    """
    found = Reconciled()
    until = time.monotonic() + wait_seconds
    while True:
        waiting = _compare(stream, owner, found)
        if not waiting or time.monotonic() >= until:
            found.waiting = sorted(waiting)
            return found
        sent = Sent(min(waiting.values()), found.sequence + 1)
        answer(stream.bootstrap, stream.prefix, sent, max(0.0, until - time.monotonic()))


def _compare(stream: Stream, owner: Owner, found: Reconciled) -> dict[str, int]:
    """Take the journal's answers since the last comparison, in order; offsets of what the scorer has still to take."""
    with transaction(stream.engine) as session:
        owner.require(session)
        sequence, body = releases.compared(session)
        if sequence < 0 and (stored := models.newest_assignment(session)) is not None:
            sequence = stored.sequence - 1  # the first comparison: nothing before it was written down
        unanswered = {each.assignment for each in releases.unanswered(session)}
    active = None if body is None else msgspec.convert(body, Assignment)
    # The control topic before the journal: what is in neither was not sent, or was replaced there before it was taken.
    offsets = _offsets(stream, unanswered) if unanswered else {}
    end = journal_end(stream.bootstrap, stream.prefix)
    answers = answers_between(stream.bootstrap, stream.prefix, sequence + 1, end)
    with transaction(stream.engine) as session:
        owner.require(session)
        for _, entry in answers:
            if isinstance(entry, AssignmentApplied) and entry.assignment is not None:
                active = entry.assignment
                if _recorded(session, active, stream.now_us()):
                    found.recorded.append(active.version)
            elif isinstance(entry, Rejected):
                for name in [each for each, offset in offsets.items() if offset == entry.source.offset]:
                    _refused(session, name, entry.error, stream.now_us())
                    found.refused.append(name)
        waiting = {}
        for each in releases.unanswered(session):
            if each.assignment in offsets:
                waiting[each.assignment] = offsets[each.assignment]
                continue
            why = "it is not on the control topic: nobody sent it"
            releases.end_publication(session, each, releases.ABANDONED, why, stream.now_us())
            models.allowed_again(session, each.request_id)
            found.abandoned.append(each.assignment)
        found.active, found.sequence = active, max(sequence, end - 1)
        releases.set_compared(session, found.sequence, None if active is None else msgspec.to_builtins(active))
    return waiting


def _offsets(stream: Stream, names: set[str]) -> dict[str, int]:
    """Where assignments of these names are on the control topic; one that is not there is left out."""
    found = messages(stream.bootstrap, stream.prefix, Assignment)
    return {each.version: offset for offset, each in found if each.version in names}


def _recorded(session: Session, active: Assignment, now_us: int) -> bool:
    """Record an assignment that came into effect, a request's or the guard's, if nobody has; whether that was done."""
    publication = releases.publication(session, active.version)
    if publication is not None:
        if publication.state == releases.RECORDED:
            return False
        record_publication(session, publication, now_us)
        return True
    incidents = incidents_of_rollback(session, active.version)
    if not incidents or models.brought_about(session, active.version):
        return False
    moved = taken_out(
        session, {each.version for each in incidents} - set(active.answering), by=GUARD, assignment=active.version,
        why=incidents[0].why, evidence={"judged": active.replaces}, now_us=now_us,
    )  # fmt: skip
    return bool(moved)


def _refused(session: Session, name: str, error: str, now_us: int) -> None:
    publication = releases.publication(session, name)
    if publication is None or publication.state != releases.INTENDED:
        return
    releases.end_publication(session, publication, releases.REFUSED, error, now_us)
    request = models.model_request(session, publication.request_id)
    refuse(session, request, f"the scorer refused the assignment: {error}", now_us)
