"""Every model that the server was told to serve: its versions, its labels, and what happens when it is told anew."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from serving import wire_pb2 as wire
from serving.server import config
from serving.server.config import Wanted
from serving.server.model import Model
from serving.server.status import Code, StatusError, invalid
from serving.server.versions import Retries, State, Versions

log = structlog.get_logger()

PATIENCE_SECONDS = 0.2
"""How often one who waits for a model looks whether its caller is still there."""


class Models:
    """The models by name; one thread polls, any may look or tell of a new configuration.

    load: makes a Model of a version folder and its number; labels_ahead: whether a label that is not in use may be
    given to a version that is not served yet; wake: told that there is something to poll for.
    """

    def __init__(
        self,
        load: Callable[[Path, int], Model],
        labels_ahead: bool = False,
        retries: Retries = Retries(),
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._labels_ahead = labels_ahead
        self._retries = retries
        self._wake = wake
        self._changing = threading.Lock()
        self._polled = threading.Condition()
        self._begun = self._ended = 0  # looks at all base paths, by number
        self._wanted: tuple[Wanted, ...] | None = None
        self._complaints: dict[str, str] = {}
        # Replaced as a whole, so that looking needs no lock. A model that is no longer wanted keeps its place: what
        # became of its versions may be asked.
        self._versions: Mapping[str, Versions] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}

    def versions(self, name: str) -> Versions | None:
        """A model's versions; None where no such model was ever to be served."""
        return self._versions.get(name)

    def labelled(self, name: str, label: str) -> int:
        """The version that a label of a model stands for. Raises StatusError for an unknown label."""
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise invalid(f"Unrecognized servable version label: {label}")
        return version

    def wanted(self) -> tuple[Wanted, ...]:
        """The models of the configuration in force."""
        return self._wanted or ()

    def served(self) -> list[tuple[str, int]]:
        """Model and number of every version that is served, in order."""
        return [(name, version) for name, each in sorted(self._versions.items()) for version in each.served()]

    def reload(self, told: wire.ModelServerConfig) -> Callable[[Callable[[], bool]], None]:
        """Put a configuration in the place of the one in force; a model that it leaves out is let go.

        Gives the function that waits until it is carried out. That takes a function that tells whether to wait on, and
        raises StatusError where a new model has no version that loads. Raises StatusError, and changes nothing, for a
        configuration that is not allowed.
        """
        with self._changing:
            wanted = config.wanted(told, self._wanted)
            labels = {each.name: self._checked_labels(each) for each in wanted}
            before = {each.name for each in self._wanted or ()}
            versions = dict(self._versions)
            for each in wanted:
                if each.name not in versions:
                    versions[each.name] = Versions(each.name, each.base_path, self._load, each.policy, self._retries)
                versions[each.name].want(each.base_path, each.policy)
            for gone in before - {each.name for each in wanted}:
                versions[gone].want(None)
            self._versions, self._labels, self._wanted = versions, labels, wanted
            new = [each.name for each in wanted if each.name not in before]
            look = self._begun + 1  # the one under way may have begun without this
        self._wake()
        return lambda goes_on: self._wait(look, new, goes_on)

    def _checked_labels(self, wanted: Wanted) -> Mapping[str, int]:
        known = self._versions.get(wanted.name)
        available = set(known.served()) if known else set()
        for label, version in wanted.labels.items():
            held = self._labels.get(wanted.name, {}).get(label)
            ahead = self._labels_ahead and held in (None, version)
            if version not in available and not ahead:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {wanted.name}, "
                    "which is not currently available for inference",
                )
        return wanted.labels

    def poll(self) -> None:
        """Look at every base path once, and bring what is loaded in line with the configuration."""
        with self._changing:
            self._begun += 1
        for name, versions in self._versions.items():
            try:
                versions.poll()
                self._complaints.pop(name, None)
            except OSError as error:
                if self._complaints.get(name) != str(error):  # told once, not with every look
                    self._complaints[name] = str(error)
                    log.error("the base path cannot be read", model=name, error=str(error))
        with self._polled:
            self._ended = self._begun
            self._polled.notify_all()

    def _wait(self, look: int, new: list[str], goes_on: Callable[[], bool]) -> None:
        with self._polled:
            while not (self._ended >= look and all(self._versions[name].at_rest() for name in new)):
                if not goes_on():
                    raise StatusError(
                        Code.CANCELLED, "the configuration is in force, and its models are not all loaded"
                    )
                self._polled.wait(PATIENCE_SECONDS)
        missing = [name for name in new if not self._versions[name].served()]
        if missing:
            shown = "".join(f"{{{why}}}, " for name in missing for why in self._reasons(name))
            raise StatusError(Code.UNKNOWN, f"{len(missing)} model(s) did not become available: {{{shown}}}")

    def _reasons(self, name: str) -> list[str]:
        versions = self._versions[name]
        failed = [each for each in versions.statuses() if each.state is State.END and each.code]
        if not failed:
            return [f"{{name: {name}}} due to error: no version in its base path"]
        return [
            f"{{name: {name} version: {each.version}}} due to error: {each.code.name}: {each.message}"
            for each in failed
        ]
