"""The decision API itself, for every transport: take a transaction, send it once, wait for the journal's answer.

A failure never approves: what is not decided in time gets the fallback, which is review or decline; what Kafka did not
take is an error, and no answer at all.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager

from app.api.answer import Answer, answered, fallen_back
from app.api.board import Board, Journaled, Waiting
from app.api.lookup import Lookup
from app.api.sending import Sending
from observe.metrics import Metrics
from plumbline.decision import Outcome
from plumbline.errors import Busy, NotTaken, PlumblineError, StoreUnavailable, TransactionChanged, TransactionNotFound
from plumbline.times import DAY_US, MAX_AGE_DAYS
from plumbline.transaction import Transaction, encode, parse

LOOK_SECONDS = 2.0
"""How long a question about an old decision may take."""


class Decisions:
    """Answers callers, each in a thread of its transport."""

    def __init__(
        self,
        board: Board,
        sending: Sending,
        lookup: Lookup,
        metrics: Metrics,
        now_us: Callable[[], int],
        *,
        fallback: Outcome,
        callers_max: int,
        max_age_days: int = MAX_AGE_DAYS,
    ) -> None:
        """now_us: our clock, microseconds since 1970 UTC; callers_max: more at a time are told to come again.

        max_age_days: a transaction that is older is refused here, as the scorer would.
        """
        if fallback is Outcome.APPROVE:
            raise AssertionError("a failure never approves")
        self._board = board
        self._sending = sending
        self._lookup = lookup
        self._metrics = metrics
        self._now_us = now_us
        self._max_age_us = max_age_days * DAY_US
        self._fallback = fallback
        self._callers = threading.BoundedSemaphore(callers_max)

    def decide(self, raw: bytes, seconds: float) -> Answer:
        """The first decision on the transaction in these bytes; the fallback when it is not there within `seconds`.

        raw: UTF-8 JSON. Raises InvalidTransaction (nothing was written), TransactionChanged (its id came before with
        another body), TransactionRejected, Busy (nothing was written) and NotTaken (Kafka did not acknowledge it).
        """
        until = time.monotonic() + seconds
        with self._waiting():
            now_us = self._now_us()
            transaction = parse(raw, now_us, now_us - self._max_age_us)
            known, is_new = self._board.claim(transaction)
            if isinstance(known, Waiting):
                if is_new:
                    self._send(known)
                return self._settled(known, transaction, until)
            return self._count("repeated", answered(known, transaction))

    def get(self, transaction_id: str) -> Answer:
        """The decision on a transaction that was sent before, by whatever way. Raises TransactionNotFound."""
        found = self._board.find(transaction_id)
        if found is None:
            try:
                found = self._lookup.stored(transaction_id).result(LOOK_SECONDS)
            except (FutureTimeout, CancelledError) as error:
                raise StoreUnavailable("SQL or the journal did not answer in time: try again") from error
        if found is None:
            state = "is in Kafka and not decided yet" if self._board.is_waiting(transaction_id) else "is not known here"
            raise TransactionNotFound(f"transaction {transaction_id} {state}")
        return answered(found)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        if not self._callers.acquire(blocking=False):
            self._metrics.counter("plumbline_api_answers_total").labels("busy").inc()
            raise Busy("too many callers wait for decisions: nothing was written, try again in a moment")
        gauge = self._metrics.gauge("plumbline_api_waiting_callers")
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()
            self._callers.release()

    def _send(self, waiting: Waiting) -> None:
        transaction = waiting.transaction
        board = self._board
        try:
            self._sending.send(
                transaction.account_id.encode(),
                encode(transaction),
                taken=lambda partition, offset: board.taken(waiting, (partition, offset)),
                failed=lambda error: board.failed(waiting, error),
            )
        except BaseException as error:
            board.failed(waiting, error if isinstance(error, PlumblineError) else NotTaken(f"not sent: {error}"))
            raise

    def _settled(self, waiting: Waiting, transaction: Transaction, until: float) -> Answer:
        settled = waiting.settled.wait(until - time.monotonic())
        if waiting.error is not None:
            raise waiting.error
        if waiting.found is not None:
            return self._count("decided", answered(waiting.found, transaction))
        if waiting.decided_before is not None:
            return self._first(transaction, waiting.decided_before, until)
        if transaction != waiting.transaction:
            raise TransactionChanged(transaction.transaction_id)
        if waiting.taken_at is None and not settled:
            self._metrics.counter("plumbline_api_answers_total").labels("not_taken").inc()
            raise NotTaken(
                f"Kafka did not say in time that it took transaction {transaction.transaction_id}: it may still be "
                "written; send it again under the same id, it is decided once"
            )
        return self._count("fallback", fallen_back(transaction, self._fallback, "deadline"))

    def _first(self, transaction: Transaction, before: int, until: float) -> Answer:
        """The first decision on an id that was decided before, and is not remembered."""
        found: Journaled | None = None
        try:
            found = self._lookup.first(transaction.transaction_id, before).result(max(0, until - time.monotonic()))
        except (FutureTimeout, CancelledError, PlumblineError):
            found = self._board.find(transaction.transaction_id)
        if found is not None:
            return self._count("repeated", answered(found, transaction))
        return self._count("fallback", fallen_back(transaction, self._fallback, "first_decision_sought"))

    def _count(self, kind: str, answer: Answer) -> Answer:
        self._metrics.counter("plumbline_api_answers_total").labels(kind).inc()
        return answer
