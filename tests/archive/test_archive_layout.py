"""The archive keeps what it was given, in arrival order, and notices when it was touched."""

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from archive import swap, write
from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, open_archive, verified_archive, write_archive
from plumbline.errors import InvalidArchive, Refused, Unready
from plumbline.transaction import DAY_US, SECOND_US

START = 18_000 * DAY_US


def transactions(count: int, step_us: int = 3_600 * SECOND_US, prefix: str = "t") -> pa.Table:
    return pa.table(
        {
            "transaction_id": [f"{prefix}{i}" for i in range(count)],
            "occurred_at": [START + i * step_us for i in range(count)],
            "account_id": [f"a{i % 3}" for i in range(count)],
            "merchant_id": [f"m{i % 5}" for i in range(count)],
            "device_id": [""] * count,
            "amount_minor": [100 + i for i in range(count)],
            "currency": ["EUR"] * count,
            "channel": ["pos"] * count,
            "mcc": ["5411"] * count,
            "country": ["DE"] * count,
            "latitude_e6": [None if i % 2 else i for i in range(count)],
            "longitude_e6": [None if i % 2 else i for i in range(count)],
        },
        schema=TRANSACTION_SCHEMA,
    )


def labels(table: pa.Table, delays: dict[int, int]) -> pa.Table:
    chosen = table.take(pa.array(list(delays), pa.int64()))
    times = chosen["occurred_at"].to_numpy() + np.array(list(delays.values()), np.int64)
    return pa.table(
        {
            "label_id": [f"l-{name}" for name in chosen["transaction_id"].to_pylist()],
            "transaction_id": chosen["transaction_id"],
            "account_id": chosen["account_id"],
            "merchant_id": chosen["merchant_id"],
            "verdict": ["fraud"] * len(delays),
            "source": ["archive"] * len(delays),
            "known_at": times,
            "note": ["why"] * len(delays),
        },
        schema=LABEL_SCHEMA,
    )


@pytest.fixture
def table() -> pa.Table:
    return transactions(100)


def test_what_was_written_is_read_back_in_order(tmp_path: Path, table: pa.Table) -> None:
    known = labels(table, {10: DAY_US, 50: 0, 20: 40 * DAY_US})
    written = write_archive(tmp_path / "a", [table.slice(0, 7), table.slice(7)], known, "test")
    archive = open_archive(tmp_path / "a")
    archive.verify()
    assert archive == written
    assert (archive.manifest.rows, archive.manifest.labels, archive.manifest.source) == (100, 3, "test")
    assert (archive.manifest.first_occurred_at, archive.manifest.last_occurred_at) == (
        START,
        START + 99 * 3600 * SECOND_US,
    )
    read = pa.Table.from_batches(archive.transactions())
    assert read.drop_columns("sequence").equals(table)
    assert archive.labels()["transaction_id"].to_pylist() == ["t10", "t50", "t20"]
    assert archive.labels()["occurred_at"].to_pylist() == [table["occurred_at"][n].as_py() for n in (10, 50, 20)]


def test_sequence_numbers_both_kinds_together_and_ends_at_minus_one(tmp_path: Path, table: pa.Table) -> None:
    known = labels(table, {10: DAY_US, 50: 0, 20: 40 * DAY_US})
    archive = write_archive(tmp_path / "a", [table], known, "test")
    kinds = [(0, table["occurred_at"], table["transaction_id"]), (1, known["known_at"], known["label_id"])]
    expected = sorted(
        (time, kind, row, name)
        for kind, times, names in kinds
        for row, (time, name) in enumerate(zip(times.to_pylist(), names.to_pylist(), strict=True))
    )
    found = {}
    for batch in archive.transactions():
        found.update(zip(batch["sequence"].to_pylist(), batch["transaction_id"].to_pylist(), strict=True))
    found.update(zip(archive.labels()["sequence"].to_pylist(), archive.labels()["label_id"].to_pylist(), strict=True))
    assert [found[number] for number in range(-103, 0)] == [name for *_, name in expected]


def test_arrivals_merge_both_kinds_by_sequence(tmp_path: Path, table: pa.Table) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {0: 0, 10: DAY_US, 99: 5 * DAY_US}), "test")
    runs = list(archive.arrivals())
    assert [n for _, batch in runs for n in batch["sequence"].to_pylist()] == list(range(-103, 0))
    assert all(batch.num_rows for _, batch in runs)
    assert {kind for kind, _ in runs} == {"transactions", "labels"}


@pytest.mark.parametrize(("since", "until"), [(0, 30), (30, 60), (24, 48), (5, 5), (95, 300)])
def test_a_range_is_half_open_on_occurred_at(tmp_path: Path, table: pa.Table, since: int, until: int) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {}), "test")
    hour = 3_600 * SECOND_US
    batches = archive.transactions(START + since * hour, START + until * hour, ["transaction_id"])
    assert [n for b in batches for n in b["transaction_id"].to_pylist()] == [
        f"t{i}" for i in range(since, min(until, 100))
    ]


def test_the_digest_does_not_depend_on_the_chunks(tmp_path: Path, table: pa.Table) -> None:
    known = labels(table, {3: DAY_US})
    one = write_archive(tmp_path / "one", [table], known, "test")
    many = write_archive(tmp_path / "many", table.to_batches(max_chunksize=1), lambda: known, "test")
    other = write_archive(tmp_path / "other", [table], labels(table, {4: DAY_US}), "test")
    assert one.manifest == many.manifest
    assert one.manifest.digest != other.manifest.digest


def test_a_day_of_more_rows_than_a_row_group_stays_whole(tmp_path: Path) -> None:
    table = transactions(300_000, step_us=SECOND_US // 4)
    one = write_archive(tmp_path / "one", [table], labels(table, {299_999: 0}), "test")
    many = write_archive(tmp_path / "many", table.to_batches(max_chunksize=70_001), labels(table, {299_999: 0}), "test")
    one.verify()
    assert one.manifest == many.manifest
    assert len(list((one.path / "transactions").iterdir())) == 1


def test_an_archive_of_nothing_is_never_written(tmp_path: Path, table: pa.Table) -> None:
    good = write_archive(tmp_path / "a", [table], labels(table, {}), "good")
    for target, replace in (("a", True), ("b", False)):
        with pytest.raises(InvalidArchive, match="one or more: nothing was written"):
            write_archive(tmp_path / target, [], LABEL_SCHEMA.empty_table(), "nothing", replace=replace)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert open_archive(tmp_path / "a") == good


def test_verify_finds_one_flipped_byte(tmp_path: Path, table: pa.Table) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {3: DAY_US}), "test")
    for file in sorted((tmp_path / "a").rglob("*.parquet")):
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
        with pytest.raises(InvalidArchive, match=file.name):
            archive.verify()
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    archive.verify()


def test_verify_finds_a_missing_and_an_extra_file(tmp_path: Path, table: pa.Table) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {3: DAY_US}), "test")
    file = next((tmp_path / "a" / "transactions").iterdir())
    aside = file.rename(tmp_path / "aside")
    with pytest.raises(InvalidArchive, match="missing"):
        archive.verify()
    aside.rename(file)
    extra = file.with_name(f"day={datetime.date(2030, 1, 1)}.parquet")
    extra.write_bytes(file.read_bytes())
    with pytest.raises(InvalidArchive, match="present"):
        archive.verify()


def test_half_an_archive_is_refused(tmp_path: Path, table: pa.Table) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {}), "test")
    file = next((tmp_path / "a" / "transactions").iterdir())
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InvalidArchive, match="changed or damaged; bring the archive back"):
        list(archive.transactions())
    (tmp_path / "a" / "archive.json").unlink()
    with pytest.raises(InvalidArchive, match=r"archive\.json"):
        open_archive(tmp_path / "a")
    for other in (1, 99):
        (tmp_path / "a" / "archive.json").write_text(f'{{"format": {other}}}')
        with pytest.raises(InvalidArchive, match=f"format is {other}: .*import or simulate it again"):
            open_archive(tmp_path / "a")
    (tmp_path / "a" / "archive.json").write_text('{"format": 1, ')
    with pytest.raises(InvalidArchive, match="a manifest"):
        open_archive(tmp_path / "a")


def test_an_archive_that_lacks_a_day_or_has_one_more_is_not_opened(tmp_path: Path, table: pa.Table) -> None:
    write_archive(tmp_path / "a", [table], labels(table, {}), "test")
    day = sorted((tmp_path / "a" / "transactions").iterdir())[1]
    aside = day.rename(tmp_path / "aside")
    with pytest.raises(InvalidArchive, match=rf"transactions/{day.name} is 'missing'.*bring the archive back"):
        open_archive(tmp_path / "a")
    aside.rename(day)
    (day.parent / "day=2031-01-01.parquet").write_bytes(day.read_bytes())
    with pytest.raises(InvalidArchive, match=r"day=2031-01-01.parquet is 'present'"):
        open_archive(tmp_path / "a")


def test_no_row_of_a_file_that_was_changed_is_ever_read(tmp_path: Path, table: pa.Table) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {}), "test")
    other = write_archive(tmp_path / "b", [transactions(100, prefix="x")], labels(table.slice(0, 0), {}), "other")
    assert sum(batch.num_rows for batch in archive.transactions()) == 100
    days = sorted((tmp_path / "a" / "transactions").iterdir())
    days[2].write_bytes((other.path / "transactions" / days[2].name).read_bytes())  # good Parquet of another archive
    reader = archive.transactions()
    with pytest.raises(InvalidArchive, match=rf"transactions/{days[2].name} is 'sha256"):
        list(reader)
    assert (
        sum(batch.num_rows for batch in archive.transactions(None, START + 2 * DAY_US)) == 48
    )  # the days before it are read as ever


def test_a_replacement_is_verified_before_the_old_archive_gives_way(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_archive(tmp_path / "a", [table], labels(table, {}), "good")
    whole = write._to_disk

    def damaged(folder: Path) -> None:
        whole(folder)
        file = next((folder / "transactions").iterdir())
        file.write_bytes(file.read_bytes()[:-1] + b"x")

    monkeypatch.setattr(write, "_to_disk", damaged)
    with pytest.raises(InvalidArchive, match="changed or damaged"):
        write_archive(tmp_path / "a", [table], labels(table, {}), "new", replace=True)
    assert verified_archive(tmp_path / "a") == good
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from archive import swap
from archive.layout import LABEL_SCHEMA, open_archive, verified_archive, write_archive

archive = Path(sys.argv[1])

def counted(call):
    def killing(*given, **named):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return killing

def replaced():
    os.fsync, Path.rename, Path.mkdir = counted(os.fsync), counted(Path.rename), counted(Path.mkdir)
    swap._exchanged = counted(swap._exchanged)
    table = pa.Table.from_batches(open_archive(sys.argv[2]).transactions()).drop_columns(["sequence"])
    write_archive(archive, [table], LABEL_SCHEMA.empty_table(), "new", replace=True)

def forked(work):
    child = os.fork()
    if not child:
        work()
        sys.stdout.flush()
        os._exit(0)
    return os.waitpid(child, 0)[1]

for moment in range(1, 100):
    calls = 0
    ended = forked(replaced)
    forked(lambda: print(verified_archive(archive).manifest.source))
    if ended == 0:
        break
    assert os.WTERMSIG(ended) == signal.SIGKILL, ended
"""


@pytest.mark.slow
def test_an_import_killed_at_any_call_leaves_a_whole_archive_the_old_or_the_new(
    tmp_path: Path, table: pa.Table
) -> None:
    for name, rows in (("a", 20), ("source", 10)):
        write_archive(tmp_path / name, [table.slice(0, rows)], labels(table, {}), "old")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a"), str(tmp_path / "source")]
    sources = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(sources) > 5
    assert sources == ["old"] * sources.count("old") + ["new"] * sources.count("new")
    assert sources[-1] == "new"


def test_where_the_system_cannot_exchange_folders_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for exchanged in (swap._exchanged, lambda new, old: False):
        monkeypatch.setattr(swap, "_exchanged", exchanged)
        folder = tmp_path / str(id(exchanged))
        for name in ("new", "old"):
            (folder / name).mkdir(parents=True)
            (folder / name / "name").write_text(name)
        swap.exchange(folder / "new", folder / "old")
        assert [(folder / name / "name").read_text() for name in ("new", "old")] == ["old", "new"]
        assert sorted(path.name for path in folder.iterdir()) == ["new", "old"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, table: pa.Table) -> None:
    def broken():
        yield table
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_archive(tmp_path / "a", broken(), labels(table, {}), "test")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_replaced_only_when_told_and_nothing_else_ever_is(tmp_path: Path, table: pa.Table) -> None:
    write_archive(tmp_path / "a", [table], labels(table, {}), "old")
    with pytest.raises(Refused, match="holds an archive already"):
        write_archive(tmp_path / "a", [table], labels(table, {}), "new")
    assert write_archive(tmp_path / "a", [table], labels(table, {}), "new", replace=True).manifest.source == "new"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(Refused, match="is no archive"):
        write_archive(tmp_path / "home", [table], labels(table, {}), "new", replace=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "home"]


def test_rows_out_of_arrival_order_are_refused(tmp_path: Path, table: pa.Table) -> None:
    with pytest.raises(InvalidArchive, match="transaction t0: occurred_at"):
        write_archive(tmp_path / "a", [table.slice(50), table.slice(0, 50)], labels(table, {}), "test")


def test_a_label_must_fit_a_transaction(tmp_path: Path, table: pa.Table) -> None:
    stranger = labels(transactions(3, prefix="x"), {1: DAY_US})
    with pytest.raises(InvalidArchive, match="exactly one transaction"):
        write_archive(tmp_path / "a", [table], stranger, "test")
    with pytest.raises(InvalidArchive, match="not before"):
        write_archive(tmp_path / "a", [table], labels(table, {5: -1}), "test")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_column_is_named(tmp_path: Path, table: pa.Table) -> None:
    archive = write_archive(tmp_path / "a", [table], labels(table, {}), "test")
    with pytest.raises(InvalidArchive, match="colour"):
        list(archive.transactions(columns=["colour"]))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, table: pa.Table) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unready, match="give another folder"):
        write_archive(tmp_path / "file" / "a", [table], labels(table, {}), "test")
