"""The alert queue, one alert, and the verdict that closes it."""

import secrets
from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_security import roles_accepted

from app import words
from app.access import JUDGES, may_judge, person
from app.addresses import cursor, whole_number
from app.cases import case_of
from app.codes import verdict_words
from app.database import engine, store
from app.news import now_us
from plumbline.errors import AlertClosed, AlertNotFound, Invalid
from plumbline.label import NOTE_MAX_CHARACTERS
from store import alerts as queue
from store.engine import transaction
from store.labels import record_verdict
from store.tables import Alert

blueprint = Blueprint("alerts", __name__, url_prefix="/alerts")

PAGE_ALERTS: Final = 25
MAX_PAGES: Final = 40
OUTCOMES: Final = ("decline", "review")
VERDICTS: Final = ("fraud", "genuine", "unsure")
LABEL_ID_BYTES: Final = 16


@blueprint.get("")
def page() -> ResponseReturnValue:
    """A page of the queue: the whole page, or its rows alone when the page asks for more of them."""
    outcome = request.args.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        abort(404)
    after, pages = cursor("after"), _pages()
    wanted = PAGE_ALERTS * (1 if request.args.get("rows") == "1" else pages)
    found = queue.open_alerts(store(), wanted + 1, after, outcome)
    shown = found[:wanted]
    following = None
    if len(found) > wanted:
        last = shown[-1]
        following = url_for(".page", outcome=outcome, after=f"{last.expected_loss_minor}.{last.id}")
    counts = queue.open_outcomes(store())
    return render_template(
        "_alert_rows.html" if request.args.get("rows") == "1" else "alerts.html",
        alerts=shown,
        following=following,
        # What the address says behind "More alerts", so that Back comes to as many rows.
        whole=url_for(".page", outcome=outcome, pages=min(pages + 1, MAX_PAGES)),
        pages=min(pages + 1, MAX_PAGES),
        outcome=outcome,
        outcomes=OUTCOMES,
        counts=counts,
        total=sum(counts.values()),
        newest=queue.newest_alert_id(store()),
        first_page=after is None,
        now=now_us(),
        first_reason=words.first_reason,
    )


def _pages() -> int:
    """How many pages of the queue are shown at once; 404 for what is no such number."""
    pages = whole_number(request.args.get("pages", "1"))
    if pages is None or not 1 <= pages <= MAX_PAGES:
        abort(404)
    return pages


@blueprint.get("/<int:alert_id>")
def alert(alert_id: int) -> ResponseReturnValue:
    """One alert, open or closed."""
    return _alert_page(_found(alert_id))


def _found(alert_id: int) -> Alert:
    try:
        return queue.alert(store(), alert_id)
    except AlertNotFound:
        abort(404)


def _alert_page(found: Alert, **extra: Any) -> str:
    return render_template(
        "alert.html",
        alert=found,
        following=_next_id(found),
        may_judge=may_judge(),
        label_id=secrets.token_hex(LABEL_ID_BYTES),
        note_max=NOTE_MAX_CHARACTERS,
        verdicts=VERDICTS,
        **{"verdict": "", "note": "", "problem": "", **extra},
        **case_of(found.decision),
    )


def _next_id(found: Alert) -> int | None:
    """The open alert after this one in the queue; the queue's first when this was the last."""
    for after in ((found.expected_loss_minor, found.id), None):
        for other in queue.open_alerts(store(), 2, after):
            if other.id != found.id:
                return other.id
    return None


@blueprint.post("/<int:alert_id>/verdict")
@roles_accepted(*JUDGES)
def verdict(alert_id: int) -> ResponseReturnValue:
    """Records a verdict, and goes on to the next alert; whoever came second keeps the note that was typed."""
    found = _found(alert_id)
    form = request.form
    said = form.get("verdict", "")
    # browsers send line ends as CR LF; the length that counts is the one the label will have
    note = form.get("note", "").replace("\r\n", "\n").strip()
    problem = _problem(said, note)
    if problem:
        return _alert_page(found, verdict=said, note=note, problem=problem), 422
    following = _next_id(found)
    try:
        with transaction(engine()) as session:
            record_verdict(
                session,
                alert_id,
                said,
                note,
                by=person().email,
                now_us=now_us(),
                label_id=_label_id(form.get("label_id", "")),
            )
    except AlertClosed as error:
        store().expire_all()
        page = _alert_page(_found(alert_id), verdict=said, note=note, conflict=error)
        return page, 409
    except Invalid as error:
        return _alert_page(found, verdict=said, note=note, problem=str(error)), 422
    flash(
        gettext("Recorded for %(id)s: %(verdict)s.", id=found.transaction_id, verdict=verdict_words(said).lower()),
        "good",
    )
    return redirect(url_for(".alert", alert_id=following) if following else url_for(".page"), 303)


def _problem(said: str, note: str) -> str:
    if said not in VERDICTS:
        return str(gettext("Choose fraud, genuine or unsure first."))
    if len(note) > NOTE_MAX_CHARACTERS:
        return str(
            gettext(
                "The note has %(length)s characters; at most %(most)s are kept. Shorten it.",
                length=len(note),
                most=NOTE_MAX_CHARACTERS,
            )
        )
    return ""


def _label_id(given: str) -> str:
    """The id made when the form was shown, so that sending it twice is one verdict; a fresh one for anything else."""
    wanted = LABEL_ID_BYTES * 2
    if len(given) == wanted and all(character in "0123456789abcdef" for character in given):
        return given
    return secrets.token_hex(LABEL_ID_BYTES)
