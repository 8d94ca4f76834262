"""What an audit found: how many entries were compared in each layer, how many differ, and the first differences."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

LAYERS: Final = ("transaction", "intake", "history", "sweep", "features", "score", "outcome", "reasons", "snapshot")
"""In the order in which a number comes about:

`transaction`  the raw message, parsed again
`intake`       what became of the message: decision, conflict, rejection, a label's effect
`history`      by the Beam pipeline, key by key
`sweep`        history once more, by the kernel in one sweep over all keys
`features`     by the `transform` graph of the model version that the record names
`score`        by that version's files
`outcome`      by the policy that the record names, with the rules' reasons
`reasons`      of alerts, the features' effects by the files of the version that decided
`snapshot`     the scorer's snapshots, each against the fold of the journal up to its sequence number
"""

SHOWN_MOST: Final = 100
"""Differences of each layer that are kept; all are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not the same; both as their bits and as people read them.

    distance_ulps: of two scores; fingerprint: the declaration that the record names; model_version: the one that the
    record names, where a model was asked; one named under `transaction_id` may be a place in a topic
    (`topic/partition@offset`), where a message has no id.
    """

    sequence: int
    transaction_id: str
    layer: str
    name: str
    journaled: str
    recomputed: str
    cause: str = ""
    distance_ulps: int | None = None
    fingerprint: str = ""
    model_version: int | None = None


@dataclass(slots=True)
class Tally:
    """Entries compared, and how many of them differ."""

    compared: int = 0
    different: int = 0


@dataclass(slots=True)
class Report:
    """What was compared, and how it came out.

    raw_missing: entries whose message the broker no longer keeps (their parsed form stands in for it); unscored:
    decisions that no model answered; shadow_rows, shadow_failed, shadow_waiting: decisions that a shadow scored,
    that it failed to, and that it had not answered about when the journal ended; by_version: scores by model version;
    policies, fingerprints: how many decisions
    named each; first_at_ms, last_at_ms: when the journal's broker took the first and the last entry.
    """

    first_sequence: int | None = None
    last_sequence: int | None = None
    first_at_ms: int | None = None
    last_at_ms: int | None = None
    layers: dict[str, Tally] = field(default_factory=lambda: {layer: Tally() for layer in LAYERS})
    by_version: dict[int, Tally] = field(default_factory=dict)
    policies: Counter[str] = field(default_factory=Counter)
    fingerprints: Counter[str] = field(default_factory=Counter)
    unscored: int = 0
    raw_missing: int = 0
    shadow_rows: int = 0
    shadow_failed: int = 0
    shadow_waiting: int = 0
    decisions: int = 0
    differences: list[Difference] = field(default_factory=list)
    _kept: Counter[str] = field(default_factory=Counter)

    def see(self, sequence: int, at_ms: int | None = None) -> None:
        """Note that an entry was compared; at_ms: when the journal's broker took it in."""
        self.first_sequence = sequence if self.first_sequence is None else min(self.first_sequence, sequence)
        self.last_sequence = sequence if self.last_sequence is None else max(self.last_sequence, sequence)
        if at_ms is not None:
            self.first_at_ms = at_ms if self.first_at_ms is None else min(self.first_at_ms, at_ms)
            self.last_at_ms = at_ms if self.last_at_ms is None else max(self.last_at_ms, at_ms)

    @property
    def compared(self) -> dict[str, int]:
        """Entries compared, by layer."""
        return {layer: tally.compared for layer, tally in self.layers.items()}

    @property
    def different(self) -> dict[str, int]:
        """Differing entries, by layer."""
        return {layer: tally.different for layer, tally in self.layers.items()}

    @property
    def decisions_different(self) -> int:
        """Differing entries, counted once a layer; 0 is the promise."""
        return sum(tally.different for tally in self.layers.values())

    def add(self, layer: str, compared: int, found: Iterable[Difference]) -> None:
        """Count entries compared in a layer, and the differences found among them, of which an entry may have many."""
        tally = self.layers[layer]
        tally.compared += compared
        differing: set[tuple[int, str]] = set()
        for each in found:
            differing.add((each.sequence, each.transaction_id))
            if self._kept[layer] < SHOWN_MOST:
                self._kept[layer] += 1
                self.differences.append(each)
        tally.different += len(differing)

    def complete(self, layer: str) -> bool:
        """Whether every difference found in a layer is kept."""
        return self._kept[layer] < SHOWN_MOST
