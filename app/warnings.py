"""What everybody in the console must know at once: warnings that stand on every page until their cause is gone.

Each source looks at the store and says what is wrong, if anything. A warning about what happened (a difference, an
imbalance, an incident) stands until somebody acknowledges it or it was shown to be gone; one about what is goes when
the store no longer gives a reason for it. A newer row that says nothing about the cause puts no warning out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from flask import Blueprint, current_app, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy.orm import Session

from app.database import store
from app.drift import figure_words
from app.guardrails import rule_words
from app.languages import duration, moment, number
from app.liveness import age_seconds
from app.news import now_us
from plumbline.errors import StoreUnavailable
from plumbline.times import SECOND_US
from store.audits import standing_audits
from store.decisions import unassigned_version
from store.drifts import drift_numbers, standing_drift
from store.guards import guard_position, newest_assignment, unacknowledged
from store.imbalances import standing_imbalances
from store.watch import balance, continuous_audit, newest_clock_difference_ms, rejected_share

blueprint = Blueprint("warnings", __name__)

SILENT_SECONDS: Final = 120
GUARD_SILENT_SECONDS: Final = 30
INCIDENTS_SHOWN: Final = 3
MS_A_SECOND: Final = 1000
CLOCK_MS: Final = 60 * MS_A_SECOND
REJECTED_US: Final = 600 * SECOND_US
REJECTED_ENTRIES: Final = 1000
REJECTED_LEAST: Final = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One warning in the page's language.

    code: its name, for tests and styles; severity: `incident` where a promise is broken, `caution` where one may be
    soon; link: the address of the page with the cause.
    """

    code: str
    severity: Literal["caution", "incident"]
    text: str
    link: str


Source = Callable[[Session, int], Iterable[Standing]]


def audit_differs(session: Session, _: int) -> Iterable[Standing]:
    """An audit, or the continuous audit, found a decision that is not what it should be, and nobody acknowledged it."""
    for origin, code in (("audit", "audit_differs"), ("watch", "watch_differs")):
        found = [each for each in standing_audits(session) if each.origin == origin]
        if not found:
            continue
        counts = {
            "different": number(sum(each.different for each in found)),
            "compared": number(sum(each.compared for each in found)),
        }
        if origin == "audit":
            text = gettext(
                "Audits found %(different)s differences in %(compared)s decisions: numbers that were served are not "
                "those that the journal leads to. A supervisor can acknowledge them.",
                **counts,
            )
        else:
            text = gettext(
                "The continuous audit found %(different)s differences in %(compared)s decisions. A supervisor can "
                "acknowledge them.",
                **counts,
            )
        yield Standing(code, "incident", text, url_for("overview.audits"))


def drift_alarm(session: Session, _: int) -> Iterable[Standing]:
    """Features or scores are far from what the model was trained on."""
    run = standing_drift(session)
    if run is None or run.level != "alarm":
        return
    far = [(kind, name) for kind, name, _psi, level, *_ in drift_numbers(session, run) if level == "alarm"]
    text = gettext(
        "Drift: %(far)s figures are far from what model version %(version)s was trained on, among them: %(what)s.",
        far=number(len(far)),
        version=run.model_version,
        what=figure_words(*far[0]),
    )
    yield Standing("drift_alarm", "caution", text, url_for("drift.page", run=run.id))


def watch_silent(session: Session, now_us: int) -> Iterable[Standing]:
    """The watching process has watched before and says nothing now, so nobody would notice a difference."""
    watched = continuous_audit(session)
    if watched is not None and age_seconds("watch", watched.updated_at, now_us) > SILENT_SECONDS:
        text = gettext(
            "The watching process has been silent since %(when)s: nothing is audited meanwhile. Start plumbline watch.",
            when=moment(watched.updated_at),
        )
        yield Standing("watch_silent", "caution", text, url_for("overview.audits"))


def not_conserved(session: Session, _: int) -> Iterable[Standing]:
    """Messages were lost or doubled, or one has been on its way for longer than the setting allows."""
    for each in standing_imbalances(session)[:INCIDENTS_SHOWN]:
        text = gettext(
            "Conservation: the counts of messages differed by %(count)s on %(when)s; messages were lost or doubled. A "
            "supervisor can acknowledge it.",
            count=number(each.count),
            when=moment(each.opened_at),
        )
        yield Standing("imbalance", "incident", text, url_for("overview.audits"))
    counted = balance(session)
    if counted is None:
        return
    oldest_ms = counted.oldest_waiting_ms or 0
    if oldest_ms > counted.body["waiting_limit_ms"]:
        text = gettext(
            "The oldest message that waits for its decision or entry has waited for %(how_long)s: look at the scorer.",
            how_long=duration(oldest_ms // MS_A_SECOND),
        )
        yield Standing("waiting_too_long", "incident", text, url_for("overview.audits"))


def clock_differs(session: Session, _: int) -> Iterable[Standing]:
    """The scorer's clock and the broker's differ: decisions bear wrong times, and soon it will not lead."""
    difference_ms = newest_clock_difference_ms(session)
    if difference_ms is not None and abs(difference_ms) >= CLOCK_MS:
        how_long = duration(abs(difference_ms) // MS_A_SECOND)
        behind = gettext("The scorer's clock is %(how_long)s behind the broker's: set it right.", how_long=how_long)
        ahead = gettext("The scorer's clock is %(how_long)s ahead of the broker's: set it right.", how_long=how_long)
        yield Standing("clock_differs", "caution", behind if difference_ms < 0 else ahead, url_for("overview.audits"))


def many_rejected(session: Session, now_us: int) -> Iterable[Standing]:
    """A larger share of the newest messages is rejected than the setting allows."""
    rejected, messages = rejected_share(session, now_us - REJECTED_US, REJECTED_ENTRIES)
    if messages >= REJECTED_LEAST and rejected > messages * float(current_app.config["REJECTED_SHARE_WARN"]):
        text = gettext(
            "%(rejected)s of the newest %(messages)s messages were rejected: look at the dead letters for the reason.",
            rejected=number(rejected),
            messages=number(messages),
        )
        yield Standing("many_rejected", "caution", text, url_for("overview.audits"))


def incident_open(session: Session, _: int) -> Iterable[Standing]:
    """A version broke a guardrail, and nobody has acknowledged it."""
    for each in unacknowledged(session)[:INCIDENTS_SHOWN]:
        text = gettext(
            "Version %(version)s broke a guardrail (%(rule)s) and was rolled back; nobody has acknowledged it yet.",
            version=each.version,
            rule=rule_words(each.rule),
        )
        yield Standing("incident_open", "incident", text, url_for("incidents.incident", number=each.id))


def guard_silent(session: Session, now_us: int) -> Iterable[Standing]:
    """Versions decide for some accounts, or shadow, and nobody judges them: a fault of theirs would go on."""
    position, assigned = guard_position(session), newest_assignment(session)
    body = {} if assigned is None else assigned.body or {}
    if assigned is None or not (body.get("arms") or body.get("shadows")):
        return
    signs = {"assignment": assigned.journaled_at, **({} if position is None else {"guard": position.updated_at})}
    if min(age_seconds(name, at_us, now_us) for name, at_us in signs.items()) > GUARD_SILENT_SECONDS:
        text = gettext(
            "Assignment %(name)s has versions under guard, and the guard has been silent since %(when)s: nobody would "
            "roll them back. Start plumbline guard.",
            name=assigned.version,
            when=moment(max(signs.values())),
        )
        yield Standing("guard_silent", "incident" if body.get("arms") else "caution", text, url_for("incidents.page"))


def nobody_promoted(session: Session, _: int) -> Iterable[Standing]:
    """A version scores, and nothing was ever assigned: nobody promoted it, and its thresholds are not active."""
    assigned = newest_assignment(session)
    if assigned is not None and assigned.body is not None:
        return
    version = unassigned_version(session)
    if version is not None:
        text = gettext(
            "Nobody promoted version %(version)s: it scores without thresholds of its own, and the policy that the "
            "journal began with applies. Promote it with plumbline models promote.",
            version=version,
        )
        yield Standing("nobody_promoted", "caution", text, url_for("models.page"))


SOURCES: Final[tuple[Source, ...]] = (
    audit_differs, not_conserved, incident_open, guard_silent, clock_differs, many_rejected, watch_silent, drift_alarm,
    nobody_promoted,
)  # fmt: skip


def standing(session: Session, now_us: int) -> list[Standing]:
    """Every warning that stands now, incidents first; now_us: our clock, microseconds since 1970 UTC."""
    found = [each for source in SOURCES for each in source(session, now_us)]
    return sorted(found, key=lambda each: each.severity != "incident")


def shown() -> list[Standing]:
    """What a page shows; nothing where the database cannot say, since the error page about that shows it too."""
    try:
        return standing(store(), now_us())
    except StoreUnavailable:
        return []


@blueprint.get("/warnings")
def part() -> ResponseReturnValue:
    """The warnings alone, asked for again when the overview's figures say that something changed."""
    return render_template("_warnings.html")
