"""The guarding process: follows the journal, judges after every poll, and takes faulty versions out.

What it counts is a pure fold of the journal from the assignment under guard on. SQL holds where that is, and what it
came to, never a count to add to; so a process that is killed reads that part again and counts nothing twice. A rollback
that was published twice is refused the second time, since it replaces only the assignment that was judged.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Final

import sqlalchemy as sa
import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from observe.metrics import Metrics
from plumbline import journal
from plumbline.assignment import Assignment
from plumbline.decision import Decision
from plumbline.errors import PlumblineError, Refused, ReleaseHeld, Retryable
from plumbline.journal import Answered, AssignmentApplied, LabelApplied, Rejected
from plumbline.names import Topic
from plumbline.transaction import SECOND_US
from release.judging import Judged, Judging
from release.limits import Limits
from release.reconcile import Stream, reconcile
from release.recording import taken_out
from release.rollback import rollback_name, told, undone
from store import releases
from store.engine import transaction
from store.guards import (
    awaiting_effect,
    end_trials,
    guard_position,
    incidents_of_rollback,
    note_once,
    open_incident,
    record_position,
    record_trial,
    unacknowledged_count,
)
from store.ledger import newest_decision
from store.models import GUARD
from store.releases import owning
from streaming.control import publish
from streaming.kafka import reader
from streaming.records import require_holds

log = structlog.get_logger()

POLL_MS: Final = 100
RETRY_SECONDS: Final = 1.0
TELL_SECONDS: Final = 1.0
PUBLISH_AGAIN_SECONDS: Final = 10.0
RECONCILE_SECONDS: Final = 10.0
OWNER_SECONDS: Final = 10.0
"""How long to wait for the release, to write down what was taken out; the same entries lead to it again."""
MOST_RECORDS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Guarding:
    """Where the journal is, where the guard keeps what it found, and what it allows."""

    bootstrap: str
    prefix: str
    engine: sa.Engine
    limits: Limits


def run(
    guarding: Guarding,
    metrics: Metrics,
    now_us: Callable[[], int],
    stop: Event,
    announce: Callable[[int], None] = lambda _: None,
    *,
    once: bool = False,
) -> None:
    """Guard until `stop` is set; with `once` up to the journal's present end.

    now_us: our clock; announce: told the sequence after each round. While Kafka or SQL is away it waits, and says so in
    the log; with `once` it raises. Raises Refused when the journal is not the one that SQL knows.
    """
    while not stop.is_set():
        try:
            with closing(_Life(guarding, metrics, now_us)) as life:
                life.go(stop, announce, once)
            return
        except (Retryable, KafkaError) as error:
            if once:
                raise
            log.warning("guarding waits", reason=f"{type(error).__name__}: {error}", seconds=RETRY_SECONDS)
            stop.wait(RETRY_SECONDS)


class _Life:
    """From where SQL says until it ends, or until Kafka or SQL cannot be reached."""

    def __init__(self, guarding: Guarding, metrics: Metrics, now_us: Callable[[], int]) -> None:
        self.guarding, self.metrics, self.now_us = guarding, metrics, now_us
        self.partition = TopicPartition(guarding.prefix + Topic.DECISIONS.value, 0)
        with transaction(guarding.engine) as session:
            position = guard_position(session)
            self.begin, known = (0, -1) if position is None else (position.begin, position.sequence)
            self.awaited = {each.rollback for each in awaiting_effect(session)}
            decided = newest_decision(session.connection()) if position is not None else None
        self.sequence = self.begin - 1
        self.reader: KafkaConsumer = reader(guarding.bootstrap, {self.partition: self.begin}, most_records=MOST_RECORDS)
        if known >= (end := self._end()):
            self.close()
            raise Refused(
                f"the journal ends before {end}, but SQL says it was guarded up to {known}: this is another one, or "
                "one cut short; point PLUMBLINE_DATABASE_URL to the database that belongs to it"
            )
        try:
            require_holds(guarding.bootstrap, self.partition, decided)
        except PlumblineError:
            self.close()
            raise
        self.judging: Judging | None = None
        self.behind_ms = 0
        self.published: tuple[str, float] = ("", 0.0)
        self.unreconciled, self.reconcile_at = True, time.monotonic()
        log.info("guarding", begin=self.begin, known=known, end=end)

    def close(self) -> None:
        """Leave the journal."""
        self.reader.close()

    def _end(self) -> int:
        return int(self.reader.end_offsets([self.partition])[self.partition])

    def go(self, stop: Event, announce: Callable[[int], None], once: bool) -> None:
        """Round after round: read to the end, judge, act, tell."""
        told_at = 0.0
        while not stop.is_set():
            end = self._end()
            self._read_to(end, stop)
            if stop.is_set():
                break
            if self.judging is not None:
                self._found(self.judging.look())
                self._undo(self.judging)
            if time.monotonic() - told_at >= TELL_SECONDS or once:
                self._tell()
                told_at = time.monotonic()
            if time.monotonic() >= self.reconcile_at or once:
                self._reconcile()
            announce(self.sequence)
            if once:
                return
            self._poll()
        self._tell()

    def _read_to(self, end: int, stop: Event) -> None:
        while self.reader.position(self.partition) < end and not stop.is_set():
            self._poll()

    def _poll(self) -> None:
        self.behind_ms = 0
        for records in self.reader.poll(timeout_ms=POLL_MS).values():
            for record in records:
                self._take(record.offset, journal.decode(record.value))
            self.behind_ms = max(0, self.now_us() // 1000 - records[-1].timestamp)

    def _take(self, sequence: int, entry: journal.Entry) -> None:
        if isinstance(entry, AssignmentApplied):
            self._assigned(sequence, entry)
        elif isinstance(entry, Rejected) and entry.source.topic == self.guarding.prefix + Topic.CONTROL.value:
            self.unreconciled = True
        elif isinstance(entry, Decision) and entry.assignment in self.awaited:
            self.awaited.discard(entry.assignment)
            self._effective(entry, sequence)
        if self.judging is not None and isinstance(entry, Decision | Answered | LabelApplied):
            self._found(self.judging.take(sequence, entry))
        self.sequence = sequence

    def _assigned(self, sequence: int, entry: AssignmentApplied) -> None:
        """Close the books of the assignment before, and open those of a new one that has anything to guard."""
        if (judged := self.judging) is not None:
            self._found(judged.look())
            if entry.assignment is not None and entry.assignment.version == rollback_name(judged.fold.sequence):
                self._found(judged.removed(entry.assignment))
                self.awaited.add(entry.assignment.version)
                self._register(judged, entry.assignment)
            self._tell()
            with transaction(self.guarding.engine) as session:
                end_trials(session, judged.fold.sequence, entry.journaled_at)
        self.judging, self.begin, self.unreconciled = None, sequence, True
        assignment = entry.assignment
        if assignment is not None and (assignment.arms or assignment.shadows):
            log.info("under guard", assignment=assignment.version, versions=assignment.answering[1:])
            self.judging = Judging(assignment, sequence, entry.journaled_at, self.guarding.limits)
            with transaction(self.guarding.engine) as session:
                for each in incidents_of_rollback(session, rollback_name(sequence)):
                    self.judging.known(each.version, each.why)

    def _found(self, breaches: Iterable[Judged]) -> None:
        """Open an incident for each trial that broke a rule, before anything is done about it."""
        for each in breaches:
            judging, now_us = each.judging, self.now_us()
            row = judging.incident(each, now_us)
            row.rollback = rollback_name(judging.fold.sequence)
            row.why = told(each.trial.version, each.trial.role, each.figure)
            log.error("guardrail broken", why=row.why, sequence=row.last_sequence)
            try:
                with transaction(self.guarding.engine) as session:
                    open_incident(session, row)
            except Retryable as error:
                # The rollback does not wait for the database. After it is back, the same entries lead to this again.
                log.error("no incident could be stored yet", reason=str(error))
                self._undo(judging)
                raise

    def _undo(self, judging: Judging) -> None:
        """Publish the rollback of the assignment in force; again after a while, where the scorer has not taken it."""
        name = rollback_name(judging.fold.sequence)
        if not judging.faulty or (self.published[0] == name and time.monotonic() < self.published[1]):
            return
        wanted = undone(judging.fold.assignment, judging.fold.sequence, judging.faulty, judging.why)
        publish(self.guarding.bootstrap, self.guarding.prefix, wanted)
        self.published = (name, time.monotonic() + PUBLISH_AGAIN_SECONDS)
        log.warning("rollback published", assignment=name, replaces=wanted.replaces)
        self.metrics.counter("plumbline_rollbacks_total").inc()
        with transaction(self.guarding.engine) as session:
            for each in incidents_of_rollback(session, name):
                note_once(each, published_at=self.now_us())

    def _register(self, judged: Judging, rollback: Assignment) -> None:
        """Write into the registry that versions were taken out; those that it does not know, or moved on, stay."""
        engine = self.guarding.engine
        doing = f"the guard's {rollback.version}"
        with (
            owning(engine, doing, urgent=True, wait_seconds=OWNER_SECONDS) as owner,
            transaction(engine) as session,
        ):
            owner.require(session)
            taken_out(
                session, set(judged.faulty) - set(rollback.answering), by=GUARD, assignment=rollback.version,
                why=judged.why, evidence={"judged": judged.fold.assignment.version}, now_us=self.now_us(),
            )  # fmt: skip

    def _reconcile(self) -> None:
        """Record what came into effect while its own command was killed; one that is at work does so itself."""
        guarding = self.guarding
        self.reconcile_at = time.monotonic() + RECONCILE_SECONDS
        with transaction(guarding.engine) as session:
            if not self.unreconciled and not releases.unanswered(session):
                return
        stream = Stream(guarding.engine, guarding.bootstrap, guarding.prefix, self.now_us)
        try:
            with owning(guarding.engine, "the guard's comparison", urgent=False, wait_seconds=0.0) as owner:
                found = reconcile(stream, owner)
        except ReleaseHeld:
            return
        self.unreconciled = False
        for name in found.recorded:
            log.warning("an assignment was active and not in the registry", assignment=name)

    def _effective(self, decision: Decision, sequence: int) -> None:
        with transaction(self.guarding.engine) as session:
            for each in incidents_of_rollback(session, decision.assignment):
                note_once(each, effective_at=decision.decided_at, effective_sequence=sequence)

    def _tell(self) -> None:
        """Store how far it is and what every trial came to, all in one SQL transaction."""
        now_us = self.now_us()
        rows = [] if self.judging is None else self.judging.rows(now_us)
        if self.judging is None and not self.awaited:
            self.begin = self.sequence + 1  # nothing before it will be counted again
        with transaction(self.guarding.engine) as session:
            record_position(session, self.begin, self.sequence, self.behind_ms, now_us)
            for row in rows:
                record_trial(session, row)
            open_incidents = unacknowledged_count(session)
        gauge = self.metrics.gauge
        gauge("plumbline_guard_sequence").set(self.sequence)
        gauge("plumbline_guard_behind_seconds").set(self.behind_ms / 1000)
        gauge("plumbline_guard_looked_seconds").set(now_us / SECOND_US)
        gauge("plumbline_incidents_open").set(open_incidents)
        gauge("plumbline_guard_alarm").clear()
        for row in rows:
            for each in row.figures:
                gauge("plumbline_guard_alarm").labels(str(row.version), each["rule"]).set(each["part"])
