"""Imbalances that lasted: what conservation found unequal, until somebody acknowledges it."""

from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from store.audit_tables import Imbalance


def record_imbalance(session: Session, count: int, equations: Any, now_us: int) -> None:
    """Store an imbalance that has lasted; the caller commits.

    It is the one stored last as long as the counts were unequal all the while; one that grows after it was acknowledged
    is another.
    """
    newest = session.scalars(select(Imbalance).order_by(Imbalance.id.desc()).limit(1)).one_or_none()
    if newest is not None:
        joining = update(Imbalance).where(
            Imbalance.id == newest.id,
            Imbalance.cleared_at.is_(None),
            or_(Imbalance.acknowledged_at.is_(None), Imbalance.count >= count),
        )
        values: dict[str, Any] = {"seen_at": now_us}
        values |= {"count": count, "equations": equations} if count > newest.count else {}
        if session.scalar(joining.values(values).returning(Imbalance.id)) is not None:
            return
    session.add(Imbalance(opened_at=now_us, seen_at=now_us, count=count, equations=equations))


def clear_imbalance(session: Session, now_us: int) -> None:
    """Note that the counts are equal again; the caller commits. What was unequal stands until it is acknowledged."""
    session.execute(update(Imbalance).where(Imbalance.cleared_at.is_(None)).values(cleared_at=now_us))


def standing_imbalances(session: Session) -> list[Imbalance]:
    """Those that nobody has acknowledged, the newest first."""
    statement = select(Imbalance).where(Imbalance.acknowledged_at.is_(None))
    return list(session.scalars(statement.order_by(Imbalance.id.desc())))


def newest_imbalances(session: Session, limit: int = 20) -> list[Imbalance]:
    """All, the newest first."""
    return list(session.scalars(select(Imbalance).order_by(Imbalance.id.desc()).limit(limit)))
