"""Every metric of scored rows in every resample of their accounts: for the gate, and for the intervals of a card."""

from dataclasses import replace
from typing import Final

import numpy as np

from training.bootstrap import Draws, Interval, calibration_errors, cards, interval, ranked, summed
from training.costs import Costs, Thresholds, row_costs
from training.metrics import Float64, ScoredRows
from training.slices import Mask, parts

SHOWN_LEVEL: Final = 0.025
"""Of each end of an interval that a card shows: it holds what it says in 19 of 20 cases."""
UNBOUNDED: Final = frozenset({"cost", "expected_ratio"})
"""Metrics that may be above 1."""
SLICE_FRAUDS: Final = 30
"""A slice with fewer defrauded accounts is not judged: its average precision says nothing yet."""


def resampled(rows: ScoredRows, draws: Draws, thresholds: Thresholds | None, costs: Costs) -> dict[str, Float64]:
    """Metrics in every resample, float64 [1 + B] by name, the first as measured.

    rows: n, in the order of the draws' places, with at least one fraud and one genuine row; thresholds: under which
    `cost` is taken, in minor units a transaction; without them, or without amounts, it is left out.
    Names: `ap`, `cp100`, `review_recall`, `ece`, `expected_ratio` (frauds that the scores foretell over frauds there
    were), `cost`, and `review_share`.
    """
    found = ranked(rows, draws, (costs.review_share,))
    counts, scores = rows.counted(), rows.scores.astype(np.float64)
    sums = [counts, counts * scores, counts * rows.frauds]
    if thresholds is not None and rows.amounts_minor is not None:
        reached = rows.scores.astype(np.float32)
        reviewed = (reached >= thresholds.review_at) & (reached < thresholds.decline_at)
        sums += [np.sum(row_costs(rows, thresholds, costs), axis=0), counts * reviewed]
    whole, expected, frauds, *money = summed(np.stack(sums, axis=1), draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        metrics = {
            "ap": found["ap"],
            "cp100": cards(rows, draws),
            "review_recall": found[f"recall@{costs.review_share:g}"],
            "ece": calibration_errors(rows, draws),
            "expected_ratio": expected / frauds,
        }
        return metrics | {name: each / whole for name, each in zip(("cost", "review_share"), money, strict=False)}


def resampled_slices(rows: ScoredRows, draws: Draws, least: int = SLICE_FRAUDS) -> dict[str, Float64]:
    """Average precision of each slice with enough defrauded accounts, in every resample: float64 [1 + B] by its name.

    A slice that holds all rows, or frauds alone, is left out.
    """
    found = {}
    for name, mask in judged(rows, least).items():
        found[name] = ranked(rows.take(mask), replace(draws, place=draws.place[mask]), ())["ap"]
    return found


def judged(rows: ScoredRows, least: int = SLICE_FRAUDS) -> dict[str, Mask]:
    """The slices that hold frauds of `least` accounts or more, genuine rows too, and not all rows there are."""

    def enough(mask: Mask) -> bool:
        frauds = mask & rows.frauds.astype(bool)
        return not mask.all() and len(np.unique(rows.accounts[frauds])) >= least and bool(np.any(mask & ~frauds))

    return {name: mask for name, mask in parts(rows).items() if enough(mask)}


def shown(found: dict[str, Float64]) -> dict[str, Interval]:
    """Each metric with the interval that a card shows, within what it can be: from 0 on, and a share up to 1."""
    return {
        name: interval(values, SHOWN_LEVEL, lowest=0.0, highest=np.inf if name in UNBOUNDED else 1.0)
        for name, values in found.items()
    }
