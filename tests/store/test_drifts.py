"""Drift runs are kept with their figures, the newest first, and the oldest go."""

from typing import Any

import pytest
import sqlalchemy as sa

from store import drifts
from store.drifts import figure_over_time, figures_of, newest_drift, newest_drifts, record_drift
from store.engine import transaction
from store.tables import DriftFigure, DriftRun


def run(**changes: Any) -> DriftRun:
    usual: dict[str, Any] = {
        "started_at": 1, "finished_at": 2, "since_ms": 0, "until_ms": 5, "model_version": 1, "trained": "a..b",
        "compared": 10, "level": "calm",
    }  # fmt: skip
    return DriftRun(**usual | changes)


def figure(name: str, psi: float | None, kind: str = "feature", level: str = "calm") -> DriftFigure:
    bins = {"edges": [0.5], "words": [], "then": [1, 2, 3], "now": [3, 2, 1]}
    return DriftFigure(kind=kind, name=name, psi=psi, level=level, missing_then=1 / 6, missing_now=1 / 2, bins=bins)


def test_a_run_is_found_with_the_score_first_and_then_the_largest_index(engine: sa.Engine) -> None:
    with transaction(engine) as session:
        assert newest_drift(session) is None
        figures = [figure("b", 0.1), figure("a", 0.1), figure("few", None), figure("top", 2.5)]
        figures.append(figure("clock", 9.0, level="cycle"))
        record_drift(session, run(), [*figures, figure("score", 0.01, "score")])
        record_drift(session, run(model_version=2), [figure("a", 0.3)])
    with transaction(engine) as session:
        newest, first = newest_drifts(session)
        assert (newest.model_version, first.model_version) == (2, 1)
        assert newest_drift(session) is newest
        assert [each.name for each in figures_of(session, first)] == ["score", "top", "a", "b", "few", "clock"]
        assert figures_of(session, first)[1].bins["now"] == [3, 2, 1]
        assert [found.psi for _, found in figure_over_time(session, "feature", "a")] == [0.1, 0.3]


def test_only_the_newest_runs_are_kept(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifts, "RUNS_KEPT", 3)
    for number in range(7):
        with transaction(engine) as session:
            record_drift(session, run(compared=number), [figure("a", float(number))])
    with transaction(engine) as session:
        assert [each.compared for each in newest_drifts(session)] == [6, 5, 4]
        assert session.scalar(sa.select(sa.func.count()).select_from(DriftFigure)) == 3
