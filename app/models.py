"""The model registry: versions with their stages, requests that wait for a second person, and every change there was.

The console records that somebody allows a request, and nothing else: files, parity and the model server are where
`plumbline models carry-out` runs, which does what was allowed.
"""

from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, abort, current_app, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from flask_security import roles_accepted

from app.access import person
from app.card import POLICY, card_page
from app.database import engine, store
from app.languages import percent
from app.news import now_us
from app.protection import OWN_POLICY
from plumbline.declines import decline_share
from plumbline.errors import ModelVersionNotFound, NotFound, Refused
from store import models
from store.engine import transaction
from store.model_tables import ModelRequest, ModelVersion

blueprint = Blueprint("models", __name__, url_prefix="/models")

STAGE_ICONS: Final = {"champion": "approve", "canary": "review", "shadow": "note"}
FOLDER: Final = "plumbline.models"
"""Under this name the application knows the folder of the versions on this machine."""
HEADLINES: Final = (
    "ap", "ap_unblocked", "auc", "auc_unblocked", "cp100", "cp100_unblocked", "ece", "ece_unblocked", "brier",
    "brier_unblocked", "review_precision", "review_recall",
)  # fmt: skip
"""Metrics that a page shows, the most telling first."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The newest assignment that the ledger stored; differs: whether the registry wishes another one."""

    name: str
    decides: int
    arms: list[tuple[int, int]]
    shadows: list[int]
    since: int
    differs: bool


@blueprint.get("")
def page() -> ResponseReturnValue:
    """Versions, what waits, what is in force, and the newest changes."""
    versions = models.model_versions(store())
    return render_template(
        "models.html",
        versions=versions,
        wanted=[(each, why_not(each)) for each in models.open_requests(store(), now_us())],
        approved=models.approved_requests(store()),
        changes=models.changes(store())[:-51:-1],
        experiment=models.running_experiment(store()),
        in_force=in_force(versions),
        now=now_us(),
        **_words(),
    )


@blueprint.get("/<int:number>")
def version(number: int) -> ResponseReturnValue:
    """One version: the facts of its making, its metrics, what its gates found, its files and its history."""
    try:
        found = models.model_version(store(), number)
    except ModelVersionNotFound:
        abort(404)
    changes = models.changes(store(), number)
    return render_template(
        "model.html",
        version=found,
        changes=changes[::-1],
        gates=[gate for each in changes for gate in each.evidence.get("parity", []) if gate.get("version") == number],
        metrics=[(name, found.metrics[name]) for name in HEADLINES if name in found.metrics],
        slices=sorted(found.slices.items()),
        has_card=card_page(current_app.extensions[FOLDER], found) is not None,
        findings=gate_findings(found),
        held=held_words(found),
        now=now_us(),
        **_words(),
    )


@blueprint.get("/<int:number>/card")
def card(number: int) -> ResponseReturnValue:
    """The version's card for people, as it lies beside the version; see `app.card`."""
    try:
        page = card_page(current_app.extensions[FOLDER], models.model_version(store(), number))
    except ModelVersionNotFound:
        abort(404)
    if page is None:
        abort(404)
    return Response(page, content_type="text/html; charset=utf-8", headers={OWN_POLICY: POLICY})


@blueprint.post("/requests/<int:number>/approve")
@roles_accepted(*models.RELEASERS)
def approve(number: int) -> ResponseReturnValue:
    """Records that the person who is logged in allows a request; who asked for it cannot."""
    try:
        with transaction(engine()) as session:
            models.approve(session, number, by=person().email, now_us=now_us())
    except NotFound:
        abort(404)
    except Refused:
        store().expire_all()
        flash(_refusal(models.model_request(store(), number)), "error")
    else:
        flash(gettext("Request %(number)s is allowed; it waits to be carried out.", number=number), "good")
    return redirect(url_for("models.page"), 303)


def gate_findings(found: ModelVersion) -> list[tuple[bool, str]]:
    """What the quality gate found of a version, the refusals first: whether it passed, and a sentence."""
    checks = (found.gate or {}).get("checks", [])
    words = "words_zh" if str(get_locale()).startswith("zh") else "words"
    judged = [(bool(each["passed"]), str(each[words])) for each in checks if each.get("judged")]
    return sorted(judged, key=lambda each: each[0])


def held_words(found: ModelVersion) -> str:
    """Why a version decides only once a person accepted it; empty where it is not held."""
    share = decline_share(found.card or {})
    if share is None:
        return ""
    return str(gettext("Held: its thresholds would decline %(share)s of all payments.", share=percent(share)))


def why_not(request: ModelRequest) -> str:
    """Why the person who is logged in may not allow a request; empty where they may."""
    if not any(person().has_role(role) for role in models.RELEASERS):
        return str(gettext("Engineers and supervisors may allow it."))
    if request.asked_by == person().email:
        return str(gettext("You asked for it: a second person must allow it."))
    return ""


def in_force(versions: list[ModelVersion]) -> InForce | None:
    """What the journal says is in force; None before any assignment."""
    found = models.newest_assignment(store())
    if found is None or found.body is None:
        return None
    body: dict[str, Any] = found.body
    arms = [(each["version"], each["per_mille"]) for each in body.get("arms", [])]
    shadows = sorted(body.get("shadows", []))
    wished = {
        stage: sorted((each.version, each.per_mille) for each in versions if each.stage == stage)
        for stage in ("champion", "canary", "shadow")
    }
    differs = wished != {
        "champion": [(body["decides"], 0)], "canary": sorted(arms), "shadow": [(each, 0) for each in shadows],
    }  # fmt: skip
    return InForce(found.version, body["decides"], arms, shadows, found.journaled_at, differs)


def stage_words(stage: str) -> str:
    """A stage in the page's language; a dash for none."""
    spoken = {
        "": "–",
        "candidate": gettext("Candidate"),
        "shadow": gettext("Shadow"),
        "canary": gettext("Canary"),
        "champion": gettext("Champion"),
        "retired": gettext("Retired"),
    }
    return str(spoken.get(stage, stage))


def kind_words(kind: str) -> str:
    """What kind of change it was, in the page's language."""
    spoken = {
        "register": gettext("Registered"),
        "promote": gettext("Promotion"),
        "rollback": gettext("Rollback"),
        "experiment": gettext("Experiment begins"),
        "stop": gettext("Experiment ends"),
    }
    return str(spoken.get(kind, kind))


def wish_words(request: ModelRequest) -> str:
    """What a request asks for, in one line."""
    share = f" ({request.per_mille / 10:g} %)" if request.per_mille else ""
    match request.kind:
        case "promote":
            stage = stage_words(request.to_stage) + share
            return str(gettext("Version %(version)s becomes: %(stage)s", version=request.version, stage=stage))
        case "experiment":
            arms = ", ".join(f"{version} ({share / 10:g} %)" for version, share in sorted(request.arms.items()))
            return str(gettext("Experiment %(name)s with versions %(arms)s", name=request.name, arms=arms))
        case _:
            return kind_words(request.kind)


def metric_words(name: str) -> str:
    """A metric's name in the page's language."""
    spoken = {
        "ap": gettext("Average precision"),
        "auc": gettext("ROC AUC"),
        "cp100": gettext("Card precision at 100"),
        "ece": gettext("Calibration error"),
        "brier": gettext("Brier score"),
        "review_precision": gettext("Precision at the review capacity"),
        "review_recall": gettext("Recall at the review capacity"),
        "expected_ratio": gettext("Frauds found over frauds expected"),
        "cost": gettext("Expected cost per transaction"),
        "review_share": gettext("Share that goes to review"),
    }
    stem = name.removesuffix("_unblocked")
    if stem != name and stem in spoken:
        return str(gettext("%(metric)s, cards not yet blocked", metric=spoken[stem]))
    return str(spoken.get(name, name))


def _words() -> dict[str, Any]:
    return {
        "stage_words": stage_words,
        "stage_icons": STAGE_ICONS,
        "kind_words": kind_words,
        "wish_words": wish_words,
        "metric_words": metric_words,
    }


def _refusal(request: ModelRequest) -> str:
    """Why a request could not be allowed, in the page's language."""
    if request.state != models.WAITING:
        return str(gettext("Request %(number)s does not wait any more.", number=request.id))
    if request.asked_by == person().email:
        return str(gettext("You asked for it: a second person must allow it."))
    return str(gettext("Request %(number)s is too old: ask again.", number=request.id))
