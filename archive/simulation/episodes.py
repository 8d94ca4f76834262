"""What all fraud patterns share: who is hit, when it happens, and when the victim's report comes in.

A pattern makes episodes (an attack), an episode has cases (an account that is hit), a case has payments. `Spread`
lays such levels out as arrays, so that no pattern needs a loop.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from archive.simulation.batch import NEVER
from archive.simulation.world import World
from plumbline.transaction import DAY_US, SECOND_US

MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US

REPORT_MEDIAN_DAYS, REPORT_SIGMA = 5.0, 0.8
REPORT_MIN_DAYS, REPORT_MAX_DAYS = 1.0, 30.0
NEVER_REPORTED_SHARE: Final = 0.04


@dataclass(frozen=True, slots=True)
class Spread:
    """Parents and their children: `parent` int64 [children], `place` int64 [children], 0 for a parent's first child."""

    parent: np.ndarray
    place: np.ndarray


def spread(counts: np.ndarray) -> Spread:
    """Lay out counts[i] children for each parent i."""
    parent = np.repeat(np.arange(len(counts)), counts)
    return Spread(parent, np.arange(len(parent)) - np.repeat(np.cumsum(counts) - counts, counts))


def episodes(rows: float, rows_each: float) -> int:
    """How many episodes make about this many rows: one at least."""
    return max(1, round(rows / rows_each))


def moments(world: World, rng: np.random.Generator, count: int, night_share: float = 0.25) -> np.ndarray:
    """int64 [count] times within the season's days, a share of them between midnight and six."""
    day = world.season_day + rng.integers(0, world.days, count)
    hour = np.where(rng.random(count) < night_share, rng.uniform(0, 6, count), rng.uniform(6, 24, count))
    return np.asarray(world.start_us + day * DAY_US + (hour * HOUR_US).astype(np.int64))


def steps(rng: np.random.Generator, places: np.ndarray, low_us: int, high_us: int) -> np.ndarray:
    """int64: time since the case's first payment, each step between low and high after the one before."""
    gap = rng.integers(low_us, high_us, len(places))
    gap[places == 0] = 0
    total = np.cumsum(gap)
    begin = np.maximum.accumulate(np.where(places == 0, total, 0))
    return np.asarray(total - begin)


def day_of(world: World, time_us: np.ndarray) -> np.ndarray:
    """int64: days since the start."""
    return np.asarray((time_us - world.start_us) // DAY_US)


def euros(rng: np.random.Generator, median: np.ndarray | float, sigma: float, count: int) -> np.ndarray:
    """int64 [count] minor units, log-normal about a median in euros, ten cents at least."""
    amount = np.exp(np.log(median) + sigma * rng.standard_normal(count))
    return np.asarray(np.clip(np.rint(amount * 100), 10, 2_500_000).astype(np.int64))


def reported(rng: np.random.Generator, time_us: np.ndarray, case: np.ndarray) -> np.ndarray:
    """int64: when each payment's fraud became known; all of a case on the same report, -1 for the few never reported.

    A report comes 1 to 30 days (median 5) after the case's last payment. case: int64, from 0 on.
    """
    cases = int(case.max()) + 1 if len(case) else 0
    last = np.zeros(cases, np.int64)
    np.maximum.at(last, case, time_us)
    days = np.exp(np.log(REPORT_MEDIAN_DAYS) + REPORT_SIGMA * rng.standard_normal(cases))
    known = last + (np.clip(days, REPORT_MIN_DAYS, REPORT_MAX_DAYS) * DAY_US).astype(np.int64)
    known[rng.random(cases) < NEVER_REPORTED_SHARE] = NEVER
    return np.asarray(known[case])
