"""Beam, key by key, against the single sweep: the same integers, however the keys are dealt and the archive is cut."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pytest

from features.grammar import ABSENT
from features.pieces import read_history
from features.pipeline import Part, passes_for, shard_of, write_history
from features.sweep import Arrivals, History
from tests.features.wide import WIDE

DAY = 86_400_000_000
ROWS = 3000


def stream(seed):
    """Arrivals with ties, late and far-off times, repeated rows, unknown places and devices, and fraud labels."""
    random = np.random.default_rng(seed)
    time = 50 * DAY + np.sort(random.integers(0, 40 * DAY, ROWS)) // (60_000_000 * 30) * (60_000_000 * 30)
    late = random.random(ROWS) < 0.1
    time = np.where(late, np.maximum(0, time - random.integers(0, 45 * DAY, ROWS)), time)
    located = random.random(ROWS) < 0.6
    is_label = random.random(ROWS) < 0.2
    columns = {
        "account": [f"account-{n}" for n in random.zipf(1.4, ROWS) % 60],
        "merchant": [f"merchant-{n}" for n in random.zipf(1.3, ROWS) % 40],
        "device": ["" if n == 0 else f"device-{n}" for n in random.integers(0, 30, ROWS)],
        "time": time,
        "amount": random.integers(0, 100_000, ROWS) // np.where(random.random(ROWS) < 0.9, 30, 1),
        "latitude": np.where(located, random.integers(-90, 90, ROWS) * 1_000_000, ABSENT),
        "longitude": np.where(located, random.integers(-180, 180, ROWS) * 1_000_000, ABSENT),
        "is_label": is_label,
    }
    # A label speaks of a payment that came somewhat earlier, most of the time; else of none that was.
    of = np.maximum(np.arange(ROWS) - random.integers(1, 40, ROWS), 0)
    told = is_label & (random.random(ROWS) < 0.9)
    columns |= {name: np.where(told, np.asarray(columns[name])[of], columns[name]) for name in ("account", "merchant")}
    columns["occurred_at"] = np.where(told, time[of], time)
    again = np.sort(np.concatenate([np.arange(ROWS), random.integers(0, ROWS, 50)]))
    columns = {name: [column[n] for n in again] for name, column in columns.items()}
    columns["device"] = [
        "" if label else id_ for id_, label in zip(columns["device"], columns["is_label"], strict=True)
    ]
    return pa.table({"sequence": np.arange(-len(again), 0), **columns})


def swept(rows):
    def integers(name):
        return np.asarray(rows[name], dtype=np.int64)

    is_label = np.asarray(rows["is_label"])
    place = [np.where(is_label, ABSENT, integers(name)) for name in ("latitude", "longitude")]
    ids = [rows[name].to_pylist() for name in ("account", "merchant", "device")]
    history = History(WIDE).advance(
        Arrivals(
            *ids, integers("time"), np.where(is_label, 0, integers("amount")), *place, is_label, integers("occurred_at")
        )
    )
    return integers("sequence")[~is_label], integers("time")[~is_label], history[~is_label]


def read(path, part):
    """A part here is a range of rows: the pipeline only hands it on."""
    with pa.ipc.open_file(path) as file:
        rows = file.read_all().slice(part.since_us, part.until_us - part.since_us)
    rows = rows.filter(pc.equal(rows["is_label"], part.kind == "labels")).combine_chunks()
    place = {
        f"{name}_e6": pc.if_else(pc.equal(rows[name], ABSENT), None, rows[name]).cast(pa.int32())
        for name in ("latitude", "longitude")
    }
    names = {"account": "account_id", "merchant": "merchant_id", "device": "device_id", "amount": "amount_minor"}
    columns = {"sequence": rows["sequence"], **{new: rows[old] for old, new in names.items()}, **place}
    columns["occurred_at"] = rows["occurred_at"]
    if part.kind == "labels":
        columns["known_at"] = rows["time"]
    yield from pa.table(columns).to_batches(max_chunksize=700)


@pytest.mark.parametrize(("shards", "cut", "passes"), [(1, 4000, 1), (7, 500, 1), (2, 1000, 3)])
def test_equals_the_single_sweep_to_the_bit(tmp_path, shards, cut, passes):
    rows = stream(seed=shards)
    path = tmp_path / "rows.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    cuts = [(begin, min(begin + cut, rows.num_rows)) for begin in range(0, rows.num_rows, cut)]
    parts = [Part(kind, *each) for kind in ("labels", "transactions") for each in reversed(cuts)]
    folder = tmp_path / "history"
    folder.mkdir()
    write_history(
        functools.partial(read, str(path)),
        parts,
        folder,
        keep_us=(0, 2**60),
        declaration=WIDE,
        shards=shards,
        passes=passes,
    )
    found = read_history(folder, WIDE)
    sequence, _, wanted = swept(rows)
    assert np.array_equal(found["sequence"], sequence)
    for index, name in enumerate(WIDE.history_names):
        assert np.array_equal(found[name], wanted[:, index]), name


def test_only_the_range_asked_for_is_written_with_the_past_before_it(tmp_path):
    rows = stream(seed=3)
    path = tmp_path / "rows.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    folder = tmp_path / "history"
    folder.mkdir()
    keep = (70 * DAY, 80 * DAY)
    parts = [Part(kind, 0, rows.num_rows) for kind in ("transactions", "labels")]
    write_history(functools.partial(read, str(path)), parts, folder, keep_us=keep, declaration=WIDE, shards=2)
    found = read_history(folder, WIDE)
    sequence, time, wanted = swept(rows)
    inside = (time >= keep[0]) & (time < keep[1])
    assert inside.any()
    assert np.array_equal(found["sequence"], sequence[inside])
    assert np.array_equal(found["account_count_30d"], wanted[inside, WIDE.history_names.index("account_count_30d")])


def test_only_the_keys_that_matter_are_computed_and_their_numbers_are_the_same(tmp_path):
    rows = stream(seed=5)
    path = tmp_path / "rows.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    ours = np.isin(rows["account"].to_pylist(), ["account-3", "account-5", "account-20"]) & ~np.asarray(
        rows["is_label"]
    )
    keys = {
        owner: pc.unique(rows[owner].filter(pa.array(ours))).filter(
            pc.not_equal(pc.unique(rows[owner].filter(pa.array(ours))), "")
        )
        for owner in ("account", "merchant", "device")
    }
    folder = tmp_path / "history"
    folder.mkdir()
    parts = [Part(kind, 0, rows.num_rows) for kind in ("transactions", "labels")]
    write_history(
        functools.partial(read, str(path)), parts, folder, keep_us=(0, 2**60), declaration=WIDE, keys=keys, passes=2
    )
    found = read_history(folder, WIDE)
    sequence, _, wanted = swept(rows)
    mine = np.isin(sequence, np.asarray(rows["sequence"])[ours])
    assert 0 < mine.sum() < len(mine) / 2
    assert np.array_equal(found["sequence"], sequence[mine])
    for index, name in enumerate(WIDE.history_names):
        assert np.array_equal(found[name], wanted[mine, index]), name


def test_many_rows_are_dealt_in_several_passes():
    assert [passes_for(rows) for rows in (0, 1, 1_000_000, 1_000_001, 5_000_000)] == [1, 1, 1, 2, 5]


def test_a_shard_depends_on_the_id_alone():
    ids = [f"id-{n}" for n in range(200)]
    together = shard_of(pa.array(ids), 7)
    alone = [int(shard_of(pa.array([each]), 7)[0]) for each in ids]
    assert together.tolist() == alone
    assert set(alone) == set(range(7))
    assert alone[:4] == [5, 4, 5, 0]  # CRC-32, and nothing of this process
