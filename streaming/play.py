"""Plays arrivals into the topics, in their order, at a chosen pace: what the payment platform does in production.

A label is acknowledged before any later transaction is sent, so nothing that follows it can be read ahead of it.
A message that comes before a label may still wait in its topic when the label is read; `in_step` also rules that out,
by waiting for the journal at every change between transactions and labels: the journal then has the archive's order.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from archive.manifest import ARRIVAL
from plumbline.errors import BrokerUnavailable, Refused
from plumbline.names import Topic
from plumbline.times import AHEAD_MAX_US, ANY_AGE_DAYS, DAY_US, SECOND_US
from streaming.follow import JournalFollower
from streaming.kafka import DELIVERY_MS, close_producer, end_offsets, idempotent_producer
from streaming.replay import Message, messages, require_suffix

UNACKNOWLEDGED_MAX: Final = 20_000
REPORT_EVERY: Final = 500
PART_TOPIC: Final[dict[str, Topic]] = {"transactions": Topic.TRANSACTIONS, "labels": Topic.LABELS}

LOOK_AGAIN_SECONDS: Final = 1.0
"""The longest wait between two looks at what is due: the clock may be set meanwhile."""

Due = Callable[[int, int], float]
"""(messages sent so far, time of arrival in microseconds) -> seconds after the start at which to send."""


@dataclass(frozen=True, slots=True)
class Played:
    """What was sent and acknowledged; `next_sequence` is where a later `play` goes on."""

    transactions: int
    labels: int
    next_sequence: int | None
    seconds: float
    complete: bool


class Arrivals(Protocol):
    """What can be played: an archive, or a simulated bank without an end."""

    def arrivals(
        self, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Runs of "transactions" or "labels" in order of arrival, ascending by `sequence`."""
        ...


class Progress(Protocol):
    """Told, every few hundred messages, how many more were sent and the archive's time reached (microseconds)."""

    def __call__(self, sent: int, arrived_at: int) -> None: ...


def unpaced() -> Due:
    """As fast as the broker takes it."""
    return lambda _sent, _at: 0.0


def per_second(rate: float) -> Due:
    """So many messages a second, evenly.

    >>> per_second(50.0)(10, 0)
    0.2
    """
    return lambda sent, _at: sent / rate


def time_lapse(factor: float, first_us: int) -> Due:
    """The archive's own rhythm, faster by a factor: 60 plays an hour in a minute.

    >>> time_lapse(60.0, 0)(1, 3_600_000_000)
    60.0
    """
    return lambda _sent, at: (at - first_us) / SECOND_US / factor


def real_time(rate: float, now_us: Callable[[], int], elapsed: Callable[[], float]) -> Due:
    """So many messages a second while they lie in the past, and each at its own time from then on.

    now_us: our clock, microseconds since 1970 UTC; elapsed: seconds since the start.

    >>> due = real_time(50.0, lambda: 60_000_000, lambda: 0.5)
    >>> due(10, 0), due(10, 60_000_000), due(10, 65_000_000)
    (0.2, 0.5, 5.5)
    """
    return lambda sent, at: max(sent / rate, elapsed() + (at - now_us()) / SECOND_US)


def extent(
    archive: Arrivals, since_us: int | None, until_us: int | None, from_sequence: int | None, with_labels: bool
) -> tuple[int, int]:
    """How many messages a `play` of this range sends, and when the first of them arrived (0 when there is none)."""
    total, first_us = 0, 0
    for part, batch in archive.arrivals(since_us, until_us):
        rows = _wanted(part, batch, from_sequence, with_labels)
        if rows.num_rows and total == 0:
            first_us = rows.column(ARRIVAL[part])[0].as_py()
        total += rows.num_rows
    return total, first_us


def play(
    source: Arrivals,
    bootstrap: str,
    prefix: str,
    *,
    due: Due,
    stop: threading.Event,
    now_us: Callable[[], int],
    since_us: int | None = None,
    until_us: int | None = None,
    from_sequence: int | None = None,
    with_labels: bool = True,
    shift_us: int = 0,
    id_suffix: str = "",
    in_step: bool = False,
    progress: Progress | None = None,
    max_age_days: int = ANY_AGE_DAYS,
) -> Played:
    """Sends rows in order of arrival and returns when every one of them is acknowledged.

    since_us, until_us: half-open range of arrival times, before the shift; from_sequence: leave out earlier rows;
    stop: when set, what was sent is still waited for; now_us: our clock, microseconds since 1970 UTC.
    Raises BrokerUnavailable when a message was not acknowledged within a minute (with the sequence to go on from),
    NotFound when a topic is missing, Refused when a shifted time lies more than a day ahead, or more than
    `max_age_days` back, since the scorer would refuse both.
    """
    require_suffix(id_suffix)
    names = {part: prefix + topic.value for part, topic in PART_TOPIC.items()}
    ends = end_offsets(bootstrap, list(names.values()))
    with ExitStack() as resources:
        follower = JournalFollower(bootstrap, prefix) if in_step else None
        if follower is not None:
            resources.callback(follower.close)
        producer = idempotent_producer(bootstrap, linger_ms=0 if in_step else 2)
        resources.callback(close_producer, producer, 1.0)
        sender = _Sender(producer, names, {partition.topic for partition in ends if partition.partition > 0})
        started = time.monotonic()
        for part, batch in source.arrivals(since_us, until_us):
            rows = _wanted(part, batch, from_sequence, with_labels)
            for message in messages(part, rows, shift_us, id_suffix):
                while (delay := started + due(sender.sent, message.arrived_at - shift_us) - time.monotonic()) > 0:
                    if stop.wait(min(delay, LOOK_AGAIN_SECONDS)):
                        break
                if stop.is_set():
                    break
                _require_near(message, now_us, max_age_days)
                sender.send(part, message)
                if progress is not None and sender.sent % REPORT_EVERY == 0:
                    progress(REPORT_EVERY, message.arrived_at)
            if part == "labels" or follower is not None:
                newest = sender.settle()
                if follower is not None:
                    for partition, offset in newest.items():
                        follower.wait_for(partition, offset, stop)
            if stop.is_set():
                break
        sender.settle()
        if progress is not None:
            progress(sender.sent % REPORT_EVERY, sender.arrived_at)
        return Played(
            transactions=sender.counts["transactions"],
            labels=sender.counts["labels"],
            next_sequence=sender.next_sequence,
            seconds=time.monotonic() - started,
            complete=not stop.is_set(),
        )


def _wanted(part: str, batch: pa.RecordBatch, from_sequence: int | None, with_labels: bool) -> pa.RecordBatch:
    if part == "labels" and not with_labels:
        return batch.slice(0, 0)
    if from_sequence is None:
        return batch
    return batch.slice(int(np.searchsorted(batch.column("sequence").to_numpy(), from_sequence)))


def _require_near(message: Message, now_us: Callable[[], int], max_age_days: int) -> None:
    if message.arrived_at < now_us() - max_age_days * DAY_US:
        raise Refused(
            f"sequence {message.sequence} is more than {max_age_days} days old, and the scorer would refuse it: play "
            "with --shift-to-now, or raise PLUMBLINE_MESSAGE_MAX_AGE_DAYS for the scorer and here"
        )
    if message.arrived_at > now_us() + AHEAD_MAX_US:
        raise Refused(
            f"sequence {message.sequence} would be sent more than a day ahead of the clock, and the scorer would "
            "refuse it: play a shorter range, or at a slower pace, when times are shifted to now"
        )


class _Sender:
    """Sends messages and keeps those that are not yet acknowledged; at most 20,000 of them."""

    def __init__(self, producer: KafkaProducer, names: dict[str, str], many: set[str]) -> None:
        """many: the topics with more than one partition, whose partition the library must work out from the key."""
        self._producer = producer
        self._names = names
        self._partition: dict[str, int | None] = {part: None if name in many else 0 for part, name in names.items()}
        self._waiting: deque[tuple[int, Any]] = deque()
        self._newest: dict[TopicPartition, int] = {}
        self.counts: dict[str, int] = {"transactions": 0, "labels": 0}
        self.sent = 0
        self.next_sequence: int | None = None
        self.arrived_at = 0

    def send(self, part: str, message: Message) -> None:
        if len(self._waiting) >= UNACKNOWLEDGED_MAX:
            self._acknowledge(UNACKNOWLEDGED_MAX // 2)
        future = self._producer.send(self._names[part], message.value, message.key, partition=self._partition[part])
        self._waiting.append((message.sequence, future))
        self.counts[part] += 1
        self.sent += 1
        self.next_sequence = message.sequence + 1
        self.arrived_at = message.arrived_at

    def settle(self) -> dict[TopicPartition, int]:
        """Waits until everything sent is acknowledged; the newest offset of each partition since the last call."""
        self._acknowledge(0)
        newest, self._newest = self._newest, {}
        return newest

    def _acknowledge(self, left: int) -> None:
        while len(self._waiting) > left:
            sequence, future = self._waiting[0]
            try:
                written = future.value if future.is_done and future.exception is None else future.get(DELIVERY_MS / 500)
            except KafkaError as error:
                raise BrokerUnavailable(
                    f"{self.sent - len(self._waiting)} of {self.sent} messages are acknowledged, and then Kafka did "
                    f"not answer ({error}): start it again and go on with --from-sequence {sequence}"
                ) from error
            self._newest[written.topic_partition] = written.offset
            self._waiting.popleft()
