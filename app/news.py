"""What is new, asked of the database once a second for all who watch, however many they are.

The thread starts with the first watcher and rests when nobody watches. A watcher keeps the id of the newest alert it
has told of, so that it can go on after a break without a gap.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from plumbline.errors import Retryable
from plumbline.transaction import SECOND_US
from store.audit_tables import Audit
from store.overview import Overview, overview
from store.tables import ContinuousAudit

log = structlog.get_logger()

EVERY_SECONDS: Final = 1.0
LIGHT_US: Final = 5 * SECOND_US


@dataclass(frozen=True, slots=True)
class News:
    """One look at the database; `tick` counts the looks."""

    tick: int
    overview: Overview


class Desk:
    """Looks once a second while anybody watches, and wakes all watchers when there is something to tell."""

    def __init__(self, engine: Engine, watchers_max: int, now_us: Callable[[], int]) -> None:
        self._engine = engine
        self._watchers_max = watchers_max
        self._now_us = now_us
        self._watchers = 0
        self._closed = False
        self._running = False
        self._news: News | None = None
        self._changed = threading.Condition()

    def enter(self) -> bool:
        """Count one more watcher; False when there are as many as this process serves."""
        with self._changed:
            if self._closed or self._watchers >= self._watchers_max:
                return False
            self._watchers += 1
            if not self._running:
                self._running = True
                self._news = None
                threading.Thread(target=self._look_on, name="plumbline-news", daemon=True).start()
            return True

    def leave(self) -> None:
        """Count one watcher less."""
        with self._changed:
            self._watchers -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """End every watch, so that the process can stop at once; may be called by a signal's handler."""
        # no lock is taken: the interrupted thread may hold it; every waiter looks at this within a second
        self._closed = True

    def wait(self, after_tick: int, seconds: float) -> News | None:
        """The newest look after `after_tick`, waiting at most so long for it; None when there was none or all ends."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closed:
                if self._news is not None and self._news.tick > after_tick:
                    return self._news
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, EVERY_SECONDS))
        return None

    @property
    def closed(self) -> bool:
        """Whether all watches are over."""
        return self._closed

    def _watched(self) -> bool:
        return self._watchers > 0 and not self._closed

    def _look_on(self) -> None:
        tick = 0
        while True:
            until = time.monotonic() + EVERY_SECONDS
            found = self._look()
            with self._changed:
                if found is not None:
                    tick += 1
                    self._news = News(tick, found)
                    self._changed.notify_all()
                while self._watched() and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                if not self._watched():
                    self._running = False
                    return

    def _look(self) -> Overview | None:
        try:
            with Session(self._engine, expire_on_commit=False) as session:
                return overview(session, self._now_us())
        except Retryable as error:
            log.warning("news.unavailable", error=str(error))
            return None


def pulse(found: Overview) -> dict[str, Any]:
    """The figures that change by the second, as the page's script takes them."""
    return {
        "per_second": round(found.per_second, 2),
        "p50_ms": found.latency_p50_ms,
        "p99_ms": found.latency_p99_ms,
        "outcomes": found.outcomes,
        "open": found.open_alerts,
        "open_outcomes": found.open_outcomes,
        "audit": audit_stamp(found.audit, found.watched, found.standing_differences),
        "bucket_seconds": found.bucket_seconds,
        "buckets": [[bucket.starts_at, bucket.total] for bucket in found.buckets],
        "sequence": found.newest_sequence,
    }


def audit_stamp(audit: Audit | None, watched: ContinuousAudit | None, standing: int) -> str:
    """Changes whenever the audit light may show something else: with an audit, and every five seconds while watched."""
    seen = watched.updated_at // LIGHT_US if watched else 0
    return f"{audit.id if audit else 0}.{seen}.{standing}"


def now_us() -> int:
    """Our clock, microseconds since 1970 UTC."""
    return time.time_ns() * SECOND_US // 1_000_000_000
