"""Metrics by slice are those of the slice's own rows, and no row is left out or counted twice."""

import numpy as np
import pyarrow as pa
import pytest

from training.metrics import ScoredRows, average_precision
from training.slices import NEW_DAYS, are_new, first_seen, parts, slices

DAY = 86_400_000_000


@pytest.fixture
def rows():
    random = np.random.default_rng(4)
    names = np.arange(500)
    amounts = random.choice([1, 1999, 2000, 49_999, 10**9], 500)
    frauds = random.random(500) < 0.2
    frauds[amounts == 2000] = False
    return ScoredRows(
        names, names, names, random.random(500).astype(np.float32), frauds, weights=random.random(500) + 0.5,
        amounts_minor=amounts, channels=random.choice(["pos", "ecom"], 500),
        countries=random.choice([f"C{n}" for n in range(12)], 500), new_accounts=random.random(500) < 0.1,
    )  # fmt: skip


def test_every_row_is_in_one_slice_of_each_kind(rows):
    masks, found = parts(rows), slices(rows)
    assert list(masks) == list(found)
    for kind, count in (("channel", 2), ("country", 9), ("amount_minor", 4), ("account", 2)):
        mine = [mask for name, mask in masks.items() if name.partition("=")[0] == kind]
        assert len(mine) == count
        assert np.array_equal(np.sum(mine, axis=0), np.ones(500)), kind
        assert sum(found[name]["rows"] for name in found if name.startswith(f"{kind}=")) == 500
    pos = rows.channels == "pos"
    assert found["channel=pos"]["ap"] == average_precision(rows.frauds[pos], rows.scores[pos], rows.weights[pos])
    low = rows.amounts_minor < 2000
    assert found["amount_minor=0..2000"]["rows"] == np.count_nonzero(low)
    assert found["amount_minor=0..2000"]["frauds"] == np.count_nonzero(rows.frauds[low])
    assert "ap" not in found["amount_minor=2000..10000"], "no fraud there, so nothing to rank"
    assert found["amount_minor=200000.."]["rows"] == np.count_nonzero(rows.amounts_minor == 10**9)
    assert "amount_minor=50000..200000" not in found


def test_a_column_that_is_not_known_makes_no_slices(rows):
    bare = ScoredRows(rows.transaction_ids, rows.occurred_at, rows.accounts, rows.scores, rows.frauds)
    assert slices(bare) == {}


def test_an_account_is_new_for_thirty_days_from_its_first_transaction():
    batches = [
        pa.record_batch({"account_id": ["a", "b", "a"], "occurred_at": [5 * DAY, 40 * DAY, 3 * DAY]}),
        pa.record_batch({"account_id": ["b"], "occurred_at": [41 * DAY]}),
    ]
    seen = first_seen(batches)
    assert seen == {"a": 3 * DAY, "b": 40 * DAY}
    at = np.array([3 * DAY, (3 + NEW_DAYS) * DAY - 1, (3 + NEW_DAYS) * DAY, 40 * DAY, 9 * DAY])
    assert are_new(np.array(["a", "a", "a", "b", "never"]), at, seen).tolist() == [True, True, False, True, True]
