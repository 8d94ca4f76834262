"""What Plumbline answers: a Decision, with everything that an auditor needs to compute it again."""

import enum
import functools
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from plumbline.assignment import Route
from plumbline.transaction import Transaction


@functools.total_ordering
@enum.unique
class Outcome(enum.Enum):
    """The closed, ordered set of answers: approve < review < decline."""

    APPROVE = "approve"
    REVIEW = "review"
    DECLINE = "decline"

    @property
    def severity(self) -> int:
        """0 for approve, 1 for review, 2 for decline."""
        return _SEVERITY[self]

    def __lt__(self, other: object) -> bool:
        return self.severity < other.severity if isinstance(other, Outcome) else NotImplemented


_SEVERITY = {outcome: severity for severity, outcome in enumerate(Outcome)}


class Source(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Where a message came from, and when the broker took it in."""

    topic: str
    partition: int
    offset: int
    appended_at_ms: Annotated[int, Meta(description="Broker's append time, milliseconds since 1970 UTC.")]


class Score(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One model version's answer; `value` is a float32, written so that it reads back to the same bits."""

    model_version: int
    value: Annotated[float, Meta(ge=0, le=1)]


class Reason(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Why an outcome was chosen: a feature, a rule, or a fault.

    kind `feature`: code is a feature's name, and effect, a float32, what its value added to the score's logit, against
    the mean of a number or the most frequent value of a category in training. The effects of all features add up to the
    logit less that of such a baseline; the largest of those above 0 are recorded.
    kind `rule`: code names the policy's rule; `let_through` alone makes an outcome milder. kind `fault`: code is
    `model_unavailable`, or `not_explained` where a score led to an alert and its explanation did not come.
    """

    kind: Literal["feature", "rule", "fault"]
    code: str
    effect: float | None = None


MODEL_UNAVAILABLE = Reason("fault", "model_unavailable")
NOT_EXPLAINED = Reason("fault", "not_explained")
LET_THROUGH = Reason("rule", "let_through")
"""The score alone would have declined; the policy's sample lets this one through to review."""

SAMPLE_MOST: Final = 100
"""Most of every thousand declines by score that a policy may let through."""


class DeclaredHistory(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The int64 values of a declaration's measures, in its order."""

    fingerprint: str
    values: tuple[int, ...]


class Decision(
    msgspec.Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    tag="decision",
):
    """One transaction's answer, and what it was computed from.

    history: the int64 values of the deciding declaration's measures, in its order; fingerprint: that declaration.
    other_histories: the same for every other declaration in force. scores: the deciding version's; empty when it did
    not answer (others behind it are shadows of journals before `journal.Answered`). assignment: the name of the one in
    force, empty without one; route: why that version decided. decided_at: our clock, microseconds since 1970 UTC.
    sample_per_mille: of every thousand like this one, how many are let through to review although the score alone would
    decline; above 0 for those that were drawn (outcome review) and those that were not (decline), 0 for all else.
    """

    transaction: Transaction
    source: Source
    history: tuple[int, ...]
    fingerprint: str
    scores: tuple[Score, ...]
    policy_version: str
    outcome: Outcome
    reasons: tuple[Reason, ...]
    decided_at: int
    other_histories: tuple[DeclaredHistory, ...] = ()
    assignment: str = ""
    route: Route = "newest"
    sample_per_mille: Annotated[int, Meta(ge=0, le=SAMPLE_MOST)] = 0

    def history_of(self, fingerprint: str) -> tuple[int, ...] | None:
        """The history recorded under a declaration; None where that one was not in force."""
        if fingerprint == self.fingerprint:
            return self.history
        return next((each.values for each in self.other_histories if each.fingerprint == fingerprint), None)


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A served model: its name, number, the declaration it was trained under, and when it was made."""

    name: str
    version: int
    fingerprint: str
    created_at: int


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that an analyst should look at, with the money at stake if the model is right."""

    transaction_id: str
    outcome: Outcome
    expected_loss_minor: int
    opened_at: int


def alert_of(decision: Decision) -> Alert | None:
    """The Alert that a decision opens; None when it was approved.

    Without a score the whole amount counts as the expected loss: what nobody judged comes first.
    """
    if decision.outcome is Outcome.APPROVE:
        return None
    score = decision.scores[0].value if decision.scores else 1.0
    return Alert(
        transaction_id=decision.transaction.transaction_id,
        outcome=decision.outcome,
        expected_loss_minor=round(score * decision.transaction.amount_minor),
        opened_at=decision.decided_at,
    )
