"""Resampled metrics against the plain ones of rows with the same weights, resample by resample; and what is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from training import bootstrap, metrics
from training.bootstrap import Draws, draw, interval
from training.costs import Costs, Thresholds, spent
from training.metrics import ScoredRows
from training.resampled import judged, resampled, resampled_slices

DAY = 86_400_000_000
COSTS, THRESHOLDS = Costs(review_share=0.03), Thresholds(0.4, 0.8)


def random_rows(seed, n=1500, ties=False, weighted=False):
    random = np.random.default_rng(seed)
    scores = random.random(n) ** 2
    return ScoredRows(
        random.permutation(n), 18_000 * DAY + random.integers(0, 5 * DAY, n), random.integers(0, 120, n),
        (np.round(scores, 2) if ties else scores).astype(np.float32), random.random(n) < 0.02 + 0.3 * scores,
        weights=random.integers(1, 4, n).astype(float) if weighted else None,
        amounts_minor=random.integers(100, 90_000, n), channels=random.choice(["pos", "ecom"], n),
    )  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_every_resample_is_measured_as_rows_of_those_weights_are(ties, weighted):
    rows = random_rows(3, ties=ties, weighted=weighted).in_order()  # as bins part equal scores
    draws = draw(rows.accounts, 7, 80)  # more than are held in memory at a time
    found = resampled(rows, draws, THRESHOLDS, COSTS)
    for number in (0, 1, 40, 63, 64, 80):
        times = draws.times[draws.place, number].astype(float)
        drawn = replace(rows, weights=rows.counted()).take(times > 0)
        drawn = replace(drawn, weights=drawn.weights * times[times > 0])
        expected = metrics.measure(drawn, COSTS.review_share)
        assert found["ap"][number] == pytest.approx(expected["ap"], rel=1e-6)
        assert found["review_recall"][number] == pytest.approx(expected["review_recall"], rel=1e-6)
        assert found["expected_ratio"][number] == pytest.approx(expected["mean_score"] / expected["fraud_rate"])
        money = spent(drawn, THRESHOLDS, COSTS)
        assert found["cost"][number] == pytest.approx(money.cost_minor / drawn.counted().sum())
        assert found["review_share"][number] == pytest.approx(money.review_share)
        if not weighted:  # an account's rows have one weight: then it is as many accounts
            assert found["cp100"][number] == pytest.approx(metrics.card_precision(drawn))
    if not weighted:
        assert found["ece"][0] == pytest.approx(metrics.measure(rows)["ece"])
        for k in (5, 20):
            times = draws.times[draws.place, 9].astype(float)
            drawn = replace(rows.take(times > 0), weights=times[times > 0])
            assert bootstrap.cards(rows, draws, k)[9] == pytest.approx(metrics.card_precision(drawn, k))


def test_slices_are_resampled_with_the_same_draws():
    rows = random_rows(5)
    draws = draw(rows.accounts, 1, 10)
    found = resampled_slices(rows, draws, least=5)
    assert list(found) == list(judged(rows, 5))
    pos = rows.channels == "pos"
    alone = bootstrap.ranked(rows.take(pos), Draws(draws.times, draws.place[pos]), ())["ap"]
    assert np.array_equal(found["channel=pos"], alone)
    assert found["channel=pos"][0] == pytest.approx(metrics.average_precision(rows.frauds[pos], rows.scores[pos]))
    assert judged(rows, least=10_000) == {}


def test_draws_are_poisson_seeded_and_one_a_whole_account():
    draws = draw(np.repeat(np.arange(4000), 3), 5, 40)
    assert np.all(draws.times[:, 0] == 1)
    assert draws.times[:, 1:].mean() == pytest.approx(1, abs=0.01)
    assert draws.times[:, 1:].astype(float).var() == pytest.approx(1, abs=0.02)
    assert np.array_equal(draws.times, draw(np.repeat(np.arange(4000), 3), 5, 40).times)
    assert not np.array_equal(draws.times, draw(np.repeat(np.arange(4000), 3), 6, 40).times)


def test_an_interval_is_as_wide_as_the_metric_moves_between_samples():
    def precision(seed):
        random = np.random.default_rng(seed)
        frauds = random.random(4000) < 0.1
        scores = np.clip(random.normal(0.4 + 0.2 * frauds, 0.15), 0, 1)
        names = np.arange(4000)
        return ScoredRows(names, names, names, scores, frauds)

    moved = np.std([metrics.average_precision(each.frauds, each.scores) for each in map(precision, range(60))])
    rows = precision(99)
    values = bootstrap.ranked(rows, draw(rows.accounts, 1, 400), ())["ap"]
    found = interval(values, 0.025)
    assert found.error == pytest.approx(moved, rel=0.3)
    assert found.low == pytest.approx(found.estimate - 1.96 * found.error, abs=1e-4)
    assert found.high == found.estimate + found.reach
    one_account = bootstrap.ranked(rows, draw(np.zeros(4000), 1, 400), ())["ap"]
    assert np.nanstd(one_account) < 1e-6, "one account that comes twice tells nothing new"


def test_a_resample_without_a_fraud_is_no_number_and_is_left_out():
    rows = random_rows(1, n=60)
    rows = replace(rows, frauds=rows.accounts == rows.accounts[0])
    values = bootstrap.ranked(rows, draw(rows.accounts, 2, 50), ())["ap"]
    assert np.isfinite(values[0])
    assert 5 < np.count_nonzero(np.isnan(values)) < 40
    assert np.isfinite(interval(values, 0.025).error)
