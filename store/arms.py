"""What was decided by whom, and what became of it, as experiments and comparisons of versions ask for it."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Decision, Label, ShadowScore


def labelled_since(session: Session, since_us: int, until_us: int | None) -> list[tuple[str, str, str]]:
    """Account, outcome and verdict of every labelled decision of a span of our clock, which has no end when None."""
    wanted = (
        select(Decision.account_id, Decision.outcome, Label.verdict)
        .join(Label, Label.transaction_id == Decision.transaction_id)
        .where(Decision.decided_at >= since_us)
    )
    wanted = wanted if until_us is None else wanted.where(Decision.decided_at < until_us)
    return [(account, outcome, verdict) for account, outcome, verdict in session.execute(wanted)]


def score_pairs(session: Session, one: int, other: int, limit: int) -> list[tuple[float, float]]:
    """Scores of the newest decisions of which one version decided and the other was a shadow: (one's, other's)."""
    found: list[tuple[int, float, float]] = []
    for decider, shadow in ((one, other), (other, one)):
        wanted = (
            select(Decision.sequence, Decision.score, ShadowScore.score)
            .join(ShadowScore, ShadowScore.sequence == Decision.sequence)
            .where(Decision.model_version == decider, ShadowScore.version == shadow)
            .where(Decision.score.is_not(None), ShadowScore.score.is_not(None))
            .order_by(Decision.sequence.desc())
            .limit(limit)
        )
        for sequence, decided, shadowed in session.execute(wanted):
            assert decided is not None and shadowed is not None  # noqa: PT018 - the query left those out
            found.append((sequence, decided, shadowed) if decider == one else (sequence, shadowed, decided))
    return [(a, b) for _, a, b in sorted(found, reverse=True)[:limit]]
