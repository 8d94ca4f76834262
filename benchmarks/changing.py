"""A world whose frauds change: the simulator's, with patterns that begin and end on given days, and a new one.

What each row is in truth, and when its victim would report it, is kept apart from what a bank gets to know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from archive.simulation.batch import ECOM, Batch, joined, of
from archive.simulation.episodes import HOUR_US, day_of, episodes, euros, moments, reported, spread
from archive.simulation.frauds import PATTERNS, Pattern
from archive.simulation.genuine import genuine_day
from archive.simulation.run import rows_of, texts_of
from archive.simulation.world import FRAUDS, World, make_world
from plumbline.transaction import DAY_US

START_DAY: Final = 19_723
"""2024-01-01, as days since 1970."""

CASH_OUT_SHOPS: Final = 25


def quiet_takeover(world: World, rng: np.random.Generator, rows: float, pattern: int) -> Batch:
    """Account takeover in a new style: by remote control of the account's own device, a payment or two a day for days.

    The sums are little above the account's own, and the hour is any; but the goods are sold on through a few shops.
    """
    count = episodes(rows, 7.0)
    victim, begin = rng.integers(0, world.count, count), moments(world, rng, count, 0.2)
    spent = spread(rng.integers(4, 11, count))
    case = spent.parent
    time = begin[case] + spent.place * 14 * HOUR_US + rng.integers(0, 8 * HOUR_US, len(case))
    account = victim[case]
    shops = world.payees.online.anywhere(np.random.default_rng(world.seed), CASH_OUT_SHOPS)
    amount = euros(rng, 70.0 * np.exp(world.accounts.level[account]), 0.5, len(case))
    device = world.device(account, day_of(world, time), rng)
    payee = rng.choice(shops, len(case))
    return of(time, account, payee, device, amount, np.full(len(case), ECOM), pattern, reported(rng, time, case))


QUIET: Final = Pattern("quiet_takeover", 0.22, quiet_takeover)
KINDS: Final = (*PATTERNS, QUIET)


@dataclass(frozen=True, slots=True)
class Changes:
    """Days, since the world's start, on which shops begin to be compromised, and on which takeovers turn quiet."""

    compromise: int
    takeover: int

    def of(self, name: str) -> tuple[int, int]:
        """The half-open range of days of a pattern; it is there all the time unless it is one of those that change."""
        never = 10**6
        return {
            "compromised_merchant": (self.compromise, never),
            "account_takeover": (0, self.takeover),
            "quiet_takeover": (self.takeover, never),
        }.get(name, (0, never))


@dataclass(frozen=True, slots=True)
class Day:
    """One day's n transactions by time, what they are in truth, and when a victim would report (-1: never)."""

    number: int
    rows: pa.RecordBatch
    pattern: npt.NDArray[np.int8]
    reported_at: npt.NDArray[np.int64]

    @property
    def fraud(self) -> npt.NDArray[np.bool_]:
        """Which rows are frauds, bool [n]."""
        return self.pattern > 0


def changing_days(accounts: int, days: int, changes: Changes, seed: int, fraud_rate: float) -> Iterator[Day]:
    """The days of a world, one after the other; the same arguments give the same days."""
    world = make_world(accounts, days, START_DAY, seed, 1.5)
    texts = texts_of(world)
    made = []
    for number, pattern in enumerate(KINDS, start=1):
        rows = fraud_rate * accounts * days * 1.5 * pattern.share
        batch = pattern.make(world, world.rng(FRAUDS, number), rows, number)
        since, until = changes.of(pattern.name)
        at = (batch.time_us - world.start_us) // DAY_US
        made.append(batch.take((at >= since) & (at < until)))
    frauds = joined(made)
    of_day = (frauds.time_us - world.start_us) // DAY_US
    for day in range(days):
        batch = joined([genuine_day(world, day), frauds.take(of_day == day)])
        batch = batch.take(np.argsort(batch.time_us, kind="stable"))
        yield Day(
            day, rows_of(world, texts, day, batch), batch.pattern, np.where(batch.pattern > 0, batch.known_at, -1)
        )
