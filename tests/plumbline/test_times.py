"""A time in another unit than microseconds is refused, and the error says which unit it looks like."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline import label, transaction
from plumbline.errors import Invalid
from plumbline.times import DAY_US, MAX_AGE_DAYS, unit_hint
from tests.fakes import NOW, payment, raw, told

OLDEST_US = NOW - MAX_AGE_DAYS * DAY_US


@given(st.integers(946_684_800, 4_102_444_799))
def test_every_second_of_this_century_is_known_by_its_unit(seconds):
    for unit, n in (("seconds", 1), ("milliseconds", 10**3), ("nanoseconds", 10**9)):
        assert f"looks like {unit}," in unit_hint(seconds * n)
    assert unit_hint(seconds * 10**6) == ""


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (NOW // 10**6, "it looks like seconds"),
        (NOW // 1000, "it looks like milliseconds"),
        (NOW * 1000, "it looks like nanoseconds"),
        (NOW / 10**6 + 0.25, "it looks like seconds"),
        (0, "0 looks like a time that was never set"),
        (OLDEST_US - 1, f"a time from {OLDEST_US} on, and now is {NOW}"),
    ],
)
@pytest.mark.parametrize("field", ["occurred_at", "known_at"])
def test_a_time_that_cannot_be_true_is_refused_with_what_it_looks_like(time, words, field):
    message = payment(1, occurred_at=time) if field == "occurred_at" else told(1, 1, known_at=time)
    parse = transaction.parse if field == "occurred_at" else label.parse
    with pytest.raises(Invalid) as refused:
        parse(raw(message), NOW, OLDEST_US)
    assert refused.value.field == field
    assert words in refused.value.allowed


def test_the_oldest_time_that_is_accepted_is_accepted():
    assert transaction.parse(raw(payment(1, occurred_at=OLDEST_US)), NOW, OLDEST_US).occurred_at == OLDEST_US
    assert label.parse(raw(told(1, 1, known_at=OLDEST_US)), NOW, OLDEST_US).known_at == OLDEST_US


def test_a_time_that_is_only_wrong_has_no_unit_said_of_it():
    assert (
        unit_hint(OLDEST_US - 1) == unit_hint(5) == unit_hint("2026-01-01") == unit_hint(None) == unit_hint(False) == ""
    )
    with pytest.raises(Invalid, match="at most one day ahead of now"):
        transaction.parse(msgspec.json.encode(payment(1, occurred_at=NOW + 2 * DAY_US)), NOW, OLDEST_US)
