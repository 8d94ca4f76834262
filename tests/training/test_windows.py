"""Days to train and to test on: no overlap, a delay in between, and a choice by itself that always keeps it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.errors import Refused
from plumbline.transaction import DAY_US
from training.windows import Days, InvalidWindow, Windows, automatic, parse_days


def test_both_ends_of_a_range_belong_to_it():
    days = parse_days("2018-07-25..2018-07-31")
    assert days.until_us - days.since_us == 7 * DAY_US
    assert parse_days("2018-07-25") == parse_days("2018-07-25..2018-07-25")


@pytest.mark.parametrize("text", ["", "yesterday", "2018-07-31..", "2018-02-30..2018-03-01", "2018-07-31..2018-07-25"])
def test_what_is_no_range_of_days_is_refused(text):
    with pytest.raises(InvalidWindow):
        parse_days(text)


def test_the_test_may_not_begin_before_the_delay_is_over():
    Windows(Days(10, 16), 7, Days(24, 30))
    with pytest.raises(InvalidWindow, match="after the delay"):
        Windows(Days(10, 16), 7, Days(23, 30))


@given(st.integers(0, 20_000), st.integers(1, 800), st.integers(0, 10))
def test_an_automatic_choice_keeps_the_delay_twice_or_refuses(first, days, delay):
    try:
        windows = automatic(first * DAY_US, (first + days) * DAY_US - 1, delay)
    except Refused:
        assert days < 2 * delay + 10
        return
    assert first <= windows.train.first <= windows.train.last
    assert windows.test.first - windows.train.last == delay + 1
    assert windows.test.last == first + days - 1 - delay
