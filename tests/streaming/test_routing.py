"""Arms: each account's rows are decided by the version it was dealt to, or by the champion where that one fails."""

import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import DECLARATION
from plumbline.assignment import Arm, Assignment
from plumbline.decision import MODEL_UNAVAILABLE, Decision, Outcome
from plumbline.journal import Answered, Rejected
from plumbline.policy import Policy
from streaming.batch import model_columns
from streaming.model import PAUSE_FIRST_SECONDS
from tests.fakes import scores_of
from tests.streaming.test_declarations import NEW, OLD, WIDER, Leader

FINGERPRINTS = {1: OLD, 2: NEW, 3: OLD, 4: OLD}


def served():
    """A leader with four versions, each with scores of its own: 2 is of a wider declaration."""
    leader = Leader()
    leader.client.declarations = {2: WIDER, 3: DECLARATION, 4: DECLARATION}
    leader.client.shifts = {2: 0.25, 3: 0.5, 4: 0.75}
    return leader


def assigned(leader, *arms, decides=1, shadows=(), **fields):
    (entry,) = leader.take(
        control=[Assignment(version="a", decides=decides, arms=tuple(Arm(*each) for each in arms),
                            shadows=shadows, **fields)]
    )  # fmt: skip
    assert not isinstance(entry, Rejected), entry
    return entry.assignment


def naive(assignment, account):
    """The arm of an account, by walking the thousand places one by one."""
    digest = hashlib.blake2b((assignment.salt + "\0" + account).encode(), digest_size=8).digest()
    place, owners = int.from_bytes(digest, "big") % 1000, []
    for arm in assignment.arms:
        owners += [arm.version] * arm.per_mille
    return owners[place] if place < len(owners) else None


def expected(decision, version, leader):
    """The score that a version gives a decision's transaction."""
    history = np.array([decision.history_of(FINGERPRINTS[version])], np.int64)
    plain = scores_of(model_columns([decision.transaction], history))
    return float((plain + np.float32(leader.client.shifts.get(version, 0)))[0] % np.float32(1))


shares = st.lists(
    st.tuples(st.sampled_from([2, 3, 4]), st.integers(1, 333)), max_size=3, unique_by=lambda each: each[0]
)


@given(
    shares, st.sampled_from(["", "x", "another"]), st.sets(st.sampled_from([1, 2, 3, 4])),
    st.lists(st.lists(st.integers(0, 60), max_size=12), min_size=1, max_size=4), st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_every_row_is_decided_by_whom_a_naive_dealing_says(arms, salt, absent, batches, experiment):
    leader = served()
    leader.take(control=[Policy(version="strict", review_at=0.0, decline_at=1.1)])
    assignment = assigned(leader, *arms, salt=salt, kind="experiment" if experiment else "canary", shadows=())
    leader.client.absent = absent
    for accounts in batches:
        entries = leader.pay_of([f"account-{n}" for n in accounts])
        decisions = [each for each in entries if isinstance(each, Decision)]
        assert [each.transaction.account_id for each in decisions] == [f"account-{n}" for n in accounts]
        answered = {each.version: each for each in entries if isinstance(each, Answered)}
        counted = dict.fromkeys(answered, 0)
        for each in decisions:
            arm = naive(assignment, each.transaction.account_id)
            owner = 1 if arm is None or arm in absent else arm
            route = "champion" if arm is None else "fallback" if arm in absent else assignment.kind
            assert (each.assignment, each.route, each.fingerprint) == ("a", route, FINGERPRINTS[owner])
            others = {FINGERPRINTS[one] for one in assignment.versions} - {each.fingerprint}
            assert {one.fingerprint for one in each.other_histories} == others
            if owner in absent:
                assert (each.scores, each.outcome, each.reasons) == ((), Outcome.REVIEW, (MODEL_UNAVAILABLE,))
            else:
                (score,) = each.scores
                assert (score.model_version, score.value) == (owner, expected(each, owner, leader))
                assert [one.kind for one in each.reasons] == ["feature"] * 3
            if arm is not None:
                counted[arm] += 1
        if decisions and arms:
            counted[1] = len(decisions)
            assert {version: each.rows for version, each in answered.items()} == counted
            assert {version for version, each in answered.items() if each.failure} == absent & set(answered)
            assert {each.role for each in answered.values()} <= {"champion", assignment.kind}
            places = [n for n, each in enumerate(entries) if isinstance(each, Answered)]
            assert places == list(range(len(answered))), "they stand before the decisions"
        else:
            assert not answered


def test_accounts_keep_their_arm_on_another_scorer_and_while_the_arm_grows():
    accounts = [f"account-{n}" for n in range(200)]

    def dealt(per_mille):
        leader = served()
        assigned(leader, (3, per_mille))
        entries = leader.pay_of(accounts)
        return {
            each.transaction.account_id for each in entries if isinstance(each, Decision) and each.route == "canary"
        }

    assert dealt(100) == dealt(100)
    assert dealt(100) < dealt(400)


def test_reasons_come_from_the_version_that_decided():
    leader = served()
    leader.take(control=[Policy(version="strict", review_at=0.0, decline_at=1.1)])
    assigned(leader, (3, 500))
    leader.pay_of([f"account-{n}" for n in range(20)])
    assert sorted(leader.client.explained) == [1, 3]


def test_an_arm_that_hangs_is_waited_for_no_longer_than_the_deadline_and_then_rests():
    leader = served()
    assigned(leader, (3, 1000))
    leader.pay_of(["a"])
    leader.client.deadline_ms = 50
    leader.client.held[3] = threading.Event()
    try:
        for _ in range(3):
            asked = leader.client.calls["score"]
            answered, decision = leader.pay_of(["a"])[1:]
            assert (answered.version, answered.failure) == (3, "deadline")
            assert (decision.route, decision.scores[0].model_version) == ("fallback", 1)
        assert leader.client.calls["score"] == asked + 1, "a resting arm is not asked"
        assert answered.micros == 0
    finally:
        leader.client.held.pop(3).set()
    leader.clock.passes(PAUSE_FIRST_SECONDS)
    assert leader.pay_of(["a"])[-1].route == "canary"


def test_an_arm_decides_while_the_champion_is_away():
    leader = served()
    assigned(leader, (3, 1000))
    leader.client.absent = {1}
    champion, canary, decision = leader.pay_of(["a"])
    assert (champion.failure, canary.failure) == ("error", "")
    assert (decision.route, decision.scores[0].model_version) == ("canary", 3)


@pytest.mark.parametrize(("replaces", "good"), [("", True), ("a", True), ("b", False)])
def test_an_assignment_that_replaces_another_than_the_one_in_force_is_refused(replaces, good):
    leader = served()
    assigned(leader, (3, 10))
    (entry,) = leader.take(control=[Assignment(version="next", decides=1, replaces=replaces)])
    assert leader.state.assignment.version == ("next" if good else "a")
    if not good:
        assert isinstance(entry, Rejected)
        assert leader.letters[-1].field == "replaces"
        assert leader.letters[-1].allowed == "the assignment in force, a"


def test_nothing_is_replaced_where_nothing_is_in_force():
    leader = served()
    (entry,) = leader.take(control=[Assignment(version="next", decides=1, replaces="a")])
    assert "which there is none" in entry.error


def test_an_arm_that_is_not_served_is_refused():
    leader = served()
    leader.client.absent = {7}
    (entry,) = leader.take(control=[Assignment(version="a", decides=1, arms=(Arm(7, 5),))])
    assert "the fake has no version 7" in entry.error


def test_state_is_the_fold_of_a_journal_with_arms():
    from streaming.known import Known
    from streaming.state import State

    leader = served()
    leader.pay_of(["a", "b"])
    assigned(leader, (2, 500))
    leader.pay_of([f"account-{n}" for n in range(20)])
    state = State(Known(1000))
    state.fold(list(enumerate(leader.journal)), leader.supply)
    assert (state.assignment, state.arms) == (leader.state.assignment, [(2, NEW)])
    assert {route for each in leader.journal if isinstance(each, Decision) for route in [each.route]} == {
        "newest", "champion", "canary"
    }  # fmt: skip
