"""When to take a snapshot, and writing it while the scorer goes on."""

from pathlib import Path
from threading import Thread

import structlog

from plumbline.errors import Unready
from streaming.snapshot import Frozen, freeze, write
from streaming.state import CaughtUp, State

log = structlog.get_logger()


class Snapshots:
    """Snapshots of one leader: every `every` journal entries, one writer at a time.

    A snapshot that cannot be written is logged, and tried again after as many entries more: the journal still has all.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every
        self._newest: int | None = None
        self._writer: Thread | None = None

    def due(self, state: State) -> bool:
        """Whether enough entries have passed since the last one, and no writer is busy."""
        if self._newest is None:
            self._newest = state.sequence
        busy = self._writer is not None and self._writer.is_alive()
        return state.sequence - self._newest >= self._every and not busy

    def take(self, caught_up: CaughtUp) -> None:
        """Take one now; the state may go on changing at once."""
        self._newest = caught_up.state.sequence
        self._writer = Thread(target=self._write, args=(freeze(caught_up),), name="snapshot")
        self._writer.start()

    def finish(self, caught_up: CaughtUp) -> None:
        """Take a last one, and return when it is on disk. Raises Unready when it cannot be written."""
        if self._writer is not None:
            self._writer.join()
        write(self._folder, freeze(caught_up))

    def _write(self, frozen: Frozen) -> None:
        try:
            place = write(self._folder, frozen)
            log.info("snapshot", place=str(place))
        except Unready as error:
            log.error("no snapshot", error=str(error))
