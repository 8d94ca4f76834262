"""All that a page about one decision shows: words, the account's recent life, and what people said so far."""

from typing import Any, Final

from app import words
from app.database import store
from app.languages import moment, money_words
from app.news import now_us
from app.recomputed import recomputation_of
from app.sent_again import sent_again
from plumbline.codes import minor_digits
from plumbline.transaction import SECOND_US
from store.decisions import account_timeline, conflicts_of, shadow_scores
from store.labels import labels_of, verdicts_of
from store.tables import Decision

TIMELINE: Final = 40
LISTED: Final = 8


def case_of(decision: Decision) -> dict[str, Any]:
    """The template's names for one decision.

    The account's newest decisions are shown; where this one is older than all of them, those up to it instead.
    """
    recent = account_timeline(store(), decision.account_id, TIMELINE)
    if all(other.sequence != decision.sequence for other in recent):
        recent = account_timeline(store(), decision.account_id, TIMELINE, decision.sequence + 1)
    known = labels_of(store(), [other.transaction_id for other in recent])
    reasons = words.reasons(decision)
    journaled = known.get(decision.transaction_id, [])
    told = {label.label_id for label in journaled}
    return {
        "decision": decision,
        "now": now_us(),
        "shadows": shadow_scores(store(), decision.sequence),
        "reasons": reasons,
        "effect_max": max((abs(reason.effect) for reason in reasons if reason.effect is not None), default=0.0),
        "windows": words.windows(),
        "groups": words.history(decision),
        "declared": words.declared(decision),
        "recent": _listed(recent, decision),
        "recent_total": len(recent),
        "recent_labels": known,
        "labels": journaled,
        "sent_again": [sent_again(decision, each) for each in conflicts_of(store(), decision.transaction_id)],
        "waiting_verdicts": [
            verdict for verdict in verdicts_of(store(), decision.transaction_id) if verdict.label_id not in told
        ],
        **recomputation_of(decision.transaction_id),
        "timeline": [_point(other, decision) for other in sorted(recent, key=lambda each: each.occurred_at)],
    }


def _listed(recent: list[Decision], shown: Decision) -> list[Decision]:
    """The newest few, and always the one shown: it takes the last one's place where it is older than they are."""
    newest = recent[:LISTED]
    if any(each.sequence == shown.sequence for each in newest):
        return newest
    return [*newest[:-1], shown]


def _point(other: Decision, shown: Decision) -> dict[str, Any]:
    amount = money_words(other.amount_minor, other.currency)
    return {
        "at": other.occurred_at / SECOND_US,
        "amount": other.amount_minor / 10 ** minor_digits(other.currency),
        "outcome": other.outcome,
        "here": other.sequence == shown.sequence,
        "text": f"{moment(other.occurred_at)} · {amount} · {other.merchant_id}",
    }
