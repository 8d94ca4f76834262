"""A message on `control` goes to the scorer, and what became of it is read from the journal.

The journal's end is taken before a message is sent, and its answer is read from there: an order of calls that `send`
keeps, so that no answer can come between two look-ups and never be seen. An assignment's name says what is in it, so
a reader of the journal knows whose it is.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from kafka import KafkaConsumer, TopicPartition

from plumbline import control, journal
from plumbline.assignment import Assignment
from plumbline.control import Control
from plumbline.errors import BrokerUnavailable, InvalidControl, Refused
from plumbline.journal import AssignmentApplied, ControlApplied, Rejected
from plumbline.names import Topic
from plumbline.policy import FIRST_POLICY, Policy
from streaming.control import publish
from streaming.kafka import end_offsets, reaching, reader

POLL_MS: Final = 100
MOST_RECORDS: Final = 5_000
BEGINNING_ENTRIES: Final = 16
"""A journal's first policy is one of its first entries."""
CLOCKS_APART_MS: Final = 60_000
"""How far the clocks of two brokers may lie apart, or one may be set back, between a message and its entry."""

_KINDS: Final = (b'{"type":"assignment"', b'{"type":"control"', b'{"type":"rejected"')
"""How the entries begin that answer a control message; all others are passed over undecoded."""

Kind = TypeVar("Kind", Assignment, Policy)
ControlAnswer = AssignmentApplied | ControlApplied | Rejected


@dataclass(frozen=True, slots=True)
class Sent:
    """A message on the control topic: its offset there, and the journal's sequence from which its answer can come."""

    offset: int
    since: int


def named(assignment: Assignment, request: int) -> Assignment:
    """The assignment under a name that is its own: the request's number, and a digest of everything in it."""
    body = msgspec.json.encode(msgspec.structs.replace(assignment, version="unnamed"))
    digest = hashlib.blake2b(body, digest_size=8).hexdigest()
    return msgspec.structs.replace(assignment, version=f"release-{request}-{digest}")


def journal_end(bootstrap: str, prefix: str) -> int:
    """The sequence number after the newest that readers of the journal can see. Raises BrokerUnavailable, NotFound."""
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    return end_offsets(bootstrap, [partition.topic])[partition]


def send(bootstrap: str, prefix: str, message: Control) -> Sent:
    """Send an assignment or a policy to the scorer. Raises BrokerUnavailable."""
    since = journal_end(bootstrap, prefix)
    return Sent(publish(bootstrap, prefix, message), since)


def sent_before(bootstrap: str, prefix: str, offset: int) -> Sent:
    """A message that somebody sent earlier, by its offset on the control topic. Raises Refused, BrokerUnavailable."""
    end = journal_end(bootstrap, prefix)  # first: what is appended from now on lies behind it
    appended_at_ms = _appended_at_ms(bootstrap, prefix + Topic.CONTROL.value, offset)
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    with closing(reader(bootstrap, [partition])) as consumer, reaching(bootstrap):
        found = consumer.offsets_for_times({partition: max(0, appended_at_ms - CLOCKS_APART_MS)})[partition]
    return Sent(offset, end if found is None else min(end, found.offset))


def messages(bootstrap: str, prefix: str, kind: type[Kind]) -> list[tuple[int, Kind]]:
    """Messages of a kind on the control topic with their offsets, as far as they are kept; the newest last.

    Raises BrokerUnavailable.
    """
    partition = TopicPartition(prefix + Topic.CONTROL.value, 0)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    found: list[tuple[int, Kind]] = []
    with closing(reader(bootstrap, [partition], damaged=True)) as consumer, reaching(bootstrap):
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    try:
                        message = control.parse(record.value or b"")
                    except InvalidControl:
                        continue  # the scorer said so already, in the dead-letter topic
                    if isinstance(message, kind):
                        found.append((record.offset, message))
    return found


def wait_in_force(bootstrap: str, prefix: str, sent: Sent, seconds: float, what: str = "assignment") -> None:
    """Until the journal says that a control message came into force; what: to call it in errors.

    Raises Refused with the scorer's reason when it was rejected, BrokerUnavailable when the journal says nothing in
    time: the scorer may be down, and will take it when it is back.
    """
    entry = answer(bootstrap, prefix, sent, seconds)
    if isinstance(entry, Rejected):
        raise Refused(f"the scorer refused the {what}: {entry.error}")
    if entry is None:
        raise BrokerUnavailable(
            f"the {what} is published (offset {sent.offset} of {prefix}{Topic.CONTROL.value}), and no scorer took it "
            f"within {seconds:.0f} s: when one runs again, run the same command to go on"
        )


def answer(bootstrap: str, prefix: str, sent: Sent, seconds: float = 0.0) -> ControlAnswer | None:
    """The journal's entry on a control message; None where there is none so far, after waiting so long for one.

    Raises BrokerUnavailable.
    """
    topic = prefix + Topic.CONTROL.value
    until = time.monotonic() + seconds
    end = journal_end(bootstrap, prefix)
    with closing(_journal(bootstrap, prefix, sent.since)) as consumer, reaching(bootstrap):
        while True:
            for _, entry in _answers(consumer, topic):
                if entry.source is not None and entry.source.offset == sent.offset:
                    return entry
            if consumer.position(next(iter(consumer.assignment()))) >= end and time.monotonic() >= until:
                return None


def was_refused(bootstrap: str, prefix: str, offset: int) -> bool:
    """Whether the journal says so far that the control message at an offset was rejected. Raises as `sent_before`."""
    return isinstance(answer(bootstrap, prefix, sent_before(bootstrap, prefix, offset)), Rejected)


def first_policy(bootstrap: str, prefix: str) -> Policy:
    """The policy that the journal began with, or will begin with where it is empty. Raises BrokerUnavailable."""
    end = min(journal_end(bootstrap, prefix), BEGINNING_ENTRIES)
    answers = answers_between(bootstrap, prefix, 0, end)
    return next((entry.policy for _, entry in answers if isinstance(entry, ControlApplied)), FIRST_POLICY)


def answers_between(bootstrap: str, prefix: str, first: int, end: int) -> list[tuple[int, ControlAnswer]]:
    """Every answer to a control message in the journal from sequence `first` to before `end`, and what a first start
    brought along, each with its sequence number. Raises BrokerUnavailable.
    """
    found: list[tuple[int, ControlAnswer]] = []
    if first >= end:
        return found
    with closing(_journal(bootstrap, prefix, first)) as consumer, reaching(bootstrap):
        partition = next(iter(consumer.assignment()))
        while consumer.position(partition) < end:
            found += [each for each in _answers(consumer, prefix + Topic.CONTROL.value) if each[0] < end]
    return found


def _journal(bootstrap: str, prefix: str, first: int) -> KafkaConsumer:
    return reader(bootstrap, {TopicPartition(prefix + Topic.DECISIONS.value, 0): first}, most_records=MOST_RECORDS)


def _answers(consumer: KafkaConsumer, topic: str) -> Iterator[tuple[int, ControlAnswer]]:
    """What the journal's reader has next of control messages; topic: the control topic's name."""
    for records in consumer.poll(timeout_ms=POLL_MS).values():
        for record in records:
            if record.value.startswith(_KINDS):
                entry = journal.decode(record.value)
                assert isinstance(entry, ControlAnswer)
                if entry.source is None or entry.source.topic == topic:
                    yield record.offset, entry


def _appended_at_ms(bootstrap: str, topic: str, offset: int) -> int:
    partition = TopicPartition(topic, 0)
    with closing(reader(bootstrap, {partition: offset}, most_records=1)) as consumer, reaching(bootstrap):
        while consumer.position(partition) <= offset:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    found: int = record.timestamp
                    return found
    raise Refused(f"offset {offset} of {topic} is gone: a newer one took its place")
