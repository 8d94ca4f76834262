"""Acknowledging: a person says that a finding was seen, and why it need not stand any longer."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from plumbline.errors import NotFound, Refused
from store.audit_tables import Audit, Imbalance


def finding(session: Session, table: type[Audit] | type[Imbalance], number: int) -> Audit | Imbalance:
    """A finding by its number. Raises NotFound."""
    found: Audit | Imbalance | None
    found = session.get(Audit, number) if table is Audit else session.get(Imbalance, number)
    if found is None:
        raise NotFound(f"no {table.__name__.lower()} has number {number}")
    return found


def acknowledge(session: Session, found: Audit | Imbalance, by: str, why: str, now_us: int) -> None:
    """Record who acknowledges a finding, when and why; the caller commits.

    found: as `finding` gave it in this session. Raises Refused when somebody was first, or there is nothing to
    acknowledge.
    """
    table, name = type(found), f"{type(found).__name__.lower()} {found.id}"
    if isinstance(found, Audit) and not found.different:
        raise Refused(f"{name} found no difference: there is nothing to acknowledge")
    # One statement, so that of two at once the second finds that it comes second.
    statement = update(table).where(table.id == found.id, table.acknowledged_at.is_(None)).returning(table.id)
    values = {"acknowledged_at": now_us, "acknowledged_by": by, "acknowledged_why": why}
    if session.scalar(statement.values(values)) is None:
        session.refresh(found)
        raise Refused(f"{name} was acknowledged by {found.acknowledged_by} first")
