"""The benchmark of quality tests the rows that the published protocols name, and resamples accounts, not rows."""

import datetime

import numpy as np
import pytest

from benchmarks.compared import keys, summarise
from benchmarks.peers import PEERS, settings, tune
from benchmarks.prepared import Prepared
from benchmarks.protocols import NAMES, folds, not_known, validation_folds
from benchmarks.published import published_features
from plumbline.transaction import DAY_US
from training.dataset import Examples

SECOND_US = 1_000_000


def test_folds_are_those_of_the_book() -> None:
    windows = [str(each.windows.train) + " " + str(each.windows.test) for each in folds("handbook_b")]
    assert windows[0] == "2018-08-15..2018-08-21 2018-08-29..2018-09-04"
    assert windows[3] == "2018-07-25..2018-07-31 2018-08-08..2018-08-14"
    assert folds("handbook_a")[0] == folds("handbook_b")[3]


def test_sixty_training_days_test_the_same_rows() -> None:
    for short, long in zip(folds("handbook_b"), folds("handbook_b60"), strict=True):
        assert (short.windows.test, short.known_since) == (long.windows.test, long.known_since)
        assert short.windows.train.last == long.windows.train.last
        assert long.windows.train.last - long.windows.train.first == 59


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_chosen_before_the_tested_days(name: str) -> None:
    tested = min(each.windows.test.first for each in folds(name))  # type: ignore[arg-type]
    assert all(each.windows.test.last < tested for each in validation_folds(name))  # type: ignore[arg-type]


def test_accounts_with_a_known_fraud_are_left_out_as_a_plain_loop_has_it() -> None:
    fold = folds("handbook_a")[0]
    random = np.random.default_rng(4)
    first, last = fold.windows.train.first - 10, fold.windows.test.last
    accounts, days = random.integers(0, 40, 3000), random.integers(first, last + 1, 3000)
    frauds = random.random(3000) < 0.02
    times = days * DAY_US + random.integers(0, DAY_US, 3000)
    test = (days >= fold.windows.test.first) & (days <= last)

    kept = not_known(fold, accounts[test], times[test], accounts[frauds], times[frauds])

    expected = []
    for account, day in zip(accounts[test], days[test], strict=True):
        known = {
            who for who, when in zip(accounts[frauds], days[frauds], strict=True)
            if fold.windows.train.first <= when <= day - 8
        }  # fmt: skip
        expected.append(account not in known)
    assert kept.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_published_features_are_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(5)
    rows = 400
    start = int(datetime.datetime(2018, 4, 1, tzinfo=datetime.UTC).timestamp())
    times = np.sort(start + random.integers(0, 50 * 86_400, rows)) * SECOND_US
    accounts, terminals = random.integers(0, 5, rows), random.integers(0, 5, rows)
    cents, frauds = random.integers(1, 9999, rows), random.random(rows) < 0.2

    found = published_features(accounts, terminals, times, cents, frauds)

    for row in range(rows):
        expected: list[float] = []
        for window in (1, 7, 30):
            mine = [
                at
                for at in range(row + 1)
                if accounts[at] == accounts[row] and times[at] > times[row] - window * DAY_US
            ]
            expected += [len(mine), float(np.mean(cents[mine])) / 100]
        for window in (1, 7, 30):
            end = times[row] - 7 * DAY_US
            there = [
                at for at in range(row) if terminals[at] == terminals[row] and end - window * DAY_US < times[at] <= end
            ]
            expected += [len(there), float(np.mean(frauds[there])) if there else 0.0]
        assert found[row, 3:] == pytest.approx(expected)
    assert found[0, 1] == 1 or times[0] // DAY_US % 7 != 3  # 2018-04-01 is a Sunday


def test_resamples_are_the_same_for_every_model_and_every_fold() -> None:
    rows = [_prepared(seed) for seed in (1, 2)]
    good = [[each.test.frauds * 0.2 + np.random.default_rng(1).random(len(each.test)) * 0.7] for each in rows]
    poor = [[np.random.default_rng(2).random(len(each.test))] for each in rows]

    measured = summarise(rows, {"ours": [each * 2 for each in good], "xgboost": good, "lightgbm": poor}, 50, True)
    found = keys("handbook_b", measured)

    assert found["handbook_b_ap"] == found["handbook_b_ap_xgboost"]
    assert found["handbook_b_ap_over_xgboost"] == found["handbook_b_ap_over_xgboost_high"] == 0
    assert 0 < found["handbook_b_ap_over_lightgbm_low"] < found["handbook_b_ap_over_lightgbm"]
    assert found["handbook_b_ap_low"] < found["handbook_b_ap"] < found["handbook_b_ap_high"]
    assert found["handbook_b_ap_seed_deviation"] == 0
    assert 0 <= found["handbook_b_cp100"] <= 1


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_learns_what_is_plain(peer: str) -> None:
    setting, ap = tune(peer, [(_examples(3), _examples(4))])
    assert setting in list(settings(peer))
    assert ap > 0.8


def _examples(seed: int) -> Examples:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(600, 3)).astype(np.float32)
    categories = random.integers(0, 4, (600, 2)).astype(np.int32)
    return Examples(numbers, categories, (numbers[:, 0] > 1).astype(np.float32))


def _prepared(seed: int) -> Prepared:
    rows = _examples(seed)
    random = np.random.default_rng(seed)
    ids, accounts = np.array([f"t{at:04}" for at in range(600)]), np.array([f"a{at % 90:02}" for at in range(600)])
    return Prepared(rows, rows, [3, 3], ids, accounts, random.integers(0, 7, 600) * DAY_US)
