"""Who owns the release now, and what was written down of assignments before they were published.

There is one owner at a time, by a lease in SQL on the database's own clock: a command that is killed loses it by
itself. An urgent command (a rollback, the guard) takes it from one that is not: that one finds out at its next step,
since every change of the registry begins with `Owner.require` in the same SQL transaction.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from plumbline.errors import ReleaseHeld, StoreUnavailable
from store.engine import transaction
from store.release_tables import ReleaseOwner, ReleasePublication

log = structlog.get_logger()

ONLY: Final = 1
LEASE_SECONDS: Final = 15.0
"""How long a killed owner holds up the next one; a living one renews three times as often."""
URGENT_SECONDS: Final = 60.0
"""An urgent owner gives way to another urgent one after so long: it hangs."""
LOOK_SECONDS: Final = 0.2
INTENDED, RECORDED, REFUSED, ABANDONED = "intended", "recorded", "refused", "abandoned"


@dataclass(frozen=True, slots=True)
class Owner:
    """The command that owns the release, until another one takes it over or the block of `owning` ends."""

    engine: sa.Engine
    name: str
    doing: str
    seconds: float

    def require(self, session: Session) -> None:
        """Hold the release to the end of this SQL transaction. Raises ReleaseHeld when another command took it over."""
        # By an UPDATE, so that nobody can take it over between this statement and the commit.
        held = session.execute(
            sa.update(ReleaseOwner)
            .where(ReleaseOwner.id == ONLY, ReleaseOwner.owner == self.name)
            .values(expires_at_ms=_now_ms(session) + int(self.seconds * 1000))
        )
        if held.rowcount != 1:  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives
            raise ReleaseHeld(
                f"{self.doing} was overtaken by {_row(session).doing or 'another release command'} and stopped before "
                "it changed anything more: `plumbline models list` shows what is active; run the command again if it "
                "is still wanted"
            )

    def check(self) -> None:
        """As `require`, in a transaction of its own."""
        with transaction(self.engine) as session:
            self.require(session)


@contextmanager
def owning(
    engine: sa.Engine, doing: str, *, urgent: bool, wait_seconds: float, seconds: float | None = None
) -> Iterator[Owner]:
    """Own the release while the block runs, whose lease a thread renews.

    doing: what for, in the errors of those who wait; urgent: whether to take it from a command that is not;
    wait_seconds: how long to wait for the command that has it; seconds: of the lease, LEASE_SECONDS when not given.
    Raises ReleaseHeld.
    """
    owner = Owner(engine, uuid.uuid4().hex, doing, LEASE_SECONDS if seconds is None else seconds)
    end = time.monotonic() + wait_seconds
    while (holder := _acquire(owner, urgent)) is not None:
        if time.monotonic() >= end:
            raise ReleaseHeld(
                f"{holder} changes the stream at this moment, and {doing} waited {wait_seconds:.0f} s for it: nothing "
                "was done; run the command again"
            )
        time.sleep(LOOK_SECONDS)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(owner, ended), name="release-lease", daemon=True)
    renewing.start()
    try:
        yield owner
    finally:
        ended.set()
        renewing.join()
        _release(owner)


def _acquire(owner: Owner, urgent: bool) -> str | None:
    """Take the release where it is free; what the command that has it does, where it is not."""
    row = ReleaseOwner
    with transaction(owner.engine) as session:
        now, lease_ms = _now_ms(session), int(owner.seconds * 1000)
        # A lease that ends later than any can was taken before the clock was set back.
        free = (row.owner == "") | (row.expires_at_ms < now) | (row.expires_at_ms > now + 10 * lease_ms + 60_000)
        if urgent:
            free |= row.urgent.is_(False) | (row.acquired_at_ms < now - int(URGENT_SECONDS * 1000))
        taken = session.execute(
            sa.update(row)
            .where(row.id == ONLY, free)
            .values(
                owner=owner.name, doing=owner.doing[:64], urgent=urgent, acquired_at_ms=now,
                expires_at_ms=now + lease_ms,
            )
        )  # fmt: skip
        if taken.rowcount == 1:  # type: ignore[attr-defined] # of a cursor, as every UPDATE gives
            return None
        return _row(session).doing or "another release command"


def _renew(owner: Owner, ended: threading.Event) -> None:
    while not ended.wait(owner.seconds / 3):
        try:
            owner.check()
        except ReleaseHeld:
            return  # the command itself hears of it at its next step
        except StoreUnavailable as error:
            log.warning("the lease of a release could not be renewed", doing=owner.doing, reason=str(error))


def _release(owner: Owner) -> None:
    try:
        with transaction(owner.engine) as session:
            session.execute(
                sa.update(ReleaseOwner)
                .where(ReleaseOwner.id == ONLY, ReleaseOwner.owner == owner.name)
                .values(owner="", doing="", urgent=False)
            )
    except StoreUnavailable as error:
        log.warning("the lease of a release ends by itself", doing=owner.doing, reason=str(error))


def _now_ms(session: Session) -> Any:
    """The database's clock, milliseconds since 1970 UTC: the one clock that all commands share."""
    if session.get_bind().dialect.name == "sqlite":
        return sa.literal_column("CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)", sa.BigInteger())
    return sa.literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)", sa.BigInteger())


def _row(session: Session) -> ReleaseOwner:
    return session.execute(
        select(ReleaseOwner).where(ReleaseOwner.id == ONLY), execution_options={"populate_existing": True}
    ).scalar_one()


def compared(session: Session) -> tuple[int, Any | None]:
    """The newest journal entry that was compared with the registry, and the assignment active there, as JSON."""
    row = _row(session)
    return row.sequence, row.active


def set_compared(session: Session, sequence: int, active: Any | None) -> None:
    """Note how far the journal was compared with the registry; the caller owns the release, and commits."""
    values = {"sequence": sequence, "active": sa.null() if active is None else active}
    session.execute(sa.update(ReleaseOwner).where(ReleaseOwner.id == ONLY).values(values))


def intend(
    session: Session, *, assignment: str, request_id: int, body: Any, after: Any, evidence: Any, by: str, now_us: int
) -> None:
    """Write down an assignment before it is published; one of the same name that was abandoned is taken up again.

    The caller owns the release, and commits.
    """
    found = publication(session, assignment)
    if found is None:
        found = ReleasePublication(assignment=assignment, request_id=request_id, body=body, made_by=by, made_at=now_us)
        session.add(found)
    found.after, found.evidence, found.state, found.outcome, found.ended_at = after, evidence, INTENDED, "", None
    session.flush()


def publication(session: Session, assignment: str) -> ReleasePublication | None:
    """What was written down of the assignment of this name; None where no request published it."""
    return session.scalars(select(ReleasePublication).where(ReleasePublication.assignment == assignment)).one_or_none()


def unanswered(session: Session) -> list[ReleasePublication]:
    """Publications whose end is not known, the oldest first."""
    wanted = select(ReleasePublication).where(ReleasePublication.state == INTENDED)
    return list(session.scalars(wanted.order_by(ReleasePublication.id)))


def end_publication(session: Session, found: ReleasePublication, state: str, outcome: str, now_us: int) -> None:
    """Note what became of a publication; the caller commits."""
    found.state, found.outcome, found.ended_at = state, outcome, now_us
    session.flush()
