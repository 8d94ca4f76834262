"""The model server follows the registry in the steps that labels need: load, label, and only at last let go.

A label may only point to a version that is AVAILABLE, and the scorer goes on asking the old versions until it obeys the
new assignment. So first old and new are loaded together, then labels move, and what nobody needs any more goes when
the new assignment is in force. A server that takes no configuration by call is told so, and has to serve the versions
already, by its own configuration.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import text_format

from plumbline.errors import ModelRefused, Refused
from release.stages import Registry
from serving.models_client import ModelPlan, config_of, model_versions, reload_models

LOAD_SECONDS: Final = 180.0
DEADLINE_LEAST_MS: Final = 30_000
"""Of one call: a release is in no hurry, and a gate asks 512 rows at a time."""
LOOK_SECONDS: Final = 0.1
AVAILABLE: Final = "AVAILABLE"
GONE: Final = frozenset({"END", "UNLOADING"})
BY_FILE: Final = "the server takes no configuration by call (UNIMPLEMENTED): its versions were taken as they are"


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Where the model is served, and the folder of its versions as the server sees it.

    deadline_ms: of one call; load_seconds: how long a version may take to load; credentials: for TLS, None: without.
    """

    target: str
    model_name: str
    base_path: str
    deadline_ms: int
    load_seconds: float = LOAD_SECONDS
    credentials: grpc.ChannelCredentials | None = None


def labels(registry: Registry) -> dict[str, int]:
    """Which version each label names: `champion`, `canary`, `shadow`; several have their numbers."""
    found = {} if registry.champion is None else {"champion": registry.champion}
    arms, shadows = registry.at("canary"), registry.at("shadow")
    found |= {f"arm-{version}" if registry.experiment else "canary": version for version in arms}
    return found | {f"shadow-{version}" if len(shadows) > 1 else "shadow": version for version in shadows}


def needed(registry: Registry) -> list[int]:
    """Versions that have to be served: all that answer, and the champion of before, so that a rollback finds it."""
    return sorted({*labels(registry).values(), *registry.former[-1:]})


def make_available(server: ModelServer, before: Registry, versions: Collection[int]) -> str:
    """Have versions served beside all that are served now, and wait until they are; what was worth noting.

    Raises Refused when one does not load, ModelUnavailable when the server does not answer.
    """
    served = _available(server)
    if set(versions) <= served:
        return ""
    named = {label: version for label, version in labels(before).items() if version in served}
    note = _reload(server, sorted({*served, *versions}), named)
    _wait(server, set(versions), note)
    return note


def move_labels(server: ModelServer, after: Registry) -> str:
    """Have the labels name the versions of a registry, all of which are available; what was worth noting."""
    return _reload(server, sorted({*_available(server), *needed(after)}), labels(after))


def let_go(server: ModelServer, after: Registry) -> str:
    """Have only the needed versions served; what was worth noting."""
    return _reload(server, needed(after), labels(after))


def config_text(server: ModelServer, registry: Registry) -> str:
    """The registry as a `model_config_list` in text form, for a server that reads a configuration file.

    Raises Refused while there is no champion, since a list without versions would mean the newest one.
    """
    if registry.champion is None:
        raise Refused("there is no champion yet, and so nothing to configure: promote the first version")
    plan = ModelPlan(server.model_name, server.base_path, needed(registry), labels=labels(registry))
    text: str = text_format.MessageToString(config_of([plan]))
    return text


def _available(server: ModelServer) -> set[int]:
    states = model_versions(server.target, server.model_name, server.deadline_ms, server.credentials)
    return {version for version, each in states.items() if each.state == AVAILABLE}


def _reload(server: ModelServer, versions: list[int], named: Mapping[str, int]) -> str:
    plan = ModelPlan(server.model_name, server.base_path, versions, labels=named)
    try:
        reload_models(server.target, [plan], server.deadline_ms, server.credentials)
    except ModelRefused as error:
        cause = error.__cause__
        if isinstance(cause, grpc.RpcError) and cause.code() is grpc.StatusCode.UNIMPLEMENTED:
            return BY_FILE
        raise Refused(f"the model server does not take the configuration: {error}") from error
    return ""


def _wait(server: ModelServer, versions: set[int], note: str) -> None:
    """Until all are available. Without a configuration by call there is nothing to wait for."""
    end = time.monotonic() + (0.0 if note else server.load_seconds)
    while True:
        states = model_versions(server.target, server.model_name, server.deadline_ms, server.credentials)
        waiting = {each for each in versions if each not in states or states[each].state != AVAILABLE}
        if not waiting:
            return
        number = min(waiting)
        found = states.get(number)
        if found is not None and found.state in GONE and found.message:
            raise Refused(f"the server at {server.target} does not load version {number}: {found.message}")
        if time.monotonic() > end:
            state = "unknown to it" if found is None else found.state
            why = f"; {note}" if note else f" after {server.load_seconds:.0f} s"
            raise Refused(
                f"version {number} is {state} on the server at {server.target}{why}; it was told to look in "
                f"{server.base_path}: where it sees the versions elsewhere, as in a container, set "
                "PLUMBLINE_MODEL_SERVER_BASE_PATH to that folder"
            )
        time.sleep(LOOK_SECONDS)
