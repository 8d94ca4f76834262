"""The soak's own parts: its checker sees every planted fault, and a seed means the same messages and acts each time."""

import itertools
import json
from collections import Counter

import msgspec
import pytest

from benchmarks.checker import Findings, check_ledger, kinds
from benchmarks.checker import check as check_whole
from benchmarks.nemesis import TARGETS, plan
from benchmarks.traffic import messages
from plumbline.assignment import Assignment
from plumbline.decision import Decision, Source
from plumbline.journal import Answered, AssignmentApplied
from plumbline.label import parse as parse_label
from plumbline.names import Topic
from plumbline.transaction import parse
from streaming.batch import process
from streaming.known import Known
from streaming.state import State
from tests.fakes import NOW, Numbered, fake_model, payment, raw, told
from tests.journaled_bank import beginning


@pytest.fixture
def run():
    """What a checker is given after a run without faults: acknowledged, taken, entries, dead letters."""
    state = State(Known(100))
    begun = beginning(state)
    assert len(begun) == BEGUN
    topics = {name: Numbered(name) for name in ("transactions", "labels")}
    sent = [raw(payment(n)) for n in range(10)] + [b"nonsense", raw(payment(3)), raw(payment(4, amount_minor=1))]
    first = process(
        state, fake_model(), transaction=[topics["transactions"].message(each) for each in sent], now_us=NOW
    )
    second = process(state, fake_model(), label=[topics["labels"].message(raw(told(1, 2)))], now_us=NOW)
    entries = list(enumerate([*first.entries, *second.entries], BEGUN))
    taken = {("transactions", 0, n): each for n, each in enumerate(sent)} | {("labels", 0, 0): raw(told(1, 2))}
    acknowledged = [(*place, value) for place, value in taken.items()]
    return acknowledged, taken, entries, first.dead_letters


BEGUN = 2
"""Entries that a first start writes before all others."""


def check(acknowledged, taken, entries, letters):
    """The checker's findings about a journal that began as it should."""
    return check_whole(acknowledged, taken, [*enumerate(beginning(State(Known(100)))), *entries], letters)


def counts(found):
    return {name: getattr(found, name) for name in ("lost", "doubled", "disordered")}


def test_a_run_without_faults_has_no_findings(run):
    assert check(*run) == Findings()
    assert check_whole(*run).unordered == 1 + 1 + 10, "no first policy, no declaration, nothing that was active"
    assert kinds(run[2]) == {"decisions": 10, "conflicts": 2, "rejected": 1, "labels": 1, "policies": 0, "answered": 0,
                             "unscored": 0, "labels_counted": 1}  # fmt: skip


def without(values, at):
    return [each for n, each in enumerate(values) if n != at]


PLANTED = {
    "a decision that is not there": (lambda a, t, e, d: (a, t, without(e, 5), d), "lost"),
    "a conflict that is not there": (lambda a, t, e, d: (a, t, without(e, 11), d), "lost"),
    "a label without an entry": (lambda a, t, e, d: (a, t, without(e, 13), d), "lost"),
    "a message that the broker forgot": (
        lambda a, t, e, d: (a, {place: value for place, value in t.items() if place[2] != 6}, e, d), "lost",
    ),
    "another message in its place": (
        lambda a, t, e, d: (a, t | {("transactions", 0, 6): raw(payment(60))}, e, d), "lost",
    ),
    "a dead letter that is not there": (lambda a, t, e, d: (a, t, e, []), "lost"),
    "a dead letter of other bytes": (
        lambda a, t, e, d: (a, t, e, [msgspec.structs.replace(d[0], raw=b"nonsens")]), "lost",
    ),
    "an entry twice": (lambda a, t, e, d: (a, t, [*e, (16, e[12][1])], d), "doubled"),
    "a transaction decided twice": (
        lambda a, t, e, d: (a, t, [*e[:11], (13, sourced(e[3][1], e[11][1].source)), *e[12:]], d), "doubled",
    ),
    "a dead letter twice": (lambda a, t, e, d: (a, t, e, d * 2), "doubled"),
    "an answer to nobody": (
        lambda a, t, e, d: (a, t, [*e, (16, sourced(e[11][1], Source("transactions", 0, 99, 0)))], d), "doubled",
    ),
    "two messages of a partition exchanged": (
        lambda a, t, e, d: (a, t, [*e[:4], (6, e[5][1]), (7, e[4][1]), *e[6:]], d), "disordered",
    ),
    "sequence numbers exchanged": (lambda a, t, e, d: (a, t, [*e[:4], e[5], e[4], *e[6:]], d), "disordered"),
}  # fmt: skip


def sourced(entry, source):
    """The entry as the answer to another message."""
    return msgspec.structs.replace(entry, source=source)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_and_told(run, name):
    plant, kind = PLANTED[name]
    found = check(*plant(*run))
    assert counts(found)[kind] > 0
    assert any(each.startswith(kind) for each in found.told)


def test_a_row_more_or_less_or_changed_in_sql_is_found():
    findings = Findings()
    check_ledger(findings, {"alerts": [{"a": 1}, {"a": 2}, {"a": 2}]}, {"alerts": [{"a": 2}, {"a": 3}]})
    assert findings.ledger_different == 3
    assert len(findings.told) == 3


def test_a_seed_is_the_same_acts_and_messages_each_time():
    acts = plan(5, 60, 12, 30.0)
    assert acts == plan(5, 60, 12, 30.0) != plan(6, 60, 12, 30.0)
    assert Counter(each.kind for each in acts) == {"kill": 60, "pause": 12}
    assert Counter(each.target for each in acts if each.kind == "pause") == dict.fromkeys(TARGETS, 2)
    assert all(each.away_seconds >= 30 for each in acts if each.kind == "pause")
    assert {each.target for each in acts if each.kind == "kill"} == set(TARGETS)
    stream = list(itertools.islice(messages(5), 3000))
    assert stream == list(itertools.islice(messages(5), 3000))
    assert stream != list(itertools.islice(messages(6), 3000))


def test_the_traffic_holds_every_kind_of_message():
    stream = list(itertools.islice(messages(1), 6000))
    paid = [each for each in stream if each.is_payment]
    assert len({json.loads(each.value)["transaction_id"] for each in paid}) == len(paid)
    assert all(parse(each.value, NOW * 2) for each in paid)
    bodies = {each.value for each in paid}
    ids = [json.loads(each.value)["transaction_id"] for each in paid]
    again = [each.value for each in stream if each.topic is Topic.TRANSACTIONS and not each.is_payment]
    assert any(each in bodies for each in again)
    changed = [each for each in again if each not in bodies and each.startswith(b'{"transaction_id": "t1-')]
    assert changed
    assert all(json.loads(each)["transaction_id"] in ids for each in changed)
    labels = [each.value for each in stream if each.topic is Topic.LABELS and each.value != b"no label"]
    known = [parse_label(each, NOW * 2).transaction_id in ids for each in labels]
    assert 0 < sum(known) < len(known)
    times = [json.loads(each.value)["occurred_at"] for each in paid]
    assert len(set(times)) < len(times)
    assert any(later < earlier - 10**10 for earlier, later in itertools.pairwise(times))
    assert {each.topic for each in stream} == {Topic.TRANSACTIONS, Topic.LABELS, Topic.CONTROL}


def shadowed(run):
    """The same run under an assignment with a shadow, which has answered of every decision."""
    acknowledged, taken, entries, letters = run
    given = Assignment(version="a", decides=1, shadows=(2,))
    applied = AssignmentApplied(assignment=given, fingerprints=(), declarations={}, source=None, journaled_at=NOW)
    moved = [(BEGUN, applied), *((sequence + 1, entry) for sequence, entry in entries)]
    of = tuple(sequence for sequence, entry in moved if isinstance(entry, Decision))
    answers = [
        (BEGUN + len(moved) + n, Answered(version=2, role="shadow", rows=len(part), micros=1, sequences=part,
                                  values=(0.5,) * len(part), journaled_at=NOW))
        for n, part in enumerate((of[:4], of[4:]))
    ]  # fmt: skip
    return acknowledged, taken, [*moved, *answers], letters


def test_each_decision_has_each_shadows_answer_once_or_the_checker_says_so(run):
    acknowledged, taken, entries, letters = shadowed(run)
    assert check(acknowledged, taken, entries, letters) == Findings()
    assert counts(check(acknowledged, taken, entries[:-1], letters)) == {"lost": 6, "doubled": 0, "disordered": 0}
    twice = [*entries, (BEGUN + len(entries), entries[-1][1])]
    assert counts(check(acknowledged, taken, twice, letters)) == {"lost": 0, "doubled": 6, "disordered": 0}
