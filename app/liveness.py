"""How long ago another process gave a sign of life, although its clock, or ours, may have been set to another time.

A sign of life is a time in SQL, written by the wall clock of the process that gives it. Its age by our wall clock is
believed within what this process saw itself on its monotonic clock: a sign is at least as old as our first sight of it,
and at most as old as our last sight of the one before. So an hour back hides no dead process, and an hour forward calls
none dead that goes on giving signs.
"""

import threading
from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app

from plumbline.clock import Monotonic, MonotonicClock, monotonic
from plumbline.transaction import SECOND_US

EXTENSION: Final = "plumbline.signs"
MAX_SIGNS: Final = 1_000


@dataclass(slots=True)
class _Sign:
    """at_us: the time that it names; first, looked: our first and newest sight of it; before: of the one before."""

    at_us: int
    first: Monotonic
    looked: Monotonic
    before: Monotonic | None


class Signs:
    """The newest sign of life of each process that this one looks at; threads may share it."""

    def __init__(self, clock: MonotonicClock = monotonic) -> None:
        self._clock = clock
        self._signs: dict[str, _Sign] = {}
        self._lock = threading.Lock()

    def age_seconds(self, name: str, at_us: int, now_us: int) -> float:
        """How long ago a process gave its newest sign; at_us: the time that the sign names; now_us: our wall clock."""
        with self._lock:
            now = self._clock()
            sign = self._signs.get(name)
            if sign is None or sign.at_us != at_us:
                # One that names an earlier time than the one before says nothing of when it was given.
                sign = _Sign(at_us, now, now, None if sign is None or at_us < sign.at_us else sign.looked)
                self._signs.pop(name, None)
                self._signs[name] = sign
                if len(self._signs) > MAX_SIGNS:
                    del self._signs[next(iter(self._signs))]
            sign.looked = now
            age = max((now_us - at_us) / SECOND_US, now - sign.first)
            return age if sign.before is None else min(age, now - sign.before)


def watch_signs(app: Flask, clock: MonotonicClock = monotonic) -> None:
    """Give an application its memory of signs."""
    app.extensions[EXTENSION] = Signs(clock)


def age_seconds(name: str, at_us: int, now_us: int) -> float:
    """As `Signs.age_seconds`, of the application at hand."""
    signs: Signs = current_app.extensions[EXTENSION]
    return signs.age_seconds(name, at_us, now_us)
