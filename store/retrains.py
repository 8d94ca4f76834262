"""Nights in SQL: written by the run itself, read by the console."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from plumbline.errors import NotFound
from store.retrain_tables import RetrainRun
from store.upsert import put

FINAL: Final = ("refused", "registered", "shadowed")
"""Verdicts that no later start changes."""


def record(session: Session, run: RetrainRun) -> None:
    """Store how far a run is, in place of what was stored of it; the caller commits."""
    put(session, run)


def newest(session: Session, limit: int = 50) -> list[RetrainRun]:
    """Runs, the one that began last first."""
    order = (RetrainRun.started_at.desc(), RetrainRun.run)
    return list(session.scalars(select(RetrainRun).order_by(*order).limit(limit)))


def one(session: Session, run: str) -> RetrainRun:
    """A run by its name. Raises NotFound."""
    found = session.get(RetrainRun, run)
    if found is None:
        raise NotFound(
            f"there is no run {run}: `plumbline retrain` makes one, and the newest are listed in the console"
        )
    return found
