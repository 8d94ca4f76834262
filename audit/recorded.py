"""The journal that is audited: where its records come from, and the entries alone for whoever needs no more."""

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol

from kafka import TopicPartition

from archive.record import Record
from plumbline import journal
from plumbline.journal import Entry
from plumbline.names import Topic
from streaming.kafka import reader
from streaming.records import CHUNK_RECORDS, POLL_MS, present_end, records

__all__ = ["LiveJournal", "RecordedJournal", "entries", "present_end"]

Numbered = tuple[int, Entry]


class RecordedJournal(Protocol):
    """A journal up to where it ended when the audit began."""

    @property
    def name(self) -> str:
        """Where it is, for the report."""

    @property
    def digest(self) -> str:
        """What stands for all its bytes; empty where nothing does."""

    def chunks(self) -> Iterator[list[Record]]:
        """Its records from the first on, in order, some thousands at a time."""


class LiveJournal:
    """The journal in Kafka; it may grow meanwhile, which is not looked at. Raises BrokerUnavailable, NotFound."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self.end = present_end(bootstrap, prefix)
        self.digest = ""

    @property
    def name(self) -> str:
        """The broker's address and the topic."""
        return f"kafka://{self._bootstrap}/{self._prefix}decisions"

    def chunks(self) -> Iterator[list[Record]]:
        """Its committed records, each with its message while the broker keeps that."""
        return records(self._bootstrap, self._prefix, 0, self.end)


def entries(bootstrap: str, prefix: str, first: int, stop: int | None) -> Iterator[list[Numbered]]:
    """Journal entries from sequence `first` to before `stop` (the present end when None), in chunks, in order.

    stop: at most `present_end`. Raises BrokerUnavailable, and msgspec.ValidationError for a record that is no entry.
    """
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    stop = present_end(bootstrap, prefix) if stop is None else stop
    with closing(reader(bootstrap, {partition: first}, most_records=CHUNK_RECORDS)) as consumer:
        while consumer.position(partition) < stop:
            for found in consumer.poll(timeout_ms=POLL_MS).values():
                chunk = [(each.offset, journal.decode(each.value)) for each in found if each.offset < stop]
                if chunk:
                    yield chunk
