"""Which entries are compared: ranges that combine, and samples that are the same everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.record import Record
from audit.selection import Sample, Selection, parse_selection
from plumbline.errors import InvalidSetting

IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


def at(sequence, ms, value=b"{}"):
    return Record(sequence, ms, value)


@given(IDS, st.integers(1, 50))
def test_larger_samples_hold_the_smaller_ones(account, part):
    assert Sample(50, 50).takes(account)
    if Sample(part, 50).takes(account):
        assert all(Sample(more, 50).takes(account) for more in range(part, 51))


def test_a_sample_has_its_share_and_is_the_same_on_every_machine():
    taken = [n for n in range(20_000) if Sample(1, 100).takes(f"account-{n}")]
    assert 150 < len(taken) < 250
    assert [n for n in range(100) if Sample(1, 10).takes(f"a{n}")] == EXPECTED
    assert Sample(1, 1000).takes(""), "an entry about no account is in every sample"


EXPECTED = [3, 16, 25, 33, 38, 60, 94]


def test_ranges_combine_and_say_when_nothing_more_can_come():
    chosen = parse_selection("5:9", "1970-01-01T00:00:01", "1970-01-01T00:00:02", None)
    assert chosen == Selection(5, 9, 1000, 2000)
    assert [chosen.covers(at(7, ms)) for ms in (999, 1000, 1999, 2000)] == [False, True, True, False]
    assert [chosen.covers(at(n, 1500)) for n in (4, 5, 9, 10)] == [False, True, True, False]
    assert not chosen.is_past(at(9, 1999))
    assert chosen.is_past(at(10, 1500))
    assert chosen.is_past(at(7, 2000))
    assert not chosen.is_past(at(10, 2000, None)), "a message passed over says nothing of what comes next"


def test_times_are_utc_unless_they_name_a_zone():
    assert parse_selection(":", "2026-01-31", None, None).since_ms == 1_769_817_600_000
    assert parse_selection(":", "2026-01-31T01:00:00+01:00", None, None).since_ms == 1_769_817_600_000


def test_the_options_of_a_selection_select_the_same_again():
    chosen = parse_selection("5:", "2026-01-31T18:00:00.250", "2026-02-01", "3/100")
    options = chosen.options()
    assert parse_selection(options["sequence"], options["since"], options["until"], options["sample"]) == chosen
    assert Selection().options() == {}


@pytest.mark.parametrize("text", ["1/0", "0/1", "2/1", "1/", "/9", "a/b", "1/9999999999", ""])
def test_a_sample_that_is_none_is_refused(text):
    with pytest.raises(InvalidSetting, match="--sample"):
        parse_selection(":", None, None, text)
