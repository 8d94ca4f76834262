"""The decisions of a part of the journal, by the broker's append time; reading begins there, not at the start."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from kafka import KafkaConsumer, TopicPartition

from plumbline import journal
from plumbline.decision import Decision
from plumbline.names import DAY_MS, Topic
from streaming.kafka import end_offsets, reaching, reader

POLL_MS: Final = 500
CHUNK_ENTRIES: Final = 2048
LAST_OFFSETS: Final = 2048
DECISIONS_MOST: Final = 200_000
"""More than these, and every second, third, ... decision is looked at: shares of so many are known well enough."""


@dataclass(frozen=True, slots=True)
class Window:
    """Append times from `since_ms` to before `until_ms`, and their offsets from `first` to before `stop`."""

    since_ms: int
    until_ms: int
    first: int
    stop: int

    @property
    def every(self) -> int:
        """One entry of so many is looked at."""
        return max(1, -(-(self.stop - self.first) // DECISIONS_MOST))


def find_window(bootstrap: str, prefix: str, since_ms: int | None, until_ms: int | None) -> Window:
    """Where a part of the journal lies; without bounds it is the day that ends with the journal's newest entry.

    since_ms, until_ms: milliseconds since 1970 UTC of the broker's clock. Raises BrokerUnavailable, NotFound.
    """
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    end = end_offsets(bootstrap, [partition.topic])[partition]
    with closing(reader(bootstrap, [partition], most_records=CHUNK_ENTRIES)) as consumer:
        until_ms = _newest_ms(consumer, partition, end) + 1 if until_ms is None else until_ms
        since_ms = until_ms - DAY_MS if since_ms is None else since_ms
        with reaching(bootstrap):
            found = consumer.offsets_for_times({partition: max(since_ms, 0)})[partition]
            after = consumer.offsets_for_times({partition: max(until_ms, 0)})[partition]
    first = end if found is None else min(found.offset, end)
    stop = end if after is None else min(after.offset, end)
    return Window(since_ms, until_ms, first, max(first, stop))


def decisions(bootstrap: str, prefix: str, window: Window) -> Iterator[list[Decision]]:
    """The window's decisions in order, in chunks; of a large window one of every few. Raises BrokerUnavailable."""
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    if window.first >= window.stop:
        return
    with closing(reader(bootstrap, {partition: window.first}, most_records=CHUNK_ENTRIES)) as consumer:
        # Counted, and not told by its offset: transactions' marks may take every second offset.
        number = itertools.count()
        while consumer.position(partition) < window.stop:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                wanted = [each for each in records if each.offset < window.stop and next(number) % window.every == 0]
                entries = [journal.decode(each.value) for each in wanted]
                yield [each for each in entries if isinstance(each, Decision)]


def _newest_ms(consumer: KafkaConsumer, partition: TopicPartition, end: int) -> int:
    """Append time of the newest committed entry; 0 of an empty journal."""
    back, newest = LAST_OFFSETS, 0
    while not newest and end > 0:  # an offset may belong to an aborted entry or to a transaction's mark
        first = max(0, end - back)
        consumer.seek(partition, first)
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                newest = max([newest, *(each.timestamp for each in records)])
        if first == 0:
            break
        back *= 8
    return newest
