"""The overview's figures against a count over the rows themselves, on both databases."""

import random
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from store.audits import record_audit
from store.engine import transaction
from store.ledger import Rows, store
from store.overview import overview, quantile
from store.tables import Decision

NOW_S = 1_700_000_123


@pytest.fixture
def decisions(engine: sa.Engine, stored_decision: Callable[..., Decision]) -> list[Decision]:
    """Decisions over the last 20 minutes, in batches of uneven size."""
    rng = random.Random(8)
    made = []
    for sequence, age_ms in enumerate(sorted((rng.randrange(1_200_000) for _ in range(500)), reverse=True)):
        journaled = NOW_S * 1000 - age_ms
        outcome = rng.choice(["approve", "review", "decline"])
        made.append(
            stored_decision(
                f"tx_{sequence}",
                sequence,
                outcome=outcome,
                journaled_at_ms=journaled,
                received_at_ms=journaled - rng.randrange(300),
            )
        )
    columns = [column.key for column in Decision.__table__.columns]
    rows = [{key: getattr(each, key) for key in columns} for each in made]
    done = 0
    with engine.begin() as connection:
        while done < len(rows):
            size = rng.randrange(1, 90)
            assert store(connection, Rows(decisions=rows[done : done + size])) == len(rows[done : done + size])
            done += size
        assert store(connection, Rows(decisions=rows[100:300])) == 0
    return made


def test_rates_and_outcomes_are_those_of_the_rows(engine: sa.Engine, decisions: list[Decision]) -> None:
    with Session(engine) as session:
        seen = overview(session, NOW_S * 1_000_000, minutes=15, bucket_seconds=10)
    assert len(seen.buckets) == 90
    assert seen.buckets[-1].starts_at <= NOW_S < seen.buckets[-1].starts_at + 10
    for before, after in zip(seen.buckets, seen.buckets[1:], strict=False):
        assert after.starts_at - before.starts_at == 10
    for bucket in seen.buckets:
        inside = [d for d in decisions if 0 <= d.journaled_at_ms // 1000 - bucket.starts_at < 10]
        assert bucket.total == len(inside)
        assert bucket.review == sum(d.outcome == "review" for d in inside)
    assert sum(seen.outcomes.values()) == sum(bucket.total for bucket in seen.buckets) > 100
    minute = sum(NOW_S - 60 <= d.journaled_at_ms // 1000 < NOW_S for d in decisions)
    assert seen.per_second == pytest.approx(minute / 60)


def test_latency_is_from_broker_append_to_broker_append(engine: sa.Engine, decisions: list[Decision]) -> None:
    latencies = sorted(d.journaled_at_ms - d.received_at_ms for d in decisions)
    with Session(engine) as session:
        seen = overview(session, NOW_S * 1_000_000)
    assert (seen.latency_p50_ms, seen.latency_p99_ms) == (latencies[249], latencies[494])
    assert seen.latency_decisions == 500
    assert seen.newest_sequence == 499


def test_the_audit_light_shows_the_newest_audit(engine: sa.Engine) -> None:
    with Session(engine) as session:
        assert overview(session, NOW_S * 1_000_000).audit is None
    for different in (0, 3):
        with transaction(engine) as session:
            record_audit(
                session,
                started_at=1,
                finished_at=2,
                first_sequence=0,
                last_sequence=9,
                compared=10,
                different=different,
                detail=[{"sequence": 4}] * different,
            )
    with Session(engine) as session:
        seen = overview(session, NOW_S * 1_000_000)
        assert seen.audit is not None
        assert (seen.audit.compared, seen.audit.different, seen.audit.detail[0]) == (10, 3, {"sequence": 4})
        assert seen.per_second == 0
        assert (seen.latency_p50_ms, seen.newest_sequence, seen.open_alerts) == (None, None, 0)


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile(list(range(1, 101)), percent) for percent in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert quantile([7], 99) == 7
    assert quantile([], 50) is None


def test_integers_and_scores_come_back_to_the_bit(engine: sa.Engine, stored_decision: Callable[..., Decision]) -> None:
    score = float.fromhex("0x1.99999ap-4")  # the float32 nearest to 0.1
    with transaction(engine) as session:
        session.add(stored_decision("tx", 2**62, score=score, amount_minor=10**12, occurred_at=2**53 - 1))
    with Session(engine) as session:
        found = session.get_one(Decision, "tx")
        assert found.score is not None
        assert found.score.hex() == score.hex()
        assert (found.sequence, found.amount_minor, found.occurred_at) == (2**62, 10**12, 2**53 - 1)
        assert found.history == [1, 2**63 - 1, -(2**63)]
