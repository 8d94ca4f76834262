"""How large a share of the messages is rejected: a platform's new release may break every payment that it sends."""

from collections import deque
from collections.abc import Iterable
from typing import Final

import structlog

from observe.metrics import Metrics
from plumbline.journal import Entry, Rejected

log = structlog.get_logger()

WINDOW_SECONDS: Final = 600
LEAST_MESSAGES: Final = 20
"""Fewer messages than these say nothing about a share."""


class Rejections:
    """The rejected share of a window, as a metric, and a warning in the log when it passes the limit."""

    def __init__(self, metrics: Metrics, limit: float) -> None:
        self._share = metrics.gauge("plumbline_rejected_share")
        self._limit = limit
        self._batches: deque[tuple[float, int, int]] = deque()
        self._messages = self._rejected = 0
        self._warned = False

    def took(self, entries: Iterable[Entry], now: float) -> None:
        """Count a journaled batch; now: the monotonic clock, seconds."""
        of_messages = [each for each in entries if getattr(each, "source", None) is not None]
        self._add(now, len(of_messages), sum(isinstance(each, Rejected) for each in of_messages))

    def look(self, now: float) -> None:
        """Let go of what lies before the window."""
        self._add(now, 0, 0)

    def _add(self, now: float, messages: int, rejected: int) -> None:
        if messages:
            self._batches.append((now, messages, rejected))
            self._messages += messages
            self._rejected += rejected
        while self._batches and self._batches[0][0] <= now - WINDOW_SECONDS:
            _, gone, gone_rejected = self._batches.popleft()
            self._messages -= gone
            self._rejected -= gone_rejected
        share = self._rejected / self._messages if self._messages else 0.0
        self._share.set(share)
        over = share > self._limit and self._messages >= LEAST_MESSAGES
        if over and not self._warned:
            log.warning(
                "many messages are rejected", rejected=self._rejected, messages=self._messages, limit=self._limit
            )
        self._warned = over
