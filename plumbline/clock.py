"""Two kinds of time, which the type checker does not let pass for one another.

The wall clock (`now_us`: whole microseconds since 1970 UTC) says when something happened. It may step an hour back or
forward while a process runs, so no pause, deadline, round or rate counts on it. Those count on the monotonic clock,
whose readings mean nothing outside their process.
"""

import time
from collections.abc import Callable
from typing import NewType

Monotonic = NewType("Monotonic", float)
"""A reading of this process's monotonic clock, seconds."""

MonotonicClock = Callable[[], Monotonic]


def monotonic() -> Monotonic:
    """The monotonic clock."""
    return Monotonic(time.monotonic())


def later(now: Monotonic, seconds: float) -> Monotonic:
    """The moment so many seconds after another."""
    return Monotonic(now + seconds)
