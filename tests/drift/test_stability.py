"""PSI against a naive sum and known values, its properties, and when a figure is worth a warning."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.stability import LEVELS, Limits, figure, is_judged, worst
from features.declaration import FEATURES
from features.psi import psi, shares
from features.reference import Binned
from plumbline.transaction import DAY_US

LIMITS = Limits(psi_warn=0.1, psi_alarm=0.25, missing_warn=0.05, missing_alarm=0.15, least=1000)
COUNTS = st.lists(st.integers(0, 10**9), min_size=2, max_size=30)
PAIRS = st.integers(2, 30).flatmap(
    lambda bins: st.tuples(*[st.lists(st.integers(0, 10**9), min_size=bins, max_size=bins)] * 2)
)


def naive(then, now):
    """The definition, bin by bin, in plain Python."""
    total = 0.0
    for a, b in zip(then, now, strict=True):
        p = (a + 0.5) / (sum(then) + 0.5 * len(then))
        q = (b + 0.5) / (sum(now) + 0.5 * len(now))
        total += (q - p) * math.log(q / p)
    return total


@given(PAIRS)
def test_psi_is_the_plain_sum_is_never_negative_and_the_same_both_ways(pair):
    then, now = pair
    assert psi(then, now) == pytest.approx(naive(then, now), abs=1e-12)
    assert psi(then, now) >= 0
    assert psi(then, now) == pytest.approx(psi(now, then), abs=1e-12)


@given(COUNTS)
def test_equal_counts_have_no_drift_and_shares_sum_to_one(counts):
    assert psi(counts, counts) == 0.0
    assert shares(counts).sum() == pytest.approx(1.0)
    assert (shares(counts) > 0).all()


@given(COUNTS.filter(lambda counts: sum(counts) >= 1000), st.integers(2, 20))
def test_more_rows_in_the_same_shares_hardly_matter(counts, times):
    assert psi(counts, [each * times for each in counts]) < len(counts) / sum(counts)


def test_known_values():
    million = 10**6
    # shares 50:50 against 60:40: 0.1 × ln(0.6 / 0.4)
    assert psi([million, million], [6 * million, 4 * million]) == pytest.approx(0.1 * math.log(1.5), abs=1e-5)
    # an empty bin counts as half a row
    assert psi([0, 999], [500, 500]) == pytest.approx(naive([0, 999], [500, 500]))
    assert psi([0, 999], [500, 500]) > 3


@given(st.lists(st.integers(100, 10_000), min_size=2, max_size=12), st.data())
def test_the_further_rows_move_from_where_they_were_the_larger_it_is(then, data):
    moved = data.draw(st.integers(0, then[0] - 1))
    further = data.draw(st.integers(moved + 1, then[0]))

    def after(rows):
        return [then[0] - rows, then[1] + rows, *then[2:]]

    assert psi(then, after(moved)) < psi(then, after(further))


def of(then, now, **options):
    binned = Binned(name="amount_log", edges=(0.0,), counts=then)
    return figure(binned, now, LIMITS, **options)


@pytest.mark.parametrize(
    ("now", "level"),
    [
        ((0, 5000, 5000), "calm"),
        ((0, 6700, 3300), "warn"),
        ((0, 8000, 2000), "alarm"),
        ((100, 4950, 4950), "calm"),
        ((150, 4925, 4925), "warn"),  # never missing in training: the index says so before the share does
        ((0, 450, 450), "few"),
        ((0, 0, 0), "few"),
    ],
)
def test_the_level_of_a_figure(now, level):
    assert of((0, 50_000, 50_000), now).level == level


@pytest.mark.parametrize(
    ("missing_now", "level"), [(0.30, "calm"), (0.349, "calm"), (0.36, "warn"), (0.24, "warn"), (0.46, "alarm")]
)
def test_a_share_of_missing_rows_that_moved_is_told_either_way(missing_now, level):
    missing = round(missing_now * 10_000)
    rest = (10_000 - missing) // 2
    found = of((30_000, 35_000, 35_000), (missing, rest, 10_000 - missing - rest))
    assert (found.missing_then, found.missing_now) == (pytest.approx(0.3), pytest.approx(missing_now))
    assert found.level == level


def test_too_few_rows_have_no_index_on_either_side():
    assert of((0, 500, 499), (0, 5000, 5000)).psi is None
    assert of((0, 5000, 5000), (0, 500, 499)).psi is None
    assert of((0, 500, 500), (0, 500, 500)).psi == 0.0


def test_a_clocks_feature_is_judged_over_a_whole_turn_alone():
    spans = {each.name: [is_judged(each, days * DAY_US) for days in (0.5, 1, 6, 7)] for each in FEATURES}
    assert spans["hour_sine"] == spans["night"] == [False, True, True, True]
    assert spans["weekday_cosine"] == spans["weekend"] == [False, False, False, True]
    assert spans["amount_log"] == spans["account_known"] == [True] * 4
    found = of((0, 50_000, 50_000), (0, 9000, 1000), judged=False)
    assert found.level == "cycle"
    assert found.psi > 0.25


def test_the_worst_level_stands_for_all():
    assert worst(["calm", "warn", "few"]) == "warn"
    assert worst(["calm", "cycle", "few"]) == "calm"
    assert worst(["few", "cycle"]) == "few"
    assert worst([]) == "few"
    assert worst(list(LEVELS)) == "alarm"
