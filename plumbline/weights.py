"""Whom a labelled transaction stands for: inverse-probability weights, from the journal's decisions alone.

What was declined has no label. Where a policy let a known share of the declines by score through to review, each of
those stands for 1/p of them, so that sums over labelled transactions estimate sums over all traffic without bias
(Horvitz and Thompson, 1952). Declines by a list, declines above the sample's amount limit and declines under a policy
without a sample are nobody's: `Represented` counts them, so that a figure says what it does not speak of.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from plumbline.assignment import PER_MILLE
from plumbline.decision import Decision, Outcome

WEIGHT_MOST: Final = float(PER_MILLE)
"""The weight of what one in a thousand stands for: the least chance that a policy can give, so nothing is clipped."""


def inverse_probability(outcome: Outcome, sample_per_mille: int, most: float = WEIGHT_MOST) -> float:
    """The weight of a decision's transaction, if it is labelled; rows of weight 0 are left out.

    outcome, sample_per_mille: as in `plumbline.decision.Decision`; most: larger weights are clipped to it, which makes
    estimates steadier and too small for declines.
    0 for a decline, also for one that somebody labelled: those that were let through stand for it, or nobody does.

    >>> inverse_probability(Outcome.APPROVE, 0), inverse_probability(Outcome.DECLINE, 20)
    (1.0, 0.0)
    >>> inverse_probability(Outcome.REVIEW, 20), inverse_probability(Outcome.REVIEW, 20, most=10.0)
    (50.0, 10.0)
    """
    if outcome is Outcome.DECLINE:
        return 0.0
    return min(PER_MILLE / sample_per_mille, most) if sample_per_mille else 1.0


@dataclass(frozen=True, slots=True)
class Represented:
    """Of whom weighted figures speak.

    decisions: all; weight_sum: of all weights, near `decisions - not_stood_for`; let_through: declines by score that
    went to review; stood_for: declines whose kind was let through with some chance; not_stood_for: declines of which
    nothing can be known, and not_stood_for_minor, their amounts in minor units of their currencies; clipped: weights
    that were cut; rows_effective: unweighted rows that would estimate as surely (Kish's).
    """

    decisions: int = 0
    weight_sum: float = 0.0
    let_through: int = 0
    stood_for: int = 0
    not_stood_for: int = 0
    not_stood_for_minor: int = 0
    clipped: int = 0
    rows_effective: float = 0.0


def represented(decisions: Iterable[Decision], most: float = WEIGHT_MOST) -> Represented:
    """Count who stands for whom; most: as in `inverse_probability`."""
    count = let_through = stood_for = left_out = left_out_minor = clipped = 0
    total = squares = 0.0
    for each in decisions:
        weight = inverse_probability(each.outcome, each.sample_per_mille, most)
        count += 1
        total += weight
        squares += weight * weight
        if each.outcome is Outcome.DECLINE and each.sample_per_mille:
            stood_for += 1
        elif each.outcome is Outcome.DECLINE:
            left_out += 1
            left_out_minor += each.transaction.amount_minor
        elif each.sample_per_mille:
            let_through += 1
            clipped += PER_MILLE / each.sample_per_mille > most
    effective = total * total / squares if squares else 0.0
    return Represented(count, total, let_through, stood_for, left_out, left_out_minor, clipped, effective)
