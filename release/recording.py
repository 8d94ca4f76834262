"""What was carried out is written into the registry, all at once, and what it makes impossible is over."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from plumbline.assignment import Assignment
from release.stages import Placed, Registry, moves
from release.stages import taken_out as without
from release.state import registry_of
from store import models, releases
from store.model_tables import ModelChange, ModelExperiment, ModelRequest
from store.release_tables import ReleasePublication


def record(
    session: Session, request: ModelRequest, before: Registry, after: Registry, assignment: str,
    evidence: dict[str, Any], now_us: int,
) -> None:  # fmt: skip
    """Write a request's changes; the caller owns the release, and commits. What was recorded before is not doubled."""
    found = models.model_request(session, request.id)
    if found.state == models.DONE:
        return
    rows = _rows(
        before, after, kind=request.kind, asked_by=request.asked_by, approved_by=request.approved_by or "",
        why=request.why, evidence=evidence, assignment=assignment, request_id=request.id, now_us=now_us,
    )  # fmt: skip
    if models.finish(session, found, rows, now_us, evidence):
        _experiment(session, request, before, after, now_us)
        if request.kind == "rollback":
            _forget(session, {each.version for each in rows}, request.id, now_us)


def intend(
    session: Session, request: ModelRequest, before: Registry, after: Registry, assignment: Assignment,
    evidence: dict[str, Any], now_us: int,
) -> bool:  # fmt: skip
    """Write down what a request publishes, and what the registry will say then; the caller owns the release, commits.

    Returns False, and writes nothing, when the request may not be applied any more, as when it was withdrawn.
    """
    if not models.begin_applying(session, request):
        return False
    placed = {str(each.version): [each.after.stage, each.after.per_mille] for each in moves(before, after)}
    releases.intend(
        session, assignment=assignment.version, request_id=request.id, body=msgspec.to_builtins(assignment),
        after={"placed": placed, "experiment": after.experiment}, evidence=evidence,
        by=request.approved_by or request.asked_by, now_us=now_us,
    )  # fmt: skip
    return True


def record_publication(session: Session, found: ReleasePublication, now_us: int) -> None:
    """Write the changes of an assignment that came into effect, as they were meant; the caller owns the release.

    The caller commits. Whatever state its request is in: what is active is recorded, and recorded once.
    """
    request, before = models.model_request(session, found.request_id), registry_of(session)
    placed = {int(version): Placed(*place) for version, place in found.after["placed"].items()}
    after = replace(before, placed={**before.placed, **placed}, experiment=found.after["experiment"])
    evidence = {**found.evidence, "assignment": found.body}
    record(session, request, before, after, found.assignment, evidence, now_us)
    releases.end_publication(session, found, releases.RECORDED, "", now_us)


def taken_out(
    session: Session, versions: Collection[int], *, by: str, assignment: str, why: str, evidence: dict[str, Any],
    now_us: int,
) -> list[int]:  # fmt: skip
    """Write that faulty versions were taken out by an assignment in force, once; the versions that moved.

    For the guard, which publishes first and records when the journal says so. Requests for these versions that were not
    carried out are over. The caller commits.
    """
    if models.brought_about(session, assignment):
        return []
    before = registry_of(session)
    after = without(before, versions)
    rows = _rows(
        before, after, kind="rollback", asked_by=by, approved_by="", why=why, evidence=evidence, assignment=assignment,
        request_id=None, now_us=now_us,
    )  # fmt: skip
    models.add_changes(session, rows)
    if before.experiment and not after.experiment:
        _stop(session, by, None, {"why": why, **evidence}, now_us)
    _forget(session, {*versions, *(each.version for each in rows)}, None, now_us)
    return [each.version for each in rows]


def refuse(session: Session, request: ModelRequest, why: str, now_us: int) -> None:
    """Write that a request cannot be carried out; the caller commits."""
    models.refuse(session, request, now_us, {**(request.evidence or {}), "error": why})


def _rows(before: Registry, after: Registry, **facts: Any) -> list[ModelChange]:
    now_us = facts.pop("now_us")
    return [
        ModelChange(
            at=now_us, version=each.version, from_stage="" if each.before is None else each.before.stage,
            to_stage=each.after.stage, per_mille=each.after.per_mille,
            experiment=after.experiment or before.experiment, **facts,
        )
        for each in moves(before, after)
    ]  # fmt: skip


def _experiment(session: Session, request: ModelRequest, before: Registry, after: Registry, now_us: int) -> None:
    if after.experiment and not before.experiment:
        session.add(
            ModelExperiment(
                name=after.experiment, champion=after.champion, arms=request.arms, started_at=now_us,
                started_by=request.asked_by, approved_by=request.approved_by or "", why=request.why,
            )
        )  # fmt: skip
    elif before.experiment and not after.experiment:
        winner = request.version if request.kind == "stop" else None
        _stop(session, request.asked_by, winner, {"why": request.why, **(request.evidence or {})}, now_us)


def _stop(session: Session, by: str, winner: int | None, verdict: dict[str, Any], now_us: int) -> None:
    running = models.running_experiment(session)
    if running is not None:
        running.stopped_at, running.stopped_by, running.winner, running.verdict = now_us, by, winner, verdict


def _forget(session: Session, versions: Collection[int], but: int | None, now_us: int) -> None:
    """Requests for versions that were taken out, allowed or not, must not bring them back by themselves."""
    for each in (*models.open_requests(session, 0), *models.approved_requests(session)):
        meant = {each.version, *map(int, each.arms)}
        if each.id != but and each.kind != "rollback" and meant & set(versions):
            each.state, each.finished_at = models.REFUSED, now_us
            each.evidence = {**(each.evidence or {}), "error": "the version was rolled back meanwhile: ask again"}
