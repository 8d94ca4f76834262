"""Which rows train and which test in the benchmark of quality, to the day, and which accounts are left out.

Handbook A and B are those of Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection (2022): A
is chapter 3's one split, B the four prequential folds of chapters 5 to 7, with four earlier folds to tune on. B60 is B
with 60 training days that end where B's week ends; its test rows are B's own, to the row. Sparkov trains on 2019 and
tests on 2020.
"""

import datetime
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from training.metrics import Array, known_from
from training.windows import Days, Windows

Name = Literal["handbook_a", "handbook_b", "handbook_b60", "sparkov"]
NAMES: Final[tuple[Name, ...]] = ("handbook_a", "handbook_b", "handbook_b60", "sparkov")

DELAY_DAYS: Final = 7
WEEK: Final = 7
_EPOCH: Final = datetime.date(1970, 1, 1)
_TEST_STARTS: Final = ("2018-08-15", "2018-08-08", "2018-08-01", "2018-07-25")
_VALIDATION_STARTS: Final = ("2018-07-11", "2018-07-04", "2018-06-27", "2018-06-20")


@dataclass(frozen=True, slots=True)
class Fold:
    """Days to train and to test on; `known_since`: first day whose frauds make an account known, None: none ever.

    genuine_share: of the genuine training rows, how many train, for every model alike; all frauds do.
    """

    name: str
    windows: Windows
    known_since: int | None
    genuine_share: float = 1.0


def folds(name: Name) -> tuple[Fold, ...]:
    """The test folds of a protocol."""
    if name == "sparkov":
        return (_sparkov("2019-12-24", "2020-01-01..2020-12-31"),)
    if name == "handbook_a":
        return (_handbook(_TEST_STARTS[3], WEEK),)
    days, share = (60, 0.25) if name == "handbook_b60" else (WEEK, 1.0)
    return tuple(_handbook(each, days, share) for each in _TEST_STARTS)


def validation_folds(name: Name) -> tuple[Fold, ...]:
    """Earlier folds, on which settings are chosen: their test days end before the protocol's first test day.

    B60 is tuned on B's, since 60 days before those the history is still growing.
    """
    if name == "sparkov":
        return (_sparkov("2019-09-23", "2019-10-01..2019-12-24"),)
    return tuple(_handbook(each, WEEK) for each in _VALIDATION_STARTS)


def not_known(fold: Fold, accounts: Array, occurred_at: Array, fraud_accounts: Array, fraud_times: Array) -> Array:
    """Which test rows are of accounts without a known fraud on that day: bool [n] of n rows.

    fraud_accounts, fraud_times: account and time of every fraud of the data; those before `known_since` do not count.
    """
    if fold.known_since is None:
        return np.ones(len(accounts), np.bool_)
    counts = fraud_times >= Days(fold.known_since, fold.known_since).since_us
    first = known_from(fraud_accounts[counts], fraud_times[counts], fold.windows.delay_days)
    days = occurred_at // Days(0, 0).until_us
    never = np.iinfo(np.int64).max
    return np.asarray(days < np.array([first.get(each, never) for each in accounts.tolist()], np.int64))


def _handbook(start: str, train_days: int, genuine_share: float = 1.0) -> Fold:
    """`start`: first day of the training week; more days reach further back, the tested rows stay the same."""
    week = _day(start)
    train = Days(week + WEEK - train_days, week + WEEK - 1)
    test = Days(week + WEEK + DELAY_DAYS, week + 2 * WEEK + DELAY_DAYS - 1)
    return Fold(f"handbook-{start}-{train_days}", Windows(train, DELAY_DAYS, test), week, genuine_share)


def _sparkov(train_last: str, test: str) -> Fold:
    first, _, last = test.partition("..")
    windows = Windows(Days(_day("2019-01-01"), _day(train_last)), DELAY_DAYS, Days(_day(first), _day(last)))
    return Fold(f"sparkov-{first}", windows, None, 0.125)


def _day(text: str) -> int:
    return (datetime.date.fromisoformat(text) - _EPOCH).days
