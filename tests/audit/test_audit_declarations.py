"""The audit while a model of another declaration comes in beside the old one, takes over, and stays alone."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from audit.causes import Cause
from audit.models import Versions
from audit.run import Audited, audit
from features.declaration import DECLARATION
from features.grammar import Feature, Measure
from features.sweep import History
from plumbline.assignment import Arm, Assignment
from plumbline.decision import Decision, DeclaredHistory
from plumbline.journal import Answered, AssignmentApplied, ControlApplied, Rejected
from plumbline.policy import DEFAULT_POLICY
from streaming.batch import Batch, process
from streaming.known import Known
from streaming.model import PAUSE_MOST_SECONDS
from streaming.shadows import Shadows, journaled
from streaming.state import State
from tests.fakes import NOW, Clock, FakeClient, Numbered, effects_of, fake_model, payment, raw, scores_of, told
from tests.recorded import Recorded, records

pytestmark = pytest.mark.slow

WIDER = msgspec.structs.replace(
    DECLARATION,
    history=(*DECLARATION.history, Measure("account", "count", "14d")),
    features=(
        *DECLARATION.features,
        Feature("account_count_14d_log", "log", ("account_count_14d",), "transactions in 14 days", "14 天交易笔数"),
    ),
)
PREFIX = "bank."


class Fake:
    """A version whose scores and effects are the fake client's."""

    def __init__(self, declaration):
        self.declaration = declaration

    def call(self, signature, given):
        if signature == "explain":
            return {"effects": effects_of(len(given["history"]), len(self.declaration.feature_names))}
        return {"total": given["history"].sum(axis=1), "amount": given["amount_minor"]}

    def score(self, given):
        return scores_of(SimpleNamespace(**given))


class Fakes(Versions):
    """Versions 1 and 3 of today's declaration, version 2 of a wider one."""

    def loaded(self, version):
        return Fake({1: DECLARATION, 2: WIDER, 3: DECLARATION}[version])


def assign(version, decides, *shadows, arms=()):
    given = Assignment(version=version, decides=decides, shadows=shadows, arms=tuple(Arm(*each) for each in arms))
    return msgspec.json.encode(given)


def whole_story(steps=None, during=lambda number, client: None):
    """The journal of a switch, and one assignment that is refused; or of other steps.

    during: called before each step, with its number and the client.
    """
    client, clock = FakeClient(), Clock()
    client.declarations = {2: WIDER, 3: DECLARATION}
    client.absent = {3, 9}
    model = fake_model(client, clock)
    shadows = Shadows(model)
    state = State(Known(1000), policy=DEFAULT_POLICY, sequence=0)
    topics = {name: Numbered(f"{PREFIX}{name}") for name in ("control", "labels", "transactions")}
    entries = [ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)]
    messages = {}

    def supply(declaration, sequence):
        prepared = State(Known(1000), {declaration.fingerprint: History(declaration)}, only=declaration.fingerprint)
        prepared.fold(list(enumerate(entries[:sequence])))
        return prepared.histories[declaration.fingerprint]

    def numbered(name, each):
        message = topics[name].message(each)
        messages[message.source.topic, message.source.offset] = each
        return message

    def write(batch):
        first = len(entries)
        batch.entries[:0] = shadows.answered(NOW)
        entries.extend(batch.entries)
        journaled(state, shadows, batch, first)
        shadows.rest(30)

    if steps is None:
        steps = [None, assign("beside", 1, 2), assign("nobody", 9), assign("switch", 2, 1), assign("alone", 2)]
    for number, control in enumerate(steps):
        clock.passes(PAUSE_MOST_SECONDS)
        during(number, client)
        paid = [raw(payment(n)) for n in range(number * 40, number * 40 + 40)]
        said = [raw(told(number, number * 40 - 5))] if number else []
        write(process(
            state, model, control=[numbered("control", control)] if control else [],
            label=[numbered("labels", each) for each in said],
            transaction=[numbered("transactions", each) for each in paid], now_us=NOW, supply=supply,
        ))  # fmt: skip
    write(Batch())
    return Recorded(PREFIX, entries, messages)


class InMemory:
    """A journal as a list."""

    name, digest = "memory", ""

    def __init__(self, of, size=50):
        self.rows = records(of)
        self.size = size

    def chunks(self):
        for begin in range(0, len(self.rows), self.size):
            yield self.rows[begin : begin + self.size]


def audited(of):
    asked = Audited(InMemory(of), PREFIX, Fakes(Path("unused")), None, None, remembered=10_000)
    return audit(asked, lambda step: None)


def test_before_during_and_after_the_switch_nothing_differs():
    of = whole_story()
    assert [len(of.at(kind)) for kind in (AssignmentApplied, Rejected)] == [3, 1]
    report = audited(of)
    assert report.differences == []
    assert report.decisions == 200
    both = sum(len(of.entries[n].other_histories) for n in of.at(Decision))
    assert both > 80
    assert report.compared["history"] == 200 + both, "under each declaration in force"
    shadowed = sum(len(of.entries[n].values) for n in of.at(Answered))
    assert report.compared["score"] == 200 + shadowed
    assert (report.shadow_rows, report.shadow_failed, report.shadow_waiting) == (shadowed, 0, 0)
    assert shadowed == 120, "beside has two steps, switch one"
    assert {version: tally.different for version, tally in report.by_version.items()} == {1: 0, 2: 0}
    assert set(report.fingerprints) == {DECLARATION.fingerprint, WIDER.fingerprint}


def test_what_a_shadow_was_told_and_said_is_compared_too():
    of = whole_story()
    beside = next(n for n in of.at(Decision) if of.entries[n].other_histories)
    after = next(n for n in of.at(Decision) if of.entries[n].fingerprint == WIDER.fingerprint)
    (other,) = of.entries[beside].other_histories
    changed = DeclaredHistory(other.fingerprint, (*other.values[:-1], other.values[-1] + 1))
    answer = next(n for n in of.at(Answered) if after in of.entries[n].sequences)
    place = of.entries[answer].sequences.index(after)
    values = list(of.entries[answer].values)
    values[place] = float(np.float32(0.5))
    stranger = DeclaredHistory("f" * 16, (1, 2))
    third = next(n for n in of.at(Decision) if n > after + 5)
    planted = of.with_entries(
        {
            beside: msgspec.structs.replace(of.entries[beside], other_histories=(changed,)),
            answer: msgspec.structs.replace(of.entries[answer], values=tuple(values)),
            third: msgspec.structs.replace(
                of.entries[third], other_histories=(*of.entries[third].other_histories, stranger)
            ),
        }
    )
    report = audited(planted)
    told_of = {(each.sequence, each.layer, each.name): each for each in report.differences}
    assert set(told_of) == {
        (beside, "sweep", "account_count_14d"),
        (beside, "history", "account_count_14d"),
        (beside, "features", "total"),
        (after, "score", "version 1"),
        (third, "sweep", "declaration"),
    }
    assert told_of[beside, "history", "account_count_14d"].cause == Cause.RECORD.value
    assert told_of[after, "score", "version 1"].model_version == 1
    assert told_of[third, "sweep", "declaration"].journaled == "f" * 16


def test_an_assignment_that_was_taken_away_or_changed_shows():
    of = whole_story()
    at = of.at(AssignmentApplied)[1]
    entry = of.entries[at]
    report = audited(of.with_entry(at, assignment=msgspec.structs.replace(entry.assignment, version="other")))
    assert {(each.sequence, each.layer, each.name) for each in report.differences} == {
        (at, "transaction", "version"),
        (at, "intake", "entry"),
    }, "decisions are judged by what the message said"
    report = audited(of.without_entry(at))
    assert any(each.journaled == "absent" and each.recomputed == "assignment, switch" for each in report.differences)
