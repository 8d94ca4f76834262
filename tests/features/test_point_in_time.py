"""The point-in-time proof: whatever is changed among what arrives later, no integer of what came before moves."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.sweep import History
from tests.features.test_history import DAY, arrivals, rows
from tests.features.wide import WIDE

HOUR = DAY // 24


@st.composite
def changed(draw, future):
    """What arrives later, changed at random: in another order, rows left out, altered, re-labelled and put in."""
    kept = [row for row in draw(st.permutations(future)) if draw(st.booleans())]
    altered = [row | draw(alterations) for row in kept]
    return draw(st.permutations(altered + draw(st.lists(rows(), max_size=8))))


alterations = st.one_of(
    st.just({}),
    st.integers(0, 10**12).map(lambda amount: {"amount_minor": amount}),
    st.booleans().map(lambda is_label: {"is_label": is_label}),
    st.sampled_from("ab").map(lambda account: {"account_id": account}),
    st.sampled_from("mnop").map(lambda merchant: {"merchant_id": merchant}),
    st.integers(0, 150 * DAY).map(lambda time: {"time": time}),
    st.integers(0, 150 * DAY).map(lambda time: {"occurred_at": time}),
)


def swept(stream, cuts):
    """History int64 [n, measures], in batches that end at the cuts."""
    history = History(WIDE)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [history.advance(arrivals(stream[begin:end])) for begin, end in itertools.pairwise(edges)]
    return np.concatenate([np.zeros((0, len(WIDE.history)), np.int64), *parts])


@given(st.lists(rows(), max_size=40), st.data())
@settings(max_examples=200)
def test_no_integer_moves_when_everything_that_arrives_later_is_changed(stream, data):
    now = data.draw(st.integers(0, len(stream)))
    other = stream[:now] + data.draw(changed(stream[now:]))
    cuts = data.draw(st.lists(st.integers(0, 48), max_size=4))  # a batch may hold both what was and what comes
    assert np.array_equal(swept(other, cuts)[:now], swept(stream, cuts)[:now])


def test_the_same_changes_among_what_came_before_do_move_integers():
    """So that the proof above could fail."""
    before = {
        "account_id": "a", "merchant_id": "m", "device_id": "d", "time": 100 * DAY, "occurred_at": 100 * DAY,
        "amount_minor": 5, "latitude_e6": 1, "longitude_e6": 1, "is_label": False,
    }  # fmt: skip
    now = before | {"time": 100 * DAY + HOUR, "occurred_at": 100 * DAY + HOUR}
    usual = swept([before, now], [])[-1]
    for change in (
        {"amount_minor": 6},
        {"is_label": True},
        {"account_id": "b"},
        {"time": 60 * DAY, "occurred_at": 60 * DAY},
    ):
        assert not np.array_equal(swept([before | change, now], [])[-1], usual), change
    assert not np.array_equal(swept([now], [])[-1], usual)
