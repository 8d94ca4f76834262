"""Carries out what two people allowed, in steps that may all be done again: whoever is killed between two goes on.

    check ─► files ─► available ─► parity ─► labels ─► thresholds ─► published ─► in force ─► recorded ─► let go

Nothing is remembered between steps but what the parts themselves hold: files, the model server, the control topic, the
journal, SQL. The same command reads it all again, and so ends in the same state. SQL is written last and at one stroke,
so the registry never says what is not in force; until then `plumbline models list` shows the difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from plumbline.assignment import Assignment
from plumbline.errors import ModelUnavailable, ModelVersionNotFound, Refused
from plumbline.transaction import SECOND_US
from release import recording, serving, thresholds
from release.assigning import assigned, same_effect
from release.publishing import named, publish_once, wait_in_force
from release.registering import verify_registered
from release.serving import ModelServer
from release.stages import Registry, Stage, experiment_stopped, experimenting, moves, promoted, rolled_back
from release.state import last_published, registry_of
from store.engine import transaction
from store.model_tables import ModelRequest
from store.models import APPROVED, DONE, REQUEST_SECONDS, ask_alone, model_request, model_version

STEPS: Final = (
    "check", "files", "available", "parity", "labels", "thresholds", "published", "in_force", "recorded", "let_go",
)  # fmt: skip
SERVING: Final[frozenset[Stage]] = frozenset({"shadow", "canary", "champion"})
DECIDING: Final[frozenset[Stage]] = frozenset({"canary", "champion"})

Gate = Callable[[int], dict[str, Any]]
"""Judges a version that is served, by its number; returns its evidence, or raises Refused."""


@dataclass(frozen=True, slots=True)
class Site:
    """One installation: where SQL, Kafka, the model server and the versions' files are.

    now_us: our clock; wait_seconds: how long a scorer may take to obey.
    """

    engine: sa.Engine
    bootstrap: str
    prefix: str
    server: ModelServer
    models: Path
    now_us: Callable[[], int]
    wait_seconds: float = 60.0


def carry_out(
    site: Site, request_id: int, gate: Gate, tell: Callable[[str], None] = lambda step: None
) -> dict[str, Any]:
    """Carry out a request that was allowed; returns what was checked. One that is done already changes nothing.

    gate: asked about each version that is to answer from now on and did not, or not as that; tell: called with the name
    of each step when it is done.
    Raises Refused, with which the request is over when it can never succeed; Retryable when a part is away: then the
    same call goes on later.
    """
    with transaction(site.engine) as session:
        request = model_request(session, request_id)
        if request.state == DONE:
            return dict(request.evidence or {})
        if request.state != APPROVED:
            raise Refused(f"request {request_id} is {request.state}: only one that was allowed can be carried out")
        before, published = registry_of(session), last_published(session)
    try:
        return _steps(site, request, before, published, gate, tell)
    except (Refused, ModelVersionNotFound) as error:
        with transaction(site.engine) as session:
            recording.refuse(session, request, str(error), site.now_us())
        raise


def roll_back(
    site: Site, version: int | None, *, by: str, why: str, tell: Callable[[str], None] = lambda step: None
) -> dict[str, Any]:
    """Take a canary's or an arm's accounts away, or bring the former champion back, as one person may.

    by: a log-in, or `guard`. Nothing is gated: what comes back decided before. Raises as `carry_out`.
    """
    with transaction(site.engine) as session:
        wish = ask_alone(session, kind="rollback", by=by, now_us=site.now_us(), version=version, why=why)
        number = wish.id
    return carry_out_ungated(site, number, tell)


def carry_out_ungated(
    site: Site, request_id: int, tell: Callable[[str], None] = lambda step: None
) -> dict[str, Any]:  # fmt: skip
    """As `carry_out`, for what no gate is asked about: a rollback, and the end of an experiment."""
    return carry_out(site, request_id, _no_gate, tell)


def wanted(before: Registry, request: ModelRequest) -> Registry:
    """The registry that a request asks for. Raises Refused, ModelVersionNotFound."""
    match request.kind:
        case "promote":
            assert request.version is not None
            return promoted(before, request.version, request.to_stage, request.per_mille)  # type: ignore[arg-type]
        case "rollback":
            return rolled_back(before, request.version)
        case "experiment":
            return experimenting(before, request.name, {int(each): share for each, share in request.arms.items()})
        case "stop":
            return experiment_stopped(before, request.version)
        case kind:
            raise Refused(f"request {request.id} is a {kind}, which this release does not know")


def _steps(
    site: Site, request: ModelRequest, before: Registry, published: str, gate: Gate, tell: Callable[[str], None]
) -> dict[str, Any]:
    after = wanted(before, request)
    _require_fresh(request, site.now_us())
    tell("check")
    answering = sorted(_answering(after) - _answering(before))
    newly = [each.version for each in moves(before, after) if each.after.stage in SERVING and _newly(each)]
    gated = newly if request.kind in {"promote", "experiment"} else []
    with transaction(site.engine) as session:
        for number in sorted({*answering, *gated}):
            verify_registered(site.models, model_version(session, number))
    tell("files")
    evidence: dict[str, Any] = {**(request.evidence or {}), "files": "verified", "notes": []}
    replaces = request.name if request.kind == "rollback" else "" if request.over else published
    assignment = _assignment(before, after, request, replaces)
    urgent = request.kind == "rollback"
    if assignment is not None:
        _available(evidence, site.server, before, assignment, urgent=urgent)
        tell("available")
    evidence["parity"] = [gate(number) for number in gated]
    tell("parity")
    if assignment is not None:
        if not urgent:  # labels can wait, accounts cannot
            _labelled(evidence, site.server, after)
        tell("labels")
        # A version's thresholds before its accounts: until the assignment they are nobody's.
        deciding = [number for number in gated if after.placed[number].stage in DECIDING]
        evidence["thresholds"] = thresholds.bring(
            site.bootstrap, site.prefix, site.models, deciding, _kept(after), site.wait_seconds
        )
        tell("thresholds")
        offset = publish_once(site.bootstrap, site.prefix, assignment)
        tell("published")
        wait_in_force(site.bootstrap, site.prefix, offset, site.wait_seconds)
        evidence["assignment"] = msgspec.to_builtins(assignment)
        tell("in_force")
    name = "" if assignment is None else assignment.version
    with transaction(site.engine) as session:
        recording.record(session, request, before, after, name, evidence, site.now_us())
    tell("recorded")
    if assignment is not None:
        try:
            serving.let_go(site.server, after)
        except (Refused, ModelUnavailable):
            evidence["notes"].append("the server keeps versions that nobody needs: the next change lets them go")
        tell("let_go")
    return evidence


def _require_fresh(request: ModelRequest, now_us: int) -> None:
    """Raises Refused for what was allowed so long ago that nobody thinks of it any more."""
    if request.approved_at is not None and now_us > request.approved_at + REQUEST_SECONDS * SECOND_US:
        raise Refused(f"request {request.id} was allowed more than {REQUEST_SECONDS // 3600} hours ago: ask again")


def _available(
    evidence: dict[str, Any], server: ModelServer, before: Registry, assignment: Assignment, *, urgent: bool
) -> None:
    """Have the versions served. A server that says nothing does not hold up a rollback: the scorer judges by itself."""
    try:
        _note(evidence, serving.make_available(server, before, assignment.versions))
    except ModelUnavailable as error:
        if not urgent:
            raise
        _note(evidence, f"the model server was not asked: {error}")


def _labelled(evidence: dict[str, Any], server: ModelServer, after: Registry) -> None:
    """Move the labels. What decides is the assignment by numbers, so a server without labels stops nothing."""
    try:
        _note(evidence, serving.move_labels(server, after))
    except Refused as error:
        _note(evidence, f"labels were not moved: {error}")


def _assignment(before: Registry, after: Registry, request: ModelRequest, replaces: str) -> Assignment | None:
    """What the scorer has to be told; None where nothing changes for it."""
    wish, now = assigned(after, "wish", request.why, replaces), assigned(before, "now")
    if wish is None or (now is not None and same_effect(wish, now) and not request.over):
        return None
    return named(wish, request.id)


def _kept(registry: Registry) -> frozenset[int]:
    """Versions whose thresholds stay in the policy: those that decide, or to which a rollback may return."""
    return frozenset({*registry.former, *(n for n, each in registry.placed.items() if each.stage in DECIDING)})


def _answering(registry: Registry) -> set[int]:
    return {version for version, each in registry.placed.items() if each.stage in SERVING}


def _newly(move: Any) -> bool:
    return move.before is None or move.before.stage != move.after.stage


def _note(evidence: dict[str, Any], note: str) -> None:
    if note and note not in evidence["notes"]:
        evidence["notes"].append(note)


def _no_gate(version: int) -> dict[str, Any]:
    raise AssertionError(f"no gate is asked about version {version} here")
