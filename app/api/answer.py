"""What a caller is told: the journal's decision, byte for byte, or the fallback and why."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from app.api.board import Journaled
from plumbline.decision import Outcome
from plumbline.errors import TransactionChanged
from plumbline.transaction import Id, Transaction

FallbackReason = Literal["deadline", "first_decision_sought"]
"""`deadline`: taken, and not decided in time. `first_decision_sought`: decided before, and not found again in time."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one transaction."""

    transaction_id: Id
    outcome: Outcome
    decided: Annotated[bool, Meta(description="Whether the outcome is the journal's decision.")]
    fallback: Annotated[
        bool, Meta(description="Whether the outcome is the configured fallback; the transaction is in Kafka.")
    ]
    fallback_reason: Annotated[FallbackReason, Meta(description="Why there is no decision yet.")] | None = None
    sequence: Annotated[int, Meta(ge=0, description="Offset of the decision in the journal.")] | None = None
    decision: (
        Annotated[
            msgspec.Raw,
            Meta(
                description="The decision exactly as the journal holds it.",
                extra_json_schema={"$ref": "#/components/schemas/Decision"},
            ),
        ]
        | None
    ) = None


encode: Final = msgspec.json.Encoder().encode


class _Decided(msgspec.Struct):
    """The parts of a journaled decision that an answer needs; the rest is passed on unread."""

    transaction: Transaction
    outcome: Outcome


_decoder = msgspec.json.Decoder(_Decided)


def answered(journaled: Journaled, transaction: Transaction | None = None) -> Answer:
    """The answer that a journaled decision gives.

    transaction: what the caller sent, where it sent one; raises TransactionChanged when another body was decided.
    """
    decided = _decoder.decode(journaled.raw)
    answer = Answer(
        transaction_id=decided.transaction.transaction_id,
        outcome=decided.outcome,
        decided=True,
        fallback=False,
        sequence=journaled.sequence,
        decision=msgspec.Raw(journaled.raw),
    )
    if transaction is not None and transaction != decided.transaction:
        raise TransactionChanged(transaction.transaction_id, answer)
    return answer


def fallen_back(transaction: Transaction, outcome: Outcome, reason: FallbackReason) -> Answer:
    """The answer while there is no decision."""
    return Answer(
        transaction_id=transaction.transaction_id, outcome=outcome, decided=False, fallback=True, fallback_reason=reason
    )
