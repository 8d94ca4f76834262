"""How many transaction ids are remembered: the journal says so, and a leader raises it before an id is lost early.

An id that is forgotten counts as never seen, so a fold must forget exactly when the leader did: the limit is a fact in
the journal, and a setting only says what it is at first, and how long ids are to be remembered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from plumbline.decision import Decision
from plumbline.journal import Entry
from plumbline.transaction import DAY_US
from streaming.known import Known

GROWTH: Final = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """What the settings say: newest transactions remembered at first and at most, and for how many days at least."""

    first: int
    most: int
    days: int


def limit_wanted(memory: Memory, known: Known, arriving: int, now_us: int) -> int:
    """The limit under which to take so many more transactions: the present one, or a larger one.

    It grows when the next transactions would push out one that is younger than `memory.days`, and to what the settings
    say at least; it never shrinks. now_us: our clock.
    """
    least = max(known.limit, memory.first)
    if len(known) + arriving <= least or least >= memory.most:
        return least
    oldest = known.oldest_at()
    young = oldest is not None and oldest > now_us - memory.days * DAY_US
    return min(max(least * GROWTH, len(known) + arriving), memory.most) if young else least


def older_than(covers_since: int | None, entries: Iterable[Entry]) -> int:
    """How many decisions are on transactions older than what is remembered, so that their ids may have been forgotten.

    covers_since: when the oldest remembered transaction was, microseconds; None where none was forgotten.
    """
    if covers_since is None:
        return 0
    return sum(isinstance(each, Decision) and each.transaction.occurred_at < covers_since for each in entries)
