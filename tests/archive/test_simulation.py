"""The simulated bank: the same for the same seed, valid in every row, and its frauds are what their names say."""

import dataclasses
import datetime
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from archive.layout import Archive, write_archive
from archive.manifest import LABEL_SCHEMA
from archive.rows import labels_of, transactions_of
from archive.simulation.frauds import PATTERNS
from archive.simulation.merchants import merchant_names
from archive.simulation.places import CITIES, kilometres_between
from archive.simulation.run import EPOCH, Days, Plan, described, simulate, simulated
from archive.simulation.stream import EndlessArrivals
from archive.simulation.world import make_world
from plumbline.cli.main import run
from plumbline.errors import Invalid
from plumbline.label import parse as parse_label
from plumbline.transaction import DAY_US, ID_PATTERN, encode, parse

HOUR_US = 3_600_000_000
NOW_US = 4_000_000_000_000_000
SMALL = Plan(accounts=60, days=5, start=datetime.date(2024, 2, 27), seed=3)
BANK = Plan(accounts=400, days=60, start=datetime.date(2024, 1, 1), seed=11, fraud_rate=0.05)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(BANK, tmp_path_factory.mktemp("simulation") / "bank")


@pytest.fixture(scope="module")
def frauds(bank: Archive) -> pa.Table:
    """Labelled transactions with their pattern and the label's time."""
    rows = pa.Table.from_batches(bank.transactions()).drop_columns("sequence")
    known = bank.labels().select(["transaction_id", "note", "known_at"])
    return rows.join(known, "transaction_id", join_type="inner").sort_by("occurred_at")


def of_pattern(frauds: pa.Table, name: str) -> list[dict[str, object]]:
    return frauds.filter(pc.equal(frauds["note"], name)).to_pylist()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_bank(tmp_path: Path) -> None:
    one, again = simulate(SMALL, tmp_path / "one"), simulate(SMALL, tmp_path / "again")
    other = simulate(dataclasses.replace(SMALL, seed=4), tmp_path / "other")
    assert one.manifest == again.manifest
    assert one.manifest.digest != other.manifest.digest
    one.verify()


def test_the_digest_does_not_depend_on_how_rows_are_handed_over(tmp_path: Path) -> None:
    labels = [LABEL_SCHEMA.empty_table()]

    def slices() -> Iterator[pa.RecordBatch]:
        for batch, known in simulated(SMALL):
            labels.append(known)
            for start in range(0, batch.num_rows, 17):
                yield batch.slice(start, 17)

    whole = simulate(SMALL, tmp_path / "whole")
    cut = write_archive(tmp_path / "cut", slices(), lambda: pa.concat_tables(labels), described(SMALL))
    assert whole.manifest == cut.manifest


def test_every_row_and_label_passes_the_parsers(bank: Archive) -> None:
    for kind, batch in bank.arrivals():
        if kind == "transactions":
            for transaction in transactions_of(batch):
                assert parse(encode(transaction), NOW_US) == transaction
        else:
            for label in labels_of(batch):
                assert parse_label(msgspec.json.encode(label), NOW_US) == label


def test_ids_are_unique_and_days_are_complete(bank: Archive) -> None:
    rows = pa.Table.from_batches(bank.transactions())
    assert pc.count_distinct(rows["transaction_id"]).as_py() == rows.num_rows
    days = np.unique(rows["occurred_at"].to_numpy() // DAY_US)
    assert len(days) == BANK.days
    expected = BANK.accounts * BANK.days * BANK.transactions_per_account_day
    assert 0.9 * expected < rows.num_rows < 1.2 * expected


def test_the_fraud_rate_is_about_what_was_asked_and_a_few_are_never_reported(bank: Archive, frauds: pa.Table) -> None:
    assert 0.6 * BANK.fraud_rate < frauds.num_rows / bank.manifest.rows < 1.4 * BANK.fraud_rate
    delay_days = (frauds["known_at"].to_numpy() - frauds["occurred_at"].to_numpy()) / DAY_US
    assert delay_days.min() >= 1.0
    assert 3 < np.median(delay_days) < 10


def test_without_fraud_there_is_none(tmp_path: Path) -> None:
    assert simulate(dataclasses.replace(SMALL, fraud_rate=0.0), tmp_path / "a").manifest.labels == 0


def test_every_pattern_is_there(frauds: pa.Table) -> None:
    assert set(frauds["note"].to_pylist()) == {pattern.name for pattern in PATTERNS}


def test_card_testing_tries_many_cards_with_tiny_payments_at_one_merchant(frauds: pa.Table) -> None:
    tiny = [row for row in of_pattern(frauds, "card_testing") if row["amount_minor"] < 500]
    assert {row["channel"] for row in tiny} == {"ecom"}
    merchants = {row["merchant_id"] for row in tiny}
    cards = [len({row["account_id"] for row in tiny if row["merchant_id"] == merchant}) for merchant in merchants]
    assert np.median(cards) >= 8
    larger = [row for row in of_pattern(frauds, "card_testing") if row["amount_minor"] > 2000]
    assert {row["account_id"] for row in larger} < {row["account_id"] for row in tiny}


def test_account_takeover_spends_fast_and_mostly_from_a_strange_device(frauds: pa.Table, bank: Archive) -> None:
    rows = of_pattern(frauds, "account_takeover")
    cases: dict[object, list[dict[str, object]]] = {}
    for row in rows:
        cases.setdefault((row["account_id"], row["known_at"]), []).append(row)
    for case in cases.values():
        assert len(case) <= 8
        assert case[-1]["occurred_at"] - case[0]["occurred_at"] < 4 * HOUR_US
    assert {row["channel"] for row in rows} == {"ecom", "transfer"}
    strange = [int(str(row["device_id"])[1:]) >= 8 * BANK.accounts for row in rows]
    assert 0.55 < np.mean(strange) < 0.95


def test_a_compromised_merchant_hits_its_own_regulars(frauds: pa.Table, bank: Archive) -> None:
    rows = of_pattern(frauds, "compromised_merchant")
    merchants = {row["merchant_id"] for row in rows}
    assert len(rows) / len(merchants) > 8
    everything = pa.Table.from_batches(bank.transactions(columns=["account_id", "merchant_id", "transaction_id"]))
    fraud_ids = pa.array([row["transaction_id"] for row in rows])
    honest = everything.filter(pc.invert(pc.is_in(everything["transaction_id"], fraud_ids)))
    pairs = set(zip(honest["account_id"].to_pylist(), honest["merchant_id"].to_pylist(), strict=True))
    assert np.mean([(row["account_id"], row["merchant_id"]) in pairs for row in rows]) > 0.5


def test_mules_collect_from_several_victims_and_pass_the_money_on(frauds: pa.Table) -> None:
    rows = of_pattern(frauds, "mule_transfers")
    assert {row["channel"] for row in rows} == {"transfer"}
    senders = {row["account_id"] for row in rows}
    mules = {row["merchant_id"] for row in rows} & senders
    victims = [len({row["account_id"] for row in rows if row["merchant_id"] == mule}) for mule in mules]
    assert np.median(victims) >= 3
    shares = []
    for mule in mules:
        received = sum(int(str(row["amount_minor"])) for row in rows if row["merchant_id"] == mule)
        passed = sum(int(str(row["amount_minor"])) for row in rows if row["account_id"] == mule)
        shares.append(passed / received)
    assert 0.6 < np.median(shares) < 1.0  # one account may be a mule here and a victim there


def test_impossible_travel_follows_a_payment_at_home_too_soon(frauds: pa.Table, bank: Archive) -> None:
    rows = pa.Table.from_batches(bank.transactions()).filter(pc.is_valid(pc.field("latitude_e6"))).to_pylist()
    by_account: dict[object, list[dict[str, int]]] = {}
    for row in rows:
        by_account.setdefault(row["account_id"], []).append(row)
    speeds = []
    copied = {row["transaction_id"] for row in of_pattern(frauds, "impossible_travel")}
    for life in by_account.values():
        for before, after in itertools.pairwise(life):
            if after["transaction_id"] in copied and before["transaction_id"] not in copied:
                north = np.array([before["latitude_e6"], after["latitude_e6"]]) / 1e6
                east = np.array([before["longitude_e6"], after["longitude_e6"]]) / 1e6
                hours = (after["occurred_at"] - before["occurred_at"]) / HOUR_US
                speeds.append(kilometres_between(north, east)[0, 1] / max(hours, 1 / 60))
    assert len(speeds) > 10
    assert np.median(speeds) > 900


def test_no_single_sum_or_pace_gives_the_frauds_away(bank: Archive, frauds: pa.Table) -> None:
    rows = pa.Table.from_batches(bank.transactions(columns=["transaction_id", "amount_minor"]))
    fraud = pc.is_in(rows["transaction_id"], frauds["transaction_id"].combine_chunks()).to_numpy()
    amount = rows["amount_minor"].to_numpy()
    best = max(fraud[amount > limit].mean() for limit in np.quantile(amount, [0.5, 0.8, 0.9, 0.95, 0.99]))
    assert best < 5 * fraud.mean()


def test_genuine_life_also_travels_changes_devices_and_makes_great_purchases(bank: Archive, frauds: pa.Table) -> None:
    rows = pa.Table.from_batches(bank.transactions())
    honest = rows.filter(pc.invert(pc.is_in(rows["transaction_id"], frauds["transaction_id"].combine_chunks())))
    assert set(honest["channel"].to_pylist()) == {"pos", "ecom", "atm", "transfer"}
    assert len(set(honest["country"].to_pylist())) > 10
    assert pc.max(honest["amount_minor"]).as_py() > 200_000
    devices = honest.group_by("account_id").aggregate([("device_id", "count_distinct")])["device_id_count_distinct"]
    assert pc.max(devices).as_py() > 2
    online = honest.filter(pc.is_in(honest["channel"], pa.array(["ecom", "transfer"])))
    assert online["latitude_e6"].null_count == online.num_rows


def test_distances_are_right() -> None:
    berlin_paris = kilometres_between(np.array([52.52, 48.857]), np.array([13.405, 2.352]))
    assert abs(berlin_paris[0, 1] - 878) < 3
    assert len({city[:3] for city in CITIES}) == len(CITIES)


@pytest.mark.parametrize(
    "change", [{"accounts": 9}, {"days": 0}, {"seed": -1}, {"fraud_rate": 0.6}, {"transactions_per_account_day": 0.0}]
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(change))):
        simulate(dataclasses.replace(SMALL, **change), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("days", [1, 3])
def test_the_smallest_bank_works(tmp_path: Path, days: int) -> None:
    simulate(Plan(accounts=10, days=days, seed=0), tmp_path / "a").verify()


def test_the_command_writes_what_the_function_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--to", str(tmp_path / "a"), "--accounts", "60", "--days", "5", "--start", "2024-02-27"]
    assert run([*command, "--seed", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["digest"] == simulate(SMALL, tmp_path / "b").manifest.digest
    assert run(command) == 1
    assert "holds an archive already" in capsys.readouterr().err
    assert run([*command, "--accounts", "1"]) == 2


def test_days_after_the_plan_s_go_on_in_further_seasons(bank: Archive) -> None:
    days = Days(BANK)
    per_day = BANK.accounts * BANK.transactions_per_account_day
    ids: set[str] = set()
    for season in (0, 1, 2, 30):
        numbers = range(season * BANK.days, season * BANK.days + 20)
        made = [days.day(number) for number in numbers]
        rows = pa.Table.from_batches([batch for batch, _ in made])
        assert 0.7 * 20 * per_day < rows.num_rows < 1.4 * 20 * per_day
        frauds = sum(labels.num_rows for _, labels in made)
        assert 0.4 * BANK.fraud_rate < frauds / rows.num_rows < 1.6 * BANK.fraud_rate
        first_us = ((BANK.start - EPOCH).days + numbers[0]) * DAY_US
        times = rows["occurred_at"].to_numpy()
        assert first_us <= times.min()
        assert times.max() < first_us + 20 * DAY_US
        ids |= set(rows["transaction_id"].to_pylist())
        assert pc.count_distinct(rows["account_id"]).as_py() > 0.8 * BANK.accounts
    assert days.day(3)[0].equals(Days(BANK).day(3)[0]), "a day is the same whatever was made before it"


def test_endless_arrivals_have_the_archive_s_rows_and_go_on_where_they_were_left(bank: Archive) -> None:
    source = EndlessArrivals(BANK)
    start_us = (BANK.start - EPOCH).days * DAY_US
    since_us, middle_us, until_us = (start_us + day * DAY_US for day in (40, 44, 48))
    for part in ("transactions", "labels"):
        names = ("transaction_id", "known_at") if part == "labels" else ("transaction_id", "occurred_at")
        of_archive = [
            row for kind, batch in bank.arrivals(since_us, until_us) if kind == part
            for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        ]  # fmt: skip
        halves = itertools.chain(source.arrivals(since_us, middle_us + 7), source.arrivals(middle_us + 7, until_us))
        endless = [
            row for kind, batch in halves if kind == part
            for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        ]  # fmt: skip
        assert endless == of_archive
    sequence = [
        number for _, batch in source.arrivals(since_us, until_us) for number in batch.column("sequence").to_pylist()
    ]
    assert sequence == sorted(sequence)
    beyond = next(iter(source.arrivals(start_us + 10 * BANK.days * DAY_US)))
    assert beyond[1].column("sequence")[0].as_py() >= start_us + 10 * BANK.days * DAY_US


def test_merchants_with_names_are_ids_that_nobody_else_has(tmp_path: Path) -> None:
    named = dataclasses.replace(BANK, names=True)
    one, other = Days(named).day(0)[0], Days(BANK).day(0)[0]
    assert one.drop_columns("merchant_id").equals(other.drop_columns("merchant_id"))
    world = make_world(2000, 1, 0, 1, 1.0)
    names = merchant_names(world.payees)
    assert len(set(names)) == len(names) == world.payees.first_account
    assert all(re.fullmatch(ID_PATTERN, name) and len(name) <= 64 for name in names)
    assert {name.split("-")[0] for name in names} >= {"Supermarket", "Bakery", "ATM", "Marketplace", "Landlord"}
    assert any(name.endswith("-Leipzig") for name in names)
