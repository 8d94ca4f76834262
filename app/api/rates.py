"""How often a key may be used: a moving window of a second for each key, counted in this process's memory."""

from typing import Final

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from plumbline.errors import RateExceeded

RETRY_SECONDS: Final = 1


class Rates:
    """Counts requests by key."""

    def __init__(self, requests_per_second: int) -> None:
        self._item = RateLimitItemPerSecond(requests_per_second)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def take(self, key_name: str) -> None:
        """Count one request. Raises RateExceeded."""
        if not self._limiter.hit(self._item, key_name):
            raise RateExceeded(
                f"API key {key_name} was used more than {self._item.amount} times within a second: nothing was "
                f"written, try again after {RETRY_SECONDS} s"
            )
