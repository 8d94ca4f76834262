"""Reading alerts: the queue, the costliest first; one alert; and what is newer than a live view has seen."""

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, joinedload

from plumbline.errors import AlertNotFound
from store.tables import Alert

OPEN = "open"
CLOSED = "closed"


def open_alerts(
    session: Session, limit: int = 50, after: tuple[int, int] | None = None, outcome: str | None = None
) -> list[Alert]:
    """Open alerts with their decisions, the highest expected loss first, the oldest first among equals.

    after: (expected_loss_minor, id) of the last alert of the page before; None starts at the top.
    outcome: only alerts on decisions with this outcome; None for all.
    """
    statement = select(Alert).options(joinedload(Alert.decision)).where(Alert.status == OPEN)
    if outcome is not None:
        statement = statement.where(Alert.outcome == outcome)
    if after is not None:
        loss, alert_id = after
        statement = statement.where(
            Alert.expected_loss_minor <= loss,  # follows from the rest, and lets the index skip what was shown
            or_(
                Alert.expected_loss_minor < loss,
                and_(Alert.expected_loss_minor == loss, Alert.id > alert_id),
            ),
        )
    return list(session.scalars(statement.order_by(Alert.expected_loss_minor.desc(), Alert.id).limit(limit)))


def alert(session: Session, alert_id: int) -> Alert:
    """One alert, open or closed, with its decision; raises AlertNotFound."""
    statement = select(Alert).options(joinedload(Alert.decision)).where(Alert.id == alert_id)
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise AlertNotFound(f"alert {alert_id} does not exist: pick one from the queue")
    return found


def alerts_after(session: Session, alert_id: int, limit: int = 100) -> list[Alert]:
    """Alerts opened after the given one (open or closed by now), with their decisions, oldest first."""
    statement = select(Alert).options(joinedload(Alert.decision)).where(Alert.id > alert_id)
    return list(session.scalars(statement.order_by(Alert.id).limit(limit)))


def newest_alert_id(session: Session) -> int:
    """The cursor from which a live view begins: the highest alert id, 0 where there is none."""
    return session.scalar(select(func.max(Alert.id))) or 0


def open_count(session: Session) -> int:
    """How many alerts wait for an analyst."""
    return session.scalar(select(func.count()).select_from(Alert).where(Alert.status == OPEN)) or 0


def alert_of_transaction(session: Session, transaction_id: str) -> Alert | None:
    """The alert that a transaction's decision opened; None when it opened none."""
    return session.scalars(select(Alert).where(Alert.transaction_id == transaction_id)).one_or_none()


def open_outcomes(session: Session) -> dict[str, int]:
    """How many alerts wait for an analyst, by the decision's outcome; outcomes without any are left out."""
    counted = select(Alert.outcome, func.count()).where(Alert.status == OPEN).group_by(Alert.outcome)
    return dict(session.execute(counted).all())
