"""Shadows are asked off the deciding path: about decisions that are journaled already, by threads of their own.

A decision that was made while a shadow was in force waits for it (`State.awaited`) until the journal holds the shadow's
one answer: its score, or why there is none. Answers are journaled with a later batch. What a leader leaves unanswered,
however it ends, the next one finds waiting in its fold of the journal, and asks again. A shadow that falls too far
behind is skipped for a while, which is an answer too; so what waits is bounded, and nothing waits for a shadow.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog
from kafka import TopicPartition

from plumbline import journal
from plumbline.decision import Decision
from plumbline.journal import Answered
from streaming.batch import Batch, model_columns
from streaming.kafka import reader
from streaming.model import Answer, Model, Question
from streaming.state import State

log = structlog.get_logger()

WAITING_MOST: Final = 16_384
"""Rows that wait for one shadow before the next ones are skipped."""

ASKED_AGAIN_ROWS: Final = 512
"""Rows of one question when a new leader asks again."""

POLL_MS: Final = 200


@dataclass(slots=True)
class _Queue:
    """One shadow: its thread, what it was or will be asked, the oldest first, and why it failed last, if it did."""

    thread: ThreadPoolExecutor
    asked: deque[tuple[Sequence[int], "Future[Answer]"]] = field(default_factory=deque)
    failure: str = ""

    @property
    def rows(self) -> int:
        """Rows that wait for an answer."""
        return sum(len(sequences) for sequences, answer in self.asked if not answer.done())


class Shadows:
    """The shadows of one leader's term."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._queues: dict[int, _Queue] = {}
        self._skipped: list[tuple[int, Sequence[int]]] = []

    def hand_over(self, sequences: Sequence[int], questions: Mapping[int, Question]) -> None:
        """Have shadows asked about journaled decisions; returns at once.

        sequences: of n decisions; questions: by a shadow's version, what it is asked about those n.
        """
        for version, question in questions.items():
            if version not in self._queues:
                self._queues[version] = _Queue(ThreadPoolExecutor(1, thread_name_prefix=f"shadow-{version}"))
            queue = self._queues[version]
            if queue.rows + len(sequences) > WAITING_MOST:
                self._skipped.append((version, sequences))
            else:
                queue.asked.append((sequences, queue.thread.submit(self._model.ask_patiently, question)))

    def answered(self, now_us: int) -> list[Answered]:
        """The answers that have come since the last call, as entries to journal."""
        found = [_entry(version, each, None, now_us) for version, each in self._skipped]
        self._skipped = []
        for version, queue in list(self._queues.items()):
            while queue.asked and queue.asked[0][1].done():
                sequences, asked = queue.asked.popleft()
                answer = asked.result()
                if answer.failure != queue.failure:
                    log.warning("a shadow answers otherwise than before", version=version, failure=answer.failure)
                    queue.failure = answer.failure
                found.append(_entry(version, sequences, answer, now_us))
        return found

    def let_go(self, versions: set[int]) -> None:
        """End the threads of shadows that are not in force any more, once they have answered.

        versions: those in force.
        """
        for version in [each for each, queue in self._queues.items() if each not in versions and not queue.asked]:
            self._queues.pop(version).thread.shutdown(wait=False)

    def rest(self, seconds: float) -> None:
        """Wait for the answers under way, but no longer than that."""
        wait([answer for queue in self._queues.values() for _, answer in queue.asked], seconds)

    def close(self) -> None:
        """Ask no more; what has no answer yet stays waiting."""
        for queue in self._queues.values():
            queue.thread.shutdown(wait=False, cancel_futures=True)


def _entry(version: int, sequences: Sequence[int], answer: Answer | None, now_us: int) -> Answered:
    """The journal's entry on what a shadow said of decisions; None: it was skipped."""
    scored = None if answer is None else answer.scored
    return Answered(
        version=version,
        role="shadow",
        rows=len(sequences),
        failure="skipped" if answer is None else answer.failure,
        micros=0 if answer is None else answer.micros,
        sequences=tuple(sequences),
        values=() if scored is None else tuple(scored.values.tolist()),
        journaled_at=now_us,
    )


def journaled(state: State, shadows: Shadows, batch: Batch, first: int) -> None:
    """Bring a leader's state up to a batch that is in the journal, and have shadows asked about its decisions.

    first: sequence number of the batch's first entry.
    """
    state.sequence = first + len(batch.entries) - 1
    for entry in batch.entries if state.awaited else ():
        if isinstance(entry, Answered):
            state.awaited.take(entry)
    if batch.shadows:
        sequences = [n for n, entry in enumerate(batch.entries, first) if isinstance(entry, Decision)]
        state.awaited.expect(sequences, [(each, asked.fingerprint) for each, asked in batch.shadows.items()])
        shadows.hand_over(sequences, batch.shadows)
    shadows.let_go({each for each, _ in state.shadows})


def ask_again(shadows: Shadows, state: State, decisions: Mapping[int, Decision]) -> None:
    """Have shadows asked about the decisions that an earlier leader left waiting; decisions: by sequence number."""
    for version, fingerprint, sequences in state.awaited.rows():
        for begin in range(0, len(sequences), ASKED_AGAIN_ROWS):
            part = sequences[begin : begin + ASKED_AGAIN_ROWS]
            found = [decisions[sequence] for sequence in part]
            history = np.array([each.history_of(fingerprint) for each in found], np.int64)
            columns = model_columns([each.transaction for each in found], history)
            shadows.hand_over(part, {version: Question(columns, fingerprint, version)})


def left_waiting(state: State, bootstrap: str, partition: TopicPartition) -> dict[int, Decision]:
    """The decisions that wait for shadows, from the journal; partition: the journal's."""
    found: dict[int, Decision] = {}
    wanted = {sequence for _, _, sequences in state.awaited.rows() for sequence in sequences}
    if not wanted:
        return found
    with closing(reader(bootstrap, {partition: min(wanted)})) as entries:
        while entries.position(partition) <= state.sequence:
            for records in entries.poll(timeout_ms=POLL_MS).values():
                for each in records:
                    if each.offset in wanted and isinstance(entry := journal.decode(each.value), Decision):
                        found[each.offset] = entry
    return found
