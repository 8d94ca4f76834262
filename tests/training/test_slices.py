"""Metrics by slice are those of the slice's own rows, and no row is left out or counted twice."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.metrics import ScoredRows, average_precision
from training.slices import slices


def test_every_row_is_in_one_channel_and_one_band(tmp_path):
    random = np.random.default_rng(4)
    channels, amounts = random.choice(["pos", "ecom"], 500), random.choice([1, 1999, 2000, 49_999, 10**9], 500)
    frauds, scores = random.random(500) < 0.2, random.random(500).astype(np.float32)
    frauds[amounts == 2000] = False
    pq.write_table(pa.table({"channel": channels, "amount_minor": amounts}), tmp_path / "rows.parquet")
    names = np.arange(500)
    found = slices(tmp_path / "rows.parquet", ScoredRows(names, names, names, scores, frauds))
    for kind in ("channel", "amount_minor"):
        parts = [each for name, each in found.items() if name.startswith(kind)]
        assert sum(each["rows"] for each in parts) == 500
        assert sum(each["frauds"] for each in parts) == np.count_nonzero(frauds)
    pos = channels == "pos"
    assert found["channel=pos"]["ap"] == average_precision(frauds[pos], scores[pos])
    low = amounts < 2000
    assert found["amount_minor=0..2000"]["rows"] == np.count_nonzero(low)
    assert found["amount_minor=0..2000"]["frauds"] == np.count_nonzero(frauds[low])
    assert "ap" not in found["amount_minor=2000..10000"], "no fraud there, so nothing to rank"
    assert found["amount_minor=200000.."]["rows"] == np.count_nonzero(amounts == 10**9)
    assert "amount_minor=50000..200000" not in found
