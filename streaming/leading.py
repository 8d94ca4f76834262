"""A leader's term: micro-batches are taken, decided, and journaled while the next one is being decided."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from features.grammar import Declaration, fields_of
from features.sweep import History
from observe.metrics import Metrics
from plumbline.decision import Source
from plumbline.errors import Fenced, PlumblineError, StateDiverged
from plumbline.journal import (
    AssignmentApplied,
    ControlApplied,
    Entry,
    JournalBegun,
    MemoryChanged,
    SourcesOpened,
    encode,
    identity,
)
from plumbline.names import Topic
from plumbline.policy import FIRST_POLICY
from plumbline.times import MAX_AGE_DAYS
from streaming.batch import Batch, Message, process
from streaming.beginning import beginning
from streaming.broker_clock import BrokerClock
from streaming.counts import Counts
from streaming.isolation import Isolation, ProcessingFailed
from streaming.journaling import Journaling
from streaming.kafka import partitions, reaching, reader, topic_ids
from streaming.lease import Lease
from streaming.memory import Memory, limit_wanted, older_than
from streaming.model import Model
from streaming.opening import Accepted, Found, openings
from streaming.prepared import history_until
from streaming.rejections import Rejections
from streaming.shadows import Shadows, ask_again, journaled, left_waiting
from streaming.snapshots import Snapshots
from streaming.state import BEFORE_JOURNAL, CaughtUp, State, Supply

log = structlog.get_logger()

IDLE_MS: Final = 200
PARTITIONS_SECONDS: Final = 30.0
SHADOWS_SECONDS: Final = 1.0
"""How long a leader that leaves waits for answers of shadows; the next leader asks for the others again."""

CATCH_UP_ENTRIES: Final = 20_000
"""Journal entries that a leader folds, while the stream waits, when a declaration comes into force."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a scorer needs to know: addresses, folders and limits (see `plumbline.settings`).

    archive: where the archive that came before the journal lies, if one did; accepted_gaps: see `opening`.
    """

    bootstrap: str
    prefix: str
    snapshots: Path
    batch_max_transactions: int
    snapshot_every_transactions: int
    remembered_transactions: int
    message_max_age_days: int = MAX_AGE_DAYS
    clock_tolerance_seconds: int = 300
    rejected_share_warn: float = 0.05
    remembered_most: int = 40_000_000
    remembered_days: int = 30
    archive: Path | None = None
    accepted_gaps: Accepted = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """How many transaction ids are remembered."""
        first = self.remembered_transactions
        return Memory(first, max(first, self.remembered_most), self.remembered_days)

    def topic(self, topic: Topic) -> str:
        """A topic's name here."""
        return self.prefix + topic.value

    @property
    def journal(self) -> TopicPartition:
        """The journal's one partition."""
        return TopicPartition(self.topic(Topic.DECISIONS), 0)


class PartitionsChanged(Exception):
    """The transactions topic has other partitions than when this leader began; it begins anew."""


def supply_of(scoring: Scoring, most_entries: int | None) -> Supply:
    """Histories that were prepared, as an assignment needs them.

    most_entries: journal entries that may be left to fold, for a leader, which must not stand still; None: any number,
    and a history that was not prepared is folded from archive and journal.
    """

    def begin(declaration: Declaration) -> State:
        begun = beginning(scoring.bootstrap, scoring.journal, scoring.snapshots, scoring.remembered_transactions)
        return begun.state(scoring.archive, declaration, only=True)

    def supply(declaration: Declaration, sequence: int) -> History:
        return history_until(
            scoring.bootstrap, scoring.journal, scoring.snapshots, declaration,
            sequence=sequence, remembered=scoring.remembered_transactions, most_entries=most_entries,
            begin=begin if most_entries is None else None,
        )  # fmt: skip

    return supply


class Leader:
    """One leader's term: its state is ahead of the journal by the batch under way and the one being decided."""

    def __init__(
        self,
        scoring: Scoring,
        model: Model,
        metrics: Metrics,
        now_us: Callable[[], int],
        caught_up: CaughtUp,
        journaling: Journaling,
        lease: Lease,
        clock: BrokerClock,
        isolation: Isolation,
    ) -> None:
        self.scoring = scoring
        self.model = model
        self.metrics = metrics
        self.now_us = now_us
        self.caught_up = caught_up
        self.state = caught_up.state
        self.journaling = journaling
        self.lease = lease
        self.clock = clock
        self.isolation = isolation
        self.snapshots = Snapshots(scoring.snapshots, scoring.snapshot_every_transactions)
        self.shadows = Shadows(model)
        self.counts = Counts(metrics)
        self.rejections = Rejections(metrics, scoring.rejected_share_warn)

    def lead(self, stop: Event, announce: Callable[[], None]) -> None:
        """Take micro-batches until `stop` is set or the lease is lost; then leave a snapshot."""
        with closing(self.shadows):
            self._lead(stop, announce)

    def _lead(self, stop: Event, announce: Callable[[], None]) -> None:
        if self.state.policy is None:
            self._begin_journal()
        self._remember(max(self.state.known.limit, self.scoring.memory.first))
        waiting = left_waiting(self.state, self.scoring.bootstrap, self.scoring.journal)
        ask_again(self.shadows, self.state, waiting)
        topics = [self.scoring.topic(topic) for topic in (Topic.TRANSACTIONS, Topic.LABELS, Topic.CONTROL)]
        with closing(self._sources(topics)) as sources:
            log.info("leading", sequence=self.state.sequence)
            announce()
            next_look = time.monotonic()
            known_partitions = sources.assignment()
            while not stop.is_set():
                records = sources.poll(timeout_ms=IDLE_MS, max_records=self.scoring.batch_max_transactions)
                self._require_same_topics(topic_ids(sources, topics))
                if records:
                    self._take(records)
                else:
                    self._settle()
                    self._begin(Batch())
                if self.snapshots.due(self.state):
                    self._settle()  # a snapshot holds what is journaled, and nothing else
                    self.snapshots.take(self.caught_up)
                self._look_at_clock()
                if not self.lease.held:
                    raise Fenced("the lease went to another scorer")
                now = time.monotonic()
                if now >= next_look:
                    next_look = now + PARTITIONS_SECONDS
                    self._set_lag(sources)
                    self.rejections.look(now)
                    if {each for name in topics for each in partitions(sources, name)} != known_partitions:
                        raise PartitionsChanged
        self._settle()
        self.shadows.rest(SHADOWS_SECONDS)
        self._begin(Batch())
        self._settle()
        self.snapshots.finish(self.caught_up)
        log.info("left", sequence=self.state.sequence)

    def _begin_journal(self) -> None:
        """The first entries of all: what came before, and the declaration and policy that a first start brings along.

        A backfill has said what came before already. Raises StateDiverged for a journal that began otherwise.
        """
        now_us = self.now_us()
        first: list[Entry] = []
        if self.state.sequence == BEFORE_JOURNAL:
            begun = JournalBegun(
                archive_digest=self.state.archive_digest, archive_until_us=self.state.archive_until_us,
                remembered=self.state.known.limit, journaled_at=now_us,
            )  # fmt: skip
            self.state.remember(begun.remembered)
            self.state.journal = identity(encode(begun))
            first.append(begun)
        elif self.state.remembered is None:
            raise StateDiverged(
                f"{self.scoring.journal.topic} has entries, but no first policy: it is no journal, or not a whole one"
            )
        declarations = {name: fields_of(history.declaration) for name, history in self.state.histories.items()}
        declared = AssignmentApplied(
            assignment=None, fingerprints=(), declarations=declarations, source=None, journaled_at=now_us
        )
        ruled = ControlApplied(policy=FIRST_POLICY, source=None, journaled_at=now_us)
        self.state.activate(FIRST_POLICY)
        self._begin(Batch(entries=[*first, declared, ruled]))
        self._settle()

    def _remember(self, limit: int) -> None:
        """Journal under which limit ids are remembered from here on, unless it is so already."""
        if limit == self.state.remembered:
            return
        self._settle()  # the batch under way was decided under the limit before
        self.state.remember(limit)
        log.info("transaction ids remembered", limit=limit)
        self._begin(Batch(entries=[MemoryChanged(remembered=limit, journaled_at=self.now_us())]))
        self._settle()

    def _sources(self, topics: Sequence[str]) -> KafkaConsumer:
        """A reader of all sources, each from where the journal says it was taken to.

        What is taken for the first time is journaled before. Raises StateDiverged where messages are gone.
        """
        with closing(reader(self.scoring.bootstrap, [])) as asked, reaching(self.scoring.bootstrap):
            places = [each for name in topics for each in partitions(asked, name)]
            begins, ends = asked.beginning_offsets(places), asked.end_offsets(places)
            ids = topic_ids(asked, topics)
        found = {each: Found(ids[each.topic], begins[each], ends[each]) for each in places}
        opened = openings(self.state.positions, self.state.topic_ids, found, self.scoring.accepted_gaps)
        if opened:
            entry = SourcesOpened(opened=opened, journaled_at=self.now_us())
            for each in opened:
                if each.lost_from is not None:
                    log.error("an accepted gap", topic=each.topic, partition=each.partition, first=each.first,
                              lost_from=each.lost_from, instead_of=each.instead_of)  # fmt: skip
            self.state.open(entry)
            self._begin(Batch(entries=[entry]))
            self._settle()
        positions = {each: self.state.positions[each.topic, each.partition] for each in places}
        return reader(self.scoring.bootstrap, positions, most_records=self.scoring.batch_max_transactions, damaged=True)

    def _require_same_topics(self, ids: dict[str, str]) -> None:
        """Raises PartitionsChanged when a topic was created again: what was polled may not be what comes next."""
        if any(given and given != self.state.topic_ids.get(topic) for topic, given in ids.items()):
            raise PartitionsChanged

    def _take(self, records: dict[TopicPartition, list[Any]]) -> None:
        messages = [
            Message(Source(each.topic, each.partition, each.offset, each.timestamp), each.value or b"")
            for found in records.values()
            for each in found
        ]
        self.clock.read(max(each.source.appended_at_ms for each in messages))
        self.clock.require_right()  # before anything bears a wrong time
        if self.isolation.alone([each.place for each in messages]):
            for each in messages:
                self._process([each])
        else:
            self._process(messages)

    def _process(self, messages: Sequence[Message]) -> None:
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(message.source.topic, []).append(message)
        if by_topic.get(self.scoring.topic(Topic.CONTROL)):
            self._settle()  # what an assignment brings along is made from the journal, which must be whole
        arriving = len(by_topic.get(self.scoring.topic(Topic.TRANSACTIONS), ()))
        self._remember(limit_wanted(self.scoring.memory, self.state.known, arriving, self.now_us()))
        covers_since = self.state.known.covers_since()
        begun = time.perf_counter()
        try:
            batch = process(
                self.state,
                self.model,
                control=by_topic.get(self.scoring.topic(Topic.CONTROL), ()),
                label=by_topic.get(self.scoring.topic(Topic.LABELS), ()),
                transaction=by_topic.get(self.scoring.topic(Topic.TRANSACTIONS), ()),
                now_us=self.now_us(),
                supply=supply_of(self.scoring, CATCH_UP_ENTRIES),
                max_age_days=self.scoring.message_max_age_days,
                unprocessable=self.isolation.unprocessable,
            )
        except (PlumblineError, KafkaError, OSError, MemoryError):
            raise
        except Exception as error:
            raise ProcessingFailed([each.place for each in messages]) from error
        self.counts.decided(time.perf_counter() - begun)
        if older := older_than(covers_since, batch.entries):
            self.counts.older(older)
            log.warning("transactions older than what is remembered", count=older, remembered_since_us=covers_since)
        self._settle()
        self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        """Hand a batch to the journal, behind what shadows have answered meanwhile; nothing where both are empty."""
        batch.entries[:0] = self.shadows.answered(self.now_us())
        if batch.entries:
            self.journaling.begin(batch)

    def _settle(self) -> None:
        """Wait until the journal has caught up with what was handed to it, count that, and have shadows asked."""
        written = self.journaling.settle()
        if written is None:
            return
        self.clock.wrote(written.appended_at_ms)
        self.counts.took(written.batch, written.seconds)
        self.rejections.took(written.batch.entries, time.monotonic())
        journaled(self.state, self.shadows, written.batch, written.first)

    def _look_at_clock(self) -> None:
        self.metrics.gauge("plumbline_clock_difference_seconds").set(self.clock.difference_seconds)
        self.clock.require_right()

    def _set_lag(self, sources: KafkaConsumer) -> None:
        lag = 0
        for partition in sources.assignment():
            if partition.topic == self.scoring.topic(Topic.TRANSACTIONS):
                end = sources.highwater(partition)
                lag += max(0, end - sources.position(partition)) if end is not None else 0
        self.metrics.gauge("plumbline_lag_transactions").set(lag)
