"""Trying acts on a process: each on a copy of the same installation; it is started once more, and all is counted."""

import abc
import functools
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import release.carrying
import release.serving
import retrain.run
import streaming.lease
import streaming.snapshot
from tests.fake_kafka import installed
from tests.moments import ALONE, Act, Crash, Moment, Outside, watched_shutil

PATIENCE_SECONDS: Final = 60.0
KINDS: Final = ("decided_twice", "lost", "different", "registry_disagreements")
"""What a fault is counted as."""


@dataclass(slots=True)
class Tried:
    """What came of one act at one moment; met: whether the process came there; faults: kind and words."""

    process: str
    moment: Moment | None
    act: str
    met: bool
    faults: list[tuple[str, str]]

    @property
    def words(self) -> str:
        """One line."""
        told = "; ".join(f"{kind}: {words}" for kind, words in self.faults[:3])
        return f"{self.process}, {self.act} at {self.moment}: {told or 'held'}"


class Life:
    """One start of a process until it has ended; `error` is what ended it, where that was not its own will."""

    def __init__(self, name: str, outside: Outside, work: Callable[[], Any]) -> None:
        self.name, self.outside, self._work = name, outside, work
        self.error: BaseException | None = None

    def run(self) -> "Life":
        """Returns when the process has ended; one that does not end is made to, and is stuck."""
        thread = threading.Thread(target=self._run, name="main", daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        if thread.is_alive():
            self.outside.stuck = self.outside.dead = True
            self.outside.stop.set()
            thread.join(PATIENCE_SECONDS)
        return self

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - looked at by whoever ran it
            self.error = error


class Tries(abc.ABC):
    """A kind of process, the installation in which it starts, and what must hold when it is through."""

    name: ClassVar[str]
    acts: ClassVar[tuple[Act, ...]] = ALONE

    def __init__(self, folder: Path) -> None:
        """folder: one that exists; everything happens in it."""
        self._folder = folder / self.name
        self._folder.mkdir()
        self.template = self._folder / "template"
        self.prepare()
        self._count = 0

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make what every try begins with."""

    @abc.abstractmethod
    def begin(self, folder: Path) -> Any:
        """The installation of one try, in a folder that does not exist yet."""

    @abc.abstractmethod
    def live(self, site: Any, outside: Outside) -> None:
        """Start the process and let it work until all is done; it may raise."""

    @abc.abstractmethod
    def wrong(self, site: Any) -> Iterator[tuple[str, str]]:
        """What is wrong, by kind and in words, now that the process has been through all there is."""

    def outside(self, site: Any, moment: Moment | None, act: Act | None) -> Outside:
        """The calls of the process that is struck."""
        del site
        return Outside(moment, act)

    def more(self, site: Any) -> None:
        """What comes in between the two starts."""
        del site

    def may_end(self, moment: Moment, error: BaseException) -> bool:
        """Whether the process may end with this error when its call at the moment failed: whoever started it sees it,
        and starts it again."""
        del moment, error
        return False

    def moments(self) -> list[Moment]:
        """All moments of a life without a fault."""
        return self._try(None, None)[1].moments

    def cases(self) -> list[tuple[Moment, Act]]:
        """Every moment with every act that is possible there."""
        return [(moment, act) for moment in self.moments() for act in self.acts if act.applies(moment.call)]

    def tried(self, moment: Moment | None, act: Act | None) -> Tried:
        """What comes of an act at a moment."""
        return self._try(moment, act)[0]

    def _try(self, moment: Moment | None, act: Act | None) -> tuple[Tried, Outside]:
        self._count += 1
        folder = self._folder / f"try-{self._count}"
        site = self.begin(folder)
        struck = self.outside(site, moment, act)
        lives = [Life("the struck one", struck, lambda: self.live(site, struck)).run()]
        self.more(site)
        again = Outside()
        lives.append(Life("the next one", again, lambda: self.live(site, again)).run())
        faults = [*self._ended([*lives, *getattr(struck, "others", ())], moment), *self.wrong(site)]
        faults += [("different", each) for each in died]
        died.clear()
        if hasattr(site, "close"):
            site.close()
        shutil.rmtree(folder)
        return Tried(self.name, moment, "nothing" if act is None else act.name, struck.struck, faults), struck

    def _ended(self, lives: Sequence[Life], moment: Moment | None) -> Iterator[tuple[str, str]]:
        """Lives that stood still, or ended by themselves."""
        for each in lives:
            if each.outside.stuck:
                yield "lost", f"{each.name} stood still"
            elif each.error is not None and not isinstance(each.error, Crash):
                struck = moment is not None and (each.outside.at is not None or each in lives[2:])
                if not (struck and moment is not None and self.may_end(moment, each.error)):
                    yield "different", f"{each.name} ended with {type(each.error).__name__}: {each.error}"


@contextmanager
def in_memory() -> Iterator[None]:
    """Fakes in place of Kafka, of the model server's configuration, and of rests between tries; and every thread's end
    is noted. As long as the context lasts.
    """
    patches: list[tuple[Any, str, Any]] = [
        (streaming.lease, "RETRY_SECONDS", 0.001),
        (streaming.snapshot, "shutil", watched_shutil()),
        (streaming.snapshot, "LOCK_SECONDS", 0.2),
        (retrain.run, "shutil", watched_shutil()),
        (release.carrying, "verify_registered", lambda *given: None),
        *((release.serving, name, functools.partial(_served, name)) for name in SERVED),
        (threading, "excepthook", _noted),
    ]
    former = [getattr(owner, name) for owner, name, _ in patches]
    with installed():
        for owner, name, value in patches:
            setattr(owner, name, value)
        try:
            yield
        finally:
            for (owner, name, _), value in zip(patches, former, strict=True):
                setattr(owner, name, value)


SERVED: Final = ("make_available", "move_labels", "let_go")


def _served(name: str, server: Outside, *_: Any, **__: Any) -> str:
    """The model server takes another configuration: `server` is the `Outside` of the command that asks for it."""
    server.call("server.reload", lambda: name)
    return ""


died: list[str] = []
"""Threads that ended by an error that nobody handled."""


def _noted(raised: Any) -> None:
    if not issubclass(raised.exc_type, Crash):
        died.append(f"thread {raised.thread.name} ended with {raised.exc_type.__name__}: {raised.exc_value}")
