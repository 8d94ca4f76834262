"""What this process knows of decisions: the newest that were journaled, and the transactions that are on their way.

One thread, the journal's reader, puts answers up; callers of any transport look, or wait for an event of their own.
"""

import threading
from dataclasses import dataclass
from typing import Final

from plumbline.errors import PlumblineError, TransactionRejected
from plumbline.transaction import Transaction

WAITING_MAX: Final = 100_000
"""Transactions on their way; what is beyond is forgotten, oldest first, and sent again when it is asked for again."""

REJECTED_MAX: Final = 1_000

Place = tuple[int, int]
"""Partition and offset of a message in the transactions topic."""


@dataclass(frozen=True, slots=True)
class Journaled:
    """A decision as the journal holds it: its sequence number, and its bytes."""

    sequence: int
    raw: bytes


class Waiting:
    """One transaction on its way, sent once, waited for by any number of callers.

    `settled` is set when one of the three is known: the decision; that the id was decided before; why there is none.
    """

    __slots__ = ("decided_before", "error", "found", "settled", "taken_at", "transaction")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.settled = threading.Event()
        self.taken_at: Place | None = None
        self.found: Journaled | None = None
        self.decided_before: int | None = None
        self.error: PlumblineError | None = None


class Board:
    """The newest decisions by transaction id, and who is waited for; safe to use from any thread."""

    def __init__(self, remembered: int) -> None:
        """remembered: how many decisions are kept; the oldest is forgotten for each new one."""
        self._remembered = remembered
        self._lock = threading.Lock()
        self._decided: dict[str, Journaled] = {}
        self._waiting: dict[str, Waiting] = {}
        self._rejected: dict[Place, str] = {}

    def claim(self, transaction: Transaction) -> tuple[Journaled | Waiting, bool]:
        """What is known of this id, or a new Waiting, and whether it is new: then the caller must send it."""
        with self._lock:
            known = self._decided.get(transaction.transaction_id) or self._waiting.get(transaction.transaction_id)
            if known is not None:
                return known, False
            waiting = Waiting(transaction)
            self._waiting[transaction.transaction_id] = waiting
            if len(self._waiting) > WAITING_MAX:
                del self._waiting[next(iter(self._waiting))]
            return waiting, True

    def find(self, transaction_id: str) -> Journaled | None:
        """A remembered decision."""
        return self._decided.get(transaction_id)

    def is_waiting(self, transaction_id: str) -> bool:
        """Whether a transaction was sent from here and has no answer yet."""
        return transaction_id in self._waiting

    def decided(self, transaction_id: str, journaled: Journaled) -> None:
        """A decision was journaled, or an old one was found: whoever waits for it has it. The first one stands."""
        with self._lock:
            first = self._decided.setdefault(transaction_id, journaled)
            if len(self._decided) > self._remembered:
                del self._decided[next(iter(self._decided))]
            waiting = self._waiting.pop(transaction_id, None)
        if waiting is not None:
            waiting.found = first
            waiting.settled.set()

    def conflicted(self, transaction_id: str, sequence: int) -> None:
        """The journal says, at this sequence, that the id was decided before; whoever waits must look for it."""
        with self._lock:
            waiting = self._waiting.pop(transaction_id, None)
        if waiting is not None:
            waiting.decided_before = sequence
            waiting.settled.set()

    def taken(self, waiting: Waiting, place: Place) -> None:
        """Kafka has a transaction that was sent from here."""
        with self._lock:
            waiting.taken_at = place
            error = self._rejected.pop(place, None)
        if error is not None:
            self.failed(waiting, TransactionRejected(error))

    def rejected(self, place: Place, error: str) -> None:
        """The scorer did not accept a message of the transactions topic."""
        with self._lock:
            # It may be journaled before its acknowledgement is here.
            self._rejected[place] = error
            if len(self._rejected) > REJECTED_MAX:
                del self._rejected[next(iter(self._rejected))]
            waiting = next((each for each in self._waiting.values() if each.taken_at == place), None)
        if waiting is not None:
            self.failed(waiting, TransactionRejected(error))

    def failed(self, waiting: Waiting, error: PlumblineError) -> None:
        """There will be no answer to this one; the same transaction may be sent again."""
        with self._lock:
            if self._waiting.get(waiting.transaction.transaction_id) is waiting:
                del self._waiting[waiting.transaction.transaction_id]
        waiting.error = error
        waiting.settled.set()
