"""The overview: rate, latency, outcomes, open alerts and the audit light, each leading to the list behind it."""

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_security import roles_accepted

from app import words
from app.access import person
from app.database import engine, store
from app.news import audit_stamp, now_us, pulse
from plumbline.errors import NotFound, Refused
from store import acknowledgements as acknowledging
from store.alerts import open_alerts
from store.audit_tables import Audit, Imbalance
from store.audits import newest_audit, newest_audits, standing_audits
from store.engine import transaction
from store.imbalances import newest_imbalances, standing_imbalances
from store.overview import overview
from store.tables import ContinuousAudit
from store.watch import balance, continuous_audit

blueprint = Blueprint("overview", __name__)

TOP_ALERTS: Final = 5
ACKNOWLEDGERS: Final = ("supervisor",)
WHY_MOST: Final = 2000
FINDINGS: Final[dict[str, type[Audit] | type[Imbalance]]] = {"audit": Audit, "imbalance": Imbalance}


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
        stamp=audit_stamp(found.audit, found.watched, found.standing_differences),
        audit_state=light_state(found.audit, found.watched, found.standing_differences),
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
    state = light_state(newest, watched, len(standing_audits(store())))
    return render_template("_audit_light.html", audit=newest, watched=watched, audit_state=state, now=now_us())


@blueprint.get("/audits")
def audits() -> ResponseReturnValue:
    """The continuous audit, conservation, and the newest audits, with the differences they found."""
    return _audits_page()


@blueprint.post("/audits/<any(audit, imbalance):kind>/<int:number>/acknowledge")
@roles_accepted(*ACKNOWLEDGERS)
def acknowledge(kind: str, number: int) -> ResponseReturnValue:
    """Says that somebody has seen a difference or an imbalance, and why it need not stand any longer."""
    why = request.form.get("why", "").replace("\r\n", "\n").strip()
    if not why or len(why) > WHY_MOST or "\0" in why:
        problem = gettext("Give a reason of 1 to %(most)s characters.", most=WHY_MOST)
        return _audits_page(problem=str(problem), why=why, at=(kind, number)), 422
    try:
        with transaction(engine()) as session:
            acknowledging.acknowledge(
                session, acknowledging.finding(session, FINDINGS[kind], number), person().email[:128], why, now_us()
            )
    except NotFound:
        abort(404)
    except Refused as error:
        store().expire_all()
        return _audits_page(problem=str(error), why=why, at=(kind, number)), 409
    flash(gettext("Acknowledged; the reason is kept with your name."), "good")
    return redirect(url_for(".audits"), 303)


def _audits_page(problem: str = "", why: str = "", at: tuple[str, int] = ("", 0)) -> str:
    return render_template(
        "audits.html",
        audits=newest_audits(store()),
        audit_state=audit_state,
        watched=continuous_audit(store()),
        balance=balance(store()),
        standing=[
            *(("audit", each) for each in standing_audits(store())),
            *(("imbalance", each) for each in standing_imbalances(store())),
        ],
        acknowledged=[each for each in newest_imbalances(store()) if each.acknowledged_at],
        may_acknowledge=any(person().has_role(role) for role in ACKNOWLEDGERS),
        why_most=WHY_MOST,
        problem=problem,
        why=why,
        at=at,
        now=now_us(),
    )


def light_state(audit: Audit | None, watched: ContinuousAudit | None, standing: int) -> str:
    """`differs` while any difference stands, however new an audit is; else `exact` once anything was compared."""
    if standing:
        return "differs"
    compared = any(each is not None and each.compared for each in (audit, watched))
    return "exact" if compared else "none"


def audit_state(audit: Audit | ContinuousAudit | None) -> str:
    """`exact` only when something was compared and nothing differed; `none` when nothing was; else `differs`."""
    if audit is None or (audit.compared == 0 and audit.different == 0):
        return "none"
    return "exact" if audit.different == 0 else "differs"
