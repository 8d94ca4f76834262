"""The API's reader of the journal: a thread that puts every decision up on the board as it becomes visible."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition

from app.api.board import Board, Journaled
from app.journal import bounds, open_reader, reaching
from plumbline.errors import PlumblineError

log = structlog.get_logger()

POLL_MS: Final = 500
IDLE_CHECK_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5


class Named(msgspec.Struct, gc=False):
    """The id of a transaction; the rest of it is skipped unread."""

    transaction_id: str


class Sourced(msgspec.Struct, gc=False):
    """Where a message came from."""

    topic: str
    partition: int
    offset: int


class Seen(msgspec.Struct, gc=False):
    """The few parts of a journal entry, of whatever kind, by which waiting callers are found."""

    type: str
    transaction: Named | None = None
    source: Sourced | None = None
    error: str = ""


seen: Final = msgspec.json.Decoder(Seen).decode


class Following:
    """Follows the journal from the newest decisions on; over a restart of the broker it loses and repeats none."""

    def __init__(
        self,
        board: Board,
        bootstrap: str,
        transactions: str,
        partition: TopicPartition,
        remembered: int,
        told: Callable[[int], None] = lambda _sequence: None,
    ) -> None:
        """The thread is not started yet.

        transactions: that topic's name; remembered: how many entries are read back at the start; told: hears of the
        newest sequence number read.
        """
        self._board = board
        self._bootstrap = bootstrap
        self._transactions = transactions
        self._partition = partition
        self._remembered = remembered
        self._told = told
        self._next: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self.caught_up = threading.Event()
        """Set while the broker answers and the journal is read to where it ended when reading began."""

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except PlumblineError as error:
                self._stumbled()
                log.error("the journal cannot be followed", error=str(error))
            except Exception:
                # Whatever it is: a reader that ended would leave every caller with the fallback for good.
                self._stumbled()
                log.exception("the journal cannot be followed")

    def _stumbled(self) -> None:
        """Callers get the fallback meanwhile, /readyz says so, and reading begins again where it ended."""
        self.caught_up.clear()
        self._stop.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        with closing(open_reader(self._bootstrap, self._partition)) as consumer:
            first, end = bounds(consumer, self._bootstrap, self._partition)
            if self._next is None:
                self._next = max(first, end - self._remembered)
            consumer.seek(self._partition, self._next)
            heard_at = time.monotonic()
            while not self._stop.is_set():
                records = self._poll(consumer)
                for record in records:
                    self._take(record.offset, record.value)
                if records:
                    heard_at = time.monotonic()
                    self._told(records[-1].offset)
                elif time.monotonic() - heard_at >= IDLE_CHECK_SECONDS:
                    # `poll` is silent both when nothing comes and when nobody is there: ask.
                    bounds(consumer, self._bootstrap, self._partition)
                    heard_at = time.monotonic()
                if not self.caught_up.is_set() and consumer.position(self._partition) >= end:
                    self.caught_up.set()

    def _poll(self, consumer: KafkaConsumer) -> list[Any]:
        with reaching(self._bootstrap):
            found: list[Any] = consumer.poll(timeout_ms=POLL_MS).get(self._partition, [])
            return found

    def _take(self, sequence: int, raw: bytes) -> None:
        entry = seen(raw)
        if entry.type == "decision" and entry.transaction is not None:
            self._board.decided(entry.transaction.transaction_id, Journaled(sequence, raw))
        elif entry.type == "conflict" and entry.transaction is not None:
            self._board.conflicted(entry.transaction.transaction_id, sequence)
        elif entry.type == "rejected" and entry.source is not None and entry.source.topic == self._transactions:
            self._board.rejected((entry.source.partition, entry.source.offset), entry.error)
        self._next = sequence + 1
