"""What the demo sees of the journal while it runs: how many decisions, of which outcome, and how long they took."""

from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final

import numpy as np
from kafka import TopicPartition

from plumbline import journal
from plumbline.decision import Decision, Outcome
from plumbline.journal import Conflict, Rejected
from plumbline.names import Topic
from streaming.kafka import end_offsets, reader

POLL_MS: Final = 200
LATENCIES_KEPT: Final = 100_000


@dataclass(slots=True)
class Seen:
    """Counts since the watch began; the newest latencies, from the broker's append of a transaction to that of its
    decision.
    """

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    answered: int = 0
    latencies_ms: deque[int] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    @property
    def decisions(self) -> int:
        """Decisions of any outcome."""
        return sum(self.outcomes.values())

    def percentile_ms(self, share: float) -> float | None:
        """Latency that this percentage of decisions did not exceed; None before the first."""
        return float(np.percentile(self.latencies_ms, share)) if self.latencies_ms else None


class Watch:
    """Follows the journal from its present end, in a thread, until it is closed."""

    def __init__(self, bootstrap: str) -> None:
        partition = TopicPartition(Topic.DECISIONS.value, 0)
        self.seen = Seen()
        self.first_sequence = end_offsets(bootstrap, [partition.topic])[partition]
        self._consumer = reader(bootstrap, {partition: self.first_sequence}, most_records=5000)
        self._changed = Event()
        self._closing = Event()
        self._thread = Thread(target=self._follow, name="watch", daemon=True)
        self._thread.start()

    def wait_for(self, answered: int, timeout_seconds: float) -> bool:
        """Wait until so many transactions have an answer; False when nothing new came for the given time."""
        while self.seen.answered < answered:
            self._changed.clear()
            if self.seen.answered < answered and not self._changed.wait(timeout_seconds):
                return False
        return True

    def close(self) -> None:
        """Stop following."""
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        with closing(self._consumer) as consumer:
            while not self._closing.is_set():
                for records in consumer.poll(timeout_ms=POLL_MS).values():
                    for record in records:
                        self._note(journal.decode(record.value), record.timestamp)
                    self._changed.set()

    def _note(self, entry: journal.Entry, journaled_at_ms: int) -> None:
        if isinstance(entry, Decision):
            self.seen.outcomes[entry.outcome] += 1
            self.seen.latencies_ms.append(journaled_at_ms - entry.source.appended_at_ms)
        if isinstance(entry, Decision | Conflict) or (
            isinstance(entry, Rejected) and entry.source.topic == Topic.TRANSACTIONS.value
        ):
            self.seen.answered += 1
