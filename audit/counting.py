"""Conservation counted where the messages are: the sources' offsets, the journal, the dead letters, and SQL's rows.

The order makes the counts comparable while everything runs: first the sources' ends, then the journal up to its end,
then the sources' ends again. What the sources held at first and the journal does not hold by then is on its way; what
came later is judged as far as the journal has answered it. Memory is bounded: of messages that are not yet settled only
their places are kept, and of the journal one block for each 10,000 entries that the ledger has not stored.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from threading import Event
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from kafka import KafkaConsumer, TopicPartition

from audit.conservation import (
    ANSWERED,
    KINDS,
    Equation,
    Gap,
    Letters,
    Seen,
    Stored,
    Tally,
    Waiting,
    equations,
    imbalance,
    judged_until,
    kinds_of,
)
from audit.provenance import named, tag
from audit.waiting import Ages
from plumbline.clock import MonotonicClock, monotonic
from plumbline.decision import Decision, Source
from plumbline.errors import Unready
from plumbline.journal import ControlApplied, Entry, Opened, SourcesOpened
from plumbline.message import Damaged
from plumbline.names import Topic
from store.engine import transaction
from store.watch import ledger_sequence, rows_between, sequences_between, stored_before
from streaming.kafka import end_offsets, partitions, reaching, reader

BLOCK_ENTRIES: Final = 10_000
COUNTED_MOST: Final = 2_000
"""Messages on their way are counted one by one up to this many places; beyond it a place counts as a message."""

POLL_MS: Final = 200
SILENT_POLLS: Final = 50
SETTLING_TRIES: Final = 20
SETTLING_SECONDS: Final = 0.1
"""How often, and after which pauses, one count looks for the other half of a dead letter before it says it is lost."""

SOURCES: Final = (Topic.TRANSACTIONS, Topic.LABELS, Topic.CONTROL)

Place = tuple[str, int, int]


class Head(msgspec.Struct):
    """Of a journal entry, what is counted; the rest is skipped unread."""

    class LabelId(msgspec.Struct):
        """Which label."""

        label_id: str

    class TransactionId(msgspec.Struct):
        """Which transaction."""

        transaction_id: str

    class Version(msgspec.Struct):
        """Which policy, or which assignment."""

        version: str

    type: str
    source: Source | None = None
    label: LabelId | None = None
    transaction: TransactionId | None = None
    policy: Version | None = None
    policy_version: str = ""
    assignment: Version | str | None = None
    opened: tuple[Opened, ...] = ()

    @property
    def active(self) -> tuple[str, str]:
        """The policy and the assignment that a decision was made under, or that a change makes active."""
        policy = self.policy_version if self.policy is None else self.policy.version
        assigned = self.assignment
        return policy, assigned.version if isinstance(assigned, Head.Version) else assigned or ""


head_of: Final = msgspec.json.Decoder(Head).decode


def head_from(entry: Entry) -> Head:
    """Of an entry that was decoded whole, what is counted."""
    if isinstance(entry, SourcesOpened):
        return Head(tag(entry), opened=entry.opened)
    if isinstance(entry, Decision):
        return Head(tag(entry), entry.source, policy_version=entry.policy_version, assignment=entry.assignment)
    ruled = isinstance(entry, ControlApplied)
    policy, assignment = (named(entry), "") if ruled else ("", named(entry))
    return Head(tag(entry), entry.source, policy_version=policy, assignment=assignment)


class _Letter(msgspec.Struct):
    """Of a dead letter, where its message came from."""

    source: Source


class Block(msgspec.Struct):
    """A stretch of the journal that the ledger was not yet seen to have stored: its sequences, and how many entries.

    entries: those that are a row in SQL.
    """

    first: int
    last: int
    entries: int


class Kept(msgspec.Struct):
    """All that counting remembers: it can be written down, and gone on with later."""

    tally: Tally = msgspec.field(default_factory=Tally)
    blocks: list[Block] = msgspec.field(default_factory=list)
    stored: Stored = Stored()
    letters: int = 0
    letters_next: int = 0
    letters_gone: int = 0
    unwritten: list[Place] = msgspec.field(default_factory=list)
    unanswered: list[Place] = msgspec.field(default_factory=list)


class Balanced(msgspec.Struct, frozen=True):
    """One count: what must be equal, how long the oldest message on its way has waited, and the counts of each step."""

    equations: list[Equation]
    kinds: dict[str, int]
    acknowledged: int
    waiting: int
    oldest_waiting_ms: int | None
    sequence: int
    stored_sequence: int | None
    empty: int
    gone: int

    @property
    def imbalance(self) -> int:
        """0 is the promise."""
        return imbalance(self.equations)


class Counting:
    """Counts that are kept up; `kept` is theirs to change. engine: None where there is no SQL to count."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        engine: sa.Engine | None,
        kept: Kept,
        open_reader: Callable[..., KafkaConsumer] = reader,
        clock: MonotonicClock = monotonic,
    ) -> None:
        """open_reader: as `streaming.kafka.reader`. Raises BrokerUnavailable, NotFound."""
        self._ages = Ages(clock)
        self.kept = kept
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._engine = engine
        self._letters_topic = TopicPartition(prefix + Topic.DEAD_LETTER.value, 0)
        self._journal = TopicPartition(prefix + Topic.DECISIONS.value, 0)
        self._doubtful: set[Place] = set()
        with ExitStack() as stack:
            looking = open_reader(bootstrap, [], most_records=COUNTED_MOST, damaged=True)
            self._looking = stack.enter_context(closing(looking))
            self._open = stack.pop_all()

    def close(self) -> None:
        """Let Kafka go."""
        self._open.close()

    def ends(self) -> dict[TopicPartition, int]:
        """The end of every partition of the sources, to be asked for before the journal is read up to its own."""
        with reaching(self._bootstrap):
            found = [each for topic in SOURCES for each in partitions(self._looking, self._prefix + topic.value)]
            return dict(self._looking.end_offsets(found))

    def take(self, heads: Sequence[tuple[int, Head]]) -> None:
        """Count journal entries in order, each with its sequence number; looks at what they passed over."""
        if not heads:
            return
        for sequence, head in heads:
            source = head.source
            if source is None:
                self.kept.tally.open(head.opened)
                self.kept.tally.take(sequence, head.type, None, 0, 0, head.active)
                continue
            gap = self.kept.tally.take(sequence, head.type, source.topic, source.partition, source.offset, head.active)
            if gap is not None:
                self._pass_over(gap)
            if head.type == "rejected":
                place = (source.topic, source.partition, source.offset)
                _settle(place, self.kept.unanswered, self.kept.unwritten)
        self._add_block(Block(heads[0][0], heads[-1][0], sum(head.type in KINDS for _, head in heads)))

    def balance(self, ends: dict[TopicPartition, int], now_ms: int) -> Balanced:
        """The counts, once the journal has been taken up to an end that was asked for after `ends`.

        Each partition is judged at one point of its own, see `judged_until`; rows in SQL up to the sequence that the
        ledger had stored in the very transaction that is read; a dead letter once it stood alone at two looks.
        """
        waiting, oldest = [], []
        after = self.ends()
        answered = {TopicPartition(each.topic, each.partition) for each in self.kept.tally.places.values()}
        for partition in {*ends, *after, *answered}:
            begin = self.kept.tally.place(partition.topic, partition.partition).next_offset
            end = judged_until(ends.get(partition, 0), begin, after.get(partition, 0))
            seen, at_ms = self._look(Gap(partition.topic, partition.partition, begin, end))
            waiting.append(Waiting(partition.topic, partition.partition, end, seen, at_ms))
            oldest.append(self._ages.oldest_ms(partition, begin, after.get(partition, 0), at_ms, now_ms))
        letters = self._count_letters()
        self._count_rows()
        tally = self.kept.tally
        found = equations(tally, waiting, letters, self.kept.stored, self._prefix)
        counts = {"begun": tally.begun, ANSWERED: tally.answered, "letters": letters.letters}
        counts["stored"] = self.kept.stored.rows
        return Balanced(
            equations=found,
            kinds=kinds_of(tally) | counts,
            acknowledged=sum(each.left for each in found if each.name == "acknowledged"),
            waiting=sum(each.seen.messages for each in waiting),
            oldest_waiting_ms=max((each for each in oldest if each is not None), default=None),
            sequence=tally.sequence,
            stored_sequence=self.kept.stored.sequence,
            empty=sum(each.empty for each in tally.places.values()) + sum(each.seen.empty for each in waiting),
            gone=sum(each.gone for each in tally.places.values()) + sum(each.seen.gone for each in waiting),
        )

    def _pass_over(self, gap: Gap) -> None:
        """Count what a gap holds, to the last message."""
        for first in range(gap.first, gap.stop, COUNTED_MOST):
            stop = min(gap.stop, first + COUNTED_MOST)
            seen, _ = self._look(Gap(gap.topic, gap.partition, first, stop))
            self.kept.tally.place(gap.topic, gap.partition).passed(seen)

    def _look(self, gap: Gap) -> tuple[Seen, int | None]:
        """What a stretch of a source holds, and when the broker took in its oldest message."""
        if gap.first >= gap.stop:
            return Seen(), None
        partition = TopicPartition(gap.topic, gap.partition)
        with reaching(self._bootstrap):
            begin = self._looking.beginning_offsets([partition])[partition]
            first = min(max(gap.first, begin), gap.stop)
            stop = min(gap.stop, first + COUNTED_MOST)
            found = _records(self._looking, partition, first, stop)
        seen = Seen(len(found) + gap.stop - stop, empty=stop - first - len(found), gone=first - gap.first)
        return seen, found[0].timestamp if found else None

    def _count_letters(self) -> Letters:
        kept = self.kept
        with reaching(self._bootstrap):
            begin = self._looking.beginning_offsets([self._letters_topic])[self._letters_topic]
            end = self._looking.end_offsets([self._letters_topic])[self._letters_topic]
            deleted = begin > kept.letters_next
            kept.letters_next = max(kept.letters_next, begin)
            while kept.letters_next < end:
                stop = min(end, kept.letters_next + COUNTED_MOST)
                for record in _records(self._looking, self._letters_topic, kept.letters_next, stop):
                    if isinstance(record.value, Damaged):
                        deleted = True  # nobody can read it any more; which one it was, the next letter says
                        continue
                    source = msgspec.json.decode(record.value, type=_Letter).source
                    place = (source.topic, source.partition, source.offset)
                    if deleted and place in kept.unwritten:
                        # Letters and rejected entries have one order: those before the first that is left are gone.
                        self._forget(kept.unwritten.index(place))
                    deleted = False
                    kept.letters += 1
                    _settle(place, kept.unwritten, kept.unanswered)
                kept.letters_next = stop
            if deleted:
                self._forget(len(kept.unwritten))
        # Both are written in one transaction, but a reader may see one topic's part a moment before the other's.
        open_places = {*kept.unwritten, *kept.unanswered}
        doubtful, self._doubtful = self._doubtful & open_places, open_places
        unanswered, unwritten = (len(doubtful.intersection(each)) for each in (kept.unanswered, kept.unwritten))
        return Letters(kept.letters, unanswered, unwritten, kept.letters_gone)

    def _forget(self, count: int) -> None:
        self.kept.letters_gone += count
        del self.kept.unwritten[:count]

    @property
    def settled(self) -> bool:
        """Whether no dead letter, and no rejected entry, waits for its other half."""
        return not self.kept.unwritten and not self.kept.unanswered

    def _add_block(self, block: Block) -> None:
        blocks = self.kept.blocks
        if blocks and blocks[-1].entries + block.entries <= BLOCK_ENTRIES:
            blocks[-1].last = block.last
            blocks[-1].entries += block.entries
        else:
            blocks.append(block)

    def _count_rows(self) -> None:
        """Count SQL's rows for every block that the ledger has passed."""
        if self._engine is None:
            return
        kept = self.kept
        with transaction(self._engine) as session:
            reached = ledger_sequence(session, self._journal.topic)
            if reached is None:
                return
            if kept.stored.sequence is not None and reached < kept.stored.sequence:
                # SQL was made again, and the ledger is on its way: count anew what it had stored.
                kept.blocks.insert(0, Block(0, kept.stored.sequence, kept.stored.entries))
                kept.stored = Stored()
            while kept.blocks and kept.blocks[0].last <= reached:
                block = kept.blocks.pop(0)
                rows = rows_between(session, block.first, block.last)
                repeats = self._repeats(session, block) if rows < block.entries else 0
                before = kept.stored
                kept.stored = Stored(
                    block.last, before.entries + block.entries, before.rows + rows, before.repeats + repeats
                )

    def _repeats(self, session: Any, block: Block) -> int:
        """Entries of a block that have no row since their label or transaction was stored under a lower sequence."""
        found = 0
        for first in range(block.first, block.last + 1, COUNTED_MOST):
            stop = min(block.last + 1, first + COUNTED_MOST)
            there = sequences_between(session, first, stop - 1)
            with reaching(self._bootstrap):
                records = _records(self._looking, self._journal, first, stop)
            lacking = {each.offset: head_of(each.value) for each in records if each.offset not in there}
            labels = {n: each.label.label_id for n, each in lacking.items() if each.type == "label" and each.label}
            decided = {
                n: each.transaction.transaction_id
                for n, each in lacking.items()
                if each.type == "decision" and each.transaction
            }
            before = stored_before(session, list(labels.values()), list(decided.values()))
            found += sum(before.get(f"label:{name}", n) < n for n, name in labels.items())
            found += sum(before.get(f"decision:{name}", n) < n for n, name in decided.items())
        return found


def count_once(bootstrap: str, prefix: str, engine: sa.Engine | None, now_ms: Callable[[], int]) -> Balanced:
    """Count everything from the journal's first entry to its present end; now_ms: our clock, milliseconds.

    Raises BrokerUnavailable, NotFound, and msgspec.ValidationError for a record that is no journal entry.
    """
    with closing(Counting(bootstrap, prefix, engine, Kept())) as counting:
        ends = counting.ends()
        partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
        end = end_offsets(bootstrap, [partition.topic])[partition]
        with closing(reader(bootstrap, {partition: 0}, most_records=BLOCK_ENTRIES)) as journal:
            while journal.position(partition) < end:
                for records in journal.poll(timeout_ms=POLL_MS).values():
                    counting.take([(each.offset, head_of(each.value)) for each in records if each.offset < end])
        counted = counting.balance(ends, now_ms())
        for _ in range(SETTLING_TRIES):
            if counting.settled:
                break
            Event().wait(SETTLING_SECONDS)
            counted = counting.balance(ends, now_ms())
        return counted


def _settle(place: Place, waiting_for_it: list[Place], waiting: list[Place]) -> None:
    """Two halves belong together: whichever comes second takes the first one away."""
    if place in waiting_for_it:
        waiting_for_it.remove(place)
    else:
        waiting.append(place)


def _records(consumer: KafkaConsumer, partition: TopicPartition, first: int, stop: int) -> list[Any]:
    """The committed records from offset `first` to before `stop`; stop: at most the partition's end."""
    if first >= stop:
        return []
    consumer.assign([partition])
    consumer.seek(partition, first)
    found: list[Any] = []
    silent = 0
    while consumer.position(partition) < stop:
        polled = consumer.poll(timeout_ms=POLL_MS).get(partition, [])
        found += [each for each in polled if each.offset < stop]
        silent = 0 if polled else silent + 1
        if silent > SILENT_POLLS:
            raise Unready(f"{partition.topic} gives nothing from offset {consumer.position(partition)} to {stop}")
    return found
