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
from plumbline.transaction import DAY_US


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


def all_frauds(world: World, rows: float) -> Batch:
    """About `rows` fraudulent payments over all days, sorted by time, and the genuine ones that belong to them.

    Each pattern has its own randomness and makes one episode at least; with rows 0 there is none.
    """
    made = [
        pattern.make(world, world.rng(FRAUDS, number), rows * pattern.share, number)
        for number, pattern in enumerate(PATTERNS, start=1)
    ]
    batch = joined(made)
    end_us = world.start_us + world.days * DAY_US
    inside = (batch.time_us >= world.start_us) & (batch.time_us < end_us)
    batch = batch.take(inside if rows > 0 else np.zeros(len(batch), bool))
    return batch.take(np.argsort(batch.time_us, kind="stable"))
