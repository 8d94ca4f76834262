"""Audits: what the audit light on the overview is read from."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Audit


def record_audit(
    session: Session,
    *,
    started_at: int,
    finished_at: int,
    first_sequence: int,
    last_sequence: int,
    compared: int,
    different: int,
    detail: Any,
) -> Audit:
    """Store one run of the audit; the caller commits.

    Times in microseconds since 1970 UTC; detail: whatever JSON shows the first differences, or an empty list.
    """
    audit = Audit(
        started_at=started_at,
        finished_at=finished_at,
        first_sequence=first_sequence,
        last_sequence=last_sequence,
        compared=compared,
        different=different,
        detail=detail,
    )
    session.add(audit)
    session.flush()
    return audit


def newest_audit(session: Session) -> Audit | None:
    """The audit that was stored last; None before the first."""
    return session.scalars(select(Audit).order_by(Audit.id.desc()).limit(1)).one_or_none()


def newest_audits(session: Session, limit: int = 50) -> list[Audit]:
    """Audits, the one stored last first."""
    return list(session.scalars(select(Audit).order_by(Audit.id.desc()).limit(limit)))
