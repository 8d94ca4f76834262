"""The scorer: takes transactions, labels and control messages, and journals what becomes of each.

One leader at a time; standbys fold the journal all the time. Whatever goes wrong with Kafka, the answer is the same:
throw the state away, rebuild it from snapshot and journal, and go on at the journal's own source offsets. So there is
one way to start, and a crash is just another start.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event
from typing import Final

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from observe.metrics import Metrics
from plumbline import journal
from plumbline.errors import BrokerUnavailable, ClockWrong, Fenced, StateDiverged
from plumbline.names import Topic
from streaming.beginning import beginning
from streaming.broker_clock import BrokerClock
from streaming.isolation import Isolation, ProcessingFailed, decides_made_up_payment
from streaming.journaling import TRANSACTION_MS, Journaling, begin_term, transactional_id
from streaming.kafka import close_producer, end_offsets, reader, transactional_producer
from streaming.known import Known
from streaming.leading import IDLE_MS, Leader, PartitionsChanged, Scoring, supply_of
from streaming.lease import Lease
from streaming.model import Model
from streaming.snapshot import newest
from streaming.state import CaughtUp, State, Supply
from streaming.warm_up import warm_up

log = structlog.get_logger()

RETRY_SECONDS: Final = 0.5
CLOCK_SECONDS: Final = 5.0
"""How long a scorer whose clock is wrong leaves the lease to others before it looks again."""


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
    warm_up()
    clock = BrokerClock(now_us, time.monotonic, scoring.clock_tolerance_seconds)
    isolation = Isolation()
    while not stop.is_set():
        try:
            _term(scoring, model, metrics, now_us, stop, announce, clock, isolation)
        except PartitionsChanged:
            log.info("partitions changed, starting over")
        except OffsetOutOfRangeError as error:
            raise StateDiverged(
                f"the broker no longer holds what comes next ({error}): messages were deleted before they were "
                "decided, or snapshots and topics are not of one installation"
            ) from error
        except ProcessingFailed as failure:
            isolation.failed(failure, lambda: decides_made_up_payment(model, now_us()))
        except ClockWrong as error:
            log.error("this scorer does not lead", error=str(error))
            metrics.gauge("plumbline_clock_difference_seconds").set(error.seconds)
            stop.wait(CLOCK_SECONDS)
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
    clock: BrokerClock,
    isolation: Isolation,
) -> None:
    """One life: restore, stand by, lead."""
    with ExitStack() as stack:
        state = restore(scoring)
        entries = stack.enter_context(closing(reader(scoring.bootstrap, {scoring.journal: state.sequence + 1})))
        lease = stack.enter_context(Lease(scoring.bootstrap, scoring.prefix))
        log.info("standing by", sequence=state.sequence)
        announce("standing by", state.sequence)
        while not stop.is_set() and not lease.held:
            fold(state, entries, IDLE_MS, supply_of(scoring, None))
        if stop.is_set():
            return
        clock.require_right()
        # Making the producer fences an older leader; beginning the term closes off what that one left open.
        producer = stack.enter_context(_producing(scoring))
        letters = TopicPartition(scoring.topic(Topic.DEAD_LETTER), 0)
        end = begin_term(scoring.bootstrap, producer, scoring.journal, letters)
        caught_up = catch_up(scoring, state, entries, end, stop)
        if caught_up is None:
            return
        metrics.gauge("plumbline_leader").set(1)
        journaling = stack.enter_context(Journaling(producer, scoring.journal, scoring.topic(Topic.DEAD_LETTER)))
        leader = Leader(scoring, model, metrics, now_us, caught_up, journaling, lease, clock, isolation)
        leader.lead(stop, lambda: announce("leading", state.sequence))


def restore(scoring: Scoring) -> State:
    """The state of the newest good snapshot, or the one before the journal's first entry, to fold it all into.

    The journal says which archive that one begins with, so that a missing snapshot costs time and nothing else. Raises
    Refused when that archive is not to be found, the snapshot's refusal when none is good and the journal has no entry
    yet (it could not rebuild what the snapshot held), and StateDiverged when the snapshot is not of this journal.
    """
    begun = beginning(scoring.bootstrap, scoring.journal, scoring.snapshots, scoring.remembered_transactions)
    named = None if begun.entry is None else begun.archive
    state, refused = newest(scoring.snapshots, scoring.remembered_transactions, archive=named)
    # Asked for after the snapshot was read: a leader that leaves in between makes the journal longer, never shorter.
    end = end_offsets(scoring.bootstrap, [scoring.journal.topic])[scoring.journal]
    for error in refused:
        log.error("snapshot refused", error=str(error))
    if state is None:
        if refused and begun.entry is None:
            raise refused[0]
        return begun.state(scoring.archive) if begun.entry is not None else State(Known(begun.remembered))
    if state.sequence >= max(end, 0) or (state.journal and state.journal != begun.identity):
        raise StateDiverged(
            f"the newest snapshot in {scoring.snapshots} is of entry {state.sequence} of another journal than "
            f"{scoring.journal.topic}, which ends before {end}: the journal was cut short or created again, or the "
            "snapshots are another installation's; restore the journal, or remove the snapshots where it is given up"
        )
    state.journal = begun.identity
    return state


def catch_up(scoring: Scoring, state: State, entries: KafkaConsumer, end: int, stop: Event) -> CaughtUp | None:
    """Fold what the journal's reader has before offset `end`; None when `stop` was set before that was done.

    end: of a journal that this scorer's new producer has closed off (`begin_term`). What a stop leaves half folded can
    neither lead nor be kept: it would decide again what it has not read.
    """
    while entries.position(scoring.journal) < end:
        if stop.is_set():
            return None
        fold(state, entries, IDLE_MS, supply_of(scoring, None))
    return CaughtUp(state)


def fold(state: State, entries: KafkaConsumer, timeout_ms: int, supply: Supply | None = None) -> int:
    """Fold what the journal's reader has next into the state; returns how many entries."""
    taken = 0
    for records in entries.poll(timeout_ms=timeout_ms).values():
        taken += state.fold(((record.offset, journal.decode(record.value)) for record in records), supply)
    return taken


@contextmanager
def _producing(scoring: Scoring) -> Iterator[KafkaProducer]:
    """The leader's producer; it closes without waiting long for what will never be committed."""
    producer = transactional_producer(scoring.bootstrap, transactional_id(scoring.prefix), TRANSACTION_MS)
    try:
        yield producer
    finally:
        close_producer(producer, 1.0)
