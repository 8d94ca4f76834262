"""For the tests beside it: a small archive with a pattern to find, a model trained on one, raw rows of every kind."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, Archive, write_archive
from features.analysis import write_analysis
from features.declaration import HISTORY
from features.grammar import ABSENT, RAW_STRINGS
from plumbline.policy import Policy
from training.calibration import Calibration
from training.dataset import Examples, examples, row_batches, write_rows
from training.export import Exported, Transform, publish, save
from training.fit import Fitted, Recipe, fit, strategy
from training.past import ensure_history
from training.windows import Windows

DAY = 86_400_000_000
FIRST = 18_000 * DAY
DAYS, ROWS = 50, 8000
CALIBRATION = Calibration(0.85, 0.25)
"""Far enough from changing nothing that a path which forgets it is noticed."""


def small_archive(folder, seed=0):
    """50 days, 8,000 transactions; one in 20 is fraud: high amounts, mostly by mail order, known two days later."""
    random = np.random.default_rng(seed)
    occurred_at = FIRST + np.sort(random.integers(0, DAYS * DAY, ROWS))
    fraud = random.random(ROWS) < 0.05
    amount = np.exp(random.normal(8, 0.7, ROWS) + 1.5 * fraud).astype(np.int64)
    located = random.random(ROWS) < 0.5
    accounts = [f"account-{n}" for n in random.integers(0, 200, ROWS)]
    merchants = [f"merchant-{n}" for n in random.integers(0, 60, ROWS)]
    transactions = pa.table(
        {
            "transaction_id": [f"t{n:06}" for n in range(ROWS)],
            "occurred_at": occurred_at,
            "account_id": accounts,
            "merchant_id": merchants,
            "device_id": ["" if n == 0 else f"device-{n}" for n in random.integers(0, 250, ROWS)],
            "amount_minor": amount,
            "currency": random.choice(["EUR", "GBP"], ROWS, p=[0.8, 0.2]),
            "channel": np.where(
                fraud & (random.random(ROWS) < 0.7), "ecom", random.choice(["pos", "ecom", "atm"], ROWS)
            ),
            "mcc": random.choice(["5411", "5812", "4111"], ROWS),
            "country": random.choice(["FR", "DE"], ROWS),
            "latitude_e6": pa.array(random.integers(40_000_000, 50_000_000, ROWS), pa.int32(), mask=~located),
            "longitude_e6": pa.array(random.integers(0, 10_000_000, ROWS), pa.int32(), mask=~located),
        },
        schema=TRANSACTION_SCHEMA,
    )
    at = np.flatnonzero(fraud)
    labels = pa.table(
        {
            "label_id": [f"l{n}" for n in at],
            "transaction_id": [f"t{n:06}" for n in at],
            "account_id": [accounts[n] for n in at],
            "merchant_id": [merchants[n] for n in at],
            "verdict": ["fraud"] * len(at),
            "source": ["chargeback"] * len(at),
            "known_at": occurred_at[at] + 2 * DAY,
            "note": [""] * len(at),
        },
        schema=LABEL_SCHEMA,
    )
    return write_archive(folder, [transactions], labels, "test")


@dataclass(frozen=True)
class Made:
    """Everything that one training leaves behind."""

    folder: Path
    archive: Archive
    cache: Path
    test_file: Path
    examples: Examples
    fitted: Fitted
    exported: Exported
    version: Path


def trained(folder: Path, archive: Archive, windows: Windows) -> Made:
    """Train on an archive and publish a version, step by step as `plumbline train` does, and keep every part."""
    cache, base = folder / "cache", folder / "models" / "small"
    history = ensure_history(archive, cache, (windows.train.since_us, windows.test.until_us))
    train_file, test_file = folder / "train.parquet", folder / "test.parquet"
    write_rows(archive, history, windows.train, windows.cut_off_us, train_file)
    write_rows(archive, history, windows.test, None, test_file)
    write_analysis([train_file], folder / "analysis")
    transform = Transform(folder / "analysis")
    learnable = examples(train_file, transform.features)
    fitted = fit(learnable, transform.vocabulary_sizes, Recipe(epochs=4, batch_rows=128), strategy(1))
    exported = Exported(transform, fitted.network, CALIBRATION)
    base.mkdir(parents=True)
    rows, _ = next(row_batches(train_file, rows=512))
    version = publish(save(exported, base), base, {"name": "small"}, Policy(version="v"), rows=rows)
    return Made(folder, archive, cache, test_file, learnable, fitted, exported, version)


def raw_rows(n, seed=0):
    """Raw inputs of n rows: ordinary, extreme, never seen before, with and without a place, known and unknown words."""
    random = np.random.default_rng(seed)
    history = np.exp(random.uniform(0, 14, (n, len(HISTORY)))).astype(np.int64)
    history[random.random(history.shape) < 0.3] = 0
    for index, measure in enumerate(HISTORY):
        if measure.kind.startswith("seconds_since"):
            history[random.random(n) < 0.3, index] = -1
        if measure.kind.endswith("_e6"):
            history[:, index] = random.integers(-90_000_000, 90_000_000, n)
            history[random.random(n) < 0.3, index] = ABSENT
    columns = {
        "history": history,
        "occurred_at": random.integers(0, 2**53, n),
        "amount_minor": np.exp(random.uniform(0, 27, n)).astype(np.int64),
        "latitude_e6": np.where(random.random(n) < 0.3, ABSENT, random.integers(-90_000_000, 90_000_000, n)),
        "longitude_e6": np.where(random.random(n) < 0.3, ABSENT, random.integers(-180_000_000, 180_000_000, n)),
    }
    words = [b"EUR", b"GBP", b"pos", b"ecom", b"5411", b"FR", b"", "不".encode(), b"unknown"]
    return columns | {
        name: np.array([words[i] for i in random.integers(0, len(words), n)], object) for name in RAW_STRINGS
    }
