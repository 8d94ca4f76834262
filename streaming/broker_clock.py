"""This process's clock against the broker's, which stamps every record.

Decisions bear the scorer's time, and people read it. So a scorer whose clock is off by more than the tolerance does not
lead. The broker's time is known from what it stamped: a record that was read says that it is no earlier than that; one
that was written and acknowledged says what it was just then. From there on it is counted on the monotonic clock, so a
step of our own clock shows at once, and so does its correction.
"""

from collections.abc import Callable
from typing import Final

from plumbline.errors import ClockWrong
from plumbline.times import SECOND_US

US_A_MS: Final = 1000


class BrokerClock:
    """What is known of the broker's clock. now_us: our clock, microseconds since 1970 UTC; monotonic: seconds."""

    def __init__(self, now_us: Callable[[], int], monotonic: Callable[[], float], tolerance_seconds: int) -> None:
        self._now_us = now_us
        self._monotonic = monotonic
        self._tolerance_seconds = tolerance_seconds
        # The broker's time less the monotonic clock's, microseconds: as a lower bound, and as written last.
        self._at_least: float | None = None
        self._written: float | None = None

    def read(self, appended_at_ms: int) -> None:
        """A record was read that the broker had stamped so."""
        offset = self._offset(appended_at_ms)
        self._at_least = offset if self._at_least is None else max(self._at_least, offset)

    def wrote(self, appended_at_ms: int) -> None:
        """The broker acknowledged a record this very moment that it had stamped so."""
        self._written = self._at_least = self._offset(appended_at_ms)

    def _offset(self, appended_at_ms: int) -> float:
        return appended_at_ms * US_A_MS - self._monotonic() * SECOND_US

    @property
    def difference_seconds(self) -> float:
        """Our clock less the broker's; below 0 where ours is behind, 0 where nothing else is known."""
        ours = self._now_us() - self._monotonic() * SECOND_US
        behind = 0.0 if self._at_least is None else min(0.0, ours - self._at_least)
        known = 0.0 if self._written is None else ours - self._written
        return min(known, behind, key=lambda each: -abs(each)) / SECOND_US

    def require_right(self) -> None:
        """Raises ClockWrong from the tolerance on."""
        seconds = self.difference_seconds
        if abs(seconds) >= self._tolerance_seconds:
            raise ClockWrong(seconds, self._tolerance_seconds)
