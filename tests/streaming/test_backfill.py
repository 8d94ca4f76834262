"""A backfill: an archive becomes the scorer's first snapshot, by the same rules as a stream."""

import numpy as np
import pyarrow as pa
import pytest

from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, write_archive
from features.sweep import Arrivals, History, places
from plumbline.errors import InvalidArchive
from plumbline.transaction import DAY_US
from streaming.snapshot import newest, sequences
from tests.archived import backfilled
from tests.fakes import NOW, payment, told

START = NOW - NOW % DAY_US - 3 * DAY_US
STEP = DAY_US // 25


def payments(count):
    return [payment(n, occurred_at=START + n * STEP) for n in range(count)]


def label(number, of, known_at):
    return {"by": "", "note": "", "account_id": "", "merchant_id": ""} | told(
        number, of, source="archive", known_at=known_at
    )


def archive_of(path, transactions, labels=()):
    parties = {each["transaction_id"]: each for each in transactions}
    rows = []
    for each in labels:
        of = parties[each["transaction_id"]]
        row = each | {"account_id": of["account_id"], "merchant_id": of["merchant_id"]}
        rows.append({name: row[name] for name in LABEL_SCHEMA.names})
    return write_archive(
        path,
        [pa.Table.from_pylist(list(transactions), schema=TRANSACTION_SCHEMA)],
        pa.Table.from_pylist(rows, schema=LABEL_SCHEMA),
        "made for a test",
    )


def fold(archive, folder, until_us=None):
    return backfilled(archive, folder, until_us=until_us, remembered=1000)


def swept(transactions, labels=()):
    """History by one sweep over transactions and labels, merged by time."""
    parties = {each["transaction_id"]: each for each in transactions}
    rows = [(each["occurred_at"], False, each) for each in transactions]
    rows += [(each["known_at"], True, parties[each["transaction_id"]]) for each in labels]
    rows.sort(key=lambda row: row[:2])
    history = History()
    history.advance(
        Arrivals(
            account_ids=[each["account_id"] for _, _, each in rows],
            merchant_ids=[each["merchant_id"] for _, _, each in rows],
            device_ids=["" if is_label else each["device_id"] for _, is_label, each in rows],
            times=np.array([time for time, _, _ in rows], np.int64),
            amounts=np.array([0 if is_label else each["amount_minor"] for _, is_label, each in rows], np.int64),
            latitudes=places([None if is_label else each["latitude_e6"] for _, is_label, each in rows]),
            longitudes=places([None if is_label else each["longitude_e6"] for _, is_label, each in rows]),
            is_label=np.array([is_label for _, is_label, _ in rows], np.bool_),
            occurred_at=np.array([each["occurred_at"] for _, _, each in rows], np.int64),
        )
    )
    return history


def contents(history):
    return {name: array.tolist() for name, array in history.arrays().items()}


def test_the_snapshot_is_what_one_sweep_over_the_archive_gives(tmp_path):
    rows = payments(60)
    labels = [label(1, 5, START + 20 * STEP + 1), label(2, 30, START + 40 * STEP + 1)]
    archive = archive_of(tmp_path / "archive", rows, labels)
    fold(archive, tmp_path / "snapshots")
    state, refused = newest(tmp_path / "snapshots", 1000)
    assert refused == []
    assert (state.sequence, state.positions, state.archive_digest) == (-1, {}, archive.manifest.digest)
    assert len(state.known) == 60
    assert contents(state.history) == contents(swept(rows, labels))


def test_labels_count_once_however_few_transactions_are_remembered(tmp_path):
    """The batch path, which remembers all, must find the same."""
    rows = payments(60)
    labels = [label(1, 5, START + 40 * STEP + 1), label(2, 5, START + 41 * STEP + 1), label(3, 6, START + 8 * STEP + 1)]
    labels += [label(4, 6, START + 50 * STEP + 1), label(5, 7, START + 50 * STEP + 2) | {"verdict": "genuine"}]
    archive = archive_of(tmp_path / "archive", rows, labels)
    state = backfilled(archive, tmp_path / "snapshots", until_us=None, remembered=10)
    assert contents(state.history) == contents(swept(rows, [labels[0], labels[2]]))
    assert state.waiting == {}


def test_until_leaves_out_what_arrives_later(tmp_path):
    rows = payments(60)
    labels = [label(1, 5, START + 20 * STEP + 1), label(2, 7, START + 40 * STEP + 1)]
    until = START + DAY_US
    state = fold(archive_of(tmp_path / "archive", rows, labels), tmp_path / "snapshots", until)
    assert len(state.known) == 25
    assert state.archive_until_us == until
    assert contents(state.history) == contents(swept(rows[:25], labels[:1]))


def test_a_transaction_id_that_comes_twice_is_refused_and_no_snapshot_stays(tmp_path):
    rows = [*payments(10), payment(3, occurred_at=START + 11 * STEP)]
    with pytest.raises(InvalidArchive, match="t3"):
        fold(archive_of(tmp_path / "archive", rows), tmp_path / "snapshots")
    assert sequences(tmp_path / "snapshots") == []


def test_a_label_before_its_transaction_cannot_reach_a_backfill(tmp_path):
    with pytest.raises(InvalidArchive, match="a known_at not before its occurred_at"):
        archive_of(tmp_path / "archive", payments(20), [label(1, 15, START + 3 * STEP + 1)])
