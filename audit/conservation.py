"""Conservation: every message that the broker acknowledged ends in exactly one entry of the journal, or is on its way.

Pure counting. `Tally` folds the journal's entries into counts by source; whoever reads Kafka and SQL adds what it found
there; `equations` says what must be equal, and any difference is an imbalance. Offsets are places and not messages: a
topic whose producers use transactions, or one that is compacted, has places that hold none. So messages are counted
one by one wherever the journal passes over a place, and `empty` says how many places turned out to hold nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from audit.provenance import CHANGES, Provenance
from plumbline.journal import Opened

KINDS: Final = ("decision", "conflict", "rejected", "label", "control", "assignment")
"""The journal's entries by their tags: each message ends in one of them."""

ANSWERED: Final = "answered"
"""The tag of entries that no message ends in, and that are no row of their own in SQL."""


class Gap(msgspec.Struct, frozen=True):
    """Offsets of a source, from `first` to before `stop`, that the journal passed over."""

    topic: str
    partition: int
    first: int
    stop: int


class Seen(msgspec.Struct, frozen=True):
    """What a stretch of offsets was found to hold.

    messages: that a reader of committed records can see; empty: places without one, such as a transaction's marker;
    gone: places that the topic no longer holds, so that nobody can say.
    """

    messages: int = 0
    empty: int = 0
    gone: int = 0


class Place(msgspec.Struct):
    """One partition of a source, as the journal has taken it; counts of messages, or of offsets where said so.

    next_offset: after the newest one taken; kinds: entries by kind; doubled: entries for a message that had one;
    missing: messages passed over; empty, gone: as in `Seen`; before: offsets that were taken of topics of this name
    which were deleted and created again.
    """

    topic: str
    partition: int
    next_offset: int = 0
    kinds: dict[str, int] = msgspec.field(default_factory=dict)
    doubled: int = 0
    missing: int = 0
    empty: int = 0
    gone: int = 0
    before: int = 0

    @property
    def journaled(self) -> int:
        """Entries that name this partition."""
        return sum(self.kinds.values())

    def passed(self, seen: Seen) -> None:
        """Count what a gap was found to hold."""
        self.missing += seen.messages
        self.empty += seen.empty
        self.gone += seen.gone


class Tally(msgspec.Struct):
    """The journal's entries up to `sequence`, counted by the partition of a source that each came from.

    begun: entries without a source: what a first start brings along, what a fold needs, and labels that are counted
    when their wait is over; answered: how model versions answered, which is about no message.
    changes: of the active policy and assignment; unordered: those that neither the first start nor a message brought;
    strayed: decisions made under another policy or assignment than the active one.
    """

    places: dict[str, Place] = msgspec.field(default_factory=dict)
    begun: int = 0
    answered: int = 0
    entries: int = 0
    sequence: int = -1
    changes: int = 0
    unordered: int = 0
    strayed: int = 0
    provenance: Provenance = msgspec.field(default_factory=Provenance)

    def place(self, topic: str, partition: int) -> Place:
        """The counts of a partition, at zero when it is new."""
        name = f"{topic}-{partition}"
        if name not in self.places:
            self.places[name] = Place(topic, partition)
        return self.places[name]

    def open(self, opened: Sequence[Opened]) -> None:
        """Take up partitions of topics that were created again, whose offsets begin again."""
        for each in opened:
            if each.instead_of:
                place = self.place(each.topic, each.partition)
                place.before += place.next_offset
                place.next_offset = 0

    def take(
        self,
        sequence: int,
        kind: str,
        topic: str | None,
        partition: int,
        offset: int,
        active: tuple[str, str] = ("", ""),
    ) -> Gap | None:
        """Count one entry; returns the stretch of its source that the journal passed over, if any.

        kind: one of KINDS, or ANSWERED; topic: None for an entry without a source; active: the versions of the policy
        and the assignment that a decision was made under, or that a change makes active.
        """
        self.sequence = sequence
        self.entries += 1
        self._follow(kind, active, from_message=topic is not None)
        if topic is None:
            if kind == ANSWERED:
                self.answered += 1
            else:
                self.begun += 1
            return None
        place = self.place(topic, partition)
        place.kinds[kind] = place.kinds.get(kind, 0) + 1
        if offset < place.next_offset:
            place.doubled += 1
            return None
        gap = Gap(topic, partition, place.next_offset, offset) if offset > place.next_offset else None
        place.next_offset = offset + 1
        return gap

    def _follow(self, kind: str, active: tuple[str, str], *, from_message: bool) -> None:
        policy, assignment = active
        name = policy if kind == "control" else assignment
        unordered = bool(self.provenance.take(kind, name, from_message=from_message))
        self.changes += kind in CHANGES or unordered
        self.unordered += unordered
        self.strayed += kind == "decision" and not self.provenance.is_active(policy, assignment)


class Waiting(msgspec.Struct, frozen=True):
    """What a partition holds behind its newest journaled message.

    end: the offset after the newest record; seen: what lies there; oldest_at_ms: when the broker took in the oldest
    message of it, None where there is none.
    """

    topic: str
    partition: int
    end: int
    seen: Seen = Seen()
    oldest_at_ms: int | None = None


def judged_until(before: int, taken: int, after: int) -> int:
    """The offset of a partition up to which its messages are judged: one point for what it held and what became of it.

    before: its end before the journal was read; taken: offset after the newest message that the journal then answered;
    after: its end once the journal had been read; 0 for a partition that was not there.
    Messages that came and were answered between the two looks are judged, those that came and were not are left for
    the next look. A partition that ends before what the journal answered has lost messages, and is judged at its end.
    """
    return max(before, min(taken, after))


class Letters(msgspec.Struct, frozen=True):
    """Dead letters against rejected entries; unanswered: letters without an entry, unwritten: entries without a letter.

    gone: entries whose letters the topic no longer holds.
    """

    letters: int = 0
    unanswered: int = 0
    unwritten: int = 0
    gone: int = 0


class Stored(msgspec.Struct, frozen=True):
    """SQL against the journal up to the ledger's sequence (None: no ledger has stored anything).

    entries: of the journal; rows: of SQL's tables; repeats: entries that are no row of their own since their label or
    transaction id was stored before.
    """

    sequence: int | None = None
    entries: int = 0
    rows: int = 0
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Equation:
    """Two counts that must be equal; name: the step; place: the partition or topic, empty for the whole."""

    name: str
    place: str
    left: int
    right: int

    @property
    def difference(self) -> int:
        """0 is the promise."""
        return self.left - self.right


_ALLOWED: Final = {
    "transactions": ("decision", "conflict", "rejected"),
    "labels": ("label", "rejected"),
    "control": ("control", "assignment", "rejected"),
}


def equations(
    tally: Tally, waiting: list[Waiting], letters: Letters, stored: Stored, prefix: str = ""
) -> list[Equation]:
    """Everything that must be equal, in the order in which messages go.

    waiting: for every partition of the sources, in any order; prefix: of the topics' names.
    """
    found = []
    for each in sorted(waiting, key=lambda one: (one.topic, one.partition)):
        place = tally.places.get(f"{each.topic}-{each.partition}", Place(each.topic, each.partition))
        name = f"{each.topic}-{each.partition}"
        acknowledged = place.before + each.end - place.empty - place.gone - each.seen.empty - each.seen.gone
        once = place.journaled - place.doubled
        found.append(Equation("acknowledged", name, acknowledged, once + each.seen.messages))
        found.append(Equation("once", name, place.journaled, once))
    for topic, kinds in _ALLOWED.items():
        places = [each for each in tally.places.values() if each.topic == prefix + topic]
        right = sum(each.kinds.get(kind, 0) for each in places for kind in kinds)
        found.append(Equation("kinds", prefix + topic, sum(each.journaled for each in places), right))
    found.append(Equation("changes", "", tally.changes, tally.changes - tally.unordered))
    decisions = kinds_of(tally)["decision"]
    found.append(Equation("active", "", decisions, decisions - tally.strayed))
    rejected = kinds_of(tally)["rejected"]
    found.append(Equation("rejected", "", rejected, rejected - letters.unwritten))
    found.append(Equation("letters", "", letters.letters, letters.letters - letters.unanswered))
    found.append(Equation("stored", "", stored.entries, stored.rows + stored.repeats))
    return found


def kinds_of(tally: Tally) -> dict[str, int]:
    """Entries by kind, over all sources."""
    return {kind: sum(each.kinds.get(kind, 0) for each in tally.places.values()) for kind in KINDS}


def imbalance(found: list[Equation]) -> int:
    """The sum of all differences, none of which makes up for another."""
    return sum(abs(each.difference) for each in found)
