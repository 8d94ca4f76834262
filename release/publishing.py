"""A message on `control` goes to the scorer exactly once, and what became of it is read from the journal.

An assignment's name says what is in it, so whoever finds it on the topic knows that it need not be sent again.
"""

import hashlib
import time
from contextlib import closing
from typing import Final, TypeVar

import msgspec
from kafka import KafkaConsumer, TopicPartition

from plumbline import control, journal
from plumbline.assignment import Assignment
from plumbline.errors import BrokerUnavailable, InvalidControl, Refused
from plumbline.journal import AssignmentApplied, ControlApplied, Rejected
from plumbline.names import Topic
from plumbline.policy import Policy
from streaming.control import publish
from streaming.kafka import end_offsets, reaching, reader

POLL_MS: Final = 100

Kind = TypeVar("Kind", Assignment, Policy)


def named(assignment: Assignment, request: int) -> Assignment:
    """The assignment under a name that is its own: the request's number, and a digest of everything in it."""
    body = msgspec.json.encode(msgspec.structs.replace(assignment, version="unnamed"))
    digest = hashlib.blake2b(body, digest_size=8).hexdigest()
    return msgspec.structs.replace(assignment, version=f"release-{request}-{digest}")


def publish_once(bootstrap: str, prefix: str, assignment: Assignment) -> int:
    """Send an assignment unless it is the newest on the topic already; its offset there. Raises BrokerUnavailable."""
    for offset, newest in messages(bootstrap, prefix, Assignment)[-1:]:
        if newest == assignment:
            return offset
    return publish(bootstrap, prefix, assignment)


def messages(bootstrap: str, prefix: str, kind: type[Kind]) -> list[tuple[int, Kind]]:
    """Messages of a kind on the control topic with their offsets, as far as they are kept; the newest last.

    Raises BrokerUnavailable.
    """
    partition = TopicPartition(prefix + Topic.CONTROL.value, 0)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    found: list[tuple[int, Kind]] = []
    with closing(reader(bootstrap, [partition])) as consumer:
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    try:
                        message = control.parse(record.value)
                    except InvalidControl:
                        continue  # the scorer said so already, in the dead-letter topic
                    if isinstance(message, kind):
                        found.append((record.offset, message))
    return found


def wait_in_force(bootstrap: str, prefix: str, offset: int, seconds: float, what: str = "assignment") -> None:
    """Until the journal says that the control message at an offset came into force; what: to call it in errors.

    Raises Refused with the scorer's reason when it was rejected, BrokerUnavailable when the journal says nothing in
    time: the scorer may be down, and will take it when it is back.
    """
    topic = prefix + Topic.CONTROL.value
    end = time.monotonic() + seconds
    with closing(_journal_since(bootstrap, prefix, _appended_at_ms(bootstrap, topic, offset))) as consumer:
        while True:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    entry = _answer(record.value, topic, offset)
                    if isinstance(entry, Rejected):
                        raise Refused(f"the scorer refused the {what}: {entry.error}")
                    if entry is not None:
                        return
            if time.monotonic() > end:
                raise BrokerUnavailable(
                    f"the {what} is published (offset {offset} of {topic}), and no scorer took it within "
                    f"{seconds:.0f} s: when one runs again, run the same command to go on"
                )


def was_refused(bootstrap: str, prefix: str, offset: int) -> bool:
    """Whether the journal says so far that the control message at an offset was rejected. Raises BrokerUnavailable."""
    topic = prefix + Topic.CONTROL.value
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    with closing(_journal_since(bootstrap, prefix, _appended_at_ms(bootstrap, topic, offset))) as consumer:
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    if (entry := _answer(record.value, topic, offset)) is not None:
                        return isinstance(entry, Rejected)
    return False


def _answer(raw: bytes, topic: str, offset: int) -> AssignmentApplied | ControlApplied | Rejected | None:
    """What a journal record says of a control message; None where it speaks of something else."""
    entry = journal.decode(raw)
    if not isinstance(entry, AssignmentApplied | ControlApplied | Rejected) or entry.source is None:
        return None
    return entry if (entry.source.topic, entry.source.offset) == (topic, offset) else None


def _appended_at_ms(bootstrap: str, topic: str, offset: int) -> int:
    partition = TopicPartition(topic, 0)
    with closing(reader(bootstrap, {partition: offset}, most_records=1)) as consumer:
        while consumer.position(partition) <= offset:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    found: int = record.timestamp
                    return found
    raise Refused(f"offset {offset} of {topic} is gone: a newer one took its place")


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
