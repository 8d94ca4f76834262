"""Shadows: each decision has each shadow's one answer in the journal, whatever happens, and never waits for it."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import DECLARATION
from plumbline.assignment import Assignment
from plumbline.decision import Decision
from plumbline.journal import Answered, AssignmentApplied
from streaming import shadows as module
from streaming.known import Known
from streaming.model import PAUSE_MOST_SECONDS
from streaming.shadows import Shadows, ask_again
from streaming.snapshot import freeze, read, write
from streaming.state import CaughtUp, State
from tests.streaming.test_declarations import NEW, OLD, WIDER, Leader, decided_at, shadowed
from tests.streaming.test_routing import expected, served

PATIENCE_SECONDS = 30


def taken_over(leader, tmp_path=None):
    """The leader that comes after one that was killed: its state is the fold of the journal, and nothing else."""
    after = served()
    after.client, after.model, after.clock = leader.client, leader.model, leader.clock
    after.shadows = Shadows(after.model)
    after.topics, after.paid, after.journal = leader.topics, leader.paid, leader.journal
    after.state = State(Known(1000))
    after.state.fold(list(enumerate(after.journal)), after.supply)
    ask_again(after.shadows, after.state, dict(decided_at(after.journal)))
    return after


def owed(entries):
    """By version, the sequence numbers of the decisions that were made while it was a shadow."""
    found, in_force = {}, ()
    for sequence, each in enumerate(entries):
        if isinstance(each, AssignmentApplied):
            in_force = each.assignment.shadows
        elif isinstance(each, Decision):
            for version in in_force:
                found.setdefault(version, []).append(sequence)
    return found


steps = st.lists(
    st.one_of(
        st.integers(1, 6).map(lambda count: ("pay", count)),
        st.lists(st.sampled_from([2, 3, 4]), max_size=3, unique=True).map(lambda each: ("assign", tuple(each))),
        st.just(("kill", None)),
        st.just(("rest", None)),
        st.sets(st.sampled_from([2, 3, 4])).map(lambda each: ("absent", each)),
    ),
    max_size=14,
)


@given(steps)
@settings(max_examples=60)
def test_whatever_happens_every_decision_has_each_shadows_answer_exactly_once(story):
    leader = served()
    for n, (what, how) in enumerate(story):
        if what == "pay":
            leader.take(payments=how)
        elif what == "assign":
            leader.client.absent = set()
            leader.take(control=[Assignment(version=f"a{n}", decides=1, shadows=how)], payments=2)
        elif what == "kill":
            leader.shadows.close()
            leader = taken_over(leader)
        elif what == "rest":
            leader.rest()
        else:
            leader.client.absent = how
            leader.clock.passes(PAUSE_MOST_SECONDS)
    leader.rest()
    assert shadowed(leader.journal) == owed(leader.journal)
    assert not leader.state.awaited
    check_answers(leader)


def check_answers(leader):
    """Every value is what the version says of that decision; a failure has none."""
    decisions = dict(decided_at(leader.journal))
    for place, each in enumerate(leader.journal):
        if isinstance(each, Answered) and each.role == "shadow":
            assert each.rows == len(each.sequences) > 0
            assert max(each.sequences) < place, "it comes after the decisions"
            assert bool(each.failure) is not bool(each.values)
            for sequence, value in zip(each.sequences, each.values, strict=False):
                assert value == expected(decisions[sequence], each.version, leader)


def test_what_waits_is_kept_in_a_snapshot_and_asked_again(tmp_path):
    leader = served()
    leader.client.held[2] = threading.Event()
    leader.take(control=[Assignment(version="a", decides=1, shadows=(2, 3))], payments=5)
    leader.shadows._queues[3].asked[0][1].result(PATIENCE_SECONDS)
    leader.take(payments=1)  # journals what 3 has said
    again = read(write(tmp_path, freeze(CaughtUp(leader.state))), 1000)
    assert again.awaited == leader.state.awaited
    sequences = [n for n, _ in decided_at(leader.journal)]
    assert {version: sorted(each) for version, each in again.awaited.by_version.items()} == {
        2: sequences,
        3: [sequences[-1]],
    }
    assert set(again.awaited.by_version[2].values()) == {NEW}
    folded = State(Known(1000))
    folded.fold(list(enumerate(leader.journal)), leader.supply)
    assert folded.awaited == again.awaited
    leader.client.held.pop(2).set()
    leader.shadows.close()
    leader = taken_over(leader)
    leader.rest()
    assert shadowed(leader.journal) == {2: sequences, 3: sequences}
    check_answers(leader)


def test_a_snapshot_of_before_there_was_anything_to_wait_for_stays_good(tmp_path):
    leader = served()
    leader.take(payments=5)
    place = write(tmp_path, freeze(CaughtUp(leader.state)))
    assert b"awaited" not in (place / "manifest.json").read_bytes()
    assert not read(place, 1000).awaited


def test_a_shadow_that_hangs_delays_nothing_and_is_skipped_when_too_much_waits(monkeypatch):
    monkeypatch.setattr(module, "WAITING_MOST", 10)
    leader = served()
    leader.client.held[2] = threading.Event()
    leader.take(control=[Assignment(version="a", decides=1, shadows=(2, 3))])
    for _ in range(6):
        leader.take(payments=4)  # returns although version 2 never does
        for _, answer in leader.shadows._queues[3].asked:
            answer.result(PATIENCE_SECONDS)
    leader.take(payments=1)
    sequences = [n for n, _ in decided_at(leader.journal)]
    skipped = [each for each in leader.journal if isinstance(each, Answered) and each.failure == "skipped"]
    assert {each.version for each in skipped} == {2}
    assert [n for each in skipped for n in each.sequences] == sequences[8:24]
    assert len(leader.state.awaited.by_version[2]) == 9, "no more than was allowed to wait, plus nothing"
    leader.client.held.pop(2).set()
    leader.rest()
    assert shadowed(leader.journal) == {2: sequences, 3: sequences}
    check_answers(leader)


def test_a_fault_of_ours_in_a_shadows_thread_ends_the_leader():
    leader = served()
    leader.take(control=[Assignment(version="a", decides=1, shadows=(3,))])
    leader.client.shifts[3] = "no number"
    leader.take(payments=1)
    leader.shadows.rest(PATIENCE_SECONDS)
    with pytest.raises(ValueError, match="no number"):
        leader.take(payments=1)


def test_threads_of_shadows_that_left_are_let_go_once_they_have_answered():
    leader = served()
    leader.take(control=[Assignment(version="a", decides=1, shadows=(3,))], payments=2)
    leader.take(control=[Assignment(version="b", decides=1, shadows=(4,))], payments=2)
    leader.rest()
    leader.take(payments=1)
    assert set(leader.shadows._queues) == {4}


def test_decisions_of_older_journals_hold_their_shadows_themselves_and_wait_for_nothing():
    leader = Leader()
    leader.client.declarations = {2: WIDER}
    leader.take(control=[Assignment(version="a", decides=1, shadows=(2,))], payments=3)
    old = []
    for each in leader.journal:
        if isinstance(each, Decision):
            kept = {name: getattr(each, name) for name in each.__struct_fields__ if name not in ("assignment", "route")}
            old.append(Decision(**kept))
        elif not isinstance(each, Answered):
            old.append(each)
    state = State(Known(1000))
    state.fold(list(enumerate(old)), leader.supply)
    assert not state.awaited
    assert np.array_equal(state.fingerprints, (OLD, NEW))
    assert DECLARATION.fingerprint == OLD
