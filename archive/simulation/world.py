"""Who lives in the simulated world: accounts with homes and habits, merchants, devices, trips.

A World is drawn once from a seed; every day's life is then a function of the World and the day alone, so days can be
made one at a time, in bounded memory, and come out the same however they are asked for. Trips and frauds are drawn for
a season of days at once; a World can go on for as many seasons as anybody wants (`later`).

Payees share one index: shops, then online merchants, cash machines, landlords, and at last the accounts themselves,
which receive transfers.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from archive.simulation.places import CASH_MCC, CITIES, ONLINE, RENT_MCC, SHOPS, TRANSFER_MCC
from plumbline.errors import Invalid
from plumbline.transaction import DAY_US

FAVOURITE_SHOPS, FAVOURITE_ONLINE, FAVOURITE_CASH, FRIENDS = 14, 8, 3, 6
DEVICES_EACH: Final = 8
FOREIGN_DEVICES: Final = 100_000_000
"""Numbers that a season has for devices of attackers."""

REPLACED_MAX_DAYS: Final = 1_000_000
SALARY_DAYS: Final = (1, 15, 25, 28)
TRIPS_A_YEAR: Final = 1.8

_POPULATION, _TRIPS = 1, 2
DAYS, FRAUDS = 3, 4
"""Streams of randomness, so that one part of the simulation can change without stirring the others."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """One array a habit, index = account.

    city: int16; level: float64, logarithm of how much more than others it spends; activity: payments a day;
    until_pos, until_ecom, until_atm: float32, cumulative shares of channels (transfers have the rest);
    loyalty: float32, share of payments at favourites; hour, hour_spread: float32, when it pays; weekday: int8, its
    weekly pattern; salary_day: int8; rent_minor: int64, 0 for none; landlord: int32 payee;
    owner: int32, whose device it uses (itself, or someone it lives with); replaced_on: int32 [2, n], days since the
    start on which the device was replaced; second_device: bool; shops, online, cash, friends: int32 [n, k], payees it
    returns to, the dearest first.
    """

    city: np.ndarray
    level: np.ndarray
    activity: np.ndarray
    until_pos: np.ndarray
    until_ecom: np.ndarray
    until_atm: np.ndarray
    loyalty: np.ndarray
    hour: np.ndarray
    hour_spread: np.ndarray
    weekday: np.ndarray
    salary_day: np.ndarray
    rent_minor: np.ndarray
    landlord: np.ndarray
    owner: np.ndarray
    replaced_on: np.ndarray
    second_device: np.ndarray
    shops: np.ndarray
    online: np.ndarray
    cash: np.ndarray
    friends: np.ndarray


@dataclass(frozen=True, slots=True)
class Draw:
    """Payees of one kind, drawn by size, within a city or anywhere; ranges are cumulative weights."""

    first: int
    until: np.ndarray
    city_from: np.ndarray
    city_until: np.ndarray

    def anywhere(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """int32 [count] payees of this kind."""
        return self._at(rng.random(count) * self.until[-1])

    def within(self, rng: np.random.Generator, city: np.ndarray) -> np.ndarray:
        """int32 payees of this kind, one in each city given."""
        low, high = self.city_from[city], self.city_until[city]
        return self._at(low + rng.random(len(city)) * (high - low))

    def _at(self, weight: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(self.until, weight, side="right"), len(self.until) - 1)
        return (self.first + place).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Payees:
    """One array a property, index = payee: mcc as text, city int16, median amount and its spread as logarithms."""

    mcc: np.ndarray
    city: np.ndarray
    north_e6: np.ndarray
    east_e6: np.ndarray
    log_euros: np.ndarray
    spread: np.ndarray
    shops: Draw
    online: Draw
    cash: Draw
    first_account: int


@dataclass(frozen=True, slots=True)
class Trips:
    """Journeys: account int32, city int16, first and last day (int32, since the start) of being away."""

    account: np.ndarray
    city: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, slots=True)
class World:
    """Everything that stays the same from day to day; start_day counts from 1970-01-01.

    days: length of a season; season: whose trips these are and whose frauds are drawn, 0 for the first one.
    """

    seed: int
    start_day: int
    days: int
    accounts: Accounts
    payees: Payees
    trips: Trips
    season: int = 0

    @property
    def count(self) -> int:
        """How many accounts there are."""
        return len(self.accounts.city)

    @property
    def start_us(self) -> int:
        """Begin of the first day."""
        return self.start_day * DAY_US

    @property
    def season_day(self) -> int:
        """The season's first day, counted from the start."""
        return self.season * self.days

    def later(self, season: int) -> "World":
        """The same World in another season; trips that began in the season before go on."""
        if season == self.season:
            return self
        drawn = [self._trips_begun(each) for each in range(max(0, season - 1), season + 1)]
        joined = (np.concatenate([getattr(trips, each.name) for trips in drawn]) for each in fields(Trips))
        return replace(self, trips=Trips(*joined), season=season)

    def _trips_begun(self, season: int) -> Trips:
        trips = _trips(self.rng(_TRIPS, *([season] if season else [])), self.count, self.days)
        begun = (trips.first >= 0) | (season == 0)
        first = np.int32(season * self.days)
        return Trips(trips.account[begun], trips.city[begun], trips.first[begun] + first, trips.last[begun] + first)

    def rng(self, *stream: int) -> np.random.Generator:
        """Randomness of one stream, the same whenever it is asked for."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *stream])))

    def away(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each account is on a day: city int16 [n], -1 at home; and who is on the road: bool [n]."""
        city, travelling = np.full(self.count, -1, np.int16), np.zeros(self.count, bool)
        now = (self.trips.first <= day) & (day <= self.trips.last)
        who = self.trips.account[now]
        city[who] = self.trips.city[now]
        travelling[who] = (self.trips.first[now] == day) | (self.trips.last[now] == day)
        return city, travelling

    def device(self, account: np.ndarray, day: np.ndarray | int, rng: np.random.Generator) -> np.ndarray:
        """int64 numbers of the devices that accounts use on a day (since the start)."""
        owner = self.accounts.owner[account]
        replaced = self.accounts.replaced_on[:, owner]
        kind = (replaced[0] <= day).astype(np.int64) + (replaced[1] <= day)
        other = self.accounts.second_device[account] & (rng.random(len(account), np.float32) < 0.25)
        return np.asarray(owner * np.int64(DEVICES_EACH) + kind + 4 * other)

    def foreign_device(self, number: np.ndarray) -> np.ndarray:
        """int64 numbers of devices that belong to no account, nor to another season's attackers."""
        return np.asarray(self.count * np.int64(DEVICES_EACH) + number + self.season * FOREIGN_DEVICES)


def make_world(accounts: int, days: int, start_day: int, seed: int, a_day: float) -> World:
    """Draw a World.

    accounts: how many, 10 or more; days: how long; start_day: since 1970-01-01; a_day: mean payments of an account.
    Raises Invalid for numbers outside what a simulation can use.
    """
    _check("accounts", accounts, 10, 50_000_000)
    _check("days", days, 1, 36_500)
    _check("start_day", start_day, 0, 36_500)
    _check("seed", seed, 0, 2**63 - 1)
    _check("transactions_per_account_day", a_day, 0.001, 1000)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _POPULATION])))
    homes = np.array([city[3] for city in CITIES])
    city = rng.choice(len(CITIES), accounts, p=homes / homes.sum()).astype(np.int16)
    payees = _payees(rng, city)
    people = _accounts(rng, city, payees, a_day)
    trips = _trips(np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _TRIPS]))), accounts, days)
    return World(seed, start_day, days, people, payees, trips)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise Invalid("simulation", name, value, f"{low} to {high}")


def _payees(rng: np.random.Generator, homes: np.ndarray) -> Payees:
    accounts, cities = len(homes), len(CITIES)
    weight = np.array([city[3] + city[4] / 4 for city in CITIES])
    counts = [max(8 * cities, accounts // 8), max(80, accounts // 40), max(2 * cities, accounts // 100)]
    rents = max(10, accounts // 100)
    city, mcc, log_euros, spread, draws, first = [], [], [], [], [], 0
    for kinds, count in zip((SHOPS, ONLINE, ((CASH_MCC, 90.0, 0.6, 1.0),)), counts, strict=True):
        # every city has some of each kind, the rest follows its size
        each = np.arange(count // 2) % cities
        of_city = np.sort(np.concatenate([each, rng.choice(cities, count - len(each), p=weight / weight.sum())]))
        share = np.array([kind[3] for kind in kinds])
        kind_of = rng.choice(len(kinds), count, p=share / share.sum())
        size = rng.pareto(1.1, count) + 0.2
        until = np.cumsum(np.minimum(size, 200.0))
        edges = np.searchsorted(of_city, np.arange(cities + 1))
        bounds = np.concatenate([[0.0], until])
        draws.append(Draw(first, until, bounds[edges[:-1]], bounds[edges[1:]]))
        city.append(of_city)
        mcc += [kinds[kind][0] for kind in kind_of]
        log_euros.append(np.log([kind[1] for kind in kinds])[kind_of] + 0.35 * rng.standard_normal(count))
        spread.append(np.array([kind[2] for kind in kinds])[kind_of])
        first += count
    city += [rng.choice(homes, rents), homes]
    mcc += [RENT_MCC] * rents + [TRANSFER_MCC] * accounts
    log_euros += [np.full(rents, np.log(800.0)), np.full(accounts, np.log(45.0))]
    spread += [np.full(rents, 0.3), np.full(accounts, 1.0)]
    where = np.concatenate(city).astype(np.int16)
    north, east = (np.array([city[axis] for city in CITIES])[where] for axis in (1, 2))
    near = 0.05 * rng.standard_normal((2, len(where)))
    return Payees(
        mcc=np.array(mcc),
        city=where,
        north_e6=np.rint((north + near[0]) * 1e6).astype(np.int32),
        east_e6=np.rint((east + near[1]) * 1e6).astype(np.int32),
        log_euros=np.concatenate(log_euros),
        spread=np.concatenate(spread),
        shops=draws[0],
        online=draws[1],
        cash=draws[2],
        first_account=first + rents,
    )


def _accounts(rng: np.random.Generator, city: np.ndarray, payees: Payees, a_day: float) -> Accounts:
    count = len(city)
    channels = rng.dirichlet((11.0, 6.0, 0.9, 1.6), count).cumsum(axis=1).astype(np.float32)
    activity = rng.gamma(1.6, 1 / 1.6, count)
    owner = np.arange(count, dtype=np.int32)
    shared = rng.random(count) < 0.12
    owner[shared] = rng.integers(0, count, int(shared.sum()))
    replaced = np.cumsum(rng.exponential(600.0, (2, count)), axis=0)
    repeated = np.repeat(city, FAVOURITE_SHOPS).reshape(count, -1)
    renting = rng.random(count) < 0.55
    neighbours = _neighbours(rng, city)
    return Accounts(
        city=city,
        level=0.5 * rng.standard_normal(count),
        activity=activity * (a_day / activity.mean()),
        until_pos=channels[:, 0].copy(),
        until_ecom=channels[:, 1].copy(),
        until_atm=channels[:, 2].copy(),
        loyalty=rng.beta(8.0, 2.2, count).astype(np.float32),
        hour=(rng.choice([11.0, 14.5, 18.0, 22.5], count, p=[0.2, 0.35, 0.38, 0.07])).astype(np.float32),
        hour_spread=rng.uniform(2.0, 4.5, count).astype(np.float32),
        weekday=rng.integers(0, 3, count, np.int8),
        salary_day=rng.choice(np.array(SALARY_DAYS, np.int8), count),
        rent_minor=np.where(renting, np.rint(rng.lognormal(np.log(780.0), 0.35, count)) * 100, 0).astype(np.int64),
        landlord=rng.integers(payees.first_account - max(10, count // 100), payees.first_account, count).astype(
            np.int32
        ),
        owner=owner,
        replaced_on=np.minimum(replaced, REPLACED_MAX_DAYS).astype(np.int32),
        second_device=rng.random(count) < 0.4,
        shops=payees.shops.within(rng, repeated.ravel()).reshape(count, -1),
        online=payees.online.anywhere(rng, count * FAVOURITE_ONLINE).reshape(count, -1),
        cash=payees.cash.within(rng, repeated[:, :FAVOURITE_CASH].ravel()).reshape(count, -1),
        friends=(payees.first_account + neighbours).astype(np.int32),
    )


def _neighbours(rng: np.random.Generator, city: np.ndarray) -> np.ndarray:
    """int64 [n, FRIENDS]: accounts that live in the same city (itself, at worst, stands for nobody else there)."""
    by_city = np.argsort(city, kind="stable")
    low = np.searchsorted(city[by_city], city, side="left")[:, None]
    high = np.searchsorted(city[by_city], city, side="right")[:, None]
    return np.asarray(by_city[(low + rng.random((len(city), FRIENDS)) * (high - low)).astype(np.int64)])


def _trips(rng: np.random.Generator, accounts: int, days: int) -> Trips:
    count = rng.poisson(accounts * TRIPS_A_YEAR * (days + 30) / 365)
    visits = np.array([city[4] for city in CITIES])
    first = rng.integers(-30, days, count).astype(np.int32)
    return Trips(
        account=rng.integers(0, accounts, count).astype(np.int32),
        city=rng.choice(len(CITIES), count, p=visits / visits.sum()).astype(np.int16),
        first=first,
        last=first + np.minimum(2 + rng.geometric(0.14, count), 28).astype(np.int32),
    )
