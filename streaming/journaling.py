"""Writing micro-batches to the journal, each while the next one is being decided.

Waiting for the model server and waiting for the broker so overlap. At most one batch is under way, so the entries keep
their order. Whoever hands over a batch must `settle` the one before it; when that one could not be written, nothing
after it is.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Final

from kafka import KafkaProducer, TopicPartition
from kafka.errors import ProducerFencedError

from plumbline import journal
from plumbline.decision import Decision
from plumbline.errors import BrokerUnavailable, Fenced
from plumbline.journal import Conflict, Entry, LabelApplied
from streaming.batch import Batch
from streaming.kafka import close_off, commit, end_offsets

TRANSACTION_MS: Final = 10_000
"""The broker aborts a journal transaction open for longer, so that a dead leader cannot stall the journal's readers."""

COMMIT_MS: Final = 10_000
"""Who waits longer for the broker leads in name only: he holds the lease, and nobody else may decide."""

SLOW_SECONDS: Final = 2.0
"""A commit that took longer may have met a broker that stood still: the journal is closed off behind it."""


@dataclass(frozen=True, slots=True)
class Written:
    """A batch that readers can see now, its first entry's sequence number, and how long the writing took.

    appended_at_ms: when the broker took in its newest entry, by the broker's clock.
    """

    batch: Batch
    first: int
    seconds: float
    appended_at_ms: int

    @property
    def sequence(self) -> int:
        """Its last entry's sequence number."""
        return self.first + len(self.batch.entries) - 1


class Journaling:
    """The leader's pen: a transactional producer, used by one thread of its own."""

    def __init__(self, producer: KafkaProducer, to: TopicPartition, dead_letters: str) -> None:
        self._producer = producer
        self._journal = to
        self._dead_letters = dead_letters
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._under_way: Future[Written] | None = None

    def begin(self, batch: Batch) -> None:
        """Start writing a batch; the one before it must be settled."""
        if self._under_way is not None:
            raise AssertionError("the batch before is still under way")
        self._under_way = self._thread.submit(self._write, batch)

    def settle(self) -> Written | None:
        """Wait for the batch under way; None when there is none. Raises Fenced, or the library's KafkaError.

        After an error it is unknown whether readers see the batch; a new producer of the same id finds out.
        """
        under_way, self._under_way = self._under_way, None
        return None if under_way is None else under_way.result()

    def __enter__(self) -> "Journaling":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the thread has let go of the producer."""
        self._thread.shutdown(wait=True)

    def _write(self, batch: Batch) -> Written:
        """Make a batch's entries and dead letters visible to readers, all or none."""
        begun = perf_counter()
        try:
            self._producer.begin_transaction()
            sent = [
                self._producer.send(self._journal.topic, journal.encode(entry), key=key_of(entry), partition=0)
                for entry in batch.entries
            ]
            for letter in batch.dead_letters:
                self._producer.send(self._dead_letters, journal.encode(letter), partition=0)
            commit(self._producer, COMMIT_MS)
            if perf_counter() - begun > SLOW_SECONDS:
                close_off(self._producer, [self._journal], COMMIT_MS)
        except ProducerFencedError as error:
            raise Fenced("another scorer took over while this one was journaling") from error
        newest = sent[-1].get(timeout=0)
        first, last = sent[0].get(timeout=0).offset, newest.offset
        if last - first != len(sent) - 1:
            raise AssertionError(f"{len(sent)} entries of one transaction lie from {first} to {last}")
        return Written(batch, first, perf_counter() - begun, newest.timestamp)


def transactional_id(prefix: str) -> str:
    """The id under which the journal is written: a new producer of it fences every older one."""
    return f"{prefix}plumbline-scorer"


def begin_term(bootstrap: str, producer: KafkaProducer, to: TopicPartition, dead_letters: TopicPartition) -> int:
    """The end of the journal, which nobody but this new producer can move from now on.

    Raises Fenced, the library's KafkaError, and BrokerUnavailable where a transaction stays open: then begin anew.
    """
    try:
        close_off(producer, [to, dead_letters], COMMIT_MS)
    except ProducerFencedError as error:
        raise Fenced("another scorer took over before this one began") from error
    end = end_offsets(bootstrap, [to.topic])[to]
    written = end_offsets(bootstrap, [to.topic], committed_only=False)[to]
    if end != written:
        raise BrokerUnavailable(
            f"Kafka at {bootstrap} ended every transaction, but the journal, {written} long, is readable up to {end} "
            "only: a broker that stood still leaves it so for a moment, and the next try closes it off"
        )
    return end


def key_of(entry: Entry) -> bytes | None:
    """The journal record's key: the account it is about, where there is one."""
    if isinstance(entry, Decision | Conflict):
        return entry.transaction.account_id.encode()
    if isinstance(entry, LabelApplied) and entry.account_id:
        return entry.account_id.encode()
    return None
