"""Runs a simulation day by day: a World becomes transactions and labels, as Arrow tables or as an archive."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.layout import Archive, write_archive
from archive.manifest import LABEL_SCHEMA, TRANSACTION_SCHEMA
from archive.simulation.batch import ATM, CHANNELS, GENUINE, NEVER, POS, Batch, joined
from archive.simulation.frauds import PATTERNS, frauds_of_season
from archive.simulation.genuine import genuine_day
from archive.simulation.merchants import merchant_names
from archive.simulation.places import CITIES
from archive.simulation.world import World, make_world
from plumbline.errors import Invalid
from plumbline.transaction import DAY_US

EPOCH: Final = datetime.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate: the same Plan always gives the same archive, byte for byte.

    accounts: how many; days, start: which; transactions_per_account_day: mean; fraud_rate: share of transactions that
    are frauds (about: every pattern has one episode at least, unless it is 0). names: merchants are called
    Bakery-Schmidt-Leipzig and the like, in place of numbers.
    """

    accounts: int = 2000
    days: int = 365
    start: datetime.date = datetime.date(2024, 1, 1)
    seed: int = 7
    transactions_per_account_day: float = 1.5
    fraud_rate: float = 0.003
    names: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.fraud_rate <= 0.5:
            raise Invalid("simulation", "fraud_rate", self.fraud_rate, "0 to 0.5")


@dataclass(frozen=True, slots=True)
class Texts:
    """Arrow columns to look payees and accounts up in."""

    account: pa.Array
    payee: pa.Array
    mcc: pa.Array
    country: pa.Array


class Days:
    """Days of a Plan's bank, each made when it is asked for and the same whenever it is; it has more than the Plan's.

    Days after the Plan's belong to further seasons of the same length, without an end.
    """

    def __init__(self, plan: Plan) -> None:
        start_day = (plan.start - EPOCH).days
        self._world = make_world(plan.accounts, plan.days, start_day, plan.seed, plan.transactions_per_account_day)
        self._texts = texts_of(self._world, names=plan.names)
        self._frauds_a_season = plan.fraud_rate * plan.accounts * plan.days * plan.transactions_per_account_day
        self._frauds: dict[int, Batch] = {}

    def day(self, number: int) -> tuple[pa.RecordBatch, pa.Table]:
        """A day's transactions (TRANSACTION_SCHEMA, by time) and the labels of its frauds (LABEL_SCHEMA).

        number: counted from the Plan's start, 0 or more.
        """
        season = number // self._world.days
        self._world = self._world.later(season)
        begun = [self._begun(each, number) for each in range(max(0, season - 1), season + 1)]
        batch = joined([genuine_day(self._world, number), *begun])
        ordered = batch.take(np.argsort(batch.time_us, kind="stable"))
        rows = rows_of(self._world, self._texts, number, ordered)
        return rows, _labels(rows, ordered)

    def _begun(self, season: int, number: int) -> Batch:
        """The day's payments of frauds that began in a season."""
        if season not in self._frauds:
            self._frauds = {kept: batch for kept, batch in self._frauds.items() if abs(kept - season) <= 1}
            self._frauds[season] = frauds_of_season(self._world.later(season), self._frauds_a_season)
        frauds = self._frauds[season]
        first, last = np.searchsorted(frauds.time_us, self._world.start_us + np.array([number, number + 1]) * DAY_US)
        return frauds.take(np.arange(first, last))


def simulated(plan: Plan) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Each of the Plan's days, as `Days.day` makes it."""
    days = Days(plan)
    return (days.day(number) for number in range(plan.days))


def simulate(plan: Plan, target: Path, *, replace: bool = False) -> Archive:
    """Write the archive of a Plan, a day in memory at a time. Raises Refused when the target exists."""
    labels = [LABEL_SCHEMA.empty_table()]

    def transactions() -> Iterator[pa.RecordBatch]:
        for batch, fraud in simulated(plan):
            labels.append(fraud)
            yield batch

    return write_archive(target, transactions(), lambda: pa.concat_tables(labels), described(plan), replace=replace)


def read_plan(file: Path) -> Plan:
    """The Plan in a JSON file. Raises Invalid where it is none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError) as error:
        raise Invalid("simulation", str(file), str(error), "a readable JSON file of a simulation's options") from error


def described(plan: Plan) -> str:
    """The command that makes this archive again."""
    names = " --names" if plan.names else ""
    return (
        f"simulate --accounts {plan.accounts} --days {plan.days} --start {plan.start} --seed {plan.seed} "
        f"--transactions-per-account-day {plan.transactions_per_account_day} --fraud-rate {plan.fraud_rate}{names}"
    )


def texts_of(world: World, *, names: bool = False) -> Texts:
    """The ids of a world's payees and accounts; names: for readers, in place of numbers."""
    payees = world.payees
    accounts = pc.binary_join_element_wise("a", pa.array(np.arange(world.count)).cast(pa.string()), "")
    others = pc.binary_join_element_wise("m", pa.array(np.arange(payees.first_account)).cast(pa.string()), "")
    if names:
        others = pa.array(merchant_names(payees), pa.string())
    countries = np.array([city[0] for city in CITIES])
    return Texts(accounts, pa.concat_arrays([others, accounts]), pa.array(payees.mcc), pa.array(countries[payees.city]))


def rows_of(world: World, texts: Texts, day: int, batch: Batch) -> pa.RecordBatch:
    """A day's transactions in TRANSACTION_SCHEMA, in the order given. day: since the world's start."""
    count = len(batch)
    date = EPOCH + datetime.timedelta(days=world.start_day + day)
    numbers = pa.array(np.arange(1, count + 1)).cast(pa.string())
    payee = pa.array(batch.payee)
    present = (batch.channel == POS) | (batch.channel == ATM)
    no_device = batch.device < 0
    device = pc.binary_join_element_wise("d", pa.array(batch.device).cast(pa.string()), "")
    columns = {
        "transaction_id": pc.binary_join_element_wise(f"s{date:%Y%m%d}", numbers, "-"),
        "occurred_at": pa.array(batch.time_us),
        "account_id": texts.account.take(pa.array(batch.account)),
        "merchant_id": texts.payee.take(payee),
        "device_id": pc.if_else(pa.array(no_device), "", device),
        "amount_minor": pa.array(batch.amount_minor),
        "currency": pa.repeat("EUR", count),
        "channel": pa.array(CHANNELS).take(pa.array(batch.channel)),
        "mcc": texts.mcc.take(payee),
        "country": texts.country.take(payee),
        "latitude_e6": pa.array(world.payees.north_e6[batch.payee], mask=~present),
        "longitude_e6": pa.array(world.payees.east_e6[batch.payee], mask=~present),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in TRANSACTION_SCHEMA.names], schema=TRANSACTION_SCHEMA)


def _labels(rows: pa.RecordBatch, batch: Batch) -> pa.Table:
    known = np.flatnonzero((batch.pattern != GENUINE) & (batch.known_at != NEVER))
    of = rows.take(pa.array(known))
    names = pa.array(["", *(pattern.name for pattern in PATTERNS)])
    return pa.table(
        {
            "label_id": of.column("transaction_id"),  # one label a transaction: its id serves
            "transaction_id": of.column("transaction_id"),
            "account_id": of.column("account_id"),
            "merchant_id": of.column("merchant_id"),
            "verdict": pa.repeat("fraud", len(known)),
            "source": pa.repeat("archive", len(known)),
            "known_at": batch.known_at[known],
            "note": names.take(pa.array(batch.pattern[known])),
        },
        schema=LABEL_SCHEMA,
    )
