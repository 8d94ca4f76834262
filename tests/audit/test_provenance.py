"""A journal begins once, and then changes by messages alone: what the checker and conservation say of anything else."""

import msgspec
import pytest

from audit.conservation import Letters, Stored, Tally, Waiting, equations, imbalance
from audit.counting import head_from, head_of
from audit.following import Following
from benchmarks.checker import check, check_fold
from features.declaration import DECLARATION
from plumbline.assignment import Assignment
from plumbline.journal import encode
from plumbline.policy import Policy
from streaming.batch import process
from streaming.known import Known
from streaming.state import State
from tests.fakes import NOW, FakeClient, Numbered, fake_model, payment, raw
from tests.journaled_bank import beginning

STRICT = Policy(version="strict", review_at=0.1, decline_at=0.2)
ONE = Assignment(version="one", decides=1)


class Site:
    """A scorer's core, and the messages that it was given."""

    def __init__(self):
        self.client = FakeClient()
        self.client.declarations = {1: DECLARATION}
        self.state = State(Known(1000))
        self.topics = {name: Numbered(name) for name in ("transactions", "control")}
        self.taken = {}
        self.entries = []

    def begin(self):
        self.entries += beginning(self.state)

    def take(self, first, stop, *control):
        """Control messages, then payments of these numbers."""
        given = [self.topics["control"].message(msgspec.json.encode(each)) for each in control]
        paid = [self.topics["transactions"].message(raw(payment(n))) for n in range(first, stop)]
        self.taken |= {(each.source.topic, 0, each.source.offset): each.raw for each in (*given, *paid)}
        model = fake_model(self.client)
        self.entries += process(self.state, model, control=given, transaction=paid, now_us=NOW).entries

    def findings(self):
        acknowledged = [(*place, value) for place, value in self.taken.items()]
        return check(acknowledged, self.taken, list(enumerate(self.entries)), [])

    def differing(self):
        """Conservation's equations that do not hold."""
        tally = Tally()
        for sequence, entry in enumerate(self.entries):
            head = head_of(encode(entry))
            assert (head.active, head.type) == (head_from(entry).active, head_from(entry).type)
            source = head.source
            place = (None, 0, 0) if source is None else (source.topic, source.partition, source.offset)
            tally.take(sequence, head.type, *place, head.active)
        ends = [Waiting(name, 0, topic.next) for name, topic in self.topics.items()]
        found = equations(tally, ends, Letters(), Stored())
        return {each.name: each.difference for each in found if each.difference}, imbalance(found)


@pytest.fixture
def site():
    made = Site()
    made.begin()
    made.take(0, 5)
    made.take(5, 20, STRICT, ONE)
    return made


def test_an_honest_journal_balances(site):
    assert site.findings().told == []
    assert site.differing() == ({}, 0)


def test_a_second_beginning_is_found_with_what_was_decided_under_it(site):
    """As a scorer leaves it that leads without having read the journal to its end."""
    site.state.assignment, site.state.fingerprints = None, ()
    site.begin()
    site.take(20, 40)
    found = site.findings()
    assert found.unordered == 2 + 20
    assert "became active without a message" in " ".join(found.told)
    assert "begin" in " ".join(check_fold(list(enumerate(site.entries))))
    assert site.differing() == ({"changes": 2, "active": 20}, 22)


def test_a_journal_without_a_beginning_is_found():
    made = Site()
    beginning(made.state)  # which is not written
    made.take(0, 3)
    assert made.findings().unordered > 0
    assert made.differing()[0] == {"changes": 1, "active": 3}


def test_the_first_model_may_become_active_by_itself_and_a_change_needs_a_message(site):
    bound = next(each for each in site.entries if getattr(each, "assignment", None) == ONE)
    entries = site.entries
    alone = msgspec.structs.replace(bound, source=None)
    site.entries = [*entries[:2], alone, *entries[2:7]]
    assert site.findings().unordered == 0
    site.entries = [*entries, msgspec.structs.replace(alone, assignment=Assignment(version="two", decides=1))]
    assert site.findings().unordered == 1


def test_the_continuous_audit_sees_a_second_beginning(site):
    def wrong(entries):
        state = State(Known(1000))
        following = Following(state, lambda *_: None)
        return [each for run in following.take(list(enumerate(entries))) for each in run.wrong]

    assert wrong(site.entries) == []
    again = beginning(State(Known(10)))
    found = wrong([*site.entries, *again])
    assert [(sequence, name) for sequence, _, (name, _, _) in found] == [
        (len(site.entries), "message"), (len(site.entries) + 1, "message"),
    ]  # fmt: skip
