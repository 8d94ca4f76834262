"""A leader's term: micro-batches are taken, decided, and journaled while the next one is being decided."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
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
from plumbline.errors import Fenced, PlumblineError
from plumbline.journal import AssignmentApplied, ControlApplied
from plumbline.names import Topic
from plumbline.policy import DEFAULT_POLICY
from plumbline.times import MAX_AGE_DAYS
from streaming.batch import Batch, Message, process
from streaming.broker_clock import BrokerClock
from streaming.counts import Counts
from streaming.isolation import Isolation, ProcessingFailed
from streaming.journaling import Journaling
from streaming.kafka import partitions, reaching, reader
from streaming.lease import Lease
from streaming.model import Model
from streaming.prepared import history_until
from streaming.rejections import Rejections
from streaming.shadows import Shadows, ask_again, journaled, left_waiting
from streaming.snapshots import Snapshots
from streaming.state import BEFORE_JOURNAL, CaughtUp, Supply

log = structlog.get_logger()

IDLE_MS: Final = 200
PARTITIONS_SECONDS: Final = 30.0
SHADOWS_SECONDS: Final = 1.0
"""How long a leader that leaves waits for answers of shadows; the next leader asks for the others again."""

CATCH_UP_ENTRIES: Final = 20_000
"""Journal entries that a leader folds, while the stream waits, when a declaration comes into force."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a scorer needs to know: addresses, folders and limits (see `plumbline.settings`)."""

    bootstrap: str
    prefix: str
    snapshots: Path
    batch_max_transactions: int
    snapshot_every_transactions: int
    remembered_transactions: int
    message_max_age_days: int = MAX_AGE_DAYS
    clock_tolerance_seconds: int = 300
    rejected_share_warn: float = 0.05

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
    """Histories that were prepared, as an assignment needs them."""

    def supply(declaration: Declaration, sequence: int) -> History:
        return history_until(
            scoring.bootstrap, scoring.journal, scoring.snapshots, declaration,
            sequence=sequence, remembered=scoring.remembered_transactions, most_entries=most_entries,
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
        if self.state.sequence == BEFORE_JOURNAL:
            self._begin_journal()
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
        """The first entries of all: the declaration and the policy that a first start brings along."""
        now_us = self.now_us()
        declarations = {name: fields_of(history.declaration) for name, history in self.state.histories.items()}
        declared = AssignmentApplied(
            assignment=None, fingerprints=(), declarations=declarations, source=None, journaled_at=now_us
        )
        ruled = ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=now_us)
        self.state.activate(DEFAULT_POLICY)
        self._begin(Batch(entries=[declared, ruled]))
        self._settle()

    def _sources(self, topics: Sequence[str]) -> KafkaConsumer:
        """A reader of all sources, each from where the journal says it was taken to."""
        with closing(reader(self.scoring.bootstrap, [])) as asked, reaching(self.scoring.bootstrap):
            found = [each for name in topics for each in partitions(asked, name)]
            beginnings = asked.beginning_offsets(found)
        positions = {each: self.state.positions.get((each.topic, each.partition), beginnings[each]) for each in found}
        return reader(self.scoring.bootstrap, positions, most_records=self.scoring.batch_max_transactions, damaged=True)

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
