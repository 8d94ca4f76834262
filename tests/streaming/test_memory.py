"""How many ids are remembered: never fewer than the journal says, and more before one is forgotten too early."""

import pytest

from plumbline.policy import DEFAULT_POLICY
from plumbline.transaction import DAY_US
from streaming.batch import process
from streaming.known import Known
from streaming.memory import Memory, limit_wanted, older_than
from streaming.state import State
from tests.fakes import NOW, FakeClient, Numbered, fake_model, payment, raw

MEMORY = Memory(first=10, most=40, days=30)


def known(count, occurred_at, limit=10):
    state = State(Known(limit))
    state.activate(DEFAULT_POLICY)
    pay(state, count, occurred_at)
    return state


def pay(state, count, occurred_at, first=0):
    topic = Numbered("transactions")
    messages = [topic.message(raw(payment(n, occurred_at=occurred_at))) for n in range(first, first + count)]
    return process(state, fake_model(FakeClient()), transaction=messages, now_us=NOW).entries


@pytest.mark.parametrize(
    ("count", "arriving", "days_ago", "limit"),
    [
        (0, 0, 0, 10),
        (5, 5, 0, 10),
        (5, 6, 29, 20),
        (5, 6, 31, 10),
        (9, 25, 0, 34),
        (9, 90, 0, 40),
    ],
)
def test_it_grows_only_where_a_young_id_would_be_forgotten(count, arriving, days_ago, limit):
    state = known(count, NOW - days_ago * DAY_US)
    assert limit_wanted(MEMORY, state.known, arriving, NOW) == limit


def test_it_never_shrinks_and_follows_a_larger_setting():
    state = known(3, NOW, limit=25)
    assert limit_wanted(MEMORY, state.known, 1, NOW) == 25
    assert limit_wanted(Memory(60, 60, 30), state.known, 1, NOW) == 60
    assert limit_wanted(MEMORY, known(40, NOW, limit=40).known, 5, NOW) == 40


@pytest.mark.parametrize("count", [4, 10, 17], ids=["with room", "full", "turned"])
@pytest.mark.parametrize("limit", [6, 10, 30])
def test_under_another_limit_the_newest_stay_known(count, limit):
    state = known(count, NOW)
    state.remember(limit)
    kept = min(count, 10, limit)
    found = [n for n in range(count) if state.known.find(f"t{n}") >= 0]
    assert found == list(range(count - kept, count))
    pay(state, 30, NOW, first=100)
    assert len(state.known) == min(kept + 30, limit)
    assert state.known.limit == limit


def test_a_decision_on_what_is_older_than_the_memory_is_counted():
    state = known(10, NOW)
    assert older_than(known(9, NOW).known.covers_since(), pay(state, 1, NOW - DAY_US, first=50)) == 0
    state = known(10, NOW)
    since = state.known.covers_since()
    assert older_than(since, pay(state, 3, NOW - DAY_US, first=50)) == 3
    assert older_than(since, pay(state, 3, NOW, first=60)) == 0
