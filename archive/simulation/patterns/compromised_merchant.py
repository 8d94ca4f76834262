"""Compromised merchant: a shop's terminal was tampered with, and for one to four weeks false payments come from it.

The victims are the shop's own regulars and the sums are hardly larger than its usual ones, so little about an account
looks odd; what gives it away is that frauds were reported at this merchant before, and that it takes more payments than
it used to.
"""

import numpy as np

from archive.simulation.batch import POS, Batch, of
from archive.simulation.episodes import HOUR_US, episodes, euros, reported, spread
from archive.simulation.world import World
from plumbline.transaction import DAY_US

ROWS_EACH = 24.0


def compromised_merchant(world: World, rng: np.random.Generator, rows: float, pattern: int) -> Batch:
    """About `rows` fraudulent payments of this pattern."""
    count = episodes(rows, ROWS_EACH)
    regulars = world.accounts.shops
    # every shop that has regulars is as likely: mostly a small one, where false payments stand out by their number
    shop = rng.choice(np.unique(regulars), count)
    order = np.argsort(regulars.ravel(), kind="stable")
    low = np.searchsorted(regulars.ravel()[order], shop, side="left")
    high = np.searchsorted(regulars.ravel()[order], shop, side="right")

    length = rng.integers(7, 29, count)
    first_day = world.season_day + rng.integers(0, np.maximum(world.days - length, 1))
    false = spread(rng.integers(14, 35, count))
    where = false.parent
    chosen = low[where] + (rng.random(len(where)) * (high - low)[where]).astype(np.int64)
    account = order[chosen] // regulars.shape[1]
    day = first_day[where] + (rng.random(len(where)) * np.minimum(length, world.days)[where]).astype(np.int64)
    hour = np.clip(rng.normal(15.0, 3.5, len(where)), 7.0, 22.0)
    time = world.start_us + day * DAY_US + (hour * HOUR_US).astype(np.int64)
    payee = shop[where]
    amount = euros(rng, 1.8 * np.exp(world.payees.log_euros[payee]), 0.6, len(where))
    known = reported(rng, time, np.arange(len(where)))
    return of(time, account, payee, -1, amount, POS, pattern, known)
