"""The model registry in SQL: versions, who asked for which change, who allowed it, and every change there was.

The rule of the second person stands here, as both the command line and the console ask for it. Which change of a stage
is lawful is `release.stages`' to say; nothing here alters a row of `model_changes`.
"""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from plumbline.errors import Invalid, ModelVersionNotFound, NotFound, Refused
from plumbline.transaction import SECOND_US
from store.model_tables import ModelChange, ModelExperiment, ModelRequest, ModelVersion
from store.people import User
from store.tables import Assignment
from store.users import user

RELEASERS: Final = ("engineer", "supervisor")
"""Roles that may ask for a release or allow one."""
GUARD: Final = "guard"
"""The name under which the guarding process rolls back; no person may have it."""
NIGHT: Final = "retrain"
"""The name under which the nightly retrain brings a candidate into the shadow; no person may have it either."""
JOBS: Final = {GUARD: "the guarding process", NIGHT: "the nightly retrain"}
REQUEST_SECONDS: Final = 72 * 3600
"""A request that nobody allowed within three days is none any more."""
WAITING, APPROVED, DONE, REFUSED, WITHDRAWN = "waiting", "approved", "done", "refused", "withdrawn"
APPLYING: Final = "applying"
"""From just before its assignment is published until what became of that is recorded."""


def add_version(session: Session, version: ModelVersion, by: str) -> ModelVersion:
    """Register a version as a candidate, with its first change; the caller commits. Raises Refused if it is there."""
    if session.get(ModelVersion, version.version) is not None:
        raise Refused(f"version {version.version} is registered already")
    try:
        with session.begin_nested():
            session.add(version)
    except sa.exc.IntegrityError as error:  # by another process, between the look and the row
        raise Refused(f"version {version.version} is registered already") from error
    session.add(
        ModelChange(
            at=version.registered_at, version=version.version, kind="register", from_stage="", to_stage=version.stage,
            per_mille=0, asked_by=by, approved_by="", why="", evidence={}, assignment="", experiment="",
        )
    )  # fmt: skip
    session.flush()
    return version


def model_version(session: Session, number: int) -> ModelVersion:
    """A registered version. Raises ModelVersionNotFound."""
    found = session.get(ModelVersion, number)
    if found is None:
        raise ModelVersionNotFound(f"the registry has no version {number}: `plumbline models register {number}`")
    return found


def model_versions(session: Session) -> list[ModelVersion]:
    """Every registered version, the newest first."""
    return list(session.scalars(select(ModelVersion).order_by(ModelVersion.version.desc())))


def changes(session: Session, version: int | None = None) -> list[ModelChange]:
    """Every change of one version or of all, in the order in which they came."""
    wanted = select(ModelChange).order_by(ModelChange.id)
    return list(session.scalars(wanted if version is None else wanted.where(ModelChange.version == version)))


def newest_assignment(session: Session) -> Assignment | None:
    """The newest assignment that the ledger stored from the journal; its body is None for a first declaration."""
    return session.scalars(select(Assignment).order_by(Assignment.sequence.desc()).limit(1)).one_or_none()


def brought_about(session: Session, assignment: str) -> bool:
    """Whether an assignment of this name is behind a change."""
    return session.scalar(select(ModelChange.id).where(ModelChange.assignment == assignment).limit(1)) is not None


def releaser(session: Session, name: str) -> User:
    """The person who asks for or allows a release. Raises UserNotFound, Refused without a fitting role or disabled."""
    person = user(session, unicodedata.normalize("NFKC", name))
    if person.email in JOBS:
        raise Refused(f"{person.email} is {JOBS[person.email]} and no person: give another name")
    if not person.active:
        raise Refused(f"{person.email} is disabled: `plumbline users enable {person.email}` lets them in")
    roles = {role.name for role in person.roles}
    if not roles & set(RELEASERS):
        have = ", ".join(sorted(roles)) or "no role"
        raise Refused(f"{person.email} is {have}: expected {' or '.join(RELEASERS)}")
    return person


def ask(
    session: Session, *, kind: str, by: str, now_us: int, version: int | None = None, to_stage: str = "",
    per_mille: int = 0, arms: dict[str, int] | None = None, name: str = "", why: str = "", over: bool = False,
    evidence: dict[str, Any] | None = None,
) -> ModelRequest:  # fmt: skip
    """File a request, which waits for a second person; the caller commits. evidence: what it is asked for.

    One that asks for the same and still waits is not doubled. Raises Refused, UserNotFound, ModelVersionNotFound.
    """
    person = releaser(session, by)
    if version is not None:
        model_version(session, version)
    for each in open_requests(session, now_us):
        asked = (each.kind, each.version, each.to_stage, each.per_mille, each.arms, each.name, each.over, each.asked_by)
        if asked == (kind, version, to_stage, per_mille, arms or {}, name, over, person.email):
            return each
    request = ModelRequest(
        kind=kind, version=version, to_stage=to_stage, per_mille=per_mille, arms=arms or {}, name=name, why=why,
        over=over, asked_by=person.email, asked_at=now_us, expires_at=now_us + REQUEST_SECONDS * SECOND_US,
        state=WAITING, evidence=evidence,
    )  # fmt: skip
    session.add(request)
    session.flush()
    return request


def ask_alone(
    session: Session, *, kind: str, by: str, now_us: int, version: int | None, why: str,
    evidence: dict[str, Any] | None = None, to_stage: str = "", over: bool = True,
) -> ModelRequest:  # fmt: skip
    """File a request that needs nobody else, as a rollback or the end of an experiment; the caller commits.

    by: a releaser, or a job of JOBS, whose own rules say what it may ask for; evidence: what it is asked for.
    Raises Refused, UserNotFound, ModelVersionNotFound.
    """
    name = by if by in JOBS else releaser(session, by).email
    if version is not None:
        model_version(session, version)
    request = ModelRequest(
        kind=kind, version=version, to_stage=to_stage, per_mille=0, arms={}, name="", why=why, over=over, asked_by=name,
        asked_at=now_us, expires_at=now_us + REQUEST_SECONDS * SECOND_US, state=APPROVED, evidence=evidence,
    )  # fmt: skip
    session.add(request)
    session.flush()
    return request


def approve(session: Session, request_id: int, *, by: str, now_us: int) -> ModelRequest:
    """Allow a request as a second person; the caller commits. A second time by the same person changes nothing.

    Raises NotFound, UserNotFound; Refused for who asked for it, without a role, too late, or when it waits no more.
    """
    person = releaser(session, by)
    request = model_request(session, request_id)
    if request.asked_by == person.email:
        raise Refused(f"{person.email} asked for request {request_id}, and so cannot allow it: a second person must")
    if request.state == APPROVED and request.approved_by == person.email:
        return request
    if request.state != WAITING:
        raise Refused(f"request {request_id} is {request.state}: only one that waits can be allowed")
    if now_us > request.expires_at:
        hours = REQUEST_SECONDS // 3600
        raise Refused(f"request {request_id} is older than {hours} hours: ask again, since things may have changed")
    # By one statement, so that of two people at the same moment one is the second and the other hears of it.
    allowed = session.execute(
        sa.update(ModelRequest)
        .where(ModelRequest.id == request_id, ModelRequest.state == WAITING)
        .values(state=APPROVED, approved_by=person.email, approved_at=now_us)
    )
    if allowed.rowcount != 1:  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives
        raise Refused(f"request {request_id} was allowed or withdrawn by somebody else at this moment: look again")
    session.refresh(request)
    return request


def allowed(
    session: Session, meant: Callable[[ModelRequest], bool], *, by: str, now_us: int
) -> ModelRequest:  # fmt: skip
    """Allow the oldest waiting request that is meant, or find the one that this person allowed before.

    The caller commits. Raises Refused when nobody asked, and as `approve`.
    """
    for each in open_requests(session, now_us):
        if meant(each):
            return approve(session, each.id, by=by, now_us=now_us)
    person = releaser(session, by).email
    for each in newest_requests(session):
        if meant(each) and each.approved_by == person and each.state in {APPROVED, APPLYING, DONE}:
            return each
    raise Refused("nobody asked for this, or it is too old: ask first, without --approve")


def withdraw(session: Session, request_id: int, *, by: str, now_us: int) -> ModelRequest:
    """Take a request back that was not carried out: who asked, or any other releaser; the caller commits."""
    person = releaser(session, by)
    request = model_request(session, request_id)
    withdrawn = session.execute(
        sa.update(ModelRequest)
        .where(ModelRequest.id == request_id, ModelRequest.state.in_([WAITING, APPROVED]))
        .values(state=WITHDRAWN, finished_at=now_us, evidence={"withdrawn_by": person.email})
    )
    session.refresh(request)
    if withdrawn.rowcount == 1:  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives
        return request
    if request.state == APPLYING:
        raise Refused(
            f"request {request_id} is already published: `plumbline models reconcile` records what became of it, and "
            "`plumbline models rollback` undoes it"
        )
    raise Refused(f"request {request_id} is {request.state}: there is nothing to take back")


def model_request(session: Session, request_id: int) -> ModelRequest:
    """A request. Raises NotFound."""
    found = session.get(ModelRequest, request_id)
    if found is None:
        raise NotFound(f"there is no request {request_id}: `plumbline models list` shows those that wait")
    return found


def open_requests(session: Session, now_us: int) -> list[ModelRequest]:
    """Requests that wait for a second person, the oldest first, without those that expired."""
    wanted = select(ModelRequest).where(ModelRequest.state == WAITING, ModelRequest.expires_at >= now_us)
    return list(session.scalars(wanted.order_by(ModelRequest.id)))


def approved_requests(session: Session) -> list[ModelRequest]:
    """Requests that were allowed and are not carried out to the end, rollbacks first, then the oldest."""
    wanted = select(ModelRequest).where(ModelRequest.state.in_([APPROVED, APPLYING]))
    return list(session.scalars(wanted.order_by(ModelRequest.kind != "rollback", ModelRequest.id)))


def newest_requests(session: Session, limit: int = 50) -> list[ModelRequest]:
    """Requests of every state, the newest first."""
    return list(session.scalars(select(ModelRequest).order_by(ModelRequest.id.desc()).limit(limit)))


def running_experiment(session: Session) -> ModelExperiment | None:
    """The experiment that runs, if one does."""
    return session.scalars(select(ModelExperiment).where(ModelExperiment.stopped_at.is_(None))).one_or_none()


def experiments(session: Session) -> list[ModelExperiment]:
    """Every experiment, the newest first."""
    return list(session.scalars(select(ModelExperiment).order_by(ModelExperiment.started_at.desc())))


def finish(
    session: Session, request: ModelRequest, moved: Sequence[ModelChange], now_us: int, evidence: dict[str, Any]
) -> bool:
    """Record what a request changed, all at once, with the stages that follow; the caller commits.

    Whatever state the request was in: what is active is recorded. Returns False, and changes nothing, when somebody
    recorded it before.
    """
    done = session.execute(
        sa.update(ModelRequest)
        .where(ModelRequest.id == request.id, ModelRequest.state != DONE)
        .values(state=DONE, finished_at=now_us, evidence=evidence)
    )
    if done.rowcount != 1:  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives
        return False
    add_changes(session, moved)
    return True


def add_changes(session: Session, moved: Sequence[ModelChange]) -> None:
    """Add changes, and set the stages that they lead to; the caller commits."""
    for each in moved:
        session.add(each)
        version = model_version(session, each.version)
        version.stage, version.per_mille = each.to_stage, each.per_mille
    session.flush()


def refuse(session: Session, request: ModelRequest, now_us: int, evidence: dict[str, Any]) -> None:
    """Record that a request was allowed and yet cannot be carried out, and why; the caller commits."""
    session.execute(
        sa.update(ModelRequest)
        .where(ModelRequest.id == request.id, ModelRequest.state.in_([APPROVED, APPLYING]))
        .values(state=REFUSED, finished_at=now_us, evidence=evidence)
    )


def begin_applying(session: Session, request: ModelRequest) -> bool:
    """Note that a request's assignment is about to be published; False where it may not be any more."""
    begun = session.execute(
        sa.update(ModelRequest)
        .where(ModelRequest.id == request.id, ModelRequest.state == APPROVED)
        .values(state=APPLYING)
    )
    return bool(begun.rowcount == 1)  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives


def allowed_again(session: Session, request_id: int) -> None:
    """Note that a request's assignment was not published after all: it may be applied again, or withdrawn."""
    session.execute(
        sa.update(ModelRequest)
        .where(ModelRequest.id == request_id, ModelRequest.state == APPLYING)
        .values(state=APPROVED)
    )


def set_gate(session: Session, number: int, gate: dict[str, Any]) -> None:
    """Keep what a judgement on a version's quality said; the caller commits."""
    if "verdict" not in gate:
        raise Invalid("gate", "verdict", None, "a word such as `passed` or `failed` beside what it was judged by")
    model_version(session, number).gate = gate
