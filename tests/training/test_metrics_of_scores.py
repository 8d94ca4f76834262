"""The metrics against scikit-learn and against slow, obvious versions; and that no order of rows changes a bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training import metrics
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


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_no_bit(seed):
    rows = random_rows(1, n=300)
    shuffled = rows.take(np.random.default_rng(seed).permutation(300))
    assert metrics.measure(rows) == metrics.measure(shuffled)


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


def test_a_table_without_fraud_is_refused():
    with pytest.raises(InvalidScores, match="frauds is 0"):
        metrics.roc_auc(np.zeros(3, bool), np.zeros(3))
