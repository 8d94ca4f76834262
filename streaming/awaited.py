"""Which journaled decisions still wait for which shadow's answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from plumbline.journal import Answered

Rows = list[tuple[int, str, list[int]]]
"""A shadow's version, the declaration to ask it under, and the sequence numbers that wait for it."""


@dataclass(slots=True)
class Awaited:
    """By a shadow's version, the decisions' sequence numbers, and the fingerprint of the declaration to ask it under.

    What was decided while a shadow was in force waits until the journal holds its one answer. Leaders skip what would
    wait too long, so this stays small.
    """

    by_version: dict[int, dict[int, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_version)

    def expect(self, sequences: Iterable[int], shadows: Iterable[tuple[int, str]]) -> None:
        """Note that these decisions wait for these shadows, each a version and its declaration's fingerprint."""
        for version, fingerprint in shadows:
            self.by_version.setdefault(version, {}).update(dict.fromkeys(sequences, fingerprint))

    def take(self, entry: Answered) -> None:
        """Note that what a shadow's answer names waits for it no longer; other answers change nothing."""
        waiting = self.by_version.get(entry.version, {})
        for sequence in entry.sequences:
            waiting.pop(sequence, None)
        if not waiting:
            self.by_version.pop(entry.version, None)

    def rows(self) -> Rows:
        """All of it, sorted."""
        found: dict[tuple[int, str], list[int]] = {}
        for version, waiting in self.by_version.items():
            for sequence, fingerprint in waiting.items():
                found.setdefault((version, fingerprint), []).append(sequence)
        return [(*key, sorted(sequences)) for key, sequences in sorted(found.items())]

    @classmethod
    def of(cls, rows: Rows) -> "Awaited":
        """What `rows` gave."""
        made = cls()
        for version, fingerprint, sequences in rows:
            made.expect(sequences, [(version, fingerprint)])
        return made
