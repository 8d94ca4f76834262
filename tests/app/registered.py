"""A registry as a bank's would be after some releases, with a request that waits for a second person."""

from typing import Any

from sqlalchemy.orm import Session

from features import declaration
from store import models
from store.model_tables import ModelChange, ModelRequest, ModelVersion
from store.tables import Assignment

HOUR_US = 3_600_000_000
ENGINEER, SUPERVISOR = "engineer@bank.example", "supervisor@bank.example"
PARITY = {"version": 3, "server": "model:8500", "compared": 10_000, "carried_over": 0, "features": 41,
          "different_scores": 0, "different_features": 0, "first": [], "source": "journal"}  # fmt: skip


def add_models(session: Session, now_us: int) -> None:
    """Version 2 retired when 3 became champion, 4 was rolled back, 5 is a candidate with a request."""
    for number, stage in ((2, "retired"), (3, "champion"), (4, "retired"), (5, "candidate")):
        models.add_version(session, version(number, now_us), ENGINEER)
        if stage != "candidate":
            first = change(number, "shadow", "canary", 10, now_us, evidence={"parity": [PARITY | {"version": number}]})
            last = change(number, "canary", stage, 0, now_us, why="precision held for a week")
            if number == 4:
                last.kind, last.asked_by, last.approved_by, last.why = "rollback", models.GUARD, "", "errors 4 %"
            models.add_changes(session, [first, last])
    session.add(
        Assignment(
            sequence=10**9, version="release-7-0123456789abcdef", fingerprints=[], declarations={}, journaled_at=now_us,
            body={"type": "assignment", "version": "release-7-0123456789abcdef", "decides": 3},
        )
    )  # fmt: skip
    ask(session, now_us)


def ask(session: Session, now_us: int, by: str = ENGINEER) -> ModelRequest:
    """Somebody wants version 5 as a shadow."""
    return models.ask(
        session, kind="promote", version=5, to_stage="shadow", by=by, why="a window of 90 days", now_us=now_us
    )


def version(number: int, now_us: int) -> ModelVersion:
    """A version with everything that a card says."""
    return ModelVersion(
        version=number, name="plumbline", stage="candidate", per_mille=0, trained_at=now_us - 30 * HOUR_US,
        registered_at=now_us - 29 * HOUR_US, made_by=ENGINEER, fingerprint=declaration.fingerprint(),
        train_days="2026-03-01..2026-06-30", test_days="2026-07-08..2026-07-28", archive_digest="a1" * 32, seed=0,
        code_commit="c0ffee" * 6 + "dead", lock_sha256="10" * 32, rows={"train": 1_204_331, "test": 198_120},
        metrics={"auc": 0.98765, "ap": 0.71234, "cp100": 0.31, "ece": 0.0011, "brier": 0.0031, "rows": 198_120.0},
        slices={name: {"rows": 9000.0, "frauds": 21.0, "ap": 0.5, "auc": 0.9, "brier": 0.01, "mean_score": 0.01}
                for name in ("channel=ecom", "channel=pos", "amount_minor=0..2000")},
        files=dict.fromkeys(("saved_model.pb", "assets.extra/policy.json"), f"{number:02}" * 32),
        gate=None, card={},
    )  # fmt: skip


def change(number: int, before: str, after: str, per_mille: int, now_us: int, **facts: Any) -> ModelChange:
    """A change that an engineer asked for and a supervisor allowed."""
    usual: dict[str, Any] = {"why": "", "evidence": {}}
    return ModelChange(
        at=now_us - HOUR_US, version=number, kind="promote", from_stage=before, to_stage=after, per_mille=per_mille,
        asked_by=ENGINEER, approved_by=SUPERVISOR, assignment="", experiment="", request_id=None, **usual | facts,
    )  # fmt: skip
