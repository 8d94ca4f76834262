"""Tests that may be looked at after every count: evidence that grows only by chance when nothing is wrong.

All guardrails count hits among trials and doubt one sentence: "given all that came before, the next trial is a hit with
probability `limit` at most". The evidence is what a player owns who bets against that sentence with even stakes on a
few alternatives, each a likelihood ratio. While the sentence holds, nobody can win in the long run: the probability
that the evidence *ever* reaches 1 / alpha is alpha at most, however often one looks (Ville's inequality). Trials need
not be alike, nor independent, nor is the number of looks part of the statement.

Source: Ville (1939), Étude critique de la notion de collectif; Ramdas, Grünwald, Vovk, Shafer (2023), Game-theoretic
statistics and safe anytime-valid inference, Statistical Science 38(4).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ODDS: Final = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""The alternatives that are bet on: a hit's odds are so many times those of the limit. Small ones find small faults."""


def log_evidence(hits: Any, trials: Any, limit: Any) -> Floats:
    """Natural logarithm of the evidence against "a trial is a hit with probability `limit` at most".

    hits, trials: counts, broadcast against each other; limit: above 0 and below 1. 0 before the first trial.

    >>> float(np.exp(log_evidence(0, 0, 0.01)))
    1.0
    >>> bool(log_evidence(8, 10, 0.5) < log_evidence(80, 100, 0.5))
    True
    """
    hits, trials, limit = (np.asarray(each, np.float64)[..., None] for each in (hits, trials, limit))
    odds = np.array(ODDS)
    # An alternative's probability is odds * limit / scale; only logarithms of ratios to the limit are needed.
    scale = 1.0 + (odds - 1.0) * limit
    logs = hits * np.log(odds) - trials * np.log(scale)
    most = logs.max(axis=-1)
    return np.asarray(most + np.log(np.exp(logs - most[..., None]).mean(axis=-1)))


def share_limit(share: float, ratio: float) -> float:
    """The part of all hits that is an arm's with `share` of the accounts and `ratio` times the others' rate.

    >>> share_limit(0.5, 1.0), round(share_limit(0.1, 2.0), 4)
    (0.5, 0.1818)
    """
    return share * ratio / (share * ratio + 1.0 - share)


def needed(alpha: float) -> float:
    """The logarithm of the evidence at which a test with this probability of a false alarm speaks."""
    return float(-np.log(alpha))
