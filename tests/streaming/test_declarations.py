"""Several declarations in force: a model with a new window comes in beside the old one, takes over, and stays."""

import random

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from features.declaration import DECLARATION
from features.grammar import Feature, Measure
from features.sweep import History
from plumbline import journal
from plumbline.assignment import Assignment
from plumbline.decision import Decision, Outcome
from plumbline.errors import HistoryMissing, StateDiverged
from plumbline.journal import Answered, AssignmentApplied, ControlApplied, DeadLetter, LabelApplied, Rejected
from plumbline.policy import DEFAULT_POLICY
from streaming.arrivals import arrivals
from streaming.batch import Batch, process
from streaming.known import Known
from streaming.model import LOOK_SECONDS
from streaming.shadows import Shadows, journaled
from streaming.snapshot import freeze, read, write
from streaming.state import CaughtUp, State
from tests.fakes import NOW, Clock, FakeClient, Numbered, fake_model, payment, raw, told

WIDER = replace(
    DECLARATION,
    history=(*DECLARATION.history, Measure("account", "count", "14d")),
    features=(
        *DECLARATION.features,
        Feature("account_count_14d_log", "log", ("account_count_14d",), "transactions in 14 days", "14 天交易笔数"),
    ),
)
OLD, NEW = DECLARATION.fingerprint, WIDER.fingerprint


class Leader:
    """A leader without Kafka, with versions 1 (today's declaration) and 2 (a wider one) served."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.client.declarations = {2: WIDER}
        self.clock = Clock()
        self.model = fake_model(self.client, self.clock)
        self.state = State(Known(1000), policy=DEFAULT_POLICY, sequence=0)
        self.topics = {name: Numbered(name) for name in ("control", "labels", "transactions")}
        self.journal: list[journal.Entry] = [ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)]
        self.letters: list[DeadLetter] = []
        self.paid = 0
        self.shadows = Shadows(self.model)

    def pay_of(self, accounts):
        """A batch of a payment by each of these accounts; returns its entries."""
        return self.take(payments=len(accounts), accounts=accounts)

    def take(self, control=(), labels=(), payments=0, accounts=()):
        """A batch of controls, labels and so many payments; returns its entries."""
        named = [{"account_id": each} for each in accounts] or [{}] * payments
        transactions = [raw(payment(self.paid + n, **named[n])) for n in range(payments)]
        self.paid += payments
        batch = process(
            self.state, self.model,
            control=[self.topics["control"].message(msgspec.json.encode(each)) for each in control],
            label=[self.topics["labels"].message(raw(each)) for each in labels],
            transaction=[self.topics["transactions"].message(each) for each in transactions],
            now_us=NOW, supply=self.supply,
        )  # fmt: skip
        self.letters += batch.dead_letters
        return self.write(batch)

    def write(self, batch):
        """Journal a batch as a leader does, behind what shadows have answered; returns the batch's own entries."""
        own = len(batch.entries)
        batch.entries[:0] = self.shadows.answered(NOW)
        entries = [journal.decode(journal.encode(each)) for each in batch.entries]
        self.journal += entries
        journaled(self.state, self.shadows, batch, len(self.journal) - len(entries))
        return entries[len(entries) - own :]

    def rest(self):
        """Wait for the shadows, and journal what they said."""
        self.shadows.rest(10)
        self.write(Batch())

    def supply(self, declaration, sequence):
        """As `plumbline prepare` would: the journal so far, folded for that declaration alone."""
        state = State(Known(1000), {declaration.fingerprint: History(declaration)}, only=declaration.fingerprint)
        state.fold(list(enumerate(self.journal[:sequence])))
        return state.histories[declaration.fingerprint]


def decided(entries):
    """The decisions among entries."""
    return [each for each in entries if isinstance(each, Decision)]


def decided_at(entries):
    """Sequence numbers and decisions among a journal's entries."""
    return [(n, each) for n, each in enumerate(entries) if isinstance(each, Decision)]


def shadowed(entries):
    """By version, the sequence numbers of the decisions that a shadow answered about."""
    found = {}
    for each in entries:
        if isinstance(each, Answered) and each.role == "shadow":
            found.setdefault(each.version, []).extend(each.sequences)
    return {version: sorted(sequences) for version, sequences in found.items()}


def beside(version="a", decides=1, shadows=(2,)):
    return Assignment(version=version, decides=decides, shadows=shadows)


def arrivals_of(entries):
    counted = [each for each in entries if isinstance(each, LabelApplied) and each.effect == "counted"]
    return [each for each in entries if isinstance(each, Decision) or each in counted]


def check_histories(entries):
    """Every history that a decision records is what one sweep over all arrivals gives under its declaration."""
    rows = arrivals_of(entries)
    for declaration in (DECLARATION, WIDER):
        swept = History(declaration).advance(arrivals(rows))
        for n, row in enumerate(rows):
            recorded = row.history_of(declaration.fingerprint) if isinstance(row, Decision) else None
            if recorded is not None:
                assert list(recorded) == swept[n].tolist()


def evolved():
    """A journal in which version 2 comes in, takes over, and version 1 leaves; labels and payments all the while."""
    leader = Leader()
    leader.take(payments=40)
    leader.take(labels=[told(1, 3)], payments=20)
    leader.take(control=[beside()], labels=[told(2, 5)], payments=30)
    leader.take(payments=10)
    leader.take(control=[beside("b", 2, (1,))], payments=20)
    leader.take(control=[beside("c", 2, ())], labels=[told(3, 70)], payments=20)
    leader.take(payments=10)
    leader.rest()
    return leader


def test_two_declarations_side_by_side_then_a_switch_then_one_again():
    leader = evolved()
    decisions = [each for each in leader.journal if isinstance(each, Decision)]
    seen = [
        (
            each.fingerprint,
            [other.fingerprint for other in each.other_histories],
            [s.model_version for s in each.scores],
        )
        for each in decisions
    ]
    assert seen[:60] == [(OLD, [], [1])] * 60
    assert seen[60:100] == [(OLD, [NEW], [1])] * 40
    assert seen[100:120] == [(NEW, [OLD], [2])] * 20
    assert shadowed(leader.journal) == {2: [n for n, _ in decided_at(leader.journal)][60:100],
                                        1: [n for n, _ in decided_at(leader.journal)][100:120]}  # fmt: skip
    assert seen[120:] == [(NEW, [], [2])] * 30
    check_histories(leader.journal)
    applied = [each for each in leader.journal if isinstance(each, AssignmentApplied)]
    assert [(each.assignment.version, each.fingerprints) for each in applied] == [
        ("a", (OLD, NEW)), ("b", (NEW, OLD)), ("c", (NEW,))
    ]  # fmt: skip
    assert not leader.letters


def test_state_is_the_fold_of_that_journal_wherever_a_snapshot_was_taken(tmp_path):
    leader = evolved()
    numbered = list(enumerate(leader.journal))

    def contents(state):
        manifest, arrays = freeze(CaughtUp(state))
        return manifest, {name: array.tolist() for name, array in arrays.items()}

    for seed in range(5):
        draw = random.Random(seed)
        cut, size = draw.randrange(len(numbered)), draw.randint(1, 50)
        state = State(Known(1000))
        state.fold(numbered[:cut], leader.supply)
        state = read(write(tmp_path / str(seed), freeze(CaughtUp(state))), 1000)
        for begin in range(cut, len(numbered), size):
            state.fold(numbered[begin : begin + size], leader.supply)
        assert list(state.histories) == [NEW]
        assert (state.assignment, state.deciding) == (leader.state.assignment, NEW)
        manifest, arrays = contents(state)
        wanted_manifest, wanted = contents(leader.state)
        assert manifest == wanted_manifest
        # Rings lie in the arena where the batches put them, so histories are compared by what they say next.
        same = [name for name in arrays if name.startswith(("known.", "entities."))]
        assert {name: arrays[name] for name in same} == {name: wanted[name] for name in same}
        later = [Decision(**fields(each)) for each in leader.journal if isinstance(each, Decision)][:30]
        ours, theirs = state.history.advance(arrivals(later)), leader.supply(WIDER, 10**6).advance(arrivals(later))
        assert np.array_equal(ours, theirs)


def fields(decision):
    return {name: getattr(decision, name) for name in decision.__struct_fields__}


def test_a_first_start_takes_the_declaration_that_the_journal_began_with():
    leader = Leader()
    leader.client.declarations = {1: WIDER}
    wider = State(Known(9), {NEW: History(WIDER)})
    leader.state = wider
    wider.policy = DEFAULT_POLICY
    genesis = AssignmentApplied(
        assignment=None, fingerprints=(), declarations={NEW: msgspec.to_builtins(WIDER)}, source=None, journaled_at=NOW
    )
    leader.journal = [genesis, *leader.journal]
    leader.take(payments=5)
    again = State(Known(9))
    again.fold(list(enumerate(leader.journal)))
    assert list(again.histories) == [NEW]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (beside(decides=1, shadows=(7,)), "the fake has no version 7"),
        (beside(decides=7, shadows=()), "the fake has no version 7"),
    ],
)
def test_a_version_that_is_not_served_is_refused_and_nothing_changes(given, complaint):
    leader = Leader()
    leader.client.absent = {7}
    leader.take(payments=5)
    (refused,) = leader.take(control=[given])
    assert isinstance(refused, Rejected)
    assert complaint in leader.letters[0].error
    (decision,) = leader.take(payments=1)
    assert (decision.fingerprint, decision.other_histories) == (OLD, ())


@pytest.mark.parametrize("fault", [HistoryMissing("no history is prepared"), StateDiverged("another archive")])
def test_an_assignment_without_prepared_history_is_refused_with_what_to_do(fault):
    leader = Leader()
    leader.take(payments=5)

    def missing(declaration, sequence):
        raise fault

    leader.supply = missing
    (refused,) = leader.take(control=[beside()])
    assert isinstance(refused, Rejected)
    assert str(fault) in refused.error
    assert "versions whose history is prepared" in leader.letters[0].allowed
    assert list(leader.state.histories) == [OLD]
    assert leader.state.assignment is None


def test_history_prepared_from_another_stream_is_refused():
    leader = Leader()
    leader.take(payments=5)
    leader.supply = lambda declaration, sequence: History(declaration)
    (refused,) = leader.take(control=[beside()])
    assert "knows other accounts" in refused.error


def test_a_newer_version_of_another_declaration_waits_until_it_is_assigned():
    leader = Leader()
    leader.client.declarations = {}
    leader.take(payments=5)
    leader.client.declarations = {2: WIDER}  # it is served from now on, beside version 1
    leader.clock.passes(LOOK_SECONDS)
    decisions = leader.take(payments=5)
    assert [[score.model_version for score in each.scores] for each in decisions] == [[1]] * 5
    leader.client.absent = {1}
    (decision, *_) = leader.take(payments=5)
    assert (decision.outcome, decision.scores) == (Outcome.REVIEW, ()), "no other declaration's scores are believed"


def test_a_shadow_that_does_not_answer_is_left_out_and_decisions_go_on():
    leader = Leader()
    leader.take(control=[beside()], payments=5)
    leader.client.absent = {2}
    decisions = decided(leader.take(payments=5))
    assert [[score.model_version for score in each.scores] for each in decisions] == [[1]] * 5
    assert all(each.history_of(NEW) is not None for each in decisions)
    check_histories(leader.journal)


def test_a_deciding_version_that_does_not_answer_means_review_whatever_the_shadow_says():
    leader = Leader()
    leader.take(control=[beside()], payments=5)
    leader.client.absent = {1}
    decisions = decided(leader.take(payments=5))
    assert {(each.outcome, each.scores) for each in decisions} == {(Outcome.REVIEW, ())}
    check_histories(leader.journal)


def test_folding_a_journal_whose_history_is_not_prepared_says_so():
    leader = evolved()
    with pytest.raises(HistoryMissing, match="run `plumbline prepare`"):
        State(Known(1000)).fold(list(enumerate(leader.journal)))


def test_a_newer_version_that_nobody_promoted_changes_nothing(tmp_path):
    """Neither while the first one runs, nor when it is away, nor behind a restart from the journal or a snapshot."""
    leader = Leader()
    leader.client.declarations = {}
    leader.take(payments=5)
    leader.client.declarations = {3: DECLARATION}  # a candidate of the same declaration
    leader.client.version = 3
    leader.client.declarations[1] = DECLARATION
    leader.clock.passes(LOOK_SECONDS)
    assert {each.scores[0].model_version for each in decided(leader.take(payments=5))} == {1}
    again = State(Known(1000))
    again.fold(list(enumerate(leader.journal)))
    assert (again.unassigned, leader.state.unassigned) == (1, 1)
    manifest, arrays = freeze(CaughtUp(again))
    leader.state = read(write(tmp_path, (manifest, arrays)), 1000)
    assert leader.state.unassigned == 1
    assert {each.scores[0].model_version for each in decided(leader.take(payments=5))} == {1}
    leader.client.absent = {1}
    assert {(each.outcome, each.scores) for each in decided(leader.take(payments=5))} == {(Outcome.REVIEW, ())}
    leader.take(control=[beside("a", 3, ())])
    assert {each.scores[0].model_version for each in decided(leader.take(payments=5))} == {3}
