"""One contract for the broker in memory and for Apache Kafka: what holds of one holds of the other."""

import threading
import time
from contextlib import closing

import pytest
from kafka import TopicPartition
from kafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError, ProducerFencedError

from plumbline.errors import BrokerUnavailable, NotFound
from plumbline.names import TOPIC_SETTINGS, Topic
from streaming.kafka import (
    administrator,
    close_off,
    close_producer,
    commit,
    end_offsets,
    idempotent_producer,
    partitions,
    reader,
    resume,
    topic_ids,
    transactional_producer,
)
from streaming.lease import Lease
from streaming.topics import ensure_topics
from tests.fake_broker import FakeBroker
from tests.fake_kafka import installed, reached

PATIENCE_SECONDS = 60.0


@pytest.fixture(params=["fake", "real"])
def bootstrap(request, topic_prefix):
    """A broker's address: once in memory, once Apache Kafka, with our topics on it under `topic_prefix`."""
    if request.param == "real":
        address = request.getfixturevalue("kafka").bootstrap
        ensure_topics(address, topic_prefix, 2)
        yield address
        return
    with installed(), reached(FakeBroker()) as address:
        ensure_topics(address, topic_prefix, 2)
        yield address


@pytest.fixture
def journal(topic_prefix):
    return TopicPartition(topic_prefix + Topic.DECISIONS.value, 0)


def send(producer, partition, *values):
    """Send values, and return their offsets once they are acknowledged."""
    sent = [producer.send(partition.topic, each, partition=partition.partition) for each in values]
    return [each.get(timeout=PATIENCE_SECONDS).offset for each in sent]


def test_a_topic_that_is_created_again_has_another_id(bootstrap, topic_prefix):
    def known():
        with closing(reader(bootstrap, [])) as consumer:
            consumer.partitions_for_topic(topic)
            return topic_ids(consumer, [topic])[topic]

    topic = topic_prefix + Topic.LABELS.value
    before = known()
    assert before
    assert known() == before
    with closing(administrator(bootstrap)) as admin:
        admin.delete_topics([topic])
    limit = time.monotonic() + PATIENCE_SECONDS
    while (now := known()) in ("", before):
        assert time.monotonic() < limit
        ensure_topics(bootstrap, topic_prefix, 2)
    assert now != before


def read_to(consumer, partition, end):
    """What the consumer gives of a partition until its position is at an offset."""
    found, limit = [], time.monotonic() + PATIENCE_SECONDS
    while consumer.position(partition) < end:
        assert time.monotonic() < limit
        for records in consumer.poll(timeout_ms=200).values():
            found += [(each.offset, each.value) for each in records]
    return found


def test_offsets_and_positions(bootstrap, journal):
    producer = idempotent_producer(bootstrap)
    assert end_offsets(bootstrap, [journal.topic]) == {journal: 0}
    assert send(producer, journal, b"a", b"b", b"c") == [0, 1, 2]
    assert end_offsets(bootstrap, [journal.topic]) == {journal: 3}
    with closing(reader(bootstrap, [journal])) as consumer:
        assert consumer.position(journal) == 0
        assert consumer.assignment() == {journal}
        assert read_to(consumer, journal, 3) == [(0, b"a"), (1, b"b"), (2, b"c")]
        assert consumer.highwater(journal) == 3
        consumer.seek(journal, 1)
        assert consumer.position(journal) == 1
        assert read_to(consumer, journal, 3) == [(1, b"b"), (2, b"c")]
        assert consumer.beginning_offsets([journal]) == {journal: 0}
        assert consumer.poll(timeout_ms=50) == {}
        assert consumer.position(journal) == 3
    with closing(reader(bootstrap, {journal: 2}, most_records=1)) as consumer:
        assert read_to(consumer, journal, 3) == [(2, b"c")]
    close_producer(producer, 1.0)
    with pytest.raises(IllegalStateError):
        producer.send(journal.topic, b"late", partition=0)


def test_a_poll_gives_no_more_than_it_is_asked_for(bootstrap, journal):
    producer = idempotent_producer(bootstrap)
    send(producer, journal, *(b"%d" % n for n in range(10)))
    with closing(reader(bootstrap, [journal], most_records=4)) as consumer:
        sizes = []
        while consumer.position(journal) < 10:
            sizes += [len(records) for records in consumer.poll(timeout_ms=200).values()]
        assert sum(sizes) == 10
        assert max(sizes) <= 4
        consumer.seek(journal, 0)
        first = {}
        while not first:
            first = consumer.poll(timeout_ms=200, max_records=1)
        assert [each.offset for each in first[journal]] == [0]
    close_producer(producer, 1.0)


def test_records_hold_what_was_sent_and_when_the_broker_took_it(bootstrap, topic_prefix):
    topic = topic_prefix + Topic.TRANSACTIONS.value
    producer = idempotent_producer(bootstrap)
    places = {key: set() for key in (b"a1", b"a2", b"a3", b"a4", b"a5")}
    for key in (*places, *places):
        taken = producer.send(topic, b"v" + key, key=key).get(timeout=PATIENCE_SECONDS)
        places[key].add(taken.partition)
        assert taken.topic == topic
    assert all(len(found) == 1 for found in places.values()), "a key has one partition"
    with closing(reader(bootstrap, [])) as consumer:
        every = partitions(consumer, topic)
        assert every == [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        consumer.assign(every)
        consumer.seek_to_beginning(*every)
        found = []
        while len(found) < 10:
            for records in consumer.poll(timeout_ms=200).values():
                found += records
        assert {(each.key, each.value) for each in found} == {(key, b"v" + key) for key in places}
        assert all(each.partition in places[each.key] and each.timestamp > 10**12 for each in found)
        since = min(each.timestamp for each in found)
        first = consumer.offsets_for_times(dict.fromkeys(every, since))
        assert {each.offset for each in first.values() if each is not None} <= {0}
        assert all(each is None for each in consumer.offsets_for_times(dict.fromkeys(every, since + 10**9)).values())
        with pytest.raises(NotFound, match="no topic"):
            partitions(consumer, topic_prefix + "nothing")
    close_producer(producer, 1.0)


def test_keys_have_the_same_partition_on_both(topic_prefix, kafka):
    def placed(address):
        ensure_topics(address, topic_prefix, 2)
        producer = idempotent_producer(address)
        topic = topic_prefix + Topic.TRANSACTIONS.value
        found = [producer.send(topic, b"v", key=b"a%d" % n).get(timeout=PATIENCE_SECONDS) for n in range(20)]
        close_producer(producer, 1.0)
        return [each.partition for each in found]

    real = placed(kafka.bootstrap)
    with installed(), reached(FakeBroker()) as address:
        assert placed(address) == real


def test_a_paused_partition_gives_nothing_until_it_is_resumed(bootstrap, topic_prefix):
    topic = topic_prefix + Topic.TRANSACTIONS.value
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    producer = idempotent_producer(bootstrap)
    send(producer, one, b"one")
    send(producer, two, b"two")
    with closing(reader(bootstrap, [one, two])) as consumer:
        consumer.pause(two)
        assert read_to(consumer, one, 1) == [(0, b"one")]
        assert consumer.poll(timeout_ms=200) == {}
        resume(consumer, [two])
        assert read_to(consumer, two, 1) == [(0, b"two")]
    close_producer(producer, 1.0)


def test_open_and_aborted_transactions_are_hidden_from_readers_of_committed_records(bootstrap, journal):
    producer = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    producer.begin_transaction()
    assert send(producer, journal, b"a", b"b") == [0, 1]
    assert end_offsets(bootstrap, [journal.topic]) == {journal: 0}, "open"
    assert end_offsets(bootstrap, [journal.topic], committed_only=False) == {journal: 2}
    commit(producer, 10_000)
    end = wait_for_end(bootstrap, journal, 3)
    assert end == 3, "two records and a marker"

    producer.begin_transaction()
    assert send(producer, journal, b"never") == [3]
    producer.abort_transaction()
    producer.begin_transaction()
    assert send(producer, journal, b"c") == [5]
    producer.commit_transaction()
    end = wait_for_end(bootstrap, journal, 7)
    with closing(reader(bootstrap, [journal])) as consumer:
        assert read_to(consumer, journal, end) == [(0, b"a"), (1, b"b"), (5, b"c")], "and over the last marker"
    with closing(reader(bootstrap, [journal], committed_only=False)) as consumer:
        assert read_to(consumer, journal, end) == [(0, b"a"), (1, b"b"), (3, b"never"), (5, b"c")]
    close_producer(producer, 1.0)


def wait_for_end(bootstrap, partition, end):
    """The end of committed records, once it is where it must come to be: markers follow the broker's answer."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while (found := end_offsets(bootstrap, [partition.topic])[partition]) < end:
        assert time.monotonic() < limit
        time.sleep(0.01)
    return found


def test_an_empty_transaction_leaves_a_marker_where_it_was_announced(bootstrap, journal):
    producer = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    close_off(producer, [journal], 10_000)
    assert wait_for_end(bootstrap, journal, 1) == 1
    with closing(reader(bootstrap, [journal])) as consumer:
        assert read_to(consumer, journal, 1) == []
    close_producer(producer, 1.0)


def test_a_new_producer_of_an_id_aborts_what_the_old_one_left_open_and_fences_it(bootstrap, journal):
    old = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    old.begin_transaction()
    send(old, journal, b"of the past")
    new = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    assert wait_for_end(bootstrap, journal, 2) == 2
    with pytest.raises(ProducerFencedError):
        commit(old, 10_000)
    with pytest.raises(KafkaError):
        old.begin_transaction()
    new.begin_transaction()
    assert send(new, journal, b"now") == [2]
    commit(new, 10_000)
    wait_for_end(bootstrap, journal, 4)
    with closing(reader(bootstrap, [journal])) as consumer:
        assert read_to(consumer, journal, 4) == [(2, b"now")]
    for each in (old, new):
        close_producer(each, 1.0)


def test_what_a_fenced_producer_sends_fails(bootstrap, journal):
    old = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    new = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    old.begin_transaction()
    with pytest.raises(KafkaError):
        send(old, journal, b"late")
    with pytest.raises(KafkaError):
        commit(old, 10_000)
    assert end_offsets(bootstrap, [journal.topic], committed_only=False) == {journal: 0}
    for each in (old, new):
        close_producer(each, 1.0)


def test_a_closed_producer_leaves_its_transaction_open(bootstrap, journal):
    producer = transactional_producer(bootstrap, f"{journal.topic}-id", 60_000)
    producer.begin_transaction()
    send(producer, journal, b"open")
    close_producer(producer, 1.0)
    assert end_offsets(bootstrap, [journal.topic]) == {journal: 0}
    assert end_offsets(bootstrap, [journal.topic], committed_only=False) == {journal: 1}


def test_deleted_records_are_out_of_range_and_never_passed_over(bootstrap, journal):
    producer = idempotent_producer(bootstrap)
    send(producer, journal, b"a", b"b", b"c")
    with administrator(bootstrap) as admin:
        admin.delete_records({journal: 2})
    with closing(reader(bootstrap, {journal: 0})) as consumer:
        assert consumer.beginning_offsets([journal]) == {journal: 2}
        with pytest.raises(OffsetOutOfRangeError):
            read_to(consumer, journal, 3)
    with closing(reader(bootstrap, [journal])) as consumer:
        assert read_to(consumer, journal, 3) == [(2, b"c")]
    with closing(reader(bootstrap, {journal: 9})) as consumer, pytest.raises(OffsetOutOfRangeError):
        read_to(consumer, journal, 10)
    close_producer(producer, 1.0)


def test_topics_are_made_once_with_their_settings(bootstrap, topic_prefix):
    again = ensure_topics(bootstrap, topic_prefix, 2)
    assert {(each.name, each.state, each.differences) for each in again} == {
        (topic_prefix + topic.value, "present", ()) for topic in TOPIC_SETTINGS
    }
    other = {each.name: each for each in ensure_topics(bootstrap, topic_prefix, 3)}
    assert other[topic_prefix + "transactions"].state == "different"


def test_the_lease_is_one_members_and_goes_to_the_next_when_it_leaves(bootstrap, topic_prefix):
    with Lease(bootstrap, topic_prefix) as first:
        assert first.wait(PATIENCE_SECONDS)
        second = Lease(bootstrap, topic_prefix)
        with second:
            assert not second.wait(1.0)
            assert first.held, "a newcomer takes nothing away"
            threading.Thread(target=first.__exit__, args=(None, None, None)).start()
            assert second.wait(PATIENCE_SECONDS)
            first._thread.join(PATIENCE_SECONDS)
            assert not first.held


def test_a_topic_that_is_not_there_is_said_to_be_missing(bootstrap, topic_prefix):
    with pytest.raises((NotFound, BrokerUnavailable)):
        end_offsets(bootstrap, [topic_prefix + "nothing"])
