"""How good scores are, from a plain table of scored transactions, so that one function serves the offline evaluation
and the journal alike.

Everything is float64 and defined to the last bit: rows are first brought into the order of their transaction ids, and
ties are either treated as one (AUC, average precision) or broken by id (ranks within a budget of reviews).
"""

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import Invalid
from plumbline.transaction import DAY_US

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
    in [0, 1]; frauds: bool [n].
    """

    transaction_ids: Array
    occurred_at: Array
    accounts: Array
    scores: Array
    frauds: Array

    def __post_init__(self) -> None:
        lengths = {each.name: len(getattr(self, each.name)) for each in fields(self)}
        if len(set(lengths.values())) != 1:
            raise InvalidScores("scored rows", "columns", lengths, "columns of one length")
        if not np.all((self.scores >= 0) & (self.scores <= 1)):
            wrong = self.scores[~((self.scores >= 0) & (self.scores <= 1))][0]
            raise InvalidScores("scored rows", "score", wrong, "numbers from 0 to 1, none missing")

    def take(self, rows: Array) -> "ScoredRows":
        """The rows of an index or a mask, as a new table."""
        return ScoredRows(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


def measure(rows: ScoredRows, review_share: float = 0.005) -> dict[str, float]:
    """Every metric of a table that holds at least one fraud and one genuine row, whatever the order of its rows.

    review_share: the share of transactions that people can look at.
    """
    rows = rows.take(np.argsort(rows.transaction_ids, kind="stable"))
    precision, recall = at_capacity(rows, review_share)
    return {
        "auc": roc_auc(rows.frauds, rows.scores),
        "ap": average_precision(rows.frauds, rows.scores),
        "cp100": card_precision(rows),
        "brier": brier(rows.frauds, rows.scores),
        "ece": calibration_error(rows.frauds, rows.scores),
        "review_share": review_share,
        "review_precision": precision,
        "review_recall": recall,
        "rows": float(len(rows.scores)),
        "frauds": float(np.count_nonzero(rows.frauds)),
    }


def roc_auc(frauds: Array, scores: Array) -> float:
    """Chance that a fraud scores above a genuine transaction, a tie counting one half.

    frauds: bool [n]; scores: float [n]. Raises InvalidScores unless both kinds are there.
    """
    fraud, genuine = _steps(frauds, scores)
    below = genuine.sum() - np.cumsum(genuine)
    return float(np.sum(fraud * (below + genuine / 2)) / (float(fraud.sum()) * float(genuine.sum())))


def average_precision(frauds: Array, scores: Array) -> float:
    """Mean of the precision at every fraud, transactions of equal score taken together; arguments as `roc_auc`."""
    fraud, genuine = _steps(frauds, scores)
    caught, missed = np.cumsum(fraud), np.cumsum(genuine)
    return float(np.sum(fraud / fraud.sum() * (caught / (caught + missed))))


def brier(frauds: Array, scores: Array) -> float:
    """Mean squared distance of score and truth (0 or 1)."""
    return float(np.mean((scores.astype(np.float64) - frauds) ** 2))


def calibration_error(frauds: Array, scores: Array, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance of mean score and fraud rate over bins of equally many rows by rising score, weighted by rows."""
    order = np.argsort(scores, kind="stable")
    gaps = [
        abs(float(np.sum(scores[part], dtype=np.float64)) - float(np.count_nonzero(frauds[part])))
        for part in np.array_split(order, bins)
    ]
    return float(sum(gaps) / len(scores))


def card_precision(rows: ScoredRows, k: int = CARDS_A_DAY, caught_leave: bool = True) -> float:
    """Share of defrauded accounts among the k with the highest score of a UTC day, mean over the days that occur.

    An account's score is its highest of the day; ties go to the lesser account id. With `caught_leave` an account that
    was found defrauded among a day's k is left out of the later days, as its card would be blocked.
    Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, 2022, chapter 4.
    """
    days = rows.occurred_at // DAY_US
    caught: Array = rows.accounts[:0]
    shares = []
    for day in np.unique(days):
        today = days == day
        if caught_leave:
            today &= ~np.isin(rows.accounts, caught)
        accounts, place = np.unique(rows.accounts[today], return_inverse=True)
        highest = np.full(len(accounts), -1.0)
        np.maximum.at(highest, place, rows.scores[today].astype(np.float64))
        defrauded = np.zeros(len(accounts), bool)
        np.logical_or.at(defrauded, place, rows.frauds[today])
        top = np.argsort(-highest, kind="stable")[:k]
        found = accounts[top][defrauded[top]]
        caught = np.concatenate([caught, found])
        shares.append(len(found) / k)
    return float(np.mean(shares)) if shares else 0.0


def at_capacity(rows: ScoredRows, share: float) -> tuple[float, float]:
    """Precision and recall when the given share of all rows, those with the highest scores, is looked at.

    At least one row is looked at; ties go to the lesser transaction id.
    """
    looked_at = np.lexsort((rows.transaction_ids, -rows.scores.astype(np.float64)))[: capacity(len(rows.scores), share)]
    found, frauds = int(np.count_nonzero(rows.frauds[looked_at])), int(np.count_nonzero(rows.frauds))
    return found / len(looked_at), found / max(1, frauds)


def capacity(rows: int, share: float) -> int:
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


def _steps(frauds: Array, scores: Array) -> tuple[Float64, Float64]:
    """Frauds and genuine rows at each different score, from the highest down, as float64 counts."""
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))[: len(ordered)]
    frauds = frauds[order].astype(bool)
    if frauds.all() or not frauds.any():
        raise InvalidScores("scored rows", "frauds", int(frauds.sum()), f"1 to {len(frauds) - 1} of {len(frauds)} rows")
    fraud = np.add.reduceat(frauds.astype(np.float64), starts)
    genuine = np.add.reduceat((~frauds).astype(np.float64), starts)
    return fraud, genuine
