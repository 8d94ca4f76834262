"""From a score to an outcome: a pure function of a transaction, a score and a versioned Policy.

A rule can only make an outcome more severe. Without a score the answer is at least `review`: no fault approves.
"""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from plumbline.decision import MODEL_UNAVAILABLE, Outcome, Reason
from plumbline.errors import InvalidControl
from plumbline.refusal import decoded
from plumbline.transaction import AmountMinor, Id, Transaction

Threshold = Annotated[float, Meta(ge=0, le=2)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="policy"):
    """Thresholds, limits and lists under which scores become outcomes; a threshold above 1 is never reached.

    A score at or above `decline_at` declines, at or above `review_at` goes to review.
    """

    version: Id
    review_at: Threshold = 0.5
    decline_at: Threshold = 0.9
    review_amount_minor: AmountMinor | None = None
    declined_accounts: frozenset[Id] = frozenset()
    declined_merchants: frozenset[Id] = frozenset()
    declined_devices: frozenset[Id] = frozenset()

    def __post_init__(self) -> None:
        if self.review_at > self.decline_at:
            raise ValueError(
                f"review_at is {self.review_at}: expected at most decline_at ({self.decline_at}), "
                "since review is the milder outcome"
            )


DEFAULT_POLICY = Policy(version="default")

POLICY_MAX_BYTES: Final = 1_000_000

_decoder = msgspec.json.Decoder(Policy)
encode = msgspec.json.Encoder(order="deterministic").encode


def parse(raw: bytes) -> Policy:
    """The Policy in a control message's bytes.

    raw: UTF-8 JSON object of at most 1,000,000 bytes, with `"type": "policy"`.
    Raises InvalidControl, which names the field, its value and what was allowed.
    """
    return decoded(InvalidControl, "policy", Policy, _decoder, raw, POLICY_MAX_BYTES)


def decide(transaction: Transaction, score: float | None, policy: Policy) -> tuple[Outcome, tuple[Reason, ...]]:
    """Outcome and the rules or faults that led to it (features' reasons are added by whoever asks the model).

    score: the deciding model's float32 in [0, 1], or None when no model answered; NaN, which no comparison would
    stop, counts as no answer.
    """
    outcome = Outcome.APPROVE
    reasons: list[Reason] = []
    if score is None or math.isnan(score):
        outcome = Outcome.REVIEW
        reasons.append(MODEL_UNAVAILABLE)
    elif score >= policy.decline_at:
        outcome = Outcome.DECLINE
    elif score >= policy.review_at:
        outcome = Outcome.REVIEW
    for code, severity in _rules(transaction, policy):
        outcome = max(outcome, severity)
        reasons.append(Reason("rule", code))
    return outcome, tuple(reasons)


def _rules(transaction: Transaction, policy: Policy) -> list[tuple[str, Outcome]]:
    hits = []
    if transaction.account_id in policy.declined_accounts:
        hits.append(("declined_account", Outcome.DECLINE))
    if transaction.merchant_id in policy.declined_merchants:
        hits.append(("declined_merchant", Outcome.DECLINE))
    if transaction.device_id and transaction.device_id in policy.declined_devices:
        hits.append(("declined_device", Outcome.DECLINE))
    if policy.review_amount_minor is not None and transaction.amount_minor >= policy.review_amount_minor:
        hits.append(("review_amount", Outcome.REVIEW))
    return hits
