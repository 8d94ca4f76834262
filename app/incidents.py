"""Versions under guard and incidents: how far each rule is, the picture of what happened, and who has seen it."""

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_security import roles_accepted

from app import guardrails
from app.access import person
from app.database import engine, store
from app.news import now_us
from plumbline.errors import NotFound, Refused
from plumbline.transaction import SECOND_US
from store import guards
from store.engine import transaction
from store.guard_tables import Incident

blueprint = Blueprint("incidents", __name__, url_prefix="/incidents")

ACKNOWLEDGERS: Final = ("engineer", "supervisor")
NOTE_MOST: Final = 2000
STATE_ICONS: Final = {"passed": "approve", "watching": "review", "breached": "decline"}


@blueprint.get("")
def page() -> ResponseReturnValue:
    """Versions under guard with every rule's figure, incidents, and trials of the past."""
    return render_template(
        "incidents.html",
        guarded=guards.guarded(store()),
        incidents=guards.incidents(store()),
        trials=guards.trials(store(), 20),
        position=guards.guard_position(store()),
        now=now_us(),
        state_icons=STATE_ICONS,
        words=guardrails,
    )


@blueprint.get("/<int:number>")
def incident(number: int) -> ResponseReturnValue:
    """One incident: its picture, its counts, every other rule at that moment, and what was done."""
    return _incident_page(_found(number))


@blueprint.post("/<int:number>/acknowledge")
@roles_accepted(*ACKNOWLEDGERS)
def acknowledge(number: int) -> ResponseReturnValue:
    """Says that somebody has seen an incident; whoever comes second learns who was first."""
    _found(number)
    note = request.form.get("note", "").replace("\r\n", "\n").strip()
    if len(note) > NOTE_MOST or "\0" in note:
        problem = gettext("The note has %(count)s characters; %(most)s are allowed.", count=len(note), most=NOTE_MOST)
        return _incident_page(_found(number), problem=str(problem), note=note), 422
    try:
        with transaction(engine()) as session:
            guards.acknowledge(session, number, person().email[:128], note, now_us())
    except Refused:
        store().expire_all()
        return _incident_page(_found(number), note=note), 409
    flash(gettext("Incident %(number)s is acknowledged.", number=number), "good")
    return redirect(url_for("incidents.incident", number=number), 303)


def _incident_page(found: Incident, problem: str = "", note: str = "") -> str:
    shown = found.picture
    took_us = None if found.effective_at is None else found.effective_at - found.opened_at
    return render_template(
        "incident.html",
        incident=found,
        figure=shown["figure"],
        picture=guardrails.picture(shown["points"]),
        points=guardrails.thinned(shown["points"]),
        rules=shown["rules"],
        rollback_seconds=None if took_us is None else took_us / SECOND_US,
        may_acknowledge=any(person().has_role(role) for role in ACKNOWLEDGERS),
        problem=problem,
        note=note,
        words=guardrails,
    )


def _found(number: int) -> Incident:
    try:
        return guards.incident(store(), number)
    except NotFound:
        abort(404)
