"""Which API keys are good: all of them in memory, read again every few seconds, so that no request waits for SQL.

A key that was disabled stops being good within REFRESH_SECONDS and the time of one query. While SQL cannot be asked,
what was good at the last look stays good for GRACE_SECONDS, and then nothing is.
"""

import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
import structlog

from plumbline.errors import KeyRefused, PlumblineError, ScopeMissing, StoreUnavailable
from store.engine import transaction
from store.keys import hashed, list_keys, mark_used, parts_of

log = structlog.get_logger()

REFRESH_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 60.0
_NOBODY: Final = hashed("")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is good."""

    name: str
    key_id: str
    secret_hash: str
    scopes: frozenset[str]


class Keyring:
    """All good keys, by id."""

    def __init__(self, engine: sa.Engine, now_us: Callable[[], int]) -> None:
        """now_us: our clock, microseconds since 1970 UTC."""
        self._engine = engine
        self._now_us = now_us
        self._keys: dict[str, Key] = {}
        self._read_at = float("-inf")
        self._used: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """Read the keys once, and go on reading them. Raises StoreUnavailable."""
        self.refresh()
        self._thread.start()

    def close(self) -> None:
        """Stop, and note which keys were used last."""
        self._stop.set()
        self._thread.join()
        self._try_refresh()

    def refresh(self) -> None:
        """Read all keys, and note which were used since the last time. Raises StoreUnavailable."""
        begun = time.monotonic()
        used, self._used = self._used, {}
        with transaction(self._engine) as session:
            mark_used(session, used)
            found = list_keys(session)
        self._keys = {
            each.key_id: Key(each.name, each.key_id, each.secret_hash, frozenset(each.scopes))
            for each in found
            if each.disabled_at is None
        }
        self._read_at = begun

    def admit(self, authorization: str | None, scope: str) -> Key:
        """The key in an Authorization header's value, if it opens this scope.

        Raises KeyRefused, ScopeMissing, and StoreUnavailable when it cannot be said.
        """
        if time.monotonic() - self._read_at > GRACE_SECONDS:
            raise StoreUnavailable("API keys cannot be checked at present: try again")
        scheme, _, text = (authorization or "").partition(" ")
        parts = parts_of(text.strip()) if scheme.lower() == "bearer" else None
        if parts is None:
            raise KeyRefused(
                "an API key is needed: send `Authorization: Bearer plb_...`, as `plumbline keys add` made it"
            )
        key = self._keys.get(parts[0])
        # The same work is done for an id that is not known.
        same = hmac.compare_digest(hashed(parts[1]), key.secret_hash if key is not None else _NOBODY)
        if key is None or not same:
            raise KeyRefused("this API key is not known, or it was disabled: ask who runs Plumbline for another")
        self._used[key.key_id] = self._now_us()
        if scope not in key.scopes:
            raise ScopeMissing(f"API key {key.name} lacks the scope {scope}: it has {', '.join(sorted(key.scopes))}")
        return key

    def _run(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            self._try_refresh()

    def _try_refresh(self) -> None:
        try:
            self.refresh()
        except PlumblineError as error:
            log.warning("API keys could not be read", error=str(error))
        except Exception:
            # A thread that ended would shut everybody out a minute later, for good.
            log.exception("API keys could not be read")
