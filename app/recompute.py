"""Asking for one decision to be computed again, and looking whether the answer has come.

The console computes nothing itself: it files the wish in SQL, and the watching process, which has the models, answers.
"""

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.access import person
from app.database import engine, store
from app.news import now_us
from app.recomputed import recomputation_of
from plumbline.errors import TransactionNotFound
from store.alerts import alert_of_transaction
from store.decisions import decision
from store.engine import transaction
from store.watch import ask_recomputation

blueprint = Blueprint("recompute", __name__, url_prefix="/recomputations")


@blueprint.get("/<path:transaction_id>")
def part(transaction_id: str) -> ResponseReturnValue:
    """The newest recomputation of a decision, as the part of its page that asks again while it waits."""
    _require(transaction_id)
    return render_template("_recomputation.html", **recomputation_of(transaction_id))


@blueprint.post("/<path:transaction_id>")
def ask(transaction_id: str) -> ResponseReturnValue:
    """Files the wish; whoever may look at the decision may ask. One that still waits is not doubled."""
    _require(transaction_id)
    with transaction(engine()) as session:
        ask_recomputation(session, transaction_id, by=person().email[:128], now_us=now_us())
    if "HX-Request" in request.headers:
        return part(transaction_id)
    alert = alert_of_transaction(store(), transaction_id)
    if alert is not None:
        return redirect(url_for("alerts.alert", alert_id=alert.id, _anchor="recomputation"), 303)
    place = url_for("transactions.transaction", transaction_id=transaction_id, _anchor="recomputation")
    return redirect(place, 303)


def _require(transaction_id: str) -> None:
    try:
        decision(store(), transaction_id)
    except TransactionNotFound:
        abort(404)
