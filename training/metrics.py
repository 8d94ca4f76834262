"""How good scores are, from a plain table of scored transactions, so that one function serves the offline evaluation
and the journal alike.

Everything is float64 and defined to the last bit: rows are first brought into the order of their transaction ids, and
ties are either treated as one (AUC, average precision) or broken by id (ranks within a budget of reviews).

A row may stand for more than itself: a declined transaction has no label, so of those that would be declined a sample
with a known probability is let through, and each weighs as many as it stands for, one over that probability. A row of
weight k counts as k copies of it would, next to one another in every order. Where all weights are 1, or none are
given, the numbers are to the bit those of plain counts.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import Invalid
from plumbline.transaction import DAY_US
from training.calibration import fit_calibration, logits_of

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

CARDS_A_DAY: Final = 100
CALIBRATION_BINS: Final = 15


class InvalidScores(Invalid):
    """Scores of which no metric can be computed."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """n scored transactions, by column.

    transaction_ids, accounts: any sortable dtype [n]; occurred_at: int64 [n], microseconds UTC; scores: float [n],
    in [0, 1]; frauds: bool [n]; weights: float64 [n], above 0, how many rows each stands for, None: itself alone;
    amounts_minor: int64 [n]; channels, countries: str [n]; new_accounts: bool [n], whether the account was first seen
    less than 30 days before. A column that is None is not known.
    """

    transaction_ids: Array
    occurred_at: Array
    accounts: Array
    scores: Array
    frauds: Array
    weights: Float64 | None = None
    amounts_minor: Array | None = None
    channels: Array | None = None
    countries: Array | None = None
    new_accounts: Array | None = None

    def __post_init__(self) -> None:
        lengths = {each: len(column) for each, column in self._columns().items()}
        if len(set(lengths.values())) != 1:
            raise InvalidScores("scored rows", "columns", lengths, "columns of one length")
        if not np.all((self.scores >= 0) & (self.scores <= 1)):
            wrong = self.scores[~((self.scores >= 0) & (self.scores <= 1))][0]
            raise InvalidScores("scored rows", "score", wrong, "numbers from 0 to 1, none missing")
        if self.weights is not None and not np.all((self.weights > 0) & np.isfinite(self.weights)):
            wrong = self.weights[~((self.weights > 0) & np.isfinite(self.weights))][0]
            raise InvalidScores("scored rows", "weight", wrong, "finite numbers above 0")

    def take(self, rows: Array) -> "ScoredRows":
        """The rows of an index or a mask, as a new table."""
        return ScoredRows(**{each: column[rows] for each, column in self._columns().items()})

    def in_order(self) -> "ScoredRows":
        """The rows in the order of their transaction ids."""
        return self.take(np.argsort(self.transaction_ids, kind="stable"))

    def counted(self) -> Float64:
        """How many rows each stands for, float64 [n]."""
        return np.ones(len(self.scores)) if self.weights is None else self.weights

    def _columns(self) -> dict[str, Array]:
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: column for name, column in found.items() if column is not None}


def measure(rows: ScoredRows, review_share: float = 0.005) -> dict[str, float]:
    """Every metric of a table that holds at least one fraud and one genuine row, whatever the order of its rows.

    review_share: the share of transactions that people can look at. `rows` and `frauds` are counts of rows; everything
    else weighs them.
    """
    rows = rows.in_order()
    frauds, scores, weights = rows.frauds, rows.scores, rows.weights
    precision, recall = at_capacity(rows, review_share)
    line = fit_calibration(logits_of(scores), frauds, weights)
    return {
        "auc": roc_auc(frauds, scores, weights),
        "ap": average_precision(frauds, scores, weights),
        "cp100": card_precision(rows),
        "brier": brier(frauds, scores, weights),
        "ece": calibration_error(frauds, scores, weights=weights),
        "calibration_slope": line.scale,
        "calibration_bias": line.bias,
        "mean_score": mean(scores, weights),
        "fraud_rate": mean(frauds, weights),
        "review_share": review_share,
        "review_precision": precision,
        "review_recall": recall,
        "rows": float(len(scores)),
        "frauds": float(np.count_nonzero(frauds)),
    }


def mean(values: Array, weights: Float64 | None = None) -> float:
    """Mean of n numbers or truths, each counted as often as its weight says."""
    counts = _unequal(weights)
    values = values.astype(np.float64)
    return float(np.mean(values) if counts is None else np.sum(values * counts) / np.sum(counts))


def roc_auc(frauds: Array, scores: Array, weights: Float64 | None = None) -> float:
    """Chance that a fraud scores above a genuine transaction, a tie counting one half.

    frauds: bool [n]; scores: float [n]; weights: float64 [n]. Raises InvalidScores unless both kinds are there.
    """
    fraud, genuine = _steps(frauds, scores, weights)
    below = genuine.sum() - np.cumsum(genuine)
    return float(np.sum(fraud * (below + genuine / 2)) / (float(fraud.sum()) * float(genuine.sum())))


def average_precision(frauds: Array, scores: Array, weights: Float64 | None = None) -> float:
    """Mean of the precision at every fraud, transactions of equal score taken together; arguments as `roc_auc`."""
    fraud, genuine = _steps(frauds, scores, weights)
    caught, missed = np.cumsum(fraud), np.cumsum(genuine)
    return float(np.sum(fraud / fraud.sum() * (caught / (caught + missed))))


def brier(frauds: Array, scores: Array, weights: Float64 | None = None) -> float:
    """Mean squared distance of score and truth (0 or 1)."""
    return mean((scores.astype(np.float64) - frauds) ** 2, weights)


def calibration_error(
    frauds: Array, scores: Array, bins: int = CALIBRATION_BINS, weights: Float64 | None = None
) -> float:
    """Mean distance of mean score and fraud rate over the bins of `reliability`, weighted by rows."""
    counts = _unequal(weights)
    if counts is None:
        order = np.argsort(scores, kind="stable")
        gaps = [
            abs(float(np.sum(scores[part], dtype=np.float64)) - float(np.count_nonzero(frauds[part])))
            for part in np.array_split(order, bins)
        ]
        return float(sum(gaps) / len(scores))
    found = reliability(frauds, scores, bins, counts)
    return float(np.sum(np.abs(found[1] - found[2])) / np.sum(found[0]))


def reliability(
    frauds: Array, scores: Array, bins: int = CALIBRATION_BINS, weights: Float64 | None = None
) -> tuple[Float64, Float64, Float64]:
    """Bins of equally many rows by rising score: rows, sum of scores, frauds, each float64 [bins].

    A row that stands for several may lie in two bins, as its copies would; the first bins take what is left over.
    """
    order = np.argsort(scores, kind="stable")
    counts = (np.ones(len(scores)) if weights is None else weights)[order]
    ends = np.cumsum(counts)
    least, left = divmod(float(ends[-1]), bins)
    edges = np.arange(1, bins + 1) * least + np.minimum(np.arange(1, bins + 1), left)

    def up_to(values: Float64) -> Float64:
        """Sum of the values of all that lies below each edge, a row cut in two where an edge goes through it."""
        at = np.minimum(np.searchsorted(ends, edges), len(ends) - 1)
        inside = np.clip((edges - (ends - counts)[at]) / counts[at], 0, 1)
        sums = np.cumsum(values * counts)
        found: Float64 = sums[at] - (1 - inside) * (values * counts)[at]
        return np.diff(found, prepend=0.0)

    return (
        up_to(np.ones(len(counts))), up_to(scores[order].astype(np.float64)), up_to(frauds[order].astype(np.float64)),
    )  # fmt: skip


def card_precision(rows: ScoredRows, k: int = CARDS_A_DAY, caught_leave: bool = True) -> float:
    """Share of defrauded accounts among the k with the highest score of a UTC day, mean over the days that occur.

    An account's score is its highest of the day; ties go to the lesser account id. With `caught_leave` an account that
    was found defrauded among a day's k is left out of the later days, as its card would be blocked. An account stands
    for as many as its highest transaction of the day does (the greatest weight where several are highest); of one that
    stands for more than there is room for, a part is looked at, and that part is what leaves.
    Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, 2022, chapter 4.
    """
    days, counts, scores = rows.occurred_at // DAY_US, rows.counted(), rows.scores.astype(np.float64)
    left: dict[Any, float] = {}
    shares = []
    for day in np.unique(days):
        today = days == day
        accounts, place = np.unique(rows.accounts[today], return_inverse=True)
        highest = np.full(len(accounts), -1.0)
        np.maximum.at(highest, place, scores[today])
        size = np.zeros(len(accounts))
        best = scores[today] == highest[place]
        np.maximum.at(size, place[best], counts[today][best])
        defrauded = np.zeros(len(accounts), bool)
        np.logical_or.at(defrauded, place, rows.frauds[today])
        remaining = np.array([left.get(each, 1.0) for each in accounts.tolist()]) if left else np.ones(len(accounts))
        present = size * remaining
        top = np.argsort(-highest, kind="stable")
        before = np.cumsum(present[top]) - present[top]
        looked_at = np.clip(k - before, 0.0, present[top])
        shares.append(float(np.sum(looked_at[defrauded[top]])) / k)
        if caught_leave:
            found = top[defrauded[top] & (looked_at > 0)]
            seen = np.zeros(len(accounts))
            seen[top] = looked_at
            for at in found.tolist():
                left[accounts[at]] = remaining[at] * (1 - seen[at] / present[at])
    return float(np.mean(shares)) if shares else 0.0


def at_capacity(rows: ScoredRows, share: float) -> tuple[float, float]:
    """Precision and recall when the given share of all rows, those with the highest scores, is looked at.

    At least one row is looked at; ties go to the lesser transaction id. Of a row that stands for several, as many are
    looked at as there is room for.
    """
    order = np.lexsort((rows.transaction_ids, -rows.scores.astype(np.float64)))
    counts = rows.counted()[order]
    ends = np.cumsum(counts)
    room = float(capacity(float(ends[-1]), share))
    looked_at = np.clip(room - (ends - counts), 0.0, counts)
    found, frauds = float(np.sum(looked_at[rows.frauds[order]])), float(np.sum(counts[rows.frauds[order]]))
    return found / float(np.sum(looked_at)), found / (frauds or 1.0)


def capacity(rows: float, share: float) -> int:
    """How many of `rows` a share is: rounded down, at least 1.

    >>> capacity(1000, 0.005), capacity(10, 0.005)
    (5, 1)
    """
    return max(1, int(rows * share))


def without_known(rows: ScoredRows, known_from_day: dict[Any, int]) -> ScoredRows:
    """The rows of accounts that were not known to be defrauded on the UTC day of the row.

    known_from_day: first day (days since 1970) on which an account counts as known; see `known_from`.
    """
    days = rows.occurred_at // DAY_US
    never = np.iinfo(np.int64).max
    accounts, place = np.unique(rows.accounts, return_inverse=True)
    first = np.array([known_from_day.get(account, never) for account in accounts.tolist()], np.int64)
    return rows.take(days < first[place])


def known_from(accounts: Array, occurred_at: Array, delay_days: int) -> dict[Any, int]:
    """Day from which each account of fraudulent transactions counts as known: that of its first fraud, a delay later.

    A fraud of day d is known when day d + delay_days is over. accounts: [f]; occurred_at: int64 [f].
    """
    first: dict[Any, int] = {}
    for account, day in zip(accounts.tolist(), (occurred_at // DAY_US).tolist(), strict=True):
        first[account] = min(first.get(account, day + delay_days + 1), day + delay_days + 1)
    return first


def _steps(frauds: Array, scores: Array, weights: Float64 | None) -> tuple[Float64, Float64]:
    """Frauds and genuine rows at each different score, from the highest down, as float64 counts."""
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))[: len(ordered)]
    frauds = frauds[order].astype(bool)
    if frauds.all() or not frauds.any():
        raise InvalidScores("scored rows", "frauds", int(frauds.sum()), f"1 to {len(frauds) - 1} of {len(frauds)} rows")
    counts = np.ones(len(ordered)) if weights is None else weights[order]
    fraud = np.add.reduceat(np.where(frauds, counts, 0.0), starts)
    genuine = np.add.reduceat(np.where(frauds, 0.0, counts), starts)
    return fraud, genuine


def _unequal(weights: Float64 | None) -> Float64 | None:
    """The weights, or None where all are 1: sums and means are then taken as those of plain counts, to the bit."""
    return None if weights is None or bool(np.all(weights == 1)) else weights
