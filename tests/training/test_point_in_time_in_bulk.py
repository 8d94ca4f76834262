"""The point-in-time proof in bulk: a simulated bank whose every arrival after a moment is changed at random.

History by Beam, the truth that trains, whatever an analysis could learn of both, and every feature through the graph
that serves are the same to the bit up to that moment.
"""

import datetime
import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from archive.layout import write_archive
from archive.manifest import LABEL_SCHEMA, TRANSACTION_SCHEMA
from archive.simulation.run import Plan, simulate
from features.analysis import write_analysis
from features.declaration import HISTORY_NAMES
from training.dataset import examples, write_rows
from training.export import Transform
from training.past import ensure_history
from training.windows import parse_days

pytestmark = pytest.mark.slow

PLAN = Plan(accounts=120, days=40, start=datetime.date(2024, 1, 1), seed=5, fraud_rate=0.05)
BEFORE, AFTER = parse_days("2024-01-12..2024-01-25"), parse_days("2024-01-26..2024-02-09")
NOW = BEFORE.until_us


def tables_of(archive):
    transactions = pa.Table.from_batches(archive.transactions()).select(TRANSACTION_SCHEMA.names)
    return transactions, archive.labels().select(LABEL_SCHEMA.names)


def with_another_future(transactions, labels, seed):
    """Both tables, with every arrival from NOW on changed at random, left out, or put in."""
    random = np.random.default_rng(seed)
    past = transactions.filter(pc.less(transactions["occurred_at"], NOW))
    future = transactions.filter(pc.greater_equal(transactions["occurred_at"], NOW))
    columns = {
        name: future[name].take(pa.array(random.permutation(len(future)))) for name in TRANSACTION_SCHEMA.names
    } | {"transaction_id": future["transaction_id"]}
    columns["amount_minor"] = pa.array(random.integers(0, 10**7, len(future)))
    columns["occurred_at"] = pa.array(np.sort(random.integers(NOW, AFTER.until_us, len(future))))
    place = random.permutation(len(future))
    columns |= {name: future[name].take(pa.array(place)) for name in ("latitude_e6", "longitude_e6")}
    kept = np.flatnonzero(random.random(len(future)) < 0.7)
    changed = pa.table(columns).select(TRANSACTION_SCHEMA.names).take(pa.array(kept))
    whole = pa.concat_tables([past, changed.cast(TRANSACTION_SCHEMA)])
    told = random.choice(len(whole), 400, replace=False)  # most of them of the past: what was genuine becomes fraud
    of = whole.take(pa.array(told))
    known_at = np.maximum(random.integers(NOW, AFTER.until_us, 400), np.asarray(of["occurred_at"]))
    later = pa.table(
        {
            "label_id": [f"later-{n}" for n in range(400)],
            **{name: of[name] for name in ("transaction_id", "account_id", "merchant_id")},
            "verdict": random.choice(["fraud", "genuine"], 400),
            "source": ["chargeback"] * 400,
            "known_at": known_at,
            "note": [""] * 400,
        },
        schema=LABEL_SCHEMA,
    ).sort_by("known_at")
    return whole, pa.concat_tables([labels.filter(pc.less(labels["known_at"], NOW)), later])


def rows_of(archive, folder, days, known_before_us):
    """The rows of some days with history and truth, but for their sequence: it counts back from an archive's end."""
    history = ensure_history(archive, folder / "cache", (BEFORE.since_us, AFTER.until_us))
    file = folder / f"{days.first}.parquet"
    write_rows(archive, history, days, known_before_us, file)
    return file, pq.read_table(file).drop_columns("sequence")


def test_nothing_up_to_a_moment_moves_when_everything_after_it_is_changed(tmp_path):
    one = simulate(PLAN, tmp_path / "one")
    transactions, labels = with_another_future(*tables_of(one), seed=1)
    other = write_archive(tmp_path / "other", [transactions], labels, "another future")
    folders = [tmp_path / name for name in ("of-one", "of-other")]
    (file, rows), (other_file, other_rows) = (
        rows_of(archive, folder, BEFORE, NOW) for archive, folder in zip((one, other), folders, strict=True)
    )
    assert rows.num_rows > 1000
    assert sum(rows["fraud"].to_pylist()) > 10
    assert max(np.asarray(rows["merchant_fraud_count_30d"])) > 0
    assert other_rows.equals(rows), [name for name in rows.column_names if not rows[name].equals(other_rows[name])]
    write_analysis([file], tmp_path / "analysis")
    transform = Transform(tmp_path / "analysis").features
    ours, theirs = examples(file, transform), examples(other_file, transform)
    assert ours.numbers.tobytes() == theirs.numbers.tobytes()
    assert ours.categories.tobytes() == theirs.categories.tobytes()

    # And the future was changed in truth: history sees it as soon as it is past.
    _, after = rows_of(one, folders[0], AFTER, None)
    _, other_after = rows_of(other, folders[1], AFTER, None)
    for name in ("account_count_1d", "account_sum_30d", "merchant_fraud_count_7d", "account_fraud_count_30d"):
        assert name in HISTORY_NAMES
        assert not after[name].equals(other_after[name]), name
