"""How far metrics would move with other accounts: a paired bootstrap that resamples accounts, not rows.

An account's transactions resemble one another, and a card that is used for fraud is so many times: rows resampled one
by one would make every interval too narrow. So in each resample every account comes as often as chance has it, by
Poisson's law with mean 1, which is drawing with replacement when nobody fixes how many, and brings all its rows each
time. Models that are compared are measured on the same draws, so that what is hard about some accounts is hard for
both.

Nothing is sorted anew in a resample. Rows in the order of a score are cut into runs between one fraud and the next;
how many rows of a run each account has is a sparse matrix, and its product with the draws gives the length of every
run in every resample at once. From these lengths follow average precision and the catch within a capacity, exactly as
`training.metrics` has them of rows of the same weights.

    runs [R, A] sparse × draws [A, B] ─► lengths [R, B] ─► cumulative ─► metrics [B]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import ndtri
from scipy.stats import poisson

from plumbline.transaction import DAY_US
from training.metrics import CALIBRATION_BINS, CARDS_A_DAY, Array, Float64, InvalidScores, ScoredRows

RESAMPLES: Final = 500
TOGETHER: Final = 64
"""Resamples whose runs are held in memory at a time."""

Place = npt.NDArray[np.intp]

_TIMES: Final = poisson(1).ppf((np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)
"""Poisson's numbers of mean 1, as often among these as they come, to one in 65,536."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How often each of A accounts was drawn in each resample: uint8 [A, 1 + B]; place: each row's account [n].

    The first resample is the rows as they are.
    """

    times: npt.NDArray[np.uint8]
    place: Place

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The draws, some resamples at a time."""
        for begin in range(0, self.times.shape[1], TOGETHER):
            yield self.times[:, begin : begin + TOGETHER].astype(np.float32)

    def sums(self, of_accounts: Float64) -> Float64:
        """Sums over the accounts [K, A] of every resample, float64 [K, 1 + B]."""
        return np.concatenate([of_accounts @ times.astype(np.float64) for times in self.blocks()], axis=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric as measured, its standard error, and how sure `low` and `high` are: the estimate plus or minus z errors.

    level: the probability with which each end alone is passed by chance; lowest, highest: what the metric can be, which
    no end passes.
    """

    estimate: float
    error: float
    level: float
    lowest: float = -np.inf
    highest: float = np.inf

    @property
    def low(self) -> float:
        """Lower end."""
        return float(np.clip(self.estimate - self.reach, self.lowest, self.highest))

    @property
    def high(self) -> float:
        """Upper end."""
        return float(np.clip(self.estimate + self.reach, self.lowest, self.highest))

    @property
    def reach(self) -> float:
        """How far each end is from the estimate."""
        return float(-ndtri(self.level)) * self.error


def draw(accounts: Array, seed: int, resamples: int = RESAMPLES) -> Draws:
    """Draws of the accounts of n rows; equal seeds give equal draws. Raises InvalidScores for no rows."""
    names, place = np.unique(accounts, return_inverse=True)
    if not len(names):
        raise InvalidScores("bootstrap", "rows", 0, "one or more")
    chances = np.random.default_rng(seed).integers(0, len(_TIMES), (len(names), resamples + 1), np.uint16)
    times = _TIMES[chances]
    times[:, 0] = 1
    return Draws(times, place)


def interval(values: Float64, level: float, *, lowest: float = -np.inf, highest: float = np.inf) -> Interval:
    """The interval of a metric from its values [1 + B]: as measured, and in every resample.

    lowest, highest: what the metric can be. Resamples in which it is no number are left out.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    error = float(np.std(drawn, ddof=1)) if len(drawn) > 1 else float("nan")
    return Interval(float(values[0]), error, level, lowest, highest)


def ranked(rows: ScoredRows, draws: Draws, shares: tuple[float, ...]) -> dict[str, Float64]:
    """`ap`, and `recall@SHARE` for every review share, in every resample: float64 [1 + B] each.

    rows: n, in the order of the draws' places. As `average_precision` and `at_capacity` have them of weighted rows;
    NaN where a resample holds no fraud or nothing else.
    """
    order = np.lexsort((rows.transaction_ids, -rows.scores.astype(np.float64)))
    runs = _Runs.cut(rows.scores[order], rows.frauds[order].astype(bool))
    counts = rows.counted()[order].astype(np.float32 if rows.weights is None else np.float64)  # whole numbers fit both
    lengths = csr_array((counts, (runs.run, draws.place[order])), shape=(runs.count, len(draws.times)))
    found: dict[str, list[Float64]] = {}
    for times in draws.blocks():
        for name, values in runs.measured(np.asarray(lengths @ times, np.float64), shares).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def summed(values: Float64, draws: Draws) -> Float64:
    """Sum of values [n, K] over the rows of every resample: float64 [K, 1 + B]."""
    return draws.sums(np.stack([np.bincount(draws.place, each, len(draws.times)) for each in values.T]))


def calibration_errors(rows: ScoredRows, draws: Draws, bins: int = CALIBRATION_BINS) -> Float64:
    """Calibration error in every resample, float64 [1 + B], over the bins of the rows as they are.

    The first differs from `calibration_error` by the rows that lie in two bins there, if weights are not all 1.
    """
    order = np.argsort(rows.scores, kind="stable")
    counts = rows.counted()
    ends = np.cumsum(counts[order])
    bin_of = np.empty(len(order), np.intp)
    least, left = divmod(float(ends[-1]), bins)
    edges = np.arange(1, bins + 1) * least + np.minimum(np.arange(1, bins + 1), left)
    bin_of[order] = np.minimum(np.searchsorted(edges, ends), bins - 1)
    off = counts * (rows.scores.astype(np.float64) - rows.frauds)
    of_accounts = np.bincount(bin_of * len(draws.times) + draws.place, off, bins * len(draws.times))
    gaps = draws.sums(of_accounts.astype(np.float64).reshape(bins, -1))
    return np.asarray(np.sum(np.abs(gaps), axis=0) / summed(counts[:, None], draws)[0])


def cards(rows: ScoredRows, draws: Draws, k: int = CARDS_A_DAY) -> Float64:
    """`card_precision` in every resample, float64 [1 + B]: an account drawn twice is two accounts, side by side."""
    days, scores, counts = rows.occurred_at // DAY_US, rows.scores.astype(np.float64), rows.counted()
    left = np.ones(draws.times.shape)
    shares = []
    for day in np.unique(days):
        today = np.flatnonzero(days == day)
        # An account's highest row of the day, and of equal ones the one that stands for most.
        order = today[np.lexsort((-counts[today], -scores[today], draws.place[today]))]
        accounts, first = np.unique(draws.place[order], return_index=True)
        defrauded = np.zeros(len(draws.times), bool)
        defrauded[draws.place[today][rows.frauds[today]]] = True
        best = order[first]
        top = np.argsort(-scores[best], kind="stable")
        shares.append(_looked_at(accounts[top], counts[best][top], defrauded, draws.times, left, k) / k)
    return np.asarray(np.mean(shares, axis=0)) if shares else np.zeros(draws.times.shape[1])


def _looked_at(
    accounts: Place, sizes: Float64, defrauded: Array, times: npt.NDArray[np.uint8], left: Float64, k: int
) -> Float64:
    """Defrauded accounts among a day's k, float64 [1 + B]; what was found leaves `left`, the share of each remaining.

    accounts, sizes: of the day, from the highest score down.
    """
    found, before = np.zeros(times.shape[1]), np.zeros(times.shape[1])
    for begin in range(0, len(accounts), 4 * k):
        part = accounts[begin : begin + 4 * k]
        present = times[part] * left[part] * sizes[begin : begin + 4 * k, None]
        ends = before + np.cumsum(present, axis=0)
        seen = np.clip(k - (ends - present), 0, present) * defrauded[part, None]
        found += np.sum(seen, axis=0)
        left[part] *= 1 - np.divide(seen, present, out=np.zeros_like(seen), where=present > 0)
        before = ends[-1]
        if np.all(before >= k):
            break
    return found


@dataclass(frozen=True, slots=True)
class _Runs:
    """Rows in the order of a score, cut behind every fraud, before it, and where its score's rows end.

    run: of each row [n]; fraud: of each run, whether it is a fraud [R]; ties: of each run, the last one of its score's
    rows [R], where it is a fraud.
    """

    run: Place
    fraud: npt.NDArray[np.bool_]
    ties: Place
    count: int

    @classmethod
    def cut(cls, scores: Array, frauds: npt.NDArray[np.bool_]) -> "_Runs":
        last = np.append(scores[1:] != scores[:-1], True)
        group = np.concatenate([[0], np.cumsum(last)[:-1]])
        with_fraud = np.bincount(group, frauds) > 0
        begins = (
            frauds | np.concatenate([[True], frauds[:-1]]) | np.concatenate([[False], (last & with_fraud[group])[:-1]])
        )
        run = np.cumsum(begins) - 1
        fraud = frauds[begins]
        ends = np.append(np.flatnonzero(begins)[1:], len(scores)) - 1
        last_of_group = np.flatnonzero(last)[group[ends]]
        return cls(run, fraud, run[last_of_group], int(run[-1]) + 1)

    def measured(self, lengths: Float64, shares: tuple[float, ...]) -> dict[str, Float64]:
        """Metrics of lengths [R, B], float64 [B] each."""
        ends = np.cumsum(lengths, axis=0)
        whole = ends[-1]
        caught = np.cumsum(lengths * self.fraud[:, None], axis=0)
        frauds = caught[-1]
        at = self.ties[self.fraud]
        drawn = lengths[self.fraud]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(ends[at] > 0, caught[at] / ends[at], 0.0)
            ap = np.sum(drawn * precision, axis=0) / frauds
            ap[frauds >= whole] = np.nan
            found = {"ap": ap}
            for share in shares:
                room = np.maximum(1, np.floor(whole * share))
                seen = np.clip(room - (ends[self.fraud] - drawn), 0, drawn)
                found[f"recall@{share:g}"] = np.sum(seen, axis=0) / frauds
        return found
