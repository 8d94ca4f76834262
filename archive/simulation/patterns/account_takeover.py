"""Account takeover: someone logs in as the account and spends what it has, in an hour or two.

Three to eight payments, online or by transfer, to payees the account never paid, well above its own habit though not
above others'. Mostly from a device the account never used, which the attacker also uses on other victims; one in four
from the account's own device, by remote control.
"""

import numpy as np

from archive.simulation.batch import ECOM, TRANSFER, Batch, of
from archive.simulation.episodes import MINUTE_US, day_of, episodes, euros, moments, reported, spread, steps
from archive.simulation.world import World

ROWS_EACH = 5.5
OWN_DEVICE_SHARE = 0.25
FIRST_DEVICE = 10_000_000


def account_takeover(world: World, rng: np.random.Generator, rows: float, pattern: int) -> Batch:
    """About `rows` fraudulent payments of this pattern."""
    count = episodes(rows, ROWS_EACH)
    victim, begin = rng.integers(0, world.count, count), moments(world, rng, count, 0.4)
    spent = spread(rng.integers(3, 9, count))
    case = spent.parent
    time = begin[case] + steps(rng, spent.place, 2 * MINUTE_US, 25 * MINUTE_US)
    account = victim[case]
    by_transfer = rng.random(len(case)) < 0.45
    strangers = world.payees.first_account + rng.integers(0, world.count, len(case))
    payee = np.where(by_transfer, strangers, world.payees.online.anywhere(rng, len(case)))
    attacker = world.foreign_device(FIRST_DEVICE + rng.integers(0, count // 3 + 1, count))
    own = rng.random(count) < OWN_DEVICE_SHARE
    device = np.where(own[case], world.device(account, day_of(world, begin)[case], rng), attacker[case])
    amount = euros(rng, 130.0 * np.exp(0.7 * world.accounts.level[account]), 0.75, len(case))
    channel = np.where(by_transfer, TRANSFER, ECOM)
    return of(time, account, payee, device, amount, channel, pattern, reported(rng, time, case))
