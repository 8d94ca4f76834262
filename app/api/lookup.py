"""Decisions older than the board remembers: SQL knows their place in the journal, and the journal has their bytes.

Where SQL does not have one (no ledger runs, or it is behind), the journal itself is searched, newest entries first.
Each id is looked for once at a time, whoever asks; what is found goes up on the board.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
import structlog
from kafka import KafkaConsumer, TopicPartition

from app.api.board import Board, Journaled
from app.api.following import seen
from app.journal import bounds, open_reader, reaching
from plumbline.errors import BrokerUnavailable, PlumblineError
from store.tables import Decision

log = structlog.get_logger()

CHUNK: Final = 20_000
POLL_MS: Final = 200
QUIET_POLLS: Final = 25

Found = Journaled | None


class Lookup:
    """Finds first decisions; `close` ends its threads."""

    def __init__(self, board: Board, engine: sa.Engine, bootstrap: str, partition: TopicPartition) -> None:
        self._board = board
        self._engine = engine
        self._bootstrap = bootstrap
        self._partition = partition
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, bool], Future[Found]] = {}
        # A search of the whole journal must not hold up those that SQL can answer.
        self._stored_thread = ThreadPoolExecutor(1, "stored")
        self._search_thread = ThreadPoolExecutor(1, "search")
        self._consumer: KafkaConsumer | None = None

    def stored(self, transaction_id: str) -> Future[Found]:
        """The decision that SQL knows of."""
        return self._shared((transaction_id, False), self._stored_thread, partial(self._stored, transaction_id))

    def first(self, transaction_id: str, before: int) -> Future[Found]:
        """The decision that was journaled before this sequence number, by SQL or by a search of the journal."""
        return self._shared((transaction_id, True), self._search_thread, partial(self._first, transaction_id, before))

    def close(self) -> None:
        """Give up what is being looked for."""
        self._stop.set()
        self._stored_thread.shutdown(wait=True, cancel_futures=True)
        self._search_thread.shutdown(wait=True, cancel_futures=True)
        if self._consumer is not None:
            self._consumer.close()

    def _shared(self, key: tuple[str, bool], thread: ThreadPoolExecutor, work: Any) -> Future[Found]:
        def done(future: Future[Found]) -> None:
            with self._lock:
                self._asked.pop(key, None)
            if not future.cancelled() and (error := future.exception()) is not None:
                log.warning("a decision could not be looked up", transaction_id=key[0], error=str(error))

        with self._lock:
            future = self._asked.get(key)
            if future is not None:
                return future
            future = self._asked[key] = thread.submit(work)
        future.add_done_callback(done)
        return future

    def _stored(self, transaction_id: str) -> Found:
        statement = sa.select(Decision.sequence).where(Decision.transaction_id == transaction_id)
        with self._engine.connect() as connection:
            sequence = connection.scalar(statement)
        if sequence is None:
            return None
        found = self._at(sequence)
        if not _decides(found.raw, transaction_id):
            raise BrokerUnavailable(f"journal entry {sequence} is not the decision on {transaction_id} that SQL names")
        self._board.decided(transaction_id, found)
        return found

    def _at(self, sequence: int) -> Journaled:
        """One entry of the journal. Used by one thread, which keeps its reader."""
        if self._consumer is None:
            self._consumer = open_reader(self._bootstrap, self._partition)
        try:
            with reaching(self._bootstrap):
                self._consumer.seek(self._partition, sequence)
                for _ in range(QUIET_POLLS):
                    for record in self._consumer.poll(timeout_ms=POLL_MS, max_records=1).get(self._partition, []):
                        if record.offset == sequence:
                            return Journaled(sequence, record.value)
        except PlumblineError:
            self._consumer.close()
            self._consumer = None
            raise
        raise BrokerUnavailable(f"journal entry {sequence} is not given out by Kafka at {self._bootstrap}")

    def _first(self, transaction_id: str, before: int) -> Found:
        found = self._board.find(transaction_id)
        if found is None:
            try:
                found = self.stored(transaction_id).result()
            except PlumblineError as error:
                log.warning("SQL is passed over", error=str(error))
        return found or self._searched(transaction_id, before)

    def _searched(self, transaction_id: str, before: int) -> Found:
        """The decision, by reading the journal backwards, chunk by chunk; None when it is not there."""
        wanted = transaction_id.encode()
        with closing(open_reader(self._bootstrap, self._partition)) as consumer:
            beginning, _ = bounds(consumer, self._bootstrap, self._partition)
            for high in range(before, beginning, -CHUNK):
                for record in self._read(consumer, max(beginning, high - CHUNK), high):
                    if wanted in record.value and _decides(record.value, transaction_id):
                        found = Journaled(record.offset, record.value)
                        self._board.decided(transaction_id, found)
                        return found
        log.error("a transaction was decided before, and its decision is gone", transaction_id=transaction_id)
        return None

    def _read(self, consumer: KafkaConsumer, low: int, high: int) -> Any:
        """The journal's records from `low` to before `high`."""
        with reaching(self._bootstrap):
            consumer.seek(self._partition, low)
            while consumer.position(self._partition) < high:
                if self._stop.is_set():
                    return
                for record in consumer.poll(timeout_ms=POLL_MS).get(self._partition, []):
                    if record.offset < high:
                        yield record


def _decides(raw: bytes, transaction_id: str) -> bool:
    entry = seen(raw)
    return (
        entry.type == "decision"
        and entry.transaction is not None
        and entry.transaction.transaction_id == transaction_id
    )
