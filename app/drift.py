"""Drift and skew: two different things on one page, so that nobody takes one for the other."""

from dataclasses import dataclass

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app import words
from app.addresses import whole_number
from app.bins import Bar, Bin, bars, bins_of, most_moved
from app.database import store
from app.news import now_us
from app.overview import light_state
from store.audits import newest_audit, standing_audits
from store.drifts import figure_over_time, figures_of, newest_drifts
from store.tables import DriftFigure, DriftRun
from store.watch import continuous_audit

blueprint = Blueprint("drift", __name__, url_prefix="/drift")

LEVEL_ICONS = {"calm": "approve", "warn": "review", "alarm": "decline"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One figure in the page's language, with its picture."""

    figure: DriftFigure
    text: str
    bins: list[Bin]
    bars: list[Bar]
    moved: Bin


@blueprint.get("")
def page() -> ResponseReturnValue:
    """Skew from the audits, and drift from the newest run, or from the one asked for."""
    runs = newest_drifts(store(), 10)
    run = _run(runs)
    audit, watched = newest_audit(store()), continuous_audit(store())
    return render_template(
        "drift.html",
        runs=runs,
        run=run,
        figures=[_shown(each) for each in figures_of(store(), run)] if run else [],
        audit=audit,
        watched=watched,
        audit_state=light_state(audit, watched, len(standing_audits(store()))),
        level_words=level_words,
        level_icon=level_icon,
        now=now_us(),
    )


@blueprint.get("/<kind>/<name>")
def figure(kind: str, name: str) -> ResponseReturnValue:
    """One feature, or the score: every bin, and its index in the runs before."""
    run = _run(newest_drifts(store(), 1))
    found = [each for each in figures_of(store(), run) if (each.kind, each.name) == (kind, name)] if run else []
    if run is None or not found:
        abort(404)
    return render_template(
        "drift_figure.html",
        run=run,
        shown=_shown(found[0]),
        before=figure_over_time(store(), kind, name, 20)[::-1],
        level_words=level_words,
        level_icon=level_icon,
    )


def level_words(level: str) -> str:
    """A level in the page's language; its own name where it is unknown here."""
    spoken = {
        "calm": gettext("Calm"),
        "warn": gettext("Moved"),
        "alarm": gettext("Far off"),
        "few": gettext("Too few"),
        "cycle": gettext("Not judged"),
    }
    return str(spoken.get(level, level))


def level_icon(level: str) -> str:
    """The icon that stands beside a level's word."""
    return LEVEL_ICONS.get(level, "note")


def figure_words(kind: str, name: str) -> str:
    """What a figure is about, in the page's language."""
    return str(gettext("the score")) if kind == "score" else words.feature_words(name)


def _run(newest: list[DriftRun]) -> DriftRun | None:
    """The run asked for, else the newest one; 404 where the one asked for is not there."""
    asked = request.args.get("run", "")
    if not asked:
        return newest[0] if newest else None
    number = whole_number(asked)
    found = None if number is None else store().get(DriftRun, number)
    if found is None:
        abort(404)
    return found


def _shown(each: DriftFigure) -> Shown:
    bins = bins_of(each.name, each.bins)
    return Shown(each, figure_words(each.kind, each.name), bins, bars(bins), most_moved(bins))
