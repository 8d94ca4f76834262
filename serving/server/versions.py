"""The versions of one model in a base path: its policy says which are served; a new one loads before an old one leaves.

A base path holds one folder a version, named by its number, as TensorFlow Serving has it. A version that does not
load is refused and the one before goes on; it is tried again when its files change, and a few times in any case. A
folder is left alone while it is still being written.
"""

import enum
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from plumbline.clock import MonotonicClock, monotonic
from serving.server.config import Policy
from serving.server.model import Model
from serving.server.status import Code, StatusError

log = structlog.get_logger()

VERSION_MAX: Final = (1 << 63) - 1
SETTLED_SECONDS: Final = 1.0
"""A folder that nothing was written to for so long counts as complete."""


@enum.unique
class State(enum.IntEnum):
    """Where a version is in its life, numbered as on the wire."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version's state, and why it ended if that was a fault."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


Listing = tuple[tuple[str, int, int], ...]
"""Every file of a version's folder: path, size in bytes, time of its last change in ns."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a version that did not load is tried again while its files stay as they are, and how far apart."""

    count: int = 5
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that did not load: what its folder held, when that was (monotonic seconds), the how manieth time."""

    listing: Listing
    at: float
    times: int


def versions_in(base_path: Path) -> dict[int, Path]:
    """The version folders of a base path by number; empty when the path is, or does not exist."""
    try:
        children = sorted(base_path.iterdir())
    except FileNotFoundError:
        return {}
    numbered = [path for path in children if path.name.isascii() and path.name.isdigit() and path.is_dir()]
    return {int(path.name): path for path in numbered if int(path.name) <= VERSION_MAX}


def listing_of(folder: Path) -> Listing:
    """What a folder holds now, so that a later look tells whether it was written to."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            about = path.stat()
        except FileNotFoundError:  # gone between the look and the question
            continue
        found.append((str(path.relative_to(folder)), about.st_size, max(about.st_mtime_ns, about.st_ctime_ns)))
    return tuple(found)


class Versions:
    """One model's versions; `poll` brings what is loaded in line with the base path, the rest only looks.

    load: makes a Model of a folder and its number, and raises StatusError when it cannot; policy: which versions are
    served (of the newest, those that load); monotonic and wall: clocks, in seconds. One thread polls; any may look.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        load: Callable[[Path, int], Model],
        policy: Policy = Policy(),
        retries: Retries = Retries(),
        monotonic: MonotonicClock = monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._wanted: tuple[Path, Policy] | None = (base_path, policy)
        self._load = load
        self._retries = retries
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._served: dict[int, Model] = {}  # replaced as a whole, so that looking needs no lock
        self._statuses: dict[int, VersionStatus] = {}
        self._failures: dict[int, Failure] = {}
        self._seen: dict[int, Listing] = {}
        self._waiting = False

    def loaded(self, version: int | None = None) -> Model | None:
        """The version asked for, if it is served; None asks for the newest that is."""
        served = self._served
        return served.get(max(served, default=0) if version is None else version)

    def served(self) -> list[int]:
        """Numbers of the versions being served, lowest first."""
        return sorted(self._served)

    def statuses(self) -> list[VersionStatus]:
        """What is known of every version since the start, the newest first."""
        with self._lock:
            return [self._statuses[version] for version in sorted(self._statuses, reverse=True)]

    def want(self, base_path: Path | None, policy: Policy = Policy()) -> None:
        """What the next poll goes by; no base path: every version is let go."""
        self._wanted = (base_path, policy) if base_path is not None else None

    def at_rest(self) -> bool:
        """Whether no version is on its way."""
        return not any(each.state in (State.START, State.LOADING) for each in self.statuses())

    def poll(self) -> None:
        """Look at the base path once; load the versions that the policy wants, then let the others go."""
        told = self._wanted
        if told is None:
            for version in self.served():
                self._unload(version)
            return
        base_path, policy = told
        found = versions_in(base_path)
        self._notice_waiting(found, base_path)
        for gone in self._seen.keys() - found.keys():
            del self._seen[gone]
            self._failures.pop(gone, None)
        wanted: list[int] = []
        for version in sorted(found, reverse=True):
            if len(wanted) == policy.newest:
                break
            if policy.only is not None and version not in policy.only:
                continue
            if version in self._served:
                wanted.append(version)
            elif (model := self._tried(version, found[version])) is not None:
                self._serve(model)
                wanted.append(version)
        # Where nothing that is wanted loads, what is served stays, even if its folder is gone.
        for version in self._served.keys() - wanted if wanted else ():
            self._unload(version)

    def _notice_waiting(self, found: dict[int, Path], base_path: Path) -> None:
        waiting = not found and not self._served
        if waiting and not self._waiting:
            log.warning("no version yet: waiting for a numbered folder", model=self.name, base_path=str(base_path))
        self._waiting = waiting

    def _tried(self, version: int, folder: Path) -> Model | None:
        """The model in a folder, or None: still being written, refused, or refused before and unchanged since."""
        listing = listing_of(folder)
        settled = self._settled(version, listing)
        self._seen[version] = listing
        failure = self._failures.get(version)
        if failure and failure.listing == listing and not self._due(failure):
            return None
        if not settled:
            if version not in self._statuses:
                self._set(VersionStatus(version, State.START))
            return None
        self._set(VersionStatus(version, State.LOADING))
        log.info("loading a version", model=self.name, version=version)
        try:
            model = self._load(folder, version)
            if listing_of(folder) != listing:
                raise StatusError(Code.ABORTED, f"{folder} was written to while it was loaded")
        except StatusError as error:
            self._refuse(version, listing, error)
            return None
        self._failures.pop(version, None)
        return model

    def _due(self, failure: Failure) -> bool:
        return failure.times <= self._retries.count and self._monotonic() - failure.at >= self._retries.seconds

    def _settled(self, version: int, listing: Listing) -> bool:
        if not listing:
            return False
        newest_s = max(changed for _, _, changed in listing) / 1e9
        return self._seen.get(version) == listing or self._wall() - newest_s >= SETTLED_SECONDS

    def _refuse(self, version: int, listing: Listing, error: StatusError) -> None:
        before = self._failures.get(version)
        times = before.times + 1 if before and before.listing == listing else 1
        self._failures[version] = Failure(listing, self._monotonic(), times)
        self._set(VersionStatus(version, State.END, error.code, error.message))
        log.error("a version was refused", model=self.name, version=version, error=str(error), serving=self.served())

    def _serve(self, model: Model) -> None:
        self._served = {**self._served, model.version: model}
        self._set(VersionStatus(model.version, State.AVAILABLE))
        log.info("a version is served", model=self.name, version=model.version)

    def _unload(self, version: int) -> None:
        # Calls under way hold the model until they end; then it is freed.
        self._served = {number: model for number, model in self._served.items() if number != version}
        self._set(VersionStatus(version, State.END))
        log.info("a version was unloaded", model=self.name, version=version)

    def _set(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status
