"""Costs against a slow, obvious sum, and chosen thresholds against trying every pair of them."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.errors import InvalidSetting
from training.calibration import Calibration, fit_calibration, logits_of
from training.costs import NEVER, Costs, InvalidThresholds, Thresholds, choose, read_costs, spent
from training.metrics import InvalidScores, ScoredRows

DAY = 86_400_000_000
COSTS = Costs(review_minor=200, insult_minor=3000, recovered_share=0.25, caught_share=0.8, review_share=0.05)


def bank(seed, n=400, ties=False, scale=1.0, bias=0.0):
    """Rows whose scores, before scale and bias move their log-odds, are the probabilities that drew the frauds."""
    random = np.random.default_rng(seed)
    logits = random.normal(-4, 2.5, n)
    frauds = random.random(n) < 1 / (1 + np.exp(-logits))
    scores = (1 / (1 + np.exp(-(scale * logits + bias)))).astype(np.float32)
    names = np.array([f"t{i:06}" for i in random.permutation(n)])
    return ScoredRows(
        names, 18_000 * DAY + random.integers(0, 7 * DAY, n), names, np.round(scores, 2) if ties else scores, frauds,
        weights=random.integers(1, 4, n).astype(float), amounts_minor=np.exp(random.normal(8.5, 1, n)).astype(np.int64),
    )  # fmt: skip


def slowly(rows, thresholds, costs):
    """Fraud, review and insult cost, the share reviewed, and the cost that the scores foretell."""
    fraud = review = insult = reviewed = foretold = 0.0
    for score, is_fraud, weight, amount in zip(
        rows.scores.tolist(), rows.frauds.tolist(), rows.weights.tolist(), rows.amounts_minor.tolist(), strict=True
    ):
        lost = amount * (1 - costs.recovered_share)
        if score >= thresholds.decline_at:
            insult += weight * costs.insult_minor * (not is_fraud)
            foretold += weight * costs.insult_minor * (1 - score)
        elif score >= thresholds.review_at:
            reviewed += weight
            review += weight * costs.review_minor
            fraud += weight * lost * (1 - costs.caught_share) * is_fraud
            foretold += weight * (costs.review_minor + lost * (1 - costs.caught_share) * score)
        else:
            fraud += weight * lost * is_fraud
            foretold += weight * lost * score
    return fraud, review, insult, reviewed / rows.weights.sum(), foretold


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), edges=st.tuples(st.floats(0, 1.1), st.floats(0, 1.1)))
def test_what_thresholds_cost_is_the_sum_over_the_rows(seed, edges):
    rows, thresholds = bank(seed, 60, ties=True), Thresholds(*sorted(edges))
    found, expected = spent(rows, thresholds, COSTS), slowly(rows, thresholds, COSTS)
    assert (found.fraud_minor, found.review_minor, found.insult_minor, found.review_share) == pytest.approx(
        expected[:4]
    )
    assert found.cost_minor == pytest.approx(sum(expected[:3]))
    assert found.none_minor == pytest.approx(slowly(rows, Thresholds(NEVER, NEVER), COSTS)[0])
    assert found.busiest_share >= found.review_share


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_chosen_thresholds_are_the_best_of_all_pairs(seed, ties):
    rows = bank(seed, 150, ties)
    chosen = choose(rows, COSTS)
    edges = [*np.unique(rows.scores.astype(np.float64)).tolist(), NEVER]
    best = np.inf
    for decline_at in edges:
        above = rows.scores >= decline_at
        right = np.sum(rows.weights[above & rows.frauds]) >= COSTS.decline_precision * np.sum(rows.weights[above])
        if above.any() and not (right and np.count_nonzero(above) >= 20):
            continue
        for review_at in (each for each in edges if each <= decline_at):
            *_, reviewed, foretold = slowly(rows, Thresholds(review_at, decline_at), COSTS)
            if reviewed <= COSTS.review_share:
                best = min(best, foretold)
    *_, reviewed, foretold = slowly(rows, chosen, COSTS)
    assert reviewed <= COSTS.review_share
    assert foretold == pytest.approx(best)


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (1.0, 4.0), (0.5, 0.0), (2.0, -3.0), (1.0, -6.0)])
def test_a_model_that_is_calibrated_in_another_way_keeps_the_review_load(scale, bias):
    old, costs = bank(1, 40_000), Costs(review_share=0.02)
    of_the_old = choose(old, costs)
    new = bank(2, 40_000, scale=scale, bias=bias)
    unmoved = spent(new, of_the_old, costs)
    calibrated = fit_calibration(logits_of(new.scores), new.frauds, new.weights)
    scores = calibrated.apply(logits_of(new.scores)).astype(np.float32)
    later = bank(3, 40_000, scale=scale, bias=bias)
    later_scores = calibrated.apply(logits_of(later.scores)).astype(np.float32)
    chosen = choose(replace(new, scores=scores), costs)
    assert spent(replace(new, scores=scores), chosen, costs).review_share <= 0.02
    assert 0.015 <= spent(replace(later, scores=later_scores), chosen, costs).review_share <= 0.023
    if calibrated.bias < -3:
        assert unmoved.review_share + unmoved.decline_share > 0.08, "the old thresholds would have swamped people"
    if calibrated.bias > 3:
        assert unmoved.caught_share < 0.4, "the old thresholds would have let frauds pass"
    assert (
        spent(replace(later, scores=later_scores), chosen, costs).cost_minor
        < 0.9 * spent(later, of_the_old, costs).none_minor
    )


def test_nothing_is_declined_that_labels_do_not_bear_out():
    rows = bank(4, 20_000)
    assert choose(rows, Costs()).decline_at < 1
    assert choose(replace(rows, frauds=np.zeros(len(rows.frauds), bool)), Costs()).decline_at == NEVER
    few = rows.take(np.argsort(-rows.scores)[:19])
    assert choose(few, Costs(review_share=1.0)).decline_at == NEVER


def test_people_are_asked_for_nothing_that_costs_more_than_it_saves():
    rows = bank(5, 20_000)
    assert spent(rows, choose(rows, Costs(review_minor=10**9)), Costs()).review_share == 0
    all_equal = replace(rows, scores=np.full(len(rows.scores), 0.9, np.float32))
    chosen = choose(all_equal, Costs(decline_precision=1.0))
    assert (chosen.review_at, chosen.decline_at) == (NEVER, NEVER), "equal scores are not parted"


def test_more_rows_than_thresholds_that_are_tried_cost_hardly_more():
    rows, costs = bank(6, 30_000), Costs(review_share=0.01)
    chosen = choose(rows, costs)
    near = [
        slowly(rows, Thresholds(min(chosen.review_at * by, chosen.decline_at), chosen.decline_at), costs)[4]
        for by in (1.0, 1.001, 1.01, 1.1, 1.5)
    ]
    assert near[0] <= min(near) * 1.0005


def test_costs_are_read_from_a_file_and_a_wrong_name_is_refused(tmp_path):
    file = tmp_path / "costs.json"
    file.write_bytes(msgspec.json.encode({"review_minor": 150}))
    assert read_costs(file) == Costs(review_minor=150)
    assert read_costs(None) == Costs()
    for wrong in (b'{"reviews_minor": 1}', b'{"caught_share": 2}', b"["):
        file.write_bytes(wrong)
        with pytest.raises(InvalidSetting, match=r"costs.json"):
            read_costs(file)


def test_thresholds_that_contradict_one_another_and_rows_without_amounts_are_refused():
    with pytest.raises(InvalidThresholds, match=r"review_at is 0\.9"):
        Thresholds(0.9, 0.5)
    with pytest.raises(InvalidScores, match="amounts_minor"):
        choose(replace(bank(1, 50), amounts_minor=None), COSTS)
    assert Calibration().apply(np.zeros(1)).tolist() == [0.5]
