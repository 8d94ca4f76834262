"""Drift runs: what the drift page, the alert about drift and the metrics are read from."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from plumbline.names import DAY_MS
from store.tables import DriftFigure, DriftRun

JUDGED: Final = ("calm", "warn", "alarm")
"""Levels of runs that had enough decisions to tell."""

RUNS_KEPT: Final = 1000
"""A run each ten minutes for a week: old ones go, since the journal can always be measured again."""


def record_drift(session: Session, run: DriftRun, figures: Sequence[DriftFigure]) -> DriftRun:
    """Store a run with its figures, and forget the oldest runs; the caller commits."""
    session.add(run)
    session.flush()
    for each in figures:
        each.run_id = run.id
    session.add_all(figures)
    old = select(DriftRun.id).where(DriftRun.id <= run.id - RUNS_KEPT)
    session.execute(delete(DriftFigure).where(DriftFigure.run_id.in_(old)))
    session.execute(delete(DriftRun).where(DriftRun.id <= run.id - RUNS_KEPT))
    session.flush()
    return run


def newest_drift(session: Session) -> DriftRun | None:
    """The run that was stored last: of the version that decides, where one pass measured several; None before any."""
    return session.scalars(select(DriftRun).order_by(DriftRun.id.desc()).limit(1)).one_or_none()


def standing_drift(session: Session) -> DriftRun | None:
    """The run that says how far the deciding version is from its training now; None before any could tell.

    It is of the version that decided in the newest window, and had enough decisions to tell. One that was far off gives
    way only to a window that ends no earlier and is as long, or a day long: a look at a quiet hour or at last year puts
    no alarm out.
    """
    newest = session.scalars(select(DriftRun).order_by(DriftRun.until_ms.desc(), DriftRun.id.desc()).limit(1)).first()
    if newest is None:
        return None
    judged = select(DriftRun).where(DriftRun.model_version == newest.model_version, DriftRun.level.in_(JUDGED))
    standing: DriftRun | None = None
    for run in session.scalars(judged.order_by(DriftRun.id)):
        if standing is None or standing.level != "alarm" or _answers(run, standing):
            standing = run if standing is None or run.until_ms >= standing.until_ms else standing
    return standing


def _answers(run: DriftRun, alarm: DriftRun) -> bool:
    length = min(alarm.until_ms - alarm.since_ms, DAY_MS)
    return run.level == "alarm" or (run.until_ms >= alarm.until_ms and run.until_ms - run.since_ms >= length)


def newest_drifts(session: Session, limit: int = 50) -> list[DriftRun]:
    """Runs, the one stored last first."""
    return list(session.scalars(select(DriftRun).order_by(DriftRun.id.desc()).limit(limit)))


def figures_of(session: Session, run: DriftRun) -> list[DriftFigure]:
    """The figures of a run: the score, then features by their index, the largest first; those not judged come last."""
    found = session.scalars(select(DriftFigure).where(DriftFigure.run_id == run.id))
    return sorted(found, key=lambda each: (each.kind != "score", each.level == "cycle", -(each.psi or 0.0), each.name))


def drift_numbers(session: Session, run: DriftRun) -> list[Any]:
    """A run's figures without bins: kind, name, psi, level, missing_then and missing_now, the largest psi first."""
    columns = (
        DriftFigure.kind, DriftFigure.name, DriftFigure.psi, DriftFigure.level, DriftFigure.missing_then,
        DriftFigure.missing_now,
    )  # fmt: skip
    order = (sa.func.coalesce(DriftFigure.psi, -1.0).desc(), DriftFigure.name)
    return list(session.execute(select(*columns).where(DriftFigure.run_id == run.id).order_by(*order)))


def figure_over_time(session: Session, kind: str, name: str, limit: int = 50) -> list[tuple[DriftRun, DriftFigure]]:
    """One figure in the newest runs, oldest first."""
    found = session.execute(
        select(DriftRun, DriftFigure)
        .join(DriftFigure, DriftFigure.run_id == DriftRun.id)
        .where(DriftFigure.kind == kind, DriftFigure.name == name)
        .order_by(DriftRun.id.desc())
        .limit(limit)
    )
    return [(run, figure) for run, figure in found][::-1]
