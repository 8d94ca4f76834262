"""The ledger: the journal becomes SQL, each entry once, however often the ledger is killed.

Each batch is one SQL transaction that holds the batch's rows and the position after them. Nothing is kept in memory
between batches: whenever Kafka or the database cannot be reached, the ledger waits, and begins again where SQL ends.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from kafka import TopicPartition

from app import entries
from app.gauges import show_drift
from app.journal import bounds, open_reader, reaching, require_holds, starting_offset
from app.outbox import Outbox
from observe.metrics import Metrics
from plumbline import journal
from plumbline.clock import MonotonicClock, monotonic
from plumbline.errors import BrokerUnavailable, JournalRefused, LedgerMoved, Retryable, shown
from plumbline.names import Topic
from store import schema
from store.alerts import open_count
from store.audits import newest_audit, standing_audits
from store.engine import transaction
from store.ledger import Rows, move_position, newest_decision, next_offset, store

log = structlog.get_logger()

POLL_MS: Final = 200
CHORES_SECONDS: Final = 0.5
IDLE_CHECK_SECONDS: Final = 5.0
RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class Stored:
    """What one run of the ledger stored; `sequence` is the newest journal offset in SQL, None before the first."""

    decisions: int = 0
    alerts: int = 0
    labels: int = 0
    conflicts: int = 0
    late_counts: int = 0
    rejected: int = 0
    policies: int = 0
    assignments: int = 0
    shadow_scores: int = 0
    published: int = 0
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a ledger works on: two places and a prefix, a way to stop it, metrics, and its clocks.

    now: the wall clock, microseconds since 1970 UTC, for what is written down; monotonic: for everything that is due.
    """

    engine: sa.Engine
    bootstrap: str
    topic_prefix: str
    stop: threading.Event
    metrics: Metrics
    now: Callable[[], int]
    monotonic: MonotonicClock = monotonic

    @property
    def partition(self) -> TopicPartition:
        """The journal: one partition, one total order."""
        return TopicPartition(self.topic_prefix + Topic.DECISIONS.value, 0)


def run(ledger: Ledger, *, once: bool = False) -> Stored:
    """Store the journal and publish verdicts until `ledger.stop` is set; with `once` up to the journal's present end.

    While Kafka or the database is away it waits and says so in the log; with `once` it raises BrokerUnavailable or
    StoreUnavailable instead. Raises Unready when the tables are of another version, and JournalRefused for a record
    that cannot be read: nothing from that record on is stored.
    """
    stored = Stored()
    failures = 0
    while not ledger.stop.is_set():
        before = stored.sequence
        try:
            _follow(ledger, stored, once=once)
            break
        except (Retryable, LedgerMoved) as error:
            if once:
                raise
            failures = 0 if stored.sequence != before else failures + 1
            wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            log.warning("the ledger waits", reason=str(error), seconds=wait)
            ledger.stop.wait(wait)
    return stored


def _follow(ledger: Ledger, stored: Stored, *, once: bool) -> None:
    schema.require_current(ledger.engine)
    partition = ledger.partition
    with ledger.engine.connect() as connection:
        position = next_offset(connection, partition.topic, partition.partition)
        decided = None if position is None else newest_decision(connection)
    outbox = Outbox(ledger.engine, ledger.bootstrap, ledger.topic_prefix + Topic.LABELS.value, ledger.now)
    with closing(open_reader(ledger.bootstrap, partition)) as consumer, closing(outbox):
        first, end = bounds(consumer, ledger.bootstrap, partition)
        start = starting_offset(position, first, end, partition.topic)
        require_holds(consumer, ledger.bootstrap, partition, first, decided)
        consumer.seek(partition, start)
        log.info("the ledger reads the journal", topic=partition.topic, start=start, end=end)
        chores_at = heard_at = ledger.monotonic()
        _do_chores(ledger, outbox, stored, once=once)
        while not ledger.stop.is_set():
            if once and consumer.position(partition) >= end:
                return
            with reaching(ledger.bootstrap):
                records = consumer.poll(timeout_ms=POLL_MS).get(partition, [])
            if records:
                position = _store(ledger, stored, position, records)
                heard_at = ledger.monotonic()
            elif ledger.monotonic() - heard_at >= IDLE_CHECK_SECONDS:
                # `poll` is silent both when nothing comes and when nobody is there: ask.
                bounds(consumer, ledger.bootstrap, partition)
                heard_at = ledger.monotonic()
            if ledger.monotonic() - chores_at >= CHORES_SECONDS:
                _do_chores(ledger, outbox, stored, once=once)
                chores_at = ledger.monotonic()


def _store(ledger: Ledger, stored: Stored, position: int | None, records: list[Any]) -> int | None:
    """One batch: its rows and the position after it, committed together; the new position."""
    rows, following, broken = _rows(records)
    if following is not None:
        with ledger.engine.begin() as connection:
            move_position(connection, ledger.partition.topic, ledger.partition.partition, position, following)
            new = store(connection, rows)
        if new < len(rows.decisions):
            log.warning("decisions were stored before", count=len(rows.decisions) - new, until=following)
        _count(stored, rows, following)
        ledger.metrics.gauge("plumbline_ledger_sequence").set(following - 1)
        position = following
    if broken is not None:
        raise broken
    return position


def _rows(records: Iterable[Any]) -> tuple[Rows, int | None, JournalRefused | None]:
    """Rows of the records up to the first that cannot be read, the offset after them, and why reading ended there."""
    rows = Rows()
    following = None
    for record in records:
        try:
            entry = journal.decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            return (
                rows,
                following,
                JournalRefused(
                    f"record {record.offset} of {record.topic} is {shown(record.value)}: expected a journal entry "
                    f"({error}); run the version of Plumbline that wrote it, nothing from here on was stored"
                ),
            )
        entries.add(rows, entry, record.offset, record.timestamp)
        following = record.offset + 1
    return rows, following, None


def _count(stored: Stored, rows: Rows, following: int) -> None:
    for kind in (each.name for each in fields(Rows) if hasattr(stored, each.name)):
        setattr(stored, kind, getattr(stored, kind) + len(getattr(rows, kind)))
    stored.sequence = following - 1


def _do_chores(ledger: Ledger, outbox: Outbox, stored: Stored, *, once: bool) -> None:
    """Publish verdicts and refresh the gauges. A labels topic that fails holds up no decision: the next round tries."""
    try:
        stored.published += outbox.publish()
    except BrokerUnavailable as error:
        if once:
            raise
        log.warning("verdicts wait to be published", reason=str(error))
    with transaction(ledger.engine) as session:
        ledger.metrics.gauge("plumbline_alerts_open").set(open_count(session))
        if audit := newest_audit(session):
            ledger.metrics.gauge("plumbline_audit_compared").set(audit.compared)
        standing = sum(each.different for each in standing_audits(session))
        ledger.metrics.gauge("plumbline_audit_different").set(standing)
        show_drift(ledger.metrics, session)
