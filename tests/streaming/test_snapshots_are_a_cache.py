"""Snapshots can be deleted, damaged or pruned at any time: that costs time and nothing else.

Whatever a fold needs is in the journal, or in the archive that the journal's first entry names.
"""

import shutil
from dataclasses import replace

import msgspec
import pytest
from msgspec.structs import replace as with_fields

from features.declaration import DECLARATION, HISTORY_NAMES
from features.grammar import Measure
from plumbline.assignment import Assignment
from plumbline.decision import Decision
from plumbline.errors import Refused, StateDiverged
from plumbline.journal import AssignmentApplied, ControlApplied, JournalBegun, MemoryChanged, SourcesOpened
from plumbline.transaction import DAY_US
from streaming import scorer
from streaming.beginning import backfill
from streaming.kafka import end_offsets
from streaming.known import Known
from streaming.prepared import folder_of, prepare
from streaming.snapshot import freeze, manifest_of, newest, sequences, write
from streaming.state import CaughtUp, State
from tests.fakes import payment
from tests.retrain_bank import archive_of
from tests.scorer_thread import Installation, now_us

WIDER = with_fields(DECLARATION, history=(*DECLARATION.history, Measure("account", "count", "14d")))
PER_ACCOUNT = HISTORY_NAMES.index("account_count_30d")
ARCHIVED = 200


@pytest.fixture
def site(kafka, topic_prefix, tmp_path):
    made = Installation(kafka.bootstrap, topic_prefix, tmp_path)
    yield made
    made.close()


@pytest.fixture
def archive(tmp_path):
    """Five payments of each account, in the days before the stream."""
    begin = now_us() - 20 * DAY_US
    payments = [
        payment(n, transaction_id=f"old{n}", account_id=f"a{n % 40}", occurred_at=begin + n * 1_000_000)
        for n in range(ARCHIVED)
    ]
    return archive_of(tmp_path / "archive", payments, [])


def backfilled(site, archive, until_us=None):
    return backfill(
        archive, site.snapshots, site.bootstrap, site.prefix,
        until_us=until_us, remembered=1_000_000, now_us=now_us(), tell=lambda _rows: None,
    )  # fmt: skip


def flip(folder):
    for sequence in sequences(folder):
        file = folder / str(sequence) / "state.npz"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def kinds(entries):
    return [type(each) for _, each in entries]


def decisions(entries):
    return [each for _, each in entries if isinstance(each, Decision)]


def test_the_journal_begins_with_what_a_fold_needs(site):
    site.scorer(remembered_transactions=5000).leading().leave()
    entries = site.entries()
    assert kinds(entries) == [JournalBegun, AssignmentApplied, ControlApplied, SourcesOpened]
    begun = entries[0][1]
    assert (begun.archive_digest, begun.archive_until_us, begun.remembered) == ("", None, 5000)
    opened = {(each.topic, each.partition): (each.first, each.lost_from) for each in entries[3][1].opened}
    assert len(opened) == 4
    assert set(opened.values()) == {(0, None)}
    site.scorer().leading().leave()
    assert kinds(site.entries())[4:] == [MemoryChanged], "the setting asks for more; nothing is opened a second time"


@pytest.mark.parametrize("lost", ["deleted", "damaged"])
def test_without_a_snapshot_the_archive_that_the_journal_names_is_folded_again(site, archive, lost):
    backfilled(site, archive)
    if lost == "deleted":
        shutil.rmtree(site.snapshots)  # before the first start, too
    first = site.scorer(archive=archive.path).leading()
    first.leave()
    if lost == "deleted":
        shutil.rmtree(site.snapshots)
    else:
        flip(site.snapshots)
    again = site.scorer(archive=archive.path).leading()
    site.pay(40)
    entries = site.answered()
    again.leave()
    assert {each.history[PER_ACCOUNT] for each in decisions(entries)} == {ARCHIVED // 40}
    assert entries[0][1].archive_digest == archive.manifest.digest


def test_an_archive_that_is_missing_or_another_one_is_refused_in_words(site, archive, tmp_path):
    backfilled(site, archive)
    shutil.rmtree(site.snapshots)
    elsewhere = tmp_path / "nowhere"
    refused = site.scorer(archive=elsewhere).start().ended()
    assert isinstance(refused, Refused)
    assert f"after the archive with digest {archive.manifest.digest}, but {elsewhere} holds no archive" in str(refused)
    assert "PLUMBLINE_ARCHIVE" in str(refused)
    other = archive_of(tmp_path / "other", [payment(1)], [])
    refused = site.scorer(archive=other.path).start().ended()
    assert f"has digest {other.manifest.digest}" in str(refused)
    assert sequences(site.snapshots) == []
    assert kinds(site.entries()) == [JournalBegun]


def test_a_snapshot_of_another_archive_is_refused_and_the_state_made_again(site, archive):
    backfilled(site, archive)
    site.scorer(archive=archive.path).leading().leave()
    (kept,) = {manifest_of(site.snapshots / str(each)).sequence for each in sequences(site.snapshots) if each >= 0}
    other = newest(site.snapshots, 1000)[0]
    other.archive_digest = "d" * 64
    shutil.rmtree(site.snapshots)
    write(site.snapshots, freeze(CaughtUp(other)))
    again = site.scorer(archive=archive.path).leading()
    site.pay(40)
    entries = site.answered()
    again.leave()
    assert {each.history[PER_ACCOUNT] for each in decisions(entries)} == {ARCHIVED // 40}
    assert kept in sequences(site.snapshots) or max(sequences(site.snapshots)) > kept


def test_a_backfill_under_a_running_scorer_is_refused(site, archive):
    first = site.scorer().leading()
    site.pay(80)
    site.answered()
    with pytest.raises(Refused, match="has begun with no archive"):
        backfilled(site, archive)
    assert sequences(site.snapshots) == []
    first.crash()
    site.scorer().leading().leave()


def test_a_backfill_of_the_archive_that_the_journal_names_makes_its_snapshot_again(site, archive):
    made = backfilled(site, archive)
    first = site.scorer(archive=archive.path).leading()
    again = backfilled(site, archive)
    assert (again.sequence, again.archive_digest) == (made.sequence, made.archive_digest)
    assert sequences(site.snapshots) == [-1]
    with pytest.raises(Refused, match="cannot come before it any more"):
        backfilled(site, archive, until_us=now_us())
    first.leave()
    assert [type(each) for _, each in site.entries()].count(JournalBegun) == 1


def test_a_scorer_that_starts_while_the_leader_leaves_takes_its_snapshot_or_an_older_one(site, monkeypatch):
    leader = site.scorer().leading()
    site.pay(100)
    site.answered()

    def while_it_leaves(*given):
        monkeypatch.undo()
        site.pay(50)
        site.answered()
        leader.leave()
        return end_offsets(*given)

    monkeypatch.setattr(scorer, "end_offsets", while_it_leaves)
    second = site.scorer().leading()
    site.pay(1)
    assert len(decisions(site.answered())) == 151
    second.leave()


def test_prepared_histories_that_were_pruned_never_block_a_start(site):
    site.client.declarations = {2: WIDER}
    leader = site.scorer().leading()
    site.pay(100)
    site.answered()

    def prepared():
        return prepare(
            site.bootstrap, site.journal, site.snapshots, WIDER,
            archive=None, until_us=None, remembered=1_000_000, tell=lambda _rows: None,
        ).sequence  # fmt: skip

    prepared()
    site.publish(Assignment(version="wider", decides=2))
    entries = site.answered()
    (assigned,) = [n for n, each in entries if isinstance(each, AssignmentApplied) and each.assignment]
    for _ in range(2):
        site.pay(50)
        site.answered()
        prepared()
    assert min(sequences(folder_of(site.snapshots, WIDER))) > assigned, "what was prepared before it is pruned"
    leader.crash()
    site.scorer().leading().crash()
    shutil.rmtree(folder_of(site.snapshots, WIDER))
    again = site.scorer().leading()
    site.pay(10)
    assert len(decisions(site.answered())) == 210
    again.leave()


def test_a_live_leader_does_not_stand_still_for_a_history_that_is_not_prepared(site):
    site.client.declarations = {2: WIDER}
    leader = site.scorer().leading()
    site.pay(20)
    site.answered()
    site.publish(Assignment(version="wider", decides=2))
    rejected = site.answered()[-1][1]
    assert "run `plumbline prepare`" in rejected.error
    leader.leave()


def test_the_number_of_remembered_ids_is_what_the_journal_says_whatever_the_settings(kafka, topic_prefix, tmp_path):
    site = Installation(kafka.bootstrap, topic_prefix, tmp_path, partitions=1)
    first = site.scorer(remembered_transactions=1024, remembered_days=0).leading()
    site.pay(1500)
    site.answered()
    site.pay(1, first=0)  # forgotten, and so decided again
    entries = site.answered()
    assert len(decisions(entries)) == 1501
    first.crash()
    second = site.scorer(remembered_transactions=4096).leading()
    assert kinds(site.entries())[-1] is MemoryChanged
    site.pay(1, first=1)
    site.answered()
    second.crash()
    third = site.scorer(remembered_transactions=1024).leading()
    site.pay(1, first=1)
    entries = site.answered()
    assert kinds(entries)[-1].__name__ == "Conflict", "4,096 stay remembered, though the setting is smaller again"
    third.leave()
    state = State(Known(7))
    state.fold(entries)
    assert (state.known.limit, len(state.known)) == (4096, 1025)
    site.close()


def test_the_memory_grows_before_an_id_is_forgotten_that_is_younger_than_the_days(site):
    first = site.scorer(remembered_transactions=1024, remembered_most=3000, batch_max_transactions=100).leading()
    site.pay(2500)
    entries = site.answered()
    assert [each.remembered for _, each in entries if isinstance(each, MemoryChanged)] == [2048, 3000]
    site.pay(1, first=0)
    assert kinds(site.answered())[-1].__name__ == "Conflict"
    site.pay(1000)
    assert len(decisions(site.answered())) == 3500
    assert first.metrics.registry.get_sample_value("plumbline_older_than_memory_total") in (None, 0.0)
    site.pay(1, occurred_at=now_us() - 100 * DAY_US)
    site.answered()
    first.leave()
    assert first.metrics.registry.get_sample_value("plumbline_older_than_memory_total") == 1
    state = State(Known(7))
    state.fold(site.entries())
    assert len(state.known) == 3000


def test_a_journal_that_was_cut_short_or_created_again_is_loud(site, monkeypatch):
    site.scorer().leading().leave()
    state = newest(site.snapshots, 1000)[0]
    shutil.rmtree(site.snapshots)
    write(site.snapshots, freeze(CaughtUp(replace(state, journal="e" * 64))))
    error = site.scorer().start().ended()
    assert isinstance(error, StateDiverged)
    assert "cut short or created again" in str(error)
    shutil.rmtree(site.snapshots)
    write(site.snapshots, freeze(CaughtUp(replace(state, sequence=10_000))))
    error = site.scorer().start().ended()
    assert isinstance(error, StateDiverged)


def test_a_snapshot_of_an_older_release_is_taken_and_the_journal_says_the_rest_from_then_on(site):
    """Journals without a first entry of their own, as older releases wrote them, go on."""
    site.scorer().leading().leave()
    site.pay(30)
    first = site.scorer().leading()
    entries = site.answered()
    first.crash()
    older = [(n, each) for n, each in entries if not isinstance(each, JournalBegun | SourcesOpened | MemoryChanged)]
    state = State(Known(500))
    state.fold(older)
    assert state.remembered is None
    manifest, arrays = freeze(CaughtUp(state))
    assert {manifest.remembered, manifest.topic_ids, manifest.journal} == {msgspec.UNSET}
    write(site.snapshots, (manifest, arrays))
    found = newest(site.snapshots, 700)[0]
    assert (found.known.limit, found.remembered, found.topic_ids) == (700, None, {})
