"""Evidence that may be looked at always: against a plain product, and against what chance makes of it."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.guardrails import bound, false_alarms, fewest
from release.limits import RULES, Limits, alpha_of
from release.sequential import ODDS, log_evidence, needed, share_limit
from release.windows import Span

LIMITS = st.floats(0.001, 0.999)


def naive(hits, trials, limit):
    """The mean over all alternatives of the product of likelihood ratios, trial by trial."""
    total = 0.0
    for odds in ODDS:
        chance = odds * limit / (1 - limit + odds * limit)
        ratio = 1.0
        for number in range(trials):
            ratio *= chance / limit if number < hits else (1 - chance) / (1 - limit)
        total += ratio / len(ODDS)
    return math.log(total)


@given(st.integers(0, 40), st.integers(0, 40), LIMITS)
def test_evidence_is_the_mean_of_products_of_likelihood_ratios(hits, misses, limit):
    found = float(log_evidence(hits, hits + misses, limit))
    assert found == pytest.approx(naive(hits, hits + misses, limit), abs=1e-6, rel=1e-6)


@given(LIMITS, st.integers(0, 30), st.integers(0, 30))
def test_at_the_limit_the_next_trial_is_a_fair_bet(limit, hits, misses):
    now = math.exp(float(log_evidence(hits, hits + misses, limit)))
    hit, miss = np.exp(log_evidence([hits + 1, hits], hits + misses + 1, limit))
    assert limit * hit + (1 - limit) * miss == pytest.approx(now, rel=1e-6)
    assert hit >= now * (1 - 1e-9)


@given(st.floats(0.001, 0.999), st.floats(1, 50), st.floats(0.001, 0.1))
def test_an_arms_part_of_the_hits_follows_from_its_accounts_and_its_rate(share, ratio, rate):
    mine, others = share * rate * ratio, (1 - share) * rate
    assert share_limit(share, ratio) == pytest.approx(mine / (mine + others))


def test_the_fewest_hits_that_speak_are_those_of_a_search_one_by_one():
    wanted = needed(0.001)
    for chance in (0.01, 0.3, 0.9):
        for trials, hits in enumerate(fewest(60, chance, wanted).tolist(), start=1):
            speaking = [
                n for n in range(trials + 1) if n >= trials * chance and log_evidence(n, trials, chance) >= wanted
            ]
            assert hits == (speaking[0] if speaking else trials + 1)


def test_all_rules_and_all_windows_share_one_alarm_budget():
    limits = Limits()
    assert sum(alpha_of(rule, limits) for rule in RULES) == pytest.approx(limits.alpha)
    assert sum(Span(number, 0).budget for number in range(10_000)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.01, 0.4])
def test_healthy_releases_are_stopped_no_more_often_than_stated(alpha):
    releases = 1500
    stopped = false_alarms(releases, msgspec.structs.replace(Limits(), alpha=alpha), np.random.default_rng(3))
    assert stopped <= bound(releases, alpha)
    # The simulation can see alarms: with a large budget there are some.
    assert stopped > 20 or alpha < 0.1
