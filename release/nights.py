"""What the nightly retrain may change by itself: a candidate that the gate passed comes into the shadow.

A shadow has no say in any decision, so no second person is asked. It may also retire a shadow that a night brought in
and that nobody has asked anything about, where there are as many as there may be. All else takes two people.
"""

from typing import Any

from sqlalchemy.orm import Session

from plumbline.errors import Refused
from release.stages import SHADOWS_MOST, Registry
from release.state import registry_of
from store import models
from store.model_tables import ModelRequest
from store.models import APPLYING, APPROVED, NIGHT, WAITING


def ask_for_shadow(session: Session, version: int, *, why: str, now_us: int) -> ModelRequest:
    """The night's request that a candidate becomes a shadow; one that was not carried out is found again.

    The caller commits. Raises Refused for a version that the gate did not pass, or that is no candidate any more.
    """
    stage = registry_of(session).of(version).stage
    if (found := _asked(session, version, "shadow")) is not None:
        return found
    if stage != "candidate":
        raise Refused(f"version {version} is {stage}: a night brings only a candidate into the shadow")
    gate = models.model_version(session, version).gate or {}
    if gate.get("verdict") != "passed":
        raise Refused(
            f"version {version} was not passed by the gate ({gate.get('verdict')}): a night leaves it to people"
        )
    return models.ask_alone(
        session, kind="promote", by=NIGHT, now_us=now_us, version=version, why=why, to_stage="shadow", over=False
    )


def ask_to_make_room(session: Session, version: int, *, now_us: int) -> ModelRequest | None:
    """The night's request that its oldest shadow retires, where there is no room for another one; None where there is.

    version: the one to come. The caller commits. Raises Refused when the shadows are people's, or asked about.
    """
    registry = registry_of(session)
    shadows = registry.at("shadow")
    if version in shadows or len(shadows) < SHADOWS_MOST:
        return None
    ours = [each for each in shadows if _is_the_nights(session, registry, each)]
    if not ours:
        raise Refused(
            f"versions {shadows} are shadows, {SHADOWS_MOST} at most, and people brought them in or ask about them: "
            f"retire one, and bring version {version} in with `plumbline models promote {version} --to shadow`"
        )
    if (found := _asked(session, ours[0], "retired")) is not None:
        return found
    why = f"makes room for version {version}, which is newer"
    return models.ask_alone(
        session, kind="promote", by=NIGHT, now_us=now_us, version=ours[0], why=why, to_stage="retired", over=False
    )


def evidence_of(request: ModelRequest) -> dict[str, Any]:
    """What was checked when a request was carried out."""
    return dict(request.evidence or {})


def _asked(session: Session, version: int, to_stage: str) -> ModelRequest | None:
    for each in models.approved_requests(session):
        if (each.asked_by, each.kind, each.version, each.to_stage) == (NIGHT, "promote", version, to_stage):
            return each
    return None


def _is_the_nights(session: Session, registry: Registry, version: int) -> bool:
    newest = models.changes(session, version)[-1]
    waiting = [
        each
        for each in models.newest_requests(session, limit=500)
        if each.state in {WAITING, APPROVED, APPLYING} and each.asked_by != NIGHT
    ]
    asked_about = any(version in {each.version, *map(int, each.arms)} for each in waiting)
    return newest.asked_by == NIGHT and not asked_about
