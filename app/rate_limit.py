"""How often something may happen under one key within a moving window, counted in this process's memory.

Times are the monotonic clock's: a wall clock that steps back an hour would shut every busy key out for that hour.
"""

import threading
from collections import deque
from typing import Final

from plumbline.clock import Monotonic, MonotonicClock, monotonic

MAX_KEYS: Final = 100_000
"""Beyond this the keys that were counted longest ago are forgotten: names of failed log-ins are anybody's choice."""


class MovingWindow:
    """At most `most` events of a key within `seconds`; threads may share it."""

    def __init__(self, most: int, seconds: float, clock: MonotonicClock = monotonic) -> None:
        self.most, self.seconds = most, seconds
        self._clock = clock
        self._times: dict[str, deque[Monotonic]] = {}
        self._lock = threading.Lock()

    def full(self, key: str) -> bool:
        """Whether the key has no room for one more event now."""
        with self._lock:
            return self._full(key, self._clock())

    def count(self, key: str) -> None:
        """Note one event, also beyond the limit."""
        with self._lock:
            self._count(key, self._clock())

    def take(self, key: str) -> bool:
        """Note one event unless the key is full; whether it was noted."""
        with self._lock:
            now = self._clock()
            if self._full(key, now):
                return False
            self._count(key, now)
            return True

    def _full(self, key: str, now: Monotonic) -> bool:
        times = self._times.get(key)
        return times is not None and len(times) == self.most and now - times[0] < self.seconds

    def _count(self, key: str, now: Monotonic) -> None:
        times = self._times.pop(key, None) or deque(maxlen=self.most)
        times.append(now)
        self._times[key] = times  # behind all others: the first key is the one that was counted longest ago
        while len(self._times) > MAX_KEYS or now - next(iter(self._times.values()))[-1] >= self.seconds:
            del self._times[next(iter(self._times))]
