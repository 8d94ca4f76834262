"""Decisions that wait for their shadows' answers in the journal, with what was recomputed for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from audit.report import Difference
from features.history import Integers
from plumbline.decision import Decision
from plumbline.journal import Answered
from plumbline.transaction import Transaction

LOST_DECISIONS: Final = 50_000
"""A decision that waits for a shadow while so many more are made waits in vain; scorers let far fewer wait."""


@dataclass(frozen=True, slots=True)
class Row:
    """A decision that a shadow scored: the transaction parsed again, history under the shadow's declaration, the score.

    fingerprint, names: of that declaration and of its measures; history: int64 [measures].
    """

    sequence: int
    decision: Decision
    transaction: Transaction
    fingerprint: str
    names: Sequence[str]
    history: Integers
    value: float = 0.0


@dataclass(slots=True)
class Shadowed:
    """The decisions that wait, by shadow, in their order.

    begun: entries up to this sequence number are not known, so answers about them are passed over;
    rows, failed: answers taken so far that were compared, and those without a score.
    """

    begun: int = -1
    rows: int = 0
    failed: int = 0
    _waiting: dict[int, dict[int, tuple[int, Row | None]]] = field(default_factory=dict)
    _decisions: int = 0

    @property
    def waiting(self) -> int:
        """Answers that have not come yet."""
        return sum(len(each) for each in self._waiting.values())

    def expect(self, sequence: int, rows: Mapping[int, Row | None]) -> None:
        """Note that a decision waits; rows: by shadow, what to compare its answer with, None where nothing is."""
        self._decisions += 1
        for version, row in rows.items():
            self._waiting.setdefault(version, {})[sequence] = self._decisions, row

    def take(self, sequence: int, answer: Answered) -> tuple[list[Row], list[Difference]]:
        """The rows to compare of a shadow's answer, and what is wrong with the answer itself."""
        waiting = self._waiting.get(answer.version, {})
        rows: list[Row] = []
        wrong: list[Difference] = []
        if answer.rows != len(answer.sequences) or len(answer.values) != (0 if answer.failure else answer.rows):
            told = f"{len(answer.sequences)} decisions, {len(answer.values)} scores"
            wrong.append(_difference(sequence, answer, "rows", told, f"{answer.rows} {answer.failure or 'answered'}"))
        values = np.array(answer.values, np.float64)
        for n, number in enumerate(answer.sequences):
            if number not in waiting:
                if number > self.begun:
                    wrong.append(_difference(sequence, answer, f"entry {number}", "answered", "nothing waits for it"))
                continue
            _, row = waiting.pop(number)
            if row is not None and n < len(values):
                self.rows += 1
                rows.append(replace(row, value=float(values[n])))
            elif row is not None:
                self.failed += 1
        return rows, wrong

    def lost(self) -> Iterator[Difference]:
        """Decisions whose answer would have come long ago; they wait no longer."""
        for version, waiting in self._waiting.items():
            while waiting:
                sequence, (made, row) = next(iter(waiting.items()))
                if self._decisions - made <= LOST_DECISIONS:
                    break
                del waiting[sequence]
                if row is not None:
                    yield Difference(
                        sequence, row.decision.transaction.transaction_id, "intake", f"answer of shadow {version}",
                        "absent", f"answered within {LOST_DECISIONS} decisions", model_version=version,
                    )  # fmt: skip


def _difference(sequence: int, answer: Answered, name: str, journaled: str, recomputed: str) -> Difference:
    return Difference(
        sequence, f"shadow {answer.version}", "intake", name, journaled, recomputed, model_version=answer.version
    )
