"""The scorer: takes transactions, labels and control messages, and journals what becomes of each.

One leader at a time; standbys fold the journal all the time. Whatever goes wrong with Kafka, the answer is the same:
throw the state away, rebuild it from snapshot and journal, and go on at the journal's own source offsets. So there is
one way to start, and a crash is just another start.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from features.grammar import Declaration, fields_of
from features.sweep import History
from observe.metrics import Metrics
from plumbline import journal
from plumbline.decision import Decision, Source
from plumbline.errors import BrokerUnavailable, Fenced, StateDiverged
from plumbline.journal import AssignmentApplied, Conflict, ControlApplied, LabelApplied, Rejected
from plumbline.names import Topic
from plumbline.policy import DEFAULT_POLICY
from streaming.batch import Batch, Message, process
from streaming.journaling import Journaling
from streaming.kafka import close_producer, end_offsets, partitions, reaching, reader, transactional_producer
from streaming.known import Known
from streaming.lease import Lease
from streaming.model import Model
from streaming.prepared import history_until
from streaming.snapshot import newest
from streaming.snapshots import Snapshots
from streaming.state import State, Supply

log = structlog.get_logger()

TRANSACTION_MS: Final = 10_000
"""The broker aborts a journal transaction open for longer, so that a dead leader cannot stall the journal's readers."""

IDLE_MS: Final = 200
PARTITIONS_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.5

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

    def topic(self, topic: Topic) -> str:
        """A topic's name here."""
        return self.prefix + topic.value

    @property
    def journal(self) -> TopicPartition:
        """The journal's one partition."""
        return TopicPartition(self.topic(Topic.DECISIONS), 0)


class PartitionsChanged(Exception):
    """The transactions topic has other partitions than when this leader began; it begins anew."""


def run(
    scoring: Scoring,
    model: Model,
    metrics: Metrics,
    now_us: Callable[[], int],
    stop: Event,
    announce: Callable[[str, int], None] = lambda _state, _sequence: None,
) -> None:
    """Stand by, lead when the lease is ours, and go on until `stop` is set; the batch under way is finished first.

    now_us: our clock, microseconds since 1970 UTC; announce: told "standing by" or "leading", and the newest sequence
    number folded, whenever that changes. Raises StateDiverged, FingerprintMismatch or SnapshotRefused when
    scoring on would be wrong, and Unready when a snapshot cannot be written at the end.
    """
    while not stop.is_set():
        try:
            _term(scoring, model, metrics, now_us, stop, announce)
        except PartitionsChanged:
            log.info("partitions changed, starting over")
        except OffsetOutOfRangeError as error:
            raise StateDiverged(
                f"the broker no longer holds what comes next ({error}): messages were deleted before they were "
                "decided, or snapshots and topics are not of one installation"
            ) from error
        except (KafkaError, BrokerUnavailable, Fenced) as error:
            log.warning("starting over from snapshot and journal", error=f"{type(error).__name__}: {error}")
            stop.wait(RETRY_SECONDS)
        finally:
            metrics.gauge("plumbline_leader").set(0)


def _term(
    scoring: Scoring,
    model: Model,
    metrics: Metrics,
    now_us: Callable[[], int],
    stop: Event,
    announce: Callable[[str, int], None],
) -> None:
    """One life: restore, stand by, lead."""
    with ExitStack() as stack:
        end = end_offsets(scoring.bootstrap, [scoring.journal.topic])[scoring.journal]
        state = restore(scoring, end)
        entries = stack.enter_context(closing(reader(scoring.bootstrap, {scoring.journal: state.sequence + 1})))
        lease = stack.enter_context(Lease(scoring.bootstrap, scoring.prefix))
        log.info("standing by", sequence=state.sequence)
        announce("standing by", state.sequence)
        while not stop.is_set() and not lease.held:
            fold(state, entries, IDLE_MS, _supply(scoring, None))
        if stop.is_set():
            return
        # Making the producer fences an older leader, so the journal's end below is final.
        producer = stack.enter_context(_producing(scoring))
        end = end_offsets(scoring.bootstrap, [scoring.journal.topic])[scoring.journal]
        while entries.position(scoring.journal) < end and not stop.is_set():
            fold(state, entries, IDLE_MS, _supply(scoring, None))
        metrics.gauge("plumbline_leader").set(1)
        journaling = stack.enter_context(Journaling(producer, scoring.journal, scoring.topic(Topic.DEAD_LETTER)))
        leader = _Leader(scoring, model, metrics, now_us, state, journaling, lease)
        leader.lead(stop, lambda: announce("leading", state.sequence))


def restore(scoring: Scoring, end: int) -> State:
    """The state of the newest good snapshot, or an empty one to fold the whole journal into.

    end: offset after the journal's newest entry. Raises the refusal when no snapshot is good and the journal is empty
    (it could not rebuild what the snapshot held), and StateDiverged when the snapshot is ahead of the journal.
    """
    state, refused = newest(scoring.snapshots, scoring.remembered_transactions)
    for error in refused:
        log.error("snapshot refused", error=str(error))
    if state is None:
        if refused and end == 0:
            raise refused[0]
        return State(Known(scoring.remembered_transactions))
    if state.sequence >= end and state.sequence >= 0:
        raise StateDiverged(
            f"the newest snapshot in {scoring.snapshots} is of journal entry {state.sequence}, but the journal ends "
            f"before {end}: they are not of one installation; remove the snapshots, or restore the journal"
        )
    return state


def fold(state: State, entries: KafkaConsumer, timeout_ms: int, supply: Supply | None = None) -> int:
    """Fold what the journal's reader has next into the state; returns how many entries."""
    taken = 0
    for records in entries.poll(timeout_ms=timeout_ms).values():
        taken += state.fold(((record.offset, journal.decode(record.value)) for record in records), supply)
    return taken


def _supply(scoring: Scoring, most_entries: int | None) -> Supply:
    """Histories that were prepared, as an assignment needs them."""

    def supply(declaration: Declaration, sequence: int) -> History:
        return history_until(
            scoring.bootstrap, scoring.journal, scoring.snapshots, declaration,
            sequence=sequence, remembered=scoring.remembered_transactions, most_entries=most_entries,
        )  # fmt: skip

    return supply


@contextmanager
def _producing(scoring: Scoring) -> Iterator[KafkaProducer]:
    """The leader's producer; it closes without waiting long for what will never be committed."""
    producer = transactional_producer(scoring.bootstrap, f"{scoring.prefix}plumbline-scorer", TRANSACTION_MS)
    try:
        yield producer
    finally:
        close_producer(producer, 1.0)


class _Leader:
    """One leader's term: its state is ahead of the journal by the batch under way and the one being decided."""

    def __init__(
        self,
        scoring: Scoring,
        model: Model,
        metrics: Metrics,
        now_us: Callable[[], int],
        state: State,
        journaling: Journaling,
        lease: Lease,
    ) -> None:
        self.scoring = scoring
        self.model = model
        self.metrics = metrics
        self.now_us = now_us
        self.state = state
        self.journaling = journaling
        self.lease = lease
        self.snapshots = Snapshots(scoring.snapshots, scoring.snapshot_every_transactions)
        self.counts = _Counts(metrics)

    def lead(self, stop: Event, announce: Callable[[], None]) -> None:
        """Take micro-batches until `stop` is set or the lease is lost; then leave a snapshot."""
        if self.state.policy is None:
            self._begin_journal()
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
                if self.snapshots.due(self.state):
                    self._settle()  # a snapshot holds what is journaled, and nothing else
                    self.snapshots.take(self.state)
                if not self.lease.held:
                    raise Fenced("the lease went to another scorer")
                now = time.monotonic()
                if now >= next_look:
                    next_look = now + PARTITIONS_SECONDS
                    self._set_lag(sources)
                    if {each for name in topics for each in partitions(sources, name)} != known_partitions:
                        raise PartitionsChanged
        self._settle()
        self.snapshots.finish(self.state)
        log.info("left", sequence=self.state.sequence)

    def _begin_journal(self) -> None:
        """The first entries of all: the declaration and the policy that a first start brings along."""
        now_us = self.now_us()
        declarations = {name: fields_of(history.declaration) for name, history in self.state.histories.items()}
        declared = AssignmentApplied(
            assignment=None, fingerprints=(), declarations=declarations, source=None, journaled_at=now_us
        )
        ruled = ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=now_us)
        self.state.policy = DEFAULT_POLICY
        self.journaling.begin(Batch(entries=[declared, ruled]))
        self._settle()

    def _sources(self, topics: Sequence[str]) -> KafkaConsumer:
        """A reader of all sources, each from where the journal says it was taken to."""
        with closing(reader(self.scoring.bootstrap, [])) as asked, reaching(self.scoring.bootstrap):
            found = [each for name in topics for each in partitions(asked, name)]
            beginnings = asked.beginning_offsets(found)
        positions = {each: self.state.positions.get((each.topic, each.partition), beginnings[each]) for each in found}
        return reader(self.scoring.bootstrap, positions, most_records=self.scoring.batch_max_transactions)

    def _take(self, records: dict[TopicPartition, list[Any]]) -> None:
        by_topic: dict[str, list[Message]] = {}
        for partition, found in records.items():
            by_topic.setdefault(partition.topic, []).extend(
                Message(Source(each.topic, each.partition, each.offset, each.timestamp), each.value or b"")
                for each in found
            )
        if by_topic.get(self.scoring.topic(Topic.CONTROL)):
            self._settle()  # what an assignment brings along is made from the journal, which must be whole
        begun = time.perf_counter()
        batch = process(
            self.state,
            self.model,
            control=by_topic.get(self.scoring.topic(Topic.CONTROL), ()),
            label=by_topic.get(self.scoring.topic(Topic.LABELS), ()),
            transaction=by_topic.get(self.scoring.topic(Topic.TRANSACTIONS), ()),
            now_us=self.now_us(),
            supply=_supply(self.scoring, CATCH_UP_ENTRIES),
        )
        self.counts.decided(time.perf_counter() - begun)
        self._settle()
        self.journaling.begin(batch)

    def _settle(self) -> None:
        """Wait until the journal has caught up with what was handed to it, and count that."""
        written = self.journaling.settle()
        if written is not None:
            self.state.sequence = written.sequence
            self.counts.took(written.batch, written.seconds)

    def _set_lag(self, sources: KafkaConsumer) -> None:
        lag = 0
        for partition in sources.assignment():
            if partition.topic == self.scoring.topic(Topic.TRANSACTIONS):
                end = sources.highwater(partition)
                lag += max(0, end - sources.position(partition)) if end is not None else 0
        self.metrics.gauge("plumbline_lag_transactions").set(lag)


class _Counts:
    """The metrics of micro-batches."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def decided(self, seconds: float) -> None:
        """Note how long a micro-batch took to decide."""
        self.metrics.histogram("plumbline_stage_seconds").labels("decide").observe(seconds)

    def took(self, batch: Batch, seconds: float) -> None:
        """Count one micro-batch that is in the journal now; seconds: how long that took."""
        counted: Counter[tuple[str, str]] = Counter()
        for entry in batch.entries:
            if isinstance(entry, Decision):
                counted["plumbline_decisions_total", entry.outcome.value] += 1
                counted["plumbline_model_unavailable_total", ""] += not entry.scores
            elif isinstance(entry, Conflict):
                counted["plumbline_conflicts_total", ""] += 1
            elif isinstance(entry, Rejected):
                counted["plumbline_rejected_total", entry.source.topic] += 1
            elif isinstance(entry, LabelApplied) and entry.source is not None:
                counted["plumbline_labels_total", entry.effect] += 1
        for (name, label), count in counted.items():
            metric = self.metrics.counter(name)
            (metric.labels(label) if label else metric).inc(count)
        decisions = sum(count for (name, _), count in counted.items() if name == "plumbline_decisions_total")
        self.metrics.histogram("plumbline_batch_transactions").observe(decisions)
        self.metrics.histogram("plumbline_stage_seconds").labels("journal").observe(seconds)
