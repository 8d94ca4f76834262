"""Carries out what two people allowed, in steps that may all be done again: the next command goes on.

    check ─► files ─► available ─► parity ─► labels ─► thresholds ─► intended ─► published ─► in force ─► recorded
    ─► let go

One command at a time owns the release (`store.releases`) from before it reads the registry to its end, and makes the
registry agree with the stream first (`release.reconcile`). What it publishes is written down before, and the registry
changes when the journal says that it is active: whatever happens in between, the next command, the guard or
`plumbline models reconcile` records it. An assignment replaces the one that is active and no other, so that one that
comes late is refused by the scorer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from plumbline.assignment import NO_ASSIGNMENT, Assignment
from plumbline.errors import BrokerUnavailable, ModelUnavailable, ModelVersionNotFound, Refused, ReleaseHeld
from plumbline.transaction import SECOND_US
from release import recording, serving, thresholds
from release.assigning import assigned, same_effect
from release.held import require_accepted
from release.publishing import named, send, wait_in_force
from release.reconcile import Reconciled, Stream, reconcile
from release.registering import verify_registered
from release.serving import ModelServer
from release.stages import Registry, Stage, experiment_stopped, experimenting, moves, promoted, rolled_back
from release.state import last_published, registry_of
from store import releases
from store.engine import transaction
from store.model_tables import ModelRequest
from store.models import APPROVED, DONE, REQUEST_SECONDS, ask_alone, model_request, model_version
from store.releases import Owner, owning

STEPS: Final = (
    "check", "files", "available", "parity", "labels", "thresholds", "intended", "published", "in_force", "recorded",
    "let_go",
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

    @property
    def stream(self) -> Stream:
        """What a comparison of registry and journal needs of it."""
        return Stream(self.engine, self.bootstrap, self.prefix, self.now_us)


def carry_out(
    site: Site, request_id: int, gate: Gate, tell: Callable[[str], None] = lambda step: None
) -> dict[str, Any]:
    """Carry out a request that was allowed; returns what was checked. One that is done already changes nothing.

    gate: asked about each version that is to answer from now on and did not, or not as that; tell: called with the name
    of each step when it is done.
    Raises Refused, with which the request is over when it can never succeed; Retryable when a part is away: then the
    same call goes on later.
    """
    request = _asked(site, request_id)
    if request.state == DONE:
        return dict(request.evidence or {})
    urgent = request.kind == "rollback"
    doing = f"request {request_id} ({request.kind})"
    try:
        with owning(site.engine, doing, urgent=urgent, wait_seconds=site.wait_seconds) as owner:
            return _owned(site, owner, request_id, gate, tell)
    except ReleaseHeld:
        # A command that took the release over has recorded what this one published.
        if (request := _asked(site, request_id)).state == DONE:
            return dict(request.evidence or {})
        raise


def _owned(
    site: Site, owner: Owner, request_id: int, gate: Gate, tell: Callable[[str], None]
) -> dict[str, Any]:  # fmt: skip
    request = _asked(site, request_id)
    if request.state == APPROVED:
        with _refusing(site, owner, request):
            _require_fresh(request, site.now_us())
    found = reconcile(site.stream, owner, site.wait_seconds)
    request = _asked(site, request_id)
    if request.state == DONE:
        return dict(request.evidence or {})
    if found.waiting:
        raise BrokerUnavailable(
            f"assignment {found.waiting[0]} is published, and no scorer took it within {site.wait_seconds:.0f} s: when "
            "one runs again, run the same command to go on"
        )
    if request.state != APPROVED:
        error = (request.evidence or {}).get("error")
        why = f" ({error})" if error else ""
        raise Refused(f"request {request_id} is {request.state}{why}: only one that was allowed can be carried out")
    with _refusing(site, owner, request):
        plan = _checked(site, owner, request, found, gate, tell)
    return _applied(site, owner, request, plan, tell)


@contextmanager
def _refusing(site: Site, owner: Owner, request: ModelRequest) -> Iterator[None]:
    """What can never succeed is over, and the registry says why; nothing may be published inside."""
    try:
        yield
    except (Refused, ModelVersionNotFound) as error:
        with transaction(site.engine) as session:
            owner.require(session)
            recording.refuse(session, request, str(error), site.now_us())
        raise


def _asked(site: Site, request_id: int) -> ModelRequest:
    with transaction(site.engine) as session:
        return model_request(session, request_id)


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


@dataclass(slots=True)
class _Plan:
    """What was checked, and what is left to do: the registry before and after, and the assignment, if one is needed."""

    before: Registry
    after: Registry
    assignment: Assignment | None
    evidence: dict[str, Any]


def _checked(
    site: Site, owner: Owner, request: ModelRequest, found: Reconciled, gate: Gate, tell: Callable[[str], None]
) -> _Plan:
    """Everything that comes before a publication: it may be refused, and then nothing has changed for anybody."""
    with transaction(site.engine) as session:
        before, published = registry_of(session), last_published(session)
    after = wanted(before, request)
    tell("check")
    answering = sorted(_answering(after) - _answering(before))
    newly = [each.version for each in moves(before, after) if each.after.stage in SERVING and _newly(each)]
    gated = newly if request.kind in {"promote", "experiment"} else []
    with transaction(site.engine) as session:
        for number in sorted({*answering, *gated}):
            verify_registered(site.models, model_version(session, number))
        for number in gated:
            if after.placed[number].stage in DECIDING:
                require_accepted(model_version(session, number), request)
    tell("files")
    evidence: dict[str, Any] = {**(request.evidence or {}), "files": "verified", "notes": []}
    assignment = _assignment(before, after, request, found.active, published)
    urgent = request.kind == "rollback"
    if assignment is not None:
        _available(evidence, site.server, before, assignment, urgent=urgent)
        tell("available")
    evidence["parity"] = [gate(number) for number in gated]
    tell("parity")
    if assignment is not None:
        owner.check()
        if not urgent:  # labels can wait, accounts cannot
            _labelled(evidence, site.server, after)
        tell("labels")
        # A version's thresholds before its accounts: until the assignment they are nobody's.
        owner.check()
        deciding = [number for number in gated if after.placed[number].stage in DECIDING]
        evidence["thresholds"] = thresholds.bring(
            site.bootstrap, site.prefix, site.models, deciding, _kept(after), site.wait_seconds
        )
        for number in evidence["thresholds"].get("without", ()):
            _note(evidence, f"version {number} has no thresholds beside its files: those of the active policy apply")
        tell("thresholds")
    return _Plan(before, after, assignment, evidence)


def _applied(
    site: Site, owner: Owner, request: ModelRequest, plan: _Plan, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Publish and record. From the publication on nothing is refused but by the scorer."""
    evidence, assignment = plan.evidence, plan.assignment
    if assignment is None:
        with transaction(site.engine) as session:
            owner.require(session)
            recording.record(session, request, plan.before, plan.after, "", evidence, site.now_us())
        tell("recorded")
        return evidence
    with transaction(site.engine) as session:
        owner.require(session)
        if not recording.intend(session, request, plan.before, plan.after, assignment, evidence, site.now_us()):
            raise Refused(f"request {request.id} was withdrawn or refused at this moment: nothing was published")
    tell("intended")
    owner.check()
    sent = send(site.bootstrap, site.prefix, assignment)
    told = _Told(tell)  # what is published is recorded, whatever becomes of who listens
    told("published")
    try:
        wait_in_force(site.bootstrap, site.prefix, sent, site.wait_seconds)
    except Refused:
        reconcile(site.stream, owner)  # which notes the scorer's reason with the request
        raise
    told("in_force")
    evidence["assignment"] = msgspec.to_builtins(assignment)
    with transaction(site.engine) as session:
        owner.require(session)
        found = releases.publication(session, assignment.version)
        if found is not None and found.state != releases.RECORDED:
            recording.record_publication(session, found, site.now_us())
    told("recorded")
    told.again()
    try:
        serving.let_go(site.server, plan.after)
    except (Refused, ModelUnavailable):
        evidence["notes"].append("the server keeps versions that nobody needs: the next change lets them go")
    tell("let_go")
    return evidence


class _Told:
    """Tells of steps, and keeps the first error of the listener until the release has recorded what it did."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._error: Exception | None = None

    def __call__(self, step: str) -> None:
        try:
            self._tell(step)
        except Exception as error:  # noqa: BLE001 - raised by `again`
            self._error = self._error or error

    def again(self) -> None:
        """Raise what was kept."""
        if self._error is not None:
            raise self._error


def _require_fresh(request: ModelRequest, now_us: int) -> None:
    """Raises Refused for what was allowed so long ago that nobody thinks of it any more."""
    if request.approved_at is not None and now_us > request.approved_at + REQUEST_SECONDS * SECOND_US:
        raise Refused(f"request {request.id} was allowed more than {REQUEST_SECONDS // 3600} hours ago: ask again")


def _available(
    evidence: dict[str, Any], server: ModelServer, before: Registry, assignment: Assignment, *, urgent: bool
) -> None:
    """Have the versions served. A server that says nothing does not hold up a rollback: the scorer judges by itself."""
    try:
        _note(evidence, serving.make_available(server, before, assignment.answering))
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


def _assignment(
    before: Registry, after: Registry, request: ModelRequest, active: Assignment | None, published: str
) -> Assignment | None:
    """What the scorer has to be told; None where nothing changes for it. It replaces the active one and no other.

    active: by the journal; published: the registry's own last one. Raises Refused where somebody assigned otherwise.
    """
    replaces = NO_ASSIGNMENT if active is None else active.version
    folded = () if active is None else active.versions
    wish, now = assigned(after, "wish", request.why, replaces, folded), assigned(before, "now")
    if wish is None or (now is not None and same_effect(wish, now) and not request.over):
        return None
    if published and replaces != published and not request.over:
        raise Refused(
            f"assignment {replaces} is active, which the registry did not make (its own is {published}): ask again "
            "with --over to replace it"
        )
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
