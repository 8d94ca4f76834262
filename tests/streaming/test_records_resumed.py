"""Readers that pause and resume partitions are given every record in the end."""

from contextlib import closing

from kafka import TopicPartition

from streaming.kafka import close_producer, idempotent_producer, reader, resume
from streaming.topics import ensure_topics

RECORDS = 600


def test_what_was_fetched_before_a_pause_is_given_out_after_it(kafka, topic_prefix):
    """The library alone gives nothing more of a partition that was paused in the middle of a fetch."""
    ensure_topics(kafka.bootstrap, topic_prefix, 2)
    halves = [TopicPartition(f"{topic_prefix}transactions", number) for number in range(2)]
    producer = idempotent_producer(kafka.bootstrap)
    for number in range(RECORDS):
        for half in halves:
            producer.send(half.topic, b"%d" % number, partition=half.partition)
    producer.flush()
    close_producer(producer, 5)

    given = {half: [] for half in halves}
    with closing(reader(kafka.bootstrap, halves)) as consumer:

        def take(half, until, most):
            """Read one partition so far while the other is paused."""
            consumer.pause(*halves)
            resume(consumer, [half])
            for _ in range(50):
                if len(given[half]) >= until:
                    break
                for partition, records in consumer.poll(timeout_ms=200, max_records=most).items():
                    given[partition] += [each.value for each in records]

        take(halves[0], 100, 100)
        take(halves[1], RECORDS, 2 * RECORDS)
        take(halves[0], RECORDS, 100)
    assert given == {half: [b"%d" % number for number in range(RECORDS)] for half in halves}
