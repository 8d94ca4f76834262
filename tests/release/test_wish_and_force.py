"""What the registry wishes, beside what the ledger stored of the journal."""

import pytest

from app import entries
from plumbline.assignment import Arm, Assignment
from plumbline.decision import Source
from plumbline.journal import AssignmentApplied
from release.assigning import assigned
from release.recording import taken_out
from release.registering import register
from release.stages import Placed
from release.state import differs, in_force, registry_of
from store.engine import transaction
from store.ledger import Rows, store
from store.model_tables import ModelChange
from store.models import GUARD, add_changes, approve, ask, changes, model_request, model_version


def applied(engine, sequence, assignment):
    rows = Rows()
    source = Source("control", 0, sequence, 1)
    entry = AssignmentApplied(
        assignment=assignment, fingerprints=("f",) * len(assignment.versions), declarations={},
        source=source, journaled_at=1,
    )  # fmt: skip
    entries.add(rows, entry, sequence, 1)
    with engine.begin() as connection:
        store(connection, rows)


def change(version, before, after, per_mille=0):
    return ModelChange(
        at=1, version=version, kind="promote", from_stage=before, to_stage=after, per_mille=per_mille, asked_by="a",
        approved_by="b", why="", evidence={}, assignment="", experiment="",
    )  # fmt: skip


@pytest.fixture
def canary(installed, base, another):
    """Version 1 is champion, 2 a canary with a hundredth of the accounts."""
    another(2)
    with transaction(installed) as session:
        for number in (1, 2):
            register(session, base, number, by="ada", now_us=1)
        add_changes(session, [change(1, "candidate", "champion"), change(2, "shadow", "canary", 10)])
    return installed


def test_the_difference_is_one_sentence_and_none_where_they_agree(canary):
    with transaction(canary) as session:
        wish = assigned(registry_of(session), "by-another-name")
        assert differs(session).startswith("no assignment is in force as far as SQL knows, and the registry wishes 1")
    applied(canary, 5, wish)
    with transaction(canary) as session:
        assert in_force(session) == wish
        assert differs(session) == ""
    applied(canary, 9, Assignment(version="by-hand", decides=2))
    with transaction(canary) as session:
        assert differs(session) == (
            "assignment by-hand is in force (2 decides), and the registry wishes 1 decides, 2 for 1 %"
        )


def test_what_the_guard_took_out_is_recorded_once_and_not_brought_back_by_an_old_request(canary):
    with transaction(canary) as session:
        request = ask(
            session, kind="promote", version=2, to_stage="champion", by="ada@bank.example", now_us=1
        ).id  # fmt: skip
        approve(session, request, by="bob@bank.example", now_us=2)
    for expected in ([2], []):
        with transaction(canary) as session:
            moved = taken_out(
                session, [2], by=GUARD, assignment="rollback-7", why="errors", evidence={"judged": "x"}, now_us=3
            )
            assert moved == expected
    with transaction(canary) as session:
        assert registry_of(session).placed == {1: Placed("champion"), 2: Placed("retired")}
        assert (model_version(session, 2).stage, model_version(session, 2).per_mille) == ("retired", 0)
        last = changes(session, 2)[-1]
        assert (last.kind, last.asked_by, last.assignment, last.why) == ("rollback", GUARD, "rollback-7", "errors")
        refused = model_request(session, request)
        assert (refused.state, "rolled back meanwhile" in refused.evidence["error"]) == ("refused", True)


def test_arms_are_told_by_their_shares(canary):
    with transaction(canary) as session:
        assert assigned(registry_of(session), "a").arms == (Arm(2, 10),)
