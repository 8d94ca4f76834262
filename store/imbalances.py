"""Imbalances that lasted: what conservation found unequal, until somebody acknowledges it."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Imbalance


def record_imbalance(session: Session, count: int, equations: Any, now_us: int) -> None:
    """Store an imbalance that has lasted; the caller commits.

    It is the one stored last as long as the counts were unequal all the while; one that grows after it was acknowledged
    is another.
    """
    newest = _newest(session)
    if newest is None or newest.cleared_at is not None or (newest.acknowledged_at is not None and count > newest.count):
        newest = Imbalance(opened_at=now_us, seen_at=now_us, count=count, equations=equations)
        session.add(newest)
    newest.seen_at = now_us
    if count > newest.count:
        newest.count, newest.equations = count, equations


def clear_imbalance(session: Session, now_us: int) -> None:
    """Note that the counts are equal again; the caller commits. What was unequal stands until it is acknowledged."""
    newest = _newest(session)
    if newest is not None and newest.cleared_at is None:
        newest.cleared_at = now_us


def standing_imbalances(session: Session) -> list[Imbalance]:
    """Those that nobody has acknowledged, the newest first."""
    statement = select(Imbalance).where(Imbalance.acknowledged_at.is_(None))
    return list(session.scalars(statement.order_by(Imbalance.id.desc())))


def newest_imbalances(session: Session, limit: int = 20) -> list[Imbalance]:
    """All, the newest first."""
    return list(session.scalars(select(Imbalance).order_by(Imbalance.id.desc()).limit(limit)))


def _newest(session: Session) -> Imbalance | None:
    statement = select(Imbalance).order_by(Imbalance.id.desc()).limit(1).with_for_update()
    return session.scalars(statement).one_or_none()
