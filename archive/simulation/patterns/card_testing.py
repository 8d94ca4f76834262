"""Card testing: a list of stolen cards is tried with tiny payments at one online merchant, then the live ones are used.

Seen from an account: one to three payments of less than five euros within minutes, from an unknown device, and for a
third of the accounts larger online payments within a day or so. Seen from the merchant: many accounts that never
bought there, within two hours. Small digital purchases are everyday life, so the sums alone show nothing.
"""

import numpy as np

from archive.simulation.batch import ECOM, Batch, of
from archive.simulation.episodes import HOUR_US, MINUTE_US, episodes, euros, moments, reported, spread, steps
from archive.simulation.world import World
from plumbline.transaction import SECOND_US

ROWS_EACH = 57.0
USED_SHARE = 0.35


def card_testing(world: World, rng: np.random.Generator, rows: float, pattern: int) -> Batch:
    """About `rows` fraudulent payments of this pattern."""
    count = episodes(rows, ROWS_EACH)
    attack = spread(rng.integers(8, min(41, max(9, world.count // 2)), count))
    begin, merchant = moments(world, rng, count, 0.5), _cheap_merchants(world, rng, count)
    account = rng.integers(0, world.count, len(attack.parent))
    # an attacker changes device after some cards
    device = world.foreign_device(attack.parent * 8 + attack.place // 6)
    card_begin = begin[attack.parent] + rng.integers(0, 150 * MINUTE_US, len(account))

    tests = spread(rng.integers(1, 4, len(account)))
    test_time = card_begin[tests.parent] + steps(rng, tests.place, 15 * SECOND_US, 90 * SECOND_US)
    test_amount = rng.integers(50, 500, len(test_time))

    used = np.flatnonzero(rng.random(len(account)) < USED_SHARE)
    uses = spread(rng.integers(1, 4, len(used)))
    case = used[uses.parent]
    use_begin = card_begin[used] + rng.integers(HOUR_US, 30 * HOUR_US, len(used))
    use_time = use_begin[uses.parent] + steps(rng, uses.place, 5 * MINUTE_US, 40 * MINUTE_US)
    use_amount = euros(rng, 85.0 * np.exp(0.5 * world.accounts.level[account[case]]), 0.7, len(case))

    time, of_case = np.concatenate([test_time, use_time]), np.concatenate([tests.parent, case])
    known = reported(rng, time, of_case)
    shops = world.payees.online.anywhere(rng, len(case))
    target = np.concatenate([merchant[attack.parent][tests.parent], shops])
    amount = np.concatenate([test_amount, use_amount])
    return of(time, account[of_case], target, device[of_case], amount, ECOM, pattern, known)


def _cheap_merchants(world: World, rng: np.random.Generator, count: int) -> np.ndarray:
    """int32 [count] online merchants: the cheapest of six each, where a tiny payment is nothing special."""
    looked_at = world.payees.online.anywhere(rng, count * 6).reshape(count, 6)
    cheapest = np.argmin(world.payees.log_euros[looked_at], axis=1)
    return np.asarray(looked_at[np.arange(count), cheapest])
