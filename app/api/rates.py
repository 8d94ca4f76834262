"""How often a key may be used: a moving window of a second for each key, counted in this process's memory."""

from typing import Final

from app.rate_limit import MovingWindow
from plumbline.clock import MonotonicClock, monotonic
from plumbline.errors import RateExceeded

RETRY_SECONDS: Final = 1


class Rates:
    """Counts requests by key."""

    def __init__(self, requests_per_second: int, clock: MonotonicClock = monotonic) -> None:
        self._window = MovingWindow(requests_per_second, 1.0, clock)

    def take(self, key_name: str) -> None:
        """Count one request. Raises RateExceeded."""
        if not self._window.take(key_name):
            raise RateExceeded(
                f"API key {key_name} was used more than {self._window.most} times within a second: nothing was "
                f"written, try again after {RETRY_SECONDS} s"
            )
