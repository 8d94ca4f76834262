"""A drift run as rows of the store and as one JSON object."""

from typing import Any

from drift.measure import Drift, Measured
from drift.stability import Figure
from store.tables import DriftFigure, DriftRun


def rows_of(drift: Drift, measured: Measured, started_at: int, finished_at: int) -> tuple[DriftRun, list[DriftFigure]]:
    """A version's run and its figures, not stored yet; times in microseconds since 1970 UTC."""
    run = DriftRun(
        started_at=started_at,
        finished_at=finished_at,
        since_ms=measured.window.since_ms,
        until_ms=measured.window.until_ms,
        model_version=drift.model_version,
        trained=drift.train,
        compared=drift.compared,
        level=drift.level,
    )
    return run, [_row("score", drift.score), *(_row("feature", each) for each in drift.features)]


def _row(kind: str, figure: Figure) -> DriftFigure:
    return DriftFigure(
        kind=kind,
        name=figure.binned.name,
        psi=figure.psi,
        level=figure.level,
        missing_then=figure.missing_then,
        missing_now=figure.missing_now,
        bins={
            "edges": list(figure.binned.edges),
            "words": list(figure.binned.words),
            "then": list(figure.binned.counts),
            "now": list(figure.now),
        },
    )


def facts_of(measured: Measured) -> dict[str, Any]:
    """Everything that a pass found, for `--json`."""
    return {
        "since_ms": measured.window.since_ms,
        "until_ms": measured.window.until_ms,
        "one_of": measured.window.every,
        "unscored": measured.unscored,
        "other_declaration": measured.other_declaration,
        "not_compared": {str(version): why for version, why in measured.not_compared.items()},
        "runs": [_run(each) for each in measured.drifts],
    }


def _run(drift: Drift) -> dict[str, Any]:
    worst = drift.worst_feature
    return {
        "model_version": drift.model_version,
        "trained": drift.train,
        "compared": drift.compared,
        "level": drift.level,
        "score_psi": drift.score.psi,
        "worst_psi": worst.psi if worst else None,
        "worst_feature": worst.binned.name if worst else None,
        "features": {
            each.binned.name: {
                "psi": each.psi,
                "level": each.level,
                "missing_then": each.missing_then,
                "missing_now": each.missing_now,
            }
            for each in drift.features
        },
    }
