"""Finding transactions: by id, by account, or the newest ones; and one decision that opened no alert."""

from typing import Final

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app import words
from app.addresses import cursor
from app.cases import case_of
from app.database import store
from app.news import now_us
from plumbline.errors import TransactionNotFound
from store.alerts import alert_of_transaction
from store.decisions import account_timeline, decision, newest_decisions
from store.tables import Decision

blueprint = Blueprint("transactions", __name__, url_prefix="/transactions")

PAGE_DECISIONS: Final = 50
OUTCOMES: Final = ("approve", "review", "decline")
ID_MAX_CHARACTERS: Final = 64


@blueprint.get("")
def page() -> ResponseReturnValue:
    """The newest decisions, an account's decisions, or, for a transaction's id, the way to it."""
    asked = request.args.get("q", "").strip()
    outcome = request.args.get("outcome") or None
    if outcome is not None and outcome not in OUTCOMES:
        abort(404)
    if asked and len(asked) <= ID_MAX_CHARACTERS:
        try:
            return redirect(url_for(".transaction", transaction_id=decision(store(), asked).transaction_id))
        except TransactionNotFound:
            outcome = None
    before = cursor("before")
    found = _listed(asked, before, outcome)
    shown = found[:PAGE_DECISIONS]
    following = None
    if len(found) > PAGE_DECISIONS:
        last = shown[-1]
        end = f"{last.journaled_at_ms}.{last.sequence}"
        following = url_for(".page", q=asked or None, outcome=outcome, before=end)
    return render_template(
        "_decision_rows.html" if request.args.get("rows") == "1" else "transactions.html",
        decisions=shown,
        asked=asked,
        outcome=outcome,
        outcomes=OUTCOMES,
        following=following,
        first_reason=words.first_reason,
        now=now_us(),
    )


def _listed(asked: str, before: tuple[int, int] | None, outcome: str | None) -> list[Decision]:
    if not asked:
        return newest_decisions(store(), PAGE_DECISIONS + 1, before, outcome)
    if len(asked) > ID_MAX_CHARACTERS:
        return []
    return account_timeline(store(), asked, PAGE_DECISIONS + 1, before[1] if before else None)


@blueprint.get("/<path:transaction_id>")
def transaction(transaction_id: str) -> ResponseReturnValue:
    """One decision; when it opened an alert, the alert's page."""
    try:
        found = decision(store(), transaction_id)
    except TransactionNotFound:
        abort(404)
    opened = alert_of_transaction(store(), found.transaction_id)
    if opened is not None:
        return redirect(url_for("alerts.alert", alert_id=opened.id))
    return render_template("transaction.html", **case_of(found))
