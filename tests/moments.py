"""Moments: every call that a process makes to anything outside, counted, and what can happen to the process at one.

A process' calls to Kafka, a model, the disk, the clock and SQL go through its `Outside`. One run without a fault lists
the moments; then each is met again with each act that is possible there.
"""

import contextlib
import errno
import shutil
import sqlite3
import threading
import types
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from kafka.errors import KafkaConnectionError, KafkaTimeoutError

from plumbline.errors import ModelUnavailable

T = TypeVar("T")

WRITES: Final = frozenset(
    {"producer.send", "producer.committed", "producer.init_transactions", "disk.mkdir", "disk.rename", "disk.rmtree",
     "disk.open", "disk.unlink", "disk.write_bytes", "sql.commit", "server.reload"}
)  # fmt: skip
"""Calls after which something outside is another than before: there, a crash or an error may come behind the effect."""

SILENT: Final = frozenset({"consumer.idle", "clock.idle"})
"""Calls that are met again and again while nothing happens; they are no moments."""


IDLES_MOST: Final = 3_000
"""Turns in which nothing happens before a process counts as stuck."""


CLOCK_LOOKS: Final = 10
"""Looks at a wrong clock until somebody sets it right: a scorer does not lead with one."""


class Crash(BaseException):
    """The process is gone: nothing handles this, and nothing more is written."""


class Moment(NamedTuple):
    """The n-th call of a name by a thread of this role."""

    role: str
    call: str
    nth: int

    def __str__(self) -> str:
        return f"{self.role}: {self.call} {self.nth}"


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens to a process at a moment.

    applies: to which calls; does: is given the process' `Outside`, the call's name, and the call itself.
    """

    name: str
    applies: Callable[[str], bool]
    does: Callable[["Outside", str, Callable[[], Any]], Any]


class Outside:
    """The calls of one process to outside, counted by thread, and at most one act that strikes at one of them."""

    def __init__(self, at: Moment | None = None, act: Act | None = None) -> None:
        self.at, self.act = at, act
        self.moments: list[Moment] = []
        self.struck = False
        self.dead = False
        self.stuck = False
        self.idles = 0
        self.until: Callable[[], bool] = lambda: False
        """Asked whenever the process waits for something to happen: whether it is time to ask it to end."""
        self.stop = Stop()
        self.clock_us = 0
        """What the process' clock is beside the truth, microseconds."""
        self._looks = 0
        self.before: Callable[[Moment], None] = lambda moment: None
        self._counts: Counter[tuple[str, str]] = Counter()
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()
        self._frozen_by: threading.Thread | None = None
        self._thawed = threading.Condition(self._lock)

    def call(self, name: str, does: Callable[[], T]) -> T:
        """Does a call, or what the act makes of it. Raises Crash once the process is gone."""
        role = threading.current_thread().name.partition("_")[0].partition("-")[0]
        with self._lock:
            while self._frozen_by not in (None, threading.current_thread()):
                self._thawed.wait()
            if self.dead:
                raise Crash
            if name == "clock.now" and self.clock_us:
                self._looks += 1
                self.clock_us *= self._looks < CLOCK_LOOKS
            counts = self._is_moment(role, name)
            strikes = False
            if counts:
                self._counts[role, name] += 1
                moment = Moment(role, name, self._counts[role, name])
                self.moments.append(moment)
                strikes = moment == self.at and not self.struck
                self.struck = self.struck or strikes
        if name in SILENT and role != "lease":
            self._idle()
        if counts:
            self.before(moment)
        if strikes:
            assert self.act is not None
            found: T = self.act.does(self, name, does)
            return found
        found = does()
        if self.dead:
            raise Crash
        return found

    def die(self) -> None:
        """The process is gone. A driver may make something else of what a dead call raises: no loop tries again."""
        self.dead = True
        self.stop.set()

    def _idle(self) -> None:
        self.idles += 1
        if self.until():
            self.stop.set()
        if self.idles > IDLES_MOST and not self.stop.is_set():
            self.stuck = True
            self.stop.set()

    def _is_moment(self, role: str, name: str) -> bool:
        """The clock is asked at every turn; only the first time after something else happened is a moment."""
        last, self._last[role] = self._last.get(role, ""), name
        if name == "clock.now":
            return last not in SILENT and last != "clock.now"
        return name not in SILENT

    @contextmanager
    def frozen(self) -> Any:
        """As long as the context lasts, no other thread of the process comes past its next call."""
        with self._lock:
            self._frozen_by = threading.current_thread()
        try:
            yield
        finally:
            with self._lock:
                self._frozen_by = None
                self._thawed.notify_all()

    def watch(self, engine: sa.Engine) -> sa.Engine:
        """The same engine, whose statements and commits go through `call`."""
        dialect: Any = engine.dialect

        def through(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *given, **more: self.call(name, lambda: method(*given, **more))

        for name in ("do_execute", "do_executemany"):
            setattr(dialect, name, through("sql.execute", getattr(dialect, name)))
        dialect.do_commit = through("sql.commit", dialect.do_commit)
        return engine

    def watched(self, folder: Path) -> Path:
        """The same folder, every use of which goes through `call`, also of what lies in it."""
        base = type(folder)
        names = ("mkdir", "open", "rename", "replace", "unlink", "iterdir", "glob", "write_bytes")

        def through(name: str) -> Callable[..., Any]:
            method = getattr(base, name)

            def does(path: Path, *given: Any, **more: Any) -> Any:
                return self.call(f"disk.{name}", lambda: method(path, *given, **more))

            return does

        made = type("WatchedPath", (base,), {name: through(name) for name in names} | {"outside": self})
        watched: Path = made(folder)
        return watched


class Stop(threading.Event):
    """The event that asks a process to end; whoever rests on it rests for a moment only."""

    def wait(self, timeout: float | None = None) -> bool:
        """A retry comes at once: how long a process rests is no part of what is tried."""
        return super().wait(0.001 if timeout is not None else None)


def watched_shutil() -> types.SimpleNamespace:
    """`shutil` for modules that remove folders: those of a watched process through its `Outside`."""

    def rmtree(path: Path, *given: Any, **more: Any) -> None:
        outside = getattr(path, "outside", None)
        if outside is None:
            shutil.rmtree(path, *given, **more)
        else:
            plain = Path(str(path))
            with contextlib.suppress(OSError) if more.get("ignore_errors") else contextlib.nullcontext():
                outside.call("disk.rmtree", lambda: shutil.rmtree(plain, *given, **more))

    return types.SimpleNamespace(**{**vars(shutil), "rmtree": rmtree})


def error_of(call: str) -> Exception:
    """How a call to outside fails when nobody answers."""
    kind, _, name = call.partition(".")
    if kind == "disk":
        return OSError(errno.ENOSPC, "No space left on device")
    if kind == "sql":
        busy = sqlite3.OperationalError("database is locked")
        busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
        return busy
    if kind in {"model", "server"}:
        return ModelUnavailable("nobody answers")
    return KafkaConnectionError("nobody answers") if name == "new" else KafkaTimeoutError("nobody answers")


def _stop(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
    outside.stop.set()
    return does()


def _crash(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
    outside.die()
    raise Crash


def _crash_behind(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
    does()
    outside.die()
    raise Crash


def _error(outside: Outside, call: str, does: Callable[[], Any]) -> Any:
    raise error_of(call)


def _error_behind(outside: Outside, call: str, does: Callable[[], Any]) -> Any:
    does()
    raise error_of(call)


def _clock(step_us: int) -> Callable[[Outside, str, Callable[[], Any]], Any]:
    def does(outside: Outside, _: str, does: Callable[[], Any]) -> Any:
        outside.clock_us += step_us
        return does()

    return does


def _fails(call: str) -> bool:
    """Whether the call can fail: the clock cannot, and leaving a broker never says that it could not."""
    return not call.startswith("clock.") and call != "consumer.close"


HOUR_US: Final = 3_600_000_000

STOP: Final = Act("stop", lambda call: True, _stop)
CRASH: Final = Act("crash", lambda call: True, _crash)
CRASH_BEHIND: Final = Act("crash behind it", lambda call: call in WRITES, _crash_behind)
ERROR: Final = Act("error", _fails, _error)
ERROR_BEHIND: Final = Act("error behind it", lambda call: call in WRITES, _error_behind)
CLOCK_BACK: Final = Act("clock an hour back for a while", lambda call: call == "clock.now", _clock(-HOUR_US))
CLOCK_ON: Final = Act("clock an hour on for a while", lambda call: call == "clock.now", _clock(HOUR_US))
ALONE: Final = (STOP, CRASH, CRASH_BEHIND, ERROR, ERROR_BEHIND, CLOCK_BACK, CLOCK_ON)
"""What can happen to any process by itself."""
