"""What the guard keeps in SQL: how far it is, the versions under guard, and incidents that people acknowledge."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from plumbline.errors import NotFound, Refused
from store.guard_tables import Guard, Incident, Trial
from store.tables import Assignment
from store.upsert import put, put_if_absent

ONLY: Final = 1
GUARDED: Final = ("watching", "passed")
"""States of a trial that is in force."""


def guard_position(session: Session) -> Guard | None:
    """How far the guard is; None before its first start."""
    return session.get(Guard, ONLY)


def record_position(session: Session, begin: int, sequence: int, behind_ms: int, now_us: int) -> None:
    """Say how far the guard is; the caller commits."""
    put(session, Guard(id=ONLY, updated_at=now_us, begin=begin, sequence=sequence, behind_ms=behind_ms))


def record_trial(session: Session, trial: Trial) -> None:
    """Store what a trial came to, in place of what was stored of it; the caller commits.

    What it passed, and that it was breached, stays: a later look cannot take either back.
    """
    put(session, trial, lambda there, came: {
        "passed_at": func.coalesce(there.passed_at, came.passed_at),
        "state": case((there.state == "breached", "breached"), else_=came.state),
    })  # fmt: skip


def end_trials(session: Session, sequence: int, ended_at: int) -> None:
    """End every trial of an assignment that another one replaced; the caller commits."""
    session.execute(
        update(Trial)
        .where(Trial.sequence == sequence, Trial.ended_at.is_(None))
        .values(ended_at=ended_at, state=case((Trial.state == "watching", "ended"), else_=Trial.state))
    )


def trials(session: Session, limit: int = 50) -> list[Trial]:
    """Trials, the newest assignment first, arms before shadows."""
    order = (Trial.sequence.desc(), Trial.per_mille.desc(), Trial.version)
    return list(session.scalars(select(Trial).order_by(*order).limit(limit)))


def trial_of(session: Session, sequence: int, version: int) -> Trial | None:
    """The trial of a version in an assignment; None where there is none."""
    return session.get(Trial, (sequence, version))


def guarded(session: Session) -> list[Trial]:
    """Trials in force: those of the newest assignment that the guard knows, if it has any."""
    statement = select(Trial).where(Trial.ended_at.is_(None), Trial.state.in_(GUARDED))
    return list(session.scalars(statement.order_by(Trial.sequence.desc(), Trial.per_mille.desc(), Trial.version)))


def newest_assignment(session: Session) -> Assignment | None:
    """The assignment that the ledger stored last; None where there is none."""
    return session.scalars(select(Assignment).order_by(Assignment.sequence.desc()).limit(1)).one_or_none()


def open_incident(session: Session, incident: Incident) -> Incident:
    """Store an incident, or return the one that its trial has: a trial breaks once. The caller commits."""
    put_if_absent(session, incident)
    found = incident_of(session, incident.sequence, incident.version)
    if found is None:
        raise AssertionError("an incident was there or was inserted")
    return found


def incident_of(session: Session, sequence: int, version: int) -> Incident | None:
    """The incident of a trial; None where there is none."""
    wanted = (Incident.sequence == sequence, Incident.version == version)
    return session.scalars(select(Incident).where(*wanted)).one_or_none()


def incident(session: Session, number: int) -> Incident:
    """An incident by its number. Raises NotFound."""
    found = session.get(Incident, number)
    if found is None:
        raise NotFound(f"no incident {number}")
    return found


def incidents(session: Session, limit: int = 100) -> list[Incident]:
    """Incidents, the one opened last first."""
    return list(session.scalars(select(Incident).order_by(Incident.id.desc()).limit(limit)))


def unacknowledged(session: Session) -> list[Incident]:
    """Incidents that nobody has acknowledged, the newest first."""
    return list(
        session.scalars(select(Incident).where(Incident.acknowledged_at.is_(None)).order_by(Incident.id.desc()))
    )


def unacknowledged_count(session: Session) -> int:
    """How many incidents nobody has acknowledged."""
    statement = select(func.count()).select_from(Incident).where(Incident.acknowledged_at.is_(None))
    return int(session.scalar(statement) or 0)


def awaiting_effect(session: Session) -> Sequence[Incident]:
    """Incidents whose rollback no decision is known to be under."""
    return list(session.scalars(select(Incident).where(Incident.effective_at.is_(None))))


def incidents_of_rollback(session: Session, name: str) -> list[Incident]:
    """The incidents that one rollback undoes."""
    return list(session.scalars(select(Incident).where(Incident.rollback == name).order_by(Incident.id)))


def note_once(incident: Incident, **facts: int) -> None:
    """Add facts to an incident that it does not have yet; the caller commits."""
    for name, value in facts.items():
        setattr(incident, name, func.coalesce(getattr(Incident, name), value))  # in SQL: whoever was first stays


def acknowledge(session: Session, number: int, by: str, note: str, now_us: int) -> Incident:
    """Say that somebody has seen an incident; the caller commits. Raises NotFound, Refused when somebody was first."""
    done = session.execute(
        update(Incident)
        .where(Incident.id == number, Incident.acknowledged_at.is_(None))
        .values(acknowledged_at=now_us, acknowledged_by=by, note=note)
        .execution_options(synchronize_session=False)
    )
    found = session.get(Incident, number, populate_existing=True)
    if found is None:
        raise NotFound(f"no incident {number}")
    if done.rowcount != 1:  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives
        raise Refused(f"incident {number} was acknowledged by {found.acknowledged_by} before")
    return found
