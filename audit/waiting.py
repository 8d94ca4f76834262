"""How long the oldest message of each partition has waited for its entry, although a clock may have been set.

The broker's append time against our wall clock is believed within what this process saw on its monotonic clock: the
message waits at least since we first found the journal at its place, and at most since our last look that ended before
it. So an hour back hides no message that is stuck, and an hour forward makes none late that has just come.
"""

from dataclasses import dataclass
from typing import Final

from kafka import TopicPartition

from plumbline.clock import Monotonic, MonotonicClock

MS: Final = 1_000


@dataclass(slots=True)
class _Oldest:
    """offset: of the oldest message without an entry; since: our first look at it; before: the last one without it."""

    offset: int
    since: Monotonic
    before: Monotonic | None


class Ages:
    """The oldest message of each partition, from look to look."""

    def __init__(self, clock: MonotonicClock) -> None:
        self._clock = clock
        self._oldest: dict[TopicPartition, _Oldest] = {}
        self._looked: dict[TopicPartition, tuple[int, Monotonic]] = {}

    def oldest_ms(
        self, partition: TopicPartition, offset: int, end: int, appended_at_ms: int | None, now_ms: int
    ) -> int | None:
        """How long the message at an offset has waited, milliseconds, 0 or more; None where there is none.

        offset: next one without an entry; end: the partition's; appended_at_ms: when the broker took the message in,
        None for no message; now_ms: our wall clock.
        """
        now = self._clock()
        looked = self._looked.get(partition)
        self._looked[partition] = end, now
        if appended_at_ms is None:
            self._oldest.pop(partition, None)
            return None
        oldest = self._oldest.get(partition)
        if oldest is None or oldest.offset != offset:
            before = looked[1] if looked is not None and looked[0] <= offset else None
            oldest = self._oldest[partition] = _Oldest(offset, now, before)
        waited = max(now_ms - appended_at_ms, round((now - oldest.since) * MS))
        return waited if oldest.before is None else min(waited, round((now - oldest.before) * MS))
