"""The night's parity gate: a server of its own answers what was judged, or each bit that differs is counted."""

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.declaration import HISTORY_NAMES
from features.grammar import RAW_STRINGS
from plumbline.errors import Unready
from tests.declared_model import declared_models
from training.metrics import ScoredRows

pytestmark = pytest.mark.slow

ROWS = 700


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    """A version's folder, and what was loaded from it; test rows in a file, and their scores."""
    from training.dataset import row_batches
    from training.evaluate import load_version

    folder = declared_models(tmp_path_factory) / "1"
    random = np.random.default_rng(5)
    columns = {name: random.integers(0, 10_000, ROWS) for name in (*HISTORY_NAMES, "occurred_at", "amount_minor")}
    columns |= {name: random.integers(-90_000_000, 90_000_000, ROWS) for name in ("latitude_e6", "longitude_e6")}
    columns |= {name: random.choice(["", "x", "long"], ROWS) for name in RAW_STRINGS}
    rows = tmp_path_factory.mktemp("rows") / "test.parquet"
    pq.write_table(pa.table(columns), rows, row_group_size=300)
    model = load_version(folder)
    scores = np.concatenate([model.score(part) for part, _ in row_batches(rows, model.declaration)])
    ids = np.array([f"t{number}" for number in range(ROWS)])
    return folder, model, rows, ScoredRows(ids, columns["occurred_at"], ids, scores, np.zeros(ROWS, np.bool_))


def test_the_server_answers_what_was_judged_and_is_gone_afterwards(candidate, tmp_path):
    from retrain.parity import served_parity

    found = served_parity(*candidate, tmp_path / "parity")
    assert (found["compared"], found["different_scores"], found["different_features"]) == (ROWS, 0, 0)
    assert found["features"] == len(candidate[1].declaration.feature_names)
    assert not (tmp_path / "parity").exists()
    assert not [each for each in psutil.Process().children(recursive=True) if "serve" in each.cmdline()]


def test_a_last_bit_of_one_judged_score_is_noticed(candidate, tmp_path):
    from retrain.parity import served_parity

    folder, model, rows, judged = candidate
    scores = judged.scores.copy()
    scores[600] = np.nextafter(scores[600], np.float32(2))
    changed = ScoredRows(judged.transaction_ids, judged.occurred_at, judged.accounts, scores, judged.frauds)
    found = served_parity(folder, model, rows, changed, tmp_path / "parity")
    assert (found["different_scores"], found["different_features"]) == (1, 0)
    assert found["first"][0].startswith("score of t600: ")


def test_files_that_no_server_can_load_end_the_night_with_the_server_s_own_words(candidate, tmp_path, monkeypatch):
    from retrain import parity
    from streaming import parts

    monkeypatch.setattr(parts, "READY_SECONDS", 15.0)
    _, model, rows, judged = candidate
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(Unready, match="serve"):
        parity.served_parity(broken, model, rows, judged, tmp_path / "parity")
