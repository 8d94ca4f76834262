"""A micro-batch: every message becomes exactly one entry, a fault never approves, and state is the fold of entries."""

import hashlib
import itertools
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import DECLARATION, FEATURE_NAMES, HISTORY_NAMES, fingerprint
from features.grammar import fields_of
from observe.metrics import Metrics
from plumbline import journal
from plumbline.assignment import Assignment
from plumbline.decision import LET_THROUGH, MODEL_UNAVAILABLE, NOT_EXPLAINED, Decision, Outcome
from plumbline.errors import FingerprintMismatch, StateDiverged
from plumbline.journal import AssignmentApplied, Conflict, ControlApplied, LabelApplied, Rejected
from plumbline.message import RAW_MAX_BYTES
from plumbline.policy import DEFAULT_POLICY, MAX_KNOWN_VERSIONS, Policy, digest
from plumbline.policy import encode as encode_policy
from plumbline.times import ANY_AGE_DAYS, DAY_US
from streaming.batch import Batch, Message, model_columns, process
from streaming.counts import Counts
from streaming.deciding import REASONS_MOST
from streaming.known import Known
from streaming.model import PAUSE_FIRST_SECONDS, PAUSE_MOST_SECONDS
from streaming.snapshot import freeze
from streaming.state import CaughtUp, State
from tests.fakes import NOW, Clock, FakeClient, Numbered, fake_model, payment, raw, scores_of, told

REMEMBERED = 1000


class Scene:
    """A leader without Kafka: state, model, clock, and messages that get offsets as they come."""

    def __init__(self, remembered: int = REMEMBERED, max_age_days: int = ANY_AGE_DAYS) -> None:
        self.max_age_days = max_age_days
        self.unprocessable = set()
        self.client, self.clock = FakeClient(), Clock()
        self.model = fake_model(self.client, self.clock)
        self.state = State(Known(remembered), policy=DEFAULT_POLICY, sequence=0)
        self.topics = {name: Numbered(name) for name in ("control", "labels", "transactions")}
        self.journal = [ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)]
        self.letters = []

    def take(self, transactions=(), labels=(), control=()):
        """One batch of raw messages; returns its entries."""
        batch = process(
            self.state,
            self.model,
            control=[self.topics["control"].message(each) for each in control],
            label=[self.topics["labels"].message(each) for each in labels],
            transaction=[self.topics["transactions"].message(each) for each in transactions],
            now_us=self.clock(),
            max_age_days=self.max_age_days,
            unprocessable=self.unprocessable,
        )
        # As it will be read back.
        entries = [journal.decode(journal.encode(entry)) for entry in batch.entries]
        self.journal += entries
        self.letters += batch.dead_letters
        self.state.sequence = len(self.journal) - 1
        return entries

    def pay(self, *numbers, **changes):
        """One batch of payments; returns its entries."""
        return self.take([raw(payment(number, **changes)) for number in numbers])


@pytest.fixture
def scene():
    return Scene()


def test_a_transaction_becomes_a_decision_with_all_it_was_computed_from(scene):
    (entry,) = scene.pay(1)
    assert entry.transaction.transaction_id == "t1"
    assert (entry.source.topic, entry.source.offset) == ("transactions", 0)
    assert (entry.fingerprint, entry.policy_version) == (fingerprint(), "default")
    assert (len(entry.history), entry.decided_at) == (len(HISTORY_NAMES), NOW)
    columns = model_columns([entry.transaction], np.array([entry.history], np.int64))
    assert [(each.model_version, each.value) for each in entry.scores] == [(1, float(scores_of(columns)[0]))]


BAD = {
    "an unknown field": (raw(payment(1, pin="1")), "pin"),
    "a wrong type": (raw(payment(1, amount_minor="12")), "amount_minor"),
    "NaN": (raw(payment(1)).replace(b'"amount_minor": 101', b'"amount_minor": NaN'), "amount_minor"),
    "broken UTF-8": (raw(payment(1)).replace(b"a1", b"a\xff"), "account_id"),
    "a time far in the future": (raw(payment(1, occurred_at=NOW + 2 * DAY_US)), "occurred_at"),
    "an over-long id": (raw(payment(1, merchant_id="m" * 65)), "merchant_id"),
    "half a place": (raw(payment(1, latitude_e6=None)), "latitude_e6"),
    "a field twice": (raw(payment(1))[:-1] + b', "mcc": "6011"}', "mcc"),
    "no bytes, as a tombstone has": (b"", "record"),
    "a message that is too large": (raw(payment(1)) + b" " * 5000, "record"),
    "another kind of JSON": (b"[1, 2]", "record"),
    "no JSON": (b"\x00\x01 hello", "record"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_message_is_set_aside_and_the_stream_goes_on(scene, name):
    bad, field = BAD[name]
    before, rejected, after = scene.take([raw(payment(2)), bad, raw(payment(3))])
    assert isinstance(before, Decision)
    assert isinstance(after, Decision)
    assert isinstance(rejected, Rejected)
    (letter,) = scene.letters
    kept = bad[:RAW_MAX_BYTES]
    assert (letter.raw, letter.field, letter.source, letter.rejected_at) == (kept, field, rejected.source, NOW)
    assert (letter.raw_length, letter.raw_sha256) == (len(bad), hashlib.sha256(bad).hexdigest())
    assert letter.source.offset == 1
    assert letter.allowed
    assert letter.allowed in letter.error
    assert field in letter.error


@pytest.mark.parametrize("time", [0, NOW // 10**6, NOW // 1000, NOW - 731 * DAY_US])
def test_a_time_far_before_the_message_came_is_refused_and_one_of_the_same_age_as_the_setting_is_not(time):
    scene = Scene(max_age_days=730)
    (rejected,) = scene.pay(1, occurred_at=time)
    assert isinstance(rejected, Rejected)
    assert rejected.max_age_days == 730
    (told_late,) = scene.take(labels=[raw(told(1, 1, known_at=time))])
    assert isinstance(told_late, Rejected)
    (accepted,) = scene.pay(1, occurred_at=NOW - 730 * DAY_US)
    assert isinstance(accepted, Decision)


@pytest.mark.parametrize("days", [-2, 2])
def test_what_is_refused_does_not_depend_on_the_scorers_clock(days):
    here, there = Scene(max_age_days=730), Scene(max_age_days=730)
    there.clock.now_us = NOW + days * DAY_US
    sent = [NOW - 731 * DAY_US, NOW - 729 * DAY_US, NOW, NOW + DAY_US, NOW + DAY_US + 1]
    rejected = [
        [isinstance(each, Rejected) for n, time in enumerate(sent) for each in scene.pay(n, occurred_at=time)]
        for scene in (here, there)
    ]
    assert rejected[0] == rejected[1] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (raw(told(1, 1, verdict="perhaps")), "verdict"),
        (raw(told(1, 1, known_at=NOW + 2 * DAY_US)), "known_at"),
        (b"", "record"),
        (b"\xff", "record"),
    ],
)
def test_a_malformed_label_is_set_aside(scene, bad, field):
    (rejected,) = scene.take(labels=[bad])
    assert isinstance(rejected, Rejected)
    assert [(each.raw, each.field, each.source.topic) for each in scene.letters] == [(bad, field, "labels")]


def test_a_transaction_sent_again_is_a_conflict_and_the_first_decision_stands(scene):
    scene.pay(1)
    same, other = scene.take([raw(payment(1)), raw(payment(1, amount_minor=7))])
    assert [(type(each), each.identical) for each in (same, other)] == [(Conflict, True), (Conflict, False)]
    assert (same.transaction.amount_minor, other.transaction.amount_minor) == (101, 7)


def test_duplicates_within_one_batch_are_conflicts_too(scene):
    entries = scene.take([raw(payment(1)), raw(payment(1)), raw(payment(1, mcc="6011")), raw(payment(4))])
    assert [type(each) for each in entries] == [Decision, Conflict, Conflict, Decision]
    assert [each.identical for each in entries[1:3]] == [True, False]
    assert measure(entries[3], "account_count_1d") == 1, "a conflict leaves no trace in history"


def test_the_same_fields_in_another_order_are_the_same_transaction(scene):
    scene.pay(1)
    (entry,) = scene.take([raw(dict(reversed(payment(1).items())))])
    assert entry.identical


def measure(decision, name):
    return decision.history[HISTORY_NAMES.index(name)]


def test_a_fraud_label_is_in_the_history_of_the_next_transaction(scene):
    scene.pay(1)
    (label, decision) = scene.take([raw(payment(3, account_id="a1", occurred_at=NOW + 1))], [raw(told(1, 1))])
    assert (label.effect, label.account_id, label.merchant_id) == ("counted", "a1", "m1")
    assert measure(decision, "account_fraud_count_30d") == 1
    assert measure(decision, "merchant_fraud_count_1d") == 1


def test_a_second_fraud_label_another_verdict_and_an_unknown_transaction_change_no_history(scene):
    scene.pay(1)
    labels = [raw(told(n, of, verdict)) for n, of, verdict in [(1, 1, "genuine"), (2, 1, "unsure"), (3, 1, "fraud"),
                                                               (4, 1, "fraud"), (5, 99, "genuine")]]  # fmt: skip
    entries = scene.take(labels=labels)
    assert [each.effect for each in entries] == ["not_fraud", "not_fraud", "counted", "repeated", "unknown_transaction"]
    assert (entries[-1].account_id, entries[-1].merchant_id) == ("", "")
    (decision,) = scene.pay(4, occurred_at=NOW + 1)
    assert measure(decision, "account_fraud_count_30d") == 1


def test_a_policy_is_in_force_in_its_own_batch(scene):
    policy = Policy(version="strict", review_at=0.0, decline_at=0.0)
    control, decision = scene.take([raw(payment(1))], control=[encode_policy(policy)])
    assert (control.policy, control.source.topic) == (policy, "control")
    assert (decision.policy_version, decision.outcome) == ("strict", Outcome.DECLINE)


def test_a_policy_lets_some_declines_through_and_one_that_replaces_another_is_refused_where_that_is_gone(scene):
    sampling = Policy(
        version="sampling", review_at=0.0, decline_at=0.0, sample_per_mille=100, sample_salt="a salt of sixteen letters"
    )
    entries = scene.take([raw(payment(n)) for n in range(100)], control=[encode_policy(sampling)])[1:]
    drawn = [each for each in entries if each.outcome is Outcome.REVIEW]
    assert 2 <= len(drawn) <= 25
    assert {each.outcome for each in entries} == {Outcome.REVIEW, Outcome.DECLINE}
    assert {each.sample_per_mille for each in entries} == {100}
    assert all(LET_THROUGH in each.reasons for each in drawn)
    heir = Policy(version="heir", replaces=digest(sampling))
    first, second = scene.take(control=[encode_policy(heir), encode_policy(heir)])
    assert first.policy == heir
    assert all(each in second.error for each in ("replaces", "heir with digest"))


def test_a_version_that_an_earlier_policy_has_is_refused_with_other_contents(scene):
    strict, lax = Policy(version="a", review_at=0.0), Policy(version="b", review_at=1.0, decline_at=1.0)
    first, second = scene.take(control=[encode_policy(strict), encode_policy(lax)])
    assert (first.policy, second.policy) == (strict, lax)
    other = Policy(version="a", review_at=0.25)
    (refused,) = scene.take(control=[encode_policy(other)])
    assert isinstance(refused, Rejected)
    assert "an earlier policy has this one and other contents" in refused.error
    back = Policy(version="a", review_at=0.0, replaces=digest(lax))
    (again,) = scene.take(control=[encode_policy(back)])
    assert again.policy == back, "the same contents may become active again"
    (refused,) = scene.take(control=[encode_policy(Policy(version="default", review_at=0.25))])
    assert isinstance(refused, Rejected)
    assert list(scene.state.policies) == ["default", "b", "a"]
    folded = State(Known(REMEMBERED))
    folded.fold(enumerate(scene.journal))
    assert list(folded.policies.items()) == list(scene.state.policies.items())


def test_the_versions_remembered_are_bounded_and_the_active_one_is_never_forgotten():
    state = State(Known(10), policy=DEFAULT_POLICY)
    for n in range(MAX_KNOWN_VERSIONS + 10):
        state.activate(Policy(version=f"p{n}"))
        if n % 1000 == 0:
            state.activate(DEFAULT_POLICY)
    assert len(state.policies) == MAX_KNOWN_VERSIONS
    assert state.policies[state.policy.version]
    assert "p0" not in state.policies


@pytest.mark.parametrize(
    "bad",
    [
        b"{}",
        b"",
        raw({"type": "policy", "version": "x", "review_at": 0.9, "decline_at": 0.1}),
        raw({"type": "policy", "version": "x", "reviewat": 1}),
        b'{"type": "policy", "version": "x", "review_at": 0.1, "review_at": 0.2}',
        raw({"type": "policy", "version": "x", "declined_merchants": ["FAWRA*"]}),
    ],
)
def test_a_bad_policy_is_set_aside_and_the_old_one_stays(scene, bad):
    rejected, decision = scene.take([raw(payment(1))], control=[bad])
    assert isinstance(rejected, Rejected)
    assert scene.letters[0].raw == bad
    assert decision.policy_version == "default"


def test_an_alert_names_the_features_that_raised_its_score_most_strongest_first(scene):
    scene.take(control=[encode_policy(Policy(version="strict", review_at=0.0, decline_at=1.0))])
    (decision,) = scene.pay(1)
    assert decision.outcome is Outcome.REVIEW
    named = [(each.kind, each.code, each.effect) for each in decision.reasons]
    assert named == [("feature", FEATURE_NAMES[n], 3.0 - n) for n in range(3)]
    assert len(named) <= REASONS_MOST


def test_an_approval_is_not_explained(scene):
    scene.take(control=[encode_policy(Policy(version="lax", review_at=2.0, decline_at=2.0))])
    (decision,) = scene.pay(1)
    assert (decision.outcome, decision.reasons) == (Outcome.APPROVE, ())
    assert scene.client.calls["explain"] == 0


@pytest.mark.parametrize("fault", ["mute", "short"])
def test_a_decision_stands_without_its_explanation(scene, fault):
    scene.client.mute, scene.client.features = fault == "mute", 3 if fault == "short" else len(FEATURE_NAMES)
    scene.take(control=[encode_policy(Policy(version="strict", review_at=0.0, decline_at=0.0))])
    (decision,) = scene.pay(1)
    assert (decision.outcome, decision.reasons, len(decision.scores)) == (Outcome.DECLINE, (NOT_EXPLAINED,), 1)
    metrics = Metrics()
    Counts(metrics).took(Batch(entries=[decision]), 0.0)
    assert metrics.registry.get_sample_value("plumbline_not_explained_total") == 1
    scene.client.mute, scene.client.features = False, len(FEATURE_NAMES)
    scene.clock.passes(PAUSE_FIRST_SECONDS)
    (decision,) = scene.pay(2)
    assert {each.kind for each in decision.reasons} == {"feature"}
    Counts(metrics).took(Batch(entries=[decision]), 0.0)
    assert metrics.registry.get_sample_value("plumbline_not_explained_total") == 1


def test_without_a_model_everything_goes_to_review_and_rules_still_decline(scene):
    scene.client.down = True
    policy = Policy(version="p", declined_accounts=frozenset({"a2"}))
    _, first, second = scene.take([raw(payment(1)), raw(payment(2))], control=[encode_policy(policy)])
    assert (first.outcome, first.reasons, first.scores) == (Outcome.REVIEW, (MODEL_UNAVAILABLE,), ())
    assert second.outcome is Outcome.DECLINE
    assert MODEL_UNAVAILABLE in second.reasons


def test_a_model_of_another_declaration_is_never_believed(scene):
    scene.client.fingerprints = {1: "0" * 16}
    assert scene.pay(1)[0].scores == ()
    scene.clock.passes(PAUSE_MOST_SECONDS)
    assert scene.pay(2)[0].reasons == (MODEL_UNAVAILABLE,)
    scene.client.version = 2
    scene.clock.passes(PAUSE_MOST_SECONDS)
    assert scene.pay(3)[0].scores[0].model_version == 2


def test_a_version_is_asked_for_its_fingerprint_once_and_one_that_nobody_promoted_never(scene):
    scene.pay(1)
    scene.pay(2)
    assert scene.client.calls["about"] == 1
    scene.client.version = 2
    (entry,) = scene.pay(3)
    assert (entry.outcome, entry.scores) == (Outcome.REVIEW, ()), "nobody promoted version 2"
    scene.take(control=[msgspec.json.encode(Assignment(version="a", decides=2))])
    assert scene.pay(4)[0].scores[0].model_version == 2
    asked = scene.client.calls["about"]
    assert scene.pay(5)[0].scores[0].model_version == 2
    assert scene.client.calls["about"] == asked


def test_after_a_failure_the_model_is_left_alone_longer_and_longer_and_then_found_again(scene):
    scene.client.down = True
    number, pauses = 0, []
    for _ in range(8):
        number += 1
        scene.pay(number)
        asked, begun = sum(scene.client.calls.values()), scene.clock.monotonic()
        while sum(scene.client.calls.values()) == asked:
            scene.clock.passes(PAUSE_FIRST_SECONDS)
            number += 1
            (entry,) = scene.pay(number)
            assert entry.reasons == (MODEL_UNAVAILABLE,)
        pauses.append(round(scene.clock.monotonic() - begun, 3))
        scene.clock.passes(PAUSE_MOST_SECONDS)
    assert pauses[0] <= 2 * PAUSE_FIRST_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MOST_SECONDS
    scene.client.down = False
    assert scene.pay(1000)[0].scores
    scene.client.down = True
    scene.pay(1001)
    scene.client.down = False
    scene.clock.passes(PAUSE_FIRST_SECONDS)
    assert scene.pay(1002)[0].scores, "an answer ends the long pauses"


def test_scores_are_journaled_as_the_exact_float32(scene):
    entries = scene.pay(*range(200))
    history = np.array([each.history for each in entries], np.int64)
    expected = scores_of(model_columns([each.transaction for each in entries], history))
    journaled = [each.scores[0].value for each in entries]
    assert b"".join(struct.pack("<f", value) for value in journaled) == expected.tobytes()
    assert journaled == expected.astype(np.float64).tolist()


# Streams: few ids, so that duplicates, labels and forgetting meet.
numbers = st.integers(0, 12)
transactions = st.one_of(
    st.builds(
        lambda number, at, amount, device: ("transactions", raw(payment(
            number, occurred_at=NOW + at, amount_minor=amount, device_id=device))),
        numbers, st.integers(-40, 0).map(lambda day: day * DAY_US), st.integers(0, 2), st.sampled_from(["", "d1"]),
    ),
    st.binary(max_size=12).map(lambda junk: ("transactions", junk)),
)  # fmt: skip
labels = st.one_of(
    st.builds(
        lambda number, of, verdict: ("labels", raw(told(number, of, verdict))),
        st.integers(0, 99), numbers, st.sampled_from(["fraud", "fraud", "genuine", "unsure"]),
    ),
    st.just(("labels", b"?")),
)  # fmt: skip
policies = st.builds(
    lambda at: ("control", encode_policy(Policy(version=f"p{at}", review_at=at, decline_at=1.0))),
    st.sampled_from([0.0, 0.4, 1.0]),
)
streams = st.lists(
    st.lists(st.one_of(transactions, transactions, transactions, labels, policies), max_size=9), max_size=9
)


def take_stream(scene, stream):
    for batch in stream:
        by_topic = {name: [each for topic, each in batch if topic == name] for name in scene.topics}
        scene.take(by_topic["transactions"], by_topic["labels"], by_topic["control"])


@given(streams)
@settings(max_examples=60)
def test_every_message_of_any_stream_ends_in_exactly_one_entry_and_every_rejected_one_in_a_dead_letter(stream):
    scene = Scene()
    take_stream(scene, stream)
    sources = [each.source for each in scene.journal if each.source is not None]
    asked = [(name, offset) for name, topic in scene.topics.items() for offset in range(topic.next)]
    assert sorted((each.topic, each.offset) for each in sources) == sorted(asked)
    for name in scene.topics:
        offsets = [each.offset for each in sources if each.topic == name]
        assert offsets == sorted(offsets), f"{name} is out of order"
    rejected = [each.source for each in scene.journal if isinstance(each, Rejected)]
    assert [each.source for each in scene.letters] == rejected
    decided = [each.transaction.transaction_id for each in scene.journal if isinstance(each, Decision)]
    assert len(set(decided)) == len(decided)


@given(streams, st.sampled_from(["down", "unfit"]))
@settings(max_examples=40)
def test_no_stream_makes_a_missing_model_approve(stream, fault):
    scene = Scene()
    scene.client.down = fault == "down"
    scene.client.fingerprints = {1: "0" * 16}
    take_stream(scene, stream)
    for each in scene.journal:
        if isinstance(each, Decision):
            assert each.outcome > Outcome.APPROVE
            assert each.scores == ()
            assert MODEL_UNAVAILABLE in each.reasons


def contents(state):
    """A state as comparable values: every array, and all else that a snapshot holds."""
    manifest, arrays = freeze(CaughtUp(state))
    return manifest, {name: (array.dtype, array.tolist()) for name, array in arrays.items()}


def folded(entries, cuts, remembered):
    state = State(Known(remembered))
    numbered = list(enumerate(entries))
    edges = sorted({0, len(numbered), *(cut % (len(numbered) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        state.fold(numbered[begin:end])
    return state


@given(streams, st.lists(st.integers(0, 100), max_size=4), st.sampled_from([9, 11, REMEMBERED]), streams)
@settings(max_examples=80)
def test_a_state_folded_from_the_journal_in_any_pieces_is_the_leaders_own_and_goes_on_alike(
    stream, cuts, remembered, later
):
    scene = Scene(remembered)
    take_stream(scene, stream)
    state = folded(scene.journal, cuts, remembered)
    assert contents(state) == contents(scene.state)
    follower = Scene(remembered)
    follower.state, follower.topics = state, {name: Numbered(name) for name in scene.topics}
    for name, topic in follower.topics.items():
        topic.next = scene.topics[name].next
    begun = len(scene.journal)
    follower.journal = scene.journal[:]
    take_stream(scene, later)
    take_stream(follower, later)
    assert follower.journal[begun:] == scene.journal[begun:]


def test_a_label_of_a_forgotten_transaction_is_not_taken_for_one_of_its_successor():
    leader = Scene(remembered=4)
    leader.pay(1)
    leader.take(labels=[raw(told(1, 1))])
    leader.pay(2, 3, 4, 5)
    assert isinstance(leader.pay(1)[0], Decision), "t1 was forgotten, so it is new"
    state = folded(leader.journal, [], 4)
    assert contents(state) == contents(leader.state)
    assert leader.take(labels=[raw(told(2, 1))])[0].effect == "counted"


def test_folding_another_history_is_refused_with_the_measure(scene):
    scene.pay(1, 4)
    decision = scene.journal[-1]
    changed = Decision(**{**fields(decision), "history": (decision.history[0] + 1, *decision.history[1:])})
    with pytest.raises(StateDiverged, match=r"entry 2 says account_count_10m is 2, this state says 1"):
        State(Known(9)).fold(list(enumerate([*scene.journal[:-1], changed])))


def test_folding_a_transaction_decided_twice_is_refused(scene):
    scene.pay(1)
    with pytest.raises(StateDiverged, match="entry 2 decides transaction t1 a second time"):
        State(Known(9)).fold(list(enumerate([*scene.journal, scene.journal[-1]])))


@pytest.mark.parametrize("again", [0, 1], ids=["assignment", "policy"])
def test_folding_a_second_beginning_is_refused(again):
    """Whether or not another scorer's first entries say the same."""
    begun = [
        AssignmentApplied(
            assignment=None, fingerprints=(), source=None, journaled_at=NOW,
            declarations={DECLARATION.fingerprint: fields_of(DECLARATION)},
        ),
        ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW),
    ]  # fmt: skip
    state = State(Known(9))
    state.fold(list(enumerate(begun)))
    with pytest.raises(StateDiverged, match="entry 5 begins the journal a second time"):
        state.fold([(5, begun[again])])


def test_folding_an_entry_of_another_declaration_is_refused(scene):
    (decision,) = scene.pay(1)
    with pytest.raises(FingerprintMismatch, match=r"journal entry 1 was made with feature declaration 0{16}"):
        State(Known(9)).fold([(1, Decision(**{**fields(decision), "fingerprint": "0" * 16}))])


def fields(decision):
    return {name: getattr(decision, name) for name in decision.__struct_fields__}


def test_messages_and_entries_are_of_the_kinds_that_the_journal_knows(scene):
    scene.take([raw(payment(1)), b"?"], [raw(told(1, 1))], [encode_policy(DEFAULT_POLICY)])
    assert {type(each) for each in scene.journal} == {ControlApplied, LabelApplied, Decision, Rejected}
    assert Message.__slots__ == ("source", "raw")
