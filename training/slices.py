"""Parts of the scored rows, by channel, country, band of amounts and age of the account: an average can hide that a
model is blind."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plumbline.transaction import DAY_US
from training.metrics import Array, ScoredRows, average_precision, brier, mean, roc_auc

AMOUNT_EDGES_MINOR: Final = (2_000, 10_000, 50_000, 200_000)
"""Bands begin at these amounts, in minor units of whatever currency."""
COUNTRIES_MOST: Final = 8
"""The most frequent ones are slices of their own; the others are one together."""
NEW_DAYS: Final = 30

Mask = npt.NDArray[np.bool_]


def parts(rows: ScoredRows) -> dict[str, Mask]:
    """Which rows belong to a slice, bool [n], by its name; of each kind whose column is known, every row is in one.

    Names: `channel=pos`, `country=FR`, `country=others`, `amount_minor=2000..10000`, `account=new`, `account=known`.
    """
    found: dict[str, Mask] = {}
    if rows.channels is not None:
        found |= {f"channel={each}": rows.channels == each for each in np.unique(rows.channels).tolist()}
    if rows.countries is not None:
        found |= _countries(rows.countries)
    if rows.amounts_minor is not None:
        bands = np.searchsorted(AMOUNT_EDGES_MINOR, rows.amounts_minor, side="right")
        for number, low in enumerate((0, *AMOUNT_EDGES_MINOR)):
            high = str(AMOUNT_EDGES_MINOR[number]) if number < len(AMOUNT_EDGES_MINOR) else ""
            found[f"amount_minor={low}..{high}"] = bands == number
    if rows.new_accounts is not None:
        found |= {"account=new": rows.new_accounts.astype(bool), "account=known": ~rows.new_accounts.astype(bool)}
    return {name: mask for name, mask in found.items() if mask.any()}


def slices(rows: ScoredRows) -> dict[str, dict[str, float]]:
    """Metrics of each of the `parts`: `rows`, `frauds`, `brier`, `mean_score` and `fraud_rate`.

    `auc` and `ap` are there too where at least one fraud and one genuine row are. Accounts known to be defrauded are
    among the rows, if they are among those given.
    """
    rows = rows.in_order()
    return {name: _measured(rows.take(mask)) for name, mask in parts(rows).items()}


def first_seen(batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    """When each account occurred first, microseconds since 1970 UTC.

    batches: with the columns `account_id` and `occurred_at`, in any order.
    """
    found: dict[str, int] = {}
    for batch in batches:
        table = pa.table({name: batch.column(name) for name in ("account_id", "occurred_at")})
        least = table.group_by("account_id").aggregate([("occurred_at", "min")])
        for account, at in zip(least["account_id"].to_pylist(), least["occurred_at_min"].to_pylist(), strict=True):
            found[account] = min(found.get(account, at), at)
    return found


def are_new(accounts: Array, occurred_at: Array, first_seen_us: Mapping[Any, int]) -> Mask:
    """Whether each of n accounts was first seen less than 30 days before its row, bool [n]; a row may be the first."""
    names, place = np.unique(accounts, return_inverse=True)
    never = np.iinfo(np.int64).max
    since = np.array([first_seen_us.get(each, never) for each in names.tolist()], np.int64)[place]
    return np.asarray(since > occurred_at - NEW_DAYS * DAY_US)


def _countries(countries: Array) -> dict[str, Mask]:
    names, counts = np.unique(countries, return_counts=True)
    most = np.sort(names[np.argsort(-counts, kind="stable")[:COUNTRIES_MOST]])
    found = {f"country={each}": countries == each for each in most.tolist()}
    return found | {"country=others": ~np.isin(countries, most)}


def _measured(rows: ScoredRows) -> dict[str, float]:
    frauds, scores, weights = rows.frauds, rows.scores, rows.weights
    found = {
        "rows": float(len(frauds)),
        "frauds": float(np.count_nonzero(frauds)),
        "brier": brier(frauds, scores, weights),
        "mean_score": mean(scores, weights),
        "fraud_rate": mean(frauds, weights),
    }
    if frauds.any() and not frauds.all():
        found |= {"auc": roc_auc(frauds, scores, weights), "ap": average_precision(frauds, scores, weights)}
    return found
