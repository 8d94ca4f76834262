"""Findings in SQL: what joins what, and what a newer row says nothing about."""

from store.audits import record_watched, standing_audits
from store.engine import transaction
from store.imbalances import clear_imbalance, newest_imbalances, record_imbalance, standing_imbalances
from tests.fakes import NOW


def watched(engine, first, last, different, one_in=10):
    with transaction(engine) as session:
        record_watched(
            session, first_sequence=first, last_sequence=last, compared=last - first + 1, different=different,
            detail=[{"n": n} for n in range(different)], one_in=one_in, now_us=NOW,
        )  # fmt: skip


def standing(engine):
    with transaction(engine) as session:
        return [
            (each.sample, each.first_sequence, each.last_sequence, each.compared, each.different, len(each.detail))
            for each in standing_audits(session)
        ]


def test_what_the_continuous_audit_finds_is_one_row_until_that_is_acknowledged(engine):
    watched(engine, 0, 9, 3)
    watched(engine, 20, 29, 60)
    assert standing(engine) == [("1/10", 0, 29, 20, 63, 50)]
    watched(engine, 40, 49, 1, one_in=7)
    assert len(standing(engine)) == 2
    with transaction(engine) as session:
        for each in standing_audits(session):
            each.acknowledged_at, each.acknowledged_by = NOW, "ada"
    watched(engine, 50, 59, 2)
    assert standing(engine) == [("1/10", 50, 59, 10, 2, 2)]


def imbalances(engine):
    with transaction(engine) as session:
        return [(each.count, each.seen_at - NOW, each.cleared_at is not None) for each in newest_imbalances(session)]


def test_an_imbalance_is_one_row_as_long_as_it_lasts(engine):
    def record(count, after):
        with transaction(engine) as session:
            record_imbalance(session, count, [], NOW + after)

    record(2, 0)
    record(5, 1)
    record(3, 2)
    assert imbalances(engine) == [(5, 2, False)]
    with transaction(engine) as session:
        (one,) = standing_imbalances(session)
        one.acknowledged_at, one.acknowledged_by = NOW, "ada"
    record(5, 3)
    assert imbalances(engine) == [(5, 3, False)]
    record(6, 4)
    assert imbalances(engine) == [(6, 4, False), (5, 3, False)], "it grew after somebody had seen it"
    with transaction(engine) as session:
        clear_imbalance(session, NOW + 5)
        clear_imbalance(session, NOW + 6)
    record(1, 7)
    assert imbalances(engine) == [(1, 7, False), (6, 4, True), (5, 3, True)]
    with transaction(engine) as session:
        assert len(standing_imbalances(session)) == 2
