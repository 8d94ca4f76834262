"""Journals for the audit's tests: what a scorer makes of messages, as files or in a real broker; and faults put in."""

import contextlib
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from kafka import TopicPartition

from archive.kept import append, held, nothing_kept, write_manifest
from archive.record import Record
from plumbline.decision import Decision
from plumbline.journal import Conflict, ControlApplied, Entry, LabelApplied, encode
from plumbline.policy import Policy
from streaming.batch import Message, process
from streaming.kafka import idempotent_producer
from streaming.state import State
from streaming.topics import ensure_topics
from tests.fakes import NOW, Numbered, payment, raw, told
from tests.journal_writer import JournalWriter

POLICY = Policy(version="audited", review_at=0.3, decline_at=0.6)
PREFIX = "bank."


@dataclass(frozen=True)
class Recorded:
    """A journal's entries, and every message that was sent, by topic and offset."""

    prefix: str
    entries: list[Entry]
    messages: dict[tuple[str, int], bytes]

    def at(self, kind: type) -> list[int]:
        """Where the entries of a kind are."""
        return [n for n, each in enumerate(self.entries) if isinstance(each, kind)]

    def with_entry(self, at: int, **changes: object) -> "Recorded":
        """The same with one entry changed."""
        return self.with_entries({at: msgspec.structs.replace(self.entries[at], **changes)})

    def with_entries(self, changed: dict[int, Entry]) -> "Recorded":
        """The same with some entries exchanged."""
        return replace(self, entries=[changed.get(n, each) for n, each in enumerate(self.entries)])

    def without_entry(self, at: int) -> "Recorded":
        """The same with one entry taken away; its message stays."""
        return replace(self, entries=[each for n, each in enumerate(self.entries) if n != at])

    def without_messages(self) -> "Recorded":
        """The same when nobody keeps the messages any longer."""
        return replace(self, messages={})


def decided(state: State, model, batches, prefix: str = PREFIX, policy: Policy = POLICY) -> Recorded:
    """What a scorer journals for batches of (transactions, labels), each a list of raw messages."""
    topics = {name: Numbered(f"{prefix}{name}") for name in ("transactions", "labels")}
    messages: dict[tuple[str, int], bytes] = {}

    def numbered(name: str, each: bytes) -> Message:
        message = topics[name].message(each)
        messages[message.source.topic, message.source.offset] = each
        return message

    state.policy = policy
    entries: list[Entry] = [ControlApplied(policy=policy, source=None, journaled_at=NOW)]
    for paid, said in batches:
        entries += process(
            state,
            model,
            transaction=[numbered("transactions", each) for each in paid],
            label=[numbered("labels", each) for each in said],
            now_us=NOW,
        ).entries
    return Recorded(prefix, entries, messages)


def small_stream(count: int):
    """Batches of payments, some of them bad or repeated, with labels of several kinds now and then."""
    for begin in range(0, count, 50):
        paid = [raw(payment(n)) for n in range(begin, begin + 50)]
        said = [
            raw(told(begin, begin - 20)),
            raw(told(begin + 1, begin - 20)),
            raw(told(begin + 2, begin - 10, "genuine")),
        ]
        again = raw(payment(begin + 5, amount_minor=9))
        yield [*paid, paid[3], again, b"not a payment"], [*said, b"no label"] if begin else [raw(told(0, 10**6))]


def records(of: Recorded, at_ms: int = NOW // 1000, step_ms: int = 1000) -> list[Record]:
    """The records that a reader gives, one a sequence number, appended a step apart."""
    found: list[Record] = []
    taken: dict[str, int] = {}
    for sequence, entry in enumerate(of.entries):
        appended, source = at_ms + sequence * step_ms, entry.source
        if source is None:
            found.append(Record(sequence, appended, encode(entry)))
            continue
        found += [
            Record(sequence, appended, None, source.topic, 0, offset, lost, "here")
            for offset in range(taken.get(source.topic, 0), source.offset)
            if (lost := of.messages.get((source.topic, offset))) is not None
        ]
        taken[source.topic] = max(taken.get(source.topic, 0), source.offset + 1)
        message = of.messages.get((source.topic, source.offset))
        state = "here" if message is not None else "never" if of.messages else "gone"
        found.append(
            Record(sequence, appended, encode(entry), source.topic, source.partition, source.offset, message, state)
        )
    return found


def keep_in(folder: Path, of: Recorded, archive: tuple[str, int | None] = ("", None), blocks: int = 3) -> Path:
    """The journal as a kept one, in several blocks."""
    rows = records(of)
    with held(folder):
        kept = nothing_kept(of.prefix, *archive)
        write_manifest(folder, kept)
        edges = sorted({len(of.entries) * n // blocks for n in range(blocks + 1)})
        for first, stop in itertools.pairwise(edges):
            part = [each for each in rows if first <= each.sequence < stop]
            kept = append(folder, kept, first, stop, [each for each in (part[:7], part[7:]) if each])
    return folder


def write_to_kafka(bootstrap: str, of: Recorded) -> None:
    """The messages in their topics and the entries in the journal, as a scorer would leave them."""
    ensure_topics(bootstrap, of.prefix, 1)
    producer = idempotent_producer(bootstrap, linger_ms=5)
    for (topic, _), each in sorted(of.messages.items()):
        producer.send(topic, each, partition=0)
    producer.flush()
    producer.close()
    with contextlib.closing(JournalWriter(bootstrap, of.prefix)) as writer:
        writer.write(of.entries)


def account_of(entry: Entry) -> str:
    """The account that an entry is about; empty where it is about none."""
    if isinstance(entry, Decision | Conflict):
        return entry.transaction.account_id
    return entry.account_id if isinstance(entry, LabelApplied) else ""


def partition_of(prefix: str, name: str) -> TopicPartition:
    """A topic's first partition."""
    return TopicPartition(f"{prefix}{name}", 0)
