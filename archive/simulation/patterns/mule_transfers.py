"""Mule transfers: victims are talked into transferring money to one account, which passes it on at once.

Three to ten victims pay the same mule within a week, mostly from their own devices, since they believe the story. The
mule sends most of each sum on to a stranger within one and a half hours. Seen from the mule: many accounts that never
paid it, and money that does not stay. Collections for a trip look alike at first.
"""

import numpy as np

from archive.simulation.batch import TRANSFER, Batch, joined, of
from archive.simulation.episodes import HOUR_US, MINUTE_US, day_of, episodes, euros, moments, reported, spread
from archive.simulation.world import World

ROWS_EACH = 17.0
OWN_DEVICE_SHARE = 0.65
FIRST_DEVICE = 20_000_000


def mule_transfers(world: World, rng: np.random.Generator, rows: float, pattern: int) -> Batch:
    """About `rows` fraudulent payments of this pattern: those of the victims, and the mule's own."""
    count = episodes(rows, ROWS_EACH)
    mule, begin = rng.integers(0, world.count, count), moments(world, rng, count, 0.1)
    attack = spread(rng.integers(3, 11, count))
    victim = rng.integers(0, world.count, len(attack.parent))
    victim += victim == mule[attack.parent]
    victim %= world.count
    sent = spread(np.where(rng.random(len(victim)) < 0.3, 2, 1))
    case, of_attack = sent.parent, attack.parent[sent.parent]
    first = begin[attack.parent] + rng.integers(0, 6 * 24 * HOUR_US, len(victim))
    time = first[case] + sent.place * rng.integers(HOUR_US, 40 * HOUR_US, len(case))
    account = victim[case]
    payee = world.payees.first_account + mule[of_attack]
    amount = euros(rng, 330.0 * np.exp(0.4 * world.accounts.level[account]), 0.7, len(case)) // 500 * 500 + 500
    own = rng.random(len(victim)) < OWN_DEVICE_SHARE
    attacker = world.foreign_device(FIRST_DEVICE + of_attack)
    device = np.where(own[case], world.device(account, day_of(world, time), rng), attacker)
    paid = of(time, account, payee, device, amount, TRANSFER, pattern, reported(rng, time, case))

    onward_time = time + rng.integers(8 * MINUTE_US, 90 * MINUTE_US, len(time))
    kept = rng.uniform(0.05, 0.3, len(time))
    onward = (amount * (1 - kept)).astype(np.int64)
    stranger = world.payees.first_account + rng.integers(0, world.count, (count, 2))
    behind = stranger[of_attack, rng.integers(0, 2, len(time))]
    mules = mule[of_attack]
    own_device = world.device(mules, day_of(world, onward_time), rng)
    known = reported(rng, onward_time, of_attack)
    passed = of(onward_time, mules, behind, own_device, onward, TRANSFER, pattern, known)
    return joined([paid, passed])
