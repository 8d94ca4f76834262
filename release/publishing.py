"""An assignment goes to the scorer exactly once, and what became of it is read from the journal.

Its name says what is in it, so whoever finds it on the `control` topic knows that it need not be sent again.
"""

import hashlib
import time
from contextlib import closing
from typing import Final

import msgspec
from kafka import KafkaConsumer, TopicPartition

from plumbline import control, journal
from plumbline.assignment import Assignment
from plumbline.errors import BrokerUnavailable, InvalidControl, Refused
from plumbline.journal import AssignmentApplied, Rejected
from plumbline.names import Topic
from streaming.control import publish
from streaming.kafka import end_offsets, reaching, reader

POLL_MS: Final = 100


def named(assignment: Assignment, request: int) -> Assignment:
    """The assignment under a name that is its own: the request's number, and a digest of everything in it."""
    body = msgspec.json.encode(msgspec.structs.replace(assignment, version="unnamed"))
    digest = hashlib.blake2b(body, digest_size=8).hexdigest()
    return msgspec.structs.replace(assignment, version=f"release-{request}-{digest}")


def publish_once(bootstrap: str, prefix: str, assignment: Assignment) -> int:
    """Send an assignment unless it is the newest on the topic already; its offset there. Raises BrokerUnavailable."""
    newest = newest_assignment(bootstrap, prefix)
    if newest is not None and newest[1] == assignment:
        return newest[0]
    return publish(bootstrap, prefix, assignment)


def newest_assignment(bootstrap: str, prefix: str) -> tuple[int, Assignment] | None:
    """The newest assignment on the control topic and its offset; None where there is none. Raises BrokerUnavailable."""
    partition = TopicPartition(prefix + Topic.CONTROL.value, 0)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    found: tuple[int, Assignment] | None = None
    with closing(reader(bootstrap, [partition])) as consumer:
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    try:
                        message = control.parse(record.value)
                    except InvalidControl:
                        continue  # the scorer said so already, in the dead-letter topic
                    if isinstance(message, Assignment):
                        found = record.offset, message
    return found


def wait_in_force(bootstrap: str, prefix: str, offset: int, seconds: float) -> None:
    """Until the journal says that the control message at an offset came into force.

    Raises Refused with the scorer's reason when it was rejected, BrokerUnavailable when the journal says nothing in
    time: the scorer may be down, and will take it when it is back.
    """
    topic = prefix + Topic.CONTROL.value
    end = time.monotonic() + seconds
    with closing(_journal_since(bootstrap, prefix, _appended_at_ms(bootstrap, topic, offset))) as consumer:
        while True:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    entry = journal.decode(record.value)
                    if not isinstance(entry, AssignmentApplied | Rejected) or entry.source is None:
                        continue
                    if (entry.source.topic, entry.source.offset) == (topic, offset):
                        if isinstance(entry, Rejected):
                            raise Refused(f"the scorer refused the assignment: {entry.error}")
                        return
            if time.monotonic() > end:
                raise BrokerUnavailable(
                    f"the assignment is published (offset {offset} of {topic}), and no scorer took it within "
                    f"{seconds:.0f} s: when one runs again, run the same command to go on"
                )


def _appended_at_ms(bootstrap: str, topic: str, offset: int) -> int:
    partition = TopicPartition(topic, 0)
    with closing(reader(bootstrap, {partition: offset}, most_records=1)) as consumer:
        while consumer.position(partition) <= offset:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    found: int = record.timestamp
                    return found
    raise Refused(f"offset {offset} of {topic} is gone: a newer assignment took its place")


def _journal_since(bootstrap: str, prefix: str, since_ms: int) -> KafkaConsumer:
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    consumer = reader(bootstrap, [partition], most_records=2048)
    with reaching(bootstrap):
        # The journal's entry on a message is appended after the message, by the same broker's clock.
        found = consumer.offsets_for_times({partition: since_ms})[partition]
        consumer.seek(
            partition, end_offsets(bootstrap, [partition.topic])[partition] if found is None else found.offset
        )
    return consumer
