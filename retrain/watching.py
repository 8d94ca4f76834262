"""Whoever looks on a night: a log line a step, SQL for the console, figures for Prometheus. None can stop it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from observe.metrics import Metrics
from plumbline.clock import Monotonic, MonotonicClock
from plumbline.errors import StoreUnavailable
from retrain.manifest import FINAL, Manifest, StepRecord, write_whole
from retrain.run import Watch
from store.engine import transaction
from store.retrain_tables import RetrainRun
from store.retrains import record

SIGN_SECONDS: Final = 5.0
"""While a step is at work, SQL hears of it this often."""
VERDICTS: Final = ("running", "stopped", "failed", "refused", "registered", "shadowed")
SHOWN_FACTS: Final = 12


class Log:
    """One line a step when it is done, one for what was noticed, and one at the end."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("retrain")
        self._at_work: set[str] = set()

    def changed(self, manifest: Manifest) -> None:
        """A line for each step that was at work and is done now."""
        for each in manifest.steps:
            if each.state == "done" and each.name in self._at_work:
                self._at_work.discard(each.name)
                flat = {name: value for name, value in each.facts.items() if isinstance(value, int | float | str)}
                shown = dict(list(flat.items())[:SHOWN_FACTS])
                self._log.info(
                    "step done", run=manifest.run, step=each.name, seconds=each.seconds, rows=each.rows,
                    digest=each.digest[:16], **{f"fact_{name}": value for name, value in shown.items()},
                )  # fmt: skip
            elif each.state == "running":
                self._at_work.add(each.name)
        if manifest.verdict != "running":
            facts: dict[str, Any] = {
                "verdict": manifest.verdict,
                "seconds": round(manifest.seconds, 1),
                "version": manifest.version,
            }
            self._log.info("night ended", run=manifest.run, error=manifest.error or None, **facts)

    def told(self, step: str, done: int, whole: int) -> None:
        """Nothing: a step has one line."""

    def noticed(self, step: str, what: str) -> None:
        """A warning."""
        self._log.warning("noticed", step=step, what=what)


class InSql:
    """The run's row. A database that is away is asked again at the next change, and the night goes on without."""

    def __init__(self, engine: sa.Engine, tensorboard: str, seconds: MonotonicClock) -> None:
        self._engine, self._tensorboard, self._seconds = engine, tensorboard, seconds
        self._manifest: Manifest | None = None
        self._last = Monotonic(0.0)
        self.away = ""
        """Why the newest change is not in SQL; empty where it is."""

    def changed(self, manifest: Manifest) -> None:
        """Store the row."""
        self._manifest, self._last = manifest, self._seconds()
        try:
            with transaction(self._engine) as session:
                record(session, row_of(manifest, self._tensorboard))
            self.away = ""
        except StoreUnavailable as error:
            self.away = str(error)

    def told(self, step: str, done: int, whole: int) -> None:
        """Say that the run is alive, now and then."""
        if self._manifest is not None and self._seconds() - self._last >= SIGN_SECONDS:
            self.changed(self._manifest)

    def noticed(self, step: str, what: str) -> None:
        """Nothing: it stands in the log."""


class InMetrics:
    """The run's figures as Prometheus gauges: served while it runs, and left in a file for a text-file collector."""

    def __init__(self, metrics: Metrics, file: Path) -> None:
        self._metrics, self._file = metrics, file

    def changed(self, manifest: Manifest) -> None:
        """Set the gauges; the file when the run has ended, for now or for good."""
        gauge = self._metrics.gauge
        for each in manifest.steps:
            gauge("plumbline_retrain_step_seconds").labels(each.name).set(each.seconds)
            gauge("plumbline_retrain_step_rows").labels(each.name).set(each.rows)
        for verdict in VERDICTS:
            gauge("plumbline_retrain_verdict").labels(verdict).set(verdict == manifest.verdict)
        gauge("plumbline_retrain_updated_seconds").set(manifest.updated_at / 1e6)
        if manifest.verdict != "running":
            try:
                write_whole(self._file, self._metrics.text())
            except OSError:
                return  # a full disk: the verdict says so already

    def told(self, step: str, done: int, whole: int) -> None:
        """Nothing."""

    def noticed(self, step: str, what: str) -> None:
        """Nothing."""


class Together:
    """Several that look on."""

    def __init__(self, *each: Watch) -> None:
        self._all = each

    def changed(self, manifest: Manifest) -> None:
        """All of them."""
        for each in self._all:
            each.changed(manifest)

    def told(self, step: str, done: int, whole: int) -> None:
        """All of them."""
        for each in self._all:
            each.told(step, done, whole)

    def noticed(self, step: str, what: str) -> None:
        """All of them."""
        for each in self._all:
            each.noticed(step, what)


def row_of(manifest: Manifest, tensorboard: str) -> RetrainRun:
    """The run as SQL has it."""
    gate = _facts(manifest, "gate")
    return RetrainRun(
        run=manifest.run,
        cut_off=int(manifest.arguments["cut_off_us"]),
        verdict=manifest.verdict,
        step=manifest.step if manifest.verdict not in FINAL or manifest.verdict == "refused" else "",
        started_at=manifest.started_at,
        updated_at=manifest.updated_at,
        finished_at=manifest.finished_at,
        seconds=manifest.seconds,
        attempts=manifest.attempts,
        version=manifest.version,
        champion=manifest.champion,
        rows=int(_facts(manifest, "rows").get("rows_train", 0)),
        arguments=manifest.arguments,
        steps=[
            {
                "name": each.name,
                "state": each.state,
                "seconds": each.seconds,
                "rows": each.rows,
                "facts": _flat(each),
                "inputs": each.inputs,
                "outputs": each.outputs,
                "digest": each.digest if each.state == "done" else "",
            }
            for each in manifest.steps
        ],
        gate=gate.get("gate"),
        metrics=gate.get("metrics"),
        error=manifest.error,
        tensorboard=tensorboard[:255],
        host=manifest.host[:255],
    )


def _flat(step: StepRecord) -> dict[str, Any]:
    return {name: value for name, value in step.facts.items() if not isinstance(value, dict)}


def _facts(manifest: Manifest, step: str) -> Mapping[str, Any]:
    return next((each.facts for each in manifest.steps if each.name == step), {})
