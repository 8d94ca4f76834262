"""Impossible travel: a copy of a card is used far away while the card itself is at home.

The account pays at one of its own shops (that payment is genuine, and part of what is made here); a quarter of an hour
to three hours later, more than 1,500 km away, its card is used in shops and cash machines two to five times. Real
travellers also pay far from home, but never sooner than they could have got there.
"""

import numpy as np

from archive.simulation.batch import ATM, GENUINE, NEVER, POS, Batch, joined, of
from archive.simulation.episodes import MINUTE_US, day_of, episodes, euros, moments, reported, spread, steps
from archive.simulation.places import CITIES, kilometres_between
from archive.simulation.world import World

ROWS_EACH = 3.5
FAR_KM = 1500.0


def impossible_travel(world: World, rng: np.random.Generator, rows: float, pattern: int) -> Batch:
    """About `rows` fraudulent payments of this pattern, and one genuine payment at home before each case."""
    count = episodes(rows, ROWS_EACH)
    victim, begin = rng.integers(0, world.count, count), moments(world, rng, count, 0.05)
    home = world.accounts.city[victim]
    north, east = (np.array([city[axis] for city in CITIES]) for axis in (1, 2))
    far = kilometres_between(north, east) >= FAR_KM
    city = np.argmax(far[home] * rng.random((count, len(CITIES))), axis=1)

    used = spread(rng.integers(2, 6, count))
    case = used.parent
    begin_far = begin + rng.integers(15 * MINUTE_US, 180 * MINUTE_US, count)
    time = begin_far[case] + steps(rng, used.place, 5 * MINUTE_US, 45 * MINUTE_US)
    cash = rng.random(len(case)) < 0.35
    there = city[case]
    payee = np.where(cash, world.payees.cash.within(rng, there), world.payees.shops.within(rng, there))
    in_shop = euros(rng, 1.6 * np.exp(world.payees.log_euros[payee]), 0.7, len(case))
    amount = np.where(cash, rng.integers(5, 41, len(case)) * 1000, in_shop)
    known = reported(rng, time, case)
    channel = np.where(cash, ATM, POS)
    copied = of(time, victim[case], payee, -1, amount, channel, pattern, known)

    shop = world.accounts.shops[victim, rng.integers(0, world.accounts.shops.shape[1], count)]
    errand = euros(rng, np.exp(world.payees.log_euros[shop] + 0.7 * world.accounts.level[victim]), 0.5, count)
    return joined(
        [copied, of(begin, victim, shop, -1, errand, POS, GENUINE, NEVER).take(_at_home(world, victim, begin))]
    )


def _at_home(world: World, account: np.ndarray, time_us: np.ndarray) -> np.ndarray:
    """bool: no trip keeps the account away at that time (a copied card's owner who is abroad pays nothing at home)."""
    home = np.ones(len(account), bool)
    days = day_of(world, time_us)
    for day in np.unique(days):
        now = np.flatnonzero(days == day)
        home[now] = world.away(int(day))[0][account[now]] < 0
    return home
