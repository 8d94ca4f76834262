"""Whatever bytes come on whatever topic: one entry each, and none of them larger than its topic takes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline import journal
from plumbline.journal import ENTRY_MAX_BYTES, ControlApplied, Rejected
from plumbline.label import NOTE_MAX_CHARACTERS
from plumbline.policy import DEFAULT_POLICY, POLICY_MAX_BYTES
from plumbline.times import MAX_AGE_DAYS
from streaming.batch import Message, process
from streaming.known import Known
from streaming.state import State
from tests.fakes import NOW, Numbered, fake_model, payment, raw, told

LETTER_MAX_BYTES = 200_000
"""Far below what the dead-letter topic and the producer take; error texts have some 9,000 characters at most."""

TOPICS = ("control", "labels", "transactions")


class Taking:
    """A scorer without Kafka that takes one message at a time."""

    def __init__(self):
        self.model = fake_model()
        self.state = State(Known(1024))
        self.state.activate(DEFAULT_POLICY)
        self.topics = {name: Numbered(name) for name in TOPICS}

    def take(self, topic, bytes_):
        """The message's entry, once its size and that of its dead letter are known to fit."""
        message = self.topics[topic].message(bytes_)
        given = dict.fromkeys(("control", "label", "transaction"), ())
        given[topic.removesuffix("s")] = [message]
        batch = process(self.state, self.model, **given, now_us=NOW, max_age_days=MAX_AGE_DAYS)
        entry = batch.entries[-1]
        assert isinstance(message, Message)
        assert [each.source for each in batch.entries if each.source is not None] == [message.source]
        assert all(len(journal.encode(each)) <= ENTRY_MAX_BYTES for each in batch.entries)
        assert all(len(journal.encode(each)) <= LETTER_MAX_BYTES for each in batch.dead_letters)
        assert len(batch.dead_letters) == isinstance(entry, Rejected)
        return entry


@pytest.fixture(scope="module")
def taking():
    return Taking()


HOSTILE = '\u0001"\\\u2028\U0001f600é'
texts = st.one_of(st.text(max_size=30), st.sampled_from([HOSTILE * 200, "x" * 3000, HOSTILE]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.sampled_from([10**400, -(10**4000)])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
FIELDS = [
    *payment(1),
    *told(1, 1),
    "type",
    "review_at",
    "declined_accounts",
    "thresholds",
    "decides",
    "arms",
    "shadows",
]
objects = st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), values, max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TOPICS), st.one_of(st.binary(max_size=300), objects.map(lambda each: json.dumps(each).encode())))
def test_any_bytes_become_one_entry_that_fits(taking, topic, message):
    taking.take(topic, message)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TOPICS), st.sampled_from(FIELDS), values)
def test_a_good_message_with_any_value_in_any_field_becomes_one_entry_that_fits(taking, topic, field, value):
    good = {"transactions": payment(1), "labels": told(1, 1), "control": {"type": "policy", "version": "p"}}[topic]
    taking.take(topic, json.dumps(good | {field: value}).encode())


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("opened", [b"[", b'{"a":', b'{"version":['])
def test_no_depth_of_nesting_ends_the_scorer(taking, topic, opened):
    for depth in [*range(1, 1100, 31), 4000]:
        closed = {b"[": b"]", b'{"a":': b"}", b'{"version":[': b"]}"}[opened]
        assert isinstance(taking.take(topic, opened * depth + b"1" + closed * depth), Rejected)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("size", [5_000, 2_000_000])
def test_a_message_of_any_size_is_rejected_with_a_letter_that_fits(taking, topic, size):
    for message in (b"\x01" * size, b'"' + b"\\u0001" * (size // 6) + b'"', raw({HOSTILE * (size // 20): 1})):
        entry = taking.take(topic, message)
        assert isinstance(entry, Rejected)
        assert len(journal.encode(entry)) < 80_000


def test_the_largest_policy_and_the_longest_label_fit():
    taking = Taking()
    ids = [f'{n:x}""' * 4 for n in range(30_000)]
    policy = {"type": "policy", "version": '"' * 64, "declined_accounts": ids}
    policy |= {"thresholds": [{"version": n, "review_at": 0.1, "decline_at": 0.3} for n in range(1, 65)]}
    while len(raw(policy)) > POLICY_MAX_BYTES:
        policy["declined_accounts"] = policy["declined_accounts"][:-100]
    assert len(raw(policy)) > POLICY_MAX_BYTES * 0.98
    assert isinstance(taking.take("control", raw(policy)), ControlApplied)
    longest = told(1, 1, note="\u0001" * (NOTE_MAX_CHARACTERS - 40), by='"' * 128, label_id="\\" * 64)
    assert not isinstance(taking.take("labels", raw(longest)), Rejected)
