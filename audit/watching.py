"""The watching process: audits a sample all the time, keeps conservation counted, and answers who asks for replays.

SQL says what was counted, in the same transaction as how far: a process that is killed folds the journal again from its
newest snapshot, and counts nothing up to there a second time. Whatever goes wrong with Kafka or SQL, the answer is the
same: begin anew from what was written down.
"""

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

import sqlalchemy as sa
import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from msgspec import to_builtins

from audit.counting import POLL_MS, Balanced, Counting, head_from
from audit.following import RecentVersions, compare_sample
from audit.keeping import restore, save
from audit.past import Sources
from audit.replay import replay
from audit.report import Report
from audit.selection import Sample
from observe.metrics import Metrics
from plumbline import journal
from plumbline.errors import PlumblineError, Refused, Retryable, Unready
from store.audits import record_watched
from store.decisions import decision as stored_decision
from store.engine import transaction
from store.imbalances import clear_imbalance, record_imbalance
from store.ledger import newest_decision
from store.watch import (
    answer_recomputation,
    begin_continuous_audit,
    continuous_audit,
    locked_continuous_audit,
    record_balance,
    waiting_recomputations,
)
from streaming.kafka import reader
from streaming.records import require_holds

log = structlog.get_logger()

ROUND_SECONDS: Final = 0.5
TELL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
MOST_RECORDS: Final = 2_000
LASTING_SECONDS: Final = 10.0
"""Two looks a second: an imbalance that some twenty of them in a row have seen is none of a moment."""
DETAIL_MOST: Final = 50
"""Differences that the console can show; all are counted."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What to watch.

    sources: the journal, the archive before it, the models' files; folder: where it writes down what it remembers;
    one_in: one account in so many is audited; save_every: entries between two snapshots; waiting_limit_ms: how long a
    message may be on its way before the console warns; lasting_seconds: how long counts are unequal before that is an
    incident.
    """

    sources: Sources
    engine: sa.Engine
    folder: Path
    one_in: int
    save_every: int
    waiting_limit_ms: int
    lasting_seconds: float = LASTING_SECONDS


class _CountedElsewhere(Exception):
    """SQL says another sequence than this process left there: another one counts too, or begins anew."""


def begin_anew(watching: Watching, now_us: int) -> None:
    """Forget what was counted, so that the next run counts from the journal's first entry."""
    with transaction(watching.engine) as session:
        begin_continuous_audit(session, watching.one_in, now_us)


def run(
    watching: Watching,
    metrics: Metrics,
    now_us: Callable[[], int],
    stop: Event,
    announce: Callable[[int], None] = lambda _: None,
    *,
    once: bool = False,
) -> None:
    """Watch until `stop` is set; with `once` up to the journal's present end.

    now_us: our clock; announce: told the sequence after each round. While Kafka or SQL is away it waits, and says so
    in the log; with `once` it raises. Raises Refused when the journal is not the one that SQL counted.
    """
    while not stop.is_set():
        try:
            with _Life(watching, metrics, now_us) as life:
                life.go(stop, announce, once)
            return
        except _CountedElsewhere:
            log.warning("somebody else counted meanwhile; beginning anew from what was written down")
        except (Retryable, KafkaError) as error:
            if once:
                raise
            log.warning("watching waits", reason=f"{type(error).__name__}: {error}", seconds=RETRY_SECONDS)
            stop.wait(RETRY_SECONDS)


class _Life:
    """One life of the process: from what was written down until it ends, or until Kafka or SQL cannot be reached."""

    def __init__(self, watching: Watching, metrics: Metrics, now_us: Callable[[], int]) -> None:
        self.watching = watching
        self.metrics = metrics
        self.now_us = now_us
        self.partition = watching.sources.journal.partition
        self.counted, self.total = self._counted()
        with ExitStack() as stack:
            where = watching.sources.journal
            end = where.end()
            if self.counted >= end:
                raise Refused(
                    f"the journal ends before {end}, but SQL says it was audited up to {self.counted}: this is another "
                    "journal, or one cut short; point PLUMBLINE_DATABASE_URL to the database that belongs to it, or "
                    "begin anew with --anew"
                )
            with transaction(watching.engine) as session:
                decided = newest_decision(session.connection()) if self.counted >= 0 else None
            require_holds(where.bootstrap, self.partition, decided)
            self.following, kept = restore(watching.folder, self.counted, watching.sources)
            self.saved = self.following.state.sequence
            self.counting = stack.enter_context(closing(Counting(where.bootstrap, where.prefix, watching.engine, kept)))
            begin = {self.partition: self.following.state.sequence + 1}
            self.reader: KafkaConsumer = stack.enter_context(
                closing(reader(where.bootstrap, begin, most_records=MOST_RECORDS))
            )
            self.open = stack.pop_all()
        self.versions = RecentVersions(watching.sources.models)
        self.sample = Sample(1, watching.one_in)
        self.delta = _Delta()
        self.behind_ms = 0
        self.unequal_since: float | None = None
        self.end = end
        log.info("watching", sequence=self.following.state.sequence, counted=self.counted, end=end)

    def __enter__(self) -> "_Life":
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def _counted(self) -> tuple[int, dict[str, Any]]:
        """What SQL says was counted; a row of its own is begun where there is none, or one of another sample."""
        with transaction(self.watching.engine) as session:
            row = continuous_audit(session)
            if row is None or row.one_in != self.watching.one_in:
                row = begin_continuous_audit(session, self.watching.one_in, self.now_us())
            return row.sequence, {"compared": row.compared, "different": row.different, "unverified": row.unverified}

    def go(self, stop: Event, announce: Callable[[int], None], once: bool) -> None:
        """Round after round: read to the end, count, tell, answer."""
        while not stop.is_set():
            ends = self.counting.ends()
            self.end = self.reader.end_offsets([self.partition])[self.partition]
            self._read_on(stop)
            if not stop.is_set():
                self.behind_ms = 0
                balanced = self.counting.balance(ends, self.now_us() // 1000)
                if not balanced.imbalance:
                    self.unequal_since = None
                elif self.unequal_since is None:
                    self.unequal_since = time.monotonic()
                self._tell(balanced)
                self._answer()
                announce(self.following.state.sequence)
            if self.following.state.sequence - self.saved >= self.watching.save_every:
                self._save()
            if once and (self.unequal_since is None or self._lasts()):
                break
            stop.wait(ROUND_SECONDS)
        self._tell(None)
        if self.following.state.sequence > self.saved:
            self._save()

    def _lasts(self) -> bool:
        """Whether the counts have been unequal for so long that it is no matter of one look."""
        since = self.unequal_since
        return since is not None and time.monotonic() - since >= self.watching.lasting_seconds

    def _read_on(self, stop: Event) -> None:
        """Take the journal up to the end that was asked for, telling SQL once a second how far it is."""
        told = time.monotonic()
        while self.reader.position(self.partition) < self.end and not stop.is_set():
            for records in self.reader.poll(timeout_ms=POLL_MS).values():
                self._take(records)
                self.behind_ms = max(0, self.now_us() // 1000 - records[-1].timestamp)
            if time.monotonic() - told >= TELL_SECONDS:
                self._tell(None)
                told = time.monotonic()

    def _take(self, records: list[Any]) -> None:
        entries = [(each.offset, journal.decode(each.value)) for each in records]
        self.counting.take([(n, head_from(entry)) for n, entry in entries])
        for taken in self.following.take(entries):
            report = Report()
            self.delta.unverified += compare_sample(
                report, taken, self.counted, self.sample, self.following.policies, self.versions,
                self.following.shadowed,
            )  # fmt: skip
            self.delta.add(report)

    def _tell(self, balanced: Balanced | None) -> None:
        """Store what was counted, how far, and the balance where there is a new one, in one SQL transaction."""
        sequence, now_us = self.following.state.sequence, self.now_us()
        reached = max(sequence, self.counted)
        with transaction(self.watching.engine) as session:
            row = locked_continuous_audit(session)
            if row is None or row.sequence != self.counted or row.one_in != self.watching.one_in:
                raise _CountedElsewhere
            row.sequence, row.journal_end, row.behind_ms, row.updated_at = reached, self.end, self.behind_ms, now_us
            row.compared += self.delta.compared
            row.different += self.delta.different
            row.unverified += self.delta.unverified
            row.detail = [*row.detail, *self.delta.detail][:DETAIL_MOST]
            if self.delta.different:
                record_watched(
                    session, first_sequence=self.counted + 1, last_sequence=reached, compared=self.delta.compared,
                    different=self.delta.different, detail=self.delta.detail, one_in=row.one_in, now_us=now_us,
                )  # fmt: skip
            if balanced is not None:
                body = to_builtins(balanced) | {"waiting_limit_ms": self.watching.waiting_limit_ms}
                record_balance(session, balanced.imbalance, balanced.oldest_waiting_ms, body, now_us)
                if self._lasts():
                    unequal = [each for each in body["equations"] if each["left"] != each["right"]]
                    record_imbalance(session, balanced.imbalance, unequal, now_us)
                elif not balanced.imbalance:
                    clear_imbalance(session, now_us)
            self.total = {"compared": row.compared, "different": row.different, "unverified": row.unverified}
        if self.delta.different:
            log.error("the audit found differences", count=self.delta.different, first=self.delta.detail[:1])
        self.counted, self.delta = reached, _Delta()
        self._measure(balanced)

    def _measure(self, balanced: Balanced | None) -> None:
        gauge = self.metrics.gauge
        gauge("plumbline_audit_continuous_compared").set(self.total["compared"])
        gauge("plumbline_audit_continuous_different").set(self.total["different"])
        gauge("plumbline_audit_continuous_unverified").set(self.total["unverified"])
        gauge("plumbline_audit_sequence").set(self.following.state.sequence)
        gauge("plumbline_audit_behind_seconds").set(self.behind_ms / 1000)
        if balanced is not None:
            counts = balanced.kinds | {"acknowledged": balanced.acknowledged, "waiting": balanced.waiting}
            for step, count in counts.items():
                gauge("plumbline_conservation_messages").labels(step).set(count)
            gauge("plumbline_conservation_imbalance").set(balanced.imbalance)
            gauge("plumbline_oldest_waiting_seconds").set((balanced.oldest_waiting_ms or 0) / 1000)

    def _answer(self) -> None:
        """Replay what people asked for; what cannot be replayed is answered with the reason."""
        with transaction(self.watching.engine) as session:
            wishes = [(each.id, each.transaction_id) for each in waiting_recomputations(session)]
        for number, transaction_id in wishes:
            try:
                found = replay(self.watching.sources, self.versions, transaction_id, self._hint(transaction_id))
                result, body = ("equal" if found.equal else "different"), to_builtins(found)
            except Retryable:
                raise
            except PlumblineError as error:
                result, body = "failed", {"error": str(error)}
            with transaction(self.watching.engine) as session:
                answer_recomputation(session, number, result, body, self.now_us())
            log.info("recomputed", transaction_id=transaction_id, result=result)

    def _hint(self, transaction_id: str) -> int | None:
        with transaction(self.watching.engine) as session:
            try:
                return stored_decision(session, transaction_id).sequence
            except PlumblineError:
                return None

    def _save(self) -> None:
        """Write down what is remembered; only after SQL was told, so that it is never ahead of what was counted."""
        try:
            save(self.watching.folder, self.following, self.counting.kept)
            self.saved = self.following.state.sequence
        except (Unready, OSError) as error:
            log.error("nothing was written down", error=str(error))
            self.saved = self.following.state.sequence


@dataclass(slots=True)
class _Delta:
    """What was found since SQL was told last."""

    compared: int = 0
    different: int = 0
    unverified: int = 0
    detail: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, report: Report) -> None:
        """Add a chunk's report."""
        self.compared += report.decisions
        self.different += report.decisions_different
        self.detail += [dataclasses.asdict(each) for each in report.differences[: DETAIL_MOST - len(self.detail)]]
