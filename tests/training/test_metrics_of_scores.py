"""The metrics against scikit-learn and against slow, obvious versions; and that no order of rows changes a bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training import metrics
from training.calibration import (
    BIAS_MOST,
    SCALE_LEAST,
    SCALE_MOST,
    Calibration,
    InvalidCalibration,
    fit_calibration,
    logits_of,
)
from training.metrics import InvalidScores, ScoredRows

DAY = 86_400_000_000


def random_rows(seed, n=2000, ties=True):
    random = np.random.default_rng(seed)
    scores = random.random(n).astype(np.float32)
    if ties:
        scores = np.round(scores, 2)
    return ScoredRows(
        transaction_ids=np.array([f"t{i:05}" for i in random.permutation(n)]),
        occurred_at=18_000 * DAY + random.integers(0, 7 * DAY, n),
        accounts=np.array([f"a{i}" for i in random.integers(0, 300, n)]),
        scores=scores,
        frauds=random.random(n) < 0.05 + 0.2 * scores,
    )


def card_precision_slowly(rows, k, caught_leave):
    caught, shares = set(), []
    for day in sorted(set((rows.occurred_at // DAY).tolist())):
        best, fraud = {}, {}
        for at, account, score, is_fraud in zip(rows.occurred_at, rows.accounts, rows.scores, rows.frauds, strict=True):
            if at // DAY == day and not (caught_leave and account in caught):
                best[account] = max(best.get(account, 0.0), score)
                fraud[account] = fraud.get(account, False) or is_fraud
        top = sorted(best, key=lambda account: (-best[account], account))[:k]
        found = {account for account in top if fraud[account]}
        caught |= found
        shares.append(len(found) / k)
    return sum(shares) / len(shares)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed, ties):
    rows = random_rows(seed, ties=ties)
    assert metrics.roc_auc(rows.frauds, rows.scores) == pytest.approx(
        roc_auc_score(rows.frauds, rows.scores), abs=1e-12
    )
    expected = average_precision_score(rows.frauds, rows.scores)
    assert metrics.average_precision(rows.frauds, rows.scores) == pytest.approx(expected, abs=1e-12)
    expected = brier_score_loss(rows.frauds, rows.scores.astype(np.float64))
    assert metrics.brier(rows.frauds, rows.scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("caught_leave", [True, False])
def test_card_precision_equals_the_slow_way(caught_leave):
    rows = random_rows(7)
    assert metrics.card_precision(rows, 20, caught_leave) == pytest.approx(
        card_precision_slowly(rows, 20, caught_leave)
    )


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_no_bit(seed):
    rows = random_rows(1, n=300)
    shuffled = rows.take(np.random.default_rng(seed).permutation(300))
    assert metrics.measure(rows) == metrics.measure(shuffled)


def copies(rows):
    """The rows, each as often as its weight says, with an id and an account for every copy."""
    times = rows.weights.astype(int)
    number = np.concatenate([np.arange(each) for each in times])
    each = np.repeat(np.arange(len(times)), times)
    tails = [f"-{n}" for n in number]
    return ScoredRows(
        np.char.add(rows.transaction_ids[each], tails), rows.occurred_at[each],
        np.char.add(rows.accounts[each], tails), rows.scores[each], rows.frauds[each],
    )  # fmt: skip


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_row_of_weight_k_counts_as_k_copies_of_it(seed, ties):
    random = np.random.default_rng(seed)
    rows = random_rows(seed, n=600, ties=ties)
    # An account stands for as many whole others: card precision looks at accounts.
    accounts, place = np.unique(rows.accounts, return_inverse=True)
    rows = replace(rows, weights=random.integers(1, 5, len(accounts))[place].astype(float))
    found, expected = metrics.measure(rows, 0.03), metrics.measure(copies(rows), 0.03)
    assert expected.pop("rows") > found.pop("rows")
    assert expected.pop("frauds") > found.pop("frauds")
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [1, 7, 20])
def test_card_precision_of_weighted_accounts_equals_that_of_their_copies(k):
    rows = random_rows(3, n=900)
    accounts, place = np.unique(rows.accounts, return_inverse=True)
    rows = replace(rows, weights=np.random.default_rng(1).integers(1, 6, len(accounts))[place].astype(float))
    for caught_leave in (True, False):
        expected = card_precision_slowly(copies(rows), k, caught_leave)
        assert metrics.card_precision(rows, k, caught_leave) == pytest.approx(expected)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_weights_of_one_give_the_plain_numbers_to_the_bit(seed):
    rows = random_rows(seed, n=257, ties=bool(seed % 2))
    assert metrics.measure(replace(rows, weights=np.ones(257))) == metrics.measure(rows)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_ranks_are_scikit_learn_s(seed):
    rows = random_rows(seed)
    weights = np.random.default_rng(seed).random(2000) * 9 + 0.1
    given_weights = {"sample_weight": weights}
    found = metrics.roc_auc(rows.frauds, rows.scores, weights)
    assert found == pytest.approx(roc_auc_score(rows.frauds, rows.scores, **given_weights), abs=1e-12)
    found = metrics.average_precision(rows.frauds, rows.scores, weights)
    assert found == pytest.approx(average_precision_score(rows.frauds, rows.scores, **given_weights), abs=1e-12)
    found = metrics.brier(rows.frauds, rows.scores, weights)
    assert found == pytest.approx(
        brier_score_loss(rows.frauds, rows.scores.astype(np.float64), **given_weights), abs=1e-12
    )


def test_bins_hold_equally_many_rows_and_a_heavy_row_lies_in_two():
    frauds, scores = np.array([False, True, True]), np.array([0.1, 0.5, 0.9])
    rows, expected, found = metrics.reliability(frauds, scores, 2, np.array([1.0, 4.0, 1.0]))
    assert (rows.tolist(), found.tolist()) == ([3.0, 3.0], [2.0, 3.0])
    assert expected == pytest.approx([1.1, 1.9])
    plain = metrics.reliability(random_rows(1).frauds, random_rows(1).scores, 15)
    assert plain[0].tolist() == [len(part) for part in np.array_split(np.arange(2000), 15)]


def test_a_perfectly_calibrated_score_has_the_slope_1_and_a_moved_one_does_not():
    random = np.random.default_rng(5)
    scores = 1 / (1 + np.exp(-random.normal(-3, 2, 60_000)))
    frauds = random.random(60_000) < scores
    straight = fit_calibration(logits_of(scores), frauds)
    assert straight.scale == pytest.approx(1, abs=0.05)
    assert straight.bias == pytest.approx(0, abs=0.1)
    moved = fit_calibration(logits_of(scores) * 2 + 1, frauds)
    assert moved.scale == pytest.approx(0.5, abs=0.03)
    assert moved.bias == pytest.approx(-0.5, abs=0.08)
    oracle = LogisticRegression(C=1e9).fit((logits_of(scores) * 2 + 1)[:, None], frauds)
    assert moved.scale == pytest.approx(oracle.coef_[0, 0], abs=1e-3)
    assert moved.bias == pytest.approx(oracle.intercept_[0], abs=1e-3)


@pytest.mark.parametrize("frauds", [np.zeros(5, bool), np.ones(5, bool), np.arange(5) > 2])
def test_a_fit_of_rows_that_say_nothing_or_all_stays_within_its_limits(frauds):
    found = fit_calibration(np.arange(5) * 100.0 - 250, frauds)
    assert SCALE_LEAST <= found.scale <= SCALE_MOST
    assert abs(found.bias) <= BIAS_MOST


@pytest.mark.parametrize(("scale", "bias"), [(0.0, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_line_that_would_turn_the_ranking_round_is_refused(scale, bias):
    with pytest.raises(InvalidCalibration, match=r"(scale|bias) is"):
        Calibration(scale, bias)


def test_perfect_and_useless_scores():
    rows = random_rows(2)
    frauds = rows.frauds
    assert metrics.roc_auc(frauds, frauds.astype(float)) == 1.0
    assert metrics.average_precision(frauds, frauds.astype(float)) == 1.0
    assert metrics.roc_auc(frauds, np.zeros(len(frauds))) == 0.5
    assert metrics.calibration_error(frauds, np.full(len(frauds), frauds.mean()), bins=1) == pytest.approx(0)


def test_review_capacity_takes_the_highest_scores_and_breaks_ties_by_id():
    rows = ScoredRows(
        np.array(["c", "a", "b", "d"]), np.zeros(4, np.int64), np.array(["x"] * 4),
        np.array([0.5, 0.5, 0.9, 0.1], np.float32), np.array([True, False, True, True]),
    )  # fmt: skip
    assert metrics.at_capacity(rows, 0.5) == (0.5, 1 / 3)


def test_an_account_is_left_out_once_its_fraud_is_known_and_not_a_day_sooner():
    known = metrics.known_from(np.array(["a", "a"]), np.array([10 * DAY + 5, 3 * DAY]), delay_days=7)
    assert known == {"a": 11}
    days = np.arange(8, 14) * DAY
    rows = ScoredRows(
        np.arange(12), np.tile(days, 2), np.array(["a"] * 6 + ["b"] * 6), np.zeros(12), np.zeros(12, bool)
    )
    left = metrics.without_known(rows, known)
    assert [(a, int(t // DAY)) for a, t in zip(left.accounts, left.occurred_at, strict=True) if a == "a"] == [
        ("a", 8), ("a", 9), ("a", 10),
    ]  # fmt: skip
    assert np.count_nonzero(left.accounts == "b") == 6


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_scores_that_are_none_are_refused(score):
    with pytest.raises(InvalidScores, match="score is"):
        ScoredRows(np.arange(2), np.arange(2), np.arange(2), np.array([0.5, score]), np.zeros(2, bool))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_count_nothing_are_refused(weight):
    with pytest.raises(InvalidScores, match="weight is"):
        ScoredRows(
            np.arange(2), np.arange(2), np.arange(2), np.full(2, 0.5), np.zeros(2, bool), np.array([1.0, weight])
        )


def test_a_table_without_fraud_is_refused():
    with pytest.raises(InvalidScores, match="frauds is 0"):
        metrics.roc_auc(np.zeros(3, bool), np.zeros(3))
