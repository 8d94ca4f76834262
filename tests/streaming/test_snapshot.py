"""Snapshots: read back whole, or refused with the reason; a half-written one is never seen."""

import errno
import fcntl
import json
import os
import shutil

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

import streaming.snapshot
from features.declaration import DECLARATION
from features.sweep import History
from plumbline.errors import SnapshotRefused, Unready
from plumbline.policy import DEFAULT_POLICY, Policy
from streaming.batch import process
from streaming.known import Known
from streaming.snapshot import FORMAT, Manifest, _sha256, freeze, newest, prehistory, read, sealed, sequences, write
from streaming.snapshots import Snapshots
from streaming.state import CaughtUp, State
from tests.fakes import NOW, FakeClient, Numbered, fake_model, payment, raw, told


def state_of(payments, sequence=None):
    state = State(Known(100), policy=DEFAULT_POLICY, archive_digest="abc", archive_until_us=5)
    topics = {name: Numbered(name) for name in ("transactions", "labels")}
    process(
        state, fake_model(), transaction=[topics["transactions"].message(raw(payment(n))) for n in range(payments)],
        now_us=NOW,
    )  # fmt: skip
    process(state, fake_model(), label=[topics["labels"].message(raw(told(1, 0)))], now_us=NOW)
    state.sequence = payments if sequence is None else sequence
    return state


def contents(state):
    manifest, arrays = freeze(CaughtUp(state))
    return manifest, {name: (array.dtype, array.tolist()) for name, array in arrays.items()}


def test_what_was_written_is_read_back_and_goes_on_alike(tmp_path):
    state = state_of(20)
    place = write(tmp_path / "snapshots", freeze(CaughtUp(state)))
    again = read(place, 100)
    assert contents(again) == contents(state)
    later = [Numbered("transactions").message(raw(payment(n))) for n in range(15, 30)]
    assert (
        process(again, fake_model(), transaction=later, now_us=NOW).entries
        == process(state, fake_model(), transaction=later, now_us=NOW).entries
    )


def test_the_versions_of_earlier_policies_are_kept(tmp_path):
    state = state_of(3)
    for version in ("a", "b", "default"):
        state.activate(Policy(version=version))
    again = read(write(tmp_path, freeze(CaughtUp(state))), 100)
    assert list(again.policies.items()) == list(state.policies.items())
    assert list(again.policies) == ["a", "b", "default"]


def test_a_snapshot_of_a_release_that_remembered_no_versions_knows_the_active_one(tmp_path):
    place = write(tmp_path, freeze(CaughtUp(state_of(3))))
    whole = json.loads((place / "manifest.json").read_text())
    whole.pop("policies")
    (place / "manifest.json").write_bytes(sealed(msgspec.convert(whole, Manifest)))
    assert list(read(place, 100).policies) == ["default"]


def test_an_empty_state_can_be_kept_too(tmp_path):
    write(tmp_path, freeze(CaughtUp(State(Known(10)))))
    found, refused = newest(tmp_path, 10)
    assert (found.sequence, found.positions, found.policy, refused) == (-1, {}, None, [])


def test_a_frozen_state_is_not_touched_by_what_comes_later(tmp_path):
    state = state_of(5)
    frozen, before = freeze(CaughtUp(state)), contents(state)
    process(state, fake_model(), transaction=[Numbered("transactions").message(raw(payment(77)))], now_us=NOW)
    assert contents(read(write(tmp_path, frozen), 100)) == before


def test_the_newest_two_stay(tmp_path):
    for sequence in (5, 9, 30, 200):
        write(tmp_path, freeze(CaughtUp(state_of(3, sequence))))
    assert sorted(sequences(tmp_path)) == [30, 200]
    assert newest(tmp_path, 100)[0].sequence == 200


def test_one_taken_again_at_the_same_place_replaces_the_old_one(tmp_path):
    write(tmp_path, freeze(CaughtUp(state_of(3, 7))))
    write(tmp_path, freeze(CaughtUp(state_of(8, 7))))
    assert len(newest(tmp_path, 100)[0].known) == 8


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def sign(file, **fields):
    """Change fields under a right digest, as another release would have written them."""
    file.write_bytes(sealed(msgspec.convert(json.loads(file.read_text()) | fields, Manifest)))


LATER = {"semantics": 99, "lateness_us": 0, "tables": [], "history": [], "features": []}

DAMAGE = {
    "a changed bit in the arrays": (lambda place: flip(place / "state.npz", 500), SnapshotRefused),
    "arrays cut short": (lambda place: truncate(place / "state.npz"), SnapshotRefused),
    "no arrays": (lambda place: (place / "state.npz").unlink(), SnapshotRefused),
    "a manifest cut short": (lambda place: truncate(place / "manifest.json"), SnapshotRefused),
    "no manifest": (lambda place: (place / "manifest.json").unlink(), SnapshotRefused),
    "an empty folder": (lambda place: [each.unlink() for each in place.iterdir()], SnapshotRefused),
    "another format": (lambda place: change(place / "manifest.json", format=99), SnapshotRefused),
    "a changed digit in a position": (
        lambda place: change(place / "manifest.json", positions=[["transactions", 0, 7]]),
        SnapshotRefused,
    ),
    "a format of the future": (
        lambda place: (place / "manifest.json").write_text('{"format": 99, "what": "nobody knows"}'),
        SnapshotRefused,
    ),
    "an unknown field": (lambda place: change(place / "manifest.json", more=1), SnapshotRefused),
    "a declaration of a later release": (
        lambda place: change(place / "manifest.json", declarations=[LATER]),
        SnapshotRefused,
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_one_is_refused_by_name_and_the_older_one_is_used(tmp_path, name):
    damage, kind = DAMAGE[name]
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))
    place = write(tmp_path, freeze(CaughtUp(state_of(6, 9))))
    damage(place)
    with pytest.raises(kind, match=str(place)):
        read(place, 100)
    found, refused = newest(tmp_path, 100)
    assert found.sequence == 5
    assert [type(each) for each in refused] == [kind]


def test_one_of_another_declaration_goes_on_under_it(tmp_path):
    fewer = replace(DECLARATION, history=DECLARATION.history[:3], features=DECLARATION.features[:1])
    state = State(Known(100), {fewer.fingerprint: History(fewer)}, policy=DEFAULT_POLICY)
    client = FakeClient()
    client.declarations = {1: fewer}
    topic = Numbered("transactions")
    first = [topic.message(raw(payment(n))) for n in range(5)]
    process(state, fake_model(client), transaction=first, now_us=NOW)
    again = read(write(tmp_path, freeze(CaughtUp(state))), 100)
    later = [topic.message(raw(payment(n))) for n in range(5, 9)]
    (decision, *_) = process(again, fake_model(client), transaction=later, now_us=NOW).entries
    assert (decision.fingerprint, len(decision.history), len(decision.scores)) == (fewer.fingerprint, 3, 1)


def test_when_all_are_damaged_there_is_none_and_every_reason_is_told(tmp_path):
    for sequence in (5, 9):
        flip(write(tmp_path, freeze(CaughtUp(state_of(3, sequence)))) / "state.npz", 300)
    found, refused = newest(tmp_path, 100)
    assert found is None
    assert len(refused) == 2


def test_one_of_the_future_says_so_before_anything_else_of_it_is_read(tmp_path):
    place = write(tmp_path, freeze(CaughtUp(state_of(3))))
    (place / "manifest.json").write_text('{"format": 99, "what": "nobody knows"}')
    with pytest.raises(SnapshotRefused, match=f"has format 99, this release reads {FORMAT}"):
        read(place, 100)


def test_what_killed_writers_left_behind_is_removed_with_the_next_one(tmp_path):
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))
    for name in (".unfinished-6-1", f".unfinished-9-{os.getpid()}"):
        shutil.copytree(tmp_path / "5", tmp_path / name)
    write(tmp_path, freeze(CaughtUp(state_of(6, 9))))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["5", "9"]


def test_a_half_written_one_is_never_seen(tmp_path):
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))
    shutil.copytree(tmp_path / "5", tmp_path / ".unfinished-9-1")
    (tmp_path / "notes.txt").write_text("not ours")
    assert sequences(tmp_path) == [5]
    assert newest(tmp_path, 100)[0].sequence == 5


@pytest.mark.parametrize("where", ["savez", "fsync"])
def test_a_full_disk_leaves_the_older_ones_and_no_rest(tmp_path, monkeypatch, where):
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*{"savez": (np, "savez"), "fsync": (os, "fsync")}[where], full)
    with pytest.raises(Unready, match=r"No space left on device.*make room"):
        write(tmp_path, freeze(CaughtUp(state_of(6, 9))))
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["5"]
    assert newest(tmp_path, 100)[0].sequence == 5


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unready, match=f"no snapshot could be written to {tmp_path}/file/snapshots"):
        write(tmp_path / "file" / "snapshots", freeze(CaughtUp(state_of(3))))


def test_the_archive_that_history_began_with_is_told_even_when_the_newest_is_broken(tmp_path):
    assert prehistory(tmp_path) == ("", None)
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))
    truncate(write(tmp_path, freeze(CaughtUp(state_of(3, 6)))) / "manifest.json")
    assert prehistory(tmp_path) == ("abc", 5)


def test_a_smaller_memory_keeps_the_newest(tmp_path):
    place = write(tmp_path, freeze(CaughtUp(state_of(20))))
    small = read(place, 6)
    known = [n for n in range(20) if small.known.find(f"t{n}") >= 0]
    assert known == list(range(14, 20))


def test_a_leader_takes_one_when_enough_entries_have_passed(tmp_path):
    leader, state = Snapshots(tmp_path, every=100), state_of(3, 1000)
    assert not leader.due(state)
    state.sequence = 1099
    assert not leader.due(state)
    state.sequence = 1100
    assert leader.due(state)
    leader.take(CaughtUp(state))
    state.sequence = 1101
    assert not leader.due(state)
    leader.finish(CaughtUp(state))
    assert sorted(sequences(tmp_path)) == [1100, 1101]


def test_a_snapshot_that_fails_meanwhile_does_not_stop_the_leader(tmp_path):
    (tmp_path / "file").write_text("in the way")
    leader, state = Snapshots(tmp_path / "file", every=1), state_of(3, 10)
    leader.take(CaughtUp(state))
    with pytest.raises(Unready):
        leader.finish(CaughtUp(state))


def test_a_writer_that_was_frozen_goes_on_though_another_has_written_meanwhile(tmp_path, monkeypatch):
    """Two leaders share a folder: one writes while the other, whose term is over, has its own unfinished."""
    fsync, thawed = os.fsync, []

    def frozen(descriptor):
        fsync(descriptor)
        if not thawed:
            thawed.append(1)
            write(tmp_path, freeze(CaughtUp(state_of(4, 20))))

    monkeypatch.setattr("streaming.snapshot.os.fsync", frozen)
    write(tmp_path, freeze(CaughtUp(state_of(3, 10))))
    assert sorted(sequences(tmp_path)) == [10, 20]
    for sequence, known in ((10, 3), (20, 4)):
        assert len(read(tmp_path / str(sequence), 100).known) == known
    assert not list(tmp_path.glob(".unfinished-*"))


def test_a_reader_that_meets_a_pruned_one_takes_the_next(tmp_path, monkeypatch):
    for sequence in (10, 20):
        write(tmp_path, freeze(CaughtUp(state_of(3, sequence))))

    def pruned(path):
        digest = _sha256(path)
        if path.parent.name == "20":
            shutil.rmtree(path.parent)  # what a leader does two snapshots later
        return digest

    monkeypatch.setattr("streaming.snapshot._sha256", pruned)
    state, refused = newest(tmp_path, 100)
    assert state.sequence == 10
    assert len(refused) == 1


def test_a_reader_whose_snapshots_were_both_replaced_takes_the_new_ones(tmp_path, monkeypatch):
    for sequence in (10, 20):
        write(tmp_path, freeze(CaughtUp(state_of(3, sequence))))

    def replaced(path):
        if path.parent.name == "20":
            monkeypatch.undo()
            for sequence in (30, 40):
                write(tmp_path, freeze(CaughtUp(state_of(3, sequence))))
        return _sha256(path)

    monkeypatch.setattr("streaming.snapshot._sha256", replaced)
    assert newest(tmp_path, 100)[0].sequence == 40


def test_one_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))

    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("streaming.snapshot._sha256", forbidden)
    state, refused = newest(tmp_path, 100)
    assert state is None
    assert "Permission denied" in str(refused[0])


def test_one_of_another_archive_than_the_journal_names_is_refused(tmp_path):
    write(tmp_path, freeze(CaughtUp(state_of(3, 5))))
    assert newest(tmp_path, 100, archive=("abc", 5))[0].sequence == 5
    state, refused = newest(tmp_path, 100, archive=("abc", None))
    assert state is None
    assert "began with archive abc up to 5, the journal with abc up to None" in str(refused[0])


def test_what_the_journal_says_is_remembered_stays_so_whatever_the_setting(tmp_path):
    state = state_of(20)
    state.remember(50)
    state.topic_ids["transactions"] = "an id"
    again = read(write(tmp_path, freeze(CaughtUp(state))), 7)
    assert (again.known.limit, again.remembered, len(again.known), again.topic_ids) == (50, 50, 20, state.topic_ids)


def test_a_writer_that_stands_still_keeps_no_other_one_from_ending(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming.snapshot, "LOCK_SECONDS", 0.05)
    held = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unready, match="another process has held it"):
            write(tmp_path, freeze(CaughtUp(state_of(3))))
    finally:
        os.close(held)
    assert read(write(tmp_path, freeze(CaughtUp(state_of(3)))), 100).sequence == state_of(3).sequence
