"""What the watching process keeps in SQL, and what it asks of the ledger's tables to count them against the journal."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import exists, func, insert, literal, select, union_all, update
from sqlalchemy.orm import Session

from store.tables import (
    Assignment,
    Balance,
    Conflict,
    ContinuousAudit,
    Decision,
    Label,
    LedgerPosition,
    Policy,
    Recomputation,
    Rejected,
)
from store.upsert import put

ONLY: Final = 1
_JOURNALED: Final = (Decision, Label, Conflict, Rejected, Policy, Assignment)
"""The tables with one row for an entry of the journal."""


def continuous_audit(session: Session) -> ContinuousAudit | None:
    """How far the continuous audit has come and what it found; None before its first start."""
    return session.get(ContinuousAudit, ONLY)


def begin_continuous_audit(session: Session, one_in: int, now_us: int) -> ContinuousAudit:
    """The continuous audit's row at zero, whatever it held; the caller commits."""
    put(session, ContinuousAudit(
        id=ONLY, started_at=now_us, updated_at=now_us, one_in=one_in, sequence=-1, journal_end=0, behind_ms=0,
        compared=0, different=0, unverified=0, detail=[],
    ))  # fmt: skip
    return session.get_one(ContinuousAudit, ONLY, populate_existing=True)


def locked_continuous_audit(session: Session) -> ContinuousAudit | None:
    """The row, which nobody else changes until the caller commits; None before the first start."""
    # An UPDATE also takes SQLite's lock, which `SELECT ... FOR UPDATE` does not; what is read comes after it.
    session.execute(update(ContinuousAudit).where(ContinuousAudit.id == ONLY).values(one_in=ContinuousAudit.one_in))
    return session.get(ContinuousAudit, ONLY, populate_existing=True)


def balance(session: Session) -> Balance | None:
    """What conservation counted last; None before the first count."""
    return session.get(Balance, ONLY)


def record_balance(session: Session, imbalance: int, oldest_waiting_ms: int | None, body: Any, now_us: int) -> None:
    """Replace the counts of conservation; the caller commits."""
    put(
        session,
        Balance(id=ONLY, updated_at=now_us, imbalance=imbalance, oldest_waiting_ms=oldest_waiting_ms, body=body),
    )


def newest_clock_difference_ms(session: Session) -> int | None:
    """The scorer's clock less the broker's, as the newest decision shows it; None before the first.

    The scorer stamps a decision a moment before the broker takes it in, so a right clock gives a little less than 0.
    """
    newest = select(Decision.decided_at, Decision.journaled_at_ms).order_by(Decision.sequence.desc()).limit(1)
    found = session.execute(newest).one_or_none()
    return None if found is None else found.decided_at // 1000 - found.journaled_at_ms


def rejected_share(session: Session, since_us: int, entries: int) -> tuple[int, int]:
    """Rejected messages, and those with decisions, among so many newest journal entries that came since a time."""
    ends = [session.scalar(select(func.max(table.sequence))) for table in (Decision, Rejected)]
    first = max((end for end in ends if end is not None), default=0) - entries
    rejected = select(func.count()).where(Rejected.sequence > first, Rejected.journaled_at >= since_us)
    decided = select(func.count()).where(Decision.sequence > first, Decision.decided_at >= since_us)
    bad, good = (int(session.scalar(each) or 0) for each in (rejected, decided))
    return bad, bad + good


def ask_recomputation(session: Session, transaction_id: str, by: str, now_us: int) -> Recomputation:
    """Ask for one decision to be computed again; a wish that still waits is not doubled. The caller commits."""
    # Of two who ask at once the second waits here on PostgreSQL, and sees the wish of the first in what follows.
    session.execute(select(Decision.sequence).where(Decision.transaction_id == transaction_id).with_for_update())
    waits = exists().where(Recomputation.transaction_id == transaction_id, Recomputation.answered_at.is_(None))
    asked = select(literal(transaction_id), literal(by), literal(now_us)).where(~waits)
    session.execute(insert(Recomputation).from_select(["transaction_id", "asked_by", "asked_at"], asked))
    newest = newest_recomputation(session, transaction_id)
    if newest is None:
        raise AssertionError("a wish was there or was inserted")
    return newest


def newest_recomputation(session: Session, transaction_id: str) -> Recomputation | None:
    """The last time somebody asked about this decision; None when nobody did."""
    statement = select(Recomputation).where(Recomputation.transaction_id == transaction_id)
    return session.scalars(statement.order_by(Recomputation.id.desc()).limit(1)).one_or_none()


def waiting_recomputations(session: Session, limit: int = 10) -> list[Recomputation]:
    """Wishes without an answer, the oldest first."""
    statement = select(Recomputation).where(Recomputation.answered_at.is_(None))
    return list(session.scalars(statement.order_by(Recomputation.asked_at, Recomputation.id).limit(limit)))


def answer_recomputation(session: Session, number: int, result: str, body: Any, now_us: int) -> None:
    """Answer a wish; the caller commits. An answer that is there stays: whoever else was asked came to the same."""
    session.execute(
        update(Recomputation)
        .where(Recomputation.id == number, Recomputation.answered_at.is_(None))
        .values(result=result, body=body, answered_at=now_us)
    )


def ledger_sequence(session: Session, topic: str) -> int | None:
    """The newest journal sequence that the ledger has passed; None when it has stored nothing."""
    statement = select(LedgerPosition.next_offset).where(LedgerPosition.topic == topic, LedgerPosition.partition == 0)
    following = session.scalar(statement)
    return None if following is None else following - 1


def rows_between(session: Session, first: int, last: int) -> int:
    """How many rows the ledger holds for the journal's entries from sequence `first` to `last`, both included."""
    counts = [
        select(func.count().label("rows")).select_from(table).where(table.sequence.between(first, last))
        for table in _JOURNALED
    ]
    counted = union_all(*counts).subquery()
    return int(session.scalar(select(func.sum(counted.c.rows))) or 0)


def sequences_between(session: Session, first: int, last: int) -> set[int]:
    """The sequences, from `first` to `last`, that have a row."""
    found = [select(table.sequence).where(table.sequence.between(first, last)) for table in _JOURNALED]
    return set(session.scalars(union_all(*found)))


def stored_before(session: Session, label_ids: Sequence[str], transaction_ids: Sequence[str]) -> dict[str, int]:
    """The sequence under which each of these labels and decisions is stored, by `label:ID` and `decision:ID`."""
    found: dict[str, int] = {}
    for label_id, sequence in session.execute(
        select(Label.label_id, Label.sequence).where(Label.label_id.in_(label_ids))
    ):
        found[f"label:{label_id}"] = sequence
    for transaction_id, sequence in session.execute(
        select(Decision.transaction_id, Decision.sequence).where(Decision.transaction_id.in_(transaction_ids))
    ):
        found[f"decision:{transaction_id}"] = sequence
    return found
