"""Logistic regression and random forest of the Handbook's chapter 3, on its 15 features: a check of split and metrics.

If these two come out as published (0.606 and 0.658 average precision, protocol A), the rows that are tested, the
accounts that are left out and the metric are the book's, and figures of other models may stand beside its tables.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.protocols import Fold, folds, not_known
from plumbline.transaction import DAY_US
from training.metrics import Array, average_precision

DAYS = (1, 7, 30)
DELAY_DAYS = 7


def reproduce(source: Path) -> dict[str, float]:
    """`published_lr_ap`, `published_rf_ap`, and how many rows and frauds train and test."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    fold = folds("handbook_a")[0]
    accounts, terminals, times, cents, frauds = _read(source, fold)
    features = published_features(accounts, terminals, times, cents, frauds)
    windows = fold.windows
    train = (times >= windows.train.since_us) & (times < windows.train.until_us)
    test = (times >= windows.test.since_us) & (times < windows.test.until_us)
    test[test] = not_known(fold, accounts[test], times[test], accounts[frauds], times[frauds])
    scale = StandardScaler().fit(features[train])
    result = {
        "published_train_rows": float(train.sum()), "published_train_frauds": float(frauds[train].sum()),
        "published_test_rows": float(test.sum()), "published_test_frauds": float(frauds[test].sum()),
    }  # fmt: skip
    models = {"lr": LogisticRegression(random_state=0), "rf": RandomForestClassifier(random_state=0, n_jobs=1)}
    for name, model in models.items():
        model.fit(scale.transform(features[train]), frauds[train])
        scores = model.predict_proba(scale.transform(features[test]))[:, 1]
        result[f"published_{name}_ap"] = average_precision(frauds[test], scores)
    return result


def published_features(accounts: Array, terminals: Array, times: Array, cents: Array, frauds: Array) -> Array:
    """The 15 features, float64 [n, 15], of n rows in time order: times int64 in microseconds, frauds bool.

    Counts and mean amounts of the account include the row itself; counts and fraud shares of the terminal are of the
    window that ended seven days before.
    """
    days = times // DAY_US
    columns = [cents / 100, (days + 3) % 7 >= 5, times % DAY_US // (3600 * 1_000_000) <= 6]
    for window in DAYS:
        count, total = _in_windows(accounts, times, cents, window * DAY_US, 0)
        columns += [count, total / 100 / count]
    for window in DAYS:
        count, bad = _in_windows(terminals, times, frauds.astype(np.int64), window * DAY_US, DELAY_DAYS * DAY_US)
        columns += [count, bad / np.maximum(count, 1)]
    return np.stack([np.asarray(each, np.float64) for each in columns], axis=1)


def _in_windows(keys: Array, times: Array, values: Array, window_us: int, delay_us: int) -> tuple[Array, Array]:
    """Count and sum over the rows of a row's key in (t - delay - window, t - delay], int64 [n] each."""
    _, number = np.unique(keys, return_inverse=True)
    since = times - times.min() + window_us + delay_us  # so that no window reaches into another key's times
    span = int(since.max()) + 1
    order = np.argsort(number, kind="stable")
    place = number[order].astype(np.int64) * span + since[order]
    sums = np.concatenate([[0], np.cumsum(values[order].astype(np.int64))])
    ends = np.searchsorted(place, place - delay_us, "right") if delay_us else np.arange(1, len(place) + 1)
    starts = np.searchsorted(place, place - delay_us - window_us, "right")
    count, total = np.empty(len(place), np.int64), np.empty(len(place), np.int64)
    count[order], total[order] = ends - starts, sums[ends] - sums[starts]
    return count, total


def _read(source: Path, fold: Fold) -> tuple[Array, Array, Array, Array, Array]:
    names = ["CUSTOMER_ID", "TERMINAL_ID", "TX_DATETIME", "TX_AMOUNT", "TX_FRAUD"]
    rows = pq.read_table(sorted(source.glob("transactions-*.parquet")), columns=names)
    accounts, terminals, times, amounts, frauds = (rows[name].to_numpy() for name in names)
    times = times.astype("datetime64[us]").astype(np.int64)
    keep = times < fold.windows.test.until_us
    cents = np.round(amounts[keep] * 100).astype(np.int64)
    return accounts[keep], terminals[keep], times[keep], cents, frauds[keep] == 1
