"""Gauges that are read from SQL, so that they stand in one process's metrics whoever stored what they show."""

from sqlalchemy.orm import Session

from observe.metrics import Metrics
from plumbline.transaction import SECOND_US
from store.drifts import drift_numbers, newest_drift


def show_drift(metrics: Metrics, session: Session) -> None:
    """Set the gauges of the newest drift run; a feature without a figure, or too few decisions, has no gauge."""
    run = newest_drift(session)
    if run is None:
        return
    by_feature = metrics.gauge("plumbline_drift_psi")
    missing = metrics.gauge("plumbline_drift_missing_difference")
    for gauge in (by_feature, missing):
        gauge.clear()
    worst = 0.0
    for kind, name, psi, level, missing_then, missing_now in drift_numbers(session, run):
        if psi is None:
            continue
        if kind == "score":
            metrics.gauge("plumbline_drift_score_psi").set(psi)
            continue
        by_feature.labels(name).set(psi)
        missing.labels(name).set(missing_now - missing_then)
        worst = worst if level == "cycle" else max(worst, psi)
    metrics.gauge("plumbline_drift_worst_psi").set(worst)
    metrics.gauge("plumbline_drift_compared").set(run.compared)
    metrics.gauge("plumbline_drift_run_seconds").set(run.finished_at / SECOND_US)
