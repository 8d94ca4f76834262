"""The overview's figures, read from SQL alone: rates, outcomes, latency, open alerts, the newest audit.

Rates come from `tallies` (one row a second), latency from the newest few thousand decisions: neither grows with the
journal.
"""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from plumbline.transaction import SECOND_US
from store.alerts import newest_alert_id, open_outcomes
from store.audit_tables import Audit
from store.audits import newest_audit, standing_audits
from store.tables import ContinuousAudit, Decision, Tally
from store.watch import continuous_audit

LATENCY_DECISIONS = 5000


@dataclass(frozen=True, slots=True)
class Bucket:
    """Decisions journaled from `starts_at` (seconds since 1970 UTC) until the next bucket starts."""

    starts_at: int
    approve: int
    review: int
    decline: int

    @property
    def total(self) -> int:
        """Decisions of all outcomes."""
        return self.approve + self.review + self.decline


@dataclass(frozen=True, slots=True)
class Overview:
    """What the overview shows.

    buckets: oldest first, without gaps, the last one still filling; bucket_seconds: how long each is.
    per_second: decisions a second over the last 60 s. outcomes: decisions by outcome within all buckets.
    latency_p50_ms, latency_p99_ms: broker append of the transaction to broker append of its answer, over the newest
    `latency_decisions` decisions; None before the first. standing_differences: of audits, as `store.audits` says.
    """

    buckets: tuple[Bucket, ...]
    bucket_seconds: int
    per_second: float
    outcomes: dict[str, int]
    latency_p50_ms: int | None
    latency_p99_ms: int | None
    latency_decisions: int
    open_outcomes: dict[str, int]
    newest_alert_id: int
    newest_sequence: int | None
    audit: Audit | None
    standing_differences: int
    watched: ContinuousAudit | None

    @property
    def open_alerts(self) -> int:
        """Open alerts of all outcomes."""
        return sum(self.open_outcomes.values())


def overview(session: Session, now_us: int, minutes: int = 15, bucket_seconds: int = 10) -> Overview:
    """The figures of the last `minutes`; now_us: our clock, microseconds since 1970 UTC."""
    now = now_us // SECOND_US
    buckets = _buckets(session, now, minutes * 60, bucket_seconds)
    last_minute = session.scalar(
        select(func.sum(Tally.approve + Tally.review + Tally.decline)).where(
            Tally.second >= now - 60, Tally.second < now
        )
    )
    latencies = sorted(
        session.scalars(
            select(Decision.journaled_at_ms - Decision.received_at_ms)
            .order_by(Decision.sequence.desc())
            .limit(LATENCY_DECISIONS)
        )
    )
    return Overview(
        buckets=buckets,
        bucket_seconds=bucket_seconds,
        per_second=float(last_minute or 0) / 60,
        outcomes={
            outcome: sum(getattr(bucket, outcome) for bucket in buckets) for outcome in ("approve", "review", "decline")
        },
        latency_p50_ms=quantile(latencies, 50),
        latency_p99_ms=quantile(latencies, 99),
        latency_decisions=len(latencies),
        open_outcomes=open_outcomes(session),
        newest_alert_id=newest_alert_id(session),
        newest_sequence=session.scalar(select(func.max(Decision.sequence))),
        audit=newest_audit(session),
        standing_differences=sum(each.different for each in standing_audits(session)),
        watched=continuous_audit(session),
    )


def _buckets(session: Session, now: int, seconds: int, bucket_seconds: int) -> tuple[Bucket, ...]:
    last = now - now % bucket_seconds
    first = last - seconds + bucket_seconds
    start = (Tally.second - Tally.second % bucket_seconds).label("start")
    counted = {
        row.start: Bucket(int(row.start), int(row.approve), int(row.review), int(row.decline))
        for row in session.execute(
            select(
                start,
                func.sum(Tally.approve).label("approve"),
                func.sum(Tally.review).label("review"),
                func.sum(Tally.decline).label("decline"),
            )
            .where(Tally.second >= first, Tally.second < last + bucket_seconds)
            .group_by(start)
        )
    }
    starts = range(first, last + bucket_seconds, bucket_seconds)
    return tuple(counted.get(at, Bucket(at, 0, 0, 0)) for at in starts)


def quantile(ascending: list[int], percent: int) -> int | None:
    """The smallest value with at least `percent` % of all values at or below it; None of an empty list.

    >>> quantile([1, 2, 3, 4], 50)
    2
    """
    if not ascending:
        return None
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
