"""One day of genuine life: errands at favourites and elsewhere, trips, rents, sprees, great purchases, crowds.

Much of it looks like fraud on purpose: bursts of payments, first payments from a new phone, large sums, far places,
one account that collects from many. A rule that is too simple must raise false alarms here, as it does in a bank.
"""

import datetime
from typing import Final

import numpy as np

from archive.simulation.batch import ATM, ECOM, POS, TRANSFER, Batch, genuine, joined
from archive.simulation.world import DAYS, World
from plumbline.transaction import DAY_US, SECOND_US

MINUTE_US: Final = 60 * SECOND_US

WEEKDAYS: Final = np.array(
    [  # Monday to Sunday: everyday shoppers, weekend shoppers, those who work at weekends
        [0.95, 0.95, 0.95, 1.0, 1.15, 1.2, 0.8],
        [0.7, 0.75, 0.8, 0.9, 1.25, 1.6, 1.0],
        [1.15, 1.15, 1.1, 1.0, 1.0, 0.8, 0.8],
    ]
)
MONTHS: Final = np.array([0.92, 0.94, 0.98, 1.0, 1.0, 1.02, 1.04, 1.02, 0.98, 0.98, 1.04, 1.2])

SPREE_SHARE: Final = 0.004
GREAT_SHARE: Final = 0.005
COLLECTORS_SHARE: Final = 0.00006
CROWDS_SHARE: Final = 0.0006


def genuine_day(world: World, day: int) -> Batch:
    """Every genuine transaction of a day (counted from the start), in no order."""
    rng = world.rng(DAYS, day)
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=world.start_day + day)
    who = np.repeat(np.arange(world.count, dtype=np.int32), rng.poisson(_payments(world, date)))
    parts = [_errands(world, rng, day, who), _rents(world, rng, day, date), _sprees(world, rng, day)]
    parts += [_crowds(world, rng, day), _collections(world, rng, day)]
    return joined([part for part in parts if part is not None])


def _payments(world: World, date: datetime.date) -> np.ndarray:
    """float64 [accounts]: payments to expect on a date."""
    people = world.accounts
    since_salary = (date.day - np.arange(32)) % 30
    after_salary = (0.94 + 0.5 * np.exp(-since_salary / 3.0))[people.salary_day]
    habit = WEEKDAYS[:, date.weekday()][people.weekday]
    return np.asarray(people.activity * habit * after_salary * MONTHS[date.month - 1])


def _errands(world: World, rng: np.random.Generator, day: int, who: np.ndarray) -> Batch:
    people = world.accounts
    share = rng.random(len(who), np.float32)
    channel = (share > people.until_pos[who]).astype(np.int8)
    channel += share > people.until_ecom[who]
    channel += share > people.until_atm[who]
    away, travelling = world.away(day)
    stays = ~(travelling[who] & ((channel == POS) | (channel == ATM)))
    who, channel = who[stays], channel[stays]
    count = len(who)
    hour = people.hour[who] + people.hour_spread[who] * rng.standard_normal(count, np.float32)
    time = _clock(world, rng, day, hour)
    payee = _usual_payee(world, rng, who, channel, away[who])
    return genuine(
        time, who, payee, _device(world, rng, who, channel, day), _amount(world, rng, who, payee, channel), channel
    )


def _usual_payee(
    world: World, rng: np.random.Generator, who: np.ndarray, channel: np.ndarray, away: np.ndarray
) -> np.ndarray:
    """int32 payees: a favourite, mostly the dearest, or somewhere new; abroad, whatever the city has."""
    people, payees = world.accounts, world.payees
    loyal = rng.random(len(who), np.float32) < people.loyalty[who]
    squared = rng.random(len(who), np.float32) ** 2  # the first favourites are the dearest
    payee = np.empty(len(who), np.int32)
    city = np.where(away >= 0, away, people.city[who])
    kinds = ((POS, people.shops, payees.shops), (ECOM, people.online, payees.online), (ATM, people.cash, payees.cash))
    for kind, favourites, draw in kinds:
        of_kind = channel == kind
        at_home = of_kind & (away < 0) if kind != ECOM else of_kind
        known = np.flatnonzero(at_home & loyal)
        payee[known] = favourites[who[known], (squared[known] * favourites.shape[1]).astype(np.int32)]
        new = np.flatnonzero(of_kind & ~(at_home & loyal))
        payee[new] = draw.anywhere(rng, len(new)) if kind == ECOM else draw.within(rng, city[new])
    known = np.flatnonzero((channel == TRANSFER) & loyal)
    payee[known] = people.friends[who[known], (squared[known] * people.friends.shape[1]).astype(np.int32)]
    new = np.flatnonzero((channel == TRANSFER) & ~loyal)
    payee[new] = payees.first_account + rng.integers(0, world.count, len(new))
    return payee


def _amount(
    world: World, rng: np.random.Generator, who: np.ndarray, payee: np.ndarray, channel: np.ndarray
) -> np.ndarray:
    """int64 minor units: the payee's usual sum, the account's means, chance; and now and then a great purchase."""
    count = len(who)
    exponent = world.payees.log_euros[payee] + 0.7 * world.accounts.level[who]
    exponent += world.payees.spread[payee] * rng.standard_normal(count, np.float32)
    luck = rng.random(count, np.float32)
    great = np.flatnonzero((luck < GREAT_SHARE) & (channel != ATM))
    exponent[great] += rng.uniform(1.2, 3.4, len(great))
    minor = np.rint(np.exp(exponent) * 100).astype(np.int64)
    ninety_nine = np.flatnonzero((luck > 0.7) & (channel == ECOM))
    minor[ninety_nine] = minor[ninety_nine] // 100 * 100 + 99
    cash = np.flatnonzero(channel == ATM)
    minor[cash] = np.clip(np.rint(minor[cash] / 1000), 1, 100).astype(np.int64) * 1000
    whole = np.flatnonzero((channel == TRANSFER) & (luck > 0.4))
    minor[whole] = np.maximum(minor[whole] // 500, 1) * 500
    return np.asarray(np.clip(minor, 10, 2_500_000))


def _rents(world: World, rng: np.random.Generator, day: int, date: datetime.date) -> Batch | None:
    """Rents are paid by transfer on the day after the salary: large sums, always the same, to the same payee."""
    people = world.accounts
    yesterday = (date - datetime.timedelta(days=1)).day
    who = np.flatnonzero((people.rent_minor > 0) & (people.salary_day == yesterday)).astype(np.int32)
    if not len(who):
        return None
    time = _clock(world, rng, day, 6.0 + 2.0 * rng.random(len(who)))
    return genuine(time, who, people.landlord[who], world.device(who, day, rng), people.rent_minor[who], TRANSFER)


def _sprees(world: World, rng: np.random.Generator, day: int) -> Batch | None:
    """Someone goes from shop to shop, or orders from one merchant after another, within an hour or two."""
    shoppers = np.flatnonzero(rng.random(world.count) < SPREE_SHARE * world.accounts.activity)
    away, travelling = world.away(day)
    shoppers = shoppers[~travelling[shoppers]]
    if not len(shoppers):
        return None
    times = rng.integers(4, 11, len(shoppers))
    who = np.repeat(shoppers, times).astype(np.int32)
    online = np.repeat(rng.random(len(shoppers)) < 0.5, times)
    begin = np.repeat(rng.normal(16.0, 3.5, len(shoppers)), times)
    channel = np.where(online, ECOM, POS).astype(np.int8)
    payee = np.empty(len(who), np.int32)
    payee[online] = world.payees.online.anywhere(rng, int(online.sum()))
    city = np.where(away >= 0, away, world.accounts.city)[who[~online]]
    payee[~online] = world.payees.shops.within(rng, city)
    time = _clock(world, rng, day, begin + rng.random(len(who)) * 1.8)
    return genuine(
        time, who, payee, _device(world, rng, who, channel, day), _amount(world, rng, who, payee, channel), channel
    )


def _crowds(world: World, rng: np.random.Generator, day: int) -> Batch | None:
    """A sale, a concert: many accounts pay at one shop that most of them had never seen."""
    shops = len(world.payees.shops.until)
    places = rng.integers(0, shops, rng.poisson(CROWDS_SHARE * shops)).astype(np.int32)
    if not len(places):
        return None
    sizes = rng.integers(5, 41, len(places))
    payee = np.repeat(places, sizes)
    who = rng.integers(0, world.count, len(payee)).astype(np.int32)
    away, travelling = world.away(day)
    here = (away[who] < 0) & ~travelling[who] & (world.accounts.city[who] == world.payees.city[payee])
    time = _clock(world, rng, day, np.repeat(rng.normal(16.0, 3.0, len(places)), sizes) + 3.0 * rng.random(len(payee)))
    none = np.full(len(payee), -1, np.int64)
    channel = np.full(len(payee), POS, np.int8)
    crowd = genuine(time, who, payee, none, _amount(world, rng, who, payee, channel), channel)
    return crowd.take(here)


def _collections(world: World, rng: np.random.Generator, day: int) -> Batch | None:
    """Someone collects for a trip or a present: many accounts transfer the same sum to one account within a day."""
    count = rng.poisson(COLLECTORS_SHARE * world.count)
    if not count:
        return None
    sizes = rng.integers(4, 16, count)
    payee = np.repeat(world.payees.first_account + rng.integers(0, world.count, count), sizes).astype(np.int32)
    who = rng.integers(0, world.count, len(payee)).astype(np.int32)
    amount = np.repeat(rng.integers(2, 80, count) * 500, sizes)
    time = _clock(world, rng, day, np.repeat(rng.normal(17.0, 3.0, count), sizes) + rng.normal(0.0, 2.0, len(payee)))
    return genuine(time, who, payee, world.device(who, day, rng), amount, TRANSFER)


def _device(world: World, rng: np.random.Generator, who: np.ndarray, channel: np.ndarray, day: int) -> np.ndarray:
    """int64 device numbers; a card in a shop or cash machine has none."""
    remote = (channel == ECOM) | (channel == TRANSFER)
    return np.where(remote, world.device(who, day, rng), -1)


def _clock(world: World, rng: np.random.Generator, day: int, hour: np.ndarray) -> np.ndarray:
    """int64 microseconds of hours (any float) of a day, wrapped into it."""
    seconds = (hour.astype(np.float64) * 3600.0) % 86_400.0
    moment = (seconds * 1e6).astype(np.int64) % DAY_US
    return np.asarray(world.start_us + day * DAY_US + moment)
