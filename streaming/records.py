"""The journal's committed records, each with the message that it answers, read from Kafka in one go.

The journal names topic, partition and offset of every message, in rising order for each partition. So the source
topics are read beside it as in a merge: no message is looked up, and what the journal passed over is noticed.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition

from archive.record import MessageState, Record
from plumbline import journal
from plumbline.decision import Decision, Source
from plumbline.errors import JournalRefused, NotFound
from plumbline.journal import opened_in
from plumbline.message import Damaged
from plumbline.names import Topic
from streaming.kafka import end_offsets, partitions, reaching, reader, resume, topic_ids

CHUNK_RECORDS: Final = 20_000
POLL_MS: Final = 500
SOURCES: Final = (Topic.TRANSACTIONS, Topic.LABELS, Topic.CONTROL)

Positions = Mapping[tuple[str, int], int]


class _Claim(msgspec.Struct, frozen=True):
    """Of a journal entry only where its message came from."""

    source: Source | None


_claim = msgspec.json.Decoder(_Claim)


def present_end(bootstrap: str, prefix: str) -> int:
    """The offset after the journal's newest committed entry. Raises BrokerUnavailable, NotFound."""
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    return end_offsets(bootstrap, [partition.topic])[partition]


def require_holds(bootstrap: str, partition: TopicPartition, decided: tuple[int, str] | None) -> None:
    """Raises JournalRefused when the journal does not hold a decision that SQL has stored: then it is another one.

    partition: the journal's; decided: the decision's sequence number and its transaction id; None where SQL has none.
    """
    if decided is None:
        return
    sequence, transaction_id = decided
    entry = None
    if sequence < end_offsets(bootstrap, [partition.topic])[partition]:
        with closing(reader(bootstrap, {partition: sequence}, most_records=1)) as entries:
            while entry is None and entries.position(partition) <= sequence:
                for each in entries.poll(timeout_ms=POLL_MS).get(partition, []):
                    entry = journal.decode(each.value) if each.offset == sequence else each
    if not isinstance(entry, Decision) or entry.transaction.transaction_id != transaction_id:
        raise JournalRefused(
            f"the journal {partition.topic} does not hold the decision on {transaction_id} at {sequence}, where SQL "
            "has it from: it was cut short or created again, or is another installation's; name its database in "
            "PLUMBLINE_DATABASE_URL"
        )


def records(
    bootstrap: str, prefix: str, first: int, stop: int, positions: Positions | None = None
) -> Generator[list[Record], None, None]:
    """Records from sequence `first` to before `stop`, at most `present_end`, in chunks, in order.

    positions: next offset of each source that had an entry before `first`, where that is known. A source that is not
    among them begins at its own beginning; where nothing is known, with the first message that an entry names.
    Raises BrokerUnavailable, JournalRefused for a record that is no entry.
    """
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    with (
        closing(reader(bootstrap, {partition: first}, most_records=CHUNK_RECORDS)) as consumer,
        closing(
            Messages(bootstrap, prefix, positions or {}, from_beginning=first == 0 or positions is not None)
        ) as messages,
    ):
        while consumer.position(partition) < stop:
            for found in consumer.poll(timeout_ms=POLL_MS).values():
                chunk = [each for each in found if each.offset < stop]
                if chunk:
                    yield messages.beside(chunk)


class Messages:
    """The source topics, read as far as the journal asks."""

    def __init__(self, bootstrap: str, prefix: str, positions: Positions, *, from_beginning: bool) -> None:
        self._consumer = reader(bootstrap, [], damaged=True)
        self._compacted = prefix + Topic.CONTROL.value
        with reaching(bootstrap):
            found = [each for topic in SOURCES for each in _partitions(self._consumer, prefix + topic.value)]
            self._beginnings: dict[TopicPartition, int] = self._consumer.beginning_offsets(found) if found else {}
            self._ends: dict[TopicPartition, int] = self._consumer.end_offsets(found) if found else {}
        self._waiting: dict[TopicPartition, deque[Any]] = {each: deque() for each in found}
        self._started: set[TopicPartition] = set()
        self._taken: dict[TopicPartition, int] = {}
        self._ids = topic_ids(self._consumer, [prefix + topic.value for topic in SOURCES])
        self._journaled_ids: dict[str, str] = {}
        self._consumer.assign(found)
        if found:
            self._consumer.pause(*found)
        for each in found:
            known = positions.get((each.topic, each.partition))
            # Every partition needs a position, or the library asks for one at the first poll.
            self._consumer.seek(each, self._beginnings[each])
            if known is not None or from_beginning:
                self._start(each, self._beginnings[each] if known is None else known)

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """Next offset of each source: after the newest message that an entry named."""
        return {(each.topic, each.partition): offset for each, offset in self._taken.items()}

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def beside(self, chunk: Sequence[Any]) -> list[Record]:
        """The journal's records, each with its message; messages passed over stand before the entry that shows it.

        Messages of a topic that was deleted and created again since are gone: its offsets name others now.
        """
        sources = [_source(each) for each in chunk]
        present = self._present(chunk, sources)
        furthest: dict[TopicPartition, int] = {}
        for source, here in zip(sources, present, strict=True):
            if source is not None and here:
                partition = TopicPartition(source.topic, source.partition)
                if partition in self._waiting:
                    if partition not in self._started:
                        self._start(partition, source.offset)
                    furthest[partition] = max(furthest.get(partition, -1), source.offset)
        self._read_to(furthest)
        answered: list[Record] = []
        for each, source, here in zip(chunk, sources, present, strict=True):
            if source is not None and not here:
                lost_with = source.topic, source.partition, source.offset
                answered.append(Record(each.offset, each.timestamp, each.value, *lost_with, None, "gone"))
                continue
            if source is None:
                answered.append(Record(each.offset, each.timestamp, each.value))
                continue
            partition = TopicPartition(source.topic, source.partition)
            topic, number, offset = source.topic, source.partition, source.offset
            waiting = self._waiting.get(partition, deque())
            while waiting and waiting[0].offset < offset:
                lost = waiting.popleft()
                raw = b"" if isinstance(lost.value, Damaged) else lost.value or b""
                answered.append(Record(each.offset, lost.timestamp, None, topic, number, lost.offset, raw, "here"))
            message, state = None, self._absent(partition, offset)
            if waiting and waiting[0].offset == offset:
                message, state = waiting.popleft().value or b"", "here"
                if isinstance(message, Damaged):
                    message, state = None, "gone"
            self._taken[partition] = max(self._taken.get(partition, 0), offset + 1)
            answered.append(Record(each.offset, each.timestamp, each.value, topic, number, offset, message, state))
        return answered

    def _present(self, chunk: Sequence[Any], sources: Sequence[Source | None]) -> list[bool]:
        """Whether each record's message is of a topic that is still there, by the ids that the journal holds."""
        found = []
        for each, source in zip(chunk, sources, strict=True):
            for opened in opened_in(each.value):
                self._journaled_ids[opened.topic] = opened.topic_id
            journaled = "" if source is None else self._journaled_ids.get(source.topic, "")
            found.append(not journaled or self._ids.get(source.topic if source else "", "") in ("", journaled))
        return found

    def _absent(self, partition: TopicPartition, offset: int) -> MessageState:
        """Why a message is not there: a compacted topic may forget any, the others only their oldest."""
        beginning = self._beginnings.get(partition)
        return "gone" if beginning is None or offset < beginning or partition.topic == self._compacted else "never"

    def _start(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(partition, max(offset, self._beginnings[partition]))
        self._started.add(partition)

    def _read_to(self, furthest: Mapping[TopicPartition, int]) -> None:
        """Read until every partition's position lies after the offset given, or at the partition's end."""

        def behind() -> list[TopicPartition]:
            return [
                each
                for each, offset in furthest.items()
                if self._consumer.position(each) < min(offset + 1, self._ends[each])
            ]

        while wanted := behind():
            resume(self._consumer, wanted)
            for partition, found in self._consumer.poll(timeout_ms=POLL_MS, max_records=CHUNK_RECORDS).items():
                self._waiting[partition].extend(found)
            self._consumer.pause(*wanted)


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    try:
        return partitions(consumer, topic)
    except NotFound:
        return []  # then nobody keeps its messages


def _source(record: Any) -> Source | None:
    try:
        return _claim.decode(record.value or b"").source
    except msgspec.MsgspecError as error:
        raise JournalRefused(f"journal entry {record.offset} cannot be read ({error}): it is none of ours") from error
