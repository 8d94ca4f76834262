"""Reading decisions: one by its id with its conflicts, and an account's in the order in which they became known."""

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from plumbline.errors import TransactionNotFound
from store.tables import Conflict, Decision, ShadowScore


def decision(session: Session, transaction_id: str) -> Decision:
    """The decision on one transaction; raises TransactionNotFound when none is stored."""
    found = session.get(Decision, transaction_id)
    if found is None:
        raise TransactionNotFound(
            f"transaction {transaction_id!r} has no decision here: check the id, or wait for the ledger to catch up"
        )
    return found


def conflicts_of(session: Session, transaction_id: str, limit: int = 20) -> list[Conflict]:
    """The newest conflicts of one transaction, newest first: times when its id was sent again."""
    sent = select(Conflict).where(Conflict.transaction_id == transaction_id)
    return list(session.scalars(sent.order_by(Conflict.sequence.desc()).limit(limit)))


def shadow_scores(session: Session, sequence: int) -> list[ShadowScore]:
    """What shadows said of the decision of that sequence number, by version; empty until they have."""
    said = select(ShadowScore).where(ShadowScore.sequence == sequence)
    return list(session.scalars(said.order_by(ShadowScore.version)))


def account_timeline(
    session: Session, account_id: str, limit: int = 50, before_sequence: int | None = None
) -> list[Decision]:
    """An account's newest decisions, newest first.

    before_sequence: only decisions older than this one; None starts at the newest.
    """
    statement = select(Decision).where(Decision.account_id == account_id)
    if before_sequence is not None:
        statement = statement.where(Decision.sequence < before_sequence)
    return list(session.scalars(statement.order_by(Decision.sequence.desc()).limit(limit)))


def newest_decisions(
    session: Session, limit: int = 50, before: tuple[int, int] | None = None, outcome: str | None = None
) -> list[Decision]:
    """The newest decisions of all accounts, newest first.

    before: (journaled_at_ms, sequence) of the last decision of the page before; None starts at the newest.
    outcome: only decisions with this outcome; None for all.
    """
    statement = select(Decision)
    if outcome is None:
        # the journal's order is its append order, and sequence alone has an index
        order = [Decision.sequence.desc()]
        if before is not None:
            statement = statement.where(Decision.sequence < before[1])
    else:
        order = [Decision.journaled_at_ms.desc(), Decision.sequence.desc()]
        statement = statement.where(Decision.outcome == outcome)
        if before is not None:
            statement = statement.where(tuple_(Decision.journaled_at_ms, Decision.sequence) < tuple_(*before))
    return list(session.scalars(statement.order_by(*order).limit(limit)))


def unassigned_version(session: Session) -> int | None:
    """The version that scored the newest decision without an assignment; None where there was one, or no score."""
    newest = select(Decision.model_version, Decision.assignment).order_by(Decision.sequence.desc()).limit(1)
    found = session.execute(newest).one_or_none()
    return None if found is None or found.assignment else found.model_version
