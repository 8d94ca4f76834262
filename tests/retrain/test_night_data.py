"""What a night learns from, against plain readings of archive and journal: rows, history, truths, refusals."""

import random
import shutil
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from features.declaration import DECLARATION
from features.grammar import RAW_INTEGERS, RAW_STRINGS
from plumbline.decision import Decision, Outcome
from plumbline.errors import InvalidArchive, Refused
from plumbline.journal import LabelApplied
from plumbline.transaction import DAY_US
from retrain.days import prune
from retrain.history import history
from retrain.labels import LabelRules, labels
from retrain.rows import day_files, rows
from retrain.sources import archive, open_sources
from tests.retrain_bank import FIRST, KeptBank, archive_of, paid, played, told
from training.windows import Days, Windows

DAYS = 16
WINDOWS = Windows(Days(FIRST + 2, FIRST + 7), 3, Days(FIRST + 11, FIRST + 12))
RULES = LabelRules(maturity_days=3)
CUT_OFF = (FIRST + DAYS) * DAY_US

# Of the default declaration, what two tables remember; everything else of a bank stays the same.
OTHER = msgspec.structs.replace(DECLARATION, lateness_us=DECLARATION.lateness_us + 1)


def prehistory(folder):
    rng = random.Random(1)
    payments = [paid(10_000 + n, FIRST * DAY_US + n * DAY_US // 10, rng) for n in range(40)]
    known = [told(n, f"t{10_000 + n}", payments[n]["occurred_at"] + DAY_US) for n in range(3, 33, 6)]
    return archive_of(folder, payments, known)


def made_bank(folder, declaration=DECLARATION, seed=2):
    """Four days of archive, then a journal to the end of the 16th."""
    bank = KeptBank(folder / "journal", prehistory(folder / "archive"), declaration)
    played(bank, range(4, DAYS), random.Random(seed))
    return bank


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return made_bank(tmp_path_factory.mktemp("bank"))


def night(folder, bank, *, cut_off=CUT_OFF, windows=WINDOWS, rules=RULES, shared=None, declaration=DECLARATION):
    """All of a night's data steps; returns their facts by step."""
    shared = shared or folder
    for step in ("archive", "labels", "history", "rows"):
        (folder / step).mkdir(parents=True)
    sources = folder / "archive"
    given = None if bank.archive is None else bank.archive.path
    found = {}
    found["archive"] = archive(sources, archive=given, journal=bank.folder, cut_off_us=cut_off, cache=shared / "blocks")
    found["labels"] = labels(folder / "labels", sources=sources, windows=windows, rules=rules)
    found["history"] = history(
        folder / "history", sources=sources, days=shared / "days", windows=windows, declaration=declaration
    )
    found["rows"] = rows(
        folder / "rows", sources=sources, truth=folder / "labels", history=folder / "history", days=shared / "days",
        windows=windows, declaration=declaration,
    )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def first(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    return folder, night(folder, bank)


def decisions(bank, cut_off=CUT_OFF):
    stop = next((n for n, (_, e) in enumerate(bank.entries) if moment(e) >= cut_off), len(bank.entries))
    return [(sequence, each) for sequence, each in bank.entries[:stop] if isinstance(each, Decision)]


def moment(entry):
    return entry.decided_at if isinstance(entry, Decision) else entry.journaled_at


def test_a_day_file_holds_the_days_decisions_as_journaled_and_no_truth(bank, first):
    folder, facts = first
    listed = [*day_files(folder / "rows"), *day_files(folder / "rows", "test")]
    assert facts["rows"]["days_made"] == len(listed) == 8
    for file, day in zip(listed, [*range(FIRST + 2, FIRST + 8), FIRST + 11, FIRST + 12], strict=True):
        table = pq.read_table(file)
        of_day = [(s, e) for s, e in decisions(bank) if e.transaction.occurred_at // DAY_US == day]
        journaled = [number for number in table["sequence"].to_pylist() if number >= 0]
        assert journaled == [sequence for sequence, _ in of_day]
        rest = table.slice(table.num_rows - len(of_day))
        for name in ("transaction_id", "account_id", *RAW_INTEGERS, *RAW_STRINGS):
            assert rest[name].to_pylist() == [getattr(each.transaction, name) for _, each in of_day]
        numbers = np.array([rest[name].to_numpy() for name in DECLARATION.history_names]).T
        assert numbers.tolist() == [list(each.history) for _, each in of_day]
        assert "fraud" not in table.schema.names


def naive_truths(bank, days, known_before, maturity_days, use):
    """Transaction by transaction, and label by label."""
    paid_rows = [
        (row["sequence"], row["transaction_id"], row["occurred_at"], Outcome.APPROVE)
        for batch in bank.archive.transactions() for row in batch.to_pylist()
    ]  # fmt: skip
    paid_rows += [(s, e.transaction.transaction_id, e.transaction.occurred_at, e.outcome) for s, e in decisions(bank)]
    said = [
        (row["transaction_id"], row["verdict"], row["source"], row["known_at"])
        for row in bank.archive.labels().to_pylist()
    ]
    for _, each in bank.entries:
        if isinstance(each, LabelApplied) and each.source is not None and each.journaled_at < known_before:
            said.append((each.label.transaction_id, each.label.verdict, each.label.source, each.label.known_at))
    found = {}
    for sequence, identity, at, outcome in paid_rows:
        if not days.first <= at // DAY_US <= days.last:
            continue
        heard = [each for each in said if each[0] == identity and each[1] != "unsure" and each[3] < known_before]
        by_bank = [each for each in heard if each[2] == "chargeback"]
        mature = at + maturity_days * DAY_US <= known_before
        if use == "test" and outcome is Outcome.DECLINE:
            continue
        if heard:
            last = (by_bank or heard)[-1]
            found[sequence] = (identity, last[1] == "fraud", last[2], last[3])
        elif mature and outcome is not Outcome.DECLINE:
            found[sequence] = (identity, False, "maturity", at + maturity_days * DAY_US)
    return found


@pytest.mark.parametrize(
    ("use", "days", "before"), [("train", WINDOWS.train, WINDOWS.cut_off_us), ("test", WINDOWS.test, CUT_OFF)]
)
def test_truths_are_what_was_known_at_the_moment(bank, first, use, days, before):
    folder, facts = first
    told_rows = pq.read_table(folder / "labels" / f"{use}.parquet").to_pylist()
    found = {
        each["sequence"]: (each["transaction_id"], each["fraud"], each["why"], each["known_at"]) for each in told_rows
    }
    assert found == naive_truths(bank, days, before, 3, use)
    assert {each["weight"] for each in told_rows} == {1.0}
    joined = pq.read_table(folder / "rows" / f"{use}.parquet")
    assert dict(zip(joined["sequence"].to_pylist(), joined["fraud"].to_pylist(), strict=True)) == {
        sequence: each[1] for sequence, each in found.items()
    }
    assert facts["rows"][f"rows_{use}"] == facts["labels"][f"{use}_rows"] == len(found)
    assert 0 < facts["rows"][f"frauds_{use}"] == sum(each[1] for each in found.values())


def test_logged_history_is_the_recomputed_one_to_the_bit(bank, first, tmp_path):
    """The same messages, decided under another declaration: then nothing is logged, and Beam computes all of it."""
    folder, facts = first
    assert facts["history"]["rows_recomputed"] == 0 < facts["history"]["rows_logged"]
    unlogged = made_bank(tmp_path / "bank", OTHER)
    found = night(tmp_path / "night", unlogged)
    assert found["history"]["rows_logged"] == 0 < found["history"]["rows_recomputed"]
    for use in ("train", "test"):
        pairs = zip(day_files(folder / "rows", use), day_files(tmp_path / "night" / "rows", use), strict=True)
        for logged, computed in pairs:
            assert pq.read_table(logged).equals(pq.read_table(computed))


def test_the_next_night_makes_only_days_with_new_rows(bank, first, tmp_path):
    shared, later = tmp_path / "shared", Windows(Days(FIRST + 2, FIRST + 8), 3, Days(FIRST + 12, FIRST + 12))
    before = night(tmp_path / "one", bank, cut_off=CUT_OFF - DAY_US, windows=shifted(WINDOWS, -1), shared=shared)
    assert before["archive"]["blocks_new"] == 11 + 1  # the one after the cut-off says where it is
    after = night(tmp_path / "two", bank, cut_off=CUT_OFF, windows=later, shared=shared)
    assert after["archive"]["blocks_new"] == 0
    assert after["rows"]["days_made"] == len({*range(2, 9), 12} - {*range(2, 7), 10, 11})
    assert after["history"]["days_missing"] == after["rows"]["days_made"]
    kept = {each.name for use in ("train", "test") for each in day_files(tmp_path / "two" / "rows", use)}
    assert prune(shared / "days", kept) > 0
    assert {each.name for each in (shared / "days").glob("*.parquet")} == kept


def shifted(windows, days):
    return Windows(
        Days(windows.train.first, windows.train.last + days), windows.delay_days,
        Days(windows.test.first + days, windows.test.last + days),
    )  # fmt: skip


def test_a_damaged_day_file_is_made_again_the_same(bank, first, tmp_path):
    folder, _ = first
    shared = tmp_path / "shared"
    shutil.copytree(folder / "days", shared / "days")
    one = sorted((shared / "days").glob("*.parquet"))[3]
    whole = one.read_bytes()
    one.write_bytes(whole[:-7])
    assert night(tmp_path / "night", bank, shared=shared)["rows"] | {"days_made": 1, "days_damaged": 1} == night(
        tmp_path / "again", bank, shared=shared
    )["rows"] | {"days_made": 1, "days_damaged": 1, "days_kept": 7}
    assert one.read_bytes() == whole


ROWS = """
import sys
from pathlib import Path
from features.declaration import DECLARATION
from retrain.rows import rows
from training.windows import Days, Windows
night, shared, *days = sys.argv[1:]
folder, (first, last, delay, since, until) = Path(night), map(int, days)
(folder / "rows").mkdir(exist_ok=True)
rows(folder / "rows", sources=folder / "archive", truth=folder / "labels", history=folder / "history",
     days=Path(shared), windows=Windows(Days(first, last), delay, Days(since, until)), declaration=DECLARATION,
     tell=lambda done, whole: print(done, flush=True))
print("complete", flush=True)
"""


def test_rows_that_were_killed_go_on_with_the_next_day_and_end_the_same(bank, first, tmp_path):
    """Real kills, as soon as some days are told."""
    folder, _ = first
    copy, shared = tmp_path / "night", tmp_path / "days"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("rows", "days"))
    train, test = WINDOWS.train, WINDOWS.test
    numbers = [str(each) for each in (train.first, train.last, WINDOWS.delay_days, test.first, test.last)]
    made = set()
    for kill_at in ("2", "5", "complete"):
        command = [sys.executable, "-c", ROWS, str(copy), str(shared), *numbers]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == kill_at:
                    process.kill()
        there = {each.name: each.stat().st_mtime_ns for each in shared.glob("day=*.parquet")}
        assert made <= set(there.items())  # none is made twice
        made = set(there.items())
    for name in there:
        assert (shared / name).read_bytes() == (folder / "days" / name).read_bytes()
    for use in ("train", "test"):
        assert (copy / "rows" / f"{use}.parquet").read_bytes() == (folder / "rows" / f"{use}.parquet").read_bytes()
    prune(shared, set(there))
    assert not list(shared.glob(".*.partial"))


def test_a_bank_may_have_an_archive_alone(tmp_path):
    rng = random.Random(3)
    payments = [paid(n, FIRST * DAY_US + n * DAY_US // 12, rng) for n in range(12 * DAYS)]
    known = [told(n, f"t{n}", payments[n]["occurred_at"] + 2 * DAY_US) for n in range(0, 12 * DAYS, 7)]
    only = archive_of(tmp_path / "archive", payments, known)
    sources = tmp_path / "sources"
    sources.mkdir()
    facts = archive(sources, archive=only.path, journal=None, cut_off_us=CUT_OFF, cache=tmp_path / "blocks")
    assert (facts["rows"], facts["rows_journal"], facts["blocks"]) == (12 * DAYS, 0, 0)
    (tmp_path / "labels").mkdir()
    found = labels(tmp_path / "labels", sources=sources, windows=WINDOWS, rules=RULES)
    assert (found["train_rows"], found["test_rows"]) == (12 * 6, 12 * 2)
    assert open_sources(sources).span_us == (payments[0]["occurred_at"], payments[-1]["occurred_at"])


def test_a_label_that_came_after_the_cut_off_is_never_used(bank, tmp_path):
    cut_off = (FIRST + 14) * DAY_US
    windows = Windows(Days(FIRST + 2, FIRST + 4), 3, Days(FIRST + 8, FIRST + 10))
    night(tmp_path, bank, cut_off=cut_off, windows=windows)
    for use, before in (("train", windows.cut_off_us), ("test", cut_off)):
        assert max(pq.read_table(tmp_path / "labels" / f"{use}.parquet")["known_at"].to_pylist()) < before


def without(folder, bank):
    """A copy of what the bank has, to be spoilt."""
    shutil.copytree(bank.folder, folder / "journal")
    shutil.copytree(bank.archive.path, folder / "archive")
    return folder / "archive", folder / "journal"


def pin(folder, archive_path, journal_path, cut_off=CUT_OFF):
    (folder / "step").mkdir()
    return archive(
        folder / "step", archive=archive_path, journal=journal_path, cut_off_us=cut_off, cache=folder / "blocks"
    )


def test_a_missing_block_is_refused_by_name_and_days(bank, tmp_path):
    old, kept = without(tmp_path, bank)
    gone = sorted(kept.glob("records-*.parquet"))[4]
    gone.unlink()
    with pytest.raises(InvalidArchive, match=r"days 2019-04-2\d to 2019-04-2\d.*" + gone.name):
        pin(tmp_path, old, kept)


def test_a_changed_block_is_refused_also_when_its_columns_are_kept(bank, tmp_path):
    old, kept = without(tmp_path, bank)
    pin(tmp_path, old, kept)
    shutil.rmtree(tmp_path / "step")
    block = sorted(kept.glob("records-*.parquet"))[2]
    block.write_bytes(block.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidArchive, match="was changed or damaged"):
        pin(tmp_path, old, kept)


def test_a_day_gone_from_the_archive_is_refused_by_its_name(bank, tmp_path):
    old, kept = without(tmp_path, bank)
    next((old / "transactions").glob("day=2019-04-16.parquet")).unlink()
    with pytest.raises(InvalidArchive, match=r"day=2019-04-16\.parquet is 'missing'"):
        pin(tmp_path, old, kept)


def test_the_archive_must_be_the_one_that_the_journal_began_with(bank, tmp_path):
    with pytest.raises(Refused, match="none is given: give the archive that it began with"):
        pin(tmp_path, None, bank.folder)


def test_nothing_before_the_cut_off_is_refused(tmp_path, bank):
    with pytest.raises(Refused, match="neither the archive nor the kept journal has a transaction before"):
        pin(tmp_path, bank.archive.path, bank.folder, cut_off=DAY_US)


def spoilt_bank(folder, between=lambda bank, day: None, days=range(4, DAYS)):
    bank = KeptBank(folder / "journal", prehistory(folder / "archive"))
    number, rng = 0, random.Random(4)
    for day in days:
        number = played(bank, range(day, day + 1), rng, first=number, delay=0)
        between(bank, day)
    return bank


def test_a_day_without_any_transaction_is_refused_by_its_name(tmp_path):
    bank = KeptBank(tmp_path / "journal", prehistory(tmp_path / "archive"))
    number = played(bank, range(4, 8), random.Random(5), delay=0)
    rng = random.Random(6)
    for day in range(10, DAYS):  # on two days nothing was kept
        at = (FIRST + day) * DAY_US
        bank.decide(at + DAY_US // 2, [paid(number + day, at, rng)])
    bank.keep()
    with pytest.raises(Refused, match=r"day 2019-04-22 and 1 more: neither"):
        night(tmp_path / "night", bank)


def test_two_who_disagree_too_often_are_refused(tmp_path):
    def contradicted(bank, day):
        now = (FIRST + day + 1) * DAY_US - 1
        ids = [e.transaction.transaction_id for _, e in bank.entries if isinstance(e, Decision)][-8:]
        both = [("analyst", "genuine", "ada"), ("chargeback", "fraud", "")]
        heard = [
            told(day * 1000 + n * 2 + m, of, now - 5 + m, verdict, source, by)
            for n, of in enumerate(ids) for m, (source, verdict, by) in enumerate(both)
        ]  # fmt: skip
        bank.decide(now, [], heard)
        bank.keep()

    bank = spoilt_bank(tmp_path / "bank", contradicted)
    with pytest.raises(Refused, match=r"are fraud to one and genuine to another, such as 't"):
        night(tmp_path / "night", bank)
    lenient = LabelRules(maturity_days=3, contradictions_max=1.0)
    facts = night(tmp_path / "lenient", bank, rules=lenient)["labels"]
    assert facts["labels_contradicting"] >= 90
    assert (facts["analyst_contradicted_most"], facts["analyst_contradicted_by"]) == (1.0, "ada")


def test_labels_of_transactions_that_nobody_knows_are_refused_beyond_a_share(tmp_path):
    def strange(bank, day):
        now = (FIRST + day + 1) * DAY_US - 1
        bank.decide(now, [], [told(day * 1000 + n, f"stranger{day}-{n}", now - 5) for n in range(9)])
        bank.keep()

    bank = spoilt_bank(tmp_path / "bank", strange)
    with pytest.raises(Refused, match="that neither the archive nor the journal has, such as 'stranger4-0'"):
        night(tmp_path / "night", bank)
    facts = night(tmp_path / "lenient", bank, rules=LabelRules(maturity_days=3, unknown_max=1.0))["labels"]
    assert facts["labels_unknown"] == 9 * 12


def test_one_class_alone_is_refused(tmp_path):
    bank = KeptBank(tmp_path / "journal")
    rng = random.Random(7)
    for day in range(2, DAYS):
        at = (FIRST + day) * DAY_US
        bank.decide(at + DAY_US - 1, [paid(day * 10 + n, at + n, rng) for n in range(5)])
    bank.keep()
    with pytest.raises(Refused, match="have genuine rows alone by the labels known then"):
        night(tmp_path / "night", bank)


def test_a_test_that_ends_after_the_cut_off_is_refused(bank, tmp_path):
    with pytest.raises(Refused, match="end after the cut-off"):
        night(tmp_path, bank, windows=shifted(WINDOWS, 5))
