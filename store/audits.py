"""Audits and what the continuous audit found: what the audit light is read from.

A difference stands until a person acknowledges it, or an audit of all accounts of the same journal comes to 0
differences over the whole range, with no fewer messages at hand. Any other audit, however new, says nothing about it.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from store.audit_tables import Audit

DETAIL_MOST: Final = 50
"""Differences of the continuous audit that one row shows; all are counted."""


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
    journal: str = "",
    sample: str = "",
    raw_missing: int = 0,
) -> Audit:
    """Store one run of the audit; the caller commits.

    Times in microseconds since 1970 UTC; detail: whatever JSON shows the first differences, or an empty list; the rest
    as in `store.audit_tables.Audit`.
    """
    audit = Audit(
        started_at=started_at,
        finished_at=finished_at,
        first_sequence=first_sequence,
        last_sequence=last_sequence,
        compared=compared,
        different=different,
        raw_missing=raw_missing,
        detail=detail,
        journal=journal,
        sample=sample,
    )
    session.add(audit)
    session.flush()
    return audit


def record_watched(
    session: Session,
    *,
    first_sequence: int,
    last_sequence: int,
    compared: int,
    different: int,
    detail: list[Any],
    one_in: int,
    now_us: int,
) -> None:
    """Store differences that the continuous audit has just found; the caller commits.

    They join the row that stands already, so that a fault without end is one row.
    """
    sample = f"1/{one_in}"
    statement = select(Audit).where(_stands(), Audit.origin == "watch", Audit.sample == sample)
    found = session.scalars(statement.order_by(Audit.id.desc()).limit(1)).one_or_none()
    if found is not None:
        # Somebody may acknowledge it at this moment: then what was just found stands in a row of its own.
        joining = update(Audit).where(Audit.id == found.id, Audit.acknowledged_at.is_(None)).returning(Audit.id)
        values = {
            "finished_at": now_us,
            "last_sequence": last_sequence,
            "compared": Audit.compared + compared,
            "different": Audit.different + different,
            "detail": [*found.detail, *detail][:DETAIL_MOST],
        }
        if session.scalar(joining.values(values)) is not None:
            return
    session.add(
        Audit(
            origin="watch", sample=sample, started_at=now_us, finished_at=now_us, first_sequence=first_sequence,
            last_sequence=last_sequence, compared=compared, different=different, detail=detail[:DETAIL_MOST],
        )
    )  # fmt: skip


def newest_audit(session: Session) -> Audit | None:
    """The audit that was stored last of those that compared anything; None before the first."""
    statement = select(Audit).where(Audit.origin == "audit", or_(Audit.compared > 0, Audit.different > 0))
    return session.scalars(statement.order_by(Audit.id.desc()).limit(1)).one_or_none()


def newest_audits(session: Session, limit: int = 50) -> list[Audit]:
    """Audits, the one stored last first."""
    return list(session.scalars(select(Audit).order_by(Audit.id.desc()).limit(limit)))


def standing_audits(session: Session) -> list[Audit]:
    """Audits whose differences nobody has acknowledged or shown to be gone, the one stored last first."""
    return list(session.scalars(select(Audit).where(_stands()).order_by(Audit.id.desc())))


def _stands() -> ColumnElement[bool]:
    again = aliased(Audit)
    is_gone = exists().where(
        again.id > Audit.id,
        again.origin == "audit",
        again.sample == "",
        again.different == 0,
        again.first_sequence <= Audit.first_sequence,
        again.last_sequence >= Audit.last_sequence,
        again.compared >= Audit.compared,
        or_(Audit.origin == "watch", again.raw_missing <= Audit.raw_missing),
        or_(Audit.journal == "", again.journal == Audit.journal),
    )
    return (Audit.different > 0) & Audit.acknowledged_at.is_(None) & ~is_gone
