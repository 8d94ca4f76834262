"""The watching process's rows: one audit, one balance, and wishes that are answered once; and counting the ledger."""

import sqlalchemy as sa

from store import watch
from store.engine import transaction
from store.ledger import move_position
from store.tables import Assignment, Conflict, Label, Policy, Rejected


def test_a_wish_waits_once_and_its_first_answer_stays(engine: sa.Engine) -> None:
    with transaction(engine) as session:
        first = watch.ask_recomputation(session, "tx_1", "ada", 10).id
        assert watch.ask_recomputation(session, "tx_1", "bob", 11).id == first
        other = watch.ask_recomputation(session, "tx_2", "ada", 9).id
    with transaction(engine) as session:
        assert [each.id for each in watch.waiting_recomputations(session)] == [other, first]
        watch.answer_recomputation(session, first, "equal", {"fields": []}, 20)
        watch.answer_recomputation(session, first, "different", {"fields": [1]}, 21)
    with transaction(engine) as session:
        answered = watch.newest_recomputation(session, "tx_1")
        assert answered is not None
        assert (answered.asked_by, answered.result, answered.answered_at) == ("ada", "equal", 20)
        assert watch.ask_recomputation(session, "tx_1", "bob", 30).id > other


def test_the_audit_and_the_balance_are_one_row_each(engine: sa.Engine) -> None:
    with transaction(engine) as session:
        assert watch.continuous_audit(session) is None
        assert watch.balance(session) is None
    for number in (1, 2):
        with transaction(engine) as session:
            watch.begin_continuous_audit(session, one_in=100, now_us=number).compared += number
            watch.record_balance(session, number, None, {}, number)
    with transaction(engine) as session:
        audit, balance = watch.continuous_audit(session), watch.balance(session)
        assert audit is not None
        assert (audit.started_at, audit.compared, audit.sequence) == (2, 2, -1)
        assert balance is not None
        assert (balance.imbalance, balance.updated_at) == (2, 2)


def test_rows_are_counted_over_all_tables_of_the_journal(engine: sa.Engine, stored_decision) -> None:
    with transaction(engine) as session:
        session.add(stored_decision("tx_1", 0))
        session.add(Policy(sequence=1, version="v", body={}, journaled_at=1))
        session.add(Assignment(sequence=3, version="", body=None, fingerprints=[], declarations={}, journaled_at=1))
        session.add(
            Rejected(sequence=2, source_topic="labels", source_partition=0, source_offset=0, error="", journaled_at=1)
        )
        session.add(
            Conflict(
                sequence=4, transaction_id="tx_1", identical=True, transaction={}, source_partition=0, source_offset=1,
                journaled_at=1,
            )
        )  # fmt: skip
        session.add(
            Label(
                label_id="l", sequence=5, transaction_id="tx_1", account_id="", merchant_id="", verdict="fraud",
                source="analyst", known_at=1, by="", note="", effect="counted", journaled_at=1,
            )
        )  # fmt: skip
    with transaction(engine) as session:
        assert watch.rows_between(session, 0, 5) == 6
        assert watch.rows_between(session, 2, 4) == 3
        assert watch.sequences_between(session, 0, 5) == {0, 1, 2, 3, 4, 5}
        assert watch.stored_before(session, ["l", "m"], ["tx_1"]) == {"label:l": 5, "decision:tx_1": 0}
        assert watch.ledger_sequence(session, "decisions") is None
    with engine.begin() as connection:
        move_position(connection, "decisions", 0, None, 6)
    with transaction(engine) as session:
        assert watch.ledger_sequence(session, "decisions") == 5
