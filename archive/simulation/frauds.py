"""All fraud patterns by name, and how much of the fraud each has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from archive.simulation.batch import Batch, joined
from archive.simulation.patterns.account_takeover import account_takeover
from archive.simulation.patterns.card_testing import card_testing
from archive.simulation.patterns.compromised_merchant import compromised_merchant
from archive.simulation.patterns.impossible_travel import impossible_travel
from archive.simulation.patterns.mule_transfers import mule_transfers
from archive.simulation.world import FRAUDS, World


@dataclass(frozen=True, slots=True)
class Pattern:
    """A named way to commit fraud; share: its part of all fraudulent payments."""

    name: str
    share: float
    make: Callable[[World, np.random.Generator, float, int], Batch]


PATTERNS: Final = (
    Pattern("card_testing", 0.24, card_testing),
    Pattern("account_takeover", 0.22, account_takeover),
    Pattern("compromised_merchant", 0.22, compromised_merchant),
    Pattern("mule_transfers", 0.16, mule_transfers),
    Pattern("impossible_travel", 0.16, impossible_travel),
)
"""A Batch's `pattern` is the place in this table, counted from 1."""


def frauds_of_season(world: World, rows: float) -> Batch:
    """About `rows` fraudulent payments of a season, sorted by time, and the genuine ones that belong to them.

    Each pattern has its own randomness and makes one episode at least; with rows 0 there is none. An episode that
    begins late goes on into the next season.
    """
    season = [world.season] if world.season else []
    made = [
        pattern.make(world, world.rng(FRAUDS, number, *season), rows * pattern.share, number)
        for number, pattern in enumerate(PATTERNS, start=1)
    ]
    batch = joined(made)
    return batch.take(np.argsort(batch.time_us, kind="stable") if rows > 0 else np.zeros(0, np.int64))
