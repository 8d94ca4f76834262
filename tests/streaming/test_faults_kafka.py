"""Faults that no random kill is sure to meet: a full disk, snapshots not to be trusted, a leader of the past."""

import contextlib
import resource
import subprocess
import time

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaError

from plumbline import journal
from plumbline.errors import BrokerUnavailable, Fenced
from plumbline.journal import ControlApplied
from plumbline.names import Topic
from plumbline.policy import Policy
from streaming.batch import Batch
from streaming.broker.java import find_java
from streaming.broker.local import LocalBroker
from streaming.journaling import COMMIT_MS, Journaling, begin_term
from streaming.kafka import close_producer, end_offsets, reader, transactional_producer
from streaming.snapshot import read, sequences
from streaming.topics import ensure_topics
from tests.declared_model import declared_models
from tests.fakes import NOW
from tests.scorer_process import check_conserved
from tests.scorer_site import Site
from tests.serving_process import ModelServer, until

pytestmark = pytest.mark.slow

DISK_BYTES = 16 * 2**20
FILE_BYTES = 200_000
"""A limit below a snapshot's size here, and far above that of the logs."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One model server for all of these tests, which leave it alone."""
    folder = tmp_path_factory.mktemp("faults")
    with ModelServer(declared_models(tmp_path_factory), folder / "serve.log") as running:
        running.wait_for("serving")
        yield running


@pytest.fixture
def site(kafka, topic_prefix, server, tmp_path):
    made = Site(kafka.bootstrap, topic_prefix, server.target, tmp_path, snapshot_every_transactions=1000)
    yield made
    made.close()


class SmallDisk:
    """A disk that can be filled up: a file system in memory where we may mount one, else a limit on file sizes."""

    def __init__(self, folder):
        self.folder = folder
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        with contextlib.suppress(OSError):
            self.mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
            return
        self.mounted = False

    def fill(self, pid):
        """Leave no room for another snapshot."""
        if not self.mounted:
            self._usual = resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES, resource.RLIM_INFINITY))
            return
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def make_room(self, pid):
        """Undo `fill`."""
        if self.mounted:
            (self.folder / "filler").unlink()
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, self._usual)

    def close(self):
        """Take the disk away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


def test_with_a_full_disk_scoring_goes_on_and_a_snapshot_is_taken_when_there_is_room(site):
    data = site.folder / "data"
    data.mkdir()
    disk = SmallDisk(data)
    try:
        site.accounts = 10**6
        scorer = site.scorer()
        scorer.wait_for("leading")
        site.pay(2000)
        site.journal.until_answered(site.stream)
        before = until(lambda: sequences(data / "snapshots"))

        disk.fill(scorer.process.pid)
        site.pay(2500)
        site.journal.until_answered(site.stream)
        until(lambda: "no snapshot" in scorer.log.read_text())
        assert "make room or rights there" in scorer.log.read_text()
        assert sequences(data / "snapshots") == before
        site.pay(200)
        site.journal.until_answered(site.stream)
        assert [each["state"] for each in scorer.states] == ["standing by", "leading"], "it led all the time"

        disk.make_room(scorer.process.pid)
        site.pay(2500)
        site.journal.until_answered(site.stream)
        until(lambda: max(sequences(data / "snapshots")) > max(before))
        newest = max(sequences(data / "snapshots"))
        assert read(data / "snapshots" / str(newest), 10_000).sequence == newest
        assert scorer.stop() == 0
        check_conserved(site.journal, site.stream)
    finally:
        site.close()
        disk.close()


def test_snapshots_cut_short_changed_or_of_the_future_are_refused_and_the_journal_rebuilds_them(site):
    folder = site.folder / "data" / "snapshots"

    def snapshots_after(payments):
        """Let a scorer decide, take a snapshot as it leaves, and be gone; where the newest two lie."""
        scorer = site.scorer()
        began = scorer.wait_for("standing by")["sequence"]
        scorer.wait_for("leading")
        site.pay(payments)
        site.journal.until_answered(site.stream)
        assert scorer.stop() == 0
        return began, scorer.log.read_text(), [folder / str(each) for each in sorted(sequences(folder))]

    snapshots_after(1300)
    _, _, (older, newest) = snapshots_after(50)
    (newest / "manifest.json").write_text('{"format": 99, "state": "elsewhere"}')
    good = int(older.name)
    began, log, (older, newest) = snapshots_after(50)
    assert began == good
    assert "has format 99" in log

    state, manifest = newest / "state.npz", older / "manifest.json"
    state.write_bytes(state.read_bytes()[:-1000])
    manifest.write_text(manifest.read_text().replace('"sequence": 1', '"sequence": 2'))
    began, log, _ = snapshots_after(50)
    assert began == -1, "nothing of either was believed"
    assert log.count("snapshot refused") == 2
    check_conserved(site.journal, site.stream)


def test_what_a_fenced_leader_left_in_the_journal_is_seen_by_nobody(site):
    old = transactional_producer(site.bootstrap, f"{site.prefix}plumbline-scorer", 60_000)
    place = TopicPartition(site.prefix + Topic.DECISIONS.value, 0)
    policy = Policy(version="of-the-past", review_at=2.0, decline_at=2.0)
    entry = ControlApplied(policy=policy, source=None, journaled_at=NOW)
    old.begin_transaction()
    old.send(place.topic, journal.encode(entry), partition=0).get(timeout=30)
    old.send(site.prefix + Topic.DEAD_LETTER.value, b"of-the-past", partition=0).get(timeout=30)
    assert end_offsets(site.bootstrap, [place.topic]) == {place: 0}, "an open transaction hides what is behind it"

    site.scorer().wait_for("leading")
    site.pay(300)
    site.journal.until_answered(site.stream)
    with pytest.raises(KafkaError):
        old.commit_transaction()
    old.close(timeout=1)
    site.pay(300)
    site.journal.until_answered(site.stream)
    check_conserved(site.journal, site.stream)

    def values(topic, committed_only):
        """All records of the first partition of a topic, also of those that were aborted when they are asked for."""
        partition = TopicPartition(site.prefix + topic.value, 0)
        end = end_offsets(site.bootstrap, [partition.topic], committed_only=False)[partition]
        found = []
        with contextlib.closing(reader(site.bootstrap, {partition: 0}, committed_only=committed_only)) as consumer:
            while consumer.position(partition) < end:
                found += [each.value for each in consumer.poll(timeout_ms=200).get(partition, [])]
        return found

    for topic in (Topic.DECISIONS, Topic.DEAD_LETTER):
        assert sum(b"of-the-past" in each for each in values(topic, committed_only=False)) == 1
        assert not any(b"of-the-past" in each for each in values(topic, committed_only=True))
    assert all(each.policy_version == "review-all" for each in site.journal.decisions())


@pytest.mark.kafka
def test_a_term_begins_only_where_nothing_is_left_open_in_the_journal(tmp_path):
    """A broker that stood still may have said of a transaction that it ended, and have left it open all the same."""
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    place, letters = TopicPartition("decisions", 0), TopicPartition("transactions.dead-letter", 0)
    entry = journal.encode(ControlApplied(policy=Policy(version="first"), source=None, journaled_at=NOW))
    with LocalBroker(tmp_path / "broker") as broker:
        ensure_topics(broker.bootstrap, "", 1)
        # Of another id, so that nothing but the check can tell: what a leader cannot close, it must not go past.
        left_open = transactional_producer(broker.bootstrap, "another", 60_000)
        left_open.begin_transaction()
        left_open.send(place.topic, entry, partition=0).get(timeout=30)
        producer = transactional_producer(broker.bootstrap, "test", 60_000)
        with pytest.raises(BrokerUnavailable, match="readable up to 0 only"):
            begin_term(broker.bootstrap, producer, place, letters)
        left_open.abort_transaction()
        end = begin_term(broker.bootstrap, producer, place, letters)
        assert end == end_offsets(broker.bootstrap, [place.topic], committed_only=False)[place]

        with contextlib.closing(reader(broker.bootstrap, {place: 0})) as consumer:
            while consumer.position(place) < end:  # over markers alone
                assert not consumer.poll(timeout_ms=200)
        younger = transactional_producer(broker.bootstrap, "test", 60_000)
        with pytest.raises(Fenced):
            begin_term(broker.bootstrap, producer, place, letters)
        for each in (left_open, producer, younger):
            close_producer(each, 1.0)


@pytest.mark.kafka
def test_a_batch_that_a_silent_broker_does_not_take_is_given_up_in_time(tmp_path):
    """It would hold the lease otherwise, and no standby could decide."""
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    with LocalBroker(tmp_path / "broker") as broker:
        ensure_topics(broker.bootstrap, "", 1)
        producer = transactional_producer(broker.bootstrap, "test", 60_000)
        entry = ControlApplied(policy=Policy(version="first"), source=None, journaled_at=NOW)
        with Journaling(producer, TopicPartition("decisions", 0), "transactions.dead-letter") as journaling:
            journaling.begin(Batch(entries=[entry]))
            assert journaling.settle().sequence == 0
            broker.pause()
            begun = time.monotonic()
            journaling.begin(Batch(entries=[entry]))
            with pytest.raises(KafkaError):
                journaling.settle()
        close_producer(producer, 1.0)
        assert time.monotonic() - begun < 2 * COMMIT_MS / 1000
        broker.resume()

        # What became of it is unknown until a new producer of the same id has settled it; then it is all or nothing.
        again = transactional_producer(broker.bootstrap, "test", 60_000)
        end = end_offsets(broker.bootstrap, ["decisions"])[TopicPartition("decisions", 0)]
        with Journaling(again, TopicPartition("decisions", 0), "transactions.dead-letter") as journaling:
            journaling.begin(Batch(entries=[entry]))
            assert journaling.settle().sequence >= end
        close_producer(again, 1.0)
