"""How far two counts of the same bins lie apart (PSI), and what that means: pure functions of counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from features.grammar import Feature
from features.psi import psi
from features.reference import Binned
from plumbline.transaction import DAY_US, SECOND_US

Level = Literal["cycle", "few", "calm", "warn", "alarm"]
LEVELS: Final[tuple[Level, ...]] = ("cycle", "few", "calm", "warn", "alarm")
"""Worst last. `few`: not enough decisions to tell. `cycle`: a clock's feature, over less than a turn of the clock."""

CYCLE_US: Final = {
    "hour_sine": DAY_US, "hour_cosine": DAY_US, "night": DAY_US,
    "weekday_sine": 7 * DAY_US, "weekday_cosine": 7 * DAY_US, "weekend": 7 * DAY_US,
}  # fmt: skip
"""Transforms that look at the clock alone: over less than a whole turn they tell of the window, not of the world."""
TURN_SLACK_US: Final = 3600 * SECOND_US
"""A window's first and last transaction lie a little inside it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a figure is worth a warning or an alarm; missing: differences of shares of 1; least: decisions."""

    psi_warn: float
    psi_alarm: float
    missing_warn: float
    missing_alarm: float
    least: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One feature's counts then and now, in the bins of its reference; psi is None where there are too few rows."""

    binned: Binned
    now: tuple[int, ...]
    psi: float | None
    level: Level

    @property
    def missing_then(self) -> float:
        """Share of the training rows in which the feature had nothing to go by."""
        return missing_share(self.binned.counts)

    @property
    def missing_now(self) -> float:
        """The same share of the window's decisions."""
        return missing_share(self.now)


def missing_share(counts: Sequence[int]) -> float:
    """Share of the rows that are in the first bin; 0 of no rows."""
    return counts[0] / sum(counts) if sum(counts) else 0.0


def figure(binned: Binned, now: Sequence[int], limits: Limits, *, judged: bool = True) -> Figure:
    """The figure of one feature or of the score; judged: False where the window is shorter than the clock's turn."""
    then = binned.counts
    if min(sum(now), sum(then)) < limits.least:
        return Figure(binned, tuple(now), None, "few")
    found = psi(then, now)
    apart = abs(missing_share(now) - missing_share(then))
    level: Level = "calm"
    if not judged:
        level = "cycle"
    elif found >= limits.psi_alarm or apart >= limits.missing_alarm:
        level = "alarm"
    elif found >= limits.psi_warn or apart >= limits.missing_warn:
        level = "warn"
    return Figure(binned, tuple(now), found, level)


def is_judged(feature: Feature, span_us: int) -> bool:
    """Whether decisions whose event times span so long can say anything about a feature."""
    return span_us >= CYCLE_US.get(feature.transform, 0) - TURN_SLACK_US


def worst(levels: Sequence[Level]) -> Level:
    """The worst of some levels, where one that was judged stands for all that were not; `few` of none."""
    return max(levels, key=LEVELS.index, default="few")
