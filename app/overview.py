"""The overview: rate, latency, outcomes, open alerts and the audit light, each leading to the list behind it."""

from typing import Final

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from app import words
from app.database import store
from app.news import audit_stamp, now_us, pulse
from store.alerts import open_alerts
from store.audits import newest_audit, newest_audits
from store.overview import overview
from store.tables import Audit, ContinuousAudit
from store.watch import balance, continuous_audit

blueprint = Blueprint("overview", __name__)

TOP_ALERTS: Final = 5


@blueprint.get("/")
def page() -> ResponseReturnValue:
    """The figures as they are now; the stream keeps them fresh."""
    now = now_us()
    found = overview(store(), now)
    return render_template(
        "overview.html",
        now=now,
        overview=found,
        pulse=pulse(found),
        outcome_total=sum(found.outcomes.values()),
        alerts=open_alerts(store(), TOP_ALERTS),
        first_reason=words.first_reason,
        audit=found.audit,
        watched=found.watched,
        stamp=audit_stamp(found.audit, found.watched),
        audit_state=light_state(found.audit, found.watched),
    )


@blueprint.get("/overview/alerts")
def top_alerts() -> ResponseReturnValue:
    """The costliest open alerts alone, asked for again when a new one opens."""
    alerts = open_alerts(store(), TOP_ALERTS)
    return render_template("_top_alerts.html", alerts=alerts, now=now_us(), first_reason=words.first_reason)


@blueprint.get("/overview/audit")
def audit_light() -> ResponseReturnValue:
    """The audit light alone, asked for again when an audit has been stored."""
    newest, watched = newest_audit(store()), continuous_audit(store())
    state = light_state(newest, watched)
    return render_template("_audit_light.html", audit=newest, watched=watched, audit_state=state, now=now_us())


@blueprint.get("/audits")
def audits() -> ResponseReturnValue:
    """The continuous audit, conservation, and the newest audits, with the differences they found."""
    return render_template(
        "audits.html",
        audits=newest_audits(store()),
        audit_state=audit_state,
        watched=continuous_audit(store()),
        balance=balance(store()),
        now=now_us(),
    )


def light_state(audit: Audit | None, watched: ContinuousAudit | None) -> str:
    """`differs` when the newest audit or the continuous one does, `exact` when one of them is, else `none`."""
    states = {audit_state(audit), audit_state(watched)}
    return next((state for state in ("differs", "exact") if state in states), "none")


def audit_state(audit: Audit | ContinuousAudit | None) -> str:
    """`exact` only when something was compared and nothing differed; `none` when nothing was; else `differs`."""
    if audit is None or (audit.compared == 0 and audit.different == 0):
        return "none"
    return "exact" if audit.different == 0 else "differs"
