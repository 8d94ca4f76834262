"""What a model's mistakes cost in money, and from which score on a payment is looked at, or declined.

    outcome   genuine payment            fraud of amount a
    approve   0                          what is not recovered of a
    review    a review                   a review, and what is not recovered of a when it is not recognised
    decline   an insult                  0

Scores are probabilities, so the cost to expect of each outcome is known before any truth is. Thresholds are chosen by
it, within what people can look at: the choice needs no label, and one large fraud by chance does not move it. What the
thresholds would have cost is then counted by the truth.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from plumbline.declines import DECLINE_SHARE_MOST
from plumbline.errors import Invalid, InvalidSetting
from plumbline.policy import float32
from plumbline.transaction import DAY_US
from training.metrics import Array, Float64, InvalidScores, ScoredRows

NEVER: Final = 2.0
"""A threshold that no score reaches."""

DECLINED_LEAST: Final = 20
"""Rows: with fewer above a threshold, labels cannot say whether its declines are right, and nothing is declined."""

CANDIDATES: Final = 1000
"""How many thresholds are tried, closer to one another among the highest scores; fewer rows are all tried."""

Share = Annotated[float, Meta(ge=0, le=1)]
Minor = Annotated[int, Meta(ge=0, le=10**12)]


class InvalidThresholds(Invalid):
    """Thresholds that contradict each other."""


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What mistakes cost, in the minor units in which amounts are; a JSON object with any field replaces defaults."""

    review_minor: Annotated[Minor, Meta(description="One payment looked at by a person.")] = 300
    insult_minor: Annotated[Minor, Meta(description="One genuine payment declined: fees, a call, a customer lost.")] = (
        5_000
    )
    recovered_share: Annotated[Share, Meta(description="Share of an approved fraud's amount that comes back.")] = 0.0
    caught_share: Annotated[Share, Meta(description="Share of the frauds under review that people recognise.")] = 0.9
    decline_precision: Annotated[
        Share, Meta(description="Least share of frauds, by the labels, among what is declined for its score.")
    ] = 0.5
    review_share: Annotated[
        float, Meta(gt=0, le=1, description="Review capacity: share of all payments that people can look at.")
    ] = 0.005
    decline_share_most: Annotated[
        Share, Meta(description="Thresholds that decline a greater share of all payments are held until accepted.")
    ] = DECLINE_SHARE_MOST


def read_costs(file: Path | None) -> Costs:
    """The costs in a JSON file, or the defaults without one. Raises InvalidSetting."""
    if file is None:
        return Costs()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Costs)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidSetting(f"costs {file}", "file", file.name, f"a JSON object of costs ({error})") from error


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on a payment is reviewed, and declined, as float32; above 1: never."""

    review_at: float
    decline_at: float

    def __post_init__(self) -> None:
        if not 0 <= self.review_at <= self.decline_at <= NEVER:
            raise InvalidThresholds(
                "thresholds",
                "review_at",
                self.review_at,
                f"0 or more, at most decline_at ({self.decline_at}), at most 2",
            )
        for name in ("review_at", "decline_at"):
            object.__setattr__(self, name, float32(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Spent:
    """What scored rows cost under thresholds, minor units, by the truth; shares are of all rows, each by its weight.

    fraud_minor: frauds approved, or not recognised under review; none_minor: what approving everything would have cost;
    busiest_share: the share reviewed on the UTC day with the highest; caught_share: of the frauds, those that were
    reviewed or declined.
    """

    fraud_minor: float
    review_minor: float
    insult_minor: float
    none_minor: float
    review_share: float
    decline_share: float
    busiest_share: float
    caught_share: float

    @property
    def cost_minor(self) -> float:
        """Fraud, reviews and insults together."""
        return self.fraud_minor + self.review_minor + self.insult_minor


def row_costs(rows: ScoredRows, thresholds: Thresholds, costs: Costs) -> tuple[Float64, Float64, Float64]:
    """Of each row, by its truth: cost of fraud, of review and of insult, float64 [n], minor units, weights counted.

    Raises InvalidScores when the rows have no amounts.
    """
    lost = _amounts(rows) * (1 - costs.recovered_share) * rows.frauds
    reviewed, declined = _outcomes(rows, thresholds)
    counts = rows.counted()
    fraud = lost * np.where(reviewed, 1 - costs.caught_share, np.where(declined, 0.0, 1.0))
    return (
        counts * fraud,
        counts * costs.review_minor * reviewed,
        counts * costs.insult_minor * (declined & ~rows.frauds),
    )


def spent(rows: ScoredRows, thresholds: Thresholds, costs: Costs) -> Spent:
    """Everything that thresholds cost and ask of people, on rows whose truth is known."""
    rows = rows.in_order()
    fraud, review, insult = (float(np.sum(each)) for each in row_costs(rows, thresholds, costs))
    counts = rows.counted()
    reviewed, declined = _outcomes(rows, thresholds)
    whole, frauds = float(np.sum(counts)), float(np.sum(counts * rows.frauds))
    _, day = np.unique(rows.occurred_at // DAY_US, return_inverse=True)
    by_day = np.bincount(day, counts * reviewed) / np.bincount(day, counts) if whole else np.zeros(1)
    return Spent(
        fraud_minor=fraud,
        review_minor=review,
        insult_minor=insult,
        none_minor=float(np.sum(counts * _amounts(rows) * (1 - costs.recovered_share) * rows.frauds)),
        review_share=float(np.sum(counts * reviewed)) / (whole or 1.0),
        decline_share=float(np.sum(counts * declined)) / (whole or 1.0),
        busiest_share=float(np.max(by_day)),
        caught_share=float(np.sum(counts * rows.frauds * (reviewed | declined))) / (frauds or 1.0),
    )


def choose(rows: ScoredRows, costs: Costs) -> Thresholds:
    """The thresholds of least expected cost among those that send at most `costs.review_share` of the rows to people.

    rows: their scores are taken for probabilities; amounts are needed. What is declined must also have been fraud by
    the labels, as `Costs.decline_precision` asks, in 20 rows or more; or else nothing is declined for its score.
    Equal scores are never parted, so that what is looked at stays within the share, and may be nothing.
    """
    order = np.lexsort((rows.transaction_ids, -rows.scores.astype(np.float64)))
    scores, counts = rows.scores[order].astype(np.float64), rows.counted()[order]
    lost = _amounts(rows)[order] * (1 - costs.recovered_share) * scores
    frauds = np.cumsum(counts * rows.frauds[order])
    whole = np.cumsum(counts)
    # Sums over the k highest rows, k from 0: what reviewing, or declining, them costs more than approving them.
    review = _sums(counts * (costs.review_minor - costs.caught_share * lost))
    decline = _sums(counts * (costs.insult_minor * (1 - scores) - lost))
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) + 1  # where a score's rows end
    tried = np.concatenate([[0], _thinned(ends)])
    load = np.concatenate([[0.0], whole])
    right = np.concatenate([[0.0], frauds]) >= costs.decline_precision * load
    allowed = tried[(tried == 0) | (right[tried] & (tried >= DECLINED_LEAST))]
    # The last end that people can still reach beyond each decline threshold is tried as well.
    room = costs.review_share * load[-1]
    last = np.searchsorted(load[ends], load[allowed] + room, side="right")
    farthest = np.where(last > 0, ends[np.maximum(last, 1) - 1], 0)
    best, found = np.inf, (0, 0)
    for declined, reach in zip(allowed.tolist(), farthest.tolist(), strict=True):
        reviewed = np.append(tried[(tried >= declined) & (tried <= max(reach, declined))], max(reach, declined))
        cost = decline[declined] + review[reviewed] - review[declined]
        at = int(np.argmin(cost))
        if cost[at] < best:
            best, found = float(cost[at]), (declined, int(reviewed[at]))
    decline_at = float(scores[found[0] - 1]) if found[0] else NEVER
    return Thresholds(float(scores[found[1] - 1]) if found[1] > found[0] else decline_at, decline_at)


def _outcomes(rows: ScoredRows, thresholds: Thresholds) -> tuple[Array, Array]:
    """Which rows are reviewed and which declined, as `plumbline.policy.decide` would."""
    scores = rows.scores.astype(np.float32)
    declined = scores >= thresholds.decline_at
    return (scores >= thresholds.review_at) & ~declined, declined


def _amounts(rows: ScoredRows) -> Float64:
    if rows.amounts_minor is None:
        raise InvalidScores("scored rows", "amounts_minor", None, "an amount a row: without it nothing can be costed")
    amounts: Float64 = np.asarray(rows.amounts_minor, np.float64)
    return amounts


def _sums(values: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(values)])


def _thinned(ends: npt.NDArray[np.intp]) -> Any:
    if len(ends) <= CANDIDATES:
        return ends
    return ends[np.unique(np.geomspace(1, len(ends), CANDIDATES).astype(np.int64) - 1)]
