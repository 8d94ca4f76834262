"""Verdicts, which analysts give and the outbox publishes; and labels, which the journal says have become known."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from plumbline import label as language
from plumbline.errors import AlertClosed, AlertNotFound
from store.alerts import CLOSED, OPEN
from store.tables import Alert, Label, Verdict

_encode = msgspec.json.Encoder().encode


def record_verdict(
    session: Session, alert_id: int, verdict: str, note: str, *, by: str, now_us: int, label_id: str
) -> Verdict:
    """An analyst's verdict, put into the outbox, and the alert closed by it; the caller commits both at once.

    verdict: `fraud`, `genuine` or `unsure`; by: the analyst's log-in; label_id: a fresh id, made when the form was
    shown, so that sending the same form twice gives one verdict. The session should have written nothing before.
    Raises AlertNotFound; AlertClosed, which says who was first and when; InvalidLabel for a wrong verdict or a note
    that is too long.
    """
    closing = (
        update(Alert)
        .where(Alert.id == alert_id, Alert.status == OPEN)
        .values(status=CLOSED, closed_at=now_us, closed_by=by)
        .returning(Alert.transaction_id)
        .execution_options(synchronize_session=False)
    )
    transaction_id = session.scalar(closing)
    if transaction_id is None:
        return _earlier(session, alert_id, by, label_id)
    stated = Verdict(
        label_id=label_id,
        alert_id=alert_id,
        transaction_id=transaction_id,
        verdict=verdict,
        known_at=now_us,
        by=by,
        note=note,
    )
    language.parse(_encode(label_of(stated)), now_us)
    session.add(stated)
    session.flush()
    return stated


def _earlier(session: Session, alert_id: int, by: str, label_id: str) -> Verdict:
    same = session.get(Verdict, label_id)
    if same is not None and same.alert_id == alert_id and same.by == by:
        return same
    first = session.execute(select(Alert.closed_by, Alert.closed_at).where(Alert.id == alert_id)).one_or_none()
    if first is None:
        raise AlertNotFound(f"alert {alert_id} does not exist: pick one from the queue")
    raise AlertClosed(alert_id, first.closed_by or "", first.closed_at or 0)


def label_of(verdict: Verdict) -> language.Label:
    """The Label that a verdict becomes on the `labels` topic."""
    return language.Label(
        label_id=verdict.label_id,
        transaction_id=verdict.transaction_id,
        verdict=verdict.verdict,  # type: ignore[arg-type]  # text in SQL; record_verdict had it parsed
        source="analyst",
        known_at=verdict.known_at,
        by=verdict.by,
        note=verdict.note,
    )


def waiting_verdicts(session: Session, limit: int = 500) -> list[Verdict]:
    """Verdicts that the broker has not acknowledged yet, the oldest first."""
    waiting = select(Verdict).where(Verdict.published_at.is_(None))
    return list(session.scalars(waiting.order_by(Verdict.known_at).limit(limit)))


def mark_published(session: Session, label_ids: Sequence[str], now_us: int) -> None:
    """Note that the broker holds these verdicts; the caller commits."""
    session.execute(
        update(Verdict)
        .where(Verdict.label_id.in_(label_ids), Verdict.published_at.is_(None))
        .values(published_at=now_us)
        .execution_options(synchronize_session=False)
    )


def verdicts_of(session: Session, transaction_id: str) -> list[Verdict]:
    """What analysts said about a transaction in this console, oldest first, published or not."""
    said = select(Verdict).where(Verdict.transaction_id == transaction_id)
    return list(session.scalars(said.order_by(Verdict.known_at)))


def labels_of(session: Session, transaction_ids: Sequence[str]) -> dict[str, list[Label]]:
    """Labels the journal holds on each of these transactions, oldest first; ids without a label are left out."""
    known: dict[str, list[Label]] = {}
    for label in session.scalars(
        select(Label).where(Label.transaction_id.in_(transaction_ids)).order_by(Label.sequence)
    ):
        known.setdefault(label.transaction_id, []).append(label)
    return known
